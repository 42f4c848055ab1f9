//! Long arguments go ahead of their command, in pieces, so that no log record is huge.
//!
//! A 512 MiB value would otherwise be one record, one copy in memory and one long hold of the lock.
//! Its pieces are operations that append to a hidden database; the command's own operation then
//! names the stage instead of the bytes. The client sees one command: nothing shows before it.

use std::sync::atomic::{AtomicU64, Ordering};

use cairn_engine::{encode_drop_stages, encode_stage};
use cairn_protocol::WireError;
use cairn_protocol::command::keys::keys_of;
use cairn_protocol::command::{CommandId, Place, Spec};
use cairn_protocol::op::{OpRef, encode_op, encode_op_staged, operations};
use cairn_protocol::resp::{Argv, Proto};
use cairn_store::admitted_bytes;

use crate::ops::entropy;
use crate::raft::{Group, Way};

/// Bytes of a write's arguments from which some are staged.
const STAGE_FROM_BYTES: usize = 1 << 20;
/// Bytes of one piece, and pieces proposed together.
const PIECE_BYTES: usize = 1 << 20;
const PIECES_AT_ONCE: usize = 4;
/// Bytes that the command's own operation may keep after its long arguments are staged.
const OPERATION_BYTES: usize = 4 << 20;
/// Arguments at least this long are staged; shorter ones only when that does not suffice.
const LENGTHS: [usize; 4] = [1 << 20, 64 << 10, 4 << 10, 256];

/// A write that is too long for one operation.
pub(super) struct Write<'a> {
    pub spec: &'static Spec,
    pub db: u16,
    pub argv: Argv<'a>,
    pub proto: Proto,
    pub silent: bool,
}

/// Whether a write must be staged.
pub(super) fn is_needed(argv: Argv<'_>) -> bool {
    argv.total_bytes() >= STAGE_FROM_BYTES
}

/// Stages the long arguments of `write` and proposes it; its reply is then in the way's
/// batch, which must be empty at the start.
///
/// # Errors
/// When it cannot be staged: there is no room, or it is made of too many short arguments. Nothing
/// of it has happened then, and the batch is empty.
pub(super) async fn propose(way: &mut Way<'_>, write: Write<'_>) -> Result<(), WireError> {
    check_fits(way.group, write.argv.total_bytes())?;
    let positions = positions(&[(write.spec, write.argv)]).ok_or_else(|| {
        WireError::Custom(format!(
            "ERR a command of {} bytes in {} arguments is too long for one log record: split it",
            write.argv.total_bytes(),
            write.argv.len()
        ))
    })?;
    let staged: Vec<(usize, u64)> =
        positions.into_iter().flatten().map(|position| (position, next_stage_id())).collect();
    for (position, id) in &staged {
        if let Err(error) = stage(way, *id, &write.argv[*position]).await {
            drop_stages(way, &staged).await;
            return Err(error);
        }
    }
    {
        let mut batch = way.batch();
        batch.set_proto(write.proto);
        batch.push_write_staged(write.spec, write.db, write.argv, &staged, write.silent);
    }
    way.run().await;
    Ok(())
}

/// Stages long arguments of the operations in `body` until what is left is short enough for one
/// operation: the operations anew, and the stages that they name.
///
/// # Errors
/// As [`propose`].
pub(super) async fn stage_transaction(
    way: &mut Way<'_>,
    body: &[u8],
) -> Result<(Vec<u8>, Vec<(usize, u64)>), WireError> {
    check_fits(way.group, body.len())?;
    let ops: Vec<OpRef<'_>> = operations(body).flatten().collect();
    let commands: Vec<_> = ops.iter().map(|op| (op.command.spec(), op.argv())).collect();
    let positions = positions(&commands).ok_or_else(|| {
        WireError::Custom(format!(
            "ERR a transaction of {} commands with {} bytes in short arguments is too long for one \
             log record: split it",
            ops.len(),
            body.len()
        ))
    })?;
    let (mut shorter, mut all) = (Vec::new(), Vec::new());
    for (op, positions) in ops.iter().zip(positions) {
        let (argv, from) = (op.argv(), all.len());
        all.extend(positions.into_iter().map(|position| (position, next_stage_id())));
        for (position, id) in &all[from..] {
            if let Err(error) = stage(way, *id, &argv[*position]).await {
                drop_stages(way, &all).await;
                return Err(error);
            }
        }
        match &all[from..] {
            [] => encode_op(&mut shorter, op.command, op.db, argv),
            staged => encode_op_staged(&mut shorter, op.command, op.db, argv, staged),
        }
    }
    Ok((shorter, all))
}

/// Refuses what an empty shard would have no room for, before anything else is evicted for it.
fn check_fits(group: &Group, len_bytes: usize) -> Result<(), WireError> {
    let limit_bytes = group.read().store().limit_bytes();
    let fits = limit_bytes == 0 || len_bytes as u64 <= admitted_bytes(limit_bytes);
    if fits { Ok(()) } else { Err(WireError::OutOfMemory) }
}

