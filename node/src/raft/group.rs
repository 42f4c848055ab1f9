//! A shard's group on a lone node: stamps what is submitted, logs it, applies it, answers it.
//!
//! **Flat combining.** Submissions go into a queue; whoever gets the driver's lock takes all that
//! is queued, makes it one entry, appends that to the log and applies what is durable, for everyone.
//! Whoever does not get the lock goes back to waiting: the holder looks at the queue once more after
//! it let go, so nothing is left behind. On a memory log an entry is durable when `append` returns,
//! and its submitter finds the answer without ever waiting. On a file the log's thread reports
//! entries durable in order and wakes one waiter, which applies for all.
//!
//! Lock order: driver, then engine, then a submission's batch, then the queue (held for a push or a
//! swap only). Readers take the engine's lock alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_engine::{ENGINE_VERSION, Engine, Eviction, Fatal};
use cairn_protocol::ids::{LogIndex, ShardId, Term};
use cairn_protocol::op::{ENTRY_HEADER_BYTES, EntryHeader, encode_entry_header};
use cairn_store::log::{Entry, EntryKind, Log, LogError};
use cairn_store::{Published, Sealed, StoreError};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::eviction::{self, Foreseen};
use super::long_read::Pinned;
use super::propose::{Guard, Submission};
use super::turn::Turn;
use crate::ops::clock;
use crate::ops::entropy::Seeds;
use crate::ops::metrics::{Counter, Hold, Shard as Stats};

/// Bytes of operations after which an entry takes no further submission.
const ENTRY_BYTES: usize = 1 << 20;
/// Operations after which it takes none, so that an epoch ends about when it should.
const ENTRY_OPS: u32 = 1024;

/// Places of dead blocks made free under one hold: some 100 us.
const RECYCLE_BLOCKS: usize = 1024;
/// Nodes of dropped trees freed between two looks at the clock, and for how long under one hold.
const RECLAIM_NODES: usize = 8;
const RECLAIM_NANOS: u64 = 100_000;

/// Why a group takes no more writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupError {
    /// What happened, at which index, and what to do.
    pub reason: String,
}

impl std::fmt::Display for GroupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for GroupError {}

/// An entry that was given to the log and is not applied yet.
#[derive(Debug)]
struct InFlight {
    index: u64,
    now_ms: u64,
    seed: u64,
    /// Those whose operations it holds, in order.
    submissions: Vec<Arc<Submission>>,
    foreseen: Foreseen,
}

/// What the holder of the driver's lock works with.
#[derive(Debug)]
struct Driver {
    term: Term,
    next_index: u64,
    /// Time in a shard never runs backwards.
    last_ms: u64,
    seeds: Seeds,
    /// What was taken from the queue and has no entry yet.
    taken: VecDeque<Arc<Submission>>,
    in_flight: VecDeque<InFlight>,
    /// Vectors of applied entries, for the next ones.
    spare: Vec<Vec<Arc<Submission>>>,
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// Where a group starts: after recovery.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The term it leads in.
    pub term: Term,
    /// The last index in log and engine.
    pub last_index: LogIndex,
}

/// One shard's group.
pub struct Group {
    shard: ShardId,
    /// A lone node leads in one term.
    term: Term,
    engine: RwLock<Engine>,
    log: Arc<Log>,
    queue: Mutex<VecDeque<Arc<Submission>>>,
    driver: Mutex<Driver>,
    /// The last index that the log reported durable.
    durable: AtomicU64,
    /// The first index in flight, `u64::MAX` when there is none: lets others see whether there is
    /// anything to apply without the driver's lock.
    first_in_flight: AtomicU64,
    stopped: AtomicBool,
    reason: OnceLock<GroupError>,
    on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
    /// Operations and bytes applied since the start, for the pace of the epochs.
    applied_ops: AtomicU64,
    applied_bytes: AtomicU64,
    /// Where those stood when the last epoch was sealed.
    sealed_ops: AtomicU64,
    sealed_bytes: AtomicU64,
    /// A sealed epoch is being made durable.
    committing: AtomicBool,
    /// Writers are a whole epoch ahead of the commit, and wait for it.
    paused: AtomicBool,
    /// Whoever applies an entry has let go of the engine in the middle of it.
    half_applied: AtomicBool,
    pace: OnceLock<Pace>,
    eviction: Mutex<Eviction>,
    /// Counted into by whoever holds the driver's lock.
    stats: Arc<Stats>,
    /// Counted into by the thread that commits.
    upkeep: Arc<Stats>,
}

