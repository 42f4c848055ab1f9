//! The counted B+tree: entries of `K` key words and `V` value words in nodes of 512 bytes.
//!
//! An inner node's entries are the first key below a child, the child's offset, and what the
//! child's entries weigh, so that ranks cost one path. Nodes are full at a fixed number of entries
//! and join their neighbour when both fit in three quarters of one.
//!
//! It serves three kinds of trees. In most, keys are compared word by word. In others a key is
//! compared with a [`Probe`] that may read what the key points to: hence an inner node's keys are
//! always those of entries that are there, and a removal renews them on its way up. With `K` = 0
//! it is a *sequence*: an entry's place is all the key it has, and it weighs what the tag of its
//! first value word says; in the others every entry weighs 1.

mod walk;
mod way;
mod write;

#[cfg(test)]
mod tests;

pub use walk::InOrder;
pub use way::Probe;
pub use write::{Cut, Side};

use crate::error::{Result, StoreError};
use crate::heap::{Offset, expect};
use crate::layout::pool::btree::{NODE_LEN, WORDS};
use crate::layout::pool::{CHUNK_BYTES, HEADER, OFFSET_BITS, OFFSET_MASK, kind};
use crate::persist::Mem;
use way::Way;

/// Levels that no tree of 2^48 entries needs.
const LEVELS_MAX: usize = 24;

/// A B+tree with keys of `K` words and values of `V`.
pub struct Btree<const K: usize, const V: usize>;

/// What a walk does with an entry; `false` ends it.
pub type Visit<'a, const K: usize, const V: usize> =
    dyn FnMut(&[u64; K], &[u64; V]) -> Result<bool> + 'a;

/// What a walk by rank does with an entry and the rank it begins at; `false` ends it.
pub type VisitRanked<'a, const K: usize, const V: usize> =
    dyn FnMut(&[u64; K], &[u64; V], u64) -> Result<bool> + 'a;

/// An entry, and how far into it a rank lies: 0 but in sequences.
pub type Selected<const K: usize, const V: usize> = ([u64; K], [u64; V], u64);

/// A node while it is being read or changed.
#[derive(Clone, Copy)]
struct Node {
    at: Offset,
    leaf: bool,
    count: usize,
}

/// What a walk finds instead of a node when a tree's pointers go in a circle.
fn too_deep(at: Offset) -> StoreError {
    StoreError::corrupt("a tree deeper than any can be", at & OFFSET_MASK)
}

impl<const K: usize, const V: usize> Btree<K, V> {
    const LEAF_MAX: usize = WORDS / (K + V);
    const INNER_MAX: usize = WORDS / (K + 2);

    fn node(mem: &Mem, at: Offset) -> Result<Node> {
        mem.verify(at, NODE_LEN)?;
        let head = crate::heap::head(mem, at)?;
        let leaf = match head.kind {
            kind::TREE_LEAF => true,
            kind::TREE_INNER => false,
            other => {
                let what = format!("a block of kind {other} where a tree node should be");
                return Err(StoreError::corrupt(what, at));
            }
        };
        let node = Node { at, leaf, count: head.count as usize };
        let max = if leaf { Self::LEAF_MAX } else { Self::INNER_MAX };
        if node.count > max || (node.count == 0 && !leaf) {
            return Err(StoreError::corrupt(format!("a tree node of {} entries", node.count), at));
        }
        Ok(node)
    }

    fn width(leaf: bool) -> usize {
        if leaf { K + V } else { K + 2 }
    }

    fn word(node: &Node, index: usize, word: usize) -> Offset {
        node.at + (HEADER + (index * Self::width(node.leaf) + word) * 8) as u64
    }

    fn key(mem: &Mem, node: &Node, index: usize) -> Result<[u64; K]> {
        let mut key = [0; K];
        for (word, part) in key.iter_mut().enumerate() {
            *part = mem.word(Self::word(node, index, word))?;
        }
        Ok(key)
    }

