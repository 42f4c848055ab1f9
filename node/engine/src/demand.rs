//! What of the pool operations may take: bounds from above, so that whoever proposes them knows that
//! they will find room wherever they are applied. One that found none in its middle would stop its
//! replica.
//!
//! Under copy-on-write an operation takes what it adds, and a copy of whatever it changes: what it
//! changes dies, and is of use again two commits later.

use cairn_protocol::command::keys::keys_of;
use cairn_protocol::command::spec::Group;
use cairn_protocol::command::{CommandId, Flags};
use cairn_protocol::op::{OpRef, operations};
use cairn_store::{Db, Demand, Record, Removal, Spare, Store, Type};

use crate::apply::{Engine, adopts_values};

/// The way to a key: its table of slots, directories, leaf and what splits of them, and the note of a
/// tree that is dropped. What leads to all keys alike an entry copies once.
const PATH_BYTES: u64 = 5 << 10;
/// The nodes of a deadline, and what splits of them, where an old one goes and a new one comes.
const DEADLINE_BYTES: u64 = 5 << 10;
/// An element of a collection: its leaf and directories, the nodes of its rank, or its list chunk.
const ELEMENT_BYTES: u64 = 5 << 10;
/// A key or a value that lies in one block, or a packed collection that becomes a tree.
const SHORT_BYTES: u64 = 16 << 10;
/// The fixed part of a block, and what rounding to a size of block adds to small ones.
const BLOCK_BYTES: u64 = 64;
/// Header, fields and names in a block beside a value.
const BESIDE_BYTES: u64 = 96;
/// Bytes of an encoded operation for each argument, at the least.
const ARGUMENT_BYTES: u64 = 4;

/// Operations of `bytes` encoded bytes, none of which [`is_wide`]: what they may take at most,
/// whatever they are.
pub fn demand_at_most(bytes: u64, ops: u64) -> Demand {
    let each = 2 * SHORT_BYTES + PATH_BYTES + DEADLINE_BYTES;
    let arguments = bytes / ARGUMENT_BYTES * (ELEMENT_BYTES + BLOCK_BYTES);
    Demand::of_any_size(bytes * 2 + ops * each + arguments)
}

/// Whether an operation may take more than its encoded bytes tell.
pub fn is_wide(op: &OpRef<'_>) -> bool {
    op.has_staged()
        || match op.command {
            CommandId::InternalExec => operations(op.argv().get(1).unwrap_or_default())
                .flatten()
                .any(|part| is_wide(&part)),
            command => is_wide_with(command, op.argv().len()),
        }
}

/// The same of a command with so many arguments, none of them staged.
pub fn is_wide_with(command: CommandId, arguments: usize) -> bool {
    use CommandId::{
        Copy, InternalExpire, InternalReclaim, LInsert, LMPop, LPop, LRem, LTrim, RPop, SDiffStore,
        SInterStore, SPop, SUnionStore, SetRange, Sort, ZDiffStore, ZInterStore, ZMPop, ZPopMax,
        ZPopMin, ZRangeStore, ZRemRangeByLex, ZRemRangeByRank, ZRemRangeByScore, ZUnionStore,
    };
    match command {
        LPop | RPop | SPop | ZPopMax | ZPopMin => arguments > 2,
        Copy | InternalExpire | InternalReclaim | LInsert | LMPop | LRem | LTrim | SDiffStore
        | SInterStore | SUnionStore | SetRange | Sort | ZDiffStore | ZInterStore | ZMPop
        | ZRangeStore | ZRemRangeByLex | ZRemRangeByRank | ZRemRangeByScore | ZUnionStore => true,
        _ => false,
    }
}

/// What must be left when an operation has been applied. What frees may have all there is.
pub fn spare_behind(command: CommandId) -> Spare {
    use CommandId::{
        Del, FlushAll, FlushDb, GetDel, InternalDeny, InternalDropStages, InternalEvict,
        InternalExpire, InternalMemory, InternalReclaim, InternalStage, SnapshotDrop, Unlink,
    };
    match command {
        FlushAll | FlushDb | InternalDeny | InternalMemory | SnapshotDrop => Spare::None,
        Del | GetDel | InternalDropStages | InternalEvict | InternalExpire | InternalReclaim
        | Unlink => Spare::Snapshots,
        InternalStage => Spare::Deletes,
        _ if command.spec().flags.contains(Flags::DENYOOM) => Spare::Deletes,
        _ => Spare::AChange,
    }
}

impl Engine {
    /// What one operation, no transaction, may take at most; what an entry takes for snapshots,
    /// whatever it does, comes on top ([`Store::demand_of_snapshots`]).
    pub fn demand(&self, op: &OpRef<'_>) -> Demand {
        use CommandId::{
            Del, FlushAll, FlushDb, InternalDeny, InternalDropStages, InternalEvict,
            InternalExpire, InternalMemory, SnapshotDrop, Unlink,
        };
        let demand = match op.command {
            InternalDeny | InternalMemory | SnapshotDrop => return Demand::default(),
            FlushAll | FlushDb => return Store::demand_of_drop(),
            Del | InternalExpire | Unlink => self.demand_of_removal(op, 1),
            InternalDropStages => self.demand_of_removal(op, 1).and(Store::demand_of_drop()),
            InternalEvict => self.demand_of_removal(op, 2),
            _ => self.demand_of_change(op),
        };
        self.store.demand_with_kept(demand)
    }

