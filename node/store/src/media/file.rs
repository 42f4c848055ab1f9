//! A pool in a file: on a DAX file system, on tmpfs, or in the page cache.

use super::lines::{self, Asked, WriteBack};
use super::map::{Map, Sharing, grants_map_sync};
use super::{Dax, Media, Medium};
use crate::error::{Corrupt, Result, StoreError};
use crate::layout::pool::PAGE;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file mapped into a reserved address range, so that it grows in place.
pub struct FileMedia {
    file: File,
    path: PathBuf,
    map: Map,
    sharing: Sharing,
    len: AtomicU64,
    /// How far the file was ever mapped: a mapping outlives the file's end, and is good again when
    /// the file has grown.
    mapped: AtomicU64,
    /// How often the file was cut here.
    cuts: AtomicU64,
    kind: Kind,
}

/// What a file's pages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The medium itself, reached by writing lines back.
    Dax(WriteBack),
    /// Memory of the kernel.
    Tmpfs,
    /// Copies of what lies on a disk.
    File,
}

impl Kind {
    pub(crate) fn medium(self) -> Medium {
        match self {
            Kind::Dax(_) => Medium::Dax,
            Kind::Tmpfs => Medium::Tmpfs,
            Kind::File => Medium::File,
        }
    }
}

const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;
/// What a growing file is filled with at once.
const ZEROS: usize = 256 << 10;

impl FileMedia {
    /// Opens `path`, creating it when it is not there, with room in the address space to grow to
    /// `capacity_bytes`. Says whether the file was there.
    ///
    /// # Errors
    /// [`StoreError::Io`], naming the file.
    pub fn open(path: &Path, capacity_bytes: u64) -> Result<(FileMedia, bool)> {
        let existed = path.exists();
        let file = open_rw(path)?;
        let kind = kind_of(&file).map_err(|e| fail(path, "asking for the file system of", e))?;
        let sharing = if let Kind::Dax(_) = kind { Sharing::Sync } else { Sharing::Shared };
        Ok((FileMedia::map(file, path, capacity_bytes, kind, sharing)?, existed))
    }

    /// Opens `path` as if its pages kept their contents, whatever the kernel says: for tests, which
    /// so run all that a DAX medium does on tmpfs. `None` on processors without a fitting
    /// instruction.
    ///
    /// # Errors
    /// As [`FileMedia::open`].
    #[doc(hidden)]
    pub fn open_as_dax(path: &Path, capacity_bytes: u64) -> Result<Option<FileMedia>> {
        let Some(write_back) = WriteBack::of_this_cpu() else { return Ok(None) };
        let (file, kind) = (open_rw(path)?, Kind::Dax(write_back));
        FileMedia::map(file, path, capacity_bytes, kind, Sharing::Shared).map(Some)
    }

    /// Opens `path` as a page-cached file, whatever it is: for tests.
    #[cfg(test)]
    pub(crate) fn open_as_file(path: &Path, capacity_bytes: u64) -> Result<FileMedia> {
        FileMedia::map(open_rw(path)?, path, capacity_bytes, Kind::File, Sharing::Shared)
    }

    /// Opens `path` to look at it. Stores go to private memory and never reach the file.
    ///
    /// # Errors
    /// [`StoreError::Io`], naming the file.
    pub fn inspect(path: &Path) -> Result<FileMedia> {
        let file = File::open(path).map_err(|e| fail(path, "opening the pool", e))?;
        FileMedia::map(file, path, 0, Kind::File, Sharing::Private)
    }

    fn map(
        file: File,
        path: &Path,
        capacity_bytes: u64,
        kind: Kind,
        sharing: Sharing,
    ) -> Result<FileMedia> {
        let len = file.metadata().map_err(|e| fail(path, "reading the size of the pool", e))?.len();
        // Of an empty file too: what is wrong with it the pool says.
        let reserved = capacity_bytes.max(len).max(1).next_multiple_of(1 << 21) as usize;
        let map =
            Map::reserve(reserved, PAGE as usize).map_err(|e| no_addresses(path, reserved, e))?;
        let path = path.to_path_buf();
        let (len_now, mapped, cuts) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
        let media = FileMedia { file, path, map, sharing, len: len_now, mapped, cuts, kind };
        // Only whole pages are mapped; the pool itself refuses a file that is cut short.
        media.map_upto(len / PAGE * PAGE)?;
        Ok(media)
    }

    fn map_upto(&self, len: u64) -> Result<()> {
        let mapped = self.mapped.load(Ordering::Acquire);
        if len > mapped {
            self.map
                .map(&self.file, mapped, len - mapped, self.sharing)
                .map_err(|e| self.fail("mapping the pool", e))?;
            // Huge pages, and no read-ahead around a cold key.
            for advice in [libc::MADV_HUGEPAGE, libc::MADV_RANDOM] {
                self.map.advise(mapped, len - mapped, advice);
            }
            self.mapped.store(len, Ordering::Release);
        }
        self.len.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }

