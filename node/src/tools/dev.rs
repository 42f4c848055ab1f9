//! `cairn dev`: a cluster on this machine in one command, for trying things out and for tests of
//! applications. The nodes are processes of their own, so that one can be killed to see what happens.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::health::{NEEDS_LEADER, ask};
use super::say;
use crate::cluster::identity::{Identity, IdentityFile};
use crate::ops::config::{DevArgs, PEER_PORT_OFFSET};
use crate::ops::signals::Signals;
use crate::ops::{clock, entropy};
use crate::server::info::client_address;

/// How long the nodes may take to become a cluster.
const START: Duration = Duration::from_secs(60);
/// How long they may take to stop when asked to.
const STOP: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
/// What is shown of the log of a node that ended at its start.
const TAIL_LINES: usize = 5;

/// Starts the nodes, waits for Ctrl-C or SIGTERM, stops them.
///
/// # Errors
/// A node does not start, or ended and was the last.
pub fn dev(args: &DevArgs) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    let plan = Plan::new(args)?;
    runtime.block_on(async {
        // Before the first node, so that none is left behind.
        let mut end = Signals::hear()?;
        let mut nodes = Nodes::start(&plan)?;
        let ended = tokio::select! {
            ready = nodes.ready(args.port) => match ready {
                Ok(()) => nodes.watch(&mut end).await,
                Err(why) => Err(why),
            },
            _ = end.asked() => Ok(()),
        };
        nodes.stop(&mut end).await;
        ended
    })
}

/// The command lines.
struct Plan {
    dir: PathBuf,
    secret: String,
    /// The ports for clients.
    ports: Vec<u16>,
    memory: String,
}

impl Plan {
    fn new(args: &DevArgs) -> Result<Plan, String> {
        let ports: Option<Vec<u16>> = (0..args.nodes)
            .map(|at| args.port.checked_add(at).filter(|port| *port < u16::MAX - PEER_PORT_OFFSET))
            .collect();
        let ports = ports.filter(|_| args.port > 0).ok_or_else(|| {
            format!("--port {} leaves no ports for the peers of {} nodes", args.port, args.nodes)
        })?;
        check_free(&ports)?;
        let dir = args.dir.clone();
        fs::create_dir_all(&dir)
            .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        let plan = Plan { secret: secret(&dir)?, dir, ports, memory: args.memory.clone() };
        plan.check_ports()?;
        Ok(plan)
    }

    /// The peers of a cluster find each other where they were when it was born: with other ports
    /// its nodes would wait for each other until somebody gave up.
    fn check_ports(&self) -> Result<(), String> {
        for at in 0..self.ports.len() {
            let Some(file) = IdentityFile::find(&self.node_dir(at))? else { continue };
            let Identity { node, first, .. } = file.identity;
            // One that came later has nothing kept, and tells the others where it is.
            let Some(own) = first.iter().find(|member| member.node == node) else { continue };
            if client_address(&own.address).1 == self.ports[at] {
                continue;
            }
            let mut kept: Vec<u16> = first.iter().map(|m| client_address(&m.address).1).collect();
            kept.sort_unstable();
            return Err(format!(
                "{} belongs to a cluster on the ports {}: start it with --port {} --nodes {}, or give \
                 another --dir",
                self.dir.display(),
                kept.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
                kept[0],
                kept.len()
            ));
        }
        Ok(())
    }

    fn node_dir(&self, at: usize) -> PathBuf {
        self.dir.join(format!("node-{}", at + 1))
    }

    fn command(&self, at: usize, log: File) -> Result<Command, String> {
        let text = |error: std::io::Error| format!("cannot start a node: {error}");
        let mut command = Command::new(std::env::current_exe().map_err(text)?);
        command.arg("server").arg("--dir").arg(self.node_dir(at));
        command.args(["--port", &self.ports[at].to_string(), "--memory", &self.memory]);
        if self.ports.len() > 1 {
            let peer = |port: &u16| format!("127.0.0.1:{}", port + PEER_PORT_OFFSET);
            let join: Vec<String> = self.ports.iter().map(peer).collect();
            command.args(["--join", &join.join(","), "--expect", &join.len().to_string()]);
            command.env("CAIRN_CLUSTER_SECRET", &self.secret);
        }
        let both = log.try_clone().map_err(text)?;
        command.stdin(Stdio::null()).stdout(log).stderr(both);
        // Ctrl-C is for this process, which then stops them.
        command.process_group(0);
        Ok(command)
    }
}

/// Whether the nodes can listen: told before anything is made or started.
fn check_free(ports: &[u16]) -> Result<(), String> {
    let taken = |port: u16, what: &str, error: std::io::Error| {
        format!(
            "cannot listen on 127.0.0.1:{port}{what}: {error}; stop what does, or choose another \
             --port"
        )
    };
    for port in ports {
        TcpListener::bind(("127.0.0.1", *port)).map_err(|error| taken(*port, "", error))?;
        // A lone node has no peers.
        if ports.len() > 1 {
            let peer = port + PEER_PORT_OFFSET;
            UdpSocket::bind(("127.0.0.1", peer))
                .map_err(|error| taken(peer, " (UDP, for peers)", error))?;
        }
    }
    Ok(())
}

