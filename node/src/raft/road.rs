//! The road of a batch to its shard's leader: here, or on another node.
//!
//! What is known not to have been executed is tried again until somebody leads. What may have been
//! executed never is: the client loses its connection, as it does when a Redis dies.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_engine::{At, Watch, Watches};
use cairn_protocol::cluster::message::{Forward, ForwardKind, Forwarded, Refused, RefusedCode};
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::command::CommandId;
use cairn_protocol::ids::{LogIndex, NodeId, Term};
use cairn_protocol::op::{encode_op, operations};
use cairn_protocol::resp::Argv;
use cairn_store::Db;
use parking_lot::{Mutex, MutexGuard};

use super::group::{Group, Role};
use super::long_read::LongRead;
use super::propose::forward::{ALONE, FORGET, GUARDED, KEEP, MORE, REST, STEP, WATCH};
use super::propose::{Batch, Guard, Outcome, Submission, Ticket};
use super::rest::{PIECE_BYTES, Part, split_ready, split_ticket};
use super::runtime::Place;
use crate::ops::entropy;
use crate::ops::metrics::Shard as Stats;
use crate::transport::{Call, CallError, Class, refused};

/// For so long a batch looks for a leader, and waits for what one has accepted.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for one.
const PAUSE: Duration = Duration::from_millis(5);
/// How often somebody who waits for another node's answer looks whether it still leads.
const LOOK: Duration = Duration::from_millis(20);
/// How long one that does not lead any more has to say that it is still there.
const FAREWELL: Duration = Duration::from_millis(300);
/// How often somebody looks whether what is left of long answers is still wanted.
const LOOK_AT_RESTS: Duration = Duration::from_millis(250);
/// How often somebody who is slow to take an answer has the rest of it kept on.
const KEEP_ON: Duration = Duration::from_secs(8);
/// Of a long answer so much is fetched before any of it is sent to the client.
const WHOLE_BYTES: usize = 64 << 20;
/// What clients of other nodes may watch here at once.
const SESSIONS_MAX: usize = 100_000;

/// A batch may have been executed, or may yet be, and nobody here will know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// What somebody hands in again and again, and its way to wherever the shard is led.
pub struct Way<'a> {
    /// The shard.
    pub group: &'a Arc<Group>,
    /// The client's connection.
    session: u64,
    /// The calling thread's.
    stats: &'a Stats,
    submission: &'a mut Arc<Submission>,
    lost: bool,
}

impl<'a> Way<'a> {
    /// For the client `session`; 0 is the node itself.
    pub fn new(
        group: &'a Arc<Group>,
        session: u64,
        stats: &'a Stats,
        submission: &'a mut Arc<Submission>,
    ) -> Way<'a> {
        Way { group, session, stats, submission, lost: false }
    }

    /// The batch, before it is handed in and once it is answered.
    pub fn batch(&self) -> MutexGuard<'_, Batch> {
        self.submission.batch()
    }

    /// Has the batch executed. Once one is lost nothing more is, and batches come back unanswered.
    pub async fn run(&mut self) {
        if !self.lost {
            self.lost = self.group.run(self.submission, self.session, self.stats).await.is_err();
        }
    }

    /// Whether a batch was lost.
    pub fn is_lost(&self) -> bool {
        self.lost
    }
}

/// Why a try ended without replies.
enum Again {
    /// It was not executed, and another try would end like this one.
    Never(String),
    /// It may be tried again.
    Yes,
    /// It may have been executed.
    No,
}

/// What clients of other nodes watch, of one term: what another leader saw in between nobody here
/// knows of.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    term: Term,
    sessions: HashMap<(NodeId, u64), Session>,
    /// The last life of each node.
    lives: BTreeMap<NodeId, u64>,
}

/// The number of a client's connection among those of all lives of its node.
pub fn session_of(life: u32, client: u64) -> u64 {
    u64::from(life) << LIFE_SHIFT | client & ((1 << LIFE_SHIFT) - 1)
}

/// Above the number of the client stands its node's life.
const LIFE_SHIFT: u32 = 32;

