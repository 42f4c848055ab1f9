//! Who wants to know when a key changes: WATCH.
//!
//! Writers tell of each key that they change. While nobody watches that is one look at a number;
//! nothing here decides what an operation does, so it is no part of the replicated state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cairn_protocol::command::keys::keys_of;
use cairn_protocol::command::{CommandId, Place};
use cairn_protocol::op::{OpRef, operations};
use cairn_store::{Db, Key, StoreError, View};
use parking_lot::Mutex;

use crate::apply::Engine;
use crate::expiry::has_passed;

/// What one client watches.
#[derive(Debug, Default)]
pub struct Watch {
    touched: AtomicBool,
    keys: Mutex<Watched>,
}

/// Keys by name, as they were when the watch began.
#[derive(Debug, Default)]
struct Watched {
    /// In which databases, with the name's hash.
    places: BTreeMap<Vec<u8>, Vec<(Db, u64)>>,
    count: usize,
    /// When the first of those that existed expires.
    deadline_ms: Option<u64>,
}

impl Watch {
    /// How many keys it watches.
    pub fn len(&self) -> usize {
        self.keys.lock().count
    }

    /// Whether it watches none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a watched key was changed, or has expired by now. What operations that are not
    /// applied yet will change, [`may_be_touched_by`](Self::may_be_touched_by) tells.
    pub fn is_broken(&self, now_ms: u64) -> bool {
        self.touched.load(Ordering::Acquire) || has_passed(self.keys.lock().deadline_ms, now_ms)
    }

    /// Whether an operation might change a watched key; it may turn out not to.
    pub fn may_be_touched_by(&self, op: &OpRef<'_>) -> bool {
        let keys = self.keys.lock();
        keys.count > 0 && keys.concerned_by(op)
    }
}

impl Watched {
    /// Adds a key, unless it is there.
    fn add(&mut self, db: Db, name: &[u8], hash: u64, deadline_ms: Option<u64>) -> bool {
        let places = self.places.entry(name.to_vec()).or_default();
        if places.iter().any(|place| place.0 == db) {
            return false;
        }
        places.push((db, hash));
        self.count += 1;
        self.deadline_ms = self.deadline_ms.into_iter().chain(deadline_ms).min();
        true
    }

    /// Whether `op` names one of the keys, in whichever database, or means all there are.
    fn concerned_by(&self, op: &OpRef<'_>) -> bool {
        use CommandId::{
            InternalDeny, InternalDropStages, InternalEvict, InternalExec, InternalExpire,
            InternalLimits, InternalMemory, InternalReclaim, InternalStage, SnapshotCreate,
            SnapshotDrop,
        };
        let (spec, argv) = (op.command.spec(), op.argv());
        match op.command {
            // Expired keys are told by their deadlines; a stage is no key, nor is a snapshot.
            InternalStage | InternalDropStages | InternalReclaim | InternalExpire
            | InternalLimits | InternalMemory | InternalDeny | SnapshotCreate | SnapshotDrop => {
                false
            }
            InternalEvict => argv.iter().skip(2).any(|name| self.places.contains_key(name)),
            InternalExec => operations(argv.get(1).unwrap_or_default())
                .any(|part| part.is_ok_and(|part| self.concerned_by(&part))),
            _ if spec.place != Place::Write => false,
            _ if spec.keys.is_empty() => true,
            _ => keys_of(spec, argv).any(|at| self.places.contains_key(&argv[at])),
        }
    }
}

/// All that is watched, by database and hash.
type ByKey = BTreeMap<(Db, u64), Vec<Arc<Watch>>>;

/// The watches of all clients.
#[derive(Debug, Default)]
pub struct Watches {
    /// How many keys are watched: writers look here first.
    count: AtomicUsize,
    by_key: Mutex<ByKey>,
}

impl Watches {
    /// How many keys are watched, a key that several watch counted as often.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&self, watch: &Arc<Watch>, db: Db, key: &Key<'_>, deadline_ms: Option<u64>) {
        let mut by_key = self.by_key.lock();
        if watch.keys.lock().add(db, key.bytes, key.hash, deadline_ms) {
            by_key.entry((db, key.hash)).or_default().push(Arc::clone(watch));
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends a watch: it is then as a new one.
    pub fn remove(&self, watch: &Arc<Watch>) {
        let mut by_key = self.by_key.lock();
        let keys = std::mem::take(&mut *watch.keys.lock());
        for place in keys.places.into_values().flatten() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            let Some(watchers) = by_key.get_mut(&place) else { continue };
            // Once for each key: two keys of one hash put it there twice.
            if let Some(at) = watchers.iter().position(|other| Arc::ptr_eq(other, watch)) {
                watchers.swap_remove(at);
            }
            if watchers.is_empty() {
                by_key.remove(&place);
            }
        }
        watch.touched.store(false, Ordering::Release);
    }

