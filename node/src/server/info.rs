//! INFO: gathered once into [`Snapshot`], then rendered without looking at anything else.
//!
//! Fields that Redis has keep Redis's names and are only printed where they say something true of
//! Cairn; what only Cairn has stands in the section `Cairn`.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use cairn_protocol::cluster::envelope;
use cairn_protocol::command::TABLE;
use cairn_store::media::Dax;
use cairn_store::{Db, Evacuated};

use super::Shared;
use crate::ops::metrics::{CommandTotals, Counter, Instantaneous, Totals};
use crate::ops::units::human_bytes;
use crate::ops::{clock, host};
use crate::raft::{GroupMember, GroupStatus, Role};
use crate::transport::{Class, LinkState, PeerStatus, RefusedCounts};

/// The version of Redis whose replies are given.
pub const REDIS_VERSION: &str = "7.2.4";

/// Content from which on it is told how much of the pool it takes.
const RATIO_FROM_BYTES: u64 = 1 << 20;

/// Keys of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// All of them.
    pub keys: u64,
    /// Those with a deadline.
    pub expires: u64,
}

/// Everything that INFO tells.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // Named as the fields they end up in.
pub struct Snapshot {
    pub run_id: String,
    pub replication_id: String,
    pub os: String,
    pub executable: String,
    pub config_file: String,
    pub dir: String,
    pub process_id: u32,
    pub tcp_port: u16,
    pub server_time_usec: u64,
    pub uptime_seconds: u64,
    pub io_threads: usize,
    pub connected_clients: u64,
    pub maxclients: u64,
    pub watching_clients: u64,
    /// Clients of other nodes that watch keys here.
    pub watching_clients_of_peers: u64,
    pub watched_keys: u64,
    pub used_memory: u64,
    pub used_memory_rss: u64,
    pub anonymous_bytes: u64,
    pub system_memory: u64,
    pub maxmemory: u64,
    pub maxmemory_policy: &'static str,
    pub keyspace: Vec<Keys>,
    pub totals: Totals,
    pub rates: Instantaneous,
    pub cpu: (f64, f64),
    pub medium: &'static str,
    pub log_medium: &'static str,
    pub dax: Option<Dax>,
    pub durability: &'static str,
    pub epoch: u64,
    pub committed_epoch: u64,
    pub lazyfree: bool,
    pub applied_term: u64,
    pub applied_index: u64,
    pub clock_ms: u64,
    pub pool_bytes: u64,
    pub dead_bytes: u64,
    pub leaked_pieces: u64,
    pub snapshots: u64,
    pub snapshots_kept_bytes: u64,
    pub pool_used_bytes: u64,
    pub evacuating: bool,
    pub evacuated: Evacuated,
    pub committed_index: u64,
    pub commits: u64,
    pub commit_us_last: u64,
    pub commit_us_max: u64,
    pub scrub_passes: u64,
    pub scrub_extents: [u64; 2],
    pub scrub_damaged: u64,
    pub scrub_damaged_at: u64,
    pub scrub_trusted: bool,
    pub recovered_entries: u64,
    pub recovered_scanned_bytes: u64,
    pub recovered_epoch: u64,
    pub ready_us: u64,
    pub stopped: String,
    pub role: Role,
    pub raft: GroupStatus,
    /// It is one of its group, as far as it knows.
    pub is_member: bool,
    pub members: Vec<GroupMember>,
    pub peers: Vec<PeerStatus>,
    pub peers_refused: RefusedCounts,
}

