//! Whole nodes under test: real processes, real sockets, real kills.
#![forbid(unsafe_code)]

mod bad_input;
mod blocks;
mod churn;
mod clients;
mod damage;
mod differential;
mod eviction;
mod kill9;
mod long_values;
mod medium;
mod refusals;
mod replicas;
mod snapshots;
mod soak;
mod stop;
mod tools;
mod transactions;
