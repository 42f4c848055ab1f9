//! The pool of one shard: opening it, sealing epochs, and what becomes of the dead.
//!
//! `Store` is the writer's handle and, shared, the readers'. `Committer` makes sealed epochs
//! durable behind the writer's back; the two meet only in [`Store::seal`] and [`Store::release`],
//! both O(1) but for handing lists over.

mod commit;
mod room;
mod superblock;
mod tail;
#[cfg(test)]
mod tests;

pub use commit::{Committer, Published, Sealed};
pub use superblock::{Chosen, Copy, CopyLook, Superblock, choose, look_at_superblocks};

use crate::alloc::record::Committed;
use crate::alloc::{Alloc, Usage};
use crate::blob::{LongValue, Value};
use crate::error::{Corrupt, Result, StoreError};
use crate::evacuate::Fruitless;
use crate::heap::Heap;
use crate::keyspace::{View, check_root};
use crate::layout::pool::{
    self, EXTENT, OFFSET_MASK, SUPERBLOCK_AT, capacity_within, file_bytes, sb,
};
use crate::media::{DeviceMedia, FileMedia, is_device};
use crate::persist::Mem;
use cairn_protocol::ids::{Epoch, LogIndex, Term};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Epochs an open sets aside: none of them is ever used by another open, so that after a crash the
/// numbers go on behind them.
pub const EPOCHS_AHEAD: u64 = 1 << 24;
/// Kept blocks noted in memory before they are entered under their snapshot.
const KEPT_AT_ONCE: usize = 512;
/// What a pool has to spare for the largest entries, and what dies of them until a commit.
const LITTLE_BYTES: u64 = 3 << 20;
/// Address space reserved beyond the limit, so that `--memory` can be raised while running.
const RESERVE_FACTOR: u64 = 4;

/// How to open a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Bytes the pool may take on its medium.
    pub capacity_bytes: u64,
    /// Hash key of a pool that is created now.
    pub new_hash_key: [u64; 2],
    /// Identity of a pool that is created now.
    pub new_uuid: [u8; 16],
}

/// What opening found.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The pool was created.
    pub created: bool,
    /// Epoch of the committed root.
    pub epoch: Epoch,
    /// The last log entry the root contains.
    pub applied: (Term, LogIndex),
    /// Something that was mended on the way, for the log.
    pub note: Option<String>,
    /// Why the pool may only be read, and nothing of it be committed.
    pub read_only: Option<String>,
}

/// The pool of one shard: its writer's handle, and its readers' when shared.
pub struct Store {
    pub(crate) heap: Heap,
    pub(crate) root: u64,
    /// The catalogue of snapshots; 0 when there is none.
    pub(crate) catalogue: u64,
    pub(crate) hash_key: [u64; 2],
    pub(crate) limit_bytes: u64,
    applied: (Term, LogIndex),
    clock_ms: u64,
    membership: Vec<u8>,
    uuid: [u8; 16],
    /// Sealed by read generations since the last commit.
    sealed: Vec<(u64, Vec<u64>)>,
    sealed_applied: (Term, LogIndex),
    /// Dead blocks by the epoch they died in, not yet out of everyone's sight.
    dying: VecDeque<(u64, Vec<u64>)>,
    /// Dead blocks whose places may be written again.
    dead: VecDeque<Vec<u64>>,
    /// The root before the committed one: a damaged superblock falls back to it.
    fallback_epoch: u64,
    /// The superblock of the last commit that was released, or of the open.
    committed: Superblock,
    pins: Arc<Pins>,
    /// The epoch in which extents were last cut off from the end; the file is cut when both
    /// superblocks are of that or later ones.
    cut_epoch: u64,
    /// Evacuation waits for commits to free what has died.
    pub(crate) draining: bool,
    /// What leads to the garbage of snapshots is damaged: it stays where it is.
    pub(crate) is_garbage_stuck: bool,
    /// Somebody waits for room.
    room_wanted: bool,
    /// Reclaiming waits for what has died to be free.
    pub(crate) reclaim_waits: bool,
    /// What was there when evacuation had gained nothing: until that changes there is no other pass.
    pub(crate) fruitless: Option<Fruitless>,
}

/// Epochs that readers hold.
#[derive(Default)]
struct Pins {
    held: parking_lot::Mutex<BTreeMap<u64, u32>>,
}

