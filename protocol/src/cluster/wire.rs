//! How messages become bytes: the only file that names the codec.
//!
//! bincode 2.0.1 with integers of fixed width, little-endian: a list is its length (u64) and its
//! elements, an option a byte 0 or 1, an enum its number (u32). bincode is no longer maintained;
//! the format is small enough that this file could write it by hand, and fixtures pin every byte.
//! Which fields, in which order, is said here once, by `record!` and `choice!`.
//!
//! Nothing is allocated for a length that is merely claimed: lists grow as their elements arrive,
//! texts are short, payload is a slice of what was received. Bytes left over are an error.

use std::fmt;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::de::read::{Reader, SliceReader};
use bincode::de::{Decode, Decoder, DecoderImpl};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder, EncoderImpl};
use bincode::error::{DecodeError, EncodeError};
use bytes::Bytes;

use super::envelope::{self, Envelope, EnvelopeError, HEAD_BYTES_MAX, Kind, PAYLOAD_BYTES_MAX};
use super::message::*;
use crate::ids::{ClusterId, LogIndex, NodeId, ShardId, Term};

/// The longest text of a message: an address, a zone, a reason.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The longest list of a message.
pub const LIST_LEN_MAX: usize = 1 << 16;

/// Payload shorter than this is copied behind the head: a copy costs less than a piece of its own.
const COPY_BYTES_BELOW: usize = 2048;

type Codec = Configuration<LittleEndian, Fixint, Limit<HEAD_BYTES_MAX>>;
const CODEC: Codec = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<HEAD_BYTES_MAX>();

/// Why bytes are no message, or a message cannot be bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The header does not hold.
    Envelope(EnvelopeError),
    /// The fields do not read as those of their kind.
    Head {
        /// Of which kind.
        kind: Kind,
        /// What is wrong.
        why: String,
    },
    /// A request where a reply was due, or the other way round, or of another kind.
    Unexpected {
        /// The kind that came.
        kind: Kind,
        /// Whether it was a reply.
        is_reply: bool,
    },
    /// More than a message may hold: the sender must split it.
    TooLong {
        /// The kind.
        kind: Kind,
        /// "head" or "payload".
        part: &'static str,
        /// Its bytes.
        len: usize,
        /// How many it may have.
        limit: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envelope(error) => error.fmt(f),
            Self::Head { kind, why } => write!(f, "message {kind:?} does not read: {why}"),
            Self::Unexpected { kind, is_reply: true } => {
                write!(f, "a reply {kind:?} came where none of it was due")
            }
            Self::Unexpected { kind, is_reply: false } => {
                write!(f, "a request {kind:?} came where none was due")
            }
            Self::TooLong { kind, part, len, limit } => {
                write!(f, "{part} of message {kind:?} has {len} bytes, limit {limit}: split it")
            }
        }
    }
}

impl std::error::Error for WireError {}

impl From<EnvelopeError> for WireError {
    fn from(error: EnvelopeError) -> Self {
        Self::Envelope(error)
    }
}

/// What an envelope says beside what the message itself does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeId,
    /// Whom it is for; 0 for whoever is there.
    pub to: NodeId,
    /// Repeated by the reply.
    pub request_id: u64,
    /// The shard it concerns, or [`ShardId::NONE`].
    pub shard: ShardId,
}

impl Stamp {
    /// The stamp of the answer to a message that came with `envelope`.
    #[must_use]
    pub fn answering(envelope: &Envelope, cluster: ClusterId, me: NodeId) -> Self {
        let Envelope { from, request_id, shard, .. } = *envelope;
        Self { cluster, from: me, to: from, request_id, shard }
    }
}

/// A request's bytes, in pieces to be sent one after the other.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn encode_request(stamp: &Stamp, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let mut out = Out::new(stamp, request.kind(), false);
    request.put_body(&mut out)?;
    out.finish()
}

/// A reply's bytes, as those of a request.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn encode_reply(stamp: &Stamp, reply: &Reply) -> Result<Vec<Bytes>, WireError> {
    let mut out = Out::new(stamp, reply.kind(), true);
    reply.put_body(&mut out)?;
    out.finish()
}

/// Reads the request that came with `envelope`; `body` is all that follows it.
///
/// # Errors
/// What does not hold, by name.
pub fn decode_request(envelope: &Envelope, body: Bytes) -> Result<Request, WireError> {
    if envelope.is_reply {
        return Err(unexpected(envelope));
    }
    let (head, payload) = split_body(envelope, body)?;
    Request::take_body(envelope, &head, payload)
}

