//! THE table of options.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use cairn_engine::EvictionPolicy;

use super::settings::{Durability, OutputLimit, Reads, Settings};
use crate::ops::host;
use crate::ops::telemetry::LogLevel;
use crate::ops::units::parse_bytes;

/// The headings of `--help`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where data lies and how durable it is.
    Storage,
    /// Addresses and connections.
    Network,
    /// The other nodes.
    Cluster,
    /// Who may connect.
    Security,
    /// What one client may use up.
    Limits,
    /// Logging and the slow log.
    Observability,
}

impl Group {
    /// The heading as printed.
    pub fn heading(self) -> &'static str {
        match self {
            Group::Storage => "Storage",
            Group::Network => "Network",
            Group::Cluster => "Cluster",
            Group::Security => "Security",
            Group::Limits => "Limits per client",
            Group::Observability => "Logging",
        }
    }
}

/// Whether `CONFIG SET` may change an option while the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes effect at once.
    Live,
    /// Needs a restart.
    AtStart,
}

/// One option.
#[derive(Debug)]
pub struct OptionRow {
    /// The flag without its dashes and the file's key. The environment variable is `CAIRN_` and
    /// the name in capitals, dashes as underscores.
    pub name: &'static str,
    /// The name under which `CONFIG GET` and `SET` know it: Redis's, where Redis has the option.
    pub config_name: &'static str,
    /// Where `--help` lists it.
    pub group: Group,
    /// What stands for the value in `--help`.
    pub value_name: &'static str,
    /// The default, as one would type it.
    pub default: &'static str,
    /// One or two sentences, with the unit.
    pub help: &'static str,
    /// May it change while running?
    pub change: Change,
    /// May the flag be repeated (and the file hold a list)?
    pub several: bool,
    /// Reads a value. The error is the phrase Redis uses for such a value.
    pub set: fn(&mut Settings, &str) -> Result<(), String>,
    /// Prints the value as `CONFIG GET` does.
    pub get: fn(&Settings) -> String,
}