/// How much an epoch may hold, and whom to tell when it does.
struct Pace {
    ops: AtomicU64,
    bytes: u64,
    hurry: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Group {
    /// A group of which this node is the only voter. `on_stop` is told once when the group stops
    /// because its log or its pool failed; `stats` take the holds of the write lock, the first those
    /// of applying, the second those of the thread that commits.
    pub fn new(
        shard: ShardId,
        engine: Engine,
        log: Arc<Log>,
        start: Start,
        [stats, upkeep]: [Arc<Stats>; 2],
        on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
    ) -> Arc<Group> {
        let driver = Driver {
            term: start.term,
            next_index: start.last_index.0 + 1,
            last_ms: engine.store().clock_ms(),
            seeds: Seeds::new(),
            taken: VecDeque::new(),
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            header: Vec::with_capacity(ENTRY_HEADER_BYTES),
            payload: Vec::new(),
        };
        Arc::new(Group {
            shard,
            term: start.term,
            engine: RwLock::new(engine),
            log,
            queue: Mutex::default(),
            driver: Mutex::new(driver),
            durable: AtomicU64::new(start.last_index.0),
            first_in_flight: AtomicU64::new(u64::MAX),
            stopped: AtomicBool::new(false),
            reason: OnceLock::new(),
            on_stop,
            applied_ops: AtomicU64::new(0),
            applied_bytes: AtomicU64::new(0),
            sealed_ops: AtomicU64::new(0),
            sealed_bytes: AtomicU64::new(0),
            committing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            half_applied: AtomicBool::new(false),
            pace: OnceLock::new(),
            eviction: Mutex::default(),
            stats,
            upkeep,
        })
    }

    /// The engine for reading. Held for a bounded run of reads and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Engine> {
        self.engine.read()
    }

