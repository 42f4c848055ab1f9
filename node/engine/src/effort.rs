//! How much work an operation is, at a look: whoever applies operations keeps those that take long
//! apart from what must not wait.

use cairn_protocol::command::CommandId;
use cairn_protocol::command::keys::keys_of;
use cairn_protocol::number::parse_u64;
use cairn_protocol::op::{OpRef, operations};
use cairn_store::{Db, Record, Store, Type};

use crate::apply::Engine;
use crate::commands::zsets::RankRange;
use crate::data::zset::{LexRange, ScoreRange, ZSet};
use crate::demand::is_wide_with;

/// Bytes of a collection that an element, or a short operation, counts as.
const EACH_BYTES: u64 = 100;

impl Engine {
    /// Bytes of data that an operation walks, copies or removes: roughly, and rather too many. It
    /// looks at its keys, not at what they hold.
    pub fn effort(&self, op: &OpRef<'_>) -> u64 {
        use CommandId::{
            InternalExec, InternalReclaim, LMPop, LPop, RPop, SPop, SetRange, ZMPop, ZPopMax,
            ZPopMin, ZRemRangeByLex, ZRemRangeByRank, ZRemRangeByScore,
        };
        let argv = op.argv();
        let number = |at: usize| argv.get(at).and_then(parse_u64);
        let elements = |count: u64| count.saturating_mul(EACH_BYTES);
        let beyond = match op.command {
            InternalExec => {
                let parts = operations(argv.get(1).unwrap_or_default()).flatten();
                parts.map(|part| self.effort(&part)).fold(0, u64::saturating_add)
            }
            InternalReclaim => {
                let count = argv.get(1).and_then(|count| count.try_into().ok());
                elements(count.map_or(0, u64::from_le_bytes))
            }
            LPop | RPop | SPop | ZPopMax | ZPopMin if argv.len() > 2 => {
                self.bytes_of_keys(op).min(elements(number(2).unwrap_or(0)))
            }
            // A count, where one is given, comes last.
            LMPop | ZMPop => {
                self.bytes_of_keys(op).min(elements(number(argv.len() - 1).unwrap_or(1)))
            }
            SetRange => number(2).unwrap_or(0).min(1 << 30).saturating_sub(self.bytes_of_keys(op)),
            ZRemRangeByLex | ZRemRangeByRank | ZRemRangeByScore => {
                self.bytes_of_keys(op).min(elements(self.span(op).unwrap_or(0)))
            }
            command if is_wide_with(command, argv.len()) => self.bytes_of_keys(op),
            _ => 0,
        };
        let own = EACH_BYTES + argv.total_bytes() as u64 + self.staged_bytes(op);
        own.saturating_add(beyond)
    }

    fn bytes_of_keys(&self, op: &OpRef<'_>) -> u64 {
        let (db, argv) = (Db(op.db), op.argv());
        let bytes = |at: usize| {
            let record = self.record(db, &argv[at]);
            record.map_or(0, |record| Store::counted_bytes(&record))
        };
        keys_of(op.command.spec(), argv).map(bytes).fold(0, u64::saturating_add)
    }

    /// How many members a removal of a range finds; what it cannot do it answers itself.
    fn span(&self, op: &OpRef<'_>) -> Option<u64> {
        let argv = op.argv();
        let (key, min, max) = (argv.get(1)?, argv.get(2)?, argv.get(3)?);
        let record: Record<'_> = self.record(Db(op.db), key)?;
        if record.ty() != Type::ZSet {
            return None;
        }
        let set = ZSet::of(&self.store.view(), &record).ok()?;
        let span = match op.command {
            CommandId::ZRemRangeByRank => RankRange::parse(min, max).ok()?.span(set.len()),
            CommandId::ZRemRangeByScore => {
                set.span_by_score(&ScoreRange::parse(min, max).ok()?).ok()?
            }
            _ => set.span_by_name(&LexRange::parse(min, max).ok()?, false).ok()?,
        };
        Some(span.end.saturating_sub(span.start))
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::command::resolve;
    use cairn_protocol::op::encode_op;
    use cairn_protocol::resp::Argv;

    use crate::commands::test::Bench;

    use super::*;

    fn effort(bench: &Bench, command: &str) -> u64 {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let argv = Argv::from(&words[..]);
        let mut bytes = Vec::new();
        encode_op(&mut bytes, resolve(argv).expect("a command").id, 0, argv);
        bench.engine.effort(&OpRef::decode(&bytes).expect("as encoded"))
    }

    fn run(bench: &mut Bench, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        assert!(!bench.run(&words).starts_with(b"-"), "{command}");
    }

    #[test]
    fn what_takes_long_is_told_from_what_does_not() {
        let mut bench = Bench::new();
        for start in (0..20_000).step_by(1000) {
            let scores = (start..start + 1000).map(|n| format!(" {n} member-{n}"));
            run(&mut bench, &format!("ZADD z{}", scores.collect::<String>()));
            let elements = (start..start + 1000).map(|n| format!(" element-{n}"));
            run(&mut bench, &format!("RPUSH l{}", elements.collect::<String>()));
        }
        let long = [
            "ZUNIONSTORE d 1 z",
            "ZUNIONSTORE d 3 z none z",
            "ZREMRANGEBYSCORE z -inf +inf",
            "ZREMRANGEBYRANK z 0 -1",
            "ZPOPMIN z 20000",
            "LREM l 0 none",
            "LMPOP 1 l LEFT COUNT 20000",
            "SORT l ALPHA STORE d",
            "COPY z d",
            "SETRANGE s 1000000 x",
        ];
        for command in long {
            assert!(effort(&bench, command) > 200_000, "{command}: {}", effort(&bench, command));
        }
        let short = [
            "ZADD z 1 member-1",
            "ZREMRANGEBYSCORE z 5 9",
            "ZREMRANGEBYSCORE z five 9",
            "ZREMRANGEBYRANK z -2 -1",
            "ZREMRANGEBYRANK l 0 -1",
            "ZPOPMIN z 10",
            "LPOP l 3",
            "LMPOP 1 l LEFT",
            "ZUNIONSTORE d 1 none",
            "DEL z",
        ];
        for command in short {
            assert!(effort(&bench, command) < 2_000, "{command}: {}", effort(&bench, command));
        }
    }
}
