//! What a connection hands to its shard: a batch of steps that are answered in order, at apply.
//!
//! A batch holds writes (which go into the log), the reads that follow them on the same connection
//! (which must see those writes, so they are answered at apply, in place, and are not logged) and
//! ready replies between them. The connection fills it, submits it, and finds all replies in
//! [`Batch::take_replies`]. A [`Submission`] is used again and again by its thread: in the steady
//! state nothing is allocated.

pub mod forward;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use cairn_engine::{
    At, Effects, Engine, Fatal, Transaction, Watch, encode_exec, is_wide, is_wide_with,
};
use cairn_protocol::command::spec::Begin;
use cairn_protocol::command::{CommandId, Spec};
use cairn_protocol::ids::{NodeId, Term};
use cairn_protocol::op::{OpRef, encode_op, encode_op_staged, operations};
use cairn_protocol::resp::{Argv, Proto, Writer};
use cairn_store::{Db, Key};
use parking_lot::{Mutex, MutexGuard};

use super::group::Group;
use super::long_read::{LongRead, Pinned};
use super::turn::Turn;

/// Where the bytes of a step lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// In `writes`: an encoded operation.
    Write,
    /// In `reads`: an encoded operation that is not logged.
    Read,
    /// In `raw`: a finished reply.
    Raw,
}

/// One command of a batch.
#[derive(Clone, Copy, Debug)]
struct Step {
    source: Source,
    /// Its reply is dropped (CLIENT REPLY OFF and SKIP).
    silent: bool,
    len: u32,
}

/// What must still hold when a transaction is proposed (WATCH).
#[derive(Clone, Debug)]
pub struct Guard {
    /// Nothing of this may have changed.
    pub watch: Arc<Watch>,
    /// The term in which it began: what another leader applied in between nobody here has seen.
    pub term: Term,
}

/// Commands of one connection in order, and later their replies.
#[derive(Debug, Default)]
pub struct Batch {
    proto: Proto,
    steps: Vec<Step>,
    writes: Vec<u8>,
    write_count: u32,
    /// Operations inside transactions, beyond the transactions themselves.
    inner_count: u32,
    /// Some of its operations may take more of the pool than their bytes tell.
    wide: bool,
    /// What decides whether its transaction is proposed at all.
    guard: Option<Guard>,
    /// Its transaction's replies are wanted one by one: they end here, after no header.
    split: Option<Vec<usize>>,
    reads: Vec<u8>,
    raw: Vec<u8>,
    replies: Vec<u8>,
    /// Table numbers of the commands, for the statistics of whoever filled it.
    commands: Vec<&'static Spec>,
    /// Those that answered an error, with its code.
    failed: Vec<(&'static Spec, String)>,
    /// Reads that are still to be answered, each with the length of the replies before it.
    deferred: Vec<(usize, LongRead)>,
    /// Where the rest of its replies is to be fetched.
    rest: Option<Ticket>,
    effects: Effects,
    apply_nanos: u64,
}

/// For the rest of replies that another node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which node.
    pub node: NodeId,
    /// Its name there.
    pub number: u64,
}

/// Bytes of replies from which a batch's reads are put off, to be made as the client takes them.
const REPLY_BYTES: usize = 8 << 20;

/// Capacity above which a batch's buffers are given back rather than kept for the next one.
const KEEP_BYTES: usize = 256 << 10;

impl Batch {
    /// Whether nothing waits in it.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes it adds to an entry.
    pub fn write_bytes(&self) -> usize {
        self.writes.len()
    }

    /// Bytes of everything it holds for its connection.
    pub fn held_bytes(&self) -> usize {
        self.writes.len() + self.reads.len() + self.raw.len()
    }

    /// Operations it adds to an entry.
    pub fn write_count(&self) -> u32 {
        self.write_count
    }

    /// Operations to execute, those inside of transactions too.
    pub(super) fn work(&self) -> u32 {
        self.write_count + self.inner_count
    }

    /// Whether some of its operations may take more of the pool than their bytes tell.
    pub(super) fn is_wide(&self) -> bool {
        self.wide
    }

    /// The encoded operations, back to back.
    pub fn writes(&self) -> &[u8] {
        &self.writes
    }

    /// Sets the protocol that replies are written in. The batch must be empty.
    pub fn set_proto(&mut self, proto: Proto) {
        debug_assert!(self.is_empty());
        self.proto = proto;
    }

