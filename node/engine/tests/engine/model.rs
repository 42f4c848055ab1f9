//! Random histories against std's maps: replies and state, with the passing of time, reclaiming,
//! staged arguments, commits, crashes and recoveries among the operations.

use std::collections::BTreeMap;

use cairn_engine::{PassedOver, encode_reclaim, encode_stage};
use cairn_protocol::number::parse_i64;
use cairn_store::Db;

use crate::harness::{Replica, Rng, content, seeds};

const START_MS: u64 = 1_700_000_000_000;
/// Around the store's step from values in one block to values in chunks, and the encodings' steps.
const LENGTHS: [u64; 9] = [0, 1, 3, 20, 44, 45, 1000, 16_368, 40_000];

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Vec<u8>,
    encoding: &'static str,
    deadline_ms: Option<u64>,
}

/// What Redis would hold and say.
struct Model {
    dbs: Vec<BTreeMap<Vec<u8>, Entry>>,
    db: usize,
    now_ms: u64,
}

fn whole(value: &[u8], deadline_ms: Option<u64>) -> Entry {
    let encoding = match value {
        v if v.len() <= 20 && parse_i64(v).is_some() => "int",
        v if v.len() <= 44 => "embstr",
        _ => "raw",
    };
    Entry { value: value.to_vec(), encoding, deadline_ms }
}

fn int(n: impl TryInto<i64>) -> Vec<u8> {
    format!(":{}\r\n", n.try_into().unwrap_or(i64::MAX)).into_bytes()
}

fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => b"$-1\r\n".to_vec(),
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    }
}

const OK: &[u8] = b"+OK\r\n";

impl Model {
    fn expire(&mut self) {
        let now_ms = self.now_ms;
        for db in &mut self.dbs {
            db.retain(|_, entry| entry.deadline_ms.is_none_or(|deadline| deadline > now_ms));
        }
    }

    fn map(&mut self) -> &mut BTreeMap<Vec<u8>, Entry> {
        &mut self.dbs[self.db]
    }

    /// The reply to a command, whose effect is made.
    fn run(&mut self, argv: &[Vec<u8>]) -> Vec<u8> {
        self.expire();
        let name = String::from_utf8(argv[0].to_ascii_uppercase()).unwrap();
        let key = argv.get(1).cloned().unwrap_or_default();
        let reply = match name.as_str() {
            "GET" => bulk(self.map().get(&key).map(|e| &e.value[..])),
            "SET" => self.set(argv),
            "GETSET" => {
                let old = self.map().insert(key, whole(&argv[2], None));
                bulk(old.as_ref().map(|e| &e.value[..]))
            }
            "GETDEL" => bulk(self.map().remove(&key).as_ref().map(|e| &e.value[..])),
            "MSET" | "MSETNX" => self.mset(argv, name == "MSETNX"),
            "MGET" => {
                let mut reply = format!("*{}\r\n", argv.len() - 1).into_bytes();
                for key in &argv[1..] {
                    reply.extend(bulk(self.map().get(key).map(|e| &e.value[..])));
                }
                reply
            }
            "APPEND" => self.append(&key, &argv[2]),
            "SETRANGE" => self.setrange(&key, &argv[2], &argv[3]),
            "INCRBY" => self.incrby(&key, &argv[2]),
            "STRLEN" => int(self.map().get(&key).map_or(0, |e| e.value.len())),
            "DEL" => int(argv[1..].iter().filter(|key| self.map().remove(*key).is_some()).count()),
            "EXISTS" => int(argv[1..].iter().filter(|key| self.map().contains_key(*key)).count()),
            "PEXPIRE" => self.pexpire(&key, &argv[2]),
            "PERSIST" => {
                int(self.map().get_mut(&key).and_then(|e| e.deadline_ms.take()).map_or(0, |_| 1))
            }
            "PTTL" => {
                let now_ms = self.now_ms;
                match self.map().get(&key).map(|e| e.deadline_ms) {
                    None => int(-2),
                    Some(None) => int(-1),
                    Some(Some(deadline)) => int(deadline - now_ms),
                }
            }
            "RENAME" => self.rename(&key, &argv[2]),
            "COPY" => self.copy(&key, &argv[2], argv.len() > 3),
            "MOVE" => self.moved(&key, &argv[2]),
            "SWAPDB" => {
                let [a, b] = [&argv[1], &argv[2]].map(|n| parse_i64(n).unwrap() as usize);
                self.dbs.swap(a, b);
                OK.to_vec()
            }
            "FLUSHDB" => {
                self.map().clear();
                OK.to_vec()
            }
            "FLUSHALL" => {
                self.dbs.iter_mut().for_each(BTreeMap::clear);
                OK.to_vec()
            }
            "OBJECT" => bulk(self.map().get(&argv[2]).map(|e| e.encoding.as_bytes())),
            other => unreachable!("{other}"),
        };
        // A deadline may lie in the past from the start.
        self.expire();
        reply
    }

