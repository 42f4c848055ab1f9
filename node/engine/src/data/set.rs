//! Sets: which encoding one reports.
//!
//! As in Redis 7.2, a set of few integers is an `intset`, one of few short members a `listpack`, any
//! other a `hashtable`, and it never goes back. How it is kept does not depend on that: see
//! [`members`](super::members).

use cairn_protocol::number::parse_i64;
use cairn_store::Encoding;

use super::limits::SetLimits;
use super::members::{MembersEdit, Stop};

/// The encoding of a set that begins with `first` and is about to get `count` members.
pub(crate) fn encoding_for(limits: SetLimits, first: &[u8], count: u64) -> Encoding {
    if count <= limits.intset_entries && parse_i64(first).is_some() {
        Encoding::Intset
    } else if count <= limits.listpack.entries {
        Encoding::Listpack
    } else {
        Encoding::Hashtable
    }
}

/// Whether a set of that encoding becomes a hashtable because so many members are being added at
/// once, new or not.
pub(crate) fn is_too_small_for(limits: SetLimits, encoding: Encoding, count: u64) -> bool {
    match encoding {
        Encoding::Intset => count > limits.intset_entries,
        Encoding::Listpack => count > limits.listpack.entries,
        _ => false,
    }
}

/// The encoding of a set that has got `member` and has `len` members now.
#[inline]
pub(crate) fn encoding_with(
    limits: SetLimits,
    encoding: Encoding,
    member: &[u8],
    len: u64,
) -> Encoding {
    match encoding {
        Encoding::Intset if parse_i64(member).is_some() => {
            if len <= limits.intset_entries {
                encoding
            } else {
                Encoding::Hashtable
            }
        }
        Encoding::Intset | Encoding::Listpack => {
            let fits = len <= limits.listpack.entries && !limits.listpack.is_long(member);
            if fits { Encoding::Listpack } else { Encoding::Hashtable }
        }
        larger => larger,
    }
}

/// The encoding of a set with these members, whatever the order in which it gets them.
pub(crate) fn encoding_of<'m>(
    limits: SetLimits,
    members: impl Iterator<Item = &'m [u8]>,
) -> Encoding {
    members.zip(1..).fold(Encoding::Intset, |encoding, (member, len)| {
        encoding_with(limits, encoding, member, len)
    })
}

/// Adds a member; says whether it is new.
#[inline]
pub(crate) fn add(
    limits: SetLimits,
    set: &mut MembersEdit<'_, '_>,
    member: &[u8],
) -> Result<bool, Stop> {
    let added = set.put(member, b"")?;
    if added {
        let (before, len) = (set.encoding(), set.len());
        let after = encoding_with(limits, before, member, len);
        if after != before {
            set.set_encoding(after);
        }
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::*;

    #[test]
    fn encodings_depend_on_what_is_in_a_set_not_on_its_order() {
        let numbers = |n: i64| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
        let words = |n: i64| (0..n).map(|n| format!("w{n}")).collect::<Vec<_>>();
        let mixed = |n, w| [numbers(n), words(w)].concat();
        let rows = [
            (numbers(512), Encoding::Intset),
            (numbers(513), Encoding::Hashtable),
            (words(128), Encoding::Listpack),
            (words(129), Encoding::Hashtable),
            (mixed(127, 1), Encoding::Listpack),
            (mixed(128, 1), Encoding::Hashtable),
            (mixed(300, 1), Encoding::Hashtable),
            (vec!["x".repeat(64)], Encoding::Listpack),
            (vec!["x".repeat(65)], Encoding::Hashtable),
            (vec!["01".to_owned()], Encoding::Listpack),
        ];
        let limits = Limits::defaults().set();
        for (members, wanted) in rows {
            let (first, len) = (&members[0], members.len());
            let forward = members.iter().map(String::as_bytes);
            assert_eq!(encoding_of(limits, forward.clone()), wanted, "{len} from {first}");
            assert_eq!(encoding_of(limits, forward.rev()), wanted, "{len} to {first}");
        }
    }
}
