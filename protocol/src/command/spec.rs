//! What a row of the command table says.

use super::id::CommandId;

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident($int:ty) { $($(#[$bit_doc:meta])* $bit:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name($int);

        bits!(@consts $name($int), 0, $($(#[$bit_doc])* $bit,)*);

        impl $name {
            /// No bit set.
            pub const NONE: Self = Self(0);
            /// Each bit with Redis's name for it, in the order in which Redis reports them.
            pub const NAMES: &'static [(Self, &'static str)] = &[$((Self::$bit, $text)),*];

            /// Both sets together.
            #[must_use]
            pub const fn or(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether every bit of `other` is set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Redis's names of the bits that are set.
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                Self::NAMES.iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| *name)
            }

            /// The bit of that name, in any case.
            #[must_use]
            pub fn named(name: &[u8]) -> Option<Self> {
                let same = |text: &str| text.as_bytes().eq_ignore_ascii_case(name);
                Self::NAMES.iter().find(|(_, text)| same(text)).map(|(bit, _)| *bit)
            }
        }
    };
    (@consts $name:ident($int:ty), $n:expr, $(#[$bit_doc:meta])* $bit:ident, $($rest:tt)*) => {
        impl $name {
            $(#[$bit_doc])*
            pub const $bit: Self = Self(1 << ($n));
        }
        bits!(@consts $name($int), $n + 1, $($rest)*);
    };
    (@consts $name:ident($int:ty), $n:expr,) => {};
}

bits! {
    /// Command flags, as COMMAND INFO names them.
    Flags(u32) {
        /// May change the data.
        WRITE = "write",
        /// Reads data and changes none.
        READONLY = "readonly",
        /// May need more memory: refused when it is full.
        DENYOOM = "denyoom",
        /// Administrative.
        ADMIN = "admin",
        /// Publish and subscribe.
        PUBSUB = "pubsub",
        /// Not for scripts.
        NOSCRIPT = "noscript",
        /// May wait.
        BLOCKING = "blocking",
        /// Allowed while loading.
        LOADING = "loading",
        /// Allowed on a stale replica.
        STALE = "stale",
        /// Not shown to MONITOR.
        SKIP_MONITOR = "skip_monitor",
        /// Not logged as slow.
        SKIP_SLOWLOG = "skip_slowlog",
        /// Constant or logarithmic time.
        FAST = "fast",
        /// Allowed before authentication.
        NO_AUTH = "no_auth",
        /// May replicate though not a write.
        MAY_REPLICATE = "may_replicate",
        /// Not within MULTI.
        NO_MULTI = "no_multi",
        /// Key positions depend on the arguments.
        MOVABLEKEYS = "movablekeys",
        /// Allowed while a script runs too long.
        ALLOW_BUSY = "allow_busy",
    }
}

bits! {
    /// ACL categories, as `ACL CAT` names them.
    Categories(u32) {
        /// On keys of any type and on databases.
        KEYSPACE = "keyspace",
        /// Reads keys.
        READ = "read",
        /// Writes keys.
        WRITE = "write",
        /// Sets.
        SET = "set",
        /// Sorted sets.
        SORTEDSET = "sortedset",
        /// Lists.
        LIST = "list",
        /// Hashes.
        HASH = "hash",
        /// Strings.
        STRING = "string",
        /// Bitmaps.
        BITMAP = "bitmap",
        /// HyperLogLogs.
        HYPERLOGLOG = "hyperloglog",
        /// Geospatial indexes.
        GEO = "geo",
        /// Streams.
        STREAM = "stream",
        /// Publish and subscribe.
        PUBSUB = "pubsub",
        /// Administrative.
        ADMIN = "admin",
        /// Fast commands.
        FAST = "fast",
        /// Commands that are not fast.
        SLOW = "slow",
        /// May wait.
        BLOCKING = "blocking",
        /// To be given with care.
        DANGEROUS = "dangerous",
        /// About the connection.
        CONNECTION = "connection",
        /// Transactions.
        TRANSACTION = "transaction",
        /// Scripts and functions.
        SCRIPTING = "scripting",
    }
}

bits! {
    /// What a command does with a key. Source: the key specifications page.
    KeyFlags(u16) {
        /// Reads the value.
        RO = "RO",
        /// Reads and changes the value.
        RW = "RW",
        /// Overwrites the value without reading it.
        OW = "OW",
        /// Removes the key.
        RM = "RM",
        /// Returns, copies or uses user data.
        ACCESS = "access",
        /// Changes user data.
        UPDATE = "update",
        /// Adds data without changing what is there.
        INSERT = "insert",
        /// Deletes data.
        DELETE = "delete",
        /// Not a key, though it is routed like one.
        NOT_KEY = "not_key",
        /// The specification may miss keys.
        INCOMPLETE = "incomplete",
        /// The flags depend on the arguments.
        VARIABLE_FLAGS = "variable_flags",
    }
}

/// Where the keys of a command start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument; the name is argument 0.
    Index(u16),
    /// After this word, looked for from an argument on (from the end when negative).
    Keyword {
        /// The word, in upper case.
        word: &'static str,
        /// Where the search starts.
        from: i16,
    },
    /// No specification can say; [`keys_of`](super::keys_of) knows those the arguments name.
    Unknown,
}

/// How many keys follow, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// From the first key to `last`.
    Range {
        /// Relative to the first key; from the end of the arguments when negative.
        last: i16,
        /// Arguments from one key to the next.
        step: u16,
        /// With `last` -1: only the first 1/limit of the arguments; 0 and 1 mean all.
        limit: u16,
    },
    /// An argument counts them.
    Count {
        /// Where the count stands, relative to where the keys start.
        count: u16,
        /// Where the first key stands, relative to the same place.
        first: u16,
        /// Arguments from one key to the next.
        step: u16,
    },
    /// As [`Begin::Unknown`].
    Unknown,
}

/// One group of keys among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What is done with the keys.
    pub flags: KeyFlags,
    /// Where they start.
    pub begin: Begin,
    /// Where they go on.
    pub find: Find,
    /// A remark for COMMAND INFO, or empty.
    pub notes: &'static str,
}

