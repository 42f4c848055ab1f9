//! Media: where a pool's bytes lie, and what it takes until they stay.
//!
//! A medium maps its bytes at one address for its whole life; growing never moves them. The pool
//! stores through that mapping, tells [`Media::flush`] what must persist, and [`Media::fence`]
//! returns once it has. Only `persist` calls the two.
//!
//! * [`FileMedia`]: files. * [`DeviceMedia`]: devdax. * [`HeapMedia`], [`CrashMedia`]: for tests.
//! * `map`: addresses and what is mapped there. * `lines`: cache lines and how to write them back.

mod crash;
mod device;
mod file;
mod heap;
pub(crate) mod lines;
pub(crate) mod map;
mod sigbus;
mod trace;

pub use crash::{CrashMedia, Granularity, Image};
pub use device::{DeviceMedia, device_bytes, is_device};
pub use file::FileMedia;
pub(crate) use file::free_bytes_in;
use file::kind_in;
pub use heap::HeapMedia;
pub use sigbus::EXIT_CODE as MEDIUM_FAILED_EXIT_CODE;
pub use trace::{Event, Lost, Pages, Persist, Replay, Site, Trace};

use crate::error::{Result, StoreError};
use std::path::Path;

/// What files in `dir` are kept on.
///
/// # Errors
/// [`StoreError::Io`], naming the directory.
pub fn medium_in(dir: &Path) -> Result<Medium> {
    let kind = kind_in(dir).map_err(|e| {
        StoreError::io(format!("asking for the file system of {}", dir.display()), e)
    })?;
    Ok(kind.medium())
}

/// Maps the pool at `path`, a file or a devdax device, to look at it: nothing is changed.
///
/// # Errors
/// As [`FileMedia::inspect`] and [`DeviceMedia::inspect`].
pub fn inspect(path: &Path) -> Result<Box<dyn Media>> {
    Ok(match is_device(path) {
        true => Box::new(DeviceMedia::inspect(path)?),
        false => Box::new(FileMedia::inspect(path)?),
    })
}

/// What a medium promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Persistent memory, mapped: survives power loss. Durable once its cache lines are written
    /// back.
    Dax,
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
    /// Whether a store becomes durable without a system call: commits and appends cost next to
    /// nothing.
    pub fn is_memory(self) -> bool {
        matches!(self, Medium::Dax | Medium::Tmpfs | Medium::Heap)
    }

    /// Name for people: INFO and the ready line.
    pub fn name(self) -> &'static str {
        match self {
            Medium::Dax => "dax",
            Medium::Tmpfs => "tmpfs",
            Medium::File => "file",
            Medium::Heap => "heap",
            Medium::Crash => "crash",
        }
    }
}

/// How a DAX medium is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dax {
    /// Whether the kernel granted `MAP_SYNC`: that what leads to the bytes is as durable as they.
    pub map_sync: bool,
    /// The instruction that writes a cache line back.
    pub instruction: &'static str,
}

/// Mapped bytes that outlive the process.
///
/// # Safety
/// `base` must stay valid for reads and writes of `len` bytes for as long as the medium lives,
/// however `len` grows or shrinks, must be aligned to a page, and no one else may write those bytes.
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
    /// (offset, length) in `backed`, which hold nothing yet; the rest may be a hole.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`] when there is no space; what was there stays usable.
    fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<()>;
    /// Whether [`shrink`](Self::shrink) gives anything back: a device has its size.
    fn can_shrink(&self) -> bool {
        false
    }
    /// Cuts off what lies from `file_bytes` on, whole pages, and gives its space back. Nobody may
    /// read or write there any more; what growing brings back holds zeros. A crash may leave the
    /// bytes there all the same.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`]; all is as it was.
    fn shrink(&self, file_bytes: u64) -> Result<()> {
        let _ = file_bytes;
        Ok(())
    }
    /// Notes that `len` bytes at `offset` must be durable after the next fence of this thread, or
    /// after a [`drain`](Self::drain) of this thread and the next fence of any; a
    /// [`fence_within`](Self::fence_within) counts for what lies in its range.
    fn flush(&self, offset: u64, len: u64);
    /// Hands this thread's flushes to whoever fences: processors order what a thread writes back by
    /// that thread's fences only. Media whose fence is a sync need nothing.
    fn drain(&self) {}
    /// Returns once all that was flushed is durable.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`]: final, for a retried sync can report success for lost pages.
    fn fence(&self) -> Result<()>;
    /// Returns once what was flushed of `len` bytes at `offset` is durable; whether the rest is stays
    /// open until the next [`fence`](Self::fence).
    ///
    /// # Errors
    /// As [`fence`](Self::fence).
    fn fence_within(&self, offset: u64, len: u64) -> Result<()> {
        let _ = (offset, len);
        self.fence()
    }
    /// Told before each flush and each fence which line of code asks for it: for media that show
    /// whether it is needed.
    fn asked_by(&self, site: Site) {
        let _ = site;
    }
    /// Has `len` bytes at `offset` read and mapped, where that takes time.
    fn warm(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
    /// How it is reached, when it is DAX.
    fn dax(&self) -> Option<Dax> {
        None
    }
    /// The file behind it, for messages.
    fn path(&self) -> Option<&Path> {
        None
    }
}

// SAFETY: forwards everything to a medium that keeps the promises; sharing it changes nothing.
unsafe impl<M: Media + ?Sized> Media for std::sync::Arc<M> {
    fn medium(&self) -> Medium {
        (**self).medium()
    }

    fn base(&self) -> *mut u8 {
        (**self).base()
    }

    fn len(&self) -> u64 {
        (**self).len()
    }

    fn reserved(&self) -> u64 {
        (**self).reserved()
    }

    fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<()> {
        (**self).grow(file_bytes, backed)
    }

    fn can_shrink(&self) -> bool {
        (**self).can_shrink()
    }

    fn shrink(&self, file_bytes: u64) -> Result<()> {
        (**self).shrink(file_bytes)
    }

    fn flush(&self, offset: u64, len: u64) {
        (**self).flush(offset, len);
    }

    fn drain(&self) {
        (**self).drain();
    }

    fn dax(&self) -> Option<Dax> {
        (**self).dax()
    }

    fn fence(&self) -> Result<()> {
        (**self).fence()
    }

    fn fence_within(&self, offset: u64, len: u64) -> Result<()> {
        (**self).fence_within(offset, len)
    }

    fn asked_by(&self, site: Site) {
        (**self).asked_by(site);
    }

    fn warm(&self, offset: u64, len: u64) {
        (**self).warm(offset, len);
    }

    fn path(&self) -> Option<&Path> {
        (**self).path()
    }
}
