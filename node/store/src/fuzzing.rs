//! What must hold for any bytes whatever: one body for pools and one for logs, run by the fuzzer
//! (`tests/fuzz`) and, from a seed, by `cargo test`. Not for use: the bodies panic, that is their
//! purpose.
//!
//! Bytes that came by chance never pass a checksum. So most inputs are edits of a sound sample, and
//! half of them have the checksums made to fit again: what lies behind a checksum is not trusted to
//! make sense either.

use crate::alloc::{slab_at, slab_of};
use crate::blob::{Encoding, Meta, Type};
use crate::check::check;
use crate::error::Result;
use crate::keyspace::{Db, View};
use crate::layout::log as log_layout;
use crate::layout::pool::{
    BLOCK_CRC, CLASS_BYTES, HEADER, OFFSET_BITS, RECORD, SLAB, SLABS_PER_EXTENT, SUPERBLOCK,
    SUPERBLOCK_AT, file_bytes, record, record_at, sb,
};
use crate::log::{Entry, EntryKind, Log, LogError, LogId, LogKind, LogOptions};
use crate::media::{HeapMedia, Pages};
use crate::persist::Mem;
use crate::pool::{Committer, PoolOptions, Store};
use cairn_protocol::ids::{LogIndex, ShardId, Term};
use std::path::Path;
use std::sync::{Arc, OnceLock};

const CAPACITY: u64 = 24 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
/// Elements that a reader goes through before it has seen enough.
const ENOUGH: u32 = 20_000;

// -------------------------------------------------------------------------------------- pools

/// A superblock, a slab record or a block of the sample.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    len: usize,
    crc_at: usize,
}

/// A small pool with every kind of block in it, and where they are.
struct Sample {
    pages: Pages,
    places: Vec<Place>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY))));
        fill(&mem).expect("a sample fits into its pool");
        let bytes = mem.bytes(0, mem.media().len() as usize).expect("all of it");
        Sample { pages: Pages::of(bytes), places: places(bytes) }
    })
}

fn meta(ty: Type) -> Meta {
    Meta { ty, encoding: Encoding::Raw, deadline_ms: None }
}

fn commit(store: &mut Store, committer: &mut Committer) -> Result<()> {
    if let Some(sealed) = store.seal() {
        store.release(committer.commit(sealed)?);
    }
    Ok(())
}

fn fill(mem: &Arc<Mem>) -> Result<()> {
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS)?;
    for round in 0..3u8 {
        for n in 0..40 {
            let name = format!("{{tag}}{n}").into_bytes();
            let meta = Meta { deadline_ms: (n % 3 == 0).then_some(1000 + n), ..meta(Type::String) };
            store.put(Db(0), &store.key(&name), meta, &[round; 70])?;
        }
        store.put(Db(2), &store.key(b"dropped"), meta(Type::String), &[round; 20])?;
        store.put(Db(1), &store.key(b"long"), meta(Type::String), &vec![round; 40_000])?;
        for ty in [Type::Hash, Type::ZSet, Type::List] {
            let name = [b'a' + ty as u8];
            store.build(Db(1), &store.key(&name), meta(ty), |edit| -> Result<()> {
                for n in 0..60u32 {
                    let member = format!("member:{n}").into_bytes();
                    match ty {
                        Type::Hash => drop(edit.put(&member, &[round; 20])?),
                        Type::ZSet => drop(edit.rank_put(&member, f64::from(n % 7))?),
                        _ => edit.list_push_back(&member.repeat(1 + n as usize * 2))?,
                    }
                }
                Ok(())
            })?;
        }
        store.take_snapshot(&[b'0' + round], 1)?;
        commit(&mut store, &mut committer)?;
    }
    store.drop_db(Db(2))?;
    store.drop_snapshot(b"1")?;
    commit(&mut store, &mut committer)?;
    committer.close()
}

