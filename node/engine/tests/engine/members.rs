//! Random histories of hashes and sets against std's, small and large ones, with the passing of
//! time, commits, crashes and recoveries among the operations.

use std::collections::{BTreeMap, BTreeSet};

use cairn_engine::state_hash;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Limits, Value, ValueDecoder};

use crate::harness::{Replica, Rng, content, seeds};

const START_MS: u64 = 1_700_000_000_000;

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    kind: Kind,
    encoding: &'static str,
    deadline_ms: Option<u64>,
}

impl Entry {
    fn hash() -> Entry {
        Entry { kind: Kind::Hash(BTreeMap::new()), encoding: "listpack", deadline_ms: None }
    }

    fn set(encoding: &'static str) -> Entry {
        Entry { kind: Kind::Set(BTreeSet::new()), encoding, deadline_ms: None }
    }

    fn len(&self) -> usize {
        match &self.kind {
            Kind::Hash(fields) => fields.len(),
            Kind::Set(members) => members.len(),
        }
    }

    fn put(&mut self, field: &[u8], value: &[u8]) -> bool {
        let Kind::Hash(fields) = &mut self.kind else { unreachable!() };
        let new = fields.insert(field.to_vec(), value.to_vec()).is_none();
        if fields.len() > 512 || field.len() > 64 || value.len() > 64 {
            self.encoding = "hashtable";
        }
        new
    }

    fn add(&mut self, member: &[u8]) -> bool {
        let Kind::Set(members) = &mut self.kind else { unreachable!() };
        let new = members.insert(member.to_vec());
        let len = members.len();
        self.encoding = match self.encoding {
            encoding if !new => encoding,
            "intset" if parse_i64(member).is_some() && len <= 512 => "intset",
            "intset" if parse_i64(member).is_some() => "hashtable",
            "intset" | "listpack" if len <= 128 && member.len() <= 64 => "listpack",
            _ => "hashtable",
        };
        new
    }

    fn remove(&mut self, name: &[u8]) -> bool {
        match &mut self.kind {
            Kind::Hash(fields) => fields.remove(name).is_some(),
            Kind::Set(members) => members.remove(name),
        }
    }
}

/// What Redis would hold.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Entry>,
    now_ms: u64,
}

impl Model {
    fn expire(&mut self) {
        let now_ms = self.now_ms;
        self.keys.retain(|_, entry| entry.deadline_ms.is_none_or(|at| at > now_ms));
    }

    /// The entry to change, and what is left of it afterwards.
    fn change<T>(&mut self, key: &[u8], new: Entry, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entry = self.keys.remove(key).unwrap_or(new);
        let result = change(&mut entry);
        if entry.len() > 0 {
            self.keys.insert(key.to_vec(), entry);
        }
        result
    }

