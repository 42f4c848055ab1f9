//! The twin: nodes of one process, whose messages meet the fate that someone outside decides.
//!
//! Every message is encoded, judged and decoded as on a real wire. What becomes of it, when, and on
//! which runtime, a [`Scheduler`] says: with one that draws from a seed a run can be repeated
//! exactly. Nothing here reads a clock or draws by chance.
//!
//! A message to a node that was taken off the network since it was sent is lost, also when the node
//! came back meanwhile, as a connection does not survive a restart.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_protocol::cluster::message::{Refused, RefusedCode};
use cairn_protocol::cluster::wire::{self, Stamp, WireError};
use cairn_protocol::cluster::{Envelope, EnvelopeError, Kind, Reply, Request, envelope};
use cairn_protocol::ids::{ClusterId, NodeId, ShardId};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    BoxFuture, Call, CallError, Class, Handler, Incoming, LinkState, LinkStatus, PeerStatus,
    RefusedCounts, Transport, refused,
};

/// A message about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// The sender.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The class of the call.
    pub class: Class,
    /// The shard it concerns, or [`ShardId::NONE`].
    pub shard: ShardId,
    /// What the request is, also when this is its reply.
    pub kind: Kind,
    /// Whether it is the reply.
    pub is_reply: bool,
    /// Its bytes, envelope and all.
    pub len_bytes: usize,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives after this long; messages overtake each other as their delays say.
    Deliver(Duration),
    /// It arrives twice.
    Twice(Duration, Duration),
    /// It never arrives, and nobody learns of it: the call waits for its deadline.
    Lost,
    /// The sender learns that there is no connection: a request is unreachable, a reply broken.
    Cut,
}

/// Who decides: fates, time, and where tasks run.
pub trait Scheduler: Send + Sync + 'static {
    /// What becomes of this message. Asked once for each, in the order they are sent.
    fn fate(&self, flight: &Flight) -> Fate;

    /// Ends after this long, by the clock of the simulation.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;

    /// Runs a task.
    fn spawn(&self, task: BoxFuture<()>);
}

/// Delivers everything at once, on tokio's clock and the runtime of whoever calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompt;

impl Scheduler for Prompt {
    fn fate(&self, _: &Flight) -> Fate {
        Fate::Deliver(Duration::ZERO)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        tokio::spawn(task);
    }
}

/// The network that the nodes of a process share.
#[derive(Clone)]
pub struct MemNetwork(Arc<Network>);

struct Network {
    scheduler: Arc<dyn Scheduler>,
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
}

/// A node on the network.
struct Node {
    id: NodeId,
    address: String,
    cluster: Mutex<ClusterId>,
    handler: Mutex<Option<Arc<dyn Handler>>>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    requests: AtomicU64,
    refused: Mutex<RefusedCounts>,
}

#[derive(Default)]
struct Peer {
    address: String,
    links: [LinkStatus; 3],
}

/// One node's way to the others.
#[derive(Clone)]
pub struct MemTransport {
    network: Arc<Network>,
    node: Arc<Node>,
}

impl MemNetwork {
    /// A network without nodes.
    pub fn new(scheduler: Arc<dyn Scheduler>) -> MemNetwork {
        MemNetwork(Arc::new(Network { scheduler, nodes: Mutex::default() }))
    }

    /// Puts a node on the network, in the place of any that was there under its id.
    pub fn join(&self, id: NodeId, address: &str, cluster: ClusterId) -> MemTransport {
        let node = Arc::new(Node {
            id,
            address: address.to_owned(),
            cluster: Mutex::new(cluster),
            handler: Mutex::default(),
            peers: Mutex::default(),
            requests: AtomicU64::new(0),
            refused: Mutex::default(),
        });
        self.0.nodes.lock().insert(id, node.clone());
        MemTransport { network: self.0.clone(), node }
    }

    /// Takes a node off the network, as a crash does: what is on its way to it is lost.
    pub fn leave(&self, id: NodeId) {
        self.0.nodes.lock().remove(&id);
    }
}

impl Network {
    fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.nodes.lock().get(&id).cloned()
    }

    fn at_address(&self, address: &str) -> Option<Arc<Node>> {
        self.nodes.lock().values().find(|node| node.address == address).cloned()
    }

    /// Whether that very node is still there.
    fn has(&self, node: &Arc<Node>) -> bool {
        self.node(node.id).is_some_and(|now| Arc::ptr_eq(&now, node))
    }
}

/// What a caller learns of its call.
type Outcome = Result<Bytes, CallError>;

/// A call between two nodes.
struct Passage {
    network: Arc<Network>,
    from: Arc<Node>,
    to: Arc<Node>,
    flight: Flight,
    /// Where the caller waits; it takes the first outcome.
    back: mpsc::Sender<Outcome>,
}

