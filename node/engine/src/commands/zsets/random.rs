//! Members drawn by the seed.

use std::collections::BTreeSet;

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};

use super::{begin_members, find, reply_member, reply_span};
use crate::commands::iterate::check_repeats;
use crate::failure::{Failure, Outcome};
use crate::keyspace::ReadContext;
use crate::seed::Draws;

/// ZRANDMEMBER key [count [WITHSCORES]]
pub(crate) fn zrandmember(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    if argv.len() > 2 {
        return several(cx, argv, w);
    }
    let Some(set) = find(cx, &argv[1])? else {
        w.null();
        return Ok(());
    };
    let rank = Draws::new(cx.seed).below(set.len());
    set.visit(rank..rank + 1, false, &mut |name, _| w.bulk(name))
}

fn several(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let count = parse_i64(&argv[2]).ok_or(WireError::NotInteger)?;
    if count == i64::MIN {
        return Err(Failure::reply(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        ));
    }
    let mut args = Args::new(argv, 3);
    let with_scores = args.keyword("WITHSCORES");
    args.expect_end()?;
    if with_scores && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
        return Err(WireError::OutOfRange.into());
    }
    let Some(set) = find(cx, &argv[1])? else {
        w.array(0);
        return Ok(());
    };
    let (repeats, wanted) = (count < 0, count.unsigned_abs());
    if !repeats && wanted >= set.len() {
        cx.may_take(set.len())?;
        // From the highest, as Redis does.
        return reply_span(&set, 0..set.len(), true, with_scores, w);
    }
    check_repeats(wanted)?;
    cx.may_take(wanted)?;
    begin_members(wanted, with_scores, w);
    let mut draws = Draws::new(cx.seed);
    let mut seen = BTreeSet::new();
    for nth in 0..wanted {
        // Floyd's choice: each of the ranks that may be drawn so far, or the one that has just
        // become possible when it has been drawn before.
        let rank = if repeats {
            draws.below(set.len())
        } else {
            let newest = set.len() - wanted + nth;
            let drawn = draws.below(newest + 1);
            let rank = if seen.contains(&drawn) { newest } else { drawn };
            seen.insert(rank);
            rank
        };
        set.visit(rank..rank + 1, false, &mut |name, score| {
            reply_member(name, score, with_scores, w);
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use super::*;
    use crate::commands::test::Bench;

    fn filled(members: usize) -> Bench {
        let mut bench = Bench::new();
        for n in 0..members {
            bench.run(&[b"ZADD", b"z", n.to_string().as_bytes(), format!("m{n}").as_bytes()]);
        }
        bench
    }

    fn members(reply: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(reply);
        text.split("\r\n").filter(|line| line.starts_with('m')).map(str::to_owned).collect()
    }

    #[test]
    fn every_member_is_drawn_and_a_seed_repeats_its_draws() {
        for size in [7, 200] {
            let mut bench = filled(size);
            let mut seen = BTreeSet::new();
            for seed in 0..size as u64 * 20 {
                bench.seed = seed;
                let once = bench.run(&[b"ZRANDMEMBER", b"z"]);
                bench.seed = seed;
                assert_eq!(bench.run(&[b"ZRANDMEMBER", b"z"]), once);
                seen.insert(once);
            }
            assert_eq!(seen.len(), size);
        }
    }

    #[test]
    fn different_members_are_different_and_repeated_ones_as_many_as_asked_for() {
        let mut bench = filled(50);
        for count in 1..50usize {
            let reply = bench.run(&[b"ZRANDMEMBER", b"z", count.to_string().as_bytes()]);
            let drawn = members(&reply);
            assert_eq!(drawn.len(), count);
            assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), count);
        }
        assert_eq!(members(&bench.run(&[b"ZRANDMEMBER", b"z", b"-120"])).len(), 120);
        let all = members(&bench.run(&[b"ZRANDMEMBER", b"z", b"60"]));
        assert_eq!((all.len(), all[0].as_str(), all[49].as_str()), (50, "m49", "m0"));
    }

    #[test]
    fn shapes_follow_protocol_and_options() {
        let mut bench = filled(1);
        bench.check(&[
            ("ZRANDMEMBER z", "$2|m0"),
            ("ZRANDMEMBER none", "$-1"),
            ("ZRANDMEMBER none 3", "*0"),
            ("ZRANDMEMBER z 0", "*0"),
            ("ZRANDMEMBER z -2 WITHSCORES", "*4|$2|m0|$1|0|$2|m0|$1|0"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[
            ("ZRANDMEMBER z 2 WITHSCORES", "*1|*2|$2|m0|,0"),
            ("ZRANDMEMBER z -1 WITHSCORES", "*1|*2|$2|m0|,0"),
        ]);
    }

    #[test]
    fn mistakes() {
        let mut bench = Bench::new();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZRANDMEMBER s", wrong),
            ("ZRANDMEMBER s 1", wrong),
            ("ZRANDMEMBER s x WHAT", "-ERR value is not an integer or out of range"),
            ("ZRANDMEMBER s 1 WHAT", "-ERR syntax error"),
            ("ZRANDMEMBER s 1 WITHSCORES x", "-ERR syntax error"),
            (
                "ZRANDMEMBER s -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807",
            ),
            ("ZRANDMEMBER s 4611686018427387904 WITHSCORES", "-ERR value is out of range"),
        ]);
    }
}
