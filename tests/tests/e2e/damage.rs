//! A pool with a damaged block: what lies in it is an error, everything else is served.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::scratch::{Medium, Scratch};

const KEYS: usize = 20_000;

/// Flips a bit of the place in the pool where `text` lies.
fn damage(dir: &Path, text: &str) {
    let path = dir.join("shard-0.pool");
    let mut bytes = fs::read(&path).expect("a pool");
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    bytes[at.expect("the value is in the pool") + 3] ^= 4;
    fs::write(&path, bytes).expect("the pool is writable");
}

fn load(node: &Node) {
    let mut conn = node.connect();
    for i in 0..KEYS {
        conn.queue(&["SET", &format!("key:{i}"), &format!("value-of-{i}-{}", "x".repeat(50))]);
    }
    for i in 0..2000 {
        conn.queue(&["HSET", "hash", &format!("field:{i}"), &format!("content-of-{i}-")]);
    }
    conn.flush().expect("the node takes a pipeline");
    (0..KEYS + 2000).for_each(|_| assert!(!conn.receive().expect("a reply").is_error()));
}

fn text(conn: &mut Conn, request: &[&str]) -> String {
    conn.call(request).expect("a reply").text()
}

#[test]
fn a_damaged_value_is_an_error_and_the_rest_is_served() {
    // A pool that is never found whole is checked read by read; one that is scrubbed says so.
    for rate in ["0", "1000"] {
        let scratch = Scratch::new(Medium::Memory);
        let options = NodeOptions::new(scratch.path()).set("scrub-rate", rate).damaged();
        let node = options.start();
        load(&node);
        let (options, _) = node.stop();
        damage(scratch.path(), "value-of-777-");
        let node = options.start();
        let mut conn = node.connect();
        for write in [&["GET", "key:777"][..], &["SET", "key:777", "new"], &["DEL", "key:777"]] {
            let reply = text(&mut conn, write);
            assert!(reply.starts_with("CORRUPT"), "{write:?}: {reply}");
            assert!(reply.contains("at byte") && reply.contains("cairn check --deep"), "{reply}");
        }
        assert_eq!(text(&mut conn, &["MULTI"]), "OK");
        assert_eq!(text(&mut conn, &["SET", "key:776", "new"]), "QUEUED");
        assert!(text(&mut conn, &["SET", "key:777", "new"]).starts_with("CORRUPT"));
        assert!(text(&mut conn, &["EXEC"]).starts_with("EXECABORT"));
        for i in (0..KEYS).filter(|i| *i != 777) {
            conn.queue(&["GET", &format!("key:{i}")]);
        }
        conn.flush().expect("the node takes a pipeline");
        for i in (0..KEYS).filter(|i| *i != 777) {
            let reply = conn.receive().expect("a reply").text();
            assert!(reply.starts_with(&format!("value-of-{i}-")), "{i}: {reply}");
        }
        assert_eq!(text(&mut conn, &["SET", "key:778", "new"]), "OK");
        assert_eq!(text(&mut conn, &["GET", "key:778"]), "new");
        if rate != "0" {
            let found = || node.info("scrub_damaged_blocks") == "1";
            assert!(process::eventually(Duration::from_secs(10), found), "{}", node.log());
            assert_eq!(node.info("scrub_checks_reads"), "1");
        }
    }
}

#[test]
fn a_write_that_cannot_be_applied_ends_the_writes_and_not_the_reads() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).damaged().start();
    load(&node);
    let (options, _) = node.stop();
    damage(scratch.path(), "content-of-777-");
    let check = |node: &Node| {
        let mut conn = node.connect();
        assert!(text(&mut conn, &["SET", "other", "x"]).starts_with("MISCONF"));
        assert!(node.info("stopped").contains("checksum"), "{}", node.info("stopped"));
        assert!(text(&mut conn, &["GET", "key:5"]).starts_with("value-of-5-"));
        assert!(text(&mut conn, &["HGET", "hash", "field:777"]).starts_with("CORRUPT"));
        assert_eq!(text(&mut conn, &["HGET", "hash", "field:778"]), "content-of-778-");
    };
    let node = options.start();
    let mut conn = node.connect();
    // The way to the key is whole, so this is logged; the field's block is not.
    let reply = text(&mut conn, &["HSET", "hash", "field:777", "new"]);
    assert!(reply.starts_with("MISCONF") && reply.contains("checksum"), "{reply}");
    check(&node);
    // The log has it still, so a start comes to the same end.
    let node = node.kill9().start();
    check(&node);
}

#[test]
fn a_pool_is_found_whole_and_then_trusted() {
    let scratch = Scratch::new(Medium::File);
    let node = NodeOptions::new(scratch.path()).set("scrub-rate", "1000").start();
    load(&node);
    let node = node.kill9().start();
    let trusted = || node.info("scrub_checks_reads") == "0" && node.info("scrub_passes") == "1";
    assert!(process::eventually(Duration::from_secs(20), trusted), "{}", node.log());
    assert_eq!(node.info("scrub_damaged_blocks"), "0");
    assert_eq!(node.info("scrub_progress_percent"), "100");
}
