//! Commands executed as one: [`Pipeline::execute_atomically`], and what it may depend on.
//!
//! MULTI, EXEC and DISCARD have no methods of their own: between them everything that the
//! connection's other users send would be queued too.

use cairn_protocol::resp::Value;

use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::reply::{read, unexpected};

impl Client {
    /// Makes the connection's next transaction depend on these keys: it does nothing if one of them
    /// changes before it. For a client that nobody shares, for the next transaction is the
    /// connection's, whoever sends it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn watch<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), Error> {
        self.call(Cmd::new("WATCH").args(keys)).await
    }

    /// Takes back every [`Client::watch`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unwatch(&self) -> Result<(), Error> {
        self.call(Cmd::new("UNWATCH")).await
    }
}

impl Pipeline<'_> {
    /// Sends the requests as one transaction: nothing of others is executed in between, and a crash
    /// leaves all of it or nothing. One result each, in order: a request that fails does not keep
    /// the others from being executed. None when a watched key had changed: nothing was done.
    ///
    /// # Errors
    /// When a request is no command, nothing is executed and this tells why; when the connection
    /// fails, so does the whole.
    pub async fn execute_atomically(self) -> Result<Option<Vec<Result<Value, Error>>>, Error> {
        let mut replies = self.send_as_transaction().await?;
        let outcome = replies.pop().unwrap_or(Value::Null);
        match outcome {
            Value::Array(replies) => Ok(Some(replies.into_iter().map(read).collect())),
            Value::Null => Ok(None),
            outcome => {
                // What was wrong with a request says more than that nothing was done.
                let refused = replies.into_iter().find(|reply| matches!(reply, Value::Error(_)));
                match refused.unwrap_or(outcome) {
                    Value::Error(text) => Err(Error::Server(text)),
                    other => unexpected("a transaction's replies", &other),
                }
            }
        }
    }
}
