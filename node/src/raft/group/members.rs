//! Who is in a group and how it stands; handing leadership over, proving by a round to the peers
//! that this node leads.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_protocol::ids::{LogIndex, NodeId, Term};
use futures_util::future::{Either, select};
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft::{BasicNode, ReadPolicy};
use tokio::sync::oneshot;

use super::super::consensus::Raft;
use super::super::types::{Membership, RaftLogId, TypeConfig};
use super::Group;

/// How long handing leadership over may take.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long a round to the peers may take, what is being applied meanwhile not counted: a leader that
/// can agree on nothing never gets to its end.
const ROUND: Duration = Duration::from_secs(1);

/// Who has not answered its leader for so long is not there.
const IS_THERE: Duration = Duration::from_secs(1);

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
    /// Milliseconds since it answered its leader, or 0 for that; None elsewhere, and for never.
    pub seen_ms: Option<u64>,
}

impl GroupMember {
    /// Whether it has answered its leader a moment ago, or is the leader. To be asked there.
    pub fn is_there(&self) -> bool {
        self.seen_ms.is_some_and(|ms| ms < IS_THERE.as_millis() as u64)
    }
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
    /// Milliseconds after which a leader that is not heard is missed.
    pub election_ms: u64,
    /// Milliseconds since its leader was heard; 0 on the leader, None for never.
    pub heard_ms: Option<u64>,
    /// Milliseconds since it had all that its leader said was agreed: reads here may be that old. 0 on
    /// the leader, None for never.
    pub stale_ms: Option<u64>,
}

impl GroupStatus {
    /// Whether a leader is heard as often as it must be.
    pub fn hears_leader(&self) -> bool {
        self.heard_ms.is_some_and(|ms| ms <= self.election_ms)
    }
}

/// Who waits for a proof that this node leads: a round begun before one asked proves nothing to it,
/// so those who ask during a round share the next one.
#[derive(Debug, Default)]
pub(super) struct Confirming {
    is_under_way: bool,
    waiting: Vec<oneshot::Sender<bool>>,
}

impl Confirming {
    /// Has `answer` wait for the next round; true when the caller has to begin one.
    fn wait(&mut self, answer: oneshot::Sender<bool>) -> bool {
        self.waiting.push(answer);
        !std::mem::replace(&mut self.is_under_way, true)
    }

    /// Those whose round begins now. With none, rounds are over.
    fn next_round(&mut self) -> Vec<oneshot::Sender<bool>> {
        self.is_under_way = !self.waiting.is_empty();
        std::mem::take(&mut self.waiting)
    }
}

/// Runs rounds for as long as somebody waits for one.
async fn confirm_all(group: Weak<Group>, raft: Raft) {
    loop {
        let Some(waiting) = group.upgrade().map(|group| group.confirming.lock().next_round())
        else {
            return;
        };
        if waiting.is_empty() {
            return;
        }
        let proof = pin!(raft.ensure_linearizable(ReadPolicy::ReadIndex));
        let leads = match select(proof, pin!(takes_too_long(&group))).await {
            Either::Left((proof, _)) => proof.is_ok(),
            Either::Right(_) => false,
        };
        for answer in waiting {
            // Who has gone needs no answer.
            let _ = answer.send(leads);
        }
    }
}

/// Ends when a round has taken too long.
async fn takes_too_long(group: &Weak<Group>) {
    let is_applying =
        || group.upgrade().is_some_and(|group| group.set_aside.load(Ordering::SeqCst));
    TypeConfig::sleep(ROUND).await;
    while is_applying() {
        TypeConfig::sleep(ROUND).await;
    }
}

