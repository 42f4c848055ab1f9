//! Eviction is an operation like any other: what its proposer chose, every replica deletes.

use std::collections::BTreeSet;

use cairn_engine::{Eviction, EvictionPolicy, encode_memory, state_hash};

use super::harness::{Replica, Rng, seeds};

const NOW_MS: u64 = 1_700_000_000_000;

/// Runs a history under a limit, evicting as a leader would; crashes now and then, after which the
/// sketch is empty and the log must say the same.
#[test]
fn a_replay_evicts_and_refuses_the_same() {
    for seed in seeds(20) {
        let (mut rng, mut replica) = (Rng(seed), Replica::new(NOW_MS));
        replica.propose(|out| encode_memory(out, 8 << 20), 0);
        let mut evicted = 0;
        for step in 0..600 {
            replica.now_ms += rng.below(1000);
            let name = format!("key:{}", rng.below(300)).into_bytes();
            let value = vec![b'x'; 1 + rng.below(60_000) as usize];
            let mut words = vec![b"SET".to_vec(), name, value];
            if rng.one_in(2) {
                words.extend([b"PX".to_vec(), (1 + rng.below(100_000)).to_string().into_bytes()]);
            }
            let refused = replica.run(&words).starts_with(b"-OOM");
            if refused || rng.one_in(20) {
                evicted += evict(&mut replica, &mut rng);
            }
            if rng.one_in(100) {
                let limit_bytes = (7 + rng.below(4)) << 20;
                replica.propose(|out| encode_memory(out, limit_bytes), 0);
            }
            if rng.one_in(30) {
                replica.commit();
            }
            if rng.one_in(40) {
                let before = hash(&replica);
                replica.crash_and_recover();
                assert_eq!(hash(&replica), before, "seed {seed}, step {step}");
            }
        }
        assert!(evicted > 0, "seed {seed}");
    }
}

fn hash(replica: &Replica) -> u64 {
    state_hash(replica.engine.store().view()).expect("a sound pool")
}

fn evict(replica: &mut Replica, rng: &mut Rng) -> u32 {
    let (_, policy) = EvictionPolicy::NAMES[rng.below(7) as usize];
    let rules = Eviction { policy, samples: 5 };
    let at = (replica.now_ms, rng.next());
    let bytes = rng.below(500_000);
    let chosen = replica.engine.choose_victims(rules, bytes, at, &BTreeSet::new());
    let (victims, mut evicted) = (chosen.expect("a sound pool"), 0);
    victims.encode(|encode| {
        replica.propose(encode, 0);
        evicted += replica.effects.evicted;
    });
    evicted
}
