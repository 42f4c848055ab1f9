//! The receiver's side: a file that becomes a pool at the very end.
//!
//! What a crash leaves, step by step:
//! 1. chunks arrive: the first superblock's place says how much of it has, the second is blank. No
//!    open takes that for a pool; [`Import::resume`] goes on with it.
//! 2. [`Import::finish`] has walked it and corrects the slab records: no pool, and nothing to go on
//!    with.
//! 3. it has written the superblocks, after a fence: a whole pool, or still none, but not under a
//!    name that anyone opens.
//! 4. [`Imported::install`] has renamed it: the old pool, or the new one.

use super::chunk::{self, Slab};
use super::{Head, Result, TransferError, word};
use crate::alloc::{record, slab_at};
use crate::check::{self, Arrived, Report};
use crate::error::{Corrupt, StoreError};
use crate::layout::pool::{
    EXTENT, PAGE, RECORD, RECORDS_PER_EXTENT_BYTES, SLAB, SUPERBLOCK_AT, extent_at, file_bytes,
    record_at, records_at,
};
use crate::layout::transfer::{VERSION, progress};
use crate::media::{FileMedia, free_bytes_in};
use crate::persist::Mem;
use crate::pool::{PoolOptions, Superblock, rename_durably};
use std::path::Path;
use std::sync::Arc;

/// Chunks between two syncs of a medium that has to be synced: what a resume may have to ask for
/// again.
const CHUNKS_A_SYNC: u64 = 64;

/// A pool that is arriving.
pub struct Import {
    mem: Arc<Mem>,
    head: Head,
    head_crc: u32,
    next: u64,
    uuid: [u8; 16],
}

/// A pool that has arrived whole, still beside its name.
pub struct Imported {
    mem: Arc<Mem>,
    head: Head,
    report: Report,
}