/// A reader's hold on a sealed epoch: until it is dropped no block of that epoch is reused.
pub struct Pin {
    epoch: u64,
    root: u64,
    catalogue: u64,
    hash_key: [u64; 2],
    pins: Arc<Pins>,
    mem: Arc<Mem>,
}

impl Pin {
    /// The bytes it holds.
    pub(crate) fn mem(&self) -> &Arc<Mem> {
        &self.mem
    }

    /// What was there when the pin was taken.
    pub fn view(&self) -> View<'_> {
        View::new(&self.mem, self.root, self.hash_key).with_catalogue(self.catalogue)
    }

    /// Whether both hold roots of one pool: places in different pools have nothing in common.
    pub fn is_of_the_pool_of(&self, other: &Pin) -> bool {
        Arc::ptr_eq(&self.mem, &other.mem)
    }

    /// A value that was found in this pin's view. (What lies there otherwise is an error, or
    /// another value.)
    pub fn long_value(&self, long: LongValue) -> Value<'_> {
        long.of(&self.mem)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.held.lock();
        if let Some(count) = held.get_mut(&self.epoch) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.epoch);
            }
        }
    }
}

impl Store {
    /// Opens the pool in the file or on the devdax device at `path`, creating it when there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`], [`StoreError::Newer`]: each names the file.
    pub fn open_file(path: &Path, options: &PoolOptions) -> Result<(Store, Committer, Opened)> {
        if is_device(path) {
            let media = DeviceMedia::open(path)?;
            return Store::open(Arc::new(Mem::new(Box::new(media))), options);
        }
        let reserve = address_space(options.capacity_bytes);
        if path.is_symlink() && !path.exists() {
            // A new pool in its place would be taken for the one that is only away.
            let doing =
                format!("following {}, which leads to nothing, to the pool", path.display());
            return Err(StoreError::io(doing, std::io::ErrorKind::NotFound.into()));
        }
        if !path.exists() {
            create_file(path, options)?;
            let (media, _) = FileMedia::open(path, reserve)?;
            let (store, committer, opened) =
                Store::open(Arc::new(Mem::new(Box::new(media))), options)?;
            return Ok((store, committer, Opened { created: true, ..opened }));
        }
        let (media, _) = FileMedia::open(path, reserve)?;
        Store::open(Arc::new(Mem::new(Box::new(media))), options)
    }

    /// Opens the pool on a medium, creating it on an empty one.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`], [`StoreError::Newer`].
    pub fn open(mem: Arc<Mem>, options: &PoolOptions) -> Result<(Store, Committer, Opened)> {
        let created = mem.media().is_empty();
        if created {
            create(&mem, options)?;
        }
        let chosen = choose(&mem)?;
        check_length(&mem, &chosen.superblock)?;
        let superblock = chosen.superblock;
        let is_fallback = chosen.other_is_bad.is_some();
        let committed = Committed { is_fallback, ..committed_of(&superblock) };
        if superblock.root | superblock.snapshots != 0 {
            mem.distrust(superblock.epoch);
        }
        mem.set_now(superblock.ceiling + 1);
        check_root(&mem, superblock.root & OFFSET_MASK)?;
        let mut store = Store::new(mem.clone(), &superblock, &committed, options);
        let read_only = match store.find_newest_snapshot() {
            Err(StoreError::Corrupt(damage)) => Some(unknown_snapshots(damage)),
            found => found.map(|()| None)?,
        };
        let opened = Opened {
            created,
            epoch: Epoch(superblock.epoch),
            applied: superblock.applied,
            note: chosen
                .other_is_bad
                .map(|bad| format!("{bad}; opened epoch {} from the other copy", superblock.epoch)),
            read_only,
        };
        let committer = Committer::take_over(mem, superblock, committed, chosen.copy)?;
        Ok((store, committer, opened))
    }

    /// Opens a pool to look at it: nothing is written, so nothing may be changed either. Returns
    /// which records count, the number of extents, and what an open would mend.
    pub(crate) fn look(mem: Arc<Mem>) -> Result<(Store, Committed, u64, Option<String>)> {
        let chosen = choose(&mem)?;
        let (store, committed) = Store::look_as(mem, &chosen.superblock)?;
        Ok((store, committed, chosen.superblock.extents, chosen.other_is_bad))
    }

