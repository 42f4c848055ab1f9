//! Replies that are too long for one message between nodes: the first piece goes at once, the rest is
//! kept here until the node that forwarded the commands has fetched it piece by piece, over the
//! connection that is for bulk, so that nothing waits behind it.
//!
//! What has been executed is answered by whoever executed it, whether it still leads or not.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cairn_protocol::cluster::message::{Forwarded, Refused, RefusedCode};
use cairn_protocol::ids::NodeId;
use parking_lot::Mutex;

use super::propose::forward::MORE;
use super::runtime::Instant;
use crate::transport::refused;

/// What goes at once.
const FIRST_BYTES: usize = 1 << 20;
/// What goes with each further piece.
const PIECE_BYTES: usize = 8 << 20;
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
    bytes: Bytes,
    asked: Instant,
}

impl Rests {
    /// An answer as it goes to `to` at `now`: whole, or its first piece.
    ///
    /// # Errors
    /// Too much is kept already: the answer is dropped, what it speaks of has happened.
    pub fn cut(&self, to: NodeId, answer: Forwarded, now: Instant) -> Result<Forwarded, Refused> {
        match answer {
            Forwarded::Done { count, flags, payload } if payload.len() > FIRST_BYTES => {
                let mut held = self.0.lock();
                held.forget_old(now);
                held.last += 1;
                let ticket = held.last;
                let piece = held.keep((to, ticket), payload, FIRST_BYTES, now)?;
                Ok(Forwarded::Done { count, flags: flags | MORE, payload: piece })
            }
            whole => Ok(whole),
        }
    }

    /// Whether somebody may still ask for the rest of a reply.
    pub fn holds_some(&self, now: Instant) -> bool {
        let mut held = self.0.lock();
        held.forget_old(now);
        !held.rests.is_empty()
    }

    /// The next piece of what `to` holds the ticket for.
    ///
    /// # Errors
    /// Nothing is kept under it (any more).
    pub fn next(&self, to: NodeId, ticket: u64, now: Instant) -> Result<Forwarded, Refused> {
        let mut held = self.0.lock();
        let Some(rest) = held.rests.remove(&(to, ticket)) else {
            let text = "the rest of that reply is not kept any more";
            return Err(refused(RefusedCode::Failed, text));
        };
        held.bytes -= rest.bytes.len();
        if rest.bytes.len() <= PIECE_BYTES {
            return Ok(Forwarded::Done { count: 0, flags: 0, payload: rest.bytes });
        }
        let payload = held.keep((to, ticket), rest.bytes, PIECE_BYTES, now)?;
        Ok(Forwarded::Done { count: 0, flags: MORE, payload })
    }
}

impl Held {
    /// Keeps what lies behind the first `len` bytes; returns those, behind the ticket.
    fn keep(
        &mut self,
        place: (NodeId, u64),
        mut bytes: Bytes,
        len: usize,
        now: Instant,
    ) -> Result<Bytes, Refused> {
        let piece = [&place.1.to_le_bytes()[..], &bytes.split_to(len)].concat();
        if self.bytes + bytes.len() > HELD_BYTES_MAX {
            return Err(refused(RefusedCode::Failed, "too many long replies are on their way"));
        }
        self.bytes += bytes.len();
        self.rests.insert(place, Rest { bytes, asked: now });
        Ok(Bytes::from(piece))
    }

    fn forget_old(&mut self, now: Instant) {
        self.rests.retain(|_, rest| now - rest.asked < KEPT);
        self.bytes = self.rests.values().map(|rest| rest.bytes.len()).sum();
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

    fn answer(len: usize) -> Forwarded {
        let payload = (0..len).map(|at| (at / 7) as u8).collect::<Vec<_>>().into();
        Forwarded::Done { count: 9, flags: 1, payload }
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
            piece = rests.next(TO, ticket, start()).expect("the next piece");
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
            let Forwarded::Done { payload: whole, .. } = answer(len) else { unreachable!() };
            assert_eq!(fetched(&rests, first), whole, "{len}");
        }
        let held = rests.0.lock();
        assert_eq!((held.bytes, held.rests.len()), (0, 0));
    }

    #[test]
    fn what_is_kept_is_for_one_node_once_and_not_for_ever() {
        let rests = Rests::default();
        let start = start();
        let first = rests.cut(TO, answer(2 << 20), start).expect("cut");
        let Forwarded::Done { payload, .. } = first else { panic!("done") };
        let (ticket, _) = split_ticket(&payload).expect("a ticket");
        assert!(rests.next(NodeId(4), ticket, start).is_err(), "another node's");
        assert!(rests.next(TO, ticket, start).is_ok());
        assert!(rests.next(TO, ticket, start).is_err(), "a second time");
        rests.cut(TO, answer(2 << 20), start).expect("cut");
        rests.cut(TO, answer(2 << 20), start + KEPT).expect("cut");
        assert_eq!(rests.0.lock().rests.len(), 1, "the old one is forgotten");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let rests = Rests::default();
        let payload = Bytes::from(vec![0; 64 << 20]);
        let cut = |_| {
            let answer = Forwarded::Done { count: 1, flags: 0, payload: payload.clone() };
            rests.cut(TO, answer, start()).is_ok()
        };
        let kept = (0..40).filter(|at| cut(*at)).count();
        assert!(kept < 40 && rests.0.lock().bytes <= HELD_BYTES_MAX, "{kept}");
    }
}
