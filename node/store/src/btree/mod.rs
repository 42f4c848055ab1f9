//! The counted B+tree: sorted keys of `K` words with values of `V` words in nodes of 512 bytes.
//!
//! A leaf's entries are key and value words; an inner node's are the smallest key that may lie
//! below a child, the child's offset, and how many leaf entries lie below it, so that ranks cost
//! one path. Nodes are full at a fixed number of entries and join their neighbour when both fit
//! in three quarters of one.

use crate::error::{Result, StoreError};
use crate::heap::{Cell, Heap, Offset, expect};
use crate::layout::pool::btree::{NODE_LEN, WORDS};
use crate::layout::pool::{HEADER, OFFSET_MASK, kind};
use crate::persist::Mem;

/// Levels that no tree of 2^48 entries needs.
const LEVELS_MAX: usize = 24;

/// A B+tree with keys of `K` words and values of `V`, compared word by word.
pub struct Btree<const K: usize, const V: usize>;

/// What a walk does with an entry; `false` ends it.
pub type Visit<'a, const K: usize, const V: usize> =
    dyn FnMut(&[u64; K], &[u64; V]) -> Result<bool> + 'a;

/// A node while it is being changed: the path to it is re-read from the root.
#[derive(Clone, Copy)]
struct Node {
    at: Offset,
    leaf: bool,
    count: usize,
}

impl<const K: usize, const V: usize> Btree<K, V> {
    const LEAF_MAX: usize = WORDS / (K + V);
    const INNER_MAX: usize = WORDS / (K + 2);

