//! Rows of the hash commands.

use crate::command::id::CommandId as Id;
use crate::command::spec::{
    Arg, ArgType, Categories, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec,
};

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::HSet, "hset", -4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Hash, "2.0.0")
        .summary("Creates or modifies the value of a field in a hash.")
        .complexity(
            "O(1) for each field/value pair added, so O(N) to add N field/value pairs when \
             the command is called with multiple field/value pairs.",
        )
        .history(&[("4.0.0", "Accepts multiple `field` and `value` arguments.")])
        .args(&[
            Arg::key("key", 0),
            Arg::block(
                "field_value",
                &[Arg::value("field", ArgType::String), Arg::value("value", ArgType::String)],
            )
            .multiple(),
        ]),
    Spec::new(Id::HSetNx, "hsetnx", 4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::Hash, "2.0.0")
        .summary("Sets the value of a field in a hash only when the field doesn't exist.")
        .complexity("O(1)")
        .args(&[
            Arg::key("key", 0),
            Arg::value("field", ArgType::String),
            Arg::value("value", ArgType::String),
        ]),
    Spec::new(Id::HGet, "hget", 3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Bulk)
        .docs(Group::Hash, "2.0.0")
        .summary("Returns the value of a field in a hash.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("field", ArgType::String)]),
    Spec::new(Id::HMGet, "hmget", -3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Array)
        .docs(Group::Hash, "2.0.0")
        .summary("Returns the values of all fields in a hash.")
        .complexity("O(N) where N is the number of fields being requested.")
        .args(&[Arg::key("key", 0), Arg::value("field", ArgType::String).multiple()]),
    Spec::new(Id::HMSet, "hmset", -4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Simple)
        .docs(Group::Hash, "2.0.0")
        .summary("Sets the values of multiple fields.")
        .complexity("O(N) where N is the number of fields being set.")
        .deprecated("4.0.0", "`HSET` with multiple field-value pairs")
        .args(&[
            Arg::key("key", 0),
            Arg::block(
                "field_value",
                &[Arg::value("field", ArgType::String), Arg::value("value", ArgType::String)],
            )
            .multiple(),
        ]),
    Spec::new(Id::HGetAll, "hgetall", 2, Place::Read)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Map)
        .docs(Group::Hash, "2.0.0")
        .summary("Returns all fields and values in a hash.")
        .complexity("O(N) where N is the size of the hash.")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::HDel, "hdel", -3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::DELETE))])
        .reply(Reply::Integer)
        .docs(Group::Hash, "2.0.0")
        .summary(
            "Deletes one or more fields and their values from a hash. Deletes the hash if \
             no fields remain.",
        )
        .complexity("O(N) where N is the number of fields to be removed.")
        .history(&[("2.4.0", "Accepts multiple `field` arguments.")])
        .args(&[Arg::key("key", 0), Arg::value("field", ArgType::String).multiple()]),
    Spec::new(Id::HLen, "hlen", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::Hash, "2.0.0")
        .summary("Returns the number of fields in a hash.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::HExists, "hexists", 3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::Hash, "2.0.0")
        .summary("Determines whether a field exists in a hash.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("field", ArgType::String)]),
    Spec::new(Id::HKeys, "hkeys", 2, Place::Read)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Hash, "2.0.0")
        .summary("Returns all fields in a hash.")
        .complexity("O(N) where N is the size of the hash.")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::HVals, "hvals", 2, Place::Read)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Hash, "2.0.0")
        .summary("Returns all values in a hash.")
        .complexity("O(N) where N is the size of the hash.")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::HIncrBy, "hincrby", 4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Hash, "2.0.0")
        .summary(
            "Increments the integer value of a field in a hash by a number. Uses 0 as \
             initial value if the field doesn't exist.",
        )
        .complexity("O(1)")
        .args(&[
            Arg::key("key", 0),
            Arg::value("field", ArgType::String),
            Arg::value("increment", ArgType::Integer),
        ]),
    Spec::new(Id::HIncrByFloat, "hincrbyfloat", 4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Bulk)
        .docs(Group::Hash, "2.6.0")
        .summary(
            "Increments the floating point value of a field by a number. Uses 0 as initial \
             value if the field doesn't exist.",
        )
        .complexity("O(1)")
        .args(&[
            Arg::key("key", 0),
            Arg::value("field", ArgType::String),
            Arg::value("increment", ArgType::Double),
        ]),
    Spec::new(Id::HStrLen, "hstrlen", 3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::Hash, "3.2.0")
        .summary("Returns the length of the value of a field.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("field", ArgType::String)]),
    Spec::new(Id::HScan, "hscan", -3, Place::Read)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Array)
        .docs(Group::Hash, "2.8.0")
        .summary("Iterates over fields and values of a hash.")
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
    Spec::new(Id::HRandField, "hrandfield", -2, Place::Read)
        .acl(Categories::HASH)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output"])
        .docs(Group::Hash, "6.2.0")
        .summary("Returns one or more random fields from a hash.")
        .complexity("O(N) where N is the number of fields returned")
        .args(&[
            Arg::key("key", 0),
            Arg::block(
                "options",
                &[
                    Arg::value("count", ArgType::Integer),
                    Arg::flag("withvalues", "WITHVALUES").optional(),
                ],
            )
            .optional(),
        ]),
];
