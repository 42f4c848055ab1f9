//! What a node runs on: a disk for its log, memory for its pool, a clock, and the power that may
//! fail at any moment, also in the midst of a write.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use cairn_node::raft::home::{Applied, Home};
use cairn_protocol::ids::NodeId;
use cairn_store::log::crash_disk::{self, CrashDisk, Stash, Sync, Unit};
use cairn_store::log::{Log, LogKind, LogOptions, Recovered};
use cairn_store::media::{CrashMedia, Granularity, Media};
use cairn_store::persist::Mem;
use cairn_store::{Committer, Head, Import, Imported, Opened, PoolOptions, Store};
use parking_lot::Mutex;

use super::bugs::{Bug, VoteLoser, forget_epochs};
use super::invariants::{Violation, whole_pools};
use crate::rng::Rng;

/// What a pool may take.
pub const CAPACITY_BYTES: u64 = 16 << 20;
/// Short segments, so that a run fills many.
const SEGMENT_BYTES: u64 = 16 << 10;

/// How a node ends that does not stop in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Of what was not synced anything may be gone.
    PowerLoss,
    /// The process is killed: what it wrote is there.
    Kill,
}

/// What holds bytes.
struct Hardware {
    disk: CrashDisk,
    pool: Arc<CrashMedia>,
    /// A peer's pool that is arriving.
    incoming: Option<Arc<CrashMedia>>,
    /// Which entry the pool brought that was last put in the place of another.
    note: Option<Applied>,
}

/// What was there when the power failed.
struct Left {
    disk: Stash,
    pool: Vec<u8>,
    incoming: Option<Vec<u8>>,
    note: Option<Applied>,
}

/// A machine, which outlives the node that runs on it again and again.
pub struct Machine {
    /// The node.
    pub id: NodeId,
    /// Where the others find it.
    pub address: String,
    kind: LogKind,
    bug: Option<Bug>,
    hardware: Mutex<Hardware>,
    left: Mutex<Option<Left>>,
    powered: AtomicBool,
    /// How often a node was started on it.
    starts: AtomicU64,
    /// How often a peer's pool took the place of its own.
    installs: AtomicU64,
    /// Persist points until the power fails; below zero: it does not.
    fuse: AtomicI64,
    /// The same, counted on the pool alone.
    pool_fuse: AtomicI64,
    /// It stands still until then, by the clock of the world.
    stands_until: AtomicU64,
    clock: Arc<AtomicU64>,
    /// By how many millionths its clock goes fast.
    fast_ppm: i64,
    ahead_nanos: AtomicU64,
    /// Who waits for it to fail, or to move again.
    watchers: Mutex<Vec<Waker>>,
    rng: Mutex<Rng>,
    itself: Weak<Machine>,
}

impl Machine {
    /// One without power, with blank media for a log of this kind.
    pub fn new(
        id: NodeId,
        address: String,
        kind: LogKind,
        bug: Option<Bug>,
        mut rng: Rng,
    ) -> Arc<Machine> {
        let ignored = (bug == Some(Bug::SyncIgnored)).then_some(Sync::Batch);
        let hardware = Hardware {
            disk: CrashDisk::new(ignored, Unit::of(kind)),
            pool: Arc::new(CrashMedia::new(CAPACITY_BYTES, Granularity::Page, rng.bits())),
            incoming: None,
            note: None,
        };
        let fast_ppm = rng.below(100_001) as i64 - 50_000;
        let ahead_nanos = AtomicU64::new(rng.below(100_000_000_000));
        let machine = Arc::new_cyclic(|itself| Machine {
            id,
            address,
            kind,
            bug,
            hardware: Mutex::new(hardware),
            left: Mutex::default(),
            powered: AtomicBool::new(false),
            starts: AtomicU64::new(0),
            installs: AtomicU64::new(0),
            fuse: AtomicI64::new(-1),
            pool_fuse: AtomicI64::new(-1),
            stands_until: AtomicU64::new(0),
            clock: Arc::default(),
            fast_ppm,
            ahead_nanos,
            watchers: Mutex::default(),
            rng: Mutex::new(rng),
            itself: Weak::clone(itself),
        });
        machine.watch(&machine.hardware.lock());
        machine
    }

    /// Numbers of its own.
    pub fn draw(&self, below: u64) -> u64 {
        self.rng.lock().below(below)
    }

    /// Its clock.
    pub fn clock(&self) -> &Arc<AtomicU64> {
        &self.clock
    }

    /// What its clock shows at a moment of the world.
    fn local(&self, world: u64) -> u64 {
        let drift = i128::from(world) * i128::from(self.fast_ppm) / 1_000_000;
        let ahead = i128::from(self.ahead_nanos.load(Ordering::Relaxed));
        (i128::from(world) + drift + ahead) as u64
    }

    /// Moves its clock.
    pub fn set_clock(&self, world: u64) {
        self.clock.store(self.local(world), Ordering::Relaxed);
    }

