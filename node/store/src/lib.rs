//! What is kept: media, pool, allocator, trie, B+tree, Raft log files. The only unsafe code of the workspace.

pub mod layout;
pub mod log;
