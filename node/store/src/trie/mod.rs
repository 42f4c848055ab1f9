//! The trie on a 64-bit hash that holds every keyed set: a slot's keys, and large hashes and sets.
//!
//! Directories of 2^k pointers lead to leaves of 14 entries. A directory doubles until it has 64
//! entries, as in extendible hashing (Fagin et al., 1979): a leaf whose keys share fewer bits than
//! the directory tells apart is pointed to by several neighbouring entries. Beyond that, a full
//! leaf becomes a directory of its own. A leaf entry carries 16 bits of its key's hash, taken from
//! a window that moves with depth, so that splitting seldom needs the key itself.

#[cfg(test)]
mod tests;
mod walk;

pub use walk::{Node, Position, node, visit_from};
pub(crate) use walk::{entries, leaf_at};

use crate::error::{Result, StoreError};
use crate::heap::{Cell, Heap, Offset, expect};
pub use crate::layout::pool::trie::LEAF_ENTRIES;
use crate::layout::pool::trie::{K_MAX, LEAF_LEN, TO_DIRECTORY, TO_LEAF, directory_len};
use crate::layout::pool::{HEADER, OFFSET_BITS, OFFSET_MASK, kind};
use crate::persist::Mem;

/// What the trie needs to know of its entries.
pub trait Entries {
    /// Whether the entry at `entry` has the key that is looked for.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the entry cannot be read.
    fn is_key(&self, mem: &Mem, entry: Offset) -> Result<bool>;
    /// The hash of the entry's key.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the entry cannot be read.
    fn hash_of(&self, mem: &Mem, entry: Offset) -> Result<u64>;
}

/// Bits of a hash.
pub(crate) const HASH_BITS: u32 = 64;
/// Fewer entries than this in two sibling leaves, and they become one.
const MERGE_BELOW: usize = LEAF_ENTRIES / 2 + 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointer {
    Nothing,
    /// A leaf and the bits of its directory's index that its keys share.
    Leaf(Offset, u32),
    /// A directory of 2^k entries.
    Directory(Offset, u32),
}

impl Pointer {
    #[inline]
    pub(crate) fn of(word: u64) -> Result<Pointer> {
        let (offset, tag) = (word & OFFSET_MASK, word >> OFFSET_BITS);
        let bits = (tag >> 2) as u32;
        match tag & 3 {
            _ if word == 0 => Ok(Pointer::Nothing),
            TO_LEAF if bits <= K_MAX => Ok(Pointer::Leaf(offset, bits)),
            TO_DIRECTORY if (1..=K_MAX).contains(&bits) => Ok(Pointer::Directory(offset, bits)),
            _ => Err(StoreError::corrupt("a trie pointer that points to nothing known", offset)),
        }
    }
}

fn to_leaf(leaf: Offset, depth: u32) -> u64 {
    leaf | (TO_LEAF | u64::from(depth) << 2) << OFFSET_BITS
}

fn to_directory(directory: Offset, k: u32) -> u64 {
    directory | (TO_DIRECTORY | u64::from(k) << 2) << OFFSET_BITS
}

/// The hash bits that a leaf at `depth` keeps for each entry.
#[inline]
fn tag_at(hash: u64, depth: u32) -> u16 {
    (hash << (8 * window(depth)) >> 48) as u16
}

fn window(depth: u32) -> u32 {
    (depth / 8).min(6)
}

#[inline]
fn index_in(hash: u64, depth: u32, k: u32) -> usize {
    (hash << depth >> (HASH_BITS - k)) as usize
}

#[inline]
fn directory_word(directory: Offset, index: usize) -> Cell {
    Cell::new(directory, HEADER / 8 + index)
}

#[inline]
fn leaf_word(leaf: Offset, index: usize) -> Cell {
    Cell::new(leaf, HEADER / 8 + index)
}

fn leaf_count(mem: &Mem, leaf: Offset) -> Result<usize> {
    mem.verify(leaf, LEAF_LEN)?;
    let count = expect(mem, leaf, kind::LEAF, "a trie leaf")?.count as usize;
    if count > LEAF_ENTRIES {
        return Err(StoreError::corrupt(format!("a trie leaf of {count} entries"), leaf));
    }
    Ok(count)
}

