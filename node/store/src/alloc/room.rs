//! Whether what is yet to be written will find room, asked before it is agreed on: an operation of
//! the log that runs out of room in its middle stops its replica.
//!
//! The answer errs on the safe side. Each size of block may need a slab of its own, so what counts
//! is free slabs, not free bytes; what has died counts only when its place is free again.

use super::{Alloc, LOADS_A_TRY, SLABS_A_CHANGE, Slab, record};
use crate::error::Result;
use crate::layout::pool::{
    BLOCK_MAX, CLASS_BY_WORDS, CLASS_BYTES, HEADER, SLAB, SLABS_PER_EXTENT, btree, list, root,
    slots, trie,
};

/// What operations may take from a pool, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Bytes of blocks.
    pub bytes: u64,
    /// The classes that the blocks may be of, a bit each.
    classes: u128,
}

impl Demand {
    /// So many bytes, in blocks of whatever sizes.
    pub const fn of_any_size(bytes: u64) -> Demand {
        Demand { bytes, classes: (1 << CLASS_BYTES.len()) - 1 }
    }

    /// So many bytes, in blocks of such lengths; in chunks where those are longer than a block.
    pub fn of_lengths(bytes: u64, lengths: std::ops::RangeInclusive<u64>) -> Demand {
        let class = |len: u64| CLASS_BY_WORDS[len.min(BLOCK_MAX as u64).div_ceil(8) as usize];
        let (from, to) = (class(*lengths.start()), class(*lengths.end()));
        let mut classes = (from..=to).fold(0, |mask, class| mask | 1 << class);
        if *lengths.end() > BLOCK_MAX as u64 {
            // The last chunk has whatever length is left.
            let rest = |len: u64| len % (BLOCK_MAX - HEADER) as u64 + HEADER as u64;
            let (from, to) = (class(rest(*lengths.start())), class(rest(*lengths.end())));
            let all = (1 << CLASS_BYTES.len()) - 1;
            let is_whole = to < from || lengths.end() - lengths.start() > SLAB;
            classes |= 1 << class(BLOCK_MAX as u64) | NODES;
            classes |= if is_whole { all } else { (from..=to).fold(0, |mask, at| mask | 1 << at) };
        }
        Demand { bytes, classes }
    }

    /// So many bytes, in nodes of trees and tables.
    pub const fn of_nodes(bytes: u64) -> Demand {
        Demand { bytes, classes: NODES }
    }

    /// One block of that length.
    pub fn of_block(len: usize) -> Demand {
        let class = CLASS_BY_WORDS[len.div_ceil(8)];
        Demand { bytes: u64::from(CLASS_BYTES[class as usize]), classes: 1 << class }
    }

    /// What two need together.
    #[must_use]
    pub fn and(self, other: Demand) -> Demand {
        let bytes = self.bytes.saturating_add(other.bytes);
        Demand { bytes, classes: self.classes | other.classes }
    }
}

/// The classes of the blocks that lead to keys and members, and of those that are noted as dropped.
const NODES: u128 = {
    let lengths = [
        root::LEN,
        slots::HIGH_LEN,
        slots::LOW_LEN,
        trie::LEAF_LEN,
        trie::directory_len(1),
        trie::directory_len(2),
        trie::directory_len(3),
        trie::directory_len(4),
        trie::directory_len(5),
        trie::directory_len(6),
        btree::NODE_LEN,
        list::LEN,
    ];
    let (mut classes, mut at) = (0, 0);
    while at < lengths.len() {
        classes |= 1 << CLASS_BY_WORDS[lengths[at].div_ceil(8)];
        at += 1;
    }
    classes
};

/// What must be left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spare {
    /// Nothing: for what frees a whole database or a snapshot, and takes next to nothing.
    None,
    /// Enough to drop a snapshot, if there are any: for what frees.
    Snapshots,
    /// Enough for one change of any kind.
    AChange,
    /// That, and enough to free something under copy-on-write.
    Deletes,
}

/// Slabs kept for deletes beyond those that a change may need.
const SLABS_FOR_DELETES: u64 = 8;
/// Slabs kept for the dropping of snapshots while there are any, beyond all others: under them a
/// delete may take room for good, and only that gives it back.
pub(crate) const SLABS_FOR_SNAPSHOTS: u64 = 12;
/// Extents up to which it is worth to look how much room the slabs of each class have.
const EXTENTS_LOOKED_AT: u64 = 512;

impl Spare {
    fn slabs(self) -> u64 {
        match self {
            Spare::None | Spare::Snapshots => 0,
            Spare::AChange => SLABS_A_CHANGE as u64,
            Spare::Deletes => SLABS_A_CHANGE as u64 + SLABS_FOR_DELETES,
        }
    }
}

/// What there is room for at one moment.
#[derive(Debug, Clone)]
pub struct RoomLeft {
    /// Slabs that blocks of any size can be put in.
    slabs: u64,
    /// What the slabs of each class have room for beside those.
    by_class: [u64; CLASS_BYTES.len()],
    /// Slabs of an empty pool.
    slabs_ever: u64,
    /// Slabs that are left to the dropping of snapshots.
    held: u64,
}

