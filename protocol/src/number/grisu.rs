//! The digits of doubles as Redis 7.2 chooses them: the algorithm Grisu2.
//!
//! They always read back as the same double, but about once in five hundred they are one digit more
//! than the shortest. Redis prints those, and so do we.
//! Source: Florian Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with Integers",
//! 2010; which of the powers that would do is taken is Redis's choice.

/// The digits of a positive finite double, and the power of ten that the last one counts.
pub(super) fn digits(value: f64) -> (Vec<u8>, i32) {
    let (value, lower, upper) = with_neighbours(value);
    let power = power_for(upper.exponent);
    let ten = Scaled { fraction: POWERS[power], exponent: power_exponent(power) };
    let (value, mut lower, mut upper) = (value.times(ten), lower.times(ten), upper.times(ten));
    // Products are off by less than one: what lies between these is safe.
    lower.fraction += 1;
    upper.fraction -= 1;
    let window = Window {
        upper: upper.fraction,
        value_below: upper.fraction - value.fraction,
        lower_below: upper.fraction - lower.fraction,
        point: upper.exponent.unsigned_abs(),
    };
    let (digits, last) = window.digits();
    (digits, last - power_of_ten(power))
}

/// `fraction * 2^exponent`.
#[derive(Clone, Copy)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

impl Scaled {
    /// The same with the highest bit set.
    fn normalised(self) -> Self {
        self.shifted_up(self.fraction.leading_zeros())
    }

    fn shifted_up(self, bits: u32) -> Self {
        Self { fraction: self.fraction << bits, exponent: self.exponent - bits as i32 }
    }

    /// The product, rounded to 64 bits.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction);
        let fraction = ((product + (1 << 63)) >> 64) as u64;
        Self { fraction, exponent: self.exponent + other.exponent + 64 }
    }
}

/// The double, and the places half-way to its neighbours below and above, all of one exponent.
fn with_neighbours(value: f64) -> (Scaled, Scaled, Scaled) {
    const HIDDEN: u64 = 1 << 52;
    let bits = value.to_bits();
    let (fraction, exponent) = (bits & (HIDDEN - 1), (bits >> 52 & 0x7ff) as i32);
    let (fraction, exponent) =
        if exponent == 0 { (fraction, -1074) } else { (fraction | HIDDEN, exponent - 1075) };
    let upper = Scaled { fraction: (fraction << 1) + 1, exponent: exponent - 1 }.normalised();
    // The neighbour below a power of two is only half as far.
    let down = if fraction == HIDDEN { 2 } else { 1 };
    let lower = Scaled { fraction: (fraction << down) - 1, exponent: exponent - down };
    let lower = lower.shifted_up((lower.exponent - upper.exponent) as u32);
    (Scaled { fraction, exponent }.normalised(), lower, upper)
}

/// Where digits may stop: anywhere between two places around the value. All are fixed-point numbers
/// with the same `point` bits behind it.
struct Window {
    upper: u64,
    /// How far the value lies below the upper place.
    value_below: u64,
    /// How far the lower place lies below the upper one.
    lower_below: u64,
    point: u32,
}

impl Window {
    /// As few digits as bring the number into the window from below, the last one then moved towards
    /// the value; and the power of ten it counts.
    fn digits(&self) -> (Vec<u8>, i32) {
        let one = 1u64 << self.point;
        let (mut whole, mut rest) = (self.upper >> self.point, self.upper & (one - 1));
        let mut digits = Vec::with_capacity(18);
        for power in (0..10).rev() {
            let unit = 10u64.pow(power);
            push_digit(&mut digits, whole / unit);
            whole %= unit;
            let left = (whole << self.point) + rest;
            if left <= self.lower_below {
                let (unit, value_below) = (unit << self.point, self.value_below);
                approach(&mut digits, self.lower_below, left, unit, value_below);
                return (digits, power as i32);
            }
        }
        let (mut lower_below, mut scale) = (self.lower_below, 1u64);
        for power in (i32::MIN..0).rev() {
            rest *= 10;
            lower_below *= 10;
            scale = scale.wrapping_mul(10);
            push_digit(&mut digits, rest >> self.point);
            rest &= one - 1;
            if rest < lower_below {
                let value_below = self.value_below.wrapping_mul(scale);
                approach(&mut digits, lower_below, rest, one, value_below);
                return (digits, power);
            }
        }
        unreachable!("the window has a width")
    }
}