fn places(bytes: &[u8]) -> Vec<Place> {
    let word = |at: u64| u64::from_le_bytes(bytes[at as usize..][..8].try_into().expect("eight"));
    let superblocks = SUPERBLOCK_AT.map(|at| Place { at, len: SUPERBLOCK, crc_at: sb::CRC });
    let mut found = superblocks.to_vec();
    let extents = (0..).take_while(|n| file_bytes(n + 1) <= bytes.len() as u64).count() as u64;
    for slab in 0..extents * SLABS_PER_EXTENT {
        let copies = [0, 1].map(|copy| record_at(slab, copy));
        let newest = if word(copies[1]) > word(copies[0]) { copies[1] } else { copies[0] };
        if word(newest) == 0 {
            continue;
        }
        found.push(Place { at: newest, len: RECORD, crc_at: record::CRC });
        let len = CLASS_BYTES[bytes[newest as usize + record::CLASS] as usize] as usize;
        for block in 0..SLAB as usize / len {
            let bits = bytes[newest as usize + record::BITMAP + block / 8];
            if bits >> (block % 8) & 1 == 1 {
                let at = slab_at(slab) + (block * len) as u64;
                found.push(Place { at, len, crc_at: BLOCK_CRC });
            }
        }
    }
    found
}

/// The bytes of a place.
fn read(pages: &Pages, place: Place) -> Vec<u8> {
    let mut bytes = vec![0; place.len];
    for (n, piece) in bytes.chunks_mut(8).enumerate() {
        pages.read(place.at + n as u64 * 8, piece);
    }
    bytes
}

fn write(pages: &mut Pages, place: Place, bytes: &[u8]) {
    for (n, piece) in bytes.chunks(8).enumerate() {
        pages.write(place.at + n as u64 * 8, piece);
    }
}

