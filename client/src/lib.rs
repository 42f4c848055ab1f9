//! Who asks: the async client library.
#![forbid(unsafe_code)]