    /// Has its clock leap ahead.
    pub fn leap(&self, nanos: u64) {
        self.ahead_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The first moment of the world at which its clock shows `local` or more.
    pub fn world_time(&self, local: u64) -> u64 {
        let ahead = i128::from(local) - i128::from(self.ahead_nanos.load(Ordering::Relaxed));
        let mut world = (ahead.max(0) * 1_000_000 / i128::from(1_000_000 + self.fast_ppm)) as u64;
        while self.local(world) < local {
            world += 1;
        }
        world
    }

    /// Whether it has power.
    pub fn is_up(&self) -> bool {
        self.powered.load(Ordering::Relaxed)
    }

    /// How often a node was started on it: what was begun under an earlier start is gone.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Whether the node of that start runs.
    pub fn runs(&self, start: u64) -> bool {
        self.is_up() && self.starts() == start
    }

    /// How often a peer's pool took the place of its own.
    pub fn installs(&self) -> u64 {
        self.installs.load(Ordering::Relaxed)
    }

    /// Has it stand still until a moment of the world.
    pub fn stand_until(&self, world: u64) {
        self.stands_until.store(world, Ordering::Relaxed);
    }

    /// Until when it stands still.
    pub fn stands_until(&self) -> u64 {
        self.stands_until.load(Ordering::Relaxed)
    }

    /// Wakes `waker` when it fails or moves again.
    pub fn watch_for(&self, waker: &Waker) {
        let mut watchers = self.watchers.lock();
        if !watchers.iter().any(|watcher| watcher.will_wake(waker)) {
            watchers.push(waker.clone());
        }
    }

    /// Wakes those who watch.
    pub fn wake_watchers(&self) {
        let watchers = std::mem::take(&mut *self.watchers.lock());
        watchers.into_iter().for_each(Waker::wake);
    }

    /// Has the power fail at the `n`th persist point from now, as soon as the node gets there.
    pub fn set_fuse(&self, n: i64) {
        self.fuse.store(n, Ordering::Relaxed);
    }

    /// Has the power fail at the `n`th persist point of the pool from now.
    pub fn set_pool_fuse(&self, n: i64) {
        self.pool_fuse.store(n, Ordering::Relaxed);
    }

    /// Ends the node at once.
    pub fn end(&self, end: End) {
        if !self.powered.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut hardware = self.hardware.lock();
        match end {
            End::PowerLoss => *self.left.lock() = Some(Left::of(&hardware)),
            // A node that is gone writes no more: what is left of it gets no hold of this disk.
            End::Kill => hardware.disk = hardware.disk.stash_now().whole(),
        }
        self.watch(&hardware);
    }

    /// What media only log kinds that survive it may meet.
    pub fn survives_power_loss(&self) -> bool {
        self.kind == LogKind::File
    }

    /// Has the media tell when they come to a persist point.
    fn watch(&self, hardware: &Hardware) {
        let point = |point: fn(&Machine)| {
            let itself = Weak::clone(&self.itself);
            move || itself.upgrade().iter().for_each(|machine| point(machine))
        };
        hardware.disk.on_point(point(Machine::point));
        hardware.pool.on_point(point(Machine::pool_point));
        hardware.incoming.iter().for_each(|pool| pool.on_point(point(Machine::pool_point)));
    }

    fn pool_point(&self) {
        self.burn(&self.pool_fuse);
        self.point();
    }

    fn point(&self) {
        self.burn(&self.fuse);
    }

    fn burn(&self, fuse: &AtomicI64) {
        if fuse.load(Ordering::Relaxed) < 0 || !self.is_up() {
            return;
        }
        if fuse.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.powered.store(false, Ordering::Relaxed);
            let hardware = self.hardware.lock();
            *self.left.lock() = Some(Left::of(&hardware));
        }
    }

    /// Gives it power: what its media hold is there again, or what the failure left of that.
    pub fn power_up(&self) -> u64 {
        self.set_fuse(-1);
        self.set_pool_fuse(-1);
        if let Some(left) = self.left.lock().take() {
            let mut hardware = self.hardware.lock();
            *hardware = left.come_back(&mut self.rng.lock(), self.bug);
            self.watch(&hardware);
        }
        self.powered.store(true, Ordering::Relaxed);
        self.starts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Looks through the pool that lies there, which no node has open.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn look_at_pool(&self) -> Result<(), Violation> {
        let pool = Arc::clone(&self.hardware.lock().pool);
        if pool.is_empty() { Ok(()) } else { whole_pools::look(self.id, mem(&pool)) }
    }

    /// The same for what a failure at this moment would leave of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn look_at_durable_pool(&self) -> Result<(), Violation> {
        let pool = Arc::clone(&self.hardware.lock().pool);
        if pool.is_empty() || !self.survives_power_loss() {
            return Ok(());
        }
        let left = CrashMedia::from_image(&pool.crash(), CAPACITY_BYTES, Granularity::Page, 1);
        whole_pools::look(self.id, mem(&Arc::new(left)))
    }

