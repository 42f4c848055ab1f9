//! What must hold for any bytes whatever: one body a decoder, run by the fuzzer (`tests/fuzz`) and,
//! from a seed, by `cargo test`. Not for use: the bodies panic, that is their purpose.

use crate::glob;
use crate::op::{self, EntryRef};
use crate::resp::inline_split;
use crate::resp::{Frames, Limits, Proto, RequestDecoder, Value, ValueDecoder, Writer};

/// Small limits, so that a few bytes reach them.
const TIGHT: Limits = Limits {
    max_bulk_bytes: 300,
    max_args: 20,
    max_inline_bytes: 200,
    max_query_bytes: 2000,
    max_depth: 5,
    authenticated: false,
};

/// A request decoder finds the same requests and the same error however the bytes arrive, and holds
/// no more than the bytes account for.
pub fn requests(data: &[u8]) {
    let [control, cut, bytes @ ..] = data else { return };
    let limits = if control & 1 == 0 { Limits::AUTHENTICATED } else { TIGHT };
    let whole = feed_requests(limits, [bytes].into_iter());
    assert_eq!(whole, feed_requests(limits, bytes.chunks(1)), "byte by byte");
    let (front, back) = bytes.split_at(usize::from(*cut) * bytes.len() / 255);
    assert_eq!(whole, feed_requests(limits, [front, back].into_iter()), "in two pieces");
    let piece = usize::from(control >> 1) + 1;
    assert_eq!(whole, feed_requests(limits, bytes.chunks(piece)), "pieces of {piece}");
}

/// The requests found, and the text of the error that ended them.
type Requests = (Vec<Vec<Vec<u8>>>, Option<String>);

fn feed_requests<'a>(limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Requests {
    let mut decoder = RequestDecoder::new(limits);
    let (mut buf, mut frames, mut requests) = (Vec::new(), Frames::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        frames.clear();
        let outcome = decoder.decode(&buf, &mut frames, usize::MAX);
        for i in 0..frames.len() {
            let argv = frames.argv(i, &buf);
            assert!(!argv.is_empty());
            requests.push(argv.iter().map(<[u8]>::to_vec).collect());
        }
        match outcome {
            Err(error) => return (requests, Some(error.to_string())),
            Ok(consumed) => drop(buf.drain(..consumed)),
        }
        // An argument takes six bytes at least and eight to remember; a vector may double.
        assert!(decoder.held_bytes() <= 64 + buf.len() * 8 / 6 * 2, "{}", decoder.held_bytes());
    }
    (requests, None)
}

/// A value decoder finds the same replies however the bytes arrive, and reads back what they are
/// when written again.
pub fn values(data: &[u8]) {
    let [control, cut, bytes @ ..] = data else { return };
    let limits = if control & 1 == 0 { Limits::AUTHENTICATED } else { TIGHT };
    let whole = feed_values(limits, [bytes].into_iter());
    assert_eq!(whole, feed_values(limits, bytes.chunks(1)), "byte by byte");
    let (front, back) = bytes.split_at(usize::from(*cut) * bytes.len() / 255);
    assert_eq!(whole, feed_values(limits, [front, back].into_iter()), "in two pieces");
    let again = feed_values(Limits::AUTHENTICATED, [&whole.0[..]].into_iter());
    assert_eq!((&again.0, again.1), (&whole.0, None), "written again");
}

/// The replies found, written one after the other (NaN equals nothing, its text does), and the text
/// of the error that ended them.
fn feed_values<'a>(
    limits: Limits,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Option<String>) {
    let mut decoder = ValueDecoder::new(limits);
    let (mut buf, mut values) = (Vec::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&buf) {
                Err(error) => return (values, Some(error.to_string())),
                Ok((taken, value)) => {
                    buf.drain(..taken);
                    match value {
                        Some(value) => value.encode(&mut Writer::new(&mut values, Proto::Resp3)),
                        None => break,
                    }
                }
            }
        }
    }
    (values, None)
}

/// Whatever is read as an entry is written again as the same bytes, up to the first damage.
pub fn entries(data: &[u8]) {
    let Ok(entry) = EntryRef::decode(data) else { return };
    let mut again = Vec::new();
    op::encode_entry_header(&mut again, entry.header());
    for op in entry.ops() {
        let Ok(op) = op else { return };
        let argv = op.argv();
        let staged: Vec<_> =
            (0..argv.len()).filter_map(|i| op.staged(i).map(|id| (i, id))).collect();
        op::encode_op_staged(&mut again, op.command, op.db, argv, &staged);
        assert!(data.starts_with(&again));
    }
    assert_eq!(again.len(), data.len());
}

/// Words that are read from a line are read back when every byte of them is escaped.
pub fn inline(data: &[u8]) {
    let Some(words) = inline_split(data) else { return };
    let mut line = String::new();
    for word in &words {
        let escaped: String = word.iter().map(|b| format!("\\x{b:02x}")).collect();
        line.push_str(&format!("\"{escaped}\" "));
    }
    assert_eq!(inline_split(line.as_bytes()), Some(words));
}

