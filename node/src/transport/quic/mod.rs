//! The real transport: QUIC, with TLS on both sides.
//!
//! Between two nodes there is a connection for each [`Class`], made by the first call; both sides
//! ask over it, a stream for each request and its reply. The first stream carries Hellos: only the
//! answer proves that the peer has accepted this node, since a handshake ends for the one who dials
//! before the other has judged its certificate.
//!
//! The transport has threads of its own, each with a single-threaded runtime: `cairn-net`, which
//! listens and carries everything, and `cairn-beat`, which dials and answers heartbeats, so that
//! these never wait behind bulk or a slow handler. Callers may be anything that polls a future.
//!
//! - `socket`: sockets, buffers, tuning
//! - `message`: a message on a stream
//! - `link`: one class's way to one peer: connecting, backing off, what waits
//! - `dial`: making a connection, the Hello of the one who makes it
//! - `gate`: who may begin to make one to this node
//! - `serve`: those that others make, and the requests that arrive on any

mod dial;
mod gate;
mod link;
mod message;
mod serve;
mod socket;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use cairn_protocol::cluster::message::{Hello, Refused, RefusedCode};
use cairn_protocol::cluster::wire::{self, Stamp, WireError};
use cairn_protocol::cluster::{Kind, Reply, Request, envelope};
use cairn_protocol::ids::{ClusterId, NodeId, ShardId};
use parking_lot::Mutex;
use quinn::{Connection, Endpoint, VarInt};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{self, Instant};

use self::dial::DialError;
use self::gate::Gate;
use self::link::Link;
use self::message::{Inbox, Outbox, ReadMessageError};
use self::socket::Setup;
use super::tls::{self, Identity, IdentityError};
use super::{
    BoxFuture, Call, CallError, Class, Handler, Incoming, PeerStatus, RefusedCounts, Transport,
    refused,
};

/// How long closing waits for peers to hear of it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks whether all is answered.
const ANSWER_PAUSE: Duration = Duration::from_millis(1);
/// At most one refusal is logged in this time, and in the longer one at most one of whoever was the
/// last to be refused for the same reason; all are counted.
const WARN_PAUSE: Duration = Duration::from_secs(1);
const WARN_SAME_PAUSE: Duration = Duration::from_secs(60);

/// With what a connection is closed, beside a text.
mod close_code {
    use super::VarInt;
    /// The node stops.
    pub const STOPPING: VarInt = VarInt::from_u32(0);
    /// The peer is not accepted.
    pub const REFUSED: VarInt = VarInt::from_u32(1);
    /// The peer has made a newer one.
    pub const REPLACED: VarInt = VarInt::from_u32(2);
    /// The peer was removed.
    pub const FORGOTTEN: VarInt = VarInt::from_u32(3);
    /// What it was for is done.
    pub const DONE: VarInt = VarInt::from_u32(4);
}

/// What is to be started.
#[derive(Debug)]
pub struct Options {
    /// What the node proves itself with, and so who it is.
    pub identity: Identity,
    /// The UDP address to listen on.
    pub listen: SocketAddr,
    /// HOST:PORT at which peers reach it; empty if they know better.
    pub advertise: String,
    /// Its cluster, or [`ClusterId::NONE`].
    pub cluster: ClusterId,
    /// The boot of its machine, or zeros.
    pub boot_id: [u8; 16],
    /// Its bounds.
    pub limits: Limits,
}

