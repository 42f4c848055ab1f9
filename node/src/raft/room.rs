//! Whether what is about to be proposed will find room in the pool.
//!
//! An operation that runs out of room while it is applied stops its replica: another's pool may be
//! fragmented otherwise, and have room. So whoever proposes looks first. What finds no room waits
//! while the pool is committed and evacuated, has keys evicted where the policy allows, and is denied
//! at last: the entry itself says which of its operations are answered `OOM`, on all replicas alike.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_engine::{Engine, demand_at_most, denied_by, encode_deny, is_wide, spare_behind};
use cairn_protocol::command::CommandId;
use cairn_protocol::op::{EntryRef as Entry, OpRef, Ops, operations};
use cairn_store::{Demand, RoomLeft, Spare, Usage};

use super::propose::{Batch, Submission};

/// Times that a batch waits for the pool to be committed and evacuated, when that frees anything.
const ROUNDS: u32 = 3;

/// Bytes that operations walk, copy or remove together, from which on they are held to take long: some
/// 20,000 elements, tens of milliseconds.
pub(super) const SLOW_BYTES: u64 = 2 << 20;
/// A short operation in that sum.
pub(super) const SHORT_BYTES: u64 = 100;

/// What became of the operations of a batch that were held against the room there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Weighed {
    /// What those may take that find room.
    pub demand: Demand,
    /// Those that find none, by number.
    pub denied: Vec<u32>,
    /// What is wanted of the pool for those of them that could find room some time.
    pub wanted: Option<Demand>,
}

/// What a batch may take at most, if it is known at a glance that there is as much; `before` is
/// promised already.
pub(super) fn at_a_glance(engine: &Engine, batch: &Batch, before: Demand) -> Option<Demand> {
    let most = demand_at_most(batch.write_bytes() as u64, batch.work().into());
    let most = engine.store().demand_with_kept(most).and(engine.store().demand_at_a_glance());
    let fits = || engine.store().has_plenty(&before.and(most), Spare::Deletes);
    (!batch.is_wide() && fits()).then_some(most)
}

/// Holds operations against the room that is left, of which `before` is promised already.
pub(super) fn weigh(engine: &Engine, writes: &[u8], room: &RoomLeft, before: Demand) -> Weighed {
    let mut weighed = Weighed::default();
    // What frees must not be denied for what takes room beside it.
    let frees =
        leaves(operations(writes)).filter(|op| spare_behind(op.command) <= Spare::Snapshots);
    let frees = frees.map(|op| engine.demand(&op)).fold(Demand::default(), Demand::and);
    let all_free = room.takes(&before.and(frees), Spare::Snapshots);
    if all_free {
        weighed.demand = frees;
    }
    for (number, op) in leaves(operations(writes)).enumerate() {
        let spare = spare_behind(op.command);
        if all_free && spare <= Spare::Snapshots {
            continue;
        }
        let demand = engine.demand(&op);
        let sum = weighed.demand.and(demand);
        if room.takes(&before.and(sum), spare) {
            weighed.demand = sum;
            continue;
        }
        weighed.denied.push(u32::try_from(number).unwrap_or(u32::MAX));
        if room.ever_takes(&demand, spare) {
            let wanted = weighed.wanted.unwrap_or(before.and(weighed.demand));
            weighed.wanted = Some(wanted.and(demand));
        }
    }
    weighed
}

/// What operations may take at most.
pub(super) fn demand(engine: &Engine, writes: &[u8]) -> Demand {
    leaves(operations(writes)).map(|op| engine.demand(&op)).fold(Demand::default(), Demand::and)
}

/// Whether it is known at a glance that an entry finds room, and that it does not take long.
pub(super) fn is_easy(engine: &Engine, entry: &Entry<'_>, bytes: u64) -> bool {
    let (mut count, mut wide) = (0, false);
    for op in leaves(entry.ops()) {
        count += 1;
        wide |= is_wide(&op);
    }
    let most = engine.store().demand_with_kept(demand_at_most(bytes, count));
    let most = most.and(engine.store().demand_at_a_glance());
    !wide
        && bytes + count * SHORT_BYTES < SLOW_BYTES
        && engine.store().has_plenty(&most, Spare::Deletes)
}

/// Whether an entry's operations together take long.
pub(super) fn takes_long(engine: &Engine, entry: &Entry<'_>) -> bool {
    let mut effort = 0u64;
    entry.ops().flatten().any(|op| {
        effort = effort.saturating_add(engine.effort(&op));
        effort >= SLOW_BYTES
    })
}

/// What an entry may take at most.
pub(super) fn demand_of_entry(engine: &Engine, entry: &Entry<'_>) -> Demand {
    let mut denied = BTreeSet::new();
    let mut sum = engine.store().demand_of_snapshots();
    for (number, op) in (0u32..).zip(leaves(entry.ops())) {
        denied.extend(denied_by(&op));
        if !denied.contains(&number) {
            sum = sum.and(engine.demand(&op));
        }
    }
    sum
}

/// The operation that denies those of such numbers in the batch that follows it, in an entry that
/// begins with the two.
pub(super) fn denying(numbers: &[u32]) -> Arc<Submission> {
    let submission = Submission::new();
    // It is the entry's first.
    let numbers: Vec<u32> = numbers.iter().map(|number| number + 1).collect();
    let spec = CommandId::InternalDeny.spec();
    submission.batch().push_encoded(spec, |out| encode_deny(out, &numbers));
    submission
}

/// The operations, those of transactions one by one.
fn leaves(ops: Ops<'_>) -> impl Iterator<Item = OpRef<'_>> {
    ops.flatten().flat_map(|op| {
        let is_transaction = op.command == CommandId::InternalExec;
        let body = op.argv().get(1).filter(|_| is_transaction).unwrap_or_default();
        operations(body).flatten().chain((!is_transaction).then_some(op))
    })
}

/// Whether to wait once more.
#[derive(Debug, Default)]
pub(super) struct Patience {
    rounds: u32,
    /// How the pool stood when waiting had brought nothing.
    in_vain: Option<[u64; 4]>,
}

impl Patience {
    /// Whether it is worth to wait (once more) for a pool that stands like this.
    pub(super) fn waits(&mut self, usage: &Usage) -> bool {
        let Usage { used_bytes, live_bytes, dead_bytes, kept_bytes, .. } = *usage;
        let state = [used_bytes, live_bytes, dead_bytes, kept_bytes];
        if self.in_vain == Some(state) {
            return false;
        }
        self.rounds += 1;
        if self.rounds <= ROUNDS {
            return true;
        }
        *self = Patience { rounds: 0, in_vain: Some(state) };
        false
    }

    /// There was room.
    pub(super) fn renew(&mut self) {
        *self = Patience::default();
    }
}
