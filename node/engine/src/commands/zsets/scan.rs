//! Going through the members of a sorted set in steps.

use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};

use crate::commands::iterate::{Options, parse_cursor, reply_with_cursor};
use crate::data::gathered::Gathered;
use crate::data::zset::{ZSet, push_scanned_score};
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch};

/// ZSCAN key cursor [MATCH pattern] [COUNT count]
pub(crate) fn zscan(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let cursor = parse_cursor(&argv[2])?;
    let mut found = Gathered::default();
    let Some(record) = cx.find(&argv[1], Touch::Use)? else {
        reply_with_cursor(0, &found, w);
        return Ok(());
    };
    let (set, encoding) = (ZSet::of(&cx.view, &record)?, record.encoding());
    let options = Options::of_members(Args::new(argv, 3))?;
    cx.may_take(options.count.min(set.len()))?;
    let mut text = Vec::new();
    let next = set.scan(cursor, options.count, &mut |name, score| {
        if options.fits(name) {
            found.push(name);
            text.clear();
            push_scanned_score(&mut text, score, encoding);
            found.push(&text);
        }
    })?;
    reply_with_cursor(next, &found, w);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::commands::test::Bench;

    #[test]
    fn a_small_set_is_shown_whole() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 0.1 a 2 b 1e18 c", ":3"),
            ("ZSCAN z 0", "*2|$1|0|*6|$1|a|$3|0.1|$1|b|$1|2|$1|c|$19|1000000000000000000"),
            ("ZSCAN z 7 COUNT 1 MATCH b", "*2|$1|0|*2|$1|b|$1|2"),
            ("ZSCAN none 0", "*2|$1|0|*0"),
            ("ZSCAN none 0 WHAT", "*2|$1|0|*0"),
        ]);
    }

    #[test]
    fn a_skiplist_shows_its_doubles_with_all_digits() {
        let mut bench = Bench::new();
        let long = "x".repeat(65);
        bench.check(&[
            (&format!("ZADD z 0.1 a 1e18 {long}"), ":2"),
            ("ZSCAN z 0 MATCH a", "*2|$1|0|*2|$1|a|$19|0.10000000000000001"),
            ("ZSCAN z 0 MATCH x*", &format!("*2|$1|0|*2|$65|{long}|$5|1e+18")),
        ]);
    }

    #[test]
    fn a_large_set_is_shown_in_steps_and_whole_in_the_end() {
        let mut bench = Bench::new();
        let names: BTreeSet<String> = (0..500).map(|n| format!("member:{n}")).collect();
        for name in &names {
            bench.run(&[b"ZADD", b"z", b"1", name.as_bytes()]);
        }
        let (mut cursor, mut seen, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let reply = bench.run(&[b"ZSCAN", b"z", cursor.as_bytes(), b"COUNT", b"20"]);
            let reply = String::from_utf8(reply).unwrap();
            let lines: Vec<&str> = reply.split("\r\n").collect();
            cursor = lines[2].to_owned();
            seen.extend(lines.iter().filter(|l| l.starts_with("member")).map(|l| (*l).to_owned()));
            steps += 1;
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen, names);
        assert!((10..=25).contains(&steps), "{steps} steps");
    }

    #[test]
    fn mistakes() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZADD z 1 a", ":1"),
            ("ZSCAN s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("ZSCAN s x", "-ERR invalid cursor"),
            ("ZSCAN none x", "-ERR invalid cursor"),
            ("ZSCAN z 0 WHAT", "-ERR syntax error"),
            ("ZSCAN z 0 TYPE zset", "-ERR syntax error"),
            ("ZSCAN z 0 COUNT 0", "-ERR syntax error"),
            ("ZSCAN z 0 COUNT x", "-ERR value is not an integer or out of range"),
        ]);
    }
}
