//! Going through a database in hash order: SCAN, KEYS, RANDOMKEY.
//!
//! Slots in order, hashes in order within a slot. A cursor is the slot and the upper 48 bits of
//! the hash where the walk goes on, so it needs no state at the server, survives restarts and
//! failovers, and keeps Redis's guarantee: what is there from beginning to end is seen.

use super::{Cell, Db, Record, View};
use crate::error::{Result, StoreError};
use crate::hash::siphash13;
use crate::heap::Offset;
use crate::layout::pool::trie::LEAF_ENTRIES;
use crate::layout::pool::{HEADER, root, slots};
use crate::trie::{Position, visit_from};

/// What a walk does with a key, or with a member of a collection; `false` ends it.
pub type Visit<'v, 'a> = dyn FnMut(&Record<'a>) -> Result<bool> + 'v;

const SLOTS: u64 = (slots::FANOUT * slots::FANOUT) as u64;
/// Bits of a hash that a cursor keeps.
pub(crate) const CURSOR_HASH_BITS: u32 = 48;

impl<'a> View<'a> {
    /// Shows `visit` the keys from `cursor` (0 begins) on, in hash order, leaf by leaf; after a
    /// leaf in which `visit` said `false` it stops. Returns the cursor to go on from, 0 at the
    /// end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn scan(&self, db: Db, cursor: u64, visit: &mut Visit<'_, 'a>) -> Result<u64> {
        let mut slot = cursor >> CURSOR_HASH_BITS;
        let mut from = cursor << (64 - CURSOR_HASH_BITS);
        let mut go_on = true;
        while let Some((found, trie)) = self.next_slot(db, slot)? {
            if found != slot {
                (slot, from) = (found, 0);
            }
            if !go_on {
                return Ok(slot << CURSOR_HASH_BITS);
            }
            let position = visit_from(self.mem, trie, from, &mut |end, entries| {
                go_on &= self.visit_leaf(entries, from, &mut *visit)?;
                // A leaf so deep that a cursor cannot name its end does not stop a walk.
                Ok(go_on || end << CURSOR_HASH_BITS != 0)
            })?;
            match position {
                Position::At(next) => {
                    return Ok(slot << CURSOR_HASH_BITS | next >> (64 - CURSOR_HASH_BITS));
                }
                Position::End => (slot, from) = (slot + 1, 0),
            }
        }
        Ok(0)
    }

    /// Shows the keys of a leaf at or above `from`, by hash; `false` when any of them said so.
    pub(crate) fn visit_leaf(
        &self,
        entries: &[Offset],
        from: u64,
        mut visit: impl FnMut(&Record<'a>) -> Result<bool>,
    ) -> Result<bool> {
        let mut sorted = [(0, 0); LEAF_ENTRIES];
        let sorted = self.by_hash(entries, &mut sorted)?;
        let mut go_on = true;
        for &(hash, entry) in sorted.iter() {
            if hash >= from {
                go_on &= visit(&Record::read(self.mem, entry)?)?;
            }
        }
        Ok(go_on)
    }

    /// A leaf's entries with their hashes, in hash order.
    pub(crate) fn by_hash<'s>(
        &self,
        entries: &[Offset],
        sorted: &'s mut [(u64, Offset); LEAF_ENTRIES],
    ) -> Result<&'s [(u64, Offset)]> {
        for (place, &entry) in sorted.iter_mut().zip(entries) {
            let record = Record::read(self.mem, entry)?;
            *place = (siphash13(&self.hash_key, record.key()), entry);
        }
        let sorted = &mut sorted[..entries.len()];
        sorted.sort_unstable();
        Ok(sorted)
    }

    /// The first slot at or after `slot` that has keys, and its trie.
    pub(crate) fn next_slot(&self, db: Db, slot: u64) -> Result<Option<(u64, u64)>> {
        let high = self.row_word(db, root::SLOTS)?;
        let mut slot = slot;
        while high != 0 && slot < SLOTS {
            let fanout = slots::FANOUT as u64;
            self.mem.verify(high, slots::HIGH_LEN)?;
            let low = self.mem.word(Cell::new(high, HEADER / 8 + (slot / fanout) as usize).at)?;
            if low == 0 {
                slot = (slot / fanout + 1) * fanout;
                continue;
            }
            self.mem.verify(low, slots::LOW_LEN)?;
            let trie = self.mem.word(super::low_cell(low, (slot % fanout) as usize).at)?;
            if trie != 0 {
                return Ok(Some((slot, trie)));
            }
            slot += 1;
        }
        Ok(None)
    }

    /// A key drawn by `seed`: every key is as likely as any other.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn random(&self, db: Db, seed: u64) -> Result<Option<Record<'a>>> {
        let keys = self.len(db);
        if keys == 0 {
            return Ok(None);
        }
        let mut rank = seed % keys;
        let mut slot = 0;
        while let Some((found, trie)) = self.next_slot(db, slot)? {
            let here = self.slot_len(db, slot_id(found)?)?;
            if rank < here {
                return self.nth_of_slot(trie, rank);
            }
            rank -= here;
            slot = found + 1;
        }
        Err(StoreError::corrupt("a database with fewer keys than it counts", self.root))
    }

    fn nth_of_slot(&self, trie: u64, rank: u64) -> Result<Option<Record<'a>>> {
        let (mut rank, mut chosen) = (rank as usize, None);
        visit_from(self.mem, trie, 0, &mut |_, entries| {
            if rank >= entries.len() {
                rank -= entries.len();
                return Ok(true);
            }
            let mut sorted = [(0, 0); LEAF_ENTRIES];
            chosen = Some(self.by_hash(entries, &mut sorted)?[rank].1);
            Ok(false)
        })?;
        match chosen {
            Some(entry) => Record::read(self.mem, entry).map(Some),
            None => Err(StoreError::corrupt("a slot with fewer keys than it counts", self.root)),
        }
    }
}

pub(crate) fn slot_id(slot: u64) -> Result<cairn_protocol::slot::SlotId> {
    cairn_protocol::slot::SlotId::new(slot as u16)
        .ok_or_else(|| StoreError::corrupt("a slot that cannot be", slot))
}
