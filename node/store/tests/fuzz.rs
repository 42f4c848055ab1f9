//! A short run of the fuzz bodies from a seed. `CAIRN_SEED` repeats one, `CAIRN_ROUNDS` makes it
//! longer; `tests/fuzz` runs the same bodies under a coverage-guided fuzzer.

use cairn_store::fuzzing;
use cairn_store::hash::mix;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `body` with bytes of rising seeds; a failure is preceded by the seed that repeats it.
fn rounds(count: u64, mut body: impl FnMut(&[u8])) {
    let (first, count) = match number("CAIRN_SEED") {
        Some(seed) => (seed, number("CAIRN_ROUNDS").unwrap_or(1)),
        None => {
            (RandomState::new().build_hasher().finish(), number("CAIRN_ROUNDS").unwrap_or(count))
        }
    };
    for seed in (0..count).map(|i| first.wrapping_add(i)) {
        let len = 1 + mix(seed) % 32;
        let bytes: Vec<u8> = (0..len).map(|n| mix(mix(seed) ^ n) as u8).collect();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&bytes))) {
            eprintln!("to repeat: CAIRN_SEED={seed} cargo test -p cairn-store --test fuzz");
            resume_unwind(panic);
        }
    }
}

#[test]
fn no_pool_makes_its_reader_panic() {
    rounds(400, fuzzing::pool);
}

#[test]
fn no_log_makes_its_reader_panic() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    // Found by the fuzzer: a segment that says that the one before it ends inside its header.
    let ends_early = [1, 0xde, 0, 1, 0xde, 0xff, 0x19, 0x59, 0, 0, 0, 0xb4, 0x3a, 0x2e];
    fuzzing::log(dir.path(), &ends_early);
    rounds(400, |data| fuzzing::log(dir.path(), data));
}
