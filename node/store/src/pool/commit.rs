//! Making sealed epochs durable, behind the writer's back.
//!
//! A commit of epoch E:
//! 1. fill in the CRCs of E's blocks, write the slab records that E changed, each to the copy that
//!    does not hold the newest committed state, and flush it all; fence. A crash before this point
//!    leaves the old root, and records of epochs above it, which are ignored for ever (see
//!    `Committed`).
//! 2. write the superblock copy that was not written last; fence. A crash that tears it leaves the
//!    other copy.
//! 3. publish: blocks that died before the *previous* root may be reused.
//!
//! Record bitmaps are computed from the epochs' event lists: the writer's own are ahead already.

use super::{EPOCHS_AHEAD, Superblock};
use crate::alloc::record::{self, Bits, Committed};
use crate::alloc::{event, slab_of};
use crate::error::{Result, StoreError};
use crate::layout::pool::{BIRTH_MASK, CLASS_BYTES, SLABS_PER_EXTENT, sb};
use crate::persist::Mem;
use cairn_protocol::ids::{LogIndex, Term};
use std::sync::Arc;

/// An epoch that no longer changes, on its way to the medium.
pub struct Sealed {
    /// The pool that it is of.
    pub(super) uuid: [u8; 16],
    pub(super) epoch: u64,
    pub(super) events: Vec<(u64, Vec<u64>)>,
    pub(super) root: u64,
    pub(super) snapshots: u64,
    pub(super) applied: (Term, LogIndex),
    pub(super) clock_ms: u64,
    pub(super) membership: Vec<u8>,
    pub(super) limit_bytes: u64,
    pub(super) extents: u64,
    pub(super) live_bytes: u64,
}

impl Sealed {
    /// The last log entry in it.
    pub fn applied(&self) -> (Term, LogIndex) {
        self.applied
    }
}

/// A durable epoch: to be handed to [`super::Store::release`].
pub struct Published {
    /// What its superblock says.
    pub(super) state: Superblock,
    pub(super) dead: Vec<(u64, Vec<u64>)>,
    /// Entries up to here are in the root before this one: the log may be purged to it, and a
    /// damaged superblock still finds all it needs.
    pub purge_upto: (Term, LogIndex),
    /// Entries up to here are in the durable root.
    pub applied: (Term, LogIndex),
}

/// What the medium holds of a slab's bitmap.
struct Image {
    class: u8,
    bits: Bits,
    /// The copy that holds the newest committed state.
    newest: u64,
    /// Changed by the commit under way.
    touched: bool,
}

/// The one that commits.
pub struct Committer {
    mem: Arc<Mem>,
    last: Superblock,
    /// The copy `last` was written to.
    copy: usize,
    committed: Committed,
    /// By slab; those that a commit has touched.
    images: Vec<Option<Box<Image>>>,
    /// Slabs that the commit under way has touched.
    touched: Vec<u64>,
    /// Slab records below this extent may hold what an interrupted commit wrote.
    unswept: u64,
}

impl Committer {
    /// Takes a just opened pool over: raises the ceiling of epochs in both superblocks before any
    /// epoch above the old one is used, so that no later open mistakes records of this one for
    /// committed. Nothing but the superblocks is waited for: after a crash of the process alone, most
    /// of what it stored last is yet on its way to the disk.
    pub(super) fn take_over(
        mem: Arc<Mem>,
        superblock: Superblock,
        committed: Committed,
        copy: usize,
    ) -> Result<Committer> {
        let ceiling = superblock.ceiling + EPOCHS_AHEAD;
        let mut committer = Committer {
            mem,
            unswept: if committed.voids.is_empty() { 0 } else { superblock.extents },
            last: Superblock { ceiling, voids: committed.voids.clone(), ..superblock },
            copy,
            committed,
            images: Vec::new(),
            touched: Vec::new(),
        };
        // The process before may have ended between storing this copy and its fence. Until it is
        // durable the other one is all that there is.
        Superblock::keep(&committer.mem, copy)?;
        if committer.last.voids.len() > sb::VOIDS_MAX / 2 {
            while committer.sweep(u64::MAX)? {}
            committer.mem.fence()?;
        }
        committer.write_superblock()?;
        committer.write_superblock()?;
        Ok(committer)
    }

