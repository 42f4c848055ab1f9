//! Media: where a pool's bytes lie, and what it takes until they stay.
//!
//! A medium maps its bytes at one address for its whole life; growing never moves them. The pool
//! stores through that mapping, tells [`Media::flush`] what must persist, and [`Media::fence`]
//! returns once it has. Only `persist` calls the two.

mod crash;
mod file;
mod heap;

pub use crash::{CrashMedia, Granularity, Image};
pub use file::FileMedia;
pub use heap::HeapMedia;

use crate::error::Result;
use std::path::Path;

/// What a medium promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Memory of the kernel: survives the process, not the machine. Durable when stored.
    Tmpfs,
    /// A page-cached file: durable once synced.
    File,
    /// Memory of the process, for tests.
    Heap,
    /// A heap that remembers what a crash could leave, for tests.
    Crash,
}

impl Medium {
    /// Whether a store is durable without a sync.
    pub fn is_memory(self) -> bool {
        matches!(self, Medium::Tmpfs | Medium::Heap)
    }

    /// Name for people: INFO and the ready line.
    pub fn name(self) -> &'static str {
        match self {
            Medium::Tmpfs => "tmpfs",
            Medium::File => "file",
            Medium::Heap => "heap",
            Medium::Crash => "crash",
        }
    }
}

/// Mapped bytes that outlive the process.
///
/// # Safety
/// `base` must stay valid for reads and writes of `len` bytes for as long as the medium lives,
/// however `len` grows, must be aligned to a page, and no one else may write those bytes.
pub unsafe trait Media: Send + Sync {
    /// What it promises.
    fn medium(&self) -> Medium;
    /// The first mapped byte.
    fn base(&self) -> *mut u8;
    /// Bytes that are mapped and backed by allocated space.
    fn len(&self) -> u64;
    /// Whether nothing is mapped yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How far it may ever grow: the addresses that are reserved for it.
    fn reserved(&self) -> u64;
    /// Makes bytes up to `file_bytes` available, with space allocated for the ranges
    /// (offset, length) in `backed`; the rest may be a hole.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`] when there is no space; what was there stays usable.
    fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<()>;
    /// Notes that `len` bytes at `offset` must be durable after the next fence.
    fn flush(&self, offset: u64, len: u64);
    /// Returns once all that was flushed is durable.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`]: final, for a retried sync can report success for lost pages.
    fn fence(&self) -> Result<()>;
    /// Has `len` bytes at `offset` read and mapped, where that takes time.
    fn warm(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
    /// The file behind it, for messages.
    fn path(&self) -> Option<&Path> {
        None
    }
}
