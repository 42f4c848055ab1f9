//! A message on a stream: its envelope, what follows it, and nothing more.

use bytes::{Bytes, BytesMut};
use cairn_protocol::cluster::wire::WireError;
use cairn_protocol::cluster::{Envelope, EnvelopeError, envelope};
use quinn::{Chunk, ReadError, RecvStream, SendStream, VarInt, WriteError};

/// How many bytes are believed before they have arrived.
const RESERVE_BYTES_MAX: usize = 64 << 10;
/// The most that is taken from a stream at once.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// With this code a stream ends that somebody gave up.
const GIVEN_UP: VarInt = VarInt::from_u32(1);

/// Why no message was read.
#[derive(Debug)]
pub(super) enum ReadMessageError {
    /// What came is none.
    Wire(WireError),
    /// The stream or its connection ended, or was given up.
    Lost(ReadError),
}

impl From<WireError> for ReadMessageError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<EnvelopeError> for ReadMessageError {
    fn from(error: EnvelopeError) -> Self {
        Self::Wire(error.into())
    }
}

impl From<ReadError> for ReadMessageError {
    fn from(error: ReadError) -> Self {
        Self::Lost(error)
    }
}

/// The receiving end of a stream that carries one message.
pub(super) struct Inbox {
    stream: RecvStream,
    /// What has arrived and was not taken yet.
    arrived: Bytes,
}

impl Inbox {
    pub fn new(stream: RecvStream) -> Inbox {
        Inbox { stream, arrived: Bytes::new() }
    }

    /// The envelope, once it has arrived and holds.
    pub async fn envelope(&mut self) -> Result<Envelope, ReadMessageError> {
        let bytes = self.take(envelope::BYTES).await?;
        Ok(Envelope::decode(&bytes)?)
    }

    /// What follows the envelope, to the end of the stream.
    pub async fn body(&mut self, envelope: &Envelope) -> Result<Bytes, ReadMessageError> {
        let body = self.take(envelope.body_len()).await?;
        if !self.arrived.is_empty() || self.next().await?.is_some() {
            let why = "bytes follow what was announced".to_owned();
            return Err(WireError::Head { kind: envelope.kind, why }.into());
        }
        Ok(body)
    }

    /// Up to `wanted` bytes, fewer only at the end of the stream. What arrived in one piece is not
    /// copied, and room is made only as bytes arrive.
    async fn take(&mut self, wanted: usize) -> Result<Bytes, ReadMessageError> {
        while self.arrived.is_empty() && wanted > 0 {
            match self.next().await? {
                Some(bytes) => self.arrived = bytes,
                None => return Ok(Bytes::new()),
            }
        }
        if self.arrived.len() >= wanted {
            return Ok(self.arrived.split_to(wanted));
        }
        let mut whole = BytesMut::with_capacity(wanted.min(RESERVE_BYTES_MAX));
        whole.extend_from_slice(&std::mem::take(&mut self.arrived));
        while whole.len() < wanted {
            let Some(mut bytes) = self.next().await? else { break };
            let fits = bytes.len().min(wanted - whole.len());
            whole.extend_from_slice(&bytes.split_to(fits));
            self.arrived = bytes;
        }
        Ok(whole.freeze())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let chunk = self.stream.read_chunk(CHUNK_BYTES_MAX, true).await?;
        Ok(chunk.map(|Chunk { bytes, .. }| bytes))
    }

    /// Tells the sender that nothing more of it is wanted.
    pub fn stop(&mut self) {
        // A stream that has ended already needs no telling.
        let _ = self.stream.stop(GIVEN_UP);
    }
}

/// The sending end of a stream. Dropped before its message is complete, it tells the reader so:
/// quinn alone would end it as if that were all.
pub(super) struct Outbox {
    stream: SendStream,
    is_complete: bool,
}

impl Outbox {
    pub fn new(stream: SendStream) -> Outbox {
        Outbox { stream, is_complete: false }
    }

    /// Sends the pieces and ends the stream.
    pub async fn send(&mut self, mut pieces: Vec<Bytes>) -> Result<(), WriteError> {
        self.stream.write_all_chunks(&mut pieces).await?;
        // It fails only on a stream that was ended or reset, which this one was not.
        let _ = self.stream.finish();
        self.is_complete = true;
        Ok(())
    }

    /// Waits until the reader has all of it, or wants no more.
    pub async fn delivered(&mut self) {
        let _ = self.stream.stopped().await;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = self.stream.reset(GIVEN_UP);
        }
    }
}
