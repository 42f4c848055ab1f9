//! The messages between nodes, as plain structures: what consensus means by them is `node::raft`'s
//! business, how they become bytes is [`super::wire`]'s.
//!
//! Fields of type [`Bytes`] are payload: they lie raw behind the head and are handed on without a
//! copy. An [`Entry`] keeps its payload beside its id here, and travels as its id in the head and
//! its bytes in the payload.

use bytes::Bytes;

use super::envelope::Kind;
use crate::ids::{ClusterId, LogIndex, NodeId, ShardId, Term};

/// A vote: which term, for whom, and whether a majority gave it theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: Term,
    /// The candidate; None before the first vote.
    pub node: Option<NodeId>,
    /// Whether that node leads the term.
    pub committed: bool,
}

/// A position in a shard's log: the term it was proposed in, and its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogId {
    /// The term of the leader that proposed it.
    pub term: Term,
    /// The index.
    pub index: LogIndex,
}

/// What an entry of the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Nothing: a new leader's first.
    Blank,
    /// Operations (`crate::op`).
    Operations,
    /// Who is in the group.
    Membership,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub id: LogId,
    /// What it holds.
    pub kind: EntryKind,
    /// Its bytes, as the log keeps them.
    pub payload: Bytes,
}

/// A node and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// HOST:PORT of its peer port, at most [`super::wire::TEXT_BYTES_MAX`] bytes.
    pub address: String,
}

/// The first words of a connection, and the answer to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The least and the greatest version of the wire it speaks.
    pub versions: (u16, u16),
    /// The features it knows, a bit each.
    pub features: u64,
    /// The boot of its machine, or zeros.
    pub boot_id: [u8; 16],
    /// What the connection is for: a number of the transport's; 0 in the answer.
    pub class: u8,
    /// Where the speaker says it is reached, HOST:PORT; may be empty.
    pub address: String,
}

/// What a node that was started with `--join` tells of itself, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduce {
    /// The speaker.
    pub member: Member,
    /// How many nodes it waits for before a cluster is born (`--expect`).
    pub expect: u32,
    /// How many shards it was told to make.
    pub shards: u32,
    /// The cluster it belongs to, or none.
    pub cluster: ClusterId,
    /// Whom it has met so far, itself included.
    pub met: Vec<Member>,
}

/// A cluster is born.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub cluster: ClusterId,
    /// How many shards it has.
    pub shards: u32,
    /// Its first members.
    pub members: Vec<Member>,
}

/// Whether the one who was told of a birth belongs to that cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Founded {
    /// The cluster it belongs to: another one if it already had one, none if it refuses.
    pub cluster: ClusterId,
}

/// A node asks to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Who.
    pub member: Member,
    /// Bytes it offers (`--memory`).
    pub capacity_bytes: u64,
    /// Where it stands, for placement; may be empty.
    pub zone: String,
    /// Whether it has kept that it belongs to the cluster: only then is it taken in. A node that has
    /// not, and whose id is a member's, has lost what that member had.
    pub kept: bool,
}

/// What becomes of a request to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It is a member now.
    Accepted {
        /// Of this cluster.
        cluster: ClusterId,
        /// With these.
        members: Vec<Member>,
    },
    /// Another node decides that.
    Elsewhere {
        /// The leader, if one is known.
        leader: Option<Member>,
    },
    /// Refused: a member has that id, and who asks has lost what that one had.
    Lost,
}

/// One group's part of a heartbeat: what an append without entries says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The group.
    pub shard: ShardId,
    /// The leader's vote.
    pub vote: Vote,
    /// The entry that the follower is known to have, if any.
    pub prev: Option<LogId>,
    /// What is committed.
    pub commit: Option<LogId>,
}

/// What a leader tells another node of all groups that it leads and the other follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts heartbeats of this pair.
    pub sequence: u64,
    /// The sender's wall clock, so that a leader far off its peers can tell.
    pub now_ms: u64,
    /// A group each.
    pub groups: Vec<Beat>,
}

/// One group's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatAnswer {
    /// The group.
    pub shard: ShardId,
    /// What its member here says; None: this node has no member of that group.
    pub outcome: Option<AppendReply>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The heartbeat's.
    pub sequence: u64,
    /// The answerer's wall clock.
    pub now_ms: u64,
    /// As many as were asked, in that order.
    pub groups: Vec<BeatAnswer>,
}

/// Entries for a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntries {
    /// The leader's vote.
    pub vote: Vote,
    /// The entry before the first; None: the first of the log.
    pub prev: Option<LogId>,
    /// What is committed.
    pub commit: Option<LogId>,
    /// The entries, in order; together within
    /// [`PAYLOAD_BYTES_MAX`](super::envelope::PAYLOAD_BYTES_MAX).
    pub entries: Vec<Entry>,
}

/// What a follower says to entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendReply {
    /// All are in its log, durably.
    Success,
    /// Those up to this one are.
    Partial(Option<LogId>),
    /// The entry before the first is not in its log.
    Conflict,
    /// It has seen a later term.
    HigherVote(Vote),
}

/// A candidate's request, for a vote or for the promise of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// What it wants.
    pub vote: Vote,
    /// The last entry of its log.
    pub last: Option<LogId>,
    /// Whether the leader told it to: a lease that was granted does not stand against it.
    pub leadership_transfer: bool,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// The answerer's vote afterwards.
    pub vote: Vote,
    /// Whether the candidate has it.
    pub granted: bool,
    /// The last entry of the answerer's log.
    pub last: Option<LogId>,
}

