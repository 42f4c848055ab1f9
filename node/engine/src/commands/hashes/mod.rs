//! Commands on hashes.

mod counter;
mod edit;
mod get;
mod random;
mod walk;

pub(super) use counter::{hincrby, hincrbyfloat};
pub(super) use edit::{hdel, hmset, hset, hsetnx};
pub(super) use get::{hexists, hget, hlen, hmget, hstrlen};
pub(super) use random::hrandfield;
pub(super) use walk::{hgetall, hkeys, hscan, hvals};
