//! Reading requests: resumable, without copying, without recursion, bounded.
//!
//! Source: the RESP specification; what is tolerated (a terminator that is not checked, empty
//! requests) and how refusals are worded is what Redis 7.2 does.

use std::fmt;

use super::argv::{Argv, Span};
use super::inline;
use super::limits::Limits;
use crate::number::parse_i64;

/// Why a peer's bytes are refused. The connection is closed after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The count of arguments is no integer or too large.
    InvalidMultibulkLength,
    /// The length of an argument is no integer, negative or too large.
    InvalidBulkLength,
    /// An argument does not start with `$`.
    ExpectedBulk(u8),
    /// More arguments than allowed before AUTH.
    UnauthenticatedMultibulk,
    /// A longer argument than allowed before AUTH.
    UnauthenticatedBulk,
    /// An inline request that does not end.
    InlineTooLong,
    /// A quote that is not closed, or that is followed by more than a space.
    UnbalancedQuotes,
    /// A count of arguments that does not end.
    MultibulkCountTooLong,
    /// A length of an argument that does not end.
    BulkCountTooLong,
    /// The request as a whole exceeds `Limits::max_query_bytes`.
    QueryTooLong,
}

impl fmt::Display for ProtocolError {
    /// The text of the error reply, code first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        f.write_str(match self {
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::InvalidBulkLength => "invalid bulk length",
            Self::ExpectedBulk(got) => {
                return write!(f, "expected '$', got '{}'", char::from(*got));
            }
            Self::UnauthenticatedMultibulk => "unauthenticated multibulk length",
            Self::UnauthenticatedBulk => "unauthenticated bulk length",
            Self::InlineTooLong => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::MultibulkCountTooLong => "too big mbulk count string",
            Self::BulkCountTooLong => "too big bulk count string",
            Self::QueryTooLong => "too big request",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// The complete requests found in a buffer: where their arguments lie. Reusable.
#[derive(Debug, Default)]
pub struct Frames {
    /// Arguments of all requests, one after the other.
    spans: Vec<Span>,
    requests: Vec<Request>,
    /// Arguments of inline requests, whose quotes and escapes are gone.
    unescaped: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    /// The end of its arguments in `Frames::spans`; they start where those of the one before end.
    end: u32,
    inline: bool,
}

impl Frames {
    /// Room for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the requests, keeps the room (up to a bound: one huge request is not remembered).
    pub fn clear(&mut self) {
        const KEPT_SPANS: usize = 16 << 10;
        const KEPT_BYTES: usize = 64 << 10;
        self.spans.clear();
        self.requests.clear();
        self.unescaped.clear();
        self.spans.shrink_to(KEPT_SPANS);
        self.requests.shrink_to(KEPT_SPANS);
        self.unescaped.shrink_to(KEPT_BYTES);
    }

    /// How many requests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The arguments of request `i`, never empty; `buf` is the buffer given to the `decode` that
    /// found it.
    ///
    /// # Panics
    /// When there is no request `i`.
    #[must_use]
    pub fn argv<'a>(&'a self, i: usize, buf: &'a [u8]) -> Argv<'a> {
        let start = i.checked_sub(1).map_or(0, |before| self.requests[before].end as usize);
        let Request { end, inline } = self.requests[i];
        let bytes = if inline { &self.unescaped } else { buf };
        Argv::spans(bytes, &self.spans[start..end as usize])
    }

    fn finish(&mut self, inline: bool) {
        self.requests.push(Request { end: self.spans.len() as u32, inline });
    }
}

/// Finds requests in what a connection has received.
///
/// It remembers how far an incomplete request was read, so that no byte is looked at twice.
#[derive(Debug)]
pub struct RequestDecoder {
    limits: Limits,
    pending: Pending,
    /// Arguments found so far of the request that is pending, relative to its first byte.
    spans: Vec<Span>,
    failed: Option<ProtocolError>,
}

/// How far the request at the front of the buffer has been read. Positions are from its first byte.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    /// Everything before this has been read, or searched for a line's end.
    at: usize,
    /// Where the line that is being searched starts.
    line: usize,
    /// Arguments still to come; 0 while the count is not known.
    args_left: usize,
    /// The length of the argument at `at`, once its line has been read.
    bulk: Option<usize>,
}

