//! Rows of the commands about the connection and the command table itself.

use crate::command::id::CommandId as Id;
use crate::command::spec::{Arg, ArgType, Categories, Flags, Group, Place, Reply, Spec};

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::Hello, "hello", -1, Place::Server)
        .flags(
            Flags::NOSCRIPT
                .or(Flags::LOADING)
                .or(Flags::STALE)
                .or(Flags::FAST)
                .or(Flags::NO_AUTH)
                .or(Flags::ALLOW_BUSY),
        )
        .acl(Categories::CONNECTION)
        .reply(Reply::Map)
        .docs(Group::Connection, "6.0.0")
        .summary("Handshakes with the Redis server.")
        .complexity("O(1)")
        .history(&[(
            "6.2.0",
            "`protover` made optional; when called without \
            arguments the command reports the current \
            connection's context.",
        )])
        .args(&[Arg::block(
            "arguments",
            &[
                Arg::value("protover", ArgType::Integer),
                Arg::block(
                    "username_password",
                    &[
                        Arg::value("username", ArgType::String),
                        Arg::value("password", ArgType::String),
                    ],
                )
                .token("AUTH")
                .optional(),
                Arg::value("clientname", ArgType::String).token("SETNAME").optional(),
            ],
        )
        .optional()]),
    Spec::new(Id::Auth, "auth", -2, Place::Server)
        .flags(
            Flags::NOSCRIPT
                .or(Flags::LOADING)
                .or(Flags::STALE)
                .or(Flags::FAST)
                .or(Flags::NO_AUTH)
                .or(Flags::ALLOW_BUSY),
        )
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "1.0.0")
        .summary("Authenticates the connection.")
        .complexity("O(N) where N is the number of passwords defined for the user")
        .history(&[("6.0.0", "Added ACL style (username and password).")])
        .args(&[
            Arg::value("username", ArgType::String).since("6.0.0").optional(),
            Arg::value("password", ArgType::String),
        ]),
    Spec::new(Id::Client, "client", -2, Place::Server)
        .docs(Group::Connection, "2.4.0")
        .summary("A container for client connection commands.")
        .complexity("Depends on subcommand."),
    Spec::new(Id::ClientId, "client|id", 2, Place::Server)
        .within(Id::Client)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Integer)
        .docs(Group::Connection, "5.0.0")
        .summary("Returns the unique client ID of the connection.")
        .complexity("O(1)"),
    Spec::new(Id::ClientInfo, "client|info", 2, Place::Server)
        .within(Id::Client)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .tips(&["nondeterministic_output"])
        .reply(Reply::Verbatim)
        .docs(Group::Connection, "6.2.0")
        .summary("Returns information about the connection.")
        .complexity("O(1)"),
    Spec::new(Id::ClientList, "client|list", -2, Place::Server)
        .within(Id::Client)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .tips(&["nondeterministic_output"])
        .reply(Reply::Verbatim)
        .docs(Group::Connection, "2.4.0")
        .summary("Lists open connections.")
        .complexity("O(N) where N is the number of client connections")
        .history(&[
            ("2.8.12", "Added unique client `id` field."),
            ("5.0.0", "Added optional `TYPE` filter."),
            ("6.0.0", "Added `user` field."),
            (
                "6.2.0",
                "Added `argv-mem`, `tot-mem`, `laddr` and `redir` \
            fields and the optional `ID` filter.",
            ),
            ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
            ("7.0.3", "Added `ssub` field."),
        ])
        .args(&[
            Arg::one_of(
                "normal_master_replica_pubsub",
                &[
                    Arg::flag("normal", "NORMAL"),
                    Arg::flag("master", "MASTER"),
                    Arg::flag("replica", "REPLICA"),
                    Arg::flag("pubsub", "PUBSUB"),
                ],
            )
            .token("TYPE")
            .since("5.0.0")
            .optional(),
            Arg::block("id", &[Arg::value("client-id", ArgType::Integer).multiple()])
                .token("ID")
                .since("6.2.0")
                .optional(),
        ]),
    Spec::new(Id::ClientGetName, "client|getname", 2, Place::Server)
        .within(Id::Client)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Bulk)
        .docs(Group::Connection, "2.6.9")
        .summary("Returns the name of the connection.")
        .complexity("O(1)"),
    Spec::new(Id::ClientSetName, "client|setname", 3, Place::Server)
        .within(Id::Client)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "2.6.9")
        .summary("Sets the connection name.")
        .complexity("O(1)")
        .args(&[Arg::value("connection-name", ArgType::String)]),
    Spec::new(Id::ClientSetInfo, "client|setinfo", 4, Place::Server)
        .within(Id::Client)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "7.2.0")
        .summary("Sets information specific to the client or connection.")
        .complexity("O(1)")
        .args(&[Arg::one_of(
            "attr",
            &[
                Arg::value("libname", ArgType::String).token("LIB-NAME"),
                Arg::value("libver", ArgType::String).token("LIB-VER"),
            ],
        )]),
    Spec::new(Id::ClientKill, "client|kill", -3, Place::Server)
        .within(Id::Client)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .docs(Group::Connection, "2.4.0")
        .summary("Terminates open connections.")
        .complexity("O(N) where N is the number of client connections")
        .history(&[
            ("2.8.12", "Added new filter format."),
            ("2.8.12", "`ID` option."),
            ("3.2.0", "Added `master` type in for `TYPE` option."),
            (
                "5.0.0",
                "Replaced `slave` `TYPE` with `replica`. `slave` \
            still supported for backward compatibility.",
            ),
            ("6.2.0", "`LADDR` option."),
        ])
        .args(&[Arg::one_of(
            "filter",
            &[
                Arg::value("ip:port", ArgType::String).deprecated_since("2.8.12"),
                Arg::one_of(
                    "new-format",
                    &[
                        Arg::value("client-id", ArgType::Integer)
                            .token("ID")
                            .since("2.8.12")
                            .optional(),
                        Arg::one_of(
                            "normal_master_slave_pubsub",
                            &[
                                Arg::flag("normal", "NORMAL"),
                                Arg::flag("master", "MASTER").since("3.2.0"),
                                Arg::flag("slave", "SLAVE"),
                                Arg::flag("replica", "REPLICA").since("5.0.0"),
                                Arg::flag("pubsub", "PUBSUB"),
                            ],
                        )
                        .token("TYPE")
                        .since("2.8.12")
                        .optional(),
                        Arg::value("username", ArgType::String).token("USER").optional(),
                        Arg::value("ip:port", ArgType::String).token("ADDR").optional(),
                        Arg::value("ip:port", ArgType::String)
                            .token("LADDR")
                            .since("6.2.0")
                            .optional(),
                        Arg::value("yes/no", ArgType::String).token("SKIPME").optional(),
                    ],
                )
                .multiple(),
            ],
        )]),
    Spec::new(Id::ClientNoEvict, "client|no-evict", 3, Place::Server)
        .within(Id::Client)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "7.0.0")
        .summary("Sets the client eviction mode of the connection.")
        .complexity("O(1)")
        .args(&[Arg::one_of("enabled", &[Arg::flag("on", "ON"), Arg::flag("off", "OFF")])]),
    Spec::new(Id::ClientNoTouch, "client|no-touch", 3, Place::Server)
        .within(Id::Client)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "7.2.0")
        .summary(
            "Controls whether commands sent by the client affect the LRU/LFU of \
            accessed keys.",
        )
        .complexity("O(1)")
        .args(&[Arg::one_of("enabled", &[Arg::flag("on", "ON"), Arg::flag("off", "OFF")])]),
    Spec::new(Id::ClientReply, "client|reply", 3, Place::Server)
        .within(Id::Client)
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .docs(Group::Connection, "3.2.0")
        .summary("Instructs the server whether to reply to commands.")
        .complexity("O(1)")
        .args(&[Arg::one_of(
            "on_off_skip",
            &[Arg::flag("on", "ON"), Arg::flag("off", "OFF"), Arg::flag("skip", "SKIP")],
        )]),
    Spec::new(Id::ClientHelp, "client|help", 2, Place::Server)
        .within(Id::Client)
        .flags(Flags::LOADING.or(Flags::STALE))
        .acl(Categories::CONNECTION)
        .reply(Reply::Array)
        .docs(Group::Connection, "5.0.0")
        .summary("Returns helpful text about the different subcommands.")
        .complexity("O(1)"),
    Spec::new(Id::Ping, "ping", -1, Place::Server)
        .flags(Flags::FAST)
        .acl(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs(Group::Connection, "1.0.0")
        .summary("Returns the server's liveliness response.")
        .complexity("O(1)")
        .args(&[Arg::value("message", ArgType::String).optional()]),
    Spec::new(Id::Echo, "echo", 2, Place::Server)
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
        .acl(Categories::CONNECTION)
        .reply(Reply::Bulk)
        .docs(Group::Connection, "1.0.0")
        .summary("Returns the given string.")
        .complexity("O(1)")
        .args(&[Arg::value("message", ArgType::String)]),
    Spec::new(Id::Quit, "quit", -1, Place::Server)
        .flags(
            Flags::NOSCRIPT
                .or(Flags::LOADING)
                .or(Flags::STALE)
                .or(Flags::FAST)
                .or(Flags::NO_AUTH)
                .or(Flags::ALLOW_BUSY),
        )
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "1.0.0")
        .summary("Closes the connection.")
        .complexity("O(1)")
        .deprecated("7.2.0", "just closing the connection"),
    Spec::new(Id::Reset, "reset", 1, Place::Server)
        .flags(
            Flags::NOSCRIPT
                .or(Flags::LOADING)
                .or(Flags::STALE)
                .or(Flags::FAST)
                .or(Flags::NO_AUTH)
                .or(Flags::ALLOW_BUSY),
        )
        .acl(Categories::CONNECTION)
        .reply(Reply::Simple)
        .docs(Group::Connection, "6.2.0")
        .summary("Resets the connection.")
        .complexity("O(1)"),
];
