//! The bytes of a pool file: superblocks, extents, slab records, and the blocks inside slabs.
//!
//! ```text
//! 0          superblock copy 0 (4 KiB)
//! 1 MiB      superblock copy 1 (4 KiB)
//! 2 MiB      group 0: one extent of slab records, then 85 data extents of 2 MiB
//! 174 MiB    group 1: ...
//! ```
//! A group's record extent holds 24 KiB for each of its 85 data extents: two copies of 32 slab
//! records, 12 KiB each, so that the copies never share a 4 KiB page. Nothing else is at a
//! computed place; all other blocks live in slabs and are found from the data root.
//!
//! What this format assumes of the medium: writing a page rewrites its unchanged bytes as they
//! were, and a tear happens between 512-byte sectors (files) or 8-byte words (DAX), not inside.

/// Bytes of a page, the unit in which page-cached media persist.
pub const PAGE: u64 = 4096;
/// Bytes of an extent, the unit in which a pool grows.
pub const EXTENT: u64 = 2 << 20;
/// Bytes of a slab: blocks of one size class.
pub const SLAB: u64 = 64 << 10;
/// Slabs in an extent.
pub const SLABS_PER_EXTENT: u64 = EXTENT / SLAB;
/// Data extents in a group, behind the extent with their slab records.
pub const GROUP_DATA_EXTENTS: u64 = EXTENT / RECORDS_PER_EXTENT_BYTES;
/// Bytes of a group.
pub const GROUP: u64 = (GROUP_DATA_EXTENTS + 1) * EXTENT;
/// Where group 0 begins.
pub const GROUPS_AT: u64 = EXTENT;

// ---------------------------------------------------------------- superblock

/// Opens a superblock.
pub const MAGIC: [u8; 8] = *b"CAIRNPL\x01";
/// The format this build writes, and the newest it reads.
pub const VERSION: u32 = 1;
/// Features an older build may ignore.
pub const COMPAT: u32 = 0;
/// Features without which a build must not open the pool at all.
pub const INCOMPAT: u32 = 0;
/// Features without which a build may only read the pool.
pub const RO_COMPAT: u32 = 0;

/// Where the two superblock copies lie.
pub const SUPERBLOCK_AT: [u64; 2] = [0, 1 << 20];
/// Bytes of a superblock copy.
pub const SUPERBLOCK: usize = 4096;

/// Offsets inside a superblock.
///
/// ```text
///    0  magic                8 B
///    8  version u32          12 compat u32      16 incompat u32     20 ro_compat u32
///   24  uuid                16 B
///   40  sequence u64        which copy is newer
///   48  epoch u64           of the data root
///   56  ceiling u64         no epoch above it has ever been used
///   64  root u64            offset of the root block, 0 = an empty pool
///   72  applied term u64    80  applied index u64
///   88  clock_ms u64        the shard's time, never runs backwards
///   96  hash key            16 B
///  112  extents u64         data extents in the file
///  120  live bytes u64      of all blocks reachable from the root
///  128  snapshots u64       catalogue of snapshots, 0 = none
///  136  membership len u32  140 void count u32
///  144  limit bytes u64     the shard's replicated memory limit, 0 = not set yet
///  152  reserved
/// 1024  membership          up to 1024 B, opaque to the store
/// 2048  void ranges         up to 64 of {after u64, up to and including u64}
/// 3072  reserved
/// 4092  crc32 of bytes 0..4092
/// ```
pub mod sb {
    #![allow(missing_docs)]
    pub const VERSION: usize = 8;
    pub const COMPAT: usize = 12;
    pub const INCOMPAT: usize = 16;
    pub const RO_COMPAT: usize = 20;
    pub const UUID: usize = 24;
    pub const SEQUENCE: usize = 40;
    pub const EPOCH: usize = 48;
    pub const CEILING: usize = 56;
    pub const ROOT: usize = 64;
    pub const APPLIED_TERM: usize = 72;
    pub const APPLIED_INDEX: usize = 80;
    pub const CLOCK_MS: usize = 88;
    pub const HASH_KEY: usize = 96;
    pub const EXTENTS: usize = 112;
    pub const LIVE_BYTES: usize = 120;
    pub const SNAPSHOTS: usize = 128;
    pub const MEMBERSHIP_LEN: usize = 136;
    pub const VOID_COUNT: usize = 140;
    pub const LIMIT_BYTES: usize = 144;
    pub const MEMBERSHIP: usize = 1024;
    pub const MEMBERSHIP_MAX: usize = 1024;
    pub const VOIDS: usize = 2048;
    pub const VOIDS_MAX: usize = 64;
    pub const CRC: usize = 4092;
    const _: () = assert!(LIMIT_BYTES + 8 <= MEMBERSHIP);
    const _: () = assert!(MEMBERSHIP + MEMBERSHIP_MAX == VOIDS);
    const _: () = assert!(VOIDS + VOIDS_MAX * 16 <= CRC && CRC + 4 == super::SUPERBLOCK);
}

