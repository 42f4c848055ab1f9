//! What each call does, on real files.

use crate::log::*;
use std::sync::mpsc;

pub(super) const SHARD: ShardId = ShardId(3);

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

pub(super) fn entry<'a>(term: u64, index: u64, payload: &'a [&'a [u8]]) -> Entry<'a> {
    let (term, index) = (Term(term), LogIndex(index));
    Entry { shard: SHARD, term, index, kind: EntryKind::Normal, payload }
}

/// A directory that goes with the test.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new(base: &str, name: &str) -> Self {
        let dir = PathBuf::from(base).join(format!("cairn-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn dirs(name: &str) -> Vec<(Dir, LogKind)> {
    let tmp = std::env::temp_dir();
    let tmp = tmp.to_str().unwrap_or("/tmp");
    let memory = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { tmp };
    vec![
        (Dir::new(memory, &format!("{name}-memory")), LogKind::Memory),
        (Dir::new(tmp, &format!("{name}-file")), LogKind::File),
        (Dir::new(tmp, &format!("{name}-everysec")), LogKind::FileEverySec),
        (Dir::new(memory, &format!("{name}-dax")), LogKind::Dax),
    ]
}

/// Opens a log; a DAX one on whatever file system there is.
pub(super) fn open(options: &LogOptions) -> Result<(Log, Recovered)> {
    match options.kind {
        LogKind::Dax => Log::open_as_dax(options),
        _ => Log::open(options),
    }
}

fn options(dir: &Dir, kind: LogKind) -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, ..LogOptions::new(&dir.0, kind) }
}

/// Submits with a callback, and waits for it.
pub(super) fn wait(submit: impl FnOnce(Done)) -> Result<()> {
    let (tx, rx) = mpsc::channel();
    submit(Box::new(move |result| tx.send(result).expect("the test waits")));
    rx.recv().expect("a callback is called")
}

#[test]
fn what_was_appended_is_read_now_and_after_an_open() {
    for (dir, kind) in dirs("append") {
        let opts = options(&dir, kind);
        let (log, recovered) = open(&opts).expect("opens");
        assert!(recovered.created);
        for i in 0..2000u64 {
            let (a, b) = (i.to_le_bytes(), vec![i as u8; (i % 300) as usize]);
            let parts: [&[u8]; 2] = [&a, &b];
            wait(|done| log.append(&[entry(1, i, &parts)], done)).expect("appends");
        }
        let check = |log: &Log| {
            let read = log.read(SHARD, LogIndex(0)..LogIndex(2000), usize::MAX).expect("reads");
            assert_eq!(read.len(), 2000, "{kind:?}");
            for (i, entry) in (0u64..).zip(&read) {
                assert_eq!(entry.index, LogIndex(i));
                assert_eq!(entry.payload[..8], i.to_le_bytes());
                assert_eq!(entry.payload.len() as u64, 8 + i % 300);
            }
            let mut seen = 0;
            log.replay(SHARD, LogIndex(5), |e| {
                assert_eq!(e.index, LogIndex(5 + seen));
                assert_eq!(e.payload, read[5 + seen as usize].payload);
                seen += 1;
                Ok(())
            })
            .expect("replays");
            assert_eq!(seen, 1995);
        };
        check(&log);
        assert!(log.segments() > 3);
        drop(log);
        let (log, recovered) = open(&opts).expect("opens");
        assert_eq!(recovered.shards[&SHARD].last, Some(id(1, 1999)));
        assert_eq!(recovered.shards[&SHARD].first, Some(LogIndex(0)));
        assert_eq!(recovered.cut, None);
        check(&log);
    }
}

#[test]
fn votes_truncations_and_purges_last() {
    for (dir, kind) in dirs("marks") {
        let opts = options(&dir, kind);
        let (log, _) = open(&opts).expect("opens");
        for i in 1..=10 {
            wait(|done| log.append(&[entry(1, i, &[b"x"])], done)).expect("appends");
        }
        wait(|done| log.save_vote(SHARD, b"me", done)).expect("votes");
        wait(|done| log.truncate_after(SHARD, Some(id(1, 7)), done)).expect("truncates");
        wait(|done| log.append(&[entry(2, 8, &[b"y"])], done)).expect("appends");
        log.purge(SHARD, id(1, 3)).expect("purges");
        let state = log.shard(SHARD);
        assert_eq!(state.vote.as_deref(), Some(&b"me"[..]));
        assert_eq!((state.purged, state.last), (Some(id(1, 3)), Some(id(2, 8))));
        assert_eq!(state.first, Some(LogIndex(4)));
        log.close().expect("closes");
        let closed = wait(|done| log.append(&[entry(2, 9, &[])], done));
        assert_eq!(closed, Err(LogError::Closed));
        drop(log);
        let (log, recovered) = open(&opts).expect("opens");
        assert_eq!(recovered.shards[&SHARD], state);
        assert_eq!(log.shard(SHARD), state);
    }
}

