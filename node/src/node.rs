//! The composition root: builds the rooms in order, runs them, takes them down in order.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_protocol::command::TABLE;
use cairn_store::layout::pool::capacity_within;
use cairn_store::media::{Dax, Medium, device_bytes, is_device};
use tokio::net::TcpListener;

use crate::cluster::{Met, Peers};
use crate::ops::config::{Config, Durability, MEMORY_MIN, Settings};
use crate::ops::lock_file::LockFile;
use crate::ops::metrics::{Metrics, Shard as Stats};
use crate::ops::signals::Signals;
use crate::ops::telemetry::LogControl;
use crate::ops::{clock, entropy, host, telemetry};
use crate::raft::epoch::{Flusher, Pace};
use crate::raft::leftovers::{self, Leftovers, drop_leftovers};
use crate::raft::place;
use crate::raft::recover::{self, Found};
use crate::raft::runtime::Executor;
use crate::raft::scrub::Scrubber;
use crate::raft::{self, Attendant, Group, Standing, Submission, Way, eviction, expiry};
use crate::server::io_thread::IoThread;
use crate::server::listener::{accept_all, bind};
use crate::server::registry::{Filter, Registry};
use crate::server::slowlog::SlowLog;
use crate::server::stop::{Stop, Why};
use crate::server::{Identity, Shared, cron};

/// How long an orderly stop waits for replies that clients do not take.
const DRAIN: Duration = Duration::from_secs(5);
/// Ticks of the house between two looks for what was staged and is not wanted.
const LEFTOVERS_TICKS: u64 = (leftovers::EVERY.as_millis() / expiry::EVERY.as_millis()) as u64;
/// How long it then waits for what other nodes have forwarded.
const FORWARDS: Duration = Duration::from_secs(2);
/// Descriptors the node needs beside those of its clients.
const OWN_FILES: u64 = 128;

/// Why a node does not serve.
#[derive(Debug)]
pub enum NotStarted {
    /// A text that says what is wrong, where, and what to do.
    Failed(String),
    /// A signal of this name came while it waited for its cluster.
    Stopped(&'static str),
}

impl From<String> for NotStarted {
    fn from(why: String) -> NotStarted {
        NotStarted::Failed(why)
    }
}

impl std::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotStarted::Failed(why) => f.write_str(why),
            NotStarted::Stopped(signal) => write!(f, "{signal} while waiting for the cluster"),
        }
    }
}

/// A node that serves.
pub struct Node {
    shared: Arc<Shared>,
    threads: Arc<Vec<IoThread>>,
    flusher: Flusher,
    attendant: Attendant,
    peers: Option<Peers>,
    scrubber: Scrubber,
    listeners: Vec<std::net::TcpListener>,
    addresses: Vec<SocketAddr>,
    stats: Arc<Stats>,
    ready: String,
    capacity_bytes: u64,
    /// `--memory` was given, not chosen here.
    memory_given: bool,
    /// Heard since it waited for a cluster.
    signals: Option<Signals>,
    _lock: LockFile,
}

