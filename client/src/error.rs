//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::sync::Arc;

use cairn_protocol::error::{Retry, code_of, retry_of};
use cairn_protocol::resp::ValueError;

/// An error of the client or of the server. Cheap to clone: one lost connection fails many requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made; nothing was sent.
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// The connection was gone before the request was sent.
    NotSent,
    /// The connection was lost after the request was sent: whether it was executed is not known.
    ConnectionLost(Arc<io::Error>),
    /// No reply within [`crate::Options::reply_timeout`]: whether it was executed is not known.
    Timeout,
    /// The server sent what is no reply.
    Protocol(ValueError),
    /// The server answered with an error.
    Server(String),
    /// The reply is of another type than the method promises.
    UnexpectedReply {
        /// What was promised.
        wanted: &'static str,
        /// What came, in short.
        got: String,
    },
}

/// What a caller may do after an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the same request to this address (`host:port`). With `ask`, after ASKING and only this
    /// once; else the slot has moved there for good.
    Redirect {
        /// Where to.
        address: String,
        /// Whether the redirection is for this request only.
        ask: bool,
    },
    /// Learn the topology again (or reconnect), then send the same request.
    Refresh,
    /// Send the same request again after a short wait.
    Retry,
    /// The request will fail again, or may have been executed already: tell whoever asked.
    GiveUp,
}

impl Error {
    /// What may be done about it. Never [`Action::Retry`] for a request that may have been executed:
    /// that is for the caller to decide, who knows whether it matters.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::NotSent => Action::Retry,
            Self::Connect { .. } => Action::Refresh,
            Self::Server(text) => server_action(text),
            Self::ConnectionLost(_)
            | Self::Timeout
            | Self::Protocol(_)
            | Self::UnexpectedReply { .. } => Action::GiveUp,
        }
    }

    /// The code of a server's error: `ERR`, `WRONGTYPE`, ...
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(text) => Some(code_of(text)),
            _ => None,
        }
    }
}

fn server_action(text: &str) -> Action {
    match retry_of(code_of(text)) {
        // "MOVED 3999 127.0.0.1:6381"
        Retry::Redirect => match text.split(' ').nth(2) {
            Some(address) if !address.is_empty() => {
                Action::Redirect { address: address.to_owned(), ask: text.starts_with("ASK ") }
            }
            _ => Action::Refresh,
        },
        Retry::Refresh => Action::Refresh,
        Retry::Later => Action::Retry,
        Retry::Never => Action::GiveUp,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            Self::NotSent => f.write_str("the connection was closed before the request was sent"),
            Self::ConnectionLost(source) => {
                write!(f, "connection lost, the request may have been executed: {source}")
            }
            Self::Timeout => f.write_str("no reply in time, the request may have been executed"),
            Self::Protocol(error) => write!(f, "the server does not speak RESP: {error}"),
            Self::Server(text) => f.write_str(text),
            Self::UnexpectedReply { wanted, got } => write!(f, "expected {wanted}, got {got}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::ConnectionLost(source) => Some(&**source),
            Self::Protocol(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let redirect = |ask| Action::Redirect { address: "10.0.0.1:7379".into(), ask };
        let rows = [
            ("MOVED 3999 10.0.0.1:7379", redirect(false)),
            ("ASK 3999 10.0.0.1:7379", redirect(true)),
            ("MOVED 3999", Action::Refresh),
            ("CLUSTERDOWN Hash slot not served", Action::Refresh),
            ("READONLY You can't write against a read only replica.", Action::Refresh),
            ("LOADING Redis is loading the dataset in memory", Action::Retry),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Action::Retry),
            ("ERR syntax error", Action::GiveUp),
            ("WRONGTYPE Operation against a key", Action::GiveUp),
            ("", Action::GiveUp),
        ];
        for (text, wanted) in rows {
            assert_eq!(Error::Server(text.into()).action(), wanted, "{text}");
        }
        let lost = Arc::new(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(Error::ConnectionLost(lost).action(), Action::GiveUp);
        assert_eq!(Error::NotSent.action(), Action::Retry);
        assert_eq!(Error::Server("OOM x".into()).code(), Some("OOM"));
    }
}
