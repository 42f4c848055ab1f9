//! From node to node: a [`Call`] goes to a peer, its reply comes back or an error that says what
//! may have happened.
//!
//! [`Transport`] is what the rooms above use; [`quic`] is the real one, with the proofs of [`tls`];
//! [`mem`] is the twin for tests and simulation, in one process, driven from outside. What a call means is `raft`'s and `cluster`'s business: they
//! give a [`Handler`] for those that arrive.
//!
//! What is promised, by every implementation:
//! - The handler is told who asks by the connection's proof, never by the message's claim.
//! - A call is delivered at most once by its sender, in no particular order; calls of one class do
//!   not wait for those of another. (The twin may be told to deliver twice, as a network that
//!   loses a reply makes its user do.)
//! - Dropping the future of a call gives it up; it may still be delivered.
//! - Nothing blocks, nothing waits without a bound: every call has a deadline, and a peer with too
//!   much on its way refuses more at once.
//!
//! Imports `ops` and the protocol; never `raft` or the rooms above.

pub mod mem;
pub mod quic;
pub mod tls;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::cluster::message::{Hello, Refused, RefusedCode};
use cairn_protocol::cluster::wire::WireError;
use cairn_protocol::cluster::{EnvelopeError, Reply, Request};
use cairn_protocol::ids::{ClusterId, NodeId, ShardId};

/// A future that is owned by whoever waits for it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// What a call is about: each class has a connection of its own to each peer, so that none waits
/// behind the bytes of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Entries, votes, forwarded commands.
    Replication,
    /// Small, and of use only at once: heartbeats.
    Heartbeat,
    /// Bulk: snapshots, long replies.
    Snapshot,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 3] = [Class::Replication, Class::Heartbeat, Class::Snapshot];

    /// The number by which a Hello names it.
    pub fn number(self) -> u8 {
        match self {
            Class::Replication => 1,
            Class::Heartbeat => 2,
            Class::Snapshot => 3,
        }
    }

    /// Its place in [`Class::ALL`].
    pub fn index(self) -> usize {
        usize::from(self.number() - 1)
    }

    /// The class of that number.
    pub fn from_number(number: u8) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.number() == number)
    }

    /// As INFO and the log print it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Replication => "replication",
            Class::Heartbeat => "heartbeat",
            Class::Snapshot => "snapshot",
        }
    }
}

/// A request on its way to a peer.
#[derive(Clone, Debug)]
pub struct Call {
    /// The peer, which must have been added by [`Transport::set_peer`].
    pub to: NodeId,
    /// What it is about.
    pub class: Class,
    /// The shard it concerns, or [`ShardId::NONE`].
    pub shard: ShardId,
    /// The request.
    pub request: Request,
    /// After this long it is given up with [`CallError::Timeout`].
    pub deadline: Duration,
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Not delivered: there is no connection to the peer, and the next attempt is not due yet.
    /// (openraft backs off on this one.)
    Unreachable {
        /// Whom it was for.
        to: NodeId,
        /// Why there is none.
        why: String,
    },
    /// The connection broke after the request was sent, or in the middle of it: it may have been
    /// executed.
    Broken {
        /// Whom it was for.
        to: NodeId,
        /// What broke it.
        why: String,
    },
    /// The deadline passed: it may have been executed, or may yet be.
    Timeout {
        /// Whom it was for.
        to: NodeId,
        /// The deadline.
        after: Duration,
    },
    /// Not executed: the peer refused it, and says why.
    Refused {
        /// Whom it was for.
        to: NodeId,
        /// Its answer.
        refused: Refused,
    },
    /// Not delivered: too much is on its way to this peer already.
    Full {
        /// Whom it was for.
        to: NodeId,
    },
    /// Not delivered: longer than a message may be.
    TooLong {
        /// Whom it was for.
        to: NodeId,
        /// What is too long.
        why: String,
    },
    /// The peer answered with what is no reply to this request: a fault of one of the two.
    BadReply {
        /// Whom it was for.
        to: NodeId,
        /// What is wrong with it.
        why: String,
    },
}