/// Asks everyone.
pub fn gather(shared: &Shared) -> Snapshot {
    let settings = shared.config.get();
    let identity = &shared.identity;
    let mut snapshot = Snapshot {
        run_id: identity.run_id.clone(),
        replication_id: identity.replication_id.clone(),
        os: host::os(),
        executable: executable(),
        config_file: settings
            .config_file
            .as_ref()
            .map_or_else(String::new, |path| path.display().to_string()),
        dir: identity.dir.display().to_string(),
        process_id: std::process::id(),
        tcp_port: identity.port,
        server_time_usec: clock::wall_us(),
        uptime_seconds: identity.started.elapsed().as_secs(),
        io_threads: settings.io_threads,
        connected_clients: shared.clients.len() as u64,
        maxclients: settings.maxclients,
        watching_clients: shared.clients.watching(),
        watching_clients_of_peers: shared.group.watched_from_elsewhere() as u64,
        used_memory_rss: host::resident_bytes(),
        anonymous_bytes: host::anonymous_bytes(),
        system_memory: host::memory_bytes().unwrap_or(0),
        maxmemory_policy: settings.maxmemory_policy.name(),
        totals: shared.metrics.totals(),
        rates: shared.metrics.instantaneous(),
        cpu: host::cpu_seconds(),
        medium: identity.medium,
        log_medium: identity.log_medium,
        dax: identity.dax,
        durability: identity.durability,
        recovered_entries: identity.found.replayed_entries,
        recovered_scanned_bytes: identity.found.scanned_bytes,
        recovered_epoch: identity.found.epoch,
        ready_us: identity.ready_us,
        stopped: shared.group.stop_reason().map(ToString::to_string).unwrap_or_default(),
        role: shared.group.role(),
        raft: shared.group.status(),
        is_member: shared.group.is_member(),
        members: shared.group.members(),
        peers: shared.peers.as_ref().map_or_else(Vec::new, |peers| peers.peers()),
        peers_refused: shared.peers.as_ref().map(|peers| peers.refused()).unwrap_or_default(),
        ..Snapshot::default()
    };
    let commits = &shared.commits;
    snapshot.committed_index = commits.applied_index.load(Ordering::Relaxed);
    snapshot.commits = commits.count.load(Ordering::Relaxed);
    snapshot.commit_us_last = commits.last_us.load(Ordering::Relaxed);
    snapshot.commit_us_max = commits.max_us.load(Ordering::Relaxed);
    snapshot.evacuating = commits.evacuating.load(Ordering::Relaxed);
    snapshot.evacuated = *commits.evacuated.lock();
    let scrubbing = &shared.scrubbing;
    snapshot.scrub_passes = scrubbing.passes.load(Ordering::Relaxed);
    snapshot.scrub_extents =
        [&scrubbing.extents_done, &scrubbing.extents].map(|n| n.load(Ordering::Relaxed));
    snapshot.scrub_damaged = scrubbing.damaged.load(Ordering::Relaxed);
    snapshot.scrub_damaged_at = scrubbing.first_damaged_at.load(Ordering::Relaxed);
    snapshot.scrub_trusted = scrubbing.trusted.load(Ordering::Relaxed);
    from_store(shared, settings.databases, &mut snapshot);
    snapshot
}

fn from_store(shared: &Shared, databases: u16, snapshot: &mut Snapshot) {
    let engine = shared.group.read();
    let store = engine.store();
    let usage = store.usage();
    snapshot.used_memory = usage.live_bytes;
    snapshot.dead_bytes = usage.dead_bytes;
    snapshot.leaked_pieces = store.leaked().pieces;
    snapshot.snapshots_kept_bytes = usage.kept_bytes;
    // A damaged catalogue is told by CAIRN.SNAPSHOT LIST; INFO has no place for an error.
    snapshot.snapshots = store.snapshots().map_or(0, |snapshots| snapshots.len() as u64);
    snapshot.pool_bytes = usage.extents_bytes;
    snapshot.pool_used_bytes = usage.used_bytes;
    snapshot.maxmemory = store.limit_bytes();
    snapshot.epoch = store.epoch().0;
    snapshot.committed_epoch = store.committed_epoch().0;
    snapshot.lazyfree = store.has_dropped();
    snapshot.watched_keys = engine.watches().len() as u64;
    snapshot.keyspace = (0..databases)
        .map(|db| Keys { keys: store.len(Db(db)), expires: store.expires(Db(db)) })
        .collect();
    let (term, index) = store.applied();
    (snapshot.applied_term, snapshot.applied_index) = (term.0, index.0);
    snapshot.clock_ms = store.clock_ms();
}

