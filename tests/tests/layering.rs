//! The walls of the house: which crate may import which, what must not stand in the core, and the
//! order of the modules inside the node.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a source directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {dir}");
    found
}

/// Code without comments and string contents do not matter here: words in comments are allowed.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or("")))
}

fn uses_of(sources: &[(PathBuf, String)], word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        for (number, line) in code_lines(text) {
            if line.contains(word) {
                found.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    found
}

#[test]
fn crates_import_downwards() {
    let walls = [
        ("protocol/src", &["cairn_store", "cairn_engine", "cairn_node", "cairn_client"][..]),
        ("client/src", &["cairn_store", "cairn_engine", "cairn_node"]),
        ("node/store/src", &["cairn_engine", "cairn_node", "cairn_client"]),
        ("node/engine/src", &["cairn_node", "cairn_client"]),
        ("node/src", &["cairn_client", "cairn_tests"]),
    ];
    for (dir, above) in walls {
        let sources = sources(dir);
        for word in above {
            assert_eq!(uses_of(&sources, word), Vec::<String>::new(), "{dir} imports {word}");
        }
    }
}

#[test]
fn unsafe_stands_in_the_store_alone() {
    for dir in ["protocol/src", "client/src", "node/src", "node/engine/src", "tests/src"] {
        let lib = fs::read_to_string(root().join(dir).join("lib.rs")).expect("lib.rs");
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{dir}/lib.rs must forbid unsafe code");
        assert_eq!(uses_of(&sources(dir), "unsafe {"), Vec::<String>::new());
    }
    for (path, text) in sources("node/store/src") {
        let unsafe_blocks = code_lines(&text).filter(|(_, line)| line.contains("unsafe {")).count();
        let reasons = text.matches("SAFETY:").count();
        assert!(reasons >= unsafe_blocks, "{}: an unsafe block without its reason", path.display());
    }
}

#[test]
fn the_core_knows_no_runtime_clock_chance_or_network() {
    let forbidden = [
        "tokio",
        "Instant::now",
        "SystemTime",
        "rand::",
        "getrandom",
        "RandomState",
        "thread_rng",
        "std::net",
    ];
    for dir in ["protocol/src", "node/store/src", "node/engine/src"] {
        let sources = sources(dir);
        for word in forbidden {
            assert_eq!(uses_of(&sources, word), Vec::<String>::new(), "{word} in {dir}");
        }
    }
}

#[test]
fn special_crates_stay_in_their_rooms() {
    let rooms = [
        ("openraft", "node/src/raft"),
        ("quinn", "node/src/transport"),
        ("bincode", "protocol/src/cluster/wire.rs"),
    ];
    for (word, room) in rooms {
        for dir in ["protocol/src", "client/src", "node/src", "node/store/src", "node/engine/src"] {
            for found in uses_of(&sources(dir), word) {
                assert!(found.contains(room), "{word} outside {room}: {found}");
            }
        }
    }
}

#[test]
fn clocks_are_read_in_one_place_of_the_node() {
    for found in uses_of(&sources("node/src"), "SystemTime::now") {
        assert!(found.contains("node/src/ops/clock.rs"), "a clock outside ops::clock: {found}");
    }
}

/// Inside the node: ops < transport < raft < cluster < server < node.rs.
#[test]
fn modules_of_the_node_import_downwards() {
    let order = ["ops", "transport", "raft", "cluster", "server", "node"];
    for (index, module) in order.iter().enumerate() {
        let dir = format!("node/src/{module}");
        if !root().join(&dir).is_dir() {
            continue;
        }
        for above in &order[index + 1..] {
            let word = format!("crate::{above}");
            for found in uses_of(&sources(&dir), &word) {
                let next = found.split(&word).nth(1).and_then(|rest| rest.chars().next());
                let is_module = next.is_none_or(|c| !c.is_alphanumeric() && c != '_');
                assert!(!is_module, "{module} imports {above}: {found}");
            }
        }
    }
}
