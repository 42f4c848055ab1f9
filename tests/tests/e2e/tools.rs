//! `cairn check` and `cairn inspect` before directories in every state: what they say, and with
//! which exit code.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use cairn_tests::node::{Node, NodeOptions, binary};
use cairn_tests::scratch::{Medium, Scratch};
use serde_json::Value;

const CLEAN: i32 = 0;
const MENDABLE: i32 = 1;
const DAMAGED: i32 = 4;
const REFUSED: i32 = 8;

fn cairn(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(binary());
    command.args(args).arg("--dir").arg(dir).env_remove("CAIRN_DIR");
    command.output().expect("the cairn binary can be run")
}

/// Runs a tool; it must end with `code` and say each of `parts`.
fn says(args: &[&str], dir: &Path, code: i32, parts: &[&str]) -> String {
    let output = cairn(args, dir);
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.concat();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: {part:?} is missing in: {text}");
    }
    text
}

fn fill(node: &Node) {
    let mut conn = node.connect();
    let mut sent = 0;
    let mut queue = |request: &[&str]| {
        conn.queue(request);
        sent += 1;
    };
    for i in 0..3000 {
        queue(&["SET", &format!("key:{i}"), &"v".repeat(i % 300)]);
        queue(&["HSET", "hash", &format!("field:{i}"), "content"]);
        queue(&["ZADD", "ranking", &i.to_string(), &format!("member:{i}")]);
        queue(&["RPUSH", "list", &format!("element:{i}")]);
    }
    for i in 0..100 {
        queue(&["SET", &format!("brief:{i}"), "x", "EX", "10000"]);
        queue(&["HSET", &format!("small:{i}"), "field", "content"]);
    }
    queue(&["SET", "long", &"z".repeat(100_000)]);
    queue(&["SET", "number", "12345"]);
    conn.flush().expect("the node takes a pipeline");
    (0..sent).for_each(|_| assert!(!conn.receive().expect("a reply").is_error()));
}

/// A directory with some of everything, stopped in order.
fn filled() -> Scratch {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    fill(&node);
    node.stop();
    scratch
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("the file opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("a byte");
}

fn find(path: &Path, needle: &[u8]) -> u64 {
    let bytes = fs::read(path).expect("the file can be read");
    let at = bytes.windows(needle.len()).position(|window| window == needle);
    at.expect("the bytes are in the file") as u64
}

#[test]
fn a_pool_that_arrived_in_part_is_told_and_harms_nothing() {
    let scratch = Scratch::new(Medium::Memory);
    NodeOptions::new(scratch.path()).start().stop();
    assert!(!says(&["check"], scratch.path(), CLEAN, &[]).contains("incoming"));
    fs::write(scratch.path().join("shard-0.pool.incoming"), [1; 8192]).expect("written");
    let told = ["shard-0.pool.incoming: 8.00K of a peer's pool that has not arrived whole"];
    says(&["check"], scratch.path(), CLEAN, &told);
    says(&["inspect"], scratch.path(), CLEAN, &["not yet arrived", "8.00K of a peer's pool, in "]);
    let text = says(&["inspect", "--json"], scratch.path(), CLEAN, &[]);
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found["incoming"]["allocated_bytes"], 8192);
}

#[test]
fn what_cannot_be_looked_at_is_refused_with_what_to_do() {
    let scratch = Scratch::new(Medium::Memory);
    let (none, empty, file) =
        (scratch.path().join("none"), scratch.path().join("empty"), scratch.path().join("file"));
    fs::create_dir(&empty).expect("a directory");
    fs::write(&file, "x").expect("a file");
    for tool in [&["check"][..], &["check", "--deep"], &["inspect"], &["inspect", "--summary"]] {
        says(tool, &none, REFUSED, &["there is no directory", "/none", "--dir"]);
        says(tool, &empty, REFUSED, &["there is no pool in", "shard-0.pool", "--dir"]);
        says(tool, &file, REFUSED, &["is a file", "--dir"]);
    }
    assert_eq!(fs::read_dir(&empty).expect("still there").count(), 0, "looking leaves nothing");
}

#[test]
fn a_sound_directory_is_clean_and_stays_as_it_is() {
    let scratch = filled();
    let dir = scratch.path();
    let before = fs::read(dir.join("shard-0.pool")).expect("a pool");
    says(&["check"], dir, CLEAN, &["3205 keys", "not verified", "log", "clean"]);
    says(&["check", "--deep"], dir, CLEAN, &["checksums verified", "clean"]);
    says(&["inspect"], dir, CLEAN, &["superblock 0", "slabs by size class", "zset, skiplist"]);
    assert!(before == fs::read(dir.join("shard-0.pool")).expect("a pool"), "the pool was changed");
}

#[test]
fn a_running_node_is_not_checked_and_shows_what_holds_still() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    fill(&node);
    let pid = node.pid().to_string();
    says(&["check"], scratch.path(), REFUSED, &[&pid, "stop it first"]);
    let text = says(&["inspect"], scratch.path(), CLEAN, &["runs with pid", &pid, "superblock 1"]);
    assert!(!text.contains("slabs by size class"), "a running node's tree was walked: {text}");
    let (options, status) = node.stop();
    assert!(status.success(), "the node was disturbed");
    // And the tool's own hold on the directory is gone with it.
    options.start().stop();
}

#[test]
fn epochs_beyond_a_crash_are_explained() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    fill(&node);
    let node = node.kill9().start();
    node.connect().call(&["SET", "one", "more"]).expect("a reply");
    node.stop();
    for tool in ["check", "inspect"] {
        says(&[tool], scratch.path(), CLEAN, &["the numbers skip 16777216 after a crash"]);
    }
}

