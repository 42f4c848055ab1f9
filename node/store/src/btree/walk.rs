//! Walking a tree: from a key upwards, from a rank in either direction, and whole, to check it.

use super::way::{AtRank, Way};
use super::{Btree, LEVELS_MAX, Node, Visit, VisitRanked, too_deep};
use crate::error::{Result, StoreError};
use crate::heap::Offset;
use crate::layout::pool::OFFSET_MASK;
use crate::persist::Mem;

/// How many entries ahead of itself a walk fetches what they point to.
const AHEAD: usize = 8;

/// In what order two keys stand; what they point to may be read.
pub type InOrder<'a, const K: usize> =
    dyn Fn(&Mem, &[u64; K], &[u64; K]) -> Result<std::cmp::Ordering> + 'a;

/// A part of a leaf.
pub(crate) struct LeafAt<const V: usize> {
    /// Where entries begin, and their values.
    pub(crate) entries: Vec<(u64, [u64; V])>,
    /// Where the next leaf begins.
    pub(crate) next: u64,
}

impl<const K: usize, const V: usize> Btree<K, V> {
    /// Visits entries in order from the first at or above `from` until `visit` says to stop.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a node is not what it should be; what `visit` returns.
    pub fn visit(
        mem: &Mem,
        root: Offset,
        from: &[u64; K],
        visit: &mut Visit<'_, K, V>,
    ) -> Result<()> {
        match root & OFFSET_MASK {
            0 => Ok(()),
            at => Self::visit_node(mem, at, from, visit, 0).map(|_| ()),
        }
    }

