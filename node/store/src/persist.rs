//! Store, flush, fence: the only module that touches mapped bytes and that orders what persists.
//!
//! Who may touch what:
//! - a block born in the current epoch is written only by the shard's writer, which holds the
//!   pool exclusively (`&mut`), so no reader of the live tree is about;
//! - a block of a sealed epoch never changes, but for the four bytes of its CRC, which the
//!   committer fills in and which no one else reads before the block was loaded from media;
//! - slab records and superblocks are touched by the committer alone once the pool is open.

use crate::error::{Result, StoreError};
use crate::layout::pool::{BIRTH_MASK, BLOCK_CRC, CLASS_BY_WORDS, CLASS_BYTES, HEADER};
use crate::media::{Media, Medium};
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The mapped bytes of one pool.
pub struct Mem {
    media: Box<dyn Media>,
    base: *mut u8,
    /// The medium's length, beside `base` so that a bounds check costs one load.
    len: AtomicU64,
    failed: AtomicBool,
    /// Blocks below this offset need no check: they were found whole, or this run wrote them.
    trusted_below: AtomicU64,
    /// What was written in epochs up to this one has its checksum.
    before: AtomicU64,
    /// The epoch that is being written.
    now: AtomicU64,
    /// Held while slab records are read or wiped by the writer, written or wiped by the committer,
    /// or cut off.
    pub(crate) records: parking_lot::Mutex<()>,
}

// SAFETY: the medium is Send and Sync; `base` is its mapping, valid while the medium lives; the
// rules in the module's head say who may touch which bytes.
unsafe impl Send for Mem {}
// SAFETY: as for Send.
unsafe impl Sync for Mem {}

impl Mem {
    /// Takes over a medium.
    pub fn new(media: Box<dyn Media>) -> Mem {
        let (base, len) = (media.base(), AtomicU64::new(media.len()));
        let failed = AtomicBool::new(false);
        Mem {
            media,
            base,
            len,
            failed,
            trusted_below: AtomicU64::new(u64::MAX),
            before: AtomicU64::new(0),
            now: AtomicU64::new(u64::MAX),
            records: parking_lot::Mutex::new(()),
        }
    }

    /// The medium beneath.
    pub fn media(&self) -> &dyn Media {
        &*self.media
    }

    /// What the medium promises.
    pub fn medium(&self) -> Medium {
        self.media.medium()
    }

    /// Grows the medium: [`Media::grow`].
    ///
    /// # Errors
    /// As [`Media::grow`].
    pub(crate) fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<()> {
        self.media.grow(file_bytes, backed)?;
        self.len.store(self.media.len(), Ordering::Release);
        Ok(())
    }

    /// Cuts the medium off at `file_bytes`: [`Media::shrink`]. Nobody may know of anything behind it.
    ///
    /// # Errors
    /// As [`Media::shrink`].
    pub(crate) fn shrink(&self, file_bytes: u64) -> Result<()> {
        let _records = self.records.lock();
        self.len.fetch_min(file_bytes, Ordering::AcqRel);
        let shrunk = self.media.shrink(file_bytes);
        self.len.store(self.media.len(), Ordering::Release);
        shrunk
    }

