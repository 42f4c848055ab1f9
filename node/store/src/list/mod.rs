//! Lists: a sequence of chunks below one root.
//!
//! A change reaches one chunk and its neighbours, whatever the list's length. Small neighbours are
//! joined as they shrink, so that no list decays into crumbs; a trim cuts whole parts of the tree
//! off, to be freed later.

mod chunk;

#[cfg(test)]
mod tests;

pub use chunk::listpack_len;
pub(crate) use chunk::{Chunk, Item, Sum};

use crate::blob::{Record, Value};
use crate::btree::{Btree, Side};
use crate::error::{Result, StoreError};
use crate::heap::{Cell, Heap, Offset};
use crate::layout::pool::{OFFSET_MASK, list as layout};
use crate::persist::Mem;
use chunk::encode;
use std::ops::Range;

/// Pointers to chunks, in order.
pub(crate) type Sequence = Btree<0, 1>;

/// What an element counts for its share of the tree, in bytes.
const ELEMENT_BYTES: u64 = 8;

/// A list, being changed. What it no longer needs is left in `gone`.
pub(crate) struct List<'h> {
    heap: &'h mut Heap,
    root: Cell,
    /// What the elements count as.
    pub bytes: u64,
    pub gone: Gone,
}

/// What fell off a list.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// Parts of the tree, with all below them.
    pub nodes: Vec<u64>,
    /// Chunks, with the blobs of their elements.
    pub chunks: Vec<u64>,
    /// Blobs of elements.
    pub blobs: Vec<Offset>,
}

/// What elements count as, in bytes: decided by content alone.
pub(crate) fn content_bytes(sum: Sum) -> u64 {
    sum.bytes + sum.blobs + sum.count * ELEMENT_BYTES
}

/// What one element counts as, in bytes, at the most.
pub(crate) fn element_bytes(len: u64) -> u64 {
    match len <= layout::INLINE_MAX as u64 {
        true => len + 6 + ELEMENT_BYTES,
        false => crate::blob::content_bytes(0, len, false) + 8 + ELEMENT_BYTES,
    }
}

/// Elements below `root`.
pub(crate) fn len(mem: &Mem, root: Offset) -> Result<u64> {
    Sequence::len(mem, root)
}

/// What the elements of a range of whole chunks come to.
fn sum_between(mem: &Mem, root: Offset, range: Range<u64>) -> Result<Sum> {
    let mut sum = Sum::default();
    Sequence::walk(mem, root, range.start, false, &mut |_, &[pointer], rank| {
        if rank < range.end {
            sum.add(Chunk::read(mem, pointer)?.sum);
        }
        Ok(rank < range.end)
    })?;
    Ok(sum)
}

/// Bytes the list would take in a listpack, or anything above `limit` when it is more.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(crate) fn listpack_bytes(mem: &Mem, root: Offset, limit: u64) -> Result<u64> {
    // Its own header and end.
    let mut total = 7;
    // No element takes less than two bytes.
    if len(mem, root)? > limit / 2 {
        return Ok(u64::MAX);
    }
    Sequence::walk(mem, root, 0, false, &mut |_, &[pointer], _| {
        let chunk = Chunk::read(mem, pointer)?;
        total += chunk.sum.listpack;
        if chunk.sum.long > 0 {
            each_blob(mem, pointer, &mut |at| {
                let len = Record::read(mem, at)?.value().len();
                // As for short elements, with the longest of headers and tails.
                total += len + if len < 4096 { 4 } else { 10 };
                Ok(())
            })?;
        }
        Ok(total <= limit)
    })?;
    Ok(total)
}

/// Calls `visit` with the blobs of a chunk's elements.
pub(crate) fn each_blob(
    mem: &Mem,
    pointer: u64,
    visit: &mut dyn FnMut(Offset) -> Result<()>,
) -> Result<()> {
    let chunk = Chunk::read(mem, pointer)?;
    let (bytes, mut at) = (chunk.bytes(mem)?, 0);
    while at < bytes.len() {
        let (item, end) = chunk.after(bytes, at)?;
        if let Item::Long(blob) = item {
            visit(blob)?;
        }
        at = end;
    }
    Ok(())
}

