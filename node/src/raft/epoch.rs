//! Commits the pool in the background: seals an epoch under the lock, makes it durable outside of
//! it, purges the log behind it, and frees what FLUSHALL and its like have dropped. In between, it
//! evacuates slabs that are nearly empty, and gives the free end of the file back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_store::{Committer, Demand, Evacuation, Leaked, Progress, StoreError};
use parking_lot::{Condvar, Mutex};

pub use super::commits::CommitStats;
use super::commits::Commits;
use super::group::Group;
use crate::ops::clock;

/// When to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At least so often while anything changes.
    every: Every,
    /// Sooner after so many operations: a restart replays two epochs at most.
    ops: Ops,
}

/// How long an epoch lasts where nothing ends it sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Every {
    /// So long.
    Fixed(Duration),
    /// So long that commits take a small part of the time.
    ByCost,
}

/// How many operations an epoch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ops {
    /// So many.
    Fixed(u64),
    /// As many as a restart can replay at once.
    ByReplay,
}

/// Sooner after so many bytes of operations.
const EPOCH_BYTES: u64 = 64 << 20;
/// Operations of an epoch on files, where a commit costs syncs.
const OPS_ON_FILES: u64 = 200_000;
/// How long an epoch on files lasts: so many times what the commit before took, within these. (At
/// 100 ms whatever a commit takes, SETs at pipeline 16 lost a quarter; by this rule nothing.)
const COMMITS_PER_EPOCH: u32 = 8;
const EPOCH_ON_FILES: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(1000));
const EPOCH_ON_MEMORY: Duration = Duration::from_millis(100);
/// What replaying two epochs may take, so that a restart stays under 50 ms.
const REPLAY_US: u64 = 35_000;
/// An operation on pages that were touched, with the new ones that it takes.
const OPERATION_US: f64 = 3.0;
/// The first touch of a page maps sixteen around it, on two cores at once.
const FIRST_TOUCH_US: f64 = 3.0;
const FIRST_TOUCH_BYTES: u64 = 64 << 10;
/// First touches of an operation in a pool too large for two of them to meet.
const TOUCHES: f64 = 2.5;

impl Pace {
    /// What suits the medium, where the operator has not said otherwise.
    pub fn new(is_memory: bool, every_ms: Option<u64>, ops: Option<u64>) -> Pace {
        let (usual, usual_ops) = match is_memory {
            true => (Every::Fixed(EPOCH_ON_MEMORY), Ops::ByReplay),
            false => (Every::ByCost, Ops::Fixed(OPS_ON_FILES)),
        };
        let every = every_ms.map_or(usual, |ms| Every::Fixed(Duration::from_millis(ms)));
        Pace { every, ops: ops.map_or(usual_ops, Ops::Fixed) }
    }

    /// How long an epoch may last when the commit before took `commit`.
    fn every(self, commit: Duration) -> Duration {
        match self.every {
            Every::Fixed(every) => every,
            Every::ByCost => (commit * COMMITS_PER_EPOCH).clamp(EPOCH_ON_FILES.0, EPOCH_ON_FILES.1),
        }
    }

    /// How many operations an epoch may hold while the pool has `pool_bytes`. The larger the pool,
    /// the more pages a replay touches for the first time; longer epochs make writes cheaper.
    fn epoch_ops(self, pool_bytes: u64) -> u64 {
        let budget = REPLAY_US as f64;
        match self.ops {
            Ops::Fixed(ops) => ops,
            Ops::ByReplay => {
                let all_touched = (pool_bytes / FIRST_TOUCH_BYTES) as f64 * FIRST_TOUCH_US;
                let small_pool = (budget - all_touched) / (2.0 * OPERATION_US);
                let large_pool = budget / (2.0 * (OPERATION_US + TOUCHES * FIRST_TOUCH_US));
                small_pool.max(large_pool) as u64
            }
        }
    }
}

/// What the thread is asked to do.
#[derive(Debug, Default)]
struct Asked {
    commit: bool,
    stop: bool,
}

#[derive(Debug, Default)]
struct Bell {
    asked: Mutex<Asked>,
    ring: Condvar,
}

