//! Peers that vanish, restart, stay silent or are slow; what a caller learns of it.

use std::net::UdpSocket;
use std::time::Instant;

use super::*;

/// Never answers.
fn silent() -> Arc<dyn Handler> {
    Arc::new(|_: Incoming| -> BoxFuture<Result<Reply, Refused>> {
        Box::pin(std::future::pending())
    })
}

/// Polls a call once, so that it is on its way, on a thread that waits for what becomes of it.
fn on_its_way(a: &QuicTransport, call: Call) -> std::thread::JoinHandle<Result<Reply, CallError>> {
    let future = a.call(call);
    let waiting = a.peers()[0].links[0].waiting_calls;
    let thread = std::thread::spawn(move || wait(future));
    eventually("the call is on its way", || a.peers()[0].links[0].waiting_calls > waiting);
    std::thread::sleep(Duration::from_millis(50));
    thread
}

/// A node under the same id at the same address.
fn restart(node: u64, listen: SocketAddr) -> QuicTransport {
    let transport = QuicTransport::start(Options { listen, ..options(node) }).expect("a transport");
    transport.serve(obliging());
    transport
}

#[test]
fn a_deadline_ends_a_call_that_nobody_answers() {
    let (a, b) = pair();
    b.serve(silent());
    wait(a.ask_address(&address(&b), ask().request, Duration::from_millis(100))).expect_err("late");
    let deadline = Duration::from_millis(300);
    let start = Instant::now();
    let outcome = wait(a.call(Call { deadline, ..ask() }));
    assert_eq!(outcome, Err(CallError::Timeout { to: NodeId(2), after: deadline }));
    assert!((300..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let link = &a.peers()[0].links[0];
    assert_eq!((link.failed_calls, link.waiting_calls), (1, 0));
}

#[test]
fn the_handler_goes_on_when_the_asker_gives_up() {
    let (a, b) = pair();
    let (started, starts) = std::sync::mpsc::channel();
    let (go, gone) = watch::channel(false);
    let (ended, ends) = std::sync::mpsc::channel();
    b.serve(Arc::new(move |_: Incoming| -> BoxFuture<Result<Reply, Refused>> {
        let (started, ended, mut gone) = (started.clone(), ended.clone(), gone.clone());
        Box::pin(async move {
            started.send(()).expect("the test waits");
            gone.wait_for(|gone| *gone).await.expect("the test says when");
            ended.send(()).expect("the test waits");
            answer_of_3().map_err(|_| refused(RefusedCode::Failed, ""))
        })
    }));
    let deadline = Duration::from_millis(200);
    wait(a.call(Call { deadline, ..ask() })).expect_err("late");
    starts.recv_timeout(DEADLINE).expect("it was started");
    go.send(true).expect("the handler waits");
    ends.recv_timeout(DEADLINE).expect("it came to its end");
}

#[test]
fn too_many_calls_are_full_at_once() {
    let mut options = options(1);
    options.limits.calls_max = 3;
    options.limits.calls_bytes_max = 10_000;
    let a = QuicTransport::start(options).expect("a transport");
    let b = start(2);
    b.serve(silent());
    a.set_peer(NodeId(2), &address(&b));
    let call = Call { deadline: Duration::from_secs(2), ..ask() };
    let _first = on_its_way(
        &a,
        Call { request: echo(Bytes::from(vec![0; 20_000])).request, ..call.clone() },
    );
    let start = Instant::now();
    let full = Err(CallError::Full { to: NodeId(2) });
    assert_eq!(wait(a.call(call.clone())), full, "bytes");
    drop(_first);
    let class = Class::Snapshot;
    let waiting = (0..3).map(|_| a.call(Call { class, ..call.clone() }));
    let threads: Vec<_> = waiting.map(|call| std::thread::spawn(move || wait(call))).collect();
    eventually("they wait", || a.peers()[0].links[2].waiting_calls == 3);
    assert_eq!(wait(a.call(Call { class, ..call.clone() })), full, "calls");
    assert!(start.elapsed() < Duration::from_secs(1), "at once");
    for thread in threads {
        thread.join().expect("a thread").expect_err("late");
    }
}

#[test]
fn a_peer_that_was_never_there_is_unreachable_and_not_asked_too_often() {
    let mut options = options(1);
    options.limits.connect_timeout = Duration::from_millis(200);
    options.limits.pause_min = Duration::from_millis(300);
    let a = QuicTransport::start(options).expect("a transport");
    let port = UdpSocket::bind(any_port()).expect("a socket that never answers");
    a.set_peer(NodeId(2), &port.local_addr().expect("an address").to_string());
    let unreachable =
        |outcome| matches!(outcome, Err(CallError::Unreachable { to: NodeId(2), .. }));
    assert!(unreachable(wait(a.call(ask()))));
    let start = Instant::now();
    for _ in 0..100 {
        assert!(unreachable(wait(a.call(ask()))));
    }
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    assert_eq!(a.peers()[0].links[0].state, LinkState::BackingOff);
    // A shorter deadline than the attempt takes: still nothing was sent.
    let deadline = Duration::from_millis(20);
    assert!(unreachable(wait(a.call(Call { deadline, class: Class::Snapshot, ..ask() }))));
    let nobody = wait(a.call(Call { to: NodeId(8), ..ask() }));
    assert!(matches!(nobody, Err(CallError::Unreachable { to: NodeId(8), .. })), "{nobody:?}");
}

#[test]
fn a_peer_that_comes_by_itself_ends_the_pause() {
    let mut long = options(1);
    long.limits.connect_timeout = Duration::from_millis(200);
    (long.limits.pause_min, long.limits.pause_max) = (DEADLINE * 20, DEADLINE * 20);
    let a = QuicTransport::start(long).expect("a transport");
    a.serve(obliging());
    let port = UdpSocket::bind(any_port()).expect("a port");
    let there = port.local_addr().expect("an address");
    a.set_peer(NodeId(2), &there.to_string());
    for class in Class::ALL {
        wait(a.call(Call { class, ..ask() })).expect_err("nobody is there");
    }
    drop(port);
    let b = restart(2, there);
    b.set_peer(NodeId(1), &address(&a));
    for class in Class::ALL {
        wait(b.call(Call { to: NodeId(1), class, ..ask() })).expect("an answer");
        assert_eq!(wait(a.call(Call { class, ..ask() })), answer_of_3(), "{class:?}");
    }
}

#[test]
fn a_peer_that_vanishes_breaks_what_was_on_its_way() {
    let mut options = options(1);
    options.limits.idle_timeout = Duration::from_millis(800);
    options.limits.connect_timeout = Duration::from_millis(300);
    let a = QuicTransport::start(options).expect("a transport");
    let b = start(2);
    a.set_peer(NodeId(2), &address(&b));
    b.serve(silent());
    let call = on_its_way(&a, ask());
    drop(b);
    let outcome = call.join().expect("a thread");
    assert!(matches!(outcome, Err(CallError::Broken { .. })), "{outcome:?}");
    let outcome = wait(a.call(ask()));
    assert!(matches!(outcome, Err(CallError::Unreachable { .. })), "{outcome:?}");
}

#[test]
fn a_peer_that_restarts_says_so_and_is_reached_again() {
    let (a, b) = pair();
    wait(a.call(ask())).expect("an answer");
    b.serve(silent());
    let call = on_its_way(&a, ask());
    let there = b.local_address();
    let start = Instant::now();
    drop(b);
    let _b = restart(2, there);
    let outcome = call.join().expect("a thread");
    assert!(
        matches!(&outcome, Err(CallError::Broken { why, .. }) if why == "it was started anew"),
        "{outcome:?}"
    );
    // It did not have to wait for the idle timeout, nor for the deadline.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(wait(a.call(ask())), answer_of_3());
    assert_eq!(a.peers()[0].links[0].reconnects, 1);
}

#[test]
fn calls_during_restarts_are_answered_broken_or_unreachable() {
    let (a, b) = pair();
    let there = b.local_address();
    let (a, mut b) = (Arc::new(a), Some(b));
    let stop = Arc::new(AtomicBool::new(false));
    let caller = {
        let (a, stop) = (a.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                match wait(a.call(ask())) {
                    Ok(_) => answered += 1,
                    Err(CallError::Broken { .. } | CallError::Unreachable { .. }) => {}
                    Err(CallError::Refused { refused, .. })
                        if refused.code == RefusedCode::Unavailable => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            answered
        })
    };
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(150));
        let old = b.take().expect("a transport");
        if round % 2 == 0 {
            wait(old.close());
        }
        drop(old);
        b = Some(restart(2, there));
    }
    eventually("it is reached again", || wait(a.call(ask())).is_ok());
    stop.store(true, Ordering::Relaxed);
    assert!(caller.join().expect("no other outcome") > 0);
}

