//! openraft's network: its messages go out over the node's [`Transport`], and what arrives is
//! answered by a group's openraft.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::cluster::message::{
    AppendEntries, AppendReply, Beat, BeatAnswer, Heartbeat, HeartbeatReply, Refused, RefusedCode,
};
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::ids::{NodeId, ShardId};
use futures_util::future::{Either, select};
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::TypeConfigExt;
use openraft::{BasicNode, OptionalSend};

use super::consensus::Raft;
use super::distance::Distance;
use super::heard::Heard;
use super::runtime;
use super::state_machine::{GroupSnapshot, SnapshotData};
use super::transfer;
use super::types::{RaftVote, TypeConfig};
use super::wire::{self, Unreadable};
use crate::transport::{Call, CallError, Class, SharedTransport, refused};

/// How long what is agreed waits for an entry to tell it with. Followers apply it so much later when
/// no more writes come; a leader that has one client spends two messages a write, not four.
const COMMIT_WAIT: Duration = Duration::from_millis(2);

/// How long openraft leaves a member alone that could not be reached, in milliseconds: one that is
/// started anew is soon in step again. (While it tries, it purges nothing of the log.)
const BACKOFF_MS: [u64; 4] = [20, 50, 100, 200];

/// Bytes a microsecond that the slowest link carries which is waited for: long entries have so much
/// longer to arrive.
const SLOWEST_LINK: u64 = 1;

/// What openraft makes of a stream of requests.
type Answers<'s> = Result<
    BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
    RPCError<TypeConfig>,
>;

/// A group's way to its other members; None of a group of one, which has none.
pub struct Network {
    shard: ShardId,
    transport: Option<SharedTransport>,
    heard: Arc<Heard>,
    distance: Distance,
}

impl Network {
    /// Over `transport`, for `shard`, whose members are so far apart; what only a leader says is sent
    /// while `heard` allows it.
    pub fn new(
        shard: ShardId,
        transport: Option<SharedTransport>,
        heard: Arc<Heard>,
        distance: Distance,
    ) -> Network {
        Network { shard, transport, heard, distance }
    }

