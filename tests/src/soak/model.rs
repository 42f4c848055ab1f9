//! What a writer's keys must hold: std collections, the changes that writers make to them, and the
//! requests that tell a node of those changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Bytes of a value, field, member or element.
pub type Bytes = Vec<u8>;

/// One type of data. Which one a key holds follows from its number, so no change meets another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A string, or a number as text.
    Text(Bytes),
    /// Fields and their values.
    Hash(BTreeMap<Bytes, Bytes>),
    /// Elements in order.
    List(VecDeque<Bytes>),
    /// Members.
    Set(BTreeSet<Bytes>),
    /// Members and their scores, which are whole numbers.
    Ranked(BTreeMap<Bytes, i64>),
}

impl Data {
    /// Elements in it; 1 for a string, even an empty one.
    pub fn len(&self) -> usize {
        match self {
            Data::Text(_) => 1,
            Data::Hash(fields) => fields.len(),
            Data::List(elements) => elements.len(),
            Data::Set(members) => members.len(),
            Data::Ranked(members) => members.len(),
        }
    }

    /// Is it a collection that holds nothing, and so no key any more?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A key's data and the wall clock's milliseconds at which it goes, if it does.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Shared with the models that were copied from this one.
    pub data: Arc<Data>,
    /// Its deadline.
    pub deadline_ms: Option<u64>,
}

/// A change to one writer's keys. Keys with a deadline are only set and deleted, since those two
/// mean the same whether the deadline has passed or not.
#[derive(Clone, Debug)]
pub enum Change {
    /// SET, with PXAT when there is a deadline.
    Set { key: u64, value: Bytes, deadline_ms: Option<u64> },
    /// APPEND.
    Append { key: u64, tail: Bytes },
    /// INCRBY.
    Increase { key: u64, by: i64 },
    /// HSET.
    Put { key: u64, fields: Vec<(Bytes, Bytes)> },
    /// RPUSH, or LPUSH.
    Push { key: u64, left: bool, elements: Vec<Bytes> },
    /// LPOP, or RPOP.
    Pop { key: u64, left: bool, count: usize },
    /// SADD.
    Add { key: u64, members: Vec<Bytes> },
    /// ZADD.
    Rank { key: u64, members: Vec<(i64, Bytes)> },
    /// HDEL, SREM or ZREM, as the key's type has it.
    Remove { key: u64, members: Vec<Bytes> },
    /// PEXPIREAT.
    Expire { key: u64, deadline_ms: u64 },
    /// DEL.
    Delete { keys: Vec<u64> },
    /// RENAME of a key that is there to one of its type.
    Rename { from: u64, to: u64 },
    /// MULTI, these, EXEC.
    Together(Vec<Change>),
}

impl Change {
    /// The requests that make it, the keys named by `name`.
    pub fn requests(&self, name: &dyn Fn(u64) -> Bytes) -> Vec<Vec<Bytes>> {
        let Change::Together(changes) = self else { return vec![self.request(name)] };
        let [multi, exec] = ["MULTI", "EXEC"].map(|word| vec![Bytes::from(word)]);
        let inner = changes.iter().map(|change| change.request(name));
        std::iter::once(multi).chain(inner).chain([exec]).collect()
    }

    fn request(&self, name: &dyn Fn(u64) -> Bytes) -> Vec<Bytes> {
        let number = |n: &dyn ToString| n.to_string().into_bytes();
        let with = |verb: &str, key: &u64, rest: Vec<Bytes>| -> Vec<Bytes> {
            [Bytes::from(verb), name(*key)].into_iter().chain(rest).collect()
        };
        match self {
            Change::Set { key, value, deadline_ms: None } => with("SET", key, vec![value.clone()]),
            Change::Set { key, value, deadline_ms: Some(deadline) } => {
                with("SET", key, vec![value.clone(), "PXAT".into(), number(deadline)])
            }
            Change::Append { key, tail } => with("APPEND", key, vec![tail.clone()]),
            Change::Increase { key, by } => with("INCRBY", key, vec![number(by)]),
            Change::Put { key, fields } => {
                let pairs = fields.iter().flat_map(|(field, value)| [field.clone(), value.clone()]);
                with("HSET", key, pairs.collect())
            }
            Change::Push { key, left, elements } => {
                with(if *left { "LPUSH" } else { "RPUSH" }, key, elements.clone())
            }
            Change::Pop { key, left, count } => {
                with(if *left { "LPOP" } else { "RPOP" }, key, vec![number(count)])
            }
            Change::Add { key, members } => with("SADD", key, members.clone()),
            Change::Rank { key, members } => {
                let pairs = members.iter().flat_map(|(score, m)| [number(score), m.clone()]);
                with("ZADD", key, pairs.collect())
            }
            Change::Remove { key, members } => {
                let verb = match Kind::of(*key) {
                    Kind::Hash => "HDEL",
                    Kind::Set => "SREM",
                    _ => "ZREM",
                };
                with(verb, key, members.clone())
            }
            Change::Expire { key, deadline_ms } => {
                with("PEXPIREAT", key, vec![number(deadline_ms)])
            }
            Change::Delete { keys } => {
                std::iter::once("DEL".into()).chain(keys.iter().map(|key| name(*key))).collect()
            }
            Change::Rename { from, to } => with("RENAME", from, vec![name(*to)]),
            Change::Together(_) => unreachable!("a transaction holds no transaction"),
        }
    }
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A string that is a number.
    Number,
    /// A hash.
    Hash,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    Ranked,
}

