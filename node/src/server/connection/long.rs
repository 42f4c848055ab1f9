//! Reads that may take long, and replies too long to be kept: what is read on a pinned root, on a
//! thread of its own; what another node keeps and hands out piece by piece.

use super::*;

/// The reply to what panicked on a thread of its own.
pub(super) const FAILED_INSIDE: &[u8] = b"-ERR the command failed inside; see the server's log\r\n";

/// A read that waits for its client to take the replies before its own.
pub(super) enum Deferred<'a> {
    /// On a pinned root.
    Pinned(LongRead),
    /// Answered, and no longer in need of the pool.
    Copied(Copied<'a>),
}

impl<'a> Deferred<'a> {
    /// Lets go of the pool.
    pub(super) async fn copy_out(&mut self, connection: &'a Connection) -> Result<(), Gone> {
        let pinned = std::mem::replace(self, Deferred::Copied(Copied::default()));
        *self = match pinned {
            Deferred::Pinned(read) => Deferred::Copied(connection.copy_out(read).await?),
            copied => copied,
        };
        Ok(())
    }
}

impl Connection {
    /// Runs a read that may take long, on what is there now.
    pub(super) async fn read_long(
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
    pub(super) async fn answer_long(
        &self,
        scratch: &mut Scratch,
        read: LongRead,
    ) -> Result<(), Gone> {
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
    pub(super) async fn run_deferred(
        &self,
        read: LongRead,
    ) -> (Arc<LongRead>, (Vec<u8>, Option<Lent>)) {
        let start = clock::now();
        let (read, (reply, effects, lent)) = run_long(read, &self.thread).await;
        count_effects(&self.thread, &effects);
        note_failure(&self.thread, read.spec(), &reply);
        self.note_slow(read.argv(), 1, clock::nanos_since(start));
        (read, (reply, lent))
    }

    /// Answers a read that was put off, and sends what there is of replies when that is much.
    pub(super) async fn answer_deferred(
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

    /// Sends the client what another node keeps for it, piece by piece as it takes them.
    pub(super) async fn send_rest(&self, scratch: &mut Scratch, rest: Ticket) -> Result<(), Gone> {
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
    pub(super) async fn flush_before(&self, out: &mut Vec<u8>, rest: Ticket) -> Result<(), Gone> {
        let mut flushed = pin!(self.flush(out));
        loop {
            tokio::select! {
                biased;
                flushed = &mut flushed => return flushed,
                () = self.thread.shared.group.keep_wanting(rest) => {}
            }
        }
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
