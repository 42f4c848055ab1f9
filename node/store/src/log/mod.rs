//! The Raft log of a node: one for all its shards.
