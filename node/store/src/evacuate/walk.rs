//! The way through the live data: what lies in a slab that is being emptied is copied elsewhere.
//!
//! One step looks at one leaf of a tree, reading, and owns the path to it only if something there
//! has to move. Steps may be repeated: what has moved is not met again.

use super::{Evacuated, any_leaving, last_db};
use crate::blob::{self, Chunks, Record, Roots, Type, Value};
use crate::btree::chunk_len;
use crate::error::{Result, StoreError};
use crate::hash::siphash13;
use crate::heap::{Cell, Heap, Offset};
use crate::keyspace::{Db, Deadlines, slot_id};
use crate::layout::pool::{HEADER, OFFSET_MASK, blob as layout, list, root, slots};
use crate::list::{Chunk, Sequence};
use crate::order::{self, Order};
use crate::persist::Mem;
use crate::pool::Store;
use crate::trie::{self, Position};
use cairn_protocol::slot::SlotId;

/// Where a pass stands.
pub(super) struct Cursor {
    /// The newest snapshot when it began.
    keep_upto: u64,
    db: u16,
    part: Part,
}

enum Part {
    /// Nothing was done yet.
    Begins,
    /// The leaf of the expiry tree with this rank.
    Expiry(u64),
    /// The keys of a slot from a leaf on.
    Keys(Keys),
}

#[derive(Clone, Copy, Default)]
struct Keys {
    slot: u64,
    leaf: Leaf,
    /// Below the blob of the key with this hash.
    value: Option<(u64, Inside)>,
}

/// A leaf of a trie, of whose nested values some are done.
#[derive(Clone, Copy, Default)]
struct Leaf {
    hash: u64,
    /// All up to this hash are done.
    done: Option<u64>,
}

/// A place below a key's blob.
#[derive(Clone, Copy, Default)]
struct Inside {
    /// In a collection's members, or a leaf of a list's chunks; `hash` is a rank in lists.
    leaf: Leaf,
    /// In a sorted set's order, once its members are done.
    order: Option<u64>,
    /// Below a member or element: its hash or index, and the rank of a chunk.
    member: Option<(u64, u64)>,
    /// The rank of a chunk of a long string.
    chunk: u64,
}

impl Cursor {
    pub(super) fn new(keep_upto: u64) -> Cursor {
        Cursor { keep_upto, db: 0, part: Part::Begins }
    }

    /// Whether a snapshot was taken since.
    pub(super) fn is_stale(&self, keep_upto: u64) -> bool {
        keep_upto > self.keep_upto
    }

    /// Goes on behind what is damaged.
    pub(super) fn skip(&mut self) {
        match &mut self.part {
            Part::Begins => self.part = Part::Expiry(0),
            Part::Expiry(_) => self.part = Part::Keys(Keys::default()),
            Part::Keys(keys) => match keys.value.take() {
                Some((hash, _)) => keys.leaf.done = Some(hash),
                None => *keys = Keys { slot: keys.slot + 1, ..Keys::default() },
            },
        }
    }
}

/// An entry of a trie, by its hash.
struct ByHash {
    hash: u64,
    hash_key: [u64; 2],
}

impl trie::Entries for ByHash {
    fn is_key(&self, mem: &Mem, entry: Offset) -> Result<bool> {
        Ok(self.hash_of(mem, entry)? == self.hash)
    }

    fn hash_of(&self, mem: &Mem, entry: Offset) -> Result<u64> {
        Ok(siphash13(&self.hash_key, Record::read(mem, entry)?.key()))
    }
}

/// The blob of a key, to be owned with the path to it.
#[derive(Clone, Copy)]
struct KeyAt {
    db: Db,
    slot: SlotId,
    hash: u64,
}

/// Whose chunks: the key's own, those of a member, or of an element of a list.
#[derive(Clone, Copy)]
enum Home {
    Key,
    Member(u64),
    Element(u64),
}

/// What a look at a leaf of a trie has found.
struct Seen {
    next: Position,
    /// Something has to move.
    leaving: bool,
    /// The nested entry with the lowest hash that is not done.
    nested: Option<u64>,
}

