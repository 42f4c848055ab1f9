//! The order of a sorted set: a counted tree of {score, member's blob}, by score and then by
//! the member's name, which is read through the blob.
//!
//! The members themselves, with their scores as values, are somebody else's: a member must be in
//! place before it is entered here, and is freed only after it was taken out.

use crate::blob::Record;
use crate::btree::{Btree, Probe};
use crate::error::{Result, StoreError};
use crate::heap::{Cell, Heap, Offset};
use crate::persist::Mem;
use std::cmp::Ordering;

/// {score word, blob}.
pub type Order = Btree<2, 0>;

/// A place between the members of a sorted set.
#[derive(Debug, Clone, Copy)]
pub enum Bound<'a> {
    /// Before all members with this score.
    BeforeScore(f64),
    /// Behind all members with this score.
    AfterScore(f64),
    /// Before the member of this score and name, or where it would be.
    BeforeMember(f64, &'a [u8]),
    /// Behind the member of this score and name, or where it would be.
    AfterMember(f64, &'a [u8]),
}

/// The words of scores are ordered as the scores are. Both zeros have the same.
pub fn score_word(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

fn name_of<'a>(mem: &'a Mem, key: &[u64; 2]) -> Result<&'a [u8]> {
    Ok(Record::read(mem, key[1])?.key())
}

/// A member.
struct Member<'a> {
    word: u64,
    name: &'a [u8],
}

impl Probe<2> for Member<'_> {
    #[inline]
    fn compare(&self, mem: &Mem, key: &[u64; 2]) -> Result<Ordering> {
        match key[0].cmp(&self.word) {
            Ordering::Equal => Ok(name_of(mem, key)?.cmp(self.name)),
            other => Ok(other),
        }
    }
}

impl Probe<2> for Bound<'_> {
    fn compare(&self, mem: &Mem, key: &[u64; 2]) -> Result<Ordering> {
        let (score, name, on_a_tie) = match *self {
            Bound::BeforeScore(score) => (score, None, Ordering::Greater),
            Bound::AfterScore(score) => (score, None, Ordering::Less),
            Bound::BeforeMember(score, name) => (score, Some(name), Ordering::Greater),
            Bound::AfterMember(score, name) => (score, Some(name), Ordering::Less),
        };
        let stands = match name {
            Some(name) => Member { word: score_word(score), name }.compare(mem, key)?,
            None => key[0].cmp(&score_word(score)),
        };
        Ok(stands.then(on_a_tie))
    }
}

/// Enters the member whose blob lies at `at`. `root` is a cell of an owned block.
///
/// # Errors
/// [`StoreError::Full`].
pub fn insert(heap: &mut Heap, root: Cell, score: f64, at: Offset) -> Result<()> {
    let mem = heap.mem.clone();
    let word = score_word(score);
    let member = Member { word, name: Record::read(&mem, at)?.key() };
    Order::insert_by(heap, root, &member, &[word, at], &[]).map(|_| ())
}

/// Takes note that a member's blob was copied to `to`; that at `from` can still be read.
///
/// # Errors
/// [`StoreError::Full`], and then nothing has changed; [`StoreError::Corrupt`] when it is not there.
pub(crate) fn moved(heap: &mut Heap, root: Cell, from: Offset, to: Offset) -> Result<()> {
    let mem = heap.mem.clone();
    let record = Record::read(&mem, from)?;
    let score = record.value().as_inline().and_then(|value| value.try_into().ok());
    let Some(score) = score.map(|bytes| f64::from_bits(u64::from_le_bytes(bytes))) else {
        return Err(StoreError::corrupt("a member without a score", from));
    };
    let word = score_word(score);
    let member = Member { word, name: record.key() };
    match Order::get_by(&mem, heap.get(root)?, &member)? {
        Some((key, _)) if key == [word, from] => {
            Order::insert_by(heap, root, &member, &[word, to], &[]).map(|_| ())
        }
        _ => Err(StoreError::corrupt("a member that its order does not know", from)),
    }
}

/// Takes a member out.
///
/// # Errors
/// [`StoreError::Full`] when not even the reserve has room; [`StoreError::Corrupt`] when it is
/// not there.
pub fn remove(heap: &mut Heap, root: Cell, score: f64, name: &[u8]) -> Result<()> {
    let member = Member { word: score_word(score), name };
    match Order::remove_by(heap, root, &member)? {
        Some(_) => Ok(()),
        None => Err(StoreError::corrupt("a member that its order does not know", root.at)),
    }
}

/// The rank of a member, from the lowest.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn rank_of(mem: &Mem, root: Offset, score: f64, name: &[u8]) -> Result<Option<u64>> {
    Order::rank_of(mem, root, &Member { word: score_word(score), name })
}

/// How many members lie below a place.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn count_below(mem: &Mem, root: Offset, bound: &Bound<'_>) -> Result<u64> {
    Order::rank(mem, root, bound)
}

