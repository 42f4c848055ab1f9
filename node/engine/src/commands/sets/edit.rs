//! Adding, removing and moving members.

use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Key, Store, Type};

use crate::data::hash::check_name;
use crate::data::members::require;
use crate::data::set;
use crate::failure::Outcome;
use crate::keyspace::{Plan, WriteContext};

/// SADD key member [member ...]
pub(crate) fn sadd(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let added = add_members(cx, &cx.key(&argv[1]), argv.slice_from(2))?;
    w.int(added);
    Ok(())
}

/// Adds all members or none; returns how many are new.
fn add_members(cx: &mut WriteContext<'_>, key: &Key<'_>, members: Argv<'_>) -> Outcome<i64> {
    let mut cost = 0u64;
    for member in members.iter() {
        check_name("a member", member)?;
        cost = cost.saturating_add(Store::member_cost(member.len(), 0));
    }
    let count = members.len() as u64;
    let limits = cx.limits.set();
    let fresh = set::encoding_for(limits, &members[0], count);
    let plan = Plan { ty: Type::Set, fresh, cost };
    cx.change_members(
        key,
        plan,
        |set| {
            for member in members.iter() {
                if !set.contains(member)? {
                    return Ok(None);
                }
            }
            Ok(Some(0))
        },
        |set| {
            let mut added = 0;
            for member in members.iter() {
                added += i64::from(set::add(limits, set, member)?);
            }
            if added > 0 && set::is_too_small_for(limits, set.encoding(), count) {
                set.set_encoding(Encoding::Hashtable);
            }
            Ok((added, added > 0))
        },
    )
}

/// SREM key member [member ...]
pub(crate) fn srem(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let removed = cx.remove_members(&cx.key(&argv[1]), Type::Set, argv.iter().skip(2))?;
    w.int(removed);
    Ok(())
}

/// SMOVE source destination member
pub(crate) fn smove(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (from, to, member) = (cx.key(&argv[1]), cx.key(&argv[2]), &argv[3]);
    let moved = is_member(cx, &from, &to, member)?;
    if moved && from.bytes != to.bytes {
        // Added first: if there is no room, nothing has changed.
        add_members(cx, &to, argv.slice_from(3))?;
        cx.remove_members(&from, Type::Set, std::iter::once(member))?;
    }
    w.int(moved.into());
    Ok(())
}

