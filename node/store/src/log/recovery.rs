//! Opening a log: which segments count, what they say, and where to go on.
//!
//! The newest segment is scanned first, for it says which older ones are still needed; those are
//! then replayed in order. Everything before the newest segment's last batch was durable when that
//! was written, so anything wrong there is damage, and an error; a last batch that is not whole was
//! never acknowledged, and is cut.

use super::error::{LogError, Result};
use super::index::{Loc, ShardLog};
use super::medium::{LogFile, LogMedium};
use super::record::{BadHeader, EntryKind, Header, Record, get_u64, salt};
use super::replay::Replayed;
use super::spares::{SegmentFile, UNFINISHED, file_name};
use super::state::{Resume, Segment};
use super::{Cut, Recovered, SegmentLook, ShardState};
use crate::layout::log::{self as layout, kind};
use cairn_protocol::ids::ShardId;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// What was found.
pub(crate) struct Found {
    pub resume: Resume,
    pub recovered: Recovered,
    pub spares: Vec<SegmentFile>,
    pub next_number: u32,
    /// Of the files there, when there are any.
    pub segment_bytes: Option<u64>,
}

/// A segment file and what its header says.
#[derive(Clone)]
struct Candidate {
    file: SegmentFile,
    path: String,
    header: Header,
}

/// Looks at what lies in `medium` as an open would, and at each segment file.
pub(crate) fn look(medium: &Arc<dyn LogMedium>) -> Result<(Recovered, Vec<SegmentLook>)> {
    let (candidates, _) = candidates(medium)?;
    let found = recover(medium, [0; 16])?;
    let mut segments: Vec<SegmentLook> = candidates
        .iter()
        .map(|c| SegmentLook {
            file: c.path.clone(),
            generation: c.header.generation,
            len_bytes: c.header.segment_bytes,
            is_needed: found.spares.iter().all(|spare| spare.number != c.file.number),
        })
        .collect();
    segments.sort_by_key(|segment| segment.generation);
    Ok((found.recovered, segments))
}

/// Opens what lies in `medium`. Writes nothing but removals of files that were never finished.
pub(crate) fn recover(medium: &Arc<dyn LogMedium>, fresh_uuid: [u8; 16]) -> Result<Found> {
    let (candidates, next_number) = candidates(medium)?;
    let uuid = candidates.first().map_or(fresh_uuid, |c| c.header.uuid);
    let segment_bytes = candidates.first().map(|c| c.header.segment_bytes);
    let opened = candidates.iter().filter(|c| c.header.generation > 0);
    let next_generation = opened.map(|c| c.header.generation).max().unwrap_or(0) + 1;
    let mut window = Window::new();
    let newest = newest(&candidates, &mut window)?;
    let Some(newest) = newest else {
        return Ok(Found {
            resume: Resume {
                shards: BTreeMap::new(),
                segments: Vec::new(),
                end: 0,
                chain: 0,
                next_generation,
                must_rotate: true,
            },
            recovered: Recovered { uuid, created: true, ..Recovered::default() },
            spares: candidates.into_iter().map(|c| c.file).collect(),
            next_number,
            segment_bytes,
        });
    };
    let chain = chain(&candidates, &newest)?;
    let (shards, scanned_bytes) = replay(&chain, &newest, &mut window)?;
    let needed = |c: &Candidate| chain.iter().any(|n| n.file.number == c.file.number);
    let spares = candidates.iter().filter(|c| !needed(c)).map(|c| c.file.clone()).collect();
    let place = medium.place();
    let segments = (0..).zip(&chain).map(|(seq, c)| c.segment(seq, &place)).collect();
    let recovered = Recovered {
        shards: shards.iter().map(|(id, log)| (*id, ShardState::of(log))).collect(),
        uuid,
        boot_id: newest.at.header.boot_id,
        created: false,
        segments: chain.len(),
        scanned_bytes,
        cut: newest.cut.clone(),
    };
    let resume = Resume {
        shards,
        segments,
        end: newest.scan.end,
        chain: newest.scan.chain,
        next_generation,
        must_rotate: newest.superseded || newest.scan.leftovers || newest.at.header.differs,
    };
    Ok(Found { resume, recovered, spares, next_number, segment_bytes })
}

