//! What it means: Redis data types and commands as a deterministic state machine over the store.
#![forbid(unsafe_code)]
