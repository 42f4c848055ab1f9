//! A medium that goes away under a running node: the file is cut short, or has no room left. The
//! node stops or refuses with the file's name and what to do, and never answers wrong.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_store::media::MEDIUM_FAILED_EXIT_CODE;
use cairn_tests::mount::Mounted;
use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::scratch::{Medium, Scratch};

const KEYS: usize = 20_000;

fn value(i: usize) -> String {
    format!("value-of-{i}-{}", "x".repeat(80))
}

fn load(node: &Node) {
    let mut conn = node.connect();
    for i in 0..KEYS {
        conn.queue(&["SET", &format!("key:{i}"), &value(i)]);
    }
    conn.flush().expect("the node takes a pipeline");
    (0..KEYS).for_each(|_| assert_eq!(conn.receive().expect("a reply").text(), "OK"));
    let committed = || node.info("epoch_committed_index") == node.info("raft_applied_index");
    assert!(process::eventually(Duration::from_secs(20), committed), "{}", node.log());
}

fn cut(path: &Path, len: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the file opens");
    file.set_len(len).expect("the file can be cut");
}

/// Reads keys until the connection breaks; each answer must be right. Says whether it broke.
fn read_until_it_breaks(conn: &mut Conn) -> bool {
    for i in 0..KEYS {
        match conn.call(&["GET", &format!("key:{i}")]) {
            Ok(reply) => assert_eq!(reply.text(), value(i), "key:{i}"),
            Err(_) => return true,
        }
    }
    false
}

/// The node must have ended by itself, with the code for a failed medium, naming each of `parts`.
fn ended_saying(node: Node, parts: &[&str]) -> NodeOptions {
    let (options, status, log) = node.wait();
    assert_eq!(status.code(), Some(MEDIUM_FAILED_EXIT_CODE), "{status:?}: {log}");
    for part in parts {
        assert!(log.contains(part), "{part:?} is missing in: {log}");
    }
    options
}

#[test]
fn a_pool_cut_under_a_running_node_stops_it_with_file_and_offset() {
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let node = NodeOptions::new(scratch.path()).start();
        load(&node);
        let pool = scratch.path().join("shard-0.pool");
        let whole = fs::metadata(&pool).expect("a pool").len();
        let mut conn = node.connect();
        cut(&pool, whole / 2);
        assert!(read_until_it_breaks(&mut conn), "all is there, but half of the pool is gone");
        let name = pool.display().to_string();
        let len = (whole / 2).to_string();
        let options = ended_saying(node, &[&name, "at byte", "was cut to", &len, "restore"]);
        let refusal = options.try_start().expect_err("a pool that is cut short");
        assert!(refusal.text.contains("cut short") && refusal.text.contains(&name), "{refusal:?}");
    }
}

/// A part of a page behind the end of a file gives no signal: the next commit notices.
#[test]
fn a_pool_cut_inside_a_page_stops_the_commits() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    load(&node);
    let pool = scratch.path().join("shard-0.pool");
    let whole = fs::metadata(&pool).expect("a pool").len();
    cut(&pool, whole - 100);
    // Refused, or taken and in the log: both are fine until the commit.
    let _ = node.connect().call(&["SET", "one", "more"]);
    let (_, status, log) = node.wait();
    assert!(!status.success());
    for part in ["cut short while the node had it open", &(whole - 100).to_string()] {
        assert!(log.contains(part), "{part:?} is missing in: {log}");
    }
}

#[test]
fn a_log_cut_under_a_running_node_stops_it_with_file_and_offset() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    load(&node);
    let segment = scratch.path().join("log/000001.seg");
    cut(&segment, 4096);
    let mut conn = node.connect();
    assert!(conn.call(&["SET", "one", "more"]).is_err(), "a write into what is gone is answered");
    let name = segment.display().to_string();
    let options = ended_saying(node, &[&name, "at byte", "was cut to 4096 bytes"]);
    let refusal = options.try_start().expect_err("a log that is cut short");
    assert!(refusal.text.contains(&name), "{refusal:?}");
}

/// Mounts a tmpfs of `mib`, or an ext4 in a file of that size; `None`, with the reason printed,
/// where this user may not mount.
fn small(medium: Medium, mib: u64) -> Option<Mounted> {
    let scratch = Scratch::new(medium);
    let mounted = match medium {
        Medium::Memory => Mounted::tmpfs(scratch, mib),
        Medium::File => Mounted::made(scratch, "ext4", mib),
    };
    mounted.map_err(|why| eprintln!("skipped: no small file system here: {why}")).ok()
}

/// Fills what is left of a file system with a file, which is returned.
fn ballast(at: &Path) -> PathBuf {
    use std::io::Write;
    let path = at.join("ballast");
    let mut file = fs::File::create(&path).expect("a file");
    let zeros = [0; 4096];
    while file.write_all(&zeros).is_ok() {}
    path
}

/// Writes values until one is refused; returns how many were acknowledged, and the refusal.
fn write_until_refused(conn: &mut Conn) -> (usize, String) {
    let value = "y".repeat(4000);
    for i in 0..100_000 {
        let reply = conn.call(&["SET", &format!("big:{i}"), &value]).expect("a reply");
        if reply.is_error() {
            return (i, reply.text());
        }
    }
    panic!("a small file system takes everything");
}

fn has_all(conn: &mut Conn, acknowledged: usize) {
    assert!(!read_until_it_breaks(conn), "reads go on");
    for i in 0..acknowledged {
        let reply = conn.call(&["STRLEN", &format!("big:{i}")]).expect("a reply");
        assert_eq!(reply.text(), "4000", "big:{i} was acknowledged");
    }
}

#[test]
fn a_full_file_system_refuses_writes_and_loses_nothing() {
    for medium in Medium::ALL {
        let Some(small) = small(medium, 96) else { return };
        let dir = small.at().join("data");
        let node = NodeOptions::new(&dir).start();
        load(&node);
        let ballast = ballast(small.at());
        let mut conn = node.connect();
        let (acknowledged, refusal) = write_until_refused(&mut conn);
        assert!(
            refusal.contains("No space left") && refusal.contains("shard-0.pool"),
            "{medium:?}: {refusal}"
        );
        has_all(&mut conn, acknowledged);
        let again = conn.call(&["SET", "another", "one"]).expect("a reply").text();
        assert!(again.contains("No space left"), "{medium:?}: {again}");
        fs::remove_file(ballast).expect("the ballast goes");
        let node = node.kill9().start();
        let mut conn = node.connect();
        has_all(&mut conn, acknowledged);
        assert_eq!(conn.call(&["SET", "another", "one"]).expect("a reply").text(), "OK");
        node.stop();
    }
}
