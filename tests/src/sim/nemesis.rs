//! What goes wrong, and when.

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::ids::NodeId;

use super::machine::{End, Machine};
use super::member::Member;
use super::network::Weather;
use super::world::{World, mortal};

/// For how long one way of handing over is waited for.
const HAND_OVER: Duration = Duration::from_secs(3);

/// Has things go wrong until a moment of the world.
pub async fn run(world: Arc<World>, until: u64) {
    while world.now() < until && !world.is_over() {
        world.sleep_us(1 + world.draw(world.plan().trouble_us)).await;
        if world.now() >= until {
            return;
        }
        world.look_at_disks();
        let troubles = world.plan().troubles;
        match world.draw(14) {
            0..=1 if troubles.network => change_weather(&world),
            2..=3 if troubles.network => cut_ways(&world),
            4 if troubles.network => heal(&world),
            5..=6 if troubles.crashes => fail(&world),
            7 if troubles.crashes => light_fuse(&world),
            8 if troubles.crashes => fail_all(&world),
            9 if troubles.crashes && troubles.network => cut_one_and_restart_another(&world),
            10 if troubles.pauses => stand_still(&world),
            11 if troubles.members => world.spawn(hand_over(Arc::clone(&world))),
            12..=13 if troubles.members => change_members(&world),
            _ => {}
        }
    }
}

fn change_weather(world: &World) {
    let weather = world.draw_with(Weather::draw);
    world.tell(format!("the weather changes: {weather:?}"));
    world.links.lock().set_weather(weather);
    world.count("changes of weather");
}

/// Everything arrives again.
pub fn heal(world: &World) {
    world.tell("all ways are open".into());
    world.links.lock().heal();
}

fn ids(world: &World) -> Vec<NodeId> {
    world.machines().iter().map(|machine| machine.id).collect()
}

/// One of the nodes, the leader oftener than others.
fn somebody(world: &World) -> Option<Arc<Machine>> {
    let leader = world.leader().filter(|_| world.draw(3) == 0);
    let machines = world.machines();
    leader.map(|member| Arc::clone(&member.machine)).or_else(|| {
        let at = world.draw(machines.len().max(1) as u64) as usize;
        machines.get(at).cloned()
    })
}

/// Closes ways between the nodes: between two parts of them, around one, or in one direction.
fn cut_ways(world: &World) {
    let ids = ids(world);
    let Some(one) = somebody(world).map(|machine| machine.id) else { return };
    let (how, refuses) = (world.draw(5), world.draw(2) == 0);
    let side: Vec<bool> = ids.iter().map(|_| world.draw(2) == 0).collect();
    let mut links = world.links.lock();
    links.heal();
    for (at, from) in ids.iter().enumerate() {
        for (to_at, to) in ids.iter().enumerate() {
            let is_closed = match how {
                0 => side[at] != side[to_at],
                1 => (*from == one) != (*to == one),
                2 => *from == one && *to != one,
                3 => *from != one && *to == one,
                // A ring: each reaches its neighbours only.
                _ => at.abs_diff(to_at) > 1 && at.abs_diff(to_at) < ids.len() - 1,
            };
            if is_closed {
                links.close(*from, *to, refuses);
            }
        }
    }
    drop(links);
    let name = ["two parts", "one alone", "one is not heard", "one does not hear", "a ring"];
    world.tell(format!("ways are closed: {} ({one}), {side:?}", name[how as usize]));
    world.count("cuts");
}

fn how_to_end(world: &World, machine: &Machine) -> End {
    match machine.survives_power_loss() && world.draw(4) > 0 {
        true => End::PowerLoss,
        false => End::Kill,
    }
}

/// Ends a node.
pub(super) fn end(world: &Arc<World>, machine: &Arc<Machine>) {
    let how = how_to_end(world, machine);
    world.tell(format!("{} fails: {how:?}", machine.id));
    machine.end(how);
    world.count("failures");
}

/// Starts a node that has failed again, some time from now.
fn start_later(world: &Arc<World>, machine: Arc<Machine>) {
    let after_us = world.draw_with(|rng| {
        let most = *rng.pick(&[5_000, 100_000, 500_000, 3_000_000]);
        1 + rng.below(most)
    });
    let (task, start) = (Arc::clone(world), machine.starts());
    world.spawn(async move {
        task.sleep_us(after_us).await;
        let is_there = task.machines().iter().any(|there| Arc::ptr_eq(there, &machine));
        if is_there && !machine.is_up() && machine.starts() == start && !task.is_over() {
            task.start_node(&machine);
        }
    });
}

fn fail(world: &Arc<World>) {
    let Some(machine) = somebody(world).filter(|machine| machine.is_up()) else { return };
    end(world, &machine);
    start_later(world, machine);
}

fn fail_all(world: &Arc<World>) {
    for machine in world.machines() {
        if machine.is_up() {
            end(world, &machine);
            start_later(world, machine);
        }
    }
    world.count("failures of all");
}

