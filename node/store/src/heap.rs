//! Blocks under copy-on-write: made, owned, freed.
//!
//! A block born in the current epoch is changed in place; one born earlier is copied first, and
//! the copy changed, and so up to the root.

use crate::alloc::{Alloc, event};
use crate::error::{Result, StoreError};
use crate::layout::pool::{BIRTH_MASK, HEADER, OFFSET_MASK};
use crate::persist::Mem;
use std::sync::Arc;

/// Offset of a block in the pool file; 0 is none.
pub type Offset = u64;

/// A word inside an owned block that holds a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Byte offset of the word.
    pub at: Offset,
}

impl Cell {
    /// Word `index` of the block at `block` (the header is words 0 and 1).
    pub fn new(block: Offset, index: usize) -> Cell {
        Cell { at: block + index as u64 * 8 }
    }
}

/// The kind, aux and count of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Epoch the block was written in.
    pub birth: u64,
    /// One of `layout::pool::kind`.
    pub kind: u8,
    /// The kind's own byte.
    pub aux: u8,
    /// The kind's own half word.
    pub count: u32,
}

/// Reads a block's header.
///
/// # Errors
/// [`StoreError::Corrupt`] when it lies outside the pool.
#[inline]
pub fn head(mem: &Mem, block: Offset) -> Result<Head> {
    let word = mem.word(block)?;
    Ok(Head {
        birth: word & BIRTH_MASK,
        kind: (word >> 48) as u8,
        aux: (word >> 56) as u8,
        count: mem.half(block + 8)?,
    })
}

/// Checks that the block at `block` is a `kind`.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not.
#[inline]
pub fn expect(mem: &Mem, block: Offset, kind: u8, name: &str) -> Result<Head> {
    let head = head(mem, block)?;
    if head.kind != kind {
        return Err(StoreError::corrupt(
            format!("a block of kind {} where {name} should be", head.kind),
            block,
        ));
    }
    Ok(head)
}

/// The writer's blocks.
pub struct Heap {
    pub(crate) mem: Arc<Mem>,
    pub(crate) alloc: Alloc,
    /// The current epoch: births of what is written now.
    pub(crate) epoch: u64,
    /// Epoch of the newest snapshot, 0 without one: what was born up to it outlives its death.
    pub(crate) keep_upto: u64,
    /// What has died and is kept, and is not entered under its snapshot yet.
    pub(crate) kept: Vec<Offset>,
}

impl Heap {
    /// Blocks of a pool in epoch `epoch`.
    pub(crate) fn new(mem: Arc<Mem>, alloc: Alloc, epoch: u64) -> Heap {
        Heap { mem, alloc, epoch, keep_upto: 0, kept: Vec::new() }
    }

