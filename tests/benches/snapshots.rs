//! How long do a snapshot and a rollback take, and does anyone notice? Times of CREATE, ROLLBACK
//! and DROP at rest and under writes, by the size of the data, and the longest that another client
//! waited for a GET of its own meanwhile.
//!
//! `cargo bench -p cairn-tests --bench snapshots`; `CAIRN_BENCH_KEYS` (1000000,10000000),
//! `CAIRN_BENCH_ROUNDS` (15).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_tests::bench::{Table, VALUE_BYTES, key, key_counts, load, median, rounds, value};
use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::resp::Conn;
use cairn_tests::scratch::{Medium, Scratch};

/// How long the sorting of what rollbacks and drops leave may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Keys overwritten between a snapshot and its rollback when nobody else writes.
const CHANGED: u64 = 1000;

fn main() {
    let mut table = Table::new(&[
        "keys",
        "load",
        "CREATE us (max)",
        "ROLLBACK us (max)",
        "DROP us (max)",
        "GET waited max us",
        "kept MiB",
        "sorted after s",
    ]);
    for medium in Medium::ALL {
        for count in key_counts() {
            measure(medium, count, &mut table);
        }
    }
    println!("\nSnapshots, values of {VALUE_BYTES} bytes:\n");
    table.print();
}

fn measure(medium: Medium, count: u64, table: &mut Table) {
    let scratch = Scratch::new(medium);
    let memory = (count * 600).max(1 << 30).to_string();
    let node = NodeOptions::new(scratch.path()).set("memory", &memory).start();
    load(node.address(), count, 0, key).expect("the node takes the keys");
    eprintln!("{medium:?}: {count} keys loaded");
    for writing in [false, true] {
        table.row(cycles(&node, medium, count, writing));
    }
}

/// Takes, rolls back and drops again and again; with `writing`, beside one who writes all the time.
fn cycles(node: &Node, medium: Medium, count: u64, writing: bool) -> Vec<String> {
    let (address, over) = (node.address(), &AtomicBool::new(false));
    let mut times = [const { Vec::new() }; 3];
    let mut kept_bytes = 0u64;
    let waited = std::thread::scope(|scope| {
        let reader = scope.spawn(|| longest_get(address, count, over));
        if writing {
            scope.spawn(|| write_until(address, count, over));
        }
        let mut conn = node.connect();
        for generation in 0..rounds(15) {
            times[0].push(timed(&mut conn, &["CREATE", "bench"]));
            match writing {
                true => std::thread::sleep(Duration::from_millis(100)),
                false => load(address, CHANGED, generation + 1, key).expect("the node writes"),
            }
            let kept = node.info("snapshots_kept_bytes").parse().unwrap_or(0);
            kept_bytes = kept_bytes.max(kept);
            times[1].push(timed(&mut conn, &["ROLLBACK", "bench"]));
            times[2].push(timed(&mut conn, &["DROP", "bench"]));
        }
        over.store(true, Ordering::Relaxed);
        reader.join().expect("the reader is answered")
    });
    let sorted = until_sorted(node);
    let shown = |times: Vec<f64>| {
        let longest = times.iter().copied().fold(0.0, f64::max);
        format!("{:.0} ({longest:.0})", median(times))
    };
    let [create, roll_back, drop] = times.map(shown);
    let load = if writing { "writes" } else { "rest" };
    vec![
        format!("{medium:?} {count}"),
        load.to_owned(),
        create,
        roll_back,
        drop,
        waited.as_micros().to_string(),
        (kept_bytes >> 20).to_string(),
        format!("{:.1}", sorted.as_secs_f64()),
    ]
}

/// Microseconds of one CAIRN.SNAPSHOT, round trip included.
fn timed(conn: &mut Conn, words: &[&str]) -> f64 {
    let request: Vec<&str> =
        std::iter::once("CAIRN.SNAPSHOT").chain(words.iter().copied()).collect();
    let start = Instant::now();
    let reply = conn.call(&request).expect("the node answers");
    let took = start.elapsed();
    assert_eq!(reply.text(), "OK", "{request:?}");
    took.as_secs_f64() * 1e6
}

fn longest_get(address: SocketAddr, count: u64, over: &AtomicBool) -> Duration {
    let mut conn = Conn::open(address).expect("the node listens");
    let mut longest = Duration::ZERO;
    for number in (0..count).cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        let reply = conn.call(&[b"GET".as_slice(), &key(number)]).expect("the node answers");
        longest = start.elapsed().max(longest);
        assert_eq!(reply.bytes().map(<[u8]>::len), Some(VALUE_BYTES));
    }
    longest
}

/// Overwrites keys in pipelines of 16, all over the data.
fn write_until(address: SocketAddr, count: u64, over: &AtomicBool) {
    let mut conn = Conn::open(address).expect("the node listens");
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        for _ in 0..16 {
            number = (number + 7919) % count;
            conn.queue(&[b"SET".as_slice(), &key(number), &value(number, 99)]);
        }
        conn.flush().expect("the node takes writes");
        (0..16).for_each(|_| drop(conn.receive().expect("a reply")));
    }
}

/// How long it takes until nothing is kept any more.
fn until_sorted(node: &Node) -> Duration {
    let start = Instant::now();
    while node.info("snapshots_kept_bytes") != "0" || node.info("lazyfree_pending_objects") != "0" {
        assert!(start.elapsed() < PATIENCE, "what snapshots left is never sorted");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}
