//! Changing who agrees: taking a node in, taking one out, and bringing to its end what an earlier
//! leader began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_protocol::ids::NodeId;
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;

use super::super::consensus::{self, Raft};
use super::super::runtime::Instant;
use super::super::types::TypeConfig;
use super::{Group, GroupMember};

/// Between two looks at how a change goes, and two tries to bring one to its end.
const RETRY: Duration = Duration::from_millis(100);
/// A newcomer votes once its log is at most so many entries short.
const CAUGHT_UP: u64 = 1000;
/// A newcomer that has not answered for so long is given up.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// A newcomer that has answered and taken nothing for so long is given up too (it has no room, say),
/// and others go first for as long again.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How long taking a member out may take.
const REMOVE: Duration = Duration::from_secs(10);

/// The one change of members that is under way.
#[derive(Debug, Default)]
pub(super) struct Changing(parking_lot::Mutex<Changes>);

#[derive(Debug, Default)]
struct Changes {
    under_way: Option<Arc<Newcomer>>,
    /// Who took nothing, and when it was given up.
    stuck: BTreeMap<NodeId, Instant>,
    /// Who asks meanwhile, and was told of in the log.
    waiting: BTreeSet<NodeId>,
}

/// Who is being taken in; nobody in particular while another change is brought to its end.
#[derive(Debug, Default)]
struct Newcomer {
    node: NodeId,
    address: String,
    /// Another node has come in its place.
    is_replaced: AtomicBool,
}

impl Changing {
    /// Begins a change; None while another is under way, which is told if this one replaces it, or
    /// for who was given up not long before `now`.
    fn begin(&self, node: NodeId, address: &str, now: Instant) -> Option<Arc<Newcomer>> {
        let mut changes = self.0.lock();
        if let Some(other) = changes.under_way.clone() {
            let is_replaced = !address.is_empty() && other.address == address && other.node != node;
            other.is_replaced.fetch_or(is_replaced, Ordering::Relaxed);
            let is_news = !address.is_empty() && other.node != node && changes.waiting.insert(node);
            if is_news {
                tracing::info!("node {node} waits to be taken in: {other} first");
            }
            return None;
        }
        changes.stuck.retain(|_, at| now - *at < STUCK_AFTER);
        if changes.stuck.contains_key(&node) {
            return None;
        }
        let newcomer =
            Arc::new(Newcomer { node, address: address.to_owned(), ..Newcomer::default() });
        changes.under_way = Some(Arc::clone(&newcomer));
        Some(newcomer)
    }

    fn end(&self) {
        let mut changes = self.0.lock();
        changes.under_way = None;
        changes.waiting.clear();
    }

    /// Others go first for a while.
    fn note_stuck(&self, node: NodeId, now: Instant) {
        self.0.lock().stuck.insert(node, now);
    }
}

impl std::fmt::Display for Newcomer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address.is_empty() {
            true => f.write_str("an earlier change of members is brought to its end"),
            false => write!(f, "node {} is taken in", self.node),
        }
    }
}

impl Newcomer {
    /// Waits until the learner has caught up.
    ///
    /// # Errors
    /// Why it will not: it is gone, or takes nothing, or is replaced, or this node does not lead any
    /// more.
    async fn catch_up(&self, raft: &Raft, group: &Weak<Group>) -> Result<(), String> {
        let mut seen = TypeConfig::now();
        let (mut moved, mut had) = (seen, None);
        loop {
            let metrics = raft.metrics().borrow_watched().clone();
            let (Some(replication), Some(acked)) = (&metrics.replication, &metrics.heartbeat)
            else {
                return Err("this node does not lead any more".to_owned());
            };
            let answered = acked.get(&self.node).copied().flatten();
            seen = answered.map_or(seen, |at| seen.max(at.into_inner()));
            let matched = replication.get(&self.node).copied().flatten();
            if matched != had {
                (moved, had) = (TypeConfig::now(), matched);
            }
            let Some(group) = group.upgrade() else { return Err("the group is gone".to_owned()) };
            moved = moved.max(group.keeping.got_further(self.node).unwrap_or(moved));
            let last = metrics.last_log_index.unwrap_or(0);
            if matched.is_some_and(|id| id.index + CAUGHT_UP >= last) {
                return Ok(());
            }
            if self.is_replaced.load(Ordering::Relaxed) {
                return Err("another node has come in its place".to_owned());
            }
            if TypeConfig::now() - seen > LOST_AFTER {
                return Err(format!("it has not answered for {} s", LOST_AFTER.as_secs()));
            }
            if TypeConfig::now() - moved > STUCK_AFTER {
                group.changing.note_stuck(self.node, group.executor.now());
                let s = STUCK_AFTER.as_secs();
                return Err(format!("it has taken nothing for {s} s: its own log says why"));
            }
            drop(group);
            TypeConfig::sleep(RETRY).await;
        }
    }

    /// Takes the node in: as a learner until it has caught up, then as a voter, in the place of
    /// `gone`.
    async fn admit(
        &self,
        raft: &Raft,
        group: &Weak<Group>,
        gone: &BTreeSet<NodeId>,
    ) -> Result<(), String> {
        consensus::add_learner(raft, self.node, &self.address).await?;
        match self.catch_up(raft, group).await {
            Ok(()) => consensus::let_vote(raft, self.node, gone).await,
            Err(why) => {
                // A learner that is gone would be waited for in vain ever after.
                let removed = consensus::remove(raft, self.node).await;
                Err(removed.err().map_or(why.clone(), |error| format!("{why}; {error}")))
            }
        }
    }
}

