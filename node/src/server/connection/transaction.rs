//! Queueing after MULTI, and EXEC.
//!
//! A transaction that writes is one operation of the log, applied under one hold of the lock. What
//! of it the server answers is answered right after that, at its place among the replies. One that
//! only reads runs under one hold of the read lock, or on a pinned root.

use std::borrow::Cow;

use super::*;
use crate::server::queue::{Queue, Watching};

/// The replies of a transaction's commands that the engine answers.
#[derive(Default)]
struct Parts {
    replies: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    effects: Effects,
    /// A read was not answered.
    deferred: bool,
}

impl Parts {
    /// Answers the reads in `ops` by `read`, until one is deferred.
    fn read(
        ops: &[u8],
        (proto, mut at): (Proto, At),
        mut read: impl FnMut(&OpRef<'_>, &At, &mut Writer<'_>) -> Effects,
    ) -> Parts {
        let mut parts = Parts::default();
        for op in operations(ops).flatten() {
            let effects = read(&op, &at, &mut Writer::new(&mut parts.replies, proto));
            parts.effects += effects;
            parts.ends.push(parts.replies.len());
            at.seed = at.seed.wrapping_add(1);
            if effects.deferred {
                parts.deferred = true;
                break;
            }
        }
        parts
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.replies[start..*end])
    }
}

/// How EXEC ended.
enum Executed {
    /// The replies of what the engine answers.
    Done(Parts),
    /// Nothing was executed: a watched key had changed.
    Broken,
    /// Nothing was executed, and this is the reply.
    Refused(Vec<u8>),
}

impl Connection {
    /// Queues a command that came after MULTI.
    pub(super) fn enqueue(&mut self, scratch: &mut Scratch, spec: &'static Spec, argv: Argv<'_>) {
        let databases = self.thread.settings().databases;
        let Some(db) = self.session.queue.as_ref().map(|queue| queue.db()) else { return };
        let write = spec.place == Place::Write;
        if let Some(damage) = write.then(|| self.damage_below(spec, db, argv)).flatten() {
            let damage = self.spoil(damage);
            return self.refuse(scratch, &damage);
        }
        let Some(queue) = &mut self.session.queue else { return };
        match queue.push(spec, argv, databases) {
            Ok(()) => self.place(scratch, |w| w.simple("QUEUED")),
            Err(refusal) => self.refuse(scratch, &refusal),
        }
    }

    /// What a refused request does to the transaction that is being queued, and the reply.
    pub(super) fn spoil(&mut self, refusal: WireError) -> WireError {
        if refusal == WireError::WrongArity(CommandId::Exec.spec().name) {
            self.session.queue = None;
            self.session.watching = None;
            let text = refusal.text();
            let cause = text.strip_prefix("ERR ").unwrap_or(&text);
            return WireError::Custom(format!(
                "EXECABORT Transaction discarded because of: {cause}"
            ));
        }
        if let Some(queue) = &mut self.session.queue {
            queue.fail();
        }
        refusal
    }

    /// WATCH: here, and where the shard is led.
    pub(super) async fn watch(&mut self, scratch: &mut Scratch, argv: Argv<'_>) -> After {
        let thread = Rc::clone(&self.thread);
        let (group, spec) = (&thread.shared.group, CommandId::Watch.spec());
        let first = self.session.watching.is_none();
        if let Some(forgetting) = self.forgetting.take() {
            // It must not come behind what is watched now.
            let _ = forgetting.await;
        }
        let after = commands::execute(&mut self.context(&thread), spec, argv, &mut scratch.out);
        let (number, db) = (self.number(), self.session.db);
        if let Some(watching) = &mut self.session.watching
            && !group.leads()
        {
            self.told_to_watch.set(true);
            watching.is_broken |= !group.watch_there(number, db, argv, first).await;
        }
        after
    }

