//! The same commands to a node and to redis-server, replies compared byte for byte.
//!
//! A seed makes a stream of commands; [`generate`] says how. What may differ is in
//! `tests/differences.txt` with its reason, and [`compare`] holds the tolerance of each name there.
//! A stream that fails is shrunk before it is printed. `CAIRN_SEED=n` repeats one, `CAIRN_SEEDS=n`
//! runs that many new ones.

mod compare;
pub(crate) mod generate;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::peer::Peer;
use cairn_tests::resp::{Conn, Reply};
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};

use compare::{allows, scanned_score};
use generate::{Step, stream};

/// Steps of a stream.
const STEPS: usize = 400;
/// Streams that shrinking may try.
const SHRINK_TRIES: usize = 400;

/// Both servers.
struct Pair {
    node: Node,
    oracle: Peer,
}

/// Where a stream went wrong.
struct Mismatch {
    step: String,
    node: String,
    redis: String,
}

/// One stream's connections.
struct Run {
    node: Conn,
    redis: Conn,
    pending: Vec<Vec<Vec<u8>>>,
    /// What waits for EXEC.
    queued: Vec<Vec<Vec<u8>>>,
    /// SORT has run.
    sorted: bool,
}

impl Run {
    /// Empties both servers and connects to them anew.
    fn start(pair: &Pair, protocol: u8) -> io::Result<Run> {
        let mut node = open(pair.node.address(), protocol)?;
        let mut redis = open(pair.oracle.address(), protocol)?;
        node.call(&["FLUSHALL"])?;
        redis.call(&["FLUSHALL"])?;
        Ok(Run { node, redis, pending: Vec::new(), queued: Vec::new(), sorted: false })
    }

    fn step(&mut self, step: &Step) -> Result<(), Mismatch> {
        match step {
            Step::Call(args) => {
                if args[0].to_ascii_uppercase().starts_with(b"SORT") {
                    self.pending.push(forget_errno());
                    self.sorted = true;
                }
                self.pending.push(args.clone());
                Ok(())
            }
            Step::Scan { command, options } => {
                self.leave_transaction()?;
                let node = scan(&mut self.node, command, options);
                let redis = scan(&mut self.redis, command, options);
                same(step, &node, &redis)
            }
            Step::Pop { key, .. } => {
                self.leave_transaction()?;
                self.pop(key, &step.pop())
            }
            Step::Pause => {
                self.settle()?;
                std::thread::sleep(Duration::from_millis(6));
                Ok(())
            }
        }
    }

    /// Before a step that must see its replies at once.
    fn leave_transaction(&mut self) -> Result<(), Mismatch> {
        self.pending.push(vec![b"DISCARD".to_vec()]);
        self.settle()
    }

    /// Pops from a set of both; what the two drew differently is exchanged at redis-server.
    fn pop(&mut self, key: &[u8], args: &[Vec<u8>]) -> Result<(), Mismatch> {
        let node = self.node.call(args).expect("the node answers");
        let redis = self.redis.call(args).expect("redis-server answers");
        if node != redis && !self.allows(args, &node, &redis) {
            let (node, redis) = (format!("{node:?}"), format!("{redis:?}"));
            return Err(Mismatch { step: generate::show(args), node, redis });
        }
        let [node, redis] = [node, redis].map(|reply| popped(&reply));
        for (command, members) in [("SADD", &redis - &node), ("SREM", &node - &redis)] {
            if !members.is_empty() {
                let mut args = vec![command.as_bytes().to_vec(), key.to_vec()];
                args.extend(members);
                self.redis.call(&args).expect("redis-server answers");
            }
        }
        Ok(())
    }

    /// Sends the pipeline that has gathered, to both, and compares.
    fn settle(&mut self) -> Result<(), Mismatch> {
        let requests = std::mem::take(&mut self.pending);
        let node = self.node.call_all(&requests);
        let redis = self.redis.call_all(&requests).expect("redis-server answers");
        let node = node.map_err(|error| Mismatch {
            step: show_all(&requests),
            node: error.to_string(),
            redis: format!("{redis:?}"),
        })?;
        for ((args, node), redis) in requests.iter().zip(&node).zip(&redis) {
            if !self.is_same(args, node, redis) {
                return Err(Mismatch {
                    step: generate::show(args),
                    node: format!("{node:?}"),
                    redis: format!("{redis:?}"),
                });
            }
        }
        Ok(())
    }

    /// Whether the replies to a command are the same, or differ as they may. Those in EXEC's reply
    /// are judged by the commands that were queued.
    fn is_same(&mut self, args: &[Vec<u8>], node: &Reply, redis: &Reply) -> bool {
        match args[0].to_ascii_uppercase().as_slice() {
            _ if redis.text() == "QUEUED" => self.queued.push(args.to_vec()),
            b"EXEC" | b"DISCARD" | b"MULTI" if !redis.is_error() || args.len() > 1 => {
                let queued = std::mem::take(&mut self.queued);
                let replies = node.items().iter().zip(redis.items());
                return node == redis
                    || node.items().len() == redis.items().len()
                        && replies.len() == queued.len()
                        && !queued.is_empty()
                        && queued.iter().zip(replies).all(|(args, (node, redis))| {
                            node == redis || self.allows(args, node, redis)
                        });
            }
            _ => {}
        }
        node == redis || self.allows(args, node, redis)
    }

