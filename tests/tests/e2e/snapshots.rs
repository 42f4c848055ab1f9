//! Snapshots through the wire: taken, listed, dropped, rolled back to, and all of that under
//! kill -9.
//!
//! One writer sends writes and snapshot commands in pipelines. A restarted node must hold the state
//! after some prefix of what was sent that includes all that was acknowledged: the live data, and
//! the names of the snapshots in their order. What a snapshot holds shows when it is rolled back to.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::process;
use cairn_tests::resp::{Conn, Reply};
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};

/// Keys that the writer overwrites.
const KEYS: u64 = 300;
/// Names of snapshots.
const NAMES: u64 = 5;

type Data = BTreeMap<String, String>;

#[derive(Clone, Debug)]
enum Step {
    Set { key: u64, value: String },
    Del { key: u64 },
    Flush,
    Create { name: u64 },
    Drop { name: u64 },
    RollBack { name: u64, drop_later: bool },
}

#[derive(Clone, Default, PartialEq)]
struct History {
    live: Data,
    /// From the oldest on.
    snapshots: Vec<(String, Data)>,
}

impl History {
    /// Applies a step; the reply that it must get.
    fn apply(&mut self, step: &Step) -> &'static str {
        match step {
            Step::Set { key, value } => {
                self.live.insert(format!("k{key}"), value.clone());
                "OK"
            }
            Step::Del { key } => self.live.remove(&format!("k{key}")).map_or("0", |_| "1"),
            Step::Flush => {
                self.live.clear();
                "OK"
            }
            Step::Create { name } if self.position(*name).is_some() => "SNAPSHOTEXISTS",
            Step::Create { name } => {
                self.snapshots.push((format!("s{name}"), self.live.clone()));
                "OK"
            }
            Step::Drop { name } => match self.position(*name) {
                Some(at) => {
                    self.snapshots.remove(at);
                    "OK"
                }
                None => "NOSNAPSHOT",
            },
            Step::RollBack { name, drop_later } => match self.position(*name) {
                None => "NOSNAPSHOT",
                Some(at) if at + 1 < self.snapshots.len() && !drop_later => "LATERSNAPSHOTS",
                Some(at) => {
                    self.snapshots.truncate(at + 1);
                    self.live = self.snapshots[at].1.clone();
                    "OK"
                }
            },
        }
    }

    fn position(&self, name: u64) -> Option<usize> {
        self.snapshots.iter().position(|(taken, _)| *taken == format!("s{name}"))
    }

    /// Whether a node shows just this.
    fn is_shown(&self, live: &Data, names: &[String]) -> bool {
        self.live == *live && self.snapshots.iter().map(|(name, _)| name).eq(names)
    }
}

fn step(rng: &mut Rng, serial: u64) -> Step {
    let (key, name) = (rng.below(KEYS), rng.below(NAMES));
    match rng.below(100) {
        0..=4 => Step::Create { name },
        5..=7 => Step::Drop { name },
        8..=11 => Step::RollBack { name, drop_later: rng.below(2) == 0 },
        12 => Step::Flush,
        13..=20 => Step::Del { key },
        _ => Step::Set { key, value: format!("{serial}:{}", "v".repeat(rng.below(400) as usize)) },
    }
}

fn request(step: &Step) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let snapshot = |verb: &str, name: &u64| words(&["CAIRN.SNAPSHOT", verb, &format!("s{name}")]);
    match step {
        Step::Set { key, value } => words(&["SET", &format!("k{key}"), value]),
        Step::Del { key } => words(&["DEL", &format!("k{key}")]),
        Step::Flush => words(&["FLUSHALL"]),
        Step::Create { name } => snapshot("CREATE", name),
        Step::Drop { name } => snapshot("DROP", name),
        Step::RollBack { name, drop_later } => {
            let mut request: Vec<String> = snapshot("ROLLBACK", name);
            request.extend(drop_later.then(|| "DROPLATER".to_owned()));
            request
        }
    }
}

/// What a writer has sent since the last check.
struct Writer {
    rng: Rng,
    serial: u64,
    settled: History,
    sent: Vec<Step>,
    acknowledged: usize,
}

impl Writer {
    /// Sends pipelines of up to `batch` until the connection breaks or `most` steps were answered.
    fn run(&mut self, mut conn: Conn, batch: u64, most: usize) {
        let mut expected = self.settled.clone();
        for step in &self.sent {
            expected.apply(step);
        }
        while self.acknowledged < most {
            let first = self.sent.len();
            for _ in 0..1 + self.rng.below(batch) {
                self.serial += 1;
                self.sent.push(step(&mut self.rng, self.serial));
                conn.queue(&request(&self.sent[self.sent.len() - 1]));
            }
            if conn.flush().is_err() {
                return;
            }
            for step in &self.sent[first..] {
                let Ok(reply) = conn.receive() else { return };
                let wanted = expected.apply(step);
                assert!(reply.text().starts_with(wanted), "{step:?}: {reply:?}");
                self.acknowledged += 1;
            }
        }
    }

