//! One connection: read what is there, decode all of it, run it, answer it, in order.
//!
//! The hot path takes no channel hop and allocates nothing: requests are decoded in place, a run of
//! reads shares one hold of the shard's read lock, the writes of a batch are encoded straight into
//! one submission, and all replies leave in one write. [`Connection::advance`] does the work that
//! needs no waiting; what it returns tells the loop around it what to wait for.

mod lent;
mod transaction;

use lent::Copied;
pub use lent::CopiedOut;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use cairn_engine::{At, Effects, Engine, Lent, encode_limits};
use cairn_protocol::WireError;
use cairn_protocol::command::{CommandId, Flags, Place, Spec, keys, lookup_full, resolve};
use cairn_protocol::op::{OpRef, operations};
use cairn_protocol::resp::{Argv, Frames, Proto, RequestDecoder, Writer};
use cairn_store::{Db, Demand, Key, Spare};
use futures_util::FutureExt;
use parking_lot::{MutexGuard, RwLockReadGuard};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::commands::{self, After, Context, SharedSettings, Waiting};
use super::io_thread::{Scratch, Thread};
use super::queue::is_immediate;
use super::registry::{Activity, Client};
use super::session::Session;
use super::slowlog::{SlowEntry, cut_args};
use super::{parts, row, staging};
use crate::ops::clock;
use crate::ops::metrics::{Counter, Hold};
use crate::raft::{
    Batch, Group, HOLD, Lease, LongRead, LongReply, Prefetch, Submission, Ticket, Way, error_code,
    eviction, first_key, is_long, session_of,
};

/// Room for one read from a socket.
pub(super) const READ_BYTES: usize = 32 << 10;
/// Requests decoded before they are answered.
const BATCH_REQUESTS: usize = 512;
/// Reads under one hold of the shard's lock: some tens of microseconds.
const HOLD_READS: usize = 64;
/// Arguments up to which a command that is fast for each of them is fast.
const SHORT_ARGS: usize = 32;
/// Replies gathered before they are sent though more requests wait.
const FLUSH_BYTES: usize = 1 << 20;
/// Bytes of a batch's writes, reads and ready replies after which it is submitted.
const SUBMIT_BYTES: usize = 1 << 20;
/// Writes of a batch, and their bytes, after which it is submitted while there is little room, and
/// what is little: one of deletes must fit in what evacuation leaves, so a few.
const SCARCE_WRITES: u32 = 8;
const SCARCE_BYTES: usize = 8 << 10;
const SCARCE_ROOM_BYTES: u64 = 8 << 20;
/// A request that came in part is moved into the connection's own buffer by swapping rather than
/// copying when it is longer than this.
const SWAP_BYTES: usize = READ_BYTES / 2;
/// Between two looks at what the replicas have.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
];
/// With a lower threshold than this the slow log times every command on its own.
const EXACT_BELOW_US: i64 = 1000;

/// The reply to what panicked on a thread of its own.
const FAILED_INSIDE: &[u8] = b"-ERR the command failed inside; see the server's log\r\n";

/// The connection is over; nothing more can be sent.
struct Gone;

/// What [`Connection::advance`] stopped for.
enum Next {
    /// All requests of the batch have run or are pending.
    Done,
    /// The pending batch is to be submitted, then go on.
    Submit,
    /// Replies are to be sent, then go on.
    Flush,
    /// A command of the server's that needs everything before it answered.
    Server(&'static Spec),
    /// A write whose arguments are too long for one log record.
    Stage(&'static Spec),
    /// A delete that has no room as one operation.
    Part(&'static Spec),
    /// A read that may take long and must not hold the lock meanwhile.
    LongRead(&'static Spec),
}

/// Complete requests and the bytes that they lie in.
#[derive(Clone, Copy)]
struct Requests<'a> {
    frames: &'a Frames,
    input: &'a [u8],
}

impl<'a> Requests<'a> {
    fn len(self) -> usize {
        self.frames.len()
    }

    fn argv(self, at: usize) -> Argv<'a> {
        self.frames.argv(at, self.input)
    }
}

/// A client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    thread: Rc<Thread>,
    client: Arc<Client>,
    session: Session,
    decoder: RequestDecoder,
    /// The beginning of a request whose rest has not come yet.
    partial: Vec<u8>,
    last_command: CommandId,
    /// Nothing more may be sent: it is not known what became of a write.
    broken: Cell<bool>,
    /// Another node may remember what this client watches.
    told_to_watch: Cell<bool>,
    /// Where that node is being told that it watches nothing any more.
    forgetting: Option<JoinHandle<()>>,
}

impl Connection {
    pub fn new(thread: Rc<Thread>, stream: TcpStream, client: Arc<Client>) -> Connection {
        let settings = thread.settings();
        let session = Session::new(&settings);
        Connection {
            decoder: RequestDecoder::new(session.limits(&settings)),
            stream,
            thread,
            client,
            session,
            partial: Vec::new(),
            last_command: CommandId::Command,
            broken: Cell::new(false),
            told_to_watch: Cell::new(false),
            forgetting: None,
        }
    }

