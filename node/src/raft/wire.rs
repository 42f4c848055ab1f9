//! openraft's messages as the protocol's, and back.

use cairn_protocol::cluster::message as m;
use cairn_protocol::ids::Term;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::log_store::{payload_of, record_of};
use super::types::{Entry, RaftLogId, RaftVote, TypeConfig, raft_id, store_id};

/// A message that says what none of openraft's can: of a newer build, or damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

pub fn to_id(id: RaftLogId) -> m::LogId {
    let id = store_id(id);
    m::LogId { term: id.term, index: id.index }
}

pub fn from_id(id: m::LogId) -> RaftLogId {
    raft_id(cairn_store::log::LogId::new(id.term, id.index))
}

pub fn to_vote(vote: &RaftVote) -> m::Vote {
    let leader = &vote.leader_id;
    m::Vote { term: Term(leader.term), node: Some(leader.voted_for), committed: vote.committed }
}

pub fn from_vote(vote: m::Vote) -> RaftVote {
    let node = vote.node.unwrap_or_default();
    match vote.committed {
        true => RaftVote::new_committed(vote.term.0, node),
        false => RaftVote::new(vote.term.0, node),
    }
}

pub fn to_append(request: AppendEntriesRequest<TypeConfig>) -> m::AppendEntries {
    m::AppendEntries {
        vote: to_vote(&request.vote),
        prev: request.prev_log_id.map(to_id),
        commit: request.leader_commit.map(to_id),
        entries: request.entries.into_iter().map(to_entry).collect(),
    }
}

fn to_entry(entry: Entry) -> m::Entry {
    let (kind, payload) = record_of(&entry.payload);
    m::Entry { id: to_id(entry.log_id), kind, payload }
}

/// What a leader asks a follower to append.
///
/// # Errors
/// [`Unreadable`] when an entry is a membership that this build cannot read.
pub fn from_append(
    append: m::AppendEntries,
) -> Result<AppendEntriesRequest<TypeConfig>, Unreadable> {
    let entries = append.entries.into_iter().map(from_entry).collect::<Result<_, _>>()?;
    Ok(AppendEntriesRequest {
        vote: from_vote(append.vote),
        prev_log_id: append.prev.map(from_id),
        leader_commit: append.commit.map(from_id),
        entries,
    })
}

fn from_entry(entry: m::Entry) -> Result<Entry, Unreadable> {
    let payload = payload_of(entry.kind, entry.payload).ok_or_else(|| {
        Unreadable(format!("entry {} is a membership of another build", entry.id.index))
    })?;
    Ok(openraft::Entry { log_id: from_id(entry.id), payload })
}

pub fn to_append_reply(reply: AppendEntriesResponse<TypeConfig>) -> m::AppendReply {
    use AppendEntriesResponse as R;
    match reply {
        R::Success => m::AppendReply::Success,
        R::PartialSuccess(upto) => m::AppendReply::Partial(upto.map(to_id)),
        R::Conflict => m::AppendReply::Conflict,
        R::HigherVote(vote) => m::AppendReply::HigherVote(to_vote(&vote)),
    }
}

pub fn from_append_reply(reply: m::AppendReply) -> AppendEntriesResponse<TypeConfig> {
    use AppendEntriesResponse as R;
    match reply {
        m::AppendReply::Success => R::Success,
        m::AppendReply::Partial(upto) => R::PartialSuccess(upto.map(from_id)),
        m::AppendReply::Conflict => R::Conflict,
        m::AppendReply::HigherVote(vote) => R::HigherVote(from_vote(vote)),
    }
}

pub fn to_vote_request(request: &VoteRequest<TypeConfig>) -> m::VoteRequest {
    m::VoteRequest {
        vote: to_vote(&request.vote),
        last: request.last_log_id.map(to_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn from_vote_request(request: m::VoteRequest) -> VoteRequest<TypeConfig> {
    VoteRequest {
        vote: from_vote(request.vote),
        last_log_id: request.last.map(from_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn to_vote_reply(reply: &VoteResponse<TypeConfig>) -> m::VoteReply {
    m::VoteReply {
        vote: to_vote(&reply.vote),
        granted: reply.vote_granted,
        last: reply.last_log_id.map(to_id),
    }
}

pub fn from_vote_reply(reply: m::VoteReply) -> VoteResponse<TypeConfig> {
    VoteResponse::new(from_vote(reply.vote), reply.last.map(from_id), reply.granted)
}

pub fn to_transfer(request: &TransferLeaderRequest<TypeConfig>) -> m::TransferLeader {
    m::TransferLeader {
        from: to_vote(request.from_leader()),
        to: *request.to_node_id(),
        last: request.last_log_id().copied().map(to_id),
    }
}

pub fn from_transfer(request: m::TransferLeader) -> TransferLeaderRequest<TypeConfig> {
    TransferLeaderRequest::new(from_vote(request.from), request.to, request.last.map(from_id))
}

pub fn to_transfer_reply(reply: TransferLeaderResponse<TypeConfig>) -> m::TransferReply {
    match reply {
        Ok(()) => m::TransferReply::Accepted,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            m::TransferReply::VoteChanged { expected: to_vote(&expected), actual: to_vote(&actual) }
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            m::TransferReply::LogNotFlushed {
                expected: expected.map(to_id),
                actual: actual.map(to_id),
            }
        }
    }
}

pub fn from_transfer_reply(reply: m::TransferReply) -> TransferLeaderResponse<TypeConfig> {
    match reply {
        m::TransferReply::Accepted => Ok(()),
        m::TransferReply::VoteChanged { expected, actual } => {
            Err(TransferLeaderError::VoteChanged {
                expected: from_vote(expected),
                actual: from_vote(actual),
            })
        }
        m::TransferReply::LogNotFlushed { expected, actual } => {
            Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(from_id),
                actual: actual.map(from_id),
            })
        }
    }
}