fn executable() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}

/// A section: its name and how its lines are written.
type Section = (&'static str, fn(&Snapshot, &mut Lines));

/// In the order of Redis, ours last.
const SECTIONS: &[Section] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Modules", |_, _| {}),
    ("Commandstats", commandstats),
    ("Errorstats", errorstats),
    ("Latencystats", |_, _| {}),
    ("Cluster", |_, lines| lines.field("cluster_enabled", 0)),
    ("Keyspace", keyspace),
    ("Cairn", cairn),
];

/// Sections that INFO leaves out unless they, `all` or `everything` are asked for.
const ON_DEMAND: [&str; 2] = ["Commandstats", "Latencystats"];

/// The text of INFO for `sections`, given in lower case; none means the default ones.
pub fn render(snapshot: &Snapshot, sections: &[String]) -> String {
    let mut lines = Lines(String::with_capacity(4096));
    for (name, write) in SECTIONS {
        if !is_wanted(name, sections) {
            continue;
        }
        if !lines.0.is_empty() {
            lines.0.push_str("\r\n");
        }
        let _ = write!(lines.0, "# {name}\r\n"); // A String takes everything.
        write(snapshot, &mut lines);
    }
    lines.0
}

fn is_wanted(name: &str, sections: &[String]) -> bool {
    let by_default = !ON_DEMAND.contains(&name);
    sections.is_empty() && by_default
        || sections.iter().any(|section| match section.as_str() {
            "default" => by_default,
            "all" | "everything" => true,
            section => section.eq_ignore_ascii_case(name),
        })
}

/// Text of `name:value` lines.
struct Lines(String);

impl Lines {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}:{value}\r\n"); // A String takes everything.
    }

    fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(&format!("{name}_human"), human_bytes(bytes));
    }
}

fn server(s: &Snapshot, lines: &mut Lines) {
    lines.field("redis_version", REDIS_VERSION);
    lines.field("redis_git_sha1", "00000000");
    lines.field("redis_git_dirty", 0);
    lines.field("redis_mode", "standalone");
    lines.field("os", &s.os);
    lines.field("arch_bits", usize::BITS);
    lines.field("monotonic_clock", "POSIX clock_gettime");
    lines.field("multiplexing_api", "epoll");
    lines.field("process_id", s.process_id);
    lines.field("process_supervised", "no");
    lines.field("run_id", &s.run_id);
    lines.field("tcp_port", s.tcp_port);
    lines.field("server_time_usec", s.server_time_usec);
    lines.field("uptime_in_seconds", s.uptime_seconds);
    lines.field("uptime_in_days", s.uptime_seconds / 86_400);
    lines.field("hz", 10);
    lines.field("configured_hz", 10);
    lines.field("executable", &s.executable);
    lines.field("config_file", &s.config_file);
    lines.field("io_threads_active", u8::from(s.io_threads > 1));
}

fn clients(s: &Snapshot, lines: &mut Lines) {
    lines.field("connected_clients", s.connected_clients);
    lines.field("cluster_connections", 0);
    lines.field("maxclients", s.maxclients);
    lines.field("blocked_clients", 0);
    lines.field("tracking_clients", 0);
    lines.field("watching_clients", s.watching_clients);
    lines.field("watching_clients_of_peers", s.watching_clients_of_peers);
    lines.field("total_watched_keys", s.watched_keys);
}