    fn members(&self, key: &[u8]) -> BTreeSet<Vec<u8>> {
        match self.keys.get(key).map(|entry| &entry.kind) {
            Some(Kind::Set(members)) => members.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// Makes the effect of a command; the reply that is wanted, unless it depends on a draw.
    fn run(&mut self, argv: &[Vec<u8>], got: &Value) -> Value {
        let (name, key) = (String::from_utf8(argv[0].clone()).unwrap(), &argv[1]);
        let count = |n: usize| Value::Int(n as i64);
        let bulk = |value: Option<&Vec<u8>>| value.map_or(Value::Null, |v| Value::Bulk(v.clone()));
        match name.as_str() {
            "HSET" => self.change(key, Entry::hash(), |hash| {
                count(argv[2..].chunks(2).filter(|pair| hash.put(&pair[0], &pair[1])).count())
            }),
            "HSETNX" => self.change(key, Entry::hash(), |hash| {
                let Kind::Hash(fields) = &hash.kind else { unreachable!() };
                let absent = !fields.contains_key(&argv[2]);
                if absent {
                    hash.put(&argv[2], &argv[3]);
                }
                count(absent.into())
            }),
            "HDEL" | "SREM" => match self.keys.contains_key(key) {
                false => count(0),
                true => self.change(key, Entry::hash(), |entry| {
                    count(argv[2..].iter().filter(|name| entry.remove(name)).count())
                }),
            },
            "HINCRBY" => self.change(key, Entry::hash(), |hash| {
                let Kind::Hash(fields) = &hash.kind else { unreachable!() };
                let old = fields.get(&argv[2]).map_or(0, |old| parse_i64(old).unwrap());
                let sum = old + parse_i64(&argv[3]).unwrap();
                hash.put(&argv[2], sum.to_string().as_bytes());
                Value::Int(sum)
            }),
            "HGET" => match self.keys.get(key).map(|entry| &entry.kind) {
                Some(Kind::Hash(fields)) => bulk(fields.get(&argv[2])),
                _ => Value::Null,
            },
            "HLEN" | "SCARD" => count(self.keys.get(key).map_or(0, Entry::len)),
            "SISMEMBER" => count(self.members(key).contains(&argv[2]).into()),
            "SADD" => {
                let first = parse_i64(&argv[2]).is_some();
                let hint = argv.len() - 2;
                let encoding = match hint {
                    ..=512 if first => "intset",
                    ..=128 => "listpack",
                    _ => "hashtable",
                };
                self.change(key, Entry::set(encoding), |set| {
                    let added = argv[2..].iter().filter(|member| set.add(member)).count();
                    let small =
                        matches!((set.encoding, hint), ("listpack", 129..) | ("intset", 513..));
                    if added > 0 && small {
                        set.encoding = "hashtable";
                    }
                    count(added)
                })
            }
            "SMOVE" => {
                let there = self.members(key).contains(&argv[3]);
                if there && key != &argv[2] {
                    self.change(key, Entry::hash(), |set| set.remove(&argv[3]));
                    let encoding =
                        if parse_i64(&argv[3]).is_some() { "intset" } else { "listpack" };
                    self.change(&argv[2], Entry::set(encoding), |set| set.add(&argv[3]));
                }
                count(there.into())
            }
            "SPOP" => {
                self.popped(key, got);
                got.clone()
            }
            "SINTERSTORE" | "SUNIONSTORE" | "SDIFFSTORE" => {
                let (a, b) = (self.members(&argv[2]), self.members(&argv[3]));
                let result: BTreeSet<_> = match name.as_str() {
                    "SINTERSTORE" => a.intersection(&b).cloned().collect(),
                    "SUNIONSTORE" => a.union(&b).cloned().collect(),
                    _ => a.difference(&b).cloned().collect(),
                };
                self.keys.remove(key);
                self.change(key, Entry::set("intset"), |set| {
                    for member in &result {
                        set.add(member);
                    }
                });
                count(result.len())
            }
            "DEL" => count(self.keys.remove(key).is_some().into()),
            "PEXPIRE" => {
                let deadline = self.now_ms + parse_i64(&argv[2]).unwrap() as u64;
                let entry = self.keys.get_mut(key);
                count(entry.map(|entry| entry.deadline_ms = Some(deadline)).is_some().into())
            }
            "COPY" => match self.keys.get(key).cloned() {
                Some(entry) if key != &argv[2] => {
                    self.keys.insert(argv[2].clone(), entry);
                    count(1)
                }
                _ => got.clone(),
            },
            "RENAME" => {
                if let Some(entry) = self.keys.remove(key) {
                    self.keys.insert(argv[2].clone(), entry);
                }
                got.clone()
            }
            other => unreachable!("{other}"),
        }
    }

    /// Takes what was drawn out of the set, to which it must have belonged.
    fn popped(&mut self, key: &[u8], got: &Value) {
        let Value::Array(popped) = got else { panic!("{got:?}") };
        if popped.is_empty() {
            return;
        }
        let before = self.keys[key].len();
        self.change(key, Entry::set("intset"), |set| {
            for member in popped {
                assert!(set.remove(member.as_bytes().unwrap()), "{member:?} was no member");
            }
            let left = before - popped.len();
            if left * 5 > popped.len() || set.encoding != "hashtable" {
                return;
            }
            // Little is left: the set was made anew.
            let Kind::Set(members) = &set.kind else { unreachable!() };
            let small = left <= 128 && members.iter().all(|member| member.len() <= 64);
            set.encoding = if small { "listpack" } else { "hashtable" };
        });
    }
}

fn word(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn hash_key(rng: &mut Rng) -> Vec<u8> {
    format!("hash:{}", rng.below(4)).into_bytes()
}

fn set_key(rng: &mut Rng) -> Vec<u8> {
    format!("set:{}", rng.below(5)).into_bytes()
}

fn field(rng: &mut Rng) -> Vec<u8> {
    match rng.below(20) {
        0 => vec![b'f'; 62 + rng.below(5) as usize],
        1 => vec![b'F'; 300],
        2 => Vec::new(),
        _ => format!("f{}", rng.below(800)).into_bytes(),
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(30) {
        0 => 40_000,
        1 => 16_368 + rng.below(2),
        2 | 3 => 62 + rng.below(5),
        4 => 900,
        _ => rng.below(10),
    };
    vec![b'v'; len as usize]
}

fn member(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => field(rng),
        _ => rng.below(900).to_string().into_bytes(),
    }
}

/// How many names a command gets: mostly few, now and then so many that a collection grows large.
fn how_many(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => 200 + rng.below(400),
        1 => 40 + rng.below(100),
        _ => 1 + rng.below(4),
    }
}

fn command(rng: &mut Rng) -> Vec<Vec<u8>> {
    let many = how_many(rng);
    match rng.below(26) {
        0..=4 => {
            let mut argv = vec![word("HSET"), hash_key(rng)];
            for _ in 0..many {
                argv.extend([field(rng), value(rng)]);
            }
            argv
        }
        5 => vec![word("HSETNX"), hash_key(rng), field(rng), value(rng)],
        6 | 7 => {
            let mut argv = vec![word("HDEL"), hash_key(rng)];
            argv.extend((0..many).map(|_| field(rng)));
            argv
        }
        8 => vec![word("HINCRBY"), hash_key(rng), word("counter"), number(rng.below(100))],
        9 => vec![word("HGET"), hash_key(rng), field(rng)],
        10 => vec![word("HLEN"), hash_key(rng)],
        11..=14 => {
            let mut argv = vec![word("SADD"), set_key(rng)];
            argv.extend((0..many).map(|_| member(rng)));
            argv
        }
        15 | 16 => {
            let mut argv = vec![word("SREM"), set_key(rng)];
            argv.extend((0..many).map(|_| member(rng)));
            argv
        }
        17 => vec![word("SISMEMBER"), set_key(rng), member(rng)],
        18 => vec![word("SCARD"), set_key(rng)],
        19 => vec![word("SMOVE"), set_key(rng), set_key(rng), member(rng)],
        20 => vec![word("SPOP"), set_key(rng), number(how_many(rng))],
        21 => {
            let name = rng.pick(&["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
            vec![word(name), set_key(rng), set_key(rng), set_key(rng)]
        }
        22 if rng.one_in(3) => vec![word("DEL"), hash_key(rng)],
        23 => vec![word("PEXPIRE"), hash_key(rng), number(1 + rng.below(2000))],
        24 => vec![word("COPY"), hash_key(rng), hash_key(rng), word("REPLACE")],
        25 => vec![word("RENAME"), set_key(rng), set_key(rng)],
        _ => vec![word("DEL"), set_key(rng)],
    }
}

fn number(n: u64) -> Vec<u8> {
    n.to_string().into_bytes()
}

#[test]
fn histories_of_hashes_and_sets_agree_with_std() {
    for seed in seeds(60) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        history(seed);
    }
}

fn history(seed: u64) {
    let mut rng = Rng(seed);
    let mut replica = Replica::new(START_MS);
    let mut model = Model { now_ms: START_MS, ..Model::default() };
    for _ in 0..rng.below(400) {
        match rng.below(40) {
            0 => model.now_ms += rng.below(300),
            1 => replica.commit(),
            2 => replica.crash_and_recover(),
            _ => {
                let argv = command(&mut rng);
                model.expire();
                let reply = replica.run(&argv);
                let got = ValueDecoder::new(Limits::default()).decode(&reply).unwrap().1.unwrap();
                let wanted = model.run(&argv, &got);
                assert!(got == wanted, "{}: {got:?}, not {wanted:?}", show(&argv));
            }
        }
        replica.now_ms = model.now_ms;
    }
    compare(&mut replica, &mut model);
    let state = |replica: &Replica| state_hash(replica.engine.store().view()).unwrap();
    let before = state(&replica);
    replica.crash_and_recover();
    assert_eq!(state(&replica), before, "replay leads to the same state");
    compare(&mut replica, &mut model);
}

fn show(argv: &[Vec<u8>]) -> String {
    let words = argv.iter().take(12).map(|arg| arg[..arg.len().min(40)].escape_ascii().to_string());
    words.collect::<Vec<_>>().join(" ")
}

/// Every key with all its members, and no others.
fn compare(replica: &mut Replica, model: &mut Model) {
    model.expire();
    let mut left = model.keys.clone();
    for kept in content(replica.engine.store()) {
        if kept.deadline_ms.is_some_and(|at| at <= model.now_ms) {
            continue;
        }
        let name = kept.key.escape_ascii().to_string();
        let wanted = left.remove(&kept.key).expect("a key the model does not have");
        let read = if matches!(wanted.kind, Kind::Hash(_)) { "HGETALL" } else { "SMEMBERS" };
        let reply = replica.run(&[word(read), kept.key.clone()]);
        let reply = ValueDecoder::new(Limits::default()).decode(&reply).unwrap().1.unwrap();
        assert!(kind_of(&reply, &wanted.kind) == wanted.kind, "{name}");
        assert_eq!(wanted.deadline_ms, kept.deadline_ms, "{name}");
        let encoding = format!("{:?}", kept.encoding).to_ascii_lowercase();
        assert_eq!(wanted.encoding, encoding, "{name}");
    }
    assert!(left.is_empty(), "lost: {:?}", left.keys());
}

/// What a reply lists, each name once.
fn kind_of(reply: &Value, like: &Kind) -> Kind {
    let Value::Array(items) = reply else { panic!("{reply:?}") };
    let items: Vec<Vec<u8>> = items.iter().map(|item| item.as_bytes().unwrap().to_vec()).collect();
    match like {
        Kind::Hash(_) => {
            let fields: BTreeMap<_, _> =
                items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            assert_eq!(fields.len() * 2, items.len());
            Kind::Hash(fields)
        }
        Kind::Set(_) => {
            let members: BTreeSet<_> = items.iter().cloned().collect();
            assert_eq!(members.len(), items.len());
            Kind::Set(members)
        }
    }
}
