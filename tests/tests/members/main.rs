//! Three members of a group in one process, over the in-memory network: one leads, each takes
//! writes and reads, and what was acknowledged survives the leader.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cairn_node::ops::config::{Durability, Reads};
use cairn_node::ops::metrics::Metrics;
use cairn_node::raft::epoch::{Flusher, Pace};
use cairn_node::raft::propose::forward::REST;
use cairn_node::raft::recover::{self, Options};
use cairn_node::raft::runtime::Executor;
use cairn_node::raft::{
    Attendant, Distance, Group, GroupError, Role, Standing, Submission, Way, start,
};
use cairn_node::transport::mem::{Fate, Flight, MemNetwork, Scheduler};
use cairn_node::transport::{BoxFuture, Handler, Incoming, SharedTransport, Transport, refused};
use cairn_protocol::cluster::message::{Refused, RefusedCode};
use cairn_protocol::cluster::{Kind, Reply, Request};
use cairn_protocol::command::{Place, resolve};
use cairn_protocol::ids::{ClusterId, NodeId};
use cairn_protocol::resp::Argv;
use tokio::runtime::{Handle, Runtime};

/// What is cut, and what has passed.
#[derive(Default)]
struct Cuts {
    /// A member that nothing comes to or from.
    off: AtomicU64,
    /// So many pieces of pools pass, and no more.
    pieces: AtomicU64,
}

/// Takes one of so many; false when there is none left.
fn take_one(left: &AtomicU64) -> bool {
    let less = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}

/// Delivers at once, on a runtime of its own, unless that is cut.
struct OnRuntime(Handle, Arc<Cuts>);

