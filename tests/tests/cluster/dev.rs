//! `cairn dev`: three nodes in one command, Ctrl-C ends them all, and the data are there next time.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cairn_tests::cluster::insist;
use cairn_tests::node::binary;
use cairn_tests::ports::{self, PEERS_ABOVE};
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

    let said = dev_in_vain(scratch.path(), ports::claim(3), "64mb");
    let hint = format!("--port {base} --nodes 3");
    assert!(said.contains(&hint), "{said}");

    let (mut again, lines) = dev(scratch.path(), base);
    assert_eq!(insist(address(1), &["GET", "key"]).text(), "later", "{lines:?}");
    process::terminate(again.id());
    assert!(process::wait(&mut again, PATIENCE).is_some_and(|status| status.success()));
}

/// What it says when it does not come up.
fn dev_in_vain(dir: &Path, base: u16, memory: &str) -> String {
    let out = Command::new(binary())
        .args(["dev", "--memory", memory, "--port", &base.to_string(), "--dir"])
        .arg(dir)
        .output()
        .expect("it runs");
    assert!(!out.status.success());
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn a_node_that_does_not_start_is_shown_with_its_reason() {
    let scratch = Scratch::new(Medium::Memory);
    let said = dev_in_vain(scratch.path(), ports::claim(3), "1");
    assert!(said.contains("node-1 ended") && said.contains("--memory"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_is_made() {
    let scratch = Scratch::new(Medium::Memory);
    let (base, dir) = (ports::claim(3), scratch.path().join("dev"));
    let taken = TcpListener::bind(("127.0.0.1", base + 1)).expect("a free port");
    let said = dev_in_vain(&dir, base, "64mb");
    assert!(said.contains(&taken.local_addr().expect("an address").to_string()), "{said}");
    drop(taken);
    let _taken = UdpSocket::bind(("127.0.0.1", base + 2 + PEERS_ABOVE)).expect("a free port");
    let said = dev_in_vain(&dir, base, "64mb");
    assert!(said.contains(&(base + 2 + PEERS_ABOVE).to_string()) && !dir.exists(), "{said}");
}
