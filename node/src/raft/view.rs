//! Who leads, and until when its leader may answer reads by itself: what every read looks at, kept
//! where that costs a load or two.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_protocol::ids::{NodeId, Term};
use parking_lot::Mutex;

use super::runtime::Instant;

/// A leader's right to answer reads by itself, of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    term: u64,
}

/// What a follower heard from its leader.
#[derive(Debug, Default)]
struct Told {
    /// When last.
    last: Option<Instant>,
    /// When it had applied all that the leader had told it to be agreed by then.
    fresh: Option<Instant>,
    /// What was agreed at a later moment, which it may not have applied yet.
    next: Option<(Instant, u64)>,
}

impl Told {
    /// At `now` the leader said that all up to `agreed` is; applied is all up to `applied`.
    fn note(&mut self, now: Instant, agreed: u64, applied: u64) {
        self.apply(applied);
        self.last = Some(now);
        if self.next.is_none() {
            self.next = Some((now, agreed));
        }
        self.apply(applied);
    }

    fn apply(&mut self, applied: u64) {
        if let Some((at, _)) = self.next.take_if(|(_, agreed)| *agreed <= applied) {
            self.fresh = Some(at);
        }
    }
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
    /// What this node heard from the leader that it follows.
    told: Mutex<Told>,
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

    /// The term it was in at that look.
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::SeqCst))
    }

    /// Who leads, if that is known.
    pub fn leader(&self) -> Option<NodeId> {
        Some(NodeId(self.leader.load(Ordering::Acquire))).filter(|leader| leader.0 != 0)
    }

    /// Takes note that the leader was heard at `now`, which says that all up to `agreed` is agreed;
    /// applied is all up to `applied`.
    pub fn hear(&self, now: Instant, agreed: u64, applied: u64) {
        self.told.lock().note(now, agreed, applied);
    }

    /// How long ago the leader was heard, and how old at most what is applied is, which is all up to
    /// `applied`. None: it was never heard, or never all applied.
    pub fn silence(&self, now: Instant, applied: u64) -> (Option<Duration>, Option<Duration>) {
        let mut told = self.told.lock();
        told.apply(applied);
        (told.last.map(|at| now - at), told.fresh.map(|at| now - at))
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
    fn what_is_applied_is_as_old_as_the_word_that_it_is_all() {
        let view = View::default();
        let at = Instant::from_nanos;
        let ago = |nanos| Some(Duration::from_nanos(nanos));
        assert_eq!(view.silence(at(5), 9), (None, None));
        view.hear(at(10), 7, 7);
        assert_eq!(view.silence(at(15), 7), (ago(5), ago(5)));
        view.hear(at(20), 9, 7);
        view.hear(at(30), 10, 8);
        assert_eq!(view.silence(at(40), 8), (ago(10), ago(30)), "two of three are not applied");
        assert_eq!(view.silence(at(40), 9), (ago(10), ago(20)));
        view.hear(at(50), 10, 10);
        assert_eq!(view.silence(at(60), 10), (ago(10), ago(10)));
    }

    #[test]
    fn who_may_not_use_leases_has_none() {
        let view = View::default();
        view.allow_lease(false);
        view.note(true, Some(NodeId(3)), 7, Some(Instant::from_nanos(100)));
        assert_eq!((view.lease(at(1)), view.leads()), (None, true));
    }
}
