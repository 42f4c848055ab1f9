//! A chunk: neighbouring elements of a list in one block, changed in place while the epoch owns it.

use crate::error::{Result, StoreError};
use crate::heap::{Cell, Heap, Offset, expect};
use crate::layout::pool::{OFFSET_BITS, OFFSET_MASK, kind, list as layout};
use crate::persist::Mem;
use cairn_protocol::number::parse_i64;
use std::ops::Range;

/// An element as a chunk holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// Its bytes.
    Inline(&'a [u8]),
    /// The blob with its bytes.
    Long(Offset),
}

/// What elements come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum {
    /// Elements.
    pub count: u64,
    /// Bytes they take in chunks.
    pub bytes: u64,
    /// Bytes that those not in blobs would take in a listpack.
    pub listpack: u64,
    /// Elements in blobs.
    pub long: u64,
    /// What those blobs count as, in bytes.
    pub blobs: u64,
}

impl Sum {
    pub fn add(&mut self, other: Sum) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.listpack += other.listpack;
        self.long += other.long;
        self.blobs += other.blobs;
    }

    fn less(self, other: Sum) -> Sum {
        Sum {
            count: self.count.wrapping_sub(other.count),
            bytes: self.bytes.wrapping_sub(other.bytes),
            listpack: self.listpack.wrapping_sub(other.listpack),
            long: self.long.wrapping_sub(other.long),
            blobs: self.blobs.wrapping_sub(other.blobs),
        }
    }
}

/// Bytes an element takes in a listpack, by whose length Redis chooses a list's encoding.
pub fn listpack_len(element: &[u8]) -> u64 {
    let len = element.len() as u64;
    let body = match (element.len() <= 20).then(|| parse_i64(element)).flatten() {
        Some(0..=127) => 1,
        Some(-4096..=4095) => 2,
        Some(n) if i16::try_from(n).is_ok() => 3,
        Some(-8_388_608..=8_388_607) => 4,
        Some(n) if i32::try_from(n).is_ok() => 5,
        Some(_) => 9,
        None if len < 64 => 1 + len,
        None if len < 4096 => 2 + len,
        None => 5 + len,
    };
    let back = match body {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    };
    body + back
}

/// Writes an element as chunks hold it, the same from either end.
pub(crate) fn encode(mem: &Mem, item: Item<'_>, out: &mut Vec<u8>) -> Result<Sum> {
    let before = out.len();
    match item {
        Item::Inline(bytes) if bytes.len() < layout::MIDDLE as usize => {
            out.push(bytes.len() as u8);
            out.extend_from_slice(bytes);
            out.push(bytes.len() as u8);
        }
        Item::Inline(bytes) => {
            let len = (bytes.len() as u16).to_le_bytes();
            out.extend_from_slice(&[layout::MIDDLE, len[0], len[1]]);
            out.extend_from_slice(bytes);
            out.extend_from_slice(&[len[0], len[1], layout::MIDDLE]);
        }
        Item::Long(at) => {
            out.push(layout::LONG);
            out.extend_from_slice(&at.to_le_bytes()[..6]);
            out.push(layout::LONG);
        }
    }
    sum_of(mem, item, (out.len() - before) as u64)
}

fn sum_of(mem: &Mem, item: Item<'_>, bytes: u64) -> Result<Sum> {
    let mut sum = Sum { count: 1, bytes, ..Sum::default() };
    match item {
        Item::Inline(bytes) => sum.listpack = listpack_len(bytes),
        Item::Long(at) => {
            sum.long = 1;
            sum.blobs = crate::blob::Record::read(mem, at)?.bytes();
        }
    }
    Ok(sum)
}

/// A chunk's header, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    at: Offset,
    /// Where its elements begin, in the block.
    start: u64,
    /// What its elements come to.
    pub sum: Sum,
}

impl Chunk {
    /// Reads the chunk that `pointer` points to; its tag says how many elements are there.
    pub fn read(mem: &Mem, pointer: u64) -> Result<Chunk> {
        let (at, count) = (pointer & OFFSET_MASK, pointer >> OFFSET_BITS);
        mem.verify(at, layout::LEN)?;
        let head = expect(mem, at, kind::LIST_CHUNK, "a chunk of a list")?;
        let word = mem.word(at + layout::PLACE as u64)?;
        let (start, end) = (word & 0xffff, word >> 16 & 0xffff);
        let fits = layout::BODY as u64 <= start && start < end && end <= layout::LEN as u64;
        if !fits || u64::from(head.count) != count || count == 0 {
            return Err(StoreError::corrupt("a chunk of a list that does not add up", at));
        }
        let sum = Sum {
            count,
            bytes: end - start,
            listpack: word >> 32 & 0xffff,
            long: word >> 48,
            blobs: mem.word(at + layout::BLOBS as u64)?,
        };
        Ok(Chunk { at, start, sum })
    }

