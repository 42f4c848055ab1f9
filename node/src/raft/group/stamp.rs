//! From what is submitted to an entry that is proposed: queueing, driving, taking what an entry
//! holds, giving it time and seed.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use cairn_engine::{ENGINE_VERSION, Engine, Eviction};
use cairn_protocol::op::{ENTRY_HEADER_BYTES, EntryHeader, encode_entry_header};
use futures_util::FutureExt;

use super::super::eviction::{self, Foreseen, Wanted};
use super::super::outcome;
use super::super::propose::{Guard, Submission};
use super::super::room::{self, Patience};
use super::super::types::Batch;
use super::Group;
use super::room::Admission;
use crate::ops::entropy::Seeds;

/// Bytes of operations after which an entry takes no further submission.
const ENTRY_BYTES: usize = 1 << 20;
/// Operations after which it takes none, so that an epoch ends about when it should.
const ENTRY_OPS: u32 = 1024;

/// An entry that was proposed here and is not applied yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) now_ms: u64,
    /// What its operations draw from; no other entry of this node's has it.
    pub(super) seed: u64,
    /// Those whose operations it holds, in order.
    pub(super) submissions: Vec<Arc<Submission>>,
    pub(super) foreseen: Foreseen,
    /// Some of its operations may, or they are many.
    pub(super) may_take_long: bool,
}

/// What the holder of the driver's lock works with.
#[derive(Debug)]
pub(super) struct Driver {
    /// Time in a shard never runs backwards.
    pub(super) last_ms: u64,
    pub(super) seeds: Seeds,
    /// What was taken from the queue and has no entry yet.
    pub(super) taken: VecDeque<Arc<Submission>>,
    /// With what finds no room in the pool.
    pub(super) patience: Patience,
}

/// What is done for the room of an entry, before its writes.
#[derive(Debug, Default)]
struct MadeRoom {
    evicting: Option<Arc<Submission>>,
    foreseen: Foreseen,
    /// More must go before there is room for the writes.
    goes_alone: bool,
}

impl Group {
    /// Queues a batch; [`Submission::wait`] has it agreed on, applied and answered.
    pub fn submit(&self, submission: &Arc<Submission>) {
        submission.start();
        if self.stopped.load(Ordering::Acquire) {
            return self.refuse(submission);
        }
        self.queue.lock().push_back(Arc::clone(submission));
    }

    /// Proposes and applies what there is, unless another thread is at it.
    pub fn drive(self: &Arc<Self>) {
        while self.has_work() {
            let Some(mut driver) = self.driver.try_lock() else { return };
            self.executor.within(|| self.propose_queued(&mut driver));
            self.executor.run();
            self.look();
            self.end_change();
        }
    }

    /// The same for who waits for replies. A lone node leaves what openraft does once all are
    /// given (taking note of what was applied) to the next who drives: it then does it for both
    /// entries at once. The group's own thread does it when nobody else comes.
    pub(in crate::raft) fn drive_for_replies(self: &Arc<Self>) {
        if !self.is_alone() {
            return self.drive();
        }
        let has_unanswered = || !self.in_flight.lock().is_empty();
        while self.has_queued() || self.executor.has_ready() && has_unanswered() {
            let Some(mut driver) = self.driver.try_lock() else { return };
            self.executor.within(|| self.propose_queued(&mut driver));
            self.executor.run_while(has_unanswered);
        }
    }

    fn has_work(&self) -> bool {
        self.executor.has_ready() || self.has_queued()
    }

    /// Whether something waits to be proposed, and may be.
    fn has_queued(&self) -> bool {
        !self.holds_back() && !self.queue.lock().is_empty()
    }

    /// Whether nothing may be proposed for now: the pool is to be committed first, or what is on its
    /// way to be applied, or an entry is applied aside, or what earlier leaders left is not all applied
    /// yet, and proposing takes a look at what that changes.
    fn holds_back(&self) -> bool {
        let waits = self.paused.load(Ordering::SeqCst)
            || self.room_promised.load(Ordering::SeqCst) && (self.is_alone() || self.leads())
            || self.set_aside.load(Ordering::SeqCst)
            || self.has_inherited();
        // Once it has stopped nobody ends a wait: what still comes is refused.
        waits && !self.stopped.load(Ordering::Acquire)
    }

