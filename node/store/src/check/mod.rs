//! Walking a pool that no node has open: is everything that can be reached sound, counted right
//! and marked in use, and is nothing else?

mod scrub;
pub mod shape;

pub use scrub::Scrubbed;
pub use shape::Shape;

use shape::{ClassUse, DatabaseShape};

use crate::alloc::record::{self, Bits, Committed};
use crate::alloc::{Alloc, slab_of};
use crate::blob::{Chunks, Record, Roots, Type, Value};
use crate::btree::chunk_len;
use crate::collection::{ENTRY_BYTES, LIST_BYTES, RANK_BYTES};
use crate::error::{Result, StoreError};
use crate::heap::{Cell, Offset, expect};
use crate::keyspace::{Db, Deadlines, Piece};
use crate::layout::pool::{
    self as layout, CLASS_BYTES, HEADER, OFFSET_MASK, SLABS_PER_EXTENT, btree, dropped, kind, root,
    slots,
};
use crate::list::{self, Sequence};
use crate::media;
use crate::order;
use crate::persist::Mem;
use crate::pool::{Store, Superblock};
use crate::snapshot::Snapshot;
use crate::trie;
use cairn_protocol::ids::{LogIndex, Term};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Problems listed one by one; beyond this they are only counted.
const LISTED_MAX: usize = 100;

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Epoch of the root that was walked.
    pub epoch: u64,
    /// The last log entry that the root contains.
    pub applied: (Term, LogIndex),
    /// Keys reached.
    pub keys: u64,
    /// Blocks reached, and their bytes.
    pub blocks: u64,
    /// Bytes of the blocks reached.
    pub live_bytes: u64,
    /// Blocks marked in use that nothing reaches.
    pub leaked_blocks: u64,
    /// Whether checksums were verified.
    pub deep: bool,
    /// Something an open would mend by itself.
    pub note: Option<String>,
    /// What there is, by kind, type, database and size.
    pub shape: Shape,
    /// Snapshots, the newest first.
    pub snapshots: Vec<Snapshot>,
    /// What is wrong, the first hundred.
    pub problems: Vec<String>,
    /// How many there are.
    pub problem_count: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0 && self.leaked_blocks == 0
    }

    fn problem(&mut self, what: String) {
        self.problem_count += 1;
        if self.problems.len() < LISTED_MAX {
            self.problems.push(what);
        }
    }
}

/// Checks the pool at `path`, a file or a devdax device, without changing it. `progress` hears the keys seen so far and
/// in all.
///
/// # Errors
/// What keeps the pool from being opened at all; damage further in goes into the report.
pub fn check_file(path: &Path, deep: bool, progress: &mut dyn FnMut(u64, u64)) -> Result<Report> {
    check(Arc::new(Mem::new(media::inspect(path)?)), deep, progress)
}

/// Checks the pool on a medium without changing it, as [`check_file`].
///
/// # Errors
/// As [`check_file`].
pub fn check(mem: Arc<Mem>, deep: bool, progress: &mut dyn FnMut(u64, u64)) -> Result<Report> {
    let (store, committed, extents, note) = Store::look(mem)?;
    let mut walk = Walk::of(&store, committed, deep, progress);
    walk.report.note = note;
    walk.everything();
    walk.compare(extents);
    Ok(walk.report)
}

/// A slab of a pool that has just arrived in which more is marked than is needed.
pub(crate) struct Arrived {
    /// Which slab.
    pub(crate) number: u64,
    /// Its class.
    pub(crate) class: u8,
    /// What the pool leads to.
    pub(crate) needed: Bits,
}

