//! A fixed script with everything in it, crashed at every persist point; and a disk that fails.

use super::basic::id;
use super::model::{Model, Rig, open, run_without};
use crate::log::crash_disk::{CrashDisk, Rng, Unit};
use crate::log::*;

const KINDS: [LogKind; 4] = [LogKind::File, LogKind::Dax, LogKind::Memory, LogKind::FileEverySec];
const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);

fn append(rig: &mut Rig, shard: ShardId, term: u64, indices: Range<u64>, len: usize) {
    let payload = vec![term as u8; len];
    let parts: [&[u8]; 1] = [&payload];
    let entries: Vec<_> = indices
        .map(|index| Entry {
            shard,
            term: Term(term),
            index: LogIndex(index),
            kind: EntryKind::Normal,
            payload: &parts,
        })
        .collect();
    rig.append(&entries);
}

/// Appends, votes, truncations and purges, alone and sharing a write; segment after segment, the
/// first ones used again; a shard that pins one, and is moved.
fn script(rig: &mut Rig) {
    append(rig, B, 1, 1..4, 50);
    rig.vote(A, b"one");
    rig.log.inner.step();
    append(rig, A, 1, 1..6, 200);
    rig.settle();
    for round in 0..6u64 {
        let (term, base) = (2 + round, 5 + round * 10);
        append(rig, A, term, base + 1..base + 9, 300);
        rig.log.inner.step();
        rig.truncate(A, Some(id(term, base + 4)));
        append(rig, A, term, base + 5..base + 11, 100);
        rig.vote(B, &term.to_le_bytes());
        rig.settle();
        rig.purge(A, id(term, base + 3));
        if round % 2 == 1 {
            rig.log.relocate(1000).expect("relocates");
        }
        append(rig, B, term, 4 + round..5 + round, 30);
    }
    rig.settle();
    rig.purge(B, id(9, 30));
    append(rig, B, 9, 31..32, 10);
    rig.truncate(A, Some(id(7, 58)));
    rig.settle();
}

fn run_to(kind: LogKind, point: usize) -> (Rig, usize) {
    let disk = CrashDisk::new(None, Unit::of(kind));
    disk.stash_at(point);
    let mut rig = Rig::open(disk, kind, &[Model::new()]).expect("opens");
    script(&mut rig);
    let points = rig.disk.points();
    (rig, points)
}

#[test]
fn every_persist_point_recovers_what_was_acknowledged() {
    for kind in KINDS {
        let (rig, points) = run_to(kind, usize::MAX);
        assert!(points > 60, "{kind:?}: a script with {points} points shows little");
        let files = rig.disk.files().len();
        assert!(files <= 6, "{kind:?}: segments are used again, not {files} files made");
        for point in 0..points {
            let (rig, _) = run_to(kind, point);
            let stash = rig.disk.stashed().expect("the script gets there");
            let allowed = rig.allowed(&stash);
            for seed in 0..12 {
                let mut rng = Rng(seed);
                let image = stash.image(&mut rng, None);
                let again = Rig::open(image, kind, allowed);
                let again = again.unwrap_or_else(|e| panic!("{kind:?} {point} {seed}: {e}"));
                goes_on(again, kind).unwrap_or_else(|e| panic!("{kind:?} {point} {seed}: {e}"));
            }
        }
    }
}

/// After a crash the log takes entries, and what the crash left behind them stays dead.
fn goes_on(mut rig: Rig, kind: LogKind) -> std::result::Result<(), String> {
    let last = rig.log.last(A).map_or(0, |id| id.index.0);
    append(&mut rig, A, 99, last + 1..last + 3, 20);
    rig.settle();
    let stash = rig.disk.stash_now();
    let allowed = rig.allowed(&stash).to_vec();
    Rig::open(stash.whole(), kind, &allowed).map(drop)
}

#[test]
fn an_open_that_crashes_changes_nothing() {
    let (rig, points) = run_to(LogKind::File, usize::MAX);
    drop(rig);
    for point in (0..points).step_by(7) {
        let (rig, _) = run_to(LogKind::File, point);
        let stash = rig.disk.stashed().expect("the script gets there");
        let disk = stash.image(&mut Rng(5), None);
        let first = Rig::open(disk.clone(), LogKind::File, rig.allowed(&stash)).expect("opens");
        let state = [first.now()];
        drop(first);
        let again = disk.stash_now().image(&mut Rng(6), None);
        Rig::open(again, LogKind::File, &state).expect("opens to the same");
    }
}