    /// Makes a block of `len` bytes whose body is still to be written.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn make(&mut self, kind: u8, aux: u8, count: u32, len: usize) -> Result<Offset> {
        let block = self.alloc.alloc(len, event::ALLOC)?;
        self.set_head(block, kind, aux, count)?;
        Ok(block)
    }

    /// Makes a block that gets its CRC from [`Heap::seal`], while it is still in the cache.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn make_sealed(&mut self, kind: u8, aux: u8, count: u32, len: usize) -> Result<Offset> {
        let block = self.alloc.alloc(len, event::ALLOC_SEALED)?;
        self.set_head(block, kind, aux, count)?;
        Ok(block)
    }

    /// Fills in the CRC of a block of `len` bytes made by [`Heap::make_sealed`].
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it lies outside the pool.
    pub fn seal(&mut self, block: Offset, len: usize) -> Result<()> {
        self.mem.seal_block(block, Alloc::block_bytes(len))
    }

    /// Makes a block with an all-zero body.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn make_zeroed(&mut self, kind: u8, aux: u8, count: u32, len: usize) -> Result<Offset> {
        let block = self.make(kind, aux, count, len)?;
        for word in (HEADER..len.next_multiple_of(8)).step_by(8) {
            self.mem.store_word(block + word as u64, 0)?;
        }
        Ok(block)
    }

    /// Rewrites a header, born now.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it lies outside the pool.
    #[inline]
    pub fn set_head(&mut self, block: Offset, kind: u8, aux: u8, count: u32) -> Result<()> {
        let word = self.epoch & BIRTH_MASK | u64::from(kind) << 48 | u64::from(aux) << 56;
        self.mem.store_word(block, word)?;
        self.mem.store_half(block + 8, count)
    }

    /// Sets the count of an owned block.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it lies outside the pool.
    #[inline]
    pub fn set_count(&mut self, block: Offset, count: u32) -> Result<()> {
        self.mem.store_half(block + 8, count)
    }

    /// Whether the block may be changed in place.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it lies outside the pool.
    #[inline]
    pub fn owns(&self, block: Offset) -> Result<bool> {
        Ok(self.mem.word(block)? & BIRTH_MASK == self.epoch)
    }

    /// The block itself when it may be changed, else a copy that may.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    #[inline]
    pub fn own(&mut self, block: Offset, len: usize) -> Result<Offset> {
        if self.stays(block)? {
            return Ok(block);
        }
        let copy = self.copy(block, len)?;
        self.free(block, len)?;
        Ok(copy)
    }

    /// A copy of a block, born now.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    #[inline]
    pub(crate) fn copy(&mut self, block: Offset, len: usize) -> Result<Offset> {
        // A copy gets a checksum of its own, which must not make good what was damaged.
        self.mem.verify(block, len)?;
        let old = head(&self.mem, block)?;
        let copy = self.make(old.kind, old.aux, old.count, len)?;
        self.mem.copy_body(block, copy, len)?;
        Ok(copy)
    }

    /// Whether the block may be changed where it lies: it is of this epoch, and its slab is not
    /// being emptied.
    #[inline]
    fn stays(&self, block: Offset) -> Result<bool> {
        Ok(self.owns(block)? && !self.alloc.is_leaving(block))
    }

    /// Notes that a block of an earlier epoch died; one that a snapshot sees is kept for it.
    #[inline]
    fn bury(&mut self, block: Offset, birth: u64, len: usize) -> Result<()> {
        if birth > self.keep_upto {
            return self.alloc.dead(block, len);
        }
        self.kept.push(block);
        self.alloc.keep(len);
        Ok(())
    }

    /// As [`Heap::own_at`], for a block that no snapshot sees, whatever its birth.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub(crate) fn own_unseen_at(&mut self, cell: Cell, len: usize) -> Result<Offset> {
        let block = self.mem.word(cell.at)?;
        let owned = self.own_unseen(block, len)?;
        if owned != block {
            self.set(cell, owned)?;
        }
        Ok(owned)
    }

    /// As [`Heap::own`], for a block that no snapshot sees, whatever its birth.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub(crate) fn own_unseen(&mut self, block: Offset, len: usize) -> Result<Offset> {
        if self.stays(block)? {
            return Ok(block);
        }
        let copy = self.copy(block, len)?;
        self.free_unseen(block, len)?;
        Ok(copy)
    }

    /// As [`Heap::free`], for a block that no snapshot sees, whatever its birth.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no such block.
    pub(crate) fn free_unseen(&mut self, block: Offset, len: usize) -> Result<()> {
        if self.owns(block)? {
            return self.alloc.free_now(block);
        }
        self.alloc.dead(block, len)
    }

    /// Owns the block that `cell` points to, keeping the pointer's tag.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    #[inline]
    pub fn own_at(&mut self, cell: Cell, len: usize) -> Result<Offset> {
        let pointer = self.mem.word(cell.at)?;
        let block = pointer & OFFSET_MASK;
        let owned = self.own(block, len)?;
        if owned != block {
            self.set(cell, pointer & !OFFSET_MASK | owned)?;
        }
        Ok(owned)
    }

    /// Frees a block of `len` bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no such block.
    #[inline]
    pub fn free(&mut self, block: Offset, len: usize) -> Result<()> {
        let birth = self.mem.word(block)? & BIRTH_MASK;
        if birth == self.epoch {
            return self.alloc.free_now(block);
        }
        self.bury(block, birth, len)
    }

    /// Reads the pointer in a cell.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it lies outside the pool.
    #[inline]
    pub fn get(&self, cell: Cell) -> Result<u64> {
        self.mem.word(cell.at)
    }

    /// Writes the pointer in a cell of an owned block.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it lies outside the pool.
    #[inline]
    pub fn set(&mut self, cell: Cell, pointer: u64) -> Result<()> {
        self.mem.store_word(cell.at, pointer)
    }
}

/// What the tests of the structures share.
#[cfg(test)]
pub(crate) mod testing {
    use super::Heap;
    use crate::alloc::Alloc;
    pub(crate) use crate::log::crash_disk::Rng;
    use crate::media::HeapMedia;
    use crate::persist::Mem;
    use std::sync::Arc;

    /// A heap of 64 MiB in epoch 1.
    pub(crate) fn heap() -> Heap {
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(64 << 20))));
        let alloc = Alloc::new(mem.clone(), Default::default(), 0, 0, 60 << 20);
        Heap::new(mem, alloc, 1)
    }

    /// Seeds to run: `CAIRN_SEED` for one, `CAIRN_SEEDS` for so many, else `default`.
    pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
        let read = |name| std::env::var(name).ok().and_then(|v: String| v.parse::<u64>().ok());
        match (read("CAIRN_SEED"), read("CAIRN_SEEDS")) {
            (Some(seed), _) => seed..seed + 1,
            (None, count) => 0..count.unwrap_or(default),
        }
    }
}
