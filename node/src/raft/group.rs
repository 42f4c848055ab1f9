//! A shard's group: stamps what is submitted, has openraft agree on it, applies it, answers it.
//!
//! **Flat combining.** Submissions go into a queue; whoever gets the driver's lock takes all that
//! is queued, makes entries of it, gives them to openraft and runs openraft's tasks, which append
//! what is proposed and apply what is committed, for everyone. Whoever does not get the lock goes
//! back to waiting: the holder looks once more after it let go, so nothing is left behind. On a
//! memory log a group of one has applied an entry when its submitter's turn ends, and nobody waits.
//! On a file the log's thread reports entries durable in order and wakes one waiter, which drives
//! for all. What wakes openraft when nobody waits for a reply, its timers first of all, is driven
//! by a thread of the group's own.
//!
//! Lock order: driver, then engine, then a submission's batch, then what is in flight, then the
//! queue (held for a push or a swap only). Readers take the engine's lock alone.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_engine::{At, ENGINE_VERSION, Engine, Eviction};
use cairn_protocol::cluster::message::{Refused, RefusedCode};
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::ids::{LogIndex, NodeId, ShardId, Term};
use cairn_protocol::op::{
    ENTRY_HEADER_BYTES, EntryHeader, EntryRef as Operations, encode_entry_header,
};
use cairn_protocol::resp::Writer;
use cairn_store::log::{Log, LogError, LogId};
use cairn_store::{
    Committer, Evacuation, Imported, PoolOptions, Progress, Published, Sealed, Store, StoreError,
};
use futures_util::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft::{BasicNode, EntryPayload, ReadPolicy};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::consensus::{self, Raft};
use super::eviction::{self, Foreseen};
use super::log_store::LogStore;
use super::long_read::Pinned;
use super::network::{self, Network};
use super::outcome::{self, End};
use super::propose::{Guard, Outcome, Submission};
use super::road::Sessions;
use super::runtime::{Executor, Instant};
use super::state_machine::{GroupSnapshot, Member, StateMachine};
use super::transfer::Arriving;
use super::turn::Turn;
use super::types::{
    Batch, Entry, Metrics, Payload, RaftVote, TypeConfig, encode_applied_membership, store_id,
};
use super::view::{Lease, View};
use crate::ops::entropy::Seeds;
use crate::ops::metrics::{Counter, Hold, Shard as Stats};
use crate::ops::{clock, entropy};
use crate::transport::{self, BoxFuture, SharedTransport};

/// Bytes of operations after which an entry takes no further submission.
const ENTRY_BYTES: usize = 1 << 20;
/// Operations after which it takes none, so that an epoch ends about when it should.
const ENTRY_OPS: u32 = 1024;

/// Places of dead blocks made free under one hold: some 100 us.
const RECYCLE_BLOCKS: usize = 1024;
/// Nodes of dropped trees freed between two looks at the clock, and for how long under one hold.
const RECLAIM_NODES: usize = 8;
const RECLAIM_NANOS: u64 = 100_000;
/// How long handing leadership over may take.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Blocks that evacuation looks at between two looks at the clock.
const EVACUATE_BLOCKS: usize = 56;

/// Why a group takes no more writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupError {
    /// What happened, at which index, and what to do.
    pub reason: String,
}

impl std::fmt::Display for GroupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for GroupError {}

/// An entry that was proposed here and is not applied yet.
#[derive(Debug)]
struct InFlight {
    now_ms: u64,
    /// What its operations draw from; no other entry of this node's has it.
    seed: u64,
    /// Those whose operations it holds, in order.
    submissions: Vec<Arc<Submission>>,
    foreseen: Foreseen,
}

/// What the holder of the driver's lock works with.
#[derive(Debug)]
struct Driver {
    /// Time in a shard never runs backwards.
    last_ms: u64,
    seeds: Seeds,
    /// What was taken from the queue and has no entry yet.
    taken: VecDeque<Arc<Submission>>,
}

/// With whom a group agrees.
pub enum Standing {
    /// With nobody: this node is its only voter, and leads it at once.
    Alone,
    /// With others, over this transport. A group that has neither log nor pool yet begins with the
    /// members in `first`, each with the address of its peer port, where that is given.
    Member {
        /// The way to them.
        transport: SharedTransport,
        /// The first members of a group that is being born.
        first: Option<Vec<(NodeId, String)>>,
        /// Bytes of entries that its log keeps for members that were away; one that was away for
        /// longer gets the whole pool.
        keep_bytes: u64,
    },
}

/// Who leads a shard, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This node.
    Leader,
    /// Another, or nobody known.
    Follower(Option<NodeId>),
}

impl Default for Role {
    fn default() -> Role {
        Role::Follower(None)
    }
}

/// One of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Who.
    pub node: NodeId,
    /// HOST:PORT of its peer port.
    pub address: String,
    /// Whether its vote counts.
    pub is_voter: bool,
    /// The last entry that its leader knows it to have; None elsewhere.
    pub matched: Option<LogIndex>,
}

/// How a group stands, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// This node.
    pub node: NodeId,
    /// The term it is in.
    pub term: Term,
    /// The last entry in its log.
    pub last: Option<LogIndex>,
    /// The last entry that is agreed.
    pub committed: Option<LogIndex>,
    /// The last entry that its log no longer holds.
    pub purged: Option<LogIndex>,
    /// Milliseconds for which it may still answer reads by itself.
    pub lease_ms: u64,
}

/// What a group is made of: after recovery.
pub struct Parts {
    /// The shard.
    pub shard: ShardId,
    /// This node.
    pub node: NodeId,
    /// This boot of the machine, or zeros.
    pub boot_id: [u8; 16],
    /// The engine, at an entry that the log holds or purged.
    pub engine: Engine,
    /// The log.
    pub log: Arc<Log>,
}

