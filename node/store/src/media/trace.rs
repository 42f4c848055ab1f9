//! What a pool stored, flushed and fenced, in order, and what a crash at any moment of it may leave.
//!
//! The code under test runs once, on a recording [`super::CrashMedia`]. The rest is worked out from
//! the record: the images of every moment, and those there would have been without the flushes or
//! fences of one call site.

use super::Granularity;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;

/// The line of code that asked for a flush or a fence.
pub type Site = &'static Location<'static>;

const PAGE: usize = 4096;
/// Bytes of a cache line, the piece in which stores are recorded.
pub(super) const LINE: usize = 64;

/// The bytes of a medium, without the pages that hold only zeros. Copies share what is alike.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl Pages {
    /// Those of `bytes`.
    pub fn of(bytes: &[u8]) -> Pages {
        let mut pages = Pages { len: bytes.len() as u64, pages: BTreeMap::new() };
        for (number, page) in bytes.chunks(PAGE).enumerate() {
            if page.iter().any(|&byte| byte != 0) {
                pages.write((number * PAGE) as u64, page);
            }
        }
        pages
    }

    /// Length of the medium in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Offsets and bytes of the pages that are not all zeros.
    pub fn filled(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(number, page)| {
            let at = number * PAGE as u64;
            (at, &page[..(self.len - at).min(PAGE as u64) as usize])
        })
    }

    /// The bytes at `offset`, which lie in one page; those that are not there count as zeros.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        let within = offset as usize % PAGE;
        match self.pages.get(&(offset / PAGE as u64)) {
            Some(page) => into.copy_from_slice(&page[within..within + into.len()]),
            None => into.fill(0),
        }
    }

    /// Puts `bytes`, which lie in one page, at `offset`; the medium grows as far as it must.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.len = self.len.max(offset + bytes.len() as u64);
        let page = self.pages.entry(offset / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
        let within = offset as usize % PAGE;
        Arc::make_mut(page)[within..within + bytes.len()].copy_from_slice(bytes);
    }

    fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Cuts off what lies from `len` on, whole pages, and returns it.
    fn cut(&mut self, len: u64) -> Pages {
        let pages = self.pages.split_off(&(len / PAGE as u64));
        Pages { len: std::mem::replace(&mut self.len, len), pages }
    }

    fn unit(&self, at: u64, len: usize) -> Box<[u8]> {
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes);
        bytes.into()
    }
}

/// Something that was done to a medium.
#[derive(Debug, Clone)]
pub enum Event {
    /// These lines changed since the event before.
    Stored(Vec<(u64, [u8; LINE])>),
    /// The medium is so many bytes long.
    Grew(u64),
    /// The medium was cut to so many bytes.
    Shrank(u64),
    /// A flush of a range.
    Flush(Site, u64, u64),
    /// A fence; of a range (offset, length) alone, where it says so.
    Fence(Site, Option<(u64, u64)>),
    /// From here on a crash may leave the states (first, last) and those between, by the count of
    /// whoever is recording.
    Mark(usize, usize),
}

/// A record from its beginning.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// What was durable when it began.
    pub start: Pages,
    /// What was done since.
    pub events: Vec<Event>,
}

/// A flush or a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Persist {
    /// A flush.
    Flush,
    /// A fence.
    Fence,
}

/// What is taken out of a record: the flushes or the fences that one line of code asks for.
pub type Lost = (Persist, Site);

impl Trace {
    /// Every call site in it.
    pub fn sites(&self) -> Vec<Lost> {
        let mut sites: Vec<Lost> = self.events.iter().filter_map(Event::site).collect();
        sites.sort_by_key(|(kind, site)| (site.file(), site.line(), site.column(), *kind));
        sites.dedup();
        sites
    }
}

impl Event {
    fn site(&self) -> Option<Lost> {
        match *self {
            Event::Flush(site, ..) => Some((Persist::Flush, site)),
            Event::Fence(site, _) => Some((Persist::Fence, site)),
            _ => None,
        }
    }
}

/// A unit that is not durable as it is.
#[derive(Debug, Clone)]
struct Dirty {
    durable: Box<[u8]>,
    /// What it held since, oldest first.
    versions: Vec<Box<[u8]>>,
}

/// Goes through a record, event by event, and knows what is durable and what may be.
///
/// A unit that has changed since it became durable may be left as it was then or as it was at any
/// flush or fence since, whatever becomes of its neighbours. At the granularity of pages a fence
/// makes all of it durable, or all of a range; at that of lines only what was flushed, as it was at
/// the flush.
///
/// What is cut off may be there all the same, until the first fence after the medium has grown again.
pub struct Replay<'a> {
    events: std::slice::Iter<'a, Event>,
    granularity: Granularity,
    lost: Option<Lost>,
    now: Pages,
    durable: Pages,
    durable_hash: u64,
    dirty: BTreeMap<u64, Dirty>,
    flushed: BTreeMap<u64, Box<[u8]>>,
    cut_off: Option<CutOff>,
}

/// What was durable behind the place where the medium was cut.
#[derive(Default)]
struct CutOff {
    pages: Pages,
    has_grown: bool,
}

impl<'a> Replay<'a> {
    /// Begins at the record's beginning; `lost` is taken out.
    pub fn new(trace: &'a Trace, granularity: Granularity, lost: Option<Lost>) -> Replay<'a> {
        Replay {
            events: trace.events.iter(),
            granularity,
            lost,
            now: trace.start.clone(),
            durable: trace.start.clone(),
            durable_hash: 0,
            dirty: BTreeMap::new(),
            flushed: BTreeMap::new(),
            cut_off: None,
        }
    }

    /// The next event, before it has any effect.
    pub fn peek(&self) -> Option<&'a Event> {
        self.events.as_slice().first()
    }

