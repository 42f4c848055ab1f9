//! No entry is proposed that may find no room in the pool, and none of another node's is applied
//! before this one's pool has made what room it can.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_engine::Engine;
use cairn_protocol::op::EntryRef as Operations;
use cairn_store::{Demand, Spare, StoreError};

use super::super::eviction::{self, Foreseen};
use super::super::propose::{Batch, Outcome, Submission};
use super::super::room;
use super::Group;
use super::stamp::Driver;

/// How often an entry of another node's waits for room, and how long each time at most.
const ROOM_ROUNDS: u32 = 4;
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// Room that is little: all of a batch must find room before any of it frees some.
const SCARCE_ROOM_BYTES: u64 = 8 << 20;

/// What becomes of a submission that is about to be proposed.
pub(super) enum Admission {
    /// Its operations find room; that is what they may take.
    Fits(Demand),
    /// There may be room when what comes before it is applied.
    Later,
    /// There may be room when what is on its way was applied, or the pool committed and evacuated.
    Waits,
    /// There may be room when this was applied.
    Evicts(Arc<Submission>, Foreseen),
    /// There is none for these of its operations.
    Denied(Vec<u32>, Demand),
}

impl Group {
    /// Proposes nothing until the next entry on its way has been applied; if there is none, has the
    /// pool committed and evacuated, and proposes nothing until that is over. One that does not lead
    /// any more may wait in vain for what is on its way: whoever leads now is asked instead.
    pub(super) fn wait_for_room(&self, driver: &mut Driver) {
        if !self.is_alone() && !self.leads() {
            return driver
                .taken
                .drain(..)
                .for_each(|submission| submission.end(Outcome::NotLeader));
        }
        {
            let mut queue = self.queue.lock();
            while let Some(submission) = driver.taken.pop_back() {
                queue.push_front(submission);
            }
        }
        {
            let in_flight = self.in_flight.lock();
            if !in_flight.is_empty() {
                return self.room_promised.store(true, Ordering::SeqCst);
            }
        }
        let Some(pace) = self.pace.get() else { return };
        self.paused.store(true, Ordering::SeqCst);
        if self.stopped.load(Ordering::Acquire) {
            // Whoever stopped the group may have looked through the queue before.
            self.paused.store(false, Ordering::SeqCst);
            let queued = std::mem::take(&mut *self.queue.lock());
            return queued.iter().for_each(|submission| self.refuse(submission));
        }
        (pace.hurry)();
    }

