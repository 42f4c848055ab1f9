//! How fast, and at what cost of processor time? All with redis-benchmark and 50 connections:
//!
//! - `memory` and `file`: GET and SET of 100 B values, pipelines of 1, 16 and 64, a million keys that
//!   are all there;
//! - `default`: redis-benchmark's own run, a command at a time, pipelines of 1 and 16;
//! - `collections`: reads and changes of collections of 100 and 100,000 elements.
//!
//! On memory: cairn on /dev/shm, acknowledged when its log has the write, against redis-server and
//! Valkey without any persistence. On files: everyone syncs before the answer. The servers take
//! turns within each round, in another order each time, so that whatever else the machine does hits
//! all alike; shown are medians of the rounds. The load generator shares the machine, so operations
//! per second of the server's own processor time say more than throughput.
//!
//! `cargo bench -p cairn-tests --bench speed`; `CAIRN_BENCH_ROUNDS` (3), `CAIRN_BENCH_REQUESTS`
//! (percent of the usual number, 100), `CAIRN_BENCH_ONLY` (one of the names above), `CAIRN_VALKEY`
//! (a valkey-server to use).

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use cairn_tests::bench::{Collection, Table, is_wanted, load, median, rounds, valkey};
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
    for (name, runs) in
        [("default", default_runs as fn() -> Vec<Run>), ("collections", collection_runs)]
    {
        if is_wanted(name) {
            let servers = servers(Medium::Memory, &redis, valkey.as_deref());
            for server in &servers {
                prepare(server.address).expect("the server takes the collections");
            }
            println!("\n{name}, {}\n", heading(Medium::Memory));
            let mut table = table();
            runs().iter().for_each(|run| cell(&benchmark, run, &servers, &mut table));
            table.print();
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

fn servers(medium: Medium, redis: &Path, valkey: Option<&Path>) -> Vec<Server> {
    let mut servers = vec![cairn(medium), peer("redis", redis, medium)];
    servers.extend(valkey.map(|program| peer("valkey", program, medium)));
    servers
}

/// Sizes of the collections that are there.
const SIZES: [u64; 2] = [100, 100_000];

/// Fills a collection of each kind and size.
fn prepare(address: SocketAddr) -> std::io::Result<()> {
    for collection in Collection::ALL {
        for size in SIZES {
            collection.fill(address, &format!("{}:{size}", collection.name()), size)?;
        }
    }
    Ok(())
}

/// What redis-benchmark runs when it is not told otherwise, but for streams. LRANGE is given as a
/// command, for the test of that name fills its list before, and would be charged for it.
fn default_runs() -> Vec<Run> {
    const TESTS: [&str; 15] = [
        "ping_inline",
        "ping_mbulk",
        "set",
        "get",
        "incr",
        "lpush",
        "rpush",
        "lpop",
        "rpop",
        "sadd",
        "hset",
        "spop",
        "zadd",
        "zpopmin",
        "mset",
    ];
    let named = |test: &&'static str, pipeline, requests| {
        let requests = if *test == "mset" { requests / 5 } else { requests };
        Run { what: vec!["-t".into(), (*test).into()], key_space: 100_000, pipeline, requests }
    };
    let mut runs = Vec::new();
    for (pipeline, requests) in [(1, 100_000), (16, 800_000)] {
        runs.extend(TESTS.iter().map(|test| named(test, pipeline, requests)));
        for count in [100, 300, 500, 600] {
            let what = format!("LRANGE list:100000 0 {}", count - 1);
            runs.push(Run::command(&what, 1, pipeline, requests / 10));
        }
    }
    runs
}

fn collection_runs() -> Vec<Run> {
    let mut runs = Vec::new();
    for size in SIZES {
        // So many requests that each run moves about as many elements.
        let whole = 5_000_000 / size;
        for pipeline in [1, 16] {
            for what in ["HGETALL hash", "SMEMBERS set"] {
                runs.push(Run::command(&format!("{what}:{size}"), size, pipeline, whole));
            }
            runs.push(Run::command(&format!("LRANGE list:{size} 0 99"), size, pipeline, 50_000));
            let window = format!("ZRANGEBYSCORE zset:{size} {} {}", size / 2, size / 2 + 99);
            runs.push(Run::command(&window, size, pipeline, 50_000));
            for what in [
                "ZADD zset:SIZE __rand_int__ element:__rand_int__",
                "HSET hash:SIZE element:__rand_int__ __rand_int__",
                "HGET hash:SIZE element:__rand_int__",
                "SADD set:SIZE element:__rand_int__",
                "ZSCORE zset:SIZE element:__rand_int__",
                "ZRANK zset:SIZE element:__rand_int__",
            ] {
                let what = what.replace("SIZE", &size.to_string());
                runs.push(Run::command(&what, size, pipeline, 100_000 * pipeline.min(4)));
            }
        }
    }
    runs
}

fn measure(medium: Medium, benchmark: &Path, redis: &Path, valkey: Option<&Path>) {
    let servers = servers(medium, redis, valkey);
    for server in &servers {
        load(server.address, KEYS, 0, benchmark_key).expect("the server takes the keys");
    }
    println!("\n{}\n", heading(medium));
    let mut table = table();
    for command in ["get", "set"] {
        for (pipeline, on_memory, on_file) in PIPELINES {
            let requests = if medium == Medium::Memory { on_memory } else { on_file };
            let what = vec!["-t".into(), command.into()];
            let run = Run { what, key_space: KEYS, pipeline, requests };
            cell(benchmark, &run, &servers, &mut table);
        }
    }
    table.print();
}

fn table() -> Table {
    Table::new(&[
        "",
        "server",
        "k ops/s",
        "CPU us/op",
        "k ops/CPU s",
        "vs redis",
        "per CPU",
        "vs valkey",
        "per CPU",
    ])
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
    /// Redis-benchmark's name of it after `-t`, or a command.
    what: Vec<String>,
    /// Random numbers are below this.
    key_space: u64,
    pipeline: u64,
    requests: u64,
}

/// What a run gave.
#[derive(Clone, Copy)]
struct Sample {
    per_second: f64,
    cpu_us: f64,
    per_cpu_second: f64,
}

impl Run {
    fn command(text: &str, key_space: u64, pipeline: u64, requests: u64) -> Run {
        let what = text.split(' ').map(str::to_owned).collect();
        Run { what, key_space, pipeline, requests: requests.max(50) }
    }

    fn name(&self) -> String {
        let words = self.what.iter().filter(|word| *word != "-t").map(String::as_str);
        let text = words.collect::<Vec<_>>().join(" ").replace("__rand_int__", "*");
        let text = if self.what[0] == "-t" { text.to_uppercase() } else { text };
        format!("{text} P{}", self.pipeline)
    }

    fn on(&self, benchmark: &Path, server: &Server) -> Sample {
        let requests = (self.requests * percent() / 100).max(self.pipeline);
        let before = process::cpu_seconds(server.pid);
        let output = Command::new(benchmark)
            .args(["-h", "127.0.0.1", "-p", &server.address.port().to_string()])
            .args(["-c", "50", "-d", "100", "--csv"])
            .args(["-r", &self.key_space.to_string(), "-n", &requests.to_string()])
            .args(["-P", &self.pipeline.to_string()])
            .args(&self.what)
            .output()
            .expect("redis-benchmark can be run");
        let cpu_seconds = process::cpu_seconds(server.pid) - before;
        let per_second = throughput(&String::from_utf8_lossy(&output.stdout));
        Sample {
            per_second,
            cpu_us: cpu_seconds * 1e6 / requests as f64,
            per_cpu_second: requests as f64 / cpu_seconds,
        }
    }
}

fn percent() -> u64 {
    let text = std::env::var("CAIRN_BENCH_REQUESTS");
    text.map_or(100, |text| text.parse().expect("CAIRN_BENCH_REQUESTS is a number"))
}

/// The second column of the last line; the names in the first hold no commas.
fn throughput(csv: &str) -> f64 {
    let number = csv
        .lines()
        .rfind(|line| line.starts_with('"'))
        .and_then(|line| line.split("\",\"").nth(1)?.trim_matches('"').parse().ok());
    number.unwrap_or_else(|| panic!("redis-benchmark printed: {csv}"))
}

fn cell(benchmark: &Path, run: &Run, servers: &[Server], table: &mut Table) {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); servers.len()];
    for round in 0..rounds(3) as usize {
        for turn in 0..servers.len() {
            let at = (round + turn) % servers.len();
            samples[at].push(run.on(benchmark, &servers[at]));
        }
    }
    let medians: Vec<Sample> = samples.iter().map(|samples| median_of(samples)).collect();
    for (server, sample) in servers.iter().zip(&medians) {
        let mut row = vec![
            run.name(),
            server.name.to_owned(),
            format!("{:.2}", sample.per_second / 1e3),
            format!("{:.2}", sample.cpu_us),
            format!("{:.2}", sample.per_cpu_second / 1e3),
        ];
        row.extend(["redis", "valkey"].iter().flat_map(|peer| {
            let at = servers.iter().position(|other| other.name == *peer && server.name != *peer);
            ratios(sample, at.map(|at| &medians[at]))
        }));
        table.row(row);
    }
    eprintln!("{} done", run.name());
}

fn median_of(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> f64| median(samples.iter().map(field).collect());
    Sample {
        per_second: of(|sample| sample.per_second),
        cpu_us: of(|sample| sample.cpu_us),
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
