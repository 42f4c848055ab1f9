//! One class's way to one peer: connecting when it is needed, pausing after failures, and what may
//! wait at once.

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::cluster::Reply;
use cairn_protocol::ids::NodeId;
use parking_lot::Mutex;
use quinn::Connection;
use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::{CallError, Class, Limits, Net, close_code, dial, serve, unreachable};
use crate::transport::{LinkState, LinkStatus};

/// What an attempt to connect came to; None until it has ended.
type Attempt = Option<Result<Connection, String>>;

enum State {
    Idle,
    Connecting(watch::Sender<Attempt>),
    Up(Connection),
    /// Failed or lost; not tried again before that moment.
    Down(Instant),
    /// The peer was removed.
    Forgotten,
}

struct Inner {
    state: State,
    status: LinkStatus,
    waiting_bytes: usize,
    /// Attempts that failed, in a row.
    failures: u32,
    was_up: bool,
}

/// The way of one class to one peer.
pub(super) struct Link {
    node: NodeId,
    class: Class,
    inner: Mutex<Inner>,
}

/// What to do for a call that needs a connection.
enum Step {
    Use(Connection),
    Wait(watch::Receiver<Attempt>),
    /// Nobody tries yet: this caller starts it.
    Start(watch::Receiver<Attempt>),
    Fail(String),
}

/// A connection to send on: the one there is, or the one that is made now.
///
/// # Errors
/// [`CallError::Unreachable`].
pub(super) async fn connection(net: &Arc<Net>, link: &Arc<Link>) -> Result<Connection, CallError> {
    let mut attempt = match link.step() {
        Step::Use(connection) => return Ok(connection),
        Step::Fail(why) => return Err(unreachable(link.node, why)),
        Step::Wait(attempt) => attempt,
        Step::Start(attempt) => {
            tokio::spawn(attempt_once(net.clone(), link.clone()));
            attempt
        }
    };
    match attempt.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Ok(connection))) => Ok(connection.clone()),
        Ok(Some(Err(why))) => Err(unreachable(link.node, why.clone())),
        Ok(None) | Err(_) => Err(unreachable(link.node, "it was removed")),
    }
}

/// Dials once, on the lane of the class, and tells whoever waits.
async fn attempt_once(net: Arc<Net>, link: Arc<Link>) {
    let peer = net.peer(link.node);
    let address = peer.as_ref().map(|peer| peer.address.lock().clone()).unwrap_or_default();
    let limit = net.limits.connect_timeout;
    let dialled = dial::dial(&net, Some(link.node), &address, Some(link.class));
    let outcome = match time::timeout(limit, dialled).await {
        Ok(Ok((connection, hello))) => {
            if let Some(peer) = peer {
                peer.heard(hello);
            }
            Ok(connection)
        }
        Ok(Err(error)) => Err(format!("{address}: {}", error.why())),
        Err(_) => Err(format!("{address} does not answer within {} ms", limit.as_millis())),
    };
    if let Some(connection) = link.settle(outcome, &net.limits) {
        serve::serve(net, link.node, Some(link.class), connection).await;
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32, limits: &Limits) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    limits.pause_min.saturating_mul(doubled).min(limits.pause_max)
}

impl Link {
    pub fn new(node: NodeId, class: Class) -> Link {
        let (state, status) = (State::Idle, LinkStatus::default());
        let inner = Inner { state, status, waiting_bytes: 0, failures: 0, was_up: false };
        Link { node, class, inner: Mutex::new(inner) }
    }

    /// The peer and the class.
    pub fn key(&self) -> (NodeId, Class) {
        (self.node, self.class)
    }

    fn step(&self) -> Step {
        let mut inner = self.inner.lock();
        match &inner.state {
            State::Up(connection) if connection.close_reason().is_none() => {
                return Step::Use(connection.clone());
            }
            State::Connecting(attempt) => return Step::Wait(attempt.subscribe()),
            State::Down(until) if Instant::now() < *until => {
                return Step::Fail(inner.status.last_error.clone());
            }
            State::Forgotten => return Step::Fail("it was removed".to_owned()),
            State::Idle | State::Up(_) | State::Down(_) => {}
        }
        let (attempt, outcome) = watch::channel(None);
        inner.state = State::Connecting(attempt);
        Step::Start(outcome)
    }

    /// Takes what an attempt came to. Returns the connection if it is to be served.
    fn settle(&self, outcome: Result<Connection, String>, limits: &Limits) -> Option<Connection> {
        let mut inner = self.inner.lock();
        match (&inner.state, &outcome) {
            (State::Forgotten, Ok(connection)) => {
                connection.close(close_code::FORGOTTEN, b"the peer was removed");
                None
            }
            (State::Forgotten, Err(_)) => None,
            (_, Ok(connection)) => {
                let connection = connection.clone();
                self.tell_up(inner.failures);
                inner.up(connection.clone());
                Some(connection)
            }
            (_, Err(why)) => {
                self.tell_failed(inner.failures, why);
                inner.failed(why.clone(), limits);
                None
            }
        }
    }

    /// One class speaks for all, and only of what is new: openraft tries again and again.
    fn tell_failed(&self, failures: u32, why: &str) {
        if self.class == Class::Replication && failures == 0 {
            tracing::warn!("node {} cannot be reached, and is tried again: {why}", self.node);
        }
    }

    fn tell_up(&self, failures: u32) {
        if self.class == Class::Replication && failures > 0 {
            tracing::info!("node {} is reached again", self.node);
        }
    }

