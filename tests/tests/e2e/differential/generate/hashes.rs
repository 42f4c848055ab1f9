//! Hashes.

use cairn_tests::rng::Rng;

use super::{Family, Step, key_of, known_argument, words};

pub const FAMILY: Family = Family {
    common: COMMON,
    rare: RARE,
    keys: &[b"h", b"{t}h", b"h:\x00\xff\r\n"],
    argument,
    special,
};

const COMMON: &[&str] = &[
    "HSET hash field=value+",
    "HSET hash field=value+",
    "HSET hash field=text+",
    "HSETNX hash field value|text",
    "HMSET hash field=value+",
    "HGET hash field",
    "HMGET hash field+",
    "HGETALL hash",
    "HKEYS hash",
    "HVALS hash",
    "HLEN hash",
    "HEXISTS hash field",
    "HSTRLEN hash field",
    "HDEL hash field+",
    "HDEL hash field+",
    "HINCRBY hash field number|odd",
    "HINCRBY hash counter number",
    "HINCRBYFLOAT hash field float|number|odd",
    "HINCRBYFLOAT hash counter float",
    "HRANDFIELD hash",
    "HRANDFIELD hash draws WITHVALUES|-|-|WHAT",
    "HSCAN hash cursor MATCH=pattern|- COUNT=small|COUNT=odd|-|WHAT|TYPE=hash",
    "OBJECT ENCODING hash",
    "TYPE hash",
];

const RARE: &[&str] = &[
    "DEL hash",
    "SET hash value",
    "HSET hash field",
    "HSET hash field value field",
    "HMSET hash field value field",
    "HRANDFIELD hash 1 WITHVALUES WITHVALUES",
    "HGETALL hash hash",
];

const FIELDS: &[&[u8]] =
    &[b"a", b"b", b"c", b"field", b"", b"\x00\xff\r\n", b"1", b"-1", b"9223372036854775807"];
/// Asked for as often as they can be told apart, or refused.
const DRAWS: &[&str] = &[
    "0",
    "1",
    "-1",
    "3",
    "-3",
    "-100",
    "100",
    "2000",
    "9223372036854775807",
    "4611686018427387903",
    "4611686018427387904",
    "-9223372036854775808",
    "x",
    "",
    "1.5",
];
const CURSORS: &[&str] = &["0", "0", "0", "x", "", "-", "18446744073709551616", "1 "];

fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    Some(match name {
        "hash" => key_of(rng, &FAMILY),
        "field" => field(rng),
        "counter" => b"counter".to_vec(),
        "text" => text(rng),
        "draws" => rng.pick(DRAWS).as_bytes().to_vec(),
        "cursor" => rng.pick(CURSORS).as_bytes().to_vec(),
        _ => return None,
    })
}

fn field(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        // Fields that filling a hash made.
        0..=2 => format!("f:{}", rng.below(700)).into_bytes(),
        3 if rng.once_in(4) => text(rng),
        _ => rng.pick(FIELDS).to_vec(),
    }
}

/// Around the length that makes a listpack a hashtable, and the one that a packed form holds.
fn text(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(6) {
        0 => 200 + rng.below(1000),
        1 => 250 + rng.below(8),
        _ => 62 + rng.below(4),
    };
    vec![b't'; len as usize]
}

fn special(rng: &mut Rng) -> Vec<Step> {
    let hash = known_argument(rng, "hash");
    if rng.once_in(2) {
        let options = words(rng, "COUNT=small|COUNT=1000|- MATCH=pattern|MATCH=f:1*|-");
        return vec![Step::Scan { command: vec![b"HSCAN".to_vec(), hash], options }];
    }
    fill(rng, hash)
}

/// Makes a hash large, a command or many at a time, up to around a limit of either server.
fn fill(rng: &mut Rng, hash: Vec<u8>) -> Vec<Step> {
    let fields = match rng.below(8) {
        0 => 3000,
        1 | 2 => 511 + rng.below(3),
        // Around 1024 bytes.
        _ => 60 + rng.below(40),
    };
    let at_once = *rng.pick(&[1, 7, 100, 500]);
    let pairs: Vec<u64> = (0..fields).collect();
    let set = |numbers: &[u64]| {
        let mut args = vec![b"HSET".to_vec(), hash.clone()];
        for number in numbers {
            args.extend([format!("f:{number}").into_bytes(), format!("v:{number}").into_bytes()]);
        }
        Step::Call(args)
    };
    let mut steps: Vec<Step> = pairs.chunks(at_once).map(set).collect();
    steps.push(Step::Call(vec![b"HLEN".to_vec(), hash.clone()]));
    steps.push(Step::Call(vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), hash.clone()]));
    steps.push(Step::Call(vec![b"HGETALL".to_vec(), hash]));
    steps
}
