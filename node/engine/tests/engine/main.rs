//! The engine as a whole, through its public face: against a model, against
//! redis-server, and over a damaged pool.
//!
//! `CAIRN_SEEDS=N` runs N seeds of each, `CAIRN_SEED=S` replays one.

mod damage;
mod demand;
mod eviction;
mod harness;
mod lists;
mod members;
mod model;
mod oracle;
mod zsets;
