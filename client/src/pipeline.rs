//! Requests that are sent together.

use cairn_protocol::resp::Value;

use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::read;

/// Collects requests, then sends them in one write and waits for all replies. Requests of others may
/// be executed in between, except with [`Pipeline::execute_atomically`].
#[derive(Clone, Debug)]
#[must_use = "a pipeline does nothing until it is executed"]
pub struct Pipeline<'a> {
    client: &'a Client,
    bytes: Vec<u8>,
    count: usize,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        Self { client, bytes: Vec::new(), count: 0 }
    }

    /// Adds a request.
    pub fn cmd(mut self, cmd: Cmd) -> Self {
        cmd.encode(&mut self.bytes);
        self.count += 1;
        self
    }

    /// How many requests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sends the requests. One result each, in order: a request that fails does not fail the others.
    ///
    /// # Errors
    /// When the connection fails, all of them do.
    pub async fn execute(self) -> Result<Vec<Result<Value, Error>>, Error> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        let replies = self.client.send(self.bytes, self.count).await?;
        Ok(replies.into_iter().map(read).collect())
    }

    /// Sends the requests between MULTI and EXEC; the replies to all of those.
    pub(crate) async fn send_as_transaction(self) -> Result<Vec<Value>, Error> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 32);
        Cmd::new("MULTI").encode(&mut bytes);
        bytes.extend_from_slice(&self.bytes);
        Cmd::new("EXEC").encode(&mut bytes);
        self.client.send(bytes, self.count + 2).await
    }
}