    /// Reads a range ahead and maps it.
    fn populate(&self, offset: u64, len: u64) {
        const MADV_POPULATE_READ: libc::c_int = 22;
        let mapped = self.len.load(Ordering::Acquire);
        if offset.checked_add(len).is_none_or(|end| end > mapped) {
            return;
        }
        for advice in [libc::MADV_WILLNEED, MADV_POPULATE_READ] {
            self.map.advise(offset, len, advice);
        }
    }

    /// Gives a range its space. On DAX by writing zeros: into space that is only set aside, each
    /// page's first store would have to wait for the file system's journal.
    fn back(&self, offset: u64, len: u64) -> Result<()> {
        if !matches!(self.kind, Kind::Dax(_)) {
            return self.allocate(offset, len);
        }
        let zeros = vec![0; ZEROS.min(len as usize)];
        let mut at = offset;
        while at < offset + len {
            let n = zeros.len().min((offset + len - at) as usize);
            self.file
                .write_all_at(&zeros[..n], at)
                .map_err(|e| self.fail("allocating space for the pool", e))?;
            at += n as u64;
        }
        Ok(())
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

    /// Notices a file that was cut short before a commit builds on what is gone: the part of its last
    /// page behind the end reads as zeros, without a signal.
    fn check_whole(&self) -> Result<()> {
        loop {
            let (cuts, mapped) = (self.cuts.load(Ordering::Acquire), self.len());
            let len = self.file.metadata().map_err(|e| self.fail("reading the size of", e))?.len();
            if len >= mapped {
                return Ok(());
            }
            // The writer may change the length meanwhile: a growing file is lengthened before the
            // mapping, and a cut is counted before it is made. Both were read in that order, so what
            // still differs was done by somebody else.
            if self.len() == mapped && self.cuts.load(Ordering::Acquire) == cuts {
                return Err(self.cut_short(len));
            }
        }
    }

    fn cut_short(&self, len: u64) -> StoreError {
        StoreError::Corrupt(Corrupt {
            what: "the pool was cut short while the node had it open: it ends".into(),
            offset: len,
            path: Some(self.path.clone()),
        })
    }

    /// Makes what was flushed durable, by `sync` where the kernel has it.
    fn synced(&self, sync: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
        self.check_whole()?;
        match self.kind {
            Kind::Tmpfs => Ok(()),
            Kind::Dax(_) => {
                lines::fence();
                Ok(())
            }
            Kind::File => {
                lines::asked(Asked::Sync);
                sync().map_err(|e| self.fail("syncing the pool", e))
            }
        }
    }

    fn fail(&self, doing: &str, e: std::io::Error) -> StoreError {
        fail(&self.path, doing, e)
    }
}

/// What to do when the address range for a pool is refused: nothing is used up by reserving it, but
/// a limit of the process counts it.
fn no_addresses(path: &Path, bytes: usize, source: std::io::Error) -> StoreError {
    let doing = format!(
        "reserving {} MiB of addresses for the pool {}: raise `ulimit -v`, which counts them though \
         they take no memory (a node needs four times --memory), or lower --memory",
        bytes >> 20,
        path.display()
    );
    StoreError::io(doing, source)
}

fn fail(path: &Path, doing: &str, e: std::io::Error) -> StoreError {
    StoreError::io(format!("{doing} {}", path.display()), e)
}

fn open_rw(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| fail(path, "opening the pool", e))
}

/// What the pages of files in `dir` are: a file without a name is made there and asked.
///
/// # Errors
/// The system's.
pub(crate) fn kind_in(dir: &Path) -> std::io::Result<Kind> {
    let unnamed = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(dir);
    match unnamed {
        Ok(file) => kind_of(&file),
        // A file system that has no such files grants no `MAP_SYNC` either: the directory tells
        // the rest.
        Err(_) => kind_of(&File::open(dir)?),
    }
}

/// Bytes that an ordinary user may still write in `dir`.
///
/// # Errors
/// The system's.
pub(crate) fn free_bytes_in(dir: &Path) -> std::io::Result<u64> {
    let stat = statfs(&File::open(dir)?)?;
    // Some file systems of memory know no bound, and say so with zeros.
    let is_bounded = stat.f_blocks > 0;
    Ok(if is_bounded { stat.f_bavail.saturating_mul(stat.f_bsize as u64) } else { u64::MAX })
}

fn statfs(file: &File) -> std::io::Result<libc::statfs> {
    // SAFETY: statfs is plain data, for which all-zero bytes are a value.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `stat` is writable.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &mut stat) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(stat)
}

/// Tells DAX from tmpfs from page-cached files.
fn kind_of(file: &File) -> std::io::Result<Kind> {
    let stat = statfs(file)?;
    if let TMPFS_MAGIC | RAMFS_MAGIC = stat.f_type as i64 {
        return Ok(Kind::Tmpfs);
    }
    let write_back = WriteBack::of_this_cpu().filter(|_| grants_map_sync(file));
    Ok(write_back.map_or(Kind::File, Kind::Dax))
}