/// One shard's group.
pub struct Group {
    shard: ShardId,
    /// The term of the last entry applied: that of its leader.
    term: AtomicU64,
    engine: RwLock<Engine>,
    log: Arc<Log>,
    queue: Mutex<VecDeque<Arc<Submission>>>,
    driver: Mutex<Driver>,
    /// What was proposed here, in order.
    in_flight: Mutex<VecDeque<InFlight>>,
    /// openraft's tasks.
    executor: Arc<Executor>,
    raft: OnceLock<Raft>,
    /// What openraft says of itself.
    metrics: OnceLock<Metrics>,
    view: View,
    /// The way to the other members.
    transport: OnceLock<SharedTransport>,
    sessions: Sessions,
    /// A node is being taken in.
    admitting: AtomicBool,
    /// A peer's pool that is on its way here.
    pub(super) arriving: Mutex<Option<Arriving>>,
    /// Until then no vote is given: one given before this start may still bind.
    votes_from: OnceLock<Instant>,
    /// The log may be purged up to there: the root that a damaged superblock falls back to.
    purge_upto: Mutex<Option<LogId>>,
    /// What will be purged once so many more bytes of entries have come: the bytes applied when it
    /// might first have been.
    marks: Mutex<VecDeque<(LogId, u64)>>,
    keep_bytes: AtomicU64,
    stopped: AtomicBool,
    reason: OnceLock<GroupError>,
    on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
    /// Operations and bytes applied since the start, for the pace of the epochs.
    applied_ops: AtomicU64,
    applied_bytes: AtomicU64,
    /// Where those stood when the last epoch was sealed.
    sealed_ops: AtomicU64,
    sealed_bytes: AtomicU64,
    /// A sealed epoch is being made durable.
    committing: AtomicBool,
    /// Commits the pool that took the place of the one whose committer is at work.
    replaced: Mutex<Option<Committer>>,
    /// Writers are a whole epoch ahead of the commit, and wait for it.
    paused: AtomicBool,
    /// Whoever applies an entry has let go of the engine in the middle of it.
    half_applied: AtomicBool,
    pace: OnceLock<Pace>,
    eviction: Mutex<Eviction>,
    /// Counted into by whoever holds the driver's lock.
    stats: Arc<Stats>,
    /// Counted into by the thread that commits.
    upkeep: Arc<Stats>,
}

