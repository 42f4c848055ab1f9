//! Collections too large for their key's blob: members in a trie below it, by name.
//!
//! A member is a blob like any key, with its field's value, its score, or nothing. [`Tree`] reads
//! a collection, [`Edit`] changes one whose path from the root is owned; what the change did to
//! the counts above is entered once, at its end.

mod list;
mod ranked;

pub(crate) use list::LIST_BYTES;
pub(crate) use ranked::RANK_BYTES;

use crate::blob::{self, Body, Encoding, Meta, Record, Roots, Type, Value, content_bytes};
use crate::error::{Result, StoreError};
use crate::hash::{mix, siphash13};
use crate::heap::{Cell, Offset};
use crate::keyspace::walk::CURSOR_HASH_BITS;
use crate::keyspace::{ByKey, Db, Key, View, Visit, check_lengths};
use crate::layout::pool::{blob as fields, dropped};
use crate::persist::Mem;
use crate::pool::Store;
use crate::trie::{self, Position, visit_from};
use std::result::Result as Outcome;

/// The longest collection that is packed into its key's blob, in bytes.
pub const PACKED_MAX: usize = fields::PACKED_MAX;

/// What a member's entry takes in a leaf two thirds full, and its share of the directories.
pub(crate) const ENTRY_BYTES: u64 = 16;

/// A member beside its value.
const MEMBER: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };

impl Roots {
    /// The trees of a collection of type `ty`, and what they are when they are taken apart.
    pub(crate) fn trees(&self, ty: Type, out: &mut Vec<(u64, u64)>) -> Result<()> {
        match ty {
            Type::Hash | Type::Set => out.push((self.tree, dropped::KEYS)),
            Type::ZSet => out.extend([(self.tree, dropped::KEYS), (self.order, dropped::ORDER)]),
            Type::List => out.push((self.tree, dropped::LIST)),
            Type::String | Type::Stream => {
                let what = "a collection of a type that has no trees";
                return Err(StoreError::corrupt(what, self.tree));
            }
        }
        Ok(())
    }
}

/// What a member counts as, in bytes: decided by content alone.
pub(crate) fn member_bytes(name_len: usize, value_len: u64) -> u64 {
    content_bytes(name_len, value_len, false) + ENTRY_BYTES
}

/// A collection in trees, to read.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    pub(crate) view: View<'a>,
    pub(crate) roots: Roots,
}

impl<'a> View<'a> {
    /// The collection of a record of this view; `None` when it is packed, or no collection.
    pub fn tree(&self, record: &Record<'a>) -> Option<Tree<'a>> {
        match record.value() {
            Value::Tree(roots) => Some(Tree { view: *self, roots }),
            _ => None,
        }
    }
}

impl<'a> Tree<'a> {
    /// Elements.
    pub fn len(&self) -> u64 {
        self.roots.len
    }

    /// Whether there are none: only while it is being filled.
    pub fn is_empty(&self) -> bool {
        self.roots.len == 0
    }

    pub(crate) fn mem(&self) -> &'a Mem {
        self.view.mem
    }

