//! What does a start with a cold page cache cost? Loads a node on a file, stops it, drops its files
//! from the page cache, starts it again, and prints how long GETs of random keys take, one at a
//! time, in the first parts of a second and after, and once all keys were read.
//!
//! `cargo bench -p cairn-tests --bench warm`; `CAIRN_BENCH_KEYS` (300000), `CAIRN_SEED`;
//! `CAIRN_FILE_DIR` is to be on a disk. Needs `dd` and `fincore`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_tests::bench::{Table, key, load, value};
use cairn_tests::node::NodeOptions;
use cairn_tests::resp::Conn;
use cairn_tests::rng::Rng;
use cairn_tests::scratch::{Medium, Scratch};

/// How long after the first GET each measurement ends, in ms.
const COLD_ENDS_MS: [u64; 6] = [100, 200, 500, 1000, 2000, 5000];
/// How long GETs are measured once all keys were read.
const WARM: Duration = Duration::from_secs(2);

fn main() {
    let keys = number("CAIRN_BENCH_KEYS", 300_000);
    let seed = number("CAIRN_SEED", u64::from(std::process::id()));
    let scratch = Scratch::new(Medium::File);
    let memory = (keys * 160 * 3).max(1 << 30).to_string();
    let node = NodeOptions::new(scratch.path()).set("memory", &memory).start();
    load(node.address(), keys, 0, key).expect("the node takes the keys");
    let (options, status) = node.stop();
    assert!(status.success(), "the node stops with {status}");
    let files = files(scratch.path());
    let before = cached_bytes(&files);
    files.iter().for_each(|file| drop_pages(file));
    let after = cached_bytes(&files);
    println!("{keys} keys, seed {seed}: {before} bytes in the page cache, {after} once dropped");
    assert!(after < before / 10, "the page cache keeps the files: another CAIRN_FILE_DIR may help");

    let node = options.start();
    println!("{}", node.ready_line());
    let (mut conn, mut rng) = (node.connect(), Rng::new(seed));
    let mut table = Table::new(&["until ms", "GETs", "p50 us", "p99 us", "max us"]);
    let start = Instant::now();
    let cold = COLD_ENDS_MS.map(|ms| {
        let end = start + Duration::from_millis(ms);
        measure(&mut conn, || rng.below(keys), end, &ms.to_string(), &mut table)
    });
    for number in 0..keys {
        get(&mut conn, number);
    }
    let end = Instant::now() + WARM;
    let warm = measure(&mut conn, || rng.below(keys), end, "warm", &mut table);
    println!("\nGETs of random keys after a start with a cold page cache:\n");
    table.print();
    let ratios = [cold[0].0 / warm.0, cold[0].1 / warm.1];
    let ms = COLD_ENDS_MS[0];
    println!("\nfirst {ms} ms to warm: p50 {:.1}x, p99 {:.1}x", ratios[0], ratios[1]);
}

fn number(name: &str, usual: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number above 0")))
}

/// GETs the keys that `next` names until `end`, one at least; adds a row, and returns the median
/// and the 99th percentile, in microseconds.
fn measure(
    conn: &mut Conn,
    mut next: impl FnMut() -> u64,
    end: Instant,
    name: &str,
    table: &mut Table,
) -> (f64, f64) {
    let mut times = Vec::new();
    while times.is_empty() || Instant::now() < end {
        times.push(get(conn, next()).as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times[times.len() * percent / 100];
    let max = times[times.len() - 1];
    let cells = [at(50), at(99), max].map(|us| format!("{us:.0}"));
    let row = [name.to_owned(), times.len().to_string()].into_iter().chain(cells);
    table.row(row.collect());
    (at(50), at(99))
}

/// How long a GET takes, whose answer must be right.
fn get(conn: &mut Conn, number: u64) -> Duration {
    let start = Instant::now();
    let reply = conn.call(&[b"GET".as_slice(), &key(number)]).expect("the node answers");
    let took = start.elapsed();
    assert_eq!(reply.bytes(), Some(&*value(number, 0)), "key {number}");
    took
}

/// All files in `dir` and below.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory of ours");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Takes a file that nobody maps out of the page cache.
fn drop_pages(file: &Path) {
    let target = format!("of={}", file.display());
    let args = ["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"];
    let status = Command::new("dd").arg(target).args(args).status().expect("dd can be run");
    assert!(status.success(), "dd of {} fails", file.display());
}

/// How much of the files lies in the page cache.
fn cached_bytes(files: &[PathBuf]) -> u64 {
    let args = ["--bytes", "--noheadings", "--output", "RES"];
    let out = Command::new("fincore").args(args).args(files).output().expect("fincore can be run");
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines().map(|line| line.trim().parse::<u64>().expect("fincore prints bytes")).sum()
}
