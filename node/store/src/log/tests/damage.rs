//! Bytes changed behind the log's back: an error that names file and offset, or, in the last batch,
//! a cut.

use super::basic::id;
use super::model::{Model, Rig, SHARDS, open};
use crate::layout::log as layout;
use crate::log::crash_disk::{CrashDisk, Stash, Unit};
use crate::log::*;

/// A log of several segments, an unused one among them, and where its last batch begins.
struct Sample {
    stash: Stash,
    state: Model,
    before_last: Model,
    /// Live segments, oldest first: name, and where each ends.
    live: Vec<(String, usize)>,
    last_batch: usize,
}

fn sample() -> Sample {
    let mut rig = Rig::open(CrashDisk::new(None, Unit::Sector), LogKind::File, &[Model::new()])
        .expect("opens");
    let mut index = 0;
    let mut fill = |rig: &mut Rig, n: u64| {
        for _ in 0..n {
            index += 1;
            let payload = vec![index as u8; 300];
            let parts: [&[u8]; 1] = [&payload];
            let entry = super::basic::entry(1, index, &parts);
            rig.append(&[Entry { shard: ShardId(1), ..entry }]);
            rig.settle();
        }
        index
    };
    let upto = fill(&mut rig, 50);
    rig.purge(ShardId(1), id(1, upto - 2));
    rig.vote(ShardId(0), b"vote");
    rig.settle();
    fill(&mut rig, 24);
    let before_last = rig.now();
    let (_, last_batch) = rig.log.inner.state.lock().head();
    fill(&mut rig, 1);
    let live = {
        let state = rig.log.inner.state.lock();
        let (newest, end) = state.head();
        let first = (0..=newest).find(|seq| state.segment(*seq).is_some()).expect("a chain");
        (first..=newest)
            .map(|seq| {
                let segment = state.segment(seq).expect("in the chain");
                let name = segment.path().trim_start_matches("disk/").to_owned();
                (name, if seq == newest { end as usize } else { 0 })
            })
            .collect()
    };
    let mut sample = Sample {
        stash: rig.disk.stash_now(),
        state: rig.now(),
        before_last,
        live,
        last_batch: last_batch as usize,
    };
    // Where a segment ends stands in the header of the one after it.
    for i in 1..sample.live.len() {
        let name = sample.live[i].0.clone();
        let mut end = 0;
        sample.stash.whole().tamper(&name, |b| {
            let at = layout::header::PREV_END;
            end = u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]) as usize;
        });
        sample.live[i - 1].1 = end;
    }
    assert!(sample.live.len() >= 3 && sample.stash.whole().files().len() > sample.live.len());
    sample
}

fn reopen(disk: CrashDisk) -> std::result::Result<(Model, Recovered), LogError> {
    let (log, recovered) = open(&disk, LogKind::File)?;
    let model = super::model::model_of(&log, (0..SHARDS).map(ShardId))?;
    drop(log.inner.state.lock().fail(&LogError::Closed));
    Ok((model, recovered))
}

fn flipped(sample: &Sample, name: &str, at: usize, bit: usize) -> CrashDisk {
    let disk = sample.stash.whole();
    disk.tamper(name, |bytes| bytes[at] ^= 1 << bit);
    disk
}

#[test]
fn any_bit_before_the_last_batch_is_an_error_that_says_where() {
    let sample = sample();
    for (i, (name, end)) in sample.live.iter().enumerate() {
        let newest = i + 1 == sample.live.len();
        let end = if newest { sample.last_batch } else { *end };
        for at in 0..end {
            let error = reopen(flipped(&sample, name, at, at % 8)).expect_err("a flipped bit");
            match &error {
                LogError::Damaged { file, offset, .. } => {
                    assert_eq!(file, &format!("disk/{name}"), "byte {at}: {error}");
                    // A record is named by its beginning, a header by where its checksum is.
                    let header = layout::HEADER_BYTES;
                    let near = if at < header { header } else { at };
                    assert!(*offset as usize <= near, "byte {at}: {error}");
                    assert!(at < header || at - *offset as usize <= 400, "byte {at}: {error}");
                }
                // A flipped bit in the version makes it a newer one.
                LogError::Newer { file, .. } if (8..10).contains(&at) => {
                    assert_eq!(file, &format!("disk/{name}"));
                }
                _ => panic!("byte {at} of {name}: {error}"),
            }
            let words = error.to_string();
            assert!(words.contains(name.as_str()) && words.len() > 60, "{words}");
        }
    }
}

#[test]
fn the_last_batch_is_cut_whole() {
    let sample = sample();
    let (name, end) = &sample.live[sample.live.len() - 1];
    for at in sample.last_batch..*end {
        let (model, recovered) = reopen(flipped(&sample, name, at, at % 8)).expect("opens");
        assert_eq!(model, sample.before_last, "byte {at}");
        if at >= sample.last_batch + layout::RECORD_BYTES {
            let cut = recovered.cut.expect("says so");
            assert_eq!((cut.file, cut.offset), (format!("disk/{name}"), sample.last_batch as u64));
        }
    }
}

