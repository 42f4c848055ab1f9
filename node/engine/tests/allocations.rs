//! A GET of a short value allocates nothing once its connection's buffers have their size: from the
//! bytes received, through decoder, hash and lookup, to the bytes to be sent, a request at a time
//! and in a pipeline whose keys are fetched together.
//!
//! A program of its own, because the allocator that counts is the whole program's.

use std::sync::Arc;

use allocation_counter::measure;
use cairn_engine::{At, Engine};
use cairn_protocol::command::{CommandId, resolve};
use cairn_protocol::op::{OpRef, encode_op};
use cairn_protocol::resp::encode::push_request;
use cairn_protocol::resp::{Argv, Frames, Limits, Proto, RequestDecoder, Writer};
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Db, Key, PoolOptions, Store};

const AT: At = At { now_ms: 1_700_000_000_000, seed: 0 };
const KEYS: usize = 1000;
/// Values of up to so many bytes, of every length: inside the leaf, beside it, numbers among them.
const VALUE_LEN_BYTES_MAX: usize = 1000;
/// Requests whose keys are fetched together, as the server's reads are.
const BATCH: usize = 16;

/// What a connection keeps from one request to the next.
struct Connection {
    decoder: RequestDecoder,
    frames: Frames,
    reply: Vec<u8>,
}

impl Connection {
    fn new() -> Connection {
        let decoder = RequestDecoder::new(Limits::default());
        Connection { decoder, frames: Frames::new(), reply: Vec::new() }
    }

    /// Answers every request of `received`, up to [`BATCH`] at a time, into `self.reply`.
    fn serve(&mut self, engine: &Engine, mut received: &[u8]) {
        self.reply.clear();
        while !received.is_empty() {
            self.frames.clear();
            let taken = self.decoder.decode(received, &mut self.frames, BATCH).expect("RESP");
            self.answer(engine, received);
            received = &received[taken..];
        }
    }

    fn answer(&mut self, engine: &Engine, buf: &[u8]) {
        let argv = |i| self.frames.argv(i, buf);
        let key = |i| (Db(0), engine.hash(argv(i).get(1).expect("GET has a key")));
        let count = self.frames.len();
        let keys: [(Db, Key<'_>); BATCH] = std::array::from_fn(|i| key(i.min(count - 1)));
        if count > 1 {
            engine.prefetch(&keys[..count]);
        }
        for (i, (db, key)) in keys.into_iter().enumerate().take(count) {
            let spec = resolve(argv(i)).expect("a known command");
            let mut w = Writer::new(&mut self.reply, Proto::Resp2);
            let read = engine.read_or_defer(spec, db, argv(i), Some(key), &AT, &mut w);
            assert!(!read.expect("a sound store").deferred, "a GET of a short value waits");
        }
    }
}

fn value(n: usize) -> Vec<u8> {
    if n.is_multiple_of(7) {
        n.to_string().into_bytes()
    } else {
        vec![b'v'; n % VALUE_LEN_BYTES_MAX]
    }
}

fn engine() -> Engine {
    let options = PoolOptions { capacity_bytes: 16 << 20, new_hash_key: [1, 2], new_uuid: [1; 16] };
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(options.capacity_bytes))));
    let (store, _, _) = Store::open(mem, &options).expect("an empty pool opens");
    let mut engine = Engine::new(store);
    for n in 0..KEYS {
        let (name, value, mut op) = (format!("key:{n}"), value(n), Vec::new());
        let argv = [&b"SET"[..], name.as_bytes(), &value];
        encode_op(&mut op, CommandId::Set, 0, Argv::from(&argv));
        let op = OpRef::decode(&op).expect("an operation of ours");
        engine.apply(&op, &AT, &mut Writer::suppressed()).expect("room");
    }
    engine
}

/// A GET of each key with that prefix, and what is to be answered.
fn requests(prefix: &str, answer: impl Fn(usize, &mut Writer<'_>)) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut wanted = Vec::new();
    let requests = (0..KEYS).map(|n| {
        answer(n, &mut Writer::new(&mut wanted, Proto::Resp2));
        let (name, mut request) = (format!("{prefix}:{n}"), Vec::new());
        push_request(&mut request, [&b"GET"[..], name.as_bytes()].into_iter());
        request
    });
    (requests.collect(), wanted)
}

/// Serves all requests twice: once for the buffers to grow, once counted.
fn assert_no_allocation(what: &str, engine: &Engine, received: &[Vec<u8>], wanted: &[u8]) {
    let mut connection = Connection::new();
    let mut answered = Vec::with_capacity(wanted.len());
    for turn in ["first", "steady"] {
        answered.clear();
        let counted = measure(|| {
            for bytes in received {
                connection.serve(engine, bytes);
                answered.extend_from_slice(&connection.reply);
            }
        });
        assert!(answered == wanted, "{what}: other answers than the values that were set");
        // The first turn's growing buffers show that the counter counts.
        assert_eq!(
            counted.count_total > 0,
            turn == "first",
            "{what}, {turn} turn: {} allocations, {} bytes, in {KEYS} GETs",
            counted.count_total,
            counted.bytes_total
        );
    }
}

#[test]
fn a_get_allocates_nothing() {
    let engine = engine();
    let hits = requests("key", |n, w| w.bulk(&value(n)));
    let misses = requests("none", |_, w| w.null());
    for (what, (requests, wanted)) in [("hits", hits), ("misses", misses)] {
        assert_no_allocation(what, &engine, &requests, &wanted);
        let pipeline = [requests.concat()];
        assert_no_allocation(&format!("{what}, pipelined"), &engine, &pipeline, &wanted);
    }
}