/// Has the power fail while the node writes.
fn light_fuse(world: &Arc<World>) {
    let Some(machine) = somebody(world).filter(|machine| machine.is_up()) else { return };
    if !machine.survives_power_loss() {
        return;
    }
    machine.set_fuse(world.draw(40) as i64);
    world.tell(format!("{} will fail as it writes", machine.id));
    world.count("failures in a write");
}

/// Starts nodes that have failed by themselves, from time to time.
pub async fn tend(world: Arc<World>, until: u64) {
    while world.now() < until && !world.is_over() {
        world.sleep_us(50_000).await;
        for machine in world.machines() {
            if !machine.is_up() && world.draw(10) == 0 {
                start_later(&world, machine);
            }
        }
    }
}

/// What a member forgets as it starts matters when the others cannot see each other.
fn cut_one_and_restart_another(world: &Arc<World>) {
    let Some(leader) = world.leader() else { return };
    let others: Vec<_> =
        world.machines().into_iter().filter(|m| m.id != leader.machine.id).collect();
    if others.len() < 2 {
        return;
    }
    let at = world.draw(others.len() as u64) as usize;
    let (cut, restarted) = (others[at].id, &others[(at + 1) % others.len()]);
    let refuses = world.draw(2) == 0;
    let mut links = world.links.lock();
    links.heal();
    links.close(cut, leader.machine.id, refuses);
    links.close(leader.machine.id, cut, refuses);
    drop(links);
    world.tell(format!("{cut} does not see the leader any more"));
    world.count("cuts");
    let (task, machine) = (Arc::clone(world), Arc::clone(restarted));
    let after_us = 100_000 + world.draw(400_000);
    world.spawn(async move {
        task.sleep_us(after_us).await;
        if machine.is_up() && !task.is_over() {
            end(&task, &machine);
            let start = machine.starts();
            task.sleep_us(1 + task.draw(50_000)).await;
            if !machine.is_up() && machine.starts() == start && !task.is_over() {
                task.start_node(&machine);
            }
        }
    });
}

fn stand_still(world: &World) {
    let Some(machine) = somebody(world) else { return };
    let ms = world.draw_with(|rng| {
        let most = *rng.pick(&[50, 500, 2000]);
        1 + rng.below(most)
    });
    machine.stand_until(world.now() + ms * 1_000_000);
    world.tell(format!("{} stands still for {ms} ms", machine.id));
    world.count("pauses");
}

async fn hand_over(world: Arc<World>) {
    let Some(leader) = world.leader() else { return };
    world.tell(format!("{} is to hand over", leader.machine.id));
    mortal(&world, &leader, HAND_OVER, leader.group.hand_over()).await;
    world.count("hand-overs");
}

/// Replaces a machine by a new one under another id, or adds one.
fn change_members(world: &Arc<World>) {
    if !world.begin_change() {
        return;
    }
    let machines = world.machines();
    let replaced = machines.iter().find(|_| world.draw(machines.len() as u64) == 0);
    let replaced = replaced.or(machines.last()).filter(|_| world.draw(3) > 0).cloned();
    if replaced.is_none() && machines.len() as u64 > world.plan().members {
        return world.end_change();
    }
    let id = NodeId(machines.iter().map(|machine| machine.id.0).max().unwrap_or(0) + 1);
    let address = match &replaced {
        Some(machine) => machine.address.clone(),
        None => super::address(id),
    };
    if let Some(machine) = &replaced {
        machine.end(End::Kill);
        world.discard(machine);
    }
    let new = super::new_machine(world, id, address);
    world.add(Arc::clone(&new));
    world.tell(match &replaced {
        Some(old) => format!("{id} with a new disk takes the place of {}", old.id),
        None => format!("{id} wants to come in"),
    });
    world.start_node(&new);
    world.count(if replaced.is_some() { "members replaced" } else { "members added" });
    let old = replaced.map(|machine| machine.id);
    world.spawn(join(Arc::clone(world), new, old));
}

/// Asks whoever leads to take a node in, until it is in and the one in whose place it comes is out.
async fn join(world: Arc<World>, new: Arc<Machine>, old: Option<NodeId>) {
    while !world.is_over() {
        world.sleep_us(200_000).await;
        let Some(leader) = world.leader() else { continue };
        let members = leader.group.members();
        let is_in = members.iter().any(|member| member.node == new.id && member.is_voter);
        let is_out = members.iter().all(|member| Some(member.node) != old);
        if is_in && is_out && is_agreed(&leader) {
            world.tell(format!("{} is in", new.id));
            world.count("members taken in");
            return world.end_change();
        }
        leader.group.admit(new.id, &new.address);
    }
}

/// Whether nothing is on its way to being agreed on, the members among it.
fn is_agreed(leader: &Member) -> bool {
    let status = leader.group.status();
    leader.group.leads() && status.committed == status.last
}
