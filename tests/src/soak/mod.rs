//! A long run against a model: all types churn, keys expire, snapshots are taken, rolled back to and
//! dropped, the node is killed every few seconds, and after each restart it must hold what was
//! acknowledged, and of the rest a beginning.
//!
//! `model` is what keys must hold, [`writer`] writes and says which states that allows, this file
//! leads: rounds of load, an end to each (kill -9, an orderly stop, or just quiet), a check.

mod model;
pub mod writer;

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Model;
use writer::{Candidates, Orders, Writer};

use crate::node::{Node, NodeOptions, binary};
use crate::process;
use crate::resp::Conn;
use crate::rng::Rng;
use crate::scratch::{Medium, Scratch, disk_bytes};

const WRITERS: u64 = 4;
/// Snapshots held at once.
const SNAPSHOTS: usize = 5;
/// What a node is given: several times what the writers' keys ever take.
const MEMORY_BYTES: u64 = 1 << 30;
/// What `--dir` may take beside twice the data: log segments, blocks that the commits under way
/// still need, and what a rollback left that is not sorted yet.
const SPARE_BYTES: u64 = 512 << 20;
/// Memory of the process's own that a run may never exceed.
const ANONYMOUS_BYTES: u64 = 256 << 20;
/// How long the sorting of what snapshots kept may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Milliseconds of the wall clock, by which keys expire.
#[allow(clippy::disallowed_methods)] // The node's own time: deadlines are compared with it.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What a run did and took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Loads with a check behind each.
    pub rounds: u64,
    /// Times that the node was killed.
    pub kills: u64,
    /// Changes that were acknowledged.
    pub acknowledged: u64,
    /// Snapshots taken.
    pub taken: u64,
    /// Rollbacks done.
    pub rolled_back: u64,
    /// Most bytes that the node's directory took.
    pub disk_bytes_max: u64,
    /// Most bytes of the pool in use.
    pub used_bytes_max: u64,
    /// Most bytes that were live.
    pub live_bytes_max: u64,
    /// Most bytes that snapshots kept beside them.
    pub kept_bytes_max: u64,
    /// Most bytes of the process beside the pool's pages.
    pub anonymous_bytes_max: u64,
}

/// A snapshot and what each writer's keys may have been when it was taken.
#[derive(Debug)]
struct Taken {
    name: String,
    states: Vec<Candidates>,
}

/// A snapshot command that was sent.
#[derive(Debug)]
struct Sent {
    what: What,
    acknowledged: bool,
    /// What a snapshot that it took may hold, by writer.
    states: Vec<Candidates>,
}

impl Sent {
    /// Notes what a snapshot may hold that was not acknowledged, now that nobody writes any more.
    fn end(&mut self, writers: &[Writer]) {
        if matches!(self.what, What::Create(_)) && !self.acknowledged {
            self.states = writers.iter().map(Writer::end_snapshot).collect();
        }
    }
}

/// A snapshot command; snapshots that are there already by their place.
#[derive(Clone, Debug)]
enum What {
    Create(String),
    Drop(usize),
    RollBack(usize),
}

/// How a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    Stop,
    Quiet,
}

/// A run under way.
#[derive(Debug)]
pub struct Soak {
    seed: u64,
    rng: Rng,
    scratch: Scratch,
    options: NodeOptions,
    writers: Vec<Writer>,
    orders: Orders,
    /// From the oldest on.
    snapshots: Vec<Taken>,
    names: u64,
    summary: Summary,
}

impl Soak {
    /// A run with these choices, which has not begun.
    pub fn new(medium: Medium, seed: u64) -> Soak {
        let scratch = Scratch::new(medium);
        let options = NodeOptions::new(scratch.path()).set("memory", &MEMORY_BYTES.to_string());
        Soak {
            seed,
            rng: Rng::new(seed),
            options,
            scratch,
            writers: (0..WRITERS).map(|id| Writer::new(id, seed)).collect(),
            orders: Orders::default(),
            snapshots: Vec::new(),
            names: 0,
            summary: Summary::default(),
        }
    }

