//! What must hold at any moment of a run, and at its end; one file each. The first five are the
//! properties of Figure 3.2 in Diego Ongaro, "Consensus: Bridging Theory and Practice" (2014).

mod acknowledged;
mod durability;
mod election_safety;
mod fresh_reads;
mod leader_completeness;
mod leases;
mod log_matching;
mod state_machine_safety;
pub mod whole_pools;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cairn_node::raft::recover::SHARD;
use cairn_protocol::ids::NodeId;
use cairn_store::log::{LogId, ShardState};

pub use self::acknowledged::Acknowledged;
use self::durability::Durability;
use self::election_safety::ElectionSafety;
pub use self::fresh_reads::{FreshReads, Reading};
use self::leader_completeness::LeaderCompleteness;
use self::log_matching::LogMatching;
use self::state_machine_safety::StateMachineSafety;
use super::machine::Machine;
use super::member::Member;
use super::trace::Event;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What does not hold.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}", self.invariant, self.what)
    }
}

type Result<T = ()> = std::result::Result<T, Violation>;

/// A node's group at a moment.
struct Look<'a> {
    member: &'a Member,
    id: NodeId,
    term: u64,
    leads: bool,
    log: &'a ShardState,
    applied: LogId,
}

/// What was seen of a node the last time.
type Seen = (u64, u64, bool, Option<LogId>, Option<LogId>, LogId);

/// All of them.
#[derive(Default)]
pub struct Invariants {
    seen: BTreeMap<NodeId, Seen>,
    election_safety: ElectionSafety,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    state_machine_safety: StateMachineSafety,
    durability: Durability,
    /// What clients were told.
    pub acknowledged: Acknowledged,
    /// What they were told from.
    pub fresh_reads: FreshReads,
}

impl Invariants {
    /// Judges what has changed about a node's group, and says what that is.
    ///
    /// # Errors
    /// What does not hold.
    pub fn look(&mut self, member: &Member) -> Result<Option<Event>> {
        if !member.runs() {
            return Ok(None);
        }
        let id = member.machine.id;
        let log = member.group.log().shard(SHARD);
        let (term, leads) = (member.group.status().term.0, member.group.leads());
        let (applied_term, index) = member.group.read().store().applied();
        let applied = LogId::new(applied_term, index);
        let seen = (member.start, term, leads, log.last, log.purged, applied);
        if self.seen.insert(id, seen) == Some(seen) {
            return Ok(None);
        }
        let look = Look { member, id, term, leads, log: &log, applied };
        self.election_safety.look(&look)?;
        self.log_matching.look(&look)?;
        self.state_machine_safety.look(&look)?;
        self.leader_completeness.look(&look, &self.state_machine_safety)?;
        self.durability.note(&look);
        let last = log.last.map_or(0, |last| last.index.0);
        Ok(Some(Event::Stands(id, term, leads, last, index.0)))
    }

    /// Judges who leads beside whom.
    ///
    /// # Errors
    /// What does not hold.
    pub fn look_at_leases(&self, members: &[Arc<Member>]) -> Result {
        leases::look(members)
    }

    /// Judges what is durable.
    ///
    /// # Errors
    /// What does not hold.
    pub fn look_at_disks(&mut self, machines: &[Arc<Machine>]) -> Result {
        self.durability.look(machines)
    }

    /// That node is gone; another may come under its name.
    pub fn forget(&mut self, id: NodeId) {
        self.seen.remove(&id);
        self.log_matching.forget(id);
        self.state_machine_safety.forget(id);
    }

    /// Judges what clients were told, at the end.
    ///
    /// # Errors
    /// What does not hold.
    pub fn judge(&self) -> Result {
        let places = self.acknowledged.places(&self.state_machine_safety, &self.log_matching)?;
        self.fresh_reads.judge(&places)
    }

    /// Terms in which somebody led.
    pub fn terms_led(&self) -> usize {
        self.election_safety.terms()
    }

    /// Entries that were applied.
    pub fn entries(&self) -> usize {
        self.state_machine_safety.entries()
    }
}
