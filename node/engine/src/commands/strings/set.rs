//! SET and its family: replacing a whole value, with the options that decide whether and how long.

use cairn_protocol::WireError;
use cairn_protocol::command::{Args, CommandId};
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::Key;

use crate::data::string;
use crate::expiry::Time;
use crate::failure::Outcome;
use crate::keyspace::WriteContext;

/// SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]
pub(crate) fn set(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let key = cx.key(&argv[1]);
    if argv.len() == 3 {
        cx.set_string(&key, argv, 2, None)?;
        w.ok();
        return Ok(());
    }
    let options = Options::parse(Args::new(argv, 3), Accepts::Set)?;
    let mut deadline = options.deadline(cx.now_ms, CommandId::Set)?;
    if options.get {
        reply_value(cx, &key, w)?;
    }
    let current = cx.find(&key, |record| Ok(record.deadline_ms()))?;
    if options.only_if.is_some_and(|wanted| wanted != current.is_some()) {
        if !options.get {
            w.null();
        }
        return Ok(());
    }
    if options.keep_ttl {
        deadline = current.flatten();
    }
    cx.set_string(&key, argv, 2, deadline)?;
    if !options.get {
        w.ok();
    }
    Ok(())
}

/// SETNX key value
pub(crate) fn setnx(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let key = cx.key(&argv[1]);
    let absent = !cx.exists(&key)?;
    if absent {
        cx.set_string(&key, argv, 2, None)?;
    }
    w.int(absent.into());
    Ok(())
}

/// SETEX key seconds value
pub(crate) fn setex(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    set_with_deadline(cx, argv, w, Time::SECONDS, CommandId::SetEx)
}

/// PSETEX key milliseconds value
pub(crate) fn psetex(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    set_with_deadline(cx, argv, w, Time::MILLISECONDS, CommandId::PSetEx)
}

fn set_with_deadline(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
    time: Time,
    command: CommandId,
) -> Outcome {
    let deadline = time.positive_deadline(&argv[2], cx.now_ms, command.spec().name)?;
    let key = cx.key(&argv[1]);
    cx.set_string(&key, argv, 3, Some(deadline))?;
    w.ok();
    Ok(())
}

/// GETSET key value
pub(crate) fn getset(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let key = cx.key(&argv[1]);
    reply_value(cx, &key, w)?;
    cx.set_string(&key, argv, 2, None)
}

/// GETDEL key
pub(crate) fn getdel(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let key = cx.key(&argv[1]);
    if reply_value(cx, &key, w)? {
        cx.remove(&key)?;
    }
    Ok(())
}

/// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]
pub(crate) fn getex(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let options = Options::parse(Args::new(argv, 2), Accepts::GetEx)?;
    let key = cx.key(&argv[1]);
    if !reply_value(cx, &key, w)? {
        return Ok(());
    }
    // A missing key is answered before a time that makes no sense is refused, as in Redis.
    match options.deadline(cx.now_ms, CommandId::GetEx)? {
        Some(deadline) => cx.set_deadline(&key, Some(deadline)),
        None if options.persist => clear_deadline(cx, &key),
        None => Ok(()),
    }
}

fn clear_deadline(cx: &mut WriteContext<'_>, key: &Key<'_>) -> Outcome {
    if cx.find(key, |record| Ok(record.deadline_ms().is_some()))? == Some(true) {
        cx.set_deadline(key, None)?;
    }
    Ok(())
}

/// Replies with the key's string, or null; returns whether the key exists.
fn reply_value(cx: &mut WriteContext<'_>, key: &Key<'_>, w: &mut Writer<'_>) -> Outcome<bool> {
    let found = cx.read(key, |record| {
        string::require(record)?;
        string::reply(record, w)
    })?;
    if found.is_none() {
        w.null();
    }
    Ok(found.is_some())
}

/// Whose options are being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepts {
    Set,
    GetEx,
}

