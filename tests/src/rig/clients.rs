//! Clients that write unique values and read, at every node, and keep what they did and saw.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::history::{Operation, State, Value};
use crate::resp::{Conn, Reply};
use crate::rng::Rng;

/// How many keys are in use at a time.
const KEYS: u64 = 6;
/// After so long others are, so that no key's history grows without bound.
const KEYS_FOR: Duration = Duration::from_secs(2);
/// A client waits up to so long between two operations: the machine is to be busy, not full.
const PAUSE_US: u64 = 6000;
/// How long a client waits for an answer. Every third waits longer than a node tries for.
const PATIENCE: [Duration; 3] =
    [Duration::from_secs(12), Duration::from_secs(3), Duration::from_secs(3)];

/// An operation, and the node it was sent to.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// What was done and seen; times are nanoseconds since the clients began.
    pub operation: Operation,
    /// Where it was sent.
    pub node: usize,
}

/// What clients did, and how it ended.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// All that may have taken effect, and reads that were answered.
    pub records: Vec<Record>,
    /// Answered with an error.
    pub failed: u64,
    /// Not answered at all.
    pub unknown: u64,
    /// The first error answers, for people.
    pub errors: Vec<String>,
}

impl Recorded {
    fn add(&mut self, other: Recorded) {
        self.records.extend(other.records);
        self.failed += other.failed;
        self.unknown += other.unknown;
        for error in other.errors {
            self.note(error);
        }
    }

    fn note(&mut self, error: String) {
        if self.errors.len() < 8 && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// All operations, for the judge.
    pub fn history(&self) -> Vec<Operation> {
        self.records.iter().map(|record| record.operation).collect()
    }

    /// When writes were acknowledged, in order.
    pub fn acknowledged(&self) -> Vec<u64> {
        let writes = self.records.iter().map(|r| r.operation).filter(|op| op.wrote.is_some());
        let mut times: Vec<u64> = writes.filter_map(|op| op.returned).collect();
        times.sort_unstable();
        times
    }
}

/// The longest time without an acknowledged write that overlaps `from..until`, given when writes
/// were acknowledged, in order.
pub fn gap(acknowledged: &[u64], from: u64, until: u64) -> Duration {
    let first = acknowledged.partition_point(|time| *time <= from).saturating_sub(1);
    let end = acknowledged.partition_point(|time| *time < until);
    let longest =
        acknowledged[first..].windows(2).take(end - first).map(|two| two[1] - two[0]).max();
    let open = acknowledged.last().map_or(until - from, |last| until.saturating_sub(*last));
    Duration::from_nanos(longest.unwrap_or(0).max(open))
}

/// What all clients share.
struct Shared {
    addresses: Mutex<Vec<SocketAddr>>,
    start: Instant,
    values: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn value(&self) -> Value {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    fn address(&self, node: usize) -> SocketAddr {
        self.addresses.lock().expect("no client panics")[node]
    }
}

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Recorded>>,
}

impl Clients {
    /// Starts `count` of them; each is mostly at one of the nodes.
    pub fn start(addresses: Vec<SocketAddr>, count: usize, seed: u64) -> Clients {
        let shared = Arc::new(Shared {
            addresses: Mutex::new(addresses),
            start: Instant::now(),
            values: AtomicU64::new(1),
            stop: AtomicBool::new(false),
        });
        let threads = (0..count).map(|id| {
            let client = Client::new(id, Arc::clone(&shared), seed);
            std::thread::spawn(move || client.run())
        });
        let threads = threads.collect();
        Clients { shared, threads }
    }

    /// The time that operations are stamped with.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// One more node to go to.
    pub fn add(&self, address: SocketAddr) {
        self.shared.addresses.lock().expect("no client panics").push(address);
    }

    /// Stops them, then reads every key that was ever written once more: what is lost shows here
    /// at the latest. To be called when all nodes are well.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn finish(mut self) -> Result<Recorded, String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Recorded::default();
        for thread in self.threads.drain(..) {
            all.add(thread.join().map_err(|_| "a client panicked".to_owned())?);
        }
        let mut keys: Vec<u64> = all.records.iter().map(|record| record.operation.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let nodes = self.shared.addresses.lock().expect("no client panics").len();
        let readers = 1000;
        for node in 0..nodes {
            let failed = |error: &dyn std::fmt::Display| format!("node {node}: {error}");
            let address = self.shared.address(node);
            let mut conn =
                Conn::open_within(address, PATIENCE[0]).map_err(|error| failed(&error))?;
            for key in &keys {
                let invoked = self.shared.now();
                let reply = conn.call(&["GET", &name(*key)]).map_err(|error| failed(&error))?;
                let saw = state(&reply).ok_or_else(|| failed(&reply.text()))?;
                let client = readers + node as u64;
                let operation = Operation::read(client, *key, saw, invoked, self.shared.now());
                all.records.push(Record { operation, node });
            }
        }
        Ok(all)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of one has been told already.
            let _ = thread.join();
        }
    }
}

fn name(key: u64) -> String {
    format!("key:{key}")
}

/// What a GET was answered; None: an error.
fn state(reply: &Reply) -> Option<State> {
    if reply.is_error() {
        return None;
    }
    Some(if reply.is_null() { None } else { Some(reply.text().parse().expect("what was written")) })
}

struct Client {
    id: u64,
    shared: Arc<Shared>,
    rng: Rng,
    recorded: Recorded,
    conn: Option<Conn>,
    /// Where the connection leads.
    node: usize,
}

/// How a request ended.
enum End {
    Answered(Reply),
    /// It may take effect yet.
    Open,
    /// It was not executed.
    Refused,
}