impl Pending {
    fn is_fresh(&self) -> bool {
        self.at == 0
    }
}

/// What one attempt at a request gave.
enum Step {
    /// A request that ends here.
    Complete(usize),
    /// Nothing to answer, up to here: an empty line or array.
    Empty(usize),
    /// More bytes are needed.
    Incomplete,
}

impl RequestDecoder {
    /// Starts at a connection's first byte.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, pending: Pending::default(), spans: Vec::new(), failed: None }
    }

    /// Changes the limits, as AUTH does; what is read from now on obeys them.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Appends the complete requests at the front of `buf` to `frames`, up to `max_requests` of
    /// them there, and returns how many bytes they take. The caller answers them, drops those bytes,
    /// and calls again with the rest and what has arrived since.
    ///
    /// `frames` must hold no requests of another buffer.
    ///
    /// # Errors
    /// The peer broke the protocol. `frames` holds the requests before that: they are to be
    /// answered, then the error, then the connection is closed; the decoder stays failed.
    pub fn decode(
        &mut self,
        buf: &[u8],
        frames: &mut Frames,
        max_requests: usize,
    ) -> Result<usize, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        // Spans are 32 bits; what lies beyond waits for the next call.
        let buf = &buf[..buf.len().min(u32::MAX as usize)];
        let mut start = 0;
        while start < buf.len() && frames.len() < max_requests {
            match self.request(buf, start, frames) {
                Ok(Step::Complete(end) | Step::Empty(end)) => start = end,
                Ok(Step::Incomplete) => break,
                Err(error) => {
                    self.failed = Some(error);
                    return Err(error);
                }
            }
        }
        Ok(start)
    }

    /// How many more bytes the request at the front needs at least, as far as is known: so that a
    /// large argument is received into room for all of it. The caller bounds what it reserves: the
    /// peer has only claimed these bytes.
    #[must_use]
    pub fn need_hint(&self, buffered: usize) -> usize {
        self.pending.bulk.map_or(0, |len| (self.pending.at + len + 2).saturating_sub(buffered))
    }

    /// Bytes that the decoder holds for an incomplete request, beside the caller's buffer.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
    }

    fn request(
        &mut self,
        buf: &[u8],
        start: usize,
        frames: &mut Frames,
    ) -> Result<Step, ProtocolError> {
        if buf[start] != b'*' {
            return self.inline(&buf[start..], frames).map(|step| step.at(start));
        }
        if self.pending.is_fresh() {
            let first = frames.spans.len();
            if let Some(end) = plain(&self.limits, buf, start, &mut frames.spans) {
                frames.finish(false);
                return Ok(Step::Complete(end));
            }
            frames.spans.truncate(first);
            return self.fresh(buf, start, frames);
        }
        // A pending request is always at the front, so its spans are right as they are.
        debug_assert_eq!(start, 0, "the caller drops what was consumed");
        let step = multibulk(&self.limits, &mut self.pending, buf, 0, &mut self.spans)?;
        if !matches!(step, Step::Incomplete) {
            if matches!(step, Step::Complete(_)) {
                frames.spans.extend_from_slice(&self.spans);
                frames.finish(false);
            }
            self.pending = Pending::default();
            // Its room may be large and is rarely needed again.
            self.spans = Vec::new();
        }
        Ok(step)
    }

    /// A request of which nothing has been read yet: its spans go where they belong, and aside only
    /// when it turns out to be incomplete.
    fn fresh(
        &mut self,
        buf: &[u8],
        start: usize,
        frames: &mut Frames,
    ) -> Result<Step, ProtocolError> {
        let first = frames.spans.len();
        let mut state = Pending::default();
        let step = multibulk(&self.limits, &mut state, buf, start, &mut frames.spans)?;
        match step {
            Step::Complete(_) => frames.finish(false),
            Step::Empty(_) => {}
            Step::Incomplete => {
                self.pending = state;
                let found = frames.spans.drain(first..);
                self.spans.extend(found.map(|s| s.relative_to(start as u32)));
            }
        }
        Ok(step)
    }

    fn inline(&mut self, buf: &[u8], frames: &mut Frames) -> Result<Step, ProtocolError> {
        let limit = self.limits.max_inline_bytes;
        let searched = &buf[..buf.len().min(limit + 1)];
        let Some(found) = memchr::memchr(b'\n', &searched[self.pending.at.min(searched.len())..])
        else {
            if buf.len() > limit {
                return Err(ProtocolError::InlineTooLong);
            }
            self.pending.at = buf.len();
            return Ok(Step::Incomplete);
        };
        let newline = self.pending.at + found;
        self.pending = Pending::default();
        let line = &buf[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let first = frames.spans.len();
        if !inline::split(line, &mut frames.unescaped, &mut frames.spans) {
            frames.spans.truncate(first);
            return Err(ProtocolError::UnbalancedQuotes);
        }
        if frames.spans.len() == first {
            return Ok(Step::Empty(newline + 1));
        }
        frames.finish(true);
        Ok(Step::Complete(newline + 1))
    }
}