/// The options of SET and GETEX.
#[derive(Default)]
struct Options<'a> {
    /// `NX`: the key must be absent (`false`); `XX`: it must exist (`true`).
    only_if: Option<bool>,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expire: Option<(Time, &'a [u8])>,
}

const EXPIRES: [(&str, Time); 4] = [
    ("EX", Time::SECONDS),
    ("PX", Time::MILLISECONDS),
    ("EXAT", Time::UNIX_SECONDS),
    ("PXAT", Time::UNIX_MILLISECONDS),
];

impl<'a> Options<'a> {
    /// Options in any order; one that contradicts an earlier one is a syntax error, one that is
    /// repeated is not.
    fn parse(mut args: Args<'a>, accepts: Accepts) -> Outcome<Options<'a>> {
        let mut options = Options::default();
        while !args.is_empty() {
            if !(options.take_condition(&mut args, accepts)
                || options.take_lifetime(&mut args, accepts)
                || options.take_expire(&mut args))
            {
                return Err(WireError::Syntax.into());
            }
        }
        Ok(options)
    }

    fn take_condition(&mut self, args: &mut Args<'a>, accepts: Accepts) -> bool {
        if accepts != Accepts::Set {
            return false;
        }
        if self.only_if != Some(true) && args.keyword("NX") {
            self.only_if = Some(false);
            return true;
        }
        if self.only_if != Some(false) && args.keyword("XX") {
            self.only_if = Some(true);
            return true;
        }
        let get = args.keyword("GET");
        self.get |= get;
        get
    }

    fn take_lifetime(&mut self, args: &mut Args<'a>, accepts: Accepts) -> bool {
        if self.expire.is_some() {
            return false;
        }
        let (word, taken) = match accepts {
            Accepts::Set => ("KEEPTTL", &mut self.keep_ttl),
            Accepts::GetEx => ("PERSIST", &mut self.persist),
        };
        let found = args.keyword(word);
        *taken |= found;
        found
    }

    fn take_expire(&mut self, args: &mut Args<'a>) -> bool {
        if self.keep_ttl || self.persist {
            return false;
        }
        for (word, time) in EXPIRES {
            if self.expire.is_some_and(|(given, _)| given != time) {
                continue;
            }
            if let Some(text) = args.keyword_with_value(word) {
                self.expire = Some((time, text));
                return true;
            }
        }
        false
    }

    fn deadline(&self, now_ms: u64, command: CommandId) -> Outcome<Option<u64>> {
        self.expire
            .map(|(time, text)| time.positive_deadline(text, now_ms, command.spec().name))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const EXPIRE_SET: &str = "-ERR invalid expire time in 'set' command";
    const EXPIRE_GETEX: &str = "-ERR invalid expire time in 'getex' command";

    #[test]
    fn conditions() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k a XX", "$-1"),
            ("SET k a NX", "+OK"),
            ("SET k b NX", "$-1"),
            ("GET k", "$1|a"),
            ("SET k b XX", "+OK"),
            ("GET k", "$1|b"),
            ("SET k c NX GET", "$1|b"),
            ("GET k", "$1|b"),
            ("SET k c XX GET", "$1|b"),
            ("GET k", "$1|c"),
            ("SET new c XX GET", "$-1"),
            ("EXISTS new", ":0"),
            ("SET new c NX GET", "$-1"),
            ("GET new", "$1|c"),
            ("SET k d GET", "$1|c"),
            ("SET k d NX NX", "$-1"),
            ("SETNX k x", ":0"),
            ("SETNX k2 x", ":1"),
            ("GET k2", "$1|x"),
            ("GETSET k2 y", "$1|x"),
            ("GETSET k3 y", "$-1"),
            ("GETDEL k3", "$1|y"),
            ("GETDEL k3", "$-1"),
        ]);
    }

    #[test]
    fn options_that_do_not_fit_together() {
        let mut bench = Bench::new();
        for options in [
            "NX XX",
            "XX NX",
            "EX",
            "EX 1 PX 1",
            "KEEPTTL EX 1",
            "EX 1 KEEPTTL",
            "EX 1 EXAT 1",
            "PERSIST",
            "FOO",
            "NX FOO",
            "GET EX",
            "KEEPTTL PXAT",
        ] {
            bench.check(&[(&format!("SET k v {options}"), "-ERR syntax error")]);
        }
        for options in ["NX", "GET", "KEEPTTL", "PERSIST EX 1", "EX 1 PERSIST", "EX", "PX 1 EX 1"] {
            bench.check(&[(&format!("GETEX k {options}"), "-ERR syntax error")]);
        }
        bench.check(&[("EXISTS k", ":0")]);
    }

    #[test]
    fn repeated_options_are_not_an_error() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k v EX 10 EX 20", "+OK"),
            ("TTL k", ":20"),
            ("SET k v KEEPTTL KEEPTTL XX xx", "+OK"),
            ("TTL k", ":20"),
        ]);
    }

    #[test]
    fn deadlines() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k v EX 10", "+OK"),
            ("PTTL k", ":10000"),
            ("SET k v PX 1500", "+OK"),
            ("PTTL k", ":1500"),
            ("TTL k", ":2"),
            ("SET k w KEEPTTL", "+OK"),
            ("PTTL k", ":1500"),
            ("SET k w", "+OK"),
            ("TTL k", ":-1"),
            ("SETEX k 10 v", "+OK"),
            ("TTL k", ":10"),
            ("PSETEX k 2500 v", "+OK"),
            ("PTTL k", ":2500"),
            ("GETSET k x", "$1|v"),
            ("TTL k", ":-1"),
            ("SET k v PXAT 9223372036854775807", "+OK"),
            ("PEXPIRETIME k", ":9223372036854775807"),
            ("SET k v EXAT 1", "+OK"),
            ("EXISTS k", ":0"),
            ("DBSIZE", ":0"),
        ]);
    }

    #[test]
    fn times_that_make_no_sense() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k v EX 0", EXPIRE_SET),
            ("SET k v PX -1", EXPIRE_SET),
            ("SET k v EX 9223372036854775807", EXPIRE_SET),
            ("SET k v PX 9223372036854775807", EXPIRE_SET),
            ("SET k v EX 1.5", "-ERR value is not an integer or out of range"),
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
            ("PSETEX k -1 v", "-ERR invalid expire time in 'psetex' command"),
            ("EXISTS k", ":0"),
            ("GETEX k EX 0", "$-1"),
            ("SET k v", "+OK"),
            ("GETEX k EX 0", EXPIRE_GETEX),
            ("GETEX k EX x", "-ERR value is not an integer or out of range"),
        ]);
    }

    #[test]
    fn getex_changes_only_the_deadline() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k 5", "+OK"),
            ("GETEX k", "$1|5"),
            ("TTL k", ":-1"),
            ("GETEX k EX 10", "$1|5"),
            ("TTL k", ":10"),
            ("GETEX k", "$1|5"),
            ("TTL k", ":10"),
            ("GETEX k PERSIST", "$1|5"),
            ("TTL k", ":-1"),
            ("GETEX k PERSIST", "$1|5"),
            ("OBJECT ENCODING k", "$3|int"),
            ("GETEX k PXAT 1", "$1|5"),
            ("EXISTS k", ":0"),
        ]);
    }

    #[test]
    fn expired_keys_are_absent() {
        let mut bench = Bench::new();
        bench.check(&[("SET k old PX 10", "+OK"), ("SET kept old PX 10", "+OK")]);
        bench.advance_ms(10);
        bench.check(&[
            ("SET k new XX", "$-1"),
            ("SET k new GET", "$-1"),
            ("TTL k", ":-1"),
            ("SET kept new KEEPTTL", "+OK"),
            ("TTL kept", ":-1"),
        ]);
        bench.check(&[("SET k old PX 10", "+OK")]);
        bench.advance_ms(10);
        bench.check(&[("GETDEL k", "$-1"), ("DBSIZE", ":1")]);
    }
}
