use super::*;
use crate::rng::{Rng, seeds};

fn write(client: u64, value: Value, invoked: u64, returned: u64) -> Operation {
    Operation::write(client, 0, value, invoked, returned)
}

fn read(client: u64, saw: State, invoked: u64, returned: u64) -> Operation {
    Operation::read(client, 0, saw, invoked, returned)
}

fn swap(client: u64, saw: State, value: Value, invoked: u64, returned: u64) -> Operation {
    Operation::swap(client, 0, (saw, value), invoked, returned)
}

fn rows() -> Vec<(&'static str, bool, Vec<Operation>)> {
    vec![
        ("nothing happened", true, vec![]),
        ("nothing is there at first", true, vec![read(1, None, 0, 1), write(1, 7, 2, 3)]),
        ("a write, then read", true, vec![write(1, 7, 0, 1), read(2, Some(7), 2, 3)]),
        ("a stale read", false, vec![write(1, 7, 0, 1), read(2, None, 2, 3)]),
        (
            "a stale read of an older value",
            false,
            vec![write(1, 7, 0, 1), write(1, 8, 2, 3), read(2, Some(7), 4, 5)],
        ),
        (
            "either while the write is on its way",
            true,
            vec![write(1, 7, 0, 10), read(2, None, 1, 2), read(3, Some(7), 3, 4)],
        ),
        (
            "the new value, then the old one, while the write is on its way",
            false,
            vec![write(1, 7, 0, 10), read(2, Some(7), 1, 2), read(3, None, 3, 4)],
        ),
        ("what ends as the other begins is concurrent", true, {
            vec![write(1, 7, 0, 5), read(2, None, 5, 6)]
        }),
        ("a value that nobody wrote", false, vec![write(1, 7, 0, 1), read(2, Some(9), 2, 3)]),
        ("a value before it was written", false, vec![read(2, Some(7), 0, 1), write(1, 7, 2, 3)]),
        ("a lost write", false, vec![write(1, 7, 0, 1), write(2, 8, 2, 3), read(1, Some(7), 4, 5)]),
        (
            "two values that swap back",
            false,
            vec![
                write(1, 7, 0, 10),
                write(2, 8, 0, 10),
                read(3, Some(7), 11, 12),
                read(3, Some(8), 13, 14),
                read(3, Some(7), 15, 16),
            ],
        ),
        (
            "two concurrent writes in either order",
            true,
            vec![write(1, 7, 0, 10), write(2, 8, 0, 10), read(3, Some(7), 11, 12)],
        ),
        (
            "two readers that disagree about the order",
            false,
            vec![
                write(1, 7, 0, 10),
                write(2, 8, 0, 10),
                read(3, Some(7), 1, 2),
                read(3, Some(8), 3, 4),
                read(4, Some(7), 5, 6),
            ],
        ),
        (
            "a write without an answer that happened late",
            true,
            vec![
                write(1, 7, 0, 1).unanswered(),
                write(2, 8, 2, 3),
                read(3, Some(8), 4, 5),
                read(3, Some(7), 6, 7),
            ],
        ),
        (
            "a write without an answer that happened once, not twice",
            false,
            vec![
                write(1, 7, 0, 1).unanswered(),
                read(3, Some(7), 2, 3),
                write(2, 8, 4, 5),
                read(3, Some(7), 6, 7),
            ],
        ),
        (
            "a write without an answer that never happened",
            true,
            vec![write(1, 7, 0, 1).unanswered(), read(3, None, 5, 6)],
        ),
        (
            "a write without an answer that was read before it was sent",
            false,
            vec![read(3, Some(7), 0, 1), write(1, 7, 2, 3).unanswered()],
        ),
        (
            "two that replaced the same value",
            false,
            vec![write(1, 7, 0, 1), swap(2, Some(7), 8, 2, 5), swap(3, Some(7), 9, 2, 5)],
        ),
        (
            "a chain of swaps",
            true,
            vec![
                swap(1, None, 7, 0, 9),
                swap(2, Some(7), 8, 0, 9),
                swap(3, Some(8), 9, 0, 9),
                read(4, Some(9), 10, 11),
            ],
        ),
        (
            "a chain of swaps of which the first was not answered",
            true,
            vec![
                swap(1, None, 7, 0, 1).unanswered(),
                swap(2, Some(7), 8, 2, 3),
                read(4, Some(8), 4, 5),
            ],
        ),
        (
            "an unanswered compare-and-set whose demand was past",
            false,
            vec![
                swap(1, None, 7, 2, 3).unanswered(),
                write(2, 8, 0, 1),
                read(4, Some(8), 4, 5),
                read(4, Some(7), 6, 7),
            ],
        ),
    ]
}

#[test]
fn known_histories_are_judged_right() {
    for (name, good, history) in rows() {
        assert_eq!(check(&history).is_ok(), good, "{name}");
        assert_eq!(is_linearizable(&history), by_brute_force(&history), "{name}");
    }
}

#[test]
fn keys_are_judged_apart() {
    let stale = [write(1, 7, 0, 1), read(2, None, 2, 3)];
    let other: Vec<Operation> = stale.iter().map(|op| Operation { key: 1, ..*op }).collect();
    assert_eq!(check(&[stale[0], other[1]]), Ok(()));
    let violation = check(&[stale[0], other[0], other[1]]).unwrap_err();
    assert_eq!((violation.key, violation.operations), (1, 2));
}