/// Whether trees hang below a blob.
fn is_nested(mem: &Mem, blob: Offset) -> Result<bool> {
    Ok((mem.word(blob)? >> 56) as u8 & layout::NESTED != 0)
}

/// The cell in a blob that holds the first of its trees.
fn tree_cell(mem: &Mem, at: Offset) -> Result<Cell> {
    let record = Record::read(mem, at)?;
    let within = blob::nested_at(record.key().len(), record.deadline_ms().is_some());
    Ok(Cell { at: at + within })
}

/// Moves the blob that `cell` points to, if it has to; damage is left where it is.
fn move_blob(heap: &mut Heap, cell: Cell, done: &mut Evacuated) -> Result<()> {
    let at = heap.get(cell)? & OFFSET_MASK;
    if !heap.alloc.is_leaving(at) {
        return Ok(());
    }
    match Record::read(&heap.mem, at).map(|record| record.len()) {
        Ok(len) => {
            heap.own_at(cell, len)?;
            done.moved(len);
        }
        Err(error) => done.note(&error),
    }
    Ok(())
}

/// Moves a member of a sorted set, if it has to: its order knows where it lies.
fn move_ranked(heap: &mut Heap, order: Cell, cell: Cell, done: &mut Evacuated) -> Result<()> {
    let word = heap.get(cell)?;
    let at = word & OFFSET_MASK;
    if !heap.alloc.is_leaving(at) {
        return Ok(());
    }
    let mem = heap.mem.clone();
    let len = match Record::read(&mem, at) {
        Ok(record) => record.len(),
        Err(error) => {
            done.note(&error);
            return Ok(());
        }
    };
    let copy = heap.copy(at, len)?;
    if let Err(error) = order::moved(heap, order, at, copy) {
        heap.free(copy, len)?;
        return Err(error);
    }
    heap.set(cell, word & !OFFSET_MASK | copy)?;
    heap.free(at, len)?;
    done.moved(len);
    Ok(())
}

impl Store {
    /// Does the next step of a walk; false when it is through. `left` is what is left of the
    /// budget of blocks looked at.
    pub(super) fn evacuate_next(
        &mut self,
        cursor: &mut Cursor,
        done: &mut Evacuated,
        left: &mut usize,
    ) -> Result<bool> {
        let db = Db(cursor.db);
        match &mut cursor.part {
            Part::Begins => {
                *left = left.saturating_sub(1);
                self.evacuate_tops()?;
                cursor.part = Part::Expiry(0);
            }
            Part::Expiry(rank) => {
                *left = left.saturating_sub(4);
                match self.evacuate_deadlines(db, *rank)? {
                    Some(next) => *rank = next,
                    None => {
                        *left = left.saturating_sub(slots::FANOUT);
                        self.evacuate_tables(db)?;
                        cursor.part = Part::Keys(Keys::default());
                    }
                }
            }
            Part::Keys(keys) => {
                *left = left.saturating_sub(trie::LEAF_ENTRIES);
                if !self.evacuate_keys(db, keys, done)? {
                    if db == last_db() {
                        return Ok(false);
                    }
                    *cursor = Cursor { db: cursor.db + 1, part: Part::Expiry(0), ..*cursor };
                }
            }
        }
        Ok(true)
    }

    /// The root, and the blocks of the catalogue that are not lists.
    fn evacuate_tops(&mut self) -> Result<()> {
        if self.root != 0 {
            self.own_root()?;
        }
        self.evacuate_snapshots()
    }

    /// A leaf of an expiry tree; where the next one begins.
    fn evacuate_deadlines(&mut self, db: Db, rank: u64) -> Result<Option<u64>> {
        let alloc = &self.heap.alloc;
        let tree = self.view().row_word(db, root::EXPIRY)?;
        let mut leaving = false;
        let leaf = Deadlines::leaf_at(&self.heap.mem, tree, rank, |node| {
            leaving |= alloc.is_leaving(node);
        })?;
        let Some(leaf) = leaf else { return Ok(None) };
        if leaving {
            self.own_root()?;
            let cell = self.deadlines_cell(db)?;
            Deadlines::update(&mut self.heap, cell, rank, |_, _, _| Ok(()))?;
        }
        Ok(Some(leaf.next))
    }

