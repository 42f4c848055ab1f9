//! Hashes: which encoding one reports, and what its fields may be.
//!
//! As in Redis, a hash begins as a `listpack` and becomes a `hashtable` for good when it gets many
//! fields or a long one. How it is kept does not depend on that: see [`members`](super::members).

use cairn_protocol::resp::Argv;
use cairn_store::layout::pool::blob::KEY_MAX;
use cairn_store::{Encoding, StoreError};

use super::limits::Listpack;
use super::members::MembersEdit;
use crate::failure::{Failure, Outcome};

/// Refuses a name that the store cannot hold.
pub(crate) fn check_name(what: &'static str, name: &[u8]) -> Outcome {
    if name.len() <= KEY_MAX {
        return Ok(());
    }
    let (len_bytes, max_bytes) = (name.len() as u64, KEY_MAX as u64);
    Err(Failure::Store(StoreError::TooLong { what, len_bytes, max_bytes }))
}

/// Whether fields and values that are set together make their hash a hashtable, new or not.
#[inline]
pub(crate) fn are_large(limit: Listpack, fields_and_values: Argv<'_>) -> bool {
    (fields_and_values.len() / 2) as u64 > limit.entries
        || fields_and_values.iter().any(|text| limit.is_long(text))
}

/// Takes note of what was set: the encoding that the hash reports from now on.
#[inline]
pub(crate) fn settle_encoding(limit: Listpack, hash: &mut MembersEdit<'_, '_>, large: bool) {
    if large || hash.len() > limit.entries {
        hash.set_encoding(Encoding::Hashtable);
    }
}
