//! A `cairn` process of one test's own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::process;
use crate::resp::Conn;

/// How long a start, a stop or a refusal may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: `CAIRN_BIN`, or the one of this workspace, built once a process with the
/// profile of the tests (Cargo tells a test only of binaries in its own package).
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("CAIRN_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// Whether `cairn health` with these flags finds a node at `address` well.
pub fn is_well(address: SocketAddr, flags: &[&str]) -> bool {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let asked = Command::new(binary())
        .args(["health", "--host", &host, "--port", &port])
        .args(flags)
        .output();
    asked.expect("cairn health runs").status.success()
}

fn build() -> PathBuf {
    // This program is target/PROFILE/deps/NAME.
    let own = std::env::current_exe().expect("this program has a path");
    let profile_dir = own.parent().and_then(Path::parent).expect("cargo runs it from deps");
    let target_dir = profile_dir.parent().expect("cargo's target directory");
    let profile = if profile_dir.ends_with("release") { "release" } else { "test" };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "cairn-node", "--bin", "cairn"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "cairn does not build");
    profile_dir.join("cairn")
}

/// How to start a node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    dir: PathBuf,
    program: Option<PathBuf>,
    args: Vec<String>,
    user: Option<u32>,
    damaged: bool,
    around: Box<Around>,
}

/// What a node runs in, when that is not simply this machine.
#[derive(Clone, Debug, Default)]
struct Around {
    /// What stands before the binary in the command line, such as `ip netns exec NAME`.
    within: Vec<String>,
    env: Vec<(String, String)>,
    reached_at: Option<SocketAddr>,
}

impl NodeOptions {
    /// A node on a free port with its data in `dir`, with memory enough for a test.
    pub fn new(dir: &Path) -> NodeOptions {
        let args = ["--port", "0", "--memory", "1gb"].map(str::to_owned).to_vec();
        NodeOptions {
            dir: dir.to_owned(),
            program: None,
            args,
            user: None,
            damaged: false,
            around: Box::default(),
        }
    }

    /// Where its data lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same node with another directory.
    pub fn in_dir(mut self, dir: &Path) -> NodeOptions {
        self.dir = dir.to_owned();
        self
    }

    /// One more option with its value; a later one of the same name replaces the earlier.
    pub fn set(mut self, name: &str, value: &str) -> NodeOptions {
        let flag = format!("--{name}");
        if let Some(at) = self.args.iter().position(|arg| *arg == flag) {
            self.args.drain(at..at + 2);
        }
        self.args.extend([flag, value.to_owned()]);
        self
    }

    /// Runs another build than the one under test.
    pub fn program(mut self, program: &Path) -> NodeOptions {
        self.program = Some(program.to_owned());
        self
    }

    /// Runs as another user; only root can.
    pub fn user(mut self, uid: u32) -> NodeOptions {
        self.user = Some(uid);
        self
    }

    /// Its pool was damaged on purpose; any other node fails its test when it finds damage.
    pub fn damaged(mut self) -> NodeOptions {
        self.damaged = true;
        self
    }

