//! A member of a group whose other members a test plays: what they answer, and when, is said by
//! hand, and time passes by hand.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cairn_engine::{ENGINE_VERSION, Watch};
use cairn_protocol::cluster::message::{
    AppendEntries, AppendReply, BeatAnswer, Entry, EntryKind, Forward, ForwardKind, HeartbeatReply,
    LogId as WireId, TransferReply, Vote as WireVote, VoteReply, VoteRequest,
};
use cairn_protocol::command::CommandId;
use cairn_protocol::ids::ClusterId;
use cairn_protocol::op::{EntryHeader, encode_entry_header, encode_op};
use cairn_protocol::resp::Argv;
use cairn_store::Db;

use super::super::propose::Guard;
use super::super::propose::forward::{FORGET, WATCH};
use super::super::recover::{self, Options};
use super::super::start;
use super::*;
use crate::ops::config::Durability;
use crate::ops::metrics::Metrics as Counts;
use crate::transport::{
    BoxFuture, Call, CallError, Handler, PeerStatus, RefusedCounts, Transport, refused,
};

const SELF: NodeId = NodeId(1);
const OTHERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

/// The others, as the test has them answer.
#[derive(Debug, Default)]
struct Others(Mutex<Manners>);

#[derive(Debug, Default)]
struct Manners {
    /// They do not answer at all.
    gone: BTreeSet<NodeId>,
    /// They have no room for entries, nor for a pool.
    full: BTreeSet<NodeId>,
    /// Who was told to lead.
    told_to_lead: Vec<NodeId>,
}

impl Manners {
    fn answer(&mut self, to: NodeId, request: Request) -> Result<Reply, CallError> {
        if self.gone.contains(&to) {
            return Err(CallError::Unreachable { to, why: "it is gone".into() });
        }
        let granted =
            |asked: VoteRequest| VoteReply { vote: asked.vote, granted: true, last: None };
        match request {
            Request::PreVote(asked) => Ok(Reply::PreVote(granted(asked))),
            Request::Vote(asked) => Ok(Reply::Vote(granted(asked))),
            Request::Heartbeat(heartbeat) => {
                let followed = |shard| BeatAnswer { shard, outcome: Some(AppendReply::Success) };
                let groups = heartbeat.groups.iter().map(|beat| followed(beat.shard)).collect();
                let (sequence, now_ms) = (heartbeat.sequence, heartbeat.now_ms);
                Ok(Reply::Heartbeat(HeartbeatReply { sequence, now_ms, groups }))
            }
            Request::Append(append) if append.entries.is_empty() || !self.full.contains(&to) => {
                Ok(Reply::Append(AppendReply::Success))
            }
            Request::TransferLeader(asked) => {
                self.told_to_lead.push(asked.to);
                Ok(Reply::TransferLeader(TransferReply::Accepted))
            }
            _ => Err(CallError::Refused { to, refused: refused(RefusedCode::Failed, "no room") }),
        }
    }
}

impl Transport for Others {
    fn node(&self) -> NodeId {
        SELF
    }

    fn call(&self, call: Call) -> BoxFuture<Result<Reply, CallError>> {
        Box::pin(std::future::ready(self.0.lock().answer(call.to, call.request)))
    }

    fn ask_address(
        &self,
        _: &str,
        _: Request,
        _: Duration,
    ) -> BoxFuture<Result<(NodeId, Reply), CallError>> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    fn serve(&self, _: Arc<dyn Handler>) {}
    fn set_cluster(&self, _: ClusterId) {}
    fn set_peer(&self, _: NodeId, _: &str) {}
    fn remove_peer(&self, _: NodeId) {}

    fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    fn refused(&self) -> RefusedCounts {
        RefusedCounts::default()
    }
}

/// The member, and the world around it.
struct Scene {
    group: Arc<Group>,
    others: Arc<Others>,
    clock: Arc<AtomicU64>,
    stats: Arc<Stats>,
    _dir: tempfile::TempDir,
}

