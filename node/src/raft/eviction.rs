//! Makes room under an evicting `maxmemory-policy`: the keys that go are chosen here, by the
//! leader, and named in the log before the writes that need their room.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_engine::{Engine, Eviction, Victims, encode_memory};
use cairn_protocol::command::CommandId;
use cairn_protocol::op::operations;
use cairn_store::{Db, Demand, Spare, admitted_bytes};

use super::group::Group;
use super::propose::{Batch, Submission};
use super::road::Way;
use super::room;
use crate::ops::clock;
use crate::ops::entropy;

/// The part of a limit that is given up ahead of need, so that not every entry evicts, and that
/// writes find which ask for more than was foreseen.
const AHEAD: u64 = 64;
const AHEAD_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 20);
/// Content that one proposal of [`shrink`] gives up.
const SHRINK_BYTES: u64 = 1 << 20;
/// How long the house-keeping may evict between two ticks: as for expired keys.
const AT_MOST: Duration = Duration::from_millis(25);

/// What an entry that is not applied yet will do to the content.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    /// Bytes that its writes may add.
    pub need: u64,
    /// Bytes that its evictions free.
    pub freed: u64,
    /// The keys that they delete.
    pub victims: BTreeSet<(Db, u64)>,
    /// What it may take of the pool.
    pub demand: Demand,
}

/// Keys that have to go before the next entry's writes find room.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Bytes that its writes may add.
    pub need: u64,
    /// Bytes that must be free first.
    pub short: u64,
    /// Keys that hold those and some more, as far as there are such.
    pub victims: Victims,
}

/// What must go for the operations in `writes`, ahead of which are the entries `in_flight`.
pub(super) fn choose<'a>(
    engine: &Engine,
    rules: Eviction,
    (now_ms, seed): (u64, u64),
    writes: impl Iterator<Item = u64>,
    in_flight: impl Iterator<Item = &'a Foreseen> + Clone,
) -> Wanted {
    let store = engine.store();
    let whole = admitted_bytes(store.limit_bytes());
    let mut wanted = Wanted { need: writes.sum::<u64>().min(whole), ..Wanted::default() };
    if wanted.need == 0 {
        return wanted;
    }
    let ahead = (whole / AHEAD).clamp(*AHEAD_BYTES.start(), *AHEAD_BYTES.end());
    let coming: u64 = in_flight.clone().map(|entry| entry.need).sum();
    let going: u64 = in_flight.clone().map(|entry| entry.freed).sum();
    let more = (wanted.need + ahead).min(whole).saturating_add(coming);
    wanted.short = store.overflow_bytes(store.limit_bytes(), more).saturating_sub(going);
    if wanted.short == 0 {
        return wanted;
    }
    let but = in_flight.flat_map(|entry| entry.victims.iter().copied()).collect();
    let victims = engine.choose_victims(rules, wanted.short + ahead, (now_ms, seed), &but);
    // Damage is told by whatever next meets it while applying.
    wanted.victims = victims.unwrap_or_default();
    wanted
}

/// Keys that hold `short_bytes` that the pool itself lacks, whatever its limit admits. None when to
/// evict them would help nobody: what snapshots keep stays where it is, and where much has died and
/// does not come back, somebody holds it.
pub(super) fn choose_for_space(
    engine: &Engine,
    rules: Eviction,
    draw: (u64, u64),
    short_bytes: u64,
) -> Victims {
    let usage = engine.store().usage();
    if !rules.is_on() || usage.kept_bytes > 0 || usage.dead_bytes > usage.capacity_bytes / 4 {
        return Victims::default();
    }
    let bytes = short_bytes.max(*AHEAD_BYTES.start());
    engine.choose_victims(rules, bytes, draw, &BTreeSet::new()).unwrap_or_default()
}

/// The batch that evicts `victims`, or as many of them as the pool has room to delete behind what is
/// promised `before`: deleting copies the way to a key, and an entry that ran out of room in its
/// middle would stop its replica.
///
/// # Errors
/// There is no room to delete any; what would be wanted for the first few.
pub(super) fn evict(
    engine: &Engine,
    mut victims: Victims,
    before: Demand,
) -> Result<(Arc<Submission>, Foreseen), Demand> {
    let before = before.and(engine.store().demand_of_snapshots());
    let mut room = None;
    loop {
        let submission = Submission::new();
        push_evictions(&mut submission.batch(), &victims);
        let demand = room::demand(engine, submission.batch().writes());
        let sum = before.and(demand);
        let fits = engine.store().has_plenty(&sum, Spare::Snapshots)
            || room.get_or_insert_with(|| engine.store().room_left()).takes(&sum, Spare::Snapshots);
        if fits {
            let freed = victims.bytes();
            let victims = victims.into_hashes();
            return Ok((submission, Foreseen { need: 0, freed, victims, demand }));
        }
        victims.halve();
        if victims.is_empty() {
            return Err(sum);
        }
    }
}

/// The room that a batch may need.
pub(super) fn need(engine: &Engine, batch: &Batch) -> u64 {
    engine.room_needed(operations(batch.writes()))
}

fn push_evictions(batch: &mut Batch, victims: &Victims) {
    let spec = CommandId::InternalEvict.spec();
    victims.encode(|encode| batch.push_encoded(spec, encode));
}

/// Gives up keys until the content is what `limit_bytes` admits, as far as the policy allows, for
/// `at_most` so long.
async fn shrink(way: &mut Way<'_>, limit_bytes: u64, at_most: Option<Duration>) {
    let start = clock::now();
    while at_most.is_none_or(|most| start.elapsed() < most) {
        let victims = too_much(way.group, limit_bytes);
        if victims.is_empty() || way.is_lost() {
            return;
        }
        push_evictions(&mut way.batch(), &victims);
        way.run().await;
        let effects = way.batch().take_replies(&mut Vec::new());
        if effects.evicted == 0 {
            // The group has stopped, or they went another way.
            return;
        }
    }
}

/// Keys that have to go under that limit, a part of them at a time.
fn too_much(group: &Group, limit_bytes: u64) -> Victims {
    let rules = group.eviction();
    let engine = group.read();
    let bytes = engine.store().overflow_bytes(limit_bytes, 0).min(SHRINK_BYTES);
    if bytes == 0 || !rules.is_on() {
        return Victims::default();
    }
    let draw = (group.wall_ms(), entropy::random_u64());
    engine.choose_victims(rules, bytes, draw, &BTreeSet::new()).unwrap_or_default()
}

/// House-keeping: gives up what is above the limit, as after a start with a lower one.
pub async fn relieve(way: &mut Way<'_>) {
    let limit_bytes = way.group.read().store().limit_bytes();
    shrink(way, limit_bytes, Some(AT_MOST)).await;
}

/// Changes the memory limit. Under an evicting policy what is too much for a lower one goes first,
/// so that writes find room meanwhile and afterwards.
pub async fn set_limit(way: &mut Way<'_>, limit_bytes: u64) {
    shrink(way, limit_bytes, None).await;
    let spec = CommandId::InternalMemory.spec();
    way.batch().push_encoded(spec, |out| encode_memory(out, limit_bytes));
    way.run().await;
}