/// Walks a pool that has arrived and has no superblocks yet: `superblock` is what they will say.
/// Every checksum is verified. Blocks that came and are not needed are none of the report's
/// problems; their slabs are returned.
///
/// # Errors
/// What keeps the pool from being opened at all; a damaged slab record.
pub(crate) fn arrived(
    mem: Arc<Mem>,
    superblock: &Superblock,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Report, Vec<Arrived>)> {
    let (store, committed) = Store::look_as(mem, superblock)?;
    let mut walk = Walk::of(&store, committed, true, progress);
    walk.everything();
    let mut slabs = Vec::new();
    for number in 0..superblock.extents * SLABS_PER_EXTENT {
        let slab = walk.slab(number)?;
        let needed: Bits = slab.reached.iter().zip(&slab.kept).map(|(a, b)| a | b).collect();
        if needed != slab.marked {
            slabs.push(Arrived { number, class: slab.class, needed });
        }
    }
    Ok((walk.report, slabs))
}

struct Slab {
    class: u8,
    marked: Bits,
    /// Live, or to be freed.
    reached: Bits,
    /// Dead, and kept for snapshots.
    kept: Bits,
    /// Of those, the ones that a snapshot has led to.
    seen: Bits,
}

/// Who sees a tree that is walked block by block.
#[derive(Clone, Copy)]
enum Seen {
    /// The live root: each block is reached exactly once.
    Live,
    /// Nobody, what was born after this epoch; the rest is somebody else's.
    Since(u64),
    /// A snapshot.
    BySnapshot,
}

struct Walk<'a> {
    store: &'a Store,
    committed: Committed,
    reached: HashMap<u64, Slab>,
    report: Report,
    progress: &'a mut dyn FnMut(u64, u64),
    total: u64,
    /// What is met belongs to a tree that was dropped.
    dropping: bool,
}

/// Where in a trie a walk is.
#[derive(Clone, Copy)]
struct Spot {
    /// Steps from the trie's root.
    depth: usize,
    /// The trie holds members of a collection, not keys.
    is_nested: bool,
}

impl Spot {
    fn below(self) -> Spot {
        Spot { depth: self.depth + 1, ..self }
    }
}

/// What a walk counted below a slot.
#[derive(Default)]
struct Counted {
    /// Slots with keys.
    slots: u64,
    keys: u64,
    deadlines: u64,
    bytes: u64,
}

impl<'a> Walk<'a> {
    fn of(
        store: &'a Store,
        committed: Committed,
        deep: bool,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Walk<'a> {
        let total = (0..=Db::COUNT).map(|db| store.len(Db(db))).sum();
        let (epoch, applied) = (committed.epoch, store.applied());
        let report = Report { epoch, applied, deep, ..Report::default() };
        let reached = HashMap::new();
        Walk { store, committed, reached, report, progress, total, dropping: false }
    }

    /// All that the pool's roots lead to.
    fn everything(&mut self) {
        self.root();
        self.try_part(Walk::snapshots);
    }

    /// Runs `part` and puts its error, if any, among the problems.
    fn try_part(&mut self, part: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(e) = part(self) {
            self.report.problem(e.to_string());
        }
    }

    fn mem(&self) -> Arc<Mem> {
        self.store.mem_arc()
    }

    /// Notes a block of `len` bytes as reached: it must be marked in use, of the right class,
    /// reached only once and, in a deep check, whole.
    fn reach(&mut self, at: Offset, len: usize) -> Result<()> {
        let (number, within) = slab_of(at).ok_or_else(|| record::misplaced(at))?;
        let bytes = Alloc::block_bytes(len);
        let slab = self.slab(number)?;
        if slab.marked.is_empty() || CLASS_BYTES[slab.class as usize] as usize != bytes {
            return Err(StoreError::corrupt("a block in a slab of another class", at));
        }
        let index = within as usize / bytes;
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        if !(within as usize).is_multiple_of(bytes) || slab.marked[word] & bit == 0 {
            return Err(StoreError::corrupt("a live block that is marked free", at));
        }
        if slab.reached[word] & bit != 0 {
            return Err(StoreError::corrupt("a block that two places point to", at));
        }
        slab.reached[word] |= bit;
        self.report.blocks += 1;
        self.report.live_bytes += bytes as u64;
        let kind = crate::heap::head(&self.mem(), at)?.kind;
        self.report.shape.block(kind, len, bytes, self.dropping);
        if self.report.deep && !self.mem().block_is_sound(at, bytes)? {
            return Err(StoreError::corrupt("a block whose checksum does not fit", at));
        }
        Ok(())
    }