/// How much an epoch may hold, and whom to tell when it does.
struct Pace {
    ops: AtomicU64,
    bytes: u64,
    hurry: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Group {
    /// A group, started. `on_stop` is told once when it stops because its log or its pool failed;
    /// `stats` take the holds of the write lock, the first those of applying, the second those of
    /// the thread that commits. Alone it leads when this returns, and has applied what its log holds.
    ///
    /// # Errors
    /// It could not start, or not elect itself.
    pub fn start(
        parts: Parts,
        standing: Standing,
        stats: [Arc<Stats>; 2],
        on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
    ) -> Result<Arc<Group>, String> {
        let Parts { shard, node, boot_id, engine, log } = parts;
        let is_new = log.vote(shard).is_none() && engine.store().membership().is_empty();
        let has_voted = log.vote(shard).is_some();
        let group = Group::new(shard, engine, Arc::clone(&log), stats, on_stop);
        group.hear_the_bell();
        let weak = Arc::downgrade(&group);
        let on_error = Arc::new(move |index: u64, error: &LogError| {
            if let Some(group) = weak.upgrade() {
                group.stop(format!(
                    "log entry {index} could not be made durable: {error}; writes are refused \
                     until the node is restarted on a working medium"
                ));
            }
        });
        let log = LogStore::new(log, shard, boot_id, on_error);
        let weak: Weak<Group> = Arc::downgrade(&group);
        let machine = StateMachine::new(weak);
        // Nobody else runs the tasks while the driver's lock is held.
        let driver = group.driver.lock();
        group.executor.block_on(async {
            let (transport, first) = match standing {
                Standing::Alone => (None, None),
                Standing::Member { transport, first, keep_bytes } => {
                    group.keep_bytes.store(keep_bytes, Ordering::Relaxed);
                    (Some(transport), first)
                }
            };
            let alone = transport.is_none();
            if let Some(transport) = &transport {
                // It is set here alone.
                let _ = group.transport.set(Arc::clone(transport));
            }
            let network = Network::new(shard, transport);
            let raft = consensus::start(node, network, log, machine).await?;
            if alone {
                consensus::lead_alone(&raft).await?;
                group.view.lead_for_ever();
            } else if let Some(first) = first.filter(|_| is_new) {
                consensus::be_born(&raft, first).await?;
            }
            // They are set here alone.
            let _ = group.metrics.set(raft.metrics());
            let _ = group.raft.set(raft);
            if has_voted && !alone {
                group.abstain();
            }
            Ok::<(), String>(())
        })?;
        group.look();
        drop(driver);
        Ok(group)
    }

    /// Neither votes nor campaigns for as long as a vote or a lease may bind that was given before
    /// this start: openraft forgets leases.
    fn abstain(&self) {
        let _ = self.votes_from.set(self.executor.now() + consensus::ABSTAIN);
        if let Some(raft) = self.raft.get() {
            raft.runtime_config().elect(false);
            let raft = raft.clone();
            self.executor.spawn(async move {
                TypeConfig::sleep(consensus::ABSTAIN).await;
                raft.runtime_config().elect(true);
            });
        }
    }

    /// Whether a candidate's request has to be turned away for now.
    fn abstains(&self, request: &Request) -> bool {
        let (Request::Vote(vote) | Request::PreVote(vote)) = request else { return false };
        let from = self.votes_from.get();
        !vote.leadership_transfer && from.is_some_and(|from| self.executor.now() < *from)
    }

    /// Takes note of what openraft says of itself. Under the driver's lock.
    fn look(&self) {
        let Some(metrics) = self.metrics.get() else { return };
        if self.view.is_alone() {
            return;
        }
        let metrics = metrics.borrow_watched();
        if self.stopped.load(Ordering::Acquire) {
            // What this member has grows old from here on.
            return self.view.note(false, metrics.current_leader, 0, None);
        }
        if metrics.current_leader != self.view.leader()
            && let Some(transport) = self.transport.get()
        {
            // openraft names peers to the transport as it comes to talk to them; what is forwarded
            // goes to one that it may never have talked to.
            let nodes = metrics.membership_config.membership().nodes();
            nodes.for_each(|(node, at)| transport.set_peer(*node, &at.addr));
        }
        let leads = metrics.state.is_leader();
        // Only what this term has committed says that all of earlier terms is applied too.
        let is_armed = leads && metrics.current_term == self.term().0;
        let acked = metrics.last_quorum_acked.map(|at| at.into_inner());
        let until = acked.filter(|_| is_armed).map(|at| at + consensus::LEASE);
        self.view.note(leads, metrics.current_leader, metrics.current_term, until);
    }

    /// Who leads, as far as this node knows.
    pub fn role(&self) -> Role {
        match self.view.leads() {
            true => Role::Leader,
            false => Role::Follower(self.view.leader()),
        }
    }

    pub(super) fn transport(&self) -> Option<&SharedTransport> {
        self.transport.get()
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.view.leads()
    }

    /// Whether the group has one member by its nature.
    pub fn is_alone(&self) -> bool {
        self.view.is_alone()
    }

    /// The lease under which this node may answer reads by itself, if it has one. What was read is
    /// to be answered only if [`Group::still_holds`] says so afterwards.
    #[inline]
    pub fn lease(&self) -> Option<Lease> {
        self.view.lease(|| self.executor.now())
    }

    /// Whether a lease that was held before a read is held after it.
    #[inline]
    pub fn still_holds(&self, lease: Lease) -> bool {
        self.view.lease(|| self.executor.now()) == Some(lease)
    }

    /// Answers what another member asks.
    pub fn answer(self: &Arc<Self>, request: Request) -> BoxFuture<Result<Reply, Refused>> {
        let unavailable = |text: &str| {
            let refused = transport::refused(RefusedCode::Unavailable, text);
            Box::pin(std::future::ready(Err(refused))) as BoxFuture<_>
        };
        if let Some(stopped) = self.stop_reason() {
            return unavailable(&stopped.reason);
        }
        if self.abstains(&request) {
            return unavailable("started a moment ago: earlier promises may still bind");
        }
        let Some(raft) = self.raft.get().cloned() else {
            return unavailable("the group is starting");
        };
        if let Request::SnapshotBegin(_) | Request::SnapshotChunk(_) | Request::SnapshotEnd(_) =
            request
        {
            return Box::pin(Arc::clone(self).receive(request));
        }
        let task = async move { network::answer(&raft, request).await };
        let answer = self.executor.within(|| self.executor.spawn(task));
        // Here and now, rather than by a thread that would have to be woken.
        self.drive();
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                Err(transport::refused(RefusedCode::Failed, "failed inside; see the node's log"))
            })
        })
    }

    /// Where the pool lies.
    pub(super) fn pool_path(&self) -> Result<PathBuf, String> {
        let mem = self.read().store().mem_arc();
        let path = mem.media().path().map(Path::to_path_buf);
        path.ok_or_else(|| "a pool without a file cannot be replaced by a peer's".to_owned())
    }

    /// How a peer's pool is opened here.
    pub(super) fn pool_options(&self) -> PoolOptions {
        PoolOptions {
            capacity_bytes: self.read().store().usage().capacity_bytes,
            // The peer's comes with its pool.
            new_hash_key: [0, 0],
            new_uuid: entropy::random_16(),
        }
    }

    /// Gives openraft a peer's pool that has arrived; the vote that it has then.
    pub(super) fn take_over(
        self: &Arc<Self>,
        vote: RaftVote,
        snapshot: GroupSnapshot,
    ) -> impl Future<Output = Option<RaftVote>> + Send + 'static {
        let answer = self.ask(move |raft| async move {
            raft.install_full_snapshot(vote, snapshot).await.ok().map(|reply| reply.vote)
        });
        async move { answer.await.flatten() }
    }

    /// Runs `ask` with openraft, inside the executor, and waits for what comes of it.
    fn ask<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(Raft) -> F,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        let task = self.raft.get().cloned().map(|raft| {
            let answer = self.executor.within(|| self.executor.spawn(ask(raft)));
            self.drive();
            answer
        });
        async move { task?.await.ok() }
    }

    /// Who is in the group, as far as this node knows.
    pub fn members(&self) -> Vec<GroupMember> {
        let Some(metrics) = self.metrics.get() else { return Vec::new() };
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let matched = |node: &NodeId| {
            let replication = metrics.replication.as_ref()?;
            let upto = replication.iter().find(|(id, _)| *id == node)?.1;
            upto.as_ref().map(|id| LogIndex(id.index))
        };
        let member = |(node, at): (&NodeId, &BasicNode)| GroupMember {
            node: *node,
            address: at.addr.clone(),
            is_voter: voters.contains(node),
            matched: matched(node),
        };
        membership.nodes().map(member).collect()
    }

    /// How the group stands.
    pub fn status(&self) -> GroupStatus {
        let Some(metrics) = self.metrics.get() else { return GroupStatus::default() };
        let metrics = metrics.borrow_watched();
        let index = |id: super::types::RaftLogId| LogIndex(id.index);
        GroupStatus {
            node: metrics.id,
            term: Term(metrics.current_term),
            last: metrics.last_log_index.map(LogIndex),
            committed: metrics.local_committed.map(index),
            purged: metrics.purged.map(index),
            lease_ms: self.view.lease_left(self.executor.now()).as_millis() as u64,
        }
    }

    /// How many other members are known to have every write that was acknowledged before this call:
    /// on the leader those whose log has all that is agreed, elsewhere what a majority means.
    pub fn replicas_in_step(&self) -> usize {
        let members = self.members();
        let voters = members.iter().filter(|member| member.is_voter).count();
        if !self.leads() {
            return voters / 2;
        }
        let (own, upto) = (self.status().node, self.status().committed);
        members.iter().filter(|m| m.node != own && m.matched >= upto && upto.is_some()).count()
    }

    /// Takes a node into the group, as the leader, in the background: first as a learner, then, when
    /// it has caught up, as a voter. One of the same address under another id is gone for good (its
    /// disk was wiped), and leaves with that. Says nothing of how it ended: whoever wants to be in
    /// asks again.
    pub fn admit(self: &Arc<Self>, node: NodeId, address: &str) {
        let members = self.members();
        if members.iter().any(|member| member.node == node && member.is_voter) {
            return;
        }
        if self.admitting.swap(true, Ordering::AcqRel) {
            return;
        }
        let gone: BTreeSet<NodeId> = members
            .iter()
            .filter(|m| m.address == address && m.node != node)
            .map(|m| m.node)
            .collect();
        let weak = Arc::downgrade(self);
        let address = address.to_owned();
        drop(self.ask(move |raft| async move {
            let admitted = consensus::admit(&raft, node, address, gone).await;
            if let Some(group) = weak.upgrade() {
                group.admitting.store(false, Ordering::Release);
            }
            match admitted {
                Ok(()) => tracing::info!("node {node} is a voter now"),
                Err(error) => tracing::warn!("node {node} is not a voter yet: {error}"),
            }
        }));
    }

    /// Hands leadership to the member that has most of the log, and waits a moment until it has it.
    /// Nothing to do for who does not lead or is alone.
    pub async fn hand_over(self: &Arc<Self>) {
        if self.is_alone() || !self.leads() {
            return;
        }
        let own = self.transport().map(|transport| transport.node());
        let others = self.members().into_iter();
        let others = others.filter(|member| member.is_voter && Some(member.node) != own);
        let Some(best) = others.max_by_key(|member| member.matched) else { return };
        // No read is answered by this node alone from here on: the other may lead at any moment.
        self.view.hand_over();
        let asked =
            self.ask(
                move |raft| async move { raft.trigger().transfer_leader(best.node).await.is_ok() },
            );
        if asked.await.unwrap_or(false) {
            let start = clock::now();
            while self.leads() && start.elapsed() < HAND_OVER {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// Waits until this node has proved by a round to its peers that it leads, and has applied what
    /// was committed before: then a read sees all that was acknowledged before this call. False when
    /// it does not lead, or reached too few.
    pub fn confirm(self: &Arc<Self>) -> impl Future<Output = bool> + Send + 'static {
        let confirmed = self.ask(|raft| async move {
            raft.ensure_linearizable(ReadPolicy::ReadIndex).await.is_ok()
        });
        async move { confirmed.await.unwrap_or(false) }
    }

    /// A group for reading alone: its log cannot be applied, for `reason`.
    pub fn halted(
        parts: Parts,
        stats: [Arc<Stats>; 2],
        on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
        reason: String,
    ) -> Arc<Group> {
        let Parts { shard, engine, log, .. } = parts;
        let group = Group::new(shard, engine, log, stats, on_stop);
        group.view.lead_for_ever();
        group.halt(reason);
        group
    }

    fn new(
        shard: ShardId,
        engine: Engine,
        log: Arc<Log>,
        [stats, upkeep]: [Arc<Stats>; 2],
        on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
    ) -> Arc<Group> {
        let last_ms = engine.store().clock_ms();
        let driver = Driver { last_ms, seeds: Seeds::new(), taken: VecDeque::new() };
        Arc::new(Group {
            shard,
            term: AtomicU64::new(engine.store().applied().0.0),
            engine: RwLock::new(engine),
            log,
            queue: Mutex::default(),
            driver: Mutex::new(driver),
            in_flight: Mutex::default(),
            executor: Executor::new(),
            raft: OnceLock::new(),
            metrics: OnceLock::new(),
            view: View::default(),
            transport: OnceLock::new(),
            sessions: Sessions::default(),
            admitting: AtomicBool::new(false),
            arriving: Mutex::default(),
            votes_from: OnceLock::new(),
            purge_upto: Mutex::default(),
            marks: Mutex::default(),
            keep_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            reason: OnceLock::new(),
            on_stop,
            applied_ops: AtomicU64::new(0),
            applied_bytes: AtomicU64::new(0),
            sealed_ops: AtomicU64::new(0),
            sealed_bytes: AtomicU64::new(0),
            committing: AtomicBool::new(false),
            replaced: Mutex::default(),
            paused: AtomicBool::new(false),
            half_applied: AtomicBool::new(false),
            pace: OnceLock::new(),
            eviction: Mutex::default(),
            stats,
            upkeep,
        })
    }

    /// Has somebody drive when a task is woken from elsewhere: whoever waits for a reply, or else
    /// the group's own thread.
    fn hear_the_bell(self: &Arc<Self>) {
        let (weak, executor) = (Arc::downgrade(self), Arc::downgrade(&self.executor));
        self.executor.set_bell(Box::new(move || {
            let waiting = weak.upgrade().and_then(|group| {
                group.in_flight.lock().front().and_then(|entry| entry.submissions.first().cloned())
            });
            if !waiting.is_some_and(|waiting| waiting.wake())
                && let Some(executor) = executor.upgrade()
            {
                executor.hurry();
            }
        }));
    }

    /// Waits for openraft's timers, or for what nobody else attends to, at most `longest`, and
    /// drives. For the group's own thread.
    pub(super) fn attend(self: &Arc<Self>, longest: Duration) {
        self.executor.wait_for_timer(longest);
        self.executor.fire();
        self.drive();
    }

    /// Ends a wait in [`Group::attend`].
    pub(super) fn hurry(&self) {
        self.executor.hurry();
    }

    /// The engine for reading. Held for a bounded run of reads and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Engine> {
        self.engine.read()
    }

    /// Ends the pool's epoch for a commit; None when nothing has changed. From here until
    /// [`Group::resume`] a full epoch of further writes makes writers wait.
    pub(super) fn seal(&self) -> Option<Sealed> {
        let mut engine = self.engine.write();
        // An epoch ends between two entries: a replay applies the next one from its start.
        while self.half_applied.load(Ordering::Relaxed) {
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            RwLockWriteGuard::bump(&mut engine);
        }
        let start = clock::now();
        let sealed = engine.store_mut().seal();
        if sealed.is_some() {
            self.committing.store(true, Ordering::SeqCst);
            self.sealed_ops.store(self.applied_ops(), Ordering::Relaxed);
            self.sealed_bytes.store(self.applied_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        sealed
    }

    /// What is there now, held for a read that takes long and needs no lock; `stats` are the
    /// calling thread's.
    pub fn pin(&self, stats: &Stats) -> Pinned {
        let mut engine = self.engine.write();
        let start = clock::now();
        let pinned = Pinned::of(&mut engine);
        stats.hold(Hold::Write, clock::nanos_since(start));
        pinned
    }

    /// Hands the pool what a commit has made durable; false when that was another pool, whose place
    /// this one took meanwhile.
    pub(super) fn release(&self, published: Published) -> bool {
        let mut engine = self.engine.write();
        let start = clock::now();
        let is_this = engine.store_mut().release(published);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        is_this
    }

    /// Puts another pool, which `committer` commits, in the place of this one's. No entry may be
    /// half applied.
    pub(super) fn replace(&self, store: Store, committer: Committer) {
        let (term, index) = store.applied();
        let mut engine = self.engine.write();
        assert!(!self.half_applied.load(Ordering::Relaxed), "a pool replaced inside an entry");
        let start = clock::now();
        let old = engine.replace_store(store);
        let unused = self.replaced.lock().replace(committer);
        *self.purge_upto.lock() = Some(LogId::new(term, index));
        self.term.store(term.0, Ordering::Release);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        drop(engine);
        // Unmapping takes its time.
        drop((old, unused));
    }

    /// The committer of a pool that took this one's place since it was last asked for.
    pub(super) fn take_committer(&self) -> Option<Committer> {
        self.replaced.lock().take()
    }

    /// The commit is over: lets writers that had to wait go on.
    pub(super) fn resume(&self) {
        self.committing.store(false, Ordering::SeqCst);
        if self.paused.swap(false, Ordering::SeqCst) {
            // Whoever commits must not drive: others would keep it busy, and nothing would commit.
            let first = self.queue.lock().front().cloned();
            if let Some(first) = first {
                first.wake();
            }
        }
    }

    /// Frees some of what was dropped; says whether there is more.
    pub(super) fn reclaim(&self) -> Result<bool, StoreError> {
        let mut engine = self.engine.write();
        let start = clock::now();
        let mut more = true;
        while more && clock::nanos_since(start) < RECLAIM_NANOS {
            more = engine.store_mut().reclaim(RECLAIM_NODES)?;
        }
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        Ok(more)
    }

    /// Does some of a pass of evacuation, beginning one if none is under way; with `last_resort` it
    /// takes room that is otherwise left to writers.
    pub(super) fn evacuate(
        &self,
        pass: &mut Evacuation,
        last_resort: bool,
    ) -> Result<Progress, StoreError> {
        let mut engine = self.engine.write();
        let start = clock::now();
        let mut progress = Progress::More;
        while progress == Progress::More && clock::nanos_since(start) < RECLAIM_NANOS {
            progress = engine.store_mut().evacuate(pass, EVACUATE_BLOCKS, last_resort)?;
        }
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        Ok(progress)
    }

    /// Gives a pass of evacuation up.
    pub(super) fn stop_evacuation(&self, pass: &mut Evacuation) {
        self.engine.write().store_mut().stop_evacuation(pass);
    }

    /// Gives some of the free end of the pool's file back; says whether there is more.
    pub(super) fn shrink(&self) -> Result<bool, StoreError> {
        let mut engine = self.engine.write();
        let start = clock::now();
        let more = engine.store_mut().shrink_some();
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        more
    }

    /// Makes some places free again that commits have released; says whether there are more.
    pub(super) fn recycle(&self) -> bool {
        let mut engine = self.engine.write();
        let start = clock::now();
        let more = engine.store_mut().recycle_dead(RECYCLE_BLOCKS);
        self.upkeep.hold(Hold::Write, clock::nanos_since(start));
        more
    }

    /// The shard's number.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The log that holds its entries.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The term of the last entry applied.
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Acquire))
    }

    /// Has the log purged up to `upto`, of which a committed root and the one before it have no
    /// more need.
    pub(super) fn purge(&self, upto: LogId) {
        let keep_bytes = self.keep_bytes.load(Ordering::Relaxed);
        let now_bytes = self.applied_bytes.load(Ordering::Relaxed);
        {
            let mut marks = self.marks.lock();
            marks.push_back((upto, now_bytes));
            let mut purge = None;
            while marks.front().is_some_and(|(_, at)| at + keep_bytes <= now_bytes) {
                purge = marks.pop_front();
            }
            let Some((upto, _)) = purge else { return };
            *self.purge_upto.lock() = Some(upto);
        }
        if let Some(raft) = self.raft.get() {
            // The channel is wider than anything that goes through it; the next commit asks again.
            let _ = raft.trigger().snapshot().now_or_never();
        }
    }

    /// Operations applied since the start.
    pub fn applied_ops(&self) -> u64 {
        self.applied_ops.load(Ordering::Relaxed)
    }

    /// Why the group stopped, if it did.
    pub fn stop_reason(&self) -> Option<&GroupError> {
        self.reason.get()
    }

    /// Calls `hurry` when an epoch holds `ops` operations or `bytes` bytes of them. To be set once,
    /// before the first write.
    pub(super) fn set_pace(&self, ops: u64, bytes: u64, hurry: Box<dyn Fn() + Send + Sync>) {
        let pace = Pace { ops: AtomicU64::new(ops), bytes, hurry };
        // A second pace would be a mistake in the composition root; the first one stays.
        let _ = self.pace.set(pace);
    }

    /// How keys are chosen that go when memory is full.
    pub fn eviction(&self) -> Eviction {
        *self.eviction.lock()
    }

    /// Changes it, and what the sketch counts.
    pub fn set_eviction(&self, rules: Eviction) {
        *self.eviction.lock() = rules;
        self.read().recency().set_policy(rules.policy.recency());
    }

    /// Changes how many operations an epoch may hold.
    pub(super) fn set_epoch_ops(&self, ops: u64) {
        if let Some(pace) = self.pace.get() {
            pace.ops.store(ops, Ordering::Relaxed);
        }
    }

    /// Queues a batch; [`Submission::wait`] has it agreed on, applied and answered.
    pub fn submit(&self, submission: &Arc<Submission>) {
        submission.start();
        if self.stopped.load(Ordering::Acquire) {
            return self.refuse(submission);
        }
        self.queue.lock().push_back(Arc::clone(submission));
    }

    /// Proposes and applies what there is, unless another thread is at it.
    pub fn drive(self: &Arc<Self>) {
        while self.has_work() {
            let Some(mut driver) = self.driver.try_lock() else { return };
            self.executor.within(|| self.propose_queued(&mut driver));
            self.executor.run();
            self.look();
        }
    }

    fn has_work(&self) -> bool {
        self.executor.has_ready()
            || !self.paused.load(Ordering::SeqCst) && !self.queue.lock().is_empty()
    }

    /// Makes entries of all that is queued and gives them to openraft.
    fn propose_queued(self: &Arc<Self>, driver: &mut Driver) {
        if self.paused.load(Ordering::SeqCst) {
            return;
        }
        std::mem::swap(&mut driver.taken, &mut *self.queue.lock());
        while !driver.taken.is_empty() {
            if self.stopped.load(Ordering::Acquire) {
                driver.taken.drain(..).for_each(|submission| self.refuse(&submission));
                return;
            }
            let (entry, count) = self.stamp(driver);
            if !entry.submissions.is_empty() {
                self.propose(entry, count);
            }
        }
    }

    /// Takes submissions for one entry and gives it time and seed; returns it with the number of its
    /// operations. One without submissions is none: all that there were have been answered here.
    fn stamp(&self, driver: &mut Driver) -> (InFlight, u32) {
        let mut submissions = Vec::new();
        let (mut bytes, mut count, mut work) = (0, 0u32, 0u32);
        driver.last_ms = driver.last_ms.max(clock::wall_ms());
        if !self.is_alone() {
            // Another leader's clock may have been ahead of this one's.
            driver.last_ms = driver.last_ms.max(self.engine.read().store().clock_ms());
        }
        let (evicting, foreseen) = self.make_room(driver);
        if let Some(evicting) = evicting {
            count += evicting.batch().write_count();
            submissions.push(evicting);
        }
        while bytes < ENTRY_BYTES
            && work < ENTRY_OPS
            && let Some(submission) = driver.taken.pop_front()
        {
            let mut batch = submission.batch();
            if batch.guard().is_some_and(|guard| self.is_broken(guard, driver, &submissions)) {
                batch.abort();
                drop(batch);
                submission.finish();
                continue;
            }
            bytes += batch.write_bytes();
            count += batch.write_count();
            work += batch.work();
            drop(batch);
            submissions.push(submission);
        }
        let (now_ms, seed) = (driver.last_ms, driver.seeds.next_seed());
        (InFlight { now_ms, seed, submissions, foreseen }, count)
    }

    /// Room for the next entry, where keys may be given up for it.
    fn make_room(&self, driver: &mut Driver) -> (Option<Arc<Submission>>, Foreseen) {
        let rules = self.eviction();
        if !rules.is_on() {
            return (None, Foreseen::default());
        }
        let draw = (driver.last_ms, driver.seeds.next_seed());
        let engine = self.engine.read();
        let (mut bytes, mut work) = (0, 0);
        // As `stamp` will take them.
        let entry = driver.taken.iter().map_while(|submission| {
            let batch = submission.batch();
            let is_full = bytes >= ENTRY_BYTES || work >= ENTRY_OPS;
            (bytes, work) = (bytes + batch.write_bytes(), work + batch.work());
            (!is_full).then(|| eviction::need(&engine, &batch))
        });
        let in_flight = self.in_flight.lock();
        let in_flight = in_flight.iter().map(|entry| &entry.foreseen);
        eviction::make_room(&engine, rules, draw, entry, in_flight)
    }

    /// Gives an entry to openraft.
    fn propose(self: &Arc<Self>, entry: InFlight, count: u32) {
        let InFlight { now_ms, seed, ref submissions, .. } = entry;
        let header = EntryHeader { engine_version: ENGINE_VERSION, count, now_ms, seed };
        let bytes =
            submissions.iter().map(|submission| submission.batch().write_bytes()).sum::<usize>();
        let mut payload = Vec::with_capacity(ENTRY_HEADER_BYTES + bytes);
        encode_entry_header(&mut payload, &header);
        for submission in submissions {
            payload.extend_from_slice(submission.batch().writes());
        }
        self.in_flight.lock().push_back(entry);
        let group: Weak<Group> = Arc::downgrade(self);
        let outcome = outcome::Outcome::new(group, seed);
        if let Some(raft) = self.raft.get() {
            // What finds no room in the channel is given up as it is dropped, like all that has no
            // other end.
            let batch = Batch(Bytes::from(payload));
            let _ = raft.client_write_ff(batch, Some(outcome)).now_or_never();
        }
    }

    fn take_in_flight(&self, seed: u64) -> Option<InFlight> {
        let mut in_flight = self.in_flight.lock();
        let at = in_flight.iter().position(|entry| entry.seed == seed)?;
        in_flight.remove(at)
    }

    fn apply_payload(&self, id: LogId, payload: &Payload) -> Result<(), GroupError> {
        match payload {
            EntryPayload::Normal(Batch(payload)) => {
                let operations = Operations::decode(payload);
                let operations = operations.map_err(|error| self.halted_at(id.index.0, &error))?;
                match self.take_in_flight(operations.header().seed) {
                    Some(own) => self.apply_own(id, &own),
                    None => self.apply_foreign(id, &operations, payload.len()),
                }
            }
            EntryPayload::Membership(membership) => {
                let bytes = encode_applied_membership(id, membership);
                let set = self.engine.write().store_mut().set_membership(&bytes);
                set.map_err(|error| self.halted_at(id.index.0, &error))?;
                self.apply_blank(id);
                Ok(())
            }
            EntryPayload::Blank => {
                self.apply_blank(id);
                Ok(())
            }
        }
    }

    fn apply_blank(&self, id: LogId) {
        let mut engine = self.engine.write();
        let clock_ms = engine.store().clock_ms();
        engine.finish_entry(id.term, id.index, clock_ms);
    }

    /// Applies an entry that another node proposed, or an earlier run of this one.
    fn apply_foreign(
        &self,
        id: LogId,
        operations: &Operations<'_>,
        bytes: usize,
    ) -> Result<(), GroupError> {
        let header = *operations.header();
        if header.engine_version > ENGINE_VERSION {
            return Err(self.halted_at(
                id.index.0,
                &format_args!(
                    "it asks for engine version {}, this build has {ENGINE_VERSION}: start a newer \
                     cairn",
                    header.engine_version
                ),
            ));
        }
        let mut ops = 0;
        let mut turn = Turn::begin(&self.engine, &self.half_applied, &self.stats);
        for op in operations.ops() {
            let op = op.map_err(|error| self.halted_at(id.index.0, &error))?;
            let at = At { now_ms: header.now_ms, seed: header.seed.wrapping_add(ops) };
            let applied = turn.engine().apply(&op, &at, &mut Writer::suppressed());
            applied.map_err(|fatal| self.halted_at(id.index.0, &fatal))?;
            turn.ran(op.command.spec(), bytes / header.count.max(1) as usize);
            ops += 1;
        }
        turn.lap();
        self.finish(turn, id, header.now_ms, (ops, bytes as u64));
        Ok(())
    }

    fn finish(&self, mut turn: Turn<'_>, id: LogId, now_ms: u64, (ops, bytes): (u64, u64)) {
        turn.engine().finish_entry(id.term, id.index, now_ms);
        let tight = turn.engine().store().is_tight();
        turn.end();
        self.keep_pace(ops, bytes, tight);
    }

    /// Halts, because entry `index` cannot be applied; returns why.
    fn halted_at(&self, index: u64, why: &dyn std::fmt::Display) -> GroupError {
        let reason = format!(
            "log entry {index} could not be applied: {why}; this shard serves no more writes"
        );
        self.halt(reason.clone());
        GroupError { reason }
    }

    /// Applies an entry that was proposed here, and answers it.
    fn apply_own(&self, id: LogId, entry: &InFlight) -> Result<(), GroupError> {
        let (mut seed, mut bytes, mut ops) = (entry.seed, 0, 0);
        let mut turn = Turn::begin(&self.engine, &self.half_applied, &self.stats);
        for (at, submission) in entry.submissions.iter().enumerate() {
            let mut batch = submission.batch();
            if let Err(fatal) = batch.apply(&mut turn, entry.now_ms, seed) {
                drop(batch);
                drop(turn);
                let halted = self.halted_at(id.index.0, &fatal);
                entry.submissions[at..].iter().for_each(|left| self.refuse(left));
                return Err(halted);
            }
            seed = seed.wrapping_add(batch.write_count().into());
            bytes += batch.write_bytes() as u64;
            ops += u64::from(batch.work());
            if batch.evicted() > 0 {
                self.stats.count(Counter::evicted_keys, batch.evicted().into());
            }
            batch.set_apply_nanos(turn.lap());
            drop(batch);
            if at + 1 < entry.submissions.len() {
                // Lets waiting readers in between two connections' batches.
                turn.give_way();
            }
        }
        self.finish(turn, id, entry.now_ms, (ops, bytes));
        entry.submissions.iter().for_each(|submission| submission.finish());
        Ok(())
    }

    /// Counts what was applied, and has the pool committed when an epoch is full or space is short.
    /// Who is a whole epoch ahead of the commit waits, so that a restart replays two at most; who
    /// finds space `tight` waits too, for what has died comes back with a commit.
    fn keep_pace(&self, ops: u64, bytes: u64, tight: bool) {
        // Only the holder of the driver's lock comes here: plain loads and stores do.
        let ops = self.applied_ops.load(Ordering::Relaxed) + ops;
        let bytes = self.applied_bytes.load(Ordering::Relaxed) + bytes;
        self.applied_ops.store(ops, Ordering::Relaxed);
        self.applied_bytes.store(bytes, Ordering::Relaxed);
        let Some(pace) = self.pace.get() else { return };
        let ops = ops - self.sealed_ops.load(Ordering::Relaxed);
        let bytes = bytes - self.sealed_bytes.load(Ordering::Relaxed);
        let epochs = (ops / pace.ops.load(Ordering::Relaxed).max(1)).max(bytes / pace.bytes);
        if tight || epochs >= 2 {
            // Before the word to commit, so that the commit's end finds the pause.
            self.paused.store(true, Ordering::SeqCst);
        }
        if tight || epochs >= 1 && !self.committing.load(Ordering::SeqCst) {
            return (pace.hurry)();
        }
        if epochs >= 1 {
            self.paused.store(true, Ordering::SeqCst);
            if !self.committing.load(Ordering::SeqCst) {
                // The commit ended in between, and whoever ended it may have seen no pause.
                (pace.hurry)();
            }
        }
    }

    /// Stops the group for good, and has the node told: what is in flight and all that comes is
    /// answered with the reason.
    pub fn stop(&self, reason: String) {
        if self.refuse_writes(reason)
            && let Some(reason) = self.reason.get()
        {
            (self.on_stop)(reason);
        }
    }

    /// Applies nothing more, for an operation could not be applied, and skipping it would be to
    /// invent another history. What can be read is served on.
    pub fn halt(&self, reason: String) {
        tracing::error!("{reason}; what can be read is served on");
        self.refuse_writes(reason);
    }

    /// False when writes are refused already, for another reason.
    fn refuse_writes(&self, reason: String) -> bool {
        if self.reason.set(GroupError { reason }).is_err() {
            return false;
        }
        self.stopped.store(true, Ordering::Release);
        if !self.is_alone() {
            self.view.note(false, None, 0, None);
        }
        self.paused.store(false, Ordering::SeqCst);
        let in_flight = std::mem::take(&mut *self.in_flight.lock());
        let queued = std::mem::take(&mut *self.queue.lock());
        let in_flight = in_flight.into_iter().flat_map(|entry| entry.submissions);
        in_flight.chain(queued).for_each(|submission| self.refuse(&submission));
        true
    }

    /// Whether what a transaction watched was changed, or may be by what is on its way before it.
    fn is_broken(&self, guard: &Guard, driver: &Driver, ahead: &[Arc<Submission>]) -> bool {
        let in_flight = self.in_flight.lock();
        let in_flight = in_flight.iter().flat_map(|entry| &entry.submissions);
        let mut before = in_flight.chain(ahead);
        guard.term != self.term()
            || guard.watch.is_broken(driver.last_ms)
            || before.any(|submission| submission.batch().may_touch(&guard.watch))
    }

    fn refuse(&self, submission: &Arc<Submission>) {
        let reason = self.reason.get().map_or("the shard has stopped", |error| &error.reason);
        submission.batch().fail(&format!("MISCONF {reason}"));
        submission.finish();
    }
}

