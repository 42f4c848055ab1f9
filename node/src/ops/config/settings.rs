//! The values of all options, typed.

use std::net::IpAddr;
use std::path::PathBuf;

use cairn_engine::{Eviction, EvictionPolicy};

use super::options::OPTIONS;
use crate::ops::telemetry::LogLevel;

/// The least memory that a pool is any use with, in bytes.
pub const MEMORY_MIN: u64 = 16 << 20;

/// Added to `--port` for the port of the peers.
pub const PEER_PORT_OFFSET: u16 = 10_000;

/// When a write counts as durable on file media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the sync of the log returned.
    Always,
    /// At once; the log is synced each second.
    EverySec,
}

impl Durability {
    /// The name used by the option and by INFO.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Always => "always",
            Durability::EverySec => "everysec",
        }
    }
}

/// How a leader makes sure that it still leads when it answers a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// By a lease.
    #[default]
    Lease,
    /// By asking a majority.
    Index,
}

impl Reads {
    /// The name used by the option.
    pub fn name(self) -> &'static str {
        match self {
            Reads::Lease => "lease",
            Reads::Index => "index",
        }
    }
}

/// How many bytes of replies may wait for a client that does not read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Closed at once above this; 0 means no limit.
    pub hard_bytes: u64,
    /// Closed when above this for `soft_seconds`; 0 means no limit.
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// One value for each option. Built only from the rows' defaults, then changed row by row.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // Each field is the option of the same name; the row documents it.
pub struct Settings {
    /// Where those come from that were not given otherwise: `--config`.
    pub config_file: Option<PathBuf>,
    pub dir: PathBuf,
    /// A devdax device.
    pub pool: Option<PathBuf>,
    /// Bytes; None until the composition root has asked the machine.
    pub memory: Option<u64>,
    pub maxmemory_policy: EvictionPolicy,
    pub maxmemory_samples: usize,
    pub durability: Durability,
    pub epoch_ms: Option<u64>,
    pub epoch_ops: Option<u64>,
    /// Scrubbing, in MiB a second.
    pub scrub_mib: u64,
    pub databases: u16,
    pub bind: Vec<IpAddr>,
    pub port: u16,
    pub tcp_backlog: u32,
    pub tcp_keepalive_seconds: u64,
    pub timeout_seconds: u64,
    pub maxclients: u64,
    pub io_threads: usize,
    /// HOST:PORT each.
    pub join: Vec<String>,
    pub expect: u32,
    pub advertise: String,
    pub peer_port: u16,
    pub cluster_secret: String,
    pub peer_ca: Option<PathBuf>,
    pub peer_cert: Option<PathBuf>,
    pub peer_key: Option<PathBuf>,
    pub reads: Reads,
    /// The longest round trip between two nodes.
    pub peer_rtt_ms: u64,
    pub log_keep_bytes: u64,
    pub requirepass: String,
    pub protected_mode: bool,
    pub query_buffer_limit: u64,
    pub output_limit: OutputLimit,
    pub output_stall_seconds: u64,
    pub proto_max_bulk_len: u64,
    pub log_level: LogLevel,
    pub slowlog_slower_than_us: i64,
    pub slowlog_max_len: usize,
}

impl Settings {
    /// Every option at its default.
    pub fn defaults() -> Settings {
        let mut settings = Settings::blank();
        for row in OPTIONS {
            let accepted = (row.set)(&mut settings, row.default);
            debug_assert!(accepted.is_ok(), "the default of --{} does not parse", row.name);
        }
        settings
    }

    /// How keys are chosen that go when memory is full.
    pub fn eviction(&self) -> Eviction {
        Eviction { policy: self.maxmemory_policy, samples: self.maxmemory_samples }
    }

    /// Something for the rows to write their defaults into; never seen outside.
    fn blank() -> Settings {
        Settings {
            config_file: None,
            dir: PathBuf::new(),
            pool: None,
            memory: None,
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 1,
            durability: Durability::Always,
            epoch_ms: None,
            epoch_ops: None,
            scrub_mib: 200,
            databases: 16,
            bind: Vec::new(),
            port: 0,
            tcp_backlog: 0,
            tcp_keepalive_seconds: 0,
            timeout_seconds: 0,
            maxclients: 0,
            io_threads: 1,
            join: Vec::new(),
            expect: 0,
            advertise: String::new(),
            peer_port: 0,
            cluster_secret: String::new(),
            peer_ca: None,
            peer_cert: None,
            peer_key: None,
            reads: Reads::default(),
            peer_rtt_ms: 100,
            log_keep_bytes: 0,
            requirepass: String::new(),
            protected_mode: true,
            query_buffer_limit: 0,
            output_limit: OutputLimit::default(),
            output_stall_seconds: 0,
            proto_max_bulk_len: 0,
            log_level: LogLevel::Notice,
            slowlog_slower_than_us: 0,
            slowlog_max_len: 0,
        }
    }
}
