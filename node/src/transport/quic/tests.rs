//! Nodes on real sockets of this machine. Their callers are plain threads: no runtime but the
//! transport's own.

use std::future::Future;
use std::net::{Ipv4Addr, UdpSocket};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use cairn_protocol::cluster::message::{
    AppendEntries, AppendReply, Entry, EntryKind, Forward, ForwardKind, Forwarded, Introduce,
    LogId, Member, ReadIndex, ReadIndexRequest, Vote,
};
use cairn_protocol::ids::{LogIndex, Term};

use super::*;
use crate::transport::LinkState;

const SECRET: &str = "8f2d6c1e9b3a4f5071829304a5b6c7d8";
const CLUSTER: ClusterId = ClusterId([7; 16]);
const DEADLINE: Duration = Duration::from_secs(5);

/// Polls a future on this thread, which is no runtime's.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn options(node: u64) -> Options {
    Options {
        identity: Identity::from_secrets(NodeId(node), SECRET).expect("an identity"),
        listen: any_port(),
        advertise: String::new(),
        cluster: CLUSTER,
        boot_id: [3; 16],
        limits: Limits::default(),
    }
}

fn start(node: u64) -> QuicTransport {
    QuicTransport::start(options(node)).expect("a transport")
}

fn address(transport: &QuicTransport) -> String {
    transport.local_address().to_string()
}

/// Answers as the request wants; appends with the node that sent them as their conflict's term.
fn obliging() -> Arc<dyn Handler> {
    Arc::new(|incoming: Incoming| -> BoxFuture<Result<Reply, Refused>> {
        Box::pin(async move {
            Ok(match incoming.request {
                Request::Append(append) => {
                    let vote = Vote { term: Term(incoming.from.0), ..append.vote };
                    Reply::Append(AppendReply::HigherVote(vote))
                }
                Request::Introduce(introduce) => Reply::Introduce(introduce),
                Request::Forward(Forward { count, payload, .. }) => {
                    Reply::Forward(Forwarded::Done { count, flags: 0, payload })
                }
                _ => Reply::ReadIndex(ReadIndex::At(Some(log_id(incoming.shard.0.into())))),
            })
        })
    })
}

fn log_id(index: u64) -> LogId {
    LogId { term: Term(1), index: LogIndex(index) }
}

/// Node 1, which knows node 2, which serves.
fn pair() -> (QuicTransport, QuicTransport) {
    let (a, b) = (start(1), start(2));
    a.set_peer(NodeId(2), &address(&b));
    b.serve(obliging());
    (a, b)
}

fn ask() -> Call {
    let request = Request::ReadIndex(ReadIndexRequest);
    let (to, class, shard) = (NodeId(2), Class::Replication, ShardId(3));
    Call { to, class, shard, request, deadline: DEADLINE }
}

fn echo(payload: Bytes) -> Call {
    let request = Request::Forward(Forward {
        kind: ForwardKind::Write,
        session: 1,
        sequence: 1,
        resp: 2,
        flags: 0,
        count: 1,
        payload,
    });
    Call { request, ..ask() }
}

fn answer_of_3() -> Result<Reply, CallError> {
    Ok(Reply::ReadIndex(ReadIndex::At(Some(log_id(3)))))
}

/// Waits until `holds`, which must be soon.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_is_refused_again_and_again_is_logged_once_a_minute() {
    let (at, from) = (Instant::now(), IpAddr::from([127, 0, 0, 1]));
    let warned = Warned { at, from, why: "a stranger".to_owned() };
    let (soon, later) = (at + WARN_PAUSE, at + WARN_SAME_PAUSE);
    assert!(!warned.is_over(soon, from, "a stranger") && warned.is_over(later, from, "a stranger"));
    assert!(warned.is_over(soon, from, "a liar") && !warned.is_over(at, from, "a liar"));
    assert!(warned.is_over(soon, IpAddr::from([127, 0, 0, 2]), "a stranger"));
}

