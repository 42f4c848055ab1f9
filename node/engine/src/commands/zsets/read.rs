//! Scores, counts and ranks.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::command::CommandId;
use cairn_protocol::resp::{Argv, Writer};

use super::find;
use crate::data::zset::{LexRange, ScoreRange};
use crate::failure::Outcome;
use crate::keyspace::ReadContext;

/// ZSCORE key member
pub(crate) fn zscore(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let score = match find(cx, &argv[1])? {
        Some(set) => set.score(&argv[2])?,
        None => None,
    };
    reply_score(score, w);
    Ok(())
}

/// ZMSCORE key member [member ...]
pub(crate) fn zmscore(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let set = find(cx, &argv[1])?;
    w.array(argv.len() - 2);
    for name in argv.iter().skip(2) {
        let score = set.as_ref().map_or(Ok(None), |set| set.score(name))?;
        reply_score(score, w);
    }
    Ok(())
}

fn reply_score(score: Option<f64>, w: &mut Writer<'_>) {
    match score {
        Some(score) => w.double(score),
        None => w.null(),
    }
}

/// ZCARD key
pub(crate) fn zcard(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    w.int(find(cx, &argv[1])?.map_or(0, |set| set.len()) as i64);
    Ok(())
}

/// ZCOUNT key min max
pub(crate) fn zcount(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let range = ScoreRange::parse(&argv[2], &argv[3])?;
    let span = match find(cx, &argv[1])? {
        Some(set) => set.span_by_score(&range)?,
        None => 0..0,
    };
    w.int((span.end - span.start) as i64);
    Ok(())
}

/// ZLEXCOUNT key min max
pub(crate) fn zlexcount(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let range = LexRange::parse(&argv[2], &argv[3])?;
    let span = match find(cx, &argv[1])? {
        Some(set) => set.span_by_name(&range, false)?,
        None => 0..0,
    };
    w.int((span.end - span.start) as i64);
    Ok(())
}

/// ZRANK key member [WITHSCORE]
pub(crate) fn zrank(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    rank(cx, argv, CommandId::ZRank, w)
}

/// ZREVRANK key member [WITHSCORE]
pub(crate) fn zrevrank(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    rank(cx, argv, CommandId::ZRevRank, w)
}

fn rank(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    command: CommandId,
    w: &mut Writer<'_>,
) -> Outcome {
    if argv.len() > 4 {
        return Err(WireError::WrongArity(command.spec().name).into());
    }
    let mut args = Args::new(argv, 3);
    let with_score = args.keyword("WITHSCORE");
    args.expect_end()?;
    let found = match find(cx, &argv[1])? {
        Some(set) => set.rank(&argv[2])?.map(|(rank, score)| match command {
            CommandId::ZRevRank => (set.len() - 1 - rank, score),
            _ => (rank, score),
        }),
        None => None,
    };
    match found {
        Some((rank, score)) if with_score => {
            w.array(2);
            w.int(rank as i64);
            w.double(score);
        }
        Some((rank, _)) => w.int(rank as i64),
        None if with_score => w.null_array(),
        None => w.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    #[test]
    fn scores() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1.5 a inf b", ":2"),
            ("ZSCORE z a", "$3|1.5"),
            ("ZSCORE z x", "$-1"),
            ("ZSCORE none a", "$-1"),
            ("ZMSCORE z a x b", "*3|$3|1.5|$-1|$3|inf"),
            ("ZMSCORE none a b", "*2|$-1|$-1"),
            ("ZCARD z", ":2"),
            ("ZCARD none", ":0"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("ZSCORE z b", ",inf"), ("ZMSCORE z x a", "*2|_|,1.5")]);
    }

    #[test]
    fn counts() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b 2 c 3 d", ":4"),
            ("ZCOUNT z 2 3", ":3"),
            ("ZCOUNT z (1 (3", ":2"),
            ("ZCOUNT z -inf +inf", ":4"),
            ("ZCOUNT z 3 1", ":0"),
            ("ZCOUNT z (2 2", ":0"),
            ("ZCOUNT none 1 2", ":0"),
            ("ZCOUNT none x 2", "-ERR min or max is not a float"),
            ("ZCOUNT none 1 nan", "-ERR min or max is not a float"),
            ("ZADD l 0 a 0 b 0 c", ":3"),
            ("ZLEXCOUNT l - +", ":3"),
            ("ZLEXCOUNT l [b +", ":2"),
            ("ZLEXCOUNT l (b +", ":1"),
            ("ZLEXCOUNT l + -", ":0"),
            ("ZLEXCOUNT none - +", ":0"),
            ("ZLEXCOUNT none a b", "-ERR min or max not valid string range item"),
        ]);
    }

    #[test]
    fn ranks() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 c 2 b", ":3"),
            ("ZRANK z b", ":1"),
            ("ZREVRANK z b", ":1"),
            ("ZRANK z c", ":2"),
            ("ZREVRANK z c", ":0"),
            ("ZRANK z x", "$-1"),
            ("ZRANK none x", "$-1"),
            ("ZRANK z c WITHSCORE", "*2|:2|$1|2"),
            ("ZREVRANK z a withscore", "*2|:2|$1|1"),
            ("ZRANK z x WITHSCORE", "*-1"),
            ("ZREVRANK none x WITHSCORE", "*-1"),
            ("ZRANK z a WHAT", "-ERR syntax error"),
            ("ZREVRANK z a WITHSCORE x", "-ERR wrong number of arguments for 'zrevrank' command"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("ZRANK z c WITHSCORE", "*2|:2|,2"), ("ZRANK z x WITHSCORE", "_")]);
    }

    #[test]
    fn other_types_are_refused() {
        let mut bench = Bench::new();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZSCORE s a", wrong),
            ("ZMSCORE s a", wrong),
            ("ZCARD s", wrong),
            ("ZCOUNT s 1 2", wrong),
            ("ZLEXCOUNT s - +", wrong),
            ("ZRANK s a", wrong),
            ("ZREVRANK s a WITHSCORE", wrong),
        ]);
    }
}