    fn client(&self, to: NodeId, node: &BasicNode, class: Class) -> Peer {
        if let Some(transport) = &self.transport {
            transport.set_peer(to, &node.addr);
        }
        Peer {
            transport: self.transport.clone(),
            heard: Arc::clone(&self.heard),
            shard: self.shard,
            to,
            class,
            beats: 0,
            limits: self.distance.append(),
            patience: self.distance.append().0,
            is_away: false,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, to: NodeId, node: &BasicNode) -> Peer {
        self.client(to, node, Class::Replication)
    }

    async fn new_heartbeat_client(&mut self, to: NodeId, node: &BasicNode) -> Peer {
        self.client(to, node, Class::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, to: NodeId, node: &BasicNode) -> Peer {
        self.client(to, node, Class::Snapshot)
    }
}

/// The way to one member, for one kind of traffic.
pub struct Peer {
    transport: Option<SharedTransport>,
    shard: ShardId,
    to: NodeId,
    class: Class,
    heard: Arc<Heard>,
    /// Heartbeats sent.
    beats: u64,
    /// How long an append may take, at least and at most.
    limits: (Duration, Duration),
    /// How long the next append may take, apart from the time that its bytes need.
    patience: Duration,
    /// There was no way to the member the last time.
    is_away: bool,
}

impl Peer {
    async fn call(
        &self,
        request: Request,
        option: &RPCOption,
    ) -> Result<Reply, RPCError<TypeConfig>> {
        // openraft gives up a moment later.
        self.ask(request, option.hard_ttl() * 19 / 20).await.map_err(failed)
    }

    /// Asks the member what only its leader asks, within `deadline`.
    async fn lead(&self, request: Request, deadline: Duration) -> Result<Reply, CallError> {
        if !self.heard.may_speak(runtime::current().now()) {
            let why = "no majority answers this leader: it keeps still, so that another can be \
                       elected";
            return Err(CallError::Unreachable { to: self.to, why: why.to_owned() });
        }
        self.ask(request, deadline).await
    }

    /// Sends entries. The farther away the member, the longer it has for its answer; not so one that
    /// is not there at all.
    async fn append(&mut self, append: AppendEntries) -> Result<Reply, RPCError<TypeConfig>> {
        let executor = runtime::current();
        let len_bytes: usize = append.entries.iter().map(|entry| entry.payload.len()).sum();
        let deadline = match self.is_away {
            true => self.limits.0,
            false => self.patience + Duration::from_micros(len_bytes as u64 / SLOWEST_LINK),
        };
        let start = executor.now();
        let reply = self.lead(Request::Append(append), deadline).await;
        let took = executor.now() - start;
        self.is_away = matches!(reply, Err(CallError::Unreachable { .. }));
        match &reply {
            Ok(_) => self.patience = (took * 4).clamp(self.limits.0, self.limits.1),
            Err(CallError::Timeout { .. }) => {
                self.patience = (self.patience * 2).min(self.limits.1);
            }
            Err(_) => {}
        }
        reply.map_err(failed)
    }

    /// Asks the member, within `deadline`.
    pub(super) async fn ask(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Reply, CallError> {
        let Some(transport) = &self.transport else {
            return Err(CallError::Unreachable { to: self.to, why: "a group of one".into() });
        };
        let call = Call { to: self.to, class: self.class, shard: self.shard, request, deadline };
        transport.call(call).await
    }

    /// Whom it leads to.
    pub(super) fn to(&self) -> NodeId {
        self.to
    }

    /// Sends an append without entries as a heartbeat, which tells and asks the time too.
    async fn beat(
        &mut self,
        append: AppendEntries,
        option: &RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let AppendEntries { vote, prev, commit, .. } = append;
        let beat = Beat { shard: self.shard, vote, prev, commit };
        let executor = runtime::current();
        let now_ms = executor.wall_ms();
        self.beats += 1;
        let heartbeat = Heartbeat { sequence: self.beats, now_ms, groups: vec![beat] };
        let deadline = option.hard_ttl() * 19 / 20;
        let reply = self.lead(Request::Heartbeat(heartbeat), deadline).await.map_err(failed)?;
        let Reply::Heartbeat(HeartbeatReply { now_ms, groups, .. }) = reply else {
            return Err(self.wrong(&reply));
        };
        executor.clocks().hear(self.to, now_ms, executor.own_wall_ms(), executor.now());
        let outcome = groups.into_iter().find(|answer| answer.shard == self.shard);
        match outcome.and_then(|answer| answer.outcome) {
            Some(reply) => Ok(wire::from_append_reply(reply)),
            None => {
                let why = "it has no member of the group".to_owned();
                Err(failed(CallError::Unreachable { to: self.to, why }))
            }
        }
    }

    fn wrong(&self, reply: &Reply) -> RPCError<TypeConfig> {
        let why = format!("{:?} came back", reply.kind());
        failed(CallError::BadReply { to: self.to, why })
    }
}

/// openraft backs off from what is unreachable, and tries the rest again.
fn failed(error: CallError) -> RPCError<TypeConfig> {
    match error {
        CallError::Unreachable { .. } | CallError::Refused { .. } => {
            RPCError::Unreachable(Unreachable::new(&error))
        }
        _ => RPCError::Network(NetworkError::new(&error)),
    }
}

/// The next request that is worth a round trip. One without entries tells the follower only what is
/// agreed by now, and the next with entries says it too: it waits a moment for one.
async fn worth_sending(
    input: &mut (impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin),
) -> Option<AppendEntriesRequest<TypeConfig>> {
    let mut request = input.next().await?;
    let mut patience = None;
    while request.entries.is_empty() {
        let patience = patience.get_or_insert_with(|| TypeConfig::sleep(COMMIT_WAIT));
        match select(input.next(), patience).await {
            Either::Left((Some(next), _)) => request = next,
            Either::Left((None, _)) | Either::Right(_) => break,
        }
    }
    Some(request)
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    fn stream_append<'s, S>(&'s mut self, input: S, option: RPCOption) -> BoxFuture<'s, Answers<'s>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.class != Class::Replication {
            return stream_append_sequential(self, input, option);
        }
        let worth = unfold(input.fuse(), |mut input| async {
            worth_sending(&mut input).await.map(|request| (request, input))
        });
        stream_append_sequential(self, Box::pin(worth), option)
    }

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        if self.class == Class::Heartbeat && request.entries.is_empty() {
            return self.beat(wire::to_append(request), &option).await;
        }
        match self.append(wire::to_append(request)).await? {
            Reply::Append(reply) => Ok(wire::from_append_reply(reply)),
            other => Err(self.wrong(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let [.., longest] = BACKOFF_MS;
        let growing = BACKOFF_MS.into_iter().chain(std::iter::repeat(longest));
        Some(Backoff::new(growing.map(Duration::from_millis)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::Vote(wire::to_vote_request(&request)), &option).await? {
            Reply::Vote(reply) => Ok(wire::from_vote_reply(reply)),
            other => Err(self.wrong(&other)),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::PreVote(wire::to_vote_request(&request)), &option).await? {
            Reply::PreVote(reply) => Ok(wire::from_vote_reply(reply)),
            other => Err(self.wrong(&other)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::TransferLeader(wire::to_transfer(&request)), &option).await? {
            Reply::TransferLeader(reply) => Ok(wire::from_transfer_reply(reply)),
            other => Err(self.wrong(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: GroupSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Sending(offer, group) = snapshot.snapshot else {
            let why = "there is no committed pool to send yet".to_owned();
            return Err(unreachable(CallError::Unreachable { to: self.to, why }));
        };
        let sent = pin!(transfer::send(self, &offer, group, wire::to_vote(&vote)));
        match select(sent, pin!(cancel)).await {
            Either::Left((Ok(vote), _)) => Ok(SnapshotResponse::new(wire::from_vote(vote))),
            Either::Left((Err(error), _)) => Err(unreachable(error)),
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }
}

fn unreachable(error: CallError) -> StreamingError<TypeConfig> {
    StreamingError::Unreachable(Unreachable::new(&error))
}

/// Answers what another member asks of shard `own`. To be run inside the group's executor.
///
/// # Errors
/// A refusal: no message for a group, or openraft has stopped.
pub async fn answer(raft: &Raft, own: ShardId, request: Request) -> Result<Reply, Refused> {
    match request {
        Request::Append(append) => append_entries(raft, append).await.map(Reply::Append),
        Request::Heartbeat(heartbeat) => {
            let Heartbeat { sequence, now_ms, groups } = heartbeat;
            let executor = runtime::current();
            let mut answers = Vec::with_capacity(groups.len());
            for Beat { shard, vote, prev, commit } in groups {
                let append = AppendEntries { vote, prev, commit, entries: Vec::new() };
                let outcome = match shard == own {
                    true => Some(append_entries(raft, append).await?),
                    false => None,
                };
                if outcome == Some(AppendReply::Success) {
                    executor.clocks().follow(now_ms, executor.now());
                }
                answers.push(BeatAnswer { shard, outcome });
            }
            let now_ms = executor.own_wall_ms();
            Ok(Reply::Heartbeat(HeartbeatReply { sequence, now_ms, groups: answers }))
        }
        Request::Vote(request) => {
            let reply = raft.vote(wire::from_vote_request(request)).await.map_err(stopped)?;
            Ok(Reply::Vote(wire::to_vote_reply(&reply)))
        }
        Request::PreVote(request) => {
            let reply = raft.pre_vote(wire::from_vote_request(request)).await.map_err(stopped)?;
            Ok(Reply::PreVote(wire::to_vote_reply(&reply)))
        }
        Request::TransferLeader(request) => {
            let reply = raft.handle_transfer_leader(wire::from_transfer(request)).await;
            let reply = reply.map_err(stopped)?;
            Ok(Reply::TransferLeader(wire::to_transfer_reply(reply)))
        }
        other => {
            let what = format!("{:?} is no message for a group", other.kind());
            Err(refused(RefusedCode::Malformed, what))
        }
    }
}

async fn append_entries(raft: &Raft, append: AppendEntries) -> Result<AppendReply, Refused> {
    let append = wire::from_append(append).map_err(unreadable)?;
    let reply = raft.append_entries(append).await.map_err(stopped)?;
    Ok(wire::to_append_reply(reply))
}

fn unreadable(what: Unreadable) -> Refused {
    refused(RefusedCode::Failed, what.0)
}

fn stopped(error: impl std::fmt::Display) -> Refused {
    refused(RefusedCode::Unavailable, format!("the group has stopped: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use openraft::EntryPayload;
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::super::runtime::Executor;
    use super::super::types::{Batch, RaftLogId};
    use super::*;

    /// What tells that entries up to `commit` are agreed, with as many new entries.
    fn append(commit: u64, entries: u64) -> AppendEntriesRequest<TypeConfig> {
        let id = |index| RaftLogId::new_term_index(1, index);
        let entry = |index| openraft::Entry {
            log_id: id(index),
            payload: EntryPayload::Normal(Batch(Bytes::new())),
        };
        AppendEntriesRequest {
            vote: RaftVote::new_committed(1, NodeId(1)),
            prev_log_id: Some(id(commit)),
            entries: (1..=entries).map(|more| entry(commit + more)).collect(),
            leader_commit: Some(id(commit)),
        }
    }

    #[test]
    fn what_is_agreed_travels_with_the_next_entry_or_after_a_moment() {
        let clock = Arc::<AtomicU64>::default();
        let executor = Executor::simulated(Arc::clone(&clock), 1);
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let sent = Arc::<Mutex<Vec<(u64, usize)>>>::default();
        let notes = Arc::clone(&sent);
        executor.spawn(async move {
            let mut input =
                Box::pin(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)).fuse());
            while let Some(request) = worth_sending(&mut input).await {
                let commit = request.leader_commit.expect("given").index;
                notes.lock().push((commit, request.entries.len()));
            }
        });
        let rows: [(_, &[(u64, usize)]); 5] = [
            (append(1, 1), &[(1, 1)]),
            (append(2, 0), &[(1, 1)]),
            (append(2, 1), &[(1, 1), (2, 1)]),
            (append(3, 0), &[(1, 1), (2, 1)]),
            (append(4, 0), &[(1, 1), (2, 1)]),
        ];
        for (request, wanted) in rows {
            sender.send(request).expect("it is taken");
            executor.run();
            assert_eq!(*sent.lock(), wanted);
        }
        clock.fetch_add(COMMIT_WAIT.as_nanos() as u64, Ordering::Relaxed);
        executor.fire();
        executor.run();
        assert_eq!(sent.lock()[2..], [(4, 0)], "nobody came");
        sender.send(append(5, 0)).expect("it is taken");
        drop(sender);
        executor.run();
        assert_eq!(sent.lock()[3..], [(5, 0)], "nobody will come");
    }
}
