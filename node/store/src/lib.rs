//! What is kept: media, pool, allocator, trie, B+tree, Raft log files. The only unsafe code of the
//! workspace.
//!
//! Knows no clock, no randomness, no sockets: times and seeds come in with each operation.
//! Rooms, bottom up: `layout` (bytes on media) < `media` < `persist` < `alloc` < `heap` <
//! `btree`, `trie` < `blob` < `order`, `list` < `keyspace`, `pool` < `snapshot`, `evacuate`,
//! `check` < `transfer`; `log` stands beside them, on `layout` and `media`; `fuzzing` above all.

#[cfg(test)]
extern crate self as cairn_store;

pub mod alloc;
pub mod blob;
pub mod btree;
pub mod check;
pub mod collection;
#[cfg(test)]
mod counts;
pub mod error;
pub mod evacuate;
pub mod fuzzing;
pub mod hash;
pub mod heap;
pub mod keyspace;
pub mod layout;
pub mod list;
pub mod log;
pub mod media;
pub mod order;
pub mod persist;
pub mod pool;
pub mod snapshot;
pub mod transfer;
pub mod trie;

pub use alloc::room::{Demand, RoomLeft, Spare};
pub use alloc::{Leaked, Usage};
pub use blob::{Encoding, LongValue, Meta, Record, Type, Value};
pub use collection::{Edit, PACKED_MAX, Tree};
pub use error::{Corrupt, Result, StoreError};
pub use evacuate::{Evacuated, Evacuation, Progress};
pub use keyspace::{Db, Deadline, Key, Removal, View, admitted_bytes};
pub use order::Bound;
pub use pool::{Committer, Opened, Pin, PoolOptions, Published, Sealed, Store};
pub use snapshot::{Snapshot, SnapshotOutcome};
pub use transfer::{Export, Head, Import, Imported, TransferError};
