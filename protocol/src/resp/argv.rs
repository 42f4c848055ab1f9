//! The arguments of one request, borrowed from wherever its bytes lie.

use std::ops::Index;

/// A piece of a buffer. 32 bits: no buffer that is decoded exceeds `Limits::max_query_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The same place counted from `start`, which lies before it.
    pub(crate) fn relative_to(self, start: u32) -> Self {
        Self { start: self.start - start, end: self.end - start }
    }
}

/// A borrowed list of arguments; argument 0 is the command's name. Copying it copies no bytes.
#[derive(Clone, Copy)]
pub struct Argv<'a> {
    repr: Repr<'a>,
    /// Arguments before this one are hidden ([`Argv::slice_from`]).
    first: usize,
}

#[derive(Clone, Copy)]
enum Repr<'a> {
    /// Pieces of a receive buffer.
    Spans { buf: &'a [u8], spans: &'a [Span] },
    /// The body of an operation: cumulative ends, then the bytes.
    Encoded { ends: &'a [[u8; 4]], bytes: &'a [u8] },
    /// Slices from anywhere.
    Slices(&'a [&'a [u8]]),
}

/// In an operation's table of ends: this argument is the id of a staged one.
pub(crate) const STAGED_BIT: u32 = 1 << 31;

impl<'a> Argv<'a> {
    /// No arguments.
    pub const EMPTY: Argv<'static> = Argv { repr: Repr::Slices(&[]), first: 0 };

    /// The caller has checked that every span lies within `buf`; a span that does not reads empty.
    pub(crate) fn spans(buf: &'a [u8], spans: &'a [Span]) -> Self {
        Self { repr: Repr::Spans { buf, spans }, first: 0 }
    }

    /// The caller has checked that the ends rise and that the last is the length of `bytes`.
    pub(crate) fn encoded(ends: &'a [[u8; 4]], bytes: &'a [u8]) -> Self {
        Self { repr: Repr::Encoded { ends, bytes }, first: 0 }
    }

    /// How many arguments there are, the name included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        let all = match self.repr {
            Repr::Spans { spans, .. } => spans.len(),
            Repr::Encoded { ends, .. } => ends.len(),
            Repr::Slices(slices) => slices.len(),
        };
        all - self.first
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Argument `i`.
    #[must_use]
    #[inline]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        let i = self.first + i;
        match self.repr {
            Repr::Spans { buf, spans } => {
                let span = spans.get(i)?;
                Some(buf.get(span.start as usize..span.end as usize).unwrap_or_default())
            }
            Repr::Encoded { ends, bytes } => {
                let end = end_at(ends, i)?;
                let start = if i == 0 { 0 } else { end_at(ends, i - 1)? };
                Some(bytes.get(start..end).unwrap_or_default())
            }
            Repr::Slices(slices) => slices.get(i).copied(),
        }
    }

    /// The arguments from `i` on; none when there are fewer.
    #[must_use]
    pub fn slice_from(self, i: usize) -> Self {
        Self { first: self.first + i.min(self.len()), ..self }
    }

    /// The arguments in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        (0..self.len()).map(move |i| self.get(i).unwrap_or_default())
    }

    /// Bytes of all arguments together.
    #[must_use]
    pub fn total_bytes(self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }
}

#[inline]
fn end_at(ends: &[[u8; 4]], i: usize) -> Option<usize> {
    Some((u32::from_le_bytes(*ends.get(i)?) & !STAGED_BIT) as usize)
}

impl<'a> From<&'a [&'a [u8]]> for Argv<'a> {
    fn from(slices: &'a [&'a [u8]]) -> Self {
        Self { repr: Repr::Slices(slices), first: 0 }
    }
}

impl<'a, const N: usize> From<&'a [&'a [u8]; N]> for Argv<'a> {
    fn from(slices: &'a [&'a [u8]; N]) -> Self {
        Self::from(&slices[..])
    }
}

impl Index<usize> for Argv<'_> {
    type Output = [u8];

    /// Argument `i`.
    ///
    /// # Panics
    /// When there are not so many: for positions that the arity has checked. Others use `get`.
    #[inline]
    fn index(&self, i: usize) -> &[u8] {
        match self.get(i) {
            Some(arg) => arg,
            None => panic!("argument {i} of {}", self.len()),
        }
    }
}

impl std::fmt::Debug for Argv<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

impl PartialEq for Argv<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Argv<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_representation_reads_the_same() {
        let slices: [&[u8]; 4] = [b"set", b"k", b"", b"value"];
        let buf = b"set k value";
        let spans = [(0, 3), (4, 5), (5, 5), (6, 11)].map(|(start, end)| Span { start, end });
        let ends = [3u32, 4, 4 | STAGED_BIT, 9].map(u32::to_le_bytes);
        let all =
            [Argv::from(&slices), Argv::spans(buf, &spans), Argv::encoded(&ends, b"setkvalue")];
        for argv in all {
            assert_eq!(argv, all[0]);
            assert_eq!(argv.len(), 4);
            assert_eq!(&argv[3], b"value");
            assert_eq!(argv.get(4), None);
            let tail = argv.slice_from(2);
            assert_eq!(tail.iter().collect::<Vec<_>>(), [&b""[..], b"value"]);
            assert_eq!(tail.slice_from(5).len(), 0);
            assert_eq!(argv.total_bytes(), 9);
        }
        assert!(size_of::<Argv<'_>>() <= 48);
    }
}
