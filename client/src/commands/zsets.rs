//! Sorted set commands. Ranges by score and by member go through ZRANGE.

use cairn_protocol::number::push_f64;

use super::MemberScanOptions;
use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::{List, Pairs};

/// A member and its score.
pub type Scored = (Vec<u8>, f64);

/// Which members ZADD touches. The default: all that are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZAddOptions {
    /// Whether it must be a member already.
    pub condition: ZAddIf,
    /// What a member's new score must be.
    pub compare: ZAddCompare,
}

/// Whether what is given to ZADD must be a member already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZAddIf {
    /// It may be.
    #[default]
    Always,
    /// It must be.
    Member,
    /// It must not be.
    Missing,
}

/// What the new score of a member must be; what is no member yet is added all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZAddCompare {
    /// Anything.
    #[default]
    Any,
    /// Greater than the old one.
    Greater,
    /// Less than the old one.
    Less,
}

impl ZAddOptions {
    fn add_to(self, cmd: Cmd) -> Cmd {
        let cmd = match self.condition {
            ZAddIf::Always => cmd,
            ZAddIf::Member => cmd.arg("XX"),
            ZAddIf::Missing => cmd.arg("NX"),
        };
        match self.compare {
            ZAddCompare::Any => cmd,
            ZAddCompare::Greater => cmd.arg("GT"),
            ZAddCompare::Less => cmd.arg("LT"),
        }
    }
}

/// An end of a range of scores; infinities leave it open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoreEnd {
    /// The score is inside.
    Inclusive(f64),
    /// The score is outside.
    Exclusive(f64),
}

impl ScoreEnd {
    fn text(self) -> Vec<u8> {
        match self {
            Self::Inclusive(score) => number(score),
            Self::Exclusive(score) => [b"(".to_vec(), number(score)].concat(),
        }
    }
}

/// An end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexEnd<'a> {
    /// Before every member.
    Lowest,
    /// Behind every member.
    Highest,
    /// The member is inside.
    Inclusive(&'a [u8]),
    /// The member is outside.
    Exclusive(&'a [u8]),
}

impl LexEnd<'_> {
    fn text(self) -> Vec<u8> {
        match self {
            Self::Lowest => b"-".to_vec(),
            Self::Highest => b"+".to_vec(),
            Self::Inclusive(member) => [b"[", member].concat(),
            Self::Exclusive(member) => [b"(", member].concat(),
        }
    }
}

/// Which members of a set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ZRange<'a> {
    /// By rank, both included, negative ones from the end.
    Rank(i64, i64),
    /// By score, the lower end first.
    Score(ScoreEnd, ScoreEnd),
    /// By member, the lower end first: for sets whose members all have the same score.
    Lex(LexEnd<'a>, LexEnd<'a>),
}

/// Options of ZRANGE. The default: from the lowest, all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZRangeOptions {
    /// From the highest.
    pub reverse: bool,
    /// How many to leave out and how many to take at most; not for ranges by rank.
    pub limit: Option<(u64, u64)>,
}

impl ZRange<'_> {
    fn ends(self) -> [Vec<u8>; 2] {
        match self {
            Self::Rank(start, stop) => [start, stop].map(|rank| rank.to_string().into_bytes()),
            Self::Score(min, max) => [min.text(), max.text()],
            Self::Lex(min, max) => [min.text(), max.text()],
        }
    }

    fn add_to(self, cmd: Cmd, options: ZRangeOptions) -> Cmd {
        let mut ends = self.ends();
        if options.reverse && !matches!(self, Self::Rank(..)) {
            ends.reverse();
        }
        let cmd = cmd.args(ends);
        let cmd = match self {
            Self::Rank(..) => cmd,
            Self::Score(..) => cmd.arg("BYSCORE"),
            Self::Lex(..) => cmd.arg("BYLEX"),
        };
        let cmd = cmd.flag("REV", options.reverse);
        match options.limit {
            Some((offset, count)) => cmd.arg("LIMIT").uint(offset).uint(count),
            None => cmd,
        }
    }
}

/// Which end of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZEnd {
    /// The lowest scores.
    Min,
    /// The highest scores.
    Max,
}