fn memory(s: &Snapshot, lines: &mut Lines) {
    lines.bytes("used_memory", s.used_memory);
    lines.bytes("used_memory_rss", s.used_memory_rss);
    lines.field("used_memory_dataset", s.used_memory);
    lines.bytes("total_system_memory", s.system_memory);
    lines.bytes("maxmemory", s.maxmemory);
    lines.field("maxmemory_policy", s.maxmemory_policy);
    // The pool's bytes against those of its content; of next to nothing it would say nothing.
    if s.used_memory >= RATIO_FROM_BYTES {
        let ratio = s.pool_used_bytes as f64 / s.used_memory as f64;
        lines.field("mem_fragmentation_ratio", format_args!("{ratio:.2}"));
    }
    lines.field("mem_allocator", "cairn-pool");
    lines.field("active_defrag_running", u8::from(s.evacuating));
    lines.field("lazyfree_pending_objects", u8::from(s.lazyfree));
}

fn persistence(s: &Snapshot, lines: &mut Lines) {
    lines.field("loading", 0);
    lines.field("async_loading", 0);
    lines.field("rdb_changes_since_last_save", s.applied_index.saturating_sub(s.committed_index));
    lines.field("rdb_bgsave_in_progress", 0);
    lines.field("rdb_last_bgsave_status", "ok");
    lines.field("aof_enabled", 1);
    lines.field("aof_rewrite_in_progress", 0);
    lines.field("aof_last_bgrewrite_status", "ok");
    lines.field("aof_last_write_status", if s.stopped.is_empty() { "ok" } else { "err" });
}

fn stats(s: &Snapshot, lines: &mut Lines) {
    use Counter as C;
    let count = |lines: &mut Lines, counter: Counter| {
        lines.field(counter.name(), s.totals.get(counter));
    };
    count(lines, C::total_connections_received);
    count(lines, C::total_commands_processed);
    lines.field("instantaneous_ops_per_sec", s.rates.ops);
    count(lines, C::total_net_input_bytes);
    count(lines, C::total_net_output_bytes);
    lines.field("instantaneous_input_kbps", format_args!("{:.2}", s.rates.input_kbps));
    lines.field("instantaneous_output_kbps", format_args!("{:.2}", s.rates.output_kbps));
    count(lines, C::rejected_connections);
    lines.field("sync_full", 0);
    lines.field("sync_partial_ok", 0);
    lines.field("sync_partial_err", 0);
    count(lines, C::expired_keys);
    count(lines, C::evicted_keys);
    count(lines, C::keyspace_hits);
    count(lines, C::keyspace_misses);
    lines.field("pubsub_channels", 0);
    lines.field("pubsub_patterns", 0);
    lines.field("latest_fork_usec", 0);
    lines.field("total_forks", 0);
    lines.field("tracking_total_keys", 0);
    count(lines, C::total_error_replies);
    count(lines, C::total_reads_processed);
    count(lines, C::total_writes_processed);
    count(lines, C::client_query_buffer_limit_disconnections);
    count(lines, C::client_output_buffer_limit_disconnections);
    count(lines, C::acl_access_denied_auth);
}

