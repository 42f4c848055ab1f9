//! Where openraft says how it stands: a value that many may look at and wait for.
//!
//! openraft writes a dozen of these for every entry, and hardly ever does anybody wait: tokio's,
//! made for many waiters on many cores, took a sixth of a lone node's processor time for a write.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use openraft::async_runtime::watch::{RecvError, SendError};
use openraft::async_runtime::{Watch, WatchReceiver, WatchSender};
use openraft::{OptionalSend, OptionalSync};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

/// The channels of a group's runtime.
pub struct GroupWatch;

struct Shared<T> {
    value: RwLock<T>,
    /// Counts the changes; written while the value is locked.
    version: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

impl<T> Shared<T> {
    fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll_changed(&self, seen: &mut u64, cx: &Context<'_>) -> Poll<Result<(), RecvError>> {
        if let Some(done) = self.changed_since(seen) {
            return Poll::Ready(done);
        }
        {
            let mut waiting = self.waiting.lock();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        // Whoever changed it in between found nobody to wake.
        self.changed_since(seen).map_or(Poll::Pending, Poll::Ready)
    }

    fn changed_since(&self, seen: &mut u64) -> Option<Result<(), RecvError>> {
        let version = self.version();
        if version != std::mem::replace(seen, version) {
            return Some(Ok(()));
        }
        (self.senders.load(Ordering::SeqCst) == 0).then_some(Err(RecvError(())))
    }
}

/// Changes the value.
pub struct Sender<T>(Arc<Shared<T>>);

/// Looks at the value, and waits for the next.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that was seen last.
    seen: u64,
}

/// The value, which does not change meanwhile.
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Watch for GroupWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared {
            value: RwLock::new(init),
            version: AtomicU64::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            waiting: Mutex::default(),
        });
        (Sender(Arc::clone(&shared)), Receiver { shared, seen: 0 })
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<GroupWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(Ordering::SeqCst) == 0 {
            return Err(SendError(value));
        }
        let mut value = Some(value);
        self.send_if_modified(|current| {
            // What was there is dropped once nobody is kept from the value.
            std::mem::swap(current, value.as_mut().expect("a new value"));
            true
        });
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        {
            let mut value = self.0.value.write();
            if !modify(&mut value) {
                return false;
            }
            self.0.version.fetch_add(1, Ordering::SeqCst);
        }
        self.0.wake_all();
        true
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        Ref(self.0.value.read())
    }

    fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.fetch_add(1, Ordering::SeqCst);
        Receiver { shared: Arc::clone(&self.0), seen: self.0.version() }
    }
}

impl<T> Receiver<T> {
    /// Whether nobody is left who could change the value.
    pub fn is_orphaned(&self) -> bool {
        self.shared.senders.load(Ordering::SeqCst) == 0
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<GroupWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|cx| self.shared.poll_changed(&mut self.seen, cx)).await
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        Ref(self.shared.value.read())
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.version();
        Ref(value)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.fetch_add(1, Ordering::SeqCst);
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.wake_all();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::SeqCst);
        Receiver { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Waits without ever looking again by itself: a lost wake-up is an error.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let patience = std::time::Duration::from_secs(30);
            tokio::time::timeout(patience, future).await.expect("no wake-up is lost")
        })
    }

    #[test]
    fn each_change_is_told_once_and_the_end_too() {
        let (sender, mut receiver) = GroupWatch::channel(1);
        assert_eq!(receiver.changed().now_or_never(), None);
        sender.send(2).expect("somebody looks");
        assert!(!sender.send_if_greater(2), "no change");
        let mut late = sender.subscribe();
        assert_eq!(late.changed().now_or_never(), None, "it is not new to who comes now");
        assert_eq!(receiver.changed().now_or_never(), Some(Ok(())));
        assert_eq!(receiver.changed().now_or_never(), None);
        sender.send(3).expect("somebody looks");
        assert_eq!(*receiver.borrow_and_update(), 3);
        assert_eq!(receiver.changed().now_or_never(), None);
        assert!(!receiver.is_orphaned());
        drop(sender);
        assert!(receiver.is_orphaned());
        assert_eq!(late.changed().now_or_never(), Some(Ok(())), "the last value first");
        assert!(late.changed().now_or_never().expect("ends").is_err());
        assert!(receiver.changed().now_or_never().expect("ends").is_err());
    }

    #[test]
    fn no_change_is_missed_by_who_waits_on_another_thread() {
        const LAST: u64 = 20_000;
        let (sender, mut receiver) = GroupWatch::channel(0);
        let waiting = std::thread::spawn(move || {
            block_on(async {
                let mut looks = 0u64;
                while *receiver.borrow_watched() < LAST {
                    receiver.changed().await.expect("the sender stays");
                    looks += 1;
                }
                looks
            })
        });
        for value in 1..=LAST {
            sender.send(value).expect("somebody looks");
            if value % 64 == 0 {
                std::thread::yield_now();
            }
        }
        assert!(waiting.join().expect("it sees the last") <= LAST);
    }

    #[test]
    fn nobody_is_told_when_nobody_looks() {
        let (sender, receiver) = GroupWatch::channel(0);
        drop(receiver);
        assert_eq!(sender.send(1).map_err(|refused| refused.0), Err(1));
        assert_eq!(*sender.borrow_watched(), 0);
        let receiver = sender.subscribe();
        sender.send(1).expect("somebody looks");
        assert_eq!(*receiver.borrow_watched(), 1);
    }
}
