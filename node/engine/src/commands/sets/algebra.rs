//! Intersections, unions and differences.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Meta, Type};

use crate::data::gathered::Gathered;
use crate::data::limits::SetLimits;
use crate::data::members::{Members, require};
use crate::data::set;
use crate::failure::{Failure, Outcome};
use crate::keyspace::{ReadContext, WriteContext};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Intersection,
    Union,
    Difference,
}

/// SINTER key [key ...]
pub(crate) fn sinter(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    read(cx, argv, Operation::Intersection, w)
}

/// SUNION key [key ...]
pub(crate) fn sunion(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    read(cx, argv, Operation::Union, w)
}

/// SDIFF key [key ...]
pub(crate) fn sdiff(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    read(cx, argv, Operation::Difference, w)
}

fn read(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    operation: Operation,
    w: &mut Writer<'_>,
) -> Outcome {
    let sources = Sources::read(cx, argv.iter().skip(1))?;
    cx.may_take(sources.steps(operation))?;
    let result = sources.result(operation)?;
    w.set(result.len());
    result.reply(w);
    Ok(())
}

/// SINTERCARD numkeys key [key ...] [LIMIT limit]
pub(crate) fn sintercard(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let keys = parse_i64(&argv[1]).and_then(|keys| usize::try_from(keys).ok()).unwrap_or(0);
    if keys == 0 {
        return Err(Failure::reply("ERR numkeys should be greater than 0"));
    }
    if keys > argv.len() - 2 {
        return Err(Failure::reply("ERR Number of keys can't be greater than number of args"));
    }
    let limit = limit(Args::new(argv, 2 + keys))?;
    let sources = Sources::read(cx, argv.iter().skip(2).take(keys))?;
    cx.may_take(sources.steps(Operation::Intersection).min(limit))?;
    let mut count = 0;
    sources.intersection(&mut |_| {
        count += 1;
        count < limit
    })?;
    w.int(count as i64);
    Ok(())
}

/// How far SINTERCARD counts.
fn limit(mut args: Args<'_>) -> Outcome<u64> {
    let mut limit = 0;
    while !args.is_empty() {
        let value = args.keyword_with_value("LIMIT").ok_or(WireError::Syntax)?;
        limit = parse_i64(value)
            .and_then(|limit| u64::try_from(limit).ok())
            .ok_or(Failure::reply("ERR LIMIT can't be negative"))?;
    }
    Ok(if limit == 0 { u64::MAX } else { limit })
}

/// SINTERSTORE destination key [key ...]
pub(crate) fn sinterstore(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    store(cx, argv, Operation::Intersection, w)
}

/// SUNIONSTORE destination key [key ...]
pub(crate) fn sunionstore(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    store(cx, argv, Operation::Union, w)
}

/// SDIFFSTORE destination key [key ...]
pub(crate) fn sdiffstore(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    store(cx, argv, Operation::Difference, w)
}

fn store(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    operation: Operation,
    w: &mut Writer<'_>,
) -> Outcome {
    let names = argv.iter().skip(2);
    for name in names.clone() {
        let key = cx.key(name);
        cx.read(&key, |record| require(record, Type::Set))?;
    }
    let sources = Sources::stored(cx, names)?;
    let result = sources.result(operation)?;
    let encoding = sources.encoding(cx.limits.set(), operation, &result)?;
    let meta = Meta { ty: Type::Set, encoding, deadline_ms: None };
    cx.put_set(&cx.key(&argv[1]), meta, &result, true)?;
    w.int(result.len() as i64);
    Ok(())
}

/// The sets of a command, in its order; a key that does not exist is an empty set.
struct Sources<'a>(Vec<Option<Members<'a>>>);

