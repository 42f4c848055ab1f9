//! The wire between peers, in user space: each datagram is lost, delayed, doubled or carried, as the
//! link it takes says.
//!
//! What node a sends to node b's port arrives on the switch's side of a, at a socket with b's
//! address, and leaves on the side of b from a socket with the address and port it came from; the
//! answers go back through the same two. Neither node can tell. Between the ports of two nodes the
//! two sockets are those that take what each sends to the other; for any other port of a node there
//! is a [`Flow`].

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};

use super::namespaces::{Namespaces, PEER_PORT, peer_address, peer_ip};
use crate::rng::Rng;

/// How often a thread that waits for datagrams looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);
/// A flow without answers for so long is forgotten; a datagram makes it anew.
const IDLE: Duration = Duration::from_secs(30);
/// Less than this loses datagrams of a node's bursts.
const BUFFER_BYTES: usize = 8 << 20;

/// How long a datagram waits at most for those before it on a slow link.
const QUEUE: Duration = Duration::from_millis(100);

/// What happens to datagrams from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// None arrives.
    pub cut: bool,
    /// Of a thousand so many are lost.
    pub lost_in_1000: u64,
    /// Of a thousand so many arrive twice.
    pub doubled_in_1000: u64,
    /// Each takes so long ...
    pub delay: Duration,
    /// ... and up to so much longer, each for itself: they overtake each other.
    pub jitter: Duration,
    /// Bytes a millisecond that it carries; 0: as many as come. What would have to wait for longer
    /// than [`QUEUE`] is lost.
    pub bytes_per_ms: u32,
}

/// Carries datagrams until it is dropped.
pub struct Switch {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

struct Core {
    namespaces: Arc<Namespaces>,
    /// What takes what one node sends to the port of another, by sender and receiver.
    doors: HashMap<(usize, usize), Arc<UdpSocket>>,
    /// By sender and receiver.
    links: Mutex<HashMap<(usize, usize), Link>>,
    rng: Mutex<Rng>,
    /// Until when slow links are busy, by sender and receiver.
    busy: Mutex<HashMap<(usize, usize), Instant>>,
    delayed: Mutex<BinaryHeap<Reverse<Delayed>>>,
    more: Condvar,
    ended: AtomicBool,
}

/// A way out of the switch.
#[derive(Clone)]
struct Exit {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Exit {
    fn send(&self, datagram: &[u8]) {
        // Whoever should take it may be down: it is lost, as on a wire.
        let _ = self.socket.send_to(datagram, self.to);
    }
}

struct Delayed {
    due: Instant,
    exit: Exit,
    datagram: Vec<u8>,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Delayed) -> bool {
        self.due == other.due
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Delayed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Delayed) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl Switch {
    /// Carries everything between the nodes of `namespaces`; what is lost follows from `seed`, and
    /// from what the nodes send.
    ///
    /// # Errors
    /// A socket could not be made.
    pub fn start(namespaces: Arc<Namespaces>, seed: u64) -> std::io::Result<Switch> {
        let mut doors = HashMap::new();
        for (from, to) in pairs(namespaces.nodes()) {
            doors.insert((from, to), Arc::new(socket(&namespaces, from, peer_address(to))?));
        }
        let core = Arc::new(Core {
            namespaces,
            doors,
            links: Mutex::default(),
            rng: Mutex::new(Rng::new(seed)),
            busy: Mutex::default(),
            delayed: Mutex::default(),
            more: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        let late = Arc::clone(&core);
        let mut threads = vec![std::thread::spawn(move || late.send_delayed())];
        for between in core.doors.keys().copied() {
            let core = Arc::clone(&core);
            threads.push(std::thread::spawn(move || core.carry(between)));
        }
        Ok(Switch { core, threads })
    }

    /// Changes the link from one node to another, in this direction alone.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.core.links.lock().expect("no thread panics").insert((from, to), link);
    }

    /// Changes the links in both directions between two nodes.
    pub fn set_both(&self, a: usize, b: usize, link: Link) {
        self.set(a, b, link);
        self.set(b, a, link);
    }

    /// Changes all links.
    pub fn set_all(&self, link: Link) {
        for (from, to) in pairs(self.core.namespaces.nodes()) {
            self.set(from, to, link);
        }
    }

    /// Cuts `at` off from all others.
    pub fn isolate(&self, at: usize) {
        let cut = Link { cut: true, ..Link::default() };
        (0..self.core.namespaces.nodes()).for_each(|other| self.set_both(at, other, cut));
    }

    /// Everything arrives again.
    pub fn heal(&self) {
        self.core.links.lock().expect("no thread panics").clear();
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.core.ended.store(true, Ordering::SeqCst);
        self.core.more.notify_all();
        for thread in self.threads.drain(..) {
            // It panics only where a test fails anyhow.
            let _ = thread.join();
        }
    }
}

fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(move |a| (0..nodes).filter(move |b| *b != a).map(move |b| (a, b)))
}

/// A socket at `at`'s end with the address of another.
fn socket(namespaces: &Namespaces, at: usize, address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = namespaces.socket(at, address)?;
    socket.set_read_timeout(Some(LOOK))?;
    set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
    set_socket_send_buffer_size_force(&socket, BUFFER_BYTES)?;
    Ok(socket)
}

impl Core {
    /// Carries what one node sends to the port of another, and what comes back.
    fn carry(self: Arc<Core>, (from, to): (usize, usize)) {
        let door = &self.doors[&(from, to)];
        let across = Exit { socket: Arc::clone(&self.doors[&(to, from)]), to: peer_address(to) };
        let mut flows: HashMap<u16, Flow> = HashMap::new();
        let mut buffer = vec![0; 65536];
        while let Some(received) = self.receive(door, &mut buffer) {
            let Some((len, source)) = received else { continue };
            if source.port() == PEER_PORT {
                self.pass((from, to), &across, &buffer[..len]);
                continue;
            }
            flows.retain(|_, flow| !flow.thread.is_finished());
            let flow = match flows.entry(source.port()) {
                Entry::Occupied(flow) => flow.into_mut(),
                Entry::Vacant(place) => {
                    let back = Exit { socket: Arc::clone(door), to: source };
                    match self.flow((from, to), back) {
                        Ok(flow) => place.insert(flow),
                        // An older flow of that port is about to be forgotten.
                        Err(_) => continue,
                    }
                }
            };
            self.pass((from, to), &flow.exit, &buffer[..len]);
        }
        // The namespaces go with the last thread that knows them.
        for (_, flow) in flows {
            // It panics only where a test fails anyhow.
            let _ = flow.thread.join();
        }
    }

