//! What clients of a node that does not lead are answered: transactions, WAIT, how old a read may
//! be, pipelines while nodes restart, replies of many megabytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_tests::cluster::{Cluster, insist, open};
use cairn_tests::process;
use cairn_tests::resp::{Conn, Reply, push_request};
use cairn_tests::scratch::{Medium, Scratch};

const PATIENCE: Duration = Duration::from_secs(30);

fn call(conn: &mut Conn, command: &str) -> Reply {
    let words: Vec<&str> = command.split(' ').collect();
    conn.call(&words).unwrap_or_else(|error| panic!("{command}: {error}"))
}

#[test]
fn what_is_no_longer_watched_aborts_nothing() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let addresses = cluster.addresses();
    insist(addresses[follower], &["MSET", "a", "1", "k", "1"]);
    let mut conn = open(addresses[follower], PATIENCE).expect("a connection");
    let endings: [&[&str]; 4] = [
        &["UNWATCH"],
        &["MULTI", "DISCARD"],
        &["MULTI", "SET k", "EXEC"],
        &["MULTI", "GET a", "EXEC"],
    ];
    let transactions: [&[&str]; 3] = [&["GET a"], &["PING", "SET b 1"], &["SET b 2", "GET a"]];
    for ending in endings {
        for transaction in transactions {
            call(&mut conn, "WATCH k");
            ending.iter().for_each(|command| drop(call(&mut conn, command)));
            insist(addresses[follower], &["INCR", "k"]);
            call(&mut conn, "MULTI");
            transaction.iter().for_each(|command| drop(call(&mut conn, command)));
            let reply = call(&mut conn, "EXEC");
            assert_eq!(reply.items().len(), transaction.len(), "{ending:?}: {reply:?}");
        }
    }
    // What is watched still aborts.
    for transaction in transactions {
        call(&mut conn, "WATCH k");
        insist(addresses[follower], &["INCR", "k"]);
        call(&mut conn, "MULTI");
        transaction.iter().for_each(|command| drop(call(&mut conn, command)));
        assert!(call(&mut conn, "EXEC").is_null(), "{transaction:?}");
    }

    // Nothing of it is left with the leader, nor of a client that goes, nor of a node that dies.
    let kept = |cluster: &Cluster| cluster.node(leader).info("watching_clients_of_peers");
    let is_gone = |cluster: &Cluster| process::eventually(PATIENCE, || kept(cluster) == "0");
    assert!(is_gone(&cluster), "{}", kept(&cluster));
    call(&mut conn, "WATCH k a");
    assert_eq!(kept(&cluster), "1");
    call(&mut conn, "UNWATCH");
    assert!(is_gone(&cluster), "{}", kept(&cluster));
    call(&mut conn, "WATCH k");
    drop(conn);
    assert!(is_gone(&cluster), "{}", kept(&cluster));
    let mut left = open(addresses[follower], PATIENCE).expect("a connection");
    call(&mut left, "WATCH k");
    cluster.kill9(follower);
    cluster.up(follower);
    if cluster.leader() == leader {
        let mut conn = open(addresses[follower], PATIENCE).expect("a connection");
        insist(addresses[follower], &["GET", "a"]);
        call(&mut conn, "WATCH a");
        assert_eq!(kept(&cluster), "1", "that of the node's former life is gone");
    }
}

#[test]
fn an_empty_transaction_without_a_leader_has_one_reply() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let leader = cluster.leader();
    let left = (leader + 1) % 3;
    let address = cluster.node(left).address();
    insist(address, &["SET", "key", "value"]);
    cluster.kill9(leader);
    cluster.kill9((leader + 2) % 3);
    // What is sent to a leader that has just died may have been executed: the connection is closed.
    let (mut conn, reply) = (0..10)
        .find_map(|_| {
            let mut conn = open(address, PATIENCE).expect("a connection");
            call(&mut conn, "MULTI");
            let reply = conn.call(&["EXEC"]).ok()?;
            Some((conn, reply))
        })
        .expect("answered");
    assert!(!reply.is_null(), "{reply:?}");
    assert_eq!(call(&mut conn, "PING").text(), "PONG");
    assert!(reply.text().starts_with("CLUSTERDOWN"), "{reply:?}");
}

