//! Rows of the commands that only Cairn has.

use crate::command::id::CommandId as Id;
use crate::command::spec::{Arg, ArgType, Flags, Group, Place, Reply, Spec};

/// The version of Cairn that brought them.
const SINCE: &str = "0.1.0";

const NAME: Arg = Arg::value("name", ArgType::String);

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::Snapshot, "cairn.snapshot", -2, Place::Server)
        .docs(Group::Cairn, SINCE)
        .summary("A container for commands about snapshots of all the data.")
        .complexity("Depends on subcommand."),
    // A snapshot is of all databases, so these have no keys.
    Spec::new(Id::SnapshotCreate, "cairn.snapshot|create", 3, Place::Write)
        .within(Id::Snapshot)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT))
        .reply(Reply::Simple)
        .docs(Group::Cairn, SINCE)
        .summary("Keeps the data as they are now under a name.")
        .complexity("O(1)")
        .args(&[NAME]),
    Spec::new(Id::SnapshotDrop, "cairn.snapshot|drop", 3, Place::Write)
        .within(Id::Snapshot)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT))
        .reply(Reply::Simple)
        .docs(Group::Cairn, SINCE)
        .summary("Forgets a snapshot; what only it kept is freed in the background.")
        .complexity("O(N) where N is the number of snapshots")
        .args(&[NAME]),
    Spec::new(Id::SnapshotRollback, "cairn.snapshot|rollback", -3, Place::Write)
        .within(Id::Snapshot)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::NO_MULTI))
        .reply(Reply::Simple)
        .docs(Group::Cairn, SINCE)
        .summary("Makes the data those of a snapshot again.")
        .complexity("O(N) where N is the number of snapshots, whatever the data")
        .args(&[NAME, Arg::flag("droplater", "DROPLATER").optional()]),
    Spec::new(Id::SnapshotList, "cairn.snapshot|list", 2, Place::Read)
        .within(Id::Snapshot)
        .reply(Reply::Array)
        .docs(Group::Cairn, SINCE)
        .summary("Lists the snapshots, the newest first.")
        .complexity("O(N) where N is the number of snapshots"),
    Spec::new(Id::SnapshotInfo, "cairn.snapshot|info", -2, Place::Read)
        .within(Id::Snapshot)
        .reply(Reply::Map)
        .docs(Group::Cairn, SINCE)
        .summary("Says what is known of a snapshot, or of all of them together.")
        .complexity("O(N) where N is the number of snapshots")
        .args(&[NAME.optional()]),
    Spec::new(Id::SnapshotHelp, "cairn.snapshot|help", 2, Place::Server)
        .within(Id::Snapshot)
        .flags(Flags::LOADING.or(Flags::STALE))
        .reply(Reply::Array)
        .docs(Group::Cairn, SINCE)
        .summary("Returns helpful text about the different subcommands.")
        .complexity("O(1)"),
    Spec::new(Id::Raft, "cairn.raft", -2, Place::Server)
        .docs(Group::Cairn, SINCE)
        .summary("A container for commands about the groups of this node.")
        .complexity("Depends on subcommand."),
    Spec::new(Id::RaftStatus, "cairn.raft|status", 2, Place::Server)
        .within(Id::Raft)
        .flags(Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE))
        .reply(Reply::Map)
        .docs(Group::Cairn, SINCE)
        .summary("Says how this node stands in its shard's group.")
        .complexity("O(N) where N is the number of members"),
    Spec::new(Id::RaftRemove, "cairn.raft|remove", 3, Place::Server)
        .within(Id::Raft)
        .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::NO_MULTI))
        .reply(Reply::Simple)
        .docs(Group::Cairn, SINCE)
        .summary("Takes a member out of the group for good; to be asked of the leader.")
        .complexity("O(1)")
        .args(&[Arg::value("node", ArgType::Integer)]),
    Spec::new(Id::RaftHelp, "cairn.raft|help", 2, Place::Server)
        .within(Id::Raft)
        .flags(Flags::LOADING.or(Flags::STALE))
        .reply(Reply::Array)
        .docs(Group::Cairn, SINCE)
        .summary("Returns helpful text about the different subcommands.")
        .complexity("O(1)"),
];
