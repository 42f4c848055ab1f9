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
//! [`stamp`] makes entries of what is submitted, [`apply`] does what was agreed on, [`members`] is
//! about who agrees, [`change`] changes that, [`upkeep`] is about the pool.
//!
//! Lock order: driver, then engine, then a submission's batch, then what is in flight, then the
//! queue (held for a push or a swap only). Readers take the engine's lock alone.

mod apply;
mod change;
mod members;
#[cfg(test)]
mod of_three;
mod room;
mod stamp;
mod upkeep;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use cairn_engine::{Engine, Eviction};
use cairn_protocol::cluster::message::{AppendReply, Refused, RefusedCode};
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::ids::{LogIndex, NodeId, ShardId, Term};
use cairn_store::log::{Log, LogError, LogId};
use cairn_store::{Committer, Demand, StoreError};
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};

use self::change::Changing;
use self::members::Confirming;
pub use self::members::{GroupMember, GroupStatus};
use self::stamp::{Driver, InFlight};
use self::upkeep::Pace;
use super::consensus::{self, Raft};
use super::distance::Distance;
use super::heard::Heard;
use super::home::Home;
use super::keeping::Keeping;
use super::log_store::LogStore;
use super::network::{self, Network};
use super::propose::{Outcome, Submission};
use super::rest::Rests;
use super::road::Sessions;
use super::room::Patience;
use super::runtime::{Executor, Instant};
use super::state_machine::{GroupSnapshot, StateMachine};
use super::transfer::Arriving;
use super::types::{Metrics, RaftVote, TypeConfig};
use super::view::{Lease, View};
use super::vote::{self, Vote};
use crate::ops::config::Reads;
use crate::ops::metrics::Shard as Stats;
use crate::transport::{self, BoxFuture, SharedTransport};

/// For how long whoever said that it leads is believed to, by a member that has stopped.
const HEARD: Duration = Duration::from_secs(1);

/// Between two times that leadership is given up because the pool cannot be sent to a member.
const GIVE_WAY_AGAIN: Duration = Duration::from_secs(60);

/// Between two looks whether an entry that takes long has been applied.
const STAND_BY: Duration = Duration::from_millis(2);

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
        /// It has been a voter before: what it then promised must still be here.
        has_voted: bool,
        /// Bytes of entries that its log keeps for members that were away; one that was away for
        /// longer gets the whole pool.
        keep_bytes: u64,
        /// How it makes sure that it still leads when it answers a read.
        reads: Reads,
        /// How far apart the members are.
        distance: Distance,
    },
}

impl Standing {
    fn distance(&self) -> Distance {
        match self {
            Standing::Alone => Distance::default(),
            Standing::Member { distance, .. } => *distance,
        }
    }
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
    /// Where its pool lies.
    pub home: Arc<dyn Home>,
    /// The log.
    pub log: Arc<Log>,
    /// What runs openraft's tasks, and whose time and chance it lives by.
    pub executor: Arc<Executor>,
}

/// The last entry that a leader says is agreed; 0 for none, or for who says nothing of it.
fn agreed_by(request: &Request) -> u64 {
    let commit = match request {
        Request::Append(append) => append.commit,
        Request::Heartbeat(heartbeat) => heartbeat.groups.iter().find_map(|beat| beat.commit),
        _ => None,
    };
    commit.map_or(0, |id| id.index.0)
}

/// Whether it says that the asker is followed.
fn is_followed(reply: &Reply) -> bool {
    match reply {
        Reply::Append(reply) => *reply == AppendReply::Success,
        Reply::Heartbeat(reply) => {
            reply.groups.iter().any(|group| group.outcome == Some(AppendReply::Success))
        }
        _ => false,
    }
}

