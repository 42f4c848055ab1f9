//! One key at a time and in batches of 16: GET hit and miss, SET overwrite and insert, DEL, with
//! std's `HashMap` (hashbrown, SipHash) beside them.
//!
//! `CAIRN_BENCH_KEYS=10000000` sets the number of keys (1,000,000 by default). The pool commits
//! every 20,000 writes, as a node on tmpfs does.
#![allow(missing_docs)]

use cairn_store::media::FileMedia;
use cairn_store::persist::Mem;
use cairn_store::{Committer, Db, Encoding, Key, Meta, PoolOptions, Store, Type};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const VALUE: [u8; 100] = [b'v'; 100];
const BATCH: usize = 16;
/// How many keys the benches of DEL and insert take out before they put them in again.
const CHURN: u64 = 50_000;

/// What is measured, and what stands beside it.
trait Table {
    fn put(&mut self, name: &[u8]);
    fn remove(&mut self, name: &[u8]);
}

type Map = HashMap<Vec<u8>, Vec<u8>>;

impl Table for Map {
    fn put(&mut self, name: &[u8]) {
        self.insert(name.to_vec(), VALUE.to_vec());
    }

    fn remove(&mut self, name: &[u8]) {
        assert!(HashMap::remove(self, name).is_some(), "a key that was put");
    }
}

struct Pool {
    store: Store,
    committer: Committer,
    writes: u64,
}

impl Pool {
    fn new() -> Pool {
        let capacity_bytes = 8 << 30;
        let file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file in /dev/shm");
        let (media, _) = FileMedia::open(file.path(), 4 * capacity_bytes).expect("a pool");
        let options = PoolOptions { capacity_bytes, new_hash_key: [1, 2], new_uuid: [0; 16] };
        let (store, committer, _) =
            Store::open(Arc::new(Mem::new(Box::new(media))), &options).expect("an empty pool");
        Pool { store, committer, writes: 0 }
    }

    /// The hashed keys of a batch, whose lines have been asked for together.
    fn together<'k>(&self, names: &'k [[u8; 20]; BATCH]) -> [(Db, Key<'k>); BATCH] {
        let keys = std::array::from_fn(|i| (Db(0), self.store.key(&names[i])));
        self.store.view().prefetch(&keys);
        keys
    }

    fn get_batch(&self, names: &[[u8; 20]; BATCH]) {
        for (db, key) in &self.together(names) {
            let found = self.store.get(*db, key).expect("sound");
            black_box(found.map(|record| record.value().len()));
        }
    }

    fn put_batch(&mut self, names: &[[u8; 20]; BATCH]) {
        for (db, key) in &self.together(names) {
            self.store.put(*db, key, TEXT, &VALUE).expect("room");
            self.wrote();
        }
    }

    fn wrote(&mut self) {
        self.writes += 1;
        if self.writes.is_multiple_of(20_000)
            && let Some(sealed) = self.store.seal()
        {
            let published = self.committer.commit(sealed).expect("a commit");
            self.store.release(published);
        }
    }
}

impl Table for Pool {
    fn put(&mut self, name: &[u8]) {
        let key = self.store.key(name);
        self.store.put(Db(0), &key, TEXT, &VALUE).expect("room");
        self.wrote();
    }

    fn remove(&mut self, name: &[u8]) {
        let key = self.store.key(name);
        assert!(self.store.remove(Db(0), &key).expect("sound"), "a key that was put");
        self.wrote();
    }
}

/// The time that `count` DELs of keys from anywhere take, and that of putting those in again.
fn time_churn(table: &mut impl Table, order: &mut Order, count: u64) -> (Duration, Duration) {
    let (mut removes, mut inserts, mut done) = (Duration::ZERO, Duration::ZERO, 0);
    while done < count {
        let round = CHURN.min(order.keys).min(count - done);
        let names: Vec<_> = (0..round).map(|_| name(order.next())).collect();
        let start = Instant::now();
        names.iter().for_each(|name| table.remove(name));
        removes += start.elapsed();
        let start = Instant::now();
        names.iter().for_each(|name| table.put(name));
        inserts += start.elapsed();
        done += round;
    }
    (removes, inserts)
}

fn keys() -> u64 {
    std::env::var("CAIRN_BENCH_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

fn name(n: u64) -> [u8; 20] {
    let mut name = *b"key:0000000000000000";
    let mut rest = n;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

/// A walk over all of `0..keys` in no order.
struct Order {
    at: u64,
    keys: u64,
}

impl Order {
    fn next(&mut self) -> u64 {
        self.at = (self.at + 7_368_787) % self.keys;
        self.at
    }

    fn names(&mut self, first: u64) -> [[u8; 20]; BATCH] {
        std::array::from_fn(|_| name(first + self.next()))
    }
}

fn bench(c: &mut Criterion) {
    let keys = keys();
    let mut pool = Pool::new();
    let mut map: Map = Map::new();
    for n in 0..keys {
        pool.put(&name(n));
        map.put(&name(n));
    }
    let usage = pool.store.usage();
    println!(
        "{keys} keys: {:.1} live bytes a key, {:.1} in the file",
        usage.live_bytes as f64 / keys as f64,
        usage.extents_bytes as f64 / keys as f64
    );
    let mut order = Order { at: 0, keys };
    let mut group = c.benchmark_group(format!("{keys} keys"));
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    group.warm_up_time(Duration::from_millis(500)).throughput(Throughput::Elements(1));
    group.bench_function("get hit", |b| {
        b.iter(|| {
            let name = name(order.next());
            let found = pool.store.get(Db(0), &pool.store.key(&name)).expect("sound");
            black_box(found.map(|record| record.value().len()))
        })
    });
    group.bench_function("get hit, std map", |b| {
        b.iter(|| black_box(map.get(&name(order.next())[..]).map(Vec::len)))
    });
    group.bench_function("get miss", |b| {
        b.iter(|| {
            let name = name(keys + order.next());
            black_box(pool.store.get(Db(0), &pool.store.key(&name)).expect("sound").is_some())
        })
    });
    group.bench_function("get miss, std map", |b| {
        b.iter(|| black_box(map.contains_key(&name(keys + order.next())[..])))
    });
    group.bench_function("set overwrite", |b| b.iter(|| pool.put(&name(order.next()))));
    group.bench_function("set overwrite, std map", |b| b.iter(|| map.put(&name(order.next()))));
    group.bench_function("set insert", |b| {
        b.iter_custom(|n| time_churn(&mut pool, &mut order, n).1);
    });
    group.bench_function("set insert, std map", |b| {
        b.iter_custom(|n| time_churn(&mut map, &mut order, n).1);
    });
    group.bench_function("del", |b| b.iter_custom(|n| time_churn(&mut pool, &mut order, n).0));
    group.bench_function("del, std map", |b| {
        b.iter_custom(|n| time_churn(&mut map, &mut order, n).0)
    });
    // Times are for a batch: the throughput says how many keys a second that makes.
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("get hit, 16 at a time", |b| {
        b.iter(|| pool.get_batch(&order.names(0)));
    });
    group.bench_function("get miss, 16 at a time", |b| {
        b.iter(|| pool.get_batch(&order.names(keys)));
    });
    group.bench_function("set overwrite, 16 at a time", |b| {
        b.iter(|| pool.put_batch(&order.names(0)));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
