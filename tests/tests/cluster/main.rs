//! Three processes that are one cluster: born once, written to and read through any of them, killed,
//! paused, stopped in turn; nothing acknowledged is lost, and all end with the same state.
//!
//! `CAIRN_ROUNDS=n` kills so many times. [`faults`] does it in network namespaces.

mod birth;
mod dev;
mod faults;
mod identity;
mod roads;
mod versions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_tests::cluster::{Cluster, insist, open};
use cairn_tests::node::is_well;
use cairn_tests::process;
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};

fn rounds(usual: u64) -> u64 {
    std::env::var("CAIRN_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[test]
fn three_equal_command_lines_make_one_cluster_once() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::plan(scratch.path());
    let options = [2, 0, 1].map(|at| cluster.options(at));
    let started = std::thread::scope(|scope| {
        let started = options.each_ref().map(|options| {
            std::thread::sleep(Duration::from_millis(300));
            scope.spawn(|| options.start())
        });
        started.map(|node| Some(node.join().expect("it starts")))
    });
    let [third, first, second] = started;
    cluster.nodes = vec![first, second, third];
    let addresses = cluster.addresses();
    for (at, address) in addresses.iter().enumerate() {
        insist(*address, &["SET", &format!("key{at}"), "value"]);
    }
    for address in &addresses {
        let reply = insist(*address, &["MGET", "key0", "key1", "key2"]);
        assert!(reply.items().iter().all(|value| value.text() == "value"), "{reply:?}");
        assert_eq!(insist(*address, &["WAIT", "1", "1000"]).int().map(|n| n >= 1), Some(true));
        let both = insist(*address, &["WAITAOF", "1", "1", "1000"]);
        let [local, replicas] = both.items() else { panic!("{both:?}") };
        assert!(local.int() == Some(1) && replicas.int() >= Some(1), "{both:?}");
    }
    let leader = cluster.leader();
    let role = insist(addresses[leader], &["ROLE"]);
    assert_eq!((role.items()[0].text(), role.items()[2].items().len()), ("master".into(), 2));
    let status = insist(addresses[leader], &["CAIRN.RAFT", "STATUS"]);
    assert_eq!(status.items().len(), 30, "{status:?}");
    cluster.kill9(0);
    cluster.up(0);
    assert_eq!(insist(addresses[0], &["GET", "key1"]).text(), "value");
    cluster.assert_equal();
}

/// With `--reads index` no clock is trusted: every read costs a round to the peers, and sees what
/// was written before it through any node.
#[test]
fn reads_by_index_need_no_lease() {
    let scratch = Scratch::new(Medium::Memory);
    let mut plan = Cluster::plan(scratch.path());
    plan.set("reads", "index");
    let cluster = plan.started();
    let addresses = cluster.addresses();
    for round in 0..30 {
        let value = round.to_string();
        insist(addresses[round % 3], &["SET", "key", &value]);
        for address in &addresses {
            assert_eq!(insist(*address, &["GET", "key"]).text(), value);
        }
    }
    let status = insist(addresses[cluster.leader()], &["CAIRN.RAFT", "STATUS"]);
    let lease = status.items().chunks(2).find(|pair| pair[0].text() == "lease_ms");
    assert_eq!(lease.and_then(|pair| pair[1].int()), Some(0));
}

/// Replies of any length come through any node, among others in one pipeline.
#[test]
fn long_replies_come_through_any_node() {
    let scratch = Scratch::new(Medium::Memory);
    let mut plan = Cluster::plan(scratch.path());
    plan.set("memory", "512mb");
    let cluster = plan.started();
    let follower = (cluster.leader() + 1) % 3;
    let mut conn = open(cluster.node(follower).address(), Duration::from_secs(30)).expect("opens");
    let long = "0123456789abcdef".repeat(40 << 16);
    assert_eq!(conn.call(&["SET", "long", &long]).expect("answered").text(), "OK");
    for _ in 0..3 {
        conn.queue(&["INCR", "count"]);
        conn.queue(&["GET", "long"]);
    }
    conn.queue(&["MGET", "long", "none", "long"]);
    conn.flush().expect("sent");
    for count in 1..=3 {
        assert_eq!(conn.receive().expect("answered").int(), Some(count));
        assert!(conn.receive().expect("answered").text() == long, "another value");
    }
    let both = conn.receive().expect("answered");
    assert!(both.items()[0].text() == long && both.items()[2].text() == long, "other values");
    assert_eq!(cluster.node(follower).info("role"), "slave");
    let replid = |at: usize| cluster.node(at).info("master_replid");
    assert_eq!(replid(0).len(), 40);
    assert!((1..3).all(|at| replid(at) == replid(0)));
}

#[test]
fn a_wrong_secret_or_none_is_refused() {
    let scratch = Scratch::new(Medium::Memory);
    let cluster = Cluster::plan(scratch.path());
    let refusal = cluster.options(0).set("cluster-secret", "short").try_start().err();
    assert!(refusal.is_some_and(|refusal| refusal.text.contains("openssl rand")));
    let lone = scratch.path().join("lone");
    cairn_tests::node::NodeOptions::new(&lone).start().stop();
    let refusal = cluster.options(1).in_dir(&lone).try_start().err();
    assert!(refusal.is_some_and(|refusal| refusal.text.contains("lone node")));
}

/// Increments under WATCH through every node: as many as EXEC confirmed.
#[test]
fn transactions_under_watch_work_through_any_node() {
    let scratch = Scratch::new(Medium::Memory);
    let cluster = Cluster::start(scratch.path());
    let addresses = cluster.addresses();
    insist(addresses[0], &["SET", "count", "0"]);
    let confirmed = AtomicU64::new(0);
    let aborted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for address in addresses.iter().flat_map(|address| [address, address]) {
            scope.spawn(|| {
                let mut conn = open(*address, Duration::from_secs(10)).expect("a connection");
                for _ in 0..60 {
                    conn.call(&["WATCH", "count"]).expect("answered");
                    let count = conn.call(&["GET", "count"]).expect("answered").text();
                    let next = (count.parse::<u64>().expect("a number") + 1).to_string();
                    conn.call(&["MULTI"]).expect("answered");
                    conn.call(&["SET", "count", &next]).expect("answered");
                    conn.call(&["GET", "count"]).expect("answered");
                    let reply = conn.call(&["EXEC"]).expect("answered");
                    assert!(!reply.is_error(), "{reply:?}");
                    match reply.items() {
                        [] => aborted.fetch_add(1, Ordering::Relaxed),
                        [_, got] => {
                            assert_eq!(got.text(), next);
                            confirmed.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
    });
    let (confirmed, aborted) = (confirmed.into_inner(), aborted.into_inner());
    println!("{confirmed} confirmed, {aborted} aborted");
    assert_eq!(insist(addresses[1], &["GET", "count"]).text(), confirmed.to_string());
    assert!(confirmed > 0 && aborted > 0);
    cluster.assert_equal();
}

/// What clients know of the values they have set.
#[derive(Default)]
struct Known {
    /// The last value acknowledged for each key.
    acknowledged: BTreeMap<String, u64>,
    /// Values of which nothing is known, by key.
    open: BTreeMap<String, Vec<u64>>,
}

/// Writes growing numbers to a key of its own until told to stop, at any node, and reads them back:
/// never an older one than was acknowledged.
fn client(id: usize, addresses: &[SocketAddr], known: &Mutex<Known>, stop: &AtomicBool, seed: u64) {
    let mut rng = Rng::new(seed);
    let key = format!("client-{id}");
    let mut conn = None;
    for value in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let address = *rng.pick(addresses);
        let mut at = match conn.take().filter(|_| !rng.once_in(50)) {
            Some(conn) => conn,
            None => match open(address, Duration::from_secs(15)) {
                Ok(conn) => conn,
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            },
        };
        match at.call(&["SET", &key, &value.to_string()]) {
            Ok(reply) if !reply.is_error() => {
                known.lock().expect("no client panics").acknowledged.insert(key.clone(), value);
            }
            // An error may be one of a leader that lost its majority: it may yet be executed.
            _ => {
                let mut known = known.lock().expect("no client panics");
                known.open.entry(key.clone()).or_default().push(value);
                continue;
            }
        }
        if let Ok(got) = at.call(&["GET", &key])
            && !got.is_error()
        {
            let got: u64 = got.text().parse().unwrap_or(0);
            let known = known.lock().expect("no client panics");
            // One of which nothing is known may come at any time.
            let open = known.open.get(&key).is_some_and(|open| open.contains(&got));
            assert!(got == value || open, "{key}: {value} was acknowledged, {got} is read");
        }
        conn = Some(at);
    }
}

/// Stops the clients when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs clients while `trouble` is made.
fn under_load(cluster: &mut Cluster, seed: u64, trouble: impl FnOnce(&mut Cluster)) {
    let addresses = cluster.addresses();
    let (known, stop) = (Mutex::new(Known::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for id in 0..4 {
            let (addresses, known, stop) = (&addresses, &known, &stop);
            scope.spawn(move || client(id, addresses, known, stop, seed ^ id as u64));
        }
        // Also when the trouble is one more than the cluster could take.
        let _stop = Stop(&stop);
        trouble(cluster);
        std::thread::sleep(Duration::from_millis(300));
    });
    let known = known.into_inner().expect("no client panics");
    assert_eq!(known.acknowledged.len(), 4, "a client never got through");
    for (key, acknowledged) in &known.acknowledged {
        let got = insist(addresses[0], &["GET", key]).text();
        let got: u64 = got.parse().unwrap_or(0);
        let open = known.open.get(key).is_some_and(|open| open.contains(&got));
        assert!(got == *acknowledged || open, "{key}: {acknowledged} acknowledged, {got} there");
    }
    let total: u64 = known.acknowledged.values().sum();
    println!("{total} values at most were acknowledged");
}

#[test]
fn kills_lose_nothing_and_replicas_end_alike() {
    let seed = seeds(1)[0];
    println!("CAIRN_SEED={seed}");
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    cluster.leader();
    let mut gaps = Vec::new();
    under_load(&mut cluster, seed, |cluster| {
        for round in 0..rounds(5) {
            let leader = cluster.leader();
            let fallen: Vec<usize> = match round % 5 {
                0 => vec![leader],
                1 => vec![(leader + 1) % 3],
                2 => vec![leader, (leader + 1) % 3],
                3 => vec![0, 1, 2],
                _ => vec![rng.below(3) as usize],
            };
            fallen.iter().for_each(|at| cluster.kill9(*at));
            if fallen == [leader] {
                let since = Instant::now();
                insist(cluster.addresses()[0], &["SET", "probe", "x"]);
                gaps.push(since.elapsed());
            }
            std::thread::sleep(Duration::from_millis(rng.below(400)));
            fallen.iter().for_each(|at| cluster.up(*at));
            insist(cluster.addresses()[2], &["SET", "probe", "y"]);
        }
    });
    println!("no writes after the leader was killed for {gaps:?}");
    cluster.assert_equal();
}

#[test]
fn a_paused_leader_serves_nothing_old_and_a_minority_acknowledges_nothing() {
    let seed = seeds(1)[0];
    println!("CAIRN_SEED={seed}");
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let leader = cluster.leader();
    under_load(&mut cluster, seed, |cluster| {
        process::pause(cluster.node(leader).pid());
        insist(cluster.node((leader + 1) % 3).address(), &["SET", "probe", "x"]);
        process::signal(cluster.node(leader).pid(), "CONT");
        std::thread::sleep(Duration::from_millis(500));
    });
    let left = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|at| *at != left).collect();
    others.iter().for_each(|at| process::pause(cluster.node(*at).pid()));
    let address = cluster.node(left).address();
    let write =
        open(address, Duration::from_secs(3)).and_then(|mut c| c.call(&["SET", "probe", "z"]));
    assert!(write.as_ref().map_or(true, |reply| reply.is_error()), "{write:?}");
    let read = open(address, Duration::from_secs(3)).and_then(|mut c| c.call(&["GET", "probe"]));
    assert!(read.as_ref().map_or(true, |reply| reply.is_error()), "{read:?}");
    assert!(is_well(address, &[]) && !is_well(address, &["--ready"]));
    others.iter().for_each(|at| process::signal(cluster.node(*at).pid(), "CONT"));
    insist(address, &["SET", "probe", "again"]);
    assert!(is_well(address, &["--ready"]));
    cluster.assert_equal();
}

/// All three are stopped and started in turn; a client of a node that stays sees no error.
#[test]
fn a_rolling_restart_fails_no_request() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    cluster.leader();
    let mut slowest = Duration::ZERO;
    for at in 0..3 {
        let stays = cluster.node((at + 1) % 3).address();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut conn = open(stays, Duration::from_secs(15)).expect("a connection");
                let (mut calls, mut slowest) = (0u64, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    let reply = conn.call(&["INCR", "calls"]).expect("it stays connected");
                    assert!(!reply.is_error(), "{reply:?}");
                    slowest = slowest.max(since.elapsed());
                    calls += 1;
                }
                (calls, slowest)
            });
            std::thread::sleep(Duration::from_millis(300));
            cluster.stop(at);
            std::thread::sleep(Duration::from_millis(300));
            cluster.up(at);
            std::thread::sleep(Duration::from_millis(800));
            stop.store(true, Ordering::Relaxed);
            let (calls, longest) = client.join().expect("no request failed");
            println!("node {at} restarted: {calls} requests, the slowest took {longest:?}");
            slowest = slowest.max(longest);
        });
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    cluster.assert_equal();
}

