//! Commands on keys of any type and on databases.

use std::time::Duration;

use super::{Expiry, MemberScanOptions, millis};
use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::List;

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// For ever.
    Unlimited,
    /// For so long.
    Left(Duration),
}

/// When EXPIRE changes the time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpireIf {
    /// Always.
    #[default]
    Always,
    /// Only when the key has none (NX).
    Unlimited,
    /// Only when the key has one (XX).
    Limited,
    /// Only when it becomes longer (GT).
    Longer,
    /// Only when it becomes shorter (LT).
    Shorter,
}

/// Options of SCAN.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanOptions<'a> {
    /// Only keys that match this pattern.
    pub pattern: Option<&'a [u8]>,
    /// About how many keys to look at in one call; 0 leaves it to the server.
    pub count: u64,
    /// Only keys that hold this type.
    pub key_type: Option<&'a str>,
}

/// # Errors
/// All methods: see [`Error`].
impl Client {
    /// DEL: how many of the keys existed.
    pub async fn del(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("DEL").args(keys)).await
    }

    /// UNLINK: as DEL, the memory being freed later.
    pub async fn unlink(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("UNLINK").args(keys)).await
    }

    /// EXISTS: how many of the keys exist, one named twice counting twice.
    pub async fn exists(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("EXISTS").args(keys)).await
    }

    /// TOUCH: how many of the keys exist, their last access being now.
    pub async fn touch(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("TOUCH").args(keys)).await
    }

    /// TYPE: `string`, `list`, ...; `none` when the key does not exist.
    pub async fn key_type(&self, key: impl AsRef<[u8]>) -> Result<String, Error> {
        self.call(Cmd::new("TYPE").arg(key)).await
    }

    /// PTTL: how long the key lives, to the millisecond.
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl, Error> {
        Ok(match self.call::<i64>(Cmd::new("PTTL").arg(key)).await? {
            ..=-2 => Ttl::Missing,
            -1 => Ttl::Unlimited,
            left => Ttl::Left(Duration::from_millis(left as u64)),
        })
    }

    /// PEXPIRETIME: when the key expires, in milliseconds since the Unix epoch; `None` when it does
    /// not expire or does not exist.
    pub async fn expire_time_ms(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, Error> {
        let at: i64 = self.call(Cmd::new("PEXPIRETIME").arg(key)).await?;
        Ok(u64::try_from(at).ok())
    }

    /// PEXPIRE and PEXPIREAT: whether the time to live was changed.
    pub async fn expire(
        &self,
        key: impl AsRef<[u8]>,
        expiry: Expiry,
        condition: ExpireIf,
    ) -> Result<bool, Error> {
        let cmd = match expiry {
            Expiry::In(time) => Cmd::new("PEXPIRE").arg(key).uint(millis(time)),
            Expiry::AtMs(at) => Cmd::new("PEXPIREAT").arg(key).uint(at),
        };
        self.call(match condition {
            ExpireIf::Always => cmd,
            ExpireIf::Unlimited => cmd.arg("NX"),
            ExpireIf::Limited => cmd.arg("XX"),
            ExpireIf::Longer => cmd.arg("GT"),
            ExpireIf::Shorter => cmd.arg("LT"),
        })
        .await
    }

    /// PERSIST: whether a time to live was taken away.
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.call(Cmd::new("PERSIST").arg(key)).await
    }

    /// RENAME: replaces `to`; an error when `from` does not exist.
    pub async fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<(), Error> {
        self.call(Cmd::new("RENAME").arg(from).arg(to)).await
    }

    /// RENAMENX: whether it was renamed, which it is not when `to` exists.
    pub async fn rename_nx(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        self.call(Cmd::new("RENAMENX").arg(from).arg(to)).await
    }

    /// COPY, to another database if one is named: whether it was copied. Without `replace` an
    /// existing `to` stays.
    pub async fn copy(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
        database: Option<u16>,
        replace: bool,
    ) -> Result<bool, Error> {
        let mut cmd = Cmd::new("COPY").arg(from).arg(to);
        if let Some(database) = database {
            cmd = cmd.arg("DB").uint(database.into());
        }
        self.call(cmd.flag("REPLACE", replace)).await
    }

    /// MOVE: whether the key was moved, which it is not when it exists there.
    pub async fn move_key(&self, key: impl AsRef<[u8]>, database: u16) -> Result<bool, Error> {
        self.call(Cmd::new("MOVE").arg(key).uint(database.into())).await
    }

    /// KEYS: all keys that match a pattern. [`Client::scan`] is kinder to a large database.
    pub async fn keys(&self, pattern: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("KEYS").arg(pattern)).await.map(|list| list.0)
    }

    /// SCAN: some keys, and the cursor to go on with; 0 starts, and 0 answered means the end. A key
    /// that is there all the time comes at least once.
    pub async fn scan(
        &self,
        cursor: u64,
        options: ScanOptions<'_>,
    ) -> Result<(u64, Vec<Vec<u8>>), Error> {
        let members = MemberScanOptions { pattern: options.pattern, count: options.count };
        let mut cmd = members.add_to(Cmd::new("SCAN").uint(cursor));
        if let Some(key_type) = options.key_type {
            cmd = cmd.arg("TYPE").arg(key_type);
        }
        let (next, List(keys)): (Vec<u8>, List<Vec<u8>>) = self.call(cmd).await?;
        Ok((super::cursor(&next)?, keys))
    }

    /// RANDOMKEY: some key, or `None` when there is none.
    pub async fn random_key(&self) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("RANDOMKEY")).await
    }

    /// DBSIZE: how many keys there are.
    pub async fn db_size(&self) -> Result<u64, Error> {
        self.call(Cmd::new("DBSIZE")).await
    }

    /// FLUSHDB: deletes all keys of the database.
    pub async fn flush_db(&self) -> Result<(), Error> {
        self.call(Cmd::new("FLUSHDB")).await
    }

    /// FLUSHALL: deletes all keys of all databases.
    pub async fn flush_all(&self) -> Result<(), Error> {
        self.call(Cmd::new("FLUSHALL")).await
    }

    /// SWAPDB: exchanges two databases.
    pub async fn swap_db(&self, a: u16, b: u16) -> Result<(), Error> {
        self.call(Cmd::new("SWAPDB").uint(a.into()).uint(b.into())).await
    }

    /// OBJECT ENCODING: how the value is kept, or `None` when the key does not exist.
    pub async fn object_encoding(&self, key: impl AsRef<[u8]>) -> Result<Option<String>, Error> {
        self.call(Cmd::new("OBJECT ENCODING").arg(key)).await
    }

    /// OBJECT IDLETIME: how long ago the key was last accessed, to the second.
    pub async fn object_idle_time(&self, key: impl AsRef<[u8]>) -> Result<Option<Duration>, Error> {
        let seconds: Option<u64> = self.call(Cmd::new("OBJECT IDLETIME").arg(key)).await?;
        Ok(seconds.map(Duration::from_secs))
    }

    /// OBJECT FREQ: the logarithmic access counter; an error unless the server evicts by it.
    pub async fn object_freq(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, Error> {
        self.call(Cmd::new("OBJECT FREQ").arg(key)).await
    }

    /// MEMORY USAGE: about how many bytes the key takes, or `None` when it does not exist.
    pub async fn memory_usage(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, Error> {
        self.call(Cmd::new("MEMORY USAGE").arg(key)).await
    }
}
