//! Sorted sets: members in the order of their scores, those of one score in the order of their
//! bytes.
//!
//! A small one is packed (member and score in turn, in order; a score is the eight bytes of its
//! double), a large one is a tree by name and a counted one by score. Handlers see ranks, spans of
//! ranks and members, never the form. The encoding is a name that sticks to the value as in Redis;
//! as there, a set that reports `listpack` does not know a negative zero, one that reports
//! `skiplist` does.

mod edit;
mod range;

use std::cmp::Ordering;
use std::ops::Range;

use cairn_protocol::WireError;
use cairn_protocol::number::{push_f64, push_f64_17_digits};
use cairn_store::{Bound, Encoding, Record, StoreError, Tree, Type, View};

use super::limits::Listpack;
use super::packed::{Damage, Entries, Packed, Spot};
use crate::failure::{Failure, Outcome};

pub(crate) use edit::{Missing, Plan, edit, member_cost, replace};
pub(crate) use range::{LexEnd, LexRange, ScoreRange};

/// A member and its score, apart from any set.
pub(crate) type Member = (Vec<u8>, f64);

const SCORE_BYTES: usize = 8;
/// Members up to which a set with several scores is searched by name as a listpack is.
const SEARCHED_MEMBERS_MAX: u64 = 128;

/// A sorted set, to read.
pub(crate) enum ZSet<'a> {
    Packed(Packed<'a>),
    Tree(Tree<'a>),
}

impl<'a> ZSet<'a> {
    /// The sorted set at a key; any other type is refused.
    pub(crate) fn of(view: &View<'a>, record: &Record<'a>) -> Outcome<ZSet<'a>> {
        require(record)?;
        Ok(match view.tree(record) {
            Some(tree) => ZSet::Tree(tree),
            None => ZSet::Packed(Packed::of(record)?),
        })
    }

    /// Members.
    pub(crate) fn len(&self) -> u64 {
        match self {
            ZSet::Packed(packed) => packed.len() as u64 / 2,
            ZSet::Tree(tree) => tree.len(),
        }
    }

    /// The member's score.
    pub(crate) fn score(&self, name: &[u8]) -> Outcome<Option<f64>> {
        match self {
            ZSet::Packed(packed) => Ok(find_packed(packed, name)?.map(|(_, score)| score)),
            ZSet::Tree(tree) => Ok(tree.score(name)?),
        }
    }

    /// The member's rank from the lowest, and its score.
    pub(crate) fn rank(&self, name: &[u8]) -> Outcome<Option<(u64, f64)>> {
        match self {
            ZSet::Packed(packed) => find_packed(packed, name),
            ZSet::Tree(tree) => {
                let Some(score) = tree.score(name)? else { return Ok(None) };
                match tree.rank_of(score, name)? {
                    Some(rank) => Ok(Some((rank, score))),
                    None => Err(disordered()),
                }
            }
        }
    }

    /// The ranks of the members whose scores lie in the range.
    pub(crate) fn span_by_score(&self, range: &ScoreRange) -> Outcome<Range<u64>> {
        let (from, to) = match self {
            ZSet::Packed(packed) => {
                let (mut from, mut to) = (0, 0);
                for pair in Pairs::of(packed) {
                    let (_, score) = pair?;
                    from += u64::from(range.is_above(score));
                    to += u64::from(!range.is_below(score));
                }
                (from, to)
            }
            ZSet::Tree(tree) => {
                let (min, max) = (range.min, range.max);
                let min = match min.exclusive {
                    true => Bound::AfterScore(min.score),
                    false => Bound::BeforeScore(min.score),
                };
                let max = match max.exclusive {
                    true => Bound::BeforeScore(max.score),
                    false => Bound::AfterScore(max.score),
                };
                (tree.count_below(min)?, tree.count_below(max)?)
            }
        };
        Ok(from..to.max(from))
    }

    /// The ranks of the members that lie in the range.
    ///
    /// What is asked of a set with several scores is up to the server. A small one answers what a
    /// listpack of Redis does, which depends on the end it starts from.
    pub(crate) fn span_by_name(&self, range: &LexRange<'_>, reverse: bool) -> Outcome<Range<u64>> {
        if range.is_empty() {
            return Ok(0..0);
        }
        match self {
            ZSet::Tree(tree) if tree.len() > SEARCHED_MEMBERS_MAX => tree_span_by_name(tree, range),
            _ => self.searched_span_by_name(range, reverse),
        }
    }

    /// As a listpack of Redis is searched: from one end for the first member before the far end of
    /// the range, then on for as long as members lie in it.
    fn searched_span_by_name(&self, range: &LexRange<'_>, reverse: bool) -> Outcome<Range<u64>> {
        let mut sides = Vec::with_capacity(self.len() as usize);
        self.visit(0..self.len(), false, &mut |name, _| {
            sides.push((range.is_above(name), range.is_below(name)));
        })?;
        let all_outside = match (sides.first(), sides.last()) {
            (Some((_, first_is_below)), Some((last_is_above, _))) => {
                *first_is_below || *last_is_above
            }
            _ => true,
        };
        if all_outside {
            return Ok(0..0);
        }
        let (above, below) = (|side: &&(bool, bool)| side.0, |side: &&(bool, bool)| side.1);
        let span = if reverse {
            let end = sides.len() - sides.iter().rev().take_while(below).count();
            end - sides[..end].iter().rev().take_while(|side| !above(side)).count()..end
        } else {
            let start = sides.iter().take_while(above).count();
            start..start + sides[start..].iter().take_while(|side| !below(side)).count()
        };
        Ok(span.start as u64..span.end as u64)
    }

    /// Visits the members of a span that lies within the set, from its lowest rank or, with
    /// `reverse`, from its highest.
    pub(crate) fn visit(
        &self,
        span: Range<u64>,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], f64),
    ) -> Outcome {
        match self {
            _ if span.is_empty() => Ok(()),
            ZSet::Packed(packed) => visit_packed(packed, span, reverse, each),
            ZSet::Tree(tree) => {
                let from = if reverse { span.end - 1 } else { span.start };
                let mut left = span.end - span.start;
                tree.ranked(from, reverse, &mut |name, score| {
                    each(name, score);
                    left -= 1;
                    Ok(left > 0)
                })?;
                if left == 0 { Ok(()) } else { Err(disordered()) }
            }
        }
    }

    /// Visits all members in their order, until `each` says `false`.
    pub(crate) fn for_each(&self, each: &mut dyn FnMut(&[u8], f64) -> Outcome<bool>) -> Outcome {
        match self {
            ZSet::Packed(packed) => {
                for pair in Pairs::of(packed) {
                    let (name, score) = pair?;
                    if !each(name, score)? {
                        break;
                    }
                }
                Ok(())
            }
            ZSet::Tree(tree) => {
                let mut outcome = Ok(true);
                tree.ranked(0, false, &mut |name, score| {
                    outcome = each(name, score);
                    Ok(matches!(outcome, Ok(true)))
                })?;
                outcome.map(|_| ())
            }
        }
    }

    /// One step of an iteration from `cursor`: looks at about `count` members, and returns where to
    /// go on, 0 at the end. A packed set is visited whole.
    pub(crate) fn scan(
        &self,
        cursor: u64,
        count: u64,
        each: &mut dyn FnMut(&[u8], f64),
    ) -> Outcome<u64> {
        let ZSet::Tree(tree) = self else {
            self.visit(0..self.len(), false, each)?;
            return Ok(0);
        };
        let mut seen = 0;
        Ok(tree.scan(cursor, &mut |member| {
            each(member.key(), score_of(member)?);
            seen += 1;
            Ok(seen < count)
        })?)
    }
}