impl Candidate {
    fn segment(&self, seq: u32, place: &str) -> Arc<Segment> {
        let file = OnceLock::from(self.file.clone());
        let generation = self.header.generation;
        let salt = salt(&self.header.uuid, generation);
        Arc::new(Segment { seq, generation, salt, file, place: place.to_owned() })
    }
}

/// All segment files with sound headers, and the number for the next one.
fn candidates(medium: &Arc<dyn LogMedium>) -> Result<(Vec<Candidate>, u32)> {
    let place = medium.place();
    let failed = |doing, e: &std::io::Error| LogError::io(doing, place.clone(), 0, e);
    let mut found = Vec::new();
    let mut next_number = 1;
    let mut names = medium.list().map_err(|e| failed("listing", &e))?;
    names.sort();
    for name in names {
        if name.ends_with(UNFINISHED) {
            medium.remove(&name).map_err(|e| failed("removing an unfinished segment in", &e))?;
        }
        let number = name.strip_suffix(".seg").and_then(|n| n.parse::<u32>().ok());
        let Some(number) = number.filter(|n| file_name(*n) == name) else { continue };
        next_number = next_number.max(number.saturating_add(1));
        match candidate(medium, number, &name)? {
            Some(candidate) => found.push(candidate),
            // Should the removal not last, the next open does it again.
            None => {
                medium
                    .remove(&name)
                    .map_err(|e| failed("removing a half opened segment in", &e))?;
            }
        }
    }
    let first = found.first().map(|c: &Candidate| c.header);
    for c in &found {
        let same = |h: Header| h.uuid == c.header.uuid;
        if !first.is_some_and(same) {
            return Err(LogError::Foreign { file: c.path.clone() });
        }
        if first.is_some_and(|h| h.segment_bytes != c.header.segment_bytes) {
            let at = layout::header::SEGMENT_BYTES as u64;
            return Err(LogError::damaged(&c.path, at, "its length is not that of the others"));
        }
    }
    Ok((found, next_number))
}

/// A segment file; `None` when a crash came while its header was being replaced: it held nothing
/// that was needed, and nothing in it was durable yet.
fn candidate(medium: &Arc<dyn LogMedium>, number: u32, name: &str) -> Result<Option<Candidate>> {
    let path = format!("{}/{name}", medium.place());
    let failed = |doing, e: &std::io::Error| LogError::io(doing, path.clone(), 0, e);
    let file = medium.open(name).map_err(|e| failed("opening", &e))?;
    let len = file.len_bytes().map_err(|e| failed("measuring", &e))?;
    let mut bytes = [0; layout::HEADER_BYTES];
    if len < bytes.len() as u64 {
        return Err(LogError::damaged(path, len, "the file was truncated inside its header"));
    }
    file.read_at(0, &mut bytes).map_err(|e| failed("reading", &e))?;
    if bytes.starts_with(&layout::MAGIC_REPLACING) {
        return Ok(None);
    }
    let header = Header::decode(&bytes).map_err(|e| match e {
        BadHeader::Damaged(what, at) => LogError::damaged(&path, at as u64, what),
        BadHeader::Newer { found, known } => LogError::Newer { file: path.clone(), found, known },
    })?;
    let sound = |what: &str, at: usize| LogError::damaged(&path, at as u64, what);
    if header.segment_bytes != len {
        let what = format!("the file has {len} bytes, its header says {}", header.segment_bytes);
        return Err(LogError::damaged(&path, len.min(header.segment_bytes), what));
    }
    if !(layout::MIN_SEGMENT_BYTES..=layout::MAX_SEGMENT_BYTES).contains(&len) {
        return Err(sound("impossible segment length", layout::header::SEGMENT_BYTES));
    }
    if header.file_number != number {
        return Err(sound("the file was renamed", layout::header::FILE_NUMBER));
    }
    if header.generation > 0 && header.prev_generation >= header.generation {
        return Err(sound("it follows itself", layout::header::PREV_GENERATION));
    }
    let file = SegmentFile { number, name: name.into(), file };
    Ok(Some(Candidate { file, path, header }))
}