impl KeySpec {
    /// Keys from argument `first` to `first + last` (`last` negative: from the end), every `step`.
    #[must_use]
    pub const fn range(first: u16, last: i16, step: u16, flags: KeyFlags) -> Self {
        let find = Find::Range { last, step, limit: 0 };
        Self { flags, begin: Begin::Index(first), find, notes: "" }
    }

    /// Keys after the argument `count`, which says how many.
    #[must_use]
    pub const fn counted(count: u16, flags: KeyFlags) -> Self {
        let find = Find::Count { count: 0, first: 1, step: 1 };
        Self { flags, begin: Begin::Index(count), find, notes: "" }
    }

    /// Keys that no specification can name.
    #[must_use]
    pub const fn unknown(flags: KeyFlags) -> Self {
        Self { flags, begin: Begin::Unknown, find: Find::Unknown, notes: "" }
    }

    /// The same with a remark.
    #[must_use]
    pub const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = notes;
        self
    }
}

/// Who answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The engine, from what is there.
    Read,
    /// The engine, through the log.
    Write,
    /// The server: session, configuration, statistics.
    Server,
}

/// The usual shape of a command's reply; typed clients and documentation use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Depends on arguments or data.
    Any,
    /// A simple string such as OK.
    Simple,
    /// An integer.
    Integer,
    /// A bulk string, or null.
    Bulk,
    /// An array.
    Array,
    /// A map (RESP2: a flat array).
    Map,
    /// Text for people (RESP3: a verbatim string).
    Verbatim,
}

/// The chapter of the documentation a command stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Strings.
    String,
    /// Sorted sets.
    SortedSet,
    /// Keys of any type.
    Generic,
    /// Hashes.
    Hash,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Several commands as one.
    Transactions,
    /// The connection.
    Connection,
    /// The server.
    Server,
    /// Redis Cluster.
    Cluster,
    /// What only Cairn has.
    Cairn,
    /// Operations a node proposes to itself.
    Internal,
}

impl Group {
    /// Redis's name of the group.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::SortedSet => "sorted-set",
            Self::Generic => "generic",
            Self::Hash => "hash",
            Self::List => "list",
            Self::Set => "set",
            Self::Transactions => "transactions",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Cluster => "cluster",
            Self::Cairn => "cairn",
            Self::Internal => "internal",
        }
    }
}

