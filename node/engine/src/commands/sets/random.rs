//! Members drawn by the seed.

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Key, Meta, Type};

use crate::commands::iterate::{check_repeats, parse_draw_count};
use crate::data::gathered::Gathered;
use crate::data::set;
use crate::failure::Outcome;
use crate::keyspace::{Plan, ReadContext, WriteContext};
use crate::seed::Draws;

/// Removes members and makes nothing.
const REMOVAL: Plan = Plan { ty: Type::Set, fresh: Encoding::Listpack, cost: 0 };

/// SPOP key [count]
pub(crate) fn spop(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let key = cx.key(&argv[1]);
    match argv.len() {
        2 => pop_one(cx, &key, w),
        3 => {
            let count = parse_i64(&argv[2]).and_then(|count| u64::try_from(count).ok());
            pop_many(cx, &key, count.ok_or(WireError::MustBePositive)?, w)
        }
        _ => Err(WireError::Syntax.into()),
    }
}

fn pop_one(cx: &mut WriteContext<'_>, key: &Key<'_>, w: &mut Writer<'_>) -> Outcome {
    let mut draws = Draws::new(cx.seed);
    let popped = cx.change_members(
        key,
        REMOVAL,
        |_| Ok(None),
        |set| {
            if set.len() == 0 {
                return Ok((false, false));
            }
            set.take_random(&mut draws, |member| w.bulk(member))?;
            Ok((true, true))
        },
    )?;
    if !popped {
        w.null();
    }
    Ok(())
}

/// What SPOP with a count leaves of a set decides how it goes about it, and with that the encoding
/// of what is left: all, few (the rest is made anew), or many. The limit is Redis's.
fn pop_many(cx: &mut WriteContext<'_>, key: &Key<'_>, count: u64, w: &mut Writer<'_>) -> Outcome {
    const FEW: u64 = 5;
    let len = cx.look_at_members(key, Type::Set, |set| Ok(set.len()))?.unwrap_or(0);
    let popped = count.min(len);
    w.set(popped as usize);
    let left = len - popped;
    if popped == 0 {
        return Ok(());
    }
    if left.saturating_mul(FEW) <= popped {
        return keep_few(cx, key, left, w);
    }
    let mut draws = Draws::new(cx.seed);
    cx.change_members(
        key,
        REMOVAL,
        |_| Ok(None),
        |set| {
            for _ in 0..popped {
                set.take_random(&mut draws, |member| w.bulk(member))?;
            }
            Ok(((), true))
        },
    )
}

/// Replies with all members but `left` drawn ones, of which the set is made anew.
fn keep_few(cx: &mut WriteContext<'_>, key: &Key<'_>, left: u64, w: &mut Writer<'_>) -> Outcome {
    let mut draws = Draws::new(cx.seed);
    let mut kept = Gathered::default();
    let meta = cx.find(key, |record| Ok(record.meta))?;
    cx.look_at_members(key, Type::Set, |set| {
        let (mut unseen, mut wanted) = (set.len(), left);
        set.for_each(&mut |member, _| {
            if draws.below(unseen.max(1)) < wanted {
                wanted -= 1;
                kept.push(member);
            } else {
                w.bulk(member);
            }
            unseen = unseen.saturating_sub(1);
            Ok(true)
        })
    })?;
    let Some(meta) = meta else { return Ok(()) };
    let limits = cx.limits.set();
    let encoding = match meta.encoding {
        // A hashtable begins again as a listpack, even with nothing but integers.
        Encoding::Hashtable => {
            kept.iter().zip(1..).fold(Encoding::Listpack, |encoding, (member, len)| {
                set::encoding_with(limits, encoding, member, len)
            })
        }
        small => small,
    };
    cx.put_set(key, Meta { encoding, ..meta }, &kept, false)
}