    fn node(mem: &Mem, at: Offset) -> Result<Node> {
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

    fn child(mem: &Mem, node: &Node, index: usize) -> Result<Offset> {
        Ok(mem.word(Self::word(node, index, K))? & OFFSET_MASK)
    }

    /// Entries below `node`.
    fn total(mem: &Mem, node: &Node) -> Result<u64> {
        if node.leaf {
            return Ok(node.count as u64);
        }
        let mut total = 0u64;
        for index in 0..node.count {
            total = total.wrapping_add(mem.word(Self::word(node, index, K + 1))?);
        }
        Ok(total)
    }

    /// First index whose key is at least `key`.
    fn lower_bound(mem: &Mem, node: &Node, key: &[u64; K]) -> Result<usize> {
        let (mut low, mut high) = (0, node.count);
        while low < high {
            let middle = (low + high) / 2;
            if Self::key(mem, node, middle)? < *key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The child to go to for `key`: the last whose smallest key is not above it.
    fn child_for(mem: &Mem, node: &Node, key: &[u64; K]) -> Result<usize> {
        let at = Self::lower_bound(mem, node, key)?;
        let exact = at < node.count && Self::key(mem, node, at)? == *key;
        Ok(if exact { at } else { at.saturating_sub(1) })
    }

    /// The value of `key` below `root` (0: an empty tree).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a node on the way is not what it should be.
    pub fn get(mem: &Mem, root: Offset, key: &[u64; K]) -> Result<Option<[u64; V]>> {
        Ok(Self::seek(mem, root, key)?.filter(|(found, _)| found == key).map(|(_, value)| value))
    }

    /// The first entry whose key is at least `key`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a node on the way is not what it should be.
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
            let index = Self::lower_bound(mem, &node, key)?;
            if index < node.count {
                let entry = (Self::key(mem, &node, index)?, Self::value(mem, &node, index)?);
                return Ok(Some(entry));
            }
            (at, right) = (right, 0);
        }
        Err(StoreError::corrupt("a tree deeper than any can be", root & OFFSET_MASK))
    }

    /// Entries in the tree.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the root is not a tree node.
    pub fn len(mem: &Mem, root: Offset) -> Result<u64> {
        match root & OFFSET_MASK {
            0 => Ok(0),
            at => Self::total(mem, &Self::node(mem, at)?),
        }
    }

    /// Entries whose key is below `key`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a node on the way is not what it should be.
    pub fn rank(mem: &Mem, root: Offset, key: &[u64; K]) -> Result<u64> {
        let (mut at, mut rank) = (root & OFFSET_MASK, 0u64);
        for _ in 0..LEVELS_MAX {
            if at == 0 {
                return Ok(rank);
            }
            let node = Self::node(mem, at)?;
            if node.leaf {
                return Ok(rank + Self::lower_bound(mem, &node, key)? as u64);
            }
            let index = Self::child_for(mem, &node, key)?;
            for before in 0..index {
                rank = rank.wrapping_add(mem.word(Self::word(&node, before, K + 1))?);
            }
            at = Self::child(mem, &node, index)?;
        }
        Err(StoreError::corrupt("a tree deeper than any can be", root & OFFSET_MASK))
    }

    /// Inserts or replaces; returns the value that was there. `root` is a cell of an owned block.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn insert(
        heap: &mut Heap,
        root: Cell,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<Option<[u64; V]>> {
        if heap.get(root)? & OFFSET_MASK == 0 {
            let leaf = heap.make(kind::TREE_LEAF, 0, 0, NODE_LEN)?;
            heap.set(root, leaf)?;
        }
        let (old, split) = Self::insert_at(heap, root, key, value, 0)?;
        if let Some(right) = split {
            let left = heap.get(root)? & OFFSET_MASK;
            let top = heap.make(kind::TREE_INNER, 0, 0, NODE_LEN)?;
            for (index, child) in [left, right].into_iter().enumerate() {
                let below = Self::node(&heap.mem, child)?;
                let smallest = Self::key(&heap.mem, &below, 0)?;
                Self::write_child(heap, top, index, &smallest, child)?;
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
        key: &[u64; K],
        value: &[u64; V],
        level: usize,
    ) -> Result<(Option<[u64; V]>, Option<Offset>)> {
        let at = heap.own_at(cell, NODE_LEN)?;
        let node = Self::node(&heap.mem, at)?;
        if node.leaf {
            return Self::insert_in_leaf(heap, node, key, value);
        }
        if level > LEVELS_MAX {
            return Err(StoreError::corrupt("a tree deeper than any can be", at));
        }
        let index = Self::child_for(&heap.mem, &node, key)?;
        if Self::key(&heap.mem, &node, index)? > *key {
            Self::write_key(heap, &node, index, key)?;
        }
        let child_cell = Cell { at: Self::word(&node, index, K) };
        let (old, split) = Self::insert_at(heap, child_cell, key, value, level + 1)?;
        Self::recount(heap, &node, index)?;
        let Some(right) = split else { return Ok((old, None)) };
        let smallest = Self::key(&heap.mem, &Self::node(&heap.mem, right)?, 0)?;
        let (target, slot, up) = Self::make_room(heap, node, index + 1)?;
        Self::write_child(heap, target.at, slot, &smallest, right)?;
        Ok((old, up))
    }

    fn insert_in_leaf(
        heap: &mut Heap,
        node: Node,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<(Option<[u64; V]>, Option<Offset>)> {
        let index = Self::lower_bound(&heap.mem, &node, key)?;
        if index < node.count && Self::key(&heap.mem, &node, index)? == *key {
            let old = Self::value(&heap.mem, &node, index)?;
            Self::write_value(heap, &node, index, value)?;
            return Ok((Some(old), None));
        }
        let (target, slot, up) = Self::make_room(heap, node, index)?;
        Self::write_key(heap, &target, slot, key)?;
        Self::write_value(heap, &target, slot, value)?;
        Ok((None, up))
    }

    /// Opens a gap at `index`, splitting a full node; returns the node and index of the gap and
    /// the new right half. Appending at the end splits off the new entry alone, so that keys
    /// that arrive in order fill their nodes.
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
        let keep = if index == node.count { node.count } else { node.count / 2 };
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

    fn write_value(heap: &mut Heap, node: &Node, index: usize, value: &[u64; V]) -> Result<()> {
        for (word, &part) in value.iter().enumerate() {
            heap.mem.store_word(Self::word(node, index, K + word), part)?;
        }
        Ok(())
    }

    fn write_child(
        heap: &mut Heap,
        inner: Offset,
        index: usize,
        smallest: &[u64; K],
        child: Offset,
    ) -> Result<()> {
        let node = Node { at: inner, leaf: false, count: 0 };
        Self::write_key(heap, &node, index, smallest)?;
        heap.mem.store_word(Self::word(&node, index, K), child)?;
        Self::recount(heap, &node, index)
    }

    /// Brings the count beside a child up to date.
    fn recount(heap: &mut Heap, node: &Node, index: usize) -> Result<()> {
        let child = Self::node(&heap.mem, Self::child(&heap.mem, node, index)?)?;
        let total = Self::total(&heap.mem, &child)?;
        heap.mem.store_word(Self::word(node, index, K + 1), total)
    }

    /// Removes a key; returns its value. `root` is a cell of an owned block.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not even the reserve can hold the copies of the path.
    pub fn remove(heap: &mut Heap, root: Cell, key: &[u64; K]) -> Result<Option<[u64; V]>> {
        let top = heap.get(root)? & OFFSET_MASK;
        if top == 0 || Self::get(&heap.mem, top, key)?.is_none() {
            return Ok(None);
        }
        let old = Self::remove_at(heap, root, key, 0)?;
        loop {
            let top = Self::node(&heap.mem, heap.get(root)? & OFFSET_MASK)?;
            if top.leaf && top.count == 0 {
                heap.set(root, 0)?;
                heap.free(top.at, NODE_LEN)?;
                return Ok(old);
            }
            if top.leaf || top.count > 1 {
                return Ok(old);
            }
            let only = Self::child(&heap.mem, &top, 0)?;
            heap.set(root, only)?;
            heap.free(top.at, NODE_LEN)?;
        }
    }

    fn remove_at(
        heap: &mut Heap,
        cell: Cell,
        key: &[u64; K],
        level: usize,
    ) -> Result<Option<[u64; V]>> {
        let at = heap.own_at(cell, NODE_LEN)?;
        let node = Self::node(&heap.mem, at)?;
        if level > LEVELS_MAX {
            return Err(StoreError::corrupt("a tree deeper than any can be", at));
        }
        if node.leaf {
            let index = Self::lower_bound(&heap.mem, &node, key)?;
            if index == node.count {
                return Ok(None);
            }
            let old = Self::value(&heap.mem, &node, index)?;
            Self::close_gap(heap, &node, index)?;
            return Ok(Some(old));
        }
        let index = Self::child_for(&heap.mem, &node, key)?;
        let child_cell = Cell { at: Self::word(&node, index, K) };
        let old = Self::remove_at(heap, child_cell, key, level + 1)?;
        let child = Self::node_or_empty(&heap.mem, heap.get(child_cell)? & OFFSET_MASK)?;
        if child.count == 0 {
            Self::close_gap(heap, &node, index)?;
            heap.free(child.at, NODE_LEN)?;
            return Ok(old);
        }
        Self::recount(heap, &node, index)?;
        if index > 0 {
            Self::join(heap, &node, index - 1)?;
        } else if node.count > 1 {
            Self::join(heap, &node, 0)?;
        }
        Ok(old)
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
        let left = Self::node(&heap.mem, Self::child(&heap.mem, node, index)?)?;
        let right = Self::node(&heap.mem, Self::child(&heap.mem, node, index + 1)?)?;
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
        Self::recount(heap, node, index)
    }

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
            return Err(StoreError::corrupt("a tree deeper than any can be", at));
        }
        if node.leaf {
            for index in Self::lower_bound(mem, &node, from)?..node.count {
                if !visit(&Self::key(mem, &node, index)?, &Self::value(mem, &node, index)?)? {
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

    /// Frees the node at `at` and hands its children, or the values of its entries, on.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not a tree node.
    pub fn free_children(
        heap: &mut Heap,
        at: Offset,
        nodes: &mut Vec<Offset>,
        values: &mut Vec<[u64; V]>,
    ) -> Result<()> {
        let node = Self::node(&heap.mem, at & OFFSET_MASK)?;
        for index in 0..node.count {
            if node.leaf {
                values.push(Self::value(&heap.mem, &node, index)?);
            } else {
                nodes.push(Self::child(&heap.mem, &node, index)?);
            }
        }
        heap.free(node.at, NODE_LEN)
    }

    /// Checks order, counts and depth below `root`, calling `block` with every node; returns the
    /// number of entries.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the first node that breaks an invariant.
    pub fn check(
        mem: &Mem,
        root: Offset,
        block: &mut dyn FnMut(Offset) -> Result<()>,
    ) -> Result<u64> {
        match root & OFFSET_MASK {
            0 => Ok(0),
            at => Self::check_node(mem, at, None, block, 0),
        }
    }

    fn check_node(
        mem: &Mem,
        at: Offset,
        least: Option<[u64; K]>,
        block: &mut dyn FnMut(Offset) -> Result<()>,
        level: usize,
    ) -> Result<u64> {
        let node = Self::node(mem, at)?;
        block(at)?;
        let mut previous = least;
        let mut total = 0;
        for index in 0..node.count {
            let key = Self::key(mem, &node, index)?;
            let sorted = previous.is_none_or(|p| if index == 0 { p <= key } else { p < key });
            if !sorted || level > LEVELS_MAX {
                return Err(StoreError::corrupt("a tree node out of order", at));
            }
            previous = Some(key);
            if !node.leaf {
                let child = Self::child(mem, &node, index)?;
                let below = Self::check_node(mem, child, Some(key), block, level + 1)?;
                if below != mem.word(Self::word(&node, index, K + 1))? {
                    return Err(StoreError::corrupt("a tree node with a wrong count", at));
                }
                total += below;
            }
        }
        Ok(if node.leaf { node.count as u64 } else { total })
    }
}

/// Checks that the block at `at` is a chunk and returns how many bytes it holds.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not.
pub fn chunk_len(mem: &Mem, at: Offset) -> Result<usize> {
    Ok(expect(mem, at, kind::CHUNK, "a chunk")?.count as usize)
}
