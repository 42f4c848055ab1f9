//! What the threads beside the writers do to a group's pool, each under one short hold of the
//! engine: ending epochs, freeing, moving, giving back, exchanging it for a peer's; and the pace at
//! which writers have that done.

use std::sync::atomic::{AtomicU64, Ordering};

use cairn_store::log::LogId;
use cairn_store::{
    Committer, Evacuation, PoolOptions, Progress, Published, Sealed, Store, StoreError,
};
use futures_util::FutureExt;
use parking_lot::RwLockWriteGuard;

use super::super::long_read::Pinned;
use super::Group;
use crate::ops::metrics::{Hold, Shard as Stats};
use crate::ops::{clock, entropy};

/// Places of dead blocks made free under one hold: some 100 us.
const RECYCLE_BLOCKS: usize = 1024;
/// Nodes of dropped trees freed between two looks at the clock, and for how long under one hold.
const RECLAIM_NODES: usize = 8;
const RECLAIM_NANOS: u64 = 100_000;
/// Blocks that evacuation looks at between two looks at the clock.
const EVACUATE_BLOCKS: usize = 56;

/// How much an epoch may hold, and whom to tell when it does.
pub(super) struct Pace {
    ops: AtomicU64,
    bytes: u64,
    pub(super) hurry: Box<dyn Fn() + Send + Sync>,
}

impl Group {
    /// How a peer's pool is opened here.
    pub(in crate::raft) fn pool_options(&self) -> PoolOptions {
        PoolOptions {
            capacity_bytes: self.read().store().usage().capacity_bytes,
            // The peer's comes with its pool.
            new_hash_key: [0, 0],
            new_uuid: entropy::random_16(),
        }
    }

