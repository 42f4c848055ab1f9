//! The commands beside `server`: `check` verifies a stopped node's pool and log, `inspect` shows what
//! they are made of, `health` asks a running node, `dev` runs a cluster on this machine.

mod check;
mod dev;
mod health;
mod inspect;
mod place;

pub use check::check;
pub use dev::dev;
pub use health::health;
pub use inspect::inspect;

use std::io::{self, Write};
use std::process::ExitCode;

use cairn_store::pool::EPOCHS_AHEAD;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What became of looking at a node's directory; the exit codes are those of fsck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is wrong.
    Clean = 0,
    /// Nothing is lost, and the next start mends what is not as it should be.
    Mendable = 1,
    /// Something is damaged.
    Damaged = 4,
    /// Nothing could be looked at: no pool, a running node, a newer format, a refusal of the system.
    Refused = 8,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> ExitCode {
        ExitCode::from(verdict as u8)
    }
}

/// Prints a line. A reader that went away, as `head` does, has seen what it wanted.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// An epoch for people, who wonder at the gap that a crash leaves in their numbers.
fn epoch_text(epoch: u64) -> String {
    if epoch <= EPOCHS_AHEAD {
        return epoch.to_string();
    }
    format!("{epoch} (the numbers skip {EPOCHS_AHEAD} after a crash)")
}

/// A bar on a terminal, for walks that go through every key; nothing elsewhere.
fn progress_bar() -> (ProgressBar, impl FnMut(u64, u64)) {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
    let template = "{wide_bar} {percent} % of {len} keys, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("a template of indicatif's"));
    let moved = bar.clone();
    let progress = move |seen, total| {
        moved.set_length(total);
        moved.set_position(seen);
    };
    (bar, progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_in_the_numbers_of_epochs_is_explained_where_it_shows() {
        assert_eq!(epoch_text(7), "7");
        assert!(epoch_text(EPOCHS_AHEAD + 2).starts_with("16777218 (the numbers skip 16777216"));
    }

    #[test]
    fn a_progress_bar_takes_whatever_a_walk_says() {
        let (bar, mut progress) = progress_bar();
        progress(3, 0);
        progress(5, 4);
        bar.finish_and_clear();
    }
}
