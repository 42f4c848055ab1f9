//! The write lock while an entry is applied: let go of between operations, so that readers wait for
//! about a millisecond at most, however much the entry holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cairn_engine::Engine;
use cairn_protocol::command::spec::Group as Family;
use cairn_protocol::command::{Flags, Spec};
use parking_lot::{RwLock, RwLockWriteGuard};

use crate::ops::clock;
use crate::ops::metrics::{Hold, Shard as Stats};

/// After so long others get their turn.
const HOLD_NANOS: u64 = 1_000_000;
/// And after so long between two connections' batches: readers that were let in after each would have
/// the threads wait for each other all the time.
const BATCHES_NANOS: u64 = 100_000;
/// Operations that are surely short between two looks at the clock.
const SHORT_AT_ONCE: u32 = 16;
/// Bytes from which an operation is not surely short.
const SHORT_BYTES: usize = 4 << 10;

/// A hold of the write lock that lets go now and then. While it has let go the entry is half
/// applied: reads are fine then, for each operation is whole, but no epoch may end there.
pub(super) struct Turn<'g> {
    engine: RwLockWriteGuard<'g, Engine>,
    half_applied: &'g AtomicBool,
    stats: &'g Stats,
    /// When the lock was taken.
    since: Instant,
    short: u32,
    /// Nanoseconds of the holds before this one that [`Turn::lap`] has not told yet.
    before: u64,
    /// When the last lap ended, if that was under this hold.
    lapped: Instant,
}

impl<'g> Turn<'g> {
    /// Takes the lock for an entry.
    pub fn begin(
        engine: &'g RwLock<Engine>,
        half_applied: &'g AtomicBool,
        stats: &'g Stats,
    ) -> Turn<'g> {
        let engine = engine.write();
        half_applied.store(true, Ordering::Relaxed);
        let since = clock::now();
        Turn { engine, half_applied, stats, since, short: 0, before: 0, lapped: since }
    }

    /// What is locked.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// To be called after each operation: lets go when it has held for long.
    pub fn ran(&mut self, spec: &Spec, bytes: usize) {
        let is_short = bytes < SHORT_BYTES
            && (spec.flags.contains(Flags::FAST) || spec.docs.group == Family::String);
        self.short += 1;
        if is_short && self.short < SHORT_AT_ONCE {
            return;
        }
        self.short = 0;
        let now = clock::now();
        if nanos(self.since, now) >= HOLD_NANOS {
            self.pause(now);
        }
    }

    /// Lets whoever waits in between two batches, right after a lap, if the hold has become long.
    pub fn give_way(&mut self) {
        if nanos(self.since, self.lapped) >= BATCHES_NANOS {
            self.pause(self.lapped);
        }
    }

    fn pause(&mut self, now: Instant) {
        self.stats.hold(Hold::Write, nanos(self.since, now));
        self.before += nanos(self.lapped, now);
        RwLockWriteGuard::bump(&mut self.engine);
        self.since = clock::now();
        self.lapped = self.since;
    }

    /// Nanoseconds of work since the last lap.
    pub fn lap(&mut self) -> u64 {
        let now = clock::now();
        let lap = self.before + nanos(self.lapped, now);
        self.before = 0;
        self.lapped = now;
        lap
    }

    /// Ends the hold, right after a lap; the entry is whole.
    pub fn end(self) {
        self.half_applied.store(false, Ordering::Relaxed);
        self.stats.hold(Hold::Write, nanos(self.since, self.lapped));
    }
}

fn nanos(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}
