//! What SCAN and its kind share: cursors, options, bounds.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::glob;
use cairn_protocol::number::{IntText, parse_i64, parse_u64};
use cairn_protocol::resp::Writer;

use crate::data::gathered::Gathered;
use crate::failure::{Failure, Outcome};

/// What is looked at when no COUNT is given.
const COUNT_DEFAULT: u64 = 10;

/// Options of SCAN and its kind.
pub(super) struct Options<'a> {
    pub(super) pattern: Option<&'a [u8]>,
    /// How much to look at.
    pub(super) count: u64,
    /// Of SCAN alone.
    pub(super) ty: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Those of SCAN.
    pub(super) fn of_scan(args: Args<'a>) -> Outcome<Options<'a>> {
        Options::parse(args, true)
    }

    /// Those of HSCAN, SSCAN and ZSCAN.
    pub(super) fn of_members(args: Args<'a>) -> Outcome<Options<'a>> {
        Options::parse(args, false)
    }

    fn parse(mut args: Args<'a>, of_scan: bool) -> Outcome<Options<'a>> {
        let mut options = Options { pattern: None, count: COUNT_DEFAULT, ty: None };
        while !args.is_empty() {
            if let Some(pattern) = args.keyword_with_value("MATCH") {
                options.pattern = Some(pattern);
            } else if args.left() > 1 && args.keyword("COUNT") {
                options.count = u64::try_from(args.int()?).unwrap_or(0);
                if options.count == 0 {
                    return Err(WireError::Syntax.into());
                }
            } else if let Some(ty) = args.keyword_with_value("TYPE")
                && of_scan
            {
                options.ty = Some(ty);
            } else {
                return Err(WireError::Syntax.into());
            }
        }
        Ok(options)
    }

    /// Whether the pattern, if any, fits the name.
    pub(super) fn fits(&self, name: &[u8]) -> bool {
        match self.pattern {
            None | Some(b"*") => true,
            Some(pattern) => glob::matches(pattern, name, false),
        }
    }
}

/// What `strtoul` reads: Redis lets it decide what a cursor is, signs and the empty text included.
pub(super) fn parse_cursor(text: &[u8]) -> Outcome<u64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let significant = digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len());
    let value = match &digits[significant..] {
        [] if !digits.is_empty() || text.is_empty() => 0,
        rest => parse_u64(rest).ok_or(WireError::InvalidCursor)?,
    };
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// Most elements that one command draws, one drawn twice counting twice: a bound for its reply.
const REPEATS_MAX: u64 = 1 << 24;

/// How many elements to draw: negative when they may repeat.
pub(super) fn parse_draw_count(text: &[u8]) -> Outcome<i64> {
    match parse_i64(text).ok_or(WireError::NotInteger)? {
        i64::MIN => Err(Failure::reply(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// Refuses to draw more elements than any reply should hold.
pub(super) fn check_repeats(count: u64) -> Outcome {
    if count <= REPEATS_MAX { Ok(()) } else { Err(WireError::OutOfRange.into()) }
}

/// Replies with the cursor to go on from and what was found.
pub(super) fn reply_with_cursor(next: u64, found: &Gathered, w: &mut Writer<'_>) {
    w.array(2);
    w.bulk(IntText::unsigned(next).as_bytes());
    w.array(found.len());
    found.reply(w);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        let rows: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("", Some(0)),
            ("00", Some(0)),
            ("017", Some(17)),
            ("+5", Some(5)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            (" 1", None),
            ("1 ", None),
            ("a", None),
            ("-", None),
            ("+-1", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(parse_cursor(text.as_bytes()).ok(), *wanted, "{text:?}");
        }
    }
}