impl Node {
    /// Recovers what lies in `--dir` and binds the listeners. `started` is when `main` began.
    ///
    /// # Errors
    /// What is wrong, or that it was told to stop.
    pub fn start(
        mut settings: Settings,
        started: Instant,
        log: LogControl,
    ) -> Result<Node, NotStarted> {
        let dir = settings.dir.clone();
        std::fs::create_dir_all(&dir).map_err(|error| {
            format!("cannot make the directory {}: {error}; choose another --dir", dir.display())
        })?;
        let lock = LockFile::acquire(&dir).map_err(|refusal| refusal.to_string())?;
        if let Some(device) = &settings.pool {
            place::link_device(&dir, device)?;
        }
        let capacity = capacity_bytes(&settings, &dir)?;
        let memory_given = settings.memory.replace(capacity).is_some();
        settings.maxclients = affordable_clients(settings.maxclients);
        let durability = settings.durability;
        let metrics = Metrics::new(TABLE.len());
        let (peers, signals) = match Peers::meet(&settings, capacity, metrics.shard())? {
            Met::Alone => (None, None),
            Met::Member(peers, signals) => (Some(peers), signals),
            Met::Stopped(signal) => return Err(NotStarted::Stopped(signal)),
        };
        let member = peers.as_ref().map(Peers::hash_key);
        let options = recover::Options { dir: &dir, durability, capacity_bytes: capacity, member };
        let recovery = recover::recover(options)?;
        recovery.found.notes.iter().for_each(|note| tracing::warn!("{note}"));
        let mem = recovery.engine.store().mem_arc();
        let (medium, dax) = (mem.medium(), mem.media().dax());
        let log_medium = recovery.log_medium;

        let stop = Arc::<Stop>::default();
        let asked = Arc::clone(&stop);
        let on_stop = Box::new(move |error: &crate::raft::GroupError| {
            asked.ask(Why::Failed(error.to_string()));
        });
        let stats = [metrics.shard(), metrics.shard()];
        let standing = peers.as_ref().map_or(Standing::Alone, Peers::standing);
        let (group, committer, found) =
            raft::start::start(recovery, Executor::new(), standing, capacity, stats, on_stop)?;
        if let Some(peers) = &peers {
            peers.serve(&group);
        }
        group.set_eviction(settings.eviction());
        let pace = Pace::new(medium.is_memory(), settings.epoch_ms, settings.epoch_ops);
        let flusher = Flusher::start(Arc::clone(&group), committer, pace)
            .map_err(|error| format!("cannot start the thread that commits: {error}"))?;
        let attendant = Attendant::start(Arc::clone(&group))
            .map_err(|error| format!("cannot start the thread of the group: {error}"))?;
        let scrubber = Scrubber::start(Arc::clone(&group), settings.scrub_mib << 20)
            .map_err(|error| format!("cannot start the thread that scrubs: {error}"))?;
        let (listeners, addresses) = bind_all(&settings)?;
        let ready =
            ready_line(&addresses, &medium_text(medium, dax, log_medium), &dir, &found, started);
        let io_threads = settings.io_threads;
        let run_id = entropy::run_id();
        let identity = Identity {
            replication_id: peers.as_ref().map_or_else(|| run_id.clone(), Peers::replication_id),
            run_id,
            started,
            port: addresses.first().map_or(settings.port, SocketAddr::port),
            medium: medium.name(),
            log_medium: log_medium.name(),
            dax,
            durability: durability_on(log_medium, durability),
            dir,
            found,
            ready_us: clock::nanos_since(started) / 1000,
        };
        let stats = metrics.shard();
        let shared = Arc::new(Shared {
            config: Config::new(settings),
            metrics,
            group,
            peers: peers.as_ref().map(|peers| Arc::clone(peers.transport())),
            commits: flusher.stats(),
            scrubbing: scrubber.stats(),
            copied_out: Default::default(),
            clients: Registry::new(entropy::random_u64() as u32),
            slowlog: SlowLog::default(),
            log,
            identity,
            stop,
            active_expire: Arc::new(AtomicBool::new(true)),
        });
        let threads: Result<Vec<IoThread>, _> =
            (0..io_threads).map(|number| IoThread::start(number, Arc::clone(&shared))).collect();
        let threads = threads.map_err(|error| format!("cannot start an io thread: {error}"))?;
        let threads = Arc::new(threads);
        Ok(Node {
            shared,
            threads,
            flusher,
            attendant,
            peers,
            scrubber,
            listeners,
            addresses,
            stats,
            ready,
            capacity_bytes: capacity,
            memory_given,
            signals,
            _lock: lock,
        })
    }

    /// Where clients reach it.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// One line: address, medium, what was recovered, in how many milliseconds.
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// How it is told to stop.
    pub fn stop_handle(&self) -> Arc<Stop> {
        Arc::clone(&self.shared.stop)
    }

    /// Serves until it is told to stop, then stops in order: no new connections, everything that
    /// was received is answered, a last commit.
    ///
    /// # Errors
    /// Why it had to stop, if nobody asked for it, or what failed while stopping.
    pub fn run(mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a runtime: {error}"))?;
        let signals = self.signals.take();
        let why = runtime.block_on(self.serve(signals))?;
        drop(runtime);
        match &why {
            Why::Signal(name) => tracing::info!("{name}: stopping"),
            Why::Command => tracing::info!("SHUTDOWN: stopping"),
            Why::Failed(reason) => tracing::error!("{reason}"),
        }
        self.take_down(why)
    }

    async fn serve(&self, signals: Option<Signals>) -> Result<Why, String> {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in &self.listeners {
            let listener = listener.try_clone().and_then(TcpListener::from_std);
            let listener = listener.map_err(|error| format!("cannot listen: {error}"))?;
            let (threads, shared) = (Arc::clone(&self.threads), Arc::clone(&self.shared));
            accepting.spawn(accept_all(listener, threads, shared, Arc::clone(&self.stats)));
        }
        let mut signals = signals.map_or_else(Signals::hear, Ok)?;
        let stop = Arc::clone(&self.shared.stop);
        if let Some(peers) = &self.peers {
            accepting.spawn(peers.announce(&self.shared.group));
        }
        let why = tokio::select! {
            why = stop.wait() => why,
            name = signals.asked() => Why::Signal(name),
            () = self.keep_house() => Why::Command,
            () = self.shared.group.keep_rests(&self.stats) => Why::Command,
        };
        self.shared.group.hand_over().await;
        stop.ask(why.clone());
        Ok(why)
    }

