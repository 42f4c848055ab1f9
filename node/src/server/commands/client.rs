//! CLIENT and its subcommands.

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};

use super::{After, Context, lossy};
use crate::ops::clock;
use crate::server::registry::Filter;
use crate::server::session::ReplyMode;

/// CLIENT INFO
pub(super) fn info(cx: &Context<'_>, w: &mut Writer<'_>) {
    w.verbatim(b"txt", &format!("{}\n", cx.client.line(clock::now())));
}

/// CLIENT LIST [TYPE type] [ID id ...]
pub(super) fn list(cx: &Context<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Result<(), WireError> {
    let filter = list_filter(argv)?;
    let now = clock::now();
    let mut text = String::new();
    for client in cx.shared.clients.matching(&filter) {
        text.push_str(&client.line(now));
        text.push('\n');
    }
    w.verbatim(b"txt", &text);
    Ok(())
}

fn list_filter(argv: Argv<'_>) -> Result<Filter, WireError> {
    let mut filter = Filter::default();
    let Some(word) = argv.get(2) else { return Ok(filter) };
    match (word.to_ascii_lowercase().as_slice(), argv.len()) {
        (b"type", 4) => filter.normal = Some(is_normal(&argv[3])?),
        (b"id", 4..) => {
            for id in argv.iter().skip(3) {
                let id = parse_i64(id).and_then(|id| u64::try_from(id).ok());
                filter.ids.push(id.ok_or(WireError::Static("ERR Invalid client ID"))?);
            }
        }
        _ => return Err(WireError::Syntax),
    }
    Ok(filter)
}

/// Whether a type of client is the one that a lone node has; an error if Redis has no such type.
fn is_normal(name: &[u8]) -> Result<bool, WireError> {
    match name.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => Err(WireError::Custom(format!("ERR Unknown client type '{}'", lossy(name)))),
    }
}

/// CLIENT KILL address | CLIENT KILL filter value ...
pub(super) fn kill(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<After, WireError> {
    let by_address = argv.len() == 3;
    let (filter, skip_me) = match by_address {
        true => (Filter { address: Some(lossy(&argv[2])), ..Filter::default() }, false),
        false => kill_filter(argv)?,
    };
    let (mut killed, mut after) = (0, After::Continue);
    for client in cx.shared.clients.matching(&filter) {
        if client.id != cx.client.id {
            client.kill();
        } else if skip_me {
            continue;
        } else {
            after = After::Close;
        }
        killed += 1;
    }
    match by_address {
        false => w.int(killed),
        true if killed > 0 => w.ok(),
        true => return Err(WireError::Static("ERR No such client")),
    }
    Ok(after)
}

/// The filters of CLIENT KILL, and whether the caller is spared.
fn kill_filter(argv: Argv<'_>) -> Result<(Filter, bool), WireError> {
    let (mut filter, mut skip_me) = (Filter::default(), true);
    if argv.len() % 2 == 1 {
        return Err(WireError::Syntax);
    }
    for at in (2..argv.len()).step_by(2) {
        let value = &argv[at + 1];
        match argv[at].to_ascii_lowercase().as_slice() {
            b"id" => {
                let id =
                    parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                let wrong = WireError::Static("ERR client-id should be greater than 0");
                filter.ids = vec![id.ok_or(wrong)?];
            }
            b"type" => filter.normal = Some(is_normal(value)?),
            b"addr" => filter.address = Some(lossy(value)),
            b"laddr" => filter.local = Some(lossy(value)),
            b"user" if value == b"default" => {}
            b"user" => {
                return Err(WireError::Custom(format!("ERR No such user '{}'", lossy(value))));
            }
            b"skipme" => skip_me = yes_no(value)?,
            _ => return Err(WireError::Syntax),
        }
    }
    Ok((filter, skip_me))
}

fn yes_no(value: &[u8]) -> Result<bool, WireError> {
    match value.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(WireError::Syntax),
    }
}

/// CLIENT GETNAME
pub(super) fn get_name(cx: &Context<'_>, w: &mut Writer<'_>) {
    match cx.client.names().name.as_str() {
        "" => w.null(),
        name => w.bulk(name.as_bytes()),
    }
}

/// CLIENT SETNAME name
pub(super) fn set_name(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    let name = checked_name(&argv[2])?;
    cx.client.set_names(|names| names.name = name);
    w.ok();
    Ok(())
}

