//! A pool in a file: tmpfs or page-cached, told apart by `statfs`.

use super::{Media, Medium};
use crate::error::{Result, StoreError};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file mapped into a reserved address range, so that it grows in place.
pub struct FileMedia {
    file: File,
    path: PathBuf,
    base: *mut u8,
    reserved: usize,
    len: AtomicU64,
    medium: Medium,
}

// SAFETY: the mapping is owned, never moves, and is unmapped only on drop; access to its bytes is
// governed by `Mem`.
unsafe impl Send for FileMedia {}
// SAFETY: as for Send; the only field that changes is atomic.
unsafe impl Sync for FileMedia {}

const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;

impl FileMedia {
    /// Opens `path`, creating it when it is not there, with room in the address space to grow to
    /// `capacity_bytes`. Says whether the file was there.
    ///
    /// # Errors
    /// [`StoreError::Io`], naming the file.
    pub fn open(path: &Path, capacity_bytes: u64) -> Result<(FileMedia, bool)> {
        let existed = path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| StoreError::io(format!("opening the pool {}", path.display()), e))?;
        Ok((FileMedia::map(file, path, capacity_bytes)?, existed))
    }

    /// Opens `path` to look at it. Stores go to private memory and never reach the file.
    ///
    /// # Errors
    /// [`StoreError::Io`], naming the file.
    pub fn inspect(path: &Path) -> Result<FileMedia> {
        let file = File::open(path)
            .map_err(|e| StoreError::io(format!("opening the pool {}", path.display()), e))?;
        FileMedia::map_as(file, path, 0, libc::MAP_PRIVATE)
    }

    fn map(file: File, path: &Path, capacity_bytes: u64) -> Result<FileMedia> {
        FileMedia::map_as(file, path, capacity_bytes, libc::MAP_SHARED)
    }

    fn map_as(file: File, path: &Path, capacity_bytes: u64, flags: i32) -> Result<FileMedia> {
        let fail = |doing: &str, e| StoreError::io(format!("{doing} {}", path.display()), e);
        let len = file.metadata().map_err(|e| fail("reading the size of the pool", e))?.len();
        let medium = medium_of(&file).map_err(|e| fail("asking for the file system of", e))?;
        let reserved = capacity_bytes.max(len).next_multiple_of(1 << 21) as usize;
        // SAFETY: a fresh private reservation without access; no existing mapping is touched.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(fail("reserving addresses for the pool", std::io::Error::last_os_error()));
        }
        let media = FileMedia {
            file,
            path: path.to_path_buf(),
            base: base.cast(),
            reserved,
            len: AtomicU64::new(0),
            medium,
        };
        // Only whole pages are mapped; the pool itself refuses a file that is cut short.
        media.map_upto(len / crate::layout::pool::PAGE * crate::layout::pool::PAGE, flags)?;
        Ok(media)
    }

    fn map_upto(&self, len: u64, flags: i32) -> Result<()> {
        let mapped = self.len();
        if len <= mapped {
            return Ok(());
        }
        // SAFETY: the range lies inside the reservation (checked by callers against `reserved`),
        // is page-aligned, and nothing has been mapped over its PROT_NONE pages yet.
        let at = unsafe {
            libc::mmap(
                self.base.add(mapped as usize).cast(),
                (len - mapped) as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_FIXED,
                self.file.as_raw_fd(),
                mapped as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(self.fail("mapping the pool", std::io::Error::last_os_error()));
        }
        self.advise(mapped, len - mapped);
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Asks for huge pages, and for no read-ahead around a cold key.
    fn advise(&self, offset: u64, len: u64) {
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_RANDOM] {
            // SAFETY: the range was mapped just now; advice does not change its contents. A
            // refusal (no huge pages here) costs nothing but speed.
            unsafe { libc::madvise(self.base.add(offset as usize).cast(), len as usize, advice) };
        }
    }

    /// Reads a range ahead and maps it.
    fn populate(&self, offset: u64, len: u64) {
        const MADV_POPULATE_READ: libc::c_int = 22;
        let mapped = self.len.load(Ordering::Acquire);
        if offset.checked_add(len).is_none_or(|end| end > mapped) {
            return;
        }
        for advice in [libc::MADV_WILLNEED, MADV_POPULATE_READ] {
            // SAFETY: the range lies in the mapping (checked); advice does not change its contents.
            // A kernel that refuses it costs only that the pages are read when they are met.
            unsafe { libc::madvise(self.base.add(offset as usize).cast(), len as usize, advice) };
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        // SAFETY: a plain system call on an owned descriptor.
        let refused = unsafe {
            libc::fallocate(
                self.file.as_raw_fd(),
                libc::FALLOC_FL_KEEP_SIZE,
                offset as libc::off_t,
                len as libc::off_t,
            )
        };
        if refused == 0 {
            return Ok(());
        }
        Err(self.fail("allocating space for the pool", std::io::Error::last_os_error()))
    }

    fn fail(&self, doing: &str, e: std::io::Error) -> StoreError {
        StoreError::io(format!("{doing} {}", self.path.display()), e)
    }
}

/// Tells tmpfs from page-cached files.
fn medium_of(file: &File) -> std::io::Result<Medium> {
    // SAFETY: statfs is plain data, for which all-zero bytes are a value.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `stat` is writable.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &mut stat) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(match stat.f_type as i64 {
        TMPFS_MAGIC | RAMFS_MAGIC => Medium::Tmpfs,
        _ => Medium::File,
    })
}

impl Drop for FileMedia {
    fn drop(&mut self) {
        // SAFETY: the whole reservation was made in `map_as` and is given back once.
        unsafe { libc::munmap(self.base.cast(), self.reserved) };
    }
}

// SAFETY: the reservation never moves; `len` covers only pages mapped read-write onto the file,
// whose length was set beforehand. The lock file keeps other nodes away from the file.
unsafe impl Media for FileMedia {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn base(&self) -> *mut u8 {
        self.base
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn warm(&self, offset: u64, len: u64) {
        self.populate(offset, len);
    }

    fn reserved(&self) -> u64 {
        self.reserved as u64
    }

    fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<()> {
        if file_bytes > self.reserved as u64 {
            return Err(StoreError::Full);
        }
        for &(offset, len) in backed {
            self.allocate(offset, len)?;
        }
        let now = self.file.metadata().map_err(|e| self.fail("reading the size of", e))?.len();
        if now < file_bytes {
            self.file.set_len(file_bytes).map_err(|e| self.fail("growing the pool", e))?;
        }
        self.map_upto(file_bytes, libc::MAP_SHARED)
    }

    fn flush(&self, _offset: u64, _len: u64) {
        // A fence syncs the whole file: dirty pages are the kernel's to know.
    }

    fn fence(&self) -> Result<()> {
        if self.medium == Medium::Tmpfs {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| self.fail("syncing the pool", e))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}