/// Shows `visit` the elements from `from` on, or with `reverse` from there backwards (beginning
/// with the last when `from` lies behind it), until it says `false`.
///
/// # Errors
/// [`StoreError::Corrupt`]; what `visit` returns.
pub(crate) fn walk<'a>(
    mem: &'a Mem,
    root: Offset,
    from: u64,
    reverse: bool,
    visit: &mut dyn FnMut(Value<'a>) -> Result<bool>,
) -> Result<()> {
    let mut show = |item: Item<'a>| match item {
        Item::Inline(bytes) => visit(Value::Inline(bytes)),
        Item::Long(at) => visit(Record::read(mem, at)?.value()),
    };
    Sequence::walk(mem, root, from, reverse, &mut |_, &[pointer], rank| {
        let chunk = Chunk::read(mem, pointer)?;
        let (bytes, count) = (chunk.bytes(mem)?, chunk.sum.count);
        if reverse {
            let left = from.saturating_sub(rank).saturating_add(1).min(count);
            let mut at = chunk.position(mem, left)?;
            while at > 0 {
                let (item, begin) = chunk.before(bytes, at)?;
                if !show(item)? {
                    return Ok(false);
                }
                at = begin;
            }
        } else {
            let mut at = chunk.position(mem, from.saturating_sub(rank).min(count))?;
            while at < bytes.len() {
                let (item, end) = chunk.after(bytes, at)?;
                if !show(item)? {
                    return Ok(false);
                }
                at = end;
            }
        }
        Ok(true)
    })
}

/// What became of elements that were to go into a chunk.
#[derive(PartialEq, Eq)]
enum Put {
    /// They are there.
    Done,
    /// There is no room, and their place is the chunk's beginning, its end, or in between.
    Beginning,
    End,
    Within,
}

