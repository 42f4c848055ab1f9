//! Transactions and watched keys, over the commands of all families.

use cairn_tests::rng::Rng;

use super::{FAMILIES, Family, Step, expand, words};

pub const FAMILY: Family = Family { common: COMMON, rare: RARE, keys: &[b"a"], argument, special };

const COMMON: &[&str] = &["WATCH any+", "UNWATCH", "EXEC", "DISCARD"];

const RARE: &[&str] =
    &["MULTI", "WATCH", "MULTI value", "EXEC value", "DISCARD value", "UNWATCH value"];

fn argument(_: &mut Rng, _: &str) -> Option<Vec<u8>> {
    None
}

/// A whole transaction; two in three depend on keys, of which some have been changed by then.
fn special(rng: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut call = |args| steps.push(Step::Call(args));
    if !rng.once_in(3) {
        call(words(rng, "WATCH any+"));
        for _ in 0..rng.below(3) {
            call(any_command(rng));
        }
    }
    call(words(rng, "MULTI"));
    for _ in 0..rng.below(7) {
        call(match rng.below(20) {
            0 => expand(rng, RARE),
            1 => words(rng, "SELECT small_db"),
            _ => any_command(rng),
        });
    }
    call(words(rng, "EXEC|EXEC|EXEC|EXEC|DISCARD"));
    steps
}

fn any_command(rng: &mut Rng) -> Vec<Vec<u8>> {
    let family = rng.pick(FAMILIES);
    expand(rng, family.common)
}