    /// The tables of slots, also of those that have no keys any more.
    fn evacuate_tables(&mut self, db: Db) -> Result<()> {
        for table in 0..slots::FANOUT {
            let slot = slot_id((table * slots::FANOUT) as u64)?;
            let [high, low] = self.tables(db, slot)?;
            if low != 0 && any_leaving(&self.heap.alloc, &[high, low]) {
                self.own_slot(db, slot)?;
            }
        }
        Ok(())
    }

    /// The two tables on the way to a slot; 0 where there is none.
    fn tables(&self, db: Db, slot: SlotId) -> Result<[Offset; 2]> {
        let high = self.view().row_word(db, root::SLOTS)?;
        let word = HEADER / 8 + slot.get() as usize / slots::FANOUT;
        Ok([high, if high == 0 { 0 } else { self.heap.get(Cell::new(high, word))? }])
    }

    /// A leaf of keys, or some of what is below one of them; false behind the last slot.
    fn evacuate_keys(&mut self, db: Db, keys: &mut Keys, done: &mut Evacuated) -> Result<bool> {
        let Some((found, trie)) = self.view().next_slot(db, keys.slot)? else { return Ok(false) };
        if found != keys.slot {
            *keys = Keys { slot: found, ..Keys::default() };
        }
        let slot = slot_id(found)?;
        if let Some((hash, inside)) = &mut keys.value {
            let key = KeyAt { db, slot, hash: *hash };
            if !self.evacuate_value(key, trie, inside, done)? {
                keys.leaf.done = Some(*hash);
                keys.value = None;
            }
            return Ok(true);
        }
        let mut seen = self.look_at(trie, keys.leaf)?;
        seen.leaving |= self.is_path_leaving(db, slot)?;
        if seen.leaving {
            let entry = self.own_slot(db, slot)?;
            trie::own_path(&mut self.heap, entry.trie, keys.leaf.hash, &mut |heap, cell| {
                move_blob(heap, cell, done)
            })?;
        }
        match (seen.nested, seen.next) {
            (Some(hash), _) => keys.value = Some((hash, Inside::default())),
            (None, Position::At(hash)) => keys.leaf = Leaf { hash, done: None },
            (None, Position::End) => *keys = Keys { slot: found + 1, ..Keys::default() },
        }
        Ok(true)
    }

    /// Looks at a leaf of a trie and at its entries.
    fn look_at(&self, trie: u64, leaf: Leaf) -> Result<Seen> {
        let (mem, alloc) = (&*self.heap.mem, &self.heap.alloc);
        let mut leaving = false;
        let (at, next) = trie::leaf_at(mem, trie, leaf.hash, |node| {
            leaving |= alloc.is_leaving(node);
        })?;
        let mut seen = Seen { next, leaving, nested: None };
        let Some(at) = at else { return Ok(seen) };
        let (entries, count) = trie::entries(mem, at)?;
        entries[..count].iter().for_each(|&entry| mem.prefetch(entry));
        for &entry in &entries[..count] {
            seen.leaving |= alloc.is_leaving(entry);
            if !is_nested(mem, entry)? {
                continue;
            }
            // What is damaged is told when it is to be moved.
            let Ok(record) = Record::read(mem, entry) else { continue };
            let hash = siphash13(&self.hash_key, record.key());
            let is_left = leaf.done.is_none_or(|done| hash > done);
            if is_left && seen.nested.is_none_or(|best| hash < best) {
                seen.nested = Some(hash);
            }
        }
        Ok(seen)
    }

    /// Whether a block between the root and a slot's trie has to move.
    fn is_path_leaving(&self, db: Db, slot: SlotId) -> Result<bool> {
        if !self.heap.alloc.has_leaving() {
            return Ok(false);
        }
        let [high, low] = self.tables(db, slot)?;
        Ok(any_leaving(&self.heap.alloc, &[self.root, high, low]))
    }

