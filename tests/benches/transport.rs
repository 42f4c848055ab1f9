//! What does a call from node to node cost? Two nodes in this process, on this machine's loopback:
//! calls of 100 bytes with 1, 64 and 256 in flight, bulk in chunks of 1 MiB, heartbeats beside that
//! bulk, and the same over plain TCP. CPU is that of both sides and the caller.
//!
//! `cargo bench -p cairn-tests --bench transport`; `CAIRN_BENCH_SECONDS` (3) for each measurement,
//! `CAIRN_BENCH_ONLY` (`QUIC`, `TCP`, `bulk`, `heartbeat`).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_node::ops::host;
use cairn_node::transport::quic::{Limits, Options, QuicTransport};
use cairn_node::transport::tls::Identity;
use cairn_node::transport::{BoxFuture, Call, Class, Incoming, SharedTransport, Transport};
use cairn_protocol::cluster::message::{
    Forward, ForwardKind, Forwarded, Heartbeat, HeartbeatReply, Refused, SnapshotChunk, SnapshotId,
    SnapshotProgress, Vote,
};
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::ids::{ClusterId, NodeId, ShardId};
use cairn_tests::bench::{self, Table, is_wanted};

const SMALL_BYTES: usize = 100;
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks on their way at once.
const CHUNKS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(10);
/// As often as nodes send them.
const BEAT: Duration = Duration::from_millis(10);

fn main() {
    let mut calls =
        Table::new(&["calls of 100 B", "in flight", "k/s", "p50 us", "p99 us", "CPU us"]);
    for in_flight in [1, 64, 256] {
        if is_wanted("QUIC") {
            measure(&mut calls, "QUIC", in_flight, quic_calls);
        }
        if is_wanted("TCP") {
            measure(&mut calls, "TCP", in_flight, tcp_calls);
        }
    }
    calls.print();
    if is_wanted("bulk") {
        let mut bulk = Table::new(&["chunks of 1 MiB", "MiB/s", "CPU s a GiB"]);
        measure_bulk(&mut bulk, "QUIC", quic_bulk);
        measure_bulk(&mut bulk, "TCP", tcp_bulk);
        bulk.print();
    }
    if is_wanted("heartbeat") {
        let mut beats = Table::new(&["heartbeats beside", "p50 us", "p99 us", "max us"]);
        measure_heartbeats(&mut beats);
        beats.print();
    }
}

fn seconds() -> Duration {
    bench::seconds(3.0)
}

fn cpu_us() -> f64 {
    let (user, system) = host::cpu_seconds();
    (user + system) * 1e6
}

/// A hundredth of the sorted `times` each, in microseconds.
fn percentile(times: &[Duration], percent: usize) -> String {
    let at = (times.len() * percent / 100).min(times.len() - 1);
    times[at].as_micros().to_string()
}

/// How long each call took, of `in_flight` at once, until the time given.
type Calls = fn(usize, Instant) -> Vec<Duration>;

fn measure(table: &mut Table, name: &str, in_flight: usize, calls: Calls) {
    calls(in_flight, Instant::now() + Duration::from_millis(500));
    let (start, cpu) = (Instant::now(), cpu_us());
    let mut times = calls(in_flight, start + seconds());
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_us() - cpu);
    times.sort_unstable();
    let count = times.len() as f64;
    table.row(vec![
        name.to_owned(),
        in_flight.to_string(),
        format!("{:.1}", count / took / 1e3),
        percentile(&times, 50),
        percentile(&times, 99),
        format!("{:.1}", cpu / count),
    ]);
}

fn measure_bulk(table: &mut Table, name: &str, bulk: fn(Instant) -> usize) {
    let (start, cpu) = (Instant::now(), cpu_us());
    let mib = bulk(start + seconds()) as f64 * CHUNK_BYTES as f64 / f64::from(1 << 20);
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_us() - cpu);
    table.row(vec![
        name.to_owned(),
        format!("{:.0}", mib / took),
        format!("{:.2}", cpu / 1e6 / (mib / 1024.0)),
    ]);
}

fn measure_heartbeats(table: &mut Table) {
    let (from, _to) = pair();
    let mut row = |beside: &str, mut times: Vec<Duration>| {
        times.sort_unstable();
        let max = percentile(&times, 100);
        table.row(vec![beside.to_owned(), percentile(&times, 50), percentile(&times, 99), max]);
    };
    row("nothing", heartbeats(&from));
    let over = Arc::new(AtomicBool::new(false));
    let bulk = {
        let (from, over) = (from.clone(), over.clone());
        std::thread::spawn(move || send_chunks(from, move || !over.load(Ordering::Relaxed)))
    };
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    let times = heartbeats(&from);
    over.store(true, Ordering::Relaxed);
    let chunks = bulk.join().expect("chunks are taken");
    let rate = chunks as f64 / (start.elapsed().as_secs_f64() + 0.3);
    row(&format!("bulk of {rate:.0} MiB/s"), times);
}