impl Passage {
    /// Sends the request on its way.
    fn depart(self: Arc<Self>, message: Bytes) {
        let scheduler = self.network.scheduler.clone();
        match scheduler.fate(&self.flight) {
            Fate::Lost => {}
            Fate::Cut => self.answer(Err(unreachable(self.to.id, "the connection is cut"))),
            Fate::Deliver(after) => self.spawn_delivery(message, after),
            Fate::Twice(first, second) => {
                self.clone().spawn_delivery(message.clone(), first);
                self.spawn_delivery(message, second);
            }
        }
    }

    fn spawn_delivery(self: Arc<Self>, message: Bytes, after: Duration) {
        let scheduler = self.network.scheduler.clone();
        scheduler.spawn(Box::pin(async move {
            self.pause(after).await;
            if self.network.has(&self.to) {
                let reply = self.to.receive(self.from.id, message).await;
                self.send_back(reply).await;
            }
        }));
    }

    /// The reply's own way.
    async fn send_back(&self, reply: Bytes) {
        if !self.network.has(&self.to) {
            return;
        }
        let flight = Flight {
            from: self.to.id,
            to: self.from.id,
            is_reply: true,
            len_bytes: reply.len(),
            ..self.flight
        };
        match self.network.scheduler.fate(&flight) {
            Fate::Lost => {}
            Fate::Cut => {
                let why = "the connection was cut".to_owned();
                self.answer(Err(CallError::Broken { to: self.to.id, why }));
            }
            // The caller takes the first, so a second would change nothing.
            Fate::Deliver(after) | Fate::Twice(after, _) => {
                self.pause(after).await;
                self.answer(Ok(reply));
            }
        }
    }

    async fn pause(&self, duration: Duration) {
        if !duration.is_zero() {
            self.network.scheduler.sleep(duration).await;
        }
    }

    fn answer(&self, outcome: Outcome) {
        // A full channel holds an earlier answer; a closed one belongs to a call given up.
        let _ = self.back.try_send(outcome);
    }
}

fn unreachable(to: NodeId, why: &str) -> CallError {
    CallError::Unreachable { to, why: why.to_owned() }
}

impl Node {
    /// Judges a request as it came, has it answered, and gives the reply's bytes.
    async fn receive(&self, from: NodeId, message: Bytes) -> Bytes {
        let me = *self.cluster.lock();
        let mut stamp =
            Stamp { cluster: me, from: self.id, to: from, request_id: 0, shard: ShardId::NONE };
        let reply = match self.open(from, message) {
            Ok((envelope, request)) => {
                stamp = Stamp::answering(&envelope, me, self.id);
                self.handle(from, envelope.shard, request).await
            }
            Err(error) => Err(self.refuse(&error)),
        };
        join(wire::encode_reply(&stamp, &reply.unwrap_or_else(Reply::Refused)).unwrap_or_default())
    }

    fn open(&self, from: NodeId, message: Bytes) -> Result<(Envelope, Request), WireError> {
        let (envelope, body) = split(message)?;
        envelope.check_way(*self.cluster.lock(), from, self.id)?;
        let request = wire::decode_request(&envelope, body)?;
        Ok((envelope, request))
    }

    fn refuse(&self, error: &WireError) -> Refused {
        let code = super::count_refused(&mut self.refused.lock(), error);
        refused(code, error.to_string())
    }

    async fn handle(
        &self,
        from: NodeId,
        shard: ShardId,
        request: Request,
    ) -> Result<Reply, Refused> {
        let handler = self.handler.lock().clone();
        match handler {
            Some(handler) => handler.handle(Incoming { from, shard, request }).await,
            None => Err(refused(RefusedCode::Unavailable, "this node is not serving yet")),
        }
    }

    fn link(&self, to: NodeId, class: Class, change: impl FnOnce(&mut LinkStatus)) {
        if let Some(peer) = self.peers.lock().get_mut(&to) {
            change(&mut peer.links[class.index()]);
        }
    }
}

/// A message's envelope and what follows it.
fn split(mut message: Bytes) -> Result<(Envelope, Bytes), EnvelopeError> {
    let envelope = Envelope::decode(&message)?;
    let body = message.split_off(envelope::BYTES);
    Ok((envelope, body))
}

