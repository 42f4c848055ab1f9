//! The bytes of the Raft log: segment files `NNNNNN.seg` in `<dir>/log/`.
//!
//! Everything is little-endian; reserved bytes are zero. A segment is a header sector followed by
//! batches; a batch is what one write made durable: one or more records without a gap between
//! them. What lies after the last whole batch of the newest segment is meaningless: zeros in a
//! fresh file, what an earlier generation left in a recycled one.
//!
//! ```text
//! 0           512                                                     segment_bytes
//! +-----------+--------------+--------+-----------------+-- - - - - - -+
//! | header    | opening      | batch  | batch           | old bytes    |
//! | (sector)  | batch: marks | r r r  | r               |              |
//! +-----------+--------------+--------+-----------------+-- - - - - - -+
//! ```
//!
//! What is assumed of the medium: on files, a 512-byte sector is written whole or not at all; should
//! one tear all the same, its checksum says so and the log refuses to open. In memory (tmpfs, DAX)
//! only an aligned word of eight bytes is: there the header of a recycled segment is replaced in
//! three steps, each durable before the next. The magic becomes "CAIRNOPN", the rest is written, the
//! magic comes back. A file with that magic held nothing that is needed, and goes at the next open.
//!
//! ## Segment header, 512 bytes
//! ```text
//!   0  magic "CAIRNLOG"
//!   8  version u16          | 10 reserved u16        | 12 compat u32
//!  16  incompat u32         | 20 ro_compat u32
//!  24  uuid [16]            of the log: files of two nodes never mix; salts the record checksums
//!  40  boot_id [16]         of the machine that opened this segment
//!  56  generation u64       0 = spare, never opened; else unique for ever
//!  64  segment_bytes u64    the file's length
//!  72  file_number u32      the NNNNNN of its own name | 76 prev_file u32
//!  80  prev_generation u64  the segment before this one, 0 = none
//!  88  prev_end u32         where that one's last batch ends | 92 prev_crc u32 of its last record
//!  96  first_live u64       generation of the oldest segment still needed
//! 104  reserved, zero
//! 508  crc32 u32            of bytes 0..508
//! ```
//!
//! ## Record header, 56 bytes, then the payload, then zeros to a multiple of 8
//! ```text
//!   0  crc32 u32        of bytes 4..56, begun with the crc32 of uuid and generation
//!   4  payload_crc u32
//!   8  generation u64   of its segment: what an earlier one left never looks alive
//!  16  durable_to u32   bytes of this segment known durable when this was written
//!  20  batch_end u32    where its batch ends
//!  24  prev_crc u32     the crc32 of the record before, across segments
//!  28  payload_len u32
//!  32  shard u32
//!  36  kind u8          | 37 flags u8      | 38 reserved u16
//!  40  term u64
//!  48  index u64
//! ```
//!
//! | kind | term, index | flags | payload |
//! |---|---|---|---|
//! | 1 normal, 2 membership, 3 blank | the entry's | `MOVED` | the entry's bytes |
//! | 4 vote | 0 | | opaque, at most [`MAX_VOTE_BYTES`] |
//! | 5 truncate | the last entry kept | `NOTHING` when none is | |
//! | 6 purge | the last entry purged | | `first_live` u64 once it is applied |
//! | 7 mark | 0 | | the shard's state, below; only in the opening batch |
//!
//! ## Payload of a mark
//! ```text
//!   0  present u8: bit 0 vote, bit 1 purged, bit 2 last | 1 reserved [7]
//!   8  first u64                    index of the first entry held, when there is one
//!  16  purged term u64, index u64
//!  32  last term u64, index u64
//!  48  the vote's bytes
//! ```

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"CAIRNLOG";
/// First bytes of a segment file whose header is being replaced.
pub const MAGIC_REPLACING: [u8; 8] = *b"CAIRNOPN";
/// The format this build writes, and the newest it reads.
pub const VERSION: u16 = 1;

