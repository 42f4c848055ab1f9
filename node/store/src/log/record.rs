//! Records and segment headers as values: the only place that turns them to bytes and back.

use crate::layout::log::{self as layout, header, record};
use cairn_protocol::ids::{LogIndex, ShardId, Term};

/// A position in a shard's log, with the term that put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term of the leader that made the entry.
    pub term: Term,
    /// Position.
    pub index: LogIndex,
}

impl LogId {
    /// The log id of `index` in `term`.
    #[must_use]
    pub fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Operations.
    Normal,
    /// A membership.
    Membership,
    /// Nothing: a leader's first.
    Blank,
}

impl EntryKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Normal => layout::kind::NORMAL,
            Self::Membership => layout::kind::MEMBERSHIP,
            Self::Blank => layout::kind::BLANK,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            layout::kind::NORMAL => Self::Normal,
            layout::kind::MEMBERSHIP => Self::Membership,
            layout::kind::BLANK => Self::Blank,
            _ => return None,
        })
    }
}

pub(crate) fn get_u16(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

pub(crate) fn get_u32(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

pub(crate) fn get_u64(b: &[u8], at: usize) -> u64 {
    let mut a = [0; 8];
    a.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(a)
}

fn put<const N: usize>(b: &mut [u8], at: usize, bytes: [u8; N]) {
    b[at..at + N].copy_from_slice(&bytes);
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub crc: u32,
    pub payload_crc: u32,
    pub generation: u64,
    pub durable_to: u32,
    pub batch_end: u32,
    pub prev_crc: u32,
    pub payload_len: u32,
    pub shard: ShardId,
    pub kind: u8,
    pub flags: u8,
    pub term: u64,
    pub index: u64,
}

impl Record {
    /// Reads a header that is exactly as long as one; `None` when its checksum is wrong.
    pub(crate) fn decode(b: &[u8], salt: u32) -> Option<Self> {
        let crc = get_u32(b, record::CRC);
        if checksum(&b[record::PAYLOAD_CRC..layout::RECORD_BYTES], salt) != crc {
            return None;
        }
        Some(Self::fields(b))
    }

    /// As [`decode`](Self::decode), of bytes that are not sealed yet.
    pub(crate) fn fields(b: &[u8]) -> Self {
        Self {
            crc: get_u32(b, record::CRC),
            payload_crc: get_u32(b, record::PAYLOAD_CRC),
            generation: get_u64(b, record::GENERATION),
            durable_to: get_u32(b, record::DURABLE_TO),
            batch_end: get_u32(b, record::BATCH_END),
            prev_crc: get_u32(b, record::PREV_CRC),
            payload_len: get_u32(b, record::PAYLOAD_LEN),
            shard: ShardId(get_u32(b, record::SHARD)),
            kind: b[record::KIND],
            flags: b[record::FLAGS],
            term: get_u64(b, record::TERM),
            index: get_u64(b, record::INDEX),
        }
    }

    /// The bytes, with whatever `crc` says.
    pub(crate) fn encode(&self) -> [u8; layout::RECORD_BYTES] {
        let mut b = [0u8; layout::RECORD_BYTES];
        put(&mut b, record::CRC, self.crc.to_le_bytes());
        put(&mut b, record::PAYLOAD_CRC, self.payload_crc.to_le_bytes());
        put(&mut b, record::GENERATION, self.generation.to_le_bytes());
        put(&mut b, record::DURABLE_TO, self.durable_to.to_le_bytes());
        put(&mut b, record::BATCH_END, self.batch_end.to_le_bytes());
        put(&mut b, record::PREV_CRC, self.prev_crc.to_le_bytes());
        put(&mut b, record::PAYLOAD_LEN, self.payload_len.to_le_bytes());
        put(&mut b, record::SHARD, self.shard.0.to_le_bytes());
        b[record::KIND] = self.kind;
        b[record::FLAGS] = self.flags;
        put(&mut b, record::TERM, self.term.to_le_bytes());
        put(&mut b, record::INDEX, self.index.to_le_bytes());
        b
    }

    /// Length on media.
    pub(crate) fn bytes(&self) -> usize {
        layout::record_bytes(self.payload_len as usize)
    }

    /// Where an entry stands.
    pub(crate) fn log_id(&self) -> LogId {
        LogId::new(Term(self.term), LogIndex(self.index))
    }
}

/// Where the checksums of a segment's record headers begin.
///
/// What an earlier generation left lies where records are looked for after a crash, and clients
/// chose its bytes. They must not be able to make it look like a record, so the checksum begins
/// with something they do not know.
pub(crate) fn salt(uuid: &[u8; 16], generation: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(uuid);
    crc.update(&generation.to_le_bytes());
    crc.finalize()
}

fn checksum(bytes: &[u8], salt: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(salt);
    crc.update(bytes);
    crc.finalize()
}

/// Completes the records of a batch, which begin at the front of `batch`: what they need to know of
/// the batch is known only now that it is closed. Returns the last record's checksum.
pub(crate) fn seal(
    batch: &mut [u8],
    batch_end: u32,
    durable_to: u32,
    mut prev_crc: u32,
    salt: u32,
) -> u32 {
    let mut at = 0;
    while at < batch.len() {
        let rec = &mut batch[at..at + layout::RECORD_BYTES];
        put(rec, record::DURABLE_TO, durable_to.to_le_bytes());
        put(rec, record::BATCH_END, batch_end.to_le_bytes());
        put(rec, record::PREV_CRC, prev_crc.to_le_bytes());
        prev_crc = checksum(&rec[record::PAYLOAD_CRC..], salt);
        put(rec, record::CRC, prev_crc.to_le_bytes());
        at += layout::record_bytes(get_u32(rec, record::PAYLOAD_LEN) as usize);
    }
    prev_crc
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub uuid: [u8; 16],
    pub boot_id: [u8; 16],
    pub generation: u64,
    pub segment_bytes: u64,
    pub file_number: u32,
    pub prev_file: u32,
    pub prev_generation: u64,
    pub prev_end: u32,
    pub prev_crc: u32,
    pub first_live: u64,
    /// It names another version or other features than this build would. Not written.
    pub differs: bool,
}

/// Why bytes are not a header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged(&'static str, usize),
    Newer { found: String, known: String },
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; layout::HEADER_BYTES] {
        let mut b = [0u8; layout::HEADER_BYTES];
        put(&mut b, header::MAGIC, layout::MAGIC);
        put(&mut b, header::VERSION, layout::VERSION.to_le_bytes());
        put(&mut b, header::COMPAT, layout::COMPAT.to_le_bytes());
        put(&mut b, header::INCOMPAT, layout::INCOMPAT.to_le_bytes());
        put(&mut b, header::RO_COMPAT, layout::RO_COMPAT.to_le_bytes());
        put(&mut b, header::UUID, self.uuid);
        put(&mut b, header::BOOT_ID, self.boot_id);
        put(&mut b, header::GENERATION, self.generation.to_le_bytes());
        put(&mut b, header::SEGMENT_BYTES, self.segment_bytes.to_le_bytes());
        put(&mut b, header::FILE_NUMBER, self.file_number.to_le_bytes());
        put(&mut b, header::PREV_FILE, self.prev_file.to_le_bytes());
        put(&mut b, header::PREV_GENERATION, self.prev_generation.to_le_bytes());
        put(&mut b, header::PREV_END, self.prev_end.to_le_bytes());
        put(&mut b, header::PREV_CRC, self.prev_crc.to_le_bytes());
        put(&mut b, header::FIRST_LIVE, self.first_live.to_le_bytes());
        let crc = crc32fast::hash(&b[..header::CRC]);
        put(&mut b, header::CRC, crc.to_le_bytes());
        b
    }

    pub(crate) fn decode(b: &[u8; layout::HEADER_BYTES]) -> Result<Self, BadHeader> {
        if b[..layout::MAGIC.len()] != layout::MAGIC {
            return Err(BadHeader::Damaged("not a log segment (bad magic)", header::MAGIC));
        }
        // A newer format may put its checksum elsewhere, so its version counts even when ours is
        // wrong: should a flipped bit have made it newer, the log is refused all the same.
        let whole = crc32fast::hash(&b[..header::CRC]) == get_u32(b, header::CRC);
        let version = get_u16(b, header::VERSION);
        if !whole && version <= layout::VERSION {
            return Err(BadHeader::Damaged("checksum of the segment header is wrong", header::CRC));
        }
        if version > layout::VERSION {
            let found = format!("log format {version}");
            return Err(BadHeader::Newer { found, known: format!("up to {}", layout::VERSION) });
        }
        if version == 0 {
            return Err(BadHeader::Damaged("version 0", header::VERSION));
        }
        known_bits("incompatible", get_u32(b, header::INCOMPAT), layout::INCOMPAT)?;
        // The log is always opened for writing.
        known_bits("write", get_u32(b, header::RO_COMPAT), layout::RO_COMPAT)?;
        let features =
            [header::COMPAT, header::INCOMPAT, header::RO_COMPAT].map(|at| get_u32(b, at));
        let ours = [layout::COMPAT, layout::INCOMPAT, layout::RO_COMPAT];
        Ok(Self {
            differs: version != layout::VERSION || features != ours,
            uuid: array(b, header::UUID),
            boot_id: array(b, header::BOOT_ID),
            generation: get_u64(b, header::GENERATION),
            segment_bytes: get_u64(b, header::SEGMENT_BYTES),
            file_number: get_u32(b, header::FILE_NUMBER),
            prev_file: get_u32(b, header::PREV_FILE),
            prev_generation: get_u64(b, header::PREV_GENERATION),
            prev_end: get_u32(b, header::PREV_END),
            prev_crc: get_u32(b, header::PREV_CRC),
            first_live: get_u64(b, header::FIRST_LIVE),
        })
    }
}

