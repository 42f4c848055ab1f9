//! Numbers as Redis reads and writes them: strict decimal integers, doubles by `strtod`'s grammar.
//!
//! Nothing here goes through `std::fmt` for integers: they stand in almost every reply.

mod grisu;

/// The longest text of an `i64` or `u64`.
pub const MAX_INT_TEXT: usize = 20;

/// A decimal integer written into a buffer of its own.
#[derive(Clone, Copy)]
pub struct IntText {
    buf: [u8; MAX_INT_TEXT],
    start: u8,
}

impl IntText {
    /// The decimal text of `value`.
    #[must_use]
    pub fn signed(value: i64) -> Self {
        let mut text = Self::unsigned(value.unsigned_abs());
        if value < 0 {
            text.start -= 1;
            text.buf[usize::from(text.start)] = b'-';
        }
        text
    }

    /// The decimal text of `value`.
    #[must_use]
    #[inline]
    pub fn unsigned(value: u64) -> Self {
        let mut buf = [0; MAX_INT_TEXT];
        let start = write_before(&mut buf, MAX_INT_TEXT, value) as u8;
        Self { buf, start }
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf[usize::from(self.start)..]
    }
}

/// Writes the digits of `value` so that they end before `end`; returns where they start. `buf` has
/// at least [`MAX_INT_TEXT`] bytes there.
#[inline]
pub(crate) fn write_before(buf: &mut [u8], end: usize, mut value: u64) -> usize {
    let mut at = end;
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        at -= 2;
        buf[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        let pair = value as usize * 2;
        at -= 2;
        buf[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        buf[at] = b'0' + value as u8;
    }
    at
}

/// "00", "01" .. "99": two digits a division.
static PAIRS: [u8; 200] = pairs();

const fn pairs() -> [u8; 200] {
    let mut pairs = [0; 200];
    let mut n = 0;
    while n < 100 {
        pairs[n * 2] = b'0' + (n / 10) as u8;
        pairs[n * 2 + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    pairs
}

/// Reads an `i64` as Redis's `string2ll` does: an optional `-`, no `+`, no spaces, no leading
/// zeros, nothing after it. `None` when it is anything else or does not fit.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => {
            let magnitude = parse_u64(digits)?;
            // "-0" is not the text of any integer.
            if magnitude == 0 || magnitude > i64::MIN.unsigned_abs() {
                return None;
            }
            Some(magnitude.wrapping_neg() as i64)
        }
        digits => i64::try_from(parse_u64(digits)?).ok(),
    }
}

/// Reads a `u64`: digits only, no sign, no leading zeros. `None` when it is anything else or does
/// not fit.
#[must_use]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => return Some(0),
        [b'1'..=b'9', ..] if text.len() <= MAX_INT_TEXT => {}
        _ => return None,
    }
    let mut value = 0u64;
    for &b in text {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Reads a double as Redis's `string2d` does: `strtod`'s grammar (decimal, hexadecimal, `inf`,
/// `infinity`, any case), no spaces around it, no NaN, no overflow, and no underflow to zero.
#[must_use]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (negative, unsigned) = split_sign(text);
    let Magnitude { value, exact_kind } = magnitude(unsigned)?;
    exact_kind.then_some(if negative { -value } else { value })
}

/// Reads a double as C's `strtod` does where Redis calls it without looking at the length, for the
/// ends of score ranges: space before it is skipped, what is too large is infinite, what is too
/// small is zero, a NUL ends the text, and the empty text is 0. NaN is refused.
#[must_use]
pub fn parse_f64_as_c(text: &[u8]) -> Option<f64> {
    let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
    if text.is_empty() {
        return Some(0.0);
    }
    let is_space = |b: &u8| matches!(b, b' ' | 9..=13);
    let start = text.iter().position(|b| !is_space(b))?;
    let (negative, unsigned) = split_sign(&text[start..]);
    let value = magnitude(unsigned)?.value;
    Some(if negative { -value } else { value })
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// A number without its sign.
struct Magnitude {
    value: f64,
    /// Not infinite unless the text said so, and zero only if it did.
    exact_kind: bool,
}

impl Magnitude {
    fn of_digits(value: f64, is_zero: bool) -> Self {
        Self { value, exact_kind: value.is_finite() && (value != 0.0 || is_zero) }
    }
}

fn magnitude(unsigned: &[u8]) -> Option<Magnitude> {
    match unsigned {
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits),
        // A second sign or `nan` would pass std's parser.
        [b'0'..=b'9' | b'.', ..] => decimal(unsigned),
        _ if unsigned.eq_ignore_ascii_case(b"inf")
            || unsigned.eq_ignore_ascii_case(b"infinity") =>
        {
            Some(Magnitude { value: f64::INFINITY, exact_kind: true })
        }
        _ => None,
    }
}

fn decimal(text: &[u8]) -> Option<Magnitude> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let mantissa = text.split(|b| matches!(b, b'e' | b'E')).next().unwrap_or(text);
    let is_zero = !mantissa.iter().any(|b| matches!(b, b'1'..=b'9'));
    Some(Magnitude::of_digits(value, is_zero))
}