    /// Adds a write, all of whose arguments travel with it.
    pub fn push_write(&mut self, spec: &'static Spec, db: u16, argv: Argv<'_>, silent: bool) {
        self.push_write_staged(spec, db, argv, &[], silent);
    }

    /// Adds a write, the arguments at the positions in `staged` having been staged under those ids.
    pub fn push_write_staged(
        &mut self,
        spec: &'static Spec,
        db: u16,
        argv: Argv<'_>,
        staged: &[(usize, u64)],
        silent: bool,
    ) {
        let start = self.writes.len();
        match staged {
            [] => encode_op(&mut self.writes, spec.id, db, argv),
            staged => encode_op_staged(&mut self.writes, spec.id, db, argv, staged),
        }
        self.wide |= !staged.is_empty() || is_wide_with(spec.id, argv.len());
        self.write_count += 1;
        self.push_step(Source::Write, silent, self.writes.len() - start);
        self.commands.push(spec);
    }

    /// Adds a read to be answered after the writes before it.
    pub fn push_read(&mut self, spec: &'static Spec, db: u16, argv: Argv<'_>, silent: bool) {
        let start = self.reads.len();
        encode_op(&mut self.reads, spec.id, db, argv);
        self.push_step(Source::Read, silent, self.reads.len() - start);
        self.commands.push(spec);
    }