/// Adds a digit, unless it is a zero at the start.
fn push_digit(digits: &mut Vec<u8>, digit: u64) {
    if digit != 0 || !digits.is_empty() {
        digits.push(b'0' + digit as u8);
    }
}

/// Lowers the last digit, which counts `unit`, for as long as that brings the number, now `left`
/// below the upper place, closer to the value and leaves it in the window.
fn approach(digits: &mut [u8], lower_below: u64, mut left: u64, unit: u64, value_below: u64) {
    let Some(last) = digits.last_mut() else { return };
    while left < value_below
        && lower_below - left >= unit
        && (left + unit < value_below || value_below - left > left + unit - value_below)
    {
        *last -= 1;
        left += unit;
    }
}

/// The power of ten of the first entry of [`POWERS`], and from one to the next.
const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;

/// The entry of [`POWERS`] that brings a number with this exponent between 2^-60 and 2^-32 times its
/// fraction. Where two would do, the one that Redis happens to find first.
fn power_for(exponent: i32) -> usize {
    const LOG10_OF_2: f64 = 0.301_029_995_663_981_14;
    let estimate = (f64::from(-(exponent + POWERS.len() as i32)) * LOG10_OF_2) as i32;
    let mut power = ((estimate - POWER_FIRST) / POWER_STEP) as usize;
    loop {
        match exponent + power_exponent(power) + 64 {
            ..-60 => power += 1,
            -60..=-32 => return power,
            _ => power -= 1,
        }
    }
}

fn power_of_ten(power: usize) -> i32 {
    POWER_FIRST + power as i32 * POWER_STEP
}

/// The exponent of two beside the fraction.
fn power_exponent(power: usize) -> i32 {
    // 1741647 / 2^19 is the binary logarithm of ten, near enough for these powers.
    ((power_of_ten(power) * 1_741_647) >> 19) - 63
}

