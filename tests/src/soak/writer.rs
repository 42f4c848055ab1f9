//! One of those who write: random changes to keys of its own, sent in pipelines, and what they must
//! have led to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::model::{Bytes, Change, Data, Entry, KINDS, Kind, Model};
use super::now_ms;
use crate::resp::{Conn, Reply};
use crate::rng::Rng;

/// Keys of each writer.
pub const KEYS: u64 = 1200;
/// How large most collections grow: beyond what stays packed in places, within it in others.
const ELEMENTS: u64 = 200;
/// How large one in forty of them grows.
const MANY_ELEMENTS: u64 = 3000;
/// Between two pipelines, so that a long run leaves the machine to others too.
const PAUSE: Duration = Duration::from_millis(3);

/// What the whole run tells its writers.
#[derive(Debug, Default)]
pub struct Orders {
    /// End after the pipeline that is under way.
    pub stop: AtomicBool,
    /// How long strings are, about.
    pub typical_bytes: AtomicU64,
}

/// A state that is known but for how many of the changes behind it had been made.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// The first state that it may be.
    pub first: Model,
    /// What leads to the others, one after the other.
    pub then: Vec<Change>,
}

impl Candidates {
    /// The state among them that `found` shows, as [`Model::compare`] has it.
    ///
    /// # Errors
    /// How the first and the last of them differ from it.
    pub fn matching(&self, found: &Model, times: (u64, u64)) -> Result<Model, String> {
        let mut state = self.first.clone();
        let Err(first) = state.compare(found, times.0, times.1) else { return Ok(state) };
        let mut last = String::new();
        for change in &self.then {
            state.apply(change);
            match state.compare(found, times.0, times.1) {
                Ok(()) => return Ok(state),
                Err(difference) => last = difference,
            }
        }
        let count = self.then.len();
        Err(format!("at first {first}; after {count} unacknowledged changes {last}"))
    }
}

/// A writer; its thread and the one that judges it share this.
#[derive(Debug)]
pub struct Writer {
    id: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    serial: u64,
    /// What has been acknowledged.
    acknowledged: Model,
    /// The same with what has been sent behind it.
    ahead: Model,
    sent: VecDeque<Change>,
    /// What was sent since somebody began to take a snapshot.
    history: Option<Candidates>,
    acknowledged_count: u64,
}

impl Writer {
    /// The writer with this number in the run of `seed`.
    pub fn new(id: u64, seed: u64) -> Writer {
        let state = State {
            rng: Rng::new(seed ^ ((id + 1) << 48)),
            serial: 0,
            acknowledged: Model::default(),
            ahead: Model::default(),
            sent: VecDeque::new(),
            history: None,
            acknowledged_count: 0,
        };
        Writer { id, state: Mutex::new(state) }
    }

    /// The name of its key with this number.
    pub fn key(&self, number: u64) -> Bytes {
        format!("w{}:{number}", self.id).into_bytes()
    }

    /// Changes acknowledged so far.
    pub fn acknowledged_count(&self) -> u64 {
        self.state.lock().acknowledged_count
    }

