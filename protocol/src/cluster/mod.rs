//! What nodes say to each other: one message is an [`envelope`] (a checked header of fixed size),
//! a head (the message's fields, in the codec that [`wire`] alone names) and a raw payload that is
//! never re-encoded: the bytes a leader's log holds are the bytes its follower's log will hold.
//!
//! ```text
//! | envelope, 88 bytes | head, head_len bytes | payload, payload_len bytes |
//! ```
//!
//! Knows nothing of connections, certificates or time: that is the transport's.

pub mod envelope;
pub mod message;
pub mod wire;

pub use envelope::{Envelope, EnvelopeError, Kind};
pub use message::{Reply, Request};
