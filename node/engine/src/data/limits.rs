//! Sizes at which Redis changes the encoding it reports: the defaults of Redis 7.2.
//!
//! Part of the engine's version: replicas must agree on the encodings they report.

/// `hash-max-listpack-entries`: fields of a listpack hash.
pub(crate) const HASH_LISTPACK_ENTRIES_MAX: u64 = 512;
/// `hash-max-listpack-value`: bytes of its fields and values.
pub(crate) const HASH_LISTPACK_VALUE_BYTES_MAX: usize = 64;

/// `set-max-intset-entries`: members of an intset.
pub(crate) const SET_INTSET_ENTRIES_MAX: u64 = 512;
/// `set-max-listpack-entries`: members of a listpack set.
pub(crate) const SET_LISTPACK_ENTRIES_MAX: u64 = 128;
/// `set-max-listpack-value`: bytes of its members.
pub(crate) const SET_LISTPACK_VALUE_BYTES_MAX: usize = 64;

/// `zset-max-listpack-entries`: members of a listpack sorted set.
pub(crate) const ZSET_LISTPACK_ENTRIES_MAX: u64 = 128;
/// `zset-max-listpack-value`: bytes of its members.
pub(crate) const ZSET_LISTPACK_VALUE_BYTES_MAX: usize = 64;

/// `list-max-listpack-size` -2: bytes of a listpack list.
pub(crate) const LIST_LISTPACK_BYTES_MAX: u64 = 8 * 1024;