    /// Ends the pool's epoch for a commit; None when nothing has changed. From here until
    /// [`Group::resume`] a full epoch of further writes makes writers wait.
    pub(in crate::raft) fn seal(&self) -> Option<Sealed> {
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

    /// Hands the pool what a commit has made durable; false when that was another pool, whose place
    /// this one took meanwhile.
    pub(in crate::raft) fn release(&self, published: Published) -> bool {
        let mut engine = self.engine.write();
        let start = clock::now();
        let is_this = engine.store_mut().release(published);
        self.note_room(&engine);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        is_this
    }

    /// Puts another pool, which `committer` commits, in the place of this one's. No entry may be
    /// half applied.
    pub(in crate::raft) fn replace(&self, store: Store, committer: Committer) {
        let (term, index) = store.applied();
        let mut engine = self.engine.write();
        assert!(!self.half_applied.load(Ordering::Relaxed), "a pool replaced inside an entry");
        let start = clock::now();
        let old = engine.replace_store(store);
        self.note_room(&engine);
        let unused = self.replaced.lock().replace(committer);
        *self.purge_upto.lock() = Some(LogId::new(term, index));
        self.note_applied(term, index);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        drop(engine);
        // Unmapping takes its time.
        drop((old, unused));
    }

    /// The committer of a pool that took this one's place since it was last asked for.
    pub(in crate::raft) fn take_committer(&self) -> Option<Committer> {
        self.replaced.lock().take()
    }

    /// The commit is over: lets writers that had to wait go on.
    pub(in crate::raft) fn resume(&self) {
        self.committing.store(false, Ordering::SeqCst);
        self.tell_relieved();
        if self.paused.swap(false, Ordering::SeqCst) {
            // Whoever commits must not drive: others would keep it busy, and nothing would commit.
            let first = self.queue.lock().front().cloned();
            if let Some(first) = first {
                first.wake();
            }
        }
    }

    /// Frees some of what was dropped; says whether there is more.
    pub(in crate::raft) fn reclaim(&self) -> Result<bool, StoreError> {
        let mut engine = self.engine.write();
        let start = clock::now();
        let mut more = true;
        while more && clock::nanos_since(start) < RECLAIM_NANOS {
            more = engine.store_mut().reclaim(RECLAIM_NODES)?;
        }
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        Ok(more)
    }

    /// Does some of a pass of evacuation, beginning one if none is under way; with `last_resort` it
    /// takes room that is otherwise left to writers.
    pub(in crate::raft) fn evacuate(
        &self,
        pass: &mut Evacuation,
        last_resort: bool,
    ) -> Result<Progress, StoreError> {
        let mut engine = self.engine.write();
        let start = clock::now();
        let promised = self.in_flight_demand();
        engine.store_mut().promise(&promised);
        let mut progress = Progress::More;
        while progress == Progress::More && clock::nanos_since(start) < RECLAIM_NANOS {
            progress = engine.store_mut().evacuate(pass, EVACUATE_BLOCKS, last_resort)?;
        }
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        Ok(progress)
    }

    /// Gives a pass of evacuation up.
    pub(in crate::raft) fn stop_evacuation(&self, pass: &mut Evacuation) {
        self.engine.write().store_mut().stop_evacuation(pass);
    }

    /// Gives a pass of evacuation up that met what the next one would meet again.
    pub(in crate::raft) fn abandon_evacuation(&self, pass: &mut Evacuation) {
        self.engine.write().store_mut().abandon_evacuation(pass);
    }

    /// Gives some of the free end of the pool's file back; says whether there is more.
    pub(in crate::raft) fn shrink(&self) -> Result<bool, StoreError> {
        let mut engine = self.engine.write();
        let start = clock::now();
        let more = engine.store_mut().shrink_some();
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        more
    }

    /// Makes some places free again that commits have released; says whether there are more.
    pub(in crate::raft) fn recycle(&self) -> bool {
        let mut engine = self.engine.write();
        let start = clock::now();
        let more = engine.store_mut().recycle_dead(RECYCLE_BLOCKS);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        more
    }

    /// Has the log purged up to `upto`, of which a committed root and the one before it have no
    /// more need.
    pub(in crate::raft) fn purge(&self, upto: LogId) {
        let keep_bytes = self.keep_bytes.load(Ordering::Relaxed);
        let now_bytes = self.applied_bytes.load(Ordering::Relaxed);
        {
            let mut marks = self.marks.lock();
            marks.push_back((upto, now_bytes));
            let mut purge = None;
            let needed = self.keeping.behind(now_bytes);
            let may_go = |(upto, at): &(LogId, u64)| {
                at + keep_bytes <= now_bytes && needed.is_none_or(|needed| upto.index <= needed)
            };
            while marks.front().is_some_and(may_go) {
                purge = marks.pop_front();
            }
            let Some((upto, _)) = purge else { return };
            *self.purge_upto.lock() = Some(upto);
        }
        if let Some(raft) = self.raft.get() {
            // The channel is wider than anything that goes through it; the next commit asks again.
            let _ = raft.trigger().snapshot().now_or_never();
        }
    }

    /// Calls `hurry` when an epoch holds `ops` operations or `bytes` bytes of them. To be set once,
    /// before the first write.
    pub(in crate::raft) fn set_pace(
        &self,
        ops: u64,
        bytes: u64,
        hurry: Box<dyn Fn() + Send + Sync>,
    ) {
        let pace = Pace { ops: AtomicU64::new(ops), bytes, hurry };
        // A second pace would be a mistake in the composition root; the first one stays.
        let _ = self.pace.set(pace);
        self.note_room(&self.read());
    }

    /// Changes how many operations an epoch may hold.
    pub(in crate::raft) fn set_epoch_ops(&self, ops: u64) {
        if let Some(pace) = self.pace.get() {
            pace.ops.store(ops, Ordering::Relaxed);
        }
    }

    /// Counts what was applied, and has the pool committed when an epoch is full or space is short.
    /// Who is a whole epoch ahead of the commit waits, so that a restart replays two at most; who
    /// finds space `tight` waits too, for what has died comes back with a commit.
    pub(super) fn keep_pace(&self, ops: u64, bytes: u64, tight: bool) {
        // Only who applies comes here, one at a time: plain loads and stores do.
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
}
