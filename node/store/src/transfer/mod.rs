//! A pool, streamed to another node while it goes on.
//!
//! What travels is the pool as of its last commit, block by block: committed blocks lie at fixed
//! offsets, never change, and carry their checksum, so there is no second format, and snapshots and
//! trees still to be freed come along as they are. The receiver learns from a walk which blocks are
//! needed; whatever else came is free.
//!
//! * [`Export`]: the sender's side, a pinned root. * [`Import`]: the receiver's, a file that becomes
//!   a pool at the very end.
//!
//! A pool is cut into chunks by place, so chunk `n` of a head is the same part of the same pool
//! whoever asks, and a transfer goes on where it stopped.

mod chunk;
mod export;
mod head;
mod import;

pub use export::{Chunk, Export};
pub use head::Head;
pub use import::{Import, Imported};

use crate::error::StoreError;
use std::fmt;
use std::path::PathBuf;

/// Why a transfer cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransferError {
    /// A head or a chunk is not what was sent.
    Damaged {
        /// Which part, and what is wrong with it.
        what: String,
    },
    /// Another chunk is wanted.
    OutOfOrder {
        /// The next one.
        wanted: u64,
        /// The one that came.
        given: u64,
    },
    /// Not all chunks have come.
    Incomplete {
        /// The next one.
        wanted: u64,
        /// How many there are.
        chunks: u64,
    },
    /// The sender's build is newer.
    Newer {
        /// The version found.
        found: String,
        /// What this build reads.
        known: String,
    },
    /// The pool takes more than this node may use.
    NoRoom {
        /// What it takes, in bytes.
        need_bytes: u64,
        /// What there is, in bytes.
        have_bytes: u64,
    },
    /// The file system has less room than the pool takes.
    DiskFull {
        /// What it takes, in bytes.
        need_bytes: u64,
        /// What there is, in bytes.
        have_bytes: u64,
        /// Where it was to go.
        path: PathBuf,
    },
    /// The sender's pool was replaced by another since the export began.
    Replaced,
    /// The pool at either end.
    Store(StoreError),
}

impl TransferError {
    pub(crate) fn damaged(what: impl Into<String>) -> TransferError {
        TransferError::Damaged { what: what.into() }
    }
}

impl From<StoreError> for TransferError {
    fn from(error: StoreError) -> TransferError {
        match error {
            StoreError::Newer { found, known, .. } => TransferError::Newer { found, known },
            error => TransferError::Store(error),
        }
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Damaged { what } => {
                write!(f, "{what} was damaged on its way: ask for it again")
            }
            TransferError::OutOfOrder { wanted, given } => {
                write!(f, "chunk {given} of the pool came where {wanted} was due: send that")
            }
            TransferError::Incomplete { wanted, chunks } => {
                write!(f, "chunk {wanted} of {chunks} of the pool has not come yet: send it")
            }
            TransferError::Newer { found, known } => write!(
                f,
                "the peer sends {found}, this build reads {known}: start a newer cairn here"
            ),
            TransferError::NoRoom { need_bytes, have_bytes } => write!(
                f,
                "the peer's pool takes {} MiB and --memory leaves {} MiB for it here: raise it",
                need_bytes.div_ceil(1 << 20),
                have_bytes >> 20
            ),
            TransferError::DiskFull { need_bytes, have_bytes, path } => write!(
                f,
                "the peer's pool takes {} MiB and the file system of {} has {} MiB left: free space \
                 there",
                need_bytes.div_ceil(1 << 20),
                path.display(),
                have_bytes >> 20
            ),
            TransferError::Replaced => {
                f.write_str("the pool being sent was replaced by another: begin a new transfer")
            }
            TransferError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TransferError::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// Result of a transfer.
pub type Result<T> = std::result::Result<T, TransferError>;

fn half(bytes: &[u8], at: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(half)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(half(bytes, at)) | u64::from(half(bytes, at + 4)) << 32
}
