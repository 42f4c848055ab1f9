//! `cairn check`: is what a stopped node left whole?

use cairn_protocol::ids::{LogIndex, Term};
use cairn_store::StoreError;
use cairn_store::check::{Report, check_file};
use cairn_store::log::{Log, LogError, Recovered};

use super::place::Place;
use super::{Verdict, epoch_text, progress_bar, say};
use crate::ops::config::CheckArgs;
use crate::ops::lock_file::LockFile;
use crate::ops::units::human_bytes;
use crate::raft::recover::{Pairing, pairing};

/// What was found out.
#[derive(Default)]
struct Findings {
    /// What the next start mends.
    mends: Vec<String>,
    /// What is wrong, at least the first of it.
    problems: Vec<String>,
    /// How much of it is not listed.
    unlisted: u64,
}

impl Findings {
    fn verdict(&self) -> Verdict {
        match (self.problems.is_empty(), self.mends.is_empty()) {
            (true, true) => Verdict::Clean,
            (true, false) => Verdict::Mendable,
            (false, _) => Verdict::Damaged,
        }
    }

    fn print(&self) {
        self.mends.iter().for_each(|mend| say(&format!("mended by the next start: {mend}")));
        self.problems.iter().for_each(|problem| say(&format!("problem: {problem}")));
        if self.unlisted > 0 {
            say(&format!("problem: {} more", self.unlisted));
        }
        match self.verdict() {
            Verdict::Clean => say("clean"),
            Verdict::Mendable => say("sound; start the node to have this mended"),
            _ => say(
                "damaged: keep a copy of the directory, then restore it from a backup or a peer; \
                 a node started on it serves what is whole and answers CORRUPT for the rest",
            ),
        }
    }
}

/// Walks the pool and reads the log of a node that does not run, and prints what it finds.
///
/// # Errors
/// What kept it from looking.
pub fn check(args: &CheckArgs) -> Result<Verdict, String> {
    let place = Place::find(&args.dir)?;
    let _lock = LockFile::acquire_to_look(&args.dir).map_err(|refusal| refusal.to_string())?;
    let mut findings = Findings::default();
    let applied = check_pool(&place, args.deep, &mut findings)?;
    let log = check_log(&place, &mut findings)?;
    if let (Some(applied), Some(log)) = (applied, log) {
        check_pair(&place, applied, &log, &mut findings);
    }
    if let Some((path, bytes)) = &place.incoming {
        let size = human_bytes(*bytes);
        say(&format!(
            "{}: {size} of a peer's pool that has not arrived whole; the next transfer goes on with \
             it or begins anew, and without it too",
            path.display()
        ));
    }
    findings.print();
    Ok(findings.verdict())
}

/// Walks the pool; returns the last log entry it contains, unless it cannot be opened at all.
fn check_pool(
    place: &Place,
    deep: bool,
    findings: &mut Findings,
) -> Result<Option<(Term, LogIndex)>, String> {
    let (bar, mut progress) = progress_bar();
    let checked = check_file(&place.pool, deep, &mut progress);
    bar.finish_and_clear();
    let report = match checked {
        Ok(report) => report,
        Err(error @ StoreError::Corrupt(_)) => {
            findings.problems.push(error.to_string());
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    say(&format!("pool {}: {}", place.pool.display(), summary(&report)));
    findings.mends.extend(report.note);
    findings.unlisted = report.problem_count - report.problems.len() as u64;
    findings.problems.extend(report.problems);
    if report.leaked_blocks > 0 {
        let blocks = report.leaked_blocks;
        findings.problems.push(format!(
            "{blocks} blocks are marked in use and nothing leads to them: no data is wrong, their \
             space is lost"
        ));
    }
    Ok(Some(report.applied))
}

fn summary(report: &Report) -> String {
    format!(
        "epoch {}, {} keys, {} blocks of {} bytes, {}",
        epoch_text(report.epoch),
        report.keys,
        report.blocks,
        report.live_bytes,
        if report.deep { "checksums verified" } else { "checksums not verified (--deep does)" },
    )
}

/// Reads the log, every checksum in it; `None` when it cannot be opened.
fn check_log(place: &Place, findings: &mut Findings) -> Result<Option<Recovered>, String> {
    let path = place.log.display();
    if !place.has_log {
        // What that means depends on the pool, which says what it needs of it.
        say(&format!("log {path}: missing"));
        return Ok(Some(Recovered::default()));
    }
    match Log::look(&place.log) {
        Ok((recovered, segments)) => {
            let needed = segments.iter().filter(|segment| segment.is_needed).count();
            say(&format!(
                "log {path}: {needed} of {} segments needed, {} bytes of records, checksums verified",
                segments.len(),
                recovered.scanned_bytes
            ));
            findings.mends.extend(recovered.cut.as_ref().map(|cut| {
                format!(
                    "{}: an incomplete batch at byte {}, which was never acknowledged",
                    cut.file, cut.offset
                )
            }));
            Ok(Some(recovered))
        }
        Err(error @ LogError::Damaged { .. }) => {
            findings.problems.push(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn check_pair(place: &Place, applied: (Term, LogIndex), log: &Recovered, findings: &mut Findings) {
    let (pool, log_dir, applied_index) = (place.pool.display(), place.log.display(), applied.1);
    match pairing(applied, log) {
        Pairing::Whole => {}
        Pairing::PoolTooOld { first } => findings.problems.push(format!(
            "the pool {pool} holds entries up to {applied_index}, the log {log_dir} only those from \
             {first}: the pool is older than its log"
        )),
        Pairing::LogTooShort { last } => findings.problems.push(format!(
            "the log {log_dir} ends at entry {last}, the pool {pool} holds entries up to \
             {applied_index}: the log was removed, is another's, or lost its end to a power loss \
             under --durability everysec (a start with that option accepts the last)"
        )),
    }
}
