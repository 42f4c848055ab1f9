//! The x87 extended float that Redis calls `long double`, in integer arithmetic.
//!
//! `INCRBYFLOAT` parses, adds and prints with a 64-bit mantissa. A replica on another processor has
//! no such type, and a machine's libc is not replicated, so all three steps are done here on
//! integers: the same bytes come out everywhere, and they are those of Redis on x86-64.

use std::cmp::Ordering;

/// Exponent of the last bit of the smallest (denormal) numbers.
const EXPONENT_MIN: i32 = -16445;
/// Every finite number is below two to this power.
const MAGNITUDE_MAX: i32 = 16384;
/// Digits kept after the point: `LD_STR_HUMAN` prints `%.17Lf` and drops trailing zeros.
const FRACTION_DIGITS: usize = 17;
const FRACTION_SCALE: u128 = 100_000_000_000_000_000;
/// Decimal exponents beyond these overflow to infinity or round to zero whatever the digits.
const DECIMAL_MAGNITUDE_MAX: i64 = 4940;
const DECIMAL_MAGNITUDE_MIN: i64 = -4960;

/// A finite or infinite 80-bit float; NaN never arises, it is refused where it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongDouble {
    /// `mantissa * 2^exponent`; the mantissa need not be normalised.
    Finite { negative: bool, mantissa: u64, exponent: i32 },
    /// Typed as `inf`; no result is ever infinite.
    Infinite { negative: bool },
}

impl LongDouble {
    /// Longest text that parses: Redis copies the text into 5 KiB with its terminating zero.
    pub(crate) const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

    pub(crate) fn from_i64(value: i64) -> LongDouble {
        LongDouble::Finite { negative: value < 0, mantissa: value.unsigned_abs(), exponent: 0 }
    }

    /// Parses what `strtold` accepts over the whole text, rounding to nearest even.
    ///
    /// `None` for anything else, for NaN, and for what overflows or underflows to zero
    /// (Redis's `string2ld`).
    pub(crate) fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > Self::TEXT_BYTES_MAX {
            return None;
        }
        let (negative, rest) = match text.first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::Infinite { negative });
        }
        match rest {
            [b'0', b'x' | b'X', hex @ ..] => parse_hex(negative, hex),
            _ => parse_decimal(negative, rest),
        }
    }

    /// The rounded sum; `None` when it is infinite or not a number.
    pub(crate) fn add(self, other: LongDouble) -> Option<LongDouble> {
        let (LongDouble::Finite { .. }, LongDouble::Finite { .. }) = (self, other) else {
            return None;
        };
        let (a, b) = (self.normalised(), other.normalised());
        if b.0 == 0 {
            return Some(self);
        }
        if a.0 == 0 {
            return Some(other);
        }
        let (high, low) =
            if a.1 >= b.1 { ((a, self), (b, other)) } else { ((b, other), (a, self)) };
        add_aligned(high.0, high.1.is_negative(), low.0, low.1.is_negative())
    }

    /// As Redis's `LD_STR_HUMAN`: at most 17 digits after the point, no trailing zeros, no `-0`.
    pub(crate) fn to_human(self) -> Vec<u8> {
        let LongDouble::Finite { negative, mantissa, exponent } = self else {
            return if self.is_negative() { b"-inf".to_vec() } else { b"inf".to_vec() };
        };
        let (whole, fraction) = split_at_point(mantissa, exponent);
        let mut out = Vec::with_capacity(whole.bits() as usize / 3 + FRACTION_DIGITS + 3);
        if negative && !(whole.is_zero() && fraction == 0) {
            out.push(b'-');
        }
        whole.write_decimal(&mut out);
        write_fraction(fraction, &mut out);
        out
    }

    fn is_negative(self) -> bool {
        match self {
            LongDouble::Finite { negative, .. } | LongDouble::Infinite { negative } => negative,
        }
    }

    /// Mantissa with its top bit set, and the exponent that goes with it; zero stays zero.
    fn normalised(self) -> (u64, i32) {
        match self {
            LongDouble::Finite { mantissa, exponent, .. } if mantissa != 0 => {
                let up = mantissa.leading_zeros();
                (mantissa << up, exponent - up as i32)
            }
            _ => (0, 0),
        }
    }
}

