//! String commands.

use super::Expiry;
use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::List;

/// When SET sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetIf {
    /// Always.
    #[default]
    Always,
    /// Only when the key exists.
    Exists,
    /// Only when it does not.
    Missing,
}

/// What becomes of the time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetTtl {
    /// The key lives for ever.
    #[default]
    Clear,
    /// It keeps the time it had.
    Keep,
    /// It expires.
    Set(Expiry),
}

/// Options of SET. The default sets always and for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// The condition.
    pub condition: SetIf,
    /// The time to live.
    pub ttl: SetTtl,
}

impl SetOptions {
    fn add_to(self, cmd: Cmd) -> Cmd {
        let cmd = match self.condition {
            SetIf::Always => cmd,
            SetIf::Exists => cmd.arg("XX"),
            SetIf::Missing => cmd.arg("NX"),
        };
        match self.ttl {
            SetTtl::Clear => cmd,
            SetTtl::Keep => cmd.arg("KEEPTTL"),
            SetTtl::Set(expiry) => expiry.add_to(cmd),
        }
    }
}

/// What GETEX does to the time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetExTtl {
    /// The key lives for ever.
    Persist,
    /// It expires.
    Set(Expiry),
}

/// # Errors
/// All methods: see [`Error`]; the server's WRONGTYPE when the key holds another type.
impl Client {
    /// GET: the value, or `None` when the key does not exist.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("GET").arg(key)).await
    }

    /// SET, unconditionally and for ever.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.call(Cmd::new("SET").arg(key).arg(value)).await
    }

    /// SET with options: whether the value was set.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<bool, Error> {
        let cmd = options.add_to(Cmd::new("SET").arg(key).arg(value));
        Ok(self.call::<Option<()>>(cmd).await?.is_some())
    }

    /// SET with GET: the value before, or `None` when there was none; it does not say whether a
    /// condition held.
    pub async fn get_and_set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.call(options.add_to(Cmd::new("SET").arg(key).arg(value)).arg("GET")).await
    }

    /// GETDEL: the value, deleted.
    pub async fn get_del(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("GETDEL").arg(key)).await
    }

    /// GETEX: the value, and a new time to live.
    pub async fn get_ex(
        &self,
        key: impl AsRef<[u8]>,
        ttl: GetExTtl,
    ) -> Result<Option<Vec<u8>>, Error> {
        let cmd = Cmd::new("GETEX").arg(key);
        self.call(match ttl {
            GetExTtl::Persist => cmd.arg("PERSIST"),
            GetExTtl::Set(expiry) => expiry.add_to(cmd),
        })
        .await
    }

    /// MGET: the value of each key, or `None` where there is none or it is no string.
    pub async fn mget(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.call::<List<_>>(Cmd::new("MGET").args(keys)).await.map(|list| list.0)
    }

    /// MSET: all of them, atomically.
    pub async fn mset<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        self.call(with_pairs("MSET", pairs)).await
    }

    /// MSETNX: all of them, or none when any key exists; whether they were set.
    pub async fn mset_nx<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<bool, Error> {
        self.call(with_pairs("MSETNX", pairs)).await
    }

    /// APPEND: the length afterwards, in bytes.
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("APPEND").arg(key).arg(value)).await
    }

    /// STRLEN: the length in bytes; 0 when the key does not exist.
    pub async fn strlen(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.call(Cmd::new("STRLEN").arg(key)).await
    }

    /// INCR: the value afterwards.
    pub async fn incr(&self, key: impl AsRef<[u8]>) -> Result<i64, Error> {
        self.call(Cmd::new("INCR").arg(key)).await
    }

    /// DECR: the value afterwards.
    pub async fn decr(&self, key: impl AsRef<[u8]>) -> Result<i64, Error> {
        self.call(Cmd::new("DECR").arg(key)).await
    }

    /// INCRBY: the value afterwards.
    pub async fn incr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, Error> {
        self.call(Cmd::new("INCRBY").arg(key).int(by)).await
    }

    /// DECRBY: the value afterwards.
    pub async fn decr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, Error> {
        self.call(Cmd::new("DECRBY").arg(key).int(by)).await
    }

    /// INCRBYFLOAT: the value afterwards. The server computes in more digits than a double has.
    pub async fn incr_by_float(&self, key: impl AsRef<[u8]>, by: f64) -> Result<f64, Error> {
        self.call(Cmd::new("INCRBYFLOAT").arg(key).arg(by.to_string())).await
    }

    /// SETRANGE: overwrites from `offset` on, zeros before it where there was nothing; the length
    /// afterwards.
    pub async fn set_range(
        &self,
        key: impl AsRef<[u8]>,
        offset: u64,
        value: impl AsRef<[u8]>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("SETRANGE").arg(key).uint(offset).arg(value)).await
    }

    /// GETRANGE: the bytes from `start` to `end`, both included, negative ones from the end.
    pub async fn get_range(
        &self,
        key: impl AsRef<[u8]>,
        start: i64,
        end: i64,
    ) -> Result<Vec<u8>, Error> {
        self.call(Cmd::new("GETRANGE").arg(key).int(start).int(end)).await
    }

    /// LCS: the longest common subsequence of two values.
    pub async fn lcs(&self, a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> Result<Vec<u8>, Error> {
        self.call(Cmd::new("LCS").arg(a).arg(b)).await
    }

    /// LCS with LEN: its length.
    pub async fn lcs_len(&self, a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.call(Cmd::new("LCS").arg(a).arg(b).arg("LEN")).await
    }
}

fn with_pairs<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    name: &str,
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Cmd {
    pairs.into_iter().fold(Cmd::new(name), |cmd, (key, value)| cmd.arg(key).arg(value))
}
