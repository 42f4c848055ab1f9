//! What openraft has agreed on is done to the engine, whoever proposed it, and answered if that was
//! this node.

use std::sync::atomic::Ordering;

use cairn_engine::{At, ENGINE_VERSION, Engine};
use cairn_protocol::ids::LogIndex;
use cairn_protocol::op::EntryRef as Operations;
use cairn_protocol::resp::Writer;
use cairn_store::Imported;
use cairn_store::log::LogId;
use openraft::EntryPayload;
use parking_lot::RwLockReadGuard;

use super::super::keeping::Kept;
use super::super::outcome::End;
use super::super::propose::Outcome;
use super::super::state_machine::Member;
use super::super::turn::Turn;
use super::super::types::{Batch, Entry, Payload, encode_applied_membership, store_id};
use super::stamp::InFlight;
use super::{Group, GroupError};
use crate::ops::metrics::Counter;

impl Group {
    fn apply_payload(&self, id: LogId, payload: &Payload) -> Result<(), GroupError> {
        match payload {
            EntryPayload::Normal(Batch(payload)) => {
                let operations = Operations::decode(payload);
                let operations = operations.map_err(|error| self.halted_at(id.index.0, &error))?;
                match self.take_in_flight(operations.header().seed) {
                    Some(own) => self.apply_own(id, &own),
                    None => self.apply_foreign(id, &operations, payload.len()),
                }
            }
            EntryPayload::Membership(membership) => {
                let bytes = encode_applied_membership(id, membership);
                let set = self.engine.write().store_mut().set_membership(&bytes);
                set.map_err(|error| self.halted_at(id.index.0, &error))?;
                self.apply_blank(id);
                Ok(())
            }
            EntryPayload::Blank => {
                self.apply_blank(id);
                Ok(())
            }
        }
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
        self.await_room(operations, bytes as u64);
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
    fn apply_own(&self, id: LogId, entry: &InFlight) -> Result<(), GroupError> {
        let (mut seed, mut bytes, mut ops) = (entry.seed, 0, 0);
        let mut turn = Turn::begin(&self.engine, &self.half_applied, &self.stats);
        for (at, submission) in entry.submissions.iter().enumerate() {
            let mut batch = submission.batch();
            if let Err(fatal) = batch.apply(&mut turn, entry.now_ms, seed) {
                drop(batch);
                drop(turn);
                let halted = self.halted_at(id.index.0, &fatal);
                entry.submissions[at..].iter().for_each(|left| self.refuse(left));
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

    fn apply(&self, entry: Entry) -> Result<(), GroupError> {
        if let Some(stopped) = self.stop_reason() {
            return Err(stopped.clone());
        }
        let id = store_id(entry.log_id);
        self.apply_payload(id, &entry.payload)?;
        self.term.store(id.term.0, Ordering::Release);
        Ok(())
    }

    fn purge_upto(&self) -> Option<LogId> {
        self.purge_upto.lock().or_else(|| self.log.purged(self.shard))
    }

    fn keep_behind(&self, index: LogIndex) -> Kept {
        self.keeping.keep(index)
    }

    fn install(&self, imported: Imported) -> Result<(), String> {
        let (term, _) = imported.head().applied();
        Group::install(self, imported)?;
        self.term.store(term.0, Ordering::Release);
        Ok(())
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