    fn set(&mut self, argv: &[Vec<u8>]) -> Vec<u8> {
        let (key, value) = (argv[1].clone(), &argv[2]);
        let has = |word: &str| argv[3..].iter().any(|arg| arg == word.as_bytes());
        let old = self.map().get(&key).cloned();
        let mut deadline_ms = None;
        if let Some(at) = argv.iter().position(|arg| arg == b"PX") {
            deadline_ms = Some(self.now_ms + parse_i64(&argv[at + 1]).unwrap() as u64);
        }
        if has("KEEPTTL") {
            deadline_ms = old.as_ref().and_then(|entry| entry.deadline_ms);
        }
        let refused = has("NX") && old.is_some() || has("XX") && old.is_none();
        if !refused {
            self.map().insert(key, whole(value, deadline_ms));
        }
        match (has("GET"), refused) {
            (true, _) => bulk(old.as_ref().map(|entry| &entry.value[..])),
            (false, true) => bulk(None),
            (false, false) => OK.to_vec(),
        }
    }

    fn mset(&mut self, argv: &[Vec<u8>], only_new: bool) -> Vec<u8> {
        if only_new && argv[1..].chunks(2).any(|pair| self.map().contains_key(&pair[0])) {
            return int(0);
        }
        for pair in argv[1..].chunks(2) {
            self.map().insert(pair[0].clone(), whole(&pair[1], None));
        }
        if only_new { int(1) } else { OK.to_vec() }
    }

    fn append(&mut self, key: &[u8], value: &[u8]) -> Vec<u8> {
        match self.map().get_mut(key) {
            None => {
                self.map().insert(key.to_vec(), whole(value, None));
                int(value.len())
            }
            Some(entry) => {
                entry.value.extend_from_slice(value);
                entry.encoding = "raw";
                int(entry.value.len())
            }
        }
    }

    fn setrange(&mut self, key: &[u8], offset: &[u8], value: &[u8]) -> Vec<u8> {
        let offset = parse_i64(offset).unwrap() as usize;
        if value.is_empty() {
            return int(self.map().get(key).map_or(0, |e| e.value.len()));
        }
        let entry = self.map().entry(key.to_vec()).or_insert_with(|| whole(b"", None));
        entry.encoding = "raw";
        let len = entry.value.len().max(offset + value.len());
        entry.value.resize(len, 0);
        entry.value[offset..offset + value.len()].copy_from_slice(value);
        int(len)
    }

    fn incrby(&mut self, key: &[u8], by: &[u8]) -> Vec<u8> {
        let old = self.map().get(key).cloned();
        let Some(number) = old.as_ref().map_or(Some(0), |e| parse_i64(&e.value)) else {
            return b"-ERR value is not an integer or out of range\r\n".to_vec();
        };
        let Some(sum) = number.checked_add(parse_i64(by).unwrap()) else {
            return b"-ERR increment or decrement would overflow\r\n".to_vec();
        };
        let deadline_ms = old.and_then(|e| e.deadline_ms);
        self.map().insert(key.to_vec(), whole(sum.to_string().as_bytes(), deadline_ms));
        int(sum)
    }

    fn pexpire(&mut self, key: &[u8], ms: &[u8]) -> Vec<u8> {
        let deadline = self.now_ms as i64 + parse_i64(ms).unwrap();
        match self.map().get_mut(key) {
            None => int(0),
            Some(entry) => {
                entry.deadline_ms = Some(deadline.max(0) as u64);
                int(1)
            }
        }
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let Some(entry) = self.map().remove(from) else {
            return b"-ERR no such key\r\n".to_vec();
        };
        self.map().insert(to.to_vec(), entry);
        OK.to_vec()
    }

