//! Streams of commands from a seed, made from templates.
//!
//! A template is a line of words. A word in capitals stands for itself; a small one for an argument
//! of that kind ([`argument`]). `a|b` is one of the two, `-` is nothing, `a=b` is two words in
//! turn, and `a+` is one to three times `a`.

use cairn_tests::rng::Rng;

/// One step of a stream.
#[derive(Clone, Debug)]
pub enum Step {
    /// A command.
    Call(Vec<Vec<u8>>),
    /// A whole iteration with SCAN, with these options.
    Scan(Vec<Vec<u8>>),
    /// Long enough for the shortest deadlines to pass.
    Pause,
}

impl Step {
    /// For people.
    pub fn show(&self) -> String {
        match self {
            Step::Call(args) => show(args),
            Step::Scan(options) => format!("(all of) SCAN {}", show(options)),
            Step::Pause => "(pause)".to_owned(),
        }
    }
}

/// A command as one would type it.
pub fn show(args: &[Vec<u8>]) -> String {
    let words = args.iter().map(|arg| match arg.len() {
        0 => "\"\"".to_owned(),
        1..=200 => arg.escape_ascii().to_string(),
        len => format!("({len} bytes, {}...)", arg[..20].escape_ascii()),
    });
    words.collect::<Vec<_>>().join(" ")
}

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
    "DEL key+",
    "UNLINK key+",
    "EXISTS key+",
    "TOUCH key+",
    "TYPE key",
    "TTL key",
    "PTTL key",
    "EXPIRETIME key",
    "PEXPIRETIME key",
    "EXPIRE key seconds|odd NX|XX|GT|LT|-|-",
    "PEXPIRE key millis|odd NX|XX|GT|LT|-|-",
    "EXPIREAT key at|odd NX|XX|GT|LT|-|-",
    "PEXPIREAT key at_millis|odd NX|XX|GT|LT|-|-",
    "EXPIRE key seconds NX|XX|GT|LT|WHAT NX|XX|GT|LT",
    "PERSIST key",
    "RENAME key key",
    "RENAMENX key key",
    "COPY key key DB=db|- REPLACE|-",
    "MOVE key db",
    "OBJECT ENCODING|ENCODING|REFCOUNT|IDLETIME|FREQ|WHAT key",
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
    "NOSUCH key value",
    "OBJECT",
    "OBJECT NOSUCH key",
    "SCAN odd",
    "KEYS pattern pattern",
    "COPY key key DB=odd",
];

/// The stream of `seed`. One in three has deadlines that pass during the stream; DBSIZE is left out
/// of those, since it counts what has expired until the server gets round to deleting it.
pub fn stream(seed: u64, steps: usize) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let short_deadlines = rng.once_in(3);
    let mut stream = Vec::new();
    while stream.len() < steps {
        match rng.below(60) {
            0 => stream.push(Step::Call(expand(&mut rng, RARE))),
            1 => stream.push(Step::Scan(words(
                &mut rng,
                "COUNT=small|COUNT=odd|- MATCH=pattern|- TYPE=STRING|TYPE=WHAT|-",
            ))),
            2 if short_deadlines => stream.extend(short_life(&mut rng)),
            2 => stream.push(Step::Call(vec![b"DBSIZE".to_vec()])),
            _ => stream.push(Step::Call(expand(&mut rng, COMMON))),
        }
    }
    stream
}

/// A key that is gone when the next command comes.
fn short_life(rng: &mut Rng) -> Vec<Step> {
    let key = argument(rng, "key").expect("a kind of argument");
    let set = words(rng, "SET key value PX=1|PX=2");
    let mut set = set;
    set[1] = key.clone();
    vec![Step::Call(set), Step::Pause, Step::Call(vec![b"EXISTS".to_vec(), key])]
}

