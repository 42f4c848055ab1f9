//! Answers COMMAND and its subcommands from the table.
//!
//! Source: the COMMAND, COMMAND INFO, COMMAND DOCS, COMMAND GETKEYS and COMMAND LIST pages.

use super::id::CommandId;
use super::keys::{first_last_step, keys_and_flags};
use super::lookup::{lookup_full, lookup_subcommand};
use super::spec::{Arg, Begin, Categories, Find, KeySpec, Spec};
use super::table::TABLE;
use super::{Args, help, lookup};
use crate::error::WireError;
use crate::glob;
use crate::resp::{Argv, Writer};

/// Answers the request `argv`, whose row is `id`: COMMAND or one of its subcommands.
///
/// # Errors
/// Syntax errors, and what GETKEYS makes of the request it is given.
pub fn answer(id: CommandId, argv: Argv<'_>, out: &mut Writer<'_>) -> Result<(), WireError> {
    match id {
        CommandId::CommandCount => out.int(top_level().count() as i64),
        CommandId::CommandInfo => info(argv.slice_from(2), out),
        CommandId::CommandDocs => docs(argv.slice_from(2), out),
        CommandId::CommandList => return list(argv, out),
        CommandId::CommandGetKeys => return keys(argv.slice_from(2), false, out),
        CommandId::CommandGetKeysAndFlags => return keys(argv.slice_from(2), true, out),
        CommandId::CommandHelp => help::answer(CommandId::Command, out),
        _ => info(Argv::EMPTY, out),
    }
    Ok(())
}

fn top_level() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().filter(|spec| spec.parent.is_none() && !spec.is_internal())
}

fn subcommands(spec: &Spec) -> impl Iterator<Item = &'static Spec> + Clone + use<> {
    let parent = Some(spec.id);
    TABLE.iter().filter(move |sub| sub.parent == parent)
}

/// COMMAND INFO: the named commands, or all of them when none is named.
fn info(names: Argv<'_>, out: &mut Writer<'_>) {
    if names.is_empty() {
        out.array(top_level().count());
        return top_level().for_each(|spec| row(spec, out));
    }
    out.array(names.len());
    for name in names.iter() {
        match lookup_full(name) {
            Some(spec) => row(spec, out),
            None => out.null_array(),
        }
    }
}

/// One row as COMMAND INFO shows it.
fn row(spec: &'static Spec, out: &mut Writer<'_>) {
    let (first, last, step) = first_last_step(spec.keys);
    out.array(10);
    out.bulk(spec.name.as_bytes());
    out.int(spec.arity.into());
    names(spec.flags.names(), "", out);
    out.int(first);
    out.int(last);
    out.int(step);
    names(spec.categories.names(), "@", out);
    out.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| out.bulk(tip.as_bytes()));
    out.set(spec.keys.len());
    spec.keys.iter().for_each(|keys| key_spec(keys, out));
    match subcommands(spec).count() {
        0 => out.set(0),
        count => out.array(count),
    }
    subcommands(spec).for_each(|sub| row(sub, out));
}

/// A set of status words.
fn names(names: impl Iterator<Item = &'static str> + Clone, prefix: &str, out: &mut Writer<'_>) {
    out.set(names.clone().count());
    for name in names {
        out.simple(&format!("{prefix}{name}"));
    }
}

