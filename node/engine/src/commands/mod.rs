//! What each command does: one handler a command, by family.
//!
//! A handler checks its arguments, looks at the keyspace through its context, writes one reply and
//! changes what it changes, in this order as far as it can: an error leaves the data as it was and
//! takes back what was written of the reply. Arity has been checked before it runs.

mod expiry;
mod hashes;
pub(crate) mod internal;
mod iterate;
pub(crate) mod keys;
mod lists;
mod object;
mod sets;
mod snapshots;
mod sort;
mod strings;
#[cfg(test)]
pub(crate) mod test;
pub(crate) mod zsets;

use cairn_protocol::command::CommandId;
use cairn_protocol::resp::{Argv, Writer};

use crate::failure::Outcome;
use crate::keyspace::{ReadContext, WriteContext};

pub(crate) type Read = fn(&mut ReadContext<'_>, Argv<'_>, &mut Writer<'_>) -> Outcome;
pub(crate) type Write = fn(&mut WriteContext<'_>, Argv<'_>, &mut Writer<'_>) -> Outcome;

/// Who executes a command.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Read(Read),
    Write(Write),
    /// The engine itself: it is made of others.
    Several,
    /// The server: the command is about the connection or the node, not about the data.
    Elsewhere,
}

/// The handler of every command: a new row in the table does not compile until it has one here.
#[inline]
pub(crate) fn handler(command: CommandId) -> Handler {
    use CommandId as Id;
    use Handler::{Elsewhere, Read, Several, Write};
    match command {
        Id::Get => Read(strings::get),
        Id::Set => Write(strings::set),
        Id::GetDel => Write(strings::getdel),
        Id::GetEx => Write(strings::getex),
        Id::GetSet => Write(strings::getset),
        Id::SetNx => Write(strings::setnx),
        Id::SetEx => Write(strings::setex),
        Id::PSetEx => Write(strings::psetex),
        Id::MGet => Read(strings::mget),
        Id::MSet => Write(strings::mset),
        Id::MSetNx => Write(strings::msetnx),
        Id::Append => Write(strings::append),
        Id::StrLen => Read(strings::strlen),
        Id::Incr => Write(strings::incr),
        Id::Decr => Write(strings::decr),
        Id::IncrBy => Write(strings::incrby),
        Id::DecrBy => Write(strings::decrby),
        Id::IncrByFloat => Write(strings::incrbyfloat),
        Id::SetRange => Write(strings::setrange),
        Id::GetRange | Id::SubStr => Read(strings::getrange),
        Id::Lcs => Read(strings::lcs),

        Id::ZAdd => Write(zsets::zadd),
        Id::ZIncrBy => Write(zsets::zincrby),
        Id::ZRem => Write(zsets::zrem),
        Id::ZScore => Read(zsets::zscore),
        Id::ZMScore => Read(zsets::zmscore),
        Id::ZCard => Read(zsets::zcard),
        Id::ZCount => Read(zsets::zcount),
        Id::ZLexCount => Read(zsets::zlexcount),
        Id::ZRank => Read(zsets::zrank),
        Id::ZRevRank => Read(zsets::zrevrank),
        Id::ZRange => Read(zsets::zrange),
        Id::ZRangeStore => Write(zsets::zrangestore),
        Id::ZRevRange => Read(zsets::zrevrange),
        Id::ZRangeByScore => Read(zsets::zrangebyscore),
        Id::ZRevRangeByScore => Read(zsets::zrevrangebyscore),
        Id::ZRangeByLex => Read(zsets::zrangebylex),
        Id::ZRevRangeByLex => Read(zsets::zrevrangebylex),
        Id::ZRemRangeByRank => Write(zsets::zremrangebyrank),
        Id::ZRemRangeByScore => Write(zsets::zremrangebyscore),
        Id::ZRemRangeByLex => Write(zsets::zremrangebylex),
        Id::ZPopMin => Write(zsets::zpopmin),
        Id::ZPopMax => Write(zsets::zpopmax),
        Id::ZMPop => Write(zsets::zmpop),
        Id::ZUnion => Read(zsets::zunion),
        Id::ZInter => Read(zsets::zinter),
        Id::ZDiff => Read(zsets::zdiff),
        Id::ZUnionStore => Write(zsets::zunionstore),
        Id::ZInterStore => Write(zsets::zinterstore),
        Id::ZDiffStore => Write(zsets::zdiffstore),
        Id::ZInterCard => Read(zsets::zintercard),
        Id::ZRandMember => Read(zsets::zrandmember),
        Id::ZScan => Read(zsets::zscan),

        Id::Del | Id::Unlink => Write(keys::del),
        Id::Exists => Read(keys::exists),
        Id::Type => Read(keys::type_of),
        Id::Rename => Write(keys::rename),
        Id::RenameNx => Write(keys::renamenx),
        Id::Copy => Write(keys::copy),
        Id::Move => Write(keys::move_key),
        Id::Touch => Read(keys::touch),
        Id::Keys => Read(keys::keys),
        Id::Scan => Read(keys::scan),
        Id::RandomKey => Read(keys::randomkey),
        Id::DbSize => Read(keys::dbsize),
        Id::FlushDb => Write(keys::flushdb),
        Id::FlushAll => Write(keys::flushall),
        Id::SwapDb => Write(keys::swapdb),

        Id::HSet => Write(hashes::hset),
        Id::HSetNx => Write(hashes::hsetnx),
        Id::HMSet => Write(hashes::hmset),
        Id::HGet => Read(hashes::hget),
        Id::HMGet => Read(hashes::hmget),
        Id::HGetAll => Read(hashes::hgetall),
        Id::HKeys => Read(hashes::hkeys),
        Id::HVals => Read(hashes::hvals),
        Id::HDel => Write(hashes::hdel),
        Id::HLen => Read(hashes::hlen),
        Id::HExists => Read(hashes::hexists),
        Id::HStrLen => Read(hashes::hstrlen),
        Id::HIncrBy => Write(hashes::hincrby),
        Id::HIncrByFloat => Write(hashes::hincrbyfloat),
        Id::HScan => Read(hashes::hscan),
        Id::HRandField => Read(hashes::hrandfield),

        Id::Sort => Write(sort::sort),
        Id::SortRo => Read(sort::sort_ro),

        Id::SAdd => Write(sets::sadd),
        Id::SRem => Write(sets::srem),
        Id::SMove => Write(sets::smove),
        Id::SIsMember => Read(sets::sismember),
        Id::SMIsMember => Read(sets::smismember),
        Id::SCard => Read(sets::scard),
        Id::SMembers => Read(sets::smembers),
        Id::SScan => Read(sets::sscan),
        Id::SPop => Write(sets::spop),
        Id::SRandMember => Read(sets::srandmember),
        Id::SInter => Read(sets::sinter),
        Id::SInterCard => Read(sets::sintercard),
        Id::SInterStore => Write(sets::sinterstore),
        Id::SUnion => Read(sets::sunion),
        Id::SUnionStore => Write(sets::sunionstore),
        Id::SDiff => Read(sets::sdiff),
        Id::SDiffStore => Write(sets::sdiffstore),

        Id::LPush => Write(lists::lpush),
        Id::RPush => Write(lists::rpush),
        Id::LPushX => Write(lists::lpushx),
        Id::RPushX => Write(lists::rpushx),
        Id::LPop => Write(lists::lpop),
        Id::RPop => Write(lists::rpop),
        Id::LMPop => Write(lists::lmpop),
        Id::LLen => Read(lists::llen),
        Id::LIndex => Read(lists::lindex),
        Id::LSet => Write(lists::lset),
        Id::LRange => Read(lists::lrange),
        Id::LTrim => Write(lists::ltrim),
        Id::LInsert => Write(lists::linsert),
        Id::LRem => Write(lists::lrem),
        Id::LPos => Read(lists::lpos),
        Id::LMove => Write(lists::lmove),
        Id::RPopLPush => Write(lists::rpoplpush),

        Id::Ttl => Read(expiry::ttl),
        Id::PTtl => Read(expiry::pttl),
        Id::ExpireTime => Read(expiry::expiretime),
        Id::PExpireTime => Read(expiry::pexpiretime),
        Id::Expire => Write(expiry::expire),
        Id::PExpire => Write(expiry::pexpire),
        Id::ExpireAt => Write(expiry::expireat),
        Id::PExpireAt => Write(expiry::pexpireat),
        Id::Persist => Write(expiry::persist),

        Id::ObjectEncoding => Read(object::encoding),
        Id::ObjectFreq => Read(object::freq),
        Id::ObjectIdleTime => Read(object::idletime),
        Id::ObjectRefCount => Read(object::refcount),
        Id::ObjectHelp => Read(object::help),
        Id::MemoryUsage => Read(object::memory_usage),

        Id::SnapshotCreate => Write(snapshots::create),
        Id::SnapshotDrop => Write(snapshots::drop_one),
        Id::SnapshotRollback => Write(snapshots::roll_back),
        Id::SnapshotList => Read(snapshots::list),
        Id::SnapshotInfo => Read(snapshots::info),

        Id::InternalStage => Write(internal::stage),
        Id::InternalDropStages => Write(internal::drop_stages),
        Id::InternalReclaim => Write(internal::reclaim),
        Id::InternalExpire => Write(internal::expire),
        Id::InternalExec => Several,
        Id::InternalLimits => Write(internal::limits),
        Id::InternalMemory => Write(internal::memory),
        Id::InternalEvict => Write(internal::evict),
        Id::InternalDeny => Write(internal::deny),

        Id::Select
        | Id::Snapshot
        | Id::SnapshotHelp
        | Id::Raft
        | Id::RaftStatus
        | Id::RaftHelp
        | Id::RaftRemove
        | Id::Role
        | Id::ReadOnly
        | Id::ReadWrite
        | Id::Object
        | Id::Wait
        | Id::WaitAof
        | Id::Multi
        | Id::Exec
        | Id::Discard
        | Id::Watch
        | Id::Unwatch
        | Id::Hello
        | Id::Auth
        | Id::Client
        | Id::ClientId
        | Id::ClientInfo
        | Id::ClientList
        | Id::ClientGetName
        | Id::ClientSetName
        | Id::ClientSetInfo
        | Id::ClientKill
        | Id::ClientNoEvict
        | Id::ClientNoTouch
        | Id::ClientReply
        | Id::ClientHelp
        | Id::Ping
        | Id::Echo
        | Id::Quit
        | Id::Reset
        | Id::Command
        | Id::CommandCount
        | Id::CommandDocs
        | Id::CommandGetKeys
        | Id::CommandGetKeysAndFlags
        | Id::CommandInfo
        | Id::CommandList
        | Id::CommandHelp
        | Id::Config
        | Id::ConfigGet
        | Id::ConfigSet
        | Id::ConfigResetStat
        | Id::ConfigRewrite
        | Id::ConfigHelp
        | Id::Info
        | Id::Time
        | Id::Shutdown
        | Id::SlowLog
        | Id::SlowLogGet
        | Id::SlowLogLen
        | Id::SlowLogReset
        | Id::SlowLogHelp
        | Id::Debug
        | Id::Memory
        | Id::MemoryHelp => Elsewhere,
    }
}
