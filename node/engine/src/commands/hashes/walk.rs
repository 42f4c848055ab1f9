//! Going through all fields.

use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Type};

use crate::commands::iterate::{Options, parse_cursor, reply_with_cursor};
use crate::data::gathered::Gathered;
use crate::data::members::Members;
use crate::data::string;
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch};

/// HGETALL key
pub(crate) fn hgetall(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let Some(hash) = cx.members(&argv[1], Type::Hash)? else {
        w.map(0);
        return Ok(());
    };
    cx.may_take(hash.len())?;
    w.map(hash.len() as usize);
    hash.for_each(&mut |field, value| {
        w.bulk(field);
        string::reply_value(value, w)?;
        Ok(true)
    })
}

/// HKEYS key
pub(crate) fn hkeys(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let Some(hash) = cx.members(&argv[1], Type::Hash)? else {
        w.array(0);
        return Ok(());
    };
    cx.may_take(hash.len())?;
    w.array(hash.len() as usize);
    hash.for_each(&mut |field, _| {
        w.bulk(field);
        Ok(true)
    })
}

/// HVALS key
pub(crate) fn hvals(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let Some(hash) = cx.members(&argv[1], Type::Hash)? else {
        w.array(0);
        return Ok(());
    };
    cx.may_take(hash.len())?;
    w.array(hash.len() as usize);
    hash.for_each(&mut |_, value| string::reply_value(value, w).map(|()| true))
}

/// HSCAN key cursor [MATCH pattern] [COUNT count]: a listpack comes all at once, as in Redis
pub(crate) fn hscan(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let cursor = parse_cursor(&argv[2])?;
    let mut found = Gathered::default();
    let Some(record) = cx.find(&argv[1], Touch::Use)? else {
        reply_with_cursor(0, &found, w);
        return Ok(());
    };
    let hash = Members::of(&cx.view, &record, Type::Hash)?;
    let options = Options::of_members(Args::new(argv, 3))?;
    let stepwise = record.encoding() == Encoding::Hashtable;
    cx.may_take(if stepwise { options.count.min(hash.len()) } else { hash.len() })?;
    let mut seen = 0;
    let mut visit = |field: &[u8], value: cairn_store::Value<'_>| {
        seen += 1;
        if options.fits(field) {
            found.push(field);
            found.push_value(value)?;
        }
        Ok(seen < options.count)
    };
    let next = if stepwise {
        hash.scan(cursor, &mut visit)?
    } else {
        hash.for_each(&mut |field, value| visit(field, value).map(|_| true))?;
        0
    };
    reply_with_cursor(next, &found, w);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cairn_protocol::resp::Proto;

    use crate::commands::internal::encode_limits;
    use crate::commands::test::Bench;

    #[test]
    fn all_fields_come_in_each_protocols_shape() {
        let mut bench = Bench::new();
        bench.check(&[
            ("HSET h a 1 b 2", ":2"),
            ("HGETALL h", "*4|$1|a|$1|1|$1|b|$1|2"),
            ("HKEYS h", "*2|$1|a|$1|b"),
            ("HVALS h", "*2|$1|1|$1|2"),
            ("HGETALL x", "*0"),
            ("HKEYS x", "*0"),
            ("HVALS x", "*0"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[
            ("HGETALL h", "%2|$1|a|$1|1|$1|b|$1|2"),
            ("HKEYS h", "*2|$1|a|$1|b"),
            ("HVALS h", "*2|$1|1|$1|2"),
            ("HGETALL x", "%0"),
            ("HKEYS x", "*0"),
            ("SET s v", "+OK"),
            ("HGETALL s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn scan_takes_what_redis_takes() {
        let mut bench = Bench::new();
        bench.check(&[
            ("HSET h a 1 b 2 ab 3", ":3"),
            ("HSCAN h 0", "*2|$1|0|*6|$1|a|$1|1|$1|b|$1|2|$2|ab|$1|3"),
            ("HSCAN h 7 MATCH a* COUNT 1", "*2|$1|0|*4|$1|a|$1|1|$2|ab|$1|3"),
            ("HSCAN x 0", "*2|$1|0|*0"),
            ("HSCAN x 0 FOO", "*2|$1|0|*0"),
            ("HSCAN x y", "-ERR invalid cursor"),
            ("HSCAN h 0 FOO", "-ERR syntax error"),
            ("HSCAN h 0 TYPE hash", "-ERR syntax error"),
            ("HSCAN h 0 COUNT 0", "-ERR syntax error"),
            ("HSCAN h 0 COUNT x", "-ERR value is not an integer or out of range"),
            ("SET s v", "+OK"),
            ("HSCAN s 0 FOO", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn scan_sees_all_that_stays_step_by_step() {
        let mut bench = Bench::new();
        let names: BTreeSet<String> = (0..1000).map(|n| format!("field:{n}")).collect();
        for name in &names {
            bench.run(&[b"HSET", b"h", name.as_bytes(), b"v"]);
        }
        let (mut cursor, mut seen, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let reply = bench.run(&[b"HSCAN", b"h", cursor.as_bytes(), b"COUNT", b"10"]);
            let text = String::from_utf8(reply).unwrap();
            let lines: Vec<&str> = text.split("\r\n").collect();
            seen.extend(lines[4..lines.len() - 1].chunks(4).map(|pair| pair[1].to_owned()));
            steps += 1;
            if lines[2] == "0" {
                break;
            }
            cursor = lines[2].to_owned();
            bench.run(&[b"HSET", b"h", format!("go:{steps}").as_bytes(), b"v"]);
        }
        seen.retain(|name| name.starts_with("field:"));
        assert_eq!(seen, names);
        assert!((40..=100).contains(&steps), "{steps}");
    }

    #[test]
    fn a_large_listpack_shown_at_once_is_a_long_read() {
        let mut bench = Bench::new();
        // Hashes and sets of up to 5000 stay listpacks.
        bench.internal(|out| encode_limits(out, &[(0, 5000), (3, 5000)]));
        for n in 0..1500 {
            let name = format!("name:{n}");
            bench.run(&[b"HSET", b"hash", name.as_bytes(), b"v"]);
            bench.run(&[b"SADD", b"set", name.as_bytes()]);
        }
        bench.check(&[
            ("OBJECT ENCODING hash", "$8|listpack"),
            ("OBJECT ENCODING set", "$8|listpack"),
        ]);
        assert!(bench.defers("HSCAN hash 0 COUNT 10"));
        assert!(bench.defers("SSCAN set 0 COUNT 10"));
    }

    #[test]
    fn what_is_long_is_put_off_before_a_byte_is_written() {
        let mut bench = Bench::new();
        let fields: Vec<String> = (0..1001).map(|n| format!("field:{n}")).collect();
        let set = format!("HSET h {} v", fields.join(" v "));
        bench.check(&[(&set, ":1001")]);
        for command in
            ["HGETALL h", "HKEYS h", "HVALS h", "HRANDFIELD h 1001", "HRANDFIELD h -1001"]
        {
            assert!(bench.defers(command), "{command}");
        }
        for command in ["HGET h a", "HLEN h", "HRANDFIELD h 1000", "HSCAN h 0 COUNT 100"] {
            assert!(!bench.defers(command), "{command}");
        }
    }
}
