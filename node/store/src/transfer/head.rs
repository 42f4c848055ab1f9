//! What is sent before the chunks.

use super::{Result, TransferError, half};
use crate::layout::pool::{
    EXTENT, OFFSET_MASK, RECORDS_PER_EXTENT_BYTES, SLABS_PER_EXTENT, SUPERBLOCK, sb,
};
use crate::layout::transfer::{SLABS_PER_CHUNK, VERSION, head};
use crate::pool::{Copy, Superblock};
use cairn_protocol::ids::{Epoch, LogIndex, Term};
use std::path::Path;

/// Which pool is sent, as of which commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    state: Superblock,
    /// Of the superblock as its sender wrote it, whose features may be others than this build's.
    crc: u32,
}

impl Head {
    /// The head of a pool whose last commit's superblock is `state`.
    pub(super) fn of(state: &Superblock) -> Head {
        let state =
            Superblock { sequence: 0, ceiling: state.epoch, voids: Vec::new(), ..state.clone() };
        let crc = half(&state.encode(), sb::CRC);
        Head { state, crc }
    }

    /// Its bytes; the same for the same pool and epoch.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; head::SUPERBLOCK];
        bytes[..8].copy_from_slice(&head::MAGIC);
        for (at, half) in [(head::VERSION, VERSION), (head::CHUNK, SLABS_PER_CHUNK as u32)] {
            bytes[at..at + 4].copy_from_slice(&half.to_le_bytes());
        }
        bytes.extend_from_slice(&self.state.encode());
        bytes
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// [`TransferError::Damaged`], [`TransferError::Newer`].
    pub fn decode(bytes: &[u8]) -> Result<Head> {
        let damaged = |why: &str| TransferError::damaged(format!("the pool's head ({why})"));
        if bytes.len() != head::LEN || bytes[..7] != head::MAGIC[..7] {
            return Err(damaged("it does not begin with CAIRNTR, or not as long as it has to be"));
        }
        let found = (half(bytes, head::VERSION), half(bytes, head::CHUNK));
        if bytes[7] != head::MAGIC[7] || found != (VERSION, SLABS_PER_CHUNK as u32) {
            return Err(TransferError::Newer {
                found: format!("pools in format {} with chunks of {} slabs", found.0, found.1),
                known: format!("format {VERSION} with chunks of {SLABS_PER_CHUNK}"),
            });
        }
        let superblock = &bytes[head::SUPERBLOCK..];
        let state = match Superblock::decode(superblock, Path::new("the peer's pool"))? {
            Copy::Good(state) => *state,
            Copy::Bad(why) => return Err(damaged(&why)),
        };
        if Head::of(&state).state != state || state.extents > OFFSET_MASK / EXTENT / 2 {
            return Err(damaged("it says what no pool can be"));
        }
        Ok(Head { state, crc: half(superblock, sb::CRC) })
    }

    /// The commit that is sent.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.state.epoch)
    }

    /// The last log entry in it.
    pub fn applied(&self) -> (Term, LogIndex) {
        self.state.applied
    }

    /// The group's membership in it: opaque bytes.
    pub fn membership(&self) -> &[u8] {
        &self.state.membership
    }

    /// How many chunks it comes in.
    pub fn chunks(&self) -> u64 {
        self.state.extents * (SLABS_PER_EXTENT / SLABS_PER_CHUNK)
    }

    /// Bytes that it takes of what a node may use for its pool.
    pub fn pool_bytes(&self) -> u64 {
        self.state.extents * (EXTENT + RECORDS_PER_EXTENT_BYTES)
    }

    /// What its superblock says.
    pub(super) fn state(&self) -> &Superblock {
        &self.state
    }

    /// What tells it from other heads.
    pub(super) fn crc(&self) -> u32 {
        const _: () = assert!(sb::CRC + 4 == SUPERBLOCK);
        self.crc
    }
}