    fn slab(&mut self, number: u64) -> Result<&mut Slab> {
        if !self.reached.contains_key(&number) {
            let found = record::read(&self.mem(), number, &self.committed)?;
            let slab = match found {
                Some(record) => Slab {
                    class: record.class,
                    reached: record::no_bits(record.class),
                    kept: record::no_bits(record.class),
                    seen: record::no_bits(record.class),
                    marked: record.bits,
                },
                None => Slab {
                    class: 0,
                    marked: Bits::default(),
                    reached: Bits::default(),
                    kept: Bits::default(),
                    seen: Bits::default(),
                },
            };
            self.reached.insert(number, slab);
        }
        Ok(self.reached.get_mut(&number).expect("inserted above"))
    }

    fn root(&mut self) {
        let at = self.store.root;
        if at == 0 {
            return;
        }
        self.try_part(|walk| walk.reach(at, root::LEN));
        for db in 0..=Db::COUNT {
            self.try_part(|walk| walk.database(at, db));
        }
        self.try_part(Walk::dropped);
    }

    fn word(&self, block: Offset, index: usize) -> Result<u64> {
        self.store.mem_arc().word(Cell::new(block, index).at)
    }

    fn database(&mut self, at: Offset, db: u16) -> Result<()> {
        let row = root::row(db as usize);
        let high = self.word(at, row + root::SLOTS)?;
        let mut counted = Counted::default();
        if high != 0 {
            self.slots(high, &mut counted)?;
        }
        for (name, word, counted) in [
            ("keys", root::KEYS, counted.keys),
            ("keys with a deadline", root::EXPIRES, counted.deadlines),
            ("bytes", root::BYTES, counted.bytes),
        ] {
            let kept = self.word(at, row + word)?;
            if kept != counted {
                self.report.problem(format!("database {db} says {kept} {name} and has {counted}"));
            }
        }
        let deadlines = self.deadlines(self.word(at, row + root::EXPIRY)?)?;
        if deadlines != counted.deadlines {
            self.report.problem(format!(
                "the expiry tree of database {db} has {deadlines} deadlines, its keys {}",
                counted.deadlines
            ));
        }
        if counted.keys > 0 {
            let Counted { slots, keys, deadlines, bytes } = counted;
            self.report.shape.databases.push(DatabaseShape { db, slots, keys, deadlines, bytes });
        }
        Ok(())
    }

    fn deadlines(&mut self, tree: Offset) -> Result<u64> {
        let mem = self.mem();
        Deadlines::check(&mem, tree, &mut |node| self.reach(node, btree::NODE_LEN))?;
        let mut total = 0;
        Deadlines::visit(&mem, tree, &[0; 3], &mut |_, [count]| {
            total += count;
            Ok(true)
        })?;
        Ok(total)
    }

    fn slots(&mut self, high: Offset, counted: &mut Counted) -> Result<()> {
        let mem = self.mem();
        expect(&mem, high, kind::SLOTS_HIGH, "a block of slots")?;
        self.reach(high, slots::HIGH_LEN)?;
        for index in 0..slots::FANOUT {
            let low = self.word(high, HEADER / 8 + index)?;
            if low != 0 {
                self.try_part(|walk| walk.low_slots(low, counted));
            }
        }
        Ok(())
    }

    fn low_slots(&mut self, low: Offset, counted: &mut Counted) -> Result<()> {
        let mem = self.mem();
        expect(&mem, low, kind::SLOTS_LOW, "a block of slots")?;
        self.reach(low, slots::LOW_LEN)?;
        for index in 0..slots::FANOUT {
            let entry = HEADER / 8 + index * slots::ENTRY_WORDS;
            let mut here = Counted::default();
            let trie = self.word(low, entry)?;
            let top = Spot { depth: 0, is_nested: false };
            self.try_part(|walk| walk.trie(trie, top, &mut here));
            let counts = self.word(low, entry + 1)?;
            if counts != here.keys | here.deadlines << 32
                || self.word(low, entry + 2)? != here.bytes
            {
                self.report.problem(format!("a slot whose counts are wrong at byte {low}"));
            }
            counted.slots += u64::from(here.keys > 0);
            counted.keys += here.keys;
            counted.deadlines += here.deadlines;
            counted.bytes += here.bytes;
        }
        (self.progress)(self.report.keys, self.total);
        Ok(())
    }

