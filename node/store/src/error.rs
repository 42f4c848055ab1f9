//! What can go wrong with kept data, in words that say where and what to do.

use std::fmt;
use std::path::PathBuf;

/// An error of the pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The pool has no free block left within its limit.
    Full,
    /// A key, or a value, is longer than the format can hold.
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is, in bytes.
        len_bytes: u64,
        /// How long it may be, in bytes.
        max_bytes: u64,
    },
    /// Bytes on media are not what was written there.
    Corrupt(Corrupt),
    /// The pool was written by a newer build.
    Newer {
        /// The pool file.
        path: PathBuf,
        /// The format version found, or the unknown feature bits.
        found: String,
        /// What this build reads.
        known: String,
    },
    /// The operating system refused.
    Io {
        /// What was being done, with the file it was done to.
        doing: String,
        /// The error.
        source: std::io::Error,
    },
    /// A sync failed before: what is durable is unknown, so nothing more is written.
    Stopped(String),
}

/// Where damage was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupt {
    /// What lies there, and what is wrong with it.
    pub what: String,
    /// Byte offset in the pool file.
    pub offset: u64,
    /// The pool file, when known where the error is made.
    pub path: Option<PathBuf>,
}

impl StoreError {
    /// Damage at `offset`.
    pub fn corrupt(what: impl Into<String>, offset: u64) -> StoreError {
        StoreError::Corrupt(Corrupt { what: what.into(), offset, path: None })
    }

    /// A failed system call.
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> StoreError {
        StoreError::Io { doing: doing.into(), source }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => f.write_str("the pool is full: delete keys or raise --memory"),
            StoreError::TooLong { what, len_bytes, max_bytes } => {
                write!(f, "{what} of {len_bytes} bytes is longer than the {max_bytes} allowed")
            }
            StoreError::Corrupt(Corrupt { what, offset, path }) => {
                write!(f, "{what} at byte {offset}")?;
                if let Some(path) = path {
                    write!(f, " of {}", path.display())?;
                }
                f.write_str(
                    ": run `cairn check --deep`, then restore the pool from a backup or a peer",
                )
            }
            StoreError::Newer { path, found, known } => write!(
                f,
                "{}: {found}, this build reads {known}: start a newer cairn",
                path.display()
            ),
            StoreError::Io { doing, source } => write!(f, "{doing}: {source}"),
            StoreError::Stopped(why) => {
                write!(f, "the pool stopped after a failed sync ({why}): restart the node")
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;
