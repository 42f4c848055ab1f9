//! Commands on keys and databases, whatever the keys hold.

mod flush;
mod moving;
mod scan;

pub(super) use flush::{flushall, flushdb};
pub(super) use moving::{copy, move_key, rename, renamenx, swapdb};
pub(super) use scan::{keys, scan};

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Record, Type};

use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch, WriteContext};
use crate::seed::mix;

/// How often RANDOMKEY draws before it takes the first key that exists.
const DRAWS_MAX: u64 = 32;

/// The database a client means by `text`, as SELECT, COPY and MOVE read it.
///
/// # Errors
/// Redis's texts for what is no integer, and for what is no database.
pub fn database_index(text: &[u8]) -> Result<Db, WireError> {
    let index = parse_i64(text).ok_or(WireError::NotInteger)?;
    if i32::try_from(index).is_err() {
        return Err(WireError::Static(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    match u16::try_from(index) {
        Ok(index) if index < Db::COUNT => Ok(Db(index)),
        _ => Err(WireError::DbOutOfRange),
    }
}

/// DEL key [key ...], and UNLINK: both leave large values to be freed later
pub(super) fn del(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let mut deleted = 0;
    for name in argv.iter().skip(1) {
        let key = cx.key(name);
        if cx.exists(&key)? {
            cx.remove(&key)?;
            deleted += 1;
        }
    }
    w.int(deleted);
    Ok(())
}

/// EXISTS key [key ...]
pub(super) fn exists(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    count_existing(cx, argv, w, Touch::Peek)
}

/// TOUCH key [key ...]
pub(super) fn touch(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    count_existing(cx, argv, w, Touch::Use)
}

fn count_existing(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
    touch: Touch,
) -> Outcome {
    let mut count = 0;
    for name in argv.iter().skip(1) {
        count += i64::from(cx.find(name, touch)?.is_some());
    }
    w.int(count);
    Ok(())
}

/// TYPE key
pub(super) fn type_of(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let found = cx.find(&argv[1], Touch::Peek)?;
    w.simple(found.map_or("none", |record| type_name(record.ty())));
    Ok(())
}

fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::String => "string",
        Type::List => "list",
        Type::Set => "set",
        Type::ZSet => "zset",
        Type::Hash => "hash",
        Type::Stream => "stream",
    }
}

/// RANDOMKEY
pub(super) fn randomkey(cx: &mut ReadContext<'_>, _: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    match draw(cx)? {
        Some(record) => w.bulk(record.key()),
        None => match first_existing(cx)? {
            Some(name) => w.bulk(&name),
            None => w.null(),
        },
    }
    Ok(())
}

/// A key drawn by the seed. `None` when every draw met a key whose deadline has passed.
fn draw<'a>(cx: &ReadContext<'a>) -> Outcome<Option<Record<'a>>> {
    for attempt in 0..DRAWS_MAX {
        match cx.view.random(cx.db, mix(cx.seed.wrapping_add(attempt)))? {
            None => return Ok(None),
            Some(record) if cx.exists(&record) => return Ok(Some(record)),
            Some(_) => {}
        }
    }
    Ok(None)
}

fn first_existing(cx: &ReadContext<'_>) -> Outcome<Option<Vec<u8>>> {
    let mut first = None;
    cx.view.scan(cx.db, 0, &mut |record| {
        if first.is_none() && cx.exists(record) {
            first = Some(record.key().to_vec());
        }
        Ok(first.is_none())
    })?;
    Ok(first)
}

/// DBSIZE: keys stored, those that expired and are not yet reclaimed included, as in Redis
pub(super) fn dbsize(cx: &mut ReadContext<'_>, _: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    w.int(i64::try_from(cx.view.len(cx.db)).unwrap_or(i64::MAX));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::commands::test::Bench;

    #[test]
    fn keys_are_counted_and_deleted() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MSET a 1 b 2 c 3", "+OK"),
            ("EXISTS a b a x", ":3"),
            ("TOUCH a x", ":1"),
            ("DBSIZE", ":3"),
            ("TYPE a", "+string"),
            ("TYPE x", "+none"),
            ("DEL a x a", ":1"),
            ("UNLINK b c", ":2"),
            ("DBSIZE", ":0"),
            ("RANDOMKEY", "$-1"),
        ]);
    }

    #[test]
    fn expired_keys_are_not_there_for_anyone() {
        let mut bench = Bench::new();
        bench.check(&[("SET a 1 PX 10", "+OK"), ("SET b 1 PX 10", "+OK")]);
        bench.advance_ms(10);
        bench.check(&[
            ("EXISTS a", ":0"),
            ("TOUCH a", ":0"),
            ("TYPE a", "+none"),
            ("RANDOMKEY", "$-1"),
            ("DBSIZE", ":2"),
            ("DEL a", ":0"),
            ("DBSIZE", ":1"),
            ("SET c 1", "+OK"),
            ("RANDOMKEY", "$1|c"),
        ]);
    }

    #[test]
    fn randomkey_follows_the_seed_and_reaches_every_key() {
        let mut bench = Bench::new();
        for n in 0..20 {
            bench.check(&[(&format!("SET key{n} x"), "+OK")]);
        }
        let mut seen = BTreeSet::new();
        for seed in 0..400 {
            bench.seed = seed;
            let once = bench.run(&[b"RANDOMKEY"]);
            bench.seed = seed;
            assert_eq!(bench.run(&[b"RANDOMKEY"]), once);
            seen.insert(once);
        }
        assert_eq!(seen.len(), 20);
    }

    #[test]
    fn database_indexes() {
        let range = "ERR value is out of range, value must between -2147483648 and 2147483647";
        let rows: &[(&str, Result<u16, &str>)] = &[
            ("0", Ok(0)),
            ("15", Ok(15)),
            ("16", Err("ERR DB index is out of range")),
            ("-1", Err("ERR DB index is out of range")),
            ("65536", Err("ERR DB index is out of range")),
            ("2147483648", Err(range)),
            ("abc", Err("ERR value is not an integer or out of range")),
            ("", Err("ERR value is not an integer or out of range")),
        ];
        for (text, wanted) in rows {
            let got = database_index(text.as_bytes());
            let got = got.map(|db| db.0).map_err(|error| error.text().into_owned());
            assert_eq!(got, wanted.map_err(str::to_owned), "{text}");
        }
    }
}
