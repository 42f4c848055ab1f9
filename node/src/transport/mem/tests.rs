use super::*;
use cairn_protocol::cluster::message::{
    AppendEntries, AppendReply, Entry, EntryKind, Introduce, LogId, Member, ReadIndex,
    ReadIndexRequest, Vote,
};
use cairn_protocol::ids::{LogIndex, Term};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const DEADLINE: Duration = Duration::from_millis(500);

/// Fates by script, the last one for ever; time is tokio's, which the tests pause.
struct Script(Mutex<Vec<Fate>>);

impl Scheduler for Script {
    fn fate(&self, _: &Flight) -> Fate {
        let mut script = self.0.lock();
        if script.len() > 1 { script.remove(0) } else { script[0] }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Prompt.sleep(duration)
    }

    fn spawn(&self, task: BoxFuture<()>) {
        Prompt.spawn(task);
    }
}

/// Answers ReadIndex with how often it was asked, and appends with success.
fn counting(seen: Arc<AtomicU64>) -> Arc<dyn Handler> {
    Arc::new(move |incoming: Incoming| -> BoxFuture<Result<Reply, Refused>> {
        let count = seen.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            Ok(match incoming.request {
                Request::Append(_) => Reply::Append(AppendReply::Success),
                Request::Introduce(introduce) => Reply::Introduce(introduce),
                _ => Reply::ReadIndex(ReadIndex::At(Some(log_id(count)))),
            })
        })
    })
}

fn log_id(index: u64) -> LogId {
    LogId { term: Term(1), index: LogIndex(index) }
}

fn pair(script: Vec<Fate>) -> (MemNetwork, MemTransport, MemTransport, Arc<AtomicU64>) {
    let network = MemNetwork::new(Arc::new(Script(Mutex::new(script))));
    let seen = Arc::new(AtomicU64::new(0));
    let a = network.join(NodeId(1), "a:1", CLUSTER);
    let b = network.join(NodeId(2), "b:1", CLUSTER);
    a.set_peer(NodeId(2), "b:1");
    b.serve(counting(seen.clone()));
    (network, a, b, seen)
}

fn ask() -> Call {
    let request = Request::ReadIndex(ReadIndexRequest);
    Call {
        to: NodeId(2),
        class: Class::Replication,
        shard: ShardId(3),
        request,
        deadline: DEADLINE,
    }
}

const AT_ONCE: Fate = Fate::Deliver(Duration::ZERO);

