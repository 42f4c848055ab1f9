//! Leader Completeness: "if a log entry is committed in a given term, then that entry will be present
//! in the logs of the leaders for all higher-numbered terms" (Ongaro, section 3.6.1).

use std::collections::BTreeSet;

use cairn_protocol::ids::{LogIndex, NodeId};

use super::log_matching::read;
use super::state_machine_safety::StateMachineSafety;
use super::{Look, Result, Violation};

/// Leaders that were judged: when they come to lead, for from then on they only append.
#[derive(Default)]
pub(super) struct LeaderCompleteness(BTreeSet<(u64, NodeId)>);

impl LeaderCompleteness {
    pub(super) fn look(&mut self, look: &Look<'_>, chosen: &StateMachineSafety) -> Result {
        if !look.leads || !self.0.insert((look.term, look.id)) {
            return Ok(());
        }
        let last = look.log.last.map_or(LogIndex(0), |last| last.index);
        let mut lacking = chosen.chosen().filter(|id| id.term.0 < look.term && id.index > last);
        if let Some(id) = lacking.next() {
            return Err(self.violation(look, id.index));
        }
        let Some(first) = look.log.first.filter(|first| *first <= last) else { return Ok(()) };
        let held = read(look, first, last)?;
        for id in chosen.chosen().filter(|id| id.index >= first && id.index <= last) {
            if held[(id.index.0 - first.0) as usize].term != id.term {
                return Err(self.violation(look, id.index));
            }
        }
        Ok(())
    }

    fn violation(&self, look: &Look<'_>, index: LogIndex) -> Violation {
        Violation {
            invariant: "leader completeness",
            what: format!("{} leads term {} and lacks entry {index}", look.id, look.term),
        }
    }
}