    fn demand_of_change(&self, op: &OpRef<'_>) -> Demand {
        let argv = op.argv();
        let names = match op.command {
            CommandId::InternalReclaim => argv.get(1).map_or(0, le_u64),
            // The staged argument.
            CommandId::InternalStage => 1,
            _ => 0,
        };
        let keys = keys_of(op.command.spec(), argv);
        let sum = keys.map(|at| self.demand_of_key(op, &argv[at])).fold(written(op), Demand::and);
        let names = Demand::of_nodes((PATH_BYTES + DEADLINE_BYTES) * names);
        let staged = self.demand_of_staged(op);
        let beyond = self.room_beyond_arguments(op);
        let sum = sum.and(names).and(staged);
        if beyond == 0 { sum } else { sum.and(Demand::of_any_size(beyond / 4 * 5)) }
    }

    /// Bytes of the operation's arguments that were staged and are copied when it is applied.
    pub(crate) fn staged_bytes(&self, op: &OpRef<'_>) -> u64 {
        let argv = op.argv();
        let staged = (0..argv.len()).filter(|&at| op.staged(at).is_some());
        let lengths = staged.map(|at| self.record(Db::STAGE, &argv[at]));
        lengths.map(|record| record.map_or(0, |record| record.bytes())).sum()
    }

    /// What deleting the keys that begin at argument `first` copies of the way to them.
    fn demand_of_removal(&self, op: &OpRef<'_>, first: usize) -> Demand {
        let mut removal = Removal::default();
        for name in op.argv().iter().skip(first) {
            // Damage is told by the command itself.
            let _ = removal.add(&self.store.view(), Db(op.db), &self.store.key(name));
        }
        Demand::of_nodes(removal.bytes())
    }

    /// What becomes of the operation's arguments that were staged: they are copied, or taken over,
    /// and then only their names are written again, with the value where that lies in their block.
    fn demand_of_staged(&self, op: &OpRef<'_>) -> Demand {
        let argv = op.argv();
        let staged = (0..argv.len()).filter(|&at| op.staged(at).is_some());
        let lengths = staged.map(|at| self.record(Db::STAGE, &argv[at]));
        let lengths = lengths.map(|record| record.map_or(0, |record| record.value().len()));
        if !adopts_values(op.command) {
            let bytes: u64 = lengths.sum();
            let copies = Demand::of_any_size(PATH_BYTES + bytes / 4 * 5);
            return if bytes == 0 { Demand::default() } else { copies };
        }
        let key = argv.iter().map(<[u8]>::len).max().unwrap_or(0) as u64 + BESIDE_BYTES;
        lengths.fold(Demand::default(), |sum, len| {
            let block = if len < SHORT_BYTES { len + key } else { key };
            let written = 2 * (block + block / 4 + BLOCK_BYTES);
            // It leaves the stage, too.
            sum.and(Demand::of_lengths(PATH_BYTES + written, 0..=block))
        })
    }

    /// Damage is told by the command itself.
    pub(crate) fn record(&self, db: Db, name: &[u8]) -> Option<Record<'_>> {
        self.store.get(db, &self.store.key(name)).ok().flatten()
    }

    /// The way to a key, and the copies of what is there that changing it takes.
    fn demand_of_key(&self, op: &OpRef<'_>, name: &[u8]) -> Demand {
        let record = self.record(Db(op.db), name);
        let group = op.command.spec().docs.group;
        let frees = spare_behind(op.command) <= Spare::Snapshots;
        let sets_deadline = !frees && (op.argv().len() > 3 || group == Group::Generic);
        let has_deadline = record.is_some_and(|record| record.deadline_ms().is_some());
        let deadline = if sets_deadline || has_deadline { DEADLINE_BYTES } else { 0 };
        let elements = match group {
            Group::Hash | Group::List | Group::Set | Group::SortedSet => op.argv().len() as u64,
            _ => 0,
        };
        let way = Demand::of_nodes(PATH_BYTES + deadline + elements * BLOCK_BYTES * 8);
        match record {
            Some(record) if !frees => way.and(self.copies_of(op, &record)),
            _ => way,
        }
    }

    /// What is overwritten is copied where it does not go as a whole.
    fn copies_of(&self, op: &OpRef<'_>, record: &Record<'_>) -> Demand {
        if adopts_values(op.command) || op.command == CommandId::Copy {
            return Demand::default();
        }
        let whole = Store::counted_bytes(record) / 4 * 5;
        let arguments = op.argv().len() as u64;
        let longest = whole + op.argv().total_bytes() as u64 + BESIDE_BYTES;
        if record.ty() == Type::String {
            // Of a long one the chunks that are written to, and a part of one at each end; one that
            // becomes long is written twice.
            let some = op.argv().total_bytes() as u64 + 3 * SHORT_BYTES;
            return Demand::of_lengths((2 * whole).min(some), 0..=longest);
        }
        if self.store.view().tree(record).is_none() {
            return Demand::of_lengths((whole * 16).min(SHORT_BYTES), 0..=longest.min(2 << 10))
                .and(Demand::of_nodes(0));
        }
        let is_wide = is_wide_with(op.command, op.argv().len());
        let some = if is_wide { u64::MAX } else { arguments * ELEMENT_BYTES };
        let bytes = (whole + SHORT_BYTES).min(some);
        if is_wide { Demand::of_any_size(bytes) } else { Demand::of_nodes(bytes) }
    }
}

/// The blocks that an operation's arguments are written to.
fn written(op: &OpRef<'_>) -> Demand {
    let argv = op.argv();
    let bytes = argv.total_bytes() as u64;
    let own = bytes + bytes / 4 + argv.len() as u64 * BLOCK_BYTES;
    let own = Demand::of_lengths(own, 0..=BESIDE_BYTES);
    let names = keys_of(op.command.spec(), argv).map(|at| argv[at].len()).max().unwrap_or(0) as u64;
    argv.iter().skip(1).fold(own, |sum, argument| {
        let len = argument.len() as u64;
        sum.and(Demand::of_lengths(0, len..=len + names + BESIDE_BYTES))
    })
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
