//! What an operator sees of a cluster that is not born yet, or born with other options than those of
//! a later start.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use cairn_tests::cluster::{Cluster, SECRET};
use cairn_tests::node::{NodeOptions, binary};
use cairn_tests::process;
use cairn_tests::scratch::{Medium, Scratch};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn who_waits_for_others_says_so_at_once_and_stops_in_order() {
    let scratch = Scratch::new(Medium::Memory);
    // Nobody listens there, and it does not listen for clients before the cluster is born.
    let mut node = Command::new(binary())
        .args(["--memory", "64mb", "--expect", "3"])
        .args(["--cluster-secret", SECRET, "--join", "127.0.0.1:1,127.0.0.1:2", "--dir"])
        .arg(scratch.path())
        .args(["--port", &process_port().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(node.stderr.take().expect("its log")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("1 of 3 nodes have met at 127.0.0.1:1"), "{first}");
    process::terminate(node.id());
    let status = process::wait(&mut node, PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
}

/// A port whose peer port is likely to be free, another in each process.
fn process_port() -> u32 {
    30_000 + std::process::id() % 9_000
}

#[test]
fn a_cluster_asked_for_without_addresses_is_refused() {
    let scratch = Scratch::new(Medium::Memory);
    let refusal = NodeOptions::new(scratch.path()).set("expect", "3").try_start();
    let refusal = refusal.expect_err("it would be alone").text;
    assert!(refusal.contains("--join"), "{refusal}");
}

#[test]
fn a_member_started_with_another_limit_says_that_the_agreed_one_holds() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    cluster.leader();
    cluster.kill9(0);
    cluster.set_for(0, "memory", "300mb");
    cluster.up(0);
    let said = || cluster.node(0).log().contains("CONFIG SET maxmemory");
    assert!(process::eventually(PATIENCE, said), "{}", cluster.node(0).log());
    assert_eq!(cluster.node(0).info("maxmemory"), (256u64 << 20).to_string());
    assert!(!cluster.node(1).log().contains("CONFIG SET maxmemory"));
}
