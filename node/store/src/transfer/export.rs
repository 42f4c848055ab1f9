//! The sender's side: a pinned root, and the chunks of what it reaches.

use super::chunk::{self, Builder};
use super::{Head, Result, TransferError};
use crate::alloc::record::Bits;
use crate::alloc::slab_at;
use crate::error::{Corrupt, StoreError};
use crate::layout::pool::{BIRTH_MASK, CLASS_BYTES, SLAB, SLABS_PER_EXTENT};
use crate::layout::transfer::SLABS_PER_CHUNK;
use crate::persist::Mem;
use crate::pool::{Pin, Store};
use std::sync::Arc;

/// A pool as of its last commit, held for sending: its blocks are not reused while this lives, so
/// whoever sends slowly holds the space of what dies meanwhile.
pub struct Export {
    pin: Pin,
    head: Head,
    head_crc: u32,
}

/// A chunk that is being gathered, slab by slab.
pub struct Chunk {
    next_slab: u64,
    end: u64,
    builder: Builder,
}

impl Store {
    /// Holds what the last commit made durable, to send it to another node. O(1).
    pub fn export(&self) -> Export {
        let (pin, state) = self.pin_committed();
        let head = Head::of(state);
        Export { pin, head_crc: head.crc(), head }
    }
}

impl Export {
    /// What is sent first.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Begins chunk `number`; `None` behind the last one. Needs no lock, and has what lies in it
    /// read, so that gathering it under one waits for no disk.
    pub fn begin(&self, number: u64) -> Option<Chunk> {
        if number >= self.head.chunks() {
            return None;
        }
        let slabs = chunk::slabs_of(number);
        self.mem().media().warm(slab_at(slabs.start), SLABS_PER_CHUNK * SLAB);
        Some(Chunk { next_slab: slabs.start, end: slabs.end, builder: Builder::new(number) })
    }

    /// Copies another slab of the chunk, 64 KiB at most, out of the store that this was made of;
    /// says whether there are more. The store may be let go of between the slabs.
    ///
    /// # Errors
    /// [`TransferError::Replaced`] when it is another store; [`TransferError::Store`] when a slab
    /// record is damaged.
    pub fn gather(&self, store: &Store, chunk: &mut Chunk) -> Result<bool> {
        if !Arc::ptr_eq(&store.heap.mem, self.mem()) {
            return Err(TransferError::Replaced);
        }
        if chunk.next_slab < chunk.end {
            self.gather_slab(store, chunk)?;
            chunk.next_slab += 1;
        }
        Ok(chunk.next_slab < chunk.end)
    }

    /// The chunk as it is sent, its blocks verified. Needs no lock.
    ///
    /// # Errors
    /// [`TransferError::Store`] when a block is damaged: what is sent must be whole.
    pub fn seal(&self, chunk: Chunk) -> Result<Vec<u8>> {
        let number = chunk.end / SLABS_PER_CHUNK - 1;
        let bytes = chunk.builder.finish(self.head_crc);
        for slab in chunk::parse(&bytes, number, self.head_crc, self.head.epoch().0)? {
            if let Some(offset) = slab.first_unsound() {
                return Err(TransferError::Store(StoreError::Corrupt(Corrupt {
                    what: "a block whose checksum does not fit".into(),
                    offset,
                    path: self.mem().media().path().map(Into::into),
                })));
            }
        }
        Ok(bytes)
    }

    /// Chunk `number`, gathered in one go; `None` behind the last one. A node that serves others
    /// meanwhile gathers slab by slab.
    ///
    /// # Errors
    /// As [`Export::gather`] and [`Export::seal`].
    pub fn chunk(&self, store: &Store, number: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut chunk) = self.begin(number) else { return Ok(None) };
        while self.gather(store, &mut chunk)? {}
        self.seal(chunk).map(Some)
    }

    fn mem(&self) -> &Arc<Mem> {
        self.pin.mem()
    }

    /// Blocks of later epochs are none of the root's; among the earlier ones are some that have died
    /// already, which the receiver finds out.
    fn gather_slab(&self, store: &Store, chunk: &mut Chunk) -> Result<()> {
        let slab = chunk.next_slab;
        let Some((class, mut bits)) = store.heap.alloc.slab_in_use(slab)? else { return Ok(()) };
        let bytes = u64::from(CLASS_BYTES[class as usize]);
        self.keep_older(slab, bytes, &mut bits)?;
        chunk.builder.add(slab, class, &bits, |at| self.mem().bytes(at, bytes as usize))
    }

    /// Takes what was born after the commit out of `bits`.
    fn keep_older(&self, slab: u64, bytes: u64, bits: &mut Bits) -> Result<()> {
        for (index, word) in bits.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let at = slab_at(slab) + (index as u64 * 64 + u64::from(bit)) * bytes;
                let birth = self.mem().word(at)? & BIRTH_MASK;
                if birth > self.head.epoch().0 || birth == 0 {
                    *word &= !(1 << bit);
                }
            }
        }
        Ok(())
    }
}

const _: () = assert!(SLABS_PER_EXTENT.is_multiple_of(SLABS_PER_CHUNK));
