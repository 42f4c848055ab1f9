//! openraft's runtime: the tasks of one group, run by whoever drives the group.
//!
//! openraft is a handful of tasks that talk over channels. Here they are polled where the group is
//! driven (`raft::group`): by the connection that submits a batch, while it holds the driver's
//! lock. What one write sets off (append, commit, apply) then happens in one go on one thread, with
//! no hop. Whatever wakes a task from elsewhere (the log's thread, the network) rings the bell, and
//! the group sees to it that somebody drives.
//!
//! Time and chance come from the executor too: the machine's, or a simulation's, which moves the
//! clock by hand and draws from a seed ([`outside`]: also for those who are not its tasks).

mod mpsc;
mod outside;
mod watch;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use futures_util::FutureExt;
use openraft::async_runtime::AsyncRuntime;
use openraft::{OptionalSend, impls::TokioRuntime};
use parking_lot::{Condvar, Mutex};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;

pub use self::outside::{Machine, Place};
use super::clocks::Clocks;
use crate::ops::clock;
use crate::ops::entropy::Seeds;

/// A moment: nanoseconds since the machine, or the simulation, was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// The moment `nanos` after the start.
    pub fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the start.
    pub fn nanos(self) -> u64 {
        self.0
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(duration)))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl openraft::Instant for Instant {
    fn now() -> Instant {
        CURRENT.with_borrow(|current| match current {
            Some(executor) => executor.now(),
            None => Instant(clock::boot_nanos()),
        })
    }
}

/// Where an executor's time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's, counted through suspension.
    Boot,
    /// Moved by hand, for all executors that share it.
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    fn now(&self) -> Instant {
        match self {
            Clock::Boot => Instant(clock::boot_nanos()),
            Clock::Simulated(nanos) => Instant(nanos.load(Ordering::Relaxed)),
        }
    }
}

thread_local! {
    /// The executor whose tasks this thread is running.
    static CURRENT: RefCell<Option<Arc<Executor>>> = const { RefCell::new(None) };
}

/// The executor that this thread is running the tasks of.
pub(super) fn current() -> Arc<Executor> {
    // openraft is only called from inside: its tasks, and what `Executor::block_on` runs.
    CURRENT.with_borrow(Clone::clone).expect("inside a group's executor")
}

/// While it lives, this thread is inside the executor.
struct Inside(Option<Arc<Executor>>);

impl Drop for Inside {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Those who sleep, the next to wake first.
#[derive(Default)]
struct Timers {
    sleepers: BTreeMap<(Instant, u64), Waker>,
    last_id: u64,
    /// When the thread that waits for the next one means to look again.
    armed: Option<Instant>,
    /// It is to look at once.
    hurried: bool,
}

/// The tasks of a group.
pub struct Executor {
    ready: Mutex<VecDeque<Arc<Task>>>,
    timers: Mutex<Timers>,
    /// Rung when a timer was set that is due before the one waited for.
    sooner: Condvar,
    clock: Clock,
    clocks: Clocks,
    seeds: Mutex<Seeds>,
    /// Draws the order in which tasks run, where that is to vary.
    shuffle: Option<Mutex<Seeds>>,
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The thread in [`Executor::block_on`].
    blocked: Mutex<Option<Thread>>,
    /// All tasks of a simulation.
    simulated: Option<Mutex<Vec<Weak<Task>>>>,
    /// What is simulated around it.
    machine: OnceLock<Box<dyn Machine>>,
    itself: Weak<Executor>,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").finish_non_exhaustive()
    }
}

impl Executor {
    /// One that lives by the machine's clock.
    pub fn new() -> Arc<Executor> {
        Executor::with(Clock::Boot, Seeds::new(), None)
    }

    /// One that lives by a clock moved by hand, and whose every choice, the order of its tasks
    /// included, follows from `seed`.
    pub fn simulated(clock: Arc<AtomicU64>, seed: u64) -> Arc<Executor> {
        let order = Seeds::from_seed(seed ^ 0x6f72_6465_7200);
        Executor::with(Clock::Simulated(clock), Seeds::from_seed(seed), Some(order))
    }

