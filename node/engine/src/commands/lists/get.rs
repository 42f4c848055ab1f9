//! Reading elements.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};

use super::{count, int, invertible, range};
use crate::data::list::{List, equals};
use crate::data::string;
use crate::failure::{Failure, Outcome};
use crate::keyspace::ReadContext;

/// LLEN key
pub(crate) fn llen(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let list = cx.list(&argv[1])?;
    w.int(list.map_or(0, |list| list.len() as i64));
    Ok(())
}

/// LINDEX key index
pub(crate) fn lindex(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let Some(list) = cx.list(&argv[1])? else {
        w.null();
        return Ok(());
    };
    let Some(place) = list.place(int(&argv[2])?) else {
        w.null();
        return Ok(());
    };
    list.walk(place, false, &mut |_, element| string::reply_value(element, w).map(|()| false))
}

/// LRANGE key start stop
pub(crate) fn lrange(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (start, stop) = (int(&argv[2])?, int(&argv[3])?);
    let Some(list) = cx.list(&argv[1])? else {
        w.array(0);
        return Ok(());
    };
    let range = range(start, stop, list.len());
    let mut left = range.end - range.start;
    cx.may_take(left)?;
    w.array(left as usize);
    if left == 0 {
        return Ok(());
    }
    list.walk(range.start, false, &mut |_, element| {
        left -= 1;
        string::reply_value(element, w).map(|()| left > 0)
    })
}

/// What LPOS looks for.
struct Search<'a> {
    element: &'a [u8],
    /// Matches to pass over.
    skip: u64,
    reverse: bool,
    /// Matches to tell, 0 for all; `None` for one, told without an array.
    count: Option<u64>,
    /// Elements to look at, 0 for all.
    look_at: u64,
}

/// LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]
pub(crate) fn lpos(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let search = Search::parse(argv)?;
    let matches = match cx.list(&argv[1])? {
        Some(list) => {
            let all = list.len();
            cx.may_take(if search.look_at == 0 { all } else { search.look_at.min(all) })?;
            search.run(&list)?
        }
        None => Vec::new(),
    };
    match (search.count, matches.first()) {
        (Some(_), _) => {
            w.array(matches.len());
            matches.iter().for_each(|&place| w.int(place as i64));
        }
        (None, Some(&place)) => w.int(place as i64),
        (None, None) => w.null(),
    }
    Ok(())
}

impl Search<'_> {
    fn parse(argv: Argv<'_>) -> Outcome<Search<'_>> {
        let (mut rank, mut count_to, mut look_at) = (1, None, 0);
        let mut args = Args::new(argv, 2);
        let element = args.take()?;
        while !args.is_empty() {
            if let Some(text) = args.keyword_with_value("RANK") {
                rank = invertible(text)?;
                if rank == 0 {
                    return Err(Failure::reply(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                         second ... or use negative to start from the end of the list",
                    ));
                }
            } else if let Some(text) = args.keyword_with_value("COUNT") {
                count_to = Some(count(text, 0, "ERR COUNT can't be negative")?);
            } else if let Some(text) = args.keyword_with_value("MAXLEN") {
                look_at = count(text, 0, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(WireError::Syntax.into());
            }
        }
        let (skip, reverse) = (rank.unsigned_abs() - 1, rank < 0);
        Ok(Search { element, skip, reverse, count: count_to, look_at })
    }

    fn run(&self, list: &List<'_>) -> Outcome<Vec<u64>> {
        let most = match self.count {
            Some(0) => u64::MAX,
            count => count.unwrap_or(1),
        };
        let (mut matches, mut skipped, mut seen) = (Vec::new(), 0, 0u64);
        let from = if self.reverse { u64::MAX } else { 0 };
        list.walk(from, self.reverse, &mut |place, element| {
            if equals(element, self.element)? {
                if skipped < self.skip {
                    skipped += 1;
                } else {
                    matches.push(place);
                }
            }
            seen += 1;
            Ok((matches.len() as u64) < most && seen != self.look_at)
        })?;
        Ok(matches)
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn elements_are_read_by_place() {
        let mut bench = Bench::new();
        let not_integer = "-ERR value is not an integer or out of range";
        bench.check(&[
            ("RPUSH l a b c", ":3"),
            ("LLEN l", ":3"),
            ("LLEN x", ":0"),
            ("LINDEX l 0", "$1|a"),
            ("LINDEX l -1", "$1|c"),
            ("LINDEX l -3", "$1|a"),
            ("LINDEX l -4", "$-1"),
            ("LINDEX l 3", "$-1"),
            ("LINDEX l 9223372036854775807", "$-1"),
            ("LINDEX l -9223372036854775808", "$-1"),
            ("LINDEX l x", not_integer),
            ("LINDEX x x", "$-1"),
            ("LRANGE l 1 1", "*1|$1|b"),
            ("LRANGE l -2 100", "*2|$1|b|$1|c"),
            ("LRANGE l -100 -3", "*1|$1|a"),
            ("LRANGE l 2 1", "*0"),
            ("LRANGE l 3 9", "*0"),
            ("LRANGE l -9223372036854775808 9223372036854775807", "*3|$1|a|$1|b|$1|c"),
            ("LRANGE x 0 -1", "*0"),
            ("LRANGE x x 1", not_integer),
            ("SET s v", "+OK"),
            ("LLEN s", WRONG_TYPE),
            ("LINDEX s 0", WRONG_TYPE),
            ("LRANGE s 0 1", WRONG_TYPE),
            ("LPOS s v", WRONG_TYPE),
        ]);
    }

    #[test]
    fn places_of_elements_are_found() {
        let mut bench = Bench::new();
        bench.check(&[
            ("RPUSH l a b c 1 2 3 c c", ":8"),
            ("LPOS l c", ":2"),
            ("LPOS l c RANK 2", ":6"),
            ("LPOS l c RANK -1", ":7"),
            ("LPOS l c RANK -4", "$-1"),
            ("LPOS l c COUNT 2", "*2|:2|:6"),
            ("LPOS l c COUNT 0 RANK 2", "*2|:6|:7"),
            ("LPOS l c COUNT 0 RANK -1", "*3|:7|:6|:2"),
            ("LPOS l c COUNT 0 MAXLEN 7", "*2|:2|:6"),
            ("LPOS l c MAXLEN 2", "$-1"),
            ("LPOS l c MAXLEN 2 COUNT 1", "*0"),
            ("LPOS x c", "$-1"),
            ("LPOS x c COUNT 0", "*0"),
            ("LPOS l c COUNT -1", "-ERR COUNT can't be negative"),
            ("LPOS l c COUNT x", "-ERR COUNT can't be negative"),
            ("LPOS l c MAXLEN -1", "-ERR MAXLEN can't be negative"),
            ("LPOS l c RANK", "-ERR syntax error"),
            ("LPOS l c RANK x", "-ERR value is not an integer or out of range"),
            ("LPOS l c FOO 1", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn what_is_long_is_put_off_before_a_byte_is_written() {
        let mut bench = Bench::new();
        let elements: Vec<String> = (0..1001).map(|n| format!("e{n}")).collect();
        bench.check(&[(&format!("RPUSH l {}", elements.join(" ")), ":1001")]);
        for command in ["LRANGE l 0 -1", "LPOS l x"] {
            assert!(bench.defers(command), "{command}");
        }
        for command in ["LRANGE l 1 -1", "LPOS l x MAXLEN 100", "LLEN l", "LINDEX l 500"] {
            assert!(!bench.defers(command), "{command}");
        }
    }
}