    /// Ends the pool's epoch for a commit; None when nothing has changed. From here until
    /// [`Group::resume`] a full epoch of further writes makes writers wait.
    pub(super) fn seal(&self) -> Option<Sealed> {
        let mut engine = self.engine.write();
        // An epoch ends between two entries: a replay applies the next one from its start.
        while self.half_applied.load(Ordering::Relaxed) {
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            RwLockWriteGuard::bump(&mut engine);
        }
        let start = clock::now();
        let sealed = engine.store_mut().seal();
        if sealed.is_some() {
            self.committing.store(true, Ordering::SeqCst);
            self.sealed_ops.store(self.applied_ops(), Ordering::Relaxed);
            self.sealed_bytes.store(self.applied_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        sealed
    }

    /// What is there now, held for a read that takes long and needs no lock; `stats` are the
    /// calling thread's.
    pub fn pin(&self, stats: &Stats) -> Pinned {
        let mut engine = self.engine.write();
        let start = clock::now();
        let pinned = Pinned::of(&mut engine);
        stats.hold(Hold::Write, clock::nanos_since(start));
        pinned
    }

    /// Hands the pool what a commit has made durable.
    pub(super) fn release(&self, published: Published) {
        let mut engine = self.engine.write();
        let start = clock::now();
        engine.store_mut().release(published);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
    }

    /// The commit is over: lets writers that had to wait go on.
    pub(super) fn resume(&self) {
        self.committing.store(false, Ordering::SeqCst);
        if self.paused.swap(false, Ordering::SeqCst) {
            // Whoever commits must not drive: others would keep it busy, and nothing would commit.
            let first = self.queue.lock().front().cloned();
            if let Some(first) = first {
                first.wake();
            }
        }
    }

    /// Frees some of what was dropped; says whether there is more.
    pub(super) fn reclaim(&self) -> Result<bool, StoreError> {
        let mut engine = self.engine.write();
        let start = clock::now();
        let mut more = true;
        while more && clock::nanos_since(start) < RECLAIM_NANOS {
            more = engine.store_mut().reclaim(RECLAIM_NODES)?;
        }
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        Ok(more)
    }

    /// Makes some places free again that commits have released; says whether there are more.
    pub(super) fn recycle(&self) -> bool {
        let mut engine = self.engine.write();
        let start = clock::now();
        let more = engine.store_mut().recycle_dead(RECYCLE_BLOCKS);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        more
    }

    /// The shard's number.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The log that holds its entries.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The term that it leads in.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Operations applied since the start.
    pub fn applied_ops(&self) -> u64 {
        self.applied_ops.load(Ordering::Relaxed)
    }

    /// Why the group stopped, if it did.
    pub fn stop_reason(&self) -> Option<&GroupError> {
        self.reason.get()
    }

    /// Calls `hurry` when an epoch holds `ops` operations or `bytes` bytes of them. To be set once,
    /// before the first write.
    pub(super) fn set_pace(&self, ops: u64, bytes: u64, hurry: Box<dyn Fn() + Send + Sync>) {
        let pace = Pace { ops: AtomicU64::new(ops), bytes, hurry };
        // A second pace would be a mistake in the composition root; the first one stays.
        let _ = self.pace.set(pace);
    }

    /// How keys are chosen that go when memory is full.
    pub fn eviction(&self) -> Eviction {
        *self.eviction.lock()
    }

    /// Changes it, and what the sketch counts.
    pub fn set_eviction(&self, rules: Eviction) {
        *self.eviction.lock() = rules;
        self.read().recency().set_policy(rules.policy.recency());
    }

    /// Changes how many operations an epoch may hold.
    pub(super) fn set_epoch_ops(&self, ops: u64) {
        if let Some(pace) = self.pace.get() {
            pace.ops.store(ops, Ordering::Relaxed);
        }
    }

    /// Queues a batch and works on the queue. When this returns the batch may be done already
    /// ([`Submission::is_done`]); otherwise [`Submission::wait`] tells when.
    pub fn submit(self: &Arc<Self>, submission: &Arc<Submission>) {
        submission.start();
        if self.stopped.load(Ordering::Acquire) {
            return self.refuse(submission);
        }
        self.queue.lock().push_back(Arc::clone(submission));
        self.drive();
    }

    /// Proposes and applies what there is, unless another thread is at it.
    pub fn drive(self: &Arc<Self>) {
        while self.has_work() {
            let Some(mut driver) = self.driver.try_lock() else { return };
            self.propose_queued(&mut driver);
            self.apply_durable(&mut driver);
        }
    }

    fn has_work(&self) -> bool {
        !self.queue.lock().is_empty() && !self.paused.load(Ordering::SeqCst)
            || self.first_in_flight.load(Ordering::Acquire) <= self.durable.load(Ordering::Acquire)
    }

    /// Makes entries of all that is queued and gives them to the log.
    fn propose_queued(self: &Arc<Self>, driver: &mut Driver) {
        if self.paused.load(Ordering::SeqCst) {
            return;
        }
        std::mem::swap(&mut driver.taken, &mut *self.queue.lock());
        while !driver.taken.is_empty() {
            if self.stopped.load(Ordering::Acquire) {
                driver.taken.drain(..).for_each(|submission| self.refuse(&submission));
                return;
            }
            let entry = self.stamp(driver);
            if !entry.submissions.is_empty() {
                self.append(driver, entry);
            }
        }
    }

    /// Takes submissions for one entry and gives it time, seed and index. One without submissions
    /// has no index: all that there were have been answered here.
    fn stamp(&self, driver: &mut Driver) -> InFlight {
        let mut submissions = driver.spare.pop().unwrap_or_default();
        let (mut bytes, mut count, mut work) = (0, 0u32, 0u32);
        driver.last_ms = driver.last_ms.max(clock::wall_ms());
        let (evicting, foreseen) = self.make_room(driver);
        if let Some(evicting) = evicting {
            count += evicting.batch().write_count();
            submissions.push(evicting);
        }
        while bytes < ENTRY_BYTES
            && work < ENTRY_OPS
            && let Some(submission) = driver.taken.pop_front()
        {
            let mut batch = submission.batch();
            if batch.guard().is_some_and(|guard| is_broken(guard, driver, &submissions)) {
                batch.abort();
                drop(batch);
                submission.finish();
                continue;
            }
            bytes += batch.write_bytes();
            count += batch.write_count();
            work += batch.work();
            drop(batch);
            submissions.push(submission);
        }
        let (now_ms, index) = (driver.last_ms, driver.next_index);
        let seed = driver.seeds.next_seed();
        let header = EntryHeader { engine_version: ENGINE_VERSION, count, now_ms, seed };
        driver.header.clear();
        encode_entry_header(&mut driver.header, &header);
        driver.next_index += u64::from(!submissions.is_empty());
        InFlight { index, now_ms, seed, submissions, foreseen }
    }

    /// Room for the next entry, where keys may be given up for it.
    fn make_room(&self, driver: &mut Driver) -> (Option<Arc<Submission>>, Foreseen) {
        let rules = self.eviction();
        if !rules.is_on() {
            return (None, Foreseen::default());
        }
        let draw = (driver.last_ms, driver.seeds.next_seed());
        let engine = self.engine.read();
        let (mut bytes, mut work) = (0, 0);
        // As `stamp` will take them.
        let entry = driver.taken.iter().map_while(|submission| {
            let batch = submission.batch();
            let is_full = bytes >= ENTRY_BYTES || work >= ENTRY_OPS;
            (bytes, work) = (bytes + batch.write_bytes(), work + batch.work());
            (!is_full).then(|| eviction::need(&engine, &batch))
        });
        let in_flight = driver.in_flight.iter().map(|entry| &entry.foreseen);
        eviction::make_room(&engine, rules, draw, entry, in_flight)
    }

    /// Gives an entry to the log. A lone submission's bytes go there as they lie.
    fn append(self: &Arc<Self>, driver: &mut Driver, in_flight: InFlight) {
        driver.payload.clear();
        let alone = match in_flight.submissions.as_slice() {
            [alone] => Some(alone.batch()),
            several => {
                for submission in several {
                    driver.payload.extend_from_slice(submission.batch().writes());
                }
                None
            }
        };
        let body = alone.as_ref().map_or(driver.payload.as_slice(), |batch| batch.writes());
        let parts = [driver.header.as_slice(), body];
        let (term, index) = (driver.term, LogIndex(in_flight.index));
        let entry =
            Entry { shard: self.shard, term, index, kind: EntryKind::Normal, payload: &parts };
        if self.log.is_immediate() {
            let outcome = self.log.append_now(&[entry]);
            self.appended(in_flight.index, outcome);
        } else {
            let (group, first) = (Arc::clone(self), in_flight.submissions.first().cloned());
            let index = in_flight.index;
            let done = move |outcome| {
                group.appended(index, outcome);
                match first {
                    Some(first) => first.wake(),
                    None => group.drive(),
                }
            };
            self.log.append(&[entry], Box::new(done));
        }
        drop(alone);
        if driver.in_flight.is_empty() {
            self.first_in_flight.store(in_flight.index, Ordering::Release);
        }
        driver.in_flight.push_back(in_flight);
    }

    /// The log reports on an entry; it does so in order.
    fn appended(&self, index: u64, outcome: Result<(), LogError>) {
        match outcome {
            Ok(()) => drop(self.durable.fetch_max(index, Ordering::Release)),
            Err(error) => self.stop(format!(
                "log entry {index} could not be made durable: {error}; writes are refused until \
                 the node is restarted on a working medium"
            )),
        }
    }

    /// Applies in order what is durable; after a stop, answers everything with its reason.
    fn apply_durable(&self, driver: &mut Driver) {
        let durable = self.durable.load(Ordering::Acquire);
        while let Some(entry) = driver.in_flight.front() {
            let stopped = self.stopped.load(Ordering::Acquire);
            if entry.index > durable && !stopped {
                break;
            }
            let Some(mut entry) = driver.in_flight.pop_front() else { break };
            match stopped {
                true => entry.submissions.iter().for_each(|submission| self.refuse(submission)),
                false => self.apply(driver.term, &entry),
            }
            entry.submissions.clear();
            driver.spare.push(entry.submissions);
        }
        let next = driver.in_flight.front().map_or(u64::MAX, |entry| entry.index);
        self.first_in_flight.store(next, Ordering::Release);
    }

    fn apply(&self, term: Term, entry: &InFlight) {
        let (mut seed, mut bytes, mut ops) = (entry.seed, 0, 0);
        let mut turn = Turn::begin(&self.engine, &self.half_applied, &self.stats);
        for (at, submission) in entry.submissions.iter().enumerate() {
            let mut batch = submission.batch();
            if let Err(fatal) = batch.apply(&mut turn, entry.now_ms, seed) {
                drop(batch);
                drop(turn);
                self.halt(at_index(entry.index, &fatal));
                return entry.submissions[at..].iter().for_each(|left| self.refuse(left));
            }
            seed = seed.wrapping_add(batch.write_count().into());
            bytes += batch.write_bytes() as u64;
            ops += u64::from(batch.work());
            if batch.evicted() > 0 {
                self.stats.count(Counter::evicted_keys, batch.evicted().into());
            }
            batch.set_apply_nanos(turn.lap());
            drop(batch);
            if at + 1 < entry.submissions.len() {
                // Lets waiting readers in between two connections' batches.
                turn.give_way();
            }
        }
        turn.engine().finish_entry(term, LogIndex(entry.index), entry.now_ms);
        let tight = turn.engine().store().is_tight();
        turn.end();
        entry.submissions.iter().for_each(|submission| submission.finish());
        self.keep_pace(ops, bytes, tight);
    }

    /// Counts what was applied, and has the pool committed when an epoch is full or space is short.
    /// Who is a whole epoch ahead of the commit waits, so that a restart replays two at most; who
    /// finds space `tight` waits too, for what has died comes back with a commit.
    fn keep_pace(&self, ops: u64, bytes: u64, tight: bool) {
        // Only the holder of the driver's lock comes here: plain loads and stores do.
        let ops = self.applied_ops.load(Ordering::Relaxed) + ops;
        let bytes = self.applied_bytes.load(Ordering::Relaxed) + bytes;
        self.applied_ops.store(ops, Ordering::Relaxed);
        self.applied_bytes.store(bytes, Ordering::Relaxed);
        let Some(pace) = self.pace.get() else { return };
        let ops = ops - self.sealed_ops.load(Ordering::Relaxed);
        let bytes = bytes - self.sealed_bytes.load(Ordering::Relaxed);
        let epochs = (ops / pace.ops.load(Ordering::Relaxed).max(1)).max(bytes / pace.bytes);
        if tight || epochs >= 2 {
            // Before the word to commit, so that the commit's end finds the pause.
            self.paused.store(true, Ordering::SeqCst);
        }
        if tight || epochs >= 1 && !self.committing.load(Ordering::SeqCst) {
            return (pace.hurry)();
        }
        if epochs >= 1 {
            self.paused.store(true, Ordering::SeqCst);
            if !self.committing.load(Ordering::SeqCst) {
                // The commit ended in between, and whoever ended it may have seen no pause.
                (pace.hurry)();
            }
        }
    }

    /// Stops the group for good, and has the node told: what is in flight and all that comes is
    /// answered with the reason.
    pub fn stop(&self, reason: String) {
        if self.refuse_writes(reason)
            && let Some(reason) = self.reason.get()
        {
            (self.on_stop)(reason);
        }
    }

    /// Applies nothing more, for an operation could not be applied, and skipping it would be to
    /// invent another history. What can be read is served on.
    pub fn halt(&self, reason: String) {
        tracing::error!("{reason}; what can be read is served on");
        self.refuse_writes(reason);
    }

    /// False when writes are refused already, for another reason.
    fn refuse_writes(&self, reason: String) -> bool {
        if self.reason.set(GroupError { reason }).is_err() {
            return false;
        }
        self.stopped.store(true, Ordering::Release);
        self.paused.store(false, Ordering::SeqCst);
        // Makes `has_work` true, so that whoever drives next answers what is in flight.
        self.durable.store(u64::MAX - 1, Ordering::Release);
        true
    }

    fn refuse(&self, submission: &Arc<Submission>) {
        let reason = self.reason.get().map_or("the shard has stopped", |error| &error.reason);
        submission.batch().fail(&format!("MISCONF {reason}"));
        submission.finish();
    }
}

/// Whether what a transaction watched was changed, or may be by what is on its way before it.
fn is_broken(guard: &Guard, driver: &Driver, ahead: &[Arc<Submission>]) -> bool {
    let in_flight = driver.in_flight.iter().flat_map(|entry| &entry.submissions);
    let mut before = in_flight.chain(ahead);
    guard.term != driver.term
        || guard.watch.is_broken(driver.last_ms)
        || before.any(|submission| submission.batch().may_touch(&guard.watch))
}

fn at_index(index: u64, fatal: &Fatal) -> String {
    format!("log entry {index} could not be applied: {fatal}; this shard serves no more writes")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::super::recover::{self, Options, Recovery, SHARD};
    use super::*;
    use crate::ops::config::Durability;
    use crate::ops::metrics::Metrics;

    fn group(dir: &std::path::Path) -> Arc<Group> {
        let options = Options { dir, durability: Durability::Always, capacity_bytes: 64 << 20 };
        let Recovery { engine, log, start, .. } = recover::recover(options).expect("recovers");
        let metrics = Metrics::new(0);
        let stats = [metrics.shard(), metrics.shard()];
        Group::new(SHARD, engine, Arc::new(log), start, stats, Box::new(|_| ()))
    }

    #[test]
    fn no_epoch_ends_inside_an_entry() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        let sealed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let mut turn = Turn::begin(&group.engine, &group.half_applied, &group.stats);
            let flusher = scope.spawn(|| {
                group.seal();
                sealed.fetch_add(1, Ordering::SeqCst);
            });
            for _ in 0..20 {
                turn.lap();
                turn.give_way();
                std::thread::sleep(Duration::from_millis(2));
                assert_eq!(sealed.load(Ordering::SeqCst), 0);
            }
            turn.end();
            flusher.join().expect("seals in the end");
        });
        assert_eq!(sealed.into_inner(), 1);
    }

    #[test]
    fn nothing_is_sealed_of_an_entry_that_failed_half_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        drop(Turn::begin(&group.engine, &group.half_applied, &group.stats));
        group.stop("damage".into());
        assert!(group.seal().is_none());
    }
}
