//! A pool on a devdax device: persistent memory without a file system, all of it mapped at once.
//!
//! The device has its size and nothing to allocate: growing is bookkeeping. Nor has it a name that
//! a pool could be moved to when it is whole, so an open tells a device that was never used by its
//! zeros, and refuses one that holds anything else.

use super::lines::{self, WriteBack};
use super::map::{Map, Sharing};
use super::{Dax, Media, Medium};
use crate::error::{Corrupt, Result, StoreError};
use crate::layout::pool::{MAGIC, PAGE, SUPERBLOCK_AT};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a devdax device is aligned to unless it says otherwise.
const USUAL_ALIGN: u64 = 2 << 20;

/// A mapped devdax device.
pub struct DeviceMedia {
    /// Locked, so that no two nodes use the device; the kernel lets go of it with the process.
    _file: File,
    path: PathBuf,
    map: Map,
    /// The device's bytes.
    bytes: u64,
    /// 0 until there is a pool on it, then all of it.
    len: AtomicU64,
    write_back: WriteBack,
    map_sync: bool,
}

/// Whether there is a character device at `path`.
pub fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device())
}

/// Bytes of the devdax device at `path`.
///
/// # Errors
/// [`StoreError::Io`], naming it, when it is no such device.
pub fn device_bytes(path: &Path) -> Result<u64> {
    geometry_of(path).map(|(bytes, _)| bytes)
}

/// Size and alignment of the device at `path`, in bytes, as sysfs has them.
fn geometry_of(path: &Path) -> Result<(u64, u64)> {
    let fail = |e| {
        let doing = "asking sysfs for the size of the devdax device";
        StoreError::io(format!("{doing} {}", path.display()), e)
    };
    let found = std::fs::metadata(path).map_err(fail)?;
    let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
    geometry(&PathBuf::from(format!("/sys/dev/char/{major}:{minor}"))).map_err(fail)
}

fn geometry(sysfs: &Path) -> io::Result<(u64, u64)> {
    let number = |name: &str| -> io::Result<u64> {
        let text = std::fs::read_to_string(sysfs.join(name))?;
        text.trim().parse().map_err(|_| io::Error::other(format!("{name} is no number: {text}")))
    };
    let bytes = number("size")?;
    let align = match number("align") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => USUAL_ALIGN,
        align => align?,
    };
    if bytes == 0 || !align.is_power_of_two() || align < PAGE {
        return Err(io::Error::other(format!("{bytes} bytes aligned to {align} are of no use")));
    }
    Ok((bytes / align * align, align))
}

fn open(path: &Path, write: bool) -> Result<File> {
    let file = OpenOptions::new().read(true).write(write).open(path);
    file.map_err(|e| StoreError::io(format!("opening the device {}", path.display()), e))
}

impl DeviceMedia {
    /// Maps the device at `path`.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it is none, or in use; [`StoreError::Corrupt`] when it holds neither
    /// a pool nor zeros.
    pub fn open(path: &Path) -> Result<DeviceMedia> {
        DeviceMedia::map_alone(path, true, geometry_of(path)?, Sharing::Sync)
    }

    /// Maps the device at `path` to look at it.
    ///
    /// # Errors
    /// As [`DeviceMedia::open`].
    pub fn inspect(path: &Path) -> Result<DeviceMedia> {
        DeviceMedia::map_alone(path, false, geometry_of(path)?, Sharing::ReadOnly)
    }

    /// Maps the device at `path` to look at what holds still while a node uses it: the superblock that
    /// it does not write just then.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it is none; [`StoreError::Corrupt`] as [`DeviceMedia::open`].
    pub fn glance(path: &Path) -> Result<DeviceMedia> {
        DeviceMedia::map(open(path, false)?, path, geometry_of(path)?, Sharing::ReadOnly)
    }

    /// Maps the device, which nobody else may use meanwhile.
    fn map_alone(
        path: &Path,
        write: bool,
        geometry: (u64, u64),
        sharing: Sharing,
    ) -> Result<DeviceMedia> {
        let file = open(path, write)?;
        lock(&file)
            .map_err(|e| StoreError::io(format!("locking the device {}", path.display()), e))?;
        DeviceMedia::map(file, path, geometry, sharing)
    }

