//! Strings.

use cairn_tests::rng::Rng;

use super::{FLOATS, Family, NUMBERS, ODD};

pub const FAMILY: Family = Family {
    common: COMMON,
    rare: &[],
    keys: &[b"a", b"b", b"c", b"d", b"{t}x", b"{t}y", b"", b"\x00\xff\r\n", b"key:1", b"key:2"],
    argument,
    special: |_| Vec::new(),
};

const COMMON: &[&str] = &[
    "SET key value",
    "SET key number",
    "SET key value NX|XX|- GET|- EX=seconds|PX=millis|EXAT=at|PXAT=at_millis|KEEPTTL|-",
    "SET key number GET|KEEPTTL|NX|XX GET|KEEPTTL|NX|XX|EX=seconds|PX=odd",
    "GET key",
    "GET key",
    "GETDEL key",
    "GETSET key value",
    "GETEX key EX=seconds|PX=millis|EXAT=at|PXAT=at_millis|PERSIST|-|EX=odd|EX",
    "SETNX key value",
    "SETEX key seconds|odd value",
    "PSETEX key millis|odd value",
    "MGET key+",
    "MSET key=value+",
    "MSETNX key=value+",
    "APPEND key value",
    "STRLEN key",
    "INCR key",
    "DECR key",
    "INCRBY key number|odd",
    "DECRBY key number|odd",
    "INCRBYFLOAT key float|number|odd",
    "SETRANGE key offset value",
    "GETRANGE key index index",
    "SUBSTR key index index",
    "LCS key key LEN|IDX|-|IDX=WITHMATCHLEN|IDX=MINMATCHLEN=small|IDX=MINMATCHLEN=small=WITHMATCHLEN|LEN=IDX",
];

const INDICES: &[&str] =
    &["0", "1", "2", "5", "-1", "-2", "-5", "100", "-100", "9223372036854775807", "x", ""];
const OFFSETS: &[&str] = &["0", "1", "3", "10", "300", "20000", "-1", "536870912", "x"];

fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    let text = match name {
        "value" => return Some(value(rng)),
        "index" => rng.pick(INDICES),
        "offset" => rng.pick(OFFSETS),
        _ => return None,
    };
    Some(text.as_bytes().to_vec())
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(20) {
        0 => Vec::new(),
        1..=5 => rng.pick(NUMBERS).as_bytes().to_vec(),
        6..=8 => rng.pick(FLOATS).as_bytes().to_vec(),
        9 => rng.pick(ODD).as_bytes().to_vec(),
        10 => {
            let len = rng.below(60) as usize;
            rng.bytes(len)
        }
        // Around the length at which Redis's encoding changes.
        11 => vec![b'e'; 43 + rng.below(3) as usize],
        12 if rng.once_in(10) => vec![b'l'; 16_000 + rng.below(40_000) as usize],
        _ => rng
            .pick(&["ohmytext", "mynewtext", "foo", "bar", "OK", "hello world"])
            .as_bytes()
            .to_vec(),
    }
}
