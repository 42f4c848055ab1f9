//! Hash commands.

use super::MemberScanOptions;
use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::{List, Pairs};

/// A field and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// # Errors
/// All methods: see [`Error`]; the server's WRONGTYPE when the key holds another type.
impl Client {
    /// HSET: how many of the fields are new.
    pub async fn hset<F: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<u64, Error> {
        let cmd = Cmd::new("HSET").arg(key);
        self.call(fields.into_iter().fold(cmd, |cmd, (field, value)| cmd.arg(field).arg(value)))
            .await
    }

    /// HSETNX: whether the field was set, which it is not when it exists.
    pub async fn hset_nx(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        self.call(Cmd::new("HSETNX").arg(key).arg(field).arg(value)).await
    }

    /// HGET: the field's value, or `None` when there is no such field.
    pub async fn hget(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("HGET").arg(key).arg(field)).await
    }

    /// HMGET: the value of each field, or `None` where there is none.
    pub async fn hmget(
        &self,
        key: impl AsRef<[u8]>,
        fields: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.call::<List<_>>(Cmd::new("HMGET").arg(key).args(fields)).await.map(|list| list.0)
    }

    /// HGETALL: all fields with their values. [`Client::hscan`] is kinder to a large hash.
    pub async fn hget_all(&self, key: impl AsRef<[u8]>) -> Result<Vec<Field>, Error> {
        self.call::<Pairs<_, _>>(Cmd::new("HGETALL").arg(key)).await.map(|pairs| pairs.0)
    }

    /// HKEYS: the names of all fields.
    pub async fn hkeys(&self, key: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("HKEYS").arg(key)).await.map(|list| list.0)
    }

    /// HVALS: the values of all fields.
    pub async fn hvals(&self, key: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("HVALS").arg(key)).await.map(|list| list.0)
    }

    /// HDEL: how many of the fields existed.
    pub async fn hdel(
        &self,
        key: impl AsRef<[u8]>,
        fields: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("HDEL").arg(key).args(fields)).await
    }

    /// HLEN: how many fields there are.
    pub async fn hlen(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.call(Cmd::new("HLEN").arg(key)).await
    }

    /// HEXISTS: whether there is that field.
    pub async fn hexists(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        self.call(Cmd::new("HEXISTS").arg(key).arg(field)).await
    }

    /// HSTRLEN: the length of the field's value in bytes, 0 when there is no such field.
    pub async fn hstrlen(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("HSTRLEN").arg(key).arg(field)).await
    }

    /// HINCRBY: the field's integer after adding to it; one that does not exist counts as 0.
    pub async fn hincr_by(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        increment: i64,
    ) -> Result<i64, Error> {
        self.call(Cmd::new("HINCRBY").arg(key).arg(field).int(increment)).await
    }

    /// HINCRBYFLOAT: the field's number after adding to it; one that does not exist counts as 0.
    pub async fn hincr_by_float(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        increment: f64,
    ) -> Result<f64, Error> {
        self.call(Cmd::new("HINCRBYFLOAT").arg(key).arg(field).arg(increment.to_string())).await
    }

    /// HSCAN: some fields with their values, and the cursor to go on with; 0 starts, and 0 answered
    /// means the end.
    pub async fn hscan(
        &self,
        key: impl AsRef<[u8]>,
        cursor: u64,
        options: MemberScanOptions<'_>,
    ) -> Result<(u64, Vec<Field>), Error> {
        let cmd = options.add_to(Cmd::new("HSCAN").arg(key).uint(cursor));
        let (next, Pairs(fields)): (Vec<u8>, Pairs<_, _>) = self.call(cmd).await?;
        Ok((super::cursor(&next)?, fields))
    }

    /// HRANDFIELD: some field's name, or `None` when there is none.
    pub async fn hrand_field(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("HRANDFIELD").arg(key)).await
    }

    /// HRANDFIELD with a count: so many different fields, or when it is negative so many that may
    /// repeat.
    pub async fn hrand_fields(
        &self,
        key: impl AsRef<[u8]>,
        count: i64,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let cmd = Cmd::new("HRANDFIELD").arg(key).int(count);
        self.call::<List<_>>(cmd).await.map(|list| list.0)
    }

    /// HRANDFIELD with WITHVALUES: as [`Client::hrand_fields`], with their values.
    pub async fn hrand_fields_with_values(
        &self,
        key: impl AsRef<[u8]>,
        count: i64,
    ) -> Result<Vec<Field>, Error> {
        let cmd = Cmd::new("HRANDFIELD").arg(key).int(count).arg("WITHVALUES");
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }
}
