//! Election Safety: "at most one leader can be elected in a given term" (Ongaro, section 3.4).

use std::collections::BTreeMap;

use cairn_protocol::ids::NodeId;

use super::{Look, Result, Violation};

/// Who led which term.
#[derive(Default)]
pub(super) struct ElectionSafety(BTreeMap<u64, NodeId>);

impl ElectionSafety {
    pub(super) fn look(&mut self, look: &Look<'_>) -> Result {
        if !look.leads {
            return Ok(());
        }
        let leader = *self.0.entry(look.term).or_insert(look.id);
        if leader == look.id {
            return Ok(());
        }
        Err(Violation {
            invariant: "election safety",
            what: format!("{leader} and {} both lead term {}", look.id, look.term),
        })
    }

    pub(super) fn terms(&self) -> usize {
        self.0.len()
    }
}
