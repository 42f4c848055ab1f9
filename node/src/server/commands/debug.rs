//! DEBUG: what test suites ask for, as far as it makes sense here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_protocol::WireError;
use cairn_protocol::number::{parse_f64, parse_i64};
use cairn_protocol::resp::{Argv, Writer};

use super::{After, Context, lossy};

/// The longest that DEBUG SLEEP takes: a day.
const MAX_SLEEP_SECONDS: f64 = 86_400.0;

const HELP: &[&str] = &[
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not accessed.",
    "SLEEP <seconds>",
    "    Answer after <seconds>. Decimals allowed. Other connections are served meanwhile.",
    "HELP",
    "    Prints this help.",
];

/// DEBUG subcommand ...
pub(super) fn run(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<After, WireError> {
    match (argv[1].to_ascii_lowercase().as_slice(), argv.len()) {
        (b"sleep", 3) => {
            let seconds = parse_f64(&argv[2]).ok_or(WireError::NotFloat)?;
            w.ok();
            Ok(After::Sleep(Duration::from_secs_f64(seconds.clamp(0.0, MAX_SLEEP_SECONDS))))
        }
        (b"set-active-expire", 3) => {
            let on = parse_i64(&argv[2]).ok_or(WireError::NotInteger)? != 0;
            cx.shared.active_expire.store(on, Ordering::Relaxed);
            w.ok();
            Ok(After::Continue)
        }
        (b"help", 2) => {
            w.array(HELP.len());
            HELP.iter().for_each(|line| w.simple(line));
            Ok(After::Continue)
        }
        _ => Err(WireError::Custom(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
            lossy(&argv[1])
        ))),
    }
}