// -------------------------------------------------------------- slab records

/// Bytes of a slab record.
///
/// ```text
///  0  epoch u64        of the commit that wrote it, 0 = never written
///  8  crc32 u32        of bytes 0..8 and 12..288
/// 12  class u8         index into CLASS_BYTES
/// 13  reserved
/// 16  epoch u64        again: a tear, on media that tear between words, leaves one that was not
///                      committed; damage does not
/// 24  reserved
/// 32  bitmap           256 B, bit i = block i is live in that epoch
/// ```
pub const RECORD: usize = 288;
/// Offsets inside a slab record.
pub mod record {
    #![allow(missing_docs)]
    pub const EPOCH: usize = 0;
    pub const CRC: usize = 8;
    pub const CLASS: usize = 12;
    pub const EPOCH_AGAIN: usize = 16;
    pub const BITMAP: usize = 32;
    pub const BITMAP_BYTES: usize = 256;
    const _: () = assert!(BITMAP + BITMAP_BYTES == super::RECORD);
}
/// Slab records in a page; the rest of the page is reserved.
pub const RECORDS_PER_PAGE: u64 = PAGE / RECORD as u64;
/// Bytes of one copy of an extent's slab records: whole pages.
pub const RECORD_COPY: u64 = SLABS_PER_EXTENT.div_ceil(RECORDS_PER_PAGE) * PAGE;
/// Bytes of both copies.
pub const RECORDS_PER_EXTENT_BYTES: u64 = 2 * RECORD_COPY;

const _: () = assert!(GROUP_DATA_EXTENTS == 85 && RECORD_COPY == 12 << 10);
const _: () = assert!(SLAB as usize / 32 <= record::BITMAP_BYTES * 8);

/// Offset of data extent `extent`.
pub const fn extent_at(extent: u64) -> u64 {
    GROUPS_AT + extent / GROUP_DATA_EXTENTS * GROUP + (1 + extent % GROUP_DATA_EXTENTS) * EXTENT
}

/// Which data extent holds `offset`; `None` in superblocks and slab records.
pub const fn extent_of(offset: u64) -> Option<u64> {
    if offset < GROUPS_AT {
        return None;
    }
    let (group, within) = ((offset - GROUPS_AT) / GROUP, (offset - GROUPS_AT) % GROUP / EXTENT);
    if within == 0 { None } else { Some(group * GROUP_DATA_EXTENTS + within - 1) }
}

/// Offset of both record copies of data extent `extent`.
pub const fn records_at(extent: u64) -> u64 {
    GROUPS_AT
        + extent / GROUP_DATA_EXTENTS * GROUP
        + extent % GROUP_DATA_EXTENTS * RECORDS_PER_EXTENT_BYTES
}

/// Offset of copy `copy` of the record of slab `slab` (counted over all data extents).
pub const fn record_at(slab: u64, copy: u64) -> u64 {
    let (extent, within) = (slab / SLABS_PER_EXTENT, slab % SLABS_PER_EXTENT);
    records_at(extent)
        + copy * RECORD_COPY
        + within / RECORDS_PER_PAGE * PAGE
        + within % RECORDS_PER_PAGE * RECORD as u64
}

/// File bytes that `extents` data extents need.
pub const fn file_bytes(extents: u64) -> u64 {
    if extents == 0 { GROUPS_AT } else { extent_at(extents - 1) + EXTENT }
}

