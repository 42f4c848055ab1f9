//! Does a cluster lose, invent or reorder anything when its nodes are killed, paused, cut off, given
//! a bad network, a wrong clock, an empty, full or failing disk? Does it go on as soon as it can?
//! `cairn_tests::rig` says what is done and checked; this does all of it and prints a table.
//!
//! `cargo bench -p cairn-tests --bench faults -- [--only NAME] [--rounds N] [--seed N] [--list]`:
//! `--only` takes a part of a name, such as `kills` or `partitions/ring`. Needs root and `ip`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use cairn_tests::rig::faults::{Fault, all, distribution};
use cairn_tests::rig::namespaces::Namespaces;
use cairn_tests::rig::scene::Report;
use cairn_tests::rng::seeds;

/// What is asked for.
struct Wanted {
    only: String,
    rounds: Option<u64>,
    seed: u64,
}

/// What became of a fault.
struct Row {
    name: String,
    rounds: u64,
    took: Duration,
    result: Result<Report, String>,
}

fn main() {
    let mut wanted = Wanted { only: String::new(), rounds: None, seed: seeds(1)[0] };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--only" => wanted.only = value(),
            "--rounds" => wanted.rounds = Some(value().parse().expect("--rounds takes a number")),
            "--seed" => wanted.seed = value().parse().expect("--seed takes a number"),
            "--list" => return all().for_each(|fault| println!("{}", fault.full_name())),
            // Cargo's own.
            "--bench" => {}
            other => panic!("{other}: --only, --rounds, --seed and --list are known"),
        }
    }
    if let Err(reason) = Namespaces::new(1) {
        eprintln!("skipped: no network namespaces can be made here: {reason}");
        return;
    }
    println!("seed {} (--seed {} repeats its choices)", wanted.seed, wanted.seed);
    let chosen = all().filter(|fault| fault.full_name().contains(&wanted.only));
    let rows: Vec<Row> = chosen.filter_map(|fault| run(fault, &wanted)).collect();
    print_table(&rows);
    assert!(!rows.is_empty(), "{} is the name of no fault", wanted.only);
    let failed = rows.iter().filter(|row| row.result.is_err()).count();
    if failed > 0 {
        eprintln!("{failed} of {} failed; seed {}", rows.len(), wanted.seed);
        std::process::exit(1);
    }
}

/// None: it cannot be done here, and why has been said.
fn run(fault: &Fault, wanted: &Wanted) -> Option<Row> {
    let name = fault.full_name();
    if let Err(reason) = (fault.available)() {
        eprintln!("{name} skipped: {reason}");
        return None;
    }
    // Nodes that are added stay: there are enough for one round.
    let most = if fault.spare > 0 { 1 } else { u64::MAX };
    let rounds = wanted.rounds.unwrap_or(fault.rounds).min(most);
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| fault.run(wanted.seed, rounds)));
    let result = result.unwrap_or_else(|panic| Err(text_of(panic.as_ref())));
    let row = Row { name, rounds, took: start.elapsed(), result };
    println!("{}", line(&row));
    match &row.result {
        Ok(report) => {
            report.notes.iter().for_each(|note| println!("    {note}"));
            report.errors.iter().for_each(|error| println!("    answered: {error}"));
            if let Some(longest) = longest(&report.gaps) {
                println!("    longest write gaps, ms: {longest}");
            }
        }
        Err(why) => println!("--- {}: {why}", row.name),
    }
    Some(row)
}

/// The longest of many.
fn longest(gaps: &[Duration]) -> Option<String> {
    let mut sorted: Vec<u128> = gaps.iter().map(Duration::as_millis).collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let shown: Vec<String> = sorted.iter().take(12).map(ToString::to_string).collect();
    (sorted.len() > 4).then(|| shown.join(" "))
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn line(row: &Row) -> String {
    let Row { name, rounds, took, result } = row;
    let start = format!("{name:<34} {rounds:>6} {:>7}", took.as_secs());
    let Ok(report) = result else { return format!("{start}  FAILED") };
    let Report { operations, failed, unknown, gaps, .. } = report;
    let ms = |gap: Duration| format!("{:.0}", gap.as_secs_f64() * 1000.0);
    let gaps = distribution(gaps).map_or_else(|| ["-"; 3].map(str::to_owned), |all| all.map(ms));
    let [p50, p99, max] = gaps;
    format!("{start} {operations:>10} {failed:>7} {unknown:>8} {p50:>7} {p99:>7} {max:>7}  sound")
}

fn print_table(rows: &[Row]) {
    println!(
        "\n{:<34} {:>6} {:>7} {:>10} {:>7} {:>8} {:>7} {:>7} {:>7}  verdict",
        "fault", "rounds", "s", "operations", "failed", "unknown", "p50", "p99", "max"
    );
    println!("{:<78} write gap, ms", "");
    rows.iter().for_each(|row| println!("{}", line(row)));
}
