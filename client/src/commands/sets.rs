//! Set commands.

use super::MemberScanOptions;
use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::List;

/// # Errors
/// All methods: see [`Error`]; the server's WRONGTYPE when a key holds another type.
impl Client {
    /// SADD: how many of the members are new.
    pub async fn sadd(
        &self,
        key: impl AsRef<[u8]>,
        members: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("SADD").arg(key).args(members)).await
    }

    /// SREM: how many of the members were there.
    pub async fn srem(
        &self,
        key: impl AsRef<[u8]>,
        members: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("SREM").arg(key).args(members)).await
    }

    /// SISMEMBER: whether it is a member.
    pub async fn sis_member(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        self.call(Cmd::new("SISMEMBER").arg(key).arg(member)).await
    }

    /// SMISMEMBER: whether each is a member.
    pub async fn smis_member(
        &self,
        key: impl AsRef<[u8]>,
        members: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<bool>, Error> {
        self.call::<List<_>>(Cmd::new("SMISMEMBER").arg(key).args(members)).await.map(|list| list.0)
    }

    /// SCARD: how many members there are.
    pub async fn scard(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.call(Cmd::new("SCARD").arg(key)).await
    }

    /// SMEMBERS: all members. [`Client::sscan`] is kinder to a large set.
    pub async fn smembers(&self, key: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("SMEMBERS").arg(key)).await.map(|list| list.0)
    }

    /// SPOP: some member, removed, or `None` when there is none.
    pub async fn spop(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("SPOP").arg(key)).await
    }

    /// SPOP with a count: so many members, removed; all of them when there are no more.
    pub async fn spop_many(
        &self,
        key: impl AsRef<[u8]>,
        count: u64,
    ) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("SPOP").arg(key).uint(count)).await.map(|list| list.0)
    }

    /// SRANDMEMBER: some member, or `None` when there is none.
    pub async fn srand_member(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("SRANDMEMBER").arg(key)).await
    }

    /// SRANDMEMBER with a count: so many different members, or when it is negative so many that may
    /// repeat.
    pub async fn srand_members(
        &self,
        key: impl AsRef<[u8]>,
        count: i64,
    ) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("SRANDMEMBER").arg(key).int(count)).await.map(|list| list.0)
    }

    /// SMOVE: whether the member was moved, which it is not when it was not there.
    pub async fn smove(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        self.call(Cmd::new("SMOVE").arg(from).arg(to).arg(member)).await
    }

    /// SINTER: what is in all of the sets.
    pub async fn sinter(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("SINTER").args(keys)).await.map(|list| list.0)
    }

    /// SINTERCARD: how much is in all of the sets, counted up to `limit` (0: without one).
    pub async fn sinter_card<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K, IntoIter: ExactSizeIterator>,
        limit: u64,
    ) -> Result<u64, Error> {
        let keys = keys.into_iter();
        let cmd = Cmd::new("SINTERCARD").uint(keys.len() as u64).args(keys);
        self.call(cmd.arg("LIMIT").uint(limit)).await
    }

    /// SINTERSTORE: makes `to` what is in all of the sets; how much that is.
    pub async fn sinter_store(
        &self,
        to: impl AsRef<[u8]>,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("SINTERSTORE").arg(to).args(keys)).await
    }

    /// SUNION: what is in any of the sets.
    pub async fn sunion(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("SUNION").args(keys)).await.map(|list| list.0)
    }

    /// SUNIONSTORE: makes `to` what is in any of the sets; how much that is.
    pub async fn sunion_store(
        &self,
        to: impl AsRef<[u8]>,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("SUNIONSTORE").arg(to).args(keys)).await
    }

    /// SDIFF: what is in the first set and in none of the others.
    pub async fn sdiff(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        self.call::<List<_>>(Cmd::new("SDIFF").args(keys)).await.map(|list| list.0)
    }

    /// SDIFFSTORE: makes `to` what is in the first set and in none of the others; how much that is.
    pub async fn sdiff_store(
        &self,
        to: impl AsRef<[u8]>,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("SDIFFSTORE").arg(to).args(keys)).await
    }

    /// SSCAN: some members, and the cursor to go on with; 0 starts, and 0 answered means the end.
    pub async fn sscan(
        &self,
        key: impl AsRef<[u8]>,
        cursor: u64,
        options: MemberScanOptions<'_>,
    ) -> Result<(u64, Vec<Vec<u8>>), Error> {
        let cmd = options.add_to(Cmd::new("SSCAN").arg(key).uint(cursor));
        let (next, List(members)): (Vec<u8>, List<_>) = self.call(cmd).await?;
        Ok((super::cursor(&next)?, members))
    }
}