/// Which arguments of each command to stage: the longest, as many as are needed. Never keys, which
/// the engine must have in the operation itself, nor those of reads. None when that is not enough.
fn positions(commands: &[(&'static Spec, Argv<'_>)]) -> Option<Vec<Vec<usize>>> {
    LENGTHS.iter().find_map(|&least| {
        let chosen: Vec<Vec<usize>> =
            commands.iter().map(|(spec, argv)| longest(spec, *argv, least)).collect();
        let kept = |((_, argv), chosen): (&(_, Argv<'_>), &Vec<usize>)| {
            let staged: usize = chosen.iter().map(|&position| argv[position].len()).sum();
            argv.total_bytes() - staged + argv.len() * 4 + chosen.len() * 8
        };
        let kept: usize = commands.iter().zip(&chosen).map(kept).sum();
        (kept <= OPERATION_BYTES).then_some(chosen)
    })
}

/// The arguments of a write that are values and have at least `least` bytes.
fn longest(spec: &'static Spec, argv: Argv<'_>, least: usize) -> Vec<usize> {
    if spec.place != Place::Write || argv.total_bytes() < least {
        return Vec::new();
    }
    let mut is_key = vec![false; argv.len()];
    keys_of(spec, argv).for_each(|position| is_key[position] = true);
    let long = argv.iter().enumerate().skip(1).filter(|(_, arg)| arg.len() >= least);
    long.map(|(position, _)| position).filter(|&at| !is_key[at]).collect()
}

async fn stage(way: &mut Way<'_>, id: u64, arg: &[u8]) -> Result<(), WireError> {
    let mut offset = 0;
    for pieces in arg.chunks(PIECE_BYTES * PIECES_AT_ONCE) {
        {
            let mut batch = way.batch();
            for piece in pieces.chunks(PIECE_BYTES) {
                let spec = CommandId::InternalStage.spec();
                batch.push_encoded(spec, |out| encode_stage(out, id, offset as u64, piece));
                offset += piece.len();
            }
        }
        way.run().await;
        let mut replies = Vec::new();
        way.batch().take_replies(&mut replies);
        first_error(&replies)?;
    }
    Ok(())
}

/// Drops stages that no operation will name.
pub(super) async fn drop_stages(way: &mut Way<'_>, staged: &[(usize, u64)]) {
    if staged.is_empty() {
        return;
    }
    let ids: Vec<u64> = staged.iter().map(|(_, id)| *id).collect();
    let spec = CommandId::InternalDropStages.spec();
    way.batch().push_encoded(spec, |out| encode_drop_stages(out, &ids));
    way.run().await;
    // Should it have failed, whoever leads drops what is left after a while.
    way.batch().take_replies(&mut Vec::new());
}

/// The first error line among the replies, which hold no bulk strings.
fn first_error(replies: &[u8]) -> Result<(), WireError> {
    let mut lines = replies.split(|byte| *byte == b'\n');
    match lines.find_map(|line| line.strip_prefix(b"-")) {
        Some(text) => Err(WireError::Custom(String::from_utf8_lossy(text).trim_end().to_owned())),
        None => Ok(()),
    }
}

/// Ids start at random, so that a stage left by an earlier run is not taken for a new one.
fn next_stage_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let _ =
        NEXT.compare_exchange(0, entropy::random_u64() | 1, Ordering::Relaxed, Ordering::Relaxed);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(command: CommandId, lens: &[usize]) -> Option<Vec<usize>> {
        let args: Vec<Vec<u8>> = lens.iter().map(|len| vec![b'x'; *len]).collect();
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let mut all = positions(&[(command.spec(), Argv::from(&args[..]))])?;
        all.pop()
    }

    #[test]
    fn the_longest_arguments_are_staged_and_keys_never() {
        const MB: usize = 1 << 20;
        assert_eq!(staged(CommandId::Set, &[3, 9, 5 * MB]), Some(vec![2]));
        assert_eq!(staged(CommandId::Set, &[3, 2 * MB, 3 * MB]), Some(vec![2]));
        assert_eq!(staged(CommandId::Set, &[3, 5 * MB, 3]), None, "a key that long has no place");
        assert_eq!(staged(CommandId::MSet, &[4, 1, 2 * MB, 1, 100]), Some(vec![2]));
        let many = [vec![4], [1, 100_000].repeat(60)].concat();
        assert_eq!(staged(CommandId::MSet, &many).map(|all| all.len()), Some(60));
        let tiny = [vec![4], [100, 100].repeat(30_000)].concat();
        assert_eq!(staged(CommandId::MSet, &tiny), None);
    }

    #[test]
    fn the_first_error_is_found_among_numbers() {
        assert_eq!(first_error(b":1\r\n:2\r\n"), Ok(()));
        let error = first_error(b":1\r\n-OOM full\r\n-ERR x\r\n").expect_err("an error");
        assert_eq!(error.text(), "OOM full");
    }

    #[test]
    fn stage_ids_differ() {
        assert_ne!(next_stage_id(), next_stage_id());
    }
}