/// SRANDMEMBER key [count]
pub(crate) fn srandmember(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let count = match argv.len() {
        2 => None,
        3 => Some(parse_draw_count(&argv[2])?),
        _ => return Err(WireError::Syntax.into()),
    };
    let set = cx.members(&argv[1], Type::Set)?;
    let mut draws = Draws::new(cx.seed);
    let (Some(set), Some(count)) = (&set, count) else {
        return match (set, count) {
            (Some(set), _) => set.random(&mut draws, &mut |member, _| {
                w.bulk(member);
                Ok(true)
            }),
            (None, None) => {
                w.null();
                Ok(())
            }
            (None, Some(_)) => {
                w.array(0);
                Ok(())
            }
        };
    };
    let repeats = count < 0;
    let wanted = if repeats { count.unsigned_abs() } else { set.len().min(count as u64) };
    check_repeats(wanted)?;
    cx.may_take(wanted)?;
    w.array(wanted as usize);
    let mut visit = |member: &[u8], _: cairn_store::Value<'_>| {
        w.bulk(member);
        Ok(true)
    };
    if !repeats {
        return set.sample(wanted, &mut draws, &mut visit);
    }
    (0..wanted).try_for_each(|_| set.random(&mut draws, &mut visit))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    const RANGE: &str = "-ERR value is out of range, must be positive";

    fn filled(members: usize) -> Bench {
        let mut bench = Bench::new();
        let members: Vec<String> = (0..members).map(|n| format!("m{n}")).collect();
        bench.check(&[(&format!("SADD s {}", members.join(" ")), &format!(":{}", members.len()))]);
        bench
    }

    /// The members in a reply.
    fn members(reply: &[u8]) -> Vec<String> {
        let text = String::from_utf8(reply.to_vec()).unwrap();
        text.split("\r\n").filter(|line| line.starts_with('m')).map(str::to_owned).collect()
    }

    #[test]
    fn shapes_follow_protocol_and_options() {
        let mut bench = filled(1);
        bench.check(&[
            ("SRANDMEMBER s", "$2|m0"),
            ("SRANDMEMBER x", "$-1"),
            ("SRANDMEMBER x 3", "*0"),
            ("SRANDMEMBER s 3", "*1|$2|m0"),
            ("SRANDMEMBER s -2", "*2|$2|m0|$2|m0"),
            ("SPOP x", "$-1"),
            ("SPOP x 1", "*0"),
            ("SPOP s 0", "*0"),
            ("SPOP s", "$2|m0"),
            ("EXISTS s", ":0"),
            ("SADD s m0", ":1"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[
            ("SRANDMEMBER x", "_"),
            ("SRANDMEMBER x 3", "*0"),
            ("SRANDMEMBER s 3", "*1|$2|m0"),
            ("SPOP x", "_"),
            ("SPOP x 1", "~0"),
            ("SPOP s 0", "~0"),
            ("SPOP s 7", "~1|$2|m0"),
            ("EXISTS s", ":0"),
        ]);
    }

    #[test]
    fn refuses_what_redis_refuses() {
        let mut bench = filled(1);
        let not_integer = "-ERR value is not an integer or out of range";
        let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("SPOP s -1", RANGE),
            ("SPOP s x", RANGE),
            ("SPOP x -1", RANGE),
            ("SPOP s 1 2", "-ERR syntax error"),
            ("SRANDMEMBER s x", not_integer),
            ("SRANDMEMBER x x", not_integer),
            ("SRANDMEMBER s 1 2", "-ERR syntax error"),
            ("SRANDMEMBER s -9223372036854775807", "-ERR value is out of range"),
            ("SET str v", "+OK"),
            ("SPOP str", wrong_type),
            ("SPOP str 0", wrong_type),
            ("SPOP str -1", RANGE),
            ("SRANDMEMBER str", wrong_type),
        ]);
    }

    #[test]
    fn every_member_is_drawn_about_equally_often() {
        for len in [10, 300] {
            let mut bench = filled(len);
            let mut counts = BTreeMap::new();
            for _ in 0..40 * len {
                let drawn = members(&bench.run(&[b"SPOP", b"s"]));
                let member = drawn[0].as_bytes().to_vec();
                assert_eq!(bench.run(&[b"SADD", b"s", &member]), b":1\r\n");
                *counts.entry(member).or_insert(0u64) += 1;
            }
            assert_eq!(counts.len(), len);
            assert!(counts.values().all(|count| (10..100).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn what_is_popped_is_gone_and_the_rest_stays() {
        for len in [2, 10, 60, 300] {
            for count in [1, 2, len / 5, len / 2, len - len / 6, len - 1, len, len + 1] {
                let mut bench = filled(len);
                bench.check(&[("EXPIRE s 100", ":1")]);
                let popped = members(&bench.run(&[b"SPOP", b"s", count.to_string().as_bytes()]));
                let left = members(&bench.run(&[b"SMEMBERS", b"s"]));
                let all: BTreeSet<_> = popped.iter().chain(&left).collect();
                assert_eq!(popped.len(), count.min(len), "{count} of {len}");
                assert_eq!((all.len(), popped.len() + left.len()), (len, len), "{count} of {len}");
                let ttl = if left.is_empty() { ":-2" } else { ":100" };
                bench.check(&[("TTL s", ttl)]);
            }
        }
    }

    #[test]
    fn a_set_of_which_little_is_left_is_made_anew() {
        let mut bench = Bench::new();
        let numbers: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        let rows = [
            (format!("SADD s {}", numbers.join(" ")), 299, "$6|intset"),
            (format!("SADD s {} x", numbers.join(" ")), 299, "$8|listpack"),
            (format!("SADD s {} x", numbers.join(" ")), 200, "$9|hashtable"),
            ("SADD s a b c d e f g h".to_owned(), 7, "$8|listpack"),
        ];
        for (command, count, wanted) in rows {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            bench.run(&words);
            bench.run(&[b"SPOP", b"s", count.to_string().as_bytes()]);
            bench.check(&[("OBJECT ENCODING s", wanted), ("DEL s", ":1")]);
        }
    }

    #[test]
    fn a_count_asks_for_different_members() {
        for len in [10, 300] {
            let mut bench = filled(len);
            for count in [1, len / 4, len / 2, len - 1, len, len + 1] {
                let reply = bench.run(&[b"SRANDMEMBER", b"s", count.to_string().as_bytes()]);
                let drawn: BTreeSet<_> = members(&reply).into_iter().collect();
                assert_eq!(drawn.len(), count.min(len));
            }
            assert_eq!(members(&bench.run(&[b"SRANDMEMBER", b"s", b"-999"])).len(), 999);
        }
    }
}
