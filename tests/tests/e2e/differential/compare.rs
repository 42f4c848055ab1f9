//! What may differ: one tolerance for each name in `tests/differences.txt`.

use std::collections::BTreeSet;

use cairn_tests::resp::Reply;

/// A difference that is accepted.
struct Tolerance {
    /// Its name in the file.
    name: &'static str,
    /// Is it about this command?
    about: fn(&[Vec<u8>]) -> bool,
    /// Are these two replies (the node's, Redis's) close enough?
    allows: fn(&Reply, &Reply) -> bool,
}

const TOLERANCES: &[Tolerance] = &[
    Tolerance { name: "key-order", about: |args| is(args, &["KEYS"]), allows: same_set },
    // The step that iterates compares sets; here only whether an odd cursor is taken at all.
    Tolerance {
        name: "scan-order",
        about: |args| is(args, &["SCAN"]),
        allows: |node, redis| node.items().len() == 2 && redis.items().len() == 2,
    },
    Tolerance {
        name: "clock",
        about: |args| {
            is(args, &["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"]) || is_object(args, "IDLETIME")
        },
        allows: close,
    },
    Tolerance {
        name: "reference-count",
        about: |args| is_object(args, "REFCOUNT"),
        allows: |node, redis| node.int() == Some(i32::MAX.into()) && redis.int() == Some(1),
    },
    Tolerance {
        name: "list-encoding",
        about: |args| is_object(args, "ENCODING"),
        allows: |node, redis| is_text(node, b"listpack") && is_text(redis, b"quicklist"),
    },
    Tolerance {
        name: "least-integer",
        about: |args| {
            is(args, &["LPOS", "LREM"]) && args.iter().any(|arg| arg == b"-9223372036854775808")
        },
        allows: |node, _| node.is_error(),
    },
    Tolerance { name: "error-text", about: |_| true, allows: same_error_as_text },
    Tolerance {
        name: "member-order",
        about: |args| {
            is(args, &["HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP"])
        },
        allows: same_set,
    },
    Tolerance { name: "member-order", about: |args| is(args, &["HGETALL"]), allows: same_pairs },
    Tolerance {
        name: "member-scan",
        about: |args| is(args, &["HSCAN", "SSCAN", "ZSCAN"]),
        allows: |node, redis| node.items().len() == 2 && redis.items().len() == 2,
    },
    Tolerance {
        name: "random-member",
        about: |args| is(args, &["HRANDFIELD", "SRANDMEMBER", "SPOP", "ZRANDMEMBER"]),
        allows: same_shape,
    },
    Tolerance {
        name: "sort-errno",
        about: |args| is(args, &["SORT", "SORT_RO"]),
        allows: |node, redis| !node.is_error() && redis.text().contains("One or more scores"),
    },
    Tolerance {
        name: "sort-ties",
        about: |args| is(args, &["SORT", "SORT_RO"]) && args.iter().any(|arg| is_word(arg, "BY")),
        allows: |node, redis| {
            kind(node) == kind(redis)
                && !node.is_error()
                && node.items().len() == redis.items().len()
                && !node.items().is_empty()
        },
    },
    Tolerance {
        name: "set-listpack",
        about: |args| is_object(args, "ENCODING"),
        allows: |node, redis| {
            let (node, redis) = (node.text(), redis.text());
            node == "listpack" && redis == "hashtable" || node == "hashtable" && redis == "intset"
        },
    },
    Tolerance {
        name: "random-key",
        about: |args| is(args, &["RANDOMKEY"]),
        allows: |node, redis| !node.is_error() && node.is_null() == redis.is_null(),
    },
    Tolerance {
        name: "double-text",
        about: |args| args.first().is_some_and(|name| matches!(name.first(), Some(b'Z' | b'z'))),
        allows: same_with_doubles,
    },
    Tolerance {
        name: "rank-arguments",
        about: |args| is(args, &["ZRANK", "ZREVRANK"]) && args.len() > 3,
        allows: |node, redis| node.is_error() && redis.is_error(),
    },
];

/// What is accepted besides once SORT has run.
const SORTED: Tolerance = Tolerance {
    name: "sort-encoding",
    about: |args| is_object(args, "ENCODING"),
    allows: |node, redis| is_text(node, b"listpack") && is_text(redis, b"skiplist"),
};