impl Scheduler for OnRuntime {
    fn fate(&self, flight: &Flight) -> Fate {
        let off = self.1.off.load(Ordering::SeqCst);
        if flight.from.0 == off || flight.to.0 == off {
            return Fate::Cut;
        }
        if flight.kind == Kind::SnapshotChunk && !flight.is_reply {
            let passes = take_one(&self.1.pieces);
            return if passes { Fate::Deliver(Duration::ZERO) } else { Fate::Cut };
        }
        Fate::Deliver(Duration::ZERO)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let slept = self.0.spawn(async move { tokio::time::sleep(duration).await });
        Box::pin(async move {
            // It ends early only with the runtime.
            let _ = slept.await;
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.0.spawn(task);
    }
}

struct Answers {
    group: Arc<Group>,
    metrics: Metrics,
    /// So many times it says that it is going when it is asked for the rest of a reply.
    going: Arc<AtomicU64>,
}

impl Handler for Answers {
    fn handle(&self, incoming: Incoming) -> BoxFuture<Result<Reply, Refused>> {
        match incoming.request {
            Request::Forward(forward) if forward.flags & REST != 0 && take_one(&self.going) => {
                let going = refused(RefusedCode::Unavailable, "it is going");
                Box::pin(std::future::ready(Err(going)))
            }
            Request::Forward(forward) => {
                let group = Arc::clone(&self.group);
                let served = group.serve(incoming.from, forward, self.metrics.shard());
                Box::pin(async move { served.await.map(Reply::Forward) })
            }
            request => self.group.answer(request),
        }
    }
}

struct MemberNode {
    id: NodeId,
    group: Arc<Group>,
    attendant: Attendant,
    flusher: Flusher,
    metrics: Metrics,
    /// Why it stopped, as its process is told.
    stops: Arc<Mutex<Vec<String>>>,
    /// See [`Answers`].
    going: Arc<AtomicU64>,
}

const NODES: [NodeId; 3] = [NodeId(11), NodeId(12), NodeId(13)];

fn address(id: NodeId) -> String {
    format!("node-{}:1", id.0)
}

impl MemberNode {
    fn start(network: &MemNetwork, id: NodeId, dir: &Path, first: bool) -> MemberNode {
        let transport = network.join(id, &address(id), ClusterId([7; 16]));
        let shared: SharedTransport = Arc::new(transport.clone());
        let capacity_bytes = 64 << 20;
        let options =
            Options { dir, durability: Durability::Always, capacity_bytes, member: Some([3, 5]) };
        let recovery = recover::recover(options).expect("recovers");
        let metrics = Metrics::new(0);
        let stats = [metrics.shard(), metrics.shard()];
        let first = first.then(|| NODES.map(|id| (id, address(id))).to_vec());
        let standing = Standing::Member {
            transport: shared,
            first,
            has_voted: false,
            keep_bytes: 0,
            reads: Reads::Lease,
            distance: Distance::default(),
        };
        let stops = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&stops);
        let on_stop = Box::new(move |error: &GroupError| {
            told.lock().expect("no panic").push(error.to_string());
        });
        let executor = Executor::new();
        let started = start::start(recovery, executor, standing, capacity_bytes, stats, on_stop);
        let (group, committer, _) = started.expect("starts");
        let pace = Pace::new(true, Some(20), None);
        let flusher = Flusher::start(Arc::clone(&group), committer, pace).expect("a thread");
        let going = Arc::<AtomicU64>::default();
        transport.serve(Arc::new(Answers {
            group: Arc::clone(&group),
            metrics: Metrics::new(0),
            going: Arc::clone(&going),
        }));
        let attendant = Attendant::start(Arc::clone(&group)).expect("a thread");
        MemberNode { id, group, attendant, flusher, metrics, stops, going }
    }

    fn stop(self) {
        // Where the log was closed on purpose it has something to say.
        let _ = self.flusher.stop();
        self.attendant.stop();
    }

    async fn call(&self, command: &str) -> String {
        self.call_all(&[command]).await
    }

    /// Commands that come together, as those of a pipeline.
    async fn call_all(&self, commands: &[&str]) -> String {
        let mut submission = Submission::new();
        let stats = self.metrics.shard();
        for command in commands {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            let argv = Argv::from(&words[..]);
            let spec = resolve(argv).expect("a command");
            match spec.place {
                Place::Write => submission.batch().push_write(spec, 0, argv, false),
                _ => submission.batch().push_read(spec, 0, argv, false),
            }
        }
        let mut way = Way::new(&self.group, 1, &stats, &mut submission);
        way.run().await;
        if way.is_lost() {
            return "lost".to_owned();
        }
        let mut replies = Vec::new();
        way.batch().take_replies(&mut replies);
        String::from_utf8(replies).expect("text")
    }
}

fn leader(nodes: &[MemberNode]) -> usize {
    let start = Instant::now();
    loop {
        if let Some(at) = nodes.iter().position(|node| node.group.role() == Role::Leader) {
            return at;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "nobody leads");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Three members that are one group, and what they run on.
struct Three {
    runtime: Runtime,
    network: MemNetwork,
    cuts: Arc<Cuts>,
    nodes: Vec<MemberNode>,
    _dirs: [tempfile::TempDir; 3],
}

impl Three {
    fn start() -> Three {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let cuts = Arc::<Cuts>::default();
        let scheduler = OnRuntime(runtime.handle().clone(), Arc::clone(&cuts));
        let network = MemNetwork::new(Arc::new(scheduler));
        let dirs = NODES.map(|_| tempfile::tempdir_in("/dev/shm").expect("a directory"));
        let nodes: Vec<MemberNode> = NODES
            .iter()
            .zip(&dirs)
            .map(|(id, dir)| MemberNode::start(&network, *id, dir.path(), true))
            .collect();
        leader(&nodes);
        Three { runtime, network, cuts, nodes, _dirs: dirs }
    }

    fn call(&self, at: usize, command: &str) -> String {
        self.runtime.block_on(self.nodes[at].call(command))
    }

    fn call_all(&self, at: usize, commands: &[&str]) -> String {
        self.runtime.block_on(self.nodes[at].call_all(commands))
    }
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A log that takes no vote ends the member's openraft: its process must hear of it.
#[test]
fn a_member_whose_vote_cannot_be_kept_stops_and_says_so() {
    let Three { runtime: _runtime, network, mut nodes, _dirs, .. } = Three::start();
    let fallen = nodes.remove(leader(&nodes));
    // What it applied at first is committed, and purged.
    std::thread::sleep(Duration::from_millis(300));
    nodes[0].group.log().close().expect("closes");
    network.leave(fallen.id);
    fallen.stop();
    eventually("it never stops", || !nodes[0].stops.lock().expect("no panic").is_empty());
    let stops = nodes[0].stops.lock().expect("no panic").clone();
    assert!(stops.len() == 1 && stops[0].contains("vote"), "{stops:?}");
    assert_eq!(nodes[0].group.role(), Role::Follower(None));
    nodes.into_iter().for_each(MemberNode::stop);
}

/// One that applies nothing more leads no more, says why while nobody else leads, and sends what it
/// is asked to whoever does.
#[test]
fn a_member_that_was_halted_says_why_and_then_forwards() {
    let three = Three::start();
    let at = leader(&three.nodes);
    assert_eq!(three.call(at, "SET key 1"), "+OK\r\n");
    three.nodes[at].group.halt("damage, for a test".to_owned());
    let since = Instant::now();
    let said = three.call(at, "SET key 2");
    assert!(said.starts_with("-MISCONF damage, for a test"), "{said}");
    assert!(since.elapsed() < Duration::from_millis(500), "after {:?}", since.elapsed());
    let leads = |at: usize| three.nodes[at].group.role() == Role::Leader;
    eventually("nobody else leads", || (0..3).any(|other| other != at && leads(other)));
    eventually("it hears of no other leader", || three.call(at, "SET key 3") == "+OK\r\n");
    assert_eq!(three.call((at + 1) % 3, "GET key"), "$1\r\n3\r\n");
    assert!(three.nodes[at].stops.lock().expect("no panic").is_empty(), "reads are served on");
    three.nodes.into_iter().for_each(MemberNode::stop);
}

#[test]
fn three_members_agree_and_outlive_their_leader() {
    let Three { runtime, network, mut nodes, _dirs, .. } = Three::start();
    runtime.block_on(async {
        for (at, node) in nodes.iter().enumerate() {
            assert_eq!(node.call(&format!("SET key{at} {at}")).await, "+OK\r\n");
        }
        for node in &nodes {
            for at in 0..3 {
                let got = node.call(&format!("GET key{at}")).await;
                assert_eq!(got, format!("$1\r\n{at}\r\n"));
            }
            if !node.group.leads() {
                // The leader leaves what takes long to the connection that asks.
                assert_eq!(node.call("KEYS nosuch*").await, "*0\r\n");
            }
        }
    });
    let fallen = nodes.remove(leader(&nodes));
    network.leave(fallen.id);
    fallen.stop();
    let since = Instant::now();
    runtime.block_on(async {
        assert_eq!(nodes[0].call("SET key0 again").await, "+OK\r\n");
        println!("writes again after {:?}", since.elapsed());
        assert_eq!(nodes[1].call("GET key0").await, "$5\r\nagain\r\n");
    });
    nodes.into_iter().for_each(MemberNode::stop);
}

/// The rest of a long answer is not to be had, and whoever has it says that it did not even look: what
/// is answered has been executed all the same, once.
#[test]
fn a_write_whose_long_answer_is_cut_off_is_not_executed_again() {
    let three = Three::start();
    let at = leader(&three.nodes);
    let piece = "v".repeat(100_000);
    for _ in 0..20 {
        three.call(at, &format!("RPUSH long {piece}"));
    }
    let through = (at + 1) % 3;
    let pipeline = ["INCR counter", "LRANGE long 0 -1"];
    let whole = three.call_all(through, &pipeline);
    assert!(whole.starts_with(":1\r\n*20\r\n") && whole.len() > 20 * piece.len());
    three.nodes[at].going.store(1, Ordering::SeqCst);
    let said = three.call_all(through, &pipeline);
    assert_eq!(three.nodes[at].going.load(Ordering::SeqCst), 0, "no rest was asked for");
    assert_eq!(three.call(at, "GET counter"), "$1\r\n2\r\n", "executed twice");
    assert_eq!(said, "lost");
    // What only reads is asked again.
    three.nodes[at].going.store(1, Ordering::SeqCst);
    let read = three.call(through, "LRANGE long 0 -1");
    assert!(read.starts_with("*20\r\n") && read.len() > 20 * piece.len());
    three.nodes.into_iter().for_each(MemberNode::stop);
}

/// A long value is read aside, from a root that is pinned: what the same pipeline reads behind it is
/// not older.
#[test]
fn reads_of_a_pipeline_do_not_go_backwards() {
    let three = Three::start();
    let at = leader(&three.nodes);
    three.call(at, &format!("SET long {}", "v".repeat(300_000)));
    let (stop, through) = (AtomicBool::new(false), (at + 1) % 3);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                three.call(at, "APPEND long v");
            }
        });
        let backwards = (0..300).find_map(|_| {
            let said = three.call_all(through, &["GET long", "STRLEN long"]);
            let mut lines = said.lines().map(|line| line[1..].parse::<u64>());
            let (first, second) = (lines.next()?.ok()?, lines.next_back()?.ok()?);
            (first > second).then_some((first, second))
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(backwards, None);
    });
    three.nodes.into_iter().for_each(MemberNode::stop);
}

/// A pool on its way to a member is cut off in the middle, and clients go on writing: it goes on
/// where it stopped.
#[test]
fn a_pool_goes_on_where_it_was_cut_off_although_much_is_written() {
    const PASS: u64 = 3;
    let three = Three::start();
    let at = leader(&three.nodes);
    let (behind, group) = (&three.nodes[(at + 1) % 3], &three.nodes[at].group);
    let value = "v".repeat(20_000);
    let write = |round: usize| {
        for key in 0..100 {
            let set = format!("SET key{round}:{key} {value}");
            assert_eq!(three.call(at, &set), "+OK\r\n");
        }
    };
    three.cuts.off.store(behind.id.0, Ordering::SeqCst);
    (0..4).for_each(write);
    let has = behind.group.applied();
    eventually("nothing is purged", || group.status().purged.is_some_and(|at| at.0 > has.0 + 100));
    // What is sent is of the last commit: it has all of that by then.
    let head = || group.read().store().export().head().clone();
    eventually("nothing is committed", || head().applied().1 == group.applied());
    let chunks = head().chunks();
    assert!(chunks > PASS + 3, "no middle to cut it in: {chunks}");

    three.cuts.pieces.store(PASS, Ordering::SeqCst);
    three.cuts.off.store(0, Ordering::SeqCst);
    eventually("no pool comes", || three.cuts.pieces.load(Ordering::SeqCst) == 0);
    (4..6).for_each(write);
    std::thread::sleep(Duration::from_millis(300));
    const MANY: u64 = 1000;
    three.cuts.pieces.store(MANY, Ordering::SeqCst);
    eventually("it does not catch up", || behind.group.applied() == group.applied());
    let rest = MANY - three.cuts.pieces.load(Ordering::SeqCst);
    println!("{PASS} pieces, then {rest}, of {chunks}");
    assert!(rest > 0 && rest <= chunks - PASS, "it began anew: {rest} more of {chunks}");
    three.nodes.into_iter().for_each(MemberNode::stop);
}