impl Watchers {
    /// Makes place for what a session is to watch in `term`: what is of another term, or of another
    /// life of its node, is forgotten.
    ///
    /// # Errors
    /// There are too many.
    fn make_place(&mut self, (node, number): (NodeId, u64), term: Term) -> Result<(), Refused> {
        if self.term != term {
            self.term = term;
            self.sessions.clear();
        }
        let life = number >> LIFE_SHIFT;
        if self.lives.insert(node, life) != Some(life) {
            self.sessions.retain(|(of, number), _| *of != node || number >> LIFE_SHIFT == life);
        }
        if self.sessions.len() < SESSIONS_MAX || self.sessions.contains_key(&(node, number)) {
            return Ok(());
        }
        Err(refused(RefusedCode::Busy, "too many clients watch keys"))
    }
}

#[derive(Debug)]
struct Session {
    watches: Arc<Watches>,
    guard: Guard,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watches.remove(&self.guard.watch);
    }
}

impl Group {
    /// Has a submission executed wherever its shard is led; its replies are then in its batch.
    /// `session` is the client's connection, `stats` are the calling thread's.
    ///
    /// # Errors
    /// [`Lost`]; the submission may still be on its way, and an empty one takes its place.
    pub async fn run(
        self: &Arc<Self>,
        submission: &mut Arc<Submission>,
        session: u64,
        stats: &Stats,
    ) -> Result<(), Lost> {
        if self.is_alone() {
            self.submit(submission);
            if !submission.is_done() {
                submission.wait(self).await;
            }
            return Ok(());
        }
        let start = self.executor().now();
        loop {
            if self.is_taken_out() {
                submission.batch().fail(
                    "CLUSTERDOWN this node was taken out of its cluster: ask another, or start this \
                     one with an empty --dir to have it join again",
                );
                return Ok(());
            }
            let tried = match (self.role(), self.stop_reason()) {
                (Role::Leader, _) => self.run_here(submission, stats).await,
                (Role::Follower(Some(leader)), _) => {
                    self.run_there(leader, submission, session).await
                }
                // It will not hear of a leader by waiting here.
                (Role::Follower(None), Some(stopped)) => {
                    submission.batch().fail(&format!("MISCONF {stopped}"));
                    return Ok(());
                }
                (Role::Follower(None), None) => Err(Again::Yes),
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(Again::No) => {
                    *submission = Submission::new();
                    return Err(Lost);
                }
                Err(Again::Never(why)) => {
                    submission.batch().fail(&why);
                    return Ok(());
                }
                Err(Again::Yes) if self.executor().now() - start > PATIENCE => {
                    submission.batch().fail(
                        "CLUSTERDOWN no leader is known for this shard: a majority of its nodes \
                         cannot be reached",
                    );
                    return Ok(());
                }
                Err(Again::Yes) => self.executor().rest(PAUSE).await,
            }
        }
    }

    async fn run_here(
        self: &Arc<Self>,
        submission: &Arc<Submission>,
        stats: &Stats,
    ) -> Result<(), Again> {
        if submission.batch().is_read_only() {
            return self.read_here(submission, stats).await;
        }
        self.submit(submission);
        let too_late = async {
            self.executor().rest(PATIENCE).await;
            // What takes that long may be the very thing that is waited for.
            self.stand_by().await;
        };
        if !submission.is_done() {
            tokio::select! {
                biased;
                () = submission.wait(self) => {}
                () = too_late => return Err(Again::No),
            }
        }
        match submission.outcome() {
            Outcome::Answered => Ok(()),
            Outcome::NotLeader => Err(Again::Yes),
            Outcome::Unknown => Err(Again::No),
        }
    }

    /// Answers reads under this node's lease, or after a round to its peers.
    async fn read_here(
        self: &Arc<Self>,
        submission: &Arc<Submission>,
        stats: &Stats,
    ) -> Result<(), Again> {
        let lease = self.lease();
        if lease.is_none() && !self.confirm().await {
            return Err(Again::Yes);
        }
        self.executor().may_pause(Place::BeforeRead).await;
        self.stand_by().await;
        self.answer_reads(submission, stats);
        self.executor().may_pause(Place::AfterRead { by_lease: lease.is_some() }).await;
        match lease {
            Some(lease) if !self.still_holds(lease) => {
                // What was read may be old: the next answer must not come behind it.
                submission.batch().unanswer();
                Err(Again::Yes)
            }
            _ => Ok(()),
        }
    }