/// One shard's group.
pub struct Group {
    itself: Weak<Group>,
    shard: ShardId,
    /// The term of the last entry applied: that of its leader.
    term: AtomicU64,
    /// The index of that entry.
    applied: AtomicU64,
    /// An entry is being applied aside.
    set_aside: AtomicBool,
    /// What the entry that is being applied, aside or not, may take of the pool.
    applying_demand: Mutex<Demand>,
    engine: RwLock<Engine>,
    home: Arc<dyn Home>,
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
    /// Whether a majority answers this leader.
    heard: Arc<Heard>,
    distance: Distance,
    /// The way to the other members.
    transport: OnceLock<SharedTransport>,
    sessions: Sessions,
    /// Forwards of other nodes that are being executed.
    served: AtomicUsize,
    rests: Rests,
    changing: Changing,
    confirming: Mutex<Confirming>,
    /// A peer's pool that is on its way here.
    pub(super) arriving: Mutex<Option<Arriving>>,
    /// When it was last said why a peer's pool is not taken, and why.
    pub(super) refused_pool: Mutex<Option<(Instant, String)>>,
    /// It has been a voter.
    has_voted: AtomicBool,
    /// It was taken out of the group.
    taken_out: AtomicBool,
    /// When it was last said that this pool cannot be sent to a member.
    unsendable: Mutex<Option<Instant>>,
    /// Until then no vote is given: one given before this start may still bind.
    votes_from: OnceLock<Instant>,
    /// Who said last that it leads, and when, to a member that has stopped.
    claimed: Mutex<Option<(NodeId, Instant)>>,
    /// The place in the log, plus one, of the membership whose addresses the transport knows.
    named_for: AtomicU64,
    /// The log may be purged up to there: the root that a damaged superblock falls back to.
    purge_upto: Mutex<Option<LogId>>,
    /// What will be purged once so many more bytes of entries have come: the bytes applied when it
    /// might first have been.
    marks: Mutex<VecDeque<(LogId, u64)>>,
    keep_bytes: AtomicU64,
    /// The pool that is on its way to members, and which entries they will need behind it.
    keeping: Keeping,
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
    /// What they wait for the pool to have room for.
    wanted: Mutex<Option<Demand>>,
    /// Commits that are over, for who waits for room.
    relieved: (Mutex<u64>, Condvar),
    /// Whoever applies an entry has let go of the engine in the middle of it.
    half_applied: AtomicBool,
    /// Nothing is proposed before another entry has been applied: what those on their way may take
    /// leaves too little room, and mostly they take far less.
    room_promised: AtomicBool,
    /// What [`Group::is_room_scarce`] says: whoever changes the room sees to it, so that whoever asks
    /// need not take the lock.
    scarce: AtomicBool,
    pace: OnceLock<Pace>,
    eviction: Mutex<Eviction>,
    /// Counted into by whoever applies.
    stats: Arc<Stats>,
    /// Counted into by the thread that commits.
    upkeep: Arc<Stats>,
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
    /// It could not start, or not elect itself; or a member has lost what it promised.
    pub fn start(
        parts: Parts,
        standing: Standing,
        stats: [Arc<Stats>; 2],
        on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
    ) -> Result<Arc<Group>, String> {
        let (shard, node, boot_id, log) =
            (parts.shard, parts.node, parts.boot_id, Arc::clone(&parts.log));
        let is_new = log.vote(shard).is_none() && parts.engine.store().membership().is_empty();
        let vote = log.vote(shard);
        if let Standing::Member { has_voted, .. } = &standing {
            let vote = vote.as_deref().and_then(Vote::decode);
            vote::check_kept(*has_voted && is_new, vote, boot_id, log.is_lazy())?;
        }
        let has_voted = vote.is_some();
        let distance = standing.distance();
        let group = Group::new(parts, distance, stats, on_stop);
        group.hear_the_bell();
        let weak = Arc::downgrade(&group);
        let on_error = Arc::new(move |what: &str, error: &LogError| {
            if let Some(group) = weak.upgrade() {
                group.stop(format!(
                    "{what}: {error}; writes are refused until the node is restarted on a working \
                     medium"
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
                Standing::Member { transport, first, has_voted, keep_bytes, reads, .. } => {
                    group.has_voted.store(has_voted, Ordering::Relaxed);
                    group.keep_bytes.store(keep_bytes, Ordering::Relaxed);
                    group.view.allow_lease(reads == Reads::Lease);
                    (Some(transport), first)
                }
            };
            let alone = transport.is_none();
            if let Some(transport) = &transport {
                // It is set here alone.
                let _ = group.transport.set(Arc::clone(transport));
            }
            let network = Network::new(shard, transport, Arc::clone(&group.heard), distance);
            let raft = consensus::start(node, distance, network, log, machine).await?;
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
            if !alone {
                group.keep_beating();
            }
            Ok::<(), String>(())
        })?;
        group.look();
        drop(driver);
        Ok(group)
    }

    /// Damage keeps this node from ever sending its pool whole: says so, and has a member lead whose
    /// pool may be sound, if another voter has all that is applied here.
    fn give_way(&self, damage: &StoreError) {
        let now = self.executor.now();
        let mut tried = self.unsendable.lock();
        if tried.is_some_and(|before| now - before < GIVE_WAY_AGAIN) {
            return;
        }
        *tried = Some(now);
        let applied = self.applied();
        let next = self.successor().filter(|best| self.leads() && best.matched >= Some(applied));
        let then = match &next {
            Some(next) => format!("node {} is to lead, and to send its own", next.node),
            None => "no other voter could lead, so the member that asked goes without".to_owned(),
        };
        tracing::error!("this node's pool cannot be sent to a member: {damage}; {then}");
        if let (Some(next), Some(raft)) = (next, self.raft.get().cloned()) {
            // No read is answered by this node alone from here on: the other may lead at any moment.
            self.view.hand_over();
            self.executor.spawn(async move { raft.trigger().transfer_leader(next.node).await });
        }
    }

    /// Has the other members hear from this one for as long as it leads.
    fn keep_beating(self: &Arc<Self>) {
        let (Some(raft), weak) = (self.raft.get().cloned(), Arc::downgrade(self)) else { return };
        self.executor.spawn(async move {
            while let Some(leads) = weak.upgrade().map(|group| group.leads()) {
                if leads && !consensus::beat(&raft).await {
                    return;
                }
                TypeConfig::sleep(consensus::HEARTBEAT).await;
            }
        });
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
        let (Some(metrics), false) = (self.metrics.get(), self.view.is_alone()) else { return };
        if !self.stopped.load(Ordering::Acquire) {
            self.note_view(metrics);
        }
        // After that, for whoever stops the group may do so at any moment.
        if self.stopped.load(Ordering::Acquire) {
            // What this member has grows old from here on.
            self.heard.note(false, None, || self.executor.now());
            self.view.note(false, None, 0, None);
        }
    }

    fn note_view(&self, metrics: &Metrics) {
        let metrics = metrics.borrow_watched();
        let own = self.transport.get().map(|transport| transport.node());
        // Who joins hears of its leader before it knows where the members are.
        let membership = metrics.membership_config.log_id().map_or(0, |id| id.index + 1);
        let is_new = membership != self.named_for.load(Ordering::Relaxed);
        if (is_new || metrics.current_leader != self.view.leader())
            && let Some(transport) = self.transport.get()
        {
            // openraft names peers to the transport as it comes to talk to them; what is forwarded
            // goes to one that it may never have talked to.
            self.named_for.store(membership, Ordering::Relaxed);
            let nodes = metrics.membership_config.membership().nodes();
            let others = nodes.filter(|(node, _)| Some(**node) != own);
            others.for_each(|(node, at)| transport.set_peer(*node, &at.addr));
            self.note_membership(metrics.id, metrics.membership_config.membership());
        }
        let leads = metrics.state.is_leader();
        // Only what this term has committed says that all of earlier terms is applied too.
        let is_armed = leads && metrics.current_term == self.term().0;
        let acked = metrics.last_quorum_acked.map(|at| at.into_inner());
        self.heard.note(leads, acked, || self.executor.now());
        let until = acked.filter(|_| is_armed).map(|at| at + consensus::LEASE);
        // One that led, and does not any more, is nobody to send anything to.
        let leader = metrics.current_leader.filter(|leader| leads || Some(*leader) != own);
        if leader.is_some()
            && (leader, metrics.current_term) != (self.view.leader(), self.view.term().0)
        {
            let who = if leads { "this node" } else { "node" };
            tracing::info!(
                "{who} {} leads in term {}",
                leader.unwrap_or_default(),
                metrics.current_term
            );
        }
        self.view.note(leads, leader, metrics.current_term, until);
    }

    /// Stops the group if openraft has ended: it does so over any error of the log or the pool, and
    /// nobody else would notice.
    fn look_after_openraft(&self) {
        let Some(metrics) = self.metrics.get() else { return };
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        let why = match &metrics.borrow_watched().running_state {
            Err(why) => why.to_string(),
            Ok(()) if metrics.is_orphaned() => "it failed inside, see the node's log".to_owned(),
            Ok(()) => return,
        };
        self.stop(format!("raft has ended: {why}; restart the node"));
    }

    /// Who leads, as far as this node knows.
    pub fn role(&self) -> Role {
        match self.view.leads() {
            true => Role::Leader,
            false if self.stopped.load(Ordering::Acquire) => Role::Follower(self.heard_leader()),
            false => Role::Follower(self.view.leader()),
        }
    }

    /// Who said lately that it leads, to a member that has stopped and knows nothing else.
    fn heard_leader(&self) -> Option<NodeId> {
        let (leader, at) = (*self.claimed.lock())?;
        (self.executor.now() - at < HEARD).then_some(leader)
    }

    /// Takes note of who leads, from what it asks of a member that has stopped.
    fn hear_leader(&self, request: &Request) {
        let vote = match request {
            Request::Append(append) => Some(append.vote),
            Request::Heartbeat(heartbeat) => {
                let own = heartbeat.groups.iter().find(|beat| beat.shard == self.shard);
                own.map(|beat| beat.vote)
            }
            _ => None,
        };
        if let Some(leader) = vote.filter(|vote| vote.committed).and_then(|vote| vote.node) {
            *self.claimed.lock() = Some((leader, self.executor.now()));
        }
    }

    pub(super) fn transport(&self) -> Option<&SharedTransport> {
        self.transport.get()
    }

    pub(super) fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// Milliseconds since the Unix epoch: this machine's clock, or the median of the members' where
    /// it is far off that.
    #[inline]
    pub fn wall_ms(&self) -> u64 {
        self.executor.wall_ms()
    }

    pub(super) fn home(&self) -> &dyn Home {
        &*self.home
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) fn served(&self) -> &AtomicUsize {
        &self.served
    }

    pub(super) fn rests(&self) -> &Rests {
        &self.rests
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
            self.hear_leader(&request);
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
        let shard = self.shard;
        let agreed = agreed_by(&request);
        let task = async move { network::answer(&raft, shard, request).await };
        let answer = self.executor.within(|| self.executor.spawn(task));
        // Here and now, rather than by a thread that would have to be woken.
        self.drive();
        let group = Arc::clone(self);
        Box::pin(async move {
            let reply = answer.await.unwrap_or_else(|_| {
                Err(transport::refused(RefusedCode::Failed, "failed inside; see the node's log"))
            });
            if reply.as_ref().is_ok_and(is_followed) {
                group.view.hear(group.executor.now(), agreed, group.known_applied());
            }
            reply
        })
    }

    /// The last entry applied, as far as openraft says.
    fn known_applied(&self) -> u64 {
        let applied = self.metrics.get().and_then(|metrics| metrics.borrow_watched().last_applied);
        applied.map_or(0, |id| id.index)
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

    /// A group for reading alone: its log cannot be applied, for `reason`.
    pub fn halted(
        parts: Parts,
        stats: [Arc<Stats>; 2],
        on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
        reason: String,
    ) -> Arc<Group> {
        let group = Group::new(parts, Distance::default(), stats, on_stop);
        group.view.lead_for_ever();
        group.halt(reason);
        group
    }

    fn new(
        parts: Parts,
        distance: Distance,
        [stats, upkeep]: [Arc<Stats>; 2],
        on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
    ) -> Arc<Group> {
        let Parts { shard, engine, home, log, executor, .. } = parts;
        let last_ms = engine.store().clock_ms();
        let (taken, patience) = (VecDeque::new(), Patience::default());
        let driver = Driver { last_ms, seeds: executor.seeds(), taken, patience };
        let (term, index) = engine.store().applied();
        Arc::new_cyclic(|itself| Group {
            itself: Weak::clone(itself),
            shard,
            term: AtomicU64::new(term.0),
            applied: AtomicU64::new(index.0),
            set_aside: AtomicBool::new(false),
            applying_demand: Mutex::default(),
            engine: RwLock::new(engine),
            home,
            log,
            queue: Mutex::default(),
            driver: Mutex::new(driver),
            in_flight: Mutex::default(),
            keeping: Keeping::new(&executor),
            executor,
            raft: OnceLock::new(),
            metrics: OnceLock::new(),
            view: View::default(),
            heard: Arc::new(Heard::new(distance)),
            distance,
            transport: OnceLock::new(),
            sessions: Sessions::default(),
            served: AtomicUsize::new(0),
            rests: Rests::default(),
            changing: Changing::default(),
            confirming: Mutex::default(),
            arriving: Mutex::default(),
            refused_pool: Mutex::default(),
            unsendable: Mutex::default(),
            votes_from: OnceLock::new(),
            has_voted: AtomicBool::new(false),
            taken_out: AtomicBool::new(false),
            claimed: Mutex::default(),
            named_for: AtomicU64::new(0),
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
            wanted: Mutex::default(),
            relieved: Default::default(),
            half_applied: AtomicBool::new(false),
            room_promised: AtomicBool::new(false),
            scarce: AtomicBool::new(false),
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
            // While an entry is applied aside whoever waits may be waiting for the engine.
            let group = weak.upgrade().filter(|group| !group.set_aside.load(Ordering::SeqCst));
            let waiting = group.and_then(|group| {
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
    /// drives. For the group's own thread, or a simulation in its place.
    pub fn attend(self: &Arc<Self>, longest: Duration) {
        self.executor.wait_for_timer(longest);
        self.executor.fire();
        self.drive();
        self.look_after_openraft();
    }

    /// Ends a wait in [`Group::attend`].
    pub(super) fn hurry(&self) {
        self.executor.hurry();
    }

    /// The engine for reading. Held for a bounded run of reads and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Engine> {
        self.engine.read()
    }

    /// The shard's number.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Whether writes are acknowledged before the medium has them (`--durability everysec`).
    pub fn acknowledges_early(&self) -> bool {
        self.log.is_lazy()
    }

    /// Has the medium take all that was written so far; false when it does not.
    pub async fn sync_log(&self) -> bool {
        let log = Arc::clone(&self.log);
        let synced = self.executor.aside(move || log.flush().is_ok());
        synced.await.unwrap_or(false)
    }

    /// The log that holds its entries.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The term of the last entry applied.
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Acquire))
    }

    /// The last entry applied.
    pub fn applied(&self) -> LogIndex {
        LogIndex(self.applied.load(Ordering::Acquire))
    }

    /// Whether this node leads and has yet to apply what earlier leaders left: perhaps what they
    /// acknowledged.
    fn has_inherited(&self) -> bool {
        !self.is_alone() && self.leads() && self.view.term() != self.term()
    }

    /// All that was acknowledged lies up to here, on a leader.
    pub(super) fn acknowledged(&self) -> LogIndex {
        let applied = self.applied();
        match self.has_inherited() {
            true => self.status().last.unwrap_or_default().max(applied),
            false => applied,
        }
    }

    fn itself(&self) -> Arc<Group> {
        // Whoever calls holds one.
        self.itself.upgrade().expect("it is in use")
    }

    /// Waits while an entry is being applied aside. For threads with more to do than to wait for the
    /// engine: what begins in between they do wait for.
    pub async fn stand_by(&self) {
        while self.set_aside.load(Ordering::SeqCst) {
            self.executor.rest(STAND_BY).await;
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

    /// How keys are chosen that go when memory is full.
    pub fn eviction(&self) -> Eviction {
        *self.eviction.lock()
    }

    /// Changes it, and what the sketch counts.
    pub fn set_eviction(&self, rules: Eviction) {
        *self.eviction.lock() = rules;
        self.read().recency().set_policy(rules.policy.recency());
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
        if let Some(raft) = self.raft.get().cloned() {
            // Who leads and applies nothing would keep another from leading.
            drop(self.executor.spawn(async move { raft.shutdown().await }));
        }
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
        self.room_promised.store(false, Ordering::SeqCst);
        let in_flight = std::mem::take(&mut *self.in_flight.lock());
        let queued = std::mem::take(&mut *self.queue.lock());
        let in_flight = in_flight.into_iter().flat_map(|entry| entry.submissions);
        in_flight.for_each(|submission| self.leave(&submission));
        queued.iter().for_each(|submission| self.refuse(submission));
        true
    }

    /// Ends what was proposed and will not be applied here: others may have it, and apply it.
    fn leave(&self, submission: &Arc<Submission>) {
        match self.is_alone() {
            true => self.refuse(submission),
            false => submission.end(Outcome::Unknown),
        }
    }

    fn refuse(&self, submission: &Arc<Submission>) {
        let reason = self.reason.get().map_or("the shard has stopped", |error| &error.reason);
        submission.batch().fail(&format!("MISCONF {reason}"));
        submission.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_engine::{ENGINE_VERSION, Eviction, EvictionPolicy};
    use cairn_protocol::command::CommandId;
    use cairn_protocol::op::{EntryHeader, EntryRef, encode_entry_header, encode_op};
    use cairn_protocol::resp::Argv;
    use cairn_store::Db;

    use super::super::commits::Commits;
    use super::super::eviction::Foreseen;
    use super::super::recover::{self, Options};
    use super::super::start;
    use super::super::turn::Turn;
    use super::*;
    use crate::ops::config::Durability;
    use crate::ops::metrics::Metrics;

    fn group(dir: &std::path::Path) -> Arc<Group> {
        group_and_committer(dir).0
    }

    /// A batch with one SET.
    fn set(key: &[u8], value: &[u8]) -> Arc<Submission> {
        let submission = Submission::new();
        let argv = [&b"SET"[..], key, value];
        submission.batch().push_write(CommandId::Set.spec(), 0, Argv::from(&argv), false);
        submission
    }

    fn reply_to(submission: &Submission) -> Vec<u8> {
        let mut reply = Vec::new();
        submission.batch().take_replies(&mut reply);
        reply
    }

    fn group_and_committer(dir: &std::path::Path) -> (Arc<Group>, Committer) {
        let capacity_bytes = 64 << 20;
        let options = Options { dir, durability: Durability::Always, capacity_bytes, member: None };
        let recovery = recover::recover(options).expect("recovers");
        let metrics = Metrics::new(0);
        let stats = [metrics.shard(), metrics.shard()];
        let (executor, on_stop) = (Executor::new(), Box::new(|_: &_| ()));
        let alone = Standing::Alone;
        let started = start::start(recovery, executor, alone, capacity_bytes, stats, on_stop);
        let (group, committer, _) = started.expect("starts");
        (group, committer)
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
    fn an_entry_that_runs_out_of_room_halts_the_group() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        let mut index = group.read().store().applied().1.0;
        let mut halted = None;
        for number in 0..100u32 {
            // As another leader's would come that takes no look at the room there is.
            let mut entry = Vec::new();
            let header = EntryHeader {
                engine_version: ENGINE_VERSION,
                count: 2,
                now_ms: 1_700_000_000_000,
                seed: 0,
            };
            encode_entry_header(&mut entry, &header);
            let (id, value) = (number.to_le_bytes(), vec![b'v'; 1 << 20]);
            encode_op(
                &mut entry,
                CommandId::Append,
                0,
                Argv::from(&[&b"APPEND"[..], b"k", &value]),
            );
            encode_op(&mut entry, CommandId::Set, 0, Argv::from(&[&b"SET"[..], &id, b"v"]));
            index += 1;
            let id = LogId::new(Term(1), LogIndex(index));
            // The limit admits it, and would have to answer OOM.
            group.engine.write().store_mut().set_limit_bytes(0);
            let operations = EntryRef::decode(&entry).expect("an entry");
            if let Err(error) = group.apply_foreign(id, &operations, entry.len()) {
                halted = Some(error);
                break;
            }
        }
        let halted = halted.expect("64 MiB do not hold 100");
        assert!(halted.reason.contains(&format!("entry {index} could not be applied")), "{halted}");
        assert!(halted.reason.contains("the pool is full"), "{halted}");
        assert_eq!(group.stop_reason(), Some(&halted));
        assert!(group.read().store().len(Db(0)) > 30, "what can be read is served on");
        let submission = set(b"k", b"v");
        group.submit(&submission);
        let reply = reply_to(&submission);
        assert!(reply.starts_with(b"-MISCONF log entry"), "{}", reply.escape_ascii());
    }

    /// Those of its submissions that were applied are answered, the others refused: nobody waits.
    #[test]
    fn an_entry_that_fails_half_way_leaves_nobody_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        let set = |key: &[u8]| {
            let submission = set(key, b"v");
            submission.start();
            submission
        };
        let unreadable = Submission::new();
        unreadable.batch().push_exec(b"no operations", &[], false);
        unreadable.start();
        let submissions = vec![set(b"a"), unreadable, set(b"b")];
        let entry = InFlight {
            now_ms: 1_700_000_000_000,
            seed: 1,
            submissions: submissions.clone(),
            foreseen: Default::default(),
            may_take_long: false,
        };
        let id = LogId::new(Term(1), LogIndex(group.applied().0 + 1));
        group.apply_own(id, &entry).expect_err("what it holds cannot be read");
        let reply = |submission: &Arc<Submission>| {
            assert!(submission.is_done(), "its client waits for ever");
            reply_to(submission)
        };
        let replies: Vec<_> = submissions.iter().map(reply).collect();
        assert_eq!(replies[0], b"+OK\r\n");
        assert!(replies[1..].iter().all(|reply| reply.starts_with(b"-MISCONF")), "{replies:?}");
    }

    /// As in a cache that is full and torn: what lives is what the limit admits, and of the pool
    /// itself little is left, for what has died does not come back.
    #[test]
    fn no_more_is_evicted_at_once_than_the_pool_has_room_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let (group, committer) = group_and_committer(dir.path());
        let run = |command: CommandId, names: std::ops::Range<u32>, value: &[&[u8]]| {
            let submission = Submission::new();
            for name in names {
                let name = name.to_be_bytes();
                let words = [&[&b"command"[..], &name], value].concat();
                let argv = Argv::from(&words[..]);
                submission.batch().push_write(command.spec(), 0, argv, false);
            }
            group.submit(&submission);
            start::block_on(submission.wait(&group));
            let mut replies = Vec::new();
            submission.batch().take_replies(&mut replies);
            !replies.starts_with(b"-")
        };
        let set = |names, value: &[u8]| run(CommandId::Set, names, &[value]);
        for thousand in 0..150 {
            assert!(set(thousand * 1000..(thousand + 1) * 1000, b"0123456789"));
        }
        const LARGE: u32 = 1 << 24;
        const MORE: u32 = 1 << 20;
        let value = vec![b'x'; 500_000];
        assert!((LARGE..).map(|name| set(name..name + 1, &value)).any(|is_set| !is_set));
        let mut commits = Commits::new(Arc::clone(&group), committer);
        for _ in 0..2 {
            commits.commit().expect("commits");
            group.resume();
        }
        let replaces = |name| {
            assert!(run(CommandId::Del, name..name + 1, &[]));
            set(2 * name..2 * name + 1, &value)
        };
        assert!((LARGE..LARGE + 60).any(|name| !replaces(name)), "there is room left");
        let keys = group.read().store().len(Db(0));
        group.set_eviction(Eviction { policy: EvictionPolicy::AllKeysLru, samples: 5 });
        for thousand in 0..20 {
            set(MORE + thousand * 1000..MORE + (thousand + 1) * 1000, b"0123456789");
            assert_eq!(group.stop_reason(), None, "after {thousand}");
        }
        assert!(group.read().store().len(Db(0)) < keys);
    }

    #[test]
    fn what_others_may_take_on_their_way_is_waited_for_and_denies_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        const SEED: u64 = 77;
        let foreseen = Foreseen { demand: Demand::of_any_size(1 << 40), ..Foreseen::default() };
        let (now_ms, submissions) = (0, Vec::new());
        let ahead = InFlight { now_ms, seed: SEED, submissions, foreseen, may_take_long: false };
        group.in_flight.lock().push_back(ahead);
        let submission = set(b"key", b"value");
        group.submit(&submission);
        for _ in 0..20 {
            group.drive();
        }
        assert!(!submission.is_done(), "it may find room when that is applied");
        assert!(group.take_in_flight(SEED).is_some());
        start::block_on(submission.wait(&group));
        assert_eq!(reply_to(&submission), b"+OK\r\n");
    }

    #[test]
    fn what_comes_late_to_a_stopped_group_is_refused_and_waits_for_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        group.stop("the medium is gone".to_owned());
        // Whoever waited for room, and whoever came, had looked before it stopped.
        group.room_promised.store(true, Ordering::SeqCst);
        group.paused.store(true, Ordering::SeqCst);
        let submission = set(b"key", b"value");
        submission.start();
        group.queue.lock().push_back(Arc::clone(&submission));
        group.drive();
        assert!(submission.is_done());
        let reply = reply_to(&submission);
        assert!(reply.starts_with(b"-MISCONF the medium is gone"), "{}", reply.escape_ascii());
    }

    #[test]
    fn that_there_is_little_room_is_known_after_a_restart_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let (group, committer) = group_and_committer(dir.path());
        let value = vec![b'x'; 500_000];
        let mut names = (0..).map(|name: u32| name.to_string());
        let mut fill = || {
            let name = names.next().expect("there is always one more");
            let submission = set(name.as_bytes(), &value);
            group.submit(&submission);
            start::block_on(submission.wait(&group));
            reply_to(&submission).starts_with(b"+")
        };
        assert!(fill() && !group.is_room_scarce());
        while fill() {}
        assert!(group.is_room_scarce());
        drop((group, committer));
        let (group, _committer) = group_and_committer(dir.path());
        group.set_pace(1000, 1 << 20, Box::new(|| ()));
        assert!(group.is_room_scarce());
    }

    #[test]
    fn nothing_is_sealed_of_an_entry_that_failed_half_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        drop(Turn::begin(&group.engine, &group.half_applied, &group.stats));
        group.stop("damage".into());
        assert!(group.seal().is_none());
    }

    #[test]
    fn the_end_of_openraft_is_the_end_of_the_group() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = group(dir.path());
        drop(group.ask(|raft| async move { raft.shutdown().await }));
        for _ in 0..10 {
            group.attend(Duration::from_millis(10));
        }
        let stopped = group.stop_reason().expect("it has stopped");
        assert!(stopped.reason.contains("restart the node"), "{stopped}");
    }
}