#[test]
fn a_removed_peer_is_unreachable_but_may_still_ask() {
    let (a, b) = pair();
    a.serve(obliging());
    b.set_peer(NodeId(1), &address(&a));
    wait(a.call(ask())).expect("an answer");
    b.serve(silent());
    let call = on_its_way(&a, ask());
    a.remove_peer(NodeId(2));
    let outcome = call.join().expect("a thread");
    assert!(matches!(outcome, Err(CallError::Broken { .. })), "{outcome:?}");
    let outcome = wait(a.call(ask()));
    assert!(matches!(outcome, Err(CallError::Unreachable { .. })), "{outcome:?}");
    eventually("it asks again", || wait(b.call(Call { to: NodeId(1), ..ask() })).is_ok());
    a.set_peer(NodeId(2), &address(&b));
    b.serve(obliging());
    assert_eq!(wait(a.call(ask())), answer_of_3());
}

#[test]
fn secrets_are_changed_without_a_pause() {
    let (old, new) = (SECRET, "ffeeddccbbaa99887766554433221100");
    let node = |node, secrets: String| {
        let identity = Identity::from_secrets(NodeId(node), &secrets).expect("an identity");
        let transport = QuicTransport::start(Options { identity, ..options(node) });
        let transport = transport.expect("a transport");
        transport.serve(obliging());
        transport
    };
    // One step of the change lies between any two nodes that meet.
    let steps = [old.to_owned(), format!("{old},{new}"), format!("{new}, {old}"), new.to_owned()];
    let meet = |a: &String, b: &String| {
        let (a, b) = (node(1, a.clone()), node(2, b.clone()));
        a.set_peer(NodeId(2), &address(&b));
        wait(a.call(ask()))
    };
    for pair in steps.windows(2) {
        assert_eq!(meet(&pair[0], &pair[1]), answer_of_3());
        assert_eq!(meet(&pair[1], &pair[0]), answer_of_3());
    }
    meet(&steps[0], &steps[3]).expect_err("strangers");
}