/// The newest segment, scanned.
struct Newest {
    at: Candidate,
    scan: Scan,
    records: Vec<(u32, Record)>,
    first_live: u64,
    cut: Option<Cut>,
    /// A segment after it was about to be opened: this one ends where that says.
    superseded: bool,
}

fn newest(candidates: &[Candidate], window: &mut Window) -> Result<Option<Newest>> {
    let Some(top) = candidates.iter().max_by_key(|c| c.header.generation) else { return Ok(None) };
    if top.header.generation == 0 {
        return Ok(None);
    }
    let opened = scan_newest(top, None, window)?;
    if !opened.records.is_empty() {
        return Ok(Some(opened));
    }
    // A crash while it was being opened: the header is there, the marks are not. Nothing else can
    // be in it, and the segment before it is whole.
    if top.header.prev_generation == 0 {
        return Ok(None);
    }
    let before = by_generation(candidates, top.header.prev_generation, top)?;
    let end = (top.header.prev_end, top.header.prev_crc);
    let mut before = scan_newest(before, Some(end), window)?;
    if before.records.is_empty() {
        let at = layout::HEADER_BYTES as u64;
        return Err(LogError::damaged(before.at.path, at, "the opening batch is not whole"));
    }
    before.cut = Some(Cut { file: top.path.clone(), offset: layout::HEADER_BYTES as u64 });
    Ok(Some(before))
}

fn scan_newest(at: &Candidate, end: Option<(u32, u32)>, window: &mut Window) -> Result<Newest> {
    let mut records = Vec::new();
    let mut first_live = at.header.first_live;
    let scan = scan(at, end, window, &mut |batch, window| {
        for (offset, record) in batch {
            if record.kind == kind::PURGE {
                let payload = window.payload(at, *offset, record)?;
                let needed = payload.first_chunk::<{ layout::PURGE_BYTES }>();
                first_live = first_live.max(needed.map_or(0, |b| get_u64(b, 0)));
            }
        }
        records.extend_from_slice(batch);
        Ok(())
    })?;
    let offset = u64::from(scan.end);
    let cut = scan.leftovers.then(|| Cut { file: at.path.clone(), offset });
    Ok(Newest { at: at.clone(), scan, records, first_live, cut, superseded: end.is_some() })
}

fn by_generation<'a>(
    candidates: &'a [Candidate],
    generation: u64,
    after: &Candidate,
) -> Result<&'a Candidate> {
    candidates.iter().find(|c| c.header.generation == generation).ok_or_else(|| {
        let what = format!(
            "segment {generation} before it, in {}, is missing",
            file_name(after.header.prev_file)
        );
        LogError::damaged(&after.path, layout::header::PREV_GENERATION as u64, what)
    })
}

/// The segments that are still needed, oldest first.
fn chain(candidates: &[Candidate], newest: &Newest) -> Result<Vec<Candidate>> {
    let mut chain = vec![newest.at.clone()];
    let mut at = &newest.at;
    while at.header.generation != newest.first_live {
        // Generations fall along the chain, so this ends.
        if at.header.generation < newest.first_live || at.header.prev_generation == 0 {
            let what = format!("segment {} is needed, but not in the chain", newest.first_live);
            let offset = layout::header::PREV_GENERATION as u64;
            return Err(LogError::damaged(&at.path, offset, what));
        }
        at = by_generation(candidates, at.header.prev_generation, at)?;
        chain.push(at.clone());
    }
    chain.reverse();
    Ok(chain)
}

/// Goes through the chain, and returns what it says of each shard.
fn replay(
    chain: &[Candidate],
    newest: &Newest,
    window: &mut Window,
) -> Result<(BTreeMap<ShardId, ShardLog>, u64)> {
    let mut replay = Replay { shards: BTreeMap::new() };
    let mut scanned = u64::from(newest.scan.end);
    let older = chain.len() - 1;
    for (i, at) in chain[..older].iter().enumerate() {
        let next = &chain[i + 1].header;
        let mut batches = 0u32;
        let seq = i as u32;
        let end = scan(at, Some((next.prev_end, next.prev_crc)), window, &mut |batch, window| {
            batches += 1;
            replay.batch(at, seq, batches == 1, batch, window)
        })?;
        scanned += u64::from(end.end);
    }
    // The opening batch of the newest is as long as its marks.
    let opening = newest.records.first().map_or(0, |(_, r)| r.batch_end);
    let split = newest.records.partition_point(|(offset, _)| *offset < opening);
    let (marks, rest) = newest.records.split_at(split);
    replay.batch(&newest.at, older as u32, true, marks, window)?;
    replay.batch(&newest.at, older as u32, false, rest, window)?;
    Ok((replay.complete(&newest.at)?, scanned))
}

