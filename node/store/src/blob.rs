//! A key with its value, in one block: reading and writing it.

use crate::btree::{Btree, chunk_len};
use crate::error::{Result, StoreError};
use crate::heap::{Cell, Heap, Offset};
use crate::layout::pool::{BLOCK_MAX, CHUNK_BYTES, HEADER, blob, kind};
use crate::persist::Mem;
use std::ops::Range;

/// Values up to this many bytes (less what key and fields take) lie beside their key; longer ones
/// are chunks under a tree.
pub const INLINE_MAX: usize = BLOCK_MAX - HEADER;

/// The longest value: 512 MiB, as in Redis.
pub const VALUE_MAX: u64 = 512 << 20;

/// Chunk number to chunk.
pub(crate) type Chunks = Btree<1, 1>;

/// The type of a value, as Redis's TYPE tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Type {
    String = 0,
    List = 1,
    Set = 2,
    ZSet = 3,
    Hash = 4,
    Stream = 5,
}

impl Type {
    fn from_u8(byte: u8) -> Option<Type> {
        [Type::String, Type::List, Type::Set, Type::ZSet, Type::Hash, Type::Stream]
            .get(byte as usize)
            .copied()
    }
}

/// The encoding that OBJECT ENCODING reports: kept beside the value, whatever its physical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Encoding {
    Raw = 0,
    Int = 1,
    Embstr = 2,
    Listpack = 3,
    Quicklist = 4,
    Hashtable = 5,
    Intset = 6,
    Skiplist = 7,
    Stream = 8,
}

impl Encoding {
    fn from_u8(byte: u8) -> Option<Encoding> {
        use Encoding::*;
        [Raw, Int, Embstr, Listpack, Quicklist, Hashtable, Intset, Skiplist, Stream]
            .get(byte as usize)
            .copied()
    }
}

/// What is kept beside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The value's type.
    pub ty: Type,
    /// The encoding to report.
    pub encoding: Encoding,
    /// When the key ceases to exist, in ms since the Unix epoch.
    pub deadline_ms: Option<u64>,
}

/// A key found in the pool.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub(crate) at: Offset,
    /// What is kept beside the value.
    pub meta: Meta,
    key: &'a [u8],
    value: Value<'a>,
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("meta", &self.meta)
            .field("value_len", &self.value.len())
            .finish()
    }
}

/// Where a value lies.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Beside its key.
    Inline(&'a [u8]),
    /// In chunks.
    Chunked(Chunked<'a>),
    /// A collection in trees of its own: [`crate::View::tree`] reads it.
    Tree(Roots),
}

/// What hangs below the blob of a collection that does not fit in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roots {
    /// The members' trie, or a list's chunks.
    pub(crate) tree: u64,
    pub(crate) len: u64,
    /// What the elements count as.
    pub(crate) bytes: u64,
    /// A sorted set's members by score.
    pub(crate) order: u64,
}

/// A value in chunks of 16,368 bytes. A chunk that is not there, or ends early, reads as zeros.
#[derive(Clone, Copy)]
pub struct Chunked<'a> {
    mem: &'a Mem,
    pub(crate) tree: Offset,
    len: u64,
}

/// Where a value in chunks lies, without a borrow of the pool: [`crate::Pin::long_value`] reads it.
///
/// While a pin under which it was found is held, another root of that pool that has a value at the
/// same place has the same value: no block that a pin sees is changed or used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongValue {
    tree: Offset,
    len: u64,
}

impl LongValue {
    /// The value, in the pool that it was found in.
    pub(crate) fn of(self, mem: &Mem) -> Value<'_> {
        Value::Chunked(Chunked { mem, tree: self.tree, len: self.len })
    }
}

static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

impl<'a> Value<'a> {
    /// Length in bytes; a collection in trees has none.
    pub fn len(&self) -> u64 {
        match self {
            Value::Inline(bytes) => bytes.len() as u64,
            Value::Chunked(chunks) => chunks.len,
            Value::Tree(_) => 0,
        }
    }

    /// Whether it is a collection in trees of its own.
    pub fn is_tree(&self) -> bool {
        matches!(self, Value::Tree(_))
    }

