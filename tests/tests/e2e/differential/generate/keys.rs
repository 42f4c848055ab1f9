//! Keys of any type, databases, the connection.

use cairn_tests::rng::Rng;

use super::{Family, Step, words};

pub const FAMILY: Family = Family { common: COMMON, rare: RARE, keys: &[b"a"], argument, special };

const COMMON: &[&str] = &[
    "DEL any+",
    "UNLINK any+",
    "EXISTS any+",
    "TOUCH any+",
    "TYPE any",
    "TTL any",
    "PTTL any",
    "EXPIRETIME any",
    "PEXPIRETIME any",
    "EXPIRE any seconds|odd NX|XX|GT|LT|-|-",
    "PEXPIRE any millis|odd NX|XX|GT|LT|-|-",
    "EXPIREAT any at|odd NX|XX|GT|LT|-|-",
    "PEXPIREAT any at_millis|odd NX|XX|GT|LT|-|-",
    "EXPIRE any seconds NX|XX|GT|LT|WHAT NX|XX|GT|LT",
    "PERSIST any",
    "RENAME any any",
    "RENAMENX any any",
    "COPY any any DB=db|- REPLACE|-",
    "MOVE any db",
    "OBJECT ENCODING|ENCODING|REFCOUNT|IDLETIME|FREQ|WHAT any",
    "KEYS pattern",
    "RANDOMKEY",
    "SELECT small_db",
    "ECHO value",
    "PING value|-",
];

const RARE: &[&str] = &[
    "FLUSHDB ASYNC|SYNC|WHAT|-",
    "FLUSHALL ASYNC|SYNC|WHAT|-",
    "SWAPDB db db",
    "SELECT db",
    "NOSUCH any value",
    "OBJECT",
    "OBJECT NOSUCH any",
    "SCAN odd",
    "KEYS pattern pattern",
    "COPY any any DB=odd",
];

const DATABASES: &[&str] = &["0", "1", "2", "3", "15", "16", "-1", "x", ""];
const SMALL_DATABASES: &[&str] = &["0", "0", "0", "0", "1"];

fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    let text = match name {
        "db" => rng.pick(DATABASES),
        "small_db" => rng.pick(SMALL_DATABASES),
        _ => return None,
    };
    Some(text.as_bytes().to_vec())
}

/// A whole iteration.
fn special(rng: &mut Rng) -> Vec<Step> {
    let options = words(
        rng,
        "COUNT=small|COUNT=odd|- MATCH=pattern|- TYPE=STRING|TYPE=HASH|TYPE=SET|TYPE=WHAT|-",
    );
    vec![Step::Scan { command: vec![b"SCAN".to_vec()], options }]
}
