//! The Raft log of a node: one for all its shards, so that one sync serves them all.
//!
//! Here live segments, records, votes and recovery. The log knows entries as bytes with a shard, a
//! term and an index; it never knows what they mean, who leads, or what is committed. It imports
//! ids, `layout::log`, which has every byte, and from `media` how to map and to write lines back; it
//! reads no clock.
//!
//! * [`record`]: records and headers as values. * [`index`]: what is known of a shard, in memory.
//! * [`state`]: the log being written. * [`spares`]: segment files to use next.
//! * [`recovery`]: the log being opened. * [`medium`]: files. * [`crash_disk`]: those of tests.
//!
//! # How it is kept
//! Everything is a record of one chain: entries, votes, truncations and purges of all shards in the
//! order of the calls. An open replays the chain; nothing is ever changed in place, so a truncation
//! is durable before any append that follows it, whatever shares its write.
//!
//! # Locks
//! One mutex over [`State`]; under it at most that of [`spares`]. Callbacks run outside of both.

pub mod crash_disk;
mod error;
mod index;
pub mod medium;
mod record;
mod recovery;
mod replay;
mod spares;
mod state;
#[cfg(test)]
mod tests;

pub use error::{LogError, Result};
pub use record::{EntryKind, LogId};

use crate::layout::log as layout;
use crate::media::lines::WriteBack;
use crate::media::map::Sharing;
use cairn_protocol::ids::{LogIndex, ShardId, Term};
use index::Loc;
use medium::{Access, DirMedium, LogMedium};
use parking_lot::{Condvar, Mutex, MutexGuard};
use record::Record;
use spares::Spares;
use state::{Fixed, Segment, State, write};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Called once, when what it was given for is as durable as the log's kind promises, or never will
/// be. Callbacks of one log run in the order of the calls, and hold no lock of the log.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// On a DAX file system: when its cache lines have been written back and fenced. Refused
    /// elsewhere.
    Dax,
    /// On tmpfs: as soon as it is stored. Survives the process, not the machine.
    Memory,
    /// On a file system: when the write has reached the disk (`O_DSYNC`).
    File,
    /// On a file system: as soon as it is in the page cache, which is synced every second. Votes
    /// are synced at once all the same.
    FileEverySec,
}

/// How to open a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The node's directory: segments lie in `log/` in it. Made when it is missing.
    pub dir: PathBuf,
    /// When an append counts as durable.
    pub kind: LogKind,
    /// Length of a segment in bytes; a log that is there keeps its own.
    pub segment_bytes: u64,
    /// Identity for a log that is made now; one that is there keeps its own. Draw it at random and
    /// show it to no client: it salts checksums, so that no value can be made to look like a record.
    pub uuid: [u8; 16],
    /// Identity of this boot of the machine; zeros when it is of no interest.
    pub boot_id: [u8; 16],
}

impl LogOptions {
    /// A log in `dir/log`, with segments of the usual length.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, kind: LogKind) -> Self {
        let (uuid, boot_id) = ([0; 16], [0; 16]);
        Self { dir: dir.into(), kind, segment_bytes: layout::SEGMENT_BYTES, uuid, boot_id }
    }
}

/// What an open found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every shard that the log knows.
    pub shards: BTreeMap<ShardId, ShardState>,
    /// The log's identity.
    pub uuid: [u8; 16],
    /// The boot under which it was last written.
    pub boot_id: [u8; 16],
    /// Whether nothing was there.
    pub created: bool,
    /// Segments that are still needed.
    pub segments: usize,
    /// Bytes that were read for that.
    pub scanned_bytes: u64,
    /// A last batch that was not whole: never acknowledged, and dropped.
    pub cut: Option<Cut>,
}

/// Where an incomplete last batch was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file, with its directory.
    pub file: String,
    /// Where the batch began, in bytes.
    pub offset: u64,
}

/// What the log holds of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardState {
    /// The last vote saved.
    pub vote: Option<Vec<u8>>,
    /// The last entry purged.
    pub purged: Option<LogId>,
    /// The first entry held.
    pub first: Option<LogIndex>,
    /// The last entry, purged or held.
    pub last: Option<LogId>,
}

