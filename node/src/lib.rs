//! The cairn node. Its rooms, bottom up; each imports only rooms above it in this list:
//!
//! - [`ops`]: options, counters, logging, the machine, the clock;
//! - [`transport`]: what one node asks of another, over QUIC or within one process;
//! - [`raft`]: the shard's group: from a batch to agreed, durable, applied entries;
//! - [`cluster`]: who this node is, how a cluster is born and joined, what answers the peers;
//! - [`server`]: listeners, connections, sessions, and the commands about them;
//! - [`node`]: the composition root, with no logic of its own; [`tools`]: the commands beside it.
//!
//! A test in `tests/layering` holds them to it.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod node;
pub mod ops;
pub mod raft;
pub mod server;
pub mod tools;
pub mod transport;
