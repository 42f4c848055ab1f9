//! A disk that remembers what is not synced, and shows what a crash may leave of it: for tests and
//! simulations.
//!
//! Every unsynced unit may hold any of the versions written since the last sync, whatever became of
//! its neighbours; a file made but not synced may be empty; of names made and not synced any first
//! few may be there. A unit is never torn: it is a sector of a disk, or a word of mapped memory.

use super::LogKind;
use super::medium::{LogFile, LogMedium, replace_front_by_words};
use crate::media::CrashMedia;
use parking_lot::Mutex;
use std::backtrace::Backtrace;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What a medium writes whole or not at all, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Of a disk.
    Sector = 512,
    /// Of mapped memory.
    Word = 8,
}

impl Unit {
    /// Of the media that logs of this kind lie on.
    pub fn of(kind: LogKind) -> Self {
        match kind {
            LogKind::Dax | LogKind::Memory => Self::Word,
            LogKind::File | LogKind::FileEverySec => Self::Sector,
        }
    }
}

/// Numbers from a seed (SplitMix64), for this disk and for the tests of store and engine.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// 64 bits.
    #[allow(clippy::should_implement_trait)] // It never ends.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several, of which there is one at least.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Kinds of syncs, by what they are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Of a file not yet under its name.
    NewFile,
    /// Of the directory.
    Dir,
    /// After a segment's header was written.
    Opening,
    /// After anything else.
    Batch,
}

#[derive(Clone, Default)]
struct Inode {
    /// What is there for who reads now.
    bytes: Vec<u8>,
    /// What is there after any crash.
    durable: Vec<u8>,
    /// Versions of units since the last sync.
    pending: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The first sector was written since a sync was last asked for, heeded or not.
    opened: bool,
}

#[derive(Clone)]
enum Change {
    Link(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Default)]
struct Inner {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
}

impl Inner {
    fn inode(&mut self, name: &str) -> io::Result<&mut Inode> {
        let at = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.inodes[at])
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Link(name, at) => drop(names.insert(name.clone(), *at)),
        Change::Rename(from, to) => {
            if let Some(at) = names.remove(from) {
                names.insert(to.clone(), at);
            }
        }
        Change::Remove(name) => drop(names.remove(name)),
    }
}

/// How far the log's user has come, by his own count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Entries handed to the log.
    pub submitted: usize,
    /// Entries that it said are durable.
    pub acknowledged: usize,
}

/// What was on the disk at some point, and how far its user had come.
#[derive(Clone)]
pub struct Stash {
    inner: Inner,
    unit: Unit,
    /// The user's count at that point.
    pub progress: Progress,
}

struct Shared {
    inner: Mutex<Inner>,
    /// Persist points passed.
    points: AtomicUsize,
    /// Where to keep a copy.
    stash_at: AtomicUsize,
    stash: Mutex<Option<Stash>>,
    progress: Mutex<Progress>,
    ignored: Option<Sync>,
    unit: Unit,
    /// Syncs until one fails.
    fail_in: AtomicUsize,
    /// Lines of code that asked for a sync, where anyone wants to know.
    callers: Mutex<Option<Callers>>,
    journal: Mutex<Option<Journal>>,
    /// Told of each persist point.
    watcher: OnceLock<Box<dyn Fn() + Send + std::marker::Sync>>,
}

/// Who asks for syncs.
#[derive(Clone, Default)]
struct Callers {
    met: BTreeSet<String>,
    /// Whose syncs do nothing.
    ignored: Option<String>,
}

/// What was on the disk after each change, with a mark in the record of a pool beside it.
struct Journal {
    media: Arc<CrashMedia>,
    stashes: Vec<Stash>,
}