    fn with(clock: Clock, seeds: Seeds, shuffle: Option<Seeds>) -> Arc<Executor> {
        Arc::new_cyclic(|itself| Executor {
            ready: Mutex::default(),
            timers: Mutex::default(),
            sooner: Condvar::new(),
            clock,
            clocks: Clocks::default(),
            seeds: Mutex::new(seeds),
            simulated: shuffle.is_some().then(Mutex::default),
            shuffle: shuffle.map(Mutex::new),
            bell: OnceLock::new(),
            blocked: Mutex::default(),
            machine: OnceLock::new(),
            itself: Weak::clone(itself),
        })
    }

    fn itself(&self) -> Arc<Executor> {
        // Whoever calls holds one.
        self.itself.upgrade().expect("it is in use")
    }

    /// Has `bell` called whenever a task becomes ready while this thread is not running them. To
    /// be set once. It must not run tasks itself: whoever wakes may hold locks.
    pub fn set_bell(&self, bell: Box<dyn Fn() + Send + Sync>) {
        // A second bell would be a mistake of the composition; the first one stays.
        let _ = self.bell.set(bell);
    }

    /// The time by its clock.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Whether there is something to run.
    pub fn has_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    /// Runs what is ready, and what becomes ready by that. One thread at a time may be at it.
    pub fn run(self: &Arc<Self>) {
        self.run_while(|| true);
    }

    /// The same, but looks before each task whether to go on; what is left is run the next time.
    pub fn run_while(self: &Arc<Self>, go_on: impl Fn() -> bool) {
        let _inside = self.enter();
        while go_on()
            && let Some(task) = self.next()
        {
            task.run();
        }
    }

    /// Calls `f` as one of its tasks would: what that wakes does not ring the bell.
    pub fn within<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T {
        let _inside = self.enter();
        f()
    }

    /// Runs one task that is ready; says whether there was one. For simulations.
    pub fn run_one(self: &Arc<Self>) -> bool {
        let _inside = self.enter();
        self.next().is_some_and(|task| {
            task.run();
            true
        })
    }

