//! Sizes at which Redis changes the encoding it reports.
//!
//! Replicas must agree on the encodings they report, so these are no node's own settings: they lie
//! in the shard's root, and an operation of the log changes them. What a value has once become it
//! stays, as in Redis.

use cairn_store::{Store, View};

/// What a limit may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// A number of elements.
    Count,
    /// A number of bytes.
    Bytes,
    /// `list-max-listpack-size`: elements, or -1 to -5 for 4 to 64 KiB.
    Size,
    /// `list-compress-depth`, which nothing here depends on.
    Depth,
}

/// One limit.
#[derive(Debug)]
pub struct Limit {
    /// Redis's name.
    pub name: &'static str,
    /// Redis's older name, if there is one.
    pub alias: Option<&'static str>,
    /// Redis 7.2's value.
    pub default: i64,
    /// What it may be.
    pub kind: LimitKind,
}

const fn limit(
    name: &'static str,
    alias: Option<&'static str>,
    default: i64,
    kind: LimitKind,
) -> Limit {
    Limit { name, alias, default, kind }
}

/// Every limit. The place of each is its number in the root: new ones come last.
pub static LIMITS: [Limit; 9] = [
    limit("hash-max-listpack-entries", Some("hash-max-ziplist-entries"), 512, LimitKind::Count),
    limit("hash-max-listpack-value", Some("hash-max-ziplist-value"), 64, LimitKind::Bytes),
    limit("set-max-intset-entries", None, 512, LimitKind::Count),
    limit("set-max-listpack-entries", None, 128, LimitKind::Count),
    limit("set-max-listpack-value", None, 64, LimitKind::Bytes),
    limit("zset-max-listpack-entries", Some("zset-max-ziplist-entries"), 128, LimitKind::Count),
    limit("zset-max-listpack-value", Some("zset-max-ziplist-value"), 64, LimitKind::Bytes),
    limit("list-max-listpack-size", Some("list-max-ziplist-size"), -2, LimitKind::Size),
    limit("list-compress-depth", None, 0, LimitKind::Depth),
];

/// When a listpack becomes something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listpack {
    /// More entries than this.
    pub(crate) entries: u64,
    /// Or one longer than this.
    pub(crate) value_bytes: u64,
}

impl Listpack {
    /// Whether a text is too long for it.
    #[inline]
    pub(crate) fn is_long(self, text: &[u8]) -> bool {
        text.len() as u64 > self.value_bytes
    }
}

/// When a list becomes a quicklist: more than either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListLimit {
    pub(crate) bytes: u64,
    pub(crate) elements: u64,
}

impl ListLimit {
    /// What a quicklist must have shrunk to before it is a listpack again: half, though where the
    /// limit is a count, bytes do not matter.
    #[inline]
    pub(crate) fn shrunk(self) -> ListLimit {
        let by_count = self.elements != u64::MAX;
        ListLimit {
            bytes: if by_count { u64::MAX } else { self.bytes / 2 },
            elements: self.elements / 2,
        }
    }
}

/// What decides the encodings of sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SetLimits {
    /// More members than this make an intset something else.
    pub(crate) intset_entries: u64,
    /// When a set becomes a hashtable.
    pub(crate) listpack: Listpack,
}

/// The limits as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([i64; LIMITS.len()]);

impl Limits {
    /// What the shard says.
    pub fn of(view: &View<'_>) -> Limits {
        Limits(std::array::from_fn(|number| {
            view.setting(number).map_or(LIMITS[number].default, |value| value as i64)
        }))
    }

    /// Redis 7.2's.
    pub fn defaults() -> Limits {
        Limits(LIMITS.each_ref().map(|limit| limit.default))
    }

    /// The value of limit `number`.
    pub fn get(&self, number: usize) -> Option<i64> {
        self.0.get(number).copied()
    }

    fn listpack(&self, first: usize) -> Listpack {
        Listpack { entries: self.0[first] as u64, value_bytes: self.0[first + 1] as u64 }
    }

    /// When a hash becomes a hashtable.
    #[inline]
    pub(crate) fn hash(&self) -> Listpack {
        self.listpack(0)
    }

    /// What decides the encodings of sets.
    #[inline]
    pub(crate) fn set(&self) -> SetLimits {
        SetLimits { intset_entries: self.0[2] as u64, listpack: self.listpack(3) }
    }

    /// When a sorted set becomes a skiplist.
    #[inline]
    pub(crate) fn zset(&self) -> Listpack {
        self.listpack(5)
    }

    /// What is too much for a listpack that is a list. Source: `quicklistNodeLimit`, and
    /// `quicklistNodeExceedsLimit` for what limits a list by count.
    #[inline]
    pub(crate) fn list(&self) -> ListLimit {
        match self.0[7] {
            count @ 0.. => ListLimit { bytes: 8 << 10, elements: count.max(1) as u64 },
            size => {
                let bytes = 2 << 10 << size.saturating_neg().min(5);
                ListLimit { bytes, elements: u64::MAX }
            }
        }
    }
}

/// Changes limit `number`, which must be one of [`LIMITS`].
pub(crate) fn set(store: &mut Store, number: usize, value: i64) -> cairn_store::Result<()> {
    let is_default = LIMITS.get(number).is_some_and(|limit| limit.default == value);
    store.set_setting(number, (!is_default).then_some(value as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_limited_by_bytes_or_by_count() {
        let limit = |size| {
            let mut limits = Limits::defaults();
            limits.0[7] = size;
            limits.list()
        };
        assert_eq!(Limits::defaults().list(), limit(-2));
        let rows = [(-1, 4), (-2, 8), (-3, 16), (-4, 32), (-5, 64), (-6, 64), (i64::MIN, 64)];
        for (size, kib) in rows {
            assert_eq!(limit(size), ListLimit { bytes: kib << 10, elements: u64::MAX }, "{size}");
            assert_eq!(limit(size).shrunk().bytes, kib << 9, "{size}");
        }
        for (size, elements) in [(0, 1), (1, 1), (100, 100)] {
            assert_eq!(limit(size), ListLimit { bytes: 8 << 10, elements }, "{size}");
            let shrunk = ListLimit { bytes: u64::MAX, elements: elements / 2 };
            assert_eq!(limit(size).shrunk(), shrunk, "{size}");
        }
    }
}