    /// The peer has connected by itself: there is no need to wait until it may be tried again.
    /// Heartbeats are still sent on a connection of this node's own, since a guest's is driven by
    /// the thread that carries the bulk.
    pub fn peer_came(&self, guest: &Connection) {
        let mut inner = self.inner.lock();
        match &inner.state {
            State::Down(_) if self.class == Class::Heartbeat => inner.state = State::Idle,
            State::Idle | State::Down(_) | State::Connecting(_)
                if self.class != Class::Heartbeat =>
            {
                self.tell_up(inner.failures);
                inner.up(guest.clone());
            }
            _ => {}
        }
    }

    /// A connection has ended: if it is the one in use, the next call makes another.
    pub fn lost(&self, connection: &Connection, why: &str) {
        let mut inner = self.inner.lock();
        let is_it =
            matches!(&inner.state, State::Up(up) if up.stable_id() == connection.stable_id());
        if is_it {
            why.clone_into(&mut inner.status.last_error);
            inner.state = State::Down(Instant::now());
        }
    }

    /// The next call may try at once.
    pub fn end_pause(&self) {
        let mut inner = self.inner.lock();
        if let State::Down(_) = inner.state {
            inner.state = State::Idle;
        }
    }

    /// Closes it for ever.
    pub fn forget(&self) {
        let mut inner = self.inner.lock();
        if let State::Up(connection) = &inner.state {
            connection.close(close_code::FORGOTTEN, b"the peer was removed");
        }
        inner.state = State::Forgotten;
    }

    /// How it stands, for INFO.
    pub fn status(&self) -> LinkStatus {
        let inner = self.inner.lock();
        let mut status = inner.status.clone();
        (status.state, status.rtt_us) = match &inner.state {
            State::Idle | State::Forgotten => (LinkState::Idle, 0),
            State::Connecting(_) => (LinkState::Connecting, 0),
            State::Up(up) => {
                let rtt_us = u64::try_from(up.rtt().as_micros()).unwrap_or(u64::MAX);
                (LinkState::Connected, rtt_us)
            }
            State::Down(_) => (LinkState::BackingOff, 0),
        };
        status
    }

    /// Counts a call from here on, unless too much is on its way already.
    pub fn enter(self: &Arc<Self>, limits: &Limits, len_bytes: usize) -> Option<Ticket> {
        let mut inner = self.inner.lock();
        let is_full = inner.status.waiting_calls >= u64::from(limits.calls_max)
            // One request is let through whatever its length.
            || inner.waiting_bytes > 0
                && inner.waiting_bytes + len_bytes > limits.calls_bytes_max;
        if is_full {
            inner.status.failed_calls += 1;
            return None;
        }
        inner.status.calls += 1;
        inner.status.waiting_calls += 1;
        inner.waiting_bytes += len_bytes;
        Some(Ticket { link: self.clone(), len_bytes, received_bytes: None })
    }
}

impl Inner {
    fn up(&mut self, connection: Connection) {
        if self.was_up {
            self.status.reconnects += 1;
        }
        self.was_up = true;
        self.failures = 0;
        let before = std::mem::replace(&mut self.state, State::Up(connection.clone()));
        if let State::Connecting(attempt) = before {
            attempt.send_replace(Some(Ok(connection)));
        }
    }

    fn failed(&mut self, why: String, limits: &Limits) {
        self.status.last_error.clone_from(&why);
        // The peer may have come by itself meanwhile: then there is a connection, and nobody waits.
        if let State::Connecting(attempt) = &self.state {
            attempt.send_replace(Some(Err(why)));
            self.failures = self.failures.saturating_add(1);
            self.state = State::Down(Instant::now() + pause(self.failures, limits));
        }
    }
}

/// A call on its way; dropped without [`Ticket::finish`], it was given up.
pub(super) struct Ticket {
    link: Arc<Link>,
    len_bytes: usize,
    received_bytes: Option<usize>,
}

impl Ticket {
    /// Notes what became of it.
    pub fn finish(mut self, outcome: &Result<(Reply, usize), CallError>) {
        match outcome {
            Ok((_, len_bytes)) => self.received_bytes = Some(*len_bytes),
            // The rest of its text says whom it is about, as whoever fails with this next will too.
            Err(CallError::Unreachable { why, .. }) => {
                why.clone_into(&mut self.link.inner.lock().status.last_error);
            }
            Err(error) => self.link.inner.lock().status.last_error = error.to_string(),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.link.inner.lock();
        inner.waiting_bytes -= self.len_bytes;
        inner.status.waiting_calls -= 1;
        inner.status.sent_bytes += self.len_bytes as u64;
        match self.received_bytes {
            Some(len_bytes) => inner.status.received_bytes += len_bytes as u64,
            None => inner.status.failed_calls += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_is_closed_says_so_once_however_often_it_is_tried() {
        let (link, limits) =
            (Arc::new(Link::new(NodeId(7), Class::Replication)), Limits::default());
        assert!(matches!(link.step(), Step::Start(_)));
        link.settle(Err("host:1: nobody is there".to_owned()), &limits);
        for _ in 0..3 {
            let ticket = link.enter(&limits, 10).expect("there is room");
            let Step::Fail(why) = link.step() else { panic!("it is tried again at once") };
            let error = unreachable(link.node, why);
            assert_eq!(error.to_string(), "node 7 cannot be reached: host:1: nobody is there");
            ticket.finish(&Err(error));
            assert_eq!(link.status().last_error, "host:1: nobody is there");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let limits = Limits::default();
        let millis = [1, 2, 3, 6, 7, 40, u32::MAX].map(|n| pause(n, &limits).as_millis());
        assert_eq!(millis, [50, 100, 200, 1600, 2000, 2000, 2000]);
    }
}
