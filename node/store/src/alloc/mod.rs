//! Extents, slabs, size classes: where a block goes and when its place is free again.
//!
//! The bitmaps here are the *working* ones of the writer: a bit is set from allocation until the
//! place may be written again. What is durable is computed from each epoch's list of events by
//! the committer (`pool::commit`), never copied from here, for these are already ahead. A crash
//! forgets this module's state whole; slabs load lazily from their records.

pub mod record;
pub(crate) mod room;
pub(crate) mod victims;

use crate::error::{Result, StoreError};
use crate::layout::pool::{
    CLASS_BY_WORDS, CLASS_BYTES, EXTENT, OFFSET_MASK, RECORDS_PER_EXTENT_BYTES, SLAB,
    SLABS_PER_EXTENT, capacity_within, extent_at, extent_of, file_bytes, records_at,
};
use crate::persist::Mem;
use record::{Bits, Committed};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What happened to a block or slab in an epoch: a tag above a 48-bit offset.
pub mod event {
    #![allow(missing_docs)]
    /// A block was allocated; its CRC is still to be filled in.
    pub const ALLOC: u64 = 0 << 60;
    /// A block was allocated and carries its CRC.
    pub const ALLOC_SEALED: u64 = 1 << 60;
    /// A block of this epoch was freed; its place may be reused at once.
    pub const FREE: u64 = 2 << 60;
    /// A block of an earlier epoch died.
    pub const DEAD: u64 = 3 << 60;
    /// A slab was given to a class (bits 48-55).
    pub const FORMAT: u64 = 4 << 60;
    pub const TAG: u64 = 7 << 60;
}

/// Record sets loaded before growing instead, so that one allocation never scans a whole pool.
const LOADS_A_TRY: usize = 8;

/// Slabs that are free before a change begins: each size of block may need one, and then some.
const SLABS_A_CHANGE: usize = 24;

/// Extents that a pool may have beyond what it uses while that is more than it is allowed.
const EXTENTS_TO_MOVE_IN: u64 = 3;

const NO_CLASS: u8 = u8::MAX;

struct Slab {
    class: u8,
    used: u16,
    /// Word from which to look for a free bit.
    hint: u16,
    /// On its class's list of slabs with room.
    listed: bool,
    /// Being emptied: nothing more is put here until it is empty or evacuation ends.
    leaving: bool,
    /// Snapshots see blocks in it, so that it cannot be emptied.
    stuck: bool,
    /// Its record cannot be read: what lies in it stays as it is, and nothing more is put there.
    damaged: bool,
    bits: Bits,
}

impl Slab {
    fn empty() -> Slab {
        Slab {
            class: NO_CLASS,
            used: 0,
            hint: 0,
            listed: false,
            leaving: false,
            stuck: false,
            damaged: false,
            bits: Box::default(),
        }
    }

    /// A slab whose record is damaged: full, of no class.
    fn unreadable() -> Slab {
        Slab { damaged: true, ..Slab::empty() }
    }

    /// Whether no block is in it.
    fn holds_nothing(&self) -> bool {
        self.used == 0 && !self.damaged
    }

    fn is_full(&self) -> bool {
        self.used as usize == record::capacity(self.class)
    }

    /// Takes the first free block at or after the hint.
    fn take(&mut self) -> Option<usize> {
        let capacity = record::capacity(self.class);
        if self.used as usize == capacity {
            return None;
        }
        let words = self.bits.len();
        for step in 0..words {
            let word = (self.hint as usize + step) % words;
            let bit = (!self.bits[word]).trailing_zeros() as usize;
            let index = word * 64 + bit;
            if bit < 64 && index < capacity {
                self.bits[word] |= 1 << bit;
                self.used += 1;
                self.hint = word as u16;
                return Some(index);
            }
        }
        None
    }
}

type Extent = Box<[Slab]>;

/// What the medium says of a slab.
enum Found {
    /// It was never used.
    Nothing,
    Record(record::Record),
    /// Its record cannot be read.
    Damage,
}

#[derive(Default)]
struct Class {
    current: Option<u64>,
    /// Slabs with room; entries may be out of date and are checked when taken.
    partial: Vec<u64>,
}

