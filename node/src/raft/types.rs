//! The one configuration of openraft: which types stand for its terms, and their bytes in the log.
//!
//! Written by hand, and named nowhere above this room: openraft is a moving alpha.
//!
//! A membership in the log, little-endian:
//! ```text
//!  0  1  version: 1
//!  1  3  reserved
//!  4  4  number of configurations (two while one replaces the other)
//!        each: u32 number of voters, then each voter's id u64
//!     4  number of nodes, voters and learners
//!        each: id u64, u32 length of its address, the address
//! ```
//! The pool's superblock keeps the last one applied behind the term (8) and index (8) of its entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use cairn_protocol::ids::{LogIndex, NodeId, Term};
use cairn_store::log;
use openraft::impls::leader_id_std::LeaderId;
use openraft::impls::{BasicNode, BoxedErrorSource, InlineBatch, Vote};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};

use super::outcome::Outcome;
use super::runtime::GroupRuntime;

/// The types of a shard's group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

/// What an entry carries: a batch of operations, encoded (`cairn_protocol::op`).
#[derive(Clone, PartialEq, Eq)]
pub struct Batch(pub Bytes);

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.0.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of operations", self.0.len())
    }
}

impl RaftTypeConfig for TypeConfig {
    type D = Batch;
    /// Replies are written where the batch is applied; openraft carries none of them.
    type R = ();
    type NodeId = NodeId;
    type Node = BasicNode;
    type Term = u64;
    /// One leader a term: a log id is a term and an index, as in the log's records.
    type LeaderId = LeaderId<u64, NodeId>;
    type Vote = RaftVote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = GroupRuntime;
    type Responder<T>
        = Outcome<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// The term of a leader whom a majority elected.
pub type Leader = <LeaderId<u64, NodeId> as RaftLeaderId>::Committed;
/// openraft's log id.
pub type RaftLogId = openraft::LogId<Leader>;
/// openraft's vote.
pub type RaftVote = Vote<LeaderId<u64, NodeId>>;
/// What an entry holds.
pub type Payload = EntryPayload<Batch, NodeId, BasicNode>;
/// An entry.
pub type Entry = openraft::Entry<Leader, Payload>;
/// Who is in the group.
pub type Membership = openraft::Membership<NodeId, BasicNode>;
/// Who is in the group since which entry.
pub type StoredMembership = openraft::StoredMembership<Leader, NodeId, BasicNode>;

/// Where openraft says how it stands.
pub type Metrics =
    openraft::type_config::alias::WatchReceiverOf<TypeConfig, openraft::RaftMetrics<TypeConfig>>;

/// openraft's log id for the log's.
pub fn raft_id(id: log::LogId) -> RaftLogId {
    RaftLogId::new_term_index(id.term.0, id.index.0)
}

/// The log's log id for openraft's.
pub fn store_id(id: RaftLogId) -> log::LogId {
    log::LogId::new(Term(id.leader_id.term), LogIndex(id.index))
}

const VERSION: u8 = 1;

/// The bytes of a membership.
pub fn encode_membership(membership: &Membership) -> Vec<u8> {
    let mut out = vec![VERSION, 0, 0, 0];
    let configs = membership.get_joint_config();
    put_len(&mut out, configs.len());
    for voters in configs {
        put_len(&mut out, voters.len());
        for id in voters {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
    }
    put_len(&mut out, membership.nodes().count());
    for (id, node) in membership.nodes() {
        out.extend_from_slice(&id.0.to_le_bytes());
        put_len(&mut out, node.addr.len());
        out.extend_from_slice(node.addr.as_bytes());
    }
    out
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // A membership has a handful of nodes.
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

/// Reads what [`encode_membership`] wrote; None for anything else. Allocates nothing for lengths
/// that are merely claimed.
pub fn decode_membership(bytes: &[u8]) -> Option<Membership> {
    let mut rest = bytes.strip_prefix(&[VERSION, 0, 0, 0])?;
    let mut configs = Vec::new();
    for _ in 0..take_u32(&mut rest)? {
        let mut voters = BTreeSet::new();
        for _ in 0..take_u32(&mut rest)? {
            voters.insert(NodeId(take_u64(&mut rest)?));
        }
        configs.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..take_u32(&mut rest)? {
        let id = NodeId(take_u64(&mut rest)?);
        let len = usize::try_from(take_u32(&mut rest)?).ok()?;
        let addr = std::str::from_utf8(rest.get(..len)?).ok()?;
        rest = rest.get(len..)?;
        nodes.insert(id, BasicNode::new(addr));
    }
    if rest.is_empty() { Membership::new(configs, nodes).ok() } else { None }
}

/// The bytes of the membership that entry `id` brought, for the pool's superblock.
pub fn encode_applied_membership(id: log::LogId, membership: &Membership) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&id.term.0.to_le_bytes());
    out.extend_from_slice(&id.index.0.to_le_bytes());
    out.extend_from_slice(&encode_membership(membership));
    out
}

/// Reads what [`encode_applied_membership`] wrote; None for anything else.
pub fn decode_applied_membership(bytes: &[u8]) -> Option<StoredMembership> {
    let mut rest = bytes;
    let (term, index) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
    let id = raft_id(log::LogId::new(Term(term), LogIndex(index)));
    Some(StoredMembership::new(Some(id), decode_membership(rest)?))
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_le_bytes(*head))
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_read_back_and_nothing_else_does() {
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<BTreeSet<_>>();
        let node = |id: u64| (NodeId(id), BasicNode::new(format!("10.0.0.{id}:16379")));
        let nodes: BTreeMap<_, _> = [node(1), node(2), node(3), node(9)].into();
        let rows = [
            Membership::default(),
            Membership::new(vec![ids(&[1, 2, 3])], nodes.clone()).expect("sound"),
            Membership::new(vec![ids(&[1, 2, 3]), ids(&[2, 9])], nodes).expect("sound"),
        ];
        for membership in rows {
            let bytes = encode_membership(&membership);
            assert_eq!(decode_membership(&bytes), Some(membership));
            for len in 0..bytes.len() {
                assert_eq!(decode_membership(&bytes[..len]), None, "{len} bytes");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode_membership(&longer), None);
        }
        let claims = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decode_membership(&claims), None);
    }
}
