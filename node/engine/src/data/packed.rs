//! Small collections: all entries in one piece, which is the key's value.
//!
//! ```text
//! count u16, then for each entry: length u8 below 254, or 254 and a length u16; bytes
//! ```
//!
//! Numbers are little-endian. What the entries are is the type's affair: members of a set, elements
//! of a list, fields and values of a hash in turn, members and scores of a sorted set in turn.
//!
//! [`Packed`] reads, [`PackedBuf`] writes: a change copies the form into a buffer on the stack,
//! edits it there and puts it back whole. What does not fit into [`PACKED_BYTES_MAX`] any more
//! becomes a tree.

use cairn_store::{Record, StoreError};

use crate::failure::{Failure, Outcome};

/// Longest packed form.
pub(crate) const PACKED_BYTES_MAX: usize = cairn_store::PACKED_MAX;

const COUNT_BYTES: usize = 2;
/// In place of a length: two bytes of it follow.
const LONG: u8 = 254;

/// The entries are not what was written. Where, as an offset in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage(u64);

impl From<Damage> for StoreError {
    fn from(Damage(at): Damage) -> StoreError {
        StoreError::corrupt("a packed collection whose entries do not add up", at)
    }
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Failure {
        Failure::Store(damage.into())
    }
}

/// The place of an entry. Edits before it or at it make it stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot(usize);

/// A packed collection, to read.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> Packed<'a> {
    /// The packed form at a key.
    #[inline]
    pub(crate) fn of(record: &Record<'a>) -> Outcome<Packed<'a>> {
        match record.value().as_inline() {
            Some(bytes) if (COUNT_BYTES..=PACKED_BYTES_MAX).contains(&bytes.len()) => {
                Ok(Packed { bytes, at: record.offset() })
            }
            _ => Err(Damage(record.offset()).into()),
        }
    }

    /// Entries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        count_of(self.bytes)
    }

    /// The entries in their order.
    #[inline]
    pub(crate) fn iter(&self) -> Entries<'a> {
        Entries { bytes: self.bytes, next: COUNT_BYTES, left: self.len(), at: self.at }
    }
}

#[inline]
fn count_of(bytes: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Where the bytes of the entry at `from` lie.
#[inline]
fn span_at(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let (start, len) = match *bytes.get(from)? {
        LONG => {
            (from + 3, u16::from_le_bytes([*bytes.get(from + 1)?, *bytes.get(from + 2)?]).into())
        }
        255 => return None,
        len => (from + 1, usize::from(len)),
    };
    let end = start + len;
    (end <= bytes.len()).then_some((start, end))
}

/// Bytes that an entry takes.
#[inline]
pub(crate) fn entry_bytes(len: usize) -> usize {
    len + if len < usize::from(LONG) { 1 } else { 3 }
}

/// A field and its value, a member and its score.
pub(crate) type Pair<'p> = (&'p [u8], &'p [u8]);

/// The entries of a packed form. Damage ends them with an error.
#[derive(Clone)]
pub(crate) struct Entries<'p> {
    bytes: &'p [u8],
    next: usize,
    left: usize,
    at: u64,
}

impl<'p> Entries<'p> {
    /// The place of the entry that comes next; at the end, the place after the last.
    #[inline]
    pub(crate) fn spot(&self) -> Spot {
        Spot(self.next)
    }

    /// For whoever misses an entry.
    pub(crate) fn damage(&self) -> Damage {
        Damage(self.at)
    }

    /// The next two entries.
    #[inline]
    pub(crate) fn next_pair(&mut self) -> Option<Result<Pair<'p>, Damage>> {
        let first = self.next()?;
        let second = self.next().unwrap_or(Err(self.damage()));
        Some(first.and_then(|first| Ok((first, second?))))
    }

    #[cold]
    fn damaged(&mut self) -> Option<Result<&'p [u8], Damage>> {
        (self.left, self.next) = (0, self.bytes.len());
        Some(Err(Damage(self.at)))
    }
}

impl<'p> Iterator for Entries<'p> {
    type Item = Result<&'p [u8], Damage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return if self.next == self.bytes.len() { None } else { self.damaged() };
        }
        let Some((start, end)) = span_at(self.bytes, self.next) else { return self.damaged() };
        self.left -= 1;
        self.next = end;
        Some(Ok(&self.bytes[start..end]))
    }
}