/// The index and offset of the entry with the key, in a leaf at `depth`.
#[inline]
fn find_in_leaf<E: Entries>(
    mem: &Mem,
    leaf: Offset,
    depth: u32,
    hash: u64,
    entries: &E,
) -> Result<Option<(usize, Offset)>> {
    let tag = tag_at(hash, depth);
    for index in 0..leaf_count(mem, leaf)? {
        let word = mem.word(leaf_word(leaf, index).at)?;
        if (word >> OFFSET_BITS) as u16 == tag {
            let entry = word & OFFSET_MASK;
            if entries.is_key(mem, entry)? {
                return Ok(Some((index, entry)));
            }
        }
    }
    Ok(None)
}

/// Looks a key up below the pointer `root`; returns its entry.
///
/// # Errors
/// [`StoreError::Corrupt`] when a node on the way is not what it should be.
#[inline]
pub fn find<E: Entries>(mem: &Mem, root: u64, hash: u64, entries: &E) -> Result<Option<Offset>> {
    let (mut word, mut depth, mut k) = (root, 0, 0);
    loop {
        match Pointer::of(word)? {
            Pointer::Nothing => return Ok(None),
            Pointer::Leaf(leaf, local) => {
                let found = find_in_leaf(mem, leaf, depth - k + local, hash, entries)?;
                return Ok(found.map(|(_, entry)| entry));
            }
            Pointer::Directory(directory, bits) => {
                if depth + bits > HASH_BITS {
                    return Err(StoreError::corrupt("a trie deeper than its hash", directory));
                }
                mem.verify(directory, directory_len(bits))?;
                word = mem.word(directory_word(directory, index_in(hash, depth, bits)).at)?;
                depth += bits;
                k = bits;
            }
        }
    }
}

/// Calls `meet` with each node on the way to where `hash` belongs, and its length.
///
/// # Errors
/// As [`find`].
pub(crate) fn way(
    mem: &Mem,
    root: u64,
    hash: u64,
    mut meet: impl FnMut(Offset, usize),
) -> Result<()> {
    let (mut word, mut depth) = (root, 0);
    loop {
        match Pointer::of(word)? {
            Pointer::Nothing => return Ok(()),
            Pointer::Leaf(leaf, _) => {
                meet(leaf, LEAF_LEN);
                return Ok(());
            }
            Pointer::Directory(directory, bits) => {
                if depth + bits > HASH_BITS {
                    return Err(StoreError::corrupt("a trie deeper than its hash", directory));
                }
                meet(directory, directory_len(bits));
                word = mem.word(directory_word(directory, index_in(hash, depth, bits)).at)?;
                depth += bits;
            }
        }
    }
}

/// Starts fetching the next node on the way to `hash` and returns where to go on: interleaving
/// the steps of many keys hides their cache misses. `None` when the leaf's entry is on its way.
///
/// # Errors
/// [`StoreError::Corrupt`] when a node on the way is not what it should be.
#[inline]
pub fn step(mem: &Mem, hash: u64, at: &mut Step) -> Result<bool> {
    match Pointer::of(at.word)? {
        Pointer::Nothing => Ok(false),
        Pointer::Directory(directory, k) => {
            if at.depth + k > HASH_BITS {
                return Ok(false);
            }
            at.word = mem.word(directory_word(directory, index_in(hash, at.depth, k)).at)?;
            at.depth += k;
            at.k = k;
            at.fetch(mem, hash);
            Ok(true)
        }
        Pointer::Leaf(leaf, local) => {
            let tag = tag_at(hash, at.depth - at.k + local);
            for index in 0..leaf_count(mem, leaf)? {
                let word = mem.word(leaf_word(leaf, index).at)?;
                if (word >> OFFSET_BITS) as u16 == tag {
                    mem.prefetch(word & OFFSET_MASK);
                    mem.prefetch((word & OFFSET_MASK) + 64);
                }
            }
            Ok(false)
        }
    }
}

/// Where a stepwise descent stands.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    word: u64,
    depth: u32,
    k: u32,
}

impl Step {
    /// The start of a descent from `root`, whose first line is being fetched.
    #[inline]
    pub fn new(mem: &Mem, root: u64, hash: u64) -> Step {
        let step = Step { word: root, depth: 0, k: 0 };
        step.fetch(mem, hash);
        step
    }

