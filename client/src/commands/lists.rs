//! List commands.

use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::List;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first element's.
    Left,
    /// The last element's.
    Right,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            End::Left => "LEFT",
            End::Right => "RIGHT",
        }
    }
}

/// Where LINSERT puts an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the pivot.
    Before,
    /// Behind the pivot.
    After,
}

/// Options of LPOS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PositionOptions {
    /// The match to begin with: 2 is the second, -1 the last, going backwards; 0 leaves it out.
    pub rank: i64,
    /// How many elements to look at; 0 for all.
    pub look_at: u64,
}

impl PositionOptions {
    fn add_to(self, mut cmd: Cmd) -> Cmd {
        if self.rank != 0 {
            cmd = cmd.arg("RANK").int(self.rank);
        }
        if self.look_at > 0 {
            cmd = cmd.arg("MAXLEN").uint(self.look_at);
        }
        cmd
    }
}

/// # Errors
/// All methods: see [`Error`]; the server's WRONGTYPE when the key holds another type.
impl Client {
    /// LPUSH: puts elements before the first, one after another; how many there are then.
    pub async fn lpush(
        &self,
        key: impl AsRef<[u8]>,
        elements: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("LPUSH").arg(key).args(elements)).await
    }

    /// RPUSH: puts elements behind the last; how many there are then.
    pub async fn rpush(
        &self,
        key: impl AsRef<[u8]>,
        elements: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("RPUSH").arg(key).args(elements)).await
    }

    /// LPUSHX: as [`Client::lpush`], but only to a list that exists; 0 when it does not.
    pub async fn lpush_x(
        &self,
        key: impl AsRef<[u8]>,
        elements: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("LPUSHX").arg(key).args(elements)).await
    }

    /// RPUSHX: as [`Client::rpush`], but only to a list that exists; 0 when it does not.
    pub async fn rpush_x(
        &self,
        key: impl AsRef<[u8]>,
        elements: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("RPUSHX").arg(key).args(elements)).await
    }

    /// LPOP: takes the first element, or `None` when there is no list.
    pub async fn lpop(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("LPOP").arg(key)).await
    }

    /// LPOP with a count: takes up to so many of the first elements.
    pub async fn lpop_many(
        &self,
        key: impl AsRef<[u8]>,
        count: u64,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let popped: Option<List<_>> = self.call(Cmd::new("LPOP").arg(key).uint(count)).await?;
        Ok(popped.map(|list| list.0).unwrap_or_default())
    }

    /// RPOP: takes the last element, or `None` when there is no list.
    pub async fn rpop(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("RPOP").arg(key)).await
    }

    /// RPOP with a count: takes up to so many of the last elements, the last one first.
    pub async fn rpop_many(
        &self,
        key: impl AsRef<[u8]>,
        count: u64,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let popped: Option<List<_>> = self.call(Cmd::new("RPOP").arg(key).uint(count)).await?;
        Ok(popped.map(|list| list.0).unwrap_or_default())
    }

    /// LMPOP: takes up to `count` elements from an end of the first of the lists that exists;
    /// which list, and the elements.
    pub async fn lmpop(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        end: End,
        count: u64,
    ) -> Result<Option<(Vec<u8>, Vec<Vec<u8>>)>, Error> {
        let keys: Vec<_> = keys.into_iter().collect();
        let cmd = Cmd::new("LMPOP").uint(keys.len() as u64).args(keys).arg(end.word());
        let popped: Option<(Vec<u8>, List<_>)> = self.call(cmd.arg("COUNT").uint(count)).await?;
        Ok(popped.map(|(key, elements)| (key, elements.0)))
    }

    /// LLEN: how many elements there are.
    pub async fn llen(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.call(Cmd::new("LLEN").arg(key)).await
    }

    /// LINDEX: the element at an index, which counts from the end when negative.
    pub async fn lindex(
        &self,
        key: impl AsRef<[u8]>,
        index: i64,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("LINDEX").arg(key).int(index)).await
    }

    /// LSET: puts another element at an index; an error of the server's when there is none.
    pub async fn lset(
        &self,
        key: impl AsRef<[u8]>,
        index: i64,
        element: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        self.call(Cmd::new("LSET").arg(key).int(index).arg(element)).await
    }

    /// LRANGE: the elements from `start` to `stop`, both included, which count from the end when
    /// negative.
    pub async fn lrange(
        &self,
        key: impl AsRef<[u8]>,
        start: i64,
        stop: i64,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let cmd = Cmd::new("LRANGE").arg(key).int(start).int(stop);
        self.call::<List<_>>(cmd).await.map(|list| list.0)
    }

    /// LTRIM: keeps the elements from `start` to `stop` and removes the others.
    pub async fn ltrim(&self, key: impl AsRef<[u8]>, start: i64, stop: i64) -> Result<(), Error> {
        self.call(Cmd::new("LTRIM").arg(key).int(start).int(stop)).await
    }

    /// LINSERT: puts an element beside the first that is `pivot`; how many there are then, `None`
    /// when there is no list or no pivot.
    pub async fn linsert(
        &self,
        key: impl AsRef<[u8]>,
        place: Place,
        pivot: impl AsRef<[u8]>,
        element: impl AsRef<[u8]>,
    ) -> Result<Option<u64>, Error> {
        let place = match place {
            Place::Before => "BEFORE",
            Place::After => "AFTER",
        };
        let cmd = Cmd::new("LINSERT").arg(key).arg(place).arg(pivot).arg(element);
        let len: i64 = self.call(cmd).await?;
        Ok(u64::try_from(len).ok().filter(|&len| len > 0))
    }

    /// LREM: removes the first `count` elements that are `element`, the last when it is negative,
    /// all when it is 0; how many there were.
    pub async fn lrem(
        &self,
        key: impl AsRef<[u8]>,
        count: i64,
        element: impl AsRef<[u8]>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("LREM").arg(key).int(count).arg(element)).await
    }

    /// LPOS: the index of a matching element.
    pub async fn lpos(
        &self,
        key: impl AsRef<[u8]>,
        element: impl AsRef<[u8]>,
        options: PositionOptions,
    ) -> Result<Option<u64>, Error> {
        self.call(options.add_to(Cmd::new("LPOS").arg(key).arg(element))).await
    }

    /// LPOS with a count: the indices of up to so many matching elements, of all when it is 0.
    pub async fn lpos_many(
        &self,
        key: impl AsRef<[u8]>,
        element: impl AsRef<[u8]>,
        count: u64,
        options: PositionOptions,
    ) -> Result<Vec<u64>, Error> {
        let cmd = Cmd::new("LPOS").arg(key).arg(element).arg("COUNT").uint(count);
        self.call::<List<_>>(options.add_to(cmd)).await.map(|list| list.0)
    }

    /// LMOVE: takes an element from an end of one list and puts it at an end of another, or of the
    /// same; `None` when there is no list to take from.
    pub async fn lmove(
        &self,
        source: impl AsRef<[u8]>,
        destination: impl AsRef<[u8]>,
        from: End,
        to: End,
    ) -> Result<Option<Vec<u8>>, Error> {
        let cmd = Cmd::new("LMOVE").arg(source).arg(destination);
        self.call(cmd.arg(from.word()).arg(to.word())).await
    }
}
