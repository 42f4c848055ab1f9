//! Trees that were cut off whole and are taken apart later, a piece at a time, so that FLUSHALL
//! and the deletion of a huge value stop nobody.
//!
//! The list of them hangs under the root like everything else: a crash forgets no piece. What is
//! on it is no longer content, so when it is worked off differs between replicas and may.

use super::expiry::Deadlines;
use super::{Cell, Store};
use crate::alloc::Leaked;
use crate::alloc::room::SLABS_FOR_SNAPSHOTS;
use crate::blob::{Chunks, Record, Value};
use crate::btree::chunk_len;
use crate::error::{Result, StoreError};
use crate::heap::{Offset, expect};
use crate::layout::pool::{
    self as layout, BIRTH_MASK, HEADER, OFFSET_MASK, btree, dropped, kind, root, slots,
};
use crate::list::{self, Sequence};
use crate::order::Order;
use crate::trie;

/// Pages that the notes of a node and of all that hangs below it take at most.
const NOTE_PAGES: usize = 8;
/// Slabs that they, the root above them and what is kept may begin.
const SLABS_FOR_NOTES: u64 = 4;
/// Places made free again while reclaiming waits for some: some 100 us.
const WAITING_RECYCLES: usize = 1024;

/// A list of trees that are being taken apart, and what of them is to be freed.
#[derive(Clone, Copy)]
pub(crate) struct Pile {
    /// Holds the first page, in an owned block; `None` for the live root's list.
    cell: Option<Cell>,
    /// Only what was born after this epoch is freed: a snapshot sees the rest. What is freed is
    /// seen by none. 0 for trees that were cut off the live root, of which all is to go, and
    /// snapshots may see any of it.
    since: u64,
}

impl Pile {
    /// The live root's.
    pub(crate) const LIVE: Pile = Pile { cell: None, since: 0 };

    /// Of a root that a rollback to the snapshot of epoch `since` left.
    pub(crate) fn abandoned(cell: Cell, since: u64) -> Pile {
        Pile { cell: Some(cell), since }
    }
}

impl Store {
    fn dropped_cell(&self) -> Cell {
        Cell::new(self.root, root::DROPPED)
    }

    /// The cell of a pile, to write in.
    fn own_pile(&mut self, pile: Pile) -> Result<Cell> {
        if let Some(cell) = pile.cell {
            return Ok(cell);
        }
        self.own_root()?;
        Ok(self.dropped_cell())
    }

    fn own_page(&mut self, pile: Pile, cell: Cell) -> Result<Offset> {
        match pile.cell {
            Some(_) => self.heap.own_unseen_at(cell, dropped::LEN),
            None => self.heap.own_at(cell, dropped::LEN),
        }
    }

    /// Puts a tree on the list.
    pub(crate) fn drop_tree(&mut self, pile: Pile, pointer: u64, what: u64) -> Result<()> {
        let cell = self.own_pile(pile)?;
        let (mut page, mut count) = self.own_counted_page(pile, cell)?.unwrap_or_default();
        if page == 0 || count == dropped::ENTRIES {
            let next = page;
            page = self.heap.make(kind::DROPPED, 0, 0, dropped::LEN)?;
            self.heap.set(Cell::new(page, HEADER / 8), next)?;
            self.heap.set(cell, page)?;
            count = 0;
        }
        self.heap.set(entry_cell(page, count, 0), pointer)?;
        self.heap.set(entry_cell(page, count, 1), what)?;
        self.heap.set_count(page, count as u32 + 1)
    }

    fn page_count(&self, page: Offset) -> Result<usize> {
        self.mem().verify(page, dropped::LEN)?;
        let head = expect(self.mem(), page, kind::DROPPED, "a page of dropped trees")?;
        if head.count as usize > dropped::ENTRIES {
            return Err(StoreError::corrupt("an overfull page of dropped trees", page));
        }
        Ok(head.count as usize)
    }

