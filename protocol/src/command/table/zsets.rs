//! Rows of the sorted set commands.

use crate::command::id::CommandId as Id;
use crate::command::spec::{
    Arg, ArgType, Categories, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec,
};

const READS: &[KeySpec] = &[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))];
const REMOVES: &[KeySpec] = &[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::DELETE))];
const POPS: &[KeySpec] =
    &[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))];
const READS_COUNTED: &[KeySpec] = &[KeySpec::counted(1, KeyFlags::RO.or(KeyFlags::ACCESS))];
const STORES_COUNTED: &[KeySpec] = &[
    KeySpec::range(1, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE)),
    KeySpec::counted(2, KeyFlags::RO.or(KeyFlags::ACCESS)),
];
const LIMIT: Arg = Arg::block(
    "offset_count",
    &[Arg::value("offset", ArgType::Integer), Arg::value("count", ArgType::Integer)],
)
.token("LIMIT");
const WEIGHTS: Arg = Arg::value("weight", ArgType::Integer).token("WEIGHTS").optional().multiple();
const AGGREGATE: Arg = Arg::one_of(
    "aggregate",
    &[Arg::flag("sum", "SUM"), Arg::flag("min", "MIN"), Arg::flag("max", "MAX")],
)
.token("AGGREGATE")
.optional();
const WITHSCORES: Arg = Arg::flag("withscores", "WITHSCORES").optional();
const SORT_BY: Arg =
    Arg::one_of("sortby", &[Arg::flag("byscore", "BYSCORE"), Arg::flag("bylex", "BYLEX")]);
const RANGE_COST: &str = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of \
     elements being returned. If M is constant (e.g. always asking for the first 10 elements \
     with LIMIT), you can consider it O(log(N)).";
const REMOVE_COST: &str = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of \
     elements removed by the operation.";
const POP_COST: &str = "O(log(N)*M) with N being the number of elements in the sorted set, and M being the \
     number of elements popped.";
const INTER_COST: &str = "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the \
     number of input sorted sets and M being the number of elements in the resulting sorted \
     set.";
