//! What a pool holds, in terms that can be compared.

use cairn_store::{Db, Record, Store, StoreError, Type, View};
use std::collections::BTreeMap;

/// By database and key: the value, spelled out, and the deadline.
pub type Content = BTreeMap<(u16, Vec<u8>), (Vec<u8>, Option<u64>)>;

/// The live data, each snapshot's, and the last entry applied.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    pub live: Content,
    pub snapshots: Vec<(Vec<u8>, Content)>,
    pub applied: u64,
}

fn spell(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u32).to_le_bytes());
    out.extend_from_slice(part);
}

/// A value as bytes: of a collection the elements, those without an order by name.
fn value(view: &View<'_>, record: &Record<'_>) -> Result<Vec<u8>, StoreError> {
    let Some(tree) = view.tree(record) else { return record.value().to_vec() };
    let mut out = Vec::new();
    match record.ty() {
        Type::List => tree.elements(0, false, &mut |element| {
            spell(&mut out, &element.to_vec()?);
            Ok(true)
        })?,
        Type::ZSet => tree.ranked(0, false, &mut |name, score| {
            spell(&mut out, name);
            spell(&mut out, &score.to_le_bytes());
            Ok(true)
        })?,
        _ => {
            let mut members = BTreeMap::new();
            tree.for_each(&mut |member| {
                members.insert(member.key().to_vec(), member.value().to_vec()?);
                Ok(true)
            })?;
            for (name, value) in &members {
                spell(&mut out, name);
                spell(&mut out, value);
            }
        }
    }
    Ok(out)
}

pub fn content(view: View<'_>) -> Result<Content, StoreError> {
    let mut out = Content::new();
    for db in 0..Db::COUNT {
        let mut cursor = 0;
        loop {
            cursor = view.scan(Db(db), cursor, &mut |record| {
                let at = (db, record.key().to_vec());
                out.insert(at, (value(&view, record)?, record.deadline_ms()));
                Ok(true)
            })?;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(out)
}

pub fn history(store: &Store) -> Result<History, StoreError> {
    let mut snapshots = Vec::new();
    for snapshot in store.snapshots()? {
        if let Some(pin) = store.pin_snapshot(&snapshot.name)? {
            snapshots.push((snapshot.name, content(pin.view())?));
        }
    }
    Ok(History { live: content(store.view())?, snapshots, applied: store.applied().1.0 })
}