    fn map(
        file: File,
        path: &Path,
        (bytes, align): (u64, u64),
        sharing: Sharing,
    ) -> Result<DeviceMedia> {
        let fail = |doing: &str, e| StoreError::io(format!("{doing} {}", path.display()), e);
        let write_back = WriteBack::of_this_cpu().ok_or_else(|| {
            fail("no instruction of this processor writes back", io::ErrorKind::Unsupported.into())
        })?;
        let map = Map::reserve(bytes as usize, align as usize)
            .and_then(|map| map.map(&file, 0, bytes, sharing).map(|()| map))
            .map_err(|e| fail("mapping the device", e))?;
        let map_sync = sharing == Sharing::Sync;
        let (path, len) = (path.to_path_buf(), AtomicU64::new(0));
        let media = DeviceMedia { _file: file, path, map, bytes, len, write_back, map_sync };
        if !media.is_blank()? {
            media.len.store(bytes, Ordering::Release);
        }
        Ok(media)
    }

    /// Whether it was never used. A pool that was only half made is not told from what others may
    /// have left here.
    fn is_blank(&self) -> Result<bool> {
        if self.bytes < SUPERBLOCK_AT[1] + PAGE {
            return Err(self.refused("the device is too small for a pool and ends", self.bytes));
        }
        let copies = SUPERBLOCK_AT.map(|at| self.page(at));
        if copies.iter().any(|copy| copy.starts_with(&MAGIC[..7])) {
            return Ok(false);
        }
        if copies.iter().all(|copy| copy.iter().all(|&byte| byte == 0)) {
            return Ok(true);
        }
        Err(self.refused(
            "the device holds something that is no pool (if nothing on it is wanted, zero it with \
             `daxio --zero --output DEVICE` and start again)",
            SUPERBLOCK_AT[0],
        ))
    }

    fn page(&self, at: u64) -> &[u8] {
        // SAFETY: the whole device is mapped, and the callers' pages lie in it (`is_blank` checks);
        // bytes have no invalid values; nobody stores while the device is being opened.
        unsafe { std::slice::from_raw_parts(self.map.base().add(at as usize), PAGE as usize) }
    }

    fn refused(&self, what: &str, offset: u64) -> StoreError {
        let path = Some(self.path.clone());
        StoreError::Corrupt(Corrupt { what: what.to_owned(), offset, path })
    }
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock => io::Error::other("another process uses it: stop that first"),
        TryLockError::Error(e) => e,
    })
}

// SAFETY: the mapping never moves and lives as long as `self`; all of the device is mapped,
// read-write unless it was opened to be looked at, and `len` never passes it. The lock on the
// device keeps other nodes away from its bytes.
unsafe impl Media for DeviceMedia {
    fn medium(&self) -> Medium {
        Medium::Dax
    }

    fn dax(&self) -> Option<Dax> {
        Some(Dax { map_sync: self.map_sync, instruction: self.write_back.name() })
    }

    fn base(&self) -> *mut u8 {
        self.map.base()
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn reserved(&self) -> u64 {
        self.bytes
    }

    fn grow(&self, file_bytes: u64, _backed: &[(u64, u64)]) -> Result<()> {
        if file_bytes > self.bytes {
            return Err(StoreError::Full);
        }
        self.len.store(self.bytes, Ordering::Release);
        Ok(())
    }

    fn flush(&self, offset: u64, len: u64) {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.bytes);
        assert!(fits, "a flush out of bounds");
        // SAFETY: the range lies in the mapping (asserted), which lives as long as `self`.
        unsafe { self.write_back.write_back(self.base().add(offset as usize), len as usize) };
    }

    fn drain(&self) {
        lines::fence();
    }

