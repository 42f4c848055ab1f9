//! From a request to its row, with Redis's errors when there is none.

use super::lookup::{lookup, lookup_subcommand};
use super::spec::Spec;
use crate::error::WireError;
use crate::resp::Argv;

/// The row that answers `argv`: the subcommand's for containers. Checks the arity.
///
/// # Errors
/// Unknown command, unknown subcommand, wrong number of arguments: worded as Redis 7.2 words them.
pub fn resolve(argv: Argv<'_>) -> Result<&'static Spec, WireError> {
    let name = argv.get(0).unwrap_or_default();
    let mut spec = lookup(name).ok_or_else(|| WireError::unknown_command(argv))?;
    if is_container(spec) && argv.len() > 1 {
        spec = lookup_subcommand(spec.id, &argv[1])
            .ok_or_else(|| WireError::unknown_subcommand(&argv[1], spec.name))?;
    }
    if spec.accepts(argv.len()) { Ok(spec) } else { Err(WireError::WrongArity(spec.name)) }
}

/// Whether a row has subcommands.
fn is_container(spec: &Spec) -> bool {
    use super::id::CommandId::{Client, Command, Config, Memory, Object, Raft, SlowLog, Snapshot};
    matches!(spec.id, Client | Command | Config | Memory | Object | Raft | SlowLog | Snapshot)
}

#[cfg(test)]
mod tests {
    use super::super::id::CommandId;
    use super::super::table::TABLE;
    use super::*;

    fn resolved(words: &[&str]) -> Result<CommandId, String> {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        resolve(Argv::from(&args[..])).map(|s| s.id).map_err(|e| e.text().into_owned())
    }

    #[test]
    fn containers_are_exactly_the_rows_with_subcommands() {
        for spec in TABLE {
            let has_children = TABLE.iter().any(|s| s.parent == Some(spec.id));
            assert_eq!(is_container(spec), has_children, "{}", spec.name);
        }
    }

    #[test]
    fn requests_find_their_rows() {
        assert_eq!(resolved(&["gEt", "k"]), Ok(CommandId::Get));
        assert_eq!(resolved(&["CONFIG", "get", "*"]), Ok(CommandId::ConfigGet));
        assert_eq!(resolved(&["command"]), Ok(CommandId::Command));
        assert_eq!(resolved(&["mset", "a", "b", "c", "d"]), Ok(CommandId::MSet));
    }

    #[test]
    fn errors_are_worded_as_redis_words_them() {
        let rows: [(&[&str], &str); 8] = [
            (&["get"], "ERR wrong number of arguments for 'get' command"),
            (&["get", "a", "b"], "ERR wrong number of arguments for 'get' command"),
            (&["config"], "ERR wrong number of arguments for 'config' command"),
            (&["config", "set", "a"], "ERR wrong number of arguments for 'config|set' command"),
            (&["config", "Nosuch"], "ERR unknown subcommand 'Nosuch'. Try CONFIG HELP."),
            (&["foo"], "ERR unknown command 'foo', with args beginning with: "),
            (&["foo", "a", "b"], "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
            (&["_stage", "1"], "ERR unknown command '_stage', with args beginning with: '1' "),
        ];
        for (words, wanted) in rows {
            assert_eq!(resolved(words), Err(wanted.to_owned()));
        }
    }

    #[test]
    fn long_unknown_requests_are_quoted_in_part() {
        let long = "x".repeat(1000);
        let text = resolved(&[&long, &long, "tail"]).unwrap_err();
        let part = "x".repeat(128);
        assert_eq!(
            text,
            format!("ERR unknown command '{part}', with args beginning with: '{part}' ")
        );
    }
}