fn heartbeats(from: &SharedTransport) -> Vec<Duration> {
    let end = Instant::now() + seconds();
    let runtime = runtime();
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        let beat = Heartbeat { sequence: 1, now_ms: 0, groups: Vec::new() };
        let outcome = runtime.block_on(from.call(call(Class::Heartbeat, Request::Heartbeat(beat))));
        outcome.expect("an answer");
        times.push(start.elapsed());
        std::thread::sleep(BEAT);
    }
    times
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn node(id: u64) -> QuicTransport {
    let secret = "8f2d6c1e9b3a4f5071829304a5b6c7d8";
    let options = Options {
        identity: Identity::from_secrets(NodeId(id), secret).expect("an identity"),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: String::new(),
        cluster: ClusterId([7; 16]),
        boot_id: [0; 16],
        limits: Limits::default(),
    };
    QuicTransport::start(options).expect("a node")
}

/// Node 1, which knows node 2, and node 2, which answers.
fn pair() -> (SharedTransport, SharedTransport) {
    let (from, to) = (node(1), node(2));
    from.set_peer(NodeId(2), &to.local_address().to_string());
    to.serve(Arc::new(|incoming: Incoming| -> BoxFuture<Result<Reply, Refused>> {
        Box::pin(std::future::ready(Ok(reply(incoming.request))))
    }));
    (Arc::new(from), Arc::new(to))
}

fn reply(request: Request) -> Reply {
    match request {
        Request::Forward(Forward { count, payload, .. }) => {
            Reply::Forward(Forwarded::Done { count, flags: 0, payload })
        }
        Request::SnapshotChunk(SnapshotChunk { vote, chunk, .. }) => {
            let next_chunk = chunk + 1;
            Reply::SnapshotChunk(SnapshotProgress { vote, next_chunk, installed: false })
        }
        Request::Heartbeat(Heartbeat { sequence, now_ms, .. }) => {
            Reply::Heartbeat(HeartbeatReply { sequence, now_ms, groups: Vec::new() })
        }
        other => panic!("no such request here: {other:?}"),
    }
}

fn call(class: Class, request: Request) -> Call {
    Call { to: NodeId(2), class, shard: ShardId(0), request, deadline: DEADLINE }
}

fn small(payload: Bytes) -> Call {
    let request = Request::Forward(Forward {
        kind: ForwardKind::Write,
        session: 1,
        sequence: 1,
        resp: 2,
        flags: 0,
        count: 1,
        payload,
    });
    call(Class::Replication, request)
}

fn quic_calls(in_flight: usize, end: Instant) -> Vec<Duration> {
    let (from, _to) = pair();
    let runtime = runtime();
    let caller = |_| {
        let from = from.clone();
        runtime.spawn(async move {
            let payload = Bytes::from(vec![1; SMALL_BYTES]);
            let mut times = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                from.call(small(payload.clone())).await.expect("an answer");
                times.push(start.elapsed());
            }
            times
        })
    };
    let callers: Vec<_> = (0..in_flight).map(caller).collect();
    let all = callers.into_iter().map(|caller| runtime.block_on(caller).expect("a caller"));
    all.flatten().collect()
}

fn quic_bulk(end: Instant) -> usize {
    let (from, _to) = pair();
    send_chunks(from, move || Instant::now() < end)
}

/// Sends chunks while it is told to go on; returns how many were taken.
fn send_chunks(
    from: SharedTransport,
    goes_on: impl Fn() -> bool + Clone + Send + 'static,
) -> usize {
    let runtime = runtime();
    let sender = |_| {
        let (from, goes_on) = (from.clone(), goes_on.clone());
        runtime.spawn(async move {
            let payload = Bytes::from(vec![1; CHUNK_BYTES]);
            let mut count = 0;
            while goes_on() {
                let (id, vote, payload) = (SnapshotId::default(), Vote::default(), payload.clone());
                let chunk = SnapshotChunk { id, vote, chunk: 0, records: 1, payload };
                let request = Request::SnapshotChunk(chunk);
                from.call(call(Class::Snapshot, request)).await.expect("an answer");
                count += 1;
            }
            count
        })
    };
    let senders: Vec<_> = (0..CHUNKS).map(sender).collect();
    senders.into_iter().map(|sender| runtime.block_on(sender).expect("a sender")).sum()
}

/// A connection, and the address of whoever answers it with `answer`.
fn tcp(answer: fn(TcpStream)) -> TcpStream {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any).expect("a listener");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || answer(listener.accept().expect("a connection").0));
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Sends `in_flight` messages at once and waits for their echoes.
fn tcp_calls(in_flight: usize, end: Instant) -> Vec<Duration> {
    let mut stream = tcp(|mut stream| {
        stream.set_nodelay(true).expect("no delay");
        let mut buffer = vec![0; 64 << 10];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
    });
    let mut buffer = vec![1; SMALL_BYTES * in_flight];
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(&buffer).expect("sent");
        stream.read_exact(&mut buffer).expect("an echo");
        times.extend(std::iter::repeat_n(start.elapsed(), in_flight));
    }
    times
}

/// Sends chunks, each answered by a byte, [`CHUNKS`] of them ahead.
fn tcp_bulk(end: Instant) -> usize {
    let mut stream = tcp(|mut stream| {
        let mut chunk = vec![0; CHUNK_BYTES];
        while stream.read_exact(&mut chunk).is_ok() {
            if stream.write_all(&[1]).is_err() {
                break;
            }
        }
    });
    let chunk = vec![1; CHUNK_BYTES];
    for _ in 0..CHUNKS {
        stream.write_all(&chunk).expect("sent");
    }
    let mut count = 0;
    while Instant::now() < end {
        stream.read_exact(&mut [0]).expect("taken");
        stream.write_all(&chunk).expect("sent");
        count += 1;
    }
    count
}