/// How many kinds there are: keys so far apart are of one kind.
pub const KINDS: u64 = 6;

impl Kind {
    /// Of the key with this number.
    pub fn of(key: u64) -> Kind {
        use Kind::*;
        [Text, Number, Hash, List, Set, Ranked][(key % KINDS) as usize]
    }

    fn empty(self) -> Data {
        match self {
            Kind::Text => Data::Text(Bytes::new()),
            Kind::Number => Data::Text(b"0".to_vec()),
            Kind::Hash => Data::Hash(BTreeMap::new()),
            Kind::List => Data::List(VecDeque::new()),
            Kind::Set => Data::Set(BTreeSet::new()),
            Kind::Ranked => Data::Ranked(BTreeMap::new()),
        }
    }
}

/// What all of a writer's keys hold. A copy shares the data until one of the two changes.
#[derive(Clone, Debug, Default)]
pub struct Model(BTreeMap<u64, Entry>);

impl Model {
    /// What a key holds, whether or not its deadline has passed.
    pub fn get(&self, key: u64) -> Option<&Entry> {
        self.0.get(&key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a key as a node showed it.
    pub fn insert(&mut self, key: u64, entry: Entry) {
        self.0.insert(key, entry);
    }

    /// Makes a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Set { key, value, deadline_ms } => {
                let data = Arc::new(Data::Text(value.clone()));
                self.0.insert(*key, Entry { data, deadline_ms: *deadline_ms });
            }
            Change::Expire { key, deadline_ms } => {
                if let Some(entry) = self.0.get_mut(key) {
                    entry.deadline_ms = Some(*deadline_ms);
                }
            }
            Change::Delete { keys } => keys.iter().for_each(|key| drop(self.0.remove(key))),
            Change::Rename { from, to } => {
                if let Some(entry) = self.0.remove(from) {
                    self.0.insert(*to, entry);
                }
            }
            Change::Together(changes) => changes.iter().for_each(|change| self.apply(change)),
            Change::Append { key, .. }
            | Change::Increase { key, .. }
            | Change::Put { key, .. }
            | Change::Push { key, .. }
            | Change::Pop { key, .. }
            | Change::Add { key, .. }
            | Change::Rank { key, .. }
            | Change::Remove { key, .. } => self.apply_within(*key, change),
        }
    }

    fn apply_within(&mut self, key: u64, change: &Change) {
        let empty = || Entry { data: Arc::new(Kind::of(key).empty()), deadline_ms: None };
        let entry = self.0.entry(key).or_insert_with(empty);
        change_data(Arc::make_mut(&mut entry.data), change);
        if entry.data.is_empty() {
            self.0.remove(&key);
        }
    }

    /// Compares with what a node showed between the times `from_ms` and `to_ms`: a key whose
    /// deadline lies between them may be there or not.
    ///
    /// # Errors
    /// A key that differs, and how.
    pub fn compare(&self, found: &Model, from_ms: u64, to_ms: u64) -> Result<(), String> {
        let describe = |entry: Option<&Entry>| match entry {
            None => "nothing".to_owned(),
            Some(entry) => format!("{} until {:?}", shown(&entry.data), entry.deadline_ms),
        };
        let differ = |key: &u64| {
            let (wanted, found) = (self.0.get(key), found.0.get(key));
            Err(format!(
                "key {key} is {}, should be {} (time {from_ms} to {to_ms})",
                describe(found),
                describe(wanted)
            ))
        };
        for (key, entry) in &self.0 {
            let found = found.0.get(key);
            let (gone, may_be_gone) = match entry.deadline_ms {
                Some(deadline) => (deadline <= from_ms, deadline <= to_ms),
                None => (false, false),
            };
            let right = match found {
                Some(found) => {
                    !gone && found.data == entry.data && found.deadline_ms == entry.deadline_ms
                }
                None => may_be_gone,
            };
            if !right {
                return differ(key);
            }
        }
        match found.0.keys().find(|key| !self.0.contains_key(key)) {
            Some(invented) => differ(invented),
            None => Ok(()),
        }
    }
}

