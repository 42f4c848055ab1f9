//! Log Matching: "if two logs contain an entry with the same index and term, then the logs are
//! identical in all entries up through the given index" (Ongaro, section 3.5).
//!
//! By induction: entries of the same index and term are the same and so are the terms of the ones
//! before them.

use std::collections::BTreeMap;

use cairn_node::raft::recover::SHARD;
use cairn_protocol::ids::{LogIndex, NodeId, Term};
use cairn_store::log::{LogId, OwnedEntry};

use super::{Look, Result, Violation};

/// An entry, and the term of the one before it, where that is known.
struct Known {
    payload: Vec<u8>,
    before: Option<Term>,
}

/// All entries that were ever in a log.
#[derive(Default)]
pub(super) struct LogMatching {
    known: BTreeMap<(LogIndex, Term), Known>,
    /// Up to where a node's log was compared.
    compared: BTreeMap<NodeId, LogId>,
}

const INVARIANT: &str = "log matching";

impl LogMatching {
    pub(super) fn look(&mut self, look: &Look<'_>) -> Result {
        let (Some(first), Some(last)) = (look.log.first, look.log.last) else { return Ok(()) };
        let compared = self.compared.get(&look.id).copied();
        if compared == Some(last) {
            return Ok(());
        }
        // From the last one compared on, if that stands there still.
        let from = compared.filter(|id| id.index >= first && id.index <= last.index);
        let from = from.map_or(first, |id| id.index);
        let entries = read(look, from, last.index)?;
        let stands = entries.first().is_some_and(|e| Some(e.term) == compared.map(|id| id.term));
        let entries =
            if stands || from == first { entries } else { read(look, first, last.index)? };
        let purged = look.log.purged;
        let mut before = purged
            .filter(|id| entries.first().is_some_and(|entry| entry.index.0 == id.index.0 + 1));
        for entry in entries {
            let id = LogId::new(entry.term, entry.index);
            self.compare(look, entry, before.map(|id| id.term))?;
            before = Some(id);
        }
        self.compared.insert(look.id, last);
        Ok(())
    }

    fn compare(&mut self, look: &Look<'_>, entry: OwnedEntry, before: Option<Term>) -> Result {
        let key = (entry.index, entry.term);
        let Some(known) = self.known.get_mut(&key) else {
            self.known.insert(key, Known { payload: entry.payload, before });
            return Ok(());
        };
        let same_before = before.is_none() || known.before.is_none() || known.before == before;
        if known.payload != entry.payload || !same_before {
            return Err(Violation {
                invariant: INVARIANT,
                what: format!(
                    "entry {} of term {} at {} follows one of term {before:?}, elsewhere one of \
                     {:?}; payloads are {}",
                    entry.index,
                    entry.term,
                    look.id,
                    known.before,
                    if known.payload == entry.payload { "equal" } else { "not equal" },
                ),
            });
        }
        known.before = known.before.or(before);
        Ok(())
    }

    /// What an entry holds, if it was ever seen.
    pub(super) fn payload(&self, id: LogId) -> Option<&[u8]> {
        self.known.get(&(id.index, id.term)).map(|known| known.payload.as_slice())
    }

    pub(super) fn forget(&mut self, id: NodeId) {
        self.compared.remove(&id);
    }
}

/// Reads a part of a node's log.
pub(super) fn read(look: &Look<'_>, first: LogIndex, last: LogIndex) -> Result<Vec<OwnedEntry>> {
    let read = look.member.group.log().read(SHARD, first..LogIndex(last.0 + 1), usize::MAX);
    read.map_err(|error| Violation {
        invariant: INVARIANT,
        what: format!("the log of {} cannot be read: {error}", look.id),
    })
}
