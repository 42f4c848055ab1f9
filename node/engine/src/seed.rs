//! Choices drawn from an operation's seed: the same ones on every replica.

/// Spreads neighbouring seeds over all 64 bits (the finalizer of SplitMix64).
#[inline]
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The numbers that a seed stands for, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Draws(u64);

impl Draws {
    /// The sequence of `seed`, far from that of its neighbours.
    pub(crate) fn new(seed: u64) -> Draws {
        Draws(mix(seed))
    }

    /// 64 bits.
    #[inline]
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// A number under `end`, which is not 0. The bias of the product, `end` in 2^64, is beyond
    /// notice.
    #[inline]
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_draws_and_its_neighbour_has_others() {
        let draws = |seed| {
            let mut draws = Draws::new(seed);
            [draws.below(1000), draws.below(1000), draws.below(1000), draws.below(1000)]
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7)[1..], draws(8)[..3]);
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn every_number_under_the_end_is_drawn_about_equally_often() {
        let mut counts = [0u32; 10];
        let mut draws = Draws::new(1);
        for _ in 0..10_000 {
            counts[draws.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