    /// As [`Store::look`], on a pool that has no superblocks yet: `superblock` is what they will say.
    pub(crate) fn look_as(mem: Arc<Mem>, superblock: &Superblock) -> Result<(Store, Committed)> {
        check_length(&mem, superblock)?;
        check_root(&mem, superblock.root & OFFSET_MASK)?;
        let committed = committed_of(superblock);
        let options = PoolOptions { capacity_bytes: 0, new_hash_key: [0; 2], new_uuid: [0; 16] };
        let mut store = Store::new(mem, superblock, &committed, &options);
        // Whoever looks at the snapshots meets what is wrong with them.
        let _ = store.find_newest_snapshot();
        Ok((store, committed))
    }

    fn new(mem: Arc<Mem>, sb: &Superblock, committed: &Committed, options: &PoolOptions) -> Store {
        let alloc = Alloc::new(
            mem.clone(),
            committed.clone(),
            sb.extents,
            sb.live_bytes,
            options.capacity_bytes,
        );
        Store {
            heap: Heap::new(mem, alloc, sb.ceiling + 1),
            root: sb.root,
            catalogue: sb.snapshots,
            hash_key: sb.hash_key,
            limit_bytes: sb.limit_bytes,
            applied: sb.applied,
            clock_ms: sb.clock_ms,
            membership: sb.membership.clone(),
            uuid: sb.uuid,
            sealed: Vec::new(),
            sealed_applied: sb.applied,
            dying: VecDeque::new(),
            dead: VecDeque::new(),
            fallback_epoch: sb.epoch,
            committed: sb.clone(),
            pins: Arc::default(),
            // A crash may have left the file longer than the superblocks say.
            cut_epoch: sb.ceiling + 1,
            draining: false,
            is_garbage_stuck: false,
            room_wanted: false,
            reclaim_waits: false,
            fruitless: None,
        }
    }

    /// The last log entry applied, and its term.
    pub fn applied(&self) -> (Term, LogIndex) {
        self.applied
    }

    /// The shard's time: no entry was stamped later, and no read may see an earlier one.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// Notes that the entry `index` of `term`, stamped `clock_ms`, has been applied.
    pub fn set_applied(&mut self, term: Term, index: LogIndex, clock_ms: u64) {
        self.applied = (term, index);
        self.clock_ms = self.clock_ms.max(clock_ms);
    }

    /// The group's membership as of the applied entry: opaque bytes.
    pub fn membership(&self) -> &[u8] {
        &self.membership
    }

    /// Sets the membership, at most 1,024 bytes.
    ///
    /// # Errors
    /// [`StoreError::TooLong`].
    pub fn set_membership(&mut self, membership: &[u8]) -> Result<()> {
        if membership.len() > sb::MEMBERSHIP_MAX {
            return Err(StoreError::TooLong {
                what: "a membership",
                len_bytes: membership.len() as u64,
                max_bytes: sb::MEMBERSHIP_MAX as u64,
            });
        }
        self.membership = membership.to_vec();
        Ok(())
    }

    /// The shard's replicated memory limit in bytes; 0 before one was set.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Sets the shard's memory limit: an operation of the log, for every replica must admit the
    /// same writes.
    pub fn set_limit_bytes(&mut self, limit_bytes: u64) {
        self.limit_bytes = limit_bytes;
    }

    /// Sets what this replica's pool may take on its medium.
    pub fn set_capacity_bytes(&mut self, capacity_bytes: u64) {
        self.heap.alloc.set_capacity(capacity_bytes);
    }

    /// The most that [`set_capacity_bytes`](Self::set_capacity_bytes) can make use of before the
    /// pool is opened anew.
    pub fn capacity_bytes_max(&self) -> u64 {
        capacity_within(self.heap.mem.media().reserved())
    }

