//! Sets: which encoding one reports.
//!
//! As in Redis 7.2, a set of few integers is an `intset`, one of few short members a `listpack`, any
//! other a `hashtable`, and it never goes back. How it is kept does not depend on that: see
//! [`members`](super::members).

use cairn_protocol::number::parse_i64;
use cairn_store::Encoding;

use super::limits::{
    SET_INTSET_ENTRIES_MAX, SET_LISTPACK_ENTRIES_MAX, SET_LISTPACK_VALUE_BYTES_MAX,
};
use super::members::{MembersEdit, Stop};

/// The encoding of a set that begins with `first` and is about to get `count` members.
pub(crate) fn encoding_for(first: &[u8], count: u64) -> Encoding {
    if count <= SET_INTSET_ENTRIES_MAX && parse_i64(first).is_some() {
        Encoding::Intset
    } else if count <= SET_LISTPACK_ENTRIES_MAX {
        Encoding::Listpack
    } else {
        Encoding::Hashtable
    }
}

/// Whether a set of that encoding becomes a hashtable because so many members are being added at
/// once, new or not.
pub(crate) fn is_too_small_for(encoding: Encoding, count: u64) -> bool {
    match encoding {
        Encoding::Intset => count > SET_INTSET_ENTRIES_MAX,
        Encoding::Listpack => count > SET_LISTPACK_ENTRIES_MAX,
        _ => false,
    }
}

/// The encoding of a set that has got `member` and has `len` members now.
#[inline]
pub(crate) fn encoding_with(encoding: Encoding, member: &[u8], len: u64) -> Encoding {
    match encoding {
        Encoding::Intset if parse_i64(member).is_some() => {
            if len <= SET_INTSET_ENTRIES_MAX {
                encoding
            } else {
                Encoding::Hashtable
            }
        }
        Encoding::Intset | Encoding::Listpack => {
            let fits =
                len <= SET_LISTPACK_ENTRIES_MAX && member.len() <= SET_LISTPACK_VALUE_BYTES_MAX;
            if fits { Encoding::Listpack } else { Encoding::Hashtable }
        }
        larger => larger,
    }
}

/// The encoding of a set with these members, whatever the order in which it gets them.
pub(crate) fn encoding_of<'m>(members: impl Iterator<Item = &'m [u8]>) -> Encoding {
    members
        .zip(1..)
        .fold(Encoding::Intset, |encoding, (member, len)| encoding_with(encoding, member, len))
}

/// Adds a member; says whether it is new.
#[inline]
pub(crate) fn add(set: &mut MembersEdit<'_, '_>, member: &[u8]) -> Result<bool, Stop> {
    let added = set.put(member, b"")?;
    if added {
        let (before, len) = (set.encoding(), set.len());
        let after = encoding_with(before, member, len);
        if after != before {
            set.set_encoding(after);
        }
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
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
        for (members, wanted) in rows {
            let (first, len) = (&members[0], members.len());
            let forward = members.iter().map(String::as_bytes);
            assert_eq!(encoding_of(forward.clone()), wanted, "{len} from {first}");
            assert_eq!(encoding_of(forward.rev()), wanted, "{len} to {first}");
        }
    }
}