    /// Checks what a restarted node holds, and goes on from there.
    fn check(&mut self, conn: &mut Conn, seed: u64) {
        let (live, names) = shown(conn);
        let mut state = self.settled.clone();
        let (known, open) = self.sent.split_at(self.acknowledged);
        for step in known {
            state.apply(step);
        }
        let mut open = open.iter();
        while !state.is_shown(&live, &names) {
            let Some(step) = open.next() else {
                panic!(
                    "seed {seed}: no prefix of what was sent gives {} keys, {names:?}",
                    live.len()
                )
            };
            state.apply(step);
        }
        self.settled = state;
        self.sent.clear();
        self.acknowledged = 0;
    }
}

/// The live data, and the names of the snapshots from the oldest on.
fn shown(conn: &mut Conn) -> (Data, Vec<String>) {
    let mut get = vec!["MGET".to_owned()];
    get.extend((0..KEYS).map(|key| format!("k{key}")));
    let values = ask(conn, &get);
    let held = values.items().iter().zip(&get[1..]);
    let live = held.filter(|(value, _)| !value.is_null()).map(|(v, k)| (k.clone(), v.text()));
    let live: Data = live.collect();
    let size = ask(conn, &["DBSIZE"]).int();
    assert_eq!(size, Some(live.len() as i64), "DBSIZE and what is there");
    let list = ask(conn, &["CAIRN.SNAPSHOT", "LIST"]);
    let names = list.items().iter().rev().map(|snapshot| snapshot.items()[1].text()).collect();
    (live, names)
}

fn ask<A: AsRef<[u8]> + std::fmt::Debug>(conn: &mut Conn, request: &[A]) -> Reply {
    let reply = conn.call(request).expect("the node answers");
    assert!(!reply.is_error(), "{request:?}: {reply:?}");
    reply
}

fn rounds(medium: Medium, count: u64, seed: u64) {
    eprintln!("snapshots and kill -9 on {medium:?}: seed {seed} (CAIRN_SEED={seed} repeats it)");
    let scratch = Scratch::new(medium);
    let mut rng = Rng::new(seed);
    let mut writer = Writer {
        rng: Rng::new(seed ^ 7),
        serial: 0,
        settled: History::default(),
        sent: Vec::new(),
        acknowledged: 0,
    };
    // Short epochs, so that kills come in the middle of many commits.
    let options = NodeOptions::new(scratch.path()).set("epoch-ms", "10");
    let mut node = options.start();
    for _ in 0..count {
        let (conn, load) = (node.connect(), Duration::from_millis(20 + rng.below(300)));
        let batch = [1, 4, 32][rng.below(3) as usize];
        let options = std::thread::scope(|scope| {
            scope.spawn(|| writer.run(conn, batch, usize::MAX));
            std::thread::sleep(load);
            node.kill9()
        });
        node = options.start();
        writer.check(&mut node.connect(), seed);
    }
    // What each snapshot that is left holds, from the newest on.
    let mut conn = node.connect();
    while let Some((name, data)) = writer.settled.snapshots.last().cloned() {
        ask(&mut conn, &["CAIRN.SNAPSHOT", "ROLLBACK", &name]);
        assert!(shown(&mut conn).0 == data, "seed {seed}: snapshot {name}");
        ask(&mut conn, &["CAIRN.SNAPSHOT", "DROP", &name]);
        writer.settled.snapshots.pop();
    }
    ask(&mut conn, &["FLUSHALL"]);
    let nothing_kept = || node.info("snapshots_kept_bytes") == "0";
    assert!(process::eventually(Duration::from_secs(20), nothing_kept), "seed {seed}");
    sound(node, scratch);
}

/// Stops the node in order and has its pool checked, bit by bit.
fn sound(node: Node, scratch: Scratch) {
    let (_, status) = node.stop();
    assert!(status.success(), "{status}");
    let check = std::process::Command::new(cairn_tests::node::binary())
        .args(["check", "--deep", "--dir"])
        .arg(scratch.path())
        .output()
        .expect("cairn check runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn history_survives_kills_on_memory() {
    seeds(1).into_iter().for_each(|seed| rounds(Medium::Memory, 8, seed));
}

#[test]
fn history_survives_kills_on_a_file() {
    seeds(1).into_iter().for_each(|seed| rounds(Medium::File, 4, seed));
}

/// Each command is the last that was acknowledged before a kill: none of it is lost.
#[test]
fn the_last_word_before_a_kill_counts() {
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let mut options = NodeOptions::new(scratch.path());
        let rows: [(&[&str], &str, &[&str]); 8] = [
            (&["SET", "k0", "one"], "one", &[]),
            (&["CAIRN.SNAPSHOT", "CREATE", "a"], "one", &["a"]),
            (&["SET", "k0", "two"], "two", &["a"]),
            (&["CAIRN.SNAPSHOT", "CREATE", "b"], "two", &["a", "b"]),
            (&["SET", "k0", "three"], "three", &["a", "b"]),
            (&["CAIRN.SNAPSHOT", "ROLLBACK", "b"], "two", &["a", "b"]),
            (&["CAIRN.SNAPSHOT", "ROLLBACK", "a", "DROPLATER"], "one", &["a"]),
            (&["CAIRN.SNAPSHOT", "DROP", "a"], "one", &[]),
        ];
        for (words, live, names) in rows {
            let node = options.start();
            ask(&mut node.connect(), words);
            options = node.kill9();
            let node = options.start();
            let (found, listed) = shown(&mut node.connect());
            assert_eq!(found["k0"], live, "{words:?} on {medium:?}");
            assert_eq!(listed, names, "{words:?} on {medium:?}");
            options = node.kill9();
        }
    }
}