    /// The pool's identity.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The current epoch, in which writes are born.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.heap.epoch)
    }

    /// The last epoch known to be durable.
    pub fn committed_epoch(&self) -> Epoch {
        Epoch(self.committed.epoch)
    }

    /// What the pool's space is used for.
    pub fn usage(&self) -> Usage {
        self.heap.alloc.usage()
    }

    /// The mapped bytes.
    pub fn mem_arc(&self) -> Arc<Mem> {
        self.heap.mem.clone()
    }

    /// Operations on blocks, and bytes written, since the last seal: when to commit.
    pub fn epoch_load(&self) -> (usize, u64) {
        (self.heap.alloc.epoch_events(), self.heap.alloc.epoch_bytes())
    }

    /// Whether so little is left that a commit should be waited for, to get the dead back, or
    /// evacuation.
    pub fn is_tight(&self) -> bool {
        self.is_dead_needed() || self.is_cramped() && self.should_evacuate(true)
    }

    /// Whether there are hardly any slabs left for blocks of another size.
    pub fn is_cramped(&self) -> bool {
        self.heap.alloc.free_slab_bytes() < LITTLE_BYTES
    }

    fn is_dead_needed(&self) -> bool {
        let usage = self.heap.alloc.usage();
        let little = (usage.capacity_bytes / 16).max(LITTLE_BYTES.min(usage.capacity_bytes / 5));
        let alloc = &self.heap.alloc;
        usage.dead_bytes > 0
            && (alloc.free_bytes() < little || alloc.free_slab_bytes() < LITTLE_BYTES)
    }

    /// Whether all that died up to `epoch` is free again.
    pub(crate) fn is_released(&self, epoch: u64) -> bool {
        let waits = self.dying.front().is_some_and(|(died, _)| *died <= epoch);
        self.fallback_epoch >= epoch && !waits && self.dead.is_empty()
    }

    /// Makes up to `budget` places free again that commits have released; says whether there are
    /// more.
    pub fn recycle_dead(&mut self, budget: usize) -> bool {
        self.recycle(budget);
        !self.dead.is_empty()
    }

    /// Ends the current epoch for a commit. `None` when nothing has changed since the last one.
    pub fn seal(&mut self) -> Option<Sealed> {
        // What finds no room stays in memory for the next commit.
        let _ = self.settle_catalogue();
        let is_new = self.heap.alloc.epoch_events() > 0
            || !self.sealed.is_empty()
            || self.applied != self.sealed_applied;
        // What died under the last commit comes back with the next, be that empty, and a file that
        // is to become shorter waits for two.
        let is_dead_awaited =
            self.is_dead_needed() || self.draining || self.room_wanted || self.reclaim_waits;
        let is_awaited = self.awaits_cut() || !self.dying.is_empty() && is_dead_awaited;
        if !is_new && !is_awaited {
            // No epoch's number is spent on nothing: only commits raise the ceiling above them.
            return None;
        }
        self.end_generation();
        self.sealed_applied = self.applied;
        let usage = self.heap.alloc.usage();
        Some(Sealed {
            uuid: self.uuid,
            epoch: self.heap.epoch - 1,
            events: std::mem::take(&mut self.sealed),
            root: self.root,
            snapshots: self.catalogue,
            applied: self.applied,
            clock_ms: self.clock_ms,
            membership: self.membership.clone(),
            limit_bytes: self.limit_bytes,
            extents: self.heap.alloc.extents(),
            live_bytes: usage.live_bytes,
        })
    }

    /// Makes what is there immutable; later writes copy it.
    pub(crate) fn end_generation(&mut self) {
        // What finds no room stays in memory for the next generation.
        let _ = self.settle_catalogue();
        if self.heap.alloc.epoch_events() > 0 {
            let events = self.heap.alloc.take_events();
            self.sealed.push((self.heap.epoch, events));
        }
        self.heap.epoch += 1;
        self.heap.mem.set_now(self.heap.epoch);
    }

    /// Holds what is there now for a long read that needs no lock.
    pub fn pin(&mut self) -> Pin {
        if self.heap.alloc.epoch_events() > 0 {
            self.end_generation();
        }
        self.pin_root(self.root, self.catalogue)
    }

    /// Holds a root that is sealed: its blocks are not reused while the pin lives.
    pub(crate) fn pin_root(&self, root: u64, catalogue: u64) -> Pin {
        self.pin_at(self.heap.epoch - 1, root, catalogue)
    }

    /// Holds what the last commit that was released made durable, and says what that is.
    pub(crate) fn pin_committed(&self) -> (Pin, &Superblock) {
        let Superblock { epoch, root, snapshots, .. } = self.committed;
        (self.pin_at(epoch, root, snapshots), &self.committed)
    }

    fn pin_at(&self, epoch: u64, root: u64, catalogue: u64) -> Pin {
        *self.pins.held.lock().entry(epoch).or_insert(0) += 1;
        Pin {
            epoch,
            root,
            catalogue,
            hash_key: self.hash_key,
            pins: self.pins.clone(),
            mem: self.heap.mem.clone(),
        }
    }

    /// Takes note that a commit is durable: what died before the root it replaced may be reused
    /// once no reader sees it. False, and nothing is done, when it is a commit of another pool, whose
    /// place this one took while it was under way.
    pub fn release(&mut self, published: Published) -> bool {
        if published.state.uuid != self.uuid {
            return false;
        }
        self.fallback_epoch = self.committed.epoch;
        let fallback_extents = self.committed.extents;
        self.committed = published.state;
        self.heap.alloc.counted_extents = fallback_extents.max(self.committed.extents);
        self.heap.mem.note_sealed(self.committed.epoch);
        self.dying.extend(published.dead);
        let held = self.pins.held.lock().keys().next().copied().unwrap_or(u64::MAX);
        while let Some((died, _)) = self.dying.front() {
            // A pin at epoch p sees what died after p; the fall-back root sees what died after it.
            if *died > self.fallback_epoch || *died > held {
                break;
            }
            if let Some((_, blocks)) = self.dying.pop_front() {
                self.dead.push_back(blocks);
            }
        }
        true
    }

    /// Makes up to `budget` places of dead blocks free again: a few with every write, so that no
    /// commit's worth of them is ever done at once.
    pub(crate) fn recycle(&mut self, budget: usize) {
        if self.heap.kept.len() >= KEPT_AT_ONCE {
            let _ = self.enter_kept();
        }
        for _ in 0..budget {
            let Some(blocks) = self.dead.front_mut() else { return };
            match blocks.pop() {
                // A wrong list would hand out live blocks; leaving the place unused is safe, and
                // `check` reports it.
                Some(block) => drop(self.heap.alloc.reuse(block)),
                None => drop(self.dead.pop_front()),
            }
        }
    }
}

