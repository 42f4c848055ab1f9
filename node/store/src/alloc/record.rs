//! Slab records on media: reading the copy that counts, writing the one that does not.

use crate::error::{Result, StoreError};
use crate::layout::pool::{CLASS_BYTES, RECORD, SLAB, record, record_at};
use crate::persist::Mem;
use std::sync::Arc;

/// Which epochs of slab records were really committed.
///
/// Epochs above the root's belong to a commit that a crash interrupted. After the pool has moved
/// on they would look older than the root, so every such range stays on this list until the
/// records in it have been wiped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// The root's epoch.
    pub epoch: u64,
    /// Ranges (after, up to and including] in which nothing was committed.
    pub voids: Vec<(u64, u64)>,
    /// The other superblock was damaged: what looks like a damaged record may be what its commit, and
    /// one that a crash then interrupted, have left.
    pub is_fallback: bool,
}

impl Committed {
    /// Whether a record of `epoch` counts.
    pub fn holds(&self, epoch: u64) -> bool {
        epoch != 0 && epoch <= self.epoch && !is_void(&self.voids, epoch)
    }

    /// The epoch that counts of those which a record bears, 0 if none does.
    fn newest_of(&self, stamp: [u64; 2]) -> u64 {
        stamp.into_iter().filter(|&epoch| self.holds(epoch)).max().unwrap_or(0)
    }

    /// Whether a crash may have left a record with this stamp beside one whose epoch is `other`.
    ///
    /// A tear between words leaves two epochs, of which one was never committed; and no commit
    /// writes over the newer record, so what a tear has left of the epoch before is older.
    fn can_be(&self, stamp: [u64; 2], other: u64) -> bool {
        let [first, again] = stamp;
        let unfinished = |epoch| epoch == 0 || is_void(&self.voids, epoch);
        first == again
            || stamp.into_iter().any(unfinished)
                && (self.newest_of(stamp) < other || stamp.into_iter().all(unfinished))
    }
}

/// Whether nothing was committed in `epoch`.
fn is_void(voids: &[(u64, u64)], epoch: u64) -> bool {
    voids.iter().any(|&(after, upto)| epoch > after && epoch <= upto)
}

/// Bits of a slab's blocks.
pub type Bits = Box<[u64]>;

/// Blocks a slab of `class` has.
pub fn capacity(class: u8) -> usize {
    SLAB as usize / CLASS_BYTES[class as usize] as usize
}

/// An all-free bitmap for `class`.
pub fn no_bits(class: u8) -> Bits {
    vec![0; capacity(class).div_ceil(64)].into()
}

/// What the record of a slab says.
#[derive(Debug, Clone)]
pub struct Record {
    /// The slab's size class.
    pub class: u8,
    /// Its live blocks.
    pub bits: Bits,
    /// Which copy said so.
    pub copy: u64,
}

/// Reads the newest committed record of `slab`; `None` when it was never written.
///
/// # Errors
/// [`StoreError::Corrupt`] when the copy that says it is the newest committed one is damaged: a
/// crash cannot have done that, for a commit overwrites the older copy, and with an epoch that
/// does not count before its superblock is durable.
pub fn read(mem: &Mem, slab: u64, committed: &Committed) -> Result<Option<Record>> {
    let _records = mem.records.lock();
    read_held(mem, slab, committed)
}

/// [`read`], while the lock of the records is held.
fn read_held(mem: &Mem, slab: u64, committed: &Committed) -> Result<Option<Record>> {
    let stamps = [stamp(mem, slab, 0)?, stamp(mem, slab, 1)?];
    let newest = stamps.map(|stamp| committed.newest_of(stamp));
    for copy in 0..2 {
        if !committed.can_be(stamps[copy], newest[1 - copy]) {
            let at = record_at(slab, copy as u64);
            return Err(StoreError::corrupt("a damaged slab record", at));
        }
    }
    if newest == [0, 0] {
        // A crash leaves at most one copy that was never committed. Two are the epoch of a
        // superblock that was damaged and the commit after it, and what both wrote over is lost.
        if stamps.iter().all(|stamp| *stamp != [0, 0]) {
            let what = "slab records of later epochs than the superblock that is left";
            return Err(StoreError::corrupt(what, record_at(slab, 0)));
        }
        return Ok(None);
    }
    let copy = u64::from(newest[1] > newest[0]);
    let at = record_at(slab, copy);
    match decode(mem.bytes(at, RECORD)?, copy) {
        Some(record) => Ok(Some(record)),
        None => Err(StoreError::corrupt("a damaged slab record", at)),
    }
}

