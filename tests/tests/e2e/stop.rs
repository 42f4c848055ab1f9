//! An orderly stop.

use std::process::Command;

use cairn_tests::node::{NodeOptions, binary, is_well};
use cairn_tests::process;
use cairn_tests::scratch::{Medium, Scratch};

#[test]
fn after_sigterm_a_start_replays_nothing_and_has_everything() {
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let node = NodeOptions::new(scratch.path()).start();
        let mut conn = node.connect();
        for i in 0..5000 {
            conn.queue(&["SET", &format!("key:{i}"), &format!("value:{i}")]);
        }
        conn.flush().expect("the node takes a pipeline");
        (0..5000).for_each(|_| assert_eq!(conn.receive().expect("a reply").text(), "OK"));
        let (options, status) = node.stop();
        assert!(status.success(), "{status}");
        let node = options.start();
        assert!(node.ready_line().contains("5000 keys"), "{}", node.ready_line());
        assert_eq!(node.info("recovered_log_entries"), "0", "{}", node.ready_line());
        let value = node.connect().call(&["GET", "key:4999"]).expect("a reply");
        assert_eq!(value.text(), "value:4999");
    }
}

#[test]
fn sigint_stops_in_order_too() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    node.connect().call(&["SET", "a", "1"]).expect("a reply");
    process::signal(node.pid(), "INT");
    let mut node = node;
    let ended = process::eventually(std::time::Duration::from_secs(10), || !node.is_alive());
    assert!(ended, "SIGINT does not end the node");
    let (log, options) = (node.log(), node.kill9());
    let node = options.start();
    assert_eq!(node.info("recovered_log_entries"), "0", "{log}");
}

#[test]
fn shutdown_stops_in_order() {
    let scratch = Scratch::new(Medium::Memory);
    let mut node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    conn.call(&["SET", "a", "1"]).expect("a reply");
    let end = conn.call(&["SHUTDOWN"]);
    assert!(end.is_err(), "SHUTDOWN is answered: {end:?}");
    let ended = process::eventually(std::time::Duration::from_secs(10), || !node.is_alive());
    assert!(ended, "SHUTDOWN does not end the node");
    let node = node.kill9().start();
    assert_eq!(node.info("recovered_log_entries"), "0");
    assert_eq!(node.connect().call(&["GET", "a"]).expect("a reply").text(), "1");
}

#[test]
fn check_walks_a_pool_and_health_asks_a_node() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    for i in 0..3000 {
        conn.queue(&["SET", &format!("key:{i}"), "value"]);
    }
    conn.flush().expect("the node takes a pipeline");
    (0..3000).for_each(|_| drop(conn.receive().expect("a reply")));
    let address = node.address();
    assert!(is_well(address, &[]) && is_well(address, &["--ready"]));
    let check = || {
        let args = ["check", "--deep", "--dir"];
        Command::new(binary()).args(args).arg(scratch.path()).output().expect("cairn check runs")
    };
    let held = String::from_utf8_lossy(&check().stderr).into_owned();
    assert!(held.contains(&node.pid().to_string()), "check of a running node says: {held}");
    let options = node.kill9();
    assert!(!is_well(address, &[]));
    let output = check();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    options.start();
}
