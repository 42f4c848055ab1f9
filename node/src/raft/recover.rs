//! From what lies on the medium to a group that can lead: the pool's last committed epoch, and on
//! top of it every entry of the log that is not in there.
//!
//! Nothing here is proportional to the data: the pool opens as it is, and the log holds what two
//! epochs wrote at most.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cairn_engine::{At, ENGINE_VERSION, Engine};
use cairn_protocol::command::CommandId;
use cairn_protocol::ids::{LogIndex, NodeId, ShardId, Term};
use cairn_protocol::op::{EntryHeader, EntryRef as Operations, OpRef, operations};
use cairn_protocol::resp::Writer;
use cairn_store::log::{EntryKind, EntryRef, Log, LogId, LogKind, LogOptions, Recovered};
use cairn_store::media::{Medium, medium_in};
use cairn_store::{Committer, Db, Opened, PoolOptions, Store};

use openraft::BasicNode;

use super::home::{FileHome, Home};
use super::propose::first_key;
use super::types::{Membership, encode_applied_membership};
use crate::ops::config::Durability;
use crate::ops::{clock, entropy, host};

/// The pool's file name inside `--dir`: shard 0's.
pub const POOL_FILE: &str = "shard-0.pool";

/// The log's directory inside `--dir`.
pub const LOG_DIR: &str = "log";

/// A lone node's id in its group.
pub const LONE_NODE: NodeId = NodeId(1);

/// Bytes of entries that a replay holds at once.
const REPLAY_BYTES: usize = 16 << 20;
/// Keys for which it is worth starting threads.
const WARM_KEYS: usize = 256;

/// What is open and replayed, before the group exists.
pub struct Recovery {
    /// The engine at the last entry of the log.
    pub engine: Engine,
    /// Where its pool lies.
    pub home: Arc<dyn Home>,
    /// Commits its epochs.
    pub committer: Committer,
    /// The log.
    pub log: Arc<Log>,
    /// What the log lies on.
    pub log_medium: Medium,
    /// What was there.
    pub found: Found,
}

/// What recovery found, for the ready line and INFO.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The pool was created now.
    pub created: bool,
    /// The epoch that was opened.
    pub epoch: u64,
    /// Keys in all databases.
    pub keys: u64,
    /// Entries that were applied.
    pub replayed_entries: u64,
    /// Operations in them.
    pub replayed_ops: u64,
    /// Bytes of the log that were read.
    pub scanned_bytes: u64,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// Why the rest of the log could not be applied: only reads are served.
    pub halted: Option<String>,
}

/// How to recover.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The node's directory, which exists.
    pub dir: &'a Path,
    /// When a write is durable on files.
    pub durability: Durability,
    /// What the pool may take.
    pub capacity_bytes: u64,
    /// None: the log's entries are this node's to apply. A member of a group learns from the others
    /// which of them are, and a new pool of it hashes with this key, which all members share: what
    /// is drawn goes by the order of hashes.
    pub member: Option<[u64; 2]>,
}

/// A pool and a log that were opened and are not known yet to belong together.
pub struct Pair {
    /// Where the pool lies.
    pub home: Arc<dyn Home>,
    /// The pool, who commits it, and what opening it found.
    pub pool: (Store, Committer, Opened),
    /// The log, and what opening it found.
    pub log: (Log, Recovered),
    /// What the log lies on.
    pub log_medium: Medium,
}

/// Opens pool and log and replays.
///
/// # Errors
/// A text that says what, where, and what to do. Nothing that lies there is changed then, but for
/// what opening mends.
pub fn recover(options: Options<'_>) -> Result<Recovery, String> {
    let mut watch = Watch(clock::now());
    let pool_path = options.dir.join(POOL_FILE);
    let pool_bytes = std::fs::metadata(&pool_path).map_or(0, |meta| meta.len());
    let pool_options = PoolOptions {
        // While replaying the operator's new number must not turn down what was acknowledged
        // under the old one.
        capacity_bytes: options.capacity_bytes.max(pool_bytes.saturating_mul(2)),
        new_hash_key: options
            .member
            .unwrap_or_else(|| [entropy::random_u64(), entropy::random_u64()]),
        new_uuid: entropy::random_16(),
    };
    let home = Arc::new(FileHome::new(pool_path));
    let pool = home.open(&pool_options)?;
    watch.lap("pool opened");
    let log_medium = log_medium(&options, pool.0.mem_arc().medium())?;
    let log = open_log(&options, log_medium)?;
    watch.lap("log opened");
    resume(&options, Pair { home, pool, log, log_medium })
}