impl CallError {
    /// Whether the peer may have executed the request: then only what is idempotent may be sent
    /// again.
    pub fn may_be_executed(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Timeout { .. } | Self::BadReply { .. } => true,
            Self::Refused { refused, .. } => refused.code == RefusedCode::Failed,
            Self::Unreachable { .. } | Self::Full { .. } | Self::TooLong { .. } => false,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { to, why } => write!(f, "node {to} cannot be reached: {why}"),
            Self::Broken { to, why } => {
                write!(f, "connection to node {to} broke while it had a request: {why}")
            }
            Self::Timeout { to, after } => {
                write!(f, "node {to} did not answer within {} ms", after.as_millis())
            }
            Self::Refused { to, refused } => write!(f, "node {to} refused: {}", refused.text),
            Self::Full { to } => write!(f, "too many requests are waiting for node {to}"),
            Self::TooLong { to, why } => write!(f, "not sent to node {to}: {why}"),
            Self::BadReply { to, why } => write!(f, "node {to} answered what is no reply: {why}"),
        }
    }
}

impl std::error::Error for CallError {}

/// A request that arrived.
#[derive(Debug)]
pub struct Incoming {
    /// Who asks, as the connection proved.
    pub from: NodeId,
    /// The shard it concerns, or [`ShardId::NONE`].
    pub shard: ShardId,
    /// The request, never a Hello: that one the transport answers.
    pub request: Request,
}

/// What answers the requests that arrive. It is called on the transport's runtime; a handler that
/// has much to do hands it on. Its future runs to its end even when the asker gives up.
pub trait Handler: Send + Sync + 'static {
    /// The reply, of the request's kind, or why there is none.
    fn handle(&self, incoming: Incoming) -> BoxFuture<Result<Reply, Refused>>;
}

impl<F> Handler for F
where
    F: Fn(Incoming) -> BoxFuture<Result<Reply, Refused>> + Send + Sync + 'static,
{
    fn handle(&self, incoming: Incoming) -> BoxFuture<Result<Reply, Refused>> {
        self(incoming)
    }
}

/// A refusal.
pub fn refused(code: RefusedCode, text: impl Into<String>) -> Refused {
    let mut text = text.into();
    // A refusal must always fit its message.
    let end = text.floor_char_boundary(cairn_protocol::cluster::wire::TEXT_BYTES_MAX);
    text.truncate(end);
    Refused { code, text }
}

/// How a connection to a peer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing was sent to it yet.
    #[default]
    Idle,
    /// Being made for the first time, or again.
    Connecting,
    /// The peer has proved itself.
    Connected,
    /// Failed; tried again after a pause that grows, or once the peer comes by itself.
    BackingOff,
}

impl LinkState {
    /// As INFO prints it.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Idle => "idle",
            LinkState::Connecting => "connecting",
            LinkState::Connected => "connected",
            LinkState::BackingOff => "backing-off",
        }
    }
}

/// One class's connection to a peer, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// How it stands.
    pub state: LinkState,
    /// Round trip, as the connection estimates it, in microseconds; 0 if unknown.
    pub rtt_us: u64,
    /// Bytes of messages sent.
    pub sent_bytes: u64,
    /// Bytes of messages received.
    pub received_bytes: u64,
    /// Requests sent.
    pub calls: u64,
    /// Those without a reply.
    pub failed_calls: u64,
    /// Requests waiting for their reply.
    pub waiting_calls: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Why the last attempt failed or the last connection ended; empty if none did.
    pub last_error: String,
}

/// A peer, for INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// HOST:PORT it is dialled at.
    pub address: String,
    /// What its last Hello said; None until it has spoken.
    pub hello: Option<Hello>,
    /// By class, in the order of [`Class::ALL`].
    pub links: [LinkStatus; 3],
}

/// What was turned away, whoever it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedCounts {
    /// Connections that never finished their handshake.
    pub handshakes: u64,
    /// Certificates that did not prove a node of this cluster.
    pub certificates: u64,
    /// Another version of the wire.
    pub versions: u64,
    /// Another cluster.
    pub clusters: u64,
    /// Claims of another identity than was proved, and messages for others.
    pub identities: u64,
    /// Bytes that were no message.
    pub malformed: u64,
    /// Above a bound: connections, requests or bytes at once.
    pub busy: u64,
}

