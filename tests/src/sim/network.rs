//! The network of a simulation: which messages arrive, when, how often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_node::transport::mem::{Fate, Flight};
use cairn_protocol::cluster::Kind;
use cairn_protocol::ids::NodeId;

use crate::rng::Rng;

/// How a link treats what is sent over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Messages of a thousand that are lost.
    pub lost: u64,
    /// Messages of a thousand whose sender learns that the connection broke.
    pub cut: u64,
    /// Messages of a thousand that arrive twice.
    pub twice: u64,
    /// The least that a message takes, in microseconds.
    pub least_us: u64,
    /// The most, of most of them: messages overtake each other.
    pub most_us: u64,
    /// Messages of a thousand that take up to a hundred times as long.
    pub late: u64,
}

impl Weather {
    /// A network that loses nothing and is quick.
    pub fn fair() -> Weather {
        Weather { least_us: 50, most_us: 500, ..Weather::default() }
    }

    /// Some other.
    pub fn draw(rng: &mut Rng) -> Weather {
        let least_us = *rng.pick(&[20, 100, 1000, 10_000]);
        Weather {
            lost: *rng.pick(&[0, 0, 10, 50, 200]),
            cut: *rng.pick(&[0, 0, 10, 50]),
            twice: *rng.pick(&[0, 0, 20, 200]),
            least_us,
            most_us: least_us * rng.pick(&[1, 3, 10]),
            late: *rng.pick(&[0, 0, 10, 50]),
        }
    }

    fn delay(&self, rng: &mut Rng) -> Duration {
        let us = self.least_us + rng.below(self.most_us - self.least_us + 1);
        let factor = if rng.below(1000) < self.late { 1 + rng.below(100) } else { 1 };
        Duration::from_micros(us * factor)
    }
}

/// All links between the nodes.
#[derive(Debug)]
pub struct Links {
    weather: Weather,
    /// Ways on which nothing arrives: from, to.
    closed: BTreeSet<(NodeId, NodeId)>,
    /// Ways on which only what is about votes arrives.
    muted: BTreeSet<(NodeId, NodeId)>,
    /// Whether senders learn of it.
    refuses: bool,
    counts: BTreeMap<&'static str, u64>,
}

impl Default for Links {
    fn default() -> Links {
        let (closed, muted, counts) = Default::default();
        Links { weather: Weather::fair(), closed, muted, refuses: false, counts }
    }
}

impl Links {
    /// Opens all ways.
    pub fn heal(&mut self) {
        self.closed.clear();
        self.muted.clear();
    }

    /// Whether a way is closed.
    pub fn is_cut(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Changes how messages fare.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Closes the way from one node to another; with `refuses` senders learn that nobody answers.
    pub fn close(&mut self, from: NodeId, to: NodeId, refuses: bool) {
        self.refuses = refuses;
        self.closed.insert((from, to));
    }

    /// Loses all that one node sends to another, but for what is about votes.
    pub fn mute(&mut self, from: NodeId, to: NodeId) {
        self.muted.insert((from, to));
    }

    /// What becomes of a message between nodes that are both up.
    pub fn fate(&mut self, flight: &Flight, rng: &mut Rng) -> Fate {
        let fate = self.draw(flight, rng);
        let what = match fate {
            Fate::Deliver(_) => "delivered",
            Fate::Twice(..) => "delivered twice",
            Fate::Lost => "lost",
            Fate::Cut => "cut",
        };
        *self.counts.entry(what).or_default() += 1;
        fate
    }

    fn draw(&self, flight: &Flight, rng: &mut Rng) -> Fate {
        if self.closed.contains(&(flight.from, flight.to)) {
            return if self.refuses { Fate::Cut } else { Fate::Lost };
        }
        let is_vote = matches!(flight.kind, Kind::Vote | Kind::PreVote);
        if !is_vote && self.muted.contains(&(flight.from, flight.to)) {
            return Fate::Lost;
        }
        let Weather { lost, cut, twice, .. } = self.weather;
        let drawn = rng.below(1000);
        if drawn < lost {
            return Fate::Lost;
        }
        if drawn < lost + cut {
            return Fate::Cut;
        }
        let delay = self.weather.delay(rng);
        // A stream carries a request once. What members say to each other stands being heard twice;
        // what clients ask of them does not, and is never sent again.
        if drawn < lost + cut + twice && flight.kind != Kind::Forward {
            return Fate::Twice(delay, self.weather.delay(rng));
        }
        Fate::Deliver(delay)
    }

    /// How many messages met which fate.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}
