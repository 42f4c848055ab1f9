//! Transactions among clients that want the same keys at the same time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_tests::node::NodeOptions;
use cairn_tests::resp::{Conn, Reply};
use cairn_tests::scratch::{Medium, Scratch};

fn ask(conn: &mut Conn, request: &[&str]) -> Reply {
    let reply = conn.call(request).expect("the node answers");
    assert!(!reply.is_error(), "{request:?}: {reply:?}");
    reply
}

/// One increment by reading, adding and writing under WATCH; how often it had to be tried.
fn increment(conn: &mut Conn, key: &str) -> u64 {
    for tries in 1.. {
        ask(conn, &["WATCH", key]);
        let value = ask(conn, &["GET", key]).text().parse().unwrap_or(0u64);
        conn.queue(&["MULTI"]);
        conn.queue(&["SET", key, &(value + 1).to_string()]);
        conn.queue(&["EXEC"]);
        conn.flush().expect("the node reads");
        let replies: Vec<Reply> = (0..3).map(|_| conn.receive().expect("a reply")).collect();
        if !replies[2].is_null() {
            assert_eq!(replies[2].items().len(), 1, "{replies:?}");
            return tries;
        }
    }
    unreachable!("one of those who try succeeds")
}

#[test]
fn no_increment_under_watch_is_lost() {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 150;
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let node = NodeOptions::new(scratch.path()).start();
        let address = node.address();
        let tries = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut conn = Conn::open(address).expect("the node listens");
                    for _ in 0..EACH {
                        tries.fetch_add(increment(&mut conn, "counter"), Ordering::Relaxed);
                    }
                });
            }
        });
        let tries = tries.into_inner();
        assert_eq!(ask(&mut node.connect(), &["GET", "counter"]).text(), "600");
        assert!(tries > CLIENTS * EACH, "{medium:?}: nobody ever met another in {tries} tries");
        node.stop();
    }
}

/// Moves one from the left to the right counter, again and again.
fn transfer(address: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut conn = Conn::open(address).expect("the node listens");
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        for request in [&["MULTI"][..], &["DECR", "left"], &["INCR", "right"], &["EXEC"]] {
            conn.queue(request);
        }
        conn.flush().expect("the node reads");
        for _ in 0..4 {
            conn.receive().expect("a reply");
        }
        done += 1;
    }
    done
}

/// What two readers see of two counters: their sum never changes, and what one client has seen to
/// be done stays done.
fn observe(address: SocketAddr, stop: &AtomicBool, protocol: u8) {
    let mut conn = Conn::open_with(address, protocol).expect("the node listens");
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        for request in [&["MULTI"][..], &["GET", "left"], &["GET", "right"], &["EXEC"]] {
            conn.queue(request);
        }
        conn.flush().expect("the node reads");
        let replies: Vec<Reply> = (0..4).map(|_| conn.receive().expect("a reply")).collect();
        let seen: Vec<i64> =
            replies[3].items().iter().map(|item| item.text().parse().unwrap_or(0)).collect();
        assert_eq!(seen.iter().sum::<i64>(), 0, "half a transaction was seen");
        assert!(seen[1] >= last, "{} after {last}", seen[1]);
        last = seen[1];
    }
}

#[test]
fn nobody_sees_half_a_transaction_and_none_is_lost() {
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let node = NodeOptions::new(scratch.path()).start();
        let (address, stop) = (node.address(), &AtomicBool::new(false));
        let done = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2).map(|_| scope.spawn(|| transfer(address, stop))).collect();
            let readers =
                [2, 3].map(|protocol| scope.spawn(move || observe(address, stop, protocol)));
            std::thread::sleep(std::time::Duration::from_millis(700));
            stop.store(true, Ordering::Relaxed);
            readers.into_iter().for_each(|reader| reader.join().expect("sees no half"));
            writers.into_iter().map(|writer| writer.join().expect("writes")).sum::<u64>()
        });
        assert!(done > 0);
        let node = node.kill9().start();
        let right = ask(&mut node.connect(), &["GET", "right"]);
        assert_eq!(right.text(), done.to_string());
        node.stop();
    }
}

