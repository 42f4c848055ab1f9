//! What operations take of the pool is foreseen: each takes no more than was said of it, and those
//! that were said to find room do, in pools of any size, however full and fragmented.

use std::sync::Arc;

use cairn_engine::{
    At, Engine, encode_deny, encode_evict, encode_reclaim, encode_stage, spare_behind,
};
use cairn_protocol::command::{CommandId, resolve};
use cairn_protocol::ids::{LogIndex, Term};
use cairn_protocol::op::{OpRef, encode_op, encode_op_staged};
use cairn_protocol::resp::{Argv, Proto, Writer};
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Committer, Db, Demand, Evacuation, PoolOptions, Progress, Spare, Store};

use super::harness::{Rng, seeds};

const START_MS: u64 = 1_700_000_000_000;

/// A pool with an engine over it, and who commits it.
struct Node {
    engine: Engine,
    committer: Committer,
    pass: Evacuation,
    now_ms: u64,
    index: u64,
    /// What was dropped is taken apart between commits.
    reclaims: bool,
}

impl Node {
    fn new(capacity_bytes: u64) -> Node {
        let media = HeapMedia::new(capacity_bytes + (4 << 20));
        let options = PoolOptions { capacity_bytes, new_hash_key: [3, 5], new_uuid: [1; 16] };
        let (store, committer, _) = Store::open(Arc::new(Mem::new(Box::new(media))), &options)
            .expect("a pool that is created");
        let (pass, engine) = (Evacuation::default(), Engine::new(store));
        Node { engine, committer, pass, now_ms: START_MS, index: 0, reclaims: false }
    }

    /// Applies one operation as an entry of its own.
    fn apply(&mut self, op: &[u8], seed: u64) -> Result<Vec<u8>, String> {
        let op = OpRef::decode(op).expect("an operation");
        let at = At { now_ms: self.now_ms, seed };
        let mut reply = Vec::new();
        let mut w = Writer::new(&mut reply, Proto::Resp2);
        self.engine.apply(&op, &at, &mut w).map_err(|fatal| fatal.to_string())?;
        self.index += 1;
        self.engine.finish_entry(Term(1), LogIndex(self.index), self.now_ms);
        Ok(reply)
    }

    /// Bytes of blocks that live or are not free again yet.
    fn held_bytes(&self) -> u64 {
        let usage = self.engine.store().usage();
        usage.live_bytes + usage.dead_bytes
    }

    fn demand(&self, op: &[u8]) -> (Demand, Spare) {
        let op = OpRef::decode(op).expect("an operation");
        let store = self.engine.store();
        (self.engine.demand(&op).and(store.demand_of_snapshots()), spare_behind(op.command))
    }

    fn commit(&mut self) {
        if let Some(sealed) = self.engine.store_mut().seal() {
            let published = self.committer.commit(sealed).expect("a sound medium");
            self.engine.store_mut().release(published);
        }
        while self.engine.store_mut().recycle_dead(1000) {}
        while self.reclaims && self.engine.store_mut().reclaim(8).expect("a sound pool") {}
    }

    /// Gets back what has died, and what lies between the blocks.
    fn relieve(&mut self) {
        self.engine.store_mut().want_room(true);
        (0..2).for_each(|_| self.commit());
        for _ in 0..3 {
            let store = self.engine.store_mut();
            if !self.pass.is_running() && !store.should_evacuate(true) {
                break;
            }
            while store.evacuate(&mut self.pass, 1000, true).expect("a sound pool")
                == Progress::More
            {}
            self.commit();
            self.commit();
        }
        self.engine.store_mut().stop_evacuation(&mut self.pass);
        self.engine.store_mut().want_room(false);
        (0..2).for_each(|_| self.commit());
    }
}

