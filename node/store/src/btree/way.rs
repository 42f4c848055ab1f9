//! Ways down a tree: by key, to the entry at a rank, or to the gap before it.

use super::{Btree, Node};
use crate::error::Result;
use crate::persist::Mem;
use std::cmp::Ordering;

/// What is sought in a tree.
pub trait Probe<const K: usize> {
    /// How `key`, which is in the tree, stands to what is sought.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when what the key points to is not what it should be.
    fn compare(&self, mem: &Mem, key: &[u64; K]) -> Result<Ordering>;
}

/// Keys that are compared word by word.
impl<const K: usize> Probe<K> for [u64; K] {
    #[inline]
    fn compare(&self, _: &Mem, key: &[u64; K]) -> Result<Ordering> {
        Ok(key.cmp(self))
    }
}

/// Where to go on at each node of a path.
pub(super) trait Way<const K: usize, const V: usize> {
    /// The child of an inner node to go on in.
    fn child(&mut self, mem: &Mem, node: &Node) -> Result<usize>;

    /// The place in a leaf, and whether the entry there is the one meant.
    fn slot(&mut self, mem: &Mem, leaf: &Node) -> Result<(usize, bool)>;
}

/// To the entry of a key, or where it would be.
pub(super) struct ByKey<'a, P>(pub &'a P);

impl<const K: usize, const V: usize, P: Probe<K>> Way<K, V> for ByKey<'_, P> {
    fn child(&mut self, mem: &Mem, node: &Node) -> Result<usize> {
        Btree::<K, V>::child_for(mem, node, self.0)
    }

    fn slot(&mut self, mem: &Mem, leaf: &Node) -> Result<(usize, bool)> {
        Btree::<K, V>::lower_bound(mem, leaf, self.0)
    }
}

/// To the entry that a rank lies in; what is left is how far into it.
pub(super) struct AtRank(pub u64);

impl<const K: usize, const V: usize> Way<K, V> for AtRank {
    fn child(&mut self, mem: &Mem, node: &Node) -> Result<usize> {
        for index in 0..node.count - 1 {
            let weight = Btree::<K, V>::weight(mem, node, index)?;
            if self.0 < weight {
                return Ok(index);
            }
            self.0 -= weight;
        }
        Ok(node.count - 1)
    }

    fn slot(&mut self, mem: &Mem, leaf: &Node) -> Result<(usize, bool)> {
        for index in 0..leaf.count {
            let weight = Btree::<K, V>::weight(mem, leaf, index)?;
            if self.0 < weight {
                return Ok((index, true));
            }
            self.0 -= weight;
        }
        Ok((leaf.count, false))
    }
}

/// To the gap before a rank at which an entry begins, or at the end. It is looked for behind the
/// entry on its left, so that a leaf that split there goes on filling.
pub(super) struct BeforeRank(pub u64);

impl<const K: usize, const V: usize> Way<K, V> for BeforeRank {
    fn child(&mut self, mem: &Mem, node: &Node) -> Result<usize> {
        for index in 0..node.count - 1 {
            let weight = Btree::<K, V>::weight(mem, node, index)?;
            if self.0 <= weight {
                return Ok(index);
            }
            self.0 -= weight;
        }
        Ok(node.count - 1)
    }

    fn slot(&mut self, mem: &Mem, leaf: &Node) -> Result<(usize, bool)> {
        for index in 0..leaf.count {
            if self.0 == 0 {
                return Ok((index, false));
            }
            let weight = Btree::<K, V>::weight(mem, leaf, index)?;
            self.0 = self.0.saturating_sub(weight);
        }
        Ok((leaf.count, false))
    }
}