/// A client's name, if CLIENT LIST can print it.
pub(super) fn checked_name(name: &[u8]) -> Result<String, WireError> {
    printable(name).ok_or(WireError::Static(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

fn printable(text: &[u8]) -> Option<String> {
    let plain = text.iter().all(|byte| (b'!'..=b'~').contains(byte));
    plain.then(|| lossy(text))
}

/// CLIENT SETINFO LIB-NAME|LIB-VER value
pub(super) fn set_info(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    let attribute = lossy(&argv[2]);
    let is = |name: &str| attribute.eq_ignore_ascii_case(name);
    if !is("lib-name") && !is("lib-ver") {
        return Err(WireError::Custom(format!("ERR Unrecognized option '{attribute}'")));
    }
    let value = printable(&argv[3]).ok_or_else(|| {
        WireError::Custom(format!(
            "ERR {attribute} cannot contain spaces, newlines or special characters."
        ))
    })?;
    cx.client.set_names(|names| match is("lib-name") {
        true => names.lib_name = value,
        false => names.lib_version = value,
    });
    w.ok();
    Ok(())
}

/// CLIENT NO-EVICT ON|OFF
pub(super) fn no_evict(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    cx.client.set_no_evict(on_off(&argv[2])?);
    w.ok();
    Ok(())
}

/// CLIENT NO-TOUCH ON|OFF
pub(super) fn no_touch(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    cx.client.set_no_touch(on_off(&argv[2])?);
    w.ok();
    Ok(())
}

fn on_off(value: &[u8]) -> Result<bool, WireError> {
    match value.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(WireError::Syntax),
    }
}

/// CLIENT REPLY ON|OFF|SKIP. Only ON answers.
pub(super) fn reply(
    cx: &mut Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    match argv[2].to_ascii_lowercase().as_slice() {
        b"on" => {
            cx.session.replies = ReplyMode::On;
            w.ok();
        }
        b"off" => cx.session.replies = ReplyMode::Off,
        // While nothing is answered there is nothing to skip.
        b"skip" if cx.session.replies == ReplyMode::Off => {}
        b"skip" => cx.session.replies = ReplyMode::SkipNext,
        _ => return Err(WireError::Syntax),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv_of<T>(words: &[&str], f: impl Fn(Argv<'_>) -> T) -> T {
        let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        f(Argv::from(&args[..]))
    }

    fn kill(words: &[&str]) -> Result<(Filter, bool), String> {
        argv_of(words, kill_filter).map_err(|error| error.text().into_owned())
    }

    #[test]
    fn kill_filters_add_up() {
        let words = ["client", "kill", "ID", "7", "addr", "1.2.3.4:5", "skipme", "no"];
        let filter =
            Filter { ids: vec![7], address: Some("1.2.3.4:5".into()), ..Filter::default() };
        assert_eq!(kill(&words), Ok((filter, false)));
        let none = Filter { normal: Some(false), ..Filter::default() };
        assert_eq!(kill(&["client", "kill", "type", "pubsub"]), Ok((none, true)));
    }

    #[test]
    fn kill_refuses_as_redis_does() {
        for (words, text) in [
            (&["id", "0"][..], "ERR client-id should be greater than 0"),
            (&["id", "abc"], "ERR client-id should be greater than 0"),
            (&["type", "foo"], "ERR Unknown client type 'foo'"),
            (&["user", "foo"], "ERR No such user 'foo'"),
            (&["skipme", "maybe"], "ERR syntax error"),
            (&["foo", "bar"], "ERR syntax error"),
            (&["id", "1", "addr"], "ERR syntax error"),
        ] {
            let words = [&["client", "kill"], words].concat();
            assert_eq!(kill(&words), Err(text.to_owned()), "{words:?}");
        }
    }

    #[test]
    fn list_takes_a_type_or_ids() {
        let list = |words: &[&str]| argv_of(words, list_filter);
        assert_eq!(list(&["client", "list"]), Ok(Filter::default()));
        assert_eq!(list(&["client", "list", "id", "1", "2"]).map(|f| f.ids), Ok(vec![1, 2]));
        assert_eq!(list(&["client", "list", "type", "NORMAL"]).map(|f| f.normal), Ok(Some(true)));
        assert_eq!(list(&["client", "list", "id"]), Err(WireError::Syntax));
        assert_eq!(
            list(&["client", "list", "id", "x"]),
            Err(WireError::Static("ERR Invalid client ID"))
        );
    }

    #[test]
    fn names_are_printable_or_refused() {
        assert!(checked_name(b"worker-1:a").is_ok());
        assert!(checked_name(b"").is_ok());
        for bad in [&b"a b"[..], b"a\n", b"\xc3\xa9", b"a\0"] {
            assert!(checked_name(bad).is_err());
        }
    }
}
