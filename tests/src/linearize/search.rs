//! The search for an order, backwards out of each dead end.

use std::collections::{HashMap, HashSet};

use super::Settled;
use crate::history::State;
use crate::rng::Rng;

/// Whether some order explains operations that all took effect.
pub(super) fn order_exists(operations: &[Settled]) -> bool {
    Search::new(operations).run()
}

/// The calls and answers that are not in the order yet, by time: a list from which they are taken
/// and into which they are put back in O(1).
struct Timeline {
    /// Which operation an event is of; calls are told from answers by `answer_of`.
    operation: Vec<usize>,
    is_call: Vec<bool>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// The events of each operation.
    call_of: Vec<usize>,
    answer_of: Vec<usize>,
}

/// Where the list begins and ends.
const HEAD: usize = 0;

impl Timeline {
    fn new(operations: &[Settled]) -> Timeline {
        let calls = operations.iter().enumerate().map(|(at, op)| (op.invoked, 0u8, at));
        let answers = operations.iter().enumerate().map(|(at, op)| (op.returned, 1u8, at));
        let mut events: Vec<(u64, u8, usize)> = calls.chain(answers).collect();
        // Calls first: what begins when another ends is concurrent with it.
        events.sort_unstable();
        let count = events.len() + 1;
        let mut timeline = Timeline {
            operation: vec![usize::MAX; count],
            is_call: vec![false; count],
            next: (1..=count).map(|at| at % count).collect(),
            previous: (0..count).map(|at| (at + count - 1) % count).collect(),
            call_of: vec![0; operations.len()],
            answer_of: vec![0; operations.len()],
        };
        for (at, (_, kind, operation)) in events.into_iter().enumerate() {
            let event = at + 1;
            timeline.operation[event] = operation;
            timeline.is_call[event] = kind == 0;
            let of = if kind == 0 { &mut timeline.call_of } else { &mut timeline.answer_of };
            of[operation] = event;
        }
        timeline
    }

    /// The first call from `event` on that no answer stands before.
    fn call_from(&self, event: usize) -> Option<usize> {
        (event != HEAD && self.is_call[event]).then_some(event)
    }

    fn take(&mut self, operation: usize) {
        for event in [self.call_of[operation], self.answer_of[operation]] {
            self.next[self.previous[event]] = self.next[event];
            self.previous[self.next[event]] = self.previous[event];
        }
    }

    /// Puts back what was taken last.
    fn put_back(&mut self, operation: usize) {
        for event in [self.answer_of[operation], self.call_of[operation]] {
            self.next[self.previous[event]] = event;
            self.previous[self.next[event]] = event;
        }
    }
}

/// A choice that may have been wrong: a write that others could have come before.
struct Choice {
    /// The write's call.
    call: usize,
    /// How long the order was before it.
    order_len: usize,
    /// What the key held before it.
    before: State,
}

struct Search<'a> {
    operations: &'a [Settled],
    timeline: Timeline,
    /// What the key holds after `order`.
    state: State,
    order: Vec<usize>,
    /// How many that are not in the order yet saw a value.
    unseen: HashMap<State, usize>,
    /// What stands for an operation in `hash`.
    marks: Vec<u128>,
    /// Of the operations in the order, whatever their order.
    hash: u128,
    /// What was tried without success: 128 bits stand for a set of operations, and that two sets
    /// ever share them is less likely than that this machine fails.
    tried: HashSet<(u128, State)>,
    choices: Vec<Choice>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Settled]) -> Search<'a> {
        let mut rng = Rng::new(operations.len() as u64);
        let mut bits = || u128::from(rng.bits()) << 64 | u128::from(rng.bits());
        let mut unseen = HashMap::new();
        operations.iter().filter_map(|op| op.saw).for_each(|s| *unseen.entry(s).or_default() += 1);
        Search {
            operations,
            timeline: Timeline::new(operations),
            state: None,
            order: Vec::with_capacity(operations.len()),
            unseen,
            marks: operations.iter().map(|_| bits()).collect(),
            hash: 0,
            tried: HashSet::new(),
            choices: Vec::new(),
        }
    }

    fn run(mut self) -> bool {
        loop {
            self.take_what_is_free();
            if self.order.len() == self.operations.len() {
                return true;
            }
            let first = self.timeline.next[HEAD];
            let mut call = if self.tried.insert((self.hash, self.state)) {
                self.choice_from(first)
            } else {
                None
            };
            while call.is_none() {
                let Some(choice) = self.choices.pop() else { return false };
                self.undo_to(&choice);
                call = self.choice_from(self.timeline.next[choice.call]);
            }
            let call = call.expect("the loop ends with one");
            self.choices.push(Choice { call, order_len: self.order.len(), before: self.state });
            self.append(self.timeline.operation[call]);
        }
    }

    /// Appends what can do no harm now: whoever sees what is there, and, once all have, a write
    /// that nobody sees. An order that has them later has a twin that has them here.
    fn take_what_is_free(&mut self) {
        let mut event = self.timeline.next[HEAD];
        while let Some(call) = self.timeline.call_from(event) {
            let operation = self.timeline.operation[call];
            event = self.timeline.next[call];
            if self.is_free(operation) {
                self.append(operation);
                // It may have been what others had to wait for, or what they were to see.
                event = self.timeline.next[HEAD];
            }
        }
    }

    fn is_free(&self, operation: usize) -> bool {
        let Settled { saw, wrote, .. } = self.operations[operation];
        match wrote {
            None => saw.is_none_or(|saw| saw == self.state),
            Some(value) => {
                saw.is_none() && self.left(self.state) == 0 && self.left(Some(value)) == 0
            }
        }
    }

    /// How many are yet to see a state.
    fn left(&self, state: State) -> usize {
        self.unseen.get(&state).copied().unwrap_or(0)
    }

    /// The first write from `event` on that may come next.
    fn choice_from(&self, mut event: usize) -> Option<usize> {
        while let Some(call) = self.timeline.call_from(event) {
            let Settled { saw, wrote, .. } = self.operations[self.timeline.operation[call]];
            // What is yet to be seen must stay, and comes only once.
            let fits = match saw {
                None => self.left(self.state) == 0,
                Some(saw) => saw == self.state && self.left(self.state) == 1,
            };
            if wrote.is_some() && fits {
                return Some(call);
            }
            event = self.timeline.next[call];
        }
        None
    }

    fn append(&mut self, operation: usize) {
        let Settled { saw, wrote, .. } = self.operations[operation];
        if let Some(count) = saw.and_then(|saw| self.unseen.get_mut(&saw)) {
            *count -= 1;
        }
        if wrote.is_some() {
            self.state = wrote;
        }
        self.timeline.take(operation);
        self.hash ^= self.marks[operation];
        self.order.push(operation);
    }

    fn undo_to(&mut self, choice: &Choice) {
        for operation in self.order.drain(choice.order_len..).rev() {
            self.timeline.put_back(operation);
            self.hash ^= self.marks[operation];
            if let Some(saw) = self.operations[operation].saw {
                *self.unseen.entry(saw).or_default() += 1;
            }
        }
        self.state = choice.before;
    }
}
