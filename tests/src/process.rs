//! What the kernel says of a process, and the signals we send it.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The kernel counts processor time for user space in hundredths of a second, on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// A field of `/proc/PID/status` in bytes, such as `VmRSS` or `RssAnon`; 0 when it is not there.
pub fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Seconds of processor time, user and system, that a process has taken so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; utime and stime are 12th and 13th behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |at: usize| -> f64 {
        fields.split_whitespace().nth(at).and_then(|t| t.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS_A_SECOND
}

/// Asks a process to end, with SIGTERM.
pub fn terminate(pid: u32) {
    signal(pid, "TERM");
}

/// Sends a signal by name. The shell's own `kill` is everywhere, and needs no unsafe code.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot send SIG{name} to {pid}");
}

/// Stops a process until it is sent CONT. When this returns none of its threads runs any more: the
/// system has them stop once the first of them gets to it.
///
/// # Panics
/// When they do not stop within seconds.
pub fn pause(pid: u32) {
    signal(pid, "STOP");
    let is_stopped = |stat: String| {
        // The state follows the name, which may hold anything.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't']))
    };
    let are_stopped = || {
        let threads =
            std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut stats =
            threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        stats.all(is_stopped)
    };
    assert!(eventually(Duration::from_secs(10), are_stopped), "{pid} does not stop");
}

/// Waits for the end of a process, for at most `patience`.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if start.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `condition` holds, for at most `patience`. Returns whether it does.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// How many files this process may have open.
pub fn open_files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(1024)
}