    /// Whether it is the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value, when it lies in one piece.
    pub fn as_inline(&self) -> Option<&'a [u8]> {
        match self {
            Value::Inline(bytes) => Some(bytes),
            Value::Chunked(_) | Value::Tree(_) => None,
        }
    }

    /// Where the value lies, when it is one in chunks.
    pub fn as_long(&self) -> Option<LongValue> {
        match self {
            Value::Chunked(Chunked { tree, len, .. }) => Some(LongValue { tree: *tree, len: *len }),
            Value::Inline(_) | Value::Tree(_) => None,
        }
    }

    /// Hands the bytes of `range` (cut to the value) to `sink`, piece by piece.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a chunk is not what it should be.
    pub fn read(&self, range: Range<u64>, mut sink: impl FnMut(&'a [u8])) -> Result<()> {
        let range = range.start.min(self.len())..range.end.min(self.len());
        if range.is_empty() {
            return Ok(());
        }
        match self {
            Value::Inline(bytes) => sink(&bytes[range.start as usize..range.end as usize]),
            Value::Chunked(chunks) => chunks.read(range, &mut sink)?,
            Value::Tree(_) => {}
        }
        Ok(())
    }

    /// The whole value in one piece.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a chunk is not what it should be.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.len().min(VALUE_MAX) as usize);
        self.read(0..self.len(), |piece| out.extend_from_slice(piece))?;
        Ok(out)
    }
}

impl<'a> Chunked<'a> {
    fn read(&self, range: Range<u64>, sink: &mut impl FnMut(&'a [u8])) -> Result<()> {
        let size = CHUNK_BYTES as u64;
        let mut at = range.start;
        let last = (range.end - 1) / size;
        Chunks::visit(self.mem, self.tree, &[range.start / size], &mut |&[number], &[chunk]| {
            if number > last {
                return Ok(false);
            }
            zeros(&mut at, number * size, sink);
            let bytes = self.mem.bytes(chunk + HEADER as u64, chunk_len(self.mem, chunk)?)?;
            let from = (at - number * size) as usize;
            let to = (range.end - number * size).min(bytes.len() as u64) as usize;
            if from < to {
                sink(&bytes[from..to]);
                at += (to - from) as u64;
            }
            Ok(true)
        })?;
        zeros(&mut at, range.end, sink);
        Ok(())
    }
}

fn zeros<'a>(at: &mut u64, upto: u64, sink: &mut impl FnMut(&'a [u8])) {
    while *at < upto {
        let piece = (upto - *at).min(CHUNK_BYTES as u64);
        sink(&ZEROS[..piece as usize]);
        *at += piece;
    }
}

impl<'a> Record<'a> {
    /// Reads the blob at `at`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not one.
    #[inline]
    pub(crate) fn read(mem: &'a Mem, at: Offset) -> Result<Record<'a>> {
        let word = mem.word(at)?;
        let count = mem.half(at + 8)?;
        if (word >> 48) as u8 != kind::BLOB {
            return Err(StoreError::corrupt("a block where a key should be", at));
        }
        let aux = (word >> 56) as u8;
        let (ty, encoding) = (Type::from_u8(aux & blob::TYPE_MASK), Encoding::from_u8(count as u8));
        let (Some(ty), Some(encoding)) = (ty, encoding) else {
            return Err(StoreError::corrupt("a key of a type nobody knows", at));
        };
        let mut next = at + HEADER as u64;
        let mut field = |there: bool| -> Result<Option<u64>> {
            if !there {
                return Ok(None);
            }
            next += 8;
            mem.word(next - 8).map(Some)
        };
        let deadline_ms = field(aux & blob::DEADLINE != 0)?;
        let long_key = field(aux & blob::LONG_KEY != 0)?;
        let nested = aux & blob::NESTED != 0;
        let tree = field(nested)?;
        let nested_len = field(nested)?;
        let bytes = field(nested && ty != Type::String)?;
        let order = field(nested && ty != Type::String)?;
        let key_len = long_key.unwrap_or(u64::from(count >> 8 & 0xff));
        if key_len > blob::KEY_MAX as u64 {
            return Err(StoreError::corrupt("a key longer than any can be", at));
        }
        let inline_len = if nested { 0 } else { (count >> 16) as usize };
        let len = (next - at) as usize + key_len as usize + inline_len;
        if len > BLOCK_MAX {
            return Err(StoreError::corrupt("a key and value longer than any block", at));
        }
        mem.verify(at, len)?;
        let key = mem.bytes(next, key_len as usize)?;
        let value = match (tree, nested_len, bytes, order) {
            (Some(tree), Some(len), Some(bytes), Some(order)) => {
                Value::Tree(Roots { tree, len, bytes, order })
            }
            (Some(tree), Some(len), ..) => Value::Chunked(Chunked { mem, tree, len }),
            _ => Value::Inline(mem.bytes(next + key_len, (count >> 16) as usize)?),
        };
        Ok(Record { at, meta: Meta { ty, encoding, deadline_ms }, key, value })
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> Value<'a> {
        self.value
    }

    /// The type.
    #[inline]
    pub fn ty(&self) -> Type {
        self.meta.ty
    }

    /// The encoding to report.
    #[inline]
    pub fn encoding(&self) -> Encoding {
        self.meta.encoding
    }

    /// When the key ceases to exist, in ms since the Unix epoch.
    #[inline]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.meta.deadline_ms
    }