    /// Serves the client until it goes or is made to.
    pub async fn serve(mut self) {
        std::future::poll_fn(|cx| {
            self.client.set_waker(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
        while let Some(mut scratch) = self.receive().await {
            let outcome = self.answer(&mut scratch).await;
            self.thread.put_scratch(scratch);
            if outcome.is_err() {
                break;
            }
            if self.session.watching.is_none() {
                self.forget();
            }
        }
        self.forget();
        self.client.clear_waker();
        self.thread.shared.clients.remove(self.client.id);
    }

    /// Waits for bytes and returns them behind those of an incomplete request. None when the peer
    /// has closed, the connection was killed, or the node stops and nothing is left to answer.
    async fn receive(&mut self) -> Option<Box<Scratch>> {
        std::future::poll_fn(|cx| {
            if self.client.is_killed() {
                return Poll::Ready(None);
            }
            // The buffers are only borrowed for this look: while nothing comes nobody holds them.
            let mut scratch = self.thread.take_scratch();
            self.restore_partial(&mut scratch.input);
            let held = scratch.input.len();
            let read = pin!(self.stream.read_buf(&mut scratch.input)).poll(cx);
            match read {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.partial = Vec::new();
                    self.thread.stats.count(Counter::total_net_input_bytes, n as u64);
                    self.thread.stats.count(Counter::total_reads_processed, 1);
                    Poll::Ready(Some(scratch))
                }
                Poll::Ready(_) => {
                    self.thread.put_scratch(scratch);
                    Poll::Ready(None)
                }
                Poll::Pending => {
                    debug_assert_eq!(held, scratch.input.len());
                    self.keep_partial(&mut scratch.input, 0);
                    self.thread.put_scratch(scratch);
                    match self.thread.shared.stop.why() {
                        Some(_) => Poll::Ready(None),
                        None => Poll::Pending,
                    }
                }
            }
        })
        .await
    }

    /// Puts an incomplete request in front of what is about to be read, with room for the rest as
    /// far as it is known: at most doubling, since the peer has only claimed those bytes.
    fn restore_partial(&mut self, input: &mut Vec<u8>) {
        if self.partial.is_empty() {
            return;
        }
        if self.partial.len() > SWAP_BYTES {
            std::mem::swap(&mut self.partial, input);
        } else {
            input.extend_from_slice(&self.partial);
        }
        let wanted =
            self.decoder.need_hint(input.len()).clamp(READ_BYTES, input.len().max(READ_BYTES));
        if input.capacity() - input.len() < wanted.min(READ_BYTES) {
            input.reserve_exact(wanted);
        }
    }

    /// Keeps what follows the first `consumed` bytes for the next read.
    fn keep_partial(&mut self, input: &mut Vec<u8>, consumed: usize) {
        let left = input.len() - consumed;
        if left > SWAP_BYTES {
            input.drain(..consumed);
            std::mem::swap(&mut self.partial, input);
        } else if self.partial.len() != left || consumed > 0 {
            self.partial.clear();
            self.partial.extend_from_slice(&input[consumed..]);
        }
        input.clear();
    }

    /// Answers all complete requests of the input.
    async fn answer(&mut self, scratch: &mut Scratch) -> Result<(), Gone> {
        let now = clock::now();
        let input = std::mem::take(&mut scratch.input);
        let outcome = self.answer_input(scratch, &input).await;
        scratch.input = input;
        let consumed = outcome?;
        let left = scratch.input.len() - consumed;
        self.client.note_query(left);
        self.note_activity(now);
        let queued = self.session.queue.as_ref().map_or(0, |queue| queue.bytes());
        if (left + queued) as u64 > self.thread.settings().query_buffer_limit {
            self.thread.stats.count(Counter::client_query_buffer_limit_disconnections, 1);
            tracing::warn!("closing client {}: its query buffer is full", self.client.address);
            return Err(Gone);
        }
        self.keep_partial(&mut scratch.input, consumed);
        Ok(())
    }

    fn note_activity(&self, now: Instant) {
        let Session { db, proto, queue, watching, .. } = &self.session;
        self.client.note(
            now,
            Activity {
                db: *db,
                proto: *proto,
                last: self.last_command,
                queued: queue.as_ref().map(|queue| (queue.len(), queue.bytes())),
                watched: watching.as_ref().map_or(0, |watching| watching.watch.len()),
            },
        );
    }

    /// Returns how many bytes of `input` were answered.
    async fn answer_input(&mut self, scratch: &mut Scratch, input: &[u8]) -> Result<usize, Gone> {
        let mut frames = std::mem::take(&mut scratch.frames);
        let outcome = self.answer_frames(scratch, &mut frames, input).await;
        scratch.frames = frames;
        outcome
    }

    async fn answer_frames(
        &mut self,
        scratch: &mut Scratch,
        frames: &mut Frames,
        input: &[u8],
    ) -> Result<usize, Gone> {
        let mut consumed = 0;
        loop {
            // Before the login each request may change what the next one is allowed.
            let most = if self.session.authenticated { BATCH_REQUESTS } else { 1 };
            frames.clear();
            let rest = &input[consumed..];
            let decoded = self.decoder.decode(rest, frames, most);
            if !frames.is_empty() {
                self.run_requests(scratch, Requests { frames, input: rest }).await?;
            }
            match decoded {
                Ok(0) => break,
                Ok(bytes) => consumed += bytes,
                Err(error) => {
                    Writer::new(&mut scratch.out, self.session.proto)
                        .error_text(&error.to_string());
                    self.thread.shared.metrics.error("ERR");
                    self.flush(&mut scratch.out).await?;
                    return Err(Gone);
                }
            }
        }
        self.flush(&mut scratch.out).await?;
        Ok(consumed)
    }

    /// Runs all of `requests`; their replies are in `scratch.out`.
    async fn run_requests(
        &mut self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
    ) -> Result<(), Gone> {
        let mut at = 0;
        loop {
            match self.advance(scratch, requests, &mut at) {
                Next::Done => {
                    self.settle(scratch, requests).await?;
                    return Ok(());
                }
                Next::Submit => self.settle(scratch, requests).await?,
                Next::Flush => self.flush(&mut scratch.out).await?,
                Next::Server(spec) => {
                    self.settle(scratch, requests).await?;
                    self.run_server_command(scratch, requests, spec, at).await?;
                    self.session.end_command();
                    at += 1;
                }
                Next::LongRead(spec) => {
                    self.settle(scratch, requests).await?;
                    self.read_long(scratch, requests, spec, at).await?;
                    self.session.end_command();
                    at += 1;
                }
                Next::Part(spec) => {
                    self.settle(scratch, requests).await?;
                    self.delete_in_parts(scratch, requests, spec, at).await?;
                    self.session.end_command();
                    at += 1;
                }
                Next::Stage(spec) => {
                    self.settle(scratch, requests).await?;
                    self.stage(scratch, requests, spec, at).await?;
                    self.session.end_command();
                    at += 1;
                }
            }
        }
    }

    /// Runs requests from `at` on until something must be waited for.
    fn advance(&mut self, scratch: &mut Scratch, requests: Requests<'_>, at: &mut usize) -> Next {
        let thread = Rc::clone(&self.thread);
        let mut run = Run { thread: &thread, reading: None };
        let mut ahead = Ahead::default();
        let exact = self.times_each_command();
        while *at < requests.len() {
            let spec = match ahead.spec(*at).map_or_else(|| self.admit(requests.argv(*at)), Ok) {
                Ok(spec) => spec,
                Err(refusal) => {
                    let refusal = self.spoil(refusal);
                    self.refuse(scratch, &refusal);
                    self.session.end_command();
                    *at += 1;
                    continue;
                }
            };
            if self.session.queue.is_some() && !is_immediate(spec.id) {
                self.close(&mut run, scratch, requests);
                self.enqueue(scratch, spec, requests.argv(*at));
                self.session.end_command();
                *at += 1;
                continue;
            }
            let step = match spec.place {
                Place::Read if is_long(spec.id) && self.reads_here() => {
                    self.close(&mut run, scratch, requests);
                    return Next::LongRead(spec);
                }
                Place::Read
                    if !scratch.pending && run.open(*at, &self.session, scratch.out.len()) =>
                {
                    if ahead.spec(*at).is_none() && *at + 1 < requests.len() {
                        ahead = run.look_ahead(&self.session, requests, *at);
                    }
                    let argv = requests.argv(*at);
                    let from = scratch.out.len();
                    if !run.read(&self.session, spec, argv, ahead.key(*at), &mut scratch.out) {
                        self.close(&mut run, scratch, requests);
                        return Next::LongRead(spec);
                    }
                    let reply = from..scratch.out.len();
                    scratch.run.push(Answered { spec, db: self.session.db, at: *at, reply });
                    let many = requests.argv(*at).len() > SHORT_ARGS;
                    let slow = exact || many || !spec.flags.contains(Flags::FAST);
                    // Beyond that under a new hold, so that writers get their turn, and so that a
                    // command that may be slow is timed alone.
                    if slow || scratch.run.len() >= HOLD_READS {
                        self.close(&mut run, scratch, requests);
                    }
                    (scratch.out.len() >= FLUSH_BYTES).then_some(Next::Flush)
                }
                // It may be too long to be sent on: then it is refused alone.
                Place::Read if scratch.pending && staging::is_needed(requests.argv(*at)) => {
                    return Next::Submit;
                }
                Place::Read => {
                    let mut batch = self.open_batch(scratch, *at);
                    let silent = self.session.is_silent();
                    batch.push_read(spec, self.session.db, requests.argv(*at), silent);
                    (batch.held_bytes() >= SUBMIT_BYTES).then_some(Next::Submit)
                }
                Place::Write => {
                    self.close(&mut run, scratch, requests);
                    let db = self.session.db;
                    if let Some(damage) = self.damage_below(spec, db, requests.argv(*at)) {
                        self.refuse(scratch, &damage);
                        self.session.end_command();
                        *at += 1;
                        continue;
                    }
                    let (group, argv) = (&self.thread.shared.group, requests.argv(*at));
                    if parts::is_needed(group, spec, db, argv) {
                        return Next::Part(spec);
                    }
                    if staging::is_needed(argv) {
                        return Next::Stage(spec);
                    }
                    let held = self.queue_write(scratch, requests, spec, *at);
                    let enough = held >= SUBMIT_BYTES || self.is_wide_for_room(scratch, held);
                    (enough || exact).then_some(Next::Submit)
                }
                Place::Server if spec.id == CommandId::Exec && self.exec_is_plain() => {
                    self.close(&mut run, scratch, requests);
                    let enough = self.queue_exec(scratch, *at) >= SUBMIT_BYTES;
                    (enough || exact).then_some(Next::Submit)
                }
                Place::Server if commands::is_placeable(spec.id) => {
                    self.run_in_place(scratch, requests, spec, *at);
                    None
                }
                Place::Server => {
                    self.close(&mut run, scratch, requests);
                    return Next::Server(spec);
                }
            };
            self.last_command = spec.id;
            self.session.end_command();
            *at += 1;
            if let Some(next) = step {
                self.close(&mut run, scratch, requests);
                return next;
            }
        }
        self.close(&mut run, scratch, requests);
        Next::Done
    }

    /// Damage that a write would meet on the way to its keys. While the pool has not been found
    /// whole it is better to look before the write is logged, for one that is logged and cannot be
    /// applied halts the shard.
    fn damage_below(&self, spec: &'static Spec, db: u16, argv: Argv<'_>) -> Option<WireError> {
        let shared = &self.thread.shared;
        if shared.scrubbing.trusted.load(Ordering::Relaxed) {
            return None;
        }
        let engine = shared.group.read();
        let found = keys::keys_of(spec, argv).find_map(|position| {
            let key = engine.hash(&argv[position]);
            engine.store().get(Db(db), &key).err()
        });
        found.map(|damage| WireError::Corrupt(damage.to_string()))
    }

    /// The row that answers a request, if this session may ask for it.
    fn admit(&self, argv: Argv<'_>) -> Result<&'static Spec, WireError> {
        let spec = resolve(argv)?;
        if !self.session.authenticated && !spec.flags.contains(Flags::NO_AUTH) {
            return Err(WireError::NoAuth);
        }
        Ok(spec)
    }

    /// Adds a write to the pending batch; returns the bytes that this now holds.
    fn queue_write(
        &self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
        spec: &'static Spec,
        at: usize,
    ) -> usize {
        let mut batch = self.open_batch(scratch, at);
        let argv = requests.argv(at);
        batch.push_write(spec, self.session.db, argv, self.session.is_silent());
        batch.held_bytes()
    }

    /// Whether the pending batch, which holds so many bytes, should not be wider where there is
    /// little room: all of it must find room before any of it frees some.
    fn is_wide_for_room(&self, scratch: &Scratch, held_bytes: usize) -> bool {
        let writes = scratch.submission.batch().write_count();
        if writes < SCARCE_WRITES && held_bytes < SCARCE_BYTES {
            return false;
        }
        let little = Demand::of_any_size(SCARCE_ROOM_BYTES);
        !self.thread.shared.group.read().store().has_plenty(&little, Spare::Deletes)
    }

    /// The pending batch, to which the request `at` adds something.
    fn open_batch<'s>(&self, scratch: &'s mut Scratch, at: usize) -> MutexGuard<'s, Batch> {
        let Scratch { submission, pending, pending_first, .. } = scratch;
        let mut batch = submission.batch();
        if !*pending {
            *pending = true;
            *pending_first = at;
            batch.set_proto(self.session.proto);
        }
        batch
    }

    /// Puts a reply that is known already in its place.
    fn place(&self, scratch: &mut Scratch, write: impl FnOnce(&mut Writer<'_>)) {
        let (proto, silent) = (self.session.proto, self.session.is_silent());
        if scratch.pending {
            let mut batch = scratch.submission.batch();
            batch.push_reply(silent, |out| write(&mut Writer::new(out, proto)));
        } else if !silent {
            write(&mut Writer::new(&mut scratch.out, proto));
        }
    }

    /// Runs a command of the server's that does not depend on what is pending.
    fn run_in_place(
        &mut self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
        spec: &'static Spec,
        at: usize,
    ) {
        let Scratch { submission, out, pending, .. } = scratch;
        let argv = requests.argv(at);
        let silent = self.session.is_silent();
        let thread = Rc::clone(&self.thread);
        let mut context = self.context(&thread);
        let from = out.len();
        // Such commands neither close nor wait, so what comes after them is always the next one.
        let mut run = |out: &mut Vec<u8>| {
            commands::execute(&mut context, spec, argv, out);
        };
        if *pending {
            submission.batch().push_reply(silent, run);
        } else {
            run(out);
            note_failure(&thread, spec, &out[from..]);
            if silent {
                out.truncate(from);
            }
        }
        note_call(&thread, spec, 0);
    }

    /// Runs any other command of the server's, after all before it were answered.
    async fn run_server_command(
        &mut self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
        spec: &'static Spec,
        at: usize,
    ) -> Result<(), Gone> {
        let thread = Rc::clone(&self.thread);
        let start = clock::now();
        let from = scratch.out.len();
        let argv = requests.argv(at);
        // As it is before this command, for CLIENT LIST.
        self.note_activity(start);
        let after = match spec.id {
            CommandId::Exec => self.exec(scratch).await,
            CommandId::Watch => self.watch(scratch, argv).await,
            _ => commands::execute(&mut self.context(&thread), spec, argv, &mut scratch.out),
        };
        self.last_command = spec.id;
        self.decoder.set_limits(self.session.limits(&thread.settings()));
        let outcome = match after {
            After::Continue => Ok(()),
            After::Sleep(duration) => {
                tokio::time::sleep(duration).await;
                Ok(())
            }
            After::Wait(waiting) => self.wait_for_replicas(waiting, &mut scratch.out).await,
            After::Remove(node) => {
                let removed = self.thread.shared.group.remove(node).await;
                let mut w = Writer::new(&mut scratch.out, self.session.proto);
                match removed {
                    Ok(()) => w.ok(),
                    Err(why) => w.error_text(&format!("ERR {why}")),
                }
                Ok(())
            }
            After::Change(changes) => {
                self.change(scratch, from, &changes).await;
                Ok(())
            }
            After::Close => Err(Gone),
        };
        note_failure(&thread, spec, &scratch.out[from..]);
        // As it is now: CLIENT REPLY ON is answered though it was off before.
        if self.session.is_silent() {
            scratch.out.truncate(from);
        }
        if outcome.is_err() {
            self.flush(&mut scratch.out).await?;
        }
        let nanos = clock::nanos_since(start);
        note_call(&thread, spec, nanos);
        self.note_slow(requests.argv(at), 1, nanos);
        outcome
    }

    /// Waits for what WAIT or WAITAOF asks for, and answers it.
    async fn wait_for_replicas(&self, waiting: Waiting, out: &mut Vec<u8>) -> Result<(), Gone> {
        let Waiting { replicas, longest, local } = waiting;
        let (group, start) = (&self.thread.shared.group, clock::now());
        let local = match local {
            Some(wanted) => Some(!group.acknowledges_early() || wanted && group.sync_log().await),
            None => None,
        };
        // What is written from here on is not waited for.
        let (mut found, mut upto) = (group.replicas_in_step(), None);
        let is_over = || !longest.is_zero() && start.elapsed() >= longest;
        for look in 0.. {
            if let Some((now, index)) = group.in_step(upto).await {
                // Who has what was acknowledged keeps it; a new leader has to learn who that is.
                found = if upto.is_some() { found.max(now) } else { now };
                upto = Some(index);
            }
            // Alone there never will be more; and who is told to stop waits for nobody.
            let stops = group.is_alone() || self.thread.shared.stop.why().is_some();
            if found >= replicas || is_over() || stops {
                break;
            }
            if self.has_gone() {
                return Err(Gone);
            }
            let left = longest.saturating_sub(start.elapsed());
            let pause = LOOKS[LOOKS.len().min(look + 1) - 1];
            tokio::time::sleep(if longest.is_zero() { pause } else { pause.min(left) }).await;
        }
        self.answer_waiting(local, found, out);
        Ok(())
    }

    /// Whether the client has closed its end, or its connection was killed.
    fn has_gone(&self) -> bool {
        // What it has sent meanwhile stays to be read, so reading does not tell.
        let is_closed = match self.stream.ready(Interest::READABLE).now_or_never() {
            Some(ready) => ready.map_or(true, |ready| ready.is_read_closed()),
            None => false,
        };
        self.client.is_killed() || is_closed
    }

    fn answer_waiting(&self, local: Option<bool>, replicas: usize, out: &mut Vec<u8>) {
        let mut w = Writer::new(out, self.session.proto);
        if let Some(local) = local {
            w.array(2);
            w.int(local.into());
        }
        w.int(replicas as i64);
    }

    /// Proposes a change of what all replicas share; the reply that stands from `from` on becomes
    /// the error, if there is one.
    async fn change(&self, scratch: &mut Scratch, from: usize, changes: &SharedSettings) {
        let mut way = self.way(&mut scratch.submission);
        if !changes.limits.is_empty() {
            let spec = CommandId::InternalLimits.spec();
            way.batch().push_encoded(spec, |out| encode_limits(out, &changes.limits));
            way.run().await;
            replace_by_error(&way, &mut scratch.out, from);
        }
        if let Some(limit_bytes) = changes.memory {
            eviction::set_limit(&mut way, limit_bytes).await;
            replace_by_error(&way, &mut scratch.out, from);
        }
        if way.is_lost() {
            self.broken.set(true);
        }
    }

    /// Runs a read that may take long, on what is there now.
    async fn read_long(
        &mut self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
        spec: &'static Spec,
        at: usize,
    ) -> Result<(), Gone> {
        self.last_command = spec.id;
        let start = clock::now();
        let command = (spec, self.session.db, requests.argv(at));
        let now_ms = self.thread.shared.group.wall_ms();
        let time = At { now_ms, seed: self.thread.next_seed() };
        let (proto, silent) = (self.session.proto, self.session.is_silent());
        let group = &self.thread.shared.group;
        let pinned = Right::of(group, &self.session).and_then(|right| {
            let pinned = group.pin(&self.thread.stats);
            right.holds(group).then_some(pinned)
        });
        let Some(pinned) = pinned else {
            let (db, argv) = (self.session.db, requests.argv(at));
            self.open_batch(scratch, at).push_read(spec, db, argv, silent);
            return self.settle(scratch, requests).await;
        };
        let read = LongRead::new(pinned, command, time, proto, silent);
        self.answer_long(scratch, read).await?;
        note_call(&self.thread, spec, clock::nanos_since(start));
        Ok(())
    }

    /// Answers a read on its pinned root, so that it holds no lock, and on a thread of its own, so
    /// that this one serves its other connections meanwhile.
    async fn answer_long(&self, scratch: &mut Scratch, read: LongRead) -> Result<(), Gone> {
        let (read, (mut reply, lent)) = self.run_deferred(read).await;
        if read.silent {
            return Ok(());
        }
        if reply.len() < FLUSH_BYTES {
            scratch.out.extend_from_slice(&reply);
            return match lent {
                Some(lent) => self.send_lent(&mut scratch.out, read, lent).await,
                None => Ok(()),
            };
        }
        // The client may be slow to take it: what was read must not be held so long.
        drop(read);
        // As it lies, once the client has taken what is before it.
        self.flush(&mut scratch.out).await?;
        self.flush(&mut reply).await
    }

    /// Runs a long read, counts and times it.
    async fn run_deferred(&self, read: LongRead) -> (Arc<LongRead>, (Vec<u8>, Option<Lent>)) {
        let start = clock::now();
        let (read, (reply, effects, lent)) = run_long(read, &self.thread).await;
        count_effects(&self.thread, &effects);
        note_failure(&self.thread, read.spec(), &reply);
        self.note_slow(read.argv(), 1, clock::nanos_since(start));
        (read, (reply, lent))
    }

    /// Answers a read that was put off, and sends what there is of replies when that is much.
    async fn answer_deferred(
        &self,
        scratch: &mut Scratch,
        deferred: Deferred<'_>,
    ) -> Result<(), Gone> {
        match deferred {
            Deferred::Pinned(read) => self.answer_long(scratch, read).await?,
            Deferred::Copied(mut copied) => {
                self.flush(&mut scratch.out).await?;
                self.flush(&mut copied.bytes).await?;
            }
        }
        if scratch.out.len() >= FLUSH_BYTES {
            self.flush(&mut scratch.out).await?;
        }
        Ok(())
    }

    /// Whether this node may answer reads by itself.
    fn reads_here(&self) -> bool {
        Right::of(&self.thread.shared.group, &self.session).is_some()
    }

    /// This client's way to its shard.
    fn way<'a>(&'a self, submission: &'a mut Arc<Submission>) -> Way<'a> {
        let thread = &self.thread;
        Way::new(&thread.shared.group, self.number(), &thread.stats, submission)
    }

    /// This connection's number among those of all nodes' lives.
    fn number(&self) -> u64 {
        session_of(self.thread.shared.clients.life(), self.client.id)
    }

    fn context<'a>(&'a mut self, thread: &'a Thread) -> Context<'a> {
        let Thread { shared, stats, .. } = thread;
        Context { shared, stats, session: &mut self.session, client: &self.client }
    }

    /// Stages a write's long arguments, then proposes it.
    async fn stage(
        &mut self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
        spec: &'static Spec,
        at: usize,
    ) -> Result<(), Gone> {
        self.last_command = spec.id;
        let argv = requests.argv(at);
        let how = staging::Write {
            spec,
            db: self.session.db,
            argv,
            proto: self.session.proto,
            silent: self.session.is_silent(),
        };
        let mut way = self.way(&mut scratch.submission);
        let proposed = staging::propose(&mut way, how).await;
        if way.is_lost() {
            return Err(Gone);
        }
        match proposed {
            Ok(()) => {
                scratch.pending_first = at;
                self.collect(scratch, requests).await
            }
            Err(refusal) => {
                self.refuse(scratch, &refusal);
                Ok(())
            }
        }
    }

    /// Has a delete of many keys executed part by part.
    async fn delete_in_parts(
        &mut self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
        spec: &'static Spec,
        at: usize,
    ) -> Result<(), Gone> {
        self.last_command = spec.id;
        let start = clock::now();
        let mut way = self.way(&mut scratch.submission);
        let deleted = parts::delete(&mut way, spec, self.session.db, requests.argv(at)).await;
        if way.is_lost() {
            return Err(Gone);
        }
        match deleted {
            Ok((deleted, effects)) => {
                self.place(scratch, |w| w.int(deleted));
                count_effects(&self.thread, &effects);
                note_call(&self.thread, spec, clock::nanos_since(start));
            }
            Err(refusal) => self.refuse(scratch, &refusal),
        }
        self.note_slow(requests.argv(at), 1, clock::nanos_since(start));
        Ok(())
    }

    /// Submits what is pending, waits for it and takes the replies.
    async fn settle(&mut self, scratch: &mut Scratch, requests: Requests<'_>) -> Result<(), Gone> {
        if !scratch.pending {
            return Ok(());
        }
        let mut way = self.way(&mut scratch.submission);
        way.run().await;
        if way.is_lost() {
            scratch.pending = false;
            return Err(Gone);
        }
        self.collect(scratch, requests).await
    }

    /// Takes the replies of a batch that is done, and answers what of it was put off.
    async fn collect(&mut self, scratch: &mut Scratch, requests: Requests<'_>) -> Result<(), Gone> {
        let (deferred, rest) = {
            let mut batch = scratch.submission.batch();
            (batch.take_deferred(), batch.take_rest())
        };
        if deferred.is_empty() {
            let Scratch { submission, out, .. } = scratch;
            let (count, nanos) = take_replies(&self.thread, &mut submission.batch(), out);
            scratch.pending = false;
            self.note_slow(requests.argv(scratch.pending_first), count, nanos);
            return match rest {
                Some(rest) => self.send_rest(scratch, rest).await,
                None => Ok(()),
            };
        }
        let (mut replies, mut from) = (Vec::new(), 0);
        take_replies(&self.thread, &mut scratch.submission.batch(), &mut replies);
        scratch.pending = false;
        let (this, until) = (&*self, clock::now() + HOLD);
        let mut waiting: VecDeque<(usize, Deferred<'_>)> =
            deferred.into_iter().map(|(at, read)| (at, Deferred::Pinned(read))).collect();
        while let Some((at, next)) = waiting.pop_front() {
            scratch.out.extend_from_slice(&replies[from..at]);
            from = at;
            let mut answered = pin!(this.answer_deferred(scratch, next));
            if let Ok(answered) = timeout_at(until.into(), &mut answered).await {
                answered?;
                continue;
            }
            // The client is slow to take this one: those behind it must not hold the pool so long.
            for (_, behind) in &mut waiting {
                behind.copy_out(this).await?;
            }
            answered.await?;
        }
        scratch.out.extend_from_slice(&replies[from..]);
        Ok(())
    }

    /// Sends the client what another node keeps for it, piece by piece as it takes them.
    async fn send_rest(&self, scratch: &mut Scratch, rest: Ticket) -> Result<(), Gone> {
        let mut rest = Some(rest);
        while let Some(ticket) = rest {
            self.flush_before(&mut scratch.out, ticket).await?;
            // Without it a reply would end in the middle.
            let fetched = self.thread.shared.group.fetch_rest(ticket).await.map_err(|_| Gone)?;
            scratch.out.extend_from_slice(&fetched.0);
            rest = fetched.1;
        }
        Ok(())
    }

    /// Sends what is in `out` while another node keeps what comes behind it.
    async fn flush_before(&self, out: &mut Vec<u8>, rest: Ticket) -> Result<(), Gone> {
        let mut flushed = pin!(self.flush(out));
        loop {
            tokio::select! {
                biased;
                flushed = &mut flushed => return flushed,
                () = self.thread.shared.group.keep_wanting(rest) => {}
            }
        }
    }

    /// Ends a run of reads: lets go of the lock, counts and times it.
    fn close(&self, run: &mut Run<'_>, scratch: &mut Scratch, requests: Requests<'_>) {
        let Some(reading) = run.reading.take() else { return };
        let Reading { engine, start, first, from, right, .. } = reading;
        drop(engine);
        let nanos = clock::nanos_since(start);
        self.thread.stats.hold(Hold::Read, nanos);
        if !right.holds(&self.thread.shared.group) {
            return self.ask_again(scratch, requests, first, from);
        }
        let count = scratch.run.len();
        for Answered { spec, .. } in scratch.run.drain(..) {
            note_call(&self.thread, spec, nanos / count as u64);
        }
        self.note_slow(requests.argv(first), count, nanos);
    }

    /// What a run answered may be old, for this node lost the right to answer it: whoever leads is
    /// asked instead. The run's replies begin at `from`.
    fn ask_again(
        &self,
        scratch: &mut Scratch,
        requests: Requests<'_>,
        first: usize,
        mut from: usize,
    ) {
        let (begin, run) = (from, std::mem::take(&mut scratch.run));
        let replies = scratch.out.split_off(begin);
        let between = |from: usize, to: usize| &replies[from - begin..to - begin];
        let mut batch = self.open_batch(scratch, first);
        for Answered { spec, db, at, reply } in run {
            batch.push_reply(false, |out| out.extend_from_slice(between(from, reply.start)));
            // Every reply has bytes, but one that is not to be sent.
            batch.push_read(spec, db, requests.argv(at), reply.is_empty());
            from = reply.end;
        }
        batch.push_reply(false, |out| out.extend_from_slice(between(from, begin + replies.len())));
    }

    /// Answers a request that is not run at all.
    fn refuse(&self, scratch: &mut Scratch, refusal: &WireError) {
        self.place(scratch, |w| w.error(refusal));
        let thread = &self.thread;
        thread.stats.count(Counter::total_error_replies, 1);
        thread.shared.metrics.error(&refusal.code());
        if let WireError::WrongArity(name) = refusal
            && let Some(spec) = lookup_full(name.as_bytes())
        {
            thread.stats.command_rejected(row(spec));
        }
    }

    fn times_each_command(&self) -> bool {
        let threshold = self.thread.settings().slowlog_slower_than_us;
        (0..EXACT_BELOW_US).contains(&threshold)
    }

    /// Keeps a slow run for SLOWLOG: under its first command, with a word when there were more.
    fn note_slow(&self, argv: Argv<'_>, count: usize, nanos: u64) {
        let settings = self.thread.settings();
        let Ok(threshold) = u64::try_from(settings.slowlog_slower_than_us) else { return };
        if nanos / 1000 < threshold || count == 0 {
            return;
        }
        if resolve(argv).is_ok_and(|spec| spec.flags.contains(Flags::SKIP_SLOWLOG)) {
            return;
        }
        let mut args = cut_args(argv);
        if count > 1 {
            args.push(format!("... (first of a run of {count})").into_bytes());
        }
        let entry = SlowEntry {
            id: 0,
            at_seconds: clock::wall_ms() / 1000,
            duration_us: nanos / 1000,
            args,
            address: self.client.address.to_string(),
            name: self.client.names().name,
        };
        self.thread.shared.slowlog.push(entry, settings.slowlog_max_len);
    }

    /// Sends what is in `out`, waiting for the client where it must.
    async fn flush(&self, out: &mut Vec<u8>) -> Result<(), Gone> {
        if out.is_empty() && !self.broken.get() {
            return Ok(());
        }
        self.check_output(out.len() as u64)?;
        let sent = self.send(out).await;
        self.thread.stats.count(Counter::total_net_output_bytes, out.len() as u64);
        self.thread.stats.count(Counter::total_writes_processed, 1);
        out.clear();
        sent
    }

    /// Closes a client whose replies are longer than the configuration allows, or must not be sent.
    fn check_output(&self, bytes: u64) -> Result<(), Gone> {
        if self.broken.get() {
            return Err(Gone);
        }
        let limit = self.thread.settings().output_limit.hard_bytes;
        if limit == 0 || bytes <= limit {
            return Ok(());
        }
        self.thread.stats.count(Counter::client_output_buffer_limit_disconnections, 1);
        tracing::warn!("closing client {}: its replies exceed the limit", self.client.address);
        Err(Gone)
    }

    async fn send(&self, mut bytes: &[u8]) -> Result<(), Gone> {
        let mut waited = false;
        loop {
            match self.stream.try_write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waited = true;
                    self.client.note_output(clock::now(), bytes.len());
                    self.writable().await?;
                }
                Err(_) => return Err(Gone),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if waited {
            self.client.note_output(clock::now(), 0);
        }
        Ok(())
    }

    /// Waits until the socket takes bytes again, or the connection is killed.
    async fn writable(&self) -> Result<(), Gone> {
        std::future::poll_fn(|cx| {
            if self.client.is_killed() {
                return Poll::Ready(Err(Gone));
            }
            self.stream.poll_write_ready(cx).map_err(|_| Gone)
        })
        .await
    }
}

/// Runs a read: here if that is a look-up, else on a thread of its own.
async fn run_long(read: LongRead, thread: &Thread) -> (Arc<LongRead>, LongReply) {
    let read = Arc::new(read);
    // Until the pool is known to be sound all of what is found is checked, which takes longer.
    if read.is_brief() && thread.shared.scrubbing.trusted.load(Ordering::Relaxed) {
        let reply = read.run();
        return (read, reply);
    }
    let reader = Arc::clone(&read);
    let walk = tokio::task::spawn_blocking(move || reader.run());
    let failed = |_| (FAILED_INSIDE.to_vec(), Effects::default(), None);
    (read, walk.await.unwrap_or_else(failed))
}

/// A read that waits for its client to take the replies before its own.
enum Deferred<'a> {
    /// On a pinned root.
    Pinned(LongRead),
    /// Answered, and no longer in need of the pool.
    Copied(Copied<'a>),
}

impl<'a> Deferred<'a> {
    /// Lets go of the pool.
    async fn copy_out(&mut self, connection: &'a Connection) -> Result<(), Gone> {
        let pinned = std::mem::replace(self, Deferred::Copied(Copied::default()));
        *self = match pinned {
            Deferred::Pinned(read) => Deferred::Copied(connection.copy_out(read).await?),
            copied => copied,
        };
        Ok(())
    }
}

/// Reads that run under one hold of the shard's lock.
struct Reading<'g> {
    engine: RwLockReadGuard<'g, Engine>,
    at: At,
    start: Instant,
    /// The first request of the run.
    first: usize,
    /// Where their replies begin.
    from: usize,
    /// By what right they are answered here.
    right: Right,
}

/// By what right a node answers reads by itself.
#[derive(Clone, Copy)]
enum Right {
    /// It leads.
    Lease(Lease),
    /// The client does with what may be old.
    Readonly,
}

impl Right {
    /// What there is; None: whoever leads is to be asked.
    fn of(group: &Group, session: &Session) -> Option<Right> {
        match session.readonly {
            true => Some(Right::Readonly),
            false => group.lease().map(Right::Lease),
        }
    }

    /// Whether what was read meanwhile may be sent.
    fn holds(self, group: &Group) -> bool {
        match self {
            Right::Lease(lease) => group.still_holds(lease),
            Right::Readonly => true,
        }
    }
}

/// A read of a run that has been answered.
#[derive(Debug)]
pub(super) struct Answered {
    spec: &'static Spec,
    db: u16,
    /// Its request.
    at: usize,
    /// Where its reply lies.
    reply: Range<usize>,
}

/// Requests looked at together, so that the cache misses of their keys overlap.
const AHEAD: usize = 16;

/// The reads that follow one another from some request on: their rows, and their first keys hashed
/// and on their way into the cache.
#[derive(Default)]
struct Ahead<'a> {
    first: usize,
    reads: [Option<(&'static Spec, Option<Key<'a>>)>; AHEAD],
}

impl<'a> Ahead<'a> {
    fn get(&self, at: usize) -> Option<&(&'static Spec, Option<Key<'a>>)> {
        self.reads.get(at.wrapping_sub(self.first))?.as_ref()
    }

