//! Which arguments of a request are keys, from its row's key specifications.

use super::id::CommandId;
use super::spec::{Begin, Find, KeyFlags, KeySpec, Spec};
use crate::number::parse_u64;
use crate::resp::Argv;

/// The positions of the keys of `argv`, whose row is `spec`, in the order of the specifications.
/// Positions that `argv` does not have are left out.
pub fn keys_of<'a>(spec: &'static Spec, argv: Argv<'a>) -> impl Iterator<Item = usize> + use<'a> {
    keys_and_flags(spec, argv).map(|(position, _)| position)
}

/// The same, each with what is done with the key.
pub fn keys_and_flags<'a>(
    spec: &'static Spec,
    argv: Argv<'a>,
) -> impl Iterator<Item = (usize, KeyFlags)> + use<'a> {
    spec.keys.iter().flat_map(move |keys| {
        let flags = actual_flags(spec.id, keys.flags, argv);
        let found =
            positions(keys, argv).into_iter().flatten().chain(destination(spec.id, keys, argv));
        found.map(move |position| (position, flags))
    })
}

/// Where SORT stores its result: no specification can say, since STORE may stand anywhere, or be
/// what another option is about.
fn destination(id: CommandId, keys: &KeySpec, argv: Argv<'_>) -> Option<usize> {
    if id != CommandId::Sort || !keys.flags.contains(KeyFlags::OW) {
        return None;
    }
    let is = |at: usize, word: &str| argv[at].eq_ignore_ascii_case(word.as_bytes());
    let (mut found, mut at) = (None, 2);
    while at < argv.len() {
        at += match at {
            at if is(at, "LIMIT") => 3,
            at if is(at, "GET") || is(at, "BY") => 2,
            at if is(at, "STORE") && at + 1 < argv.len() => {
                found = Some(at + 1);
                2
            }
            _ => 1,
        };
    }
    found
}

/// The flags of a key once the arguments are known.
fn actual_flags(id: CommandId, flags: KeyFlags, argv: Argv<'_>) -> KeyFlags {
    if id != CommandId::Set {
        return flags;
    }
    // SET reads the old value only when it is asked for it.
    if argv.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"GET")) {
        KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE)
    } else {
        KeyFlags::OW.or(KeyFlags::UPDATE)
    }
}

/// First key, last key and step as COMMAND INFO reported them before key specifications: what the
/// ranges at fixed places span together; zeros when there are none.
#[must_use]
pub fn first_last_step(specs: &[KeySpec]) -> (i64, i64, i64) {
    let ranges = specs.iter().filter_map(|spec| match (spec.begin, spec.find) {
        (Begin::Index(first), Find::Range { last, step, .. }) => {
            let last = if last >= 0 { i64::from(first) + i64::from(last) } else { last.into() };
            Some((i64::from(first), last, i64::from(step)))
        }
        _ => None,
    });
    // A last key counted from the end lies behind all that are counted from the start.
    let further = |a: i64, b: i64| if a < 0 || b < 0 { a.min(b) } else { a.max(b) };
    ranges.reduce(|a, b| (a.0.min(b.0), further(a.1, b.1), a.2)).unwrap_or_default()
}

/// Positions of one group, or `None` when the request has no such group.
fn positions(keys: &KeySpec, argv: Argv<'_>) -> Option<impl Iterator<Item = usize> + use<>> {
    let start = begin(keys.begin, argv)?;
    let (first, last, step) = match keys.find {
        Find::Range { last, step, limit } => {
            (start, range_end(start, last, limit, argv.len())?, step)
        }
        Find::Count { count, first, step } => {
            let count = parse_u64(argv.get(start + usize::from(count))?)?;
            let first = start + usize::from(first);
            // A count beyond the arguments is an error of the command's own, not a key of ours.
            let spread = usize::try_from(count).ok()?.checked_sub(1)?.checked_mul(step.into())?;
            (first, first.checked_add(spread)?, step)
        }
        Find::Unknown => return None,
    };
    let end = (last + 1).min(argv.len());
    Some((first..end).step_by(usize::from(step).max(1)))
}

fn begin(begin: Begin, argv: Argv<'_>) -> Option<usize> {
    match begin {
        Begin::Index(index) => Some(index.into()),
        Begin::Keyword { word, from } => {
            let is_word = |&i: &usize| argv[i].eq_ignore_ascii_case(word.as_bytes());
            let from_end = usize::from(from.unsigned_abs());
            let found = if from >= 0 {
                (from_end..argv.len()).find(is_word)
            } else {
                (1..(argv.len() + 1).saturating_sub(from_end)).rev().find(is_word)
            };
            found.map(|i| i + 1)
        }
        Begin::Unknown => None,
    }
}

