//! database -> slot -> trie -> blob: keys by name, with their counts, deadlines and dropped trees.
//!
//! Everything here hangs under one root block. A writer owns the path from the root before it
//! changes a leaf; a reader needs only the root's offset.

pub(crate) use dropped::{Piece, Pile};
pub use expiry::Deadline;
pub(crate) use expiry::Deadlines;
pub(crate) use walk::slot_id;

mod dropped;
mod expiry;
mod removal;
pub(crate) mod walk;

use crate::alloc::Alloc;
use crate::blob::{self, Body, Encoding, Meta, Record, VALUE_MAX, Value, Writing, content_bytes};
use crate::error::{Result, StoreError};
use crate::hash::siphash13;
use crate::heap::{Cell, Heap, Offset, expect};
use crate::layout::pool::blob::PACKED_MAX;
use crate::layout::pool::{self, HEADER, kind, root, slots};
use crate::persist::Mem;
use crate::pool::Store;
use crate::trie;
use cairn_protocol::slot::{SlotId, slot_of};

pub use removal::Removal;
pub use walk::Visit;

/// A key with what its name decides: computed once a command.
#[derive(Debug, Clone, Copy, Default)]
pub struct Key<'a> {
    /// The name.
    pub bytes: &'a [u8],
    /// Its hash slot.
    pub slot: SlotId,
    /// Its keyed hash.
    pub hash: u64,
}

/// A database: 0 to 15, or the hidden one of staged arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Db(pub u16);

impl Db {
    /// Databases that clients see.
    pub const COUNT: u16 = 16;
    /// The hidden database that holds staged arguments.
    pub const STAGE: Db = Db(16);

    fn row(self) -> Result<usize> {
        if self.0 > Self::COUNT {
            return Err(StoreError::TooLong {
                what: "a database index",
                len_bytes: u64::from(self.0),
                max_bytes: u64::from(Self::COUNT),
            });
        }
        Ok(root::row(self.0 as usize))
    }
}

/// What a key counts as beside its blob: an entry in a leaf two thirds full, and the directory above.
const KEY_BYTES: u64 = 16;
/// What a deadline counts as in the tree of them.
const DEADLINE_BYTES: u64 = 48;

/// Blobs of a trie, looked up by key.
pub(crate) struct ByKey<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) hash_key: [u64; 2],
}

impl trie::Entries for ByKey<'_> {
    #[inline]
    fn is_key(&self, mem: &Mem, entry: Offset) -> Result<bool> {
        blob::has_key(mem, entry, self.key)
    }

    fn hash_of(&self, mem: &Mem, entry: Offset) -> Result<u64> {
        Ok(siphash13(&self.hash_key, Record::read(mem, entry)?.key()))
    }
}

/// A slot's entry in an owned block.
#[derive(Clone, Copy)]
pub(crate) struct SlotEntry {
    pub(crate) trie: Cell,
}

impl SlotEntry {
    /// Adds to the slot's keys, keys with a deadline, and bytes.
    fn count(self, heap: &mut Heap, keys: i64, deadlines: i64, bytes: i64) -> Result<()> {
        let counts = Cell { at: self.trie.at + 8 };
        let old = heap.get(counts)?;
        let new_keys = (old as u32).wrapping_add(keys as u32);
        let new_deadlines = ((old >> 32) as u32).wrapping_add(deadlines as u32);
        heap.set(counts, u64::from(new_keys) | u64::from(new_deadlines) << 32)?;
        let total = Cell { at: self.trie.at + 16 };
        let old = heap.get(total)?;
        heap.set(total, old.wrapping_add(bytes as u64))
    }
}

/// What a change did to the counts.
#[derive(Default, Clone, Copy)]
struct Delta {
    keys: i64,
    deadlines: i64,
    bytes: i64,
}

impl Delta {
    fn add(&mut self, record: &Record<'_>, sign: i64) {
        self.keys += sign;
        self.deadlines += sign * i64::from(record.deadline_ms().is_some());
        self.bytes += sign * record.bytes() as i64;
    }
}

/// A root to read from: the live one under the shard's lock, or a pinned one without.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(crate) mem: &'a Mem,
    root: Offset,
    /// The catalogue of snapshots; 0 when there is none to be seen from here.
    pub(crate) catalogue: Offset,
    pub(crate) hash_key: [u64; 2],
}

