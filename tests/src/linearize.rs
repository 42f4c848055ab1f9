//! Is a history linearizable? Is there one order of its operations, each at a moment between its
//! invocation and its answer, in which every read sees the last write before it?
//!
//! Keys are independent of each other, so each is judged by itself: by the search of Wing and Gong
//! with Lowe's memory of what was tried ("Testing for linearizability", 2016). That values are
//! unique makes it fast: who saw a value names its write, so a write of which the client heard
//! nothing either took effect before somebody saw it or need never have, and a value that is yet to
//! be seen cannot be overwritten. [`shrink`] cuts what is wrong down to what people can read.

mod search;
pub mod shrink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::history::{Operation, State, Value};

/// A history that no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key.
    pub key: u64,
    /// How many operations the history has on it.
    pub operations: usize,
    /// The fewest of them found that no order explains either, by time of invocation.
    pub least: Vec<Operation>,
}

/// Judges a history of operations on any number of keys.
///
/// # Errors
/// The first key whose operations no order explains.
///
/// # Panics
/// When two operations write the same value to one key: nobody could tell them apart.
pub fn check(history: &[Operation]) -> Result<(), Violation> {
    let mut keys: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(operation.key).or_default().push(*operation);
    }
    for (key, operations) in keys {
        if !is_linearizable(&operations) {
            let least = shrink::least(&operations);
            return Err(Violation { key, operations: operations.len(), least });
        }
    }
    Ok(())
}

/// Whether some order explains these operations, all of one key.
fn is_linearizable(operations: &[Operation]) -> bool {
    settle(operations).is_some_and(|settled| search::order_exists(&settled))
}

/// An operation that is known to have taken effect, and by when.
#[derive(Clone, Copy, Debug)]
struct Settled {
    invoked: u64,
    returned: u64,
    saw: Option<State>,
    wrote: Option<Value>,
}

/// Leaves out what need not have happened, and bounds what has: a write without an answer took
/// effect before the answer of whoever saw its value, and if nobody did, the history is explained
/// without it whenever it is with it. None: a value was seen that nobody wrote.
fn settle(operations: &[Operation]) -> Option<Vec<Settled>> {
    let mut writers = HashMap::new();
    for (at, operation) in operations.iter().enumerate() {
        if let Some(value) = operation.wrote {
            let other = writers.insert(value, at);
            assert!(other.is_none(), "{value} is written to key {} twice", operation.key);
        }
    }
    let mut returned: Vec<Option<u64>> = operations.iter().map(|op| op.returned).collect();
    let mut open: Vec<usize> = (0..operations.len()).filter(|at| returned[*at].is_some()).collect();
    while let Some(at) = open.pop() {
        let Some(Some(value)) = operations[at].saw else { continue };
        let writer = *writers.get(&value)?;
        if operations[writer].returned.is_some() {
            continue;
        }
        let seen = returned[at].expect("only such are open").max(operations[writer].invoked);
        if returned[writer].is_none_or(|bound| seen < bound) {
            returned[writer] = Some(seen);
            open.push(writer);
        }
    }
    let settled = operations.iter().zip(returned).filter_map(|(operation, returned)| {
        let &Operation { invoked, saw, wrote, .. } = operation;
        Some(Settled { invoked, returned: returned?, saw, wrote })
    });
    Some(settled.collect())
}

/// How many columns the picture of a violation takes for time.
const COLUMNS: u64 = 40;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { key, operations, least } = self;
        writeln!(
            f,
            "key {key} is not linearizable; of {operations} operations these {} show it (times \
             since the first; > is without an answer):",
            least.len()
        )?;
        let from = least.iter().map(|op| op.invoked).min().unwrap_or(0);
        let end = least.iter().map(|op| op.returned.unwrap_or(op.invoked)).max().unwrap_or(0);
        let column = |time: u64| {
            let share = u128::from(time - from) * u128::from(COLUMNS - 1);
            (share / u128::from((end - from).max(1))) as usize
        };
        for operation in least {
            let start = column(operation.invoked);
            let len = column(operation.returned.unwrap_or(end)).max(start) - start + 1;
            let mark = if operation.returned.is_some() { "=" } else { ">" };
            let picture = format!("{}{}", " ".repeat(start), mark.repeat(len));
            let until = operation.returned.map_or_else(|| "?".into(), |t| (t - from).to_string());
            writeln!(
                f,
                "  |{picture:<width$}| {:>12} .. {until:<12} {operation}",
                operation.invoked - from,
                width = COLUMNS as usize,
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}
