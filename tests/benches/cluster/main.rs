//! What do three nodes cost and give, and what does a lone one pay for Raft?
//!
//! - `three-memory`, `three-file`: SET and GET through the leader and through a follower of three
//!   nodes on this machine, with 1, 50 and 256 connections and pipelines of 1 and 16; beside etcd
//!   and beside redis-server with two replicas.
//! - `lone-memory`, `lone-file`: a node by itself beside a build from before Raft, whose binary
//!   `CAIRN_OLD` names (89a3178 is the last commit of that kind which builds as it stands).
//!
//! What is compared with what: cairn acknowledges a write when a majority has it, each at the
//! durability of its medium, and reads are linearizable; `READONLY` reads are not. etcd promises the
//! same of writes and of reads, and is asked over its own gRPC by a bare HTTP/2 client, a connection
//! for each of ours; a pipeline of 16 is 16 calls at once on one connection, for it has no other.
//! redis-server promises less: behind each batch `WAIT 1 0` waits until one replica has received
//! it, synced or not, and a failover may lose it all the same; its GETs come from the master, or,
//! as old as they may be, from a replica. On files everybody syncs each write (etcd always does,
//! on tmpfs too).
//!
//! The servers take turns within each round, in another order each time; shown are medians of the
//! rounds. All of them and the load generator (one thread) share the machine, so processor time
//! says more than throughput: `CPU us/op` is user and system time of ALL processes of a cluster for
//! one operation. p50 and p99 are of a whole batch of the pipeline's length.
//!
//! `cargo bench -p cairn-tests --bench cluster`; `CAIRN_BENCH_ONLY` (one of the names above),
//! `CAIRN_BENCH_SECONDS` (1) for each measurement, `CAIRN_BENCH_ROUNDS` (3), `CAIRN_SEED` for the
//! keys that are drawn.

mod etcd;
mod replicated;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_tests::bench::{self, Table, conditions, is_wanted, median, rounds, seconds};
use cairn_tests::cluster::{Cluster, insist};
use cairn_tests::load::{self, Command, Open, Sample, Shape, key, resp};
use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::rng;
use cairn_tests::scratch::{Medium, Scratch};
use cairn_tests::tools::{self, REDIS_REMEDY};

use etcd::Etcd;
use replicated::Replicated;

/// Keys that are there, and are set and got.
const KEYS: u64 = 100_000;
const ETCD_REMEDY: &str = "apt-get install etcd-server";

fn main() {
    let seed = rng::seeds(1)[0];
    println!("Keys are drawn from CAIRN_SEED={seed}.");
    for (name, medium) in [("three-memory", Medium::Memory), ("three-file", Medium::File)] {
        if is_wanted(name) {
            println!("\n{name}: three nodes. {}\n", conditions(medium));
            three(medium, seed);
        }
    }
    let old = std::env::var_os("CAIRN_OLD").map(PathBuf::from);
    for (name, medium) in [("lone-memory", Medium::Memory), ("lone-file", Medium::File)] {
        let Some(old) = old.as_deref().filter(|_| is_wanted(name)) else { continue };
        println!("\n{name}: a node by itself. {}\n", conditions(medium));
        lone(medium, old, seed);
    }
    if old.is_none() && is_wanted("lone") {
        println!("\nlone: skipped, for CAIRN_OLD names no binary to compare with");
    }
}

/// Somebody under measurement, on one of the ways to it.
struct Contestant<'a> {
    name: String,
    address: SocketAddr,
    /// All processes that serve it.
    pids: &'a [u32],
    open: Open,
}

impl Contestant<'_> {
    fn new<'a>(name: &str, address: SocketAddr, pids: &'a [u32], open: Open) -> Contestant<'a> {
        Contestant { name: name.to_owned(), address, pids, open }
    }
}

/// The connections and pipelines to measure.
fn shapes(command: Command, connections: &[u64], seed: u64) -> Vec<Shape> {
    let shape = |connections, pipeline| Shape {
        command,
        connections,
        pipeline,
        keys: KEYS,
        seconds: seconds(1.0).as_secs_f64(),
        seed,
    };
    let with = |connections: &u64| [shape(*connections, 1), shape(*connections, 16)];
    connections.iter().flat_map(with).collect()
}