#[test]
fn wait_is_answered_through_any_node_and_ends_with_its_client() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let leader = cluster.leader();
    for address in cluster.addresses() {
        let mut conn = open(address, Duration::from_secs(10)).expect("a connection");
        for _ in 0..20 {
            call(&mut conn, "INCR counted");
            assert_eq!(call(&mut conn, "WAIT 2 0").int(), Some(2));
            assert_eq!(call(&mut conn, "WAITAOF 1 2 0").items()[1].int(), Some(2));
        }
        let since = Instant::now();
        assert_eq!(call(&mut conn, "WAIT 3 100").int(), Some(2));
        assert!(since.elapsed() >= Duration::from_millis(100));
    }
    // Who waits for ever and goes keeps no node from stopping.
    let clients =
        || cluster.node(leader).info("connected_clients").parse::<u32>().expect("a number");
    for asked_behind in [None, Some("PING")] {
        let mut gone = open(cluster.node(leader).address(), PATIENCE).expect("a connection");
        gone.queue(&["WAIT", "9", "0"]);
        gone.flush().expect("sent");
        assert!(process::eventually(PATIENCE, || clients() == 2));
        if let Some(command) = asked_behind {
            // Not received together with the first.
            std::thread::sleep(Duration::from_millis(200));
            gone.queue(&[command]);
            gone.flush().expect("sent");
        }
        drop(gone);
        assert!(process::eventually(PATIENCE, || clients() == 1), "it waits for nobody");
    }
    let mut stays = open(cluster.node(leader).address(), PATIENCE).expect("a connection");
    stays.queue(&["WAIT", "9", "0"]);
    stays.flush().expect("sent");
    assert!(process::eventually(PATIENCE, || clients() == 2));
    let since = Instant::now();
    cluster.stop(leader);
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!(stays.receive().expect("answered").int(), Some(2));
}

/// What others write after a client's own write does not keep its WAIT.
#[test]
fn wait_does_not_wait_for_later_writes() {
    let scratch = Scratch::new(Medium::Memory);
    let cluster = Cluster::start(scratch.path());
    let leader = cluster.node(cluster.leader()).address();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for id in 0..4 {
            let stop = &stop;
            scope.spawn(move || {
                let mut conn = open(leader, PATIENCE).expect("a connection");
                let (key, value) = (format!("steady-{id}"), "v".repeat(1000));
                while !stop.load(Ordering::Relaxed) {
                    (0..16).for_each(|_| conn.queue(&["SET", &key, &value]));
                    conn.flush().expect("sent");
                    (0..16).for_each(|_| drop(conn.receive().expect("answered")));
                }
            });
        }
        let mut conn = open(leader, PATIENCE).expect("a connection");
        let mut fell_short = 0;
        for _ in 0..30 {
            call(&mut conn, "INCR counted");
            fell_short += u32::from(call(&mut conn, "WAIT 2 300").int() != Some(2));
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(fell_short, 0, "of 30");
    });
}

