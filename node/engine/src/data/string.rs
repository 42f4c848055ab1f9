//! Strings: which encoding a value reports, and how its bytes are read.
//!
//! The bytes are kept as the client wrote them whatever the encoding, an integer as its decimal
//! text, so that GET copies and formats nothing. The encoding is a name that sticks to the value as
//! in Redis: `int` and `embstr` are chosen when a value is set whole, edits in place make it `raw`.

use std::borrow::Cow;
use std::ops::Range;

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::Writer;
use cairn_store::{Encoding, Record, Type, Value};

use crate::failure::{Failure, Outcome};

/// Longest string (Redis's default `proto-max-bulk-len`). Part of the engine's version: replicas
/// must agree on what they refuse.
pub(crate) const LEN_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Longest value that Redis keeps beside its object header.
pub(crate) const EMBSTR_BYTES_MAX: usize = 44;

/// The encoding of a value that is set whole.
#[inline]
pub(crate) fn encoding_of(value: &[u8]) -> Encoding {
    if parse_i64(value).is_some() { Encoding::Int } else { text_encoding(value) }
}

/// The encoding of a value that Redis sets whole without trying whether it is an integer.
pub(crate) fn text_encoding(value: &[u8]) -> Encoding {
    if value.len() <= EMBSTR_BYTES_MAX { Encoding::Embstr } else { Encoding::Raw }
}

/// Refuses keys that hold something else.
#[inline]
pub(crate) fn require(record: &Record<'_>) -> Outcome {
    if record.ty() == Type::String { Ok(()) } else { Err(WireError::WrongType.into()) }
}

/// Refuses a string of `offset + added` bytes when that is too long.
pub(crate) fn check_len(offset: u64, added: usize) -> Outcome {
    match offset.checked_add(added as u64) {
        Some(len) if len <= LEN_BYTES_MAX => Ok(()),
        _ => Err(WireError::StringTooLong.into()),
    }
}

/// Replies with the whole value.
#[inline]
pub(crate) fn reply(record: &Record<'_>, w: &mut Writer<'_>) -> Outcome {
    Ok(reply_value(record.value(), w)?)
}

/// Replies with a value that is a string, whatever it lies beside.
#[inline]
pub(crate) fn reply_value(value: Value<'_>, w: &mut Writer<'_>) -> cairn_store::Result<()> {
    match value {
        Value::Inline(bytes) => {
            w.bulk(bytes);
            Ok(())
        }
        long => reply_part(long, 0..long.len(), w),
    }
}

/// Replies with a part of the value; `range` lies within it.
pub(crate) fn reply_range(record: &Record<'_>, range: Range<u64>, w: &mut Writer<'_>) -> Outcome {
    Ok(reply_part(record.value(), range, w)?)
}

fn reply_part(value: Value<'_>, range: Range<u64>, w: &mut Writer<'_>) -> cairn_store::Result<()> {
    // On a replica nobody waits for the bytes.
    if w.is_suppressed() {
        return Ok(());
    }
    w.bulk_header((range.end - range.start) as usize);
    value.read(range, |part| w.raw(part))?;
    w.end_bulk();
    Ok(())
}

/// The whole value in one piece: copied when it is stored in chunks, so the caller bounds it.
pub(crate) fn bytes<'a>(record: &Record<'a>) -> Outcome<Cow<'a, [u8]>> {
    match record.value() {
        Value::Inline(bytes) => Ok(Cow::Borrowed(bytes)),
        value => Ok(Cow::Owned(value.to_vec()?)),
    }
}

/// The value as an integer, whatever its encoding.
pub(crate) fn integer(record: &Record<'_>) -> Outcome<i64> {
    match record.value() {
        Value::Inline(bytes) => parse_i64(bytes),
        _ => None,
    }
    .ok_or(Failure::Reply(WireError::NotInteger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_redis() {
        let rows: &[(&str, Encoding)] = &[
            ("0", Encoding::Int),
            ("-1", Encoding::Int),
            ("9223372036854775807", Encoding::Int),
            ("-9223372036854775808", Encoding::Int),
            ("9223372036854775808", Encoding::Embstr),
            ("", Encoding::Embstr),
            ("-0", Encoding::Embstr),
            ("+1", Encoding::Embstr),
            ("01", Encoding::Embstr),
            ("1 ", Encoding::Embstr),
            ("1.0", Encoding::Embstr),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Encoding::Embstr),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Encoding::Raw),
        ];
        for (value, wanted) in rows {
            assert_eq!(encoding_of(value.as_bytes()), *wanted, "{value}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(check_len(LEN_BYTES_MAX, 0).is_ok());
        assert!(check_len(LEN_BYTES_MAX - 1, 1).is_ok());
        assert!(check_len(LEN_BYTES_MAX, 1).is_err());
        assert!(check_len(u64::MAX, 1).is_err());
    }
}
