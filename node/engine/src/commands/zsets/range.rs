//! Ranges by rank, score and member.

use std::ops::Range;

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};

use super::{RankRange, find, mirrored, reply_span};
use crate::data::zset::{self, LexRange, ScoreRange, ZSet};
use crate::failure::{Failure, Outcome};
use crate::keyspace::{ReadContext, WriteContext};

/// ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
pub(crate) fn zrange(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    reply(cx, argv, Form { by: None, reverse: None, store: false }, w)
}

/// ZREVRANGE key start stop [WITHSCORES]
pub(crate) fn zrevrange(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    reply(cx, argv, Form::fixed(By::Rank, true), w)
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
pub(crate) fn zrangebyscore(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    reply(cx, argv, Form::fixed(By::Score, false), w)
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
pub(crate) fn zrevrangebyscore(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    reply(cx, argv, Form::fixed(By::Score, true), w)
}

/// ZRANGEBYLEX key min max [LIMIT offset count]
pub(crate) fn zrangebylex(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    reply(cx, argv, Form::fixed(By::Lex, false), w)
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
pub(crate) fn zrevrangebylex(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    reply(cx, argv, Form::fixed(By::Lex, true), w)
}

/// ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]
pub(crate) fn zrangestore(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let query = Query::parse(argv, 3, Form { by: None, reverse: None, store: true })?;
    let (destination, source) = (cx.key(&argv[1]), cx.key(&argv[2]));
    let mut members = Vec::new();
    if cx.read(&source, |_| Ok(()))?.is_some() {
        let view = cx.store.view();
        if let Some(record) = view.get(cx.db, &source)? {
            let set = ZSet::of(&view, &record)?;
            let mut copy = |name: &[u8], score: f64| members.push((name.to_vec(), score));
            set.visit(query.select(&set)?, false, &mut copy)?;
        }
    }
    let count = members.len();
    zset::replace(cx, &destination, members)?;
    w.int(count as i64);
    Ok(())
}

/// What the ends of a range are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// What of a query the command's name says; the rest are options.
#[derive(Debug, Clone, Copy)]
struct Form {
    by: Option<By>,
    reverse: Option<bool>,
    store: bool,
}

impl Form {
    fn fixed(by: By, reverse: bool) -> Form {
        Form { by: Some(by), reverse: Some(reverse), store: false }
    }
}

#[derive(Debug)]
enum Ends<'a> {
    Rank(RankRange),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

/// Members to leave out at the start, and how many to take: all when negative.
#[derive(Debug, Clone, Copy)]
struct Limit {
    offset: i64,
    count: i64,
}

/// Which members are asked for.
#[derive(Debug)]
struct Query<'a> {
    ends: Ends<'a>,
    reverse: bool,
    limit: Limit,
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads the ends at argument `first`, and what follows them.
    fn parse(argv: Argv<'a>, first: usize, form: Form) -> Outcome<Query<'a>> {
        let Form { mut by, mut reverse, store } = form;
        let (mut limit, mut with_scores) = (Limit { offset: 0, count: -1 }, false);
        let mut args = Args::new(argv, first + 2);
        while !args.is_empty() {
            if !store && args.keyword("WITHSCORES") {
                with_scores = true;
            } else if args.left() > 2 && args.keyword("LIMIT") {
                limit = Limit { offset: args.int()?, count: args.int()? };
            } else if form.reverse.is_none() && args.keyword("REV") {
                reverse = Some(true);
            } else if by_is_open(form, by) && args.keyword("BYLEX") {
                by = Some(By::Lex);
            } else if by_is_open(form, by) && args.keyword("BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(WireError::Syntax.into());
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if limit.count != -1 && by == By::Rank {
            return Err(Failure::reply(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Failure::reply(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let mut args = Args::new(argv, first);
        let (start, stop) = (args.take()?, args.take()?);
        // A reverse range by score or member names its higher end first.
        let (min, max) = if reverse { (stop, start) } else { (start, stop) };
        let ends = match by {
            By::Rank => Ends::Rank(RankRange::parse(start, stop)?),
            By::Score => Ends::Score(ScoreRange::parse(min, max)?),
            By::Lex => Ends::Lex(LexRange::parse(min, max)?),
        };
        Ok(Query { ends, reverse, limit, with_scores })
    }

    /// The ranks of the members asked for, counted from the lowest.
    fn select(&self, set: &ZSet<'_>) -> Outcome<Range<u64>> {
        let found = match &self.ends {
            Ends::Rank(ranks) => {
                let span = ranks.span(set.len());
                return Ok(if self.reverse { mirrored(span, set.len()) } else { span });
            }
            Ends::Score(range) => set.span_by_score(range)?,
            Ends::Lex(range) => set.span_by_name(range, self.reverse)?,
        };
        Ok(self.limit.of(found, self.reverse))
    }
}

/// Redis takes BYLEX and BYSCORE once, and only where the name has not said it.
fn by_is_open(form: Form, by: Option<By>) -> bool {
    form.by.is_none() && by.is_none()
}

impl Limit {
    /// The part of a span, whose start is its end with `reverse`.
    fn of(self, span: Range<u64>, reverse: bool) -> Range<u64> {
        let len = span.end - span.start;
        let Ok(offset) = u64::try_from(self.offset) else { return span.start..span.start };
        let offset = offset.min(len);
        let count = u64::try_from(self.count).unwrap_or(u64::MAX).min(len - offset);
        let part = offset..offset + count;
        let part = if reverse { mirrored(part, len) } else { part };
        span.start + part.start..span.start + part.end
    }
}

fn reply(cx: &mut ReadContext<'_>, argv: Argv<'_>, form: Form, w: &mut Writer<'_>) -> Outcome {
    let query = Query::parse(argv, 2, form)?;
    let Some(set) = find(cx, &argv[1])? else {
        w.array(0);
        return Ok(());
    };
    let span = query.select(&set)?;
    cx.may_take(span.end - span.start)?;
    reply_span(&set, span, query.reverse, query.with_scores, w)
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use super::*;
    use crate::commands::test::Bench;

    const SYNTAX: &str = "-ERR syntax error";

    #[test]
    fn limits_take_parts_from_either_end() {
        let rows = [
            (0, -1, 10..15, 10..15),
            (1, 2, 11..13, 12..14),
            (4, 9, 14..15, 10..11),
            (5, 1, 15..15, 10..10),
            (9, -1, 15..15, 10..10),
            (0, 0, 10..10, 15..15),
            (2, i64::MIN, 12..15, 10..13),
        ];
        for (offset, count, forward, backward) in rows {
            let limit = Limit { offset, count };
            assert_eq!(limit.of(10..15, false), forward, "{limit:?}");
            assert_eq!(limit.of(10..15, true), backward, "{limit:?}");
        }
        assert!(Limit { offset: -1, count: 5 }.of(10..15, false).is_empty());
    }

    #[test]
    fn by_rank() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("ZRANGE z 0 -1", "*3|$1|a|$1|b|$1|c"),
            ("ZRANGE z 1 1 WITHSCORES", "*2|$1|b|$1|2"),
            ("ZRANGE z 0 1 REV", "*2|$1|c|$1|b"),
            ("ZREVRANGE z 0 0 WITHSCORES", "*2|$1|c|$1|3"),
            ("ZREVRANGE z -1 5", "*1|$1|a"),
            ("ZRANGE z 2 1", "*0"),
            ("ZRANGE none 0 -1", "*0"),
            ("ZRANGE z 0 -1 LIMIT 5 -1", "*3|$1|a|$1|b|$1|c"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("ZRANGE z 0 1 WITHSCORES", "*2|*2|$1|a|,1|*2|$1|b|,2")]);
    }

    #[test]
    fn by_score() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b 2 c 3 d", ":4"),
            ("ZRANGEBYSCORE z 2 3", "*3|$1|b|$1|c|$1|d"),
            ("ZRANGEBYSCORE z (2 +inf WITHSCORES", "*2|$1|d|$1|3"),
            ("ZRANGEBYSCORE z -inf +inf LIMIT 1 2", "*2|$1|b|$1|c"),
            ("ZREVRANGEBYSCORE z +inf -inf LIMIT 1 2", "*2|$1|c|$1|b"),
            ("ZREVRANGEBYSCORE z (3 2 WITHSCORES", "*4|$1|c|$1|2|$1|b|$1|2"),
            ("ZRANGE z 2 2 BYSCORE", "*2|$1|b|$1|c"),
            ("ZRANGE z 2 (1 BYSCORE REV", "*2|$1|c|$1|b"),
            ("ZRANGE z 3 2 BYSCORE", "*0"),
            ("ZRANGEBYSCORE z 0 9 LIMIT -1 2", "*0"),
            ("ZRANGEBYSCORE none 0 9", "*0"),
        ]);
    }

    #[test]
    fn by_member() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 0 a 0 b 0 c 0 d", ":4"),
            ("ZRANGEBYLEX z - (c", "*2|$1|a|$1|b"),
            ("ZRANGEBYLEX z [b + LIMIT 1 1", "*1|$1|c"),
            ("ZREVRANGEBYLEX z + [b LIMIT 0 2", "*2|$1|d|$1|c"),
            ("ZRANGE z [b [c BYLEX", "*2|$1|b|$1|c"),
            ("ZRANGE z (d - BYLEX REV", "*3|$1|c|$1|b|$1|a"),
            ("ZRANGEBYLEX z + -", "*0"),
            ("ZRANGEBYLEX none - +", "*0"),
        ]);
    }

    #[test]
    fn a_set_with_several_scores_answers_as_a_listpack_does() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD m 1 a -1 c 5 b 5 d", ":4"),
            ("ZRANGEBYLEX m [b [c", "*3|$1|c|$1|a|$1|b"),
            ("ZREVRANGEBYLEX m [c [b", "*1|$1|b"),
            ("ZLEXCOUNT m [b [c", ":3"),
            ("ZRANGEBYLEX m [a [b", "*0"),
            ("ZREVRANGEBYLEX m [b [a", "*0"),
        ]);
    }

    #[test]
    fn mistakes() {
        let mut bench = Bench::new();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        let integer = "-ERR value is not an integer or out of range";
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZRANGE s 0 -1", wrong),
            ("ZRANGEBYSCORE s 0 1", wrong),
            ("ZRANGESTORE d s 0 1", wrong),
            ("ZRANGE s x 1", integer),
            ("ZRANGE s 0 1 LIMIT x 1", integer),
            ("ZRANGE s 0 1 LIMIT 1", SYNTAX),
            ("ZRANGE s 0 1 BYLEX BYSCORE", SYNTAX),
            ("ZRANGE s 0 1 WHAT", SYNTAX),
            ("ZREVRANGE s 0 1 REV", SYNTAX),
            ("ZREVRANGE s 0 1 BYSCORE", SYNTAX),
            ("ZRANGEBYSCORE s 0 1 BYLEX", SYNTAX),
            ("ZRANGESTORE d s 0 1 WITHSCORES", SYNTAX),
            ("ZRANGE s a b BYSCORE", "-ERR min or max is not a float"),
            ("ZRANGE s a b BYLEX", "-ERR min or max not valid string range item"),
            (
                "ZRANGE s 0 1 LIMIT 0 1",
                "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ),
            (
                "ZRANGEBYLEX s - + WITHSCORES",
                "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ),
        ]);
    }

    #[test]
    fn ranges_are_stored() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("SET d x PX 1000", "+OK"),
            ("ZRANGESTORE d z 1 -1", ":2"),
            ("ZRANGE d 0 -1 WITHSCORES", "*4|$1|b|$1|2|$1|c|$1|3"),
            ("TTL d", ":-1"),
            ("ZRANGESTORE d z +inf 2 BYSCORE REV LIMIT 1 1", ":1"),
            ("ZRANGE d 0 -1", "*1|$1|b"),
            ("ZRANGESTORE z z 0 0", ":1"),
            ("ZRANGE z 0 -1", "*1|$1|a"),
            ("ZRANGESTORE d z 5 9", ":0"),
            ("EXISTS d", ":0"),
            ("ZRANGESTORE d none 0 -1", ":0"),
        ]);
        assert_eq!(bench.effects.changed, 0);
    }
}