    async fn run_there(
        self: &Arc<Self>,
        leader: NodeId,
        submission: &Arc<Submission>,
        session: u64,
    ) -> Result<(), Again> {
        let forward = submission.batch().pack(session);
        let is_read = forward.kind == ForwardKind::Read;
        let is_alone = forward.flags & ALONE != 0;
        let failed = |error: &CallError| why_failed(error, is_read);
        let forwarded = tokio::select! {
            biased;
            forwarded = self.forward(leader, forward) => forwarded,
            () = self.leaves(leader) => {
                Err(CallError::Timeout { to: leader, after: FAREWELL })
            }
        };
        let forwarded = forwarded.map_err(|error| failed(&error))?;
        let Forwarded::Done { flags, payload, .. } = forwarded else { return Err(Again::Yes) };
        // The replies of a transaction are told apart before any is sent.
        let most = if is_alone { usize::MAX } else { WHOLE_BYTES };
        let (payload, rest) = match flags & MORE {
            0 => (payload, None),
            _ => {
                let fetched = self.fetch(leader, payload, most).await;
                fetched.map_err(|error| why_cut_off(&error, is_read))?
            }
        };
        let mut batch = submission.batch();
        batch.take_answer(flags, &payload).map_err(|_| Again::No)?;
        batch.set_rest(rest);
        Ok(())
    }

    /// A long answer, of which `node` has sent the first piece: the whole of it, or about `most`
    /// bytes and where the rest is.
    async fn fetch(
        &self,
        node: NodeId,
        first: Bytes,
        most: usize,
    ) -> Result<(Bytes, Option<Ticket>), CallError> {
        let (mut bytes, mut rest) = split_piece(node, first, MORE)?;
        let mut whole = Vec::new();
        while let Some(ticket) = rest
            && whole.len() + bytes.len() < most
        {
            whole.extend_from_slice(&bytes);
            (bytes, rest) = self.fetch_rest(ticket).await?;
        }
        whole.extend_from_slice(&bytes);
        Ok((whole.into(), rest))
    }

    /// The next piece of what another node keeps, and where the rest is.
    ///
    /// # Errors
    /// It is not to be had; what was executed has been.
    pub async fn fetch_rest(&self, from: Ticket) -> Result<(Bytes, Option<Ticket>), CallError> {
        let Ticket { node, number } = from;
        let next = self.send(node, Class::Snapshot, note(number, REST, Vec::new())).await?;
        let Forwarded::Done { flags, payload, .. } = next else {
            return Err(CallError::BadReply { to: node, why: "no piece".into() });
        };
        split_piece(node, payload, flags)
    }

    /// After a while, has another node keep on what is there of an answer. To be called again and
    /// again while the client takes what comes before it.
    pub async fn keep_wanting(&self, rest: Ticket) {
        self.executor().rest(KEEP_ON).await;
        let Ticket { node, number } = rest;
        // Whether it still has it shows when it is fetched.
        let _ = self.send(node, Class::Snapshot, note(number, KEEP, Vec::new())).await;
    }

    /// Waits until another leader than `leader` is known, or none, and `leader` is not there any more:
    /// one that has handed over answers what it had accepted, however busy it is.
    async fn leaves(&self, leader: NodeId) {
        while self.role() == Role::Follower(Some(leader)) {
            self.executor().rest(LOOK).await;
        }
        while self.still_answers(leader).await {
            self.executor().rest(LOOK).await;
        }
    }

    async fn still_answers(&self, node: NodeId) -> bool {
        // Whatever it says to that: no client has this number.
        let asked = self.send(node, Class::Heartbeat, note(0, FORGET, Vec::new()));
        tokio::select! {
            biased;
            said = asked => matches!(said, Ok(_) | Err(CallError::Refused { .. })),
            () = self.executor().rest(FAREWELL) => false,
        }
    }

    async fn forward(&self, to: NodeId, forward: Forward) -> Result<Forwarded, CallError> {
        self.send(to, Class::Replication, forward).await
    }

    async fn send(
        &self,
        to: NodeId,
        class: Class,
        forward: Forward,
    ) -> Result<Forwarded, CallError> {
        let Some(transport) = self.transport() else {
            return Err(CallError::Unreachable { to, why: "a group of one".into() });
        };
        let request = Request::Forward(forward);
        let call = Call { to, class, shard: self.shard(), request, deadline: PATIENCE };
        match transport.call(call).await? {
            Reply::Forward(forwarded) => Ok(forwarded),
            other => {
                let why = format!("{:?} came back", other.kind());
                Err(CallError::BadReply { to, why })
            }
        }
    }