    /// Where the record lies in the pool, for whoever finds its value damaged.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Bytes of the blob's block as written.
    pub(crate) fn len(&self) -> usize {
        let (inline, fields) = match self.value {
            Value::Inline(bytes) => (bytes.len(), 0),
            Value::Chunked(_) => (0, blob::CHUNKS_FIELDS),
            Value::Tree(_) => (0, blob::ROOTS_FIELDS),
        };
        blob_len(self.key.len(), inline, self.meta.deadline_ms.is_some(), fields)
    }

    /// Memory the key and its value take: MEMORY USAGE, and what is counted against the limit.
    /// Decided by content alone.
    pub fn bytes(&self) -> u64 {
        let deadline = self.meta.deadline_ms.is_some();
        match self.value {
            Value::Tree(roots) => {
                let len = blob_len(self.key.len(), 0, deadline, blob::ROOTS_FIELDS);
                crate::alloc::Alloc::block_bytes(len) as u64 + roots.bytes
            }
            _ => content_bytes(self.key.len(), self.value.len(), deadline),
        }
    }

    /// Whether trees hang below the blob.
    pub(crate) fn is_nested(&self) -> bool {
        self.value.as_inline().is_none()
    }
}

/// What a key with a value of these lengths counts as, in bytes: the same on every replica, and
/// no less than its blocks take.
pub fn content_bytes(key_len: usize, value_len: u64, deadline: bool) -> u64 {
    if is_inline(key_len, value_len) {
        let len = blob_len(key_len, value_len as usize, deadline, 0);
        return crate::alloc::Alloc::block_bytes(len) as u64;
    }
    let chunks = value_len / CHUNK_BYTES as u64;
    let rest = value_len % CHUNK_BYTES as u64;
    // A tree entry is 16 bytes in a node at least half full.
    blob_len(key_len, 0, true, blob::CHUNKS_FIELDS) as u64
        + chunks * (BLOCK_MAX as u64 + 34)
        + crate::alloc::Alloc::block_bytes(rest as usize + HEADER) as u64
        + 512
}

/// Bytes of a blob with `nested` bytes of fields for the trees below it.
pub(crate) fn blob_len(key_len: usize, inline_len: usize, deadline: bool, nested: usize) -> usize {
    let long_key = key_len > 0xff;
    HEADER + 8 * usize::from(deadline) + 8 * usize::from(long_key) + nested + key_len + inline_len
}

/// Whether a value lies beside its key.
pub(crate) fn is_inline(key_len: usize, value_len: u64) -> bool {
    blob_len(key_len, 0, true, 0) as u64 + value_len <= BLOCK_MAX as u64
}

/// What a blob is written from.
pub(crate) enum Body<'a> {
    Inline(&'a [u8]),
    Chunks { tree: Offset, len: u64 },
    Tree(Roots),
}

/// Writes a blob; its CRC is filled in.
///
/// # Errors
/// [`StoreError::Full`].
#[inline]
pub(crate) fn write(heap: &mut Heap, key: &[u8], meta: Meta, body: &Body<'_>) -> Result<Offset> {
    let words;
    let (inline, nested): (&[u8], &[u64]) = match body {
        Body::Inline(bytes) => (bytes, &[]),
        Body::Chunks { tree, len } => {
            words = [*tree, *len, 0, 0];
            (&[], &words[..blob::CHUNKS_FIELDS / 8])
        }
        Body::Tree(roots) => {
            words = [roots.tree, roots.len, roots.bytes, roots.order];
            (&[], &words)
        }
    };
    let len = blob_len(key.len(), inline.len(), meta.deadline_ms.is_some(), nested.len() * 8);
    let mut aux = meta.ty as u8;
    let mut count = meta.encoding as u32 | (inline.len() as u32) << 16;
    if meta.deadline_ms.is_some() {
        aux |= blob::DEADLINE;
    }
    if !nested.is_empty() {
        aux |= blob::NESTED;
    }
    if key.len() > 0xff {
        aux |= blob::LONG_KEY;
    } else {
        count |= (key.len() as u32) << 8;
    }
    let at = heap.make_sealed(kind::BLOB, aux, count, len)?;
    let mut next = at + HEADER as u64;
    let mut field = |heap: &mut Heap, word: u64| -> Result<()> {
        heap.set(Cell { at: next }, word)?;
        next += 8;
        Ok(())
    };
    if let Some(deadline_ms) = meta.deadline_ms {
        field(heap, deadline_ms)?;
    }
    if key.len() > 0xff {
        field(heap, key.len() as u64)?;
    }
    for &word in nested {
        field(heap, word)?;
    }
    heap.mem.store(next, key)?;
    heap.mem.store(next + key.len() as u64, inline)?;
    heap.seal(at, len)?;
    Ok(at)
}

