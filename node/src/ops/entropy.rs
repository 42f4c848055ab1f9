//! Randomness: seeds for replicated operations and identifiers of this run.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A 64-bit value from the operating system's randomness.
pub fn random_u64() -> u64 {
    // Each RandomState is keyed from the system's source; hashing nothing reveals only the key.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(std::process::id().into());
    hasher.finish()
}

/// Sixteen bytes from the system: an id that no other has.
pub fn random_16() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&random_u64().to_le_bytes());
    bytes
}

/// Forty hexadecimal digits naming this run of the process, as INFO's `run_id`.
pub fn run_id() -> String {
    let mut id = String::with_capacity(48);
    while id.len() < 40 {
        id.push_str(&format!("{:016x}", random_u64()));
    }
    id.truncate(40);
    id
}

/// A stream of seeds: splitmix64 started from the system's randomness.
///
/// Seeds need to be unlike each other, not secret: whoever may write can read the log too.
#[derive(Debug)]
pub struct Seeds(u64);

impl Seeds {
    /// A stream that no other run of the process repeats.
    pub fn new() -> Seeds {
        Seeds(random_u64())
    }

    /// The stream of `seed`, for simulations.
    pub fn from_seed(seed: u64) -> Seeds {
        Seeds(seed)
    }

    /// The next seed.
    pub fn next_seed(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Default for Seeds {
    fn default() -> Seeds {
        Seeds::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn seeds_do_not_repeat() {
        let mut seeds = Seeds::new();
        let drawn: HashSet<u64> = (0..10_000).map(|_| seeds.next_seed()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[test]
    fn a_run_id_has_forty_hex_digits_and_is_new_each_time() {
        let (a, b) = (run_id(), run_id());
        assert_eq!(a.len(), 40);
        assert!(a.bytes().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(a, b);
    }
}