/// Reads the reply that came with `envelope` to a request of kind `asked`.
///
/// # Errors
/// What does not hold, by name.
pub fn decode_reply(envelope: &Envelope, asked: Kind, body: Bytes) -> Result<Reply, WireError> {
    if !envelope.is_reply || envelope.kind != asked && envelope.kind != Kind::Refused {
        return Err(unexpected(envelope));
    }
    let (head, payload) = split_body(envelope, body)?;
    Reply::take_body(envelope, &head, payload)
}

fn unexpected(envelope: &Envelope) -> WireError {
    WireError::Unexpected { kind: envelope.kind, is_reply: envelope.is_reply }
}

/// Head and payload, once length and checksum hold.
fn split_body(envelope: &Envelope, mut body: Bytes) -> Result<(Bytes, Bytes), WireError> {
    if body.len() != envelope.body_len() {
        let why = format!("{} bytes follow, {} were announced", body.len(), envelope.body_len());
        return Err(WireError::Head { kind: envelope.kind, why });
    }
    if crc32fast::hash(&body) != envelope.body_crc {
        return Err(EnvelopeError::BodyCrc.into());
    }
    let head = body.split_to(envelope.head_len as usize);
    Ok((head, body))
}

/// A message being encoded: room for the envelope, then the head as it grows.
struct Out {
    envelope: Envelope,
    bytes: Head,
    payload: Vec<Bytes>,
}

struct Head(Vec<u8>);

impl Writer for Head {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Out {
    fn new(stamp: &Stamp, kind: Kind, is_reply: bool) -> Out {
        let Stamp { cluster, from, to, request_id, shard } = *stamp;
        let envelope = Envelope {
            kind,
            is_reply,
            features: 0,
            cluster,
            from,
            to,
            request_id,
            shard,
            head_len: 0,
            payload_len: 0,
            body_crc: 0,
        };
        let mut bytes = Vec::with_capacity(512);
        bytes.resize(envelope::BYTES, 0);
        Out { envelope, bytes: Head(bytes), payload: Vec::new() }
    }

    fn put<T: Field>(&mut self, body: &T) -> Result<(), WireError> {
        let kind = self.envelope.kind;
        let mut encoder = EncoderImpl::new(&mut self.bytes, CODEC);
        body.put(&mut encoder).map_err(|e| WireError::Head { kind, why: format!("{e:?}") })?;
        body.gather(&mut self.payload);
        Ok(())
    }

    /// Fills in the envelope and lays the payload behind the head.
    fn finish(mut self) -> Result<Vec<Bytes>, WireError> {
        let kind = self.envelope.kind;
        let head = &self.bytes.0[envelope::BYTES..];
        let mut crc = crc32fast::Hasher::new();
        crc.update(head);
        self.payload.iter().for_each(|piece| crc.update(piece));
        let payload_len = self.payload.iter().map(Bytes::len).sum();
        self.envelope.head_len = checked_len(kind, "head", head.len(), HEAD_BYTES_MAX)?;
        self.envelope.payload_len = checked_len(kind, "payload", payload_len, PAYLOAD_BYTES_MAX)?;
        self.envelope.body_crc = crc.finalize();
        self.bytes.0[..envelope::BYTES].copy_from_slice(&self.envelope.encode());
        Ok(join_small(self.bytes.0, self.payload))
    }
}

fn checked_len(kind: Kind, part: &'static str, len: usize, limit: usize) -> Result<u32, WireError> {
    let fits = u32::try_from(len).ok().filter(|_| len <= limit);
    fits.ok_or(WireError::TooLong { kind, part, len, limit })
}

/// The pieces to send: short ones joined to what stands before them.
fn join_small(head: Vec<u8>, payload: Vec<Bytes>) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(1 + payload.len().min(16));
    let mut open = head;
    for piece in payload {
        if piece.len() < COPY_BYTES_BELOW {
            open.extend_from_slice(&piece);
        } else {
            if !open.is_empty() {
                pieces.push(Bytes::from(std::mem::take(&mut open)));
            }
            pieces.push(piece);
        }
    }
    if !open.is_empty() {
        pieces.push(Bytes::from(open));
    }
    pieces
}

/// A body from its head and payload, both used up.
fn take<T: Field>(envelope: &Envelope, head: &[u8], payload: Bytes) -> Result<T, WireError> {
    let mut decoder = DecoderImpl::new(SliceReader::new(head), CODEC, payload);
    let body = T::take(&mut decoder).and_then(|body| {
        if decoder.reader().peek_read(1).is_some() {
            return Err(DecodeError::Other("bytes left over behind its fields"));
        }
        if !decoder.context().is_empty() {
            return Err(DecodeError::Other("payload left over"));
        }
        Ok(body)
    });
    body.map_err(|e| WireError::Head { kind: envelope.kind, why: format!("{e:?}") })
}