#[test]
fn a_follower_says_how_old_its_reads_may_be() {
    let scratch = Scratch::new(Medium::Memory);
    let cluster = Cluster::start(scratch.path());
    let leader = cluster.leader();
    let left = (leader + 1) % 3;
    let number = |field: &str| cluster.node(left).info(field).parse::<i64>().expect("a number");
    assert_eq!(cluster.node(left).info("master_link_status"), "up");
    assert!(number("stale_ms") < 2000, "{}", number("stale_ms"));
    assert!(number("master_last_io_seconds_ago") < 2);
    assert_eq!(cluster.node(leader).info("stale_ms"), "0");
    let others = [leader, (leader + 2) % 3];
    others.iter().for_each(|at| process::pause(cluster.node(*at).pid()));
    std::thread::sleep(Duration::from_millis(2500));
    let (link, stale) = (cluster.node(left).info("master_link_status"), number("stale_ms"));
    let ago = number("master_last_io_seconds_ago");
    let status = insist(cluster.node(left).address(), &["CAIRN.RAFT", "STATUS"]);
    others.iter().for_each(|at| process::signal(cluster.node(*at).pid(), "CONT"));
    assert_eq!(link, "down");
    assert!((2000..20_000).contains(&stale), "{stale}");
    assert!((2..20).contains(&ago), "{ago}");
    let field = status.items().chunks(2).find(|pair| pair[0].text() == "stale_ms");
    assert!(field.and_then(|pair| pair[1].int()) >= Some(stale), "{status:?}");
    let is_fresh = || {
        cluster.node(left).info("role") == "master"
            || cluster.node(left).info("master_link_status") == "up" && number("stale_ms") < 2000
    };
    assert!(process::eventually(PATIENCE, is_fresh));
}

#[test]
fn pieces_of_a_value_whose_set_was_cut_off_are_freed() {
    let scratch = Scratch::new(Medium::Memory);
    let mut plan = Cluster::plan(scratch.path());
    plan.set("memory", "1gb");
    let mut cluster = plan.started();
    let leader = cluster.leader();
    let used = |cluster: &Cluster, at: usize| {
        cluster.node(at).info("used_memory_dataset").parse::<u64>().expect("a number")
    };
    let at = (leader + 1) % 3;
    let before = used(&cluster, at);
    let mut conn = open(cluster.node(leader).address(), PATIENCE).expect("a connection");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let value = "v".repeat(256 << 20);
            // Its node dies.
            let _ = conn.call(&["SET", "long", &value]);
        });
        let is_on_its_way = || used(&cluster, at) > before + (32 << 20);
        assert!(process::eventually(PATIENCE, is_on_its_way), "nothing is staged");
        cluster.kill9(leader);
    });
    cluster.up(leader);
    insist(cluster.node(at).address(), &["SET", "short", "v"]);
    for at in 0..3 {
        let is_freed = || used(&cluster, at) < before + (4 << 20);
        assert!(process::eventually(PATIENCE, is_freed), "{}", used(&cluster, at));
    }
    assert_eq!(insist(cluster.node(at).address(), &["EXISTS", "long"]).int(), Some(0));
    cluster.assert_equal();
}

/// Many long values in one pipeline are not all made at once where the shard is led.
#[test]
fn a_pipeline_of_long_values_through_a_follower_needs_little_memory() {
    let scratch = Scratch::new(Medium::Memory);
    let mut plan = Cluster::plan(scratch.path());
    plan.set("memory", "512mb");
    let cluster = plan.started();
    let leader = cluster.leader();
    let follower = cluster.node((leader + 1) % 3);
    let mut conn = open(follower.address(), PATIENCE).expect("opens");
    let long = "0123456789abcdef".repeat(10 << 16);
    assert_eq!(conn.call(&["SET", "long", &long]).expect("answered").text(), "OK");
    let gets = 60;
    let (most, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let both = [cluster.node(leader), follower].map(|node| node.anonymous_bytes());
                most.fetch_max(both[0].max(both[1]), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        for _ in 0..gets {
            conn.queue(&["GET", "long"]);
            conn.queue(&["GET", "none"]);
        }
        let answered = (|| {
            conn.flush()?;
            for _ in 0..gets {
                assert!(conn.receive()?.text() == long, "another value");
                assert!(conn.receive()?.is_null());
            }
            Ok::<(), std::io::Error>(())
        })();
        stop.store(true, Ordering::Relaxed);
        answered.expect("answered");
    });
    let most = most.into_inner();
    println!("at most {} MiB of memory of its own", most >> 20);
    assert!(most < 300 << 20, "{most}");
}

/// Room that a value of the test below takes.
const LONG_BYTES: usize = 48 << 20;

