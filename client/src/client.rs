//! The handle that callers hold.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use cairn_protocol::resp::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::cmd::Cmd;
use crate::connection::Connection;
use crate::error::Error;
use crate::handshake;
use crate::options::Options;
use crate::pipeline::Pipeline;
use crate::reply::{FromValue, read};

/// A connection shared by all clones of the handle. Requests of concurrent callers are written
/// together and answered in order. A lost connection fails what was in flight, and the next request
/// makes a new one.
///
/// Commands that change how the connection answers (`SELECT`, `CLIENT REPLY`, `SUBSCRIBE`,
/// `MONITOR`) would change it for everyone: set the database in [`Options`], and use a client of
/// their own for the rest.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    current: RwLock<Connection>,
    /// Held while a lost connection is replaced, so that one caller does it for all.
    replacing: Mutex<()>,
}

impl Client {
    /// Connects to `host:port` with the defaults of [`Options::new`].
    ///
    /// # Errors
    /// [`Error::Connect`]; or whatever the server answers to the introduction.
    pub async fn connect(address: impl Into<String>) -> Result<Self, Error> {
        Self::open(Options::new(address)).await
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Client::connect`]: a wrong password is an [`Error::Server`] whose code is WRONGPASS.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let current = RwLock::new(establish(&options).await?);
        Ok(Self { shared: Arc::new(Shared { options, current, replacing: Mutex::new(()) }) })
    }

    /// Sends a request and reads its reply as a `T`.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::action`] says what may be done.
    pub async fn call<T: FromValue>(&self, cmd: Cmd) -> Result<T, Error> {
        let mut bytes = Vec::new();
        cmd.encode(&mut bytes);
        let mut replies = self.send(bytes, 1).await?;
        read(replies.pop().unwrap_or(Value::Null))
    }

    /// Starts a pipeline: requests that are sent together and answered together.
    pub fn pipeline(&self) -> Pipeline<'_> {
        Pipeline::new(self)
    }

    /// Sends `wanted` encoded requests and waits for as many replies.
    pub(crate) async fn send(&self, bytes: Vec<u8>, wanted: usize) -> Result<Vec<Value>, Error> {
        let connection = self.connection().await?;
        let replies = connection.send(bytes, wanted);
        match self.shared.options.reply_timeout {
            None => replies.await,
            Some(limit) => timeout(limit, replies).await.unwrap_or(Err(Error::Timeout)),
        }
    }

    /// The connection, or a new one when it was lost.
    async fn connection(&self) -> Result<Connection, Error> {
        let current = self.current();
        if !current.is_lost() {
            return Ok(current);
        }
        let _replacing = self.shared.replacing.lock().await;
        // Someone may have replaced it while this caller waited.
        let current = self.current();
        if !current.is_lost() {
            return Ok(current);
        }
        let fresh = establish(&self.shared.options).await?;
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
        Ok(fresh)
    }

    fn current(&self) -> Connection {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Connects and introduces the client, within the time allowed for both.
async fn establish(options: &Options) -> Result<Connection, Error> {
    let failed = |source: io::Error| Error::Connect {
        address: options.address.clone(),
        source: Arc::new(source),
    };
    let connecting = async {
        let stream = TcpStream::connect(&options.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let connection = Connection::start(stream, options.limits, options.queue_capacity);
        match handshake::introduce(&connection, options).await {
            Ok(()) => Ok(connection),
            // Nothing of the caller's was sent yet.
            Err(Error::ConnectionLost(source)) => {
                Err(Error::Connect { address: options.address.clone(), source })
            }
            Err(error) => Err(error),
        }
    };
    match timeout(options.connect_timeout, connecting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}
