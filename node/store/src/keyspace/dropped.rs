//! Trees that were cut off whole and are taken apart later, a piece at a time, so that FLUSHALL
//! and the deletion of a huge value stop nobody.
//!
//! The list of them hangs under the root like everything else: a crash forgets no piece. What is
//! on it is no longer content, so when it is worked off differs between replicas and may.

use super::expiry::Deadlines;
use super::{Cell, Store};
use crate::blob::Chunks;
use crate::btree::chunk_len;
use crate::error::{Result, StoreError};
use crate::heap::{Offset, expect};
use crate::layout::pool::{HEADER, OFFSET_MASK, dropped, kind, root, slots};
use crate::list::Sequence;
use crate::order::Order;
use crate::trie;

impl Store {
    fn dropped_cell(&self) -> Cell {
        Cell::new(self.root, root::DROPPED)
    }

    /// Puts a tree on the list.
    pub(super) fn drop_tree(&mut self, pointer: u64, what: u64) -> Result<()> {
        self.own_root()?;
        let cell = self.dropped_cell();
        let mut page = self.heap.get(cell)? & OFFSET_MASK;
        let mut count = 0;
        if page != 0 {
            page = self.heap.own_at(cell, dropped::LEN)?;
            count = self.page_count(page)?;
        }
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
        let head = expect(self.mem(), page, kind::DROPPED, "a page of dropped trees")?;
        if head.count as usize > dropped::ENTRIES {
            return Err(StoreError::corrupt("an overfull page of dropped trees", page));
        }
        Ok(head.count as usize)
    }

    /// Takes the last tree off the list.
    fn pop_dropped(&mut self) -> Result<Option<(u64, u64)>> {
        if self.none_dropped()? {
            return Ok(None);
        }
        self.own_root()?;
        let cell = self.dropped_cell();
        let page = self.heap.own_at(cell, dropped::LEN)?;
        let count = self.page_count(page)?;
        if count == 0 {
            return Err(StoreError::corrupt("an empty page of dropped trees", page));
        }
        let pointer = self.heap.get(entry_cell(page, count - 1, 0))?;
        let what = self.heap.get(entry_cell(page, count - 1, 1))?;
        if count == 1 {
            let next = self.heap.get(Cell::new(page, HEADER / 8))?;
            self.heap.set(cell, next)?;
            self.heap.free(page, dropped::LEN)?;
        } else {
            self.heap.set_count(page, count as u32 - 1)?;
        }
        Ok(Some((pointer, what)))
    }

    fn none_dropped(&self) -> Result<bool> {
        Ok(self.root == 0 || self.heap.get(self.dropped_cell())? & OFFSET_MASK == 0)
    }

    /// Whether dropped trees wait to be freed.
    pub fn has_dropped(&self) -> bool {
        !self.none_dropped().unwrap_or(true)
    }

    /// Frees up to `budget` nodes of dropped trees; says whether there is more to do.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a dropped tree is not what it should be.
    pub fn reclaim(&mut self, budget: usize) -> Result<bool> {
        self.recycle(budget * 4);
        for _ in 0..budget {
            let Some((pointer, what)) = self.pop_dropped()? else { return Ok(false) };
            self.free_piece(pointer, what)?;
        }
        Ok(self.has_dropped())
    }

    fn free_piece(&mut self, pointer: u64, what: u64) -> Result<()> {
        match what {
            dropped::SLOTS_HIGH => {
                self.free_slots(pointer, (kind::SLOTS_HIGH, slots::HIGH_LEN, 1), dropped::SLOTS_LOW)
            }
            dropped::SLOTS_LOW => self.free_slots(
                pointer,
                (kind::SLOTS_LOW, slots::LOW_LEN, slots::ENTRY_WORDS),
                dropped::KEYS,
            ),
            dropped::KEYS => {
                let Some(node) = trie::node(self.mem(), pointer)? else { return Ok(()) };
                self.heap.free(node.at, node.len)?;
                for pointer in node.nodes {
                    self.drop_tree(pointer, dropped::KEYS)?;
                }
                node.entries.into_iter().try_for_each(|blob| self.free_blob(blob))
            }
            dropped::CHUNKS => {
                let (mut nodes, mut chunks) = (Vec::new(), Vec::new());
                Chunks::free_children(&mut self.heap, pointer, &mut nodes, &mut chunks)?;
                for node in nodes {
                    self.drop_tree(node, dropped::CHUNKS)?;
                }
                for [chunk] in chunks {
                    let len = HEADER + chunk_len(self.mem(), chunk)?;
                    self.heap.free(chunk, len)?;
                }
                Ok(())
            }
            dropped::EXPIRY => {
                let (mut nodes, mut values) = (Vec::new(), Vec::new());
                Deadlines::free_children(&mut self.heap, pointer, &mut nodes, &mut values)?;
                nodes.into_iter().try_for_each(|node| self.drop_tree(node, dropped::EXPIRY))
            }
            dropped::ORDER => {
                let (mut nodes, mut values) = (Vec::new(), Vec::new());
                Order::free_children(&mut self.heap, pointer, &mut nodes, &mut values)?;
                nodes.into_iter().try_for_each(|node| self.drop_tree(node, dropped::ORDER))
            }
            dropped::LIST => {
                let (mut nodes, mut chunks) = (Vec::new(), Vec::new());
                Sequence::free_children(&mut self.heap, pointer, &mut nodes, &mut chunks)?;
                for node in nodes {
                    self.drop_tree(node, dropped::LIST)?;
                }
                chunks.into_iter().flatten().try_for_each(|chunk| self.drop_list_chunk(chunk))
            }
            dropped::LIST_CHUNK => self.free_list_chunk(pointer),
            _ => Err(StoreError::corrupt(
                "a dropped tree of a kind nobody knows",
                pointer & OFFSET_MASK,
            )),
        }
    }

    fn free_slots(
        &mut self,
        pointer: u64,
        (kind, len, width): (u8, usize, usize),
        below: u64,
    ) -> Result<()> {
        expect(self.mem(), pointer, kind, "a block of slots")?;
        for index in 0..slots::FANOUT {
            let child = self.heap.get(Cell::new(pointer, HEADER / 8 + index * width))?;
            if child != 0 {
                self.drop_tree(child, below)?;
            }
        }
        self.heap.free(pointer, len)
    }

    /// All trees on the list, for `check`.
    #[allow(clippy::type_complexity)]
    pub(crate) fn dropped_trees(&self) -> Result<(Vec<Offset>, Vec<(u64, u64)>)> {
        let (mut pages, mut trees) = (Vec::new(), Vec::new());
        let mut page = if self.root == 0 { 0 } else { self.heap.get(self.dropped_cell())? };
        while page != 0 {
            for index in 0..self.page_count(page)? {
                let pointer = self.heap.get(entry_cell(page, index, 0))?;
                trees.push((pointer, self.heap.get(entry_cell(page, index, 1))?));
            }
            pages.push(page);
            page = self.heap.get(Cell::new(page, HEADER / 8))?;
        }
        Ok((pages, trees))
    }
}

fn entry_cell(page: Offset, index: usize, word: usize) -> Cell {
    Cell::new(page, HEADER / 8 + 1 + index * 2 + word)
}