    /// The member of that name: its key is the name, its value what lies beside it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn member(&self, name: &[u8]) -> Result<Option<Record<'a>>> {
        let hash_key = self.view.hash_key;
        let hash = siphash13(&hash_key, name);
        let by_name = ByKey { key: name, hash_key };
        match trie::find(self.mem(), self.roots.tree, hash, &by_name)? {
            Some(at) => Record::read(self.mem(), at).map(Some),
            None => Ok(None),
        }
    }

    /// Shows `visit` the members from `cursor` (0 begins) on, in hash order, leaf by leaf; after a
    /// leaf in which `visit` said `false` it stops. Returns the cursor to go on from, 0 at the
    /// end. What is there from beginning to end is seen, whatever changes in between.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn scan(&self, cursor: u64, visit: &mut Visit<'_, 'a>) -> Result<u64> {
        let from = cursor << (64 - CURSOR_HASH_BITS);
        let mut go_on = true;
        let position = visit_from(self.mem(), self.roots.tree, from, &mut |end, entries| {
            go_on &= self.view.visit_leaf(entries, from, &mut *visit)?;
            // A leaf so deep that a cursor cannot name its end does not stop a walk.
            Ok(go_on || end << CURSOR_HASH_BITS != 0)
        })?;
        Ok(match position {
            Position::At(next) => next >> (64 - CURSOR_HASH_BITS),
            Position::End => 0,
        })
    }

    /// Shows `visit` all members in hash order until it says `false`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn for_each(&self, visit: &mut Visit<'_, 'a>) -> Result<()> {
        // One leaf behind: its members are on their way from memory while the one before is shown.
        let mut waiting: Vec<Offset> = Vec::with_capacity(trie::LEAF_ENTRIES);
        let mut go_on = true;
        visit_from(self.mem(), self.roots.tree, 0, &mut |_, entries| {
            for &entry in entries {
                self.mem().prefetch(entry);
                self.mem().prefetch(entry + 64);
            }
            go_on = self.show(&waiting, visit)?;
            waiting.clear();
            waiting.extend_from_slice(entries);
            Ok(go_on)
        })?;
        if go_on {
            self.show(&waiting, visit)?;
        }
        Ok(())
    }

    /// Shows the members of a leaf, by hash, until `visit` says `false`.
    fn show(&self, entries: &[Offset], visit: &mut Visit<'_, 'a>) -> Result<bool> {
        let mut go_on = true;
        self.view.visit_leaf(entries, 0, |record| {
            if go_on {
                go_on = visit(record)?;
            }
            Ok(go_on)
        })
    }

    /// A member drawn by `seed`, each as likely as any other; what is drawn depends on the members
    /// alone, not on the shape of their tree. `None` when there are none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn random(&self, seed: u64) -> Result<Option<Record<'a>>> {
        // The hashes are divided into equal windows of 4 to 8 members on average. A window and a
        // place in it are drawn until there is a member in that place, so each member's chance is
        // the same; that a window has more members than places happens once in a million.
        const PLACES: u64 = 24;
        // One draw in four meets a member.
        const ATTEMPTS_MAX: u64 = 10_000;
        if self.roots.len == 0 {
            return Ok(None);
        }
        let bits = (self.roots.len / 4).max(1).ilog2();
        for attempt in 0..ATTEMPTS_MAX {
            // Seeds that follow one another must not share their attempts.
            let draw = mix(mix(seed).wrapping_add(attempt));
            let window = if bits == 0 { 0 } else { draw >> (64 - bits) };
            let mut members = Vec::with_capacity(PLACES as usize);
            self.window(window, bits, &mut members)?;
            let place = mix(draw) % PLACES.max(members.len() as u64);
            if let Some(&(_, at)) = members.get(place as usize) {
                return Record::read(self.mem(), at).map(Some);
            }
        }
        Err(StoreError::corrupt("a collection with fewer members than it counts", self.roots.tree))
    }

    /// The members, by hash, whose hashes begin with the `bits` bits of `window`.
    fn window(&self, window: u64, bits: u32, out: &mut Vec<(u64, Offset)>) -> Result<()> {
        let shift = 64 - bits;
        let first = if bits == 0 { 0 } else { window << shift };
        let last = if bits == 0 { u64::MAX } else { first | (u64::MAX >> bits) };
        visit_from(self.mem(), self.roots.tree, first, &mut |end, entries| {
            let mut sorted = [(0, 0); trie::LEAF_ENTRIES];
            for &(hash, at) in self.view.by_hash(entries, &mut sorted)? {
                if (first..=last).contains(&hash) {
                    out.push((hash, at));
                }
            }
            Ok(end != 0 && end <= last)
        })?;
        Ok(())
    }
}

/// A collection in trees, being changed.
pub struct Edit<'s> {
    pub(crate) store: &'s mut Store,
    /// The owned blob's fields.
    fields: Cell,
    pub(crate) len: u64,
    pub(crate) bytes: u64,
    encoding: Encoding,
}

