//! The world of a simulation: its time, its chance, everything in it, one thing after the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use cairn_node::raft::runtime::{Executor, Instant};
use cairn_node::transport::BoxFuture;
use cairn_node::transport::mem::{Fate, Flight, MemNetwork, Scheduler};
use cairn_protocol::ids::NodeId;
use parking_lot::Mutex;

use super::invariants::{Invariants, Violation};
use super::machine::Machine;
use super::member::Member;
use super::network::Links;
use super::plan::Plan;
use super::trace::{Event, Trace};
use crate::rng::Rng;

/// Everything there is.
pub struct World {
    plan: Plan,
    clock: Arc<AtomicU64>,
    executor: Arc<Executor>,
    rng: Mutex<Rng>,
    network: OnceLock<MemNetwork>,
    /// How messages fare.
    pub links: Mutex<Links>,
    machines: Mutex<BTreeMap<NodeId, Arc<Machine>>>,
    members: Mutex<BTreeMap<NodeId, Arc<Member>>>,
    trace: Mutex<Trace>,
    invariants: Mutex<Invariants>,
    violation: Mutex<Option<Violation>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// The operation that somebody executes at this moment; 0: none.
    asking: AtomicU64,
    /// Machines that are to stand still when they are next about to read, and for how long.
    traps: Mutex<BTreeMap<NodeId, Duration>>,
    /// Nobody writes.
    quiet: AtomicBool,
    /// The members are being changed.
    changing: AtomicBool,
    over: AtomicBool,
}

impl World {
    /// An empty one.
    pub fn new(plan: Plan) -> Arc<World> {
        let clock = Arc::<AtomicU64>::default();
        let mut rng = Rng::new(plan.seed);
        let executor = Executor::simulated(Arc::clone(&clock), rng.bits());
        let world = Arc::new(World {
            plan,
            clock,
            executor,
            rng: Mutex::new(rng),
            network: OnceLock::new(),
            links: Mutex::default(),
            machines: Mutex::default(),
            members: Mutex::default(),
            trace: Mutex::default(),
            invariants: Mutex::default(),
            violation: Mutex::default(),
            counts: Mutex::default(),
            asking: AtomicU64::new(0),
            traps: Mutex::default(),
            quiet: AtomicBool::new(false),
            changing: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let network = MemNetwork::new(Arc::new(Air(Arc::downgrade(&world))));
        // It is set here alone.
        let _ = world.network.set(network);
        world
    }

    /// What is to happen.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the nodes talk over.
    pub fn network(&self) -> &MemNetwork {
        self.network.get().expect("made with the world")
    }

    /// Nanoseconds since its beginning.
    pub fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// A number below `end`.
    pub fn draw(&self, end: u64) -> u64 {
        self.rng.lock().below(end)
    }

    /// Draws something.
    pub fn draw_with<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock())
    }

    /// For how long a thread stands still where it may.
    pub fn draw_pause(&self) -> Duration {
        let rng = &mut *self.rng.lock();
        match rng.once_in(self.plan.pause_once_in) {
            true => Duration::from_millis(1 + rng.below(1500)),
            false => Duration::ZERO,
        }
    }

    /// Counts something that happened.
    pub fn count(&self, what: &'static str) {
        *self.counts.lock().entry(what).or_default() += 1;
    }

