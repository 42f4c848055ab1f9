//! Counters, each declared once. One [`Shard`] a thread, written by that thread alone, so that
//! counting touches no cache line another core writes; whoever asks adds the shards up.
//!
//! Time of commands is measured per run, not per command (two clock reads cost more than a short
//! GET): the server reads the clock when it takes the shard's lock and when it lets go, and shares
//! the time evenly among the commands of that run. A run of one is exact.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One thread's counters.
        #[derive(Debug, Default)]
        struct Counters { $($(#[doc = $doc])+ $name: AtomicU64,)+ }

        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types)] // Named as INFO and /metrics print them.
        pub enum Counter { $($(#[doc = $doc])+ $name,)+ }

        impl Counter {
            /// Every counter.
            pub const ALL: &[Counter] = &[$(Counter::$name,)+];

            /// The name, as INFO prints it where Redis has the field.
            pub fn name(self) -> &'static str {
                match self { $(Counter::$name => stringify!($name),)+ }
            }

            /// What it counts.
            pub fn doc(self) -> &'static str {
                match self { $(Counter::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }

        impl Counters {
            fn cell(&self, counter: Counter) -> &AtomicU64 {
                match counter { $(Counter::$name => &self.$name,)+ }
            }
        }
    };
}

counters! {
    /// Connections accepted, those closed at once for being too many not included.
    total_connections_received,
    /// Connections refused because `maxclients` were there.
    rejected_connections,
    /// Commands executed.
    total_commands_processed,
    /// Error replies sent.
    total_error_replies,
    /// Bytes read from clients.
    total_net_input_bytes,
    /// Bytes written to clients.
    total_net_output_bytes,
    /// Reads from client sockets.
    total_reads_processed,
    /// Writes to client sockets.
    total_writes_processed,
    /// Keys that a read found.
    keyspace_hits,
    /// Keys that a read did not find.
    keyspace_misses,
    /// Keys removed because their time had passed.
    expired_keys,
    /// Keys removed to make room.
    evicted_keys,
    /// Clients closed for too much unparsed input.
    client_query_buffer_limit_disconnections,
    /// Clients closed for replies they did not read.
    client_output_buffer_limit_disconnections,
    /// Failed AUTH and HELLO AUTH attempts.
    acl_access_denied_auth,
}

/// Buckets of a [`Histogram`]: bucket i counts durations under 2^i nanoseconds.
pub const HISTOGRAM_BUCKETS: usize = 40;

/// Durations by powers of two, and the longest.
#[derive(Debug)]
struct Histogram {
    buckets: [AtomicU64; HISTOGRAM_BUCKETS],
    longest: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Histogram { buckets, longest: AtomicU64::new(0) }
    }
}

/// Which lock was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The shard's read lock, by a run of reads.
    Read,
    /// The shard's write lock, by a slice of an entry being applied.
    Write,
}

#[derive(Debug, Default)]
struct PerCommand {
    calls: AtomicU64,
    nanos: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
}

/// One thread's part of the metrics. Only that thread may count into it.
#[derive(Debug)]
pub struct Shard {
    counters: Counters,
    commands: Box<[PerCommand]>,
    read_holds: Histogram,
    write_holds: Histogram,
}

/// Adds without a locked instruction: sound because each shard has one writer.
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Shard {
    fn new(commands: usize) -> Shard {
        Shard {
            counters: Counters::default(),
            commands: (0..commands).map(|_| PerCommand::default()).collect(),
            read_holds: Histogram::default(),
            write_holds: Histogram::default(),
        }
    }

    /// Adds `by` to a counter.
    pub fn count(&self, counter: Counter, by: u64) {
        bump(self.counters.cell(counter), by);
    }

    /// Counts one executed call of the command with table row `row`, which took `nanos`.
    pub fn command(&self, row: usize, nanos: u64) {
        if let Some(command) = self.commands.get(row) {
            bump(&command.calls, 1);
            bump(&command.nanos, nanos);
        }
    }

    /// Counts a call that was refused before it ran (arguments, authentication).
    pub fn command_rejected(&self, row: usize) {
        if let Some(command) = self.commands.get(row) {
            bump(&command.rejected, 1);
        }
    }

    /// Counts a call that ran and answered an error.
    pub fn command_failed(&self, row: usize) {
        if let Some(command) = self.commands.get(row) {
            bump(&command.failed, 1);
        }
    }

    /// Records how long the shard's lock was held.
    pub fn hold(&self, which: Hold, nanos: u64) {
        let histogram = match which {
            Hold::Read => &self.read_holds,
            Hold::Write => &self.write_holds,
        };
        let bucket = (64 - nanos.leading_zeros() as usize).min(HISTOGRAM_BUCKETS - 1);
        bump(&histogram.buckets[bucket], 1);
        if nanos > histogram.longest.load(Ordering::Relaxed) {
            histogram.longest.store(nanos, Ordering::Relaxed);
        }
    }
}

/// Totals of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandTotals {
    /// Calls that ran.
    pub calls: u64,
    /// Nanoseconds they took.
    pub nanos: u64,
    /// Calls refused before they ran.
    pub rejected: u64,
    /// Calls that ran and failed.
    pub failed: u64,
}