    /// Has the leader remember that the client `session` watches these keys, and with `first` no
    /// others; false when that did not work, and its transaction must not be executed.
    pub async fn watch_there(&self, session: u64, db: u16, argv: Argv<'_>, first: bool) -> bool {
        let Role::Follower(Some(leader)) = self.role() else { return self.leads() };
        let mut payload = Vec::new();
        encode_op(&mut payload, CommandId::Watch, db, argv);
        let flags = if first { WATCH | FORGET } else { WATCH };
        let forward = note(session, flags, payload);
        matches!(self.forward(leader, forward).await, Ok(Forwarded::Done { .. }))
    }

    /// Tells the leader that the client `session` watches nothing any more.
    pub async fn forget_there(&self, session: u64) {
        if let Role::Follower(Some(leader)) = self.role() {
            // Whoever leads next knows nothing of the session anyway.
            let _ = self.forward(leader, note(session, FORGET, Vec::new())).await;
        }
    }

    /// Whether other nodes still wait for answers to what they forwarded, or for the rest of one.
    pub fn is_serving(&self) -> bool {
        self.served().load(Ordering::SeqCst) > 0 || self.rests().holds_some(self.executor().now())
    }

    /// Looks after the rests of long answers for ever: those that nobody fetches are forgotten, and
    /// none holds the pool for long.
    pub async fn keep_rests(&self, stats: &Stats) {
        loop {
            self.executor().rest(LOOK_AT_RESTS).await;
            let now = self.executor().now();
            self.rests().forget_old(now);
            while let Some(read) = self.rests().held_too_long(now) {
                let part = self.let_go(&read, stats).await;
                self.rests().exchange(&read, part);
            }
        }
    }

    /// What does in the place of a read that is still to be fetched, so that its root is let go.
    async fn let_go(&self, read: &Arc<LongRead>, stats: &Stats) -> Option<Part> {
        if read.silent {
            return Some(Part::Ready(Bytes::new()));
        }
        let (old, pinned) = (Arc::clone(read), self.pin(stats));
        let fresh = self.executor().aside(move || old.let_go(pinned)).await?;
        Some(match fresh {
            Ok(fresh) => Part::Read(Arc::new(fresh), self.executor().now()),
            Err(whole) => Part::Ready(whole.into()),
        })
    }

    /// How many clients of other nodes watch keys here.
    pub fn watched_from_elsewhere(&self) -> usize {
        self.sessions().0.lock().sessions.len()
    }

    /// Executes what `from` has forwarded.
    ///
    /// # Errors
    /// [`RefusedCode::Failed`] when it may have been executed, anything else when it was not.
    pub async fn serve(
        self: Arc<Self>,
        from: NodeId,
        forward: Forward,
        stats: Arc<Stats>,
    ) -> Result<Forwarded, Refused> {
        let _served = Served::begin(self.served());
        let nobody = || Forwarded::NotLeader {
            leader: match self.role() {
                Role::Leader => None,
                Role::Follower(leader) => leader,
            },
        };
        if forward.flags & REST != 0 {
            return self.next_piece((from, forward.session)).await;
        }
        if forward.flags & KEEP != 0 {
            self.rests().keep_on((from, forward.session), self.executor().now());
            return Ok(done());
        }
        if !self.leads() {
            return Ok(nobody());
        }
        let session = (from, forward.session);
        if forward.flags & FORGET != 0 {
            self.sessions().0.lock().sessions.remove(&session);
        }
        if forward.flags & STEP != 0 {
            return Ok(self.answer_step(&forward.payload));
        }
        if forward.flags & (WATCH | FORGET) == FORGET {
            return Ok(done());
        }
        if forward.flags & WATCH != 0 {
            self.stand_by().await;
            let first = forward.flags & FORGET != 0;
            return self.watch_for(session, &forward.payload, first).map(|()| done());
        }
        let submission = Submission::new();
        let alone = forward.flags & ALONE != 0;
        let is_guarded = forward.flags & GUARDED != 0;
        // However a transaction ends, nothing is watched any more; dropped when it has ended.
        let watched = match alone {
            true => self.sessions().0.lock().sessions.remove(&session),
            false => None,
        };
        let guard = watched.as_ref().filter(|_| is_guarded).map(|session| session.guard.clone());
        if is_guarded && guard.is_none() {
            // Watched under another leader, or before this one was started.
            return Ok(Forwarded::Done {
                count: 0,
                flags: super::propose::forward::BROKEN,
                payload: Bytes::new(),
            });
        }
        let unpacked = submission.batch().unpack(&forward, guard);
        unpacked.map_err(|error| refused(RefusedCode::Malformed, error.0))?;
        match self.run_here(&submission, &stats).await {
            Ok(()) => {}
            Err(Again::Yes) => return Ok(nobody()),
            Err(Again::Never(why)) => return Err(refused(RefusedCode::Malformed, why)),
            Err(Again::No) => {
                let text = "it is not known what became of it";
                return Err(refused(RefusedCode::Failed, text));
            }
        }
        let now = self.executor().now();
        let answer = submission.batch().answer(alone, now);
        self.rests().cut(from, answer, now)
    }

