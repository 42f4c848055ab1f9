//! Long life: what churn of changing sizes leaves, and what evacuation makes of it.
//!
//! `CAIRN_SEEDS=N` runs N seeds, `CAIRN_SEED=S` replays one.

mod common;

use cairn_protocol::ids::{LogIndex, Term};
use cairn_store::check::check;
use cairn_store::layout::pool::SUPERBLOCK_AT;
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{
    Committer, Db, Demand, Encoding, Evacuation, Meta, PoolOptions, Progress, Spare, Store, Type,
    Usage,
};
use common::{Rng, seeds};
use std::collections::BTreeMap;
use std::sync::Arc;

const DB: Db = Db(0);
const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const ZSET: Meta = Meta { ty: Type::ZSet, encoding: Encoding::Skiplist, deadline_ms: None };
const HASH: Meta = Meta { ty: Type::Hash, encoding: Encoding::Hashtable, deadline_ms: None };
const LIST: Meta = Meta { ty: Type::List, encoding: Encoding::Quicklist, deadline_ms: None };

/// A pool in memory, and who commits it.
struct Pool {
    mem: Arc<Mem>,
    store: Store,
    committer: Committer,
    index: u64,
}

impl Pool {
    fn new(capacity_bytes: u64) -> Pool {
        Pool::of([3; 16], capacity_bytes)
    }

    fn of(new_uuid: [u8; 16], capacity_bytes: u64) -> Pool {
        Pool::on(HeapMedia::new(capacity_bytes * 2), new_uuid, capacity_bytes)
    }

    fn on(media: HeapMedia, new_uuid: [u8; 16], capacity_bytes: u64) -> Pool {
        let mem = Arc::new(Mem::new(Box::new(media)));
        let options = PoolOptions { capacity_bytes, new_hash_key: [7, 11], new_uuid };
        let (store, committer, _) = Store::open(mem.clone(), &options).unwrap();
        Pool { mem, store, committer, index: 0 }
    }

    fn commit(&mut self) {
        self.index += 1;
        self.store.set_applied(Term(1), LogIndex(self.index), 0);
        let sealed = self.store.seal().unwrap();
        self.store.release(self.committer.commit(sealed).unwrap());
        while self.store.recycle_dead(10_000) {}
    }

    /// Passes until none is worth its while; what they did.
    fn evacuate(&mut self, pass: &mut Evacuation) -> u64 {
        let mut passes = 0;
        while self.store.should_evacuate(false) {
            self.one_pass(pass, false, &mut |_| {});
            passes += 1;
            assert!(passes < 10, "passes come to an end");
        }
        passes
    }

    fn one_pass(
        &mut self,
        pass: &mut Evacuation,
        last_resort: bool,
        between: &mut dyn FnMut(&mut Store),
    ) {
        loop {
            match self.store.evacuate(pass, 300, last_resort).unwrap() {
                Progress::More => between(&mut self.store),
                Progress::Waits => self.commit(),
                Progress::Done => break,
            }
        }
    }