    /// Makes a chunk of these elements; at the far end of the block when more are to come before
    /// them. Returns its pointer.
    pub fn make(heap: &mut Heap, bytes: &[u8], sum: Sum, grows_down: bool) -> Result<u64> {
        let at = heap.make(kind::LIST_CHUNK, 0, 0, layout::LEN)?;
        let start = if grows_down { layout::LEN - bytes.len() } else { layout::BODY };
        let chunk = Chunk { at, start: start as u64, sum };
        heap.mem.store(at + chunk.start, bytes)?;
        chunk.write(heap)
    }

    fn write(&self, heap: &mut Heap) -> Result<u64> {
        let Sum { count, bytes, listpack, long, blobs } = self.sum;
        let end = self.start + bytes;
        heap.set_count(self.at, count as u32)?;
        let word = self.start | end << 16 | listpack << 32 | long << 48;
        heap.set(Cell { at: self.at + layout::PLACE as u64 }, word)?;
        heap.set(Cell { at: self.at + layout::BLOBS as u64 }, blobs)?;
        Ok(self.at | count << OFFSET_BITS)
    }

    /// Shows `visit` the number of each element in a blob, where in the elements that blob's offset
    /// stands, and the offset.
    pub fn each_long(
        &self,
        mem: &Mem,
        visit: &mut dyn FnMut(u64, u64, Offset) -> Result<()>,
    ) -> Result<()> {
        if self.sum.long == 0 {
            return Ok(());
        }
        let (bytes, mut at, mut index) = (self.bytes(mem)?, 0, 0);
        while at < bytes.len() {
            let (item, end) = self.after(bytes, at)?;
            if let Item::Long(blob) = item {
                visit(index, self.start + at as u64 + 1, blob)?;
            }
            (at, index) = (end, index + 1);
        }
        Ok(())
    }

    /// Writes the offset of an element's blob at the place in an owned chunk that
    /// [`Chunk::each_long`] has shown.
    pub fn point(heap: &mut Heap, chunk: Offset, place: u64, blob: Offset) -> Result<()> {
        heap.mem.store(chunk + place, &blob.to_le_bytes()[..6])
    }