/// What the allocator holds, for INFO and `inspect`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes of data extents in the file.
    pub extents_bytes: u64,
    /// Bytes of slabs that hold blocks, those that were not looked at yet among them.
    pub used_bytes: u64,
    /// Bytes of blocks that the live tree uses, by size class.
    pub live_bytes: u64,
    /// Bytes of dead blocks that may not be written yet.
    pub dead_bytes: u64,
    /// Bytes of dead blocks that snapshots see.
    pub kept_bytes: u64,
    /// Bytes the operator allows.
    pub capacity_bytes: u64,
}

/// The working state of a pool's space. Used by the single writer only.
pub struct Alloc {
    mem: Arc<Mem>,
    committed: Committed,
    extents: Vec<Option<Extent>>,
    classes: Vec<Class>,
    /// The lowest is used first: dirty pages in sequence sync ten times faster, and the end of the
    /// file empties.
    free_slabs: BTreeSet<u64>,
    /// Slabs of a class, of the extents that are loaded.
    slabs_in_use: u64,
    /// Slabs that are being emptied.
    slabs_leaving: u64,
    extents_loaded: u64,
    /// First extent that may not be loaded yet.
    unloaded: usize,
    capacity_bytes: u64,
    /// Extents that the medium has addresses for: a limit may be raised beyond them elsewhere.
    extents_mapped_at_most: u64,
    /// Extents that one of the two superblocks counts, or may.
    pub(crate) counted_extents: u64,
    /// Extents that there may be while there are more than the capacity allows: room to move in.
    extents_meanwhile: u64,
    live_bytes: u64,
    dead_bytes: u64,
    kept_bytes: u64,
    events: Vec<u64>,
    epoch_bytes: u64,
    /// What operations will take that are agreed on: evacuation leaves it alone.
    pub(crate) promised_bytes: u64,
    /// Slabs that are left to the dropping of snapshots.
    pub(crate) held_slabs: u64,
    /// What has died and cannot be given back.
    pub(crate) leaked: Leaked,
}

/// What has died and is not given back, for a block on the way to it, or the record of its slab, is
/// damaged. It stays marked as in use, now and after a restart: nothing is ever written over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leaked {
    /// Blocks, each with all that only it leads to.
    pub pieces: u64,
    /// Where the first of them lies, in the pool's file.
    pub first_at: Option<u64>,
}

impl Leaked {
    /// Notes one more.
    pub(crate) fn note(&mut self, at: u64) {
        self.pieces += 1;
        self.first_at.get_or_insert(at);
    }
}

impl Alloc {
    /// The allocator of a pool with `extents` data extents, of which nothing is loaded yet.
    pub fn new(
        mem: Arc<Mem>,
        committed: Committed,
        extents: u64,
        live_bytes: u64,
        capacity_bytes: u64,
    ) -> Alloc {
        let most_bytes = capacity_within(mem.media().reserved());
        Alloc {
            mem,
            committed,
            extents: (0..extents).map(|_| None).collect(),
            classes: CLASS_BYTES.iter().map(|_| Class::default()).collect(),
            free_slabs: BTreeSet::new(),
            slabs_in_use: 0,
            slabs_leaving: 0,
            extents_loaded: 0,
            unloaded: 0,
            capacity_bytes,
            extents_mapped_at_most: most_bytes / (EXTENT + RECORDS_PER_EXTENT_BYTES),
            counted_extents: extents,
            extents_meanwhile: extents + EXTENTS_TO_MOVE_IN,
            live_bytes,
            dead_bytes: 0,
            kept_bytes: 0,
            events: Vec::new(),
            epoch_bytes: 0,
            promised_bytes: 0,
            held_slabs: 0,
            leaked: Leaked::default(),
        }
    }

    /// Class and bitmap of a slab in use; `None` of one that is not, or not there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when its record is damaged.
    pub(crate) fn slab_in_use(&self, slab: u64) -> Result<Option<(u8, Bits)>> {
        match self.extents.get((slab / SLABS_PER_EXTENT) as usize) {
            None => Ok(None),
            Some(Some(extent)) if !extent[(slab % SLABS_PER_EXTENT) as usize].damaged => {
                let slab = &extent[(slab % SLABS_PER_EXTENT) as usize];
                Ok((slab.class != NO_CLASS).then(|| (slab.class, slab.bits.clone())))
            }
            Some(_) => {
                let found = record::read(&self.mem, slab, &self.committed)?;
                Ok(found.map(|record| (record.class, record.bits)))
            }
        }
    }