fn array(b: &[u8], at: usize) -> [u8; 16] {
    let mut a = [0; 16];
    a.copy_from_slice(&b[at..at + 16]);
    a
}

fn known_bits(what: &str, found: u32, known: u32) -> Result<(), BadHeader> {
    if found & !known == 0 {
        return Ok(());
    }
    Err(BadHeader::Newer {
        found: format!("log format {} with {what} features {found:#x}", layout::VERSION),
        known: format!("format {} with {what} features {known:#x}", layout::VERSION),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_header() -> Header {
        Header {
            uuid: [7; 16],
            boot_id: [9; 16],
            generation: 5,
            segment_bytes: 4096,
            file_number: 3,
            prev_file: 2,
            prev_generation: 4,
            prev_end: 1024,
            prev_crc: 77,
            first_live: 2,
            differs: false,
        }
    }

    fn patched(at: usize, bytes: &[u8], seal: bool) -> Result<Header, BadHeader> {
        let mut b = a_header().encode();
        b[at..at + bytes.len()].copy_from_slice(bytes);
        if seal {
            let crc = crc32fast::hash(&b[..header::CRC]);
            put(&mut b, header::CRC, crc.to_le_bytes());
        }
        Header::decode(&b)
    }

    #[test]
    fn headers_come_back_and_every_flipped_bit_is_seen() {
        let bytes = a_header().encode();
        assert_eq!(Header::decode(&bytes), Ok(a_header()));
        for bit in 0..bytes.len() * 8 {
            let mut b = bytes;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&b).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_naming_both_versions() {
        for seal in [true, false] {
            let Err(BadHeader::Newer { found, known }) = patched(header::VERSION, &[2, 0], seal)
            else {
                panic!("accepted");
            };
            assert_eq!((found.as_str(), known.as_str()), ("log format 2", "up to 1"));
        }
    }

    #[test]
    fn unknown_features_are_refused_unless_they_are_compatible() {
        assert!(patched(header::COMPAT, &[4], true).is_ok());
        for at in [header::INCOMPAT, header::RO_COMPAT] {
            assert!(matches!(patched(at, &[4], true), Err(BadHeader::Newer { .. })));
        }
    }

    #[test]
    fn records_come_back_and_every_flipped_bit_is_seen() {
        let mut rec = Record {
            crc: 0,
            payload_crc: 1,
            generation: 2,
            durable_to: 3,
            batch_end: 56,
            prev_crc: 5,
            payload_len: 0,
            shard: ShardId(7),
            kind: 1,
            flags: 0,
            term: 8,
            index: u64::MAX,
        };
        let mut bytes = rec.encode();
        rec.crc = seal(&mut bytes, rec.batch_end, rec.durable_to, rec.prev_crc, 11);
        assert_eq!(Record::decode(&bytes, 11), Some(rec));
        assert_eq!(Record::decode(&bytes, 12), None, "of another log");
        for bit in 0..bytes.len() * 8 {
            let mut b = bytes;
            b[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&b, 11), None, "bit {bit}");
        }
    }
}
