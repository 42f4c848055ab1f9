//! The door for replicated operations.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_protocol::WireError;
use cairn_protocol::command::CommandId;
use cairn_protocol::ids::{LogIndex, Term};
use cairn_protocol::op::OpRef;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Key, Store, StoreError};

use crate::commands::{Handler, handler, internal};
use crate::data::limits::Limits;
use crate::data::string;
use crate::effects::Effects;
use crate::failure::{Failure, Fatal, Outcome};
use crate::keyspace::{Room, WriteContext};
use crate::recency::{CELLS, Recency};
use crate::watch::Watches;

/// The behaviour this build means by an entry; entries name theirs
/// ([`EntryHeader::engine_version`](cairn_protocol::op::EntryHeader)).
pub const ENGINE_VERSION: u16 = 1;

/// All that an operation may know beside the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Milliseconds since the Unix epoch, stamped by the proposer. Time in a shard never runs
    /// backwards: an earlier one counts as the shard's clock.
    pub now_ms: u64,
    /// Where the operation's choices come from.
    pub seed: u64,
}

/// Redis over one shard's store.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) recency: Arc<Recency>,
    pub(crate) watches: Arc<Watches>,
    limits: Limits,
    room: Room,
    /// The number in its entry of the operation that comes next.
    number: u32,
    /// Those of the entry's that are answered `OOM` and not executed.
    denied: BTreeSet<u32>,
}

impl Engine {
    /// An engine over what the store holds. Nothing is read: opening takes no time.
    pub fn new(store: Store) -> Engine {
        let recency = Arc::new(Recency::new(CELLS));
        let limits = Limits::of(&store.view());
        Engine {
            store,
            recency,
            watches: Arc::default(),
            limits,
            room: Room::default(),
            number: 0,
            denied: BTreeSet::new(),
        }
    }

    /// The store, to look at.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store, to commit, configure and measure; what it holds is changed by operations only.
    pub fn store_mut(&mut self) -> &mut Store {
        // The limit may be about to change.
        self.room.forget();
        &mut self.store
    }

    /// Puts another store in the place of this one, as a replica does that gets a peer's; returns the
    /// old one. Whoever watches anything finds it changed; when keys were used is forgotten.
    pub fn replace_store(&mut self, store: Store) -> Store {
        let recency = Recency::new(CELLS);
        recency.set_policy(self.recency.policy());
        self.recency = Arc::new(recency);
        self.limits = Limits::of(&store.view());
        self.room.forget();
        self.watches.touch_every_one();
        std::mem::replace(&mut self.store, store)
    }

    /// When encodings change.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// When keys were used, for eviction and its policy.
    pub fn recency(&self) -> &Arc<Recency> {
        &self.recency
    }

    /// Executes one replicated operation and writes its reply into `w`.
    ///
    /// A command that is wrong, or for which there is no room, is answered with Redis's error and
    /// changes nothing.
    ///
    /// # Errors
    /// [`Fatal`] when the store is damaged or its medium fails: the operation was not executed, or
    /// in part, and this replica must apply nothing more.
    pub fn apply(&mut self, op: &OpRef<'_>, at: &At, w: &mut Writer<'_>) -> Result<Effects, Fatal> {
        self.apply_hashed(op, None, at, w)
    }

