//! The commits of a group's pool, step by step: who has a thread takes them one after the other, a
//! simulation lets other things happen in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_store::log::LogId;
use cairn_store::{Committer, Evacuated, Sealed, StoreError};
use parking_lot::Mutex;

use super::group::Group;
use crate::ops::clock;

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
    /// What evacuation has done.
    pub evacuated: Mutex<Evacuated>,
    /// Whether a pass of evacuation is under way.
    pub evacuating: AtomicBool,
}

/// Commits the pool of a group: always the one that it has now.
pub struct Commits {
    group: Arc<Group>,
    pub(super) committer: Committer,
    pub(super) stats: Arc<CommitStats>,
}

impl Commits {
    /// Of `group`, whose pool `committer` commits.
    pub fn new(group: Arc<Group>, committer: Committer) -> Commits {
        Commits { group, committer, stats: Arc::default() }
    }

    /// Ends the epoch and makes it durable.
    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        self.seal().map_or(Ok(()), |sealed| self.publish(sealed))
    }

    /// Ends an epoch of the pool that is committed here: of the one that took its place, if one did.
    /// None when nothing has changed.
    pub fn seal(&mut self) -> Option<Sealed> {
        self.follow();
        let sealed = self.group.seal()?;
        if !self.committer.is_of(&sealed) {
            // Replaced in between.
            self.follow();
        }
        self.committer.is_of(&sealed).then_some(sealed)
    }

    /// Makes an epoch durable, hands the pool what that frees, and has the log purged behind it.
    ///
    /// A member may have applied what its own log is still about to make durable, as long as enough
    /// others have it. Its pool must not be ahead of its log: a start would take the log for one that
    /// was cut short.
    ///
    /// # Errors
    /// The medium failed.
    pub fn publish(&mut self, sealed: Sealed) -> Result<(), StoreError> {
        let start = clock::now();
        let durable = self.group.log().wait_durable(self.group.shard(), sealed.applied().1);
        durable.map_err(|error| StoreError::Stopped(error.to_string()))?;
        let published = self.committer.commit(sealed)?;
        let (term, index) = published.purge_upto;
        let applied = published.applied.1;
        if !self.group.release(published) {
            return Ok(());
        }
        if index.0 > 0 {
            self.group.purge(LogId::new(term, index));
        }
        let us = clock::nanos_since(start) / 1000;
        self.stats.count.fetch_add(1, Ordering::Relaxed);
        self.stats.last_us.store(us, Ordering::Relaxed);
        self.stats.max_us.fetch_max(us, Ordering::Relaxed);
        self.stats.applied_index.store(applied.0, Ordering::Relaxed);
        Ok(())
    }

    /// Lets writers that had to wait for a commit go on.
    pub fn resume(&self) {
        self.group.resume();
    }

    /// Commits another pool from here on, if one took the place of this.
    fn follow(&mut self) {
        if let Some(committer) = self.group.take_committer() {
            self.committer = committer;
        }
    }
}