impl Member for Group {
    fn engine(&self) -> RwLockReadGuard<'_, Engine> {
        self.read()
    }

    fn apply(&self, entry: Entry) -> Result<(), GroupError> {
        if let Some(stopped) = self.stop_reason() {
            return Err(stopped.clone());
        }
        let id = store_id(entry.log_id);
        self.apply_payload(id, &entry.payload)?;
        self.term.store(id.term.0, Ordering::Release);
        Ok(())
    }

    fn purge_upto(&self) -> Option<LogId> {
        self.purge_upto.lock().or_else(|| self.log.purged(self.shard))
    }

    fn install(&self, imported: Imported) -> Result<(), String> {
        let (term, _) = imported.head().applied();
        let pool = self.pool_path()?;
        Group::install(self, imported, &pool, &self.pool_options())?;
        self.term.store(term.0, Ordering::Release);
        Ok(())
    }

    fn give_up(&self, proposal: u64, end: End) {
        let Some(entry) = self.take_in_flight(proposal) else { return };
        let outcome = match end {
            _ if self.is_alone() => {
                return entry.submissions.iter().for_each(|submission| self.refuse(submission));
            }
            End::NotExecuted => Outcome::NotLeader,
            End::Unknown => Outcome::Unknown,
        };
        entry.submissions.iter().for_each(|submission| submission.end(outcome));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::super::recover::{self, Options};
    use super::super::start;
    use super::*;
    use crate::ops::config::Durability;
    use crate::ops::metrics::Metrics;

    fn group(dir: &std::path::Path) -> Arc<Group> {
        let capacity_bytes = 64 << 20;
        let options = Options { dir, durability: Durability::Always, capacity_bytes, member: None };
        let recovery = recover::recover(options).expect("recovers");
        let metrics = Metrics::new(0);
        let stats = [metrics.shard(), metrics.shard()];
        let started =
            start::start(recovery, Standing::Alone, capacity_bytes, stats, Box::new(|_| ()));
        started.expect("starts").0
    }

    #[test]
    fn no_epoch_ends_inside_an_entry() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        let sealed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let mut turn = Turn::begin(&group.engine, &group.half_applied, &group.stats);
            let flusher = scope.spawn(|| {
                group.seal();
                sealed.fetch_add(1, Ordering::SeqCst);
            });
            for _ in 0..20 {
                turn.lap();
                turn.give_way();
                std::thread::sleep(Duration::from_millis(2));
                assert_eq!(sealed.load(Ordering::SeqCst), 0);
            }
            turn.end();
            flusher.join().expect("seals in the end");
        });
        assert_eq!(sealed.into_inner(), 1);
    }

    #[test]
    fn nothing_is_sealed_of_an_entry_that_failed_half_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        drop(Turn::begin(&group.engine, &group.half_applied, &group.stats));
        group.stop("damage".into());
        assert!(group.seal().is_none());
    }
}