/// What may be on its way at once, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that wait for their reply: of one class for one peer, and as many the other way.
    pub calls_max: u32,
    /// Bytes of such requests.
    pub calls_bytes_max: usize,
    /// How long a peer may take to be connected to.
    pub connect_timeout: Duration,
    /// The pause after a first failure; it doubles with each one that follows.
    pub pause_min: Duration,
    /// The longest such pause.
    pub pause_max: Duration,
    /// How often a silent connection is made to speak.
    pub keep_alive: Duration,
    /// A connection is given up that was silent for this long.
    pub idle_timeout: Duration,
    /// How long a request that has begun to arrive may take until it is there, and its reply until
    /// it is taken.
    pub message_timeout: Duration,
    /// How long a peer may take to prove itself and say its Hello.
    pub handshake_timeout: Duration,
    /// Connections that have not done so yet; more are refused. A quarter of them is for addresses
    /// at which peers are known to be.
    pub handshakes_max: usize,
    /// How many of them one address may have at which no peer is known to be.
    pub handshakes_each: usize,
    /// Whether this machine's own addresses may have more: several nodes may run on it.
    pub trusts_loopback: bool,
    /// From so many such on, whoever dials must first show that its address is its own.
    pub handshakes_trusted: usize,
    /// Connections from others.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            calls_max: 1024,
            calls_bytes_max: 64 << 20,
            connect_timeout: Duration::from_secs(1),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
            keep_alive: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(5),
            message_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(3),
            handshakes_max: 128,
            handshakes_each: 8,
            trusts_loopback: true,
            handshakes_trusted: 32,
            connections_max: 1024,
        }
    }
}

/// Why a transport was not started.
#[derive(Debug)]
pub enum NetError {
    /// The address cannot be listened on.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread or its socket could not be set up.
    Thread {
        /// Which.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The identity cannot be used.
    Identity(IdentityError),
    /// TLS cannot be set up.
    Tls(String),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } => write!(
                f,
                "cannot listen for peers at UDP {address}: {source}; stop what uses it or choose \
                 another peer port"
            ),
            Self::Thread { name, source } => write!(f, "cannot start thread {name}: {source}"),
            Self::Identity(error) => error.fmt(f),
            Self::Tls(why) => write!(f, "cannot set up TLS between nodes: {why}"),
        }
    }
}

impl std::error::Error for NetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Thread { source, .. } => Some(source),
            Self::Identity(error) => Some(error),
            Self::Tls(_) => None,
        }
    }
}

impl From<IdentityError> for NetError {
    fn from(error: IdentityError) -> NetError {
        NetError::Identity(error)
    }
}

/// A node on the network. Dropping it closes its sockets without a word to the peers;
/// [`Transport::close`] tells them.
pub struct QuicTransport {
    net: Arc<Net>,
    threads: Vec<LaneThread>,
}

/// A peer and the ways to it, in the order of [`Class::ALL`].
struct Peer {
    address: Mutex<String>,
    hello: Mutex<Option<Hello>>,
    links: [Arc<Link>; 3],
}

/// Who has connected to this node, peer or not yet.
struct Guest {
    connection: Connection,
    hello: Hello,
}

impl Peer {
    /// Takes note of its Hello. Says in the log when it knows other features than this node, and
    /// when that has changed: somebody is in the middle of an upgrade.
    fn heard(&self, hello: Hello) {
        let mut known = self.hello.lock();
        let before = known.as_ref().map_or(envelope::FEATURES, |before| before.features);
        if hello.features != before {
            tracing::info!(
                "node {} speaks version {} of the node protocol with features {:#x}, this node \
                 version {} with {:#x}",
                hello.node,
                hello.versions.1,
                hello.features,
                envelope::VERSION,
                envelope::FEATURES
            );
        }
        *known = Some(hello);
    }
}

/// A refusal that was logged.
struct Warned {
    at: Instant,
    from: IpAddr,
    why: String,
}

impl Warned {
    /// Whether another refusal, now, is worth a line.
    fn is_over(&self, now: Instant, from: IpAddr, why: &str) -> bool {
        let is_same = self.from == from && self.why == why;
        let pause = if is_same { WARN_SAME_PAUSE } else { WARN_PAUSE };
        now.duration_since(self.at) >= pause
    }
}

