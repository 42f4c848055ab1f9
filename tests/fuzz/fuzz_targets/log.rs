//! Segments of the log: looked at, opened, replayed, appended to.
#![no_main]

use std::sync::OnceLock;

/// A directory in memory for this process.
fn dir() -> &'static tempfile::TempDir {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| tempfile::tempdir_in("/dev/shm").expect("a directory in memory"))
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_store::fuzzing::log(dir().path(), data));