/// What a member finds at its start, and how it is to stand.
fn recovered(dir: &std::path::Path, others: &Arc<Others>) -> (recover::Recovery, Standing) {
    let capacity_bytes = 64 << 20;
    let member = Some([3, 5]);
    let options = Options { dir, durability: Durability::Always, capacity_bytes, member };
    let address = |node: NodeId| (node, format!("peer:{node}"));
    let standing = Standing::Member {
        transport: Arc::clone(others) as SharedTransport,
        first: Some([SELF].into_iter().chain(OTHERS).map(address).collect()),
        has_voted: false,
        keep_bytes: 1 << 20,
        reads: Reads::Lease,
        distance: Distance::default(),
    };
    (recover::recover(options).expect("recovers"), standing)
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let (others, clock) = (Arc::<Others>::default(), Arc::<AtomicU64>::default());
        clock.store(1_000_000_000, Ordering::Relaxed);
        let (recovery, standing) = recovered(dir.path(), &others);
        let counts = Counts::new(0);
        let stats = [counts.shard(), counts.shard()];
        let (executor, on_stop) =
            (Executor::simulated(Arc::clone(&clock), 7), Box::new(|_: &_| ()));
        let started = start::start(recovery, executor, standing, 64 << 20, stats, on_stop);
        let group = started.expect("starts").0;
        Scene { group, others, clock, stats: counts.shard(), _dir: dir }
    }

    fn manners(&self) -> parking_lot::MutexGuard<'_, Manners> {
        self.others.0.lock()
    }

    /// A moment passes.
    fn tick(&self) {
        self.clock.fetch_add(2_000_000, Ordering::Relaxed);
        self.group.attend(Duration::ZERO);
        // The log's thread lives by another clock.
        std::thread::sleep(Duration::from_micros(100));
    }

    /// Whether it comes to that within `longest`.
    fn comes_to(&self, longest: Duration, is_so: impl Fn() -> bool) -> bool {
        let until = self.group.executor.now() + longest;
        while !is_so() && self.group.executor.now() < until {
            self.tick();
        }
        is_so()
    }

    fn pass(&self, duration: Duration) {
        self.comes_to(duration, || false);
    }

    /// What comes of `future` within `longest`.
    fn wait<T>(&self, longest: Duration, future: impl Future<Output = T>) -> Option<T> {
        let (mut future, mut done) = (pin!(future), None);
        let until = self.group.executor.now() + longest;
        while done.is_none() && self.group.executor.now() < until {
            self.tick();
            let polled: Poll<T> =
                Pin::as_mut(&mut future).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(value) = polled {
                done = Some(value);
            }
        }
        done
    }

    fn lead(&self) {
        assert!(self.comes_to(SOON, || self.group.leads()), "nobody else campaigns");
    }

    /// It leads, and has applied all that there was before.
    fn is_in_office(&self) -> bool {
        self.group.leads() && self.group.term() == self.group.status().term
    }

    /// What the leader of `term` sends.
    fn follow(&self, term: u64, prev: Option<WireId>, commit: u64, entries: Vec<Entry>) {
        let vote = WireVote { term: Term(term), node: Some(OTHERS[0]), committed: true };
        let commit = Some(id(term, commit)).filter(|id| id.index.0 > 0);
        let append = Request::Append(AppendEntries { vote, prev, commit, entries });
        let reply = self.wait(SOON, self.group.answer(append)).expect("answered");
        assert_eq!(reply.expect("taken"), Reply::Append(AppendReply::Success));
    }

    fn value(&self, key: &str) -> Vec<u8> {
        let submission = Submission::new();
        submission.batch().push_read(
            CommandId::Get.spec(),
            0,
            Argv::from(&[&b"GET"[..], key.as_bytes()]),
            false,
        );
        let mut submission = submission;
        let run = self.group.run(&mut submission, 0, &self.stats);
        self.wait(LATER, run).expect("it ends").expect("reads are never lost");
        let mut reply = Vec::new();
        submission.batch().take_replies(&mut reply);
        reply
    }
}

const SOON: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(15);

fn id(term: u64, index: u64) -> WireId {
    WireId { term: Term(term), index: LogIndex(index) }
}

fn set(term: u64, index: u64, value: &str) -> Entry {
    let mut payload = Vec::new();
    let header = EntryHeader {
        engine_version: ENGINE_VERSION,
        count: 1,
        now_ms: 1_700_000_000_000,
        seed: 9,
    };
    encode_entry_header(&mut payload, &header);
    let argv = [&b"SET"[..], b"k", value.as_bytes()];
    encode_op(&mut payload, CommandId::Set, 0, Argv::from(&argv));
    Entry { id: id(term, index), kind: EntryKind::Operations, payload: payload.into() }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { id: id(term, index), kind: EntryKind::Blank, payload: Bytes::new() }
}

/// A leader's last write is acknowledged and here, but nobody has said so yet when it dies: who
/// watched its key and leads next must not write over it.
#[test]
fn a_transaction_waits_for_what_an_earlier_leader_left() {
    let scene = Scene::new();
    let (group, born) = (&scene.group, id(0, 0));
    scene.follow(5, Some(born), 2, vec![blank(5, 1), set(5, 2, "old")]);
    assert!(scene.comes_to(SOON, || group.applied() == LogIndex(2)));
    let watch = Arc::<Watch>::default();
    let engine = group.read();
    let now_ms = engine.store().clock_ms();
    engine.watch(&watch, Db(0), b"k", now_ms).expect("watched");
    drop(engine);
    let guard = Guard { watch, term: group.term() };
    scene.follow(5, Some(id(5, 2)), 2, vec![set(5, 3, "acknowledged")]);
    scene.manners().full = BTreeSet::from(OTHERS);
    scene.lead();
    assert_eq!((group.applied(), group.term()), (LogIndex(2), Term(5)));
    let (_, upto) = scene.wait(SOON, group.in_step(None)).flatten().expect("it leads");
    assert!(upto >= LogIndex(3), "WAIT counts who has the entry {upto}, another was acknowledged");
    let mut submission = Submission::new();
    let mut body = Vec::new();
    encode_op(&mut body, CommandId::Set, 0, Argv::from(&[&b"SET"[..], b"k", b"over it"]));
    submission.batch().push_exec_alone(&body, &[CommandId::Set.spec()], Some(guard));
    let mut run = Box::pin(group.run(&mut submission, 0, &scene.stats));
    let ran = scene.wait(Duration::from_millis(100), &mut run);
    scene.manners().full.clear();
    ran.or_else(|| scene.wait(SOON, &mut run)).expect("it ends").expect("and is not lost");
    drop(run);
    assert_eq!(submission.batch().take_parts(), None, "it was proposed");
    assert_eq!(scene.value("k"), b"$12\r\nacknowledged\r\n");
}

