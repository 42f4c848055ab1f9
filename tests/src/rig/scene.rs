//! A cluster, its network, its clients, and what is made of them in the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clients::{Clients, Record, Recorded, gap};
use super::namespaces::{Namespaces, peer_address, peer_ip};
use super::switch::Switch;
use crate::cluster::{Cluster, SECRET};
use crate::linearize;
use crate::mount::{self, Mounted};
use crate::node::NodeOptions;
use crate::process;
use crate::resp::{Conn, Reply};
use crate::rng::Rng;
use crate::scratch::{Medium, Scratch};

/// How long a cluster may take until all is well again after a fault.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients at work; two at each of three nodes.
const CLIENTS: usize = 6;
/// Entries that a follower may lack and still count as being there.
const LAG: i64 = 2000;
/// For so long after it was cut off a leader may answer reads by right of its lease, with some room
/// for threads that wait for a processor.
const LEASE: Duration = Duration::from_millis(600);

/// How a scene begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What random choices follow from.
    pub seed: u64,
    /// Nodes at first.
    pub nodes: usize,
    /// Nodes that may be added.
    pub spare: usize,
    /// Where their data lies.
    pub medium: Medium,
    /// How large an ext4 of its own, in a file there, each node has.
    pub disk_mib: Option<u64>,
}

/// What a scene came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Operations that were judged.
    pub operations: usize,
    /// Requests answered with an error.
    pub failed: u64,
    /// Requests not answered.
    pub unknown: u64,
    /// The longest time without an acknowledged write around each fault.
    pub gaps: Vec<Duration>,
    /// Answers that were errors, some of them.
    pub errors: Vec<String>,
    /// What else is worth telling.
    pub notes: Vec<String>,
}

/// A time in which some nodes could not reach a majority.
struct Minority {
    nodes: Vec<usize>,
    from: u64,
    until: u64,
}

/// How a node sees its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its own id.
    pub node: String,
    /// Does it lead?
    pub leads: bool,
    /// Who does, as far as it knows; empty: it does not.
    pub leader: String,
    /// The term it is in.
    pub term: i64,
    /// Of the members: address, whether it votes, how many entries it lacks (-1: not known).
    pub members: Vec<(String, bool, i64)>,
}

/// A cluster under load.
pub struct Scene {
    // Dropped in this order: nodes before the networks they are in.
    clients: Option<Clients>,
    /// The nodes.
    pub cluster: Cluster,
    /// The wire between them.
    pub switch: Switch,
    namespaces: Arc<Namespaces>,
    disks: Vec<Mounted>,
    scratch: Scratch,
    /// For the choices of faults.
    pub rng: Rng,
    spans: Vec<(u64, u64)>,
    minorities: Vec<Minority>,
    notes: Vec<String>,
}

impl Scene {
    /// A cluster under load. `adapt` changes a node's command line.
    ///
    /// # Errors
    /// Networks cannot be made here.
    pub fn start(
        setup: &Setup,
        adapt: impl Fn(usize, NodeOptions) -> NodeOptions,
    ) -> Result<Scene, String> {
        let scratch = Scratch::new(setup.medium);
        let namespaces = Arc::new(Namespaces::new(setup.nodes + setup.spare)?);
        let switch = Switch::start(Arc::clone(&namespaces), setup.seed);
        let switch = switch.map_err(|error| format!("the switch: {error}"))?;
        let (clients, rng) = (None, Rng::new(setup.seed));
        let cluster = Cluster::of(Vec::new());
        let (disks, spans, minorities, notes) = Default::default();
        let mut scene = Scene {
            clients,
            cluster,
            switch,
            namespaces,
            disks,
            scratch,
            rng,
            spans,
            minorities,
            notes,
        };
        for at in 0..setup.nodes {
            if let Some(mib) = setup.disk_mib {
                scene.disks.push(disk(&scene.dir(at), mib)?);
            }
            let options = adapt(at, scene.options(at, setup.nodes));
            scene.cluster.add(options);
        }
        let cluster = std::mem::replace(&mut scene.cluster, Cluster::of(Vec::new()));
        scene.cluster = cluster.started();
        scene.steady();
        let addresses = (0..setup.nodes).map(|at| scene.address(at)).collect();
        scene.clients = Some(Clients::start(addresses, CLIENTS.max(setup.nodes), setup.seed));
        scene.pause_for(300..301);
        Ok(scene)
    }

    fn dir(&self, at: usize) -> PathBuf {
        self.scratch.path().join(format!("node-{at}"))
    }

    /// The command line of a node of a cluster that `expect` nodes begin.
    pub fn options(&self, at: usize, expect: usize) -> NodeOptions {
        let join: Vec<String> = (0..expect).map(|other| peer_address(other).to_string()).collect();
        NodeOptions::new(&self.dir(at))
            .set("port", &super::namespaces::CLIENT_PORT.to_string())
            .set("bind", &format!("{} {}", peer_ip(at), self.address(at).ip()))
            .set("protected-mode", "no")
            .set("join", &join.join(","))
            .set("expect", &expect.to_string())
            .set("cluster-secret", SECRET)
            .set("memory", "256mb")
            // Two processors are shared by all of them.
            .set("io-threads", "1")
            .within(&["ip", "netns", "exec", &self.namespaces.node(at)])
            .reached_at(self.address(at))
    }

