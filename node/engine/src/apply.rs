//! The door for replicated operations.

use std::sync::Arc;

use cairn_protocol::WireError;
use cairn_protocol::command::CommandId;
use cairn_protocol::ids::{LogIndex, Term};
use cairn_protocol::op::OpRef;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Key, Store, StoreError};

use crate::commands::{Handler, handler, internal};
use crate::data::string;
use crate::effects::Effects;
use crate::failure::{Failure, Fatal, Outcome};
use crate::keyspace::{Room, WriteContext};
use crate::recency::{CELLS, Recency};

/// The behaviour this build means by an entry; entries name theirs
/// ([`EntryHeader::engine_version`](cairn_protocol::op::EntryHeader)).
pub const ENGINE_VERSION: u16 = 1;

/// All that an operation may know beside the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Milliseconds since the Unix epoch, stamped by the proposer. Time in a shard never runs
    /// backwards: an earlier one counts as the shard's clock.
    pub now_ms: u64,
    /// Where the operation's choices come from.
    pub seed: u64,
}

/// Redis over one shard's store.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) recency: Arc<Recency>,
    room: Room,
}

impl Engine {
    /// An engine over what the store holds. Nothing is read: opening takes no time.
    pub fn new(store: Store) -> Engine {
        Engine { store, recency: Arc::new(Recency::new(CELLS)), room: Room::default() }
    }

    /// The store, to look at.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store, to commit, configure and measure; what it holds is changed by operations only.
    pub fn store_mut(&mut self) -> &mut Store {
        // The limit may be about to change.
        self.room.forget();
        &mut self.store
    }

    /// When keys were used, for eviction and its policy.
    pub fn recency(&self) -> &Arc<Recency> {
        &self.recency
    }

    /// Executes one replicated operation and writes its reply into `w`.
    ///
    /// A command that is wrong, or for which there is no room, is answered with Redis's error and
    /// changes nothing.
    ///
    /// # Errors
    /// [`Fatal`] when the store is damaged or its medium fails: the operation was not executed, or
    /// in part, and this replica must apply nothing more.
    pub fn apply(&mut self, op: &OpRef<'_>, at: &At, w: &mut Writer<'_>) -> Result<Effects, Fatal> {
        let (spec, argv) = (op.command.spec(), op.argv());
        if !spec.accepts(argv.len()) {
            w.error(&WireError::WrongArity(spec.name));
            return Ok(Effects::default());
        }
        let write = match handler(op.command) {
            Handler::Write(write) => write,
            Handler::Read(_) => return self.read(spec, Db(op.db), argv, at, w),
            Handler::Elsewhere => {
                w.error_text("ERR this command is answered by the server, not by the log");
                return Ok(Effects::default());
            }
        };
        let start = w.position();
        let mut cx = WriteContext {
            now_ms: at.now_ms.max(self.store.clock_ms()),
            store: &mut self.store,
            recency: &self.recency,
            room: &mut self.room,
            db: Db(op.db),
            staged: None,
            effects: Effects::default(),
        };
        let outcome = if op.has_staged() {
            apply_staged(&mut cx, op, |cx, argv| write(cx, argv, w))
        } else {
            write(&mut cx, argv, w)
        };
        let effects = cx.effects;
        match outcome {
            Ok(()) => Ok(effects),
            Err(failure) => {
                w.truncate_to(start);
                w.error(
                    &write_error(failure).map_err(|source| Fatal { command: spec.name, source })?,
                );
                Ok(effects)
            }
        }
    }

    /// Takes note that all operations up to a log entry have been applied, and of its time.
    pub fn finish_entry(&mut self, term: Term, index: LogIndex, now_ms: u64) {
        let clock_ms = self.store.clock_ms().max(now_ms);
        self.store.set_applied(term, index, clock_ms);
    }

    /// Starts fetching what commands on these keys will touch, so that the cache misses of a batch
    /// overlap instead of following one another.
    pub fn prefetch<'k>(&self, db: Db, keys: impl IntoIterator<Item = &'k [u8]>) {
        const WIDTH: usize = 16;
        let mut batch: [(Db, Key<'_>); WIDTH] = [(db, self.store.key(b"")); WIDTH];
        let mut filled = 0;
        for key in keys {
            batch[filled] = (db, self.store.key(key));
            filled += 1;
            if filled == WIDTH {
                self.store.view().prefetch(&batch);
                filled = 0;
            }
        }
        self.store.view().prefetch(&batch[..filled]);
    }
}

/// What of a writer's failures is a reply. The rest would let replicas diverge.
fn write_error(failure: Failure) -> Result<WireError, StoreError> {
    match failure {
        Failure::Reply(error) => Ok(error),
        Failure::Store(StoreError::Full) => Ok(WireError::OutOfMemory),
        Failure::Store(error @ StoreError::TooLong { .. }) => {
            Ok(WireError::Custom(format!("ERR {error}")))
        }
        Failure::Store(error) => Err(error),
    }
}

/// Runs a command some of whose arguments were staged, and drops the stages whatever comes of it.
fn apply_staged(
    cx: &mut WriteContext<'_>,
    op: &OpRef<'_>,
    write: impl FnOnce(&mut WriteContext<'_>, Argv<'_>) -> Outcome,
) -> Outcome {
    let staged = || (0..op.argv().len()).filter(|&i| op.staged(i).is_some());
    let argv = op.argv();
    let mut all_there = true;
    for position in staged() {
        let key = cx.key(&argv[position]);
        all_there &= cx.store.get(Db::STAGE, &key)?.is_some();
    }
    let outcome = if !all_there {
        Err(internal::missing())
    } else if adopts_values(op.command) {
        with_stages(cx, op, |cx| write(cx, argv))
    } else {
        let copies = fetch(cx, op)?;
        let args: Vec<&[u8]> = argv
            .iter()
            .zip(&copies)
            .map(|(given, copy)| copy.as_deref().unwrap_or(given))
            .collect();
        write(cx, Argv::from(&args[..]))
    };
    for position in staged() {
        let key = cx.key(&argv[position]);
        cx.store.remove(Db::STAGE, &key)?;
    }
    outcome
}

/// Commands that set whole values, which they take over from the stage without copying.
fn adopts_values(command: CommandId) -> bool {
    use CommandId::{GetSet, MSet, MSetNx, PSetEx, Set, SetEx, SetNx};
    matches!(command, Set | SetNx | SetEx | PSetEx | GetSet | MSet | MSetNx)
}

fn with_stages<'a>(
    cx: &mut WriteContext<'_>,
    op: &OpRef<'a>,
    write: impl FnOnce(&mut WriteContext<'_>) -> Outcome,
) -> Outcome {
    let mut cx_with_stages = WriteContext {
        store: cx.store,
        recency: cx.recency,
        room: cx.room,
        db: cx.db,
        now_ms: cx.now_ms,
        staged: Some(*op),
        effects: cx.effects,
    };
    let outcome = write(&mut cx_with_stages);
    cx.effects = cx_with_stages.effects;
    outcome
}

/// The staged arguments in one piece each; `None` where an argument was not staged.
fn fetch(cx: &WriteContext<'_>, op: &OpRef<'_>) -> Outcome<Vec<Option<Vec<u8>>>> {
    let argv = op.argv();
    (0..argv.len())
        .map(|position| {
            if op.staged(position).is_none() {
                return Ok(None);
            }
            let key = cx.key(&argv[position]);
            match cx.store.get(Db::STAGE, &key)? {
                Some(record) => Ok(Some(string::bytes(&record)?.into_owned())),
                None => Err(internal::missing()),
            }
        })
        .collect()
}