    /// Runs tasks on this thread until `future` has come to its end, waiting when none is ready.
    /// Nobody else may run them meanwhile.
    pub fn block_on<T>(self: &Arc<Self>, future: impl Future<Output = T>) -> T {
        let mut future = pin!(unconstrained(future));
        *self.blocked.lock() = Some(std::thread::current());
        let alarm = Arc::new(Alarm { executor: Arc::clone(self), rung: AtomicBool::new(true) });
        let waker = Waker::from(Arc::clone(&alarm));
        loop {
            self.run();
            if alarm.rung.swap(false, Ordering::AcqRel) {
                let _inside = self.enter();
                if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    *self.blocked.lock() = None;
                    return done;
                }
            } else {
                self.doze(&alarm);
            }
            self.fire();
        }
    }

    /// Waits for something to do: at most until the next timer is due.
    fn doze(&self, alarm: &Alarm) {
        const LONGEST: Duration = Duration::from_millis(100);
        if self.work_machine() {
            return;
        }
        if !self.has_ready() && !alarm.rung.load(Ordering::Acquire) {
            let until_next = self.next_timer().map_or(LONGEST, |at| at - self.now());
            std::thread::park_timeout(until_next.min(LONGEST));
        }
    }

    /// Starts a task.
    pub fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let (sender, receiver) = oneshot::channel();
        let future = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            // Whoever dropped the handle does not want to know.
            let _ = sender.send(outcome.map_err(|_| JoinError::Panicked));
        };
        // Tokio's channels ration what one of *its* tasks may do at a time; these are not its.
        let future: BoxFuture = Box::pin(unconstrained(future));
        let task = Arc::new(Task {
            executor: Arc::downgrade(self),
            queued: AtomicBool::new(true),
            future: Mutex::new(Some(future)),
        });
        self.keep_in_mind(&task);
        self.push(task);
        JoinHandle(receiver)
    }

    /// Wakes those whose time has come.
    pub fn fire(&self) {
        let now = self.now();
        loop {
            let mut timers = self.timers.lock();
            match timers.sleepers.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let waker = first.remove();
                    drop(timers);
                    waker.wake();
                }
                _ => return,
            }
        }
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.lock().sleepers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Waits until a timer is due, or for `longest`, or until [`Executor::hurry`].
    pub fn wait_for_timer(&self, longest: Duration) {
        let mut timers = self.timers.lock();
        let next = timers.sleepers.first_key_value().map(|((at, _), _)| *at);
        let now = self.now();
        let until = next.map_or(now + longest, |at| at.min(now + longest));
        timers.armed = Some(until);
        if until > now && !timers.hurried {
            self.sooner.wait_for(&mut timers, until - now);
        }
        (timers.armed, timers.hurried) = (None, false);
    }

    /// Ends a wait for timers, or the next one before it begins.
    pub fn hurry(&self) {
        self.timers.lock().hurried = true;
        self.sooner.notify_one();
    }

    fn enter(self: &Arc<Self>) -> Inside {
        Inside(CURRENT.replace(Some(Arc::clone(self))))
    }

    fn is_current(&self) -> bool {
        CURRENT.with_borrow(|current| {
            current.as_ref().is_some_and(|current| std::ptr::eq(Arc::as_ptr(current), self))
        })
    }

    fn next(&self) -> Option<Arc<Task>> {
        let mut ready = self.ready.lock();
        if let Some(order) = &self.shuffle
            && ready.len() > 1
        {
            let at = order.lock().next_seed() as usize % ready.len();
            return ready.remove(at);
        }
        ready.pop_front()
    }

    fn push(&self, task: Arc<Task>) {
        self.ready.lock().push_back(task);
        self.ring();
    }

    fn ring(&self) {
        if self.is_current() {
            return;
        }
        if let Some(blocked) = self.blocked.lock().as_ref() {
            blocked.unpark();
        } else if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// Ends at that moment, by its clock.
    pub fn sleep_until(self: Arc<Self>, deadline: Instant) -> Sleep {
        Sleep { executor: self, deadline, id: None }
    }

    fn seed(&self) -> u64 {
        self.seeds.lock().next_seed()
    }
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    executor: Weak<Executor>,
    /// Among those that are ready.
    queued: AtomicBool,
    /// None once it has ended.
    future: Mutex<Option<BoxFuture>>,
}

impl Task {
    fn run(self: Arc<Self>) {
        // Before it is polled: what wakes it meanwhile has it polled again.
        self.queued.store(false, Ordering::Release);
        let mut slot = self.future.lock();
        let Some(future) = slot.as_mut() else { return };
        let waker = Waker::from(Arc::clone(&self));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            *slot = None;
        }
    }
}

impl Task {
    /// Drops what it has left to do.
    fn abandon(&self) {
        let future = self.future.lock().take();
        drop(future);
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel)
            && let Some(executor) = self.executor.upgrade()
        {
            executor.push(self);
        }
    }
}

/// Wakes a thread in [`Executor::block_on`].
struct Alarm {
    executor: Arc<Executor>,
    rung: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.executor.ring();
    }
}

/// Why there is no outcome of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked.
    Panicked,
    /// The executor was dropped with it.
    Dropped,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinError::Panicked => "the task panicked",
            JoinError::Dropped => "the task was dropped",
        })
    }
}

/// Waits for a task's outcome. Dropping it lets the task go on.
#[derive(Debug)]
pub struct JoinHandle<T>(oneshot::Receiver<Result<T, JoinError>>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx).map(|sent| sent.unwrap_or(Err(JoinError::Dropped)))
    }
}

/// Ends at a moment.
#[derive(Debug)]
pub struct Sleep {
    executor: Arc<Executor>,
    deadline: Instant,
    /// Its number among the sleepers.
    id: Option<u64>,
}