#[test]
fn a_damaged_superblock_is_mended_by_the_next_start() {
    let scratch = filled();
    let pool = scratch.path().join("shard-0.pool");
    flip(&pool, 60);
    says(&["check"], scratch.path(), MENDABLE, &["superblock 0", "next start", "sound"]);
    says(&["inspect", "--summary"], scratch.path(), MENDABLE, &["damaged", "the one that counts"]);
    flip(&pool, (1 << 20) + 60);
    says(&["check"], scratch.path(), DAMAGED, &["both superblocks", "restore"]);
    says(&["inspect"], scratch.path(), DAMAGED, &["damaged"]);
}

#[test]
fn a_flipped_bit_in_a_value_is_found_by_a_deep_check() {
    let scratch = filled();
    let pool = scratch.path().join("shard-0.pool");
    let at = find(&pool, "v".repeat(250).as_bytes());
    flip(&pool, at + 99);
    says(&["check"], scratch.path(), CLEAN, &["--deep does"]);
    let parts = ["problem: a block whose checksum does not fit", "at byte", "damaged"];
    says(&["check", "--deep"], scratch.path(), DAMAGED, &parts);
}

#[test]
fn a_log_that_is_missing_or_damaged_is_found() {
    // Killed, with commits far apart: the log holds what the pool has not.
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).set("epoch-ms", "60000").start();
    let mut conn = node.connect();
    conn.call(&["SET", "first", "a-value-to-be-found-in-the-log"]).expect("a reply");
    for _ in 0..10 {
        conn.call(&["SET", "later", "x"]).expect("a reply");
    }
    node.kill9();
    let dir = scratch.path();
    says(&["check"], dir, CLEAN, &["clean"]);
    let segment = dir.join("log/000001.seg");
    let at = find(&segment, b"a-value-to-be-found");
    flip(&segment, at);
    let file = segment.display().to_string();
    says(&["check"], dir, DAMAGED, &["problem: log:", &file, "at offset"]);
    says(&["inspect"], dir, DAMAGED, &[&file]);
    fs::remove_dir_all(dir.join("log")).expect("the log can be removed");
    says(&["check"], dir, DAMAGED, &["log", "missing", "ends at entry 0"]);
}

#[test]
fn too_little_address_space_is_refused_with_what_to_raise() {
    let scratch = Scratch::new(Medium::Memory);
    let script = "ulimit -v 1500000; exec \"$0\" --port 0 --memory 1gb --dir \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(binary()).arg(scratch.path());
    let output = command.output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["ulimit -v", "--memory", "addresses", "shard-0.pool"] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn sum(rows: &Value, field: &str) -> u64 {
    rows.as_array().expect("rows").iter().map(|row| number(&row[field])).sum()
}

#[test]
fn what_inspect_counts_adds_up() {
    let scratch = filled();
    let output = cairn(&["inspect", "--json"], scratch.path());
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let walk = &found["walk"];
    assert_eq!(number(&walk["keys"]), 3205);
    assert_eq!(sum(&walk["databases"], "keys"), 3205);
    assert_eq!(sum(&walk["databases"], "deadlines"), 100);
    assert_eq!(sum(&walk["types"], "keys"), 3205);
    assert_eq!(sum(&walk["types"], "bytes"), sum(&walk["databases"], "bytes"));
    assert_eq!(sum(&walk["kinds"], "bytes"), number(&walk["live_bytes"]));
    assert_eq!(sum(&walk["classes"], "live"), number(&walk["blocks"]));
    assert_eq!(sum(&walk["classes"], "leaked"), 0);
    let classes = walk["classes"].as_array().expect("classes").iter();
    let taken: u64 =
        classes.map(|class| number(&class["block_bytes"]) * number(&class["live"])).sum();
    assert_eq!(taken, number(&walk["live_bytes"]));
    let slabs = sum(&walk["classes"], "slabs");
    assert_eq!(slabs * 65536, number(&walk["slab_bytes"]));
    let all = slabs + number(&walk["free_slabs"]);
    let used = number(&found["superblock_in_use"]) as usize;
    let fields = &found["superblocks"][used]["fields"];
    assert_eq!(number(&fields["extents"]) * 32, all);
    let tree = |name: &str| {
        let types = walk["types"].as_array().expect("types").iter();
        let rows = types.filter(|row| row["type"] == name);
        rows.map(|row| (number(&row["trees"]), number(&row["tree_elements"]))).collect::<Vec<_>>()
    };
    assert_eq!(tree("zset"), [(1, 3000)]);
    assert_eq!(tree("list"), [(1, 3000)]);
    let depths = walk["keys_by_trie_depth"].as_array().expect("depths").iter();
    assert_eq!(depths.map(number).sum::<u64>(), 3205);
    let log = &found["log"];
    let shard = &log["shards"][0];
    assert_eq!(number(&shard["last"]["index"]), number(&fields["applied"]["index"]));
    assert_eq!(number(&shard["vote"]["node"]), 1);
    assert!(sum(&log["segments"], "bytes") > 0);
}

#[test]
fn an_empty_pool_is_damaged_and_not_out_of_reach() {
    let scratch = filled();
    fs::write(scratch.path().join("shard-0.pool"), "").expect("the pool is emptied");
    let parts = ["both superblocks are damaged", "shard-0.pool", "restore"];
    says(&["check"], scratch.path(), DAMAGED, &parts);
    says(&["check", "--deep"], scratch.path(), DAMAGED, &parts);
    let text = says(&["inspect"], scratch.path(), DAMAGED, &["the file ends before it"]);
    assert!(!text.contains("ulimit"), "{text}");
}