impl OptionRow {
    /// The environment variable, such as `CAIRN_IO_THREADS`.
    pub fn env_name(&self) -> String {
        format!("CAIRN_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }
}

/// Every option of `cairn server`.
pub static OPTIONS: &[OptionRow] = &[
    OptionRow {
        name: "dir",
        config_name: "dir",
        group: Group::Storage,
        value_name: "PATH",
        default: "./cairn-data",
        help: "Directory of pool, log and lock file; created if missing. Its file system is the \
               medium: under /dev/shm data survives the process, on ext4 or xfs power loss too; on \
               persistent memory mounted with -o dax likewise, and without a system call a write",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.dir = PathBuf::from(text);
            if text.is_empty() { Err("argument must be a path".into()) } else { Ok(()) }
        },
        get: |s| s.dir.display().to_string(),
    },
    OptionRow {
        name: "pool",
        config_name: "pool",
        group: Group::Storage,
        value_name: "DEVICE",
        default: "",
        help: "A devdax device, such as /dev/dax0.0, to hold the pool in place of a file in --dir, \
               which keeps log, lock and a link to the device; once the link is there the option \
               need not be given",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.pool = path_or_none(text);
            Ok(())
        },
        get: |s| path_text(s.pool.as_deref()),
    },
    OptionRow {
        name: "memory",
        config_name: "maxmemory",
        group: Group::Storage,
        value_name: "BYTES",
        default: "auto",
        help: "Capacity of the pool, all data and indexes included, such as 512mb or 8gb. `auto` is \
               half of RAM, or of what the medium has free if that is less; all of a devdax device. \
               CONFIG SET maxmemory changes it: on a lone node until the next start, in a cluster \
               for all nodes and for good, and what a new cluster's first leader was started with \
               holds until then",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.memory = if text == "auto" { None } else { Some(memory_value(text)?) };
            Ok(())
        },
        get: |s| s.memory.unwrap_or(0).to_string(),
    },
    OptionRow {
        name: "maxmemory-policy",
        config_name: "maxmemory-policy",
        group: Group::Storage,
        value_name: "POLICY",
        default: "noeviction",
        help: "What goes when the pool is full: nothing (noeviction: writes answer OOM, deletes \
               work), or keys by last use, frequency or at random, of all (allkeys-lru, allkeys-lfu, \
               allkeys-random) or of those with a deadline (volatile-lru, volatile-lfu, \
               volatile-random, volatile-ttl). In a cluster the leader's counts and CONFIG SET changes \
               one node's: give all of them the same",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.maxmemory_policy = one_of(text, &EvictionPolicy::NAMES)?;
            Ok(())
        },
        get: |s| s.maxmemory_policy.name().into(),
    },
    OptionRow {
        name: "maxmemory-samples",
        config_name: "maxmemory-samples",
        group: Group::Storage,
        value_name: "N",
        default: "5",
        help: "Keys to look at for each that is evicted, 1 to 64: more choose better and slower",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.maxmemory_samples = integer(text, 1, 64)?;
            Ok(())
        },
        get: |s| s.maxmemory_samples.to_string(),
    },
    OptionRow {
        name: "durability",
        config_name: "durability",
        group: Group::Storage,
        value_name: "WHEN",
        default: "always",
        help: "always: a write is answered when the medium has it. everysec: on files, answered \
               from the page cache and synced each second, so power loss may take the last second",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.durability = one_of(
                text,
                &[("always", Durability::Always), ("everysec", Durability::EverySec)],
            )?;
            Ok(())
        },
        get: |s| s.durability.name().into(),
    },
    OptionRow {
        name: "epoch-ms",
        config_name: "epoch-ms",
        group: Group::Storage,
        value_name: "MS",
        default: "auto",
        help: "Milliseconds between commits of the pool in the background, which bound what a \
               restart replays. `auto` is 100 on memory, and on files eight times what the commit \
               before took, 100 at least and 1000 at most",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.epoch_ms = match text {
                "auto" => None,
                text => Some(integer(text, 1, 60_000)?),
            };
            Ok(())
        },
        get: |s| s.epoch_ms.map_or_else(|| "auto".into(), |ms| ms.to_string()),
    },
    OptionRow {
        name: "epoch-ops",
        config_name: "epoch-ops",
        group: Group::Storage,
        value_name: "N",
        default: "auto",
        help: "Commit sooner after so many write operations: a restart replays at most about twice \
               as many, so more make writes cheaper and a restart slower. `auto` is what replays in \
               some 35 ms on memory, fewer the larger the pool, and 200000 on files",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.epoch_ops = match text {
                "auto" => None,
                text => Some(integer(text, 100, 100_000_000)?),
            };
            Ok(())
        },
        get: |s| s.epoch_ops.map_or_else(|| "auto".into(), |ops| ops.to_string()),
    },
    OptionRow {
        name: "scrub-rate",
        config_name: "scrub-rate",
        group: Group::Storage,
        value_name: "MIB",
        default: "200",
        help: "MiB a second at which the pool is read and checked after a start, in the background; \
               later passes take twenty times as long. Until the first is through, whatever a read \
               or write meets is checked. 0 never scrubs, and always checks",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.scrub_mib = integer(text, 0, 100_000)?;
            Ok(())
        },
        get: |s| s.scrub_mib.to_string(),
    },
    OptionRow {
        name: "databases",
        config_name: "databases",
        group: Group::Storage,
        value_name: "N",
        default: "16",
        help: "Number of databases that SELECT reaches, 1 to 16",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.databases = integer(text, 1, 16)?;
            Ok(())
        },
        get: |s| s.databases.to_string(),
    },
    OptionRow {
        name: "bind",
        config_name: "bind",
        group: Group::Network,
        value_name: "ADDRESS",
        default: "127.0.0.1",
        help: "Address to listen on; may be given several times. 0.0.0.0 and :: are all of this \
               machine's",
        change: Change::AtStart,
        several: true,
        set: |s, text| {
            s.bind = addresses(text)?;
            Ok(())
        },
        get: |s| s.bind.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    },
    OptionRow {
        name: "port",
        config_name: "port",
        group: Group::Network,
        value_name: "PORT",
        default: "6379",
        help: "TCP port of the Redis protocol; 0 lets the system choose one, which the ready line tells",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.port = integer(text, 0, 65535)?;
            Ok(())
        },
        get: |s| s.port.to_string(),
    },
    OptionRow {
        name: "maxclients",
        config_name: "maxclients",
        group: Group::Network,
        value_name: "N",
        default: "10000",
        help: "Connections served at once; more are told so and closed",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.maxclients = integer(text, 1, u32::MAX.into())?;
            Ok(())
        },
        get: |s| s.maxclients.to_string(),
    },
    OptionRow {
        name: "io-threads",
        config_name: "io-threads",
        group: Group::Network,
        value_name: "N",
        default: "auto",
        help: "Threads that serve connections and run commands. `auto` is one a core",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.io_threads = match text {
                "auto" => host::cores(),
                text => integer(text, 1, 512)?,
            };
            Ok(())
        },
        get: |s| s.io_threads.to_string(),
    },
    OptionRow {
        name: "timeout",
        config_name: "timeout",
        group: Group::Network,
        value_name: "SECONDS",
        default: "0",
        help: "Close a connection that was idle for so long; 0 never does",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.timeout_seconds = integer(text, 0, i32::MAX as u64)?;
            Ok(())
        },
        get: |s| s.timeout_seconds.to_string(),
    },
    OptionRow {
        name: "tcp-keepalive",
        config_name: "tcp-keepalive",
        group: Group::Network,
        value_name: "SECONDS",
        default: "300",
        help: "Probe a silent peer after so long; 0 never does",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.tcp_keepalive_seconds = integer(text, 0, i32::MAX as u64)?;
            Ok(())
        },
        get: |s| s.tcp_keepalive_seconds.to_string(),
    },
    OptionRow {
        name: "tcp-backlog",
        config_name: "tcp-backlog",
        group: Group::Network,
        value_name: "N",
        default: "511",
        help: "Connections the kernel may hold until they are accepted",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.tcp_backlog = integer(text, 1, i32::MAX as u64)?;
            Ok(())
        },
        get: |s| s.tcp_backlog.to_string(),
    },
    OptionRow {
        name: "join",
        config_name: "join",
        group: Group::Cluster,
        value_name: "HOST:PORT",
        default: "",
        help: "Peer addresses of a cluster, with commas between them or given several times; this \
               node's own may be among them. Without it a node is alone",
        change: Change::AtStart,
        several: true,
        set: |s, text| {
            s.join = peer_addresses(text)?;
            Ok(())
        },
        get: |s| s.join.join(","),
    },
    OptionRow {
        name: "expect",
        config_name: "expect",
        group: Group::Cluster,
        value_name: "N",
        default: "0",
        help: "A new cluster is born when so many nodes have found each other by --join; all of them \
               say the same number. 0: only join one that exists",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.expect = integer(text, 0, 64)?;
            Ok(())
        },
        get: |s| s.expect.to_string(),
    },
    OptionRow {
        name: "advertise",
        config_name: "advertise",
        group: Group::Cluster,
        value_name: "HOST[:PORT]",
        default: "",
        help: "Where peers reach this node: a name or address that all of them can resolve. Empty: \
               the first address of --bind; without a port: --peer-port",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.advertise = text.to_owned();
            Ok(())
        },
        get: |s| s.advertise.clone(),
    },
    OptionRow {
        name: "peer-port",
        config_name: "peer-port",
        group: Group::Cluster,
        value_name: "PORT",
        default: "0",
        help: "UDP port for peers; 0 is --port + 10000. Keep that distance: ROLE and INFO tell clients \
               the peer port less 10000",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.peer_port = integer(text, 0, 65535)?;
            Ok(())
        },
        get: |s| s.peer_port.to_string(),
    },
    OptionRow {
        name: "reads",
        config_name: "reads",
        group: Group::Cluster,
        value_name: "HOW",
        default: "lease",
        help: "lease: a leader answers reads by itself for as long as no other can have been elected, \
               by its clock. index: it asks a majority first, each time, and trusts no clock",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.reads = one_of(text, &[("lease", Reads::Lease), ("index", Reads::Index)])?;
            Ok(())
        },
        get: |s| s.reads.name().into(),
    },
    OptionRow {
        name: "peer-rtt-ms",
        config_name: "peer-rtt-ms",
        group: Group::Cluster,
        value_name: "MS",
        default: "100",
        help: "The longest round trip between two nodes, in milliseconds; the same on all of them. Above \
               100 they wait longer for each other before they elect another leader, so that nodes far \
               apart stay with the one they have",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.peer_rtt_ms = integer(text, 1, 5000)?;
            Ok(())
        },
        get: |s| s.peer_rtt_ms.to_string(),
    },
    OptionRow {
        name: "log-keep",
        config_name: "repl-backlog-size",
        group: Group::Cluster,
        value_name: "BYTES",
        default: "128mb",
        help: "Entries that the log keeps for nodes that were away (more of them while a pool is on its \
               way to one, up to the size of that or eight times this); one that was away for longer gets \
               the whole pool",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.log_keep_bytes = memory_value(text)?;
            Ok(())
        },
        get: |s| s.log_keep_bytes.to_string(),
    },
    OptionRow {
        name: "cluster-secret",
        config_name: "cluster-secret",
        group: Group::Cluster,
        value_name: "SECRET",
        default: "",
        help: "What all nodes of a cluster share, and nobody else: 128 random bits at least, such as \
               `openssl rand -hex 32` prints. Two with a comma between them are both valid, the \
               first is used. Prefer the environment or the file: flags show in the process list",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.cluster_secret = text.to_owned();
            Ok(())
        },
        get: |s| if s.cluster_secret.is_empty() { "" } else { "(hidden)" }.into(),
    },
    OptionRow {
        name: "peer-ca",
        config_name: "peer-ca",
        group: Group::Cluster,
        value_name: "FILE",
        default: "",
        help: "PEM file with the authorities whose certificates peers may have, instead of a cluster \
               secret; with --peer-cert and --peer-key",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.peer_ca = path_or_none(text);
            Ok(())
        },
        get: |s| path_text(s.peer_ca.as_deref()),
    },
    OptionRow {
        name: "peer-cert",
        config_name: "peer-cert",
        group: Group::Cluster,
        value_name: "FILE",
        default: "",
        help: "PEM file with this node's certificate for peers, for both sides of TLS, and what leads \
               to an authority. Its one DNS name node-N.cairn is the node's id: a number that no \
               other node has or had",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.peer_cert = path_or_none(text);
            Ok(())
        },
        get: |s| path_text(s.peer_cert.as_deref()),
    },
    OptionRow {
        name: "peer-key",
        config_name: "peer-key",
        group: Group::Cluster,
        value_name: "FILE",
        default: "",
        help: "PEM file with the key of --peer-cert",
        change: Change::AtStart,
        several: false,
        set: |s, text| {
            s.peer_key = path_or_none(text);
            Ok(())
        },
        get: |s| path_text(s.peer_key.as_deref()),
    },
    OptionRow {
        name: "requirepass",
        config_name: "requirepass",
        group: Group::Security,
        value_name: "PASSWORD",
        default: "",
        help: "Password that clients must AUTH with; empty asks for none. Prefer the environment or \
               the file: flags show in the process list",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.requirepass = text.to_owned();
            Ok(())
        },
        get: |s| s.requirepass.clone(),
    },
    OptionRow {
        name: "protected-mode",
        config_name: "protected-mode",
        group: Group::Security,
        value_name: "yes|no",
        default: "yes",
        help: "While no password is set, refuse clients that do not come from this machine",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.protected_mode = yes_no(text)?;
            Ok(())
        },
        get: |s| if s.protected_mode { "yes" } else { "no" }.into(),
    },
    OptionRow {
        name: "client-query-buffer-limit",
        config_name: "client-query-buffer-limit",
        group: Group::Limits,
        value_name: "BYTES",
        default: "1gb",
        help: "Bytes of a request that may have arrived incomplete before the client is closed",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.query_buffer_limit = at_least(memory_value(text)?, 1 << 20)?;
            Ok(())
        },
        get: |s| s.query_buffer_limit.to_string(),
    },
    OptionRow {
        name: "client-output-buffer-limit",
        config_name: "client-output-buffer-limit",
        group: Group::Limits,
        value_name: "\"normal HARD SOFT SECONDS\"",
        default: "normal 0 0 0",
        help: "Bytes of replies that may wait for a client before it is closed: at once above HARD, \
               after SECONDS above SOFT; 0 is no limit",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.output_limit = output_limit(text)?;
            Ok(())
        },
        get: |s| {
            let limit = s.output_limit;
            format!("normal {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        },
    },
    OptionRow {
        name: "output-stall-timeout",
        config_name: "output-stall-timeout",
        group: Group::Limits,
        value_name: "SECONDS",
        default: "60",
        help: "Close a client that has taken nothing of its waiting replies for so long; 0 never does",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.output_stall_seconds = integer(text, 0, i32::MAX as u64)?;
            Ok(())
        },
        get: |s| s.output_stall_seconds.to_string(),
    },
    OptionRow {
        name: "proto-max-bulk-len",
        config_name: "proto-max-bulk-len",
        group: Group::Limits,
        value_name: "BYTES",
        default: "512mb",
        help: "Longest single argument of a request, 1mb to 512mb",
        change: Change::Live,
        several: false,
        set: |s, text| {
            let bytes = at_least(memory_value(text)?, 1 << 20)?;
            // A value of the store is 512 MiB at most, so a longer argument could never be kept.
            if bytes > 512 << 20 {
                return Err("argument must be at most 536870912".into());
            }
            s.proto_max_bulk_len = bytes;
            Ok(())
        },
        get: |s| s.proto_max_bulk_len.to_string(),
    },
    OptionRow {
        name: "log-level",
        config_name: "loglevel",
        group: Group::Observability,
        value_name: "LEVEL",
        default: "notice",
        help: "What is logged to standard error: debug, verbose, notice, warning or nothing",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.log_level = one_of(text, &LogLevel::NAMES)?;
            Ok(())
        },
        get: |s| {
            let named = LogLevel::NAMES.iter().find(|(_, level)| *level == s.log_level);
            named.map_or("notice", |(name, _)| name).into()
        },
    },
    OptionRow {
        name: "slowlog-log-slower-than",
        config_name: "slowlog-log-slower-than",
        group: Group::Observability,
        value_name: "US",
        default: "10000",
        help: "Keep commands slower than so many microseconds for SLOWLOG; 0 keeps all, -1 none",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.slowlog_slower_than_us = match text {
                "-1" => -1,
                text => integer(text, 0, i64::MAX as u64)?,
            };
            Ok(())
        },
        get: |s| s.slowlog_slower_than_us.to_string(),
    },
    OptionRow {
        name: "slowlog-max-len",
        config_name: "slowlog-max-len",
        group: Group::Observability,
        value_name: "N",
        default: "128",
        help: "Entries that SLOWLOG keeps, at most 100000",
        change: Change::Live,
        several: false,
        set: |s, text| {
            s.slowlog_max_len = integer(text, 0, 100_000)?;
            Ok(())
        },
        get: |s| s.slowlog_max_len.to_string(),
    },
];