    /// Opens the log that lies there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open_log(&self) -> Result<(Log, Recovered), String> {
        let disk = self.hardware.lock().disk.clone();
        let medium = match self.bug {
            Some(Bug::VoteNotSynced) => VoteLoser::over(disk.medium()),
            _ => disk.medium(),
        };
        Log::open_by_hand(medium, &self.log_options()).map_err(|error| error.to_string())
    }

    fn log_options(&self) -> LogOptions {
        let mut options = LogOptions::new("simulated", self.kind);
        options.segment_bytes = SEGMENT_BYTES;
        options.uuid = [self.id.0 as u8; 16];
        options
    }

    /// The log as any crash now would leave it at the least.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn durable_log(&self) -> Result<Log, String> {
        let stash = match &*self.left.lock() {
            Some(left) => left.disk.clone(),
            None => self.hardware.lock().disk.stash_now(),
        };
        let medium = match self.kind {
            LogKind::File => stash.durable().medium(),
            // Memory outlives the process, which is all that is promised there.
            _ => stash.whole().medium(),
        };
        let opened = Log::open_by_hand(medium, &self.log_options());
        opened.map(|(log, _)| log).map_err(|error| error.to_string())
    }

    /// Where its pool lies.
    pub fn home(&self) -> Arc<dyn Home> {
        Arc::new(SimHome(self.itself.upgrade().expect("whoever asks holds it")))
    }

    fn new_media(&self) -> Arc<CrashMedia> {
        let seed = self.rng.lock().bits();
        let media = CrashMedia::new(CAPACITY_BYTES, Granularity::Page, seed);
        if self.bug == Some(Bug::SnapshotHalf) {
            media.lose_flush_every(2);
        }
        Arc::new(media)
    }
}

impl Left {
    fn of(hardware: &Hardware) -> Left {
        Left {
            disk: hardware.disk.stash_now(),
            pool: hardware.pool.crash(),
            incoming: hardware.incoming.as_ref().map(|incoming| incoming.crash()),
            note: hardware.note,
        }
    }

    fn come_back(mut self, rng: &mut Rng, bug: Option<Bug>) -> Hardware {
        if bug == Some(Bug::EpochReused) {
            forget_epochs(&mut self.pool);
        }
        let ignored = (bug == Some(Bug::SyncIgnored)).then_some(Sync::Batch);
        let disk = self.disk.image(&mut crash_disk::Rng(rng.bits()), ignored);
        let mut media = |bytes: Vec<u8>| {
            let seed = rng.bits();
            Arc::new(CrashMedia::from_image(&bytes, CAPACITY_BYTES, Granularity::Page, seed))
        };
        let (pool, incoming) = (media(self.pool), self.incoming.map(&mut media));
        Hardware { disk, pool, incoming, note: self.note }
    }
}

/// The pool of a machine.
struct SimHome(Arc<Machine>);

fn mem(media: &Arc<CrashMedia>) -> Arc<Mem> {
    Arc::new(Mem::new(Box::new(Arc::clone(media))))
}

impl Home for SimHome {
    fn place(&self) -> String {
        format!("the pool of node {}", self.0.id)
    }

    fn open(&self, options: &PoolOptions) -> Result<(Store, Committer, Opened), String> {
        let pool = Arc::clone(&self.0.hardware.lock().pool);
        Store::open(mem(&pool), options).map_err(|error| error.to_string())
    }

    fn arrive(&self, head: Head, options: &PoolOptions) -> Result<Import, String> {
        let there = self.0.hardware.lock().incoming.clone();
        if let Some(there) = there {
            let resumed = Import::resume_on(mem(&there), head.clone(), options);
            if let Some(import) = resumed.map_err(|error| error.to_string())? {
                return Ok(import);
            }
        }
        let media = self.0.new_media();
        let mut hardware = self.0.hardware.lock();
        hardware.incoming = Some(Arc::clone(&media));
        self.0.watch(&hardware);
        drop(hardware);
        Import::begin_on(mem(&media), head, options).map_err(|error| error.to_string())
    }

    fn check_replaceable(&self) -> Result<(), String> {
        Ok(())
    }

    fn put(&self, imported: Imported) -> Result<(), String> {
        let mut hardware = self.0.hardware.lock();
        hardware.note = Some(imported.head().applied());
        drop(hardware);
        self.0.point();
        if !self.0.is_up() {
            return Err("the machine has failed".into());
        }
        let mut hardware = self.0.hardware.lock();
        hardware.pool = hardware.incoming.take().ok_or("nothing has arrived")?;
        // What is committed to it later is nobody's bug.
        hardware.pool.lose_no_more();
        drop(hardware);
        self.0.installs.fetch_add(1, Ordering::Relaxed);
        self.0.point();
        Ok(())
    }

    fn has_brought(&self, applied: Applied) -> bool {
        self.0.hardware.lock().note == Some(applied)
    }

    fn forget(&self) {
        self.0.hardware.lock().note = None;
    }
}