/// The line of the log, outside of its tests, that asks.
fn caller() -> String {
    let trace = Backtrace::force_capture().to_string();
    let places = trace.lines().filter_map(|line| line.trim().strip_prefix("at "));
    let not_the_logs = ["/tests/", "crash_disk.rs"];
    let is_the_logs = |place: &&str| {
        place.contains("src/log/") && !not_the_logs.iter().any(|other| place.contains(other))
    };
    let mut ours = places.filter(is_the_logs);
    let place = ours.next().unwrap_or_default();
    let place = place.rsplit("src/log/").next().unwrap_or_default();
    place.rsplit_once(':').map_or(place, |(line, _column)| line).to_owned()
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct CrashDisk(Arc<Shared>);

impl CrashDisk {
    /// An empty one that tears between `unit`s, and on which syncs that are `ignored` do nothing:
    /// the bug that the tests must catch.
    pub fn new(ignored: Option<Sync>, unit: Unit) -> Self {
        Self::of(Inner::default(), ignored, unit)
    }

    fn of(inner: Inner, ignored: Option<Sync>, unit: Unit) -> Self {
        Self(Arc::new(Shared {
            inner: Mutex::new(inner),
            points: AtomicUsize::new(0),
            stash_at: AtomicUsize::new(usize::MAX),
            stash: Mutex::new(None),
            progress: Mutex::new(Progress::default()),
            ignored,
            unit,
            fail_in: AtomicUsize::new(usize::MAX),
            callers: Mutex::new(None),
            journal: Mutex::new(None),
            watcher: OnceLock::new(),
        }))
    }

    /// Calls `watcher`, which may look at the disk, at every persist point from now on. To be set
    /// once.
    pub fn on_point(&self, watcher: impl Fn() + Send + std::marker::Sync + 'static) {
        // A second one would be a mistake of the test's; the first one stays.
        let _ = self.0.watcher.set(Box::new(watcher));
    }

    /// Asks who syncs from now on, and lets `ignored`'s syncs do nothing.
    pub fn ask_callers(&self, ignored: Option<String>) {
        *self.0.callers.lock() = Some(Callers { met: BTreeSet::new(), ignored });
    }

    /// Who has synced.
    pub fn callers(&self) -> BTreeSet<String> {
        self.0.callers.lock().clone().unwrap_or_default().met
    }

    /// Keeps what is there after every change from now on, and marks its number in the record of
    /// `media`.
    pub fn keep_journal(&self, media: Arc<CrashMedia>) {
        *self.0.journal.lock() = Some(Journal { media, stashes: Vec::new() });
        self.enter();
    }

    /// Ends that, and gives what was kept.
    pub fn take_journal(&self) -> Vec<Stash> {
        self.0.journal.lock().take().map(|journal| journal.stashes).unwrap_or_default()
    }

    fn enter(&self) {
        if let Some(journal) = &mut *self.0.journal.lock() {
            journal.media.mark(journal.stashes.len(), 0);
            journal.stashes.push(self.stash_now());
        }
    }

    /// Whether the sync that is asked for does nothing.
    fn ignores(&self, kind: Sync) -> bool {
        let of_caller = self.0.callers.lock().as_mut().is_some_and(|callers| {
            let who = caller();
            let ignored = callers.ignored.as_ref() == Some(&who);
            callers.met.insert(who);
            ignored
        });
        of_caller || self.0.ignored == Some(kind)
    }

    /// As the log takes it.
    pub fn medium(&self) -> Arc<dyn LogMedium> {
        Arc::new(self.clone())
    }

    /// Keeps a copy of the disk at persist point `n` from now.
    pub fn stash_at(&self, n: usize) {
        let now = self.0.points.load(Ordering::Relaxed);
        self.0.stash_at.store(now.saturating_add(n), Ordering::Relaxed);
    }

    /// The copy that was kept, once that point was passed.
    pub fn stashed(&self) -> Option<Stash> {
        self.0.stash.lock().clone()
    }

    /// A copy of the disk as it is.
    pub fn stash_now(&self) -> Stash {
        let inner = self.0.inner.lock().clone();
        Stash { inner, unit: self.0.unit, progress: *self.0.progress.lock() }
    }

    /// Changes the user's count.
    pub fn progress(&self, f: impl FnOnce(&mut Progress)) {
        f(&mut self.0.progress.lock());
        self.enter();
    }

    /// Persist points passed.
    pub fn points(&self) -> usize {
        self.0.points.load(Ordering::Relaxed)
    }

    /// Lets the `n`th sync from now fail.
    pub fn fail_in(&self, n: usize) {
        self.0.fail_in.store(n, Ordering::Relaxed);
    }

    /// Names and lengths of the files.
    pub fn files(&self) -> Vec<(String, usize)> {
        let inner = self.0.inner.lock();
        inner.names.iter().map(|(n, at)| (n.clone(), inner.inodes[*at].bytes.len())).collect()
    }

    /// Changes a file's bytes behind the log's back.
    pub fn tamper(&self, name: &str, f: impl FnOnce(&mut Vec<u8>)) {
        f(&mut self.0.inner.lock().inode(name).expect("the file is there").bytes);
    }

    /// Removes a file behind the log's back.
    pub fn lose(&self, name: &str) {
        self.0.inner.lock().names.remove(name);
    }

    fn point(&self) {
        let n = self.0.points.fetch_add(1, Ordering::Relaxed);
        if n == self.0.stash_at.load(Ordering::Relaxed) {
            *self.0.stash.lock() = Some(self.stash_now());
        }
        self.enter();
        if let Some(watcher) = self.0.watcher.get() {
            watcher();
        }
    }

    fn may_fail(&self) -> io::Result<()> {
        let left = self.0.fail_in.load(Ordering::Relaxed);
        if left != usize::MAX {
            if left == 0 {
                return Err(io::Error::other("injected"));
            }
            self.0.fail_in.store(left - 1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Stash {
    /// A disk that this one may be after a crash.
    pub fn image(&self, rng: &mut Rng, ignored: Option<Sync>) -> CrashDisk {
        let mut names = self.inner.durable_names.clone();
        let survive = rng.below(self.inner.changes.len() as u64 + 1) as usize;
        for change in &self.inner.changes[..survive] {
            apply(&mut names, change);
        }
        // All, none and any: the extremes are the likeliest to be wrong.
        let mode = rng.below(4);
        let mut inodes = Vec::new();
        for inode in &self.inner.inodes {
            let bytes = inode.after_crash(mode, rng, self.unit);
            inodes.push(Inode { durable: bytes.clone(), bytes, ..Inode::default() });
        }
        let durable_names = names.clone();
        let inner = Inner { inodes, names, durable_names, changes: Vec::new() };
        CrashDisk::of(inner, ignored, self.unit)
    }

    /// What is there of it after any crash, and nothing else.
    #[must_use]
    pub fn durable(&self) -> CrashDisk {
        let whole = |inode: &Inode| {
            let mut bytes = inode.durable.clone();
            bytes.resize(inode.bytes.len(), 0);
            Inode { bytes, ..Inode::default() }
        };
        let Inner { inodes, durable_names, .. } = &self.inner;
        let (inodes, durable_names) = (inodes.iter().map(whole).collect(), durable_names.clone());
        let names = durable_names.clone();
        CrashDisk::of(Inner { inodes, names, durable_names, changes: Vec::new() }, None, self.unit)
    }

    /// This disk, in order.
    #[must_use]
    pub fn whole(&self) -> CrashDisk {
        CrashDisk::of(self.inner.clone(), None, self.unit)
    }
}

impl Inode {
    fn after_crash(&self, mode: u64, rng: &mut Rng, unit: Unit) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if bytes.is_empty() && (mode == 0 || rng.one_in(2)) {
            return bytes;
        }
        bytes.resize(self.bytes.len(), 0);
        for (number, versions) in &self.pending {
            let n = versions.len() as u64;
            let pick = match mode {
                0 => 0,
                1 => n,
                _ => rng.below(n + 1),
            };
            if let Some(version) = pick.checked_sub(1).map(|v| &versions[v as usize]) {
                let at = number * unit as usize;
                bytes[at..at + version.len()].copy_from_slice(version);
            }
        }
        bytes
    }

    fn write(&mut self, offset: usize, bytes: &[u8], unit: Unit) -> io::Result<()> {
        let end = offset + bytes.len();
        self.opened |= offset == 0;
        self.bytes.get_mut(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
        let unit = unit as usize;
        for number in offset / unit..end.div_ceil(unit) {
            let at = number * unit;
            let version = self.bytes[at..(at + unit).min(self.bytes.len())].to_vec();
            self.pending.entry(number).or_default().push(version);
        }
        Ok(())
    }

    /// What a sync of it would be for.
    fn sync_kind(&mut self, name: &str) -> Sync {
        match std::mem::take(&mut self.opened) {
            _ if name.ends_with(".tmp") => Sync::NewFile,
            true => Sync::Opening,
            false => Sync::Batch,
        }
    }
}

impl LogMedium for CrashDisk {
    fn place(&self) -> String {
        "disk".to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.inner.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn LogFile>> {
        let at = {
            let mut inner = self.0.inner.lock();
            let mut inode = Inode { bytes: vec![0; bytes as usize], ..Inode::default() };
            inode.write(0, head, self.0.unit)?;
            inner.inodes.push(inode);
            let at = inner.inodes.len() - 1;
            inner.names.insert(name.to_owned(), at);
            inner.changes.push(Change::Link(name.to_owned(), at));
            at
        };
        self.point();
        Ok(Arc::new(DiskFile { disk: self.clone(), at }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let at = *self.0.inner.lock().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(DiskFile { disk: self.clone(), at }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let change = Change::Rename(from.to_owned(), to.to_owned());
        let mut inner = self.0.inner.lock();
        apply(&mut inner.names, &change);
        inner.changes.push(change);
        drop(inner);
        self.point();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let change = Change::Remove(name.to_owned());
        let mut inner = self.0.inner.lock();
        apply(&mut inner.names, &change);
        inner.changes.push(change);
        drop(inner);
        self.point();
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.may_fail()?;
        self.point();
        if self.ignores(Sync::Dir) {
            return Ok(());
        }
        let mut inner = self.0.inner.lock();
        let Inner { durable_names, changes, .. } = &mut *inner;
        for change in changes.drain(..) {
            apply(durable_names, &change);
        }
        drop(inner);
        self.point();
        Ok(())
    }
}

struct DiskFile {
    disk: CrashDisk,
    at: usize,
}

impl LogFile for DiskFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.0.inner.lock().inodes[self.at].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.0.inner.lock();
        let offset = offset as usize;
        let bytes = inner.inodes[self.at].bytes.get(offset..offset + into.len());
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let unit = self.disk.0.unit;
        self.disk.0.inner.lock().inodes[self.at].write(offset as usize, bytes, unit)?;
        self.disk.point();
        Ok(())
    }

    fn replace_front(&self, bytes: &[u8]) -> io::Result<()> {
        match self.disk.0.unit {
            Unit::Word => replace_front_by_words(self, bytes),
            Unit::Sector => {
                self.write_at(0, bytes)?;
                self.persist()
            }
        }
    }

    fn persist(&self) -> io::Result<()> {
        self.disk.may_fail()?;
        self.disk.point();
        let mut inner = self.disk.0.inner.lock();
        let name = inner.names.iter().find(|(_, at)| **at == self.at).map(|(name, _)| name.clone());
        let inode = &mut inner.inodes[self.at];
        let kind = inode.sync_kind(name.as_deref().unwrap_or_default());
        if self.disk.ignores(kind) {
            return Ok(());
        }
        inode.pending.clear();
        inode.durable = inode.bytes.clone();
        drop(inner);
        self.disk.point();
        Ok(())
    }
}