    fn visit_node(
        mem: &Mem,
        at: Offset,
        from: &[u64; K],
        visit: &mut Visit<'_, K, V>,
        level: usize,
    ) -> Result<bool> {
        let node = Self::node(mem, at)?;
        if level > LEVELS_MAX {
            return Err(too_deep(at));
        }
        if node.leaf {
            for index in Self::lower_bound(mem, &node, from)?.0..node.count {
                let (key, value) = Self::entry(mem, &node, index)?;
                if !visit(&key, &value)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for index in Self::child_for(mem, &node, from)?..node.count {
            let child = Self::child(mem, &node, index)?;
            if !Self::visit_node(mem, child, from, visit, level + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Visits entries from the one that rank `from` lies in upwards, or with `reverse` downwards
    /// (beginning with the last when `from` lies behind it), until `visit` says to stop. The last
    /// words of entries must be pointers: what they point to is fetched ahead.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a node is not what it should be; what `visit` returns.
    pub fn walk(
        mem: &Mem,
        root: Offset,
        from: u64,
        reverse: bool,
        visit: &mut VisitRanked<'_, K, V>,
    ) -> Result<()> {
        match root & OFFSET_MASK {
            0 => Ok(()),
            at => Self::walk_node(mem, at, (0, from), reverse, visit, 0).map(|_| ()),
        }
    }

    /// Walks the node that begins at rank `begin`.
    fn walk_node(
        mem: &Mem,
        at: Offset,
        (begin, from): (u64, u64),
        reverse: bool,
        visit: &mut VisitRanked<'_, K, V>,
        level: usize,
    ) -> Result<bool> {
        let node = Self::node(mem, at)?;
        if level > LEVELS_MAX {
            return Err(too_deep(at));
        }
        let Some((mut index, mut rank)) = Self::enter(mem, &node, begin, from, reverse)? else {
            return Ok(true);
        };
        for ahead in 0..AHEAD {
            Self::fetch(mem, &node, index, ahead, reverse);
        }
        loop {
            Self::fetch(mem, &node, index, AHEAD, reverse);
            let go_on = if node.leaf {
                let (key, value) = Self::entry(mem, &node, index)?;
                visit(&key, &value, rank)?
            } else {
                let child = Self::child(mem, &node, index)?;
                Self::walk_node(mem, child, (rank, from), reverse, visit, level + 1)?
            };
            if !go_on {
                return Ok(false);
            }
            if reverse {
                if index == 0 {
                    return Ok(true);
                }
                index -= 1;
                rank = rank.wrapping_sub(Self::weight(mem, &node, index)?);
            } else {
                rank = rank.wrapping_add(Self::weight(mem, &node, index)?);
                index += 1;
                if index == node.count {
                    return Ok(true);
                }
            }
        }
    }

    /// The entry a walk begins with, and its rank: the one `from` lies in, or the nearest.
    fn enter(
        mem: &Mem,
        node: &Node,
        begin: u64,
        from: u64,
        reverse: bool,
    ) -> Result<Option<(usize, u64)>> {
        let mut rank = begin;
        for index in 0..node.count {
            let end = rank.wrapping_add(Self::weight(mem, node, index)?);
            if from < end || (reverse && index + 1 == node.count) {
                return Ok(Some((index, rank)));
            }
            rank = end;
        }
        Ok(None)
    }

    /// Fetches what the entry `ahead` of `index` points to.
    fn fetch(mem: &Mem, node: &Node, index: usize, ahead: usize, reverse: bool) {
        let target = if reverse { index.checked_sub(ahead) } else { Some(index + ahead) };
        let Some(target) = target.filter(|&target| target < node.count) else { return };
        let word = if node.leaf { K + V - 1 } else { K };
        if let Ok(pointer) = mem.word(Self::word(node, target, word)) {
            mem.prefetch(pointer & OFFSET_MASK);
        }
    }

    /// The leaf that `rank` lies in: its entries from there on; `None` behind the last. `block` is
    /// shown the nodes on the way, the leaf included.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a node is not what it should be.
    pub(crate) fn leaf_at(
        mem: &Mem,
        root: Offset,
        rank: u64,
        mut block: impl FnMut(Offset),
    ) -> Result<Option<LeafAt<V>>> {
        let (mut at, mut way) = (root & OFFSET_MASK, AtRank(rank));
        for _ in 0..LEVELS_MAX {
            if at == 0 {
                return Ok(None);
            }
            block(at);
            let node = Self::node(mem, at)?;
            if node.leaf {
                return Self::entries_from(mem, &node, rank - way.0, rank);
            }
            at = Self::child(mem, &node, Way::<K, V>::child(&mut way, mem, &node)?)?;
        }
        Err(too_deep(root))
    }

    /// The entries of a leaf that begins at rank `begin`, from `rank` on.
    fn entries_from(mem: &Mem, leaf: &Node, begin: u64, rank: u64) -> Result<Option<LeafAt<V>>> {
        let (mut entries, mut next) = (Vec::with_capacity(leaf.count), begin);
        for index in 0..leaf.count {
            let start = next;
            next = next.wrapping_add(Self::weight(mem, leaf, index)?);
            if next > rank {
                entries.push((start, Self::value(mem, leaf, index)?));
            }
        }
        Ok((next > rank).then_some(LeafAt { entries, next }))
    }

    /// Checks order, weights and depth below `root`, calling `block` with every node; returns
    /// what the entries weigh.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the first node that breaks an invariant.
    pub fn check(
        mem: &Mem,
        root: Offset,
        block: &mut dyn FnMut(Offset) -> Result<()>,
    ) -> Result<u64> {
        Self::check_by(mem, root, &|_, a, b| Ok(a.cmp(b)), block)
    }

    /// As [`Btree::check`], with an order of the keys' own.
    ///
    /// # Errors
    /// As [`Btree::check`].
    pub fn check_by(
        mem: &Mem,
        root: Offset,
        order: &InOrder<'_, K>,
        block: &mut dyn FnMut(Offset) -> Result<()>,
    ) -> Result<u64> {
        match root & OFFSET_MASK {
            0 => Ok(0),
            at => Self::check_node(mem, at, (None, &mut None), order, block, 0),
        }
    }

    /// `first` is the key that the node above says this one begins with, `last` the key before.
    fn check_node(
        mem: &Mem,
        at: Offset,
        (first, last): (Option<[u64; K]>, &mut Option<[u64; K]>),
        order: &InOrder<'_, K>,
        block: &mut dyn FnMut(Offset) -> Result<()>,
        level: usize,
    ) -> Result<u64> {
        let node = Self::node(mem, at)?;
        block(at)?;
        if level > LEVELS_MAX || node.count == 0 {
            return Err(StoreError::corrupt("a tree node that should not be", at));
        }
        if first.is_some_and(|first| Self::key(mem, &node, 0).ok() != Some(first)) {
            return Err(StoreError::corrupt("a tree node that begins with another key", at));
        }
        let mut total = 0u64;
        for index in 0..node.count {
            let key = Self::key(mem, &node, index)?;
            let weight = Self::weight(mem, &node, index)?;
            if node.leaf {
                let sorted = match last {
                    Some(last) if K > 0 => order(mem, last, &key)?.is_lt(),
                    _ => true,
                };
                if !sorted || weight == 0 {
                    return Err(StoreError::corrupt("a tree node out of order", at));
                }
                *last = Some(key);
            } else {
                let child = Self::child(mem, &node, index)?;
                let parts = (Some(key), &mut *last);
                if Self::check_node(mem, child, parts, order, block, level + 1)? != weight {
                    return Err(StoreError::corrupt("a tree node with a wrong count", at));
                }
            }
            total = total.wrapping_add(weight);
        }
        Ok(total)
    }
}
