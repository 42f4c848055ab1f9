//! MULTI, DISCARD, WATCH, UNWATCH. EXEC is the connection's: it may have to wait.

use cairn_protocol::WireError;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::Db;

use super::Context;
use crate::server::queue::{Queue, Watching};

/// Keys that begin to be watched under one hold of the shard's lock.
const KEYS_AT_ONCE: usize = 64;

/// MULTI
pub(super) fn multi(cx: &mut Context<'_>, w: &mut Writer<'_>) -> Result<(), WireError> {
    if cx.session.queue.is_some() {
        return Err(WireError::Static("ERR MULTI calls can not be nested"));
    }
    cx.session.queue = Some(Box::new(Queue::new(cx.session.db)));
    w.ok();
    Ok(())
}

/// DISCARD
pub(super) fn discard(cx: &mut Context<'_>, w: &mut Writer<'_>) -> Result<(), WireError> {
    if cx.session.queue.take().is_none() {
        return Err(WireError::Static("ERR DISCARD without MULTI"));
    }
    cx.session.watching = None;
    w.ok();
    Ok(())
}

/// WATCH key [key ...]
pub(super) fn watch(
    cx: &mut Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    if cx.session.queue.is_some() {
        return Err(WireError::Static("ERR WATCH inside MULTI is not allowed"));
    }
    let group = &cx.shared.group;
    let db = Db(cx.session.db);
    let names: Vec<&[u8]> = argv.iter().skip(1).collect();
    for names in names.chunks(KEYS_AT_ONCE) {
        // While this is held nothing is applied: each change is before the watch or is seen by it.
        let engine = group.read();
        let watching = cx
            .session
            .watching
            .get_or_insert_with(|| Watching::new(engine.watches(), group.term()));
        let now_ms = group.wall_ms().max(engine.store().clock_ms());
        for name in names {
            let watched = engine.watch(&watching.watch, db, name, now_ms);
            watched.map_err(|error| WireError::Corrupt(error.to_string()))?;
        }
    }
    w.ok();
    Ok(())
}

/// UNWATCH
pub(super) fn unwatch(cx: &mut Context<'_>, w: &mut Writer<'_>) {
    cx.session.watching = None;
    w.ok();
}
