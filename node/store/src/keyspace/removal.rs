//! What deleting keys will copy, told before it is done.

use super::expiry::Deadlines;
use super::{Db, Key, View};
use crate::alloc::Alloc;
use crate::error::Result;
use crate::heap::{Cell, Offset};
use crate::layout::pool::trie::LEAF_LEN;
use crate::layout::pool::{HEADER, btree, dropped, root, slots};
use crate::trie;
use std::collections::HashSet;

/// A directory that loses keys is written again at half its size, and again. (A leaf or node that
/// its neighbour takes in gives its own place back.)
const DIRECTORY_COPIES: u64 = 2;
/// What is copied before something is given back.
const MEANWHILE_BYTES: u64 = 1 << 10;
/// The note of its blob under a snapshot that sees it.
const KEPT_BYTES: u64 = 9;
/// What is on the way to a key that is yet to come.
const ABSENT_BYTES: u64 = 4 << 10;
/// Two trees of a key may be noted as dropped, on pages that are half full at the least.
const NOTE_BYTES: u64 = 64;

/// Keys that one operation deletes: each block on the way to them is copied once, however many of
/// them it leads to.
#[derive(Debug, Default)]
pub struct Removal {
    seen: HashSet<Offset>,
    bytes: u64,
    /// Whether any of them leaves trees, and whether any has a deadline.
    is_noted: bool,
    expires: bool,
}

impl Removal {
    /// Adds a key. One that is not there may come before the operation does.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when a block on the way is not what it should be.
    pub fn add(&mut self, view: &View<'_>, db: Db, key: &Key<'_>) -> Result<()> {
        let Some(record) = view.get(db, key)? else {
            self.bytes += ABSENT_BYTES;
            return Ok(());
        };
        self.bytes += KEPT_BYTES;
        if record.is_nested() {
            self.bytes += NOTE_BYTES;
            self.is_noted = true;
        }
        let high = view.row_word(db, root::SLOTS)?;
        self.meet(high, slots::HIGH_LEN, 1);
        let slot = key.slot.get() as usize;
        let low = view.mem.word(Cell::new(high, HEADER / 8 + slot / slots::FANOUT).at)?;
        self.meet(low, slots::LOW_LEN, 1);
        let tries = view.trie_of(db, key.slot)?;
        trie::way(view.mem, tries, key.hash, |at, len| {
            self.meet(at, len, if len == LEAF_LEN { 1 } else { DIRECTORY_COPIES });
        })?;
        if let Some(deadline_ms) = record.deadline_ms() {
            self.expires = true;
            let entry = [deadline_ms, u64::from(key.slot.get()), key.hash];
            let deadlines = view.row_word(db, root::EXPIRY)?;
            Deadlines::way(view.mem, deadlines, &entry, |at, len| self.meet(at, len, 1))?;
        }
        Ok(())
    }

    /// Bytes of blocks that deleting them takes at most.
    pub fn bytes(&self) -> u64 {
        if self.bytes == 0 {
            return 0;
        }
        let block = |len: usize| Alloc::block_bytes(len) as u64;
        let pages = if self.is_noted { 2 * block(dropped::LEN) } else { 0 };
        let deadlines = if self.expires { 4 * block(btree::NODE_LEN) } else { 0 };
        self.bytes + block(root::LEN) + MEANWHILE_BYTES + pages + deadlines
    }

    fn meet(&mut self, at: Offset, len: usize, copies: u64) {
        if at != 0 && self.seen.insert(at) {
            self.bytes += Alloc::block_bytes(len) as u64 * copies;
        }
    }
}
