//! What commands did and how long they took, counted for INFO and kept for SLOWLOG.

use super::*;

/// With a lower threshold than this the slow log times every command on its own.
const EXACT_BELOW_US: i64 = 1000;

impl Connection {
    pub(super) fn times_each_command(&self) -> bool {
        let threshold = self.thread.settings().slowlog_slower_than_us;
        (0..EXACT_BELOW_US).contains(&threshold)
    }

    /// Keeps a slow run for SLOWLOG: under its first command, with a word when there were more.
    pub(super) fn note_slow(&self, argv: Argv<'_>, count: usize, nanos: u64) {
        let settings = self.thread.settings();
        let Ok(threshold) = u64::try_from(settings.slowlog_slower_than_us) else { return };
        if nanos / 1000 < threshold || count == 0 {
            return;
        }
        if resolve(argv).is_ok_and(|spec| spec.flags.contains(Flags::SKIP_SLOWLOG)) {
            return;
        }
        let mut args = cut_args(argv);
        if count > 1 {
            args.push(format!("... (first of a run of {count})").into_bytes());
        }
        let entry = SlowEntry {
            id: 0,
            at_seconds: clock::wall_ms() / 1000,
            duration_us: nanos / 1000,
            args,
            address: self.client.address.to_string(),
            name: self.client.names().name,
        };
        self.thread.shared.slowlog.push(entry, settings.slowlog_max_len);
    }
}

/// Moves the replies of a batch that is done to `out` and counts what it did; returns how many
/// commands ran, and how long.
pub(super) fn take_replies(thread: &Thread, batch: &mut Batch, out: &mut Vec<u8>) -> (usize, u64) {
    let (count, nanos) = (batch.commands().len(), batch.apply_nanos());
    for spec in batch.commands() {
        note_call(thread, spec, nanos / count as u64);
    }
    for (spec, code) in batch.failed() {
        count_failure(thread, spec, code);
    }
    count_effects(thread, &batch.take_replies(out));
    (count, nanos)
}

pub(super) fn count_effects(thread: &Thread, effects: &Effects) {
    let counts = [
        (Counter::keyspace_hits, effects.hits),
        (Counter::keyspace_misses, effects.misses),
        (Counter::expired_keys, effects.expired),
    ];
    for (counter, by) in counts {
        if by > 0 {
            thread.stats.count(counter, by.into());
        }
    }
}

pub(super) fn note_call(thread: &Thread, spec: &'static Spec, nanos: u64) {
    thread.stats.command(row(spec), nanos);
    thread.stats.count(Counter::total_commands_processed, 1);
}

/// Counts a reply that is an error.
pub(super) fn note_failure(thread: &Thread, spec: &'static Spec, reply: &[u8]) {
    if let Some(code) = error_code(reply) {
        count_failure(thread, spec, code);
    }
}

pub(super) fn count_failure(thread: &Thread, spec: &'static Spec, code: &str) {
    thread.stats.count(Counter::total_error_replies, 1);
    thread.stats.command_failed(row(spec));
    thread.shared.metrics.error(code);
}