    /// Runs for at least `duration`, then takes all snapshots back, stops the node and has its
    /// directory checked whole. `tell` is called after each round.
    ///
    /// # Panics
    /// At the first thing that is not as it must be, with the seed.
    pub fn run(mut self, duration: Duration, mut tell: impl FnMut(&Summary)) -> Summary {
        let start = Instant::now();
        let mut node = self.options.start();
        while start.elapsed() < duration {
            node = self.round(node);
            self.summary.rounds += 1;
            self.measure(&node);
            tell(&self.summary);
        }
        node = self.take_back(node);
        self.sound(node);
        self.summary
    }

    /// Load, an end, and a check of what is there then.
    fn round(&mut self, node: Node) -> Node {
        let typical_bytes = *self.rng.pick(&[20, 100, 400, 2_000, 9_000]);
        self.orders.typical_bytes.store(typical_bytes, Ordering::Relaxed);
        self.orders.stop.store(false, Ordering::Relaxed);
        let end = *self.rng.pick(&[End::Kill, End::Kill, End::Kill, End::Stop, End::Quiet]);
        let (node, sent) = self.load(node, end);
        let node = match node {
            Ok(node) if end == End::Stop => node.stop().0.start(),
            Ok(node) => node,
            Err(options) => self.restart(&options),
        };
        self.settle(&node, sent);
        if self.rng.once_in(3) { self.at_rest(node) } else { node }
    }

    fn restart(&mut self, killed: &NodeOptions) -> Node {
        self.summary.kills += 1;
        killed.start()
    }

    /// Lets the writers write, with a snapshot command in the middle perhaps, until the end.
    fn load(&mut self, node: Node, end: End) -> (Result<Node, NodeOptions>, Option<Sent>) {
        let what = self.beside_load();
        let half = Duration::from_micros(self.rng.below(2_000_000));
        let cut = (end == End::Kill && self.rng.once_in(3)).then(|| self.moment());
        let (address, seed) = (node.address(), self.rng.bits());
        let (writers, orders, taken) = (&self.writers, &self.orders, &self.snapshots);
        let (node, mut sent) = std::thread::scope(|scope| {
            for writer in writers {
                scope.spawn(move || writer.run(address, orders));
            }
            scope.spawn(move || writers[0].look_on(address, seed, orders));
            std::thread::sleep(half);
            let (node, sent) = match what {
                Some(what) => {
                    let (node, sent) = ask(node, what, taken, writers, cut);
                    (node, Some(sent))
                }
                None => (Ok(node), None),
            };
            if node.is_ok() {
                std::thread::sleep(half);
            }
            orders.stop.store(true, Ordering::Relaxed);
            (
                node.and_then(|node| if end == End::Kill { Err(node.kill9()) } else { Ok(node) }),
                sent,
            )
        });
        // Whether or not a node that was killed took it, what it may hold ends with the writers.
        if let Some(sent) = &mut sent {
            sent.end(writers);
        }
        (node, sent)
    }