impl<'h> List<'h> {
    /// Changes the list whose root is in a cell of an owned block, and whose elements count as
    /// `bytes`.
    pub fn new(heap: &'h mut Heap, root: Cell, bytes: u64) -> List<'h> {
        List { heap, root, bytes, gone: Gone::default() }
    }

    fn len(&self) -> Result<u64> {
        len(&self.heap.mem, self.heap.get(self.root)?)
    }

    /// The chunk that an element lies in, and the element's place in it.
    fn chunk_at(&self, index: u64) -> Result<(Chunk, u64)> {
        let root = self.heap.get(self.root)?;
        match Sequence::select(&self.heap.mem, root, index)? {
            Some((_, [pointer], within)) => Ok((Chunk::read(&self.heap.mem, pointer)?, within)),
            None => Err(StoreError::corrupt("a list that ends before its length", root)),
        }
    }

    /// Puts elements in the place of `range` of the chunk that element `index` lies in.
    fn splice(
        &mut self,
        index: u64,
        range: Range<usize>,
        old: Sum,
        new: &[u8],
        sum: Sum,
    ) -> Result<()> {
        Sequence::update(self.heap, self.root, index, |heap, cell, _| {
            let chunk = Chunk::read(&heap.mem, heap.get(cell)?)?.own(heap)?;
            let pointer = chunk.splice(heap, range.clone(), old, new, sum)?;
            heap.set(cell, pointer)
        })
    }

    /// Puts a chunk of these elements before element `index`, where a chunk must begin.
    fn insert_chunk(&mut self, index: u64, new: &[u8], sum: Sum, grows_down: bool) -> Result<()> {
        let pointer = Chunk::make(self.heap, new, sum, grows_down)?;
        Sequence::insert_before(self.heap, self.root, index, &[], &[pointer])
    }

    /// Inserts an element before element `index`, or at the end.
    pub fn insert(&mut self, index: u64, item: Item<'_>) -> Result<()> {
        let mut new = Vec::with_capacity(64);
        let sum = encode(&self.heap.mem, item, &mut new)?;
        self.bytes += content_bytes(sum);
        if self.heap.get(self.root)? & OFFSET_MASK == 0 {
            return self.insert_chunk(0, &new, sum, false);
        }
        // The chunk of the element before; at the very beginning that of the first.
        let put = match index.checked_sub(1) {
            Some(before) => self.put_beside(before, 1, &new, sum)?,
            None => self.put_beside(0, 0, &new, sum)?,
        };
        match put {
            Put::Done => Ok(()),
            Put::Beginning => self.insert_chunk(0, &new, sum, true),
            Put::End => {
                if index < self.len()? && self.put_beside(index, 0, &new, sum)? == Put::Done {
                    return Ok(());
                }
                self.insert_chunk(index, &new, sum, false)
            }
            Put::Within => {
                self.split(index)?;
                for (anchor, after) in [(index - 1, 1), (index, 0)] {
                    if self.put_beside(anchor, after, &new, sum)? == Put::Done {
                        return Ok(());
                    }
                }
                self.insert_chunk(index, &new, sum, false)
            }
        }
    }

    /// Puts elements into the chunk of element `anchor`, before it or (`after` = 1) behind it, if
    /// they fit.
    fn put_beside(&mut self, anchor: u64, after: u64, new: &[u8], sum: Sum) -> Result<Put> {
        Sequence::update(self.heap, self.root, anchor, |heap, cell, within| {
            let chunk = Chunk::read(&heap.mem, heap.get(cell)?)?;
            let slot = within + after;
            if !chunk.has_room(slot, sum.bytes) {
                return Ok(match slot {
                    0 => Put::Beginning,
                    _ if slot == chunk.sum.count => Put::End,
                    _ => Put::Within,
                });
            }
            let at = chunk.position(&heap.mem, slot)?;
            let chunk = chunk.own(heap)?;
            let pointer = chunk.splice(heap, at..at, Sum::default(), new, sum)?;
            heap.set(cell, pointer)?;
            Ok(Put::Done)
        })
    }

    /// Splits a chunk before element `index`, which must not be its first.
    fn split(&mut self, index: u64) -> Result<()> {
        let (chunk, within) = self.chunk_at(index)?;
        let mem = &self.heap.mem;
        let at = chunk.position(mem, within)?;
        let right = chunk.bytes(mem)?[at..].to_vec();
        let range = at..at + right.len();
        let sum = chunk.sum_of(mem, range.clone())?;
        let pointer = Chunk::make(self.heap, &right, sum, false)?;
        self.splice(index, range, sum, &[], Sum::default())?;
        Sequence::insert_before(self.heap, self.root, index, &[], &[pointer])
    }

    /// Puts an element in the place of element `index`.
    pub fn set(&mut self, index: u64, item: Item<'_>) -> Result<()> {
        let (chunk, within) = self.chunk_at(index)?;
        let mem = &self.heap.mem;
        let mut new = Vec::with_capacity(64);
        let sum = encode(mem, item, &mut new)?;
        let from = chunk.position(mem, within)?;
        let (old, to) = chunk.after(chunk.bytes(mem)?, from)?;
        let old_sum = chunk.sum_of(mem, from..to)?;
        if chunk.sum.bytes - old_sum.bytes + sum.bytes > layout::CAPACITY as u64 {
            self.remove(index, 1)?;
            return self.insert(index, item);
        }
        if let Item::Long(blob) = old {
            self.gone.blobs.push(blob);
        }
        self.bytes = self.bytes + content_bytes(sum) - content_bytes(old_sum);
        self.splice(index, from..to, old_sum, &new, sum)
    }

    /// Removes up to `count` elements from element `from` on.
    pub fn remove(&mut self, from: u64, count: u64) -> Result<()> {
        let len = self.len()?;
        let to = from.saturating_add(count).min(len);
        if from >= to {
            return Ok(());
        }
        let (chunk, within) = self.chunk_at(from)?;
        if within + (to - from) <= chunk.sum.count {
            return self.take(from, to - from);
        }
        if to == len {
            let left = if within == 0 { 0 } else { chunk.sum.count - within };
            self.cut(from + left, Side::After)?;
            return if left == 0 { Ok(()) } else { self.take(from, left) };
        }
        if from == 0 {
            let within = self.chunk_at(to)?.1;
            self.cut(to - within, Side::Before)?;
            return if within == 0 { Ok(()) } else { self.take(0, within) };
        }
        let mut left = to - from;
        while left > 0 {
            let (chunk, within) = self.chunk_at(from)?;
            let here = left.min(chunk.sum.count - within);
            self.take(from, here)?;
            left -= here;
        }
        Ok(())
    }

    /// Removes single elements, named by their places in ascending order.
    pub fn remove_each(&mut self, mut indices: &[u64]) -> Result<()> {
        while let Some(&last) = indices.last() {
            let (chunk, within) = self.chunk_at(last)?;
            let first = last - within;
            let (rest, here) = indices.split_at(indices.partition_point(|&index| index < first));
            if here.len() as u64 == chunk.sum.count {
                self.take(first, chunk.sum.count)?;
            } else {
                self.thin(&chunk, first, here)?;
            }
            indices = rest;
        }
        Ok(())
    }

    /// Removes some elements of a chunk, but not all. `first` is the place of its first.
    fn thin(&mut self, chunk: &Chunk, first: u64, indices: &[u64]) -> Result<()> {
        let mem = &self.heap.mem;
        let bytes = chunk.bytes(mem)?;
        let (mut kept, mut old, mut at) = (Vec::with_capacity(bytes.len()), Sum::default(), 0);
        for index in first..first + chunk.sum.count {
            let (item, end) = chunk.after(bytes, at)?;
            if indices.binary_search(&index).is_err() {
                kept.extend_from_slice(&bytes[at..end]);
            } else {
                old.add(chunk.sum_of(mem, at..end)?);
                if let Item::Long(blob) = item {
                    self.gone.blobs.push(blob);
                }
            }
            at = end;
        }
        self.bytes -= content_bytes(old);
        self.splice(first, 0..at, old, &kept, Sum::default())?;
        self.join(first, chunk.sum.bytes, kept.len() as u64)
    }

    /// Removes `count` elements from element `from` on, all in one chunk.
    fn take(&mut self, from: u64, count: u64) -> Result<()> {
        let (chunk, within) = self.chunk_at(from)?;
        if count == chunk.sum.count {
            self.bytes -= content_bytes(chunk.sum);
            let gone = Sequence::remove_rank(self.heap, self.root, from)?;
            self.gone.chunks.extend(gone.into_iter().flatten());
            return Ok(());
        }
        let mem = &self.heap.mem;
        let bytes = chunk.bytes(mem)?;
        let begin = chunk.position(mem, within)?;
        let mut end = begin;
        for _ in 0..count {
            let (item, next) = chunk.after(bytes, end)?;
            if let Item::Long(blob) = item {
                self.gone.blobs.push(blob);
            }
            end = next;
        }
        let old = chunk.sum_of(mem, begin..end)?;
        self.bytes -= content_bytes(old);
        self.splice(from, begin..end, old, &[], Sum::default())?;
        self.join(from - within, chunk.sum.bytes, chunk.sum.bytes - old.bytes)
    }

    /// Cuts off what lies on one side of `index`, where a chunk begins or the list ends.
    fn cut(&mut self, index: u64, side: Side) -> Result<()> {
        let len = self.len()?;
        let (off, left) = match side {
            Side::Before => (0..index, index..len),
            Side::After => (index..len, 0..index),
        };
        if off.is_empty() {
            return Ok(());
        }
        // Only the shorter part is read to know what the rest counts as.
        let root = self.heap.get(self.root)?;
        let few = off.end - off.start <= left.end - left.start;
        let read = if few { off } else { left };
        let sum = sum_between(&self.heap.mem, root, read)?;
        self.bytes = if few { self.bytes - content_bytes(sum) } else { content_bytes(sum) };
        let cut = Sequence::cut(self.heap, self.root, index, side)?;
        self.gone.nodes.extend(cut.nodes);
        self.gone.chunks.extend(cut.values.into_iter().flatten());
        Ok(())
    }

    /// Joins the chunk that begins with element `first`, had `before` bytes and has `after`, with a
    /// neighbour, when it has just become small and both fit in three quarters of one.
    fn join(&mut self, first: u64, before: u64, after: u64) -> Result<()> {
        const SMALL: u64 = layout::CAPACITY as u64 / 4;
        const FITS: u64 = layout::CAPACITY as u64 * 3 / 4;
        if before <= SMALL || after > SMALL {
            return Ok(());
        }
        let (chunk, _) = self.chunk_at(first)?;
        let next = first + chunk.sum.count;
        let neighbours = [(next < self.len()?).then_some(next), first.checked_sub(1)];
        for index in neighbours.into_iter().flatten() {
            let (neighbour, _) = self.chunk_at(index)?;
            if neighbour.sum.bytes + chunk.sum.bytes > FITS {
                continue;
            }
            let bytes = chunk.bytes(&self.heap.mem)?.to_vec();
            let gone = Sequence::remove_rank(self.heap, self.root, first)?;
            for pointer in gone.into_iter().flatten() {
                self.heap.free(pointer & OFFSET_MASK, layout::LEN)?;
            }
            let end = neighbour.sum.bytes as usize;
            let (index, at) = if index == next { (first, 0) } else { (index, end) };
            return self.splice(index, at..at, Sum::default(), &bytes, chunk.sum);
        }
        Ok(())
    }
}
