//! A thread that serves connections: one single-threaded runtime, and the buffers its connections
//! borrow while they have something to do.
//!
//! An idle connection holds no buffer: it takes a [`Scratch`] from its thread when bytes arrive and
//! gives it back when they are answered, so ten thousand idle connections cost their sockets and a
//! few hundred bytes each, and the few buffers in use stay in cache.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use cairn_protocol::resp::Frames;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};

use super::Shared;
use super::connection::{Answered, Connection, READ_BYTES};
use super::registry::Client;
use crate::ops::config::Settings;
use crate::ops::entropy::Seeds;
use crate::ops::metrics::Shard as Stats;
use crate::raft::Submission;

/// Capacity above which a buffer is given back to the system rather than kept.
const KEEP_BYTES: usize = 1 << 20;
/// How many idle sets of buffers a thread keeps.
const KEEP_SCRATCHES: usize = 64;

/// A connection that was accepted and belongs to a thread from here on.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, non-blocking.
    pub stream: std::net::TcpStream,
    /// Its entry among the connections, made when it was accepted so that they are counted right.
    pub client: Arc<Client>,
}

/// What a connection needs while it works on a batch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Bytes as they came.
    pub input: Vec<u8>,
    /// Where the requests lie in them.
    pub frames: Frames,
    /// Replies to be sent.
    pub out: Vec<u8>,
    /// Writes on their way.
    pub submission: Arc<Submission>,
    /// Whether the submission's batch holds anything.
    pub pending: bool,
    /// The first request whose reply is in that batch.
    pub pending_first: usize,
    /// Reads of the run that is being timed.
    pub run: Vec<Answered>,
}

impl Scratch {
    fn fresh() -> Box<Scratch> {
        Box::new(Scratch { input: Vec::with_capacity(READ_BYTES), ..Scratch::default() })
    }

    fn reset(&mut self) {
        for buffer in [&mut self.input, &mut self.out] {
            buffer.clear();
            if buffer.capacity() > KEEP_BYTES {
                *buffer = Vec::new();
            }
        }
        self.input.reserve(READ_BYTES);
        self.frames.clear();
        self.run.clear();
        self.pending = false;
    }
}

/// What the connections of one thread share.
#[derive(Debug)]
pub(super) struct Thread {
    pub shared: Arc<Shared>,
    pub stats: Arc<Stats>,
    settings: RefCell<Rc<Settings>>,
    settings_version: Cell<u64>,
    // Boxed so that a connection's future, which holds one while it works, stays small.
    #[allow(clippy::vec_box)]
    scratches: RefCell<Vec<Box<Scratch>>>,
    seeds: RefCell<Seeds>,
}

impl Thread {
    fn new(shared: Arc<Shared>) -> Rc<Thread> {
        Rc::new(Thread {
            stats: shared.metrics.shard(),
            settings: RefCell::new(Rc::new(Settings::clone(&shared.config.get()))),
            settings_version: Cell::new(shared.config.version()),
            scratches: RefCell::default(),
            seeds: RefCell::default(),
            shared,
        })
    }

    /// The settings, fetched anew only after they have changed; this thread's own copy, so that no
    /// count is shared with others.
    pub fn settings(&self) -> Rc<Settings> {
        let version = self.shared.config.version();
        if self.settings_version.replace(version) != version {
            self.settings.replace(Rc::new(Settings::clone(&self.shared.config.get())));
        }
        Rc::clone(&self.settings.borrow())
    }

    /// A seed for reads that draw at random; they are not replicated.
    pub fn next_seed(&self) -> u64 {
        self.seeds.borrow_mut().next_seed()
    }

    /// Buffers to work with.
    pub fn take_scratch(&self) -> Box<Scratch> {
        self.scratches.borrow_mut().pop().unwrap_or_else(Scratch::fresh)
    }

    /// Gives them back, emptied.
    pub fn put_scratch(&self, mut scratch: Box<Scratch>) {
        scratch.reset();
        let mut scratches = self.scratches.borrow_mut();
        if scratches.len() < KEEP_SCRATCHES {
            scratches.push(scratch);
        }
    }
}

/// A running thread.
#[derive(Debug)]
pub struct IoThread {
    sender: UnboundedSender<Accepted>,
    handle: JoinHandle<()>,
}

impl IoThread {
    /// Starts the thread with number `number`.
    ///
    /// # Errors
    /// When the system refuses a thread or its runtime.
    pub fn start(number: usize, shared: Arc<Shared>) -> std::io::Result<IoThread> {
        let (sender, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || LocalSet::new().block_on(&runtime, serve_all(receiver, shared));
        let handle = std::thread::Builder::new().name(format!("cairn-io-{number}")).spawn(work)?;
        Ok(IoThread { sender, handle })
    }

    /// Hands a connection to the thread; false if the thread is gone.
    pub fn give(&self, accepted: Accepted) -> bool {
        self.sender.send(accepted).is_ok()
    }

    /// Tells the thread that nothing more comes; it ends when its connections have. The handle
    /// tells when.
    pub fn finish(self) -> JoinHandle<()> {
        drop(self.sender);
        self.handle
    }
}

async fn serve_all(mut receiver: UnboundedReceiver<Accepted>, shared: Arc<Shared>) {
    let thread = Thread::new(shared);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = receiver.recv() => match accepted {
                Some(accepted) => adopt(&thread, accepted, &mut connections),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

fn adopt(thread: &Rc<Thread>, accepted: Accepted, connections: &mut JoinSet<()>) {
    let Accepted { stream, client } = accepted;
    match TcpStream::from_std(stream) {
        Ok(stream) => {
            let connection = Connection::new(Rc::clone(thread), stream, client);
            connections.spawn_local(connection.serve());
        }
        Err(error) => {
            thread.shared.clients.remove(client.id);
            tracing::warn!("cannot serve {}: {error}", client.address);
        }
    }
}
