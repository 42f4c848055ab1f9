//! Clients that lie, babble, stall or come in thousands: the node answers what Redis answers, its
//! memory stays bounded, and the others are served meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};

const MIB: u64 = 1 << 20;

fn node() -> (Scratch, Node) {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    node.connect().call(&["SET", "witness", "unharmed"]).expect("a reply");
    (scratch, node)
}

/// Runs `attack` while another client asks again and again, and checks that it always got the
/// right answer, none later than two seconds.
fn unharmed_meanwhile<T>(node: &Node, attack: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let address = node.address();
    std::thread::scope(|scope| {
        let witness = scope.spawn(|| witness(address, &over));
        // A panic must end the witness too, or the scope would wait for it for ever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
        over.store(true, Ordering::Relaxed);
        let slowest = witness.join().expect("the other client is served");
        assert!(slowest < Duration::from_secs(2), "another client waited {slowest:?}");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn witness(address: SocketAddr, over: &AtomicBool) -> Duration {
    let mut conn = Conn::open(address).expect("another client can connect");
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let reply = conn.call(&["GET", "witness"]).expect("another client is answered");
        slowest = slowest.max(asked.elapsed());
        assert_eq!(reply.text(), "unharmed");
        std::thread::sleep(Duration::from_millis(2));
    }
    slowest
}

/// What a node answers to `bytes` before it closes.
fn answer(node: &Node, bytes: &[u8]) -> String {
    let mut conn = node.connect();
    // The node may close before all was sent.
    let _ = conn.send_raw(bytes);
    String::from_utf8_lossy(&conn.drain().unwrap_or_default()).into_owned()
}

#[test]
fn lengths_that_cannot_be_get_redis_errors_and_a_close() {
    let (_scratch, node) = node();
    let cases: &[(&[u8], &str)] = &[
        (b"*1048577\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*9223372036854775808\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$99999999999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$4x\r\nPING\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"GET \"unbalanced\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ];
    unharmed_meanwhile(&node, || {
        for (bytes, wanted) in cases {
            assert_eq!(answer(&node, bytes), *wanted, "to {}", bytes.escape_ascii());
        }
        let long_line = vec![b'a'; 70_000];
        let wanted = "-ERR Protocol error: too big inline request\r\n";
        assert_eq!(answer(&node, &long_line), wanted);
        let mut long_count = vec![b'*'];
        long_count.extend(vec![b'1'; 70_000]);
        let wanted = "-ERR Protocol error: too big mbulk count string\r\n";
        assert_eq!(answer(&node, &long_count), wanted);
    });
}

#[test]
fn negative_and_empty_counts_are_skipped() {
    let (_scratch, node) = node();
    let mut conn = node.connect();
    conn.send_raw(b"*-5\r\n*0\r\n\r\n   \r\n*1\r\n$4\r\nPING\r\n").expect("sent");
    assert_eq!(conn.receive().expect("a reply").text(), "PONG");
}

#[test]
fn nested_requests_are_refused() {
    let (_scratch, node) = node();
    unharmed_meanwhile(&node, || {
        let nested = b"*1\r\n".repeat(200_000);
        let text = answer(&node, &nested);
        assert_eq!(text, "-ERR Protocol error: expected '$', got '*'\r\n");
    });
    assert!(node.anonymous_bytes() < 200 * MIB);
}

#[test]
fn before_the_login_only_little_may_be_claimed() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).set("requirepass", "secret").start();
    let text = answer(&node, b"*11\r\n");
    assert_eq!(text, "-ERR Protocol error: unauthenticated multibulk length\r\n");
    let text = answer(&node, b"*1\r\n$16385\r\n");
    assert_eq!(text, "-ERR Protocol error: unauthenticated bulk length\r\n");
    let mut conn = node.connect();
    assert!(conn.call(&["GET", "a"]).expect("a reply").text().starts_with("NOAUTH"));
    assert!(conn.call(&["AUTH", "wrong"]).expect("a reply").text().starts_with("WRONGPASS"));
    assert_eq!(conn.call(&["AUTH", "secret"]).expect("a reply").text(), "OK");
    assert_eq!(conn.call(&["SET", "a", "b"]).expect("a reply").text(), "OK");
}

/// Half a gigabyte claimed by each of a hundred clients, a million arguments by another hundred,
/// none of it sent: claims cost nothing.
#[test]
fn claims_cost_no_memory() {
    let (_scratch, node) = node();
    let before = node.anonymous_bytes();
    let claim = |bytes: &[u8]| {
        let mut conn = node.connect();
        conn.send_raw(bytes).expect("a claim can be sent");
        conn
    };
    unharmed_meanwhile(&node, || {
        let mut held: Vec<Conn> =
            (0..100).map(|_| claim(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc")).collect();
        held.extend((0..100).map(|_| claim(b"*1048576\r\n$4\r\nMGET\r\n$1\r\na\r\n")));
        std::thread::sleep(Duration::from_millis(300));
        let grown = node.anonymous_bytes().saturating_sub(before);
        eprintln!("200 clients that claim 50 GiB and 100 M arguments: {} KiB", grown / 1024);
        assert!(grown < 64 * MIB, "{} MiB for claims alone", grown / MIB);
    });
    let text = answer(&node, b"*1\r\n$1073741824\r\n");
    assert_eq!(text, "-ERR Protocol error: invalid bulk length\r\n");
}

/// A million arguments that do come are one request like any other.
#[test]
fn a_million_arguments_are_answered() {
    let (_scratch, node) = node();
    let mut request = Vec::from(b"*1048576\r\n$6\r\nEXISTS\r\n".as_slice());
    (1..1_048_576).for_each(|_| request.extend_from_slice(b"$7\r\nwitness\r\n"));
    let mut conn = node.connect();
    conn.send_raw(&request).expect("sent");
    assert_eq!(conn.receive().expect("a reply").int(), Some(1_048_575));
}

/// Every way to cut a pipeline in two arrives as the same requests; a client that goes away in the
/// middle of one has asked for nothing.
#[test]
fn half_commands_wait_for_their_rest_or_are_dropped() {
    let (_scratch, node) = node();
    let pipeline = b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$5\r\nvalue\r\nGET half\r\n*2\r\n$3\r\nDEL\r\n$4\r\nhalf\r\n";
    for cut in 0..pipeline.len() {
        let mut conn = node.connect();
        conn.send_raw(&pipeline[..cut]).expect("sent");
        if cut % 8 == 3 {
            // Long enough to arrive on its own.
            std::thread::sleep(Duration::from_millis(3));
        }
        conn.send_raw(&pipeline[cut..]).expect("sent");
        let replies: Vec<String> =
            (0..3).map(|_| conn.receive().expect("a reply").text()).collect();
        assert_eq!(replies, ["OK", "value", "1"], "cut at {cut}");
    }
    let set = pipeline.windows(3).position(|window| window == b"GET").expect("SET ends there");
    for cut in 1..set {
        node.connect().send_raw(&pipeline[..cut]).expect("sent");
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut conn = node.connect();
    assert_eq!(conn.call(&["EXISTS", "half"]).expect("a reply").int(), Some(0));
}

#[test]
fn binary_rubbish_harms_nobody() {
    for seed in seeds(1) {
        eprintln!("rubbish: seed {seed} (CAIRN_SEED={seed} repeats it)");
        let (_scratch, mut node) = node();
        let before = node.anonymous_bytes();
        unharmed_meanwhile(&node, || {
            let mut rng = Rng::new(seed);
            (0..300).for_each(|_| send_rubbish(node.address(), &mut rng));
        });
        assert!(node.is_alive(), "seed {seed}: the node died");
        assert!(!node.log().contains("panicked"), "seed {seed}: {}", node.log());
        let grown = node.anonymous_bytes().saturating_sub(before);
        assert!(grown < 128 * MIB, "seed {seed}: {} MiB", grown / MIB);
    }
}

fn send_rubbish(address: SocketAddr, rng: &mut Rng) {
    let mut stream = TcpStream::connect(address).expect("the node accepts connections");
    stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let bytes = rubbish(rng);
    // The node may close at any time, and need not answer.
    let _ = stream.write_all(&bytes);
    let _ = stream.read(&mut [0; 4096]);
}

/// Bytes that are noise, or a request with some of its bytes changed.
fn rubbish(rng: &mut Rng) -> Vec<u8> {
    if rng.once_in(3) {
        let len = rng.below(5000) as usize;
        return rng.bytes(len);
    }
    let names = ["GETRANGE", "SETRANGE", "LCS", "SCAN", "OBJECT", "CLIENT", "HELLO", "COPY", "XYZ"];
    let mut request = Vec::new();
    for _ in 0..1 + rng.below(20) {
        let len = rng.below(20) as usize;
        let noise = rng.bytes(len);
        let args: [&[u8]; 4] =
            [rng.pick(&names).as_bytes(), b"rubbish", &noise, b"-9223372036854775808"];
        cairn_tests::resp::push_request(&mut request, &args[..1 + rng.below(4) as usize]);
    }
    for _ in 0..rng.below(4) {
        let at = rng.below(request.len() as u64) as usize;
        request[at] = rng.bits() as u8;
    }
    request
}

/// Asks for gigabytes and reads none of it: the node holds a bounded part and closes in the end.
#[test]
fn a_client_that_never_reads_is_bounded_and_then_closed() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).set("output-stall-timeout", "1").start();
    let mut conn = node.connect();
    conn.call(&["SET", "witness", "unharmed"]).expect("a reply");
    let value = vec![b'x'; MIB as usize];
    conn.call(&[b"SET".as_slice(), b"large", &value]).expect("a reply");
    let before = node.anonymous_bytes();
    unharmed_meanwhile(&node, || {
        let stalled = node.connect();
        stalled.stream().set_nonblocking(true).expect("a socket option");
        let gets = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(4000);
        // As much as the sockets' buffers take; the node stops reading long before.
        let _ = stalled.stream().write(&gets);
        let mut most = 0;
        let closed = process::eventually(Duration::from_secs(20), || {
            most = most.max(node.anonymous_bytes().saturating_sub(before));
            clients(&node) == 2
        });
        // Left are the one that watches and the one that set this up.
        eprintln!("a client that never reads: at most {} KiB held for it", most / 1024);
        assert!(most < 64 * MIB, "{} MiB held for a client that does not read", most / MIB);
        assert!(closed, "a client that never reads is never closed");
    });
}

/// Clients other than the asking one.
fn clients(node: &Node) -> usize {
    let reply = node.connect().call(&["CLIENT", "LIST"]).expect("a reply");
    reply.text().lines().count() - 1
}

#[test]
fn thousands_of_idle_connections_cost_little() {
    let (_scratch, node) = node();
    // Each takes a file on both sides; each side has its own limit.
    let count = 10_000.min(process::open_files_max().saturating_sub(300)) - 10;
    let before = node.anonymous_bytes();
    unharmed_meanwhile(&node, || {
        let mut held: Vec<Conn> = (0..count).map(|_| node.connect()).collect();
        for conn in &mut held {
            assert_eq!(conn.call(&["PING"]).expect("a reply").text(), "PONG");
        }
        let grown = node.anonymous_bytes().saturating_sub(before);
        let rss = process::status_bytes(node.pid(), "VmRSS") / MIB;
        eprintln!("{count} idle connections: {} B each, RSS {rss} MiB", grown / count);
        assert!(grown / count < 16 * 1024, "{} B for an idle connection", grown / count);
    });
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).set("maxclients", "3").start();
    let mut held: Vec<Conn> = (0..3).map(|_| node.connect()).collect();
    held.iter_mut().for_each(|conn| drop(conn.call(&["PING"]).expect("a reply")));
    assert_eq!(answer(&node, b""), "-ERR max number of clients reached\r\n");
    held.pop();
    let free = process::eventually(Duration::from_secs(5), || {
        Conn::open(node.address()).and_then(|mut c| c.call(&["PING"])).is_ok_and(|r| !r.is_error())
    });
    assert!(free, "a place that became free is not given");
}

/// When the pool is full, writes answer OOM, reads and deletes work, and deletes make room.
#[test]
fn a_full_pool_refuses_writes_and_takes_deletes() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).set("memory", "64mb").start();
    let mut conn = node.connect();
    let value = vec![b'x'; 10_000];
    let mut stored = 0;
    let refusal = loop {
        let key = format!("fill:{stored}");
        let reply = conn.call(&[b"SET".as_slice(), key.as_bytes(), &value]).expect("a reply");
        if reply.is_error() {
            break reply.text();
        }
        stored += 1;
        assert!(stored < 7000, "64 MiB took {stored} values of 10 kB");
    };
    assert!(refusal.starts_with("OOM"), "{refusal}");
    assert!(stored > 3000, "64 MiB took only {stored} values of 10 kB");
    assert_eq!(conn.call(&["STRLEN", "fill:0"]).expect("a reply").int(), Some(10_000));
    for i in 0..stored / 2 {
        let reply = conn.call(&["DEL", &format!("fill:{i}")]).expect("a reply");
        assert_eq!(reply.int(), Some(1), "{reply:?}");
    }
    let again = process::eventually(Duration::from_secs(10), || {
        let reply = conn.call(&[b"SET".as_slice(), b"again", &value]).expect("a reply");
        !reply.is_error()
    });
    assert!(again, "deletes make no room");
    let node = node.kill9().start();
    let len = node.connect().call(&["DBSIZE"]).expect("a reply").int();
    assert_eq!(len, Some(stored - stored / 2 + 1));
}