#[test]
fn a_call_of_each_class_is_answered() {
    let (a, _b) = pair();
    for class in Class::ALL {
        assert_eq!(wait(a.call(Call { class, ..ask() })), answer_of_3(), "{class:?}");
    }
    let status = &a.peers()[0];
    assert_eq!(
        status.hello.as_ref().map(|hello| (hello.node, hello.boot_id)),
        Some((NodeId(2), [3; 16]))
    );
    for link in &status.links {
        assert_eq!((link.state, link.calls, link.waiting_calls), (LinkState::Connected, 1, 0));
        assert!(link.rtt_us > 0 && link.sent_bytes >= 88 && link.received_bytes > 88, "{link:?}");
    }
    assert_eq!(a.refused(), RefusedCounts::default());
}

#[test]
fn what_a_guest_said_before_it_was_a_peer_is_known_once_it_is_one() {
    let (a, b) = pair();
    assert_eq!(wait(a.call(ask())), answer_of_3());
    b.set_peer(NodeId(1), &address(&a));
    let hello = b.peers()[0].hello.clone();
    assert_eq!(hello.map(|hello| hello.node), Some(NodeId(1)));
}

#[test]
fn payload_arrives_as_it_was_sent_whatever_its_length() {
    let (a, _b) = pair();
    for len in [0, 1, 100, 1200, 2047, 2048, 70_000, 1 << 20, envelope::PAYLOAD_BYTES_MAX] {
        let payload: Bytes = (0..len).map(|i| (i * 31 + i / 251) as u8).collect();
        let reply = wait(a.call(echo(payload.clone()))).expect("an echo");
        assert!(
            matches!(reply, Reply::Forward(Forwarded::Done { payload: back, .. }) if back == payload),
            "{len} bytes differ"
        );
    }
}

#[test]
fn the_handler_is_told_who_asks_by_the_certificate() {
    let (a, _b) = pair();
    let entry = Entry { id: log_id(1), kind: EntryKind::Blank, payload: Bytes::new() };
    let append =
        AppendEntries { vote: Vote::default(), prev: None, commit: None, entries: vec![entry] };
    let reply = wait(a.call(Call { request: Request::Append(append), ..ask() }));
    let vote = Vote { term: Term(1), ..Vote::default() };
    assert_eq!(reply, Ok(Reply::Append(AppendReply::HigherVote(vote))));
}

#[test]
fn both_sides_ask_over_the_connection_that_one_has_made() {
    let (a, b) = pair();
    a.serve(obliging());
    wait(a.call(ask())).expect("an answer");
    // Nobody listens there: only the connection that node 1 has made leads to it.
    b.set_peer(NodeId(1), "127.0.0.1:9");
    assert_eq!(wait(b.call(Call { to: NodeId(1), ..ask() })), answer_of_3());
}

#[test]
fn whoever_is_at_an_address_says_who_it_is() {
    let (a, b) = pair();
    let introduce = Introduce {
        member: Member { node: NodeId(1), address: "here:1".to_owned() },
        expect: 3,
        shards: 1,
        cluster: CLUSTER,
        met: Vec::new(),
    };
    let request = Request::Introduce(introduce.clone());
    let answer = wait(a.ask_address(&address(&b), request.clone(), DEADLINE));
    assert_eq!(answer, Ok((NodeId(2), Reply::Introduce(introduce))));
    let port = UdpSocket::bind(any_port()).expect("a socket that never answers");
    let nobody = port.local_addr().expect("its address").to_string();
    let error = wait(a.ask_address(&nobody, request, Duration::from_millis(200)));
    assert!(
        matches!(&error, Err(CallError::Unreachable { why, .. }) if why.contains(&nobody)),
        "{error:?}"
    );
}

#[test]
fn closing_tells_the_peers_and_frees_the_port() {
    let (a, b) = pair();
    wait(a.call(ask())).expect("an answer");
    let there = b.local_address();
    wait(b.close());
    eventually("the peer knows", || a.peers()[0].links[0].state == LinkState::BackingOff);
    let why = &a.peers()[0].links[0].last_error;
    assert!(why.contains("the node stops"), "{why}");
    UdpSocket::bind(there).expect("the port is free");
    let off = wait(b.call(Call { to: NodeId(1), ..ask() }));
    assert!(matches!(off, Err(CallError::Unreachable { .. })), "{off:?}");
}

mod faults;
mod hostile;
