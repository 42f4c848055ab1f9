//! One key at a time and in batches: GET hit and miss, SET overwrite and insert, DEL, with std's
//! `HashMap` (hashbrown) beside them.
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
use std::time::Duration;

const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const VALUE: [u8; 100] = [b'v'; 100];

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

    fn put(&mut self, name: &[u8]) {
        let key = self.store.key(name);
        self.store.put(Db(0), &key, TEXT, &VALUE).expect("room");
        self.wrote();
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
}

fn bench(c: &mut Criterion) {
    let keys = keys();
    let mut pool = Pool::new();
    let mut map: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for n in 0..keys {
        pool.put(&name(n));
        map.insert(name(n).to_vec(), VALUE.to_vec());
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
    group.bench_function("set overwrite", |b| b.iter(|| pool.put(&name(order.next()))));
    group.bench_function("set overwrite, std map", |b| {
        b.iter(|| map.insert(name(order.next()).to_vec(), VALUE.to_vec()))
    });
    let mut fresh = keys;
    group.bench_function("set insert", |b| {
        b.iter(|| {
            fresh += 1;
            pool.put(&name(fresh));
        })
    });
    let mut doomed = keys;
    group.bench_function("del", |b| {
        b.iter(|| {
            doomed += 1;
            let name = name(doomed);
            let key = pool.store.key(&name);
            black_box(pool.store.remove(Db(0), &key).expect("sound"));
            pool.wrote();
        })
    });
    group.throughput(Throughput::Elements(16));
    group.bench_function("get hit, 16 at a time", |b| {
        b.iter(|| {
            let names: [[u8; 20]; 16] = std::array::from_fn(|_| name(order.next()));
            let batch: [(Db, Key<'_>); 16] =
                std::array::from_fn(|i| (Db(0), pool.store.key(&names[i])));
            pool.store.view().prefetch(&batch);
            for (db, key) in &batch {
                let found = pool.store.get(*db, key).expect("sound");
                black_box(found.map(|record| record.value().len()));
            }
        })
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