    /// Takes note of a changed key.
    #[inline]
    pub(crate) fn touch(&self, db: Db, key: &Key<'_>) {
        // Exact, though relaxed: who begins to watch holds the shard's lock for reading.
        if self.count.load(Ordering::Relaxed) > 0 {
            self.touch_watched(db, key.hash);
        }
    }

    #[cold]
    fn touch_watched(&self, db: Db, hash: u64) {
        for watch in self.by_key.lock().get(&(db, hash)).into_iter().flatten() {
            watch.touched.store(true, Ordering::Release);
        }
    }

    /// Takes note that all there is may have changed.
    pub(crate) fn touch_every_one(&self) {
        for watch in self.by_key.lock().values().flatten() {
            watch.touched.store(true, Ordering::Release);
        }
    }

    /// Takes note that all keys of `db` go, and with SWAPDB those of `others` come instead. Only a
    /// key that exists before or after counts as changed, as in Redis.
    pub(crate) fn touch_all(
        &self,
        view: View<'_>,
        now_ms: u64,
        db: Db,
        others: Option<Db>,
    ) -> Result<(), StoreError> {
        if self.is_empty() {
            return Ok(());
        }
        let exists = |db, name: &[u8]| -> Result<bool, StoreError> {
            let found = view.get(db, &view.key(name))?;
            Ok(found.is_some_and(|record| !has_passed(record.deadline_ms(), now_ms)))
        };
        let by_key = self.by_key.lock();
        let in_db = by_key.range((db, 0)..=(db, u64::MAX)).flat_map(|(_, watches)| watches);
        let mut watches: Vec<&Arc<Watch>> = in_db.collect();
        watches.sort_unstable_by_key(|watch| Arc::as_ptr(watch));
        watches.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for watch in watches {
            let keys = watch.keys.lock();
            let here = keys.places.iter().filter(|(_, places)| places.iter().any(|p| p.0 == db));
            for (name, _) in here {
                if exists(db, name)? || others.map_or(Ok(false), |others| exists(others, name))? {
                    watch.touched.store(true, Ordering::Release);
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Engine {
    /// The watches of all clients.
    pub fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// Adds a key to what `watch` watches, from here on.
    ///
    /// # Errors
    /// When the key's place in the store is damaged.
    pub fn watch(
        &self,
        watch: &Arc<Watch>,
        db: Db,
        name: &[u8],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let key = self.store().key(name);
        let record = self.store().get(db, &key)?;
        // One that has expired is as good as gone: that it is cleared away changes nothing.
        let deadline_ms = record
            .and_then(|record| record.deadline_ms())
            .filter(|at| !has_passed(Some(*at), now_ms));
        self.watches.add(watch, db, &key, deadline_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::op::encode_op;
    use cairn_protocol::resp::Argv;

    use super::*;
    use crate::commands::test::Bench;
    use crate::{encode_evict, encode_exec, encode_reclaim};

    struct Watcher {
        bench: Bench,
        watch: Arc<Watch>,
    }

    impl Watcher {
        fn new(setup: &[&str]) -> Watcher {
            let mut bench = Bench::new();
            for command in setup {
                bench.run(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>());
            }
            Watcher { bench, watch: Arc::default() }
        }

        fn watch(&self, names: &[&str]) {
            for name in names {
                let now_ms = self.bench.now_ms();
                self.bench
                    .engine
                    .watch(&self.watch, self.bench.db, name.as_bytes(), now_ms)
                    .unwrap();
            }
        }

        fn run(&mut self, command: &str) {
            self.bench.run(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        }

        fn is_broken(&self) -> bool {
            self.watch.is_broken(self.bench.now_ms())
        }
    }

    #[test]
    fn what_changes_a_watched_key_is_noticed_and_nothing_else() {
        let rows: &[(&str, bool)] = &[
            ("SET k v", true),
            ("SET other v", false),
            ("SET k v NX", false),
            ("APPEND k x", true),
            ("DEL k", true),
            ("DEL none", false),
            ("GET k", false),
            ("EXPIRE k 100", true),
            ("PERSIST k", false),
            ("GETDEL k", true),
            ("MSET other 1 k 2", true),
            ("RENAME k other", true),
            ("RENAME other k", true),
            ("COPY other k REPLACE", true),
            ("COPY k other REPLACE", false),
            ("COPY other k DB 1", false),
            ("MOVE k 1", true),
            ("MOVE other 1", false),
            ("FLUSHDB", true),
            ("FLUSHALL", true),
            ("SWAPDB 0 1", true),
            ("SWAPDB 2 1", false),
            ("INCR k", false),
        ];
        for (command, wanted) in rows {
            let mut watcher = Watcher::new(&["SET k old", "SET other old"]);
            watcher.watch(&["k", "none"]);
            watcher.run(command);
            assert_eq!(watcher.is_broken(), *wanted, "{command}");
        }
    }

    #[test]
    fn a_key_that_does_not_exist_is_not_flushed() {
        let mut watcher = Watcher::new(&["SET other v"]);
        watcher.watch(&["k"]);
        watcher.run("FLUSHALL");
        watcher.run("FLUSHDB");
        watcher.run("SWAPDB 0 1");
        assert!(!watcher.is_broken());
        watcher.bench.db = Db(1);
        watcher.run("SET k v");
        assert!(!watcher.is_broken());
        watcher.run("SWAPDB 0 1");
        assert!(watcher.is_broken(), "it came with the other database");
        watcher.bench.db = Db(0);
        watcher.watch(&["k"]);
        watcher.bench.db = Db(1);
        let watch = Arc::default();
        watcher.bench.engine.watch(&watch, Db(1), b"k", 0).unwrap();
        watcher.run("COPY other k DB 0 REPLACE");
        assert!(!watch.is_broken(0));
    }

    #[test]
    fn an_expired_key_breaks_the_watch_unless_it_had_expired_before() {
        let mut watcher = Watcher::new(&["SET gone v PX 10", "SET goes v PX 20"]);
        watcher.bench.advance_ms(10);
        watcher.watch(&["gone"]);
        watcher.run("GET gone");
        watcher.bench.internal(|out| encode_reclaim(out, 10));
        assert!(!watcher.is_broken());
        watcher.watch(&["goes"]);
        watcher.bench.advance_ms(9);
        assert!(!watcher.is_broken());
        watcher.bench.advance_ms(1);
        assert!(watcher.is_broken());
        watcher.bench.engine.watches().remove(&watcher.watch);
        assert!(!watcher.is_broken());
        watcher.watch(&["gone"]);
        watcher.run("SET gone again");
        assert!(watcher.is_broken());
    }

    #[test]
    fn a_watch_that_ended_is_told_nothing() {
        let mut watcher = Watcher::new(&[]);
        watcher.watch(&["k", "k", "l"]);
        let other = Arc::default();
        watcher.bench.engine.watch(&other, Db(0), b"k", 0).unwrap();
        assert_eq!((watcher.watch.len(), watcher.bench.engine.watches().len()), (2, 3));
        let watches = Arc::clone(watcher.bench.engine.watches());
        watches.remove(&watcher.watch);
        assert_eq!((watcher.watch.len(), watches.len()), (0, 1));
        watcher.run("SET k v");
        assert!(!watcher.is_broken() && other.is_broken(0));
        watches.remove(&other);
        assert!(watches.is_empty() && watches.by_key.lock().is_empty());
    }

    #[test]
    fn operations_on_their_way_are_judged_by_the_keys_they_name() {
        let watcher = Watcher::new(&[]);
        let op = |words: &str, command: CommandId| {
            let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
            let mut op = Vec::new();
            encode_op(&mut op, command, 0, Argv::from(&words[..]));
            op
        };
        let may = |op: &[u8]| watcher.watch.may_be_touched_by(&OpRef::decode(op).unwrap());
        let set = op("SET k v", CommandId::Set);
        assert!(!may(&set), "nothing is watched");
        watcher.watch(&["k"]);
        assert!(may(&set));
        assert!(!may(&op("SET l v", CommandId::Set)));
        assert!(!may(&op("GET k", CommandId::Get)));
        assert!(may(&op("MSET l v k v", CommandId::MSet)));
        assert!(may(&op("FLUSHDB", CommandId::FlushDb)));
        let mut exec = Vec::new();
        encode_exec(&mut exec, &set);
        assert!(may(&exec));
        let mut reclaim = Vec::new();
        encode_reclaim(&mut reclaim, 9);
        assert!(!may(&reclaim));
        let mut evict = Vec::new();
        encode_evict(&mut evict, Db(0), false, [&b"l"[..]]);
        assert!(!may(&evict));
        evict.clear();
        encode_evict(&mut evict, Db(0), false, [&b"l"[..], b"k"]);
        assert!(may(&evict));
    }
}
