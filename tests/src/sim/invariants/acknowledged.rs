//! No acknowledged write is lost: each is in an entry that was applied, and stays there.
//!
//! And what clients saw has one order that explains it all: [`crate::linearize`].

use super::log_matching::LogMatching;
use super::state_machine_safety::StateMachineSafety;
use super::{Result, Violation};

/// What clients were told is done: values of which each is written once.
#[derive(Default)]
pub struct Acknowledged(Vec<String>);

impl Acknowledged {
    /// The write of that value was acknowledged.
    pub fn note(&mut self, value: String) {
        self.0.push(value);
    }

    /// How many were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn judge(&self, chosen: &StateMachineSafety, entries: &LogMatching) -> Result {
        // Runs are short: all bytes in a row can be searched.
        let payloads = chosen.chosen().filter_map(|id| entries.payload(id));
        let all: Vec<u8> = payloads.flat_map(|payload| payload.iter().copied()).collect();
        let all = String::from_utf8_lossy(&all);
        match self.0.iter().find(|value| !all.contains(value.as_str())) {
            None => Ok(()),
            Some(lost) => Err(Violation {
                invariant: "no acknowledged write is lost",
                what: format!("{lost} was acknowledged, and no entry that was applied holds it"),
            }),
        }
    }
}