/// What the transport's tasks share.
struct Net {
    node: NodeId,
    /// Where it listens.
    address: SocketAddr,
    advertise: String,
    boot_id: [u8; 16],
    limits: Limits,
    cluster: Mutex<ClusterId>,
    handler: Mutex<Option<Arc<dyn Handler>>>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    /// The newest connection of each class that each peer has made to this node.
    guests: Mutex<HashMap<(NodeId, Class), Guest>>,
    refused: Mutex<RefusedCounts>,
    /// The refusal that was logged last.
    warned: Mutex<Option<Warned>>,
    request_ids: AtomicU64,
    /// Connections made by others, and those among them that have not proved themselves yet.
    connections: AtomicUsize,
    gate: Gate,
    /// Requests that are being read, handled or answered.
    answering: AtomicUsize,
    is_closed: AtomicBool,
    client: quinn::ClientConfig,
    main: Lane,
    beat: Lane,
}

/// A runtime and the endpoint it drives.
struct Lane {
    runtime: Handle,
    /// None once it is closed.
    endpoint: Mutex<Option<Endpoint>>,
    /// Closed once the thread has ended and its socket with it.
    ended: watch::Receiver<()>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

/// Ends with its lane.
struct LaneThread {
    name: &'static str,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts the thread `name`, which drives an endpoint at `address`.
    fn start(
        name: &'static str,
        address: SocketAddr,
        setup: &Setup,
        listens: bool,
    ) -> Result<(Lane, LaneThread), NetError> {
        let failed = |source| NetError::Thread { name, source };
        let socket = socket::bind(address)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let endpoint = {
            let _inside = runtime.enter();
            setup.endpoint(socket, listens).map_err(failed)?
        };
        let (stop, stopped) = oneshot::channel();
        let (ending, ended) = watch::channel(());
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // An error means that nobody is left who could stop it.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
                drop(ending);
            })
            .map_err(failed)?;
        let (endpoint, stop) = (Mutex::new(Some(endpoint)), Mutex::new(Some(stop)));
        let lane = Lane { runtime: handle, endpoint, ended, stop };
        Ok((lane, LaneThread { name, thread: Some(thread) }))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }

    fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.lock().clone()
    }

    fn stop(&self) {
        *self.endpoint.lock() = None;
        if let Some(stop) = self.stop.lock().take() {
            // It fails if the thread has ended already.
            let _ = stop.send(());
        }
    }

    /// Tells the peers, waits until they know or [`CLOSE_TIMEOUT`] is over, and ends the thread.
    async fn close(&self) {
        if let Some(endpoint) = self.endpoint() {
            let farewell = self.runtime.spawn(async move {
                endpoint.close(close_code::STOPPING, b"the node stops");
                let _ = time::timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
            });
            let _ = farewell.await;
        }
        self.stop();
        while self.ended.clone().changed().await.is_ok() {}
    }
}

impl Drop for LaneThread {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // A handler may hold the last reference: a thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("thread {} panicked", self.name);
        }
    }
}

impl QuicTransport {
    /// Listens, and takes calls. Until a cluster is set, only what a stranger may say is accepted.
    ///
    /// # Errors
    /// [`NetError`]: the address is taken, or keys and certificates do not fit.
    pub fn start(options: Options) -> Result<QuicTransport, NetError> {
        let Options { identity, listen, advertise, cluster, boot_id, limits } = options;
        let setup = Setup::new(&identity, &limits)?;
        let (main, main_thread) = Lane::start("cairn-net", listen, &setup, true)?;
        let any_port = SocketAddr::new(listen.ip(), 0);
        let (beat, beat_thread) = Lane::start("cairn-beat", any_port, &setup, false)?;
        let address =
            main.local_address().map_err(|source| NetError::Bind { address: listen, source })?;
        let net = Arc::new(Net {
            node: identity.node(),
            address,
            advertise,
            boot_id,
            limits,
            cluster: Mutex::new(cluster),
            handler: Mutex::default(),
            peers: Mutex::default(),
            guests: Mutex::default(),
            refused: Mutex::default(),
            warned: Mutex::default(),
            request_ids: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            gate: Gate::default(),
            answering: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            client: setup.client,
            main,
            beat,
        });
        net.main.runtime.spawn(serve::accept(net.clone()));
        Ok(QuicTransport { net, threads: vec![main_thread, beat_thread] })
    }

