//! HRANDFIELD: fields drawn by the seed.

use cairn_protocol::WireError;
use cairn_protocol::resp::{Argv, Proto, Writer};
use cairn_store::{Type, Value};

use crate::commands::iterate::{check_repeats, parse_draw_count};
use crate::data::string;
use crate::failure::Outcome;
use crate::keyspace::ReadContext;
use crate::seed::Draws;

/// HRANDFIELD key [count [WITHVALUES]]
pub(crate) fn hrandfield(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    if argv.len() == 2 {
        return one(cx, argv, w);
    }
    let (count, with_values) = options(argv)?;
    let Some(hash) = cx.members(&argv[1], Type::Hash)? else {
        w.array(0);
        return Ok(());
    };
    let repeats = count < 0;
    let wanted = if repeats { count.unsigned_abs() } else { hash.len().min(count as u64) };
    check_repeats(wanted)?;
    // Many of a large hash are found by going through all of it.
    cx.may_take(wanted)?;
    let nested = with_values && w.proto() == Proto::Resp3;
    w.array(wanted as usize * if with_values && !nested { 2 } else { 1 });
    let mut draws = Draws::new(cx.seed);
    let mut visit = |field: &[u8], value: Value<'_>| {
        if nested {
            w.array(2);
        }
        w.bulk(field);
        if with_values {
            string::reply_value(value, w)?;
        }
        Ok(true)
    };
    if !repeats {
        return hash.sample(wanted, &mut draws, &mut visit);
    }
    (0..wanted).try_for_each(|_| hash.random(&mut draws, &mut visit))
}

fn one(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let Some(hash) = cx.members(&argv[1], Type::Hash)? else {
        w.null();
        return Ok(());
    };
    hash.random(&mut Draws::new(cx.seed), &mut |field, _| {
        w.bulk(field);
        Ok(true)
    })
}

fn options(argv: Argv<'_>) -> Outcome<(i64, bool)> {
    let count = parse_draw_count(&argv[2])?;
    let with_values = match argv.len() {
        3 => false,
        4 if argv[3].eq_ignore_ascii_case(b"WITHVALUES") => true,
        _ => return Err(WireError::Syntax.into()),
    };
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(WireError::OutOfRange.into());
    }
    Ok((count, with_values))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    /// The bulk strings of a reply.
    fn words(reply: &[u8]) -> Vec<String> {
        let text = String::from_utf8(reply.to_vec()).unwrap();
        let lines = text.split("\r\n").skip(1);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with(['$', '*']))
            .map(str::to_owned)
            .collect()
    }

    fn filled(fields: usize) -> Bench {
        let mut bench = Bench::new();
        for n in 0..fields {
            bench.run(&[b"HSET", b"h", format!("f{n}").as_bytes(), format!("v{n}").as_bytes()]);
        }
        bench
    }

    #[test]
    fn shapes_follow_protocol_and_options() {
        let mut bench = filled(1);
        bench.check(&[
            ("HRANDFIELD h", "$2|f0"),
            ("HRANDFIELD x", "$-1"),
            ("HRANDFIELD x 5", "*0"),
            ("HRANDFIELD h 0", "*0"),
            ("HRANDFIELD h 5", "*1|$2|f0"),
            ("HRANDFIELD h -2", "*2|$2|f0|$2|f0"),
            ("HRANDFIELD h -2 WITHVALUES", "*4|$2|f0|$2|v0|$2|f0|$2|v0"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[
            ("HRANDFIELD x", "_"),
            ("HRANDFIELD x 5", "*0"),
            ("HRANDFIELD h 5 withvalues", "*1|*2|$2|f0|$2|v0"),
        ]);
    }

    #[test]
    fn refuses_what_redis_refuses() {
        let mut bench = filled(1);
        let range = "-ERR value is out of range, value must between -9223372036854775807 and \
                     9223372036854775807";
        bench.check(&[
            ("HRANDFIELD h x", "-ERR value is not an integer or out of range"),
            ("HRANDFIELD h x foo", "-ERR value is not an integer or out of range"),
            ("HRANDFIELD h -9223372036854775808", range),
            ("HRANDFIELD h 1 foo", "-ERR syntax error"),
            ("HRANDFIELD h 1 WITHVALUES foo", "-ERR syntax error"),
            ("HRANDFIELD h -4611686018427387904 WITHVALUES", "-ERR value is out of range"),
            ("HRANDFIELD h 4611686018427387904 WITHVALUES", "-ERR value is out of range"),
            ("HRANDFIELD h 4611686018427387903 WITHVALUES", "*2|$2|f0|$2|v0"),
            ("HRANDFIELD h -9223372036854775807", "-ERR value is out of range"),
            ("SET s v", "+OK"),
            ("HRANDFIELD s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn draws_follow_the_seed_and_reach_every_field_equally() {
        for fields in [10, 300] {
            let mut bench = filled(fields);
            let mut counts = BTreeMap::new();
            let draws = 40 * fields as u64;
            for seed in 0..draws {
                bench.seed = seed;
                let once = bench.run(&[b"HRANDFIELD", b"h"]);
                bench.seed = seed;
                assert_eq!(bench.run(&[b"HRANDFIELD", b"h"]), once);
                *counts.entry(once).or_insert(0u64) += 1;
            }
            assert_eq!(counts.len(), fields);
            assert!(counts.values().all(|count| (10..100).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn a_count_asks_for_different_fields() {
        for fields in [10, 300] {
            let mut bench = filled(fields);
            for count in [1, 2, 5, fields / 4, fields / 2, fields - 1, fields, fields + 1] {
                let wanted = count.min(fields);
                for _ in 0..20 {
                    let reply = bench.run(&[
                        b"HRANDFIELD",
                        b"h",
                        count.to_string().as_bytes(),
                        b"WITHVALUES",
                    ]);
                    let words = words(&reply);
                    let pairs: BTreeSet<_> =
                        words.chunks(2).map(|p| (&p[0][1..], &p[1][1..])).collect();
                    assert_eq!(pairs.len(), wanted, "{count} of {fields}");
                    assert!(pairs.iter().all(|(field, value)| field == value));
                }
            }
            let reply = bench.run(&[b"HRANDFIELD", b"h", b"-50"]);
            assert_eq!(words(&reply).len(), 50);
        }
    }
}
