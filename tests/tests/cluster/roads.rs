//! What clients of a node that does not lead are answered: transactions, and pipelines while
//! nodes restart.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_tests::cluster::{Cluster, insist, open};
use cairn_tests::process;
use cairn_tests::resp::{Conn, Reply};
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
