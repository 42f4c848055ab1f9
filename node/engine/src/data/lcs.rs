//! Longest common subsequence, with the choices among equals that Redis makes.
//!
//! Redis keeps the whole table of lengths, four bytes a cell. Walking back needs only which of two
//! neighbours was longer, so one bit a cell is kept beside a single row of lengths: the transient
//! memory that Redis bounds by `proto-max-bulk-len` is a thirty-second of what it would be there.

/// A stretch that both strings share: `len` bytes from `a_start` in one, `b_start` in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) a_start: usize,
    pub(crate) b_start: usize,
    pub(crate) len: usize,
}

/// The solved table of two strings.
pub(crate) struct Lcs<'a> {
    a: &'a [u8],
    b: &'a [u8],
    len: usize,
    /// Bit `i * b.len() + j`: skipping `a[i]` loses less than skipping `b[j]`.
    skips_a: Vec<u64>,
}

/// Bytes that Redis would allocate for the table of two strings of these lengths.
pub(crate) fn table_bytes(a_len: u64, b_len: u64) -> u64 {
    (a_len + 1).saturating_mul(b_len + 1).saturating_mul(4)
}

/// Length of the longest common subsequence, in one row of memory.
pub(crate) fn length(a: &[u8], b: &[u8]) -> usize {
    solve(a, b, |_, _| {})
}

/// Fills the table row by row; `skip_a(i, j)` is called where the way back leaves out `a[i]`.
fn solve(a: &[u8], b: &[u8], mut skip_a: impl FnMut(usize, usize)) -> usize {
    let mut row = vec![0u32; b.len()];
    for (i, &x) in a.iter().enumerate() {
        let (mut diagonal, mut left) = (0, 0);
        for (j, (&y, cell)) in b.iter().zip(&mut row).enumerate() {
            let above = *cell;
            if x == y {
                *cell = diagonal + 1;
            } else if above > left {
                skip_a(i, j);
            } else {
                *cell = left;
            }
            diagonal = above;
            left = *cell;
        }
    }
    row.last().map_or(0, |&len| len as usize)
}

impl<'a> Lcs<'a> {
    /// Takes time and bits in proportion to the product of the lengths; the caller bounds them.
    pub(crate) fn new(a: &'a [u8], b: &'a [u8]) -> Lcs<'a> {
        let mut skips_a = vec![0u64; (a.len() * b.len()).div_ceil(64)];
        let len = solve(a, b, |i, j| {
            let bit = i * b.len() + j;
            skips_a[bit / 64] |= 1 << (bit % 64);
        });
        Lcs { a, b, len, skips_a }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Calls `f` with every shared stretch, the last one first.
    pub(crate) fn for_each_match(&self, mut f: impl FnMut(Match)) {
        let (mut i, mut j, mut run) = (self.a.len(), self.b.len(), 0);
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                run += 1;
                i -= 1;
                j -= 1;
                continue;
            }
            if run > 0 {
                f(Match { a_start: i, b_start: j, len: run });
                run = 0;
            }
            let bit = (i - 1) * self.b.len() + j - 1;
            if self.skips_a[bit / 64] >> (bit % 64) & 1 == 1 { i -= 1 } else { j -= 1 }
        }
        if run > 0 {
            f(Match { a_start: i, b_start: j, len: run });
        }
    }

    /// The subsequence itself.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = vec![0; self.len];
        let mut end = self.len;
        self.for_each_match(|found| {
            let from = &self.a[found.a_start..found.a_start + found.len];
            text[end - found.len..end].copy_from_slice(from);
            end -= found.len;
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_redis_documents() {
        let lcs = Lcs::new(b"ohmytext", b"mynewtext");
        assert_eq!(lcs.len(), 6);
        assert_eq!(lcs.text(), b"mytext");
        let mut found = Vec::new();
        lcs.for_each_match(|m| found.push(m));
        let wanted =
            [Match { a_start: 4, b_start: 5, len: 4 }, Match { a_start: 2, b_start: 0, len: 2 }];
        assert_eq!(found, wanted);
    }

    #[test]
    fn among_equals_the_end_of_the_second_string_is_left_out_first() {
        assert_eq!(Lcs::new(b"ab", b"ba").text(), b"b");
        assert_eq!(Lcs::new(b"ba", b"ab").text(), b"a");
    }

    #[test]
    fn empty_and_foreign_strings_share_nothing() {
        for (a, b) in [("", ""), ("abc", ""), ("", "abc"), ("abc", "xyz")] {
            assert_eq!(Lcs::new(a.as_bytes(), b.as_bytes()).text(), b"", "{a} {b}");
            assert_eq!(length(a.as_bytes(), b.as_bytes()), 0);
        }
    }

    #[test]
    fn is_a_subsequence_of_both_and_as_long_as_the_plain_recurrence_says() {
        let mut state = 7u64;
        let mut text = |len: usize| -> Vec<u8> {
            (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                    b'a' + (state >> 60) as u8 % 4
                })
                .collect()
        };
        for round in 0..200 {
            let (a, b) = (text(round % 23), text(round % 17));
            let lcs = Lcs::new(&a, &b);
            assert_eq!(lcs.len(), plain(&a, &b));
            assert_eq!(lcs.len(), length(&a, &b));
            for whole in [&a, &b] {
                let mut rest = whole.iter();
                assert!(lcs.text().iter().all(|c| rest.any(|d| d == c)), "{a:?} {b:?}");
            }
        }
    }

    fn plain(a: &[u8], b: &[u8]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        table[a.len()][b.len()]
    }
}
