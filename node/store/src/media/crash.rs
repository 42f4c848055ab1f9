//! A heap that remembers what is durable, and yields the images a crash may leave.
//!
//! At every flush and fence it can be asked for an image: the durable bytes, plus a random choice
//! of the units (cache lines or pages) that differ from them now. A processor or kernel may have
//! written back any of those, flushed or not. What was flushed before the last fence is durable.

use super::trace::LINE;
use super::{Event, HeapMedia, Media, Medium, Pages, Site, Trace};
use crate::error::Result;
use std::panic::Location;
use std::sync::{Mutex, OnceLock};

/// The unit in which unflushed stores may or may not have reached the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// 64 bytes, torn between words of 8: DAX.
    CacheLine,
    /// 4 KiB, torn between 512-byte sectors: page-cached files.
    Page,
}

impl Granularity {
    /// Bytes of the unit that may or may not have reached the medium, whatever its neighbours did.
    pub fn unit(self) -> usize {
        match self {
            Granularity::CacheLine => 64,
            Granularity::Page => 512,
        }
    }
}

/// What a crash left: the bytes of the pool file.
pub struct Image {
    /// Which persist point it was taken at, counted from 0.
    pub point: u64,
    /// What stood there: "flush", "fence" or "shrink".
    pub at: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

type Hook = Box<dyn FnMut(Image) + Send>;

struct State {
    durable: Vec<u8>,
    flushed: Vec<(u64, u64)>,
    point: u64,
    seed: u64,
    hook: Option<Hook>,
    images_a_point: u32,
    drop_fence: Option<u64>,
    drop_flush: Option<u64>,
    fences: u64,
    flushes: u64,
    /// Behind so many fences none of what the writer asks for is heard.
    dead_behind: u64,
    recorder: Option<Recorder>,
    cut_off: Option<CutOff>,
}

impl State {
    fn is_dead(&self) -> bool {
        self.fences >= self.dead_behind
    }
}

/// What was durable behind the place where the medium was cut. A crash may leave it until the first
/// fence after the medium has grown again.
struct CutOff {
    at: usize,
    bytes: Vec<u8>,
    has_grown: bool,
}

/// Notes what is done to the medium.
struct Recorder {
    trace: Trace,
    /// The bytes as they were when they were last looked at.
    seen: Vec<u8>,
    site: Site,
    /// Every so many flushes all of the bytes are compared, not only those that are flushed.
    stride: u64,
    flushes: u64,
}

impl Recorder {
    /// Notes what has changed in `range` since it was last looked at.
    fn look(&mut self, now: &[u8], range: std::ops::Range<usize>) {
        if self.seen.len() < now.len() {
            self.seen.resize(now.len(), 0);
            self.trace.events.push(Event::Grew(now.len() as u64));
        }
        let mut stored = Vec::new();
        let pages = range.start / 4096 * 4096..range.end.next_multiple_of(4096).min(now.len());
        let seen = self.seen[pages.clone()].chunks_mut(4096);
        for (page, (new, old)) in
            (pages.start..).step_by(4096).zip(now[pages].chunks(4096).zip(seen))
        {
            if new == old {
                continue;
            }
            for (index, (new, old)) in new.chunks(LINE).zip(old.chunks_mut(LINE)).enumerate() {
                if new != old {
                    old.copy_from_slice(new);
                    let line = new.try_into().expect("pools are whole lines");
                    stored.push(((page + index * LINE) as u64, line));
                }
            }
        }
        if !stored.is_empty() {
            self.trace.events.push(Event::Stored(stored));
        }
    }

    fn shrink(&mut self, now: &[u8], len: u64) {
        self.look(now, 0..now.len());
        self.seen.truncate(len as usize);
        self.trace.events.push(Event::Shrank(len));
    }

