//! Writers that can tell what a crash may leave of what they wrote.
//!
//! Each owns its keys and sends writes whose effect it can foretell. What a node holds after a
//! crash must then be the state after some prefix of what that writer sent, one that includes at
//! least everything acknowledged: one prefix for all its keys together, so that a write applied
//! twice, in part or out of order shows too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::resp::Conn;
use crate::rng::Rng;

/// Keys that each writer overwrites.
const KEYS: u64 = 200;

/// One write.
#[derive(Clone, Debug)]
enum Write {
    Set {
        key: u64,
        value: Vec<u8>,
    },
    Incr,
    Append {
        key: u64,
        value: Vec<u8>,
    },
    Del {
        key: u64,
    },
    MultiSet {
        keys: [u64; 3],
        value: Vec<u8>,
    },
    /// MULTI, a SET of each key with an INCR between them, EXEC.
    Transaction {
        keys: [u64; 3],
        value: Vec<u8>,
    },
}

/// What a writer's keys hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    keys: BTreeMap<u64, Vec<u8>>,
    counter: u64,
}

impl Model {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Set { key, value } => drop(self.keys.insert(*key, value.clone())),
            Write::Incr => self.counter += 1,
            Write::Append { key, value } => {
                self.keys.entry(*key).or_default().extend_from_slice(value)
            }
            Write::Del { key } => drop(self.keys.remove(key)),
            Write::MultiSet { keys, value } => {
                keys.iter().for_each(|key| drop(self.keys.insert(*key, value.clone())))
            }
            Write::Transaction { keys, value } => {
                for key in keys {
                    self.keys.insert(*key, value.clone());
                    self.counter += 1;
                }
            }
        }
    }
}

/// How far a writer is since its last check, to be looked at while it writes.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// How many writes had been sent, and acknowledged, at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Handed to the socket, or about to be.
    pub sent: usize,
    /// Of these, those whose replies had come.
    pub acknowledged: usize,
}

impl Progress {
    /// What can be said of now.
    pub fn moment(&self) -> Moment {
        // Acknowledged first: it never passes what was sent.
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        Moment { sent: self.sent.load(Ordering::SeqCst), acknowledged }
    }
}

/// A state that a writer's keys have gone through, to go on from.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    state: Model,
    writes: usize,
}

/// A writer: its keys, what they held at the last check, and what it has sent since.
#[derive(Debug)]
pub struct Writer {
    id: u64,
    rng: Rng,
    settled: Model,
    sent: Vec<Write>,
    progress: Arc<Progress>,
    serial: u64,
}

impl Writer {
    /// Writer `id`, whose choices follow from `seed`. No two of one node have the same id.
    pub fn new(id: u64, seed: u64) -> Writer {
        let rng = Rng::new(seed ^ (id << 48));
        let progress = Arc::default();
        Writer { id, rng, settled: Model::default(), sent: vec![], progress, serial: 0 }
    }

    /// How far it is, for others to look at while it runs.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The state of the last check.
    pub fn settled(&self) -> Reached {
        Reached { state: self.settled.clone(), writes: 0 }
    }

    fn key(&self, number: u64) -> Vec<u8> {
        format!("w{}:{number}", self.id).into_bytes()
    }

    fn counter(&self) -> Vec<u8> {
        format!("w{}:counter", self.id).into_bytes()
    }

    /// A value that no other write has.
    fn value(&mut self) -> Vec<u8> {
        self.serial += 1;
        let len = match self.rng.below(200) {
            0 => 100_000,
            1..=9 => 5000,
            _ => 8 + self.rng.below(120) as usize,
        };
        let mut value = format!("{}:{}:", self.id, self.serial).into_bytes();
        let fill = b'a' + (self.serial % 26) as u8;
        value.resize(value.len().max(len), fill);
        value
    }

    fn write(&mut self) -> Write {
        let key = self.rng.below(KEYS);
        match self.rng.below(20) {
            0 => Write::Del { key },
            1..=3 => Write::Incr,
            4 => {
                let value = format!("+{}", self.serial).into_bytes();
                Write::Append { key, value }
            }
            5 => {
                let keys = [key, (key + 7) % KEYS, (key + 31) % KEYS];
                Write::MultiSet { keys, value: self.value() }
            }
            6 => {
                let keys = [key, (key + 11) % KEYS, (key + 97) % KEYS];
                Write::Transaction { keys, value: self.value() }
            }
            _ => Write::Set { key, value: self.value() },
        }
    }

    /// The requests of a write, and so the number of its replies.
    fn requests(&self, write: &Write) -> Vec<Vec<Vec<u8>>> {
        let Write::Transaction { keys, value } = write else { return vec![self.request(write)] };
        let inner = keys.iter().flat_map(|key| {
            let set = Write::Set { key: *key, value: value.clone() };
            [self.request(&set), self.request(&Write::Incr)]
        });
        let [multi, exec] = ["MULTI", "EXEC"].map(|word| vec![word.into()]);
        std::iter::once(multi).chain(inner).chain([exec]).collect()
    }