    /// Where clients reach a node.
    pub fn address(&self, at: usize) -> SocketAddr {
        self.namespaces.client_address(at)
    }

    /// Starts one more node, and has clients go there too.
    pub fn join(&mut self, expect: usize) {
        let at = self.cluster.nodes.len();
        self.cluster.add(self.options(at, expect));
        self.cluster.up(at);
        self.clients().add(self.address(at));
    }

    fn clients(&self) -> &Clients {
        self.clients.as_ref().expect("they are at work until the end")
    }

    /// Takes the way of clients to a node away, or gives it back.
    pub fn reach(&self, at: usize, reachable: bool) {
        self.namespaces.reach(at, reachable);
    }

    /// The nodes that are up.
    pub fn up(&self) -> Vec<usize> {
        (0..self.cluster.nodes.len()).filter(|at| self.cluster.nodes[*at].is_some()).collect()
    }

    /// How a node sees its group; None: it does not say.
    pub fn status(&self, at: usize) -> Option<Status> {
        let mut conn = Conn::open_within(self.address(at), Duration::from_millis(500)).ok()?;
        let reply = conn.call(&["CAIRN.RAFT", "STATUS"]).ok()?;
        let members = field(&reply, "members")?.items().iter().map(|member| {
            let lag = field(member, "lag")?.int()?;
            let votes = field(member, "voter")?.int()? == 1;
            Some((field(member, "address")?.text(), votes, lag))
        });
        Some(Status {
            node: field(&reply, "node")?.text(),
            leads: field(&reply, "role")?.text() == "leader",
            leader: field(&reply, "leader")?.text(),
            term: field(&reply, "term")?.int()?,
            members: members.collect::<Option<_>>()?,
        })
    }

