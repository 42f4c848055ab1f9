//! What can go wrong with a log, in words that say where and what to do.

use cairn_protocol::ids::{LogIndex, ShardId};
use std::fmt;
use std::io;

/// An error of the log.
///
/// It can be cloned, since one failed write answers everyone who waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused. The first one met while writing is final: what is durable is
    /// unknown, so every later call returns it again.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file, with its directory.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// Its kind.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// Bytes on media are not what was written there.
    Damaged {
        /// The file, with its directory.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The log was written by a newer build.
    Newer {
        /// The file, with its directory.
        file: String,
        /// The format found: a version, or feature bits.
        found: String,
        /// What this build reads.
        known: String,
    },
    /// The log is another node's.
    Foreign {
        /// The file, with its directory.
        file: String,
    },
    /// An entry does not follow the last one of its shard.
    OutOfOrder {
        /// The shard.
        shard: ShardId,
        /// Where the entry was to be.
        index: LogIndex,
        /// What it should have been.
        expected: String,
    },
    /// A payload, a vote or the set of shards is larger than a segment can take.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is, in bytes.
        len_bytes: u64,
        /// How large it may be, in bytes.
        max_bytes: u64,
    },
    /// Entries that are wanted were purged, or never were there.
    NotHeld {
        /// The shard.
        shard: ShardId,
        /// The first entry wanted that is not there.
        index: LogIndex,
    },
    /// [`append_now`](super::Log::append_now) on a log that is not immediate.
    NotImmediate,
    /// The log was closed.
    Closed,
    /// The options make no sense.
    Options(String),
    /// A reader of entries stopped the replay.
    Stopped(String),
}

impl LogError {
    /// A failed system call.
    pub(crate) fn io(doing: &'static str, file: impl Into<String>, at: u64, e: &io::Error) -> Self {
        let message = e.to_string();
        Self::Io { doing, file: file.into(), offset: at, kind: e.kind(), message }
    }

    /// Damage at `offset` of `file`.
    pub(crate) fn damaged(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), offset, what: what.into() }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, file, offset, kind, message } => {
                write!(f, "log: {doing} {file} at offset {offset}: {message}; ")?;
                f.write_str(match kind {
                    io::ErrorKind::StorageFull => "free space there and start the node again",
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        "make the directory writable for the node and start it again"
                    }
                    _ => "check the disk, then start the node again",
                })
            }
            Self::Damaged { file, offset, what } => write!(
                f,
                "log: {file} is damaged at offset {offset}: {what}; nothing was changed. Restore \
                 the log's directory from a copy, or let the node rejoin its peers under a new id \
                 with an empty directory"
            ),
            Self::Newer { file, found, known } => {
                write!(f, "log: {file} has {found}, this build reads {known}: start a newer node")
            }
            Self::Foreign { file } => {
                write!(f, "log: {file} belongs to another node: point --dir at this node's own")
            }
            Self::OutOfOrder { shard, index, expected } => {
                write!(f, "log: entry {index} of shard {shard} is out of order: {expected}")
            }
            Self::TooLarge { what, len_bytes, max_bytes } => write!(
                f,
                "log: {what} of {len_bytes} bytes is over the limit of {max_bytes}: send it in pieces"
            ),
            Self::NotHeld { shard, index } => {
                write!(f, "log: entry {index} of shard {shard} is not in the log")
            }
            Self::NotImmediate => f.write_str("log: this medium is durable only after a sync"),
            Self::Closed => f.write_str("log: closed"),
            Self::Options(what) => write!(f, "log: {what}"),
            Self::Stopped(why) => write!(f, "log: replay stopped: {why}"),
        }
    }
}

impl std::error::Error for LogError {}

/// A result of the log.
pub type Result<T> = std::result::Result<T, LogError>;
