//! Setting and deleting fields.

use cairn_protocol::WireError;
use cairn_protocol::command::CommandId;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Store, Type};

use crate::data::hash;
use crate::failure::Outcome;
use crate::keyspace::{Plan, WriteContext};

/// HSET key field value [field value ...]
pub(crate) fn hset(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let added = set_fields(cx, argv, CommandId::HSet)?;
    w.int(added);
    Ok(())
}

/// HMSET key field value [field value ...]
pub(crate) fn hmset(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    set_fields(cx, argv, CommandId::HMSet)?;
    w.ok();
    Ok(())
}

/// Sets all fields or none; returns how many are new.
fn set_fields(cx: &mut WriteContext<'_>, argv: Argv<'_>, command: CommandId) -> Outcome<i64> {
    if argv.len() % 2 == 1 {
        return Err(WireError::WrongArity(command.spec().name).into());
    }
    let pairs = || (2..argv.len()).step_by(2).map(|at| (&argv[at], &argv[at + 1]));
    let mut cost = 0u64;
    for (field, value) in pairs() {
        hash::check_name("a field", field)?;
        cost = cost.saturating_add(Store::member_cost(field.len(), value.len() as u64));
    }
    let limit = cx.limits.hash();
    let large = hash::are_large(limit, argv.slice_from(2));
    let plan = plan(cost);
    cx.change_members(
        &cx.key(&argv[1]),
        plan,
        |_| Ok(None),
        |hash| {
            let mut added = 0;
            for (field, value) in pairs() {
                added += i64::from(hash.put(field, value)?);
            }
            hash::settle_encoding(limit, hash, large);
            Ok((added, true))
        },
    )
}

/// What is made where there is no hash, for a change that adds `cost` at most.
pub(super) fn plan(cost: u64) -> Plan {
    Plan { ty: Type::Hash, fresh: Encoding::Listpack, cost }
}

/// HSETNX key field value
pub(crate) fn hsetnx(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (field, value) = (&argv[2], &argv[3]);
    hash::check_name("a field", field)?;
    let plan = plan(Store::member_cost(field.len(), value.len() as u64));
    let limit = cx.limits.hash();
    let set = cx.change_members(
        &cx.key(&argv[1]),
        plan,
        |hash| Ok(hash.contains(field)?.then_some(false)),
        |hash| {
            if hash.read(|hash| hash.contains(field))? {
                return Ok((false, false));
            }
            hash.put(field, value)?;
            let large = limit.is_long(field) || limit.is_long(value);
            hash::settle_encoding(limit, hash, large);
            Ok((true, true))
        },
    )?;
    w.int(set.into());
    Ok(())
}