    /// Some of what hangs below a key's blob; false when it is done, or is not there any more.
    fn evacuate_value(
        &mut self,
        key: KeyAt,
        trie: u64,
        inside: &mut Inside,
        done: &mut Evacuated,
    ) -> Result<bool> {
        let Some(at) = self.find_by_hash(trie, key.hash)? else { return Ok(false) };
        let record = Record::read(&self.heap.mem, at)?;
        match (record.value(), record.ty()) {
            (Value::Inline(_), _) => Ok(false),
            (Value::Chunked(chunks), _) => {
                let tree = chunks.tree;
                self.evacuate_chunks(key, Home::Key, tree, &mut inside.chunk, done)
            }
            (Value::Tree(roots), Type::List) => self.evacuate_list(key, roots, inside, done),
            (Value::Tree(roots), ty) => {
                if let Some(rank) = &mut inside.order {
                    return self.evacuate_order(key, roots, rank);
                }
                let more = self.evacuate_members(key, roots, ty, inside, done)?;
                if !more && ty == Type::ZSet {
                    inside.order = Some(0);
                    return Ok(true);
                }
                Ok(more)
            }
        }
    }

    fn find_by_hash(&self, trie: u64, hash: u64) -> Result<Option<Offset>> {
        let by_hash = ByHash { hash, hash_key: self.hash_key };
        trie::find(&self.heap.mem, trie, hash, &by_hash)
    }

    /// A leaf of a collection's members; false behind the last.
    fn evacuate_members(
        &mut self,
        key: KeyAt,
        roots: Roots,
        ty: Type,
        inside: &mut Inside,
        done: &mut Evacuated,
    ) -> Result<bool> {
        if let Some((hash, rank)) = &mut inside.member {
            let tree = self.chunks_of_member(roots.tree, *hash)?;
            if !self.evacuate_chunks(key, Home::Member(*hash), tree, rank, done)? {
                inside.leaf.done = Some(*hash);
                inside.member = None;
            }
            return Ok(true);
        }
        let seen = self.look_at(roots.tree, inside.leaf)?;
        if seen.leaving {
            let at = self.own_key(key)?;
            let tree = tree_cell(&self.heap.mem, at)?;
            let order = Cell { at: tree.at + 24 };
            let moved = trie::own_path(
                &mut self.heap,
                tree,
                inside.leaf.hash,
                &mut |heap, cell| match ty {
                    Type::ZSet => move_ranked(heap, order, cell, done),
                    _ => move_blob(heap, cell, done),
                },
            );
            self.seal_blob(at)?;
            moved?;
        }
        match (seen.nested, seen.next) {
            (Some(hash), _) => inside.member = Some((hash, 0)),
            (None, Position::At(hash)) => inside.leaf = Leaf { hash, done: None },
            (None, Position::End) => return Ok(false),
        }
        Ok(true)
    }

    /// The chunks of a member's value; 0 when it is not long any more.
    fn chunks_of_member(&self, trie: u64, hash: u64) -> Result<Offset> {
        match self.find_by_hash(trie, hash)? {
            Some(at) => self.chunks_of(at),
            None => Ok(0),
        }
    }

    fn chunks_of(&self, at: Offset) -> Result<Offset> {
        Ok(match Record::read(&self.heap.mem, at)?.value() {
            Value::Chunked(chunks) => chunks.tree,
            _ => 0,
        })
    }

    /// A leaf of a sorted set's order; false behind the last.
    fn evacuate_order(&mut self, key: KeyAt, roots: Roots, rank: &mut u64) -> Result<bool> {
        let alloc = &self.heap.alloc;
        let mut leaving = false;
        let leaf = Order::leaf_at(&self.heap.mem, roots.order, *rank, |node| {
            leaving |= alloc.is_leaving(node);
        })?;
        let Some(leaf) = leaf else { return Ok(false) };
        if leaving {
            let at = self.own_key(key)?;
            let order = Cell { at: tree_cell(&self.heap.mem, at)?.at + 24 };
            let moved = Order::update(&mut self.heap, order, *rank, |_, _, _| Ok(()));
            self.seal_blob(at)?;
            moved?;
        }
        *rank = leaf.next;
        Ok(true)
    }