/// A leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLeader {
    /// The leader's vote.
    pub from: Vote,
    /// To whom.
    pub to: NodeId,
    /// What the successor must have in its log.
    pub last: Option<LogId>,
}

/// Whether the successor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferReply {
    /// It campaigns.
    Accepted,
    /// It has seen another vote.
    VoteChanged {
        /// The one the leader named.
        expected: Vote,
        /// Its own.
        actual: Vote,
    },
    /// Its log has not caught up.
    LogNotFlushed {
        /// What the leader named.
        expected: Option<LogId>,
        /// What it has.
        actual: Option<LogId>,
    },
}

/// Names one snapshot of one shard: a snapshot that is sent again under the same id goes on where
/// it stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotId(pub [u8; 16]);

/// A snapshot is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// Which.
    pub id: SnapshotId,
    /// The leader's vote.
    pub vote: Vote,
    /// The last entry it includes.
    pub last: Option<LogId>,
    /// The last membership it includes, and where that stood.
    pub membership_at: Option<LogId>,
    /// Bytes that the receiver must reserve.
    pub reserve_bytes: u64,
    /// The pool's description, as the store encodes it.
    pub head: Bytes,
}

/// A piece of a snapshot: logical records, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Of which.
    pub id: SnapshotId,
    /// The leader's vote.
    pub vote: Vote,
    /// Which piece, from 0.
    pub chunk: u64,
    /// How many records it holds.
    pub records: u32,
    /// The records.
    pub payload: Bytes,
}

/// All of a snapshot was sent: install it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// Which.
    pub id: SnapshotId,
    /// The leader's vote.
    pub vote: Vote,
    /// How many pieces it has.
    pub chunks: u64,
}

/// How far the receiver of a snapshot is; the answer to begin, chunk and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// The receiver's vote: a later one than the sender's ends the transfer.
    pub vote: Vote,
    /// The piece that it wants next.
    pub next_chunk: u64,
    /// Whether the snapshot is installed.
    pub installed: bool,
}

/// What a forwarded batch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardKind {
    /// Operations for the log.
    Write,
    /// Reads, answered by the leader.
    Read,
}

/// Commands of a client, for the shard's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What is asked.
    pub kind: ForwardKind,
    /// The client's connection, a number of the forwarding node's; 0 where none is needed.
    pub session: u64,
    /// Counts the session's batches.
    pub sequence: u64,
    /// Which RESP the replies are to be in: 2 or 3.
    pub resp: u8,
    /// Bits that the forwarding layer gives a meaning.
    pub flags: u32,
    /// How many commands the payload holds.
    pub count: u32,
    /// The commands, encoded (`crate::op`).
    pub payload: Bytes,
}

/// What became of forwarded commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// They were executed.
    Done {
        /// How many replies the payload holds.
        count: u32,
        /// Bits that the forwarding layer gives a meaning.
        flags: u32,
        /// The replies in RESP, ready for the client.
        payload: Bytes,
    },
    /// Nothing of it happened: this node does not lead the shard.
    NotLeader {
        /// Who does, if that is known.
        leader: Option<NodeId>,
    },
}

/// Asks up to where a read must have been applied; the envelope names the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexRequest;

/// Up to where a read must have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadIndex {
    /// Up to here.
    At(Option<LogId>),
    /// Ask the leader.
    NotLeader {
        /// Who that is, if known.
        leader: Option<NodeId>,
    },
}

/// Why a node did not accept a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedCode {
    /// Another version of the wire, or a feature it does not know.
    Version,
    /// Another cluster.
    Cluster,
    /// Not the node it claims to be, or not meant for this one.
    Identity,
    /// Bytes that are no message.
    Malformed,
    /// Too much at once.
    Busy,
    /// Not a message for this node at this time: no such shard, no member, being stopped.
    Unavailable,
    /// It failed at it.
    Failed,
}

/// Instead of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, for programs.
    pub code: RefusedCode,
    /// Why, for people.
    pub text: String,
}

macro_rules! messages {
    ($(#[$doc:meta])* $name:ident { $($variant:ident($body:ty),)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Each is named as its kind and documented there and at its body.
        pub enum $name { $($variant($body),)+ }

        impl $name {
            /// The kind, as the envelope says it.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)+ }
            }
        }
    };
}

messages! {
    /// What one node asks of another.
    Request {
        Hello(Hello),
        Introduce(Introduce),
        Found(Found),
        Join(Join),
        Heartbeat(Heartbeat),
        Append(AppendEntries),
        Vote(VoteRequest),
        PreVote(VoteRequest),
        TransferLeader(TransferLeader),
        SnapshotBegin(SnapshotBegin),
        SnapshotChunk(SnapshotChunk),
        SnapshotEnd(SnapshotEnd),
        Forward(Forward),
        ReadIndex(ReadIndexRequest),
    }
}

messages! {
    /// What comes back: under the request's kind, or [`Refused`].
    Reply {
        Hello(Hello),
        Introduce(Introduce),
        Found(Founded),
        Join(Joined),
        Heartbeat(HeartbeatReply),
        Append(AppendReply),
        Vote(VoteReply),
        PreVote(VoteReply),
        TransferLeader(TransferReply),
        SnapshotBegin(SnapshotProgress),
        SnapshotChunk(SnapshotProgress),
        SnapshotEnd(SnapshotProgress),
        Forward(Forwarded),
        ReadIndex(ReadIndex),
        Refused(Refused),
    }
}
