//! How far apart a group's members are, and how long they wait for each other because of it.
//!
//! Nothing here decides whether a read is fresh or a vote is safe: a leader's lease, and for how long
//! a member that was restarted gives no vote, are the same at any distance ([`super::consensus`]), so
//! members whose operators gave them different figures only elect sooner or later than each other.
//! With members farther apart than a lease lasts, a leader asks a majority before it answers reads.

use std::time::Duration;

/// Between two members up to this far apart nothing waits longer.
const NEAR: Duration = Duration::from_millis(100);

/// The longest round trip between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance(Duration);

impl Default for Distance {
    fn default() -> Distance {
        Distance(NEAR)
    }
}

impl Distance {
    /// That of members with this round trip.
    pub fn of(round_trip: Duration) -> Distance {
        Distance(round_trip)
    }

    /// What is to be waited for longer than with members near each other.
    fn more(self) -> Duration {
        self.0.saturating_sub(NEAR)
    }

    fn more_ms(self) -> u64 {
        self.more().as_millis() as u64
    }

    /// How long a heartbeat may take until it is answered, in milliseconds.
    pub(super) fn heartbeat_limit_ms(self) -> u64 {
        160 + self.more_ms()
    }

    /// A follower grants no vote for the longer of these after it has heard from its leader, and
    /// campaigns between the shorter and the longer after that: near each other, a dead leader is
    /// missed within 620 ms. A candidate asks twice, for a promise and for the vote, and must have
    /// both answers before another campaigns.
    pub(super) fn election_ms(self) -> (u64, u64) {
        (220 + 3 * self.more_ms(), 310 + 4 * self.more_ms())
    }

    /// The longer of those.
    pub(super) fn election(self) -> Duration {
        Duration::from_millis(self.election_ms().1)
    }

    /// How long an append may take, at least and at most, apart from the time that its bytes need: one
    /// that a dead member does not answer keeps openraft from purging, and one that is given up too
    /// soon for a far member is never answered.
    pub(super) fn append(self) -> (Duration, Duration) {
        (Duration::from_millis(75), Duration::from_millis(600) + 2 * self.more())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_has_its_answers_before_another_campaigns() {
        assert_eq!(Distance::default().election_ms(), (220, 310));
        for ms in [0, 1, 100, 110, 150, 400, 2000] {
            let distance = Distance::of(Duration::from_millis(ms));
            let (least, most) = distance.election_ms();
            assert!(least >= 2 * ms && most >= least + 90, "{ms} ms: {least} to {most}");
            let limit = distance.heartbeat_limit_ms();
            assert!(ms < limit && limit < least, "{ms} ms: {limit} for a heartbeat");
            assert!(distance.append().1.as_millis() as u64 > ms);
        }
    }
}