    /// A chunk of a list with its long elements; false behind the last.
    fn evacuate_list(
        &mut self,
        key: KeyAt,
        roots: Roots,
        inside: &mut Inside,
        done: &mut Evacuated,
    ) -> Result<bool> {
        if let Some((index, rank)) = &mut inside.member {
            let tree = self.chunks_of_element(roots.tree, *index)?;
            if !self.evacuate_chunks(key, Home::Element(*index), tree, rank, done)? {
                inside.leaf.done = Some(*index);
                inside.member = None;
            }
            return Ok(true);
        }
        let (mem, alloc) = (self.heap.mem.clone(), &self.heap.alloc);
        let mut leaving = false;
        let rank = inside.leaf.hash;
        let leaf = Sequence::leaf_at(&mem, roots.tree, rank, |node| {
            leaving |= alloc.is_leaving(node);
        })?;
        let Some(&(start, [pointer])) = leaf.as_ref().and_then(|leaf| leaf.entries.first()) else {
            return Ok(false);
        };
        leaving |= alloc.is_leaving(pointer & OFFSET_MASK);
        let chunk = Chunk::read(&mem, pointer)?;
        let mut nested = None;
        chunk.each_long(&mem, &mut |index, _, blob| {
            leaving |= alloc.is_leaving(blob);
            let index = start + index;
            let is_left = inside.leaf.done.is_none_or(|done| index > done);
            if is_left && nested.is_none() && is_nested(&mem, blob)? {
                nested = Some(index);
            }
            Ok(())
        })?;
        if leaving {
            let at = self.own_key(key)?;
            let cell = tree_cell(&mem, at)?;
            let moved = Sequence::update(&mut self.heap, cell, rank, |heap, cell, _| {
                move_list_chunk(heap, cell, done)
            });
            self.seal_blob(at)?;
            moved?;
        }
        match nested {
            Some(index) => inside.member = Some((index, 0)),
            None => inside.leaf = Leaf { hash: start + chunk.sum.count, done: None },
        }
        Ok(true)
    }

