//! The thread that sees to a group when nobody else does: its timers, and what wakes it from the
//! network or the log while no connection waits for a reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::group::Group;

/// The longest wait: should a wake-up be lost, it is this late.
const LONGEST: Duration = Duration::from_millis(100);

/// A group's thread.
pub struct Attendant {
    group: Arc<Group>,
    stop: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

impl Attendant {
    /// Starts attending to `group`.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(group: Arc<Group>) -> std::io::Result<Attendant> {
        let stop = Arc::<AtomicBool>::default();
        let (attended, asked) = (Arc::clone(&group), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("cairn-raft".into());
        let handle = thread.spawn(move || {
            while !asked.load(Ordering::Acquire) {
                attended.attend(LONGEST);
            }
            // What came before the word to stop.
            attended.attend(Duration::ZERO);
        })?;
        Ok(Attendant { group, stop, handle })
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.group.hurry();
        // It panics only if a task's clean-up does, and then there is nothing left to end.
        let _ = self.handle.join();
    }
}
