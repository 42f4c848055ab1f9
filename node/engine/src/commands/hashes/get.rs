//! Reading single fields.

use cairn_protocol::resp::{Argv, Writer};
use cairn_store::Type;

use crate::data::string;
use crate::failure::Outcome;
use crate::keyspace::ReadContext;

/// HGET key field
pub(crate) fn hget(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let hash = cx.members(&argv[1], Type::Hash)?;
    let value = hash.as_ref().map(|hash| hash.get(&argv[2])).transpose()?.flatten();
    match value {
        Some(value) => string::reply_value(value, w)?,
        None => w.null(),
    }
    Ok(())
}

/// HMGET key field [field ...]
pub(crate) fn hmget(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    cx.may_take(argv.len() as u64)?;
    let hash = cx.members(&argv[1], Type::Hash)?;
    w.array(argv.len() - 2);
    for field in argv.iter().skip(2) {
        match hash.as_ref().map(|hash| hash.get(field)).transpose()?.flatten() {
            Some(value) => string::reply_value(value, w)?,
            None => w.null(),
        }
    }
    Ok(())
}

/// HLEN key
pub(crate) fn hlen(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let hash = cx.members(&argv[1], Type::Hash)?;
    w.int(hash.map_or(0, |hash| hash.len() as i64));
    Ok(())
}

/// HEXISTS key field
pub(crate) fn hexists(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let hash = cx.members(&argv[1], Type::Hash)?;
    let there = hash.map(|hash| hash.contains(&argv[2])).transpose()?;
    w.int(there.unwrap_or(false).into());
    Ok(())
}

/// HSTRLEN key field
pub(crate) fn hstrlen(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let hash = cx.members(&argv[1], Type::Hash)?;
    let value = hash.as_ref().map(|hash| hash.get(&argv[2])).transpose()?.flatten();
    w.int(value.map_or(0, |value| value.len() as i64));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    #[test]
    fn absent_keys_and_fields_are_told() {
        let mut bench = Bench::new();
        let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("HSET h a 1 empty-next 2", ":2"),
            ("HGET h a", "$1|1"),
            ("HGET h b", "$-1"),
            ("HGET x a", "$-1"),
            ("HMGET x a b", "*2|$-1|$-1"),
            ("HLEN h", ":2"),
            ("HLEN x", ":0"),
            ("HEXISTS h a", ":1"),
            ("HEXISTS h 1", ":0"),
            ("HEXISTS x a", ":0"),
            ("HSTRLEN h a", ":1"),
            ("HSTRLEN h b", ":0"),
            ("HSTRLEN x a", ":0"),
            ("SET s v", "+OK"),
            ("HGET s a", wrong_type),
            ("HMGET s a", wrong_type),
            ("HLEN s", wrong_type),
            ("HEXISTS s a", wrong_type),
            ("HSTRLEN s a", wrong_type),
        ]);
    }

    #[test]
    fn a_long_name_of_a_key_hides_nothing() {
        let mut bench = Bench::new();
        let long = vec![b'k'; 15_000];
        for n in 0..60 {
            bench.run(&[b"HSET", &long, format!("field:{n}").as_bytes(), b"v"]);
        }
        assert_eq!(bench.run(&[b"HLEN", &long]), b":60\r\n");
        assert_eq!(bench.run(&[b"HGET", &long, b"field:59"]), b"$1\r\nv\r\n");
        assert_eq!(bench.run(&[b"HDEL", &long, b"field:0"]), b":1\r\n");
        assert_eq!(bench.run(&[b"RENAME", &long, b"h"]), b"+OK\r\n");
        bench.check(&[("HLEN h", ":59"), ("HGET h field:1", "$1|v")]);
    }
}
