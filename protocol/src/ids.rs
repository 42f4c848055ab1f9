//! The numbers by which nodes, shards and log positions are known: one type each, so that an index
//! is never taken for a term.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }
    };
}

id! {
    /// A node of the cluster. Never reused: a wiped node comes back under a new one.
    NodeId(u64)
}
id! {
    /// A shard: one Raft group, holding a set of hash slots.
    ShardId(u32)
}
id! {
    /// A commit epoch of a pool.
    Epoch(u64)
}
id! {
    /// A position in a shard's log, from 1; 0 is "before the first".
    LogIndex(u64)
}
id! {
    /// A Raft term.
    Term(u64)
}

/// A cluster: drawn once at its birth. Nodes that belong to none yet say [`ClusterId::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// Of no cluster yet.
    pub const NONE: Self = Self([0; 16]);

    /// Whether a node under this id belongs to no cluster yet.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// Thirty-two hexadecimal digits.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl ShardId {
    /// Stands where a message concerns a node, not one of its shards.
    pub const NONE: Self = Self(u32::MAX);
}

impl LogIndex {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_their_numbers_and_order_by_them() {
        assert_eq!(NodeId(7).to_string(), "7");
        assert_eq!(format!("{:>4}", ShardId(12)), "  12");
        assert!(LogIndex(2) < LogIndex(10));
        assert_eq!(LogIndex(2).next(), LogIndex(3));
        assert_eq!(Term::default(), Term(0));
        assert_eq!(Epoch::from(9), Epoch(9));
        assert_eq!(ClusterId([0xa5; 16]).to_string(), "a5".repeat(16));
        assert!(ClusterId::default().is_none() && !ClusterId([1; 16]).is_none());
    }
}