    fn trie(&mut self, pointer: u64, spot: Spot, counted: &mut Counted) -> Result<()> {
        let mem = self.mem();
        let Some(node) = trie::node(&mem, pointer)? else { return Ok(()) };
        self.reach(node.at, node.len)?;
        if spot.depth > trie::HASH_BITS as usize {
            return Err(StoreError::corrupt("a trie deeper than any can be", node.at));
        }
        if !spot.is_nested && !node.entries.is_empty() {
            self.report.shape.leaf(node.entries.len(), spot.depth);
        }
        // Nearly every block is a miss of the caches; siblings may be on their way together.
        let below = node.nodes.iter().map(|pointer| pointer & OFFSET_MASK);
        below.chain(node.entries.iter().copied()).for_each(|at| {
            mem.prefetch(at);
            mem.prefetch(at + 64);
        });
        for pointer in node.nodes {
            self.try_part(|walk| walk.trie(pointer, spot.below(), counted));
        }
        for entry in node.entries {
            self.try_part(|walk| walk.blob(entry, spot.is_nested, counted));
        }
        Ok(())
    }

    fn blob(&mut self, at: Offset, is_member: bool, counted: &mut Counted) -> Result<()> {
        let mem = self.mem();
        let record = Record::read(&mem, at)?;
        self.reach(at, record.len())?;
        self.report.keys += 1;
        counted.keys += 1;
        counted.bytes += record.bytes();
        counted.deadlines += u64::from(record.deadline_ms().is_some());
        if !is_member {
            let elements = match record.value() {
                Value::Inline(_) => None,
                Value::Chunked(_) => Some(1),
                Value::Tree(roots) => Some(roots.len),
            };
            let (ty, encoding) = (record.ty(), record.encoding());
            self.report.shape.key(ty, encoding, record.bytes(), elements);
        }
        match record.value() {
            Value::Inline(_) => Ok(()),
            Value::Chunked(chunks) => self.chunks(chunks.tree),
            Value::Tree(roots) => self.collection(&record, roots),
        }
    }

    /// The elements of a collection: as many as it says, and counting as much.
    fn collection(&mut self, record: &Record<'_>, roots: Roots) -> Result<()> {
        if record.ty() == Type::List {
            let sum = self.list(roots.tree)?;
            if (sum.count, LIST_BYTES + list::content_bytes(sum)) != (roots.len, roots.bytes) {
                return Err(StoreError::corrupt(
                    "a list that counts its elements wrong",
                    record.at,
                ));
            }
            return Ok(());
        }
        let keys = self.report.keys;
        let mut members = Counted::default();
        let top = Spot { depth: 0, is_nested: true };
        self.trie(roots.tree, top, &mut members)?;
        self.report.keys = keys;
        let mut entry_bytes = ENTRY_BYTES;
        if record.ty() == Type::ZSet {
            entry_bytes += RANK_BYTES;
            let mem = self.mem();
            let ranks =
                order::check(&mem, roots.order, &mut |node| self.reach(node, btree::NODE_LEN))?;
            if ranks != members.keys {
                return Err(StoreError::corrupt("a sorted set that ranks too few", record.at));
            }
        }
        let bytes = members.bytes + members.keys * entry_bytes;
        if (members.keys, bytes) != (roots.len, roots.bytes) {
            return Err(StoreError::corrupt(
                "a collection that counts its members wrong",
                record.at,
            ));
        }
        Ok(())
    }