    fn flush(&mut self, now: &[u8], offset: u64, len: u64) {
        self.flushes += 1;
        let range = offset as usize..(offset + len) as usize;
        let all = self.flushes.is_multiple_of(self.stride);
        self.look(now, if all { 0..now.len() } else { range });
        self.trace.events.push(Event::Flush(self.site, offset, len));
    }
}

/// The medium of the crash tests.
pub struct CrashMedia {
    heap: HeapMedia,
    granularity: Granularity,
    state: Mutex<State>,
    /// Told of each persist point.
    watcher: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl CrashMedia {
    /// An empty medium; `seed` decides which unflushed units its images contain.
    pub fn new(capacity_bytes: u64, granularity: Granularity, seed: u64) -> CrashMedia {
        CrashMedia::over(HeapMedia::new(capacity_bytes), granularity, seed)
    }

    /// A medium that starts from what a crash left.
    pub fn from_image(
        bytes: &[u8],
        capacity_bytes: u64,
        granularity: Granularity,
        seed: u64,
    ) -> CrashMedia {
        let media =
            CrashMedia::over(HeapMedia::with_bytes(bytes, capacity_bytes), granularity, seed);
        media.lock().durable = bytes.to_vec();
        media
    }

    /// A medium that starts from what a crash left.
    pub fn from_pages(
        pages: &Pages,
        capacity_bytes: u64,
        granularity: Granularity,
        seed: u64,
    ) -> CrashMedia {
        let media =
            CrashMedia::over(HeapMedia::with_pages(pages, capacity_bytes), granularity, seed);
        media.lock().durable = media.current().to_vec();
        media
    }

    /// Records what is done from now on; what is there now counts as durable. Every `stride`
    /// flushes all bytes are compared with what they were, and at all others those flushed: with 1
    /// each store is known from the flush on that follows it.
    pub fn record(&self, stride: u64) {
        let now = self.current();
        let trace = Trace { start: Pages::of(now), events: Vec::new() };
        let (seen, site) = (now.to_vec(), Location::caller());
        self.lock().recorder = Some(Recorder { trace, seen, site, stride, flushes: 0 });
    }

    /// Notes in the record that a crash may from now on leave the states from `first` to `last`.
    pub fn mark(&self, first: usize, last: usize) {
        if let Some(recorder) = &mut self.lock().recorder {
            let now = self.current();
            recorder.look(now, 0..now.len());
            recorder.trace.events.push(Event::Mark(first, last));
        }
    }

    /// Ends the record and returns it.
    pub fn recorded(&self) -> Trace {
        self.lock().recorder.take().map(|recorder| recorder.trace).unwrap_or_default()
    }

    /// How many events the record has so far.
    pub fn recorded_events(&self) -> usize {
        self.lock().recorder.as_ref().map_or(0, |recorder| recorder.trace.events.len())
    }

    fn over(heap: HeapMedia, granularity: Granularity, seed: u64) -> CrashMedia {
        let state = State {
            durable: Vec::new(),
            flushed: Vec::new(),
            point: 0,
            seed: seed | 1,
            hook: None,
            images_a_point: 1,
            drop_fence: None,
            drop_flush: None,
            fences: 0,
            flushes: 0,
            dead_behind: u64::MAX,
            recorder: None,
            cut_off: None,
        };
        CrashMedia { heap, granularity, state: Mutex::new(state), watcher: OnceLock::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Calls `hook` with `images_a_point` images at every flush, fence and cut from now on.
    pub fn on_persist(&self, images_a_point: u32, hook: Hook) {
        let mut state = self.lock();
        state.hook = Some(hook);
        state.images_a_point = images_a_point;
    }

    /// Calls `watcher` at every flush, fence and cut from now on, before it takes effect; it may ask
    /// for an image. To be set once.
    pub fn on_point(&self, watcher: impl Fn() + Send + Sync + 'static) {
        // A second one would be a mistake of the test's; the first one stays.
        let _ = self.watcher.set(Box::new(watcher));
    }

    fn tell_watcher(&self) {
        if let Some(watcher) = self.watcher.get() {
            watcher();
        }
    }

    /// Takes no more images.
    pub fn stop(&self) {
        self.lock().hook = None;
    }

    /// Makes one of every two fences from now on do nothing, the first or the second (0 or 1: a
    /// commit has two): the bug the crash tests must catch.
    pub fn lose_fence(&self, which_of_two: u64) {
        let mut state = self.lock();
        state.drop_fence = Some((state.fences + which_of_two) % 2);
    }

    /// Makes every `n`-th flush do nothing, likewise.
    pub fn lose_flush_every(&self, n: u64) {
        self.lock().drop_flush = Some(n);
    }

    /// Hears no flush and no fence behind the next `fences`, as if the process had died at the first
    /// of those: what it stored stays stored. Until [`revive`](Self::revive), when another begins.
    pub fn die_behind(&self, fences: u64) {
        let mut state = self.lock();
        state.dead_behind = state.fences + fences;
    }

    /// Hears what is asked for again.
    pub fn revive(&self) {
        self.lock().dead_behind = u64::MAX;
    }

    /// Heeds all flushes and fences again.
    pub fn lose_no_more(&self) {
        let mut state = self.lock();
        (state.drop_fence, state.drop_flush) = (None, None);
    }

    /// Flushes and fences so far.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.flushes, state.fences)
    }

    /// An image of a crash at this very moment.
    pub fn crash(&self) -> Vec<u8> {
        let mut state = self.lock();
        self.image(&mut state)
    }

    fn current(&self) -> &[u8] {
        // SAFETY: the heap's bytes are valid for `len`; the crash tests run writer and flusher on
        // one thread, so nobody stores while the slice is alive.
        unsafe { std::slice::from_raw_parts(self.heap.base(), self.heap.len() as usize) }
    }

    fn image(&self, state: &mut State) -> Vec<u8> {
        let now = self.current();
        // Zeroed memory that is never touched costs nothing, so only other pages are copied.
        let mut bytes = vec![0; now.len()];
        for (page, durable) in bytes.chunks_mut(4096).zip(state.durable.chunks(4096)) {
            if durable.iter().any(|&byte| byte != 0) {
                page[..durable.len()].copy_from_slice(durable);
            }
        }
        // A third of the images keep everything, a third nothing, a third a random half: the
        // extremes are where missing orders show first.
        let mode = next(&mut state.seed) % 3;
        for (at, unit) in changed_units(now, &state.durable, self.granularity.unit()) {
            let keep = match mode {
                0 => true,
                1 => false,
                _ => next(&mut state.seed) & 1 == 0,
            };
            if keep {
                bytes[at..at + unit].copy_from_slice(&now[at..at + unit]);
            }
        }
        if let Some(cut_off) = &state.cut_off
            && next(&mut state.seed) & 1 == 0
        {
            let end = cut_off.at + cut_off.bytes.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[cut_off.at..end].copy_from_slice(&cut_off.bytes);
        }
        bytes
    }

    /// A fence of all that was flushed, or of what was of a range.
    fn synced(&self, within: Option<(u64, u64)>) {
        self.tell_watcher();
        let mut state = self.lock();
        let state = &mut *state;
        if state.is_dead() {
            return;
        }
        if let Some(recorder) = &mut state.recorder {
            let now = self.current();
            recorder.look(now, 0..now.len());
            recorder.trace.events.push(Event::Fence(recorder.site, within));
        }
        self.persist_point(state, "fence");
        state.fences += 1;
        if state.drop_fence.is_some_and(|which| (state.fences - 1) % 2 == which) {
            return;
        }
        // Lines have one kind of fence.
        let within = within.filter(|_| self.granularity == Granularity::Page);
        let now = self.current();
        if within.is_none() {
            state.cut_off.take_if(|cut_off| cut_off.has_grown);
            state.durable.resize(now.len(), 0);
        }
        let unit = self.granularity.unit();
        let is_meant = |&mut (offset, len): &mut (u64, u64)| {
            within.is_none_or(|(from, bytes)| from <= offset && offset + len <= from + bytes)
        };
        for (offset, len) in state.flushed.extract_if(.., is_meant) {
            let from = offset as usize / unit * unit;
            let to = ((offset + len) as usize).next_multiple_of(unit).min(now.len());
            let durable_len = state.durable.len().max(to);
            state.durable.resize(durable_len, 0);
            state.durable[from..to].copy_from_slice(&now[from..to]);
        }
    }

    fn persist_point(&self, state: &mut State, at: &'static str) {
        state.point += 1;
        let Some(mut hook) = state.hook.take() else { return };
        for _ in 0..state.images_a_point {
            let bytes = self.image(state);
            hook(Image { point: state.point - 1, at, bytes });
        }
        state.hook = Some(hook);
    }
}

/// Offsets and lengths of the units in which `now` differs from `then`.
///
/// Bytes that `then` does not have yet count as zeros.
fn changed_units(now: &[u8], then: &[u8], unit: usize) -> Vec<(usize, usize)> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut out = Vec::new();
    for (page, bytes) in now.chunks(4096).enumerate() {
        let page = page * 4096;
        let old = then.get(page..page + bytes.len()).unwrap_or(&ZEROS[..bytes.len()]);
        if bytes == old {
            continue;
        }
        for (index, (new, old)) in bytes.chunks(unit).zip(old.chunks(unit)).enumerate() {
            if new != old {
                out.push((page + index * unit, new.len()));
            }
        }
    }
    out
}

/// xorshift64*: enough to choose units, and replayable.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
}

// SAFETY: as the heap it wraps.
unsafe impl Media for CrashMedia {
    fn medium(&self) -> Medium {
        Medium::Crash
    }

