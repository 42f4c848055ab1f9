//! What openraft has agreed on is done to the engine, whoever proposed it, and answered if that was
//! this node.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_engine::{At, ENGINE_VERSION, Engine};
use cairn_protocol::ids::{LogIndex, Term};
use cairn_protocol::op::EntryRef as Operations;
use cairn_protocol::resp::Writer;
use cairn_store::log::LogId;
use cairn_store::{Demand, Imported, Spare, StoreError};
use openraft::EntryPayload;
use parking_lot::RwLockReadGuard;

use super::super::keeping::Offer;
use super::super::outcome::End;
use super::super::propose::Outcome;
use super::super::room;
use super::super::state_machine::{Aside, Member};
use super::super::turn::Turn;
use super::super::types::{Batch, Entry, Payload, encode_applied_membership, store_id};
use super::stamp::InFlight;
use super::{Group, GroupError};
use crate::ops::metrics::Counter;

impl Group {
    fn apply_payload(&self, id: LogId, payload: Payload) -> Result<Option<Aside>, GroupError> {
        match payload {
            EntryPayload::Normal(Batch(payload)) => {
                let operations = Operations::decode(&payload);
                let operations = operations.map_err(|error| self.halted_at(id.index.0, &error))?;
                let own = self.begin_applying(operations.header().seed);
                if self.goes_aside(own.as_ref(), &operations, payload.len() as u64) {
                    return Ok(Some(self.apply_aside(id, payload, own)));
                }
                match own {
                    Some(own) => self.apply_own(id, &own)?,
                    None => self.apply_foreign(id, &operations, payload.len())?,
                }
                *self.applying_demand.lock() = Demand::default();
            }
            EntryPayload::Membership(membership) => {
                let bytes = encode_applied_membership(id, &membership);
                let set = self.engine.write().store_mut().set_membership(&bytes);
                set.map_err(|error| self.halted_at(id.index.0, &error))?;
                self.apply_blank(id);
            }
            EntryPayload::Blank => self.apply_blank(id),
        }
        self.note_applied(id.term, id.index);
        Ok(None)
    }

    /// Whether an entry takes so long, or may have to wait so long for room, that this group's
    /// heartbeats must not wait for it. A lone node has none.
    fn goes_aside(&self, own: Option<&InFlight>, operations: &Operations<'_>, bytes: u64) -> bool {
        if self.is_alone() {
            return false;
        }
        let looks_easy = match own {
            Some(own) => !own.may_take_long,
            None => room::is_easy(&self.engine.read(), operations, bytes),
        };
        if looks_easy {
            return self.executor.sets_aside_at_will();
        }
        let engine = self.engine.read();
        // What was proposed here found room before it was.
        let has_room = || {
            let demand = room::demand_of_entry(&engine, operations);
            engine.store().room_left().takes(&demand, Spare::AChange)
        };
        room::takes_long(&engine, operations) || own.is_none() && !has_room()
    }

    /// Applies an entry where it holds up nobody but those who want the engine. Nothing is proposed
    /// meanwhile: that takes a look at the engine.
    fn apply_aside(&self, id: LogId, payload: Bytes, own: Option<InFlight>) -> Aside {
        let group = self.itself();
        let submissions = own.as_ref().map(|own| own.submissions.clone()).unwrap_or_default();
        group.set_aside.store(true, Ordering::SeqCst);
        Box::pin(async move {
            let applying = Arc::clone(&group);
            let applied = group.executor.aside(move || applying.apply_blocking(id, &payload, own));
            let applied = applied.await.unwrap_or_else(|| {
                let halted = group.halted_at(id.index.0, &"it failed inside; see the node's log");
                let left = submissions.iter().filter(|submission| !submission.is_done());
                left.for_each(|submission| group.leave(submission));
                Err(halted)
            });
            *group.applying_demand.lock() = Demand::default();
            group.set_aside.store(false, Ordering::SeqCst);
            applied.inspect(|()| group.note_applied(id.term, id.index))
        })
    }

    fn apply_blocking(
        &self,
        id: LogId,
        payload: &[u8],
        own: Option<InFlight>,
    ) -> Result<(), GroupError> {
        if let Some(own) = own {
            return self.apply_own(id, &own);
        }
        let operations = Operations::decode(payload);
        let operations = operations.map_err(|error| self.halted_at(id.index.0, &error))?;
        self.await_room(&operations);
        self.apply_foreign(id, &operations, payload.len())
    }

    /// Takes note of the last entry applied, for those who do not want to wait for the engine.
    pub(in crate::raft) fn note_applied(&self, term: Term, index: LogIndex) {
        self.term.store(term.0, Ordering::Release);
        self.applied.store(index.0, Ordering::Release);
    }

    fn apply_blank(&self, id: LogId) {
        let mut engine = self.engine.write();
        let clock_ms = engine.store().clock_ms();
        engine.finish_entry(id.term, id.index, clock_ms);
    }

