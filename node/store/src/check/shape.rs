//! What a pool is made of, counted while it is checked: for `cairn inspect`.

use crate::blob::{Encoding, Type};
use crate::layout::pool::{CLASS_BYTES, SLAB, kind, trie};
use std::collections::BTreeMap;

/// Steps from a slot to a leaf that are told apart; deeper ones count as the last.
pub const DEPTHS: usize = 12;

/// Blocks of one sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub blocks: u64,
    /// Bytes that they need.
    pub used_bytes: u64,
    /// Bytes of the places they take: their size classes'.
    pub bytes: u64,
}

/// A database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseShape {
    /// Its number; 16 holds what is staged of long values.
    pub db: u16,
    /// Hash slots with keys in them.
    pub slots: u64,
    /// Keys.
    pub keys: u64,
    /// Keys with a deadline, which the expiry tree holds too.
    pub deadlines: u64,
    /// Bytes of keys and values, as they are counted for the limit.
    pub bytes: u64,
}

/// Keys of one type and encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeShape {
    /// How many.
    pub keys: u64,
    /// Of those, how many are trees of their own, and not packed into their key's block.
    pub trees: u64,
    /// Elements of those.
    pub tree_elements: u64,
    /// Bytes of keys and values, as they are counted for the limit.
    pub bytes: u64,
}

/// The slabs of one size class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassUse {
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Slabs given to the class.
    pub slabs: u64,
    /// Blocks that fit in them.
    pub capacity: u64,
    /// Blocks that the live data needs, dropped trees among them.
    pub live: u64,
    /// Blocks that only snapshots need.
    pub kept: u64,
    /// Blocks that nothing needs and that are not free: lost until `check` is heeded.
    pub leaked: u64,
}

impl ClassUse {
    /// Blocks that can be allocated.
    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.live + self.kept + self.leaked)
    }

    /// Bytes of the slabs.
    pub fn slab_bytes(&self) -> u64 {
        self.slabs * SLAB
    }
}

/// What a pool is made of.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// Databases that hold keys.
    pub databases: Vec<DatabaseShape>,
    /// Keys by type and encoding, as bytes of the format.
    pub types: BTreeMap<(u8, u8), TypeShape>,
    /// Live blocks by kind.
    pub kinds: [Tally; 16],
    /// Of those, blocks of trees that were dropped and wait to be freed.
    pub dropped: Tally,
    /// Keys by the steps from their slot to their leaf.
    pub depths: [u64; DEPTHS],
    /// Leaves of keys' tries by their number of entries.
    pub leaf_fill: [u64; trie::LEAF_ENTRIES + 1],
    /// Slabs by class, those in use alone.
    pub classes: Vec<ClassUse>,
    /// Slabs that no class has.
    pub free_slabs: u64,
}

impl Shape {
    /// Bytes of slabs that some class has.
    pub fn slab_bytes(&self) -> u64 {
        self.classes.iter().map(ClassUse::slab_bytes).sum()
    }

    /// Mean number of entries of a leaf of keys.
    pub fn mean_leaf_fill(&self) -> f64 {
        let leaves: u64 = self.leaf_fill.iter().sum();
        let entries: u64 =
            (0..).zip(&self.leaf_fill).map(|(entries, leaves)| entries * leaves).sum();
        entries as f64 / leaves.max(1) as f64
    }

    pub(super) fn block(&mut self, kind: u8, used_bytes: usize, bytes: usize, dropped: bool) {
        let kinds = self.kinds.get_mut(kind as usize);
        for tally in kinds.into_iter().chain(dropped.then_some(&mut self.dropped)) {
            tally.blocks += 1;
            tally.used_bytes += used_bytes as u64;
            tally.bytes += bytes as u64;
        }
    }

    pub(super) fn leaf(&mut self, entries: usize, depth: usize) {
        self.leaf_fill[entries.min(trie::LEAF_ENTRIES)] += 1;
        self.depths[depth.min(DEPTHS - 1)] += entries as u64;
    }

    pub(super) fn key(&mut self, ty: Type, encoding: Encoding, bytes: u64, elements: Option<u64>) {
        let shape = self.types.entry((ty as u8, encoding as u8)).or_default();
        shape.keys += 1;
        shape.bytes += bytes;
        shape.trees += u64::from(elements.is_some());
        shape.tree_elements += elements.unwrap_or(0);
    }

    /// The class at `class`, counted in from now on.
    pub(super) fn class(&mut self, class: u8) -> &mut ClassUse {
        let block_bytes = u64::from(CLASS_BYTES[class as usize]);
        let at = match self.classes.binary_search_by_key(&block_bytes, |class| class.block_bytes) {
            Ok(at) => at,
            Err(at) => {
                self.classes.insert(at, ClassUse { block_bytes, ..ClassUse::default() });
                at
            }
        };
        &mut self.classes[at]
    }
}

/// What people call a kind of block.
pub fn kind_name(kind: usize) -> &'static str {
    const NAMES: [(u8, &str); 15] = [
        (kind::ROOT, "root"),
        (kind::SLOTS_HIGH, "slots, upper level"),
        (kind::SLOTS_LOW, "slots, lower level"),
        (kind::DIRECTORY, "trie directories"),
        (kind::LEAF, "trie leaves"),
        (kind::BLOB, "blobs: keys, members, values"),
        (kind::CHUNK, "chunks of long values"),
        (kind::TREE_LEAF, "B+tree leaves"),
        (kind::TREE_INNER, "B+tree inner nodes"),
        (kind::DROPPED, "lists of dropped trees"),
        (kind::LIST_CHUNK, "chunks of lists"),
        (kind::CATALOGUE, "catalogue of snapshots"),
        (kind::SNAPSHOT, "snapshots"),
        (kind::KEPT, "lists of kept blocks"),
        (kind::GARBAGE, "garbage of snapshots"),
    ];
    NAMES.iter().find(|(number, _)| usize::from(*number) == kind).map_or("unknown", |(_, n)| *n)
}

/// The name of a type, as TYPE answers it.
pub fn type_name(ty: u8) -> &'static str {
    const NAMES: [(Type, &str); 6] = [
        (Type::String, "string"),
        (Type::List, "list"),
        (Type::Set, "set"),
        (Type::ZSet, "zset"),
        (Type::Hash, "hash"),
        (Type::Stream, "stream"),
    ];
    NAMES.iter().find(|(known, _)| *known as u8 == ty).map_or("unknown", |(_, name)| *name)
}

/// The name of an encoding, as OBJECT ENCODING answers it.
pub fn encoding_name(encoding: u8) -> &'static str {
    const NAMES: [(Encoding, &str); 9] = [
        (Encoding::Raw, "raw"),
        (Encoding::Int, "int"),
        (Encoding::Embstr, "embstr"),
        (Encoding::Listpack, "listpack"),
        (Encoding::Quicklist, "quicklist"),
        (Encoding::Hashtable, "hashtable"),
        (Encoding::Intset, "intset"),
        (Encoding::Skiplist, "skiplist"),
        (Encoding::Stream, "stream"),
    ];
    NAMES.iter().find(|(known, _)| *known as u8 == encoding).map_or("unknown", |(_, name)| *name)
}
