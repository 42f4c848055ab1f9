//! Byte amounts as people write them.

/// Reads an amount such as `100`, `64kb`, `1g`, `512MiB` into bytes.
///
/// Units as in redis.conf, in any case: `k`, `m`, `g`, `t` are powers of 1000; `kb`, `mb`, `gb`,
/// `tb` (and `kib` ...) powers of 1024. Returns None for anything else, or past 2^64.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" | "kib" => 1 << 10,
        "m" => 1000 * 1000,
        "mb" | "mib" => 1 << 20,
        "g" => 1000 * 1000 * 1000,
        "gb" | "gib" => 1 << 30,
        "t" => 1000 * 1000 * 1000 * 1000,
        "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// An amount for people, as INFO's `_human` fields print it: `1.50G`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    for (scale, unit) in UNITS {
        if bytes >= scale {
            return format!("{:.2}{unit}", bytes as f64 / scale as f64);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_units_of_redis_conf() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("1k", Some(1000)),
            ("1kb", Some(1024)),
            ("1KB", Some(1024)),
            ("5GB", Some(5 << 30)),
            ("1g", Some(1_000_000_000)),
            ("512 MiB", Some(512 << 20)),
            ("2tb", Some(2 << 40)),
            ("", None),
            ("gb", None),
            ("-1", None),
            ("1.5gb", None),
            ("1x", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184gb", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn prints_amounts_as_info_does() {
        assert_eq!(human_bytes(900), "900B");
        assert_eq!(human_bytes(1024), "1.00K");
        assert_eq!(human_bytes(3 << 29), "1.50G");
    }
}
