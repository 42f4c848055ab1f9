//! openraft, set up for a group: its configuration, its network, its start and its end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::ids::NodeId;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, Config, OptionalSend, SnapshotPolicy};

use super::log_store::LogStore;
use super::state_machine::{GroupSnapshot, SnapshotData, StateMachine};
use super::types::{RaftVote, TypeConfig};

/// A group's openraft.
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Milliseconds between heartbeats; a dead leader is missed after four to eight of them.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: (u64, u64) = (400, 800);
/// How long a start may take to make this node the leader of a group of one: a vote and an entry,
/// each synced.
const LEAD_WITHIN: Duration = Duration::from_secs(30);

fn config() -> Result<Arc<Config>, String> {
    let config = Config {
        cluster_name: "cairn".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        // The committed epoch is the snapshot: there is nothing to build, and whoever commits says
        // when there is a new one.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        // Each run of a leader has a term of its own.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    let config = config.validate().map_err(|error| format!("raft's configuration: {error}"))?;
    Ok(Arc::new(config))
}

/// Starts openraft over a group's log and engine. To be called inside the group's executor.
///
/// # Errors
/// What lies there cannot be read.
pub async fn start(id: NodeId, log: LogStore, machine: StateMachine) -> Result<Raft, String> {
    let raft = Raft::new(id, config()?, NoNetwork, log, machine).await;
    raft.map_err(|error| format!("the group cannot start: {error}"))
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

/// The network of a group of one: there is nobody.
struct NoNetwork;

impl RaftNetworkFactory<TypeConfig> for NoNetwork {
    type Network = NoNetwork;

    async fn new_client(&mut self, _: NodeId, _: &BasicNode) -> NoNetwork {
        NoNetwork
    }
}

fn nobody() -> Unreachable<TypeConfig> {
    Unreachable::new(&io::Error::from(io::ErrorKind::NotConnected))
}

impl RaftNetworkV2<TypeConfig> for NoNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(nobody().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(nobody().into())
    }

    async fn full_snapshot(
        &mut self,
        _: RaftVote,
        _: GroupSnapshot,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(nobody().into())
    }
}
