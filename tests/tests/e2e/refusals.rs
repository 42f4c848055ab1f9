//! Starts that must be refused, with a text that says what, where, and what to do; and damage that
//! must be survived.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cairn_tests::node::{NodeOptions, Refusal};
use cairn_tests::scratch::{Medium, Scratch};

/// Where the two superblock copies lie, and the fields of them that these tests change: from the
/// table in the pool's format, restated so that a change of the format is noticed here.
const SUPERBLOCKS: [u64; 2] = [0, 1 << 20];
const VERSION_AT: usize = 8;
const CRC_AT: usize = 4092;

/// A directory with a thousand keys, left by an orderly stop or by a kill.
fn filled(medium: Medium, orderly: bool) -> (Scratch, NodeOptions) {
    let scratch = Scratch::new(medium);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    for i in 0..1000 {
        conn.queue(&["SET", &format!("key:{i}"), &format!("value:{i}")]);
    }
    conn.flush().expect("the node takes a pipeline");
    (0..1000).for_each(|_| assert_eq!(conn.receive().expect("a reply").text(), "OK"));
    let options = if orderly { node.stop().0 } else { node.kill9() };
    (scratch, options)
}

fn has_everything(options: &NodeOptions) {
    let node = options.start();
    let mut conn = node.connect();
    for i in 0..1000 {
        conn.queue(&["GET", &format!("key:{i}")]);
    }
    conn.flush().expect("the node takes a pipeline");
    for i in 0..1000 {
        assert_eq!(conn.receive().expect("a reply").text(), format!("value:{i}"));
    }
}

/// The one file under `dir` whose name ends so, the first by name.
fn file(dir: &Path, suffix: &str) -> PathBuf {
    let mut found = Vec::new();
    files(dir, &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(suffix));
    found.sort();
    found.into_iter().next().unwrap_or_else(|| panic!("no *{suffix} in {}", dir.display()))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, found),
            path => found.push(path),
        }
    }
}

fn pool(dir: &Path) -> PathBuf {
    file(dir, ".pool")
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("the file opens");
    file.write_all_at(bytes, at).expect("the file can be written");
}

fn truncate(path: &Path, len: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the file opens");
    file.set_len(len).expect("the file can be cut");
}

fn refused(options: &NodeOptions) -> Refusal {
    match options.try_start() {
        Ok(node) => panic!("the node starts all the same: {}", node.ready_line()),
        Err(refusal) => {
            assert!(!refusal.status.success(), "exit code 0 with: {}", refusal.text);
            assert!(refusal.status.code().is_some(), "killed by a signal: {refusal:?}");
            assert!(!refusal.text.contains("panicked"), "a panic: {}", refusal.text);
            refusal
        }
    }
}

/// Looks for each of `parts`, whatever the case of its letters.
fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(
            text.to_lowercase().contains(&part.to_lowercase()),
            "{part:?} is missing in: {text}"
        );
    }
}

#[test]
fn a_second_instance_is_refused_with_the_holders_pid() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let refusal = refused(&NodeOptions::new(scratch.path()));
    contains_all(&refusal.text, &[&node.pid().to_string(), &scratch.path().display().to_string()]);
    assert_eq!(node.connect().call(&["PING"]).expect("the first is unharmed").text(), "PONG");
}

#[test]
fn a_port_in_use_is_named() {
    let (one, two) = (Scratch::new(Medium::Memory), Scratch::new(Medium::Memory));
    let node = NodeOptions::new(one.path()).start();
    let port = node.address().port().to_string();
    let refusal = refused(&NodeOptions::new(two.path()).set("port", &port));
    contains_all(&refusal.text, &[&port, "--port"]);
}