    /// Makes entries of all that is queued and gives them to openraft.
    fn propose_queued(self: &Arc<Self>, driver: &mut Driver) {
        if self.holds_back() {
            return;
        }
        std::mem::swap(&mut driver.taken, &mut *self.queue.lock());
        while !driver.taken.is_empty() {
            if self.stopped.load(Ordering::Acquire) {
                driver.taken.drain(..).for_each(|submission| self.refuse(&submission));
                return;
            }
            let Some((entry, count)) = self.stamp(driver) else {
                return self.wait_for_room(driver);
            };
            if !entry.submissions.is_empty() {
                self.propose(entry, count);
            }
        }
    }

    /// Takes submissions for one entry and gives it time and seed; returns it with the number of its
    /// operations. One without submissions is none: all that there were have been answered here.
    /// None when nothing can be proposed until the pool has room.
    fn stamp(&self, driver: &mut Driver) -> Option<(InFlight, u32)> {
        let mut submissions = Vec::new();
        let (mut bytes, mut count, mut work, mut wide) = (0, 0u32, 0u32, false);
        driver.last_ms = driver.last_ms.max(self.executor.wall_ms());
        if !self.is_alone() {
            // Another leader's clock may have been ahead of this one's.
            driver.last_ms = driver.last_ms.max(self.engine.read().store().clock_ms());
        }
        let MadeRoom { evicting, mut foreseen, goes_alone } = self.make_room(driver)?;
        if let Some(evicting) = evicting {
            count += evicting.batch().write_count();
            submissions.push(evicting);
        }
        // Held for all of them: whoever applies meanwhile would have it waited for once each. But not
        // beyond one that must be weighed, which takes long.
        let mut held = None;
        while !goes_alone
            && bytes < ENTRY_BYTES
            && work < ENTRY_OPS
            && let Some(submission) = driver.taken.pop_front()
        {
            let mut batch = submission.batch();
            if let Some(guard) = batch.guard() {
                // What is applied now may have a batch locked and want the engine.
                drop(held.take());
                if self.is_broken(guard, driver, &submissions) {
                    batch.abort();
                    drop(batch);
                    submission.finish();
                    continue;
                }
            }
            let engine = held.get_or_insert_with(|| self.engine.read());
            let admission = self.glance(driver, engine, &batch, &foreseen).unwrap_or_else(|| {
                let engine = held.take().unwrap_or_else(|| self.engine.read());
                self.weigh(driver, &engine, &batch, &foreseen, !submissions.is_empty())
            });
            match admission {
                Admission::Fits(demand) => foreseen.demand = foreseen.demand.and(demand),
                Admission::Denied(denied, demand) => {
                    foreseen.demand = foreseen.demand.and(demand);
                    let denying = room::denying(&denied);
                    count += denying.batch().write_count();
                    submissions.push(denying);
                }
                later => {
                    drop(batch);
                    driver.taken.push_front(submission);
                    match later {
                        Admission::Waits => return None,
                        Admission::Evicts(evicting, evicted) => {
                            foreseen = evicted;
                            count += evicting.batch().write_count();
                            submissions.push(evicting);
                        }
                        _ => {}
                    }
                    break;
                }
            }
            bytes += batch.write_bytes();
            count += batch.write_count();
            work += batch.work();
            wide |= batch.is_wide();
            drop(batch);
            submissions.push(submission);
        }
        let (now_ms, seed) = (driver.last_ms, driver.seeds.next_seed());
        let sum_bytes = bytes as u64 + u64::from(work) * room::SHORT_BYTES;
        let may_take_long = wide || sum_bytes >= room::SLOW_BYTES;
        Some((InFlight { now_ms, seed, submissions, foreseen, may_take_long }, count))
    }