impl<'a> Sources<'a> {
    fn read<'k>(
        cx: &mut ReadContext<'a>,
        names: impl Iterator<Item = &'k [u8]>,
    ) -> Outcome<Sources<'a>> {
        names.map(|name| cx.members(name, Type::Set)).collect::<Outcome<_>>().map(Sources)
    }

    /// Those of a writing command, whose keys it has looked up.
    fn stored<'k>(
        cx: &'a WriteContext<'_>,
        names: impl Iterator<Item = &'k [u8]>,
    ) -> Outcome<Sources<'a>> {
        let view = cx.store.view();
        let set = |name| match view.get(cx.db, &cx.key(name))? {
            Some(record) => Members::of(&view, &record, Type::Set).map(Some),
            None => Ok(None),
        };
        names.map(set).collect::<Outcome<_>>().map(Sources)
    }

    fn len_of(set: &Option<Members<'_>>) -> u64 {
        set.as_ref().map_or(0, Members::len)
    }

    /// Members to go through, about.
    fn steps(&self, operation: Operation) -> u64 {
        let lens = self.0.iter().map(Self::len_of);
        match operation {
            Operation::Intersection => lens.min().unwrap_or(0),
            Operation::Union => lens.sum(),
            Operation::Difference => lens.take(1).sum(),
        }
    }

    fn result(&self, operation: Operation) -> Outcome<Gathered> {
        let mut result = Gathered::default();
        match operation {
            Operation::Intersection => self.intersection(&mut |member| {
                result.push(member);
                true
            })?,
            Operation::Union => {
                for (index, set) in self.0.iter().enumerate() {
                    missing_from(&self.0[..index], set, &mut result)?;
                }
            }
            Operation::Difference => missing_from(&self.0[1..], &self.0[0], &mut result)?,
        }
        Ok(result)
    }

    /// Shows `visit` what is in all sets, until it says `false`.
    fn intersection(&self, visit: &mut dyn FnMut(&[u8]) -> bool) -> Outcome {
        let Some(mut sets) = self.0.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        // The smallest is gone through, the others are asked, small ones first.
        sets.sort_by_key(|set| set.len());
        let Some((smallest, others)) = sets.split_first() else { return Ok(()) };
        let mut failure = Ok(());
        smallest.for_each(&mut |member, _| {
            match in_all(others, member) {
                Ok(true) => return Ok(visit(member)),
                Ok(false) => {}
                Err(error) => failure = Err(error),
            }
            Ok(failure.is_ok())
        })?;
        failure
    }

    /// The encoding that Redis's way to the result leaves it with.
    fn encoding(
        &self,
        limits: SetLimits,
        operation: Operation,
        result: &Gathered,
    ) -> Outcome<Encoding> {
        if operation != Operation::Difference || !self.subtracts_in_place() {
            return Ok(set::encoding_of(limits, result.iter()));
        }
        // The first set was copied and the others' members removed from the copy.
        let (mut encoding, mut len) = (Encoding::Intset, 0);
        if let Some(first) = &self.0[0] {
            first.for_each(&mut |member, _| {
                len += 1;
                encoding = set::encoding_with(limits, encoding, member, len);
                Ok(true)
            })?;
        }
        Ok(encoding)
    }

    /// Whether Redis finds it cheaper to go through the sets that are subtracted.
    fn subtracts_in_place(&self) -> bool {
        let sets = self.0.iter().flatten().count() as u64;
        let first = Self::len_of(&self.0[0]);
        let asking_each = (sets * first) / 2;
        let removing_all: u64 = self.0.iter().map(Self::len_of).sum();
        asking_each > removing_all
    }
}