#[test]
fn a_read_only_directory_is_refused() {
    let scratch = Scratch::new(Medium::File);
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(scratch.path(), permissions).expect("our own directory");
    };
    let mut options = NodeOptions::new(scratch.path());
    if is_root() {
        // Root may write anywhere, so another user has to try.
        options = options.user(65534);
    }
    mode(0o555);
    let refusal = refused(&options);
    mode(0o755);
    contains_all(&refusal.text, &[&scratch.path().display().to_string(), "writ"]);
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// Gives both superblocks the format `version`, with checksums that fit.
fn set_version(pool: &Path, version: u32) {
    let mut bytes = [0; 4096];
    let file = OpenOptions::new().read(true).write(true).open(pool).expect("the pool opens");
    for at in SUPERBLOCKS {
        file.read_exact_at(&mut bytes, at).expect("a superblock");
        bytes[VERSION_AT..VERSION_AT + 4].copy_from_slice(&version.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        file.write_all_at(&bytes, at).expect("a superblock");
    }
}

#[test]
fn a_pool_of_a_newer_format_is_refused_naming_both_versions() {
    let (scratch, options) = filled(Medium::Memory, true);
    let pool = pool(scratch.path());
    set_version(&pool, 77);
    let refusal = refused(&options);
    let known = cairn_store::layout::pool::VERSION.to_string();
    contains_all(&refusal.text, &["77", &known, &pool.display().to_string(), "newer"]);
    // The refusal changed nothing.
    set_version(&pool, cairn_store::layout::pool::VERSION);
    has_everything(&options);
}

#[test]
fn one_damaged_superblock_costs_nothing() {
    for (copy, orderly) in [(0, true), (1, true), (0, false), (1, false)] {
        let (scratch, options) = filled(Medium::Memory, orderly);
        let options = options.damaged();
        overwrite(&pool(scratch.path()), SUPERBLOCKS[copy] + 48, &[0xee; 64]);
        has_everything(&options);
        // And it is mended: the other copy may go next.
        options.start().stop();
        overwrite(&pool(scratch.path()), SUPERBLOCKS[1 - copy] + 48, &[0xee; 64]);
        has_everything(&options);
    }
}

#[test]
fn two_damaged_superblocks_are_refused_with_file_and_offset() {
    let (scratch, options) = filled(Medium::Memory, true);
    let pool = pool(scratch.path());
    SUPERBLOCKS.iter().for_each(|at| overwrite(&pool, at + 48, &[0xee; 64]));
    let refusal = refused(&options);
    contains_all(&refusal.text, &[&pool.display().to_string(), "byte", "restore"]);
}

#[test]
fn a_truncated_pool_is_refused_with_file_offset_and_remedy() {
    for medium in Medium::ALL {
        let (scratch, options) = filled(medium, true);
        let pool = pool(scratch.path());
        let whole = std::fs::metadata(&pool).expect("the pool is there").len();
        for len in [whole / 2, 3 << 20, (2 << 20) - 1, (1 << 20) + 100, 5000, 4096, 100, 0] {
            truncate(&pool, len.min(whole));
            let refusal = refused(&options);
            let path = pool.display().to_string();
            contains_all(&refusal.text, &[&path, "restore"]);
        }
    }
}

#[test]
fn a_removed_pool_beside_its_log_is_refused() {
    let (scratch, options) = filled(Medium::Memory, true);
    std::fs::remove_file(pool(scratch.path())).expect("the pool can be removed");
    let refusal = refused(&options);
    contains_all(&refusal.text, &["pool", "log", "restore"]);
}

/// The segments of the log, by name.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&dir.join("log"), &mut found);
    found.sort();
    found
}

/// A cut behind the last record loses nothing; a cut inside what was acknowledged is refused.
#[test]
fn a_truncated_log_is_refused_or_harmless() {
    for orderly in [false, true] {
        for len in [0, 100, 512, 4096, 20_000, 8 << 20] {
            let (scratch, options) = filled(Medium::Memory, orderly);
            for segment in segments(scratch.path()) {
                if std::fs::metadata(&segment).expect("a segment").len() > len {
                    truncate(&segment, len);
                }
            }
            let log = scratch.path().join("log").display().to_string();
            match options.try_start() {
                Ok(node) => {
                    let (options, _) = node.stop();
                    has_everything(&options);
                }
                Err(_) => contains_all(&refused(&options).text, &[&log]),
            }
        }
    }
}

#[test]
fn a_damaged_record_before_the_last_batch_is_refused_with_file_and_offset() {
    // A kill soon after the writes, with commits far apart: all of them are in the log alone.
    let scratch = Scratch::new(Medium::Memory);
    let options = NodeOptions::new(scratch.path()).set("epoch-ms", "60000");
    let node = options.start();
    let mut conn = node.connect();
    let needle = "a-value-to-be-found-in-the-log";
    conn.call(&["SET", "first", needle]).expect("a reply");
    for i in 0..200 {
        conn.call(&["SET", &format!("key:{i}"), "later"]).expect("a reply");
    }
    node.kill9();
    let (segment, at) = find_bytes(&segments(scratch.path()), needle.as_bytes());
    overwrite(&segment, at + 3, b"#");
    let refusal = refused(&options);
    contains_all(&refusal.text, &[&segment.display().to_string(), "restore"]);
}

fn find_bytes(files: &[PathBuf], needle: &[u8]) -> (PathBuf, u64) {
    for path in files {
        let bytes = std::fs::read(path).expect("a segment can be read");
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            return (path.clone(), at as u64);
        }
    }
    panic!("the value is in none of {files:?}");
}

#[test]
fn bad_options_are_refused_with_the_flag() {
    let scratch = Scratch::new(Medium::Memory);
    for (name, value) in [("port", "http"), ("memory", "-1"), ("durability", "maybe")] {
        let refusal = refused(&NodeOptions::new(scratch.path()).set(name, value));
        contains_all(&refusal.text, &[&format!("--{name}"), value]);
    }
}
