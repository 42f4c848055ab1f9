//! The log as it is being written: what is known of every shard, the chain of segments, and the
//! chunks on their way to the medium.
//!
//! Everything that enters the log becomes a record in the newest *chunk*: the bytes of one batch,
//! which one write will make durable. Where a chunk will lie is settled as it fills, so that its
//! entries can be read from it before they are written; only what its records must know of their
//! batch is filled in when it is closed.
//!
//! What a crash leaves, step by step:
//! * while a chunk is written: any of its sectors; the batch is cut whole at the next open.
//! * while a segment is opened: the file's old header, the new one with or without its marks, or
//!   one that is being replaced. Until header and marks are whole the segment before it is the
//!   newest, and everything in that is durable.
//! * a segment is used again only after a record that says so (a purge, or a newer segment's
//!   header) is durable: no open will look for what it held.

use super::error::{LogError, Result};

use super::index::{Loc, ShardLog, follows};
use super::medium::LogFile;
use super::record::{Header, LogId, Record, salt, seal};
use super::spares::{SegmentFile, Spares};
use super::{Done, Entry};
use crate::layout::log::{self as layout, kind};
use cairn_protocol::ids::{LogIndex, ShardId, Term};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, OnceLock};

/// A segment of the chain. Readers hold it while they read: that keeps its file from being reused.
pub(crate) struct Segment {
    pub seq: u32,
    pub generation: u64,
    /// Where the checksums of its record headers begin.
    pub salt: u32,
    /// Set when the opening batch is about to be written.
    pub file: OnceLock<SegmentFile>,
    /// What to write in place of an unknown file name.
    pub place: String,
}

impl Segment {
    /// Its file's name, for messages.
    pub(crate) fn path(&self) -> String {
        let name = self.file.get().map_or("(unnamed)", |f| &f.name);
        format!("{}/{name}", self.place)
    }

    pub(crate) fn log_file(&self) -> Result<&Arc<dyn LogFile>> {
        // Only an opening that failed leaves it unset, and that poisons the log.
        self.file.get().map(|f| &f.file).ok_or(LogError::Closed)
    }
}

/// A segment and how many entries of any shard still lie in it.
struct Live {
    segment: Arc<Segment>,
    entries: u32,
}

/// A place in the chain: everything before it, in all segments.
pub(crate) type Position = (u32, u32);

/// Bytes on their way to the medium: one batch.
pub(crate) struct Chunk {
    pub segment: Arc<Segment>,
    /// Offset of `buf` in the segment.
    pub base: u32,
    pub buf: Vec<u8>,
    /// The segment's header is to be made, in front of the marks.
    opening: Option<Box<Opening>>,
    /// Is to be durable once written; set for all where the medium is synced at once.
    pub sync: bool,
    pub dones: Dones,
}

/// Callbacks. A chunk is shared with readers while it is written, and callbacks are not for sharing:
/// the mutex is never contended, it only says so.
#[derive(Default)]
pub(crate) struct Dones(Mutex<Vec<Done>>);

impl Dones {
    /// All of them, in order.
    pub(crate) fn take(self) -> Vec<Done> {
        self.0.into_inner()
    }
}

struct Opening {
    header: Header,
    before: Option<Arc<Segment>>,
}

impl Chunk {
    pub(crate) fn end(&self) -> u32 {
        self.base + self.buf.len() as u32
    }

    /// Bytes of a record in it, if it lies there.
    pub(crate) fn slice(&self, loc: Loc) -> Option<&[u8]> {
        if self.segment.seq != loc.seq {
            return None;
        }
        let at = loc.offset.checked_sub(self.base)? as usize;
        self.buf.get(at..at + layout::RECORD_BYTES + loc.len as usize)
    }
}

/// What never changes while the log is open.
pub(crate) struct Fixed {
    pub uuid: [u8; 16],
    pub boot_id: [u8; 16],
    pub segment_bytes: u32,
    pub max_payload: usize,
    pub place: String,
    /// Writes return before they are durable, and a sync comes later.
    pub lazy: bool,
}

