//! Taking the lowest or the highest members out.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Proto, Writer};

use super::mirrored;
use crate::data::members::Stop;
use crate::data::zset::{self, Plan};
use crate::failure::{Failure, Outcome};
use crate::keyspace::WriteContext;

/// Which end of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Lowest,
    Highest,
}

/// What a reply looks like.
#[derive(Clone, Copy)]
enum Shape<'a> {
    /// Members and scores in turn.
    Flat,
    /// Pairs of member and score.
    Pairs,
    /// The key, and pairs.
    Named(&'a [u8]),
}

/// ZPOPMIN key [count]
pub(crate) fn zpopmin(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    pop_one_key(cx, argv, End::Lowest, w)
}

/// ZPOPMAX key [count]
pub(crate) fn zpopmax(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    pop_one_key(cx, argv, End::Highest, w)
}

fn pop_one_key(cx: &mut WriteContext<'_>, argv: Argv<'_>, end: End, w: &mut Writer<'_>) -> Outcome {
    let (count, shape) = match argv.len() {
        2 => (1, Shape::Flat),
        3 => {
            let count = parse_i64(&argv[2]).and_then(|count| u64::try_from(count).ok());
            let shape = if w.proto() == Proto::Resp2 { Shape::Flat } else { Shape::Pairs };
            (count.ok_or(WireError::MustBePositive)?, shape)
        }
        _ => return Err(WireError::Syntax.into()),
    };
    if !pop(cx, &argv[1], end, count, shape, w)? {
        w.array(0);
    }
    Ok(())
}

/// ZMPOP numkeys key [key ...] MIN | MAX [COUNT count]
pub(crate) fn zmpop(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let count_of_keys =
        positive(&argv[1]).ok_or(Failure::reply("ERR numkeys should be greater than 0"))?;
    let after_keys = usize::try_from(count_of_keys).ok().and_then(|count| count.checked_add(2));
    let after_keys = after_keys.filter(|&at| at < argv.len()).ok_or(WireError::Syntax)?;
    let mut args = Args::new(argv, after_keys);
    let end = match args.take()? {
        word if word.eq_ignore_ascii_case(b"MIN") => End::Lowest,
        word if word.eq_ignore_ascii_case(b"MAX") => End::Highest,
        _ => return Err(WireError::Syntax.into()),
    };
    let mut count = None;
    while !args.is_empty() {
        match args.keyword_with_value("COUNT") {
            Some(text) if count.is_none() => {
                let given = positive(text);
                count = Some(given.ok_or(Failure::reply("ERR count should be greater than 0"))?);
            }
            _ => return Err(WireError::Syntax.into()),
        }
    }
    for name in argv.iter().take(after_keys).skip(2) {
        if pop(cx, name, end, count.unwrap_or(1), Shape::Named(name), w)? {
            return Ok(());
        }
    }
    w.null_array();
    Ok(())
}

fn positive(text: &[u8]) -> Option<u64> {
    parse_i64(text).and_then(|value| u64::try_from(value).ok()).filter(|&value| value > 0)
}

/// Takes up to `count` members out of one end and replies with them; `false`, and nothing is
/// written, when there is no such key.
fn pop(
    cx: &mut WriteContext<'_>,
    name: &[u8],
    end: End,
    count: u64,
    shape: Shape<'_>,
    w: &mut Writer<'_>,
) -> Outcome<bool> {
    let key = cx.key(name);
    let popped = zset::edit(
        cx,
        &key,
        Plan::REMOVAL,
        |_| Ok(None),
        |set| {
            let len = set.view()?.len();
            let reverse = end == End::Highest;
            let span = if reverse { mirrored(0..count.min(len), len) } else { 0..count.min(len) };
            begin(span.end - span.start, shape, w);
            set.view()?.visit(span.clone(), reverse, &mut |name, score| {
                if !matches!(shape, Shape::Flat) {
                    w.array(2);
                }
                w.bulk(name);
                w.double(score);
            })?;
            set.remove_span(span)?;
            Ok::<_, Stop>(())
        },
    )?;
    Ok(popped.is_some())
}

fn begin(count: u64, shape: Shape<'_>, w: &mut Writer<'_>) {
    match shape {
        Shape::Flat => w.array(count as usize * 2),
        Shape::Pairs => w.array(count as usize),
        Shape::Named(key) => {
            w.array(2);
            w.bulk(key);
            w.array(count as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test::Bench;

    #[test]
    fn either_end_is_popped() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5"),
            ("ZPOPMIN z", "*2|$1|a|$1|1"),
            ("ZPOPMAX z", "*2|$1|e|$1|5"),
            ("ZPOPMAX z 2", "*4|$1|d|$1|4|$1|c|$1|3"),
            ("ZPOPMIN z 0", "*0"),
            ("ZPOPMIN z 9", "*2|$1|b|$1|2"),
            ("EXISTS z", ":0"),
            ("ZPOPMIN z", "*0"),
            ("ZPOPMIN z 3", "*0"),
        ]);
    }

    #[test]
    fn resp3_pairs_them_up_when_they_are_counted() {
        let mut bench = Bench::new();
        bench.speak(Proto::Resp3);
        bench.check(&[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("ZPOPMIN z", "*2|$1|a|,1"),
            ("ZPOPMIN z 1", "*1|*2|$1|b|,2"),
            ("ZPOPMAX none 1", "*0"),
        ]);
    }

    #[test]
    fn the_first_key_that_exists_is_popped() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("ZMPOP 2 none z MIN", "*2|$1|z|*1|*2|$1|a|$1|1"),
            ("ZMPOP 2 z none max COUNT 5", "*2|$1|z|*2|*2|$1|c|$1|3|*2|$1|b|$1|2"),
            ("ZMPOP 2 z none MAX", "*-1"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("ZADD z 1 a", ":1"), ("ZMPOP 1 z MIN", "*2|$1|z|*1|*2|$1|a|,1")]);
        bench.check(&[("ZMPOP 1 z MIN", "_")]);
    }

    #[test]
    fn mistakes() {
        let mut bench = Bench::new();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        let positive = "-ERR value is out of range, must be positive";
        let (keys, count) =
            ("-ERR numkeys should be greater than 0", "-ERR count should be greater than 0");
        let syntax = "-ERR syntax error";
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZPOPMIN s", wrong),
            ("ZPOPMIN s 0", wrong),
            ("ZPOPMIN s -1", positive),
            ("ZPOPMAX s x", positive),
            ("ZPOPMIN s 1 2", syntax),
            ("ZMPOP 2 none s MIN", wrong),
            ("ZMPOP 0 s MIN", keys),
            ("ZMPOP x s MIN", keys),
            ("ZMPOP 9223372036854775807 s MIN", syntax),
            ("ZMPOP 2 s MIN", syntax),
            ("ZMPOP 1 s MID", syntax),
            ("ZMPOP 1 s MIN COUNT", syntax),
            ("ZMPOP 1 s MIN COUNT 0", count),
            ("ZMPOP 1 s MIN COUNT 1 COUNT 2", syntax),
            ("ZMPOP 1 s MIN WHAT", syntax),
        ]);
    }
}
