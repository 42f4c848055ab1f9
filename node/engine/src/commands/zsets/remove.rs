//! Taking members out.

use std::ops::Range;

use cairn_protocol::resp::{Argv, Writer};

use super::RankRange;
use crate::data::members::Stop;
use crate::data::zset::{self, LexRange, Plan, ScoreRange, ZSet};
use crate::failure::Outcome;
use crate::keyspace::WriteContext;

/// ZREM key member [member ...]
pub(crate) fn zrem(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let key = cx.key(&argv[1]);
    let none_of_them = |set: &ZSet<'_>| {
        for name in argv.iter().skip(2) {
            if set.score(name)?.is_some() {
                return Ok(None);
            }
        }
        Ok(Some(0))
    };
    let removed = zset::edit(cx, &key, Plan::REMOVAL, none_of_them, |set| {
        let mut removed = 0;
        for name in argv.iter().skip(2) {
            removed += i64::from(set.remove(name)?);
        }
        Ok(removed)
    })?;
    w.int(removed.unwrap_or(0));
    Ok(())
}

/// ZREMRANGEBYRANK key start stop
pub(crate) fn zremrangebyrank(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let range = RankRange::parse(&argv[2], &argv[3])?;
    remove_span(cx, argv, w, |set| Ok(range.span(set.len())))
}

/// ZREMRANGEBYSCORE key min max
pub(crate) fn zremrangebyscore(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let range = ScoreRange::parse(&argv[2], &argv[3])?;
    remove_span(cx, argv, w, |set| set.span_by_score(&range))
}

/// ZREMRANGEBYLEX key min max
pub(crate) fn zremrangebylex(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let range = LexRange::parse(&argv[2], &argv[3])?;
    remove_span(cx, argv, w, |set| set.span_by_name(&range, false))
}

fn remove_span(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
    select: impl Fn(&ZSet<'_>) -> Outcome<Range<u64>>,
) -> Outcome {
    let key = cx.key(&argv[1]);
    let nothing = |set: &ZSet<'_>| Ok(select(set)?.is_empty().then_some(0));
    let removed = zset::edit(cx, &key, Plan::REMOVAL, nothing, |set| {
        let span = select(&set.view()?)?;
        let count = span.end - span.start;
        set.remove_span(span)?;
        Ok::<_, Stop>(count)
    })?;
    w.int(removed.unwrap_or(0) as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    #[test]
    fn members_go_and_the_last_takes_the_key_with_it() {
        let mut bench = Bench::new();
        bench.check(&[("ZADD z 1 a 2 b 3 c", ":3"), ("ZREM z a x a", ":1"), ("ZREM z x", ":0")]);
        assert_eq!(bench.effects.changed, 0);
        bench.check(&[("ZREM z b c d", ":2"), ("EXISTS z", ":0"), ("ZREM z a", ":0")]);
        bench.check(&[("ZADD z 1 a", ":1"), ("ZREM z a", ":1")]);
        assert_eq!(bench.effects.changed, 1);
    }

    #[test]
    fn a_full_shard_takes_no_member_but_gives_them_up() {
        for filled in [5, 500] {
            let mut bench = Bench::new();
            for n in 0..filled {
                bench.run(&[b"ZADD", b"z", b"1", format!("member:{n}").as_bytes()]);
            }
            bench.admit_no_more_than(1 << 20);
            let long = "x".repeat(10_000);
            let mut reply = Vec::new();
            for n in 0..300 {
                reply = bench.run(&[b"ZADD", b"z", b"1", format!("{long}{n}").as_bytes()]);
            }
            assert!(reply.starts_with(b"-OOM"), "{}", reply.escape_ascii());
            bench.check(&[
                ("ZREM z member:1", ":1"),
                ("ZPOPMIN z", "*2|$8|member:0|$1|1"),
                ("ZREMRANGEBYRANK z 0 1", ":2"),
            ]);
        }
    }

    #[test]
    fn ranges_go() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f", ":6"),
            ("ZREMRANGEBYRANK z -1 -1", ":1"),
            ("ZREMRANGEBYSCORE z (1 2", ":1"),
            ("ZREMRANGEBYSCORE z 7 9", ":0"),
            ("ZRANGE z 0 -1", "*4|$1|a|$1|c|$1|d|$1|e"),
            ("ZREMRANGEBYLEX z - (d", ":2"),
            ("ZREMRANGEBYRANK z 0 -1", ":2"),
            ("EXISTS z", ":0"),
            ("ZREMRANGEBYRANK z 0 -1", ":0"),
        ]);
    }

    #[test]
    fn mistakes() {
        let mut bench = Bench::new();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZREM s a", wrong),
            ("ZREMRANGEBYRANK s 0 1", wrong),
            ("ZREMRANGEBYSCORE s 0 1", wrong),
            ("ZREMRANGEBYLEX s - +", wrong),
            ("ZREMRANGEBYRANK s a 1", "-ERR value is not an integer or out of range"),
            ("ZREMRANGEBYSCORE s a 1", "-ERR min or max is not a float"),
            ("ZREMRANGEBYLEX s a 1", "-ERR min or max not valid string range item"),
        ]);
    }
}
