//! Lists against vectors, with epochs that change in between.

use super::*;
use crate::blob::{self, Body, Encoding, Meta, Type};
use crate::heap::testing::{Rng, heap, seeds};
use crate::layout::pool::kind;

const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };

fn element(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(20) {
        0 => 0,
        1..=12 => rng.below(24),
        13..=16 => rng.below(300),
        17..=18 => 900 + rng.below(200),
        _ => rng.below(4000),
    };
    match rng.below(3) {
        0 if len <= 20 => (rng.next() as i64 >> rng.below(64)).to_string().into_bytes(),
        _ => (0..len).map(|i| b'a' + ((i + rng.0) % 26) as u8).collect(),
    }
}

struct Lists {
    heap: Heap,
    root: Cell,
    bytes: u64,
}

impl Lists {
    fn change(&mut self, change: impl FnOnce(&mut List<'_>)) {
        let mut list = List::new(&mut self.heap, self.root, self.bytes);
        change(&mut list);
        self.bytes = list.bytes;
    }

    fn put(&mut self, element: &[u8], change: impl FnOnce(&mut List<'_>, Item<'_>)) {
        if element.len() > layout::INLINE_MAX {
            let at = blob::write(&mut self.heap, &[], TEXT, &Body::Inline(element)).unwrap();
            self.change(|list| change(list, Item::Long(at)));
        } else {
            self.change(|list| change(list, Item::Inline(element)));
        }
    }

    fn read(&self, from: u64, reverse: bool, count: usize) -> Vec<Vec<u8>> {
        let (mut seen, root) = (Vec::new(), self.heap.get(self.root).unwrap());
        walk(&self.heap.mem, root, from, reverse, &mut |value| {
            seen.push(value.to_vec()?);
            Ok(seen.len() < count)
        })
        .unwrap();
        seen
    }

    /// Chunks, and bytes in them.
    fn chunks(&self) -> (u64, u64) {
        let (mut chunks, mut bytes) = (0, 0);
        let root = self.heap.get(self.root).unwrap();
        Sequence::check(&self.heap.mem, root, &mut |_| Ok(())).unwrap();
        Sequence::walk(&self.heap.mem, root, 0, false, &mut |_, &[pointer], _| {
            let chunk = Chunk::read(&self.heap.mem, pointer)?;
            let sum = chunk.sum_of(&self.heap.mem, 0..chunk.sum.bytes as usize)?;
            assert_eq!(sum, chunk.sum);
            (chunks, bytes) = (chunks + 1, bytes + sum.bytes);
            Ok(true)
        })
        .unwrap();
        (chunks, bytes)
    }
}

fn new() -> Lists {
    let mut heap = heap();
    let root = Cell::new(heap.make_zeroed(kind::ROOT, 0, 0, 64).unwrap(), 2);
    Lists { heap, root, bytes: 0 }
}

#[test]
fn random_lists_agree_with_a_vector() {
    for seed in seeds(40) {
        let (mut lists, mut rng) = (new(), Rng(seed));
        let mut model: Vec<Vec<u8>> = Vec::new();
        let (growing, place) = (3 + rng.below(7), rng.below(6));
        for _ in 0..rng.below(2500) {
            let len = model.len() as u64;
            let index = match place {
                0 => 0,
                1 => len,
                2 => rng.below(2) * len,
                3 => len / 2,
                _ => rng.below(len + 1),
            };
            if rng.below(50) == 0 {
                lists.heap.epoch += 1;
                lists.root = Cell::new(lists.heap.own(lists.root.at - 16, 64).unwrap(), 2);
            }
            let at = index as usize;
            match rng.below(10) {
                n if n < growing => {
                    let element = element(&mut rng);
                    lists.put(&element, |list, item| list.insert(index, item).unwrap());
                    model.insert(at, element);
                }
                _ if index < len && rng.below(3) == 0 => {
                    let element = element(&mut rng);
                    lists.put(&element, |list, item| list.set(index, item).unwrap());
                    model[at] = element;
                }
                _ if rng.below(60) == 0 => {
                    let mut indices: Vec<u64> = (0..len).filter(|_| rng.below(3) == 0).collect();
                    indices.retain(|&index| index % 64 < 60);
                    lists.change(|list| list.remove_each(&indices).unwrap());
                    for &index in indices.iter().rev() {
                        model.remove(index as usize);
                    }
                }
                _ => {
                    let most = if rng.below(100) == 0 { len + 1 } else { 3 };
                    let count = rng.below(most).min(len - index);
                    let from = if rng.below(2) == 0 { index } else { index.min(len - count) };
                    lists.change(|list| list.remove(from, count).unwrap());
                    model.drain(from as usize..(from + count) as usize);
                }
            }
            let (from, reverse) = (rng.below(model.len() as u64 + 2), rng.below(2) == 0);
            let want: Vec<Vec<u8>> = match reverse {
                false => model.iter().skip(from as usize).take(5).cloned().collect(),
                true => model[..model.len().min(from as usize + 1)]
                    .iter()
                    .rev()
                    .take(5)
                    .cloned()
                    .collect(),
            };
            assert_eq!(lists.read(from, reverse, 5), want, "seed {seed}");
        }
        assert_eq!(lists.read(0, false, usize::MAX), model, "seed {seed}");
        lists.chunks();
        let root = lists.heap.get(lists.root).unwrap();
        let all = sum_between(&lists.heap.mem, root, 0..u64::MAX).unwrap();
        assert_eq!(lists.bytes, content_bytes(all), "seed {seed}");
        assert_eq!(all.count, model.len() as u64, "seed {seed}");
        let listpack: u64 =
            model.iter().filter(|e| e.len() <= layout::INLINE_MAX).map(|e| listpack_len(e)).sum();
        assert_eq!(all.listpack, listpack, "seed {seed}");
    }
}

/// However a list came to its length, its chunks are not many more than its bytes need.
#[test]
fn lists_do_not_decay_into_crumbs() {
    let mut rng = Rng(1);
    let mut lists = new();
    let mut len = 0;
    for n in 0..60_000u64 {
        let index = [0, len, rng.below(len + 1)][(n % 3) as usize];
        lists.put(&n.to_string().into_bytes(), |list, item| list.insert(index, item).unwrap());
        len += 1;
    }
    let (chunks, bytes) = lists.chunks();
    assert!(chunks * layout::CAPACITY as u64 <= bytes * 2, "{chunks} chunks of {bytes} bytes");
    while len > 1000 {
        let index = rng.below(len);
        lists.change(|list| list.remove(index, 1).unwrap());
        len -= 1;
    }
    let (chunks, bytes) = lists.chunks();
    assert!(chunks * layout::CAPACITY as u64 <= bytes * 4, "{chunks} chunks of {bytes} bytes");
}

/// Elements that arrive at one end fill their chunks.
#[test]
fn pushes_at_either_end_fill_chunks() {
    for front in [false, true] {
        let mut lists = new();
        for n in 0..20_000u64 {
            let index = if front { 0 } else { n };
            lists.put(b"ten bytes!", |list, item| list.insert(index, item).unwrap());
        }
        let (chunks, bytes) = lists.chunks();
        assert!(chunks * layout::CAPACITY as u64 <= bytes + bytes / 50 + 2048, "{chunks} {bytes}");
    }
}

/// Sizes as Redis's listpack.c writes elements.
#[test]
fn listpack_lengths() {
    for (element, len) in [
        (&b""[..], 2),
        (b"a", 3),
        (b"0", 2),
        (b"127", 2),
        (b"128", 3),
        (b"-1", 3),
        (b"-4096", 3),
        (b"4096", 4),
        (b"32768", 5),
        (b"-8388609", 6),
        (b"2147483648", 10),
        (b"-9223372036854775808", 10),
        (b"9223372036854775808", 21),
        (b"007", 5),
    ] {
        assert_eq!(listpack_len(element), len, "{element:?}");
    }
    assert_eq!(listpack_len(&[b'x'; 63]), 65);
    assert_eq!(listpack_len(&[b'x'; 64]), 67);
    assert_eq!(listpack_len(&[b'x'; 125]), 128);
    assert_eq!(listpack_len(&[b'x'; 126]), 130);
    assert_eq!(listpack_len(&[b'x'; 4096]), 4096 + 5 + 2);
}