impl<'a> View<'a> {
    /// Reads from `root`.
    pub(crate) fn new(mem: &'a Mem, root: Offset, hash_key: [u64; 2]) -> View<'a> {
        View { mem, root, catalogue: 0, hash_key }
    }

    /// The same with the snapshots that there were.
    pub(crate) fn with_catalogue(self, catalogue: Offset) -> View<'a> {
        View { catalogue, ..self }
    }

    /// A key's slot and hash.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key { bytes, slot: slot_of(bytes), hash: siphash13(&self.hash_key, bytes) }
    }

    pub(crate) fn by_key<'k>(&self, key: &Key<'k>) -> ByKey<'k> {
        ByKey { key: key.bytes, hash_key: self.hash_key }
    }

    pub(crate) fn row_word(&self, db: Db, word: usize) -> Result<u64> {
        if self.root == 0 {
            return Ok(0);
        }
        self.mem.verify(self.root, root::LEN)?;
        self.mem.word(Cell::new(self.root, db.row()? + word).at)
    }

    /// The trie of a slot; 0 when there is none.
    #[inline]
    fn trie_of(&self, db: Db, slot: SlotId) -> Result<u64> {
        match self.slot_entry(db, slot)? {
            Some(entry) => self.mem.word(entry.at),
            None => Ok(0),
        }
    }

    /// A slot's entry; `None` when neither it nor a neighbour ever had a key.
    #[inline]
    fn slot_entry(&self, db: Db, slot: SlotId) -> Result<Option<Cell>> {
        let high = self.row_word(db, root::SLOTS)?;
        if high == 0 {
            return Ok(None);
        }
        let slot = slot.get() as usize;
        self.mem.verify(high, slots::HIGH_LEN)?;
        let low = self.mem.word(Cell::new(high, HEADER / 8 + slot / slots::FANOUT).at)?;
        if low != 0 {
            self.mem.verify(low, slots::LOW_LEN)?;
        }
        Ok((low != 0).then(|| low_cell(low, slot % slots::FANOUT)))
    }

    /// Looks a key up, whether or not its deadline has passed.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    #[inline]
    pub fn get(&self, db: Db, key: &Key<'_>) -> Result<Option<Record<'a>>> {
        let root = self.trie_of(db, key.slot)?;
        match trie::find(self.mem, root, key.hash, &self.by_key(key))? {
            Some(at) => Record::read(self.mem, at).map(Some),
            None => Ok(None),
        }
    }

    /// Fetches what looking these keys up will touch, all of them a step at a time, so that their
    /// cache misses overlap. Changes nothing; damage is left for `get` to report.
    pub fn prefetch(&self, keys: &[(Db, Key<'_>)]) {
        const WIDTH: usize = 16;
        for batch in keys.chunks(WIDTH) {
            let mut steps: [Option<trie::Step>; WIDTH] = [None; WIDTH];
            for (step, (db, key)) in steps.iter_mut().zip(batch) {
                if let Ok(root) = self.trie_of(*db, key.slot) {
                    *step = Some(trie::Step::new(self.mem, root, key.hash));
                }
            }
            let mut busy = true;
            while busy {
                busy = false;
                for (slot, (_, key)) in steps.iter_mut().zip(batch) {
                    let Some(step) = slot else { continue };
                    match trie::step(self.mem, key.hash, step) {
                        Ok(true) => busy = true,
                        _ => *slot = None,
                    }
                }
            }
        }
    }

    /// Setting `number` of the shard, where it is not the default; there are
    /// [`SETTINGS_MAX`](root::SETTINGS_MAX).
    pub fn setting(&self, number: usize) -> Option<u64> {
        if self.root == 0 || number >= root::SETTINGS_MAX {
            return None;
        }
        let given = self.mem.word(Cell::new(self.root, root::SETTINGS_GIVEN).at).ok()?;
        let value = self.mem.word(Cell::new(self.root, root::SETTINGS + number).at).ok()?;
        (given >> number & 1 == 1).then_some(value)
    }

    /// Keys in a database, expired ones that were not reclaimed yet included.
    pub fn len(&self, db: Db) -> u64 {
        self.row_word(db, root::KEYS).unwrap_or(0)
    }

    /// Whether a database has no keys.
    pub fn is_empty(&self, db: Db) -> bool {
        self.len(db) == 0
    }

    /// Keys with a deadline in a database.
    pub fn expires(&self, db: Db) -> u64 {
        self.row_word(db, root::EXPIRES).unwrap_or(0)
    }

    /// Keys in a slot of a database.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a slot block is not where it should be.
    pub fn slot_len(&self, db: Db, slot: SlotId) -> Result<u64> {
        match self.slot_entry(db, slot)? {
            Some(entry) => Ok(self.mem.word(entry.at + 8)? & 0xffff_ffff),
            None => Ok(0),
        }
    }
}

impl Store {
    /// The live tree, to read from.
    #[inline]
    pub fn view(&self) -> View<'_> {
        View::new(&self.heap.mem, self.root, self.hash_key).with_catalogue(self.catalogue)
    }

    /// A key's slot and hash.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        self.view().key(bytes)
    }

    /// Looks a key up in the live tree: [`View::get`].
    ///
    /// # Errors
    /// As [`View::get`].
    #[inline]
    pub fn get(&self, db: Db, key: &Key<'_>) -> Result<Option<Record<'_>>> {
        self.view().get(db, key)
    }

    /// [`View::setting`] of the live tree.
    pub fn setting(&self, number: usize) -> Option<u64> {
        self.view().setting(number)
    }

    /// Changes setting `number` of the shard; None makes it the default.
    ///
    /// # Errors
    /// [`StoreError::Full`]; [`StoreError::TooLong`] when there is no such setting.
    pub fn set_setting(&mut self, number: usize, value: Option<u64>) -> Result<()> {
        if number >= root::SETTINGS_MAX {
            return Err(StoreError::TooLong {
                what: "the number of a setting",
                len_bytes: number as u64,
                max_bytes: root::SETTINGS_MAX as u64 - 1,
            });
        }
        self.own_root()?;
        let given = Cell::new(self.root, root::SETTINGS_GIVEN);
        let others = self.heap.get(given)? & !(1 << number);
        self.heap.set(given, others | u64::from(value.is_some()) << number)?;
        self.heap.set(Cell::new(self.root, root::SETTINGS + number), value.unwrap_or(0))
    }

    /// [`View::len`] of the live tree.
    pub fn len(&self, db: Db) -> u64 {
        self.view().len(db)
    }

    /// [`View::is_empty`] of the live tree.
    pub fn is_empty(&self, db: Db) -> bool {
        self.view().is_empty(db)
    }

    /// [`View::expires`] of the live tree.
    pub fn expires(&self, db: Db) -> u64 {
        self.view().expires(db)
    }

    /// [`View::scan`] of the live tree.
    ///
    /// # Errors
    /// As [`View::scan`].
    pub fn scan<'a>(&'a self, db: Db, cursor: u64, visit: &mut Visit<'_, 'a>) -> Result<u64> {
        self.view().scan(db, cursor, visit)
    }

    /// [`View::random`] of the live tree.
    ///
    /// # Errors
    /// As [`View::random`].
    pub fn random(&self, db: Db, seed: u64) -> Result<Option<Record<'_>>> {
        self.view().random(db, seed)
    }

    /// [`View::next_expired`] of the live tree.
    ///
    /// # Errors
    /// As [`View::next_expired`].
    pub fn next_expired(&self, now_ms: u64) -> Result<Option<(Db, Vec<u8>)>> {
        self.view().next_expired(now_ms)
    }

    fn mem(&self) -> &Mem {
        &self.heap.mem
    }

    fn by_key<'k>(&self, key: &Key<'k>) -> ByKey<'k> {
        ByKey { key: key.bytes, hash_key: self.hash_key }
    }

    /// Owns the path from the root to a slot's entry, making it where there is none.
    pub(crate) fn own_slot(&mut self, db: Db, slot: SlotId) -> Result<SlotEntry> {
        let row = self.own_root()? + db.row()? as u64 * 8;
        let high_cell = Cell::new(row, root::SLOTS);
        let slot = slot.get() as usize;
        let high = self.own_or_make(high_cell, kind::SLOTS_HIGH, slots::HIGH_LEN)?;
        let low_pointer = Cell::new(high, HEADER / 8 + slot / slots::FANOUT);
        let low = self.own_or_make(low_pointer, kind::SLOTS_LOW, slots::LOW_LEN)?;
        Ok(SlotEntry { trie: low_cell(low, slot % slots::FANOUT) })
    }

    pub(crate) fn own_root(&mut self) -> Result<Offset> {
        self.root = match self.root {
            0 => self.heap.make_zeroed(kind::ROOT, 0, 0, root::LEN)?,
            at => self.heap.own(at, root::LEN)?,
        };
        Ok(self.root)
    }

    fn own_or_make(&mut self, cell: Cell, kind: u8, len: usize) -> Result<Offset> {
        if self.heap.get(cell)? != 0 {
            return self.heap.own_at(cell, len);
        }
        let made = self.heap.make_zeroed(kind, 0, 0, len)?;
        self.heap.set(cell, made)?;
        Ok(made)
    }

    /// Adds to the counts of a slot and its database. The path must be owned.
    fn count(&mut self, db: Db, entry: SlotEntry, delta: Delta) -> Result<()> {
        entry.count(&mut self.heap, delta.keys, delta.deadlines, delta.bytes)?;
        let row = db.row()?;
        for (word, change) in
            [(root::KEYS, delta.keys), (root::EXPIRES, delta.deadlines), (root::BYTES, delta.bytes)]
        {
            let cell = Cell::new(self.root, row + word);
            let old = self.heap.get(cell)?;
            self.heap.set(cell, old.wrapping_add(change as u64))?;
        }
        Ok(())
    }

    /// Inserts a key, or replaces its value, type, encoding and deadline.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::TooLong`], and then nothing has changed.
    pub fn put(&mut self, db: Db, key: &Key<'_>, meta: Meta, value: &[u8]) -> Result<()> {
        check_lengths(key, value.len() as u64)?;
        if meta.ty != blob::Type::String && value.len() > PACKED_MAX {
            return Err(StoreError::TooLong {
                what: "a packed collection",
                len_bytes: value.len() as u64,
                max_bytes: PACKED_MAX as u64,
            });
        }
        self.recycle(16);
        if blob::is_inline(key.bytes.len(), value.len() as u64) {
            if let Some(at) = self.roomy_blob(db, key, meta, value.len())? {
                return blob::overwrite(&mut self.heap, at, key.bytes.len(), meta, value);
            }
            let at = blob::write(&mut self.heap, key.bytes, meta, &Body::Inline(value))?;
            return self.install(db, key, at);
        }
        let body = Body::Chunks { tree: 0, len: value.len() as u64 };
        let at = blob::write(&mut self.heap, key.bytes, meta, &body)?;
        self.fill_long(at, |heap, writing| writing.write(heap, 0, value))?;
        self.install(db, key, at)
    }

    /// The key's blob, if it may be changed in place and such a value takes a block of the same
    /// class: no count changes then, and nothing points elsewhere. A key written often is written
    /// so, once an epoch has a blob of its own for it.
    fn roomy_blob(
        &self,
        db: Db,
        key: &Key<'_>,
        meta: Meta,
        value_len: usize,
    ) -> Result<Option<Offset>> {
        let Some(old) = self.get(db, key)? else { return Ok(None) };
        let len = blob::blob_len(key.bytes.len(), value_len, meta.deadline_ms.is_some(), 0);
        let fits = !old.is_nested()
            && old.deadline_ms() == meta.deadline_ms
            && Alloc::block_bytes(old.len()) == Alloc::block_bytes(len)
            && self.heap.owns(old.at)?;
        Ok(fits.then_some(old.at))
    }

    /// Writes into the tree of a fresh long blob and renews the blob's CRC.
    pub(crate) fn fill_long(
        &mut self,
        at: Offset,
        fill: impl FnOnce(&mut Heap, &Writing) -> Result<()>,
    ) -> Result<()> {
        let record = Record::read(&self.heap.mem, at)?;
        let len = record.len();
        let cell =
            Cell { at: at + blob::nested_at(record.key().len(), record.deadline_ms().is_some()) };
        let done = fill(&mut self.heap, &Writing { cell });
        self.heap.seal(at, len)?;
        if done.is_err() {
            self.free_blob(at)?;
        }
        done
    }

    /// Makes sure that the place of a blob that nothing leads to yet can be changed, or frees it.
    pub(crate) fn ensure_or_free(&mut self, at: Offset) -> Result<()> {
        let ensured = self.heap.alloc.ensure();
        if ensured.is_err() {
            self.free_blob(at)?;
        }
        ensured
    }

    /// Puts a finished blob in the place of its key, and frees what was there.
    pub(crate) fn install(&mut self, db: Db, key: &Key<'_>, at: Offset) -> Result<()> {
        self.ensure_or_free(at)?;
        match self.place(db, key, at) {
            Ok(Some(old)) => self.free_blob(old),
            Ok(None) => Ok(()),
            Err(e) => {
                // The blob was never reachable; its tree, if any, is freed with it.
                self.free_blob(at)?;
                Err(e)
            }
        }
    }

    /// Puts a blob in the place of its key; returns the one that was there.
    fn place(&mut self, db: Db, key: &Key<'_>, at: Offset) -> Result<Option<Offset>> {
        let entry = self.own_slot(db, key.slot)?;
        let entries = self.by_key(key);
        let new_deadline = Record::read(&self.heap.mem, at)?.deadline_ms();
        let place = {
            if let Some(deadline_ms) = new_deadline {
                self.note_deadline(db, key, deadline_ms)?;
            }
            let place = trie::upsert(&mut self.heap, entry.trie, key.hash, &entries);
            if place.is_err()
                && let Some(deadline_ms) = new_deadline
            {
                self.forget_deadline(db, key, deadline_ms)?;
            }
            place?
        };
        place.fill(&mut self.heap, at)?;
        let mut delta = Delta::default();
        delta.add(&Record::read(&self.heap.mem, at)?, 1);
        let mut old_deadline = None;
        if let Some(old) = place.old {
            let record = Record::read(&self.heap.mem, old)?;
            delta.add(&record, -1);
            old_deadline = record.deadline_ms();
        }
        self.count(db, entry, delta)?;
        if let Some(deadline_ms) = old_deadline {
            self.forget_deadline(db, key, deadline_ms)?;
        }
        Ok(place.old)
    }

    /// Owns the blob of a key that is there, and the path to it.
    pub(crate) fn own_blob(&mut self, db: Db, key: &Key<'_>) -> Result<(SlotEntry, Offset)> {
        let entry = self.own_slot(db, key.slot)?;
        let entries = self.by_key(key);
        let place = trie::upsert(&mut self.heap, entry.trie, key.hash, &entries)?;
        let Some(old) = place.old else {
            return Err(StoreError::corrupt("a key that went while it was changed", entry.trie.at));
        };
        let len = Record::read(&self.heap.mem, old)?.len();
        let at = self.heap.own(old, len)?;
        if at != old {
            place.fill(&mut self.heap, at)?;
        }
        Ok((entry, at))
    }

    /// Counts that a key's content grew by `bytes`. The path must be owned.
    pub(crate) fn count_bytes(&mut self, db: Db, entry: SlotEntry, bytes: i64) -> Result<()> {
        self.count(db, entry, Delta { bytes, ..Delta::default() })
    }

    /// Takes a key out of its slot; the caller frees its blob.
    fn take(&mut self, db: Db, key: &Key<'_>) -> Result<Option<Offset>> {
        let root = self.view().trie_of(db, key.slot)?;
        if trie::find(self.mem(), root, key.hash, &self.by_key(key))?.is_none() {
            return Ok(None);
        }
        self.recycle(16);
        let entry = self.own_slot(db, key.slot)?;
        let entries = self.by_key(key);
        let Some(old) = trie::remove(&mut self.heap, entry.trie, key.hash, &entries)? else {
            return Ok(None);
        };
        let record = Record::read(&self.heap.mem, old)?;
        let mut delta = Delta::default();
        delta.add(&record, -1);
        let deadline_ms = record.deadline_ms();
        self.count(db, entry, delta)?;
        if let Some(deadline_ms) = deadline_ms {
            self.forget_deadline(db, key, deadline_ms)?;
        }
        Ok(Some(old))
    }

    /// Deletes a key; says whether it was there. Large values are freed later, piece by piece.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]; [`StoreError::Full`] when not even the reserve has room.
    pub fn remove(&mut self, db: Db, key: &Key<'_>) -> Result<bool> {
        match self.take(db, key)? {
            Some(old) => self.free_blob(old).map(|()| true),
            None => Ok(false),
        }
    }

    /// Sets or clears a key's deadline; says whether the key was there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]; [`StoreError::Full`] when not even the reserve has room.
    pub fn set_deadline(
        &mut self,
        db: Db,
        key: &Key<'_>,
        deadline_ms: Option<u64>,
    ) -> Result<bool> {
        let Some(record) = self.get(db, key)? else { return Ok(false) };
        let meta = Meta { deadline_ms, ..record.meta };
        let at = record.at;
        self.recycle(16);
        self.rewrite(db, key, at, meta)?;
        Ok(true)
    }

    /// Writes the value at `at` again under its key with `meta`; a long value's tree moves over.
    fn rewrite(&mut self, db: Db, key: &Key<'_>, at: Offset, meta: Meta) -> Result<()> {
        let new = self.write_again(at, key.bytes, meta)?;
        let moved = Record::read(self.mem(), at)?.is_nested();
        self.ensure_or_give_back(new, moved)?;
        match self.place(db, key, new)? {
            Some(old) if moved => self.free_block(old),
            Some(old) => self.free_blob(old),
            None => Ok(()),
        }
    }

    /// As [`ensure_or_free`](Self::ensure_or_free), for a blob that may share another's tree.
    fn ensure_or_give_back(&mut self, at: Offset, shared: bool) -> Result<()> {
        if !shared {
            return self.ensure_or_free(at);
        }
        let ensured = self.heap.alloc.ensure();
        if ensured.is_err() {
            self.free_block(at)?;
        }
        ensured
    }

    /// Frees a blob whose tree, if any, lives on elsewhere.
    fn free_block(&mut self, at: Offset) -> Result<()> {
        let len = Record::read(&self.heap.mem, at)?.len();
        self.heap.free(at, len)
    }

    /// Writes a blob with the value at `from`: inline values are copied, trees shared.
    fn write_again(&mut self, from: Offset, key: &[u8], meta: Meta) -> Result<Offset> {
        let mem = self.heap.mem.clone();
        let record = Record::read(&mem, from)?;
        match record.value() {
            Value::Chunked(chunks) => {
                let body = Body::Chunks { tree: chunks.tree, len: record.value().len() };
                blob::write(&mut self.heap, key, meta, &body)
            }
            Value::Tree(roots) => blob::write(&mut self.heap, key, meta, &Body::Tree(roots)),
            Value::Inline(bytes) if blob::is_inline(key.len(), bytes.len() as u64) => {
                blob::write(&mut self.heap, key, meta, &Body::Inline(bytes))
            }
            Value::Inline(bytes) => {
                let body = Body::Chunks { tree: 0, len: bytes.len() as u64 };
                let at = blob::write(&mut self.heap, key, meta, &body)?;
                self.fill_long(at, |heap, writing| writing.write(heap, 0, bytes))?;
                Ok(at)
            }
        }
    }

    /// Moves a key to another name, database or both, with type, encoding and deadline, replacing
    /// what is there; says whether there was something to move. Does not copy a long value.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]; [`StoreError::Full`] when not even the reserve has room.
    pub fn rename(&mut self, db: Db, from: &Key<'_>, to_db: Db, to: &Key<'_>) -> Result<bool> {
        check_lengths(to, 0)?;
        let Some(record) = self.get(db, from)? else { return Ok(false) };
        if db == to_db && from.bytes == to.bytes {
            return Ok(true);
        }
        let (meta, at) = (record.meta, record.at);
        let new = self.write_again(at, to.bytes, meta)?;
        let shared = Record::read(self.mem(), at)?.is_nested();
        self.ensure_or_give_back(new, shared)?;
        if let Some(old) = self.place(to_db, to, new)? {
            self.free_blob(old)?;
        }
        let Some(left) = self.take(db, from)? else { return Ok(true) };
        if shared {
            self.free_block(left)?;
        } else {
            self.free_blob(left)?;
        }
        Ok(true)
    }

    /// Moves the value of `from` into `to` as a whole new value with `meta`; says whether `from`
    /// was there. This is how a staged argument becomes a value without being copied.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]; [`StoreError::Full`] when not even the reserve has room.
    pub fn adopt(
        &mut self,
        db: Db,
        from: &Key<'_>,
        to_db: Db,
        to: &Key<'_>,
        meta: Meta,
    ) -> Result<bool> {
        if !self.rename(db, from, to_db, to)? {
            return Ok(false);
        }
        let Some(record) = self.get(to_db, to)? else { return Ok(false) };
        let at = record.at;
        self.rewrite(to_db, to, at, meta)?;
        Ok(true)
    }

    /// Copies a key with its type, encoding and deadline, replacing what is there; says whether
    /// there was something to copy.
    ///
    /// # Errors
    /// [`StoreError::Full`], and then nothing has changed; [`StoreError::Corrupt`].
    pub fn copy(&mut self, db: Db, from: &Key<'_>, to_db: Db, to: &Key<'_>) -> Result<bool> {
        let mem = self.heap.mem.clone();
        let Some(record) = self.get(db, from)? else { return Ok(false) };
        let source = Record::read(&mem, record.at)?;
        let (meta, value) = (record.meta, source.value());
        check_lengths(to, value.len())?;
        if let Value::Tree(_) = value {
            return self.copy_collection(&source, to_db, to).map(|()| true);
        }
        let Some(inline) = value.as_inline() else {
            let body = Body::Chunks { tree: 0, len: value.len() };
            let at = blob::write(&mut self.heap, to.bytes, meta, &body)?;
            self.fill_long(at, |heap, writing| {
                let (mut offset, mut failed) = (0, Ok(()));
                value.read(0..value.len(), |piece| {
                    if failed.is_ok() {
                        failed = writing.write(heap, offset, piece);
                    }
                    offset += piece.len() as u64;
                })?;
                failed
            })?;
            return self.install(to_db, to, at).map(|()| true);
        };
        self.put(to_db, to, meta, inline).map(|()| true)
    }

    /// Appends to a value that is there; returns its new length. Only its last chunk is written
    /// again.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::TooLong`], and then nothing has changed.
    pub fn append(
        &mut self,
        db: Db,
        key: &Key<'_>,
        encoding: Encoding,
        bytes: &[u8],
    ) -> Result<u64> {
        let len = self.get(db, key)?.map_or(0, |record| record.value().len());
        self.write_at(db, key, encoding, len, bytes)
    }

    /// Writes `bytes` at `offset` of a value that is there (an absent key counts as an empty
    /// string without a deadline), filling a gap with zeros; returns its new length.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::TooLong`], and then nothing has changed.
    pub fn write_at(
        &mut self,
        db: Db,
        key: &Key<'_>,
        encoding: Encoding,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64> {
        self.recycle(16);
        let mem = self.heap.mem.clone();
        let old = match self.get(db, key)? {
            Some(record) => Some(Record::read(&mem, record.at)?),
            None => None,
        };
        let meta = match old {
            Some(record) => Meta { encoding, ..record.meta },
            None => Meta { ty: blob::Type::String, encoding, deadline_ms: None },
        };
        let old_len = old.map_or(0, |record| record.value().len());
        let end = offset.saturating_add(bytes.len() as u64);
        let len = old_len.max(end);
        check_lengths(key, len)?;
        match old.map(|record| record.value()) {
            Some(Value::Chunked(chunks)) => {
                self.write_in_tree(db, key, meta, chunks.tree, len, offset, bytes)?;
            }
            inline if blob::is_inline(key.bytes.len(), len) => {
                let mut whole = vec![0; len as usize];
                if let Some(old) = inline.and_then(|value| value.as_inline()) {
                    whole[..old.len()].copy_from_slice(old);
                }
                whole[offset as usize..end as usize].copy_from_slice(bytes);
                self.put(db, key, meta, &whole)?;
            }
            inline => {
                let first = inline.and_then(|value| value.as_inline()).unwrap_or_default();
                let at =
                    blob::write(&mut self.heap, key.bytes, meta, &Body::Chunks { tree: 0, len })?;
                self.fill_long(at, |heap, writing| {
                    writing.write(heap, 0, first)?;
                    writing.write(heap, offset, bytes)
                })?;
                self.install(db, key, at)?;
            }
        }
        Ok(len)
    }

    /// Changes a long value: a fresh blob takes the tree over and writes into it.
    #[allow(clippy::too_many_arguments)]
    fn write_in_tree(
        &mut self,
        db: Db,
        key: &Key<'_>,
        meta: Meta,
        tree: Offset,
        len: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let body = Body::Chunks { tree, len };
        let at = blob::write(&mut self.heap, key.bytes, meta, &body)?;
        let blob_len = Record::read(&self.heap.mem, at)?.len();
        let cell = Cell { at: at + blob::nested_at(key.bytes.len(), meta.deadline_ms.is_some()) };
        // Once the tree is being changed the old blob's root may be gone, so the new blob goes in
        // whatever happens; bytes that did not fit any more are simply not there.
        let done = Writing { cell }.write(&mut self.heap, offset, bytes);
        self.heap.seal(at, blob_len)?;
        if let Some(old) = self.place(db, key, at)? {
            self.free_block(old)?;
        }
        done
    }

    /// Empties a database. The keys are freed later, piece by piece.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not even the reserve has room.
    pub fn drop_db(&mut self, db: Db) -> Result<()> {
        if self.view().row_word(db, root::SLOTS)? == 0 {
            return Ok(());
        }
        let row = self.own_root()? + db.row()? as u64 * 8;
        let slots = self.heap.get(Cell::new(row, root::SLOTS))?;
        let expiry = self.heap.get(Cell::new(row, root::EXPIRY))?;
        self.drop_tree(Pile::LIVE, slots, pool::dropped::SLOTS_HIGH)?;
        if expiry != 0 {
            self.drop_tree(Pile::LIVE, expiry, pool::dropped::EXPIRY)?;
        }
        for word in 0..root::ROW_WORDS {
            self.heap.set(Cell::new(row, word), 0)?;
        }
        Ok(())
    }

    /// Exchanges two databases.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not even the reserve has room.
    pub fn swap_db(&mut self, a: Db, b: Db) -> Result<()> {
        let root = self.own_root()?;
        let (a, b) = (a.row()?, b.row()?);
        for word in 0..root::ROW_WORDS {
            let (a, b) = (Cell::new(root, a + word), Cell::new(root, b + word));
            let (left, right) = (self.heap.get(a)?, self.heap.get(b)?);
            self.heap.set(a, right)?;
            self.heap.set(b, left)?;
        }
        Ok(())
    }

    /// What the content of all databases counts as, in bytes: decided by content alone, so that
    /// every replica admits the same writes.
    pub fn content_bytes(&self) -> u64 {
        (0..=Db::COUNT)
            .map(|db| {
                let row = |word| self.view().row_word(Db(db), word).unwrap_or(0);
                let entries = row(root::KEYS) * KEY_BYTES + row(root::EXPIRES) * DEADLINE_BYTES;
                row(root::BYTES) + entries
            })
            .sum()
    }

    /// What a key counts as, its entries beside it included.
    pub fn counted_bytes(record: &Record<'_>) -> u64 {
        record.bytes() + KEY_BYTES + record.deadline_ms().map_or(0, |_| DEADLINE_BYTES)
    }

    /// Upper bound of what a put of such a key adds to [`Store::content_bytes`].
    pub fn cost(key_len: usize, value_len: u64) -> u64 {
        content_bytes(key_len, value_len, true) + KEY_BYTES + DEADLINE_BYTES
    }

    /// Whether `bytes` more of content are admitted.
    pub fn room_for(&self, bytes: u64) -> bool {
        self.overflow_bytes(self.limit_bytes, bytes) == 0
    }

    /// How much content is too much under a limit (0: none), were there `more_bytes` of it. What a
    /// limit keeps back is for copies that copy-on-write holds on to, for fragments, and for deletes
    /// when the pool is full.
    pub fn overflow_bytes(&self, limit_bytes: u64, more_bytes: u64) -> u64 {
        let admitted = if limit_bytes == 0 { u64::MAX } else { admitted_bytes(limit_bytes) };
        self.content_bytes().saturating_add(more_bytes).saturating_sub(admitted)
    }
}

