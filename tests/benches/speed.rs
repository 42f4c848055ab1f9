//! How fast, and at what cost of processor time? GET and SET with redis-benchmark, 50 connections,
//! 100 B values, pipelines of 1, 16 and 64, a million keys that are all there.
//!
//! On memory: cairn on /dev/shm, acknowledged when its log has the write, against redis-server and
//! Valkey without any persistence. On files: everyone syncs before the answer. The servers take
//! turns within each round, in another order each time, so that whatever else the machine does hits
//! all alike; shown are medians of the rounds. The load generator shares the machine, so operations
//! per second of the server's own processor time say more than throughput.
//!
//! `cargo bench -p cairn-tests --bench speed`; `CAIRN_BENCH_ROUNDS` (3), `CAIRN_BENCH_REQUESTS`
//! (percent of the usual number, 100), `CAIRN_BENCH_ONLY` (`memory` or `file`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_tests::bench::{Table, is_wanted, load, median, rounds, valkey};
use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::peer::Peer;
use cairn_tests::process;
use cairn_tests::scratch::{Medium, Scratch};
use cairn_tests::tools::{self, REDIS_REMEDY};

const KEYS: u64 = 1_000_000;

/// Pipeline lengths, each with the requests of one run on memory and on a file.
const PIPELINES: [(u64, u64, u64); 3] =
    [(1, 200_000, 100_000), (16, 2_000_000, 1_000_000), (64, 3_000_000, 1_500_000)];

fn main() {
    let Some(benchmark) = tools::find("redis-benchmark", REDIS_REMEDY) else { return };
    let Some(redis) = tools::find("redis-server", REDIS_REMEDY) else { return };
    let valkey = valkey(Path::new(env!("CARGO_TARGET_TMPDIR")));
    for medium in Medium::ALL {
        let name = if medium == Medium::Memory { "memory" } else { "file" };
        if is_wanted(name) {
            measure(medium, &benchmark, &redis, valkey.as_deref());
        }
    }
}

/// A server under measurement.
struct Server {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    _process: Process,
    _dir: Scratch,
}

/// Held for as long as it is to run.
enum Process {
    Cairn { _node: Node },
    Peer { _peer: Peer },
}

fn measure(medium: Medium, benchmark: &Path, redis: &Path, valkey: Option<&Path>) {
    let mut servers = vec![cairn(medium), peer("redis", redis, medium)];
    servers.extend(valkey.map(|program| peer("valkey", program, medium)));
    for server in &servers {
        load(server.address, KEYS, 0, benchmark_key).expect("the server takes the keys");
    }
    println!("\n{}\n", heading(medium));
    let mut table = Table::new(&[
        "",
        "server",
        "k ops/s",
        "server CPU s",
        "k ops/CPU s",
        "vs redis",
        "per CPU",
        "vs valkey",
        "per CPU",
    ]);
    for command in ["get", "set"] {
        for (pipeline, on_memory, on_file) in PIPELINES {
            let requests = if medium == Medium::Memory { on_memory } else { on_file };
            let run = Run { benchmark: benchmark.to_owned(), command, pipeline, requests };
            cell(&run, &servers, &mut table);
        }
    }
    table.print();
}

fn heading(medium: Medium) -> &'static str {
    match medium {
        Medium::Memory => "cairn on /dev/shm with its log; redis and valkey without persistence:",
        Medium::File => {
            "on a file, synced before the answer (valkey and redis: appendfsync always):"
        }
    }
}

/// As redis-benchmark names them with `-r`.
fn benchmark_key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn cairn(medium: Medium) -> Server {
    let dir = Scratch::new(medium);
    let options = NodeOptions::new(dir.path()).set("durability", "always").set("memory", "2gb");
    let node = options.start();
    let (address, pid) = (node.address(), node.pid());
    Server { name: "cairn", address, pid, _process: Process::Cairn { _node: node }, _dir: dir }
}