/// Sets `count` keys of 1000 bytes and overwrites them `times` times.
pub(crate) fn fill(address: SocketAddr, count: u64, times: u64) {
    let mut conn = open(address, Duration::from_secs(20)).expect("a connection");
    let value = "v".repeat(1000);
    for round in 0..times {
        for at in 0..count {
            conn.queue(&["SET", &format!("fill-{at}"), &format!("{round}{value}")]);
        }
        conn.flush().expect("it takes a pipeline");
        for _ in 0..count {
            let reply = conn.receive().expect("answered");
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
}

/// The index of an entry that a node's CAIRN.RAFT STATUS names.
fn index(cluster: &Cluster, at: usize, name: &str) -> i64 {
    let status = insist(cluster.node(at).address(), &["CAIRN.RAFT", "STATUS"]);
    let pair = status.items().chunks(2).find(|pair| pair[0].text() == name);
    pair.and_then(|pair| pair[1].int()).expect("an index")
}

/// A member that was away for longer than the log reaches gets the pool, and so does one with a new
/// disk, which takes the place of the old.
#[test]
fn who_was_away_too_long_gets_the_whole_pool() {
    let scratch = Scratch::new(Medium::Memory);
    let mut plan = Cluster::plan(scratch.path());
    plan.set("log-keep", "1mb");
    plan.set("epoch-ms", "50");
    let mut cluster = plan.started();
    let away = (cluster.leader() + 1) % 3;
    insist(cluster.node(away).address(), &["CAIRN.SNAPSHOT", "CREATE", "before"]);
    cluster.stop(away);
    let address = cluster.addresses()[0];
    let leader = cluster.leader();
    let first_kept = || index(&cluster, leader, "purged_index");
    let had = index(&cluster, leader, "last_log_index");
    let start = Instant::now();
    while first_kept() <= had {
        fill(address, 2000, 20);
        assert!(start.elapsed() < Duration::from_secs(30), "{had} entries are kept");
    }
    insist(address, &["EXPIRE", "fill-7", "1000"]);
    cluster.up(away);
    let since = Instant::now();
    insist(cluster.node(away).address(), &["SET", "probe", "x"]);
    let has_all = || {
        let keys = cluster.node(away).info("db0");
        keys.starts_with("keys=2001,")
    };
    assert!(process::eventually(Duration::from_secs(30), has_all), "{}", cluster.node(away).log());
    println!("it has the pool after {:?}", since.elapsed());
    assert!(cluster.node(away).log().contains("took the place"), "{}", cluster.node(away).log());
    fill(cluster.node(away).address(), 100, 1);
    cluster.kill9(away);
    cluster.wipe(away);
    cluster.up(away);
    let is_in = || {
        let status = insist(cluster.node(away).address(), &["CAIRN.RAFT", "STATUS"]);
        let members = status.items().last().map_or(0, |members| members.items().len());
        members == 3 && cluster.node(away).info("db0").starts_with("keys=2001,")
    };
    assert!(process::eventually(Duration::from_secs(60), is_in), "{}", cluster.node(away).log());
    // It heard of its leader before it knew where that is.
    insist(cluster.node(away).address(), &["SET", "probe", "through the newcomer"]);
    cluster.assert_equal();
}

/// A command that is applied for longer than followers wait for their leader: nobody else comes to
/// lead meanwhile, and the others can be asked how they stand.
#[test]
fn a_slow_command_deposes_nobody() {
    const MEMBERS: usize = 100_000;
    let scratch = Scratch::new(Medium::Memory);
    let mut plan = Cluster::plan(scratch.path());
    // What all those sources might take together, if they were not one.
    plan.set("memory", "8gb");
    let cluster = plan.started();
    let leader = cluster.leader();
    let mut conn = open(cluster.node(leader).address(), Duration::from_secs(60)).expect("opens");
    for start in (0..MEMBERS).step_by(1000) {
        let mut args = vec!["ZADD".to_owned(), "from".to_owned()];
        args.extend((start..start + 1000).flat_map(|n| [n.to_string(), format!("member-{n}")]));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert_eq!(conn.call(&args).expect("answered").int(), Some(1000));
    }
    let mut union = |sources: usize| {
        let count = sources.to_string();
        let args: Vec<&str> =
            ["ZUNIONSTORE", "to", &count].into_iter().chain(vec!["from"; sources]).collect();
        let since = Instant::now();
        (conn.call(&args), since.elapsed())
    };
    let terms = || -> Vec<String> {
        cluster.nodes.iter().flatten().map(|node| node.info("raft_term")).collect()
    };
    let before = terms();
    let few = union(20).1;
    // As many sources as take some seconds.
    let sources = (20.0 * 5.0 / few.as_secs_f64()).ceil() as usize;
    let (mut longest, over) = (Duration::ZERO, AtomicBool::new(false));
    let took = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                for node in cluster.nodes.iter().flatten() {
                    let since = Instant::now();
                    let status = insist(node.address(), &["CAIRN.RAFT", "STATUS"]);
                    assert!(!status.items().is_empty(), "{status:?}");
                    longest = longest.max(since.elapsed());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            longest
        });
        let (stored, took) = union(sources);
        over.store(true, Ordering::Relaxed);
        longest = asking.join().expect("every node answers");
        let stored = stored.expect("the connection lasts");
        assert_eq!(stored.int(), Some(MEMBERS as i64), "{stored:?}");
        took
    });
    println!("a union of {sources} took {took:?}, the longest answer meanwhile {longest:?}");
    assert!(took > Duration::from_millis(1500), "no test of slowness: {took:?}");
    assert_eq!(terms(), before, "somebody else came to lead");
    assert_eq!(cluster.leader(), leader);
    assert!(longest < Duration::from_millis(700), "a node said nothing for {longest:?}");
    cluster.assert_equal();
}