/// Visits members from rank `from` upwards, or with `reverse` downwards, until `visit` says to
/// stop.
///
/// # Errors
/// [`StoreError::Corrupt`]; what `visit` returns.
pub fn walk<'a>(
    mem: &'a Mem,
    root: Offset,
    from: u64,
    reverse: bool,
    visit: &mut dyn FnMut(&Record<'a>) -> Result<bool>,
) -> Result<()> {
    Order::walk(mem, root, from, reverse, &mut |key, _, _| visit(&Record::read(mem, key[1])?))
}

/// Checks the tree, calling `block` with every node; returns the number of members.
///
/// # Errors
/// [`StoreError::Corrupt`] naming the first node that breaks an invariant.
pub fn check(mem: &Mem, root: Offset, block: &mut dyn FnMut(Offset) -> Result<()>) -> Result<u64> {
    let order = |mem: &Mem, a: &[u64; 2], b: &[u64; 2]| {
        Member { word: b[0], name: name_of(mem, b)? }.compare(mem, a)
    };
    Order::check_by(mem, root, &order, block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::{self, Body, Encoding, Meta, Type};
    use crate::heap::testing::{Rng, heap, seeds};
    use crate::layout::pool::kind;
    use std::collections::BTreeMap;

    const SCORES: [f64; 9] = [
        f64::NEG_INFINITY,
        -1e300,
        -1.5,
        -f64::MIN_POSITIVE,
        0.0,
        f64::MIN_POSITIVE,
        1.5,
        1e300,
        f64::INFINITY,
    ];

    #[test]
    fn words_are_ordered_as_scores() {
        for pair in SCORES.windows(2) {
            assert!(score_word(pair[0]) < score_word(pair[1]), "{pair:?}");
        }
        assert_eq!(score_word(-0.0), score_word(0.0));
    }

    fn member(heap: &mut Heap, name: &[u8], score: f64) -> Offset {
        let meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
        blob::write(heap, name, meta, &Body::Inline(&score.to_bits().to_le_bytes())).unwrap()
    }

    /// Few scores and many names, so that most comparisons end in the names.
    #[test]
    fn random_orders_agree_with_a_map() {
        for seed in seeds(30) {
            let (mut heap, mut rng) = (heap(), Rng(seed));
            let mut root = Cell::new(heap.make_zeroed(kind::ROOT, 0, 0, 64).unwrap(), 2);
            let mut scores: BTreeMap<Vec<u8>, (usize, Offset)> = BTreeMap::new();
            let mut model: BTreeMap<(usize, Vec<u8>), Offset> = BTreeMap::new();
            let (growing, names) = (3 + rng.below(7), 1 + rng.below(600));
            for _ in 0..rng.below(3000) {
                let name = rng.below(names).to_string().into_bytes();
                if rng.below(40) == 0 {
                    heap.epoch += 1;
                    root = Cell::new(heap.own(root.at - 16, 64).unwrap(), 2);
                }
                if let Some((score, at)) = scores.remove(&name) {
                    remove(&mut heap, root, SCORES[score], &name).unwrap();
                    let len = Record::read(&heap.mem, at).unwrap().len();
                    heap.free(at, len).unwrap();
                    model.remove(&(score, name.clone()));
                }
                if rng.below(10) < growing {
                    let score = rng.below(9) as usize;
                    let at = member(&mut heap, &name, SCORES[score]);
                    insert(&mut heap, root, SCORES[score], at).unwrap();
                    scores.insert(name.clone(), (score, at));
                    model.insert((score, name.clone()), at);
                }
                let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
                let score = rng.below(9) as usize;
                let key = (score, name.clone());
                for (bound, want) in [
                    (Bound::BeforeScore(SCORES[score]), model.range(..(score, vec![])).count()),
                    (Bound::AfterScore(SCORES[score]), model.range(..(score + 1, vec![])).count()),
                    (Bound::BeforeMember(SCORES[score], &name), model.range(..&key).count()),
                    (Bound::AfterMember(SCORES[score], &name), model.range(..=&key).count()),
                ] {
                    let below = count_below(mem, tree, &bound).unwrap();
                    assert_eq!(below, want as u64, "seed {seed}, {bound:?}");
                }
                let rank = rank_of(mem, tree, SCORES[score], &name).unwrap();
                let want = model.contains_key(&key).then(|| model.range(..&key).count() as u64);
                assert_eq!(rank, want, "seed {seed}");
            }
            let (mem, tree) = (&heap.mem, heap.get(root).unwrap());
            let total = check(mem, tree, &mut |_| Ok(())).unwrap();
            assert_eq!(total, model.len() as u64, "seed {seed}");
            let mut seen = Vec::new();
            walk(mem, tree, 0, false, &mut |record| {
                seen.push(record.key().to_vec());
                Ok(true)
            })
            .unwrap();
            let want: Vec<Vec<u8>> = model.into_keys().map(|(_, name)| name).collect();
            assert_eq!(seen, want, "seed {seed}");
        }
    }
}
