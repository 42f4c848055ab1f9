//! Why a handler stopped, and which of those reasons are replies.

use std::fmt;

use cairn_protocol::WireError;
use cairn_store::StoreError;

/// How a handler ends.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a handler gave no ordinary reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command was wrong: the client is told, nothing was changed.
    Reply(WireError),
    /// The store could not do it.
    Store(StoreError),
    /// A read would take too long where it is: nothing was answered, it is to be asked again of a
    /// pinned root.
    Deferred,
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        Failure::Reply(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl Failure {
    /// An error reply with a fixed text, code first.
    pub(crate) fn reply(text: &'static str) -> Failure {
        Failure::Reply(WireError::Static(text))
    }
}

/// The replica cannot go on: its pool is damaged or its medium refused, so skipping the operation
/// would let it diverge. Stop applying, report, repair from a peer.
#[derive(Debug)]
pub struct Fatal {
    /// Name of the command that could not be executed.
    pub command: &'static str,
    /// What the store said: where the damage lies, and what to do.
    pub source: StoreError,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot execute '{}': {}", self.command, self.source)
    }
}

impl std::error::Error for Fatal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
