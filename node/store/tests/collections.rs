//! What a collection in trees promises beside holding its members: fair draws that depend on
//! nothing but the members, and walks that miss nobody.

use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Db, Encoding, Meta, PoolOptions, Store, StoreError, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SET: Meta = Meta { ty: Type::Set, encoding: Encoding::Hashtable, deadline_ms: None };

fn store() -> Store {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(64 << 20))));
    let options =
        PoolOptions { capacity_bytes: 64 << 20, new_hash_key: [7, 11], new_uuid: [3; 16] };
    Store::open(mem, &options).unwrap().0
}

fn name(n: u64) -> Vec<u8> {
    format!("member:{n}").into_bytes()
}

fn set_of(store: &mut Store, members: impl IntoIterator<Item = u64>) {
    let key = store.key(b"set");
    store
        .build(Db(0), &key, SET, |edit| -> Result<(), StoreError> {
            members.into_iter().try_for_each(|n| edit.put(&name(n), b"").map(drop))
        })
        .unwrap();
}

fn draw(store: &Store, seed: u64) -> Vec<u8> {
    let record = store.get(Db(0), &store.key(b"set")).unwrap().unwrap();
    store.tree(&record).unwrap().random(seed).unwrap().unwrap().key().to_vec()
}

#[test]
fn every_member_is_drawn_as_often_as_any_other() {
    for members in [1, 2, 9, 100, 1000] {
        let mut store = store();
        set_of(&mut store, 0..members);
        let draws = members * 200;
        let mut seen = BTreeMap::new();
        for seed in 0..draws {
            *seen.entry(draw(&store, seed)).or_insert(0u64) += 1;
        }
        assert_eq!(seen.len() as u64, members);
        let expected = 200.0;
        let chi: f64 = seen.values().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
        // Mean is members - 1, variance twice that; six standard deviations.
        let degrees = (members - 1) as f64;
        assert!(chi <= degrees + 6.0 * (2.0 * degrees).sqrt(), "{members} members: {chi}");
    }
}

#[test]
fn draws_depend_on_the_members_and_not_on_how_they_came() {
    let (mut one, mut other) = (store(), store());
    set_of(&mut one, 0..500);
    set_of(&mut other, (0..3000).rev());
    let key = other.key(b"set");
    other
        .edit(Db(0), &key, |edit| -> Result<(), StoreError> {
            (500..3000).try_for_each(|n| edit.remove(&name(n)).map(drop))
        })
        .unwrap();
    for seed in 0..1000 {
        assert_eq!(draw(&one, seed), draw(&other, seed));
    }
}

#[test]
fn a_scan_sees_all_that_stays_while_the_rest_comes_and_goes() {
    let mut store = store();
    set_of(&mut store, 0..2000);
    let key = store.key(b"set");
    let (mut cursor, mut seen, mut round) = (0, BTreeSet::new(), 0);
    loop {
        let record = store.get(Db(0), &key).unwrap().unwrap();
        cursor = store
            .tree(&record)
            .unwrap()
            .scan(cursor, &mut |member| {
                seen.insert(member.key().to_vec());
                Ok(false)
            })
            .unwrap();
        if cursor == 0 {
            break;
        }
        round += 1;
        store
            .edit(Db(0), &key, |edit| -> Result<(), StoreError> {
                for n in 0..20 {
                    edit.put(&name(10_000 + round * 20 + n), b"")?;
                    edit.remove(&name(1000 + (round * 7 + n) % 1000))?;
                }
                Ok(())
            })
            .unwrap();
    }
    assert!(round > 50, "{round} rounds");
    for n in 0..1000 {
        assert!(seen.contains(&name(n)), "{n}");
    }
}

#[test]
fn a_packed_collection_is_short() {
    let mut store = store();
    let key = store.key(b"set");
    store.put(Db(0), &key, SET, &[1; 1024]).unwrap();
    let refused = store.put(Db(0), &key, SET, &[1; 1025]);
    assert!(matches!(refused, Err(StoreError::TooLong { max_bytes: 1024, .. })), "{refused:?}");
}
