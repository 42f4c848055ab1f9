//! No acknowledged write is lost: each is in an entry that was applied, and stays there.
//!
//! And what clients saw has one order that explains it all: [`crate::linearize`].

use std::collections::BTreeMap;

use cairn_protocol::ids::LogIndex;

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

    /// The entries that hold them, in the order in which they were acknowledged.
    pub(super) fn places(
        &self,
        chosen: &StateMachineSafety,
        entries: &LogMatching,
    ) -> Result<Vec<LogIndex>> {
        let mut places = BTreeMap::new();
        for id in chosen.chosen() {
            let payload = entries.payload(id).unwrap_or_default();
            let ends = payload.len().saturating_sub(VALUE_BYTES - 1);
            let values = (0..ends).map(|at| &payload[at..at + VALUE_BYTES]);
            places.extend(values.filter(|bytes| is_value(bytes)).map(|value| (value, id.index)));
        }
        let place = |value: &String| {
            places.get(value.as_bytes()).copied().ok_or_else(|| Violation {
                invariant: "no acknowledged write is lost",
                what: format!("{value} was acknowledged, and no entry that was applied holds it"),
            })
        };
        self.0.iter().map(place).collect()
    }
}

/// What clients write begins with a letter and so many digits.
const VALUE_BYTES: usize = 9;

fn is_value(bytes: &[u8]) -> bool {
    bytes[0] == b'v' && bytes[1..].iter().all(u8::is_ascii_digit)
}
