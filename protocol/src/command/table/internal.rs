//! Rows of the operations that only a node proposes: no client can name them.

use crate::command::id::CommandId as Id;
use crate::command::spec::{Place, Spec};

/// The number of the first row; the others follow it without a gap.
pub(super) const FIRST: usize = 0xff00;

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::InternalStage, "_stage", 4, Place::Write),
    Spec::new(Id::InternalReclaim, "_reclaim", -1, Place::Write),
    Spec::new(Id::InternalDropStages, "_dropstages", -1, Place::Write),
    Spec::new(Id::InternalExec, "_exec", 2, Place::Write),
    Spec::new(Id::InternalLimits, "_limits", -1, Place::Write),
    Spec::new(Id::InternalMemory, "_memory", 2, Place::Write),
    Spec::new(Id::InternalEvict, "_evict", -2, Place::Write),
    Spec::new(Id::InternalDeny, "_deny", 2, Place::Write),
    Spec::new(Id::InternalExpire, "_expire", -1, Place::Write),
];