    fn value(mem: &Mem, node: &Node, index: usize) -> Result<[u64; V]> {
        let mut value = [0; V];
        for (word, part) in value.iter_mut().enumerate() {
            *part = mem.word(Self::word(node, index, K + word))?;
        }
        Ok(value)
    }

    fn entry(mem: &Mem, leaf: &Node, index: usize) -> Result<([u64; K], [u64; V])> {
        Ok((Self::key(mem, leaf, index)?, Self::value(mem, leaf, index)?))
    }

    fn child(mem: &Mem, node: &Node, index: usize) -> Result<Offset> {
        Ok(mem.word(Self::word(node, index, K))? & OFFSET_MASK)
    }

    /// What an entry, of a leaf or of an inner node, weighs.
    #[inline]
    fn weight(mem: &Mem, node: &Node, index: usize) -> Result<u64> {
        match (node.leaf, K) {
            (false, _) => mem.word(Self::word(node, index, K + 1)),
            (true, 0) => Ok(mem.word(Self::word(node, index, 0))? >> OFFSET_BITS),
            (true, _) => Ok(1),
        }
    }

    /// What all entries of `node` weigh.
    fn total(mem: &Mem, node: &Node) -> Result<u64> {
        if node.leaf && K > 0 {
            return Ok(node.count as u64);
        }
        (0..node.count)
            .try_fold(0u64, |total, index| Ok(total.wrapping_add(Self::weight(mem, node, index)?)))
    }

    /// First index whose key is not below what is sought, and whether it is just that.
    fn lower_bound<P: Probe<K>>(mem: &Mem, node: &Node, probe: &P) -> Result<(usize, bool)> {
        let (mut low, mut high, mut exact) = (0, node.count, false);
        while low < high {
            let middle = (low + high) / 2;
            let stands = probe.compare(mem, &Self::key(mem, node, middle)?)?;
            if stands.is_lt() {
                low = middle + 1;
            } else {
                (high, exact) = (middle, stands.is_eq());
            }
        }
        Ok((low, exact))
    }

    /// The child to go to for what is sought: the last whose first key is not above it.
    fn child_for<P: Probe<K>>(mem: &Mem, node: &Node, probe: &P) -> Result<usize> {
        let (at, exact) = Self::lower_bound(mem, node, probe)?;
        Ok(if exact { at } else { at.saturating_sub(1) })
    }

    /// The value of `key` below `root` (0: an empty tree).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a node on the way is not what it should be.
    pub fn get(mem: &Mem, root: Offset, key: &[u64; K]) -> Result<Option<[u64; V]>> {
        Ok(Self::find(mem, root, &mut way::ByKey(key))?.map(|(_, value)| value))
    }

    /// The entry that `probe` seeks.
    ///
    /// # Errors
    /// As [`Btree::get`].
    pub fn get_by<P: Probe<K>>(
        mem: &Mem,
        root: Offset,
        probe: &P,
    ) -> Result<Option<([u64; K], [u64; V])>> {
        Self::find(mem, root, &mut way::ByKey(probe))
    }

    /// The entry that `rank` lies in, and how far into it.
    ///
    /// # Errors
    /// As [`Btree::get`].
    pub fn select(mem: &Mem, root: Offset, rank: u64) -> Result<Option<Selected<K, V>>> {
        let mut way = way::AtRank(rank);
        let found = Self::find(mem, root, &mut way)?;
        Ok(found.map(|(key, value)| (key, value, way.0)))
    }

    /// Calls `meet` with each node on the way to where `key` belongs, and its length.
    ///
    /// # Errors
    /// As [`Btree::get`].
    pub(crate) fn way(
        mem: &Mem,
        root: Offset,
        key: &[u64; K],
        mut meet: impl FnMut(Offset, usize),
    ) -> Result<()> {
        let mut at = root & OFFSET_MASK;
        for _ in 0..LEVELS_MAX {
            if at == 0 {
                return Ok(());
            }
            meet(at, NODE_LEN);
            let node = Self::node(mem, at)?;
            if node.leaf {
                return Ok(());
            }
            let index = Way::<K, V>::child(&mut way::ByKey(key), mem, &node)?;
            at = Self::child(mem, &node, index)?;
        }
        Err(too_deep(root))
    }

