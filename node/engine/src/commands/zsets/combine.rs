//! Unions, intersections and differences, of sorted sets and of plain sets whose members count as
//! having score 1.

use cairn_protocol::WireError;
use cairn_protocol::command::{Args, CommandId};
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Key, Record, Type, View};

use super::{begin_members, reply_member};
use crate::data::members::Members;
use crate::data::zset::{self, Member, ZSet};
use crate::failure::{Failure, Outcome};
use crate::keyspace::{ReadContext, Touch, WriteContext};

/// ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM | MIN | MAX]
/// [WITHSCORES]
pub(crate) fn zunion(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    reply(cx, argv, CommandId::ZUnion, Operation::Union, w)
}

/// ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM | MIN | MAX]
/// [WITHSCORES]
pub(crate) fn zinter(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    reply(cx, argv, CommandId::ZInter, Operation::Intersection, w)
}

/// ZDIFF numkeys key [key ...] [WITHSCORES]
pub(crate) fn zdiff(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    reply(cx, argv, CommandId::ZDiff, Operation::Difference, w)
}

/// ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]]
/// [AGGREGATE SUM | MIN | MAX]
pub(crate) fn zunionstore(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    store(cx, argv, CommandId::ZUnionStore, Operation::Union, w)
}

/// ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]]
/// [AGGREGATE SUM | MIN | MAX]
pub(crate) fn zinterstore(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    store(cx, argv, CommandId::ZInterStore, Operation::Intersection, w)
}

/// ZDIFFSTORE destination numkeys key [key ...]
pub(crate) fn zdiffstore(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    store(cx, argv, CommandId::ZDiffStore, Operation::Difference, w)
}

/// ZINTERCARD numkeys key [key ...] [LIMIT limit]
pub(crate) fn zintercard(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let names = names(argv, 1, CommandId::ZInterCard)?;
    let mut inputs = inputs_to_read(cx, names)?;
    let mut args = Args::new(argv, 2 + names.len());
    let mut limit = 0;
    while !args.is_empty() {
        let text = args.keyword_with_value("LIMIT").ok_or(WireError::Syntax)?;
        let given = cairn_protocol::number::parse_i64(text).and_then(|n| u64::try_from(n).ok());
        limit = given.ok_or(Failure::reply("ERR LIMIT can't be negative"))?;
    }
    let limit = if limit == 0 { u64::MAX } else { limit };
    sort_by_len(&mut inputs);
    cx.may_take(inputs[0].len())?;
    let mut count = 0;
    intersect(&inputs, Aggregate::Sum, &mut |_, _| {
        count += 1;
        count < limit
    })?;
    w.int(count as i64);
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the scores of a member of several sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(word: &[u8]) -> Result<Aggregate, WireError> {
        let words = [("SUM", Self::Sum), ("MIN", Self::Min), ("MAX", Self::Max)];
        let meant = words.iter().find(|(known, _)| word.eq_ignore_ascii_case(known.as_bytes()));
        meant.map(|(_, aggregate)| *aggregate).ok_or(WireError::Syntax)
    }

    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => number_or_zero(a + b),
            Self::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Self::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// Infinities of both signs add up to 0, and so many times none is 0.
fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// A key of the command, with the weight of its scores.
struct Input<'a> {
    source: Source<'a>,
    weight: f64,
}

enum Source<'a> {
    Nothing,
    Sorted(ZSet<'a>),
    Plain(Members<'a>),
}

impl<'a> Source<'a> {
    fn of(view: &View<'a>, record: &Record<'a>) -> Outcome<Source<'a>> {
        Ok(match record.ty() {
            Type::Set => Source::Plain(Members::of(view, record, Type::Set)?),
            _ => Source::Sorted(ZSet::of(view, record)?),
        })
    }
}

