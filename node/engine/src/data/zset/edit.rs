//! Changing sorted sets.

use std::ops::Range;

use cairn_store::{Edit, Encoding, Key, Meta, Record, Store, StoreError, Type, View};

use super::{Member, Pairs, SCORE_BYTES, ZSet, copy_of, encoding_of, kept_score, order, sort};
use crate::data::limits::Listpack;
use crate::data::members::Stop;
use crate::data::packed::{Damage, PACKED_BYTES_MAX, Packed, PackedBuf, entry_bytes};
use crate::failure::Outcome;
use crate::keyspace::WriteContext;

/// What an edit does about a key that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Leave,
}

/// A sorted set being changed.
pub(crate) struct Draft<'e, 's> {
    form: Form<'e, 's>,
    limit: Listpack,
    encoding: Encoding,
    recoded: bool,
    changed: bool,
}

enum Form<'e, 's> {
    Packed(&'e mut PackedBuf),
    Tree(&'e mut Edit<'s>),
}

impl<'e, 's> Draft<'e, 's> {
    fn new(form: Form<'e, 's>, limit: Listpack, encoding: Encoding) -> Draft<'e, 's> {
        Draft { form, limit, encoding, recoded: false, changed: false }
    }

    /// The set as it is now.
    pub(crate) fn view(&self) -> Outcome<ZSet<'_>> {
        Ok(match &self.form {
            Form::Packed(buf) => ZSet::Packed(buf.view()),
            Form::Tree(edit) => ZSet::Tree(edit.tree()?),
        })
    }

    /// Takes note that so many members may come: Redis changes the encoding at once.
    pub(crate) fn expect(&mut self, members: usize) {
        if members as u64 > self.limit.entries {
            self.recode();
        }
    }

    /// Gives a member a score; `is_new` says whether it is a member yet.
    pub(crate) fn put(&mut self, name: &[u8], score: f64, is_new: bool) -> Result<(), Stop> {
        if is_new && (self.limit.is_long(name) || self.view()?.len() >= self.limit.entries) {
            self.recode();
        }
        let score = kept_score(score, self.encoding);
        match &mut self.form {
            Form::Packed(buf) => put_packed(buf, name, score, is_new)?,
            Form::Tree(edit) => drop(edit.rank_put(name, score)?),
        }
        self.changed = true;
        Ok(())
    }

    /// Takes a member out; returns whether it was one.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Result<bool, Stop> {
        let removed = match &mut self.form {
            Form::Packed(buf) => remove_packed(buf, name)?,
            Form::Tree(edit) => edit.rank_remove(name)?.is_some(),
        };
        self.changed |= removed;
        Ok(removed)
    }

    /// Takes out the members of a span that lies within the set.
    pub(crate) fn remove_span(&mut self, span: Range<u64>) -> Result<(), Stop> {
        if span.is_empty() {
            return Ok(());
        }
        let count = span.end - span.start;
        match &mut self.form {
            Form::Packed(buf) => {
                let from = buf.spot(span.start as usize * 2)?;
                buf.remove(from, count as usize * 2)?;
            }
            Form::Tree(edit) => remove_from_tree(edit, span)?,
        }
        self.changed = true;
        Ok(())
    }

    fn recode(&mut self) {
        self.recoded |= self.encoding == Encoding::Listpack;
        self.encoding = Encoding::Skiplist;
    }
}

/// Members are taken out of a tree so many at a time: their names are copied before.
const REMOVED_AT_ONCE: u64 = 1024;

fn remove_from_tree(edit: &mut Edit<'_>, span: Range<u64>) -> Result<(), Stop> {
    let mut left = span.end - span.start;
    let mut names: Vec<Vec<u8>> = Vec::new();
    while left > 0 {
        let count = left.min(REMOVED_AT_ONCE);
        let some = span.start..span.start + count;
        ZSet::Tree(edit.tree()?).visit(some, false, &mut |name, _| names.push(name.to_vec()))?;
        for name in names.drain(..) {
            edit.rank_remove(&name)?;
        }
        left -= count;
    }
    Ok(())
}

fn put_packed(buf: &mut PackedBuf, name: &[u8], score: f64, is_new: bool) -> Result<(), Stop> {
    if !is_new {
        remove_packed(buf, name)?;
    }
    let packed = buf.view();
    let mut pairs = Pairs::of(&packed);
    let mut spot = pairs.spot();
    while let Some(pair) = pairs.next() {
        let (member, its_score) = pair?;
        if order((its_score, member), (score, name)).is_gt() {
            break;
        }
        spot = pairs.spot();
    }
    // The score first: the member is put before it.
    if buf.insert(spot, &score.to_le_bytes()) && buf.insert(spot, name) {
        Ok(())
    } else {
        Err(Stop::Outgrown)
    }
}

