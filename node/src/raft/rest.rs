//! Replies that are too long for one message between nodes: the first piece goes at once, the rest is
//! kept here until the node that forwarded the commands has fetched it piece by piece, over the
//! connection that is for bulk, so that nothing waits behind it. Reads that were put off are made
//! only when their piece is asked for, one at a time.
//!
//! What has been executed is answered by whoever executed it, whether it still leads or not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_protocol::cluster::message::{Forwarded, Refused, RefusedCode};
use cairn_protocol::ids::NodeId;
use parking_lot::Mutex;

use super::long_read::{HOLD, LongRead};
use super::propose::forward::MORE;
use super::runtime::Instant;
use crate::transport::refused;

/// What goes at once.
const FIRST_BYTES: usize = 1 << 20;
/// What goes with each further piece.
pub const PIECE_BYTES: usize = 8 << 20;
/// What is kept for all nodes together.
const HELD_BYTES_MAX: usize = 1 << 30;
/// For how long nobody may ask for the next piece.
const KEPT: Duration = Duration::from_secs(30);
/// Names what is kept, before the bytes of each piece but the last.
const TICKET_BYTES: usize = 8;

/// The rests of long replies.
#[derive(Debug, Default)]
pub struct Rests(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// The last ticket.
    last: u64,
    bytes: usize,
    rests: BTreeMap<(NodeId, u64), Rest>,
}

#[derive(Debug)]
struct Rest {
    parts: VecDeque<Part>,
    asked: Instant,
}

/// A part of an answer.
#[derive(Debug)]
pub enum Part {
    /// Its bytes.
    Ready(Bytes),
    /// A read whose reply stands here, and since when it holds the pool.
    Read(Arc<LongRead>, Instant),
}

/// An answer before it is cut.
#[derive(Debug)]
pub struct Answer {
    /// Commands that ran.
    pub count: u32,
    /// What it says beside its replies.
    pub flags: u32,
    /// Its replies.
    pub parts: VecDeque<Part>,
}

impl Part {
    fn ready_bytes(&self) -> usize {
        match self {
            Part::Ready(bytes) => bytes.len(),
            Part::Read(..) => 0,
        }
    }

    fn is(&self, read: &Arc<LongRead>) -> bool {
        matches!(self, Part::Read(this, _) if Arc::ptr_eq(this, read))
    }
}

fn ready_bytes(parts: &VecDeque<Part>) -> usize {
    parts.iter().map(Part::ready_bytes).sum()
}

fn is_ready(parts: &VecDeque<Part>) -> bool {
    parts.iter().all(|part| matches!(part, Part::Ready(_)))
}

/// Takes at most `len` bytes from the front, as far as they are ready.
pub fn split_ready(parts: &mut VecDeque<Part>, len: usize) -> Bytes {
    if let [Part::Ready(bytes)] = parts.make_contiguous()
        && bytes.len() <= len
    {
        let whole = bytes.clone();
        parts.clear();
        return whole;
    }
    let mut piece = Vec::new();
    while piece.len() < len
        && let Some(Part::Ready(bytes)) = parts.front_mut()
    {
        let taken = bytes.split_to(bytes.len().min(len - piece.len()));
        piece.extend_from_slice(&taken);
        if bytes.is_empty() {
            parts.pop_front();
        }
    }
    Bytes::from(piece)
}

impl Rests {
    /// An answer as it goes to `to` at `now`: whole, or its first piece.
    ///
    /// # Errors
    /// Too much is kept already: the answer is dropped, what it speaks of has happened.
    pub fn cut(&self, to: NodeId, answer: Answer, now: Instant) -> Result<Forwarded, Refused> {
        let Answer { count, flags, mut parts } = answer;
        let is_whole = is_ready(&parts) && ready_bytes(&parts) <= FIRST_BYTES;
        let piece = split_ready(&mut parts, FIRST_BYTES);
        if is_whole {
            return Ok(Forwarded::Done { count, flags, payload: piece });
        }
        self.forget_old(now);
        let mut held = self.0.lock();
        held.last += 1;
        let ticket = held.last;
        let payload = held.keep((to, ticket), &piece, parts, now)?;
        Ok(Forwarded::Done { count, flags: flags | MORE, payload })
    }

    /// Whether somebody may still ask for the rest of a reply.
    pub fn holds_some(&self, now: Instant) -> bool {
        self.forget_old(now);
        !self.0.lock().rests.is_empty()
    }

