//! Clusters in one process, each from a seed: see [`cairn_tests::sim`].
//!
//! `CAIRN_SEED=n` repeats one run and shows what happened in it, `CAIRN_SCHEDULES=n` runs that many:
//! `CAIRN_SCHEDULES=5000 cargo test --release -p cairn-tests --test simulation -- --nocapture`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_tests::rng::seeds;
use cairn_tests::sim::bugs::Bug;
use cairn_tests::sim::plan::Plan;
use cairn_tests::sim::{Outcome, run};

/// How many runs there are where nobody says otherwise, and how long they may take together.
const USUAL: u64 = 200;
const USUAL_TIME: Duration = Duration::from_secs(12);

/// How many runs are wanted, if somebody says so.
fn wanted() -> Option<u64> {
    std::env::var("CAIRN_SCHEDULES").ok().map(|text| text.parse().expect("a number of runs"))
}

fn sum(total: &mut BTreeMap<&'static str, u64>, outcome: &Outcome) {
    outcome.counts.iter().for_each(|(what, count)| *total.entry(what).or_default() += count);
}

#[test]
fn a_calm_cluster_elects_once_and_answers_everything() {
    for seed in seeds(3) {
        let outcome = run(Plan::calm(seed));
        assert!(outcome.failure.is_none(), "{}", outcome.failure.unwrap_or_default());
        let count = |what| outcome.counts.get(what).copied().unwrap_or(0);
        assert_eq!(count("terms in which somebody led"), 1, "seed {seed}");
        assert_eq!(count("operations without an answer"), 0, "seed {seed}");
        assert!(count("writes acknowledged") > 5, "seed {seed}: {:?}", outcome.counts);
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    for seed in seeds(5) {
        let plan = Plan { keeps_events: true, ..Plan::draw(seed) };
        let (one, other) = (run(plan.clone()), run(plan));
        let differs = one.events.iter().zip(&other.events).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.digest, one.counts), (other.digest, other.counts), "seed {seed}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_goes_wrong() {
    let start = Instant::now();
    let (mut runs, mut total, mut failures) = (0, BTreeMap::new(), Vec::new());
    let wanted = wanted();
    for seed in seeds(wanted.unwrap_or(USUAL)) {
        let keeps_events = std::env::var_os("CAIRN_SEED").is_some();
        let outcome = run(Plan { keeps_events, ..Plan::draw(seed) });
        outcome.events.iter().for_each(|event| println!("{event}"));
        sum(&mut total, &outcome);
        failures.extend(outcome.failure);
        runs += 1;
        if wanted.is_none() && start.elapsed() > USUAL_TIME {
            break;
        }
    }
    println!("{runs} runs in {:?}", start.elapsed());
    total.iter().for_each(|(what, count)| println!("{count:>10} {what}"));
    for failure in &failures {
        println!("{}", failure.lines().next().unwrap_or_default());
    }
    if let Some(first) = failures.first() {
        panic!("{first}\n{} of {runs} runs failed; CAIRN_SEED=n repeats one", failures.len());
    }
}

/// The number of runs within which a bug is to be caught, and whether it ever was: a restarted member
/// waits an election time-out before it campaigns, which all but hides that it forgot a lease, and
/// pools are hardly ever on their way when the power fails.
fn bound(bug: Bug) -> (u64, bool) {
    match bug {
        Bug::SyncIgnored => (30, true),
        Bug::VoteNotSynced => (500, true),
        Bug::LeaseForgotten => (2000, false),
        Bug::SnapshotHalf => (200, false),
    }
}

/// Puts a bug in and says within how many runs it was caught.
fn hunt(bug: Bug) {
    let (start, (runs, is_known)) = (Instant::now(), bound(bug));
    let caught = (0..wanted().unwrap_or(runs)).find_map(|seed| {
        let outcome = run(Plan { bug: Some(bug), ..Plan::draw(seed) });
        outcome.failure.map(|failure| (seed, failure))
    });
    let Some((seed, failure)) = caught else {
        assert!(!is_known, "{bug:?} was not caught");
        return println!("{bug:?}: not caught, as ever, {:?}", start.elapsed());
    };
    let what = failure.lines().next().unwrap_or_default();
    println!("{bug:?}: caught after {} runs, {:?}: {what}", seed + 1, start.elapsed());
}

#[test]
fn a_sync_that_is_ignored_is_caught() {
    hunt(Bug::SyncIgnored);
}

#[test]
#[ignore = "takes minutes; CAIRN_SCHEDULES bounds it"]
fn bugs_that_are_put_in_are_caught() {
    Bug::ALL.into_iter().for_each(hunt);
}
