//! The number of every command: what a replicated operation carries instead of a name.

macro_rules! command_ids {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// A command or subcommand.
        ///
        /// The numbers lie in logs on media and travel between nodes of different releases: they
        /// are never changed and never given to another command. Ranges: 1 strings, 100 keys,
        /// 200 hashes, 240 lists, 280 sets, 320 sorted sets, 400 transactions, 500 connection,
        /// 600 server, 700 Cairn's own, 65280 (0xff00) operations that only a node proposes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum CommandId {
            $($(#[$doc])* $name = $number,)*
        }

        impl CommandId {
            /// Every command, by rising number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The command of that number, if this build knows it.
            #[must_use]
            pub const fn from_u16(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

command_ids! {
    /// `GET`
    Get = 1,
    /// `SET`
    Set = 2,
    /// `GETDEL`
    GetDel = 3,
    /// `GETEX`
    GetEx = 4,
    /// `GETSET`
    GetSet = 5,
    /// `SETNX`
    SetNx = 6,
    /// `SETEX`
    SetEx = 7,
    /// `PSETEX`
    PSetEx = 8,
    /// `MGET`
    MGet = 9,
    /// `MSET`
    MSet = 10,
    /// `MSETNX`
    MSetNx = 11,
    /// `APPEND`
    Append = 12,
    /// `STRLEN`
    StrLen = 13,
    /// `INCR`
    Incr = 14,
    /// `DECR`
    Decr = 15,
    /// `INCRBY`
    IncrBy = 16,
    /// `DECRBY`
    DecrBy = 17,
    /// `INCRBYFLOAT`
    IncrByFloat = 18,
    /// `SETRANGE`
    SetRange = 19,
    /// `GETRANGE`
    GetRange = 20,
    /// `SUBSTR`
    SubStr = 21,
    /// `LCS`
    Lcs = 22,
    /// `DEL`
    Del = 100,
    /// `UNLINK`
    Unlink = 101,
    /// `EXISTS`
    Exists = 102,
    /// `TYPE`
    Type = 103,
    /// `TTL`
    Ttl = 104,
    /// `PTTL`
    PTtl = 105,
    /// `EXPIRE`
    Expire = 106,
    /// `PEXPIRE`
    PExpire = 107,
    /// `EXPIREAT`
    ExpireAt = 108,
    /// `PEXPIREAT`
    PExpireAt = 109,
    /// `EXPIRETIME`
    ExpireTime = 110,
    /// `PEXPIRETIME`
    PExpireTime = 111,
    /// `PERSIST`
    Persist = 112,
    /// `RENAME`
    Rename = 113,
    /// `RENAMENX`
    RenameNx = 114,
    /// `COPY`
    Copy = 115,
    /// `TOUCH`
    Touch = 116,
    /// `KEYS`
    Keys = 117,
    /// `SCAN`
    Scan = 118,
    /// `RANDOMKEY`
    RandomKey = 119,
    /// `DBSIZE`
    DbSize = 120,
    /// `FLUSHDB`
    FlushDb = 121,
    /// `FLUSHALL`
    FlushAll = 122,
    /// `SELECT`
    Select = 123,
    /// `SWAPDB`
    SwapDb = 124,
    /// `MOVE`
    Move = 125,
    /// `OBJECT`
    Object = 126,
    /// `OBJECT ENCODING`
    ObjectEncoding = 127,
    /// `OBJECT FREQ`
    ObjectFreq = 128,
    /// `OBJECT HELP`
    ObjectHelp = 129,
    /// `OBJECT IDLETIME`
    ObjectIdleTime = 130,
    /// `OBJECT REFCOUNT`
    ObjectRefCount = 131,
    /// `WAIT`
    Wait = 132,
    /// `WAITAOF`
    WaitAof = 133,
    /// `HSET`
    HSet = 200,
    /// `HSETNX`
    HSetNx = 201,
    /// `HGET`
    HGet = 202,
    /// `HMGET`
    HMGet = 203,
    /// `HMSET`
    HMSet = 204,
    /// `HGETALL`
    HGetAll = 205,
    /// `HDEL`
    HDel = 206,
    /// `HLEN`
    HLen = 207,
    /// `HEXISTS`
    HExists = 208,
    /// `HKEYS`
    HKeys = 209,
    /// `HVALS`
    HVals = 210,
    /// `HINCRBY`
    HIncrBy = 211,
    /// `HINCRBYFLOAT`
    HIncrByFloat = 212,
    /// `HSTRLEN`
    HStrLen = 213,
    /// `HSCAN`
    HScan = 214,
    /// `HRANDFIELD`
    HRandField = 215,
    /// `LPUSH`
    LPush = 240,
    /// `RPUSH`
    RPush = 241,
    /// `LPUSHX`
    LPushX = 242,
    /// `RPUSHX`
    RPushX = 243,
    /// `LPOP`
    LPop = 244,
    /// `RPOP`
    RPop = 245,
    /// `LMPOP`
    LMPop = 246,
    /// `LLEN`
    LLen = 247,
    /// `LINDEX`
    LIndex = 248,
    /// `LSET`
    LSet = 249,
    /// `LRANGE`
    LRange = 250,
    /// `LTRIM`
    LTrim = 251,
    /// `LINSERT`
    LInsert = 252,
    /// `LREM`
    LRem = 253,
    /// `LPOS`
    LPos = 254,
    /// `LMOVE`
    LMove = 255,
    /// `RPOPLPUSH`
    RPopLPush = 256,
    /// `SADD`
    SAdd = 280,
    /// `SREM`
    SRem = 281,
    /// `SISMEMBER`
    SIsMember = 282,
    /// `SMISMEMBER`
    SMIsMember = 283,
    /// `SCARD`
    SCard = 284,
    /// `SMEMBERS`
    SMembers = 285,
    /// `SPOP`
    SPop = 286,
    /// `SRANDMEMBER`
    SRandMember = 287,
    /// `SMOVE`
    SMove = 288,
    /// `SINTER`
    SInter = 289,
    /// `SINTERCARD`
    SInterCard = 290,
    /// `SINTERSTORE`
    SInterStore = 291,
    /// `SUNION`
    SUnion = 292,
    /// `SUNIONSTORE`
    SUnionStore = 293,
    /// `SDIFF`
    SDiff = 294,
    /// `SDIFFSTORE`
    SDiffStore = 295,
    /// `SSCAN`
    SScan = 296,
    /// `ZADD`
    ZAdd = 320,
    /// `ZINCRBY`
    ZIncrBy = 321,
    /// `ZREM`
    ZRem = 322,
    /// `ZSCORE`
    ZScore = 323,
    /// `ZMSCORE`
    ZMScore = 324,
    /// `ZCARD`
    ZCard = 325,
    /// `ZCOUNT`
    ZCount = 326,
    /// `ZLEXCOUNT`
    ZLexCount = 327,
    /// `ZRANK`
    ZRank = 328,
    /// `ZREVRANK`
    ZRevRank = 329,
    /// `ZRANGE`
    ZRange = 330,
    /// `ZRANGESTORE`
    ZRangeStore = 331,
    /// `ZREVRANGE`
    ZRevRange = 332,
    /// `ZRANGEBYSCORE`
    ZRangeByScore = 333,
    /// `ZREVRANGEBYSCORE`
    ZRevRangeByScore = 334,
    /// `ZRANGEBYLEX`
    ZRangeByLex = 335,
    /// `ZREVRANGEBYLEX`
    ZRevRangeByLex = 336,
    /// `ZREMRANGEBYRANK`
    ZRemRangeByRank = 337,
    /// `ZREMRANGEBYSCORE`
    ZRemRangeByScore = 338,
    /// `ZREMRANGEBYLEX`
    ZRemRangeByLex = 339,
    /// `ZPOPMIN`
    ZPopMin = 340,
    /// `ZPOPMAX`
    ZPopMax = 341,
    /// `ZMPOP`
    ZMPop = 342,
    /// `ZUNION`
    ZUnion = 343,
    /// `ZINTER`
    ZInter = 344,
    /// `ZDIFF`
    ZDiff = 345,
    /// `ZUNIONSTORE`
    ZUnionStore = 346,
    /// `ZINTERSTORE`
    ZInterStore = 347,
    /// `ZDIFFSTORE`
    ZDiffStore = 348,
    /// `ZINTERCARD`
    ZInterCard = 349,
    /// `ZRANDMEMBER`
    ZRandMember = 350,
    /// `ZSCAN`
    ZScan = 351,
    /// `MULTI`
    Multi = 400,
    /// `EXEC`
    Exec = 401,
    /// `DISCARD`
    Discard = 402,
    /// `WATCH`
    Watch = 403,
    /// `UNWATCH`
    Unwatch = 404,
    /// `SORT`
    Sort = 405,
    /// `SORT_RO`
    SortRo = 406,
    /// `HELLO`
    Hello = 500,
    /// `AUTH`
    Auth = 501,
    /// `CLIENT`
    Client = 502,
    /// `CLIENT ID`
    ClientId = 503,
    /// `CLIENT INFO`
    ClientInfo = 504,
    /// `CLIENT LIST`
    ClientList = 505,
    /// `CLIENT GETNAME`
    ClientGetName = 506,
    /// `CLIENT SETNAME`
    ClientSetName = 507,
    /// `CLIENT SETINFO`
    ClientSetInfo = 508,
    /// `CLIENT KILL`
    ClientKill = 509,
    /// `CLIENT NO-EVICT`
    ClientNoEvict = 510,
    /// `CLIENT NO-TOUCH`
    ClientNoTouch = 511,
    /// `CLIENT REPLY`
    ClientReply = 512,
    /// `CLIENT HELP`
    ClientHelp = 513,
    /// `PING`
    Ping = 514,
    /// `ECHO`
    Echo = 515,
    /// `QUIT`
    Quit = 516,
    /// `RESET`
    Reset = 517,
    /// `COMMAND`
    Command = 600,
    /// `COMMAND COUNT`
    CommandCount = 601,
    /// `COMMAND DOCS`
    CommandDocs = 602,
    /// `COMMAND GETKEYS`
    CommandGetKeys = 603,
    /// `COMMAND GETKEYSANDFLAGS`
    CommandGetKeysAndFlags = 604,
    /// `COMMAND INFO`
    CommandInfo = 605,
    /// `COMMAND LIST`
    CommandList = 606,
    /// `COMMAND HELP`
    CommandHelp = 607,
    /// `CONFIG`
    Config = 608,
    /// `CONFIG GET`
    ConfigGet = 609,
    /// `CONFIG SET`
    ConfigSet = 610,
    /// `CONFIG RESETSTAT`
    ConfigResetStat = 611,
    /// `CONFIG REWRITE`
    ConfigRewrite = 612,
    /// `CONFIG HELP`
    ConfigHelp = 613,
    /// `INFO`
    Info = 614,
    /// `TIME`
    Time = 615,
    /// `SHUTDOWN`
    Shutdown = 616,
    /// `SLOWLOG`
    SlowLog = 617,
    /// `SLOWLOG GET`
    SlowLogGet = 618,
    /// `SLOWLOG LEN`
    SlowLogLen = 619,
    /// `SLOWLOG RESET`
    SlowLogReset = 620,
    /// `SLOWLOG HELP`
    SlowLogHelp = 621,
    /// `DEBUG`
    Debug = 622,
    /// `MEMORY`
    Memory = 623,
    /// `MEMORY USAGE`
    MemoryUsage = 624,
    /// `MEMORY HELP`
    MemoryHelp = 625,
    /// `ROLE`
    Role = 626,
    /// `READONLY`
    ReadOnly = 627,
    /// `READWRITE`
    ReadWrite = 628,
    /// `CAIRN.SNAPSHOT`
    Snapshot = 700,
    /// `CAIRN.SNAPSHOT CREATE`
    SnapshotCreate = 701,
    /// `CAIRN.SNAPSHOT DROP`
    SnapshotDrop = 702,
    /// `CAIRN.SNAPSHOT ROLLBACK`
    SnapshotRollback = 703,
    /// `CAIRN.SNAPSHOT LIST`
    SnapshotList = 704,
    /// `CAIRN.SNAPSHOT INFO`
    SnapshotInfo = 705,
    /// `CAIRN.SNAPSHOT HELP`
    SnapshotHelp = 706,
    /// `CAIRN.RAFT`
    Raft = 710,
    /// `CAIRN.RAFT STATUS`
    RaftStatus = 711,
    /// `CAIRN.RAFT HELP`
    RaftHelp = 712,
    /// `CAIRN.RAFT REMOVE`
    RaftRemove = 713,

    /// A piece of a large argument, kept until the operation that names it: id, offset, bytes
    InternalStage = 65280,
    /// Deletes keys whose deadline has passed
    InternalReclaim = 65281,
    /// Drops staged arguments that no operation named
    InternalDropStages = 65282,
    /// The operations of a transaction, as one
    InternalExec = 65283,
    /// Changes when encodings change: number, value, ...
    InternalLimits = 65284,
    /// Changes how much memory the shard may take: bytes
    InternalMemory = 65285,
    /// Deletes the named keys, to make room: whether only those with a deadline, key ...
    InternalEvict = 65286,
    /// Has operations of the same entry answered `OOM`: their numbers in it
    InternalDeny = 65287,
    /// Deletes the named keys whose deadline has passed: key ...
    InternalExpire = 65288,
}

impl CommandId {
    /// The number that stands for the command on media and on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}
