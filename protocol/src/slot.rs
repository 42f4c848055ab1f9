//! Hash slots: which of the 16384 a key belongs to.
//!
//! Source: the Redis cluster specification, "Key distribution model" and "Hash tags".

use std::fmt;

/// How many hash slots there are.
pub const SLOTS: u16 = 16384;

/// A hash slot, always below [`SLOTS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u16);

impl SlotId {
    /// The slot of that number, or `None` from [`SLOTS`] on.
    #[must_use]
    pub const fn new(slot: u16) -> Option<Self> {
        if slot < SLOTS { Some(Self(slot)) } else { None }
    }

    /// The number, below [`SLOTS`].
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slot that `key` belongs to: CRC16 of its hash tag, modulo 16384.
#[must_use]
pub fn slot_of(key: &[u8]) -> SlotId {
    SlotId(crc16(hash_tag(key)) % SLOTS)
}

/// The part of `key` that decides its slot: what stands between the first `{` and the first `}`
/// after it, unless that is empty or missing; then the whole key.
#[must_use]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let rest = &key[open + 1..];
    match memchr::memchr(b'}', rest) {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

/// CRC-16/XMODEM (polynomial 0x1021, initial value 0, not reflected), eight bytes a step.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let (eights, rest) = bytes.as_chunks::<8>();
    for b in eights {
        let [high, low] = crc.to_be_bytes();
        crc = TABLES[7][usize::from(b[0] ^ high)]
            ^ TABLES[6][usize::from(b[1] ^ low)]
            ^ TABLES[5][usize::from(b[2])]
            ^ TABLES[4][usize::from(b[3])]
            ^ TABLES[3][usize::from(b[4])]
            ^ TABLES[2][usize::from(b[5])]
            ^ TABLES[1][usize::from(b[6])]
            ^ TABLES[0][usize::from(b[7])];
    }
    for &b in rest {
        crc = (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ b)];
    }
    crc
}

/// `TABLES[n][b]` is the CRC of byte `b` followed by `n` zero bytes.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[n - 1][byte];
            tables[n][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitwise(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, &b| {
            (0..8).fold(crc ^ (u16::from(b) << 8), |c: u16, _| {
                if c & 0x8000 == 0 { c << 1 } else { (c << 1) ^ 0x1021 }
            })
        })
    }

    #[test]
    fn crc16_agrees_with_the_definition_at_every_length() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the check value of the cluster specification");
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * 37 + 11) as u8).collect();
        for end in 0..=bytes.len() {
            assert_eq!(crc16(&bytes[..end]), bitwise(&bytes[..end]), "length {end}");
        }
    }

    #[test]
    fn hash_tags_follow_the_specification() {
        let rows: [(&str, &str); 8] = [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("", ""),
            ("{", "{"),
            ("}{", "}{"),
            ("a}b{c}", "c"),
        ];
        for (key, tag) in rows {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn slots_are_those_redis_answers() {
        // Answers of CLUSTER KEYSLOT.
        assert_eq!(slot_of(b"foo").get(), 12182);
        assert_eq!(slot_of(b"somekey").get(), 11058);
        assert_eq!(slot_of(b"foo{hash_tag}").get(), 2515);
        assert_eq!(slot_of(b"").get(), 0);
        assert_eq!(SlotId::new(16383).map(SlotId::get), Some(16383));
        assert_eq!(SlotId::new(16384), None);
    }
}