    fn request(&self, write: &Write) -> Vec<Vec<u8>> {
        match write {
            Write::Set { key, value } => vec![b"SET".to_vec(), self.key(*key), value.clone()],
            Write::Incr => vec![b"INCR".to_vec(), self.counter()],
            Write::Append { key, value } => {
                vec![b"APPEND".to_vec(), self.key(*key), value.clone()]
            }
            Write::Del { key } => vec![b"DEL".to_vec(), self.key(*key)],
            Write::MultiSet { keys, value } => {
                let pairs = keys.iter().flat_map(|key| [self.key(*key), value.clone()]);
                std::iter::once(b"MSET".to_vec()).chain(pairs).collect()
            }
            Write::Transaction { .. } => unreachable!("made of several requests"),
        }
    }

    /// Writes until the connection breaks, in pipelines of 1 to 32.
    ///
    /// # Panics
    /// When a write is answered with an error.
    pub fn run(&mut self, address: SocketAddr) {
        let Ok(mut conn) = Conn::open(address) else { return };
        loop {
            let batch = 1 + self.rng.below(32);
            let mut awaited = Vec::new();
            for _ in 0..batch {
                let write = self.write();
                let requests = self.requests(&write);
                requests.iter().for_each(|request| conn.queue(request));
                awaited.push(requests.len());
                self.sent.push(write);
            }
            self.progress.sent.store(self.sent.len(), Ordering::SeqCst);
            if conn.flush().is_err() {
                return;
            }
            for replies in awaited {
                for _ in 0..replies {
                    let Ok(reply) = conn.receive() else { return };
                    assert!(!reply.is_error(), "writer {}: {reply:?}", self.id);
                }
                self.progress.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// What the node holds of this writer's keys.
    fn read_back(&self, conn: &mut Conn) -> Model {
        let mut request = vec![b"MGET".to_vec(), self.counter()];
        request.extend((0..KEYS).map(|number| self.key(number)));
        let reply = conn.call(&request).expect("the restarted node answers");
        let (counter, rest) = reply.items().split_first().expect("MGET answers a list");
        let held = rest.iter().enumerate().filter_map(|(number, reply)| {
            reply.bytes().map(|bytes| (number as u64, bytes.to_vec()))
        });
        Model { keys: held.collect(), counter: counter.text().parse().unwrap_or(0) }
    }

    /// Checks what a restarted node holds, and goes on from there.
    ///
    /// # Panics
    /// When that cannot be, with `seed`.
    pub fn check(&mut self, conn: &mut Conn, seed: u64) {
        let moment = self.progress.moment();
        let found = self.read_back(conn);
        if let Err(complaint) = self.prefix(&mut self.settled(), moment, &found) {
            panic!("seed {seed}: {complaint}");
        }
        self.settled = found;
        self.sent.clear();
        self.progress.sent.store(0, Ordering::SeqCst);
        self.progress.acknowledged.store(0, Ordering::SeqCst);
    }

    /// Checks what a node holds that was started on an image taken at `moment`: what had been
    /// acknowledged when it was begun, and sent when it was whole. `from` is a state before that,
    /// such as [`settled`](Self::settled), and is moved up to what was acknowledged. Returns how
    /// many keys the writer has there.
    ///
    /// # Errors
    /// What is missing, or there and was never written.
    pub fn judge(
        &self,
        conn: &mut Conn,
        from: &mut Reached,
        moment: Moment,
    ) -> Result<u64, String> {
        let found = self.read_back(conn);
        self.prefix(from, moment, &found)?;
        Ok(found.keys.len() as u64 + u64::from(found.counter > 0))
    }

    /// Whether `found` is the state after some prefix of what was sent that has everything
    /// acknowledged in it.
    fn prefix(&self, from: &mut Reached, moment: Moment, found: &Model) -> Result<(), String> {
        while from.writes < moment.acknowledged {
            from.state.apply(&self.sent[from.writes]);
            from.writes += 1;
        }
        let mut state = from.state.clone();
        let mut on_their_way = self.sent[from.writes..moment.sent].iter();
        while state != *found {
            let Some(write) = on_their_way.next() else {
                return Err(self.complaint(moment, &from.state, found));
            };
            state.apply(write);
        }
        Ok(())
    }

    fn complaint(&self, moment: Moment, wanted: &Model, found: &Model) -> String {
        let differing = (0..KEYS).filter(|key| wanted.keys.get(key) != found.keys.get(key));
        let shown = |value: Option<&Vec<u8>>| {
            value.map(|v| String::from_utf8_lossy(&v[..v.len().min(40)]).into_owned())
        };
        let lines: Vec<String> = differing
            .map(|key| {
                let (wanted, found) = (wanted.keys.get(&key), found.keys.get(&key));
                format!(
                    "  w{}:{key}: wanted {:?}, found {:?}",
                    self.id,
                    shown(wanted),
                    shown(found)
                )
            })
            .take(20)
            .collect();
        format!(
            "writer {} sent {} writes, {} were acknowledged, and no prefix from there on gives \
             what the node holds; counter wanted {}, found {}; keys against the acknowledged \
             state:\n{}",
            self.id,
            moment.sent,
            moment.acknowledged,
            wanted.counter,
            found.counter,
            lines.join("\n")
        )
    }
}
