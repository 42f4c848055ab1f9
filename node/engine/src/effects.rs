//! What an operation did, for statistics and for whoever waits on keys.

/// Counts of one operation; add them up over a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effects {
    /// Keys created, changed, moved or deleted by the command itself (Redis's `dirty`).
    pub changed: u32,
    /// Keys deleted because their deadline had passed.
    pub expired: u32,
    /// Keys deleted to make room.
    pub evicted: u32,
    /// Keys that a lookup found (`keyspace_hits`).
    pub hits: u32,
    /// Keys that a lookup missed (`keyspace_misses`).
    pub misses: u32,
    /// A read that was not answered, because it takes too long for whoever waits for the shard's
    /// lock: ask [`read_view`](crate::read_view) on a pinned root.
    pub deferred: bool,
}

impl std::ops::AddAssign for Effects {
    fn add_assign(&mut self, other: Effects) {
        self.changed = self.changed.saturating_add(other.changed);
        self.expired = self.expired.saturating_add(other.expired);
        self.evicted = self.evicted.saturating_add(other.evicted);
        self.hits = self.hits.saturating_add(other.hits);
        self.misses = self.misses.saturating_add(other.misses);
        self.deferred = self.deferred || other.deferred;
    }
}