    /// Room for the next entry, where keys may be given up for it. None when that has to wait until
    /// the pool has room for deleting them.
    fn make_room(&self, driver: &mut Driver) -> Option<MadeRoom> {
        let rules = self.eviction();
        if !rules.is_on() {
            return Some(MadeRoom::default());
        }
        let engine = self.engine.read();
        let Wanted { need, short, victims } = self.choose_victims(driver, &engine, rules);
        let foreseen = Foreseen { need, ..Foreseen::default() };
        let nothing = MadeRoom { foreseen, ..MadeRoom::default() };
        if victims.is_empty() {
            return Some(nothing);
        }
        let chosen_bytes = victims.bytes();
        match eviction::evict(&engine, victims, self.in_flight_demand()) {
            Ok((evicting, mut foreseen)) => {
                driver.patience.renew();
                // The writes come when the rest is gone too.
                let goes_alone = foreseen.freed < short.min(chosen_bytes);
                foreseen.need = if goes_alone { 0 } else { need };
                Some(MadeRoom { evicting: Some(evicting), foreseen, goes_alone })
            }
            Err(wanted) if self.is_worth_waiting(driver, &engine, wanted) => None,
            // The writes are weighed like all others.
            Err(_) => Some(nothing),
        }
    }

    /// What must go for the next entry, as `stamp` will take it.
    fn choose_victims(&self, driver: &mut Driver, engine: &Engine, rules: Eviction) -> Wanted {
        let draw = (driver.last_ms, driver.seeds.next_seed());
        let (mut bytes, mut work) = (0, 0);
        let entry = driver.taken.iter().map_while(|submission| {
            let batch = submission.batch();
            let is_full = bytes >= ENTRY_BYTES || work >= ENTRY_OPS;
            (bytes, work) = (bytes + batch.write_bytes(), work + batch.work());
            (!is_full).then(|| eviction::need(engine, &batch))
        });
        let in_flight = self.in_flight.lock();
        let in_flight = in_flight.iter().map(|entry| &entry.foreseen);
        eviction::choose(engine, rules, draw, entry, in_flight)
    }

    /// Gives an entry to openraft.
    fn propose(self: &Arc<Self>, entry: InFlight, count: u32) {
        let InFlight { now_ms, seed, ref submissions, .. } = entry;
        let header = EntryHeader { engine_version: ENGINE_VERSION, count, now_ms, seed };
        let bytes =
            submissions.iter().map(|submission| submission.batch().write_bytes()).sum::<usize>();
        let mut payload = Vec::with_capacity(ENTRY_HEADER_BYTES + bytes);
        encode_entry_header(&mut payload, &header);
        for submission in submissions {
            payload.extend_from_slice(submission.batch().writes());
        }
        self.in_flight.lock().push_back(entry);
        let group: Weak<Group> = Arc::downgrade(self);
        let outcome = outcome::Outcome::new(group, seed);
        if let Some(raft) = self.raft.get() {
            // What finds no room in the channel is given up as it is dropped, like all that has no
            // other end.
            let batch = Batch(Bytes::from(payload));
            let _ = match self.is_alone() {
                true => raft.client_write_ff(batch, Some(outcome)).now_or_never(),
                false => {
                    // What was found to hold does so in this term alone.
                    let write = raft.write(batch).responder(outcome);
                    write.with_leader(self.view.term().0).into_future().now_or_never()
                }
            };
        }
    }

    /// Takes an entry that will not be applied here.
    pub(super) fn take_in_flight(&self, seed: u64) -> Option<InFlight> {
        self.take_from(&mut self.in_flight.lock(), seed)
    }

    /// The same for an entry that is about to be applied: what it may take of the pool stays promised
    /// until it was.
    pub(super) fn begin_applying(&self, seed: u64) -> Option<InFlight> {
        let mut in_flight = self.in_flight.lock();
        let own = self.take_from(&mut in_flight, seed)?;
        *self.applying_demand.lock() = own.foreseen.demand;
        Some(own)
    }

    fn take_from(&self, in_flight: &mut VecDeque<InFlight>, seed: u64) -> Option<InFlight> {
        let at = in_flight.iter().position(|entry| entry.seed == seed)?;
        self.room_promised.store(false, Ordering::SeqCst);
        in_flight.remove(at)
    }

    /// Whether what a transaction watched was changed, or may be by what is on its way before it. Of
    /// what other leaders did, or left to be applied, nothing is known here.
    fn is_broken(&self, guard: &Guard, driver: &Driver, ahead: &[Arc<Submission>]) -> bool {
        let in_flight = self.in_flight.lock();
        let in_flight = in_flight.iter().flat_map(|entry| &entry.submissions);
        let mut before = in_flight.chain(ahead);
        guard.term != self.term()
            || !self.is_alone() && guard.term != self.view.term()
            || guard.watch.is_broken(driver.last_ms)
            || before.any(|submission| submission.batch().may_touch(&guard.watch))
    }
}
