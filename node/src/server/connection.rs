//! One connection: read what is there, decode all of it, run it, answer it, in order.
//!
//! The hot path takes no channel hop and allocates nothing: requests are decoded in place, a run of
//! reads shares one hold of the shard's read lock, the writes of a batch are encoded straight into
//! one submission, and all replies leave in one write. [`Connection::advance`] does the work that
//! needs no waiting; what it returns tells the loop around it what to wait for.

mod lent;
mod long;
mod output;
mod run;
mod tally;
mod transaction;
mod waiting;

use lent::Copied;
pub use lent::CopiedOut;
use long::{Deferred, FAILED_INSIDE};
pub(super) use run::Answered;
use run::{Ahead, Right, Run};
use tally::{count_effects, note_call, note_failure, take_replies};

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
use cairn_store::{Db, Key};
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
/// Writes of a batch, and their bytes, after which it is submitted while there is little room: one of
/// deletes must fit in what evacuation leaves, so a few.
const SCARCE_WRITES: u32 = 8;
const SCARCE_BYTES: usize = 8 << 10;
/// A request that came in part is moved into the connection's own buffer by swapping rather than
/// copying when it is longer than this.
const SWAP_BYTES: usize = READ_BYTES / 2;
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
        if !self.thread.shared.group.is_room_scarce() {
            return false;
        }
        let writes = scratch.submission.batch().write_count();
        writes >= SCARCE_WRITES || held_bytes >= SCARCE_BYTES
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
