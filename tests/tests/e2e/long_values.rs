//! Strings that are sent as they lie in the pool: right whatever is written meanwhile, and no client
//! that is slow to take them holds the pool's room or the node's memory.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::process;
use cairn_tests::resp::{Conn, push_request};
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};

const PATIENCE: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

fn set(conn: &mut Conn, key: &str, value: &[u8]) {
    let reply = conn.call(&[b"SET", key.as_bytes(), value]).expect("a reply");
    assert_eq!(reply.text(), "OK");
}

/// Bytes that show which generation of a value they belong to, and where in it they stand.
fn value(generation: u8, len: usize) -> Vec<u8> {
    let word = |at: usize| (at as u64 / 8) << 8 | u64::from(generation);
    let words = (0..len.next_multiple_of(8)).step_by(8).flat_map(|at| word(at).to_le_bytes());
    words.take(len).collect()
}

/// Asks for a key and takes nothing of the reply yet.
fn ask(node: &Node, key: &str) -> TcpStream {
    use std::io::Write;
    let mut stream = TcpStream::connect(node.address()).expect("the node listens");
    let mut request = Vec::new();
    push_request(&mut request, &["GET", key]);
    stream.write_all(&request).expect("the node takes a request");
    stream
}

/// The string that a reply brings, taken with `pause` after each half mebibyte.
fn take(stream: &mut TcpStream, pause: Duration) -> Vec<u8> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).expect("the reply's first line");
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    let len: usize = text.trim_start_matches('$').trim_end().parse().expect("a length");
    let mut bytes = vec![0; len + 2];
    for part in bytes.chunks_mut(MIB / 2) {
        stream.read_exact(part).expect("the rest of the reply");
        std::thread::sleep(pause);
    }
    assert_eq!(bytes.split_off(len), b"\r\n");
    bytes
}

fn number(node: &Node, field: &str) -> u64 {
    node.info(field).parse().unwrap_or_else(|_| panic!("INFO has no number {field}"))
}

#[test]
fn a_string_is_of_one_moment_whatever_is_written_while_it_is_sent() {
    const LEN: usize = 6 * MIB + 4321;
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let node = NodeOptions::new(scratch.path()).start();
        let mut conn = node.connect();
        set(&mut conn, "k", &value(0, LEN));
        std::thread::scope(|scope| {
            // From one that keeps up to one that is sent from a copy in the end.
            let readers = [0, 5, 60, 200].map(|pause| {
                let node = &node;
                scope.spawn(move || {
                    let start = Instant::now();
                    let mut seen = Vec::new();
                    while start.elapsed() < Duration::from_secs(3) {
                        let found = take(&mut ask(node, "k"), Duration::from_millis(pause));
                        let generation = found[0];
                        assert!(found == value(generation, LEN), "not one generation's bytes");
                        seen.push(generation);
                    }
                    seen
                })
            });
            for generation in 1..=120 {
                set(&mut conn, "k", &value(generation, LEN));
                std::thread::sleep(Duration::from_millis(20));
            }
            for reader in readers {
                let seen = reader.join().expect("a reader is served");
                assert!(seen.is_sorted(), "{seen:?}");
            }
        });
    }
}

/// Parts of strings at every boundary that there is: of chunks, of what is copied, of what is sent
/// at once.
#[test]
fn parts_of_strings_are_those_asked_for() {
    const QUARTER: usize = MIB / 4;
    const LENS: [usize; 10] =
        [4000, 16_367, 16_368, 16_385, 40_000, QUARTER, QUARTER + 1, MIB - 1, MIB + 1, 3 * MIB + 5];
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    for seed in seeds(1) {
        let mut rng = Rng::new(seed);
        for len in LENS {
            let whole = value(7, len);
            set(&mut conn, "k", &whole);
            // Behind other replies, and before some: each lands in its place.
            let mut pipeline: Vec<Vec<Vec<u8>>> = vec![vec![b"PING".into()]];
            let mut ranges: Vec<_> = std::iter::once(0..len).collect();
            for _ in 0..20 {
                let start = rng.below(len as u64) as usize;
                ranges.push(start..start + 1 + rng.below((len - start) as u64) as usize);
            }
            for range in &ranges {
                let [start, end] = [range.start, range.end - 1].map(|n| n.to_string().into_bytes());
                pipeline.push(vec![b"GETRANGE".into(), b"k".into(), start, end]);
            }
            pipeline.push(vec![b"GET".into(), b"k".into()]);
            pipeline.push(vec![b"SET".into(), b"other".into(), b"x".into()]);
            pipeline.push(vec![b"GET".into(), b"k".into()]);
            let replies = conn.call_all(&pipeline).expect("replies");
            assert_eq!(replies[0].text(), "PONG");
            for (range, reply) in ranges.iter().zip(&replies[1..]) {
                let same = reply.bytes() == Some(&whole[range.clone()]);
                assert!(same, "seed {seed}: {range:?} of {len} bytes: {reply:?}");
            }
            let [first, ok, second] = &replies[1 + ranges.len()..] else { panic!("three more") };
            assert_eq!(ok.text(), "OK");
            assert!([first, second].iter().all(|reply| reply.bytes() == Some(&whole)));
        }
    }
}

