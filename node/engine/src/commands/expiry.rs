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

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    #[test]
    fn times_are_reported_in_each_unit() {
        let mut bench = Bench::new();
        bench.check(&[
            ("TTL k", ":-2"),
            ("PTTL k", ":-2"),
            ("EXPIRETIME k", ":-2"),
            ("PEXPIRETIME k", ":-2"),
            ("SET k v", "+OK"),
            ("TTL k", ":-1"),
            ("PTTL k", ":-1"),
            ("EXPIRETIME k", ":-1"),
            ("PEXPIRETIME k", ":-1"),
            ("PEXPIREAT k 1700000001600", ":1"),
            ("PTTL k", ":1600"),
            ("TTL k", ":2"),
            ("PEXPIRETIME k", ":1700000001600"),
            ("EXPIRETIME k", ":1700000002"),
        ]);
        bench.advance_ms(1599);
        bench.check(&[("PTTL k", ":1"), ("TTL k", ":0"), ("GET k", "$1|v")]);
        bench.advance_ms(1);
        bench.check(&[("PTTL k", ":-2"), ("GET k", "$-1")]);
    }

    #[test]
    fn deadlines_are_set_and_cleared() {
        let mut bench = Bench::new();
        bench.check(&[
            ("EXPIRE k 10", ":0"),
            ("PERSIST k", ":0"),
            ("SET k v", "+OK"),
            ("PERSIST k", ":0"),
            ("EXPIRE k 10", ":1"),
            ("PTTL k", ":10000"),
            ("PEXPIRE k 1500", ":1"),
            ("PTTL k", ":1500"),
            ("EXPIREAT k 1700000100", ":1"),
            ("TTL k", ":100"),
            ("PERSIST k", ":1"),
            ("TTL k", ":-1"),
            ("OBJECT ENCODING k", "$6|embstr"),
        ]);
    }

    #[test]
    fn a_deadline_that_is_not_in_the_future_deletes() {
        let mut bench = Bench::new();
        for command in
            ["EXPIRE k 0", "EXPIRE k -1", "PEXPIRE k -5", "EXPIREAT k 1", "PEXPIREAT k -1"]
        {
            bench.check(&[
                ("SET k v", "+OK"),
                (command, ":1"),
                ("EXISTS k", ":0"),
                ("DBSIZE", ":0"),
            ]);
        }
    }

    #[test]
    fn conditions_compare_with_the_deadline_there_is() {
        // Without a deadline, then with one of 100 seconds: what setting 50 and 200 replies.
        let rows: &[(&str, [&str; 4])] = &[
            ("", [":1", ":1", ":1", ":1"]),
            ("NX", [":1", ":1", ":0", ":0"]),
            ("XX", [":0", ":0", ":1", ":1"]),
            ("GT", [":0", ":0", ":0", ":1"]),
            ("LT", [":1", ":1", ":1", ":0"]),
            ("XX GT", [":0", ":0", ":0", ":1"]),
            ("XX LT", [":0", ":0", ":1", ":0"]),
        ];
        let mut bench = Bench::new();
        for (options, wanted) in rows {
            let cases = [("SET k v", "50"), ("SET k v", "200"), ("SET k v EX 100", "50")];
            for ((set, seconds), wanted) in
                cases.into_iter().chain([("SET k v EX 100", "200")]).zip(wanted)
            {
                let expire = format!("EXPIRE k {seconds} {options}");
                bench.check(&[(set, "+OK"), (expire.trim_end(), wanted)]);
            }
        }
        bench.check(&[
            ("SET k v EX 100", "+OK"),
            ("EXPIRE k 100 GT", ":0"),
            ("EXPIRE k 100 LT", ":0"),
            ("EXPIRE k -1 LT", ":1"),
            ("EXISTS k", ":0"),
        ]);
    }

    #[test]
    fn options_are_checked_before_anything_else() {
        let both = "-ERR NX and XX, GT or LT options at the same time are not compatible";
        let mut bench = Bench::new();
        bench.check(&[
            ("EXPIRE k 1 NX XX", both),
            ("EXPIRE k x LT NX", both),
            ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible"),
            ("EXPIRE k x FOO", "-ERR Unsupported option FOO"),
            ("EXPIRE k x", "-ERR value is not an integer or out of range"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command"),
            ("PEXPIREAT k 9223372036854775807", ":0"),
        ]);
        let reply = bench.run(&[b"EXPIRE", b"k", b"1", b"a\r\nb\0c"]);
        assert_eq!(reply, b"-ERR Unsupported option a  b\r\n");
    }
}
