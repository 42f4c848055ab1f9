//! Consensus: from a batch of operations to agreed, durable, applied entries.
//!
//! [`propose`] holds a connection's batch and how it waits; [`group`] is the shard's group: it
//! stamps, logs and applies. A lone node is the only voter of its group, so an entry is committed
//! when its own log has it; the rest of the path (entries with term and index, append completed by
//! callback, apply in batches, votes, purge behind the committed epoch) is what more voters need too.
//! [`road`] leads a batch to its shard's leader, here or elsewhere, [`rest`] keeps what of a reply is
//! too long for one message; [`network`] and [`wire`] carry
//! openraft's messages, [`transfer`] a whole pool to a member that was away too long ([`keeping`] the entries behind it), [`view`] is what reads know of who leads, [`heard`] whether anybody answers it, [`clocks`] what time it is for all.
//! [`long_read`] answers what would hold others up from a pinned root.
//! [`place`] leads to a pool on a device, [`home`] is where a pool lies, [`install`] puts a peer's pool in its place.
//! [`types`] and [`log_store`] are openraft's side of it, which more voters will use.
//! [`epoch`] commits the pool in the background, [`scrub`] looks for damage in it, [`expiry`]
//! proposes the reclaiming of expired keys, [`eviction`] what goes when memory is full, [`leftovers`]
//! that of pieces whose command never came.
//!
//! Imports `ops`, the engine, the store and the protocol; never the server.

mod attendant;
mod clocks;
pub mod commits;
mod consensus;
mod distance;
pub mod epoch;
pub mod eviction;
pub mod expiry;
pub mod group;
mod heard;
pub mod home;
pub mod install;
mod keeping;
pub mod leftovers;
pub mod log_store;
pub mod long_read;
mod network;
mod outcome;
pub mod place;
pub mod propose;
pub mod recover;
mod rest;
pub mod road;
mod room;
pub mod runtime;
pub mod scrub;
pub mod start;
mod state_machine;
mod transfer;
mod turn;
pub mod types;
mod view;
pub mod vote;
mod wire;

pub use attendant::Attendant;
pub use distance::Distance;
pub use group::{Group, GroupError, GroupMember, GroupStatus, Parts, Role, Standing};
pub use long_read::{HOLD, LongRead, LongReply, Pinned};
pub use propose::{Batch, Guard, Prefetch, Submission, Ticket, error_code, first_key, is_long};
pub use road::{Way, session_of};
pub use view::Lease;