    fn copy(&mut self, from: &[u8], to: &[u8], replace: bool) -> Vec<u8> {
        if from == to {
            return b"-ERR source and destination objects are the same\r\n".to_vec();
        }
        let entry = self.map().get(from).cloned();
        match entry {
            Some(entry) if replace || !self.map().contains_key(to) => {
                self.map().insert(to.to_vec(), entry);
                int(1)
            }
            _ => int(0),
        }
    }

    fn moved(&mut self, key: &[u8], db: &[u8]) -> Vec<u8> {
        let target = parse_i64(db).unwrap() as usize;
        if target == self.db {
            return b"-ERR source and destination objects are the same\r\n".to_vec();
        }
        if self.dbs[target].contains_key(key) {
            return int(0);
        }
        match self.map().remove(key) {
            None => int(0),
            Some(entry) => {
                self.dbs[target].insert(key.to_vec(), entry);
                int(1)
            }
        }
    }
}

fn key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => format!("{{tag}}{}", rng.below(30)).into_bytes(),
        1 => vec![b'k'; 300],
        n => format!("key:{n}").into_bytes(),
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(3) {
        return (rng.below(2000) as i64 - 1000).to_string().into_bytes();
    }
    let len = LENGTHS[rng.below(LENGTHS.len() as u64) as usize];
    let (len, first) = (len + rng.below(2), rng.next());
    (0..len).map(|n| (first.wrapping_add(n * n) >> 3) as u8).collect()
}

fn number(n: u64) -> Vec<u8> {
    n.to_string().into_bytes()
}

fn command(rng: &mut Rng) -> Vec<Vec<u8>> {
    let word = |text: &str| text.as_bytes().to_vec();
    match rng.below(30) {
        0..=3 => vec![word("GET"), key(rng)],
        4..=7 => {
            let mut argv = vec![word("SET"), key(rng), value(rng)];
            for option in ["NX", "GET", "PX", "KEEPTTL"] {
                match option {
                    _ if !rng.one_in(4) => {}
                    "NX" => argv.push(word(rng.pick(&["NX", "XX"]))),
                    "PX" => argv.extend([word("PX"), number(1 + rng.below(500))]),
                    "KEEPTTL" if argv.contains(&word("PX")) => {}
                    other => argv.push(word(other)),
                }
            }
            argv
        }
        8 => vec![word("GETSET"), key(rng), value(rng)],
        9 => vec![word("GETDEL"), key(rng)],
        10 | 11 => {
            let mut argv = vec![word(rng.pick(&["MSET", "MSETNX"]))];
            for _ in 0..1 + rng.below(4) {
                argv.extend([key(rng), value(rng)]);
            }
            argv
        }
        12 => vec![word("MGET"), key(rng), key(rng), key(rng)],
        13..=15 => vec![word("APPEND"), key(rng), value(rng)],
        16 | 17 => vec![word("SETRANGE"), key(rng), number(rng.below(60_000)), value(rng)],
        18 => vec![word("INCRBY"), key(rng), number(rng.below(100))],
        19 => vec![word("STRLEN"), key(rng)],
        20 => vec![word("DEL"), key(rng), key(rng)],
        21 => vec![word("EXISTS"), key(rng), key(rng)],
        22 => vec![word("PEXPIRE"), key(rng), (rng.below(400) as i64 - 20).to_string().into()],
        23 => vec![word(rng.pick(&["PERSIST", "PTTL"])), key(rng)],
        24 => vec![word("RENAME"), key(rng), key(rng)],
        25 => {
            let mut argv = vec![word("COPY"), key(rng), key(rng)];
            if rng.one_in(2) {
                argv.push(word("REPLACE"));
            }
            argv
        }
        26 => vec![word("MOVE"), key(rng), number(rng.below(3))],
        27 => vec![word("SWAPDB"), number(rng.below(3)), number(rng.below(3))],
        28 => vec![word("OBJECT"), word("ENCODING"), key(rng)],
        _ if rng.one_in(6) => vec![word(rng.pick(&["FLUSHDB", "FLUSHALL"]))],
        _ => vec![word("GET"), key(rng)],
    }
}

#[test]
fn histories_agree_with_maps() {
    for seed in seeds(150) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        history(seed);
    }
}