/// Goes on with a pool and a log, wherever they lie, if they are of one piece: replays. The
/// directory in `options` is for messages.
///
/// # Errors
/// As [`recover`].
pub fn resume(options: &Options<'_>, pair: Pair) -> Result<Recovery, String> {
    let mut watch = Watch(clock::now());
    let Pair { home, pool: (store, committer, opened), log: (log, recovered), log_medium } = pair;
    check_pair(options, &*home, &opened, &recovered, &log)?;
    let mut found = Found {
        created: opened.created,
        epoch: opened.epoch.0,
        scanned_bytes: recovered.scanned_bytes,
        notes: notes(&opened, &recovered),
        ..Found::default()
    };
    let mut engine = Engine::new(store);
    let alone = options.member.is_none();
    let replayed = match alone {
        true => replay(&mut engine, &log, opened.applied, &mut found),
        false => Ok(()),
    };
    if found.halted.is_none() {
        replayed?;
    }
    if let Some(reason) = opened.read_only {
        // What the log holds beyond the pool is read too, and committed never.
        found.halted = Some(format!("{}/{POOL_FILE}: {reason}", options.dir.display()));
    }
    found.keys = (0..=Db::COUNT).map(|db| engine.store().len(Db(db))).sum();
    if found.halted.is_none() {
        watch.lap(&format!("{} operations replayed", found.replayed_ops));
        // A lone node's limit is about to be made this one; a member's is the group's affair.
        let limit_bytes = if alone { 0 } else { engine.store().limit_bytes() };
        engine.store_mut().set_capacity_bytes(options.capacity_bytes.max(limit_bytes));
        if alone {
            be_alone(engine.store_mut())?;
        }
    }
    Ok(Recovery { engine, home, committer, log: Arc::new(log), log_medium, found })
}

/// Makes this node the only member of its group, where the pool knows of none yet.
fn be_alone(store: &mut Store) -> Result<(), String> {
    if !store.membership().is_empty() {
        return Ok(());
    }
    let nodes = BTreeMap::from([(LONE_NODE, BasicNode::default())]);
    let alone = Membership::new(vec![BTreeSet::from([LONE_NODE])], nodes)
        .map_err(|error| error.to_string())?;
    let bytes = encode_applied_membership(LogId::new(Term(0), LogIndex(0)), &alone);
    store.set_membership(&bytes).map_err(|error| error.to_string())
}

/// Tells the log, when verbose, what each step of a start took.
struct Watch(Instant);

impl Watch {
    fn lap(&mut self, what: &str) {
        let us = clock::nanos_since(self.0) / 1000;
        tracing::debug!("{what} in {us} us");
        self.0 = clock::now();
    }
}

/// The one shard of a lone node.
pub const SHARD: ShardId = ShardId(0);

/// What the log lies on, or will: asked of its own directory, for the pool may lie on a device, and
/// either may be a mount of its own.
fn log_medium(options: &Options<'_>, pool: Medium) -> Result<Medium, String> {
    let dir = options.dir.join(LOG_DIR);
    let place = if dir.is_dir() { dir.as_path() } else { options.dir };
    let medium = medium_in(place).map_err(|error| error.to_string())?;
    if medium == Medium::Tmpfs && pool != Medium::Tmpfs {
        return Err(format!(
            "{} is memory that a restart of the machine empties, the pool is not: its log would be \
             lost, and with it what the pool is worth; put --dir on a file system that lasts",
            place.display()
        ));
    }
    Ok(medium)
}

