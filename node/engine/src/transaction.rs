//! Several operations as one: what EXEC proposes.

use cairn_protocol::command::CommandId;
use cairn_protocol::op::{OpRef, Ops, encode_op, operations};
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::StoreError;

use crate::apply::{At, Engine};
use crate::effects::Effects;
use crate::failure::Fatal;
use crate::seed::Draws;

/// Appends the operation that executes the operations in `body`, which lie back to back, with
/// nothing between them.
pub fn encode_exec(out: &mut Vec<u8>, body: &[u8]) {
    encode_op(out, CommandId::InternalExec, 0, Argv::from(&[&b"_exec"[..], body]));
}

/// The operations of a transaction in order, each with what it may know beside the data.
#[derive(Clone, Debug)]
pub struct Transaction<'a> {
    ops: Ops<'a>,
    at: At,
    left: usize,
    draws: Draws,
}

impl<'a> Transaction<'a> {
    /// The transaction that `op` is.
    ///
    /// # Errors
    /// [`Fatal`] when this build cannot read all of it: executing a part would let replicas
    /// diverge.
    pub fn new(op: &OpRef<'a>, at: &At) -> Result<Transaction<'a>, Fatal> {
        let refuse = |text: String| Fatal {
            command: op.command.spec().name,
            source: StoreError::Stopped(text),
        };
        let ops = operations(op.argv().get(1).unwrap_or_default());
        let mut left = 0;
        for part in ops.clone() {
            if part.map_err(|error| refuse(error.to_string()))?.command == CommandId::InternalExec {
                return Err(refuse("a transaction inside a transaction".to_owned()));
            }
            left += 1;
        }
        Ok(Transaction { ops, at: *at, left, draws: Draws::new(at.seed) })
    }
}

impl<'a> Iterator for Transaction<'a> {
    type Item = (OpRef<'a>, At);

    fn next(&mut self) -> Option<Self::Item> {
        // All were read before.
        let op = self.ops.next()?.ok()?;
        self.left -= 1;
        Some((op, At { seed: self.draws.bits(), ..self.at }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Transaction<'_> {}

impl Engine {
    /// Executes a transaction. An operation that answers an error does not keep the others from
    /// being executed.
    pub(crate) fn exec(
        &mut self,
        op: &OpRef<'_>,
        at: &At,
        w: &mut Writer<'_>,
    ) -> Result<Effects, Fatal> {
        let parts = Transaction::new(op, at)?;
        w.array(parts.len());
        let mut effects = Effects::default();
        for (part, at) in parts {
            effects += self.apply(&part, &at, w)?;
        }
        Ok(effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test::Bench;

    fn body(commands: &[(CommandId, u16, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (command, db, words) in commands {
            let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
            encode_op(&mut body, *command, *db, Argv::from(&words[..]));
        }
        body
    }

    #[test]
    fn commands_run_in_order_and_errors_are_replies() {
        let mut bench = Bench::new();
        let body = body(&[
            (CommandId::Set, 0, "SET a 1"),
            (CommandId::Incr, 0, "INCR a"),
            (CommandId::Set, 3, "SET a other"),
            (CommandId::IncrBy, 0, "INCRBY a x"),
            (CommandId::Get, 0, "GET a"),
            (CommandId::Get, 3, "GET a"),
        ]);
        let reply = bench.internal(|out| encode_exec(out, &body));
        let wanted = "*6|+OK|:2|+OK|-ERR value is not an integer or out of range|$1|2|$5|other|";
        assert_eq!(String::from_utf8(reply).unwrap(), wanted.replace('|', "\r\n"));
        assert_eq!((bench.effects.changed, bench.effects.hits), (3, 2));
        assert_eq!(bench.internal(|out| encode_exec(out, &[])), b"*0\r\n");
    }

    #[test]
    fn what_cannot_be_read_as_a_whole_is_not_executed() {
        let mut bench = Bench::new();
        let at = At { now_ms: bench.now_ms(), seed: 0 };
        let good = body(&[(CommandId::Set, 0, "SET a 1")]);
        let mut nested = good.clone();
        encode_exec(&mut nested, &good);
        let mut cut = good.clone();
        cut.extend_from_slice(&good[..9]);
        for bad in [nested, cut] {
            let mut op = Vec::new();
            encode_exec(&mut op, &bad);
            let op = OpRef::decode(&op).unwrap();
            let mut w = Writer::suppressed();
            assert!(bench.engine.apply(&op, &at, &mut w).is_err());
            bench.check(&[("EXISTS a", ":0")]);
        }
    }

    #[test]
    fn each_operation_draws_from_a_seed_of_its_own() {
        let body = body(&[(CommandId::Get, 0, "GET a"), (CommandId::Get, 0, "GET a")]);
        let mut op = Vec::new();
        encode_exec(&mut op, &body);
        let op = OpRef::decode(&op).unwrap();
        let seeds = |seed| -> Vec<u64> {
            let at = At { now_ms: 5, seed };
            Transaction::new(&op, &at).unwrap().map(|(_, at)| at.seed).collect()
        };
        assert_eq!(seeds(1), seeds(1));
        assert_ne!(seeds(1)[0], seeds(1)[1]);
        assert_ne!(seeds(1)[1], seeds(2)[0], "the operations of the next entry draw otherwise");
    }
}
