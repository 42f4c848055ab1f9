//! Snapshots: data roots kept by name, and what must outlive its death because one sees it.
//!
//! Copy-on-write leaves the blocks of a sealed epoch as they are, so taking a snapshot is noting
//! the root. A block that dies afterwards and was born before is *kept*: it stays allocated and is
//! entered under the newest snapshot, the last to see it (dead lists, as in ZFS). Dropping a
//! snapshot leaves its list as *garbage* to be sorted a page at a time: what an older snapshot sees
//! is entered under that one, the rest is free. Rolling back makes an old root live again: what its
//! list keeps is alive as it is, and the root it replaces is taken apart in the background, where
//! a subtree born before the snapshot needs no look, for a parent is never older than its children.
//!
//! All of it lies in blocks of its own that no snapshot sees, behind a catalogue that commits
//! together with the data root.

use crate::alloc::room::SLABS_FOR_SNAPSHOTS;
use crate::error::{Result, StoreError};
use crate::heap::{Cell, Offset, expect};
use crate::keyspace::{Pile, View};
use crate::layout::pool::snapshot::{
    CATALOGUE_LEN, DROPPED, EPOCH, GARBAGE, GARBAGE_ALIVE, GARBAGE_EPOCH, GARBAGE_LEN,
    GARBAGE_OLDER, GARBAGE_PAGES, GARBAGE_TREES, INDEX, KEPT, KEPT_BYTES, LEN, LIVE_BYTES,
    NAME_MAX, NEWEST, OLDER, PAGE_ENTRIES, PAGE_LEN, PAGE_NEXT, PAGES, ROOT, TAKEN_MS,
};
use crate::layout::pool::{BIRTH_MASK, OFFSET_MASK, dropped, kind};
use crate::persist::Mem;
use crate::pool::{Pin, Store};

/// A snapshot, as a list of them shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: Vec<u8>,
    /// When it was taken, in ms since the Unix epoch.
    pub taken_ms: u64,
    /// The last log entry it contains.
    pub index: u64,
    /// Bytes of blocks that were live when it was taken.
    pub live_bytes: u64,
    /// Blocks kept for it and for older ones alone.
    pub kept_blocks: u64,
}

/// What came of a change to the snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It was made.
    Done,
    /// There is no snapshot of that name.
    NoSuch,
    /// There is one of that name already.
    Exists,
    /// So many later ones stand in the way of a rollback.
    Later(u64),
}

/// A block of a snapshot, where it hangs in the chain, and what it says.
#[derive(Clone, Copy)]
struct Link {
    at: Offset,
    epoch: u64,
    root: u64,
    /// Dropped, and still needed while garbage is sorted.
    dropped: bool,
}

fn words(mem: &Mem, block: Offset, word: usize) -> Result<u64> {
    mem.word(Cell::new(block, word).at)
}

fn link(mem: &Mem, at: Offset) -> Result<Link> {
    name_of(mem, at)?;
    let dropped = expect(mem, at, kind::SNAPSHOT, "a snapshot")?.aux == DROPPED;
    Ok(Link { at, epoch: words(mem, at, EPOCH)?, root: words(mem, at, ROOT)?, dropped })
}

fn name_of(mem: &Mem, at: Offset) -> Result<&[u8]> {
    let len = expect(mem, at, kind::SNAPSHOT, "a snapshot")?.count as usize;
    if len > NAME_MAX {
        return Err(StoreError::corrupt("a snapshot with a name longer than any can be", at));
    }
    mem.verify(at, LEN + len)?;
    mem.bytes(at + LEN as u64, len)
}

/// The snapshots of a catalogue, the newest first, dropped ones included.
fn links(mem: &Mem, catalogue: Offset) -> Result<Vec<Link>> {
    let mut links: Vec<Link> = Vec::new();
    if catalogue == 0 {
        return Ok(links);
    }
    mem.verify(catalogue, CATALOGUE_LEN)?;
    expect(mem, catalogue, kind::CATALOGUE, "the catalogue of snapshots")?;
    let mut at = words(mem, catalogue, NEWEST)?;
    while at != 0 {
        let found = link(mem, at)?;
        // Epochs fall along the chain, so that a damaged one ends.
        if links.last().is_some_and(|newer| newer.epoch <= found.epoch) {
            return Err(StoreError::corrupt("snapshots out of order", at));
        }
        links.push(found);
        at = words(mem, at, OLDER)?;
    }
    Ok(links)
}