fn open_log(options: &Options<'_>, medium: Medium) -> Result<(Log, Recovered), String> {
    let kind = match (medium, options.durability) {
        (Medium::Dax, _) => LogKind::Dax,
        (Medium::Tmpfs, _) => LogKind::Memory,
        (_, Durability::Always) => LogKind::File,
        (_, Durability::EverySec) => LogKind::FileEverySec,
    };
    let mut log_options = LogOptions::new(options.dir, kind);
    log_options.uuid = entropy::random_16();
    log_options.boot_id = boot_id();
    Log::open(&log_options).map_err(|error| error.to_string())
}

/// Pool and log must be of one piece: either alone would be a silent loss of what was acknowledged.
fn check_pair(
    options: &Options<'_>,
    home: &dyn Home,
    opened: &Opened,
    recovered: &Recovered,
    log: &Log,
) -> Result<(), String> {
    let dir = options.dir.display();
    let (term, applied) = opened.applied;
    let last = match pairing(opened.applied, recovered) {
        Pairing::Whole => {
            home.forget();
            return Ok(());
        }
        Pairing::PoolTooOld { first } => {
            return Err(format!(
                "the pool {dir}/{POOL_FILE} holds entries up to {applied}, the log {dir}/log only \
                 those from {first}: the pool is missing or older than its log; restore both from \
                 one backup"
            ));
        }
        Pairing::LogTooShort { last } => last,
    };
    let alone = options.member.is_none();
    let is_lost = alone && options.durability == Durability::EverySec && !recovered.created;
    if is_lost || home.has_brought(opened.applied) {
        // The page cache took the log's end with it, not what the pool had synced; or the pool is a
        // peer's, and the log has yet to go on behind it.
        return log.purge(SHARD, LogId::new(term, applied)).map_err(|error| error.to_string());
    }
    let remedy = match alone {
        true => {
            "restore both from one backup, or start with --durability everysec once to give up \
             what the log held"
        }
        // What it promised the others was in there.
        false => "start with an empty --dir, and it joins again as a new member",
    };
    Err(format!(
        "the log {dir}/log ends at entry {last}, the pool {dir}/{POOL_FILE} holds entries up to \
         {applied}: the log was removed or is another's; {remedy}"
    ))
}

/// Whether a pool and a log are of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// The log has all that the pool has not.
    Whole,
    /// Entries are missing between the pool and the log.
    PoolTooOld {
        /// The first entry that the log has.
        first: LogIndex,
    },
    /// The pool has entries behind the log's end.
    LogTooShort {
        /// The last entry that the log has.
        last: LogIndex,
    },
}

/// Compares the last entry in a pool with what its log holds.
pub fn pairing((_, applied): (Term, LogIndex), recovered: &Recovered) -> Pairing {
    let state = recovered.shards.get(&SHARD).cloned().unwrap_or_default();
    let last = state.last.map_or(LogIndex(0), |last| last.index);
    let first_needed = LogIndex(applied.0 + 1);
    if last > applied && state.first.is_none_or(|first| first > first_needed) {
        let first = state.first.unwrap_or(LogIndex(last.0 + 1));
        return Pairing::PoolTooOld { first };
    }
    if last >= applied { Pairing::Whole } else { Pairing::LogTooShort { last } }
}

fn notes(opened: &Opened, recovered: &Recovered) -> Vec<String> {
    let cut = recovered.cut.as_ref().map(|cut| {
        format!(
            "{}: an incomplete batch at byte {} was cut; it was never acknowledged",
            cut.file, cut.offset
        )
    });
    opened.note.clone().into_iter().chain(cut).collect()
}

/// An entry on its way from the log into the engine.
struct Pending {
    term: Term,
    index: LogIndex,
    kind: EntryKind,
    payload: Vec<u8>,
}

impl Pending {
    fn new(entry: &EntryRef<'_>) -> Pending {
        let EntryRef { term, index, kind, payload, .. } = *entry;
        Pending { term, index, kind, payload: payload.to_vec() }
    }

    fn operations(&self) -> Result<Operations<'_>, String> {
        Operations::decode(&self.payload).map_err(|error| self.failed(&error))
    }

    fn failed(&self, what: &dyn std::fmt::Display) -> String {
        format!("log entry {}: {what}", self.index)
    }
}

