//! The replicated operation: what the log holds and what every replica applies.
//!
//! An *entry* is the payload of one log record: a header and the operations of a batch. The header
//! carries all that apply may know beside the data: the time and the seed stamped by the proposer,
//! and the version of the engine that is meant. Operation `i` of an entry uses `seed + i`.
//! All integers are little-endian; reserved bytes are zero and are refused otherwise.
//!
//! ```text
//! entry        bytes   field
//!  0            1      version: 1
//!  1            1      reserved
//!  2            2      engine_version
//!  4            4      count of operations
//!  8            8      now_ms: milliseconds since the Unix epoch
//! 16            8      seed
//! 24            8      reserved: a client session's number, once answered requests are remembered
//! 32            ..     operations
//!
//! operation
//!  0            4      len: bytes of the operation, these four included
//!  4            2      command: a CommandId
//!  6            1      db
//!  7            1      flags: bit 0, some argument is staged
//!  8            4      argc
//! 12            4*argc end of each argument within the bytes that follow; bit 31: the argument is
//!                      the 8-byte id of one staged before
//! ..            ..     bytes of the arguments, the command's name first
//! ```

use std::fmt;

use crate::command::CommandId;
use crate::resp::Argv;

/// The version of the layout above.
pub const VERSION: u8 = 1;
/// Bytes of an entry's header.
pub const ENTRY_HEADER_BYTES: usize = 32;
/// Bytes of an operation before its table of ends.
pub const OP_HEADER_BYTES: usize = 12;
/// The longest an operation may be: larger arguments are staged first.
pub const OP_BYTES_MAX: usize = (1 << 31) - 1;

const FLAG_STAGED: u8 = 1;
const STAGED_BIT: u32 = crate::resp::STAGED_BIT;
const STAGE_ID_BYTES: usize = 8;

/// What an entry says of all its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The engine's behaviour that is meant, raised once every replica has it.
    pub engine_version: u16,
    /// How many operations follow.
    pub count: u32,
    /// Milliseconds since the Unix epoch, as the proposer's clock said.
    pub now_ms: u64,
    /// Where the operations' randomness comes from.
    pub seed: u64,
}

