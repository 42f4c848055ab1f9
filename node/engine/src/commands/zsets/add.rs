//! Giving members scores.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::resp::{Argv, Writer};

use crate::data::hash::check_name;
use crate::data::members::Stop;
use crate::data::zset::{self, Missing, Plan, member_cost};
use crate::failure::{Failure, Outcome};
use crate::keyspace::WriteContext;

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]
pub(crate) fn zadd(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    add(cx, argv, Options::default(), w)
}

/// ZINCRBY key increment member
pub(crate) fn zincrby(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    add(cx, argv, Options { incr: true, ..Options::default() }, w)
}

/// Which members to touch, and how.
#[derive(Debug, Clone, Copy, Default)]
struct Options {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl Options {
    /// Takes the options that come first.
    fn parse(mut self, args: &mut Args<'_>) -> Options {
        while let Some(chosen) = self.take_one(args) {
            *chosen = true;
        }
        self
    }

    fn take_one(&mut self, args: &mut Args<'_>) -> Option<&mut bool> {
        let options = [
            ("NX", &mut self.nx),
            ("XX", &mut self.xx),
            ("CH", &mut self.ch),
            ("INCR", &mut self.incr),
            ("GT", &mut self.gt),
            ("LT", &mut self.lt),
        ];
        options.into_iter().find(|(word, _)| args.keyword(word)).map(|(_, chosen)| chosen)
    }

