//! Typed methods by family. Keys and values are anything that is bytes.
//!
//! Deprecated commands that others replace (GETSET, SETEX, PSETEX, SETNX, SUBSTR) have no method.

pub mod connection;
pub mod keys;
pub mod strings;

use std::time::Duration;

use crate::cmd::Cmd;

/// When a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// After this long, to the millisecond.
    In(Duration),
    /// At this many milliseconds since the Unix epoch.
    AtMs(u64),
}

impl Expiry {
    /// `PX` and `PXAT` of SET and GETEX.
    fn add_to(self, cmd: Cmd) -> Cmd {
        match self {
            Self::In(time) => cmd.arg("PX").uint(millis(time)),
            Self::AtMs(at) => cmd.arg("PXAT").uint(at),
        }
    }
}

/// Milliseconds, rounded up: a key must not expire before its time, nor at once.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
