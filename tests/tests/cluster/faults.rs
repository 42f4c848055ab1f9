//! A short, seeded piece of what `cargo bench -p cairn-tests --bench faults` does for half an hour:
//! nodes in network namespaces, a leader killed, cut off and paused under a judge. Only root can.

use std::time::Duration;

use cairn_tests::rig::namespaces::Namespaces;
use cairn_tests::rig::scene::{Scene, Setup};
use cairn_tests::rig::switch::Link;
use cairn_tests::rng::seeds;
use cairn_tests::scratch::Medium;

#[test]
fn a_cluster_stays_linearizable_when_its_leader_is_killed_cut_off_and_paused() {
    if let Err(reason) = Namespaces::new(1) {
        eprintln!("skipped: no network namespaces can be made here: {reason}");
        return;
    }
    let seed = seeds(1)[0];
    println!("CAIRN_SEED={seed}");
    let setup = Setup { seed, nodes: 3, spare: 0, medium: Medium::Memory, disk_mib: None };
    let mut scene = Scene::start(&setup, |_, options| options).expect("a cluster");
    let killed = scene.leader();
    scene.measured(|scene| {
        scene.cluster.kill9(killed);
        scene.pause_for(1000..1500);
    });
    scene.cluster.up(killed);
    scene.steady();
    let cut_off = scene.leader();
    scene.measured(|scene| {
        scene.switch.isolate(cut_off);
        scene.in_minority(&[cut_off], |scene| scene.pause_for(1300..1500));
        scene.switch.heal();
    });
    scene.steady();
    let paused = scene.leader();
    scene.switch.set_all(Link { lost_in_1000: 20, ..Link::default() });
    scene.freeze(paused);
    scene.pause_for(300..900);
    scene.signal(paused, "CONT");
    scene.pause_for(500..501);
    let report = scene.judge().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    println!("{report:?}");
    // Elections take half a second; the machine that runs this may be busy.
    let longest = report.gaps.iter().max().expect("two were measured");
    assert!(*longest < Duration::from_secs(10), "seed {seed}: no writes for {longest:?}");
}