#[test]
#[should_panic(expected = "7 is written to key 0 twice")]
fn values_must_be_unique() {
    let _ = check(&[write(1, 7, 0, 1), write(2, 7, 0, 1)]);
}

/// Tries every order of every choice of the operations without an answer.
fn by_brute_force(history: &[Operation]) -> bool {
    fn go_on(left: &[Operation], state: State) -> bool {
        if left.iter().all(|op| op.returned.is_none()) {
            return true;
        }
        (0..left.len()).any(|at| {
            let op = left[at];
            let may_be_first = left.iter().all(|o| o.returned.is_none_or(|r| r >= op.invoked));
            let rest: Vec<Operation> = [&left[..at], &left[at + 1..]].concat();
            may_be_first
                && op.saw.is_none_or(|saw| saw == state)
                && go_on(&rest, op.wrote.or(state))
        })
    }
    go_on(history, None)
}

/// A tiny history, right by its making (each takes effect at a moment of its own) or with an answer
/// changed.
fn tiny(rng: &mut Rng) -> Vec<Operation> {
    let count = 1 + rng.below(7);
    let mut moments: Vec<u64> = (0..count).map(|_| rng.below(20)).collect();
    moments.sort_unstable();
    let (mut state, mut history) = (None, Vec::new());
    for (at, moment) in (0..count).zip(moments) {
        let (invoked, returned) = (moment - rng.below(moment + 1).min(5), moment + rng.below(6));
        let value = at + 1;
        let operation = match rng.below(3) {
            0 => write(at, value, invoked, returned),
            1 => read(at, state, invoked, returned),
            _ => swap(at, state, value, invoked, returned),
        };
        let unanswered = rng.once_in(4);
        // Of one without an answer nobody knows whether it happened.
        if !(unanswered && rng.once_in(2)) {
            state = operation.wrote.or(state);
        }
        history.push(if unanswered { operation.unanswered() } else { operation });
    }
    if rng.once_in(2) {
        let at = rng.below(count) as usize;
        if history[at].saw.is_some() {
            let value = rng.below(count + 1);
            history[at].saw = Some(Some(value).filter(|value| *value > 0));
        }
    }
    history
}

#[test]
fn tiny_histories_are_judged_as_by_trying_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in seeds(20_000) {
        let history = tiny(&mut Rng::new(seed));
        let wanted = by_brute_force(&history);
        if wanted {
            good += 1
        } else {
            bad += 1
        }
        match check(&history) {
            Ok(()) => assert!(wanted, "CAIRN_SEED={seed}: {history:#?} has no order"),
            Err(violation) => {
                assert!(!wanted, "CAIRN_SEED={seed}: {history:#?} has an order");
                // What is shown must be wrong by itself.
                assert!(!by_brute_force(&violation.least), "CAIRN_SEED={seed}: {violation}");
            }
        }
    }
    assert!(good > bad / 20 && bad > good / 20, "{good} good, {bad} bad");
}

/// A long history of `clients` at one key, of which some operations never end.
fn long(rng: &mut Rng, clients: u64, count: u64) -> Vec<Operation> {
    let mut free_at = vec![0; clients as usize];
    let mut planned = Vec::new();
    for value in 1..=count {
        let client = rng.below(clients);
        let invoked = free_at[client as usize] + 1 + rng.below(20);
        // Once in a while nobody answers for a long time, as in a partition.
        let took = if rng.once_in(200) { 2000 } else { 10 + rng.below(50) };
        free_at[client as usize] = invoked + took;
        planned.push((invoked + rng.below(took), invoked, invoked + took, client, value));
    }
    planned.sort_unstable();
    let mut state = None;
    let operations = planned.into_iter().map(|(_, invoked, returned, client, value)| {
        let operation = match rng.below(10) {
            0..=4 => read(client, state, invoked, returned),
            5 => swap(client, state, value, invoked, returned),
            _ => write(client, value, invoked, returned),
        };
        let lost = rng.once_in(40);
        if !(lost && rng.once_in(2)) {
            state = operation.wrote.or(state);
        }
        match (lost, operation.wrote) {
            (true, Some(value)) => write(client, value, invoked, returned).unanswered(),
            (true, None) => operation.unanswered(),
            (false, _) => operation,
        }
    });
    operations.collect()
}

/// That one read is wrong among thousands is found, and shown by a handful.
#[test]
fn long_histories_are_judged_fast_and_shown_short() {
    let seed = seeds(1)[0];
    println!("CAIRN_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut history = long(&mut rng, 12, 10_000);
    let start = std::time::Instant::now();
    if let Err(violation) = check(&history) {
        panic!("seed {seed}: {violation}");
    }
    let judged = start.elapsed();
    let reads: Vec<usize> = (5000..history.len())
        .filter(|at| history[*at].wrote.is_none() && history[*at].returned.is_some())
        .collect();
    // A value of long ago.
    let old = history[..2000].iter().rev().find(|op| op.wrote.is_some() && op.returned.is_some());
    history[*rng.pick(&reads)].saw = Some(old.expect("it was written").wrote);
    let violation = check(&history).expect_err("a stale read");
    println!("{judged:?}, with a violation {:?}\n{violation}", start.elapsed() - judged);
    assert!(violation.least.len() <= 12, "seed {seed}: {violation}");
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
