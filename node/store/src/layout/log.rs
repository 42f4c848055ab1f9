//! The bytes of a log segment.
