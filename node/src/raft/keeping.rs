//! Entries that stay in the log although nothing here needs them: those behind a pool that is on its
//! way to a member. Were they purged before it has the pool, it would need another one, and so for
//! as long as much is written.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_protocol::ids::LogIndex;
use parking_lot::Mutex;

use super::runtime::{Executor, Instant};

/// How long a member that has the pool may take to ask for the entries behind it. After that its
/// leader keeps what it keeps for everybody.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What is kept, and for whom.
#[derive(Debug)]
pub struct Keeping {
    places: Arc<Mutex<Vec<Place>>>,
    executor: Weak<Executor>,
}

#[derive(Debug)]
struct Place {
    behind: LogIndex,
    /// None: the pool is on its way.
    until: Option<Instant>,
}

/// Entries are kept for as long as this lives, and a while longer.
#[derive(Debug)]
pub struct Kept {
    behind: LogIndex,
    places: Arc<Mutex<Vec<Place>>>,
    executor: Weak<Executor>,
}

impl Keeping {
    /// Nothing yet; what time it is `executor` knows.
    pub fn new(executor: &Arc<Executor>) -> Keeping {
        Keeping { places: Arc::default(), executor: Arc::downgrade(executor) }
    }

    /// Keeps the entries behind `index`.
    pub fn keep(&self, index: LogIndex) -> Kept {
        self.places.lock().push(Place { behind: index, until: None });
        let (places, executor) = (Arc::clone(&self.places), Weak::clone(&self.executor));
        Kept { behind: index, places, executor }
    }

    /// Behind which entry all are needed, if any are.
    pub fn behind(&self, now: Instant) -> Option<LogIndex> {
        let mut places = self.places.lock();
        places.retain(|place| place.until.is_none_or(|until| now < until));
        places.iter().map(|place| place.behind).min()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let until = self.executor.upgrade().map(|executor| executor.now() + CATCH_UP);
        let mut places = self.places.lock();
        let own = places.iter().position(|p| p.behind == self.behind && p.until.is_none());
        if let Some(own) = own {
            // Without an executor there is no group any more.
            places[own].until = Some(until.unwrap_or(Instant::from_nanos(0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn entries_are_kept_while_a_pool_is_sent_and_a_while_longer() {
        let clock = Arc::<AtomicU64>::default();
        let executor = Executor::simulated(Arc::clone(&clock), 1);
        let keeping = Keeping::new(&executor);
        let behind = || keeping.behind(executor.now()).map(|index| index.0);
        assert_eq!(behind(), None);
        let (late, early) = (keeping.keep(LogIndex(9)), keeping.keep(LogIndex(7)));
        assert_eq!(behind(), Some(7));
        drop(early);
        assert_eq!(behind(), Some(7));
        clock.fetch_add(CATCH_UP.as_nanos() as u64, Ordering::Relaxed);
        assert_eq!(behind(), Some(9));
        drop(late);
        assert_eq!(behind(), Some(9));
        clock.fetch_add(CATCH_UP.as_nanos() as u64, Ordering::Relaxed);
        assert_eq!(behind(), None);
    }
}
