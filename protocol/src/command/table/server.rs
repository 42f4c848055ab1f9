//! Rows of the commands about the server.

use crate::command::id::CommandId as Id;
use crate::command::spec::{
    Arg, ArgType, Categories, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec,
};

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::Command, "command", -1, Place::Server)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Server, "2.8.13")
        .summary("Returns detailed information about all commands.")
        .complexity("O(N) where N is the total number of Redis commands"),
    Spec::new(Id::CommandCount, "command|count", 2, Place::Server)
        .within(Id::Command)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Integer)
        .docs(Group::Server, "2.8.13")
        .summary("Returns a count of commands.")
        .complexity("O(1)"),
    Spec::new(Id::CommandDocs, "command|docs", -2, Place::Server)
        .within(Id::Command)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Map)
        .docs(Group::Server, "7.0.0")
        .summary("Returns documentary information about one, multiple or all commands.")
        .complexity("O(N) where N is the number of commands to look up")
        .args(&[Arg::value("command-name", ArgType::String).optional().multiple()]),
    Spec::new(Id::CommandGetKeys, "command|getkeys", -4, Place::Server)
        .within(Id::Command)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Array)
        .docs(Group::Server, "2.8.13")
        .summary("Extracts the key names from an arbitrary command.")
        .complexity("O(N) where N is the number of arguments to the command"),
    Spec::new(Id::CommandGetKeysAndFlags, "command|getkeysandflags", -4, Place::Server)
        .within(Id::Command)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Array)
        .docs(Group::Server, "7.0.0")
        .summary("Extracts the key names and access flags for an arbitrary command.")
        .complexity("O(N) where N is the number of arguments to the command"),
    Spec::new(Id::CommandInfo, "command|info", -2, Place::Server)
        .within(Id::Command)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Server, "2.8.13")
        .summary("Returns information about one, multiple or all commands.")
        .complexity("O(N) where N is the number of commands to look up")
        .history(&[(
            "7.0.0",
            "Allowed to be called with no argument to get info on \
            all commands.",
        )])
        .args(&[Arg::value("command-name", ArgType::String).optional().multiple()]),
    Spec::new(Id::CommandList, "command|list", -2, Place::Server)
        .within(Id::Command)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .tips(&["nondeterministic_output_order"])
        .reply(Reply::Array)
        .docs(Group::Server, "7.0.0")
        .summary("Returns a list of command names.")
        .complexity("O(N) where N is the total number of Redis commands")
        .args(&[Arg::one_of(
            "filterby",
            &[
                Arg::value("module-name", ArgType::String).token("MODULE"),
                Arg::value("category", ArgType::String).token("ACLCAT"),
                Arg::value("pattern", ArgType::Pattern).token("PATTERN"),
            ],
        )
        .token("FILTERBY")
        .optional()]),
    Spec::new(Id::CommandHelp, "command|help", 2, Place::Server)
        .within(Id::Command)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Array)
        .docs(Group::Server, "5.0.0")
        .summary("Returns helpful text about the different subcommands.")
        .complexity("O(1)"),
    Spec::new(Id::Config, "config", -2, Place::Server)
        .docs(Group::Server, "2.0.0")
        .summary("A container for server configuration commands.")
        .complexity("Depends on subcommand."),
    Spec::new(Id::ConfigGet, "config|get", -3, Place::Server)
        .within(Id::Config)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .reply(Reply::Map)
        .docs(Group::Server, "2.0.0")
        .summary("Returns the effective values of configuration parameters.")
        .complexity("O(N) when N is the number of configuration parameters provided")
        .history(&[(
            "7.0.0",
            "Added the ability to pass multiple pattern \
            parameters in one call",
        )])
        .args(&[Arg::block("parameter", &[Arg::value("parameter", ArgType::String)]).multiple()]),
    Spec::new(Id::ConfigSet, "config|set", -4, Place::Server)
        .within(Id::Config)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .reply(Reply::Simple)
        .docs(Group::Server, "2.0.0")
        .summary("Sets configuration parameters in-flight.")
        .complexity("O(N) when N is the number of configuration parameters provided")
        .history(&[("7.0.0", "Added the ability to set multiple parameters in one call.")])
        .args(&[Arg::block(
            "parameter_value",
            &[Arg::value("parameter", ArgType::String), Arg::value("value", ArgType::String)],
        )
        .multiple()]),
    Spec::new(Id::ConfigResetStat, "config|resetstat", 2, Place::Server)
        .within(Id::Config)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .reply(Reply::Simple)
        .docs(Group::Server, "2.0.0")
        .summary("Resets the server's statistics.")
        .complexity("O(1)"),
    Spec::new(Id::ConfigRewrite, "config|rewrite", 2, Place::Server)
        .within(Id::Config)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .reply(Reply::Simple)
        .docs(Group::Server, "2.8.0")
        .summary("Persists the effective configuration to file.")
        .complexity("O(1)"),
    Spec::new(Id::ConfigHelp, "config|help", 2, Place::Server)
        .within(Id::Config)
        .flags(Flags::LOADING.or(Flags::STALE))
        .reply(Reply::Array)
        .docs(Group::Server, "5.0.0")
        .summary("Returns helpful text about the different subcommands.")
        .complexity("O(1)"),
    Spec::new(Id::Info, "info", -1, Place::Server)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::DANGEROUS)
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .reply(Reply::Verbatim)
        .docs(Group::Server, "1.0.0")
        .summary("Returns information and statistics about the server.")
        .complexity("O(1)")
        .history(&[("7.0.0", "Added support for taking multiple section arguments.")])
        .args(&[Arg::value("section", ArgType::String).optional().multiple()]),
    Spec::new(Id::Role, "role", 1, Place::Server)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST))
        .acl(Categories::ADMIN.or(Categories::DANGEROUS))
        .reply(Reply::Array)
        .docs(Group::Server, "2.8.12")
        .summary("Returns the replication role.")
        .complexity("O(1)"),
    Spec::new(Id::ReadOnly, "readonly", 1, Place::Server)
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Cluster, "3.0.0")
        .summary("Enables read-only queries for a connection to a Redis Cluster replica node.")
        .complexity("O(1)"),
    Spec::new(Id::ReadWrite, "readwrite", 1, Place::Server)
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Cluster, "3.0.0")
        .summary("Enables read-write queries for a connection to a Reids Cluster replica node.")
        .complexity("O(1)"),
    Spec::new(Id::Time, "time", 1, Place::Server)
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
        .tips(&["nondeterministic_output"])
        .reply(Reply::Array)
        .docs(Group::Server, "2.6.0")
        .summary("Returns the server time.")
        .complexity("O(1)"),
    Spec::new(Id::Shutdown, "shutdown", -1, Place::Server)
        .flags(
            Flags::ADMIN
                .or(Flags::NOSCRIPT)
                .or(Flags::LOADING)
                .or(Flags::STALE)
                .or(Flags::NO_MULTI)
                .or(Flags::ALLOW_BUSY),
        )
        .docs(Group::Server, "1.0.0")
        .summary("Synchronously saves the database(s) to disk and shuts down the Redis server.")
        .complexity(
            "O(N) when saving, where N is the total number of keys in all \
            databases when saving data, otherwise O(1)",
        )
        .history(&[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")])
        .args(&[
            Arg::one_of("nosave_save", &[Arg::flag("nosave", "NOSAVE"), Arg::flag("save", "SAVE")])
                .optional(),
            Arg::flag("now", "NOW").since("7.0.0").optional(),
            Arg::flag("force", "FORCE").since("7.0.0").optional(),
            Arg::flag("abort", "ABORT").since("7.0.0").optional(),
        ]),
    Spec::new(Id::SlowLog, "slowlog", -2, Place::Server)
        .docs(Group::Server, "2.2.12")
        .summary("A container for slow log commands.")
        .complexity("Depends on subcommand."),
    Spec::new(Id::SlowLogGet, "slowlog|get", -2, Place::Server)
        .within(Id::SlowLog)
        .flags(Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE))
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .reply(Reply::Array)
        .docs(Group::Server, "2.2.12")
        .summary("Returns the slow log's entries.")
        .complexity("O(N) where N is the number of entries returned")
        .history(&[("4.0.0", "Added client IP address, port and name to the reply.")])
        .args(&[Arg::value("count", ArgType::Integer).optional()]),
    Spec::new(Id::SlowLogLen, "slowlog|len", 2, Place::Server)
        .within(Id::SlowLog)
        .flags(Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE))
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
        .reply(Reply::Integer)
        .docs(Group::Server, "2.2.12")
        .summary("Returns the number of entries in the slow log.")
        .complexity("O(1)"),
    Spec::new(Id::SlowLogReset, "slowlog|reset", 2, Place::Server)
        .within(Id::SlowLog)
        .flags(Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE))
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .reply(Reply::Simple)
        .docs(Group::Server, "2.2.12")
        .summary("Clears all entries from the slow log.")
        .complexity("O(N) where N is the number of entries in the slowlog"),
    Spec::new(Id::SlowLogHelp, "slowlog|help", 2, Place::Server)
        .within(Id::SlowLog)
        .flags(Flags::LOADING.or(Flags::STALE))
        .reply(Reply::Array)
        .docs(Group::Server, "6.2.0")
        .summary("Show helpful text about the different subcommands")
        .complexity("O(1)"),
    Spec::new(Id::Debug, "debug", -2, Place::Server)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .docs(Group::Server, "1.0.0")
        .summary("A container for debugging commands.")
        .complexity("Depends on subcommand.")
        .syscmd(),
    Spec::new(Id::Memory, "memory", -2, Place::Server)
        .docs(Group::Server, "4.0.0")
        .summary("A container for memory diagnostics commands.")
        .complexity("Depends on subcommand."),
    Spec::new(Id::MemoryUsage, "memory|usage", -3, Place::Read)
        .within(Id::Memory)
        .keys(&[KeySpec::range(2, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::Server, "4.0.0")
        .summary("Estimates the memory usage of a key.")
        .complexity("O(N) where N is the number of samples.")
        .args(&[
            Arg::key("key", 0),
            Arg::value("count", ArgType::Integer).token("SAMPLES").optional(),
        ]),
    Spec::new(Id::MemoryHelp, "memory|help", 2, Place::Server)
        .within(Id::Memory)
        .flags(Flags::LOADING.or(Flags::STALE))
        .reply(Reply::Array)
        .docs(Group::Server, "4.0.0")
        .summary("Returns helpful text about the different subcommands.")
        .complexity("O(1)"),
];
