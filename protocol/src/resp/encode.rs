//! Writing replies, in whichever protocol the connection speaks.
//!
//! Sources: the RESP specification pages; what RESP2 makes of RESP3's types is what Redis does
//! (maps and sets become arrays, doubles become bulk strings, booleans become 0 and 1).

use super::Proto;
use crate::error::WireError;
use crate::number::{IntText, MAX_INT_TEXT, push_f64, write_before};

/// Appends replies to a buffer, or to nothing.
///
/// A handler writes exactly one reply, or one header and as many elements as it announced.
pub struct Writer<'a> {
    out: Option<&'a mut Vec<u8>>,
    proto: Proto,
}

impl<'a> Writer<'a> {
    /// Replies go to the end of `buf`.
    #[must_use]
    pub fn new(buf: &'a mut Vec<u8>, proto: Proto) -> Self {
        Self { out: Some(buf), proto }
    }

    /// Drops everything: for replicas and for replay, where nobody waits for a reply.
    #[must_use]
    pub fn suppressed() -> Writer<'static> {
        Writer { out: None, proto: Proto::Resp2 }
    }

    /// Whether replies are dropped, so that work only done for the reply can be left out.
    #[must_use]
    pub fn is_suppressed(&self) -> bool {
        self.out.is_none()
    }

    /// The protocol the replies are in.
    #[must_use]
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// Where the next reply starts.
    #[must_use]
    pub fn position(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.len())
    }

    /// Takes back everything written since `position` was that.
    pub fn truncate_to(&mut self, position: usize) {
        if let Some(out) = &mut self.out {
            out.truncate(position);
        }
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.put(b"+OK\r\n");
    }

    /// A simple string; CR and LF become spaces.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error reply.
    pub fn error(&mut self, error: &WireError) {
        self.error_text(&error.text());
    }

    /// An error reply by its text, code first; CR and LF become spaces.
    pub fn error_text(&mut self, text: &str) {
        self.line(b'-', text.as_bytes());
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        if let Ok(digit @ 0..=9) = u8::try_from(value) {
            return self.put(&[b':', b'0' + digit, b'\r', b'\n']);
        }
        self.header(b':', value < 0, value.unsigned_abs());
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        if let Some(out) = &mut self.out {
            // One reservation for header, bytes and end: the growth checks after it are cheap.
            out.reserve(bytes.len() + 25);
        }
        self.bulk_header(bytes.len());
        self.put(bytes);
        self.end_bulk();
    }

    /// Starts a bulk string of `len` bytes, to come by [`Writer::raw`] and end with
    /// [`Writer::end_bulk`].
    #[inline]
    pub fn bulk_header(&mut self, len: usize) {
        if len < 10 {
            return self.put(&[b'$', b'0' + len as u8, b'\r', b'\n']);
        }
        self.header(b'$', false, len as u64);
    }

    /// Bytes as they are: a piece of a bulk string, or a reply encoded before.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }

    /// Ends a bulk string.
    #[inline]
    pub fn end_bulk(&mut self) {
        self.put(b"\r\n");
    }

    /// No value.
    pub fn null(&mut self) {
        self.by_proto(b"$-1\r\n", b"_\r\n");
    }

    /// No array: what RESP2 tells apart from no value.
    pub fn null_array(&mut self) {
        self.by_proto(b"*-1\r\n", b"_\r\n");
    }

    /// An array of `n` replies that follow.
    pub fn array(&mut self, n: usize) {
        self.aggregate(b'*', n);
    }

    /// A map of `n` pairs that follow; RESP2: an array of twice as many.
    pub fn map(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.aggregate(b'*', n * 2),
            Proto::Resp3 => self.aggregate(b'%', n),
        }
    }

    /// A set of `n` replies that follow; RESP2: an array.
    pub fn set(&mut self, n: usize) {
        self.aggregate(if self.proto == Proto::Resp2 { b'*' } else { b'~' }, n);
    }

    /// A push message of `n` elements that follow; RESP2: an array.
    pub fn push(&mut self, n: usize) {
        self.aggregate(if self.proto == Proto::Resp2 { b'*' } else { b'>' }, n);
    }

    /// Attributes of `n` pairs that follow, ahead of the reply they describe. Only RESP3 has them:
    /// returns whether to write the pairs.
    #[must_use]
    pub fn attribute(&mut self, n: usize) -> bool {
        if self.proto == Proto::Resp3 {
            self.aggregate(b'|', n);
        }
        self.proto == Proto::Resp3
    }

    /// A double; RESP2: its text as a bulk string.
    pub fn double(&mut self, value: f64) {
        let mut text = Vec::with_capacity(32);
        push_f64(&mut text, value);
        match self.proto {
            Proto::Resp2 => self.bulk(&text),
            Proto::Resp3 => self.line(b',', &text),
        }
    }

    /// A boolean; RESP2: 1 or 0.
    pub fn bool(&mut self, value: bool) {
        match (self.proto, value) {
            (Proto::Resp2, _) => self.int(value.into()),
            (Proto::Resp3, true) => self.put(b"#t\r\n"),
            (Proto::Resp3, false) => self.put(b"#f\r\n"),
        }
    }

    /// An integer of any size, as decimal text; RESP2: a bulk string.
    pub fn big_number(&mut self, digits: &str) {
        match self.proto {
            Proto::Resp2 => self.bulk(digits.as_bytes()),
            Proto::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// Text with a three-letter format such as `txt`; RESP2: a bulk string.
    pub fn verbatim(&mut self, format: &[u8; 3], text: &str) {
        if self.proto == Proto::Resp2 {
            return self.bulk(text.as_bytes());
        }
        self.header(b'=', false, text.len() as u64 + 4);
        self.put(format);
        self.put(b":");
        self.put(text.as_bytes());
        self.end_bulk();
    }

    /// An integer as a bulk string, as INCRBYFLOAT's and CONFIG GET's replies are.
    pub fn bulk_int(&mut self, value: i64) {
        self.bulk(IntText::signed(value).as_bytes());
    }

    fn aggregate(&mut self, kind: u8, n: usize) {
        self.header(kind, false, n as u64);
    }

    /// A line of a type and a number, built from its end and appended at once.
    #[inline]
    fn header(&mut self, kind: u8, negative: bool, magnitude: u64) {
        const DIGITS_END: usize = MAX_INT_TEXT + 2;
        let mut line = [0; DIGITS_END + 2];
        line[DIGITS_END..].copy_from_slice(b"\r\n");
        let mut start = write_before(&mut line, DIGITS_END, magnitude);
        if negative {
            start -= 1;
            line[start] = b'-';
        }
        start -= 1;
        line[start] = kind;
        self.put(&line[start..]);
    }

    /// A line of text: whatever would end it early becomes a space, as in Redis.
    fn line(&mut self, kind: u8, text: &[u8]) {
        let Some(out) = &mut self.out else { return };
        out.reserve(text.len() + 3);
        out.push(kind);
        out.extend(text.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
        out.extend_from_slice(b"\r\n");
    }

    fn by_proto(&mut self, resp2: &[u8], resp3: &[u8]) {
        match self.proto {
            Proto::Resp2 => self.put(resp2),
            Proto::Resp3 => self.put(resp3),
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a request as clients send it: an array of bulk strings.
pub fn push_request<'a>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut writer = Writer::new(out, Proto::Resp2);
    writer.array(args.len());
    for arg in args {
        writer.bulk(arg);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Writer<'_>)) -> [String; 2] {
        [Proto::Resp2, Proto::Resp3].map(|proto| {
            let mut out = Vec::new();
            write(&mut Writer::new(&mut out, proto));
            String::from_utf8(out).unwrap().replace("\r\n", "|")
        })
    }

    #[test]
    fn replies_look_as_each_protocol_wants_them() {
        type Row = (fn(&mut Writer<'_>), &'static str, &'static str);
        let rows: [Row; 24] = [
            (|w| w.ok(), "+OK|", "+OK|"),
            (|w| w.simple("PONG"), "+PONG|", "+PONG|"),
            (|w| w.error(&WireError::Syntax), "-ERR syntax error|", "-ERR syntax error|"),
            (|w| w.error_text("ERR a\r\nb"), "-ERR a  b|", "-ERR a  b|"),
            (|w| w.int(0), ":0|", ":0|"),
            (|w| w.int(-12), ":-12|", ":-12|"),
            (|w| w.int(i64::MIN), ":-9223372036854775808|", ":-9223372036854775808|"),
            (|w| w.bulk(b""), "$0||", "$0||"),
            (|w| w.bulk(b"0123456789"), "$10|0123456789|", "$10|0123456789|"),
            (|w| w.null(), "$-1|", "_|"),
            (|w| w.null_array(), "*-1|", "_|"),
            (|w| w.array(0), "*0|", "*0|"),
            (|w| w.map(2), "*4|", "%2|"),
            (|w| w.set(3), "*3|", "~3|"),
            (|w| w.push(1), "*1|", ">1|"),
            (|w| assert_eq!(w.attribute(1), w.proto() == Proto::Resp3), "", "|1|"),
            (|w| w.double(0.5), "$3|0.5|", ",0.5|"),
            (|w| w.double(f64::NEG_INFINITY), "$4|-inf|", ",-inf|"),
            (|w| w.bool(true), ":1|", "#t|"),
            (|w| w.bool(false), ":0|", "#f|"),
            (|w| w.big_number("123"), "$3|123|", "(123|"),
            (|w| w.verbatim(b"txt", "hi"), "$2|hi|", "=6|txt:hi|"),
            (|w| w.bulk_int(-5), "$2|-5|", "$2|-5|"),
            (
                |w| (w.bulk_header(3), w.raw(b"a"), w.raw(b"bc"), w.end_bulk()).3,
                "$3|abc|",
                "$3|abc|",
            ),
        ];
        for (i, (write, resp2, resp3)) in rows.into_iter().enumerate() {
            assert_eq!(both(write), [resp2, resp3], "row {i}");
        }
    }

    #[test]
    fn a_half_written_reply_is_taken_back() {
        let mut out = b"+OK\r\n".to_vec();
        let mut w = Writer::new(&mut out, Proto::Resp2);
        let start = w.position();
        w.array(3);
        w.bulk(b"a");
        w.truncate_to(start);
        w.error(&WireError::WrongType);
        assert!(out.starts_with(b"+OK\r\n-WRONGTYPE"));
    }

    #[test]
    fn a_suppressed_writer_drops_everything() {
        let mut w = Writer::suppressed();
        assert!(w.is_suppressed());
        w.bulk(b"x");
        w.error(&WireError::Syntax);
        w.truncate_to(0);
        assert_eq!(w.position(), 0);
    }

    #[test]
    fn requests_are_arrays_of_bulks() {
        let mut out = Vec::new();
        push_request(&mut out, [&b"GET"[..], b"k"].into_iter());
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
