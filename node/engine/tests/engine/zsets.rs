//! Random histories of sorted sets against std's, small and large ones, with the passing of time,
//! commits, crashes and recoveries among the operations.

use std::collections::BTreeMap;

use cairn_engine::state_hash;
use cairn_protocol::number::parse_i64;

use crate::harness::{Replica, Rng, content, seeds};

const START_MS: u64 = 1_700_000_000_000;
const SCORES: [f64; 9] = [f64::NEG_INFINITY, -2.5, -1.0, -0.0, 0.0, 0.5, 1.0, 7.0, f64::INFINITY];

#[derive(Clone, Debug)]
struct Entry {
    scores: BTreeMap<Vec<u8>, f64>,
    skiplist: bool,
    deadline_ms: Option<u64>,
}

impl Entry {
    fn new(expected: usize) -> Entry {
        Entry { scores: BTreeMap::new(), skiplist: expected > 128, deadline_ms: None }
    }

    fn put(&mut self, name: &[u8], score: f64) {
        let is_new = !self.scores.contains_key(name);
        self.skiplist |= is_new && (name.len() > 64 || self.scores.len() >= 128);
        let score = if self.skiplist { score } else { score + 0.0 };
        self.scores.insert(name.to_vec(), score);
    }

    fn ordered(&self) -> Vec<(Vec<u8>, f64)> {
        let mut members: Vec<_> = self.scores.iter().map(|(name, s)| (name.clone(), *s)).collect();
        members.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap().then_with(|| a.0.cmp(&b.0)));
        members
    }
}

/// What Redis would hold.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Entry>,
    now_ms: u64,
}

