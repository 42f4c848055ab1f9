//! What a connection has agreed on with its client: protocol, database, login, what is answered.
//! No IO; the connection owns one and the commands of this room change it.

use cairn_protocol::resp::{Limits, Proto};

use super::queue::{Queue, Watching};
use crate::ops::config::Settings;

/// Which replies are sent, as CLIENT REPLY asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// All but that of the next command.
    SkipNext,
    /// Not that of the command now running.
    Skipping,
}

/// A connection's state between commands.
#[derive(Debug)]
pub struct Session {
    /// RESP2 until HELLO 3.
    pub proto: Proto,
    /// The database that SELECT chose.
    pub db: u16,
    /// May it run commands?
    pub authenticated: bool,
    /// Which replies are sent.
    pub replies: ReplyMode,
    /// What was queued since MULTI.
    pub queue: Option<Box<Queue>>,
    /// What WATCH asked for.
    pub watching: Option<Watching>,
    /// Reads may be answered by any replica, from what it has (READONLY).
    pub readonly: bool,
}

impl Session {
    /// A new connection's, which must log in where a password is set.
    pub fn new(settings: &Settings) -> Session {
        Session {
            proto: Proto::Resp2,
            db: 0,
            authenticated: settings.requirepass.is_empty(),
            replies: ReplyMode::On,
            queue: None,
            watching: None,
            readonly: false,
        }
    }

    /// To be called after each command: moves a skip on to the command it is meant for.
    pub fn end_command(&mut self) {
        self.replies = match self.replies {
            ReplyMode::SkipNext => ReplyMode::Skipping,
            ReplyMode::Skipping => ReplyMode::On,
            other => other,
        };
    }

    /// Whether the running command's reply is dropped.
    pub fn is_silent(&self) -> bool {
        matches!(self.replies, ReplyMode::Off | ReplyMode::Skipping)
    }

    /// What the client may send, which is little before it has logged in.
    pub fn limits(&self, settings: &Settings) -> Limits {
        let to_usize = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if !self.authenticated {
            return Limits::UNAUTHENTICATED;
        }
        Limits {
            max_bulk_bytes: to_usize(settings.proto_max_bulk_len),
            max_query_bytes: to_usize(settings.query_buffer_limit),
            ..Limits::AUTHENTICATED
        }
    }
}

/// Whether `given` is the password, comparing every byte so that time tells nothing of how far it
/// was right.
pub fn password_matches(password: &str, given: &[u8]) -> bool {
    let password = password.as_bytes();
    let mut differences = u8::from(password.len() != given.len());
    for (i, byte) in given.iter().enumerate() {
        differences |= byte ^ password.get(i).copied().unwrap_or(0);
    }
    differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_silences_exactly_the_next_command() {
        let mut session = Session::new(&Settings::defaults());
        session.replies = ReplyMode::SkipNext; // CLIENT REPLY SKIP, which answers nothing itself
        session.end_command();
        assert!(session.is_silent());
        session.end_command();
        assert!(!session.is_silent());
    }

    #[test]
    fn off_lasts() {
        let mut session = Session::new(&Settings::defaults());
        session.replies = ReplyMode::Off;
        for _ in 0..3 {
            session.end_command();
            assert!(session.is_silent());
        }
    }

    #[test]
    fn a_password_makes_sessions_log_in_and_keeps_their_limits_low() {
        let mut settings = Settings::defaults();
        assert!(Session::new(&settings).authenticated);
        settings.requirepass = "secret".into();
        let session = Session::new(&settings);
        assert!(!session.authenticated);
        assert_eq!(session.limits(&settings), Limits::UNAUTHENTICATED);
    }

    #[test]
    fn passwords_match_only_as_a_whole() {
        assert!(password_matches("secret", b"secret"));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret", b"secret\0"] {
            assert!(!password_matches("secret", wrong));
        }
    }
}
