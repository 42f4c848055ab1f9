//! What a leader answers was current when it was read: at that moment its state held every write that
//! had been acknowledged anywhere.
//!
//! Stricter than linearizability, which lets a read take effect at any moment between its question
//! and its answer: one that is made after its lease was looked at, and long after, may see what was
//! there at the look. Reads for which a leader asked its peers hold what had been acknowledged when
//! the client asked.

use std::collections::BTreeMap;

use cairn_protocol::ids::{LogIndex, NodeId};

use super::{Result, Violation};

const INVARIANT: &str = "what a leader answers was current when it was read";

/// A state was looked at, to answer a client.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Whose state.
    pub node: NodeId,
    /// The last entry in it.
    pub applied: LogIndex,
    /// It is answered if a lease holds.
    pub by_lease: bool,
}

/// All reads, by the numbers of the operations that they are for.
#[derive(Default)]
pub struct FreshReads {
    open: BTreeMap<u64, Open>,
    answered: Vec<(u64, Vec<Due>)>,
}

/// One that is not answered yet.
struct Open {
    /// Writes that had been acknowledged when the client asked.
    acknowledged: usize,
    readings: Vec<Due>,
}

/// A reading, and how many of the acknowledged writes it has to hold.
struct Due {
    reading: Reading,
    acknowledged: usize,
}

impl FreshReads {
    /// A client asks, after so many acknowledged writes.
    pub fn ask(&mut self, operation: u64, acknowledged: usize) {
        self.open.insert(operation, Open { acknowledged, readings: Vec::new() });
    }

    /// Somebody reads for it, after so many. What is not asked any more nobody hears.
    pub fn read(&mut self, operation: u64, reading: Reading, acknowledged: usize) {
        if let Some(open) = self.open.get_mut(&operation) {
            let acknowledged = if reading.by_lease { acknowledged } else { open.acknowledged };
            open.readings.push(Due { reading, acknowledged });
        }
    }

    /// The client has its answer.
    pub fn answer(&mut self, operation: u64) {
        let open = self.open.remove(&operation);
        self.answered.extend(open.map(|open| (operation, open.readings)));
    }

    /// The client waits no more.
    pub fn give_up(&mut self, operation: u64) {
        self.open.remove(&operation);
    }

    /// How many were answered.
    pub fn count(&self) -> usize {
        self.answered.len()
    }

    /// `places`: the entries of the writes that were acknowledged, in the order in which they were.
    pub(super) fn judge(&self, places: &[LogIndex]) -> Result {
        let mut newest = vec![LogIndex(0)];
        for place in places {
            newest.push(newest[newest.len() - 1].max(*place));
        }
        let is_fresh = |due: &Due| due.reading.applied >= newest[due.acknowledged];
        for (operation, readings) in &self.answered {
            // Tried again, it was read more than once, and any of them may be the answer.
            if readings.iter().any(is_fresh) {
                continue;
            }
            let Some(Due { reading, acknowledged }) = readings.last() else {
                let what = format!("operation {operation} was answered and nobody has read");
                return Err(Violation { invariant: INVARIANT, what });
            };
            let Reading { node, applied, by_lease } = reading;
            let what = format!(
                "operation {operation} was answered from the state of {node} after entry {applied}, \
                 and entry {} was acknowledged before (by lease: {by_lease})",
                newest[*acknowledged],
            );
            return Err(Violation { invariant: INVARIANT, what });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a read after entry `applied` comes to, of which entry 7 was acknowledged when the client
    /// asked and entry 9 when it was made.
    fn judged(applied: u64, by_lease: bool) -> Result {
        let mut reads = FreshReads::default();
        reads.ask(1, 1);
        let reading = Reading { node: NodeId(1), applied: LogIndex(applied), by_lease };
        reads.read(1, reading, 2);
        reads.answer(1);
        reads.judge(&[LogIndex(7), LogIndex(9)])
    }

    #[test]
    fn reads_hold_what_was_acknowledged_before_they_were_made() {
        assert_eq!(judged(9, true), Ok(()));
        assert!(judged(8, true).is_err());
        assert_eq!(judged(7, false), Ok(()), "it was asked before that");
        assert!(judged(6, false).is_err());
    }

    #[test]
    fn one_of_several_readings_is_the_answer() {
        let mut reads = FreshReads::default();
        reads.ask(1, 1);
        for applied in [3, 7] {
            let applied = LogIndex(applied);
            reads.read(1, Reading { node: NodeId(1), applied, by_lease: true }, 1);
        }
        reads.answer(1);
        assert_eq!(reads.judge(&[LogIndex(7)]), Ok(()));
        reads.ask(2, 1);
        reads.answer(2);
        assert!(reads.judge(&[LogIndex(7)]).is_err(), "nobody has read");
    }
}