/// Appends an entry's header.
pub fn encode_entry_header(out: &mut Vec<u8>, header: &EntryHeader) {
    let mut bytes = [0; ENTRY_HEADER_BYTES];
    bytes[0] = VERSION;
    bytes[2..4].copy_from_slice(&header.engine_version.to_le_bytes());
    bytes[4..8].copy_from_slice(&header.count.to_le_bytes());
    bytes[8..16].copy_from_slice(&header.now_ms.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.seed.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends one operation.
///
/// # Panics
/// When it is longer than [`OP_BYTES_MAX`]: the proposer stages large arguments.
pub fn encode_op(out: &mut Vec<u8>, command: CommandId, db: u16, argv: Argv<'_>) {
    encode(out, command, db, argv, &[]);
}

/// Appends one operation, some of whose arguments were staged: `staged` holds the position and the
/// stage id of each, by rising position; what `argv` holds there is ignored.
///
/// # Panics
/// As [`encode_op`].
pub fn encode_op_staged(
    out: &mut Vec<u8>,
    command: CommandId,
    db: u16,
    argv: Argv<'_>,
    staged: &[(usize, u64)],
) {
    encode(out, command, db, argv, staged);
}

fn encode(out: &mut Vec<u8>, command: CommandId, db: u16, argv: Argv<'_>, staged: &[(usize, u64)]) {
    let start = out.len();
    let db = u8::try_from(db).expect("database numbers fit a byte");
    let [low, high] = command.number().to_le_bytes();
    let flags = if staged.is_empty() { 0 } else { FLAG_STAGED };
    out.extend_from_slice(&[0, 0, 0, 0, low, high, db, flags]);
    out.extend_from_slice(&(argv.len() as u32).to_le_bytes());
    if staged.is_empty() {
        push_args(out, argv);
    } else {
        push_args_staged(out, argv, staged);
    }
    let len = out.len() - start;
    assert!(len <= OP_BYTES_MAX, "an operation of {len} bytes must be staged");
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
}

/// The table of ends, then the bytes.
fn push_args(out: &mut Vec<u8>, argv: Argv<'_>) {
    let mut end = 0;
    for arg in argv.iter() {
        end += arg.len();
        out.extend_from_slice(&(end as u32).to_le_bytes());
    }
    out.reserve(end);
    argv.iter().for_each(|arg| out.extend_from_slice(arg));
}

/// The same with ids in the place of staged arguments.
fn push_args_staged(out: &mut Vec<u8>, argv: Argv<'_>, staged: &[(usize, u64)]) {
    let table = out.len();
    out.resize(table + argv.len() * 4, 0);
    let (body, mut staged) = (out.len(), staged.iter().peekable());
    for (i, arg) in argv.iter().enumerate() {
        let bit = match staged.next_if(|(position, _)| *position == i) {
            Some((_, id)) => {
                out.extend_from_slice(&id.to_le_bytes());
                STAGED_BIT
            }
            None => {
                out.extend_from_slice(arg);
                0
            }
        };
        let end = (out.len() - body) as u32 | bit;
        out[table + i * 4..][..4].copy_from_slice(&end.to_le_bytes());
    }
}

/// Why bytes are not an entry. Offsets are from the entry's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpError {
    /// Written by a newer build.
    Version {
        /// What the entry says.
        found: u8,
    },
    /// Reserved bytes or flags are set: a newer build wrote what this one would misread.
    Reserved {
        /// Where.
        offset: usize,
    },
    /// A command this build does not know.
    UnknownCommand {
        /// Its number.
        number: u16,
        /// Where.
        offset: usize,
    },
    /// Lengths that do not fit each other.
    Damaged {
        /// Where.
        offset: usize,
    },
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found } => write!(
                f,
                "log entry of format {found}, this build reads up to {VERSION}: start a newer node"
            ),
            Self::Reserved { offset } => write!(
                f,
                "log entry uses a field at byte {offset} that this build does not know: start a newer node"
            ),
            Self::UnknownCommand { number, offset } => write!(
                f,
                "log entry names command {number} at byte {offset}, unknown to this build: start a newer node"
            ),
            Self::Damaged { offset } => {
                write!(f, "log entry is damaged at byte {offset}: repair the replica from a peer")
            }
        }
    }
}

impl std::error::Error for OpError {}

/// An entry, borrowed from a log record.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    header: EntryHeader,
    body: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// Reads the header; the operations are checked as [`EntryRef::ops`] reaches them.
    ///
    /// # Errors
    /// See [`OpError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, OpError> {
        let Some((head, body)) = bytes.split_first_chunk::<ENTRY_HEADER_BYTES>() else {
            return Err(OpError::Damaged { offset: bytes.len() });
        };
        if head[0] != VERSION {
            return Err(OpError::Version { found: head[0] });
        }
        for offset in std::iter::once(1).chain(24..ENTRY_HEADER_BYTES) {
            if head[offset] != 0 {
                return Err(OpError::Reserved { offset });
            }
        }
        let header = EntryHeader {
            engine_version: u16::from_le_bytes([head[2], head[3]]),
            count: u32_at(head, 4).unwrap_or_default(),
            now_ms: u64_at(head, 8).unwrap_or_default(),
            seed: u64_at(head, 16).unwrap_or_default(),
        };
        Ok(Self { header, body })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// The operations in order. After an error there are no more: what follows means nothing.
    #[must_use]
    pub fn ops(&self) -> Ops<'a> {
        Ops { left: Some(self.header.count), body: self.body, at: 0, stopped: false }
    }
}

/// The operations that fill `body`, back to back: those of a transaction. Offsets of errors are as
/// if an entry's header stood before it.
#[must_use]
pub fn operations(body: &[u8]) -> Ops<'_> {
    Ops { left: None, body, at: 0, stopped: false }
}

