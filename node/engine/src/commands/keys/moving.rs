//! Giving keys other names and other databases.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Store};

use super::database_index;
use crate::failure::{Failure, Outcome};
use crate::keyspace::WriteContext;

/// RENAME key newkey
pub(crate) fn rename(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (from, to) = (cx.key(&argv[1]), cx.key(&argv[2]));
    require_existing(cx, &argv[1])?;
    if from.bytes != to.bytes {
        cx.rename(&from, cx.db, &to)?;
    }
    w.ok();
    Ok(())
}

/// RENAMENX key newkey
pub(crate) fn renamenx(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (from, to) = (cx.key(&argv[1]), cx.key(&argv[2]));
    require_existing(cx, &argv[1])?;
    let free = from.bytes != to.bytes && !cx.exists(&to)?;
    if free {
        cx.rename(&from, cx.db, &to)?;
    }
    w.int(free.into());
    Ok(())
}

fn require_existing(cx: &mut WriteContext<'_>, name: &[u8]) -> Outcome {
    let key = cx.key(name);
    if cx.exists(&key)? { Ok(()) } else { Err(WireError::NoSuchKey.into()) }
}

/// MOVE key db
pub(crate) fn move_key(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let target = database_index(&argv[2])?;
    if target == cx.db {
        return Err(WireError::SameObject.into());
    }
    let key = cx.key(&argv[1]);
    let moves = cx.exists(&key)? && !cx.exists_in(target, &key)?;
    if moves {
        cx.rename(&key, target, &key)?;
    }
    w.int(moves.into());
    Ok(())
}

/// COPY source destination [DB destination-db] [REPLACE]
pub(crate) fn copy(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (target, replace) = copy_options(cx.db, argv)?;
    let (from, to) = (cx.key(&argv[1]), cx.key(&argv[2]));
    if target == cx.db && from.bytes == to.bytes {
        return Err(WireError::SameObject.into());
    }
    let cost = cx.find(&from, |record| {
        // What hangs in trees below a collection is no value of its blob.
        let in_trees = if record.value().is_tree() { record.bytes() } else { 0 };
        Ok(Store::cost(to.bytes.len(), record.value().len()).saturating_add(in_trees))
    })?;
    let taken = cx.exists_in(target, &to)?;
    let copies = match cost {
        Some(cost) if replace || !taken => {
            cx.reserve(cost)?;
            cx.store.copy(cx.db, &from, target, &to)?;
            cx.note_change_in(target, &to);
            true
        }
        _ => false,
    };
    w.int(copies.into());
    Ok(())
}

fn copy_options(db: Db, argv: Argv<'_>) -> Outcome<(Db, bool)> {
    let (mut target, mut replace) = (db, false);
    let mut args = Args::new(argv, 3);
    while !args.is_empty() {
        if args.keyword("REPLACE") {
            replace = true;
        } else if let Some(index) = args.keyword_with_value("DB") {
            target = database_index(index)?;
        } else {
            return Err(WireError::Syntax.into());
        }
    }
    Ok((target, replace))
}

/// SWAPDB index1 index2
pub(crate) fn swapdb(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    // Both must be integers before either has to be a database.
    let first = swap_index(&argv[1], "ERR invalid first DB index")?;
    let second = swap_index(&argv[2], "ERR invalid second DB index")?;
    let (first, second) = (first?, second?);
    if first != second {
        cx.note_change_of_all(first, Some(second))?;
        cx.note_change_of_all(second, Some(first))?;
        cx.store.swap_db(first, second)?;
    }
    cx.effects.changed += 1;
    w.ok();
    Ok(())
}

fn swap_index(text: &[u8], not_integer: &'static str) -> Outcome<Result<Db, WireError>> {
    match database_index(text) {
        Ok(db) => Ok(Ok(db)),
        Err(WireError::DbOutOfRange) => Ok(Err(WireError::DbOutOfRange)),
        Err(_) => Err(Failure::reply(not_integer)),
    }
}

#[cfg(test)]
mod tests {
    use cairn_store::Db;

    use crate::commands::test::Bench;

