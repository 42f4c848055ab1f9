//! State Machine Safety: "if a server has applied a log entry at a given index to its state machine,
//! no other server will ever apply a different log entry for the same index" (Ongaro, section
//! 3.6.3); and what they have come to is the same: equal state hashes at equal applied indexes.

use std::collections::BTreeMap;

use cairn_engine::state_hash;
use cairn_protocol::ids::{LogIndex, NodeId, Term};
use cairn_store::log::LogId;

use super::log_matching::read;
use super::{Look, Result, Violation};

const INVARIANT: &str = "state machine safety";

/// What was applied, and what it came to.
#[derive(Default)]
pub(super) struct StateMachineSafety {
    /// Which entry stands at an index, for ever.
    chosen: BTreeMap<LogIndex, Term>,
    /// The state after an entry, and who was the first in it.
    states: BTreeMap<LogIndex, (u64, NodeId)>,
    /// What a node had applied when it was last looked at.
    applied: BTreeMap<NodeId, LogIndex>,
}

impl StateMachineSafety {
    pub(super) fn look(&mut self, look: &Look<'_>) -> Result {
        let before = self.applied.insert(look.id, look.applied.index);
        if before == Some(look.applied.index) {
            return Ok(());
        }
        if before.is_some_and(|before| before > look.applied.index) {
            let what = format!("{} has gone back to entry {}", look.id, look.applied.index);
            return Err(Violation { invariant: INVARIANT, what });
        }
        self.compare_entries(look, before)?;
        self.compare_states(look)
    }

    /// The entries that it has applied since, as its log has them; what it has applied is the last.
    fn compare_entries(&mut self, look: &Look<'_>, before: Option<LogIndex>) -> Result {
        let upto = look.applied.index;
        if let Some(first) = look.log.first {
            let from = before.map_or(first, |before| LogIndex(before.0 + 1).max(first));
            let last = look.log.last.map_or(upto, |last| last.index.min(upto));
            if from <= last {
                for entry in read(look, from, last)? {
                    self.choose(look.id, LogId::new(entry.term, entry.index))?;
                }
            }
        }
        if upto.0 > 0 { self.choose(look.id, look.applied) } else { Ok(()) }
    }

    fn choose(&mut self, node: NodeId, id: LogId) -> Result {
        let term = *self.chosen.entry(id.index).or_insert(id.term);
        if term == id.term {
            return Ok(());
        }
        let (index, other) = (id.index, id.term);
        let what =
            format!("entry {index} that {node} applied is of term {other}, elsewhere {term}");
        Err(Violation { invariant: INVARIANT, what })
    }

    fn compare_states(&mut self, look: &Look<'_>) -> Result {
        let (node, index) = (look.id, look.applied.index);
        let hash = state_hash(look.member.group.read().store().view());
        let hash = hash.map_err(|error| Violation {
            invariant: INVARIANT,
            what: format!("the state of {node} cannot be read: {error}"),
        })?;
        let (other, first) = *self.states.entry(index).or_insert((hash, node));
        if other == hash {
            return Ok(());
        }
        let what = format!("after entry {index} {node} and {first} are in different states");
        Err(Violation { invariant: INVARIANT, what })
    }

    /// Which entries were applied by anybody.
    pub(super) fn chosen(&self) -> impl DoubleEndedIterator<Item = LogId> + '_ {
        self.chosen.iter().map(|(index, term)| LogId::new(*term, *index))
    }

    pub(super) fn entries(&self) -> usize {
        self.chosen.len()
    }

    pub(super) fn forget(&mut self, id: NodeId) {
        self.applied.remove(&id);
    }
}
