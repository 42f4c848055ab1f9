//! How to connect.

use std::time::Duration;

use cairn_protocol::resp::Limits;

/// Where to connect and as whom, and the bounds of the connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// `host:port`.
    pub address: String,
    /// The user to authenticate as; `None` is the default user.
    pub username: Option<String>,
    /// The password; without one the client does not authenticate.
    pub password: Option<String>,
    /// The database.
    pub database: u16,
    /// The connection's name, as CLIENT LIST shows it.
    pub name: Option<String>,
    /// How long connecting and introducing oneself may take together.
    pub connect_timeout: Duration,
    /// How long a reply may take; `None` waits for as long as the connection lives.
    pub reply_timeout: Option<Duration>,
    /// Requests that may wait to be sent or answered; more wait for room.
    pub queue_capacity: usize,
    /// Bounds on replies.
    pub limits: Limits,
}

impl Options {
    /// The defaults for `host:port`: database 0, 5 s to connect, no reply timeout, 4096 requests.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            username: None,
            password: None,
            database: 0,
            name: None,
            connect_timeout: Duration::from_secs(5),
            reply_timeout: None,
            queue_capacity: 4096,
            // KEYS may answer more elements than any request has arguments.
            limits: Limits { max_args: u32::MAX as usize, ..Limits::AUTHENTICATED },
        }
    }

    /// Authenticates as the default user.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Authenticates as this user.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Selects a database.
    #[must_use]
    pub fn database(mut self, database: u16) -> Self {
        self.database = database;
        self
    }

    /// Names the connection.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Bounds the wait for each reply.
    #[must_use]
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = Some(timeout);
        self
    }

    /// Bounds the requests that wait.
    #[must_use]
    pub fn queue_capacity(mut self, requests: usize) -> Self {
        self.queue_capacity = requests.max(1);
        self
    }
}
