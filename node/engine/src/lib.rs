//! What it means: Redis data types and commands as a deterministic state machine over the store.
//!
//! [`Engine::apply`] executes one replicated operation, [`Engine::read`] one command that only
//! reads; both write the reply Redis 7.2 would give. Results depend on the content of the store,
//! on the time and the seed that came with the operation, and on nothing else: no clock, no
//! randomness, no machine float, no order that two replicas could see differently. What is not
//! replicated, the [`Recency`] sketch, only reads look at.
//!
//! Rooms, bottom up: `data` knows how values are kept, `keyspace` which keys exist at a given
//! time, `commands` what each command does with them, `apply` and `read` are the doors. Imports
//! cairn-protocol and cairn-store; never knows sockets, threads, the log, or who asks.
#![forbid(unsafe_code)]

mod apply;
mod commands;
mod data;
mod demand;
mod effects;
mod effort;
mod eviction;
mod expiry;
mod failure;
mod keyspace;
mod read;
mod recency;
mod reclaim;
mod seed;
mod state;
mod transaction;
mod watch;

pub use apply::{At, ENGINE_VERSION, Engine};
pub use commands::internal::{
    denied_by, encode_deny, encode_drop_stages, encode_evict, encode_expire, encode_limits,
    encode_memory, encode_reclaim, encode_stage,
};
pub use commands::keys::database_index;
pub use data::limits::{LIMITS, Limit, LimitKind, Limits};
pub use demand::{demand_at_most, is_wide, is_wide_with, spare_behind};
pub use effects::Effects;
pub use eviction::{Eviction, EvictionPolicy, Victims};
pub use failure::Fatal;
pub use keyspace::Lent;
pub use read::{read_lent, read_view};
pub use recency::{CELLS as RECENCY_CELLS, Recency, RecencyPolicy};
pub use reclaim::{Expired, PassedOver};
pub use state::state_hash;
pub use transaction::{Transaction, encode_exec};
pub use watch::{Watch, Watches};
