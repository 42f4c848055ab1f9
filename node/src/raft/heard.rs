//! Whether a leader is still heard. One whose members hear it while none of their answers come back
//! would keep them from electing another for ever; so a leader that no majority has answered for a
//! while keeps still, long enough for the others to miss it, and then tries again (the check of a
//! quorum of Ongaro, "Consensus: Bridging Theory and Practice", section 6.2, without the stepping
//! down, which openraft cannot be told to do; what it offers instead holds back heartbeats only, and
//! entries that nobody acknowledges are sent again and again).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::distance::Distance;
use super::runtime::Instant;

/// When a leader was last heard.
#[derive(Debug)]
pub struct Heard {
    /// For so long a leader speaks to members that do not answer: twice what they wait for it.
    speak: Duration,
    /// For so long it keeps still then: they miss it, ask each other and elect.
    keep_still: Duration,
    /// Nanoseconds of the executor's clock at which it began to lead, or at which it sent what a
    /// majority has answered; 0 while it does not lead.
    at: AtomicU64,
}

impl Heard {
    /// By members so far apart.
    pub fn new(distance: Distance) -> Heard {
        let [speak, keep_still] = [2, 3].map(|times| times * distance.election());
        Heard { speak, keep_still, at: AtomicU64::new(0) }
    }

    /// Takes note of whether this node leads, and of when it sent the newest of what a majority has
    /// answered.
    pub fn note(&self, leads: bool, acked: Option<Instant>, now: impl FnOnce() -> Instant) {
        let was = self.at.load(Ordering::Relaxed);
        let at = match (leads, was) {
            (false, _) => 0,
            (true, 0) => now().nanos(),
            (true, was) => was.max(acked.map_or(0, Instant::nanos)),
        };
        self.at.store(at, Ordering::Relaxed);
    }

    /// Whether what only a leader says may be sent at `now`.
    pub fn may_speak(&self, now: Instant) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        let unheard = now.nanos().saturating_sub(at);
        let [speak, keep_still] = [self.speak, self.keep_still].map(|part| part.as_nanos() as u64);
        at == 0 || unheard % (speak + keep_still) < speak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn who_is_not_answered_speaks_and_keeps_still_by_turns() {
        let heard = Heard::new(Distance::default());
        assert!(heard.may_speak(at(5000)), "no leader: nothing is held back");
        heard.note(true, None, || at(10_000));
        let [speak, keep_still] =
            [heard.speak, heard.keep_still].map(|part| part.as_millis() as u64);
        let mut turn = 10_000;
        for _ in 0..3 {
            assert!(heard.may_speak(at(turn)) && heard.may_speak(at(turn + speak - 1)));
            turn += speak;
            assert!(!heard.may_speak(at(turn)) && !heard.may_speak(at(turn + keep_still - 1)));
            turn += keep_still;
        }
        heard.note(true, Some(at(turn)), || at(turn + 50));
        assert!(heard.may_speak(at(turn + speak - 1)) && !heard.may_speak(at(turn + speak)));
        heard.note(false, Some(at(turn)), || at(turn + speak));
        assert!(heard.may_speak(at(turn + speak)));
    }

    #[test]
    fn answers_of_an_earlier_term_do_not_make_a_new_leader_unheard() {
        let heard = Heard::new(Distance::default());
        heard.note(true, Some(at(1)), || at(9000));
        assert!(heard.may_speak(at(9001)));
        heard.note(true, Some(at(1)), || at(9100));
        assert!(heard.may_speak(at(9101)));
    }
}
