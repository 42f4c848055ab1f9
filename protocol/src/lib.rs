//! What is said: RESP, the command table, hash slots, replicated operations.
//!
//! Everything here turns bytes into meaning or meaning into bytes. It imports nothing of the
//! workspace; it never knows a socket, a clock, a source of randomness or a runtime, and holds no
//! state beyond that of a half-read message.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod command;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod glob;
pub mod ids;
pub mod number;
pub mod op;
pub mod resp;
pub mod slot;

pub use error::WireError;
pub use slot::SlotId;