    /// Where it listens: with the port that was chosen if none was given.
    pub fn local_address(&self) -> SocketAddr {
        self.net.address
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        self.net.is_closed.store(true, Ordering::Relaxed);
        self.net.main.stop();
        self.net.beat.stop();
        self.threads.clear();
        self.net.let_go();
    }
}

impl fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicTransport").field("node", &self.net.node).finish_non_exhaustive()
    }
}

/// Ends a task when whoever waits for it gives up.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn unreachable(to: NodeId, why: impl Into<String>) -> CallError {
    CallError::Unreachable { to, why: why.into() }
}

impl Net {
    fn lane(&self, class: Class) -> &Lane {
        match class {
            Class::Heartbeat => &self.beat,
            Class::Replication | Class::Snapshot => &self.main,
        }
    }

    /// Waits until all requests are answered, or [`CLOSE_TIMEOUT`] is over.
    async fn finish_answers(&self) {
        let answered = async {
            while self.answering.load(Ordering::Relaxed) > 0 {
                time::sleep(ANSWER_PAUSE).await;
            }
        };
        let _ = time::timeout(CLOSE_TIMEOUT, answered).await;
    }

    /// Lets go of all connections, which hold the sockets.
    fn let_go(&self) {
        self.guests.lock().clear();
        self.peers.lock().values().flat_map(|peer| &peer.links).for_each(|link| link.forget());
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    fn cluster(&self) -> ClusterId {
        *self.cluster.lock()
    }

    fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.lock().get(&node).cloned()
    }

    fn count(&self, change: impl FnOnce(&mut RefusedCounts)) {
        change(&mut self.refused.lock());
    }

    /// Logs that a connection was refused, unless one was a moment ago: whoever is refused can try
    /// as often as it likes, and the log is not its to fill.
    fn warn(&self, from: SocketAddr, why: &str) {
        let now = Instant::now();
        let mut warned = self.warned.lock();
        if warned.as_ref().is_none_or(|before| before.is_over(now, from.ip(), why)) {
            *warned = Some(Warned { at: now, from: from.ip(), why: why.to_owned() });
            tracing::warn!("refused a connection from {from}: {why}");
        }
    }

    fn refuse(&self, error: &WireError) -> Refused {
        let code = super::count_refused(&mut self.refused.lock(), error);
        refused(code, error.to_string())
    }

    fn stamp(&self, to: NodeId, shard: ShardId) -> Stamp {
        let request_id = self.request_ids.fetch_add(1, Ordering::Relaxed) + 1;
        Stamp { cluster: self.cluster(), from: self.node, to, request_id, shard }
    }

    /// What this node says first on a connection for `class`, or in answer to the peer's Hello.
    fn hello(&self, class: u8) -> Hello {
        Hello {
            node: self.node,
            cluster: self.cluster(),
            versions: (envelope::VERSION, envelope::VERSION),
            features: envelope::FEATURES,
            boot_id: self.boot_id,
            class,
            address: self.advertise.clone(),
        }
    }