impl Sleep {
    fn forget(&mut self) {
        if let Some(id) = self.id.take() {
            self.executor.timers.lock().sleepers.remove(&(self.deadline, id));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        let this = &mut *self;
        let mut timers = this.executor.timers.lock();
        let id = *this.id.get_or_insert_with(|| {
            timers.last_id += 1;
            timers.last_id
        });
        timers.sleepers.insert((this.deadline, id), cx.waker().clone());
        if timers.armed.is_some_and(|armed| this.deadline < armed) {
            this.executor.sooner.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A future took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

/// A future with a deadline.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(done) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        self.sleep.poll_unpin(cx).map(|()| Err(Elapsed))
    }
}

/// openraft's handle on the executor that it runs in.
#[derive(Debug)]
pub struct GroupRuntime(Arc<Executor>);

impl AsyncRuntime for GroupRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = mpsc::GroupMpsc;
    type Watch = watch::GroupWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        current().spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        let executor = current();
        let deadline = executor.now() + duration;
        executor.sleep_until(deadline)
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        current().sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: Self::sleep(duration) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Instant,
        future: F,
    ) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: Self::sleep_until(deadline) }
    }

    fn is_panic(error: &JoinError) -> bool {
        *error == JoinError::Panicked
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(current().seed())
    }

    fn new(_threads: usize) -> GroupRuntime {
        GroupRuntime(Executor::new())
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// openraft's own tests of a runtime.
    #[test]
    fn it_is_what_openraft_asks_for() {
        openraft::testing::runtime::Suite::<GroupRuntime>::test_all();
    }

    fn simulated(seed: u64) -> (Arc<Executor>, Arc<AtomicU64>) {
        let clock = Arc::<AtomicU64>::default();
        (Executor::simulated(Arc::clone(&clock), seed), clock)
    }

    fn note(notes: &Arc<Mutex<Vec<u64>>>, what: u64) {
        notes.lock().push(what);
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_deadlines_when_the_clock_says_so() {
        let (executor, clock) = simulated(1);
        let notes = Arc::<Mutex<Vec<u64>>>::default();
        for ms in [30, 10, 20] {
            let notes = Arc::clone(&notes);
            executor.spawn(async move {
                GroupRuntime::sleep(Duration::from_millis(ms)).await;
                note(&notes, ms);
            });
        }
        executor.run();
        while let Some(at) = executor.next_timer() {
            clock.store(at.nanos(), Ordering::Relaxed);
            executor.fire();
            executor.run();
        }
        assert_eq!(*notes.lock(), [10, 20, 30]);
        assert_eq!(clock.load(Ordering::Relaxed), 30_000_000);
    }

    #[test]
    fn a_seed_decides_the_order_of_tasks() {
        let order = |seed| {
            let (executor, _) = simulated(seed);
            let notes = Arc::<Mutex<Vec<u64>>>::default();
            for task in 0..20 {
                let notes = Arc::clone(&notes);
                executor.spawn(async move { note(&notes, task) });
            }
            executor.run();
            notes.lock().clone()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn the_bell_rings_for_what_comes_from_outside_only() {
        let executor = Executor::new();
        let rung = Arc::<AtomicU64>::default();
        let count = Arc::clone(&rung);
        executor.set_bell(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let (sender, receiver) = oneshot::channel::<()>();
        executor.spawn(async move {
            GroupRuntime::spawn(async {}).await.expect("runs");
            receiver.await.expect("sent");
        });
        assert_eq!(rung.load(Ordering::Relaxed), 1, "for the task itself");
        executor.run();
        assert_eq!(rung.load(Ordering::Relaxed), 1, "for nothing inside");
        sender.send(()).expect("awaited");
        assert_eq!(rung.load(Ordering::Relaxed), 2);
        assert!(executor.has_ready());
        executor.run();
        assert!(!executor.has_ready());
    }
}