    #[test]
    fn rename_takes_deadline_and_encoding_along() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET a 12 EX 10", "+OK"),
            ("SET b old", "+OK"),
            ("RENAME a b", "+OK"),
            ("EXISTS a", ":0"),
            ("GET b", "$2|12"),
            ("TTL b", ":10"),
            ("OBJECT ENCODING b", "$3|int"),
            ("RENAME b b", "+OK"),
            ("RENAME x y", "-ERR no such key"),
            ("RENAME x x", "-ERR no such key"),
            ("RENAMENX b c", ":1"),
            ("SET d x", "+OK"),
            ("RENAMENX c d", ":0"),
            ("RENAMENX c c", ":0"),
            ("RENAMENX x y", "-ERR no such key"),
            ("DBSIZE", ":2"),
        ]);
    }

    #[test]
    fn a_copy_of_a_large_collection_takes_its_room() {
        for (command, pairs) in [("RPUSH", false), ("SADD", false), ("HSET", true), ("ZADD", true)]
        {
            let mut bench = Bench::new();
            for n in 0..1000 {
                let (score, name) = (format!("{n}"), format!("{n}").repeat(50));
                let words: [&[u8]; 4] =
                    [command.as_bytes(), b"large", score.as_bytes(), name.as_bytes()];
                let single = [words[0], words[1], words[3]];
                bench.run(if pairs { &words } else { &single });
            }
            let before = bench.engine.store().content_bytes();
            assert!((150 << 10..390 << 10).contains(&before), "{command}: {before}");
            bench.check(&[("COPY large other", ":1")]);
            let after = bench.engine.store().content_bytes();
            bench.admit_no_more_than(after - before - (64 << 10));
            bench.check(&[
                ("COPY large third", "-OOM command not allowed when used memory > 'maxmemory'."),
                ("EXISTS third", ":0"),
            ]);
            assert_eq!(bench.engine.store().content_bytes(), after, "{command}");
        }
    }

    #[test]
    fn expired_keys_neither_move_nor_block() {
        let mut bench = Bench::new();
        bench.check(&[("SET a 1 PX 10", "+OK"), ("SET b 1", "+OK"), ("SET c 1 PX 10", "+OK")]);
        bench.advance_ms(10);
        bench.check(&[
            ("RENAME a b", "-ERR no such key"),
            ("COPY a x", ":0"),
            ("MOVE a 1", ":0"),
            ("RENAMENX b c", ":1"),
            ("TTL c", ":-1"),
        ]);
    }

    #[test]
    fn copy_keeps_the_source() {
        let mut bench = Bench::new();
        let large = vec![b'x'; 50_000];
        bench.run(&[b"SET", b"large", &large, b"EX", b"10"]);
        bench.check(&[
            ("COPY large other", ":1"),
            ("STRLEN other", ":50000"),
            ("TTL other", ":10"),
            ("APPEND other y", ":50001"),
            ("STRLEN large", ":50000"),
            ("COPY large other", ":0"),
            ("COPY large other REPLACE", ":1"),
            ("STRLEN other", ":50000"),
            ("COPY absent other", ":0"),
            ("COPY absent other REPLACE", ":0"),
            ("EXISTS other", ":1"),
            ("COPY large large", "-ERR source and destination objects are the same"),
            ("COPY large large DB 0", "-ERR source and destination objects are the same"),
            ("COPY large large DB 1 REPLACE", ":1"),
            ("COPY large other DB", "-ERR syntax error"),
            ("COPY large other DB 16", "-ERR DB index is out of range"),
            ("COPY large other DB x", "-ERR value is not an integer or out of range"),
        ]);
        bench.db = Db(1);
        bench.check(&[("STRLEN large", ":50000")]);
    }

    #[test]
    fn move_and_swapdb() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET a 1 EX 10", "+OK"),
            ("MOVE a 1", ":1"),
            ("MOVE a 1", ":0"),
            ("SET a 2", "+OK"),
            ("MOVE a 1", ":0"),
            ("MOVE a 0", "-ERR source and destination objects are the same"),
            ("MOVE a 16", "-ERR DB index is out of range"),
            ("MOVE a x", "-ERR value is not an integer or out of range"),
            ("SWAPDB 0 1", "+OK"),
            ("GET a", "$1|1"),
            ("TTL a", ":10"),
            ("SWAPDB 0 0", "+OK"),
            ("SWAPDB x 16", "-ERR invalid first DB index"),
            ("SWAPDB 16 x", "-ERR invalid second DB index"),
            ("SWAPDB 0 16", "-ERR DB index is out of range"),
            ("SWAPDB 0 99999999999", "-ERR invalid second DB index"),
        ]);
        bench.db = Db(1);
        bench.check(&[("GET a", "$1|2")]);
    }
}