    /// The chunks of a list; returns what their elements come to.
    fn list(&mut self, tree: Offset) -> Result<list::Sum> {
        let mem = self.mem();
        Sequence::check(&mem, tree, &mut |node| self.reach(node, btree::NODE_LEN))?;
        let mut sum = list::Sum::default();
        Sequence::walk(&mem, tree, 0, false, &mut |_, &[pointer], _| {
            sum.add(self.list_chunk(pointer)?);
            Ok(true)
        })?;
        Ok(sum)
    }

    /// A chunk of a list and the blobs of its elements, which come to what it says.
    fn list_chunk(&mut self, pointer: u64) -> Result<list::Sum> {
        let mem = self.mem();
        let chunk = list::Chunk::read(&mem, pointer)?;
        self.reach(pointer & OFFSET_MASK, layout::list::LEN)?;
        list::each_blob(&mem, pointer, &mut |blob| self.long_value(blob))?;
        if chunk.sum_of(&mem, 0..chunk.sum.bytes as usize)? != chunk.sum {
            let at = pointer & OFFSET_MASK;
            return Err(StoreError::corrupt("a chunk of a list that counts wrong", at));
        }
        Ok(chunk.sum)
    }

    /// The blob of a long element.
    fn long_value(&mut self, at: Offset) -> Result<()> {
        let mem = self.mem();
        let record = Record::read(&mem, at)?;
        self.reach(at, record.len())?;
        match record.value() {
            Value::Chunked(chunks) => self.chunks(chunks.tree),
            _ => Ok(()),
        }
    }

    fn chunks(&mut self, tree: Offset) -> Result<()> {
        let mem = self.mem();
        Chunks::check(&mem, tree, &mut |node| self.reach(node, btree::NODE_LEN))?;
        Chunks::visit(&mem, tree, &[0], &mut |_, &[chunk]| {
            self.reach(chunk, HEADER + chunk_len(&mem, chunk)?)?;
            Ok(true)
        })
    }

    /// Trees that were dropped: all of each is there still.
    fn dropped(&mut self) -> Result<()> {
        let pages = self.store.dropped_pages()?;
        self.dropping = true;
        let walked = self.pieces(pages, dropped::PAGES, Seen::Live);
        self.dropping = false;
        walked
    }

    /// The catalogue's own blocks, what snapshots keep, and what they see.
    fn snapshots(&mut self) -> Result<()> {
        self.report.snapshots = self.store.snapshots()?;
        let parts = self.store.catalogue_parts()?;
        for (at, len) in parts.blocks {
            self.try_part(|walk| walk.reach(at, len));
        }
        for (pages, since) in parts.trees {
            self.try_part(|walk| walk.abandoned(pages, since));
        }
        for at in parts.kept {
            self.try_part(|walk| walk.keep(at));
        }
        for root in parts.roots {
            self.try_part(|walk| walk.pieces(root, dropped::ROOT, Seen::BySnapshot));
        }
        if !parts.garbage {
            self.try_part(Walk::all_kept_are_seen);
        }
        Ok(())
    }

    /// The trees of a root that a rollback left: what was born after the snapshot is there still.
    fn abandoned(&mut self, pages: u64, since: u64) -> Result<()> {
        let (pages, trees) = self.store.dropped_trees(pages)?;
        for page in pages {
            self.reach(page, dropped::LEN)?;
        }
        for (pointer, what) in trees {
            self.try_part(|walk| walk.pieces(pointer, what, Seen::Since(since)));
        }
        Ok(())
    }

    /// A tree block by block, as it is taken apart.
    fn pieces(&mut self, pointer: u64, what: u64, seen: Seen) -> Result<()> {
        let Some(piece) = self.store.piece(pointer, what)? else { return Ok(()) };
        if !self.enter(&piece, seen)? {
            return Ok(());
        }
        for (pointer, what) in piece.below {
            self.try_part(|walk| walk.pieces(pointer, what, seen));
        }
        Ok(())
    }

