//! Pools: opened, checked, read and written to.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_store::fuzzing::pool(data));
