//! What a full pool leaves: whatever finds no room has changed nothing, whichever step of it that
//! was.

mod common;

use cairn_protocol::ids::{LogIndex, Term};
use cairn_store::check::check;
use cairn_store::media::{HeapMedia, Media, Medium};
use cairn_store::persist::Mem;
use cairn_store::{Committer, Db, Encoding, Key, Meta, PoolOptions, Store, StoreError, Type};
use common::Rng;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CAPACITY: u64 = 9 << 20;
const DB: Db = Db(0);
const ZSET: Meta = Meta { ty: Type::ZSet, encoding: Encoding::Skiplist, deadline_ms: None };
const HASH: Meta = Meta { ty: Type::Hash, encoding: Encoding::Hashtable, deadline_ms: None };
const LIST: Meta = Meta { ty: Type::List, encoding: Encoding::Quicklist, deadline_ms: None };
const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };

#[derive(Default)]
struct Model {
    zset: BTreeMap<Vec<u8>, f64>,
    hash: BTreeMap<Vec<u8>, Vec<u8>>,
    list: Vec<Vec<u8>>,
}

/// Whether it was done; anything but a lack of room is a mistake.
fn done<T>(outcome: Result<T, StoreError>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(StoreError::Full) => false,
        Err(error) => panic!("{error}"),
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    vec![b'v'; [3, 40, 990, 1500, 40_000][rng.below(5) as usize]]
}

/// Changes one of the collections by one element; says whether there was room.
fn step(store: &mut Store, model: &mut Model, rng: &mut Rng) -> bool {
    let name = format!("member:{}", rng.below(20_000)).into_bytes();
    match rng.below(3) {
        0 => {
            let (key, score) = (store.key(b"zset"), rng.below(1000) as f64);
            let put = done(store.edit(DB, &key, |edit| edit.rank_put(&name, score)));
            if put {
                model.zset.insert(name, score);
            }
            put
        }
        1 => {
            let (key, value) = (store.key(b"hash"), value(rng));
            let put = done(store.edit(DB, &key, |edit| edit.put(&name, &value)));
            if put {
                model.hash.insert(name, value);
            }
            put
        }
        _ => {
            let (key, value) = (store.key(b"list"), value(rng));
            let place = rng.below(model.list.len() as u64 + 1);
            let set = rng.below(2) == 0 && (place as usize) < model.list.len();
            let put = done(store.edit(DB, &key, |edit| {
                if set {
                    return edit.list_set(place, &value).map(drop);
                }
                edit.list_insert(place, &value)
            }));
            if put && set {
                model.list[place as usize] = value;
            } else if put {
                model.list.insert(place as usize, value);
            }
            put
        }
    }
}

fn compare(store: &Store, model: &Model) {
    let tree = |name: &[u8]| {
        let key: Key<'_> = store.key(name);
        store.tree(&store.get(DB, &key).unwrap().unwrap()).unwrap()
    };
    let (mut zset, mut last) = (BTreeMap::new(), f64::MIN);
    tree(b"zset")
        .ranked(0, false, &mut |name, score| {
            assert!(last <= score);
            last = score;
            zset.insert(name.to_vec(), score);
            Ok(true)
        })
        .unwrap();
    assert_eq!(zset.len() as u64, tree(b"zset").len());
    assert!(zset == model.zset, "a sorted set changed though there was no room");
    let mut hash = BTreeMap::new();
    tree(b"hash")
        .for_each(&mut |member| {
            hash.insert(member.key().to_vec(), member.value().to_vec()?);
            Ok(true)
        })
        .unwrap();
    assert!(hash == model.hash, "a hash changed though there was no room");
    let mut list = Vec::new();
    tree(b"list")
        .elements(0, false, &mut |element| {
            list.push(element.to_vec()?);
            Ok(true)
        })
        .unwrap();
    assert_eq!(list.len() as u64, tree(b"list").len());
    assert!(list == model.list, "a list changed though there was no room");
}

fn commit(store: &mut Store, committer: &mut Committer) {
    if let Some(sealed) = store.seal() {
        store.release(committer.commit(sealed).unwrap());
    }
}

