//! Sorted sets.
//!
//! Ranges by member mean something only where all scores are equal: they have keys of their own,
//! which no other command can give other scores.

use cairn_tests::rng::Rng;

use super::{Family, ODD, Step, key_of, strings, words};

pub const FAMILY: Family = Family { common: COMMON, rare: RARE, keys: KEYS, argument, special };

const KEYS: &[&[u8]] = &[b"za", b"zb", b"zc", b"{t}z", b"z\x00\xff", b"large"];
const LEX_KEYS: &[&[u8]] = &[b"lexa", b"lexb", b"{t}lex"];

const COMMON: &[&str] = &[
    "ZADD zkey score=zmember+",
    "ZADD zkey score=zmember+",
    "ZADD zkey NX|XX|- GT|LT|- CH|- score=zmember+",
    "ZADD zkey CH|GT|LT|NX|XX INCR score=zmember",
    "ZADD zkey NX|XX|GT|LT|CH|INCR|WHAT NX|XX|GT|LT|INCR score|odd=zmember+",
    "ZINCRBY zkey score|odd zmember",
    "ZREM zkey zmember+",
    "ZSCORE zkey zmember",
    "ZMSCORE zkey zmember+",
    "ZCARD zkey",
    "ZCOUNT zkey end end",
    "ZRANK zkey zmember",
    "ZREVRANK zkey zmember",
    "ZRANGE zkey rank rank REV|- WITHSCORES|-",
    "ZRANGE zkey end end BYSCORE REV|- WITHSCORES|- LIMIT=rank=rank|-",
    "ZRANGE zkey rank rank BYSCORE|BYLEX|REV|LIMIT=rank=rank|WHAT BYSCORE|BYLEX|WITHSCORES|-",
    "ZREVRANGE zkey rank rank WITHSCORES|-",
    "ZRANGEBYSCORE zkey end end WITHSCORES|-|LIMIT=rank=rank LIMIT=rank=rank|WITHSCORES|-",
    "ZREVRANGEBYSCORE zkey end end WITHSCORES|- LIMIT=rank=rank|-",
    "ZRANGESTORE zkey zkey rank rank REV|-|-|WHAT",
    "ZRANGESTORE zkey zkey end end BYSCORE REV|- LIMIT=rank=rank|-",
    "ZREMRANGEBYRANK zkey rank rank",
    "ZREMRANGEBYSCORE zkey end end",
    "ZPOPMIN|ZPOPMAX zkey",
    "ZPOPMIN|ZPOPMAX zkey small|odd",
    "ZMPOP 1|1|0|2|odd zkey MIN|MAX COUNT=small|-",
    "ZMPOP 2 zkey zkey MIN|MAX|WHAT COUNT=small|COUNT|- COUNT=small|-|-|-",
    "ZUNION|ZINTER 2 zkey zkey WEIGHTS=weight=weight|- AGGREGATE=aggregate|- WITHSCORES|-",
    "ZUNION|ZINTER 3 zkey zkey zkey AGGREGATE=aggregate|- WEIGHTS=weight=weight=weight|- WITHSCORES|-",
    "ZDIFF 1|2|3|0|odd zkey zkey zkey",
    "ZDIFF 2 zkey zkey WITHSCORES|-|WHAT|WEIGHTS=1=1",
    "ZUNIONSTORE|ZINTERSTORE zkey 2 zkey zkey WEIGHTS=weight=weight|- AGGREGATE=aggregate|-",
    "ZUNIONSTORE|ZINTERSTORE zkey 3 zkey zkey zkey",
    "ZUNIONSTORE|ZINTERSTORE|ZDIFFSTORE zkey 1|2|small|odd zkey zkey WITHSCORES|WEIGHTS=1|-|-",
    "ZDIFFSTORE zkey 2|3 zkey zkey zkey",
    "ZUNION|ZINTER|ZDIFF 2 zkey|set set|zkey WITHSCORES|-",
    "ZUNIONSTORE|ZINTERSTORE zkey 3 set zkey set WEIGHTS=weight=weight=weight|- AGGREGATE=aggregate|-",
    "ZDIFFSTORE zkey 2 zkey|set zkey|set",
    "ZINTERCARD 2 zkey|set set",
    "ZINTERCARD 1|2|odd zkey zkey LIMIT=small|LIMIT|-",
    "ZRANDMEMBER zkey",
    "ZRANDMEMBER zkey small|odd WITHSCORES|-|-|WHAT",
    "ZSCAN zkey odd",
    "OBJECT ENCODING zkey",
    "ZADD lexkey 0=zmember+",
    "ZADD lexkey 0=zmember+",
    "ZADD lexkey INCR 0 zmember",
    "ZREM lexkey zmember+",
    "ZLEXCOUNT lexkey lexend lexend",
    "ZRANGEBYLEX lexkey lexend lexend LIMIT=rank=rank|-|-",
    "ZREVRANGEBYLEX lexkey lexend lexend LIMIT=rank=rank|-|-",
    "ZRANGE lexkey lexend lexend BYLEX REV|- LIMIT=rank=rank|- WITHSCORES|-|-|-",
    "ZRANGESTORE lexkey lexkey lexend lexend BYLEX REV|- LIMIT=rank=rank|-",
    "ZREMRANGEBYLEX lexkey lexend lexend",
    "ZPOPMIN|ZPOPMAX lexkey small",
    "OBJECT ENCODING lexkey",
];

