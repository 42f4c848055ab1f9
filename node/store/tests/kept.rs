//! Snapshots in pools that are full: what they keep takes pages of its own, and those find room, or
//! wait for it, and nothing is lost meanwhile.

mod common;

use cairn_store::check::check;
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{
    Committer, Db, Encoding, Meta, PoolOptions, SnapshotOutcome, Store, StoreError, Type,
};
use common::{Rng, seeds};
use std::sync::Arc;

const DB: Db = Db(0);
const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };

struct Pool {
    mem: Arc<Mem>,
    store: Store,
    committer: Committer,
    capacity_bytes: u64,
}

impl Pool {
    fn new(capacity_bytes: u64) -> Pool {
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(capacity_bytes * 2))));
        Pool::open(mem, capacity_bytes)
    }

    fn open(mem: Arc<Mem>, capacity_bytes: u64) -> Pool {
        let options = PoolOptions { capacity_bytes, new_hash_key: [7, 11], new_uuid: [3; 16] };
        let (store, committer, _) = Store::open(mem.clone(), &options).unwrap();
        Pool { mem, store, committer, capacity_bytes }
    }

    /// What is left when the process is killed.
    fn reopen(self) -> Pool {
        let Pool { mem, store, committer, capacity_bytes } = self;
        drop((store, committer));
        let report = check(mem.clone(), true, &mut |_, _| {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
        Pool::open(mem, capacity_bytes)
    }

    fn commit(&mut self) {
        if let Some(sealed) = self.store.seal() {
            self.store.release(self.committer.commit(sealed).unwrap());
        }
    }

    /// What goes on between two ticks while nobody writes.
    fn tick(&mut self) {
        self.commit();
        if self.store.is_tight() {
            self.commit();
            while self.store.recycle_dead(1000) {}
        }
        while self.store.reclaim(8).unwrap() {}
    }

    /// Ticks until there is nothing left to do.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            self.tick();
            if !self.store.has_dropped() {
                (0..4).for_each(|_| self.tick());
                return;
            }
        }
        panic!("it does not come to an end: {:?}", self.store.usage());
    }

    /// Ticks until nothing is left to do, or nothing changes any more.
    fn settle_or_wait(&mut self) {
        let mut still = 0;
        while self.store.has_dropped() && still < 8 {
            let before = (self.store.usage().kept_bytes, self.store.usage().live_bytes);
            self.tick();
            let after = (self.store.usage().kept_bytes, self.store.usage().live_bytes);
            still = if before == after { still + 1 } else { 0 };
        }
    }

    /// Puts short keys until there is no room; returns how many.
    fn fill(&mut self) -> u64 {
        for n in 0.. {
            let name = format!("k{n:08}");
            match self.store.put(DB, &self.store.key(name.as_bytes()), TEXT, &[b'v'; 16]) {
                Ok(()) => {}
                Err(StoreError::Full) => return n,
                Err(error) => panic!("{error}"),
            }
            if n % 5000 == 0 {
                self.commit();
            }
        }
        0
    }
}

#[test]
fn a_snapshot_of_a_full_pool_is_dropped_in_what_room_there_is() {
    for kills in [false, true] {
        let mut pool = Pool::new(16 << 20);
        let keys = pool.fill();
        pool.commit();
        for name in [b"a", b"b"] {
            assert_eq!(pool.store.take_snapshot(name, 0).unwrap(), SnapshotOutcome::Done);
        }
        pool.store.drop_db(DB).unwrap();
        pool.settle_or_wait();
        pool.store.drop_snapshot(b"b").unwrap();
        for _ in 0..if kills { 20 } else { 0 } {
            pool.tick();
            pool = pool.reopen();
        }
        pool.settle_or_wait();
        let found = pool.store.pin_snapshot(b"a").unwrap().unwrap();
        assert_eq!(found.view().len(DB), keys);
        drop(found);
        pool = pool.reopen();
        pool.store.drop_snapshot(b"a").unwrap();
        pool.settle();
        assert_eq!(pool.store.usage().kept_bytes, 0);
        pool = pool.reopen();
        assert!(pool.fill() > keys * 9 / 10);
    }
}

/// Histories of puts, deletes, flushes, snapshots and kills in a pool that is nearly always full:
/// nothing fails but for lack of room before it is begun, and every block is accounted for.
#[test]
fn nothing_is_lost_where_snapshots_fill_a_pool() {
    for seed in seeds(3) {
        println!("seed {seed}");
        let mut rng = Rng(seed);
        let mut pool = Pool::new(14 << 20);
        let mut names = 0;
        for step in 0..120 {
            match rng.below(10) {
                0..=2 => drop(pool.fill()),
                3 => {
                    names += 1;
                    let name = format!("s{names}");
                    match pool.store.take_snapshot(name.as_bytes(), 0) {
                        Ok(_) | Err(StoreError::Full) => {}
                        Err(error) => panic!("seed {seed}, step {step}: {error}"),
                    }
                }
                4 | 5 => {
                    let all = pool.store.snapshots().unwrap();
                    if all.len() > 2 || !all.is_empty() && rng.below(2) == 0 {
                        let name = &all[rng.below(all.len() as u64) as usize].name;
                        pool.store.drop_snapshot(name).unwrap();
                    }
                }
                6 => pool.store.drop_db(DB).unwrap(),
                7 => {
                    for _ in 0..2000 {
                        let name = format!("k{:08}", rng.below(150_000));
                        // As operations are held against the room there is.
                        let demand = cairn_store::Demand::of_nodes(64 << 10);
                        let spare = cairn_store::Spare::Snapshots;
                        if pool.store.room_left().takes(&demand, spare) {
                            let key = pool.store.key(name.as_bytes());
                            pool.store.remove(DB, &key).unwrap();
                        }
                    }
                }
                8 => (0..1 + rng.below(5)).for_each(|_| pool.tick()),
                _ => {
                    pool.tick();
                    pool = pool.reopen();
                }
            }
        }
        for snapshot in pool.store.snapshots().unwrap() {
            pool.store.drop_snapshot(&snapshot.name).unwrap();
        }
        pool.store.drop_db(DB).unwrap();
        pool.settle();
        let usage = pool.store.usage();
        assert!(usage.live_bytes < 64 << 10 && usage.kept_bytes == 0, "{usage:?}");
        drop(pool.reopen());
    }
}