    fn find(
        mem: &Mem,
        root: Offset,
        way: &mut impl Way<K, V>,
    ) -> Result<Option<([u64; K], [u64; V])>> {
        let mut at = root & OFFSET_MASK;
        for _ in 0..LEVELS_MAX {
            if at == 0 {
                return Ok(None);
            }
            let node = Self::node(mem, at)?;
            if node.leaf {
                let (index, there) = way.slot(mem, &node)?;
                return if there { Self::entry(mem, &node, index).map(Some) } else { Ok(None) };
            }
            at = Self::child(mem, &node, way.child(mem, &node)?)?;
        }
        Err(too_deep(root))
    }

    /// The first entry whose key is at least `key`.
    ///
    /// # Errors
    /// As [`Btree::get`].
    pub fn seek(mem: &Mem, root: Offset, key: &[u64; K]) -> Result<Option<([u64; K], [u64; V])>> {
        let mut at = root & OFFSET_MASK;
        // The neighbour to the right at the lowest level that has one: where to go on when the
        // leaf ends before `key`.
        let mut right = 0;
        for _ in 0..LEVELS_MAX {
            if at == 0 {
                return Ok(None);
            }
            let node = Self::node(mem, at)?;
            if !node.leaf {
                let index = Self::child_for(mem, &node, key)?;
                if index + 1 < node.count {
                    right = Self::child(mem, &node, index + 1)?;
                }
                at = Self::child(mem, &node, index)?;
                continue;
            }
            let (index, _) = Self::lower_bound(mem, &node, key)?;
            if index < node.count {
                return Self::entry(mem, &node, index).map(Some);
            }
            (at, right) = (right, 0);
        }
        Err(too_deep(root))
    }

    /// What the entries of the tree weigh: their number, but in sequences.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the root is not a tree node.
    pub fn len(mem: &Mem, root: Offset) -> Result<u64> {
        match root & OFFSET_MASK {
            0 => Ok(0),
            at => Self::total(mem, &Self::node(mem, at)?),
        }
    }

    /// Entries below what is sought.
    ///
    /// # Errors
    /// As [`Btree::get`].
    pub fn rank<P: Probe<K>>(mem: &Mem, root: Offset, probe: &P) -> Result<u64> {
        Ok(Self::place(mem, root, probe)?.0)
    }

    /// Entries below what is sought, if that is there.
    ///
    /// # Errors
    /// As [`Btree::get`].
    pub fn rank_of<P: Probe<K>>(mem: &Mem, root: Offset, probe: &P) -> Result<Option<u64>> {
        let (rank, there) = Self::place(mem, root, probe)?;
        Ok(there.then_some(rank))
    }

    fn place<P: Probe<K>>(mem: &Mem, root: Offset, probe: &P) -> Result<(u64, bool)> {
        let (mut at, mut rank) = (root & OFFSET_MASK, 0u64);
        for _ in 0..LEVELS_MAX {
            if at == 0 {
                return Ok((rank, false));
            }
            let node = Self::node(mem, at)?;
            if node.leaf {
                let (index, there) = Self::lower_bound(mem, &node, probe)?;
                return Ok((rank.wrapping_add(index as u64), there));
            }
            let index = Self::child_for(mem, &node, probe)?;
            for before in 0..index {
                rank = rank.wrapping_add(Self::weight(mem, &node, before)?);
            }
            at = Self::child(mem, &node, index)?;
        }
        Err(too_deep(root))
    }
}

/// Checks that the block at `at` is a chunk and returns how many bytes it holds.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not.
pub fn chunk_len(mem: &Mem, at: Offset) -> Result<usize> {
    let len = expect(mem, at, kind::CHUNK, "a chunk")?.count as usize;
    if len > CHUNK_BYTES {
        return Err(StoreError::corrupt("a chunk longer than any can be", at));
    }
    mem.verify(at, HEADER + len)?;
    Ok(len)
}
