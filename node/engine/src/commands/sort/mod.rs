//! SORT and SORT_RO: the elements of a list, a set or a sorted set in another order, or what keys
//! named after them hold.

mod order;
mod pattern;

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::list::listpack_len;
use cairn_store::{Store, Type, Value};

use crate::data::gathered::Gathered;
use crate::data::list::{End, List};
use crate::data::members::Members;
use crate::data::string;
use crate::data::zset::ZSet;
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch, WriteContext};
use order::sorted;
use pattern::Pattern;

/// How much may be gathered before it is asked again whether there is room.
const ASKED_AHEAD_BYTES: u64 = 1 << 20;

/// What is asked for.
struct Options<'a> {
    by: Option<Pattern<'a>>,
    /// BY something that names no key was asked for, at any place.
    keeps_order: bool,
    get: Vec<Pattern<'a>>,
    offset: i64,
    /// Negative: all.
    count: i64,
    descending: bool,
    alphabetic: bool,
    destination: Option<&'a [u8]>,
}

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC|DESC] [ALPHA]
/// [STORE destination]
pub(super) fn sort(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let options = Options::parse(argv, true)?;
    let mut source = cx.as_reader();
    let Some(destination) = options.destination else {
        let outcome = reply(&mut source, &argv[1], &options, w);
        let read = source.effects;
        cx.effects += read;
        return outcome;
    };
    let mut result = Gathered::default();
    let chosen = Chosen::find(&mut source, &argv[1], &options)?;
    // A short list may ask for a huge value again and again: what there is no room for is not
    // gathered first.
    let (mut cost, mut admitted) = (0u64, 0);
    chosen.show(&mut source, &options, &mut |value| {
        cost = cost.saturating_add(Store::element_cost(value.map_or(0, |value| value.len())));
        if cost > admitted {
            if !cx.store.room_for(cost) {
                return Err(WireError::OutOfMemory.into());
            }
            admitted = cost.saturating_add(ASKED_AHEAD_BYTES);
        }
        match value {
            Some(value) => result.push_value(value)?,
            None => result.push(b""),
        }
        Ok(())
    })?;
    let read = source.effects;
    cx.effects += read;
    store(cx, destination, &result)?;
    w.int(result.len() as i64);
    Ok(())
}

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC|DESC] [ALPHA]
pub(super) fn sort_ro(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    reply(cx, &argv[1], &Options::parse(argv, false)?, w)
}

fn reply(
    cx: &mut ReadContext<'_>,
    key: &[u8],
    options: &Options<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let chosen = Chosen::find(cx, key, options)?;
    w.array(chosen.places.len() * options.get.len().max(1));
    chosen.show(cx, options, &mut |value| {
        match value {
            Some(value) => string::reply_value(value, w)?,
            None => w.null(),
        }
        Ok(())
    })
}

/// Makes the key a list of these elements, whatever it was.
fn store(cx: &mut WriteContext<'_>, destination: &[u8], elements: &Gathered) -> Outcome {
    let key = cx.key(destination);
    if elements.len() == 0 {
        if cx.exists(&key)? {
            cx.remove(&key)?;
        }
        return Ok(());
    }
    let (mut cost, mut listpack_bytes) =
        (Store::cost(destination.len(), 0) + Store::list_cost(), 0);
    for element in elements.iter() {
        cost += Store::element_cost(element.len() as u64);
        listpack_bytes += listpack_len(element);
    }
    cx.reserve(cost)?;
    cx.store.remove(cx.db, &key)?;
    let limit = cx.limits.list();
    // What is reserved already costs no more.
    cx.change_list(&key, 0, |list| {
        list.will_grow(limit, elements.len() as u64, listpack_bytes)?;
        elements.iter().try_for_each(|element| list.push(End::Right, element))
    })
}

