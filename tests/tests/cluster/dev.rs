//! `cairn dev`: three nodes in one command, Ctrl-C ends them all, and the data are there next time.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cairn_tests::cluster::insist;
use cairn_tests::node::binary;
use cairn_tests::ports;
use cairn_tests::process;
use cairn_tests::scratch::{Medium, Scratch};

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts it and reads what it prints, up to the last line before it waits.
fn dev(dir: &Path, base: u16) -> (Child, Vec<String>) {
    let mut child = Command::new(binary())
        .args(["dev", "--nodes", "3", "--memory", "64mb", "--port", &base.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("its output"));
    let mut lines = Vec::new();
    for line in out.lines() {
        lines.push(line.expect("text"));
        if lines.last().is_some_and(|line| line.contains("Ctrl-C")) {
            break;
        }
    }
    (child, lines)
}

/// The pids that it prints.
fn pids(lines: &[String]) -> Vec<u32> {
    let pid = |line: &String| line.split("pid ").nth(1)?.split(' ').next()?.parse().ok();
    lines.iter().filter_map(pid).collect()
}

#[test]
fn one_command_runs_three_nodes_and_ctrl_c_ends_them() {
    let scratch = Scratch::new(Medium::Memory);
    let base = ports::claim(3);
    let address = |at: u16| SocketAddr::from(([127, 0, 0, 1], base + at));
    let (mut first, lines) = dev(scratch.path(), base);
    let pids_found = pids(&lines);
    assert_eq!(pids_found.len(), 3, "{lines:?}");
    insist(address(0), &["SET", "key", "value"]);
    assert_eq!(insist(address(2), &["GET", "key"]).text(), "value");
    process::signal(pids_found[1], "KILL");
    insist(address(2), &["SET", "key", "later"]);
    process::signal(first.id(), "INT");
    let status = process::wait(&mut first, PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    for pid in pids_found {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left behind");
    }

    let elsewhere = (base + 500).to_string();
    let out = Command::new(binary())
        .args(["dev", "--memory", "64mb", "--port", &elsewhere, "--dir"])
        .arg(scratch.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr);
    let hint = format!("--port {base} --nodes 3");
    assert!(!out.status.success() && said.contains(&hint), "{said}");

    let (mut again, lines) = dev(scratch.path(), base);
    assert_eq!(insist(address(1), &["GET", "key"]).text(), "later", "{lines:?}");
    process::terminate(again.id());
    assert!(process::wait(&mut again, PATIENCE).is_some_and(|status| status.success()));
}

#[test]
fn a_node_that_does_not_start_is_shown_with_its_reason() {
    let scratch = Scratch::new(Medium::Memory);
    let base = ports::claim(3);
    let taken = TcpListener::bind(("127.0.0.1", base + 1)).expect("a free port");
    let out = Command::new(binary())
        .args(["dev", "--memory", "64mb", "--port", &base.to_string(), "--dir"])
        .arg(scratch.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("node-2 ended"), "{said}");
    assert!(said.contains(&taken.local_addr().expect("an address").to_string()), "{said}");
}
