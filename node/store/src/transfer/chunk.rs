//! The bytes of a chunk: put together by the sender, judged whole by the receiver before it writes
//! any of them.

use super::{Result, TransferError, half, word};
use crate::alloc::record::{self, Bits};
use crate::alloc::slab_at;
use crate::layout::pool::{BIRTH_MASK, CLASS_BYTES};
use crate::layout::transfer::{SLABS_PER_CHUNK, chunk};
use crate::persist::is_sound;
use std::ops::Range;

/// The slabs of a chunk.
pub(super) fn slabs_of(number: u64) -> Range<u64> {
    number * SLABS_PER_CHUNK..(number + 1) * SLABS_PER_CHUNK
}

/// A chunk that is being put together.
pub(super) struct Builder {
    number: u64,
    slabs: u32,
    bytes: Vec<u8>,
}

impl Builder {
    /// An empty chunk, with room for all that may go into it.
    pub(super) fn new(number: u64) -> Builder {
        let mut bytes = Vec::with_capacity(chunk::MAX);
        bytes.resize(chunk::BODY, 0);
        Builder { number, slabs: 0, bytes }
    }

    /// Adds the blocks of a slab; `block` yields each that `bits` names.
    pub(super) fn add<'a>(
        &mut self,
        slab: u64,
        class: u8,
        bits: &Bits,
        mut block: impl FnMut(u64) -> crate::error::Result<&'a [u8]>,
    ) -> Result<()> {
        let count = bits.iter().map(|word| word.count_ones()).sum::<u32>();
        if count == 0 {
            return Ok(());
        }
        self.slabs += 1;
        let within = (slab - slabs_of(self.number).start) as u16;
        self.bytes.extend_from_slice(&within.to_le_bytes());
        self.bytes.extend_from_slice(&[class, 0]);
        self.bytes.extend_from_slice(&count.to_le_bytes());
        for word in bits.iter() {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        for at in places(slab, class, bits) {
            self.bytes.extend_from_slice(block(at)?);
        }
        Ok(())
    }

    /// The chunk as it is sent.
    pub(super) fn finish(self, head_crc: u32) -> Vec<u8> {
        let mut bytes = self.bytes;
        bytes[chunk::HEAD_CRC..chunk::HEAD_CRC + 4].copy_from_slice(&head_crc.to_le_bytes());
        bytes[chunk::NUMBER..chunk::NUMBER + 8].copy_from_slice(&self.number.to_le_bytes());
        bytes[chunk::SLABS..chunk::SLABS + 4].copy_from_slice(&self.slabs.to_le_bytes());
        let crc = crc32fast::hash(&bytes[chunk::HEAD_CRC..]);
        bytes[chunk::CRC..chunk::CRC + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Where the blocks of a slab that `bits` names lie.
fn places(slab: u64, class: u8, bits: &Bits) -> impl Iterator<Item = u64> + use<'_> {
    let (first, bytes) = (slab_at(slab), u64::from(CLASS_BYTES[class as usize]));
    bits.iter().enumerate().flat_map(move |(index, &word)| {
        let mut word = word;
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros();
            (bit < 64).then(|| {
                word &= word - 1;
                first + (index as u64 * 64 + u64::from(bit)) * bytes
            })
        })
    })
}

/// A slab in a chunk that was found whole.
pub(super) struct Slab<'a> {
    /// Which slab of the pool.
    pub(super) slab: u64,
    /// Its class.
    pub(super) class: u8,
    /// The blocks that came.
    pub(super) bits: Bits,
    blocks: &'a [u8],
}

impl<'a> Slab<'a> {
    /// Its blocks, each with its place.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'_, 'a> {
        let bytes = usize::from(CLASS_BYTES[self.class as usize]);
        places(self.slab, self.class, &self.bits).zip(self.blocks.chunks_exact(bytes))
    }

    /// The first of its blocks whose checksum does not fit.
    pub(super) fn first_unsound(&self) -> Option<u64> {
        self.blocks().find(|(at, block)| !is_sound(*at, block)).map(|(at, _)| at)
    }
}

/// Reads a chunk of the pool with this head's checksum, whose blocks were born up to `epoch`.
///
/// # Errors
/// [`TransferError::Damaged`], naming the chunk.
pub(super) fn parse(bytes: &[u8], number: u64, head_crc: u32, epoch: u64) -> Result<Vec<Slab<'_>>> {
    let damaged = |why: &str| {
        TransferError::damaged(format!(
            "chunk {number} of the pool, of {} bytes ({why}),",
            bytes.len()
        ))
    };
    if bytes.len() < chunk::BODY || bytes.len() > chunk::MAX {
        return Err(damaged("as long as none can be"));
    }
    if crc32fast::hash(&bytes[chunk::HEAD_CRC..]) != half(bytes, chunk::CRC) {
        return Err(damaged("its checksum does not fit"));
    }
    if (half(bytes, chunk::HEAD_CRC), word(bytes, chunk::NUMBER)) != (head_crc, number) {
        return Err(damaged("it is of another pool, or another chunk"));
    }
    let mut slabs: Vec<Slab<'_>> = Vec::with_capacity(SLABS_PER_CHUNK as usize);
    let mut rest = &bytes[chunk::BODY..];
    while !rest.is_empty() {
        let after = slabs.last().map_or(slabs_of(number).start, |last| last.slab + 1);
        let (slab, left) = parse_slab(rest, number, epoch)
            .filter(|(slab, _)| slab.slab >= after)
            .ok_or_else(|| damaged("it holds what no pool can"))?;
        slabs.push(slab);
        rest = left;
    }
    if slabs.len() != half(bytes, chunk::SLABS) as usize {
        return Err(damaged("it says how many slabs it has, and has not as many"));
    }
    Ok(slabs)
}

/// The slab at the start of `bytes`, and what follows it; `None` when it cannot be one.
fn parse_slab(bytes: &[u8], number: u64, epoch: u64) -> Option<(Slab<'_>, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(chunk::SLAB_BITMAP)?;
    let within = u64::from(u16::from_le_bytes([fixed[0], fixed[1]]));
    let class = fixed[chunk::SLAB_CLASS];
    if within >= SLABS_PER_CHUNK || usize::from(class) >= CLASS_BYTES.len() {
        return None;
    }
    let mut bits = record::no_bits(class);
    let (bitmap, rest) = rest.split_at_checked(bits.len() * 8)?;
    for (index, bits) in bits.iter_mut().enumerate() {
        *bits = word(bitmap, index * 8);
    }
    let last = bits.iter().rposition(|&word| word != 0)?;
    if last * 64 + 64 - bits[last].leading_zeros() as usize > record::capacity(class) {
        return None;
    }
    let count = bits.iter().map(|word| word.count_ones()).sum::<u32>();
    let bytes = usize::from(CLASS_BYTES[class as usize]);
    let (blocks, rest) = rest.split_at_checked(count as usize * bytes)?;
    let born_before = |block: &[u8]| (1..=epoch).contains(&(word(block, 0) & BIRTH_MASK));
    if half(fixed, chunk::SLAB_BLOCKS) != count || !blocks.chunks_exact(bytes).all(born_before) {
        return None;
    }
    let slab = slabs_of(number).start + within;
    Some((Slab { slab, class, bits, blocks }, rest))
}