fn int(n: usize) -> Vec<u8> {
    format!(":{n}\r\n").into_bytes()
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const NULL: &[u8] = b"$-1\r\n";

fn with_scores(members: &[(Vec<u8>, f64)]) -> Vec<u8> {
    let mut reply = format!("*{}\r\n", members.len() * 2).into_bytes();
    for (name, score) in members {
        reply.extend([bulk(name), bulk(score.to_string().as_bytes())].concat());
    }
    reply
}

fn score(text: &[u8]) -> f64 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

impl Model {
    fn expire(&mut self) {
        let now_ms = self.now_ms;
        self.keys.retain(|_, entry| entry.deadline_ms.is_none_or(|at| at > now_ms));
    }

    fn ordered(&self, key: &[u8]) -> Vec<(Vec<u8>, f64)> {
        self.keys.get(key).map(Entry::ordered).unwrap_or_default()
    }

    fn remove_all(&mut self, key: &[u8], names: &[(Vec<u8>, f64)]) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        for (name, _) in names {
            entry.scores.remove(name);
        }
        if entry.scores.is_empty() {
            self.keys.remove(key);
        }
    }

    fn store(&mut self, key: &[u8], members: Vec<(Vec<u8>, f64)>) -> Vec<u8> {
        let mut entry = Entry::new(members.len());
        entry.skiplist |= members.iter().any(|(name, _)| name.len() > 64);
        members.iter().for_each(|(name, score)| entry.put(name, *score));
        self.keys.remove(key);
        if !members.is_empty() {
            self.keys.insert(key.to_vec(), entry);
        }
        int(members.len())
    }

    /// Makes the effect of a command; the reply that is wanted.
    fn run(&mut self, argv: &[Vec<u8>]) -> Vec<u8> {
        self.expire();
        let key = &argv[1];
        match argv[0].as_slice() {
            b"ZADD" => self.zadd(argv),
            b"ZINCRBY" => self.zincrby(argv),
            b"ZREM" => {
                let before = self.ordered(key);
                let gone: Vec<_> =
                    before.into_iter().filter(|(name, _)| argv[2..].contains(name)).collect();
                self.remove_all(key, &gone);
                int(gone.len())
            }
            b"ZPOPMIN" | b"ZPOPMAX" => {
                let mut members = self.ordered(key);
                if argv[0] == b"ZPOPMAX" {
                    members.reverse();
                }
                members.truncate(parse_i64(&argv[2]).unwrap() as usize);
                self.remove_all(key, &members);
                with_scores(&members)
            }
            b"ZREMRANGEBYRANK" => {
                let gone = ranks(&self.ordered(key), &argv[2], &argv[3]);
                self.remove_all(key, &gone);
                int(gone.len())
            }
            b"ZREMRANGEBYSCORE" => {
                let gone = between(self.ordered(key), &argv[2], &argv[3]);
                self.remove_all(key, &gone);
                int(gone.len())
            }
            b"ZRANGE" => {
                let mut members = self.ordered(key);
                if argv.contains(&b"REV".to_vec()) {
                    members.reverse();
                }
                with_scores(&ranks(&members, &argv[2], &argv[3]))
            }
            b"ZRANGEBYSCORE" => with_scores(&between(self.ordered(key), &argv[2], &argv[3])),
            b"ZREVRANGEBYSCORE" => {
                let mut members = between(self.ordered(key), &argv[3], &argv[2]);
                members.reverse();
                let [offset, count] = [6, 7].map(|at| parse_i64(&argv[at]).unwrap() as usize);
                let part: Vec<_> = members.into_iter().skip(offset).take(count).collect();
                with_scores(&part)
            }
            b"ZRANGESTORE" => {
                let members = between(self.ordered(&argv[2]), &argv[3], &argv[4]);
                self.store(key, members)
            }
            b"ZCOUNT" => int(between(self.ordered(key), &argv[2], &argv[3]).len()),
            b"ZCARD" => int(self.ordered(key).len()),
            b"ZSCORE" => match self.keys.get(key).and_then(|entry| entry.scores.get(&argv[2])) {
                Some(score) => bulk(score.to_string().as_bytes()),
                None => NULL.to_vec(),
            },
            b"ZRANK" => match self.ordered(key).iter().position(|(name, _)| *name == argv[2]) {
                Some(rank) => int(rank),
                None => NULL.to_vec(),
            },
            b"ZUNIONSTORE" | b"ZINTERSTORE" | b"ZDIFFSTORE" => self.combine(argv),
            b"DEL" => int(self.keys.remove(key).map_or(0, |_| 1)),
            b"PEXPIRE" => {
                let at = self.now_ms + parse_i64(&argv[2]).unwrap() as u64;
                int(self.keys.get_mut(key).map_or(0, |entry| {
                    entry.deadline_ms = Some(at);
                    1
                }))
            }
            b"COPY" => match self.keys.get(key).cloned() {
                Some(entry) => {
                    self.keys.insert(argv[2].clone(), entry);
                    int(1)
                }
                None => int(0),
            },
            other => unreachable!("{}", other.escape_ascii()),
        }
    }

    fn zadd(&mut self, argv: &[Vec<u8>]) -> Vec<u8> {
        let has = |word: &str| argv[2] == word.as_bytes();
        let (nx, xx, gt) = (has("NX"), has("XX"), has("GT"));
        let pairs: Vec<_> = argv[2 + usize::from(nx || xx || gt)..].chunks(2).collect();
        if xx && !self.keys.contains_key(&argv[1]) {
            return int(0);
        }
        let entry = self.keys.entry(argv[1].clone()).or_insert_with(|| Entry::new(0));
        entry.skiplist |= pairs.len() > 128;
        let mut added = 0;
        for pair in pairs {
            let (score, name) = (score(&pair[0]), &pair[1]);
            match entry.scores.get(name) {
                None if xx => {}
                None => {
                    entry.put(name, score);
                    added += 1;
                }
                Some(_) if nx => {}
                Some(old) if gt && score <= *old => {}
                Some(old) if score == *old => {}
                Some(_) => entry.put(name, score),
            }
        }
        int(added)
    }

    fn zincrby(&mut self, argv: &[Vec<u8>]) -> Vec<u8> {
        let entry = self.keys.entry(argv[1].clone()).or_insert_with(|| Entry::new(0));
        let (by, name) = (score(&argv[2]), &argv[3]);
        let old = entry.scores.get(name).copied();
        let sum = old.map_or(by, |old| old + by);
        if sum.is_nan() {
            return b"-ERR resulting score is not a number (NaN)\r\n".to_vec();
        }
        if old != Some(sum) {
            entry.put(name, sum);
        }
        bulk(sum.to_string().as_bytes())
    }

    fn combine(&mut self, argv: &[Vec<u8>]) -> Vec<u8> {
        let [a, b] = [&argv[3], &argv[4]]
            .map(|key| self.keys.get(key).map(|entry| entry.scores.clone()).unwrap_or_default());
        let sum = |x: f64, y: f64| if (x + y).is_nan() { 0.0 } else { x + y };
        let members: Vec<_> = match argv[0].as_slice() {
            b"ZDIFFSTORE" => a.into_iter().filter(|(name, _)| !b.contains_key(name)).collect(),
            b"ZINTERSTORE" => a
                .into_iter()
                .filter_map(|(name, x)| b.get(&name).map(|y| (name, sum(x, *y))))
                .collect(),
            _ => {
                let mut all = a;
                for (name, y) in b {
                    all.entry(name).and_modify(|x| *x = sum(*x, y)).or_insert(y);
                }
                all.into_iter().collect()
            }
        };
        self.store(&argv[1], members)
    }
}