    /// Forgets what nobody has asked for in a while: its node is gone, or its client.
    pub fn forget_old(&self, now: Instant) {
        let old = self.0.lock().take_old(now);
        // Freeing much takes a while.
        drop(old);
    }

    /// The next piece of what is kept there will be asked for.
    pub fn keep_on(&self, place: (NodeId, u64), now: Instant) {
        if let Some(rest) = self.0.lock().rests.get_mut(&place) {
            rest.asked = now;
        }
    }

    /// A read that holds the pool for too long.
    pub fn held_too_long(&self, now: Instant) -> Option<Arc<LongRead>> {
        let held = self.0.lock();
        let mut parts = held.rests.values().flat_map(|rest| &rest.parts);
        parts.find_map(|part| match part {
            Part::Read(read, since) if now - *since >= HOLD => Some(Arc::clone(read)),
            _ => None,
        })
    }

    /// Puts `part` in the place of a read, unless its piece was asked for meanwhile. Where there is no
    /// room for it, or it is not to be had, the rest of that reply is not kept any more.
    pub fn exchange(&self, read: &Arc<LongRead>, part: Option<Part>) {
        let mut held = self.0.lock();
        let holds = |rest: &Rest| rest.parts.iter().any(|part| part.is(read));
        let Some(place) = held.rests.iter().find(|(_, rest)| holds(rest)).map(|at| *at.0) else {
            return;
        };
        let more = part.as_ref().map_or(0, Part::ready_bytes);
        match part.filter(|_| held.bytes + more <= HELD_BYTES_MAX) {
            Some(part) => {
                held.bytes += more;
                let rest = held.rests.get_mut(&place).expect("found above");
                let there = rest.parts.iter_mut().find(|part| part.is(read));
                *there.expect("found above") = part;
            }
            None => {
                let dropped = held.take(place);
                drop(held);
                drop(dropped);
                tracing::warn!(
                    "a reply is cut off whose client, at node {}, is slow to take it: copies of {} \
                     MiB for such are held already",
                    place.0,
                    HELD_BYTES_MAX >> 20,
                );
            }
        }
    }

    /// Takes what is kept for `to` under a ticket.
    ///
    /// # Errors
    /// Nothing is (any more).
    pub fn take(&self, to: NodeId, ticket: u64) -> Result<VecDeque<Part>, Refused> {
        let taken = self.0.lock().take((to, ticket));
        let gone = || refused(RefusedCode::Failed, "the rest of that reply is not kept any more");
        taken.ok_or_else(gone)
    }

    /// The next piece for `to`, and under the same ticket what is left behind it.
    ///
    /// # Errors
    /// Too much is kept already.
    pub fn give(
        &self,
        (to, ticket): (NodeId, u64),
        piece: Bytes,
        left: VecDeque<Part>,
        now: Instant,
    ) -> Result<Forwarded, Refused> {
        if left.is_empty() {
            return Ok(Forwarded::Done { count: 0, flags: 0, payload: piece });
        }
        let payload = self.0.lock().keep((to, ticket), &piece, left, now)?;
        Ok(Forwarded::Done { count: 0, flags: MORE, payload })
    }
}

impl Held {
    /// Keeps what is left behind a piece; returns that behind the ticket.
    fn keep(
        &mut self,
        place: (NodeId, u64),
        piece: &[u8],
        parts: VecDeque<Part>,
        now: Instant,
    ) -> Result<Bytes, Refused> {
        let bytes = ready_bytes(&parts);
        if self.bytes + bytes > HELD_BYTES_MAX {
            return Err(refused(RefusedCode::Failed, "too many long replies are on their way"));
        }
        self.bytes += bytes;
        self.rests.insert(place, Rest { parts, asked: now });
        Ok(Bytes::from([&place.1.to_le_bytes()[..], piece].concat()))
    }

    fn take(&mut self, place: (NodeId, u64)) -> Option<VecDeque<Part>> {
        let rest = self.rests.remove(&place)?;
        self.bytes -= ready_bytes(&rest.parts);
        Some(rest.parts)
    }

    fn take_old(&mut self, now: Instant) -> Vec<Rest> {
        let old: Vec<_> =
            self.rests.extract_if(.., |_, rest| now - rest.asked >= KEPT).map(|at| at.1).collect();
        self.bytes -= old.iter().map(|rest| ready_bytes(&rest.parts)).sum::<usize>();
        old
    }
}