    #[inline]
    fn check(&self, offset: u64, len: usize) -> Result<*mut u8> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len.load(Ordering::Acquire)) {
            return Err(StoreError::corrupt(
                format!("a pointer to {len} bytes beyond the end of the pool"),
                offset,
            ));
        }
        // SAFETY: offset + len is inside the mapping, which is one allocation.
        Ok(unsafe { self.base.add(offset as usize) })
    }

    /// The bytes at `offset`. They must lie behind a block's header, in a superblock or in a slab
    /// record.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    #[inline]
    pub fn bytes(&self, offset: u64, len: usize) -> Result<&[u8]> {
        let at = self.check(offset, len)?;
        // SAFETY: in bounds (checked); u8 needs no alignment and has no invalid values; by the
        // rules above nobody writes these bytes while a reader may hold them.
        Ok(unsafe { std::slice::from_raw_parts(at, len) })
    }

    /// The little-endian word at `offset`, which need not be aligned on media that lie.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    #[inline]
    pub fn word(&self, offset: u64) -> Result<u64> {
        let at = self.check(offset, 8)?;
        // SAFETY: in bounds (checked); an unaligned read of plain bytes; not written meanwhile.
        Ok(u64::from_le(unsafe { at.cast::<u64>().read_unaligned() }))
    }

    /// The little-endian half word at `offset`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    #[inline]
    pub fn half(&self, offset: u64) -> Result<u32> {
        let at = self.check(offset, 4)?;
        // SAFETY: as for `word`.
        Ok(u32::from_le(unsafe { at.cast::<u32>().read_unaligned() }))
    }

    /// Stores bytes. Only for blocks of the current epoch (writer), superblocks and slab records
    /// (committer).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    #[inline]
    pub(crate) fn store(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let at = self.check(offset, bytes.len())?;
        // SAFETY: in bounds (checked); the caller owns the block by the rules above; source and
        // target cannot overlap, for a `&[u8]` into the pool is never of a block being written.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        Ok(())
    }

    /// Stores a little-endian word, as [`Mem::store`].
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    #[inline]
    pub(crate) fn store_word(&self, offset: u64, word: u64) -> Result<()> {
        let at = self.check(offset, 8)?;
        // SAFETY: as for `store`.
        unsafe { at.cast::<u64>().write_unaligned(word.to_le()) };
        Ok(())
    }

    /// Stores a little-endian half word, as [`Mem::store`].
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    #[inline]
    pub(crate) fn store_half(&self, offset: u64, half: u32) -> Result<()> {
        let at = self.check(offset, 4)?;
        // SAFETY: as for `store`.
        unsafe { at.cast::<u32>().write_unaligned(half.to_le()) };
        Ok(())
    }

    /// Moves bytes inside a block of the current epoch; ranges may overlap.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a range leaves the pool.
    pub(crate) fn shift(&self, from: u64, to: u64, len: usize) -> Result<()> {
        let source = self.check(from, len)?;
        let target = self.check(to, len)?;
        // SAFETY: both in bounds (checked); `copy` allows overlap; the writer owns the block.
        unsafe { std::ptr::copy(source, target, len) };
        Ok(())
    }

    /// Copies the body (not the header) of a block to a fresh one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a range leaves the pool.
    #[inline]
    pub(crate) fn copy_body(&self, from: u64, to: u64, len: usize) -> Result<()> {
        let body = len - HEADER;
        let source = self.check(from + HEADER as u64, body)?;
        let target = self.check(to + HEADER as u64, body)?;
        // SAFETY: both in bounds (checked); distinct blocks of the allocator do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(source, target, body) };
        Ok(())
    }

    /// Asks the processor to fetch the line at `offset`; a wrong offset does nothing.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        #[cfg(target_arch = "x86_64")]
        if offset < self.len.load(Ordering::Relaxed) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch has no effect but on caches, and the address is mapped.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.base.add(offset as usize).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// Fills in a block's CRC: by the writer for a block it has just made, by the committer for
    /// the rest of a sealed epoch.
    ///
    /// The CRC's own bytes count as zeros, so that it runs over the block in one piece.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    pub(crate) fn seal_block(&self, offset: u64, len: usize) -> Result<()> {
        self.store_half(offset + BLOCK_CRC as u64, 0)?;
        let crc = crc_at(offset, self.bytes(offset, len)?);
        self.store_half(offset + BLOCK_CRC as u64, crc)
    }

    /// Whether a block's CRC fits its bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the range leaves the pool.
    pub fn block_is_sound(&self, offset: u64, len: usize) -> Result<bool> {
        Ok(is_sound(offset, self.bytes(offset, len)?))
    }

    /// From now on blocks that were written in epochs up to `before` are checked whenever they are
    /// met, until [`Mem::trust`] says that they need not be.
    pub(crate) fn distrust(&self, before: u64) {
        self.before.store(before, Ordering::Relaxed);
        self.trusted_below.store(0, Ordering::Relaxed);
    }

    /// What was written in epochs up to `epoch` has its checksum: who claims to be of one of them is
    /// checked like what earlier runs wrote.
    pub(crate) fn note_sealed(&self, epoch: u64) {
        self.before.fetch_max(epoch, Ordering::Relaxed);
    }

    /// Blocks below `offset` have been checked.
    pub(crate) fn trust(&self, offset: u64) {
        self.trusted_below.store(offset, Ordering::Relaxed);
    }

    /// Whether the block at `offset` need not be checked.
    #[inline]
    pub(crate) fn trusts(&self, offset: u64) -> bool {
        offset < self.trusted_below.load(Ordering::Relaxed)
    }

    /// Whether there are blocks that are checked when they are met.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted_below.load(Ordering::Relaxed) == u64::MAX
    }

    /// The last epoch that is committed: all that it and those before it wrote has its checksum.
    pub(crate) fn before(&self) -> u64 {
        self.before.load(Ordering::Relaxed)
    }

    /// A new epoch has begun.
    pub(crate) fn set_now(&self, epoch: u64) {
        self.now.store(epoch, Ordering::Relaxed);
    }

    /// Makes sure that a block of `len` bytes is as it was written: one that an earlier run wrote,
    /// while nobody has checked it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not.
    #[inline]
    pub(crate) fn verify(&self, block: u64, len: usize) -> Result<()> {
        if self.trusts(block) {
            return Ok(());
        }
        self.verify_block(block, len)
    }

    #[cold]
    fn verify_block(&self, block: u64, len: usize) -> Result<()> {
        let birth = self.word(block)? & BIRTH_MASK;
        if birth > self.now.load(Ordering::Relaxed) {
            return Err(StoreError::corrupt("a block from an epoch that has not come yet", block));
        }
        if birth > self.before() {
            // It is being written; its CRC may still be to come.
            return Ok(());
        }
        let class = CLASS_BY_WORDS.get(len.div_ceil(8)).map(|&class| CLASS_BYTES[class as usize]);
        if let Some(bytes) = class
            && self.block_is_sound(block, bytes as usize)?
        {
            return Ok(());
        }
        Err(StoreError::corrupt("a block whose checksum does not fit", block))
    }

    /// Notes bytes for the next fence.
    #[track_caller]
    pub(crate) fn flush(&self, offset: u64, len: u64) {
        self.media.asked_by(Location::caller());
        self.media.flush(offset, len);
    }

    /// Lets a fence of another thread count for what this one has flushed: [`Media::drain`].
    pub(crate) fn drain(&self) {
        self.media.drain();
    }

    /// Makes what was flushed durable.
    ///
    /// # Errors
    /// [`StoreError::Io`] the first time, [`StoreError::Stopped`] ever after: after a failed sync
    /// the kernel may drop the pages and report the next one as good.
    #[track_caller]
    pub(crate) fn fence(&self) -> Result<()> {
        self.media.asked_by(Location::caller());
        self.synced(|media| media.fence())
    }

    /// Makes durable what was flushed of `len` bytes at `offset`, and does not wait for the rest.
    ///
    /// # Errors
    /// As [`fence`](Self::fence).
    #[track_caller]
    pub(crate) fn fence_within(&self, offset: u64, len: u64) -> Result<()> {
        self.media.asked_by(Location::caller());
        self.synced(|media| media.fence_within(offset, len))
    }

    fn synced(&self, sync: impl FnOnce(&dyn Media) -> Result<()>) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StoreError::Stopped("an earlier sync of the pool failed".into()));
        }
        sync(&*self.media).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }
}

/// Whether the CRC of `block`, which belongs at `offset`, fits its bytes.
pub(crate) fn is_sound(offset: u64, block: &[u8]) -> bool {
    let mut crc = crc32fast::Hasher::new_with_initial(offset as u32);
    crc.update(&block[..BLOCK_CRC]);
    crc.update(&[0; HEADER - BLOCK_CRC]);
    crc.update(&block[HEADER..]);
    crc.finalize().to_le_bytes() == block[BLOCK_CRC..HEADER]
}

/// CRC of a block, begun with its place, so that a block written elsewhere does not pass.
fn crc_at(offset: u64, block: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(offset as u32);
    crc.update(block);
    crc.finalize()
}