/// All shards added up.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    counters: Vec<u64>,
    /// By table row.
    pub commands: Vec<CommandTotals>,
    /// Holds of the read lock by power of two of nanoseconds.
    pub read_holds: Vec<u64>,
    /// Holds of the write lock by power of two of nanoseconds.
    pub write_holds: Vec<u64>,
    /// The longest hold of the read lock, in nanoseconds.
    pub read_hold_max: u64,
    /// The longest hold of the write lock.
    pub write_hold_max: u64,
    /// Error replies by their code.
    pub errors: BTreeMap<String, u64>,
}

impl Totals {
    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).copied().unwrap_or(0)
    }

    /// The upper bound in nanoseconds under which `permille` of the holds lie; 0 without holds.
    pub fn hold_quantile(holds: &[u64], permille: u64) -> u64 {
        let total: u64 = holds.iter().sum();
        let wanted = (total * permille).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in holds.iter().enumerate() {
            seen += count;
            if total > 0 && seen >= wanted {
                return 1 << bucket;
            }
        }
        0
    }
}

/// How many different error codes are counted; Redis stops at 128 too, since a client can make
/// codes up.
const MAX_ERROR_CODES: usize = 128;

/// Number of samples behind `instantaneous_ops_per_sec`: 1.6 seconds of them, as in Redis.
const SAMPLES: usize = 16;

/// Rates derived from the last [`SAMPLES`] calls of [`Metrics::sample`].
#[derive(Debug, Default)]
struct Rates {
    last: Option<[u64; 3]>,
    ring: [[u64; 3]; SAMPLES],
    at: usize,
}

/// Events a second and kibibytes a second, lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Instantaneous {
    /// Commands a second.
    pub ops: u64,
    /// KiB read a second.
    pub input_kbps: f64,
    /// KiB written a second.
    pub output_kbps: f64,
}

/// All counters of the process.
#[derive(Debug)]
pub struct Metrics {
    commands: usize,
    shards: Mutex<Vec<Arc<Shard>>>,
    errors: Mutex<BTreeMap<String, u64>>,
    /// What `CONFIG RESETSTAT` found: shards have one writer, so a reset subtracts.
    base: Mutex<Totals>,
    rates: Mutex<Rates>,
}

impl Metrics {
    /// Metrics for a table of `commands` rows.
    pub fn new(commands: usize) -> Metrics {
        Metrics {
            commands,
            shards: Mutex::default(),
            errors: Mutex::default(),
            base: Mutex::default(),
            rates: Mutex::default(),
        }
    }

    /// A new shard for the calling thread to count into.
    pub fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::new(self.commands));
        self.shards.lock().push(Arc::clone(&shard));
        shard
    }

    /// Counts an error reply by its code, the text's first word.
    pub fn error(&self, code: &str) {
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < MAX_ERROR_CODES {
            errors.insert(code.to_owned(), 1);
        }
    }

    /// All shards added up since the start or the last reset.
    pub fn totals(&self) -> Totals {
        let mut totals = self.raw_totals();
        let base = self.base.lock();
        subtract(&mut totals.counters, &base.counters);
        subtract(&mut totals.read_holds, &base.read_holds);
        subtract(&mut totals.write_holds, &base.write_holds);
        for (command, old) in totals.commands.iter_mut().zip(&base.commands) {
            command.calls -= old.calls;
            command.nanos -= old.nanos;
            command.rejected -= old.rejected;
            command.failed -= old.failed;
        }
        totals
    }

    /// Counts from zero again, for `CONFIG RESETSTAT`.
    pub fn reset(&self) {
        *self.base.lock() = self.raw_totals();
        for shard in self.shards.lock().iter() {
            // The longest cannot be subtracted; a hold that ends right now may stay or be lost.
            shard.read_holds.longest.store(0, Ordering::Relaxed);
            shard.write_holds.longest.store(0, Ordering::Relaxed);
        }
        self.errors.lock().clear();
        *self.rates.lock() = Rates::default();
    }

    /// Takes a sample for the rates; `elapsed_ms` have passed since the one before.
    pub fn sample(&self, elapsed_ms: u64) {
        let totals = self.raw_totals();
        let now = [
            totals.get(Counter::total_commands_processed),
            totals.get(Counter::total_net_input_bytes),
            totals.get(Counter::total_net_output_bytes),
        ];
        let mut rates = self.rates.lock();
        let rates = &mut *rates;
        if let Some(last) = rates.last.filter(|_| elapsed_ms > 0) {
            rates.ring[rates.at] =
                std::array::from_fn(|i| now[i].saturating_sub(last[i]) * 1000 / elapsed_ms);
            rates.at = (rates.at + 1) % SAMPLES;
        }
        rates.last = Some(now);
    }

    /// The mean of the last samples.
    pub fn instantaneous(&self) -> Instantaneous {
        let rates = self.rates.lock();
        let mean =
            |i: usize| rates.ring.iter().map(|sample| sample[i]).sum::<u64>() / SAMPLES as u64;
        Instantaneous {
            ops: mean(0),
            input_kbps: mean(1) as f64 / 1024.0,
            output_kbps: mean(2) as f64 / 1024.0,
        }
    }

    fn raw_totals(&self) -> Totals {
        let mut totals = Totals {
            counters: vec![0; Counter::ALL.len()],
            commands: vec![CommandTotals::default(); self.commands],
            read_holds: vec![0; HISTOGRAM_BUCKETS],
            write_holds: vec![0; HISTOGRAM_BUCKETS],
            read_hold_max: 0,
            write_hold_max: 0,
            errors: self.errors.lock().clone(),
        };
        for shard in self.shards.lock().iter() {
            add_shard(&mut totals, shard);
        }
        totals
    }
}

