//! The load: so many connections, each with so many requests on their way at once, for a time. The
//! same generator drives everybody, on one thread, so that what it costs is the same for all.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::bench::{VALUE_BYTES, value};
use crate::process;
use crate::resp::push_request;
use crate::rng::Rng;

/// Load that is not measured, before what is.
const WARM_UP: Duration = Duration::from_millis(300);
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// What each connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets random keys.
    Set,
    /// Gets random keys, which are all there.
    Get,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What each connection does.
    pub command: Command,
    /// So many at once.
    pub connections: u64,
    /// Requests that a connection sends before it waits for all their replies.
    pub pipeline: u64,
    /// Keys `0..keys` are drawn from.
    pub keys: u64,
    /// For so long, after the warm-up.
    pub seconds: f64,
    /// Of the keys that are drawn.
    pub seed: u64,
}

/// What a run gave.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Operations.
    pub per_second: f64,
    /// Of a batch of as many requests as the pipeline is long.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// Processor time of all the servers' processes, for one operation.
    pub cpu_us: f64,
}

/// Sends a batch and waits for its replies.
pub trait Client {
    /// Sends one batch of requests for random keys, and checks every reply.
    fn batch<'a>(&'a mut self, rng: &'a mut Rng) -> BatchFuture<'a>;
}

/// What [`Client::batch`] does.
pub type BatchFuture<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;
/// Opens a connection.
pub type Open = fn(SocketAddr, Shape) -> OpenFuture;
/// What [`Open`] does.
pub type OpenFuture = Pin<Box<dyn Future<Output = io::Result<Box<dyn Client>>>>>;

/// What all connections write into: how long each batch took that was answered while it counts.
#[derive(Default)]
struct Count {
    counts: bool,
    over: bool,
    batches: Vec<Duration>,
}

/// Loads the server at `address`; `pids` are all processes whose time it takes.
///
/// # Panics
/// When a connection breaks or a reply is wrong: what follows would measure something else.
pub fn run(address: SocketAddr, pids: &[u32], open: Open, shape: Shape) -> Sample {
    run_until(address, pids, open, shape, &AtomicBool::new(false))
}

/// The same, ended before its time when `enough` is set.
///
/// # Panics
/// As [`run`].
pub fn run_until(
    address: SocketAddr,
    pids: &[u32],
    open: Open,
    shape: Shape,
    enough: &AtomicBool,
) -> Sample {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let count = Rc::<RefCell<Count>>::default();
        let mut clients = Vec::new();
        for _ in 0..shape.connections {
            clients.push(open(address, shape).await.expect("the server accepts connections"));
        }
        let tasks: Vec<_> = clients
            .into_iter()
            .zip(0..)
            .map(|(client, number)| {
                let rng = Rng::new(shape.seed.wrapping_add(number << 32));
                tokio::task::spawn_local(keep_busy(client, rng, Rc::clone(&count)))
            })
            .collect();
        tokio::time::sleep(WARM_UP).await;
        let cpu = || pids.iter().map(|pid| process::cpu_seconds(*pid)).sum::<f64>();
        let (start, cpu_before) = (Instant::now(), cpu());
        count.borrow_mut().counts = true;
        while start.elapsed().as_secs_f64() < shape.seconds && !enough.load(Ordering::Relaxed) {
            let left = shape.seconds - start.elapsed().as_secs_f64();
            tokio::time::sleep(LOOK.min(Duration::from_secs_f64(left.max(0.0)))).await;
        }
        let (took, cpu) = (start.elapsed(), cpu() - cpu_before);
        count.borrow_mut().over = true;
        for task in tasks {
            task.await.expect("no connection panics");
        }
        let batches = std::mem::take(&mut count.borrow_mut().batches);
        sample(batches, took, cpu, shape.pipeline)
    })
}

async fn keep_busy(mut client: Box<dyn Client>, mut rng: Rng, count: Rc<RefCell<Count>>) {
    loop {
        let start = Instant::now();
        client.batch(&mut rng).await.expect("every request is answered, and rightly");
        let mut count = count.borrow_mut();
        if count.over {
            return;
        }
        if count.counts {
            count.batches.push(start.elapsed());
        }
    }
}

