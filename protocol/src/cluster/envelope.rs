//! The header before every message between nodes. It can be judged by itself, before anything of
//! the message is read: lengths it claims are within limits, and its own checksum holds.
//!
//! ```text
//! bytes       field
//!  0      4   magic "CRNP"
//!  4      2   version of the wire
//!  6      1   kind: what follows; bit 7 set in replies
//!  7      1   reserved
//!  8      8   features this message needs its reader to know, a bit each
//! 16     16   cluster id; zeros: of no cluster yet
//! 32      8   from: node id
//! 40      8   to: node id; zero: whoever is there
//! 48      8   request id: the reply repeats it
//! 56      4   shard; all ones: none
//! 60      4   head_len
//! 64      4   payload_len
//! 68      4   crc32 of head and payload
//! 72     12   reserved
//! 84      4   crc32 of bytes 0..84
//! 88
//! ```
//! Little-endian; reserved bytes are zero and are refused otherwise. Magic, version and their
//! places never change, so that any two builds can tell each other apart.

use std::fmt;

use crate::ids::{ClusterId, NodeId, ShardId};

/// The first bytes of every message.
pub const MAGIC: [u8; 4] = *b"CRNP";
/// The version of the wire that this build speaks.
pub const VERSION: u16 = 1;
/// The features that this build knows, a bit each. A sender sets those without which the message
/// would be misread, and only towards peers whose Hello names them.
pub const FEATURES: u64 = 0;
/// Bytes of the envelope.
pub const BYTES: usize = 88;
/// The longest head: a heartbeat of ten thousand groups, an append of forty thousand entries.
pub const HEAD_BYTES_MAX: usize = 1 << 20;
/// The longest payload: the longest log record (8 MiB and its frame) fits, with room.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

const REPLY: u8 = 0x80;
const HEADER_CRC_AT: usize = BYTES - 4;

const _: () = {
    assert!(BYTES == 4 + 2 + 1 + 1 + 8 + 16 + 8 + 8 + 8 + 4 + 4 + 4 + 4 + 12 + 4);
    assert!(BYTES.is_multiple_of(8));
    assert!(HEAD_BYTES_MAX < u32::MAX as usize);
    assert!(PAYLOAD_BYTES_MAX < u32::MAX as usize);
};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// What a message is. A request and its reply share the number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$name,)+];

            fn from_number(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// Who is there: the first message on every connection.
    Hello = 1,
    /// Nodes that were started together get to know each other.
    Introduce = 2,
    /// A cluster is born of these nodes.
    Found = 3,
    /// A node asks to become a member.
    Join = 4,
    /// All groups that two nodes share, at once.
    Heartbeat = 5,
    /// Entries for a follower's log.
    Append = 6,
    /// A candidate asks for a vote.
    Vote = 7,
    /// A node asks whether it could win a vote.
    PreVote = 8,
    /// A leader hands over.
    TransferLeader = 9,
    /// A snapshot is about to be sent, or to go on.
    SnapshotBegin = 10,
    /// A piece of it.
    SnapshotChunk = 11,
    /// All of it was sent.
    SnapshotEnd = 12,
    /// A client's commands, for the shard's leader.
    Forward = 13,
    /// Up to where a read must have been applied to be linearizable.
    ReadIndex = 14,
    /// Instead of any reply: the request was not accepted.
    Refused = 127,
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the message is.
    pub kind: Kind,
    /// Whether it answers a request of that kind.
    pub is_reply: bool,
    /// Features its reader must know.
    pub features: u64,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeId,
    /// Whom it is for; 0 for whoever is there.
    pub to: NodeId,
    /// Chosen by the one who asks, repeated in the reply.
    pub request_id: u64,
    /// The shard it concerns, or [`ShardId::NONE`].
    pub shard: ShardId,
    /// Bytes of the head.
    pub head_len: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// Checksum of head and payload.
    pub body_crc: u32,
}

