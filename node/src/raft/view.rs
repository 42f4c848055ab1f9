//! Who leads, and until when its leader may answer reads by itself: what every read looks at, kept
//! where that costs a load or two.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_protocol::ids::NodeId;
use parking_lot::Mutex;

use super::runtime::Instant;

/// A leader's right to answer reads by itself, of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    term: u64,
}

/// The last look at a group's openraft.
#[derive(Debug, Default)]
pub struct View {
    alone: AtomicBool,
    /// No lease is used.
    without_lease: AtomicBool,
    leads: AtomicBool,
    /// 0: not known.
    leader: AtomicU64,
    term: AtomicU64,
    /// Nanoseconds of the executor's clock; 0: there is no lease.
    lease_until: AtomicU64,
    /// The term in which leadership was handed over, or is being: it has no lease any more.
    handed_over: Mutex<Option<u64>>,
}

impl View {
    /// There is nobody else, and never will be under this view.
    pub fn lead_for_ever(&self) {
        self.alone.store(true, Ordering::Release);
        self.leads.store(true, Ordering::Release);
    }

    /// Whether leases may be used. To be said before the first [`View::note`].
    pub fn allow_lease(&self, allowed: bool) {
        self.without_lease.store(!allowed, Ordering::Release);
    }

    /// Takes note of who leads which term, and of this node's lease.
    pub fn note(&self, leads: bool, leader: Option<NodeId>, term: u64, until: Option<Instant>) {
        let handed_over = self.handed_over.lock();
        let allowed = *handed_over != Some(term) && !self.without_lease.load(Ordering::Acquire);
        let until = until.filter(|_| allowed);
        // The lease goes before its term does, and comes after it.
        if self.term.load(Ordering::Relaxed) != term || until.is_none() {
            self.lease_until.store(0, Ordering::SeqCst);
        }
        self.term.store(term, Ordering::SeqCst);
        self.lease_until.store(until.map_or(0, Instant::nanos), Ordering::SeqCst);
        self.leader.store(leader.map_or(0, |leader| leader.0), Ordering::Release);
        self.leads.store(leads, Ordering::Release);
    }

    /// Gives up this term's lease for good.
    pub fn hand_over(&self) {
        let mut handed_over = self.handed_over.lock();
        *handed_over = Some(self.term.load(Ordering::SeqCst));
        self.lease_until.store(0, Ordering::SeqCst);
    }

    /// Whether there is nobody else.
    #[inline]
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// Whether this node leads.
    #[inline]
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// Who leads, if that is known.
    pub fn leader(&self) -> Option<NodeId> {
        Some(NodeId(self.leader.load(Ordering::Acquire))).filter(|leader| leader.0 != 0)
    }

    /// For how long the lease lasts from `now` on, unless it is renewed.
    pub fn lease_left(&self, now: Instant) -> Duration {
        let until = Instant::from_nanos(self.lease_until.load(Ordering::SeqCst));
        until - now
    }

    /// The lease, if there is one at the moment `now` gives.
    #[inline]
    pub fn lease(&self, now: impl FnOnce() -> Instant) -> Option<Lease> {
        if self.is_alone() {
            return Some(Lease { term: 0 });
        }
        let term = self.term.load(Ordering::SeqCst);
        let until = self.lease_until.load(Ordering::SeqCst);
        // The term again: a lease of another one may have come between the two loads.
        let holds = until != 0 && now().nanos() < until && self.term.load(Ordering::SeqCst) == term;
        holds.then_some(Lease { term })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> impl FnOnce() -> Instant {
        move || Instant::from_nanos(nanos)
    }

    #[test]
    fn a_lease_ends_by_time_term_and_handing_over() {
        let view = View::default();
        assert_eq!(view.lease(at(1)), None);
        view.note(true, Some(NodeId(3)), 7, Some(Instant::from_nanos(100)));
        let lease = view.lease(at(99)).expect("a lease");
        assert_eq!(view.lease(at(100)), None);
        view.note(true, Some(NodeId(3)), 8, Some(Instant::from_nanos(200)));
        assert_ne!(view.lease(at(99)), Some(lease), "another term's");
        view.hand_over();
        assert_eq!(view.lease(at(99)), None);
        view.note(true, Some(NodeId(3)), 8, Some(Instant::from_nanos(300)));
        assert_eq!(view.lease(at(99)), None, "never again in that term");
        view.note(true, Some(NodeId(3)), 9, Some(Instant::from_nanos(400)));
        assert!(view.lease(at(99)).is_some());
        view.note(false, None, 9, None);
        assert_eq!((view.lease(at(99)), view.leader(), view.leads()), (None, None, false));
    }

    #[test]
    fn who_may_not_use_leases_has_none() {
        let view = View::default();
        view.allow_lease(false);
        view.note(true, Some(NodeId(3)), 7, Some(Instant::from_nanos(100)));
        assert_eq!((view.lease(at(1)), view.leads()), (None, true));
    }
}
