//! Ranges of scores and of members, as clients write them.

use cairn_protocol::WireError;
use cairn_protocol::number::parse_f64_as_c;

/// Scores between two ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScoreRange {
    pub(crate) min: ScoreEnd,
    pub(crate) max: ScoreEnd,
}

/// An end of a range of scores; never NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScoreEnd {
    pub(crate) score: f64,
    /// The score itself is outside.
    pub(crate) exclusive: bool,
}

impl ScoreRange {
    /// Reads `1.5`, `(1.5` and infinities. Source: the ZRANGEBYSCORE page.
    pub(crate) fn parse(min: &[u8], max: &[u8]) -> Result<ScoreRange, WireError> {
        match (ScoreEnd::parse(min), ScoreEnd::parse(max)) {
            (Some(min), Some(max)) => Ok(ScoreRange { min, max }),
            _ => Err(WireError::Static("ERR min or max is not a float")),
        }
    }

    /// Whether the score lies before the range.
    pub(crate) fn is_above(&self, score: f64) -> bool {
        score < self.min.score || (self.min.exclusive && score == self.min.score)
    }

    /// Whether the score lies behind the range.
    pub(crate) fn is_below(&self, score: f64) -> bool {
        score > self.max.score || (self.max.exclusive && score == self.max.score)
    }
}

impl ScoreEnd {
    fn parse(text: &[u8]) -> Option<ScoreEnd> {
        let (exclusive, number) = match text {
            [b'(', number @ ..] => (true, number),
            number => (false, number),
        };
        Some(ScoreEnd { score: parse_f64_as_c(number)?, exclusive })
    }
}

/// Members between two ends, for sets whose members all have the same score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LexRange<'a> {
    pub(crate) min: LexEnd<'a>,
    pub(crate) max: LexEnd<'a>,
}

/// An end of a range of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LexEnd<'a> {
    /// Before every member.
    Lowest,
    /// At this member, which is inside.
    At(&'a [u8]),
    /// At this member, which is outside.
    Beside(&'a [u8]),
    /// Behind every member.
    Highest,
}

impl<'a> LexRange<'a> {
    /// Reads `-`, `+`, `[member` and `(member`. Source: the ZRANGEBYLEX page.
    pub(crate) fn parse(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, WireError> {
        match (LexEnd::parse(min), LexEnd::parse(max)) {
            (Some(min), Some(max)) => Ok(LexRange { min, max }),
            _ => Err(WireError::Static("ERR min or max not valid string range item")),
        }
    }

    /// Whether the member lies before the range.
    pub(crate) fn is_above(&self, member: &[u8]) -> bool {
        match self.min {
            LexEnd::Lowest => false,
            LexEnd::At(min) => member < min,
            LexEnd::Beside(min) => member <= min,
            LexEnd::Highest => true,
        }
    }

    /// Whether the member lies behind the range.
    pub(crate) fn is_below(&self, member: &[u8]) -> bool {
        match self.max {
            LexEnd::Lowest => true,
            LexEnd::At(max) => member > max,
            LexEnd::Beside(max) => member >= max,
            LexEnd::Highest => false,
        }
    }

    /// Whether no member at all can lie inside.
    pub(crate) fn is_empty(&self) -> bool {
        use LexEnd::{At, Beside, Highest, Lowest};
        match (self.min, self.max) {
            (Highest, _) | (_, Lowest) => true,
            (Lowest, _) | (_, Highest) => false,
            (At(min), At(max)) => min > max,
            (At(min) | Beside(min), At(max) | Beside(max)) => min >= max,
        }
    }
}

impl<'a> LexEnd<'a> {
    fn parse(text: &'a [u8]) -> Option<LexEnd<'a>> {
        match text {
            // Redis takes a NUL for the end of the text here.
            [b'-'] | [b'-', 0, ..] => Some(LexEnd::Lowest),
            [b'+'] | [b'+', 0, ..] => Some(LexEnd::Highest),
            [b'[', member @ ..] => Some(LexEnd::At(member)),
            [b'(', member @ ..] => Some(LexEnd::Beside(member)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_score_ranges() {
        let end = |score, exclusive| Some(ScoreEnd { score, exclusive });
        let rows: [(&str, Option<ScoreEnd>); 9] = [
            ("1.5", end(1.5, false)),
            ("(1.5", end(1.5, true)),
            ("-inf", end(f64::NEG_INFINITY, false)),
            ("(+inf", end(f64::INFINITY, true)),
            ("", end(0.0, false)),
            ("(", end(0.0, true)),
            ("((1", None),
            ("nan", None),
            ("1x", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(ScoreEnd::parse(text.as_bytes()), wanted, "{text}");
        }
        let range = ScoreRange::parse(b"(1", b"2").unwrap();
        assert!(range.is_above(1.0) && !range.is_above(1.1));
        assert!(!range.is_below(2.0) && range.is_below(2.1));
    }

    #[test]
    fn ends_of_lex_ranges() {
        let rows: [(&[u8], Option<LexEnd<'_>>); 9] = [
            (b"-", Some(LexEnd::Lowest)),
            (b"+", Some(LexEnd::Highest)),
            (b"+\0x", Some(LexEnd::Highest)),
            (b"[a", Some(LexEnd::At(b"a"))),
            (b"[", Some(LexEnd::At(b""))),
            (b"(a", Some(LexEnd::Beside(b"a"))),
            (b"a", None),
            (b"-a", None),
            (b"", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(LexEnd::parse(text), wanted, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn lex_ranges_without_members() {
        let rows = [
            ("-", "+", false),
            ("+", "-", true),
            ("-", "-", true),
            ("+", "+", true),
            ("[a", "[a", false),
            ("[a", "(a", true),
            ("(a", "(b", false),
            ("[b", "[a", true),
            ("[a", "+", false),
            ("-", "(", false),
        ];
        for (min, max, empty) in rows {
            let range = LexRange::parse(min.as_bytes(), max.as_bytes()).unwrap();
            assert_eq!(range.is_empty(), empty, "{min} {max}");
        }
        let range = LexRange::parse(b"[b", b"(d").unwrap();
        let inside = |member: &[u8]| !range.is_above(member) && !range.is_below(member);
        assert!(!inside(b"a") && inside(b"b") && inside(b"c\xff") && !inside(b"d"));
    }
}