    /// The elements as they are written.
    pub fn bytes<'a>(&self, mem: &'a Mem) -> Result<&'a [u8]> {
        mem.bytes(self.at + self.start, self.sum.bytes as usize)
    }

    fn broken(&self) -> StoreError {
        StoreError::corrupt("elements of a list that do not add up", self.at)
    }

    /// The element that begins at `from`, and where it ends.
    pub fn after<'a>(&self, bytes: &'a [u8], from: usize) -> Result<(Item<'a>, usize)> {
        let mark = *bytes.get(from).ok_or_else(|| self.broken())?;
        let (body, rim) = match mark {
            layout::LONG => (6, 1),
            layout::MIDDLE => {
                let len = bytes.get(from + 1..from + 3).ok_or_else(|| self.broken())?;
                (usize::from(len[0]) | usize::from(len[1]) << 8, 3)
            }
            len => (usize::from(len), 1),
        };
        self.item(bytes, mark, from + rim..from + rim + body, rim)
            .map(|item| (item, from + body + 2 * rim))
    }

    /// The element that ends at `end`, and where it begins.
    pub fn before<'a>(&self, bytes: &'a [u8], end: usize) -> Result<(Item<'a>, usize)> {
        let mark = end.checked_sub(1).and_then(|last| bytes.get(last));
        let mark = *mark.ok_or_else(|| self.broken())?;
        let (body, rim) = match mark {
            layout::LONG => (6, 1),
            layout::MIDDLE => {
                let len = end.checked_sub(3).and_then(|from| bytes.get(from..from + 2));
                let len = len.ok_or_else(|| self.broken())?;
                (usize::from(len[0]) | usize::from(len[1]) << 8, 3)
            }
            len => (usize::from(len), 1),
        };
        let from = end.checked_sub(body + 2 * rim).ok_or_else(|| self.broken())?;
        self.item(bytes, mark, from + rim..from + rim + body, rim).map(|item| (item, from))
    }

    fn item<'a>(
        &self,
        bytes: &'a [u8],
        mark: u8,
        body: Range<usize>,
        rim: usize,
    ) -> Result<Item<'a>> {
        let opens = bytes.get(body.start - rim) == Some(&mark);
        let closes = bytes.get(body.end + rim - 1) == Some(&mark);
        match bytes.get(body).filter(|_| opens && closes) {
            Some(body) if mark == layout::LONG => {
                let mut word = [0; 8];
                word[..6].copy_from_slice(body);
                Ok(Item::Long(u64::from_le_bytes(word)))
            }
            Some(body) => Ok(Item::Inline(body)),
            None => Err(self.broken()),
        }
    }

    /// Where element `index` begins; the end when there are as many.
    pub fn position(&self, mem: &Mem, index: u64) -> Result<usize> {
        let bytes = self.bytes(mem)?;
        if index <= self.sum.count / 2 {
            return (0..index).try_fold(0, |at, _| Ok(self.after(bytes, at)?.1));
        }
        (index..self.sum.count).try_fold(bytes.len(), |at, _| Ok(self.before(bytes, at)?.1))
    }

    /// What the elements in a range of bytes come to.
    pub fn sum_of(&self, mem: &Mem, range: Range<usize>) -> Result<Sum> {
        let (bytes, mut at, mut sum) = (self.bytes(mem)?, range.start, Sum::default());
        while at < range.end {
            let (item, end) = self.after(bytes, at)?;
            sum.add(sum_of(mem, item, (end - at) as u64)?);
            at = end;
        }
        Ok(sum)
    }

    /// Whether `more` bytes may go in before element `slot`. What is put at an end that the block
    /// has no more room behind moves all others, so it must pay: a queue that wanders through
    /// its chunk moves it once in so many pushes.
    pub fn has_room(&self, slot: u64, more: u64) -> bool {
        let used = self.sum.bytes + more;
        let before = self.start - layout::BODY as u64;
        let after = layout::CAPACITY as u64 - before - self.sum.bytes;
        let pays = layout::CAPACITY as u64 / 4;
        used <= layout::CAPACITY as u64
            && (slot != 0 || before >= more || after >= pays.max(more))
            && (slot != self.sum.count || after >= more || before >= pays.max(more))
    }

    /// Puts `new` elements in the place of those in a range of bytes, in an owned chunk that has
    /// room; returns its pointer. No element may be left over only if the caller frees the block.
    pub fn splice(
        mut self,
        heap: &mut Heap,
        range: Range<usize>,
        old: Sum,
        new: &[u8],
        sum: Sum,
    ) -> Result<u64> {
        let (head, tail) = (range.start as u64, self.sum.bytes - range.end as u64);
        let bytes = head + new.len() as u64 + tail;
        let (start, end) = (self.start, self.start + self.sum.bytes);
        let room = layout::BODY as u64..layout::LEN as u64;
        // The shorter side moves, if there is room on it, and else all of it.
        let by_tail = start + bytes <= room.end;
        let by_head = end >= room.start + bytes;
        self.start = match (by_head, by_tail) {
            (true, true) if head < tail => end - bytes,
            (_, true) => start,
            (true, false) => end - bytes,
            (false, false) if head == 0 => room.end - bytes,
            (false, false) if tail == 0 => room.start,
            (false, false) => room.start + (layout::CAPACITY as u64 - bytes) / 2,
        };
        let mem = &heap.mem;
        let (to_head, from_tail) = (self.at + self.start, self.at + end - tail);
        let to_tail = self.at + self.start + bytes - tail;
        // The first to move is the one whose new place is not taken by the other's old one.
        if to_tail > from_tail {
            mem.shift(from_tail, to_tail, tail as usize)?;
            mem.shift(self.at + start, to_head, head as usize)?;
        } else {
            mem.shift(self.at + start, to_head, head as usize)?;
            mem.shift(from_tail, to_tail, tail as usize)?;
        }
        mem.store(to_head + head, new)?;
        self.sum = self.sum.less(old);
        self.sum.add(sum);
        self.write(heap)
    }

    /// The chunk, owned.
    pub fn own(mut self, heap: &mut Heap) -> Result<Chunk> {
        self.at = heap.own(self.at, layout::LEN)?;
        Ok(self)
    }
}