pub(crate) struct State {
    pub fixed: Fixed,
    pub shards: BTreeMap<ShardId, ShardLog>,
    segments: VecDeque<Live>,
    /// Where the next record will lie.
    head: Position,
    /// How far everything is written, and may be read from files.
    pub written: Position,
    /// How far everything is durable.
    pub durable: Position,
    /// Checksum of the last record of the last closed chunk, and where that chunk ends.
    chain: u32,
    chain_end: u32,
    pub next_generation: u64,
    /// What lies behind the head could come alive: go on in another segment.
    pub must_rotate: bool,
    pub queue: VecDeque<Chunk>,
    pub inflight: Option<Arc<Chunk>>,
    /// Segments without entries, and what must be durable before they are used again.
    retired: VecDeque<(Position, Arc<Segment>)>,
    /// A buffer to use again.
    buf: Vec<u8>,
    pub poison: Option<LogError>,
    pub closed: bool,
}

/// What recovery found, from which the log goes on.
pub(crate) struct Resume {
    pub shards: BTreeMap<ShardId, ShardLog>,
    /// The chain, oldest first; `seq` counts from 0.
    pub segments: Vec<Arc<Segment>>,
    pub end: u32,
    pub chain: u32,
    pub next_generation: u64,
    pub must_rotate: bool,
}

/// A buffer that grew beyond this is not kept.
const KEEP_BUFFER: usize = 1 << 20;

impl State {
    pub(crate) fn new(fixed: Fixed, resume: Resume) -> Self {
        let mut segments: VecDeque<Live> =
            resume.segments.into_iter().map(|segment| Live { segment, entries: 0 }).collect();
        for loc in resume.shards.values().flat_map(|shard| &shard.locs) {
            segments[loc.seq as usize].entries += 1;
        }
        let head = (segments.back().map_or(0, |live| live.segment.seq), resume.end);
        Self {
            fixed,
            shards: resume.shards,
            head,
            written: head,
            durable: head,
            chain: resume.chain,
            chain_end: resume.end,
            next_generation: resume.next_generation,
            must_rotate: resume.must_rotate || segments.is_empty(),
            segments,
            queue: VecDeque::new(),
            inflight: None,
            retired: VecDeque::new(),
            buf: Vec::new(),
            poison: None,
            closed: false,
        }
    }

    /// Fails when the log can no longer be used.
    pub(crate) fn usable(&self) -> Result<()> {
        match &self.poison {
            Some(e) => Err(e.clone()),
            None if self.closed => Err(LogError::Closed),
            None => Ok(()),
        }
    }

    /// Where the log ends once everything queued is written.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// How many bytes of the newest segment are written, but not durable.
    pub(crate) fn dirty_bytes(&self) -> u32 {
        let durable = if self.durable.0 == self.written.0 { self.durable.1 } else { 0 };
        self.written.1 - durable
    }

    /// The segment at `seq`, while it is in the chain.
    pub(crate) fn segment(&self, seq: u32) -> Option<&Arc<Segment>> {
        let front = self.segments.front()?.segment.seq;
        Some(&self.segments.get(seq.checked_sub(front)? as usize)?.segment)
    }

    /// How many segments the chain has.
    pub(crate) fn chain_len(&self) -> usize {
        self.segments.len()
    }

