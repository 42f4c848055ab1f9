//! What `tests/rigs/callgrind/run` counts the instructions of: GET hit, GET miss and SET overwrite
//! over 100,000 keys of 20 bytes with values of 100, in an order that a fixed seed gives. A GET
//! counts from the bytes received to the bytes to be sent, a SET from the encoded operation.
//!
//! The rig finds each measured function by its name; their callers and the commits between them are
//! not counted.

use std::hint::black_box;
use std::sync::Arc;

use cairn_engine::{At, Engine};
use cairn_protocol::command::{CommandId, resolve};
use cairn_protocol::op::{OpRef, encode_op};
use cairn_protocol::resp::encode::push_request;
use cairn_protocol::resp::{Argv, Frames, Limits, Proto, RequestDecoder, Writer};
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Committer, Db, PoolOptions, Store};

const SEED: u64 = 1;
const KEYS: u64 = 100_000;
/// How often each operation is run.
const OPS: u64 = 100_000;
/// Writes between two commits.
const EPOCH_OPS: u64 = 20_000;
const CAPACITY_BYTES: u64 = 128 << 20;
const AT: At = At { now_ms: 1_700_000_000_000, seed: 0 };

struct Node {
    engine: Engine,
    committer: Committer,
    decoder: RequestDecoder,
    frames: Frames,
    reply: Vec<u8>,
}

impl Node {
    fn new() -> Node {
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY_BYTES))));
        let options =
            PoolOptions { capacity_bytes: CAPACITY_BYTES, new_hash_key: [1, 2], new_uuid: [1; 16] };
        let (store, committer, _) = Store::open(mem, &options).expect("an empty pool opens");
        Node {
            engine: Engine::new(store),
            committer,
            decoder: RequestDecoder::new(Limits::default()),
            frames: Frames::new(),
            reply: Vec::new(),
        }
    }

    fn get(&mut self, received: &[u8]) {
        self.reply.clear();
        self.frames.clear();
        self.decoder.decode(received, &mut self.frames, 1).expect("RESP");
        let argv = self.frames.argv(0, received);
        let spec = resolve(argv).expect("a known command");
        let mut w = Writer::new(&mut self.reply, Proto::Resp2);
        let read = self.engine.read_or_defer(spec, Db(0), argv, None, &AT, &mut w);
        black_box(read).expect("a sound store");
    }

    fn set(&mut self, op: &[u8]) {
        self.reply.clear();
        let op = OpRef::decode(op).expect("an operation of ours");
        let mut w = Writer::new(&mut self.reply, Proto::Resp2);
        black_box(self.engine.apply(&op, &AT, &mut w)).expect("room");
    }

    fn commit(&mut self) {
        if let Some(sealed) = self.engine.store_mut().seal() {
            let published = self.committer.commit(sealed).expect("a heap does not fail");
            self.engine.store_mut().release(published);
        }
    }
}

#[inline(never)]
fn get_hit(node: &mut Node, received: &[u8]) {
    node.get(received);
}

// `black_box` keeps the two alike functions two: they would be folded into one.
#[inline(never)]
fn get_miss(node: &mut Node, received: &[u8]) {
    node.get(black_box(received));
}

#[inline(never)]
fn set_overwrite(node: &mut Node, op: &[u8]) {
    node.set(op);
}

/// SplitMix64, below the number of keys.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % KEYS
}

fn set_op(n: u64, value: u8) -> Vec<u8> {
    let (name, value, mut op) = (format!("key:{n:016}"), [value; 100], Vec::new());
    encode_op(&mut op, CommandId::Set, 0, Argv::from(&[&b"SET"[..], name.as_bytes(), &value]));
    op
}

fn get_request(n: u64) -> Vec<u8> {
    let (name, mut request) = (format!("key:{n:016}"), Vec::new());
    push_request(&mut request, [&b"GET"[..], name.as_bytes()].into_iter());
    request
}

fn main() {
    let mut node = Node::new();
    for n in 0..KEYS {
        node.set(&set_op(n, b'v'));
        if n % EPOCH_OPS == 0 {
            node.commit();
        }
    }
    node.commit();
    let mut state = SEED;
    for _ in 0..OPS {
        get_hit(&mut node, &get_request(draw(&mut state)));
        assert_eq!(node.reply.len(), b"$100\r\n".len() + 102, "a hit");
    }
    for _ in 0..OPS {
        get_miss(&mut node, &get_request(KEYS + draw(&mut state)));
        assert_eq!(node.reply, b"$-1\r\n", "a miss");
    }
    for n in 0..OPS {
        set_overwrite(&mut node, &set_op(draw(&mut state), b'w'));
        assert_eq!(node.reply, b"+OK\r\n", "an overwrite");
        if n % EPOCH_OPS == 0 {
            node.commit();
        }
    }
    println!("{OPS}");
}
