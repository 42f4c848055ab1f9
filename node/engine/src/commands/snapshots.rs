//! CAIRN.SNAPSHOT: the data of all databases kept by name, and brought back.
//!
//! Taking, dropping and rolling back are operations of the log: each replica does them at the same
//! index, and the time that a snapshot shows is that of its operation. What LIST and INFO say of
//! bytes and blocks is this replica's own.

use cairn_protocol::WireError;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Snapshot, SnapshotOutcome};

use crate::data::limits::Limits;
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, WriteContext};

/// Snapshots at once: so many are gone through under the shard's lock.
const COUNT_MAX: usize = 256;
/// Bytes of a name.
const NAME_MAX: usize = 255;
/// Names of later snapshots that an error lists.
const LISTED_MAX: usize = 8;

/// CAIRN.SNAPSHOT CREATE name
pub(super) fn create(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let name = name(argv)?;
    let there = cx.store.snapshots()?;
    if there.iter().any(|snapshot| snapshot.name == name) {
        return Err(exists(name));
    }
    if there.len() >= COUNT_MAX {
        return error(format!(
            "SNAPSHOTLIMIT there are {COUNT_MAX} snapshots, as many as there may be: drop one first"
        ));
    }
    match cx.store.take_snapshot(name, cx.now_ms)? {
        SnapshotOutcome::Exists => Err(exists(name)),
        _ => done(w),
    }
}

/// CAIRN.SNAPSHOT DROP name
pub(super) fn drop_one(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let name = name(argv)?;
    match cx.store.drop_snapshot(name)? {
        SnapshotOutcome::NoSuch => Err(no_such(name)),
        _ => done(w),
    }
}

/// CAIRN.SNAPSHOT ROLLBACK name [DROPLATER]
pub(super) fn roll_back(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let name = name(argv)?;
    let drop_later = match (argv.len(), argv.get(3)) {
        (3, _) => false,
        (4, Some(word)) if word.eq_ignore_ascii_case(b"droplater") => true,
        _ => return Err(WireError::Syntax.into()),
    };
    match cx.store.roll_back(name, drop_later)? {
        SnapshotOutcome::NoSuch => return Err(no_such(name)),
        SnapshotOutcome::Later(_) => return Err(later(name, &cx.store.snapshots()?)),
        SnapshotOutcome::Done | SnapshotOutcome::Exists => {}
    }
    // Arguments that were on their way when it was taken: nobody will name them any more.
    if !cx.store.is_empty(Db::STAGE) {
        cx.store.drop_db(Db::STAGE)?;
    }
    *cx.limits = Limits::of(&cx.store.view());
    cx.room.forget();
    cx.watches.touch_every_one();
    cx.effects.changed += 1;
    done(w)
}

/// CAIRN.SNAPSHOT LIST
pub(super) fn list(cx: &mut ReadContext<'_>, _argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let snapshots = cx.view.snapshots()?;
    w.array(snapshots.len());
    snapshots.iter().for_each(|snapshot| describe(snapshot, w));
    Ok(())
}

/// CAIRN.SNAPSHOT INFO [name]
pub(super) fn info(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let snapshots = cx.view.snapshots()?;
    if argv.len() == 2 {
        w.map(3);
        field(w, "count", snapshots.len() as u64);
        field(w, "count-max", COUNT_MAX as u64);
        field(w, "kept-bytes", cx.view.snapshots_kept_bytes()?);
        return Ok(());
    }
    if argv.len() > 3 {
        return Err(WireError::Syntax.into());
    }
    let name = name(argv)?;
    match snapshots.iter().find(|snapshot| snapshot.name == name) {
        Some(snapshot) => describe(snapshot, w),
        None => return Err(no_such(name)),
    }
    Ok(())
}

fn describe(snapshot: &Snapshot, w: &mut Writer<'_>) {
    w.map(5);
    w.bulk(b"name");
    w.bulk(&snapshot.name);
    field(w, "taken-ms", snapshot.taken_ms);
    field(w, "log-index", snapshot.index);
    field(w, "live-bytes", snapshot.live_bytes);
    field(w, "kept-blocks", snapshot.kept_blocks);
}

fn field(w: &mut Writer<'_>, name: &str, value: u64) {
    w.bulk(name.as_bytes());
    w.int(i64::try_from(value).unwrap_or(i64::MAX));
}

fn done(w: &mut Writer<'_>) -> Outcome {
    w.ok();
    Ok(())
}

fn name(argv: Argv<'_>) -> Outcome<&[u8]> {
    let name = argv.get(2).unwrap_or_default();
    match name.len() {
        0 => error("ERR a snapshot needs a name".to_owned()),
        1..=NAME_MAX => Ok(name),
        len => error(format!(
            "ERR the name of a snapshot has at most {NAME_MAX} bytes, this one has {len}"
        )),
    }
}

