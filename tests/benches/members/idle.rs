//! Many groups with nothing to do.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_node::ops::config::{Durability, Reads};
use cairn_node::ops::host;
use cairn_node::ops::metrics::Metrics;
use cairn_node::raft::recover::{self, Options as Recovering};
use cairn_node::raft::runtime::Executor;
use cairn_node::raft::{Attendant, Distance, Group, Parts, Standing};
use cairn_node::transport::quic::{Limits, Options, QuicTransport};
use cairn_node::transport::tls::Identity;
use cairn_node::transport::{BoxFuture, Handler, Incoming, SharedTransport, Transport, refused};
use cairn_protocol::cluster::Reply;
use cairn_protocol::cluster::message::{Refused, RefusedCode};
use cairn_protocol::ids::{ClusterId, NodeId, ShardId};
use cairn_tests::bench::{Table, seconds};
use cairn_tests::process;
use cairn_tests::scratch::{Medium, Scratch};
use parking_lot::RwLock;

const GROUPS: u32 = 64;
const NODES: [NodeId; 3] = [NodeId(11), NodeId(12), NodeId(13)];
const SECRET: &str = "8f2d6c1e9b3a4f5071829304a5b6c7d8";

/// A node's groups, by shard.
#[derive(Default)]
struct Groups(RwLock<HashMap<ShardId, Arc<Group>>>);

impl Handler for Groups {
    fn handle(&self, incoming: Incoming) -> BoxFuture<Result<Reply, Refused>> {
        let group = self.0.read().get(&incoming.shard).cloned();
        match group {
            Some(group) => group.answer(incoming.request),
            None => {
                let nobody = Err(refused(RefusedCode::Unavailable, "this shard is not here yet"));
                Box::pin(std::future::ready(nobody))
            }
        }
    }
}

fn transport(id: NodeId) -> QuicTransport {
    let options = Options {
        identity: Identity::from_secrets(id, SECRET).expect("an identity"),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: String::new(),
        cluster: ClusterId([7; 16]),
        boot_id: [0; 16],
        limits: Limits::default(),
    };
    QuicTransport::start(options).expect("a transport")
}

fn member(
    shard: ShardId,
    node: NodeId,
    dir: &std::path::Path,
    transport: SharedTransport,
    first: Vec<(NodeId, String)>,
) -> Arc<Group> {
    let recovering = Recovering {
        dir,
        durability: Durability::Always,
        capacity_bytes: 64 << 20,
        member: Some([3, 5]),
    };
    let recovery = recover::recover(recovering).expect("a new member");
    let metrics = Metrics::new(0);
    let (engine, home, log) = (recovery.engine, recovery.home, recovery.log);
    let executor = Executor::new();
    let parts = Parts { shard, node, boot_id: [0; 16], engine, home, log, executor };
    let standing = Standing::Member {
        transport,
        first: Some(first),
        has_voted: false,
        keep_bytes: 1 << 20,
        reads: Reads::Lease,
        distance: Distance::default(),
    };
    let stats = [metrics.shard(), metrics.shard()];
    Group::start(parts, standing, stats, Box::new(|_| ())).expect("the group starts")
}

/// Starts the groups, waits until each has a leader, and measures while nothing happens.
pub fn run() {
    let (dir, pid) = (Scratch::new(Medium::Memory), std::process::id());
    let transports = NODES.map(transport);
    let first: Vec<(NodeId, String)> = NODES
        .iter()
        .zip(&transports)
        .map(|(id, transport)| (*id, transport.local_address().to_string()))
        .collect();
    let nodes = [(); 3].map(|()| Arc::<Groups>::default());
    let shared: Vec<SharedTransport> = transports
        .into_iter()
        .zip(&nodes)
        .map(|(transport, groups)| {
            transport.serve(Arc::clone(groups) as Arc<dyn Handler>);
            Arc::new(transport) as SharedTransport
        })
        .collect();
    let bytes_before = process::status_bytes(pid, "RssAnon");
    let mut attendants = Vec::new();
    for shard in (0..GROUPS).map(ShardId) {
        for (at, node) in NODES.into_iter().enumerate() {
            let dir = dir.path().join(format!("{}-{at}", shard.0));
            std::fs::create_dir(&dir).expect("a directory can be made");
            let group = member(shard, node, &dir, Arc::clone(&shared[at]), first.clone());
            attendants.push(Attendant::start(Arc::clone(&group)).expect("a thread"));
            nodes[at].0.write().insert(shard, group);
        }
    }
    let led = || {
        (0..GROUPS).map(ShardId).filter(|shard| {
            nodes.iter().any(|node| node.0.read().get(shard).is_some_and(|group| group.leads()))
        })
    };
    let all_led = || led().count() == GROUPS as usize;
    assert!(process::eventually(Duration::from_secs(60), all_led), "not every group has a leader");
    // What their births set off is over by then.
    std::thread::sleep(Duration::from_secs(2));
    let leaders = || nodes.iter().map(|n| n.0.read().values().filter(|g| g.leads()).count());
    let terms = || -> u64 {
        nodes.iter().map(|n| n.0.read().values().map(|g| g.term().0).sum::<u64>()).sum()
    };
    let (terms_before, start) = (terms(), Instant::now());
    let cpu = || {
        let (user, system) = host::cpu_seconds();
        user + system
    };
    let cpu_before = cpu();
    std::thread::sleep(seconds(10.0));
    let took = start.elapsed().as_secs_f64();
    let cores = (cpu() - cpu_before) / took;
    let bytes = process::status_bytes(pid, "RssAnon") - bytes_before;
    let groups = f64::from(GROUPS);
    let mut table = Table::new(&["", "all", "a group of three", "a member"]);
    let row = |what: &str, all: f64| {
        let cells = [all, all / groups, all / groups / 3.0].map(|number| format!("{number:.2}"));
        [what.to_owned()].into_iter().chain(cells).collect()
    };
    table.row(row("% of a core", cores * 100.0));
    table.row(row("KiB of its own", bytes as f64 / 1024.0));
    let leaders: Vec<usize> = leaders().collect();
    println!("{GROUPS} idle groups for {took:.0} s; the nodes lead {leaders:?} of them:\n");
    table.print();
    assert_eq!(terms(), terms_before, "a leader was lost meanwhile");
    attendants.into_iter().for_each(Attendant::stop);
}