    fn assert_sound(&mut self) {
        self.commit();
        let report = check(self.mem.clone(), true, &mut |_, _| {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

fn fill(byte: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (byte as u8).wrapping_add(i as u8)).collect()
}

/// Sizes of one phase of the churn.
fn size(phase: usize, rng: &mut Rng) -> usize {
    match phase {
        0 => 20,
        1 => 3 << 10,
        2 => 200,
        _ => [1, 20, 200, 700, 3000, 9000, 40_000][rng.below(7) as usize],
    }
}

/// A pass under way in one pool does not wait in another that took its place for what will never
/// come there.
#[test]
fn a_pass_ends_with_its_pool() {
    let filled = |uuid: u8, commits: usize| {
        let mut pool = Pool::of([uuid; 16], 64 << 20);
        for n in 0..1000u32 {
            let key = n.to_le_bytes();
            pool.store.put(DB, &pool.store.key(&key), TEXT, &fill(n.into(), 2000)).unwrap();
        }
        (0..commits).for_each(|_| pool.commit());
        pool
    };
    let mut pass = Evacuation::of_everything();
    let mut old = filled(3, 300);
    while old.store.evacuate(&mut pass, 300, false).unwrap() != Progress::Waits {}
    let mut new = filled(4, 2);
    let mut waits = 0;
    loop {
        match new.store.evacuate(&mut pass, 300, false).unwrap() {
            Progress::More => {}
            Progress::Waits => {
                waits += 1;
                new.commit();
            }
            Progress::Done => break,
        }
    }
    assert!((1..10).contains(&waits), "{waits} commits to wait for");
    assert_eq!(pass.done().damaged, 0);
    new.assert_sound();
    assert_eq!(new.store.len(DB), 1000);
}

#[test]
fn churn_of_changing_sizes_leaves_few_slabs_more_than_what_lives() {
    for seed in seeds(2) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        let (mut rng, mut pool) = (Rng(seed), Pool::new(512 << 20));
        let (mut model, mut pass) = (BTreeMap::new(), Evacuation::default());
        let mut fragmented = 0;
        for phase in 0..4 {
            let mut bytes = 0;
            while bytes < 48 << 20 {
                let (name, len) = (rng.below(1 << 40), size(phase, &mut rng));
                let deadline_ms = (rng.below(4) == 0).then(|| rng.below(1 << 40));
                let text = name.to_string();
                let key = pool.store.key(text.as_bytes());
                pool.store.put(DB, &key, Meta { deadline_ms, ..TEXT }, &fill(name, len)).unwrap();
                model.insert(name, len);
                bytes += len + 100;
                if rng.below(5000) == 0 {
                    pool.commit();
                }
            }
            let names: Vec<u64> = model.keys().copied().collect();
            for name in names {
                if rng.below(10) > 0 {
                    let text = name.to_string();
                    assert!(pool.store.remove(DB, &pool.store.key(text.as_bytes())).unwrap());
                    model.remove(&name);
                }
            }
            while pool.store.reclaim(1000).unwrap() {}
            (0..3).for_each(|_| pool.commit());
            let before = pool.store.usage();
            fragmented += u64::from(before.used_bytes > before.live_bytes * 2);
            pool.evacuate(&mut pass);
            assert_compact(&pool.store.usage(), before);
        }
        assert_eq!(fragmented, 4, "the churn leaves slabs nearly empty");
        assert_eq!(pass.done().damaged, 0);
        for (name, &len) in &model {
            let text = name.to_string();
            let record = pool.store.get(DB, &pool.store.key(text.as_bytes())).unwrap().unwrap();
            assert_eq!(record.value().to_vec().unwrap(), fill(*name, len));
        }
        assert_eq!(pool.store.len(DB), model.len() as u64);
        pool.assert_sound();
    }
}

fn assert_compact(usage: &Usage, before: Usage) {
    println!(
        "live {} KiB, used {} KiB before and {} KiB after, file {} KiB and {} KiB",
        usage.live_bytes >> 10,
        before.used_bytes >> 10,
        usage.used_bytes >> 10,
        before.extents_bytes >> 10,
        usage.extents_bytes >> 10
    );
    assert!(usage.used_bytes * 100 <= usage.live_bytes * 125, "{usage:?}");
    // The file ends soon behind it: an eighth more, and what the next changes may take.
    assert!(usage.extents_bytes <= usage.live_bytes * 125 / 100 + (4 << 20), "{usage:?}");
}

/// Something of every kind that hangs below a root.
fn one_of_each(pool: &mut Pool, rng: &mut Rng) {
    for n in 0..3000 {
        let (name, len) = (format!("key:{n}"), [10, 300, 17_000][n % 3]);
        let deadline_ms = Some(rng.below(1 << 40));
        let key = pool.store.key(name.as_bytes());
        let db = Db([0, 3, 16][n % 3]);
        pool.store.put(db, &key, Meta { deadline_ms, ..TEXT }, &fill(n as u64, len)).unwrap();
    }
    let names: Vec<String> = (0..3000).map(|n| format!("member:{n}")).collect();
    for (name, meta) in [(&b"hash"[..], HASH), (b"zset", ZSET), (b"list", LIST)] {
        let key = pool.store.key(name);
        let built = pool.store.build(DB, &key, meta, |edit| {
            names.iter().enumerate().try_for_each(|(n, name)| {
                let value = fill(n as u64, [5, 900, 1200, 40_000][n % 4]);
                match meta.ty {
                    Type::Hash => edit.put(name.as_bytes(), &value).map(drop),
                    Type::ZSet => edit.rank_put(name.as_bytes(), (n % 100) as f64).map(drop),
                    _ => edit.list_push_back(&value),
                }
            })
        });
        built.unwrap();
    }
    let key = pool.store.key(b"long");
    pool.store.put(DB, &key, TEXT, &fill(1, 5 << 20)).unwrap();
}

#[test]
fn a_quiet_pass_reaches_blocks_of_every_kind() {
    for with_snapshots in [false, true] {
        let (mut rng, mut pool) = (Rng(1), Pool::new(512 << 20));
        if with_snapshots {
            // They see nothing of what comes after.
            for n in 0..20 {
                pool.store.take_snapshot(format!("snapshot {n}").as_bytes(), n).unwrap();
            }
        }
        one_of_each(&mut pool, &mut rng);
        pool.commit();
        let live = pool.store.usage().live_bytes;
        let mut pass = Evacuation::of_everything();
        pool.one_pass(&mut pass, false, &mut |_| {});
        let done = pass.done();
        assert_eq!((done.missed_slabs, done.damaged, done.passes), (0, 0, 1), "{done:?}");
        assert_eq!(pool.store.usage().live_bytes, live);
        assert!(done.bytes > live / 2, "{done:?} of {live}");
        pool.assert_sound();
    }
}

/// The tables of slots that once had keys and have none any more move too.
#[test]
fn a_pass_reaches_tables_of_empty_slots() {
    let mut pool = Pool::new(512 << 20);
    keep_one_in(10_000, 20_000, &mut pool);
    let mut pass = Evacuation::of_everything();
    pool.one_pass(&mut pass, false, &mut |_| {});
    let done = pass.done();
    assert_eq!((done.missed_slabs, done.damaged, done.passes), (0, 0, 1), "{done:?}");
    assert_eq!(pool.store.len(DB), 2);
    pool.assert_sound();
}

#[test]
fn what_a_snapshot_sees_is_left_where_it_is() {
    let (mut rng, mut pool) = (Rng(2), Pool::new(512 << 20));
    one_of_each(&mut pool, &mut rng);
    pool.store.take_snapshot(b"all", 1).unwrap();
    pool.commit();
    let mut pass = Evacuation::of_everything();
    pool.one_pass(&mut pass, false, &mut |_| {});
    assert_eq!(pass.done().blocks, 0, "{:?}", pass.done());
    pool.assert_sound();
}

/// Keys that fill many extents, of which one in twenty is kept.
fn thin_out(pool: &mut Pool) {
    keep_one_in(20, 20_000, pool);
}

/// Of `keys` keys every `part`th is kept.
fn keep_one_in(part: u64, keys: u64, pool: &mut Pool) {
    (0..keys).for_each(|n| put(pool, n));
    pool.commit();
    remove_others(part, keys, pool);
}

fn put(pool: &mut Pool, n: u64) {
    let key = n.to_string();
    pool.store.put(DB, &pool.store.key(key.as_bytes()), TEXT, &fill(n, 2000)).unwrap();
}

fn remove_others(part: u64, keys: u64, pool: &mut Pool) {
    for n in (0..keys).filter(|n| n % part > 0) {
        let key = n.to_string();
        assert!(pool.store.remove(DB, &pool.store.key(key.as_bytes())).unwrap());
        if n % 1000 == 1 {
            pool.commit();
        }
    }
    (0..3).for_each(|_| pool.commit());
}

fn assert_thinned(pool: &Pool) {
    assert_eq!(pool.store.len(DB), 1000);
    for n in (0..20_000u64).step_by(20) {
        let key = n.to_string();
        let record = pool.store.get(DB, &pool.store.key(key.as_bytes())).unwrap().unwrap();
        assert_eq!(record.value().to_vec().unwrap(), fill(n, 2000));
    }
}

/// A limit lowered below the length of a file all of whose slabs hold something: hardly a slab is
/// free then, and what is moved finds its place in those that stay.
#[test]
fn a_limit_below_a_file_without_free_slabs_is_reached() {
    let mut pool = Pool::new(256 << 20);
    keep_one_in(4, 60_000, &mut pool);
    let before = pool.store.usage();
    let limit = 48 << 20;
    assert!(before.used_bytes > 2 * limit && before.live_bytes < limit, "{before:?}");
    pool.store.set_capacity_bytes(limit);
    pool.evacuate(&mut Evacuation::default());
    (0..3).for_each(|_| pool.commit());
    let after = pool.store.usage();
    assert!(after.extents_bytes <= limit, "{after:?} after {before:?}");
    assert_compact(&after, before);
    assert_eq!(pool.store.len(DB), 15_000);
    pool.assert_sound();
}

/// A full pool all of whose slabs hold a little: a pass that leaves the last slabs to writers gets
/// nowhere, and that keeps none from one that writers wait for.
#[test]
fn a_full_pool_is_packed_once_writers_wait() {
    let mut pool = Pool::new(64 << 20);
    let left = |pool: &Pool| pool.store.usage().capacity_bytes - pool.store.usage().used_bytes;
    let mut keys = 0;
    while left(&pool) > 4 << 20 {
        put(&mut pool, keys);
        keys += 1;
        if keys % 1000 == 0 {
            pool.commit();
        }
    }
    remove_others(4, keys, &mut pool);
    let before = pool.store.usage();
    assert!(before.used_bytes > 3 * before.live_bytes, "{before:?}");
    let mut pass = Evacuation::default();
    pool.evacuate(&mut pass);
    assert_eq!(pool.store.usage().used_bytes, before.used_bytes);
    let mut passes = 0;
    while pool.store.should_evacuate(true) {
        pool.one_pass(&mut pass, true, &mut |_| {});
        passes += 1;
        assert!(passes < 10, "passes come to an end");
    }
    assert_compact(&pool.store.usage(), before);
    pool.assert_sound();
}

/// The limit is the shard's; a member that was started for less has addresses for so much.
#[test]
fn a_limit_beyond_what_can_be_mapped_gives_no_room() {
    let mut pool = Pool::on(HeapMedia::new(48 << 20), [3; 16], 256 << 20);
    let change = Demand::of_any_size(64 << 10);
    let mut keys = 0;
    while pool.store.room_left().takes(&change, Spare::Deletes) {
        put(&mut pool, keys);
        keys += 1;
        if keys % 1000 == 0 {
            pool.commit();
        }
    }
    assert!(keys > 10_000, "{keys}");
    assert!(!pool.store.has_plenty(&change, Spare::Deletes));
    remove_others(4, keys, &mut pool);
    assert!(pool.store.should_evacuate(true), "{:?}", pool.store.usage());
    pool.evacuate(&mut Evacuation::default());
    assert!(pool.store.room_left().takes(&Demand::of_any_size(10 << 20), Spare::Deletes));
    pool.store.set_capacity_bytes(1 << 30);
    assert!(!pool.store.room_left().takes(&Demand::of_any_size(48 << 20), Spare::Deletes));
    pool.assert_sound();
}

/// Damage to one superblock leads to the epoch before, which the file must be long enough for.
fn assert_either_superblock_opens(path: &std::path::Path, options: &PoolOptions) {
    let bytes = std::fs::read(path).unwrap();
    for at in SUPERBLOCK_AT {
        let mut bytes = bytes.clone();
        bytes[at as usize + 70] ^= 1;
        let media = HeapMedia::with_bytes(&bytes, options.capacity_bytes * 2);
        let (store, ..) = Store::open(Arc::new(Mem::new(Box::new(media))), options).unwrap();
        assert_eq!(store.len(DB), 1000);
    }
}

#[test]
fn what_is_free_at_the_end_goes_back_to_the_file_system() {
    for folder in [std::path::Path::new("/dev/shm"), &std::env::temp_dir()] {
        let folder = tempfile::tempdir_in(folder).unwrap();
        let path = folder.path().join("pool");
        let options =
            PoolOptions { capacity_bytes: 128 << 20, new_hash_key: [7, 11], new_uuid: [3; 16] };
        let (store, committer, _) = Store::open_file(&path, &options).unwrap();
        let mut pool = Pool { mem: store.mem_arc(), store, committer, index: 0 };
        let file_mib = || std::fs::metadata(&path).unwrap().len() >> 20;
        thin_out(&mut pool);
        let long = file_mib();
        // Somebody still reads what was there before blocks were moved.
        let pin = pool.store.pin();
        let mut pass = Evacuation::default();
        for _ in 0..8 {
            pool.store.evacuate(&mut pass, 10_000, false).unwrap();
            pool.commit();
            while pool.store.shrink_some().unwrap() {}
        }
        let pinned = file_mib();
        for n in (0..20_000u64).step_by(20) {
            let key = n.to_string();
            let record = pin.view().get(DB, &pool.store.key(key.as_bytes())).unwrap().unwrap();
            assert_eq!(record.value().to_vec().unwrap(), fill(n, 2000));
        }
        drop(pin);
        pool.commit();
        pool.evacuate(&mut pass);
        assert!(!pool.store.shrink_some().unwrap() && file_mib() == pinned, "too early");
        pool.commit();
        assert!(!pool.store.shrink_some().unwrap() && file_mib() == pinned, "too early");
        pool.commit();
        while pool.store.shrink_some().unwrap() {}
        let short = file_mib();
        println!("{}: {long} MiB, pinned {pinned} MiB, then {short} MiB", folder.path().display());
        assert!(long > 40 && pinned > 40 && short <= 10);
        assert_thinned(&pool);
        assert_either_superblock_opens(&path, &options);
        pool.assert_sound();
        // It can grow again, and is found again.
        thin_out(&mut pool);
        assert_thinned(&pool);
        pool.assert_sound();
        drop(pool);
        let (store, committer, _) = Store::open_file(&path, &options).unwrap();
        let mut pool = Pool { mem: store.mem_arc(), store, committer, index: 1000 };
        assert_thinned(&pool);
        pool.assert_sound();
    }
}

#[test]
fn a_file_that_a_crash_left_long_is_cut_after_the_next_open() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("pool");
    let options =
        PoolOptions { capacity_bytes: 128 << 20, new_hash_key: [7, 11], new_uuid: [3; 16] };
    let open = |index| {
        let (store, committer, _) = Store::open_file(&path, &options).unwrap();
        Pool { mem: store.mem_arc(), store, committer, index }
    };
    let mut pool = open(0);
    thin_out(&mut pool);
    pool.evacuate(&mut Evacuation::default());
    (0..2).for_each(|_| pool.commit());
    let long = std::fs::metadata(&path).unwrap().len();
    drop(pool);
    let mut pool = open(1000);
    assert!(!pool.store.shrink_some().unwrap(), "too early");
    // Two commits of nothing are enough.
    for _ in 0..2 {
        let sealed = pool.store.seal().expect("it is waited for");
        pool.store.release(pool.committer.commit(sealed).unwrap());
    }
    assert!(pool.store.seal().is_none(), "nothing is waited for any more");
    while pool.store.shrink_some().unwrap() {}
    assert!(std::fs::metadata(&path).unwrap().len() < long / 4);
    assert_thinned(&pool);
    pool.assert_sound();
}
