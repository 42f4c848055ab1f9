//! Operations that only a node proposes: staging large arguments, reclaiming expired keys, the
//! memory limit and what it costs.
//!
//! An argument too large for one log record is sent ahead in pieces, each an operation of its own
//! that appends to a key of the hidden database 16; the command's own operation then names the
//! stage instead of the bytes. The functions here encode these operations, the handlers beside them
//! read what they wrote. Numbers are eight bytes, little-endian.

use cairn_protocol::WireError;
use cairn_protocol::command::CommandId;
use cairn_protocol::op::{OpRef, encode_op};
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Encoding, Meta, Store, Type};

use crate::data::limits::{self, Limits};
use crate::expiry::has_passed;
use crate::failure::{Failure, Outcome};
use crate::keyspace::WriteContext;

/// Appends the operation that stages `bytes` at `offset` of the argument `id`.
///
/// Offset 0 starts the argument anew; any other must be its length so far. The reply is its length
/// afterwards, or an error when the piece does not fit or there is no room.
pub fn encode_stage(out: &mut Vec<u8>, id: u64, offset: u64, bytes: &[u8]) {
    let (id, offset) = (id.to_le_bytes(), offset.to_le_bytes());
    let argv = [&b"_stage"[..], &id, &offset, bytes];
    encode_op(out, CommandId::InternalStage, Db::STAGE.0, Argv::from(&argv));
}

/// Appends the operation that drops staged arguments which no command will name: those with `ids`,
/// or all when there are none. The reply counts them.
pub fn encode_drop_stages(out: &mut Vec<u8>, ids: &[u64]) {
    let ids: Vec<[u8; 8]> = ids.iter().map(|id| id.to_le_bytes()).collect();
    let argv: Vec<&[u8]> =
        std::iter::once(&b"_dropstages"[..]).chain(ids.iter().map(|id| &id[..])).collect();
    encode_op(out, CommandId::InternalDropStages, Db::STAGE.0, Argv::from(&argv[..]));
}

/// Bytes of names in one operation.
const NAME_BYTES_AT_ONCE: usize = 64 << 10;

/// Cuts named keys into runs, each of one database, of `most` names and 64 KiB at most (or of a
/// single name): what one operation may hold.
pub(crate) fn runs_of_names(
    names: &[(Db, Vec<u8>)],
    most: usize,
) -> impl Iterator<Item = (Db, impl Iterator<Item = &[u8]> + Clone)> {
    let mut rest = names;
    std::iter::from_fn(move || {
        let (db, _) = rest.first()?;
        let mut bytes = 0;
        let fits = |(other, name): &&(Db, Vec<u8>)| {
            bytes += name.len();
            other == db && bytes <= NAME_BYTES_AT_ONCE
        };
        let count = rest.iter().take(most).take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        Some((*db, now.iter().map(|(_, name)| name.as_slice())))
    })
}

/// Appends the operation that deletes those of the keys `names` of `db` whose deadline has passed.
/// The reply, and [`Effects::expired`](crate::Effects::expired), count them.
pub fn encode_expire<'a>(out: &mut Vec<u8>, db: Db, names: impl IntoIterator<Item = &'a [u8]>) {
    let argv: Vec<&[u8]> = std::iter::once(&b"_expire"[..]).chain(names).collect();
    encode_op(out, CommandId::InternalExpire, db.0, Argv::from(&argv[..]));
}

/// Appends the operation that deletes up to `limit` keys whose deadline has passed, the earliest
/// first. The reply, and [`Effects::expired`](crate::Effects::expired), count them.
///
/// Nobody proposes it any more, for a key that cannot be read would end the writes of a replica; logs
/// may hold it.
pub fn encode_reclaim(out: &mut Vec<u8>, limit: u64) {
    let argv = [&b"_reclaim"[..], &limit.to_le_bytes()];
    encode_op(out, CommandId::InternalReclaim, 0, Argv::from(&argv));
}

/// Appends the operation that changes limits, each given by its place in
/// [`LIMITS`](crate::LIMITS). The reply is OK.
pub fn encode_limits(out: &mut Vec<u8>, changes: &[(usize, i64)]) {
    let words: Vec<[u8; 8]> = changes
        .iter()
        .flat_map(|(number, value)| [(*number as u64).to_le_bytes(), value.to_le_bytes()])
        .collect();
    let argv: Vec<&[u8]> =
        std::iter::once(&b"_limits"[..]).chain(words.iter().map(|word| &word[..])).collect();
    encode_op(out, CommandId::InternalLimits, 0, Argv::from(&argv[..]));
}

