//! What is said: RESP, the command table, hash slots, replicated operations.
#![forbid(unsafe_code)]
