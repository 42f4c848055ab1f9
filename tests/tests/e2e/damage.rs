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
    // The next pass may have begun by now.
    let percent = node.info("scrub_progress_percent").parse::<u64>().expect("a number");
    assert!((1..=100).contains(&percent), "{percent}");
}

fn is_over(node: &Node) -> bool {
    node.info("lazyfree_pending_objects") == "0"
}

/// A long string whose parts can be told apart.
fn long_text() -> String {
    (0..2000).map(|part| format!("part-{part}-{}", "y".repeat(40))).collect()
}

#[test]
fn damage_in_what_is_deleted_costs_its_room_and_nothing_else() {
    for clear in [&["FLUSHALL"][..], &["DEL", "long", "hash", "list"], &["UNLINK", "long", "hash"]]
    {
        let scratch = Scratch::new(Medium::Memory);
        let options = NodeOptions::new(scratch.path()).set("scrub-rate", "0").damaged();
        let node = options.start();
        load(&node);
        let mut conn = node.connect();
        assert_eq!(text(&mut conn, &["SET", "long", &long_text()]), "OK");
        for i in 0..500 {
            conn.queue(&["RPUSH", "list", &format!("element-{i}-{}", "z".repeat(2000))]);
        }
        conn.flush().expect("the node takes a pipeline");
        (0..500).for_each(|_| assert!(!conn.receive().expect("a reply").is_error()));
        let (options, _) = node.stop();
        for lost in ["value-of-777-", "content-of-777-", "part-777-", "element-77-"] {
            damage(scratch.path(), lost);
        }
        let node = options.start();
        let mut conn = node.connect();
        let reply = text(&mut conn, clear);
        assert!(reply == "OK" || reply.parse::<u64>().is_ok(), "{clear:?}: {reply}");
        let has_leaked = || node.info("pool_leaked_pieces") != "0" && is_over(&node);
        let over = process::eventually(Duration::from_secs(20), has_leaked);
        assert!(over, "{clear:?}: {}", node.log());
        assert!(node.log().contains("cannot be freed"), "{}", node.log());
        let live: u64 = node.info("pool_live_bytes").parse().expect("a number");
        assert!(clear.len() > 1 || live < 400_000, "{live} bytes stay");
        assert_eq!(text(&mut conn, &["SET", "key:778", "new"]), "OK");
        assert_eq!(node.info("stopped"), "");
        // What is lost is lost once: a start goes on from there.
        let node = node.kill9().start();
        let mut conn = node.connect();
        assert_eq!(text(&mut conn, &["GET", "key:778"]), "new");
        assert_eq!(text(&mut conn, &["SET", "key:779", "new"]), "OK");
        assert!(process::eventually(Duration::from_secs(20), || is_over(&node)), "{}", node.log());
        node.stop();
        let check = std::process::Command::new(cairn_tests::node::binary())
            .args(["check", "--dir"])
            .arg(scratch.path())
            .output()
            .expect("the cairn binary can be run");
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(said.contains("in use and nothing leads to them: no data is wrong"), "{said}");
    }
}

#[test]
fn an_expired_key_that_cannot_be_read_stops_neither_writes_nor_expiry() {
    // The earliest, one in the middle, and the last.
    for lost in [0, 500, 999] {
        let scratch = Scratch::new(Medium::Memory);
        let options = NodeOptions::new(scratch.path()).set("scrub-rate", "0").damaged();
        let node = options.start();
        let mut conn = node.connect();
        assert_eq!(text(&mut conn, &["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), "OK");
        for i in 0..1000 {
            let (key, value) = (format!("key:{i}"), format!("value-of-{i}-"));
            conn.queue(&["SET", &key, &value, "PX", &(1000 + i).to_string()]);
        }
        conn.queue(&["SET", "stays", "x"]);
        conn.flush().expect("the node takes a pipeline");
        (0..1001).for_each(|_| assert!(!conn.receive().expect("a reply").is_error()));
        let (options, _) = node.stop();
        damage(scratch.path(), &format!("value-of-{lost}-"));
        let node = options.start();
        let mut conn = node.connect();
        let is_left = || node.info("db0").starts_with("keys=2,expires=1");
        let reclaimed = process::eventually(Duration::from_secs(20), is_left);
        assert!(reclaimed, "{}: {}\n{}", node.info("db0"), node.info("stopped"), node.log());
        assert_eq!(text(&mut conn, &["SET", "another", "one"]), "OK");
        assert_eq!(text(&mut conn, &["SET", "brief", "one", "PX", "1"]), "OK");
        let is_left = || node.info("db0").starts_with("keys=3,expires=1");
        assert!(process::eventually(Duration::from_secs(20), is_left), "{}", node.info("db0"));
        assert!(node.log().contains("expired key cannot be read"), "{}", node.log());
        // A replay does the same.
        let node = node.kill9().start();
        assert_eq!(text(&mut node.connect(), &["SET", "another", "two"]), "OK");
        node.stop();
    }
}

#[test]
fn snapshots_that_cannot_be_read_leave_the_data_readable() {
    let scratch = Scratch::new(Medium::Memory);
    let options = NodeOptions::new(scratch.path()).damaged();
    let node = options.start();
    load(&node);
    let mut conn = node.connect();
    assert_eq!(text(&mut conn, &["CAIRN.SNAPSHOT", "CREATE", "name-of-the-snapshot"]), "OK");
    let (options, _) = node.stop();
    let node = options.start();
    assert_eq!(text(&mut node.connect(), &["SET", "key:5", "new"]), "OK");
    let options = node.kill9();
    damage(scratch.path(), "name-of-the-snapshot");
    for _ in 0..2 {
        let node = options.start();
        let mut conn = node.connect();
        assert!(text(&mut conn, &["GET", "key:777"]).starts_with("value-of-777-"));
        assert_eq!(text(&mut conn, &["GET", "key:5"]), "new", "the log is read too");
        let refusal = text(&mut conn, &["SET", "key:6", "new"]);
        assert!(refusal.starts_with("MISCONF") && refusal.contains("snapshots"), "{refusal}");
        assert!(refusal.contains("restore"), "{refusal}");
        assert!(node.info("stopped").contains("snapshots"), "{}", node.info("stopped"));
        let list = text(&mut conn, &["CAIRN.SNAPSHOT", "LIST"]);
        assert!(list.contains("checksum"), "{list}");
        node.kill9();
    }
}
