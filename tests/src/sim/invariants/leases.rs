//! While a leader has a lease nobody leads a later term: followers elect none for so long, whatever
//! becomes of them ("the leader's lease", Ongaro, section 6.4.1).

use std::sync::Arc;

use super::{Result, Violation};
use crate::sim::member::Member;

pub(super) fn look(members: &[Arc<Member>]) -> Result {
    let leaders: Vec<_> = members.iter().filter(|m| m.runs() && m.group.leads()).collect();
    if leaders.len() < 2 {
        return Ok(());
    }
    let term = |member: &Member| member.group.status().term;
    let Some(newest) = leaders.iter().max_by_key(|member| term(member)) else { return Ok(()) };
    let older = leaders.iter().filter(|member| term(member) < term(newest));
    match older.filter(|member| member.group.lease().is_some()).max_by_key(|member| term(member)) {
        None => Ok(()),
        Some(older) => Err(Violation {
            invariant: "nobody leads a later term while a lease stands",
            what: format!(
                "{} leads term {}, and the lease of {} in term {} stands for {} ms",
                newest.machine.id,
                term(newest),
                older.machine.id,
                term(older),
                older.group.status().lease_ms
            ),
        }),
    }
}
