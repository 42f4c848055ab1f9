//! SLOWLOG: the last commands that took longer than they should.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_protocol::resp::Argv;
use parking_lot::Mutex;

/// Arguments kept of one entry, and bytes of each, as in Redis.
const MAX_ARGS: usize = 32;
const MAX_ARG_BYTES: usize = 128;

/// A slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    /// Rising, never used twice while the process runs.
    pub id: u64,
    /// Unix time in seconds.
    pub at_seconds: u64,
    /// Microseconds it took.
    pub duration_us: u64,
    /// Its arguments, cut.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub address: String,
    /// The client's name.
    pub name: String,
}

/// The newest slow commands.
#[derive(Debug, Default)]
pub struct SlowLog {
    entries: Mutex<VecDeque<SlowEntry>>,
    next_id: AtomicU64,
}

impl SlowLog {
    /// Keeps an entry, and at most `max_len` in all. Its `id` is set here.
    pub fn push(&self, mut entry: SlowEntry, max_len: usize) {
        entry.id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        entries.push_front(entry);
        entries.truncate(max_len);
    }

    /// The newest `count`.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.lock().iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all.
    pub fn reset(&self) {
        self.entries.lock().clear();
    }
}

/// Arguments as the slow log keeps them: some, cut, with a word on what is missing.
pub fn cut_args(argv: Argv<'_>) -> Vec<Vec<u8>> {
    let kept = if argv.len() > MAX_ARGS { MAX_ARGS - 1 } else { argv.len() };
    let mut args: Vec<Vec<u8>> = argv.iter().take(kept).map(cut_arg).collect();
    if kept < argv.len() {
        args.push(format!("... ({} more arguments)", argv.len() - kept).into_bytes());
    }
    args
}

fn cut_arg(arg: &[u8]) -> Vec<u8> {
    let mut cut = arg[..arg.len().min(MAX_ARG_BYTES)].to_vec();
    if cut.len() < arg.len() {
        let rest = format!("... ({} more bytes)", arg.len() - cut.len());
        cut.extend_from_slice(rest.as_bytes());
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(us: u64) -> SlowEntry {
        SlowEntry {
            id: 0,
            at_seconds: 1,
            duration_us: us,
            args: vec![],
            address: String::new(),
            name: String::new(),
        }
    }

    #[test]
    fn keeps_the_newest_and_numbers_go_on_after_a_reset() {
        let log = SlowLog::default();
        (0..5).for_each(|us| log.push(entry(us), 3));
        assert_eq!(log.newest(2).iter().map(|e| e.id).collect::<Vec<_>>(), [4, 3]);
        assert_eq!(log.len(), 3);
        log.reset();
        log.push(entry(9), 3);
        assert_eq!(log.newest(10)[0].id, 5);
        log.push(entry(9), 0);
        assert!(log.is_empty());
    }

    #[test]
    fn long_requests_are_cut_as_redis_cuts_them() {
        let long = [b'x'; 130];
        let args: Vec<&[u8]> = std::iter::repeat_n(&long[..], 40).collect();
        let cut = cut_args(Argv::from(&args[..]));
        assert_eq!(cut.len(), 32);
        assert_eq!(cut[31], b"... (9 more arguments)");
        assert!(cut[0].ends_with(b"x... (2 more bytes)"));
    }
}
