//! Changing elements by place or by what they are.

use cairn_protocol::WireError;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::Key;

use super::{int, invertible, range};
use crate::data::list::equals;
use crate::failure::{Failure, Outcome};
use crate::keyspace::{WriteContext, cost_of};

/// LSET key index element
pub(crate) fn lset(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (key, element) = (cx.key(&argv[1]), &argv[3]);
    let place = cx.read_list(&key, |list| Ok(list.place(int(&argv[2])?)))?;
    let place = place.ok_or(WireError::NoSuchKey)?;
    let place = place.ok_or_else(|| Failure::reply("ERR index out of range"))?;
    let limit = cx.limits.list();
    cx.change_list(&key, cost_of([element].into_iter()), |list| {
        list.will_grow(limit, 1, element.len() as u64)?;
        list.set(place, element)?;
        list.has_shrunk(limit)
    })?;
    w.ok();
    Ok(())
}

/// LINSERT key BEFORE|AFTER pivot element
pub(crate) fn linsert(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let after = match &argv[2] {
        word if word.eq_ignore_ascii_case(b"after") => 1,
        word if word.eq_ignore_ascii_case(b"before") => 0,
        _ => return Err(WireError::Syntax.into()),
    };
    let (key, pivot, element) = (cx.key(&argv[1]), &argv[3], &argv[4]);
    let found = cx.read_list(&key, |list| {
        let mut found = None;
        list.walk(0, false, &mut |place, element| {
            found = equals(element, pivot)?.then_some(place);
            Ok(found.is_none())
        })?;
        Ok(found)
    })?;
    let place = match found {
        Some(Some(place)) => place + after,
        not_found => {
            w.int(if not_found.is_some() { -1 } else { 0 });
            return Ok(());
        }
    };
    let limit = cx.limits.list();
    let len = cx.change_list(&key, cost_of([element].into_iter()), |list| {
        list.will_grow(limit, 1, element.len() as u64)?;
        list.insert(place, element)?;
        Ok(list.len())
    })?;
    w.int(len as i64);
    Ok(())
}

/// LREM key count element
pub(crate) fn lrem(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (key, count) = (cx.key(&argv[1]), invertible(&argv[2])?);
    let places = places_of(cx, &key, &argv[3], count)?;
    let limit = cx.limits.list();
    if !places.is_empty() {
        cx.change_list(&key, 0, |list| {
            list.remove_each(&places)?;
            list.has_shrunk(limit)
        })?;
    }
    w.int(places.len() as i64);
    Ok(())
}

/// The places, in ascending order, of the first `count` elements that are `wanted`: the last when
/// it is negative, all when it is 0.
fn places_of(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    wanted: &[u8],
    count: i64,
) -> Outcome<Vec<u64>> {
    let (most, reverse) = (count.unsigned_abs(), count < 0);
    let places = cx.read_list(key, |list| {
        let mut places = Vec::new();
        list.walk(if reverse { u64::MAX } else { 0 }, reverse, &mut |place, element| {
            if equals(element, wanted)? {
                places.push(place);
            }
            Ok(places.len() as u64 != most || most == 0)
        })?;
        Ok(places)
    })?;
    let mut places = places.unwrap_or_default();
    if reverse {
        places.reverse();
    }
    Ok(places)
}

/// LTRIM key start stop
pub(crate) fn ltrim(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (start, stop) = (int(&argv[2])?, int(&argv[3])?);
    let key = cx.key(&argv[1]);
    let kept = cx.read_list(&key, |list| {
        let kept = range(start, stop, list.len());
        Ok((kept.end - kept.start != list.len()).then_some(kept))
    })?;
    let limit = cx.limits.list();
    match kept.flatten() {
        None => {}
        Some(kept) if kept.is_empty() => {
            cx.remove(&key)?;
        }
        Some(kept) => cx.change_list(&key, 0, |list| {
            list.remove(kept.end, list.len() - kept.end)?;
            list.remove(0, kept.start)?;
            list.has_shrunk(limit)
        })?,
    }
    w.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";

    #[test]
    fn elements_are_set_and_inserted() {
        let mut bench = Bench::new();
        bench.check(&[
            ("RPUSH l a b c", ":3"),
            ("LSET l 0 x", "+OK"),
            ("LSET l -1 z", "+OK"),
            ("LSET l 3 y", "-ERR index out of range"),
            ("LSET l -4 y", "-ERR index out of range"),
            ("LSET l y y", NOT_INTEGER),
            ("LSET nosuch y y", "-ERR no such key"),
            ("LINSERT l before b 1", ":4"),
            ("LINSERT l AFTER b 2", ":5"),
            ("LINSERT l AFTER z end", ":6"),
            ("LINSERT l BEFORE q w", ":-1"),
            ("LINSERT nosuch BEFORE q w", ":0"),
            ("LINSERT nosuch ON q w", "-ERR syntax error"),
            ("LRANGE l 0 -1", "*6|$1|x|$1|1|$1|b|$1|2|$1|z|$3|end"),
            ("SET s v", "+OK"),
            ("LSET s 0 y", WRONG_TYPE),
            ("LINSERT s AFTER a b", WRONG_TYPE),
        ]);
    }

    #[test]
    fn elements_are_removed_from_either_end() {
        let mut bench = Bench::new();
        bench.check(&[
            ("RPUSH l a b a c a b a", ":7"),
            ("LREM l 1 a", ":1"),
            ("LREM l -2 a", ":2"),
            ("LRANGE l 0 -1", "*4|$1|b|$1|a|$1|c|$1|b"),
            ("LREM l 0 b", ":2"),
            ("LREM l 0 q", ":0"),
            ("LREM l x q", NOT_INTEGER),
            (
                "LREM l -9223372036854775808 q",
                "-ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807",
            ),
            ("LREM l 9 a", ":1"),
            ("LREM l -9 c", ":1"),
            ("EXISTS l", ":0"),
            ("LREM l 0 a", ":0"),
            ("SET s v", "+OK"),
            ("LREM s 0 a", WRONG_TYPE),
        ]);
    }

    #[test]
    fn what_lies_outside_is_trimmed() {
        let mut bench = Bench::new();
        bench.check(&[
            ("RPUSH l a b c d e", ":5"),
            ("LTRIM l 1 -2", "+OK"),
            ("LRANGE l 0 -1", "*3|$1|b|$1|c|$1|d"),
            ("LTRIM l 0 100", "+OK"),
            ("LTRIM l -2 -1", "+OK"),
            ("LRANGE l 0 -1", "*2|$1|c|$1|d"),
            ("LTRIM l x 1", NOT_INTEGER),
            ("LTRIM l 5 9", "+OK"),
            ("EXISTS l", ":0"),
            ("LTRIM l 0 1", "+OK"),
            ("SET s v", "+OK"),
            ("LTRIM s 0 1", WRONG_TYPE),
        ]);
    }
}