impl Import {
    /// Begins anew in the file at `path`, removing what is there, and takes all the space that the
    /// pool needs first. Of the options, `capacity_bytes` bounds it and `new_uuid` becomes its
    /// identity; the hash key travels with the data.
    ///
    /// # Errors
    /// [`TransferError::NoRoom`], [`TransferError::DiskFull`]; [`TransferError::Store`] when the
    /// medium fails.
    pub fn begin(path: &Path, head: Head, options: &PoolOptions) -> Result<Import> {
        check_room(&head, options)?;
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let doing = format!("removing an unfinished {}", path.display());
                return Err(StoreError::io(doing, e).into());
            }
            _ => {}
        }
        check_disk(path, &head)?;
        // What was taken of the space is given back when there is not enough after all.
        Import::begin_on(open(path, &head)?, head, options)
            .inspect_err(|_| drop(std::fs::remove_file(path)))
    }

    /// Goes on with the file at `path` where it stopped, if that is known and it is of this head,
    /// and begins anew if not. [`Import::wanted`] says which.
    ///
    /// # Errors
    /// As [`Import::begin`].
    pub fn resume(path: &Path, head: Head, options: &PoolOptions) -> Result<Import> {
        if path.exists() {
            check_room(&head, options)?;
            if let Some(import) = Import::resume_on(open(path, &head)?, head.clone(), options)? {
                return Ok(import);
            }
        }
        Import::begin(path, head, options)
    }

    /// Begins on an empty medium, as [`Import::begin`].
    ///
    /// # Errors
    /// As [`Import::begin`].
    pub fn begin_on(mem: Arc<Mem>, head: Head, options: &PoolOptions) -> Result<Import> {
        check_room(&head, options)?;
        let mut backed: Vec<_> = SUPERBLOCK_AT.into_iter().map(|at| (at, PAGE)).collect();
        for extent in 0..head.state().extents {
            backed.push((records_at(extent), RECORDS_PER_EXTENT_BYTES));
            backed.push((extent_at(extent), EXTENT));
        }
        mem.grow(file_bytes(head.state().extents), &backed)?;
        let import = Import { mem, head_crc: head.crc(), head, next: 0, uuid: options.new_uuid };
        import.note_progress()?;
        Ok(import)
    }

    /// Goes on with what a medium holds; `None` when it is not known to hold a part of this pool.
    ///
    /// # Errors
    /// As [`Import::begin`].
    pub fn resume_on(mem: Arc<Mem>, head: Head, options: &PoolOptions) -> Result<Option<Import>> {
        check_room(&head, options)?;
        if mem.media().len() != file_bytes(head.state().extents) {
            return Ok(None);
        }
        let Some(next) = read_progress(&mem, &head)? else { return Ok(None) };
        let uuid = options.new_uuid;
        Ok(Some(Import { mem, head_crc: head.crc(), head, next, uuid }))
    }

    /// The chunk that is wanted next; as many as the head has when all have come.
    pub fn wanted(&self) -> u64 {
        self.next
    }

    /// What is arriving.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Takes a chunk in, all of it or nothing. One that has come already is passed over.
    ///
    /// # Errors
    /// [`TransferError::Damaged`], [`TransferError::OutOfOrder`]: nothing has changed;
    /// [`TransferError::Store`] when the medium failed: final.
    pub fn put(&mut self, number: u64, bytes: &[u8]) -> Result<()> {
        let given = number;
        if number > self.next || number >= self.head.chunks() {
            return Err(TransferError::OutOfOrder { wanted: self.next, given });
        }
        let slabs = chunk::parse(bytes, number, self.head_crc, self.head.epoch().0)?;
        if number < self.next {
            return Ok(());
        }
        for number in chunk::slabs_of(number) {
            match slabs.iter().find(|slab| slab.slab == number) {
                Some(slab) => self.put_slab(slab)?,
                // An earlier run may have put some there, and torn its record.
                None => self.wipe_record(number)?,
            }
        }
        self.next += 1;
        if self.mem.medium().is_memory() || self.next.is_multiple_of(CHUNKS_A_SYNC) {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes what has come durable and notes how much that is, so that a resume asks for none of it
    /// again. Done every so often by itself; for an orderly stop.
    ///
    /// # Errors
    /// [`TransferError::Store`] when the medium failed: final.
    pub fn sync(&self) -> Result<()> {
        self.mem.fence()?;
        self.note_progress()
    }

    /// Its record says what has come, until it is known what is needed.
    fn put_slab(&self, slab: &Slab<'_>) -> Result<()> {
        for (at, block) in slab.blocks() {
            self.mem.store(at, block)?;
        }
        self.mem.flush(slab_at(slab.slab), SLAB);
        record::write(&self.mem, slab.slab, 0, self.head.epoch().0, slab.class, &slab.bits)?;
        Ok(())
    }

    /// Notes how much has come. It is durable with the next fence.
    fn note_progress(&self) -> Result<()> {
        self.mem.store(SUPERBLOCK_AT[0], &progress_bytes(&self.head, self.next))?;
        self.mem.flush(SUPERBLOCK_AT[0], progress::LEN as u64);
        Ok(())
    }

    /// Makes a pool of what has come: walks all that its roots lead to, verifying every checksum,
    /// marks that as in use and the rest as free, and writes superblocks that say so. `seen` hears
    /// the keys walked so far and in all.
    ///
    /// # Errors
    /// [`TransferError::Incomplete`]; [`TransferError::Store`] when what has come is not sound, and
    /// then a resume begins anew, or when the medium failed.
    pub fn finish(self, seen: &mut dyn FnMut(u64, u64)) -> Result<Imported> {
        if self.next < self.head.chunks() {
            let chunks = self.head.chunks();
            return Err(TransferError::Incomplete { wanted: self.next, chunks });
        }
        let walked = self.walk(seen);
        // A record that a crash tears below cannot be told from damage, so nothing is gone on with
        // from here.
        self.forget()?;
        let (report, slabs) = walked?;
        slabs.iter().try_for_each(|slab| self.mark(slab))?;
        self.mem.fence()?;
        let state = Superblock { uuid: self.uuid, sequence: 1, ..self.head.state().clone() };
        state.write(&self.mem, 1)?;
        Superblock { sequence: 2, ..state }.write(&self.mem, 0)?;
        Ok(Imported { mem: self.mem, head: self.head, report })
    }

    /// Walks what has come; returns the slabs in which not all of it is needed.
    fn walk(&self, seen: &mut dyn FnMut(u64, u64)) -> Result<(Report, Vec<Arrived>)> {
        let (report, slabs) = check::arrived(self.mem.clone(), self.head.state(), seen)?;
        match report.problems.first() {
            None => Ok((report, slabs)),
            Some(first) => Err(TransferError::Store(StoreError::Corrupt(Corrupt {
                what: format!(
                    "the pool that a peer sent is not sound ({} problems, the first: {first})",
                    report.problem_count
                ),
                offset: 0,
                path: self.mem.media().path().map(Into::into),
            }))),
        }
    }

    /// Marks what is needed of a slab as in use, and the rest as free.
    fn mark(&self, slab: &Arrived) -> Result<()> {
        if slab.needed.iter().all(|&word| word == 0) {
            return self.wipe_record(slab.number);
        }
        let epoch = self.head.epoch().0;
        record::write(&self.mem, slab.number, 0, epoch, slab.class, &slab.needed)?;
        Ok(())
    }

    fn wipe_record(&self, slab: u64) -> Result<()> {
        let at = record_at(slab, 0);
        if self.mem.bytes(at, RECORD)?.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        self.mem.store(at, &[0; RECORD])?;
        self.mem.flush(at, RECORD as u64);
        Ok(())
    }

    /// Notes that nothing has come: a resume begins anew.
    fn forget(&self) -> Result<()> {
        self.mem.store(SUPERBLOCK_AT[0], &[0; progress::LEN])?;
        self.mem.flush(SUPERBLOCK_AT[0], progress::LEN as u64);
        self.mem.fence()?;
        Ok(())
    }
}

impl Imported {
    /// What has arrived.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What the walk came to.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Puts it in the place of the pool at `over`, in the same directory. A store that has that one
    /// open keeps it until it is dropped.
    ///
    /// # Errors
    /// [`TransferError::Store`], naming the file; on a medium that is no file, always.
    pub fn install(self, over: &Path) -> Result<()> {
        let path = self.mem.media().path().map(Path::to_path_buf).unwrap_or_default();
        drop(self.mem);
        rename_durably(&path, over).map_err(|e| {
            let doing = format!("putting {} in the place of {}", path.display(), over.display());
            StoreError::io(doing, e).into()
        })
    }
}

fn check_room(head: &Head, options: &PoolOptions) -> Result<()> {
    let (need_bytes, have_bytes) = (head.pool_bytes(), options.capacity_bytes);
    if need_bytes > have_bytes {
        return Err(TransferError::NoRoom { need_bytes, have_bytes });
    }
    Ok(())
}

/// Before any space is taken: others write to that file system too.
fn check_disk(path: &Path, head: &Head) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let have_bytes = free_bytes_in(dir).map_err(|e| {
        StoreError::io(format!("asking for the free space in {}", dir.display()), e)
    })?;
    let need_bytes = head.pool_bytes();
    if need_bytes > have_bytes {
        return Err(TransferError::DiskFull { need_bytes, have_bytes, path: path.to_path_buf() });
    }
    Ok(())
}

/// Maps the file of an import.
fn open(path: &Path, head: &Head) -> Result<Arc<Mem>> {
    let (media, _) = FileMedia::open(path, file_bytes(head.state().extents))?;
    Ok(Arc::new(Mem::new(Box::new(media))))
}

fn progress_bytes(head: &Head, next: u64) -> [u8; progress::LEN] {
    let mut bytes = [0; progress::LEN];
    bytes[..8].copy_from_slice(&progress::MAGIC);
    bytes[progress::VERSION..progress::CRC].copy_from_slice(&VERSION.to_le_bytes());
    bytes[progress::UUID..progress::UUID + 16].copy_from_slice(&head.state().uuid);
    for (at, value) in [(progress::HEAD_CRC, u64::from(head.crc())), (progress::NEXT, next)] {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes);
    bytes[progress::CRC..progress::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// How many chunks of `head` the medium holds; `None` when it does not say, or holds others.
fn read_progress(mem: &Mem, head: &Head) -> Result<Option<u64>> {
    let bytes = mem.bytes(SUPERBLOCK_AT[0], progress::LEN)?;
    let next = word(bytes, progress::NEXT).min(head.chunks());
    Ok((bytes == progress_bytes(head, next)).then_some(next))
}
