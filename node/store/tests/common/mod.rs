//! What the tests of the store share: chance that a seed repeats.
#![allow(dead_code)] // Not every test uses all of it.

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number under `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The seeds to try: `CAIRN_SEED`, or so many as `CAIRN_SEEDS` says.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let read = |name| std::env::var(name).ok().and_then(|v: String| v.parse::<u64>().ok());
    match (read("CAIRN_SEED"), read("CAIRN_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(default),
    }
}
