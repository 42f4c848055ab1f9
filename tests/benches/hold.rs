//! For how long does anyone wait? Builds a collection of each kind, reads it whole and deletes it,
//! and prints the longest holds of the node's locks meanwhile, and the longest that another client
//! waited for a GET and a SET of its own.
//!
//! `cargo bench -p cairn-tests --bench hold`; `CAIRN_BENCH_ELEMENTS` (10,000,000),
//! `CAIRN_BENCH_ONLY` (`hash`, `list`, `set` or `zset`).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_tests::bench::{Collection, Table, count_strings, is_wanted};
use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::resp::Conn;
use cairn_tests::scratch::{Medium, Scratch};

/// How long the freeing of a deleted collection may take.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let text = std::env::var("CAIRN_BENCH_ELEMENTS").unwrap_or_else(|_| "10000000".into());
    let elements: u64 = text.parse().expect("CAIRN_BENCH_ELEMENTS is a number");
    let scratch = Scratch::new(Medium::Memory);
    let memory = (elements * 400).max(1 << 30).to_string();
    let node = NodeOptions::new(scratch.path()).set("memory", &memory).start();
    let mut table = Table::new(&[
        "what",
        "took s",
        "read hold max us",
        "write hold p99 us",
        "write hold max us",
        "GET waited max us",
        "SET waited max us",
    ]);
    for collection in Collection::ALL {
        if is_wanted(collection.name()) {
            measure(&node, collection, elements, &mut table);
        }
    }
    println!("\nHolds while a collection of {elements} elements is built, read and deleted:\n");
    table.print();
}

fn measure(node: &Node, collection: Collection, elements: u64, table: &mut Table) {
    let (key, address) = (collection.name(), node.address());
    phase(node, &format!("{key} build"), table, || {
        collection.fill(address, key, elements).expect("the node takes the elements");
    });
    phase(node, &format!("{key} read"), table, || {
        let count = count_strings(address, &collection.read_all(key)).expect("the node answers");
        let each = if collection == Collection::Hash { 2 } else { 1 };
        assert_eq!(count, elements * each);
    });
    phase(node, &format!("{key} delete"), table, || {
        let reply = node.connect().call(&["DEL", key]).expect("the node answers");
        assert_eq!(reply.int(), Some(1));
        let start = Instant::now();
        while node.info("lazyfree_pending_objects") != "0" {
            assert!(start.elapsed() < PATIENCE, "it is never freed");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Runs `work` beside a client that asks for small things all the time.
fn phase(node: &Node, name: &str, table: &mut Table, work: impl FnOnce()) {
    let (address, over) = (node.address(), &AtomicBool::new(false));
    node.connect().call(&["CONFIG", "RESETSTAT"]).expect("the node answers");
    let start = Instant::now();
    let [get, set] = std::thread::scope(|scope| {
        let other = scope.spawn(|| longest_waits(address, over));
        work();
        over.store(true, Ordering::Relaxed);
        other.join().expect("the other client is answered")
    });
    let took = start.elapsed();
    let field = |name: &str| {
        let nanos: f64 = node.info(name).parse().expect("INFO tells it");
        format!("{:.0}", nanos / 1e3)
    };
    table.row(vec![
        name.to_owned(),
        format!("{:.1}", took.as_secs_f64()),
        field("read_lock_hold_nsec_max"),
        field("write_lock_hold_nsec_p99"),
        field("write_lock_hold_nsec_max"),
        get.as_micros().to_string(),
        set.as_micros().to_string(),
    ]);
    eprintln!("{name} done");
}

/// The longest that a GET and a SET took until `over`.
fn longest_waits(address: SocketAddr, over: &AtomicBool) -> [Duration; 2] {
    let mut conn = Conn::open(address).expect("the node listens");
    let mut longest = [Duration::ZERO; 2];
    while !over.load(Ordering::Relaxed) {
        for (longest, request) in
            longest.iter_mut().zip([&["GET", "small"][..], &["SET", "small", "x"]])
        {
            let start = Instant::now();
            conn.call(request).expect("the node answers");
            *longest = start.elapsed().max(*longest);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    longest
}
