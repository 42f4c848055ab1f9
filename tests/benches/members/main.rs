//! What members cost and how they come back.
//!
//! - `restart-memory`, `restart-file`: a follower with 10 M keys is ended (by kill -9 and by
//!   SIGTERM), the leader takes writes for a second, and the follower is started again: from exec to
//!   its first PING, to its first right GET behind READONLY, and until it has what the leader had at
//!   its start. It must come back by the log: a follower that took the leader's pool ends the bench.
//! - `snapshot`: a follower that was away for longer than the log keeps gets the pool of 1 M keys,
//!   while 50 connections write in pipelines of 16: the leader's throughput, and how long its write
//!   lock was held at a time, before, during and after.
//! - `idle`: 64 groups of three members, nothing to do: processor time and memory. The groups of one
//!   process are one shard yet, so here all three members of each are built in this process, over
//!   three real QUIC transports, each group with a pool and a log of its own.
//!
//! `cargo bench -p cairn-tests --bench members`; `CAIRN_BENCH_ONLY` (one of the names above),
//! `CAIRN_BENCH_KEYS` (instead of 10 M and 1 M), `CAIRN_BENCH_ROUNDS` (5 restarts, 3 snapshots),
//! `CAIRN_BENCH_SECONDS` (10) of idleness, `CAIRN_SEED` for the keys that are drawn.

mod idle;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cairn_tests::bench::{self, Table, conditions, is_wanted, median, rounds, value};
use cairn_tests::cluster::{Cluster, insist, open};
use cairn_tests::load::{self, Command, Shape, key, resp};
use cairn_tests::node::Node;
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::rng;
use cairn_tests::scratch::{Medium, Scratch};

/// Keys that no load overwrites, so that what a GET must answer is known.
const PROBES: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(120);
/// What a follower logs when the leader's pool has taken the place of its own.
const TOOK_POOL: &str = "took the place of this node's";

fn main() {
    let seed = rng::seeds(1)[0];
    println!("Keys are drawn from CAIRN_SEED={seed}.");
    for (name, medium) in [("restart-memory", Medium::Memory), ("restart-file", Medium::File)] {
        if is_wanted(name) {
            println!("\n{name}: {}\n", conditions(medium));
            restart(medium, seed);
        }
    }
    if is_wanted("snapshot") {
        println!("\nsnapshot: {}\n", conditions(Medium::Memory));
        snapshot(seed);
    }
    if is_wanted("idle") {
        println!("\nidle: {}\n", conditions(Medium::Memory));
        idle::run();
    }
}

fn keys(usual: u64) -> u64 {
    let text = std::env::var("CAIRN_BENCH_KEYS");
    let keys = text.map_or(usual, |text| text.parse().expect("CAIRN_BENCH_KEYS is a number"));
    keys.max(2 * PROBES)
}

/// A cluster with these keys, and who leads it.
fn filled(dir: &Scratch, keys: u64, options: &[(&str, &str)]) -> (Cluster, usize) {
    let mut cluster = Cluster::plan(dir.path());
    // Room for the keys three times over, for the copies that overwriting makes.
    cluster.set("memory", &(keys * 160 * 3).max(1 << 30).to_string());
    cluster.set("durability", "always");
    options.iter().for_each(|(name, value)| cluster.set(name, value));
    let cluster = cluster.started();
    let leader = cluster.leader();
    let address = cluster.node(leader).address();
    insist(address, &["SET", "ready", "1"]);
    let start = Instant::now();
    bench::load(address, keys, 0, key).expect("the leader takes the keys");
    eprintln!("{keys} keys in {:.1} s", start.elapsed().as_secs_f64());
    (cluster, leader)
}

fn writes(keys: u64, seconds: f64, seed: u64) -> Shape {
    let keys = keys - PROBES;
    Shape { command: Command::Set, connections: 50, pipeline: 16, keys, seconds, seed }
}

/// The last entry that a node has applied.
fn applied(node: &Node) -> u64 {
    node.info("master_repl_offset").parse().expect("a number")
}

/// The last entry that a node's log no longer has.
fn purged(node: &Node) -> u64 {
    let status = node.connect().call(&["CAIRN.RAFT", "STATUS"]).expect("the node answers");
    let at = status.items().iter().position(|item| item.text() == "purged_index");
    at.and_then(|at| status.items()[at + 1].int())
        .and_then(|index| index.try_into().ok())
        .unwrap_or(0)
}

