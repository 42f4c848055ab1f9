//! A leader that stands still for a while, as in a suspended machine, and does not know it.

use super::{Fault, USUAL};
use crate::rig::scene::Scene;

pub(super) static FAULTS: &[Fault] = &[
    Fault { name: "leader 1 s", rounds: 10, round: |s, _| stop(s, 1000), ..PAUSES },
    Fault { name: "leader 10 s", rounds: 3, round: |s, _| stop(s, 10_000), ..PAUSES },
    Fault { name: "leader 60 s", rounds: 1, round: |s, _| stop(s, 60_000), ..PAUSES },
    Fault { name: "leader, briefly", rounds: 60, round: briefly, ..PAUSES },
];

const PAUSES: Fault = Fault { family: "pauses", ..USUAL };

fn stop(scene: &mut Scene, ms: u64) {
    let leader = scene.leader();
    scene.measured(|scene| {
        scene.freeze(leader);
        scene.pause_for(ms..ms + 1);
        scene.signal(leader, "CONT");
        scene.pause_for(500..501);
    });
    scene.steady();
}

/// About as long as a lease and an election take: the answers that wait in the leader when it goes
/// on are those that another leader may have made old.
fn briefly(scene: &mut Scene, _: u64) {
    let leader = scene.leader();
    scene.measured(|scene| {
        scene.freeze(leader);
        scene.pause_for(100..900);
        scene.signal(leader, "CONT");
        scene.pause_for(200..201);
    });
    scene.steady();
}
