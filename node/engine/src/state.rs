//! One number for everything a shard holds, to compare replicas by.

use cairn_store::hash::{mix, siphash13};
use cairn_store::{Db, Record, StoreError, Tree, Type, Value, View};

use crate::data::limits::LIMITS;

/// Nobody chooses what is hashed to deceive; the key only has to be the same everywhere.
const KEY: [u64; 2] = [0x6361_6972_6e2d_7374, 0x6174_652d_6861_7368];

/// Hashes all that a client could ever be told: limits, databases, names, types, encodings, deadlines and
/// values, in the order in which they are kept. Replicas that applied the same operations agree on
/// it, whatever happened to their pools before and in between. Reads everything.
///
/// # Errors
/// [`StoreError::Corrupt`] when something on the way is not what it should be.
pub fn state_hash(view: View<'_>) -> Result<u64, StoreError> {
    let mut state = State(0);
    for number in 0..LIMITS.len() {
        state.word(view.setting(number).unwrap_or(u64::MAX));
    }
    for db in 0..=Db::COUNT {
        view.scan(Db(db), 0, &mut |record| {
            state.word(db.into());
            state.record(&view, record)?;
            Ok(true)
        })?;
    }
    Ok(state.0)
}

struct State(u64);

impl State {
    fn word(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(siphash13(&KEY, bytes));
    }

    fn record<'a>(&mut self, view: &View<'a>, record: &Record<'a>) -> Result<(), StoreError> {
        self.bytes(record.key());
        self.word(record.ty() as u64);
        self.word(record.encoding() as u64);
        self.word(record.deadline_ms().unwrap_or(u64::MAX));
        match view.tree(record) {
            Some(tree) if record.ty() == Type::List => self.list(&tree),
            Some(tree) => self.members(&tree),
            None => self.value(&record.value()),
        }
    }

    fn value(&mut self, value: &Value<'_>) -> Result<(), StoreError> {
        match value.as_inline() {
            Some(bytes) => self.bytes(bytes),
            None => self.bytes(&value.to_vec()?),
        }
        Ok(())
    }

    fn list(&mut self, tree: &Tree<'_>) -> Result<(), StoreError> {
        self.word(tree.len());
        tree.elements(0, false, &mut |element| {
            self.value(&element)?;
            Ok(true)
        })
    }

    fn members(&mut self, tree: &Tree<'_>) -> Result<(), StoreError> {
        self.word(tree.len());
        tree.for_each(&mut |member| {
            self.bytes(member.key());
            self.value(&member.value())?;
            Ok(true)
        })
    }
}
