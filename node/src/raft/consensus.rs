//! openraft, set up for a group: its configuration, its network, its start and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::ids::NodeId;
use openraft::async_runtime::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Config, RaftMetrics, SnapshotPolicy};

use super::distance::Distance;
use super::log_store::LogStore;
use super::network::Network;
use super::state_machine::StateMachine;
use super::types::TypeConfig;

/// A group's openraft.
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Between heartbeats.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// For so long at least a member that has heard from its leader gives nobody else its vote, however
/// near the others are.
const FAITHFUL_MS: u64 = 310;
/// From the sending of what a majority has answered: for so long no other leader is elected, with a
/// fifth of it taken off for clocks that run at different speeds.
pub const LEASE: Duration = Duration::from_millis(FAITHFUL_MS * 4 / 5);
/// For so long after its start a member gives no vote.
pub const ABSTAIN: Duration = Duration::from_millis(FAITHFUL_MS * 6 / 5);
const SNAPSHOT_MS: u64 = 24 * 3600 * 1000;
/// How long a member that is taken out has to hear of it.
const HEAR_WITHIN: Duration = Duration::from_millis(500);
/// How long a start may take to make this node the leader of a group of one: a vote and an entry,
/// each synced.
const LEAD_WITHIN: Duration = Duration::from_secs(30);

fn config(distance: Distance) -> Result<Arc<Config>, String> {
    let (election_timeout_min, election_timeout_max) = distance.election_ms();
    let config = Config {
        cluster_name: "cairn".to_owned(),
        // Those are sent without openraft's doing: to it this is the time within which they are to be
        // answered.
        heartbeat_interval: distance.heartbeat_limit_ms(),
        enable_heartbeat: false,
        election_timeout_min,
        election_timeout_max,
        // The committed epoch is the snapshot: there is nothing to build, and whoever commits says
        // when there is a new one.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        // Each run of a leader has a term of its own.
        enable_leader_restore: Some(false),
        // Who was cut off comes back without unseating the leader.
        enable_pre_vote: Some(true),
        // A snapshot is as long as it is; its pieces have deadlines of their own.
        install_snapshot_timeout: SNAPSHOT_MS,
        ..Config::default()
    };
    let config = config.validate().map_err(|error| format!("raft's configuration: {error}"))?;
    Ok(Arc::new(config))
}

/// Starts openraft over a group's log and engine. To be called inside the group's executor.
///
/// # Errors
/// What lies there cannot be read.
pub async fn start(
    id: NodeId,
    distance: Distance,
    network: Network,
    log: LogStore,
    machine: StateMachine,
) -> Result<Raft, String> {
    let raft = Raft::new(id, config(distance)?, network, log, machine).await;
    raft.map_err(|error| format!("the group cannot start: {error}"))
}

/// Begins a group with its first members. Every one of them may do so: it is the same entry.
///
/// # Errors
/// The log cannot be written.
pub async fn be_born(raft: &Raft, first: Vec<(NodeId, String)>) -> Result<(), String> {
    let first: BTreeMap<_, _> =
        first.into_iter().map(|(node, address)| (node, BasicNode::new(address))).collect();
    let born = raft.initialize(first).await;
    born.map_err(|error| format!("the group cannot begin: {error}"))
}

/// Takes `node` in as a learner; it has nothing of the log yet when this is agreed.
///
/// # Errors
/// This node does not lead, or another change is under way.
pub async fn add_learner(raft: &Raft, node: NodeId, address: &str) -> Result<(), String> {
    let added = raft.add_learner(node, BasicNode::new(address), false).await;
    added.map(drop).map_err(|error| error.to_string())
}

/// Makes a voter of a learner, in the place of `gone`.
///
/// # Errors
/// This node does not lead, or another change is under way.
pub async fn let_vote(raft: &Raft, node: NodeId, gone: &BTreeSet<NodeId>) -> Result<(), String> {
    let metrics = raft.metrics().borrow_watched().clone();
    let mut voters: BTreeSet<NodeId> = metrics.membership_config.membership().voter_ids().collect();
    voters.retain(|voter| !gone.contains(voter));
    voters.insert(node);
    let changed = raft.change_membership(voters, false).await;
    changed.map_err(|error| error.to_string())?;
    // Who never came to vote stays a learner until it is named.
    let members = raft.metrics().borrow_watched().membership_config.membership().clone();
    let left: Vec<_> =
        members.nodes().map(|(node, _)| *node).filter(|n| gone.contains(n)).collect();
    for node in left {
        remove(raft, node).await?;
    }
    Ok(())
}

/// Takes `node` out, voter or learner. A voter only listens at first, so that it hears of it; not so
/// one that takes itself out, who leads no longer once it does not vote.
///
/// # Errors
/// This node does not lead, or no majority agreed.
pub async fn remove(raft: &Raft, node: NodeId) -> Result<(), String> {
    let (own, membership) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.id, metrics.membership_config.membership().clone())
    };
    if membership.voter_ids().any(|voter| voter == node) {
        let voters: BTreeSet<_> = membership.voter_ids().filter(|voter| *voter != node).collect();
        let changed = raft.change_membership(voters, node != own).await;
        let agreed = changed.map_err(|error| error.to_string())?;
        if node == own {
            return Ok(());
        }
        wait_to_hear(raft, node, agreed.log_id.index).await;
    }
    let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
    let changed = raft.change_membership(gone, false).await;
    changed.map(drop).map_err(|error| error.to_string())
}

/// Waits a moment until `node` has the entry `upto`, if it is there at all.
async fn wait_to_hear(raft: &Raft, node: NodeId, upto: u64) {
    let has_it = |metrics: &RaftMetrics<TypeConfig>| {
        let matched = metrics.replication.as_ref().and_then(|at| at.get(&node));
        matched.is_none_or(|at| at.as_ref().is_some_and(|id| id.index >= upto))
    };
    // Who does not hear of it in time is taken out all the same.
    let _ = raft.wait(Some(HEAR_WITHIN)).metrics(has_it, "a member has heard that it is out").await;
}

/// Has those alone vote who do so by the newest of several agreed sets of voters.
///
/// # Errors
/// This node does not lead.
pub async fn end_change(raft: &Raft) -> Result<(), String> {
    let metrics = raft.metrics().borrow_watched().clone();
    let voters = metrics.membership_config.membership().get_joint_config().last().cloned();
    let changed = raft.change_membership(voters.unwrap_or_default(), false).await;
    changed.map(drop).map_err(|error| error.to_string())
}

/// Has the members hear from this node, if it leads; false once openraft has stopped.
pub async fn beat(raft: &Raft) -> bool {
    raft.trigger().heartbeat().await.is_ok()
}

/// Has the only voter of a group lead it, without waiting for a time-out, and apply what its log
/// holds.
///
/// # Errors
/// It did not come to that.
pub async fn lead_alone(raft: &Raft) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("the group cannot elect itself: {error}");
    raft.trigger().elect(false).await.map_err(|error| failed(&error))?;
    let wait = raft.wait(Some(LEAD_WITHIN));
    let leads = wait.metrics(
        |m| m.state.is_leader() && m.last_applied.map(|id| id.index) == m.last_log_index,
        "leads and has applied all",
    );
    leads.await.map(drop).map_err(|error| failed(&error))
}