/// What COMMAND DOCS says of a command.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// One sentence.
    pub summary: &'static str,
    /// The Redis version that brought it.
    pub since: &'static str,
    /// Its chapter.
    pub group: Group,
    /// Cost in O notation; empty for containers.
    pub complexity: &'static str,
    /// Since when it is deprecated and what replaces it.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Whether it is a command for the server's makers.
    pub syscmd: bool,
    /// Version and change.
    pub history: &'static [(&'static str, &'static str)],
    /// The arguments.
    pub args: &'static [Arg],
}

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgType {
    /// Any bytes.
    String,
    /// An integer.
    Integer,
    /// A floating point number.
    Double,
    /// A key.
    Key,
    /// A glob pattern.
    Pattern,
    /// A Unix time.
    UnixTime,
    /// A bare word.
    PureToken,
    /// One of several.
    OneOf,
    /// Several together.
    Block,
}

impl ArgType {
    /// Redis's name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Key => "key",
            Self::Pattern => "pattern",
            Self::UnixTime => "unix-time",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

/// An argument as COMMAND DOCS describes it.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ArgType,
    /// The row's key specification that covers it, or -1.
    pub key_spec: i16,
    /// The word that precedes it (or is it), or empty.
    pub token: &'static str,
    /// The version that brought it, or empty.
    pub since: &'static str,
    /// The version that deprecated it, or empty.
    pub deprecated_since: &'static str,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// The word is repeated too.
    pub multiple_token: bool,
    /// What it is made of.
    pub args: &'static [Arg],
}

impl Arg {
    /// A plain value.
    #[must_use]
    pub const fn value(name: &'static str, kind: ArgType) -> Self {
        Self {
            name,
            kind,
            key_spec: -1,
            token: "",
            since: "",
            deprecated_since: "",
            optional: false,
            multiple: false,
            multiple_token: false,
            args: &[],
        }
    }

    /// A key, covered by the row's key specification of that index.
    #[must_use]
    pub const fn key(name: &'static str, key_spec: i16) -> Self {
        Self::value(name, ArgType::Key).key_spec(key_spec)
    }

    /// Covered by the row's key specification of that index.
    #[must_use]
    pub const fn key_spec(mut self, key_spec: i16) -> Self {
        self.key_spec = key_spec;
        self
    }

    /// A bare word.
    #[must_use]
    pub const fn flag(name: &'static str, token: &'static str) -> Self {
        Self::value(name, ArgType::PureToken).token(token)
    }

    /// One of `args`.
    #[must_use]
    pub const fn one_of(name: &'static str, args: &'static [Arg]) -> Self {
        let mut arg = Self::value(name, ArgType::OneOf);
        arg.args = args;
        arg
    }

    /// All of `args`.
    #[must_use]
    pub const fn block(name: &'static str, args: &'static [Arg]) -> Self {
        let mut arg = Self::value(name, ArgType::Block);
        arg.args = args;
        arg
    }

    /// Preceded by this word.
    #[must_use]
    pub const fn token(mut self, token: &'static str) -> Self {
        self.token = token;
        self
    }

    /// Known since this version.
    #[must_use]
    pub const fn since(mut self, version: &'static str) -> Self {
        self.since = version;
        self
    }

    /// Deprecated since this version.
    #[must_use]
    pub const fn deprecated_since(mut self, version: &'static str) -> Self {
        self.deprecated_since = version;
        self
    }

    /// May be left out.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// May be repeated.
    #[must_use]
    pub const fn multiple(mut self) -> Self {
        self.multiple = true;
        self
    }

    /// May be repeated with its word.
    #[must_use]
    pub const fn multiple_token(mut self) -> Self {
        self.multiple_token = true;
        self
    }
}

/// A row: everything that is known of a command but what it does.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its number.
    pub id: CommandId,
    /// Its full name in lower case: `get`, `config|set`.
    pub name: &'static str,
    /// The container it is a subcommand of.
    pub parent: Option<CommandId>,
    /// Where the name without its container starts.
    short_from: u8,
    /// How many arguments, the name (and that of the container) included; negative: at least so many.
    pub arity: i16,
    /// Its flags; WRITE and READONLY follow from `place`.
    pub flags: Flags,
    /// Its ACL categories, implied ones included.
    pub categories: Categories,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// Hints to clients that spread commands over nodes.
    pub tips: &'static [&'static str],
    /// The usual shape of the reply.
    pub reply: Reply,
    /// Who answers it.
    pub place: Place,
    /// What COMMAND DOCS says.
    pub docs: Docs,
}