    /// What `from`, as `back` says, sends to the port of `to` goes out there; what comes back is
    /// carried by a thread of its own.
    fn flow(self: &Arc<Core>, (from, to): (usize, usize), back: Exit) -> std::io::Result<Flow> {
        let address = SocketAddr::from((peer_ip(from), back.to.port()));
        let socket = Arc::new(socket(&self.namespaces, to, address)?);
        let exit = Exit { socket: Arc::clone(&socket), to: peer_address(to) };
        let core = Arc::clone(self);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            let mut heard = Instant::now();
            while let Some(received) = core.receive(&socket, &mut buffer) {
                match received {
                    Some((len, _)) => {
                        heard = Instant::now();
                        core.pass((to, from), &back, &buffer[..len]);
                    }
                    None if heard.elapsed() > IDLE => return,
                    None => {}
                }
            }
        });
        Ok(Flow { exit, thread })
    }

    /// Waits for a datagram: None when the switch ends, `Some(None)` when it is time to look around.
    fn receive(
        &self,
        socket: &UdpSocket,
        buffer: &mut [u8],
    ) -> Option<Option<(usize, SocketAddr)>> {
        if self.ended.load(Ordering::SeqCst) {
            return None;
        }
        match socket.recv_from(buffer) {
            Ok(received) => Some(Some(received)),
            // Nothing came, or one sent before was not taken by anybody.
            Err(_) => Some(None),
        }
    }

    /// Has a datagram go the way that the link says.
    fn pass(&self, between: (usize, usize), exit: &Exit, datagram: &[u8]) {
        let link = self.links.lock().expect("no thread panics").get(&between).copied();
        let link = link.unwrap_or_default();
        if link.cut {
            return;
        }
        if link == Link::default() {
            return exit.send(datagram);
        }
        let mut rng = self.rng.lock().expect("no thread panics");
        if rng.below(1000) < link.lost_in_1000 {
            return;
        }
        let Some(carried) = self.carried(between, link.bytes_per_ms, datagram.len()) else {
            return;
        };
        let copies = 1 + u64::from(rng.below(1000) < link.doubled_in_1000);
        for _ in 0..copies {
            let jitter = Duration::from_micros(rng.below(link.jitter.as_micros() as u64 + 1));
            let due = carried + link.delay + jitter;
            let delayed = Delayed { due, exit: exit.clone(), datagram: datagram.to_vec() };
            self.delayed.lock().expect("no thread panics").push(Reverse(delayed));
        }
        self.more.notify_one();
    }

    /// When a datagram has gone over a link of that speed; None: too many are before it.
    fn carried(&self, between: (usize, usize), bytes_per_ms: u32, len: usize) -> Option<Instant> {
        let now = Instant::now();
        if bytes_per_ms == 0 {
            return Some(now);
        }
        let mut busy = self.busy.lock().expect("no thread panics");
        let until = busy.entry(between).or_insert(now);
        let takes = Duration::from_secs_f64(len as f64 / f64::from(bytes_per_ms) / 1000.0);
        let carried = (*until).max(now) + takes;
        if carried > now + QUEUE {
            return None;
        }
        *until = carried;
        Some(carried)
    }

    /// Sends what was delayed when its time has come.
    fn send_delayed(&self) {
        let mut delayed = self.delayed.lock().expect("no thread panics");
        while !self.ended.load(Ordering::SeqCst) {
            let now = Instant::now();
            match delayed.peek() {
                Some(Reverse(next)) if next.due <= now => {
                    let Reverse(next) = delayed.pop().expect("it was there");
                    drop(delayed);
                    next.exit.send(&next.datagram);
                    delayed = self.delayed.lock().expect("no thread panics");
                }
                next => {
                    let pause = next.map_or(LOOK, |Reverse(next)| next.due - now).min(LOOK);
                    delayed = self.more.wait_timeout(delayed, pause).expect("no thread panics").0;
                }
            }
        }
    }
}

/// What carries datagrams of one port of one node.
struct Flow {
    exit: Exit,
    thread: JoinHandle<()>,
}