fn key_spec(keys: &KeySpec, out: &mut Writer<'_>) {
    out.map(if keys.notes.is_empty() { 3 } else { 4 });
    if !keys.notes.is_empty() {
        field("notes", keys.notes, out);
    }
    out.bulk(b"flags");
    names(keys.flags.names(), "", out);
    out.bulk(b"begin_search");
    match keys.begin {
        Begin::Index(index) => typed_spec("index", &[("index", index.into())], out),
        Begin::Keyword { word, from } => {
            typed_spec_head("keyword", 2, out);
            field("keyword", word, out);
            out.bulk(b"startfrom");
            out.int(from.into());
        }
        Begin::Unknown => typed_spec("unknown", &[], out),
    }
    out.bulk(b"find_keys");
    match keys.find {
        Find::Range { last, step, limit } => {
            let fields =
                [("lastkey", last.into()), ("keystep", step.into()), ("limit", limit.into())];
            typed_spec("range", &fields, out);
        }
        Find::Count { count, first, step } => {
            let fields =
                [("keynumidx", count.into()), ("firstkey", first.into()), ("keystep", step.into())];
            typed_spec("keynum", &fields, out);
        }
        Find::Unknown => typed_spec("unknown", &[], out),
    }
}

fn typed_spec(kind: &str, fields: &[(&str, i64)], out: &mut Writer<'_>) {
    typed_spec_head(kind, fields.len(), out);
    for (name, value) in fields {
        out.bulk(name.as_bytes());
        out.int(*value);
    }
}

fn typed_spec_head(kind: &str, fields: usize, out: &mut Writer<'_>) {
    out.map(2);
    field("type", kind, out);
    out.bulk(b"spec");
    out.map(fields);
}

fn field(name: &str, text: &str, out: &mut Writer<'_>) {
    out.bulk(name.as_bytes());
    out.bulk(text.as_bytes());
}

/// COMMAND DOCS: the named commands that exist, or all of them when none is named.
fn docs(names: Argv<'_>, out: &mut Writer<'_>) {
    let specs: Vec<&Spec> = if names.is_empty() {
        top_level().collect()
    } else {
        names.iter().filter_map(lookup_full).collect()
    };
    out.map(specs.len());
    specs.into_iter().for_each(|spec| named_docs(spec, out));
}

fn named_docs(spec: &Spec, out: &mut Writer<'_>) {
    out.bulk(spec.name.as_bytes());
    let docs = &spec.docs;
    let subs = subcommands(spec).count();
    let flags = [(docs.deprecated.is_some(), "deprecated"), (docs.syscmd, "syscmd")];
    let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name);
    let fields = [
        !docs.complexity.is_empty(),
        flags.clone().count() > 0,
        docs.deprecated.is_some(),
        docs.deprecated.is_some(),
        !docs.history.is_empty(),
        !docs.args.is_empty(),
        subs > 0,
    ];
    out.map(3 + fields.into_iter().filter(|present| *present).count());
    field("summary", docs.summary, out);
    field("since", docs.since, out);
    field("group", docs.group.name(), out);
    if !docs.complexity.is_empty() {
        field("complexity", docs.complexity, out);
    }
    if flags.clone().count() > 0 {
        out.bulk(b"doc_flags");
        names(flags, "", out);
    }
    if let Some((since, by)) = docs.deprecated {
        field("deprecated_since", since, out);
        field("replaced_by", by, out);
    }
    if !docs.history.is_empty() {
        history(docs.history, out);
    }
    if !docs.args.is_empty() {
        arguments(docs.args, out);
    }
    if subs > 0 {
        out.bulk(b"subcommands");
        out.map(subs);
        subcommands(spec).for_each(|sub| named_docs(sub, out));
    }
}

fn history(changes: &[(&str, &str)], out: &mut Writer<'_>) {
    out.bulk(b"history");
    out.set(changes.len());
    for (version, change) in changes {
        out.array(2);
        out.bulk(version.as_bytes());
        out.bulk(change.as_bytes());
    }
}

fn arguments(args: &[Arg], out: &mut Writer<'_>) {
    out.bulk(b"arguments");
    out.array(args.len());
    args.iter().for_each(|arg| argument(arg, out));
}

