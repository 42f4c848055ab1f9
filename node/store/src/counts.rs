//! How often each operation asks its medium for something, pinned: a flush or a fence more is time
//! that every write pays, one fewer may be a crash that loses something.
//!
//! The figures are those of the instructions and system calls themselves, on tmpfs in the place of
//! DAX and of a disk. To change one on purpose, run `cargo test -p cairn-store --lib counts`, read in
//! the failure what it is now, say in the commit why that is right, and write it into the row.

use crate::layout::pool::records_at;
use crate::log::medium::{Access, DirMedium};
use crate::log::{Entry, EntryKind, Log, LogId, LogKind, LogOptions};
use crate::media::FileMedia;
use crate::media::lines::WriteBack;
use crate::media::lines::counted::{self, Counts};
use crate::media::map::Sharing;
use crate::persist::Mem;
use crate::{Committer, Db, Encoding, Meta, PoolOptions, Store, StoreError, Type};
use cairn_protocol::ids::{LogIndex, ShardId, Term};
use std::path::Path;
use std::sync::Arc;

/// What a row's work asks for on DAX: ranges written back, cache lines in them, fences.
type OnDax = [u64; 3];

/// What other work asks for: the same, and syncs, or writes that are one.
type Row = (&'static str, [u64; 4]);

/// Asserts all rows at once, so that a failure shows the whole table as it is now.
fn assert_rows<const N: usize>(
    what: &str,
    wanted: &[(&str, [u64; N])],
    found: &[(&str, [u64; N])],
) {
    let text = |rows: &[(&str, [u64; N])]| -> String {
        rows.iter().map(|(name, counts)| format!("  {name:42} {counts:?}\n")).collect()
    };
    assert!(wanted == found, "{what}\nwanted:\n{}found:\n{}", text(wanted), text(found));
}

fn scratch() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let made = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
    made.expect("a directory")
}

// ------------------------------------------------------------------------ pool

const CAPACITY: u64 = 64 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const PACKED: Meta = Meta { ty: Type::Hash, encoding: Encoding::Listpack, deadline_ms: None };
const HASH: Meta = Meta { ty: Type::Hash, encoding: Encoding::Hashtable, deadline_ms: None };
const ZSET: Meta = Meta { ty: Type::ZSet, encoding: Encoding::Skiplist, deadline_ms: None };

type Pool = (Store, Committer);
type Work = fn(&mut Store);

fn pool(media: FileMedia) -> Pool {
    let mem = Arc::new(Mem::new(Box::new(media)));
    let (mut store, committer, _) = Store::open(mem, &OPTIONS).expect("opens");
    for i in 0..1000u32 {
        store.put(Db(0), &store.key(format!("key:{i}").as_bytes()), TEXT, &[7; 100]).expect("fits");
    }
    store.put(Db(0), &store.key(b"packed"), PACKED, &[7; 200]).expect("fits");
    let members = |i: u32| format!("member:{i}").into_bytes();
    let key = store.key(b"hash");
    let built = store.build(Db(0), &key, HASH, |edit| {
        (0..1000).try_for_each(|i| edit.put(&members(i), b"value").map(drop))
    });
    built.expect("fits");
    let key = store.key(b"zset");
    let built = store.build(Db(0), &key, ZSET, |edit| {
        (0..1000).try_for_each(|i| edit.rank_put(&members(i), f64::from(i)).map(drop))
    });
    built.expect("fits");
    let mut pool = (store, committer);
    // The second one finds all that the first has made allocated.
    commit(&mut pool);
    pool
}

fn commit((store, committer): &mut Pool) {
    if let Some(sealed) = store.seal() {
        store.release(committer.commit(sealed).expect("commits"));
    }
}