/// The end of a line about who came: for whom.
fn in_place_of(gone: &BTreeSet<NodeId>) -> String {
    let each: Vec<String> = gone.iter().map(NodeId::to_string).collect();
    if each.is_empty() { String::new() } else { format!(", in the place of {}", each.join(", ")) }
}

impl Group {
    /// Takes a node into the group, as the leader, in the background: first as a learner, then, when
    /// it has caught up, as a voter. One of the same address under another id is gone for good (its
    /// disk was wiped), and leaves with that. Says nothing of how it ended: whoever wants to be in
    /// asks again.
    pub fn admit(self: &Arc<Self>, node: NodeId, address: &str) {
        let members = self.members();
        if members.iter().any(|member| member.node == node && member.is_voter) {
            return;
        }
        let now = self.executor.now();
        let Some(newcomer) = self.changing.begin(node, address, now) else { return };
        let gone: BTreeSet<NodeId> = members
            .iter()
            .filter(|m| m.address == address && m.node != node)
            .map(|m| m.node)
            .collect();
        let weak = Arc::downgrade(self);
        drop(self.ask(move |raft| async move {
            let admitted = newcomer.admit(&raft, &weak, &gone).await;
            if let Some(group) = weak.upgrade() {
                group.changing.end();
            }
            match admitted {
                Ok(()) => tracing::info!("node {node} is a voter now{}", in_place_of(&gone)),
                Err(error) => tracing::warn!("node {node} is not a voter yet: {error}"),
            }
        }));
    }

    /// Takes a member out of the group for good, as the leader: it counts in no majority any more,
    /// and comes back only as a node that joins. A leader may take itself out; it answers no read by
    /// itself from here on, for the others elect another at any moment.
    ///
    /// # Errors
    /// Why not: this node does not lead, or there is no such member, or those who would stay are too
    /// few of them there, or no majority agreed in time.
    pub async fn remove(self: &Arc<Self>, node: NodeId) -> Result<(), String> {
        let members = self.members();
        if !self.leads() {
            return Err("only the leader can take a member out".to_owned());
        }
        let Some(leaves) = members.iter().find(|member| member.node == node) else {
            return Err(format!("there is no member {node}"));
        };
        if leaves.is_voter {
            self.check_quorum_without(node, &members)?;
        }
        if Some(node) == self.transport().map(|transport| transport.node()) {
            self.view.hand_over();
        }
        let asked = self.ask(move |raft| async move {
            match TypeConfig::timeout(REMOVE, consensus::remove(&raft, node)).await {
                Ok(removed) => removed,
                Err(_) => Err(format!(
                    "not agreed within {} s; it may yet be: look at CAIRN.RAFT STATUS",
                    REMOVE.as_secs()
                )),
            }
        });
        let removed = asked.await.unwrap_or_else(|| Err("the group has stopped".to_owned()));
        if removed.is_ok() {
            tracing::info!("node {node} was taken out");
        }
        removed
    }

    /// Whether a majority of the voters that would stay without `node` is there: only they can agree
    /// that it goes, and nothing could be agreed on any more if they were too few.
    fn check_quorum_without(&self, node: NodeId, members: &[GroupMember]) -> Result<(), String> {
        let stay = members.iter().filter(|member| member.is_voter && member.node != node);
        let (mut there, mut away) = (0, Vec::new());
        for member in stay {
            match member.is_there() {
                true => there += 1,
                false => away.push(member.node.to_string()),
            }
        }
        if there + away.len() == 0 {
            return Err("the last voter cannot be taken out".to_owned());
        }
        if there <= away.len() {
            return Err(format!(
                "without node {node} nothing could be agreed on: of the voters that would stay \
                 {there} are there, and {} do not answer ({}). Start them, or take them out first",
                away.len(),
                away.join(", ")
            ));
        }
        Ok(())
    }

    /// Brings a change of members to its end, in the background, that an earlier leader agreed on half
    /// way: with the old ones as much as with the new. Until then two majorities are needed, one of
    /// them perhaps of members that are gone.
    pub(super) fn end_change(self: &Arc<Self>) {
        if self.is_alone() || !self.leads() || !self.is_change_agreed_half_way() {
            return;
        }
        if self.changing.begin(NodeId::default(), "", self.executor.now()).is_none() {
            return;
        }
        let weak = Arc::downgrade(self);
        drop(self.ask(move |raft| async move {
            if let Err(error) = consensus::end_change(&raft).await {
                tracing::warn!("a change of members could not be brought to its end: {error}");
                // Not at once again.
                TypeConfig::sleep(RETRY).await;
            }
            if let Some(group) = weak.upgrade() {
                group.changing.end();
            }
        }));
    }

    fn is_change_agreed_half_way(&self) -> bool {
        let Some(metrics) = self.metrics.get() else { return false };
        let metrics = metrics.borrow_watched();
        let members = &metrics.membership_config;
        metrics.state.is_leader()
            && members.membership().get_joint_config().len() > 1
            && *members.log_id() <= metrics.local_committed
    }
}