impl Group {
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
        let seen_ms = |node: &NodeId| {
            let acked = (*metrics.heartbeat.as_ref()?.get(node)?)?;
            Some((self.executor.now() - acked.into_inner()).as_millis() as u64)
        };
        let leads = metrics.state.is_leader();
        let member = |(node, at): (&NodeId, &BasicNode)| GroupMember {
            node: *node,
            address: at.addr.clone(),
            is_voter: voters.contains(node),
            matched: matched(node),
            seen_ms: if leads && *node == metrics.id { Some(0) } else { seen_ms(node) },
        };
        membership.nodes().map(member).collect()
    }

    /// How the group stands.
    pub fn status(&self) -> GroupStatus {
        let Some(metrics) = self.metrics.get() else { return GroupStatus::default() };
        let metrics = metrics.borrow_watched();
        let index = |id: RaftLogId| LogIndex(id.index);
        let applied = metrics.last_applied.map_or(0, |id| id.index);
        let (heard, fresh) = match self.view.leads() {
            true => (Some(Duration::ZERO), Some(Duration::ZERO)),
            false => self.view.silence(self.executor.now(), applied),
        };
        let ms = |silence: Duration| silence.as_millis() as u64;
        GroupStatus {
            node: metrics.id,
            term: Term(metrics.current_term),
            last: metrics.last_log_index.map(LogIndex),
            committed: metrics.local_committed.map(index),
            purged: metrics.purged.map(index),
            lease_ms: self.view.lease_left(self.executor.now()).as_millis() as u64,
            election_ms: self.distance.election_ms().1,
            heard_ms: heard.map(ms),
            stale_ms: fresh.map(ms),
        }
    }

    /// How many other members are known to have every write that was acknowledged before this call:
    /// on the leader those whose log has all that is applied, elsewhere what a majority means.
    pub fn replicas_in_step(&self) -> usize {
        match self.leads() {
            true => self.replicas_with(self.acknowledged()),
            false => self.members().iter().filter(|member| member.is_voter).count() / 2,
        }
    }

    /// How many other members are known, to the leader, to have the entry `upto`.
    pub(in crate::raft) fn replicas_with(&self, upto: LogIndex) -> usize {
        let (own, members) = (self.status().node, self.members());
        members.iter().filter(|m| m.node != own && m.matched >= Some(upto)).count()
    }

    /// Whether this node is one of the group, as far as it knows.
    pub fn is_member(&self) -> bool {
        if self.is_taken_out() {
            return false;
        }
        let Some(metrics) = self.metrics.get() else { return true };
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&metrics.id).is_some()
    }

    /// Whether this node was taken out of the group, as far as it knows.
    pub fn is_taken_out(&self) -> bool {
        self.taken_out.load(Ordering::Relaxed)
    }

    /// Takes note of who is in the group: who has voted and does not any more was taken out. (It
    /// listens until it knows that.)
    pub(super) fn note_membership(&self, own: NodeId, membership: &Membership) {
        let votes = membership.get_joint_config().last().is_some_and(|last| last.contains(&own));
        let is_out = self.has_voted.fetch_or(votes, Ordering::Relaxed) && !votes;
        if is_out && !self.taken_out.load(Ordering::Relaxed) {
            tracing::warn!(
                "this node was taken out of its cluster: it takes no commands any more. To have it \
                 join again, start it with an empty --dir"
            );
        }
        self.taken_out.store(is_out, Ordering::Relaxed);
    }

    /// The other voter that has most of the log, of those that are there, as the leader knows it.
    pub(super) fn successor(&self) -> Option<GroupMember> {
        let (own, members) = (self.status().node, self.members().into_iter());
        let others = members.filter(|member| member.is_voter && member.node != own);
        others.filter(GroupMember::is_there).max_by_key(|member| member.matched)
    }

    /// Hands leadership to the member that has most of the log, of those that are there, and waits a
    /// moment until it has it. Nothing to do for who does not lead or is alone.
    pub async fn hand_over(self: &Arc<Self>) {
        if self.is_alone() || !self.leads() {
            return;
        }
        let Some(best) = self.successor() else { return };
        // No read is answered by this node alone from here on: the other may lead at any moment.
        self.view.hand_over();
        let asked =
            self.ask(
                move |raft| async move { raft.trigger().transfer_leader(best.node).await.is_ok() },
            );
        if asked.await.unwrap_or(false) {
            let start = self.executor.now();
            while self.leads() && self.executor.now() - start < HAND_OVER {
                self.executor.rest(Duration::from_millis(2)).await;
            }
        }
    }

    /// Waits until this node has proved by a round to its peers that it leads, and has applied what
    /// was committed before: then a read sees all that was acknowledged before this call. False when
    /// it does not lead, or reached too few.
    pub fn confirm(self: &Arc<Self>) -> impl Future<Output = bool> + Send + 'static {
        let (answer, confirmed) = oneshot::channel();
        if self.confirming.lock().wait(answer) {
            let weak = Arc::downgrade(self);
            drop(self.ask(move |raft| confirm_all(weak, raft)));
        }
        async move { confirmed.await.unwrap_or(false) }
    }
}
