//! Going through the names of a database.
//!
//! KEYS takes as long as there are keys: it is meant to run on a pinned view, which holds no lock.

use cairn_protocol::command::Args;
use cairn_protocol::glob;
use cairn_protocol::resp::{Argv, Writer};

use super::type_name;
use crate::commands::iterate::{Options, parse_cursor, reply_with_cursor};
use crate::data::gathered::Gathered;
use crate::failure::Outcome;
use crate::keyspace::ReadContext;

/// KEYS pattern
pub(crate) fn keys(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let pattern = &argv[1];
    let mut found = Gathered::default();
    cx.view.scan(cx.db, 0, &mut |record| {
        if cx.exists(record) && (pattern == b"*" || glob::matches(pattern, record.key(), false)) {
            found.push(record.key());
        }
        Ok(true)
    })?;
    w.array(found.len());
    found.reply(w);
    Ok(())
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
pub(crate) fn scan(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let cursor = parse_cursor(&argv[1])?;
    let options = Options::of_scan(Args::new(argv, 2))?;
    cx.may_take(options.count.min(cx.view.len(cx.db)))?;
    let of_type = |name: &str| options.ty.is_none_or(|ty| ty.eq_ignore_ascii_case(name.as_bytes()));
    let (mut found, mut seen) = (Gathered::default(), 0);
    let next = cx.view.scan(cx.db, cursor, &mut |record| {
        seen += 1;
        if cx.exists(record) && options.fits(record.key()) && of_type(type_name(record.ty())) {
            found.push(record.key());
        }
        Ok(seen < options.count)
    })?;
    reply_with_cursor(next, &found, w);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::commands::test::Bench;

    #[test]
    fn keys_matches_and_hides_the_expired() {
        let mut bench = Bench::new();
        bench.check(&[
            ("KEYS *", "*0"),
            ("MSET one 1 two 2", "+OK"),
            ("SET three 3 PX 10", "+OK"),
            ("KEYS t?o", "*1|$3|two"),
            ("KEYS th*", "*1|$5|three"),
            ("KEYS [a-o]*", "*1|$3|one"),
        ]);
        assert!(bench.run(&[b"KEYS", b"*"]).starts_with(b"*3\r\n"));
        bench.advance_ms(10);
        bench.check(&[("KEYS th*", "*0")]);
        assert!(bench.run(&[b"KEYS", b"*"]).starts_with(b"*2\r\n"));
    }

    #[test]
    fn refuses_what_redis_refuses() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("SCAN 0 COUNT -5", "-ERR syntax error"),
            ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
            ("SCAN 0 COUNT", "-ERR syntax error"),
            ("SCAN 0 MATCH", "-ERR syntax error"),
            ("SCAN 0 FOO 1", "-ERR syntax error"),
            ("SCAN 0 TYPE nosuch", "*2|$1|0|*0"),
            ("SCAN 0 COUNT 9223372036854775807", "*2|$1|0|*0"),
        ]);
    }

    #[test]
    fn scan_sees_every_key_that_stays_and_bounds_each_step() {
        let mut bench = Bench::new();
        let names: BTreeSet<String> = (0..500).map(|n| format!("key:{n}")).collect();
        for name in &names {
            bench.run(&[b"SET", name.as_bytes(), b"v"]);
        }
        for (count, steps_min, steps_max) in [(1, 100, 500), (10, 20, 50), (1000, 1, 1)] {
            let (seen, steps) = walk(&mut bench, count);
            assert_eq!(seen, names, "COUNT {count}");
            assert!((steps_min..=steps_max).contains(&steps), "COUNT {count}: {steps} steps");
        }
    }

    #[test]
    fn scan_sees_what_stays_while_other_keys_come_and_go() {
        let mut bench = Bench::new();
        let stay: BTreeSet<String> = (0..200).map(|n| format!("stay:{n}")).collect();
        for name in &stay {
            bench.run(&[b"SET", name.as_bytes(), b"v"]);
        }
        let (mut cursor, mut seen, mut round) = (b"0".to_vec(), BTreeSet::new(), 0);
        loop {
            let reply = bench.run(&[b"SCAN", &cursor, b"COUNT", b"7", b"MATCH", b"stay:*"]);
            let (next, names) = parse(&reply);
            seen.extend(names);
            if next == b"0" {
                break;
            }
            cursor = next;
            for n in 0..20 {
                bench.run(&[b"SET", format!("go:{round}:{n}").as_bytes(), b"v"]);
                if round > 0 {
                    bench.run(&[b"DEL", format!("go:{}:{n}", round - 1).as_bytes()]);
                }
            }
            round += 1;
        }
        assert_eq!(seen, stay);
    }

    #[test]
    fn scan_filters_by_type_and_pattern() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MSET a 1 b 2", "+OK"),
            ("SCAN 0 TYPE string MATCH a", "*2|$1|0|*1|$1|a"),
            ("SCAN 0 type STRING match b count 100", "*2|$1|0|*1|$1|b"),
            ("SCAN 0 TYPE list", "*2|$1|0|*0"),
        ]);
    }

    fn walk(bench: &mut Bench, count: u64) -> (BTreeSet<String>, usize) {
        let (mut cursor, mut seen, mut steps) = (b"0".to_vec(), BTreeSet::new(), 0);
        loop {
            let reply = bench.run(&[b"SCAN", &cursor, b"COUNT", count.to_string().as_bytes()]);
            let (next, names) = parse(&reply);
            seen.extend(names);
            steps += 1;
            if next == b"0" {
                return (seen, steps);
            }
            cursor = next;
        }
    }

    /// Cursor and names of a SCAN reply.
    fn parse(reply: &[u8]) -> (Vec<u8>, Vec<String>) {
        let text = String::from_utf8(reply.to_vec()).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        let names = lines[4..lines.len() - 1].chunks(2).map(|pair| pair[1].to_owned());
        (lines[2].as_bytes().to_vec(), names.collect())
    }
}