/// The secret of the cluster below `dir`, the same at every start.
fn secret(dir: &Path) -> Result<String, String> {
    let path = dir.join("secret");
    let failed = |error| format!("cannot keep the cluster's secret in {}: {error}", path.display());
    match fs::read_to_string(&path) {
        Ok(secret) if !secret.trim().is_empty() => return Ok(secret.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let hex = |bytes: [u8; 16]| u128::from_be_bytes(bytes);
    let secret = format!("{:032x}{:032x}", hex(entropy::random_16()), hex(entropy::random_16()));
    let file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&path);
    file.and_then(|mut file| writeln!(file, "{secret}")).map_err(failed)?;
    Ok(secret)
}

/// One of the nodes.
struct DevNode {
    name: String,
    port: u16,
    log: PathBuf,
    /// Where this run begins in its log.
    log_from: u64,
    /// None: it has ended.
    child: Option<Child>,
}

impl DevNode {
    fn start(plan: &Plan, at: usize) -> Result<DevNode, String> {
        let name = format!("node-{}", at + 1);
        let log = plan.dir.join(format!("{name}.log"));
        let failed = |error| format!("cannot write {}: {error}", log.display());
        let mut file = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let log_from = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let child = plan.command(at, file)?.spawn();
        let child = Some(child.map_err(|error| format!("cannot start {name}: {error}"))?);
        Ok(DevNode { name, port: plan.ports[at], log, log_from, child })
    }

    /// How it ended, once, if it has.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status.to_string())
    }

    /// The last that this run said.
    fn last_words(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let said = said.get(self.log_from as usize..).unwrap_or_default();
        let said = String::from_utf8_lossy(said);
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Whether it answers what needs a leader.
    fn answers(&self) -> bool {
        let reply = ask(&format!("127.0.0.1:{}", self.port), "", &[NEEDS_LEADER]);
        reply.is_ok_and(|reply| reply.starts_with(':') || reply.starts_with("-NOAUTH"))
    }
}

struct Nodes(Vec<DevNode>);

impl Nodes {
    /// Starts all; those that were started are stopped again if one is not.
    fn start(plan: &Plan) -> Result<Nodes, String> {
        let mut nodes = Nodes(Vec::new());
        for at in 0..plan.ports.len() {
            match DevNode::start(plan, at) {
                Ok(node) => nodes.0.push(node),
                Err(why) => {
                    nodes.signal(Signal::TERM);
                    return Err(why);
                }
            }
        }
        Ok(nodes)
    }

    /// Waits until all of them answer, and says so.
    async fn ready(&mut self, port: u16) -> Result<(), String> {
        let start = clock::now();
        for at in 0..self.0.len() {
            while !self.0[at].answers() {
                for node in &mut self.0 {
                    if let Some(status) = node.ended() {
                        let words = node.last_words();
                        return Err(format!(
                            "{} ended at its start ({status}):\n{words}",
                            node.name
                        ));
                    }
                }
                if start.elapsed() > START {
                    return Err(format!(
                        "{} does not answer:\n{}",
                        self.0[at].name,
                        self.0[at].last_words()
                    ));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        say(&match self.0.len() {
            1 => "a lone node is ready:".to_owned(),
            n => format!("{n} nodes are one cluster, and each takes every command:"),
        });
        for node in &self.0 {
            let pid = node.child.as_ref().map_or(0, Child::id);
            say(&format!(
                "  {}  127.0.0.1:{}  pid {pid}  {}",
                node.name,
                node.port,
                node.log.display()
            ));
        }
        say(&format!(
            "Try `redis-cli -p {port} set greeting hello`. Ctrl-C stops them; the data stay."
        ));
        Ok(())
    }

    /// Says who ends, until that is asked for or all have.
    async fn watch(&mut self, end: &mut Signals) -> Result<(), String> {
        loop {
            for node in &mut self.0 {
                if let Some(status) = node.ended() {
                    say(&format!(
                        "{} ended ({status}); stop with Ctrl-C and run `cairn dev` again to have it back",
                        node.name
                    ));
                }
            }
            if self.0.iter().all(|node| node.child.is_none()) {
                return Err("all nodes have ended".to_owned());
            }
            tokio::select! {
                _ = end.asked() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Stops them in order; at once when asked again.
    async fn stop(&mut self, end: &mut Signals) {
        let start = clock::now();
        self.signal(Signal::TERM);
        while self.is_any_up() && start.elapsed() < STOP {
            tokio::select! {
                _ = end.asked() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.signal(Signal::KILL);
        for node in &mut self.0 {
            let _ = node.child.take().map(|mut child| child.wait());
        }
    }

    fn is_any_up(&mut self) -> bool {
        self.0.iter_mut().for_each(|node| drop(node.ended()));
        self.0.iter().any(|node| node.child.is_some())
    }

    fn signal(&self, signal: Signal) {
        for child in self.0.iter().filter_map(|node| node.child.as_ref()) {
            // One that has just ended needs none.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }
}
