//! Members that come and go, are restarted in turn, or come back with an empty disk.

use super::{Fault, USUAL};
use crate::rig::scene::Scene;

pub(super) static FAULTS: &[Fault] = &[
    Fault { name: "rolling restart", rounds: 5, round: rolling, ..MEMBERS },
    Fault { name: "added, then leader killed", rounds: 1, spare: 2, round: added, ..MEMBERS },
    Fault { name: "removed, then taken in", round: removed, ..MEMBERS },
    Fault { name: "leader taken out", rounds: 5, round: leader_taken_out, ..MEMBERS },
    Fault { name: "follower's disk wiped", rounds: 5, round: |s, _| wiped(s, false), ..MEMBERS },
    Fault { name: "leader's disk wiped", rounds: 5, round: |s, _| wiped(s, true), ..MEMBERS },
];

const MEMBERS: Fault = Fault { family: "members", ..USUAL };

fn rolling(scene: &mut Scene, _: u64) {
    for at in 0..3 {
        scene.measured(|scene| {
            scene.cluster.stop(at);
            scene.pause_for(100..300);
            scene.cluster.up(at);
        });
        scene.steady();
        scene.pause_for(200..300);
    }
}

/// Two more come one after the other; then the cluster of five loses its leader and another.
fn added(scene: &mut Scene, _: u64) {
    for _ in 0..2 {
        scene.measured(|scene| {
            scene.join(3);
            scene.steady();
            scene.pause_for(500..1000);
        });
    }
    let fallen = [scene.leader(), scene.follower()];
    scene.measured(|scene| {
        fallen.iter().for_each(|at| scene.cluster.kill9(*at));
        scene.pause_for(2000..2500);
    });
    fallen.iter().for_each(|at| scene.cluster.up(*at));
    scene.steady();
}

/// A dead member is taken out, so that the two that are left are all; its machine comes back empty.
fn removed(scene: &mut Scene, _: u64) {
    let at = scene.follower();
    let id = scene.status(at).expect("it is up").node;
    scene.measured(|scene| {
        scene.cluster.kill9(at);
        let answer = scene.call(scene.leader(), &["CAIRN.RAFT", "REMOVE", &id]);
        assert!(answer.as_ref().is_ok_and(|reply| reply.text() == "OK"), "{answer:?}");
        scene.cluster.wipe(at);
        scene.pause_for(300..600);
        scene.cluster.up(at);
        scene.steady();
    });
}

/// A leader takes itself out and goes on living for a while; its machine comes back empty.
fn leader_taken_out(scene: &mut Scene, _: u64) {
    let at = scene.leader();
    let id = scene.status(at).expect("it is up").node;
    scene.measured(|scene| {
        let answer = scene.call(at, &["CAIRN.RAFT", "REMOVE", &id]);
        assert!(answer.as_ref().is_ok_and(|reply| reply.text() == "OK"), "{answer:?}");
        scene.pause_for(1000..1500);
    });
    scene.cluster.kill9(at);
    scene.cluster.wipe(at);
    scene.cluster.up(at);
    scene.steady();
    scene.pause_for(200..500);
}

/// It comes back under its address with nothing, and takes its own old place.
fn wiped(scene: &mut Scene, leader: bool) {
    let at = if leader { scene.leader() } else { scene.follower() };
    scene.measured(|scene| {
        scene.cluster.kill9(at);
        scene.cluster.wipe(at);
        scene.pause_for(500..1500);
        scene.cluster.up(at);
        scene.steady();
    });
    scene.pause_for(200..500);
}