    /// What was counted.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().clone()
    }

    /// Takes note of something.
    pub fn note(&self, event: Event) {
        self.trace.lock().note(self.now(), event);
    }

    /// Takes note of something that was done.
    pub fn tell(&self, what: String) {
        self.note(Event::Done(what));
    }

    /// Looks into what has happened.
    pub fn trace<T>(&self, look: impl FnOnce(&Trace) -> T) -> T {
        look(&self.trace.lock())
    }

    /// Everything to be judged at the end.
    pub fn invariants<T>(&self, look: impl FnOnce(&mut Invariants) -> T) -> T {
        look(&mut self.invariants.lock())
    }

    /// Something is wrong: the first such is what counts.
    pub fn violated(&self, violation: Violation) {
        self.violation.lock().get_or_insert(violation);
    }

    /// What is wrong.
    pub fn violation(&self) -> Option<Violation> {
        self.violation.lock().clone()
    }

    /// The operation that is executed at this moment.
    pub fn asking(&self) -> Option<u64> {
        Some(self.asking.load(Ordering::Relaxed)).filter(|operation| *operation != 0)
    }

    /// Has a machine stand still for so long when it is next about to read.
    pub fn set_trap(&self, id: NodeId, pause: Duration) {
        self.traps.lock().insert(id, pause);
    }

    /// For how long it is to stand still, now that it is there.
    pub fn spring_trap(&self, id: NodeId) -> Option<Duration> {
        self.traps.lock().remove(&id)
    }

    /// Has clients write nothing, or again.
    pub fn set_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Relaxed);
    }

    /// Whether nobody is to write.
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Begins a change of the members, if none is under way.
    pub fn begin_change(&self) -> bool {
        !self.changing.swap(true, Ordering::Relaxed)
    }

    /// It has come to its end.
    pub fn end_change(&self) {
        self.changing.store(false, Ordering::Relaxed);
    }

    /// Whether one is under way.
    pub fn is_changing(&self) -> bool {
        self.changing.load(Ordering::Relaxed)
    }

    /// Whether everybody is to come to an end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Starts something that goes on beside all else.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.executor.spawn(task));
    }

    /// Ends after so long.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let until = self.executor.now() + duration;
        Arc::clone(&self.executor).sleep_until(until)
    }

    /// Ends after so many microseconds.
    pub fn sleep_us(&self, us: u64) -> impl Future<Output = ()> + Send + 'static {
        self.sleep(Duration::from_micros(us))
    }

    /// Ends when that machine moves.
    pub async fn while_standing(&self, machine: &Machine) {
        while machine.is_up() && machine.stands_until() > self.now() {
            let until = Instant::from_nanos(machine.stands_until());
            Arc::clone(&self.executor).sleep_until(until).await;
        }
    }

    /// Puts a machine there.
    pub fn add(&self, machine: Arc<Machine>) {
        machine.set_clock(self.now());
        self.machines.lock().insert(machine.id, machine);
    }

    /// Takes one away for good.
    pub fn discard(&self, machine: &Machine) {
        self.machines.lock().remove(&machine.id);
    }

    /// All machines.
    pub fn machines(&self) -> Vec<Arc<Machine>> {
        self.machines.lock().values().cloned().collect()
    }

    /// All nodes that run.
    pub fn members(&self) -> Vec<Arc<Member>> {
        let members = self.members.lock();
        members.values().filter(|member| member.runs()).cloned().collect()
    }

    /// The node that runs under this name.
    pub fn member(&self, id: NodeId) -> Option<Arc<Member>> {
        self.members.lock().get(&id).filter(|member| member.runs()).cloned()
    }

    /// A node that leads, as far as it knows.
    pub fn leader(&self) -> Option<Arc<Member>> {
        // The one of the latest term: another may not know yet that it was unseated.
        let leaders = self.members().into_iter().filter(|member| member.group.leads());
        leaders.max_by_key(|member| member.group.status().term)
    }

    /// Whether the node on that machine leads, as far as it knows.
    pub fn leads(&self, machine: &Machine) -> bool {
        self.member(machine.id).is_some_and(|member| member.group.leads())
    }

    /// Starts a node on `machine`. One of the first members knows at each start who they are.
    pub fn start_node(self: &Arc<Self>, machine: &Arc<Machine>) {
        let first = (1..=self.plan.members).map(|id| (NodeId(id), super::address(NodeId(id))));
        let first = (machine.id.0 <= self.plan.members).then(|| first.collect());
        machine.power_up();
        machine.set_clock(self.now());
        if let Err(violation) = machine.look_at_pool() {
            return self.violated(violation);
        }
        match Member::start(self, machine, first) {
            Ok(member) => {
                self.spawn(Arc::clone(&member).commit_for_ever(Arc::clone(self)));
                self.members.lock().insert(machine.id, member);
                self.tell(format!("{} starts", machine.id));
            }
            Err(_) if !machine.is_up() => self.tell(format!("{} fails as it starts", machine.id)),
            Err(error) => self.violated(Violation {
                invariant: "what a failure leaves can be gone on with",
                what: format!("node {} does not start: {error}", machine.id),
            }),
        }
    }

    /// Lets everything happen that happens until `end`, or until something is wrong or `enough`.
    pub fn run_until(self: &Arc<Self>, end: u64, mut enough: impl FnMut(&World) -> bool) {
        while self.violation.lock().is_none() && !enough(self) {
            self.bury_the_dead();
            if !self.step() && !self.advance(end) {
                return;
            }
        }
    }

    /// Does one thing that is ready, whichever it is; false when nothing is.
    fn step(self: &Arc<Self>) -> bool {
        let now = self.now();
        let members = self.members().into_iter();
        let mut ready: Vec<_> = members.filter(|member| member.is_ready(now)).map(Some).collect();
        if self.executor.has_ready() {
            ready.push(None);
        }
        if ready.is_empty() {
            return false;
        }
        let at = self.draw(ready.len() as u64) as usize;
        match ready.swap_remove(at) {
            Some(member) => member.step(),
            None => drop(self.executor.run_one()),
        }
        // A clock that showed something else for a moment.
        self.machines.lock().values().for_each(|machine| machine.set_clock(now));
        let members = self.members();
        for member in &members {
            member.write_log(self);
            self.look_at(member);
        }
        if let Err(violation) = self.invariants.lock().look_at_leases(&members) {
            self.violated(violation);
        }
        true
    }

    fn look_at(&self, member: &Member) {
        let mut invariants = self.invariants.lock();
        match invariants.look(member) {
            Ok(Some(event)) => self.note(event),
            Ok(None) => {}
            Err(violation) => self.violated(violation),
        }
    }

    /// Looks at what is durable on the machines.
    pub fn look_at_disks(&self) {
        if let Err(violation) = self.invariants.lock().look_at_disks(&self.machines()) {
            self.violated(violation);
        }
    }

    /// Moves time to when something happens next; false when that is not before `end`.
    fn advance(&self, end: u64) -> bool {
        let members = self.members();
        let next = members.iter().filter_map(|member| member.next_timer());
        let next = next.chain(self.executor.next_timer().map(Instant::nanos)).min();
        let next = next.unwrap_or(u64::MAX).max(self.now());
        let to = next.min(end);
        self.clock.store(to, Ordering::Relaxed);
        self.machines.lock().values().for_each(|machine| machine.set_clock(to));
        if next >= end {
            return false;
        }
        self.executor.fire();
        for member in members {
            if member.machine.stands_until() <= to {
                member.executor.fire();
            }
        }
        true
    }

    /// Clears away nodes whose machines have failed.
    fn bury_the_dead(&self) {
        let dead: Vec<_> = self.members.lock().extract_if(.., |_, member| !member.runs()).collect();
        for (id, member) in dead {
            self.tell(format!("{id} is gone"));
            self.invariants.lock().forget(id);
            member.bury();
            member.machine.wake_watchers();
        }
    }

    /// Brings everything to an end, so that nothing is left of it.
    pub fn wind_up(self: &Arc<Self>) {
        const STEPS: usize = 1_000_000;
        self.over.store(true, Ordering::Relaxed);
        for machine in self.machines() {
            machine.end(super::machine::End::Kill);
        }
        self.bury_the_dead();
        self.machines.lock().clear();
        for _ in 0..STEPS {
            if self.executor.run_one() {
                continue;
            }
            let Some(next) = self.executor.next_timer() else { break };
            self.clock.fetch_max(next.nanos(), Ordering::Relaxed);
            self.executor.fire();
        }
        self.executor.abandon();
    }
}

