//! Which keys exist at a given time, and what a handler may do with them.
//!
//! A handler gets a [`ReadContext`] or a [`WriteContext`]: one database of the store as it looks at
//! `now_ms`. A key whose deadline has passed does not exist. Readers only look past it; a writer
//! that meets it deletes it, so that it is counted as expired once.

mod lists;
mod members;

pub(crate) use lists::cost_of;
pub(crate) use members::Plan;

use std::collections::BTreeSet;
use std::ops::Range;

use cairn_protocol::WireError;
use cairn_protocol::op::OpRef;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Encoding, Key, LongValue, Meta, Record, Store, Type, View};

use crate::apply::At;
use crate::commands::internal;
use crate::data::limits::Limits;
use crate::data::members::Members;
use crate::data::string;
use crate::effects::Effects;
use crate::expiry::has_passed;
use crate::failure::{Failure, Outcome};
use crate::recency::Recency;
use crate::watch::Watches;

/// Whether a lookup counts as a use of the key (`OBJECT IDLETIME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Use,
    /// For commands about the key, not about its value.
    Peek,
}

/// What a reading command sees.
pub(crate) struct ReadContext<'a> {
    pub(crate) view: View<'a>,
    pub(crate) recency: &'a Recency,
    pub(crate) db: Db,
    pub(crate) now_ms: u64,
    pub(crate) seed: u64,
    /// A key that was hashed before.
    pub(crate) hashed: Option<Key<'a>>,
    pub(crate) hold: Hold,
    /// The bytes of the reply that its reader is to take from the pool.
    pub(crate) lent: Option<Lent>,
    pub(crate) effects: Effects,
}

/// What keeps the root in place that a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The shard's lock, for which others wait: what takes long is put off.
    Lock,
    /// Something that nobody waits for, and that ends with the call.
    Call,
    /// A pin, which lasts until the reply has been sent: long values need not be copied.
    Pin,
}

/// Bytes of a long string that a reply consists of but for its first line and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// The string.
    pub value: LongValue,
    /// Which of its bytes; the range lies within it.
    pub range: Range<u64>,
}

/// Bytes of a string up to which they are copied under the lock: some 30 us, and less than a pin
/// costs, which takes the lock for writing and makes writers copy what they touch next.
const COPIED_BYTES_MAX: u64 = 256 << 10;

/// Elements that a reader may go through while others wait for the shard's lock: some 100 us.
const ELEMENTS_AT_ONCE_MAX: u64 = 1000;

impl<'a> ReadContext<'a> {
    /// On a root that is held as `hold` says.
    pub(crate) fn of_view(
        view: View<'a>,
        recency: &'a Recency,
        db: Db,
        at: &At,
        hold: Hold,
    ) -> ReadContext<'a> {
        let At { now_ms, seed } = *at;
        let effects = Effects::default();
        ReadContext { view, recency, db, now_ms, seed, hashed: None, hold, lent: None, effects }
    }

    /// To be asked before a reply about `elements` elements is begun: a reader that holds the
    /// shard's lock stops here when they are many, and starts over on a pinned root.
    #[inline]
    pub(crate) fn may_take(&self, elements: u64) -> Outcome {
        if self.hold != Hold::Lock || elements <= ELEMENTS_AT_ONCE_MAX {
            return Ok(());
        }
        Err(Failure::Deferred)
    }

    /// Replies with nothing but a part of a string; `range` lies within it. Long ones are put off
    /// until there is a pin, and lent then.
    #[inline]
    pub(crate) fn reply_with(
        &mut self,
        record: &Record<'_>,
        range: Range<u64>,
        w: &mut Writer<'_>,
    ) -> Outcome {
        let len_bytes = range.end - range.start;
        match (self.hold, record.value().as_long()) {
            (Hold::Lock, Some(_)) if len_bytes > COPIED_BYTES_MAX => Err(Failure::Deferred),
            (Hold::Pin, Some(value)) if len_bytes > COPIED_BYTES_MAX => {
                // What is damaged is noticed while there is an error to answer.
                record.value().read(range.clone(), |_| {})?;
                w.bulk_header(len_bytes as usize);
                self.lent = Some(Lent { value, range });
                Ok(())
            }
            _ => string::reply_range(record, range, w),
        }
    }

    /// The key's record, if it exists now; counts a hit or a miss.
    #[inline]
    pub(crate) fn find(&mut self, key: &[u8], touch: Touch) -> Outcome<Option<Record<'a>>> {
        let key = hashed_before(self.hashed, key).unwrap_or_else(|| self.view.key(key));
        match self.view.get(self.db, &key)? {
            Some(record) if self.exists(&record) => {
                self.effects.hits += 1;
                if touch == Touch::Use {
                    self.recency.touch(key.hash, self.now_ms);
                }
                Ok(Some(record))
            }
            _ => {
                self.effects.misses += 1;
                Ok(None)
            }
        }
    }

    /// The hash or set at the key, if the key exists now.
    #[inline]
    pub(crate) fn members(&mut self, key: &[u8], ty: Type) -> Outcome<Option<Members<'a>>> {
        match self.find(key, Touch::Use)? {
            Some(record) => Members::of(&self.view, &record, ty).map(Some),
            None => Ok(None),
        }
    }

    /// Whether a stored record is a key that exists now.
    #[inline]
    pub(crate) fn exists(&self, record: &Record<'_>) -> bool {
        !has_passed(record.deadline_ms(), self.now_ms)
    }
}

