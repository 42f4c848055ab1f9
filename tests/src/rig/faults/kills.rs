//! Processes that end without a word, as by `kill -9`, and come back.

use super::{Fault, USUAL};
use crate::rig::scene::Scene;

pub(super) static FAULTS: &[Fault] = &[
    Fault { name: "leader", rounds: 100, round: leader, ..KILLS },
    Fault { name: "follower", rounds: 100, round: follower, ..KILLS },
    Fault { name: "majority", rounds: 100, round: majority, ..KILLS },
    Fault { name: "all", rounds: 100, round: everybody, ..KILLS },
];

const KILLS: Fault = Fault { family: "kills", ..USUAL };

/// Ends `fallen`, and starts them some time later.
fn fell(scene: &mut Scene, fallen: &[usize], away_ms: std::ops::Range<u64>) {
    scene.measured(|scene| {
        fallen.iter().for_each(|at| scene.cluster.kill9(*at));
        scene.pause_for(away_ms);
    });
    fallen.iter().for_each(|at| scene.cluster.up(*at));
    scene.steady();
    scene.pause_for(50..300);
}

fn leader(scene: &mut Scene, _: u64) {
    let leader = scene.leader();
    fell(scene, &[leader], 1200..1500);
}

fn follower(scene: &mut Scene, _: u64) {
    let follower = scene.follower();
    fell(scene, &[follower], 500..1000);
}

/// Who is left cannot go on alone.
fn majority(scene: &mut Scene, round: u64) {
    let leader = scene.leader();
    let other = scene.follower();
    let fallen = match round % 2 {
        0 => vec![leader, other],
        _ => scene.up().into_iter().filter(|at| *at != leader).collect(),
    };
    let left: Vec<usize> = scene.up().into_iter().filter(|at| !fallen.contains(at)).collect();
    fallen.iter().for_each(|at| scene.cluster.kill9(*at));
    // What it had sent to them before they fell may be acknowledged yet.
    scene.pause_for(50..51);
    scene.in_minority(&left, |scene| scene.pause_for(0..1500));
    fallen.iter().for_each(|at| scene.cluster.up(*at));
    scene.steady();
    scene.pause_for(50..300);
}

fn everybody(scene: &mut Scene, _: u64) {
    let all = scene.up();
    fell(scene, &all, 0..300);
}