    /// A call, on whatever executor polls it: what needs a runtime happens on the lane's.
    async fn call(self: Arc<Self>, call: Call) -> Result<Reply, CallError> {
        let Call { to, class, shard, request, deadline } = call;
        if self.is_closed() {
            return Err(unreachable(to, "this node is off the network"));
        }
        let peer = self.peer(to).ok_or_else(|| unreachable(to, "it is no peer of this node"))?;
        let link = &peer.links[class.index()];
        let stamp = self.stamp(to, shard);
        let question = Question::new(stamp, &request)?;
        let ticket = link.enter(&self.limits, question.len_bytes).ok_or(CallError::Full { to })?;
        let due = Instant::now() + deadline;
        let (net, way) = (self.clone(), link.clone());
        let task = self.lane(class).runtime.spawn(async move {
            let waited = time::timeout_at(due, link::connection(&net, &way));
            let connection = waited.await.unwrap_or_else(|_| {
                let why = format!("no connection within {} ms", deadline.as_millis());
                Err(unreachable(to, why))
            })?;
            let answer = net.ask(&connection, to, question);
            let late = CallError::Timeout { to, after: deadline };
            time::timeout_at(due, answer).await.unwrap_or(Err(late))
        });
        let _guard = AbortOnDrop(task.abort_handle());
        let stopped = |_| Err(CallError::Broken { to, why: "this node stops".to_owned() });
        let outcome = task.await.unwrap_or_else(stopped);
        ticket.finish(&outcome);
        outcome.map(|(reply, _)| reply)
    }

    /// Sends a request over a proven connection; returns the reply and its bytes' number.
    async fn ask(
        &self,
        connection: &Connection,
        to: NodeId,
        question: Question,
    ) -> Result<(Reply, usize), CallError> {
        let (send, receive) =
            connection.open_bi().await.map_err(|error| unreachable(to, dial::why(&error)))?;
        let Question { stamp, kind, pieces, .. } = question;
        let (mut outbox, mut inbox) = (Outbox::new(send), Inbox::new(receive));
        if let Err(quinn::WriteError::ConnectionLost(error)) = outbox.send(pieces).await {
            return Err(CallError::Broken { to, why: dial::why(&error) });
        }
        // Other errors mean that the peer reads no further: its answer says why.
        let bad = |error: ReadMessageError| match error {
            ReadMessageError::Wire(error) => CallError::BadReply { to, why: error.to_string() },
            ReadMessageError::Lost(error) => {
                let closed = connection.close_reason().map(|reason| dial::why(&reason));
                CallError::Broken { to, why: closed.unwrap_or_else(|| error.to_string()) }
            }
        };
        let envelope = inbox.envelope().await.map_err(bad)?;
        let body = inbox.body(&envelope).await.map_err(bad)?;
        let len_bytes = envelope::BYTES + body.len();
        let checked = envelope.check_way(self.cluster(), to, self.node).map_err(WireError::from);
        let reply = checked.and_then(|()| wire::decode_reply(&envelope, kind, body));
        match reply {
            Ok(Reply::Refused(refused)) => Err(CallError::Refused { to, refused }),
            Ok(_) if envelope.request_id != stamp.request_id => {
                let why = "it answers another request".to_owned();
                Err(CallError::BadReply { to, why })
            }
            Ok(reply) => Ok((reply, len_bytes)),
            Err(error) => Err(CallError::BadReply { to, why: error.to_string() }),
        }
    }

    /// Dials, asks one thing, and hangs up.
    async fn ask_address(
        self: Arc<Self>,
        address: String,
        request: Request,
        deadline: Duration,
    ) -> Result<(NodeId, Reply), CallError> {
        let nobody = NodeId(0);
        if self.is_closed() {
            return Err(unreachable(nobody, "this node is off the network"));
        }
        let due = Instant::now() + deadline;
        let net = self.clone();
        let task = self.main.runtime.spawn(async move {
            let dialled = time::timeout_at(due, dial::dial(&net, None, &address, None)).await;
            let (connection, hello) = match dialled {
                Ok(Ok(dialled)) => dialled,
                Ok(Err(DialError::Refused(refused))) => {
                    return Err(CallError::Refused { to: nobody, refused });
                }
                Ok(Err(DialError::Failed(why))) => return Err(unreachable(nobody, why)),
                Err(_) => {
                    let after = deadline.as_millis();
                    let why = format!("nobody answers at {address} within {after} ms");
                    return Err(unreachable(nobody, why));
                }
            };
            let to = hello.node;
            let question = Question::new(net.stamp(to, ShardId::NONE), &request)?;
            let answer = time::timeout_at(due, net.ask(&connection, to, question)).await;
            connection.close(close_code::DONE, b"");
            let (reply, _) = answer.unwrap_or(Err(CallError::Timeout { to, after: deadline }))?;
            Ok((to, reply))
        });
        let _guard = AbortOnDrop(task.abort_handle());
        let why = "this node stops".to_owned();
        task.await.unwrap_or(Err(CallError::Broken { to: nobody, why }))
    }
}