    /// As [`apply`](Self::apply), with the hash of one of its keys known from
    /// [`prefetch`](Self::prefetch): `key` borrows the very bytes that the operation borrows.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_hashed(
        &mut self,
        op: &OpRef<'_>,
        key: Option<Key<'_>>,
        at: &At,
        w: &mut Writer<'_>,
    ) -> Result<Effects, Fatal> {
        let (spec, argv) = (op.command.spec(), op.argv());
        let is_denied = op.command != CommandId::InternalExec && self.is_next_denied();
        if !spec.accepts(argv.len()) {
            w.error(&WireError::WrongArity(spec.name));
            return Ok(Effects::default());
        }
        let write = match handler(op.command) {
            Handler::Write(write) => write,
            Handler::Read(_) => return self.read_hashed(spec, Db(op.db), argv, key, at, w),
            Handler::Several => return self.exec(op, at, w),
            Handler::Elsewhere => {
                w.error_text("ERR this command is answered by the server, not by the log");
                return Ok(Effects::default());
            }
        };
        let start = w.position();
        let mut cx = WriteContext {
            now_ms: at.now_ms.max(self.store.clock_ms()),
            store: &mut self.store,
            recency: &self.recency,
            watches: &self.watches,
            limits: &mut self.limits,
            room: &mut self.room,
            denied: &mut self.denied,
            db: Db(op.db),
            seed: at.seed,
            staged: None,
            hashed: key,
            effects: Effects::default(),
        };
        let outcome = if is_denied {
            drop_stages(&mut cx, op).and(Err(WireError::OutOfMemory.into()))
        } else if op.has_staged() {
            apply_staged(&mut cx, op, |cx, argv| write(cx, argv, w))
        } else {
            write(&mut cx, argv, w)
        };
        let effects = cx.effects;
        match outcome {
            Ok(()) => Ok(effects),
            Err(failure) => {
                w.truncate_to(start);
                w.error(
                    &write_error(failure).map_err(|source| Fatal { command: spec.name, source })?,
                );
                Ok(effects)
            }
        }
    }

    /// Counts the next operation; says whether it is denied.
    #[inline]
    fn is_next_denied(&mut self) -> bool {
        let number = self.number;
        self.number = number.wrapping_add(1);
        !self.denied.is_empty() && self.denied.contains(&number)
    }

    /// Takes note that all operations up to a log entry have been applied, and of its time.
    pub fn finish_entry(&mut self, term: Term, index: LogIndex, now_ms: u64) {
        self.number = 0;
        self.denied.clear();
        let clock_ms = self.store.clock_ms().max(now_ms);
        self.store.set_applied(term, index, clock_ms);
    }

    /// The key with its slot and hash, for [`prefetch`](Self::prefetch) and what follows it.
    #[inline]
    pub fn hash<'k>(&self, key: &'k [u8]) -> Key<'k> {
        self.store.key(key)
    }

    /// Starts fetching what commands on these keys will touch, so that the cache misses of a batch
    /// overlap instead of following one another.
    pub fn prefetch(&self, keys: &[(Db, Key<'_>)]) {
        self.store.view().prefetch(keys);
    }
}

/// What of a writer's failures is a reply. The rest would let replicas diverge: a pool that has
/// physically no room left too, for another replica's may have, and the operation may have been done
/// in part. Whoever proposes operations sees to it that they find room (`demand`).
fn write_error(failure: Failure) -> Result<WireError, StoreError> {
    match failure {
        Failure::Reply(error) => Ok(error),
        Failure::Deferred => Ok(WireError::Static("ERR a write cannot be put off")),
        Failure::Store(error @ StoreError::TooLong { .. }) => {
            Ok(WireError::Custom(format!("ERR {error}")))
        }
        Failure::Store(error) => Err(error),
    }
}

/// Runs a command some of whose arguments were staged, and drops the stages whatever comes of it.
fn apply_staged(
    cx: &mut WriteContext<'_>,
    op: &OpRef<'_>,
    write: impl FnOnce(&mut WriteContext<'_>, Argv<'_>) -> Outcome,
) -> Outcome {
    let staged = || (0..op.argv().len()).filter(|&i| op.staged(i).is_some());
    let argv = op.argv();
    let mut all_there = true;
    for position in staged() {
        let key = cx.key(&argv[position]);
        all_there &= cx.store.get(Db::STAGE, &key)?.is_some();
    }
    let outcome = if !all_there {
        Err(internal::missing())
    } else if adopts_values(op.command) {
        with_stages(cx, op, |cx| write(cx, argv))
    } else {
        let copies = fetch(cx, op)?;
        let args: Vec<&[u8]> = argv
            .iter()
            .zip(&copies)
            .map(|(given, copy)| copy.as_deref().unwrap_or(given))
            .collect();
        write(cx, Argv::from(&args[..]))
    };
    drop_stages(cx, op)?;
    outcome
}

fn drop_stages(cx: &mut WriteContext<'_>, op: &OpRef<'_>) -> Outcome {
    let argv = op.argv();
    for position in (0..argv.len()).filter(|&i| op.staged(i).is_some()) {
        let key = cx.key(&argv[position]);
        cx.store.remove(Db::STAGE, &key)?;
    }
    Ok(())
}

/// Commands that set whole values, which they take over from the stage without copying.
pub(crate) fn adopts_values(command: CommandId) -> bool {
    use CommandId::{GetSet, MSet, MSetNx, PSetEx, Set, SetEx, SetNx};
    matches!(command, Set | SetNx | SetEx | PSetEx | GetSet | MSet | MSetNx)
}

fn with_stages<'a>(
    cx: &mut WriteContext<'_>,
    op: &OpRef<'a>,
    write: impl FnOnce(&mut WriteContext<'_>) -> Outcome,
) -> Outcome {
    let mut cx_with_stages = WriteContext {
        store: cx.store,
        recency: cx.recency,
        watches: cx.watches,
        limits: cx.limits,
        room: cx.room,
        denied: cx.denied,
        db: cx.db,
        now_ms: cx.now_ms,
        seed: cx.seed,
        staged: Some(*op),
        hashed: cx.hashed,
        effects: cx.effects,
    };
    let outcome = write(&mut cx_with_stages);
    cx.effects = cx_with_stages.effects;
    outcome
}

/// The staged arguments in one piece each; `None` where an argument was not staged.
fn fetch(cx: &WriteContext<'_>, op: &OpRef<'_>) -> Outcome<Vec<Option<Vec<u8>>>> {
    let argv = op.argv();
    (0..argv.len())
        .map(|position| {
            if op.staged(position).is_none() {
                return Ok(None);
            }
            let key = cx.key(&argv[position]);
            match cx.store.get(Db::STAGE, &key)? {
                Some(record) => Ok(Some(string::bytes(&record)?.into_owned())),
                None => Err(internal::missing()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use cairn_protocol::op::encode_op;
    use cairn_protocol::resp::Proto;

    use super::*;
    use crate::commands::test::Bench;

    fn op(command: CommandId, words: &[&[u8]]) -> Vec<u8> {
        let mut op = Vec::new();
        encode_op(&mut op, command, 0, Argv::from(words));
        op
    }

    #[test]
    fn an_engine_is_shared_by_readers_on_many_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Engine>();
    }

    #[test]
    fn operations_that_make_no_sense_are_answered_and_change_nothing() {
        let mut bench = Bench::new();
        let arity = b"-ERR wrong number of arguments for 'set' command\r\n";
        assert_eq!(bench.internal(|out| out.extend(op(CommandId::Set, &[b"SET", b"k"]))), arity);
        let reply = bench.internal(|out| out.extend(op(CommandId::Ping, &[b"PING"])));
        assert!(reply.starts_with(b"-ERR"));
        let reply = bench.internal(|out| out.extend(op(CommandId::InternalReclaim, &[b"x", b"y"])));
        assert!(reply.starts_with(b"-ERR"));
        bench.check(&[("DBSIZE", ":0")]);
    }

    #[test]
    fn a_read_among_the_operations_is_answered() {
        let mut bench = Bench::new();
        bench.check(&[("SET k v", "+OK")]);
        let reply = bench.internal(|out| out.extend(op(CommandId::Get, &[b"GET", b"k"])));
        assert_eq!(reply, b"$1\r\nv\r\n");
    }

    #[test]
    fn effects_count_what_happened() {
        let effects = |changed, expired, hits, misses| Effects {
            changed,
            expired,
            hits,
            misses,
            ..Effects::default()
        };
        let mut bench = Bench::new();
        let rows: &[(&[&[u8]], Effects)] = &[
            (&[b"SET", b"k", b"v"], effects(1, 0, 0, 0)),
            (&[b"GET", b"k"], effects(0, 0, 1, 0)),
            (&[b"GET", b"x"], effects(0, 0, 0, 1)),
            (&[b"MGET", b"k", b"x", b"k"], effects(0, 0, 2, 1)),
            (&[b"MSET", b"a", b"1", b"b", b"2"], effects(2, 0, 0, 0)),
            (&[b"SET", b"a", b"1", b"GET", b"PX", b"5"], effects(1, 0, 1, 0)),
            (&[b"SET", b"a", b"1", b"NX"], effects(0, 0, 0, 0)),
            (&[b"INCR", b"k"], effects(0, 0, 0, 0)),
            (&[b"DEL", b"k", b"b", b"x"], effects(2, 0, 0, 0)),
            (&[b"EXPIRE", b"x", b"1"], effects(0, 0, 0, 0)),
        ];
        for (words, wanted) in rows {
            bench.run(words);
            assert_eq!(bench.effects, *wanted, "{}", words[0].escape_ascii());
        }
        bench.advance_ms(5);
        bench.run(&[b"DEL", b"a"]);
        assert_eq!(bench.effects, effects(0, 1, 0, 0));
        bench.run(&[b"FLUSHALL"]);
        assert_eq!(bench.effects, Effects::default());
    }

    #[test]
    fn time_never_runs_backwards() {
        let mut bench = Bench::new();
        bench.check(&[("SET k v PX 100", "+OK")]);
        let now_ms = bench.now_ms();
        bench.engine.finish_entry(Term(1), LogIndex(1), now_ms + 1000);
        bench.check(&[("GET k", "$-1"), ("SET k v PX 100 GET", "$-1"), ("PTTL k", ":100")]);
        bench.engine.finish_entry(Term(1), LogIndex(2), now_ms);
        assert_eq!(bench.engine.store().clock_ms(), now_ms + 1000);
    }

    #[test]
    fn a_hash_known_before_changes_nothing_but_the_cost() {
        let mut bench = Bench::new();
        let at = At { now_ms: bench.now_ms(), seed: 0 };
        let set = op(CommandId::Set, &[b"SET", b"k", b"v"]);
        let set = OpRef::decode(&set).unwrap();
        let name = set.argv().get(1).unwrap();
        let key = bench.engine.hash(name);
        bench.engine.prefetch(&[(Db(0), key)]);
        let mut w = Writer::suppressed();
        bench.engine.apply_hashed(&set, Some(key), &at, &mut w).unwrap();
        for (other, wanted) in [(name, &b"$1\r\nv\r\n"[..]), (b"x", b"$-1\r\n")] {
            let (mut reply, argv) = (Vec::new(), [&b"GET"[..], other]);
            let mut w = Writer::new(&mut reply, Proto::Resp2);
            let (argv, spec) = (Argv::from(&argv), CommandId::Get.spec());
            bench.engine.read_hashed(spec, Db(0), argv, Some(key), &at, &mut w).unwrap();
            assert_eq!(reply, wanted);
        }
    }

    #[test]
    fn the_limit_is_met_whatever_was_asked_before() {
        // What one replica knows from asking ahead, another that has just started asks anew.
        let mut bench = Bench::full_at(3 << 20);
        let mut fresh = Bench::full_at(3 << 20);
        let value = vec![b'x'; 30_000];
        let mut refused = 0;
        for n in 0..150 {
            let name = format!("key:{n}");
            let reply = bench.run(&[b"SET", name.as_bytes(), &value]);
            fresh.engine.store_mut();
            assert_eq!(fresh.run(&[b"SET", name.as_bytes(), &value]), reply, "{n}");
            refused += u32::from(reply.starts_with(b"-OOM"));
        }
        assert!((20..100).contains(&refused), "{refused}");
    }

    #[test]
    fn what_grows_without_asking_is_counted() {
        let long_name = [b'n'; 200];
        let growing: [&[&[u8]]; 2] =
            [&[b"EXPIRE", b"KEY", b"100"], &[b"RENAME", b"KEY", &long_name]];
        for words in growing {
            let mut bench = Bench::new();
            let names: Vec<String> = (0..3000).map(|n| format!("key:{n}")).collect();
            for name in &names {
                bench.run(&[b"SET", name.as_bytes(), b"v"]);
            }
            bench.admit_no_more_than((1 << 20) + 20_000);
            bench.check(&[("SET asks v", "+OK")]);
            for name in &names {
                let target = format!("{}{name}", "n".repeat(200));
                let words: Vec<&[u8]> = words
                    .iter()
                    .map(|&word| match word {
                        b"KEY" => name.as_bytes(),
                        word if word == long_name => target.as_bytes(),
                        word => word,
                    })
                    .collect();
                assert!(!bench.run(&words).starts_with(b"-"));
            }
            let reply = bench.run(&[b"SET", b"large", &vec![b'x'; 1_000_000]]);
            assert!(reply.starts_with(b"-OOM"), "after {}", words[0].escape_ascii());
        }
    }
}
