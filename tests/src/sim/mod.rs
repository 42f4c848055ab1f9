//! A cluster in one process, from a seed.
//!
//! The product's groups, logs and pools run on media that lose what was not synced ([`machine`]),
//! over a network that loses, delays and doubles ([`network`]), driven by hand ([`member`]) in a time
//! of their own ([`world`]): one thread, and one thing after the other. [`nemesis`] has things go
//! wrong by chance, [`scenes`] on purpose, [`clients`] write and read meanwhile, [`invariants`] judge
//! at every step. All that happens follows from the seed, so a run that fails can be repeated
//! ([`plan`], [`trace`]). [`bugs`] are put in to see that they are caught.

pub mod bugs;
pub mod clients;
pub mod invariants;
pub mod machine;
pub mod member;
pub mod nemesis;
pub mod network;
pub mod plan;
pub mod scenes;
pub mod trace;
pub mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_protocol::ids::NodeId;

use self::clients::History;
use self::invariants::Violation;
use self::machine::Machine;
use self::network::Weather;
use self::plan::Plan;
use self::world::World;
use crate::linearize;
use crate::rng::Rng;

/// Within so long all is well again once nothing goes wrong any more.
const RECOVERY: Duration = Duration::from_secs(30);

/// What came of a run.
pub struct Outcome {
    /// The same for two runs in which the same happened.
    pub digest: u64,
    /// What happened, an event a line: the last of it if it is very much.
    pub events: Vec<String>,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// What did not hold, and what happened before.
    pub failure: Option<String>,
}

/// Where a node is found by the others.
pub(crate) fn address(id: NodeId) -> String {
    format!("node-{}:1", id.0)
}

pub(crate) fn new_machine(world: &World, id: NodeId, address: String) -> Arc<Machine> {
    let (kind, bug) = (world.plan().kind, world.plan().bug);
    Machine::new(id, address, kind, bug, Rng::new(world.draw(u64::MAX)))
}

/// Runs a plan to its end.
pub fn run(plan: Plan) -> Outcome {
    let keeps_events = plan.keeps_events;
    let world = World::new(plan);
    let history = History::default();
    let ran = catch_unwind(AssertUnwindSafe(|| live(&world, &history)));
    let violation = match ran {
        Ok(()) => world.violation(),
        Err(panic) => Some(Violation { invariant: "nothing panics", what: text_of(&*panic) }),
    };
    let failure = violation.map(|violation| {
        let seed = world.plan().seed;
        let trace = world.trace(|trace| trace.to_string());
        format!("seed {seed}: {violation}\n{:?}\n{trace}seed {seed}: {violation}", world.plan())
    });
    let mut counts = world.counts();
    counts.extend(world.links.lock().counts().iter().map(|(what, count)| (*what, *count)));
    world.invariants(|invariants| {
        counts.insert("terms in which somebody led", invariants.terms_led() as u64);
        counts.insert("entries applied", invariants.entries() as u64);
        counts.insert("writes acknowledged", invariants.acknowledged.count() as u64);
        counts.insert("reads judged", invariants.fresh_reads.count() as u64);
    });
    let digest = world.trace(|trace| trace.digest());
    let events = match keeps_events {
        true => world.trace(|trace| trace.lines().collect()),
        false => Vec::new(),
    };
    // What panicked may hold locks for ever.
    if failure.is_none() {
        world.wind_up();
    }
    Outcome { digest, events, counts, failure }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "something panicked".to_owned())
}

/// Birth, a time in which things go wrong, a time in which all must become well, judgement.
fn live(world: &Arc<World>, history: &History) {
    let plan = world.plan().clone();
    let ids: Vec<NodeId> = (1..=plan.members).map(NodeId).collect();
    for id in &ids {
        world.add(new_machine(world, *id, address(*id)));
    }
    for machine in world.machines() {
        world.start_node(&machine);
    }
    let until = plan.chaos.as_nanos() as u64;
    for client in 0..plan.clients {
        world.spawn(clients::run(Arc::clone(world), history.clone(), client, until));
    }
    world.spawn(nemesis::run(Arc::clone(world), until));
    world.spawn(nemesis::tend(Arc::clone(world), until));
    if let Some(scene) = plan.scene {
        world.spawn(scenes::run(Arc::clone(world), scene, until));
    }
    world.run_until(until, |_| false);

    nemesis::heal(world);
    world.set_quiet(false);
    world.links.lock().set_weather(Weather::fair());
    for machine in world.machines() {
        machine.set_fuse(-1);
        machine.set_pool_fuse(-1);
        machine.stand_until(0);
        machine.wake_watchers();
        if !machine.is_up() {
            world.start_node(&machine);
        }
    }
    recover(world, history);
    judge(world, history);
}

/// Waits until all is well.
fn recover(world: &Arc<World>, history: &History) {
    let end = world.now() + RECOVERY.as_nanos() as u64;
    let settled = Arc::<AtomicBool>::default();
    let (task, history, done) = (Arc::clone(world), history.clone(), Arc::clone(&settled));
    let client = world.plan().clients;
    world.spawn(async move {
        // Beyond what may still be on its way.
        task.sleep(Duration::from_secs(1)).await;
        while !task.is_over() {
            if !task.is_changing()
                && clients::settle(Arc::clone(&task), history.clone(), client).await
            {
                return done.store(true, Ordering::Relaxed);
            }
            task.sleep(Duration::from_millis(100)).await;
        }
    });
    world.run_until(end, |world| settled.load(Ordering::Relaxed) && is_in_step(world));
    if world.now() >= end && world.violation().is_none() {
        let stands: Vec<String> = world
            .members()
            .iter()
            .map(|member| {
                let group = &member.group;
                let (role, status, stop) = (group.role(), group.status(), group.stop_reason());
                let applied = group.read().store().applied();
                let (id, members) = (member.machine.id, group.members());
                format!("{id}: {role:?} {status:?} applied {applied:?} {stop:?}\n  {members:?}")
            })
            .collect();
        world.violated(Violation {
            invariant: "all is well once nothing goes wrong any more",
            what: format!(
                "after {RECOVERY:?} {}:\n{}",
                match (world.is_changing(), settled.load(Ordering::Relaxed)) {
                    (true, _) => "a change of members has not come to its end",
                    (_, true) => "not all members have applied all",
                    (_, false) => "clients are not answered",
                },
                stands.join("\n")
            ),
        });
    }
}

/// Whether all members have applied all that there is.
fn is_in_step(world: &World) -> bool {
    let members = world.members();
    let standing = |member: &Arc<member::Member>| {
        (
            member.group.read().store().applied(),
            member.group.log().last(cairn_node::raft::recover::SHARD),
        )
    };
    let Some(leader) = world.leader() else { return false };
    let (applied, last) = standing(&leader);
    last.is_some_and(|last| last.index == applied.1)
        && members.iter().all(|member| standing(member).0 == applied)
        && members.len() == world.machines().len()
}

/// What can be said at the end only.
fn judge(world: &Arc<World>, history: &History) {
    if world.violation().is_some() {
        return;
    }
    world.look_at_disks();
    for machine in world.machines() {
        if let Err(violation) = machine.look_at_durable_pool() {
            return world.violated(violation);
        }
        (0..machine.installs()).for_each(|_| world.count("pools of peers installed"));
    }
    if let Err(violation) = world.invariants(|invariants| invariants.judge()) {
        return world.violated(violation);
    }
    if let Err(violation) = linearize::check(&history.operations()) {
        world.violated(Violation { invariant: "linearizability", what: violation.to_string() });
    }
}