    fn spec(&self, at: usize) -> Option<&'static Spec> {
        self.get(at).map(|(spec, _)| *spec)
    }

    fn key(&self, at: usize) -> Option<Key<'a>> {
        self.get(at)?.1
    }
}

/// The run of reads that is open, if any.
struct Run<'g> {
    thread: &'g Thread,
    reading: Option<Reading<'g>>,
}

impl Run<'_> {
    /// Opens it, unless it is, with replies from `from` on; false when this node may not answer reads
    /// by itself.
    fn open(&mut self, first: usize, session: &Session, from: usize) -> bool {
        if self.reading.is_some() {
            return true;
        }
        let group = &self.thread.shared.group;
        let Some(right) = Right::of(group, session) else { return false };
        let engine = group.read();
        // What the shard's clock has seen it never forgets, whatever the machine's says.
        let now_ms = group.wall_ms().max(engine.store().clock_ms());
        let at = At { now_ms, seed: self.thread.next_seed() };
        self.reading = Some(Reading { engine, at, start: clock::now(), first, from, right });
        true
    }

    /// Looks at the reads from `first` on, which has been admitted; what follows it on the same
    /// session is admitted too, since reads change nothing about that.
    fn look_ahead<'a>(&self, session: &Session, requests: Requests<'a>, first: usize) -> Ahead<'a> {
        let mut ahead = Ahead { first, ..Ahead::default() };
        let Some(Reading { engine, .. }) = &self.reading else { return ahead };
        let mut keys = Prefetch::default();
        for (slot, at) in ahead.reads.iter_mut().zip(first..requests.len()) {
            let argv = requests.argv(at);
            let Ok(spec) = resolve(argv) else { break };
            if spec.place != Place::Read || is_long(spec.id) {
                break;
            }
            let key = first_key(spec, argv).map(|key| engine.hash(key));
            keys.extend(key.map(|key| (Db(session.db), key)));
            *slot = Some((spec, key));
        }
        keys.fetch(engine);
        ahead
    }

    /// Answers a read; false when it would take too long here, and then nothing has happened.
    fn read(
        &self,
        session: &Session,
        spec: &'static Spec,
        argv: Argv<'_>,
        key: Option<Key<'_>>,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(reading) = &self.reading else { return false };
        let from = out.len();
        let db = Db(session.db);
        let mut writer = Writer::new(out, session.proto);
        match reading.engine.read_or_defer(spec, db, argv, key, &reading.at, &mut writer) {
            Ok(effects) if effects.deferred => return false,
            Ok(effects) => count_effects(self.thread, &effects),
            Err(fatal) => {
                out.truncate(from);
                let text = fatal.to_string();
                Writer::new(out, session.proto).error(&WireError::Corrupt(text));
            }
        }
        note_failure(self.thread, spec, &out[from..]);
        if session.is_silent() {
            out.truncate(from);
        }
        true
    }
}

