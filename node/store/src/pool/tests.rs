use super::*;
use crate::alloc::record::read;
use crate::blob::{Encoding, Meta, Type};
use crate::check::check;
use crate::evacuate::{Evacuation, Progress};
use crate::keyspace::Db;
use crate::layout::pool::{RECORD, SLABS_PER_EXTENT, record, record_at};
use crate::media::HeapMedia;

const META: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: 96 << 20, new_hash_key: [1, 2], new_uuid: [3; 16] };

fn pool() -> (Arc<Mem>, Store, Committer) {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(112 << 20))));
    let (store, committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
    (mem, store, committer)
}

fn write(store: &mut Store, committer: &mut Committer, name: &[u8]) {
    let key = store.key(name);
    store.put(Db(0), &key, META, b"value").unwrap();
    let sealed = store.seal().expect("there is something to commit");
    store.release(committer.commit(sealed).unwrap());
}

/// What a kill leaves opens, holds what was committed, and is sound.
fn reopens(mem: Arc<Mem>, names: &[&[u8]]) {
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
    for name in names {
        assert!(store.get(Db(0), &store.key(name)).unwrap().is_some());
    }
    write(&mut store, &mut committer, b"more");
    drop((store, committer));
    let report = check(mem, true, &mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn an_idle_pool_uses_no_epochs() {
    let (mem, mut store, mut committer) = pool();
    write(&mut store, &mut committer, b"a");
    let before = store.epoch();
    for _ in 0..1000 {
        assert!(store.seal().is_none());
    }
    assert_eq!(store.epoch(), before);
    drop((store, committer));
    reopens(mem, &[b"a"]);
}

#[test]
fn a_commit_raises_the_ceiling_before_it_is_near() {
    for ahead in [0, 1, EPOCHS_AHEAD / 2 - 1, EPOCHS_AHEAD / 2] {
        let (mem, mut store, mut committer) = pool();
        write(&mut store, &mut committer, b"a");
        // However it came there.
        store.heap.epoch = store.committed.ceiling - ahead;
        store.heap.mem.set_now(store.heap.epoch);
        write(&mut store, &mut committer, b"b");
        assert!(store.committed.ceiling >= store.committed.epoch + EPOCHS_AHEAD / 2);
        drop((store, committer));
        reopens(mem, &[b"a", b"b"]);
    }
}

#[test]
fn no_epoch_above_the_ceiling_is_committed() {
    for beyond in [1, 5, EPOCHS_AHEAD] {
        let (mem, mut store, mut committer) = pool();
        write(&mut store, &mut committer, b"a");
        store.heap.epoch = store.committed.ceiling + beyond;
        store.heap.mem.set_now(store.heap.epoch);
        store.put(Db(0), &store.key(b"b"), META, b"value").unwrap();
        let refused = committer.commit(store.seal().unwrap()).err().expect("a refusal");
        assert!(refused.to_string().contains("restart the node"), "{refused}");
        drop((store, committer));
        reopens(mem, &[b"a"]);
    }
}

/// The copies of the records of all slabs, as they lie in the pool.
fn records(mem: &Mem, extents: u64) -> Vec<[Vec<u8>; 2]> {
    let copy = |slab, copy| mem.bytes(record_at(slab, copy), RECORD).unwrap().to_vec();
    (0..extents * SLABS_PER_EXTENT).map(|slab| [copy(slab, 0), copy(slab, 1)]).collect()
}

fn epoch_of(copy: &[u8]) -> u64 {
    u64::from_le_bytes(copy[record::EPOCH..record::EPOCH + 8].try_into().unwrap())
}

fn name(n: u32) -> Vec<u8> {
    format!("{{tag}}key:{n}").into_bytes()
}

/// Writes to most of the pool.
fn fill(store: &mut Store, byte: u8) {
    for n in 0..4000 {
        store.put(Db(0), &store.key(&name(n)), META, &[byte; 16_000]).unwrap();
    }
}

/// Has a full pool emptied, and the extents at its end let go of before any superblock says so.
/// Returns how many those count.
fn fill_and_let_go(store: &mut Store, committer: &mut Committer) -> u64 {
    fill(store, b'v');
    write(store, committer, b"a");
    for n in 0..4000 {
        assert!(store.remove(Db(0), &store.key(&name(n))).unwrap());
    }
    let extents = store.heap.alloc.extents();
    let mut pass = Evacuation::default();
    let cuts = (0..100).any(|_| {
        while store.evacuate(&mut pass, 1000, true).unwrap() == Progress::More {}
        // Those at the very end were never used.
        let is_cut = store.heap.alloc.extents() < extents / 2;
        if !is_cut {
            write(store, committer, b"a");
            while store.reclaim(1000).unwrap() {}
            while store.recycle_dead(1000) {}
        }
        is_cut
    });
    assert!(cuts, "little is let go of");
    store.heap.alloc.counted_extents
}

/// The extents are let go of and taken back before any superblock says so. Of what that wrote, a
/// crash keeps the pages with the newer copies of the records and not those with the older.
#[test]
fn extents_that_come_back_within_an_epoch_bring_no_old_bitmaps_back() {
    let (mem, mut store, mut committer) = pool();
    let extents = fill_and_let_go(&mut store, &mut committer);
    let before = records(&mem, extents);
    fill(&mut store, b'w');
    assert!(store.heap.alloc.extents() >= extents);
    for (slab, copies) in (0..).zip(&before) {
        let older = usize::from(epoch_of(&copies[1]) < epoch_of(&copies[0]));
        mem.store(record_at(slab, older as u64), &copies[older]).unwrap();
    }
    let committed = committed_of(&store.committed);
    let found = (0..extents * SLABS_PER_EXTENT).map(|slab| read(&mem, slab, &committed).unwrap());
    let full = found.flatten().filter(|record| record.bits.iter().any(|word| *word != 0)).count();
    assert!(full < 32, "{full} slabs are full again");
    drop((store, committer));
    reopens(mem, &[b"a"]);
}

/// As after a kill before what had died was entered: it was counted, and nothing ever takes it off.
#[test]
fn nothing_counts_as_kept_when_no_snapshot_is_left() {
    let (mem, mut store, mut committer) = pool();
    write(&mut store, &mut committer, b"a");
    store.take_snapshot(b"s", 0).unwrap();
    store.heap.alloc.set_kept_bytes(640_000);
    write(&mut store, &mut committer, b"b");
    drop((store, committer));
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
    write(&mut store, &mut committer, b"c");
    assert!(store.usage().kept_bytes >= 640_000, "a snapshot may see it");
    store.drop_snapshot(b"s").unwrap();
    while store.reclaim(100).unwrap() {}
    write(&mut store, &mut committer, b"d");
    assert_eq!(store.usage().kept_bytes, 0);
    drop((store, committer));
    let (store, ..) = Store::open(mem.clone(), &OPTIONS).unwrap();
    assert_eq!(store.usage().kept_bytes, 0);
    drop(store);
    reopens(mem, &[b"a", b"b", b"c", b"d"]);
}

/// On DAX a range is given its space by zeros written through the file: of the copies of a record that
/// they reach a power cut might keep the older as it was.
#[test]
fn growing_over_extents_that_are_taken_back_leaves_their_records_as_they_are() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("a.pool");
    let Some(media) = FileMedia::open_as_dax(&path, 4 * OPTIONS.capacity_bytes).unwrap() else {
        return;
    };
    let mem = Arc::new(Mem::new(Box::new(media)));
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
    let extents = fill_and_let_go(&mut store, &mut committer);
    let before = records(&mem, extents);
    let at_the_end = &before[before.len() / 2..];
    assert!(at_the_end.iter().flatten().filter(|copy| epoch_of(copy) > 0).count() > 100);
    fill(&mut store, b'w');
    assert!(store.heap.alloc.extents() >= extents);
    assert!(records(&mem, extents) == before, "no commit has come since");
    write(&mut store, &mut committer, b"b");
    drop((store, committer));
    reopens(mem, &[b"a", b"b"]);
}