/// Both words of a copy's epoch.
fn stamp(mem: &Mem, slab: u64, copy: u64) -> Result<[u64; 2]> {
    let at = record_at(slab, copy);
    Ok([mem.word(at + record::EPOCH as u64)?, mem.word(at + record::EPOCH_AGAIN as u64)?])
}

fn decode(bytes: &[u8], copy: u64) -> Option<Record> {
    let crc = u32::from_le_bytes(bytes[record::CRC..record::CRC + 4].try_into().ok()?);
    let class = bytes[record::CLASS];
    if crc != crc_of(bytes) || class as usize >= CLASS_BYTES.len() {
        return None;
    }
    let mut bits = no_bits(class);
    for (word, bytes) in bits.iter_mut().zip(bytes[record::BITMAP..].chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(Record { class, bits, copy })
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..record::CRC]);
    crc.update(&bytes[record::CRC + 4..]);
    crc.finalize()
}

/// Writes one copy of a slab's record and flushes it.
///
/// # Errors
/// [`StoreError::Corrupt`] when the record would lie outside the pool.
pub fn write(
    mem: &Arc<Mem>,
    slab: u64,
    copy: u64,
    epoch: u64,
    class: u8,
    bits: &Bits,
) -> Result<()> {
    let mut bytes = [0u8; RECORD];
    bytes[record::EPOCH..record::EPOCH + 8].copy_from_slice(&epoch.to_le_bytes());
    bytes[record::EPOCH_AGAIN..record::EPOCH_AGAIN + 8].copy_from_slice(&epoch.to_le_bytes());
    bytes[record::CLASS] = class;
    for (bytes, word) in bytes[record::BITMAP..].chunks_exact_mut(8).zip(bits.iter()) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let crc = crc_of(&bytes);
    bytes[record::CRC..record::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    let at = record_at(slab, copy);
    let _records = mem.records.lock();
    mem.store(at, &bytes)?;
    mem.flush(at, RECORD as u64);
    Ok(())
}

/// Wipes copies that an interrupted commit left in `slab`; `true` when there was one.
///
/// A record that is damaged is to be found damaged ever after: wiped, it would give way to the copy
/// beside it, or to none, and what lies in the slab would seem free. `opened_epoch` is the root's that
/// the pool was opened at: whoever loads slabs in this run takes no later record for committed.
///
/// # Errors
/// None that is expected.
pub fn wipe_void(
    mem: &Arc<Mem>,
    slab: u64,
    committed: &Committed,
    opened_epoch: u64,
) -> Result<bool> {
    let _records = mem.records.lock();
    let mut wiped = false;
    let mut is_damaged = None;
    for copy in 0..2 {
        let at = record_at(slab, copy);
        if at + RECORD as u64 > mem.media().len() {
            // Cut off meanwhile: should the pool grow again, it finds zeros.
            continue;
        }
        if stamp(mem, slab, copy)?.into_iter().any(|epoch| is_void(&committed.voids, epoch)) {
            // Before the first of them is written over.
            let is_damaged = *is_damaged.get_or_insert_with(|| {
                !committed.is_fallback && read_held(mem, slab, committed).is_err()
            });
            let bytes = if is_damaged {
                let beside = committed.newest_of(stamp(mem, slab, 1 - copy)?);
                // A slab that this run has written is loaded: only a later one will read its records.
                let is_of_this_run = beside >= opened_epoch;
                condemned(if is_of_this_run { committed.epoch } else { opened_epoch })
            } else {
                [0; RECORD]
            };
            mem.store(at, &bytes)?;
            mem.flush(at, RECORD as u64);
            wiped = true;
        }
    }
    Ok(wiped)
}

/// A record that counts and that nobody can read.
fn condemned(epoch: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[record::EPOCH..record::EPOCH + 8].copy_from_slice(&epoch.to_le_bytes());
    bytes[record::EPOCH_AGAIN..record::EPOCH_AGAIN + 8].copy_from_slice(&epoch.to_le_bytes());
    let crc = !crc_of(&bytes);
    bytes[record::CRC..record::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The error for a pointer into a place that no block can have.
pub fn misplaced(offset: u64) -> StoreError {
    StoreError::corrupt("a pointer to where no block begins", offset)
}
