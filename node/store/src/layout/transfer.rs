//! The bytes of a pool on its way to another node, and of one that has not arrived whole.
//!
//! Blocks travel as they lie, for they lie at fixed offsets, never change once they are committed,
//! and carry their checksum.

use super::pool::{CLASS_BYTES, SLAB, SLABS_PER_EXTENT, SUPERBLOCK, record};

/// The format of heads and chunks that this build writes and reads.
pub const VERSION: u32 = 1;
/// Slabs in a chunk: half an extent, so that a chunk is a megabyte at most.
pub const SLABS_PER_CHUNK: u64 = SLABS_PER_EXTENT / 2;

/// What a pool is, sent before its chunks.
///
/// ```text
///  0  magic                8 B
///  8  version u32          12 slabs in a chunk u32
/// 16  superblock           as on media; sequence and void ranges are 0, the ceiling is its epoch
/// ```
pub mod head {
    #![allow(missing_docs)]
    pub const MAGIC: [u8; 8] = *b"CAIRNTR\x01";
    pub const VERSION: usize = 8;
    pub const CHUNK: usize = 12;
    pub const SUPERBLOCK: usize = 16;
    pub const LEN: usize = SUPERBLOCK + super::SUPERBLOCK;
}

/// A chunk: the blocks of some slabs in a row, those of slabs without any left out.
///
/// ```text
///  0  crc32 u32            of all that follows
///  4  head's crc32 u32     the last four bytes of the head: which pool this is a part of
///  8  number u64
/// 16  how many slabs u32   20 reserved
/// 24  slabs
/// ```
/// A slab:
/// ```text
///  0  within u16           which of the chunk's slabs
///  2  class u8             3 reserved
///  4  how many blocks u32
///  8  bitmap               as in a slab record, the words that the class needs
///     blocks               each of the class's size
/// ```
pub mod chunk {
    #![allow(missing_docs)]
    pub const CRC: usize = 0;
    pub const HEAD_CRC: usize = 4;
    pub const NUMBER: usize = 8;
    pub const SLABS: usize = 16;
    pub const BODY: usize = 24;

    pub const SLAB_WITHIN: usize = 0;
    pub const SLAB_CLASS: usize = 2;
    pub const SLAB_BLOCKS: usize = 4;
    pub const SLAB_BITMAP: usize = 8;

    /// No chunk is longer.
    pub const MAX: usize = BODY + super::SLABS_PER_CHUNK as usize * SLAB_MAX;
    const SLAB_MAX: usize = SLAB_BITMAP + super::record::BITMAP_BYTES + super::SLAB as usize;
    const _: () = assert!(super::CLASS_BYTES.len() < 256);
}

/// How much has arrived, in place of the first superblock: a file that holds this is no pool.
///
/// ```text
///  0  magic                8 B
///  8  version u32          12 crc32 u32 of all, with these four as zeros
/// 16  uuid                16 B of the pool that is sent
/// 32  head's crc32 u64
/// 40  next u64             chunks below it are on the medium
/// ```
pub mod progress {
    #![allow(missing_docs)]
    pub const MAGIC: [u8; 8] = *b"CAIRNIN\x01";
    pub const VERSION: usize = 8;
    pub const CRC: usize = 12;
    pub const UUID: usize = 16;
    pub const HEAD_CRC: usize = 32;
    pub const NEXT: usize = 40;
    pub const LEN: usize = 48;
}