fn ranks(members: &[(Vec<u8>, f64)], start: &[u8], stop: &[u8]) -> Vec<(Vec<u8>, f64)> {
    let len = members.len() as i64;
    let [start, stop] = [start, stop].map(|text| {
        let rank = parse_i64(text).unwrap();
        if rank < 0 { len + rank } else { rank }
    });
    let (start, stop) = (start.max(0), stop.min(len - 1));
    if start > stop { Vec::new() } else { members[start as usize..=stop as usize].to_vec() }
}

fn between(members: Vec<(Vec<u8>, f64)>, min: &[u8], max: &[u8]) -> Vec<(Vec<u8>, f64)> {
    let end = |text: &[u8]| match text {
        [b'(', rest @ ..] => (score(rest), true),
        text => (score(text), false),
    };
    let ((min, min_outside), (max, max_outside)) = (end(min), end(max));
    let inside = |score: f64| {
        (score > min || score == min && !min_outside)
            && (score < max || score == max && !max_outside)
    };
    members.into_iter().filter(|(_, score)| inside(*score)).collect()
}

fn word(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn key(rng: &mut Rng) -> Vec<u8> {
    format!("z{}", rng.below(5)).into_bytes()
}

/// Few names, so that they meet again; one in some hundred is too long for a listpack.
fn member(rng: &mut Rng) -> Vec<u8> {
    let n = rng.below(400);
    let len = match n {
        0..=1 => 65 + n as usize * 300,
        2..=30 => 30,
        _ => 1,
    };
    format!("{n:0>len$}").into_bytes()
}

fn a_score(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(2) {
        return ((rng.below(200) as f64 - 100.0) / 4.0).to_string().into_bytes();
    }
    SCORES[rng.below(9) as usize].to_string().into_bytes()
}

fn end(rng: &mut Rng) -> Vec<u8> {
    let score = a_score(rng);
    if rng.one_in(3) { [b"(".to_vec(), score].concat() } else { score }
}

fn rank(rng: &mut Rng) -> Vec<u8> {
    (rng.below(300) as i64 - 150).to_string().into_bytes()
}

/// One member mostly, now and then more than a packed form or a listpack holds.
fn how_many(rng: &mut Rng) -> u64 {
    match rng.below(12) {
        0 => 130 + rng.below(300),
        1..=3 => 1 + rng.below(40),
        _ => 1 + rng.below(3),
    }
}

fn command(rng: &mut Rng) -> Vec<Vec<u8>> {
    match rng.below(30) {
        0..=8 => {
            let mut argv = vec![word("ZADD"), key(rng)];
            if rng.one_in(3) {
                argv.push(word(rng.pick(&["NX", "XX", "GT"])));
            }
            for _ in 0..how_many(rng) {
                argv.extend([a_score(rng), member(rng)]);
            }
            argv
        }
        9 | 10 => vec![word("ZINCRBY"), key(rng), a_score(rng), member(rng)],
        11 | 12 => {
            let mut argv = vec![word("ZREM"), key(rng)];
            argv.extend((0..how_many(rng)).map(|_| member(rng)));
            argv
        }
        13 => {
            vec![word(rng.pick(&["ZPOPMIN", "ZPOPMAX"])), key(rng), word(rng.pick(&["1", "9"]))]
        }
        14 => vec![word("ZREMRANGEBYRANK"), key(rng), rank(rng), rank(rng)],
        15 => vec![word("ZREMRANGEBYSCORE"), key(rng), end(rng), end(rng)],
        16 | 17 => {
            let mut argv = vec![word("ZRANGE"), key(rng), rank(rng), rank(rng), word("WITHSCORES")];
            if rng.one_in(2) {
                argv.push(word("REV"));
            }
            argv
        }
        18 => vec![word("ZRANGEBYSCORE"), key(rng), end(rng), end(rng), word("WITHSCORES")],
        19 => {
            let mut argv = vec![word("ZREVRANGEBYSCORE"), key(rng), end(rng), end(rng)];
            argv.extend([word("WITHSCORES"), word("LIMIT")]);
            argv.extend([word(rng.pick(&["0", "3"])), word(rng.pick(&["2", "50"]))]);
            argv
        }
        20 => vec![word("ZRANGESTORE"), key(rng), key(rng), end(rng), end(rng), word("BYSCORE")],
        21 => vec![word("ZCOUNT"), key(rng), end(rng), end(rng)],
        22 => vec![word("ZSCORE"), key(rng), member(rng)],
        23 | 24 => vec![word("ZRANK"), key(rng), member(rng)],
        25 => vec![word("ZCARD"), key(rng)],
        26 => {
            let name = rng.pick(&["ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"]);
            vec![word(name), key(rng), word("2"), key(rng), key(rng)]
        }
        27 => vec![word("PEXPIRE"), key(rng), (1 + rng.below(2000)).to_string().into()],
        28 => vec![word("COPY"), word("z0"), word("z1"), word("REPLACE")],
        _ => vec![word("DEL"), key(rng)],
    }
}

#[test]
fn histories_of_sorted_sets_agree_with_std() {
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
                let (got, wanted) = (replica.run(&argv), model.run(&argv));
                let [got, wanted] = [got, wanted].map(|reply| reply.escape_ascii().to_string());
                assert_eq!(got, wanted, "{}", show(&argv));
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

/// Every key with all its members in their order, and no others.
fn compare(replica: &mut Replica, model: &mut Model) {
    model.expire();
    let mut left = model.keys.clone();
    for kept in content(replica.engine.store()) {
        if kept.deadline_ms.is_some_and(|at| at <= model.now_ms) {
            continue;
        }
        let name = kept.key.escape_ascii().to_string();
        let wanted = left.remove(&kept.key).expect("a key the model does not have");
        let all = [word("ZRANGE"), kept.key, word("0"), word("-1"), word("WITHSCORES")];
        assert!(replica.run(&all) == with_scores(&wanted.ordered()), "{name}");
        assert_eq!(wanted.deadline_ms, kept.deadline_ms, "{name}");
        let encoding = format!("{:?}", kept.encoding).to_ascii_lowercase();
        assert_eq!(encoding, if wanted.skiplist { "skiplist" } else { "listpack" }, "{name}");
    }
    assert!(left.is_empty(), "lost: {:?}", left.keys());
}