/// `digits[.digits][p[+-]exponent]` of a hexadecimal float, rounded to nearest even once.
fn hexadecimal(text: &[u8]) -> Option<Magnitude> {
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'p' | b'P')) {
        Some(p) => (&text[..p], decimal_exponent(&text[p + 1..])?),
        None => (text, 0),
    };
    let (mut bits, mut scale, mut sticky) = (0u64, i64::from(exponent), false);
    let (mut any, mut after_point) = (false, false);
    for &b in mantissa {
        if b == b'.' && !after_point {
            after_point = true;
            continue;
        }
        let digit = char::from(b).to_digit(16)?;
        any = true;
        if bits >> 58 == 0 {
            bits = bits << 4 | u64::from(digit);
            scale -= if after_point { 4 } else { 0 };
        } else {
            // Beyond 58 bits a digit only says whether the rest is nonzero.
            sticky |= digit != 0;
            scale += if after_point { 0 } else { 4 };
        }
    }
    if !any {
        return None;
    }
    let value = scaled(bits << 1 | u64::from(sticky), scale - 1);
    Some(Magnitude::of_digits(value, bits == 0))
}

fn decimal_exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Far beyond a double's range every exponent means the same.
    let value = digits.iter().fold(0i32, |v, b| (v * 10 + i32::from(b - b'0')).min(100_000_000));
    Some(if negative { -value } else { value })
}

/// `bits * 2^scale`, rounded to nearest even; infinite on overflow.
fn scaled(bits: u64, scale: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let top = 63 - i64::from(bits.leading_zeros()) + scale;
    if top > 1023 {
        return f64::INFINITY;
    }
    // The place of the result's last bit: 52 below the top one, or a subnormal's fixed place.
    let last = (top - 52).max(-1074);
    let drop = last - scale;
    let mantissa = match drop {
        ..=0 => bits << -drop,
        1..=63 => {
            let (kept, half) = (bits >> drop, 1u64 << (drop - 1));
            let rest = bits & ((1u64 << drop) - 1);
            kept + u64::from(rest > half || rest == half && kept & 1 == 1)
        }
        _ => 0,
    };
    // Both factors are exact, and so is their product: a mantissa of at most 53 bits in place.
    if last >= -1022 {
        mantissa as f64 * f64::from_bits(((last + 1023) as u64) << 52)
    } else {
        mantissa as f64 * f64::from_bits(1 << (last + 1074))
    }
}

/// Appends `value` as Redis 7.2 prints a double: `inf`, `-inf`, `nan`, integers plainly, else about
/// the shortest digits that read back the same, with an exponent only where that is shorter.
pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    // 2^62: up to there Redis prints an integral double as the integer it is.
    const PLAIN_MAX: f64 = 4_611_686_018_427_387_904.0;
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
    } else if value.trunc() == value && value.abs() <= PLAIN_MAX {
        out.extend_from_slice(IntText::signed(value as i64).as_bytes());
    } else {
        push_shortest(out, value);
    }
}

/// Appends a finite or infinite `value` as C's `%.17g` does, which Redis's ZSCAN still prints: 17
/// significant digits without the zeros at their end.
pub fn push_f64_17_digits(out: &mut Vec<u8>, value: f64) {
    if value == 0.0 || !value.is_finite() {
        return push_f64(out, value);
    }
    if value < 0.0 {
        out.push(b'-');
    }
    // std rounds the exact value to nearest, ties to even, as C does.
    let text = format!("{:.16e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let significant = digits.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    digits.truncate(significant);
    let missing = exponent + 1 - digits.len() as i32;
    match exponent {
        -4..=16 if missing >= 0 => {
            out.extend_from_slice(&digits);
            out.resize(out.len() + missing as usize, b'0');
        }
        -4..=16 => push_with_point(out, &digits, exponent),
        _ => {
            push_mantissa(out, &digits);
            out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
            if exponent.abs() < 10 {
                out.push(b'0');
            }
            out.extend_from_slice(IntText::signed(i64::from(exponent.abs())).as_bytes());
        }
    }
}

fn push_shortest(out: &mut Vec<u8>, value: f64) {
    if value < 0.0 {
        out.push(b'-');
    }
    let (digits, last) = grisu::digits(value.abs());
    push_digits(out, &digits, last + digits.len() as i32 - 1);
}

/// Places `d.ddd * 10^exponent` by the rules of Redis's `fpconv`.
fn push_digits(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let count = digits.len() as i32;
    let last = exponent - count + 1;
    if last >= 0 && exponent < count + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + last as usize, b'0');
    } else if last < 0 && (last > -7 || exponent.abs() < 4) {
        push_with_point(out, digits, exponent);
    } else {
        push_mantissa(out, digits);
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        out.extend_from_slice(IntText::signed(i64::from(exponent.abs())).as_bytes());
    }
}

