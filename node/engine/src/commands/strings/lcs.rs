//! LCS: what two strings have in common.

use std::borrow::Cow;

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Record, Type};

use crate::data::lcs::{self, Lcs, Match};
use crate::data::string;
use crate::failure::{Failure, Outcome};
use crate::keyspace::{ReadContext, Touch};

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]
pub(crate) fn lcs(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (a, b) = (find(cx, &argv[1])?, find(cx, &argv[2])?);
    if [&a, &b].into_iter().flatten().any(|record| record.ty() != Type::String) {
        return Err(Failure::reply("ERR The specified keys must contain string values"));
    }
    let options = Options::parse(Args::new(argv, 3))?;
    check_memory(&a, &b)?;
    let (a, b) = (text(&a)?, text(&b)?);
    match options.want {
        Want::Length => w.int(lcs::length(&a, &b) as i64),
        Want::Text => w.bulk(&Lcs::new(&a, &b).text()),
        Want::Matches => reply_matches(&Lcs::new(&a, &b), &options, w),
    }
    Ok(())
}

fn find<'a>(cx: &mut ReadContext<'a>, key: &[u8]) -> Outcome<Option<Record<'a>>> {
    cx.find(key, Touch::Use)
}

fn text<'a>(record: &Option<Record<'a>>) -> Outcome<Cow<'a, [u8]>> {
    record.as_ref().map_or(Ok(Cow::Borrowed(&[][..])), string::bytes)
}

/// The product of the lengths bounds memory, and time too; Redis refuses by the same figure.
fn check_memory(a: &Option<Record<'_>>, b: &Option<Record<'_>>) -> Outcome {
    let len = |record: &Option<Record<'_>>| record.as_ref().map_or(0, |r| r.value().len());
    if lcs::table_bytes(len(a), len(b)) > string::LEN_BYTES_MAX {
        return Err(Failure::reply(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    Ok(())
}

enum Want {
    Text,
    Length,
    Matches,
}

struct Options {
    want: Want,
    min_match_len: u64,
    with_match_len: bool,
}

impl Options {
    fn parse(mut args: Args<'_>) -> Outcome<Options> {
        let (mut idx, mut len) = (false, false);
        let mut options = Options { want: Want::Text, min_match_len: 0, with_match_len: false };
        while !args.is_empty() {
            if args.keyword("IDX") {
                idx = true;
            } else if args.keyword("LEN") {
                len = true;
            } else if args.keyword("WITHMATCHLEN") {
                options.with_match_len = true;
            } else if args.left() > 1 && args.keyword("MINMATCHLEN") {
                options.min_match_len = u64::try_from(args.int()?).unwrap_or(0);
            } else {
                return Err(WireError::Syntax.into());
            }
        }
        options.want = match (idx, len) {
            (true, true) => {
                return Err(Failure::reply(
                    "ERR If you want both the length and indexes, please just use IDX.",
                ));
            }
            (true, false) => Want::Matches,
            (false, true) => Want::Length,
            (false, false) => Want::Text,
        };
        Ok(options)
    }
}

fn reply_matches(lcs: &Lcs<'_>, options: &Options, w: &mut Writer<'_>) {
    let mut matches = Vec::new();
    lcs.for_each_match(|found| {
        if found.len as u64 >= options.min_match_len {
            matches.push(found);
        }
    });
    w.map(2);
    w.bulk(b"matches");
    w.array(matches.len());
    for Match { a_start, b_start, len } in matches {
        w.array(2 + usize::from(options.with_match_len));
        for start in [a_start, b_start] {
            w.array(2);
            w.int(start as i64);
            w.int((start + len - 1) as i64);
        }
        if options.with_match_len {
            w.int(len as i64);
        }
    }
    w.bulk(b"len");
    w.int(lcs.len() as i64);
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    #[test]
    fn replies_with_text_length_or_matches() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MSET a ohmytext b mynewtext", "+OK"),
            ("LCS a b", "$6|mytext"),
            ("LCS a b LEN", ":6"),
            ("LCS a b IDX", "*4|$7|matches|*2|*2|*2|:4|:7|*2|:5|:8|*2|*2|:2|:3|*2|:0|:1|$3|len|:6"),
            ("LCS a b IDX MINMATCHLEN 4", "*4|$7|matches|*1|*2|*2|:4|:7|*2|:5|:8|$3|len|:6"),
            (
                "LCS a b WITHMATCHLEN IDX minmatchlen 4",
                "*4|$7|matches|*1|*3|*2|:4|:7|*2|:5|:8|:4|$3|len|:6",
            ),
            ("LCS a absent", "$0|"),
            ("LCS absent a LEN", ":0"),
            ("LCS absent a IDX", "*4|$7|matches|*0|$3|len|:0"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("LCS absent a IDX", "%2|$7|matches|*0|$3|len|:0")]);
    }

    #[test]
    fn refuses_what_redis_refuses() {
        let mut bench = Bench::new();
        bench.check(&[
            ("LCS a b FOO", "-ERR syntax error"),
            ("LCS a b MINMATCHLEN", "-ERR syntax error"),
            ("LCS a b MINMATCHLEN x", "-ERR value is not an integer or out of range"),
            (
                "LCS a b IDX LEN",
                "-ERR If you want both the length and indexes, please just use IDX.",
            ),
        ]);
        let large = vec![b'x'; 20_000];
        bench.run(&[b"SET", b"a", &large]);
        bench.check(&[(
            "LCS a a LEN",
            "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        )]);
    }
}