/// A cluster with `long` in it, and a client at a follower that asks for it three times, behind a
/// write, and takes nothing of that for now; then `long` is overwritten.
fn slow_through_a_follower(mut plan: Cluster) -> (Cluster, usize, TcpStream, Vec<u8>) {
    plan.set("memory", "512mb");
    let cluster = plan.started();
    let leader = cluster.leader();
    let mut conn = open(cluster.node(leader).address(), PATIENCE).expect("opens");
    let long: Vec<u8> = (0..LONG_BYTES).map(|at| b'a' + (at / 1000 % 26) as u8).collect();
    let set = conn.call(&[b"SET", &b"long"[..], &long]).expect("answered");
    assert_eq!(set.text(), "OK");
    let follower = cluster.node((leader + 1) % 3).address();
    let mut slow = TcpStream::connect(follower).expect("the node listens");
    let mut requests = Vec::new();
    push_request(&mut requests, &["INCR", "counter"]);
    (0..3).for_each(|_| push_request(&mut requests, &["GET", "long"]));
    slow.write_all(&requests).expect("the node takes a pipeline");
    let mut first = [0; 4];
    slow.read_exact(&mut first).expect("the reply to the write");
    assert_eq!(&first, b":1\r\n");
    assert_eq!(call(&mut conn, "SET long short").text(), "OK");
    (cluster, leader, slow, long)
}

/// Waits until a pool has the room of the long value again.
fn insist_on_room(cluster: &Cluster, at: usize, patience: Duration) {
    let used = || cluster.node(at).info("pool_used_bytes").parse::<usize>().expect("a number");
    let is_freed = || {
        // Commits go on, so that what is dead may be freed.
        insist(cluster.node(at).address(), &["SET", "tick", "x"]);
        used() < LONG_BYTES / 2
    };
    assert!(process::eventually(patience, is_freed), "{} bytes used", used());
}

/// A client of a follower goes in the middle of a long reply.
#[test]
fn what_nobody_fetches_of_a_long_reply_is_forgotten() {
    let scratch = Scratch::new(Medium::Memory);
    let plan = Cluster::plan(scratch.path());
    let (cluster, leader, slow, _) = slow_through_a_follower(plan);
    drop(slow);
    insist_on_room(&cluster, leader, Duration::from_secs(45));
}

/// Nor does a client of a follower hold the leader's pool that takes its long replies slowly; and it
/// may take nothing for half a minute and more.
#[test]
fn a_slow_client_of_a_follower_holds_no_room_and_is_answered() {
    let scratch = Scratch::new(Medium::Memory);
    let plan = Cluster::plan(scratch.path());
    let (cluster, leader, mut slow, long) = slow_through_a_follower(plan);
    let since = Instant::now();
    insist_on_room(&cluster, leader, Duration::from_secs(15));
    std::thread::sleep(Duration::from_secs(40).saturating_sub(since.elapsed()));
    slow.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let wanted = [format!("${LONG_BYTES}\r\n").as_bytes(), &long, b"\r\n"].concat();
    let mut taken = vec![0; wanted.len()];
    for reply in 0..3 {
        slow.read_exact(&mut taken).expect("a whole reply");
        assert!(taken == wanted, "reply {reply} is not of the time it was asked for");
    }
}

#[test]
fn a_read_too_long_to_be_sent_on_is_refused_at_once() {
    let scratch = Scratch::new(Medium::Memory);
    let cluster = Cluster::start(scratch.path());
    let follower = cluster.node((cluster.leader() + 1) % 3);
    let mut conn = open(follower.address(), PATIENCE).expect("opens");
    let mut words = vec!["MGET".to_owned()];
    words.extend((0..900_000).map(|at| format!("a-key-with-a-name-{at:08}")));
    let since = Instant::now();
    let reply = conn.call(&words).expect("answered");
    assert!(reply.is_error() && !reply.text().contains("CLUSTERDOWN"), "{}", reply.text().len());
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert_eq!(call(&mut conn, "PING").text(), "PONG");
}