/// Writes another value, type and encoding into an owned blob that has room for them; the deadline
/// stays.
///
/// # Errors
/// [`StoreError::Corrupt`] when it lies outside the pool.
pub(crate) fn overwrite(
    heap: &mut Heap,
    at: Offset,
    key_len: usize,
    meta: Meta,
    value: &[u8],
) -> Result<()> {
    let head = crate::heap::head(&heap.mem, at)?;
    let aux = head.aux & !blob::TYPE_MASK | meta.ty as u8;
    let count = head.count & 0xff00 | meta.encoding as u32 | (value.len() as u32) << 16;
    heap.set_head(at, kind::BLOB, aux, count)?;
    let deadline = meta.deadline_ms.is_some();
    heap.mem.store(at + nested_at(key_len, deadline) + key_len as u64, value)?;
    heap.seal(at, blob_len(key_len, value.len(), deadline, 0))
}

/// Whether the blob at `at` has this key, reading no more than it must.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not a blob.
#[inline]
pub(crate) fn has_key(mem: &Mem, at: Offset, key: &[u8]) -> Result<bool> {
    let aux = (mem.word(at)? >> 56) as u8;
    if aux & blob::LONG_KEY != 0 || key.len() > 0xff || !mem.trusts(at) {
        return Ok(Record::read(mem, at)?.key() == key);
    }
    if (mem.half(at + 8)? >> 8 & 0xff) as usize != key.len() {
        return Ok(false);
    }
    let nested = match (aux & blob::NESTED != 0, aux & blob::TYPE_MASK == Type::String as u8) {
        (false, _) => 0,
        (true, true) => blob::CHUNKS_FIELDS as u64,
        (true, false) => blob::ROOTS_FIELDS as u64,
    };
    let fields = 8 * u64::from(aux & blob::DEADLINE != 0) + nested;
    Ok(mem.bytes(at + HEADER as u64 + fields, key.len())? == key)
}

/// Offset of the fields for the trees inside a blob.
pub(crate) fn nested_at(key_len: usize, deadline: bool) -> u64 {
    (HEADER + 8 * usize::from(deadline) + 8 * usize::from(key_len > 0xff)) as u64
}

/// Where a long value's bytes come from while it is being written.
pub(crate) struct Writing {
    /// The cell that holds the tree's root.
    pub cell: Cell,
}

impl Writing {
    /// Writes `bytes` at `offset` of the long value.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn write(&self, heap: &mut Heap, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        let size = CHUNK_BYTES as u64;
        while !bytes.is_empty() {
            let (number, within) = (offset / size, (offset % size) as usize);
            let piece = (CHUNK_BYTES - within).min(bytes.len());
            self.write_chunk(heap, number, within, &bytes[..piece])?;
            bytes = &bytes[piece..];
            offset += piece as u64;
        }
        Ok(())
    }

    fn write_chunk(&self, heap: &mut Heap, number: u64, within: usize, bytes: &[u8]) -> Result<()> {
        heap.alloc.ensure()?;
        let old = Chunks::get(&heap.mem, heap.get(self.cell)?, &[number])?.map(|[chunk]| chunk);
        let old_len = match old {
            Some(chunk) => chunk_len(&heap.mem, chunk)?,
            None => 0,
        };
        let new_len = old_len.max(within + bytes.len());
        let mut body = Vec::new();
        let whole: &[u8] = if within == 0 && bytes.len() >= old_len {
            bytes
        } else {
            body.resize(new_len, 0);
            if let Some(chunk) = old {
                body[..old_len].copy_from_slice(heap.mem.bytes(chunk + HEADER as u64, old_len)?);
            }
            body[within..within + bytes.len()].copy_from_slice(bytes);
            &body
        };
        let len = HEADER + whole.len();
        let chunk = heap.make_sealed(kind::CHUNK, 0, whole.len() as u32, len)?;
        heap.mem.store(chunk + HEADER as u64, whole)?;
        heap.seal(chunk, len)?;
        Chunks::insert(heap, self.cell, &[number], &[chunk])?;
        if let Some(chunk) = old {
            heap.free(chunk, HEADER + old_len)?;
        }
        Ok(())
    }
}
