//! Reading members.

use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Type};

use crate::commands::iterate::{Options, parse_cursor, reply_with_cursor};
use crate::data::gathered::Gathered;
use crate::data::members::Members;
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch};

/// SISMEMBER key member
pub(crate) fn sismember(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let set = cx.members(&argv[1], Type::Set)?;
    let there = set.map(|set| set.contains(&argv[2])).transpose()?;
    w.int(there.unwrap_or(false).into());
    Ok(())
}

/// SMISMEMBER key member [member ...]
pub(crate) fn smismember(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    cx.may_take(argv.len() as u64)?;
    let set = cx.members(&argv[1], Type::Set)?;
    w.array(argv.len() - 2);
    for member in argv.iter().skip(2) {
        let there = set.as_ref().map(|set| set.contains(member)).transpose()?;
        w.int(there.unwrap_or(false).into());
    }
    Ok(())
}

/// SCARD key
pub(crate) fn scard(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let set = cx.members(&argv[1], Type::Set)?;
    w.int(set.map_or(0, |set| set.len() as i64));
    Ok(())
}

/// SMEMBERS key
pub(crate) fn smembers(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let Some(set) = cx.members(&argv[1], Type::Set)? else {
        w.set(0);
        return Ok(());
    };
    cx.may_take(set.len())?;
    w.set(set.len() as usize);
    set.for_each(&mut |member, _| {
        w.bulk(member);
        Ok(true)
    })
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]: what is small comes all at once, as in Redis
pub(crate) fn sscan(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let cursor = parse_cursor(&argv[2])?;
    let mut found = Gathered::default();
    let Some(record) = cx.find(&argv[1], Touch::Use)? else {
        reply_with_cursor(0, &found, w);
        return Ok(());
    };
    let set = Members::of(&cx.view, &record, Type::Set)?;
    let options = Options::of_members(Args::new(argv, 3))?;
    let stepwise = record.encoding() == Encoding::Hashtable;
    cx.may_take(if stepwise { options.count.min(set.len()) } else { set.len() })?;
    let (next, mut seen) = (if stepwise { cursor } else { 0 }, 0);
    let next = set.scan(next, &mut |member, _| {
        seen += 1;
        if options.fits(member) {
            found.push(member);
        }
        Ok(!stepwise || seen < options.count)
    })?;
    reply_with_cursor(next, &found, w);
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn absent_keys_and_members_are_told() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SADD s a b", ":2"),
            ("SISMEMBER s a", ":1"),
            ("SISMEMBER s x", ":0"),
            ("SISMEMBER x a", ":0"),
            ("SMISMEMBER s a x b", "*3|:1|:0|:1"),
            ("SMISMEMBER x a", "*1|:0"),
            ("SCARD s", ":2"),
            ("SCARD x", ":0"),
            ("SMEMBERS x", "*0"),
            ("SET str v", "+OK"),
            ("SISMEMBER str a", WRONG_TYPE),
            ("SMISMEMBER str a", WRONG_TYPE),
            ("SCARD str", WRONG_TYPE),
            ("SMEMBERS str", WRONG_TYPE),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("SMEMBERS s", "~2|$1|a|$1|b"), ("SMEMBERS x", "~0")]);
    }

    #[test]
    fn scan_takes_what_redis_takes() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SADD s a b ab", ":3"),
            ("SSCAN s 0", "*2|$1|0|*3|$1|a|$1|b|$2|ab"),
            ("SSCAN s 7 MATCH a* COUNT 1", "*2|$1|0|*2|$1|a|$2|ab"),
            ("SSCAN x 0 FOO", "*2|$1|0|*0"),
            ("SSCAN x y", "-ERR invalid cursor"),
            ("SSCAN s 0 FOO", "-ERR syntax error"),
            ("SSCAN s 0 COUNT 0", "-ERR syntax error"),
            ("SET str v", "+OK"),
            ("SSCAN str 0 FOO", WRONG_TYPE),
        ]);
        let members: Vec<String> = (0..500).map(|n| format!("m{n}")).collect();
        bench.check(&[(&format!("SADD large {}", members.join(" ")), ":500")]);
        let reply = bench.run(&[b"SSCAN", b"large", b"0", b"COUNT", b"20"]);
        assert!(!reply.starts_with(b"*2\r\n$1\r\n0\r\n"));
        let numbers: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        bench.check(&[(&format!("SADD numbers {}", numbers.join(" ")), ":500")]);
        let reply = bench.run(&[b"SSCAN", b"numbers", b"0", b"COUNT", b"20"]);
        assert!(reply.starts_with(b"*2\r\n$1\r\n0\r\n*500\r\n"));
    }

    #[test]
    fn what_is_long_is_put_off_before_a_byte_is_written() {
        let mut bench = Bench::new();
        let members: Vec<String> = (0..1001).map(|n| format!("member:{n}")).collect();
        bench.check(&[(&format!("SADD s {}", members.join(" ")), ":1001"), ("SADD t a", ":1")]);
        for command in ["SMEMBERS s", "SRANDMEMBER s 1001", "SINTER s", "SUNION s t", "SDIFF s t"] {
            assert!(bench.defers(command), "{command}");
        }
        for command in ["SCARD s", "SRANDMEMBER s 5", "SINTER s t", "SDIFF t s", "SINTERCARD 2 s t"]
        {
            assert!(!bench.defers(command), "{command}");
        }
    }
}
