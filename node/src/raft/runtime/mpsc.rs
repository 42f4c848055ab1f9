//! What openraft's tasks tell each other: a queue of many senders and one receiver.
//!
//! The tasks of a group run one at a time on one thread, so a queue under a lock is never contended;
//! tokio's, made for many cores, took a tenth of a lone node's processor time for a write.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use openraft::OptionalSend;
use openraft::async_runtime::mpsc::{SendError, TryRecvError};
use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender, MpscWeakSender};
use parking_lot::Mutex;

/// The queues of a group's runtime.
pub struct GroupMpsc;

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// Messages that may lie in it.
    capacity: usize,
    senders: AtomicUsize,
}

struct Queue<T> {
    messages: VecDeque<T>,
    /// The receiver is gone.
    closed: bool,
    receiver: Option<Waker>,
    /// Senders that found it full.
    waiting: Vec<Waker>,
}

impl<T> Shared<T> {
    /// Puts the message in; it stays where it was when there is no room.
    fn poll_send(
        &self,
        message: &mut Option<T>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SendError<T>>> {
        let mut queue = self.queue.lock();
        if queue.closed {
            drop(queue);
            return Poll::Ready(message.take().map_or(Ok(()), |message| Err(SendError(message))));
        }
        if queue.messages.len() >= self.capacity {
            if !queue.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                queue.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        queue.messages.extend(message.take());
        let receiver = queue.receiver.take();
        drop(queue);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut queue = self.queue.lock();
        match queue.messages.pop_front() {
            Some(message) => {
                self.make_room(queue);
                Poll::Ready(Some(message))
            }
            // A message is there before its sender goes, so it would have been found.
            None if self.senders.load(Ordering::SeqCst) == 0 => Poll::Ready(None),
            None => {
                if !queue.receiver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    queue.receiver = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Wakes all who wait for room: one of them may have gone, and would keep the place.
    fn make_room(&self, mut queue: parking_lot::MutexGuard<'_, Queue<T>>) {
        if !queue.waiting.is_empty() {
            let waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// Puts messages in.
pub struct Sender<T>(Arc<Shared<T>>);

/// Takes them out.
pub struct Receiver<T>(Arc<Shared<T>>);

/// Does not keep the queue open.
pub struct WeakSender<T>(Weak<Shared<T>>);

impl Mpsc for GroupMpsc {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(buffer: usize) -> (Sender<T>, Receiver<T>) {
        let queue =
            Queue { messages: VecDeque::new(), closed: false, receiver: None, waiting: Vec::new() };
        let (queue, senders) = (Mutex::new(queue), AtomicUsize::new(1));
        let shared = Arc::new(Shared { queue, capacity: buffer.max(1), senders });
        (Sender(Arc::clone(&shared)), Receiver(shared))
    }
}

impl<T: OptionalSend> MpscSender<GroupMpsc, T> for Sender<T> {
    async fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut message = Some(message);
        poll_fn(|cx| self.0.poll_send(&mut message, cx)).await
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Arc::downgrade(&self.0))
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.0.poll_receive(cx)).await
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut queue = self.0.queue.lock();
        match queue.messages.pop_front() {
            Some(message) => {
                self.0.make_room(queue);
                Ok(message)
            }
            None if self.0.senders.load(Ordering::SeqCst) == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T: OptionalSend> MpscWeakSender<GroupMpsc, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let shared = self.0.upgrade()?;
        // A queue whose last sender has gone stays closed.
        let one_more = |senders: usize| (senders > 0).then_some(senders + 1);
        let counted = shared.senders.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        counted.is_ok().then(|| Sender(shared))
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
            let receiver = self.0.queue.lock().receiver.take();
            if let Some(receiver) = receiver {
                receiver.wake();
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        let left = std::mem::take(&mut queue.messages);
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
        // Messages may tell somebody that they were dropped.
        drop(left);
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> WeakSender<T> {
        WeakSender(Weak::clone(&self.0))
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
    fn messages_come_in_order_and_wait_for_room() {
        let (sender, mut receiver) = GroupMpsc::channel(2);
        for message in [1, 2] {
            assert_eq!(sender.send(message).now_or_never(), Some(Ok(())));
        }
        assert_eq!(sender.send(3).now_or_never(), None, "there is no room");
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(sender.send(3).now_or_never(), Some(Ok(())));
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(2), Ok(3)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(receiver.recv().now_or_never(), None);
    }

    #[test]
    fn either_end_notices_that_the_other_is_gone() {
        let (sender, mut receiver) = GroupMpsc::channel(8);
        let weak = sender.downgrade();
        let second = weak.upgrade().expect("one is there");
        drop(sender);
        assert_eq!(second.send(1).now_or_never(), Some(Ok(())));
        drop(second);
        assert!(weak.upgrade().is_none(), "closed for good");
        assert_eq!(receiver.recv().now_or_never(), Some(Some(1)));
        assert_eq!(receiver.recv().now_or_never(), Some(None));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        let (sender, receiver) = GroupMpsc::channel(1);
        let left = Arc::new(());
        assert!(sender.send(Arc::clone(&left)).now_or_never().is_some());
        drop(receiver);
        assert_eq!(Arc::strong_count(&left), 1, "what nobody will take is dropped");
        assert!(sender.send(left).now_or_never().expect("ends").is_err());
    }

    #[test]
    fn no_message_and_no_room_is_missed_across_threads() {
        const EACH: u64 = 20_000;
        let (sender, mut receiver) = GroupMpsc::channel(3);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    block_on(async {
                        for message in 1..=EACH {
                            sender.send(message).await.expect("the receiver stays");
                        }
                    });
                })
            })
            .collect();
        drop(sender);
        let sum = block_on(async {
            let mut sum = 0;
            while let Some(message) = receiver.recv().await {
                sum += message;
            }
            sum
        });
        senders.into_iter().for_each(|sender| sender.join().expect("sends all"));
        assert_eq!(sum, EACH * (EACH + 1));
    }
}
