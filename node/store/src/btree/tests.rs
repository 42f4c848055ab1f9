//! Trees against std's maps and vectors, with epochs that change in between.

use super::*;
use crate::heap::testing::{Rng, heap, seeds};
use crate::heap::{Cell, Heap};
use std::cmp::Ordering;
use std::collections::BTreeMap;

fn new_root(heap: &mut Heap) -> Cell {
    Cell::new(heap.make_zeroed(kind::ROOT, 0, 0, 64).unwrap(), 2)
}

/// A new epoch: everything is copied before it changes again.
fn new_epoch(heap: &mut Heap, root: &mut Cell) {
    heap.epoch += 1;
    *root = Cell::new(heap.own(root.at - 16, 64).unwrap(), 2);
}

#[test]
fn random_trees_agree_with_a_map() {
    type Tree = Btree<3, 1>;
    for seed in seeds(30) {
        let (mut heap, mut rng) = (heap(), Rng(seed));
        let mut root = new_root(&mut heap);
        let mut model: BTreeMap<[u64; 3], [u64; 1]> = BTreeMap::new();
        let (growing, in_order) = (1 + rng.below(9), rng.below(3) == 0);
        for n in 0..rng.below(2000) {
            let first = if in_order { n } else { rng.below(300) };
            let (key, value) = ([first, rng.below(2), 7], [rng.next()]);
            if rng.below(50) == 0 {
                new_epoch(&mut heap, &mut root);
            }
            if rng.below(10) < growing {
                let old = Tree::insert(&mut heap, root, &key, &value).unwrap();
                assert_eq!(old, model.insert(key, value), "seed {seed}");
            } else {
                let old = Tree::remove(&mut heap, root, &key).unwrap();
                assert_eq!(old, model.remove(&key), "seed {seed}");
            }
            let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
            assert_eq!(Tree::get(mem, tree, &key).unwrap(), model.get(&key).copied());
            let next = model.range(key..).next().map(|(k, v)| (*k, *v));
            assert_eq!(Tree::seek(mem, tree, &key).unwrap(), next, "seed {seed}");
            let rank = Tree::rank(mem, tree, &key).unwrap();
            assert_eq!(rank, model.range(..key).count() as u64, "seed {seed}");
            let there = model.contains_key(&key).then_some(rank);
            assert_eq!(Tree::rank_of(mem, tree, &key).unwrap(), there, "seed {seed}");
            let at = rng.below(model.len() as u64 + 2);
            let nth = model.iter().nth(at as usize).map(|(k, v)| (*k, *v, 0));
            assert_eq!(Tree::select(mem, tree, at).unwrap(), nth, "seed {seed}");
        }
        let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
        assert_eq!(Tree::check(mem, tree, &mut |_| Ok(())).unwrap(), model.len() as u64);
        assert_eq!(Tree::len(mem, tree).unwrap(), model.len() as u64);
        let mut seen = Vec::new();
        Tree::visit(mem, tree, &[0; 3], &mut |key, value| {
            seen.push((*key, *value));
            Ok(true)
        })
        .unwrap();
        assert_eq!(seen, model.into_iter().collect::<Vec<_>>(), "seed {seed}");
    }
}

/// Keys that are blocks with a number in them: compared through the pointer alone, as the members
/// of a sorted set with equal scores are.
struct ByNumber(u64);

fn number(mem: &Mem, key: &[u64; 1]) -> Result<u64> {
    mem.word(key[0] + HEADER as u64)
}

impl Probe<1> for ByNumber {
    fn compare(&self, mem: &Mem, key: &[u64; 1]) -> Result<Ordering> {
        Ok(number(mem, key)?.cmp(&self.0))
    }
}

/// What a removed key pointed to is overwritten at once: a tree that still compared with it, or
/// kept it in an inner node, would go astray.
#[test]
fn keys_behind_pointers_are_forgotten_with_their_entries() {
    type Tree = Btree<1, 0>;
    for seed in seeds(30) {
        let (mut heap, mut rng) = (heap(), Rng(seed));
        let mut root = new_root(&mut heap);
        let mut model: BTreeMap<u64, Offset> = BTreeMap::new();
        let (growing, spread) = (1 + rng.below(9), 1 + rng.below(3000));
        for _ in 0..rng.below(3000) {
            let n = rng.below(spread);
            if rng.below(50) == 0 {
                new_epoch(&mut heap, &mut root);
            }
            if rng.below(10) < growing {
                let at = heap.make(kind::BLOB, 0, 0, 32).unwrap();
                heap.set(Cell::new(at, 2), n).unwrap();
                let old = Tree::insert_by(&mut heap, root, &ByNumber(n), &[at], &[]).unwrap();
                let before = model.insert(n, at);
                assert_eq!(old.is_some(), before.is_some(), "seed {seed}");
                if let Some(before) = before {
                    heap.set(Cell::new(before, 2), u64::MAX).unwrap();
                }
            } else {
                let old = Tree::remove_by(&mut heap, root, &ByNumber(n)).unwrap();
                let before = model.remove(&n);
                assert_eq!(old.map(|([at], _)| at), before, "seed {seed}");
                if let Some(before) = before {
                    heap.set(Cell::new(before, 2), u64::MAX).unwrap();
                }
            }
            let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
            let rank = model.range(..n).count() as u64;
            assert_eq!(Tree::rank(mem, tree, &ByNumber(n)).unwrap(), rank, "seed {seed}");
        }
        let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
        let order =
            |mem: &Mem, a: &[u64; 1], b: &[u64; 1]| Ok(number(mem, a)?.cmp(&number(mem, b)?));
        let total = Tree::check_by(mem, tree, &order, &mut |_| Ok(())).unwrap();
        assert_eq!(total, model.len() as u64, "seed {seed}");
        let all: Vec<Offset> = model.into_values().collect();
        for reverse in [false, true] {
            let from = rng.below(all.len() as u64 + 3);
            let mut seen = Vec::new();
            Tree::walk(mem, tree, from, reverse, &mut |&[at], _, rank| {
                assert_eq!(all[rank as usize], at, "seed {seed}");
                seen.push(at);
                Ok(true)
            })
            .unwrap();
            let want: Vec<Offset> = match reverse {
                false => all.iter().skip(from as usize).copied().collect(),
                true => all.iter().take(from as usize + 1).rev().copied().collect(),
            };
            assert_eq!(seen, want, "seed {seed}");
        }
    }
}

