//! Pools that are offered to members, and entries that stay in the log although nothing here needs
//! them: those behind such a pool. Were they purged before a member has the pool, it would need
//! another one; and were another pool offered at every try, a member that a fault cuts off now and
//! then would begin with it again and again. So for as long as much is written a pool would never
//! arrive.
//!
//! What is kept is bounded: once more has been written than it costs to send a pool anew, the offer
//! is withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_protocol::ids::{LogIndex, NodeId};
use cairn_store::{Export, Head};
use parking_lot::Mutex;

use super::runtime::{Executor, Instant};

/// How long a member may be silent that has begun with a pool, and how long one that has the pool
/// may take to ask for the entries behind it. After that its leader keeps what it keeps for
/// everybody.
const CATCH_UP: Duration = Duration::from_secs(30);
/// So many times what the log keeps for everybody may stay for a pool on its way, however small that
/// is.
const KEEP_TIMES: u64 = 8;

/// What is kept, and for whom.
pub struct Keeping {
    state: Mutex<State>,
    executor: Weak<Executor>,
}

#[derive(Default)]
struct State {
    /// The pool that members are sent: the same one for all of them, and for every try.
    offer: Option<Arc<Offer>>,
    /// Places of pools that have arrived a moment ago.
    places: Vec<Place>,
}

struct Place {
    kept: Kept,
    until: Instant,
}

/// The entries behind a pool, as far as they may be kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    behind: LogIndex,
    /// Bytes of entries applied when it was made, and up to when they are kept.
    from_bytes: u64,
    upto_bytes: u64,
}

/// A pool as of one commit, for whoever needs it.
pub struct Offer {
    export: Export,
    kept: Kept,
    tries: Mutex<Tries>,
    executor: Weak<Executor>,
}

struct Tries {
    /// Who has begun with it and does not have it yet.
    wanting: BTreeSet<NodeId>,
    under_way: usize,
    /// How far each has ever got with it, and when it got there.
    furthest: BTreeMap<NodeId, (u64, Instant)>,
    /// When it was made, or a member last said how far it has got.
    last: Instant,
    has_arrived: bool,
    is_withdrawn: bool,
}

/// A try to send it, for as long as that lasts.
pub struct Try<'a> {
    offer: &'a Offer,
    to: NodeId,
}

impl Keeping {
    /// Nothing yet; what time it is `executor` knows.
    pub fn new(executor: &Arc<Executor>) -> Keeping {
        Keeping { state: Mutex::default(), executor: Arc::downgrade(executor) }
    }

    /// The pool that is offered, or the one that `export` makes. `applied_bytes` of entries have been
    /// applied so far, and the log keeps `keep_bytes` of them for everybody.
    pub fn offer(
        &self,
        applied_bytes: u64,
        keep_bytes: u64,
        export: impl FnOnce() -> Export,
    ) -> Arc<Offer> {
        let now = now(&self.executor);
        let mut state = self.state.lock();
        state.prune(now, applied_bytes);
        if let Some(offer) = &state.offer {
            return Arc::clone(offer);
        }
        let export = export();
        let may_take = export.head().pool_bytes().max(keep_bytes.saturating_mul(KEEP_TIMES));
        let kept = Kept {
            behind: export.head().applied().1,
            from_bytes: applied_bytes,
            upto_bytes: applied_bytes.saturating_add(may_take),
        };
        let tries = Tries {
            wanting: BTreeSet::new(),
            under_way: 0,
            furthest: BTreeMap::new(),
            last: now,
            has_arrived: false,
            is_withdrawn: false,
        };
        let (tries, executor) = (Mutex::new(tries), Weak::clone(&self.executor));
        let offer = Arc::new(Offer { export, kept, tries, executor });
        state.offer = Some(Arc::clone(&offer));
        offer
    }

    /// Behind which entry all are needed, if any are, when so many bytes of them have been applied.
    pub fn behind(&self, applied_bytes: u64) -> Option<LogIndex> {
        let mut state = self.state.lock();
        state.prune(now(&self.executor), applied_bytes);
        let offered = state.offer.iter().map(|offer| offer.kept.behind);
        state.places.iter().map(|place| place.kept.behind).chain(offered).min()
    }
}

