//! A flipped bit anywhere in a pool: what is read afterwards is right, or an error; never wrong.
//!
//! `CAIRN_SEEDS=N` flips in N pools, `CAIRN_SEED=S` in one.

use cairn_store::check::check;
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Db, Encoding, Meta, PoolOptions, Store, StoreError, Type};
use std::collections::BTreeMap;
use std::sync::Arc;

const CAPACITY: u64 = 64 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };

fn meta(ty: Type) -> Meta {
    Meta { ty, encoding: Encoding::Raw, deadline_ms: None }
}

/// Values by name.
type Content = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// A pool with every structure in it, two epochs old, and what it holds.
fn pool() -> (Vec<u8>, Content) {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY))));
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
    for round in 0..3u8 {
        for n in 0..300 {
            let name = format!("{{tag}}key:{n}").into_bytes();
            let meta = Meta { deadline_ms: (n % 3 == 0).then_some(1000 + n), ..meta(Type::String) };
            store.put(Db(0), &store.key(&name), meta, &[round; 100]).unwrap();
        }
        store.put(Db(1), &store.key(b"long"), meta(Type::String), &vec![round; 50_000]).unwrap();
        let fill = |name: &[u8], ty: Type, store: &mut Store| {
            let key = store.key(name);
            store.build(Db(1), &key, meta(ty), |edit| -> Result<(), StoreError> {
                for n in 0..200u32 {
                    let member = format!("member:{n}").into_bytes();
                    match ty {
                        Type::Hash => drop(edit.put(&member, &[round; 40])?),
                        Type::ZSet => drop(edit.rank_put(&member, f64::from(n % 7))?),
                        _ => edit.list_push_back(&member)?,
                    }
                }
                Ok(())
            })
        };
        fill(b"hash", Type::Hash, &mut store).unwrap();
        fill(b"zset", Type::ZSet, &mut store).unwrap();
        fill(b"list", Type::List, &mut store).unwrap();
        if round == 1 {
            store.take_snapshot(b"kept", 1).unwrap();
        }
        let sealed = store.seal().unwrap();
        let published = committer.commit(sealed).unwrap();
        store.release(published);
    }
    while store.reclaim(1000).unwrap() {}
    let sealed = store.seal().unwrap();
    store.release(committer.commit(sealed).unwrap());
    committer.close().unwrap();
    let bytes = mem.bytes(0, mem.media().len() as usize).unwrap().to_vec();
    (bytes, read_all(&store).unwrap())
}

/// Everything there is, read the way commands read it: each key by name, each member by name.
fn read_all(store: &Store) -> Result<Content, StoreError> {
    let mut out = Content::new();
    for n in 0..300 {
        let name = format!("{{tag}}key:{n}").into_bytes();
        let found = store.get(Db(0), &store.key(&name))?;
        let value = found.map(|record| record.value().to_vec()).transpose()?;
        out.insert(name, value.into_iter().collect());
    }
    let long = store.get(Db(1), &store.key(b"long"))?;
    let long = long.map(|record| record.value().to_vec()).transpose()?;
    out.insert(b"long".to_vec(), long.into_iter().collect());
    for name in [&b"hash"[..], b"zset", b"list"] {
        let mut values = Vec::new();
        if let Some(record) = store.get(Db(1), &store.key(name))? {
            let tree = store.tree(&record).expect("a collection in trees");
            if name == b"list" {
                tree.elements(0, false, &mut |element| {
                    values.push(element.to_vec()?);
                    Ok(true)
                })?;
            } else {
                for n in 0..200 {
                    let member = tree.member(format!("member:{n}").as_bytes())?;
                    values.extend(member.map(|member| member.value().to_vec()).transpose()?);
                }
            }
            if name == b"zset" {
                tree.ranked(0, false, &mut |member, score| {
                    values.push([member, &score.to_le_bytes()].concat());
                    Ok(true)
                })?;
            }
        }
        out.insert(name.to_vec(), values);
    }
    let expired = store.next_expired(u64::MAX)?.map(|(_, key)| key);
    out.insert(b"next expired".to_vec(), expired.into_iter().collect());
    out.insert(b"keys".to_vec(), vec![store.len(Db(0)).to_le_bytes().to_vec()]);
    let mut snapshots = Vec::new();
    for snapshot in store.snapshots()? {
        let pin = store.pin_snapshot(&snapshot.name)?.expect("listed");
        let found = pin.view().get(Db(1), &store.key(b"long"))?;
        snapshots.extend(found.map(|record| record.value().to_vec()).transpose()?);
    }
    out.insert(b"snapshots".to_vec(), snapshots);
    Ok(out)
}

/// Bytes that mean something: in superblocks, in records that count, in blocks in use.
fn used_ranges(bytes: &[u8]) -> Vec<(usize, usize)> {
    let chunks = bytes.chunks(4096).enumerate();
    let used = chunks.filter(|(_, page)| page.iter().any(|&byte| byte != 0));
    used.map(|(page, _)| (page * 4096, 4096)).collect()
}

#[test]
fn nothing_wrong_is_ever_read_from_a_pool_with_a_flipped_bit() {
    let (bytes, wanted) = pool();
    let ranges = used_ranges(&bytes);
    let total: usize = ranges.iter().map(|(_, len)| len).sum();
    let flips = std::env::var("CAIRN_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300u64);
    let (mut errors, mut harmless) = (0, 0);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for flip in 0..flips {
        state = cairn_store::hash::mix(state);
        let nth = (state % total as u64) as usize;
        let (page, _) = ranges[nth / 4096];
        let (at, bit) = (page + nth % 4096, state >> 40 & 7);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_bytes(&damaged, CAPACITY))));
        let outcome = Store::open(mem.clone(), &OPTIONS).and_then(|(store, ..)| {
            let found = read_all(&store)?;
            assert!(found == wanted, "flip {flip}: bit {bit} of byte {at} gave a wrong answer");
            Ok(())
        });
        let offline = check(mem, true, &mut |_, _| {});
        let noticed = offline.map_or(true, |report| !report.is_clean() || report.note.is_some());
        match outcome {
            Err(_) => {
                assert!(noticed, "flip {flip}: bit {bit} of byte {at} passes a deep check");
                errors += 1;
            }
            Ok(()) => harmless += u32::from(!noticed),
        }
    }
    println!("{flips} flips: {errors} met by a read, {harmless} in bytes that nothing uses");
    assert!(errors > flips as u32 / 10, "{errors} of {flips}");
}