/// `hashed`, if it is of this very slice: its hash and slot need not be computed again.
#[inline]
fn hashed_before<'k>(hashed: Option<Key<'k>>, bytes: &[u8]) -> Option<Key<'k>> {
    hashed.filter(|key| std::ptr::eq(key.bytes, bytes))
}

/// What a writing command sees and changes.
pub(crate) struct WriteContext<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) recency: &'a Recency,
    /// Who is to be told of changes.
    pub(crate) watches: &'a Watches,
    /// When encodings change.
    pub(crate) limits: &'a mut Limits,
    pub(crate) room: &'a mut Room,
    /// Operations of this entry that are not to be executed, by number.
    pub(crate) denied: &'a mut BTreeSet<u32>,
    pub(crate) db: Db,
    pub(crate) now_ms: u64,
    /// Where the operation's choices come from.
    pub(crate) seed: u64,
    /// The operation, when some of its arguments are to be taken over from the stage.
    pub(crate) staged: Option<OpRef<'a>>,
    /// A key that was hashed before.
    pub(crate) hashed: Option<Key<'a>>,
    pub(crate) effects: Effects,
}

/// How much content is known to be admitted without asking the store again.
///
/// What is handed out is never more than what the store would admit at that moment, and when this
/// runs out the store decides: whether a write is admitted depends on content and limit alone,
/// though this differs between replicas.
#[derive(Debug, Default)]
pub(crate) struct Room(u64);

impl Room {
    /// Asking takes a look at every database, so it is done for this many bytes at once.
    const AHEAD_BYTES: u64 = 1 << 20;

    /// Whether `bytes` more of content are admitted.
    #[inline]
    fn take(&mut self, bytes: u64, store: &Store) -> bool {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => self.ask(bytes, store),
        }
    }

    #[cold]
    fn ask(&mut self, bytes: u64, store: &Store) -> bool {
        let ahead = store.room_for(bytes.saturating_add(Self::AHEAD_BYTES));
        self.0 = if ahead { Self::AHEAD_BYTES } else { 0 };
        ahead || store.room_for(bytes)
    }

    /// For changes that add content without having asked.
    pub(crate) fn forget(&mut self) {
        self.0 = 0;
    }
}

