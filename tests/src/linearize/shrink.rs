//! From a history that no order explains to a small part of it that none explains either.
//!
//! Only what cannot be to blame is left out: a read, or a value altogether, with its write and all
//! that saw it. In an order that explains the whole a value holds for one stretch of time, and the
//! order without that stretch explains the rest; so if nothing explains the rest, nothing explains
//! the whole.

use std::collections::HashSet;

use super::is_linearizable;
use crate::history::{Operation, Value};

/// The fewest operations, by time, that were found to have no order; `operations` has none.
pub fn least(operations: &[Operation]) -> Vec<Operation> {
    let values: Vec<Value> = operations.iter().filter_map(|op| op.wrote).collect();
    let (mut kept, _) = reduce(operations.to_vec(), values, without);
    loop {
        let reads: Vec<Operation> = kept.iter().filter(|op| op.wrote.is_none()).copied().collect();
        let (fewer, reduced) = reduce(kept, reads, |all, gone| {
            all.iter().filter(|operation| !gone.contains(operation)).copied().collect()
        });
        let values: Vec<Value> = fewer.iter().filter_map(|op| op.wrote).collect();
        let (fewer, again) = reduce(fewer, values, without);
        kept = fewer;
        if !reduced && !again {
            break;
        }
    }
    kept.sort_by_key(|operation| operation.invoked);
    kept
}

/// Leaves out of `operations` as many of `parts` as it can, large pieces first. Says whether that
/// were any.
fn reduce<P: Copy + PartialEq>(
    mut operations: Vec<Operation>,
    mut parts: Vec<P>,
    leave_out: impl Fn(&[Operation], &[P]) -> Vec<Operation>,
) -> (Vec<Operation>, bool) {
    let mut piece_len = parts.len().div_ceil(2);
    let mut reduced = false;
    while piece_len > 0 {
        let mut from = 0;
        while from < parts.len() {
            let end = (from + piece_len).min(parts.len());
            let fewer = leave_out(&operations, &parts[from..end]);
            if fewer.len() < operations.len() && !is_linearizable(&fewer) {
                operations = fewer;
                parts.drain(from..end);
                reduced = true;
            } else {
                from = end;
            }
        }
        piece_len /= 2;
    }
    (operations, reduced)
}

/// What is left without some values. Who replaced one of them and saw it goes too, with its own.
fn without(operations: &[Operation], values: &[Value]) -> Vec<Operation> {
    let mut gone: HashSet<Value> = values.iter().copied().collect();
    loop {
        let before = gone.len();
        for operation in operations {
            if let (Some(Some(saw)), Some(wrote)) = (operation.saw, operation.wrote)
                && gone.contains(&saw)
            {
                gone.insert(wrote);
            }
        }
        if gone.len() == before {
            break;
        }
    }
    let is_gone = |value: Option<Value>| value.is_some_and(|value| gone.contains(&value));
    let stays = |op: &&Operation| !is_gone(op.wrote) && !is_gone(op.saw.flatten());
    operations.iter().filter(stays).copied().collect()
}