    fn allows(&self, args: &[Vec<u8>], node: &Reply, redis: &Reply) -> bool {
        allows(args, node, redis, self.sorted)
    }
}

/// Redis's SORT takes for its own what an earlier command left in `errno`; this one clears it.
fn forget_errno() -> Vec<Vec<u8>> {
    ["INCRBYFLOAT", "nosuch", "x"].map(|word| word.as_bytes().to_vec()).to_vec()
}

/// The members in a reply to SPOP.
fn popped(reply: &Reply) -> BTreeSet<Vec<u8>> {
    let one = std::slice::from_ref(reply);
    let members = if reply.items().is_empty() { one } else { reply.items() };
    let members = members.iter().filter(|member| !member.is_error());
    members.filter_map(|member| member.bytes().map(<[u8]>::to_vec)).collect()
}

fn open(address: SocketAddr, protocol: u8) -> io::Result<Conn> {
    match protocol {
        2 => Conn::open(address),
        other => Conn::open_with(address, other),
    }
}

fn show_all(requests: &[Vec<Vec<u8>>]) -> String {
    requests.iter().map(|args| generate::show(args)).collect::<Vec<_>>().join("; ")
}

/// What an iteration found, or the error that it began with.
type Found = Result<BTreeSet<Vec<Reply>>, String>;

/// A whole iteration. What HSCAN and ZSCAN find are pairs.
fn scan(conn: &mut Conn, command: &[Vec<u8>], options: &[Vec<u8>]) -> Found {
    let width = if matches!(command[0].first(), Some(b'H' | b'Z')) { 2 } else { 1 };
    let mut all = BTreeSet::new();
    let mut cursor = b"0".to_vec();
    loop {
        let request = [command, &[cursor], options].concat();
        let reply = conn.call(&request).map_err(|error| error.to_string())?;
        let [next, found] = reply.items() else { return Err(format!("{reply:?}")) };
        for part in found.items().chunks(width) {
            let mut part = part.to_vec();
            if let (Some(b'Z'), [_, score]) = (command[0].first(), &mut part[..]) {
                scanned_score(score);
            }
            all.insert(part);
        }
        cursor = next.bytes().unwrap_or_default().to_vec();
        if cursor == b"0" {
            return Ok(all);
        }
    }
}

fn same(step: &Step, node: &Found, redis: &Found) -> Result<(), Mismatch> {
    if node == redis {
        return Ok(());
    }
    Err(Mismatch { step: step.show(), node: format!("{node:?}"), redis: format!("{redis:?}") })
}

/// Runs a stream on empty servers. `seed` decides where pipelines are cut.
fn run(pair: &Pair, protocol: u8, seed: u64, steps: &[Step]) -> Result<(), Mismatch> {
    let mut rng = Rng::new(seed ^ 0xba7c);
    let mut run = Run::start(pair, protocol).expect("both servers answer");
    for step in steps {
        run.step(step)?;
        if rng.once_in(8) {
            run.settle()?;
        }
    }
    run.settle()
}

/// Takes steps out for as long as the rest still fails.
fn shrink(pair: &Pair, protocol: u8, seed: u64, mut steps: Vec<Step>) -> Vec<Step> {
    let mut tries = 0;
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() && tries < SHRINK_TRIES {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            tries += 1;
            match run(pair, protocol, seed, &fewer) {
                Err(_) => steps = fewer,
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    steps
}

/// Fails with a shrunk stream when the two servers answer differently.
fn judge(pair: &Pair, protocol: u8, seed: u64) {
    let steps = stream(seed, STEPS);
    let Err(first) = run(pair, protocol, seed, &steps) else { return };
    let steps = shrink(pair, protocol, seed, steps);
    let mismatch = run(pair, protocol, seed, &steps).err().unwrap_or(first);
    let shown: Vec<String> = steps.iter().map(Step::show).collect();
    panic!(
        "RESP{protocol}, seed {seed} (CAIRN_SEED={seed} repeats it): after\n  {}\nthe command\n  {}\
         \nis answered by cairn with\n  {}\nand by redis-server with\n  {}",
        shown.join("\n  "),
        mismatch.step,
        mismatch.node,
        mismatch.redis
    );
}

#[test]
fn replies_are_those_of_redis() {
    let Some(oracle) = Peer::oracle() else { return };
    let scratch = Scratch::new(Medium::Memory);
    let pair = Pair { node: NodeOptions::new(scratch.path()).start(), oracle };
    let seeds = seeds(40);
    eprintln!("differential: {} seeds from {}", seeds.len(), seeds[0]);
    for seed in seeds {
        judge(&pair, 2, seed);
        judge(&pair, 3, seed);
    }
}
