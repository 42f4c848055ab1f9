//! Does a node that is used hard and killed every few seconds still hold what it must, in bounded
//! room? `cairn_tests::soak` says what is done and checked; this prints how it goes.
//!
//! `cargo bench -p cairn-tests --bench soak`; `CAIRN_SOAK_MINUTES` (2) on each medium,
//! `CAIRN_SOAK_MEDIUM=memory` or `file` for one of them, `CAIRN_SEED` to repeat a run's choices.

use std::time::{Duration, Instant};

use cairn_tests::rng::seeds;
use cairn_tests::scratch::Medium;
use cairn_tests::soak::{Soak, Summary};

fn main() {
    let minutes = std::env::var("CAIRN_SOAK_MINUTES").unwrap_or_else(|_| "2".into());
    let minutes: f64 = minutes.parse().expect("CAIRN_SOAK_MINUTES is a number");
    for medium in media() {
        for seed in seeds(1) {
            soak(medium, Duration::from_secs_f64(minutes * 60.0), seed);
        }
    }
}

fn media() -> Vec<Medium> {
    match std::env::var("CAIRN_SOAK_MEDIUM").as_deref() {
        Err(_) => Medium::ALL.to_vec(),
        Ok("memory") => vec![Medium::Memory],
        Ok("file") => vec![Medium::File],
        Ok(other) => panic!("CAIRN_SOAK_MEDIUM={other}: memory and file are known"),
    }
}

fn soak(medium: Medium, duration: Duration, seed: u64) {
    println!("{medium:?}, {duration:?}, seed {seed} (CAIRN_SEED={seed} repeats its choices)");
    let (start, mut told) = (Instant::now(), 0);
    let tell = |summary: &Summary| {
        let minute = start.elapsed().as_secs() / 60;
        if minute > told {
            told = minute;
            println!("minute {minute}: {summary:?}");
        }
    };
    let summary = Soak::new(medium, seed).run(duration, tell);
    println!("{medium:?}: all as it must be, `cairn check --deep` included: {summary:#?}");
}