fn peer(name: &'static str, program: &Path, medium: Medium) -> Server {
    let dir = Scratch::new(medium);
    let args: &[&str] = match medium {
        Medium::Memory => &["--save", "", "--appendonly", "no"],
        Medium::File => &["--save", "", "--appendonly", "yes", "--appendfsync", "always"],
    };
    let peer = Peer::start(program, dir.path(), args);
    let (address, pid) = (peer.address(), peer.pid());
    Server { name, address, pid, _process: Process::Peer { _peer: peer }, _dir: dir }
}

/// One measurement to be repeated on each server.
struct Run {
    benchmark: PathBuf,
    command: &'static str,
    pipeline: u64,
    requests: u64,
}

/// What a run gave.
#[derive(Clone, Copy)]
struct Sample {
    per_second: f64,
    cpu_seconds: f64,
    per_cpu_second: f64,
}

impl Run {
    fn on(&self, server: &Server) -> Sample {
        let requests = self.requests * percent() / 100;
        let before = process::cpu_seconds(server.pid);
        let output = Command::new(&self.benchmark)
            .args(["-h", "127.0.0.1", "-p", &server.address.port().to_string()])
            .args(["-t", self.command, "-c", "50", "-d", "100", "--csv"])
            .args(["-r", &KEYS.to_string(), "-n", &requests.to_string()])
            .args(["-P", &self.pipeline.to_string()])
            .output()
            .expect("redis-benchmark can be run");
        let cpu_seconds = process::cpu_seconds(server.pid) - before;
        let per_second = throughput(&String::from_utf8_lossy(&output.stdout));
        Sample { per_second, cpu_seconds, per_cpu_second: requests as f64 / cpu_seconds }
    }
}

fn percent() -> u64 {
    let text = std::env::var("CAIRN_BENCH_REQUESTS");
    text.map_or(100, |text| text.parse().expect("CAIRN_BENCH_REQUESTS is a number"))
}

/// The second column of the line behind the heading.
fn throughput(csv: &str) -> f64 {
    let line = csv.lines().find(|line| line.starts_with("\"GET\"") || line.starts_with("\"SET\""));
    let number = line.and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok());
    number.unwrap_or_else(|| panic!("redis-benchmark printed: {csv}"))
}

fn cell(run: &Run, servers: &[Server], table: &mut Table) {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); servers.len()];
    for round in 0..rounds(3) as usize {
        for turn in 0..servers.len() {
            let at = (round + turn) % servers.len();
            samples[at].push(run.on(&servers[at]));
        }
    }
    let medians: Vec<Sample> = samples.iter().map(|samples| median_of(samples)).collect();
    for (server, sample) in servers.iter().zip(&medians) {
        let mut row = vec![
            format!("{} P{}", run.command.to_uppercase(), run.pipeline),
            server.name.to_owned(),
            format!("{:.0}", sample.per_second / 1e3),
            format!("{:.2}", sample.cpu_seconds),
            format!("{:.0}", sample.per_cpu_second / 1e3),
        ];
        row.extend(["redis", "valkey"].iter().flat_map(|peer| {
            let at = servers.iter().position(|other| other.name == *peer && server.name != *peer);
            ratios(sample, at.map(|at| &medians[at]))
        }));
        table.row(row);
    }
    eprintln!("{} P{} done", run.command, run.pipeline);
}

fn median_of(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> f64| median(samples.iter().map(field).collect());
    Sample {
        per_second: of(|sample| sample.per_second),
        cpu_seconds: of(|sample| sample.cpu_seconds),
        per_cpu_second: of(|sample| sample.per_cpu_second),
    }
}

fn ratios(sample: &Sample, peer: Option<&Sample>) -> [String; 2] {
    match peer {
        Some(peer) => [
            format!("{:.2}", sample.per_second / peer.per_second),
            format!("{:.2}", sample.per_cpu_second / peer.per_cpu_second),
        ],
        None => ["".into(), "".into()],
    }
}
