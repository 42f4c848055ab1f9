//! Commands on sets.

mod algebra;
mod edit;
mod get;
mod random;

pub(super) use algebra::{sdiff, sdiffstore, sinter, sintercard, sinterstore, sunion, sunionstore};
pub(super) use edit::{sadd, smove, srem};
pub(super) use get::{scard, sismember, smembers, smismember, sscan};
pub(super) use random::{spop, srandmember};
