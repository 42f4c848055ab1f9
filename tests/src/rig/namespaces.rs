//! A network of a cluster's own: a namespace for each node, and two ways out of it.
//!
//! Its peers a node reaches by one pair of virtual interfaces, whose other end lies in a second
//! namespace that has the addresses of all its peers: there the [`Switch`](super::switch) takes
//! what is for them and decides what becomes of it. Clients come by another pair, from the machine's
//! own namespace, so that peers can be cut off from each other and still be reached.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The port of every node for clients: each has its own namespace.
pub const CLIENT_PORT: u16 = 6379;
/// The same for peers.
pub const PEER_PORT: u16 = 16379;

/// Namespaces of nodes 0 to `nodes`; gone when this is dropped.
#[derive(Debug)]
pub struct Namespaces {
    nodes: usize,
    /// What tells those of one process and cluster from others'.
    name: String,
    /// The second byte of the addresses that clients use.
    net: u8,
}

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    /// What `ip` said; only root can, and not in every container.
    pub fn new(nodes: usize) -> Result<Namespaces, String> {
        remove_left_over();
        let pid = std::process::id();
        // Clusters follow each other within a process.
        let net = 20 + (pid % 200) as u8;
        let made = Namespaces { nodes, name: format!("cairn-{pid}"), net };
        (0..nodes).try_for_each(|at| made.add(at))?;
        Ok(made)
    }

    fn add(&self, at: usize) -> Result<(), String> {
        let (node, switch) = (self.node(at), self.switch(at));
        let link = self.link(at);
        let net = format!("10.{}.{at}", self.net);
        ip(&format!("netns add {node}"))?;
        ip(&format!("netns add {switch}"))?;
        ip(&format!("-n {node} link set lo up"))?;
        ip(&format!("link add {link} type veth peer name client netns {node}"))?;
        ip(&format!("addr add {net}.1/24 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {node} addr add {net}.2/24 dev client"))?;
        ip(&format!("-n {node} link set client up"))?;
        ip(&format!("-n {switch} link add switch type veth peer name peers netns {node}"))?;
        ip(&format!("-n {node} addr add {}/24 dev peers", peer_ip(at)))?;
        ip(&format!("-n {node} link set peers up"))?;
        for other in (0..self.nodes).filter(|other| *other != at) {
            ip(&format!("-n {switch} addr add {}/24 dev switch", peer_ip(other)))?;
        }
        ip(&format!("-n {switch} link set switch up"))
    }

    /// How many nodes there is room for.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The name of a node's namespace, for `ip netns exec`.
    pub fn node(&self, at: usize) -> String {
        format!("{}-node{at}", self.name)
    }

    fn switch(&self, at: usize) -> String {
        format!("{}-switch{at}", self.name)
    }

    /// The end of the clients' way to a node that lies in the machine's own namespace.
    fn link(&self, at: usize) -> String {
        format!("cairn{}-{at}", self.net)
    }

    /// Where clients reach a node.
    pub fn client_address(&self, at: usize) -> SocketAddr {
        SocketAddr::from(([10, self.net, at as u8, 2], CLIENT_PORT))
    }

    /// Takes the way of clients to a node away, or gives it back.
    pub fn reach(&self, at: usize, reachable: bool) {
        let state = if reachable { "up" } else { "down" };
        // The node's end: the addresses of the other one stay.
        ip(&format!("-n {} link set client {state}", self.node(at))).expect("a link of ours");
    }

    /// A socket on the switch's end of a node's way to its peers, with the address of one of them.
    ///
    /// # Errors
    /// The address is taken.
    pub fn socket(&self, at: usize, address: SocketAddr) -> std::io::Result<UdpSocket> {
        let namespace = File::open(format!("/run/netns/{}", self.switch(at)))?;
        // A socket stays in the namespace of the thread that made it.
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            UdpSocket::bind(address)
        });
        thread.join().expect("it does not panic")
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for at in 0..self.nodes {
            // A namespace goes some time after its name, and what leads into it with it.
            let _ = ip(&format!("link del {}", self.link(at)));
            for name in [self.node(at), self.switch(at)] {
                // Some may never have been made.
                let _ = ip(&format!("netns del {name}"));
            }
        }
    }
}

/// A node's address among its peers.
pub fn peer_ip(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 10, 10, 1 + at as u8)
}

/// The same with its port.
pub fn peer_address(at: usize) -> SocketAddr {
    SocketAddr::from((peer_ip(at), PEER_PORT))
}

/// Removes the namespaces of processes that were killed.
fn remove_left_over() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix("cairn-").and_then(|rest| rest.split('-').next());
        let is_alive = |pid: &str| std::path::Path::new("/proc").join(pid).exists();
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !is_alive(pid)) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.map_err(|error| format!("ip cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