    /// Adds a transaction: the operations in `body`, whose commands are `commands`.
    pub fn push_exec(&mut self, body: &[u8], commands: &[&'static Spec], silent: bool) {
        let start = self.writes.len();
        encode_exec(&mut self.writes, body);
        self.wide |= operations(body).flatten().any(|op| is_wide(&op));
        self.write_count += 1;
        self.inner_count += commands.len() as u32;
        self.push_step(Source::Write, silent, self.writes.len() - start);
        self.commands.extend_from_slice(commands);
        if self.split.is_none() {
            self.commands.push(CommandId::Exec.spec());
        }
    }

    /// The same, the only one of an empty batch: it is proposed if `guard` allows, its replies come
    /// one by one ([`Batch::take_parts`]), and the EXEC itself is not counted here.
    pub fn push_exec_alone(
        &mut self,
        body: &[u8],
        commands: &[&'static Spec],
        guard: Option<Guard>,
    ) {
        debug_assert!(self.is_empty());
        self.guard = guard;
        self.split = Some(Vec::new());
        self.push_exec(body, commands, false);
    }

    /// What must hold for this batch to be proposed.
    pub(super) fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// Whether an operation of this batch may change what `watch` watches.
    pub(super) fn may_touch(&self, watch: &Watch) -> bool {
        operations(&self.writes).flatten().any(|op| watch.may_be_touched_by(&op))
    }

    /// Gives the batch up, unproposed: its guard does not hold.
    pub(super) fn abort(&mut self) {
        self.split = None;
        self.commands.clear();
    }

    /// Where each reply of the transaction ends that was pushed alone; None if it was not proposed.
    pub fn take_parts(&mut self) -> Option<Vec<usize>> {
        self.split.take()
    }

    /// Adds an operation of the node's own, which `encode` appends to what it is given.
    pub fn push_encoded(&mut self, spec: &'static Spec, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.writes.len();
        encode(&mut self.writes);
        // The node's own are few, and not counted by their bytes.
        self.wide = true;
        self.write_count += 1;
        self.push_step(Source::Write, false, self.writes.len() - start);
        self.commands.push(spec);
    }

    /// Adds a reply that is known already: `write` appends it to what it is given.
    pub fn push_reply(&mut self, silent: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.raw.len();
        write(&mut self.raw);
        self.push_step(Source::Raw, silent, self.raw.len() - start);
    }

    fn push_step(&mut self, source: Source, silent: bool, len: usize) {
        // Callers bound a batch far below 4 GiB: arguments over 1 MiB are staged.
        let len = u32::try_from(len).expect("a step is bounded");
        self.steps.push(Step { source, silent, len });
    }

    /// Applies the batch; its operations draw from `seed` on.
    ///
    /// # Errors
    /// When the store is damaged or its medium fails: the replica must stop. Replies up to there
    /// are in place; whoever stops the group answers the rest with [`Batch::fail`].
    ///
    /// A read that takes long, or comes after many bytes of replies, is left to
    /// [`Batch::take_deferred`], on the root of this moment.
    pub(super) fn apply(
        &mut self,
        turn: &mut Turn<'_>,
        now_ms: u64,
        seed: u64,
    ) -> Result<(), Fatal> {
        let Batch { steps, writes, reads, raw, replies, split, .. } = self;
        let (mut writes, mut reads, mut raw) =
            (writes.as_slice(), reads.as_slice(), raw.as_slice());
        let (mut commands, mut written) = (self.commands.iter(), 0);
        for steps in steps.chunks(WINDOW) {
            let mut located = [Located::Raw(&[]); WINDOW];
            let mut keys = Prefetch::default();
            for (step, at) in steps.iter().zip(&mut located) {
                let engine = turn.engine();
                *at = match step.source {
                    Source::Raw => Located::Raw(split_off(&mut raw, step.len)),
                    Source::Write => Located::operation(engine, split_off(&mut writes, step.len)),
                    Source::Read => Located::operation(engine, split_off(&mut reads, step.len)),
                };
                keys.extend(at.key());
            }
            keys.fetch(turn.engine());
            for (step, located) in steps.iter().zip(located) {
                let start = replies.len();
                let at = At { now_ms, seed: seed.wrapping_add(written) };
                match located {
                    Located::Raw(reply) => replies.extend_from_slice(reply),
                    Located::Operation(op, _) if op.command == CommandId::InternalExec => {
                        let parts = Transaction::new(&op, &at)?;
                        if split.is_none() {
                            Writer::new(replies, self.proto).array(parts.len());
                        }
                        let to = Parts {
                            proto: self.proto,
                            replies,
                            ends: split.as_mut(),
                            commands: &mut commands,
                            failed: &mut self.failed,
                        };
                        self.effects += to.run(turn.engine(), parts)?;
                        if split.is_none() {
                            commands.next(); // EXEC itself.
                        }
                    }
                    Located::Operation(op, key) => {
                        let engine = turn.engine();
                        let mut writer = Writer::new(replies, self.proto);
                        let effects = match step.source {
                            Source::Read if start >= REPLY_BYTES => {
                                Effects { deferred: true, ..Effects::default() }
                            }
                            Source::Read => read(engine, &op, key, &at, &mut writer)?,
                            _ => engine.apply_hashed(&op, key, &at, &mut writer)?,
                        };
                        if effects.deferred {
                            let command = (op.command.spec(), op.db, op.argv());
                            let pinned = Pinned::of(engine);
                            let read = LongRead::new(pinned, command, at, self.proto, step.silent);
                            self.deferred.push((start, read));
                        } else {
                            self.effects += effects;
                        }
                        let spec = commands.next();
                        if let (Some(spec), Some(code)) = (spec, error_code(&replies[start..])) {
                            self.failed.push((spec, code.to_owned()));
                        }
                        turn.ran(op.command.spec(), step.len as usize);
                    }
                }
                written += u64::from(step.source == Source::Write);
                if step.silent {
                    replies.truncate(start);
                }
            }
        }
        Ok(())
    }

    /// Answers every command of the batch with the error `text`, in place of what it replied so
    /// far: nothing of it is known to be durable.
    pub(super) fn fail(&mut self, text: &str) {
        self.replies.clear();
        self.deferred.clear();
        if let Some(ends) = &mut self.split {
            // The error stands for the whole of it.
            ends.clear();
        }
        let mut raw_at = 0;
        for step in &self.steps {
            if step.source == Source::Raw {
                let len = step.len as usize;
                if !step.silent {
                    self.replies.extend_from_slice(&self.raw[raw_at..raw_at + len]);
                }
                raw_at += len;
            } else if !step.silent {
                Writer::new(&mut self.replies, self.proto).error_text(text);
            }
        }
        let code = text.split(' ').next().unwrap_or_default();
        self.failed = self.commands.iter().map(|spec| (*spec, code.to_owned())).collect();
    }

    pub(super) fn set_apply_nanos(&mut self, nanos: u64) {
        self.apply_nanos = nanos;
    }

    /// Keys that its operations deleted to make room.
    pub(super) fn evicted(&self) -> u32 {
        self.effects.evicted
    }

    /// The commands that ran (writes and reads), in order.
    pub fn commands(&self) -> &[&'static Spec] {
        &self.commands
    }

    /// Those of them that answered an error, with its code.
    pub fn failed(&self) -> &[(&'static Spec, String)] {
        &self.failed
    }

    /// Nanoseconds that applying it took.
    pub fn apply_nanos(&self) -> u64 {
        self.apply_nanos
    }

    /// The reads that are still to be answered, each with the length of the replies before it.
    pub fn take_deferred(&mut self) -> Vec<(usize, LongRead)> {
        std::mem::take(&mut self.deferred)
    }

    /// Leaves the rest of its replies to [`Batch::take_rest`].
    pub(super) fn set_rest(&mut self, rest: Option<Ticket>) {
        self.rest = rest;
    }

    /// Where the rest of its replies is to be fetched, behind those that are there.
    pub fn take_rest(&mut self) -> Option<Ticket> {
        self.rest.take()
    }

    /// Moves the replies behind what is in `out` and empties the batch for its next use; returns
    /// what its operations did, added up.
    pub fn take_replies(&mut self, out: &mut Vec<u8>) -> Effects {
        if out.is_empty() {
            std::mem::swap(out, &mut self.replies);
        } else {
            out.extend_from_slice(&self.replies);
        }
        self.steps.clear();
        (self.write_count, self.inner_count, self.wide) = (0, 0, false);
        (self.guard, self.split, self.rest) = (None, None, None);
        self.commands.clear();
        self.failed.clear();
        for buffer in [&mut self.writes, &mut self.reads, &mut self.raw, &mut self.replies] {
            buffer.clear();
            if buffer.capacity() > KEEP_BYTES {
                *buffer = Vec::new();
            }
        }
        self.apply_nanos = 0;
        std::mem::take(&mut self.effects)
    }
}

/// Where the replies of a transaction's operations go.
struct Parts<'a, 'c> {
    proto: Proto,
    replies: &'a mut Vec<u8>,
    ends: Option<&'a mut Vec<usize>>,
    commands: &'a mut std::slice::Iter<'c, &'static Spec>,
    failed: &'a mut Vec<(&'static Spec, String)>,
}

impl Parts<'_, '_> {
    /// Executes all operations under the hold that there is.
    fn run(mut self, engine: &mut Engine, mut parts: Transaction<'_>) -> Result<Effects, Fatal> {
        let mut effects = Effects::default();
        loop {
            let mut window = [None; WINDOW];
            let mut keys = Prefetch::default();
            for (slot, (op, at)) in window.iter_mut().zip(&mut parts) {
                let key = first_key(op.command.spec(), op.argv()).map(|key| engine.hash(key));
                keys.extend(key.map(|key| (Db(op.db), key)));
                *slot = Some((op, at, key));
            }
            keys.fetch(engine);
            for (op, at, key) in window.into_iter().map_while(|slot| slot) {
                effects += self.run_one(engine, &op, &at, key)?;
            }
            if parts.len() == 0 {
                return Ok(effects);
            }
        }
    }

    fn run_one(
        &mut self,
        engine: &mut Engine,
        op: &OpRef<'_>,
        at: &At,
        key: Option<Key<'_>>,
    ) -> Result<Effects, Fatal> {
        let start = self.replies.len();
        let mut writer = Writer::new(self.replies, self.proto);
        let effects = engine.apply_hashed(op, key, at, &mut writer)?;
        if let (Some(spec), Some(code)) = (self.commands.next(), error_code(&self.replies[start..]))
        {
            self.failed.push((spec, code.to_owned()));
        }
        if let Some(ends) = &mut self.ends {
            ends.push(self.replies.len());
        }
        Ok(effects)
    }
}

/// Whether a read walks more than a few keys, or much of them.
pub fn is_long(id: CommandId) -> bool {
    matches!(id, CommandId::Keys | CommandId::Lcs)
}

/// Answers a read in place, or puts it off.
fn read(
    engine: &Engine,
    op: &OpRef<'_>,
    key: Option<Key<'_>>,
    at: &At,
    w: &mut Writer<'_>,
) -> Result<Effects, Fatal> {
    if is_long(op.command) {
        return Ok(Effects { deferred: true, ..Effects::default() });
    }
    engine.read_or_defer(op.command.spec(), Db(op.db), op.argv(), key, at, w)
}

/// The code of an encoded reply that is an error: its first word.
pub fn error_code(reply: &[u8]) -> Option<&str> {
    let text = reply.strip_prefix(b"-")?;
    let end = memchr::memchr2(b' ', b'\r', text).unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()
}

/// Steps looked at together, so that the cache misses of their keys overlap.
const WINDOW: usize = 16;

/// A step's bytes, and what was found in them.
#[derive(Clone, Copy)]
enum Located<'a> {
    Raw(&'a [u8]),
    Operation(OpRef<'a>, Option<Key<'a>>),
}

impl<'a> Located<'a> {
    fn operation(engine: &Engine, bytes: &'a [u8]) -> Located<'a> {
        let op = OpRef::decode(bytes).expect("encode_op and OpRef::decode agree");
        let key = first_key(op.command.spec(), op.argv()).map(|key| engine.hash(key));
        Located::Operation(op, key)
    }

    fn key(&self) -> Option<(Db, Key<'a>)> {
        match self {
            Located::Operation(op, Some(key)) => Some((Db(op.db), *key)),
            _ => None,
        }
    }
}

fn split_off<'a>(bytes: &mut &'a [u8], len: u32) -> &'a [u8] {
    let (head, rest) = bytes.split_at(len as usize);
    *bytes = rest;
    head
}

/// The first key of a command, where the table knows its position.
pub fn first_key<'a>(spec: &'static Spec, argv: Argv<'a>) -> Option<&'a [u8]> {
    match spec.keys.first()?.begin {
        Begin::Index(position) => argv.get(position.into()),
        Begin::Keyword { .. } | Begin::Unknown => None,
    }
}

/// Keys to be fetched into the cache together.
#[derive(Default)]
pub struct Prefetch<'a> {
    keys: Option<[(Db, Key<'a>); WINDOW]>,
    len: usize,
}

impl<'a> Extend<(Db, Key<'a>)> for Prefetch<'a> {
    fn extend<I: IntoIterator<Item = (Db, Key<'a>)>>(&mut self, keys: I) {
        for key in keys.into_iter().take(WINDOW - self.len) {
            self.keys.get_or_insert([key; WINDOW])[self.len] = key;
            self.len += 1;
        }
    }
}