    fn fence(&self) -> Result<()> {
        lines::fence();
        Ok(())
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::persist::Mem;
    use crate::{Db, Encoding, Meta, PoolOptions, Store, Type};
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    const BYTES: u64 = 32 << 20;
    const ALIGN: u64 = 2 << 20;
    const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
    const OPTIONS: PoolOptions =
        PoolOptions { capacity_bytes: 16 << 20, new_hash_key: [7, 11], new_uuid: [3; 16] };

    /// A file in the place of a device: mapped alike, but for `MAP_SYNC`.
    fn device(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(BYTES).expect("room");
        file.as_file().write_all_at(bytes, 0).expect("room");
        file
    }

    fn opened(file: &tempfile::NamedTempFile) -> Result<DeviceMedia> {
        DeviceMedia::map_alone(file.path(), true, (BYTES, ALIGN), Sharing::Shared)
    }

    #[test]
    fn sysfs_tells_size_and_alignment() {
        let sysfs = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(sysfs.path().join(name), text).expect("a file");
        };
        assert!(geometry(sysfs.path()).is_err(), "no size");
        write("size", "4227858432\n");
        assert_eq!(geometry(sysfs.path()).expect("a size"), (4_227_858_432, USUAL_ALIGN));
        write("align", "1073741824\n");
        assert_eq!(geometry(sysfs.path()).expect("both"), (3 << 30, 1 << 30));
        write("align", "3000\n");
        assert!(geometry(sysfs.path()).is_err(), "no power of two");
        write("size", "many\n");
        assert!(geometry(sysfs.path()).is_err(), "no number");
    }

    #[test]
    fn a_pool_on_a_device_is_made_grows_and_is_found_again() {
        let file = device(&[]);
        let key = |i: u32| format!("key:{i}").into_bytes();
        for round in 0..3u32 {
            let media = opened(&file).expect("maps");
            assert!(media.base().addr().is_multiple_of(ALIGN as usize));
            assert_eq!(media.is_empty(), round == 0);
            let mem = Arc::new(Mem::new(Box::new(media)));
            let (mut store, mut committer, opened) = Store::open(mem, &OPTIONS).expect("opens");
            assert_eq!(opened.created, round == 0);
            assert_eq!(store.len(Db(0)), u64::from(round) * 1000);
            for i in round * 1000..(round + 1) * 1000 {
                store.put(Db(0), &store.key(&key(i)), TEXT, &[round as u8; 1000]).expect("fits");
            }
            let sealed = store.seal().expect("something new");
            store.release(committer.commit(sealed).expect("commits"));
        }
        let media = DeviceMedia::map_alone(file.path(), false, (BYTES, ALIGN), Sharing::ReadOnly);
        let mem = Arc::new(Mem::new(Box::new(media.expect("maps"))));
        let report = check(mem, true, &mut |_, _| {}).expect("is walked");
        assert!(report.is_clean() && report.keys == 3000, "{report:?}");
    }

    #[test]
    fn a_device_takes_no_more_than_it_has() {
        let media = opened(&device(&[])).expect("maps");
        assert!(matches!(media.grow(BYTES + 1, &[]), Err(StoreError::Full)));
        assert!(media.is_empty());
        media.grow(BYTES, &[]).expect("fits");
        assert_eq!(media.len(), BYTES);
    }

    #[test]
    fn what_is_no_pool_is_left_alone() {
        let file = device(b"somebody's data");
        let refused = opened(&file).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains("no pool") && refused.contains("daxio"), "{refused}");
        let damaged = device(&MAGIC);
        assert!(
            !opened(&damaged).expect("maps").is_empty(),
            "a damaged pool is not a blank device"
        );
    }

    #[test]
    fn the_superblocks_of_a_device_in_use_can_be_looked_at() {
        let file = device(&[]);
        let mem = Arc::new(Mem::new(Box::new(opened(&file).expect("maps"))));
        let (_store, _committer, _) = Store::open(mem, &OPTIONS).expect("opens");
        let looking = open(file.path(), false).expect("opens");
        let media = DeviceMedia::map(looking, file.path(), (BYTES, ALIGN), Sharing::ReadOnly)
            .expect("maps");
        let chosen = crate::pool::choose(&Mem::new(Box::new(media))).expect("good ones");
        assert_eq!(chosen.superblock.uuid, [3; 16]);
    }

    #[test]
    fn a_device_in_use_is_refused() {
        let file = device(&[]);
        let _first = opened(&file).expect("maps");
        let refused = opened(&file).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains("another process uses it"), "{refused}");
    }
}
