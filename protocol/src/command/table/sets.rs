//! Rows of the set commands.

use crate::command::id::CommandId as Id;
use crate::command::spec::{
    Arg, ArgType, Begin, Categories, Find, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec,
};

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::SAdd, "sadd", -3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary("Adds one or more members to a set. Creates the key if it doesn't exist.")
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command is \
             called with multiple arguments.",
        )
        .history(&[("2.4.0", "Accepts multiple `member` arguments.")])
        .args(&[Arg::key("key", 0), Arg::value("member", ArgType::String).multiple()]),
    Spec::new(Id::SRem, "srem", -3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::DELETE))])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary(
            "Removes one or more members from a set. Deletes the set if the last member was \
             removed.",
        )
        .complexity("O(N) where N is the number of members to be removed.")
        .history(&[("2.4.0", "Accepts multiple `member` arguments.")])
        .args(&[Arg::key("key", 0), Arg::value("member", ArgType::String).multiple()]),
    Spec::new(Id::SIsMember, "sismember", 3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary("Determines whether a member belongs to a set.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("member", ArgType::String)]),
    Spec::new(Id::SMIsMember, "smismember", -3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Array)
        .docs(Group::Set, "6.2.0")
        .summary("Determines whether multiple members belong to a set.")
        .complexity("O(N) where N is the number of elements being checked for membership")
        .args(&[Arg::key("key", 0), Arg::value("member", ArgType::String).multiple()]),
    Spec::new(Id::SCard, "scard", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary("Returns the number of members in a set.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::SMembers, "smembers", 2, Place::Read)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Set, "1.0.0")
        .summary("Returns all members of a set.")
        .complexity("O(N) where N is the set cardinality.")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::SPop, "spop", -2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
        .tips(&["nondeterministic_output"])
        .docs(Group::Set, "1.0.0")
        .summary(
            "Returns one or more random members from a set after removing them. Deletes the \
             set if the last member was popped.",
        )
        .complexity(
            "Without the count argument O(1), otherwise O(N) where N is the value of the \
             passed count.",
        )
        .history(&[("3.2.0", "Added the `count` argument.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("count", ArgType::Integer).since("3.2.0").optional(),
        ]),
    Spec::new(Id::SRandMember, "srandmember", -2, Place::Read)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output"])
        .docs(Group::Set, "1.0.0")
        .summary("Gets one or multiple random members from a set.")
        .complexity(
            "Without the count argument O(1), otherwise O(N) where N is the absolute value \
             of the passed count.",
        )
        .history(&[("2.6.0", "Added the optional `count` argument.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("count", ArgType::Integer).since("2.6.0").optional(),
        ]),
    Spec::new(Id::SMove, "smove", 4, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::SET)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
            KeySpec::range(2, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT)),
        ])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary("Moves a member from one set to another.")
        .complexity("O(1)")
        .args(&[
            Arg::key("source", 0),
            Arg::key("destination", 1),
            Arg::value("member", ArgType::String),
        ]),
    Spec::new(Id::SInter, "sinter", -2, Place::Read)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Set, "1.0.0")
        .summary("Returns the intersect of multiple sets.")
        .complexity(
            "O(N*M) worst case where N is the cardinality of the smallest set and M is the \
             number of sets.",
        )
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::SInterCard, "sintercard", -3, Place::Read)
        .flags(Flags::MOVABLEKEYS)
        .acl(Categories::SET)
        .keys(&[KeySpec {
            flags: KeyFlags::RO.or(KeyFlags::ACCESS),
            begin: Begin::Index(1),
            find: Find::Count { count: 0, first: 1, step: 1 },
            notes: "",
        }])
        .reply(Reply::Integer)
        .docs(Group::Set, "7.0.0")
        .summary("Returns the number of members of the intersect of multiple sets.")
        .complexity(
            "O(N*M) worst case where N is the cardinality of the smallest set and M is the \
             number of sets.",
        )
        .args(&[
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 0).multiple(),
            Arg::value("limit", ArgType::Integer).token("LIMIT").optional(),
        ]),
    Spec::new(Id::SInterStore, "sinterstore", -3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::SET)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE)),
            KeySpec::range(2, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary("Stores the intersect of multiple sets in a key.")
        .complexity(
            "O(N*M) worst case where N is the cardinality of the smallest set and M is the \
             number of sets.",
        )
        .args(&[Arg::key("destination", 0), Arg::key("key", 1).multiple()]),
    Spec::new(Id::SUnion, "sunion", -2, Place::Read)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Set, "1.0.0")
        .summary("Returns the union of multiple sets.")
        .complexity("O(N) where N is the total number of elements in all given sets.")
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::SUnionStore, "sunionstore", -3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::SET)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::range(2, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary("Stores the union of multiple sets in a key.")
        .complexity("O(N) where N is the total number of elements in all given sets.")
        .args(&[Arg::key("destination", 0), Arg::key("key", 1).multiple()]),
    Spec::new(Id::SDiff, "sdiff", -2, Place::Read)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Set, "1.0.0")
        .summary("Returns the difference of multiple sets.")
        .complexity("O(N) where N is the total number of elements in all given sets.")
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::SDiffStore, "sdiffstore", -3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::SET)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::range(2, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ])
        .reply(Reply::Integer)
        .docs(Group::Set, "1.0.0")
        .summary("Stores the difference of multiple sets in a key.")
        .complexity("O(N) where N is the total number of elements in all given sets.")
        .args(&[Arg::key("destination", 0), Arg::key("key", 1).multiple()]),
    Spec::new(Id::SScan, "sscan", -3, Place::Read)
        .acl(Categories::SET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Array)
        .docs(Group::Set, "2.8.0")
        .summary("Iterates over members of a set.")
        .complexity(
            "O(1) for every call. O(N) for a complete iteration, including enough command \
             calls for the cursor to return back to 0. N is the number of elements inside \
             the collection..",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::value("cursor", ArgType::Integer),
            Arg::value("pattern", ArgType::Pattern).token("MATCH").optional(),
            Arg::value("count", ArgType::Integer).token("COUNT").optional(),
        ]),
];
