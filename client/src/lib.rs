//! Who asks: an async client for Cairn and other servers that speak RESP.
//!
//! A [`Client`] is one multiplexed connection behind a handle that is cheap to clone: requests of
//! many tasks are written together and answered in order. It imports `cairn-protocol` and tokio; it
//! never knows what a server does with a command beyond the shape of the reply.
//!
//! ```no_run
//! # async fn example() -> Result<(), cairn_client::Error> {
//! use cairn_client::Client;
//!
//! let client = Client::connect("127.0.0.1:6379").await?;
//! client.set("greeting", "hello").await?;
//! assert_eq!(client.get("greeting").await?, Some(b"hello".to_vec()));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod client;
mod cmd;
pub mod commands;
mod connection;
mod error;
mod handshake;
mod inflight;
mod options;
mod pipeline;
mod reply;

pub use cairn_protocol::resp::Value;
pub use client::Client;
pub use cmd::Cmd;
pub use error::{Action, Error};
pub use options::Options;
pub use pipeline::Pipeline;
pub use reply::FromValue;
