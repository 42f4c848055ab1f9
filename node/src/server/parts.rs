//! Deletes of very many keys on a node that is short of room.
//!
//! Under copy-on-write a delete copies the way to each key, and what it copies comes back only
//! behind commits, which fall between two operations of the log. So one that finds no room whole is
//! proposed in parts, each of which waits for the room that the ones before it have freed: what
//! frees is never refused for being wide. Others may then see some of its keys gone before the rest.

use cairn_engine::Effects;
use cairn_protocol::WireError;
use cairn_protocol::command::{CommandId, Spec};
use cairn_protocol::resp::Argv;
use cairn_store::{Db, Demand, Removal, Spare};

use crate::raft::{Group, Way, error_code};

/// Keys of one part, and of a delete that is never parted.
const KEYS: usize = 16;
/// Keys looked at under one hold of the lock.
const KEYS_AT_ONCE: usize = 256;
/// What deleting a key takes for sure, wherever it lies.
const KEY_BYTES: u64 = 16 << 10;

/// Whether a write must be proposed in parts to find room.
pub(super) fn is_needed(group: &Group, spec: &'static Spec, db: u16, argv: Argv<'_>) -> bool {
    let is_delete = matches!(spec.id, CommandId::Del | CommandId::Unlink);
    if !is_delete || argv.len() <= KEYS + 1 {
        return false;
    }
    let most = Demand::of_nodes(KEY_BYTES * argv.len() as u64);
    if group.read().store().has_plenty(&most, Spare::Deletes) {
        return false;
    }
    let mut removal = Removal::default();
    let mut names = argv.iter().skip(1).peekable();
    while names.peek().is_some() {
        // No longer under one hold of the lock: it need not be of one moment.
        let engine = group.read();
        for name in names.by_ref().take(KEYS_AT_ONCE) {
            // Damage is told by the command itself.
            let _ = removal.add(&engine.store().view(), Db(db), &engine.hash(name));
        }
        let demand = Demand::of_nodes(removal.bytes());
        if !engine.store().room_left().takes(&demand, Spare::AChange) {
            return true;
        }
    }
    false
}

/// Deletes the keys that `argv` names, part by part; returns how many there were.
///
/// # Errors
/// What a part was answered: those before it have been done.
pub(super) async fn delete(
    way: &mut Way<'_>,
    spec: &'static Spec,
    db: u16,
    argv: Argv<'_>,
) -> Result<(i64, Effects), WireError> {
    let (mut deleted, mut effects) = (0, Effects::default());
    let names: Vec<&[u8]> = argv.iter().skip(1).collect();
    for names in names.chunks(KEYS) {
        let words: Vec<&[u8]> = std::iter::once(&argv[0]).chain(names.iter().copied()).collect();
        way.batch().push_write(spec, db, Argv::from(&words[..]), false);
        way.run().await;
        if way.is_lost() {
            break;
        }
        let mut reply = Vec::new();
        effects += way.batch().take_replies(&mut reply);
        deleted += number(&reply)?;
    }
    Ok((deleted, effects))
}

/// The number that a reply is.
fn number(reply: &[u8]) -> Result<i64, WireError> {
    let text = String::from_utf8_lossy(reply.get(1..).unwrap_or_default());
    match text.trim_end().parse() {
        Ok(number) if error_code(reply).is_none() => Ok(number),
        _ => Err(WireError::Custom(text.trim_end().to_owned())),
    }
}