    /// Watches what `ops` name for a client of another node, `first` of all or besides what is watched
    /// for it already.
    fn watch_for(&self, place: (NodeId, u64), ops: &[u8], first: bool) -> Result<(), Refused> {
        let mut watchers = self.sessions().0.lock();
        let engine = self.read();
        let term = self.term();
        watchers.make_place(place, term)?;
        if first {
            let watches = Arc::clone(engine.watches());
            let guard = Guard { watch: Arc::<Watch>::default(), term };
            watchers.sessions.insert(place, Session { watches, guard });
        }
        // What it watched under another leader may have changed, and nobody here would know.
        let not_known = || refused(RefusedCode::Unavailable, "what it watched is not known here");
        let session = watchers.sessions.get(&place).ok_or_else(not_known)?;
        let now_ms = self.executor().wall_ms().max(engine.store().clock_ms());
        for op in operations(ops) {
            let op = op.map_err(|error| refused(RefusedCode::Malformed, error.to_string()))?;
            for name in op.argv().iter().skip(1) {
                let watched = engine.watch(&session.guard.watch, Db(op.db), name, now_ms);
                watched.map_err(|error| refused(RefusedCode::Failed, error.to_string()))?;
            }
        }
        Ok(())
    }

    fn answer_reads(&self, submission: &Submission, stats: &Stats) {
        let mut batch = submission.batch();
        let engine = self.read();
        let now_ms = self.executor().wall_ms().max(engine.store().clock_ms());
        // Draws of reads are not to be repeated by anybody.
        let at = At { now_ms, seed: entropy::random_u64() };
        let read = batch.answer_reads(&engine, &at);
        drop(engine);
        match read {
            Ok(put_off) => {
                let pin = |(start, read)| (start, read, self.pin(stats));
                batch.defer(put_off.into_iter().map(pin).collect());
            }
            Err(fatal) => batch.fail(&format!("CORRUPT {fatal}")),
        }
    }

    /// The next piece of a long answer; what of it is a read that was put off is read now.
    async fn next_piece(&self, place: (NodeId, u64)) -> Result<Forwarded, Refused> {
        let mut left = self.rests().take(place.0, place.1)?;
        let mut piece = Vec::new();
        loop {
            let more = split_ready(&mut left, PIECE_BYTES - piece.len());
            piece.extend_from_slice(&more);
            if piece.len() >= PIECE_BYTES {
                break;
            }
            let Some(Part::Read(read, _)) = left.pop_front() else { break };
            let silent = read.silent;
            let reply = self.executor().aside(move || read.run_whole()).await;
            let reply =
                reply.ok_or_else(|| refused(RefusedCode::Failed, "a read failed inside"))?;
            if !silent {
                left.push_front(Part::Ready(reply.into()));
            }
        }
        self.rests().give(place, piece.into(), left, self.executor().now())
    }

    /// How many other members are known to have the entry `upto`, and which that is: without one the
    /// last that this shard's leader may have acknowledged. None: nobody leads whom one could ask.
    pub async fn in_step(&self, upto: Option<LogIndex>) -> Option<(usize, LogIndex)> {
        let leader = match self.role() {
            Role::Leader => {
                let upto = upto.unwrap_or_else(|| self.acknowledged());
                return Some((self.replicas_with(upto), upto));
            }
            Role::Follower(leader) => leader?,
        };
        let payload = upto.map_or(Vec::new(), |upto| upto.0.to_le_bytes().to_vec());
        let asked = self.forward(leader, note(0, STEP, payload));
        let said = tokio::select! {
            biased;
            said = asked => said.ok()?,
            () = self.leaves(leader) => return None,
        };
        let Forwarded::Done { count, payload, .. } = said else { return None };
        let upto = payload.first_chunk().map(|bytes| LogIndex(u64::from_le_bytes(*bytes)))?;
        Some((count as usize, upto))
    }