    /// The node that leads in the newest term, once there is one.
    ///
    /// # Panics
    /// When nobody does for a long time.
    pub fn leader(&self) -> usize {
        let start = Instant::now();
        loop {
            let all = self.up().into_iter().filter_map(|at| Some((at, self.status(at)?)));
            let leader = all.filter(|(_, s)| s.leads).max_by_key(|(_, s)| s.term);
            if let Some((leader, _)) = leader {
                return leader;
            }
            assert!(start.elapsed() < PATIENCE, "nobody leads");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A node that is up and does not lead.
    pub fn follower(&mut self) -> usize {
        let leader = self.leader();
        let others: Vec<usize> = self.up().into_iter().filter(|at| *at != leader).collect();
        *self.rng.pick(&others)
    }

    /// Waits until all nodes follow one leader, vote, have what it has, and take writes.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn steady(&mut self) {
        let start = Instant::now();
        let mut last = String::new();
        while let Err(why) = self.is_steady() {
            last = why;
            if start.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(start.elapsed() < PATIENCE, "the cluster does not come together: {last}");
    }

    fn is_steady(&self) -> Result<(), String> {
        let nodes = self.cluster.nodes.len();
        let mut all = Vec::new();
        for at in 0..nodes {
            all.push(self.status(at).ok_or_else(|| format!("node {at} does not answer"))?);
        }
        let mut leaders = all.iter().filter(|status| status.leads);
        let leader = leaders.next().ok_or("nobody leads")?;
        let follow = all.iter().all(|status| status.leader == leader.node);
        if leaders.next().is_some() || !follow {
            return Err(format!("they do not agree who leads: {all:?}"));
        }
        let there = |member: &&(String, bool, i64)| member.1 && (0..LAG).contains(&member.2);
        if leader.members.iter().filter(there).count() < nodes {
            return Err(format!("members lag behind: {:?}", leader.members));
        }
        for at in 0..nodes {
            let conn = Conn::open_within(self.address(at), Duration::from_secs(2));
            let reply = conn.and_then(|mut conn| conn.call(&["SET", "steady", "x"]));
            match reply {
                Ok(reply) if !reply.is_error() => {}
                other => return Err(format!("node {at} takes no writes: {other:?}")),
            }
        }
        Ok(())
    }

    /// Waits for a time between two numbers of milliseconds.
    pub fn pause_for(&mut self, ms: std::ops::Range<u64>) {
        let ms = ms.start + self.rng.below(ms.end - ms.start);
        std::thread::sleep(Duration::from_millis(ms));
    }

    /// Does something, and counts the longest time without an acknowledged write around it.
    pub fn measured(&mut self, act: impl FnOnce(&mut Scene)) {
        let from = self.clients().now();
        act(self);
        self.spans.push((from, self.clients().now()));
    }

    /// Waits while `nodes` cannot reach a majority: what they acknowledge meanwhile is an error.
    pub fn in_minority(&mut self, nodes: &[usize], wait: impl FnOnce(&mut Scene)) {
        let from = self.clients().now();
        wait(self);
        let until = self.clients().now();
        self.minorities.push(Minority { nodes: nodes.to_vec(), from, until });
    }

    /// Something worth telling with the result.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Sends a signal to a node.
    pub fn signal(&self, at: usize, name: &str) {
        process::signal(self.cluster.node(at).pid(), name);
    }

    /// Stops a node until it is sent CONT.
    pub fn freeze(&self, at: usize) {
        process::pause(self.cluster.node(at).pid());
    }

    /// One request to a node.
    pub fn call(&self, at: usize, args: &[&str]) -> std::io::Result<Reply> {
        Conn::open_within(self.address(at), Duration::from_secs(30))?.call(args)
    }

    /// Heals everything, waits until all is well, stops the clients and judges what they saw and
    /// what the nodes hold. Stops the nodes.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(mut self) -> Result<Report, String> {
        self.switch.heal();
        self.steady();
        self.pause_for(300..301);
        let recorded = self.clients.take().expect("they are at work").finish()?;
        let history = recorded.history();
        linearize::check(&history).map_err(|violation| violation.to_string())?;
        judge_minorities(&self.minorities, &recorded.records)?;
        let acknowledged = recorded.acknowledged();
        if acknowledged.is_empty() {
            return Err("no write was ever acknowledged".to_owned());
        }
        let gaps = self.spans.iter().map(|(from, until)| gap(&acknowledged, *from, *until));
        let Recorded { failed, unknown, errors, .. } = recorded;
        let gaps = gaps.collect();
        let notes = std::mem::take(&mut self.notes);
        // Its panic names the states that differ.
        self.cluster.assert_equal();
        Ok(Report { operations: history.len(), failed, unknown, gaps, errors, notes })
    }
}

/// A file system for a node's directory.
fn disk(dir: &Path, mib: u64) -> Result<Mounted, String> {
    let image = dir.with_extension("ext4");
    mount::make("ext4", mib, &image)?;
    Mounted::file(&image, dir)
}

/// Nothing that a minority was asked may be acknowledged. That it was asked to write at all is
/// demanded too, unless there was no time for it.
fn judge_minorities(minorities: &[Minority], records: &[Record]) -> Result<(), String> {
    let mut asked = 0;
    for minority in minorities {
        asked += judge_minority(minority, records)?;
    }
    let lasted: u64 = minorities.iter().map(|minority| minority.until - minority.from).sum();
    match asked {
        0 if lasted > 4 * LEASE.as_nanos() as u64 => Err("no minority was ever written to".into()),
        _ => Ok(()),
    }
}

/// No write may be acknowledged, and no read once the lease has run out. Returns how many writes
/// were tried.
fn judge_minority(minority: &Minority, records: &[Record]) -> Result<u64, String> {
    let Minority { nodes, from, until } = minority;
    let lease = LEASE.as_nanos() as u64;
    let mut asked = 0;
    for Record { operation, node } in records.iter().filter(|record| nodes.contains(&record.node)) {
        let is_write = operation.wrote.is_some();
        let starts = if is_write { *from } else { from + lease };
        if !(starts..*until).contains(&operation.invoked) {
            continue;
        }
        asked += u64::from(is_write);
        if operation.returned.is_some_and(|returned| returned < *until) {
            return Err(format!("node {node} had no majority and yet {operation}: {operation:?}"));
        }
    }
    Ok(asked)
}

/// The value of a key of a flat map.
fn field<'a>(map: &'a Reply, name: &str) -> Option<&'a Reply> {
    map.items().chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| &pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Operation;

    /// The operation at node 2, which is a minority from 1 s to 5 s.
    fn judged(operation: Operation) -> Result<(), String> {
        let minority = Minority { nodes: vec![2], from: SECOND, until: 5 * SECOND };
        judge_minorities(&[minority], &[Record { operation, node: 2 }])
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_minority_may_acknowledge_nothing_and_must_have_been_asked() {
        let write =
            |from: u64, until: u64| Operation::write(1, 0, 7, from * SECOND, until * SECOND);
        let read = |from: u64, until: u64| Operation::read(1, 0, None, from, until);
        assert!(judged(write(2, 3)).is_err_and(|why| why.contains("had no majority")));
        assert_eq!(judged(write(2, 6)), Ok(()), "answered when it was none any more");
        assert_eq!(judged(write(2, 3).unanswered()), Ok(()));
        assert!(judged(write(0, 3)).is_err_and(|why| why.contains("was ever written to")));
        let lease = LEASE.as_nanos() as u64;
        let read_late = judged(read(SECOND + lease, 3 * SECOND));
        assert!(read_late.is_err_and(|why| why.contains("reads nothing")));
        let read_early = judged(read(SECOND + lease / 2, 3 * SECOND));
        assert!(read_early.is_err_and(|why| why.contains("was ever written to")));
    }
}
