//! Many strings at once.

use cairn_protocol::WireError;
use cairn_protocol::command::CommandId;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::layout::pool::blob::KEY_MAX;
use cairn_store::{Store, StoreError, Type};

use crate::data::string;
use crate::failure::{Failure, Outcome};
use crate::keyspace::{ReadContext, Touch, WriteContext};

/// MGET key [key ...]
pub(crate) fn mget(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    cx.may_take(argv.len() as u64)?;
    w.array(argv.len() - 1);
    for key in argv.iter().skip(1) {
        match cx.find(key, Touch::Use)? {
            Some(record) if record.ty() == Type::String => string::reply(&record, w)?,
            _ => w.null(),
        }
    }
    Ok(())
}

/// MSET key value [key value ...]
pub(crate) fn mset(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    check_pairs(argv, CommandId::MSet)?;
    set_pairs(cx, argv)?;
    w.ok();
    Ok(())
}

/// MSETNX key value [key value ...]
pub(crate) fn msetnx(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    check_pairs(argv, CommandId::MSetNx)?;
    for position in pairs(argv) {
        if cx.exists(&cx.key(&argv[position]))? {
            w.int(0);
            return Ok(());
        }
    }
    set_pairs(cx, argv)?;
    w.int(1);
    Ok(())
}

fn check_pairs(argv: Argv<'_>, command: CommandId) -> Outcome {
    if argv.len() % 2 == 1 {
        Ok(())
    } else {
        Err(WireError::WrongArity(command.spec().name).into())
    }
}

/// Positions of the keys; each is followed by its value.
fn pairs(argv: Argv<'_>) -> impl Iterator<Item = usize> {
    (1..argv.len()).step_by(2)
}

/// Sets all pairs or none: whatever the store could refuse is found before the first is written.
fn set_pairs(cx: &mut WriteContext<'_>, argv: Argv<'_>) -> Outcome {
    if let Some(key) = pairs(argv).map(|at| &argv[at]).find(|key| key.len() > KEY_MAX) {
        return Err(Failure::Store(StoreError::TooLong {
            what: "a key",
            len_bytes: key.len() as u64,
            max_bytes: KEY_MAX as u64,
        }));
    }
    let bytes = pairs(argv)
        .map(|at| Store::cost(argv[at].len(), argv[at + 1].len() as u64))
        .fold(0u64, u64::saturating_add);
    if !cx.store.room_for(bytes) {
        return Err(WireError::OutOfMemory.into());
    }
    for position in pairs(argv) {
        cx.set_string(&cx.key(&argv[position]), argv, position + 1, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    #[test]
    fn pairs_are_set_and_read_in_order() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MSET a 1 b 2 a 3", "+OK"),
            ("MGET a b c a", "*4|$1|3|$1|2|$-1|$1|3"),
            ("OBJECT ENCODING a", "$3|int"),
            ("MSET a", "-ERR wrong number of arguments for 'mset' command"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command"),
        ]);
    }

    #[test]
    fn mset_clears_deadlines() {
        let mut bench = Bench::new();
        bench.check(&[("SET a 1 EX 10", "+OK"), ("MSET a 2", "+OK"), ("TTL a", ":-1")]);
    }

    #[test]
    fn msetnx_sets_all_or_none() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MSETNX a 1 b 2", ":1"),
            ("MSETNX c 1 b 3", ":0"),
            ("MGET a b c", "*3|$1|1|$1|2|$-1"),
            ("MSETNX d 1 d 2", ":1"),
            ("GET d", "$1|2"),
            ("SET e x PX 5", "+OK"),
        ]);
        bench.advance_ms(5);
        bench.check(&[("MSETNX e 1 f 2", ":1"), ("MGET e f", "*2|$1|1|$1|2")]);
    }

    #[test]
    fn a_key_that_is_too_long_fails_all_of_the_pairs() {
        let mut bench = Bench::new();
        let long = vec![b'k'; 20_000];
        for command in [&b"MSET"[..], b"MSETNX"] {
            let reply = bench.run(&[command, b"a", b"1", &long, b"2"]);
            let wanted = b"-ERR a key of 20000 bytes is longer than the 15000 allowed\r\n";
            assert_eq!(reply.escape_ascii().to_string(), wanted.escape_ascii().to_string());
        }
        assert_eq!(bench.run(&[b"GET", &long]), b"$-1\r\n");
        bench.check(&[("DBSIZE", ":0")]);
    }

    #[test]
    fn a_full_store_takes_none_of_the_pairs() {
        let mut bench = Bench::full_at(256 * 1024);
        let value = vec![b'x'; 100 * 1024];
        bench.check(&[("SET a old", "+OK")]);
        let reply = bench.run(&[b"MSET", b"a", &value, b"b", &value, b"c", &value]);
        assert_eq!(reply, b"-OOM command not allowed when used memory > 'maxmemory'.\r\n");
        bench.check(&[("MGET a b c", "*3|$3|old|$-1|$-1"), ("MSET a 1 b 2", "+OK")]);
    }
}