/// The thread that commits.
pub struct Flusher {
    bell: Arc<Bell>,
    stats: Arc<CommitStats>,
    handle: JoinHandle<Result<(), StoreError>>,
}

/// Between two slices of evacuation that nobody waits for: it takes a fifth of a core at most.
const EVACUATION_PAUSE: Duration = Duration::from_micros(400);
/// Slices between two commits at the least, however hard writers press for the next.
const EVACUATION_SLICES: u32 = 4;
/// Commits in a row after which evacuation still has no room, and is given up.
const EVACUATION_WAITS: u32 = 4;

/// Commits in a row, while writers wait for room, that each free what was dropped for as long as they
/// took: what one of them frees is of use two later.
const RECLAIM_ROUNDS: u32 = 4;
/// That long at the least, where commits cost next to nothing.
const RECLAIM_LEAST: Duration = Duration::from_millis(5);

/// Extents swept of an interrupted commit's records between two commits.
const SWEEP_EXTENTS: u64 = 16;

impl Flusher {
    /// Starts committing `group`'s pool.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(group: Arc<Group>, committer: Committer, pace: Pace) -> std::io::Result<Flusher> {
        let bell = Arc::<Bell>::default();
        let ringer = Arc::clone(&bell);
        let hurry = move || {
            ringer.asked.lock().commit = true;
            ringer.ring.notify_one();
        };
        let ops = pace.epoch_ops(group.read().store().usage().extents_bytes);
        group.set_pace(ops, EPOCH_BYTES, Box::new(hurry));
        let commits = Commits::new(Arc::clone(&group), committer);
        let stats = Arc::clone(&commits.stats);
        let (asked, pass) = (Arc::clone(&bell), Evacuation::default());
        let told = Told::default();
        let mut worker = Worker { group, commits, pace, bell: asked, pass, told };
        let thread = std::thread::Builder::new().name("cairn-epochs".into());
        let handle = thread.spawn(move || worker.run())?;
        Ok(Flusher { bell, stats, handle })
    }

    /// What commits have cost.
    pub fn stats(&self) -> Arc<CommitStats> {
        Arc::clone(&self.stats)
    }

    /// Commits what there is, marks the pool as stopped in order, and ends the thread. Nothing may
    /// be submitted to the group any more.
    ///
    /// # Errors
    /// When the last commit failed: the log still holds what it would have made durable.
    pub fn stop(self) -> Result<(), StoreError> {
        self.bell.asked.lock().stop = true;
        self.bell.ring.notify_one();
        match self.handle.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Stopped("the committing thread panicked".into())),
        }
    }
}

struct Worker {
    group: Arc<Group>,
    commits: Commits,
    pace: Pace,
    bell: Arc<Bell>,
    pass: Evacuation,
    told: Told,
}

/// What the log was told already: damage that is met again and again is told once.
#[derive(Default)]
struct Told {
    leak: bool,
    evacuation: bool,
    reclaiming: bool,
    room: bool,
    sweep: bool,
}

impl Told {
    fn leaked(&mut self, leaked: Leaked) {
        let Some(at) = leaked.first_at.filter(|_| !self.leak) else { return };
        self.leak = true;
        tracing::error!(
            "byte {at} of the pool is damaged, and what was deleted there cannot be freed: no data is \
             lost by that, but its room is; `cairn check --deep` on the stopped node tells how much, \
             and a pool restored from a backup or a peer has it again"
        );
    }
}

/// Tells, the first time, of what keeps the background from some of its work. That is no reason to
/// stop: what is there is served on, and commits go on.
fn tell_once(told: &mut bool, what: &str, error: &StoreError) {
    if !std::mem::replace(told, true) {
        tracing::error!("{what}: {error}");
    }
}

impl Worker {
    fn run(&mut self) -> Result<(), StoreError> {
        loop {
            let is_last = self.wait();
            if self.group.stop_reason().is_some() {
                // What is in memory may be half an operation: the log has what counts.
                return Ok(());
            }
            // Whatever came after the last commit would be of an epoch that is used again.
            let worked = if is_last { self.commits.commit() } else { self.work() };
            if let Err(error) = worked {
                self.group.stop(format!(
                    "the pool could not be committed: {error}; what was acknowledged is in the log: \
                     restart the node on a working medium"
                ));
                return Err(error);
            }
            if is_last && self.group.stop_reason().is_none() {
                return self.close();
            }
        }
    }

