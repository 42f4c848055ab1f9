//! Where segment files lie: the seam between the log and the operating system.
//!
//! The log writes a range, then asks that it persist; what that takes is the medium's business. On
//! DAX a write also writes its cache lines back, and [`LogFile::persist`] is the fence, to be asked
//! for by the thread that wrote.

use crate::layout::log as layout;
use crate::media::lines::{self, Asked, WriteBack};
use crate::media::map::{Map, Sharing};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A directory of segment files.
pub trait LogMedium: Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> String;
    /// Names of the files there, in no order.
    ///
    /// # Errors
    /// The system's.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `bytes` zeros with space allocated to them, `head` at its front. It need
    /// be neither durable nor in the directory for good until [`LogFile::persist`],
    /// [`rename`](Self::rename) and [`sync_dir`](Self::sync_dir). An older one of that name goes.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn LogFile>>;
    /// Opens a file that is there.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// Renames a file.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once created, renamed and removed names are durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A segment file. Reads and writes of ranges that do not overlap may run at once.
pub trait LogFile: Send + Sync {
    /// Its length in bytes, as the directory says.
    ///
    /// # Errors
    /// The system's.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// The system's; an unexpected end of file when the range is not there.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Stores `bytes` at `offset`, within the file's length.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything that this thread wrote before is durable.
    ///
    /// # Errors
    /// The system's: final, for a retried sync can report success for lost pages.
    fn persist(&self) -> io::Result<()>;
    /// Replaces the front of the file, a segment's header and what follows it, and makes it durable.
    /// A crash leaves the old header, the new one, or, on media that tear a sector, one that says
    /// that it was being replaced; behind it, anything.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at) and [`persist`](Self::persist).
    fn replace_front(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(0, bytes)?;
        self.persist()
    }
    /// Gets ready for quick writes, for instance by touching the pages. May do nothing.
    fn warm(&self) {}
}

/// [`LogFile::replace_front`] where only eight bytes at a time are written whole or not at all: the
/// magic, which is such a word, is taken away first and put back last.
pub(crate) fn replace_front_by_words(
    file: &(impl LogFile + ?Sized),
    bytes: &[u8],
) -> io::Result<()> {
    let (magic, rest) = bytes.split_at(layout::MAGIC.len());
    file.write_at(0, &layout::MAGIC_REPLACING)?;
    file.persist()?;
    file.write_at(magic.len() as u64, rest)?;
    file.persist()?;
    file.write_at(0, magic)?;
    file.persist()
}

/// How files of a [`DirMedium`] are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Mapped; durable when stored.
    Mapped,
    /// Mapped so that what is written back (with this instruction) is durable.
    Dax(WriteBack, Sharing),
    /// Each write is durable when it returns (`O_DSYNC`).
    WriteThrough,
    /// Written to the page cache; durable when synced.
    PageCache,
    /// Only read; nothing in the directory is changed.
    Look,
}

/// A real directory.
pub(crate) struct DirMedium {
    dir: PathBuf,
    access: Access,
}

impl DirMedium {
    /// The directory `dir`, made when it is missing.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(dir: &Path, access: Access) -> io::Result<Self> {
        if !dir.is_dir() {
            std::fs::create_dir_all(dir)?;
            // The directory's own name must be as durable as what will lie in it.
            if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self { dir: dir.to_owned(), access })
    }

    /// A directory that is only looked at.
    pub(crate) fn look(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), access: Access::Look }
    }

    fn adopt(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(self.access != Access::Look);
        Ok(match self.access {
            Access::Mapped => mapped(options.open(path)?, None, Sharing::Shared)?,
            Access::Dax(write_back, sharing) => {
                mapped(options.open(path)?, Some(write_back), sharing)?
            }
            Access::WriteThrough => {
                let file = options.custom_flags(libc::O_DSYNC).open(path)?;
                Arc::new(PlainFile { file, write_through: true })
            }
            Access::PageCache | Access::Look => {
                Arc::new(PlainFile { file: options.open(path)?, write_through: false })
            }
        })
    }
}

impl LogMedium for DirMedium {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn LogFile>> {
        let path = self.dir.join(name);
        // Zeros are written, not merely allocated: a write into an unwritten extent would have to
        // sync metadata too, which costs more than the data.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let zeros = vec![0u8; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
            file.write_all(&zeros[..n])?;
            left -= n as u64;
        }
        file.write_all_at(head, 0)?;
        // A descriptor opened for O_DSYNC says nothing about what was written through this one.
        lines::asked(Asked::Sync);
        file.sync_all()?;
        self.adopt(&path)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.adopt(&self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if self.access == Access::Look {
            // An unfinished file counts for nothing, so leaving it changes no answer.
            return Ok(());
        }
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        lines::asked(Asked::Sync);
        File::open(&self.dir)?.sync_all()
    }
}