impl View<'_> {
    /// All snapshots, the newest first. One that was pinned by itself sees none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the catalogue is not what it should be.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mem = self.mem;
        links(mem, self.catalogue)?
            .into_iter()
            .filter(|link| !link.dropped)
            .map(|Link { at, .. }| {
                Ok(Snapshot {
                    name: name_of(mem, at)?.to_vec(),
                    taken_ms: words(mem, at, TAKEN_MS)?,
                    index: words(mem, at, INDEX)?,
                    live_bytes: words(mem, at, LIVE_BYTES)?,
                    kept_blocks: words(mem, at, KEPT)?,
                })
            })
            .collect()
    }

    /// Bytes of blocks that are kept for snapshots alone, or still wait to be sorted since one was
    /// dropped; as of the last generation that ended.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the catalogue is not what it should be.
    pub fn snapshots_kept_bytes(&self) -> Result<u64> {
        if self.catalogue == 0 { Ok(0) } else { words(self.mem, self.catalogue, KEPT_BYTES) }
    }
}

impl Store {
    /// [`View::snapshots`] of the live tree.
    ///
    /// # Errors
    /// As [`View::snapshots`].
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.view().snapshots()
    }

    /// Takes a snapshot of what is there, by a name of up to 255 bytes. O(1).
    ///
    /// # Errors
    /// [`StoreError::TooLong`] for the name; [`StoreError::Full`], and then nothing has changed.
    pub fn take_snapshot(&mut self, name: &[u8], taken_ms: u64) -> Result<SnapshotOutcome> {
        if name.len() > NAME_MAX {
            return Err(StoreError::TooLong {
                what: "the name of a snapshot",
                len_bytes: name.len() as u64,
                max_bytes: NAME_MAX as u64,
            });
        }
        if self.position(name)?.is_some() {
            return Ok(SnapshotOutcome::Exists);
        }
        self.enter_kept()?;
        // Seals what is there: its blocks are never changed in place again.
        self.end_generation();
        let epoch = self.heap.epoch - 1;
        let catalogue = self.own_catalogue()?;
        let newest = Cell::new(catalogue, NEWEST);
        let at = self.heap.make(kind::SNAPSHOT, 0, name.len() as u32, LEN + name.len())?;
        for (word, value) in [
            (OLDER, self.heap.get(newest)?),
            (EPOCH, epoch),
            (ROOT, self.root),
            (TAKEN_MS, taken_ms),
            (INDEX, self.applied().1.0),
            (LIVE_BYTES, self.usage().live_bytes),
            (KEPT, 0),
            (PAGES, 0),
        ] {
            self.heap.set(Cell::new(at, word), value)?;
        }
        self.heap.mem.store(at + LEN as u64, name)?;
        self.heap.set(newest, at)?;
        self.heap.keep_upto = epoch;
        self.hold_slabs();
        Ok(SnapshotOutcome::Done)
    }

    /// Holds a snapshot for reading, however long it takes; `None` when there is none of that
    /// name.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the catalogue is not what it should be.
    pub fn pin_snapshot(&self, name: &[u8]) -> Result<Option<Pin>> {
        let Some(position) = self.position(name)? else { return Ok(None) };
        Ok(Some(self.pin_root(self.links()?[position].root, 0)))
    }

    /// Drops a snapshot. What only it saw is freed later, piece by piece.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not even the reserve has room; [`StoreError::Corrupt`].
    pub fn drop_snapshot(&mut self, name: &[u8]) -> Result<SnapshotOutcome> {
        let Some(position) = self.position(name)? else { return Ok(SnapshotOutcome::NoSuch) };
        match self.enter_kept() {
            // Where the newest stays in the chain they wait for room.
            Err(StoreError::Full) if position > 0 || self.has_garbage() => {}
            Err(StoreError::Full) => self.release_unentered()?,
            entered => entered?,
        }
        if self.has_garbage() {
            // Trees that a rollback left may lead to blocks that this one keeps alive: it goes
            // when they are gone.
            let cell = self.own_link(position)?;
            let at = self.heap.get(cell)?;
            let head = expect(&self.heap.mem, at, kind::SNAPSHOT, "a snapshot")?;
            self.heap.set_head(at, kind::SNAPSHOT, DROPPED, head.count)?;
        } else {
            self.unlink(position, 0)?;
        }
        Ok(SnapshotOutcome::Done)
    }

    /// Decides about blocks that have died and are not entered yet, when the newest snapshot goes:
    /// only what the next older one sees is still kept.
    fn release_unentered(&mut self) -> Result<()> {
        let older = self.links()?.get(1).map_or(0, |older| older.epoch);
        for block in std::mem::take(&mut self.heap.kept) {
            if self.heap.mem.word(block)? & BIRTH_MASK <= older {
                self.heap.kept.push(block);
            } else {
                let freed = self.heap.alloc.unkeep_dead(block).map(drop);
                self.or_leak(freed, block)?;
            }
        }
        Ok(())
    }

    /// Makes what a snapshot saw the live data, in O(1) of it; the snapshot stays. History is a
    /// line: later snapshots stand in the way unless they are to be dropped with what came after.
    /// Raft's state, the clock and the limit stay as they are.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not even the reserve has room; [`StoreError::Corrupt`].
    pub fn roll_back(&mut self, name: &[u8], drop_later: bool) -> Result<SnapshotOutcome> {
        let Some(position) = self.position(name)? else { return Ok(SnapshotOutcome::NoSuch) };
        let links = self.links()?;
        let later = links[..position].iter().filter(|link| !link.dropped).count();
        if later > 0 && !drop_later {
            return Ok(SnapshotOutcome::Later(later as u64));
        }
        self.enter_kept()?;
        let target = links[position];
        for _ in 0..position {
            self.unlink(0, target.epoch)?;
        }
        self.revive_garbage(target.epoch)?;
        self.release_kept_of_newest()?;
        self.abandon(target)?;
        Ok(SnapshotOutcome::Done)
    }

    /// Puts the root of the newest snapshot in the place of the live one, which is taken apart
    /// later.
    fn abandon(&mut self, target: Link) -> Result<()> {
        let abandoned = std::mem::replace(&mut self.root, target.root);
        if abandoned == 0 || abandoned == target.root {
            return Ok(());
        }
        let at = self.leave_garbage(0, target.epoch, target.epoch)?;
        let pile = Pile::abandoned(Cell::new(at, GARBAGE_TREES), target.epoch);
        self.drop_tree(pile, abandoned, dropped::ROOT)
    }

    /// Sets what follows from the catalogue at an open.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the catalogue or a snapshot is damaged. Then nothing that is
    /// committed may ever be written over, for any snapshot may see it, and nothing committed.
    pub(crate) fn find_newest_snapshot(&mut self) -> Result<()> {
        self.heap.keep_upto = self.committed_epoch().0;
        self.heap.keep_upto = self.links()?.first().map_or(0, |newest| newest.epoch);
        self.hold_slabs();
        if self.catalogue != 0 {
            let kept_bytes = words(&self.heap.mem, self.catalogue, KEPT_BYTES)?;
            self.heap.alloc.set_kept_bytes(kept_bytes);
        }
        Ok(())
    }

    fn links(&self) -> Result<Vec<Link>> {
        links(&self.heap.mem, self.catalogue)
    }

    fn position(&self, name: &[u8]) -> Result<Option<usize>> {
        for (position, link) in self.links()?.iter().enumerate() {
            if !link.dropped && name_of(&self.heap.mem, link.at)? == name {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    fn own_catalogue(&mut self) -> Result<Offset> {
        self.catalogue = match self.catalogue {
            0 => self.heap.make_zeroed(kind::CATALOGUE, 0, 0, CATALOGUE_LEN)?,
            at => self.heap.own_unseen(at, CATALOGUE_LEN)?,
        };
        let kept_bytes = self.heap.alloc.usage().kept_bytes;
        self.heap.set(Cell::new(self.catalogue, KEPT_BYTES), kept_bytes)?;
        Ok(self.catalogue)
    }

    /// Owns the snapshots down to `position`; returns the cell that points to that one.
    fn own_link(&mut self, position: usize) -> Result<Cell> {
        let mut cell = Cell::new(self.own_catalogue()?, NEWEST);
        for step in 0..=position {
            let at = self.heap.get(cell)?;
            let len = LEN + name_of(&self.heap.mem, at)?.len();
            let owned = self.heap.own_unseen_at(cell, len)?;
            if step < position {
                cell = Cell::new(owned, OLDER);
            }
        }
        Ok(cell)
    }

    /// Moves the catalogue and its snapshots, if any of them lies in a slab that is being emptied.
    pub(crate) fn evacuate_snapshots(&mut self) -> Result<()> {
        let links = self.links()?;
        let is_leaving = |&at: &Offset| self.heap.alloc.is_leaving(at);
        if let Some(last) = links.iter().rposition(|link| is_leaving(&link.at)) {
            self.own_link(last)?;
        } else if self.catalogue != 0 && is_leaving(&self.catalogue) {
            self.own_catalogue()?;
        }
        Ok(())
    }

    /// Takes a snapshot out of the chain; what it kept becomes garbage, of which what was born up
    /// to `alive_upto` is live again.
    fn unlink(&mut self, position: usize, alive_upto: u64) -> Result<()> {
        let cell = self.own_link(position)?;
        let at = self.heap.get(cell)?;
        let (older, epoch, pages) = (
            self.heap.get(Cell::new(at, OLDER))?,
            self.heap.get(Cell::new(at, EPOCH))?,
            self.heap.get(Cell::new(at, PAGES))?,
        );
        if pages != 0 {
            self.leave_garbage(pages, epoch, alive_upto)?;
        }
        let len = LEN + name_of(&self.heap.mem, at)?.len();
        self.heap.set(cell, older)?;
        self.heap.free_unseen(at, len)?;
        self.heap.keep_upto = self.links()?.first().map_or(0, |newest| newest.epoch);
        self.hold_slabs();
        Ok(())
    }

    /// Whether there are snapshots, or what is left of them.
    fn keeps_anything(&self) -> bool {
        self.heap.keep_upto > 0 || self.has_garbage()
    }

    /// While there are any, slabs are kept for dropping them.
    fn hold_slabs(&mut self) {
        self.heap.alloc.held_slabs = if self.keeps_anything() { SLABS_FOR_SNAPSHOTS } else { 0 };
    }

    /// Lengths of the blocks that an entry may have to write to enter what has died, to drop
    /// snapshots and to leave what they kept as garbage.
    pub(crate) fn catalogue_lengths(&self) -> Vec<usize> {
        let mut lengths = Vec::new();
        if self.catalogue == 0 {
            return lengths;
        }
        // Damage is told by whatever next goes that way.
        for link in self.links().unwrap_or_default() {
            let name = name_of(&self.heap.mem, link.at).map_or(0, <[u8]>::len);
            lengths.extend([LEN + name, GARBAGE_LEN]);
        }
        lengths.extend([CATALOGUE_LEN, GARBAGE_LEN]);
        let pages = self.heap.kept.len() / PAGE_ENTRIES + 3;
        lengths.extend(std::iter::repeat_n(PAGE_LEN, pages));
        lengths
    }

    /// Leaves garbage to be sorted after what is there; returns its block.
    fn leave_garbage(&mut self, pages: u64, epoch: u64, alive_upto: u64) -> Result<Offset> {
        let head = Cell::new(self.own_catalogue()?, GARBAGE);
        let at = self.heap.make(kind::GARBAGE, 0, 0, GARBAGE_LEN)?;
        for (word, value) in [
            (GARBAGE_OLDER, self.heap.get(head)?),
            (GARBAGE_EPOCH, epoch),
            (GARBAGE_PAGES, pages),
            (GARBAGE_ALIVE, alive_upto),
            (GARBAGE_TREES, 0),
        ] {
            self.heap.set(Cell::new(at, word), value)?;
        }
        self.heap.set(head, at)?;
        Ok(at)
    }

    /// A rollback to `epoch`: what garbage of later snapshots holds is live again if it was born
    /// by then. Garbage that an earlier rollback marked stays as it was marked: what was revived
    /// then has found its place since.
    fn revive_garbage(&mut self, epoch: u64) -> Result<()> {
        if self.catalogue == 0 {
            return Ok(());
        }
        let mut cell = Cell::new(self.own_catalogue()?, GARBAGE);
        while self.heap.get(cell)? != 0 {
            let at = self.heap.own_unseen_at(cell, GARBAGE_LEN)?;
            expect(&self.heap.mem, at, kind::GARBAGE, "garbage of a snapshot")?;
            let alive = Cell::new(at, GARBAGE_ALIVE);
            if self.heap.get(Cell::new(at, GARBAGE_EPOCH))? > epoch && self.heap.get(alive)? == 0 {
                self.heap.set(alive, epoch)?;
            }
            cell = Cell::new(at, GARBAGE_OLDER);
        }
        Ok(())
    }

    /// What the newest snapshot keeps is what a rollback to it makes live.
    fn release_kept_of_newest(&mut self) -> Result<()> {
        let cell = self.own_link(0)?;
        let at = self.heap.get(cell)?;
        let (epoch, pages) =
            (self.heap.get(Cell::new(at, EPOCH))?, self.heap.get(Cell::new(at, PAGES))?);
        self.heap.set(Cell::new(at, PAGES), 0)?;
        self.heap.set(Cell::new(at, KEPT), 0)?;
        if pages != 0 {
            self.leave_garbage(pages, epoch, epoch)?;
        }
        Ok(())
    }

    /// Enters what has died and is kept under the newest snapshot. What finds no room is tried
    /// again; a crash before would leave its place unused, which `check` reports.
    ///
    /// # Errors
    /// [`StoreError::Full`]: some are left.
    pub(crate) fn enter_kept(&mut self) -> Result<()> {
        while let Some(&block) = self.heap.kept.last() {
            // Entering buries nothing that snapshots see, so the list only gets shorter.
            self.enter(0, block)?;
            self.heap.kept.pop();
        }
        Ok(())
    }

    /// Brings what a commit is to make durable up to date. What finds no room waits for the next.
    pub(crate) fn settle_catalogue(&mut self) -> Result<()> {
        self.enter_kept()?;
        if !self.keeps_anything() {
            // What has leaked, or was never entered for a crash, was counted and is never taken off.
            self.heap.alloc.set_kept_bytes(0);
        }
        let kept_bytes = self.heap.alloc.usage().kept_bytes;
        if self.catalogue != 0 && words(&self.heap.mem, self.catalogue, KEPT_BYTES)? != kept_bytes {
            self.own_catalogue()?;
        }
        Ok(())
    }

    /// Enters a kept block under the snapshot at `position`.
    fn enter(&mut self, position: usize, block: Offset) -> Result<()> {
        let cell = self.own_link(position)?;
        let at = self.heap.get(cell)?;
        let pages = Cell::new(at, PAGES);
        let (mut page, mut count) = self.own_counted_page_of_kept(pages)?.unwrap_or_default();
        if page == 0 || count == PAGE_ENTRIES {
            let next = page;
            page = self.heap.make(kind::KEPT, 0, 0, PAGE_LEN)?;
            self.heap.set(Cell::new(page, PAGE_NEXT), next)?;
            self.heap.set(pages, page)?;
            count = 0;
        }
        self.heap.set(page_entry(page, count), block)?;
        self.heap.set_count(page, count as u32 + 1)?;
        let kept = Cell::new(at, KEPT);
        let kept_blocks = self.heap.get(kept)? + 1;
        self.heap.set(kept, kept_blocks)
    }

    /// Owns the first page of a snapshot's list; `None` when there is none. A damaged one leaks with all
    /// that is on it and behind it, for nobody can say what that is: were it an error, whatever dies
    /// from then on would wait in memory for ever.
    fn own_counted_page_of_kept(&mut self, pages: Cell) -> Result<Option<(Offset, usize)>> {
        let at = self.heap.get(pages)?;
        if at == 0 {
            return Ok(None);
        }
        let owned = self.heap.own_unseen_at(pages, PAGE_LEN);
        match owned.and_then(|page| Ok((page, page_count(&self.heap.mem, page)?))) {
            Err(StoreError::Corrupt(_)) => {
                self.heap.alloc.leaked.note(at);
                self.heap.set(pages, 0)?;
                Ok(None)
            }
            owned => owned.map(Some),
        }
    }

    /// Whether garbage of snapshots waits to be sorted.
    pub(crate) fn has_garbage(&self) -> bool {
        self.catalogue != 0
            && words(&self.heap.mem, self.catalogue, GARBAGE).is_ok_and(|newest| newest != 0)
    }

    /// Sorts one block of garbage, or frees one node of an abandoned tree. The oldest garbage comes
    /// first: abandoned trees lead to blocks that later garbage frees.
    pub(crate) fn sort_garbage(&mut self) -> Result<()> {
        let mut cell = Cell::new(self.own_catalogue()?, GARBAGE);
        let at = loop {
            let at = self.heap.own_unseen_at(cell, GARBAGE_LEN)?;
            expect(&self.heap.mem, at, kind::GARBAGE, "garbage of a snapshot")?;
            let older = Cell::new(at, GARBAGE_OLDER);
            if self.heap.get(older)? == 0 {
                break at;
            }
            cell = older;
        };
        let epoch = self.heap.get(Cell::new(at, GARBAGE_EPOCH))?;
        let trees = Cell::new(at, GARBAGE_TREES);
        if self.heap.get(trees)? != 0 {
            self.ensure_notes(false)?;
            return self.free_next(Pile::abandoned(trees, epoch));
        }
        let pages = Cell::new(at, GARBAGE_PAGES);
        if self.heap.get(pages)? != 0 {
            let alive_upto = self.heap.get(Cell::new(at, GARBAGE_ALIVE))?;
            // Taken off only when it has found its place: that may want room. One that is damaged leaks.
            let block = self.last_kept(pages)?;
            let sorted = self.sort(block, epoch, alive_upto);
            self.or_leak(sorted, block)?;
            return self.take_last_kept(pages);
        }
        self.heap.set(cell, 0)?;
        self.heap.free_unseen(at, GARBAGE_LEN)?;
        self.hold_slabs();
        if self.has_garbage() { Ok(()) } else { self.unlink_dropped() }
    }

    /// Whether snapshots are still in the chain that were dropped while garbage needed them.
    pub(crate) fn has_unlinking(&self) -> bool {
        self.catalogue != 0
            && !self.has_garbage()
            && self.links().is_ok_and(|links| links.iter().any(|link| link.dropped))
    }

    /// Takes snapshots out of the chain that were dropped while garbage needed them.
    pub(crate) fn unlink_dropped(&mut self) -> Result<()> {
        self.enter_kept()?;
        while let Some(position) = self.links()?.iter().position(|link| link.dropped) {
            self.unlink(position, 0)?;
        }
        Ok(())
    }

    /// The last block of the first of the pages that `pages` leads to, which is then ours to change.
    fn last_kept(&mut self, pages: Cell) -> Result<Offset> {
        let page = self.heap.own_unseen_at(pages, PAGE_LEN)?;
        match page_count(&self.heap.mem, page)? {
            0 => Err(StoreError::corrupt("an empty page of kept blocks", page)),
            count => self.heap.get(page_entry(page, count - 1)),
        }
    }

    /// Takes that block off its page. Wants no room.
    fn take_last_kept(&mut self, pages: Cell) -> Result<()> {
        let page = self.heap.get(pages)?;
        let count = page_count(&self.heap.mem, page)?;
        if count > 1 {
            return self.heap.set_count(page, count as u32 - 1);
        }
        let next = self.heap.get(Cell::new(page, PAGE_NEXT))?;
        self.heap.set(pages, next)?;
        self.heap.free_unseen(page, PAGE_LEN)
    }

    /// Decides about a block that the snapshot of `epoch`, now dropped, kept.
    fn sort(&mut self, block: Offset, epoch: u64, alive_upto: u64) -> Result<()> {
        // Its birth decides who sees it.
        let bytes = self.heap.alloc.bytes_at(block)?;
        self.heap.mem.verify(block, bytes as usize)?;
        let birth = self.heap.mem.word(block)? & BIRTH_MASK;
        if birth <= alive_upto {
            return self.heap.alloc.unkeep_alive(block);
        }
        let older = self.links()?.iter().position(|link| link.epoch < epoch);
        if let Some(position) = older
            && birth <= self.links()?[position].epoch
        {
            return self.enter(position, block);
        }
        self.heap.alloc.unkeep_dead(block).map(drop)
    }

    /// The catalogue's own blocks with their lengths, the roots of snapshots, and the kept blocks,
    /// for `check`.
    pub(crate) fn catalogue_parts(&self) -> Result<Parts> {
        let mut parts = Parts::default();
        if self.catalogue == 0 {
            return Ok(parts);
        }
        let mem = &self.heap.mem;
        parts.blocks.push((self.catalogue, CATALOGUE_LEN));
        for link in self.links()? {
            parts.blocks.push((link.at, LEN + name_of(mem, link.at)?.len()));
            parts.roots.push(link.root);
            parts.add_pages(mem, words(mem, link.at, PAGES)?, 0)?;
        }
        let mut at = words(mem, self.catalogue, GARBAGE)?;
        while at != 0 {
            mem.verify(at, GARBAGE_LEN)?;
            expect(mem, at, kind::GARBAGE, "garbage of a snapshot")?;
            parts.blocks.push((at, GARBAGE_LEN));
            let alive_upto = words(mem, at, GARBAGE_ALIVE)?;
            parts.garbage = true;
            parts.trees.push((words(mem, at, GARBAGE_TREES)?, words(mem, at, GARBAGE_EPOCH)?));
            parts.add_pages(mem, words(mem, at, GARBAGE_PAGES)?, alive_upto)?;
            at = words(mem, at, GARBAGE_OLDER)?;
        }
        Ok(parts)
    }
}

/// What hangs below a catalogue.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) blocks: Vec<(Offset, usize)>,
    pub(crate) roots: Vec<u64>,
    /// Kept blocks that are not live.
    pub(crate) kept: Vec<Offset>,
    /// Whether some of those wait to be sorted, so that no snapshot need see them.
    pub(crate) garbage: bool,
    /// Lists of abandoned trees, and the epoch since which what was born is to be freed.
    pub(crate) trees: Vec<(u64, u64)>,
}

impl Parts {
    fn add_pages(&mut self, mem: &Mem, mut page: u64, alive_upto: u64) -> Result<()> {
        while page != 0 {
            for index in 0..page_count(mem, page)? {
                let block = mem.word(page_entry(page, index).at)?;
                if mem.word(block)? & BIRTH_MASK > alive_upto {
                    self.kept.push(block);
                }
            }
            self.blocks.push((page, PAGE_LEN));
            page = words(mem, page, PAGE_NEXT)? & OFFSET_MASK;
        }
        Ok(())
    }
}

fn page_count(mem: &Mem, page: Offset) -> Result<usize> {
    mem.verify(page, PAGE_LEN)?;
    let count = expect(mem, page, kind::KEPT, "a page of kept blocks")?.count as usize;
    if count > PAGE_ENTRIES {
        return Err(StoreError::corrupt("an overfull page of kept blocks", page));
    }
    Ok(count)
}

fn page_entry(page: Offset, index: usize) -> Cell {
    Cell::new(page, PAGE_NEXT + 1 + index)
}