    #[inline]
    fn fetch(&self, mem: &Mem, hash: u64) {
        match Pointer::of(self.word) {
            Ok(Pointer::Directory(directory, k)) if self.depth + k <= HASH_BITS => {
                mem.prefetch(directory_word(directory, index_in(hash, self.depth, k)).at);
            }
            Ok(Pointer::Leaf(leaf, _)) => {
                mem.prefetch(leaf);
                mem.prefetch(leaf + 64);
            }
            _ => {}
        }
    }
}

/// Where an entry is, or was put.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    word: Cell,
    tag: u16,
    /// The entry that was there.
    pub old: Option<Offset>,
}

impl Place {
    /// Writes the entry. A place from [`upsert`] must be filled before the trie is touched again.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it lies outside the pool.
    pub fn fill(self, heap: &mut Heap, entry: Offset) -> Result<()> {
        heap.set(self.word, entry | u64::from(self.tag) << OFFSET_BITS)
    }
}

/// A cell together with what of the hash led to it.
#[derive(Clone, Copy)]
struct Branch {
    cell: Cell,
    /// Hash bits used above the directory that holds `cell`.
    depth: u32,
    /// That directory, its k and the index of `cell`; none at the root.
    parent: Option<(Offset, u32, usize)>,
    /// The cell that points to that directory; `cell` itself at the root.
    above: Cell,
}

impl Branch {
    /// Bits that all keys of a leaf at `local` depth under this branch share.
    fn leaf_depth(&self, local: u32) -> u32 {
        self.depth + local
    }
}

/// Owns every directory on the way to `hash`; ends at the cell that holds a leaf or nothing.
fn descend(heap: &mut Heap, root: Cell, hash: u64) -> Result<Branch> {
    let mut branch = Branch { cell: root, depth: 0, parent: None, above: root };
    while let Pointer::Directory(_, k) = Pointer::of(heap.get(branch.cell)?)? {
        branch = step_into(heap, branch, k, hash)?;
    }
    Ok(branch)
}

fn step_into(heap: &mut Heap, branch: Branch, k: u32, hash: u64) -> Result<Branch> {
    let depth = branch.depth + branch.parent.map_or(0, |(_, k, _)| k);
    let directory = heap.own_at(branch.cell, directory_len(k))?;
    if depth + k > HASH_BITS {
        return Err(StoreError::corrupt("a trie deeper than its hash", directory));
    }
    let index = index_in(hash, depth, k);
    let cell = directory_word(directory, index);
    Ok(Branch { cell, depth, parent: Some((directory, k, index)), above: branch.cell })
}

/// Finds the place of a key below `root` (a cell of an owned block), making room for it. The
/// caller writes the entry with [`Place::fill`].
///
/// # Errors
/// [`StoreError::Full`]; [`StoreError::TooLong`] when more than 14 keys share all 64 bits of
/// their hash, which takes knowing the hash key.
pub fn upsert<E: Entries>(heap: &mut Heap, root: Cell, hash: u64, entries: &E) -> Result<Place> {
    let mut branch = descend(heap, root, hash)?;
    loop {
        match Pointer::of(heap.get(branch.cell)?)? {
            Pointer::Nothing => return first_in_leaf(heap, branch, hash),
            Pointer::Directory(_, k) => branch = step_into(heap, branch, k, hash)?,
            Pointer::Leaf(leaf, local) => {
                let depth = branch.leaf_depth(local);
                let found = find_in_leaf(&heap.mem, leaf, depth, hash, entries)?;
                let count = leaf_count(&heap.mem, leaf)?;
                if found.is_some() || count < LEAF_ENTRIES {
                    let leaf = own_leaf(heap, branch, leaf, local)?;
                    let index = found.map_or(count, |(index, _)| index);
                    if found.is_none() {
                        heap.set_count(leaf, count as u32 + 1)?;
                    }
                    let old = found.map(|(_, entry)| entry);
                    return Ok(Place {
                        word: leaf_word(leaf, index),
                        tag: tag_at(hash, depth),
                        old,
                    });
                }
                branch = split(heap, branch, leaf, local, hash, entries)?;
            }
        }
    }
}

fn first_in_leaf(heap: &mut Heap, branch: Branch, hash: u64) -> Result<Place> {
    let local = branch.parent.map_or(0, |(_, k, _)| k);
    let leaf = heap.make(kind::LEAF, 0, 1, LEAF_LEN)?;
    heap.set(branch.cell, to_leaf(leaf, local))?;
    let tag = tag_at(hash, branch.leaf_depth(local));
    Ok(Place { word: leaf_word(leaf, 0), tag, old: None })
}