    /// Has the node that was told what this client watches told that it does not any more. Nobody
    /// waits for that but the next WATCH.
    pub(super) fn forget(&mut self) {
        if self.told_to_watch.replace(false) {
            let (group, number) = (Arc::clone(&self.thread.shared.group), self.number());
            let forget = async move { group.forget_there(number).await };
            self.forgetting = Some(tokio::task::spawn_local(forget));
        }
    }

    /// Whether EXEC needs nothing but its place in the log, like any write.
    pub(super) fn exec_is_plain(&self) -> bool {
        let plain = |queue: &Queue| {
            !queue.has_failed()
                && queue.is_all_engine()
                && queue.bytes() < SUBMIT_BYTES
                && queue.writes()
        };
        self.session.watching.is_none() && self.session.queue.as_deref().is_some_and(plain)
    }

    /// Adds a plain EXEC to the pending batch; returns the bytes that this now holds.
    pub(super) fn queue_exec(&mut self, scratch: &mut Scratch, at: usize) -> usize {
        let Some(queue) = self.session.queue.take() else { return 0 };
        let silent = self.session.is_silent();
        let mut batch = self.open_batch(scratch, at);
        batch.push_exec(queue.ops(), queue.commands(), silent);
        batch.held_bytes()
    }

    /// EXEC, when all before it is answered.
    pub(super) async fn exec(&mut self, scratch: &mut Scratch) -> After {
        let proto = self.session.proto;
        let mut refuse = |text| Writer::new(&mut scratch.out, proto).error_text(text);
        let Some(queue) = self.session.queue.take() else {
            refuse("ERR EXEC without MULTI");
            return After::Continue;
        };
        // However it ends, nothing is watched any more.
        let watching = self.session.watching.take();
        if queue.has_failed() {
            refuse("EXECABORT Transaction discarded because of previous errors.");
            return After::Continue;
        }
        let executed = match queue.writes() || !self.reads_here() {
            true => self.exec_writes(scratch, &queue, watching.as_ref()).await,
            false => match self.exec_reads(&queue, watching.as_ref()).await {
                Some(executed) => executed,
                None => self.exec_writes(scratch, &queue, watching.as_ref()).await,
            },
        };
        match executed {
            Executed::Done(parts) => return self.answer_all(scratch, &queue, &parts).await,
            Executed::Broken => Writer::new(&mut scratch.out, proto).null_array(),
            Executed::Refused(reply) => scratch.out.extend_from_slice(&reply),
        }
        After::Continue
    }

    async fn exec_writes(
        &self,
        scratch: &mut Scratch,
        queue: &Queue,
        watching: Option<&Watching>,
    ) -> Executed {
        if watching.is_some_and(|watching| watching.is_broken) {
            return Executed::Broken;
        }
        let mut way = self.way(&mut scratch.submission);
        let (mut body, mut stages) = (Cow::Borrowed(queue.ops()), Vec::new());
        if body.len() >= SUBMIT_BYTES {
            match staging::stage_transaction(&mut way, &body).await {
                Ok((shorter, ids)) => (body, stages) = (Cow::Owned(shorter), ids),
                Err(refusal) => {
                    let mut reply = Vec::new();
                    Writer::new(&mut reply, self.session.proto).error(&refusal);
                    return Executed::Refused(reply);
                }
            }
        }
        let commands: Vec<&'static Spec> = queue.engine_commands().collect();
        {
            let mut batch = way.batch();
            batch.set_proto(self.session.proto);
            batch.push_exec_alone(&body, &commands, watching.map(Watching::guard));
        }
        way.run().await;
        // With its transaction the leader forgets what a client watches.
        self.told_to_watch.set(false);
        if way.is_lost() {
            self.broken.set(true);
            return Executed::Broken;
        }
        let ends = way.batch().take_parts();
        let mut parts = Parts::default();
        take_replies(&self.thread, &mut way.batch(), &mut parts.replies);
        match ends {
            None => {
                staging::drop_stages(&mut way, &stages).await;
                Executed::Broken
            }
            // One error stands for all of it.
            Some(ends) if ends.last().copied().unwrap_or(0) != parts.replies.len() => {
                Executed::Refused(parts.replies)
            }
            Some(ends) => Executed::Done(Parts { ends, ..parts }),
        }
    }

