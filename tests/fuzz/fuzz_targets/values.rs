//! Replies as a client reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_protocol::fuzzing::values(data));
