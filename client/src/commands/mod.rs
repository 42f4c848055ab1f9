//! Typed methods by family. Keys and values are anything that is bytes.
//!
//! Deprecated commands that others replace (GETSET, SETEX, PSETEX, SETNX,
//! SUBSTR, ZRANGEBYSCORE and its like) have no method.

pub mod connection;
pub mod hashes;
pub mod keys;
pub mod lists;
pub mod sets;
pub mod snapshots;
pub mod sort;
pub mod strings;
pub mod transactions;
pub mod zsets;

use std::time::Duration;

use cairn_protocol::number::parse_u64;

use crate::cmd::Cmd;
use crate::error::Error;

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

/// Options of HSCAN and SSCAN.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberScanOptions<'a> {
    /// Only names that match this pattern.
    pub pattern: Option<&'a [u8]>,
    /// About how many members to look at in one call; 0 leaves it to the server.
    pub count: u64,
}

impl MemberScanOptions<'_> {
    fn add_to(self, mut cmd: Cmd) -> Cmd {
        if let Some(pattern) = self.pattern {
            cmd = cmd.arg("MATCH").arg(pattern);
        }
        if self.count > 0 {
            cmd = cmd.arg("COUNT").uint(self.count);
        }
        cmd
    }
}

/// The cursor that SCAN and its kind answer.
fn cursor(text: &[u8]) -> Result<u64, Error> {
    parse_u64(text).ok_or_else(|| Error::UnexpectedReply {
        wanted: "a cursor",
        got: text.escape_ascii().to_string(),
    })
}

/// Milliseconds, rounded up: a key must not expire before its time, nor at once.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
