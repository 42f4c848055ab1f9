//! What HELP answers for each container: only what this server does.

use super::id::CommandId;
use crate::resp::Writer;

/// Answers HELP of a container, or of DEBUG; any other command has none and answers an empty array.
pub fn answer(container: CommandId, out: &mut Writer<'_>) {
    let lines = lines(container);
    let head = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.spec().name.to_ascii_uppercase()
    );
    out.array(if lines.is_empty() { 0 } else { lines.len() + 3 });
    if lines.is_empty() {
        return;
    }
    let tail = ["HELP", "    Prints this help."];
    for line in std::iter::once(head.as_str()).chain(lines.iter().copied()).chain(tail) {
        out.simple(line);
    }
}

fn lines(container: CommandId) -> &'static [&'static str] {
    match container {
        CommandId::Client => &CLIENT,
        CommandId::Command => &COMMAND,
        CommandId::Config => &CONFIG,
        CommandId::Debug => &DEBUG,
        CommandId::Memory => &MEMORY,
        CommandId::Object => &OBJECT,
        CommandId::Raft => &RAFT,
        CommandId::SlowLog => &SLOWLOG,
        CommandId::Snapshot => &SNAPSHOT,
        _ => &[],
    }
}

const CLIENT: [&str; 35] = [
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
];

const COMMAND: [&str; 18] = [
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full Redis command.",
];

const CONFIG: [&str; 8] = [
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
];

const DEBUG: [&str; 6] = [
    "OBJECT <key>",
    "    Show low level info about key and associated value.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not accessed.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
];

const MEMORY: [&str; 3] = [
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];

const OBJECT: [&str; 12] = [
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
];

const RAFT: [&str; 5] = [
    "REMOVE <node>",
    "    Take a member out of the group for good: it counts in no majority any more.",
    "    To be asked of the leader.",
    "STATUS",
    "    Return how this node stands in its shard's group: who leads, what is agreed.",
];

const SLOWLOG: [&str; 9] = [
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];

const SNAPSHOT: [&str; 13] = [
    "CREATE <name>",
    "    Keep the data of all databases as they are now under <name>.",
    "DROP <name>",
    "    Forget the snapshot <name>; what only it kept is freed in the background.",
    "INFO [<name>]",
    "    Return what is known of the snapshot <name>, or of all together: how many,",
    "    and how many bytes are kept for them alone.",
    "LIST",
    "    Return the snapshots, the newest first.",
    "ROLLBACK <name> [DROPLATER]",
    "    Make the data those of the snapshot <name> again, which stays. What was",
    "    written since is lost. Snapshots that were taken later stand in the way,",
    "    unless DROPLATER drops them.",
];

#[cfg(test)]
mod tests {
    use super::super::table::TABLE;
    use super::*;

    #[test]
    fn every_subcommand_is_explained_where_its_container_is() {
        for spec in TABLE {
            let Some(parent) = spec.parent else { continue };
            if matches!(spec.id, CommandId::CommandHelp) || spec.short_name() == "help" {
                continue;
            }
            let name = spec.short_name().to_ascii_uppercase();
            let explained =
                lines(parent).iter().any(|l| l.split(' ').next() == Some(name.as_str()));
            assert!(explained, "{} is missing from HELP", spec.name);
        }
    }
}
