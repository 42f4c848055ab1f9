//! The commands that the server answers itself: connection, configuration, statistics.
//!
//! Handlers return the error to reply with; a half-written reply is dropped then.

mod admin;
mod client;
mod config;
mod connection;
mod debug;
mod replication;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::WireError;
use cairn_protocol::command::{CommandId, Spec, describe, help};
use cairn_protocol::ids::NodeId;
use cairn_protocol::resp::{Argv, Writer};

use super::Shared;
use super::registry::Client;
use super::session::Session;
use crate::ops::metrics::Shard as Stats;

/// What a handler may see and change.
pub(super) struct Context<'a> {
    pub shared: &'a Arc<Shared>,
    pub stats: &'a Arc<Stats>,
    pub session: &'a mut Session,
    pub client: &'a Arc<Client>,
}

/// Settings that lie in the shard's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SharedSettings {
    /// Limits of encodings, by number.
    pub limits: Vec<(usize, i64)>,
    /// The memory limit in bytes.
    pub memory: Option<u64>,
}

/// What the connection does once the reply is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Goes on.
    Continue,
    /// Sends what there is and closes.
    Close,
    /// Goes on after a while.
    Sleep(Duration),
    /// Answers WAIT or WAITAOF.
    Wait(Waiting),
    /// Takes a member out of the group, and answers how that went.
    Remove(NodeId),
    /// Changes what all replicas share. The reply stands if that succeeds.
    Change(SharedSettings),
}

/// What WAIT and WAITAOF wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// So many replicas in step with all writes that were acknowledged here.
    pub(super) replicas: usize,
    /// At most so long; zero: however long it takes.
    pub(super) longest: Duration,
    /// WAITAOF: whether what this node wrote is to be on the medium too.
    pub(super) local: Option<bool>,
}

/// Whether a command's reply depends neither on the writes before it nor on the protocol that one
/// of them may choose, so that it can be placed among their replies without waiting for them. Such
/// a command never closes or waits.
pub(super) fn is_placeable(id: CommandId) -> bool {
    use CommandId::{Discard, Echo, Multi, Ping, Select, Time, Unwatch};
    matches!(id, Ping | Echo | Select | Time | Multi | Discard | Unwatch)
}

/// Runs a command of the server's and appends its reply to `out`.
pub(super) fn execute(
    cx: &mut Context<'_>,
    spec: &'static Spec,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) -> After {
    let from = out.len();
    run(cx, spec, argv, out).unwrap_or_else(|error| {
        out.truncate(from);
        Writer::new(out, cx.session.proto).error(&error);
        After::Continue
    })
}

fn run(
    cx: &mut Context<'_>,
    spec: &'static Spec,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) -> Result<After, WireError> {
    use CommandId as Id;
    // These choose the protocol that they answer in.
    match spec.id {
        Id::Hello => return connection::hello(cx, argv, out).map(|()| After::Continue),
        Id::Reset => return connection::reset(cx, out).map(|()| After::Continue),
        _ => {}
    }
    let w = &mut Writer::new(out, cx.session.proto);
    match spec.id {
        Id::Ping => connection::ping(argv, w)?,
        Id::Echo => w.bulk(&argv[1]),
        Id::Select => connection::select(cx, argv, w)?,
        Id::Time => admin::time(w),
        Id::Auth => connection::auth(cx, argv, w)?,
        Id::Multi => transaction::multi(cx, w)?,
        Id::Discard => transaction::discard(cx, w)?,
        Id::Watch => transaction::watch(cx, argv, w)?,
        Id::Unwatch => transaction::unwatch(cx, w),
        Id::Quit => {
            w.ok();
            return Ok(After::Close);
        }
        Id::ClientKill => return client::kill(cx, argv, w),
        Id::ClientId => w.int(i64::try_from(cx.client.id).unwrap_or(i64::MAX)),
        Id::ClientInfo => client::info(cx, w),
        Id::ClientList => client::list(cx, argv, w)?,
        Id::ClientGetName => client::get_name(cx, w),
        Id::ClientSetName => client::set_name(cx, argv, w)?,
        Id::ClientSetInfo => client::set_info(cx, argv, w)?,
        Id::ClientNoEvict => client::no_evict(cx, argv, w)?,
        Id::ClientNoTouch => client::no_touch(cx, argv, w)?,
        Id::ClientReply => client::reply(cx, argv, w)?,
        Id::ConfigGet => config::get(cx, argv, w),
        Id::ConfigSet => return config::set(cx, argv, w),
        Id::ConfigResetStat => {
            cx.shared.metrics.reset();
            w.ok();
        }
        Id::ConfigRewrite => return Err(config::no_rewrite()),
        Id::Command
        | Id::CommandCount
        | Id::CommandDocs
        | Id::CommandGetKeys
        | Id::CommandGetKeysAndFlags
        | Id::CommandInfo
        | Id::CommandList => describe::answer(spec.id, argv, w)?,
        Id::Info => admin::info(cx, argv, w),
        Id::Shutdown => return admin::shutdown(cx, argv),
        Id::SlowLogGet => admin::slowlog_get(cx, argv, w)?,
        Id::SlowLogLen => w.int(cx.shared.slowlog.len() as i64),
        Id::SlowLogReset => {
            cx.shared.slowlog.reset();
            w.ok();
        }
        Id::Wait => return admin::wait(argv),
        Id::WaitAof => return admin::wait_aof(argv),
        Id::Role => replication::role(cx, w),
        Id::ReadOnly => replication::read_only(cx, true, w)?,
        Id::ReadWrite => replication::read_only(cx, false, w)?,
        Id::RaftStatus => replication::status(cx, w),
        Id::RaftRemove => return replication::remove(cx, argv),
        Id::Debug => return debug::run(cx, argv, w),
        _ => match spec.parent {
            // Every container has a HELP, and no other row comes here.
            Some(container) => help::answer(container, w),
            None => w.error_text("ERR this command is not answered by the server"),
        },
    }
    Ok(After::Continue)
}

/// The text of an argument for an error message.
fn lossy(arg: &[u8]) -> String {
    String::from_utf8_lossy(arg).into_owned()
}