/// Whoever watches more keys has watched others under a leader that knew of them: another one does
/// not, and must not let the transaction pass for having been told of the last keys.
#[test]
fn another_leader_does_not_watch_the_rest_of_the_keys_alone() {
    let scene = Scene::new();
    scene.lead();
    assert!(scene.comes_to(SOON, || scene.is_in_office()));
    let mut payload = Vec::new();
    encode_op(&mut payload, CommandId::Watch, 0, Argv::from(&[&b"WATCH"[..], b"b"]));
    let watch = |flags| {
        let note = Forward {
            kind: ForwardKind::Write,
            session: 17,
            sequence: 0,
            resp: 2,
            flags,
            count: 1,
            payload: payload.clone().into(),
        };
        let group = Arc::clone(&scene.group);
        let told = group.serve(OTHERS[1], note, Arc::clone(&scene.stats));
        scene.wait(SOON, told).expect("it ends")
    };
    let more = watch(WATCH);
    assert!(more.is_err(), "of what came before nothing is known: {more:?}");
    assert_eq!(scene.group.watched_from_elsewhere(), 0);
    watch(WATCH | FORGET).expect("the first keys");
    watch(WATCH).expect("and more");
}

/// A leader whose followers are there and take nothing cannot tell what is agreed.
#[test]
fn reads_of_a_leader_that_cannot_agree_end() {
    let scene = Scene::new();
    scene.manners().full = BTreeSet::from(OTHERS);
    scene.lead();
    let start = scene.group.executor.now();
    let reply = scene.value("k");
    assert!(reply.starts_with(b"-CLUSTERDOWN"), "{}", reply.escape_ascii());
    let took = scene.group.executor.now() - start;
    assert!(took < Duration::from_secs(12), "{took:?}");
    scene.manners().full.clear();
    assert_eq!(scene.value("k"), b"$-1\r\n");
}

/// One that has no room for the pool does not keep others from joining.
#[test]
fn a_newcomer_that_takes_nothing_is_given_up() {
    let scene = Scene::new();
    scene.lead();
    assert!(scene.comes_to(SOON, || scene.is_in_office()));
    let is_voter =
        |node| scene.group.members().iter().any(|m| m.node == NodeId(node) && m.is_voter);
    scene.manners().full.insert(NodeId(4));
    scene.group.admit(NodeId(4), "peer:4");
    assert!(scene.comes_to(SOON, || scene.group.members().len() == 4));
    // Both ask again and again, as whoever wants to be in does.
    let long = Duration::from_millis(500);
    for _ in 0..100 {
        scene.group.admit(NodeId(4), "peer:4");
        scene.group.admit(NodeId(5), "peer:5");
        scene.pass(long);
        if is_voter(5) {
            break;
        }
    }
    assert!(is_voter(5) && !is_voter(4), "{:?}", scene.group.members());
}

/// On an idle cluster all have the same log, also those that have died since.
#[test]
fn leadership_is_handed_to_one_that_is_there() {
    for gone in OTHERS {
        let scene = Scene::new();
        scene.lead();
        assert!(scene.comes_to(SOON, || scene.group.replicas_in_step() == 2));
        scene.manners().gone.insert(gone);
        scene.pass(Duration::from_secs(2));
        assert!(scene.group.leads());
        scene.wait(SOON, scene.group.hand_over()).expect("it ends");
        let told = &scene.manners().told_to_lead;
        assert!(!told.is_empty() && !told.contains(&gone), "{told:?}, gone is {gone}");
    }
}

/// A lone node serves what it can of a damaged pool; a member has others that can do better, and
/// would answer what is old.
#[test]
fn a_member_does_not_serve_what_may_only_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut recovery, standing) = recovered(dir.path(), &Arc::default());
    recovery.found.halted = Some("the catalogue of snapshots is damaged".into());
    let counts = Counts::new(0);
    let stats = [counts.shard(), counts.shard()];
    let on_stop = Box::new(|_: &_| ());
    let started = start::start(recovery, Executor::new(), standing, 64 << 20, stats, on_stop);
    let refusal = started.err().expect("it does not start");
    assert!(refusal.contains("the catalogue of snapshots is damaged"), "{refusal}");
    assert!(refusal.contains("empty --dir"), "{refusal}");
}
