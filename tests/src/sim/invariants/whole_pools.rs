//! What a failure leaves of a pool is one epoch and nothing else: all that its root leads to is sound
//! and counted right, is marked as in use, and nothing besides is.

use std::sync::Arc;

use cairn_protocol::ids::NodeId;
use cairn_store::check::check;
use cairn_store::persist::Mem;

use super::{Result, Violation};

/// Looks through the pool of a node that does not run.
///
/// # Errors
/// What is wrong with it.
pub fn look(id: NodeId, pool: Arc<Mem>) -> Result {
    let violation =
        |what| Err(Violation { invariant: "what a failure leaves of a pool is whole", what });
    match check(pool, true, &mut |_, _| {}) {
        Err(error) => violation(format!("the pool of {id} cannot be opened: {error}")),
        Ok(report) if !report.is_clean() => violation(format!(
            "the pool of {id} at epoch {}: {} blocks leaked, {} problems: {:?}",
            report.epoch, report.leaked_blocks, report.problem_count, report.problems
        )),
        Ok(_) => Ok(()),
    }
}
