//! redis-server with two replicas.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cairn_tests::peer::Peer;
use cairn_tests::process;
use cairn_tests::scratch::Medium;

/// A master and its replicas.
pub struct Replicated {
    /// The master first.
    servers: Vec<Peer>,
}

impl Replicated {
    /// Starts them with their data below `dir` and waits until both replicas are in step.
    ///
    /// # Panics
    /// They do not come up.
    pub fn start(program: &Path, dir: &Path, medium: Medium) -> Replicated {
        let mut args = vec!["--save", "", "--repl-diskless-sync-delay", "0", "--appendonly"];
        args.extend(match medium {
            Medium::Memory => &["no"][..],
            Medium::File => &["yes", "--appendfsync", "always"],
        });
        let start = |at: u64, more: &[&str]| {
            let dir = dir.join(at.to_string());
            std::fs::create_dir(&dir).expect("a directory can be made");
            Peer::start(program, &dir, &[&args, more].concat())
        };
        let master = start(0, &[]);
        let port = master.address().port().to_string();
        let follow = ["--replicaof", "127.0.0.1", &port];
        let servers = vec![master, start(1, &follow), start(2, &follow)];
        let in_step = || {
            let mut conn = servers[0].connect();
            let wrote = conn.call(&["SET", "ready", "1"]);
            let replicas = wrote.and_then(|_| conn.call(&["WAIT", "2", "100"]));
            replicas.is_ok_and(|replicas| replicas.int() == Some(2))
        };
        assert!(process::eventually(Duration::from_secs(60), in_step), "no replica follows");
        Replicated { servers }
    }

    /// All processes.
    pub fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(Peer::pid).collect()
    }

    /// Where the master listens, and a replica.
    pub fn master_and_replica(&self) -> [SocketAddr; 2] {
        [self.servers[0].address(), self.servers[1].address()]
    }
}
