//! Runs of reads: as many as follow one another are answered under one hold of the shard's lock, the
//! cache misses of their keys overlapping, by a right that is looked at before and after.

use super::*;

/// Reads that run under one hold of the shard's lock.
pub(super) struct Reading<'g> {
    pub(super) engine: RwLockReadGuard<'g, Engine>,
    pub(super) at: At,
    pub(super) start: Instant,
    /// The first request of the run.
    pub(super) first: usize,
    /// Where their replies begin.
    pub(super) from: usize,
    /// By what right they are answered here.
    pub(super) right: Right,
}

/// By what right a node answers reads by itself.
#[derive(Clone, Copy)]
pub(super) enum Right {
    /// It leads.
    Lease(Lease),
    /// The client does with what may be old.
    Readonly,
}

impl Right {
    /// What there is; None: whoever leads is to be asked.
    pub(super) fn of(group: &Group, session: &Session) -> Option<Right> {
        match session.readonly {
            true => Some(Right::Readonly),
            false => group.lease().map(Right::Lease),
        }
    }

    /// Whether what was read meanwhile may be sent.
    pub(super) fn holds(self, group: &Group) -> bool {
        match self {
            Right::Lease(lease) => group.still_holds(lease),
            Right::Readonly => true,
        }
    }
}

/// A read of a run that has been answered.
#[derive(Debug)]
pub(in crate::server) struct Answered {
    pub(super) spec: &'static Spec,
    pub(super) db: u16,
    /// Its request.
    pub(super) at: usize,
    /// Where its reply lies.
    pub(super) reply: Range<usize>,
}

/// Requests looked at together, so that the cache misses of their keys overlap.
const AHEAD: usize = 16;

/// The reads that follow one another from some request on: their rows, and their first keys hashed
/// and on their way into the cache.
#[derive(Default)]
pub(super) struct Ahead<'a> {
    pub(super) first: usize,
    pub(super) reads: [Option<(&'static Spec, Option<Key<'a>>)>; AHEAD],
}

impl<'a> Ahead<'a> {
    pub(super) fn get(&self, at: usize) -> Option<&(&'static Spec, Option<Key<'a>>)> {
        self.reads.get(at.wrapping_sub(self.first))?.as_ref()
    }

    pub(super) fn spec(&self, at: usize) -> Option<&'static Spec> {
        self.get(at).map(|(spec, _)| *spec)
    }

    pub(super) fn key(&self, at: usize) -> Option<Key<'a>> {
        self.get(at)?.1
    }
}

/// The run of reads that is open, if any.
pub(super) struct Run<'g> {
    pub(super) thread: &'g Thread,
    pub(super) reading: Option<Reading<'g>>,
}

impl Run<'_> {
    /// Opens it, unless it is, with replies from `from` on; false when this node may not answer reads
    /// by itself.
    pub(super) fn open(&mut self, first: usize, session: &Session, from: usize) -> bool {
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
    pub(super) fn look_ahead<'a>(
        &self,
        session: &Session,
        requests: Requests<'a>,
        first: usize,
    ) -> Ahead<'a> {
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
    pub(super) fn read(
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

impl Connection {
    /// Whether this node may answer reads by itself.
    pub(super) fn reads_here(&self) -> bool {
        Right::of(&self.thread.shared.group, &self.session).is_some()
    }

    /// Ends a run of reads: lets go of the lock, counts and times it.
    pub(super) fn close(&self, run: &mut Run<'_>, scratch: &mut Scratch, requests: Requests<'_>) {
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
    pub(super) fn ask_again(
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
}
