//! Who doubts: harness, models, end-to-end, crash, chaos, benches.
//!
//! What lives here is shared by the test binaries and the benches, bottom up: [`rng`] (numbers from
//! a seed), [`resp`] (a blocking client that knows nothing of Cairn's own codec, so that it can
//! judge it), [`process`] (what the kernel says of a process), [`scratch`] (directories on each
//! medium), [`mount`] (file systems of a test's own), [`tools`] (programs that may be missing),
//! [`ports`] (for servers that start again where they were), [`node`] (a `cairn` process),
//! [`writers`] (load that knows what a crash may leave of it), [`peer`] (a Redis or Valkey process),
//! [`bench`] (loading, medians, tables), [`load`] (many connections at once, measured), [`soak`]
//! (the long run against a model), [`history`] (what clients did and saw), [`linearize`] (the judge
//! of it), [`rig`] (clusters in network namespaces under fault, judged by it), [`sim`] (a cluster in
//! one process, from a seed).
#![forbid(unsafe_code)]

pub mod bench;
pub mod cluster;
pub mod history;
pub mod linearize;
pub mod load;
pub mod mount;
pub mod node;
pub mod peer;
pub mod ports;
pub mod process;
pub mod resp;
pub mod rig;
pub mod rng;
pub mod scratch;
pub mod sim;
pub mod soak;
pub mod tools;
pub mod writers;
