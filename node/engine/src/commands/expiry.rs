//! Commands that set, clear and report deadlines.

use cairn_protocol::WireError;
use cairn_protocol::command::CommandId;
use cairn_protocol::resp::{Argv, Writer};

use crate::expiry::{Time, to_seconds};
use crate::failure::{Failure, Outcome};
use crate::keyspace::{ReadContext, Touch, WriteContext};

/// TTL key
pub(super) fn ttl(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    report(cx, argv, w, |deadline, now| to_seconds(deadline.saturating_sub(now)))
}

/// PTTL key
pub(super) fn pttl(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    report(cx, argv, w, |deadline, now| deadline.saturating_sub(now))
}

/// EXPIRETIME key
pub(super) fn expiretime(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    report(cx, argv, w, |deadline, _| to_seconds(deadline))
}

/// PEXPIRETIME key
pub(super) fn pexpiretime(cx: &mut ReadContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    report(cx, argv, w, |deadline, _| deadline)
}

/// Replies what `f` makes of deadline and now, -1 without a deadline, -2 without a key.
fn report(
    cx: &mut ReadContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
    f: impl FnOnce(u64, u64) -> u64,
) -> Outcome {
    let reply = match cx.find(&argv[1], Touch::Peek)?.map(|record| record.deadline_ms()) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => i64::try_from(f(deadline, cx.now_ms)).unwrap_or(i64::MAX),
    };
    w.int(reply);
    Ok(())
}

/// EXPIRE key seconds [NX | XX | GT | LT]
pub(super) fn expire(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    set_deadline(cx, argv, w, Time::SECONDS, CommandId::Expire)
}

/// PEXPIRE key milliseconds [NX | XX | GT | LT]
pub(super) fn pexpire(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    set_deadline(cx, argv, w, Time::MILLISECONDS, CommandId::PExpire)
}

/// EXPIREAT key unix-time-seconds [NX | XX | GT | LT]
pub(super) fn expireat(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    set_deadline(cx, argv, w, Time::UNIX_SECONDS, CommandId::ExpireAt)
}

/// PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]
pub(super) fn pexpireat(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    set_deadline(cx, argv, w, Time::UNIX_MILLISECONDS, CommandId::PExpireAt)
}

fn set_deadline(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
    time: Time,
    command: CommandId,
) -> Outcome {
    let only_if = Conditions::parse(argv)?;
    let deadline = time.any_deadline(&argv[2], cx.now_ms, command.spec().name)?;
    let key = cx.key(&argv[1]);
    let current = cx.find(&key, |record| Ok(record.deadline_ms()))?;
    let set = current.is_some_and(|current| only_if.hold(current, deadline));
    if set {
        // What lies before the epoch has passed as well as the epoch itself.
        cx.set_deadline(&key, Some(u64::try_from(deadline).unwrap_or(0)))?;
    }
    w.int(set.into());
    Ok(())
}

/// When EXPIRE may change a deadline.
#[derive(Debug, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(argv: Argv<'_>) -> Outcome<Conditions> {
        let mut given = Conditions::default();
        for option in argv.iter().skip(3) {
            match option {
                o if o.eq_ignore_ascii_case(b"nx") => given.nx = true,
                o if o.eq_ignore_ascii_case(b"xx") => given.xx = true,
                o if o.eq_ignore_ascii_case(b"gt") => given.gt = true,
                o if o.eq_ignore_ascii_case(b"lt") => given.lt = true,
                other => return Err(unsupported(other)),
            }
        }
        if given.nx && (given.xx || given.gt || given.lt) {
            return Err(Failure::reply(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if given.gt && given.lt {
            return Err(Failure::reply(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(given)
    }

    /// A key without a deadline counts as one that never ends.
    fn hold(&self, current: Option<u64>, wanted: i64) -> bool {
        let current = current.map(i128::from);
        let wanted = i128::from(wanted);
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|current| wanted <= current)
            || self.lt && current.is_some_and(|current| wanted >= current))
    }
}

fn unsupported(option: &[u8]) -> Failure {
    let shown = option.split(|&b| b == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(shown);
    Failure::Reply(WireError::Custom(format!("ERR Unsupported option {text}")))
}

/// PERSIST key
pub(super) fn persist(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let key = cx.key(&argv[1]);
    let had_deadline = cx.find(&key, |record| Ok(record.deadline_ms().is_some()))? == Some(true);
    if had_deadline {
        cx.set_deadline(&key, None)?;
    }
    w.int(had_deadline.into());
    Ok(())
}
