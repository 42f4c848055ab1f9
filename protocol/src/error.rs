//! Every error that crosses the wire: its code, its text, and what a client may do about it.
//!
//! Texts are those of Redis 7.2; the first word is the code that clients branch on.

use std::borrow::Cow;
use std::fmt;

use crate::resp::Argv;
use crate::slot::SlotId;

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The key holds another type.
    WrongType,
    /// Arguments that do not fit together.
    Syntax,
    /// Not an `i64` in canonical decimal.
    NotInteger,
    /// Not a double.
    NotFloat,
    /// `ERR value is out of range`.
    OutOfRange,
    /// `ERR value is out of range, must be positive`.
    MustBePositive,
    /// An offset that is negative or too large.
    OffsetOutOfRange,
    /// INCR and DECR beyond an `i64`.
    Overflow,
    /// INCRBYFLOAT beyond its range.
    NanOrInfinity,
    /// A string longer than `proto-max-bulk-len`.
    StringTooLong,
    /// A key that must exist does not.
    NoSuchKey,
    /// Source and destination are one key.
    SameObject,
    /// A database index that is no integer.
    InvalidDb,
    /// A database index beyond the last one.
    DbOutOfRange,
    /// A cursor that is no integer.
    InvalidCursor,
    /// An expire time that is not positive or overflows, in the command of this name.
    InvalidExpire(&'static str),
    /// The number of arguments does not satisfy the arity of the command of this name.
    WrongArity(&'static str),
    /// No such command; the name and the first arguments, cut as Redis cuts them.
    UnknownCommand {
        /// The name, at most 128 bytes.
        name: String,
        /// The first arguments, quoted, each followed by a space.
        args: String,
    },
    /// No such subcommand.
    UnknownSubcommand {
        /// The subcommand, at most 128 bytes.
        name: String,
        /// The container, in upper case.
        container: String,
    },
    /// The shard is full.
    OutOfMemory,
    /// Not authenticated.
    NoAuth,
    /// Wrong user or password.
    WrongPass,
    /// The user may not do this; the rest of the text after the code.
    NoPerm(String),
    /// HELLO asked for a protocol that is not spoken.
    NoProto,
    /// The keys of one request lie in different slots that no single shard holds.
    CrossSlot,
    /// The slot is served elsewhere, for good.
    Moved {
        /// The slot.
        slot: SlotId,
        /// `host:port` of its leader.
        address: String,
    },
    /// The slot is served elsewhere, for this request.
    Ask {
        /// The slot.
        slot: SlotId,
        /// `host:port` of the node to ask.
        address: String,
    },
    /// Part of the keys is on the move.
    TryAgain,
    /// No leader for the slot; the rest of the text after the code.
    ClusterDown(&'static str),
    /// The node is not ready.
    Loading,
    /// A script runs too long.
    Busy,
    /// This replica takes no writes.
    ReadOnly,
    /// What is stored failed its check; says where and what to do.
    Corrupt(String),
    /// Any other error: code and text.
    Static(&'static str),
    /// Any other error: code and text.
    Custom(String),
}

/// What a client may do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again: tell the caller.
    Never,
    /// Ask the node that the error names.
    Redirect,
    /// Fetch the slot map again, then retry.
    Refresh,
    /// Wait a little, then retry.
    Later,
}

/// Codes after which a request may succeed elsewhere or later. Every other code: [`Retry::Never`].
const RETRY: [(&str, Retry); 9] = [
    ("MOVED", Retry::Redirect),
    ("ASK", Retry::Redirect),
    ("CLUSTERDOWN", Retry::Refresh),
    ("MASTERDOWN", Retry::Refresh),
    ("READONLY", Retry::Refresh),
    ("TRYAGAIN", Retry::Later),
    ("LOADING", Retry::Later),
    ("BUSY", Retry::Later),
    ("NOREPLICAS", Retry::Later),
];

/// What to do after an error of that code.
#[must_use]
pub fn retry_of(code: &str) -> Retry {
    RETRY.iter().find(|(known, _)| *known == code).map_or(Retry::Never, |(_, retry)| *retry)
}

/// The code of an error's text: its first word.
#[must_use]
pub fn code_of(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

/// How much of a hostile name an error repeats.
const QUOTED_BYTES_MAX: usize = 128;

impl WireError {
    /// The error for a request whose first argument names no command.
    #[must_use]
    pub fn unknown_command(argv: Argv<'_>) -> Self {
        let name = quoted(argv.get(0).unwrap_or_default(), QUOTED_BYTES_MAX);
        let mut args = String::new();
        for arg in argv.iter().skip(1) {
            if args.len() >= QUOTED_BYTES_MAX {
                break;
            }
            let room = QUOTED_BYTES_MAX - args.len();
            args.push('\'');
            args.push_str(&quoted(arg, room));
            args.push_str("' ");
        }
        Self::UnknownCommand { name, args }
    }

    /// The error for an unknown subcommand of a container.
    #[must_use]
    pub fn unknown_subcommand(name: &[u8], container: &str) -> Self {
        let name = quoted(name, QUOTED_BYTES_MAX);
        Self::UnknownSubcommand { name, container: container.to_ascii_uppercase() }
    }

    /// The whole text: code, space, message. Never holds CR or LF from a request's bytes once
    /// written by [`crate::resp::Writer::error`].
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidExpire(name) => {
                format!("ERR invalid expire time in '{name}' command").into()
            }
            Self::WrongArity(name) => {
                format!("ERR wrong number of arguments for '{name}' command").into()
            }
            Self::UnknownCommand { name, args } => {
                format!("ERR unknown command '{name}', with args beginning with: {args}").into()
            }
            Self::UnknownSubcommand { name, container } => {
                format!("ERR unknown subcommand '{name}'. Try {container} HELP.").into()
            }
            Self::NoPerm(rest) => format!("NOPERM {rest}").into(),
            Self::Moved { slot, address } => format!("MOVED {slot} {address}").into(),
            Self::Ask { slot, address } => format!("ASK {slot} {address}").into(),
            Self::ClusterDown(rest) => format!("CLUSTERDOWN {rest}").into(),
            Self::Corrupt(rest) => format!("CORRUPT {rest}").into(),
            Self::Custom(text) => text.as_str().into(),
            fixed => fixed.fixed_text().into(),
        }
    }

    /// The text of the variants that carry nothing.
    fn fixed_text(&self) -> &'static str {
        match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::Syntax => "ERR syntax error",
            Self::NotInteger => "ERR value is not an integer or out of range",
            Self::NotFloat => "ERR value is not a valid float",
            Self::OutOfRange => "ERR value is out of range",
            Self::MustBePositive => "ERR value is out of range, must be positive",
            Self::OffsetOutOfRange => "ERR offset is out of range",
            Self::Overflow => "ERR increment or decrement would overflow",
            Self::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            Self::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::NoSuchKey => "ERR no such key",
            Self::SameObject => "ERR source and destination objects are the same",
            Self::InvalidDb => "ERR invalid DB index",
            Self::DbOutOfRange => "ERR DB index is out of range",
            Self::InvalidCursor => "ERR invalid cursor",
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::NoAuth => "NOAUTH Authentication required.",
            Self::WrongPass => "WRONGPASS invalid username-password pair or user is disabled.",
            Self::NoProto => "NOPROTO unsupported protocol version",
            Self::CrossSlot => "CROSSSLOT Keys in request don't hash to the same slot",
            Self::TryAgain => "TRYAGAIN Multiple keys request during rehashing of slot",
            Self::Loading => "LOADING Redis is loading the dataset in memory",
            Self::Busy => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            }
            Self::ReadOnly => "READONLY You can't write against a read only replica.",
            Self::Static(text) => text,
            // Variants with a payload are worded by `text`.
            _ => "ERR",
        }
    }

    /// The code: the first word of the text.
    #[must_use]
    pub fn code(&self) -> Cow<'_, str> {
        match self.text() {
            Cow::Borrowed(text) => code_of(text).into(),
            Cow::Owned(text) => code_of(&text).to_owned().into(),
        }
    }

    /// What a client may do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        retry_of(&self.code())
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl std::error::Error for WireError {}