/// Bytes of data extents and their records that a file of `file_bytes` has room for.
pub const fn capacity_within(file_bytes: u64) -> u64 {
    let left = file_bytes.saturating_sub(GROUPS_AT);
    let last_group = (left % GROUP / EXTENT).saturating_sub(1);
    (left / GROUP * GROUP_DATA_EXTENTS + last_group) * (EXTENT + RECORDS_PER_EXTENT_BYTES)
}

// --------------------------------------------------------------- size classes

/// Bytes of a block of each class: steps of 8 to 256, then about an eighth, and the exact sizes
/// of the fixed nodes among them; every class divides a slab with little left over.
pub const CLASS_BYTES: [u16; 67] = class_bytes();
/// The largest block.
pub const BLOCK_MAX: usize = 16384;
const LARGE: [u16; 38] = [
    272, 304, 336, 376, 424, 472, 512, 528, 592, 664, 744, 832, 936, 1040, 1168, 1304, 1456, 1632,
    1820, 2048, 2256, 2520, 2848, 3088, 3448, 3640, 4096, 4680, 5040, 5456, 5952, 6552, 7280, 8192,
    9360, 10920, 13104, 16384,
];

const fn class_bytes() -> [u16; 67] {
    let mut out = [0u16; 67];
    let mut i = 0;
    while i < 29 {
        out[i] = 32 + 8 * i as u16;
        i += 1;
    }
    while i < 67 {
        out[i] = LARGE[i - 29] / 8 * 8;
        i += 1;
    }
    out
}

/// Class index by size in words of 8 bytes.
pub static CLASS_BY_WORDS: [u8; BLOCK_MAX / 8 + 1] = class_by_words();

const fn class_by_words() -> [u8; BLOCK_MAX / 8 + 1] {
    let mut out = [0u8; BLOCK_MAX / 8 + 1];
    let (mut words, mut class) = (0, 0);
    while words < out.len() {
        while (CLASS_BYTES[class] as usize) < words * 8 {
            class += 1;
        }
        out[words] = class as u8;
        words += 1;
    }
    out
}

const _: () = assert!(CLASS_BYTES[66] as usize == BLOCK_MAX);

// --------------------------------------------------------------------- blocks

/// Every block opens with 16 bytes.
///
/// ```text
///  0  birth u48      epoch in which the block was written
///  6  kind u8        what it is
///  7  aux u8         the kind's own
///  8  count u32      the kind's own
/// 12  crc32 u32      of the whole class size with these four as zeros, begun with the offset's
///                    low half
/// ```
pub const HEADER: usize = 16;
/// Offset of a block's crc32.
pub const BLOCK_CRC: usize = 12;

/// What a block is.
pub mod kind {
    #![allow(missing_docs)]
    /// The root of all databases.
    pub const ROOT: u8 = 1;
    /// Slots, upper level: 128 pointers.
    pub const SLOTS_HIGH: u8 = 2;
    /// Slots, lower level: 128 of {trie, keys and deadlines, bytes}.
    pub const SLOTS_LOW: u8 = 3;
    /// A trie directory.
    pub const DIRECTORY: u8 = 4;
    /// A trie leaf.
    pub const LEAF: u8 = 5;
    /// A key with its value.
    pub const BLOB: u8 = 6;
    /// A chunk of a long value.
    pub const CHUNK: u8 = 7;
    /// A B+tree leaf.
    pub const TREE_LEAF: u8 = 8;
    /// An inner B+tree node.
    pub const TREE_INNER: u8 = 9;
    /// A page of the list of dropped trees.
    pub const DROPPED: u8 = 10;
    /// A chunk of a list.
    pub const LIST_CHUNK: u8 = 11;
    /// The catalogue of snapshots.
    pub const CATALOGUE: u8 = 12;
    /// A snapshot.
    pub const SNAPSHOT: u8 = 13;
    /// A page of blocks that only snapshots see.
    pub const KEPT: u8 = 14;
    /// What a dropped snapshot, or a rollback, left to be sorted.
    pub const GARBAGE: u8 = 15;
}

/// Pointers are a 48-bit offset below a 16-bit tag.
pub const OFFSET_BITS: u32 = 48;
/// The offset of a tagged pointer.
pub const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
/// Birth epochs have as many bits.
pub const BIRTH_MASK: u64 = (1 << 48) - 1;

