//! The cairn node: configuration, Raft, server.
#![forbid(unsafe_code)]