    /// Owns the first page of a list; `None` when there is none. A damaged one leaks with all that is
    /// on it and behind it, for nobody can say what that is.
    fn own_counted_page(&mut self, pile: Pile, cell: Cell) -> Result<Option<(Offset, usize)>> {
        let at = self.heap.get(cell)? & OFFSET_MASK;
        if at == 0 {
            return Ok(None);
        }
        let owned = self.own_page(pile, cell);
        match owned.and_then(|page| Ok((page, self.page_count(page)?))) {
            Ok((page, count)) if count > 0 => Ok(Some((page, count))),
            Ok(_) | Err(StoreError::Corrupt(_)) => {
                self.heap.alloc.leaked.note(at);
                self.heap.set(cell, 0)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes one piece of a list apart. What cannot be read of it leaks; without room nothing has
    /// changed.
    pub(crate) fn free_next(&mut self, pile: Pile) -> Result<()> {
        let cell = self.own_pile(pile)?;
        let Some((page, count)) = self.own_counted_page(pile, cell)? else { return Ok(()) };
        let last = count - 1;
        let pointer = self.heap.get(entry_cell(page, last, 0))?;
        let what = self.heap.get(entry_cell(page, last, 1))?;
        let mut cut = Cut::default();
        self.cut_piece(pile, pointer, what, &mut cut);
        let mut fresh = self.make_pages(cut.trees.len().saturating_sub(dropped::ENTRIES - last))?;
        // From here on nothing is made any more.
        for (at, len) in cut.blocks {
            let freed = match pile.since {
                0 => self.heap.free(at, len),
                _ => self.heap.free_unseen(at, len),
            };
            self.or_leak(freed, at)?;
        }
        let (mut page, mut count) = (page, last);
        for (pointer, what) in cut.trees {
            if count == dropped::ENTRIES {
                let next = fresh.pop().expect("a page for all that one cannot hold");
                self.heap.set(Cell::new(next, HEADER / 8), page)?;
                self.heap.set(cell, next)?;
                (page, count) = (next, 0);
            }
            self.heap.set(entry_cell(page, count, 0), pointer)?;
            self.heap.set(entry_cell(page, count, 1), what)?;
            count += 1;
            self.heap.set_count(page, count as u32)?;
        }
        if count > 0 {
            return self.heap.set_count(page, count as u32);
        }
        let next = self.heap.get(Cell::new(page, HEADER / 8))?;
        self.heap.set(cell, next)?;
        match pile.cell {
            Some(_) => self.heap.free_unseen(page, dropped::LEN),
            None => self.heap.free(page, dropped::LEN),
        }
    }

    /// Empty pages for so many trees.
    fn make_pages(&mut self, trees: usize) -> Result<Vec<Offset>> {
        let mut pages = Vec::new();
        for _ in 0..trees.div_ceil(dropped::ENTRIES) {
            match self.heap.make(kind::DROPPED, 0, 0, dropped::LEN) {
                Ok(page) => pages.push(page),
                Err(error) => {
                    pages.into_iter().try_for_each(|page| self.heap.free(page, dropped::LEN))?;
                    return Err(error);
                }
            }
        }
        Ok(pages)
    }

    /// Notes what a piece comes to when it is taken apart; what is damaged of it leaks.
    fn cut_piece(&mut self, pile: Pile, pointer: u64, what: u64, cut: &mut Cut) {
        let at = pointer & OFFSET_MASK;
        let piece = match self.is_older(pile, at) {
            Ok(true) => return,
            is_older => is_older.and_then(|_| self.piece(pointer, what)),
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return,
            Err(_) => return self.heap.alloc.leaked.note(at),
        };
        cut.blocks.push((piece.at, piece.len));
        for (pointer, what) in piece.below {
            match what {
                dropped::BLOB | dropped::CHUNK => self.cut_piece(pile, pointer, what, cut),
                _ => cut.trees.push((pointer, what)),
            }
        }
    }

    /// Whether a snapshot sees a block of a pile, of which it is to see nothing.
    fn is_older(&self, pile: Pile, at: Offset) -> Result<bool> {
        Ok(pile.since > 0 && self.mem().word(at)? & BIRTH_MASK <= pile.since)
    }

    /// Goes on where damage has kept the block at `at` from being freed: it leaks.
    pub(crate) fn or_leak(&mut self, freed: Result<()>, at: Offset) -> Result<()> {
        if let Err(StoreError::Corrupt(_)) = freed {
            self.heap.alloc.leaked.note(at);
            return Ok(());
        }
        freed
    }

    /// What has died since the pool was opened and is not given back, for there is damage on the way
    /// to it.
    pub fn leaked(&self) -> Leaked {
        self.heap.alloc.leaked
    }

    fn none_dropped(&self) -> Result<bool> {
        Ok(self.dropped_pages()? & OFFSET_MASK == 0)
    }

    /// Whether dropped trees or snapshots wait to be freed.
    pub fn has_dropped(&self) -> bool {
        self.has_sortable_garbage() || !self.none_dropped().unwrap_or(true)
    }

    /// Whether snapshots that were dropped have left something that can be dealt with.
    fn has_sortable_garbage(&self) -> bool {
        !self.is_garbage_stuck && (self.has_garbage() || self.has_unlinking())
    }

    /// Frees up to `budget` nodes of dropped trees and snapshots; says whether there is more to do
    /// at once. What finds no room for its notes waits for commits to bring some, and for snapshots
    /// to be dropped. What cannot be freed for damage leaks ([`Store::leaked`]), and the rest is
    /// freed.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot grow for what freeing writes: no tree is lost, and it
    /// can be tried again. [`StoreError::Corrupt`] when the root is damaged.
    pub fn reclaim(&mut self, budget: usize) -> Result<bool> {
        self.recycle(budget * 4);
        for _ in 0..budget {
            match self.reclaim_one() {
                Ok(true) => self.reclaim_waits = false,
                Ok(false) => return Ok(false),
                Err(StoreError::Full) => {
                    self.reclaim_waits = true;
                    return Ok(self.recycle_dead(WAITING_RECYCLES));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.has_dropped())
    }

    /// Frees one node; false when there is none. Where trees must wait for room, what snapshots have
    /// left goes first: that may be what holds it.
    fn reclaim_one(&mut self) -> Result<bool> {
        let mut waits = false;
        if !self.none_dropped()? {
            match self.ensure_notes(self.heap.keep_upto > 0) {
                Ok(()) => return self.free_next(Pile::LIVE).map(|()| true),
                Err(StoreError::Full) => waits = true,
                Err(error) => return Err(error),
            }
        }
        if self.has_sortable_garbage() {
            let sorted = match self.has_garbage() {
                true => self.sort_garbage(),
                false => self.unlink_dropped(),
            };
            match sorted {
                Err(StoreError::Corrupt(damage)) => {
                    // What leads to the rest is damaged: all of it stays where it is.
                    self.heap.alloc.leaked.note(damage.offset);
                    self.is_garbage_stuck = true;
                }
                sorted => sorted?,
            }
        } else if waits {
            return Err(StoreError::Full);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Makes sure that what hangs below a node finds room on the list, so that it is never cut off
    /// half. Under a snapshot freeing takes room for good, which is not to be had from what is left
    /// to deletes and to the dropping of snapshots.
    ///
    /// # Errors
    /// [`StoreError::Full`], and then nothing has changed.
    pub(crate) fn ensure_notes(&mut self, keeps: bool) -> Result<()> {
        let spare = if keeps { SLABS_FOR_SNAPSHOTS + SLABS_FOR_NOTES } else { 0 };
        let has_slabs = self.heap.alloc.has_slabs(spare + SLABS_FOR_NOTES)?;
        let has_places = || {
            let alloc = &self.heap.alloc;
            alloc.has_places(dropped::LEN, NOTE_PAGES) && alloc.has_places(root::LEN, 1)
        };
        if has_slabs || !keeps && has_places() { Ok(()) } else { Err(StoreError::Full) }
    }

    /// Frees a block and puts what hangs below it on the list.
    pub(crate) fn free_piece(&mut self, pile: Pile, pointer: u64, what: u64) -> Result<()> {
        if self.is_older(pile, pointer & OFFSET_MASK)? {
            return Ok(());
        }
        let Some(piece) = self.piece(pointer, what)? else { return Ok(()) };
        if pile.since == 0 {
            self.heap.free(piece.at, piece.len)?;
        } else {
            self.heap.free_unseen(piece.at, piece.len)?;
        }
        for (pointer, what) in piece.below {
            match what {
                dropped::BLOB | dropped::CHUNK => self.free_piece(pile, pointer, what)?,
                _ => self.drop_tree(pile, pointer, what)?,
            }
        }
        Ok(())
    }

    /// Frees a blob; what hangs below it goes to the dropped trees.
    pub(crate) fn free_blob(&mut self, at: Offset) -> Result<()> {
        self.free_piece(Pile::LIVE, at, dropped::BLOB)
    }

    /// What a pointer leads to, and what hangs below that; `None` when it leads nowhere.
    pub(crate) fn piece(&self, pointer: u64, what: u64) -> Result<Option<Piece>> {
        let (mem, at) = (self.mem(), pointer & OFFSET_MASK);
        if at == 0 {
            return Ok(None);
        }
        let mut below = Vec::new();
        let len = match what {
            dropped::ROOT => self.below_root(at, &mut below)?,
            dropped::PAGES => self.below_page(at, &mut below)?,
            dropped::SLOTS_HIGH => {
                mem.verify(at, slots::HIGH_LEN)?;
                expect(mem, at, kind::SLOTS_HIGH, "a block of slots")?;
                self.below_slots(at, 1, dropped::SLOTS_LOW, &mut below)?;
                slots::HIGH_LEN
            }
            dropped::SLOTS_LOW => {
                mem.verify(at, slots::LOW_LEN)?;
                expect(mem, at, kind::SLOTS_LOW, "a block of slots")?;
                self.below_slots(at, slots::ENTRY_WORDS, dropped::KEYS, &mut below)?;
                slots::LOW_LEN
            }
            dropped::KEYS => {
                let Some(node) = trie::node(mem, pointer)? else { return Ok(None) };
                below.extend(node.nodes.into_iter().map(|node| (node, dropped::KEYS)));
                below.extend(node.entries.into_iter().map(|blob| (blob, dropped::BLOB)));
                node.len
            }
            dropped::BLOB => {
                let record = Record::read(mem, at)?;
                match record.value() {
                    Value::Inline(_) => {}
                    Value::Chunked(chunks) => below.push((chunks.tree, dropped::CHUNKS)),
                    Value::Tree(roots) => roots.trees(record.ty(), &mut below)?,
                }
                record.len()
            }
            dropped::CHUNK => HEADER + chunk_len(mem, at)?,
            dropped::CHUNKS => {
                let (mut nodes, mut chunks) = (Vec::new(), Vec::new());
                Chunks::children(mem, at, &mut nodes, &mut chunks)?;
                below.extend(chunks.into_iter().map(|[chunk]| (chunk, dropped::CHUNK)));
                below.extend(nodes.into_iter().map(|node| (node, what)));
                btree::NODE_LEN
            }
            dropped::EXPIRY => {
                let mut nodes = Vec::new();
                Deadlines::children(mem, at, &mut nodes, &mut Vec::new())?;
                below.extend(nodes.into_iter().map(|node| (node, what)));
                btree::NODE_LEN
            }
            dropped::ORDER => {
                let mut nodes = Vec::new();
                Order::children(mem, at, &mut nodes, &mut Vec::new())?;
                below.extend(nodes.into_iter().map(|node| (node, what)));
                btree::NODE_LEN
            }
            dropped::LIST => {
                let (mut nodes, mut chunks) = (Vec::new(), Vec::new());
                Sequence::children(mem, at, &mut nodes, &mut chunks)?;
                below.extend(chunks.into_iter().map(|[chunk]| (chunk, dropped::LIST_CHUNK)));
                below.extend(nodes.into_iter().map(|node| (node, what)));
                btree::NODE_LEN
            }
            dropped::LIST_CHUNK => {
                list::each_blob(mem, pointer, &mut |blob| {
                    below.push((blob, dropped::BLOB));
                    Ok(())
                })?;
                layout::list::LEN
            }
            _ => return Err(StoreError::corrupt("a dropped tree of a kind nobody knows", at)),
        };
        below.retain(|&(pointer, _)| pointer & OFFSET_MASK != 0);
        Ok(Some(Piece { at, len, below }))
    }

    /// Trees of all databases, and those dropped under a root.
    fn below_root(&self, at: Offset, below: &mut Vec<(u64, u64)>) -> Result<usize> {
        self.mem().verify(at, root::LEN)?;
        expect(self.mem(), at, kind::ROOT, "the root of all databases")?;
        for db in 0..root::DATABASES {
            for (word, what) in
                [(root::SLOTS, dropped::SLOTS_HIGH), (root::EXPIRY, dropped::EXPIRY)]
            {
                below.push((self.heap.get(Cell::new(at, root::row(db) + word))?, what));
            }
        }
        below.push((self.heap.get(Cell::new(at, root::DROPPED))?, dropped::PAGES));
        Ok(root::LEN)
    }

    fn below_page(&self, page: Offset, below: &mut Vec<(u64, u64)>) -> Result<usize> {
        for index in 0..self.page_count(page)? {
            let pointer = self.heap.get(entry_cell(page, index, 0))?;
            below.push((pointer, self.heap.get(entry_cell(page, index, 1))?));
        }
        below.push((self.heap.get(Cell::new(page, HEADER / 8))?, dropped::PAGES));
        Ok(dropped::LEN)
    }

    fn below_slots(
        &self,
        at: Offset,
        width: usize,
        what: u64,
        below: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        for index in 0..slots::FANOUT {
            below.push((self.heap.get(Cell::new(at, HEADER / 8 + index * width))?, what));
        }
        Ok(())
    }

    /// The pages of a list and the trees on it.
    #[allow(clippy::type_complexity)]
    pub(crate) fn dropped_trees(&self, first: u64) -> Result<(Vec<Offset>, Vec<(u64, u64)>)> {
        let (mut pages, mut trees) = (Vec::new(), Vec::new());
        let mut page = first & OFFSET_MASK;
        while page != 0 {
            self.below_page(page, &mut trees)?;
            pages.push(page);
            // The last one leads to the next page.
            page = trees.pop().map_or(0, |(next, _)| next & OFFSET_MASK);
        }
        Ok((pages, trees))
    }

    /// The first page of the live root's list.
    pub(crate) fn dropped_pages(&self) -> Result<u64> {
        if self.root == 0 { Ok(0) } else { self.heap.get(self.dropped_cell()) }
    }
}

/// What taking a piece apart comes to.
#[derive(Default)]
struct Cut {
    /// Blocks that are freed, with their lengths.
    blocks: Vec<(Offset, usize)>,
    /// Trees that hang below them.
    trees: Vec<(u64, u64)>,
}

/// A block of a tree that is taken apart, and the pointers in it with what they lead to.
pub(crate) struct Piece {
    pub(crate) at: Offset,
    pub(crate) len: usize,
    pub(crate) below: Vec<(u64, u64)>,
}

fn entry_cell(page: Offset, index: usize, word: usize) -> Cell {
    Cell::new(page, HEADER / 8 + 1 + index * 2 + word)
}
