//! Commands on lists.

mod edit;
mod get;
mod moving;
mod pop;
mod push;

pub(super) use edit::{linsert, lrem, lset, ltrim};
pub(super) use get::{lindex, llen, lpos, lrange};
pub(super) use moving::{lmove, rpoplpush};
pub(super) use pop::{lmpop, lpop, rpop};
pub(super) use push::{lpush, lpushx, rpush, rpushx};

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;

use crate::data::list::End;
use crate::failure::{Failure, Outcome};

/// LEFT or RIGHT.
fn end(word: &[u8]) -> Outcome<End> {
    match word {
        _ if word.eq_ignore_ascii_case(b"left") => Ok(End::Left),
        _ if word.eq_ignore_ascii_case(b"right") => Ok(End::Right),
        _ => Err(WireError::Syntax.into()),
    }
}

/// An integer.
fn int(text: &[u8]) -> Outcome<i64> {
    parse_i64(text).ok_or_else(|| WireError::NotInteger.into())
}

/// A count that is at least `least`; anything else is answered with `refusal`.
fn count(text: &[u8], least: u64, refusal: &'static str) -> Outcome<u64> {
    parse_i64(text)
        .and_then(|count| u64::try_from(count).ok())
        .filter(|&count| count >= least)
        .ok_or_else(|| Failure::reply(refusal))
}

/// An integer whose negation is one too.
fn invertible(text: &[u8]) -> Outcome<i64> {
    match int(text)? {
        i64::MIN => Err(Failure::reply(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        )),
        n => Ok(n),
    }
}

/// The places from `start` to `stop`, both of which count from the end when they are negative;
/// empty when there are none.
fn range(start: i64, stop: i64, len: u64) -> std::ops::Range<u64> {
    let absolute = |index: i64| if index < 0 { index.saturating_add(len as i64) } else { index };
    let start = absolute(start).max(0) as u64;
    let end = absolute(stop).saturating_add(1).clamp(0, len as i64) as u64;
    if start < end { start..end } else { 0..0 }
}
