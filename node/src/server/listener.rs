//! Accepting: binds, refuses whom it must, deals the rest to the io threads.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

use super::Shared;
use super::io_thread::{Accepted, IoThread};
use super::registry::Client;
use crate::ops::config::Settings;
use crate::ops::metrics::{Counter, Shard as Stats};

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

const PROTECTED: &[u8] = b"-DENIED Cairn is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. If you want to connect from external computers to Cairn you may adopt \
one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET \
protected-mode no' from the loopback interface by connecting to Cairn from the same host the server \
is running, however MAKE SURE Cairn is not publicly accessible from internet if you do so. 2) \
Alternatively restart the server with the '--protected-mode no' option. 3) Set up an authentication \
password for the default user. NOTE: You only need to do one of the above things in order for the \
server to start accepting connections from the outside.\r\n";

/// Listens on one address. An IPv6 socket takes no IPv4 connections, so that `::` and `0.0.0.0`
/// can be bound beside each other.
///
/// # Errors
/// With the address in its text, when it cannot be bound.
pub fn bind(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    let listen = || {
        let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok(std::net::TcpListener::from(socket))
    };
    listen().map_err(|error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another server has it: stop that, or choose a --port",
            io::ErrorKind::PermissionDenied => "; ports under 1024 need a privilege",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    })
}

/// Accepts on one listener until it is dropped or aborted, dealing to `threads` in turn.
pub async fn accept_all(
    listener: TcpListener,
    threads: Arc<Vec<IoThread>>,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
) {
    let mut next = 0;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually no file descriptors: wait for some to be closed.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(stream) = stream.into_std() else { continue };
        let settings = shared.config.get();
        if let Some(accepted) = admit(stream, address, &shared, &settings, &stats) {
            threads[next % threads.len()].give(accepted);
            next += 1;
        }
    }
}

fn admit(
    mut stream: std::net::TcpStream,
    address: SocketAddr,
    shared: &Shared,
    settings: &Settings,
    stats: &Stats,
) -> Option<Accepted> {
    let refusal = if shared.clients.len() as u64 >= settings.maxclients {
        Some(TOO_MANY)
    } else if is_protected(settings, address) {
        Some(PROTECTED)
    } else {
        None
    };
    if let Some(text) = refusal {
        stats.count(Counter::rejected_connections, 1);
        // It fits the socket's empty buffer; a peer that is gone already needs no explanation.
        let _ = stream.write(text);
        return None;
    }
    stats.count(Counter::total_connections_received, 1);
    let local = stream.local_addr().ok()?;
    // Without these it works, only slower or longer.
    let _ = stream.set_nodelay(true);
    if settings.tcp_keepalive_seconds > 0 {
        let time = Duration::from_secs(settings.tcp_keepalive_seconds);
        let probes = TcpKeepalive::new().with_time(time).with_interval(time / 3).with_retries(3);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
    }
    let id = shared.clients.next_id();
    let client = Arc::new(Client::new(id, address, local, stream.as_raw_fd()));
    shared.clients.insert(Arc::clone(&client));
    Some(Accepted { stream, client })
}

fn is_protected(settings: &Settings, peer: SocketAddr) -> bool {
    let loopback = peer.ip().to_canonical().is_loopback();
    settings.protected_mode && settings.requirepass.is_empty() && !loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_mode_lets_in_loopback_or_whoever_must_log_in() {
        let outside = SocketAddr::from(([192, 0, 2, 1], 5));
        let inside = SocketAddr::from(([127, 0, 0, 9], 5));
        let mut settings = Settings::defaults();
        assert!(is_protected(&settings, outside));
        assert!(!is_protected(&settings, inside));
        settings.requirepass = "x".into();
        assert!(!is_protected(&settings, outside));
        settings.requirepass.clear();
        settings.protected_mode = false;
        assert!(!is_protected(&settings, outside));
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 5).expect("any port");
        let taken = first.local_addr().expect("bound");
        let refusal = bind(taken, 5).expect_err("taken").to_string();
        assert!(refusal.contains(&taken.to_string()) && refusal.contains("--port"), "{refusal}");
    }
}