impl<'a> Input<'a> {
    fn new(source: Source<'a>) -> Input<'a> {
        Input { source, weight: 1.0 }
    }

    fn len(&self) -> u64 {
        match &self.source {
            Source::Nothing => 0,
            Source::Sorted(set) => set.len(),
            Source::Plain(set) => set.len(),
        }
    }

    fn contains(&self, name: &[u8]) -> Outcome<bool> {
        Ok(self.weighted(name)?.is_some())
    }

    /// The member's score times the weight.
    fn weighted(&self, name: &[u8]) -> Outcome<Option<f64>> {
        let score = match &self.source {
            Source::Nothing => None,
            Source::Sorted(set) => set.score(name)?,
            Source::Plain(set) => set.contains(name)?.then_some(1.0),
        };
        Ok(score.map(|score| score * self.weight))
    }

    /// Visits all members with their scores times the weight, until `each` says `false`.
    fn for_each(&self, each: &mut dyn FnMut(&[u8], f64) -> Outcome<bool>) -> Outcome {
        match &self.source {
            Source::Nothing => Ok(()),
            Source::Sorted(set) => {
                set.for_each(&mut |name, score| each(name, number_or_zero(score * self.weight)))
            }
            Source::Plain(set) => {
                let mut outcome = Ok(true);
                set.for_each(&mut |name, _| {
                    outcome = each(name, self.weight);
                    Ok(matches!(outcome, Ok(true)))
                })?;
                outcome.map(|_| ())
            }
        }
    }
}

/// The keys of a command that counts them at argument `count_at`.
fn names(argv: Argv<'_>, count_at: usize, command: CommandId) -> Outcome<Names<'_>> {
    let count = Args::new(argv, count_at).int()?;
    if count < 1 {
        let name = command.spec().name;
        let text = format!("ERR at least 1 input key is needed for '{name}' command");
        return Err(WireError::Custom(text).into());
    }
    let left = argv.len() - count_at - 1;
    match usize::try_from(count) {
        Ok(count) if count <= left => Ok(Names { argv, first: count_at + 1, count }),
        _ => Err(WireError::Syntax.into()),
    }
}

#[derive(Clone, Copy)]
struct Names<'a> {
    argv: Argv<'a>,
    first: usize,
    count: usize,
}

impl<'a> Names<'a> {
    fn len(self) -> usize {
        self.count
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.argv.iter().skip(self.first).take(self.count)
    }
}

fn inputs_to_read<'a>(cx: &mut ReadContext<'a>, names: Names<'_>) -> Outcome<Vec<Input<'a>>> {
    let mut inputs = Vec::with_capacity(names.len());
    for name in names.iter() {
        inputs.push(Input::new(match cx.find(name, Touch::Use)? {
            Some(record) => Source::of(&cx.view, &record)?,
            None => Source::Nothing,
        }));
    }
    Ok(inputs)
}

/// What follows the keys.
struct Options {
    aggregate: Aggregate,
    with_scores: bool,
}

impl Options {
    /// Reads the options, and the weights into the inputs.
    fn parse(
        mut args: Args<'_>,
        operation: Operation,
        stores: bool,
        inputs: &mut [Input<'_>],
    ) -> Outcome<Options> {
        let mut options = Options { aggregate: Aggregate::Sum, with_scores: false };
        let combines = operation != Operation::Difference;
        while !args.is_empty() {
            if combines && args.left() > inputs.len() && args.keyword("WEIGHTS") {
                for input in inputs.iter_mut() {
                    input.weight = args
                        .float()
                        .map_err(|_| Failure::reply("ERR weight value is not a float"))?;
                }
            } else if combines && args.left() > 1 && args.keyword("AGGREGATE") {
                options.aggregate = Aggregate::parse(args.take()?)?;
            } else if !stores && args.keyword("WITHSCORES") {
                options.with_scores = true;
            } else {
                return Err(WireError::Syntax.into());
            }
        }
        Ok(options)
    }
}

fn reply(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    command: CommandId,
    operation: Operation,
    w: &mut Writer<'_>,
) -> Outcome {
    let names = names(argv, 1, command)?;
    let mut inputs = inputs_to_read(cx, names)?;
    let args = Args::new(argv, 2 + names.len());
    let options = Options::parse(args, operation, false, &mut inputs)?;
    cx.may_take(inputs.iter().map(Input::len).sum())?;
    let mut members = combine(&mut inputs, operation, options.aggregate)?;
    zset::sort(&mut members);
    begin_members(members.len() as u64, options.with_scores, w);
    for (name, score) in &members {
        reply_member(name, *score, options.with_scores, w);
    }
    Ok(())
}

fn store(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    command: CommandId,
    operation: Operation,
    w: &mut Writer<'_>,
) -> Outcome {
    let names = names(argv, 2, command)?;
    for name in names.iter() {
        // What has expired goes before anything is read, since nothing may go while it is.
        let key = cx.key(name);
        cx.read(&key, |_| Ok(()))?;
    }
    let destination = cx.key(&argv[1]);
    let keys: Vec<Key<'_>> = names.iter().map(|name| cx.key(name)).collect();
    let members = {
        let view = cx.store.view();
        let mut inputs = Vec::with_capacity(keys.len());
        for key in &keys {
            inputs.push(Input::new(match view.get(cx.db, key)? {
                Some(record) => Source::of(&view, &record)?,
                None => Source::Nothing,
            }));
        }
        let args = Args::new(argv, 3 + names.len());
        let options = Options::parse(args, operation, true, &mut inputs)?;
        combine(&mut inputs, operation, options.aggregate)?
    };
    let count = members.len();
    zset::replace(cx, &destination, members)?;
    w.int(count as i64);
    Ok(())
}

/// The members of the result, in any order.
fn combine(
    inputs: &mut [Input<'_>],
    operation: Operation,
    aggregate: Aggregate,
) -> Outcome<Vec<Member>> {
    match operation {
        Operation::Difference => subtract(inputs),
        Operation::Union => {
            sort_by_len(inputs);
            unite(inputs, aggregate)
        }
        Operation::Intersection => {
            sort_by_len(inputs);
            let mut members = Vec::new();
            intersect(inputs, aggregate, &mut |name, score| {
                members.push((name.to_vec(), score));
                true
            })?;
            Ok(members)
        }
    }
}

/// The smallest first, as Redis has it: sums of doubles depend on their order.
fn sort_by_len(inputs: &mut [Input<'_>]) {
    inputs.sort_by_key(Input::len);
}

fn unite(inputs: &[Input<'_>], aggregate: Aggregate) -> Outcome<Vec<Member>> {
    let mut members: Vec<Member> = Vec::new();
    for input in inputs {
        input.for_each(&mut |name, score| {
            members.push((name.to_vec(), score));
            Ok(true)
        })?;
    }
    // Stable: the scores of a member stay in the order of the inputs.
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members.dedup_by(|next, first| {
        let same = next.0 == first.0;
        if same {
            first.1 = aggregate.of(first.1, next.1);
        }
        same
    });
    Ok(members)
}

/// Shows `visit` the members of all inputs, until it says `false`.
fn intersect(
    inputs: &[Input<'_>],
    aggregate: Aggregate,
    visit: &mut dyn FnMut(&[u8], f64) -> bool,
) -> Outcome {
    let Some((first, others)) = inputs.split_first() else { return Ok(()) };
    first.for_each(&mut |name, mut score| {
        for other in others {
            match other.weighted(name)? {
                Some(its_score) => score = aggregate.of(score, its_score),
                None => return Ok(true),
            }
        }
        Ok(visit(name, score))
    })
}

fn subtract(inputs: &[Input<'_>]) -> Outcome<Vec<Member>> {
    let mut left = Vec::new();
    let Some((first, others)) = inputs.split_first() else { return Ok(left) };
    first.for_each(&mut |name, score| {
        for other in others {
            if other.contains(name)? {
                return Ok(true);
            }
        }
        left.push((name.to_vec(), score));
        Ok(true)
    })?;
    Ok(left)
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    fn bench() -> Bench {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD x 1 a 2 b 3 c", ":3"),
            ("ZADD y 10 b 20 c 30 d", ":3"),
            ("ZADD i inf a -inf b", ":2"),
        ]);
        bench
    }

    #[test]
    fn unions() {
        let mut bench = bench();
        bench.check(&[
            ("ZUNION 2 x y", "*4|$1|a|$1|b|$1|c|$1|d"),
            ("ZUNION 2 x y WITHSCORES", "*8|$1|a|$1|1|$1|b|$2|12|$1|c|$2|23|$1|d|$2|30"),
            ("ZUNION 3 x none x WEIGHTS 2 5 -1 WITHSCORES", "*6|$1|a|$1|1|$1|b|$1|2|$1|c|$1|3"),
            (
                "ZUNION 2 x y AGGREGATE MAX WITHSCORES",
                "*8|$1|a|$1|1|$1|b|$2|10|$1|c|$2|20|$1|d|$2|30",
            ),
            ("ZUNION 2 x y AGGREGATE min", "*4|$1|a|$1|b|$1|c|$1|d"),
            ("ZUNION 1 none", "*0"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[("ZUNION 1 x WITHSCORES", "*3|*2|$1|a|,1|*2|$1|b|,2|*2|$1|c|,3")]);
    }

    #[test]
    fn what_is_no_number_is_zero() {
        let mut bench = bench();
        bench.check(&[
            ("ZUNION 1 i WEIGHTS 0 WITHSCORES", "*4|$1|a|$1|0|$1|b|$1|0"),
            ("ZUNION 2 i i WEIGHTS 1 -1 WITHSCORES", "*4|$1|a|$1|0|$1|b|$1|0"),
            ("ZINTER 2 i i WEIGHTS 1 -1 WITHSCORES", "*4|$1|a|$1|0|$1|b|$1|0"),
        ]);
    }

    #[test]
    fn intersections() {
        let mut bench = bench();
        bench.check(&[
            ("ZINTER 2 x y WITHSCORES", "*4|$1|b|$2|12|$1|c|$2|23"),
            ("ZINTER 2 x y WEIGHTS 1 0.5 AGGREGATE MIN WITHSCORES", "*4|$1|b|$1|2|$1|c|$1|3"),
            ("ZINTER 2 x none", "*0"),
            ("ZINTERCARD 2 x y", ":2"),
            ("ZINTERCARD 2 x y LIMIT 1", ":1"),
            ("ZINTERCARD 2 x y LIMIT 0", ":2"),
            ("ZINTERCARD 2 x none", ":0"),
        ]);
    }

    #[test]
    fn differences() {
        let mut bench = bench();
        bench.check(&[
            ("ZDIFF 2 x y WITHSCORES", "*2|$1|a|$1|1"),
            ("ZDIFF 2 y x", "*1|$1|d"),
            ("ZDIFF 2 x x", "*0"),
            ("ZDIFF 2 none x", "*0"),
            ("ZDIFF 2 x none", "*3|$1|a|$1|b|$1|c"),
        ]);
    }

    #[test]
    fn members_of_plain_sets_have_score_one() {
        let mut bench = bench();
        bench.check(&[
            ("SADD s b c e", ":3"),
            ("SADD n 1 2", ":2"),
            ("ZUNION 2 s x WITHSCORES", "*8|$1|a|$1|1|$1|e|$1|1|$1|b|$1|3|$1|c|$1|4"),
            ("ZINTER 2 x s WEIGHTS 2 10 WITHSCORES", "*4|$1|b|$2|14|$1|c|$2|16"),
            ("ZDIFF 2 s x WITHSCORES", "*2|$1|e|$1|1"),
            ("ZINTERCARD 2 s x", ":2"),
            ("ZUNIONSTORE n 2 n s WEIGHTS -1 1", ":5"),
            ("ZRANGE n 0 -1", "*5|$1|1|$1|2|$1|b|$1|c|$1|e"),
            ("TYPE n", "+zset"),
        ]);
    }

    #[test]
    fn results_are_stored() {
        let mut bench = bench();
        bench.check(&[
            ("SET d v EX 100", "+OK"),
            ("ZUNIONSTORE d 2 x y WEIGHTS 1 2", ":4"),
            ("ZRANGE d 0 -1 WITHSCORES", "*8|$1|a|$1|1|$1|b|$2|22|$1|c|$2|43|$1|d|$2|60"),
            ("TTL d", ":-1"),
            ("ZINTERSTORE x 2 x y", ":2"),
            ("ZRANGE x 0 -1 WITHSCORES", "*4|$1|b|$2|12|$1|c|$2|23"),
            ("ZDIFFSTORE d 2 y x", ":1"),
            ("ZRANGE d 0 -1", "*1|$1|d"),
            ("ZDIFFSTORE d 2 x y", ":0"),
            ("EXISTS d", ":0"),
            ("ZUNIONSTORE d 1 none", ":0"),
        ]);
        assert_eq!(bench.effects.changed, 0);
    }

    #[test]
    fn mistakes() {
        let mut bench = bench();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        let integer = "-ERR value is not an integer or out of range";
        let weight = "-ERR weight value is not a float";
        let syntax = "-ERR syntax error";
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZUNION 2 x s WHAT", wrong),
            ("ZUNIONSTORE d 2 x s WHAT", wrong),
            ("ZINTERCARD 1 s", wrong),
            ("ZUNION x s", integer),
            ("ZUNION 0 s", "-ERR at least 1 input key is needed for 'zunion' command"),
            ("ZINTERSTORE d -1 s", "-ERR at least 1 input key is needed for 'zinterstore' command"),
            ("ZUNION 3 s s", syntax),
            ("ZUNION 9223372036854775807 s", syntax),
            ("ZUNION 2 x y WEIGHTS 1", syntax),
            ("ZUNION 2 x y WEIGHTS 1 a", weight),
            ("ZUNION 2 x y WEIGHTS 1 nan", weight),
            ("ZUNION 2 x y AGGREGATE", syntax),
            ("ZUNION 2 x y AGGREGATE AVG", syntax),
            ("ZUNIONSTORE d 2 x y WITHSCORES", syntax),
            ("ZDIFF 2 x y WEIGHTS 1 2", syntax),
            ("ZDIFF 2 x y AGGREGATE SUM", syntax),
            ("ZINTER 2 x y LIMIT 1", syntax),
            ("ZINTERCARD 2 x y LIMIT", syntax),
            ("ZINTERCARD 2 x y LIMIT -1", "-ERR LIMIT can't be negative"),
            ("ZINTERCARD 2 x y LIMIT x", "-ERR LIMIT can't be negative"),
            ("ZINTERCARD 2 x y WITHSCORES", syntax),
        ]);
    }
}