    /// The chunks of an element's value; 0 when it is not long any more.
    fn chunks_of_element(&self, tree: Offset, index: u64) -> Result<Offset> {
        let mem = &self.heap.mem;
        let Some((_, [pointer], within)) = Sequence::select(mem, tree, index)? else {
            return Ok(0);
        };
        let mut found = 0;
        Chunk::read(mem, pointer)?.each_long(mem, &mut |index, _, blob| {
            if index == within {
                found = self.chunks_of(blob)?;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A leaf of a long value's chunks; false behind the last.
    fn evacuate_chunks(
        &mut self,
        key: KeyAt,
        home: Home,
        tree: Offset,
        rank: &mut u64,
        done: &mut Evacuated,
    ) -> Result<bool> {
        let alloc = &self.heap.alloc;
        let mut leaving = false;
        let leaf = Chunks::leaf_at(&self.heap.mem, tree, *rank, |node| {
            leaving |= alloc.is_leaving(node);
        })?;
        let Some(leaf) = leaf else { return Ok(false) };
        let going = leaf.entries.iter().filter(|(_, [chunk])| alloc.is_leaving(*chunk));
        let mut going: Vec<u64> = going.map(|&(rank, _)| rank).collect();
        if leaving && going.is_empty() {
            going.push(*rank);
        }
        if !going.is_empty() {
            let (key_blob, at) = self.own_home(key, home)?;
            let cell = tree_cell(&self.heap.mem, at)?;
            let moved = going.into_iter().try_for_each(|rank| {
                Chunks::update(&mut self.heap, cell, rank, |heap, cell, _| {
                    move_chunk(heap, cell, done)
                })
            });
            self.seal_blob(at)?;
            self.seal_blob(key_blob)?;
            moved?;
        }
        *rank = leaf.next;
        Ok(true)
    }

    /// Owns a key's blob.
    fn own_key(&mut self, key: KeyAt) -> Result<Offset> {
        let entry = self.own_slot(key.db, key.slot)?;
        self.own_by_hash(entry.trie, key.hash)
    }

    /// Owns the entry of a trie with this hash, which is there.
    fn own_by_hash(&mut self, root: Cell, hash: u64) -> Result<Offset> {
        let by_hash = ByHash { hash, hash_key: self.hash_key };
        let place = trie::upsert(&mut self.heap, root, hash, &by_hash)?;
        let Some(old) = place.old else {
            return Err(StoreError::corrupt("a key that went while it was moved", root.at));
        };
        let len = Record::read(&self.heap.mem, old)?.len();
        let at = self.heap.own(old, len)?;
        place.fill(&mut self.heap, at)?;
        Ok(at)
    }

    /// Owns the blob with a long value, and that of its key.
    fn own_home(&mut self, key: KeyAt, home: Home) -> Result<(Offset, Offset)> {
        let at = self.own_key(key)?;
        let cell = tree_cell(&self.heap.mem, at)?;
        let owned = match home {
            Home::Key => Ok(at),
            Home::Member(hash) => self.own_by_hash(cell, hash),
            Home::Element(index) => {
                Sequence::update(&mut self.heap, cell, index, |heap, cell, within| {
                    own_element(heap, cell, within)
                })
            }
        };
        if owned.is_err() {
            self.seal_blob(at)?;
        }
        Ok((at, owned?))
    }

    /// Renews the checksum of an owned blob.
    fn seal_blob(&mut self, at: Offset) -> Result<()> {
        let len = Record::read(&self.heap.mem, at)?.len();
        self.heap.seal(at, len)
    }
}

/// Moves the chunk of a long value that `cell` points to, if it has to.
fn move_chunk(heap: &mut Heap, cell: Cell, done: &mut Evacuated) -> Result<()> {
    let at = heap.get(cell)? & OFFSET_MASK;
    if !heap.alloc.is_leaving(at) {
        return Ok(());
    }
    match chunk_len(&heap.mem, at) {
        Ok(len) => {
            heap.own_at(cell, HEADER + len)?;
            done.moved(HEADER + len);
        }
        Err(error) => done.note(&error),
    }
    Ok(())
}

/// Moves the chunk of a list that `cell` points to, and the blobs in it that have to move.
fn move_list_chunk(heap: &mut Heap, cell: Cell, done: &mut Evacuated) -> Result<()> {
    let old = heap.get(cell)? & OFFSET_MASK;
    let at = heap.own_at(cell, list::LEN)?;
    if heap.alloc.is_leaving(old) {
        done.moved(list::LEN);
    }
    let mem = heap.mem.clone();
    Chunk::read(&mem, heap.get(cell)?)?.each_long(&mem, &mut |_, place, blob| {
        if !heap.alloc.is_leaving(blob) {
            return Ok(());
        }
        match Record::read(&mem, blob).map(|record| record.len()) {
            Ok(len) => {
                let moved = heap.own(blob, len)?;
                Chunk::point(heap, at, place, moved)?;
                done.moved(len);
            }
            Err(error) => done.note(&error),
        }
        Ok(())
    })
}

/// Owns the long element `within` of the chunk that `cell` points to.
fn own_element(heap: &mut Heap, cell: Cell, within: u64) -> Result<Offset> {
    let at = heap.own_at(cell, list::LEN)?;
    let (mem, mut found) = (heap.mem.clone(), None);
    Chunk::read(&mem, heap.get(cell)?)?.each_long(&mem, &mut |index, place, blob| {
        if index == within {
            let len = Record::read(&mem, blob)?.len();
            let moved = heap.own(blob, len)?;
            Chunk::point(heap, at, place, moved)?;
            found = Some(moved);
        }
        Ok(())
    })?;
    found.ok_or_else(|| StoreError::corrupt("an element that went while it was moved", at))
}