impl WriteContext<'_> {
    /// What a reading command would see in its place: it only looks past keys that have expired.
    pub(crate) fn as_reader(&self) -> ReadContext<'_> {
        ReadContext {
            view: self.store.view(),
            recency: self.recency,
            db: self.db,
            now_ms: self.now_ms,
            seed: self.seed,
            hashed: None,
            hold: Hold::Call,
            lent: None,
            effects: Effects::default(),
        }
    }

    /// The key with its slot and hash.
    #[inline]
    pub(crate) fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        match hashed_before(self.hashed, bytes) {
            Some(known) => Key { bytes, ..known },
            None => self.store.key(bytes),
        }
    }

    /// What `f` makes of the key's record, if the key exists now.
    #[inline]
    pub(crate) fn find<T>(
        &mut self,
        key: &Key<'_>,
        f: impl FnOnce(&Record<'_>) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        self.find_in(self.db, key, |_, record| f(record))
    }

    /// As [`find`](Self::find), in any database, and with the view that the record is of.
    #[inline]
    pub(crate) fn find_in<T>(
        &mut self,
        db: Db,
        key: &Key<'_>,
        f: impl for<'v> FnOnce(&View<'v>, &Record<'v>) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        let view = self.store.view();
        match view.get(db, key)? {
            None => return Ok(None),
            Some(record) if !has_passed(record.deadline_ms(), self.now_ms) => {
                return f(&view, &record).map(Some);
            }
            Some(_) => {}
        }
        self.store.remove(db, key)?;
        self.effects.expired += 1;
        Ok(None)
    }

    /// As [`find`](Self::find), counting a hit or a miss: for commands that reply with the value.
    pub(crate) fn read<T>(
        &mut self,
        key: &Key<'_>,
        f: impl FnOnce(&Record<'_>) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        let found = self.find(key, f)?;
        match found {
            Some(_) => self.effects.hits += 1,
            None => self.effects.misses += 1,
        }
        Ok(found)
    }

    /// Whether the key exists now.
    pub(crate) fn exists(&mut self, key: &Key<'_>) -> Outcome<bool> {
        self.exists_in(self.db, key)
    }

    /// As [`exists`](Self::exists), in another database.
    pub(crate) fn exists_in(&mut self, db: Db, key: &Key<'_>) -> Outcome<bool> {
        Ok(self.find_in(db, key, |_, _| Ok(()))?.is_some())
    }

    /// Makes sure that `bytes` more of content are admitted, or answers that memory is full.
    #[inline]
    pub(crate) fn reserve(&mut self, bytes: u64) -> Outcome {
        if self.room.take(bytes, self.store) { Ok(()) } else { Err(WireError::OutOfMemory.into()) }
    }

    /// Makes the key a string, whatever it was.
    #[inline]
    pub(crate) fn put_string(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        encoding: Encoding,
        deadline_ms: Option<u64>,
    ) -> Outcome {
        self.reserve(Store::cost(key.bytes.len(), value.len() as u64))?;
        let meta = Meta { ty: Type::String, encoding, deadline_ms };
        self.store.put(self.db, key, meta, value)?;
        self.note_change(key);
        Ok(())
    }

    /// Makes the key a string with the value that is argument `position`, or was staged for it. A
    /// deadline that has passed deletes the key instead.
    #[inline]
    pub(crate) fn set_string(
        &mut self,
        key: &Key<'_>,
        argv: Argv<'_>,
        position: usize,
        deadline_ms: Option<u64>,
    ) -> Outcome {
        if has_passed(deadline_ms, self.now_ms) {
            self.remove(key)?;
            return Ok(());
        }
        let value = &argv[position];
        if self.staged.is_some_and(|op| op.staged(position).is_some()) {
            return self.adopt_string(key, value, deadline_ms);
        }
        self.put_string(key, value, string::encoding_of(value), deadline_ms)
    }

    /// Takes a staged value over. A short one is set like any other, for its encoding's sake.
    fn adopt_string(&mut self, key: &Key<'_>, id: &[u8], deadline_ms: Option<u64>) -> Outcome {
        let stage = self.key(id);
        let Some(record) = self.store.get(Db::STAGE, &stage)? else {
            return Err(internal::missing());
        };
        if record.value().len() <= string::EMBSTR_BYTES_MAX as u64 {
            let value = string::bytes(&record)?.into_owned();
            return self.put_string(key, &value, string::encoding_of(&value), deadline_ms);
        }
        self.room.forget();
        let meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms };
        self.store.adopt(Db::STAGE, &stage, self.db, key, meta)?;
        self.note_change(key);
        Ok(())
    }

    /// Moves an existing key, replacing what is at its new place.
    pub(crate) fn rename(&mut self, from: &Key<'_>, to_db: Db, to: &Key<'_>) -> Outcome {
        self.room.forget();
        self.store.rename(self.db, from, to_db, to)?;
        self.watches.touch(self.db, from);
        self.note_change_in(to_db, to);
        Ok(())
    }

    /// Deletes the key, which need not exist; returns whether it was stored.
    pub(crate) fn remove(&mut self, key: &Key<'_>) -> Outcome<bool> {
        let removed = self.store.remove(self.db, key)?;
        if removed {
            self.effects.changed += 1;
            self.watches.touch(self.db, key);
        }
        Ok(removed)
    }

    /// Gives an existing key a deadline, or none; one that has passed deletes the key.
    pub(crate) fn set_deadline(&mut self, key: &Key<'_>, deadline_ms: Option<u64>) -> Outcome {
        if has_passed(deadline_ms, self.now_ms) {
            self.remove(key)?;
            return Ok(());
        }
        self.room.forget();
        self.store.set_deadline(self.db, key, deadline_ms)?;
        self.note_change(key);
        Ok(())
    }

    /// Counts a changed key and its use.
    #[inline]
    pub(crate) fn note_change(&mut self, key: &Key<'_>) {
        self.note_change_in(self.db, key);
    }

    /// As [`note_change`](Self::note_change), in another database.
    #[inline]
    pub(crate) fn note_change_in(&mut self, db: Db, key: &Key<'_>) {
        self.effects.changed += 1;
        self.recency.touch(key.hash, self.now_ms);
        self.watches.touch(db, key);
    }

    /// Tells who watches that all keys of `db` are about to go, and with `others` to be replaced by
    /// those of that database.
    pub(crate) fn note_change_of_all(&self, db: Db, others: Option<Db>) -> Outcome {
        Ok(self.watches.touch_all(self.store.view(), self.now_ms, db, others)?)
    }
}