/// The operations of an entry, or of a transaction.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    /// How many there must still be; None: as many as there are.
    left: Option<u32>,
    body: &'a [u8],
    at: usize,
    stopped: bool,
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<OpRef<'a>, OpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.body[self.at..];
        let offset = ENTRY_HEADER_BYTES + self.at;
        if self.stopped || rest.is_empty() && self.left.is_none_or(|left| left == 0) {
            return None;
        }
        let op = match self.left {
            Some(0) => Err(OpError::Damaged { offset }),
            _ => OpRef::split_first(rest, offset),
        };
        match op {
            Ok((op, len)) => {
                self.at += len;
                self.left = self.left.map(|left| left - 1);
                Some(Ok(op))
            }
            Err(error) => {
                self.stopped = true;
                Some(Err(error))
            }
        }
    }
}

/// One operation, borrowed from an entry.
#[derive(Clone, Copy, Debug)]
pub struct OpRef<'a> {
    /// What to do.
    pub command: CommandId,
    /// The database, as SELECT chose it; 16 holds staged arguments.
    pub db: u16,
    flags: u8,
    ends: &'a [[u8; 4]],
    bytes: &'a [u8],
}

impl<'a> OpRef<'a> {
    /// Reads one operation that fills `bytes`.
    ///
    /// # Errors
    /// See [`OpError`]; offsets count from the operation.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, OpError> {
        let (op, len) = Self::split_first(bytes, 0)?;
        if len == bytes.len() { Ok(op) } else { Err(OpError::Damaged { offset: len }) }
    }

    /// Reads the operation at the front of `bytes`, which lies at `offset`; also its length.
    fn split_first(bytes: &'a [u8], offset: usize) -> Result<(Self, usize), OpError> {
        let damaged = |at: usize| OpError::Damaged { offset: offset + at };
        let len = u32_at(bytes, 0).ok_or(damaged(0))? as usize;
        let op = bytes.get(..len).ok_or(damaged(0))?;
        let (head, rest) = op.split_first_chunk::<OP_HEADER_BYTES>().ok_or(damaged(0))?;
        let number = u16::from_le_bytes([head[4], head[5]]);
        let flags = head[7];
        if flags & !FLAG_STAGED != 0 {
            return Err(OpError::Reserved { offset: offset + 7 });
        }
        let command = CommandId::from_u16(number)
            .ok_or(OpError::UnknownCommand { number, offset: offset + 4 })?;
        let argc = u32_at(head, 8).unwrap_or_default() as usize;
        let table = argc.checked_mul(4).and_then(|n| rest.split_at_checked(n));
        let (ends, bytes) = table.ok_or(damaged(8))?;
        let ends = ends.as_chunks::<4>().0;
        let op = Self { command, db: head[6].into(), flags, ends, bytes };
        op.check_ends().map_err(|i| damaged(OP_HEADER_BYTES + i * 4))?;
        Ok((op, len))
    }

    /// The ends rise, stay within the bytes and use them up; staged arguments are ids and are
    /// announced by the flag. `Err` holds the first position that does not fit.
    fn check_ends(&self) -> Result<(), usize> {
        let (mut start, mut staged) = (0, false);
        for (i, end) in self.ends.iter().enumerate() {
            let raw = u32::from_le_bytes(*end);
            let end = (raw & !STAGED_BIT) as usize;
            let is_staged = raw & STAGED_BIT != 0;
            if end < start || is_staged && end - start != STAGE_ID_BYTES {
                return Err(i);
            }
            staged |= is_staged;
            start = end;
        }
        if start != self.bytes.len() || staged != self.has_staged() {
            return Err(self.ends.len());
        }
        Ok(())
    }

    /// The arguments, the command's name first. A staged one reads as the bytes of its id.
    #[must_use]
    #[inline]
    pub fn argv(&self) -> Argv<'a> {
        Argv::encoded(self.ends, self.bytes)
    }

    /// Whether some argument is staged.
    #[must_use]
    #[inline]
    pub fn has_staged(&self) -> bool {
        self.flags & FLAG_STAGED != 0
    }

    /// The stage id of argument `i`, if that is staged.
    #[must_use]
    pub fn staged(&self, i: usize) -> Option<u64> {
        let raw = u32::from_le_bytes(*self.ends.get(i)?);
        if raw & STAGED_BIT == 0 {
            return None;
        }
        u64_at(self.argv().get(i)?, 0)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: EntryHeader =
        EntryHeader { engine_version: 3, count: 2, now_ms: 0x0102_0304_0506, seed: 77 };

    fn entry() -> Vec<u8> {
        let mut out = Vec::new();
        encode_entry_header(&mut out, &HEADER);
        encode_op(&mut out, CommandId::Set, 5, Argv::from(&[&b"SET"[..], b"key", b""]));
        let staged: [&[u8]; 3] = [b"set", b"k", b"ignored"];
        encode_op_staged(&mut out, CommandId::Set, 0, Argv::from(&staged), &[(2, 0xabcd)]);
        out
    }

    #[test]
    fn entries_come_back_as_they_went() {
        let bytes = entry();
        let decoded = EntryRef::decode(&bytes).unwrap();
        assert_eq!(decoded.header(), &HEADER);
        let ops: Vec<_> = decoded.ops().collect::<Result<_, _>>().unwrap();
        assert_eq!(ops.len(), 2);
        assert_eq!((ops[0].command, ops[0].db), (CommandId::Set, 5));
        assert_eq!(ops[0].argv(), Argv::from(&[&b"SET"[..], b"key", b""]));
        assert!(!ops[0].has_staged());
        assert_eq!(ops[0].staged(2), None);
        assert!(ops[1].has_staged());
        assert_eq!((ops[1].staged(1), ops[1].staged(2)), (None, Some(0xabcd)));
        assert_eq!(&ops[1].argv()[1], b"k");
    }

    #[test]
    fn bytes_are_those_of_the_table() {
        let mut out = Vec::new();
        encode_op(&mut out, CommandId::Del, 2, Argv::from(&[&b"del"[..], b"ab"]));
        let wanted: [&[u8]; 6] = [
            &[25, 0, 0, 0],
            &[100, 0, 2, 0],
            &[2, 0, 0, 0],
            &[3, 0, 0, 0],
            &[5, 0, 0, 0],
            b"delab",
        ];
        assert_eq!(out, wanted.concat());
        let mut out = Vec::new();
        encode_entry_header(&mut out, &HEADER);
        let wanted: [&[u8]; 5] = [
            &[1, 0, 3, 0, 2, 0, 0, 0],
            &[6, 5, 4, 3, 2, 1, 0, 0],
            &[77, 0, 0, 0, 0, 0, 0, 0],
            &[0; 8],
            &[],
        ];
        assert_eq!(out, wanted.concat());
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = entry();
        for end in 0..bytes.len() {
            let outcome =
                EntryRef::decode(&bytes[..end]).and_then(|e| e.ops().try_for_each(|o| o.map(drop)));
            assert!(matches!(outcome, Err(OpError::Damaged { .. })), "cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let outcome = EntryRef::decode(&longer).unwrap().ops().last().unwrap();
        assert_eq!(outcome.unwrap_err(), OpError::Damaged { offset: bytes.len() });
    }

    #[test]
    fn what_this_build_cannot_mean_is_refused() {
        let broken = |at: usize, byte: u8| {
            let mut bytes = entry();
            bytes[at] = byte;
            EntryRef::decode(&bytes)
                .and_then(|e| e.ops().try_for_each(|o| o.map(drop)))
                .unwrap_err()
        };
        assert_eq!(broken(0, 2), OpError::Version { found: 2 });
        assert_eq!(broken(1, 1), OpError::Reserved { offset: 1 });
        assert_eq!(broken(31, 1), OpError::Reserved { offset: 31 });
        assert_eq!(broken(37, 0x7f), OpError::UnknownCommand { number: 0x7f02, offset: 36 });
        assert_eq!(broken(39, 2), OpError::Reserved { offset: 39 });
        assert_eq!(
            broken(39, 1),
            OpError::Damaged { offset: 56 },
            "flag without a staged argument"
        );
        assert_eq!(broken(43, 0xff), OpError::Damaged { offset: 40 }, "argc beyond the operation");
        assert_eq!(broken(44, 200), OpError::Damaged { offset: 48 }, "ends that fall");
        assert_eq!(broken(32, 0), OpError::Damaged { offset: 32 });
    }
}