/// Six bytes an edit: which place, where in it, what to do, with what.
fn edited(edits: &[u8], fits: bool) -> Pages {
    let Sample { pages, places } = sample();
    let mut pages = pages.clone();
    for edit in edits.chunks_exact(6).take(8) {
        let [which, which_high, at, at_high, what, value] = *edit else { continue };
        let place = places[usize::from(u16::from_le_bytes([which, which_high])) % places.len()];
        let at = usize::from(u16::from_le_bytes([at, at_high])) % place.len;
        let mut bytes = read(&pages, place);
        let word = at / 8 * 8..at / 8 * 8 + 8;
        match what % 4 {
            0 => bytes[at] = value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => bytes[word].fill(value),
            // A pointer to somewhere else, with the tag it had.
            _ => {
                let to = places[usize::from(value) * places.len() / 256].at.to_le_bytes();
                let offset_bytes = OFFSET_BITS as usize / 8;
                bytes[word][..offset_bytes].copy_from_slice(&to[..offset_bytes]);
            }
        }
        if fits {
            let crc = crc_of(place, &bytes);
            bytes[place.crc_at..place.crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        }
        write(&mut pages, place, &bytes);
    }
    pages
}

fn crc_of(place: Place, bytes: &[u8]) -> u32 {
    let (front, back) = (&bytes[..place.crc_at], &bytes[place.crc_at + 4..]);
    if slab_of(place.at).is_none() {
        return crc32fast::hash(&[front, back].concat());
    }
    let mut crc = crc32fast::Hasher::new_with_initial(place.at as u32);
    crc.update(front);
    crc.update(&[0; HEADER - BLOCK_CRC]);
    crc.update(back);
    crc.finalize()
}

/// A pool of any bytes is checked, opened, read and written to without a panic, in time and memory
/// that its size bounds. The first byte says how the others are meant: as the pool itself, or as
/// edits of a sample, with checksums that fit or not.
pub fn pool(data: &[u8]) {
    let [control, rest @ ..] = data else { return };
    let pages = match control % 4 {
        0 => Pages::of(rest),
        mode => edited(rest, mode == 1),
    };
    let mem = || Arc::new(Mem::new(Box::new(HeapMedia::with_pages(&pages, CAPACITY))));
    // Errors are what is wanted of most.
    let _ = check(mem(), true, &mut |_, _| {});
    let Ok((store, ..)) = Store::open(mem(), &OPTIONS) else { return };
    let _ = read_all(&store.view());
    for snapshot in store.snapshots().unwrap_or_default() {
        if let Ok(Some(pin)) = store.pin_snapshot(&snapshot.name) {
            let _ = read_all(&pin.view());
        }
    }
    let _ = store.next_expired(u64::MAX);
    for slab in 0..store.extents().min(8) * SLABS_PER_EXTENT {
        store.scrub(slab / SLABS_PER_EXTENT, slab % SLABS_PER_EXTENT);
    }
    if control % 4 >= 2 {
        let Ok((mut store, mut committer, _)) = Store::open(mem(), &OPTIONS) else { return };
        let _ = change_all(&mut store, &mut committer);
    }
}

fn read_all(view: &View<'_>) -> Result<()> {
    for db in 0..Db::COUNT {
        let (mut cursor, mut seen) = (0, 0u32);
        loop {
            cursor = view.scan(Db(db), cursor, &mut |record| {
                seen += 1;
                // Bounded, for a length is believed: what is not there counts as zeros.
                record.value().read(0..1 << 20, |_| {})?;
                let Some(tree) = view.tree(record) else { return Ok(seen < ENOUGH) };
                let mut elements = 0;
                let mut more = || {
                    elements += 1;
                    Ok(elements < ENOUGH)
                };
                match record.ty() {
                    Type::List => tree.elements(0, false, &mut |_| more())?,
                    Type::ZSet => tree.ranked(0, false, &mut |_, _| more())?,
                    _ => tree.for_each(&mut |_| more())?,
                }
                Ok(seen < ENOUGH)
            })?;
            if cursor == 0 || seen >= ENOUGH {
                break;
            }
        }
    }
    Ok(())
}

fn change_all(store: &mut Store, committer: &mut Committer) -> Result<()> {
    for n in 0..40u64 {
        let name = format!("{{tag}}{n}").into_bytes();
        let key = store.key(&name);
        match n % 2 {
            0 => drop(store.remove(Db(0), &key)?),
            _ => store.put(Db(0), &key, meta(Type::String), &[9; 80])?,
        }
    }
    for ty in [Type::Hash, Type::ZSet, Type::List] {
        let name = [b'a' + ty as u8];
        store.edit(Db(1), &store.key(&name), |edit| -> Result<()> {
            match ty {
                Type::Hash => drop(edit.put(b"member:7", &[9; 30])?),
                Type::ZSet => drop(edit.rank_put(b"member:7", 3.5)?),
                _ => edit.list_insert(5.min(edit.len()), b"member")?,
            }
            Ok(())
        })?;
    }
    commit(store, committer)?;
    store.drop_snapshot(b"2")?;
    for _ in 0..50 {
        store.reclaim(100)?;
    }
    commit(store, committer)
}

// --------------------------------------------------------------------------------------- logs

const SEGMENT_BYTES: u64 = 16 << 10;
const SHARD: ShardId = ShardId(1);
/// Before the sample's first entry: a mark that errs in its range speaks of more than any memory.
const BEFORE: u64 = 1 << 60;

fn log_options(dir: &Path) -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::new(dir, LogKind::Memory) }
}

type LogResult<T> = std::result::Result<T, LogError>;

fn append(log: &Log, index: u64) -> LogResult<()> {
    let payload = vec![index as u8; 100];
    let (term, index, kind) = (Term(1), LogIndex(index), EntryKind::Normal);
    log.append_now(&[Entry { shard: SHARD, term, index, kind, payload: &[&payload] }])
}