/// Appends the operation that sets the shard's memory limit. The reply is OK.
pub fn encode_memory(out: &mut Vec<u8>, limit_bytes: u64) {
    let argv = [&b"_memory"[..], &limit_bytes.to_le_bytes()];
    encode_op(out, CommandId::InternalMemory, 0, Argv::from(&argv));
}

/// Appends the operation that deletes the keys `names` of `db` to make room, with `only_expiring`
/// those of them that still have a deadline. The reply, and
/// [`Effects::evicted`](crate::Effects::evicted), count them.
pub fn encode_evict<'a>(
    out: &mut Vec<u8>,
    db: Db,
    only_expiring: bool,
    names: impl IntoIterator<Item = &'a [u8]>,
) {
    let head = [&b"_evict"[..], if only_expiring { b"1" } else { b"0" }];
    let argv: Vec<&[u8]> = head.into_iter().chain(names).collect();
    encode_op(out, CommandId::InternalEvict, db.0, Argv::from(&argv[..]));
}

/// Appends the operation that has operations of its own entry answered `OOM` and not executed: the
/// one who proposes them knows that there is no room for them. `numbers` rise; they count an entry's
/// operations from 0, those of a transaction each, the transaction itself not.
pub fn encode_deny(out: &mut Vec<u8>, numbers: &[u32]) {
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    encode_op(out, CommandId::InternalDeny, 0, Argv::from(&[&b"_deny"[..], &numbers]));
}

/// The numbers that such an operation names; none, if it is another.
pub fn denied_by<'a>(op: &OpRef<'a>) -> impl Iterator<Item = u32> + use<'a> {
    let is_deny = op.command == CommandId::InternalDeny;
    let numbers = op.argv().get(1).filter(|_| is_deny).unwrap_or_default();
    numbers.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number))
}

/// _DENY numbers
pub(super) fn deny(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (numbers, rest) = argv[1].as_chunks::<4>();
    if !rest.is_empty() {
        return Err(WireError::Syntax.into());
    }
    cx.denied.extend(numbers.iter().map(|number| u32::from_le_bytes(*number)));
    w.ok();
    Ok(())
}

/// _MEMORY bytes
///
/// What this replica's pool may take is its node's affair, which has it follow.
pub(super) fn memory(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let limit_bytes = number(&argv[1])?;
    cx.store.set_limit_bytes(limit_bytes);
    cx.room.forget();
    w.ok();
    Ok(())
}

/// _EVICT only_expiring [key ...]
pub(super) fn evict(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let only_expiring = &argv[1] == b"1";
    let before = cx.effects.evicted;
    for name in argv.iter().skip(2) {
        let key = cx.key(name);
        // One whose time has passed goes as well, as evicted.
        let found = cx.store.get(cx.db, &key)?;
        let expires = found.map(|record| record.deadline_ms().is_some());
        if expires.is_some_and(|expires| expires || !only_expiring) {
            cx.remove(&key)?;
            cx.effects.evicted += 1;
        }
    }
    w.int((cx.effects.evicted - before).into());
    Ok(())
}

/// _LIMITS [number value ...]
pub(super) fn limits(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let pairs = || (1..argv.len()).step_by(2).map(|at| (argv.get(at), argv.get(at + 1)));
    for (place, value) in pairs() {
        let (place, value) =
            (number(place.unwrap_or_default())?, number(value.unwrap_or_default())?);
        limits::set(cx.store, place as usize, value as i64)?;
    }
    *cx.limits = Limits::of(&cx.store.view());
    w.ok();
    Ok(())
}

/// _STAGE id offset bytes
pub(super) fn stage(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (offset, bytes) = (number(&argv[2])?, &argv[3]);
    let key = cx.key(&argv[1]);
    let staged = cx.store.get(Db::STAGE, &key)?.map(|r| (r.value().len(), r.bytes()));
    let (len, content_bytes) = match (offset, staged) {
        (0, _) => (0, 0),
        (_, Some(staged)) if staged.0 == offset => staged,
        _ => return Err(missing()),
    };
    let len = len.saturating_add(bytes.len() as u64);
    cx.reserve(Store::cost(key.bytes.len(), len).saturating_sub(content_bytes))?;
    if offset == 0 {
        let meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
        cx.store.put(Db::STAGE, &key, meta, bytes)?;
    } else {
        cx.store.append(Db::STAGE, &key, Encoding::Raw, bytes)?;
    }
    w.int(len as i64);
    Ok(())
}

