//! Commits the pool in the background: seals an epoch under the lock, makes it durable outside of
//! it, purges the log behind it, and frees what FLUSHALL and its like have dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_store::log::LogId;
use cairn_store::{Committer, StoreError};
use parking_lot::{Condvar, Mutex};

use super::group::Group;
use crate::ops::clock;

/// When to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At least so often while anything changes.
    pub every: Duration,
    /// Sooner after so many operations: a restart replays two epochs at most.
    pub ops: u64,
    /// Sooner after so many bytes of them.
    pub bytes: u64,
}

impl Pace {
    /// What suits the medium; `every_ms` is the operator's word on it, if any.
    pub fn new(is_memory: bool, every_ms: Option<u64>) -> Pace {
        // Replaying costs 1 to 2 us an operation: about 20 ms on memory, where restarting at once
        // is the point; on files a commit costs syncs, so they come less often.
        let (usual_ms, ops) = if is_memory { (100, 10_000) } else { (1000, 200_000) };
        let every = Duration::from_millis(every_ms.unwrap_or(usual_ms));
        Pace { every, ops, bytes: 64 << 20 }
    }
}

/// What commits have cost, for INFO.
#[derive(Debug, Default)]
pub struct CommitStats {
    /// Commits since the start.
    pub count: AtomicU64,
    /// Microseconds of the last one.
    pub last_us: AtomicU64,
    /// Microseconds of the longest one.
    pub max_us: AtomicU64,
    /// The last log entry that is in a durable root.
    pub applied_index: AtomicU64,
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

/// Nodes of dropped trees freed under one hold of the lock: some tens of microseconds.
const RECLAIM_NODES: usize = 64;
/// Extents swept of an interrupted commit's records between two commits.
const SWEEP_EXTENTS: u64 = 16;

impl Flusher {
    /// Starts committing `group`'s pool.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(group: Arc<Group>, committer: Committer, pace: Pace) -> std::io::Result<Flusher> {
        let (bell, stats) = (Arc::<Bell>::default(), Arc::<CommitStats>::default());
        let ringer = Arc::clone(&bell);
        group.set_pace(
            pace.ops,
            pace.bytes,
            Box::new(move || {
                ringer.asked.lock().commit = true;
                ringer.ring.notify_one();
            }),
        );
        let mut worker = Worker {
            group,
            committer,
            every: pace.every,
            bell: Arc::clone(&bell),
            stats: Arc::clone(&stats),
        };
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
    committer: Committer,
    every: Duration,
    bell: Arc<Bell>,
    stats: Arc<CommitStats>,
}

impl Worker {
    fn run(&mut self) -> Result<(), StoreError> {
        loop {
            let stopping = self.wait();
            if self.group.stop_reason().is_some() {
                // What is in memory may be half an operation: the log has what counts.
                return Ok(());
            }
            if let Err(error) = self.work() {
                self.group.stop(format!(
                    "the pool could not be committed: {error}; what was acknowledged is in the log: \
                     restart the node on a working medium"
                ));
                return Err(error);
            }
            if stopping {
                return self.committer.close();
            }
        }
    }

    /// Waits for the time or the word to commit; true when it is the last one.
    fn wait(&self) -> bool {
        let mut asked = self.bell.asked.lock();
        if !asked.commit && !asked.stop {
            self.bell.ring.wait_for(&mut asked, self.every);
        }
        asked.commit = false;
        asked.stop
    }

    fn work(&mut self) -> Result<(), StoreError> {
        self.commit()?;
        self.group.resume();
        while self.reclaim_some()? {
            std::thread::yield_now();
            if self.bell.asked.lock().commit {
                break;
            }
        }
        self.committer.sweep(SWEEP_EXTENTS)?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let start = clock::now();
        let Some(sealed) = self.group.seal() else { return Ok(()) };
        let published = self.committer.commit(sealed)?;
        let (term, index) = published.purge_upto;
        let applied = published.applied.1;
        self.group.release(published);
        if index.0 > 0 {
            let purged = self.group.log().purge(self.group.shard(), LogId::new(term, index));
            purged.map_err(|error| StoreError::Stopped(error.to_string()))?;
        }
        let us = clock::nanos_since(start) / 1000;
        self.stats.count.fetch_add(1, Ordering::Relaxed);
        self.stats.last_us.store(us, Ordering::Relaxed);
        self.stats.max_us.fetch_max(us, Ordering::Relaxed);
        self.stats.applied_index.store(applied.0, Ordering::Relaxed);
        Ok(())
    }

    fn reclaim_some(&self) -> Result<bool, StoreError> {
        if !self.group.read().store().has_dropped() {
            return Ok(false);
        }
        self.group.reclaim(RECLAIM_NODES)
    }
}
