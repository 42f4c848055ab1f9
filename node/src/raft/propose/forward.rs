//! A batch as it travels to its shard's leader, and its replies on their way back.
//!
//! The steps, in order: a byte (0 write, 1 read, 2 a reply that is known already; +128: the reply is
//! dropped), the length as a u32, the bytes. Replies come back as they go to the client. Those of a
//! transaction that was pushed alone begin with how many there are (u32) and where each ends (u32).
//! All little-endian.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::{At, Effects, Engine, Fatal, Transaction, is_wide};
use cairn_protocol::cluster::message::{Forward, ForwardKind};
use cairn_protocol::command::{CommandId, Place};
use cairn_protocol::op::OpRef;
use cairn_protocol::resp::{Proto, Writer};

use super::{Batch, Guard, Located, Source, Step, read, split_off};
use crate::raft::long_read::{LongRead, Pinned};
use crate::raft::rest::{Answer, Part};
use crate::raft::runtime::Instant;

/// The batch is one transaction, whose replies are wanted one by one.
pub const ALONE: u32 = 1;
/// It is proposed only if what its session watches did not change.
pub const GUARDED: u32 = 2;
/// The operations are WATCH commands, for the session to remember.
pub const WATCH: u32 = 4;
/// The session is over, or watches nothing any more.
pub const FORGET: u32 = 8;
/// The next piece of a long answer is asked for; the session is its ticket.
pub const REST: u32 = 16;
/// How many other members have an entry is asked: the payload is its index (u64), or nothing for the
/// last that is applied; the answer's count says it, and its payload is that index.
pub const STEP: u32 = 32;
/// The next piece of a long answer will be asked for, if late; the session is its ticket.
pub const KEEP: u32 = 64;
/// In an answer: the transaction was not proposed.
pub const BROKEN: u32 = 1;
/// In an answer: it is the first piece, and the ticket for the next stands before it.
pub const MORE: u32 = 2;

const SILENT: u8 = 128;
const HEAD: usize = 5;

/// A read that takes long, before it is pinned.
pub struct PutOff {
    op: Vec<u8>,
    at: At,
    silent: bool,
}

/// Steps that no batch of this build consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

fn unreadable(what: impl std::fmt::Display) -> Unreadable {
    Unreadable(format!("forwarded commands cannot be read: {what}"))
}

impl Batch {
    /// Whether it writes nothing.
    pub fn is_read_only(&self) -> bool {
        self.write_count == 0
    }

    /// What asks the leader to execute it, for the client's connection `session`.
    pub fn pack(&self, session: u64) -> Forward {
        let held = self.steps.len() * HEAD + self.held_bytes();
        let mut payload = Vec::with_capacity(held);
        let (mut writes, mut reads, mut raw) = (&self.writes[..], &self.reads[..], &self.raw[..]);
        for step in &self.steps {
            let (tag, from) = match step.source {
                Source::Write => (0, &mut writes),
                Source::Read => (1, &mut reads),
                Source::Raw => (2, &mut raw),
            };
            payload.push(tag | if step.silent { SILENT } else { 0 });
            payload.extend_from_slice(&step.len.to_le_bytes());
            payload.extend_from_slice(split_off(from, step.len));
        }
        let kind = if self.is_read_only() { ForwardKind::Read } else { ForwardKind::Write };
        let alone = if self.split.is_some() { ALONE } else { 0 };
        let guarded = if self.guard.is_some() { GUARDED } else { 0 };
        Forward {
            kind,
            session,
            sequence: 0,
            resp: if self.proto == Proto::Resp3 { 3 } else { 2 },
            flags: alone | guarded,
            count: u32::try_from(self.steps.len()).unwrap_or(u32::MAX),
            payload: Bytes::from(payload),
        }
    }

    /// Fills an empty batch with what another node has packed; `guard` is that of its session.
    ///
    /// # Errors
    /// [`Unreadable`]; the batch is of no use then.
    pub fn unpack(&mut self, forward: &Forward, guard: Option<Guard>) -> Result<(), Unreadable> {
        self.set_proto(if forward.resp == 3 { Proto::Resp3 } else { Proto::Resp2 });
        let mut rest = &forward.payload[..];
        while !rest.is_empty() {
            let (head, tail) =
                rest.split_first_chunk::<HEAD>().ok_or_else(|| unreadable("cut short"))?;
            let [tag, a, b, c, d] = *head;
            let len = u32::from_le_bytes([a, b, c, d]);
            let bytes = tail.get(..len as usize).ok_or_else(|| unreadable("cut short"))?;
            rest = &tail[len as usize..];
            self.unpack_step(tag, len, bytes)?;
        }
        if forward.flags & ALONE != 0 {
            self.split = Some(Vec::new());
        }
        self.guard = guard;
        Ok(())
    }

