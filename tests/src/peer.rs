//! Redis and Valkey processes: the oracle of the differential tests, and the benches' measure.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::ports;
use crate::process;
use crate::resp::Conn;
use crate::tools;

/// A running redis-server or valkey-server. It is killed when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    /// Debian's redis-server without persistence, in a directory it never writes to. None means
    /// skip; the reason has been printed.
    pub fn oracle() -> Option<Peer> {
        let program = tools::find("redis-server", tools::REDIS_REMEDY)?;
        Some(Peer::start(&program, Path::new("/"), &["--save", "", "--appendonly", "no"]))
    }

    /// `program` on a free port, its data in `dir`, with further options.
    ///
    /// # Panics
    /// When it cannot be run, or does not answer within two minutes (it may have data to load).
    pub fn start(program: &Path, dir: &Path, args: &[&str]) -> Peer {
        let peer = Peer::exec(program, dir, args);
        let ready = process::eventually(Duration::from_secs(120), || peer.answers());
        assert!(ready, "{} does not answer", program.display());
        peer
    }

    /// Starts it and waits for nothing.
    pub fn exec(program: &Path, dir: &Path, args: &[&str]) -> Peer {
        let port = ports::claim(1);
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(dir)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        Peer { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn answers(&self) -> bool {
        let pong = Conn::open(self.address).and_then(|mut conn| conn.call(&["PING"]));
        pong.is_ok_and(|reply| !reply.is_error())
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection.
    pub fn connect(&self) -> Conn {
        Conn::open(self.address).expect("the peer accepts connections")
    }

    /// Ends it at once.
    pub fn kill9(mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