/// One argument. Depth is that of the table, not of anything received.
fn argument(arg: &Arg, out: &mut Writer<'_>) {
    let flags = [
        (arg.optional, "optional"),
        (arg.multiple, "multiple"),
        (arg.multiple_token, "multiple_token"),
    ];
    let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name);
    // Redis 7.2 shows every argument that is not made of others under a name for people.
    let display = if arg.args.is_empty() { arg.name } else { "" };
    let texts = [
        ("display_text", display),
        ("token", arg.token),
        ("since", arg.since),
        ("deprecated_since", arg.deprecated_since),
    ];
    let fields = texts.iter().filter(|(_, text)| !text.is_empty()).count()
        + usize::from(arg.key_spec >= 0)
        + usize::from(flags.clone().count() > 0)
        + usize::from(!arg.args.is_empty());
    out.map(2 + fields);
    field("name", arg.name, out);
    field("type", arg.kind.name(), out);
    for (i, (name, text)) in texts.into_iter().enumerate() {
        if i == 1 && arg.key_spec >= 0 {
            out.bulk(b"key_spec_index");
            out.int(arg.key_spec.into());
        }
        if !text.is_empty() {
            field(name, text, out);
        }
    }
    if flags.clone().count() > 0 {
        out.bulk(b"flags");
        names(flags, "", out);
    }
    if !arg.args.is_empty() {
        arguments(arg.args, out);
    }
}

/// COMMAND LIST, all or filtered.
fn list(argv: Argv<'_>, out: &mut Writer<'_>) -> Result<(), WireError> {
    let mut args = Args::new(argv, 2);
    let mut wanted: Filter<'_> = Box::new(|_| true);
    if !args.is_empty() {
        if args.left() != 3 || !args.keyword("FILTERBY") {
            return Err(WireError::Syntax);
        }
        wanted = filter(args.take()?, args.take()?)?;
    }
    let found: Vec<_> = TABLE.iter().filter(|s| !s.is_internal() && wanted(s)).collect();
    out.array(found.len());
    found.into_iter().for_each(|spec| out.bulk(spec.name.as_bytes()));
    Ok(())
}

/// Which commands a list holds.
type Filter<'a> = Box<dyn Fn(&Spec) -> bool + 'a>;

fn filter<'a>(by: &[u8], value: &'a [u8]) -> Result<Filter<'a>, WireError> {
    if by.eq_ignore_ascii_case(b"PATTERN") {
        return Ok(Box::new(|spec| glob::matches(value, spec.name.as_bytes(), true)));
    }
    if by.eq_ignore_ascii_case(b"ACLCAT") {
        let category = Categories::named(value);
        return Ok(Box::new(move |spec| category.is_some_and(|c| spec.categories.contains(c))));
    }
    if by.eq_ignore_ascii_case(b"MODULE") {
        return Ok(Box::new(|_| false));
    }
    Err(WireError::Syntax)
}

/// COMMAND GETKEYS and GETKEYSANDFLAGS of a whole request.
fn keys(request: Argv<'_>, with_flags: bool, out: &mut Writer<'_>) -> Result<(), WireError> {
    let spec = find(request).ok_or(WireError::Static("ERR Invalid command specified"))?;
    if spec.keys.is_empty() {
        return Err(WireError::Static("ERR The command has no key arguments"));
    }
    if !spec.accepts(request.len()) {
        return Err(WireError::Static("ERR Invalid number of arguments specified for command"));
    }
    let found: Vec<_> = keys_and_flags(spec, request).collect();
    if found.is_empty() {
        return Err(WireError::Static("ERR Invalid arguments specified for command"));
    }
    out.array(found.len());
    for (position, flags) in found {
        if with_flags {
            out.array(2);
        }
        out.bulk(&request[position]);
        if with_flags {
            names(flags.names(), "", out);
        }
    }
    Ok(())
}

