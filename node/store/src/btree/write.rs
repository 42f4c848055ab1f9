//! Changing a tree. A path is owned on the way down and set right on the way up.

use super::way::{AtRank, BeforeRank, ByKey, Way};
use super::{Btree, LEVELS_MAX, Node, Probe, too_deep};
use crate::error::{Result, StoreError};
use crate::heap::{Cell, Heap, Offset};
use crate::layout::pool::btree::NODE_LEN;
use crate::layout::pool::{OFFSET_MASK, kind};
use crate::persist::Mem;

/// What fell off when a tree was cut: nodes with all below them, and single values.
#[derive(Debug)]
pub struct Cut<const V: usize> {
    /// Roots of whole trees.
    pub nodes: Vec<Offset>,
    /// Values of entries.
    pub values: Vec<[u64; V]>,
}

/// Which side of a rank is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What lies before it.
    Before,
    /// What begins at it or after it.
    After,
}

type Change<'a, T> = dyn FnMut(&mut Heap, Cell, u64) -> Result<T> + 'a;

impl<const K: usize, const V: usize> Btree<K, V> {
    /// Inserts or replaces; returns the value that was there. `root` is a cell of an owned block.
    ///
    /// # Errors
    /// [`crate::StoreError::Full`].
    pub fn insert(
        heap: &mut Heap,
        root: Cell,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<Option<[u64; V]>> {
        Self::insert_by(heap, root, key, key, value)
    }

    /// Inserts an entry where `probe` seeks it, or replaces the one that is there.
    ///
    /// # Errors
    /// As [`Btree::insert`].
    pub fn insert_by<P: Probe<K>>(
        heap: &mut Heap,
        root: Cell,
        probe: &P,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<Option<[u64; V]>> {
        Self::insert_along(heap, root, &mut ByKey(probe), key, value)
    }

    /// Inserts an entry before the one that begins at `rank`, or at the end.
    ///
    /// # Errors
    /// As [`Btree::insert`].
    pub fn insert_before(
        heap: &mut Heap,
        root: Cell,
        rank: u64,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<()> {
        Self::insert_along(heap, root, &mut BeforeRank(rank), key, value).map(|_| ())
    }

    fn insert_along(
        heap: &mut Heap,
        root: Cell,
        way: &mut impl Way<K, V>,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<Option<[u64; V]>> {
        if heap.get(root)? & OFFSET_MASK == 0 {
            let leaf = heap.make(kind::TREE_LEAF, 0, 0, NODE_LEN)?;
            heap.set(root, leaf)?;
        }
        let (old, split) = Self::insert_at(heap, root, way, key, value, 0)?;
        if let Some(right) = split {
            let left = heap.get(root)? & OFFSET_MASK;
            let top = heap.make(kind::TREE_INNER, 0, 0, NODE_LEN)?;
            for (index, child) in [left, right].into_iter().enumerate() {
                Self::write_child(heap, top, index, child)?;
            }
            heap.set_count(top, 2)?;
            heap.set(root, top)?;
        }
        Ok(old)
    }

    /// Inserts below the node that `cell` points to; a node that split hands its right half up.
    fn insert_at(
        heap: &mut Heap,
        cell: Cell,
        way: &mut impl Way<K, V>,
        key: &[u64; K],
        value: &[u64; V],
        level: usize,
    ) -> Result<(Option<[u64; V]>, Option<Offset>)> {
        let at = heap.own_at(cell, NODE_LEN)?;
        let node = Self::node(&heap.mem, at)?;
        if node.leaf {
            return Self::insert_in_leaf(heap, node, way, key, value);
        }
        if level > LEVELS_MAX {
            return Err(too_deep(at));
        }
        let index = way.child(&heap.mem, &node)?;
        let child_cell = Cell { at: Self::word(&node, index, K) };
        let (old, split) = Self::insert_at(heap, child_cell, way, key, value, level + 1)?;
        Self::renew(heap, &node, index)?;
        let Some(right) = split else { return Ok((old, None)) };
        let (target, slot, up) = Self::make_room(heap, node, index + 1)?;
        Self::write_child(heap, target.at, slot, right)?;
        Ok((old, up))
    }

    fn insert_in_leaf(
        heap: &mut Heap,
        node: Node,
        way: &mut impl Way<K, V>,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<(Option<[u64; V]>, Option<Offset>)> {
        let (index, there) = way.slot(&heap.mem, &node)?;
        let (target, slot, old, up) = if there {
            (node, index, Some(Self::value(&heap.mem, &node, index)?), None)
        } else {
            let (target, slot, up) = Self::make_room(heap, node, index)?;
            (target, slot, None, up)
        };
        Self::write_key(heap, &target, slot, key)?;
        for (word, &part) in value.iter().enumerate() {
            heap.mem.store_word(Self::word(&target, slot, K + word), part)?;
        }
        Ok((old, up))
    }

    /// Opens a gap at `index`, splitting a full node; returns the node and index of the gap and
    /// the new right half. What is put at either end splits off alone, so that entries that
    /// arrive in order, or backwards, fill their nodes.
    fn make_room(
        heap: &mut Heap,
        node: Node,
        index: usize,
    ) -> Result<(Node, usize, Option<Offset>)> {
        let max = if node.leaf { Self::LEAF_MAX } else { Self::INNER_MAX };
        if node.count < max {
            Self::open_gap(heap, &node, index)?;
            return Ok((Node { count: node.count + 1, ..node }, index, None));
        }
        let keep = if index == node.count || index == 0 { index } else { node.count / 2 };
        let kind = if node.leaf { kind::TREE_LEAF } else { kind::TREE_INNER };
        let right_at = heap.make(kind, 0, 0, NODE_LEN)?;
        let right = Node { at: right_at, leaf: node.leaf, count: node.count - keep };
        let bytes = right.count * Self::width(node.leaf) * 8;
        heap.mem.shift(Self::word(&node, keep, 0), Self::word(&right, 0, 0), bytes)?;
        heap.set_count(node.at, keep as u32)?;
        heap.set_count(right_at, right.count as u32)?;
        let left = Node { count: keep, ..node };
        let (target, slot) = if index < keep || (index == keep && keep < max && right.count > 0) {
            (left, index)
        } else {
            (right, index - keep)
        };
        Self::open_gap(heap, &target, slot)?;
        Ok((Node { count: target.count + 1, ..target }, slot, Some(right_at)))
    }

    fn open_gap(heap: &mut Heap, node: &Node, index: usize) -> Result<()> {
        let bytes = (node.count - index) * Self::width(node.leaf) * 8;
        heap.mem.shift(Self::word(node, index, 0), Self::word(node, index + 1, 0), bytes)?;
        heap.set_count(node.at, node.count as u32 + 1)
    }

    fn write_key(heap: &mut Heap, node: &Node, index: usize, key: &[u64; K]) -> Result<()> {
        for (word, &part) in key.iter().enumerate() {
            heap.mem.store_word(Self::word(node, index, word), part)?;
        }
        Ok(())
    }

    fn write_child(heap: &mut Heap, inner: Offset, index: usize, child: Offset) -> Result<()> {
        let node = Node { at: inner, leaf: false, count: 0 };
        heap.mem.store_word(Self::word(&node, index, K), child)?;
        Self::renew(heap, &node, index)
    }

    /// Brings the key and the weight beside a child up to date.
    fn renew(heap: &mut Heap, node: &Node, index: usize) -> Result<()> {
        let child = Self::node(&heap.mem, Self::child(&heap.mem, node, index)?)?;
        let first = Self::key(&heap.mem, &child, 0)?;
        let total = Self::total(&heap.mem, &child)?;
        Self::write_key(heap, node, index, &first)?;
        heap.mem.store_word(Self::word(node, index, K + 1), total)
    }

    /// Owns the path to the entry that `rank` lies in, lets `change` change its first value word
    /// knowing how far into the entry the rank lies, and sets the weights above it right. The
    /// entry must be there, and weigh something after.
    ///
    /// # Errors
    /// [`crate::StoreError::Full`]; what `change` returns.
    pub fn update<T>(
        heap: &mut Heap,
        root: Cell,
        rank: u64,
        mut change: impl FnMut(&mut Heap, Cell, u64) -> Result<T>,
    ) -> Result<T> {
        Self::update_at(heap, root, AtRank(rank), &mut change, 0)
    }

    fn update_at<T>(
        heap: &mut Heap,
        cell: Cell,
        mut way: AtRank,
        change: &mut Change<'_, T>,
        level: usize,
    ) -> Result<T> {
        let at = heap.own_at(cell, NODE_LEN)?;
        let node = Self::node(&heap.mem, at)?;
        if node.leaf {
            let (index, there) = Way::<K, V>::slot(&mut way, &heap.mem, &node)?;
            if !there {
                return Err(StoreError::corrupt("a tree that ends before its weight", at));
            }
            return change(heap, Cell { at: Self::word(&node, index, K) }, way.0);
        }
        if level > LEVELS_MAX {
            return Err(too_deep(at));
        }
        let index = Way::<K, V>::child(&mut way, &heap.mem, &node)?;
        let child_cell = Cell { at: Self::word(&node, index, K) };
        let done = Self::update_at(heap, child_cell, way, change, level + 1)?;
        Self::renew(heap, &node, index)?;
        Ok(done)
    }

    /// Removes a key; returns its value. `root` is a cell of an owned block.
    ///
    /// # Errors
    /// [`crate::StoreError::Full`] when not even the reserve can hold the copies of the path.
    pub fn remove(heap: &mut Heap, root: Cell, key: &[u64; K]) -> Result<Option<[u64; V]>> {
        Ok(Self::remove_by(heap, root, key)?.map(|(_, value)| value))
    }

    /// Removes what `probe` seeks; returns it.
    ///
    /// # Errors
    /// As [`Btree::remove`].
    pub fn remove_by<P: Probe<K>>(
        heap: &mut Heap,
        root: Cell,
        probe: &P,
    ) -> Result<Option<([u64; K], [u64; V])>> {
        let found = Self::get_by(&heap.mem, heap.get(root)?, probe)?;
        if found.is_some() {
            Self::remove_at(heap, root, &mut ByKey(probe), 0)?;
            Self::lower(heap, root)?;
        }
        Ok(found)
    }

    /// Removes the entry that `rank` lies in; returns its value.
    ///
    /// # Errors
    /// As [`Btree::remove`].
    pub fn remove_rank(heap: &mut Heap, root: Cell, rank: u64) -> Result<Option<[u64; V]>> {
        let found = Self::select(&heap.mem, heap.get(root)?, rank)?;
        if found.is_some() {
            Self::remove_at(heap, root, &mut AtRank(rank), 0)?;
            Self::lower(heap, root)?;
        }
        Ok(found.map(|(_, value, _)| value))
    }

    /// Takes away roots that have become needless.
    fn lower(heap: &mut Heap, root: Cell) -> Result<()> {
        loop {
            let top = Self::node_or_empty(&heap.mem, heap.get(root)? & OFFSET_MASK)?;
            let only = match (top.leaf, top.count) {
                (_, 0) => 0,
                (false, 1) => Self::child(&heap.mem, &top, 0)?,
                _ => return Ok(()),
            };
            heap.set(root, only)?;
            heap.free(top.at, NODE_LEN)?;
            if only == 0 {
                return Ok(());
            }
        }
    }

    fn remove_at(
        heap: &mut Heap,
        cell: Cell,
        way: &mut impl Way<K, V>,
        level: usize,
    ) -> Result<()> {
        let at = heap.own_at(cell, NODE_LEN)?;
        let node = Self::node(&heap.mem, at)?;
        if level > LEVELS_MAX {
            return Err(too_deep(at));
        }
        if node.leaf {
            let (index, there) = way.slot(&heap.mem, &node)?;
            return if there { Self::close_gap(heap, &node, index) } else { Ok(()) };
        }
        let index = way.child(&heap.mem, &node)?;
        let child_cell = Cell { at: Self::word(&node, index, K) };
        Self::remove_at(heap, child_cell, way, level + 1)?;
        Self::settle(heap, &node, index)
    }

    /// Sets a node right whose child `index` has lost entries: renews what it knows of the child,
    /// frees it when it is empty and joins it with a neighbour when it is small.
    fn settle(heap: &mut Heap, node: &Node, index: usize) -> Result<()> {
        let child = Self::node_or_empty(&heap.mem, Self::child(&heap.mem, node, index)?)?;
        if child.count == 0 {
            Self::close_gap(heap, node, index)?;
            return heap.free(child.at, NODE_LEN);
        }
        Self::renew(heap, node, index)?;
        if index > 0 {
            Self::join(heap, node, index - 1)
        } else if node.count > 1 {
            Self::join(heap, node, 0)
        } else {
            Ok(())
        }
    }

    /// As [`Self::node`], but lets an inner node have just lost its last entry.
    fn node_or_empty(mem: &Mem, at: Offset) -> Result<Node> {
        let head = crate::heap::head(mem, at)?;
        if head.kind == kind::TREE_INNER && head.count == 0 {
            return Ok(Node { at, leaf: false, count: 0 });
        }
        Self::node(mem, at)
    }

    fn close_gap(heap: &mut Heap, node: &Node, index: usize) -> Result<()> {
        let bytes = (node.count - index - 1) * Self::width(node.leaf) * 8;
        heap.mem.shift(Self::word(node, index + 1, 0), Self::word(node, index, 0), bytes)?;
        heap.set_count(node.at, node.count as u32 - 1)
    }

    /// Joins children `index` and `index + 1` when they fill at most three quarters of a node.
    fn join(heap: &mut Heap, node: &Node, index: usize) -> Result<()> {
        let left = Self::node(&heap.mem, Self::child(&heap.mem, node, index)?);
        let right = Self::node(&heap.mem, Self::child(&heap.mem, node, index + 1)?);
        let (left, right) = match (left, right) {
            // One of them was just changed; a neighbour that is damaged stays where it is.
            (Err(StoreError::Corrupt(_)), _) | (_, Err(StoreError::Corrupt(_))) => return Ok(()),
            (left, right) => (left?, right?),
        };
        let max = if left.leaf { Self::LEAF_MAX } else { Self::INNER_MAX };
        if left.leaf != right.leaf || (left.count + right.count) * 4 > max * 3 {
            return Ok(());
        }
        let cell = Cell { at: Self::word(node, index, K) };
        let left = Node { at: heap.own_at(cell, NODE_LEN)?, ..left };
        let bytes = right.count * Self::width(left.leaf) * 8;
        heap.mem.shift(Self::word(&right, 0, 0), Self::word(&left, left.count, 0), bytes)?;
        heap.set_count(left.at, (left.count + right.count) as u32)?;
        heap.free(right.at, NODE_LEN)?;
        Self::close_gap(heap, node, index + 1)?;
        Self::renew(heap, node, index)
    }

    /// Cuts the tree at `rank`, where an entry must begin: what lies on one side of it falls off
    /// for the caller to free. Costs one path, however much that is.
    ///
    /// # Errors
    /// As [`Btree::remove`].
    pub fn cut(heap: &mut Heap, root: Cell, rank: u64, side: Side) -> Result<Cut<V>> {
        let mut cut = Cut { nodes: Vec::new(), values: Vec::new() };
        if heap.get(root)? & OFFSET_MASK != 0 {
            Self::cut_at(heap, root, rank, side, &mut cut, 0)?;
            Self::lower(heap, root)?;
        }
        Ok(cut)
    }

    fn cut_at(
        heap: &mut Heap,
        cell: Cell,
        rank: u64,
        side: Side,
        cut: &mut Cut<V>,
        level: usize,
    ) -> Result<()> {
        let at = heap.own_at(cell, NODE_LEN)?;
        let node = Self::node(&heap.mem, at)?;
        if level > LEVELS_MAX {
            return Err(too_deep(at));
        }
        // `whole` entries end at or before the rank; the rank may lie within the next.
        let (mut whole, mut before) = (0, 0u64);
        while whole < node.count {
            let weight = Self::weight(&heap.mem, &node, whole)?;
            if before.wrapping_add(weight) > rank {
                break;
            }
            before += weight;
            whole += 1;
        }
        let within = !node.leaf && whole < node.count && before < rank;
        let off = match side {
            Side::Before => 0..whole,
            Side::After => whole + usize::from(within)..node.count,
        };
        for index in off.clone() {
            if node.leaf {
                cut.values.push(Self::value(&heap.mem, &node, index)?);
            } else {
                cut.nodes.push(Self::child(&heap.mem, &node, index)?);
            }
        }
        if within {
            let child = Cell { at: Self::word(&node, whole, K) };
            Self::cut_at(heap, child, rank - before, side, cut, level + 1)?;
        }
        let left = Node { count: node.count - off.len(), ..node };
        let bytes = (node.count - off.end) * Self::width(node.leaf) * 8;
        let (from, to) = (Self::word(&node, off.end, 0), Self::word(&node, off.start, 0));
        heap.mem.shift(from, to, bytes)?;
        heap.set_count(node.at, left.count as u32)?;
        if within {
            let index = if side == Side::Before { 0 } else { left.count - 1 };
            Self::settle(heap, &left, index)?;
        }
        Ok(())
    }

    /// The children of the node at `at`, or the values of its entries.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not a tree node.
    pub fn children(
        mem: &Mem,
        at: Offset,
        nodes: &mut Vec<Offset>,
        values: &mut Vec<[u64; V]>,
    ) -> Result<()> {
        let node = Self::node(mem, at & OFFSET_MASK)?;
        for index in 0..node.count {
            if node.leaf {
                values.push(Self::value(mem, &node, index)?);
            } else {
                nodes.push(Self::child(mem, &node, index)?);
            }
        }
        Ok(())
    }
}