/// Adds normalised numbers of which `high` has the larger exponent.
fn add_aligned(
    high: (u64, i32),
    high_negative: bool,
    low: (u64, i32),
    low_negative: bool,
) -> Option<LongDouble> {
    // 62 bits below the larger operand keep the sum inside 127 bits; what is shifted out further
    // below can only decide a tie, so one sticky flag stands for it.
    const ROOM: i32 = 62;
    let shift = (high.1 - low.1).min(ROOM);
    let exponent = high.1 - shift;
    let a = u128::from(high.0) << shift;
    let out = exponent - low.1;
    let (b, sticky) = shift_out(u128::from(low.0), out);
    if high_negative == low_negative {
        return round(high_negative, a + b, exponent, sticky);
    }
    match a.cmp(&b) {
        // A sticky remainder is subtracted: borrow one, what is left of it stays sticky.
        Ordering::Greater => round(high_negative, a - b - u128::from(sticky), exponent, sticky),
        Ordering::Less => round(low_negative, b - a, exponent, sticky),
        Ordering::Equal => Some(LongDouble::from_i64(0)),
    }
}

/// `bits >> shift`, and whether a set bit was lost.
fn shift_out(bits: u128, shift: i32) -> (u128, bool) {
    match shift {
        ..=0 => (bits, false),
        1..=127 => (bits >> shift, bits & ((1 << shift) - 1) != 0),
        _ => (0, bits != 0),
    }
}

/// Rounds `(bits + s) * 2^exponent` to nearest even, where `0 < s < 1` when `sticky`, else 0.
///
/// `sticky` needs more than 65 significant bits above it. `None` when the result overflows.
fn round(negative: bool, bits: u128, exponent: i32, sticky: bool) -> Option<LongDouble> {
    let len = 128 - bits.leading_zeros() as i32;
    let drop = (len - 64).max(EXPONENT_MIN - exponent).max(0);
    let (mut kept, _) = shift_out(bits, drop);
    if drop > 0 && rounds_up(bits, drop, kept & 1 == 1, sticky) {
        kept += 1;
    }
    let mut exponent = exponent + drop;
    if kept > u128::from(u64::MAX) {
        kept >>= 1;
        exponent += 1;
    }
    let mantissa = kept as u64;
    let magnitude = 64 - mantissa.leading_zeros() as i32 + exponent;
    if mantissa != 0 && magnitude > MAGNITUDE_MAX {
        return None;
    }
    Some(LongDouble::Finite { negative, mantissa, exponent })
}

/// Whether dropping the low `drop` bits rounds away from zero.
fn rounds_up(bits: u128, drop: i32, odd: bool, sticky: bool) -> bool {
    if drop > 128 {
        return false;
    }
    let half = 1u128 << (drop - 1);
    let rest = if drop == 128 { bits } else { bits & ((1 << drop) - 1) };
    match rest.cmp(&half) {
        Ordering::Greater => true,
        Ordering::Equal => sticky || odd,
        Ordering::Less => false,
    }
}

/// A parsed number that is not a typed zero must not have become one.
fn refuse_underflow(number: Option<LongDouble>) -> Option<LongDouble> {
    number.filter(|n| !matches!(n, LongDouble::Finite { mantissa: 0, .. }))
}

/// `1f.8p-3` after its `0x`.
fn parse_hex(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (mut bits, mut exponent, mut sticky) = (0u128, 0i64, false);
    let (mut digits, mut after_point) = (0usize, false);
    let mut rest = text;
    while let [c, tail @ ..] = rest {
        match (char::from(*c).to_digit(16), *c) {
            (Some(digit), _) => {
                digits += 1;
                exponent -= if after_point { 4 } else { 0 };
                if bits >> 120 == 0 {
                    bits = bits << 4 | u128::from(digit);
                } else {
                    sticky |= digit != 0;
                    exponent += 4;
                }
            }
            (None, b'.') if !after_point => after_point = true,
            _ => break,
        }
        rest = tail;
    }
    if digits == 0 {
        return None;
    }
    exponent += parse_exponent(rest, b'p')?;
    if bits == 0 {
        return Some(LongDouble::from_i64(0));
    }
    let exponent = exponent.clamp(-1_000_000, 1_000_000) as i32;
    refuse_underflow(round(negative, bits, exponent, sticky))
}

