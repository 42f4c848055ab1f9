//! Tries against std's maps. Hashes share long prefixes, so that few entries reach every depth,
//! every window of hash bits, and directories below directories.

use super::*;
use crate::heap::testing::{Rng, heap, seeds};
use std::collections::BTreeMap;

/// An entry is a block whose body is its own hash.
struct ByHash(u64);

impl Entries for ByHash {
    fn is_key(&self, mem: &Mem, entry: Offset) -> Result<bool> {
        Ok(self.hash_of(mem, entry)? == self.0)
    }

    fn hash_of(&self, mem: &Mem, entry: Offset) -> Result<u64> {
        mem.word(entry + HEADER as u64)
    }
}

fn hash(rng: &mut Rng) -> u64 {
    let (shared, spread) = ([0, 5, 11, 20, 37, 50][rng.below(6) as usize], rng.below(400));
    let prefix = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(1 + rng.below(2));
    let tail = spread.wrapping_mul(0xd6e8_feb8_6659_fd93);
    if shared == 0 { tail } else { prefix >> (64 - shared) << (64 - shared) | tail >> shared }
}

fn all(heap: &Heap, root: Cell) -> Vec<u64> {
    let mut seen = Vec::new();
    let trie = heap.get(root).unwrap();
    let end = visit_from(&heap.mem, trie, 0, &mut |_, entries| {
        let mut leaf: Vec<u64> =
            entries.iter().map(|&entry| heap.mem.word(entry + HEADER as u64).unwrap()).collect();
        leaf.sort_unstable();
        seen.extend(leaf);
        Ok(true)
    });
    assert_eq!(end.unwrap(), Position::End);
    seen
}

#[test]
fn random_tries_agree_with_a_map() {
    for seed in seeds(60) {
        let (mut heap, mut rng) = (heap(), Rng(seed));
        let mut root = Cell::new(heap.make_zeroed(kind::ROOT, 0, 0, 64).unwrap(), 2);
        let mut model: BTreeMap<u64, Offset> = BTreeMap::new();
        let growing = 1 + rng.below(9);
        for _ in 0..rng.below(1200) {
            let hash = hash(&mut rng);
            let by = ByHash(hash);
            if rng.below(50) == 0 {
                // A new epoch: everything is copied before it changes again.
                heap.epoch += 1;
                root = Cell::new(heap.own(root.at - 16, 64).unwrap(), 2);
            }
            if rng.below(10) < growing {
                let entry = heap.make(kind::BLOB, 0, 0, 32).unwrap();
                heap.set(Cell::new(entry, 2), hash).unwrap();
                let place = upsert(&mut heap, root, hash, &by).unwrap();
                assert_eq!(place.old, model.insert(hash, entry), "seed {seed}");
                place.fill(&mut heap, entry).unwrap();
            } else {
                let gone = remove(&mut heap, root, hash, &by).unwrap();
                assert_eq!(gone, model.remove(&hash), "seed {seed}");
            }
            let found = find(&heap.mem, heap.get(root).unwrap(), hash, &by).unwrap();
            assert_eq!(found.as_ref(), model.get(&hash), "seed {seed}");
        }
        for (&hash, &entry) in &model {
            let found = find(&heap.mem, heap.get(root).unwrap(), hash, &ByHash(hash)).unwrap();
            assert_eq!(found, Some(entry), "seed {seed}");
        }
        assert_eq!(all(&heap, root), model.keys().copied().collect::<Vec<_>>(), "seed {seed}");
        for hash in model.into_keys() {
            assert!(remove(&mut heap, root, hash, &ByHash(hash)).unwrap().is_some());
        }
        assert_eq!(heap.get(root).unwrap(), 0, "seed {seed}: an empty trie keeps no node");
    }
}