/// A packed collection being written, on the stack.
///
/// What an edit would push over the limit is refused with `false`, and nothing has changed.
pub(crate) struct PackedBuf {
    bytes: [u8; PACKED_BYTES_MAX],
    len: usize,
    at: u64,
}

impl PackedBuf {
    /// One without entries.
    pub(crate) fn new() -> PackedBuf {
        PackedBuf { bytes: [0; PACKED_BYTES_MAX], len: COUNT_BYTES, at: 0 }
    }

    /// Takes over the entries of `packed`, to edit them.
    #[inline]
    pub(crate) fn load(&mut self, packed: &Packed<'_>) {
        self.len = packed.bytes.len();
        self.bytes[..self.len].copy_from_slice(packed.bytes);
        self.at = packed.at;
    }

    /// The value to store.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What it holds so far, to read.
    #[inline]
    pub(crate) fn view(&self) -> Packed<'_> {
        Packed { bytes: self.as_bytes(), at: self.at }
    }

    /// Entries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        count_of(&self.bytes)
    }

    /// The place of entry `index`, or the one after the last.
    pub(crate) fn spot(&self, index: usize) -> Result<Spot, Damage> {
        self.skip(Spot(COUNT_BYTES), index)
    }

    /// The entry at `spot`.
    pub(crate) fn entry(&self, spot: Spot) -> Result<&[u8], Damage> {
        let (start, end) = span_at(self.as_bytes(), spot.0).ok_or(Damage(self.at))?;
        Ok(&self.bytes[start..end])
    }

    /// Adds an entry at the end.
    #[inline]
    pub(crate) fn push(&mut self, entry: &[u8]) -> bool {
        self.insert(Spot(self.len), entry)
    }

    /// Adds an entry before the one at `spot`.
    #[inline]
    pub(crate) fn insert(&mut self, spot: Spot, entry: &[u8]) -> bool {
        let added = self.splice(spot.0, spot.0, entry);
        self.set_len(self.len() + usize::from(added));
        added
    }

    /// Puts another entry in the place of the one at `spot`.
    #[inline]
    pub(crate) fn replace(&mut self, spot: Spot, entry: &[u8]) -> Result<bool, Damage> {
        let Spot(end) = self.skip(spot, 1)?;
        Ok(self.splice(spot.0, end, entry))
    }

    /// Takes `count` entries out, from the one at `spot` on.
    #[inline]
    pub(crate) fn remove(&mut self, spot: Spot, count: usize) -> Result<(), Damage> {
        let Spot(end) = self.skip(spot, count)?;
        let left = self.len().checked_sub(count).ok_or(Damage(self.at))?;
        self.bytes.copy_within(end..self.len, spot.0);
        self.len -= end - spot.0;
        self.set_len(left);
        Ok(())
    }

    fn skip(&self, from: Spot, count: usize) -> Result<Spot, Damage> {
        let mut at = from.0;
        for _ in 0..count {
            (_, at) = span_at(self.as_bytes(), at).ok_or(Damage(self.at))?;
        }
        Ok(Spot(at))
    }

    /// Writes an entry over the bytes from `start` to `end`.
    #[inline]
    fn splice(&mut self, start: usize, end: usize, entry: &[u8]) -> bool {
        let grown = self.len - (end - start) + entry_bytes(entry.len());
        if grown > PACKED_BYTES_MAX {
            return false;
        }
        self.bytes.copy_within(end..self.len, start + entry_bytes(entry.len()));
        let body = start + entry_bytes(entry.len()) - entry.len();
        if entry.len() < usize::from(LONG) {
            self.bytes[start] = entry.len() as u8;
        } else {
            self.bytes[start] = LONG;
            self.bytes[start + 1..body].copy_from_slice(&(entry.len() as u16).to_le_bytes());
        }
        self.bytes[body..body + entry.len()].copy_from_slice(entry);
        self.len = grown;
        true
    }

    #[inline]
    fn set_len(&mut self, count: usize) {
        self.bytes[..COUNT_BYTES].copy_from_slice(&(count as u16).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Draws;

    fn entries(buf: &PackedBuf) -> Vec<Vec<u8>> {
        buf.view().iter().map(|entry| entry.unwrap().to_vec()).collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut buf = PackedBuf::new();
        assert!(buf.push(b"ab") && buf.push(b"") && buf.push(&[b'x'; 254]));
        let mut wanted = vec![3, 0, 2, b'a', b'b', 0, 254, 254, 0];
        wanted.extend([b'x'; 254]);
        assert_eq!(buf.as_bytes(), wanted);
        let mut copy = PackedBuf::new();
        copy.load(&buf.view());
        assert_eq!(entries(&copy), entries(&buf));
    }

    #[test]
    fn edits_agree_with_a_vector() {
        for seed in 0..300 {
            let mut draws = Draws::new(seed);
            let (mut buf, mut model) = (PackedBuf::new(), Vec::<Vec<u8>>::new());
            for _ in 0..60 {
                let index = draws.below(model.len() as u64 + 1) as usize;
                let len = [0, 1, 5, 63, 253, 254, 300][draws.below(7) as usize];
                let entry = vec![draws.bits() as u8; len];
                let spot = buf.spot(index).unwrap();
                let bytes: usize = model.iter().map(|entry| entry_bytes(entry.len())).sum();
                let fits =
                    |gone: usize| COUNT_BYTES + bytes - gone + entry_bytes(len) <= PACKED_BYTES_MAX;
                match draws.below(4) {
                    0 | 1 => {
                        assert_eq!(buf.insert(spot, &entry), fits(0));
                        if fits(0) {
                            model.insert(index, entry);
                        }
                    }
                    2 if index < model.len() => {
                        let gone = entry_bytes(model[index].len());
                        assert_eq!(buf.replace(spot, &entry).unwrap(), fits(gone));
                        if fits(gone) {
                            model[index] = entry;
                        }
                    }
                    _ => {
                        let count = (draws.below(3) as usize).min(model.len() - index);
                        buf.remove(spot, count).unwrap();
                        model.drain(index..index + count);
                    }
                }
                assert_eq!(entries(&buf), model);
                assert_eq!(buf.len(), model.len());
            }
        }
    }

    #[test]
    fn pairs_come_in_turn() {
        let mut buf = PackedBuf::new();
        for entry in [b"a", b"1", b"b", b"2"] {
            assert!(buf.push(entry));
        }
        let packed = buf.view();
        let mut pairs = packed.iter();
        assert_eq!(pairs.next_pair(), Some(Ok((&b"a"[..], &b"1"[..]))));
        assert_eq!(pairs.spot(), buf.spot(2).unwrap());
        assert_eq!(pairs.next_pair(), Some(Ok((&b"b"[..], &b"2"[..]))));
        assert_eq!(pairs.next_pair(), None);
        let mut odd = PackedBuf::new();
        assert!(odd.push(b"a"));
        assert_eq!(odd.view().iter().next_pair(), Some(Err(Damage(0))));
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let mut whole = PackedBuf::new();
        assert!(whole.push(b"first") && whole.push(&[0xff; 300]) && whole.push(b"last"));
        let whole = whole.as_bytes().to_vec();
        let read = |bytes: &[u8]| {
            let packed = Packed { bytes, at: 7 };
            packed.iter().collect::<Result<Vec<_>, _>>().map(|entries| entries.len())
        };
        assert_eq!(read(&whole), Ok(3));
        for cut in 2..whole.len() {
            assert_eq!(read(&whole[..cut]), Err(Damage(7)), "cut at {cut}");
        }
        // Each length and the count; bytes of entries are the checksum's affair.
        for (at, values) in [(0, 0..=255), (2, 0..=255), (8, 0..=255), (9, 0..=255), (10, 0..=255)]
        {
            for value in values {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let wanted = if bytes == whole { Ok(3) } else { Err(Damage(7)) };
                assert_eq!(read(&bytes), wanted, "{value} at {at}");
            }
        }
        let mut buf = PackedBuf::new();
        assert!(buf.push(b"a"));
        assert_eq!(buf.remove(Spot(COUNT_BYTES), 2), Err(Damage(0)));
        assert_eq!(buf.spot(2), Err(Damage(0)));
        let error = StoreError::from(Damage(7)).to_string();
        assert!(error.contains("packed collection") && error.contains("at byte 7"), "{error}");
    }
}