    /// Runs behind another program that replaces itself by what it is given.
    pub fn within(mut self, words: &[&str]) -> NodeOptions {
        self.around.within = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> NodeOptions {
        self.around.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Clients reach it there, whatever its ready line says.
    pub fn reached_at(mut self, address: SocketAddr) -> NodeOptions {
        self.around.reached_at = Some(address);
        self
    }

    fn command(&self) -> Command {
        let program = self.program.as_deref().unwrap_or_else(|| binary());
        let mut words = self.around.within.iter().map(AsRef::as_ref).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).arg("--dir").arg(&self.dir).args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        // Options of whoever runs the tests are not for the nodes under test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CAIRN_") {
                command.env_remove(name);
            }
        }
        command.envs(self.around.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits for its ready line.
    ///
    /// # Panics
    /// When it refuses to start.
    pub fn start(&self) -> Node {
        match self.try_start() {
            Ok(node) => node,
            Err(refusal) => panic!("cairn does not start: {refusal:?}"),
        }
    }

    /// Starts it and waits for its ready line or its end.
    ///
    /// # Errors
    /// What it said when it refused.
    pub fn try_start(&self) -> Result<Node, Refusal> {
        let started = Instant::now();
        let mut child = self.command().spawn().expect("the cairn binary can be run");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&log));
        let ready = first_line(child.stdout.take().expect("stdout is piped"));
        match ready.recv_timeout(PATIENCE) {
            Ok(line) => {
                let address = self.around.reached_at.unwrap_or_else(|| address_in(&line));
                let ready_after = started.elapsed();
                Ok(Node { options: self.clone(), child, address, ready: line, ready_after, log })
            }
            Err(_) => Err(refusal(child, &log)),
        }
    }
}

/// Why a node did not start.
#[derive(Debug)]
pub struct Refusal {
    /// How the process ended.
    pub status: ExitStatus,
    /// All it wrote to standard error.
    pub text: String,
}

fn refusal(mut child: Child, log: &Mutex<String>) -> Refusal {
    let status = process::wait(&mut child, PATIENCE).unwrap_or_else(|| {
        child.kill().and_then(|()| child.wait()).expect("a child of ours can be killed")
    });
    // The collector sees the end of the pipe a moment after the process ended.
    std::thread::sleep(Duration::from_millis(50));
    Refusal { status, text: log.lock().expect("no collector panics").clone() }
}

fn collect(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no reader panics");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// The first line of a pipe; the rest is read and dropped, so that the writer never blocks.
fn first_line(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Only the first is waited for.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn address_in(ready: &str) -> SocketAddr {
    let words = ready.split_whitespace().map(|word| word.trim_end_matches(':'));
    let address = words.filter_map(|word| word.parse().ok()).next();
    address.unwrap_or_else(|| panic!("no address in the ready line: {ready}"))
}

/// A running node. It is killed when dropped.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    child: Child,
    address: SocketAddr,
    ready: String,
    ready_after: Duration,
    log: Arc<Mutex<String>>,
}

impl Node {
    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The line it printed when it was ready.
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// Time from exec to the ready line, as seen from outside.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no collector panics").clone()
    }

    /// A connection.
    pub fn connect(&self) -> Conn {
        Conn::open(self.address).expect("the node accepts connections")
    }

    /// A field of INFO, empty when it is not there.
    pub fn info(&self, field: &str) -> String {
        let reply = self.connect().call(&["INFO", "everything"]).expect("the node answers");
        let text = reply.text();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().to_owned()
    }

    /// Memory of its own: what it holds beside the pages of the pool's file.
    pub fn anonymous_bytes(&self) -> u64 {
        process::status_bytes(self.pid(), "RssAnon")
    }

    /// Is it still running?
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill9(mut self) -> NodeOptions {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("a killed child can be waited for");
        self.options.clone()
    }

    /// Waits for it to end by itself; how it did, and what it logged.
    pub fn wait(mut self) -> (NodeOptions, ExitStatus, String) {
        let status = process::wait(&mut self.child, PATIENCE).expect("the node ends by itself");
        // The collector sees the end of the pipe a moment after the process ended.
        std::thread::sleep(Duration::from_millis(50));
        (self.options.clone(), status, self.log())
    }

    /// Asks it to stop in order and waits until it has.
    pub fn stop(mut self) -> (NodeOptions, ExitStatus) {
        process::terminate(self.pid());
        let status = process::wait(&mut self.child, PATIENCE).expect("SIGTERM ends the node");
        (self.options.clone(), status)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the node on {} ---\n{}", self.address, self.log());
        } else {
            let unharmed = self.options.damaged || !self.log().contains(" is damaged");
            assert!(unharmed, "the node on {} found damage:\n{}", self.address, self.log());
        }
    }
}