/// What writers do. None of them flushes or fences anything: the commit does.
const WORK: [(&str, Work); 7] = [
    ("nothing but an applied entry", |_| {}),
    ("SET of a new key, 100 B", |store| put(store, "new", 100)),
    ("SET of a key, 100 B", |store| put(store, "key:500", 100)),
    ("SET of a key twice in an epoch", |store| {
        put(store, "key:500", 100);
        put(store, "key:500", 100);
    }),
    ("HSET into a packed hash of 200 B", |store| {
        store.put(Db(0), &store.key(b"packed"), PACKED, &[8; 210]).expect("fits");
    }),
    ("HSET into a hash of 1000 fields", |store| {
        let key = store.key(b"hash");
        let edited = store.edit(Db(0), &key, |edit| -> Result<(), StoreError> {
            edit.put(b"member:7", b"other").map(drop)
        });
        edited.expect("fits");
    }),
    ("ZADD into a sorted set of 1000 members", |store| {
        let key = store.key(b"zset");
        let edited = store.edit(Db(0), &key, |edit| -> Result<(), StoreError> {
            edit.rank_put(b"member:7", 500.5).map(drop)
        });
        edited.expect("fits");
    }),
];

fn put(store: &mut Store, name: &str, len: usize) {
    store.put(Db(0), &store.key(name.as_bytes()), TEXT, &vec![8; len]).expect("fits");
}

fn dax(counts: Counts) -> OnDax {
    let Counts { flushes, lines, fences, syncs } = counts;
    assert_eq!(syncs, 0, "a sync on DAX");
    [flushes, lines, fences]
}

#[test]
fn writers_flush_nothing_and_a_commit_flushes_what_they_made_behind_two_fences() {
    // A superblock is 64 lines, a slab's record 5 or 6; a path of blocks is copied once an epoch.
    let wanted: &[(&str, OnDax)] = &[
        ("nothing but an applied entry", [1, 64, 2]),
        ("SET of a new key, 100 B", [12, 177, 2]),
        ("SET of a key, 100 B", [12, 177, 2]),
        ("SET of a key twice in an epoch", [12, 177, 2]),
        ("HSET into a packed hash of 200 B", [14, 189, 2]),
        ("HSET into a hash of 1000 fields", [20, 211, 2]),
        ("ZADD into a sorted set of 1000 members", [27, 267, 2]),
    ];
    let dir = scratch();
    let mut found = Vec::new();
    for (number, (name, work)) in WORK.into_iter().enumerate() {
        let path = dir.path().join(format!("{number}.pool"));
        let Some(media) = FileMedia::open_as_dax(&path, 4 * CAPACITY).expect("opens") else {
            return;
        };
        let mut pool = pool(media);
        assert_eq!(counted::of(|| work(&mut pool.0)), Counts::default(), "{name}: by the writer");
        pool.0.set_applied(Term(1), LogIndex(1), 1);
        found.push((name, dax(counted::of(|| commit(&mut pool)))));
    }
    assert_rows("ranges, lines, fences of a commit", wanted, &found);
}

#[test]
fn a_commit_syncs_a_file_twice_whatever_is_in_it() {
    let dir = scratch();
    for (number, (name, work)) in WORK.into_iter().enumerate() {
        let path = dir.path().join(format!("{number}.pool"));
        let mut pool = pool(FileMedia::open_as_file(&path, 4 * CAPACITY).expect("opens"));
        assert_eq!(counted::of(|| work(&mut pool.0)), Counts::default(), "{name}: by the writer");
        pool.0.set_applied(Term(1), LogIndex(1), 1);
        let wanted = Counts { syncs: 2, ..Counts::default() };
        assert_eq!(counted::of(|| commit(&mut pool)), wanted, "{name}");
    }
}

