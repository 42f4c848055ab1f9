//! From one list to another, or around.

use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};

use super::{end, pop};
use crate::data::list::End;
use crate::failure::Outcome;
use crate::keyspace::{WriteContext, cost_of};

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT
pub(crate) fn lmove(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    move_element(cx, argv, end(&argv[3])?, end(&argv[4])?, w)
}

/// RPOPLPUSH source destination
pub(crate) fn rpoplpush(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    move_element(cx, argv, End::Right, End::Left, w)
}

fn move_element(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    from_end: End,
    to_end: End,
    w: &mut Writer<'_>,
) -> Outcome {
    let (from, to) = (cx.key(&argv[1]), cx.key(&argv[2]));
    let element = cx.read_list(&from, |list| {
        let mut element = Vec::new();
        list.inwards(from_end, 1, &mut |_, value| {
            element = value.to_vec()?;
            Ok(false)
        })?;
        Ok(element)
    })?;
    let Some(element) = element else {
        w.null();
        return Ok(());
    };
    // Redis does not count an integer that comes out of a list.
    let bytes = if parse_i64(&element).is_some() { 0 } else { element.len() as u64 };
    let (limit, cost) = (cx.limits.list(), cost_of([&element[..]].into_iter()));
    if from.bytes == to.bytes {
        cx.change_list(&to, cost, |list| {
            list.pop(from_end, 1)?;
            list.will_grow(limit, 1, bytes)?;
            list.push(to_end, &element)?;
            list.has_shrunk(limit)
        })?;
    } else {
        cx.change_list(&to, cost, |list| {
            list.will_grow(limit, 1, bytes)?;
            list.push(to_end, &element)
        })?;
        pop::remove(cx, &from, from_end, 1)?;
    }
    w.bulk(&element);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    #[test]
    fn an_element_moves() {
        let mut bench = Bench::new();
        let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("RPUSH l a b c", ":3"),
            ("LMOVE l m LEFT RIGHT", "$1|a"),
            ("LMOVE l m right left", "$1|c"),
            ("LRANGE m 0 -1", "*2|$1|c|$1|a"),
            ("RPOPLPUSH l m", "$1|b"),
            ("EXISTS l", ":0"),
            ("RPOPLPUSH l m", "$-1"),
            ("LMOVE l m LEFT UP", "-ERR syntax error"),
            ("LMOVE m m LEFT RIGHT", "$1|b"),
            ("RPOPLPUSH m m", "$1|b"),
            ("LRANGE m 0 -1", "*3|$1|b|$1|c|$1|a"),
            ("SET s v", "+OK"),
            ("LMOVE m s LEFT LEFT", wrong_type),
            ("LMOVE s m LEFT LEFT", wrong_type),
            ("LMOVE nosuch s LEFT LEFT", "$-1"),
            ("LLEN m", ":3"),
            ("RPUSH one x", ":1"),
            ("EXPIRE one 10", ":1"),
            ("LMOVE one one LEFT LEFT", "$1|x"),
            ("TTL one", ":10"),
        ]);
    }
}