/// The files of a log of some segments, by name, made in `dir`, which is empty.
fn sample_log(dir: &Path) -> &'static [(String, Vec<u8>)] {
    static SAMPLE: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let (log, _) = Log::open(&log_options(dir)).expect("an empty directory");
        for index in 1..=250 {
            append(&log, BEFORE + index).expect("memory takes it");
        }
        // Then the first segment holds nothing: what is read begins with a mark that speaks of
        // what lay there, of which some was copied, and the rest purged.
        log.relocate(SEGMENT_BYTES as usize).expect("memory takes it");
        log.purge(SHARD, LogId::new(Term(1), LogIndex(BEFORE + 90))).expect("memory takes it");
        log.close().expect("memory takes it");
        drop(log);
        let files = std::fs::read_dir(dir.join("log")).expect("the log's directory");
        let files = files.map(|file| {
            let file = file.expect("an entry");
            let bytes = std::fs::read(file.path()).expect("a segment");
            (file.file_name().into_string().expect("a segment's name"), bytes)
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        std::fs::remove_dir_all(dir.join("log")).expect("a directory of ours");
        files
    })
}

/// A log of any bytes is looked at and opened, replayed and appended to without a panic; what was
/// opened and appended to opens again. The first byte says how the others are meant: as a segment
/// file, or as edits of a sample, with checksums that fit or not. `dir` is an empty directory, best
/// in memory, and is empty again afterwards.
pub fn log(dir: &Path, data: &[u8]) {
    let [control, rest @ ..] = data else { return };
    let mut files = sample_log(dir).to_vec();
    match control % 4 {
        0 => files = vec![("000001.seg".to_owned(), rest.to_vec())],
        mode => edit_log(&mut files, rest, mode == 1),
    }
    std::fs::create_dir_all(dir.join("log")).expect("a directory of ours");
    for (name, bytes) in &files {
        std::fs::write(dir.join("log").join(name), bytes).expect("a file of ours");
    }
    // Errors are what is wanted of most.
    let _ = Log::look(&dir.join("log"));
    if let Ok(last) = use_log(dir) {
        let (log, _) = Log::open(&log_options(dir)).expect("a log that was closed in order");
        assert_eq!(log.last(SHARD), Some(last), "what was appended");
        log.close().expect("memory takes it");
    }
    std::fs::remove_dir_all(dir.join("log")).expect("a directory of ours");
}

/// Replays and appends; returns the last entry.
fn use_log(dir: &Path) -> LogResult<LogId> {
    let (log, recovered) = Log::open(&log_options(dir))?;
    for (shard, state) in &recovered.shards {
        if let Some(first) = state.first {
            log.replay(*shard, first, |_| Ok(()))?;
        }
    }
    let last = log.last(SHARD).map_or(0, |last| last.index.0);
    append(&log, last.wrapping_add(1))?;
    let last = log.last(SHARD);
    log.close()?;
    Ok(last.expect("an entry was appended"))
}

/// Five bytes an edit: which file, where in it, what to do, with what.
fn edit_log(files: &mut [(String, Vec<u8>)], edits: &[u8], fits: bool) {
    for edit in edits.chunks_exact(5).take(8) {
        let [which, at, at_high, what, value] = *edit else { continue };
        let which = usize::from(which) % files.len();
        let bytes = &mut files[which].1;
        let at = usize::from(u16::from_le_bytes([at, at_high])) % bytes.len().max(1);
        match what % 8 {
            0..=2 => bytes[at] = value,
            3..=5 => bytes[at] ^= 1 << (value % 8),
            6 => bytes[at..].fill(value),
            _ => bytes.truncate(at.max(log_layout::HEADER_BYTES)),
        }
    }
    if fits {
        seal_log(files);
    }
}

/// Makes all checksums fit, also those by which a segment names the end of the one before it.
fn seal_log(files: &mut [(String, Vec<u8>)]) {
    use log_layout::header::{GENERATION, PREV_CRC, PREV_GENERATION};
    let whole = |bytes: &&mut Vec<u8>| bytes.len() >= log_layout::HEADER_BYTES;
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map(|b| u64::from_le_bytes(*b));
    let mut segments: Vec<_> = files.iter_mut().map(|(_, bytes)| bytes).filter(whole).collect();
    segments.sort_by_key(|bytes| word(bytes, GENERATION));
    let mut before = (None, 0);
    for bytes in segments {
        if word(bytes, PREV_GENERATION) == before.0 {
            bytes[PREV_CRC..PREV_CRC + 4].copy_from_slice(&u32::to_le_bytes(before.1));
        }
        before = (word(bytes, GENERATION), seal_segment(bytes));
    }
}