fn integer<T: TryFrom<u64>>(text: &str, low: u64, high: u64) -> Result<T, String> {
    let number: i128 =
        text.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
    let range = || format!("argument must be between {low} and {high} inclusive");
    if number < low.into() || number > high.into() {
        return Err(range());
    }
    u64::try_from(number).ok().and_then(|n| T::try_from(n).ok()).ok_or_else(range)
}

fn memory_value(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| "argument must be a memory value".to_owned())
}

fn at_least(bytes: u64, low: u64) -> Result<u64, String> {
    if bytes >= low {
        return Ok(bytes);
    }
    Err(format!("argument must be between {low} and {} inclusive", i64::MAX))
}

fn path_or_none(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty())
}

fn path_text(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn yes_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".into()),
    }
}

fn one_of<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, String> {
    let named = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("argument(s) must be one of the following: {}", all.join(", "))
    })
}

fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut all = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        let refused = || format!("'{word}' is not an address of this machine");
        let host = match word {
            "*" => "0.0.0.0",
            word => word.strip_prefix('-').unwrap_or(word),
        };
        let found = (host, 0u16).to_socket_addrs().map_err(|_| refused())?;
        let ip = found.map(|address| address.ip()).next().ok_or_else(refused)?;
        if !all.contains(&ip) {
            all.push(ip);
        }
    }
    if all.is_empty() { Err("argument must name at least one address".into()) } else { Ok(all) }
}

