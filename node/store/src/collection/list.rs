//! Lists: elements in order, by their place.

use super::{Edit, Tree};
use crate::blob::Value;
use crate::error::Result;
use crate::keyspace::Pile;
use crate::layout::pool::{dropped, list as layout};
use crate::list::{self, Chunk, Item, List};
use crate::pool::Store;

/// What a list counts as beyond its elements: a chunk and a node, however few there are.
pub(crate) const LIST_BYTES: u64 = 2560;

impl<'a> Tree<'a> {
    /// Shows `visit` the elements of a list from `from_index` on, or with `reverse` from there
    /// backwards (beginning with the last when `from_index` lies behind it), until it says
    /// `false`.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when something on the way is not what it should be; what
    /// `visit` returns.
    pub fn elements(
        &self,
        from_index: u64,
        reverse: bool,
        visit: &mut dyn FnMut(Value<'a>) -> Result<bool>,
    ) -> Result<()> {
        list::walk(self.mem(), self.roots.tree, from_index, reverse, visit)
    }

    /// Bytes the list would take in a listpack; when that is above `limit`, any number above it.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn listpack_bytes(&self, limit: u64) -> Result<u64> {
        list::listpack_bytes(self.mem(), self.roots.tree, limit)
    }
}

impl Edit<'_> {
    /// Puts an element before the first.
    ///
    /// # Errors
    /// [`crate::StoreError::Full`] or [`crate::StoreError::TooLong`].
    pub fn list_push_front(&mut self, element: &[u8]) -> Result<()> {
        self.list_insert(0, element)
    }

    /// Puts an element behind the last.
    ///
    /// # Errors
    /// As [`Edit::list_push_front`].
    pub fn list_push_back(&mut self, element: &[u8]) -> Result<()> {
        self.list_insert(self.len, element)
    }

    /// Puts an element before element `index`, or with as many behind the last.
    ///
    /// # Errors
    /// As [`Edit::list_push_front`].
    pub fn list_insert(&mut self, index: u64, element: &[u8]) -> Result<()> {
        let index = index.min(self.len);
        self.with_element(element, |list, item| list.insert(index, item))?;
        self.len += 1;
        Ok(())
    }

    /// Puts an element in the place of element `index`; says whether there is one.
    ///
    /// # Errors
    /// As [`Edit::list_push_front`].
    pub fn list_set(&mut self, index: u64, element: &[u8]) -> Result<bool> {
        if index >= self.len {
            return Ok(false);
        }
        self.with_element(element, |list, item| list.set(index, item))?;
        Ok(true)
    }

    /// Removes `count` elements from element `from_index` on, or as many as there are. Costs the
    /// same however many, when they are at an end.
    ///
    /// # Errors
    /// [`crate::StoreError::Full`] when not even the reserve has room.
    pub fn list_remove(&mut self, from_index: u64, count: u64) -> Result<()> {
        let to = from_index.saturating_add(count).min(self.len);
        self.change_list(|list| list.remove(from_index, count))?;
        self.len -= to.saturating_sub(from_index);
        Ok(())
    }

    /// Removes single elements, named by their places in ascending order.
    ///
    /// # Errors
    /// As [`Edit::list_remove`].
    pub fn list_remove_each(&mut self, indices: &[u64]) -> Result<()> {
        self.change_list(|list| list.remove_each(indices))?;
        self.len -= indices.len() as u64;
        Ok(())
    }

    fn with_element(
        &mut self,
        element: &[u8],
        change: impl FnOnce(&mut List<'_>, Item<'_>) -> Result<()>,
    ) -> Result<()> {
        if element.len() <= layout::INLINE_MAX {
            self.store.heap.alloc.ensure()?;
            return self.change_list(|list| change(list, Item::Inline(element)));
        }
        let blob = self.write_member(&[], element)?;
        self.change_list(|list| change(list, Item::Long(blob)))
    }

    fn change_list(&mut self, change: impl FnOnce(&mut List<'_>) -> Result<()>) -> Result<()> {
        self.store.recycle(8);
        let cell = self.tree_cell();
        let before = self.bytes.saturating_sub(LIST_BYTES);
        let mut list = List::new(&mut self.store.heap, cell, before);
        let done = change(&mut list);
        let (gone, bytes) = (list.gone, list.bytes);
        self.bytes = if bytes == 0 { 0 } else { LIST_BYTES + bytes };
        for node in gone.nodes {
            self.store.drop_tree(Pile::LIVE, node, dropped::LIST)?;
        }
        for chunk in gone.chunks {
            self.store.drop_list_chunk(chunk)?;
        }
        gone.blobs.into_iter().try_for_each(|blob| self.store.free_blob(blob))?;
        done
    }
}

impl Store {
    /// Upper bound of what a new element of a list adds to [`Store::content_bytes`].
    pub fn element_cost(len: u64) -> u64 {
        list::element_bytes(len)
    }

    /// What a list in trees adds to [`Store::content_bytes`] beyond its elements.
    pub fn list_cost() -> u64 {
        LIST_BYTES
    }

    /// Frees a chunk that no list has any more; later, if its elements are many blobs.
    pub(crate) fn drop_list_chunk(&mut self, pointer: u64) -> Result<()> {
        if Chunk::read(&self.heap.mem, pointer)?.sum.long > 0 {
            return self.drop_tree(Pile::LIVE, pointer, dropped::LIST_CHUNK);
        }
        self.free_piece(Pile::LIVE, pointer, dropped::LIST_CHUNK)
    }
}