/// Owns the path to the leaf whose range contains `hash`, if there is one, and shows `visit` the
/// words of its entries.
///
/// # Errors
/// [`StoreError::Full`]; what `visit` returns.
pub(crate) fn own_path(
    heap: &mut Heap,
    root: Cell,
    hash: u64,
    visit: &mut dyn FnMut(&mut Heap, Cell) -> Result<()>,
) -> Result<()> {
    let branch = descend(heap, root, hash)?;
    if let Pointer::Leaf(leaf, local) = Pointer::of(heap.get(branch.cell)?)? {
        let leaf = own_leaf(heap, branch, leaf, local)?;
        for index in 0..leaf_count(&heap.mem, leaf)? {
            visit(heap, leaf_word(leaf, index))?;
        }
    }
    Ok(())
}

/// The entries of the directory that share a leaf of `local` depth with `index`.
fn sharers(k: u32, index: usize, local: u32) -> std::ops::Range<usize> {
    let span = 1 << (k - local);
    let first = index & !(span - 1);
    first..first + span
}

/// Points all the directory entries that `branch`'s leaf may have at `word`.
fn point(heap: &mut Heap, branch: Branch, local: u32, word: u64) -> Result<()> {
    let Some((directory, k, index)) = branch.parent else {
        return heap.set(branch.cell, word);
    };
    if local > k {
        return Err(StoreError::corrupt("a trie leaf deeper than its directory", directory));
    }
    for entry in sharers(k, index, local) {
        heap.set(directory_word(directory, entry), word)?;
    }
    Ok(())
}

fn own_leaf(heap: &mut Heap, branch: Branch, leaf: Offset, local: u32) -> Result<Offset> {
    let owned = heap.own(leaf, LEAF_LEN)?;
    if owned != leaf {
        point(heap, branch, local, to_leaf(owned, local))?;
    }
    Ok(owned)
}

/// Splits a full leaf by one more bit, first making room in its directory; returns the branch
/// that `hash` takes afterwards.
fn split<E: Entries>(
    heap: &mut Heap,
    branch: Branch,
    leaf: Offset,
    local: u32,
    hash: u64,
    entries: &E,
) -> Result<Branch> {
    if branch.leaf_depth(local) >= HASH_BITS {
        return Err(StoreError::TooLong {
            what: "a set of keys with one hash",
            len_bytes: LEAF_ENTRIES as u64 + 1,
            max_bytes: LEAF_ENTRIES as u64,
        });
    }
    let branch = match branch.parent {
        Some((_, k, _)) if local < k => branch,
        Some((directory, k, _)) if k < K_MAX => {
            return double(heap, branch, directory, k, hash);
        }
        // At the root, or under a full directory: the leaf becomes a directory of two.
        _ => return sprout(heap, branch, leaf, hash),
    };
    let sides = divide(heap, leaf, branch.leaf_depth(local), entries)?;
    let Some((directory, k, index)) = branch.parent else { return Ok(branch) };
    let range = sharers(k, index, local);
    let middle = range.start + range.len() / 2;
    for entry in range {
        let side = sides[usize::from(entry >= middle)];
        let word = if side == 0 { 0 } else { to_leaf(side, local + 1) };
        heap.set(directory_word(directory, entry), word)?;
    }
    Ok(branch)
}

/// Replaces a leaf by a directory of two entries that both point to it.
fn sprout(heap: &mut Heap, branch: Branch, leaf: Offset, hash: u64) -> Result<Branch> {
    let directory = heap.make(kind::DIRECTORY, 0, 0, directory_len(1))?;
    for index in 0..2 {
        heap.set(directory_word(directory, index), to_leaf(leaf, 0))?;
    }
    heap.set(branch.cell, to_directory(directory, 1))?;
    step_into(heap, branch, 1, hash)
}

/// Doubles a directory and returns the branch of `hash` in it.
fn double(heap: &mut Heap, branch: Branch, old: Offset, k: u32, hash: u64) -> Result<Branch> {
    let new = heap.make(kind::DIRECTORY, 0, 0, directory_len(k + 1))?;
    for index in 0..1usize << k {
        let word = heap.get(directory_word(old, index))?;
        heap.set(directory_word(new, 2 * index), word)?;
        heap.set(directory_word(new, 2 * index + 1), word)?;
    }
    heap.set(branch.above, to_directory(new, k + 1))?;
    heap.free(old, directory_len(k))?;
    let index = index_in(hash, branch.depth, k + 1);
    Ok(Branch { cell: directory_word(new, index), parent: Some((new, k + 1, index)), ..branch })
}