impl Step {
    fn at(self, start: usize) -> Self {
        match self {
            Self::Complete(end) => Self::Complete(start + end),
            Self::Empty(end) => Self::Empty(start + end),
            Self::Incomplete => Self::Incomplete,
        }
    }
}

/// The common case, in a fraction of [`multibulk`]'s instructions: a complete request whose numbers
/// have up to three digits. `None` is no judgement: `multibulk` decides, and `spans` may have grown.
#[inline]
fn plain(limits: &Limits, buf: &[u8], start: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let (count, mut at) = plain_number(buf, start, b'*')?;
    if count == 0 || count > limits.max_args {
        return None;
    }
    spans.reserve(count);
    for _ in 0..count {
        let (len, from) = plain_number(buf, at, b'$')?;
        let end = from + len;
        at = end + 2;
        if at > buf.len() || len > limits.max_bulk_bytes || at - start > limits.max_query_bytes {
            return None;
        }
        spans.push(Span { start: from as u32, end: end as u32 });
    }
    Some(at)
}

/// A line of `kind` and one to three digits at `at`: the number, and where the line ends.
#[inline(always)]
fn plain_number(buf: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let digit = |b: u8| usize::from(b.wrapping_sub(b'0'));
    match *buf.get(at..)? {
        [k, a @ b'0'..=b'9', b'\r', b'\n', ..] if k == kind => Some((digit(a), at + 4)),
        [k, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] if k == kind => {
            Some((digit(a) * 10 + digit(b), at + 5))
        }
        [k, a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n', ..] if k == kind => {
            Some((digit(a) * 100 + digit(b) * 10 + digit(c), at + 6))
        }
        _ => None,
    }
}

/// Goes on with an array of bulk strings whose first byte is `buf[start]`. Spans are positions in
/// `buf`; what `state` remembers is relative to `start`.
fn multibulk(
    limits: &Limits,
    state: &mut Pending,
    buf: &[u8],
    start: usize,
    spans: &mut Vec<Span>,
) -> Result<Step, ProtocolError> {
    let request = &buf[start..];
    if state.args_left == 0 {
        let Some(line) = next_line(limits, state, request, ProtocolError::MultibulkCountTooLong)?
        else {
            return Ok(Step::Incomplete);
        };
        state.args_left = match arg_count(limits, line)? {
            0 => return Ok(Step::Empty(start + state.at)),
            count => count,
        };
    }
    while state.args_left > 0 {
        let len = match state.bulk {
            Some(len) => len,
            None => {
                let Some(line) =
                    next_line(limits, state, request, ProtocolError::BulkCountTooLong)?
                else {
                    return Ok(Step::Incomplete);
                };
                let len = bulk_len(limits, line)?;
                if state.at + len + 2 > limits.max_query_bytes {
                    return Err(ProtocolError::QueryTooLong);
                }
                len
            }
        };
        // The terminator is skipped unseen, as Redis does.
        let end = state.at + len;
        if request.len() < end + 2 {
            state.bulk = Some(len);
            return Ok(Step::Incomplete);
        }
        spans.push(Span { start: (start + state.at) as u32, end: (start + end) as u32 });
        state.bulk = None;
        state.args_left -= 1;
        state.at = end + 2;
        state.line = state.at;
    }
    Ok(Step::Complete(start + state.at))
}

