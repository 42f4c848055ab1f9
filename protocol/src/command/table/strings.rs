//! Rows of the string commands.

use crate::command::id::CommandId as Id;
use crate::command::spec::{
    Arg, ArgType, Categories, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec,
};

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::Get, "get", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Bulk)
        .docs(Group::String, "1.0.0")
        .summary("Returns the string value of a key.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Set, "set", -3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(
            1,
            0,
            1,
            KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE).or(KeyFlags::VARIABLE_FLAGS),
        )
        .notes("RW and ACCESS due to the optional `GET` argument")])
        .docs(Group::String, "1.0.0")
        .summary(
            "Sets the string value of a key, ignoring its type. The key is created \
            if it doesn't exist.",
        )
        .complexity("O(1)")
        .history(&[
            ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
            ("6.0.0", "Added the `KEEPTTL` option."),
            ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
            ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
        ])
        .args(&[
            Arg::key("key", 0),
            Arg::value("value", ArgType::String),
            Arg::one_of("condition", &[Arg::flag("nx", "NX"), Arg::flag("xx", "XX")])
                .since("2.6.12")
                .optional(),
            Arg::flag("get", "GET").since("6.2.0").optional(),
            Arg::one_of(
                "expiration",
                &[
                    Arg::value("seconds", ArgType::Integer).token("EX").since("2.6.12"),
                    Arg::value("milliseconds", ArgType::Integer).token("PX").since("2.6.12"),
                    Arg::value("unix-time-seconds", ArgType::UnixTime).token("EXAT").since("6.2.0"),
                    Arg::value("unix-time-milliseconds", ArgType::UnixTime)
                        .token("PXAT")
                        .since("6.2.0"),
                    Arg::flag("keepttl", "KEEPTTL").since("6.0.0"),
                ],
            )
            .optional(),
        ]),
    Spec::new(Id::GetDel, "getdel", 2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
        .reply(Reply::Bulk)
        .docs(Group::String, "6.2.0")
        .summary("Returns the string value of a key after deleting the key.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::GetEx, "getex", -2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))
            .notes("RW and UPDATE because it changes the TTL")])
        .reply(Reply::Bulk)
        .docs(Group::String, "6.2.0")
        .summary("Returns the string value of a key after setting its expiration time.")
        .complexity("O(1)")
        .args(&[
            Arg::key("key", 0),
            Arg::one_of(
                "expiration",
                &[
                    Arg::value("seconds", ArgType::Integer).token("EX"),
                    Arg::value("milliseconds", ArgType::Integer).token("PX"),
                    Arg::value("unix-time-seconds", ArgType::UnixTime).token("EXAT"),
                    Arg::value("unix-time-milliseconds", ArgType::UnixTime).token("PXAT"),
                    Arg::flag("persist", "PERSIST"),
                ],
            )
            .optional(),
        ]),
    Spec::new(Id::GetSet, "getset", 3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Bulk)
        .docs(Group::String, "1.0.0")
        .summary("Returns the previous string value of a key after setting it to a new value.")
        .complexity("O(1)")
        .deprecated("6.2.0", "`SET` with the `!GET` argument")
        .args(&[Arg::key("key", 0), Arg::value("value", ArgType::String)]),
    Spec::new(Id::SetNx, "setnx", 3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::OW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::String, "1.0.0")
        .summary("Set the string value of a key only when the key doesn't exist.")
        .complexity("O(1)")
        .deprecated("2.6.12", "`SET` with the `NX` argument")
        .args(&[Arg::key("key", 0), Arg::value("value", ArgType::String)]),
    Spec::new(Id::SetEx, "setex", 4, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE))])
        .reply(Reply::Simple)
        .docs(Group::String, "2.0.0")
        .summary(
            "Sets the string value and expiration time of a key. Creates the key if \
            it doesn't exist.",
        )
        .complexity("O(1)")
        .deprecated("2.6.12", "`SET` with the `EX` argument")
        .args(&[
            Arg::key("key", 0),
            Arg::value("seconds", ArgType::Integer),
            Arg::value("value", ArgType::String),
        ]),
    Spec::new(Id::PSetEx, "psetex", 4, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE))])
        .reply(Reply::Simple)
        .docs(Group::String, "2.6.0")
        .summary(
            "Sets both string value and expiration time in milliseconds of a key. \
            The key is created if it doesn't exist.",
        )
        .complexity("O(1)")
        .deprecated("2.6.12", "`SET` with the `PX` argument")
        .args(&[
            Arg::key("key", 0),
            Arg::value("milliseconds", ArgType::Integer),
            Arg::value("value", ArgType::String),
        ]),
    Spec::new(Id::MGet, "mget", -2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["request_policy:multi_shard"])
        .reply(Reply::Array)
        .docs(Group::String, "1.0.0")
        .summary("Atomically returns the string values of one or more keys.")
        .complexity("O(N) where N is the number of keys to retrieve.")
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::MSet, "mset", -3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, -1, 2, KeyFlags::OW.or(KeyFlags::UPDATE))])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .reply(Reply::Simple)
        .docs(Group::String, "1.0.1")
        .summary("Atomically creates or modifies the string values of one or more keys.")
        .complexity("O(N) where N is the number of keys to set.")
        .args(&[Arg::block(
            "key_value",
            &[Arg::key("key", 0), Arg::value("value", ArgType::String)],
        )
        .multiple()]),
    Spec::new(Id::MSetNx, "msetnx", -3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, -1, 2, KeyFlags::OW.or(KeyFlags::INSERT))])
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .reply(Reply::Integer)
        .docs(Group::String, "1.0.1")
        .summary(
            "Atomically modifies the string values of one or more keys only when \
            all keys don't exist.",
        )
        .complexity("O(N) where N is the number of keys to set.")
        .args(&[Arg::block(
            "key_value",
            &[Arg::key("key", 0), Arg::value("value", ArgType::String)],
        )
        .multiple()]),
    Spec::new(Id::Append, "append", 3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::String, "2.0.0")
        .summary("Appends a string to the value of a key. Creates the key if it doesn't exist.")
        .complexity(
            "O(1). The amortized time complexity is O(1) assuming the appended \
            value is small and the already present value is of any size, since \
            the dynamic string library used by Redis will double the free \
            space available on every reallocation.",
        )
        .args(&[Arg::key("key", 0), Arg::value("value", ArgType::String)]),
    Spec::new(Id::StrLen, "strlen", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::String, "2.2.0")
        .summary("Returns the length of a string value.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Incr, "incr", 2, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::String, "1.0.0")
        .summary(
            "Increments the integer value of a key by one. Uses 0 as initial value \
            if the key doesn't exist.",
        )
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Decr, "decr", 2, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::String, "1.0.0")
        .summary(
            "Decrements the integer value of a key by one. Uses 0 as initial value \
            if the key doesn't exist.",
        )
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::IncrBy, "incrby", 3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::String, "1.0.0")
        .summary(
            "Increments the integer value of a key by a number. Uses 0 as initial \
            value if the key doesn't exist.",
        )
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("increment", ArgType::Integer)]),
    Spec::new(Id::DecrBy, "decrby", 3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::String, "1.0.0")
        .summary(
            "Decrements a number from the integer value of a key. Uses 0 as initial \
            value if the key doesn't exist.",
        )
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("decrement", ArgType::Integer)]),
    Spec::new(Id::IncrByFloat, "incrbyfloat", 3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Bulk)
        .docs(Group::String, "2.6.0")
        .summary(
            "Increment the floating point value of a key by a number. Uses 0 as \
            initial value if the key doesn't exist.",
        )
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("increment", ArgType::Double)]),
    Spec::new(Id::SetRange, "setrange", 4, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::String, "2.2.0")
        .summary(
            "Overwrites a part of a string value with another by an offset. Creates \
            the key if it doesn't exist.",
        )
        .complexity(
            "O(1), not counting the time taken to copy the new string in place. \
            Usually, this string is very small so the amortized complexity is \
            O(1). Otherwise, complexity is O(M) with M being the length of the \
            value argument.",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::value("offset", ArgType::Integer),
            Arg::value("value", ArgType::String),
        ]),
    Spec::new(Id::GetRange, "getrange", 4, Place::Read)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Bulk)
        .docs(Group::String, "2.4.0")
        .summary("Returns a substring of the string stored at a key.")
        .complexity(
            "O(N) where N is the length of the returned string. The complexity \
            is ultimately determined by the returned length, but because \
            creating a substring from an existing string is very cheap, it can \
            be considered O(1) for small strings.",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::value("start", ArgType::Integer),
            Arg::value("end", ArgType::Integer),
        ]),
    Spec::new(Id::SubStr, "substr", 4, Place::Read)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Bulk)
        .docs(Group::String, "1.0.0")
        .summary("Returns a substring from a string value.")
        .complexity(
            "O(N) where N is the length of the returned string. The complexity \
            is ultimately determined by the returned length, but because \
            creating a substring from an existing string is very cheap, it can \
            be considered O(1) for small strings.",
        )
        .deprecated("2.0.0", "`GETRANGE`")
        .args(&[
            Arg::key("key", 0),
            Arg::value("start", ArgType::Integer),
            Arg::value("end", ArgType::Integer),
        ]),
    Spec::new(Id::Lcs, "lcs", -3, Place::Read)
        .acl(Categories::STRING)
        .keys(&[KeySpec::range(1, 1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .docs(Group::String, "7.0.0")
        .summary("Finds the longest common substring.")
        .complexity("O(N*M) where N and M are the lengths of s1 and s2, respectively")
        .args(&[
            Arg::key("key1", 0),
            Arg::key("key2", 0),
            Arg::flag("len", "LEN").optional(),
            Arg::flag("idx", "IDX").optional(),
            Arg::value("len", ArgType::Integer).token("MINMATCHLEN").optional(),
            Arg::flag("withmatchlen", "WITHMATCHLEN").optional(),
        ]),
];
