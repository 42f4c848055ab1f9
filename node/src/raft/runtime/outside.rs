//! What those take from an executor who are not among its tasks: time, rest, chance.
//!
//! On a real machine a connection's thread has a runtime of its own to sleep in; in a simulation
//! everybody lives by the one clock that is moved by hand.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::clocks::Clocks;
use super::{Clock, Executor, Task};
use crate::ops::clock;
use crate::ops::entropy::Seeds;

/// The wall clock of a simulated machine when its other clock stands at zero.
const SIMULATED_START_MS: u64 = 1_700_000_000_000;

/// Where a machine may stand still while a leader answers reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It leads, by all it knows, and is about to read.
    BeforeRead,
    /// It has read, and answers if it still leads.
    AfterRead {
        /// It is by a lease that it knows, and not by a round to its peers before it read.
        by_lease: bool,
    },
}

/// The rest of a simulated machine, which moves by hand too.
pub trait Machine: Send + Sync {
    /// Does what its threads would while somebody waits for them: writes the log.
    fn work(&self);
    /// For how long it stands still at a place where that could matter, to which it has just come.
    fn pause(&self, at: Place) -> Duration;
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let work = Arc::new(Mutex::new(Some(move || {
        // Who asked may have gone: then nobody is to be told.
        let _ = sender.send(work());
    })));
    let taken = Arc::clone(&work);
    let run = move || {
        let work = taken.lock().take();
        work.into_iter().for_each(|work| work());
    };
    let thread = std::thread::Builder::new().name("cairn-aside".into());
    if thread.spawn(run).is_err() {
        // Better late than never: the system has no thread left.
        let work = work.lock().take();
        work.into_iter().for_each(|work| work());
    }
    receiver.await.ok()
}

impl Executor {
    /// Has `machine` simulated around it. To be set once.
    pub fn set_machine(&self, machine: Box<dyn Machine>) {
        // A second one would be a mistake of the simulation; the first one stays.
        let _ = self.machine.set(machine);
    }

    /// Drops what the tasks of a simulation have left to do: tasks that wait for each other would
    /// keep each other for ever.
    pub fn abandon(&self) {
        let tasks = self.simulated.as_ref().map(|tasks| std::mem::take(&mut *tasks.lock()));
        for task in tasks.unwrap_or_default().iter().filter_map(Weak::upgrade) {
            task.abandon();
        }
        self.ready.lock().clear();
    }

    /// Takes note of a task that a simulation may abandon.
    pub(super) fn keep_in_mind(&self, task: &Arc<Task>) {
        const PRUNE_AT: usize = 1024;
        let Some(tasks) = &self.simulated else { return };
        let mut tasks = tasks.lock();
        if tasks.len() >= PRUNE_AT && tasks.len().is_power_of_two() {
            tasks.retain(|task| task.strong_count() > 0);
        }
        tasks.push(Arc::downgrade(task));
    }

    /// Milliseconds since the Unix epoch, as the group goes by them ([`super::super::clocks`]).
    #[inline]
    pub fn wall_ms(&self) -> u64 {
        self.clocks.agreed_ms(self.own_wall_ms(), || self.now())
    }

    /// What the wall clocks of the group's members say.
    pub(in crate::raft) fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// What this machine's own wall clock says.
    pub(in crate::raft) fn own_wall_ms(&self) -> u64 {
        match self.clock {
            Clock::Boot => clock::wall_ms(),
            Clock::Simulated(_) => SIMULATED_START_MS + self.now().nanos() / 1_000_000,
        }
    }

    /// A stream of seeds that no other run draws from, or that this simulation repeats.
    pub(in crate::raft) fn seeds(&self) -> Seeds {
        match self.clock {
            Clock::Boot => Seeds::new(),
            Clock::Simulated(_) => Seeds::from_seed(self.seed()),
        }
    }

    /// Lets the caller's other work go on for so long. On a machine's own clock to be called inside
    /// of a tokio runtime, whose timers wake on the thread that sleeps.
    pub(in crate::raft) async fn rest(&self, duration: Duration) {
        match self.clock {
            Clock::Boot => tokio::time::sleep(duration).await,
            Clock::Simulated(_) => self.itself().sleep_until(self.now() + duration).await,
        }
    }

    /// Runs what takes long where it holds nobody up, on a thread of its own; None when it panicked.
    /// In a simulation others go on for a while before it is done.
    pub(in crate::raft) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        const SIMULATED_MS: u64 = 20;
        match self.clock {
            Clock::Boot => on_a_thread(work).await,
            Clock::Simulated(_) => {
                self.rest(Duration::from_millis(self.seed() % SIMULATED_MS)).await;
                Some(work())
            }
        }
    }

    /// Whether what need not be done aside is to be, now and then: in a simulation.
    pub(in crate::raft) fn sets_aside_at_will(&self) -> bool {
        match self.clock {
            Clock::Boot => false,
            Clock::Simulated(_) => self.seed().is_multiple_of(8),
        }
    }

    /// A place where it matters if the machine stands still: a simulation may have it do so.
    #[inline]
    pub(in crate::raft) async fn may_pause(&self, at: Place) {
        if let Some(machine) = self.machine.get() {
            let pause = machine.pause(at);
            if !pause.is_zero() {
                self.rest(pause).await;
            }
        }
    }

    /// Does what the machine's other threads would do, where they are simulated.
    pub(super) fn work_machine(&self) -> bool {
        self.machine.get().inspect(|machine| machine.work()).is_some()
    }
}