    /// Checks a whole append before any of it enters the log.
    fn admit(&self, entries: &[Entry<'_>]) -> Result<()> {
        let mut at: Option<(ShardId, Option<LogId>)> = None;
        for (i, entry) in entries.iter().enumerate() {
            let len = entry.payload_len();
            if len > self.fixed.max_payload {
                return Err(too_large("payload", len, self.fixed.max_payload));
            }
            // The last one of this shard: usually the entry before; else look further back.
            let last = match at {
                Some((shard, last)) if shard == entry.shard => last,
                _ => match entries[..i].iter().rev().find(|e| e.shard == entry.shard) {
                    Some(earlier) => Some(earlier.log_id()),
                    None => self.last_of(entry.shard)?,
                },
            };
            if let Some(expected) = follows(last, entry.log_id()) {
                return Err(LogError::OutOfOrder {
                    shard: entry.shard,
                    index: entry.index,
                    expected,
                });
            }
            at = Some((entry.shard, Some(entry.log_id())));
        }
        Ok(())
    }

    fn last_of(&self, shard: ShardId) -> Result<Option<LogId>> {
        match self.shards.get(&shard) {
            Some(log) => Ok(log.last),
            None => self.admit_shard().map(|()| None),
        }
    }

    /// Refuses a new shard when the marks of all would take more than a quarter of a segment.
    fn admit_shard(&self) -> Result<()> {
        let mark = layout::record_bytes(layout::MARK_BYTES + layout::MAX_VOTE_BYTES);
        let (len, max) = ((self.shards.len() + 1) * mark, self.fixed.segment_bytes as usize / 4);
        if len > max { Err(too_large("the set of shards", len, max)) } else { Ok(()) }
    }

    /// Takes `entries` into the log, in memory and in the open chunk.
    pub(crate) fn append(&mut self, entries: &[Entry<'_>]) -> Result<()> {
        self.usable()?;
        self.admit(entries)?;
        for entry in entries {
            let (kind, id) = (entry.kind.code(), entry.log_id());
            let loc = self.record(entry.shard, kind, 0, id, entry.payload);
            self.hold(loc);
            self.shards.entry(entry.shard).or_default().push(id, loc);
        }
        Ok(())
    }

    pub(crate) fn save_vote(&mut self, shard: ShardId, vote: &[u8]) -> Result<()> {
        self.usable()?;
        if vote.len() > layout::MAX_VOTE_BYTES {
            return Err(too_large("vote", vote.len(), layout::MAX_VOTE_BYTES));
        }
        self.last_of(shard)?;
        self.record(shard, kind::VOTE, 0, NOWHERE, &[vote]);
        self.shards.entry(shard).or_default().vote = Some(vote.to_vec());
        if let Some(chunk) = self.queue.back_mut() {
            chunk.sync = true;
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, shard: ShardId, keep: Option<LogId>) -> Result<()> {
        self.usable()?;
        let Some(log) = self.shards.get(&shard) else { return Ok(()) };
        if !log.has_after(keep) {
            return Ok(());
        }
        if let Some(expected) = log.refuses_truncate(keep) {
            let index = keep.map_or(LogIndex(0), |id| id.index);
            return Err(LogError::OutOfOrder { shard, index, expected });
        }
        let (id, flags) = match keep {
            Some(id) => (id, 0),
            None => (NOWHERE, layout::FLAG_NOTHING),
        };
        self.record(shard, kind::TRUNCATE, flags, id, &[]);
        let Self { shards, segments, .. } = self;
        if let Some(log) = shards.get_mut(&shard) {
            log.truncate(keep, |loc| release(segments, loc));
        }
        Ok(())
    }

    pub(crate) fn purge(&mut self, shard: ShardId, upto: LogId) -> Result<()> {
        self.usable()?;
        self.last_of(shard)?;
        if self.shards.get(&shard).is_some_and(|log| !log.purges(upto)) {
            return Ok(());
        }
        // The marks of a segment opened for the record must not yet know what it says.
        self.make_room(layout::PURGE_BYTES);
        let Self { shards, segments, .. } = self;
        shards.entry(shard).or_default().purge(upto, |loc| release(segments, loc));
        let newest = self.segments.back().map_or(0, |live| live.segment.generation);
        let first_live = self.first_held().unwrap_or(newest);
        self.record(shard, kind::PURGE, 0, upto, &[&first_live.to_le_bytes()]);
        self.retire();
        Ok(())
    }

    /// Copies an entry that lies at `old` to the head, so that its segment can be used again. Does
    /// nothing when it has gone from there meanwhile.
    pub(crate) fn move_entry(
        &mut self,
        shard: ShardId,
        old: Loc,
        entry: (u8, LogId),
        payload: &[u8],
    ) -> Result<()> {
        self.usable()?;
        let (kind, id) = entry;
        if self.shards.get(&shard).and_then(|log| log.loc(id.index.0)) != Some(old) {
            return Ok(());
        }
        let loc = self.record(shard, kind, layout::FLAG_MOVED, id, &[payload]);
        let Self { shards, segments, .. } = self;
        if let Some(place) = shards.get_mut(&shard).and_then(|log| log.loc_mut(id.index.0)) {
            *place = loc;
            release(segments, old);
        }
        self.hold(loc);
        Ok(())
    }

    /// Entries that lie in the oldest segment, up to `budget` payload bytes but at least one; none
    /// when it is also the newest.
    pub(crate) fn oldest_entries(&self, budget: usize) -> Vec<(ShardId, u64, Loc)> {
        let oldest = self.segments.front().map_or(self.head.0, |live| live.segment.seq);
        let mut found = Vec::new();
        let mut bytes = 0;
        if oldest == self.head.0 {
            return found;
        }
        for (shard, log) in &self.shards {
            for (i, loc) in log.locs.iter().enumerate().filter(|(_, loc)| loc.seq == oldest) {
                bytes += loc.len as usize;
                if bytes > budget && !found.is_empty() {
                    return found;
                }
                found.push((*shard, log.first + i as u64, *loc));
            }
        }
        found
    }

    /// Writes a record into the open chunk, opening a segment first when it does not fit.
    fn record(&mut self, shard: ShardId, kind: u8, flags: u8, id: LogId, payload: &[&[u8]]) -> Loc {
        let len = payload.iter().map(|part| part.len()).sum::<usize>();
        let bytes = self.make_room(len);
        let (seq, offset) = self.head;
        let chunk = self.open_chunk();
        let record = blank(chunk.segment.generation, shard, kind, flags, id);
        put(&mut chunk.buf, record, len, payload);
        self.head.1 += bytes;
        Loc { seq, offset, len: len as u32 }
    }

    /// Opens another segment unless a record with a payload of `len` bytes fits into this one.
    /// Returns the record's length.
    fn make_room(&mut self, len: usize) -> u32 {
        let bytes = layout::record_bytes(len) as u32;
        if self.must_rotate || self.head.1 + bytes > self.fixed.segment_bytes {
            self.rotate();
        }
        bytes
    }

    /// The chunk that records go into: the newest one, unless that opens a segment.
    fn open_chunk(&mut self) -> &mut Chunk {
        let (seq, base) = self.head;
        let open = |c: &Chunk| c.segment.seq == seq && c.opening.is_none();
        if !self.queue.back().is_some_and(open) {
            let Some(newest) = self.segments.back() else {
                unreachable!("`record` opens a segment before anything else");
            };
            let segment = Arc::clone(&newest.segment);
            let buf = std::mem::take(&mut self.buf);
            let (opening, dones) = (None, Dones::default());
            self.queue.push_back(Chunk { segment, base, buf, opening, sync: false, dones });
        }
        let last = self.queue.len() - 1;
        &mut self.queue[last]
    }

    /// Goes on in a new segment, which opens with the state of every shard as it is now.
    fn rotate(&mut self) {
        self.must_rotate = false;
        let generation = self.next_generation;
        self.next_generation += 1;
        let before = self.segments.back().map(|live| Arc::clone(&live.segment));
        let seq = before.as_ref().map_or(0, |segment| segment.seq + 1);
        let header = Header {
            uuid: self.fixed.uuid,
            boot_id: self.fixed.boot_id,
            generation,
            segment_bytes: u64::from(self.fixed.segment_bytes),
            prev_generation: before.as_ref().map_or(0, |segment| segment.generation),
            first_live: self.first_held().unwrap_or(generation),
            ..Header::default()
        };
        let mut buf = vec![0; layout::HEADER_BYTES];
        for (shard, log) in &self.shards {
            let mark = log.mark();
            let record = blank(generation, *shard, kind::MARK, 0, NOWHERE);
            put(&mut buf, record, mark.len(), &[&mark]);
        }
        if self.shards.is_empty() {
            // An opening batch is never empty: whether it is whole tells whether the segment is.
            put(&mut buf, blank(generation, ShardId(0), kind::MARK, 0, NOWHERE), 0, &[]);
        }
        let place = self.fixed.place.clone();
        let salt = salt(&self.fixed.uuid, generation);
        let segment = Arc::new(Segment { seq, generation, salt, file: OnceLock::new(), place });
        self.segments.push_back(Live { segment: Arc::clone(&segment), entries: 0 });
        self.head = (seq, buf.len() as u32);
        let opening = Some(Box::new(Opening { header, before }));
        let chunk = Chunk { segment, base: 0, buf, opening, sync: true, dones: Dones::default() };
        self.queue.push_back(chunk);
        self.retire();
    }

    /// Generation of the oldest segment that an entry lies in.
    fn first_held(&self) -> Option<u64> {
        let held = self.segments.iter().find(|live| live.entries > 0);
        held.map(|live| live.segment.generation)
    }

    /// Takes segments without entries from the chain's old end. They may be used again once what
    /// was queued so far is durable, for that says that they are not needed.
    fn retire(&mut self) {
        while self.segments.len() > 1 && self.segments[0].entries == 0 {
            if let Some(live) = self.segments.pop_front() {
                self.retired.push_back((self.head, live.segment));
            }
        }
    }

    /// Hands retired segments over for reuse, as far as durability and readers allow.
    pub(crate) fn recycle(&mut self, spares: &Spares) {
        let durable = self.durable;
        let free = |(at, segment): &(Position, Arc<Segment>)| {
            *at <= durable && Arc::strong_count(segment) == 1
        };
        while self.retired.front().is_some_and(free) {
            let segment = self.retired.pop_front().and_then(|(_, s)| Arc::into_inner(s));
            if let Some(file) = segment.and_then(|s| s.file.into_inner()) {
                spares.put(file);
            }
        }
    }

    fn hold(&mut self, loc: Loc) {
        if let Some(live) = live(&mut self.segments, loc) {
            live.entries += 1;
        }
    }

    /// Attaches `done` to what was queued last. Returns it when nothing is under way.
    pub(crate) fn attach(&mut self, done: Done) -> Option<Done> {
        if self.queue.is_empty() {
            if self.inflight.is_none() {
                return Some(done);
            }
            // An empty chunk keeps the order of completions.
            self.open_chunk();
        }
        match self.queue.back_mut() {
            Some(chunk) => chunk.dones.0.get_mut().push(done),
            None => return Some(done),
        }
        None
    }

    /// Closes the oldest chunk: its batch is now known, and its records say so.
    pub(crate) fn close_next(&mut self) -> Option<Chunk> {
        let mut chunk = self.queue.pop_front()?;
        let (end, seq) = (chunk.end(), chunk.segment.seq);
        if chunk.buf.is_empty() {
            return Some(chunk);
        }
        let (mut records, mut durable_to) = (0, chunk.base);
        if let Some(opening) = &mut chunk.opening {
            opening.header.prev_crc = self.chain;
            opening.header.prev_end = self.chain_end;
            records = layout::HEADER_BYTES;
        } else if self.fixed.lazy {
            durable_to = if self.durable.0 == seq { self.durable.1 } else { 0 };
        }
        chunk.sync |= !self.fixed.lazy;
        let salt = chunk.segment.salt;
        self.chain = seal(&mut chunk.buf[records..], end, durable_to, self.chain, salt);
        self.chain_end = end;
        Some(chunk)
    }

    /// Notes that `chunk` was written.
    pub(crate) fn wrote(&mut self, chunk: &Chunk, spares: &Spares) {
        if chunk.buf.is_empty() {
            return;
        }
        self.written = (chunk.segment.seq, chunk.end());
        if chunk.sync {
            self.synced(self.written, spares);
        }
    }

    /// Notes that everything before `position` is durable.
    pub(crate) fn synced(&mut self, position: Position, spares: &Spares) {
        if position > self.durable {
            self.durable = position;
        }
        if !self.retired.is_empty() {
            self.recycle(spares);
        }
    }

    /// Takes a chunk's buffer back.
    pub(crate) fn reuse(&mut self, mut buf: Vec<u8>) {
        if buf.capacity() <= KEEP_BUFFER && buf.capacity() > self.buf.capacity() {
            buf.clear();
            self.buf = buf;
        }
    }

    /// Ends the log: nothing that is queued will be written. Returns who is to be told.
    pub(crate) fn fail(&mut self, e: &LogError) -> Vec<Done> {
        self.poison.get_or_insert_with(|| e.clone());
        self.inflight = None;
        self.queue.drain(..).flat_map(|chunk| chunk.dones.take()).collect()
    }
}

/// Term and index of records that have none.
const NOWHERE: LogId = LogId { term: Term(0), index: LogIndex(0) };

fn too_large(what: &'static str, len: usize, max: usize) -> LogError {
    LogError::TooLarge { what, len_bytes: len as u64, max_bytes: max as u64 }
}

fn live(segments: &mut VecDeque<Live>, loc: Loc) -> Option<&mut Live> {
    let front = segments.front()?.segment.seq;
    segments.get_mut(loc.seq.checked_sub(front)? as usize)
}

/// An entry at `loc` is no longer there.
fn release(segments: &mut VecDeque<Live>, loc: Loc) {
    if let Some(live) = live(segments, loc) {
        live.entries -= 1;
    }
}

/// A record that knows nothing of its batch and payload.
fn blank(generation: u64, shard: ShardId, kind: u8, flags: u8, id: LogId) -> Record {
    Record {
        crc: 0,
        payload_crc: 0,
        generation,
        durable_to: 0,
        batch_end: 0,
        prev_crc: 0,
        payload_len: 0,
        shard,
        kind,
        flags,
        term: id.term.0,
        index: id.index.0,
    }
}

/// Adds a record to `buf`; [`seal`] completes it.
fn put(buf: &mut Vec<u8>, mut record: Record, len: usize, payload: &[&[u8]]) {
    let start = buf.len();
    let body = start + layout::RECORD_BYTES;
    buf.reserve(layout::record_bytes(len));
    buf.resize(body, 0);
    for part in payload {
        buf.extend_from_slice(part);
    }
    // In one go over the copy: the checksum is slow on short parts.
    record.payload_crc = crc32fast::hash(&buf[body..]);
    record.payload_len = len as u32;
    buf[start..body].copy_from_slice(&record.encode());
    buf.resize(buf.len().next_multiple_of(layout::ALIGN), 0);
}

/// Writes a closed chunk, and returns once it is as durable as it has to be.
pub(crate) fn write(chunk: &Chunk, spares: &Spares) -> Result<()> {
    if chunk.buf.is_empty() {
        return Ok(());
    }
    if let Some(opening) = &chunk.opening {
        return open_segment(chunk, opening, spares);
    }
    let file = chunk.segment.log_file()?;
    let failed = |doing| move |e: io::Error| io_error(doing, chunk, &e);
    file.write_at(u64::from(chunk.base), &chunk.buf).map_err(failed("writing"))?;
    if chunk.sync { file.persist().map_err(failed("syncing")) } else { Ok(()) }
}

fn open_segment(chunk: &Chunk, opening: &Opening, spares: &Spares) -> Result<()> {
    let mut header = opening.header;
    if let Some(before) = &opening.before {
        // The new header declares all of the segment before it durable.
        before.log_file()?.persist().map_err(|e| io_error("syncing", chunk, &e))?;
        header.prev_file = before.file.get().map_or(0, |f| f.number);
    }
    let file = spares.take()?;
    header.file_number = file.number;
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&chunk.buf[layout::HEADER_BYTES..]);
    let log_file = Arc::clone(&file.file);
    // Nobody else sets it: a segment is opened once.
    let _ = chunk.segment.file.set(file);
    let failed = |doing| move |e: io::Error| io_error(doing, chunk, &e);
    log_file.replace_front(&bytes).map_err(failed("opening segment"))
}

fn io_error(doing: &'static str, chunk: &Chunk, e: &io::Error) -> LogError {
    LogError::io(doing, chunk.segment.path(), u64::from(chunk.base), e)
}
