//! Rows of the list commands.

use crate::command::id::CommandId as Id;
use crate::command::spec::{
    Arg, ArgType, Categories, Flags, Group, KeyFlags, KeySpec, Place, Reply, Spec,
};

pub(super) const ROWS: &[Spec] = &[
    Spec::new(Id::LPush, "lpush", -3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::List, "1.0.0")
        .summary(
            "Prepends one or more elements to a list. Creates the key if it doesn't \
             exist.",
        )
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
             is called with multiple arguments.",
        )
        .history(&[("2.4.0", "Accepts multiple `element` arguments.")])
        .args(&[Arg::key("key", 0), Arg::value("element", ArgType::String).multiple()]),
    Spec::new(Id::RPush, "rpush", -3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::List, "1.0.0")
        .summary(
            "Appends one or more elements to a list. Creates the key if it doesn't \
             exist.",
        )
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
             is called with multiple arguments.",
        )
        .history(&[("2.4.0", "Accepts multiple `element` arguments.")])
        .args(&[Arg::key("key", 0), Arg::value("element", ArgType::String).multiple()]),
    Spec::new(Id::LPushX, "lpushx", -3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::List, "2.2.0")
        .summary("Prepends one or more elements to a list only when the list exists.")
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
             is called with multiple arguments.",
        )
        .history(&[("4.0.0", "Accepts multiple `element` arguments.")])
        .args(&[Arg::key("key", 0), Arg::value("element", ArgType::String).multiple()]),
    Spec::new(Id::RPushX, "rpushx", -3, Place::Write)
        .flags(Flags::DENYOOM.or(Flags::FAST))
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::List, "2.2.0")
        .summary("Appends an element to a list only when the list exists.")
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
             is called with multiple arguments.",
        )
        .history(&[("4.0.0", "Accepts multiple `element` arguments.")])
        .args(&[Arg::key("key", 0), Arg::value("element", ArgType::String).multiple()]),
    Spec::new(Id::LPop, "lpop", -2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
        .docs(Group::List, "1.0.0")
        .summary(
            "Returns the first elements in a list after removing it. Deletes the list \
             if the last element was popped.",
        )
        .complexity("O(N) where N is the number of elements returned")
        .history(&[("6.2.0", "Added the `count` argument.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("count", ArgType::Integer).since("6.2.0").optional(),
        ]),
    Spec::new(Id::RPop, "rpop", -2, Place::Write)
        .flags(Flags::FAST)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
        .docs(Group::List, "1.0.0")
        .summary(
            "Returns and removes the last elements of a list. Deletes the list if the \
             last element was popped.",
        )
        .complexity("O(N) where N is the number of elements returned")
        .history(&[("6.2.0", "Added the `count` argument.")])
        .args(&[
            Arg::key("key", 0),
            Arg::value("count", ArgType::Integer).since("6.2.0").optional(),
        ]),
    Spec::new(Id::LMPop, "lmpop", -4, Place::Write)
        .flags(Flags::MOVABLEKEYS)
        .acl(Categories::LIST)
        .keys(&[KeySpec::counted(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
        .reply(Reply::Array)
        .docs(Group::List, "7.0.0")
        .summary(
            "Returns multiple elements from a list after removing them. Deletes the \
             list if the last element was popped.",
        )
        .complexity(
            "O(N+M) where N is the number of provided keys and M is the number of \
             elements returned.",
        )
        .args(&[
            Arg::value("numkeys", ArgType::Integer),
            Arg::key("key", 0).multiple(),
            Arg::one_of("where", &[Arg::flag("left", "LEFT"), Arg::flag("right", "RIGHT")]),
            Arg::value("count", ArgType::Integer).token("COUNT").optional(),
        ]),
    Spec::new(Id::LLen, "llen", 2, Place::Read)
        .flags(Flags::FAST)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO)])
        .reply(Reply::Integer)
        .docs(Group::List, "1.0.0")
        .summary("Returns the length of a list.")
        .complexity("O(1)")
        .args(&[Arg::key("key", 0)]),
    Spec::new(Id::LIndex, "lindex", 3, Place::Read)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Bulk)
        .docs(Group::List, "1.0.0")
        .summary("Returns an element from a list by its index.")
        .complexity(
            "O(N) where N is the number of elements to traverse to get to the element \
             at index. This makes asking for the first or the last element of the \
             list O(1).",
        )
        .args(&[Arg::key("key", 0), Arg::value("index", ArgType::Integer)]),
    Spec::new(Id::LSet, "lset", 4, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::UPDATE))])
        .reply(Reply::Simple)
        .docs(Group::List, "1.0.0")
        .summary("Sets the value of an element in a list by its index.")
        .complexity(
            "O(N) where N is the length of the list. Setting either the first or the \
             last element of the list is O(1).",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::value("index", ArgType::Integer),
            Arg::value("element", ArgType::String),
        ]),
    Spec::new(Id::LRange, "lrange", 4, Place::Read)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .reply(Reply::Array)
        .docs(Group::List, "1.0.0")
        .summary("Returns a range of elements from a list.")
        .complexity(
            "O(S+N) where S is the distance of start offset from HEAD for small \
             lists, from nearest end (HEAD or TAIL) for large lists; and N is the \
             number of elements in the specified range.",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::value("start", ArgType::Integer),
            Arg::value("stop", ArgType::Integer),
        ]),
    Spec::new(Id::LTrim, "ltrim", 4, Place::Write)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::DELETE))])
        .reply(Reply::Simple)
        .docs(Group::List, "1.0.0")
        .summary(
            "Removes elements from both ends a list. Deletes the list if all elements \
             were trimmed.",
        )
        .complexity("O(N) where N is the number of elements to be removed by the operation.")
        .args(&[
            Arg::key("key", 0),
            Arg::value("start", ArgType::Integer),
            Arg::value("stop", ArgType::Integer),
        ]),
    Spec::new(Id::LInsert, "linsert", 5, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT))])
        .reply(Reply::Integer)
        .docs(Group::List, "2.2.0")
        .summary("Inserts an element before or after another element in a list.")
        .complexity(
            "O(N) where N is the number of elements to traverse before seeing the \
             value pivot. This means that inserting somewhere on the left end on the \
             list (head) can be considered O(1) and inserting somewhere on the right \
             end (tail) is O(N).",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::one_of("where", &[Arg::flag("before", "BEFORE"), Arg::flag("after", "AFTER")]),
            Arg::value("pivot", ArgType::String),
            Arg::value("element", ArgType::String),
        ]),
    Spec::new(Id::LRem, "lrem", 4, Place::Write)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::DELETE))])
        .reply(Reply::Integer)
        .docs(Group::List, "1.0.0")
        .summary(
            "Removes elements from a list. Deletes the list if the last element was \
             removed.",
        )
        .complexity(
            "O(N+M) where N is the length of the list and M is the number of elements \
             removed.",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::value("count", ArgType::Integer),
            Arg::value("element", ArgType::String),
        ]),
    Spec::new(Id::LPos, "lpos", -3, Place::Read)
        .acl(Categories::LIST)
        .keys(&[KeySpec::range(1, 0, 1, KeyFlags::RO.or(KeyFlags::ACCESS))])
        .docs(Group::List, "6.0.6")
        .summary("Returns the index of matching elements in a list.")
        .complexity(
            "O(N) where N is the number of elements in the list, for the average \
             case. When searching for elements near the head or the tail of the list, \
             or when the MAXLEN option is provided, the command may run in constant \
             time.",
        )
        .args(&[
            Arg::key("key", 0),
            Arg::value("element", ArgType::String),
            Arg::value("rank", ArgType::Integer).token("RANK").optional(),
            Arg::value("num-matches", ArgType::Integer).token("COUNT").optional(),
            Arg::value("len", ArgType::Integer).token("MAXLEN").optional(),
        ]),
    Spec::new(Id::LMove, "lmove", 5, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::LIST)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
            KeySpec::range(2, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT)),
        ])
        .reply(Reply::Bulk)
        .docs(Group::List, "6.2.0")
        .summary(
            "Returns an element after popping it from one list and pushing it to \
             another. Deletes the list if the last element was moved.",
        )
        .complexity("O(1)")
        .args(&[
            Arg::key("source", 0),
            Arg::key("destination", 1),
            Arg::one_of("wherefrom", &[Arg::flag("left", "LEFT"), Arg::flag("right", "RIGHT")]),
            Arg::one_of("whereto", &[Arg::flag("left", "LEFT"), Arg::flag("right", "RIGHT")]),
        ]),
    Spec::new(Id::RPopLPush, "rpoplpush", 3, Place::Write)
        .flags(Flags::DENYOOM)
        .acl(Categories::LIST)
        .keys(&[
            KeySpec::range(1, 0, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
            KeySpec::range(2, 0, 1, KeyFlags::RW.or(KeyFlags::INSERT)),
        ])
        .reply(Reply::Bulk)
        .docs(Group::List, "1.2.0")
        .summary(
            "Returns the last element of a list after removing and pushing it to \
             another list. Deletes the list if the last element was popped.",
        )
        .complexity("O(1)")
        .deprecated("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")
        .args(&[Arg::key("source", 0), Arg::key("destination", 1)]),
];