/// Why bytes are not an envelope this build accepts, or do not belong here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Fewer bytes than an envelope has.
    Short {
        /// How many there were.
        found: usize,
    },
    /// Something else than a node of Cairn is speaking.
    Magic {
        /// Its first bytes.
        found: [u8; 4],
    },
    /// Another version of the wire.
    Version {
        /// The sender's.
        found: u16,
    },
    /// The header was damaged on its way.
    HeaderCrc,
    /// Features this build does not know.
    Features {
        /// Their bits.
        unknown: u64,
    },
    /// A kind of message this build does not know.
    Kind {
        /// Its number.
        number: u8,
    },
    /// Reserved bytes are set.
    Reserved,
    /// The head is longer than any may be.
    HeadLen {
        /// What was claimed.
        claimed: u32,
    },
    /// The payload is longer than any may be.
    PayloadLen {
        /// What was claimed.
        claimed: u32,
    },
    /// Head or payload were damaged on their way.
    BodyCrc,
    /// From a node of another cluster.
    Cluster {
        /// The sender's.
        found: ClusterId,
        /// Ours.
        wanted: ClusterId,
    },
    /// The sender claims another id than its certificate names.
    From {
        /// What it claims.
        found: NodeId,
        /// Whom the certificate names.
        wanted: NodeId,
    },
    /// Meant for another node.
    To {
        /// Whom it is for.
        found: NodeId,
        /// Who we are.
        wanted: NodeId,
    },
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { found } => write!(f, "{found} bytes are no message header of {BYTES}"),
            Self::Magic { found } => {
                write!(f, "not a message of a cairn node: it starts with {found:02x?}")
            }
            Self::Version { found } => write!(
                f,
                "peer speaks version {found} of the node protocol, this node version {VERSION}: \
                 upgrade the older of the two"
            ),
            Self::HeaderCrc => f.write_str("message header damaged on its way: checksum differs"),
            Self::Features { unknown } => write!(
                f,
                "message needs features {unknown:#x}, this node knows {FEATURES:#x}: upgrade it"
            ),
            Self::Kind { number } => write!(
                f,
                "message of kind {number}, unknown to version {VERSION} of the node protocol"
            ),
            Self::Reserved => f.write_str("message header uses bytes this node does not know"),
            Self::HeadLen { claimed } => {
                write!(f, "message claims a head of {claimed} bytes, limit {HEAD_BYTES_MAX}")
            }
            Self::PayloadLen { claimed } => {
                write!(f, "message claims a payload of {claimed} bytes, limit {PAYLOAD_BYTES_MAX}")
            }
            Self::BodyCrc => f.write_str("message damaged on its way: checksum differs"),
            Self::Cluster { found, wanted } => write!(
                f,
                "message from cluster {found}, this node belongs to {wanted}: check --join and \
                 the secret of the sender"
            ),
            Self::From { found, wanted } => {
                write!(f, "message claims to be from node {found}, its certificate names {wanted}")
            }
            Self::To { found, wanted } => write!(
                f,
                "message for node {found} reached node {wanted}: an address is out of date"
            ),
        }
    }
}

impl std::error::Error for EnvelopeError {}

impl Envelope {
    /// The bytes of the table above.
    #[must_use]
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(4, &VERSION.to_le_bytes());
        put(6, &[self.kind as u8 | if self.is_reply { REPLY } else { 0 }]);
        put(8, &self.features.to_le_bytes());
        put(16, &self.cluster.0);
        put(32, &self.from.0.to_le_bytes());
        put(40, &self.to.0.to_le_bytes());
        put(48, &self.request_id.to_le_bytes());
        put(56, &self.shard.0.to_le_bytes());
        put(60, &self.head_len.to_le_bytes());
        put(64, &self.payload_len.to_le_bytes());
        put(68, &self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what [`Envelope::encode`] wrote. What lies behind it is not looked at.
    ///
    /// # Errors
    /// Anything else, by its name; the version before the checksum, since another version may lay
    /// out the rest differently.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
        let short = EnvelopeError::Short { found: bytes.len() };
        let bytes: &[u8; BYTES] = bytes.first_chunk().ok_or(short)?;
        check_frame(bytes)?;
        let number = bytes[6] & !REPLY;
        let envelope = Envelope {
            kind: Kind::from_number(number).ok_or(EnvelopeError::Kind { number })?,
            is_reply: bytes[6] & REPLY != 0,
            features: u64_at(bytes, 8),
            cluster: ClusterId(array_at(bytes, 16)),
            from: NodeId(u64_at(bytes, 32)),
            to: NodeId(u64_at(bytes, 40)),
            request_id: u64_at(bytes, 48),
            shard: ShardId(u32_at(bytes, 56)),
            head_len: u32_at(bytes, 60),
            payload_len: u32_at(bytes, 64),
            body_crc: u32_at(bytes, 68),
        };
        envelope.check_lengths()?;
        Ok(envelope)
    }

