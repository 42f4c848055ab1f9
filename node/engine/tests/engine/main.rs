//! The engine as a whole, through its public face: against a model, and against redis-server.
//!
//! `CAIRN_SEEDS=N` runs N seeds of each, `CAIRN_SEED=S` replays one.

mod harness;
mod model;
mod oracle;