/// A request, ready to be sent.
struct Question {
    stamp: Stamp,
    kind: Kind,
    pieces: Vec<Bytes>,
    len_bytes: usize,
}

impl Question {
    fn new(stamp: Stamp, request: &Request) -> Result<Question, CallError> {
        let pieces = wire::encode_request(&stamp, request)
            .map_err(|error| CallError::TooLong { to: stamp.to, why: error.to_string() })?;
        let len_bytes = pieces.iter().map(Bytes::len).sum();
        Ok(Question { stamp, kind: request.kind(), pieces, len_bytes })
    }
}

impl Transport for QuicTransport {
    fn node(&self) -> NodeId {
        self.net.node
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        *self.net.handler.lock() = Some(handler);
    }

    fn set_cluster(&self, cluster: ClusterId) {
        *self.net.cluster.lock() = cluster;
    }

    fn set_peer(&self, node: NodeId, address: &str) {
        let mut peers = self.net.peers.lock();
        let peer = peers.entry(node).or_insert_with(|| {
            let link = |class| Arc::new(Link::new(node, class));
            let (address, hello) = Default::default();
            let peer = Arc::new(Peer { address, hello, links: Class::ALL.map(link) });
            serve::welcome_guests(&self.net, &peer);
            peer
        });
        let mut known = peer.address.lock();
        if *known != address {
            if let Ok(address) = address.parse::<SocketAddr>() {
                self.net.gate.expect(address.ip());
            }
            address.clone_into(&mut known);
            peer.links.iter().for_each(|link| link.end_pause());
        }
    }

    fn remove_peer(&self, node: NodeId) {
        let peer = self.net.peers.lock().remove(&node);
        if let Some(peer) = peer {
            peer.links.iter().for_each(|link| link.forget());
        }
        let mut guests = self.net.guests.lock();
        for class in Class::ALL {
            if let Some(guest) = guests.remove(&(node, class)) {
                guest.connection.close(close_code::FORGOTTEN, b"the peer was removed");
            }
        }
    }

    fn call(&self, call: Call) -> BoxFuture<Result<Reply, CallError>> {
        Box::pin(self.net.clone().call(call))
    }

    fn ask_address(
        &self,
        address: &str,
        request: Request,
        deadline: Duration,
    ) -> BoxFuture<Result<(NodeId, Reply), CallError>> {
        Box::pin(self.net.clone().ask_address(address.to_owned(), request, deadline))
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let peers = self.net.peers.lock();
        let status = |(node, peer): (&NodeId, &Arc<Peer>)| PeerStatus {
            node: *node,
            address: peer.address.lock().clone(),
            hello: peer.hello.lock().clone(),
            links: std::array::from_fn(|i| peer.links[i].status()),
        };
        peers.iter().map(status).collect()
    }

    fn refused(&self) -> RefusedCounts {
        *self.net.refused.lock()
    }

    fn close(&self) -> BoxFuture<()> {
        self.net.is_closed.store(true, Ordering::Relaxed);
        *self.net.handler.lock() = None;
        let net = self.net.clone();
        Box::pin(async move {
            // Where time passes, whatever the caller is run by.
            let answering = net.clone();
            let answered = async move { answering.finish_answers().await };
            let _ = net.main.runtime.spawn(answered).await;
            futures_util::join!(net.main.close(), net.beat.close());
            net.let_go();
        })
    }
}

#[cfg(test)]
mod tests;