/// Counts a message that was refused, and says under which code.
fn count_refused(counts: &mut RefusedCounts, error: &WireError) -> RefusedCode {
    let (count, code) = match error {
        WireError::Envelope(EnvelopeError::Version { .. } | EnvelopeError::Features { .. }) => {
            (&mut counts.versions, RefusedCode::Version)
        }
        WireError::Envelope(EnvelopeError::Cluster { .. }) => {
            (&mut counts.clusters, RefusedCode::Cluster)
        }
        WireError::Envelope(EnvelopeError::From { .. } | EnvelopeError::To { .. }) => {
            (&mut counts.identities, RefusedCode::Identity)
        }
        _ => (&mut counts.malformed, RefusedCode::Malformed),
    };
    *count += 1;
    code
}

/// A node's way to its peers. Cheap to share; every method may be called from any thread.
pub trait Transport: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> NodeId;

    /// Gives what answers requests from now on. Until then, and after [`Transport::close`], they are
    /// refused as unavailable.
    fn serve(&self, handler: Arc<dyn Handler>);

    /// Says of which cluster this node is, once one is born or it has joined one.
    fn set_cluster(&self, cluster: ClusterId);

    /// Adds a peer, or changes where it is reached: HOST:PORT of its peer port. Returns at once;
    /// the first call connects.
    fn set_peer(&self, node: NodeId, address: &str);

    /// Forgets a peer and closes the connections to it: calls on their way end as broken, later
    /// ones are unreachable. What it sends is still handed to the handler if it proves itself: who
    /// may say what in a group is the group's to know, and a new member hears from its leader
    /// before it knows of it.
    fn remove_peer(&self, node: NodeId);

    /// Sends a request and waits for its reply. Any executor may poll it: what it needs of a runtime
    /// happens on the transport's own threads (the twin asks its scheduler). Nothing is sent before
    /// it is polled for the first time.
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, CallError>>;

    /// Asks whoever is at HOST:PORT, a node of this cluster or one that may join it: for
    /// [`Request::Introduce`], [`Request::Found`] and [`Request::Join`], whose answers say who it
    /// is. Also returns who answered, as its connection proved.
    fn ask_address(
        &self,
        address: &str,
        request: Request,
        deadline: Duration,
    ) -> BoxFuture<Result<(NodeId, Reply), CallError>>;

    /// All peers.
    fn peers(&self) -> Vec<PeerStatus>;

    /// What was turned away.
    fn refused(&self) -> RefusedCounts;

    /// Closes all connections, telling the peers, and takes no more: calls are unreachable.
    fn close(&self) -> BoxFuture<()>;
}

impl fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport of node {}", self.node())
    }
}

/// What a transport is shared as.
pub type SharedTransport = Arc<dyn Transport>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_numbers_of_their_own() {
        for class in Class::ALL {
            assert_eq!(Class::from_number(class.number()), Some(class));
        }
        assert_eq!(Class::from_number(0), None);
        assert_eq!(Class::from_number(4), None);
    }

    #[test]
    fn every_class_has_its_place() {
        assert_eq!(Class::ALL.map(Class::index), [0, 1, 2]);
    }

    #[test]
    fn a_refusal_always_fits_its_message() {
        let long = refused(RefusedCode::Failed, "é".repeat(5000));
        assert!(long.text.len() <= cairn_protocol::cluster::wire::TEXT_BYTES_MAX);
        assert!(long.text.ends_with('é'));
    }

    #[test]
    fn errors_tell_whether_the_request_may_have_been_executed() {
        let to = NodeId(2);
        let sent = [
            CallError::Broken { to, why: String::new() },
            CallError::Timeout { to, after: Duration::from_millis(5) },
        ];
        assert!(sent.iter().all(CallError::may_be_executed));
        let unsent = [
            CallError::Unreachable { to, why: String::new() },
            CallError::Full { to },
            CallError::Refused { to, refused: refused(RefusedCode::Busy, "no") },
        ];
        assert!(!unsent.iter().any(CallError::may_be_executed));
    }
}
