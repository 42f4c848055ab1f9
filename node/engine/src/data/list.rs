//! Lists: elements by their place. Packed or in a tree, one face.
//!
//! [`List`] reads, [`ListEdit`] changes. As in Redis, a list reports `listpack` until it would be
//! too long for one, and again when it has shrunk to half of that. How it is kept does not depend
//! on that. Redis counts what the nodes of its quicklist hold; here the whole list counts.

use cairn_store::list::listpack_len;
use cairn_store::{Edit, Encoding, Record, Tree, Type, Value, View};

use super::limits::ListLimit;
use super::members::{Stop, require};
use super::packed::{Damage, Packed, PackedBuf};
use crate::failure::Outcome;

/// Bytes of a listpack without entries.
const LISTPACK_EMPTY_BYTES: u64 = 7;

/// What a walk does with an element and its place; `false` ends it.
pub(crate) type Visit<'v> = dyn FnMut(u64, Value<'_>) -> cairn_store::Result<bool> + 'v;

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Left,
    Right,
}

/// A list, to read.
pub(crate) enum List<'a> {
    Packed(Packed<'a>),
    Tree(Tree<'a>),
}

impl<'a> List<'a> {
    /// The list at a key.
    #[inline]
    pub(crate) fn of(view: &View<'a>, record: &Record<'a>) -> Outcome<List<'a>> {
        require(record, Type::List)?;
        Ok(match view.tree(record) {
            Some(tree) => List::Tree(tree),
            None => List::Packed(Packed::of(record)?),
        })
    }

    /// Elements.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match self {
            List::Packed(packed) => packed.len() as u64,
            List::Tree(tree) => tree.len(),
        }
    }

    /// The place that an index means, which counts from the end when it is negative.
    pub(crate) fn place(&self, index: i64) -> Option<u64> {
        let from_end = if index < 0 { self.len() as i64 } else { 0 };
        u64::try_from(index.saturating_add(from_end)).ok().filter(|&place| place < self.len())
    }

    /// Shows `visit` the elements from place `from` on, or with `reverse` backwards, until it says
    /// `false`.
    pub(crate) fn walk(&self, from: u64, reverse: bool, visit: &mut Visit<'_>) -> Outcome {
        let mut place = if reverse { from.min(self.len().saturating_sub(1)) } else { from };
        let mut show = |element: Value<'_>| {
            let go_on = visit(place, element)?;
            place = if reverse { place.wrapping_sub(1) } else { place + 1 };
            Ok(go_on)
        };
        match self {
            List::Packed(packed) => walk_packed(packed, from as usize, reverse, &mut show),
            List::Tree(tree) => Ok(tree.elements(from, reverse, &mut show)?),
        }
    }

    /// Shows `visit` up to `count` elements from an end inwards.
    pub(crate) fn inwards(&self, end: End, count: u64, visit: &mut Visit<'_>) -> Outcome {
        let mut left = count.min(self.len());
        if left == 0 {
            return Ok(());
        }
        let reverse = end == End::Right;
        let from = if reverse { self.len() - 1 } else { 0 };
        self.walk(from, reverse, &mut |place, element| {
            left -= 1;
            Ok(visit(place, element)? && left > 0)
        })
    }

    /// Bytes the list would take in a listpack; when that is above `limit`, any number above it.
    fn listpack_bytes(&self, limit: u64) -> Outcome<u64> {
        match self {
            List::Packed(packed) => packed
                .iter()
                .try_fold(LISTPACK_EMPTY_BYTES, |sum, entry| Ok(sum + listpack_len(entry?))),
            List::Tree(tree) => Ok(tree.listpack_bytes(limit)?),
        }
    }
}

