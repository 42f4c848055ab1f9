//! A node that runs on a machine: its group, driven by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_node::ops::config::Durability;
use cairn_node::ops::metrics::{Metrics, Shard as Stats};
use cairn_node::raft::commits::Commits;
use cairn_node::raft::recover::{self, Options, Pair};
use cairn_node::raft::runtime::{self, Executor, Place};
use cairn_node::raft::{Distance, Group, Standing, start};
use cairn_node::transport::mem::MemTransport;
use cairn_node::transport::{BoxFuture, Handler, Incoming, SharedTransport, Transport};
use cairn_protocol::cluster::message::Refused;
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::ids::{ClusterId, NodeId};
use cairn_store::PoolOptions;
use cairn_store::log::Log;
use cairn_store::media::Medium;
use parking_lot::Mutex;

use super::bugs::Bug;
use super::invariants::Reading;
use super::machine::{CAPACITY_BYTES, Machine};
use super::world::{World, on_behalf_of};

/// The cluster's.
const HASH_KEY: [u64; 2] = [3, 5];
const CLUSTER: ClusterId = ClusterId([7; 16]);
/// A clock that makes its node forget what it promised leaps ahead by so much.
const LEAP_NANOS: u64 = 1_000_000_000;

/// A node that runs.
pub struct Member {
    /// What it runs on.
    pub machine: Arc<Machine>,
    /// Which of the machine's starts it is.
    pub start: u64,
    /// Its part of the shard.
    pub group: Arc<Group>,
    /// What runs the group's openraft.
    pub executor: Arc<Executor>,
    /// Counts what its clients do.
    pub stats: Arc<Stats>,
    commits: Mutex<Commits>,
    /// How often its pool was committed.
    committed: AtomicU64,
    transport: MemTransport,
    log_is_writing: AtomicBool,
}

impl Member {
    /// Starts a node on `machine`, which has power. The members in `first` make a new group.
    ///
    /// # Errors
    /// Why it refuses to.
    pub fn start(
        world: &Arc<World>,
        machine: &Arc<Machine>,
        first: Option<Vec<(NodeId, String)>>,
    ) -> Result<Arc<Member>, String> {
        let start = machine.starts();
        let pool = PoolOptions {
            capacity_bytes: CAPACITY_BYTES,
            new_hash_key: HASH_KEY,
            new_uuid: [machine.id.0 as u8; 16],
        };
        let home = machine.home();
        let pool = home.open(&pool)?;
        let pair = Pair { home, pool, log: machine.open_log()?, log_medium: Medium::File };
        let options = Options {
            dir: Path::new("simulated"),
            durability: Durability::Always,
            capacity_bytes: CAPACITY_BYTES,
            member: Some(HASH_KEY),
        };
        let recovery = recover::resume(&options, pair)?;

        let seed = world.draw(u64::MAX);
        let executor = Executor::simulated(Arc::clone(machine.clock()), seed);
        let log = Arc::clone(&recovery.log);
        let (world_of, machine_of) = (Arc::clone(world), Arc::clone(machine));
        let looked_at = Mutex::default();
        let around = Surroundings { log, world: world_of, machine: machine_of, looked_at };
        executor.set_machine(Box::new(around));
        let transport = world.network().join(machine.id, &machine.address, CLUSTER);
        let shared: SharedTransport = Arc::new(transport.clone());
        let keep_bytes = world.plan().keep_bytes;
        let (has_voted, reads) = (false, world.plan().reads);
        let distance = Distance::default();
        let standing =
            Standing::Member { transport: shared, first, has_voted, keep_bytes, reads, distance };
        let metrics = Metrics::new(0);
        let stats = [metrics.shard(), metrics.shard()];
        let (runs, on_stop) = (Arc::clone(&executor), Box::new(|_: &_| ()));
        let (group, committer, _) =
            start::start(recovery, runs, standing, CAPACITY_BYTES, stats, on_stop)?;
        if world.plan().bug == Some(Bug::LeaseForgotten) {
            machine.leap(LEAP_NANOS);
        }
        let answers = Answers {
            world: Arc::clone(world),
            machine: Arc::clone(machine),
            start,
            group: Arc::clone(&group),
            stats: metrics.shard(),
        };
        transport.serve(Arc::new(answers));
        Ok(Arc::new(Member {
            machine: Arc::clone(machine),
            start,
            commits: Mutex::new(Commits::new(Arc::clone(&group), committer)),
            group,
            executor,
            stats: metrics.shard(),
            committed: AtomicU64::new(0),
            transport,
            log_is_writing: AtomicBool::new(false),
        }))
    }

    /// Whether its machine has not failed since it was started.
    pub fn runs(&self) -> bool {
        self.machine.runs(self.start)
    }

    /// Whether it has something to do, and its machine moves.
    pub fn is_ready(&self, now: u64) -> bool {
        self.executor.has_ready() && self.machine.stands_until() <= now
    }

    /// Does what it has to do.
    pub fn step(&self) {
        self.group.attend(Duration::ZERO);
    }

    /// When its next timer is due, in the world's time.
    pub fn next_timer(&self) -> Option<u64> {
        let due = self.executor.next_timer()?;
        Some(self.machine.world_time(due.nanos()).max(self.machine.stands_until()))
    }