impl Keeping {
    /// When a member last got further than ever with the pool that is offered now.
    pub fn got_further(&self, node: NodeId) -> Option<Instant> {
        let state = self.state.lock();
        let tries = state.offer.as_ref()?.tries.lock();
        tries.furthest.get(&node).map(|(_, at)| *at)
    }
}

impl State {
    /// Lets go of what nobody needs any more, or what has become too much.
    fn prune(&mut self, now: Instant, applied_bytes: u64) {
        self.places.retain(|place| now < place.until && applied_bytes < place.kept.upto_bytes);
        let Some(offer) = &self.offer else { return };
        let mut tries = offer.tries.lock();
        if applied_bytes >= offer.kept.upto_bytes && !tries.is_withdrawn {
            let written = applied_bytes - offer.kept.from_bytes;
            tracing::warn!(
                "{written} bytes were written while the pool as of entry {} was on its way to a \
                 member: it will be sent anew",
                offer.kept.behind
            );
            tries.is_withdrawn = true;
        }
        let until = tries.last + CATCH_UP;
        tries.is_withdrawn |= now >= until;
        let is_wanted = !tries.wanting.is_empty() || tries.under_way > 0;
        if tries.has_arrived && !is_wanted && !tries.is_withdrawn {
            self.places.push(Place { kept: offer.kept, until });
        }
        // openraft asks for a pool at its start, and looks no further at it than what it is called.
        let is_asked_for = Arc::strong_count(offer) > 1 && !tries.has_arrived;
        if tries.is_withdrawn || !is_wanted && !is_asked_for {
            drop(tries);
            self.offer = None;
        }
    }
}

impl Offer {
    /// Which pool it is.
    pub fn head(&self) -> &Head {
        self.export.head()
    }

    /// The pool.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Begins to send it to a member, or goes on with that.
    pub fn begin(&self, to: NodeId) -> Try<'_> {
        self.tries.lock().under_way += 1;
        Try { offer: self, to }
    }

    /// Whether there is no use in going on with it.
    pub fn is_withdrawn(&self) -> bool {
        self.tries.lock().is_withdrawn
    }

    /// Has it offered no more: it cannot be read.
    pub fn withdraw(&self) {
        self.tries.lock().is_withdrawn = true;
    }
}

impl Try<'_> {
    /// The member says how far it has got, in `steps`. One that is not there is waited for no longer.
    pub fn goes_on(&self, steps: u64) {
        let now = now(&self.offer.executor);
        let mut tries = self.offer.tries.lock();
        tries.wanting.insert(self.to);
        tries.last = now;
        let furthest = tries.furthest.entry(self.to).or_insert((steps, now));
        if furthest.0 < steps {
            *furthest = (steps, now);
        }
    }

    /// The member has it.
    pub fn arrived(&self) {
        let mut tries = self.offer.tries.lock();
        tries.wanting.remove(&self.to);
        tries.has_arrived = true;
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        self.offer.tries.lock().under_way -= 1;
    }
}

