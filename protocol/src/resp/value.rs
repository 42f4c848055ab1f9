//! Replies as a client reads them: both protocols, resumable, without recursion, bounded.
//!
//! Sources: the RESP and RESP3 specifications. Streamed strings and aggregates, which no server of
//! the family sends, are refused. Attributes are read and dropped: they describe a reply and are
//! not part of it.

use std::fmt;

use super::encode::Writer;
use super::limits::Limits;
use crate::error::WireError;
use crate::number::{parse_f64, parse_i64};

/// A reply. Text that is not UTF-8 is repaired: only bulk strings carry arbitrary bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value, no array.
    Null,
    /// A status such as `OK`.
    Simple(String),
    /// An error, code first.
    Error(String),
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// Pairs, in the order sent.
    Map(Vec<(Value, Value)>),
    /// A set, in the order sent.
    Set(Vec<Value>),
    /// A message that answers no request.
    Push(Vec<Value>),
    /// A floating point number.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// An integer of any size, in decimal.
    BigNumber(String),
    /// Text with its format.
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: String,
    },
}

impl Value {
    /// Writes the value as a server would.
    pub fn encode(&self, out: &mut Writer<'_>) {
        match self {
            Self::Null => out.null(),
            Self::Simple(text) => out.simple(text),
            Self::Error(text) => out.error_text(text),
            Self::Int(value) => out.int(*value),
            Self::Bulk(bytes) => out.bulk(bytes),
            Self::Array(items) => encode_all(out, |w, n| w.array(n), items),
            Self::Set(items) => encode_all(out, |w, n| w.set(n), items),
            Self::Push(items) => encode_all(out, |w, n| w.push(n), items),
            Self::Map(pairs) => {
                out.map(pairs.len());
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
            }
            Self::Double(value) => out.double(*value),
            Self::Bool(value) => out.bool(*value),
            Self::BigNumber(digits) => out.big_number(digits),
            Self::Verbatim { format, text } => out.verbatim(format, text),
        }
    }

    /// The bytes of a string of any kind.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Simple(text) | Self::BigNumber(text) | Self::Verbatim { text, .. } => {
                Some(text.as_bytes())
            }
            _ => None,
        }
    }
}

fn encode_all(out: &mut Writer<'_>, header: fn(&mut Writer<'_>, usize), items: &[Value]) {
    header(out, items.len());
    items.iter().for_each(|item| item.encode(out));
}

impl From<&WireError> for Value {
    fn from(error: &WireError) -> Self {
        Self::Error(error.text().into_owned())
    }
}

/// Why a server's bytes are no reply. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// A first byte that names no type.
    UnknownType(u8),
    /// A length, number, boolean or null that is not one, or a missing terminator.
    Malformed(&'static str),
    /// More than `Limits` allows.
    TooLarge(&'static str),
    /// Aggregates within each other beyond `Limits::max_depth`.
    TooDeep,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => write!(f, "reply starts with '{}'", byte.escape_ascii()),
            Self::Malformed(what) => write!(f, "malformed {what} in a reply"),
            Self::TooLarge(what) => write!(f, "too large {what} in a reply"),
            Self::TooDeep => f.write_str("a reply is nested too deeply"),
        }
    }
}

impl std::error::Error for ValueError {}

/// Builds replies from what a connection receives, piece by piece: aggregates that are not complete
/// are kept here, so their bytes need not stay in the buffer.
#[derive(Debug)]
pub struct ValueDecoder {
    limits: Limits,
    /// Aggregates that miss elements, the outermost first.
    open: Vec<Open>,
    /// How much of the line at the front has been searched for its end.
    searched: usize,
    failed: Option<ValueError>,
}

#[derive(Debug)]
struct Open {
    kind: Aggregate,
    left: usize,
    items: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Array,
    Set,
    Push,
    Map,
    /// Dropped once complete.
    Attribute,
}

/// One thing read from the front of the buffer.
enum Item {
    Value(Value),
    Open(Aggregate, usize),
}