impl Prefetch<'_> {
    /// Starts fetching what commands on these keys will touch. One alone would only be touched
    /// twice.
    pub fn fetch(&self, engine: &Engine) {
        match &self.keys {
            Some(keys) if self.len > 1 => engine.prefetch(&keys[..self.len]),
            _ => {}
        }
    }
}

/// A batch on its way through the group.
#[derive(Debug, Default)]
pub struct Submission {
    batch: Mutex<Batch>,
    done: AtomicBool,
    outcome: Mutex<Outcome>,
    waker: Mutex<Option<Waker>>,
}

/// What became of a submission that is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Its replies are in the batch.
    #[default]
    Answered,
    /// Nothing of it was executed, for this node does not lead its shard: it may be submitted again.
    NotLeader,
    /// It may have been executed, or may yet be, and nobody here will know.
    Unknown,
}

impl Submission {
    /// An empty one.
    pub fn new() -> Arc<Submission> {
        Arc::default()
    }

    /// The batch: the owner's until it is submitted and again once it is done.
    pub fn batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock()
    }

    /// Whether the replies are there.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub(super) fn start(&self) {
        *self.outcome.lock() = Outcome::Answered;
        self.done.store(false, Ordering::Relaxed);
    }

    /// What became of it, once it is done.
    pub fn outcome(&self) -> Outcome {
        *self.outcome.lock()
    }

    /// Ends it without replies.
    pub(super) fn end(&self, outcome: Outcome) {
        *self.outcome.lock() = outcome;
        self.finish();
    }

    /// Marks it done and wakes its owner, if that waits.
    pub(super) fn finish(&self) {
        self.done.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes the owner, be it to apply what has become durable; says whether it waits.
    pub(super) fn wake(&self) -> bool {
        let waker = self.waker.lock().take();
        let waits = waker.is_some();
        if let Some(waker) = waker {
            waker.wake();
        }
        waits
    }

    /// Waits until the submitted batch is answered. Whoever waits also helps: it drives the group,
    /// for all. It lets the tasks of its thread that are ready go first, so that what they submit
    /// becomes part of the same entry, and most of them find their answers there.
    pub async fn wait(&self, group: &Arc<Group>) {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if self.is_done() {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut yielded, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            *self.waker.lock() = Some(cx.waker().clone());
            group.drive_for_replies();
            if self.is_done() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        *self.waker.lock() = None;
    }
}