fn change_data(data: &mut Data, change: &Change) {
    match (data, change) {
        (Data::Text(text), Change::Append { tail, .. }) => text.extend_from_slice(tail),
        (Data::Text(text), Change::Increase { by, .. }) => {
            let held: i64 =
                std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
            *text = (held + by).to_string().into_bytes();
        }
        (Data::Hash(hash), Change::Put { fields, .. }) => hash.extend(fields.iter().cloned()),
        (Data::Hash(hash), Change::Remove { members, .. }) => {
            members.iter().for_each(|field| drop(hash.remove(field)))
        }
        (Data::List(list), Change::Push { left, elements, .. }) => {
            elements.iter().for_each(|element| match left {
                true => list.push_front(element.clone()),
                false => list.push_back(element.clone()),
            })
        }
        (Data::List(list), Change::Pop { left, count, .. }) => {
            let count = (*count).min(list.len());
            match left {
                true => drop(list.drain(..count)),
                false => list.truncate(list.len() - count),
            }
        }
        (Data::Set(set), Change::Add { members, .. }) => set.extend(members.iter().cloned()),
        (Data::Set(set), Change::Remove { members, .. }) => {
            for member in members {
                set.remove(member);
            }
        }
        (Data::Ranked(ranked), Change::Rank { members, .. }) => {
            ranked.extend(members.iter().map(|(score, member)| (member.clone(), *score)))
        }
        (Data::Ranked(ranked), Change::Remove { members, .. }) => {
            for member in members {
                ranked.remove(member);
            }
        }
        (data, change) => unreachable!("{change:?} of {data:?}"),
    }
}

fn shown(data: &Data) -> String {
    match data {
        Data::Text(text) => {
            format!("{} bytes '{}'", text.len(), text[..text.len().min(60)].escape_ascii())
        }
        other => {
            let mut text = format!("{} elements {other:?}", other.len());
            text.truncate(300);
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(changes: &[Change]) -> Model {
        let mut model = Model::default();
        changes.iter().for_each(|change| model.apply(change));
        model
    }

    fn set(value: &str, deadline_ms: Option<u64>) -> Change {
        Change::Set { key: 0, value: value.into(), deadline_ms }
    }

    #[test]
    fn a_comparison_notices_what_differs_and_allows_what_may() {
        let rows = [
            (vec![set("a", None)], vec![set("a", None)], true),
            (vec![set("a", None)], vec![set("b", None)], false),
            (vec![set("a", None)], vec![], false),
            (vec![], vec![set("a", None)], false),
            (vec![set("a", Some(99))], vec![set("a", Some(99))], false),
            (vec![set("a", Some(100))], vec![], true),
            (vec![set("a", Some(105))], vec![], true),
            (vec![set("a", Some(105))], vec![set("a", Some(105))], true),
            (vec![set("a", Some(106))], vec![set("a", Some(106))], true),
            (vec![set("a", Some(106))], vec![set("a", Some(107))], false),
            (vec![set("a", Some(106))], vec![], false),
        ];
        for (wanted, found, same) in rows {
            let compared = model(&wanted).compare(&model(&found), 100, 105);
            assert_eq!(compared.is_ok(), same, "{wanted:?} {found:?}: {compared:?}");
        }
    }

    #[test]
    fn a_collection_without_elements_is_no_key() {
        let key = 3;
        let push = Change::Push { key, left: true, elements: vec![b"b".into(), b"a".into()] };
        let mut list = model(&[push, Change::Pop { key, left: false, count: 1 }]);
        assert_eq!(*list.get(key).expect("a list").data, Data::List([b"a".into()].into()));
        list.apply(&Change::Pop { key, left: true, count: 5 });
        assert!(list.is_empty());
    }
}