/// The line at `state.line`, its CR and LF left out; `None` when it is not complete. Moves past it.
#[inline]
fn next_line<'a>(
    limits: &Limits,
    state: &mut Pending,
    request: &'a [u8],
    too_long: ProtocolError,
) -> Result<Option<&'a [u8]>, ProtocolError> {
    let from = state.line;
    let end = request.len().min(from + limits.max_inline_bytes + 1);
    let found = memchr::memchr(b'\r', &request[state.at.min(end)..end]);
    let Some(found) = found else {
        if request.len() - from > limits.max_inline_bytes {
            return Err(too_long);
        }
        state.at = request.len();
        return Ok(None);
    };
    let cr = state.at + found;
    if request.len() < cr + 2 {
        state.at = cr;
        return Ok(None);
    }
    state.at = cr + 2;
    state.line = state.at;
    Ok(Some(&request[from..cr]))
}

#[inline]
fn arg_count(limits: &Limits, line: &[u8]) -> Result<usize, ProtocolError> {
    let count = parse_i64(&line[1..]).ok_or(ProtocolError::InvalidMultibulkLength)?;
    // Negative counts are empty requests.
    let count = usize::try_from(count).unwrap_or(0);
    if count <= limits.max_args {
        Ok(count)
    } else if limits.authenticated {
        Err(ProtocolError::InvalidMultibulkLength)
    } else {
        Err(ProtocolError::UnauthenticatedMultibulk)
    }
}