impl RoomLeft {
    /// Whether `demand` finds room, and what is `spare` is left then.
    pub fn takes(&self, demand: &Demand, spare: Spare) -> bool {
        self.short_bytes(demand, spare) == 0
    }

    /// What is missing for `demand`, in bytes of slabs.
    pub fn short_bytes(&self, demand: &Demand, spare: Spare) -> u64 {
        let lacks =
            |(class, room): (usize, &u64)| demand.classes & 1 << class != 0 && *room < demand.bytes;
        let lacking = self.by_class.iter().enumerate().filter(|&class| lacks(class)).count();
        let slabs = least_slabs(demand, spare, self.held) + lacking as u64;
        slabs.saturating_sub(self.slabs) * SLAB
    }

    /// Whether it would find room in an empty pool.
    pub fn ever_takes(&self, demand: &Demand, spare: Spare) -> bool {
        self.slabs_ever >= most_slabs(demand, spare, self.held)
    }
}

/// Slabs for `demand`, were its blocks of one size, beside those `held` for snapshots.
fn least_slabs(demand: &Demand, spare: Spare, held: u64) -> u64 {
    // A slab's end is lost when its blocks do not divide it.
    let slabs = demand.bytes.div_ceil(SLAB);
    let held = if spare == Spare::None { 0 } else { held };
    spare.slabs() + held + slabs + slabs / 16
}

/// Slabs for it, if no slab in use has room.
fn most_slabs(demand: &Demand, spare: Spare, held: u64) -> u64 {
    least_slabs(demand, spare, held) + u64::from(demand.classes.count_ones())
}

impl Alloc {
    /// Slabs that blocks of any size can be put in for sure: free ones of the extents that were
    /// looked at, and those that the file may grow by.
    pub(crate) fn slabs_at_hand(&self) -> u64 {
        self.slabs_to_grow_by() + self.free_slabs.len() as u64
    }

    /// Whether `demand` finds room in free slabs alone, and what is `spare` is left then.
    #[inline]
    pub(crate) fn has_plenty(&self, demand: &Demand, spare: Spare) -> bool {
        self.slabs_at_hand() >= most_slabs(demand, spare, self.held_slabs)
    }

    /// What there is room for. In a large pool what the slabs in use have room for is left out.
    pub(crate) fn room_left(&self) -> RoomLeft {
        let mut by_class = [0; CLASS_BYTES.len()];
        if self.extents() <= EXTENTS_LOOKED_AT {
            for slab in self.extents.iter().flatten().flat_map(|extent| extent.iter()) {
                if let Some((class, free)) = open_room(slab) {
                    by_class[class] += free;
                }
            }
        }
        let slabs_ever = self.extents_allowed() * SLABS_PER_EXTENT;
        RoomLeft { slabs: self.slabs_at_hand(), by_class, slabs_ever, held: self.held_slabs }
    }

    /// Whether there are places for `count` more blocks of `len` bytes in slabs of their class.
    pub(crate) fn has_places(&self, len: usize, count: usize) -> bool {
        let class = Self::class_of(len);
        let of_class = &self.classes[class];
        let mut places = 0;
        for &slab in of_class.current.iter().chain(of_class.partial.iter().rev()) {
            let extent = self.extents.get((slab / SLABS_PER_EXTENT) as usize);
            let extent = extent.and_then(Option::as_ref);
            // The list may be out of date.
            let state = extent.map(|slabs| &slabs[(slab % SLABS_PER_EXTENT) as usize]);
            if let Some(state) = state.filter(|state| state.class as usize == class) {
                places += open_room(state).map_or(0, |(_, bytes)| bytes as usize);
            }
            if places >= count * CLASS_BYTES[class] as usize {
                return true;
            }
        }
        false
    }

    /// Has so many slabs at hand if there are, by looking at some extents that were not looked at
    /// yet; says whether it has.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when the records of an extent are damaged.
    pub(crate) fn has_slabs(&mut self, slabs: u64) -> Result<bool> {
        for _ in 0..LOADS_A_TRY {
            if self.slabs_at_hand() >= slabs || !self.load_next()? {
                break;
            }
        }
        Ok(self.slabs_at_hand() >= slabs)
    }

    /// Has what lies in extents that were not looked at yet counted among the slabs at hand, until
    /// `demand` finds room or all are known; says whether it does.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when the records of an extent are damaged.
    pub(crate) fn look_for_room(&mut self, demand: &Demand, spare: Spare) -> Result<bool> {
        while !self.has_plenty(demand, spare) {
            if !self.load_next()? {
                return Ok(self.room_left().takes(demand, spare));
            }
        }
        Ok(true)
    }
}

/// The class of a slab, and what can be put in it still.
fn open_room(slab: &Slab) -> Option<(usize, u64)> {
    let class = (!slab.leaving).then(|| CLASS_BYTES.get(slab.class as usize)).flatten()?;
    let free = record::capacity(slab.class) - slab.used as usize;
    Some((slab.class as usize, free as u64 * u64::from(*class)))
}