fn walk_packed(
    packed: &Packed<'_>,
    from: usize,
    reverse: bool,
    show: &mut dyn FnMut(Value<'_>) -> cairn_store::Result<bool>,
) -> Outcome {
    if !reverse {
        for entry in packed.iter().skip(from) {
            if !show(Value::Inline(entry?))? {
                break;
            }
        }
        return Ok(());
    }
    let until = from.saturating_add(1).min(packed.len());
    let entries: Vec<&[u8]> = packed.iter().take(until).collect::<Result<_, Damage>>()?;
    for entry in entries.into_iter().rev() {
        if !show(Value::Inline(entry))? {
            break;
        }
    }
    Ok(())
}

/// Whether a kept element is these bytes.
pub(crate) fn equals(element: Value<'_>, bytes: &[u8]) -> cairn_store::Result<bool> {
    if element.len() != bytes.len() as u64 {
        return Ok(false);
    }
    let (mut at, mut same) = (0, true);
    element.read(0..element.len(), |piece| {
        same &= bytes.get(at..at + piece.len()) == Some(piece);
        at += piece.len();
    })?;
    Ok(same)
}

/// A list, to change.
pub(crate) enum ListEdit<'e, 's> {
    Packed { buf: &'e mut PackedBuf, encoding: &'e mut Encoding },
    Tree(&'e mut Edit<'s>),
}

impl ListEdit<'_, '_> {
    /// Elements.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match self {
            ListEdit::Packed { buf, .. } => buf.len() as u64,
            ListEdit::Tree(edit) => edit.len(),
        }
    }

    fn listpack_bytes(&self, limit: u64) -> Result<u64, Stop> {
        Ok(match self {
            ListEdit::Packed { buf, .. } => List::Packed(buf.view()).listpack_bytes(limit)?,
            ListEdit::Tree(edit) => List::Tree(edit.tree()?).listpack_bytes(limit)?,
        })
    }

    fn encoding(&self) -> Encoding {
        match self {
            ListEdit::Packed { encoding, .. } => **encoding,
            ListEdit::Tree(edit) => edit.encoding(),
        }
    }

    fn set_encoding(&mut self, new: Encoding) {
        match self {
            ListEdit::Packed { encoding, .. } => **encoding = new,
            ListEdit::Tree(edit) => edit.set_encoding(new),
        }
    }

    /// To be called before so many elements of so many bytes in all are added: a listpack that they
    /// would make too long becomes a quicklist.
    #[inline]
    pub(crate) fn will_grow(
        &mut self,
        limit: ListLimit,
        added: u64,
        added_bytes: u64,
    ) -> Result<(), Stop> {
        let fits_anyhow = match self {
            // No entry takes more than twice its bytes in the packed form.
            ListEdit::Packed { buf, .. } => {
                LISTPACK_EMPTY_BYTES + 2 * buf.as_bytes().len() as u64 + added_bytes <= limit.bytes
            }
            ListEdit::Tree(_) => false,
        };
        let many = self.len().saturating_add(added) > limit.elements;
        if fits_anyhow && !many || self.encoding() != Encoding::Listpack {
            return Ok(());
        }
        if many || self.listpack_bytes(limit.bytes)?.saturating_add(added_bytes) > limit.bytes {
            self.set_encoding(Encoding::Quicklist);
        }
        Ok(())
    }

    /// To be called after elements were removed: a quicklist that has become short enough is a
    /// listpack again.
    #[inline]
    pub(crate) fn has_shrunk(&mut self, limit: ListLimit) -> Result<(), Stop> {
        let ListLimit { bytes, elements } = limit.shrunk();
        if self.encoding() == Encoding::Quicklist
            && (1..=elements).contains(&self.len())
            && (bytes == u64::MAX || self.listpack_bytes(bytes)? <= bytes)
        {
            self.set_encoding(Encoding::Listpack);
        }
        Ok(())
    }

    /// Puts an element at an end.
    #[inline]
    pub(crate) fn push(&mut self, end: End, element: &[u8]) -> Result<(), Stop> {
        let place = if end == End::Left { 0 } else { self.len() };
        self.insert(place, element)
    }

    /// Puts an element before the one at a place, or behind the last.
    #[inline]
    pub(crate) fn insert(&mut self, place: u64, element: &[u8]) -> Result<(), Stop> {
        match self {
            ListEdit::Packed { buf, .. } => {
                let fits = if place == buf.len() as u64 {
                    buf.push(element)
                } else {
                    buf.insert(buf.spot(place as usize)?, element)
                };
                if fits { Ok(()) } else { Err(Stop::Outgrown) }
            }
            ListEdit::Tree(edit) => Ok(edit.list_insert(place, element)?),
        }
    }

    /// Puts an element in the place of another.
    pub(crate) fn set(&mut self, place: u64, element: &[u8]) -> Result<(), Stop> {
        match self {
            ListEdit::Packed { buf, .. } => {
                let spot = buf.spot(place as usize)?;
                if buf.replace(spot, element)? { Ok(()) } else { Err(Stop::Outgrown) }
            }
            ListEdit::Tree(edit) => {
                edit.list_set(place, element)?;
                Ok(())
            }
        }
    }

    /// Removes elements from a place on.
    #[inline]
    pub(crate) fn remove(&mut self, from: u64, count: u64) -> Result<(), Stop> {
        match self {
            ListEdit::Packed { buf, .. } => {
                let spot = buf.spot(from as usize)?;
                Ok(buf.remove(spot, count as usize)?)
            }
            ListEdit::Tree(edit) => Ok(edit.list_remove(from, count)?),
        }
    }

    /// Removes elements at an end.
    #[inline]
    pub(crate) fn pop(&mut self, end: End, count: u64) -> Result<(), Stop> {
        let count = count.min(self.len());
        let from = if end == End::Left { 0 } else { self.len() - count };
        self.remove(from, count)
    }

    /// Removes single elements, named by their places in ascending order.
    pub(crate) fn remove_each(&mut self, places: &[u64]) -> Result<(), Stop> {
        match self {
            ListEdit::Packed { buf, .. } => {
                for &place in places.iter().rev() {
                    let spot = buf.spot(place as usize)?;
                    buf.remove(spot, 1)?;
                }
                Ok(())
            }
            ListEdit::Tree(edit) => Ok(edit.list_remove_each(places)?),
        }
    }
}

/// Moves what is packed into a tree.
pub(crate) fn move_to_tree(buf: &PackedBuf, edit: &mut Edit<'_>) -> Outcome {
    for entry in buf.view().iter() {
        edit.list_push_back(entry?)?;
    }
    Ok(())
}