/// Whether the member is there to be moved; refuses keys that hold something else.
fn is_member(
    cx: &mut WriteContext<'_>,
    from: &Key<'_>,
    to: &Key<'_>,
    member: &[u8],
) -> Outcome<bool> {
    let found = cx.look_at_members(from, Type::Set, |set| set.contains(member))?;
    if found.is_some() {
        cx.find(to, |record| require(record, Type::Set))?;
    }
    Ok(found.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn members_are_added_and_removed_once() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SADD s a b a", ":2"),
            ("SADD s a c", ":1"),
            ("SCARD s", ":3"),
            ("SREM s a x a", ":1"),
            ("SREM x a", ":0"),
            ("SMEMBERS s", "*2|$1|b|$1|c"),
            ("SREM s b c", ":2"),
            ("EXISTS s", ":0"),
            ("SET str v", "+OK"),
            ("SADD str a", WRONG_TYPE),
            ("SREM str a", WRONG_TYPE),
        ]);
        assert_eq!(bench.run(&[b"SADD", b"s", b"", b"\x00\xff"]), b":2\r\n");
        assert_eq!(bench.run(&[b"SISMEMBER", b"s", b""]), b":1\r\n");
        assert_eq!(bench.run(&[b"SREM", b"s", b"\x00\xff"]), b":1\r\n");
        let too_long = vec![b'm'; 15_001];
        let refused = b"-ERR a member of 15001 bytes is longer than the 15000 allowed\r\n";
        assert_eq!(bench.run(&[b"SADD", b"s", b"a", &too_long]), refused);
        bench.check(&[("SCARD s", ":1")]);
    }

    #[test]
    fn a_large_set_answers_as_a_small_one() {
        let mut bench = Bench::new();
        for n in 0..3000 {
            let member = format!("member:{n}");
            assert_eq!(bench.run(&[b"SADD", b"s", member.as_bytes()]), b":1\r\n");
            assert_eq!(bench.run(&[b"SADD", b"s", member.as_bytes()]), b":0\r\n");
        }
        bench.check(&[
            ("SCARD s", ":3000"),
            ("SMISMEMBER s member:7 member:3000", "*2|:1|:0"),
            ("COPY s copy", ":1"),
            ("SREM copy member:7 x", ":1"),
            ("SISMEMBER s member:7", ":1"),
            ("SISMEMBER copy member:7", ":0"),
            ("SMOVE s copy member:7", ":1"),
            ("SCARD s", ":2999"),
            ("SCARD copy", ":3000"),
        ]);
    }

    #[test]
    fn members_move_or_stay() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SADD s a b", ":2"),
            ("SADD d b", ":1"),
            ("SMOVE s d a", ":1"),
            ("SMOVE s d x", ":0"),
            ("SMOVE x str a", ":0"),
            ("SMOVE s s b", ":1"),
            ("SMOVE s s x", ":0"),
            ("SMOVE s d b", ":1"),
            ("EXISTS s", ":0"),
            ("SMEMBERS d", "*2|$1|b|$1|a"),
            ("SMOVE d new a", ":1"),
            ("SMEMBERS new", "*1|$1|a"),
            ("SET str v", "+OK"),
            ("SMOVE d str b", WRONG_TYPE),
            ("SMOVE d str x", WRONG_TYPE),
            ("SMOVE str d b", WRONG_TYPE),
            ("SMOVE x str b", ":0"),
        ]);
    }

    #[test]
    fn encodings_are_those_of_redis_and_stay() {
        let mut bench = Bench::new();
        let numbers = |n: i64| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let rows = [
            ("SADD s 1 2 3".to_owned(), "intset"),
            (format!("SADD s {}", numbers(512)), "intset"),
            (format!("SADD s {}", numbers(513)), "hashtable"),
            ("SADD s 1 2 a".to_owned(), "listpack"),
            ("SADD s a 1".to_owned(), "listpack"),
            (format!("SADD s {} a", numbers(127)), "listpack"),
            (format!("SADD s {} a", numbers(128)), "hashtable"),
            (format!("SADD s a {}", numbers(127)), "listpack"),
            (format!("SADD s a {}", numbers(128)), "hashtable"),
            (format!("SADD s a{}", " a".repeat(128)), "hashtable"),
            (format!("SADD s {}", "m".repeat(64)), "listpack"),
            (format!("SADD s {}", "m".repeat(65)), "hashtable"),
            ("SADD s -0".to_owned(), "listpack"),
        ];
        for (command, wanted) in rows {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            bench.run(&words);
            let wanted = format!("${}|{wanted}", wanted.len());
            bench.check(&[("OBJECT ENCODING s", &wanted), ("DEL s", ":1")]);
        }
        for (member, wanted) in [("x", "$8|listpack"), (&"m".repeat(65)[..], "$9|hashtable")] {
            bench.check(&[
                ("SADD s 1 2", ":2"),
                (&format!("SADD s {member}"), ":1"),
                (&format!("SREM s {member}"), ":1"),
                ("OBJECT ENCODING s", wanted),
                ("DEL s", ":1"),
            ]);
        }
    }

    #[test]
    fn a_change_is_noted_and_only_a_change() {
        let mut bench = Bench::new();
        let members: Vec<String> = (0..400).map(|n| format!("member:{n}")).collect();
        for key in ["small", "large"] {
            let many = if key == "large" { &members[..] } else { &members[..4] };
            let rows = [
                (format!("SADD {key} {}", many.join(" ")), 1),
                (format!("SADD {key} member:0 member:1"), 0),
                (format!("SADD {key} member:0 new"), 1),
                (format!("SREM {key} nosuch"), 0),
                (format!("SREM {key} new"), 1),
                (format!("SMOVE {key} other nosuch"), 0),
                (format!("SMOVE {key} {key} member:0"), 0),
                (format!("SMOVE {key} other member:0"), 2),
                (format!("SPOP {key} 0"), 0),
                (format!("SPOP {key}"), 1),
                (format!("SINTERSTORE {key} nosuch"), 1),
                (format!("SINTERSTORE {key} nosuch"), 0),
                ("DEL other".to_owned(), 1),
            ];
            for (command, wanted) in rows {
                let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
                bench.run(&words);
                assert_eq!(bench.effects.changed, wanted, "{command:.40}");
            }
        }
    }

    #[test]
    fn a_full_store_adds_no_member_and_gives_them_back() {
        let mut bench = Bench::full_at(256 * 1024);
        let name = |n: u32| format!("{n}{}", "x".repeat(1000));
        let mut added = 0;
        while bench.run(&[b"SADD", b"s", name(added).as_bytes()]) == b":1\r\n" {
            added += 1;
        }
        assert!((150..300).contains(&added), "{added}");
        let reply = bench.run(&[b"SADD", b"s", name(added).as_bytes()]);
        assert_eq!(reply, b"-OOM command not allowed when used memory > 'maxmemory'.\r\n");
        bench.check(&[("SCARD s", &format!(":{added}")), ("SADD small a", ":1")]);
        assert!(bench.run(&[b"SPOP", b"s", b"100"]).starts_with(b"*100\r\n"));
        for n in 0..added {
            bench.run(&[b"SREM", b"s", name(n).as_bytes()]);
        }
        bench.check(&[("EXISTS s", ":0")]);
    }
}
