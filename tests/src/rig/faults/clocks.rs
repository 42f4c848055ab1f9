//! Wall clocks that jump by an hour. libfaketime stands between a node and its machine's clock, and
//! a file says by how much it is off; the clocks that leases are counted with go on as they are.

use std::path::{Path, PathBuf};

use super::{Fault, USUAL};
use crate::node::NodeOptions;
use crate::rig::scene::Scene;

pub(super) static FAULTS: &[Fault] = &[
    Fault { name: "leader an hour ahead", round: |s, _| jump(s, true, "+3600"), ..CLOCKS },
    Fault { name: "leader an hour back", round: |s, _| jump(s, true, "-3600"), ..CLOCKS },
    Fault { name: "follower an hour ahead", round: |s, _| jump(s, false, "+3600"), ..CLOCKS },
    Fault { name: "leader jumps and falls", round: jump_and_fall, ..CLOCKS },
];

const CLOCKS: Fault = Fault { family: "clocks", rounds: 3, available, adapt: faked, ..USUAL };

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Whether clocks can be moved here; if not, what to do.
fn available() -> Result<(), String> {
    match Path::new(LIBRARY).exists() {
        true => Ok(()),
        false => Err(format!("{LIBRARY} is missing: apt-get install faketime")),
    }
}

/// The file that says how far a node's clock is off.
fn file(dir: &Path) -> PathBuf {
    dir.with_extension("clock")
}

fn faked(_: usize, options: NodeOptions) -> NodeOptions {
    let file = file(options.dir());
    std::fs::write(&file, "+0\n").expect("a directory of the test's own");
    options
        .env("LD_PRELOAD", LIBRARY)
        .env("FAKETIME_TIMESTAMP_FILE", &file.display().to_string())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
}

fn set(scene: &Scene, at: usize, offset: &str) {
    let file = file(scene.cluster.options(at).dir());
    std::fs::write(file, format!("{offset}\n")).expect("a directory of the test's own");
}

/// A node's wall clock in seconds, as it tells clients.
fn clock(scene: &Scene, at: usize) -> i64 {
    let reply = scene.call(at, &["TIME"]).expect("TIME is answered");
    reply.items()[0].text().parse().expect("TIME answers seconds first")
}

fn jump(scene: &mut Scene, leader: bool, offset: &str) {
    let at = if leader { scene.leader() } else { scene.follower() };
    let other = (0..3).find(|other| *other != at).expect("there are three");
    scene.call(at, &["SET", "half-an-hour", "x", "EX", "1800"]).expect("a write");
    scene.measured(|scene| {
        set(scene, at, offset);
        scene.pause_for(1000..2000);
        let off = clock(scene, at) - clock(scene, other);
        assert!(off.abs() > 3000, "the clock did not jump, it is off by {off} s");
        scene.pause_for(1000..2000);
        set(scene, at, "+0");
        scene.pause_for(1000..2000);
    });
    let left = scene.call(at, &["TTL", "half-an-hour"]).expect("a read");
    scene.note(format!("of 1800 s to live a key has {left:?} left"));
    scene.steady();
}

/// The clock stays off while its node falls and another, with the right time, takes over.
fn jump_and_fall(scene: &mut Scene, round: u64) {
    let leader = scene.leader();
    set(scene, leader, if round.is_multiple_of(2) { "+3600" } else { "-3600" });
    scene.pause_for(500..1000);
    scene.measured(|scene| {
        scene.cluster.kill9(leader);
        scene.pause_for(1500..2000);
    });
    scene.cluster.up(leader);
    scene.pause_for(500..1000);
    set(scene, leader, "+0");
    scene.steady();
}