/// Commands of all families on few keys, whose values have about `typical` bytes.
fn any_command(rng: &mut Rng, keys: u64, typical: u64) -> Vec<Vec<u8>> {
    let mut key = |ty: &str| format!("{ty}:{}", rng.below(keys)).into_bytes();
    let (string, other) = (key("string"), key("string"));
    let (hash, list, set) = (key("hash"), key("list"), key("set"));
    let (sets, lists, zset, zsets) = (key("set"), key("list"), key("zset"), key("zset"));
    let mut value = || vec![b'v'; 1 + rng.below(2 * typical) as usize];
    let (long, short) = (value(), value());
    let mut number = |n: u64| rng.below(n).to_string().into_bytes();
    let (n, m, far) = (number(100), number(100), number(200_000));
    let member = |rng: &mut Rng| format!("member:{}", rng.below(3000)).into_bytes();
    let w = |word: &str| word.as_bytes().to_vec();
    let several =
        |rng: &mut Rng, head: [Vec<u8>; 2], each: &mut dyn FnMut(&mut Rng) -> Vec<Vec<u8>>| {
            let most = if rng.one_in(20) { 300 } else { 5 };
            let count = 1 + rng.below(most);
            let mut words = Vec::from(head);
            (0..count).for_each(|_| words.extend(each(rng)));
            words
        };
    match rng.below(36) {
        0..=4 => vec![w("SET"), string, long],
        5 => vec![w("SET"), string, long, w("PX"), far],
        6 => vec![w("APPEND"), string, short],
        7 => vec![w("SETRANGE"), string, far, short],
        8 => several(rng, [w("MSET"), string], &mut |rng| {
            vec![
                vec![b'm'; 1 + rng.below(400) as usize],
                format!("string:{}", rng.below(500)).into(),
            ]
        })
        .into_iter()
        .chain([short])
        .collect(),
        9 => {
            let mut other = |ty: &str| format!("{ty}:{}", rng.below(keys)).into_bytes();
            let (from, to) = match other("kind").last() {
                Some(b'1') => (hash, other("hash")),
                Some(b'2') => (list, other("list")),
                Some(b'3') => (set, other("set")),
                Some(b'4') => (zset, other("zset")),
                _ => (string, other("string")),
            };
            vec![w("COPY"), from, to, w("REPLACE")]
        }
        10 => vec![w("RENAME"), string, other],
        11 => vec![w("PEXPIRE"), string, far],
        12 => vec![w("PERSIST"), string],
        13 => vec![w("GETDEL"), string],
        14..=16 => several(rng, [w("HSET"), hash], &mut |rng| {
            vec![member(rng), vec![b'h'; 1 + rng.below(2 * typical) as usize]]
        }),
        17 => several(rng, [w("HDEL"), hash], &mut |rng| vec![member(rng)]),
        18 | 19 => several(rng, [w("RPUSH"), list], &mut |rng| {
            vec![vec![b'l'; 1 + rng.below(2 * typical) as usize]]
        }),
        20 => vec![w("LSET"), list, n, short],
        21 => vec![w("LTRIM"), list, n, far],
        22 => vec![w("LINSERT"), list, w("BEFORE"), vec![b'l'; 2], short],
        23 => vec![w("LPOP"), list, n],
        24 => vec![w("LMOVE"), list, lists, w("LEFT"), w("RIGHT")],
        25 | 26 => several(rng, [w("SADD"), set], &mut |rng| vec![member(rng)]),
        27 => vec![w("SPOP"), set, n],
        28 => vec![w("SMOVE"), set, sets, member(rng)],
        29 => vec![w("SUNIONSTORE"), set, sets, w("set:1"), w("set:2")],
        30 => several(rng, [w("ZADD"), zset], &mut |rng| {
            vec![rng.below(1000).to_string().into_bytes(), member(rng)]
        }),
        31 => vec![w("ZREMRANGEBYRANK"), zset, n, m],
        32 => vec![w("ZUNIONSTORE"), zset, w("2"), zsets, w("zset:1")],
        33 => vec![w("SORT"), set, w("ALPHA"), w("STORE"), list],
        34 => several(rng, [w("DEL"), string], &mut |rng| {
            vec![format!("string:{}", rng.below(500)).into()]
        }),
        _ => vec![w("DEL"), hash, list, set, zset],
    }
}

fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let argv = Argv::from(&words[..]);
    let spec = resolve(argv).expect("a command");
    let mut op = Vec::new();
    encode_op(&mut op, spec.id, 0, argv);
    op
}