    fn unpack_step(&mut self, tag: u8, len: u32, bytes: &[u8]) -> Result<(), Unreadable> {
        let silent = tag & SILENT != 0;
        let (source, to) = match tag & !SILENT {
            0 => (Source::Write, &mut self.writes),
            1 => (Source::Read, &mut self.reads),
            2 => (Source::Raw, &mut self.raw),
            other => return Err(unreadable(format_args!("step {other}"))),
        };
        to.extend_from_slice(bytes);
        self.steps.push(Step { source, silent, len });
        if source == Source::Raw {
            return Ok(());
        }
        let op = OpRef::decode(bytes).map_err(unreadable)?;
        let spec = op.command.spec();
        if source == Source::Read {
            if spec.place != Place::Read || !spec.accepts(op.argv().len()) {
                return Err(unreadable(format_args!("{} is no read", spec.name)));
            }
            self.commands.push(spec);
            return Ok(());
        }
        self.write_count += 1;
        self.wide |= is_wide(&op);
        if op.command == CommandId::InternalExec {
            let parts = Transaction::new(&op, &At { now_ms: 0, seed: 0 }).map_err(unreadable)?;
            for (part, _) in parts {
                self.commands.push(part.command.spec());
                self.inner_count += 1;
            }
        }
        self.commands.push(spec);
        Ok(())
    }

    /// Answers a batch of reads alone, but for those that take long, and what comes behind one: they
    /// are returned, each with the length of the replies before it. They see what is there when they
    /// are pinned, so that one answered now would be older than one before it.
    ///
    /// # Errors
    /// [`Fatal`], when the store is damaged.
    pub(in crate::raft) fn answer_reads(
        &mut self,
        engine: &Engine,
        at: &At,
    ) -> Result<Vec<(usize, PutOff)>, Fatal> {
        let mut put_off = Vec::new();
        self.replies.clear();
        let Batch { steps, reads, raw, replies, .. } = self;
        let (mut reads, mut raw) = (reads.as_slice(), raw.as_slice());
        for step in steps.iter() {
            let (start, silent) = (replies.len(), step.silent);
            match step.source {
                Source::Raw => replies.extend_from_slice(split_off(&mut raw, step.len)),
                Source::Write => {}
                Source::Read => {
                    let bytes = split_off(&mut reads, step.len);
                    let Located::Operation(op, key) = Located::operation(engine, bytes) else {
                        continue;
                    };
                    let mut writer = Writer::new(replies, self.proto);
                    let effects = match start >= super::REPLY_BYTES || !put_off.is_empty() {
                        true => Effects { deferred: true, ..Effects::default() },
                        false => read(engine, &op, key, at, &mut writer)?,
                    };
                    if effects.deferred {
                        put_off.push((start, PutOff { op: bytes.to_vec(), at: *at, silent }));
                    } else {
                        self.effects += effects;
                    }
                }
            }
            if silent {
                replies.truncate(start);
            }
        }
        Ok(put_off)
    }

    /// Leaves reads to [`Batch::take_deferred`], each of what is pinned with it.
    pub(in crate::raft) fn defer(&mut self, reads: Vec<(usize, PutOff, Pinned)>) {
        let proto = self.proto;
        self.deferred = reads
            .into_iter()
            .map(|(start, PutOff { op, at, silent }, pinned)| {
                (start, LongRead::of(pinned, op, at, proto, silent))
            })
            .collect();
    }

    /// Forgets what its reads were answered, which is not to be told: they are asked again.
    pub(in crate::raft) fn unanswer(&mut self) {
        self.replies.clear();
        self.deferred.clear();
        self.effects = Effects::default();
    }

    /// The answer to whoever packed the batch, once it is done, with its reads that were put off: they
    /// hold the pool since `now`.
    pub(in crate::raft) fn answer(&mut self, alone: bool, now: Instant) -> Answer {
        let (count, ends, deferred) =
            (self.commands.len(), self.take_parts(), self.take_deferred());
        let mut parts = VecDeque::new();
        if let Some(ends) = &ends {
            let mut head = (ends.len() as u32).to_le_bytes().to_vec();
            ends.iter().for_each(|end| head.extend_from_slice(&(*end as u32).to_le_bytes()));
            parts.push_back(Part::Ready(head.into()));
        }
        let mut replies = Vec::new();
        self.take_replies(&mut replies);
        let (replies, mut from) = (Bytes::from(replies), 0);
        for (at, read) in deferred {
            parts.push_back(Part::Ready(replies.slice(from..at)));
            parts.push_back(Part::Read(Arc::new(read), now));
            from = at;
        }
        parts.push_back(Part::Ready(replies.slice(from..)));
        Answer {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            flags: if alone && ends.is_none() { BROKEN } else { 0 },
            parts,
        }
    }

