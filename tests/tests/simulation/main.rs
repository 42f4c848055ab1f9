//! Clusters in one process, each from a seed: see [`cairn_tests::sim`].
//!
//! `CAIRN_SEED=n` repeats one run and shows what happened in it, `CAIRN_SCHEDULES=n` runs that many,
//! `CAIRN_SCENE` and `CAIRN_BUG` name the only ones that are wanted:
//! `CAIRN_SCHEDULES=5000 cargo test --release -p cairn-tests --test simulation -- --nocapture`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use cairn_tests::rng::seeds;
use cairn_tests::sim::bugs::Bug;
use cairn_tests::sim::plan::Plan;
use cairn_tests::sim::scenes::Scene;
use cairn_tests::sim::{Outcome, run};

/// How many runs there are where nobody says otherwise, and how long they may take together.
const USUAL: u64 = 200;
const USUAL_TIME: Duration = Duration::from_secs(12);

/// How many runs are wanted, if somebody says so.
fn wanted() -> Option<u64> {
    std::env::var("CAIRN_SCHEDULES").ok().map(|text| text.parse().expect("a number of runs"))
}

/// Whether it is the one that a variable names, or none is named.
fn is_named(variable: &str, what: &impl Debug) -> bool {
    std::env::var(variable).map_or(true, |name| name == format!("{what:?}"))
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

/// Runs the plans of many seeds; fails if one of them does.
fn run_all(usual: u64, usual_time: Duration, plan: impl Fn(u64) -> Plan) {
    let start = Instant::now();
    let (mut runs, mut total, mut failures) = (0, BTreeMap::new(), Vec::new());
    let wanted = wanted();
    for seed in seeds(wanted.unwrap_or(usual)) {
        let keeps_events = std::env::var_os("CAIRN_SEED").is_some();
        let outcome = run(Plan { keeps_events, ..plan(seed) });
        outcome.events.iter().for_each(|event| println!("{event}"));
        sum(&mut total, &outcome);
        failures.extend(outcome.failure);
        runs += 1;
        if wanted.is_none() && start.elapsed() > usual_time {
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

#[test]
fn nothing_acknowledged_is_lost_whatever_goes_wrong() {
    run_all(USUAL, USUAL_TIME, Plan::draw);
}

#[test]
fn nothing_is_lost_where_one_promise_counts() {
    for scene in Scene::ALL.into_iter().filter(|scene| is_named("CAIRN_SCENE", scene)) {
        println!("{scene:?}");
        run_all(USUAL, USUAL_TIME / 10, |seed| Plan::staged(seed, scene));
    }
}

/// Puts a bug in and says by what it is caught in the run of a seed.
fn hunt(bug: Bug, plan: Plan) -> Option<String> {
    let seed = plan.seed;
    let keeps_events = std::env::var_os("CAIRN_SEED").is_some();
    let outcome = run(Plan { bug: Some(bug), keeps_events, ..plan.clone() });
    outcome.events.iter().for_each(|event| println!("{event}"));
    let failure = outcome.failure?;
    let what = failure.lines().next().unwrap_or_default();
    println!("{bug:?}, seed {seed}: {what}");
    if keeps_events {
        println!("{plan:?}");
    }
    Some(what.to_owned())
}

/// The seeds from zero on, or the one that is asked for.
fn hunted(runs: u64) -> Vec<u64> {
    if std::env::var_os("CAIRN_SEED").is_some() { seeds(1) } else { (0..runs).collect() }
}

/// A bug must be caught within so many runs, and by what it breaks.
fn is_caught(bug: Bug, runs: u64, by: &str) {
    let (start, runs) = (Instant::now(), hunted(runs));
    let caught = runs.iter().find_map(|seed| hunt(bug, plan(bug, *seed)));
    let what = caught.unwrap_or_else(|| panic!("{bug:?} is not caught in the runs {runs:?}"));
    assert!(what.contains(by), "{bug:?} is caught by something else: {what}");
    println!("{:?}", start.elapsed());
}

/// The scene in which a bug comes to light.
fn scene(bug: Bug) -> Option<Scene> {
    match bug {
        // Whatever goes wrong shows it.
        Bug::SyncIgnored => None,
        Bug::VoteNotSynced => Some(Scene::DoubleVote),
        Bug::LeaseLookedAtBefore => Some(Scene::LateRead),
        Bug::LeaseForgotten => Some(Scene::ForgottenLease),
        Bug::SnapshotHalf => Some(Scene::LostSnapshot),
        Bug::EpochReused => Some(Scene::TornCommit),
    }
}

/// The runs of a bug: those of its scene, or any.
fn plan(bug: Bug, seed: u64) -> Plan {
    scene(bug).map_or_else(|| Plan::draw(seed), |scene| Plan::staged(seed, scene))
}

#[test]
fn a_sync_that_is_ignored_is_caught() {
    is_caught(Bug::SyncIgnored, 30, "applied never beyond durable");
}

#[test]
fn a_vote_that_is_not_synced_is_caught() {
    is_caught(Bug::VoteNotSynced, 10, "election safety");
}

#[test]
fn a_lease_that_is_looked_at_before_the_read_only_is_caught() {
    is_caught(Bug::LeaseLookedAtBefore, 20, "current when it was read");
}

#[test]
fn a_lease_that_a_start_forgets_is_caught() {
    is_caught(Bug::LeaseForgotten, 10, "while a lease stands");
}

#[test]
fn a_snapshot_that_is_durable_half_is_caught() {
    is_caught(Bug::SnapshotHalf, 20, "a pool is whole");
}

#[test]
fn an_epoch_that_is_used_again_is_caught() {
    is_caught(Bug::EpochReused, 30, "a pool is whole");
}

#[test]
#[ignore = "takes minutes; CAIRN_SCHEDULES says how many runs of each kind"]
fn how_often_bugs_are_caught() {
    for bug in Bug::ALL.into_iter().filter(|bug| is_named("CAIRN_BUG", bug)) {
        let plans: [(&str, &dyn Fn(u64) -> Plan); 2] =
            [("by chance", &Plan::draw), ("in its scene", &|seed| plan(bug, seed))];
        for (how, plan) in plans {
            let (start, runs) = (Instant::now(), hunted(wanted().unwrap_or(100)));
            let caught = runs.iter().filter(|seed| hunt(bug, plan(**seed)).is_some()).count();
            println!("{bug:?} {how}: in {caught} of {} runs, {:?}", runs.len(), start.elapsed());
            assert!(caught > 0 || how == "by chance", "{bug:?} is not caught");
        }
    }
}