#[test]
fn bits_that_mean_nothing_change_nothing() {
    let sample = sample();
    for (name, len) in sample.stash.whole().files() {
        let live = sample.live.iter().find(|(n, _)| *n == name);
        // Of a file that is not in use only the header counts: it might be the newest.
        let end = live.map_or(layout::HEADER_BYTES, |(_, end)| *end);
        for at in (end..len).step_by(5) {
            let (model, _) = reopen(flipped(&sample, &name, at, at % 8)).expect("opens");
            assert_eq!(model, sample.state, "byte {at} of {name}");
        }
        if live.is_none() {
            for at in 0..end {
                reopen(flipped(&sample, &name, at, at % 8)).expect_err("a header");
            }
        }
    }
}

#[test]
fn truncated_and_missing_files_are_errors_that_name_them() {
    let sample = sample();
    for (name, len) in sample.stash.whole().files() {
        for keep in [0, 1, 511, 512, 513, 2000, len - 512, len - 1] {
            let disk = sample.stash.whole();
            disk.tamper(&name, |bytes| bytes.truncate(keep));
            match reopen(disk).expect_err("a truncated file") {
                LogError::Damaged { file, offset, .. } => {
                    assert_eq!((file, offset), (format!("disk/{name}"), keep as u64));
                }
                e => panic!("{e}"),
            }
        }
        let disk = sample.stash.whole();
        disk.tamper(&name, |bytes| bytes.push(0));
        assert!(matches!(reopen(disk), Err(LogError::Damaged { .. })), "longer");
    }
    for (name, _) in &sample.live[..sample.live.len() - 1] {
        let disk = sample.stash.whole();
        disk.lose(name);
        let error = reopen(disk).expect_err("a missing file").to_string();
        assert!(error.contains(&format!("in {name}, is missing")), "{error}");
    }
}

#[test]
fn zeroed_swapped_and_foreign_files_are_errors() {
    let sample = sample();
    let newest = sample.live[sample.live.len() - 1].0.clone();
    let oldest = sample.live[0].0.clone();
    let disk = sample.stash.whole();
    disk.tamper(&newest, |bytes| bytes.fill(0));
    assert!(matches!(reopen(disk), Err(LogError::Damaged { .. })), "zeroed");
    let disk = sample.stash.whole();
    let mut copy = Vec::new();
    disk.tamper(&newest, |bytes| copy.clone_from(bytes));
    disk.tamper(&oldest, |bytes| bytes.clone_from(&copy));
    assert!(matches!(reopen(disk), Err(LogError::Damaged { .. })), "copied over another");
    let disk = sample.stash.whole();
    disk.tamper(&newest, |bytes| {
        let header: &[u8; layout::HEADER_BYTES] = bytes.first_chunk().expect("long enough");
        let Ok(mut header) = record::Header::decode(header) else { panic!() };
        header.uuid = [1; 16];
        bytes[..layout::HEADER_BYTES].copy_from_slice(&header.encode());
    });
    assert!(matches!(reopen(disk), Err(LogError::Foreign { .. })), "of another log");
}

/// A record that is sound by itself, but follows another one than the one before it.
#[test]
fn a_broken_chain_is_seen() {
    let sample = sample();
    let name = sample.live[sample.live.len() - 1].0.clone();
    let unchain = |at: usize| {
        let disk = sample.stash.whole();
        disk.tamper(&name, |bytes| {
            let header: &[u8; layout::HEADER_BYTES] = bytes.first_chunk().expect("long enough");
            let Ok(header) = record::Header::decode(header) else { panic!() };
            let salt = record::salt(&header.uuid, header.generation);
            let old =
                Record::decode(&bytes[at..at + layout::RECORD_BYTES], salt).expect("a record");
            let (end, durable_to) = (old.batch_end, old.durable_to);
            record::seal(&mut bytes[at..end as usize], end, durable_to, old.prev_crc ^ 1, salt);
        });
        reopen(disk)
    };
    let (model, _) = unchain(sample.last_batch).expect("opens");
    assert_eq!(model, sample.before_last);
    assert!(matches!(unchain(sample.last_batch - 360), Err(LogError::Damaged { .. })));
}

/// Two batches in the page cache, of which a crash took the first only. When the same entry is
/// appended again, the old second one would follow it without a seam.
#[test]
fn what_lies_behind_a_cut_never_comes_back() {
    let kind = LogKind::FileEverySec;
    let mut rig =
        Rig::open(CrashDisk::new(None, Unit::Sector), kind, &[Model::new()]).expect("opens");
    let shard = ShardId(0);
    let append = |rig: &mut Rig, index: u64, len: usize| {
        let payload = vec![7; len];
        let parts: [&[u8]; 1] = [&payload];
        rig.append(&[Entry { shard, ..super::basic::entry(1, index, &parts) }]);
    };
    // The first fills up a sector, so that the next two have one each.
    append(&mut rig, 1, 1024 - 512 - 2 * layout::RECORD_BYTES);
    rig.settle();
    append(&mut rig, 2, 512 - layout::RECORD_BYTES);
    append(&mut rig, 3, 512 - layout::RECORD_BYTES);
    let crashed = rig.disk.stash_now().whole();
    crashed.tamper("000001.seg", |bytes| bytes[1024..1536].fill(0));
    let before = rig.history[1].clone();
    let mut rig = Rig::open(crashed, kind, &[before]).expect("the second is cut, and the third");
    append(&mut rig, 2, 512 - layout::RECORD_BYTES);
    let want = [rig.now()];
    Rig::open(rig.disk.stash_now().whole(), kind, &want).expect("the third stays dead");
}