fn replication(s: &Snapshot, lines: &mut Lines) {
    let others: Vec<&GroupMember> = s.members.iter().filter(|m| m.node != s.raft.node).collect();
    match &s.role {
        Role::Leader => {
            lines.field("role", "master");
            let there = others.iter().filter(|member| member.is_there());
            lines.field("connected_slaves", there.count());
            for (number, member) in others.iter().enumerate() {
                let (host, port) = client_address(&member.address);
                let offset = member.matched.map_or(0, |index| index.0);
                let lag = s.raft.last.map_or(0, |last| last.0.saturating_sub(offset));
                let state = match (member.is_there(), member.matched) {
                    (false, _) => "offline",
                    (true, Some(_)) => "online",
                    (true, None) => "wait_bgsave",
                };
                let text =
                    format_args!("ip={host},port={port},state={state},offset={offset},lag={lag}")
                        .to_string();
                lines.field(&format!("slave{number}"), text);
            }
        }
        Role::Follower(leader) => {
            let leader = others.iter().find(|member| Some(member.node) == *leader);
            let (host, port) =
                leader.map_or_else(Default::default, |leader| client_address(&leader.address));
            lines.field("role", "slave");
            lines.field("master_host", host);
            lines.field("master_port", port);
            let is_up = leader.is_some() && s.raft.hears_leader() && s.is_member;
            lines.field("master_link_status", if is_up { "up" } else { "down" });
            let seconds = s.raft.heard_ms.map_or(-1, |ms| number(ms / 1000));
            lines.field("master_last_io_seconds_ago", seconds);
            lines.field("slave_repl_offset", s.applied_index);
            lines.field("slave_read_only", 0);
            lines.field("connected_slaves", 0);
        }
    }
    lines.field("master_failover_state", "no-failover");
    lines.field("master_replid", &s.replication_id);
    lines.field("master_repl_offset", s.applied_index);
    lines.field("second_repl_offset", -1);
    lines.field("repl_backlog_active", 0);
    lines.field("raft_node", s.raft.node);
    lines.field("raft_term", s.raft.term.0);
    lines.field("raft_members", s.members.len());
    lines.field("raft_lease_ms", s.raft.lease_ms);
    // One that was taken out hears of nothing any more.
    lines.field("raft_member", u8::from(s.is_member));
    lines.field("stale_ms", s.raft.stale_ms.map_or(-1, number));
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Host and port for clients of the node whose peers reach it at `address`: the ports are 10000
/// apart unless they were given.
pub fn client_address(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = port.parse::<u16>().unwrap_or_default();
    (host.to_owned(), port.checked_sub(10_000).unwrap_or(port))
}

fn cpu(s: &Snapshot, lines: &mut Lines) {
    lines.field("used_cpu_sys", format_args!("{:.6}", s.cpu.1));
    lines.field("used_cpu_user", format_args!("{:.6}", s.cpu.0));
    lines.field("used_cpu_sys_children", "0.000000");
    lines.field("used_cpu_user_children", "0.000000");
}

fn commandstats(s: &Snapshot, lines: &mut Lines) {
    for (spec, totals) in TABLE.iter().zip(&s.totals.commands) {
        if *totals == CommandTotals::default() {
            continue;
        }
        let CommandTotals { calls, nanos, rejected, failed } = *totals;
        let usec = nanos / 1000;
        let per_call = nanos as f64 / 1000.0 / calls.max(1) as f64;
        lines.field(
            &format!("cmdstat_{}", spec.name),
            format_args!(
                "calls={calls},usec={usec},usec_per_call={per_call:.2},\
                 rejected_calls={rejected},failed_calls={failed}"
            ),
        );
    }
}

fn errorstats(s: &Snapshot, lines: &mut Lines) {
    for (code, count) in &s.totals.errors {
        lines.field(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn keyspace(s: &Snapshot, lines: &mut Lines) {
    for (db, Keys { keys, expires }) in s.keyspace.iter().enumerate() {
        if *keys > 0 {
            let text = format_args!("keys={keys},expires={expires},avg_ttl=0");
            lines.field(&format!("db{db}"), text);
        }
    }
}

fn cairn(s: &Snapshot, lines: &mut Lines) {
    lines.field("cairn_version", env!("CARGO_PKG_VERSION"));
    lines.field("medium", s.medium);
    lines.field("log_medium", s.log_medium);
    if let Some(Dax { map_sync, instruction }) = s.dax {
        lines.field("dax_map_sync", u8::from(map_sync));
        lines.field("dax_write_back", instruction);
    }
    lines.field("durability", s.durability);
    lines.field("dir", &s.dir);
    lines.field("process_anonymous_bytes", s.anonymous_bytes);
    lines.field("epoch", s.epoch);
    lines.field("epoch_committed", s.committed_epoch);
    lines.field("epoch_commits", s.commits);
    lines.field("pool_bytes", s.pool_bytes);
    lines.field("pool_used_bytes", s.pool_used_bytes);
    lines.field("pool_live_bytes", s.used_memory);
    lines.field("pool_dead_bytes", s.dead_bytes);
    lines.field("pool_leaked_pieces", s.leaked_pieces);
    lines.field("snapshots", s.snapshots);
    lines.field("snapshots_kept_bytes", s.snapshots_kept_bytes);
    lines.field("evacuation_running", u8::from(s.evacuating));
    lines.field("evacuation_passes", s.evacuated.passes);
    lines.field("evacuated_blocks", s.evacuated.blocks);
    lines.field("evacuated_bytes", s.evacuated.bytes);
    lines.field("evacuation_damaged_blocks", s.evacuated.damaged);
    lines.field("raft_applied_term", s.applied_term);
    lines.field("raft_applied_index", s.applied_index);
    lines.field("epoch_committed_index", s.committed_index);
    lines.field("shard_clock_ms", s.clock_ms);
    lines.field("epoch_commit_last_usec", s.commit_us_last);
    lines.field("epoch_commit_max_usec", s.commit_us_max);
    let [done, extents] = s.scrub_extents;
    lines.field("scrub_passes", s.scrub_passes);
    lines.field("scrub_progress_percent", (done * 100).checked_div(extents).unwrap_or(100));
    lines.field("scrub_checks_reads", u8::from(!s.scrub_trusted));
    lines.field("scrub_damaged_blocks", s.scrub_damaged);
    lines.field("scrub_first_damaged_at", s.scrub_damaged_at);
    lines.field("recovered_epoch", s.recovered_epoch);
    lines.field("recovered_log_entries", s.recovered_entries);
    lines.field("recovered_log_bytes_scanned", s.recovered_scanned_bytes);
    lines.field("ready_usec", s.ready_us);
    let Totals { read_holds, write_holds, read_hold_max, write_hold_max, .. } = &s.totals;
    for (name, holds, max) in
        [("read", read_holds, read_hold_max), ("write", write_holds, write_hold_max)]
    {
        for (suffix, permille) in [("p50", 500), ("p99", 990), ("p999", 999)] {
            let under = Totals::hold_quantile(holds, permille).min(*max);
            lines.field(&format!("{name}_lock_hold_nsec_{suffix}"), under);
        }
        lines.field(&format!("{name}_lock_hold_nsec_max"), max);
    }
    lines.field("stopped", &s.stopped);
    peers(s, lines);
}

/// What this node speaks to others, who they are, and what was turned away.
fn peers(s: &Snapshot, lines: &mut Lines) {
    lines.field("wire_version", envelope::VERSION);
    lines.field("wire_features", format_args!("{:#x}", envelope::FEATURES));
    let RefusedCounts { handshakes, certificates, versions, clusters, .. } = s.peers_refused;
    let RefusedCounts { identities, malformed, busy, .. } = s.peers_refused;
    let refused = [
        ("handshakes", handshakes),
        ("certificates", certificates),
        ("versions", versions),
        ("clusters", clusters),
        ("identities", identities),
        ("malformed", malformed),
        ("busy", busy),
    ];
    for (why, count) in refused {
        lines.field(&format!("peers_refused_{why}"), count);
    }
    // Who was taken out may still be known to the transport.
    let is_member = |peer: &&PeerStatus| s.members.iter().any(|member| member.node == peer.node);
    for (at, peer) in s.peers.iter().filter(is_member).enumerate() {
        lines.field(&format!("peer{at}"), peer_text(peer));
    }
}

/// A peer in one line. Why it cannot be reached stands at the end, since it may hold anything.
fn peer_text(peer: &PeerStatus) -> String {
    let mut text = format!("node={},address={}", peer.node, peer.address);
    if let Some(hello) = &peer.hello {
        let (version, features) = (hello.versions.1, hello.features);
        let _ = write!(text, ",wire_version={version},wire_features={features:#x}");
    }
    for (class, link) in Class::ALL.into_iter().zip(&peer.links) {
        let _ = write!(text, ",{}={}", class.name(), link.state.name());
    }
    if let Some(link) = peer.links.iter().find(|link| link.state == LinkState::BackingOff) {
        let _ = write!(text, ",error={}", link.last_error.replace(['\r', '\n'], " "));
    }
    text
}

#[cfg(test)]
mod tests {
    use cairn_protocol::cluster::message::Hello;
    use cairn_protocol::ids::{ClusterId, NodeId};

    use super::*;
    use crate::ops::metrics::Metrics;

    fn snapshot() -> Snapshot {
        let metrics = Metrics::new(TABLE.len());
        let shard = metrics.shard();
        shard.command(0, 2500);
        shard.count(Counter::keyspace_hits, 7);
        metrics.error("WRONGTYPE");
        Snapshot {
            totals: metrics.totals(),
            keyspace: vec![Keys::default(), Keys { keys: 3, expires: 1 }],
            used_memory: 2048,
            role: Role::Leader,
            ..Snapshot::default()
        }
    }

    fn text(sections: &[&str]) -> String {
        let sections: Vec<String> = sections.iter().map(|s| (*s).to_owned()).collect();
        render(&snapshot(), &sections)
    }

    #[test]
    fn the_default_leaves_out_what_redis_leaves_out() {
        let default = text(&[]);
        assert!(default.starts_with("# Server\r\nredis_version:7.2"));
        assert!(default.contains("\r\n\r\n# Keyspace\r\ndb1:keys=3,expires=1,avg_ttl=0\r\n"));
        assert!(default.contains("# Cairn\r\n"));
        assert!(!default.contains("Commandstats"));
        assert!(!default.contains("db0:"), "an empty database has no line");
        assert_eq!(default, text(&["default"]));
    }

    #[test]
    fn sections_are_chosen_by_name() {
        assert_eq!(text(&["keyspace"]), "# Keyspace\r\ndb1:keys=3,expires=1,avg_ttl=0\r\n");
        assert_eq!(text(&["nonsense"]), "");
        let two = text(&["cluster", "errorstats"]);
        assert_eq!(
            two,
            "# Errorstats\r\nerrorstat_WRONGTYPE:count=1\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n"
        );
        let all = text(&["all"]);
        assert!(all.contains(&format!(
            "cmdstat_{}:calls=1,usec=2,usec_per_call=2.50,rejected_calls=0,failed_calls=0\r\n",
            TABLE[0].name
        )));
    }

    #[test]
    fn peers_are_told_with_what_they_speak_and_why_they_cannot_be_reached() {
        let mut peer = PeerStatus {
            node: NodeId(7),
            address: "host:1".into(),
            hello: None,
            links: Default::default(),
        };
        let idle = "replication=idle,heartbeat=idle,snapshot=idle";
        assert_eq!(peer_text(&peer), format!("node=7,address=host:1,{idle}"));
        peer.hello = Some(Hello {
            node: NodeId(7),
            cluster: ClusterId::NONE,
            versions: (1, 2),
            features: 3,
            boot_id: [0; 16],
            class: 0,
            address: String::new(),
        });
        peer.links[0].state = LinkState::Connected;
        peer.links[0].last_error = "long ago".into();
        peer.links[1].state = LinkState::BackingOff;
        peer.links[1].last_error = "nobody,\r\nthere".into();
        let text = "node=7,address=host:1,wire_version=2,wire_features=0x3,replication=connected,\
                    heartbeat=backing-off,snapshot=idle,error=nobody,  there";
        assert_eq!(peer_text(&peer), text);
    }

    #[test]
    fn what_tools_look_for_is_there() {
        let all = text(&["everything"]);
        for field in [
            "used_memory:2048",
            "used_memory_human:2.00K",
            "keyspace_hits:7",
            "expired_keys:0",
            "connected_clients:0",
            "loading:0",
            "total_error_replies:0",
            "role:master",
            "peers_refused_versions:0",
        ] {
            assert!(all.contains(&format!("\r\n{field}\r\n")), "{field}");
        }
    }
}