    /// What is done again and again: reclaiming, sampling, closing idle connections.
    async fn keep_house(&self) {
        let mut ticks = tokio::time::interval(expiry::EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut submission = Submission::new();
        let mut reclaimer = expiry::Reclaimer::default();
        let mut leftovers = Leftovers::default();
        let shared = &self.shared;
        let mut last = clock::now();
        let mut limit_compared = !self.memory_given || shared.group.is_alone();
        for tick in 1u64.. {
            ticks.tick().await;
            let now = clock::now();
            shared.metrics.sample(clock::millis(now.duration_since(last)));
            last = now;
            // Should whoever was woken to apply have gone away, this does it.
            shared.group.drive();
            // Connections are accepted by this thread too.
            shared.group.stand_by().await;
            if shared.group.leads() {
                let mut way = Way::new(&shared.group, 0, &self.stats, &mut submission);
                if shared.active_expire.load(Ordering::Relaxed) {
                    reclaimer.reclaim(&mut way, &self.stats).await;
                }
                eviction::relieve(&mut way).await;
                if shared.group.read().store().limit_bytes() == 0 {
                    // A new group's first leader says what all of them count by.
                    eviction::set_limit(&mut way, self.capacity_bytes).await;
                    way.batch().take_replies(&mut Vec::new());
                }
            }
            limit_compared = limit_compared || self.compare_limit();
            if tick % LEFTOVERS_TICKS == 0 {
                let mut way = Way::new(&shared.group, 0, &self.stats, &mut submission);
                drop_leftovers(&mut way, &mut leftovers).await;
            }
            if tick % 10 == 0 {
                cron::sweep(shared, &self.stats, now);
            }
        }
    }

    /// Says so if the cluster agreed on another memory limit than this node was started with: the
    /// agreed one holds. False while there is nobody yet to have it from.
    fn compare_limit(&self) -> bool {
        let group = &self.shared.group;
        let limit = group.read().store().limit_bytes();
        if limit == 0 || !(group.leads() || group.status().hears_leader()) {
            return false;
        }
        if limit != self.capacity_bytes {
            tracing::warn!(
                "--memory {} is not what this node's cluster agreed on, {limit} bytes, which holds; \
                 CONFIG SET maxmemory on any node changes it for all of them",
                self.capacity_bytes
            );
        }
        true
    }

    fn take_down(self, why: Why) -> Result<(), String> {
        drop(self.listeners);
        let clients = self.shared.clients.matching(&Filter::default());
        clients.iter().for_each(|client| client.wake());
        let threads = Arc::into_inner(self.threads).unwrap_or_default();
        let handles: Vec<_> = threads.into_iter().map(IoThread::finish).collect();
        let start = clock::now();
        let mut killed = false;
        while !handles.iter().all(std::thread::JoinHandle::is_finished) {
            self.shared.group.drive();
            if start.elapsed() > DRAIN && !killed {
                killed = true;
                let left = self.shared.clients.matching(&Filter::default());
                tracing::warn!(
                    "closing {} clients: after {DRAIN:?} they have not taken their replies, or wait for \
                     what only a majority of the nodes can answer",
                    left.len()
                );
                left.iter().for_each(|client| client.kill());
            }
            if start.elapsed() > DRAIN * 2 {
                break;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        if let Some(peers) = &self.peers {
            finish_forwards(&self.shared.group);
            farewell(peers);
        }
        self.scrubber.stop();
        let committed = self.flusher.stop();
        // It has the log purged behind the last commit.
        self.attendant.stop();
        let closed = self.shared.group.log().close();
        if let Why::Failed(reason) = why {
            return Err(reason);
        }
        committed.map_err(|error| format!("the last commit failed: {error}"))?;
        closed.map_err(|error| format!("the log could not be closed: {error}"))
    }
}

/// Waits a while for what other nodes have forwarded: their clients must not be left without an
/// answer because this node goes.
fn finish_forwards(group: &Arc<Group>) {
    let start = clock::now();
    while group.is_serving() && start.elapsed() < FORWARDS {
        group.drive();
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Tells the peers that this node is going.
fn farewell(peers: &Peers) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Ok(runtime) = runtime {
        runtime.block_on(peers.transport().close());
    }
}

/// `--memory`, or half of what there is.
fn capacity_bytes(settings: &Settings, dir: &Path) -> Result<u64, String> {
    let pool = dir.join(recover::POOL_FILE);
    if is_device(&pool) {
        return capacity_on_device(settings.memory, &pool);
    }
    let pool = std::fs::metadata(dir.join(recover::POOL_FILE)).map_or(0, |meta| meta.len());
    let free = host::free_bytes(dir)
        .map_err(|error| format!("cannot ask for the free space of {}: {error}", dir.display()))?;
    let there = free.saturating_add(pool);
    let chosen = settings.memory.unwrap_or_else(|| {
        let half_of_medium = there / 2;
        host::memory_bytes().map_or(half_of_medium, |ram| half_of_medium.min(ram / 2))
    });
    if chosen < MEMORY_MIN {
        return Err(format!(
            "--memory {chosen} bytes is too little, 16mb is the least; {} has {free} bytes free",
            dir.display()
        ));
    }
    if chosen > there {
        tracing::warn!(
            "--memory {chosen} is more than the {there} bytes that {} can give",
            dir.display()
        );
    }
    Ok(chosen)
}

/// `--memory`, or all that a devdax device has room for.
fn capacity_on_device(wanted: Option<u64>, device: &Path) -> Result<u64, String> {
    let bytes = device_bytes(device).map_err(|error| error.to_string())?;
    let there = capacity_within(bytes);
    let chosen = wanted.unwrap_or(there);
    match chosen {
        _ if there < MEMORY_MIN => Err(format!(
            "{} has {bytes} bytes, too few for a pool of 16mb: use another device",
            device.display()
        )),
        _ if chosen < MEMORY_MIN => {
            Err(format!("--memory {chosen} bytes is too little, 16mb is the least"))
        }
        _ if chosen > there => Err(format!(
            "--memory {chosen} is more than {} has room for: give {there} at most, or leave it out",
            device.display()
        )),
        _ => Ok(chosen),
    }
}

/// As many clients as there may be open files, and no more than asked for.
fn affordable_clients(wanted: u64) -> u64 {
    let files = host::raise_open_files(wanted.saturating_add(OWN_FILES));
    let affordable = files.saturating_sub(OWN_FILES).max(1);
    if affordable < wanted {
        tracing::warn!(
            "the limit of open files allows {affordable} clients instead of {wanted}: raise \
             ulimit -n"
        );
    }
    wanted.min(affordable)
}

fn bind_all(settings: &Settings) -> Result<(Vec<std::net::TcpListener>, Vec<SocketAddr>), String> {
    let mut listeners = Vec::new();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for ip in &settings.bind {
        // With port 0 the system chooses for the first address, and the others follow it.
        let port = addresses.first().map_or(settings.port, SocketAddr::port);
        let listener = bind(SocketAddr::new(*ip, port), settings.tcp_backlog)
            .map_err(|error| error.to_string())?;
        addresses.push(listener.local_addr().map_err(|error| error.to_string())?);
        listeners.push(listener);
    }
    Ok((listeners, addresses))
}

fn ready_line(
    addresses: &[SocketAddr],
    medium: &str,
    dir: &Path,
    found: &Found,
    started: Instant,
) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let what = match found.created {
        true => "a new pool".to_owned(),
        false => format!(
            "{} keys at epoch {}, {} log records replayed",
            found.keys, found.epoch, found.replayed_entries
        ),
    };
    let ms = clock::nanos_since(started) as f64 / 1e6;
    format!(
        "cairn {} ready on {}: {medium} {}, {what}, in {ms:.1} ms",
        env!("CARGO_PKG_VERSION"),
        addresses.join(" "),
        dir.display()
    )
}

/// What pool and log lie on, for the ready line.
fn medium_text(medium: Medium, dax: Option<Dax>, log_medium: Medium) -> String {
    let mut text = medium.name().to_owned();
    if let Some(Dax { map_sync, instruction }) = dax {
        let granted = if map_sync { "MAP_SYNC" } else { "no MAP_SYNC" };
        text.push_str(&format!(" ({granted}, {instruction})"));
    }
    if log_medium != medium {
        text.push_str(&format!(", log on {}", log_medium.name()));
    }
    text
}

/// What an acknowledged write survives, for INFO.
fn durability_on(log_medium: Medium, durability: Durability) -> &'static str {
    match (log_medium, durability) {
        (Medium::Dax, _) => "always (in persistent memory before the answer)",
        (Medium::Tmpfs, _) => "memory (survives the process, not the machine)",
        (_, Durability::Always) => "always (synced before the answer)",
        (_, Durability::EverySec) => "everysec (power loss may take the last second)",
    }
}

/// Starts a node, says so, and serves until it is told to stop.
///
/// # Errors
/// What kept it from starting, or made it stop.
pub fn serve(settings: Settings, started: Instant) -> Result<(), String> {
    let log = telemetry::start(settings.log_level);
    let node = match Node::start(settings, started, log) {
        Ok(node) => node,
        Err(NotStarted::Stopped(signal)) => {
            tracing::info!("{signal}: stopping; this node belongs to no cluster yet");
            return Ok(());
        }
        Err(NotStarted::Failed(why)) => return Err(why),
    };
    // Nobody may be reading it: a closed standard output is no reason not to serve.
    let _ = writeln!(std::io::stdout(), "{}", node.ready_line());
    node.run()
}
