//! Deadlines in order: a B+tree a database, keyed (deadline, slot, hash); the value counts keys
//! that share all three.

use super::{Cell, Db, Key, Record, Store, View};
use crate::btree::Btree;
use crate::error::{Result, StoreError};
use crate::hash::siphash13;
use crate::heap::Offset;
use crate::layout::pool::root;
use crate::persist::Mem;
use crate::trie;
use cairn_protocol::slot::SlotId;

pub(crate) type Deadlines = Btree<3, 1>;

/// A deadline, and what tells whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    db: Db,
    /// Deadline, slot, hash.
    entry: [u64; 3],
}

impl Deadline {
    /// When it is, in ms since the Unix epoch.
    pub fn ms(&self) -> u64 {
        self.entry[0]
    }
}

/// A trie's blob with this hash and deadline.
struct ByDeadline {
    hash: u64,
    deadline_ms: u64,
    hash_key: [u64; 2],
}

impl trie::Entries for ByDeadline {
    fn is_key(&self, mem: &Mem, entry: Offset) -> Result<bool> {
        let record = Record::read(mem, entry)?;
        Ok(record.deadline_ms() == Some(self.deadline_ms)
            && siphash13(&self.hash_key, record.key()) == self.hash)
    }

    fn hash_of(&self, mem: &Mem, entry: Offset) -> Result<u64> {
        Ok(siphash13(&self.hash_key, Record::read(mem, entry)?.key()))
    }
}

impl Store {
    pub(crate) fn deadlines_cell(&self, db: Db) -> Result<Cell> {
        Ok(Cell::new(self.root, db.row()? + root::EXPIRY))
    }

    /// Enters a deadline. The root must be owned.
    pub(super) fn note_deadline(&mut self, db: Db, key: &Key<'_>, deadline_ms: u64) -> Result<()> {
        let cell = self.deadlines_cell(db)?;
        let entry = [deadline_ms, u64::from(key.slot.get()), key.hash];
        let sharers = Deadlines::get(&self.heap.mem, self.heap.get(cell)?, &entry)?;
        let count = sharers.map_or(0, |[count]| count) + 1;
        Deadlines::insert(&mut self.heap, cell, &entry, &[count]).map(|_| ())
    }

    /// Takes a deadline out. The root must be owned.
    pub(super) fn forget_deadline(
        &mut self,
        db: Db,
        key: &Key<'_>,
        deadline_ms: u64,
    ) -> Result<()> {
        let cell = self.deadlines_cell(db)?;
        let entry = [deadline_ms, u64::from(key.slot.get()), key.hash];
        match Deadlines::get(&self.heap.mem, self.heap.get(cell)?, &entry)? {
            Some([count]) if count > 1 => {
                Deadlines::insert(&mut self.heap, cell, &entry, &[count - 1]).map(|_| ())
            }
            Some(_) => Deadlines::remove(&mut self.heap, cell, &entry).map(|_| ()),
            None => Err(StoreError::corrupt("a deadline that no expiry tree knows", cell.at)),
        }
    }
}

impl<'a> View<'a> {
    /// The key with the earliest deadline at or before `now_ms`, over all databases.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the expiry tree and the keys disagree.
    pub fn next_expired(&self, now_ms: u64) -> Result<Option<(Db, Vec<u8>)>> {
        let mut earliest: Option<([u64; 3], Db)> = None;
        for db in (0..=Db::COUNT).map(Db) {
            let tree = self.row_word(db, root::EXPIRY)?;
            if let Some((entry, _)) = Deadlines::seek(self.mem, tree, &[0; 3])?
                && entry[0] <= now_ms
                && earliest.is_none_or(|(best, _)| entry[0] < best[0])
            {
                earliest = Some((entry, db));
            }
        }
        let Some((entry, db)) = earliest else { return Ok(None) };
        Ok(Some((db, self.by_deadline(db, entry)?.key().to_vec())))
    }

    /// The key of a database that has `rank` deadlines before its own. Keys that agree in deadline,
    /// slot and hash share a rank, of which only one is shown.
    ///
    /// # Errors
    /// As [`View::next_expired`].
    pub fn expiring(&self, db: Db, rank: u64) -> Result<Option<Record<'a>>> {
        let tree = self.row_word(db, root::EXPIRY)?;
        match Deadlines::select(self.mem, tree, rank)? {
            Some((entry, ..)) => self.by_deadline(db, entry).map(Some),
            None => Ok(None),
        }
    }

    /// The deadline of a database that `rank` others come before; `None` behind the last.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the expiry tree is damaged on the way to it.
    pub fn deadline(&self, db: Db, rank: u64) -> Result<Option<Deadline>> {
        let tree = self.row_word(db, root::EXPIRY)?;
        let found = Deadlines::select(self.mem, tree, rank)?;
        Ok(found.map(|(entry, ..)| Deadline { db, entry }))
    }

    /// A key that has this deadline.
    ///
    /// # Errors
    /// As [`View::next_expired`].
    pub fn key_of(&self, deadline: &Deadline) -> Result<Record<'a>> {
        self.by_deadline(deadline.db, deadline.entry)
    }

    fn by_deadline(&self, db: Db, [deadline_ms, slot, hash]: [u64; 3]) -> Result<Record<'a>> {
        let slot = SlotId::new(slot as u16)
            .ok_or_else(|| StoreError::corrupt("a deadline in a slot that cannot be", self.root))?;
        let by_deadline = ByDeadline { hash, deadline_ms, hash_key: self.hash_key };
        match trie::find(self.mem, self.trie_of(db, slot)?, hash, &by_deadline)? {
            Some(at) => Record::read(self.mem, at),
            None => Err(StoreError::corrupt("a deadline without its key", self.root)),
        }
    }
}