struct Replay {
    shards: BTreeMap<ShardId, Replayed>,
}

impl Replay {
    fn batch(
        &mut self,
        at: &Candidate,
        seq: u32,
        opening: bool,
        batch: &[(u32, Record)],
        window: &mut Window,
    ) -> Result<()> {
        if opening {
            return self.open(at, seq, batch, window);
        }
        for (offset, record) in batch {
            let loc = Loc { seq, offset: *offset, len: record.payload_len };
            let wrong = match record.kind {
                kind::VOTE => {
                    let vote = window.payload(at, *offset, record)?.to_vec();
                    self.shards.entry(record.shard).or_default().vote(vote);
                    None
                }
                kind::MARK => Some("a mark outside of the opening batch".to_owned()),
                _ => self.shards.entry(record.shard).or_default().apply(record, loc),
            };
            if let Some(wrong) = wrong {
                let what = format!("record {} of shard {}: {wrong}", record.index, record.shard);
                return Err(LogError::damaged(&at.path, u64::from(*offset), what));
            }
        }
        Ok(())
    }

    /// The marks: in the first segment they are all that is known, in later ones they must say
    /// what the replay came to.
    fn open(
        &mut self,
        at: &Candidate,
        seq: u32,
        marks: &[(u32, Record)],
        window: &mut Window,
    ) -> Result<()> {
        let mut known = std::mem::take(&mut self.shards);
        for (offset, record) in marks {
            let wrong =
                |what: &str| LogError::damaged(&at.path, u64::from(*offset), what.to_owned());
            if record.kind != kind::MARK {
                return Err(wrong("a record among the marks that is none"));
            }
            let payload = window.payload(at, *offset, record)?;
            if payload.is_empty() {
                continue;
            }
            let Some(mark) = Replayed::from_mark(payload) else {
                return Err(wrong("a mark that makes no sense"));
            };
            let log = match known.remove(&record.shard) {
                Some(log) if log.same_state(&mark) => log,
                None if seq == 0 => mark,
                _ => return Err(wrong("a mark that disagrees with the segments before it")),
            };
            self.shards.insert(record.shard, log);
        }
        match known.keys().next() {
            None => Ok(()),
            Some(shard) => {
                let what = format!("the mark of shard {shard} is missing");
                Err(LogError::damaged(&at.path, layout::HEADER_BYTES as u64, what))
            }
        }
    }

    /// What was arrived at, once every entry that the marks spoke of was met, or purged.
    fn complete(self, newest: &Candidate) -> Result<BTreeMap<ShardId, ShardLog>> {
        let complete = |(shard, replayed): (ShardId, Replayed)| match replayed.complete() {
            Ok(log) => Ok((shard, log)),
            Err(index) => {
                let what = format!("entry {index} of shard {shard} is in no segment");
                Err(LogError::damaged(&newest.path, layout::HEADER_BYTES as u64, what))
            }
        };
        self.shards.into_iter().map(complete).collect()
    }
}

impl ShardState {
    pub(super) fn of(log: &ShardLog) -> Self {
        Self { vote: log.vote.clone(), purged: log.purged, first: log.first_held(), last: log.last }
    }
}

/// Where a scan came to.
struct Scan {
    /// End of the last whole batch.
    end: u32,
    /// Checksum of the last record before that.
    chain: u32,
    /// Records of this generation lie behind it.
    leftovers: bool,
}

/// Sees each whole batch, in order.
type Visit<'a> = dyn FnMut(&[(u32, Record)], &mut Window) -> Result<()> + 'a;