/// What a client is told whose argument was dropped half-way, as after a change of leader.
pub(crate) fn missing() -> Failure {
    Failure::reply("TRYAGAIN a large argument got lost on its way: send the command again")
}

/// _DROPSTAGES [id ...]
pub(super) fn drop_stages(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let before = cx.store.len(Db::STAGE);
    if argv.len() == 1 {
        cx.store.drop_db(Db::STAGE)?;
    }
    for id in argv.iter().skip(1) {
        cx.store.remove(Db::STAGE, &cx.key(id))?;
    }
    w.int(before.saturating_sub(cx.store.len(Db::STAGE)) as i64);
    Ok(())
}

/// _EXPIRE [key ...]
pub(super) fn expire(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let before = cx.effects.expired;
    for name in argv.iter().skip(1) {
        let key = cx.key(name);
        // It may have been written anew since it was named.
        let deadline_ms = cx.store.get(cx.db, &key)?.and_then(|record| record.deadline_ms());
        if has_passed(deadline_ms, cx.now_ms) {
            cx.store.remove(cx.db, &key)?;
            cx.effects.expired += 1;
        }
    }
    w.int((cx.effects.expired - before).into());
    Ok(())
}

/// _RECLAIM limit
pub(super) fn reclaim(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let limit = number(argv.get(1).unwrap_or_default())?;
    let mut deleted = 0;
    while deleted < limit {
        let Some((db, name)) = cx.store.next_expired(cx.now_ms)? else { break };
        cx.store.remove(db, &cx.key(&name))?;
        cx.effects.expired += 1;
        deleted += 1;
    }
    w.int(deleted as i64);
    Ok(())
}

