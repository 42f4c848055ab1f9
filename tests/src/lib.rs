//! Who doubts: harness, models, end-to-end, crash, chaos, benches.
#![forbid(unsafe_code)]