/// Address space for a pool that may take `capacity_bytes` now and more later.
fn address_space(capacity_bytes: u64) -> u64 {
    let extents = capacity_bytes / EXTENT + 1;
    file_bytes(extents) * RESERVE_FACTOR
}

/// What an operator is told when nobody can say what the snapshots see.
fn unknown_snapshots(damage: Corrupt) -> String {
    format!(
        "the snapshots cannot be read: {}; the data is served and nothing is written",
        StoreError::Corrupt(damage)
    )
}

fn committed_of(superblock: &Superblock) -> Committed {
    let mut voids = superblock.voids.clone();
    if superblock.ceiling > superblock.epoch {
        voids.push((superblock.epoch, superblock.ceiling));
    }
    Committed { epoch: superblock.epoch, voids, is_fallback: false }
}

fn check_length(mem: &Mem, superblock: &Superblock) -> Result<()> {
    let (have, need) = (mem.media().len(), file_bytes(superblock.extents));
    if have < need {
        return Err(StoreError::Corrupt(Corrupt {
            what: format!("the pool is cut short: it should have {need} bytes and ends"),
            offset: have,
            path: mem.media().path().map(Into::into),
        }));
    }
    Ok(())
}

/// Writes the superblocks of an empty pool.
fn create(mem: &Arc<Mem>, options: &PoolOptions) -> Result<()> {
    let backed = SUPERBLOCK_AT.map(|at| (at, pool::PAGE));
    mem.grow(file_bytes(0), &backed)?;
    let first = Superblock {
        uuid: options.new_uuid,
        sequence: 1,
        epoch: 1,
        ceiling: 1,
        hash_key: options.new_hash_key,
        ..Superblock::default()
    };
    // One fence for both: the pool gets its name when they are durable, and not before.
    first.put(mem, 0)?;
    Superblock { sequence: 2, ..first }.put(mem, 1)?;
    mem.fence()
}

/// Creates a pool beside its name and moves it there whole: a pool that exists under its name has
/// good superblocks, so finding none there means damage and never a creation cut short.
fn create_file(path: &Path, options: &PoolOptions) -> Result<()> {
    let fail = |doing: &str, e| StoreError::io(format!("{doing} {}", path.display()), e);
    let fresh = path.with_extension("new");
    if fresh.exists() {
        std::fs::remove_file(&fresh).map_err(|e| fail("removing an unfinished", e))?;
    }
    {
        let (media, _) = FileMedia::open(&fresh, file_bytes(0))?;
        create(&Arc::new(Mem::new(Box::new(media))), options)?;
    }
    rename_durably(&fresh, path).map_err(|e| fail("creating the pool", e))
}

/// Gives `from` the name `to`, in the same directory, and syncs that.
pub(crate) fn rename_durably(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