#[test]
fn opening_growing_and_closing() {
    // Creating: both copies behind one fence, then as at every opening: the newer one as it is, and
    // both again with the ceiling raised.
    let wanted: &[Row] = &[
        ("creating a pool", [5, 320, 4, 1]),
        ("opening it again", [3, 192, 3, 0]),
        ("growing by an extent", [0, 0, 0, 1]),
        ("closing", [1, 64, 3, 0]),
    ];
    let dir = scratch();
    let path = dir.path().join("a.pool");
    let row = |Counts { flushes, lines, fences, syncs }| [flushes, lines, fences, syncs];
    let mut opened = None;
    let mut found = Vec::new();
    for name in ["creating a pool", "opening it again"] {
        drop(opened.take());
        let Some(media) = FileMedia::open_as_dax(&path, 4 * CAPACITY).expect("opens") else {
            return;
        };
        let mem = Arc::new(Mem::new(Box::new(media)));
        let open = || opened = Some(Store::open(mem.clone(), &OPTIONS).expect("opens"));
        found.push((name, row(counted::of(open))));
    }
    let (mut store, mut committer, _) = opened.expect("opened above");
    found.push(("growing by an extent", row(counted::of(|| put(&mut store, "key", 100)))));
    found.push(("closing", row(counted::of(|| committer.close().expect("closes")))));
    assert_rows("ranges, lines, fences, syncs", wanted, &found);
}

/// On a device what a pool grows into is not zeros: the writer wipes it, and the fence that counts
/// is another thread's.
#[test]
fn records_that_a_writer_wipes_are_drained_before_it_goes_on() {
    use crate::media::Media;
    struct Old(FileMedia);
    // SAFETY: forwards to a medium that keeps the promises.
    unsafe impl Media for Old {
        fn medium(&self) -> crate::media::Medium {
            self.0.medium()
        }
        fn base(&self) -> *mut u8 {
            self.0.base()
        }
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn reserved(&self) -> u64 {
            self.0.reserved()
        }
        fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> crate::Result<()> {
            self.0.grow(file_bytes, backed)?;
            if file_bytes > records_at(0) {
                // SAFETY: just grown, so it is mapped, and the allocator has not looked at it yet.
                unsafe { self.0.base().add(records_at(0) as usize).write(1) };
            }
            Ok(())
        }
        fn flush(&self, offset: u64, len: u64) {
            self.0.flush(offset, len);
        }
        fn drain(&self) {
            self.0.drain();
        }
        fn fence(&self) -> crate::Result<()> {
            self.0.fence()
        }
    }
    let dir = scratch();
    let path = dir.path().join("a.pool");
    let Some(media) = FileMedia::open_as_dax(&path, 4 * CAPACITY).expect("opens") else { return };
    let mem = Arc::new(Mem::new(Box::new(Old(media))));
    let (mut store, _committer, _) = Store::open(mem, &OPTIONS).expect("opens");
    let counts = counted::of(|| put(&mut store, "key", 100));
    let Counts { flushes, lines, fences, .. } = counts;
    assert_eq!([flushes, lines, fences], [1, (24 << 10) / 64, 1]);
}

// ------------------------------------------------------------------------- log

const SHARD: ShardId = ShardId(3);

fn log(dir: &Path, kind: LogKind) -> Log {
    let access = match kind {
        LogKind::Dax => {
            Access::Dax(WriteBack::of_this_cpu().expect("asked before"), Sharing::Shared)
        }
        LogKind::Memory => Access::Mapped,
        LogKind::File => Access::WriteThrough,
        LogKind::FileEverySec => Access::PageCache,
    };
    let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::new(dir, kind) };
    let medium = DirMedium::new(dir, access).expect("a directory");
    Log::open_by_hand(Arc::new(medium), &options).expect("opens").0
}

fn append(log: &Log, from: u64, count: u64, len: usize) {
    let payload = vec![7; len];
    let parts: [&[u8]; 1] = [&payload];
    let entries: Vec<_> = (from..from + count)
        .map(|index| Entry {
            shard: SHARD,
            term: Term(1),
            index: LogIndex(index),
            kind: EntryKind::Normal,
            payload: &parts,
        })
        .collect();
    log.append(&entries, Box::new(|done| done.expect("appends")));
    write_queued(log);
}