/// Measures all in turn, and adds a row for each, beside those that `beside` names.
fn contest(what: Shape, contestants: &[Contestant<'_>], beside: &[&str], table: &mut Table) {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); contestants.len()];
    for round in 0..rounds(3) as usize {
        for turn in 0..contestants.len() {
            let at = (round + turn) % contestants.len();
            let Contestant { address, pids, open, .. } = contestants[at];
            samples[at].push(load::run(address, pids, open, what));
        }
    }
    let medians: Vec<Sample> = samples.iter().map(|samples| median_of(samples)).collect();
    for (own, sample) in contestants.iter().zip(&medians) {
        let mut row = vec![
            format!("{:?} c{} P{}", what.command, what.connections, what.pipeline).to_uppercase(),
            own.name.clone(),
            format!("{:.1}", sample.per_second / 1e3),
            format!("{:.0}", sample.p50_us),
            format!("{:.0}", sample.p99_us),
            format!("{:.2}", sample.cpu_us),
        ];
        for peer in beside {
            let at = contestants.iter().position(|other| other.name == *peer);
            let peer = at.filter(|_| own.name.starts_with("cairn") && own.name != *peer);
            row.extend(match peer.map(|at| &medians[at]) {
                Some(peer) => [
                    format!("{:.2}", sample.per_second / peer.per_second),
                    format!("{:.2}", peer.cpu_us / sample.cpu_us),
                ],
                None => [String::new(), String::new()],
            });
        }
        table.row(row);
    }
    let name = format!("{:?} c{} P{}", what.command, what.connections, what.pipeline);
    eprintln!("{} done", name.to_uppercase());
}

fn median_of(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> f64| median(samples.iter().map(field).collect());
    Sample {
        per_second: of(|sample| sample.per_second),
        p50_us: of(|sample| sample.p50_us),
        p99_us: of(|sample| sample.p99_us),
        cpu_us: of(|sample| sample.cpu_us),
    }
}

fn table(beside: &[&str]) -> Table {
    let mut heading = ["", "server", "k ops/s", "p50 us", "p99 us", "CPU us/op"].to_vec();
    let beside: Vec<String> = beside.iter().map(|name| format!("x {name}")).collect();
    heading.extend(beside.iter().flat_map(|name| [name, "per CPU"]));
    Table::new(&heading)
}

fn three(medium: Medium, seed: u64) {
    let Some(redis) = tools::find("redis-server", REDIS_REMEDY) else { return };
    let Some(etcd) = tools::find("etcd", ETCD_REMEDY) else { return };
    let dirs = [Scratch::new(medium), Scratch::new(medium), Scratch::new(medium)];
    let mut cluster = Cluster::plan(dirs[0].path());
    cluster.set("memory", "1gb");
    cluster.set("durability", "always");
    let cluster = cluster.started();
    let leader = cluster.leader();
    let addresses = [cluster.node(leader), cluster.node((leader + 1) % 3)].map(Node::address);
    // Once it takes a write there is nothing to wait for.
    addresses.iter().for_each(|address| drop(insist(*address, &["SET", "ready", "1"])));
    let etcd = Etcd::start(&etcd, dirs[1].path());
    let etcd_at = etcd.leader_and_follower();
    let redis = Replicated::start(&redis, dirs[2].path(), medium);
    let redis_at = redis.master_and_replica();
    for address in [addresses[0], redis_at[0]] {
        bench::load(address, KEYS, 0, key).expect("the server takes the keys");
    }
    etcd::load(etcd_at[0], KEYS).expect("etcd takes the keys");
    let cairn_pids: Vec<u32> = cluster.nodes.iter().flatten().map(Node::pid).collect();
    let (etcd_pids, redis_pids) = (etcd.pids(), redis.pids());
    let (cairn, etcd, redis) = (&cairn_pids[..], &etcd_pids[..], &redis_pids[..]);

    let mut set = table(&["etcd leader", "redis WAIT 1"]);
    for shape in shapes(Command::Set, &[1, 50, 256], seed) {
        let contestants = [
            Contestant::new("cairn leader", addresses[0], cairn, resp),
            Contestant::new("cairn follower", addresses[1], cairn, resp),
            Contestant::new("etcd leader", etcd_at[0], etcd, etcd::grpc),
            Contestant::new("etcd follower", etcd_at[1], etcd, etcd::grpc),
            Contestant::new("redis WAIT 1", redis_at[0], redis, load::waiting_resp),
        ];
        contest(shape, &contestants, &["etcd leader", "redis WAIT 1"], &mut set);
    }
    set.print();
    println!();
    let mut get = table(&["etcd leader", "redis master", "redis replica"]);
    for shape in shapes(Command::Get, &[1, 50, 256], seed) {
        let contestants = [
            Contestant::new("cairn leader", addresses[0], cairn, resp),
            Contestant::new("cairn follower", addresses[1], cairn, resp),
            Contestant::new("cairn READONLY", addresses[1], cairn, load::stale_resp),
            Contestant::new("etcd leader", etcd_at[0], etcd, etcd::grpc),
            Contestant::new("etcd follower", etcd_at[1], etcd, etcd::grpc),
            Contestant::new("redis master", redis_at[0], redis, resp),
            Contestant::new("redis replica", redis_at[1], redis, resp),
        ];
        contest(shape, &contestants, &["etcd leader", "redis master", "redis replica"], &mut get);
    }
    get.print();
}

fn lone(medium: Medium, old: &Path, seed: u64) {
    let dirs = [Scratch::new(medium), Scratch::new(medium)];
    let options = |dir: &Scratch| {
        NodeOptions::new(dir.path()).set("durability", "always").set("memory", "1gb")
    };
    let nodes = [options(&dirs[0]).start(), options(&dirs[1]).program(old).start()];
    for node in &nodes {
        bench::load(node.address(), KEYS, 0, key).expect("the node takes the keys");
    }
    let pids = [[nodes[0].pid()], [nodes[1].pid()]];
    let mut table = table(&["before Raft"]);
    for command in [Command::Set, Command::Get] {
        for shape in shapes(command, &[1, 50], seed) {
            let contestants = [
                Contestant::new("cairn", nodes[0].address(), &pids[0], resp),
                Contestant::new("before Raft", nodes[1].address(), &pids[1], resp),
            ];
            contest(shape, &contestants, &["before Raft"], &mut table);
        }
    }
    table.print();
}
