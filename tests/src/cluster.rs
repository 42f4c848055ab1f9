//! A cluster of `cairn` processes on this machine, of one test's own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cairn_engine::state_hash;
use cairn_store::{PoolOptions, Store};

use crate::node::{Node, NodeOptions};
use crate::ports::{self, PEERS_ABOVE};
use crate::resp::{Conn, Reply};

/// What the nodes of every test's cluster share.
pub const SECRET: &str = "6f1c1f0d4b5a4c3e9a7d2f6e8b1a0c9d6f1c1f0d4b5a4c3e9a7d2f6e8b1a0c9d";
/// How long a cluster may take to agree on something.
const PATIENCE: Duration = Duration::from_secs(20);

/// Several nodes, mostly three; some of them may be down.
pub struct Cluster {
    options: Vec<NodeOptions>,
    /// None: it is down.
    pub nodes: Vec<Option<Node>>,
}

impl Cluster {
    /// The command lines of three nodes with their data below `dir`; none is started.
    pub fn plan(dir: &std::path::Path) -> Cluster {
        let first = ports::claim(3);
        let peer = |port| port + PEERS_ABOVE;
        let join = (first..first + 3).map(|port| format!("127.0.0.1:{}", peer(port)));
        let join: Vec<String> = join.collect();
        let dirs: Vec<PathBuf> = (0..3).map(|at| dir.join(format!("node-{at}"))).collect();
        let options = (first..).zip(&dirs).map(|(port, dir)| {
            NodeOptions::new(dir)
                .set("port", &port.to_string())
                .set("peer-port", &peer(port).to_string())
                .set("join", &join.join(","))
                .set("expect", "3")
                .set("cluster-secret", SECRET)
                .set("memory", "256mb")
        });
        Cluster::of(options.collect())
    }

    /// A cluster of nodes with these command lines; none is started.
    pub fn of(options: Vec<NodeOptions>) -> Cluster {
        let nodes = options.iter().map(|_| None).collect();
        Cluster { options, nodes }
    }

    /// One more node, which is down.
    pub fn add(&mut self, options: NodeOptions) {
        self.options.push(options);
        self.nodes.push(None);
    }

    /// Three nodes, started at once.
    pub fn start(dir: &std::path::Path) -> Cluster {
        Cluster::plan(dir).started()
    }

    /// The same with all of them started at once.
    pub fn started(self) -> Cluster {
        let mut cluster = self;
        std::thread::scope(|scope| {
            let started: Vec<_> =
                cluster.options.iter().map(|options| scope.spawn(|| options.start())).collect();
            cluster.nodes =
                started.into_iter().map(|node| Some(node.join().expect("a node starts"))).collect();
        });
        cluster
    }

    /// One more option for all nodes that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.options =
            self.options.iter().map(|options| options.clone().set(name, value)).collect();
    }

    /// One more option for one node.
    pub fn set_for(&mut self, at: usize, name: &str, value: &str) {
        self.options[at] = self.options[at].clone().set(name, value);
    }

    /// Another build for one node, from its next start on.
    pub fn program_for(&mut self, at: usize, program: &std::path::Path) {
        self.options[at] = self.options[at].clone().program(program);
    }

    /// Removes what a node that is down has, as a new disk would.
    pub fn wipe(&mut self, at: usize) {
        assert!(self.nodes[at].is_none(), "node {at} is up");
        std::fs::remove_dir_all(self.options[at].dir()).expect("its directory can be removed");
    }

    /// The command line of a node.
    pub fn options(&self, at: usize) -> NodeOptions {
        self.options[at].clone()
    }

    /// Starts a node that is down.
    pub fn up(&mut self, at: usize) {
        assert!(self.nodes[at].is_none(), "node {at} is up");
        self.nodes[at] = Some(self.options[at].start());
    }

    /// Ends a node at once, as `kill -9` does.
    pub fn kill9(&mut self, at: usize) {
        self.nodes[at].take().expect("it is up").kill9();
    }

    /// Asks a node to stop in order, and waits until it has.
    pub fn stop(&mut self, at: usize) {
        let (_, status) = self.nodes[at].take().expect("it is up").stop();
        assert!(status.success(), "node {at} ended with {status}");
    }

    /// A node that is up.
    pub fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("it is up")
    }

    /// Where the nodes that are up listen for clients.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().flatten().map(Node::address).collect()
    }

    /// The node that leads, once there is one.
    pub fn leader(&self) -> usize {
        let start = Instant::now();
        loop {
            let leads = |node: &Node| node.info("role") == "master";
            let leader = self.nodes.iter().position(|node| node.as_ref().is_some_and(leads));
            if let Some(leader) = leader {
                return leader;
            }
            assert!(start.elapsed() < PATIENCE, "nobody leads");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until all have applied the same entries, stops them, and compares what they hold.
    pub fn assert_equal(mut self) {
        self.leader();
        let start = Instant::now();
        loop {
            let applied: Vec<String> =
                self.nodes.iter().flatten().map(|node| node.info("master_repl_offset")).collect();
            if applied.len() == self.nodes.len() && applied.iter().all(|index| *index == applied[0])
            {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "the nodes do not come together: {applied:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Followers first: the leader would hand over, and the others note it with an entry.
        let leader = self.leader();
        let order = (0..self.nodes.len()).filter(|at| *at != leader).chain([leader]);
        let hashes: Vec<u64> = order
            .map(|at| {
                self.stop(at);
                hash_of(&self.options[at].dir().join("shard-0.pool"))
            })
            .collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "states differ: {hashes:x?}");
    }
}

/// The hash of what a stopped node's pool holds.
fn hash_of(pool: &std::path::Path) -> u64 {
    let options = PoolOptions { capacity_bytes: 1 << 30, new_hash_key: [0, 0], new_uuid: [0; 16] };
    let (store, _, _) = Store::open_file(pool, &options).expect("the pool opens");
    state_hash(store.view()).expect("the state can be read")
}

/// A connection on which nothing takes longer than `patience`.
///
/// # Errors
/// Nobody listens there.
pub fn open(address: SocketAddr, patience: Duration) -> std::io::Result<Conn> {
    Conn::open_within(address, patience)
}

/// Repeats a call on a new connection until it is answered without an error.
pub fn insist(address: SocketAddr, args: &[&str]) -> Reply {
    let start = Instant::now();
    loop {
        let answer = open(address, Duration::from_secs(5)).and_then(|mut conn| conn.call(args));
        match answer {
            Ok(reply) if !reply.is_error() => return reply,
            other => assert!(start.elapsed() < PATIENCE, "{args:?} is answered with {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