#[test]
fn long_values_go_into_a_transaction_and_come_out_of_it() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    let value = vec![b'v'; 3 << 20];
    let mut other = node.connect();
    for broken in [false, true] {
        ask(&mut conn, &["WATCH", "watched"]);
        ask(&mut conn, &["MULTI"]);
        for key in ["a", "b", "c"] {
            let queued = conn.call(&[b"SET", key.as_bytes(), &value]).expect("a reply");
            assert_eq!(queued.text(), "QUEUED");
        }
        ask(&mut conn, &["STRLEN", "b"]);
        if broken {
            ask(&mut other, &["SET", "watched", "x"]);
        }
        let reply = ask(&mut conn, &["EXEC"]);
        match broken {
            false => assert_eq!(reply.items()[3].int(), Some(value.len() as i64)),
            true => assert!(reply.is_null()),
        }
        for key in ["a", "b", "c"] {
            let len = if broken { 0 } else { value.len() as i64 };
            assert_eq!(ask(&mut conn, &["STRLEN", key]).int(), Some(len));
        }
        ask(&mut conn, &["FLUSHALL"]);
    }
    // Short arguments cannot be staged: the whole is refused, and nothing of it happens.
    ask(&mut conn, &["MULTI"]);
    let short = vec![b's'; 200];
    for n in 0..25_000 {
        conn.queue(&[b"SET".as_slice(), format!("k{n}").as_bytes(), &short]);
    }
    conn.queue(&["EXEC"]);
    conn.flush().expect("the node reads");
    let replies: Vec<Reply> = (0..=25_000).map(|_| conn.receive().expect("a reply")).collect();
    assert!(replies[25_000].text().contains("too long for one log record"));
    assert_eq!(ask(&mut conn, &["DBSIZE"]).int(), Some(0));
    node.stop();
}

#[test]
fn a_client_that_goes_takes_its_watches_along() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let watched = |conn: &mut Conn| {
        let info = ask(conn, &["INFO", "clients"]).text();
        let line = info.lines().find_map(|line| line.strip_prefix("total_watched_keys:"));
        line.and_then(|count| count.parse::<u64>().ok()).expect("a field of INFO")
    };
    let mut conn = node.connect();
    let mut other = node.connect();
    ask(&mut other, &["WATCH", "a", "b", "a"]);
    assert_eq!(watched(&mut conn), 2);
    ask(&mut other, &["RESET"]);
    assert_eq!(watched(&mut conn), 0);
    ask(&mut other, &["WATCH", "a"]);
    drop(other);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while watched(&mut conn) > 0 {
        assert!(std::time::Instant::now() < deadline, "the watch outlives its client");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    node.stop();
}

#[test]
fn long_replies_behind_a_write_come_in_order_and_are_not_gathered() {
    const READS: usize = 100;
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let mut conn = node.connect();
    let long = "x".repeat(1 << 20);
    ask(&mut conn, &["SET", "long", &long]);
    ask(&mut conn, &["SET", "n", "0"]);
    let before = resident_mib(node.pid());
    conn.queue(&["INCR", "n"]);
    for _ in 0..READS {
        for request in [&["GET", "long"][..], &["INCR", "n"], &["GET", "n"], &["PING"]] {
            conn.queue(request);
        }
    }
    conn.flush().expect("the node reads");
    assert_eq!(conn.receive().expect("a reply").int(), Some(1));
    let gathered = resident_mib(node.pid()).saturating_sub(before);
    assert!(gathered < READS as u64 / 2, "{gathered} MiB for {READS} replies of 1 MiB");
    for n in 2..READS + 2 {
        assert_eq!(conn.receive().expect("a reply").text(), long);
        assert_eq!(conn.receive().expect("a reply").int(), Some(n as i64));
        assert_eq!(conn.receive().expect("a reply").text(), n.to_string());
        assert_eq!(conn.receive().expect("a reply").text(), "PONG");
    }
    node.stop();
}

/// What a process holds of memory that is no file's.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a number of kB") >> 10
}