/// `12.5e-3`, `.5`, `5.`
fn parse_decimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (mut digits, mut exponent) = (Vec::with_capacity(text.len()), 0i64);
    let (mut seen, mut after_point) = (false, false);
    let mut rest = text;
    while let [c, tail @ ..] = rest {
        match *c {
            b'0'..=b'9' => {
                seen = true;
                exponent -= i64::from(after_point);
                if *c != b'0' || !digits.is_empty() {
                    digits.push(*c - b'0');
                }
            }
            b'.' if !after_point => after_point = true,
            _ => break,
        }
        rest = tail;
    }
    if !seen {
        return None;
    }
    exponent += parse_exponent(rest, b'e')?;
    while digits.last() == Some(&0) {
        digits.pop();
        exponent += 1;
    }
    if digits.is_empty() {
        return Some(LongDouble::from_i64(0));
    }
    let magnitude = digits.len() as i64 + exponent;
    if !(DECIMAL_MAGNITUDE_MIN..=DECIMAL_MAGNITUDE_MAX).contains(&magnitude) {
        return None;
    }
    refuse_underflow(scale_decimal(negative, &digits, exponent as i32))
}

/// The exponent that is all of `text`, saturated to what decides anything; 0 when there is none.
fn parse_exponent(text: &[u8], letter: u8) -> Option<i64> {
    let [first, rest @ ..] = text else {
        return Some(0);
    };
    if first.to_ascii_lowercase() != letter {
        return None;
    }
    let (sign, digits) = match rest {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |n, d| (n * 10 + i64::from(d - b'0')).min(1_000_000));
    Some(sign * value)
}

/// `digits * 10^exponent`, rounded once.
fn scale_decimal(negative: bool, digits: &[u8], exponent: i32) -> Option<LongDouble> {
    let mut big = Big::from_digits(digits);
    let fives = exponent.unsigned_abs();
    if exponent >= 0 {
        big.multiply_by_power_of_five(fives);
        let (bits, shift, sticky) = big.top();
        return round(negative, bits, shift + exponent, sticky);
    }
    // Room for a quotient of more than 128 bits: 5^n has at most 2.33 n + 3 bits.
    let room = (fives as usize * 233 / 100 + 132).saturating_sub(big.bits() as usize);
    let limbs = room.div_ceil(64);
    big.shift_left_limbs(limbs);
    let remainder = big.divide_by_power_of_five(fives);
    let (bits, shift, sticky) = big.top();
    round(negative, bits, shift + exponent - 64 * limbs as i32, sticky || remainder)
}

/// The integer part, and the fraction in units of 10^-17 rounded to nearest even.
fn split_at_point(mantissa: u64, exponent: i32) -> (Big, u128) {
    if exponent >= 0 {
        return (Big::from_shifted(mantissa, exponent as u32), 0);
    }
    let below = exponent.unsigned_abs();
    let whole = if below < 64 { mantissa >> below } else { 0 };
    let part = if below < 64 { mantissa & ((1 << below) - 1) } else { mantissa };
    // part < 2^64 and the scale < 2^57: the product fits, and below 2^-122 it rounds to nothing.
    let scaled = u128::from(part) * FRACTION_SCALE;
    if below > 127 {
        return (Big::from_shifted(whole, 0), 0);
    }
    let mut fraction = scaled >> below;
    fraction += u128::from(rounds_up(scaled, below as i32, fraction & 1 == 1, false));
    if fraction == FRACTION_SCALE {
        // A whole of 2^64 - 1 has no bits left for a fraction, so this does not overflow.
        return (Big::from_shifted(whole + 1, 0), 0);
    }
    (Big::from_shifted(whole, 0), fraction)
}

