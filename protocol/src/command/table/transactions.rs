//! Rows of the commands that make several commands one.

use crate::command::id::CommandId as Id;
use crate::command::spec::{Arg, Categories, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec};

const ANYTIME: Flags =
    Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST).or(Flags::ALLOW_BUSY);

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::Multi, "multi", 1, Place::Server)
        .flags(ANYTIME)
        .acl(Categories::TRANSACTION)
        .reply(Reply::Simple)
        .docs(Group::Transactions, "1.2.0")
        .summary("Starts a transaction.")
        .complexity("O(1)"),
    Spec::new(Id::Exec, "exec", 1, Place::Server)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::SKIP_SLOWLOG))
        .acl(Categories::TRANSACTION)
        .reply(Reply::Array)
        .docs(Group::Transactions, "1.2.0")
        .summary("Executes all commands in a transaction.")
        .complexity("Depends on commands in the transaction"),
    Spec::new(Id::Discard, "discard", 1, Place::Server)
        .flags(ANYTIME)
        .acl(Categories::TRANSACTION)
        .reply(Reply::Simple)
        .docs(Group::Transactions, "2.0.0")
        .summary("Discards a transaction.")
        .complexity("O(N), when N is the number of queued commands"),
    Spec::new(Id::Watch, "watch", -2, Place::Server)
        .flags(ANYTIME)
        .acl(Categories::TRANSACTION)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RO)])
        .reply(Reply::Simple)
        .docs(Group::Transactions, "2.2.0")
        .summary("Monitors changes to keys to determine the execution of a transaction.")
        .complexity("O(1) for every key.")
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::Unwatch, "unwatch", 1, Place::Server)
        .flags(ANYTIME)
        .acl(Categories::TRANSACTION)
        .reply(Reply::Simple)
        .docs(Group::Transactions, "2.2.0")
        .summary("Forgets about watched keys of a transaction.")
        .complexity("O(1)"),
];