    /// Takes the answer to what [`Batch::pack`] made.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn take_answer(&mut self, flags: u32, payload: &[u8]) -> Result<(), Unreadable> {
        let mut rest = payload;
        if flags & BROKEN != 0 {
            self.abort();
        } else if let Some(ends) = &mut self.split {
            let count = take_u32(&mut rest)? as usize;
            if count > rest.len() / 4 {
                return Err(unreadable("cut short"));
            }
            for _ in 0..count {
                ends.push(take_u32(&mut rest)? as usize);
            }
            if ends.last().is_some_and(|end| *end > rest.len()) || !ends.is_sorted() {
                return Err(unreadable("replies that end behind the end"));
            }
        }
        self.replies.extend_from_slice(rest);
        Ok(())
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, Unreadable> {
    let (head, tail) = rest.split_first_chunk().ok_or_else(|| unreadable("cut short"))?;
    *rest = tail;
    Ok(u32::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use cairn_protocol::command::resolve;
    use cairn_protocol::resp::Argv;

    use super::*;
    use crate::raft::rest::split_ready;

    fn push(batch: &mut Batch, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let argv = Argv::from(&words[..]);
        let spec = resolve(argv).expect("a command");
        match spec.place {
            Place::Write => batch.push_write(spec, 3, argv, false),
            _ => batch.push_read(spec, 3, argv, true),
        }
    }

    #[test]
    fn a_batch_travels_whole() {
        let mut batch = Batch::default();
        batch.set_proto(Proto::Resp3);
        push(&mut batch, "SET a 1");
        batch.push_reply(false, |out| out.extend_from_slice(b"+PONG\r\n"));
        push(&mut batch, "GET a");
        push(&mut batch, "INCR a");
        let forward = batch.pack(7);
        assert_eq!((forward.kind, forward.session, forward.count), (ForwardKind::Write, 7, 4));
        let mut there = Batch::default();
        there.unpack(&forward, None).expect("it reads back");
        assert_eq!(there.pack(7), forward);
        assert_eq!(there.commands().len(), 3);
        for len in 0..forward.payload.len() {
            let cut = Forward { payload: forward.payload.slice(..len), ..forward.clone() };
            let mut there = Batch::default();
            // What ends between two steps is a shorter batch.
            if there.unpack(&cut, None).is_ok() {
                assert!(there.commands().len() < 3);
            }
        }
    }

    #[test]
    fn what_was_read_under_a_lease_that_ended_does_not_stand_before_the_leaders_answer() {
        let mut batch = Batch { replies: b"$3\r\nold\r\n".to_vec(), ..Batch::default() };
        batch.unanswer();
        batch.take_answer(0, b"$3\r\nnew\r\n").expect("it reads back");
        let mut told = Vec::new();
        batch.take_replies(&mut told);
        assert_eq!(told, b"$3\r\nnew\r\n");
    }

    #[test]
    fn a_write_does_not_pass_for_a_read() {
        let mut batch = Batch::default();
        push(&mut batch, "SET a 1");
        let forward = batch.pack(0);
        let mut bytes = forward.payload.to_vec();
        bytes[0] = 1;
        let forged = Forward { payload: Bytes::from(bytes), ..forward };
        assert!(Batch::default().unpack(&forged, None).is_err());
    }

    #[test]
    fn replies_of_a_transaction_come_one_by_one() {
        let mut asked = Batch { split: Some(Vec::new()), ..Batch::default() };
        let mut there = Batch {
            split: Some(vec![5, 9]),
            replies: b"+OK\r\n:1\r\n".to_vec(),
            ..Batch::default()
        };
        let Answer { flags, mut parts, .. } = there.answer(true, Instant::from_nanos(1));
        let payload = split_ready(&mut parts, usize::MAX);
        asked.take_answer(flags, &payload).expect("it reads back");
        assert_eq!(asked.take_parts(), Some(vec![5, 9]));
        let mut broken = Batch { split: Some(Vec::new()), ..Batch::default() };
        broken.take_answer(BROKEN, &[]).expect("it reads back");
        assert_eq!(broken.take_parts(), None);
        let mut hostile = Batch { split: Some(Vec::new()), ..Batch::default() };
        assert!(hostile.take_answer(0, &[0xff; 8]).is_err());
    }
}