    fn check_lengths(&self) -> Result<(), EnvelopeError> {
        if self.head_len as usize > HEAD_BYTES_MAX {
            return Err(EnvelopeError::HeadLen { claimed: self.head_len });
        }
        if self.payload_len as usize > PAYLOAD_BYTES_MAX {
            return Err(EnvelopeError::PayloadLen { claimed: self.payload_len });
        }
        Ok(())
    }

    /// Bytes that follow the envelope.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.head_len as usize + self.payload_len as usize
    }

    /// Whether the message belongs here: `cluster` and `me` are the reader's, `from` is the node
    /// that the connection proved. A node of no cluster yet may only introduce itself; a
    /// refusal may come from any cluster, or nobody would learn that he asked in the wrong one.
    ///
    /// # Errors
    /// [`EnvelopeError::Cluster`], [`EnvelopeError::From`], [`EnvelopeError::To`].
    pub fn check_way(
        &self,
        cluster: ClusterId,
        from: NodeId,
        me: NodeId,
    ) -> Result<(), EnvelopeError> {
        let stranger = self.cluster.is_none() || cluster.is_none();
        let introduces =
            matches!(self.kind, Kind::Hello | Kind::Introduce | Kind::Found | Kind::Join);
        let may_differ = stranger && introduces || self.kind == Kind::Refused;
        if self.cluster != cluster && !may_differ {
            return Err(EnvelopeError::Cluster { found: self.cluster, wanted: cluster });
        }
        if self.from != from {
            return Err(EnvelopeError::From { found: self.from, wanted: from });
        }
        if self.to != me && self.to != NodeId(0) {
            return Err(EnvelopeError::To { found: self.to, wanted: me });
        }
        Ok(())
    }
}

/// What must hold before any field means anything.
fn check_frame(bytes: &[u8; BYTES]) -> Result<(), EnvelopeError> {
    let magic = array_at(bytes, 0);
    if magic != MAGIC {
        return Err(EnvelopeError::Magic { found: magic });
    }
    let version = u16::from_le_bytes(array_at(bytes, 4));
    if version != VERSION {
        return Err(EnvelopeError::Version { found: version });
    }
    if u32_at(bytes, HEADER_CRC_AT) != crc32fast::hash(&bytes[..HEADER_CRC_AT]) {
        return Err(EnvelopeError::HeaderCrc);
    }
    let unknown = u64_at(bytes, 8) & !FEATURES;
    if unknown != 0 {
        return Err(EnvelopeError::Features { unknown });
    }
    if bytes[7] != 0 || bytes[72..HEADER_CRC_AT].iter().any(|byte| *byte != 0) {
        return Err(EnvelopeError::Reserved);
    }
    Ok(())
}

