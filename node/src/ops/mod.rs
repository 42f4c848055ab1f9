//! What the operator sees and sets: options, counters, logging, the machine, the clock.
//!
//! The lowest room of the node: it imports nothing of `raft`, `server` or `node`, and every other
//! room may import it. [`clock`] is the only place of the node that reads the wall clock, and
//! [`entropy`] the only one that draws randomness.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod host;
pub mod lock_file;
pub mod metrics;
pub mod signals;
pub mod telemetry;
pub mod units;
pub mod versions;