/// A client that takes nothing: a second later the room of what it was promised is there again, and
/// it still gets the string that it asked for.
#[test]
fn a_slow_client_holds_no_room() {
    const LEN: usize = 48 * MIB;
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    let old = value(1, LEN);
    set(&mut conn, "k", &old);
    let mut slow = ask(&node, "k");
    let waits = || {
        node.connect()
            .call(&["CLIENT", "LIST"])
            .is_ok_and(|list| list.text().lines().any(|line| !line.contains(" omem=0 ")))
    };
    assert!(process::eventually(PATIENCE, waits), "the reply is never under way");
    set(&mut conn, "k", b"short");
    // Commits go on, so that what is dead may be freed.
    let freed = || {
        set(&mut conn, "tick", b"x");
        number(&node, "pool_used_bytes") < LEN as u64 / 2
    };
    assert!(
        process::eventually(PATIENCE, freed),
        "{} bytes used",
        number(&node, "pool_used_bytes")
    );
    assert!(take(&mut slow, Duration::ZERO) == old, "not the bytes of the time it was asked for");
}

/// Behind a write on the same connection reads are of that place in it, however late their client
/// takes them: those that wait behind one that it does not take hold no room either.
#[test]
fn what_waits_behind_a_slow_reply_holds_no_room() {
    use std::io::Write;
    const LEN: usize = 48 * MIB;
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    let (old, other) = (value(1, LEN), value(2, LEN));
    set(&mut conn, "k", &old);
    set(&mut conn, "other", &other);
    let mut slow = TcpStream::connect(node.address()).expect("the node listens");
    let mut requests = Vec::new();
    for words in [&["SET", "t", "x"][..], &["GET", "k"], &["GET", "other"], &["GET", "k"]] {
        push_request(&mut requests, words);
    }
    slow.write_all(&requests).expect("the node takes a pipeline");
    let mut first = [0; 5];
    slow.read_exact(&mut first).expect("the reply to the write");
    assert_eq!(&first, b"+OK\r\n");
    set(&mut conn, "k", b"short");
    set(&mut conn, "other", b"short");
    let freed = || {
        set(&mut conn, "tick", b"x");
        number(&node, "pool_used_bytes") < LEN as u64 / 2
    };
    assert!(
        process::eventually(PATIENCE, freed),
        "{} bytes used",
        number(&node, "pool_used_bytes")
    );
    for wanted in [&old, &other, &old] {
        assert!(take(&mut slow, Duration::ZERO) == *wanted, "not the bytes of its place");
    }
}

/// A hundred clients that take nothing of 64 MiB each cost no memory while the string stays as it
/// is. When it is overwritten some are sent from copies, as many as there is room for, and the
/// others are closed.
#[test]
fn slow_clients_cost_bounded_memory() {
    const LEN: usize = 64 * MIB;
    const CLIENTS: usize = 100;
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    let old = value(1, LEN);
    set(&mut conn, "k", &old);
    let before = node.anonymous_bytes();
    let mut slow: Vec<TcpStream> = (0..CLIENTS).map(|_| ask(&node, "k")).collect();
    std::thread::sleep(Duration::from_millis(2500));
    let waiting = node.anonymous_bytes().saturating_sub(before);
    assert!(waiting < 100 * MIB as u64, "{waiting} bytes for {CLIENTS} that only wait");
    set(&mut conn, "k", b"short");
    let closed = || number(&node, "client_output_buffer_limit_disconnections") > 0;
    assert!(process::eventually(PATIENCE, closed), "nobody is closed");
    std::thread::sleep(Duration::from_millis(1500));
    let copied = node.anonymous_bytes().saturating_sub(before);
    eprintln!("{CLIENTS} slow clients: {} MiB waiting, {} MiB copied", waiting >> 20, copied >> 20);
    assert!(copied < 700 * MIB as u64, "{copied} bytes for {CLIENTS} clients");
    let gone = number(&node, "client_output_buffer_limit_disconnections");
    assert!((1..CLIENTS as u64).contains(&gone), "{gone} of {CLIENTS} were closed");
    let served = slow.iter_mut().map(|stream| {
        let mut all = Vec::new();
        let ended = stream.set_read_timeout(Some(Duration::from_secs(1)));
        ended.expect("a socket");
        // A closed one ends early, an open one only pauses at the end of its reply.
        let _ = stream.read_to_end(&mut all);
        let value = all.strip_suffix(b"\r\n").and_then(|all| all.last_chunk::<LEN>());
        value.is_some_and(|value| value[..] == old)
    });
    let served = served.filter(|served| *served).count() as u64;
    assert_eq!(served, CLIENTS as u64 - gone, "those that were not closed get all of it");
    set(&mut conn, "k", &old);
    assert!(take(&mut ask(&node, "k"), Duration::ZERO) == old, "and others are served on");
}

/// It is sent ahead in pieces and then taken over as it lies: no copy of it needs room.
#[test]
fn the_largest_value_fits_a_node_of_twice_its_size() {
    const LEN: usize = 512 * MIB;
    let scratch = Scratch::new(Medium::Memory);
    let options = NodeOptions::new(scratch.path());
    let node = options.set("memory", "1gb").set("maxmemory-policy", "allkeys-lru").start();
    let mut conn = node.connect();
    set(&mut conn, "small", b"stays");
    let whole = value(3, LEN);
    set(&mut conn, "k", &whole);
    assert!(take(&mut ask(&node, "k"), Duration::ZERO) == whole, "another value");
    assert_eq!(node.info("evicted_keys"), "0");
    assert_eq!(conn.call(&["GET", "small"]).expect("a reply").text(), "stays");
}
