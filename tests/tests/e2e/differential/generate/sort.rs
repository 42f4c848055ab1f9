//! SORT and SORT_RO.

use cairn_tests::rng::Rng;

use super::{Family, Step, expand, known_argument, words};

pub const FAMILY: Family =
    Family { common: COMMON, rare: RARE, keys: &[b"sorted"], argument, special };

const COMMON: &[&str] = &[
    "SORT sortable order|-",
    "SORT sortable ALPHA order|-",
    "SORT sortable ALPHA|-|- order|- LIMIT=small=small|LIMIT=odd=small|LIMIT|-",
    "SORT_RO sortable BY=by ALPHA|- order|- LIMIT=small=small|-",
    "SORT sortable BY=by GET=get GET=get|- order|-|WHAT",
    "SORT sortable ALPHA GET=get GET=get|-",
    "SORT sortable STORE sorted",
    "SORT sortable ALPHA order|- STORE sorted",
    "SORT sortable BY=by LIMIT=small=small|- GET=get|- STORE sorted",
    "SORT_RO sortable STORE sorted",
    "LRANGE sorted 0 -1",
    "OBJECT ENCODING sorted",
    "ZADD sortz scored scored member",
    "ZADD sortz scored scored int",
    "RPUSH sortl sortnumber+",
    "RPUSH sortl sortnumber+",
    "SADD sorts sortnumber+",
    "SADD sorts word+",
    "SET weighed number|sortnumber|word",
    "HSET object f sortnumber g word",
    "DEL sortl|sorts|sortz",
];

const RARE: &[&str] = &["SORT any", "SORT nosuch order", "SORT sortable BY", "SORT sortable GET"];

/// The sorted set is no key of the family: Redis changes its encoding when it sorts.
const SORTABLE: &[&[u8]] = &[b"sortl", b"sortl", b"sorts", b"sorts", b"sortz", b"nosuch"];
const NUMBERS: &[&str] = &["1", "2", "3", "10", "-5", "1.5", "1e3", "0x10", "inf", "-inf", "007"];
const WORDS: &[&str] = &["b", "a", "C", "c", "aa", "nan", "1x", "1e400", " 1", "\u{e9}"];
const BY: &[&str] = &["w_*", "o_*->f", "o_*->g", "o_*->h", "nosuch_*", "nosuch", "#", "w_*->", "*"];
const GET: &[&str] = &["#", "w_*", "o_*->f", "o_*->g", "o_*", "nosuch", "w_*->f", "*"];

fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    let text = match name {
        "sortable" => return Some(rng.pick(SORTABLE).to_vec()),
        "sortl" | "sorts" | "sortz" | "sorted" | "nosuch" => return None,
        "sortnumber" => rng.pick(NUMBERS).to_string(),
        "word" => rng.pick(WORDS).to_string(),
        "by" => rng.pick(BY).to_string(),
        "get" => rng.pick(GET).to_string(),
        "order" => rng.pick(&["ASC", "DESC", "desc"]).to_string(),
        "scored" => rng.below(9).to_string(),
        "weighed" => format!("w_{}", rng.pick(NUMBERS)),
        "object" => format!("o_{}", rng.pick(NUMBERS)),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Something large to sort.
fn special(rng: &mut Rng) -> Vec<Step> {
    let numbers = 100 + rng.below(1200);
    let step = 1 + 2 * rng.below(500);
    let (command, key) = *rng.pick(&[("RPUSH", "sortl"), ("SADD", "sorts")]);
    let mut fill = vec![command.as_bytes().to_vec(), key.as_bytes().to_vec()];
    fill.extend((0..numbers).map(|n| ((n * step) % 1021).to_string().into_bytes()));
    let call = |line: &str| Step::Call(line.split(' ').map(|w| w.as_bytes().to_vec()).collect());
    let limit = known_argument(rng, "small");
    let mut part = words(rng, &format!("SORT {key} order LIMIT"));
    part.extend([limit, b"200".to_vec()]);
    vec![
        call(&format!("DEL {key}")),
        Step::Call(fill),
        Step::Call(part),
        call(&format!("SORT {key} BY w_* DESC STORE sorted")),
        Step::Call(expand(rng, &["SORT sortable ALPHA order STORE sorted"])),
        call("LRANGE sorted 0 -1"),
        call("OBJECT ENCODING sorted"),
    ]
}