impl Client {
    fn new(id: usize, shared: Arc<Shared>, seed: u64) -> Client {
        let rng = Rng::new(seed ^ (id as u64) << 40);
        Client { id: id as u64, shared, rng, recorded: Recorded::default(), conn: None, node: 0 }
    }

    fn run(mut self) -> Recorded {
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.connect() {
                self.act();
            }
            std::thread::sleep(Duration::from_micros(self.rng.below(PAUSE_US)));
        }
        self.recorded
    }

    /// To its home node mostly, else to any.
    fn connect(&mut self) -> bool {
        // A pool of connections looks too whether the server has said farewell.
        if self.conn.as_ref().is_some_and(|conn| !conn.is_closed()) && !self.rng.once_in(300) {
            return true;
        }
        let nodes = self.shared.addresses.lock().expect("no client panics").len();
        let at_home = !self.rng.once_in(2);
        let home = self.id as usize % nodes;
        self.node = if at_home { home } else { self.rng.below(nodes as u64) as usize };
        let address = self.shared.address(self.node);
        // Who cannot be reached at all is not waited for as long as an answer.
        let conn = Conn::open_within(address, Duration::from_secs(1));
        let patience = PATIENCE[self.id as usize % PATIENCE.len()];
        self.conn = conn.ok().filter(|c| c.stream().set_read_timeout(Some(patience)).is_ok());
        self.conn.is_some()
    }

    fn act(&mut self) {
        let since = self.shared.start.elapsed();
        let period = (since.as_millis() / KEYS_FOR.as_millis()) as u64;
        let key = period * KEYS + self.rng.below(KEYS);
        match self.rng.below(20) {
            0..=8 => self.write(key),
            9..=16 => self.read(key),
            17..=18 => self.swap(key),
            _ => self.compare_and_set(key),
        }
    }

    fn call(&mut self, args: &[&str]) -> End {
        let Some(mut conn) = self.conn.take() else { return End::Refused };
        match conn.call(args) {
            Ok(reply) if reply.is_error() => {
                self.recorded.failed += 1;
                let text = reply.text();
                // It says that it was not executed; anything else says nothing of that.
                let end = if text.starts_with("CLUSTERDOWN") { End::Refused } else { End::Open };
                self.recorded.note(text);
                end
            }
            Ok(reply) => {
                self.conn = Some(conn);
                End::Answered(reply)
            }
            Err(_) => {
                self.recorded.unknown += 1;
                End::Open
            }
        }
    }

    fn keep(&mut self, operation: Operation) {
        let node = self.node;
        self.recorded.records.push(Record { operation, node });
    }

    fn write(&mut self, key: u64) {
        let (value, invoked) = (self.shared.value(), self.shared.now());
        let end = self.call(&["SET", &name(key), &value.to_string()]);
        let operation = Operation::write(self.id, key, value, invoked, self.shared.now());
        match end {
            End::Answered(_) => self.keep(operation),
            End::Open => self.keep(operation.unanswered()),
            End::Refused => {}
        }
    }

    fn read(&mut self, key: u64) {
        let invoked = self.shared.now();
        if let End::Answered(reply) = self.call(&["GET", &name(key)])
            && let Some(saw) = state(&reply)
        {
            self.keep(Operation::read(self.id, key, saw, invoked, self.shared.now()));
        }
    }

    /// SET with GET: a write that tells what it replaced.
    fn swap(&mut self, key: u64) {
        let (value, invoked) = (self.shared.value(), self.shared.now());
        let end = self.call(&["SET", &name(key), &value.to_string(), "GET"]);
        let returned = self.shared.now();
        let blind = Operation::write(self.id, key, value, invoked, returned);
        match end {
            End::Answered(reply) => {
                let saw = state(&reply).expect("errors are not answers");
                self.keep(Operation { saw: Some(saw), ..blind });
            }
            End::Open => self.keep(blind.unanswered()),
            End::Refused => {}
        }
    }

    /// A transaction under WATCH: it replaces what was read, or does nothing.
    fn compare_and_set(&mut self, key: u64) {
        let (name, value) = (name(key), self.shared.value());
        let End::Answered(_) = self.call(&["WATCH", &name]) else { return };
        let read_at = self.shared.now();
        let End::Answered(reply) = self.call(&["GET", &name]) else { return };
        let saw = state(&reply).expect("errors are not answers");
        self.keep(Operation::read(self.id, key, saw, read_at, self.shared.now()));
        let End::Answered(_) = self.call(&["MULTI"]) else { return };
        let End::Answered(_) = self.call(&["SET", &name, &value.to_string()]) else { return };
        let invoked = self.shared.now();
        let end = self.call(&["EXEC"]);
        let operation = Operation::swap(self.id, key, (saw, value), invoked, self.shared.now());
        match end {
            // Something came between.
            End::Answered(reply) if reply.is_null() => {}
            End::Answered(_) => self.keep(operation),
            End::Open => self.keep(operation.unanswered()),
            End::Refused => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_the_longest_time_without_an_acknowledged_write() {
        let times = [10, 20, 50, 90];
        assert_eq!(gap(&times, 0, 15), Duration::from_nanos(10));
        assert_eq!(gap(&times, 15, 30), Duration::from_nanos(30));
        assert_eq!(gap(&times, 0, 100), Duration::from_nanos(40));
        assert_eq!(gap(&times, 60, 200), Duration::from_nanos(110));
        assert_eq!(gap(&times, 100, 200), Duration::from_nanos(110));
        assert_eq!(gap(&[], 100, 200), Duration::from_nanos(100));
    }
}