    /// Data extents in the file.
    pub fn extents(&self) -> u64 {
        self.extents.len() as u64
    }

    /// What is used and what is allowed.
    pub fn usage(&self) -> Usage {
        Usage {
            extents_bytes: self.extents() * EXTENT,
            used_bytes: (self.extents() - self.extents_loaded) * EXTENT + self.slabs_in_use * SLAB,
            live_bytes: self.live_bytes,
            dead_bytes: self.dead_bytes,
            kept_bytes: self.kept_bytes,
            capacity_bytes: self.capacity_bytes,
        }
    }

    /// Bytes allocated since the last seal.
    pub fn epoch_bytes(&self) -> u64 {
        self.epoch_bytes
    }

    /// Events since the last seal.
    pub fn epoch_events(&self) -> usize {
        self.events.len()
    }

    /// Ends the epoch: its events, in order.
    pub fn take_events(&mut self) -> Vec<u64> {
        self.epoch_bytes = 0;
        let next = Vec::with_capacity(self.events.len().min(1 << 16));
        std::mem::replace(&mut self.events, next)
    }

    /// Sets what the operator allows, in bytes of data extents and their records. When there is more
    /// than that, evacuation gives it back as far as what lives can do without.
    pub fn set_capacity(&mut self, capacity_bytes: u64) {
        if capacity_bytes < self.capacity_bytes {
            self.extents_meanwhile = self.extents() + EXTENTS_TO_MOVE_IN;
        }
        self.capacity_bytes = capacity_bytes;
    }

    /// Class and block size for `len` bytes.
    #[inline]
    fn class_of(len: usize) -> usize {
        CLASS_BY_WORDS[len.div_ceil(8)] as usize
    }

    /// Bytes a block of `len` bytes really takes.
    #[inline]
    pub fn block_bytes(len: usize) -> usize {
        CLASS_BYTES[Self::class_of(len)] as usize
    }

    /// A place for a block of `len` bytes (at most `BLOCK_MAX`).
    ///
    /// # Errors
    /// [`StoreError::Full`] when the pool may not grow.
    pub fn alloc(&mut self, len: usize, tag: u64) -> Result<u64> {
        let class = Self::class_of(len);
        let current = self.classes[class].current;
        let slab = match current.filter(|&slab| !self.slab(slab).is_full()) {
            Some(slab) => slab,
            None => self.next_slab(class)?,
        };
        let index = self.slab(slab).take().ok_or(StoreError::Full)?;
        let bytes = CLASS_BYTES[class] as u64;
        let offset = slab_at(slab) + index as u64 * bytes;
        self.live_bytes += bytes;
        self.epoch_bytes += bytes;
        self.events.push(tag | offset);
        Ok(offset)
    }

    /// Makes sure that blocks of any size can be allocated for one change of a few paths, so that
    /// it never has to stop half-way.
    ///
    /// # Errors
    /// [`StoreError::Full`] when so little is left that it is for deletions alone.
    #[inline]
    pub fn ensure(&mut self) -> Result<()> {
        if self.free_slabs.len() >= SLABS_A_CHANGE { Ok(()) } else { self.find_slabs() }
    }

    #[cold]
    fn find_slabs(&mut self) -> Result<()> {
        // What is free after an open lies at the end, more likely than not.
        if let Some(last) = self.extents.len().checked_sub(1) {
            self.load(last)?;
        }
        let mut loads = 0;
        while self.free_slabs.len() < SLABS_A_CHANGE {
            self.find_room(&mut loads)?;
        }
        Ok(())
    }

    /// Loads another extent or, when a few have been, grows; where there is no growth, be it for the
    /// limit or for the disk, whatever has room already must be found.
    fn find_room(&mut self, loads: &mut usize) -> Result<()> {
        if *loads < LOADS_A_TRY && self.load_next()? {
            *loads += 1;
            return Ok(());
        }
        match self.grow() {
            Err(StoreError::Full | StoreError::Io { .. }) if self.load_next()? => Ok(()),
            grown => grown,
        }
    }