fn join(pieces: Vec<Bytes>) -> Bytes {
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

impl MemTransport {
    /// Sends a request to a node that was found, and waits.
    async fn exchange(self, to: Arc<Node>, call: Call) -> Result<Reply, CallError> {
        let stamp = Stamp {
            cluster: *self.node.cluster.lock(),
            from: self.node.id,
            to: call.to,
            request_id: self.node.requests.fetch_add(1, Ordering::Relaxed) + 1,
            shard: call.shard,
        };
        let pieces = wire::encode_request(&stamp, &call.request)
            .map_err(|error| CallError::TooLong { to: to.id, why: error.to_string() })?;
        let message = join(pieces);
        self.node.link(to.id, call.class, |link| link.sent_bytes += message.len() as u64);
        let kind = call.request.kind();
        let reply = self.send(to.clone(), &call, kind, message).await?;
        self.node.link(to.id, call.class, |link| link.received_bytes += reply.len() as u64);
        self.open_reply(&to, kind, reply)
    }

    async fn send(&self, to: Arc<Node>, call: &Call, kind: Kind, message: Bytes) -> Outcome {
        let (back, mut outcome) = mpsc::channel(1);
        let flight = Flight {
            from: self.node.id,
            to: to.id,
            class: call.class,
            shard: call.shard,
            kind,
            is_reply: false,
            len_bytes: message.len(),
        };
        let (network, from) = (self.network.clone(), self.node.clone());
        let id = to.id;
        // Held until the end: whatever becomes of the passage, the channel stays open.
        let passage = Arc::new(Passage { network, from, to, flight, back });
        passage.clone().depart(message);
        let mut late = pin!(self.network.scheduler.sleep(call.deadline));
        tokio::select! {
            biased;
            outcome = outcome.recv() => {
                outcome.unwrap_or_else(|| Err(unreachable(id, "the network is gone")))
            }
            () = &mut late => Err(CallError::Timeout { to: id, after: call.deadline }),
        }
    }

    fn open_reply(&self, to: &Node, asked: Kind, reply: Bytes) -> Result<Reply, CallError> {
        let cluster = *self.node.cluster.lock();
        let opened = split(reply).map_err(WireError::from).and_then(|(envelope, body)| {
            envelope.check_way(cluster, to.id, self.node.id)?;
            wire::decode_reply(&envelope, asked, body)
        });
        match opened {
            Ok(Reply::Refused(refused)) => Err(CallError::Refused { to: to.id, refused }),
            Ok(reply) => Ok(reply),
            Err(error) => Err(CallError::BadReply { to: to.id, why: error.to_string() }),
        }
    }

    /// The node that the peer's address leads to now.
    fn reach(&self, to: NodeId) -> Result<Arc<Node>, CallError> {
        if !self.network.has(&self.node) {
            return Err(unreachable(to, "this node is off the network"));
        }
        if !self.node.peers.lock().contains_key(&to) {
            return Err(unreachable(to, "it is no peer of this node"));
        }
        self.network.node(to).ok_or_else(|| unreachable(to, "nobody is there"))
    }

    /// Counts a call from its start to its end.
    async fn counted(self, call: Call) -> Result<Reply, CallError> {
        let (node, to, class) = (self.node.clone(), call.to, call.class);
        node.link(to, class, |link| {
            link.calls += 1;
            link.waiting_calls += 1;
        });
        let outcome = match self.reach(to) {
            Ok(peer) => self.exchange(peer, call).await,
            Err(error) => Err(error),
        };
        node.link(to, class, |link| {
            link.waiting_calls = link.waiting_calls.saturating_sub(1);
            note_outcome(link, &outcome);
        });
        outcome
    }
}

fn note_outcome(link: &mut LinkStatus, outcome: &Result<Reply, CallError>) {
    match outcome {
        Ok(_) | Err(CallError::Refused { .. }) => link.state = LinkState::Connected,
        Err(CallError::Unreachable { .. }) => link.state = LinkState::BackingOff,
        Err(_) => {}
    }
    if let Err(error) = outcome {
        link.failed_calls += 1;
        link.last_error = error.to_string();
    }
}

impl Transport for MemTransport {
    fn node(&self) -> NodeId {
        self.node.id
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        *self.node.handler.lock() = Some(handler);
    }

    fn set_cluster(&self, cluster: ClusterId) {
        *self.node.cluster.lock() = cluster;
    }

    fn set_peer(&self, node: NodeId, address: &str) {
        self.node.peers.lock().entry(node).or_default().address = address.to_owned();
    }

    fn remove_peer(&self, node: NodeId) {
        self.node.peers.lock().remove(&node);
    }

    fn call(&self, call: Call) -> BoxFuture<Result<Reply, CallError>> {
        Box::pin(self.clone().counted(call))
    }

    fn ask_address(
        &self,
        address: &str,
        request: Request,
        deadline: Duration,
    ) -> BoxFuture<Result<(NodeId, Reply), CallError>> {
        let (this, there) = (self.clone(), self.network.at_address(address));
        let address = address.to_owned();
        Box::pin(async move {
            let there = there.filter(|_| this.network.has(&this.node));
            let there = there
                .ok_or_else(|| unreachable(NodeId(0), &format!("nobody answers at {address}")))?;
            let (id, class, shard) = (there.id, Class::Replication, ShardId::NONE);
            let call = Call { to: NodeId(0), class, shard, request, deadline };
            this.exchange(there, call).await.map(|reply| (id, reply))
        })
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let peers = self.node.peers.lock();
        let status = |(node, peer): (&NodeId, &Peer)| PeerStatus {
            node: *node,
            address: peer.address.clone(),
            hello: None,
            links: peer.links.clone(),
        };
        peers.iter().map(status).collect()
    }

    fn refused(&self) -> RefusedCounts {
        *self.node.refused.lock()
    }

    fn close(&self) -> BoxFuture<()> {
        *self.node.handler.lock() = None;
        let mut nodes = self.network.nodes.lock();
        if nodes.get(&self.node.id).is_some_and(|node| Arc::ptr_eq(node, &self.node)) {
            nodes.remove(&self.node.id);
        }
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests;