fn error<T>(text: String) -> Outcome<T> {
    Err(WireError::Custom(text).into())
}

fn exists(name: &[u8]) -> crate::failure::Failure {
    let name = name.escape_ascii();
    WireError::Custom(format!(
        "SNAPSHOTEXISTS there is a snapshot '{name}' already: drop it first, or take another name"
    ))
    .into()
}

fn no_such(name: &[u8]) -> crate::failure::Failure {
    let name = name.escape_ascii();
    WireError::Custom(format!(
        "NOSNAPSHOT there is no snapshot '{name}': CAIRN.SNAPSHOT LIST shows those there are"
    ))
    .into()
}

/// Names what was taken after `name`, the newest first.
fn later(name: &[u8], snapshots: &[Snapshot]) -> crate::failure::Failure {
    let later = snapshots.iter().take_while(|snapshot| snapshot.name != name);
    let mut names: Vec<String> =
        later.map(|snapshot| format!("'{}'", snapshot.name.escape_ascii())).collect();
    let more = names.len().saturating_sub(LISTED_MAX);
    names.truncate(LISTED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    WireError::Custom(format!(
        "LATERSNAPSHOTS were taken after '{}': {}{more}; drop them first, or add DROPLATER to \
         give them up",
        name.escape_ascii(),
        names.join(", "),
    ))
    .into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::commands::internal::encode_limits;
    use crate::commands::test::Bench;
    use crate::watch::Watch;

    #[test]
    fn data_come_back_whole_and_the_snapshot_stays() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k old", "+OK"),
            ("RPUSH list a b", ":2"),
            ("CAIRN.SNAPSHOT CREATE before", "+OK"),
            ("SET k new", "+OK"),
            ("SET other x", "+OK"),
            ("DEL list", ":1"),
            ("CAIRN.SNAPSHOT ROLLBACK before", "+OK"),
            ("GET k", "$3|old"),
            ("LRANGE list 0 -1", "*2|$1|a|$1|b"),
            ("DBSIZE", ":2"),
            ("FLUSHALL", "+OK"),
            ("CAIRN.SNAPSHOT ROLLBACK before", "+OK"),
            ("DBSIZE", ":2"),
            ("CAIRN.SNAPSHOT DROP before", "+OK"),
            ("GET k", "$3|old"),
        ]);
    }

    #[test]
    fn errors_say_what_is_in_the_way() {
        let mut bench = Bench::new();
        bench.check(&[
            ("CAIRN.SNAPSHOT CREATE a", "+OK"),
            ("CAIRN.SNAPSHOT CREATE b", "+OK"),
            (
                "CAIRN.SNAPSHOT CREATE a",
                "-SNAPSHOTEXISTS there is a snapshot 'a' already: drop it first, or take another \
                 name",
            ),
            (
                "CAIRN.SNAPSHOT DROP c",
                "-NOSNAPSHOT there is no snapshot 'c': CAIRN.SNAPSHOT LIST shows those there are",
            ),
            (
                "CAIRN.SNAPSHOT ROLLBACK a",
                "-LATERSNAPSHOTS were taken after 'a': 'b'; drop them first, or add DROPLATER to \
                 give them up",
            ),
            ("CAIRN.SNAPSHOT ROLLBACK a NOW", "-ERR syntax error"),
            ("CAIRN.SNAPSHOT ROLLBACK a DROPLATER x", "-ERR syntax error"),
            ("CAIRN.SNAPSHOT ROLLBACK a droplater", "+OK"),
            (
                "CAIRN.SNAPSHOT INFO b",
                "-NOSNAPSHOT there is no snapshot 'b': CAIRN.SNAPSHOT LIST shows those there are",
            ),
            ("CAIRN.SNAPSHOT INFO b c", "-ERR syntax error"),
        ]);
        let long = [b'n'; 256];
        let reply = bench.run(&[b"CAIRN.SNAPSHOT", b"CREATE", &long]);
        assert!(reply.starts_with(b"-ERR the name of a snapshot has at most 255"));
        assert!(bench.run(&[b"CAIRN.SNAPSHOT", b"CREATE", b""]).starts_with(b"-ERR a snapshot"));
        let reply = bench.run(&[b"CAIRN.SNAPSHOT", b"DROP", b"a\r\nb"]);
        assert!(reply.starts_with(b"-NOSNAPSHOT there is no snapshot 'a\\r\\nb'"));
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let mut bench = Bench::new();
        for n in 0..super::COUNT_MAX {
            bench.check(&[(&format!("CAIRN.SNAPSHOT CREATE s{n}"), "+OK")]);
        }
        assert!(bench.run(&[b"CAIRN.SNAPSHOT", b"CREATE", b"x"]).starts_with(b"-SNAPSHOTLIMIT"));
        let reply = bench.run(&[b"CAIRN.SNAPSHOT", b"ROLLBACK", b"s0"]);
        assert!(String::from_utf8_lossy(&reply).contains("'s248' and 247 more; drop"));
        bench.check(&[
            ("CAIRN.SNAPSHOT DROP s7", "+OK"),
            ("CAIRN.SNAPSHOT CREATE x", "+OK"),
            ("CAIRN.SNAPSHOT ROLLBACK s0 DROPLATER", "+OK"),
        ]);
        assert_eq!(bench.engine.store().snapshots().unwrap().len(), 1);
    }

    #[test]
    fn list_and_info_say_what_there_is() {
        let mut bench = Bench::new();
        bench.check(&[
            ("CAIRN.SNAPSHOT LIST", "*0"),
            ("CAIRN.SNAPSHOT INFO", "*6|$5|count|:0|$9|count-max|:256|$10|kept-bytes|:0"),
            ("SET k v", "+OK"),
            ("CAIRN.SNAPSHOT CREATE a", "+OK"),
        ]);
        let live = bench.engine.store().snapshots().unwrap()[0].live_bytes;
        let line = |kept: u32, now_ms: u64| {
            format!(
                "*10|$4|name|$1|a|$8|taken-ms|:{now_ms}|$9|log-index|:0|$10|live-bytes|:{live}\
                 |$11|kept-blocks|:{kept}"
            )
        };
        let now_ms = bench.now_ms();
        bench.check(&[
            ("CAIRN.SNAPSHOT LIST", &format!("*1|{}", line(0, now_ms))),
            ("CAIRN.SNAPSHOT INFO a", &line(0, now_ms)),
        ]);
        bench.check(&[("SET k w", "+OK"), ("CAIRN.SNAPSHOT CREATE b", "+OK")]);
        let kept = bench.engine.store().snapshots().unwrap()[1].kept_blocks;
        assert!(kept >= 2, "root and blob at least: {kept}");
        bench.check(&[("CAIRN.SNAPSHOT INFO a", &line(kept as u32, now_ms))]);
        assert!(bench.engine.store().view().snapshots_kept_bytes().unwrap() > 0);
    }

    #[test]
    fn a_rollback_brings_the_limits_of_encodings_back() {
        let mut bench = Bench::new();
        bench.check(&[("CAIRN.SNAPSHOT CREATE a", "+OK")]);
        assert_eq!(bench.internal(|out| encode_limits(out, &[(0, 2)])), b"+OK\r\n");
        bench.check(&[
            ("HSET three a 1 b 2 c 3", ":3"),
            ("OBJECT ENCODING three", "$9|hashtable"),
            ("CAIRN.SNAPSHOT ROLLBACK a", "+OK"),
            ("HSET three a 1 b 2 c 3", ":3"),
            ("OBJECT ENCODING three", "$8|listpack"),
        ]);
    }

    #[test]
    fn a_rollback_touches_whatever_is_watched_and_taking_one_does_not() {
        let mut bench = Bench::new();
        let watch: Arc<Watch> = Arc::default();
        let now_ms = bench.now_ms();
        bench.engine.watch(&watch, bench.db, b"missing", now_ms).unwrap();
        bench.check(&[("CAIRN.SNAPSHOT CREATE a", "+OK"), ("CAIRN.SNAPSHOT CREATE b", "+OK")]);
        bench.check(&[("CAIRN.SNAPSHOT DROP b", "+OK")]);
        assert!(!watch.is_broken(now_ms));
        bench.check(&[("CAIRN.SNAPSHOT ROLLBACK a", "+OK")]);
        assert!(watch.is_broken(now_ms));
    }

    #[test]
    fn what_was_staged_at_the_time_does_not_come_back() {
        let mut bench = Bench::new();
        bench.stage(9, b"half");
        bench.check(&[("CAIRN.SNAPSHOT CREATE a", "+OK")]);
        bench.check(&[("CAIRN.SNAPSHOT ROLLBACK a", "+OK")]);
        assert!(bench.engine.store().is_empty(cairn_store::Db::STAGE));
        let reply = bench.run_staged(&[b"SET", b"k", b""], &[(2, 9)]);
        assert!(reply.starts_with(b"-TRYAGAIN"));
    }

    #[test]
    fn room_is_counted_anew_after_a_rollback() {
        let mut bench = Bench::full_at(4 << 20);
        let (value, mut names) = (vec![b'x'; 256 << 10], 0..);
        let mut set = |bench: &mut Bench| {
            let name = format!("{}", names.next().unwrap_or(0));
            bench.run(&[b"SET", name.as_bytes(), &value])
        };
        while !set(&mut bench).starts_with(b"-OOM") {}
        bench.check(&[("CAIRN.SNAPSHOT CREATE full", "+OK"), ("FLUSHALL", "+OK")]);
        bench.check(&[("SET k v", "+OK"), ("CAIRN.SNAPSHOT ROLLBACK full", "+OK")]);
        assert!(set(&mut bench).starts_with(b"-OOM"));
    }
}