#[tokio::test(start_paused = true)]
async fn entries_arrive_as_they_were_sent() {
    let (_network, a, b, _) = pair(vec![AT_ONCE]);
    let entries: Vec<Entry> = [0, 10, 5000]
        .iter()
        .enumerate()
        .map(|(i, len)| Entry {
            id: log_id(i as u64 + 1),
            kind: EntryKind::Operations,
            payload: Bytes::from(vec![i as u8; *len]),
        })
        .collect();
    let append = AppendEntries { vote: Vote::default(), prev: None, commit: None, entries };
    let wanted = Request::Append(append.clone());
    b.serve(Arc::new(move |incoming: Incoming| -> BoxFuture<Result<Reply, Refused>> {
        assert_eq!((incoming.from, incoming.shard), (NodeId(1), ShardId(3)));
        assert_eq!(incoming.request, wanted);
        Box::pin(async { Ok(Reply::Append(AppendReply::Success)) })
    }));
    let reply = a.call(Call { request: Request::Append(append), ..ask() }).await;
    assert_eq!(reply, Ok(Reply::Append(AppendReply::Success)));
    let link = &a.peers()[0].links[Class::Replication.index()];
    assert_eq!((link.calls, link.failed_calls, link.waiting_calls), (1, 0, 0));
    assert!(link.sent_bytes > 5000 && link.received_bytes > 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_ends_with_its_deadline() {
    let (_network, a, _b, seen) = pair(vec![Fate::Lost, AT_ONCE]);
    let timeout = CallError::Timeout { to: NodeId(2), after: DEADLINE };
    assert_eq!(a.call(ask()).await, Err(timeout.clone()));
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    let (_network, a, _b, seen) = pair(vec![AT_ONCE, Fate::Lost, AT_ONCE]);
    assert_eq!(a.call(ask()).await, Err(timeout));
    assert_eq!(seen.load(Ordering::Relaxed), 1, "only the reply was lost");
    assert!(a.call(ask()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_twice_is_executed_twice_and_answered_once() {
    let later = Duration::from_millis(50);
    let (_network, a, _b, seen) = pair(vec![Fate::Twice(Duration::ZERO, later), AT_ONCE]);
    assert_eq!(a.call(ask()).await, Ok(Reply::ReadIndex(ReadIndex::At(Some(log_id(1))))));
    tokio::time::sleep(later * 2).await;
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn delays_let_one_message_overtake_another() {
    let slow = Fate::Deliver(Duration::from_millis(20));
    let (_network, a, _b, _) = pair(vec![slow, AT_ONCE]);
    let (first, second) = tokio::join!(a.call(ask()), a.call(ask()));
    assert_eq!(first, Ok(Reply::ReadIndex(ReadIndex::At(Some(log_id(2))))));
    assert_eq!(second, Ok(Reply::ReadIndex(ReadIndex::At(Some(log_id(1))))));
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_unreachable_before_and_broken_after() {
    let (_network, a, _b, _) = pair(vec![Fate::Cut, AT_ONCE, Fate::Cut]);
    assert!(matches!(a.call(ask()).await, Err(CallError::Unreachable { .. })));
    let error = a.call(ask()).await.expect_err("the reply is cut");
    assert!(matches!(error, CallError::Broken { .. }) && error.may_be_executed());
}

#[tokio::test(start_paused = true)]
async fn a_message_does_not_outlive_its_receivers_restart() {
    let slow = Fate::Deliver(Duration::from_millis(20));
    let (network, a, _b, seen) = pair(vec![slow]);
    let call = tokio::spawn(a.call(ask()));
    tokio::time::sleep(Duration::from_millis(5)).await;
    network.leave(NodeId(2));
    assert!(matches!(a.call(ask()).await, Err(CallError::Unreachable { .. })));
    let again = network.join(NodeId(2), "b:1", CLUSTER);
    again.serve(counting(seen.clone()));
    assert!(matches!(call.await, Ok(Err(CallError::Timeout { .. }))));
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    assert!(a.call(ask()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn strangers_and_those_who_serve_nothing_are_refused() {
    let (network, a, b, _) = pair(vec![AT_ONCE]);
    let other = network.join(NodeId(3), "c:1", ClusterId([9; 16]));
    other.set_peer(NodeId(2), "b:1");
    let code = |outcome: Result<Reply, CallError>| match outcome {
        Err(CallError::Refused { refused, .. }) => refused.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(other.call(ask()).await), RefusedCode::Cluster);
    assert_eq!(b.refused().clusters, 1);
    b.set_peer(NodeId(1), "a:1");
    let back = Call { to: NodeId(1), ..ask() };
    assert_eq!(code(b.call(back).await), RefusedCode::Unavailable);
    let unknown = Call { to: NodeId(9), ..ask() };
    assert!(matches!(a.call(unknown).await, Err(CallError::Unreachable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_node_of_no_cluster_may_introduce_itself_and_no_more() {
    let (network, _a, b, _) = pair(vec![AT_ONCE]);
    let newcomer = network.join(NodeId(4), "d:1", ClusterId::NONE);
    let introduce = Introduce {
        member: Member { node: NodeId(4), address: "d:1".to_owned() },
        expect: 3,
        shards: 1,
        cluster: ClusterId::NONE,
        met: Vec::new(),
    };
    let asked = Request::Introduce(introduce.clone());
    let answer = newcomer.ask_address("b:1", asked, DEADLINE).await;
    assert_eq!(answer, Ok((NodeId(2), Reply::Introduce(introduce))));
    newcomer.set_peer(NodeId(2), "b:1");
    assert!(newcomer.call(ask()).await.is_err());
    assert_eq!(b.refused().clusters, 1);
    newcomer.set_cluster(CLUSTER);
    assert!(newcomer.call(ask()).await.is_ok());
}