fn number(bytes: &[u8]) -> Outcome<u64> {
    let bytes: [u8; 8] = bytes.try_into().map_err(|_| WireError::Syntax)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use cairn_store::Db;

    use super::*;
    use crate::commands::test::Bench;

    #[test]
    fn a_staged_value_becomes_the_value() {
        let mut bench = Bench::new();
        let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        for (offset, piece) in large.chunks(1 << 20).enumerate() {
            let reply = bench.internal(|out| encode_stage(out, 9, (offset << 20) as u64, piece));
            assert!(reply.starts_with(b":"), "{}", reply.escape_ascii());
        }
        bench.check(&[("SET k old EX 100", "+OK"), ("DBSIZE", ":1")]);
        let reply = bench.run_staged(&[b"SET", b"k", b"", b"KEEPTTL"], &[(2, 9)]);
        assert_eq!(reply, b"+OK\r\n");
        let reply = bench.run(&[b"GET", b"k"]);
        assert_eq!(reply, [&b"$3000000\r\n"[..], &large, b"\r\n"].concat());
        bench.check(&[("TTL k", ":100"), ("OBJECT ENCODING k", "$3|raw"), ("DBSIZE", ":1")]);
        assert_eq!(bench.engine.store().len(Db::STAGE), 0);
    }

    #[test]
    fn commands_that_do_not_keep_a_staged_argument_leave_no_stage() {
        let mut bench = Bench::new();
        bench.check(&[("SET k old", "+OK")]);
        bench.stage(1, b"new");
        assert_eq!(bench.run_staged(&[b"SET", b"k", b"", b"NX"], &[(2, 1)]), b"$-1\r\n");
        bench.stage(2, b"er");
        assert_eq!(bench.run_staged(&[b"APPEND", b"k", b""], &[(2, 2)]), b":5\r\n");
        bench.stage(3, b"X");
        assert_eq!(bench.run_staged(&[b"SETRANGE", b"k", b"1", b""], &[(3, 3)]), b":5\r\n");
        bench.stage(4, b"X");
        assert!(bench.run_staged(&[b"SETRANGE", b"k", b"-1", b""], &[(3, 4)]).starts_with(b"-ERR"));
        bench.check(&[("GET k", "$5|oXder")]);
        assert_eq!(bench.engine.store().len(Db::STAGE), 0);
    }

    #[test]
    fn a_small_staged_value_is_encoded_by_its_content() {
        let mut bench = Bench::new();
        bench.stage(1, b"17");
        bench.stage(2, b"text");
        let reply = bench.run_staged(&[b"MSET", b"a", b"", b"b", b""], &[(2, 1), (4, 2)]);
        assert_eq!(reply, b"+OK\r\n");
        bench.check(&[
            ("OBJECT ENCODING a", "$3|int"),
            ("OBJECT ENCODING b", "$6|embstr"),
            ("MGET a b", "*2|$2|17|$4|text"),
        ]);
        assert_eq!(bench.engine.store().len(Db::STAGE), 0);
    }

    #[test]
    fn a_lost_stage_fails_the_whole_command() {
        let mut bench = Bench::new();
        bench.stage(1, b"17");
        let reply = bench.run_staged(&[b"MSET", b"a", b"", b"b", b""], &[(2, 1), (4, 2)]);
        assert!(reply.starts_with(b"-TRYAGAIN"), "{}", reply.escape_ascii());
        bench.check(&[("DBSIZE", ":0")]);
        let reply = bench.internal(|out| encode_stage(out, 5, 10, b"x"));
        assert!(reply.starts_with(b"-TRYAGAIN"));
    }

    #[test]
    fn stages_are_dropped_by_id_or_all() {
        let mut bench = Bench::new();
        for id in 1..=4 {
            bench.stage(id, b"x");
        }
        assert_eq!(bench.internal(|out| encode_drop_stages(out, &[1, 2, 99])), b":2\r\n");
        assert_eq!(bench.internal(|out| encode_drop_stages(out, &[])), b":2\r\n");
        assert_eq!(bench.engine.store().len(Db::STAGE), 0);
    }

    #[test]
    fn limits_decide_what_hashes_become_and_outlive_a_reopening() {
        let mut bench = Bench::new();
        bench.check(&[("HSET old a 1 b 2 c 3", ":3")]);
        assert_eq!(bench.internal(|out| encode_limits(out, &[(0, 2), (1, 5)])), b"+OK\r\n");
        bench.check(&[
            ("HSET new a 1 b 2", ":2"),
            ("OBJECT ENCODING new", "$8|listpack"),
            ("OBJECT ENCODING old", "$8|listpack"),
            ("HSET new c 3", ":1"),
            ("OBJECT ENCODING new", "$9|hashtable"),
            ("HSET long a 12345", ":1"),
            ("OBJECT ENCODING long", "$8|listpack"),
            ("HSETNX long b 123456", ":1"),
            ("OBJECT ENCODING long", "$9|hashtable"),
            ("HSET old a 1", ":0"),
            ("OBJECT ENCODING old", "$9|hashtable"),
        ]);
        assert_eq!(Limits::of(&bench.engine.store().view()), *bench.engine.limits());
        assert_eq!(bench.engine.limits().get(1), Some(5));
        bench.check(&[("FLUSHALL", "+OK")]);
        bench.internal(|out| encode_limits(out, &[(0, 512), (7, -5)]));
        let view = bench.engine.store().view();
        assert_eq!(
            (view.setting(0), view.setting(1), view.setting(7)),
            (None, Some(5), Some(-5i64 as u64))
        );
        let reply = bench.internal(|out| encode_limits(out, &[(99, 1)]));
        assert!(reply.starts_with(b"-ERR"), "{}", reply.escape_ascii());
    }

    #[test]
    fn reclaim_deletes_what_expired_up_to_its_limit() {
        let mut bench = Bench::new();
        for n in 0..10 {
            bench.check(&[(&format!("SET k{n} v PX {}", n + 1), "+OK")]);
        }
        bench.db = Db(3);
        bench.check(&[("SET elsewhere v PX 1", "+OK"), ("SET stays v", "+OK")]);
        assert_eq!(bench.internal(|out| encode_reclaim(out, 100)), b":0\r\n");
        bench.advance_ms(5);
        assert_eq!(bench.internal(|out| encode_reclaim(out, 2)), b":2\r\n");
        assert_eq!(bench.effects.expired, 2);
        assert_eq!(bench.internal(|out| encode_reclaim(out, 100)), b":4\r\n");
        bench.check(&[("DBSIZE", ":1")]);
        bench.db = Db(0);
        bench.check(&[("DBSIZE", ":5"), ("EXISTS k4 k5", ":1")]);
    }
}