fn in_all(sets: &[&Members<'_>], member: &[u8]) -> Outcome<bool> {
    for set in sets {
        if !set.contains(member)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds the members of `set` that none of `others` has.
fn missing_from(
    others: &[Option<Members<'_>>],
    set: &Option<Members<'_>>,
    result: &mut Gathered,
) -> Outcome {
    let Some(set) = set else { return Ok(()) };
    let mut failure = Ok(());
    set.for_each(&mut |member, _| {
        let mut others = others.iter().flatten();
        let found = others.try_fold(false, |found, set| Ok(found || set.contains(member)?));
        match found {
            Ok(true) => {}
            Ok(false) => result.push(member),
            Err(error) => failure = Err(error),
        }
        Ok(failure.is_ok())
    })?;
    failure
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn results_of_small_sets() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SADD a 1 2 3", ":3"),
            ("SADD b 2 3 4", ":3"),
            ("SADD c 3", ":1"),
            ("SINTER a b", "*2|$1|2|$1|3"),
            ("SINTER a b c", "*1|$1|3"),
            ("SINTER a", "*3|$1|1|$1|2|$1|3"),
            ("SINTER a x", "*0"),
            ("SUNION a b x", "*4|$1|1|$1|2|$1|3|$1|4"),
            ("SDIFF a b", "*1|$1|1"),
            ("SDIFF a x", "*3|$1|1|$1|2|$1|3"),
            ("SDIFF x a", "*0"),
            ("SDIFF a a", "*0"),
            ("SINTERCARD 2 a b", ":2"),
            ("SINTERCARD 2 a b LIMIT 1", ":1"),
            ("SINTERCARD 2 a b limit 0", ":2"),
            ("SINTERCARD 2 a x", ":0"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[
            ("SINTER c a", "~1|$1|3"),
            ("SUNION c", "~1|$1|3"),
            ("SDIFF a b", "~1|$1|1"),
            ("SDIFF x", "~0"),
        ]);
    }

    #[test]
    fn results_are_stored_and_replace_what_was_there() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SADD a 1 2 3", ":3"),
            ("SADD b 2 3 4", ":3"),
            ("SET d v EX 100", "+OK"),
            ("SINTERSTORE d a b", ":2"),
            ("SMEMBERS d", "*2|$1|2|$1|3"),
            ("TTL d", ":-1"),
            ("SUNIONSTORE d a b", ":4"),
            ("SDIFFSTORE d d b", ":1"),
            ("SMEMBERS d", "*1|$1|1"),
            ("SUNIONSTORE a a b", ":4"),
            ("SCARD a", ":4"),
            ("SDIFFSTORE d a a", ":0"),
            ("EXISTS d", ":0"),
            ("SET d v", "+OK"),
            ("SUNIONSTORE d x", ":0"),
            ("EXISTS d", ":0"),
        ]);
    }

    #[test]
    fn refuses_what_redis_refuses() {
        let mut bench = Bench::new();
        let keys = "-ERR numkeys should be greater than 0";
        bench.check(&[
            ("SADD a 1", ":1"),
            ("SET str v", "+OK"),
            ("SINTER x str", WRONG_TYPE),
            ("SUNION x str", WRONG_TYPE),
            ("SDIFF a str", WRONG_TYPE),
            ("SINTERSTORE d x str", WRONG_TYPE),
            ("SUNIONSTORE d a str", WRONG_TYPE),
            ("SDIFFSTORE d x str", WRONG_TYPE),
            ("EXISTS d", ":0"),
            ("SINTERCARD 0 a", keys),
            ("SINTERCARD x a", keys),
            ("SINTERCARD -1 a", keys),
            ("SINTERCARD 2 a", "-ERR Number of keys can't be greater than number of args"),
            ("SINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative"),
            ("SINTERCARD 1 a LIMIT x", "-ERR LIMIT can't be negative"),
            ("SINTERCARD 1 a LIMIT", "-ERR syntax error"),
            ("SINTERCARD 1 a FOO 1", "-ERR syntax error"),
            ("SINTERCARD 2 x str", WRONG_TYPE),
        ]);
    }

    #[test]
    fn large_sets_agree_with_the_standard_library() {
        let mut bench = Bench::new();
        let set = |from: u32, to: u32| (from..to).map(|n| format!("m{n}")).collect::<BTreeSet<_>>();
        let sets = [set(0, 2000), set(1000, 2500), set(1990, 2010)];
        for (name, set) in ["a", "b", "c"].iter().zip(&sets) {
            let members: Vec<&str> = set.iter().map(String::as_str).collect();
            for some in members.chunks(500) {
                bench.run(
                    &[
                        &[&b"SADD"[..], name.as_bytes()],
                        &some.iter().map(|m| m.as_bytes()).collect::<Vec<_>>()[..],
                    ]
                    .concat(),
                );
            }
        }
        let [a, b, c] = &sets;
        let inter: BTreeSet<_> = a.intersection(b).filter(|m| c.contains(*m)).cloned().collect();
        let union: BTreeSet<_> =
            a.union(b).cloned().collect::<BTreeSet<_>>().union(c).cloned().collect();
        let diff: BTreeSet<_> = a.difference(b).filter(|m| !c.contains(*m)).cloned().collect();
        for (command, wanted) in [("SINTER", inter), ("SUNION", union), ("SDIFF", diff)] {
            let reply =
                String::from_utf8(bench.run(&[command.as_bytes(), b"a", b"b", b"c"])).unwrap();
            let got: BTreeSet<_> =
                reply.split("\r\n").filter(|l| l.starts_with('m')).map(str::to_owned).collect();
            assert_eq!(got, wanted, "{command}");
            let count = format!(":{}", wanted.len());
            bench.check(&[(&format!("{command}STORE d a b c"), &count), ("SCARD d", &count)]);
        }
    }

    #[test]
    fn encodings_of_results_are_those_of_redis() {
        let mut bench = Bench::new();
        let numbers = |n: i64| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        for command in [
            format!("SADD many {}", numbers(500)),
            format!("SADD mixed {} x", numbers(300)),
            format!("SADD tail {}", (10..300).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")),
            "SADD few 1 2 x".to_owned(),
        ] {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            bench.run(&words);
        }
        let encoding = "OBJECT ENCODING d";
        bench.check(&[
            ("SINTERSTORE d many mixed", ":300"),
            (encoding, "$6|intset"),
            ("SUNIONSTORE d many few", ":501"),
            (encoding, "$9|hashtable"),
            ("SUNIONSTORE d few", ":3"),
            (encoding, "$8|listpack"),
            // One set to subtract: each member is looked up, the result is made anew.
            ("SDIFFSTORE d mixed tail", ":11"),
            (encoding, "$8|listpack"),
            // Three small ones: they are taken out of a copy, which stays what it was.
            ("SDIFFSTORE d mixed few few few", ":298"),
            (encoding, "$9|hashtable"),
            ("SDIFFSTORE d many few few few", ":498"),
            (encoding, "$6|intset"),
        ]);
    }
}
