//! Lists.

use cairn_tests::rng::Rng;

use super::{Family, Step, key_of, known_argument};

pub const FAMILY: Family = Family {
    common: COMMON,
    rare: RARE,
    keys: &[b"l", b"{t}l", b"l:2", b"l:\x00\xff\r\n"],
    argument,
    special,
};

const COMMON: &[&str] = &[
    "LPUSH list element+",
    "RPUSH list element+",
    "RPUSH list element+",
    "LPUSH list element|big",
    "LPUSHX list element+",
    "RPUSHX list element+",
    "LPOP list",
    "RPOP list",
    "LPOP list pops|odd",
    "RPOP list pops|odd",
    "LMPOP 1 list LEFT|RIGHT|left|UP COUNT=pops|-|-",
    "LMPOP 2 list list LEFT|RIGHT COUNT=pops|COUNT=odd|-",
    "LMPOP odd list LEFT",
    "LLEN list",
    "LINDEX list place|place|odd",
    "LSET list place|odd element|big",
    "LRANGE list place place",
    "LRANGE list 0 -1",
    "LRANGE list odd place|odd",
    "LTRIM list near|place near|place",
    "LINSERT list BEFORE|AFTER|before|ON element element|big",
    "LREM list few element",
    // Not with the least integer, which 7.0 takes and 7.2 refuses; nor below as a rank.
    "LREM list small|9223372036854775807|x|01|1.0 element",
    "LPOS list element",
    "LPOS list element RANK=few|RANK=9223372036854775807|RANK=x|- COUNT=pops|- MAXLEN=pops|-",
    "LPOS list element COUNT=odd|MAXLEN=odd|WHAT|RANK",
    "LMOVE list list LEFT|RIGHT|UP LEFT|RIGHT",
    "RPOPLPUSH list list",
    "OBJECT ENCODING list",
    "TYPE list",
];

const RARE: &[&str] = &[
    "DEL list",
    "SET list value",
    "COPY list list REPLACE|-",
    "RENAME list list",
    "LPOP list 1 1",
    "LMPOP 1 list LEFT COUNT",
    "LMPOP 1 list LEFT COUNT 1 COUNT 1",
    "LMPOP 1 list LEFT WHAT 1",
    "LMPOP 3 list list LEFT",
    "LMPOP 9223372036854775807 list LEFT",
    "LPOS list element RANK 0",
];

const ELEMENTS: &[&[u8]] =
    &[b"a", b"b", b"c", b"", b"\x00\xff\r\n", b"0", b"-1", b"127", b"128", b"9223372036854775807"];
const POPS: &[&str] = &["0", "1", "2", "7", "100", "1000"];
const FEW: &[&str] = &["0", "1", "-1", "2", "-2", "100", "-100"];

fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    Some(match name {
        "list" => key_of(rng, &FAMILY),
        "element" => element(rng),
        "big" => big(rng),
        "pops" => rng.pick(POPS).as_bytes().to_vec(),
        "few" => rng.pick(FEW).as_bytes().to_vec(),
        "place" => index(rng, 3000),
        // Trims that leave most of a list.
        "near" => index(rng, 12),
        _ => return None,
    })
}

fn index(rng: &mut Rng, spread: u64) -> Vec<u8> {
    let spread = if rng.once_in(2) { 8 } else { spread };
    let index = rng.below(spread) as i64;
    (if rng.once_in(2) { -index } else { index }).to_string().into_bytes()
}

fn element(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        // Elements that filling a list made.
        0..=2 => format!("e:{}", rng.below(900)).into_bytes(),
        _ => rng.pick(ELEMENTS).to_vec(),
    }
}

/// Around the lengths at which something changes in either server.
fn big(rng: &mut Rng) -> Vec<u8> {
    let around = *rng.pick(&[62, 252, 1000, 1018, 4090, 8180, 16_340]);
    vec![b'b'; around + rng.below(12) as usize]
}

/// Makes a list large, a command or many at a time, by either end or in the middle.
fn special(rng: &mut Rng) -> Vec<Step> {
    let list = known_argument(rng, "list");
    let elements = match rng.below(6) {
        0 => 4000,
        1 | 2 => 600 + rng.below(400),
        // Around 1024 bytes.
        _ => 150 + rng.below(60),
    };
    let at_once = *rng.pick(&[1, 7, 100, 500]);
    let push: &[u8] = if rng.once_in(2) { b"LPUSH" } else { b"RPUSH" };
    let numbers: Vec<u64> = (0..elements).collect();
    let mut steps: Vec<Step> = Vec::new();
    for numbers in numbers.chunks(at_once) {
        let mut args = vec![push.to_vec(), list.clone()];
        args.extend(numbers.iter().map(|n| format!("e:{n}").into_bytes()));
        steps.push(Step::Call(args));
    }
    let middle = format!("e:{}", elements / 2).into_bytes();
    for _ in 0..rng.below(300) {
        let args = [&b"LINSERT"[..], &list, b"BEFORE", &middle, &element(rng)];
        steps.push(Step::Call(args.map(<[u8]>::to_vec).to_vec()));
    }
    for args in [&[&b"LLEN"[..], &list][..], &[b"LRANGE", &list, b"0", b"-1"]] {
        steps.push(Step::Call(args.iter().map(|arg| arg.to_vec()).collect()));
    }
    steps
}
