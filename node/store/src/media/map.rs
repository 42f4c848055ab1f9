//! Reserved addresses, and files mapped into them: what file and device media have in common.

use super::sigbus::{self, Watched};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// How a file is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Stores reach the file's pages.
    Shared,
    /// Stores reach the file's pages, which are the medium itself; the kernel keeps what leads to
    /// them durable (`MAP_SYNC`). Refused where it cannot promise that.
    Sync,
    /// Stores go to private memory.
    Private,
    /// No stores.
    ReadOnly,
}

impl Sharing {
    fn flags(self) -> i32 {
        match self {
            Sharing::Shared | Sharing::ReadOnly => libc::MAP_SHARED,
            Sharing::Sync => libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
            Sharing::Private => libc::MAP_PRIVATE,
        }
    }

    fn access(self) -> i32 {
        match self {
            Sharing::ReadOnly => libc::PROT_READ,
            _ => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// A range of addresses that is ours until this is dropped, with parts of a file in it.
pub(crate) struct Map {
    /// What was reserved.
    start: *mut u8,
    start_bytes: usize,
    /// The aligned part of it that is used.
    base: *mut u8,
    bytes: usize,
    /// From the first file that is mapped on; given back before the addresses are.
    watched: OnceLock<Watched>,
}

// SAFETY: plain addresses, owned until they are given back on drop; nothing about them belongs to
// a thread, and access to the bytes is the owner's affair.
unsafe impl Send for Map {}
// SAFETY: as for Send; the only field that changes is set once, under its own lock.
unsafe impl Sync for Map {}

impl Map {
    /// Reserves `bytes` addresses from a multiple of `align`, itself a multiple of a page.
    pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<Map> {
        let spare = align.saturating_sub(crate::layout::pool::PAGE as usize);
        let start_bytes = bytes.checked_add(spare).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a fresh private reservation without access; no existing mapping is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                start_bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let base = start.map_addr(|at| at.next_multiple_of(align.max(1)));
        Ok(Map { start, start_bytes, base, bytes, watched: OnceLock::new() })
    }

    /// The first address.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// How many addresses there are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Maps `len` bytes of `file` at `offset` to the same offset of the range, where nothing was
    /// mapped before.
    pub(crate) fn map(&self, file: &File, offset: u64, len: u64, how: Sharing) -> io::Result<()> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        assert!(end <= self.bytes as u64, "a mapping beyond its reservation");
        // SAFETY: the range lies inside the reservation (asserted), is page-aligned, and nothing
        // has been mapped over its PROT_NONE pages yet.
        let at = unsafe {
            libc::mmap(
                self.base.add(offset as usize).cast(),
                len as usize,
                how.access(),
                how.flags() | libc::MAP_FIXED,
                file.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.watched.get_or_init(|| sigbus::watch(self.base, self.bytes, file.as_raw_fd()));
        Ok(())
    }

    /// Gives the kernel advice on a mapped range; a refusal costs only what the advice was for.
    pub(crate) fn advise(&self, offset: u64, len: u64, advice: libc::c_int) {
        let Some(end) = offset.checked_add(len) else { return };
        if end > self.bytes as u64 {
            return;
        }
        // SAFETY: the range lies inside the reservation (checked); none of the advice that is used
        // here changes contents.
        unsafe { libc::madvise(self.base.add(offset as usize).cast(), len as usize, advice) };
    }

    /// Returns once the stores to a mapped range have reached the disk: what lies elsewhere in the
    /// file is neither written nor waited for.
    pub(crate) fn sync(&self, offset: u64, len: u64) -> io::Result<()> {
        let page = crate::layout::pool::PAGE;
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        assert!(end <= self.bytes as u64, "a sync beyond the reservation");
        let start = offset / page * page;
        // SAFETY: the range lies inside the reservation (asserted) and begins with a page; contents
        // stay as they are.
        let failed = unsafe {
            let at = self.base.add(start as usize).cast();
            libc::msync(at, (end - start) as usize, libc::MS_SYNC)
        };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        self.watched.take();
        // SAFETY: the whole reservation was made in `reserve` and is given back once.
        unsafe { libc::munmap(self.start.cast(), self.start_bytes) };
    }
}

/// Whether the kernel maps `file` as memory that keeps its contents.
pub(crate) fn grants_map_sync(file: &File) -> bool {
    let page = crate::layout::pool::PAGE as usize;
    // SAFETY: a null hint lets the kernel choose a free range, so no memory of ours is replaced; the
    // page is never touched.
    let at = unsafe {
        let how = Sharing::Sync;
        libc::mmap(std::ptr::null_mut(), page, libc::PROT_READ, how.flags(), file.as_raw_fd(), 0)
    };
    if at == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the page was mapped just now and nothing points to it.
    unsafe { libc::munmap(at, page) };
    true
}