    /// Whether there was little room after the last entry or commit: a batch had better be small.
    pub fn is_room_scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed)
    }

    /// Takes note of that.
    pub(super) fn note_room(&self, engine: &Engine) {
        let little = Demand::of_any_size(SCARCE_ROOM_BYTES);
        let is_scarce = !engine.store().has_plenty(&little, Spare::Deletes);
        self.scarce.store(is_scarce, Ordering::Relaxed);
    }

    /// What a batch may take, if there is so much room that it need not be weighed.
    pub(super) fn glance(
        &self,
        driver: &mut Driver,
        engine: &Engine,
        batch: &Batch,
        ahead: &Foreseen,
    ) -> Option<Admission> {
        let in_flight = self.in_flight_demand().and(ahead.demand);
        let demand = room::at_a_glance(engine, batch, in_flight)?;
        driver.patience.renew();
        Some(Admission::Fits(demand))
    }

    /// What is agreed on here, or about to be, and not applied yet, may take of the pool.
    pub(super) fn in_flight_demand(&self) -> Demand {
        let in_flight = self.in_flight.lock();
        let demands = in_flight.iter().map(|entry| entry.foreseen.demand);
        demands.fold(*self.applying_demand.lock(), Demand::and)
    }

    /// Whether to wait for what is `wanted` of the pool: until what is on its way was applied, which
    /// mostly takes far less than it may, and then until the pool was committed and evacuated (once
    /// more).
    pub(super) fn is_worth_waiting(
        &self,
        driver: &mut Driver,
        engine: &Engine,
        wanted: Demand,
    ) -> bool {
        if !self.in_flight.lock().is_empty() {
            return true;
        }
        let waits = self.pace.get().is_some() && driver.patience.waits(&engine.store().usage());
        if waits {
            *self.wanted.lock() = Some(wanted);
        }
        waits
    }

    /// Whether a batch's operations will find room in the pool, behind what is in flight and what the
    /// same entry does before them.
    pub(super) fn weigh(
        &self,
        driver: &mut Driver,
        engine: &Engine,
        batch: &Batch,
        ahead: &Foreseen,
        has_ahead: bool,
    ) -> Admission {
        let in_flight = self.in_flight_demand().and(ahead.demand);
        let in_flight = in_flight.and(engine.store().demand_of_snapshots());
        let room = engine.store().room_left();
        let weighed = room::weigh(engine, batch.writes(), &room, in_flight);
        if weighed.denied.is_empty() {
            driver.patience.renew();
            return Admission::Fits(weighed.demand);
        }
        if has_ahead {
            return Admission::Later;
        }
        let Some(wanted) = weighed.wanted else {
            return Admission::Denied(weighed.denied, weighed.demand);
        };
        if self.is_worth_waiting(driver, engine, wanted) {
            return Admission::Waits;
        }
        let draw = (driver.last_ms, driver.seeds.next_seed());
        let short_bytes = room.short_bytes(&wanted, Spare::Deletes);
        let victims = eviction::choose_for_space(engine, self.eviction(), draw, short_bytes);
        if !victims.is_empty()
            && let Ok((evicting, foreseen)) = eviction::evict(engine, victims, in_flight)
        {
            driver.patience.renew();
            return Admission::Evicts(evicting, foreseen);
        }
        Admission::Denied(weighed.denied, weighed.demand)
    }

    /// Has the pool committed and evacuated before an entry that another node proposed is applied and
    /// finds no room: what the leader's pool had room for may not fit in this one as it is.
    /// To be called aside: it blocks its thread.
    pub(super) fn await_room(&self, operations: &Operations<'_>) {
        for _ in 0..ROOM_ROUNDS {
            let mut over = self.relieved.0.lock();
            {
                let engine = self.engine.read();
                let demand = room::demand_of_entry(&engine, operations);
                if engine.store().room_left().takes(&demand, Spare::AChange) {
                    return;
                }
                *self.wanted.lock() = Some(demand);
            }
            // What finds none in the end stops this replica.
            let Some(pace) = self.pace.get() else { return };
            (pace.hurry)();
            self.relieved.1.wait_for(&mut over, ROOM_WAIT);
        }
    }

    /// What writers wait for the pool to have room for, if they do. Until they do not, commits free
    /// what has died as soon as they can.
    pub(in crate::raft) fn room_wanted(&self) -> Option<Demand> {
        let wanted = self.wanted.lock().take();
        self.engine.write().store_mut().want_room(wanted.is_some());
        wanted
    }

    /// Whether the pool has that room now.
    pub(in crate::raft) fn look_for_room(&self, wanted: &Demand) -> Result<bool, StoreError> {
        self.engine.write().store_mut().look_for_room(wanted, Spare::Deletes)
    }

    /// A commit is over, and what follows it: whoever waits for room looks again.
    pub(super) fn tell_relieved(&self) {
        *self.relieved.0.lock() += 1;
        self.relieved.1.notify_all();
    }

    /// Has what the pool may take follow the limit, up and down. Not while replaying: what was
    /// acknowledged found room under whatever was the limit then.
    pub(super) fn follow_limit(engine: &mut Engine) {
        let (limit_bytes, usage) = (engine.store().limit_bytes(), engine.store().usage());
        if limit_bytes != 0 && limit_bytes != usage.capacity_bytes {
            let most_bytes = engine.store().capacity_bytes_max();
            if limit_bytes > most_bytes {
                tracing::warn!(
                    "the shard's memory limit is {limit_bytes} bytes now, and this process can map \
                     {most_bytes} of its pool: restart it with a larger --memory, or its pool is full \
                     while others have room"
                );
            }
            engine.store_mut().set_capacity_bytes(limit_bytes);
        }
    }
}