    /// Marks the pool as stopped in order, unless it has changed since the last commit: then the
    /// next start goes by the log, as after a crash.
    fn close(&mut self) -> Result<(), StoreError> {
        let (events, _) = self.group.read().store().epoch_load();
        if events == 0 { self.commits.committer.close() } else { Ok(()) }
    }

    /// Waits for the time or the word to commit, and evacuates meanwhile; true when it is the last
    /// one.
    fn wait(&mut self) -> bool {
        let commit_us = self.commits.stats.last_us.load(Ordering::Relaxed);
        let every = self.pace.every(Duration::from_micros(commit_us));
        let until = clock::now() + every;
        let mut slices = 0;
        loop {
            // Before the first look at the clock: where writers are never idle the word to commit has
            // come already, and there would never be time for it.
            let has_more = self.group.stop_reason().is_none() && self.evacuate_some();
            slices += 1;
            if has_more && slices < EVACUATION_SLICES {
                std::thread::yield_now();
                continue;
            }
            let pause = if has_more { EVACUATION_PAUSE } else { every };
            if let Some(is_last) = self.is_asked(until, pause) {
                return is_last;
            }
        }
    }

    /// Waits for `pause`, and no longer than `until`; whether it is the last time, if the time has
    /// come or the word.
    fn is_asked(&self, until: Instant, pause: Duration) -> Option<bool> {
        let mut asked = self.bell.asked.lock();
        if !asked.commit && !asked.stop {
            let rest = until.saturating_duration_since(clock::now());
            self.bell.ring.wait_for(&mut asked, pause.min(rest));
        }
        let is_due = asked.commit || asked.stop || clock::now() >= until;
        asked.commit &= !is_due;
        is_due.then_some(asked.stop)
    }

    /// A slice of evacuation, if it is worth its while; says whether more can be done at once.
    fn evacuate_some(&mut self) -> bool {
        if !self.pass.is_running() && !self.group.read().store().should_evacuate(false) {
            return false;
        }
        let progress = self.evacuate(false);
        self.tell_evacuated();
        if progress == Progress::Waits {
            self.recycle();
        }
        progress != Progress::Waits
    }

    fn evacuate(&mut self, last_resort: bool) -> Progress {
        self.group.evacuate(&mut self.pass, last_resort).unwrap_or_else(|error| {
            tell_once(&mut self.told.evacuation, "evacuation was given up", &error);
            self.group.abandon_evacuation(&mut self.pass);
            Progress::Done
        })
    }

    /// Evacuates until there is `wanted` room, or slabs again, or none can be had, while writers wait.
    fn evacuate_now(&mut self, wanted: Option<&Demand>) -> Result<(), StoreError> {
        let mut waits = 0;
        while !self.has_room(wanted)
            && waits < EVACUATION_WAITS
            && self.group.stop_reason().is_none()
        {
            let can_help =
                self.pass.is_running() || self.group.read().store().should_evacuate(true);
            if !can_help {
                return Ok(());
            }
            match self.evacuate(true) {
                Progress::Waits => {
                    waits += 1;
                    self.commits.commit()?;
                    self.recycle();
                }
                _ => waits = 0,
            }
            std::thread::yield_now();
        }
        if waits == EVACUATION_WAITS {
            self.group.stop_evacuation(&mut self.pass);
        }
        self.tell_evacuated();
        Ok(())
    }

    fn has_room(&mut self, wanted: Option<&Demand>) -> bool {
        let Some(wanted) = wanted else { return !self.group.read().store().is_cramped() };
        self.group.look_for_room(wanted).unwrap_or_else(|error| {
            tell_once(&mut self.told.room, "not all room of the pool can be found", &error);
            // Whoever waits for it is not to wait for ever.
            true
        })
    }

    fn tell_evacuated(&self) {
        *self.commits.stats.evacuated.lock() = self.pass.done();
        self.commits.stats.evacuating.store(self.pass.is_running(), Ordering::Relaxed);
    }

    fn recycle(&self) {
        while self.group.recycle() {
            std::thread::yield_now();
        }
    }

