//! One connection: a task that writes what callers submit, together where it can, and one that
//! reads replies and hands them out in order.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_protocol::resp::{Limits, Value, ValueDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::error::Error;
use crate::inflight::{Inflight, Received};

/// A write holds at most about this many bytes of small requests.
const WRITE_BYTES: usize = 64 << 10;
/// The receive buffer grows by at least this much at a time.
const READ_BYTES: usize = 16 << 10;

/// A handle to a connection; the connection closes when the last one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    submit: mpsc::UnboundedSender<Submission>,
    /// Bounds what waits to be sent or answered, so the channel need not.
    room: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

/// Requests that belong together, encoded.
#[derive(Debug)]
struct Submission {
    bytes: Vec<u8>,
    wanted: usize,
    owner: Owner,
}

/// Who waits for a batch. The permits return when it is answered, not when the caller gives up
/// waiting: the server still owes the reply.
#[derive(Debug)]
struct Owner {
    reply: oneshot::Sender<Result<Vec<Value>, Error>>,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct State {
    inflight: Inflight<Owner>,
    /// Set once; from then on nothing is awaited any more.
    lost: Option<Error>,
    capacity: u32,
}

impl Connection {
    /// Takes over a connected stream. Must be called within a tokio runtime, whose tasks it uses.
    pub(crate) fn start(stream: TcpStream, limits: Limits, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let state = State { inflight: Inflight::new(), lost: None, capacity: capacity as u32 };
        let state = Arc::new(Mutex::new(state));
        let (submit, submissions) = mpsc::unbounded_channel();
        let (read_half, write_half) = stream.into_split();
        let reader =
            tokio::spawn(read_replies(read_half, ValueDecoder::new(limits), state.clone()));
        let written = write_requests(write_half, submissions, state.clone());
        tokio::spawn(async move {
            written.await;
            // Nobody holds a handle any more, or the connection is lost: nobody awaits a reply.
            reader.abort();
        });
        Self { submit, room: Arc::new(Semaphore::new(capacity)), state }
    }

    /// Whether it was lost.
    pub(crate) fn is_lost(&self) -> bool {
        lock(&self.state).lost.is_some()
    }

    /// Sends `wanted` encoded requests, at least one, and waits for their replies. Waits first until
    /// there is room. Dropping the future after that does not take the requests back.
    pub(crate) async fn send(&self, bytes: Vec<u8>, wanted: usize) -> Result<Vec<Value>, Error> {
        let permits = u32::try_from(wanted).unwrap_or(u32::MAX).min(lock(&self.state).capacity);
        let room = self.room.clone().acquire_many_owned(permits).await;
        let _room = room.map_err(|_| Error::NotSent)?;
        let (reply, replies) = oneshot::channel();
        let submission = Submission { bytes, wanted, owner: Owner { reply, _room } };
        self.submit.send(submission).map_err(|_| Error::NotSent)?;
        replies.await.unwrap_or(Err(Error::NotSent))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes until every handle is gone or the connection is lost.
async fn write_requests(
    mut stream: OwnedWriteHalf,
    mut submissions: mpsc::UnboundedReceiver<Submission>,
    state: Arc<Mutex<State>>,
) {
    let mut buf = Vec::new();
    while let Some(first) = submissions.recv().await {
        buf.clear();
        let mut next = Some(first);
        while let Some(submission) = next {
            if !expect(&state, submission, &mut buf) {
                return refuse(&mut submissions);
            }
            next = if buf.len() < WRITE_BYTES { submissions.try_recv().ok() } else { None };
        }
        if let Err(error) = stream.write_all(&buf).await {
            lose(&state, Error::ConnectionLost(Arc::new(error)));
            return refuse(&mut submissions);
        }
        buf.shrink_to(WRITE_BYTES * 2);
    }
}

/// Awaits the replies of a submission and adds its bytes to `buf`; false when the connection is lost.
/// Under one lock, so that nothing is awaited once `lost` is set.
fn expect(state: &Mutex<State>, submission: Submission, buf: &mut Vec<u8>) -> bool {
    let mut state = lock(state);
    if state.lost.is_some() {
        let _ = submission.owner.reply.send(Err(Error::NotSent));
        return false;
    }
    state.inflight.expect(submission.wanted, submission.owner);
    buf.extend_from_slice(&submission.bytes);
    true
}

/// Nothing that waits was sent: whoever waits may try elsewhere.
fn refuse(submissions: &mut mpsc::UnboundedReceiver<Submission>) {
    submissions.close();
    while let Ok(submission) = submissions.try_recv() {
        let _ = submission.owner.reply.send(Err(Error::NotSent));
    }
}

/// Fails everyone who waits for a reply.
fn lose(state: &Mutex<State>, error: Error) {
    let mut state = lock(state);
    let error = state.lost.get_or_insert(error).clone();
    for owner in state.inflight.abandon() {
        let _ = owner.reply.send(Err(error.clone()));
    }
}

/// Reads until the connection ends, however it does.
async fn read_replies(
    mut stream: OwnedReadHalf,
    mut decoder: ValueDecoder,
    state: Arc<Mutex<State>>,
) {
    let mut buf = Vec::new();
    loop {
        buf.reserve(READ_BYTES);
        let outcome = match stream.read_buf(&mut buf).await {
            Ok(0) => Err(Error::ConnectionLost(Arc::new(io::ErrorKind::UnexpectedEof.into()))),
            Ok(_) => deliver(&mut buf, &mut decoder, &state),
            Err(error) => Err(Error::ConnectionLost(Arc::new(error))),
        };
        if let Err(error) = outcome {
            return lose(&state, error);
        }
    }
}

/// Hands out all replies that are complete in `buf`, and drops their bytes.
fn deliver(
    buf: &mut Vec<u8>,
    decoder: &mut ValueDecoder,
    state: &Mutex<State>,
) -> Result<(), Error> {
    let mut at = 0;
    let mut state = lock(state);
    loop {
        let (taken, value) = decoder.decode(&buf[at..]).map_err(Error::Protocol)?;
        at += taken;
        let Some(value) = value else { break };
        match state.inflight.receive(value) {
            Received::Complete(owner, values) => drop(owner.reply.send(Ok(values))),
            Received::Partial | Received::Pushed => {}
            Received::Unasked => {
                let message = "the server sent a reply that nobody asked for";
                let error = io::Error::new(io::ErrorKind::InvalidData, message);
                return Err(Error::ConnectionLost(Arc::new(error)));
            }
        }
    }
    buf.drain(..at);
    if buf.is_empty() {
        buf.shrink_to(READ_BYTES * 4);
    }
    Ok(())
}
