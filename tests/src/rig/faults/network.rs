//! A network that loses, delays, doubles and reorders.

use std::time::{Duration, Instant};

use super::{Fault, USUAL};
use crate::process;
use crate::rig::scene::Scene;
use crate::rig::switch::Link;

pub(super) static FAULTS: &[Fault] = &[
    Fault { name: "loss 1 %", round: |s, _| with(s, lossy(10)), ..NETWORK },
    Fault { name: "loss 5 %", round: |s, _| with(s, lossy(50)), ..NETWORK },
    Fault { name: "loss 20 %", round: |s, _| with(s, lossy(200)), ..NETWORK },
    Fault { name: "delay 10-20 ms", round: |s, _| with(s, slow(10, 10)), ..NETWORK },
    Fault { name: "delay 50-150 ms", round: |s, _| with(s, slow(50, 100)), ..NETWORK },
    Fault { name: "loss, delay, doubles", round: |s, _| with(s, all_at_once()), ..NETWORK },
    Fault {
        name: "400 ms there and back",
        adapt: |_, options| options.set("peer-rtt-ms", "400"),
        round: far_apart,
        ..NETWORK
    },
    Fault { name: "40 Mbit/s, 4 MiB values", round: long_values, ..NETWORK },
    Fault { name: "loss 5 %, leader killed", rounds: 10, round: lossy_kill, ..NETWORK },
];

const NETWORK: Fault = Fault { family: "network", rounds: 1, ..USUAL };

fn lossy(lost_in_1000: u64) -> Link {
    Link { lost_in_1000, ..Link::default() }
}

fn slow(delay_ms: u64, jitter_ms: u64) -> Link {
    let [delay, jitter] = [delay_ms, jitter_ms].map(Duration::from_millis);
    Link { delay, jitter, ..Link::default() }
}

fn all_at_once() -> Link {
    Link { lost_in_1000: 30, doubled_in_1000: 50, ..slow(2, 30) }
}

/// Values that a link carries for a second each; the clients' small ones go in between.
fn long_values(scene: &mut Scene, _: u64) {
    scene.switch.set_all(Link { bytes_per_ms: 5000, ..Link::default() });
    let value = "v".repeat(4 << 20);
    for at in [scene.leader(), scene.follower()] {
        for key in 0..2 {
            let start = Instant::now();
            let reply = scene.call(at, &["SET", &format!("long-{key}"), &value]);
            let is_ok = reply.as_ref().is_ok_and(|reply| reply.text() == "OK");
            assert!(is_ok, "after {:?}: {reply:?}", start.elapsed());
            scene.note(format!("4 MiB through node {at} took {:?}", start.elapsed()));
        }
    }
    scene.switch.heal();
    scene.steady();
}

/// Nodes on different continents stay with the leader they have, and elect another when it dies.
fn far_apart(scene: &mut Scene, _: u64) {
    let leader = scene.leader();
    with(scene, slow(150, 50));
    assert_eq!(scene.leader(), leader, "nobody was gone");
    scene.switch.set_all(slow(150, 50));
    scene.measured(|scene| {
        scene.cluster.kill9(leader);
        let rest = (0..3).find(|at| *at != leader).expect("two are left");
        let is_done =
            || scene.call(rest, &["SET", "far", "x"]).is_ok_and(|reply| reply.text() == "OK");
        assert!(process::eventually(Duration::from_secs(10), is_done));
    });
    scene.cluster.up(leader);
    scene.switch.heal();
    scene.steady();
}

/// Fifteen seconds with all links like that.
fn with(scene: &mut Scene, link: Link) {
    scene.measured(|scene| {
        scene.switch.set_all(link);
        scene.pause_for(15_000..15_001);
    });
    scene.switch.heal();
    scene.steady();
}

fn lossy_kill(scene: &mut Scene, _: u64) {
    scene.switch.set_all(lossy(50));
    let leader = scene.leader();
    scene.measured(|scene| {
        scene.cluster.kill9(leader);
        scene.pause_for(2000..2500);
    });
    scene.cluster.up(leader);
    scene.pause_for(500..1500);
    scene.switch.heal();
    scene.steady();
}