/// Something a head can hold. The payload not yet taken is the decoder's context.
trait Field: Sized {
    fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError>;
    fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError>;
    /// Adds the payload, in the order in which [`Field::take`] takes it.
    fn gather(&self, _: &mut Vec<Bytes>) {}
}

macro_rules! primitives {
    ($($ty:ty)+) => {
        $(impl Field for $ty {
            fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
                self.encode(to)
            }
            fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
                <$ty>::decode(from)
            }
        })+
    };
}

macro_rules! newtypes {
    ($($ty:ident($inner:ty))+) => {
        $(impl Field for $ty {
            fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
                self.0.encode(to)
            }
            fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
                <$inner>::decode(from).map($ty)
            }
        })+
    };
}

macro_rules! record {
    ($($ty:ident { $($field:ident),* $(,)? })+) => {
        $(impl Field for $ty {
            fn put<E: Encoder>(&self, _to: &mut E) -> Result<(), EncodeError> {
                $(self.$field.put(_to)?;)*
                Ok(())
            }
            fn take<D: Decoder<Context = Bytes>>(_from: &mut D) -> Result<Self, DecodeError> {
                $(let $field = Field::take(_from)?;)*
                Ok($ty { $($field),* })
            }
            fn gather(&self, _payload: &mut Vec<Bytes>) {
                $(self.$field.gather(_payload);)*
            }
        })+
    };
}

macro_rules! choice {
    ($($ty:ident {
        $($number:literal => $variant:ident $(($one:ident))? $({ $($field:ident),+ })?,)+
    })+) => {
        $(impl Field for $ty {
            fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant $(($one))? $({ $($field),+ })? => {
                        let number: u32 = $number;
                        number.encode(to)?;
                        $($one.put(to)?;)?
                        $($($field.put(to)?;)+)?
                    })+
                }
                Ok(())
            }
            fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
                match u32::decode(from)? {
                    $($number => {
                        $(let $one = Field::take(from)?;)?
                        $($(let $field = Field::take(from)?;)+)?
                        Ok(Self::$variant $(($one))? $({ $($field),+ })?)
                    })+
                    _ => Err(DecodeError::Other(concat!("no such ", stringify!($ty)))),
                }
            }
            fn gather(&self, _payload: &mut Vec<Bytes>) {
                #[allow(unused_variables)] // Most variants have no payload.
                match self {
                    $(Self::$variant $(($one))? $({ $($field),+ })? => {
                        $($one.gather(_payload);)?
                        $($($field.gather(_payload);)+)?
                    })+
                }
            }
        })+
    };
}

primitives! { bool u8 u16 u32 u64 [u8; 16] }
newtypes! { NodeId(u64) ShardId(u32) LogIndex(u64) Term(u64) ClusterId([u8; 16]) SnapshotId([u8; 16]) }

impl<T: Field> Field for Option<T> {
    fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        self.is_some().encode(to)?;
        self.as_ref().map_or(Ok(()), |value| value.put(to))
    }

    fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
        if bool::decode(from)? { T::take(from).map(Some) } else { Ok(None) }
    }

    fn gather(&self, payload: &mut Vec<Bytes>) {
        self.iter().for_each(|value| value.gather(payload));
    }
}

impl<T: Field> Field for Vec<T> {
    fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        if self.len() > LIST_LEN_MAX {
            return Err(EncodeError::Other("a list is too long"));
        }
        (self.len() as u64).encode(to)?;
        self.iter().try_for_each(|value| value.put(to))
    }

    fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
        let len = take_len(from, LIST_LEN_MAX)?;
        // What is claimed is believed for a few elements; the rest must arrive first.
        let mut list = Vec::with_capacity(len.min(64));
        for _ in 0..len {
            list.push(T::take(from)?);
        }
        Ok(list)
    }

    fn gather(&self, payload: &mut Vec<Bytes>) {
        self.iter().for_each(|value| value.gather(payload));
    }
}

fn take_len<D: Decoder>(from: &mut D, limit: usize) -> Result<usize, DecodeError> {
    let len = u64::decode(from)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= limit);
    len.ok_or(DecodeError::Other("a length is beyond its limit"))
}