/// Asks until the answer is right; how long that took since `start`.
fn until(start: Instant, mut is_right: impl FnMut() -> bool) -> Duration {
    while !is_right() {
        assert!(start.elapsed() < PATIENCE, "it does not come back");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

/// What a follower answers by itself.
fn own_get(address: SocketAddr, key: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut conn: Conn = open(address, Duration::from_secs(1))?;
    conn.call(&["READONLY"])?;
    Ok(conn.call(&[b"GET".as_slice(), key])?.bytes().map(<[u8]>::to_vec))
}

fn restart(medium: Medium, seed: u64) {
    let (keys, dir) = (keys(10_000_000), Scratch::new(medium));
    let (mut cluster, leader) = filled(&dir, keys, &[]);
    let follower = (leader + 1) % 3;
    let mut table = Table::new(&["ended by", "until", "median ms", "min ms", "max ms"]);
    for ended_by in ["kill -9", "SIGTERM"] {
        let mut times = [const { Vec::new() }; 4];
        for round in 0..rounds(5) {
            if ended_by == "kill -9" {
                cluster.kill9(follower)
            } else {
                cluster.stop(follower)
            }
            let pids = [cluster.node(leader).pid()];
            let address = cluster.node(leader).address();
            let missed = load::run(address, &pids, resp, writes(keys, 1.0, seed)).per_second;
            let upto = applied(cluster.node(leader));
            let start = Instant::now();
            cluster.up(follower);
            let ready = start.elapsed();
            let node = cluster.node(follower);
            let pong = until(start, || node.connect().call(&["PING"]).is_ok());
            let probe = keys - 1 - round % PROBES;
            let wanted = value(probe, 0);
            let get = until(start, || {
                own_get(node.address(), &key(probe)).is_ok_and(|got| got.as_ref() == Some(&wanted))
            });
            let in_step = until(start, || applied(node) >= upto);
            assert!(!node.log().contains(TOOK_POOL), "it took the leader's pool:\n{}", node.log());
            let all = [ready, pong, get, in_step];
            times.iter_mut().zip(all).for_each(|(times, time)| times.push(ms(time)));
            eprintln!("{ended_by}: missed {missed:.0} writes; {all:.1?}");
        }
        let whats = ["the ready line", "PING", "a right GET", "in step with the leader"];
        for (what, times) in whats.into_iter().zip(times) {
            let min = times.iter().copied().fold(f64::MAX, f64::min);
            let max = times.iter().copied().fold(0.0, f64::max);
            let numbers = [median(times), min, max].map(|ms| format!("{ms:.1}"));
            let cells = [ended_by, what].map(str::to_owned).into_iter().chain(numbers);
            table.row(cells.collect());
        }
    }
    println!("A follower with {keys} keys, from exec:\n");
    table.print();
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The leader over some time.
struct Window {
    per_second: f64,
    seconds: f64,
    /// Microseconds under which half, 99 % and all of the holds of its write lock lie.
    holds_us: [f64; 3],
}

/// Watches the leader while `during` runs.
fn watch(leader: &Node, during: impl FnOnce()) -> Window {
    let reset = leader.connect().call(&["CONFIG", "RESETSTAT"]).expect("the leader answers");
    assert_eq!(reset.text(), "OK");
    let start = Instant::now();
    during();
    let seconds = start.elapsed().as_secs_f64();
    let number = |field: &str| -> f64 { leader.info(field).parse().expect("a number") };
    Window {
        per_second: number("total_commands_processed") / seconds,
        seconds,
        holds_us: ["p50", "p99", "max"]
            .map(|part| number(&format!("write_lock_hold_nsec_{part}")) / 1e3),
    }
}

fn snapshot(seed: u64) {
    /// Entries behind which a follower counts as in step: some are always on their way.
    const ON_THE_WAY: u64 = 200;
    /// More than is written while the pool is sent: what is needed then is not held back.
    const LOG_KEEP: &str = "64mb";
    let (keys, dir) = (keys(1_000_000), Scratch::new(Medium::Memory));
    let (mut cluster, leader) = filled(&dir, keys, &[("log-keep", LOG_KEEP)]);
    let follower = (leader + 1) % 3;
    let mut table = Table::new(&[
        "",
        "round",
        "s",
        "k writes/s",
        "x before",
        "hold p50 us",
        "hold p99 us",
        "hold max us",
    ]);
    let (mut of_two, mut of_three) = (Vec::new(), Vec::new());
    for round in 0..rounds(3) {
        let had = applied(cluster.node(follower));
        cluster.kill9(follower);
        let (address, pid) = (cluster.node(leader).address(), cluster.node(leader).pid());
        let over = std::sync::atomic::AtomicBool::new(false);
        let windows = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut turn = seed;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    load::run_until(address, &[pid], resp, writes(keys, 60.0, turn), &over);
                    turn += 1;
                }
            });
            let is_gone = || purged(cluster.node(leader)) > had;
            assert!(process::eventually(PATIENCE, is_gone), "the log still has what it missed");
            let before = watch(cluster.node(leader), || std::thread::sleep(Duration::from_secs(2)));
            let during = {
                let options = cluster.options(follower);
                let mut node = None;
                let window = watch(cluster.node(leader), || {
                    let started = options.start();
                    let in_step = process::eventually(PATIENCE, || {
                        started.log().contains(TOOK_POOL)
                            && applied(&started) + ON_THE_WAY >= applied(cluster.node(leader))
                    });
                    assert!(in_step, "it does not catch up:\n{}", started.log());
                    node = Some(started);
                });
                (window, node)
            };
            let after = watch(cluster.node(leader), || std::thread::sleep(Duration::from_secs(2)));
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            (before, during, after)
        });
        let (before, (during, node), after) = windows;
        cluster.nodes[follower] = node;
        of_two.push(during.per_second / before.per_second);
        of_three.push(during.per_second / after.per_second);
        for (name, window) in
            [("before, two nodes", &before), ("during", &during), ("after, three nodes", &after)]
        {
            let mut row = vec![
                name.to_owned(),
                round.to_string(),
                format!("{:.2}", window.seconds),
                format!("{:.1}", window.per_second / 1e3),
                format!("{:.2}", window.per_second / before.per_second),
            ];
            row.extend(window.holds_us.map(|us| format!("{us:.1}")));
            table.row(row);
        }
        assert_eq!(cluster.leader(), leader, "another leads");
    }
    println!("A follower gets the pool of {keys} keys while 50 connections write:\n");
    table.print();
    // The third node's part in every write costs processors too, on one machine: that is not the
    // transfer's doing.
    println!(
        "\nThe leader's throughput meanwhile: {:.2} of what it is with three nodes in step, {:.2} of \
         what it was with two.",
        median(of_three),
        median(of_two)
    );
}
