//! Log entries and the operations in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_protocol::fuzzing::entries(data));
