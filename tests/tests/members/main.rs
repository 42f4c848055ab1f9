//! Three members of a group in one process, over the in-memory network: one leads, each takes
//! writes and reads, and what was acknowledged survives the leader.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_node::ops::config::{Durability, Reads};
use cairn_node::ops::metrics::Metrics;
use cairn_node::raft::recover::{self, Options};
use cairn_node::raft::runtime::Executor;
use cairn_node::raft::{Attendant, Group, Role, Standing, Submission, Way, start};
use cairn_node::transport::mem::{Fate, Flight, MemNetwork, Scheduler};
use cairn_node::transport::{BoxFuture, Handler, Incoming, SharedTransport, Transport};
use cairn_protocol::cluster::message::Refused;
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::command::{Place, resolve};
use cairn_protocol::ids::{ClusterId, NodeId};
use cairn_protocol::resp::Argv;
use tokio::runtime::Handle;

/// Delivers at once, on a runtime of its own.
struct OnRuntime(Handle);

impl Scheduler for OnRuntime {
    fn fate(&self, _: &Flight) -> Fate {
        Fate::Deliver(Duration::ZERO)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let slept = self.0.spawn(async move { tokio::time::sleep(duration).await });
        Box::pin(async move {
            // It ends early only with the runtime.
            let _ = slept.await;
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.0.spawn(task);
    }
}

struct Answers {
    group: Arc<Group>,
    metrics: Metrics,
}

impl Handler for Answers {
    fn handle(&self, incoming: Incoming) -> BoxFuture<Result<Reply, Refused>> {
        match incoming.request {
            Request::Forward(forward) => {
                let group = Arc::clone(&self.group);
                let served = group.serve(incoming.from, forward, self.metrics.shard());
                Box::pin(async move { served.await.map(Reply::Forward) })
            }
            request => self.group.answer(request),
        }
    }
}

struct MemberNode {
    id: NodeId,
    group: Arc<Group>,
    attendant: Attendant,
    metrics: Metrics,
}

const NODES: [NodeId; 3] = [NodeId(11), NodeId(12), NodeId(13)];

fn address(id: NodeId) -> String {
    format!("node-{}:1", id.0)
}

impl MemberNode {
    fn start(network: &MemNetwork, id: NodeId, dir: &Path, first: bool) -> MemberNode {
        let transport = network.join(id, &address(id), ClusterId([7; 16]));
        let shared: SharedTransport = Arc::new(transport.clone());
        let capacity_bytes = 64 << 20;
        let options =
            Options { dir, durability: Durability::Always, capacity_bytes, member: Some([3, 5]) };
        let recovery = recover::recover(options).expect("recovers");
        let metrics = Metrics::new(0);
        let stats = [metrics.shard(), metrics.shard()];
        let first = first.then(|| NODES.map(|id| (id, address(id))).to_vec());
        let standing = Standing::Member {
            transport: shared,
            first,
            has_voted: false,
            keep_bytes: 128 << 20,
            reads: Reads::Lease,
        };
        let (executor, on_stop) = (Executor::new(), Box::new(|_: &_| ()));
        let started = start::start(recovery, executor, standing, capacity_bytes, stats, on_stop);
        let group = started.expect("starts").0;
        transport.serve(Arc::new(Answers { group: Arc::clone(&group), metrics: Metrics::new(0) }));
        let attendant = Attendant::start(Arc::clone(&group)).expect("a thread");
        MemberNode { id, group, attendant, metrics }
    }

    async fn call(&self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let argv = Argv::from(&words[..]);
        let spec = resolve(argv).expect("a command");
        let mut submission = Submission::new();
        let stats = self.metrics.shard();
        match spec.place {
            Place::Write => submission.batch().push_write(spec, 0, argv, false),
            _ => submission.batch().push_read(spec, 0, argv, false),
        }
        let mut way = Way::new(&self.group, 1, &stats, &mut submission);
        way.run().await;
        if way.is_lost() {
            return "lost".to_owned();
        }
        let mut replies = Vec::new();
        way.batch().take_replies(&mut replies);
        String::from_utf8(replies).expect("text")
    }
}

fn leader(nodes: &[MemberNode]) -> usize {
    let start = Instant::now();
    loop {
        if let Some(at) = nodes.iter().position(|node| node.group.role() == Role::Leader) {
            return at;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "nobody leads");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn three_members_agree_and_outlive_their_leader() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let network = MemNetwork::new(Arc::new(OnRuntime(runtime.handle().clone())));
    let dirs = NODES.map(|_| tempfile::tempdir_in("/dev/shm").expect("a directory"));
    let mut nodes: Vec<MemberNode> = NODES
        .iter()
        .zip(&dirs)
        .map(|(id, dir)| MemberNode::start(&network, *id, dir.path(), true))
        .collect();
    leader(&nodes);
    runtime.block_on(async {
        for (at, node) in nodes.iter().enumerate() {
            assert_eq!(node.call(&format!("SET key{at} {at}")).await, "+OK\r\n");
        }
        for node in &nodes {
            for at in 0..3 {
                let got = node.call(&format!("GET key{at}")).await;
                assert_eq!(got, format!("$1\r\n{at}\r\n"));
            }
            if !node.group.leads() {
                // The leader leaves what takes long to the connection that asks.
                assert_eq!(node.call("KEYS nosuch*").await, "*0\r\n");
            }
        }
    });
    let fallen = nodes.remove(leader(&nodes));
    network.leave(fallen.id);
    fallen.attendant.stop();
    let since = Instant::now();
    runtime.block_on(async {
        assert_eq!(nodes[0].call("SET key0 again").await, "+OK\r\n");
        println!("writes again after {:?}", since.elapsed());
        assert_eq!(nodes[1].call("GET key0").await, "$5\r\nagain\r\n");
    });
    nodes.into_iter().for_each(|node| node.attendant.stop());
}