/// A transaction that takes a snapshot takes it of what it wrote before; one cannot roll back.
#[test]
fn a_snapshot_may_be_a_part_of_a_transaction() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    ask(&mut conn, &["MULTI"]);
    for words in [
        &["SET", "k0", "kept"][..],
        &["CAIRN.SNAPSHOT", "CREATE", "a"],
        &["SET", "k0", "later"],
        &["CAIRN.SNAPSHOT", "LIST"],
    ] {
        assert_eq!(ask(&mut conn, words).text(), "QUEUED");
    }
    let replies = ask(&mut conn, &["EXEC"]);
    assert_eq!(replies.items()[3].items().len(), 1, "{replies:?}");
    ask(&mut conn, &["CAIRN.SNAPSHOT", "ROLLBACK", "a"]);
    assert_eq!(ask(&mut conn, &["GET", "k0"]).text(), "kept");
    ask(&mut conn, &["MULTI"]);
    let refused = conn.call(&["CAIRN.SNAPSHOT", "ROLLBACK", "a"]).expect("a reply");
    assert!(refused.text().starts_with("ERR Command not allowed"), "{refused:?}");
}

/// What a client watches may have changed, and a value on its way in pieces is lost with an error
/// that says so.
#[test]
fn a_rollback_is_told_to_whoever_depends_on_the_data() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let (mut conn, mut other) = (node.connect(), node.connect());
    ask(&mut conn, &["SET", "k0", "1"]);
    ask(&mut other, &["CAIRN.SNAPSHOT", "CREATE", "a"]);
    ask(&mut conn, &["WATCH", "k0"]);
    ask(&mut other, &["CAIRN.SNAPSHOT", "CREATE", "b"]);
    ask(&mut other, &["CAIRN.SNAPSHOT", "DROP", "b"]);
    ask(&mut conn, &["MULTI"]);
    ask(&mut conn, &["SET", "k0", "2"]);
    assert!(!ask(&mut conn, &["EXEC"]).is_null(), "taking and dropping touch no key");
    ask(&mut conn, &["WATCH", "k0"]);
    ask(&mut other, &["CAIRN.SNAPSHOT", "ROLLBACK", "a"]);
    ask(&mut conn, &["MULTI"]);
    ask(&mut conn, &["SET", "k0", "3"]);
    assert!(ask(&mut conn, &["EXEC"]).is_null());
    assert_eq!(ask(&mut conn, &["GET", "k0"]).text(), "1");
}

#[test]
fn info_and_the_typed_client_say_what_there_is() {
    use cairn_client::commands::snapshots::LaterSnapshots;
    use cairn_client::{Client, Error, Options};
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = runtime.expect("a runtime").block_on(async {
        let client = Client::open(Options::new(node.address().to_string())).await?;
        client.set("k", "old").await?;
        client.snapshot_create("a").await?;
        client.set("k", "new").await?;
        client.snapshot_create("b").await?;
        let listed = client.snapshots().await?;
        let names: Vec<&[u8]> = listed.iter().map(|snapshot| snapshot.name.as_slice()).collect();
        assert_eq!(names, [b"b", b"a"]);
        assert!(listed[1].kept_blocks > 0 && listed[1].live_bytes > 0, "{listed:?}");
        assert_eq!(client.snapshot_info("a").await?, listed[1]);
        let totals = client.snapshot_totals().await?;
        assert_eq!((totals.count, totals.count_max), (2, 256));
        let refused = client.snapshot_rollback("a", LaterSnapshots::Refuse).await;
        assert!(matches!(refused, Err(Error::Server(text)) if text.starts_with("LATERSNAPSHOTS")));
        client.snapshot_rollback("a", LaterSnapshots::Drop).await?;
        assert_eq!(client.get("k").await?.as_deref(), Some(&b"old"[..]));
        client.snapshot_drop("a").await?;
        assert_eq!(client.snapshots().await?, []);
        Ok::<_, Error>(())
    });
    told.expect("the node answers");
    assert_eq!(node.info("snapshots"), "0");
    ask(&mut node.connect(), &["CAIRN.SNAPSHOT", "CREATE", "c"]);
    assert_eq!(node.info("snapshots"), "1");
}