/// At most `max` bytes of `bytes`, up to the first NUL as C's `%.*s` stops there. Bytes that are
/// not UTF-8 are replaced: the text is a Rust string.
fn quoted(bytes: &[u8], max: usize) -> String {
    let bytes = &bytes[..bytes.len().min(max)];
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_first_words() {
        let rows = [
            (WireError::WrongType, "WRONGTYPE", Retry::Never),
            (WireError::Syntax, "ERR", Retry::Never),
            (WireError::OutOfMemory, "OOM", Retry::Never),
            (WireError::Loading, "LOADING", Retry::Later),
            (WireError::ReadOnly, "READONLY", Retry::Refresh),
            (WireError::ClusterDown("Hash slot not served"), "CLUSTERDOWN", Retry::Refresh),
            (WireError::Custom("EXECABORT x".into()), "EXECABORT", Retry::Never),
        ];
        for (error, code, retry) in rows {
            assert_eq!(error.code(), code);
            assert_eq!(error.retry(), retry);
        }
    }

    #[test]
    fn redirections_name_slot_and_address() {
        let slot = SlotId::new(3999).unwrap();
        let moved = WireError::Moved { slot, address: "10.0.0.1:7379".into() };
        assert_eq!(moved.text(), "MOVED 3999 10.0.0.1:7379");
        assert_eq!(moved.retry(), Retry::Redirect);
    }

    #[test]
    fn hostile_names_are_cut() {
        let args: Vec<&[u8]> = vec![b"foo", b"a\0b"];
        let text = WireError::unknown_command(Argv::from(&args[..])).text().into_owned();
        assert_eq!(text, "ERR unknown command 'foo', with args beginning with: 'a' ");
        let many: Vec<Vec<u8>> = std::iter::repeat_n(vec![b'y'; 50], 5).collect();
        let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        let text = WireError::unknown_command(Argv::from(&many[..])).text().into_owned();
        let (y, rest) = ("y".repeat(50), "y".repeat(22));
        assert!(text.ends_with(&format!("with: '{y}' '{y}' '{rest}' ")), "{text}");
    }
}