/// Divides a leaf's entries by the hash bit at `depth`; a side without entries is 0.
fn divide<E: Entries>(
    heap: &mut Heap,
    leaf: Offset,
    depth: u32,
    entries: &E,
) -> Result<[Offset; 2]> {
    let mut sides: [([u64; LEAF_ENTRIES], usize); 2] = [([0; LEAF_ENTRIES], 0); 2];
    for index in 0..leaf_count(&heap.mem, leaf)? {
        let word = heap.get(leaf_word(leaf, index))?;
        let bit = word >> OFFSET_BITS >> (15 - (depth - 8 * window(depth))) & 1;
        let (words, count) = &mut sides[bit as usize];
        words[*count] = retag(&heap.mem, word, depth, depth + 1, entries)?;
        *count += 1;
    }
    let [(left, left_count), (right, right_count)] = sides;
    let leaves = match (left_count, right_count) {
        (0, _) => [0, heap.own(leaf, LEAF_LEN)?],
        (_, 0) => [heap.own(leaf, LEAF_LEN)?, 0],
        _ => {
            let right = heap.make(kind::LEAF, 0, 0, LEAF_LEN)?;
            [heap.own(leaf, LEAF_LEN)?, right]
        }
    };
    if leaves[0] != 0 {
        fill_leaf(heap, leaves[0], &left[..left_count])?;
    }
    if leaves[1] != 0 {
        fill_leaf(heap, leaves[1], &right[..right_count])?;
    }
    Ok(leaves)
}

/// The word of a leaf entry that moves from one depth to another.
fn retag<E: Entries>(mem: &Mem, word: u64, from: u32, to: u32, entries: &E) -> Result<u64> {
    if window(from) == window(to) {
        return Ok(word);
    }
    let entry = word & OFFSET_MASK;
    let hash = entries.hash_of(mem, entry)?;
    Ok(entry | u64::from(tag_at(hash, to)) << OFFSET_BITS)
}

fn fill_leaf(heap: &mut Heap, leaf: Offset, words: &[u64]) -> Result<()> {
    for (index, &word) in words.iter().enumerate() {
        heap.set(leaf_word(leaf, index), word)?;
    }
    heap.set_count(leaf, words.len() as u32)
}

/// Removes a key below `root` (a cell of an owned block); returns its entry, which the caller
/// frees.
///
/// # Errors
/// [`StoreError::Full`] when not even the reserve can hold the copies of the path.
pub fn remove<E: Entries>(
    heap: &mut Heap,
    root: Cell,
    hash: u64,
    entries: &E,
) -> Result<Option<Offset>> {
    if find(&heap.mem, heap.get(root)?, hash, entries)?.is_none() {
        return Ok(None);
    }
    let branch = descend(heap, root, hash)?;
    let Pointer::Leaf(leaf, local) = Pointer::of(heap.get(branch.cell)?)? else {
        return Err(StoreError::corrupt("a trie that changed while it was read", branch.cell.at));
    };
    let depth = branch.leaf_depth(local);
    let Some((index, entry)) = find_in_leaf(&heap.mem, leaf, depth, hash, entries)? else {
        return Err(StoreError::corrupt("a trie that changed while it was read", leaf));
    };
    let count = leaf_count(&heap.mem, leaf)?;
    if count == 1 {
        heap.free(leaf, LEAF_LEN)?;
        point(heap, branch, local, 0)?;
    } else {
        let leaf = own_leaf(heap, branch, leaf, local)?;
        let last = heap.get(leaf_word(leaf, count - 1))?;
        heap.set(leaf_word(leaf, index), last)?;
        heap.set_count(leaf, count as u32 - 1)?;
    }
    if count <= MERGE_BELOW {
        // A neighbour that is damaged stays where it is.
        while tidy(heap, root, hash, entries).or_else(unless_corrupt)? {}
    }
    Ok(Some(entry))
}

fn unless_corrupt(error: StoreError) -> Result<bool> {
    match error {
        StoreError::Corrupt(_) => Ok(false),
        error => Err(error),
    }
}