/// A segment file, as [`Log::look`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLook {
    /// The file, with its directory.
    pub file: String,
    /// Its place in the order of segments; 0: never used.
    pub generation: u64,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Whether it holds what an open needs; else it is kept to be used again.
    pub is_needed: bool,
}

/// An entry to append. Its payload is the concatenation of its parts.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The shard whose log it belongs to.
    pub shard: ShardId,
    /// Term of the leader that made it.
    pub term: Term,
    /// Its position: one more than the last one's. The first entry of a shard may have any.
    pub index: LogIndex,
    /// What it holds.
    pub kind: EntryKind,
    /// Its bytes, in parts.
    pub payload: &'a [&'a [u8]],
}

impl Entry<'_> {
    /// Term and index.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        LogId::new(self.term, self.index)
    }

    fn payload_len(&self) -> usize {
        self.payload.iter().map(|part| part.len()).sum()
    }
}

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEntry {
    /// Its shard.
    pub shard: ShardId,
    /// Term of the leader that made it.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
    /// What it holds.
    pub kind: EntryKind,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// An entry that a replay shows; its bytes are gone with the call.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// Its shard.
    pub shard: ShardId,
    /// Term of the leader that made it.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
    /// What it holds.
    pub kind: EntryKind,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// The log. One a node; shared freely.
pub struct Log {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

struct Inner {
    kind: LogKind,
    state: Mutex<State>,
    spares: Spares,
    /// There are no threads.
    by_hand: bool,
    /// Something was queued, or the log closes.
    work: Condvar,
    /// Something became durable.
    progress: Condvar,
}

/// How often a [`LogKind::FileEverySec`] log is synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How much may be written without a sync before one is made early. What is dirty when a segment is
/// full must be synced while appends wait.
const SYNC_EARLY_BYTES: u32 = 4 << 20;

impl Log {
    /// Opens the log, or makes one.
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::Newer`], [`LogError::Foreign`] for what lies there,
    /// [`LogError::Io`] for what the system refuses; each names the file and what to do. Nothing
    /// that lies there is changed then.
    pub fn open(options: &LogOptions) -> Result<(Self, Recovered)> {
        let dir = options.dir.join("log");
        let access = match options.kind {
            LogKind::Dax => {
                let no = "no instruction of this processor writes cache lines back";
                let write_back = WriteBack::of_this_cpu();
                Access::Dax(write_back.ok_or(LogError::Options(no.into()))?, Sharing::Sync)
            }
            LogKind::Memory => Access::Mapped,
            LogKind::File => Access::WriteThrough,
            LogKind::FileEverySec => Access::PageCache,
        };
        Self::open_with(options, &dir, access)
    }

    /// As [`open`](Self::open) of a DAX log, on any file system that can be mapped: for tests.
    #[cfg(test)]
    pub(crate) fn open_as_dax(options: &LogOptions) -> Result<(Self, Recovered)> {
        let write_back = WriteBack::of_this_cpu().expect("an instruction that writes back");
        let access = Access::Dax(write_back, Sharing::Shared);
        Self::open_with(options, &options.dir.join("log"), access)
    }

    /// Opens the log on `medium`, without threads: whoever holds it calls
    /// [`write_next`](Self::write_next) in place of the log's own. Of the options the directory and
    /// the kind's way of writing do not count. For tests and simulations.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_by_hand(
        medium: Arc<dyn LogMedium>,
        options: &LogOptions,
    ) -> Result<(Self, Recovered)> {
        let (inner, recovered) = Inner::open(medium, options, false)?;
        Ok((Self { inner: Arc::new(inner), threads: Vec::new() }, recovered))
    }

    /// Writes the oldest batch that waits for the log's thread, and calls back; says whether there
    /// was one. For logs [opened by hand](Self::open_by_hand).
    pub fn write_next(&self) -> bool {
        self.inner.step()
    }

    /// Whether a batch waits for the log's thread.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        !self.inner.state.lock().queue.is_empty()
    }

    fn open_with(options: &LogOptions, dir: &Path, access: Access) -> Result<(Self, Recovered)> {
        let medium = DirMedium::new(dir, access)
            .map_err(|e| LogError::io("making directory", dir.display().to_string(), 0, &e))?;
        let (inner, recovered) = Inner::open(Arc::new(medium), options, true)?;
        let inner = Arc::new(inner);
        let mut log = Self { inner, threads: Vec::new() };
        log.start("cairn-log-spare", |inner| inner.spares.run())?;
        match options.kind {
            LogKind::Memory | LogKind::Dax => {}
            LogKind::File => log.start("cairn-log", Inner::write_all)?,
            LogKind::FileEverySec => log.start("cairn-log-sync", Inner::sync_all)?,
        }
        log.inner.spares.hint();
        Ok((log, recovered))
    }

    /// What lies in `dir`, a log's own directory, verified as an open would and changed by nothing:
    /// what an open would find, and the segment files in the order of their use.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn look(dir: &Path) -> Result<(Recovered, Vec<SegmentLook>)> {
        let medium: Arc<dyn LogMedium> = Arc::new(DirMedium::look(dir));
        recovery::look(&medium)
    }

    fn start(&mut self, name: &str, run: impl FnOnce(&Inner) + Send + 'static) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let body = move || {
            let _guard = PanicGuard(&inner);
            run(&inner);
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = thread.map_err(|e| LogError::io("starting a thread for", name, 0, &e))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Whether appends are reported done before the medium has them, which it does within a second.
    pub fn is_lazy(&self) -> bool {
        self.inner.kind == LogKind::FileEverySec
    }

    /// Whether appends are durable, in the sense of the log's kind, when they return.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        self.inner.immediate()
    }

    /// Appends `entries`, all or none of them, and calls `done` when they are durable: before this
    /// returns if the log [is immediate](Self::is_immediate). They can be read once this returns.
    /// Should a crash come before `done`, the next open may find none, all, or the first few.
    ///
    /// # Errors
    /// To `done`: [`LogError::OutOfOrder`] and [`LogError::TooLarge`] when nothing was appended;
    /// [`LogError::Io`], after which the log is of no more use.
    pub fn append(&self, entries: &[Entry<'_>], done: Done) {
        self.inner.submit(|state| state.append(entries), done);
    }

    /// Appends `entries`, durable when it returns. Allocates nothing but what the index and a
    /// buffer grow by.
    ///
    /// # Errors
    /// [`LogError::NotImmediate`] unless the log [is](Self::is_immediate); else as
    /// [`append`](Self::append).
    pub fn append_now(&self, entries: &[Entry<'_>]) -> Result<()> {
        if !self.inner.immediate() {
            return Err(LogError::NotImmediate);
        }
        let mut state = self.inner.state.lock();
        state.append(entries)?;
        self.inner.drain(&mut state)
    }

    /// Saves a shard's vote, at most [`MAX_VOTE_BYTES`](layout::MAX_VOTE_BYTES) long. Synced at
    /// once whatever the log's kind.
    ///
    /// # Errors
    /// To `done`, as [`append`](Self::append).
    pub fn save_vote(&self, shard: ShardId, vote: &[u8], done: Done) {
        self.inner.submit(|state| state.save_vote(shard, vote), done);
    }

    /// Drops the entries after `keep`; `None` keeps none. Durable before any later append.
    ///
    /// # Errors
    /// To `done`: [`LogError::OutOfOrder`] when `keep` is purged; else as
    /// [`append`](Self::append).
    pub fn truncate_after(&self, shard: ShardId, keep: Option<LogId>, done: Done) {
        self.inner.submit(|state| state.truncate(shard, keep), done);
    }

    /// Drops the entries up to `upto`, which may lie beyond the last one: then the log goes on
    /// after it, as a snapshot's receiver wants. It becomes durable with what follows: a crash may
    /// bring the entries back. Purging what is purged does nothing.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn purge(&self, shard: ShardId, upto: LogId) -> Result<()> {
        let mut state = self.inner.state.lock();
        state.purge(shard, upto)?;
        self.inner.go(&mut state)
    }

    /// Reads entries of `range`, as many as there are payload bytes allowed for, but at least one.
    ///
    /// # Errors
    /// [`LogError::NotHeld`] when the range begins where no entry is held, or reaches beyond the
    /// last; [`LogError::Damaged`] and [`LogError::Io`].
    pub fn read(
        &self,
        shard: ShardId,
        range: Range<LogIndex>,
        max_bytes: usize,
    ) -> Result<Vec<OwnedEntry>> {
        // One look-up, so that what comes back is the log as it was at one moment.
        let found = self.inner.locate(shard, range, max_bytes, usize::MAX)?;
        found.into_iter().map(Found::owned).collect()
    }

    /// Shows the entries of `shard` from `from` to the last one to `visit`, in order, holding no
    /// more than a few of them in memory.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`LogError::Stopped`] with what `visit` said.
    pub fn replay(
        &self,
        shard: ShardId,
        from: LogIndex,
        mut visit: impl FnMut(EntryRef<'_>) -> std::result::Result<(), String>,
    ) -> Result<()> {
        let Some(last) = self.last(shard) else { return Ok(()) };
        let mut buf = Vec::new();
        let mut at = from;
        while at <= last.index {
            let piece =
                self.inner.locate(shard, at..LogIndex(last.index.0 + 1), REPLAY_BYTES, PIECE)?;
            for found in piece {
                let (record, kind) = found.read(&mut buf)?;
                let payload = &buf[layout::RECORD_BYTES..];
                let (term, index) = (Term(record.term), LogIndex(record.index));
                let entry = EntryRef { shard, term, index, kind, payload };
                visit(entry).map_err(LogError::Stopped)?;
                at = LogIndex(at.0 + 1);
            }
        }
        Ok(())
    }

    /// What is held of `shard`, counting what is on its way to the medium.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> ShardState {
        let state = self.inner.state.lock();
        state.shards.get(&shard).map(ShardState::of).unwrap_or_default()
    }

    /// The last entry of `shard`, purged or held.
    #[must_use]
    pub fn last(&self, shard: ShardId) -> Option<LogId> {
        self.inner.state.lock().shards.get(&shard)?.last
    }

    /// The last entry of `shard` that was purged.
    #[must_use]
    pub fn purged(&self, shard: ShardId) -> Option<LogId> {
        self.inner.state.lock().shards.get(&shard)?.purged
    }

    /// The last vote of `shard`.
    #[must_use]
    pub fn vote(&self, shard: ShardId) -> Option<Vec<u8>> {
        self.inner.state.lock().shards.get(&shard)?.vote.clone()
    }

    /// How many segments entries lie in. When it grows although most shards purge, one pins them:
    /// see [`relocate`](Self::relocate).
    #[must_use]
    pub fn segments(&self) -> usize {
        self.inner.state.lock().chain_len()
    }

    /// Copies entries of the oldest segment to the log's end, up to `budget_bytes` but at least
    /// one, so that a shard which seldom purges does not pin it. Returns how many; 0 when the
    /// oldest segment is the newest. Call it again while [`segments`](Self::segments) says so; the
    /// segment is set free by the next purge of any shard, or when the next one is opened.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`read`](Self::read).
    pub fn relocate(&self, budget_bytes: usize) -> Result<usize> {
        self.inner.relocate(budget_bytes)
    }

    /// Returns once everything submitted before is durable on the disk, also where that is not
    /// what appends wait for.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    /// Returns once the entry `index` of `shard`, if it is held, is as durable as the log's kind
    /// promises.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn wait_durable(&self, shard: ShardId, index: LogIndex) -> Result<()> {
        self.inner.wait_durable(shard, index)
    }

    /// Flushes, and refuses everything from now on. Dropping the log does the same, but cannot
    /// say what went wrong.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn close(&self) -> Result<()> {
        let flushed = self.inner.flush();
        self.inner.stop();
        flushed
    }
}

/// How much a replay looks up at once.
const REPLAY_BYTES: usize = 1 << 20;

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.close();
        let me = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // A callback may drop the last handle: its thread ends by itself.
            if thread.thread().id() != me {
                let _ = thread.join();
            }
        }
    }
}

/// An entry, and where it is to be read from.
struct Found {
    shard: ShardId,
    index: u64,
    loc: Loc,
    from: From,
}

enum From {
    /// Not yet written: its bytes.
    Memory(Vec<u8>),
    /// Written. Holding the segment keeps it from being reused.
    Segment(Arc<Segment>),
}

impl Found {
    /// Fills `buf` with the record, and says what it is.
    fn read(self, buf: &mut Vec<u8>) -> Result<(Record, EntryKind)> {
        let bytes = layout::RECORD_BYTES + self.loc.len as usize;
        let segment = match self.from {
            From::Memory(record) => {
                *buf = record;
                return entry_of(buf).ok_or(LogError::Closed);
            }
            From::Segment(segment) => segment,
        };
        buf.resize(bytes, 0);
        let offset = u64::from(self.loc.offset);
        let file = segment.log_file()?;
        file.read_at(offset, buf)
            .map_err(|e| LogError::io("reading", segment.path(), offset, &e))?;
        let want = (self.shard, self.index, self.loc);
        let record = recovery::check_entry(buf, &segment, want)?;
        let kind = EntryKind::from_code(record.kind)
            .ok_or_else(|| LogError::damaged(segment.path(), offset, "not an entry"))?;
        Ok((record, kind))
    }

    fn owned(self) -> Result<OwnedEntry> {
        let (shard, mut buf) = (self.shard, Vec::new());
        let (record, kind) = self.read(&mut buf)?;
        buf.drain(..layout::RECORD_BYTES);
        let (term, index) = (Term(record.term), LogIndex(record.index));
        Ok(OwnedEntry { shard, term, index, kind, payload: buf })
    }
}

/// The header of a record that was not written yet, so that its checksum is not there either.
fn entry_of(bytes: &[u8]) -> Option<(Record, EntryKind)> {
    let record = Record::fields(bytes);
    Some((record, EntryKind::from_code(record.kind)?))
}

impl Inner {
    fn open(
        medium: Arc<dyn LogMedium>,
        options: &LogOptions,
        threads: bool,
    ) -> Result<(Self, Recovered)> {
        let allowed = layout::MIN_SEGMENT_BYTES..=layout::MAX_SEGMENT_BYTES;
        let aligned = options.segment_bytes.is_multiple_of(layout::SECTOR_BYTES as u64);
        if !allowed.contains(&options.segment_bytes) || !aligned {
            return Err(LogError::Options(format!(
                "segments of {} bytes: use a multiple of 512 between {} and {}",
                options.segment_bytes,
                allowed.start(),
                allowed.end()
            )));
        }
        let place = medium.place();
        let mut found = recovery::recover(&medium, options.uuid)?;
        let segment_bytes = found.segment_bytes.unwrap_or(options.segment_bytes);
        let uuid = found.recovered.uuid;
        // The boot id lies in the header of the segment that is written to.
        found.resume.must_rotate |= found.recovered.boot_id != options.boot_id;
        let spares =
            Spares::new(medium, uuid, segment_bytes, threads, found.spares, found.next_number);
        let fixed = Fixed {
            uuid,
            boot_id: options.boot_id,
            segment_bytes: segment_bytes as u32,
            max_payload: layout::MAX_PAYLOAD_BYTES.min(segment_bytes as usize / 2),
            place,
            lazy: options.kind == LogKind::FileEverySec,
        };
        let state = Mutex::new(State::new(fixed, found.resume));
        let (work, progress) = (Condvar::new(), Condvar::new());
        let (kind, by_hand) = (options.kind, !threads);
        Ok((Self { kind, state, spares, by_hand, work, progress }, found.recovered))
    }

    fn immediate(&self) -> bool {
        self.kind != LogKind::File
    }

    /// Lets `change` queue records, and sees to it that `done` is called.
    fn submit(&self, change: impl FnOnce(&mut State) -> Result<()>, done: Done) {
        let mut state = self.state.lock();
        let result = change(&mut state).and_then(|()| self.go(&mut state));
        let (now, result) = match result {
            Ok(()) if self.immediate() => (Some(done), Ok(())),
            Ok(()) => (state.attach(done), Ok(())),
            // In order: a refusal is no reason to overtake what is under way.
            Err(e) if state.poison.is_none() && !self.immediate() => {
                let refuse = e.clone();
                let done: Done = Box::new(move |before| done(before.and(Err(refuse))));
                (state.attach(done), Ok(()))
            }
            Err(e) => (Some(done), Err(e)),
        };
        drop(state);
        if let Some(done) = now {
            done(result);
        }
    }

    /// Sets what is queued on its way: at once, or on the log's thread.
    fn go(&self, state: &mut State) -> Result<()> {
        if self.immediate() {
            return self.drain(state);
        }
        self.work.notify_one();
        Ok(())
    }

    /// Writes everything queued.
    fn drain(&self, state: &mut State) -> Result<()> {
        while let Some(chunk) = state.close_next() {
            if let Err(e) = write(&chunk, &self.spares) {
                state.fail(&e);
                return Err(e);
            }
            state.wrote(&chunk, &self.spares);
            state.reuse(chunk.buf);
        }
        if self.kind == LogKind::FileEverySec && state.dirty_bytes() > SYNC_EARLY_BYTES {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Writes the oldest chunk, with the lock released meanwhile. Returns whether there was one.
    fn step(&self) -> bool {
        let mut state = self.state.lock();
        let Some(mut chunk) = state.close_next() else { return false };
        let dones = std::mem::take(&mut chunk.dones).take();
        let chunk = Arc::new(chunk);
        // Until it is written, readers find its entries here.
        state.inflight = Some(Arc::clone(&chunk));
        drop(state);
        let written = write(&chunk, &self.spares);
        let mut state = self.state.lock();
        state.inflight = None;
        let mut failed = Vec::new();
        match &written {
            Ok(()) => state.wrote(&chunk, &self.spares),
            Err(e) => failed = state.fail(e),
        }
        // Readers copied what they wanted under the lock, so nobody else holds it.
        if let Some(chunk) = Arc::into_inner(chunk) {
            state.reuse(chunk.buf);
        }
        self.progress.notify_all();
        drop(state);
        for done in dones.into_iter().chain(failed) {
            done(written.clone());
        }
        true
    }

    /// The log's thread: one write in flight, and what arrives meanwhile is the next batch.
    fn write_all(&self) {
        loop {
            while self.step() {}
            let mut state = self.state.lock();
            if !state.queue.is_empty() {
                continue;
            }
            if state.closed {
                return;
            }
            self.work.wait(&mut state);
        }
    }

    /// The thread that syncs every second.
    fn sync_all(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            // Woken early by much to sync, or by the end. No clock is read: what matters is that
            // a sync follows each write within the second.
            self.work.wait_for(&mut state, SYNC_EVERY);
            if state.durable < state.written && state.poison.is_none() {
                MutexGuard::unlocked(&mut state, || self.sync());
            }
        }
    }

    /// Syncs what was written when it is called.
    fn sync(&self) {
        let (segment, position) = {
            let state = self.state.lock();
            let Some(segment) = state.segment(state.written.0) else { return };
            (Arc::clone(segment), state.written)
        };
        let synced = segment.log_file().and_then(|file| {
            file.persist().map_err(|e| LogError::io("syncing", segment.path(), 0, &e))
        });
        drop(segment);
        let mut state = self.state.lock();
        match synced {
            Ok(()) => state.synced(position, &self.spares),
            Err(e) => drop(state.fail(&e)),
        }
        self.progress.notify_all();
    }

    fn flush(&self) -> Result<()> {
        while self.by_hand && self.step() {}
        let mut state = self.state.lock();
        if self.kind == LogKind::FileEverySec {
            state.usable()?;
            drop(state);
            self.sync();
            return match &self.state.lock().poison {
                Some(e) => Err(e.clone()),
                None => Ok(()),
            };
        }
        let upto = state.head();
        while state.durable < upto {
            state.usable()?;
            self.progress.wait(&mut state);
        }
        match &state.poison {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }

    fn wait_durable(&self, shard: ShardId, index: LogIndex) -> Result<()> {
        loop {
            let mut state = self.state.lock();
            let held = state.shards.get(&shard).and_then(|log| log.loc(index.0));
            let upto = if self.immediate() { state.written } else { state.durable };
            if held.is_none_or(|loc| (loc.seq, loc.offset) < upto) {
                return Ok(());
            }
            state.usable()?;
            if !self.by_hand {
                self.progress.wait(&mut state);
                continue;
            }
            drop(state);
            self.step();
        }
    }

    fn stop(&self) {
        self.state.lock().closed = true;
        self.work.notify_all();
        self.progress.notify_all();
        self.spares.stop();
    }

    /// Where the entries of `range` are: from its start, up to `max_bytes` but at least one, and up
    /// to `max_entries`.
    fn locate(
        &self,
        shard: ShardId,
        range: Range<LogIndex>,
        max_bytes: usize,
        max_entries: usize,
    ) -> Result<Vec<Found>> {
        let state = self.state.lock();
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in range.start.0..range.end.0 {
            let held = state.shards.get(&shard).and_then(|log| log.loc(index));
            let Some(loc) = held else {
                return Err(LogError::NotHeld { shard, index: LogIndex(index) });
            };
            bytes += loc.len as usize;
            if (bytes > max_bytes && !found.is_empty()) || found.len() == max_entries {
                break;
            }
            found.push(Found { shard, index, loc, from: from(&state, loc)? });
        }
        Ok(found)
    }

    fn relocate(&self, budget_bytes: usize) -> Result<usize> {
        let old = {
            let state = self.state.lock();
            state.usable()?;
            let old = state.oldest_entries(budget_bytes);
            let found = old.iter().map(|(shard, index, loc)| {
                let (shard, index, loc) = (*shard, *index, *loc);
                Ok(Found { shard, index, loc, from: from(&state, loc)? })
            });
            found.collect::<Result<Vec<_>>>()?
        };
        let mut moved = 0;
        for found in old {
            let (shard, loc, mut buf) = (found.shard, found.loc, Vec::new());
            let (record, _) = found.read(&mut buf)?;
            let mut state = self.state.lock();
            let payload = &buf[layout::RECORD_BYTES..];
            state.move_entry(shard, loc, (record.kind, record.log_id()), payload)?;
            self.go(&mut state)?;
            moved += 1;
        }
        Ok(moved)
    }
}

/// How many entries a replay looks up under one lock.
const PIECE: usize = 1024;

/// Where the record at `loc` is to be read from.
fn from(state: &State, loc: Loc) -> Result<From> {
    if (loc.seq, loc.offset) < state.written {
        let segment = state.segment(loc.seq).ok_or(LogError::Closed)?;
        return Ok(From::Segment(Arc::clone(segment)));
    }
    let chunks = state.inflight.iter().map(|c| &**c).chain(&state.queue);
    let record = chunks.filter_map(|chunk| chunk.slice(loc)).next();
    // An entry is written or queued, unless the write failed.
    record.map(|r| From::Memory(r.to_vec())).ok_or_else(|| match &state.poison {
        Some(e) => e.clone(),
        None => LogError::Closed,
    })
}

/// Ends the log should a thread of it panic: who waits must hear of it.
struct PanicGuard<'a>(&'a Inner);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let dones = self.0.state.lock().fail(&LogError::Closed);
            self.0.progress.notify_all();
            for done in dones {
                done(Err(LogError::Closed));
            }
        }
    }
}