/// HDEL key field [field ...]
pub(crate) fn hdel(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let fields = argv.iter().skip(2);
    let deleted = cx.remove_members(&cx.key(&argv[1]), Type::Hash, fields)?;
    w.int(deleted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn fields_are_set_and_counted() {
        let mut bench = Bench::new();
        bench.check(&[
            ("HSET h a 1 b 2", ":2"),
            ("HSET h a 3 c 4", ":1"),
            ("HSET h d 1 d 2", ":1"),
            ("HMGET h a b c d e", "*5|$1|3|$1|2|$1|4|$1|2|$-1"),
            ("HMSET h a 5", "+OK"),
            ("HSETNX h a 6", ":0"),
            ("HSETNX h f 6", ":1"),
            ("HSETNX new f 6", ":1"),
            ("HGETALL new", "*2|$1|f|$1|6"),
            ("HSET h a", "-ERR wrong number of arguments for 'hset' command"),
            ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
            ("HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command"),
            ("HDEL h a x b", ":2"),
            ("HDEL h c d f", ":3"),
            ("EXISTS h", ":0"),
            ("HDEL h a", ":0"),
            ("SET s v", "+OK"),
            ("HSET s a 1", WRONG_TYPE),
            ("HSETNX s a 1", WRONG_TYPE),
            ("HDEL s a", WRONG_TYPE),
        ]);
    }

    #[test]
    fn deadlines_stay() {
        let mut bench = Bench::new();
        bench.check(&[
            ("HSET h a 1", ":1"),
            ("EXPIRE h 10", ":1"),
            ("HSET h b 1", ":1"),
            ("HDEL h a", ":1"),
            ("TTL h", ":10"),
        ]);
        bench.advance_ms(10_000);
        bench.check(&[("HSET h c 1", ":1"), ("TTL h", ":-1"), ("HLEN h", ":1")]);
    }

    #[test]
    fn a_large_hash_answers_as_a_small_one() {
        let mut bench = Bench::new();
        for n in 0..3000 {
            let (field, value) = (format!("field:{n}"), format!("value:{n}"));
            assert_eq!(bench.run(&[b"HSET", b"h", field.as_bytes(), value.as_bytes()]), b":1\r\n");
            assert_eq!(bench.run(&[b"HSETNX", b"h", field.as_bytes(), b"x"]), b":0\r\n");
        }
        bench.check(&[
            ("HLEN h", ":3000"),
            ("HGET h field:7", "$7|value:7"),
            ("HSET h field:7 other field:x y", ":1"),
            ("HGET h field:7", "$5|other"),
            ("HEXISTS h field:x", ":1"),
            ("HDEL h field:x nosuch", ":1"),
            ("HDEL h nosuch", ":0"),
            ("HSTRLEN h field:2999", ":10"),
            ("EXPIRE h 10", ":1"),
            ("COPY h copy", ":1"),
            ("RENAME h moved", "+OK"),
            ("HLEN moved", ":3000"),
            ("HLEN copy", ":3000"),
            ("TTL copy", ":10"),
            ("HGET copy field:2999", "$10|value:2999"),
        ]);
        for n in 0..3000 {
            let field = format!("field:{n}");
            assert_eq!(bench.run(&[b"HDEL", b"moved", field.as_bytes()]), b":1\r\n");
        }
        bench.check(&[("EXISTS moved", ":0"), ("HLEN copy", ":3000"), ("DEL copy", ":1")]);
    }

    #[test]
    fn a_value_may_be_long_and_a_field_may_not_be_too_long() {
        let mut bench = Bench::new();
        let (long, too_long) = (vec![b'v'; 100_000], vec![b'f'; 15_001]);
        assert_eq!(bench.run(&[b"HSET", b"h", b"a", &long, b"b", b"2"]), b":2\r\n");
        assert_eq!(
            bench.run(&[b"HGET", b"h", b"a"]),
            [b"$100000\r\n", &long[..], b"\r\n"].concat()
        );
        bench.check(&[("HSTRLEN h a", ":100000")]);
        let refused = b"-ERR a field of 15001 bytes is longer than the 15000 allowed\r\n";
        for words in [
            &[&b"HSET"[..], b"h", b"c", b"1", &too_long, b"2"][..],
            &[b"HSETNX", b"h", &too_long, b"2"],
        ] {
            assert_eq!(bench.run(words), refused);
        }
        bench.check(&[("HLEN h", ":2")]);
    }

    #[test]
    fn encodings_are_those_of_redis_and_stay() {
        let mut bench = Bench::new();
        let encoding = |bench: &mut Bench, wanted: &str| {
            bench.check(&[("OBJECT ENCODING h", wanted)]);
        };
        for long in [&[&b"h"[..], &[b'f'; 65], b"v"], &[b"h", b"f", &[b'v'; 65]]] {
            bench.run(&[b"HSET", b"h", &[b'f'; 64], &[b'v'; 64]]);
            encoding(&mut bench, "$8|listpack");
            bench.run(&[&[&b"HSET"[..]], &long[..]].concat());
            encoding(&mut bench, "$9|hashtable");
            bench.run(&[b"HDEL", b"h", long[1]]);
            encoding(&mut bench, "$9|hashtable");
            bench.check(&[("DEL h", ":1")]);
        }
        for n in 0..512 {
            bench.run(&[b"HSET", b"h", format!("{n}").as_bytes(), b"some value"]);
        }
        encoding(&mut bench, "$8|listpack");
        bench.check(&[("HSETNX h more 1", ":1")]);
        encoding(&mut bench, "$9|hashtable");
        bench.check(&[("HDEL h more", ":1")]);
        encoding(&mut bench, "$9|hashtable");
    }

    #[test]
    fn a_change_is_noted_and_only_a_change() {
        let mut bench = Bench::new();
        let fields: Vec<String> = (0..400).map(|n| format!("field:{n}")).collect();
        for key in ["small", "large"] {
            let many = if key == "large" { &fields[..] } else { &fields[..2] };
            let rows = [
                (format!("HSET {key} {} 1", many.join(" 1 ")), 1),
                (format!("HSET {key} field:0 1"), 1),
                (format!("HSETNX {key} field:0 1"), 0),
                (format!("HSETNX {key} new 1"), 1),
                (format!("HDEL {key} nosuch"), 0),
                (format!("HDEL {key} new nosuch"), 1),
                (format!("HINCRBY {key} n 1"), 1),
                (format!("HINCRBYFLOAT {key} n x"), 0),
                (format!("HDEL {key} n {}", many.join(" ")), 1),
                (format!("HDEL {key} n"), 0),
            ];
            for (command, wanted) in rows {
                let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
                bench.run(&words);
                assert_eq!(bench.effects.changed, wanted, "{command:.40}");
            }
        }
    }

    #[test]
    fn a_full_store_sets_no_field_and_deletes_them() {
        let mut bench = Bench::full_at(256 * 1024);
        let value = vec![b'x'; 1000];
        let refused = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
        let mut set = 0;
        let reply = loop {
            let reply = bench.run(&[b"HSET", b"h", format!("{set}").as_bytes(), &value]);
            if reply != b":1\r\n" {
                break reply;
            }
            set += 1;
        };
        assert_eq!(reply, refused);
        assert!((150..300).contains(&set), "{set}");
        bench.check(&[("HLEN h", &format!(":{set}")), ("HSET small a 1", ":1")]);
        for n in 0..set {
            assert_eq!(bench.run(&[b"HDEL", b"h", format!("{n}").as_bytes()]), b":1\r\n");
        }
        bench.check(&[("EXISTS h", ":0")]);
    }
}
