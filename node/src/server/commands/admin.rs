//! INFO, TIME, SLOWLOG, SHUTDOWN, WAIT.

use std::time::Duration;

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};

use super::{After, Context, Waiting};
use crate::ops::clock;
use crate::server::info;
use crate::server::stop::Why;

/// Entries that SLOWLOG GET returns unless told otherwise, as in Redis.
const SLOWLOG_GET: usize = 10;

/// INFO [section ...]
pub(super) fn info(cx: &Context<'_>, argv: Argv<'_>, w: &mut Writer<'_>) {
    let sections: Vec<String> =
        argv.iter().skip(1).map(|word| super::lossy(word).to_ascii_lowercase()).collect();
    w.verbatim(b"txt", &info::render(&info::gather(cx.shared), &sections));
}

/// TIME
pub(super) fn time(w: &mut Writer<'_>) {
    let now_us = clock::wall_us();
    w.array(2);
    w.bulk((now_us / 1_000_000).to_string().as_bytes());
    w.bulk((now_us % 1_000_000).to_string().as_bytes());
}

/// SLOWLOG GET [count]
pub(super) fn slowlog_get(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    let count = match (argv.get(2), argv.len()) {
        (None, _) => SLOWLOG_GET,
        (Some(count), 3) => match parse_i64(count) {
            Some(-1) => usize::MAX,
            Some(count @ 0..) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => {
                let text = "ERR count should be greater than or equal to -1";
                return Err(WireError::Static(text));
            }
        },
        _ => {
            return Err(WireError::Static(
                "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
            ));
        }
    };
    let entries = cx.shared.slowlog.newest(count);
    w.array(entries.len());
    for entry in entries {
        w.array(6);
        w.int(entry.id as i64);
        w.int(entry.at_seconds as i64);
        w.int(entry.duration_us as i64);
        w.array(entry.args.len());
        entry.args.iter().for_each(|arg| w.bulk(arg));
        w.bulk(entry.address.as_bytes());
        w.bulk(entry.name.as_bytes());
    }
    Ok(())
}

/// SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] | SHUTDOWN ABORT. What was acknowledged is durable whatever
/// is said; an orderly stop commits and takes milliseconds, so there is never one to abort.
pub(super) fn shutdown(cx: &Context<'_>, argv: Argv<'_>) -> Result<After, WireError> {
    let words: Vec<Vec<u8>> = argv.iter().skip(1).map(<[u8]>::to_ascii_lowercase).collect();
    let has = |name: &[u8]| words.iter().any(|word| word == name);
    let known = |word: &Vec<u8>| {
        matches!(word.as_slice(), b"save" | b"nosave" | b"now" | b"force" | b"abort")
    };
    let contradicts = has(b"save") && has(b"nosave") || has(b"abort") && words.len() > 1;
    if contradicts || !words.iter().all(known) {
        return Err(WireError::Syntax);
    }
    if has(b"abort") {
        return Err(WireError::Static("ERR No shutdown in progress."));
    }
    cx.shared.stop.ask(Why::Command);
    Ok(After::Close)
}

/// WAIT numreplicas timeout.
pub(super) fn wait(argv: Argv<'_>) -> Result<After, WireError> {
    let replicas = parse_i64(&argv[1]).ok_or(WireError::NotInteger)?;
    let replicas = usize::try_from(replicas.max(0)).unwrap_or(usize::MAX);
    Ok(After::Wait(Waiting { replicas, longest: timeout(&argv[2])?, local: None }))
}

/// WAITAOF numlocal numreplicas timeout
pub(super) fn wait_aof(argv: Argv<'_>) -> Result<After, WireError> {
    let local = match parse_i64(&argv[1]) {
        Some(local @ (0 | 1)) => local == 1,
        _ => {
            return Err(WireError::Static("ERR value is out of range, value must between 0 and 1"));
        }
    };
    let replicas = parse_i64(&argv[2]).and_then(|n| usize::try_from(n).ok());
    let replicas = replicas.ok_or(WireError::MustBePositive)?;
    Ok(After::Wait(Waiting { replicas, longest: timeout(&argv[3])?, local: Some(local) }))
}

fn timeout(arg: &[u8]) -> Result<Duration, WireError> {
    match parse_i64(arg) {
        None => Err(WireError::Static("ERR timeout is not an integer or out of range")),
        Some(..0) => Err(WireError::Static("ERR timeout is negative")),
        Some(ms) => Ok(Duration::from_millis(ms as u64)),
    }
}