// SAFETY: the reservation never moves; `len` covers only pages mapped read-write onto the file,
// whose length was set beforehand. The lock file keeps other nodes away from the file.
unsafe impl Media for FileMedia {
    fn medium(&self) -> Medium {
        self.kind.medium()
    }

    fn dax(&self) -> Option<Dax> {
        let Kind::Dax(write_back) = self.kind else { return None };
        Some(Dax { map_sync: self.sharing == Sharing::Sync, instruction: write_back.name() })
    }

    fn base(&self) -> *mut u8 {
        self.map.base()
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn warm(&self, offset: u64, len: u64) {
        self.populate(offset, len);
    }

    fn reserved(&self) -> u64 {
        self.map.bytes() as u64
    }

    fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<()> {
        if file_bytes > self.reserved() {
            return Err(StoreError::Full);
        }
        for &(offset, len) in backed {
            self.back(offset, len)?;
        }
        let now = self.file.metadata().map_err(|e| self.fail("reading the size of", e))?.len();
        if now < file_bytes {
            self.file.set_len(file_bytes).map_err(|e| self.fail("growing the pool", e))?;
        }
        if let Kind::Dax(_) = self.kind {
            // No fence is a sync here, so the file's new shape has to have one of its own.
            lines::asked(Asked::Sync);
            self.file.sync_all().map_err(|e| self.fail("growing the pool", e))?;
        }
        self.map_upto(file_bytes)
    }

    fn can_shrink(&self) -> bool {
        true
    }

    fn shrink(&self, file_bytes: u64) -> Result<()> {
        let len = self.len();
        if file_bytes >= len {
            return Ok(());
        }
        self.cuts.fetch_add(1, Ordering::AcqRel);
        self.len.store(file_bytes, Ordering::Release);
        // No sync: growing again brings one, and a crash may as well leave the old end.
        self.file.set_len(file_bytes).map_err(|e| {
            self.len.store(len, Ordering::Release);
            self.fail("giving back the free end of", e)
        })
    }

    fn flush(&self, offset: u64, len: u64) {
        // Elsewhere a fence syncs the file, or pages of it: which are dirty is the kernel's to know.
        let Kind::Dax(write_back) = self.kind else { return };
        let mapped = self.len.load(Ordering::Acquire);
        assert!(offset.checked_add(len).is_some_and(|end| end <= mapped), "a flush out of bounds");
        // SAFETY: the range lies in the mapping (asserted), which lives as long as `self`.
        unsafe { write_back.write_back(self.base().add(offset as usize), len as usize) };
    }

    fn drain(&self) {
        if let Kind::Dax(_) = self.kind {
            lines::fence();
        }
    }

    fn fence(&self) -> Result<()> {
        self.synced(|| self.file.sync_data())
    }

    fn fence_within(&self, offset: u64, len: u64) -> Result<()> {
        self.synced(|| self.map.sync(offset, len))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 64 << 10;
    const STEPS: u64 = 2000;

    #[test]
    fn a_file_that_grows_and_shrinks_during_a_fence_is_not_taken_for_one_cut_short() {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
        let (media, _) = FileMedia::open(file.path(), STEP * STEPS).expect("a pool");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for step in 1..=STEPS {
                    media.grow(step * STEP, &[]).expect("it grows");
                    if step > 1 {
                        media.shrink((step - 1) * STEP).expect("it shrinks");
                        media.grow(step * STEP, &[]).expect("it grows again");
                    }
                }
            });
            while !writer.is_finished() {
                media.fence().expect("nobody cut it");
            }
        });
        file.as_file().set_len(STEP).expect("the file can be cut");
        let error = media.fence().expect_err("it was cut").to_string();
        assert!(error.contains("cut short") && error.contains(&STEP.to_string()), "{error}");
    }

    #[test]
    fn what_a_file_gives_back_comes_back_as_zeros() {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
        let (media, _) = FileMedia::open(file.path(), 8 * STEP).expect("a pool");
        media.grow(4 * STEP, &[(0, 4 * STEP)]).expect("it grows");
        // SAFETY: the byte lies in the mapping, which nobody else uses.
        let byte = |at: u64| unsafe { &mut *media.base().add(at as usize) };
        (0..4).for_each(|step| *byte(step * STEP) = 7);
        let blocks = |file: &tempfile::NamedTempFile| {
            std::os::unix::fs::MetadataExt::blocks(&file.as_file().metadata().expect("a file"))
        };
        assert_eq!(blocks(&file) * 512, 4 * STEP);
        media.shrink(2 * STEP).expect("it shrinks");
        assert_eq!((media.len(), blocks(&file) * 512), (2 * STEP, 2 * STEP));
        media.grow(6 * STEP, &[]).expect("it grows again");
        assert_eq!([0, 1, 2, 3, 5].map(|step| *byte(step * STEP)), [7, 7, 0, 0, 0]);
        media.shrink(7 * STEP).expect("there is nothing to do");
        assert_eq!(media.len(), 6 * STEP);
    }
}