fn remove_packed(buf: &mut PackedBuf, name: &[u8]) -> Result<bool, Damage> {
    let packed = buf.view();
    let mut pairs = Pairs::of(&packed);
    loop {
        let spot = pairs.spot();
        match pairs.next() {
            None => return Ok(false),
            Some(pair) if pair?.0 != name => {}
            Some(_) => {
                buf.remove(spot, 2)?;
                return Ok(true);
            }
        }
    }
}

/// What is at a key before an edit.
struct Stored<T> {
    meta: Meta,
    /// Bytes of content, as the store counts them.
    bytes: u64,
    form: StoredForm<T>,
}

enum StoredForm<T> {
    Packed,
    Tree,
    /// A tree that the edit would leave as it is.
    Settled(T),
}

impl<T> Stored<T> {
    fn nothing() -> Stored<T> {
        let meta = Meta { ty: Type::ZSet, encoding: Encoding::Listpack, deadline_ms: None };
        Stored { meta, bytes: 0, form: StoredForm::Packed }
    }
}

/// What an edit needs to know beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) missing: Missing,
    /// The most that it adds to a tree. 0: it only removes, and is never refused.
    pub(crate) cost: u64,
}

impl Plan {
    /// An edit that only removes.
    pub(crate) const REMOVAL: Plan = Plan { missing: Missing::Leave, cost: 0 };

    fn reserve(&self, cx: &mut WriteContext<'_>, bytes: u64) -> Outcome {
        if self.cost == 0 { Ok(()) } else { cx.reserve(bytes) }
    }
}