struct PlainFile {
    file: File,
    write_through: bool,
}

impl LogFile for PlainFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.write_through {
            lines::asked(Asked::Sync);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn persist(&self) -> io::Result<()> {
        if self.write_through {
            return Ok(());
        }
        lines::asked(Asked::Sync);
        self.file.sync_data()
    }
}

/// A file whose pages are memory: reads go through the descriptor until the first write maps it,
/// so that an open does not fault in segments that are only looked at.
struct MappedFile {
    file: File,
    len: u64,
    map: OnceLock<Mapping>,
    /// On DAX.
    write_back: Option<WriteBack>,
    sharing: Sharing,
}

fn mapped(
    file: File,
    write_back: Option<WriteBack>,
    sharing: Sharing,
) -> io::Result<Arc<dyn LogFile>> {
    let len = file.metadata()?.len();
    Ok(Arc::new(MappedFile { file, len, map: OnceLock::new(), write_back, sharing }))
}

impl MappedFile {
    fn mapping(&self, populate: bool) -> io::Result<&Mapping> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = Mapping::new(&self.file, self.len, populate, self.sharing)?;
        Ok(self.map.get_or_init(|| map))
    }
}

impl LogFile for MappedFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self.map.get() {
            Some(map) => map.read(offset, into),
            None => self.file.read_exact_at(into, offset),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.mapping(false)?.write(offset, bytes, self.write_back)
    }

    fn persist(&self) -> io::Result<()> {
        if self.write_back.is_some() {
            lines::fence();
        }
        Ok(())
    }

    fn replace_front(&self, bytes: &[u8]) -> io::Result<()> {
        // On tmpfs too: a process can be killed between two stores.
        replace_front_by_words(self, bytes)
    }

    fn warm(&self) {
        // Only speed is lost when it fails: the first write maps, and reports what is wrong.
        let _ = self.mapping(true);
    }
}

/// A whole file, mapped. Ranges that are read and written at once do not overlap, by the contract of
/// [`LogFile`]; no reference to the mapped bytes is ever made.
struct Mapping {
    map: Map,
    len: usize,
}

impl Mapping {
    fn new(file: &File, len: u64, populate: bool, sharing: Sharing) -> io::Result<Self> {
        const MADV_POPULATE_WRITE: libc::c_int = 23;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // A mapping beyond the end would fault when it is touched.
        let found = file.metadata()?;
        if len == 0 || found.len() < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if found.blocks() * 512 < found.len() {
            fill_holes(file, len)?;
        }
        let map = Map::reserve(len, crate::layout::pool::PAGE as usize)?;
        map.map(file, 0, len as u64, sharing)?;
        if populate {
            map.advise(0, len as u64, MADV_POPULATE_WRITE);
        }
        Ok(Self { map, len })
    }

    fn offset(&self, offset: u64, len: usize) -> io::Result<usize> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        match start.checked_add(len) {
            Some(end) if end <= self.len => Ok(start),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = self.offset(offset, into.len())?;
        // SAFETY: `offset` checked that the range lies within the mapping, which lives as long as
        // `self`; `into` is other memory, borrowed exclusively; no write overlaps the range (see
        // `Mapping`). The file keeps its length, so no page of it is missing.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.map.base().add(start),
                into.as_mut_ptr(),
                into.len(),
            );
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8], write_back: Option<WriteBack>) -> io::Result<()> {
        let start = self.offset(offset, bytes.len())?;
        let word = bytes.first_chunk::<8>().filter(|_| bytes.len() == 8 && start.is_multiple_of(8));
        // SAFETY: as in `read`, with the roles changed: the mapping is writable, and neither reads
        // nor other writes overlap the range. A word is stored in one piece: it is aligned, since
        // the mapping begins at a page.
        unsafe {
            let at = self.map.base().add(start);
            match word {
                Some(word) => at.cast::<u64>().write_volatile(u64::from_ne_bytes(*word)),
                None => std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()),
            }
            if let Some(write_back) = write_back {
                write_back.write_back(at, bytes.len());
            }
        }
        Ok(())
    }
}

/// Gives a file the space it lacks, as a copy of a directory may: touching a hole on a full tmpfs
/// would end the process.
fn fill_holes(file: &File, len: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // SAFETY: the descriptor is open for the call, which touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}