    /// How long after a command a node is killed that may or may not have done it.
    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.rng.below(3000))
    }

    /// What is asked for while writers write: never a rollback, since they would go on from a state
    /// that nobody knows.
    fn beside_load(&mut self) -> Option<What> {
        match self.rng.below(4) {
            0 => self.any_taken().map(What::Drop),
            1 | 2 if self.snapshots.len() < SNAPSHOTS => Some(self.create()),
            _ => None,
        }
    }

    fn create(&mut self) -> What {
        self.names += 1;
        What::Create(format!("s{}", self.names))
    }

    fn any_taken(&mut self) -> Option<usize> {
        let count = self.snapshots.len();
        (count > 0).then(|| self.rng.below(count as u64) as usize)
    }

    /// A snapshot command while nobody writes, with a kill right behind it perhaps.
    fn at_rest(&mut self, node: Node) -> Node {
        let what = match (self.any_taken(), self.rng.below(4)) {
            (Some(at), 0) => What::Drop(at),
            (Some(at), 1 | 2) => What::RollBack(at),
            (_, _) if self.snapshots.len() < SNAPSHOTS => self.create(),
            _ => return node,
        };
        let cut = self.rng.once_in(2).then(|| self.moment());
        self.ask_and_settle(node, what, cut)
    }

    fn ask_and_settle(&mut self, node: Node, what: What, cut: Option<Duration>) -> Node {
        let (node, mut sent) = ask(node, what, &self.snapshots, &self.writers, cut);
        sent.end(&self.writers);
        let node = node.unwrap_or_else(|options| self.restart(&options));
        self.settle(&node, Some(sent));
        node
    }

    /// Checks what the node holds against what it may hold, and goes on from there. A command that
    /// was sent and not acknowledged may have been done or not.
    fn settle(&mut self, node: &Node, sent: Option<Sent>) {
        let mut conn = node.connect();
        let names = listed(&mut conn);
        let found: Vec<_> = self.writers.iter().map(|writer| writer.read_back(&mut conn)).collect();
        let may_be_done: &[bool] = match &sent {
            None => &[false],
            Some(sent) if sent.acknowledged => &[true],
            Some(_) => &[false, true],
        };
        let mut complaints = Vec::new();
        for done in may_be_done {
            let what = sent.as_ref().map(|sent| &sent.what).filter(|_| *done);
            match self.judge(what, &names, &found) {
                Ok(models) => {
                    self.adopt(models, sent.filter(|_| *done));
                    return;
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        let log = node.log();
        panic!("seed {}: after {sent:?}: {}\n{log}", self.seed, complaints.join("; or else "));
    }

    /// The state of each writer's keys that `found` shows, if `what` is the last that was done.
    fn judge(
        &self,
        what: Option<&What>,
        names: &[String],
        found: &[(Model, (u64, u64))],
    ) -> Result<Vec<Model>, String> {
        let mut wanted: Vec<&str> = self.snapshots.iter().map(|taken| &*taken.name).collect();
        match what {
            Some(What::Create(name)) => wanted.push(name),
            Some(What::Drop(at)) => drop(wanted.remove(*at)),
            Some(What::RollBack(at)) => wanted.truncate(at + 1),
            None => {}
        }
        if names != wanted {
            return Err(format!("there are the snapshots {names:?}, not {wanted:?}"));
        }
        let judged = found.iter().enumerate().map(|(number, (model, times))| {
            let candidates = match what {
                Some(What::RollBack(at)) => self.snapshots[*at].states[number].clone(),
                _ => self.writers[number].candidates(),
            };
            let matched = candidates.matching(model, *times);
            matched.map_err(|complaint| format!("writer {number}: {complaint}"))
        });
        judged.collect()
    }

    fn adopt(&mut self, models: Vec<Model>, done: Option<Sent>) {
        match done {
            Some(Sent { what: What::Create(name), states, .. }) => {
                self.summary.taken += 1;
                self.snapshots.push(Taken { name, states });
            }
            Some(Sent { what: What::Drop(at), .. }) => drop(self.snapshots.remove(at)),
            Some(Sent { what: What::RollBack(at), .. }) => {
                self.summary.rolled_back += 1;
                self.snapshots.truncate(at + 1);
                // Which of the candidates it is shows now, and must show next time too.
                let known = models
                    .iter()
                    .map(|model| Candidates { first: model.clone(), then: Vec::new() });
                self.snapshots[at].states = known.collect();
            }
            None => {}
        }
        for (writer, model) in self.writers.iter().zip(models) {
            writer.settle(model);
        }
    }

    fn measure(&mut self, node: &Node) {
        let number = |field| node.info(field).parse().unwrap_or(0);
        let summary = &mut self.summary;
        summary.acknowledged = self.writers.iter().map(Writer::acknowledged_count).sum();
        let measured = [
            (&mut summary.disk_bytes_max, disk_bytes(self.scratch.path())),
            (&mut summary.used_bytes_max, number("pool_used_bytes")),
            (&mut summary.live_bytes_max, number("pool_live_bytes")),
            (&mut summary.kept_bytes_max, number("snapshots_kept_bytes")),
            (&mut summary.anonymous_bytes_max, node.anonymous_bytes()),
        ];
        for (most, bytes) in measured {
            *most = bytes.max(*most);
        }
        let Summary { disk_bytes_max, anonymous_bytes_max, .. } = *summary;
        let data_max = summary.live_bytes_max + summary.kept_bytes_max;
        assert!(
            disk_bytes_max <= data_max * 2 + SPARE_BYTES && anonymous_bytes_max <= ANONYMOUS_BYTES,
            "seed {}: too much room is taken: {summary:?}",
            self.seed
        );
    }

    /// Rolls back to each snapshot that is left, from the newest on, and drops it.
    fn take_back(&mut self, mut node: Node) -> Node {
        while let Some(at) = self.snapshots.len().checked_sub(1) {
            node = self.ask_and_settle(node, What::RollBack(at), None);
            node = self.ask_and_settle(node, What::Drop(at), None);
        }
        let sorted = || node.info("snapshots_kept_bytes") == "0";
        assert!(process::eventually(PATIENCE, sorted), "seed {}: never sorted", self.seed);
        node
    }

    /// Stops the node in order and has its directory checked, bit by bit.
    fn sound(&self, node: Node) {
        let (_, status) = node.stop();
        assert!(status.success(), "seed {}: {status}", self.seed);
        let mut check = Command::new(binary());
        check.args(["check", "--deep", "--dir"]).arg(self.scratch.path());
        let output = check.output().expect("the cairn binary can be run");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seed {}: cairn check: {said}", self.seed);
    }
}

/// Sends a snapshot command, and kills the node `cut` later if that is given; then its answer may
/// still have come.
fn ask(
    node: Node,
    what: What,
    taken: &[Taken],
    writers: &[Writer],
    cut: Option<Duration>,
) -> (Result<Node, NodeOptions>, Sent) {
    let words = match &what {
        What::Create(name) => vec!["CREATE", name],
        What::Drop(at) => vec!["DROP", &taken[*at].name],
        What::RollBack(at) => vec!["ROLLBACK", &taken[*at].name, "DROPLATER"],
    };
    let request: Vec<&str> = std::iter::once("CAIRN.SNAPSHOT").chain(words).collect();
    let creates = matches!(what, What::Create(_));
    if creates {
        writers.iter().for_each(Writer::begin_snapshot);
    }
    let mut conn = node.connect();
    conn.queue(&request);
    conn.flush().expect("the node takes a request");
    let node = match cut {
        None => Ok(node),
        Some(cut) => {
            std::thread::sleep(cut);
            Err(node.kill9())
        }
    };
    let reply = conn.receive();
    let acknowledged = match (&reply, &node) {
        (Ok(reply), _) => {
            assert_eq!(reply.text(), "OK", "{request:?}");
            true
        }
        (Err(_), Err(_)) => false,
        (Err(error), Ok(_)) => panic!("{request:?}: {error}"),
    };
    let states = match creates && acknowledged {
        true => writers.iter().map(Writer::end_snapshot).collect(),
        false => Vec::new(),
    };
    (node, Sent { what, acknowledged, states })
}

/// The names of a node's snapshots, the oldest first.
fn listed(conn: &mut Conn) -> Vec<String> {
    let list = conn.call(&["CAIRN.SNAPSHOT", "LIST"]).expect("the node answers");
    assert!(!list.is_error(), "{list:?}");
    list.items().iter().rev().map(|snapshot| snapshot.items()[1].text()).collect()
}
