//! RESP2 and RESP3: requests in, replies out, and the other way round for clients.
//!
//! Sources: the Redis serialization protocol specification; the RESP3 specification.

mod argv;
pub mod decode;
pub mod encode;
mod inline;
pub mod limits;
pub mod value;

pub use argv::Argv;
pub(crate) use argv::STAGED_BIT;
pub use decode::{Frames, ProtocolError, RequestDecoder};
pub use encode::Writer;
pub(crate) use inline::split_owned as inline_split;
pub use limits::Limits;
pub use value::{Value, ValueDecoder, ValueError};

/// The protocol version a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    /// RESP2, which every connection starts with.
    #[default]
    Resp2,
    /// RESP3, after HELLO 3.
    Resp3,
}

impl Proto {
    /// The number that HELLO takes.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}