/// Splits a piece that is not the last into the ticket for the next and its bytes.
pub fn split_ticket(payload: &Bytes) -> Option<(u64, &[u8])> {
    let (ticket, piece) = payload.split_first_chunk::<TICKET_BYTES>()?;
    Some((u64::from_le_bytes(*ticket), piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: NodeId = NodeId(3);

    fn start() -> Instant {
        Instant::from_nanos(1)
    }

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|at| (at / 7) as u8).collect::<Vec<_>>().into()
    }

    fn answer(len: usize) -> Answer {
        Answer { count: 9, flags: 1, parts: [Part::Ready(bytes(len))].into() }
    }

    fn next(rests: &Rests, to: NodeId, ticket: u64, now: Instant) -> Result<Forwarded, Refused> {
        let mut left = rests.take(to, ticket)?;
        let piece = split_ready(&mut left, PIECE_BYTES);
        rests.give((to, ticket), piece, left, now)
    }

    /// All pieces of an answer, put together.
    fn fetched(rests: &Rests, first: Forwarded) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), first);
        loop {
            let Forwarded::Done { flags, payload, .. } = piece else { panic!("{piece:?}") };
            if flags & MORE == 0 {
                all.extend_from_slice(&payload);
                return all;
            }
            let (ticket, bytes) = split_ticket(&payload).expect("a ticket");
            all.extend_from_slice(bytes);
            piece = next(rests, TO, ticket, start()).expect("the next piece");
        }
    }

    #[test]
    fn a_long_reply_comes_in_pieces_and_leaves_nothing_behind() {
        let rests = Rests::default();
        for len in [0, 1, FIRST_BYTES, FIRST_BYTES + 1, FIRST_BYTES + PIECE_BYTES, 20 << 20] {
            let first = rests.cut(TO, answer(len), start()).expect("cut");
            let Forwarded::Done { count: 9, flags, payload } = &first else { panic!("{first:?}") };
            assert!(payload.len() <= FIRST_BYTES + TICKET_BYTES);
            assert_eq!((flags & 1, flags & MORE != 0), (1, len > FIRST_BYTES));
            assert_eq!(fetched(&rests, first), bytes(len), "{len}");
        }
        let held = rests.0.lock();
        assert_eq!((held.bytes, held.rests.len()), (0, 0));
    }

    #[test]
    fn parts_are_put_together_up_to_a_length() {
        let rests = Rests::default();
        let parts = [3, 2 << 20, 0, 5].map(|len| Part::Ready(bytes(len)));
        let answer = Answer { count: 9, flags: 1, parts: parts.into() };
        let first = rests.cut(TO, answer, start()).expect("cut");
        let whole = [3, 2 << 20, 0, 5].map(bytes).concat();
        assert_eq!(fetched(&rests, first), whole);
        let parts = [3, 4].map(|len| Part::Ready(bytes(len)));
        let answer = Answer { count: 9, flags: 1, parts: parts.into() };
        let Forwarded::Done { flags: 1, payload, .. } =
            rests.cut(TO, answer, start()).expect("cut")
        else {
            panic!("it is short enough");
        };
        assert_eq!(payload, [3, 4].map(bytes).concat());
    }

    #[test]
    fn what_is_kept_is_for_one_node_once_and_not_for_ever() {
        let rests = Rests::default();
        let start = start();
        let first = rests.cut(TO, answer(2 << 20), start).expect("cut");
        let Forwarded::Done { payload, .. } = first else { panic!("done") };
        let (ticket, _) = split_ticket(&payload).expect("a ticket");
        assert!(next(&rests, NodeId(4), ticket, start).is_err(), "another node's");
        assert!(next(&rests, TO, ticket, start).is_ok());
        assert!(next(&rests, TO, ticket, start).is_err(), "a second time");
        rests.cut(TO, answer(2 << 20), start).expect("cut");
        rests.cut(TO, answer(2 << 20), start + KEPT).expect("cut");
        assert_eq!(rests.0.lock().rests.len(), 1, "the old one is forgotten");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let rests = Rests::default();
        let payload = Bytes::from(vec![0; 64 << 20]);
        let cut = |_| {
            let parts = [Part::Ready(payload.clone())].into();
            let answer = Answer { count: 1, flags: 0, parts };
            rests.cut(TO, answer, start()).is_ok()
        };
        let kept = (0..40).filter(|at| cut(*at)).count();
        assert!(kept < 40 && rests.0.lock().bytes <= HELD_BYTES_MAX, "{kept}");
    }
}