/// Refuses keys that hold something else.
fn require(record: &Record<'_>) -> Outcome {
    if record.ty() == Type::ZSet { Ok(()) } else { Err(WireError::WrongType.into()) }
}

/// All members, copied.
pub(crate) fn copy_of(set: &ZSet<'_>) -> Outcome<Vec<Member>> {
    let mut members = Vec::with_capacity(set.len() as usize);
    set.visit(0..set.len(), false, &mut |name, score| members.push((name.to_vec(), score)))?;
    Ok(members)
}

/// The encoding of a sorted set made of this many members, the longest of this length.
fn encoding_of(limit: Listpack, len: u64, longest: usize) -> Encoding {
    if len <= limit.entries && longest as u64 <= limit.value_bytes {
        Encoding::Listpack
    } else {
        Encoding::Skiplist
    }
}

/// The score that a set of this encoding keeps: a listpack keeps integers as such, and there is
/// only one integer zero.
fn kept_score(score: f64, encoding: Encoding) -> f64 {
    if encoding == Encoding::Listpack { score + 0.0 } else { score }
}

/// Appends the text that ZSCAN shows for a score: what stands in a listpack, or what a skiplist's
/// double is printed as.
pub(crate) fn push_scanned_score(out: &mut Vec<u8>, score: f64, encoding: Encoding) {
    if encoding == Encoding::Listpack {
        push_f64(out, score)
    } else {
        push_f64_17_digits(out, score)
    }
}

