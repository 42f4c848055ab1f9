//! Scrubbing: checking every block of a pool that is in use, a slab at a time.
//!
//! Until a first pass has found it whole, what earlier runs wrote is checked whenever it is met
//! ([`Mem::verify`](crate::persist::Mem)); afterwards only passes look for what the medium has lost
//! since.

use crate::alloc::slab_at;
use crate::error::Result;
use crate::heap::Offset;
use crate::layout::pool::{BIRTH_MASK, CLASS_BYTES, EXTENT, SLABS_PER_EXTENT, extent_at};
use crate::pool::Store;

/// What a look at a slab came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blocks whose checksums fit.
    pub sound: u64,
    /// Blocks whose checksums do not.
    pub damaged: u64,
    /// The first of those.
    pub first: Option<Offset>,
}

impl Scrubbed {
    fn add_damaged(&mut self, at: Offset) {
        self.damaged += 1;
        self.first = self.first.or(Some(at));
    }
}

impl Store {
    /// Extents of the pool now.
    pub fn extents(&self) -> u64 {
        self.heap.alloc.extents()
    }

    /// Has the pages of an extent read and mapped, so that scrubbing it under a lock waits for no
    /// disk. Needs no lock itself.
    pub fn warm_extent(mem: &crate::persist::Mem, extent: u64) {
        mem.media().warm(extent_at(extent), EXTENT);
    }

    /// Checks the blocks of slab `within` (below 32) of an extent, those of epochs that are still
    /// being written left out.
    pub fn scrub(&self, extent: u64, within: u64) -> Scrubbed {
        let slab = extent * SLABS_PER_EXTENT + within;
        let mut found = Scrubbed::default();
        if self.scrub_slab(slab, &mut found).is_err() {
            found.add_damaged(slab_at(slab));
        }
        found
    }

    fn scrub_slab(&self, slab: u64, found: &mut Scrubbed) -> Result<()> {
        let Some((class, bits)) = self.heap.alloc.slab_in_use(slab)? else { return Ok(()) };
        let Some(&bytes) = CLASS_BYTES.get(class as usize) else { return Ok(()) };
        for (word, &bits) in bits.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let index = word as u64 * 64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                self.scrub_block(slab_at(slab) + index * u64::from(bytes), bytes.into(), found)?;
            }
        }
        Ok(())
    }

    fn scrub_block(&self, at: Offset, bytes: usize, found: &mut Scrubbed) -> Result<()> {
        let mem = &self.heap.mem;
        let birth = mem.word(at)? & BIRTH_MASK;
        if birth > self.heap.epoch {
            found.add_damaged(at);
        } else if birth <= self.committed_epoch().0 {
            match mem.block_is_sound(at, bytes)? {
                true => found.sound += 1,
                false => found.add_damaged(at),
            }
        }
        Ok(())
    }

    /// Takes note that a pass found every extent below `extent` whole; `None`: all of them.
    pub fn trust_below(&self, extent: Option<u64>) {
        self.heap.mem.trust(extent.map_or(u64::MAX, extent_at));
    }

    /// Takes note that the medium has lost something: what is committed is checked whenever it is
    /// met, from now on.
    pub fn distrust(&self) {
        self.heap.mem.distrust(self.committed_epoch().0);
    }

    /// Whether nothing needs a check when it is met.
    pub fn is_trusted(&self) -> bool {
        self.heap.mem.is_trusted()
    }
}