impl<'a> Options<'a> {
    fn parse(argv: Argv<'a>, may_store: bool) -> Outcome<Options<'a>> {
        let mut options = Options {
            by: None,
            keeps_order: false,
            get: Vec::new(),
            offset: 0,
            count: -1,
            descending: false,
            alphabetic: false,
            destination: None,
        };
        let mut args = Args::new(argv, 2);
        while !args.is_empty() {
            options.take(&mut args, may_store)?;
        }
        Ok(options)
    }

    fn take(&mut self, args: &mut Args<'a>, may_store: bool) -> Outcome {
        if args.keyword("ASC") {
            self.descending = false;
        } else if args.keyword("DESC") {
            self.descending = true;
        } else if args.keyword("ALPHA") {
            self.alphabetic = true;
        } else if args.left() > 2 && args.keyword("LIMIT") {
            (self.offset, self.count) = (args.int()?, args.int()?);
        } else if let Some(pattern) = args.keyword_with_value("BY") {
            let by = Pattern::new(pattern);
            self.keeps_order |= !by.is_a_pattern();
            self.by = Some(by);
        } else if let Some(pattern) = args.keyword_with_value("GET") {
            self.get.push(Pattern::new(pattern));
        } else if may_store && let Some(key) = args.keyword_with_value("STORE") {
            self.destination = Some(key);
        } else {
            return Err(WireError::Syntax.into());
        }
        Ok(())
    }
}

/// The elements that were asked for, in their order.
struct Chosen {
    elements: Gathered,
    /// Of `elements`.
    places: Vec<u32>,
}

impl Chosen {
    fn find(cx: &mut ReadContext<'_>, key: &[u8], options: &Options<'_>) -> Outcome<Chosen> {
        let mut chosen = Chosen { elements: Gathered::default(), places: Vec::new() };
        let Some(is_set) = gather(cx, key, options, &mut chosen.elements)? else {
            return Ok(chosen);
        };
        chosen.places = (0..chosen.elements.len() as u32).collect();
        if !options.keeps_order {
            let by = options.by.as_ref();
            sorted(cx, &chosen.elements, &mut chosen.places, by, options)?;
        } else if is_set && options.destination.is_some() {
            // A set has no order: what is stored is made to have one.
            sorted_by_name(&mut chosen, options.descending);
        } else if !is_set && options.descending {
            chosen.places.reverse();
        }
        let start = (options.offset.max(0) as usize).min(chosen.places.len());
        chosen.places.drain(..start);
        if let Ok(count) = usize::try_from(options.count) {
            chosen.places.truncate(count);
        }
        Ok(chosen)
    }