fn write_queued(log: &Log) {
    while log.write_next() {}
}

/// What the log does; entries of 100 B, at offsets that leave each batch some of a line.
fn log_rows(dir: &Path, kind: LogKind) -> Vec<Row> {
    let log = log(dir, kind);
    let row = |Counts { flushes, lines, fences, syncs }| [flushes, lines, fences, syncs];
    append(&log, 1, 1, 10);
    let mut rows = Vec::new();
    rows.push(("append of 1 entry", row(counted::of(|| append(&log, 2, 1, 100)))));
    rows.push(("append of 16 entries", row(counted::of(|| append(&log, 3, 16, 100)))));
    let vote = || {
        log.save_vote(SHARD, b"vote", Box::new(|done| done.expect("saves")));
        write_queued(&log);
    };
    rows.push(("vote", row(counted::of(vote))));
    let truncate = || {
        let keep = Some(LogId::new(Term(1), LogIndex(10)));
        log.truncate_after(SHARD, keep, Box::new(|done| done.expect("truncates")));
        write_queued(&log);
    };
    rows.push(("truncation", row(counted::of(truncate))));
    let purge = || {
        log.purge(SHARD, LogId::new(Term(1), LogIndex(5))).expect("purges");
        write_queued(&log);
    };
    rows.push(("purge", row(counted::of(purge))));
    // Fills the segment, so that the next append opens another, which had to be made.
    append(&log, 11, 1, 30 << 10);
    append(&log, 12, 1, 30 << 10);
    rows.push(("append that opens a segment", row(counted::of(|| append(&log, 13, 1, 30 << 10)))));
    rows
}

#[test]
fn a_batch_of_the_log_is_one_fence_or_one_write_through() {
    let kinds: [(LogKind, &[Row]); 4] = [
        (
            LogKind::Dax,
            &[
                ("append of 1 entry", [1, 3, 1, 0]),
                ("append of 16 entries", [1, 41, 1, 0]),
                ("vote", [1, 2, 1, 0]),
                ("truncation", [1, 2, 1, 0]),
                ("purge", [1, 2, 1, 0]),
                // The new file, what came before, the header in three steps, and the batch.
                ("append that opens a segment", [4, 494, 6, 2]),
            ],
        ),
        (
            LogKind::Memory,
            &[
                ("append of 1 entry", [0, 0, 0, 0]),
                ("append of 16 entries", [0, 0, 0, 0]),
                ("vote", [0, 0, 0, 0]),
                ("truncation", [0, 0, 0, 0]),
                ("purge", [0, 0, 0, 0]),
                ("append that opens a segment", [0, 0, 0, 2]),
            ],
        ),
        (
            LogKind::File,
            &[
                ("append of 1 entry", [0, 0, 0, 1]),
                ("append of 16 entries", [0, 0, 0, 1]),
                ("vote", [0, 0, 0, 1]),
                ("truncation", [0, 0, 0, 1]),
                ("purge", [0, 0, 0, 1]),
                // The new file, its name, its header, and the batch.
                ("append that opens a segment", [0, 0, 0, 4]),
            ],
        ),
        (
            LogKind::FileEverySec,
            &[
                ("append of 1 entry", [0, 0, 0, 0]),
                ("append of 16 entries", [0, 0, 0, 0]),
                ("vote", [0, 0, 0, 1]),
                ("truncation", [0, 0, 0, 0]),
                ("purge", [0, 0, 0, 0]),
                // The new file (twice), its name, all of the segment before it, and its header.
                ("append that opens a segment", [0, 0, 0, 5]),
            ],
        ),
    ];
    for (kind, wanted) in kinds {
        if kind == LogKind::Dax && WriteBack::of_this_cpu().is_none() {
            continue;
        }
        let dir = scratch();
        let found = log_rows(dir.path(), kind);
        assert_rows(&format!("{kind:?}: ranges, lines, fences, syncs"), wanted, &found);
    }
}