    /// Notes a block of such a tree; says whether to look below it.
    fn enter(&mut self, piece: &Piece, seen: Seen) -> Result<bool> {
        match seen {
            Seen::Live => self.reach(piece.at, piece.len).map(|()| true),
            Seen::Since(since) => {
                if crate::heap::head(&self.mem(), piece.at)?.birth <= since {
                    return Ok(false);
                }
                self.reach(piece.at, piece.len).map(|()| true)
            }
            Seen::BySnapshot => self.see(piece.at, piece.len),
        }
    }

    /// Notes a block that snapshots keep alive: nothing else may.
    fn keep(&mut self, at: Offset) -> Result<()> {
        let (slab, word, bit) = self.place(at)?;
        if slab.marked[word] & bit == 0 || slab.reached[word] & bit != 0 {
            return Err(StoreError::corrupt("a kept block that is free, or live", at));
        }
        if slab.kept[word] & bit != 0 {
            return Err(StoreError::corrupt("a block that two lists keep", at));
        }
        slab.kept[word] |= bit;
        Ok(())
    }

    /// Notes a block that a snapshot sees: live, and so all below it; or kept. Says whether what is
    /// below it was not looked at yet.
    fn see(&mut self, at: Offset, len: usize) -> Result<bool> {
        let (slab, word, bit) = self.place(at)?;
        if slab.reached[word] & bit != 0 || slab.seen[word] & bit != 0 {
            return Ok(false);
        }
        if slab.kept[word] & bit == 0 {
            return Err(StoreError::corrupt("a block that a snapshot sees and nothing keeps", at));
        }
        slab.seen[word] |= bit;
        self.report.blocks += 1;
        if self.report.deep && !self.mem().block_is_sound(at, Alloc::block_bytes(len))? {
            return Err(StoreError::corrupt("a block whose checksum does not fit", at));
        }
        Ok(true)
    }

    /// Where a block's bit is.
    fn place(&mut self, at: Offset) -> Result<(&mut Slab, usize, u64)> {
        let (number, within) = slab_of(at).ok_or_else(|| record::misplaced(at))?;
        let slab = self.slab(number)?;
        let bytes = CLASS_BYTES[slab.class as usize] as usize;
        if slab.marked.is_empty() || !(within as usize).is_multiple_of(bytes) {
            return Err(record::misplaced(at));
        }
        let index = within as usize / bytes;
        Ok((slab, index / 64, 1 << (index % 64)))
    }

    fn all_kept_are_seen(&mut self) -> Result<()> {
        let unseen: u32 = self
            .reached
            .values()
            .flat_map(|slab| slab.kept.iter().zip(slab.seen.iter()))
            .map(|(kept, seen)| (kept & !seen).count_ones())
            .sum();
        if unseen > 0 {
            self.report.problem(format!("{unseen} blocks are kept that no snapshot sees"));
        }
        Ok(())
    }

    /// Compares what was reached with what is marked in use.
    fn compare(&mut self, extents: u64) {
        for number in 0..extents * SLABS_PER_EXTENT {
            self.try_part(|walk| {
                let slab = walk.slab(number)?;
                let (class, found) = (slab.class, slab.count());
                if found.live + found.kept + found.leaked == 0 {
                    walk.report.shape.free_slabs += 1;
                    return Ok(());
                }
                walk.report.leaked_blocks += found.leaked;
                let sum = walk.report.shape.class(class);
                sum.slabs += 1;
                sum.capacity += record::capacity(class) as u64;
                sum.live += found.live;
                sum.kept += found.kept;
                sum.leaked += found.leaked;
                Ok(())
            });
        }
    }
}

impl Slab {
    /// Its blocks that are live, kept, or neither and yet marked.
    fn count(&self) -> ClassUse {
        let mut count = ClassUse::default();
        let needed = self.reached.iter().zip(&self.kept);
        for (marked, (reached, kept)) in self.marked.iter().zip(needed) {
            count.live += u64::from((marked & reached).count_ones());
            count.kept += u64::from((marked & kept & !reached).count_ones());
            count.leaked += u64::from((marked & !reached & !kept).count_ones());
        }
        count
    }
}
