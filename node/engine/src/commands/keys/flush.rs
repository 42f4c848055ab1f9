//! Emptying databases.

use cairn_protocol::WireError;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::Db;

use crate::failure::Outcome;
use crate::keyspace::WriteContext;

/// FLUSHDB [ASYNC | SYNC]: either way the keys are gone at once and freed later
pub(crate) fn flushdb(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    check_mode(argv)?;
    flush(cx, cx.db)?;
    w.ok();
    Ok(())
}

/// FLUSHALL [ASYNC | SYNC]
pub(crate) fn flushall(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    check_mode(argv)?;
    for db in (0..Db::COUNT).map(Db) {
        flush(cx, db)?;
    }
    w.ok();
    Ok(())
}

fn check_mode(argv: Argv<'_>) -> Outcome {
    let known =
        |mode: &[u8]| mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync");
    match argv.len() {
        1 => Ok(()),
        2 if known(&argv[1]) => Ok(()),
        _ => Err(WireError::Syntax.into()),
    }
}

fn flush(cx: &mut WriteContext<'_>, db: Db) -> Outcome {
    let keys = u32::try_from(cx.store.len(db)).unwrap_or(u32::MAX);
    cx.note_change_of_all(db, None)?;
    cx.store.drop_db(db)?;
    cx.effects.changed = cx.effects.changed.saturating_add(keys);
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_store::Db;

    use crate::commands::test::Bench;

    #[test]
    fn flushdb_empties_one_and_flushall_every_database() {
        let mut bench = Bench::new();
        for db in [0, 1, 15] {
            bench.db = Db(db);
            bench.check(&[("SET k v EX 10", "+OK")]);
        }
        bench.check(&[("FLUSHDB", "+OK"), ("DBSIZE", ":0")]);
        bench.db = Db(1);
        bench.check(&[("DBSIZE", ":1"), ("FLUSHALL async", "+OK")]);
        for db in [0, 1, 15] {
            bench.db = Db(db);
            bench.check(&[("DBSIZE", ":0"), ("GET k", "$-1"), ("SET k v", "+OK")]);
        }
    }

    #[test]
    fn staged_arguments_outlive_a_flush() {
        let mut bench = Bench::new();
        bench.stage(7, b"value");
        bench.check(&[("FLUSHALL SYNC", "+OK")]);
        assert_eq!(bench.run_staged(&[b"SET", b"k", b""], &[(2, 7)]), b"+OK\r\n");
        bench.check(&[("GET k", "$5|value")]);
    }

    #[test]
    fn other_modes_are_errors() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k v", "+OK"),
            ("FLUSHALL foo", "-ERR syntax error"),
            ("FLUSHDB ASYNC SYNC", "-ERR syntax error"),
            ("DBSIZE", ":1"),
        ]);
    }
}