    /// Applies an entry that another node proposed, or an earlier run of this one.
    pub(super) fn apply_foreign(
        &self,
        id: LogId,
        operations: &Operations<'_>,
        bytes: usize,
    ) -> Result<(), GroupError> {
        let header = *operations.header();
        if header.engine_version > ENGINE_VERSION {
            return Err(self.halted_at(
                id.index.0,
                &format_args!(
                    "it asks for engine version {}, this build has {ENGINE_VERSION}: start a newer \
                     cairn",
                    header.engine_version
                ),
            ));
        }
        let mut ops = 0;
        let mut turn = Turn::begin(&self.engine, &self.half_applied, &self.stats);
        for op in operations.ops() {
            let op = op.map_err(|error| self.halted_at(id.index.0, &error))?;
            let at = At { now_ms: header.now_ms, seed: header.seed.wrapping_add(ops) };
            let applied = turn.engine().apply(&op, &at, &mut Writer::suppressed());
            applied.map_err(|fatal| self.halted_at(id.index.0, &fatal))?;
            turn.ran(op.command.spec(), bytes / header.count.max(1) as usize);
            ops += 1;
        }
        turn.lap();
        self.finish(turn, id, header.now_ms, (ops, bytes as u64));
        Ok(())
    }

    fn finish(&self, mut turn: Turn<'_>, id: LogId, now_ms: u64, (ops, bytes): (u64, u64)) {
        turn.engine().finish_entry(id.term, id.index, now_ms);
        Group::follow_limit(turn.engine());
        let tight = turn.engine().store().is_tight();
        self.note_room(turn.engine());
        turn.end();
        self.keep_pace(ops, bytes, tight);
    }

    /// Halts, because entry `index` cannot be applied; returns why.
    fn halted_at(&self, index: u64, why: &dyn std::fmt::Display) -> GroupError {
        let reason = format!(
            "log entry {index} could not be applied: {why}; this shard serves no more writes"
        );
        self.halt(reason.clone());
        GroupError { reason }
    }

    /// Applies an entry that was proposed here, and answers it.
    pub(super) fn apply_own(&self, id: LogId, entry: &InFlight) -> Result<(), GroupError> {
        let (mut seed, mut bytes, mut ops) = (entry.seed, 0, 0);
        let mut turn = Turn::begin(&self.engine, &self.half_applied, &self.stats);
        for (at, submission) in entry.submissions.iter().enumerate() {
            let mut batch = submission.batch();
            if let Err(fatal) = batch.apply(&mut turn, entry.now_ms, seed) {
                drop(batch);
                drop(turn);
                let halted = self.halted_at(id.index.0, &fatal);
                let (done, left) = entry.submissions.split_at(at);
                // Theirs is in the log and was applied.
                done.iter().for_each(|submission| submission.finish());
                left.iter().for_each(|submission| self.leave(submission));
                return Err(halted);
            }
            seed = seed.wrapping_add(batch.write_count().into());
            bytes += batch.write_bytes() as u64;
            ops += u64::from(batch.work());
            if batch.evicted() > 0 {
                self.stats.count(Counter::evicted_keys, batch.evicted().into());
            }
            batch.set_apply_nanos(turn.lap());
            drop(batch);
            if at + 1 < entry.submissions.len() {
                // Lets waiting readers in between two connections' batches.
                turn.give_way();
            }
        }
        self.finish(turn, id, entry.now_ms, (ops, bytes));
        entry.submissions.iter().for_each(|submission| submission.finish());
        Ok(())
    }
}

impl Member for Group {
    fn engine(&self) -> RwLockReadGuard<'_, Engine> {
        self.read()
    }

    fn apply(&self, entry: Entry) -> Result<Option<Aside>, GroupError> {
        if let Some(stopped) = self.stop_reason() {
            return Err(stopped.clone());
        }
        self.apply_payload(store_id(entry.log_id), entry.payload)
    }

    fn leads(&self) -> bool {
        Group::leads(self)
    }

    fn is_set_aside(&self) -> bool {
        self.set_aside.load(Ordering::SeqCst)
    }

    fn purge_upto(&self) -> Option<LogId> {
        self.purge_upto.lock().or_else(|| self.log.purged(self.shard))
    }

    fn offer(&self) -> Arc<Offer> {
        let applied_bytes = self.applied_bytes.load(Ordering::Relaxed);
        let keep_bytes = self.keep_bytes.load(Ordering::Relaxed);
        self.keeping.offer(applied_bytes, keep_bytes, || self.read().store().export())
    }

    fn cannot_send(&self, damage: &StoreError) {
        self.give_way(damage);
    }

    fn install(&self, imported: Imported) -> Result<(), String> {
        Group::install(self, imported)
    }

    fn give_up(&self, proposal: u64, end: End) {
        let Some(entry) = self.take_in_flight(proposal) else { return };
        let outcome = match end {
            _ if self.is_alone() => {
                return entry.submissions.iter().for_each(|submission| self.refuse(submission));
            }
            End::NotExecuted => Outcome::NotLeader,
            End::Unknown => Outcome::Unknown,
        };
        entry.submissions.iter().for_each(|submission| submission.end(outcome));
    }
}
