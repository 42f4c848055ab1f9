//! How many bytes does a key take? Beside redis-server:
//!
//! - `strings`: 20 B keys with 100 B values, after loading and again after every key was overwritten
//!   three times;
//! - `hashes`: keys with a hash of ten fields each;
//! - `zset`: the members of one sorted set.
//!
//! Each figure is what the keys added: that of the empty server is taken off. cairn's pool lies on
//! tmpfs, where its blocks are memory, mapped or not; its resident size is therefore counted as its
//! anonymous memory plus the pool file's blocks. The log's segments are the same few whatever the
//! number of keys, and are shown as a total.
//!
//! `cargo bench -p cairn-tests --bench memory`; `CAIRN_BENCH_KEYS=100000` for a quick look,
//! `CAIRN_BENCH_ONLY` for one of the names above.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cairn_tests::bench::{Collection, Table, is_wanted, key, key_counts, load, pour};
use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::peer::Peer;
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::scratch::{Medium, Scratch, disk_bytes};
use cairn_tests::tools;

/// How often every key is overwritten.
const OVERWRITES: u64 = 3;

const HEADING: &[&str] = &[
    "server",
    "keys",
    "when",
    "used_memory B/key",
    "pool file B/key",
    "resident B/key",
    "log MiB",
];

fn main() {
    let mut table = Table::new(HEADING);
    let redis_server = tools::find("redis-server", tools::REDIS_REMEDY);
    if is_wanted("strings") {
        for keys in key_counts() {
            cairn(keys, &mut table);
            if let Some(program) = &redis_server {
                redis(program, keys, &mut table);
            }
        }
        println!("\nBytes a key, 20 B keys and {} B values:\n", cairn_tests::bench::VALUE_BYTES);
        table.print();
    }
    for shape in [Shape::Hashes, Shape::SortedSet] {
        if is_wanted(shape.name()) {
            shape.measure(redis_server.as_deref());
        }
    }
}

/// Data made of collections.
#[derive(Clone, Copy)]
enum Shape {
    /// Ten fields each.
    Hashes,
    /// One of many members.
    SortedSet,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::Hashes => "hashes",
            Shape::SortedSet => "zset",
        }
    }

    /// Keys or members: the usual number, or the first of `CAIRN_BENCH_KEYS`.
    fn count(self) -> u64 {
        match (std::env::var_os("CAIRN_BENCH_KEYS"), self) {
            (Some(_), _) => key_counts()[0],
            (None, Shape::Hashes) => 1_000_000,
            (None, Shape::SortedSet) => 10_000_000,
        }
    }

    fn load(self, address: SocketAddr) -> std::io::Result<()> {
        let fields = |number: u64| {
            let key = String::from_utf8_lossy(&key(number)).into_owned();
            Collection::Hash.add(&key, number * 10..number * 10 + 10)
        };
        match self {
            Shape::Hashes => pour(address, (0..self.count()).map(fields)),
            Shape::SortedSet => Collection::SortedSet.fill(address, "zset", self.count()),
        }
    }

    fn measure(self, redis_server: Option<&Path>) {
        let count = self.count();
        let mut table = Table::new(HEADING);
        let scratch = Scratch::new(Medium::Memory);
        let memory = (count * 1000).max(1 << 30).to_string();
        let node = NodeOptions::new(scratch.path()).set("memory", &memory).start();
        let empty = of_node(&node);
        self.load(node.address()).expect("the node takes the collections");
        table.row(settled(&node).row(empty, "cairn", count, "loaded"));
        if let Some(program) = redis_server {
            let peer = Peer::start(program, Path::new("/"), &["--save", "", "--appendonly", "no"]);
            let empty = of_peer(&peer);
            self.load(peer.address()).expect("redis-server takes the collections");
            table.row(of_peer(&peer).row(empty, "redis-server", count, "loaded"));
        }
        println!("\nBytes of each of the {}:\n", self.name());
        table.print();
    }
}

/// What a server takes.
#[derive(Clone, Copy, Default)]
struct Taken {
    used: u64,
    pool: u64,
    resident: u64,
    log: u64,
}

impl Taken {
    fn row(self, empty: Taken, name: &str, keys: u64, when: &str) -> Vec<String> {
        let each = |now: u64, before: u64| {
            format!("{:.1}", now.saturating_sub(before) as f64 / keys as f64)
        };
        let pool = if self.pool == 0 { "-".into() } else { each(self.pool, empty.pool) };
        let log = if self.log == 0 { "-".into() } else { (self.log >> 20).to_string() };
        vec![
            name.to_owned(),
            keys.to_string(),
            when.to_owned(),
            each(self.used, empty.used),
            pool,
            each(self.resident, empty.resident),
            log,
        ]
    }
}

fn cairn(keys: u64, table: &mut Table) {
    let scratch = Scratch::new(Medium::Memory);
    // Room enough not to be what is measured.
    let memory = (keys * 160 * 4).max(1 << 30).to_string();
    let node = NodeOptions::new(scratch.path()).set("memory", &memory).start();
    let empty = of_node(&node);
    load(node.address(), keys, 0, key).expect("the node takes the keys");
    table.row(settled(&node).row(empty, "cairn", keys, "loaded"));
    for generation in 1..=OVERWRITES {
        load(node.address(), keys, generation, key).expect("the node takes the keys");
    }
    table.row(settled(&node).row(empty, "cairn", keys, "overwritten 3 times"));
}

/// After the last commits have freed what the overwrites left behind.
fn settled(node: &Node) -> Taken {
    std::thread::sleep(Duration::from_secs(3));
    of_node(node)
}

fn of_node(node: &Node) -> Taken {
    let files = std::fs::read_dir(node.dir()).into_iter().flatten().flatten();
    let pools = files.map(|entry| entry.path()).filter(|p| p.extension() == Some("pool".as_ref()));
    let pool = pools.map(|path| disk_bytes(&path)).sum();
    Taken {
        used: node.info("used_memory").parse().expect("INFO tells used_memory"),
        pool,
        resident: node.anonymous_bytes() + pool,
        log: disk_bytes(&node.dir().join("log")),
    }
}

fn redis(program: &Path, keys: u64, table: &mut Table) {
    let scratch = Scratch::new(Medium::Memory);
    let args = ["--save", "", "--appendonly", "no"];
    let peer = Peer::start(program, scratch.path(), &args);
    let empty = of_peer(&peer);
    load(peer.address(), keys, 0, key).expect("redis-server takes the keys");
    table.row(of_peer(&peer).row(empty, "redis-server", keys, "loaded"));
    for generation in 1..=OVERWRITES {
        load(peer.address(), keys, generation, key).expect("redis-server takes the keys");
    }
    table.row(of_peer(&peer).row(empty, "redis-server", keys, "overwritten 3 times"));
}

fn of_peer(peer: &Peer) -> Taken {
    Taken {
        used: used_memory(&mut peer.connect()),
        resident: process::status_bytes(peer.pid(), "VmRSS"),
        ..Taken::default()
    }
}

fn used_memory(conn: &mut Conn) -> u64 {
    let info = conn.call(&["INFO", "memory"]).expect("the server answers").text();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.trim().parse().ok()).expect("INFO tells used_memory")
}
