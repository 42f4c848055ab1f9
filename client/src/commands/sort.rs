//! SORT and SORT_RO.

use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::List;

/// Options of SORT. The default sorts all elements as numbers, the smallest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct SortOptions<'a> {
    /// Sort by what the keys of this pattern hold (BY), a star standing for the element.
    pub by: Option<&'a [u8]>,
    /// How many to leave out at the beginning, and how many to return at most (LIMIT).
    pub limit: Option<(u64, u64)>,
    /// Return what the keys of these patterns hold (GET) instead of the elements; `#` is the
    /// element itself.
    pub get: &'a [&'a [u8]],
    /// The largest first (DESC).
    pub descending: bool,
    /// Sort as words, not as numbers (ALPHA).
    pub alphabetic: bool,
}

impl SortOptions<'_> {
    fn add_to(self, mut cmd: Cmd) -> Cmd {
        if let Some(by) = self.by {
            cmd = cmd.arg("BY").arg(by);
        }
        if let Some((offset, count)) = self.limit {
            cmd = cmd.arg("LIMIT").uint(offset).uint(count);
        }
        for pattern in self.get {
            cmd = cmd.arg("GET").arg(pattern);
        }
        cmd.flag("DESC", self.descending).flag("ALPHA", self.alphabetic)
    }
}

/// # Errors
/// All methods: see [`Error`]; the server's WRONGTYPE when the key holds no list, set or sorted set.
impl Client {
    /// SORT_RO: the elements of a list, a set or a sorted set, sorted; `None` stands for what a
    /// pattern of GET did not find.
    pub async fn sort(
        &self,
        key: impl AsRef<[u8]>,
        options: SortOptions<'_>,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let cmd = options.add_to(Cmd::new("SORT_RO").arg(key));
        self.call::<List<_>>(cmd).await.map(|list| list.0)
    }

    /// SORT with STORE: makes `to` a list of what [`Client::sort`] returns; how much that is.
    pub async fn sort_store(
        &self,
        key: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
        options: SortOptions<'_>,
    ) -> Result<u64, Error> {
        self.call(options.add_to(Cmd::new("SORT").arg(key)).arg("STORE").arg(to)).await
    }
}