    /// Shows `visit` each element, or what was asked for with GET instead.
    fn show(
        &self,
        cx: &mut ReadContext<'_>,
        options: &Options<'_>,
        visit: &mut dyn FnMut(Option<Value<'_>>) -> Outcome,
    ) -> Outcome {
        for &place in &self.places {
            let element = self.elements.get(place as usize);
            if options.get.is_empty() {
                visit(Some(Value::Inline(element)))?;
            }
            for pattern in &options.get {
                pattern.look_up(cx, element, &mut *visit)?;
            }
        }
        Ok(())
    }
}

fn sorted_by_name(chosen: &mut Chosen, descending: bool) {
    let elements = &chosen.elements;
    chosen.places.sort_by(|&a, &b| {
        let order = elements.get(a as usize).cmp(elements.get(b as usize));
        if descending { order.reverse() } else { order }
    });
}

/// Gathers the elements of the collection at a key; says whether it is a set, and `None` when there
/// is no such key.
fn gather(
    cx: &mut ReadContext<'_>,
    key: &[u8],
    options: &Options<'_>,
    into: &mut Gathered,
) -> Outcome<Option<bool>> {
    let Some(record) = cx.find(key, Touch::Use)? else { return Ok(None) };
    let lookups = options.get.len() as u64 + u64::from(options.by.is_some()) + 1;
    match record.ty() {
        Type::List => {
            let list = List::of(&cx.view, &record)?;
            cx.may_take(list.len().saturating_mul(lookups))?;
            list.walk(0, false, &mut |_, element| into.push_value(element).map(|()| true))?;
        }
        Type::Set => {
            let set = Members::of(&cx.view, &record, Type::Set)?;
            cx.may_take(set.len().saturating_mul(lookups))?;
            set.for_each(&mut |member, _| {
                into.push(member);
                Ok(true)
            })?;
        }
        Type::ZSet => {
            let set = ZSet::of(&cx.view, &record)?;
            cx.may_take(set.len().saturating_mul(lookups))?;
            set.for_each(&mut |member, _| {
                into.push(member);
                Ok(true)
            })?;
        }
        _ => return Err(WireError::WrongType.into()),
    }
    Ok(Some(record.ty() == Type::Set))
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const NOT_NUMBERS: &str = "-ERR One or more scores can't be converted into double";
    const SYNTAX: &str = "-ERR syntax error";

    fn filled() -> Bench {
        let mut bench = Bench::new();
        bench.check(&[
            ("RPUSH l 3 1 2", ":3"),
            ("RPUSH words b a C c", ":4"),
            ("SADD s 3 1 2", ":3"),
            ("SADD names b a", ":2"),
            ("ZADD z 1 c 2 a 3 b", ":3"),
            ("MSET w_1 9 w_2 8 w_3 7 o_1 one o_2 two", "+OK"),
            ("HSET h_1 f 5 g x", ":2"),
            ("HSET h_2 f 4", ":1"),
            ("HSET h_3 f 3", ":1"),
            ("SET str v", "+OK"),
        ]);
        bench
    }

    #[test]
    fn a_value_asked_for_again_and_again_is_stored_only_where_there_is_room() {
        let mut bench = Bench::full_at(1 << 20);
        let large = vec![b'9'; 50_000];
        bench.run(&[b"SET", b"w_1", &large]);
        bench.run(&[&[&b"RPUSH"[..], b"l"][..], &[&b"1"[..]; 100]].concat());
        bench.check(&[
            ("SET d v", "+OK"),
            (
                "SORT l BY nosort GET w_* STORE d",
                "-OOM command not allowed when used memory > 'maxmemory'.",
            ),
            ("GET d", "$1|v"),
            ("SORT l BY w_* ALPHA LIMIT 0 1", "*1|$1|1"),
            ("SORT l BY nosort GET w_* LIMIT 0 2 STORE d", ":2"),
            ("LLEN d", ":2"),
        ]);
    }

    #[test]
    fn elements_are_sorted_as_numbers_or_as_words() {
        filled().check(&[
            ("SORT l", "*3|$1|1|$1|2|$1|3"),
            ("SORT_RO l DESC", "*3|$1|3|$1|2|$1|1"),
            ("SORT l DESC ASC", "*3|$1|1|$1|2|$1|3"),
            ("SORT words", NOT_NUMBERS),
            ("SORT words ALPHA", "*4|$1|C|$1|a|$1|b|$1|c"),
            ("SORT words ALPHA DESC", "*4|$1|c|$1|b|$1|a|$1|C"),
            ("SORT s DESC", "*3|$1|3|$1|2|$1|1"),
            ("SORT z", NOT_NUMBERS),
            ("SORT z ALPHA", "*3|$1|a|$1|b|$1|c"),
            ("RPUSH f 1.5 -2 inf 1e3 0x1p1", ":5"),
            ("SORT f", "*5|$2|-2|$3|1.5|$5|0x1p1|$3|1e3|$3|inf"),
            ("SORT nokey", "*0"),
        ]);
    }

    #[test]
    fn a_part_may_be_asked_for() {
        filled().check(&[
            ("SORT l LIMIT 1 1", "*1|$1|2"),
            ("SORT l LIMIT -5 2", "*2|$1|1|$1|2"),
            ("SORT l LIMIT 0 -1", "*3|$1|1|$1|2|$1|3"),
            ("SORT l LIMIT 1 0", "*0"),
            ("SORT l limit 5 5", "*0"),
            ("SORT l LIMIT 1 9223372036854775807", "*2|$1|2|$1|3"),
            ("SORT l LIMIT 9223372036854775807 1", "*0"),
            ("SORT l LIMIT x 1", "-ERR value is not an integer or out of range"),
            ("SORT l LIMIT 1", SYNTAX),
        ]);
    }

    #[test]
    fn other_keys_may_decide_the_order() {
        filled().check(&[
            ("SORT l BY w_*", "*3|$1|3|$1|2|$1|1"),
            ("SORT l BY h_*->f", "*3|$1|3|$1|2|$1|1"),
            ("SORT l BY h_*", "*3|$1|1|$1|2|$1|3"),
            ("SORT l BY nosuch_*", "*3|$1|1|$1|2|$1|3"),
            ("SORT l BY w_* BY nosuch", "*3|$1|3|$1|1|$1|2"),
            ("SORT l BY nosuch BY w_*", "*3|$1|3|$1|1|$1|2"),
            ("SORT l BY o_*", NOT_NUMBERS),
            ("SORT l BY o_* ALPHA", "*3|$1|3|$1|1|$1|2"),
            ("SORT l BY #", "*3|$1|3|$1|1|$1|2"),
        ]);
    }

    #[test]
    fn an_order_that_is_there_may_be_kept() {
        filled().check(&[
            ("SORT l BY nosuch", "*3|$1|3|$1|1|$1|2"),
            ("SORT l BY nosuch DESC LIMIT 0 2", "*2|$1|2|$1|1"),
            ("SORT z BY nosuch", "*3|$1|c|$1|a|$1|b"),
            ("SORT z BY nosuch DESC LIMIT 1 1", "*1|$1|a"),
            ("SORT words BY nosuch LIMIT 2 9", "*2|$1|C|$1|c"),
            ("SORT names BY nosuch DESC", "*2|$1|b|$1|a"),
            ("SORT names BY nosuch STORE d", ":2"),
            ("LRANGE d 0 -1", "*2|$1|a|$1|b"),
        ]);
    }

    #[test]
    fn other_keys_may_be_shown_instead() {
        filled().check(&[
            ("SORT l GET o_*", "*3|$3|one|$3|two|$-1"),
            ("SORT l GET h_*->g GET # GET o_*", "*9|$1|x|$1|1|$3|one|$-1|$1|2|$3|two|$-1|$1|3|$-1"),
            ("SORT l GET h_* LIMIT 0 1", "*1|$-1"),
            ("SORT l GET h_*-> LIMIT 0 1", "*1|$-1"),
            ("SORT l GET o_1 LIMIT 0 1", "*1|$-1"),
            ("SORT l GET -> LIMIT 0 1", "*1|$-1"),
            ("SORT l GET", SYNTAX),
        ]);
    }

    #[test]
    fn results_are_stored_as_lists_and_replace_what_was_there() {
        let mut bench = filled();
        bench.check(&[
            ("SET d v EX 100", "+OK"),
            ("SORT l STORE d", ":3"),
            ("LRANGE d 0 -1", "*3|$1|1|$1|2|$1|3"),
            ("TTL d", ":-1"),
            ("SORT l GET o_* STORE d", ":3"),
            ("LRANGE d 0 -1", "*3|$3|one|$3|two|$0|"),
            ("SORT l DESC STORE l", ":3"),
            ("LRANGE l 0 -1", "*3|$1|3|$1|2|$1|1"),
            ("SORT nokey STORE d", ":0"),
            ("EXISTS d", ":0"),
            ("SORT l LIMIT 5 5 STORE l", ":0"),
            ("EXISTS l", ":0"),
            ("SORT words STORE d", NOT_NUMBERS),
            ("SORT_RO s STORE d", SYNTAX),
            ("EXISTS d", ":0"),
        ]);
        let members: Vec<String> = (0..3000).rev().map(|n| n.to_string()).collect();
        for some in members.chunks(500) {
            bench.check(&[(&format!("SADD many {}", some.join(" ")), ":500")]);
        }
        bench.check(&[
            ("SORT many STORE d", ":3000"),
            ("LRANGE d 0 1", "*2|$1|0|$1|1"),
            ("LINDEX d -1", "$4|2999"),
            ("OBJECT ENCODING d", "$9|quicklist"),
            ("SORT many LIMIT 0 10 STORE d", ":10"),
            ("OBJECT ENCODING d", "$8|listpack"),
        ]);
        assert_eq!(bench.effects.changed, 0);
        bench.check(&[("SORT many LIMIT 0 10 STORE d", ":10")]);
        assert_eq!(bench.effects.changed, 1);
        assert!(bench.defers("SORT_RO many"));
        assert!(!bench.defers("SORT_RO d"));
    }

    #[test]
    fn refuses_what_redis_refuses() {
        let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        filled().check(&[
            ("SORT str", wrong_type),
            ("SORT str STORE str", wrong_type),
            ("SORT nokey FOO", SYNTAX),
            ("SORT str FOO", SYNTAX),
            ("SORT l BY", SYNTAX),
            ("SORT l STORE", SYNTAX),
        ]);
    }
}
