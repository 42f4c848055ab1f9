//! Rows of the commands on keys of any type, and on whole databases.

use crate::command::id::CommandId as Id;
use crate::command::spec::{
    Arg, ArgType, Categories, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec,
};

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::Del, "del", -2, Place::Write)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RM.or(KeyFlags::DELETE))])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "1.0.0")
        .summary("Deletes one or more keys.")
        .complexity(
            "O(N) where N is the number of keys that will be removed. When a \
            key to remove holds a value other than a string, the individual \
            complexity for this key is O(M) where M is the number of elements \
            in the list, set, sorted set or hash. Removing a single key that \
            holds a string value is O(1).",
        )
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::Unlink, "unlink", -2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RM.or(KeyFlags::DELETE))])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "4.0.0")
        .summary("Asynchronously deletes one or more keys.")
        .complexity(
            "O(1) for each key removed regardless of its size. Then the command \
            does O(N) work in a different thread in order to reclaim memory, \
            where N is the number of allocations the deleted objects where \
            composed of.",
        )
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::Exists, "exists", -2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RO)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "1.0.0")
        .summary("Determines whether one or more keys exist.")
        .complexity("O(N) where N is the number of keys to check.")
        .history(&[("3.0.3", "Accepts multiple `key` arguments.")])
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::Type, "type", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Simple)
        .docs(Group::Generic, "1.0.0")
        .summary("Determines the type of value stored at a key.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Ttl, "ttl", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "1.0.0")
        .summary("Returns the expiration time in seconds of a key.")
        .complexity("O(1)")
        .history(&[("2.8.0", "Added the -2 reply.")])
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::PTtl, "pttl", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "2.6.0")
        .summary("Returns the expiration time in milliseconds of a key.")
        .complexity("O(1)")
        .history(&[("2.8.0", "Added the -2 reply.")])
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Expire, "expire", -3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "1.0.0")
        .summary("Sets the expiration time of a key in seconds.")
        .complexity("O(1)")
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("seconds", ArgType::Integer),
            Arg::one_of(
                "condition",
                &[
                    Arg::flag("nx", "NX"),
                    Arg::flag("xx", "XX"),
                    Arg::flag("gt", "GT"),
                    Arg::flag("lt", "LT"),
                ],
            )
            .since("7.0.0")
            .optional(),
        ]),
    Spec::new(Id::PExpire, "pexpire", -3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "2.6.0")
        .summary("Sets the expiration time of a key in milliseconds.")
        .complexity("O(1)")
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("milliseconds", ArgType::Integer),
            Arg::one_of(
                "condition",
                &[
                    Arg::flag("nx", "NX"),
                    Arg::flag("xx", "XX"),
                    Arg::flag("gt", "GT"),
                    Arg::flag("lt", "LT"),
                ],
            )
            .since("7.0.0")
            .optional(),
        ]),
    Spec::new(Id::ExpireAt, "expireat", -3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "1.2.0")
        .summary("Sets the expiration time of a key to a Unix timestamp.")
        .complexity("O(1)")
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("unix-time-seconds", ArgType::UnixTime),
            Arg::one_of(
                "condition",
                &[
                    Arg::flag("nx", "NX"),
                    Arg::flag("xx", "XX"),
                    Arg::flag("gt", "GT"),
                    Arg::flag("lt", "LT"),
                ],
            )
            .since("7.0.0")
            .optional(),
        ]),
    Spec::new(Id::PExpireAt, "pexpireat", -3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "2.6.0")
        .summary("Sets the expiration time of a key to a Unix milliseconds timestamp.")
        .complexity("O(1)")
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("unix-time-milliseconds", ArgType::UnixTime),
            Arg::one_of(
                "condition",
                &[
                    Arg::flag("nx", "NX"),
                    Arg::flag("xx", "XX"),
                    Arg::flag("gt", "GT"),
                    Arg::flag("lt", "LT"),
                ],
            )
            .since("7.0.0")
            .optional(),
        ]),
    Spec::new(Id::ExpireTime, "expiretime", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "7.0.0")
        .summary("Returns the expiration time of a key as a Unix timestamp.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::PExpireTime, "pexpiretime", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "7.0.0")
        .summary("Returns the expiration time of a key as a Unix milliseconds timestamp.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Persist, "persist", 2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "2.2.0")
        .summary("Removes the expiration time of a key.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Rename, "rename", 3, Place::Write)
        .acl(Categories::KEYSPACE)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
            KeySpec::range(2, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE)),
        ])
        .reply(Reply::Simple)
        .docs(Group::Generic, "1.0.0")
        .summary("Renames a key and overwrites the destination.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::key("newkey", 1)]),
    Spec::new(Id::RenameNx, "renamenx", 3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
            KeySpec::range(2, 0, 1, KeyFlags::OW.or(KeyFlags::INSERT)),
        ])
        .reply(Reply::Integer)
        .docs(Group::Generic, "1.0.0")
        .summary("Renames a key only when the target key name doesn't exist.")
        .complexity("O(1)")
        .history(&[(
            "3.2.0",
            "The command no longer returns an error when source \
            and destination names are the same.",
        )])
        .args(&[Arg::key("key", 0), Arg::key("newkey", 1)]),
    Spec::new(Id::Copy, "copy", -3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::KEYSPACE)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
            KeySpec::range(2, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE)),
        ])
        .reply(Reply::Integer)
        .docs(Group::Generic, "6.2.0")
        .summary("Copies the value of a key to a new key.")
        .complexity(
            "O(N) worst case for collections, where N is the number of nested \
            items. O(1) for string values.",
        )
        .args(&[
            Arg::key("source", 0),
            Arg::key("destination", 1),
            Arg::value("destination-db", ArgType::Integer).token("DB").optional(),
            Arg::flag("replace", "REPLACE").optional(),
        ]),
    Spec::new(Id::Touch, "touch", -2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, -1, 1, KeyFlags::RO)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "3.2.1")
        .summary(
            "Returns the number of existing keys out of those specified after \
            updating the time they were last accessed.",
        )
        .complexity("O(N) where N is the number of keys that will be touched.")
        .args(&[Arg::key("key", 0).multiple()]),
    Spec::new(Id::Keys, "keys", 2, Place::Read)
        .acl(Categories::KEYSPACE.or(Categories::DANGEROUS))
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Generic, "1.0.0")
        .summary("Returns all key names that match a pattern.")
        .complexity(
            "O(N) with N being the number of keys in the database, under the \
            assumption that the key names in the database and the given \
            pattern have limited length.",
        )
        .args(&[Arg::value("pattern", ArgType::Pattern)]),
    Spec::new(Id::Scan, "scan", -2, Place::Read)
        .acl(Categories::KEYSPACE)
        .tips(&["nondeterministic_output", "request_policy:special"])
        .reply(Reply::Array)
        .docs(Group::Generic, "2.8.0")
        .summary("Iterates over the key names in the database.")
        .complexity(
            "O(1) for every call. O(N) for a complete iteration, including \
            enough command calls for the cursor to return back to 0. N is the \
            number of elements inside the collection.",
        )
        .history(&[("6.0.0", "Added the `TYPE` subcommand.")])
        .args(&[
            Arg::value("cursor", ArgType::Integer),
            Arg::value("pattern", ArgType::Pattern).token("MATCH").optional(),
            Arg::value("count", ArgType::Integer).token("COUNT").optional(),
            Arg::value("type", ArgType::String).token("TYPE").since("6.0.0").optional(),
        ]),
    Spec::new(Id::RandomKey, "randomkey", 1, Place::Read)
        .acl(Categories::KEYSPACE)
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .reply(Reply::Bulk)
        .docs(Group::Generic, "1.0.0")
        .summary("Returns a random key name from the database.")
        .complexity("O(1)"),
    Spec::new(Id::DbSize, "dbsize", 1, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .reply(Reply::Integer)
        .docs(Group::Server, "1.0.0")
        .summary("Returns the number of keys in the database.")
        .complexity("O(1)"),
    Spec::new(Id::FlushDb, "flushdb", -1, Place::Write)
        .acl(Categories::KEYSPACE.or(Categories::DANGEROUS))
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .reply(Reply::Simple)
        .docs(Group::Server, "1.0.0")
        .summary("Remove all keys from the current database.")
        .complexity("O(N) where N is the number of keys in the selected database")
        .history(&[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ])
        .args(&[Arg::one_of(
            "async",
            &[Arg::flag("async", "ASYNC").since("4.0.0"), Arg::flag("sync", "SYNC").since("6.2.0")],
        )
        .optional()]),
    Spec::new(Id::FlushAll, "flushall", -1, Place::Write)
        .acl(Categories::KEYSPACE.or(Categories::DANGEROUS))
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .reply(Reply::Simple)
        .docs(Group::Server, "1.0.0")
        .summary("Removes all keys from all databases.")
        .complexity("O(N) where N is the total number of keys in all databases")
        .history(&[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ])
        .args(&[Arg::one_of(
            "async",
            &[Arg::flag("async", "ASYNC").since("4.0.0"), Arg::flag("sync", "SYNC").since("6.2.0")],
        )
        .optional()]),
    Spec::new(Id::Select, "select", 2, Place::Server)
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "1.0.0")
        .summary("Changes the selected database.")
        .complexity("O(1)")
        .args(&[Arg::value("index", ArgType::Integer)]),
    Spec::new(Id::SwapDb, "swapdb", 3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE.or(Categories::DANGEROUS))
        .reply(Reply::Simple)
        .docs(Group::Server, "4.0.0")
        .summary("Swaps two Redis databases.")
        .complexity(
            "O(N) where N is the count of clients watching or blocking on keys \
            from both databases.",
        )
        .args(&[Arg::value("index1", ArgType::Integer), Arg::value("index2", ArgType::Integer)]),
    Spec::new(Id::Move, "move", 3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .reply(Reply::Integer)
        .docs(Group::Generic, "1.0.0")
        .summary("Moves a key to another database.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("db", ArgType::Integer)]),
    Spec::new(Id::Object, "object", -2, Place::Server)
        .docs(Group::Generic, "2.2.3")
        .summary("A container for object introspection commands.")
        .complexity("Depends on subcommand."),
    Spec::new(Id::ObjectEncoding, "object|encoding", 3, Place::Read)
        .within(Id::Object)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(2, 0, 1, KeyFlags::RO)])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Bulk)
        .docs(Group::Generic, "2.2.3")
        .summary("Returns the internal encoding of a Redis object.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::ObjectFreq, "object|freq", 3, Place::Read)
        .within(Id::Object)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(2, 0, 1, KeyFlags::RO)])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "4.0.0")
        .summary("Returns the logarithmic access frequency counter of a Redis object.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::ObjectHelp, "object|help", 2, Place::Server)
        .within(Id::Object)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::KEYSPACE)
        .reply(Reply::Array)
        .docs(Group::Generic, "6.2.0")
        .summary("Returns helpful text about the different subcommands.")
        .complexity("O(1)"),
    Spec::new(Id::ObjectIdleTime, "object|idletime", 3, Place::Read)
        .within(Id::Object)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(2, 0, 1, KeyFlags::RO)])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "2.2.3")
        .summary("Returns the time since the last access to a Redis object.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::ObjectRefCount, "object|refcount", 3, Place::Read)
        .within(Id::Object)
        .acl(Categories::KEYSPACE)
        .keys(&[KeySpec::range(2, 0, 1, KeyFlags::RO)])
        .tips(&["nondeterministic_output"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "2.2.3")
        .summary("Returns the reference count of a value of a key.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::Wait, "wait", 3, Place::Server)
        .flags(Flags::NOSCRIPT)
        .acl(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .reply(Reply::Integer)
        .docs(Group::Generic, "3.0.0")
        .summary(
            "Blocks until the asynchronous replication of all preceding write \
            commands sent by the connection is completed.",
        )
        .complexity("O(1)")
        .args(&[
            Arg::value("numreplicas", ArgType::Integer),
            Arg::value("timeout", ArgType::Integer),
        ]),
    Spec::new(Id::WaitAof, "waitaof", 4, Place::Server)
        .flags(Flags::NOSCRIPT)
        .acl(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .reply(Reply::Array)
        .docs(Group::Generic, "7.2.0")
        .summary(
            "Blocks until all of the preceding write commands sent by the connection are \
            written to the append-only file of the master and/or replicas.",
        )
        .complexity("O(1)")
        .args(&[
            Arg::value("numlocal", ArgType::Integer),
            Arg::value("numreplicas", ArgType::Integer),
            Arg::value("timeout", ArgType::Integer),
        ]),
    Spec::new(Id::Sort, "sort", -2, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::MOVABLEKEYS))
        .acl(
            Categories::DANGEROUS
                .or(Categories::LIST)
                .or(Categories::SET)
                .or(Categories::SORTEDSET),
        )
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
            SORT_NAMED_KEYS,
            SORT_DESTINATION,
        ])
        .docs(Group::Generic, "1.0.0")
        .summary(
            "Sorts the elements in a list, a set, or a sorted set, optionally storing the \
             result.",
        )
        .complexity(SORT_COMPLEXITY)
        .args(&[
            Arg::key("key", 0),
            SORT_BY,
            SORT_LIMIT,
            SORT_GET,
            SORT_ORDER,
            SORT_ALPHA,
            Arg::key("destination", 2).token("STORE").optional(),
        ]),
    Spec::new(Id::SortRo, "sort_ro", -2, Place::Read)
        .flags(Flags::MOVABLEKEYS)
        .acl(
            Categories::DANGEROUS
                .or(Categories::LIST)
                .or(Categories::SET)
                .or(Categories::SORTEDSET),
        )
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS)), SORT_NAMED_KEYS])
        .reply(Reply::Array)
        .docs(Group::Generic, "7.0.0")
        .summary("Returns the sorted elements of a list, a set, or a sorted set.")
        .complexity(SORT_COMPLEXITY)
        .args(&[Arg::key("key", 0), SORT_BY, SORT_LIMIT, SORT_GET, SORT_ORDER, SORT_ALPHA]),
];

