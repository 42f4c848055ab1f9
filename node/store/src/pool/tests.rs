use super::*;
use crate::blob::{Encoding, Meta, Type};
use crate::check::check;
use crate::keyspace::Db;
use crate::media::HeapMedia;

const META: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: 16 << 20, new_hash_key: [1, 2], new_uuid: [3; 16] };

fn pool() -> (Arc<Mem>, Store, Committer) {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(32 << 20))));
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
fn no_epoch_above_the_ceiling_is_committed() {
    for beyond in [0, 1, 5, EPOCHS_AHEAD] {
        let (mem, mut store, mut committer) = pool();
        write(&mut store, &mut committer, b"a");
        // However it came there.
        store.heap.epoch = store.committed.ceiling + beyond;
        store.heap.mem.set_now(store.heap.epoch);
        write(&mut store, &mut committer, b"b");
        assert!(store.committed.ceiling >= store.committed.epoch + EPOCHS_AHEAD / 2);
        drop((store, committer));
        reopens(mem, &[b"a", b"b"]);
    }
}