fn sample(mut batches: Vec<Duration>, took: Duration, cpu: f64, pipeline: u64) -> Sample {
    assert!(!batches.is_empty(), "not a single batch was answered");
    batches.sort_unstable();
    let operations = batches.len() as f64 * pipeline as f64;
    let percentile = |percent: usize| batches[(batches.len() - 1) * percent / 100];
    Sample {
        per_second: operations / took.as_secs_f64(),
        p50_us: percentile(50).as_secs_f64() * 1e6,
        p99_us: percentile(99).as_secs_f64() * 1e6,
        cpu_us: cpu * 1e6 / operations,
    }
}

/// As redis-benchmark names its keys.
pub fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

/// A client of whoever speaks RESP.
struct Resp {
    stream: TcpStream,
    shape: Shape,
    /// Ends each batch with `WAIT 1 0`.
    waits: bool,
    out: Vec<u8>,
    input: Vec<u8>,
    value: Vec<u8>,
}

/// To Cairn, and to a Redis that acknowledges by itself.
pub fn resp(address: SocketAddr, shape: Shape) -> OpenFuture {
    Box::pin(Resp::open(address, shape, &[], false))
}

/// To a follower that is to answer reads by itself, as old as it may be.
pub fn stale_resp(address: SocketAddr, shape: Shape) -> OpenFuture {
    Box::pin(Resp::open(address, shape, b"READONLY", false))
}

/// To a Redis, waiting behind each batch until one replica has it.
pub fn waiting_resp(address: SocketAddr, shape: Shape) -> OpenFuture {
    Box::pin(Resp::open(address, shape, &[], true))
}

const OK: &[u8] = b"+OK\r\n";
/// How the reply to a GET of a value of `VALUE_BYTES` begins.
const VALUE_HEAD: &[u8] = b"$100\r\n";
const _: () = assert!(VALUE_BYTES == 100);

impl Resp {
    async fn open(
        address: SocketAddr,
        shape: Shape,
        first: &'static [u8],
        waits: bool,
    ) -> io::Result<Box<dyn Client>> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if !first.is_empty() {
            let mut request = Vec::new();
            push_request(&mut request, &[first]);
            stream.write_all(&request).await?;
            let mut reply = [0; OK.len()];
            stream.read_exact(&mut reply).await?;
            assert_eq!(reply, OK, "{} is refused", first.escape_ascii());
        }
        let (out, input, value) = (Vec::new(), Vec::new(), value(1, 1));
        Ok(Box::new(Resp { stream, shape, waits, out, input, value }))
    }

    async fn exchange(&mut self, rng: &mut Rng) -> io::Result<()> {
        self.out.clear();
        for _ in 0..self.shape.pipeline {
            let key = key(rng.below(self.shape.keys));
            match self.shape.command {
                Command::Set => {
                    push_request(&mut self.out, &[b"SET".as_slice(), &key, &self.value]);
                }
                Command::Get => push_request(&mut self.out, &[b"GET".as_slice(), &key]),
            }
        }
        if self.waits {
            push_request(&mut self.out, &[b"WAIT".as_slice(), b"1", b"0"]);
        }
        self.stream.write_all(&self.out).await?;
        let (head, len) = match self.shape.command {
            Command::Set => (OK, OK.len()),
            Command::Get => (VALUE_HEAD, VALUE_HEAD.len() + VALUE_BYTES + 2),
        };
        let replies = len * self.shape.pipeline as usize;
        self.input.resize(replies + if self.waits { b":1\r\n".len() } else { 0 }, 0);
        self.read_all().await?;
        let (replies, waited) = self.input.split_at(replies);
        let wrong = replies.chunks(len).find(|reply| !reply.starts_with(head));
        let wrong = wrong.or_else(|| waited.starts_with(b":0").then_some(waited));
        wrong.map_or(Ok(()), |reply| Err(io::Error::other(reply.escape_ascii().to_string())))
    }

    /// Fills the input. An error in the place of the first reply may be shorter than what is waited
    /// for.
    async fn read_all(&mut self) -> io::Result<()> {
        let mut filled = 0;
        while filled < self.input.len() {
            match self.stream.read(&mut self.input[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => filled += more,
            }
            if self.input[0] == b'-' {
                return Err(io::Error::other(self.input[..filled].escape_ascii().to_string()));
            }
        }
        Ok(())
    }
}

impl Client for Resp {
    fn batch<'a>(&'a mut self, rng: &'a mut Rng) -> BatchFuture<'a> {
        Box::pin(self.exchange(rng))
    }
}
