//! Connections that others make, and the requests that arrive on any.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_protocol::cluster::Envelope;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time;

use super::gate::Entry;
use super::{
    Class, Guest, Hello, Inbox, Incoming, Kind, Net, NodeId, Outbox, Peer, ReadMessageError,
    Refused, RefusedCode, Reply, Request, ShardId, Stamp, WireError, close_code, dial, refused,
    wire,
};

/// A connection's place, for as long as it lives.
struct Place(Arc<Net>);

impl Place {
    /// One more, unless there are as many as there may be.
    fn new(net: &Arc<Net>) -> Option<Place> {
        let place = Place(net.clone());
        // It takes back what was added, also when that was too much.
        let before = net.connections.fetch_add(1, Ordering::Relaxed);
        (before < net.limits.connections_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is being read, handled or answered, for as long as it lives.
struct Answering(Arc<Net>);

impl Answering {
    fn new(net: &Arc<Net>) -> Answering {
        net.answering.fetch_add(1, Ordering::Relaxed);
        Answering(net.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the handshakes that are under way, for as long as it lives.
struct Handshake {
    net: Arc<Net>,
    from: IpAddr,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.net.gate.leave(self.from);
    }
}

/// Takes whoever connects, until the endpoint is closed.
pub(super) async fn accept(net: Arc<Net>) {
    let Some(endpoint) = net.main.endpoint() else { return };
    while let Some(incoming) = endpoint.accept().await {
        let from = incoming.remote_address().ip();
        let is_proven = incoming.remote_address_validated() || !incoming.may_retry();
        let handshake = match net.gate.enter(from, is_proven, &net.limits) {
            Entry::Welcome => Some(Handshake { net: net.clone(), from }),
            Entry::Prove => {
                // Costs a packet and no memory; who forges addresses never comes back.
                let _ = incoming.retry();
                continue;
            }
            Entry::Full => None,
        };
        let (Some(handshake), Some(place)) = (handshake, Place::new(&net)) else {
            net.count(|refused| refused.busy += 1);
            incoming.refuse();
            continue;
        };
        tokio::spawn(receive(net.clone(), incoming, handshake, place));
    }
}

/// A guest: proves itself, says Hello, and is served until its connection ends.
async fn receive(net: Arc<Net>, incoming: quinn::Incoming, handshake: Handshake, _place: Place) {
    let (limit, address) = (net.limits.handshake_timeout, incoming.remote_address());
    let welcomed = time::timeout(limit, welcome(&net, incoming)).await;
    drop(handshake);
    match welcomed {
        Ok(Ok(guest)) => {
            let (node, class) = (guest.hello.node, Class::from_number(guest.hello.class));
            let connection = guest.connection.clone();
            net.gate.expect(address.ip());
            if let Some(class) = class {
                note_guest(&net, node, class, guest);
            }
            serve(net, node, class, connection).await;
        }
        Ok(Err(Unwelcome::Refused(connection, refused))) => {
            net.warn(address, &refused.text);
            connection.close(close_code::REFUSED, refused.text.as_bytes());
        }
        Ok(Err(Unwelcome::Failed(error))) if dial::is_about_certificates(&error) => {
            net.count(|refused| refused.certificates += 1);
            net.warn(address, &dial::why(&error));
        }
        Ok(Err(Unwelcome::Failed(_))) | Err(_) => net.count(|refused| refused.handshakes += 1),
    }
}

/// Why a guest is not served.
enum Unwelcome {
    /// It proved itself and was told why.
    Refused(Connection, Refused),
    /// It did not get that far.
    Failed(ConnectionError),
}

/// The handshake and the guest's Hello.
async fn welcome(net: &Net, incoming: quinn::Incoming) -> Result<Guest, Unwelcome> {
    let connection = incoming.await.map_err(Unwelcome::Failed)?;
    let Some(node) = dial::proven(&connection) else {
        net.count(|counts| counts.certificates += 1);
        let refused = refused(RefusedCode::Identity, "the certificate names no node");
        return Err(Unwelcome::Refused(connection, refused));
    };
    let (send, receive) = connection.accept_bi().await.map_err(Unwelcome::Failed)?;
    let (mut outbox, mut inbox) = (Outbox::new(send), Inbox::new(receive));
    let heard = hear(net, node, &mut inbox).await;
    let mut stamp = net.stamp(node, ShardId::NONE);
    let (reply, outcome) = match heard {
        Ok((request_id, hello)) => {
            stamp.request_id = request_id;
            note_hello(net, &hello);
            (Reply::Hello(net.hello(0)), Ok(hello))
        }
        Err(Unheard::Lost) => {
            let lost = connection.close_reason().unwrap_or(ConnectionError::LocallyClosed);
            return Err(Unwelcome::Failed(lost));
        }
        Err(Unheard::Refused(refused)) => (Reply::Refused(refused.clone()), Err(refused)),
    };
    // If it cannot be sent the connection is lost, which whoever serves it finds out.
    let _ = outbox.send(wire::encode_reply(&stamp, &reply).unwrap_or_default()).await;
    match outcome {
        Ok(hello) => Ok(Guest { connection, hello }),
        Err(refused) => {
            outbox.delivered().await;
            Err(Unwelcome::Refused(connection, refused))
        }
    }
}

/// Why no Hello was heard.
enum Unheard {
    Refused(Refused),
    Lost,
}

/// Reads and judges a Hello; returns it with its request's id.
async fn hear(net: &Net, node: NodeId, inbox: &mut Inbox) -> Result<(u64, Hello), Unheard> {
    let judged = async {
        let envelope = inbox.envelope().await?;
        envelope.check_way(net.cluster(), node, net.node)?;
        if envelope.kind != Kind::Hello {
            let Envelope { kind, is_reply, .. } = envelope;
            return Err(WireError::Unexpected { kind, is_reply }.into());
        }
        let body = inbox.body(&envelope).await?;
        Ok((envelope.request_id, wire::decode_request(&envelope, body)?))
    };
    match judged.await {
        Ok((request_id, Request::Hello(hello))) => {
            dial::judge(&hello, node).map_err(|refused| {
                net.count(|counts| match refused.code {
                    RefusedCode::Version => counts.versions += 1,
                    _ => counts.identities += 1,
                });
                Unheard::Refused(refused)
            })?;
            Ok((request_id, hello))
        }
        Ok(_) => Err(Unheard::Lost), // The kind was looked at above.
        Err(ReadMessageError::Lost(_)) => Err(Unheard::Lost),
        Err(ReadMessageError::Wire(error)) => Err(Unheard::Refused(net.refuse(&error))),
    }
}

fn note_hello(net: &Net, hello: &Hello) {
    if let Some(peer) = net.peer(hello.node) {
        peer.heard(hello.clone());
    }
}

/// Remembers a guest's connection in the place of the one it made before, and lets the link to it
/// know.
fn note_guest(net: &Net, node: NodeId, class: Class, guest: Guest) {
    // Peers first, as where they are added: a link learns of each guest once at least.
    let peers = net.peers.lock();
    if let Some(peer) = peers.get(&node) {
        peer.links[class.index()].peer_came(&guest.connection);
    }
    let before = net.guests.lock().insert((node, class), guest);
    drop(peers);
    if let Some(before) = before {
        before.connection.close(close_code::REPLACED, b"a newer connection took its place");
    }
}

/// Lets a peer's links know of the connections that it made before it was a peer.
pub(super) fn welcome_guests(net: &Net, peer: &Peer) {
    let guests = net.guests.lock();
    for link in &peer.links {
        if let Some(guest) = guests.get(&link.key()) {
            peer.heard(guest.hello.clone());
            link.peer_came(&guest.connection);
        }
    }
}

/// Answers what arrives on a connection until it ends, whoever made it.
pub(super) async fn serve(
    net: Arc<Net>,
    node: NodeId,
    class: Option<Class>,
    connection: Connection,
) {
    let session = Arc::new(Session {
        node,
        bytes: Semaphore::new(net.limits.calls_bytes_max),
        net: net.clone(),
    });
    let runtime = &net.lane(class.unwrap_or(Class::Replication)).runtime;
    let error = loop {
        match connection.accept_bi().await {
            Ok((send, receive)) => {
                runtime.spawn(session.clone().answer(send, receive));
            }
            Err(error) => break error,
        }
    };
    let Some(class) = class else { return };
    let mut guests = net.guests.lock();
    let is_guest = |guest: &Guest| guest.connection.stable_id() == connection.stable_id();
    if guests.get(&(node, class)).is_some_and(is_guest) {
        guests.remove(&(node, class));
    }
    drop(guests);
    if let Some(peer) = net.peer(node) {
        peer.links[class.index()].lost(&connection, &dial::why(&error));
    }
}

/// What the requests on one connection share.
struct Session {
    net: Arc<Net>,
    node: NodeId,
    /// Places for the bytes of requests that are being read, handled or answered. (How many those
    /// may be, QUIC sees to: a stream counts until it is answered, also if its asker gave up.)
    bytes: Semaphore,
}

impl Session {
    /// Reads the request on a stream, has it answered, and sends the reply.
    async fn answer(self: Arc<Self>, send: SendStream, receive: RecvStream) {
        let (mut outbox, mut inbox) = (Outbox::new(send), Inbox::new(receive));
        let mut stamp = self.net.stamp(self.node, ShardId::NONE);
        stamp.request_id = 0;
        let _answering = Answering::new(&self.net);
        // Held to the end.
        let mut room = None;
        let reply = match self.open(&mut inbox, &mut room).await {
            Opened::Request(envelope, request) => {
                stamp = Stamp::answering(&envelope, self.net.cluster(), self.net.node);
                self.handle(envelope.shard, request).await
            }
            Opened::Refused(refused) => {
                inbox.stop();
                Err(refused)
            }
            Opened::Lost => return,
        };
        let pieces = encode(&stamp, reply.unwrap_or_else(Reply::Refused));
        // A peer that does not take its reply in time has given up, or should have.
        let _ = time::timeout(self.net.limits.message_timeout, outbox.send(pieces)).await;
        if self.net.is_closed.load(Ordering::Relaxed) {
            // What is not delivered by the end is lost.
            let _ = time::timeout(self.net.limits.message_timeout, outbox.delivered()).await;
        }
    }

    /// Reads and judges a request, within what may be read at once and the time it may take.
    async fn open<'a>(
        &'a self,
        inbox: &mut Inbox,
        room: &mut Option<SemaphorePermit<'a>>,
    ) -> Opened {
        let limit = self.net.limits.message_timeout;
        match time::timeout(limit, self.read(inbox, room)).await {
            Ok(Ok((envelope, request))) => Opened::Request(envelope, request),
            Ok(Err(ReadMessageError::Wire(error))) => Opened::Refused(self.net.refuse(&error)),
            Ok(Err(ReadMessageError::Lost(_))) => Opened::Lost,
            Err(_) => {
                self.net.count(|refused| refused.malformed += 1);
                let text = format!("the request did not arrive within {} ms", limit.as_millis());
                Opened::Refused(refused(RefusedCode::Malformed, text))
            }
        }
    }

    async fn read<'a>(
        &'a self,
        inbox: &mut Inbox,
        room: &mut Option<SemaphorePermit<'a>>,
    ) -> Result<(Envelope, Request), ReadMessageError> {
        let envelope = inbox.envelope().await?;
        envelope.check_way(self.net.cluster(), self.node, self.net.node)?;
        if envelope.kind == Kind::Hello {
            let Envelope { kind, is_reply, .. } = envelope;
            return Err(WireError::Unexpected { kind, is_reply }.into());
        }
        let wanted = envelope.body_len().min(self.net.limits.calls_bytes_max);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        *room = self.bytes.acquire_many(wanted).await.ok();
        let body = inbox.body(&envelope).await?;
        Ok((envelope, wire::decode_request(&envelope, body)?))
    }

    async fn handle(&self, shard: ShardId, request: Request) -> Result<Reply, Refused> {
        let handler = self.net.handler.lock().clone();
        match handler {
            Some(handler) => handler.handle(Incoming { from: self.node, shard, request }).await,
            None => Err(refused(RefusedCode::Unavailable, "this node is not serving yet")),
        }
    }
}

/// What came on a stream.
enum Opened {
    Request(Envelope, Request),
    Refused(Refused),
    /// Nothing that could be answered.
    Lost,
}

/// A reply's bytes, or those of a refusal that says why it has none.
fn encode(stamp: &Stamp, reply: Reply) -> Vec<Bytes> {
    wire::encode_reply(stamp, &reply).unwrap_or_else(|error| {
        let refused = refused(RefusedCode::Failed, error.to_string());
        wire::encode_reply(stamp, &Reply::Refused(refused)).unwrap_or_default()
    })
}
