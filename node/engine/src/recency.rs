//! When keys were last used, and how often: a sketch in DRAM, outside the replicated state.
//!
//! A read must not dirty persistent memory, so what `OBJECT IDLETIME` and `OBJECT FREQ` report, and
//! what eviction will choose by, lies in a table of fixed size that is indexed by the key's hash
//! and starts empty with the process. Keys that share a cell share its age: a key may look more
//! recently used than it is, never less.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Cells of a sketch, four bytes each.
pub const CELLS: usize = 1 << 18;

/// Seconds are kept modulo 2^24 (194 days), as in Redis.
const SECONDS_BITS: u32 = 24;
const SECONDS_MASK: u32 = (1 << SECONDS_BITS) - 1;
/// Uses that a new key is credited with, so that it is not the first to be evicted.
const USES_INITIAL: u8 = 5;
/// How hard the logarithmic counter is to raise (Redis's `lfu-log-factor`).
const USES_LOG_FACTOR: u32 = 10;

/// What the operator's eviction policy counts, and so which of the two `OBJECT` will report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecencyPolicy {
    /// Time of last use: every policy but the LFU ones.
    LastUse,
    /// A decaying logarithmic counter of uses.
    Frequency,
}

/// The sketch; shared by readers, every access is one relaxed load and at most one store.
#[derive(Debug)]
pub struct Recency {
    /// Seconds of last use above an 8-bit counter of uses; 0 when never used.
    cells: Box<[AtomicU32]>,
    counts_uses: AtomicBool,
    /// First time seen, milliseconds: how long an untouched key has been idle for all we know.
    started_ms: AtomicU64,
}

impl Recency {
    /// An empty sketch of `cells` cells, rounded up to a power of two.
    pub fn new(cells: usize) -> Recency {
        let cells = cells.next_power_of_two();
        Recency {
            cells: (0..cells).map(|_| AtomicU32::new(0)).collect(),
            counts_uses: AtomicBool::new(false),
            started_ms: AtomicU64::new(0),
        }
    }

    /// Chooses what is counted from now on.
    pub fn set_policy(&self, policy: RecencyPolicy) {
        self.counts_uses.store(policy == RecencyPolicy::Frequency, Relaxed);
    }

    /// What is being counted.
    pub fn policy(&self) -> RecencyPolicy {
        if self.counts_uses.load(Relaxed) {
            RecencyPolicy::Frequency
        } else {
            RecencyPolicy::LastUse
        }
    }

    /// Notes a use of the key with `hash` at `now_ms`.
    #[inline]
    pub fn touch(&self, hash: u64, now_ms: u64) {
        let cell = self.cell(hash);
        let old = cell.load(Relaxed);
        let now = seconds(now_ms);
        // Most uses fall in the second of the last one: then the line stays clean and shared.
        if old >> 8 == now && old != 0 && !self.counts_uses.load(Relaxed) {
            return;
        }
        self.note_use(cell, old, hash, now_ms);
    }

    #[cold]
    fn note_use(&self, cell: &AtomicU32, old: u32, hash: u64, now_ms: u64) {
        self.note_start(now_ms);
        let mut uses = if old == 0 { USES_INITIAL } else { decayed(old, now_ms) };
        if self.counts_uses.load(Relaxed) && old != 0 {
            uses = raised(uses, hash ^ now_ms ^ u64::from(old));
        }
        cell.store(seconds(now_ms) << 8 | u32::from(uses.max(1)), Relaxed);
    }

    /// Seconds since the key with `hash` was used, as far as this process knows.
    pub fn idle_seconds(&self, hash: u64, now_ms: u64) -> u64 {
        self.note_start(now_ms);
        match self.cell(hash).load(Relaxed) {
            0 => now_ms.saturating_sub(self.started_ms.load(Relaxed)) / 1000,
            cell => u64::from(seconds(now_ms).wrapping_sub(cell >> 8) & SECONDS_MASK),
        }
    }

    /// The logarithmic counter of uses, decayed by one a minute.
    pub fn frequency(&self, hash: u64, now_ms: u64) -> u8 {
        match self.cell(hash).load(Relaxed) {
            0 => USES_INITIAL,
            cell => decayed(cell, now_ms),
        }
    }

    fn note_start(&self, now_ms: u64) {
        if self.started_ms.load(Relaxed) == 0 {
            // Whoever comes first decides; the difference is below what is reported.
            let _ = self.started_ms.compare_exchange(0, now_ms, Relaxed, Relaxed);
        }
    }

    #[inline]
    fn cell(&self, hash: u64) -> &AtomicU32 {
        // The length is a power of two, so the mask keeps the index in bounds.
        &self.cells[hash as usize & (self.cells.len() - 1)]
    }
}

#[inline]
fn seconds(now_ms: u64) -> u32 {
    (now_ms / 1000) as u32 & SECONDS_MASK
}

fn decayed(cell: u32, now_ms: u64) -> u8 {
    let idle = seconds(now_ms).wrapping_sub(cell >> 8) & SECONDS_MASK;
    let minutes = u8::try_from(idle / 60).unwrap_or(u8::MAX);
    (cell as u8).saturating_sub(minutes)
}

/// Raises the counter with a probability that falls as it grows; `noise` decides.
fn raised(uses: u8, noise: u64) -> u8 {
    let mixed = noise.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let odds = u32::from(uses.saturating_sub(USES_INITIAL)) * USES_LOG_FACTOR + 1;
    if ((mixed >> 33) as u32).is_multiple_of(odds) { uses.saturating_add(1) } else { uses }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_700_000_000_000;

    #[test]
    fn idle_time_counts_from_the_last_use_or_from_the_start() {
        let recency = Recency::new(16);
        assert_eq!(recency.idle_seconds(1, START_MS), 0);
        assert_eq!(recency.idle_seconds(1, START_MS + 5_000), 5);
        recency.touch(1, START_MS + 5_000);
        assert_eq!(recency.idle_seconds(1, START_MS + 5_999), 0);
        assert_eq!(recency.idle_seconds(1, START_MS + 12_000), 7);
        assert_eq!(recency.idle_seconds(2, START_MS + 12_000), 12);
    }

    #[test]
    fn seconds_wrap_as_in_redis() {
        let recency = Recency::new(16);
        let wrap_ms = (1u64 << SECONDS_BITS) * 1000;
        recency.touch(1, wrap_ms - 2_000);
        assert_eq!(recency.idle_seconds(1, wrap_ms + 3_000), 5);
    }

    #[test]
    fn frequency_rises_with_use_and_falls_with_time() {
        let recency = Recency::new(16);
        recency.set_policy(RecencyPolicy::Frequency);
        assert_eq!(recency.frequency(1, START_MS), USES_INITIAL);
        for n in 0..10_000 {
            recency.touch(1, START_MS + n);
        }
        let busy = recency.frequency(1, START_MS + 10_000);
        assert!((20..200).contains(&busy), "{busy}");
        assert_eq!(recency.frequency(1, START_MS + 10_000 + 3 * 60_000), busy - 3);
        assert_eq!(recency.frequency(1, START_MS + 1_000 * 60_000), 0);
    }

    #[test]
    fn any_number_of_cells_is_safe() {
        for cells in [0, 1, 3, 5] {
            let recency = Recency::new(cells);
            recency.touch(u64::MAX, START_MS);
            assert_eq!(recency.idle_seconds(u64::MAX, START_MS), 0);
        }
    }
}