/// What carries the messages.
struct Air(Weak<World>);

impl Air {
    fn world(&self) -> Arc<World> {
        self.0.upgrade().expect("messages are sent in a world")
    }
}

impl Scheduler for Air {
    fn fate(&self, flight: &Flight) -> Fate {
        let world = &self.world();
        let is_up = |id| world.machines.lock().get(&id).is_some_and(|machine| machine.is_up());
        let fate = match (is_up(flight.from), is_up(flight.to)) {
            (false, _) => Fate::Lost,
            (true, false) => Fate::Cut,
            (true, true) => world.links.lock().fate(flight, &mut world.rng.lock()),
        };
        world.note(Event::Sent(*flight, fate));
        fate
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(self.world().sleep(duration))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.world().spawn(task);
    }
}

/// Runs `future` and says meanwhile for which operation that is.
pub async fn on_behalf_of<T>(
    world: &World,
    operation: u64,
    future: impl Future<Output = T> + Send,
) -> T {
    let mut future = Box::pin(future);
    std::future::poll_fn(|cx| {
        let before = world.asking.swap(operation, Ordering::Relaxed);
        let polled = future.as_mut().poll(cx);
        world.asking.store(before, Ordering::Relaxed);
        polled
    })
    .await
}

/// Waits for `future` for as long as the node runs, and its machine moves, and at most `longest`;
/// None when it came to no end.
pub async fn mortal<T>(
    world: &World,
    member: &Member,
    longest: Duration,
    future: impl Future<Output = T> + Send,
) -> Option<T> {
    let (mut future, mut late) = (Box::pin(future), Box::pin(world.sleep(longest)));
    loop {
        let outcome = std::future::poll_fn(|cx| {
            if !member.runs() || late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(None));
            }
            member.machine.watch_for(cx.waker());
            if member.machine.stands_until() > world.now() {
                return Poll::Ready(None);
            }
            match future.as_mut().poll(cx) {
                // Whatever it has heard, it tells nobody if its machine failed with that.
                Poll::Ready(outcome) => Poll::Ready(Some(member.runs().then_some(outcome))),
                Poll::Pending => Poll::Pending,
            }
        });
        match outcome.await {
            Some(outcome) => return outcome,
            None => world.while_standing(&member.machine).await,
        }
    }
}