const DIFF_COST: &str = "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N \
     is the size of the first set, and K is the size of the result set.";

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::ZAdd, "zadd", -4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::SORTEDSET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .docs(Group::SortedSet, "1.2.0")
        .summary(
            "Adds one or more members to a sorted set, or updates their scores. Creates the \
            key if it doesn't exist.",
        )
        .complexity(
            "O(log(N)) for each item added, where N is the number of elements in the sorted \
            set.",
        )
        .history(&[
            ("2.4.0", "Accepts multiple elements."),
            ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
            ("6.2.0", "Added the `GT` and `LT` options."),
        ])
        .args(&[
            Arg::key("key", 0),
            Arg::one_of("condition", &[Arg::flag("nx", "NX"), Arg::flag("xx", "XX")])
                .since("3.0.2")
                .optional(),
            Arg::one_of("comparison", &[Arg::flag("gt", "GT"), Arg::flag("lt", "LT")])
                .since("6.2.0")
                .optional(),
            Arg::flag("change", "CH").since("3.0.2").optional(),
            Arg::flag("increment", "INCR").since("3.0.2").optional(),
            Arg::block(
                "score_member",
                &[Arg::value("score", ArgType::Double), Arg::value("member", ArgType::String)],
            )
            .multiple(),
        ]),
    Spec::new(Id::ZIncrBy, "zincrby", 4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::SORTEDSET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
        .docs(Group::SortedSet, "1.2.0")
        .summary("Increments the score of a member in a sorted set.")
        .complexity("O(log(N)) where N is the number of elements in the sorted set.")
        .args(&[
            Arg::key("key", 0),
            Arg::value("increment", ArgType::Integer),
            Arg::value("member", ArgType::String),
        ]),
    Spec::new(Id::ZRem, "zrem", -3, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(REMOVES)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "1.2.0")
        .summary(
            "Removes one or more members from a sorted set. Deletes the sorted set if all \
            members were removed.",
        )
        .complexity(
            "O(M*log(N)) with N being the number of elements in the sorted set and M the \
            number of elements to be removed.",
        )
        .history(&[("2.4.0", "Accepts multiple elements.")])
        .args(&[Arg::key("key", 0), Arg::value("member", ArgType::String).multiple()]),
    Spec::new(Id::ZScore, "zscore", 3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .docs(Group::SortedSet, "1.2.0")
        .summary("Returns the score of a member in a sorted set.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0), Arg::value("member", ArgType::String)]),
    Spec::new(Id::ZMScore, "zmscore", -3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "6.2.0")
        .summary("Returns the score of one or more members in a sorted set.")
        .complexity("O(N) where N is the number of members being requested.")
        .args(&[Arg::key("key", 0), Arg::value("member", ArgType::String).multiple()]),
    Spec::new(Id::ZCard, "zcard", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "1.2.0")
        .summary("Returns the number of members in a sorted set.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::ZCount, "zcount", 4, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "2.0.0")
        .summary("Returns the count of members in a sorted set that have scores within a range.")
        .complexity("O(log(N)) with N being the number of elements in the sorted set.")
        .args(&[
            Arg::key("key", 0),
            Arg::value("min", ArgType::Double),
            Arg::value("max", ArgType::Double),
        ]),
    Spec::new(Id::ZLexCount, "zlexcount", 4, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "2.8.9")
        .summary("Returns the number of members in a sorted set within a lexicographical range.")
        .complexity("O(log(N)) with N being the number of elements in the sorted set.")
        .args(&[
            Arg::key("key", 0),
            Arg::value("min", ArgType::String),
            Arg::value("max", ArgType::String),
        ]),
    Spec::new(Id::ZRank, "zrank", -3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .docs(Group::SortedSet, "2.0.0")
        .summary("Returns the index of a member in a sorted set ordered by ascending scores.")
        .complexity("O(log(N))")
        .history(&[("7.2.0", "Added the optional `WITHSCORE` argument.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("member", ArgType::String),
            Arg::flag("withscore", "WITHSCORE").optional(),
        ]),
    Spec::new(Id::ZRevRank, "zrevrank", -3, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .docs(Group::SortedSet, "2.0.0")
        .summary("Returns the index of a member in a sorted set ordered by descending scores.")
        .complexity("O(log(N))")
        .history(&[("7.2.0", "Added the optional `WITHSCORE` argument.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("member", ArgType::String),
            Arg::flag("withscore", "WITHSCORE").optional(),
        ]),
    Spec::new(Id::ZRange, "zrange", -4, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "1.2.0")
        .summary("Returns members in a sorted set within a range of indexes.")
        .complexity(
            "O(log(N)+M) with N being the number of elements in the sorted set and M the \
            number of elements returned.",
        )
        .history(&[("6.2.0", "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("start", ArgType::String),
            Arg::value("stop", ArgType::String),
            SORT_BY.since("6.2.0").optional(),
            Arg::flag("rev", "REV").since("6.2.0").optional(),
            LIMIT.since("6.2.0").optional(),
            WITHSCORES,
        ]),
    Spec::new(Id::ZRangeStore, "zrangestore", -5, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::SORTEDSET)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::range(2, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ])
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "6.2.0")
        .summary("Stores a range of members from sorted set in a key.")
        .complexity(
            "O(log(N)+M) with N being the number of elements in the sorted set and M the \
            number of elements stored into the destination key.",
        )
        .args(&[
            Arg::key("dst", 0),
            Arg::key("src", 1),
            Arg::value("min", ArgType::String),
            Arg::value("max", ArgType::String),
            SORT_BY.optional(),
            Arg::flag("rev", "REV").optional(),
            LIMIT.optional(),
        ]),
    Spec::new(Id::ZRevRange, "zrevrange", -4, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "1.2.0")
        .summary("Returns members in a sorted set within a range of indexes in reverse order.")
        .complexity(
            "O(log(N)+M) with N being the number of elements in the sorted set and M the \
            number of elements returned.",
        )
        .deprecated("6.2.0", "`ZRANGE` with the `REV` argument")
        .args(&[
            Arg::key("key", 0),
            Arg::value("start", ArgType::Integer),
            Arg::value("stop", ArgType::Integer),
            WITHSCORES,
        ]),
    Spec::new(Id::ZRangeByScore, "zrangebyscore", -4, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "1.0.5")
        .summary("Returns members in a sorted set within a range of scores.")
        .complexity(RANGE_COST)
        .deprecated("6.2.0", "`ZRANGE` with the `BYSCORE` argument")
        .history(&[("2.0.0", "Added the `WITHSCORES` modifier.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("min", ArgType::Double),
            Arg::value("max", ArgType::Double),
            Arg::flag("withscores", "WITHSCORES").since("2.0.0").optional(),
            LIMIT.optional(),
        ]),
    Spec::new(Id::ZRevRangeByScore, "zrevrangebyscore", -4, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "2.2.0")
        .summary("Returns members in a sorted set within a range of scores in reverse order.")
        .complexity(RANGE_COST)
        .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")
        .history(&[("2.1.6", "`min` and `max` can be exclusive.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("max", ArgType::Double),
            Arg::value("min", ArgType::Double),
            WITHSCORES,
            LIMIT.optional(),
        ]),
    Spec::new(Id::ZRangeByLex, "zrangebylex", -4, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "2.8.9")
        .summary("Returns members in a sorted set within a lexicographical range.")
        .complexity(RANGE_COST)
        .deprecated("6.2.0", "`ZRANGE` with the `BYLEX` argument")
        .args(&[
            Arg::key("key", 0),
            Arg::value("min", ArgType::String),
            Arg::value("max", ArgType::String),
            LIMIT.optional(),
        ]),
    Spec::new(Id::ZRevRangeByLex, "zrevrangebylex", -4, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "2.8.9")
        .summary(
            "Returns members in a sorted set within a lexicographical range in reverse \
            order.",
        )
        .complexity(RANGE_COST)
        .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")
        .args(&[
            Arg::key("key", 0),
            Arg::value("max", ArgType::String),
            Arg::value("min", ArgType::String),
            LIMIT.optional(),
        ]),
    Spec::new(Id::ZRemRangeByRank, "zremrangebyrank", 4, Place::Write)
        .acl(Categories::SORTEDSET)
        .keys(REMOVES)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "2.0.0")
        .summary(
            "Removes members in a sorted set within a range of indexes. Deletes the sorted \
            set if all members were removed.",
        )
        .complexity(REMOVE_COST)
        .args(&[
            Arg::key("key", 0),
            Arg::value("start", ArgType::Integer),
            Arg::value("stop", ArgType::Integer),
        ]),
    Spec::new(Id::ZRemRangeByScore, "zremrangebyscore", 4, Place::Write)
        .acl(Categories::SORTEDSET)
        .keys(REMOVES)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "1.2.0")
        .summary(
            "Removes members in a sorted set within a range of scores. Deletes the sorted \
            set if all members were removed.",
        )
        .complexity(REMOVE_COST)
        .args(&[
            Arg::key("key", 0),
            Arg::value("min", ArgType::Double),
            Arg::value("max", ArgType::Double),
        ]),
    Spec::new(Id::ZRemRangeByLex, "zremrangebylex", 4, Place::Write)
        .acl(Categories::SORTEDSET)
        .keys(REMOVES)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "2.8.9")
        .summary(
            "Removes members in a sorted set within a lexicographical range. Deletes the \
            sorted set if all members were removed.",
        )
        .complexity(REMOVE_COST)
        .args(&[
            Arg::key("key", 0),
            Arg::value("min", ArgType::String),
            Arg::value("max", ArgType::String),
        ]),
    Spec::new(Id::ZPopMin, "zpopmin", -2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(POPS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "5.0.0")
        .summary(
            "Returns the lowest-scoring members from a sorted set after removing them. \
            Deletes the sorted set if the last member was popped.",
        )
        .complexity(POP_COST)
        .args(&[Arg::key("key", 0), Arg::value("count", ArgType::Integer).optional()]),
    Spec::new(Id::ZPopMax, "zpopmax", -2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::SORTEDSET)
        .keys(POPS)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "5.0.0")
        .summary(
            "Returns the highest-scoring members from a sorted set after removing them. \
            Deletes the sorted set if the last member was popped.",
        )
        .complexity(POP_COST)
        .args(&[Arg::key("key", 0), Arg::value("count", ArgType::Integer).optional()]),
    Spec::new(Id::ZMPop, "zmpop", -4, Place::Write)
        .flags(Flags::MOVABLEKEYS)
        .acl(Categories::SORTEDSET)
        .keys(&[KeySpec::counted(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
        .docs(Group::SortedSet, "7.0.0")
        .summary(
            "Returns the highest- or lowest-scoring members from one or more sorted sets \
            after removing them. Deletes the sorted set if the last member was popped.",
        )
        .complexity(
            "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number \
            of elements in the sorted set, and M being the number of elements popped.",
        )
        .args(&[
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 0).multiple(),
            Arg::one_of("where", &[Arg::flag("min", "MIN"), Arg::flag("max", "MAX")]),
            Arg::value("count", ArgType::Integer).token("COUNT").optional(),
        ]),
    Spec::new(Id::ZUnion, "zunion", -3, Place::Read)
        .flags(Flags::MOVABLEKEYS)
        .acl(Categories::SORTEDSET)
        .keys(READS_COUNTED)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "6.2.0")
        .summary("Returns the union of multiple sorted sets.")
        .complexity(
            "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, \
            and M being the number of elements in the resulting sorted set.",
        )
        .args(&[
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 0).multiple(),
            WEIGHTS,
            AGGREGATE,
            WITHSCORES,
        ]),
    Spec::new(Id::ZInter, "zinter", -3, Place::Read)
        .flags(Flags::MOVABLEKEYS)
        .acl(Categories::SORTEDSET)
        .keys(READS_COUNTED)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "6.2.0")
        .summary("Returns the intersect of multiple sorted sets.")
        .complexity(INTER_COST)
        .args(&[
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 0).multiple(),
            WEIGHTS,
            AGGREGATE,
            WITHSCORES,
        ]),
    Spec::new(Id::ZDiff, "zdiff", -3, Place::Read)
        .flags(Flags::MOVABLEKEYS)
        .acl(Categories::SORTEDSET)
        .keys(READS_COUNTED)
        .reply(Reply::Array)
        .docs(Group::SortedSet, "6.2.0")
        .summary("Returns the difference between multiple sorted sets.")
        .complexity(DIFF_COST)
        .args(&[
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 0).multiple(),
            WITHSCORES,
        ]),
    Spec::new(Id::ZUnionStore, "zunionstore", -4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::MOVABLEKEYS))
        .acl(Categories::SORTEDSET)
        .keys(STORES_COUNTED)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "2.0.0")
        .summary("Stores the union of multiple sorted sets in a key.")
        .complexity(
            "O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, \
            and M being the number of elements in the resulting sorted set.",
        )
        .args(&[
            Arg::key("destination", 0),
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 1).multiple(),
            WEIGHTS,
            AGGREGATE,
        ]),
    Spec::new(Id::ZInterStore, "zinterstore", -4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::MOVABLEKEYS))
        .acl(Categories::SORTEDSET)
        .keys(STORES_COUNTED)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "2.0.0")
        .summary("Stores the intersect of multiple sorted sets in a key.")
        .complexity(INTER_COST)
        .args(&[
            Arg::key("destination", 0),
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 1).multiple(),
            WEIGHTS,
            AGGREGATE,
        ]),
    Spec::new(Id::ZDiffStore, "zdiffstore", -4, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::MOVABLEKEYS))
        .acl(Categories::SORTEDSET)
        .keys(STORES_COUNTED)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "6.2.0")
        .summary("Stores the difference of multiple sorted sets in a key.")
        .complexity(DIFF_COST)
        .args(&[
            Arg::key("destination", 0),
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 1).multiple(),
        ]),
    Spec::new(Id::ZInterCard, "zintercard", -3, Place::Read)
        .flags(Flags::MOVABLEKEYS)
        .acl(Categories::SORTEDSET)
        .keys(READS_COUNTED)
        .reply(Reply::Integer)
        .docs(Group::SortedSet, "7.0.0")
        .summary("Returns the number of members of the intersect of multiple sorted sets.")
        .complexity(
            "O(N*K) worst case with N being the smallest input sorted set, K being the \
            number of input sorted sets.",
        )
        .args(&[
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 0).multiple(),
            Arg::value("limit", ArgType::Integer).token("LIMIT").optional(),
        ]),
    Spec::new(Id::ZRandMember, "zrandmember", -2, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .tips(&["nondeterministic_output"])
        .docs(Group::SortedSet, "6.2.0")
        .summary("Returns one or more random members from a sorted set.")
        .complexity("O(N) where N is the number of elements returned")
        .args(&[
            Arg::key("key", 0),
            Arg::block("options", &[Arg::value("count", ArgType::Integer), WITHSCORES]).optional(),
        ]),
    Spec::new(Id::ZScan, "zscan", -3, Place::Read)
        .acl(Categories::SORTEDSET)
        .keys(READS)
        .tips(&["nondeterministic_output"])
        .reply(Reply::Array)
        .docs(Group::SortedSet, "2.8.0")
        .summary("Iterates over members and scores of a sorted set.")
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