/// Runs `change` on the sorted set at a key; an empty one does not stay. `None` when there is no
/// key and it is not to be made.
///
/// `settled` looks at a tree first: an answer means that nothing would change, and saves a copy of
/// the path. `change` is run again from the start when what it adds does not fit into the packed
/// form.
pub(crate) fn edit<T>(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    plan: Plan,
    settled: impl FnOnce(&ZSet<'_>) -> Outcome<Option<T>>,
    mut change: impl FnMut(&mut Draft<'_, '_>) -> Result<T, Stop>,
) -> Outcome<Option<T>> {
    let mut buf = PackedBuf::new();
    let found = cx.find_in(cx.db, key, |view, record| stored(view, record, &mut buf, settled))?;
    let Stored { meta, bytes, form } = match found {
        None if plan.missing == Missing::Leave => return Ok(None),
        found => found.unwrap_or_else(Stored::nothing),
    };
    let done = match form {
        StoredForm::Settled(done) => Ok(done),
        StoredForm::Tree => edit_tree(cx, key, plan, &mut change),
        StoredForm::Packed => match edit_packed(cx, key, plan, meta, buf, bytes, &mut change) {
            Err(Stop::Outgrown) => unpack(cx, key, plan, meta, &mut change),
            done => done,
        },
    };
    done.map(Some).map_err(Stop::into_failure)
}

fn stored<'v, T>(
    view: &View<'v>,
    record: &Record<'v>,
    buf: &mut PackedBuf,
    settled: impl FnOnce(&ZSet<'_>) -> Outcome<Option<T>>,
) -> Outcome<Stored<T>> {
    let form = match ZSet::of(view, record)? {
        ZSet::Packed(packed) => {
            buf.load(&packed);
            StoredForm::Packed
        }
        tree @ ZSet::Tree(_) => match settled(&tree)? {
            Some(done) => StoredForm::Settled(done),
            None => StoredForm::Tree,
        },
    };
    Ok(Stored { meta: record.meta, bytes: record.bytes(), form })
}

fn edit_packed<T>(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    plan: Plan,
    meta: Meta,
    mut buf: PackedBuf,
    bytes_before: u64,
    change: &mut impl FnMut(&mut Draft<'_, '_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let mut draft = Draft::new(Form::Packed(&mut buf), cx.limits.zset(), meta.encoding);
    let done = change(&mut draft)?;
    let Draft { encoding, recoded, changed, .. } = draft;
    if buf.len() == 0 {
        if changed {
            cx.remove(key)?;
        }
        return Ok(done);
    }
    if changed || recoded {
        let bytes = buf.as_bytes();
        let cost = Store::cost(key.bytes.len(), bytes.len() as u64);
        plan.reserve(cx, cost.saturating_sub(bytes_before))?;
        cx.store.put(cx.db, key, Meta { encoding, ..meta }, bytes)?;
    }
    if changed {
        cx.note_change(key);
    }
    Ok(done)
}

/// Makes a tree of a packed set, and changes it.
fn unpack<T>(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    plan: Plan,
    meta: Meta,
    change: &mut impl FnMut(&mut Draft<'_, '_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let members = cx.find(key, |record| copy_of(&ZSet::Packed(Packed::of(record)?)))?;
    let members = members.unwrap_or_default();
    plan.reserve(cx, tree_cost(key, &members) + plan.cost)?;
    let limit = cx.limits.zset();
    let (done, _) = cx.store.build(cx.db, key, meta, |edit| {
        put_all(edit, &members)?;
        change_tree(edit, limit, change)
    })?;
    cx.note_change(key);
    Ok(done)
}

fn edit_tree<T>(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    plan: Plan,
    change: &mut impl FnMut(&mut Draft<'_, '_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    plan.reserve(cx, plan.cost)?;
    let limit = cx.limits.zset();
    let done = cx.store.edit(cx.db, key, |edit| change_tree(edit, limit, change))?;
    let Some((done, changed)) = done else {
        return Err(StoreError::corrupt("a sorted set that is no tree any more", 0).into());
    };
    if changed {
        cx.note_change(key);
    }
    Ok(done)
}

/// Runs the change; returns what it returned, and whether it changed a member.
fn change_tree<T>(
    edit: &mut Edit<'_>,
    limit: Listpack,
    change: &mut impl FnMut(&mut Draft<'_, '_>) -> Result<T, Stop>,
) -> Result<(T, bool), Stop> {
    let encoding = edit.encoding();
    let mut draft = Draft::new(Form::Tree(edit), limit, encoding);
    let done = change(&mut draft)?;
    let Draft { encoding, recoded, changed, .. } = draft;
    if recoded {
        edit.set_encoding(encoding);
    }
    Ok((done, changed))
}

/// The most that a member adds to the content of a tree.
pub(crate) fn member_cost(name: &[u8]) -> u64 {
    Store::ranked_cost(name.len())
}

/// What a tree of these members costs.
fn tree_cost(key: &Key<'_>, members: &[Member]) -> u64 {
    let members: u64 = members.iter().map(|(name, _)| member_cost(name)).sum();
    Store::cost(key.bytes.len(), 0) + members
}

fn put_all(edit: &mut Edit<'_>, members: &[Member]) -> Outcome {
    for (name, score) in members {
        edit.rank_put(name, *score)?;
    }
    Ok(())
}

/// Makes the key a sorted set of these members, which are all different, whatever it was. Of none
/// it makes no key.
pub(crate) fn replace(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    mut members: Vec<Member>,
) -> Outcome {
    if members.is_empty() {
        if cx.exists(key)? {
            cx.remove(key)?;
        }
        return Ok(());
    }
    let longest = members.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let encoding = encoding_of(cx.limits.zset(), members.len() as u64, longest);
    members.iter_mut().for_each(|(_, score)| *score = kept_score(*score, encoding));
    sort(&mut members);
    let meta = Meta { ty: Type::ZSet, encoding, deadline_ms: None };
    match pack(&members) {
        Some(buf) => {
            let bytes = buf.as_bytes();
            cx.reserve(Store::cost(key.bytes.len(), bytes.len() as u64))?;
            cx.store.put(cx.db, key, meta, bytes)?;
        }
        None => {
            cx.reserve(tree_cost(key, &members))?;
            cx.store.build(cx.db, key, meta, |edit| put_all(edit, &members))?;
        }
    }
    cx.note_change(key);
    Ok(())
}

/// The packed form of members in order, if they fit into one.
fn pack(members: &[Member]) -> Option<PackedBuf> {
    // Without this, a large set would be packed as far as it goes first.
    let mut left = PACKED_BYTES_MAX;
    for (name, _) in members {
        left = left.checked_sub(entry_bytes(name.len()) + entry_bytes(SCORE_BYTES))?;
    }
    let mut buf = PackedBuf::new();
    let mut push = |(name, score): &Member| buf.push(name) && buf.push(&score.to_le_bytes());
    members.iter().all(&mut push).then_some(buf)
}