fn history(seed: u64) {
    let mut rng = Rng(seed);
    let mut replica = Replica::new(START_MS);
    let mut model = Model { dbs: vec![BTreeMap::new(); 16], db: 0, now_ms: START_MS };
    for _ in 0..rng.below(500) {
        match rng.below(40) {
            0 | 1 => model.now_ms += rng.below(300),
            2 => model.db = rng.below(3) as usize,
            3 => replica.commit(),
            4 => replica.crash_and_recover(),
            5 => reclaim(&mut replica, &mut model, &mut rng),
            6 => staged(&mut replica, &mut model, &mut rng),
            _ => {
                let argv = command(&mut rng);
                let (got, wanted) = (replica.run(&argv), model.run(&argv));
                assert_same(&argv, &got, &wanted);
            }
        }
        (replica.now_ms, replica.db) = (model.now_ms, Db(model.db as u16));
    }
    compare(&mut replica, &mut model);
    let before = content(replica.engine.store());
    replica.crash_and_recover();
    assert!(content(replica.engine.store()) == before, "replay leads to the same state");
    compare(&mut replica, &mut model);
}

fn reclaim(replica: &mut Replica, model: &mut Model, rng: &mut Rng) {
    let limit = rng.below(20);
    model.expire();
    let keys = |replica: &Replica| -> u64 {
        (0..Db::COUNT).map(|db| replica.engine.store().len(Db(db))).sum()
    };
    let expired = keys(replica) - model.dbs.iter().map(|db| db.len() as u64).sum::<u64>();
    if rng.one_in(2) {
        let mut passed_over = PassedOver::default();
        let chosen = replica.engine.expired(replica.now_ms, &mut passed_over, limit as usize);
        assert_eq!(chosen.unreadable, 0, "a sound pool");
        let mut deleted = 0;
        chosen.encode(|encode| {
            replica.propose(encode, 0);
            deleted += replica.effects.expired;
        });
        assert_eq!(u64::from(deleted), expired.min(limit));
        return;
    }
    let reply = replica.propose(|out| encode_reclaim(out, limit), 0);
    assert_eq!(reply, int(expired.min(limit)));
    assert_eq!(u64::from(replica.effects.expired), expired.min(limit));
}

/// A value that came in pieces ahead of its command, whether or not it is large.
fn staged(replica: &mut Replica, model: &mut Model, rng: &mut Rng) {
    let (id, bytes) = (rng.next(), value(rng));
    let mut offset = 0;
    loop {
        let piece = (1 + rng.below(20_000)).min((bytes.len() - offset) as u64) as usize;
        let part = &bytes[offset..offset + piece];
        replica.propose(|out| encode_stage(out, id, offset as u64, part), 0);
        offset += piece;
        if offset == bytes.len() {
            break;
        }
    }
    let argv = vec![rng.pick(&["SET", "APPEND", "GETSET", "MSET"]).into(), key(rng), bytes];
    if rng.one_in(3) {
        replica.commit();
        replica.crash_and_recover();
    }
    let (got, wanted) = (replica.run_staged(&argv, &[(2, id)]), model.run(&argv));
    assert_same(&argv, &got, &wanted);
    assert_eq!(replica.engine.store().len(Db::STAGE), 0);
}

fn assert_same(argv: &[Vec<u8>], got: &[u8], wanted: &[u8]) {
    if got == wanted {
        return;
    }
    let short = |bytes: &[u8]| bytes[..bytes.len().min(100)].escape_ascii().to_string();
    let argv: Vec<String> = argv.iter().map(|arg| short(arg)).collect();
    panic!("{argv:?}\n   got {}\nwanted {}", short(got), short(wanted));
}

/// Every key of every database, and no others.
fn compare(replica: &mut Replica, model: &mut Model) {
    let now_ms = model.now_ms;
    model.expire();
    for (number, db) in model.dbs.iter().enumerate() {
        let mut left = db.clone();
        for kept in content(replica.engine.store()) {
            let expired = kept.deadline_ms.is_some_and(|at| at <= now_ms);
            if usize::from(kept.db) != number || expired {
                continue;
            }
            let name = kept.key.escape_ascii();
            let wanted = left.remove(&kept.key).expect("a key the model does not have");
            assert!(wanted.value == kept.value, "{name}");
            assert_eq!(wanted.deadline_ms, kept.deadline_ms, "{name}");
            let encoding = format!("{:?}", kept.encoding).to_ascii_lowercase();
            assert_eq!(wanted.encoding, encoding, "{name}");
        }
        assert!(left.is_empty(), "lost: {:?}", left.keys());
    }
}