    /// Frees a block of the current epoch: its place is free at once.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no such block.
    pub fn free_now(&mut self, offset: u64) -> Result<()> {
        let bytes = self.release(offset)?;
        self.events.push(event::FREE | offset);
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Notes that a block of an earlier epoch died, `len` bytes long.
    ///
    /// Its slab is loaded first: the commits that follow overwrite the records it was loaded from.
    /// In a slab whose record is damaged it leaks: no commit writes that record, and nobody writes
    /// into that slab.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no such slab.
    pub fn dead(&mut self, offset: u64, len: usize) -> Result<()> {
        let (slab, _) = slab_of(offset).ok_or_else(|| record::misplaced(offset))?;
        self.load((slab / SLABS_PER_EXTENT) as usize)?;
        let bytes = Self::block_bytes(len) as u64;
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        if self.slab(slab).damaged {
            self.leaked.note(offset);
            return Ok(());
        }
        self.dead_bytes += bytes;
        self.events.push(event::DEAD | offset);
        Ok(())
    }

    /// Notes that a block of `len` bytes died and that snapshots see it: its place stays taken.
    pub(crate) fn keep(&mut self, len: usize) {
        let bytes = Self::block_bytes(len) as u64;
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        self.kept_bytes += bytes;
    }

    /// Notes that no snapshot sees a kept block any more; returns its bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no such block.
    pub(crate) fn unkeep_dead(&mut self, offset: u64) -> Result<u64> {
        let bytes = self.bytes_at(offset)?;
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
        self.dead_bytes += bytes;
        self.events.push(event::DEAD | offset);
        Ok(bytes)
    }

    /// Notes that the live tree has got a kept block back.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no such block.
    pub(crate) fn unkeep_alive(&mut self, offset: u64) -> Result<()> {
        let bytes = self.bytes_at(offset)?;
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
        self.live_bytes += bytes;
        Ok(())
    }

    /// Bytes of dead blocks that snapshots see, as the catalogue has it.
    pub(crate) fn set_kept_bytes(&mut self, bytes: u64) {
        self.kept_bytes = bytes;
    }

    /// Bytes of the block at `offset`, by its slab's class.
    pub(crate) fn bytes_at(&mut self, offset: u64) -> Result<u64> {
        let (slab, _) = slab_of(offset).ok_or_else(|| record::misplaced(offset))?;
        self.load((slab / SLABS_PER_EXTENT) as usize)?;
        match self.slab(slab).class {
            NO_CLASS => Err(record::misplaced(offset)),
            class => Ok(u64::from(CLASS_BYTES[class as usize])),
        }
    }

    /// Makes the place of a dead block free, once no committed root, fall-back root or pin can
    /// see it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no such block.
    pub fn reuse(&mut self, offset: u64) -> Result<()> {
        let bytes = self.release(offset)?;
        self.dead_bytes = self.dead_bytes.saturating_sub(bytes);
        Ok(())
    }

    fn release(&mut self, offset: u64) -> Result<u64> {
        let (slab, within) = slab_of(offset).ok_or_else(|| record::misplaced(offset))?;
        self.load((slab / SLABS_PER_EXTENT) as usize)?;
        let state = self.slab(slab);
        if state.class == NO_CLASS {
            return Err(record::misplaced(offset));
        }
        let class = state.class as usize;
        let bytes = CLASS_BYTES[class] as u64;
        let index = (within / bytes) as usize;
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        if within % bytes != 0
            || index >= record::capacity(state.class)
            || state.bits[word] & bit == 0
        {
            return Err(StoreError::corrupt("a block freed that is not allocated", offset));
        }
        state.bits[word] &= !bit;
        state.used -= 1;
        state.hint = state.hint.min(word as u16);
        let (used, listed, leaving) = (state.used, state.listed, state.leaving);
        if self.classes[class].current == Some(slab) {
            return Ok(bytes);
        }
        if used == 0 {
            self.vacate(slab);
        } else if !listed && !leaving {
            self.slab(slab).listed = true;
            self.classes[class].partial.push(slab);
        }
        Ok(bytes)
    }

    /// Takes an empty slab from its class.
    fn vacate(&mut self, slab: u64) {
        let left = std::mem::replace(self.slab(slab), Slab::empty());
        self.slabs_leaving -= u64::from(left.leaving);
        self.slabs_in_use -= 1;
        self.free_slabs.insert(slab);
    }

    fn slab(&mut self, slab: u64) -> &mut Slab {
        let extent = self.extents[(slab / SLABS_PER_EXTENT) as usize].as_mut();
        &mut extent.expect("a listed slab's extent is loaded")[(slab % SLABS_PER_EXTENT) as usize]
    }

    /// Chooses the slab that the next blocks of `class` come from.
    fn next_slab(&mut self, class: usize) -> Result<u64> {
        self.classes[class].current = None;
        let mut loads = 0;
        loop {
            while let Some(slab) = self.classes[class].partial.pop() {
                // Entries outlive the slab's extent, its emptying and its next class.
                if slab / SLABS_PER_EXTENT >= self.extents() {
                    continue;
                }
                let state = self.slab(slab);
                if state.class as usize == class && state.listed {
                    state.listed = false;
                    if !state.is_full() && !state.leaving {
                        self.classes[class].current = Some(slab);
                        return Ok(slab);
                    }
                }
            }
            if let Some(slab) = self.free_slabs.pop_first() {
                return Ok(self.format(slab, class));
            }
            self.find_room(&mut loads)?;
        }
    }

    fn format(&mut self, slab: u64, class: usize) -> u64 {
        let bits = record::no_bits(class as u8);
        *self.slab(slab) = Slab { class: class as u8, bits, ..Slab::empty() };
        self.slabs_in_use += 1;
        self.classes[class].current = Some(slab);
        self.events.push(event::FORMAT | (class as u64) << 48 | slab_at(slab));
        slab
    }

    /// Loads the records of the next extent; `false` when all are loaded.
    fn load_next(&mut self) -> Result<bool> {
        while self.unloaded < self.extents.len() {
            let extent = self.unloaded;
            self.unloaded += 1;
            if self.extents[extent].is_none() {
                self.load(extent)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn load(&mut self, extent: usize) -> Result<()> {
        match self.extents.get(extent) {
            None => {
                let at = extent_at(extent as u64);
                return Err(StoreError::corrupt("a pointer beyond the last extent", at));
            }
            Some(Some(_)) => return Ok(()),
            Some(None) => {}
        }
        let first = extent as u64 * SLABS_PER_EXTENT;
        let numbers = first..first + SLABS_PER_EXTENT;
        // All of them before anything follows from one.
        let found: Vec<Found> =
            numbers.clone().map(|slab| self.look_up(slab)).collect::<Result<_>>()?;
        let slabs = numbers.zip(found).map(|(slab, found)| self.load_slab(slab, found));
        self.extents[extent] = Some(slabs.collect());
        self.extents_loaded += 1;
        Ok(())
    }

    /// What the medium says of a slab.
    fn look_up(&self, slab: u64) -> Result<Found> {
        match record::read(&self.mem, slab, &self.committed) {
            Ok(found) => Ok(found.map_or(Found::Nothing, Found::Record)),
            Err(StoreError::Corrupt(_)) if !self.committed.is_fallback => Ok(Found::Damage),
            Err(error) => Err(error),
        }
    }

    fn load_slab(&mut self, slab: u64, found: Found) -> Slab {
        let found = match found {
            // Which of its blocks are free nobody knows: it counts as full. Scrubbing and `check` say
            // where it is.
            Found::Damage => {
                self.slabs_in_use += 1;
                return Slab::unreadable();
            }
            Found::Record(found) if found.bits.iter().any(|&word| word != 0) => found,
            _ => {
                self.free_slabs.insert(slab);
                return Slab::empty();
            }
        };
        let used: u32 = found.bits.iter().map(|word| word.count_ones()).sum();
        let listed = (used as usize) < record::capacity(found.class);
        if listed {
            self.classes[found.class as usize].partial.push(slab);
        }
        self.slabs_in_use += 1;
        Slab { class: found.class, used: used as u16, listed, bits: found.bits, ..Slab::empty() }
    }

    /// Slabs that the file may grow by. While it is longer than allowed, it may be as long as what is
    /// used and some more: what is there must be copied to be moved, or even to be deleted.
    fn slabs_to_grow_by(&self) -> u64 {
        let mut most = self.extents_allowed();
        if self.extents() > most {
            let used = self.usage().used_bytes.div_ceil(EXTENT) + EXTENTS_TO_MOVE_IN;
            let meanwhile = self.extents_meanwhile.min(self.extents_mapped_at_most);
            most = most.max(used.min(meanwhile));
        }
        most.saturating_sub(self.extents()) * SLABS_PER_EXTENT
    }

    /// Adds extents at the end of the file.
    fn grow(&mut self) -> Result<()> {
        let have = self.extents();
        let want = growth(have).min(self.slabs_to_grow_by() / SLABS_PER_EXTENT);
        if want == 0 {
            return Err(StoreError::Full);
        }
        let mut backed = Vec::with_capacity(2 * want as usize);
        // Those that are taken back have their space, and what lies there stays: backing may write zeros.
        for extent in have.max(self.counted_extents)..have + want {
            backed.push((records_at(extent), RECORDS_PER_EXTENT_BYTES));
            backed.push((extent_at(extent), EXTENT));
        }
        self.mem.grow(file_bytes(have + want), &backed)?;
        for extent in have..have + want {
            if extent < self.counted_extents {
                self.take_back(extent);
                continue;
            }
            // A crash may have left records of an epoch that was never committed here, and no
            // list of void epochs outlives a sweep of the extents that were. Nor do those count
            // that an extent had before it was cut off.
            self.wipe_records(extent)?;
            self.extents.push(None);
            self.load(extent as usize)?;
        }
        Ok(())
    }

    /// Adds an extent that was cut off and that a superblock still counts. Its newest records say
    /// that nothing is in it. They stay: of two copies that were wiped a crash might keep the older
    /// as it was, which says otherwise.
    fn take_back(&mut self, extent: u64) {
        let slabs = extent * SLABS_PER_EXTENT..(extent + 1) * SLABS_PER_EXTENT;
        self.free_slabs.extend(slabs);
        self.extents.push(Some((0..SLABS_PER_EXTENT).map(|_| Slab::empty()).collect()));
        self.extents_loaded += 1;
    }

    fn wipe_records(&self, extent: u64) -> Result<()> {
        let (at, len) = (records_at(extent), RECORDS_PER_EXTENT_BYTES as usize);
        // The committer may still be at the records of an extent cut off in the epoch it commits.
        let _records = self.mem.records.lock();
        if self.mem.bytes(at, len)?.iter().any(|&byte| byte != 0) {
            self.mem.store(at, &vec![0; len])?;
            self.mem.flush(at, len as u64);
            // The fence before the superblock that counts this extent is another thread's.
            self.mem.drain();
        }
        Ok(())
    }

    /// Bytes of slabs that blocks of any size can still be put in; as many as there can be while not
    /// all slabs have been looked at.
    pub fn free_slab_bytes(&self) -> u64 {
        if self.extents_loaded < self.extents() {
            return u64::MAX;
        }
        self.slabs_at_hand() * SLAB
    }

    /// Bytes that can still be allocated, at the least: what the pool may grow by and its free
    /// slabs.
    pub fn free_bytes(&self) -> u64 {
        let used = self.live_bytes + self.dead_bytes + self.kept_bytes;
        (self.extents_allowed() * EXTENT).saturating_sub(used)
    }
}

/// Extents added to a pool of `have`: few, for the writer waits while the kernel zeroes them.
fn growth(have: u64) -> u64 {
    (have / 64).clamp(1, 2)
}

/// Offset of a slab.
pub fn slab_at(slab: u64) -> u64 {
    extent_at(slab / SLABS_PER_EXTENT) + slab % SLABS_PER_EXTENT * SLAB
}

/// The slab that holds `offset`, and the offset within it.
pub fn slab_of(offset: u64) -> Option<(u64, u64)> {
    let offset = offset & OFFSET_MASK;
    let extent = extent_of(offset)?;
    let within = offset - extent_at(extent);
    Some((extent * SLABS_PER_EXTENT + within / SLAB, within % SLAB))
}
