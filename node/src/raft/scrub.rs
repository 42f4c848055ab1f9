//! Goes through the pool in the background: warms what a restart left cold, and finds damage before
//! a reader does.
//!
//! Until the first pass is through, the store checks what earlier runs wrote whenever it meets it,
//! so a damaged block is an error from the first read on. Later passes look for what the medium has
//! lost since, at a fraction of the rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_engine::Engine;
use cairn_store::Store;
use cairn_store::check::Scrubbed;
use cairn_store::persist::Mem;
use parking_lot::{Condvar, Mutex, RwLockReadGuard};

use super::group::Group;

/// Slabs of an extent.
const SLABS: u64 = 32;
const EXTENT_BYTES: u64 = 2 << 20;
/// After the first pass a pass takes so many times as long.
const SLOWER: u32 = 20;
/// How often somebody looks whether there is anything to do.
const IDLE: Duration = Duration::from_secs(1);

/// How far scrubbing has come, for INFO.
#[derive(Debug, Default)]
pub struct ScrubStats {
    /// Whole passes since the start.
    pub passes: AtomicU64,
    /// Extents looked at in this pass.
    pub extents_done: AtomicU64,
    /// Extents of the pool when this pass began.
    pub extents: AtomicU64,
    /// Damaged blocks found in this pass or, when it has found none yet, in the last.
    pub damaged: AtomicU64,
    /// Where the first of them lies, in the pool's file.
    pub first_damaged_at: AtomicU64,
    /// Whether reads need not check what they meet.
    pub trusted: AtomicBool,
}

#[derive(Default)]
struct Bell {
    stop: Mutex<bool>,
    ring: Condvar,
}

/// The thread that scrubs.
pub struct Scrubber {
    bell: Arc<Bell>,
    stats: Arc<ScrubStats>,
    handle: JoinHandle<()>,
}

impl Scrubber {
    /// Starts scrubbing `group`'s pool at about `rate` bytes a second; not at all when that is 0.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(group: Arc<Group>, rate: u64) -> std::io::Result<Scrubber> {
        let (bell, stats) = (Arc::<Bell>::default(), Arc::<ScrubStats>::default());
        let worker = Worker { group, rate, bell: Arc::clone(&bell), stats: Arc::clone(&stats) };
        let thread = std::thread::Builder::new().name("cairn-scrub".into());
        let handle = thread.spawn(move || worker.run())?;
        Ok(Scrubber { bell, stats, handle })
    }

    /// How far it has come.
    pub fn stats(&self) -> Arc<ScrubStats> {
        Arc::clone(&self.stats)
    }

    /// Ends the thread.
    pub fn stop(self) {
        *self.bell.stop.lock() = true;
        self.bell.ring.notify_one();
        if self.handle.join().is_err() {
            tracing::error!("the scrubbing thread panicked");
        }
    }
}

struct Worker {
    group: Arc<Group>,
    rate: u64,
    bell: Arc<Bell>,
    stats: Arc<ScrubStats>,
}

impl Worker {
    fn run(&self) {
        let (mut slower, mut pool) = (1, [0; 16]);
        loop {
            let uuid = self.group.read().store().uuid();
            if pool != uuid {
                // Nobody has gone through this one yet.
                (slower, pool) = (1, uuid);
            }
            self.stats.trusted.store(self.group.read().store().is_trusted(), Ordering::Relaxed);
            let due = self.rate > 0 && self.group.read().store().extents() > 0;
            if due && !self.pass(slower) || self.rests(IDLE) {
                return;
            }
            if due {
                slower = SLOWER;
            }
        }
    }

    /// Goes through all extents; false when it is to stop. A pool that takes this one's place
    /// meanwhile is left to the next pass.
    fn pass(&self, slower: u32) -> bool {
        let (mem, extents) = {
            let engine = self.group.read();
            (engine.store().mem_arc(), engine.store().extents())
        };
        let pause = Duration::from_secs_f64(EXTENT_BYTES as f64 / self.rate as f64) * slower;
        self.stats.extents.store(extents, Ordering::Relaxed);
        let mut damaged = 0;
        for extent in 0..extents {
            Store::warm_extent(&mem, extent);
            let Some(found) = self.extent(&mem, extent) else { return true };
            damaged += found.damaged;
            if let Some(at) = found.first {
                self.report(at, damaged);
            }
            if damaged == 0 {
                let Some(engine) = self.engine(&mem) else { return true };
                if !engine.store().is_trusted() {
                    engine.store().trust_below(Some(extent + 1));
                }
            }
            self.stats.extents_done.store(extent + 1, Ordering::Relaxed);
            if self.rests(pause) {
                return false;
            }
        }
        if damaged == 0 {
            let Some(engine) = self.engine(&mem) else { return true };
            engine.store().trust_below(None);
            self.stats.damaged.store(0, Ordering::Relaxed);
        }
        self.stats.passes.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// The engine, while its pool is the one in `mem`.
    fn engine(&self, mem: &Arc<Mem>) -> Option<RwLockReadGuard<'_, Engine>> {
        let engine = self.group.read();
        Arc::ptr_eq(&engine.store().mem_arc(), mem).then_some(engine)
    }

    /// What a look at an extent comes to; `None` when the pool in `mem` was replaced.
    fn extent(&self, mem: &Arc<Mem>, extent: u64) -> Option<Scrubbed> {
        let mut sum = Scrubbed::default();
        for slab in 0..SLABS {
            // A slab under one hold: some microseconds.
            let found = self.engine(mem)?.store().scrub(extent, slab);
            sum.sound += found.sound;
            sum.damaged += found.damaged;
            sum.first = sum.first.or(found.first);
        }
        Some(sum)
    }

    fn report(&self, at: u64, damaged: u64) {
        let engine = self.group.read();
        if engine.store().is_trusted() {
            engine.store().distrust();
        }
        self.stats.trusted.store(false, Ordering::Relaxed);
        self.stats.damaged.store(damaged, Ordering::Relaxed);
        self.stats.first_damaged_at.store(at, Ordering::Relaxed);
        let mem = engine.store().mem_arc();
        let path = mem.media().path().map_or_else(String::new, |path| path.display().to_string());
        tracing::error!(
            "block at byte {at} of the pool {path} is damaged: what lies in it answers CORRUPT, the \
             rest is served; stop the node, run `cairn check --deep` and restore the data that it \
             names"
        );
    }

    /// Waits; true when it is to stop.
    fn rests(&self, pause: Duration) -> bool {
        let mut stop = self.bell.stop.lock();
        if !*stop {
            self.bell.ring.wait_for(&mut stop, pause);
        }
        *stop
    }
}
