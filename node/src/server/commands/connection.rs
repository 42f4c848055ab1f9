//! HELLO, AUTH, RESET, SELECT, PING.

use cairn_engine::database_index;
use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Proto, Writer};

use super::{Context, client, lossy};
use crate::ops::metrics::Counter;
use crate::server::info::REDIS_VERSION;
use crate::server::session::{ReplyMode, Session, password_matches};

/// The only user there is.
const DEFAULT_USER: &[u8] = b"default";

/// PING [message]
pub(super) fn ping(argv: Argv<'_>, w: &mut Writer<'_>) -> Result<(), WireError> {
    match argv.len() {
        1 => w.simple("PONG"),
        2 => w.bulk(&argv[1]),
        _ => return Err(WireError::WrongArity("ping")),
    }
    Ok(())
}

/// SELECT index
pub(super) fn select(
    cx: &mut Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    let index = database_index(&argv[1])?;
    if index.0 >= cx.shared.config.get().databases {
        return Err(WireError::DbOutOfRange);
    }
    cx.session.db = index.0;
    w.ok();
    Ok(())
}

/// AUTH [user] password
pub(super) fn auth(
    cx: &mut Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    match argv.len() {
        2 if cx.shared.config.get().requirepass.is_empty() => {
            return Err(WireError::Static(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => log_in(cx, DEFAULT_USER, &argv[1])?,
        3 => log_in(cx, &argv[1], &argv[2])?,
        _ => return Err(WireError::Syntax),
    }
    w.ok();
    Ok(())
}

/// Without a password set the default user may log in with any, as in Redis.
fn log_in(cx: &mut Context<'_>, user: &[u8], password: &[u8]) -> Result<(), WireError> {
    let wanted = &cx.shared.config.get().requirepass;
    if user != DEFAULT_USER || !(wanted.is_empty() || password_matches(wanted, password)) {
        cx.stats.count(Counter::acl_access_denied_auth, 1);
        return Err(WireError::WrongPass);
    }
    cx.session.authenticated = true;
    Ok(())
}

/// HELLO [version [AUTH user password] [SETNAME name]]
pub(super) fn hello(
    cx: &mut Context<'_>,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let mut proto = cx.session.proto;
    if let Some(version) = argv.get(1) {
        proto = match parse_i64(version) {
            Some(2) => Proto::Resp2,
            Some(3) => Proto::Resp3,
            Some(_) => return Err(WireError::NoProto),
            None => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(WireError::Static(text));
            }
        };
    }
    let mut name = None;
    let mut at = 2;
    while let Some(option) = argv.get(at) {
        match (option.to_ascii_lowercase().as_slice(), argv.len() - at - 1) {
            (b"auth", 2..) => {
                log_in(cx, &argv[at + 1], &argv[at + 2])?;
                at += 3;
            }
            (b"setname", 1..) => {
                name = Some(client::checked_name(&argv[at + 1])?);
                at += 2;
            }
            _ => {
                let text = format!("ERR Syntax error in HELLO option '{}'", lossy(option));
                return Err(WireError::Custom(text));
            }
        }
    }
    if !cx.session.authenticated {
        return Err(WireError::Static(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        cx.client.set_names(|names| names.name = name);
    }
    cx.session.proto = proto;
    greet(cx, &mut Writer::new(out, proto));
    Ok(())
}

fn greet(cx: &Context<'_>, w: &mut Writer<'_>) {
    w.map(7);
    // "redis", because clients branch on it.
    for (field, text) in [("server", "redis"), ("version", REDIS_VERSION)] {
        w.bulk(field.as_bytes());
        w.bulk(text.as_bytes());
    }
    w.bulk(b"proto");
    w.int(cx.session.proto.number());
    w.bulk(b"id");
    w.int(i64::try_from(cx.client.id).unwrap_or(i64::MAX));
    for (field, text) in [("mode", "standalone"), ("role", "master")] {
        w.bulk(field.as_bytes());
        w.bulk(text.as_bytes());
    }
    w.bulk(b"modules");
    w.array(0);
}

/// RESET
pub(super) fn reset(cx: &mut Context<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
    // A CLIENT REPLY SKIP before it still means its own reply, as in Redis.
    let replies = match cx.session.replies {
        ReplyMode::Skipping => ReplyMode::Skipping,
        _ => ReplyMode::On,
    };
    *cx.session = Session { replies, ..Session::new(&cx.shared.config.get()) };
    cx.client.set_names(|names| names.name.clear());
    cx.client.set_no_evict(false);
    cx.client.set_no_touch(false);
    Writer::new(out, cx.session.proto).simple("RESET");
    Ok(())
}