/// The position of a range's last key. A negative `last` counts from the end of the arguments;
/// with -1, `limit` says which part of what is left the keys take.
fn range_end(start: usize, last: i16, limit: u16, argc: usize) -> Option<usize> {
    if let Ok(last) = usize::try_from(last) {
        return Some(start + last);
    }
    let left = argc.checked_sub(start)?;
    if limit > 1 && last == -1 {
        return (start + left / usize::from(limit)).checked_sub(1);
    }
    argc.checked_sub(last.unsigned_abs().into())
}

#[cfg(test)]
mod tests {
    use super::super::{lookup, resolve};
    use super::*;

    fn keys(words: &[&str]) -> Vec<usize> {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let argv = Argv::from(&args[..]);
        keys_of(resolve(argv).unwrap(), argv).collect()
    }

    #[test]
    fn rows_find_their_keys() {
        let rows: [(&[&str], &[usize]); 13] = [
            (&["get", "a"], &[1]),
            (&["mget", "a", "b", "c"], &[1, 2, 3]),
            (&["mset", "a", "1", "b", "2"], &[1, 3]),
            (&["lcs", "a", "b", "len"], &[1, 2]),
            (&["rename", "a", "b"], &[1, 2]),
            (&["copy", "a", "b", "replace"], &[1, 2]),
            (&["object", "encoding", "k"], &[2]),
            (&["memory", "usage", "k", "samples", "0"], &[2]),
            (&["ping"], &[]),
            (&["sort", "l", "store", "d"], &[1, 3]),
            (&["sort", "l", "get", "store", "limit", "store", "x", "store", "d"], &[1, 8]),
            (&["sort", "l", "store"], &[1]),
            (&["sort_ro", "l", "by", "w_*"], &[1]),
        ];
        for (words, wanted) in rows {
            assert_eq!(keys(words), wanted, "{words:?}");
        }
    }

    fn of(begin: Begin, find: Find, words: &[&str]) -> Vec<usize> {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let spec = KeySpec { flags: KeyFlags::RO, begin, find, notes: "" };
        positions(&spec, Argv::from(&args[..])).into_iter().flatten().collect()
    }

    #[test]
    fn counted_keys_are_bounded_by_the_arguments() {
        let find = Find::Count { count: 0, first: 1, step: 1 };
        let eval = Begin::Index(2);
        assert_eq!(of(eval, find, &["eval", "body", "2", "a", "b", "x"]), [3, 4]);
        assert_eq!(of(eval, find, &["eval", "body", "0", "x"]), [0; 0]);
        assert_eq!(of(eval, find, &["eval", "body", "9", "a"]), [3]);
        assert_eq!(of(eval, find, &["eval", "body", "-1", "a"]), [0; 0]);
        assert_eq!(of(eval, find, &["eval", "body", "18446744073709551615", "a"]), [0; 0]);
        assert_eq!(of(eval, find, &["eval"]), [0; 0]);
    }

    #[test]
    fn words_are_looked_for_from_either_side() {
        let half = Find::Range { last: -1, step: 1, limit: 2 };
        let streams = Begin::Keyword { word: "STREAMS", from: 1 };
        assert_eq!(
            of(streams, half, &["xread", "count", "2", "streams", "a", "b", "0", "0"]),
            [4, 5]
        );
        assert_eq!(of(streams, half, &["xread", "count", "2"]), [0; 0]);
        let all = Find::Range { last: -1, step: 1, limit: 0 };
        let keys = Begin::Keyword { word: "KEYS", from: -2 };
        assert_eq!(of(keys, all, &["migrate", "h", "p", "", "0", "1", "KEYS", "a", "b"]), [7, 8]);
        assert_eq!(of(keys, all, &["migrate"]), [0; 0]);
    }

    #[test]
    fn flags_come_with_the_keys() {
        let args: [&[u8]; 3] = [b"copy", b"a", b"b"];
        let spec = lookup(b"copy").unwrap();
        let found: Vec<_> = keys_and_flags(spec, Argv::from(&args)).collect();
        assert_eq!(found[0], (1, KeyFlags::RO.or(KeyFlags::ACCESS)));
        assert_eq!(found[1], (2, KeyFlags::OW.or(KeyFlags::UPDATE)));
        let args: [&[u8]; 4] = [b"set", b"k", b"v", b"get"];
        let spec = lookup(b"set").unwrap();
        let flags = |argv| keys_and_flags(spec, argv).next().unwrap().1;
        assert!(flags(Argv::from(&args)).contains(KeyFlags::RW));
        assert!(flags(Argv::from(&args[..3])).contains(KeyFlags::OW));
    }

    #[test]
    fn old_clients_are_told_the_span() {
        let span = |name: &[u8]| first_last_step(lookup(name).unwrap().keys);
        assert_eq!(span(b"get"), (1, 1, 1));
        assert_eq!(span(b"mset"), (1, -1, 2));
        assert_eq!(span(b"rename"), (1, 2, 1));
        assert_eq!(span(b"ping"), (0, 0, 0));
    }
}