/// Powers of ten as 64-bit fractions, rounded to nearest.
static POWERS: [u64; 87] = [
    0xfa8f_d5a0_081c_0288,
    0xbaae_e17f_a23e_bf76,
    0x8b16_fb20_3055_ac76,
    0xcf42_894a_5dce_35ea,
    0x9a6b_b0aa_5565_3b2d,
    0xe61a_cf03_3d1a_45df,
    0xab70_fe17_c79a_c6ca,
    0xff77_b1fc_bebc_dc4f,
    0xbe56_91ef_416b_d60c,
    0x8dd0_1fad_907f_fc3c,
    0xd351_5c28_3155_9a83,
    0x9d71_ac8f_ada6_c9b5,
    0xea9c_2277_23ee_8bcb,
    0xaecc_4991_4078_536d,
    0x823c_1279_5db6_ce57,
    0xc210_9436_4dfb_5637,
    0x9096_ea6f_3848_984f,
    0xd774_85cb_2582_3ac7,
    0xa086_cfcd_97bf_97f4,
    0xef34_0a98_172a_ace5,
    0xb238_67fb_2a35_b28e,
    0x84c8_d4df_d2c6_3f3b,
    0xc5dd_4427_1ad3_cdba,
    0x936b_9fce_bb25_c996,
    0xdbac_6c24_7d62_a584,
    0xa3ab_6658_0d5f_daf6,
    0xf3e2_f893_dec3_f126,
    0xb5b5_ada8_aaff_80b8,
    0x8762_5f05_6c7c_4a8b,
    0xc9bc_ff60_34c1_3053,
    0x964e_858c_91ba_2655,
    0xdff9_7724_7029_7ebd,
    0xa6df_bd9f_b8e5_b88f,
    0xf8a9_5fcf_8874_7d94,
    0xb944_7093_8fa8_9bcf,
    0x8a08_f0f8_bf0f_156b,
    0xcdb0_2555_6531_31b6,
    0x993f_e2c6_d07b_7fac,
    0xe45c_10c4_2a2b_3b06,
    0xaa24_2499_6973_92d3,
    0xfd87_b5f2_8300_ca0e,
    0xbce5_0864_9211_1aeb,
    0x8cbc_cc09_6f50_88cc,
    0xd1b7_1758_e219_652c,
    0x9c40_0000_0000_0000,
    0xe8d4_a510_0000_0000,
    0xad78_ebc5_ac62_0000,
    0x813f_3978_f894_0984,
    0xc097_ce7b_c907_15b3,
    0x8f7e_32ce_7bea_5c70,
    0xd5d2_38a4_abe9_8068,
    0x9f4f_2726_179a_2245,
    0xed63_a231_d4c4_fb27,
    0xb0de_6538_8cc8_ada8,
    0x83c7_088e_1aab_65db,
    0xc45d_1df9_4271_1d9a,
    0x924d_692c_a61b_e758,
    0xda01_ee64_1a70_8dea,
    0xa26d_a399_9aef_774a,
    0xf209_787b_b47d_6b85,
    0xb454_e4a1_79dd_1877,
    0x865b_8692_5b9b_c5c2,
    0xc835_53c5_c896_5d3d,
    0x952a_b45c_fa97_a0b3,
    0xde46_9fbd_99a0_5fe3,
    0xa59b_c234_db39_8c25,
    0xf6c6_9a72_a398_9f5c,
    0xb7dc_bf53_54e9_bece,
    0x88fc_f317_f222_41e2,
    0xcc20_ce9b_d35c_78a5,
    0x9816_5af3_7b21_53df,
    0xe2a0_b5dc_971f_303a,
    0xa8d9_d153_5ce3_b396,
    0xfb9b_7cd9_a4a7_443c,
    0xbb76_4c4c_a7a4_4410,
    0x8bab_8eef_b640_9c1a,
    0xd01f_ef10_a657_842c,
    0x9b10_a4e5_e991_3129,
    0xe710_9bfb_a19c_0c9d,
    0xac28_20d9_623b_f429,
    0x8044_4b5e_7aa7_cf85,
    0xbf21_e440_03ac_dd2d,
    0x8e67_9c2f_5e44_ff8f,
    0xd433_179d_9c8c_b841,
    0x9e19_db92_b4e3_1ba9,
    0xeb96_bf6e_badf_77d9,
    0xaf87_023b_9bf0_ee6b,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let (digits, last) = digits(value);
        format!("{}e{last}", String::from_utf8(digits).unwrap())
    }

    #[test]
    fn digits_are_those_that_redis_prints() {
        let rows = [
            (0.1, "1e-1"),
            (1.5, "15e-1"),
            (5e-324, "5e-324"),
            (2.2250738585072014e-308, "22250738585072014e-324"),
            (1.7976931348623157e308, "17976931348623157e292"),
            (9007199254740993.0, "9007199254740992e0"),
            // Where the shortest would do with a digit less, or with another.
            (29682.21659308372, "29682216593083722e-12"),
            (9.454282603214435e234, "9454282603214436e219"),
            (1e23, "9999999999999999e7"),
        ];
        for (value, wanted) in rows {
            assert_eq!(text(value), wanted);
        }
    }

    #[test]
    fn digits_read_back_as_the_same_double_and_are_few() {
        let (mut state, mut longer) = (1u64, 0);
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = f64::from_bits((state ^ state >> 29) >> 1);
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let text = text(value);
            assert_eq!(text.parse::<f64>(), Ok(value), "{text}");
            let shortest = format!("{value:e}").split('e').next().unwrap().replace('.', "").len();
            let count = text.split('e').next().unwrap().len();
            assert!((shortest..=17).contains(&count), "{text}");
            longer += u32::from(count > shortest);
        }
        assert!((50..1000).contains(&longer), "{longer}");
    }

    #[test]
    fn powers_are_rounded_to_nearest() {
        // Ten to the eighth times one power is the next, but for the rounding of both.
        for power in 1..POWERS.len() {
            let before = u128::from(POWERS[power - 1]) * 100_000_000;
            let shift = power_exponent(power) - power_exponent(power - 1);
            let difference = before.abs_diff(u128::from(POWERS[power]) << shift);
            assert!(difference <= 100_000_000 / 2 + (1 << (shift - 1)), "{power}");
        }
        assert_eq!((POWERS[44], power_of_ten(44)), (10_000 << 50, 4));
    }
}