/// What becomes of the scores of a member of several sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// They are added.
    #[default]
    Sum,
    /// The lowest stays.
    Min,
    /// The highest stays.
    Max,
}

/// Options of ZUNION and ZINTER. The default adds scores as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Combine<'a> {
    /// A factor for the scores of each set, or none at all.
    pub weights: &'a [f64],
    /// What becomes of the scores of a member of several sets.
    pub aggregate: Aggregate,
}

impl Combine<'_> {
    fn add_to(self, cmd: Cmd) -> Cmd {
        let cmd = match self.weights {
            [] => cmd,
            weights => cmd.arg("WEIGHTS").args(weights.iter().map(|weight| number(*weight))),
        };
        match self.aggregate {
            Aggregate::Sum => cmd,
            Aggregate::Min => cmd.arg("AGGREGATE").arg("MIN"),
            Aggregate::Max => cmd.arg("AGGREGATE").arg("MAX"),
        }
    }
}

/// # Errors
/// All methods: see [`Error`]; the server's WRONGTYPE when a key holds another type.
impl Client {
    /// ZADD: how many members are new.
    pub async fn zadd<M: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        members: impl IntoIterator<Item = (f64, M)>,
    ) -> Result<u64, Error> {
        self.call(with_members(Cmd::new("ZADD").arg(key), members)).await
    }

    /// ZADD with CH and options: how many members are new or have another score now.
    pub async fn zadd_with<M: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        options: ZAddOptions,
        members: impl IntoIterator<Item = (f64, M)>,
    ) -> Result<u64, Error> {
        let cmd = options.add_to(Cmd::new("ZADD").arg(key)).arg("CH");
        self.call(with_members(cmd, members)).await
    }

    /// ZADD with INCR and options: the score afterwards, or `None` when the options forbade it.
    pub async fn zadd_incr(
        &self,
        key: impl AsRef<[u8]>,
        options: ZAddOptions,
        by: f64,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<f64>, Error> {
        let cmd = options.add_to(Cmd::new("ZADD").arg(key)).arg("INCR");
        self.call(cmd.arg(number(by)).arg(member)).await
    }

    /// ZINCRBY: the score afterwards.
    pub async fn zincr_by(
        &self,
        key: impl AsRef<[u8]>,
        by: f64,
        member: impl AsRef<[u8]>,
    ) -> Result<f64, Error> {
        self.call(Cmd::new("ZINCRBY").arg(key).arg(number(by)).arg(member)).await
    }

    /// ZREM: how many were members.
    pub async fn zrem(
        &self,
        key: impl AsRef<[u8]>,
        members: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("ZREM").arg(key).args(members)).await
    }

    /// ZREMRANGEBYRANK, ZREMRANGEBYSCORE or ZREMRANGEBYLEX: how many members were removed.
    pub async fn zrem_range(&self, key: impl AsRef<[u8]>, range: ZRange<'_>) -> Result<u64, Error> {
        let name = match range {
            ZRange::Rank(..) => "ZREMRANGEBYRANK",
            ZRange::Score(..) => "ZREMRANGEBYSCORE",
            ZRange::Lex(..) => "ZREMRANGEBYLEX",
        };
        self.call(Cmd::new(name).arg(key).args(range.ends())).await
    }

    /// ZSCORE: the score, or `None` when it is no member.
    pub async fn zscore(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<f64>, Error> {
        self.call(Cmd::new("ZSCORE").arg(key).arg(member)).await
    }

    /// ZMSCORE: the score of each, or `None` where it is no member.
    pub async fn zmscore(
        &self,
        key: impl AsRef<[u8]>,
        members: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Option<f64>>, Error> {
        self.call::<List<_>>(Cmd::new("ZMSCORE").arg(key).args(members)).await.map(|list| list.0)
    }

    /// ZCARD: how many members there are.
    pub async fn zcard(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.call(Cmd::new("ZCARD").arg(key)).await
    }

    /// ZCOUNT: how many members have a score in the range.
    pub async fn zcount(
        &self,
        key: impl AsRef<[u8]>,
        min: ScoreEnd,
        max: ScoreEnd,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("ZCOUNT").arg(key).arg(min.text()).arg(max.text())).await
    }

    /// ZLEXCOUNT: how many members lie in the range.
    pub async fn zlex_count(
        &self,
        key: impl AsRef<[u8]>,
        min: LexEnd<'_>,
        max: LexEnd<'_>,
    ) -> Result<u64, Error> {
        self.call(Cmd::new("ZLEXCOUNT").arg(key).arg(min.text()).arg(max.text())).await
    }

    /// ZRANK: how many members stand below it, or `None` when it is no member.
    pub async fn zrank(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<u64>, Error> {
        self.call(Cmd::new("ZRANK").arg(key).arg(member)).await
    }

    /// ZREVRANK: how many members stand above it, or `None` when it is no member.
    pub async fn zrev_rank(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<u64>, Error> {
        self.call(Cmd::new("ZREVRANK").arg(key).arg(member)).await
    }

    /// ZRANK with WITHSCORE: the rank and the score.
    pub async fn zrank_with_score(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<(u64, f64)>, Error> {
        self.call(Cmd::new("ZRANK").arg(key).arg(member).arg("WITHSCORE")).await
    }

    /// ZREVRANK with WITHSCORE: the rank from the highest and the score.
    pub async fn zrev_rank_with_score(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<(u64, f64)>, Error> {
        self.call(Cmd::new("ZREVRANK").arg(key).arg(member).arg("WITHSCORE")).await
    }

    /// ZRANGE: the members of a range.
    pub async fn zrange(
        &self,
        key: impl AsRef<[u8]>,
        range: ZRange<'_>,
        options: ZRangeOptions,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let cmd = range.add_to(Cmd::new("ZRANGE").arg(key), options);
        self.call::<List<_>>(cmd).await.map(|list| list.0)
    }

    /// ZRANGE with WITHSCORES: not for ranges by member.
    pub async fn zrange_with_scores(
        &self,
        key: impl AsRef<[u8]>,
        range: ZRange<'_>,
        options: ZRangeOptions,
    ) -> Result<Vec<Scored>, Error> {
        let cmd = range.add_to(Cmd::new("ZRANGE").arg(key), options).arg("WITHSCORES");
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }

    /// ZRANGESTORE: makes `to` a sorted set of the range; how many members it has.
    pub async fn zrange_store(
        &self,
        to: impl AsRef<[u8]>,
        from: impl AsRef<[u8]>,
        range: ZRange<'_>,
        options: ZRangeOptions,
    ) -> Result<u64, Error> {
        self.call(range.add_to(Cmd::new("ZRANGESTORE").arg(to).arg(from), options)).await
    }

    /// ZPOPMIN: takes out up to `count` members with the lowest scores.
    pub async fn zpop_min(&self, key: impl AsRef<[u8]>, count: u64) -> Result<Vec<Scored>, Error> {
        let cmd = Cmd::new("ZPOPMIN").arg(key).uint(count);
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }

    /// ZPOPMAX: takes out up to `count` members with the highest scores.
    pub async fn zpop_max(&self, key: impl AsRef<[u8]>, count: u64) -> Result<Vec<Scored>, Error> {
        let cmd = Cmd::new("ZPOPMAX").arg(key).uint(count);
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }

    /// ZMPOP: takes out up to `count` members of the first key that exists; the key and the members,
    /// or `None` when none exists.
    pub async fn zmpop(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        end: ZEnd,
        count: u64,
    ) -> Result<Option<(Vec<u8>, Vec<Scored>)>, Error> {
        let end = if end == ZEnd::Min { "MIN" } else { "MAX" };
        let cmd = with_keys(Cmd::new("ZMPOP"), keys).arg(end).arg("COUNT").uint(count);
        let popped: Option<(Vec<u8>, Pairs<_, _>)> = self.call(cmd).await?;
        Ok(popped.map(|(key, members)| (key, members.0)))
    }

    /// ZUNION with WITHSCORES: the members of any of the sets.
    pub async fn zunion(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        options: Combine<'_>,
    ) -> Result<Vec<Scored>, Error> {
        let cmd = options.add_to(with_keys(Cmd::new("ZUNION"), keys)).arg("WITHSCORES");
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }

    /// ZINTER with WITHSCORES: the members of all of the sets.
    pub async fn zinter(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        options: Combine<'_>,
    ) -> Result<Vec<Scored>, Error> {
        let cmd = options.add_to(with_keys(Cmd::new("ZINTER"), keys)).arg("WITHSCORES");
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }

    /// ZDIFF with WITHSCORES: the members of the first set that are in none of the others.
    pub async fn zdiff(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Scored>, Error> {
        let cmd = with_keys(Cmd::new("ZDIFF"), keys).arg("WITHSCORES");
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }

    /// ZUNIONSTORE: makes `to` the union; how many members it has.
    pub async fn zunion_store(
        &self,
        to: impl AsRef<[u8]>,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        options: Combine<'_>,
    ) -> Result<u64, Error> {
        self.call(options.add_to(with_keys(Cmd::new("ZUNIONSTORE").arg(to), keys))).await
    }

    /// ZINTERSTORE: makes `to` the intersection; how many members it has.
    pub async fn zinter_store(
        &self,
        to: impl AsRef<[u8]>,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        options: Combine<'_>,
    ) -> Result<u64, Error> {
        self.call(options.add_to(with_keys(Cmd::new("ZINTERSTORE").arg(to), keys))).await
    }

    /// ZDIFFSTORE: makes `to` the difference; how many members it has.
    pub async fn zdiff_store(
        &self,
        to: impl AsRef<[u8]>,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        self.call(with_keys(Cmd::new("ZDIFFSTORE").arg(to), keys)).await
    }

    /// ZINTERCARD: how many members are in all of the sets, counted up to `limit` if there is one.
    pub async fn zinter_card(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        limit: Option<u64>,
    ) -> Result<u64, Error> {
        let cmd = with_keys(Cmd::new("ZINTERCARD"), keys);
        self.call(match limit {
            Some(limit) => cmd.arg("LIMIT").uint(limit),
            None => cmd,
        })
        .await
    }

    /// ZRANDMEMBER: some member, or `None` when the key does not exist.
    pub async fn zrand_member(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.call(Cmd::new("ZRANDMEMBER").arg(key)).await
    }

    /// ZRANDMEMBER with a count: so many different members, or when it is negative so many that
    /// may be the same.
    pub async fn zrand_members(
        &self,
        key: impl AsRef<[u8]>,
        count: i64,
    ) -> Result<Vec<Scored>, Error> {
        let cmd = Cmd::new("ZRANDMEMBER").arg(key).int(count).arg("WITHSCORES");
        self.call::<Pairs<_, _>>(cmd).await.map(|pairs| pairs.0)
    }

    /// ZSCAN: some members, and the cursor to go on with; 0 starts, and 0 answered means the end. A
    /// member that is there all the time comes at least once.
    pub async fn zscan(
        &self,
        key: impl AsRef<[u8]>,
        cursor: u64,
        options: MemberScanOptions<'_>,
    ) -> Result<(u64, Vec<Scored>), Error> {
        let cmd = options.add_to(Cmd::new("ZSCAN").arg(key).uint(cursor));
        let (next, Pairs(members)): (Vec<u8>, Pairs<_, _>) = self.call(cmd).await?;
        Ok((super::cursor(&next)?, members))
    }
}

/// A score as the server reads it.
fn number(score: f64) -> Vec<u8> {
    let mut text = Vec::new();
    push_f64(&mut text, score);
    text
}

fn with_members<M: AsRef<[u8]>>(cmd: Cmd, members: impl IntoIterator<Item = (f64, M)>) -> Cmd {
    members.into_iter().fold(cmd, |cmd, (score, member)| cmd.arg(number(score)).arg(member))
}

fn with_keys(cmd: Cmd, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Cmd {
    let keys: Vec<_> = keys.into_iter().collect();
    cmd.uint(keys.len() as u64).args(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_ranges_are_written_as_the_server_reads_them() {
        let range = ZRange::Score(ScoreEnd::Exclusive(0.5), ScoreEnd::Inclusive(f64::INFINITY));
        assert_eq!(range.ends(), [b"(0.5".to_vec(), b"inf".to_vec()]);
        let range = ZRange::Lex(LexEnd::Lowest, LexEnd::Exclusive(b"x"));
        assert_eq!(range.ends(), [b"-".to_vec(), b"(x".to_vec()]);
    }
}
