//! Going through a trie: in hash order, or node by node.

use super::{HASH_BITS, Pointer, directory_word, index_in, leaf_count, leaf_word};
use crate::error::Result;
use crate::heap::{Offset, expect};
use crate::layout::pool::trie::{LEAF_ENTRIES, LEAF_LEN, directory_len};
use crate::layout::pool::{OFFSET_MASK, kind};
use crate::persist::Mem;

/// Where a walk in hash order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The next leaf holds hashes from this one on.
    At(u64),
    /// Everything was seen.
    End,
}

/// Visits the leaves below `root` in hash order, beginning with the one whose range contains
/// `from`. `visit` gets the hash that follows the leaf's range (0 after the last) and its entries
/// (in no order), and says whether to go on. Returns where the next walk should begin.
///
/// # Errors
/// [`crate::StoreError::Corrupt`] when a node is not what it should be; what `visit` returns.
pub fn visit_from(
    mem: &Mem,
    root: u64,
    from: u64,
    visit: &mut dyn FnMut(u64, &[Offset]) -> Result<bool>,
) -> Result<Position> {
    let mut hash = from;
    loop {
        let (leaf, next) = leaf_at(mem, root, hash, |_| {})?;
        if let Some(leaf) = leaf {
            let (entries, count) = entries(mem, leaf)?;
            let end = if let Position::At(next) = next { next } else { 0 };
            if !visit(end, &entries[..count])? {
                return Ok(next);
            }
        }
        match next {
            Position::At(next) => hash = next,
            Position::End => return Ok(Position::End),
        }
    }
}

/// The leaf whose range contains `hash`, and where the next one begins; `block` is shown the nodes
/// on the way, the leaf included.
///
/// # Errors
/// [`crate::StoreError::Corrupt`] when a node is not what it should be.
#[inline]
pub(crate) fn leaf_at(
    mem: &Mem,
    root: u64,
    hash: u64,
    block: impl FnMut(Offset),
) -> Result<(Option<Offset>, Position)> {
    let (leaf, depth) = locate(mem, root, hash, block)?;
    let rest = if depth == 0 { u64::MAX } else { u64::MAX >> 1 >> (depth - 1) };
    let next = (hash | rest).checked_add(1).map_or(Position::End, Position::At);
    Ok((leaf, next))
}

/// The entries of a leaf, in no order.
///
/// # Errors
/// As [`leaf_at`].
pub(crate) fn entries(mem: &Mem, leaf: Offset) -> Result<([Offset; LEAF_ENTRIES], usize)> {
    let mut entries = [0; LEAF_ENTRIES];
    let count = leaf_count(mem, leaf)?;
    for (index, entry) in entries[..count].iter_mut().enumerate() {
        *entry = mem.word(leaf_word(leaf, index).at)? & OFFSET_MASK;
    }
    Ok((entries, count))
}

/// The leaf whose range contains `hash`, and the number of bits its hashes share.
fn locate(
    mem: &Mem,
    root: u64,
    hash: u64,
    mut block: impl FnMut(Offset),
) -> Result<(Option<Offset>, u32)> {
    let (mut word, mut depth, mut k) = (root, 0, 0);
    loop {
        match Pointer::of(word)? {
            Pointer::Nothing => return Ok((None, depth)),
            Pointer::Leaf(leaf, local) => {
                block(leaf);
                return Ok((Some(leaf), depth - k + local));
            }
            Pointer::Directory(directory, bits) => {
                if depth + bits > HASH_BITS {
                    return Err(crate::StoreError::corrupt(
                        "a trie deeper than its hash",
                        directory,
                    ));
                }
                block(directory);
                mem.verify(directory, directory_len(bits))?;
                word = mem.word(directory_word(directory, index_in(hash, depth, bits)).at)?;
                depth += bits;
                k = bits;
            }
        }
    }
}

/// A node of a trie and what it points to.
pub struct Node {
    /// Its block.
    pub at: Offset,
    /// Its length in bytes.
    pub len: usize,
    /// Pointers to the nodes below it.
    pub nodes: Vec<u64>,
    /// Its entries.
    pub entries: Vec<Offset>,
}

/// Reads the node that `pointer` leads to; `None` where there is none.
///
/// # Errors
/// [`crate::StoreError::Corrupt`] when the node is not what it should be.
pub fn node(mem: &Mem, pointer: u64) -> Result<Option<Node>> {
    match Pointer::of(pointer)? {
        Pointer::Nothing => Ok(None),
        Pointer::Directory(at, k) => {
            mem.verify(at, directory_len(k))?;
            expect(mem, at, kind::DIRECTORY, "a trie directory")?;
            let mut nodes: Vec<u64> = Vec::new();
            for index in 0..1usize << k {
                let word = mem.word(directory_word(at, index).at)?;
                // Entries that share a leaf are neighbours.
                if word != 0 && nodes.last() != Some(&word) {
                    nodes.push(word);
                }
            }
            Ok(Some(Node { at, len: directory_len(k), nodes, entries: Vec::new() }))
        }
        Pointer::Leaf(at, _) => {
            let mut entries = Vec::with_capacity(LEAF_ENTRIES);
            for index in 0..leaf_count(mem, at)? {
                entries.push(mem.word(leaf_word(at, index).at)? & OFFSET_MASK);
            }
            Ok(Some(Node { at, len: LEAF_LEN, nodes: Vec::new(), entries }))
        }
    }
}