    fn check(&self, pairs: usize) -> Outcome {
        if self.nx && self.xx {
            return Err(Failure::reply(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if [self.gt, self.lt, self.nx].into_iter().filter(|chosen| *chosen).count() > 1 {
            return Err(Failure::reply(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.incr && pairs > 1 {
            return Err(Failure::reply("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// What to do with a member of score `old`, or with what is no member yet.
    fn decide(&self, old: Option<f64>, given: f64) -> Outcome<Decision> {
        let Some(old) = old else {
            return Ok(if self.xx { Decision::Skip } else { Decision::Add(given) });
        };
        if self.nx {
            return Ok(Decision::Skip);
        }
        let score = if self.incr { old + given } else { given };
        if score.is_nan() {
            return Err(Failure::reply("ERR resulting score is not a number (NaN)"));
        }
        if (self.lt && score >= old) || (self.gt && score <= old) {
            return Ok(Decision::Skip);
        }
        Ok(if score == old { Decision::Keep(score) } else { Decision::Update(score) })
    }
}

enum Decision {
    /// The options exclude it.
    Skip,
    /// It has this score.
    Keep(f64),
    Add(f64),
    Update(f64),
}

/// What came of a command.
#[derive(Default)]
struct Tally {
    added: i64,
    updated: i64,
    /// The score of the last member that was not skipped.
    score: Option<f64>,
}

fn add(cx: &mut WriteContext<'_>, argv: Argv<'_>, options: Options, w: &mut Writer<'_>) -> Outcome {
    let mut args = Args::new(argv, 2);
    let options = options.parse(&mut args);
    if args.is_empty() || !args.left().is_multiple_of(2) {
        return Err(WireError::Syntax.into());
    }
    options.check(args.left() / 2)?;
    let mut pairs: Vec<(f64, &[u8])> = Vec::with_capacity(args.left() / 2);
    while !args.is_empty() {
        pairs.push((args.float()?, args.take()?));
    }
    pairs.iter().try_for_each(|(_, name)| check_name("a member", name))?;
    let key = cx.key(&argv[1]);
    let cost = pairs.iter().map(|(_, name)| member_cost(name)).sum();
    let missing = if options.xx { Missing::Leave } else { Missing::Create };
    let tally = zset::edit(
        cx,
        &key,
        Plan { missing, cost },
        |_| Ok(None),
        |set| {
            set.expect(pairs.len());
            let mut tally = Tally::default();
            for (given, name) in &pairs {
                let decision = options.decide(set.view()?.score(name)?, *given)?;
                tally.score = match decision {
                    Decision::Skip => tally.score,
                    Decision::Keep(score) | Decision::Add(score) | Decision::Update(score) => {
                        Some(score)
                    }
                };
                match decision {
                    Decision::Skip | Decision::Keep(_) => {}
                    Decision::Add(score) => {
                        set.put(name, score, true)?;
                        tally.added += 1;
                    }
                    Decision::Update(score) => {
                        set.put(name, score, false)?;
                        tally.updated += 1;
                    }
                }
            }
            Ok::<_, Stop>(tally)
        },
    )?;
    let Tally { added, updated, score } = tally.unwrap_or_default();
    match score {
        Some(score) if options.incr => w.double(score),
        None if options.incr => w.null(),
        _ => w.int(if options.ch { added + updated } else { added }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Proto;

    use crate::commands::test::Bench;

    #[test]
    fn members_are_added_and_updated() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a 2 b", ":2"),
            ("ZADD z 3 a 4 c", ":1"),
            ("ZADD z CH 3 a 5 c 6 d", ":2"),
            ("ZADD z 1 e 2 e 3 e", ":1"),
            ("ZRANGE z 0 -1 WITHSCORES", "*10|$1|b|$1|2|$1|a|$1|3|$1|e|$1|3|$1|c|$1|5|$1|d|$1|6"),
            ("TYPE z", "+zset"),
            ("OBJECT ENCODING z", "$8|listpack"),
        ]);
    }

    #[test]
    fn options_exclude_members() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z XX 1 a", ":0"),
            ("EXISTS z", ":0"),
            ("ZADD z XX INCR 1 a", "$-1"),
            ("ZADD z NX 1 a 2 b", ":2"),
            ("ZADD z NX CH 5 a 3 c", ":1"),
            ("ZADD z XX CH 5 a 3 d", ":1"),
            ("ZADD z GT CH 4 a 6 b 1 e", ":2"),
            ("ZADD z LT CH 9 a 1 b 2 f", ":2"),
            ("ZMSCORE z a b c d e f", "*6|$1|5|$1|1|$1|3|$-1|$1|1|$1|2"),
            ("ZADD z NX INCR 1 a", "$-1"),
            ("ZADD z GT INCR -1 a", "$-1"),
            ("ZADD z LT INCR -1 a", "$1|4"),
            ("ZADD z XX INCR 0 a", "$1|4"),
        ]);
    }

    #[test]
    fn increments() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZINCRBY z 1.5 a", "$3|1.5"),
            ("ZINCRBY z -0.25 a", "$4|1.25"),
            ("ZINCRBY z inf a", "$3|inf"),
            ("ZINCRBY z -inf a", "-ERR resulting score is not a number (NaN)"),
            ("ZSCORE z a", "$3|inf"),
        ]);
        bench.speak(Proto::Resp3);
        bench.check(&[
            ("ZINCRBY z 0.1 b", ",0.1"),
            ("ZADD z INCR -inf b", ",-inf"),
            ("ZADD z NX INCR 1 b", "_"),
        ]);
    }

    #[test]
    fn mistakes() {
        let float = "-ERR value is not a valid float";
        let syntax = "-ERR syntax error";
        let mut bench = Bench::new();
        bench.check(&[
            ("SET s v", "+OK"),
            ("ZADD s 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("ZADD z 1 a 2", syntax),
            ("ZADD z NX XX", syntax),
            ("ZADD z NX GT 1", syntax),
            ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
            (
                "ZADD z GT LT 1 a",
                "-ERR GT, LT, and/or NX options at the same time are not compatible",
            ),
            (
                "ZADD z NX LT 1 a",
                "-ERR GT, LT, and/or NX options at the same time are not compatible",
            ),
            ("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
            ("ZADD z 1 a x b", float),
            ("ZADD z nan a", float),
            ("ZINCRBY z nan a", float),
            ("ZINCRBY z NX a", syntax),
            ("EXISTS z", ":0"),
        ]);
    }

    #[test]
    fn a_member_too_long_refuses_them_all() {
        let mut bench = Bench::new();
        let long = "x".repeat(15_001);
        let refused = "-ERR a member of 15001 bytes is longer than the 15000 allowed";
        bench.check(&[(&format!("ZADD z 1 a 2 {long}"), refused), ("EXISTS z", ":0")]);
        let longest = &long[1..];
        bench.check(&[(&format!("ZADD z 1 a 2 {longest}"), ":2"), ("ZRANK z a", ":0")]);
    }

    #[test]
    fn the_encoding_changes_at_redis_limits_and_sticks() {
        let mut bench = Bench::new();
        for n in 0..128 {
            bench.run(&[b"ZADD", b"z", b"1", format!("m{n}").as_bytes()]);
        }
        bench.check(&[
            ("OBJECT ENCODING z", "$8|listpack"),
            ("ZADD z 1 m128", ":1"),
            ("OBJECT ENCODING z", "$8|skiplist"),
            ("ZREMRANGEBYRANK z 1 -1", ":128"),
            ("OBJECT ENCODING z", "$8|skiplist"),
        ]);
        let (fits, too_long) = ("x".repeat(64), "x".repeat(65));
        bench.check(&[
            (&format!("ZADD l 1 {fits}"), ":1"),
            ("OBJECT ENCODING l", "$8|listpack"),
            (&format!("ZADD l 1 {too_long}"), ":1"),
            ("OBJECT ENCODING l", "$8|skiplist"),
            (&format!("ZREM l {too_long}"), ":1"),
            ("OBJECT ENCODING l", "$8|skiplist"),
        ]);
        // So many arguments change it, whatever they add.
        let many = " 1 a".repeat(129);
        bench.check(&[
            ("ZADD h 1 a", ":1"),
            (&format!("ZADD h{many}"), ":0"),
            ("OBJECT ENCODING h", "$8|skiplist"),
        ]);
        assert_eq!(bench.effects.changed, 0);
    }

    #[test]
    fn a_listpack_has_one_zero_and_a_skiplist_two() {
        let mut bench = Bench::new();
        let long = "x".repeat(65);
        bench.check(&[
            ("ZADD z -0 a", ":1"),
            ("ZSCORE z a", "$1|0"),
            (&format!("ZADD z -0 {long}"), ":1"),
            (&format!("ZSCORE z {long}"), "$2|-0"),
            (&format!("ZADD z CH 0 {long}"), ":0"),
            ("ZADD z -0 b", ":1"),
            ("ZRANGE z 0 -1", &format!("*3|$1|a|$1|b|$65|{long}")),
            ("ZADD y INCR -0 a", "$2|-0"),
        ]);
    }

    #[test]
    fn only_changes_count() {
        let mut bench = Bench::new();
        for (command, changed) in [
            ("ZADD z 1 a 2 b", 1),
            ("ZADD z 1 a", 0),
            ("ZADD z NX 5 a", 0),
            ("ZINCRBY z 0 a", 0),
            ("ZADD z XX 3 c", 0),
            ("ZADD z CH 2 a", 1),
            ("ZADD z x y", 0),
        ] {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            bench.run(&words);
            assert_eq!(bench.effects.changed, changed, "{command}");
        }
    }

    #[test]
    fn a_deadline_stays() {
        let mut bench = Bench::new();
        bench.check(&[
            ("ZADD z 1 a", ":1"),
            ("PEXPIRE z 100", ":1"),
            ("ZADD z 2 b", ":1"),
            ("PTTL z", ":100"),
        ]);
        bench.advance_ms(100);
        bench.check(&[("ZADD z XX 1 a", ":0"), ("ZADD z 7 c", ":1"), ("ZCARD z", ":1")]);
        assert_eq!(bench.engine.store().len(bench.db), 1);
    }
}