/// Root block: a row of words for each database, then the shard's own.
///
/// ```text
///  16 + 40 d   database d of 17: {slots, keys, keys with a deadline, bytes, expiry tree}
/// 696          dropped trees
/// 704          bit i: the shard's setting i is not its default
/// 712 + 8 i    setting i of 14, 0 where it is its default
/// 824          reserved
/// ```
/// What a setting means is the engine's business: they lie here because they decide what operations
/// do, and so must travel with the data.
/// Each database has an expiry tree of its own, so that FLUSHDB and SWAPDB need not touch a key.
pub mod root {
    #![allow(missing_docs)]
    pub const DATABASES: usize = 17;
    pub const ROW_WORDS: usize = 5;
    /// Word index of a database's row.
    pub const fn row(db: usize) -> usize {
        2 + db * ROW_WORDS
    }
    pub const SLOTS: usize = 0;
    pub const KEYS: usize = 1;
    pub const EXPIRES: usize = 2;
    pub const BYTES: usize = 3;
    pub const EXPIRY: usize = 4;
    pub const DROPPED: usize = 2 + DATABASES * ROW_WORDS;
    pub const SETTINGS_GIVEN: usize = DROPPED + 1;
    pub const SETTINGS: usize = SETTINGS_GIVEN + 1;
    pub const SETTINGS_MAX: usize = 14;
    pub const LEN: usize = 832;
    const _: () = assert!((SETTINGS + SETTINGS_MAX) * 8 <= LEN);
}

/// Slots of a database, 128 x 128.
pub mod slots {
    #![allow(missing_docs)]
    pub const FANOUT: usize = 128;
    pub const HIGH_LEN: usize = super::HEADER + FANOUT * 8;
    /// Words of a slot's entry: {trie, keys u32 | deadlines u32 << 32, bytes}.
    pub const ENTRY_WORDS: usize = 3;
    pub const LOW_LEN: usize = super::HEADER + FANOUT * ENTRY_WORDS * 8;
}

/// Trie: directories of 2^k pointers, leaves of 14 {hash tag u16, offset u48}.
///
/// Pointer tag: bits 0-1 what it points to (0 nothing, 1 leaf, 2 directory), bits 2-5 the k of a
/// directory or the local depth of a leaf: how many of its directory's k bits its keys share, so
/// that 2^(k - depth) neighbouring entries point to it (extendible hashing inside one node).
/// A leaf's count is its number of entries.
pub mod trie {
    #![allow(missing_docs)]
    pub const LEAF_ENTRIES: usize = 14;
    pub const LEAF_LEN: usize = super::HEADER + LEAF_ENTRIES * 8;
    pub const K_MAX: u32 = 6;
    pub const TO_LEAF: u64 = 1;
    pub const TO_DIRECTORY: u64 = 2;
    pub const fn directory_len(k: u32) -> usize {
        super::HEADER + (8 << k)
    }
    const _: () = assert!(LEAF_LEN == 128 && directory_len(K_MAX) == 528);
}

/// Blob: a key and its value.
///
/// ```text
///  0  header; aux = type in bits 0-3, flags in bits 4-7
///  8  encoding u8, key length u8, inline value length u16    (the header's count)
/// 16  [deadline_ms u64]     flag DEADLINE
///     [key length u64]      flag LONG_KEY: the key length above is 0
///     [tree u64, length u64] flag NESTED, a string: the value is chunks below a tree
///     [tree u64, elements u64, bytes u64, order u64]
///                           flag NESTED, a collection: members or chunks, what the elements
///                           count as, and a sorted set's order
///     key, value            no value with NESTED
/// ```
/// A collection without NESTED is packed into the value.
pub mod blob {
    #![allow(missing_docs)]
    pub const DEADLINE: u8 = 0x10;
    pub const LONG_KEY: u8 = 0x20;
    pub const NESTED: u8 = 0x40;
    pub const TYPE_MASK: u8 = 0x0f;
    /// Longest key: a block less every optional field.
    pub const KEY_MAX: usize = 15_000;
    /// Longest packed collection.
    pub const PACKED_MAX: usize = 1024;
    /// Bytes of the fields of a NESTED string.
    pub const CHUNKS_FIELDS: usize = 16;
    /// Bytes of the fields of a NESTED collection.
    pub const ROOTS_FIELDS: usize = 32;
    const _: () = assert!(super::HEADER + 16 + KEY_MAX + ROOTS_FIELDS <= super::BLOCK_MAX);
    const _: () = assert!(super::HEADER + 16 + KEY_MAX + PACKED_MAX <= super::BLOCK_MAX);
}

