//! Changing the hash or set at a key, whatever its form, and the step from one form to the other.

use cairn_store::{Encoding, Key, Meta, Record, Store, StoreError, Type, View};

use super::WriteContext;
use crate::data::gathered::Gathered;
use crate::data::members::{Members, MembersEdit, Stop, move_to_tree, require};
use crate::data::packed::{Packed, PackedBuf};
use crate::failure::Outcome;

/// What a change to members needs to know beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) ty: Type,
    /// The encoding of a collection that is made for it.
    pub(crate) fresh: Encoding,
    /// What it may add to the content, members counted as in a tree. 0: it only removes, and is
    /// never refused.
    pub(crate) cost: u64,
}

/// What is at a key.
struct Held<T> {
    meta: Meta,
    /// Bytes of content, as the store counts them.
    bytes: u64,
    form: Form<T>,
}

enum Form<T> {
    Packed,
    Tree,
    /// A tree that the change would leave as it is.
    Settled(T),
}

impl WriteContext<'_> {
    /// Changes the members at a key, which is made where there is none and goes when none are left.
    ///
    /// `settled` looks at a large collection first: an answer means that nothing would change, and
    /// saves a copy of the path. `change` returns its result and whether it changed anything; it
    /// starts over on a tree when the packed form is full.
    #[inline]
    pub(crate) fn change_members<T>(
        &mut self,
        key: &Key<'_>,
        plan: Plan,
        settled: impl FnOnce(&Members<'_>) -> Outcome<Option<T>>,
        mut change: impl FnMut(&mut MembersEdit<'_, '_>) -> Result<(T, bool), Stop>,
    ) -> Outcome<T> {
        let mut buf = PackedBuf::new();
        let held = self
            .find_in(self.db, key, |view, record| hold(view, record, plan.ty, &mut buf, settled))?;
        let Some(Held { meta, bytes, form }) = held else {
            let meta = Meta { ty: plan.ty, encoding: plan.fresh, deadline_ms: None };
            return self.change_packed(key, plan, meta, 0, buf, change);
        };
        match form {
            Form::Packed => self.change_packed(key, plan, meta, bytes, buf, change),
            Form::Settled(answer) => Ok(answer),
            Form::Tree => {
                self.reserve_for(plan, plan.cost)?;
                let done =
                    self.store.edit(self.db, key, |edit| change(&mut MembersEdit::Tree(edit)));
                let Some((answer, changed)) = done.map_err(Stop::into_failure)? else {
                    return Err(
                        StoreError::corrupt("a collection that is no longer there", 0).into()
                    );
                };
                if changed {
                    self.note_change(key);
                }
                Ok(answer)
            }
        }
    }

    /// What `look` makes of the hash or set at a key, if the key exists now.
    pub(crate) fn look_at_members<T>(
        &mut self,
        key: &Key<'_>,
        ty: Type,
        look: impl FnOnce(&Members<'_>) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        self.find_in(self.db, key, |view, record| look(&Members::of(view, record, ty)?))
    }

    /// Removes members, and the key with the last of them; returns how many there were.
    pub(crate) fn remove_members<'n>(
        &mut self,
        key: &Key<'_>,
        ty: Type,
        names: impl Iterator<Item = &'n [u8]> + Clone,
    ) -> Outcome<i64> {
        // Nothing is made where there is nothing to remove.
        let plan = Plan { ty, fresh: Encoding::Hashtable, cost: 0 };
        let none_is_there = |members: &Members<'_>| {
            for name in names.clone() {
                if members.contains(name)? {
                    return Ok(None);
                }
            }
            Ok(Some(0))
        };
        self.change_members(key, plan, none_is_there, |members| {
            let mut removed = 0;
            for name in names.clone() {
                removed += i64::from(members.remove(name)?);
            }
            Ok((removed, removed > 0))
        })
    }

    /// Makes the key a set with these members, none of them twice, whatever it was; without members
    /// there is no key. `refusable`: whether it may add to the content.
    pub(crate) fn put_set(
        &mut self,
        key: &Key<'_>,
        meta: Meta,
        members: &Gathered,
        refusable: bool,
    ) -> Outcome {
        if members.len() == 0 {
            if self.exists(key)? {
                self.remove(key)?;
            }
            return Ok(());
        }
        let mut buf = PackedBuf::new();
        if members.iter().all(|member| buf.push(member)) {
            if refusable {
                self.reserve(Store::cost(key.bytes.len(), buf.as_bytes().len() as u64))?;
            }
            self.store.put(self.db, key, meta, buf.as_bytes())?;
        } else {
            if refusable {
                let bytes = members.iter().map(|member| Store::member_cost(member.len(), 0));
                self.reserve(bytes.fold(Store::cost(key.bytes.len(), 0), u64::saturating_add))?;
            }
            self.store.build(self.db, key, meta, |edit| -> Outcome {
                for member in members.iter() {
                    edit.put(member, b"")?;
                }
                Ok(())
            })?;
        }
        self.note_change(key);
        Ok(())
    }

    #[inline]
    fn change_packed<T>(
        &mut self,
        key: &Key<'_>,
        plan: Plan,
        mut meta: Meta,
        bytes: u64,
        mut buf: PackedBuf,
        mut change: impl FnMut(&mut MembersEdit<'_, '_>) -> Result<(T, bool), Stop>,
    ) -> Outcome<T> {
        let encoding = &mut meta.encoding;
        match change(&mut MembersEdit::Packed { buf: &mut buf, ty: plan.ty, encoding }) {
            Ok((answer, changed)) => {
                if changed {
                    self.put_packed(key, plan, meta, bytes, &buf)?;
                }
                Ok(answer)
            }
            Err(Stop::Outgrown) => self.outgrow(key, plan, buf, change),
            Err(Stop::Failure(failure)) => Err(failure),
        }
    }

    fn put_packed(
        &mut self,
        key: &Key<'_>,
        plan: Plan,
        meta: Meta,
        old_bytes: u64,
        buf: &PackedBuf,
    ) -> Outcome {
        if buf.len() == 0 {
            self.remove(key)?;
            return Ok(());
        }
        let value = buf.as_bytes();
        let new_bytes = Store::cost(key.bytes.len(), value.len() as u64);
        self.reserve_for(plan, new_bytes.saturating_sub(old_bytes))?;
        self.store.put(self.db, key, meta, value)?;
        self.note_change(key);
        Ok(())
    }

    /// The change that the packed form had no room for, made on a tree of what was there before.
    #[cold]
    fn outgrow<T>(
        &mut self,
        key: &Key<'_>,
        plan: Plan,
        mut buf: PackedBuf,
        mut change: impl FnMut(&mut MembersEdit<'_, '_>) -> Result<(T, bool), Stop>,
    ) -> Outcome<T> {
        // What the attempt left in the buffer is of no use.
        let held = self.find_in(self.db, key, |view, record| {
            hold(view, record, plan.ty, &mut buf, |_| Ok(None::<T>))
        })?;
        let meta = match held {
            Some(held) => held.meta,
            None => {
                buf = PackedBuf::new();
                Meta { ty: plan.ty, encoding: plan.fresh, deadline_ms: None }
            }
        };
        let mut moved_bytes = Store::cost(key.bytes.len(), 0);
        Members::Packed(buf.view(), plan.ty).for_each(&mut |name, value| {
            moved_bytes += Store::member_cost(name.len(), value.len());
            Ok(true)
        })?;
        self.reserve_for(plan, plan.cost.saturating_add(moved_bytes))?;
        let done = self.store.build(self.db, key, meta, |edit| {
            move_to_tree(&buf, plan.ty, edit)?;
            change(&mut MembersEdit::Tree(edit))
        });
        let (answer, _) = done.map_err(Stop::into_failure)?;
        self.note_change(key);
        Ok(answer)
    }

    fn reserve_for(&mut self, plan: Plan, bytes: u64) -> Outcome {
        if plan.cost == 0 { Ok(()) } else { self.reserve(bytes) }
    }
}

#[inline]
fn hold<'v, T>(
    view: &View<'v>,
    record: &Record<'v>,
    ty: Type,
    buf: &mut PackedBuf,
    settled: impl FnOnce(&Members<'_>) -> Outcome<Option<T>>,
) -> Outcome<Held<T>> {
    require(record, ty)?;
    let form = match view.tree(record) {
        Some(tree) => match settled(&Members::Tree(tree))? {
            Some(answer) => Form::Settled(answer),
            None => Form::Tree,
        },
        None => {
            buf.load(&Packed::of(record)?);
            Form::Packed
        }
    };
    Ok(Held { meta: record.meta, bytes: record.bytes(), form })
}
