//! Reading one string, whole or in part.

use std::ops::Range;

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};

use crate::data::string;
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch};

/// GET key
pub(crate) fn get(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    match cx.find(&argv[1], Touch::Use)? {
        None => {
            w.null();
            Ok(())
        }
        Some(record) => {
            string::require(&record)?;
            cx.reply_with(&record, 0..record.value().len(), w)
        }
    }
}

/// STRLEN key
pub(crate) fn strlen(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let len = match cx.find(&argv[1], Touch::Use)? {
        None => 0,
        Some(record) => {
            string::require(&record)?;
            record.value().len()
        }
    };
    w.int(len as i64);
    Ok(())
}

/// GETRANGE key start end, and SUBSTR, its older name
pub(crate) fn getrange(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let start = parse_i64(&argv[2]).ok_or(WireError::NotInteger)?;
    let end = parse_i64(&argv[3]).ok_or(WireError::NotInteger)?;
    let Some(record) = cx.find(&argv[1], Touch::Use)? else {
        w.bulk(b"");
        return Ok(());
    };
    string::require(&record)?;
    cx.reply_with(&record, clamp(start, end, record.value().len()), w)
}

/// The bytes that inclusive, possibly negative positions mean in a string of `len` bytes.
fn clamp(start: i64, end: i64, len: u64) -> Range<u64> {
    // Positions before the beginning are the beginning, so without this "-1 -5" of a short
    // string would come out as its first byte.
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let from_start = |position: i64| match u64::try_from(position) {
        Ok(position) => position,
        Err(_) => len.saturating_sub(position.unsigned_abs()),
    };
    let end = from_start(end).saturating_add(1).min(len);
    from_start(start).min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test::Bench;

    #[test]
    fn positions_are_clamped() {
        let rows: &[(i64, i64, u64, Range<u64>)] = &[
            (0, -1, 5, 0..5),
            (0, 0, 5, 0..1),
            (1, 3, 5, 1..4),
            (-3, -1, 5, 2..5),
            (-100, -1, 5, 0..5),
            (-100, -99, 5, 0..1),
            (0, -100, 5, 0..1),
            (3, 1, 5, 2..2),
            (-1, -5, 5, 0..0),
            (-1, -5, 1, 0..0),
            (-5, -9, 1, 0..0),
            (-9, -5, 1, 0..1),
            (5, 10, 5, 5..5),
            (4, 10, 5, 4..5),
            (0, 0, 0, 0..0),
            (-1, -1, 0, 0..0),
            (i64::MIN, i64::MAX, 5, 0..5),
            (i64::MAX, i64::MIN, 5, 1..1),
        ];
        for (start, end, len, wanted) in rows {
            let got = clamp(*start, *end, *len);
            assert_eq!(got.is_empty(), wanted.is_empty(), "{start} {end} of {len}");
            assert!(got.is_empty() || got == *wanted, "{start} {end} of {len}: {got:?}");
            assert!(got.end <= *len);
        }
    }

    #[test]
    fn reads() {
        let mut bench = Bench::new();
        bench.check(&[
            ("GET k", "$-1"),
            ("STRLEN k", ":0"),
            ("GETRANGE k 0 -1", "$0|"),
            ("SET k hello", "+OK"),
            ("GET k", "$5|hello"),
            ("STRLEN k", ":5"),
            ("GETRANGE k 1 3", "$3|ell"),
            ("SUBSTR k -3 -1", "$3|llo"),
            ("GETRANGE k 3 1", "$0|"),
            ("GETRANGE k x 1", "-ERR value is not an integer or out of range"),
            ("GETRANGE k 1 9223372036854775808", "-ERR value is not an integer or out of range"),
        ]);
    }

    #[test]
    fn large_values_come_back_whole_and_in_part() {
        let mut bench = Bench::new();
        let large: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        bench.run(&[b"SET", b"k", &large]);
        let reply = bench.run(&[b"GET", b"k"]);
        assert_eq!(reply, [&b"$100000\r\n"[..], &large, b"\r\n"].concat());
        for (from, to) in [(0, 0), (16_367, 16_369), (16_000, 50_000), (99_999, 99_999)] {
            let (start, end) = (from.to_string(), to.to_string());
            let reply = bench.run(&[b"GETRANGE", b"k", start.as_bytes(), end.as_bytes()]);
            let part = &large[from..=to];
            let header = format!("${}\r\n", part.len());
            assert_eq!(reply, [header.as_bytes(), part, b"\r\n"].concat());
        }
    }
}