#[test]
fn what_finds_no_room_has_changed_nothing() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut rng = Rng(seed);
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY * 2))));
        let options =
            PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
        let (mut store, mut committer, _) = Store::open(mem.clone(), &options).unwrap();
        let mut model = Model::default();
        let build = |edit: &mut cairn_store::Edit<'_>, kind| match kind {
            0 => edit.rank_put(b"first", 0.0).map(drop),
            1 => edit.put(b"first", b"1").map(drop),
            _ => edit.list_push_back(b"first"),
        };
        for (kind, name, meta) in [(0, &b"zset"[..], ZSET), (1, b"hash", HASH), (2, b"list", LIST)]
        {
            let key = store.key(name);
            store.build(DB, &key, meta, |edit| build(edit, kind)).unwrap();
        }
        model.zset.insert(b"first".to_vec(), 0.0);
        model.hash.insert(b"first".to_vec(), b"1".to_vec());
        model.list.push(b"first".to_vec());
        for _ in 0..100 + rng.below(800) {
            step(&mut store, &mut model, &mut rng);
        }
        commit(&mut store, &mut committer);
        let mut fulls = 0;
        for n in 0..100_000u64 {
            // Filled up with blocks of all sizes, of which some go again.
            let name = format!("filler:{}", rng.below(500));
            let key = store.key(name.as_bytes());
            let len = [20, 60, 100, 240, 480, 900, 4000][rng.below(7) as usize];
            let deadline_ms = (rng.below(3) == 0).then(|| rng.below(1 << 40));
            done(store.put(DB, &key, Meta { deadline_ms, ..TEXT }, &vec![b'f'; len]));
            let other = format!("filler:{}", rng.below(500));
            match rng.below(8) {
                0 => drop(done(store.rename(DB, &key, DB, &store.key(other.as_bytes())))),
                1 => drop(done(store.set_deadline(DB, &key, Some(rng.below(1 << 40))))),
                2 => drop(done(store.append(DB, &key, Encoding::Raw, &vec![b'a'; 9000]))),
                _ => {}
            }
            if !step(&mut store, &mut model, &mut rng) {
                fulls += 1;
                compare(&store, &model);
                if fulls % 8 == 0 {
                    let name = format!("filler:{}", rng.below(500));
                    let key = store.key(name.as_bytes());
                    done(store.remove(DB, &key));
                }
            }
            if n % 50 == 0 {
                commit(&mut store, &mut committer);
            }
            if fulls == 200 {
                break;
            }
        }
        assert_eq!(fulls, 200);
        commit(&mut store, &mut committer);
        commit(&mut store, &mut committer);
        let report = check(mem, true, &mut |_, _| {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

#[test]
fn room_in_extents_that_were_not_looked_at_yet_is_found_after_an_open() {
    const CAPACITY: u64 = 40 << 20;
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY * 2))));
    let options =
        PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
    let (mut store, mut committer, _) = Store::open(mem.clone(), &options).unwrap();
    let name = |n: u64| format!("key:{n}").into_bytes();
    let value = vec![b'v'; 16_000];
    let mut keys = 0;
    while done(store.put(DB, &store.key(&name(keys)), TEXT, &value)) {
        keys += 1;
    }
    commit(&mut store, &mut committer);
    // The last ones lie in the last extents.
    for n in keys - 200..keys {
        assert!(store.remove(DB, &store.key(&name(n))).unwrap());
    }
    for _ in 0..3 {
        commit(&mut store, &mut committer);
        store.set_applied(Term(1), LogIndex(store.applied().1.0 + 1), 0);
    }
    drop((store, committer));
    let (mut store, _, _) = Store::open(mem, &options).unwrap();
    store.put(DB, &store.key(b"another"), TEXT, &value).unwrap();
}

/// A medium whose disk is full once it is said to be.
struct Disk {
    heap: HeapMedia,
    is_full: AtomicBool,
}

// SAFETY: forwards to a medium that keeps the promises.
unsafe impl Media for Disk {
    fn medium(&self) -> Medium {
        self.heap.medium()
    }
    fn base(&self) -> *mut u8 {
        self.heap.base()
    }
    fn len(&self) -> u64 {
        self.heap.len()
    }
    fn reserved(&self) -> u64 {
        self.heap.reserved()
    }
    fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<(), StoreError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(StoreError::io("growing the pool", io::ErrorKind::StorageFull.into()));
        }
        self.heap.grow(file_bytes, backed)
    }
    fn flush(&self, offset: u64, len: u64) {
        self.heap.flush(offset, len);
    }
    fn fence(&self) -> Result<(), StoreError> {
        self.heap.fence()
    }
}

#[test]
fn a_full_disk_halts_no_write_while_extents_that_were_not_looked_at_have_room() {
    const CAPACITY: u64 = 100 << 20;
    let heap = HeapMedia::new(CAPACITY * 2);
    let disk = Arc::new(Disk { heap, is_full: AtomicBool::new(false) });
    let mem = Arc::new(Mem::new(Box::new(disk.clone())));
    let options =
        PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
    let (mut store, mut committer, _) = Store::open(mem.clone(), &options).unwrap();
    let name = |n: u64| format!("key:{n}").into_bytes();
    let value = vec![b'v'; 16_000];
    // Some 40 extents, and room is in the middle of them.
    let keys = 80 << 20 >> 14;
    for n in 0..keys {
        store.put(DB, &store.key(&name(n)), TEXT, &value).unwrap();
    }
    commit(&mut store, &mut committer);
    for n in keys / 2..keys / 2 + 500 {
        assert!(store.remove(DB, &store.key(&name(n))).unwrap());
    }
    for _ in 0..3 {
        commit(&mut store, &mut committer);
        store.set_applied(Term(1), LogIndex(store.applied().1.0 + 1), 0);
    }
    drop((store, committer));
    let (mut store, _, _) = Store::open(mem, &options).unwrap();
    disk.is_full.store(true, Ordering::Relaxed);
    let mut put = |n: u64| store.put(DB, &store.key(&name(keys + n)), TEXT, &value);
    for n in 0..300 {
        put(n).unwrap();
    }
    // And what the disk says is told when nothing else is left.
    let refused = (300..1000).find_map(|n| put(n).err());
    assert!(matches!(refused, Some(StoreError::Io { .. })), "{refused:?}");
}

#[test]
fn a_pool_that_is_running_out_of_slabs_says_so_before_it_is_full() {
    const CAPACITY: u64 = 32 << 20;
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY * 2))));
    let options =
        PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
    let (mut store, _, _) = Store::open(mem, &options).unwrap();
    let (mut puts, mut cramped_at) = (0u64, None);
    let name = |n: u64| format!("key:{n}").into_bytes();
    while done(store.put(DB, &store.key(&name(puts)), TEXT, &[b'v'; 16_000])) {
        puts += 1;
        if store.is_cramped() {
            cramped_at.get_or_insert(puts);
        }
    }
    // Full is what has not even the slabs that a change may need; there is a mebibyte between.
    let cramped_at = cramped_at.expect("it was said");
    println!("cramped after {cramped_at}, full after {puts}");
    assert!((cramped_at + 50..cramped_at + 200).contains(&puts));
}