#[inline]
fn bulk_len(limits: &Limits, line: &[u8]) -> Result<usize, ProtocolError> {
    let digits = match line {
        [b'$', digits @ ..] => digits,
        [other, ..] => return Err(ProtocolError::ExpectedBulk(*other)),
        [] => return Err(ProtocolError::ExpectedBulk(b'\r')),
    };
    let len = parse_i64(digits).ok_or(ProtocolError::InvalidBulkLength)?;
    let len = usize::try_from(len).map_err(|_| ProtocolError::InvalidBulkLength)?;
    if len <= limits.max_bulk_bytes {
        Ok(len)
    } else if limits.authenticated {
        Err(ProtocolError::InvalidBulkLength)
    } else {
        Err(ProtocolError::UnauthenticatedBulk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Requests = Vec<Vec<Vec<u8>>>;

    fn collect(frames: &Frames, buf: &[u8]) -> Requests {
        (0..frames.len())
            .map(|i| frames.argv(i, buf).iter().map(<[u8]>::to_vec).collect())
            .collect()
    }

    /// Feeds `bytes` in pieces of `piece` bytes, as a connection would.
    fn feed(limits: Limits, bytes: &[u8], piece: usize) -> (Requests, Result<(), ProtocolError>) {
        let mut decoder = RequestDecoder::new(limits);
        let (mut buf, mut requests, mut frames) = (Vec::new(), Vec::new(), Frames::new());
        for piece in bytes.chunks(piece) {
            buf.extend_from_slice(piece);
            frames.clear();
            let outcome = decoder.decode(&buf, &mut frames, usize::MAX);
            requests.extend(collect(&frames, &buf));
            match outcome {
                Ok(consumed) => drop(buf.drain(..consumed)),
                Err(error) => return (requests, Err(error)),
            }
        }
        (requests, Ok(()))
    }

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split(' ').map(|w| w.as_bytes().to_vec()).collect()
    }

    #[test]
    fn requests_of_every_form_are_found_however_they_arrive() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n\r\n*0\r\n*-1\r\nPING\r\nget \"a b\"\n   \r\n*1\r\n$12\r\n\r\n*1\r\n$1\r\nx\n\r\n";
        let wanted: Requests = vec![
            vec![b"SET".to_vec(), b"k".to_vec(), vec![]],
            words("PING"),
            vec![b"get".to_vec(), b"a b".to_vec()],
            vec![b"\r\n*1\r\n$1\r\nx\n".to_vec()],
        ];
        for piece in 1..=bytes.len() {
            let found = feed(Limits::AUTHENTICATED, bytes, piece);
            assert_eq!(found, (wanted.clone(), Ok(())), "pieces of {piece}");
        }
    }

    #[test]
    fn refusals_are_worded_as_redis_words_them() {
        let long = |head: &str| format!("{head}{}", "1".repeat(70_000));
        let rows = [
            ("*x\r\n", "invalid multibulk length"),
            ("*\r\n", "invalid multibulk length"),
            ("*1048577\r\n", "invalid multibulk length"),
            ("*99999999999999999999\r\n", "invalid multibulk length"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$abc\r\n", "invalid bulk length"),
            ("*1\r\n$536870913\r\n", "invalid bulk length"),
            ("*1\r\n:3\r\n", "expected '$', got ':'"),
            ("get \"a\r\n", "unbalanced quotes in request"),
            ("get 'a'b\r\n", "unbalanced quotes in request"),
            (&long("a"), "too big inline request"),
            (&long("*"), "too big mbulk count string"),
            (&long("*1\r\n$"), "too big bulk count string"),
        ];
        for (bytes, wanted) in rows {
            for piece in [1, 7, bytes.len()] {
                let (requests, outcome) = feed(Limits::AUTHENTICATED, bytes.as_bytes(), piece);
                let text = outcome.map_err(|e| e.to_string());
                assert_eq!(text, Err(format!("ERR Protocol error: {wanted}")));
                assert!(requests.is_empty());
            }
        }
    }

    #[test]
    fn strangers_are_held_shorter() {
        let check = |bytes: &str| feed(Limits::UNAUTHENTICATED, bytes.as_bytes(), 3).1;
        assert_eq!(check("*11\r\n"), Err(ProtocolError::UnauthenticatedMultibulk));
        assert_eq!(check("*1\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedBulk));
        assert_eq!(check("*10\r\n$16384\r\n"), Ok(()));
    }

    #[test]
    fn a_request_as_a_whole_is_bounded() {
        let limits = Limits { max_query_bytes: 100, ..Limits::AUTHENTICATED };
        let bytes = b"*2\r\n$60\r\n".iter().copied().chain([b'x'; 60]).chain(*b"\r\n$60\r\n");
        let bytes: Vec<u8> = bytes.collect();
        assert_eq!(feed(limits, &bytes, 5).1, Err(ProtocolError::QueryTooLong));
    }

    #[test]
    fn requests_before_a_refusal_are_kept_and_the_decoder_stays_failed() {
        let mut decoder = RequestDecoder::new(Limits::AUTHENTICATED);
        let mut frames = Frames::new();
        let buf = b"PING\r\n*1\r\n+x\r\nPING\r\n";
        let error = ProtocolError::ExpectedBulk(b'+');
        assert_eq!(decoder.decode(buf, &mut frames, 9), Err(error));
        assert_eq!(collect(&frames, buf), [words("PING")]);
        assert_eq!(decoder.decode(b"PING\r\n", &mut frames, 9), Err(error));
    }

    #[test]
    fn batches_stop_where_they_are_told() {
        let mut decoder = RequestDecoder::new(Limits::AUTHENTICATED);
        let mut frames = Frames::new();
        let buf = b"a\r\nb\r\nc\r\n";
        assert_eq!(decoder.decode(buf, &mut frames, 2), Ok(6));
        assert_eq!(collect(&frames, buf), [words("a"), words("b")]);
    }

    #[test]
    fn a_large_argument_says_how_much_is_missing() {
        let mut decoder = RequestDecoder::new(Limits::AUTHENTICATED);
        let mut frames = Frames::new();
        let buf = b"*2\r\n$3\r\nGET\r\n$1000\r\nabc";
        assert_eq!(decoder.decode(buf, &mut frames, 9), Ok(0));
        assert_eq!(decoder.need_hint(buf.len()), 1000 + 2 - 3);
        assert!(frames.is_empty());
    }
}