    #[track_caller]
    fn write_superblock(&mut self) -> Result<()> {
        self.last.sequence += 1;
        self.copy = 1 - self.copy;
        self.last.write(&self.mem, self.copy)
    }

    /// Wipes what interrupted commits left in the records of up to `extents` extents; says
    /// whether there are more. What remains is listed in the superblock, so this may take its
    /// time.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when a record lies outside the pool.
    pub fn sweep(&mut self, extents: u64) -> Result<bool> {
        let stop = self.unswept.saturating_sub(extents);
        let (epoch, voids) = (self.last.epoch, self.last.voids.clone());
        let committed = Committed { epoch, voids, is_fallback: self.committed.is_fallback };
        while self.unswept > stop {
            self.unswept -= 1;
            for within in 0..SLABS_PER_EXTENT {
                let slab = self.unswept * SLABS_PER_EXTENT + within;
                record::wipe_void(&self.mem, slab, &committed, self.committed.epoch)?;
            }
        }
        // Whoever commits next may be another thread.
        self.mem.drain();
        if self.unswept == 0 {
            // Durable with the next superblock, which is written after the next fence.
            self.last.voids.clear();
        }
        Ok(self.unswept > 0)
    }

    /// Makes a sealed epoch durable.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`] or [`crate::StoreError::Stopped`]: final; the pool on the medium
    /// is as the last successful commit left it.
    pub fn commit(&mut self, sealed: Sealed) -> Result<Published> {
        assert!(self.is_of(&sealed), "an epoch of another pool");
        self.check_ceiling(sealed.epoch)?;
        let dead = self.apply_events(&sealed)?;
        self.seal_blocks(&sealed)?;
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        for slab in touched.drain(..) {
            self.write_record(slab, sealed.epoch)?;
        }
        self.touched = touched;
        self.mem.fence()?;
        let purge_upto = self.last.applied;
        let applied = sealed.applied;
        let ahead = self.last.ceiling.saturating_sub(sealed.epoch);
        let is_near = ahead < EPOCHS_AHEAD / 2;
        let ceiling = if is_near { sealed.epoch + EPOCHS_AHEAD } else { self.last.ceiling };
        self.last = Superblock {
            epoch: sealed.epoch,
            ceiling,
            root: sealed.root,
            snapshots: sealed.snapshots,
            applied,
            clock_ms: sealed.clock_ms,
            membership: sealed.membership,
            limit_bytes: sealed.limit_bytes,
            extents: sealed.extents,
            live_bytes: sealed.live_bytes,
            ..std::mem::take(&mut self.last)
        };
        self.write_superblock()?;
        Ok(Published { state: self.last.clone(), dead, purge_upto, applied })
    }

    /// Both superblocks must allow for an epoch before records of it are written, or an open after a
    /// crash would use its number again. The commits before see to that; an epoch that all the same
    /// ran ahead of them is never written: the log has what is in it.
    fn check_ceiling(&self, epoch: u64) -> Result<()> {
        let ceiling = self.last.ceiling;
        if epoch <= ceiling {
            return Ok(());
        }
        Err(StoreError::Stopped(format!(
            "epoch {epoch} is beyond {ceiling}, the last that was set aside: restart the node"
        )))
    }

    /// Whether a sealed epoch is of the pool that this commits, and not of one that took its place.
    pub fn is_of(&self, sealed: &Sealed) -> bool {
        self.last.uuid == sealed.uuid
    }