#[test]
fn a_call_longer_than_a_message_may_be_is_not_sent() {
    let (a, _b) = pair();
    let outcome = wait(a.call(echo(Bytes::from(vec![0; envelope::PAYLOAD_BYTES_MAX + 1]))));
    assert!(matches!(outcome, Err(CallError::TooLong { .. })), "{outcome:?}");
}

/// Certificates as an operator would have them issued.
#[test]
fn certificates_from_files_name_their_nodes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, text: String| std::fs::write(path(name), text).expect("written");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write("ca.pem", ca.self_signed(&key).expect("an authority").pem());
    let issuer = rcgen::Issuer::new(ca, key);
    for node in [1, 2] {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec![format!("node-{node}.cairn"), format!("host{node}.example")];
        let params = rcgen::CertificateParams::new(names).expect("names");
        write(&format!("{node}.pem"), params.signed_by(&key, &issuer).expect("signed").pem());
        write(&format!("{node}.key"), key.serialize_pem());
    }
    let identity = |node: u64, file: u64| {
        let (certificate, key) = (path(&format!("{file}.pem")), path(&format!("{file}.key")));
        Identity::from_files(NodeId(node), &path("ca.pem"), &certificate, &key)
    };
    let node = |node| {
        let identity = identity(node, node).expect("an identity");
        QuicTransport::start(Options { identity, ..options(node) }).expect("a transport")
    };
    let (a, b) = (node(1), node(2));
    b.serve(obliging());
    a.set_peer(NodeId(2), &address(&b));
    assert_eq!(wait(a.call(ask())), answer_of_3());
    let error = identity(3, 1).expect_err("another's name").to_string();
    assert!(error.contains("node-3.cairn"), "{error}");
    let swapped = Identity::from_files(NodeId(1), &path("ca.pem"), &path("1.pem"), &path("2.key"));
    let started = swapped.map(|identity| QuicTransport::start(Options { identity, ..options(1) }));
    assert!(!matches!(started, Ok(Ok(_))), "the key is another certificate's");
    let missing = Identity::from_files(NodeId(1), &path("no.pem"), &path("1.pem"), &path("1.key"));
    assert!(missing.expect_err("no file").to_string().contains("no.pem"));
}
