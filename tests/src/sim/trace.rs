//! What happened, in order: a digest of all of it, by which two runs are compared, and the last part
//! in words, for who looks into a failure.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use cairn_node::transport::mem::{Fate, Flight};
use cairn_protocol::ids::NodeId;

/// Events that are kept.
const KEPT: usize = 50_000;
/// Events that a failure shows.
const SHOWN: usize = 300;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message met its fate.
    Sent(Flight, Fate),
    /// A node's group stands like this now: term, whether it leads, last entry of its log, applied.
    Stands(NodeId, u64, bool, u64, u64),
    /// A client sent something.
    Asked(u64, String),
    /// And that is what came of it.
    Answered(u64, String),
    /// Something was done to the cluster.
    Done(String),
}

impl Event {
    fn digest(&self, hasher: &mut impl Hasher) {
        match self {
            Event::Sent(flight, fate) => {
                (flight.from, flight.to, flight.kind as u16, flight.is_reply).hash(hasher);
                flight.len_bytes.hash(hasher);
                match fate {
                    Fate::Deliver(after) => after.hash(hasher),
                    Fate::Twice(first, second) => (first, second).hash(hasher),
                    Fate::Lost => 1.hash(hasher),
                    Fate::Cut => 2.hash(hasher),
                }
            }
            Event::Stands(node, term, leads, last, applied) => {
                (node, term, leads, last, applied).hash(hasher);
            }
            Event::Asked(client, text) | Event::Answered(client, text) => {
                (client, text).hash(hasher);
            }
            Event::Done(text) => text.hash(hasher),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Sent(flight, fate) => {
                let (way, kind) = (if flight.is_reply { "reply to" } else { "asks" }, flight.kind);
                write!(f, "{} {way} {}: {kind:?}, {fate:?}", flight.from, flight.to)
            }
            Event::Stands(node, term, leads, last, applied) => {
                let leads = if *leads { ", leads" } else { "" };
                write!(f, "{node} in term {term}{leads}, log to {last}, applied {applied}")
            }
            Event::Asked(client, text) => write!(f, "client {client}: {text}"),
            Event::Answered(client, text) => write!(f, "client {client} hears: {text}"),
            Event::Done(text) => f.write_str(text),
        }
    }
}

/// All events of a run.
#[derive(Default)]
pub struct Trace {
    hasher: DefaultHasher,
    count: u64,
    last: VecDeque<(u64, Event)>,
}

impl Trace {
    /// Takes note of an event at a time.
    pub fn note(&mut self, nanos: u64, event: Event) {
        nanos.hash(&mut self.hasher);
        event.digest(&mut self.hasher);
        self.count += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((nanos, event));
    }

    /// A number that stands for all events so far.
    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    /// What is kept, an event a line.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = String> + '_ {
        let line =
            |(nanos, event): &(u64, Event)| format!("{:>12.3} ms  {event}", *nanos as f64 / 1e6);
        self.last.iter().map(line)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// The last events in words.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skip = self.last.len().saturating_sub(SHOWN);
        self.lines().skip(skip).try_for_each(|line| writeln!(f, "{line}"))
    }
}