/// Chunk of a long value: a header and up to this many bytes; its count says how many are there.
pub const CHUNK_BYTES: usize = BLOCK_MAX - HEADER;

/// B+tree: nodes of 512 bytes, entries of K key words and V value words; an inner entry is the
/// smallest key below a child, the child's offset and the number of leaf entries below it.
pub mod btree {
    #![allow(missing_docs)]
    pub const NODE_LEN: usize = 512;
    pub const WORDS: usize = (NODE_LEN - super::HEADER) / 8;
}

/// List: a B+tree without keys, whose entries are chunks; a pointer's tag is the number of its
/// chunk's elements.
///
/// ```text
///  0  header; count = elements
/// 16  start u16, end u16       where in the block the elements lie
/// 20  listpack u16             bytes that those not in blobs would take in a listpack
/// 22  long u16                 elements in blobs
/// 24  blobs u64                what those blobs count as, in bytes
/// 32  elements, which can be read from either end, with room before and behind:
///     {length u8 < 254, bytes, length u8}
///     {254, length u16, bytes, length u16, 254}
///     {255, blob u48, 255}     longer than INLINE_MAX
/// ```
pub mod list {
    #![allow(missing_docs)]
    pub const LEN: usize = 2048;
    pub const PLACE: usize = super::HEADER;
    pub const BLOBS: usize = PLACE + 8;
    pub const BODY: usize = BLOBS + 8;
    pub const CAPACITY: usize = LEN - BODY;
    /// In place of a length: it follows as u16.
    pub const MIDDLE: u8 = 254;
    /// In place of a length: the element lies in a blob.
    pub const LONG: u8 = 255;
    /// The longest element in a chunk: two halves of one always leave room for another.
    pub const INLINE_MAX: usize = 1000;
    const _: () = assert!(BODY == 32 && CAPACITY / 2 < 1 << 16);
    // A listpack takes up to four bytes an element more than its bytes.
    const _: () = assert!(INLINE_MAX + 6 <= CAPACITY / 2 && CAPACITY * 3 < 1 << 16);
}

/// A page of the list of dropped trees: {next u64, then count entries of {pointer, what u64}}.
pub mod dropped {
    #![allow(missing_docs)]
    pub const LEN: usize = 528;
    pub const ENTRIES: usize = (LEN - super::HEADER - 8) / 16;
    /// `what`: 128 pointers to lower slot blocks.
    pub const SLOTS_HIGH: u64 = 1;
    /// A lower slot block.
    pub const SLOTS_LOW: u64 = 2;
    /// A trie of blobs.
    pub const KEYS: u64 = 3;
    /// A tree of chunks.
    pub const CHUNKS: u64 = 4;
    /// An expiry tree.
    pub const EXPIRY: u64 = 5;
    /// The order of a sorted set; its members are a trie of blobs.
    pub const ORDER: u64 = 6;
    /// A list: a sequence of chunks.
    pub const LIST: u64 = 7;
    /// A chunk of a list with elements in blobs.
    pub const LIST_CHUNK: u64 = 8;
    /// A root that a rollback left.
    pub const ROOT: u64 = 9;
    /// The dropped trees of a root that a rollback left.
    pub const PAGES: u64 = 10;
    /// A blob: freed with the leaf that leads to it.
    pub const BLOB: u64 = 11;
    /// A chunk of a long value: freed with the node that leads to it.
    pub const CHUNK: u64 = 12;
}