/// Order by score, then by member. Scores are never NaN, and both zeros are the same.
fn order(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(b.1))
}

/// Puts members into the order of sorted sets.
pub(crate) fn sort(members: &mut [Member]) {
    members.sort_by(|a, b| order((a.1, &a.0), (b.1, &b.0)));
}

/// Members and scores of a packed set, in order.
struct Pairs<'p>(Entries<'p>);

impl<'p> Pairs<'p> {
    fn of(packed: &Packed<'p>) -> Pairs<'p> {
        Pairs(packed.iter())
    }

    /// The place of the pair that comes next.
    fn spot(&self) -> Spot {
        self.0.spot()
    }
}

impl<'p> Iterator for Pairs<'p> {
    type Item = Result<(&'p [u8], f64), Damage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.0.next_pair()?;
        Some(pair.and_then(|(name, score)| {
            let score: [u8; SCORE_BYTES] = score.try_into().map_err(|_| self.0.damage())?;
            Ok((name, f64::from_le_bytes(score)))
        }))
    }
}

fn find_packed(packed: &Packed<'_>, name: &[u8]) -> Outcome<Option<(u64, f64)>> {
    for (rank, pair) in (0..).zip(Pairs::of(packed)) {
        let (member, score) = pair?;
        if member == name {
            return Ok(Some((rank, score)));
        }
    }
    Ok(None)
}

fn tree_span_by_name(tree: &Tree<'_>, range: &LexRange<'_>) -> Outcome<Range<u64>> {
    let mut lowest = None;
    tree.ranked(0, false, &mut |_, score| {
        lowest = Some(score);
        Ok(false)
    })?;
    let Some(score) = lowest else { return Ok(0..0) };
    let from = match range.min {
        LexEnd::Lowest => 0,
        LexEnd::At(name) => tree.count_below(Bound::BeforeMember(score, name))?,
        LexEnd::Beside(name) => tree.count_below(Bound::AfterMember(score, name))?,
        LexEnd::Highest => tree.len(),
    };
    let to = match range.max {
        LexEnd::Lowest => 0,
        LexEnd::At(name) => tree.count_below(Bound::AfterMember(score, name))?,
        LexEnd::Beside(name) => tree.count_below(Bound::BeforeMember(score, name))?,
        LexEnd::Highest => tree.len(),
    };
    Ok(from..to.max(from))
}

fn visit_packed(
    packed: &Packed<'_>,
    span: Range<u64>,
    reverse: bool,
    each: &mut dyn FnMut(&[u8], f64),
) -> Outcome {
    let count = (span.end - span.start) as usize;
    let pairs = Pairs::of(packed).skip(span.start as usize).take(count);
    if !reverse {
        for pair in pairs {
            let (name, score) = pair?;
            each(name, score);
        }
        return Ok(());
    }
    let pairs: Vec<(&[u8], f64)> = pairs.collect::<Result<_, _>>()?;
    for (name, score) in pairs.into_iter().rev() {
        each(name, score);
    }
    Ok(())
}

/// The score of a member of a tree.
fn score_of(member: &Record<'_>) -> Result<f64, StoreError> {
    let bytes = member.value().as_inline().and_then(|bytes| bytes.try_into().ok());
    match bytes {
        Some(bytes) => Ok(f64::from_le_bytes(bytes)),
        None => Err(StoreError::corrupt("a member whose score is not a double", member.offset())),
    }
}

#[cold]
fn disordered() -> Failure {
    StoreError::corrupt("a sorted set whose order has other members than it has", 0).into()
}
