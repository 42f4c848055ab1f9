//! Taking from the ends.

use cairn_protocol::WireError;
use cairn_protocol::command::CommandId;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::Key;

use super::{count, end};
use crate::data::list::End;
use crate::data::string;
use crate::failure::Outcome;
use crate::keyspace::WriteContext;

/// LPOP key [count]
pub(crate) fn lpop(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    pop(cx, argv, End::Left, CommandId::LPop, w)
}

/// RPOP key [count]
pub(crate) fn rpop(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    pop(cx, argv, End::Right, CommandId::RPop, w)
}

fn pop(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    end: End,
    command: CommandId,
    w: &mut Writer<'_>,
) -> Outcome {
    let key = cx.key(&argv[1]);
    let wanted = match argv.len() {
        2 => None,
        3 => Some(count(&argv[2], 0, "ERR value is out of range, must be positive")?),
        _ => return Err(WireError::WrongArity(command.spec().name).into()),
    };
    let popped = match wanted {
        None => cx.read_list(&key, |list| {
            list.inwards(end, 1, &mut |_, element| string::reply_value(element, w).map(|()| true))?;
            Ok(1)
        })?,
        Some(wanted) => reply_from_end(cx, &key, end, wanted, w)?,
    };
    match (popped, wanted) {
        (Some(popped), _) => remove(cx, &key, end, popped),
        (None, None) => {
            w.null();
            Ok(())
        }
        (None, Some(_)) => {
            w.null_array();
            Ok(())
        }
    }
}

/// Replies with up to `wanted` elements from an end inwards; says how many those are.
fn reply_from_end(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    end: End,
    wanted: u64,
    w: &mut Writer<'_>,
) -> Outcome<Option<u64>> {
    cx.read_list(key, |list| {
        let popped = wanted.min(list.len());
        w.array(popped as usize);
        list.inwards(end, popped, &mut |_, element| {
            string::reply_value(element, w).map(|()| true)
        })?;
        Ok(popped)
    })
}

/// Removes elements at an end.
pub(super) fn remove(cx: &mut WriteContext<'_>, key: &Key<'_>, end: End, count: u64) -> Outcome {
    if count == 0 {
        return Ok(());
    }
    let limit = cx.limits.list();
    cx.change_list(key, 0, |list| {
        list.pop(end, count)?;
        list.has_shrunk(limit)
    })
}

/// LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count]
pub(crate) fn lmpop(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let keys = count(&argv[1], 1, "ERR numkeys should be greater than 0")?;
    let where_at = usize::try_from(keys).unwrap_or(usize::MAX).saturating_add(2);
    let end = end(argv.get(where_at).ok_or(WireError::Syntax)?)?;
    let wanted = match argv.len() - where_at {
        1 => 1,
        3 if argv[where_at + 1].eq_ignore_ascii_case(b"count") => {
            count(&argv[where_at + 2], 1, "ERR count should be greater than 0")?
        }
        _ => return lmpop_misspelt(argv, where_at),
    };
    for name in argv.iter().take(where_at).skip(2) {
        let key = cx.key(name);
        let before = w.position();
        w.array(2);
        w.bulk(name);
        if let Some(popped) = reply_from_end(cx, &key, end, wanted, w)? {
            return remove(cx, &key, end, popped);
        }
        w.truncate_to(before);
    }
    w.null_array();
    Ok(())
}

/// What follows LEFT or RIGHT is wrong: a count that is, comes before a word that is.
fn lmpop_misspelt(argv: Argv<'_>, where_at: usize) -> Outcome {
    if argv.get(where_at + 1).is_some_and(|word| word.eq_ignore_ascii_case(b"count"))
        && let Some(text) = argv.get(where_at + 2)
    {
        count(text, 1, "ERR count should be greater than 0")?;
    }
    Err(WireError::Syntax.into())
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    #[test]
    fn elements_are_popped_at_either_end() {
        let mut bench = Bench::new();
        let out_of_range = "-ERR value is out of range, must be positive";
        let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("RPUSH l a b c d e f", ":6"),
            ("LPOP l", "$1|a"),
            ("RPOP l", "$1|f"),
            ("LPOP l 2", "*2|$1|b|$1|c"),
            ("RPOP l 0", "*0"),
            ("RPOP l 10", "*2|$1|e|$1|d"),
            ("EXISTS l", ":0"),
            ("LPOP l", "$-1"),
            ("LPOP l 1", "*-1"),
            ("LPOP l 0", "*-1"),
            ("LPOP l -1", out_of_range),
            ("LPOP l x", out_of_range),
            ("LPOP l 1 1", "-ERR wrong number of arguments for 'lpop' command"),
            ("RPOP l 1 1", "-ERR wrong number of arguments for 'rpop' command"),
            ("SET s v", "+OK"),
            ("LPOP s", wrong_type),
            ("RPOP s 0", wrong_type),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("LPOP l", "_"), ("LPOP l 1", "_"), ("LMPOP 1 l LEFT", "_")]);
    }

    #[test]
    fn the_first_list_that_is_there_is_popped() {
        let mut bench = Bench::new();
        let numkeys = "-ERR numkeys should be greater than 0";
        bench.check(&[
            ("RPUSH l a b c d", ":4"),
            ("LMPOP 2 x l LEFT", "*2|$1|l|*1|$1|a"),
            ("LMPOP 2 x l right COUNT 2", "*2|$1|l|*2|$1|d|$1|c"),
            ("LMPOP 1 l LEFT COUNT 10", "*2|$1|l|*1|$1|b"),
            ("LMPOP 2 x l LEFT", "*-1"),
            ("LMPOP 0 l LEFT", numkeys),
            ("LMPOP x l LEFT", numkeys),
            ("LMPOP 2 l LEFT", "-ERR syntax error"),
            ("LMPOP 9223372036854775807 l LEFT", "-ERR syntax error"),
            ("LMPOP 1 l UP", "-ERR syntax error"),
            ("LMPOP 1 l LEFT COUNT", "-ERR syntax error"),
            ("LMPOP 1 l LEFT COUNT 0", "-ERR count should be greater than 0"),
            ("LMPOP 1 l LEFT COUNT 1 COUNT 1", "-ERR syntax error"),
            ("SET s v", "+OK"),
            (
                "LMPOP 2 x s LEFT",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }
}