    fn answer_step(&self, asked: &[u8]) -> Forwarded {
        let upto = asked.first_chunk().map(|bytes| LogIndex(u64::from_le_bytes(*bytes)));
        let upto = upto.unwrap_or_else(|| self.acknowledged());
        Forwarded::Done {
            count: u32::try_from(self.replicas_with(upto)).unwrap_or(u32::MAX),
            flags: 0,
            payload: upto.0.to_le_bytes().to_vec().into(),
        }
    }
}

/// Whether, and how, something may be asked again that failed so.
fn why_failed(error: &CallError, is_read: bool) -> Again {
    match error {
        CallError::TooLong { .. } => Again::Never(
            "ERR a command is too long to be sent on to the node that leads: split it".to_owned(),
        ),
        CallError::Refused { refused, .. }
            if refused.code == RefusedCode::Malformed
                || is_read && refused.code == RefusedCode::Failed =>
        {
            Again::Never(format!("ERR {}", refused.text))
        }
        error if error.may_be_executed() && !is_read => Again::No,
        _ => Again::Yes,
    }
}

/// The same of the rest of an answer. What it answers has been executed, whether the question for the
/// rest was heard or not: no write goes to anybody else then.
fn why_cut_off(error: &CallError, is_read: bool) -> Again {
    if is_read { why_failed(error, true) } else { Again::No }
}

/// A piece's bytes, and where the rest is.
fn split_piece(
    node: NodeId,
    piece: Bytes,
    flags: u32,
) -> Result<(Bytes, Option<Ticket>), CallError> {
    if flags & MORE == 0 {
        return Ok((piece, None));
    }
    let no_ticket = || CallError::BadReply { to: node, why: "no ticket".into() };
    let (number, bytes) = split_ticket(&piece).ok_or_else(no_ticket)?;
    Ok((piece.slice_ref(bytes), Some(Ticket { node, number })))
}

/// Counts one for as long as it lives.
struct Served<'a>(&'a AtomicUsize);

impl Served<'_> {
    fn begin(count: &AtomicUsize) -> Served<'_> {
        count.fetch_add(1, Ordering::SeqCst);
        Served(count)
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn note(session: u64, flags: u32, payload: Vec<u8>) -> Forward {
    Forward {
        kind: ForwardKind::Write,
        session,
        sequence: 0,
        resp: 2,
        flags,
        count: 1,
        payload: payload.into(),
    }
}

fn done() -> Forwarded {
    Forwarded::Done { count: 0, flags: 0, payload: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watches(watchers: &mut Watchers, node: u64, session: u64, term: u64) -> bool {
        let place = (NodeId(node), session);
        let is_placed = watchers.make_place(place, Term(term)).is_ok();
        if is_placed {
            let guard = Guard { watch: Arc::default(), term: Term(term) };
            watchers.sessions.insert(place, Session { watches: Arc::default(), guard });
        }
        is_placed
    }

    #[test]
    fn sessions_go_with_their_nodes_life_and_with_the_term() {
        let mut watchers = Watchers::default();
        let session = session_of;
        assert!(watches(&mut watchers, 1, session(7, 1), 3));
        assert!(watches(&mut watchers, 1, session(7, 2), 3));
        assert!(watches(&mut watchers, 2, session(7, 1), 3));
        assert_eq!(watchers.sessions.len(), 3);
        // The first node was started anew, and its clients' numbers begin anew.
        assert!(watches(&mut watchers, 1, session(9, 1), 3));
        let mut left: Vec<_> = watchers.sessions.keys().copied().collect();
        left.sort();
        assert_eq!(left, [(NodeId(1), session(9, 1)), (NodeId(2), session(7, 1))]);
        assert!(watches(&mut watchers, 2, session(7, 2), 4));
        assert_eq!(watchers.sessions.len(), 1, "what was seen before the term is not known");
    }

    #[test]
    fn who_watches_already_may_watch_more_when_there_is_no_place_for_another() {
        let mut watchers = Watchers::default();
        for client in 0..SESSIONS_MAX as u64 {
            assert!(watches(&mut watchers, 1, session_of(5, client), 1));
        }
        assert!(!watches(&mut watchers, 1, session_of(5, SESSIONS_MAX as u64), 1));
        assert!(watches(&mut watchers, 1, session_of(5, 17), 1));
    }
}