/// Joins the leaf of `hash` with its sibling, or makes its directory smaller; `true` when it did.
/// Damage that is met on the way has changed nothing.
fn tidy<E: Entries>(heap: &mut Heap, root: Cell, hash: u64, entries: &E) -> Result<bool> {
    let branch = descend(heap, root, hash)?;
    let Some((directory, k, index)) = branch.parent else { return Ok(false) };
    let (leaf, local) = match Pointer::of(heap.get(branch.cell)?)? {
        Pointer::Leaf(leaf, local) => (leaf, local),
        _ => (0, widest_nothing(heap, directory, k, index)?),
    };
    if local > 0 && join(heap, branch, leaf, local, entries)? {
        return Ok(true);
    }
    halve(heap, branch, directory, k)
}

/// The local depth that an empty entry may be taken to have: its widest aligned empty range.
fn widest_nothing(heap: &Heap, directory: Offset, k: u32, index: usize) -> Result<u32> {
    let mut local = k;
    while local > 0 {
        for entry in sharers(k, index, local - 1) {
            if heap.get(directory_word(directory, entry))? != 0 {
                return Ok(local);
            }
        }
        local -= 1;
    }
    Ok(0)
}

/// Joins a leaf (0: nothing) of `local` depth with its sibling when both are small.
fn join<E: Entries>(
    heap: &mut Heap,
    branch: Branch,
    leaf: Offset,
    local: u32,
    entries: &E,
) -> Result<bool> {
    let Some((directory, k, index)) = branch.parent else { return Ok(false) };
    let sibling_index = sharers(k, index, local).start ^ (1 << (k - local));
    let sibling = match Pointer::of(heap.get(directory_word(directory, sibling_index))?)? {
        Pointer::Leaf(sibling, depth) if depth == local => sibling,
        Pointer::Nothing if widest_nothing(heap, directory, k, sibling_index)? <= local => 0,
        _ => return Ok(false),
    };
    if leaf == 0 && sibling == 0 {
        return Ok(false);
    }
    let depth = branch.leaf_depth(local);
    let mut words = [0; LEAF_ENTRIES * 2];
    let mut count = 0;
    for side in [leaf, sibling].into_iter().filter(|&side| side != 0) {
        for index in 0..leaf_count(&heap.mem, side)? {
            words[count] = heap.get(leaf_word(side, index))?;
            count += 1;
        }
    }
    if count >= MERGE_BELOW {
        return Ok(false);
    }
    let (keep, drop) = if leaf == 0 { (sibling, 0) } else { (leaf, sibling) };
    for word in &mut words[..count] {
        *word = retag(&heap.mem, *word, depth, depth - 1, entries)?;
    }
    let joined = heap.own(keep, LEAF_LEN)?;
    fill_leaf(heap, joined, &words[..count])?;
    if drop != 0 {
        heap.free(drop, LEAF_LEN)?;
    }
    point(heap, branch, local - 1, to_leaf(joined, local - 1))?;
    Ok(true)
}

/// Halves a directory whose neighbours all agree; a directory of one entry gives way to it.
fn halve(heap: &mut Heap, branch: Branch, directory: Offset, k: u32) -> Result<bool> {
    for index in (0..1usize << k).step_by(2) {
        let left = heap.get(directory_word(directory, index))?;
        let right = heap.get(directory_word(directory, index + 1))?;
        if left != right || matches!(Pointer::of(left)?, Pointer::Directory(..)) {
            return Ok(false);
        }
    }
    if k == 1 {
        let only = heap.get(directory_word(directory, 0))?;
        heap.free(directory, directory_len(1))?;
        return replace_with_leaf(heap, branch.above, branch.depth, only);
    }
    let new = heap.make(kind::DIRECTORY, 0, 0, directory_len(k - 1))?;
    for index in 0..1usize << (k - 1) {
        let word = heap.get(directory_word(directory, 2 * index))?;
        heap.set(directory_word(new, index), word)?;
    }
    heap.set(branch.above, to_directory(new, k - 1))?;
    heap.free(directory, directory_len(k))?;
    Ok(true)
}

/// Puts a leaf, or nothing, where a directory was: under a full directory it shares all 6 bits.
fn replace_with_leaf(heap: &mut Heap, cell: Cell, depth: u32, word: u64) -> Result<bool> {
    let local = if depth == 0 { 0 } else { K_MAX };
    let word = match Pointer::of(word)? {
        Pointer::Leaf(leaf, _) => to_leaf(leaf, local),
        _ => 0,
    };
    heap.set(cell, word)?;
    Ok(true)
}