impl ValueDecoder {
    /// Starts at a connection's first byte.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Vec::new(), searched: 0, failed: None }
    }

    /// Reads from the front of `buf` until a reply is complete or the bytes run out. Returns how
    /// many bytes were taken, which the caller drops before the next call, and the reply.
    ///
    /// # Errors
    /// The server broke the protocol; the decoder stays failed.
    pub fn decode(&mut self, buf: &[u8]) -> Result<(usize, Option<Value>), ValueError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut at = 0;
        loop {
            match self.item(&buf[at..]) {
                Ok(None) => return Ok((at, None)),
                Ok(Some((item, len))) => {
                    at += len;
                    self.searched = 0;
                    match self.accept(item) {
                        Ok(None) => {}
                        Ok(reply) => return Ok((at, reply)),
                        Err(error) => return self.fail(error),
                    }
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn fail<T>(&mut self, error: ValueError) -> Result<T, ValueError> {
        self.failed = Some(error);
        self.open = Vec::new();
        Err(error)
    }

    /// Puts an item where it belongs and closes what it completes.
    fn accept(&mut self, item: Item) -> Result<Option<Value>, ValueError> {
        let mut value = match item {
            Item::Open(kind, left) if left > 0 => {
                if self.open.len() >= self.limits.max_depth {
                    return Err(ValueError::TooDeep);
                }
                self.open.push(Open { kind, left, items: Vec::new() });
                return Ok(None);
            }
            Item::Open(kind, _) => match kind.close(Vec::new()) {
                Some(empty) => empty,
                None => return Ok(None),
            },
            Item::Value(value) => value,
        };
        while let Some(mut last) = self.open.pop() {
            last.items.push(value);
            last.left -= 1;
            if last.left > 0 {
                self.open.push(last);
                return Ok(None);
            }
            match last.kind.close(last.items) {
                Some(closed) => value = closed,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// Reads one item; `None` when it is not complete.
    fn item(&mut self, buf: &[u8]) -> Result<Option<(Item, usize)>, ValueError> {
        let Some(line_len) = self.line_len(buf)? else { return Ok(None) };
        let (kind, text, next) = (buf[0], &buf[1..line_len], line_len + 2);
        let item = match kind {
            b'$' | b'!' | b'=' => return self.sized(kind, text, buf, next),
            b'*' | b'~' | b'>' | b'%' | b'|' => self.aggregate(kind, text)?,
            _ => Item::Value(scalar(kind, text)?),
        };
        Ok(Some((item, next)))
    }

    /// Where the line at the front ends, its CR and LF not counted.
    fn line_len(&mut self, buf: &[u8]) -> Result<Option<usize>, ValueError> {
        let Some(found) = memchr::memchr(b'\r', &buf[self.searched.min(buf.len())..]) else {
            // Errors and statuses are lines too, but no server sends one beyond this.
            if buf.len() > self.limits.max_inline_bytes {
                return Err(ValueError::TooLarge("line"));
            }
            self.searched = buf.len();
            return Ok(None);
        };
        let cr = self.searched + found;
        self.searched = cr;
        if cr == 0 {
            return Err(ValueError::UnknownType(b'\r'));
        }
        if cr > self.limits.max_inline_bytes {
            return Err(ValueError::TooLarge("line"));
        }
        match buf.get(cr + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(cr)),
            Some(_) => Err(ValueError::Malformed("line")),
        }
    }

    /// A string whose length stands before it.
    fn sized(
        &self,
        kind: u8,
        text: &[u8],
        buf: &[u8],
        start: usize,
    ) -> Result<Option<(Item, usize)>, ValueError> {
        let len = match parse_i64(text).ok_or(ValueError::Malformed("length"))? {
            -1 if kind == b'$' => return Ok(Some((Item::Value(Value::Null), start))),
            len => usize::try_from(len).map_err(|_| ValueError::Malformed("length"))?,
        };
        if len > self.limits.max_bulk_bytes {
            return Err(ValueError::TooLarge("string"));
        }
        let Some(bytes) = buf.get(start..start + len) else { return Ok(None) };
        match buf.get(start + len..start + len + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err(ValueError::Malformed("string's end")),
        }
        let value = match kind {
            b'$' => Value::Bulk(bytes.to_vec()),
            b'!' => Value::Error(string(bytes)),
            _ => verbatim(bytes)?,
        };
        Ok(Some((Item::Value(value), start + len + 2)))
    }

    fn aggregate(&self, kind: u8, text: &[u8]) -> Result<Item, ValueError> {
        let len = match parse_i64(text).ok_or(ValueError::Malformed("length"))? {
            -1 if kind == b'*' => return Ok(Item::Value(Value::Null)),
            len => usize::try_from(len).map_err(|_| ValueError::Malformed("length"))?,
        };
        if len > self.limits.max_args {
            return Err(ValueError::TooLarge("aggregate"));
        }
        Ok(match kind {
            b'*' => Item::Open(Aggregate::Array, len),
            b'~' => Item::Open(Aggregate::Set, len),
            b'>' => Item::Open(Aggregate::Push, len),
            b'%' => Item::Open(Aggregate::Map, len * 2),
            _ => Item::Open(Aggregate::Attribute, len * 2),
        })
    }
}

impl Aggregate {
    /// The value of a complete aggregate; `None` for attributes.
    fn close(self, items: Vec<Value>) -> Option<Value> {
        Some(match self {
            Self::Array => Value::Array(items),
            Self::Set => Value::Set(items),
            Self::Push => Value::Push(items),
            Self::Map => Value::Map(pairs(items)),
            Self::Attribute => return None,
        })
    }
}

fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn scalar(kind: u8, text: &[u8]) -> Result<Value, ValueError> {
    Ok(match kind {
        b'+' => Value::Simple(string(text)),
        b'-' => Value::Error(string(text)),
        b':' => Value::Int(integer(text).ok_or(ValueError::Malformed("integer"))?),
        b'_' if text.is_empty() => Value::Null,
        b',' => Value::Double(double(text).ok_or(ValueError::Malformed("double"))?),
        b'#' => match text {
            b"t" => Value::Bool(true),
            b"f" => Value::Bool(false),
            _ => return Err(ValueError::Malformed("boolean")),
        },
        b'(' => Value::BigNumber(big_number(text).ok_or(ValueError::Malformed("big number"))?),
        b'_' => return Err(ValueError::Malformed("null")),
        other => return Err(ValueError::UnknownType(other)),
    })
}

/// The specification allows a plus sign that servers do not send.
fn integer(text: &[u8]) -> Option<i64> {
    parse_i64(text.strip_prefix(b"+").unwrap_or(text))
}

fn double(text: &[u8]) -> Option<f64> {
    match text {
        b"nan" | b"-nan" => Some(f64::NAN),
        _ => parse_f64(text),
    }
}

fn big_number(text: &[u8]) -> Option<String> {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| string(text))
}

fn verbatim(bytes: &[u8]) -> Result<Value, ValueError> {
    match bytes {
        [a, b, c, b':', text @ ..] => {
            Ok(Value::Verbatim { format: [*a, *b, *c], text: string(text) })
        }
        _ => Err(ValueError::Malformed("verbatim string")),
    }
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Proto;
    use super::*;

    /// Feeds `bytes` in pieces of `piece` bytes, as a connection would.
    fn feed(limits: Limits, bytes: &[u8], piece: usize) -> Result<Vec<Value>, ValueError> {
        let mut decoder = ValueDecoder::new(limits);
        let (mut buf, mut values) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buf.extend_from_slice(piece);
            loop {
                let (taken, value) = decoder.decode(&buf)?;
                buf.drain(..taken);
                match value {
                    Some(value) => values.push(value),
                    None => break,
                }
            }
        }
        Ok(values)
    }

    fn samples() -> Vec<Value> {
        let bulk = |s: &str| Value::Bulk(s.as_bytes().to_vec());
        vec![
            Value::Null,
            Value::Simple("OK".into()),
            Value::Error("ERR syntax error".into()),
            Value::Int(-42),
            bulk(""),
            bulk("a\r\nb"),
            Value::Array(vec![]),
            Value::Map(vec![]),
            Value::Array(vec![
                Value::Int(1),
                Value::Array(vec![bulk("x"), Value::Null]),
                bulk("y"),
            ]),
            Value::Map(vec![
                (bulk("k"), Value::Set(vec![Value::Bool(true)])),
                (bulk("l"), Value::Null),
            ]),
            Value::Push(vec![bulk("invalidate"), Value::Null]),
            Value::Double(0.25),
            Value::Double(f64::NEG_INFINITY),
            Value::Bool(false),
            Value::BigNumber("-3492890328409238509324850943850943825024385".into()),
            Value::Verbatim { format: *b"txt", text: "some\r\ntext".into() },
        ]
    }

    #[test]
    fn what_a_server_writes_is_read_back_however_it_arrives() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Proto::Resp3);
        samples().iter().for_each(|value| value.encode(&mut writer));
        for piece in 1..=bytes.len() {
            assert_eq!(feed(Limits::default(), &bytes, piece), Ok(samples()), "pieces of {piece}");
        }
    }

    #[test]
    fn forms_that_only_some_servers_send_are_read() {
        let rows: [(&str, Value); 8] = [
            ("$-1\r\n", Value::Null),
            ("*-1\r\n", Value::Null),
            (":+7\r\n", Value::Int(7)),
            ("!8\r\nERR a\r\nb\r\n", Value::Error("ERR a\r\nb".into())),
            ("|1\r\n+ttl\r\n:3\r\n:5\r\n", Value::Int(5)),
            (
                "*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:5\r\n:6\r\n",
                Value::Array(vec![Value::Int(5), Value::Int(6)]),
            ),
            ("|0\r\n*0\r\n", Value::Array(vec![])),
            (",1e3\r\n", Value::Double(1000.0)),
        ];
        for (bytes, wanted) in rows {
            for piece in [1, bytes.len()] {
                assert_eq!(
                    feed(Limits::default(), bytes.as_bytes(), piece),
                    Ok(vec![wanted.clone()])
                );
            }
        }
        assert!(
            matches!(&feed(Limits::default(), b",nan\r\n", 1).unwrap()[..], [Value::Double(d)] if d.is_nan())
        );
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let limits =
            Limits { max_bulk_bytes: 100, max_args: 10, max_depth: 3, ..Limits::default() };
        let long = format!("+{}", "x".repeat(70_000));
        let rows: [(&str, ValueError); 19] = [
            ("x\r\n", ValueError::UnknownType(b'x')),
            ("\r\n", ValueError::UnknownType(b'\r')),
            (":1a\r\n", ValueError::Malformed("integer")),
            ("$-2\r\n", ValueError::Malformed("length")),
            ("$?\r\n", ValueError::Malformed("length")),
            ("*-2\r\n", ValueError::Malformed("length")),
            ("%-1\r\n", ValueError::Malformed("length")),
            ("$101\r\n", ValueError::TooLarge("string")),
            ("*11\r\n", ValueError::TooLarge("aggregate")),
            ("%9223372036854775807\r\n", ValueError::TooLarge("aggregate")),
            (&long, ValueError::TooLarge("line")),
            ("*1\r\n*1\r\n*1\r\n*1\r\n", ValueError::TooDeep),
            ("$1\r\nabc", ValueError::Malformed("string's end")),
            ("+a\rb", ValueError::Malformed("line")),
            ("#x\r\n", ValueError::Malformed("boolean")),
            ("_x\r\n", ValueError::Malformed("null")),
            ("(1.5\r\n", ValueError::Malformed("big number")),
            (",x\r\n", ValueError::Malformed("double")),
            ("=3\r\ntxt\r\n", ValueError::Malformed("verbatim string")),
        ];
        for (bytes, wanted) in rows {
            for piece in [1, bytes.len()] {
                assert_eq!(feed(limits, bytes.as_bytes(), piece), Err(wanted), "{bytes:.20}");
            }
        }
    }

    #[test]
    fn claims_take_no_memory() {
        let mut decoder = ValueDecoder::new(Limits::default());
        let claim = b"*1048576\r\n".repeat(100);
        assert_eq!(decoder.decode(&claim), Ok((claim.len(), None)));
        assert!(decoder.open.iter().all(|open| open.items.capacity() == 0));
    }
}