fn now(executor: &Weak<Executor>) -> Instant {
    // Without an executor there is no group any more.
    executor.upgrade().map_or(Instant::from_nanos(0), |executor| executor.now())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use cairn_store::{PoolOptions, Store};

    use super::*;

    /// A clock, what keeps by it, and a pool.
    struct Bench {
        clock: Arc<AtomicU64>,
        _executor: Arc<Executor>,
        keeping: Keeping,
        store: Store,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let dir = tempfile::tempdir().expect("a directory");
            let options =
                PoolOptions { capacity_bytes: 16 << 20, new_hash_key: [1; 2], new_uuid: [9; 16] };
            let pool = dir.path().join("pool");
            let (store, _, _) = Store::open_file(&pool, &options).expect("a pool");
            let clock = Arc::<AtomicU64>::default();
            let executor = Executor::simulated(Arc::clone(&clock), 1);
            let keeping = Keeping::new(&executor);
            Bench { clock, _executor: executor, keeping, store, _dir: dir }
        }

        fn offer(&self, applied_bytes: u64) -> Arc<Offer> {
            self.keeping.offer(applied_bytes, 100, || self.store.export())
        }

        fn keeps(&self) -> bool {
            self.keeping.behind(0).is_some()
        }

        fn sleep(&self, duration: Duration) {
            self.clock.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    const SHORT: Duration = Duration::from_secs(29);
    const LONG: Duration = Duration::from_secs(31);

    #[test]
    fn the_same_pool_is_offered_until_all_who_want_it_have_it() {
        let bench = Bench::new();
        assert!(!bench.keeps());
        let offer = bench.offer(0);
        offer.begin(NodeId(1)).goes_on(0);
        bench.sleep(SHORT);
        assert!(Arc::ptr_eq(&bench.offer(0), &offer), "for the next try");
        let (first, second) = (offer.begin(NodeId(1)), offer.begin(NodeId(2)));
        for sending in [&first, &second, &first] {
            sending.goes_on(0);
            bench.sleep(SHORT);
            assert!(Arc::ptr_eq(&bench.offer(0), &offer), "it is on its way");
        }
        first.arrived();
        drop((first, second));
        assert!(Arc::ptr_eq(&bench.offer(0), &offer), "the other has begun with it");
        let second = offer.begin(NodeId(2));
        second.goes_on(0);
        second.arrived();
        drop(second);
        bench.sleep(SHORT);
        assert!(bench.keeps(), "it will ask for the entries behind it");
        assert!(!Arc::ptr_eq(&bench.offer(0), &offer), "nobody needs that one any more");
    }

    #[test]
    fn nothing_is_kept_that_nobody_has_begun_with() {
        let bench = Bench::new();
        let offer = bench.offer(0);
        assert!(bench.keeps(), "it may be about to be sent");
        drop(offer);
        assert!(!bench.keeps());
    }

    #[test]
    fn who_is_silent_for_long_is_waited_for_no_more() {
        let bench = Bench::new();
        let offer = bench.offer(0);
        offer.begin(NodeId(1)).goes_on(0);
        bench.sleep(SHORT);
        // Tries that reach nobody.
        let sending = offer.begin(NodeId(1));
        bench.sleep(SHORT);
        assert!(!bench.keeps() && offer.is_withdrawn());
        drop(sending);
        assert!(!Arc::ptr_eq(&bench.offer(0), &offer));
        let offer = bench.offer(0);
        offer.begin(NodeId(1)).arrived();
        assert!(bench.keeps());
        bench.sleep(LONG);
        assert!(!bench.keeps());
    }

    #[test]
    fn who_begins_again_and_again_does_not_get_further() {
        let bench = Bench::new();
        let (offer, node) = (bench.offer(0), NodeId(1));
        assert_eq!(bench.keeping.got_further(node), None);
        let begin = || now(&offer.executor);
        for (steps, gets_further) in [(0, true), (1, true), (1, false), (0, false), (2, true)] {
            bench.sleep(SHORT);
            offer.begin(node).goes_on(steps);
            assert_eq!(bench.keeping.got_further(node) == Some(begin()), gets_further, "{steps}");
        }
    }

    #[test]
    fn what_has_become_too_much_is_let_go_of() {
        let bench = Bench::new();
        let offer = bench.offer(5);
        let limit = 5 + offer.head().pool_bytes().max(800);
        let sending = offer.begin(NodeId(1));
        assert!(bench.keeping.behind(limit - 1).is_some() && !offer.is_withdrawn());
        assert!(bench.keeping.behind(limit).is_none() && offer.is_withdrawn());
        assert!(!Arc::ptr_eq(&bench.offer(limit), &offer));
        drop(sending);
        let offer = bench.offer(limit);
        offer.withdraw();
        assert!(!Arc::ptr_eq(&bench.offer(limit), &offer), "it cannot be read");
        let offer = bench.offer(0);
        offer.begin(NodeId(1)).arrived();
        assert!(bench.keeping.behind(limit * 2).is_none());
    }
}