/// Goes through the batches of a segment up to `end`, where the segment after it says that the last
/// record is, and its checksum; without that, up to the first batch that is not whole.
fn scan(
    at: &Candidate,
    end: Option<(u32, u32)>,
    window: &mut Window,
    visit: &mut Visit<'_>,
) -> Result<Scan> {
    let salt = salt(&at.header.uuid, at.header.generation);
    let limit = end.map_or(at.header.segment_bytes as u32, |(end, _)| end);
    if u64::from(limit) > at.header.segment_bytes {
        return Err(LogError::damaged(&at.path, u64::from(limit), "it should end beyond its end"));
    }
    let mut scan =
        Scan { end: layout::HEADER_BYTES as u32, chain: at.header.prev_crc, leftovers: false };
    let mut batch = Vec::new();
    window.look_at(&at.file.file);
    let bad = loop {
        if scan.end == limit {
            break None;
        }
        batch.clear();
        match read_batch(at, salt, (scan.end, scan.chain), limit, window, &mut batch)? {
            Some(bad) => break Some(bad),
            None => {
                visit(&batch, window)?;
                if let Some((_, last)) = batch.last() {
                    scan.end = last.batch_end;
                    scan.chain = last.crc;
                }
            }
        }
    };
    match (end, bad) {
        (Some((_, crc)), None) if crc == scan.chain => {}
        (Some(_), None) => {
            let what = "the last record is not the one that the next segment follows";
            return Err(LogError::damaged(&at.path, u64::from(scan.end), what));
        }
        (Some(_), Some(bad)) => {
            return Err(LogError::damaged(&at.path, u64::from(bad.offset), bad.what));
        }
        (None, None) => {}
        (None, Some(bad)) => scan.leftovers = look_behind(at, salt, scan.end, &bad, window)?,
    }
    Ok(scan)
}

/// A record that is not what it should be.
struct Bad {
    offset: u32,
    what: &'static str,
}

/// Reads the batch at `start`, which follows a record with checksum `chain`, into `batch`.
fn read_batch(
    at: &Candidate,
    salt: u32,
    (start, mut chain): (u32, u32),
    limit: u32,
    window: &mut Window,
    batch: &mut Vec<(u32, Record)>,
) -> Result<Option<Bad>> {
    let mut offset = start;
    let mut end = None;
    loop {
        let bad = |what| Ok(Some(Bad { offset, what }));
        // A limit is what another segment says, and may lie before the first record.
        if limit.saturating_sub(offset) < layout::RECORD_BYTES as u32 {
            return bad("a record begins where none fits");
        }
        let bytes = window.get(at, offset, layout::RECORD_BYTES)?;
        let Some(record) = Record::decode(bytes, salt) else {
            return bad("the checksum of a record header is wrong");
        };
        let batch_end = *end.get_or_insert(record.batch_end);
        let fits = batch_end <= limit && record.batch_end == batch_end;
        let left = u64::from(batch_end.saturating_sub(offset));
        if !fits || record.bytes() as u64 > left {
            return bad("a record that does not fit its batch");
        }
        if record.generation != at.header.generation || record.prev_crc != chain {
            return bad("a record that does not follow the one before it");
        }
        let total = record.bytes();
        let bytes = window.get(at, offset, total)?;
        let (payload, padding) =
            bytes[layout::RECORD_BYTES..].split_at(record.payload_len as usize);
        if crc32fast::hash(payload) != record.payload_crc || padding.iter().any(|b| *b != 0) {
            return bad("the checksum of a payload is wrong");
        }
        if !known(record.kind) {
            // Sound, so nothing that a crash could have left.
            let what = format!("a record of unknown kind {}", record.kind);
            return Err(LogError::damaged(&at.path, u64::from(offset), what));
        }
        batch.push((offset, record));
        chain = record.crc;
        offset += total as u32;
        if offset == batch_end {
            return Ok(None);
        }
    }
}

fn known(code: u8) -> bool {
    EntryKind::from_code(code).is_some()
        || matches!(code, kind::VOTE | kind::TRUNCATE | kind::PURGE | kind::MARK)
}