fn write_fraction(mut fraction: u128, out: &mut Vec<u8>) {
    if fraction == 0 {
        return;
    }
    let mut digits = [b'0'; FRACTION_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    let len = digits.iter().rposition(|&d| d != b'0').map_or(0, |last| last + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..len]);
}

/// An unsigned integer of any size: little-endian 64-bit limbs, none of them zero at the top.
struct Big(Vec<u64>);

impl Big {
    const FIVES_A_LIMB: u32 = 27;
    const DIGITS_A_LIMB: usize = 19;

    fn from_digits(digits: &[u8]) -> Big {
        let mut big = Big(Vec::with_capacity(digits.len() / Self::DIGITS_A_LIMB + 1));
        for chunk in digits.chunks(Self::DIGITS_A_LIMB) {
            let value = chunk.iter().fold(0u64, |n, &d| n * 10 + u64::from(d));
            big.multiply_add(10u64.pow(chunk.len() as u32), value);
        }
        big
    }

    /// `value << shift`.
    fn from_shifted(value: u64, shift: u32) -> Big {
        let mut big = Big(vec![value]);
        big.trim();
        if !big.is_zero() {
            big.multiply_add(1 << (shift % 64), 0);
            big.shift_left_limbs(shift as usize / 64);
        }
        big
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u64 {
        self.0.last().map_or(0, |top| self.0.len() as u64 * 64 - u64::from(top.leading_zeros()))
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn multiply_add(&mut self, factor: u64, addend: u64) {
        let mut carry = addend;
        for limb in &mut self.0 {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            *limb = product as u64;
            carry = (product >> 64) as u64;
        }
        if carry != 0 {
            self.0.push(carry);
        }
    }

    fn multiply_by_power_of_five(&mut self, power: u32) {
        for_each_power_of_five(power, |factor| self.multiply_add(factor, 0));
    }

    /// Whether a remainder was left.
    fn divide_by_power_of_five(&mut self, power: u32) -> bool {
        let mut left = false;
        for_each_power_of_five(power, |divisor| left |= self.divide(divisor) != 0);
        left
    }

    fn divide(&mut self, divisor: u64) -> u64 {
        let mut remainder = 0u64;
        for limb in self.0.iter_mut().rev() {
            let dividend = u128::from(remainder) << 64 | u128::from(*limb);
            *limb = (dividend / u128::from(divisor)) as u64;
            remainder = (dividend % u128::from(divisor)) as u64;
        }
        self.trim();
        remainder
    }

    fn shift_left_limbs(&mut self, limbs: usize) {
        self.0.splice(0..0, std::iter::repeat_n(0, limbs));
    }

    /// The top two limbs, the power of two they are to be multiplied by, and whether a bit below is set.
    fn top(&self) -> (u128, i32, bool) {
        match self.0.as_slice() {
            [] => (0, 0, false),
            [only] => (u128::from(*only), 0, false),
            [below @ .., low, high] => {
                let bits = u128::from(*high) << 64 | u128::from(*low);
                // A short top limb would leave too few bits above the sticky flag: fill from below.
                let up = high.leading_zeros();
                let next = below.last().copied().unwrap_or(0);
                let filled =
                    if up == 0 { bits } else { bits << up | u128::from(next >> (64 - up)) };
                let lost = if up == 0 { next } else { next << up };
                let under = below.len().saturating_sub(1);
                let sticky = lost != 0 || below[..under].iter().any(|&limb| limb != 0);
                (filled, below.len() as i32 * 64 - up as i32, sticky)
            }
        }
    }

    fn write_decimal(mut self, out: &mut Vec<u8>) {
        let mut chunks = Vec::with_capacity(self.0.len() + 1);
        while !self.is_zero() {
            chunks.push(self.divide(10u64.pow(Self::DIGITS_A_LIMB as u32)));
        }
        let start = out.len();
        for chunk in chunks.iter().rev() {
            let mut digits = [b'0'; Self::DIGITS_A_LIMB];
            let mut rest = *chunk;
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            let leading = if out.len() == start {
                digits.iter().position(|&d| d != b'0').unwrap_or(Self::DIGITS_A_LIMB)
            } else {
                0
            };
            out.extend_from_slice(&digits[leading..]);
        }
        if out.len() == start {
            out.push(b'0');
        }
    }
}

fn for_each_power_of_five(power: u32, mut f: impl FnMut(u64)) {
    for _ in 0..power / Big::FIVES_A_LIMB {
        f(5u64.pow(Big::FIVES_A_LIMB));
    }
    f(5u64.pow(power % Big::FIVES_A_LIMB));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn human(text: &str) -> Option<String> {
        LongDouble::parse(text.as_bytes()).map(|n| String::from_utf8(n.to_human()).unwrap())
    }

    fn sum(a: &str, b: &str) -> Option<String> {
        let sum = LongDouble::parse(a.as_bytes())?.add(LongDouble::parse(b.as_bytes())?)?;
        Some(String::from_utf8(sum.to_human()).unwrap())
    }

    // Wanted values were answered by redis-server 7.0 on x86-64.
    #[test]
    fn prints_as_redis_prints() {
        let rows: &[(&str, &str)] = &[
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("3.0e3", "3000"),
            ("3.14", "3.14"),
            ("-3.14", "-3.14"),
            (".5", "0.5"),
            ("5.", "5"),
            ("+7", "7"),
            ("0x10", "16"),
            ("0x1.8p1", "3"),
            ("1e-17", "0.00000000000000001"),
            ("1e-18", "0"),
            ("-1e-18", "0"),
            ("1e20", "100000000000000000000"),
            ("18446744073709551616", "18446744073709551616"),
            ("18446744073709551617", "18446744073709551616"),
            ("99999999999999999999", "100000000000000000000"),
        ];
        for (text, wanted) in rows {
            assert_eq!(human(text).as_deref(), Some(*wanted), "{text}");
        }
    }

    #[test]
    fn refuses_what_strtold_refuses() {
        for text in [
            "", " 1", "1 ", "a", "1e", "1e+", ".", "-", "+-1", "nan", "0x", "0x.", "0x1p",
            "1e4933", "1e-5000", "--1", "1.2.3", "1\x001", "infin",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        let digits = "1".repeat(LongDouble::TEXT_BYTES_MAX + 1);
        assert_eq!(LongDouble::parse(digits.as_bytes()), None);
    }

    #[test]
    fn denormals_and_the_largest_survive() {
        assert!(human("3.6e-4951").is_some());
        assert!(human("1e-4951").is_none());
        assert!(human("1.18973149535723176502e+4932").is_some());
        assert!(human("1.18973149535723176509e+4932").is_none());
    }

    #[test]
    fn adds_with_one_rounding() {
        let rows: &[(&str, &str, Option<&str>)] = &[
            ("10.50", "0.1", Some("10.6")),
            ("5.0e3", "2.0e2", Some("5200")),
            ("1", "-1", Some("0")),
            ("0.1", "0.2", Some("0.3")),
            ("1e30", "1e-30", Some("1000000000000000000024696061952")),
            ("-1e30", "1e-30", Some("-1000000000000000000024696061952")),
            ("9223372036854775807", "1", Some("9223372036854775808")),
            ("18446744073709551615", "1", Some("18446744073709551616")),
            ("18446744073709551615", "0.5", Some("18446744073709551616")),
            ("18446744073709551615", "0.4", Some("18446744073709551615")),
            // Just above, just below and exactly half-way between two numbers.
            ("9223372036854775808", "0x8000000000000001p-64", Some("9223372036854775809")),
            ("9223372036854775809", "-0x8000000000000001p-64", Some("9223372036854775808")),
            ("9223372036854775808", "0.5", Some("9223372036854775808")),
            ("9223372036854775809", "0.5", Some("9223372036854775810")),
            ("inf", "1", None),
            ("1", "-inf", None),
            ("1.18973149535723176502e+4932", "1.18973149535723176502e+4932", None),
        ];
        for (a, b, wanted) in rows {
            assert_eq!(sum(a, b).as_deref(), *wanted, "{a} + {b}");
            assert_eq!(sum(b, a).as_deref(), *wanted, "{b} + {a}");
        }
    }
}
