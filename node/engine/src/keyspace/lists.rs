//! Changing the list at a key, whatever its form, and the step from one form to the other.

use cairn_store::{Encoding, Key, Meta, Store, StoreError, Type};

use super::{ReadContext, Touch, WriteContext};
use crate::data::list::{List, ListEdit, move_to_tree};
use crate::data::members::{Stop, require};
use crate::data::packed::{Packed, PackedBuf};
use crate::failure::Outcome;

/// What adding elements of these lengths may add to the content. Without elements, 0: what only
/// removes is never refused.
pub(crate) fn cost_of<'e>(elements: impl Iterator<Item = &'e [u8]>) -> u64 {
    elements.fold(0, |sum, element| sum.saturating_add(Store::element_cost(element.len() as u64)))
}

/// A list made where there is none.
const FRESH: Meta = Meta { ty: Type::List, encoding: Encoding::Listpack, deadline_ms: None };

impl<'a> ReadContext<'a> {
    /// The list at the key, if the key exists now.
    #[inline]
    pub(crate) fn list(&mut self, key: &[u8]) -> Outcome<Option<List<'a>>> {
        match self.find(key, Touch::Use)? {
            Some(record) => List::of(&self.view, &record).map(Some),
            None => Ok(None),
        }
    }
}

impl WriteContext<'_> {
    /// What `read` makes of the list at the key, if the key exists now.
    pub(crate) fn read_list<T>(
        &mut self,
        key: &Key<'_>,
        read: impl FnOnce(&List<'_>) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        self.find_in(self.db, key, |view, record| read(&List::of(view, record)?))
    }

    /// Changes the list at a key, which is made where there is none and goes when nothing is left
    /// of it. `cost` is what the change may add to the content, elements counted as in a tree.
    /// `change` must change something; it starts over on a tree when the packed form is full.
    #[inline]
    pub(crate) fn change_list<T>(
        &mut self,
        key: &Key<'_>,
        cost: u64,
        mut change: impl FnMut(&mut ListEdit<'_, '_>) -> Result<T, Stop>,
    ) -> Outcome<T> {
        let mut buf = PackedBuf::new();
        let held = self.hold_list(key, &mut buf)?;
        let (mut meta, bytes) = match held {
            Some((_, _, true)) => {
                self.reserve_unless_free(cost, cost)?;
                let done = self.store.edit(self.db, key, |edit| change(&mut ListEdit::Tree(edit)));
                let Some(answer) = done.map_err(Stop::into_failure)? else {
                    return Err(StoreError::corrupt("a list that is no longer there", 0).into());
                };
                self.note_change(key);
                return Ok(answer);
            }
            Some((meta, bytes, false)) => (meta, bytes),
            None => (FRESH, 0),
        };
        let encoding = &mut meta.encoding;
        match change(&mut ListEdit::Packed { buf: &mut buf, encoding }) {
            Ok(answer) => {
                self.put_list(key, meta, cost, bytes, &buf)?;
                Ok(answer)
            }
            Err(Stop::Outgrown) => self.outgrow_list(key, cost, change),
            Err(Stop::Failure(failure)) => Err(failure),
        }
    }

    /// Reads the packed list at a key into `buf`; says how it is kept, how many bytes of content
    /// it is, and whether it is in a tree.
    #[inline]
    fn hold_list(
        &mut self,
        key: &Key<'_>,
        buf: &mut PackedBuf,
    ) -> Outcome<Option<(Meta, u64, bool)>> {
        self.find_in(self.db, key, |view, record| {
            require(record, Type::List)?;
            let is_tree = view.tree(record).is_some();
            if !is_tree {
                buf.load(&Packed::of(record)?);
            }
            Ok((record.meta, record.bytes(), is_tree))
        })
    }

    fn put_list(
        &mut self,
        key: &Key<'_>,
        meta: Meta,
        cost: u64,
        old_bytes: u64,
        buf: &PackedBuf,
    ) -> Outcome {
        if buf.len() == 0 {
            self.remove(key)?;
            return Ok(());
        }
        let value = buf.as_bytes();
        let new_bytes = Store::cost(key.bytes.len(), value.len() as u64);
        self.reserve_unless_free(cost, new_bytes.saturating_sub(old_bytes))?;
        self.store.put(self.db, key, meta, value)?;
        self.note_change(key);
        Ok(())
    }

    /// The change that the packed form had no room for, made on a tree of what was there before.
    #[cold]
    fn outgrow_list<T>(
        &mut self,
        key: &Key<'_>,
        cost: u64,
        mut change: impl FnMut(&mut ListEdit<'_, '_>) -> Result<T, Stop>,
    ) -> Outcome<T> {
        // What the attempt left in the buffer is of no use.
        let mut buf = PackedBuf::new();
        let meta = self.hold_list(key, &mut buf)?.map_or(FRESH, |(meta, ..)| meta);
        let mut moved_bytes = Store::cost(key.bytes.len(), 0) + Store::list_cost();
        for entry in buf.view().iter() {
            moved_bytes += Store::element_cost(entry?.len() as u64);
        }
        self.reserve_unless_free(cost, cost.saturating_add(moved_bytes))?;
        let done = self.store.build(self.db, key, meta, |edit| {
            move_to_tree(&buf, edit)?;
            change(&mut ListEdit::Tree(edit))
        });
        let answer = done.map_err(Stop::into_failure)?;
        self.note_change(key);
        Ok(answer)
    }

    /// What costs nothing is not refused, even where it takes some room for a while.
    #[inline]
    fn reserve_unless_free(&mut self, cost: u64, bytes: u64) -> Outcome {
        if cost == 0 { Ok(()) } else { self.reserve(bytes) }
    }
}