    /// Takes the next event in.
    pub fn step(&mut self) -> Option<&'a Event> {
        let event = self.events.next()?;
        if event.site().is_some_and(|(kind, site)| {
            self.lost.is_some_and(|(lost, at)| lost == kind && same_site(at, site))
        }) {
            return Some(event);
        }
        match event {
            Event::Stored(lines) => self.store(lines),
            Event::Grew(len) => {
                self.now.grow(*len);
                self.durable.grow(*len);
                if let Some(cut_off) = &mut self.cut_off {
                    cut_off.has_grown = true;
                }
            }
            Event::Shrank(len) => self.shrink(*len),
            Event::Flush(_, offset, len) => self.flush(*offset, *len),
            Event::Fence(_, within) => self.fence(*within),
            Event::Mark(..) => {}
        }
        Some(event)
    }

    fn store(&mut self, lines: &[(u64, [u8; LINE])]) {
        let unit = self.granularity.unit();
        for (at, bytes) in lines {
            self.now.write(*at, bytes);
        }
        let mut units: Vec<u64> = lines.iter().map(|(at, _)| at / unit as u64).collect();
        units.dedup();
        for at in units.into_iter().map(|number| number * unit as u64) {
            let durable = || Dirty { durable: self.durable.unit(at, unit), versions: Vec::new() };
            let dirty = self.dirty.entry(at).or_insert_with(durable);
            dirty.versions.push(self.now.unit(at, unit));
        }
    }

    fn shrink(&mut self, len: u64) {
        drop(self.now.cut(len));
        let pages = self.durable.cut(len);
        self.dirty.split_off(&len);
        self.flushed.split_off(&len);
        self.durable_hash ^= hash(len, b"cut off");
        let before = self.cut_off.get_or_insert_default();
        // What an earlier cut took lies further on.
        before.pages.len = before.pages.len.max(pages.len);
        before.pages.pages.extend(pages.pages);
        before.has_grown = false;
    }

    fn flush(&mut self, offset: u64, len: u64) {
        if self.granularity == Granularity::Page {
            return;
        }
        let from = offset / LINE as u64 * LINE as u64;
        for (at, dirty) in self.dirty.range(from..offset + len) {
            if let Some(last) = dirty.versions.last() {
                self.flushed.insert(*at, last.clone());
            }
        }
    }

    fn fence(&mut self, within: Option<(u64, u64)>) {
        // Lines have one kind of fence.
        let within = within.filter(|_| self.granularity == Granularity::Page);
        if within.is_none() {
            self.cut_off.take_if(|cut_off| cut_off.has_grown);
        }
        let range = within.map_or(0..u64::MAX, |(offset, len)| offset..offset + len);
        let durable: Vec<(u64, Box<[u8]>)> = match self.granularity {
            Granularity::Page => {
                let meant = self.dirty.range(range);
                meant.map(|(at, _)| (*at, self.last(*at))).collect()
            }
            Granularity::CacheLine => std::mem::take(&mut self.flushed).into_iter().collect(),
        };
        for (at, bytes) in durable {
            let Some(mut dirty) = self.dirty.remove(&at) else { continue };
            self.durable_hash ^= hash(at, &dirty.durable) ^ hash(at, &bytes);
            self.durable.write(at, &bytes);
            if dirty.versions.last().is_some_and(|last| *last != bytes) {
                let kept = dirty.versions.iter().rposition(|version| *version == bytes);
                dirty.versions.drain(..=kept.unwrap_or(0));
                dirty.durable = bytes;
                self.dirty.insert(at, dirty);
            }
        }
    }

    fn last(&self, at: u64) -> Box<[u8]> {
        self.now.unit(at, self.granularity.unit())
    }

    /// The units that are not durable as they are, and how many versions of each there are.
    pub fn dirty(&self) -> Vec<(u64, usize)> {
        self.dirty.iter().map(|(at, dirty)| (*at, dirty.versions.len())).collect()
    }

    /// What is durable, and a number that stands for it.
    pub fn durable(&self) -> (Pages, u64) {
        (self.durable.clone(), self.durable_hash)
    }

    /// Puts back into an image what the medium had before it was cut, if a crash may leave that;
    /// returns what to add, as [`put`](Self::put) does.
    pub fn put_back(&self, image: &mut Pages) -> Option<u64> {
        let cut_off = &self.cut_off.as_ref()?.pages;
        image.grow(cut_off.len);
        image.pages.extend(cut_off.pages.iter().map(|(at, page)| (*at, page.clone())));
        Some(hash(cut_off.len, b"put back"))
    }

    /// Puts a version of a unit into an image, which had it as it is durable: the `version`th
    /// since, of which words are taken where `mask` has a bit set, by their place modulo 64. Returns
    /// what to add, by exclusive or, to the number that stands for the image.
    pub fn put(&self, image: &mut Pages, at: u64, version: usize, mask: u64) -> u64 {
        let Some(dirty) = self.dirty.get(&at) else { return 0 };
        let mut bytes = dirty.durable.clone();
        let version = dirty.versions[version].chunks(8);
        for (index, (to, from)) in bytes.chunks_mut(8).zip(version).enumerate() {
            if mask >> (index % 64) & 1 == 1 {
                to.copy_from_slice(from);
            }
        }
        image.write(at, &bytes);
        hash(at, &dirty.durable) ^ hash(at, &bytes)
    }
}

/// The compiler makes no promise that one line has one `Location`.
fn same_site(a: Site, b: Site) -> bool {
    (a.file(), a.line(), a.column()) == (b.file(), b.line(), b.column())
}

fn hash(at: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(crate::hash::mix(at), |hash, word| {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        crate::hash::mix(hash ^ u64::from_le_bytes(bytes))
    })
}