/// A pattern matches what the definition says it matches.
pub fn globs(data: &[u8]) {
    let [len, rest @ ..] = data else { return };
    let (pattern, text) = rest.split_at(usize::from(*len).min(rest.len()).min(12));
    let text = &text[..text.len().min(12)];
    let starts = (0..=text.len()).filter(|_| pattern.first() == Some(&b'*'));
    let found = glob::matches(pattern, text, false);
    if text.is_empty() {
        assert_eq!(found, pattern.is_empty());
    } else if let Some((b'*', rest)) = pattern.split_first().map(|(b, rest)| (*b, rest)) {
        // A leading star matches if the rest matches any tail; stars match the empty tail.
        let mut starts = starts;
        let tail_matches = |tail: &[u8]| match tail {
            [] => rest.iter().all(|&byte| byte == b'*'),
            tail => glob::matches(rest, tail, false),
        };
        assert_eq!(found, starts.any(|from| tail_matches(&text[from..])));
    }
    let lower = |bytes: &[u8]| bytes.to_ascii_lowercase();
    if !pattern.iter().any(|b| matches!(b, b'[' | b'\\')) {
        assert_eq!(
            glob::matches(pattern, text, true),
            glob::matches(&lower(pattern), &lower(text), false)
        );
    }
}

/// A small generator (SplitMix64) for the seeded runs.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n as u64) as usize
    }

    /// Up to `max` bytes, mostly from the alphabet of the protocols.
    pub fn bytes(&mut self, max: usize) -> Vec<u8> {
        const ALPHABET: &[u8] = b"*$+-:_,#(!=%~>|0123456789\r\n\r\n \"'\\xatf?[]^";
        let len = self.below(max + 1);
        (0..len)
            .map(|_| match self.below(4) {
                0 => self.next_u64() as u8,
                _ => ALPHABET[self.below(ALPHABET.len())],
            })
            .collect()
    }

    /// Damages `bytes` in up to three places.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at..at, self.bytes(6))),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = self.bytes(1).first().copied().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Requests as clients send them, of both forms.
pub fn sample_requests(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=rng.below(4) {
        if rng.below(3) == 0 {
            out.extend(rng.bytes(20));
            out.extend_from_slice(b"\r\n");
            continue;
        }
        let args: Vec<Vec<u8>> = (0..rng.below(5)).map(|_| rng.bytes(12)).collect();
        crate::resp::encode::push_request(&mut out, args.iter().map(Vec::as_slice));
    }
    out
}

/// A reply of any type.
pub fn sample_value(rng: &mut Rng, depth: usize) -> Value {
    let text = |rng: &mut Rng| String::from_utf8_lossy(&rng.bytes(8)).replace(['\r', '\n'], " ");
    let items = |rng: &mut Rng| -> Vec<Value> {
        (0..rng.below(4)).map(|_| sample_value(rng, depth.saturating_sub(1))).collect()
    };
    match rng.below(if depth == 0 { 9 } else { 13 }) {
        0 => Value::Null,
        1 => Value::Simple(text(rng)),
        2 => Value::Error(text(rng)),
        3 => Value::Int(rng.next_u64() as i64 >> rng.below(64)),
        4 => Value::Bulk(rng.bytes(20)),
        5 => Value::Double(sample_double(rng)),
        6 => Value::Bool(rng.below(2) == 0),
        7 => Value::BigNumber(rng.next_u64().to_string()),
        8 => Value::Verbatim { format: *b"txt", text: text(rng) },
        9 => Value::Array(items(rng)),
        10 => Value::Set(items(rng)),
        11 => Value::Push(items(rng)),
        _ => {
            let keys = items(rng);
            Value::Map(keys.into_iter().map(|key| (key, sample_value(rng, depth - 1))).collect())
        }
    }
}

/// A double that is a number.
pub fn sample_double(rng: &mut Rng) -> f64 {
    match rng.below(3) {
        0 => (rng.next_u64() as i64 >> rng.below(64)) as f64,
        1 => (rng.next_u64() as i64 >> rng.below(64)) as f64 / 1000.0,
        _ => Some(f64::from_bits(rng.next_u64())).filter(|d| !d.is_nan()).unwrap_or(f64::INFINITY),
    }
}

/// An entry of a few operations, some with staged arguments.
pub fn sample_entry(rng: &mut Rng) -> Vec<u8> {
    use crate::command::CommandId;
    use crate::resp::Argv;
    let count = rng.below(4) as u32;
    let header = op::EntryHeader {
        engine_version: rng.next_u64() as u16,
        count,
        now_ms: rng.next_u64(),
        seed: rng.next_u64(),
    };
    let mut out = Vec::new();
    op::encode_entry_header(&mut out, &header);
    for _ in 0..count {
        let args: Vec<Vec<u8>> = (0..rng.below(5)).map(|_| rng.bytes(12)).collect();
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let staged: Vec<_> = match rng.below(3) {
            0 if !args.is_empty() => vec![(rng.below(args.len()), rng.next_u64())],
            _ => vec![],
        };
        let command = CommandId::ALL[rng.below(CommandId::ALL.len())];
        op::encode_op_staged(
            &mut out,
            command,
            rng.below(17) as u16,
            Argv::from(&args[..]),
            &staged,
        );
    }
    out
}