const SORT_NAMED_KEYS: KeySpec = KeySpec::unknown(KeyFlags::RO.or(KeyFlags::ACCESS)).notes(
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the \
     content of the key we sort",
);
const SORT_DESTINATION: KeySpec = KeySpec::unknown(KeyFlags::OW.or(KeyFlags::UPDATE)).notes(
    "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear \
     anywhere in the argument array",
);
const SORT_COMPLEXITY: &str = "O(N+M*log(M)) where N is the number of elements in the list or set \
    to sort, and M the number of returned elements. When the elements are not sorted, complexity \
    is O(N).";
const SORT_BY: Arg = Arg::value("pattern", ArgType::Pattern).key_spec(1).token("BY").optional();
const SORT_LIMIT: Arg = Arg::block(
    "offset_count",
    &[Arg::value("offset", ArgType::Integer), Arg::value("count", ArgType::Integer)],
)
.token("LIMIT")
.optional();
const SORT_GET: Arg = Arg::value("pattern", ArgType::Pattern)
    .key_spec(1)
    .token("GET")
    .optional()
    .multiple()
    .multiple_token();
const SORT_ORDER: Arg =
    Arg::one_of("order", &[Arg::flag("asc", "ASC"), Arg::flag("desc", "DESC")]).optional();
const SORT_ALPHA: Arg = Arg::flag("sorting", "ALPHA").optional();
