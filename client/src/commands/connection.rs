//! Commands about the connection and the server.

use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;

impl Client {
    /// Whether the server answers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.call(Cmd::new("PING")).await
    }

    /// What the server says of itself: all sections, or one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self, section: Option<&str>) -> Result<String, Error> {
        self.call(Cmd::new("INFO").args(section)).await
    }
}