/// `d.ddd`
fn push_mantissa(out: &mut Vec<u8>, digits: &[u8]) {
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
}

fn push_with_point(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(digits);
    } else {
        let (whole, fraction) = digits.split_at(exponent as usize + 1);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_std_writes_them() {
        let mut values = vec![0, 1, -1, 9, 10, 99, 100, 101, i64::MAX, i64::MIN];
        values.extend((0..63).flat_map(|b| [1i64 << b, -(1i64 << b), (1i64 << b) - 1]));
        for v in values {
            assert_eq!(IntText::signed(v).as_bytes(), v.to_string().as_bytes());
            assert_eq!(parse_i64(v.to_string().as_bytes()), Some(v));
        }
        assert_eq!(IntText::unsigned(u64::MAX).as_bytes(), u64::MAX.to_string().as_bytes());
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
    }

    #[test]
    fn only_canonical_integers_are_read() {
        let refused: [&[u8]; 16] = [
            b"",
            b"-",
            b"+1",
            b" 1",
            b"1 ",
            b"01",
            b"-0",
            b"-01",
            b"1a",
            b"0x10",
            b"1.0",
            b"--1",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"99999999999999999999999",
            b"1\0",
        ];
        for text in refused {
            assert_eq!(parse_i64(text), None, "{}", text.escape_ascii());
        }
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
    }

    #[test]
    fn doubles_follow_strtod() {
        let rows: [(&[u8], Option<f64>); 28] = [
            (b"1", Some(1.0)),
            (b"+1.5", Some(1.5)),
            (b"-.5", Some(-0.5)),
            (b"5.", Some(5.0)),
            (b"1e3", Some(1000.0)),
            (b"1E-2", Some(0.01)),
            (b"inf", Some(f64::INFINITY)),
            (b"-INFINITY", Some(f64::NEG_INFINITY)),
            (b"0x1p3", Some(8.0)),
            (b"0x.8", Some(0.5)),
            (b"0X1F", Some(31.0)),
            (b"0x1.fffffffffffff8p0", Some(2.0)),
            (b"0x1p-1074", Some(5e-324)),
            (b"0e5", Some(0.0)),
            (b"-0", Some(-0.0)),
            (b"", None),
            (b"+", None),
            (b".", None),
            (b"nan", None),
            (b"--1", None),
            (b"+-1", None),
            (b" 1", None),
            (b"1 ", None),
            (b"1e", None),
            (b"1e400", None),
            (b"1e-400", None),
            (b"0x", None),
            (b"0x1p1024", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(parse_f64(text), wanted, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_ends_of_ranges_are_read_as_c_reads_them() {
        let rows: [(&[u8], Option<f64>); 17] = [
            (b"", Some(0.0)),
            (b"\0x", Some(0.0)),
            (b" \t\n1.5", Some(1.5)),
            (b"-1\0abc", Some(-1.0)),
            (b"1e400", Some(f64::INFINITY)),
            (b"-1e400", Some(f64::NEG_INFINITY)),
            (b"0x1p1024", Some(f64::INFINITY)),
            (b"1e-400", Some(0.0)),
            (b"0x1p-2000", Some(0.0)),
            (b"+inf", Some(f64::INFINITY)),
            (b"-Infinity", Some(f64::NEG_INFINITY)),
            (b" ", None),
            (b"1 ", None),
            (b"- 1", None),
            (b"nan", None),
            (b"-nan", None),
            (b"0x", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(parse_f64_as_c(text), wanted, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn seventeen_digits_are_printed_as_c_prints_them() {
        let rows = [
            (0.1, "0.10000000000000001"),
            (-0.1, "-0.10000000000000001"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (100.0, "100"),
            (-1234567890.125, "-1234567890.125"),
            (1e16, "10000000000000000"),
            (12345678901234567.0, "12345678901234568"),
            (1e17, "1e+17"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, wanted) in rows {
            let mut out = Vec::new();
            push_f64_17_digits(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), wanted);
        }
    }

    #[test]
    fn hexadecimal_doubles_round_once() {
        for bits in (0..2000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1) {
            let value = f64::from_bits(bits);
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
            let text = match exponent {
                0 => format!("0x0.{fraction:013x}p-1022"),
                e => format!("0x1.{fraction:013x}p{}", e as i64 - 1023),
            };
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
    }

    #[test]
    fn doubles_are_printed_as_redis_prints_them() {
        let rows = [
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (3.0, "3"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1e18, "1000000000000000000"),
            (4611686018427387904.0, "4611686018427387904"),
            (-9007199254740993.0, "-9007199254740992"),
            (1e20, "1e+20"),
            (12345678901234567000.0, "12345678901234567000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-7"),
            (0.001, "0.001"),
            (0.00001, "0.00001"),
            (1.25e-9, "1.25e-9"),
            (1.2345678901234567, "1.2345678901234567"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        for (value, wanted) in rows {
            let mut out = Vec::new();
            push_f64(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), wanted);
        }
    }
}