/// Whether records of this generation lie at or behind `end`, where the last whole batch ends.
/// One that was written when the bad record was durable already proves that it was damaged since.
fn look_behind(
    at: &Candidate,
    salt: u32,
    end: u32,
    bad: &Bad,
    window: &mut Window,
) -> Result<bool> {
    const STEP: usize = 256 << 10;
    let generation = at.header.generation.to_le_bytes();
    let limit = at.header.segment_bytes as u32;
    let mut leftovers = false;
    let mut from = end;
    while limit - from >= layout::RECORD_BYTES as u32 {
        let len = ((limit - from) as usize).min(STEP);
        let mut candidates = Vec::new();
        let bytes = window.get(at, from, len)?;
        // A header is found by its generation; its checksum then tells.
        for (i, word) in bytes.chunks_exact(layout::ALIGN).enumerate() {
            if word == generation {
                candidates.push(from + (i * layout::ALIGN) as u32);
            }
        }
        for found in candidates {
            let Some(start) = found.checked_sub(layout::record::GENERATION as u32) else {
                continue;
            };
            if start < end || limit - start < layout::RECORD_BYTES as u32 {
                continue;
            }
            let Some(record) = Record::decode(window.get(at, start, layout::RECORD_BYTES)?, salt)
            else {
                continue;
            };
            if record.durable_to > bad.offset {
                return Err(LogError::damaged(&at.path, u64::from(bad.offset), bad.what));
            }
            leftovers = true;
        }
        from += len as u32;
    }
    Ok(leftovers)
}

/// A piece of a file in memory: records are looked at in place, files are read in large steps.
pub(crate) struct Window {
    file: Option<Arc<dyn LogFile>>,
    start: u64,
    buf: Vec<u8>,
    len: usize,
}

/// How much a window reads at once.
const WINDOW_BYTES: usize = 512 << 10;

impl Window {
    pub(crate) fn new() -> Self {
        Self { file: None, start: 0, buf: Vec::new(), len: 0 }
    }

    /// Turns to another file.
    fn look_at(&mut self, file: &Arc<dyn LogFile>) {
        self.file = Some(Arc::clone(file));
        self.len = 0;
    }

    /// `len` bytes at `offset` of the segment `at`.
    fn get(&mut self, at: &Candidate, offset: u32, len: usize) -> Result<&[u8]> {
        if !self.file.as_ref().is_some_and(|f| Arc::ptr_eq(f, &at.file.file)) {
            self.look_at(&at.file.file);
        }
        self.bytes(u64::from(offset), len, at.header.segment_bytes)
            .map_err(|e| LogError::io("reading", &at.path, u64::from(offset), &e))
    }

    fn payload(&mut self, at: &Candidate, offset: u32, record: &Record) -> Result<&[u8]> {
        let bytes = self.get(at, offset, layout::RECORD_BYTES + record.payload_len as usize)?;
        Ok(&bytes[layout::RECORD_BYTES..])
    }

    fn bytes(&mut self, offset: u64, len: usize, limit: u64) -> std::io::Result<&[u8]> {
        let held = self.start + self.len as u64;
        if self.len == 0 || offset < self.start || offset + len as u64 > held {
            let left = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
            let want = len.max(WINDOW_BYTES.min(left));
            if self.buf.len() < want {
                self.buf.resize(want, 0);
            }
            let Some(file) = &self.file else { return Err(std::io::ErrorKind::NotFound.into()) };
            // Should it fail, nothing of the old piece is left to be taken for the new one.
            self.len = 0;
            file.read_at(offset, &mut self.buf[..want])?;
            (self.start, self.len) = (offset, want);
        }
        let at = (offset - self.start) as usize;
        Ok(&self.buf[at..at + len])
    }
}

/// Checks the bytes of an entry that was read, and returns its header.
pub(crate) fn check_entry(
    bytes: &[u8],
    segment: &Segment,
    want: (ShardId, u64, Loc),
) -> Result<Record> {
    let (shard, index, loc) = want;
    let wrong = |what: &str| LogError::damaged(segment.path(), u64::from(loc.offset), what);
    let Some(record) = Record::decode(bytes, segment.salt) else {
        return Err(wrong("the checksum of a record header is wrong"));
    };
    if record.shard != shard || record.index != index || record.payload_len != loc.len {
        return Err(wrong("another record lies where the entry should"));
    }
    if crc32fast::hash(&bytes[layout::RECORD_BYTES..]) != record.payload_crc {
        return Err(wrong("the checksum of a payload is wrong"));
    }
    Ok(record)
}
