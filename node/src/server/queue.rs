//! What a client has queued since MULTI, and what it watches. No IO.

use std::sync::Arc;

use cairn_engine::{Watch, Watches, database_index};
use cairn_protocol::WireError;
use cairn_protocol::command::{CommandId, Flags, Place, Spec};
use cairn_protocol::ids::Term;
use cairn_protocol::op::{OP_BYTES_MAX, OpRef, encode_op, operations};
use cairn_protocol::resp::Argv;

use crate::raft::Guard;

/// Reads of a transaction that run under one hold of the shard's lock; more have a root of their
/// own.
const READS_AT_ONCE: usize = 64;

/// The commands between MULTI and EXEC, in order.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    commands: Vec<&'static Spec>,
    /// Those for the engine, as operations.
    ops: Vec<u8>,
    /// Those that the server answers, in the same form.
    server: Vec<u8>,
    /// The database of the next command: a SELECT that is queued will have been executed by then.
    db: u16,
    failed: bool,
}

impl Queue {
    /// An empty one, of a client that uses database `db`.
    pub fn new(db: u16) -> Queue {
        Queue { db, ..Queue::default() }
    }

    /// Queues a command; there are `databases` databases.
    ///
    /// # Errors
    /// When it may not stand in a transaction; EXEC will then execute nothing.
    pub fn push(
        &mut self,
        spec: &'static Spec,
        argv: Argv<'_>,
        databases: u16,
    ) -> Result<(), WireError> {
        let checked = check(spec, argv);
        self.failed |= checked.is_err();
        checked?;
        if spec.place == Place::Server {
            encode_op(&mut self.server, spec.id, 0, argv);
            let chosen = (spec.id == CommandId::Select).then(|| database_index(&argv[1]));
            if let Some(Ok(db)) = chosen
                && db.0 < databases
            {
                self.db = db.0;
            }
        } else {
            encode_op(&mut self.ops, spec.id, self.db, argv);
        }
        self.commands.push(spec);
        Ok(())
    }

    /// Takes note of a command that was refused: EXEC will execute nothing.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Whether a command was refused.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The database of the next command.
    pub fn db(&self) -> u16 {
        self.db
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.ops.len() + self.server.len()
    }

    /// The commands' rows.
    pub fn commands(&self) -> &[&'static Spec] {
        &self.commands
    }

    /// Those that the engine answers.
    pub fn engine_commands(&self) -> impl Iterator<Item = &'static Spec> {
        self.commands.iter().copied().filter(|spec| spec.place != Place::Server)
    }

    /// Their operations, back to back.
    pub fn ops(&self) -> &[u8] {
        &self.ops
    }

    /// The arguments of those that the server answers.
    pub fn server_commands(&self) -> impl Iterator<Item = Argv<'_>> {
        operations(&self.server).flatten().map(|op: OpRef<'_>| op.argv())
    }

    /// Whether all of it is the engine's.
    pub fn is_all_engine(&self) -> bool {
        self.server.is_empty()
    }

    /// Whether it must go through the log.
    pub fn writes(&self) -> bool {
        self.commands.iter().any(|spec| spec.place == Place::Write)
    }

    /// Whether its reads would hold others up: by what they are, or by how many.
    pub fn is_long(&self, is_long: fn(CommandId) -> bool) -> bool {
        self.len() > READS_AT_ONCE || self.commands.iter().any(|spec| is_long(spec.id))
    }
}

fn check(spec: &Spec, argv: Argv<'_>) -> Result<(), WireError> {
    if spec.flags.contains(Flags::NO_MULTI) {
        return Err(WireError::Static("ERR Command not allowed inside a transaction"));
    }
    // As much again as the arguments' ends and the header take.
    let bytes = argv.total_bytes() + argv.len() * 8 + 64;
    if bytes > OP_BYTES_MAX {
        return Err(WireError::Custom(format!(
            "ERR a command of {bytes} bytes is too long for a transaction: send it by itself"
        )));
    }
    Ok(())
}

/// Whether a command is executed at once though others are being queued.
pub fn is_immediate(id: CommandId) -> bool {
    use CommandId::{Discard, Exec, Multi, Quit, Reset, Watch};
    matches!(id, Exec | Discard | Multi | Watch | Quit | Reset)
}

/// The keys that a client watches, until this is dropped.
#[derive(Debug)]
pub struct Watching {
    /// All clients' watches.
    watches: Arc<Watches>,
    /// This client's.
    pub watch: Arc<Watch>,
    /// The term that it began in.
    term: Term,
    /// The shard's leader could not be told: nothing can be said of what is watched.
    pub is_broken: bool,
}

impl Watching {
    /// Watches nothing yet.
    pub fn new(watches: &Arc<Watches>, term: Term) -> Watching {
        Watching { watches: Arc::clone(watches), watch: Arc::default(), term, is_broken: false }
    }

    /// What must hold when a transaction is proposed.
    pub fn guard(&self) -> Guard {
        Guard { watch: Arc::clone(&self.watch), term: self.term }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watches.remove(&self.watch);
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::command::resolve;

    use super::*;

    fn queue(commands: &[&str]) -> Queue {
        let mut queue = Queue::new(2);
        for command in commands {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            let argv = Argv::from(&words[..]);
            // What was refused is in the queue's own state.
            let _ = queue.push(resolve(argv).expect("a command"), argv, 16);
        }
        queue
    }

    #[test]
    fn commands_use_the_database_that_a_select_before_them_chooses() {
        let queue = queue(&["SET a 1", "SELECT 5", "GET a", "SELECT 16", "SELECT x", "DEL a"]);
        let ops: Vec<(CommandId, u16)> =
            operations(queue.ops()).flatten().map(|op| (op.command, op.db)).collect();
        assert_eq!(ops, [(CommandId::Set, 2), (CommandId::Get, 5), (CommandId::Del, 5)]);
        let server: Vec<Vec<u8>> = queue.server_commands().map(|argv| argv[1].to_vec()).collect();
        assert_eq!(server, [b"5".to_vec(), b"16".to_vec(), b"x".to_vec()]);
        assert_eq!((queue.len(), queue.engine_commands().count()), (6, 3));
        assert!(!queue.is_all_engine() && !queue.has_failed());
    }

    #[test]
    fn what_has_no_place_in_a_transaction_spoils_it() {
        let queue = queue(&["SET a 1", "SHUTDOWN NOSAVE"]);
        assert!(queue.has_failed());
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn reads_alone_need_no_log() {
        assert!(!queue(&["GET a", "PING", "KEYS *"]).writes());
        assert!(queue(&["GET a", "INCR a"]).writes());
        let is_long = |id| id == CommandId::Keys;
        assert!(queue(&["KEYS *"]).is_long(is_long) && !queue(&["GET a"]).is_long(is_long));
        assert!(queue(&["GET a"; READS_AT_ONCE + 1]).is_long(is_long));
    }
}