/// Field of `N` bytes; `at` is a constant of the table, so it lies within.
fn array_at<const N: usize>(bytes: &[u8; BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn u32_at(bytes: &[u8; BYTES], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8; BYTES], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Envelope {
        Envelope {
            kind: Kind::Append,
            is_reply: true,
            features: 0,
            cluster: ClusterId([0xc1; 16]),
            from: NodeId(0x0102_0304_0506_0708),
            to: NodeId(9),
            request_id: 77,
            shard: ShardId(3),
            head_len: 21,
            payload_len: 1000,
            body_crc: 0xdead_beef,
        }
    }

    /// The sample with bytes changed and its checksum made to fit.
    fn changed(at: usize, with: &[u8]) -> Result<Envelope, EnvelopeError> {
        let mut bytes = sample().encode();
        bytes[at..at + with.len()].copy_from_slice(with);
        let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        Envelope::decode(&bytes)
    }

    #[test]
    fn reads_back_what_was_written_where_the_table_says() {
        let bytes = sample().encode();
        assert_eq!(Envelope::decode(&bytes), Ok(sample()));
        assert_eq!(&bytes[..8], b"CRNP\x01\x00\x86\x00");
        assert_eq!(bytes[32..40], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(
            bytes[48..72],
            *b"\x4d\0\0\0\0\0\0\0\x03\0\0\0\x15\0\0\0\xe8\x03\0\0\xef\xbe\xad\xde"
        );
    }

    #[test]
    fn every_kind_reads_back_as_request_and_reply() {
        for (kind, is_reply) in Kind::ALL.iter().flat_map(|kind| [(*kind, false), (*kind, true)]) {
            let envelope = Envelope { kind, is_reply, ..sample() };
            assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in 0..BYTES * 8 {
            let mut bytes = sample().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Envelope::decode(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..BYTES {
            let cut = Envelope::decode(&sample().encode()[..len]);
            assert_eq!(cut, Err(EnvelopeError::Short { found: len }));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(changed(0, b"HTTP"), Err(EnvelopeError::Magic { found: *b"HTTP" }));
        assert_eq!(changed(4, &[2, 0]), Err(EnvelopeError::Version { found: 2 }));
        assert_eq!(changed(6, &[99]), Err(EnvelopeError::Kind { number: 99 }));
        assert_eq!(changed(7, &[1]), Err(EnvelopeError::Reserved));
        assert_eq!(changed(72, &[1]), Err(EnvelopeError::Reserved));
        assert_eq!(changed(83, &[1]), Err(EnvelopeError::Reserved));
        assert_eq!(changed(15, &[0x80]), Err(EnvelopeError::Features { unknown: 1 << 63 }));
        let over = |max: usize| u32::try_from(max + 1).expect("fits");
        let (head, payload) = (over(HEAD_BYTES_MAX), over(PAYLOAD_BYTES_MAX));
        assert_eq!(changed(60, &head.to_le_bytes()), Err(EnvelopeError::HeadLen { claimed: head }));
        assert_eq!(
            changed(64, &payload.to_le_bytes()),
            Err(EnvelopeError::PayloadLen { claimed: payload })
        );
        assert!(changed(60, &(head - 1).to_le_bytes()).is_ok());
        assert!(changed(64, &(payload - 1).to_le_bytes()).is_ok());
    }

    #[test]
    fn a_newer_version_is_refused_with_both_named_whatever_else_it_says() {
        let mut bytes = sample().encode();
        bytes[4..6].copy_from_slice(&7u16.to_le_bytes());
        let error = Envelope::decode(&bytes).expect_err("newer");
        let text = error.to_string();
        assert!(text.contains("version 7") && text.contains("version 1"), "{text}");
    }

    #[test]
    fn a_message_must_come_from_and_go_to_whom_it_says() {
        let (ours, me) = (ClusterId([0xc1; 16]), NodeId(9));
        let from = sample().from;
        assert_eq!(sample().check_way(ours, from, me), Ok(()));
        let wanted = ClusterId([2; 16]);
        let found = ours;
        let refused = Err(EnvelopeError::Cluster { found, wanted });
        assert_eq!(sample().check_way(wanted, from, me), refused);
        let hello = Envelope { kind: Kind::Hello, ..sample() };
        assert_eq!(hello.check_way(wanted, from, me), refused);
        assert_eq!(hello.check_way(ClusterId::NONE, from, me), Ok(()));
        let stranger = Envelope { cluster: ClusterId::NONE, ..hello };
        assert_eq!(stranger.check_way(ours, from, me), Ok(()));
        let refusal = Envelope { kind: Kind::Refused, ..sample() };
        assert_eq!(refusal.check_way(wanted, from, me), Ok(()));
        let append = Envelope { cluster: ClusterId::NONE, ..sample() };
        assert!(append.check_way(ours, from, me).is_err());
        assert!(matches!(
            sample().check_way(ours, NodeId(1), me),
            Err(EnvelopeError::From { wanted: NodeId(1), .. })
        ));
        assert!(matches!(
            sample().check_way(ours, from, NodeId(8)),
            Err(EnvelopeError::To { wanted: NodeId(8), .. })
        ));
        let to_anyone = Envelope { to: NodeId(0), ..sample() };
        assert_eq!(to_anyone.check_way(ours, from, NodeId(8)), Ok(()));
    }
}