/// Features an older build may ignore. None yet.
pub const COMPAT: u32 = 0;
/// Features a build must know to open the log at all. None yet.
pub const INCOMPAT: u32 = 0;
/// Features a build must know to write to the log. None yet.
pub const RO_COMPAT: u32 = 0;

/// What a medium writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// Length of the segment header: one sector, so that a crash leaves the old one or the new one.
pub const HEADER_BYTES: usize = 512;
/// Length of a record header.
pub const RECORD_BYTES: usize = 56;
/// Records begin at multiples of this.
pub const ALIGN: usize = 8;
/// Length of a segment unless the options say otherwise.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Shortest segment that makes sense (tests use it).
pub const MIN_SEGMENT_BYTES: u64 = 4096;
/// Longest segment: offsets are 32 bits wide.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// Largest payload of a record in a segment of the usual length: 8 MiB and some slack for the
/// framing of those who speak of 8 MiB. What is larger is staged in pieces by the layers above.
pub const MAX_PAYLOAD_BYTES: usize = (8 << 20) + (64 << 10);
/// Largest vote.
pub const MAX_VOTE_BYTES: usize = 256;
/// Length of a mark without its vote.
pub const MARK_BYTES: usize = 48;
/// Length of the payload of a purge.
pub const PURGE_BYTES: usize = 8;

/// Offsets in the segment header.
pub mod header {
    /// Magic.
    pub const MAGIC: usize = 0;
    /// Version.
    pub const VERSION: usize = 8;
    /// Compatible feature bits.
    pub const COMPAT: usize = 12;
    /// Incompatible feature bits.
    pub const INCOMPAT: usize = 16;
    /// Feature bits that a writer must know.
    pub const RO_COMPAT: usize = 20;
    /// Uuid of the log.
    pub const UUID: usize = 24;
    /// Boot id of the machine.
    pub const BOOT_ID: usize = 40;
    /// Generation.
    pub const GENERATION: usize = 56;
    /// Length of the file.
    pub const SEGMENT_BYTES: usize = 64;
    /// Number in the file's name.
    pub const FILE_NUMBER: usize = 72;
    /// Number of the file before.
    pub const PREV_FILE: usize = 76;
    /// Generation of the segment before.
    pub const PREV_GENERATION: usize = 80;
    /// End of the segment before.
    pub const PREV_END: usize = 88;
    /// Checksum of the last record of the segment before.
    pub const PREV_CRC: usize = 92;
    /// Oldest generation still needed.
    pub const FIRST_LIVE: usize = 96;
    /// First reserved byte.
    pub const RESERVED: usize = 104;
    /// Checksum of everything before it.
    pub const CRC: usize = 508;
}

/// Offsets in a record header.
pub mod record {
    /// Checksum of the rest of the header.
    pub const CRC: usize = 0;
    /// Checksum of the payload.
    pub const PAYLOAD_CRC: usize = 4;
    /// Generation of the segment.
    pub const GENERATION: usize = 8;
    /// What was durable when it was written.
    pub const DURABLE_TO: usize = 16;
    /// End of the batch.
    pub const BATCH_END: usize = 20;
    /// Checksum of the record before.
    pub const PREV_CRC: usize = 24;
    /// Length of the payload.
    pub const PAYLOAD_LEN: usize = 28;
    /// Shard.
    pub const SHARD: usize = 32;
    /// Kind.
    pub const KIND: usize = 36;
    /// Flags.
    pub const FLAGS: usize = 37;
    /// Reserved.
    pub const RESERVED: usize = 38;
    /// Term.
    pub const TERM: usize = 40;
    /// Index.
    pub const INDEX: usize = 48;
}

/// Kinds of records.
pub mod kind {
    /// An entry with operations.
    pub const NORMAL: u8 = 1;
    /// An entry with a membership.
    pub const MEMBERSHIP: u8 = 2;
    /// An entry with nothing, by which a leader begins its term.
    pub const BLANK: u8 = 3;
    /// A vote.
    pub const VOTE: u8 = 4;
    /// Entries after an index are void.
    pub const TRUNCATE: u8 = 5;
    /// Entries up to an index are no longer needed.
    pub const PURGE: u8 = 6;
    /// A shard's state at the opening of the segment.
    pub const MARK: u8 = 7;
}

