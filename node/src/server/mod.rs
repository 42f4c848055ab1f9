//! The server: listeners, connections and the commands about them.
//!
//! One acceptor deals connections round-robin to `--io-threads` single-threaded runtimes. A
//! connection's task reads what is there, decodes all complete requests without copying, runs reads
//! itself under the shard's read lock, hands its writes to the group as one submission, and writes
//! all replies at once, in order ([`connection`]). Everything is bounded: request bytes, requests a
//! batch, time under a lock, reply bytes, clients.
//!
//! Imports `raft` and `ops`; the composition root builds [`Shared`] and runs [`listener`].

pub mod commands;
pub mod connection;
pub mod cron;
pub mod info;
pub mod io_thread;
pub mod listener;
mod parts;
pub mod queue;
pub mod registry;
pub mod session;
pub mod slowlog;
mod staging;
pub mod stop;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use cairn_protocol::command::Spec;
use cairn_store::media::Dax;

use crate::ops::config::Config;
use crate::ops::metrics::Metrics;
use crate::ops::telemetry::LogControl;
use crate::raft::Group;
use crate::raft::epoch::CommitStats;
use crate::raft::recover::Found;
use crate::raft::scrub::ScrubStats;
use crate::transport::SharedTransport;
use registry::Registry;
use slowlog::SlowLog;
use stop::Stop;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Forty hexadecimal digits, new at each start.
    pub run_id: String,
    /// Forty hexadecimal digits, the same on all nodes that hold the same data.
    pub replication_id: String,
    /// When `main` began.
    pub started: Instant,
    /// The port that clients reach.
    pub port: u16,
    /// The medium's name: tmpfs, file, dax.
    pub medium: &'static str,
    /// The log's, which may be another.
    pub log_medium: &'static str,
    /// How the pool is reached, when it is on DAX.
    pub dax: Option<Dax>,
    /// What `--durability` means on it.
    pub durability: &'static str,
    /// The node's directory.
    pub dir: PathBuf,
    /// What recovery found.
    pub found: Found,
    /// Microseconds from the start of `main` until the listeners were bound.
    pub ready_us: u64,
}

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// The options as they are now.
    pub config: Config,
    /// The counters.
    pub metrics: Metrics,
    /// The shard; a lone node has one.
    pub group: Arc<Group>,
    /// The way to the other nodes; None of a lone one.
    pub peers: Option<SharedTransport>,
    /// What commits of the pool have cost.
    pub commits: Arc<CommitStats>,
    /// How far scrubbing has come.
    pub scrubbing: Arc<ScrubStats>,
    /// Replies that are copied out of the pool.
    pub copied_out: connection::CopiedOut,
    /// Who is connected.
    pub clients: Registry,
    /// Slow commands.
    pub slowlog: SlowLog,
    /// The log's level.
    pub log: LogControl,
    /// What does not change.
    pub identity: Identity,
    /// How the process is told to end.
    pub stop: Arc<Stop>,
    /// Whether expired keys are reclaimed (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: Arc<AtomicBool>,
}

/// The place of a command in the table: its row in the statistics.
fn row(spec: &'static Spec) -> usize {
    spec.id.row()
}