/// A command from one of the templates, now and then with an argument too few or too many.
fn expand(rng: &mut Rng, templates: &[&str]) -> Vec<Vec<u8>> {
    let template = *rng.pick(templates);
    let mut args = words(rng, template);
    match rng.below(60) {
        0 if args.len() > 1 => drop(args.pop()),
        1 => args.push(argument(rng, "value").expect("a kind of argument")),
        2 => args[0].make_ascii_lowercase(),
        _ => {}
    }
    args
}

fn words(rng: &mut Rng, template: &str) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for word in template.split(' ') {
        let choices: Vec<&str> = word.split('|').collect();
        let choice = *rng.pick(&choices);
        let (choice, times) = match choice.strip_suffix('+') {
            Some(repeated) => (repeated, 1 + rng.below(3)),
            None => (choice, 1),
        };
        for _ in 0..times {
            let parts = choice.split('=').filter(|part| *part != "-");
            out.extend(parts.map(|p| argument(rng, p).unwrap_or_else(|| p.as_bytes().to_vec())));
        }
    }
    out
}

const KEYS: &[&[u8]] =
    &[b"a", b"b", b"c", b"d", b"{t}x", b"{t}y", b"", b"\x00\xff\r\n", b"key:1", b"key:2"];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "5",
    "10",
    "9999",
    "10000",
    "123456789",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775806",
];
const ODD: &[&str] = &[
    "",
    " 1",
    "1 ",
    "01",
    "+1",
    "-0",
    "1.0",
    "abc",
    "0",
    "-1",
    "-5000",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "9223372036854775",
    "18446744073709551616",
    "1e3",
    "0x10",
];
const FLOATS: &[&str] = &[
    "0.1",
    "-0.1",
    "3.0e3",
    "1.5",
    "-2.75",
    "1e-7",
    "100000000000000000000",
    "0.00000000000000001",
    "1e17",
    "1.7976931348623157e308",
    "inf",
    "-inf",
    "nan",
    "1e5000",
    "5e",
    "0x1p4",
    " 1.5",
    "1.5 ",
    ".5",
    "5.",
];
const INDICES: &[&str] =
    &["0", "1", "2", "5", "-1", "-2", "-5", "100", "-100", "9223372036854775807", "x", ""];
const OFFSETS: &[&str] = &["0", "1", "3", "10", "300", "20000", "-1", "536870912", "x"];
const PATTERNS: &[&str] = &[
    "*", "a", "?", "key:*", "k?y:[12]", "[^a]", "[a-c]", "{t}*", "*:*1", "\\a", "[", "[c-a]", "",
    "a**", "**", "*?", "[\\]]",
];
const DATABASES: &[&str] = &["0", "1", "2", "3", "15", "16", "-1", "x", ""];
const SMALL_DATABASES: &[&str] = &["0", "0", "0", "0", "1"];
const SMALL: &[&str] = &["0", "1", "2", "3", "10", "-1"];

/// A value of the kind `name`; None when there is no such kind.
fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    // Far enough not to pass during a run, and never the same twice: whether a deadline is later
    // than an equal one a millisecond before is a matter of luck.
    let far = 1000 + rng.below(900_000_000);
    let text = match name {
        "key" => return Some(rng.pick(KEYS).to_vec()),
        "value" => return Some(value(rng)),
        "number" => rng.pick(NUMBERS).to_string(),
        "odd" => rng.pick(ODD).to_string(),
        "float" => rng.pick(FLOATS).to_string(),
        "index" => rng.pick(INDICES).to_string(),
        "offset" => rng.pick(OFFSETS).to_string(),
        "pattern" => rng.pick(PATTERNS).to_string(),
        "db" => rng.pick(DATABASES).to_string(),
        "small_db" => rng.pick(SMALL_DATABASES).to_string(),
        "small" => rng.pick(SMALL).to_string(),
        "seconds" => far.to_string(),
        "millis" => (far * 1000).to_string(),
        "at" => (4_102_444_800 + far).to_string(),
        "at_millis" => (4_102_444_800_000 + far).to_string(),
        _ => return None,
    };
    Some(text.into_bytes())
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