#[test]
fn the_first_failed_sync_is_final() {
    for kind in KINDS {
        for n in 0..12 {
            let mut rig = Rig::open(CrashDisk::new(None, Unit::of(kind)), kind, &[Model::new()])
                .expect("opens");
            append(&mut rig, A, 1, 1..3, 100);
            rig.settle();
            rig.disk.fail_in(n);
            let error = loop {
                let index = rig.log.last(A).map_or(0, |id| id.index.0) + 1;
                let entries = [Entry {
                    shard: A,
                    term: Term(1),
                    index: LogIndex(index),
                    kind: EntryKind::Blank,
                    payload: &[&[0; 700]],
                }];
                let (tx, rx) = std::sync::mpsc::channel();
                rig.log.append(&entries, Box::new(move |r| tx.send(r).expect("the test waits")));
                while rig.log.inner.step() {}
                rig.log.inner.sync();
                match rx.recv().expect("every callback is called") {
                    Err(e) => break e,
                    Ok(()) => assert!(index < 100, "{kind:?}: {n} syncs never came"),
                }
            };
            assert!(matches!(error, LogError::Io { .. }), "{error}");
            rig.disk.fail_in(usize::MAX);
            let (tx, rx) = std::sync::mpsc::channel();
            let tell = || {
                let tx = tx.clone();
                Box::new(move |r| tx.send(r).expect("the test waits"))
            };
            rig.log.append(&[], tell());
            rig.log.save_vote(A, b"x", tell());
            rig.log.truncate_after(A, None, tell());
            for _ in 0..3 {
                assert_eq!(rx.recv().expect("called"), Err(error.clone()), "{kind:?}");
            }
            assert_eq!(rig.log.purge(A, id(1, 1)), Err(error.clone()));
            assert_eq!(rig.log.flush(), Err(error.clone()));
            assert_eq!(rig.log.relocate(1), Err(error));
        }
    }
}

#[test]
fn waiting_callbacks_hear_of_a_failure() {
    let mut rig = Rig::open(CrashDisk::new(None, Unit::Sector), LogKind::File, &[Model::new()])
        .expect("opens");
    append(&mut rig, A, 1, 1..2, 10);
    rig.settle();
    rig.disk.fail_in(0);
    let (tx, rx) = std::sync::mpsc::channel();
    for i in 0..5 {
        let tx = tx.clone();
        let done: Done = Box::new(move |r| tx.send((i, r.is_err())).expect("the test waits"));
        rig.log.save_vote(A, &[i], done);
    }
    drop(tx);
    rig.log.inner.step();
    assert_eq!(rx.iter().collect::<Vec<_>>(), (0..5).map(|i| (i, true)).collect::<Vec<_>>());
}

#[test]
fn another_boot_is_seen_and_written_down() {
    let disk = CrashDisk::new(None, Unit::Sector);
    let boot = |id: u8| {
        let options = LogOptions {
            segment_bytes: super::model::SEGMENT_BYTES,
            boot_id: [id; 16],
            ..LogOptions::new("", LogKind::Memory)
        };
        let (inner, recovered) = Inner::open(disk.medium(), &options, false).expect("opens");
        let log = Log { inner: Arc::new(inner), threads: Vec::new() };
        let (tx, rx) = std::sync::mpsc::channel();
        log.save_vote(A, &[id], Box::new(move |r| tx.send(r).expect("the test waits")));
        rx.recv().expect("called").expect("votes");
        recovered.boot_id
    };
    assert_eq!([boot(1), boot(1), boot(2), boot(2)], [[0; 16], [1; 16], [1; 16], [2; 16]]);
}

#[test]
fn shards_beyond_what_marks_can_hold_are_refused() {
    let (log, _) = open(&CrashDisk::new(None, Unit::Sector), LogKind::Memory).expect("opens");
    for shard in 0..3 {
        log.append_now(&[Entry { shard: ShardId(shard), ..super::basic::entry(1, 1, &[]) }])
            .expect("appends");
    }
    let fourth = [Entry { shard: ShardId(7), ..super::basic::entry(1, 1, &[]) }];
    assert!(matches!(log.append_now(&fourth), Err(LogError::TooLarge { .. })));
}

/// Every line of the log that syncs must be missed when it does not.
#[test]
fn each_line_that_syncs_is_needed() {
    let mut callers = std::collections::BTreeSet::new();
    for kind in KINDS {
        let disk = CrashDisk::new(None, Unit::of(kind));
        disk.ask_callers(None);
        let mut rig = Rig::open(disk.clone(), kind, &[Model::new()]).expect("opens");
        script(&mut rig);
        callers.extend(disk.callers());
    }
    // A batch, a segment opened and the one before it, a new file and its name, every second.
    assert!(callers.len() >= 6, "{callers:?}");
    for caller in callers {
        let red = (0..2000).find_map(|seed| Some((seed, run_without(seed, &caller).err()?)));
        let Some((seed, why)) = red else { panic!("nobody misses the sync at {caller}") };
        println!("without the sync at {caller}, seed {seed} is red: {:.100}", why);
    }
}

#[test]
fn what_was_waited_for_is_durable() {
    let disk = CrashDisk::new(None, Unit::Sector);
    let (log, _) = super::model::open(&disk, LogKind::File).expect("opens");
    let payload: [&[u8]; 1] = [b"one"];
    let entry = |index| super::basic::entry(1, index, &payload);
    for index in 1..=2 {
        log.append(&[entry(index)], Box::new(|done| done.expect("appends")));
        assert!(log.has_queued());
        log.wait_durable(super::basic::SHARD, LogIndex(index)).expect("writes");
        let left = disk.stash_now().durable();
        let (log, _) = super::model::open(&left, LogKind::File).expect("opens");
        assert_eq!(log.last(super::basic::SHARD).map(|last| last.index), Some(LogIndex(index)));
    }
    // Nothing to wait for.
    log.wait_durable(super::basic::SHARD, LogIndex(9)).expect("not held");
}