/// The row of a request, whatever its arity.
fn find(request: Argv<'_>) -> Option<&'static Spec> {
    let spec = lookup(request.get(0)?)?;
    match request.get(1) {
        Some(sub) if subcommands(spec).next().is_some() => lookup_subcommand(spec.id, sub),
        _ => Some(spec),
    }
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::*;
    use crate::resp::{Limits, Proto, Value, ValueDecoder};

    fn ask(words: &[&str]) -> Result<Value, String> {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let argv = Argv::from(&args[..]);
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes, Proto::Resp3);
        let spec = resolve(argv).map_err(|e| e.text().into_owned())?;
        answer(spec.id, argv, &mut out).map_err(|e| e.text().into_owned())?;
        let (taken, value) = ValueDecoder::new(Limits::default()).decode(&bytes).unwrap();
        assert_eq!(taken, bytes.len(), "exactly one reply");
        Ok(value.unwrap())
    }

    fn strings(value: Value) -> Vec<String> {
        let Value::Array(items) = value else { panic!("{value:?}") };
        let text = |item: &Value| String::from_utf8_lossy(item.as_bytes().unwrap()).into_owned();
        items.iter().map(text).collect()
    }

    #[test]
    fn every_form_is_one_well_formed_reply() {
        for words in [
            &["command"][..],
            &["command", "count"],
            &["command", "info"],
            &["command", "info", "get", "nosuch", "config|get"],
            &["command", "docs"],
            &["command", "docs", "set", "nosuch", "client"],
            &["command", "list"],
            &["command", "help"],
        ] {
            ask(words).unwrap();
        }
    }

    #[test]
    fn info_names_what_is_there_and_null_for_the_rest() {
        let Ok(Value::Array(items)) = ask(&["command", "info", "get", "nosuch"]) else { panic!() };
        assert!(
            matches!(&items[0], Value::Array(row) if row[1] == Value::Int(2) && row.len() == 10)
        );
        assert_eq!(items[1], Value::Null);
        let Ok(Value::Map(found)) = ask(&["command", "docs", "nosuch"]) else { panic!() };
        assert!(found.is_empty());
    }

    #[test]
    fn lists_are_filtered() {
        let ask = |words: &[&str]| strings(ask(words).unwrap());
        let found = ask(&["command", "list", "filterby", "pattern", "SET*"]);
        assert_eq!(found, ["set", "setnx", "setex", "setrange"]);
        let found = ask(&["command", "list", "filterby", "aclcat", "transaction"]);
        assert_eq!(found, ["multi", "exec", "discard", "watch", "unwatch"]);
        let found = ask(&["command", "list", "filterby", "aclcat", "string"]);
        assert_eq!(found.len(), 22);
        assert!(ask(&["command", "list"]).contains(&"config|get".to_owned()));
        assert!(!ask(&["command", "list"]).contains(&"_stage".to_owned()));
    }

    #[test]
    fn keys_are_extracted_as_redis_does() {
        let getkeys = |words: &str| {
            let words: Vec<&str> =
                ["command", "getkeys"].into_iter().chain(words.split(' ')).collect();
            ask(&words).map(strings)
        };
        assert_eq!(getkeys("mset a b c d"), Ok(vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(getkeys("object encoding a"), Ok(vec!["a".to_owned()]));
        let rows = [
            ("nosuch a", "ERR Invalid command specified"),
            ("memory x y", "ERR Invalid command specified"),
            ("ping a", "ERR The command has no key arguments"),
            ("set x", "ERR Invalid number of arguments specified for command"),
        ];
        for (words, wanted) in rows {
            assert_eq!(getkeys(words), Err(wanted.to_owned()), "{words}");
        }
        let short = ask(&["command", "getkeys", "get"]);
        assert_eq!(
            short,
            Err("ERR wrong number of arguments for 'command|getkeys' command".to_owned())
        );
    }

    #[test]
    fn bad_list_filters_are_syntax_errors() {
        for words in [
            &["command", "list", "x"][..],
            &["command", "list", "filterby", "x", "y"],
            &["command", "list", "filterby", "pattern"],
        ] {
            assert_eq!(ask(words), Err("ERR syntax error".to_owned()));
        }
    }
}