/// Content that a limit admits: 85 % of it less 7 MiB, which a pool of all sizes of blocks may lose
/// to slabs that are part filled, and less of what is hardly a pool.
pub fn admitted_bytes(limit_bytes: u64) -> u64 {
    let percent = limit_bytes / 100;
    percent * 85 - (7 << 20).min(percent * 35)
}

fn low_cell(low: Offset, index: usize) -> Cell {
    Cell::new(low, HEADER / 8 + index * slots::ENTRY_WORDS)
}

pub(crate) fn check_lengths(key: &Key<'_>, value_len: u64) -> Result<()> {
    if key.bytes.len() > pool::blob::KEY_MAX {
        return Err(StoreError::TooLong {
            what: "a key",
            len_bytes: key.bytes.len() as u64,
            max_bytes: pool::blob::KEY_MAX as u64,
        });
    }
    if value_len > VALUE_MAX {
        return Err(StoreError::TooLong {
            what: "a value",
            len_bytes: value_len,
            max_bytes: VALUE_MAX,
        });
    }
    Ok(())
}

/// Checks the root block at `at`.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not one.
pub(crate) fn check_root(mem: &Mem, at: Offset) -> Result<()> {
    if at != 0 {
        mem.bytes(at, root::LEN)?;
        mem.verify(at, root::LEN)?;
        expect(mem, at, kind::ROOT, "the root of all databases")?;
    }
    Ok(())
}