impl Field for String {
    fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        if self.len() > TEXT_BYTES_MAX {
            return Err(EncodeError::Other("a text is too long"));
        }
        (self.len() as u64).encode(to)?;
        to.writer().write(self.as_bytes())
    }

    fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
        let len = take_len(from, TEXT_BYTES_MAX)?;
        let mut bytes = [0; TEXT_BYTES_MAX];
        from.reader().read(&mut bytes[..len])?;
        let text = std::str::from_utf8(&bytes[..len]);
        text.map(str::to_owned).map_err(|_| DecodeError::Other("a text is not UTF-8"))
    }
}

/// Payload: its length in the head, its bytes behind it.
impl Field for Bytes {
    fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        (self.len() as u64).encode(to)
    }

    fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
        let len = take_len(from, PAYLOAD_BYTES_MAX)?;
        let rest = from.context();
        if len > rest.len() {
            return Err(DecodeError::Other("less payload than its fields claim"));
        }
        Ok(rest.split_to(len))
    }

    fn gather(&self, payload: &mut Vec<Bytes>) {
        payload.push(self.clone());
    }
}

impl Field for (u16, u16) {
    fn put<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        self.0.put(to)?;
        self.1.put(to)
    }

    fn take<D: Decoder<Context = Bytes>>(from: &mut D) -> Result<Self, DecodeError> {
        Ok((u16::take(from)?, u16::take(from)?))
    }
}

impl Field for ReadIndexRequest {
    fn put<E: Encoder>(&self, _: &mut E) -> Result<(), EncodeError> {
        Ok(())
    }

    fn take<D: Decoder<Context = Bytes>>(_: &mut D) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

record! {
    Vote { term, node, committed }
    LogId { term, index }
    Entry { id, kind, payload }
    Member { node, address }
    Hello { node, cluster, versions, features, boot_id, class, address }
    Introduce { member, expect, shards, cluster, met }
    Found { cluster, shards, members }
    Founded { cluster }
    Join { member, capacity_bytes, zone, kept }
    Beat { shard, vote, prev, commit }
    Heartbeat { sequence, now_ms, groups }
    BeatAnswer { shard, outcome }
    HeartbeatReply { sequence, now_ms, groups }
    AppendEntries { vote, prev, commit, entries }
    VoteRequest { vote, last, leadership_transfer }
    VoteReply { vote, granted, last }
    TransferLeader { from, to, last }
    SnapshotBegin { id, vote, last, membership_at, reserve_bytes, head }
    SnapshotChunk { id, vote, chunk, records, payload }
    SnapshotEnd { id, vote, chunks }
    SnapshotProgress { vote, next_chunk, installed }
    Forward { kind, session, sequence, resp, flags, count, payload }
    Refused { code, text }
}

choice! {
    EntryKind { 0 => Blank, 1 => Operations, 2 => Membership, }
    Joined { 0 => Accepted { cluster, members }, 1 => Elsewhere { leader }, 2 => Lost, }
    AppendReply { 0 => Success, 1 => Partial(last), 2 => Conflict, 3 => HigherVote(vote), }
    TransferReply {
        0 => Accepted,
        1 => VoteChanged { expected, actual },
        2 => LogNotFlushed { expected, actual },
    }
    ForwardKind { 0 => Write, 1 => Read, }
    Forwarded { 0 => Done { count, flags, payload }, 1 => NotLeader { leader }, }
    ReadIndex { 0 => At(index), 1 => NotLeader { leader }, }
    RefusedCode {
        0 => Version,
        1 => Cluster,
        2 => Identity,
        3 => Malformed,
        4 => Busy,
        5 => Unavailable,
        6 => Failed,
    }
}

macro_rules! bodies {
    ($ty:ident { $($variant:ident),+ $(,)? }) => {
        impl $ty {
            fn put_body(&self, out: &mut Out) -> Result<(), WireError> {
                match self { $(Self::$variant(body) => out.put(body),)+ }
            }

            #[allow(unreachable_patterns)] // Replies have every kind, requests all but one.
            fn take_body(
                envelope: &Envelope,
                head: &[u8],
                payload: Bytes,
            ) -> Result<Self, WireError> {
                match envelope.kind {
                    $(Kind::$variant => take(envelope, head, payload).map(Self::$variant),)+
                    _ => Err(unexpected(envelope)),
                }
            }
        }
    };
}

bodies!(Request {
    Hello,
    Introduce,
    Found,
    Join,
    Heartbeat,
    Append,
    Vote,
    PreVote,
    TransferLeader,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Forward,
    ReadIndex,
});
bodies!(Reply {
    Hello,
    Introduce,
    Found,
    Join,
    Heartbeat,
    Append,
    Vote,
    PreVote,
    TransferLeader,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Forward,
    ReadIndex,
    Refused,
});

#[cfg(test)]
mod tests;