    /// Marks the pool as stopped in order: no epoch above the root was used.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub fn close(&mut self) -> Result<()> {
        while self.sweep(u64::MAX)? {}
        self.mem.fence()?;
        self.last.ceiling = self.last.epoch;
        self.write_superblock()
    }

    /// Brings the images up to the end of the sealed epoch; returns the blocks that died, by
    /// epoch.
    fn apply_events(&mut self, sealed: &Sealed) -> Result<Vec<(u64, Vec<u64>)>> {
        let mut dead = Vec::new();
        let first = sealed.events.first().map_or(0, |(epoch, _)| *epoch);
        for (epoch, events) in &sealed.events {
            let mut died = Vec::new();
            for &what in events {
                let offset = what & crate::layout::pool::OFFSET_MASK;
                let (slab, within) = slab_of(offset).ok_or_else(|| record::misplaced(offset))?;
                let (image, touched) = self.image(slab)?;
                if !image.touched {
                    image.touched = true;
                    touched.push(slab);
                }
                if what & event::TAG == event::FORMAT {
                    image.class = (what >> 48) as u8;
                    image.bits = record::no_bits(image.class);
                    continue;
                }
                let bytes = CLASS_BYTES[image.class as usize] as usize;
                let index = within as usize / bytes;
                let Some(word) = image.bits.get_mut(index / 64) else {
                    return Err(record::misplaced(offset));
                };
                match what & event::TAG {
                    event::ALLOC | event::ALLOC_SEALED => *word |= 1 << (index % 64),
                    event::DEAD => {
                        *word &= !(1 << (index % 64));
                        died.push(offset);
                        // Born and died between two commits, with a read generation's end between:
                        // pins may see it, and scrubbing looks at it.
                        if *epoch > first && self.mem.word(offset)? & BIRTH_MASK >= first {
                            self.mem.seal_block(offset, bytes)?;
                        }
                    }
                    _ => *word &= !(1 << (index % 64)),
                }
            }
            if !died.is_empty() {
                dead.push((*epoch, died));
            }
        }
        Ok(dead)
    }

    /// Fills in the CRCs that are missing and flushes every block of the epoch that is still
    /// there.
    fn seal_blocks(&mut self, sealed: &Sealed) -> Result<()> {
        for (_, events) in &sealed.events {
            for &what in events {
                let tag = what & event::TAG;
                if tag != event::ALLOC && tag != event::ALLOC_SEALED {
                    continue;
                }
                let offset = what & crate::layout::pool::OFFSET_MASK;
                let (slab, within) = slab_of(offset).ok_or_else(|| record::misplaced(offset))?;
                let (image, _) = self.image(slab)?;
                let bytes = CLASS_BYTES[image.class as usize] as usize;
                let index = within as usize / bytes;
                let lives = image.bits.get(index / 64).is_some_and(|w| w >> (index % 64) & 1 == 1);
                // Freed and allocated again in one epoch, a place may have changed its class.
                if !lives || !(within as usize).is_multiple_of(bytes) {
                    continue;
                }
                if tag == event::ALLOC {
                    self.mem.seal_block(offset, bytes)?;
                }
                self.mem.flush(offset, bytes as u64);
            }
        }
        Ok(())
    }

    /// A slab's image, and the list of those touched.
    fn image(&mut self, slab: u64) -> Result<(&mut Image, &mut Vec<u64>)> {
        let index = slab as usize;
        if index >= self.images.len() {
            self.images.resize_with(index + 1, || None);
        }
        let place = &mut self.images[index];
        if place.is_none() {
            let found = record::read(&self.mem, slab, &self.committed)?;
            let (class, bits, newest) = found
                .map_or((0, Bits::default(), 1), |found| (found.class, found.bits, found.copy));
            *place = Some(Box::new(Image { class, bits, newest, touched: false }));
        }
        let image = place.as_mut().expect("filled above");
        Ok((image, &mut self.touched))
    }

    fn write_record(&mut self, slab: u64, epoch: u64) -> Result<()> {
        let mem = self.mem.clone();
        let (image, _) = self.image(slab)?;
        image.touched = false;
        image.newest = 1 - image.newest;
        record::write(&mem, slab, image.newest, epoch, image.class, &image.bits)
    }
}
