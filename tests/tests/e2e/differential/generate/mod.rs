//! Streams of commands from a seed, made from templates: what the families share.
//!
//! A template is a line of words. A word in capitals stands for itself; a small one for an argument
//! of that kind ([`argument`], and each family's own). `a|b` is one of the two, `-` is nothing,
//! `a=b` is two words in turn, and `a+` is one to three times `a`.

mod hashes;
mod keys;
mod lists;
mod sets;
mod sort;
mod strings;
mod transactions;
mod zsets;

use cairn_tests::rng::Rng;

/// One step of a stream.
#[derive(Clone, Debug)]
pub enum Step {
    /// A command.
    Call(Vec<Vec<u8>>),
    /// A whole iteration with SCAN or one of its kind: the words before the cursor, and the options.
    Scan { command: Vec<Vec<u8>>, options: Vec<Vec<u8>> },
    /// SPOP, whose choice is the node's: the other server is made to agree.
    Pop { key: Vec<u8>, count: Option<u64> },
    /// Long enough for the shortest deadlines to pass.
    Pause,
}

impl Step {
    /// For people.
    pub fn show(&self) -> String {
        match self {
            Step::Call(args) => show(args),
            Step::Scan { command, options } => {
                format!("(all of) {} 0 {}", show(command), show(options))
            }
            Step::Pop { .. } => show(&self.pop()),
            Step::Pause => "(pause)".to_owned(),
        }
    }
}

impl Step {
    /// The command of a `Pop`.
    pub fn pop(&self) -> Vec<Vec<u8>> {
        let Step::Pop { key, count } = self else { return Vec::new() };
        let mut args = vec![b"SPOP".to_vec(), key.clone()];
        args.extend(count.map(|count| count.to_string().into_bytes()));
        args
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

/// What a family of commands adds to the streams.
pub struct Family {
    /// Its commands.
    common: &'static [&'static str],
    /// Those that would rule a stream if they came often.
    rare: &'static [&'static str],
    /// The keys its commands work on; those of other families meet them now and then.
    keys: &'static [&'static [u8]],
    /// A value of a kind that only its templates name.
    argument: fn(&mut Rng, &str) -> Option<Vec<u8>>,
    /// Steps that no template can say: iterations, filling a large collection. May be none.
    special: fn(&mut Rng) -> Vec<Step>,
}

const FAMILIES: &[Family] = &[
    strings::FAMILY,
    keys::FAMILY,
    hashes::FAMILY,
    lists::FAMILY,
    sets::FAMILY,
    sort::FAMILY,
    zsets::FAMILY,
    transactions::FAMILY,
];

/// The stream of `seed`. Every second one is mostly about one family. One in three has deadlines
/// that pass during the stream; DBSIZE is left out of those, since it counts what has expired until
/// the server gets round to deleting it.
pub fn stream(seed: u64, steps: usize) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let short_deadlines = rng.once_in(3);
    let favourite = if rng.once_in(2) { Some(rng.pick(FAMILIES)) } else { None };
    let mut stream = Vec::new();
    while stream.len() < steps {
        let family = match favourite {
            Some(family) if !rng.once_in(4) => family,
            _ => rng.pick(FAMILIES),
        };
        match rng.below(60) {
            0 if !family.rare.is_empty() => {
                stream.push(Step::Call(expand(&mut rng, family.rare)));
            }
            1 => stream.extend((family.special)(&mut rng)),
            2 if short_deadlines => stream.extend(short_life(&mut rng)),
            2 => stream.push(Step::Call(vec![b"DBSIZE".to_vec()])),
            _ => stream.push(Step::Call(expand(&mut rng, family.common))),
        }
    }
    stream
}

/// A key that is gone when the next command comes.
fn short_life(rng: &mut Rng) -> Vec<Step> {
    let key = known_argument(rng, "any");
    let mut set = words(rng, "SET key value PX=1|PX=2");
    if rng.once_in(2) {
        set = words(rng, "PEXPIRE key 1|2");
    }
    set[1] = key.clone();
    vec![Step::Call(set), Step::Pause, Step::Call(vec![b"EXISTS".to_vec(), key])]
}

/// A command from one of the templates, now and then with an argument too few or too many.
fn expand(rng: &mut Rng, templates: &[&str]) -> Vec<Vec<u8>> {
    let template = *rng.pick(templates);
    let mut args = words(rng, template);
    match rng.below(60) {
        0 if args.len() > 1 => drop(args.pop()),
        1 => {
            let mut surplus = known_argument(rng, "value");
            // As a field or a member it must not be longer than those may be.
            surplus.truncate(1000);
            args.push(surplus);
        }
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
const PATTERNS: &[&str] = &[
    "*", "a", "?", "key:*", "k?y:[12]", "[^a]", "[a-c]", "{t}*", "*:*1", "\\a", "[", "[c-a]", "",
    "a**", "**", "*?", "[\\]]",
];
const SMALL: &[&str] = &["0", "1", "2", "3", "10", "-1"];

/// A value of the kind `name`; None when there is no such kind.
fn argument(rng: &mut Rng, name: &str) -> Option<Vec<u8>> {
    // Far enough not to pass during a run, and never the same twice: whether a deadline is later
    // than an equal one a millisecond before is a matter of luck.
    let far = 1000 + rng.below(900_000_000);
    let text = match name {
        "key" => return Some(key_of(rng, &strings::FAMILY)),
        "any" => {
            let family = rng.pick(FAMILIES);
            return Some(rng.pick(family.keys).to_vec());
        }
        "number" => rng.pick(NUMBERS).to_string(),
        "odd" => rng.pick(ODD).to_string(),
        "float" => rng.pick(FLOATS).to_string(),
        "pattern" => rng.pick(PATTERNS).to_string(),
        "small" => rng.pick(SMALL).to_string(),
        "seconds" => far.to_string(),
        "millis" => (far * 1000).to_string(),
        "at" => (4_102_444_800 + far).to_string(),
        "at_millis" => (4_102_444_800_000 + far).to_string(),
        _ => {
            let mut known = FAMILIES.iter().filter_map(|family| (family.argument)(rng, name));
            let first = known.next();
            assert!(known.next().is_none(), "two families know a {name}");
            return first;
        }
    };
    Some(text.into_bytes())
}

fn known_argument(rng: &mut Rng, name: &str) -> Vec<u8> {
    argument(rng, name).expect("a kind of argument")
}

/// A key of the family; now and then one that holds something else.
fn key_of(rng: &mut Rng, family: &Family) -> Vec<u8> {
    match rng.below(20) {
        0 => known_argument(rng, "any"),
        _ => rng.pick(family.keys).to_vec(),
    }
}
