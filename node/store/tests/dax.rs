//! What a DAX medium does, on tmpfs: the same stores, write-backs and fences, the same growth.

use cairn_store::check::{check, check_file};
use cairn_store::media::{FileMedia, Media, Medium, medium_in};
use cairn_store::persist::Mem;
use cairn_store::{Db, Encoding, Meta, PoolOptions, Store, StoreError, Type};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const CAPACITY: u64 = 64 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const ZSET: Meta = Meta { ty: Type::ZSet, encoding: Encoding::Skiplist, deadline_ms: None };

/// A directory in memory, where there is one.
fn scratch() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let made = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
    made.expect("a directory")
}

fn dax(path: &Path) -> Option<FileMedia> {
    FileMedia::open_as_dax(path, 4 * CAPACITY).expect("opens")
}

#[test]
fn media_are_told_apart() {
    let shm = scratch();
    let pool = shm.path().join("a.pool");
    if let Some(media) = dax(&pool) {
        let how = media.dax().expect("is DAX");
        assert_eq!(media.medium(), Medium::Dax);
        assert!(!how.map_sync, "nobody has granted anything here");
        assert!(["clwb", "clflushopt", "clflush"].contains(&how.instruction));
    }
    if shm.path().starts_with("/dev/shm") {
        let (media, _) = FileMedia::open(&pool, CAPACITY).expect("opens");
        assert_eq!((media.medium(), media.dax()), (Medium::Tmpfs, None), "no MAP_SYNC on tmpfs");
        assert_eq!(medium_in(shm.path()).expect("asks"), Medium::Tmpfs);
        assert_eq!(std::fs::read_dir(shm.path()).expect("a directory").count(), 1, "no traces");
    }
    let missing = medium_in(&shm.path().join("missing")).expect_err("is not there");
    assert!(missing.to_string().contains("missing"), "{missing}");
}

#[test]
fn growing_zeroes_what_is_new_and_keeps_what_is_there() {
    let dir = scratch();
    let path = dir.path().join("a.pool");
    std::fs::write(&path, [7; 8192]).expect("a file");
    let Some(media) = dax(&path) else { return };
    media.grow(3 << 20, &[(4096, 4096), (1 << 20, 300 << 10)]).expect("grows");
    let bytes = std::fs::read(&path).expect("is there");
    assert_eq!((media.len(), bytes.len()), (3 << 20, 3 << 20));
    assert!(bytes[..4096].iter().all(|&byte| byte == 7));
    assert!(bytes[4096..].iter().all(|&byte| byte == 0));
    assert!(matches!(media.grow(u64::MAX / 2, &[]), Err(StoreError::Full)));
}

#[test]
#[should_panic(expected = "a flush out of bounds")]
fn a_flush_beyond_the_end_is_a_mistake_of_ours() {
    let dir = scratch();
    match dax(&dir.path().join("a.pool")) {
        Some(media) => media.flush(0, 1),
        None => panic!("a flush out of bounds cannot be tried here"),
    }
}

/// Lives of a pool, each ended without a last commit, judged by a map.
#[test]
fn a_pool_lives_on_dax() {
    let dir = scratch();
    let path = dir.path().join("a.pool");
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for life in 0..4u32 {
        let Some(media) = dax(&path) else { return };
        let mem = Arc::new(Mem::new(Box::new(media)));
        let (mut store, mut committer, opened) = Store::open(mem.clone(), &OPTIONS).expect("opens");
        assert_eq!(opened.created, life == 0);
        for (name, value) in &model {
            let found = store.get(Db(0), &store.key(name)).expect("reads").expect("is there");
            assert_eq!(&found.value().to_vec().expect("reads"), value);
        }
        let old = model.clone();
        for i in 0..6000u32 {
            let name = format!("key:{}", (i * 7919 + life) % 4001).into_bytes();
            let key = store.key(&name);
            if i % 5 == 4 {
                assert_eq!(
                    store.remove(Db(0), &key).expect("frees"),
                    model.remove(&name).is_some()
                );
            } else {
                let value = vec![life as u8; (i * 31 % 900) as usize];
                store.put(Db(0), &key, TEXT, &value).expect("fits");
                model.insert(name, value);
            }
            if i % 1500 == 1499 {
                let sealed = store.seal().expect("something new");
                store.release(committer.commit(sealed).expect("commits"));
            }
        }
        let set = store.key(b"ranked");
        let meta = Meta { deadline_ms: None, ..ZSET };
        let built = store.build(Db(1), &set, meta, |edit| {
            (0..3000).try_for_each(|i| edit.rank_put(format!("{i}").as_bytes(), i as f64).map(drop))
        });
        assert!(built.is_ok());
        if life == 2 {
            // Never committed, so the next life knows nothing of it.
            drop((store, committer));
            let Some(media) = dax(&path) else { return };
            let mem = Arc::new(Mem::new(Box::new(media)));
            let (store, ..) = Store::open(mem, &OPTIONS).expect("opens");
            assert_eq!(store.len(Db(0)), model.len() as u64);
            assert_ne!(model, old);
            continue;
        }
        let sealed = store.seal().expect("something new");
        store.release(committer.commit(sealed).expect("commits"));
        committer.close().expect("closes");
        let report = check(mem, true, &mut |_, _| {}).expect("is walked");
        assert!(report.is_clean(), "{report:?}");
    }
    let report = check_file(&path, true, &mut |_, _| {}).expect("is walked");
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_link_to_a_pool_that_is_away_is_no_reason_to_make_a_new_one() {
    let dir = scratch();
    let link = dir.path().join("a.pool");
    std::os::unix::fs::symlink(dir.path().join("device"), &link).expect("links");
    let refused = Store::open_file(&link, &OPTIONS).err().map(|e| e.to_string());
    assert!(refused.unwrap_or_default().contains("leads to nothing"));
    assert!(link.is_symlink());
}