impl Spec {
    /// A row without flags, keys or words; the methods below add them.
    #[must_use]
    pub const fn new(id: CommandId, name: &'static str, arity: i16, place: Place) -> Self {
        let flags = match place {
            Place::Read => Flags::READONLY,
            Place::Write => Flags::WRITE,
            Place::Server => Flags::NONE,
        };
        let docs = Docs {
            summary: "",
            since: "",
            group: Group::Internal,
            complexity: "",
            deprecated: None,
            syscmd: false,
            history: &[],
            args: &[],
        };
        let spec = Self {
            id,
            name,
            parent: None,
            short_from: 0,
            arity,
            flags,
            categories: Categories::NONE,
            keys: &[],
            tips: &[],
            reply: Reply::Any,
            place,
            docs,
        };
        spec.with_implied_categories()
    }

    /// A subcommand of `parent`.
    #[must_use]
    pub const fn within(mut self, parent: CommandId) -> Self {
        self.parent = Some(parent);
        while self.name.as_bytes()[self.short_from as usize] != b'|' {
            self.short_from += 1;
        }
        self.short_from += 1;
        self
    }

    /// Adds flags.
    #[must_use]
    pub const fn flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.or(flags);
        self.with_implied_categories()
    }

    /// Adds ACL categories which the flags do not imply.
    #[must_use]
    pub const fn acl(mut self, categories: Categories) -> Self {
        self.categories = self.categories.or(categories);
        self
    }

    /// Where the keys are.
    #[must_use]
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.keys = keys;
        self
    }

    /// Hints to clients.
    #[must_use]
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }

    /// The usual shape of the reply.
    #[must_use]
    pub const fn reply(mut self, reply: Reply) -> Self {
        self.reply = reply;
        self
    }

    /// The chapter it stands in and the Redis version that brought it.
    #[must_use]
    pub const fn docs(mut self, group: Group, since: &'static str) -> Self {
        self.docs.group = group;
        self.docs.since = since;
        self
    }

    /// What it does, in one sentence.
    #[must_use]
    pub const fn summary(mut self, summary: &'static str) -> Self {
        self.docs.summary = summary;
        self
    }

    /// Its cost in O notation.
    #[must_use]
    pub const fn complexity(mut self, complexity: &'static str) -> Self {
        self.docs.complexity = complexity;
        self
    }

    /// Deprecated since a version, replaced by something.
    #[must_use]
    pub const fn deprecated(mut self, since: &'static str, by: &'static str) -> Self {
        self.docs.deprecated = Some((since, by));
        self
    }

    /// A command for the server's makers.
    #[must_use]
    pub const fn syscmd(mut self) -> Self {
        self.docs.syscmd = true;
        self
    }

    /// Versions and changes.
    #[must_use]
    pub const fn history(mut self, history: &'static [(&'static str, &'static str)]) -> Self {
        self.docs.history = history;
        self
    }

    /// The arguments.
    #[must_use]
    pub const fn args(mut self, args: &'static [Arg]) -> Self {
        self.docs.args = args;
        self
    }

    /// The categories that Redis derives from flags.
    const fn with_implied_categories(mut self) -> Self {
        let rules = [
            (Flags::WRITE, Categories::WRITE),
            (Flags::READONLY, Categories::READ),
            (Flags::ADMIN, Categories::ADMIN.or(Categories::DANGEROUS)),
            (Flags::PUBSUB, Categories::PUBSUB),
            (Flags::BLOCKING, Categories::BLOCKING),
        ];
        let mut i = 0;
        while i < rules.len() {
            if self.flags.contains(rules[i].0) {
                self.categories = self.categories.or(rules[i].1);
            }
            i += 1;
        }
        let speed = Categories::FAST.or(Categories::SLOW);
        self.categories = Categories(self.categories.0 & !speed.0);
        let fast = self.flags.contains(Flags::FAST);
        self.categories =
            self.categories.or(if fast { Categories::FAST } else { Categories::SLOW });
        self
    }

    /// The name without its container: `set` of `config|set`.
    #[must_use]
    #[inline]
    pub const fn short_name(&self) -> &'static str {
        self.name.split_at(self.short_from as usize).1
    }

    /// Whether it goes through the log.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self.place, Place::Write)
    }

    /// Whether only a node itself may propose it.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        matches!(self.docs.group, Group::Internal)
    }

    /// Whether a request of `count` arguments, name included, satisfies the arity.
    #[must_use]
    pub fn accepts(&self, count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 { count == wanted } else { count >= wanted }
    }
}