/// Flag of an entry: a copy of one that lies in an older segment, which it sets free.
pub const FLAG_MOVED: u8 = 1;
/// Flag of a truncate: no entry is kept.
pub const FLAG_NOTHING: u8 = 2;

/// Offsets and bits in the payload of a mark.
pub mod mark {
    /// Which of the following are there.
    pub const PRESENT: usize = 0;
    /// Index of the first entry held.
    pub const FIRST: usize = 8;
    /// Purged log id.
    pub const PURGED: usize = 16;
    /// Last log id.
    pub const LAST: usize = 32;
    /// The vote.
    pub const VOTE: usize = 48;
    /// There is a vote.
    pub const HAS_VOTE: u8 = 1;
    /// Something was purged.
    pub const HAS_PURGED: u8 = 2;
    /// There is a last log id.
    pub const HAS_LAST: u8 = 4;
}

const _: () = {
    assert!(HEADER_BYTES == SECTOR_BYTES && HEADER_BYTES.is_multiple_of(ALIGN));
    assert!(header::VERSION == header::MAGIC + MAGIC.len());
    assert!(header::INCOMPAT == header::COMPAT + 4 && header::RO_COMPAT == header::INCOMPAT + 4);
    assert!(header::UUID == header::RO_COMPAT + 4 && header::BOOT_ID == header::UUID + 16);
    assert!(header::GENERATION == header::BOOT_ID + 16);
    assert!(header::SEGMENT_BYTES == header::GENERATION + 8);
    assert!(header::FILE_NUMBER == header::SEGMENT_BYTES + 8);
    assert!(header::PREV_FILE == header::FILE_NUMBER + 4);
    assert!(header::PREV_GENERATION == header::PREV_FILE + 4);
    assert!(header::PREV_END == header::PREV_GENERATION + 8);
    assert!(header::PREV_CRC == header::PREV_END + 4 && header::FIRST_LIVE == header::PREV_CRC + 4);
    assert!(header::RESERVED == header::FIRST_LIVE + 8 && header::CRC + 4 == HEADER_BYTES);
    assert!(
        record::PAYLOAD_CRC == record::CRC + 4 && record::GENERATION == record::PAYLOAD_CRC + 4
    );
    assert!(record::DURABLE_TO == record::GENERATION + 8);
    assert!(record::BATCH_END == record::DURABLE_TO + 4);
    assert!(record::PREV_CRC == record::BATCH_END + 4);
    assert!(record::PAYLOAD_LEN == record::PREV_CRC + 4);
    assert!(record::SHARD == record::PAYLOAD_LEN + 4 && record::KIND == record::SHARD + 4);
    assert!(record::FLAGS == record::KIND + 1 && record::RESERVED == record::FLAGS + 1);
    assert!(record::TERM == record::RESERVED + 2 && record::INDEX == record::TERM + 8);
    assert!(RECORD_BYTES == record::INDEX + 8 && RECORD_BYTES.is_multiple_of(ALIGN));
    assert!(mark::PURGED == mark::FIRST + 8 && mark::LAST == mark::PURGED + 16);
    assert!(mark::VOTE == mark::LAST + 16 && mark::VOTE == MARK_BYTES);
    assert!(MAX_SEGMENT_BYTES < u32::MAX as u64 && MIN_SEGMENT_BYTES > HEADER_BYTES as u64);
    // The largest record and a quarter of marks fit into one segment.
    assert!((MAX_PAYLOAD_BYTES + RECORD_BYTES) as u64 <= SEGMENT_BYTES * 3 / 4 - 512);
};

/// Length of a record on media: header, payload, zeros up to [`ALIGN`].
#[must_use]
pub const fn record_bytes(payload_len: usize) -> usize {
    (RECORD_BYTES + payload_len).next_multiple_of(ALIGN)
}
