//! What the tests of the store share: chance that a seed repeats.
#![allow(dead_code)] // Not every test uses all of it.

pub use cairn_store::log::crash_disk::Rng;

/// The seeds to try: `CAIRN_SEED`, or so many as `CAIRN_SEEDS` says.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let read = |name| std::env::var(name).ok().and_then(|v: String| v.parse::<u64>().ok());
    match (read("CAIRN_SEED"), read("CAIRN_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(default),
    }
}
