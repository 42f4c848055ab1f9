//! Superblocks: which root is live, and what is known apart from it.

use crate::error::{Corrupt, Result, StoreError};
use crate::layout::pool::{
    COMPAT, INCOMPAT, MAGIC, RO_COMPAT, SUPERBLOCK, SUPERBLOCK_AT, VERSION, sb,
};
use crate::media::{DeviceMedia, is_device};
use crate::persist::Mem;
use cairn_protocol::ids::{LogIndex, Term};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A superblock's contents; the fields are described in `layout::pool::sb`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Superblock {
    pub uuid: [u8; 16],
    pub sequence: u64,
    pub epoch: u64,
    pub ceiling: u64,
    pub root: u64,
    pub applied: (Term, LogIndex),
    pub clock_ms: u64,
    pub hash_key: [u64; 2],
    pub extents: u64,
    pub live_bytes: u64,
    pub snapshots: u64,
    pub limit_bytes: u64,
    pub membership: Vec<u8>,
    pub voids: Vec<(u64, u64)>,
}

/// What one copy turned out to be.
#[derive(Debug)]
pub enum Copy {
    /// It reads well.
    Good(Box<Superblock>),
    /// It does not, for this reason.
    Bad(String),
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    word(bytes, at) as u32
}

impl Superblock {
    /// The bytes of a copy.
    pub fn encode(&self) -> [u8; SUPERBLOCK] {
        let mut b = [0; SUPERBLOCK];
        b[..8].copy_from_slice(&MAGIC);
        for (at, half) in [
            (sb::VERSION, VERSION),
            (sb::COMPAT, COMPAT),
            (sb::INCOMPAT, INCOMPAT),
            (sb::RO_COMPAT, RO_COMPAT),
            (sb::MEMBERSHIP_LEN, self.membership.len() as u32),
            (sb::VOID_COUNT, self.voids.len() as u32),
        ] {
            b[at..at + 4].copy_from_slice(&half.to_le_bytes());
        }
        b[sb::UUID..sb::UUID + 16].copy_from_slice(&self.uuid);
        for (at, value) in [
            (sb::SEQUENCE, self.sequence),
            (sb::EPOCH, self.epoch),
            (sb::CEILING, self.ceiling),
            (sb::ROOT, self.root),
            (sb::APPLIED_TERM, self.applied.0.0),
            (sb::APPLIED_INDEX, self.applied.1.0),
            (sb::CLOCK_MS, self.clock_ms),
            (sb::HASH_KEY, self.hash_key[0]),
            (sb::HASH_KEY + 8, self.hash_key[1]),
            (sb::EXTENTS, self.extents),
            (sb::LIVE_BYTES, self.live_bytes),
            (sb::SNAPSHOTS, self.snapshots),
            (sb::LIMIT_BYTES, self.limit_bytes),
        ] {
            put(&mut b, at, value);
        }
        b[sb::MEMBERSHIP..sb::MEMBERSHIP + self.membership.len()].copy_from_slice(&self.membership);
        for (index, (after, upto)) in self.voids.iter().enumerate() {
            put(&mut b, sb::VOIDS + index * 16, *after);
            put(&mut b, sb::VOIDS + index * 16 + 8, *upto);
        }
        let crc = crc32fast::hash(&b[..sb::CRC]);
        b[sb::CRC..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads a copy.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when it is whole but not of a format this build reads.
    pub fn decode(b: &[u8], path: &Path) -> Result<Copy> {
        if b.len() != SUPERBLOCK {
            return Ok(Copy::Bad("it is cut short".into()));
        }
        if b[..7] != MAGIC[..7] {
            return Ok(Copy::Bad("it does not begin with CAIRNPL".into()));
        }
        if half(b, SUPERBLOCK - 8).to_le_bytes() != b[SUPERBLOCK - 8..SUPERBLOCK - 4]
            || crc32fast::hash(&b[..sb::CRC]).to_le_bytes() != b[sb::CRC..]
        {
            return Ok(Copy::Bad("its checksum does not fit".into()));
        }
        let newer = |found: String, known: String| StoreError::Newer {
            path: path.to_path_buf(),
            found,
            known,
        };
        let version = half(b, sb::VERSION);
        if version > VERSION {
            return Err(newer(format!("pool format {version}"), format!("up to {VERSION}")));
        }
        let unknown = (half(b, sb::INCOMPAT) & !INCOMPAT) | (half(b, sb::RO_COMPAT) & !RO_COMPAT);
        if unknown != 0 {
            return Err(newer(
                format!("pool format {version} with features {unknown:#x}"),
                format!("format {VERSION} without them"),
            ));
        }
        let membership_len = half(b, sb::MEMBERSHIP_LEN) as usize;
        let voids = half(b, sb::VOID_COUNT) as usize;
        if membership_len > sb::MEMBERSHIP_MAX || voids > sb::VOIDS_MAX {
            return Ok(Copy::Bad("its lengths cannot be".into()));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&b[sb::UUID..sb::UUID + 16]);
        Ok(Copy::Good(Box::new(Superblock {
            uuid,
            sequence: word(b, sb::SEQUENCE),
            epoch: word(b, sb::EPOCH),
            ceiling: word(b, sb::CEILING),
            root: word(b, sb::ROOT),
            applied: (Term(word(b, sb::APPLIED_TERM)), LogIndex(word(b, sb::APPLIED_INDEX))),
            clock_ms: word(b, sb::CLOCK_MS),
            hash_key: [word(b, sb::HASH_KEY), word(b, sb::HASH_KEY + 8)],
            extents: word(b, sb::EXTENTS),
            live_bytes: word(b, sb::LIVE_BYTES),
            snapshots: word(b, sb::SNAPSHOTS),
            limit_bytes: word(b, sb::LIMIT_BYTES),
            membership: b[sb::MEMBERSHIP..sb::MEMBERSHIP + membership_len].to_vec(),
            voids: (0..voids)
                .map(|i| (word(b, sb::VOIDS + i * 16), word(b, sb::VOIDS + i * 16 + 8)))
                .collect(),
        })))
    }

    /// Writes this superblock to copy `copy`; the next fence makes it durable.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the pool ends before it.
    #[track_caller]
    pub(crate) fn put(&self, mem: &Mem, copy: usize) -> Result<()> {
        mem.store(SUPERBLOCK_AT[copy], &self.encode())?;
        mem.flush(SUPERBLOCK_AT[copy], SUPERBLOCK as u64);
        Ok(())
    }

    /// Writes this superblock to copy `copy` and makes it durable: it alone, for what it says is so
    /// only after a fence of all that was stored before.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the medium failed; the copy may then be torn, the other is whole.
    #[track_caller]
    pub(crate) fn write(&self, mem: &Mem, copy: usize) -> Result<()> {
        self.put(mem, copy)?;
        Superblock::fence(mem, copy)
    }

    /// Makes copy `copy` durable as it is stored. It is stored once more: a page whose sync has failed
    /// before passes for one that the disk has.
    ///
    /// # Errors
    /// As [`Superblock::write`].
    #[track_caller]
    pub(crate) fn keep(mem: &Mem, copy: usize) -> Result<()> {
        let bytes = mem.bytes(SUPERBLOCK_AT[copy], SUPERBLOCK)?.to_vec();
        mem.store(SUPERBLOCK_AT[copy], &bytes)?;
        mem.flush(SUPERBLOCK_AT[copy], SUPERBLOCK as u64);
        Superblock::fence(mem, copy)
    }

    #[track_caller]
    fn fence(mem: &Mem, copy: usize) -> Result<()> {
        mem.fence_within(SUPERBLOCK_AT[copy], SUPERBLOCK as u64)
    }
}

/// A superblock copy as it lies in its file, for people.
#[derive(Debug)]
pub struct CopyLook {
    /// Where it lies, in bytes.
    pub offset: u64,
    /// The format's version that it names, whatever else is wrong with it.
    pub version: u32,
    /// Its feature masks: compat, incompat, ro_compat.
    pub features: [u32; 3],
    /// What it says.
    pub content: Copy,
}

/// How often a copy is read that a running node may be writing just then.
const LOOKS: usize = 5;

/// Reads both superblock copies of the pool at `path`, a file or a device, O(1) and without taking it
/// over, so that a node may have it open meanwhile.
///
/// # Errors
/// [`StoreError::Io`], [`StoreError::Newer`].
pub fn look_at_superblocks(path: &Path) -> Result<[CopyLook; 2]> {
    if is_device(path) {
        let mem = Mem::new(Box::new(DeviceMedia::glance(path)?));
        return Ok([look_at_mapped(&mem, path, 0)?, look_at_mapped(&mem, path, 1)?]);
    }
    let file = File::open(path)
        .map_err(|e| StoreError::io(format!("opening the pool {}", path.display()), e))?;
    Ok([look_at(&file, path, 0)?, look_at(&file, path, 1)?])
}

fn look_at(file: &File, path: &Path, copy: usize) -> Result<CopyLook> {
    let offset = SUPERBLOCK_AT[copy];
    let mut bytes = [0; SUPERBLOCK];
    let mut content = Copy::Bad("the file ends before it".into());
    for _ in 0..LOOKS {
        if let Err(e) = file.read_exact_at(&mut bytes, offset) {
            if e.kind() == std::io::ErrorKind::UnexpectedEof {
                break;
            }
            return Err(StoreError::io(format!("reading the pool {}", path.display()), e));
        }
        content = Superblock::decode(&bytes, path)?;
        if matches!(content, Copy::Good(_)) {
            break;
        }
    }
    Ok(CopyLook::of(&bytes, offset, content))
}

fn look_at_mapped(mem: &Mem, path: &Path, copy: usize) -> Result<CopyLook> {
    let offset = SUPERBLOCK_AT[copy];
    let mut bytes = vec![0; SUPERBLOCK];
    let mut content = Copy::Bad("the device is blank".into());
    for _ in 0..LOOKS {
        let Ok(mapped) = mem.bytes(offset, SUPERBLOCK) else { break };
        bytes.copy_from_slice(mapped);
        content = Superblock::decode(&bytes, path)?;
        if matches!(content, Copy::Good(_)) {
            break;
        }
    }
    Ok(CopyLook::of(&bytes, offset, content))
}

impl CopyLook {
    fn of(bytes: &[u8], offset: u64, content: Copy) -> CopyLook {
        let features = [sb::COMPAT, sb::INCOMPAT, sb::RO_COMPAT].map(|at| half(bytes, at));
        CopyLook { offset, version: half(bytes, sb::VERSION), features, content }
    }
}

/// The newest good superblock, which copy it is, and what is wrong with the other, if anything.
#[derive(Debug)]
pub struct Chosen {
    /// Its contents.
    pub superblock: Superblock,
    /// 0 or 1.
    pub copy: usize,
    /// Why the other copy was not used, when it is damaged: a torn commit, or worse.
    pub other_is_bad: Option<String>,
}

/// Chooses between the two copies.
///
/// # Errors
/// [`StoreError::Corrupt`] when neither is good; [`StoreError::Newer`].
pub fn choose(mem: &Mem) -> Result<Chosen> {
    let path = mem.media().path().map_or_else(|| PathBuf::from("(memory)"), Into::into);
    let read = |copy: usize| match mem.bytes(SUPERBLOCK_AT[copy], SUPERBLOCK) {
        Ok(bytes) => Superblock::decode(bytes, &path),
        Err(_) => Ok(Copy::Bad("the file ends before it".into())),
    };
    match (read(0)?, read(1)?) {
        (Copy::Good(a), Copy::Good(b)) => {
            let copy = usize::from(b.sequence > a.sequence);
            let superblock = if copy == 0 { *a } else { *b };
            Ok(Chosen { superblock, copy, other_is_bad: None })
        }
        (Copy::Good(good), Copy::Bad(why)) => {
            Ok(Chosen { superblock: *good, copy: 0, other_is_bad: Some(bad(1, &why)) })
        }
        (Copy::Bad(why), Copy::Good(good)) => {
            Ok(Chosen { superblock: *good, copy: 1, other_is_bad: Some(bad(0, &why)) })
        }
        (Copy::Bad(a), Copy::Bad(b)) => Err(StoreError::Corrupt(Corrupt {
            what: format!(
                "both superblocks are damaged ({a}; the second at byte {}: {b})",
                SUPERBLOCK_AT[1]
            ),
            offset: SUPERBLOCK_AT[0],
            path: Some(path),
        })),
    }
}

fn bad(copy: usize, why: &str) -> String {
    format!("superblock {copy} at byte {} is damaged: {why}", SUPERBLOCK_AT[copy])
}
