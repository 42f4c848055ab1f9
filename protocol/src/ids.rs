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
    }
}