    /// Executes one that only reads; None when this node has no right, or lost it, to do so alone.
    async fn exec_reads(&self, queue: &Queue, watching: Option<&Watching>) -> Option<Executed> {
        let group = &self.thread.shared.group;
        let right = Right::of(group, &self.session)?;
        let at = At { now_ms: group.wall_ms(), seed: self.thread.next_seed() };
        let is_broken = |now_ms| watching.is_some_and(|w| w.watch.is_broken(now_ms));
        let how = (self.session.proto, at);
        let mut parts = None;
        if !queue.is_long(is_long) {
            let engine = group.read();
            let start = clock::now();
            if is_broken(at.now_ms.max(engine.store().clock_ms())) {
                return Some(Executed::Broken);
            }
            let read =
                Parts::read(queue.ops(), how, |op, at, w| read_under_lock(&engine, op, at, w));
            parts = Some(read).filter(|parts| !parts.deferred);
            drop(engine);
            self.thread.stats.hold(Hold::Read, clock::nanos_since(start));
            if !right.holds(group) {
                return None;
            }
        }
        if parts.is_none() {
            let pinned = group.pin(&self.thread.stats);
            if is_broken(pinned.now_ms(&at)) {
                return Some(Executed::Broken);
            }
            if !right.holds(group) {
                return None;
            }
            let ops = queue.ops().to_vec();
            let read = move || Parts::read(&ops, how, |op, at, w| pinned.read(op, at, w));
            parts = tokio::task::spawn_blocking(read).await.ok();
        }
        let Some(parts) = parts else {
            return Some(Executed::Refused(FAILED_INSIDE.to_vec()));
        };
        count_effects(&self.thread, &parts.effects);
        for (spec, reply) in queue.engine_commands().zip(parts.iter()) {
            note_call(&self.thread, spec, 0);
            note_failure(&self.thread, spec, reply);
        }
        Some(Executed::Done(parts))
    }

    /// Writes EXEC's reply; what the server answers is answered now.
    async fn answer_all(&mut self, scratch: &mut Scratch, queue: &Queue, parts: &Parts) -> After {
        let thread = Rc::clone(&self.thread);
        Writer::new(&mut scratch.out, self.session.proto).array(queue.len());
        if queue.is_all_engine() {
            scratch.out.extend_from_slice(&parts.replies);
            return After::Continue;
        }
        let (mut parts, mut requests) = (parts.iter(), queue.server_commands());
        let mut after = After::Continue;
        for spec in queue.commands() {
            if spec.place != Place::Server {
                scratch.out.extend_from_slice(parts.next().unwrap_or_default());
                continue;
            }
            let Some(argv) = requests.next() else { break };
            let from = scratch.out.len();
            let mut cx = self.context(&thread);
            match commands::execute(&mut cx, spec, argv, &mut scratch.out) {
                After::Change(changes) => self.change(scratch, from, &changes).await,
                // As in Redis: nothing waits inside a transaction.
                After::Wait(waiting) => {
                    let found = thread.shared.group.replicas_in_step();
                    let local = waiting.local.map(|_| !thread.shared.group.acknowledges_early());
                    self.answer_waiting(local, found, &mut scratch.out);
                }
                then if after == After::Continue => after = then,
                _ => {}
            }
            note_failure(&thread, spec, &scratch.out[from..]);
            note_call(&thread, spec, 0);
        }
        after
    }
}

/// Answers a read, or defers it.
fn read_under_lock(engine: &Engine, op: &OpRef<'_>, at: &At, w: &mut Writer<'_>) -> Effects {
    let start = w.position();
    let read = engine.read_or_defer(op.command.spec(), Db(op.db), op.argv(), None, at, w);
    read.unwrap_or_else(|fatal| {
        w.truncate_to(start);
        w.error(&WireError::Corrupt(fatal.to_string()));
        Effects::default()
    })
}
