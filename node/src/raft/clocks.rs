//! What the members' wall clocks say of each other, so that one that is far off does not decide when
//! keys expire: a leader's whose clock has jumped stamps, and reads, by the median of what it knows.
//!
//! A peer's clock is noted as what it was at a moment of this node's steady clock, and goes on from
//! there: it is known for as long as the peer is away, and a jump of this node's own wall clock moves
//! nothing but that.

use std::sync::atomic::{AtomicI64, Ordering};

use cairn_protocol::ids::NodeId;
use parking_lot::Mutex;

use super::runtime::Instant;

/// By how much a clock may differ from the median and still be believed.
const FAR_MS: u64 = 1000;
/// Nothing is agreed on.
const UNKNOWN: i64 = i64::MIN;
/// Members whose clocks are remembered at most: more than a group has.
const PEERS_MAX: usize = 64;

/// The clocks of a group's members. Each is kept as its difference to this node's steady clock, in
/// milliseconds.
#[derive(Debug)]
pub struct Clocks {
    peers: Mutex<Vec<(NodeId, i64)>>,
    /// What was agreed on last: by the leader, or here by the median.
    agreed: AtomicI64,
}

impl Default for Clocks {
    fn default() -> Clocks {
        Clocks { peers: Mutex::default(), agreed: AtomicI64::new(UNKNOWN) }
    }
}

impl Clocks {
    /// As the leader: at `now` the wall clock of `peer` said `peer_ms`, and this node's own `own_ms`.
    pub fn hear(&self, peer: NodeId, peer_ms: u64, own_ms: u64, now: Instant) {
        let mut peers = self.peers.lock();
        let heard = difference(peer_ms, now);
        match peers.iter().position(|(node, _)| *node == peer) {
            Some(at) => peers[at].1 = heard,
            None if peers.len() < PEERS_MAX => peers.push((peer, heard)),
            None => return,
        }
        let own = difference(own_ms, now);
        let mut all: Vec<i64> = peers.iter().map(|(_, known)| *known).chain([own]).collect();
        let last = match self.agreed.load(Ordering::Relaxed) {
            UNKNOWN => own,
            last => last,
        };
        self.agreed.store(median(&mut all, last), Ordering::Relaxed);
    }

    /// As a follower: at `now` the leader goes by `agreed_ms`. Whoever leads next begins with that.
    pub fn follow(&self, agreed_ms: u64, now: Instant) {
        self.agreed.store(difference(agreed_ms, now), Ordering::Relaxed);
    }

    /// The time to go by at `now`, when this node's own wall clock says `own_ms`.
    #[inline]
    pub fn agreed_ms(&self, own_ms: u64, now: impl FnOnce() -> Instant) -> u64 {
        let agreed = self.agreed.load(Ordering::Relaxed);
        if agreed == UNKNOWN {
            return own_ms;
        }
        let agreed_ms = u64::try_from(steady_ms(now()).saturating_add(agreed)).unwrap_or(0);
        if own_ms.abs_diff(agreed_ms) <= FAR_MS { own_ms } else { agreed_ms }
    }
}

fn steady_ms(now: Instant) -> i64 {
    i64::try_from(now.nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn difference(wall_ms: u64, now: Instant) -> i64 {
    i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub(steady_ms(now))
}

/// The middle one; of two in the middle that which is nearer to what was agreed on `last`, for two
/// clocks do not say which of them is off.
fn median(all: &mut [i64], last: i64) -> i64 {
    all.sort_unstable();
    let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
    if last.abs_diff(low) <= last.abs_diff(high) { low } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const WALL_MS: u64 = 1_700_000_000_000;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_jump_of_ones_own_clock_moves_nothing_once_two_peers_are_known() {
        for own_ms in [WALL_MS + HOUR_MS, WALL_MS - HOUR_MS] {
            let clocks = Clocks::default();
            assert_eq!(clocks.agreed_ms(own_ms, || at(50)), own_ms, "nobody else is known");
            clocks.hear(NodeId(2), WALL_MS, WALL_MS, at(50));
            clocks.hear(NodeId(3), WALL_MS + 20, WALL_MS, at(50));
            // The jump comes at once after that, and before anything is heard again.
            let agreed_ms = clocks.agreed_ms(own_ms + 70, || at(120));
            assert!(agreed_ms.abs_diff(WALL_MS + 70) <= 20, "{agreed_ms}");
            clocks.hear(NodeId(2), WALL_MS + 100, own_ms + 100, at(150));
            let agreed_ms = clocks.agreed_ms(own_ms + 5100, || at(5150));
            assert!(agreed_ms.abs_diff(WALL_MS + 5100) <= 20, "{agreed_ms}");
        }
    }

    #[test]
    fn a_peers_jump_moves_nothing_and_small_differences_are_ones_own() {
        let clocks = Clocks::default();
        clocks.hear(NodeId(2), WALL_MS + HOUR_MS, WALL_MS, at(0));
        assert_eq!(clocks.agreed_ms(WALL_MS + 5, || at(5)), WALL_MS + 5, "one against one");
        clocks.hear(NodeId(3), WALL_MS + 900, WALL_MS, at(0));
        assert_eq!(clocks.agreed_ms(WALL_MS + 5, || at(5)), WALL_MS + 5);
        clocks.hear(NodeId(3), WALL_MS - 900, WALL_MS, at(0));
        assert_eq!(clocks.agreed_ms(WALL_MS + 5, || at(5)), WALL_MS + 5);
    }

    #[test]
    fn a_follower_whose_clock_is_off_leads_by_what_the_last_leader_went_by() {
        let clocks = Clocks::default();
        clocks.follow(WALL_MS, at(0));
        let own_ms = WALL_MS + HOUR_MS;
        assert_eq!(clocks.agreed_ms(own_ms + 10, || at(10)), WALL_MS + 10);
        clocks.hear(NodeId(2), WALL_MS + 20, own_ms + 20, at(20));
        assert_eq!(clocks.agreed_ms(own_ms + 30, || at(30)), WALL_MS + 30, "one against one");
    }

    #[test]
    fn rubbish_from_peers_stays_within_bounds() {
        let clocks = Clocks::default();
        for node in 0..1000 {
            clocks.hear(NodeId(node), u64::MAX, 0, at(u64::MAX / 2_000_000));
        }
        assert!(clocks.peers.lock().len() <= PEERS_MAX);
        clocks.agreed_ms(u64::MAX, || Instant::from_nanos(u64::MAX));
    }
}
