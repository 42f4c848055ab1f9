//! Commands about how a key is kept: OBJECT and MEMORY USAGE.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::Encoding;

use crate::data::string;
use crate::failure::{Failure, Outcome};
use crate::keyspace::{ReadContext, Touch};
use crate::recency::RecencyPolicy;

/// Redis keeps one object for each integer below this, and shows so in its reference count.
const SHARED_INTEGERS: i64 = 10_000;
const SHARED_REFERENCES: i64 = i32::MAX as i64;

const HELP: [&str; 15] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

/// OBJECT HELP
pub(super) fn help(_: &mut ReadContext<'_>, _: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    w.array(HELP.len());
    for line in HELP {
        w.simple(line);
    }
    Ok(())
}

/// OBJECT ENCODING key
pub(super) fn encoding(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    match cx.find(&argv[2], Touch::Peek)? {
        Some(record) => w.bulk(encoding_name(record.encoding()).as_bytes()),
        None => w.null(),
    }
    Ok(())
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "raw",
        Encoding::Int => "int",
        Encoding::Embstr => "embstr",
        Encoding::Listpack => "listpack",
        Encoding::Quicklist => "quicklist",
        Encoding::Hashtable => "hashtable",
        Encoding::Intset => "intset",
        Encoding::Skiplist => "skiplist",
        Encoding::Stream => "stream",
    }
}

/// OBJECT REFCOUNT key: there is one reference to anything, but clients know Redis's figures
pub(super) fn refcount(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let Some(record) = cx.find(&argv[2], Touch::Peek)? else {
        w.null();
        return Ok(());
    };
    let shared = record.encoding() == Encoding::Int
        && (0..SHARED_INTEGERS).contains(&string::integer(&record)?);
    w.int(if shared { SHARED_REFERENCES } else { 1 });
    Ok(())
}

/// OBJECT IDLETIME key
pub(super) fn idletime(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    if cx.find(&argv[2], Touch::Peek)?.is_none() {
        w.null();
        return Ok(());
    }
    if cx.recency.policy() == RecencyPolicy::Frequency {
        return Err(Failure::reply(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
             when switching between policies at runtime LRU and LFU data will take some time to \
             adjust.",
        ));
    }
    let hash = cx.view.key(&argv[2]).hash;
    w.int(cx.recency.idle_seconds(hash, cx.now_ms) as i64);
    Ok(())
}

/// OBJECT FREQ key
pub(super) fn freq(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    if cx.find(&argv[2], Touch::Peek)?.is_none() {
        w.null();
        return Ok(());
    }
    if cx.recency.policy() != RecencyPolicy::Frequency {
        return Err(Failure::reply(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
             note that when switching between policies at runtime LRU and LFU data will take some \
             time to adjust.",
        ));
    }
    let hash = cx.view.key(&argv[2]).hash;
    w.int(cx.recency.frequency(hash, cx.now_ms).into());
    Ok(())
}

/// MEMORY USAGE key [SAMPLES count]: bytes in the pool; nothing is sampled, the figure is exact
pub(super) fn memory_usage(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let mut args = Args::new(argv, 3);
    while !args.is_empty() {
        if args.left() < 2 || !args.keyword("SAMPLES") || args.int()? < 0 {
            return Err(WireError::Syntax.into());
        }
    }
    match cx.find(&argv[2], Touch::Peek)? {
        Some(record) => w.int(record.bytes() as i64),
        None => w.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test::Bench;

    #[test]
    fn reports_encodings_and_references() {
        let mut bench = Bench::new();
        bench.check(&[
            ("OBJECT ENCODING k", "$-1"),
            ("OBJECT REFCOUNT k", "$-1"),
            ("SET k 9999", "+OK"),
            ("OBJECT ENCODING k", "$3|int"),
            ("OBJECT REFCOUNT k", ":2147483647"),
            ("SET k 10000", "+OK"),
            ("OBJECT REFCOUNT k", ":1"),
            ("SET k -1", "+OK"),
            ("OBJECT REFCOUNT k", ":1"),
            ("SET k text", "+OK"),
            ("OBJECT ENCODING k", "$6|embstr"),
            ("OBJECT REFCOUNT k", ":1"),
        ]);
        assert!(bench.run(&[b"OBJECT", b"HELP"]).starts_with(b"*15\r\n+OBJECT <subcommand>"));
    }

    #[test]
    fn idle_time_is_that_of_the_last_use_not_of_the_last_question() {
        let mut bench = Bench::new();
        bench.check(&[("SET k v", "+OK"), ("OBJECT IDLETIME x", "$-1")]);
        bench.advance_ms(5_000);
        bench.check(&[
            ("EXISTS k", ":1"),
            ("TTL k", ":-1"),
            ("TYPE k", "+string"),
            ("OBJECT IDLETIME k", ":5"),
            ("OBJECT IDLETIME k", ":5"),
            ("TOUCH k", ":1"),
            ("OBJECT IDLETIME k", ":0"),
        ]);
        bench.advance_ms(3_000);
        bench.check(&[("GET k", "$1|v"), ("OBJECT IDLETIME k", ":0")]);
    }

    #[test]
    fn each_policy_reports_its_own_figure() {
        let mut bench = Bench::new();
        bench.check(&[("SET k v", "+OK"), ("OBJECT FREQ x", "$-1")]);
        let reply = bench.run(&[b"OBJECT", b"FREQ", b"k"]);
        assert!(reply.starts_with(b"-ERR An LFU maxmemory policy is not selected, access freq"));
        bench.engine.recency().set_policy(RecencyPolicy::Frequency);
        assert!(bench.run(&[b"OBJECT", b"FREQ", b"k"]).starts_with(b":5"));
        let reply = bench.run(&[b"OBJECT", b"IDLETIME", b"k"]);
        assert!(reply.starts_with(b"-ERR An LFU maxmemory policy is selected, idle time not"));
    }

    #[test]
    fn memory_usage_counts_the_value() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MEMORY USAGE k", "$-1"),
            ("MEMORY USAGE k SAMPLES -1", "-ERR syntax error"),
            ("MEMORY USAGE k SAMPLES", "-ERR syntax error"),
            ("MEMORY USAGE k SAMPLES x", "-ERR value is not an integer or out of range"),
            ("MEMORY USAGE k FOO 1", "-ERR syntax error"),
        ]);
        bench.run(&[b"SET", b"k", &[b'x'; 1000]]);
        let reply = bench.run(&[b"MEMORY", b"USAGE", b"k", b"SAMPLES", b"0"]);
        let bytes: u64 = String::from_utf8(reply).unwrap()[1..].trim().parse().unwrap();
        assert!((1001..2000).contains(&bytes), "{bytes}");
    }
}