#[test]
fn no_operation_takes_more_than_was_said() {
    for seed in seeds(12) {
        println!("seed {seed}");
        let (mut rng, mut node) = (Rng(seed), Node::new(128 << 20));
        for step in 0..1200 {
            let typical = [10, 100, 1000, 8000][step / 300];
            let words = any_command(&mut rng, 1 + seed % 40, typical);
            let op = if rng.one_in(60) {
                let mut op = Vec::new();
                encode_reclaim(&mut op, 20);
                node.now_ms += 100_000;
                op
            } else if rng.one_in(60) {
                let mut op = Vec::new();
                encode_evict(&mut op, Db(0), false, [&b"string:1"[..], b"set:2", b"zset:1"]);
                op
            } else {
                encoded(&words)
            };
            let (demand, _) = node.demand(&op);
            // From here on whatever is changed is copied.
            drop(node.engine.store_mut().pin());
            let before = node.held_bytes();
            node.apply(&op, rng.next()).expect("there is room");
            let taken = match words[0].as_slice() {
                // It writes a string's last piece again and again, and gives the one before back.
                b"COPY" => node.held_bytes() - before,
                _ => node.engine.store().epoch_load().1,
            };
            // An entry copies the root and each database's upper table once.
            assert!(
                taken <= demand.bytes + (2 << 10),
                "step {step} of seed {seed}: {} words, {} took {taken} of {demand:?}",
                words.len(),
                words
                    .iter()
                    .take(3)
                    .map(|w| w[..w.len().min(20)].escape_ascii().to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            );
            if step % 20 == 0 {
                node.commit();
            }
        }
    }
}

#[test]
fn what_is_said_to_find_room_finds_it() {
    apply_what_fits(10, false);
}

/// And snapshots can always be dropped, and deletes be done once they are.
#[test]
fn what_is_said_to_find_room_finds_it_beside_what_snapshots_keep() {
    apply_what_fits(4, true);
}

/// A snapshot taken or dropped, or everything deleted, now and then.
fn any_of_snapshots(rng: &mut Rng, node: &Node) -> Vec<Vec<u8>> {
    let all = node.engine.store().snapshots().expect("a sound catalogue");
    let of = |word: &str, name: Vec<u8>| vec![b"CAIRN.SNAPSHOT".to_vec(), word.into(), name];
    match all.as_slice() {
        [.., oldest] if all.len() > 3 => of("DROP", oldest.name.clone()),
        [newest, ..] if rng.one_in(3) => of("DROP", newest.name.clone()),
        _ if rng.one_in(6) => vec![b"FLUSHALL".to_vec()],
        _ => of("CREATE", format!("s{}", rng.next()).into()),
    }
}

/// Applies whatever is said to find room, and nothing else, in pools without a limit of content.
fn apply_what_fits(many: u64, snapshots: bool) {
    for seed in seeds(many) {
        let mut rng = Rng(seed);
        let capacity_bytes =
            [16 << 20, 24 << 20, 32 << 20, 64 << 20][seed as usize % if snapshots { 3 } else { 4 }];
        println!("seed {seed}, {} MiB", capacity_bytes >> 20);
        let mut node = Node::new(capacity_bytes);
        let keys = (120 + 120 * u64::from(snapshots)) * (capacity_bytes >> 24);
        node.reclaims = snapshots;
        let (mut applied, mut denied) = (0, 0);
        for step in 0..12_000 {
            let typical = [4000, 100, 1000, 16_000, 300, 40][step / 1000 % 6];
            let mut op = encoded(&any_command(&mut rng, keys, typical));
            if snapshots && rng.one_in(100) {
                op = encoded(&any_of_snapshots(&mut rng, &node));
            }
            let (demand, spare) = node.demand(&op);
            let mut fits = node.engine.store().room_left().takes(&demand, spare);
            if !fits && (denied < 50 || rng.one_in(20)) {
                node.relieve();
                fits = node.engine.store().room_left().takes(&demand, spare);
            }
            if !fits {
                denied += 1;
                assert!(spare != Spare::None, "seed {seed}, step {step}: refused to free");
                // As an evicting leader would.
                let name = format!(
                    "{}:{}",
                    ["hash", "list", "set", "string"][rng.below(4) as usize],
                    rng.below(keys)
                );
                op.clear();
                encode_evict(&mut op, Db(0), false, [name.as_bytes()]);
                let (demand, spare) = node.demand(&op);
                if !node.engine.store().room_left().takes(&demand, spare) || rng.one_in(2) {
                    continue;
                }
            }
            let done = node.apply(&op, rng.next());
            if let Err(fatal) = done {
                panic!("seed {seed}, step {step}: {fatal}; {:?}", node.engine.store().usage());
            }
            applied += 1;
            if rng.one_in(15) {
                node.commit();
            }
        }
        println!("{applied} applied, {denied} denied, {:?}", node.engine.store().usage());
        let often = if snapshots { 5 } else { 50 };
        assert!(applied > 2000 && denied > often, "seed {seed}: {applied} and {denied}");
        for snapshot in node.engine.store().snapshots().expect("a sound catalogue") {
            let words = [b"CAIRN.SNAPSHOT".to_vec(), b"DROP".to_vec(), snapshot.name];
            node.apply(&encoded(&words), 0).expect("a snapshot is dropped");
        }
        node.reclaims = true;
        (0..4).for_each(|_| node.relieve());
        let usage = node.engine.store().usage();
        assert!(!node.engine.store().has_dropped() && usage.kept_bytes == 0, "{usage:?}");
    }
}

#[test]
fn what_is_denied_is_answered_and_not_done() {
    let mut node = Node::new(32 << 20);
    let mut deny = Vec::new();
    encode_deny(&mut deny, &[1, 3]);
    let sets: Vec<_> =
        (1..5).map(|n| encoded(&[&b"SET"[..], &[b'0' + n], b"v"].map(<[u8]>::to_vec))).collect();
    for entry in 1..3 {
        let ops = (entry == 1).then_some(&deny).into_iter().chain(&sets);
        let mut replies = Vec::new();
        for op in ops {
            let at = At { now_ms: START_MS, seed: 0 };
            let mut w = Writer::new(&mut replies, Proto::Resp2);
            node.engine
                .apply(&OpRef::decode(op).expect("an operation"), &at, &mut w)
                .expect("room");
        }
        node.engine.finish_entry(Term(1), LogIndex(entry), START_MS);
        let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
        let wanted = match entry {
            1 => format!("+OK\r\n{oom}+OK\r\n{oom}+OK\r\n"),
            // The next entry begins anew.
            _ => "+OK\r\n".repeat(4),
        };
        assert_eq!(String::from_utf8(replies).expect("text"), wanted);
        assert_eq!(node.engine.store().len(Db(0)), [2, 4][entry as usize - 1]);
    }
}

#[test]
fn a_pool_that_runs_out_of_room_stops_its_replica() {
    let mut node = Node::new(16 << 20);
    let set = |n: u32| encoded(&[b"SET".to_vec(), n.to_string().into(), vec![b'v'; 10_000]]);
    let stopped = (0..3000).find_map(|n| node.apply(&set(n), 0).err());
    let stopped = stopped.expect("it runs out");
    assert!(stopped.contains("the pool is full"), "{stopped}");
}

/// Names an argument of so many bytes that was sent ahead.
fn staged(node: &mut Node, len: usize, command: CommandId, words: &[&[u8]], at: usize) -> Vec<u8> {
    let (piece, id) = (vec![b's'; 1 << 20], 77u64);
    for offset in (0..len).step_by(piece.len()) {
        let mut op = Vec::new();
        encode_stage(&mut op, id, offset as u64, &piece[..piece.len().min(len - offset)]);
        node.apply(&op, 0).expect("there is room");
    }
    node.commit();
    node.commit();
    let mut op = Vec::new();
    encode_op_staged(&mut op, command, 0, Argv::from(words), &[(at, id)]);
    op
}

#[test]
fn a_staged_value_is_counted_where_it_is_copied_and_not_where_it_is_taken_over() {
    for (command, words, at, copies) in [
        (CommandId::Set, &[&b"SET"[..], b"k", b""][..], 2, false),
        (CommandId::GetSet, &[b"GETSET", b"k", b""], 2, false),
        (CommandId::MSet, &[b"MSET", b"other", b"v", b"k", b""], 4, false),
        (CommandId::SetEx, &[b"SETEX", b"k", b"100", b""], 3, false),
        (CommandId::Append, &[b"APPEND", b"k", b""], 2, true),
        (CommandId::RPush, &[b"RPUSH", b"l", b""], 2, true),
    ] {
        for len in [300, 10_000, 17_000, 20 << 20] {
            let mut node = Node::new(96 << 20);
            let op = staged(&mut node, len, command, words, at);
            let (demand, _) = node.demand(&op);
            let whole = len as u64;
            let is_counted = demand.bytes > whole;
            assert!(len < 1 << 20 || is_counted == copies, "{command:?} of {len}: {demand:?}");
            drop(node.engine.store_mut().pin());
            let reply = node.apply(&op, 0).expect("there is room");
            assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
            let taken = node.engine.store().epoch_load().1;
            assert!(taken <= demand.bytes + (2 << 10), "{command:?}: {taken} of {demand:?}");
        }
    }
}

#[test]
fn a_copy_asks_for_its_source_once() {
    let mut node = Node::new(96 << 20);
    let value = vec![b'v'; 10 << 20];
    for key in [&b"from"[..], b"to"] {
        node.apply(&encoded(&[b"SET".to_vec(), key.to_vec(), value.clone()]), 0).expect("room");
    }
    let copy = encoded(&[&b"COPY"[..], b"from", b"to", b"REPLACE"].map(<[u8]>::to_vec));
    let (demand, _) = node.demand(&copy);
    assert!(demand.bytes < 13 << 20, "{demand:?}");
}

/// Fills a node of 64 MiB with short keys, every `expiring`th with a deadline, until no more are
/// admitted; returns how many there are.
fn fill_with_short_keys(node: &mut Node, expiring: u64) -> u64 {
    node.engine.store_mut().set_limit_bytes(64 << 20);
    for n in 0.. {
        let name = format!("k{n:06}").into_bytes();
        let mut words = vec![b"SET".to_vec(), name, b"v".to_vec()];
        if n % expiring == 0 {
            words.extend([b"PX".to_vec(), (1_000_000 + n * 7 % 100_003).to_string().into()]);
        }
        if node.apply(&encoded(&words), 0).expect("there is room").starts_with(b"-OOM") {
            return n;
        }
        let some = Demand::of_any_size(1 << 20);
        if n % 1000 == 0 && !node.engine.store().room_left().takes(&some, Spare::Deletes) {
            node.relieve();
            if !node.engine.store().room_left().takes(&some, Spare::Deletes) {
                return n;
            }
        }
    }
    0
}

#[test]
fn a_full_node_takes_a_delete_of_many_keys() {
    for (expiring, count) in [(u64::MAX, 10_000), (1, 3000)] {
        let mut node = Node::new(64 << 20);
        let keys = fill_with_short_keys(&mut node, expiring);
        assert!(keys > 200_000, "{keys}");
        node.relieve();
        // More than find room at once a node deletes in parts.
        for (command, from) in [("DEL", 0), ("UNLINK", count)] {
            let mut words = vec![command.as_bytes().to_vec()];
            words.extend((from..from + count).map(|n| format!("k{:06}", n * 7919 % keys).into()));
            let op = encoded(&words);
            let (demand, spare) = node.demand(&op);
            let room = node.engine.store().room_left();
            println!("{command} of {count} of {keys} keys: {demand:?}, {room:?}");
            assert!(room.takes(&demand, spare), "{command} finds no room");
            drop(node.engine.store_mut().pin());
            let reply = node.apply(&op, 0).expect("there is room");
            assert!(reply.starts_with(b":"), "{}", reply.escape_ascii());
            let taken = node.engine.store().epoch_load().1;
            println!("{taken} bytes taken");
            assert!(taken <= demand.bytes, "{taken} of {demand:?}");
            node.relieve();
        }
    }
}