    /// Writes until it is told to stop or the connection breaks.
    pub fn run(&self, address: SocketAddr, orders: &Orders) {
        let Ok(mut conn) = Conn::open(address) else { return };
        let name = |number| self.key(number);
        while !orders.stop.load(Ordering::Relaxed) {
            let mut awaited = Vec::new();
            let mut state = self.state.lock();
            for _ in 0..1 + state.rng.below(32) {
                let change = state.next(orders.typical_bytes.load(Ordering::Relaxed));
                let requests = change.requests(&name);
                requests.iter().for_each(|request| conn.queue(request));
                awaited.push(requests.len());
                state.send(change);
            }
            // What is sent may be applied, so it is noted before it is sent.
            drop(state);
            if conn.flush().is_err() {
                return;
            }
            for replies in awaited {
                for _ in 0..replies {
                    let Ok(reply) = conn.receive() else { return };
                    let wrong = reply.is_error() || reply.items().iter().any(Reply::is_error);
                    assert!(!wrong, "writer {}: {reply:?}", self.id);
                }
                self.state.lock().acknowledge();
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// From now on, keeps what is sent: a snapshot is about to be taken.
    pub fn begin_snapshot(&self) {
        let mut state = self.state.lock();
        let then = state.sent.iter().cloned().collect();
        state.history = Some(Candidates { first: state.acknowledged.clone(), then });
    }

    /// The states that a snapshot may hold which was asked for after [`Writer::begin_snapshot`].
    pub fn end_snapshot(&self) -> Candidates {
        self.state.lock().history.take().expect("begin_snapshot comes first")
    }

    /// The states that a node may show now.
    pub fn candidates(&self) -> Candidates {
        let state = self.state.lock();
        let then = state.sent.iter().cloned().collect();
        Candidates { first: state.acknowledged.clone(), then }
    }

    /// Goes on from `model`, which is what the node holds.
    pub fn settle(&self, model: Model) {
        let mut state = self.state.lock();
        state.ahead = model.clone();
        state.acknowledged = model;
        state.sent.clear();
    }

    /// All that a node holds of this writer's keys, with the times before and after reading.
    pub fn read_back(&self, conn: &mut Conn) -> (Model, (u64, u64)) {
        // The node's clock may be read a little later than the request is seen.
        const SLACK_MS: u64 = 5;
        let from_ms = now_ms() - SLACK_MS;
        let mut found = Model::default();
        let keys: Vec<u64> = (0..KEYS).collect();
        for some in keys.chunks(100) {
            for key in some {
                conn.queue(&self.read(*key));
                conn.queue(&[b"PEXPIRETIME".to_vec(), self.key(*key)]);
            }
            conn.flush().expect("the node takes requests");
            for key in some {
                let [data, deadline] = [(); 2].map(|()| conn.receive().expect("a reply"));
                let deadline = deadline.int().expect("PEXPIRETIME answers a number");
                let Some(data) = decode(*key, &data) else { continue };
                // It went between the two commands: as if it had gone before.
                if deadline == -2 {
                    continue;
                }
                let deadline_ms = u64::try_from(deadline).ok();
                found.insert(*key, Entry { data: Arc::new(data), deadline_ms });
            }
        }
        (found, (from_ms, now_ms() + SLACK_MS))
    }

    fn read(&self, number: u64) -> Vec<Bytes> {
        let (verb, rest): (&str, &[&str]) = match Kind::of(number) {
            Kind::Text | Kind::Number => ("GET", &[]),
            Kind::Hash => ("HGETALL", &[]),
            Kind::List => ("LRANGE", &["0", "-1"]),
            Kind::Set => ("SMEMBERS", &[]),
            Kind::Ranked => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        };
        let rest = rest.iter().map(|word| Bytes::from(*word));
        [verb.into(), self.key(number)].into_iter().chain(rest).collect()
    }

    /// Reads at random beside the writers until they are told to stop or the connection breaks: a
    /// reply may be anything but an error.
    pub fn look_on(&self, address: SocketAddr, seed: u64, orders: &Orders) {
        let Ok(mut conn) = Conn::open(address) else { return };
        let mut rng = Rng::new(seed);
        while !orders.stop.load(Ordering::Relaxed) {
            let request = match rng.below(50) {
                0 => vec![b"KEYS".to_vec(), b"w?:*7".to_vec()],
                _ => self.read(rng.below(KEYS)),
            };
            let Ok(reply) = conn.call(&request) else { return };
            assert!(!reply.is_error(), "{}: {reply:?}", request[0].escape_ascii());
            std::thread::sleep(PAUSE);
        }
    }
}

/// What a reply says of a key; None when it is not there.
fn decode(key: u64, reply: &Reply) -> Option<Data> {
    assert!(!reply.is_error(), "key {key}: {reply:?}");
    let all = || reply.items().iter().map(|item| item.bytes().expect("a string").to_vec());
    let pairs = || {
        let items: Vec<Bytes> = all().collect();
        items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Vec<_>>()
    };
    let data = match Kind::of(key) {
        Kind::Text | Kind::Number => Data::Text(reply.bytes()?.to_vec()),
        Kind::Hash => Data::Hash(pairs().into_iter().collect()),
        Kind::List => Data::List(all().collect()),
        Kind::Set => Data::Set(all().collect()),
        Kind::Ranked => {
            let score = |text: Bytes| String::from_utf8_lossy(&text).parse().expect("a number");
            Data::Ranked(pairs().into_iter().map(|(member, s)| (member, score(s))).collect())
        }
    };
    (!data.is_empty()).then_some(data)
}

impl State {
    fn send(&mut self, change: Change) {
        self.ahead.apply(&change);
        if let Some(history) = &mut self.history {
            history.then.push(change.clone());
        }
        self.sent.push_back(change);
    }

    fn acknowledge(&mut self) {
        let change = self.sent.pop_front().expect("it was sent");
        self.acknowledged.apply(&change);
        self.acknowledged_count += 1;
    }

    fn next(&mut self, typical_bytes: u64) -> Change {
        if self.rng.once_in(20) {
            let count = 2 + self.rng.below(4);
            let mut changes: Vec<Change> = Vec::new();
            // Each of a key of its own: what a change may be depends on what the key holds.
            let first = self.rng.below(KEYS);
            for i in 0..count {
                changes.push(self.change((first + i * 7) % KEYS, typical_bytes));
            }
            return Change::Together(changes);
        }
        let key = self.rng.below(KEYS);
        if self.rng.once_in(25) {
            let to = (key + KINDS * (1 + self.rng.below(KEYS / KINDS - 1))) % KEYS;
            let lasts = |key| matches!(self.ahead.get(key), Some(Entry { deadline_ms: None, .. }));
            if lasts(key) {
                return Change::Rename { from: key, to };
            }
        }
        self.change(key, typical_bytes)
    }

    fn change(&mut self, key: u64, typical_bytes: u64) -> Change {
        let held = self.ahead.get(key).cloned();
        let lasts = held.as_ref().is_none_or(|entry| entry.deadline_ms.is_none());
        let text = Kind::of(key) == Kind::Text;
        if !lasts && !text || self.rng.once_in(40) {
            return Change::Delete { keys: vec![key] };
        }
        if held.is_some() && lasts && self.rng.once_in(25) {
            return Change::Expire { key, deadline_ms: self.deadline_ms() };
        }
        let full = self.rng.below(ELEMENTS / 2)
            + if (key / KINDS).is_multiple_of(40) { MANY_ELEMENTS } else { ELEMENTS };
        let shrink = held.as_ref().is_some_and(|entry| entry.data.len() as u64 > full);
        match held.as_ref().map(|entry| &*entry.data) {
            Some(Data::List(_)) if shrink || self.rng.once_in(4) => {
                let most = if shrink { full / 2 } else { 10 };
                let count = 1 + self.rng.below(most) as usize;
                Change::Pop { key, left: self.rng.once_in(2), count }
            }
            Some(data @ (Data::Hash(_) | Data::Set(_) | Data::Ranked(_)))
                if shrink || self.rng.once_in(4) =>
            {
                let members = self.some_of(data, if shrink { full / 2 } else { 10 });
                Change::Remove { key, members }
            }
            held => {
                let long = matches!(held, Some(Data::Text(text)) if text.len() > 50_000);
                self.growth(key, lasts && !long, typical_bytes)
            }
        }
    }

    /// Sets a key, or adds to what it holds.
    fn growth(&mut self, key: u64, may_append: bool, typical_bytes: u64) -> Change {
        let most = if self.rng.once_in(5) { 60 } else { 6 };
        let elements = 1 + self.rng.below(most);
        let count = 0..elements;
        match Kind::of(key) {
            Kind::Text if may_append && self.rng.once_in(5) => {
                Change::Append { key, tail: self.value(100) }
            }
            Kind::Text => {
                let deadline_ms = self.rng.once_in(6).then(|| self.deadline_ms());
                let value = match self.rng.below(3000) {
                    // Long enough to travel in pieces.
                    0 => self.value(1_500_000),
                    1..=30 => self.value(100_000),
                    _ => self.value(typical_bytes),
                };
                Change::Set { key, value, deadline_ms }
            }
            Kind::Number => Change::Increase { key, by: self.rng.below(1000) as i64 - 300 },
            Kind::Hash => {
                let fields = count.map(|_| (self.member(), self.value(60))).collect();
                Change::Put { key, fields }
            }
            Kind::List => {
                let elements = count.map(|_| self.value(60)).collect();
                Change::Push { key, left: self.rng.once_in(2), elements }
            }
            Kind::Set => Change::Add { key, members: count.map(|_| self.member()).collect() },
            Kind::Ranked => {
                let members = count.map(|_| (self.rng.below(10_000) as i64 - 5000, self.member()));
                Change::Rank { key, members: members.collect() }
            }
        }
    }

    /// Soon enough that many pass during a run, some only after it.
    fn deadline_ms(&mut self) -> u64 {
        let most = *self.rng.pick(&[100, 2_000, 30_000, 10_000_000]);
        now_ms() + 10 + self.rng.below(most)
    }

    fn member(&mut self) -> Bytes {
        let number = self.rng.below(MANY_ELEMENTS * 2);
        format!("m{number:0width$}", width = 4 + (number % 40) as usize).into_bytes()
    }

    /// A value that no other change has, of half to one and a half times `typical_bytes`.
    fn value(&mut self, typical_bytes: u64) -> Bytes {
        self.serial += 1;
        let len = typical_bytes / 2 + self.rng.below(typical_bytes + 1);
        let mut value = format!("{}:", self.serial).into_bytes();
        let fill = b'a' + (self.serial % 26) as u8;
        value.resize(value.len().max(len as usize), fill);
        value
    }

    fn some_of(&mut self, data: &Data, most: u64) -> Vec<Bytes> {
        let names: Vec<&Bytes> = match data {
            Data::Hash(fields) => fields.keys().collect(),
            Data::Set(members) => members.iter().collect(),
            Data::Ranked(members) => members.keys().collect(),
            Data::Text(_) | Data::List(_) => unreachable!("these have no names"),
        };
        let first = self.rng.below(names.len() as u64) as usize;
        let count = 1 + self.rng.below(most.max(1)) as usize;
        names.iter().skip(first).take(count).map(|name| (*name).clone()).collect()
    }
}