/// Takes the replies of a batch of the node's own: if they are an error, that is the answer.
fn replace_by_error(way: &Way<'_>, out: &mut Vec<u8>, from: usize) {
    let mut reply = Vec::new();
    way.batch().take_replies(&mut reply);
    if error_code(&reply).is_some() {
        out.truncate(from);
        out.extend_from_slice(&reply);
    }
}

/// Moves the replies of a batch that is done to `out` and counts what it did; returns how many
/// commands ran, and how long.
fn take_replies(thread: &Thread, batch: &mut Batch, out: &mut Vec<u8>) -> (usize, u64) {
    let (count, nanos) = (batch.commands().len(), batch.apply_nanos());
    for spec in batch.commands() {
        note_call(thread, spec, nanos / count as u64);
    }
    for (spec, code) in batch.failed() {
        count_failure(thread, spec, code);
    }
    count_effects(thread, &batch.take_replies(out));
    (count, nanos)
}

fn count_effects(thread: &Thread, effects: &Effects) {
    let counts = [
        (Counter::keyspace_hits, effects.hits),
        (Counter::keyspace_misses, effects.misses),
        (Counter::expired_keys, effects.expired),
    ];
    for (counter, by) in counts {
        if by > 0 {
            thread.stats.count(counter, by.into());
        }
    }
}

fn note_call(thread: &Thread, spec: &'static Spec, nanos: u64) {
    thread.stats.command(row(spec), nanos);
    thread.stats.count(Counter::total_commands_processed, 1);
}

/// Counts a reply that is an error.
fn note_failure(thread: &Thread, spec: &'static Spec, reply: &[u8]) {
    if let Some(code) = error_code(reply) {
        count_failure(thread, spec, code);
    }
}

fn count_failure(thread: &Thread, spec: &'static Spec, code: &str) {
    thread.stats.count(Counter::total_error_replies, 1);
    thread.stats.command_failed(row(spec));
    thread.shared.metrics.error(code);
}