/// Is this difference between the replies to a command one of those that are accepted? `sorted`
/// says that SORT ran before it.
pub fn allows(args: &[Vec<u8>], node: &Reply, redis: &Reply, sorted: bool) -> bool {
    let mut accepted = TOLERANCES.iter().chain(sorted.then_some(&SORTED));
    accepted.any(|tolerance| (tolerance.about)(args) && (tolerance.allows)(node, redis))
}

fn is(args: &[Vec<u8>], names: &[&str]) -> bool {
    args.first().is_some_and(|name| names.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes())))
}

fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

fn is_object(args: &[Vec<u8>], subcommand: &str) -> bool {
    is(args, &["OBJECT"])
        && args.get(1).is_some_and(|word| word.eq_ignore_ascii_case(subcommand.as_bytes()))
}

fn is_text(reply: &Reply, text: &[u8]) -> bool {
    matches!(reply, Reply::Bulk(_, Some(bytes)) if bytes == text)
}

fn same_set(node: &Reply, redis: &Reply) -> bool {
    let sorted = |reply: &Reply| {
        let mut items = reply.items().to_vec();
        items.sort();
        items
    };
    kind(node) == kind(redis)
        && node.items().len() == redis.items().len()
        && sorted(node) == sorted(redis)
}

/// Flat pairs in RESP2, a map in RESP3.
fn same_pairs(node: &Reply, redis: &Reply) -> bool {
    let sorted =
        |reply: &Reply| reply.items().chunks(2).map(<[Reply]>::to_vec).collect::<BTreeSet<_>>();
    kind(node) == kind(redis)
        && node.items().len() == redis.items().len()
        && sorted(node) == sorted(redis)
}

/// As many elements, of the same kinds; what they are is another matter.
fn same_shape(node: &Reply, redis: &Reply) -> bool {
    kind(node) == kind(redis)
        && !node.is_error()
        && node.is_null() == redis.is_null()
        && node.items().len() == redis.items().len()
        && node.items().iter().zip(redis.items()).all(|(node, redis)| same_shape(node, redis))
}

/// The type byte.
fn kind(reply: &Reply) -> u8 {
    match reply {
        Reply::Line(kind, _) | Reply::Bulk(kind, _) | Reply::List(kind, _) => *kind,
    }
}

fn same_error_as_text(node: &Reply, redis: &Reply) -> bool {
    node.is_error() && redis.is_error() && node.text() == redis.text()
}

/// The same but for the text of numbers that are the same doubles.
fn same_with_doubles(node: &Reply, redis: &Reply) -> bool {
    match (node, redis) {
        (Reply::List(a, Some(node)), Reply::List(b, Some(redis))) => {
            a == b
                && node.len() == redis.len()
                && node.iter().zip(redis).all(|(node, redis)| same_with_doubles(node, redis))
        }
        (Reply::Line(b',', _), Reply::Line(b',', _)) | (Reply::Bulk(..), Reply::Bulk(..)) => {
            node == redis || double(node).is_some_and(|bits| double(redis) == Some(bits))
        }
        _ => node == redis,
    }
}

/// The bits of a double.
fn double(reply: &Reply) -> Option<u64> {
    std::str::from_utf8(reply.bytes()?).ok()?.parse().ok().map(f64::to_bits)
}

/// A score as ZSCAN shows it, by what it means.
pub fn scanned_score(reply: &mut Reply) {
    if let (Some(bits), Reply::Bulk(_, text)) = (double(reply), &mut *reply) {
        *text = Some(f64::from_bits(bits).to_string().into_bytes());
    }
}

/// Positive numbers that differ by two seconds at most; those above a million are milliseconds.
fn close(node: &Reply, redis: &Reply) -> bool {
    let (Some(node), Some(redis)) = (node.int(), redis.int()) else { return false };
    node >= 0 && redis >= 0 && node.abs_diff(redis) <= 2000
}

#[test]
fn each_tolerance_has_a_reason_and_each_reason_a_tolerance() {
    let text = include_str!("../../../differences.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let named: BTreeSet<&str> = lines
        .map(|line| {
            let (name, reason) = line.split_once(": ").expect("name, colon, reason");
            assert!(reason.len() > 20, "{name} has no real reason");
            name
        })
        .collect();
    let used: BTreeSet<&str> =
        TOLERANCES.iter().chain([&SORTED]).map(|tolerance| tolerance.name).collect();
    assert_eq!(named, used);
}
