//! A redis-server as the oracle, for the tests of this crate and of the engine.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A redis-server of our own; killed when dropped.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub socket: PathBuf,
    pub stream: UnixStream,
}

/// Where the next server of this process listens: on a path of its own, for a port that was free is
/// anybody's a moment later.
fn socket_path() -> PathBuf {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(format!("cairn-oracle-{process}-{number}.sock"))
}

impl Server {
    /// None, which is said, where there is no redis-server; with `CI` set that is an error.
    pub fn start() -> Option<Server> {
        let socket = socket_path();
        let args = ["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"];
        let process =
            Command::new("redis-server").args(args).arg(&socket).stdout(Stdio::null()).spawn();
        let Ok(process) = process else {
            assert!(std::env::var_os("CI").is_none(), "redis-server is missing");
            eprintln!("skipped: no redis-server (Debian and Ubuntu: apt install redis-server)");
            return None;
        };
        let give_up = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < give_up, "redis-server: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Some(Server { process, socket, stream })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
