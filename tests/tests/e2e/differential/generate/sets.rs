//! Sets.

use cairn_tests::rng::Rng;

use super::{Family, Step, key_of, known_argument, words};

pub const FAMILY: Family = Family {
    common: COMMON,
    rare: RARE,
    keys: &[b"s", b"s:2", b"{t}s", b"s:\x00\xff\r\n"],
    argument,
    special,
};

const COMMON: &[&str] = &[
    "SADD set member+",
    "SADD set member+",
    "SADD set member+",
    "SADD set int+",
    "SREM set member+",
    "SREM set member+",
    "SISMEMBER set member",
    "SMISMEMBER set member+",
    "SCARD set",
    "SMEMBERS set",
    "SMOVE set set member",
    "SMOVE set set int",
    "SRANDMEMBER set",
    "SRANDMEMBER set draws",
    "SINTER set set|- set|-",
    "SUNION set set|- set|-",
    "SDIFF set set|- set|-",
    "SINTERCARD 1|2|2|3|0|odd set set LIMIT=small|LIMIT=odd|-|-|WHAT|set",
    "SINTERSTORE set set set|- set|-",
    "SUNIONSTORE set set set|- set|-",
    "SDIFFSTORE set set set|- set|-",
    "SSCAN set cursor MATCH=pattern|- COUNT=small|COUNT=odd|-|WHAT|TYPE=set",
    "OBJECT ENCODING set",
    "TYPE set",
];

const RARE: &[&str] = &["DEL set", "SET set value", "SRANDMEMBER set 1 1", "SINTERCARD 9 set set"];

const MEMBERS: &[&[u8]] = &[b"a", b"b", b"c", b"", b"\x00\xff\r\n", b"01", b"-0", b"1.0"];

fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    Some(match name {
        "set" => key_of(rng, &FAMILY),
        "member" => member(rng),
        "int" => int(rng),
        _ => return None,
    })
}

fn member(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0..=3 => int(rng),
        4 => format!("m:{}", rng.below(700)).into_bytes(),
        5 if rng.once_in(4) => known_argument(rng, "text"),
        _ => rng.pick(MEMBERS).to_vec(),
    }
}

fn int(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => known_argument(rng, "number"),
        _ => rng.below(700).to_string().into_bytes(),
    }
}

fn special(rng: &mut Rng) -> Vec<Step> {
    let set = known_argument(rng, "set");
    match rng.below(6) {
        0 => {
            let options = words(rng, "COUNT=small|COUNT=1000|- MATCH=pattern|MATCH=m:1*|-");
            vec![Step::Scan { command: vec![b"SSCAN".to_vec(), set], options }]
        }
        1 => vec![Step::Pop { key: set, count: None }],
        2 => {
            let most = *rng.pick(&[3, 30, 600]);
            vec![Step::Pop { key: set, count: Some(rng.below(most)) }]
        }
        3 => {
            // Not as a template: without its last word each would draw.
            let refused = *rng.pick(&["-1", "x", "", "1.0", "9223372036854775808"]);
            let args = [&b"SPOP"[..], &set, refused.as_bytes()].map(<[u8]>::to_vec);
            vec![Step::Call(args.to_vec())]
        }
        _ => fill(rng, set),
    }
}

/// Makes a set large, a command or many at a time, up to around a limit of either server.
fn fill(rng: &mut Rng, set: Vec<u8>) -> Vec<Step> {
    let members = match rng.below(8) {
        0 => 3000,
        1 | 2 => 511 + rng.below(3),
        3 => 127 + rng.below(3),
        // Around 1024 bytes.
        _ => 120 + rng.below(240),
    };
    let at_once = *rng.pick(&[1, 7, 100, 129]);
    let (prefix, first) = (*rng.pick(&["", "", "m:"]), rng.below(300));
    let members: Vec<u64> = (first..first + members).collect();
    let add = |numbers: &[u64]| {
        let mut args = vec![b"SADD".to_vec(), set.clone()];
        args.extend(numbers.iter().map(|number| format!("{prefix}{number}").into_bytes()));
        Step::Call(args)
    };
    let mut steps: Vec<Step> = members.chunks(at_once).map(add).collect();
    steps.push(Step::Call(vec![b"SCARD".to_vec(), set.clone()]));
    steps.push(Step::Call(vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), set.clone()]));
    steps.push(Step::Call(vec![b"SMEMBERS".to_vec(), set]));
    steps
}