    fn work(&mut self) -> Result<(), StoreError> {
        self.commits.commit()?;
        self.relieve()?;
        let pool_bytes = self.group.read().store().usage().extents_bytes;
        self.group.set_epoch_ops(self.pace.epoch_ops(pool_bytes));
        self.group.resume();
        while self.reclaim_some() {
            std::thread::yield_now();
            if self.bell.asked.lock().commit {
                break;
            }
        }
        self.told.leaked(self.group.read().store().leaked());
        self.give_back();
        if let Err(error) = self.commits.committer.sweep(SWEEP_EXTENTS) {
            tell_once(&mut self.told.sweep, "old slab records stay where they are", &error);
        }
        Ok(())
    }

    /// Gives the free end of the file back, a piece at a time.
    fn give_back(&self) {
        loop {
            match self.group.shrink() {
                Ok(true) if !self.bell.asked.lock().commit => std::thread::yield_now(),
                Ok(_) => return,
                // Nothing is lost but space; the store does not try that again soon.
                Err(error) => return tracing::warn!("{error}: its free end is kept for now"),
            }
        }
    }

    /// Gets back what has died, when space is short (the fall-back root holds it for one commit
    /// more), and then what lies between the blocks.
    fn relieve(&mut self) -> Result<(), StoreError> {
        let wanted = self.group.room_wanted();
        if wanted.is_some() || self.group.read().store().is_tight() {
            self.commits.commit()?;
            self.recycle();
            self.reclaim_now(wanted.as_ref())?;
            self.evacuate_now(wanted.as_ref())?;
        }
        Ok(())
    }

    /// Frees what was dropped while writers wait for space, until there is `wanted` room or they have
    /// waited long enough: once they go on they ask for the next commit at once, and leave hardly any
    /// time for it.
    fn reclaim_now(&mut self, wanted: Option<&Demand>) -> Result<(), StoreError> {
        for _ in 0..RECLAIM_ROUNDS {
            if !self.can_reclaim() || self.group.stop_reason().is_some() {
                return Ok(());
            }
            let start = clock::now();
            self.commits.commit()?;
            self.recycle();
            let until = clock::now() + start.elapsed().max(RECLAIM_LEAST);
            while clock::now() < until && self.reclaim_some() {
                std::thread::yield_now();
            }
            if self.has_room(wanted) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn can_reclaim(&self) -> bool {
        !self.told.reclaiming && self.group.read().store().has_dropped()
    }

    /// Frees some of what was dropped; says whether there is more to do at once.
    fn reclaim_some(&mut self) -> bool {
        if !self.can_reclaim() {
            return false;
        }
        self.group.reclaim().unwrap_or_else(|error| {
            if let StoreError::Corrupt(_) = error {
                tell_once(&mut self.told.reclaiming, "what is deleted is not freed", &error);
            }
            // No room for what freeing writes, which the next commits may give.
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_the_pool_the_shorter_the_epochs() {
        let pace = Pace::new(true, None, None);
        let ops = [0, 160 << 20, 400 << 20, 2 << 30, 1 << 40].map(|bytes| pace.epoch_ops(bytes));
        assert!(ops.is_sorted_by(|a, b| a >= b), "{ops:?}");
        assert!(ops[0] < 9000 && ops[4] > 1000, "{ops:?}");
        assert_eq!(ops[3], ops[4], "beyond some size every touch is a first one");
    }

    #[test]
    fn epochs_on_files_last_as_long_as_commits_are_dear() {
        let [memory, file] = [true, false].map(|is_memory| Pace::new(is_memory, None, None));
        let every = |pace: Pace| {
            [1, 20, 80, 900].map(|ms| pace.every(Duration::from_millis(ms)).as_millis())
        };
        assert_eq!(every(memory), [100; 4]);
        assert_eq!(every(file), [100, 160, 640, 1000]);
    }

    #[test]
    fn the_operators_word_counts() {
        let pace = Pace::new(true, Some(7), Some(9));
        let second = Duration::from_secs(1);
        assert_eq!((pace.every(second), pace.epoch_ops(1 << 40)), (Duration::from_millis(7), 9));
        assert_eq!(Pace::new(false, None, None).epoch_ops(1 << 40), OPS_ON_FILES);
    }
}
