//! Commands on sorted sets.

mod add;
mod combine;
mod pop;
mod random;
mod range;
mod read;
mod remove;
mod scan;

pub(super) use add::{zadd, zincrby};
pub(super) use combine::{zdiff, zdiffstore, zinter, zintercard, zinterstore, zunion, zunionstore};
pub(super) use pop::{zmpop, zpopmax, zpopmin};
pub(super) use random::zrandmember;
pub(super) use range::{
    zrange, zrangebylex, zrangebyscore, zrangestore, zrevrange, zrevrangebylex, zrevrangebyscore,
};
pub(super) use read::{zcard, zcount, zlexcount, zmscore, zrank, zrevrank, zscore};
pub(super) use remove::{zrem, zremrangebylex, zremrangebyrank, zremrangebyscore};
pub(super) use scan::zscan;

use std::ops::Range;

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Proto, Writer};

use crate::data::zset::ZSet;
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch};

/// The sorted set at a key, if there is one.
fn find<'a>(cx: &mut ReadContext<'a>, key: &[u8]) -> Outcome<Option<ZSet<'a>>> {
    match cx.find(key, Touch::Use)? {
        Some(record) => ZSet::of(&cx.view, &record).map(Some),
        None => Ok(None),
    }
}

/// Two ranks, counted from the end when negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RankRange {
    start: i64,
    stop: i64,
}

impl RankRange {
    pub(crate) fn parse(start: &[u8], stop: &[u8]) -> Result<RankRange, WireError> {
        match (parse_i64(start), parse_i64(stop)) {
            (Some(start), Some(stop)) => Ok(RankRange { start, stop }),
            _ => Err(WireError::NotInteger),
        }
    }

    /// The ranks within a set of `len` members, both ends of the range included.
    pub(crate) fn span(self, len: u64) -> Range<u64> {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let from_start = |rank: i64| if rank < 0 { len + rank } else { rank };
        let start = from_start(self.start).max(0);
        let end = from_start(self.stop).min(len - 1) + 1;
        if start < end { start as u64..end as u64 } else { 0..0 }
    }
}

/// The same span counted from the other end of a set of `len` members.
fn mirrored(span: Range<u64>, len: u64) -> Range<u64> {
    len - span.end..len - span.start
}

/// Begins a reply of `count` members, which [`reply_member`] continues.
fn begin_members(count: u64, with_scores: bool, w: &mut Writer<'_>) {
    let flat = with_scores && w.proto() == Proto::Resp2;
    w.array(count as usize * if flat { 2 } else { 1 });
}

/// A member of a reply: with its score, a pair in RESP3, two elements in RESP2.
fn reply_member(name: &[u8], score: f64, with_scores: bool, w: &mut Writer<'_>) {
    if with_scores && w.proto() == Proto::Resp3 {
        w.array(2);
    }
    w.bulk(name);
    if with_scores {
        w.double(score);
    }
}

/// The members of a span, as [`begin_members`] and [`reply_member`] write them.
fn reply_span(
    set: &ZSet<'_>,
    span: Range<u64>,
    reverse: bool,
    with_scores: bool,
    w: &mut Writer<'_>,
) -> Outcome {
    begin_members(span.end - span.start, with_scores, w);
    set.visit(span, reverse, &mut |name, score| reply_member(name, score, with_scores, w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_from_either_end() {
        let rows = [
            (0, -1, 0..5),
            (1, 3, 1..4),
            (-2, -1, 3..5),
            (-100, 100, 0..5),
            (3, 1, 0..0),
            (5, 9, 0..0),
            (0, -6, 0..0),
            (i64::MIN, i64::MAX, 0..5),
            (i64::MAX, i64::MIN, 0..0),
        ];
        for (start, stop, wanted) in rows {
            assert_eq!(RankRange { start, stop }.span(5), wanted, "{start} {stop}");
        }
        assert_eq!(RankRange { start: 0, stop: -1 }.span(0), 0..0);
        assert_eq!(mirrored(1..3, 5), 2..4);
    }
}
