//! Inline requests: words on a line, with quotes.
//!
//! Source: the RESP specification, "Inline commands"; the quoting rules are those of Redis's
//! `sdssplitargs`.

use super::argv::Span;

/// Appends the words of `line` to `bytes` without quotes and escapes, and where each lies there to
/// `spans`. False when a quote is not closed, or is followed by anything but a space. A NUL ends
/// the line.
#[must_use]
pub(crate) fn split(line: &[u8], bytes: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
    let end = memchr::memchr(0, line).unwrap_or(line.len());
    let mut rest = skip_spaces(&line[..end]);
    while !rest.is_empty() {
        let start = bytes.len() as u32;
        match word(rest, bytes) {
            Some(used) => rest = skip_spaces(&rest[used..]),
            None => return false,
        }
        spans.push(Span { start, end: bytes.len() as u32 });
    }
    true
}

/// The words of `line`, for tests and fuzzing; `None` where [`split`] is false.
pub(crate) fn split_owned(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    split(line, &mut bytes, &mut spans)
        .then(|| spans.iter().map(|s| bytes[s.start as usize..s.end as usize].to_vec()).collect())
}

fn skip_spaces(line: &[u8]) -> &[u8] {
    let spaces = line.iter().take_while(|b| is_space(**b)).count();
    &line[spaces..]
}

/// C's `isspace`, which counts the vertical tab.
fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t'..=b'\r')
}

/// Appends the word that `line` starts with; how many bytes of the line it takes. Quotes may open
/// within a word but must end it.
fn word(line: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    for (i, &b) in line.iter().enumerate() {
        match b {
            b' ' | b'\n' | b'\r' | b'\t' => return Some(i),
            b'"' => {
                return Some(i + 1 + closing(&line[i + 1..], double_quoted(&line[i + 1..], out)?)?);
            }
            b'\'' => {
                return Some(i + 1 + closing(&line[i + 1..], single_quoted(&line[i + 1..], out)?)?);
            }
            other => out.push(other),
        }
    }
    Some(line.len())
}

/// `used` bytes of `line` end with a closing quote: a space or nothing must follow.
fn closing(line: &[u8], used: usize) -> Option<usize> {
    line.get(used).is_none_or(|b| is_space(*b)).then_some(used)
}

/// Reads up to and including the closing `"`.
fn double_quoted(line: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match line.get(at..)? {
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                out.push(unescape(*escaped));
                at += 2;
            }
            [other, ..] => {
                out.push(*other);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// Reads up to and including the closing `'`; only that can be escaped.
fn single_quoted(line: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match line.get(at..)? {
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => {
                out.push(b'\'');
                at += 2;
            }
            [other, ..] => {
                out.push(*other);
                at += 1;
            }
            [] => return None,
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_as_redis_splits_them() {
        let rows: [(&[u8], &[&[u8]]); 14] = [
            (b"", &[]),
            (b"  \t ", &[]),
            (b"get  a", &[b"get", b"a"]),
            (b" set k \"a b\" ", &[b"set", b"k", b"a b"]),
            (b"\"\" ''", &[b"", b""]),
            (b"foo\"bar\"", &[b"foobar"]),
            (b"\"\\x41\\x0a\\xzz\"", &[b"A\nxzz"]),
            (b"\"\\n\\r\\t\\b\\a\\\\\\\"\"", &[b"\n\r\t\x08\x07\\\""]),
            (b"'a\\'b\\n'", &[b"a'b\\n"]),
            (b"a\\nb", &[b"a\\nb"]),
            (b"a\0b c", &[b"a"]),
            (b"\x0ba\x0bb", &[b"a\x0bb"]),
            (b"\"a\"\x0bb", &[b"a", b"b"]),
            (b"\"\\x4\"", &[b"x4"]),
        ];
        for (line, wanted) in rows {
            let wanted: Vec<Vec<u8>> = wanted.iter().map(|w| w.to_vec()).collect();
            assert_eq!(split_owned(line), Some(wanted), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn open_quotes_are_refused() {
        for line in
            [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\\\"", b"\"a\0\"", b"a\"", b"\"\\"]
        {
            assert_eq!(split_owned(line), None, "{}", line.escape_ascii());
        }
    }
}