/// Makes all checksums of a segment fit, record by record as far as their lengths lead. Returns
/// that of the last record.
fn seal_segment(bytes: &mut [u8]) -> u32 {
    use log_layout::{HEADER_BYTES, RECORD_BYTES, header, record};
    let get = |bytes: &[u8], at: usize| {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let crc = crc32fast::hash(&bytes[..header::CRC]).to_le_bytes();
    bytes[header::CRC..HEADER_BYTES].copy_from_slice(&crc);
    let mut salt = crc32fast::Hasher::new();
    salt.update(&bytes[header::UUID..header::UUID + 16]);
    salt.update(&bytes[header::GENERATION..header::GENERATION + 8]);
    let salt = salt.finalize();
    let mut prev_crc = get(bytes, header::PREV_CRC);
    let mut at = HEADER_BYTES;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= RECORD_BYTES) {
        let len = get(rest, record::PAYLOAD_LEN) as usize;
        // Behind the last record there are zeros.
        let is_record = rest[record::KIND] != 0;
        let Some(payload) = rest.get(RECORD_BYTES..RECORD_BYTES + len).filter(|_| is_record) else {
            break;
        };
        let crc = crc32fast::hash(payload).to_le_bytes();
        rest[record::PAYLOAD_CRC..record::PAYLOAD_CRC + 4].copy_from_slice(&crc);
        rest[record::PREV_CRC..record::PREV_CRC + 4].copy_from_slice(&prev_crc.to_le_bytes());
        let mut crc = crc32fast::Hasher::new_with_initial(salt);
        crc.update(&rest[record::PAYLOAD_CRC..RECORD_BYTES]);
        prev_crc = crc.finalize();
        rest[record::CRC..record::CRC + 4].copy_from_slice(&prev_crc.to_le_bytes());
        at += log_layout::record_bytes(len);
    }
    prev_crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the half of the inputs that is to get past checksums does not.
    #[test]
    fn checksums_that_are_made_to_fit_are_those_that_were_there() {
        let Sample { pages, places } = sample();
        for place in places {
            let bytes = read(pages, *place);
            let there: [u8; 4] = bytes[place.crc_at..place.crc_at + 4].try_into().expect("four");
            assert_eq!(crc_of(*place, &bytes), u32::from_le_bytes(there), "{place:?}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let files = sample_log(dir.path());
        assert!(files.len() > 2);
        let mut sealed = files.to_vec();
        seal_log(&mut sealed);
        for (sealed, (name, bytes)) in sealed.iter().zip(files) {
            assert!(sealed.1 == *bytes, "{name}");
        }
    }

    #[test]
    fn a_mark_that_claims_more_entries_than_memory_takes_none_for_them() {
        use crate::layout::log::{HEADER_BYTES, RECORD_BYTES, mark};
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = sample_log(dir.path()).to_vec();
        let was = (BEFORE + 1).to_le_bytes();
        let at = HEADER_BYTES + RECORD_BYTES + mark::FIRST;
        let marks = files.iter_mut().map(|(_, bytes)| bytes);
        let mut edited = 0;
        for bytes in marks.filter(|bytes| bytes[at..].starts_with(&was)) {
            bytes[at..at + 8].copy_from_slice(&1u64.to_le_bytes());
            edited += 1;
        }
        assert!(edited > 1, "{edited} marks");
        seal_log(&mut files);
        std::fs::create_dir_all(dir.path().join("log")).expect("a directory of ours");
        for (name, bytes) in &files {
            std::fs::write(dir.path().join("log").join(name), bytes).expect("a file of ours");
        }
        // All that was claimed and is not there is purged later on.
        let last = use_log(dir.path()).expect("a log that makes sense");
        assert_eq!(last.index, LogIndex(BEFORE + 251));
    }
}
