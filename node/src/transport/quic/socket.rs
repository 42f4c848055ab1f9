//! The sockets and how QUIC is tuned on them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Limits, NetError};
use crate::transport::tls::Identity;

/// What a socket may hold: without it, bulk loses packets in bursts and runs at half its rate.
const UDP_BUFFER_BYTES: usize = 8 << 20;
/// Assumed until measured: nodes of a cluster stand near each other.
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// What one stream, and all of a connection, may have on their way.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Handshakes that may wait for us to look at them.
const INCOMING_MAX: usize = 256;
/// What may be kept of their packets meanwhile.
const INCOMING_BYTES_MAX: u64 = 1 << 20;

/// What endpoints are made of.
pub(super) struct Setup {
    pub server: ServerConfig,
    pub client: ClientConfig,
    endpoint: EndpointConfig,
}

impl Setup {
    pub fn new(identity: &Identity, limits: &Limits) -> Result<Setup, NetError> {
        let transport = Arc::new(transport_config(limits));
        let server = QuicServerConfig::try_from(identity.server_config()?)
            .map_err(|error| NetError::Tls(error.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server
            .transport_config(transport.clone())
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX)
            .migration(false);
        let client = QuicClientConfig::try_from(identity.client_config()?)
            .map_err(|error| NetError::Tls(error.to_string()))?;
        let mut client = ClientConfig::new(Arc::new(client));
        client.transport_config(transport);
        Ok(Setup { server, client, endpoint: endpoint_config(identity) })
    }

    /// An endpoint on `socket`, for whoever connects if `listens`. Call it on the runtime that is
    /// to drive it.
    pub fn endpoint(&self, socket: UdpSocket, listens: bool) -> io::Result<Endpoint> {
        let server = listens.then(|| self.server.clone());
        Endpoint::new(self.endpoint.clone(), server, socket, Arc::new(TokioRuntime))
    }
}

/// A node that restarts knows nothing of its connections. With a key that is the same at every
/// start it can tell so to peers that still send on them, and they need not wait for the idle
/// timeout.
fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &identity.reset_seed());
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(|| Box::new(AnyId(SystemRandom::new())));
    config
}

/// Connection ids of eight bytes by chance. quinn's own carry the mark of the process that drew
/// them, and what a former process drew would be dropped without a word.
struct AnyId(SystemRandom);

impl ConnectionIdGenerator for AnyId {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; Self::BYTES];
        // Where the system has no randomness left no key could have been made either.
        let _ = self.0.fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        Self::BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl AnyId {
    const BYTES: usize = 8;
}

/// Cubic, MTU discovery and segmentation offload are as quinn has them.
fn transport_config(limits: &Limits) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(limits.keep_alive))
        .max_idle_timeout(IdleTimeout::try_from(limits.idle_timeout).ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.calls_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES));
    config
}

/// A UDP socket with buffers as large as the kernel allows.
pub(super) fn bind(address: SocketAddr) -> Result<UdpSocket, NetError> {
    open(address).map_err(|source| NetError::Bind { address, source })
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    enlarge_buffers(&socket);
    Ok(socket.into())
}

/// Beyond the machine's limit where this process may do that, up to it otherwise.
fn enlarge_buffers(socket: &Socket) {
    use rustix::net::sockopt;
    if sockopt::set_socket_recv_buffer_size_force(socket, UDP_BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, UDP_BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    }
    // The kernel answers with twice what it was asked for: half is for its own books.
    let received = socket.recv_buffer_size().unwrap_or(0) / 2;
    let sent = socket.send_buffer_size().unwrap_or(0) / 2;
    if received.min(sent) < UDP_BUFFER_BYTES {
        tracing::warn!(
            "UDP buffers between nodes are {received} and {sent} bytes, {UDP_BUFFER_BYTES} are \
             wanted or bulk transfers lose packets: set net.core.rmem_max and \
             net.core.wmem_max to {UDP_BUFFER_BYTES} with sysctl, or give CAP_NET_ADMIN"
        );
    }
}
