//! Finding rows by name: one probe, no allocation, any case.

use super::id::CommandId;
use super::spec::Spec;
use super::table::TABLE;

/// Entries of the index: a power of two, a few times the rows, so that probes stay short.
const BUCKETS: usize = 1024;
const EMPTY: u8 = u8::MAX;

/// Open addressing by [`hash`] of parent and short name; entries are places in the table.
static INDEX: [u8; BUCKETS] = index();

/// The row of a command by its name, which may be a container but not a subcommand.
#[must_use]
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    find(None, name)
}

/// The row of a subcommand.
#[must_use]
pub fn lookup_subcommand(container: CommandId, name: &[u8]) -> Option<&'static Spec> {
    find(Some(container), name)
}

/// The row of a full name such as `config|set`.
#[must_use]
pub fn lookup_full(name: &[u8]) -> Option<&'static Spec> {
    match memchr::memchr(b'|', name) {
        None => lookup(name),
        Some(bar) => lookup_subcommand(lookup(&name[..bar])?.id, &name[bar + 1..]),
    }
}

#[inline]
fn find(parent: Option<CommandId>, name: &[u8]) -> Option<&'static Spec> {
    let mut bucket = hash(parent, name);
    loop {
        let entry = INDEX[bucket % BUCKETS];
        if entry == EMPTY {
            return None;
        }
        let spec = &TABLE[usize::from(entry)];
        if spec.parent == parent && same(spec.short_name().as_bytes(), name) {
            return Some(spec);
        }
        bucket += 1;
    }
}

/// Whether `name` is `lower` in any case. Names are short: a loop beats the general comparison.
#[inline]
fn same(lower: &[u8], name: &[u8]) -> bool {
    lower.len() == name.len()
        && lower.iter().zip(name).all(|(lower, b)| *lower == b.to_ascii_lowercase())
}

/// Mixes parent, length, and the first and last bytes with the case bit set: enough to tell the
/// names of the table apart, and bounded for any name.
#[inline]
const fn hash(parent: Option<CommandId>, name: &[u8]) -> usize {
    let seed = match parent {
        None => 0,
        Some(id) => id.number() as u64,
    };
    let (front, back) = ends(name);
    const CASE_BITS: u64 = 0x2020_2020_2020_2020;
    let mixed = ((front | CASE_BITS) ^ seed.rotate_left(48))
        .wrapping_add((back | CASE_BITS).rotate_left(29))
        .wrapping_add(name.len() as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 54) as usize % BUCKETS
}

/// The first and the last bytes, up to eight each; they overlap in short names.
#[inline]
const fn ends(name: &[u8]) -> (u64, u64) {
    if let (Some(front), Some(back)) = (name.first_chunk(), name.last_chunk()) {
        return (u64::from_le_bytes(*front), u64::from_le_bytes(*back));
    }
    if let (Some(front), Some(back)) = (name.first_chunk(), name.last_chunk()) {
        return (u32::from_le_bytes(*front) as u64, u32::from_le_bytes(*back) as u64);
    }
    match name {
        [] => (0, 0),
        [first, .., last] => (*first as u64, (name[name.len() / 2] as u64) << 8 | *last as u64),
        [only] => (*only as u64, *only as u64),
    }
}

const fn index() -> [u8; BUCKETS] {
    assert!(TABLE.len() < EMPTY as usize && TABLE.len() * 4 < BUCKETS);
    let mut index = [EMPTY; BUCKETS];
    let mut i = 0;
    while i < TABLE.len() {
        if !TABLE[i].is_internal() {
            let mut bucket = hash(TABLE[i].parent, TABLE[i].short_name().as_bytes());
            while index[bucket % BUCKETS] != EMPTY {
                bucket += 1;
            }
            index[bucket % BUCKETS] = i as u8;
        }
        i += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_name_is_found_in_any_case() {
        for spec in TABLE.iter().filter(|s| !s.is_internal()) {
            let upper = spec.name.to_ascii_uppercase();
            assert_eq!(lookup_full(spec.name.as_bytes()).map(|s| s.id), Some(spec.id));
            assert_eq!(lookup_full(upper.as_bytes()).map(|s| s.id), Some(spec.id));
        }
    }

    #[test]
    fn other_names_are_not_found() {
        let names: [&[u8]; 9] = [
            b"",
            b"g",
            b"gets",
            b"config|",
            b"config|nosuch",
            b"_stage",
            b"_reclaim",
            b"G\0T",
            &[b'x'; 100_000],
        ];
        for name in names {
            assert!(lookup_full(name).is_none(), "{}", name.escape_ascii());
        }
        assert!(lookup(b"config|set").is_none(), "a subcommand is no command");
        assert!(lookup(b"set\x00").is_none());
        // `|0x20` maps these onto letters for hashing; the comparison must tell them apart.
        assert!(lookup(b"\x47\x45\x74").is_some());
        assert!(lookup(b"G\x05T").is_none());
    }

    #[test]
    fn probes_stay_short() {
        let longest = TABLE
            .iter()
            .filter(|s| !s.is_internal())
            .map(|s| {
                let start = hash(s.parent, s.short_name().as_bytes());
                let entry = |n: usize| INDEX[(start + n) % BUCKETS];
                (0..).take_while(|&n| TABLE[usize::from(entry(n))].id != s.id).count()
            })
            .max();
        assert!(longest <= Some(2), "{longest:?}");
    }
}