    /// Has what waits for the disk written some time from now.
    pub fn write_log(self: &Arc<Self>, world: &Arc<World>) {
        if !self.group.log().has_queued() || self.log_is_writing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (member, world) = (Arc::clone(self), Arc::clone(world));
        world.clone().spawn(async move {
            world.sleep_us(world.plan().disk.delay_us(&world)).await;
            world.while_standing(&member.machine).await;
            member.log_is_writing.store(false, Ordering::Relaxed);
            if member.runs() {
                member.group.log().write_next();
            }
        });
    }

    /// Commits the pool again and again, until the machine fails.
    pub async fn commit_for_ever(self: Arc<Self>, world: Arc<World>) {
        loop {
            world.sleep_us(world.plan().disk.commit_us(&world)).await;
            world.while_standing(&self.machine).await;
            if !self.runs() || world.is_over() {
                return;
            }
            let Some(sealed) = self.commits.lock().seal() else { continue };
            // Others go on while the pages are written.
            world.sleep_us(world.plan().disk.delay_us(&world)).await;
            if !self.runs() {
                return;
            }
            let published = self.commits.lock().publish(sealed);
            if let Err(error) = published {
                return self.group.stop(format!("the pool could not be committed: {error}"));
            }
            self.commits.lock().resume();
            self.committed.fetch_add(1, Ordering::Relaxed);
            world.count("commits of a pool");
        }
    }

    /// How often its pool was committed since it was started.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Ends it: what it sends is lost from here on.
    pub fn bury(&self) {
        drop(self.transport.close());
        self.executor.abandon();
    }
}

/// What is simulated around a member's executor.
struct Surroundings {
    log: Arc<Log>,
    world: Arc<World>,
    machine: Arc<Machine>,
    /// What the clock showed when an operation's lease was looked at.
    looked_at: Mutex<BTreeMap<u64, u64>>,
}

impl runtime::Machine for Surroundings {
    fn work(&self) {
        self.log.write_next();
    }

    /// One thread stands still, or all of the machine at that place: heartbeats too, so that others
    /// may come to lead meanwhile.
    fn pause(&self, at: Place) -> Duration {
        if let Place::AfterRead { by_lease } = at {
            self.note_reading(by_lease);
        }
        if self.world.plan().bug == Some(Bug::LeaseLookedAtBefore) && self.look_only_before(at) {
            return Duration::ZERO;
        }
        let trap = (at == Place::BeforeRead).then(|| self.world.spring_trap(self.machine.id));
        if let Some(pause) = trap.flatten() {
            return self.stand_still(pause);
        }
        let pause = self.world.draw_pause();
        if !pause.is_zero() && self.world.draw(2) == 0 {
            return self.stand_still(pause);
        }
        pause
    }
}

impl Surroundings {
    fn stand_still(&self, pause: Duration) -> Duration {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.machine.stand_until(self.world.now() + nanos);
        pause
    }

    /// A state has just been read, to answer somebody.
    fn note_reading(&self, by_lease: bool) {
        let member = self.world.member(self.machine.id);
        let (Some(operation), Some(member)) = (self.world.asking(), member) else { return };
        let applied = member.group.read().store().applied().1;
        let reading = Reading { node: self.machine.id, applied, by_lease };
        self.world.invariants(|all| {
            all.fresh_reads.read(operation, reading, all.acknowledged.count());
        });
    }

    /// The bug: the look at the lease after a read is shown what the clock showed at the one before.
    /// Says whether it is.
    fn look_only_before(&self, at: Place) -> bool {
        let Some(operation) = self.world.asking() else { return false };
        let clock = self.machine.clock();
        match at {
            Place::BeforeRead => {
                let now = clock.load(Ordering::Relaxed);
                self.looked_at.lock().insert(operation, now);
                false
            }
            Place::AfterRead { by_lease } => {
                let then = self.looked_at.lock().remove(&operation).filter(|_| by_lease);
                then.inspect(|then| clock.store(*then, Ordering::Relaxed)).is_some()
            }
        }
    }
}

/// What a member answers the others.
struct Answers {
    world: Arc<World>,
    machine: Arc<Machine>,
    start: u64,
    group: Arc<Group>,
    stats: Arc<Stats>,
}

impl Handler for Answers {
    fn handle(&self, incoming: Incoming) -> BoxFuture<Result<Reply, Refused>> {
        let (world, machine) = (Arc::clone(&self.world), Arc::clone(&self.machine));
        let (group, stats, start) = (Arc::clone(&self.group), Arc::clone(&self.stats), self.start);
        Box::pin(async move {
            world.while_standing(&machine).await;
            if !machine.runs(start) {
                // Nobody hears this: what a dead node sends is lost.
                return Err(refused());
            }
            match incoming.request {
                Request::Forward(forward) => {
                    let operation = forward.session;
                    let served = group.serve(incoming.from, forward, stats);
                    on_behalf_of(&world, operation, served).await.map(Reply::Forward)
                }
                request => group.answer(request).await,
            }
        })
    }
}

fn refused() -> Refused {
    use cairn_protocol::cluster::message::RefusedCode;
    cairn_node::transport::refused(RefusedCode::Unavailable, "the node is gone")
}
