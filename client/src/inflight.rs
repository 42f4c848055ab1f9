//! What is awaited: requests that were sent, in the order in which their replies come. Pure.

use std::collections::VecDeque;

use cairn_protocol::resp::Value;

/// Batches of requests that wait for their replies, each with a token of its owner.
#[derive(Debug)]
pub(crate) struct Inflight<T> {
    batches: VecDeque<Batch<T>>,
}

#[derive(Debug)]
struct Batch<T> {
    wanted: usize,
    values: Vec<Value>,
    owner: T,
}

/// What a reply completed.
#[derive(Debug, PartialEq)]
pub(crate) enum Received<T> {
    /// A batch: its owner and its replies.
    Complete(T, Vec<Value>),
    /// Nothing yet.
    Partial,
    /// It answers no request; servers push such messages.
    Pushed,
    /// A reply that nobody asked for: the connection is out of step.
    Unasked,
}

impl<T> Inflight<T> {
    pub(crate) fn new() -> Self {
        Self { batches: VecDeque::new() }
    }

    /// `wanted` requests, at least one, were or will be sent after all those before.
    pub(crate) fn expect(&mut self, wanted: usize, owner: T) {
        assert!(wanted > 0, "a batch without requests is never answered");
        self.batches.push_back(Batch { wanted, values: Vec::new(), owner });
    }

    /// A reply has come.
    pub(crate) fn receive(&mut self, value: Value) -> Received<T> {
        if matches!(value, Value::Push(_)) {
            return Received::Pushed;
        }
        let Some(batch) = self.batches.front_mut() else { return Received::Unasked };
        batch.values.push(value);
        if batch.values.len() < batch.wanted {
            return Received::Partial;
        }
        match self.batches.pop_front() {
            Some(batch) => Received::Complete(batch.owner, batch.values),
            None => Received::Unasked,
        }
    }

    /// Everyone who still waits, once no more replies will come.
    pub(crate) fn abandon(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.batches).into_iter().map(|batch| batch.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_go_to_who_asked_first() {
        let mut inflight = Inflight::new();
        inflight.expect(1, 'a');
        inflight.expect(2, 'b');
        let int = Value::Int;
        assert_eq!(inflight.receive(int(1)), Received::Complete('a', vec![int(1)]));
        assert_eq!(inflight.receive(int(2)), Received::Partial);
        assert_eq!(inflight.receive(Value::Push(vec![])), Received::Pushed);
        inflight.expect(1, 'c');
        assert_eq!(inflight.receive(int(3)), Received::Complete('b', vec![int(2), int(3)]));
        assert_eq!(inflight.abandon().collect::<Vec<_>>(), ['c']);
        assert_eq!(inflight.receive(int(4)), Received::Unasked);
    }
}