fn add_shard(totals: &mut Totals, shard: &Shard) {
    let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
    for counter in Counter::ALL {
        totals.counters[*counter as usize] += read(shard.counters.cell(*counter));
    }
    for (total, command) in totals.commands.iter_mut().zip(&shard.commands) {
        total.calls += read(&command.calls);
        total.nanos += read(&command.nanos);
        total.rejected += read(&command.rejected);
        total.failed += read(&command.failed);
    }
    for (total, cell) in totals.read_holds.iter_mut().zip(&shard.read_holds.buckets) {
        *total += read(cell);
    }
    totals.read_hold_max = totals.read_hold_max.max(read(&shard.read_holds.longest));
    totals.write_hold_max = totals.write_hold_max.max(read(&shard.write_holds.longest));
    for (total, cell) in totals.write_holds.iter_mut().zip(&shard.write_holds.buckets) {
        *total += read(cell);
    }
}

fn subtract(values: &mut [u64], base: &[u64]) {
    for (value, old) in values.iter_mut().zip(base) {
        *value -= old;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_and_a_reset_starts_again() {
        let metrics = Metrics::new(3);
        let (a, b) = (metrics.shard(), metrics.shard());
        a.count(Counter::keyspace_hits, 2);
        b.count(Counter::keyspace_hits, 3);
        a.command(1, 500);
        b.command(1, 700);
        b.command_failed(2);
        metrics.error("WRONGTYPE");
        let totals = metrics.totals();
        assert_eq!(totals.get(Counter::keyspace_hits), 5);
        assert_eq!((totals.commands[1].calls, totals.commands[1].nanos), (2, 1200));
        assert_eq!(totals.commands[2].failed, 1);
        assert_eq!(totals.errors["WRONGTYPE"], 1);
        metrics.reset();
        a.command(1, 10);
        let totals = metrics.totals();
        assert_eq!(totals.get(Counter::keyspace_hits), 0);
        assert_eq!(totals.commands[1].calls, 1);
        assert!(totals.errors.is_empty());
    }

    #[test]
    fn a_row_that_does_not_exist_is_not_counted() {
        let metrics = Metrics::new(1);
        metrics.shard().command(1, 1);
        assert_eq!(metrics.totals().commands, [CommandTotals::default()]);
    }

    #[test]
    fn made_up_error_codes_are_bounded() {
        let metrics = Metrics::new(0);
        for i in 0..1000 {
            metrics.error(&format!("E{i}"));
        }
        assert_eq!(metrics.totals().errors.len(), MAX_ERROR_CODES);
    }

    #[test]
    fn holds_fall_into_powers_of_two() {
        let metrics = Metrics::new(0);
        let shard = metrics.shard();
        (0..99).for_each(|_| shard.hold(Hold::Read, 900));
        shard.hold(Hold::Read, 70_000);
        shard.hold(Hold::Read, u64::MAX);
        let holds = metrics.totals().read_holds;
        assert_eq!(Totals::hold_quantile(&holds, 500), 1024);
        assert_eq!(Totals::hold_quantile(&holds, 990), 131_072);
        assert_eq!(metrics.totals().read_hold_max, u64::MAX);
        metrics.reset();
        shard.hold(Hold::Read, 5);
        assert_eq!(metrics.totals().read_hold_max, 5);
        assert_eq!(Totals::hold_quantile(&metrics.totals().write_holds, 990), 0);
    }

    #[test]
    fn rates_are_means_of_samples() {
        let metrics = Metrics::new(0);
        let shard = metrics.shard();
        metrics.sample(0);
        for _ in 0..SAMPLES {
            shard.count(Counter::total_commands_processed, 50);
            metrics.sample(100);
        }
        assert_eq!(metrics.instantaneous().ops, 500);
    }

    #[test]
    fn every_counter_says_what_it_counts() {
        for counter in Counter::ALL {
            assert!(counter.doc().ends_with('.'), "{}", counter.name());
        }
    }
}
