//! The end of the file: free extents there are given back to the file system.
//!
//! 1. The writer lets go of the free extents at the end ([`Store::cut_tail`]); free means that no
//!    committed root, fall-back root or pin sees anything in them. From here on nothing is allocated
//!    there, unless the pool grows again: over extents that a superblock still counts, whose newest
//!    records say that they are empty, or over others, whose records it wipes first.
//! 2. Two commits later both superblocks say that the pool ends before them, and the committer has
//!    no more events in them. A crash until then finds a file that is as long as either superblock
//!    says, or longer.
//! 3. The file is cut, a piece at a time ([`Store::shrink_some`]). It does not matter whether a crash
//!    leaves it long or short: what lies behind the extents that a superblock counts means nothing.

use super::Store;
use crate::error::Result;
use crate::layout::pool::{EXTENT, file_bytes};

/// No longer than this under one hold of the lock.
const CUT_BYTES: u64 = EXTENT;

impl Store {
    /// Lets go of free extents at the end when the file is much longer than it need be, or longer
    /// than it may be.
    pub(crate) fn cut_tail(&mut self) {
        if self.heap.alloc.cut_tail() {
            self.cut_epoch = self.heap.epoch;
        }
    }

    /// Bytes of the file behind the last extent.
    fn surplus_bytes(&self) -> u64 {
        let media = self.heap.mem.media();
        if !media.can_shrink() {
            return 0;
        }
        media.len().saturating_sub(file_bytes(self.heap.alloc.extents()))
    }

    /// Whether the file may not be cut before two more commits, empty ones too.
    pub(super) fn awaits_cut(&self) -> bool {
        self.fallback_epoch < self.cut_epoch
            && self.cut_epoch != u64::MAX
            && self.surplus_bytes() > 0
    }

    /// Gives some of the file's end back to the file system, if commits allow it by now; says whether
    /// there is more to give back at once.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`] when the file could not be cut. It stays as long as it is, which
    /// harms nothing; that is not tried again before more extents have become free.
    pub fn shrink_some(&mut self) -> Result<bool> {
        let surplus = self.surplus_bytes();
        if surplus == 0 || self.fallback_epoch < self.cut_epoch {
            return Ok(false);
        }
        let len = self.heap.mem.media().len() - surplus.min(CUT_BYTES);
        self.heap.mem.shrink(len).inspect_err(|_| self.cut_epoch = u64::MAX)?;
        Ok(surplus > CUT_BYTES)
    }
}
