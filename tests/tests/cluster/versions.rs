//! Two builds in one cluster. `tests/rigs/versions/run` makes the other builds; without them these
//! tests have nothing to run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_tests::cluster::{Cluster, insist, open};
use cairn_tests::process;
use cairn_tests::scratch::{Medium, Scratch};

/// Another build's binary.
fn build(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: {variable} names no other build (tests/rigs/versions/run)");
    }
    found
}

/// One that knows a feature more takes part, leads, and takes the place of this one node by node.
#[test]
fn a_build_with_a_feature_more_runs_beside_this_one() {
    let Some(other) = build("CAIRN_MORE_FEATURES") else { return };
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let stop = AtomicBool::new(false);
    let stays = cluster.addresses();
    let written = std::thread::scope(|scope| {
        let (stop, stays) = (&stop, &stays);
        let client = scope.spawn(move || {
            let mut count = 0u64;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                insist(stays[count as usize % 3], &["SET", "count", &count.to_string()]);
            }
            count
        });
        for at in 0..3 {
            cluster.program_for(at, &other);
            cluster.stop(at);
            cluster.up(at);
            // It leads in its turn.
            for _ in 0..20 {
                let leader = cluster.leader();
                if leader == at {
                    break;
                }
                cluster.stop(leader);
                cluster.up(leader);
            }
            assert_eq!(cluster.leader(), at);
            insist(cluster.node(at).address(), &["SET", &format!("led by {at}"), "yes"]);
            for address in cluster.addresses() {
                assert_eq!(insist(address, &["GET", &format!("led by {at}")]).text(), "yes");
            }
        }
        stop.store(true, Ordering::Relaxed);
        client.join().expect("the client saw no error that lasted")
    });
    assert_eq!(insist(stays[0], &["GET", "count"]).text(), written.to_string());
    cluster.assert_equal();
}

#[test]
fn a_newer_wire_is_refused_with_both_versions_named() {
    let Some(newer) = build("CAIRN_NEWER_WIRE") else { return };
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    insist(cluster.node(0).address(), &["SET", "key", "value"]);
    cluster.kill9(2);
    cluster.program_for(2, &newer);
    cluster.up(2);
    let said = || {
        let logs = [0, 1, 2].map(|at| cluster.node(at).log()).concat();
        logs.contains("version 2") && logs.contains("version 1")
    };
    assert!(process::eventually(Duration::from_secs(20), said), "{}", cluster.node(2).log());
    cluster.kill9(2);
    // The others have not been disturbed.
    let mut conn = open(cluster.node(1).address(), Duration::from_secs(5)).expect("a connection");
    assert_eq!(conn.call(&["GET", "key"]).expect("answered").text(), "value");
}
