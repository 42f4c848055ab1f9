//! How long after a kill -9 is a server back? From exec to the first right GET, with 20 B keys and
//! 100 B values; cairn is killed while four clients write, redis-server after its last save, since
//! it has nothing else to come back with.
//!
//! `cargo bench -p cairn-tests --bench restart`; `CAIRN_BENCH_KEYS=100000` for a quick look,
//! `CAIRN_BENCH_ROUNDS` for more rounds, `CAIRN_BENCH_ONLY=cairn` for these rows alone.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_tests::bench::{Table, is_wanted, key, key_counts, load, median, rounds, value};
use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::peer::Peer;
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::rng::Rng;
use cairn_tests::scratch::{Medium, Scratch};
use cairn_tests::tools;

/// Keys that the writers leave alone, so that what a GET must answer is known.
const PROBES: u64 = 1000;

fn main() {
    let mut table = Table::new(&["server", "keys", "median ms", "min ms", "max ms", "replayed"]);
    for keys in key_counts() {
        for medium in Medium::ALL {
            cairn(keys, medium, &mut table);
        }
        if let Some(program) = tools::find("redis-server", tools::REDIS_REMEDY) {
            redis(&program, keys, "redis-server, RDB", &["--save", ""], &mut table);
            let aof = ["--save", "", "--appendonly", "yes"];
            redis(&program, keys, "redis-server, AOF", &aof, &mut table);
        }
    }
    println!("\nFrom exec to the first right GET, after a kill -9:\n");
    table.print();
}

fn cairn(keys: u64, medium: Medium, table: &mut Table) {
    let name = if medium == Medium::Memory { "cairn, /dev/shm" } else { "cairn, file" };
    if !is_wanted(name) {
        return;
    }
    let scratch = Scratch::new(medium);
    let options = NodeOptions::new(scratch.path()).set("memory", &memory_for(keys));
    let mut node = options.start();
    load(node.address(), keys, 0, key).expect("the node takes the keys");
    let (mut times, mut replayed) = (Vec::new(), 0);
    for round in 0..rounds(7) {
        let options = kill_under_load(node, keys);
        let start = Instant::now();
        node = options.start();
        first_right_get(node.address(), keys - 1 - round % PROBES.min(keys));
        times.push(start.elapsed());
        replayed = replayed.max(node.info("recovered_log_entries").parse().unwrap_or(0));
        println!("{:.1} ms: {}", ms(start.elapsed()), node.ready_line());
    }
    add(table, name, keys, &times, &replayed.to_string());
}

/// Room for the keys three times over, for the copies that overwriting makes.
fn memory_for(keys: u64) -> String {
    (keys * 160 * 3).max(1 << 30).to_string()
}

fn kill_under_load(node: Node, keys: u64) -> NodeOptions {
    let address = node.address();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || overwrite(address, keys.saturating_sub(PROBES).max(1), writer));
        }
        std::thread::sleep(Duration::from_millis(1500));
        node.kill9()
    })
}

/// Overwrites keys at random in pipelines of 16 until the connection breaks.
fn overwrite(address: SocketAddr, keys: u64, seed: u64) {
    let mut rng = Rng::new(seed);
    let Ok(mut conn) = Conn::open(address) else { return };
    loop {
        for _ in 0..16 {
            let number = rng.below(keys);
            conn.queue(&[b"SET".as_slice(), &key(number), &value(number, 1)]);
        }
        if conn.flush().is_err() || (0..16).any(|_| conn.receive().is_err()) {
            return;
        }
    }
}

fn first_right_get(address: SocketAddr, number: u64) {
    let right = || {
        let reply =
            Conn::open(address).and_then(|mut conn| conn.call(&[b"GET".as_slice(), &key(number)]));
        reply.is_ok_and(|reply| reply.bytes() == Some(&value(number, 0)))
    };
    let start = Instant::now();
    while !right() {
        assert!(start.elapsed() < Duration::from_secs(300), "key {number} does not come back");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn redis(program: &Path, keys: u64, name: &str, args: &[&str], table: &mut Table) {
    if !is_wanted(name) {
        return;
    }
    let scratch = Scratch::new(Medium::Memory);
    let peer = Peer::start(program, scratch.path(), args);
    load(peer.address(), keys, 0, key).expect("redis-server takes the keys");
    if args.contains(&"--appendonly") {
        settle(&peer);
    } else {
        peer.connect().call(&["SAVE"]).expect("redis-server saves");
    }
    peer.kill9();
    let mut times = Vec::new();
    for round in 0..rounds(3).min(3) {
        let start = Instant::now();
        let peer = Peer::exec(program, scratch.path(), args);
        first_right_get(peer.address(), keys - 1 - round);
        times.push(start.elapsed());
        println!("{:.1} ms: {name}, {keys} keys", ms(start.elapsed()));
        peer.kill9();
    }
    add(table, name, keys, &times, "-");
}

/// Waits until no rewrite of the AOF is under way and its last second is synced.
fn settle(peer: &Peer) {
    let mut conn = peer.connect();
    process::eventually(Duration::from_secs(300), || {
        let info = conn.call(&["INFO", "persistence"]).expect("redis-server answers").text();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
    std::thread::sleep(Duration::from_secs(2));
}

fn add(table: &mut Table, name: &str, keys: u64, times: &[Duration], replayed: &str) {
    let all: Vec<f64> = times.iter().map(|time| ms(*time)).collect();
    let (min, max) =
        all.iter().fold((f64::MAX, 0.0f64), |(low, high), t| (low.min(*t), high.max(*t)));
    let numbers = [median(all), min, max].map(|ms| format!("{ms:.1}"));
    let cells = [name.to_owned(), keys.to_string()].into_iter().chain(numbers);
    table.row(cells.chain([replayed.to_owned()]).collect());
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