impl Edit<'_> {
    /// Elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none. What is left so goes with its key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The encoding to report.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Changes the encoding to report.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// The collection as it is now, to read.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when its fields lie outside the pool.
    pub fn tree(&self) -> Result<Tree<'_>> {
        let heap = &self.store.heap;
        let roots = Roots {
            tree: heap.get(self.tree_cell())?,
            len: self.len,
            bytes: self.bytes,
            order: heap.get(self.order_cell())?,
        };
        Ok(Tree { view: self.store.view(), roots })
    }

    /// Holds the root of the members' trie, or of a list.
    pub(crate) fn tree_cell(&self) -> Cell {
        self.fields
    }

    /// Holds the root of a sorted set's order.
    pub(crate) fn order_cell(&self) -> Cell {
        Cell { at: self.fields.at + 24 }
    }

    /// Adds a member, or replaces the value of one; says whether it is new.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::TooLong`], and then nothing has changed.
    pub fn put(&mut self, name: &[u8], value: &[u8]) -> Result<bool> {
        let at = self.write_member(name, value)?;
        match self.place_member(name, at)? {
            Some(old) => self.store.free_blob(old).map(|()| false),
            None => Ok(true),
        }
    }

    /// Writes a member's blob, which nothing leads to yet.
    pub(crate) fn write_member(&mut self, name: &[u8], value: &[u8]) -> Result<Offset> {
        let len = value.len() as u64;
        check_lengths(&Key { bytes: name, ..Key::default() }, len)?;
        self.store.recycle(8);
        let heap = &mut self.store.heap;
        let at = if blob::is_inline(name.len(), len) {
            blob::write(heap, name, MEMBER, &Body::Inline(value))?
        } else {
            let at = blob::write(heap, name, MEMBER, &Body::Chunks { tree: 0, len })?;
            self.store.fill_long(at, |heap, writing| writing.write(heap, 0, value))?;
            at
        };
        self.store.ensure_or_free(at)?;
        Ok(at)
    }

    /// Puts a member's blob in its place; returns the one that was there, which the caller frees.
    pub(crate) fn place_member(&mut self, name: &[u8], at: Offset) -> Result<Option<Offset>> {
        let hash_key = self.store.hash_key;
        let (hash, by_name) = (siphash13(&hash_key, name), ByKey { key: name, hash_key });
        let cell = self.tree_cell();
        let place = match trie::upsert(&mut self.store.heap, cell, hash, &by_name) {
            Ok(place) => place,
            Err(e) => {
                self.store.free_blob(at)?;
                return Err(e);
            }
        };
        place.fill(&mut self.store.heap, at)?;
        let mem = &self.store.heap.mem;
        self.bytes += Record::read(mem, at)?.bytes() + ENTRY_BYTES;
        match place.old {
            Some(old) => self.bytes -= Record::read(mem, old)?.bytes() + ENTRY_BYTES,
            None => self.len += 1,
        }
        Ok(place.old)
    }

    /// Removes a member; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not even the reserve has room; [`StoreError::Corrupt`].
    pub fn remove(&mut self, name: &[u8]) -> Result<bool> {
        match self.take_member(name)? {
            Some(old) => self.store.free_blob(old).map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes a member out of its place; the caller frees its blob.
    pub(crate) fn take_member(&mut self, name: &[u8]) -> Result<Option<Offset>> {
        let hash_key = self.store.hash_key;
        let (hash, by_name) = (siphash13(&hash_key, name), ByKey { key: name, hash_key });
        let cell = self.tree_cell();
        self.store.recycle(8);
        let Some(old) = trie::remove(&mut self.store.heap, cell, hash, &by_name)? else {
            return Ok(None);
        };
        self.bytes -= Record::read(&self.store.heap.mem, old)?.bytes() + ENTRY_BYTES;
        self.len -= 1;
        Ok(Some(old))
    }

    /// Writes what the change has come to into the blob at `at`; returns its bytes as counted.
    fn finish(&mut self, at: Offset) -> Result<u64> {
        let heap = &mut self.store.heap;
        for (index, word) in [(1, self.len), (2, self.bytes)] {
            heap.set(Cell { at: self.fields.at + index * 8 }, word)?;
        }
        let count = heap.mem.half(at + 8)?;
        heap.set_count(at, count & !0xff | self.encoding as u32)?;
        let record = Record::read(&heap.mem, at)?;
        let (len, bytes) = (record.len(), record.bytes());
        heap.seal(at, len)?;
        Ok(bytes)
    }
}

impl Store {
    /// [`View::tree`] of the live tree.
    pub fn tree<'a>(&'a self, record: &Record<'a>) -> Option<Tree<'a>> {
        self.view().tree(record)
    }

    /// Upper bound of what a new member, or a new value of one, adds to
    /// [`Store::content_bytes`].
    pub fn member_cost(name_len: usize, value_len: u64) -> u64 {
        member_bytes(name_len, value_len)
    }

    /// Makes a key the collection in trees that `fill` fills, whatever it was; left empty, there
    /// is no key. What `fill` returns as an error leaves the key as it was.
    ///
    /// # Errors
    /// What `fill` returns; [`StoreError::Full`], and then nothing has changed.
    pub fn build<T, E: From<StoreError>>(
        &mut self,
        db: Db,
        key: &Key<'_>,
        meta: Meta,
        fill: impl FnOnce(&mut Edit<'_>) -> Outcome<T, E>,
    ) -> Outcome<T, E> {
        check_lengths(key, 0)?;
        let body = Body::Tree(Roots::default());
        let at = blob::write(&mut self.heap, key.bytes, meta, &body)?;
        let mut edit = self.edit_blob(at)?;
        let done = fill(&mut edit);
        edit.finish(at)?;
        let empty = edit.is_empty();
        if done.is_err() || empty {
            self.free_blob(at)?;
            if done.is_ok() {
                self.remove(db, key)?;
            }
            return done;
        }
        self.install(db, key, at)?;
        done
    }

    /// Changes a collection in trees; left empty, it goes. `None` when there is no key, or one
    /// that is packed or no collection. What was changed before `change` returned an error stays.
    ///
    /// # Errors
    /// What `change` returns; [`StoreError::Full`] when there is no room for the path.
    pub fn edit<T, E: From<StoreError>>(
        &mut self,
        db: Db,
        key: &Key<'_>,
        change: impl FnOnce(&mut Edit<'_>) -> Outcome<T, E>,
    ) -> Outcome<Option<T>, E> {
        match self.get(db, key)?.map(|record| record.value()) {
            Some(Value::Tree(_)) => {}
            _ => return Ok(None),
        }
        self.recycle(16);
        let (entry, at) = self.own_blob(db, key)?;
        let before = Record::read(&self.heap.mem, at)?.bytes();
        let mut edit = self.edit_blob(at)?;
        let done = change(&mut edit);
        let after = edit.finish(at)?;
        let empty = edit.is_empty();
        self.count_bytes(db, entry, after.wrapping_sub(before) as i64)?;
        if empty {
            self.remove(db, key)?;
        }
        done.map(Some)
    }

    fn edit_blob(&mut self, at: Offset) -> Result<Edit<'_>> {
        let record = Record::read(&self.heap.mem, at)?;
        let Value::Tree(Roots { len, bytes, .. }) = record.value() else {
            return Err(StoreError::corrupt("a packed value where trees should be", at));
        };
        let (key_len, meta) = (record.key().len(), record.meta);
        let fields = Cell { at: at + blob::nested_at(key_len, meta.deadline_ms.is_some()) };
        Ok(Edit { store: self, fields, len, bytes, encoding: meta.encoding })
    }

    /// Copies a collection in trees, element by element.
    pub(crate) fn copy_collection(
        &mut self,
        source: &Record<'_>,
        to_db: Db,
        to: &Key<'_>,
    ) -> Result<()> {
        let mem = self.heap.mem.clone();
        let Value::Tree(roots) = Record::read(&mem, source.at)?.value() else { return Ok(()) };
        let tree = Tree { view: View::new(&mem, 0, self.hash_key), roots };
        self.build(to_db, to, source.meta, |edit| -> Result<()> {
            if source.ty() == Type::ZSet {
                return tree
                    .ranked(0, false, &mut |name, score| edit.rank_put(name, score).map(|_| true));
            }
            if source.ty() == Type::List {
                return tree.elements(0, false, &mut |element| {
                    match element.as_inline() {
                        Some(bytes) => edit.list_push_back(bytes)?,
                        None => edit.list_push_back(&element.to_vec()?)?,
                    }
                    Ok(true)
                });
            }
            tree.for_each(&mut |member| {
                match member.value().as_inline() {
                    Some(value) => edit.put(member.key(), value)?,
                    None => edit.put(member.key(), &member.value().to_vec()?)?,
                };
                Ok(true)
            })
        })
    }
}