fn output_limit(text: &str) -> Result<OutputLimit, String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    // redis.conf names three classes; of those a lone node has only the first.
    for class in words.chunks(4) {
        if let ["normal", hard, soft, seconds] = class {
            return Ok(OutputLimit {
                hard_bytes: memory_value(hard)?,
                soft_bytes: memory_value(soft)?,
                soft_seconds: integer(seconds, 0, i32::MAX as u64)?,
            });
        }
        if !matches!(class, ["slave" | "replica" | "pubsub", _, _, _]) {
            return Err("argument must be 'normal <hard> <soft> <seconds>'".into());
        }
    }
    Err("only the class 'normal' exists yet".into())
}

/// Addresses with commas or blanks between them, each HOST:PORT.
fn peer_addresses(text: &str) -> Result<Vec<String>, String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let address = |word: &str| match word.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => {
            Ok(word.to_owned())
        }
        _ => Err("argument must be HOST:PORT".to_owned()),
    };
    words.map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_default_parses_and_every_name_is_unique() {
        let mut settings = Settings::defaults();
        let mut names = HashSet::new();
        for row in OPTIONS {
            assert_eq!((row.set)(&mut settings, row.default), Ok(()), "--{}", row.name);
            assert!(names.insert(row.name), "--{} twice", row.name);
            assert!(!row.help.is_empty());
        }
    }

    #[test]
    fn a_live_option_reads_back_what_it_prints() {
        for row in OPTIONS.iter().filter(|row| row.change == Change::Live) {
            let mut settings = Settings::defaults();
            let printed = (row.get)(&settings);
            assert_eq!((row.set)(&mut settings, &printed), Ok(()), "{printed:?}");
            assert_eq!(settings, Settings::defaults(), "--{}", row.name);
        }
    }

    #[test]
    fn refuses_what_redis_refuses_in_its_words() {
        for (name, text, phrase) in [
            ("port", "x", "argument couldn't be parsed into an integer"),
            ("port", "65536", "argument must be between 0 and 65535 inclusive"),
            ("port", "-1", "argument must be between 0 and 65535 inclusive"),
            ("databases", "17", "argument must be between 1 and 16 inclusive"),
            ("memory", "lots", "argument must be a memory value"),
            ("protected-mode", "maybe", "argument must be 'yes' or 'no'"),
            ("durability", "never", "argument(s) must be one of the following: always, everysec"),
            (
                "maxmemory-policy",
                "lru",
                "argument(s) must be one of the following: volatile-lru, volatile-lfu, \
                 volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, \
                 noeviction",
            ),
            ("bind", "", "argument must name at least one address"),
        ] {
            let row = OPTIONS.iter().find(|row| row.name == name).expect("a row");
            let refusal = (row.set)(&mut Settings::defaults(), text);
            assert_eq!(refusal, Err(phrase.to_owned()), "--{name} {text:?}");
        }
    }

    #[test]
    fn output_limits_take_redis_conf_lines() {
        let wanted = OutputLimit { hard_bytes: 1 << 20, soft_bytes: 1000, soft_seconds: 5 };
        assert_eq!(output_limit("normal 1mb 1k 5"), Ok(wanted));
        assert_eq!(output_limit("pubsub 1 2 3 normal 1mb 1k 5"), Ok(wanted));
        assert!(output_limit("normal 1mb").is_err());
        assert!(output_limit("replica 1 1 1").is_err());
        assert!(output_limit("").is_err());
    }
}
