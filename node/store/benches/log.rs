//! What does an append cost, and an open? The figures DESIGN section 3 was drawn with: 150-byte
//! records, batches of 1, 16, 64 and 256.
//!
//! `Memory` wants `/dev/shm`; `File` writes to the directory in `CAIRN_BENCH_DIR`, else to the
//! system's temporary one, which should be a real file system.

use cairn_protocol::ids::{LogIndex, ShardId, Term};
use cairn_store::log::{Done, Entry, EntryKind, Log, LogId, LogKind, LogOptions};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::mpsc;

const SHARD: ShardId = ShardId(0);

/// A directory that goes with the bench.
struct Dir(PathBuf);

impl Dir {
    fn new(kind: LogKind) -> Self {
        let base = match kind {
            LogKind::Memory => PathBuf::from("/dev/shm"),
            _ => std::env::var_os("CAIRN_BENCH_DIR").map_or(std::env::temp_dir(), PathBuf::from),
        };
        let dir = base.join(format!("cairn-bench-log-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(dir: &Dir, kind: LogKind) -> Log {
    Log::open(&LogOptions::new(&dir.0, kind)).expect("the log opens").0
}

fn entries<'a>(from: u64, n: usize, payload: &'a [&'a [u8]]) -> Vec<Entry<'a>> {
    let entry = |index| Entry {
        shard: SHARD,
        term: Term(1),
        index: LogIndex(index),
        kind: EntryKind::Normal,
        payload,
    };
    (from..).take(n).map(entry).collect()
}

/// Keeps the log as short as a node does: it purges behind what it has committed.
fn purge(log: &Log, last: u64) {
    if last.is_multiple_of(50_000) {
        log.purge(SHARD, LogId::new(Term(1), LogIndex(last))).expect("purges");
    }
}

fn append_now(c: &mut Criterion) {
    let mut group = c.benchmark_group("append_now");
    for kind in [LogKind::Memory, LogKind::FileEverySec] {
        for n in [1, 16, 64, 256] {
            let dir = Dir::new(kind);
            let log = open(&dir, kind);
            let payload = [1u8; 150];
            let parts: [&[u8]; 2] = [&payload[..32], &payload[32..]];
            let mut batch = entries(1, n, &parts);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(format!("{kind:?}/{n}"), |b| {
                b.iter(|| {
                    log.append_now(black_box(&batch)).expect("appends");
                    for entry in &mut batch {
                        purge(&log, entry.index.0);
                        entry.index.0 += n as u64;
                    }
                });
            });
        }
    }
    group.finish();
}

fn append_file(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.sample_size(20);
    for n in [1, 16, 64, 256] {
        let dir = Dir::new(LogKind::File);
        let log = open(&dir, LogKind::File);
        let payload = [1u8; 150];
        let parts: [&[u8]; 2] = [&payload[..32], &payload[32..]];
        let mut batch = entries(1, n, &parts);
        let (tx, rx) = mpsc::channel();
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(format!("File/{n}"), |b| {
            b.iter(|| {
                let tx = tx.clone();
                let done: Done = Box::new(move |result| tx.send(result).expect("awaited"));
                log.append(black_box(&batch), done);
                rx.recv().expect("called").expect("appends");
                for entry in &mut batch {
                    purge(&log, entry.index.0);
                    entry.index.0 += n as u64;
                }
            });
        });
    }
    group.finish();
}

/// Opening a log of which two full segments are needed.
fn reopen(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(20);
    for kind in [LogKind::Memory, LogKind::File] {
        for len in [150usize, 16 << 10] {
            let dir = Dir::new(kind);
            let log = open(&dir, kind);
            let payload = vec![1u8; len];
            let parts: [&[u8]; 1] = [&payload];
            let n = (32 << 20) / (len + 64);
            for chunk in entries(1, n, &parts).chunks(64) {
                log.append(chunk, Box::new(|result| result.expect("appends")));
            }
            log.close().expect("closes");
            drop(log);
            group.bench_function(format!("{kind:?}/{len} B records, 32 MiB"), |b| {
                b.iter_batched(|| (), |()| open(&dir, kind), BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, append_now, append_file, reopen);
criterion_main!(benches);
