//! Applied never beyond durable: what any member has applied is on the media of a majority, so that
//! no failure of all of them takes it ("before responding to RPCs, servers update their persistent
//! state", Ongaro, Figure 3.1).

use std::sync::Arc;

use cairn_node::raft::recover::SHARD;
use cairn_protocol::ids::{LogIndex, NodeId};
use cairn_store::log::{Log, LogId};

use super::{Look, Result, Violation};
use crate::sim::machine::Machine;

/// The last entry that anybody has applied, and who voted on it.
#[derive(Default)]
pub(super) struct Durability {
    applied: Option<(LogId, Vec<NodeId>)>,
    judged: Option<LogId>,
}

impl Durability {
    pub(super) fn note(&mut self, look: &Look<'_>) {
        let newest = self.applied.as_ref().map(|(id, _)| id.index);
        if newest.is_none_or(|newest| newest < look.applied.index) {
            let members = look.member.group.members().into_iter();
            let voters = members.filter(|member| member.is_voter).map(|member| member.node);
            self.applied = Some((look.applied, voters.collect()));
        }
    }

    pub(super) fn look(&mut self, machines: &[Arc<Machine>]) -> Result {
        let Some((applied, voters)) = &self.applied else { return Ok(()) };
        if self.judged == Some(*applied) || voters.is_empty() {
            return Ok(());
        }
        let mut having = Vec::new();
        for machine in machines {
            let log = machine.durable_log().map_err(|error| {
                violation(format!(
                    "what is durable of the log of {} cannot be read: {error}",
                    machine.id
                ))
            })?;
            if has(&log, *applied) {
                having.push(machine.id);
            }
        }
        // A member whose machine is gone for good had what it had.
        let is_there = |id: &NodeId| machines.iter().any(|machine| machine.id == *id);
        let lost = voters.iter().filter(|voter| !is_there(voter)).count();
        let have = voters.iter().filter(|voter| having.contains(voter)).count();
        // While members change there may be one voter more than those who agreed on it were.
        if (have + lost) * 2 < voters.len() {
            return Err(violation(format!(
                "entry {} of term {} was applied and is durable at {having:?} only, of {voters:?}",
                applied.index, applied.term
            )));
        }
        self.judged = Some(*applied);
        Ok(())
    }
}

fn has(log: &Log, id: LogId) -> bool {
    let state = log.shard(SHARD);
    if state.purged.is_some_and(|purged| purged.index >= id.index) {
        return true;
    }
    let next = LogIndex(id.index.0 + 1);
    let entry = log.read(SHARD, id.index..next, usize::MAX);
    entry.is_ok_and(|entry| entry.first().is_some_and(|entry| entry.term == id.term))
}

fn violation(what: String) -> Violation {
    Violation { invariant: "applied never beyond durable", what }
}
