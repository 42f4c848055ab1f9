//! The machine: memory, free space, boot, open files. Everything here may be missing in a
//! container, so each answer is optional or has a fallback.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes of memory this process may use: the machine's, or its control group's limit if lower.
/// None where neither can be read.
pub fn memory_bytes() -> Option<u64> {
    let machine = meminfo_bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:");
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    match (machine, group) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Free bytes for an ordinary user on the file system that holds `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Resident bytes of this process, 0 if unknown.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    meminfo_bytes(&status, "VmRSS:").unwrap_or(0)
}

/// Resident bytes of this process that belong to no file or shared memory, 0 if unknown.
pub fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    meminfo_bytes(&status, "RssAnon:").unwrap_or(0)
}

/// CPU seconds this process has used in user mode and in the kernel.
pub fn cpu_seconds() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses and may hold spaces: count after it.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after.split_ascii_whitespace().skip(11).map(|f| f.parse::<f64>());
    let mut ticks = || fields.next().and_then(Result::ok).unwrap_or(0.0) / 100.0;
    (ticks(), ticks())
}

/// The kernel's identifier of this boot: a new one after a restart of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The kernel's name and release, as INFO's `os`.
pub fn os() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

/// Raises the limit of open files towards `wanted`; returns what it then is.
pub fn raise_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let raised = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let asked = Rlimit { current: Some(raised), maximum: limit.maximum };
    if setrlimit(Resource::Nofile, asked).is_ok() { raised } else { current }
}

/// Cores this process may run on, at least 1.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn meminfo_bytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line[field.len()..].split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_field_in_kibibytes() {
        let text = "MemTotal:       16384 kB\nMemFree:  12 kB\n";
        assert_eq!(meminfo_bytes(text, "MemTotal:"), Some(16 << 20));
        assert_eq!(meminfo_bytes(text, "MemAvailable:"), None);
        assert_eq!(meminfo_bytes("MemTotal: many kB\n", "MemTotal:"), None);
    }

    #[test]
    fn this_machine_answers() {
        assert!(resident_bytes() > 0);
        assert!(free_bytes(Path::new("/")).is_ok());
        assert!(free_bytes(Path::new("/no/such/folder")).is_err());
        assert!(cores() >= 1);
    }
}