#[test]
fn segments_are_used_again() {
    for (dir, kind) in dirs("recycle") {
        let opts = options(&dir, kind);
        let (log, _) = open(&opts).expect("opens");
        let payload = [7u8; 1000];
        for i in 1..2000u64 {
            wait(|done| log.append(&[entry(1, i, &[&payload])], done)).expect("appends");
            if i % 20 == 0 {
                log.purge(SHARD, id(1, i - 10)).expect("purges");
            }
        }
        assert!(log.segments() <= 2);
        let files = std::fs::read_dir(dir.0.join("log")).expect("lists").count();
        assert!(files <= 6, "{files} files for two segments' worth");
        drop(log);
        let (log, recovered) = open(&opts).expect("opens");
        assert!(recovered.segments <= 2);
        assert_eq!(recovered.shards[&SHARD].purged, Some(id(1, 1970)));
        log.read(SHARD, LogIndex(1971)..LogIndex(2000), usize::MAX).expect("reads");
    }
}

/// What a segment's header says of its features must be true of all records in it.
#[test]
fn nothing_is_added_to_a_segment_of_a_build_with_other_features() {
    use crate::layout::log::header;
    for (dir, kind) in dirs("features") {
        let opts = options(&dir, kind);
        let (log, _) = open(&opts).expect("opens");
        wait(|done| log.append(&[entry(1, 1, &[b"theirs"])], done)).expect("appends");
        drop(log);
        for file in std::fs::read_dir(dir.0.join("log")).expect("lists") {
            let path = file.expect("lists").path();
            let mut bytes = std::fs::read(&path).expect("reads");
            bytes[header::COMPAT] |= 2;
            let crc = crc32fast::hash(&bytes[..header::CRC]);
            bytes[header::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
            std::fs::write(&path, bytes).expect("writes");
        }
        for round in 0..2 {
            let (log, recovered) = open(&opts).expect("opens");
            assert_eq!(recovered.shards[&SHARD].last, Some(id(1, 1 + round)));
            wait(|done| log.append(&[entry(1, 2 + round, &[b"ours"])], done)).expect("appends");
            assert_eq!(log.segments(), 2);
            let read = log.read(SHARD, LogIndex(1)..LogIndex(3 + round), usize::MAX);
            assert_eq!(read.expect("reads")[0].payload, b"theirs");
        }
    }
}

#[test]
fn reads_are_bounded_and_say_what_is_missing() {
    let (dir, kind) = dirs("read").remove(1);
    let (log, _) = open(&options(&dir, kind)).expect("opens");
    for i in 1..=10 {
        log.append(&[entry(1, i, &[&[i as u8; 100]])], Box::new(|_| ()));
    }
    let read = |from, to, max| log.read(SHARD, LogIndex(from)..LogIndex(to), max).map(|e| e.len());
    let missing = |index| Err(LogError::NotHeld { shard: SHARD, index: LogIndex(index) });
    let rows = [
        (1, 11, usize::MAX, Ok(10)),
        (1, 11, 0, Ok(1)),
        (1, 11, 100, Ok(1)),
        (1, 11, 250, Ok(2)),
        (3, 3, 100, Ok(0)),
        (0, 3, 1000, missing(0)),
        (9, 12, 1000, missing(11)),
    ];
    for (from, to, max, want) in rows {
        assert_eq!(read(from, to, max), want, "{from}..{to} up to {max}");
    }
}

#[test]
fn what_cannot_follow_is_refused_and_nothing_of_it_kept() {
    let (dir, kind) = dirs("order").remove(0);
    let (log, _) = open(&options(&dir, kind)).expect("opens");
    log.append_now(&[entry(2, 5, &[])]).expect("a first entry may have any index");
    let big = vec![0u8; 40 << 10];
    let big: &[&[u8]] = &[&big];
    let rows: [(&str, &[Entry<'_>]); 4] = [
        ("a gap", &[entry(2, 6, &[]), entry(2, 8, &[])]),
        ("again", &[entry(2, 5, &[])]),
        ("an older term", &[entry(1, 6, &[])]),
        ("too large", &[entry(2, 6, &[]), entry(2, 7, big)]),
    ];
    for (what, entries) in rows {
        assert!(log.append_now(entries).is_err(), "{what}");
        assert_eq!(log.last(SHARD), Some(id(2, 5)), "{what}");
    }
    log.purge(SHARD, id(3, 20)).expect("purges beyond the end");
    log.append_now(&[entry(3, 21, &[])]).expect("goes on after what was purged");
    let (dir, kind) = dirs("order").remove(1);
    let (log, _) = open(&options(&dir, kind)).expect("opens");
    assert_eq!(log.append_now(&[]), Err(LogError::NotImmediate));
}

#[test]
fn callbacks_come_in_the_order_of_the_calls() {
    let (dir, kind) = dirs("callbacks").remove(1);
    let (log, _) = open(&options(&dir, kind)).expect("opens");
    let (tx, rx) = mpsc::channel();
    for i in 1..=500u64 {
        let tx = tx.clone();
        let done: Done = Box::new(move |r| tx.send((i, r.is_ok())).expect("the test waits"));
        match i % 10 {
            0 => log.append(&[entry(1, 9999, &[])], done),
            5 => log.save_vote(SHARD, &i.to_le_bytes(), done),
            n => log.append(&[entry(1, i - i / 10 * 2 - u64::from(n > 5), &[b"x"])], done),
        }
    }
    drop(tx);
    let order: Vec<_> = rx.iter().collect();
    let want: Vec<_> = (1..=500).map(|i| (i, i % 10 != 0)).collect();
    assert_eq!(order, want);
}

#[test]
fn a_shard_that_never_purges_does_not_pin_segments() {
    for (dir, kind) in dirs("relocate") {
        let opts = options(&dir, kind);
        let (log, _) = open(&opts).expect("opens");
        let other = ShardId(9);
        let quiet = |i| Entry { shard: other, ..entry(1, i, &[b"quiet"]) };
        for i in 1..=5 {
            wait(|done| log.append(&[quiet(i)], done)).expect("appends");
        }
        let payload = [7u8; 1000];
        for i in 1..500 {
            wait(|done| log.append(&[entry(1, i, &[&payload])], done)).expect("appends");
            if log.segments() > 3 {
                log.relocate(10_000).expect("relocates");
            }
            log.purge(SHARD, id(1, i)).expect("purges");
        }
        assert!(log.segments() <= 3, "{} pinned", log.segments());
        let read = log.read(other, LogIndex(1)..LogIndex(6), 100).expect("reads");
        assert_eq!(read.len(), 5);
        drop(log);
        let (log, recovered) = open(&opts).expect("opens");
        assert!(recovered.segments <= 3);
        assert_eq!(log.read(other, LogIndex(1)..LogIndex(6), 100).expect("reads"), read);
    }
}

/// A backup tool may have made holes of the zeros.
#[test]
fn a_copy_with_holes_gets_its_space_back() {
    use std::os::unix::fs::MetadataExt;
    let (dir, kind) = dirs("holes").remove(0);
    let opts = options(&dir, kind);
    drop(open(&opts).expect("opens"));
    for name in ["000001.seg", "000002.seg"] {
        let path = dir.0.join("log").join(name);
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let file = std::fs::File::create(&path).expect("writes");
        file.set_len(bytes.len() as u64).expect("makes a hole");
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..512], 0).expect("writes");
        assert!(file.metadata().expect("is there").blocks() * 512 < bytes.len() as u64);
    }
    let (log, _) = open(&opts).expect("opens");
    log.append_now(&[entry(1, 1, &[b"x"])]).expect("appends");
    let path = log.inner.state.lock().segment(0).expect("a segment").path();
    let found = std::fs::metadata(path).expect("is there");
    assert!(found.blocks() * 512 >= found.len());
}

/// Shards append, read back what is still on its way, and purge, all at once, while segments are
/// filled and used again beneath them.
#[test]
fn shards_share_the_log_from_many_threads() {
    for (dir, kind) in dirs("threads") {
        let opts = options(&dir, kind);
        let (log, _) = open(&opts).expect("opens");
        std::thread::scope(|threads| {
            for shard in (0..4).map(ShardId) {
                let log = &log;
                threads.spawn(move || work(log, shard));
            }
        });
        drop(log);
        let (log, _) = open(&opts).expect("opens");
        for shard in (0..4).map(ShardId) {
            check_tail(&log, shard, 981..1001);
        }
    }
}

fn work(log: &Log, shard: ShardId) {
    let (tx, rx) = mpsc::channel();
    for index in 1..=1000u64 {
        let payload = [shard.0 as u8; 200];
        let parts: [&[u8]; 2] = [&index.to_le_bytes(), &payload[..(index % 200) as usize]];
        let tx = tx.clone();
        let done: Done = Box::new(move |r| tx.send(r).expect("the test waits"));
        log.append(&[Entry { shard, ..entry(1, index, &parts) }], done);
        check_tail(log, shard, index.saturating_sub(10).max(log_start(log, shard))..index + 1);
        if index % 20 == 0 {
            rx.try_iter().for_each(|r| r.expect("appends"));
            log.purge(shard, id(1, index - 20)).expect("purges");
        }
    }
    drop(tx);
    rx.iter().for_each(|r| r.expect("appends"));
}

fn log_start(log: &Log, shard: ShardId) -> u64 {
    log.shard(shard).first.expect("an entry").0
}

fn check_tail(log: &Log, shard: ShardId, range: Range<u64>) {
    let read = log.read(shard, LogIndex(range.start)..LogIndex(range.end), usize::MAX);
    let read = read.expect("reads");
    assert_eq!(read.len() as u64, range.end - range.start);
    for (index, entry) in range.zip(read) {
        assert_eq!((entry.index.0, entry.shard), (index, shard));
        assert_eq!(entry.payload[..8], index.to_le_bytes());
        assert_eq!(entry.payload.len() as u64, 8 + index % 200);
        assert!(entry.payload[8..].iter().all(|b| *b == shard.0 as u8));
    }
}