    fn base(&self) -> *mut u8 {
        self.heap.base()
    }

    fn len(&self) -> u64 {
        self.heap.len()
    }

    fn reserved(&self) -> u64 {
        self.heap.reserved()
    }

    fn grow(&self, file_bytes: u64, backed: &[(u64, u64)]) -> Result<()> {
        if let Some(cut_off) = &mut self.lock().cut_off {
            cut_off.has_grown |= file_bytes > cut_off.at as u64;
        }
        self.heap.grow(file_bytes, backed)
    }

    fn can_shrink(&self) -> bool {
        true
    }

    fn shrink(&self, file_bytes: u64) -> Result<()> {
        self.tell_watcher();
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(recorder) = &mut state.recorder {
            recorder.shrink(self.current(), file_bytes);
        }
        self.heap.shrink(file_bytes)?;
        state.flushed.retain(|&(offset, len)| offset + len <= file_bytes);
        let at = file_bytes as usize;
        let mut bytes = state.durable.split_off(at.min(state.durable.len()));
        if let Some(before) = state.cut_off.take() {
            // It lies further on, or was durable once more and is in `bytes`.
            bytes.resize(bytes.len().max(before.at.saturating_sub(at)), 0);
            bytes.extend(before.bytes.into_iter().skip(at + bytes.len() - before.at));
        }
        state.cut_off = Some(CutOff { at, bytes, has_grown: false });
        self.persist_point(state, "shrink");
        Ok(())
    }

    fn asked_by(&self, site: Site) {
        if let Some(recorder) = &mut self.lock().recorder {
            recorder.site = site;
        }
    }

    fn flush(&self, offset: u64, len: u64) {
        self.tell_watcher();
        let mut state = self.lock();
        if state.is_dead() {
            return;
        }
        state.flushes += 1;
        if let Some(recorder) = &mut state.recorder {
            recorder.flush(self.current(), offset, len);
        }
        let lost = state.drop_flush.is_some_and(|n| state.flushes.is_multiple_of(n));
        if !lost {
            state.flushed.push((offset, len));
        }
        self.persist_point(&mut state, "flush");
    }

    fn fence(&self) -> Result<()> {
        self.synced(None);
        Ok(())
    }

    fn fence_within(&self, offset: u64, len: u64) -> Result<()> {
        self.synced(Some((offset, len)));
        Ok(())
    }
}
