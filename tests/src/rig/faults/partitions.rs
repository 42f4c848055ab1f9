//! Nodes that run and do not hear each other.

use super::{Fault, USUAL};
use crate::rig::scene::Scene;
use crate::rig::switch::Link;

pub(super) static FAULTS: &[Fault] = &[
    Fault { name: "leader, UDP only", rounds: 10, round: leader_udp, ..PARTITIONS },
    Fault { name: "leader, clients too", rounds: 5, round: leader_alone, ..PARTITIONS },
    Fault { name: "follower", rounds: 10, round: follower, ..PARTITIONS },
    Fault { name: "everybody", rounds: 5, round: everybody, ..PARTITIONS },
    Fault { name: "halves of five", rounds: 5, nodes: 5, round: halves, ..PARTITIONS },
    Fault { name: "leader is not heard", rounds: 5, round: |s, _| one_way(s, true), ..PARTITIONS },
    Fault {
        name: "leader does not hear",
        rounds: 5,
        round: |s, _| one_way(s, false),
        ..PARTITIONS
    },
    Fault { name: "bridge", rounds: 5, round: bridge, ..PARTITIONS },
    Fault { name: "ring of five", rounds: 5, nodes: 5, round: ring, ..PARTITIONS },
    Fault { name: "flapping", rounds: 3, round: flapping, ..PARTITIONS },
];

const PARTITIONS: Fault = Fault { family: "partitions", ..USUAL };
const CUT: Link = Link {
    cut: true,
    lost_in_1000: 0,
    doubled_in_1000: 0,
    delay: std::time::Duration::ZERO,
    jitter: std::time::Duration::ZERO,
    bytes_per_ms: 0,
};

/// Cuts `at` off from its peers alone, and heals it. What they acknowledge without it counts.
fn cut_off(scene: &mut Scene, at: usize) {
    scene.measured(|scene| {
        scene.switch.isolate(at);
        scene.in_minority(&[at], |scene| scene.pause_for(2000..4000));
        scene.switch.heal();
        scene.pause_for(500..1000);
    });
    scene.steady();
}

fn leader_udp(scene: &mut Scene, _: u64) {
    let leader = scene.leader();
    cut_off(scene, leader);
}

fn follower(scene: &mut Scene, _: u64) {
    let follower = scene.follower();
    cut_off(scene, follower);
}

fn leader_alone(scene: &mut Scene, _: u64) {
    let leader = scene.leader();
    scene.measured(|scene| {
        scene.switch.isolate(leader);
        scene.reach(leader, false);
        scene.pause_for(2000..4000);
        scene.reach(leader, true);
        scene.switch.heal();
        scene.pause_for(500..1000);
    });
    scene.steady();
}

fn everybody(scene: &mut Scene, _: u64) {
    scene.switch.set_all(CUT);
    let all = scene.up();
    scene.in_minority(&all, |scene| scene.pause_for(1500..3000));
    scene.switch.heal();
    scene.steady();
}

/// The leader and one more on one side, three on the other.
fn halves(scene: &mut Scene, _: u64) {
    let few = [scene.leader(), scene.follower()];
    let many: Vec<usize> = scene.up().into_iter().filter(|at| !few.contains(at)).collect();
    scene.measured(|scene| {
        let across = few.iter().flat_map(|a| many.iter().map(move |b| (*a, *b)));
        across.for_each(|(a, b)| scene.switch.set_both(a, b, CUT));
        scene.in_minority(&few, |scene| scene.pause_for(2000..4000));
        scene.switch.heal();
        scene.pause_for(500..1000);
    });
    scene.steady();
}

/// What the leader sends is lost, or what is sent to it.
fn one_way(scene: &mut Scene, from_leader: bool) {
    let leader = scene.leader();
    scene.measured(|scene| {
        for other in scene.up().into_iter().filter(|at| *at != leader) {
            let (from, to) = if from_leader { (leader, other) } else { (other, leader) };
            scene.switch.set(from, to, CUT);
        }
        scene.pause_for(2000..4000);
        scene.switch.heal();
        scene.pause_for(500..1000);
    });
    scene.steady();
}

/// The leader and one follower do not hear each other; the third hears both.
fn bridge(scene: &mut Scene, _: u64) {
    let (leader, follower) = (scene.leader(), scene.follower());
    scene.measured(|scene| {
        scene.switch.set_both(leader, follower, CUT);
        scene.pause_for(2000..4000);
        scene.switch.heal();
        scene.pause_for(500..1000);
    });
    scene.steady();
}

/// Each of five hears its two neighbours: a majority, but a different one for each.
fn ring(scene: &mut Scene, _: u64) {
    scene.measured(|scene| {
        (0..5).for_each(|at| scene.switch.set_both(at, (at + 2) % 5, CUT));
        scene.pause_for(3000..5000);
        scene.switch.heal();
        scene.pause_for(500..1000);
    });
    scene.steady();
}

/// Links go and come, each for itself, for fifteen seconds.
fn flapping(scene: &mut Scene, _: u64) {
    scene.measured(|scene| {
        for _ in 0..50 {
            let (a, by) = (scene.rng.below(3) as usize, 1 + scene.rng.below(2) as usize);
            let link = if scene.rng.once_in(2) { CUT } else { Link::default() };
            match scene.rng.once_in(2) {
                true => scene.switch.set_both(a, (a + by) % 3, link),
                false => scene.switch.set(a, (a + by) % 3, link),
            }
            scene.pause_for(50..550);
        }
        scene.switch.heal();
        scene.pause_for(500..501);
    });
    scene.steady();
}