/// The entry of a vector that `rank` lies in, and how far into it.
fn entry_at(model: &[u64], mut rank: u64) -> Option<(usize, u64)> {
    for (index, &entry) in model.iter().enumerate() {
        if rank < entry >> OFFSET_BITS {
            return Some((index, rank));
        }
        rank -= entry >> OFFSET_BITS;
    }
    None
}

#[test]
fn random_sequences_agree_with_a_vector() {
    type Sequence = Btree<0, 1>;
    for seed in seeds(30) {
        let (mut heap, mut rng) = (heap(), Rng(seed));
        let mut root = new_root(&mut heap);
        let mut model: Vec<u64> = Vec::new();
        let (growing, place) = (1 + rng.below(9), rng.below(4));
        for n in 0..rng.below(3000) {
            let index = match place {
                0 => 0,
                1 => model.len(),
                _ => rng.below(model.len() as u64 + 1) as usize,
            };
            let rank: u64 = model[..index].iter().map(|entry| entry >> OFFSET_BITS).sum();
            let entry = n | (1 + rng.below(9)) << OFFSET_BITS;
            if rng.below(50) == 0 {
                new_epoch(&mut heap, &mut root);
            }
            if rng.below(10) < growing {
                Sequence::insert_before(&mut heap, root, rank, &[], &[entry]).unwrap();
                model.insert(index, entry);
            } else if index < model.len() {
                let within = rank + rng.below(model[index] >> OFFSET_BITS);
                let old = Sequence::remove_rank(&mut heap, root, within).unwrap();
                assert_eq!(old, Some([model.remove(index)]), "seed {seed}");
            }
            if let Some(index) = index.checked_sub(1).filter(|&index| index < model.len()) {
                let change = |heap: &mut Heap, cell, within| {
                    assert_eq!(within, (model[index] >> OFFSET_BITS) - 1);
                    heap.set(cell, entry)
                };
                Sequence::update(&mut heap, root, rank - 1, change).unwrap();
                model[index] = entry;
            }
            if rng.below(300) == 0 {
                let index = rng.below(model.len() as u64 + 1) as usize;
                let rank: u64 = model[..index].iter().map(|entry| entry >> OFFSET_BITS).sum();
                let side = [Side::Before, Side::After][rng.below(2) as usize];
                let cut = Sequence::cut(&mut heap, root, rank, side).unwrap();
                let mut off: Vec<u64> = cut.values.into_iter().map(|[value]| value).collect();
                for node in cut.nodes {
                    Sequence::walk(&heap.mem, node, 0, false, &mut |_, &[value], _| {
                        off.push(value);
                        Ok(true)
                    })
                    .unwrap();
                }
                let mut gone = match side {
                    Side::Before => model.drain(..index).collect::<Vec<_>>(),
                    Side::After => model.drain(index..).collect(),
                };
                off.sort_unstable();
                gone.sort_unstable();
                assert_eq!(off, gone, "seed {seed}");
            }
            let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
            let at = rng.below(40);
            let found = Sequence::select(mem, tree, at).unwrap();
            let want = entry_at(&model, at).map(|(index, within)| ([], [model[index]], within));
            assert_eq!(found, want, "seed {seed}");
        }
        let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
        let total: u64 = model.iter().map(|entry| entry >> OFFSET_BITS).sum();
        assert_eq!(Sequence::check(mem, tree, &mut |_| Ok(())).unwrap(), total, "seed {seed}");
        assert_eq!(Sequence::len(mem, tree).unwrap(), total);
        let mut seen = Vec::new();
        Sequence::walk(mem, tree, u64::MAX, true, &mut |_, &[value], _| {
            seen.push(value);
            Ok(true)
        })
        .unwrap();
        seen.reverse();
        assert_eq!(seen, model, "seed {seed}");
    }
}
