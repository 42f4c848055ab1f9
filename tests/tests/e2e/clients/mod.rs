//! Other people's clients: redis-cli, redis-benchmark and redis-py, with what they wrote checked
//! after a kill -9.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::scratch::{Medium, Scratch};
use cairn_tests::tools::{self, REDIS_REMEDY};

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a client and returns what it printed; it must succeed.
fn printed(command: &mut Command) -> String {
    let output = output(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text
}

fn at(program: &Path, node: &Node) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &node.address().port().to_string()]);
    command
}

fn redis_cli() -> Option<PathBuf> {
    tools::find("redis-cli", REDIS_REMEDY)
}

#[test]
fn redis_cli_talks_in_both_protocols_and_finds_its_words_after_a_kill() {
    let Some(cli) = redis_cli() else { return };
    let scratch = Scratch::new(Medium::Memory);
    let mut node = NodeOptions::new(scratch.path()).start();
    for flag in ["-2", "-3"] {
        let ask = |node: &Node, words: &[&str]| printed(at(&cli, node).arg(flag).args(words));
        assert_eq!(ask(&node, &["PING"]), "PONG\n");
        assert_eq!(ask(&node, &["SET", "greeting", "hello"]), "OK\n");
        assert_eq!(ask(&node, &["INCRBY", "counter", "41"]).trim(), "41");
        assert_eq!(ask(&node, &["APPEND", "greeting", " world"]).trim(), "11");
        assert_eq!(ask(&node, &["-n", "3", "SET", "elsewhere", "3"]), "OK\n");
        node = node.kill9().start();
        assert_eq!(ask(&node, &["GET", "greeting"]), "hello world\n");
        assert_eq!(ask(&node, &["GET", "counter"]), "41\n");
        assert_eq!(ask(&node, &["-n", "3", "GET", "elsewhere"]), "3\n");
        assert_eq!(ask(&node, &["GET", "elsewhere"]), "\n");
        assert_eq!(ask(&node, &["FLUSHALL"]), "OK\n");
    }
}

#[test]
fn redis_cli_scans_and_takes_pipes_and_docs() {
    let Some(cli) = redis_cli() else { return };
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let lines: String = (0..500).map(|i| format!("SET key:{i} {i}\r\n")).collect();
    let input = scratch.path().join("commands.txt");
    std::fs::write(&input, lines).expect("our own directory");
    let file = std::fs::File::open(&input).expect("just written");
    let text = printed(at(&cli, &node).arg("--pipe").stdin(file));
    assert!(text.contains("errors: 0, replies: 500"), "{text}");
    let scanned = printed(at(&cli, &node).args(["--scan", "--pattern", "key:*"]));
    assert_eq!(scanned.lines().count(), 500);
    let docs = printed(at(&cli, &node).args(["COMMAND", "DOCS", "GET"]));
    assert!(docs.contains("summary"), "{docs}");
    let info = printed(at(&cli, &node).args(["INFO", "keyspace"]));
    assert!(info.contains("db0:keys=500"), "{info}");
}

#[test]
fn redis_benchmark_runs_and_what_it_wrote_survives() {
    let Some(benchmark) = tools::find("redis-benchmark", REDIS_REMEDY) else { return };
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let node = NodeOptions::new(scratch.path()).start();
        for pipeline in ["1", "16"] {
            let args =
                ["-t", "ping,set,get,incr,mset", "-n", "3000", "-c", "20", "-r", "500", "-q"];
            let text = printed(at(&benchmark, &node).args(args).args(["-P", pipeline]));
            let results = text.replace('\r', "\n");
            for test in ["PING_INLINE", "PING_MBULK", "SET:", "GET:", "INCR:", "MSET"] {
                let found = results
                    .lines()
                    .any(|line| line.starts_with(test) && line.contains("requests per second"));
                assert!(found, "no result for {test} in: {results}");
            }
            assert!(!results.contains("rror"), "{results}");
        }
        let before = state(&node);
        let node = node.kill9().start();
        assert!(!before.is_empty());
        assert_eq!(before, state(&node), "what redis-benchmark wrote has changed");
    }
}

/// All keys with their values, in order.
fn state(node: &Node) -> Vec<(String, String)> {
    let mut conn = node.connect();
    let keys = conn.call(&["KEYS", "*"]).expect("a reply");
    let mut names: Vec<String> = keys.items().iter().map(|key| key.text()).collect();
    names.sort();
    let values = names.iter().map(|name| conn.call(&["GET", name]).expect("a reply").text());
    let values: Vec<String> = values.collect();
    names.into_iter().zip(values).collect()
}

#[test]
fn redis_py_works_in_both_protocols_and_finds_its_words_after_a_kill() {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(python) = tools::python_with(base, "redis") else { return };
    let script = base.join("redis_py.py");
    std::fs::write(&script, include_str!("redis_py.py")).expect("cargo's own directory");
    for protocol in ["2", "3"] {
        let scratch = Scratch::new(Medium::Memory);
        let node = NodeOptions::new(scratch.path()).start();
        let run = |node: &Node, phase: &str| {
            let port = node.address().port().to_string();
            printed(Command::new(&python).arg(&script).args([&port, protocol, phase]))
        };
        assert_eq!(run(&node, "methods").trim(), "ok");
        assert_eq!(run(&node, "leave").trim(), "ok");
        let node = node.kill9().start();
        assert_eq!(run(&node, "find").trim(), "ok");
    }
}

/// A script of this folder in the environment that has what all of them import.
struct Script {
    python: PathBuf,
    path: PathBuf,
}

impl Script {
    fn find(name: &str) -> Option<Script> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients");
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let imports = "redis, flask_session, langchain_community.chat_message_histories.redis";
        let python = tools::python_with_all(base, &folder.join("requirements.txt"), imports)?;
        Some(Script { python, path: folder.join(name) })
    }

    /// Runs it to its end, which must be a happy one.
    fn run(&self, node: &Node, words: &[&str]) {
        let port = node.address().port().to_string();
        let mut command = Command::new(&self.python);
        // No bytecode beside the sources.
        command.args(["-B".as_ref(), self.path.as_os_str()]).arg(port).args(words);
        assert_eq!(printed(&mut command).trim(), "ok");
    }
}

#[test]
fn redis_py_knows_the_collections_and_transactions_in_both_protocols_also_after_a_kill() {
    let Some(script) = Script::find("redis_py_collections.py") else { return };
    for protocol in ["2", "3"] {
        let scratch = Scratch::new(Medium::Memory);
        let node = NodeOptions::new(scratch.path()).start();
        script.run(&node, &[protocol, "methods"]);
        script.run(&node, &[protocol, "leave"]);
        let node = node.kill9().start();
        script.run(&node, &[protocol, "find"]);
    }
}

#[test]
fn web_sessions_survive_a_kill() {
    let Some(script) = Script::find("sessions.py") else { return };
    let scratch = Scratch::new(Medium::Memory);
    let cookies = scratch.path().join("cookies.json").display().to_string();
    let node = NodeOptions::new(&scratch.path().join("data")).start();
    script.run(&node, &["leave", &cookies]);
    let node = node.kill9().start();
    script.run(&node, &["find", &cookies]);
}

#[test]
fn conversations_survive_a_kill() {
    let Some(script) = Script::find("chat_history.py") else { return };
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    script.run(&node, &["leave"]);
    let node = node.kill9().start();
    script.run(&node, &["find"]);
}