const RARE: &[&str] = &[
    "ZREMRANGEBYSCORE zkey -inf inf",
    "ZREMRANGEBYLEX lexkey - +",
    "ZRANDMEMBER zkey -9223372036854775808",
    "ZRANDMEMBER zkey 9223372036854775807 WITHSCORES",
    "ZMPOP 9223372036854775806 zkey MIN",
    "ZUNION 9223372036854775807 zkey",
    "ZREMRANGEBYRANK zkey 100 -100",
];

const SCORES: &[&str] = &[
    "0",
    "1",
    "1",
    "2",
    "-1",
    "3",
    "10",
    "0.5",
    "-2.75",
    "0.1",
    "1e-7",
    "3.0e3",
    "100000000000000000000",
    "1e17",
    "4611686018427387904",
    "9007199254740993",
    "1.7976931348623157e308",
    "5e-324",
    "inf",
    "+inf",
    "-inf",
    "-0",
    "0x1p4",
    ".5",
    "5.",
];
const ENDS: &[&str] = &[
    "-inf", "+inf", "inf", "(-inf", "(inf", "0", "(0", "1", "(1", "2", "(2", "-1", "10", "(0.5",
    "1e3", " 1", "", "(", "1e999", "0x1p1", "-0", "nan", "x", "(x", "1x",
];
const RANKS: &[&str] =
    &["0", "1", "2", "3", "5", "-1", "-1", "-2", "-5", "100", "-100", "9223372036854775807", "x"];
const WEIGHTS: &[&str] = &["1", "2", "0", "-1", "0.5", "inf", "-inf", "nan", "x"];
const LEX_ENDS: &[&str] = &[
    "-", "+", "-", "+", "[a", "(a", "[b", "(c", "[m1", "(m5", "[m", "[", "(", "[\u{7f}", "a", "--",
    "",
];

fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    let text = match name {
        "zkey" => return Some(key_of(rng, &FAMILY)),
        // Not a sorted set of another key: its scores may differ.
        "lexkey" if rng.once_in(20) => return Some(key_of(rng, &strings::FAMILY)),
        "lexkey" => return Some(rng.pick(LEX_KEYS).to_vec()),
        "zmember" => return Some(member(rng)),
        "score" if rng.once_in(40) => rng.pick(ODD),
        "score" => rng.pick(SCORES),
        "end" => rng.pick(ENDS),
        "rank" => rng.pick(RANKS),
        "weight" => rng.pick(WEIGHTS),
        "aggregate" => rng.pick(&["SUM", "MIN", "MAX", "min", "WHAT"]),
        "lexend" => rng.pick(LEX_ENDS),
        _ => return None,
    };
    Some(text.as_bytes().to_vec())
}

fn member(rng: &mut Rng) -> Vec<u8> {
    match rng.below(30) {
        0 => Vec::new(),
        1 => {
            let len = rng.below(20) as usize;
            rng.bytes(len)
        }
        2 => b"\x00\xff\r\n".to_vec(),
        // Around the length at which Redis's encoding changes.
        3 => vec![b'e'; 63 + rng.below(2) as usize],
        4 if rng.once_in(6) => vec![b'l'; 65 + rng.below(400) as usize],
        5..=9 => rng.pick(SCORES).as_bytes().to_vec(),
        10..=15 => vec![b'a' + rng.below(5) as u8],
        _ => format!("m{}", rng.below(20)).into_bytes(),
    }
}

fn special(rng: &mut Rng) -> Vec<Step> {
    match rng.below(4) {
        0 => fill(rng, b"large"),
        1 => {
            let key = rng.pick(LEX_KEYS).to_vec();
            fill_equal(rng, &key)
        }
        _ => {
            let command = words(rng, "ZSCAN zkey");
            let options = words(rng, "COUNT=small|COUNT=odd|- MATCH=m*|MATCH=pattern|-|-");
            vec![Step::Scan { command, options }]
        }
    }
}

/// How many members: around the number at which Redis's encoding changes, or thousands.
fn size(rng: &mut Rng) -> u64 {
    if rng.once_in(2) { 120 + rng.below(16) } else { rng.below(3000) }
}

fn fill(rng: &mut Rng, key: &[u8]) -> Vec<Step> {
    let size = size(rng);
    let scores = 1 + rng.below(size.max(1));
    let mut steps = filled(rng, key, size, |rng| (rng.below(scores) as f64 / 4.0).to_string());
    for template in [
        "ZRANGE large rank rank WITHSCORES",
        "ZRANGEBYSCORE large end end LIMIT rank rank",
        "ZCOUNT large end end",
        "ZRANK large zmember",
        "ZUNIONSTORE zc 2 large zkey",
        "ZINTER 2 large zkey WITHSCORES",
    ] {
        steps.push(Step::Call(words(rng, template)));
    }
    steps
}

fn fill_equal(rng: &mut Rng, key: &[u8]) -> Vec<Step> {
    let size = size(rng);
    filled(rng, key, size, |_| "0".to_owned())
}

/// Members in portions: Redis 7.2 takes a large number of arguments for a large set, 7.0 does not.
fn filled(
    rng: &mut Rng,
    key: &[u8],
    size: u64,
    mut score: impl FnMut(&mut Rng) -> String,
) -> Vec<Step> {
    let members: Vec<u64> = (0..size).collect();
    let mut add = |portion: &[u64]| {
        let mut args = vec![b"ZADD".to_vec(), key.to_vec()];
        for n in portion {
            args.push(score(rng).into_bytes());
            args.push(format!("m{n}").into_bytes());
        }
        Step::Call(args)
    };
    members.chunks(100).map(&mut add).collect()
}