fn replay(
    engine: &mut Engine,
    log: &Log,
    applied: (Term, LogIndex),
    found: &mut Found,
) -> Result<(), String> {
    let (mut pending, mut bytes) = (Vec::new(), 0);
    log.replay(SHARD, LogIndex(applied.1.0 + 1), |entry| {
        bytes += entry.payload.len();
        pending.push(Pending::new(&entry));
        if bytes < REPLAY_BYTES {
            return Ok(());
        }
        bytes = 0;
        apply_all(engine, std::mem::take(&mut pending), found)
    })
    .map_err(|error| error.to_string())?;
    apply_all(engine, pending, found)
}

fn apply_all(engine: &mut Engine, pending: Vec<Pending>, found: &mut Found) -> Result<(), String> {
    warm(engine, &pending);
    for entry in &pending {
        apply(engine, entry, found)?;
    }
    Ok(())
}

/// Touches what the entries will change, on all cores: the first touch of a page of a pool that was
/// just mapped costs microseconds in the kernel, and that is most of what a replay costs.
fn warm(engine: &Engine, pending: &[Pending]) {
    let mut keys: Vec<(Db, &[u8])> = Vec::new();
    for entry in pending.iter().filter(|entry| entry.kind == EntryKind::Normal) {
        // Whatever is wrong with an entry, applying it says so.
        let Ok(operations) = entry.operations() else { return };
        for op in operations.ops().flatten().flat_map(parts) {
            keys.extend(first_key(op.command.spec(), op.argv()).map(|key| (Db(op.db), key)));
        }
    }
    if keys.len() < WARM_KEYS {
        return;
    }
    let share = keys.len().div_ceil(host::cores());
    std::thread::scope(|scope| {
        for keys in keys.chunks(share) {
            scope.spawn(move || {
                for (db, key) in keys {
                    let _ = engine.store().get(*db, &engine.hash(key));
                }
            });
        }
    });
}

/// The operations of a transaction; any other is its own only part.
fn parts<'a>(op: OpRef<'a>) -> impl Iterator<Item = OpRef<'a>> {
    let is_transaction = op.command == CommandId::InternalExec;
    let body = op.argv().get(1).filter(|_| is_transaction).unwrap_or_default();
    operations(body).flatten().chain((!is_transaction).then_some(op))
}

fn apply(engine: &mut Engine, entry: &Pending, found: &mut Found) -> Result<(), String> {
    let mut now_ms = engine.store().clock_ms();
    if entry.kind == EntryKind::Normal {
        let operations = entry.operations()?;
        let header = *operations.header();
        if header.engine_version > ENGINE_VERSION {
            return Err(entry.failed(&format_args!(
                "it asks for engine version {}, this build has {ENGINE_VERSION}: start a newer \
                 cairn",
                header.engine_version
            )));
        }
        now_ms = header.now_ms;
        apply_operations(engine, entry, &operations, found)?;
    }
    found.replayed_entries += 1;
    engine.finish_entry(entry.term, entry.index, now_ms);
    Ok(())
}

fn apply_operations(
    engine: &mut Engine,
    entry: &Pending,
    operations: &Operations<'_>,
    found: &mut Found,
) -> Result<(), String> {
    let EntryHeader { now_ms, seed, .. } = *operations.header();
    for (number, op) in operations.ops().enumerate() {
        let op = op.map_err(|error| entry.failed(&error))?;
        let at = At { now_ms, seed: seed.wrapping_add(number as u64) };
        let applied = engine.apply(&op, &at, &mut Writer::suppressed());
        applied.map_err(|fatal| {
            let reason = entry.failed(&fatal);
            found.halted = Some(format!("{reason}; this shard serves no more writes"));
            reason
        })?;
        found.replayed_ops += 1;
    }
    Ok(())
}

/// The machine's boot, 128 bits; zeros where the kernel tells none.
pub fn boot_id() -> [u8; 16] {
    let digits = host::boot_id().replace('-', "");
    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes).unwrap_or_default()
}