/// Snapshots, in blocks that no snapshot sees. The superblock leads to the catalogue.
///
/// ```text
/// catalogue   16 newest snapshot u64   24 newest garbage u64   32 kept bytes u64
/// snapshot     8 name length           16 older snapshot u64   24 epoch u64    32 root u64
///             40 taken_ms u64          48 log index u64        56 live bytes u64
///             64 kept blocks u64       72 kept pages u64       80 name
/// kept page    8 how many              16 next page u64        24 offsets
/// garbage     16 older garbage u64     24 epoch u64            32 kept pages u64
///             40 alive up to u64       48 abandoned trees u64, pages of dropped trees
/// ```
/// A snapshot's aux is 1 when it was dropped and still has to be there for garbage to be sorted.
/// A snapshot keeps the blocks that it sees and that died before the next one was taken, or until
/// now if it is the newest.
pub mod snapshot {
    #![allow(missing_docs)]
    pub const CATALOGUE_LEN: usize = 40;
    pub const NEWEST: usize = 2;
    pub const GARBAGE: usize = 3;
    pub const KEPT_BYTES: usize = 4;

    pub const LEN: usize = 80;
    pub const NAME_MAX: usize = 255;
    pub const OLDER: usize = 2;
    pub const EPOCH: usize = 3;
    pub const ROOT: usize = 4;
    pub const TAKEN_MS: usize = 5;
    pub const INDEX: usize = 6;
    pub const LIVE_BYTES: usize = 7;
    pub const KEPT: usize = 8;
    pub const PAGES: usize = 9;

    pub const PAGE_LEN: usize = 512;
    pub const PAGE_NEXT: usize = 2;
    pub const PAGE_ENTRIES: usize = (PAGE_LEN - 24) / 8;

    pub const DROPPED: u8 = 1;

    pub const GARBAGE_LEN: usize = 56;
    pub const GARBAGE_OLDER: usize = 2;
    pub const GARBAGE_EPOCH: usize = 3;
    pub const GARBAGE_PAGES: usize = 4;
    pub const GARBAGE_ALIVE: usize = 5;
    pub const GARBAGE_TREES: usize = 6;
    const _: () = assert!((PAGES + 1) * 8 == LEN && LEN + NAME_MAX <= super::BLOCK_MAX);
    const _: () = assert!((GARBAGE_TREES + 1) * 8 == GARBAGE_LEN);
    const _: () = assert!((KEPT_BYTES + 1) * 8 == CATALOGUE_LEN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_and_fit_their_slab() {
        for pair in CLASS_BYTES.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        for bytes in CLASS_BYTES {
            assert_eq!(bytes % 8, 0);
            let left_over = SLAB as usize % bytes as usize;
            assert!(left_over * 16 < SLAB as usize, "class {bytes} wastes {left_over}");
        }
        for len in 1..=BLOCK_MAX {
            let class = CLASS_BYTES[CLASS_BY_WORDS[len.div_ceil(8)] as usize] as usize;
            assert!(class >= len);
        }
        for exact in
            [trie::LEAF_LEN, trie::directory_len(6), slots::HIGH_LEN, btree::NODE_LEN, list::LEN]
        {
            assert!(CLASS_BYTES.contains(&(exact as u16)), "{exact}");
        }
    }

    #[test]
    fn extents_and_records_do_not_overlap() {
        for extent in 0..400 {
            let at = extent_at(extent);
            assert_eq!(extent_of(at), Some(extent));
            assert_eq!(extent_of(at + EXTENT - 1), Some(extent));
            let last = extent * SLABS_PER_EXTENT + SLABS_PER_EXTENT - 1;
            let end = record_at(last, 1) + RECORD as u64;
            assert!(end <= records_at(extent) + RECORDS_PER_EXTENT_BYTES);
            assert_eq!(extent_of(records_at(extent)), None);
            assert_eq!(extent_of(end - 1), None);
            let (a, b) = (record_at(last, 0), record_at(extent * SLABS_PER_EXTENT, 1));
            assert_ne!(a / PAGE, b / PAGE, "copies never share a page");
        }
    }

    #[test]
    fn a_capacity_fits_the_bytes_that_it_was_made_from() {
        for extents in 1..400 {
            let capacity = extents * (EXTENT + RECORDS_PER_EXTENT_BYTES);
            let less = (extents - 1) * (EXTENT + RECORDS_PER_EXTENT_BYTES);
            assert_eq!(capacity_within(file_bytes(extents)), capacity, "{extents}");
            assert_eq!(capacity_within(file_bytes(extents) - 1), less, "{extents}");
        }
        assert_eq!(capacity_within(0), 0);
    }
}
