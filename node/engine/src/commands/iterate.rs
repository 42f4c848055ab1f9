//! What SCAN and its kind share: cursors, options, replies whose length is known at the end.

use cairn_protocol::WireError;
use cairn_protocol::command::Args;
use cairn_protocol::glob;
use cairn_protocol::number::{IntText, parse_u64};
use cairn_protocol::resp::Writer;

use crate::failure::Outcome;

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

/// Refuses to draw more elements than any reply should hold.
pub(super) fn check_repeats(count: u64) -> Outcome {
    if count <= REPEATS_MAX { Ok(()) } else { Err(WireError::OutOfRange.into()) }
}

/// What is found, gathered before it is known how much it is.
#[derive(Default)]
pub(super) struct Found {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Found {
    pub(super) fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }

    /// Adds an item that comes in pieces.
    pub(super) fn push_value(&mut self, value: cairn_store::Value<'_>) -> cairn_store::Result<()> {
        value.read(0..value.len(), |piece| self.bytes.extend_from_slice(piece))?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Items.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The items as they were pushed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// Replies with the items.
    pub(super) fn reply(&self, w: &mut Writer<'_>) {
        w.array(self.len());
        for item in self.iter() {
            w.bulk(item);
        }
    }

    /// Replies with the cursor to go on from and the items.
    pub(super) fn reply_with_cursor(&self, next: u64, w: &mut Writer<'_>) {
        w.array(2);
        w.bulk(IntText::unsigned(next).as_bytes());
        self.reply(w);
    }
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