/// What a client with pipelines has seen.
#[derive(Default)]
struct Seen {
    pipelines: u64,
    /// Increments that were answered.
    counted: u64,
    /// Connections that were closed between two pipelines.
    closed: u64,
}

/// Pipelines, each of so many reads and then so many increments.
type Plan = [(u64, u64); 3];
const MIXED: Plan = [(200, 0), (0, 20), (100, 20)];
const READS: Plan = [(500, 0), (500, 0), (500, 1)];

/// Sends pipelines until told to stop: at the first of `addresses`, and at the next when that
/// closes. Nothing may be answered with an error or in part, and what is not answered at all, which
/// only one who may move may see, is sent again.
fn pipelines(id: usize, plan: Plan, addresses: &[SocketAddr], stop: &AtomicBool) -> Seen {
    let (mut seen, mut next) = (Seen::default(), 0);
    let counter = format!("counter-{id}");
    let mut conn: Option<Conn> = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(at) = &mut conn else {
            conn = open(addresses[next % addresses.len()], Duration::from_secs(15)).ok();
            next += usize::from(conn.is_none());
            continue;
        };
        let (reads, writes) = plan[seen.pipelines as usize % plan.len()];
        (0..reads).for_each(|_| at.queue(&["GET", &counter]));
        (0..writes).for_each(|_| at.queue(&["INCR", &counter]));
        let sent = at.flush();
        let mut answered = 0;
        let failure = sent.and_then(|()| {
            for number in 0..reads + writes {
                let reply = at.receive()?;
                answered = number + 1;
                assert!(!reply.is_error(), "client {id}: {reply:?}");
                let value = reply.text().parse::<u64>().unwrap_or(0);
                let wanted = seen.counted + answered.saturating_sub(reads);
                assert_eq!(value, wanted, "client {id}: request {number}");
            }
            Ok(())
        });
        match failure {
            Ok(()) => {
                seen.counted += writes;
                seen.pipelines += 1;
            }
            Err(error) => {
                assert_eq!(answered, 0, "client {id}: {error} in the midst of a pipeline");
                assert!(addresses.len() > 1, "client {id}: its node stays, but {error}");
                seen.closed += 1;
                (conn, next) = (None, next + 1);
            }
        }
    }
    seen
}

/// All three are stopped and started in turn, then whoever leads, under pipelines at nodes that stay
/// and of clients that know all nodes: each request is answered.
#[test]
fn a_rolling_restart_fails_no_pipeline() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    cluster.leader();
    for round in 0..6 {
        let at = if round < 3 { round } else { cluster.leader() };
        let all = cluster.addresses();
        const CLIENTS: usize = 8;
        for id in 0..CLIENTS {
            insist(all[0], &["SET", &format!("counter-{id}"), "0"]);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also when the trouble is one more than the cluster could take.
            let _stop = super::Stop(&stop);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|id| {
                    let (plan, addresses) = match id {
                        0..3 => (MIXED, vec![all[(at + 1 + id % 2) % 3]]),
                        _ => (READS, vec![all[at], all[(at + 1) % 3], all[(at + 2) % 3]]),
                    };
                    let stop = &stop;
                    scope.spawn(move || pipelines(id, plan, &addresses, stop))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(300));
            cluster.stop(at);
            std::thread::sleep(Duration::from_millis(200));
            cluster.up(at);
            std::thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
            let (mut count, mut closed) = (0, 0);
            for (id, client) in clients.into_iter().enumerate() {
                let seen = client.join().expect("no request failed");
                let counted = insist(all[0], &["GET", &format!("counter-{id}")]).text();
                assert_eq!(counted, seen.counted.to_string(), "client {id}: done twice, or lost");
                (count, closed) = (count + seen.pipelines, closed + seen.closed);
            }
            println!("node {at} restarted: {count} pipelines, {closed} connections closed");
        });
    }
    cluster.assert_equal();
}
