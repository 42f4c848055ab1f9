//! The findings as text: aligned columns, units said.

use std::fmt::Write;

use cairn_store::check::Report;
use cairn_store::check::shape::{Shape, encoding_name, kind_name, type_name};
use cairn_store::layout::pool::EXTENT;
use cairn_store::log::{Recovered, SegmentLook};
use cairn_store::pool::{Copy, CopyLook, Superblock};

use super::{Findings, hex};
use crate::ops::units::human_bytes;
use crate::raft::vote::Vote;
use crate::tools::epoch_text;

/// All of it.
pub(super) fn render(findings: &Findings) -> String {
    let mut out = Page(String::new());
    out.title(&format!("pool {}", findings.place.pool.display()));
    match &findings.running {
        Some(pid) => out.line(
            "node",
            &format!(
                "runs with pid {pid}: only what holds still is shown; stop it to see the rest"
            ),
        ),
        None => out.line("node", "does not run"),
    }
    out.line(
        "file",
        &format!(
            "{} long, {} of it allocated",
            human_bytes(findings.file_bytes),
            human_bytes(findings.allocated_bytes)
        ),
    );
    if let Some((path, bytes)) = &findings.place.incoming {
        let size = human_bytes(*bytes);
        out.line("not yet arrived", &format!("{size} of a peer's pool, in {}", path.display()));
    }
    superblocks(&mut out, findings);
    match &findings.log {
        Some(Ok((recovered, segments))) => log(&mut out, recovered, segments),
        Some(Err(error)) => out.problem("log", error),
        None if !findings.place.has_log => out.problem("log", "missing"),
        None => {}
    }
    match &findings.walk {
        Some(Ok(report)) => walk(&mut out, report),
        Some(Err(error)) => out.problem("walk", error),
        None => {}
    }
    out.0
}

struct Page(String);

impl Page {
    fn title(&mut self, title: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}{title}"); // A String takes everything.
    }

    fn line(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "  {name:<22}{value}");
    }

    fn problem(&mut self, title: &str, problem: &str) {
        self.title(title);
        self.line("problem", problem);
    }

    /// Rows under a head: the first column to the left, numbers to the right.
    fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].len());
            cells.chain([head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
        for row in std::iter::once(&head).chain(rows) {
            let first = format!("  {:<1$}", row[0], widths[0]);
            let rest =
                row.iter().zip(&widths).skip(1).map(|(cell, width)| format!("  {cell:>width$}"));
            let _ = writeln!(self.0, "{first}{}", rest.collect::<String>());
        }
    }
}

fn superblocks(out: &mut Page, findings: &Findings) {
    let newest = findings.newest();
    for (number, copy) in findings.copies.iter().enumerate() {
        let is_used = newest.is_some_and(|(used, _)| used == number);
        let used = if is_used { ", the one that counts" } else { "" };
        out.title(&format!("superblock {number} at byte {}{used}", copy.offset));
        match &copy.content {
            Copy::Bad(why) => out.line("damaged", why),
            Copy::Good(superblock) => fields(out, copy, superblock, is_used),
        }
    }
}

fn fields(out: &mut Page, copy: &CopyLook, s: &Superblock, is_used: bool) {
    let [compat, incompat, ro_compat] = copy.features;
    out.line("checksum", "fits");
    out.line("format", &format!(
        "version {}, features compat {compat:#x}, incompat {incompat:#x}, ro_compat {ro_compat:#x}",
        copy.version
    ));
    out.line("uuid", &hex(&s.uuid));
    out.line("sequence", &s.sequence.to_string());
    out.line("epoch", &epoch_text(s.epoch));
    let stop = match (is_used, s.ceiling == s.epoch) {
        (false, _) => "",
        (true, true) => "; the node stopped in order",
        (true, false) => "; the node runs, or was killed",
    };
    out.line("epochs set aside to", &format!("{}{stop}", s.ceiling));
    out.line("root at byte", &s.root.to_string());
    out.line("applied", &format!("entry {} of term {}", s.applied.1, s.applied.0));
    out.line("clock", &format!("{} ms since 1970", s.clock_ms));
    out.line("extents", &format!("{} of {}", s.extents, human_bytes(EXTENT)));
    out.line("live", &human_bytes(s.live_bytes));
    out.line("limit", &human_bytes(s.limit_bytes));
    out.line("membership", &format!("{} bytes", s.membership.len()));
    out.line("void epochs", &voids(&s.voids));
}

fn voids(voids: &[(u64, u64)]) -> String {
    if voids.is_empty() {
        return "none: no crash's leftovers wait to be wiped".to_owned();
    }
    let ranges: Vec<String> =
        voids.iter().map(|(after, upto)| format!("{}-{upto}", after + 1)).collect();
    ranges.join(", ")
}

fn log(out: &mut Page, recovered: &Recovered, segments: &[SegmentLook]) {
    out.title("log");
    out.line("uuid", &hex(&recovered.uuid));
    out.line("records", &format!("{} in needed segments", human_bytes(recovered.scanned_bytes)));
    if let Some(cut) = &recovered.cut {
        out.line("incomplete batch", &format!("{} at byte {}", cut.file, cut.offset));
    }
    for (shard, state) in &recovered.shards {
        let held = match (state.first, state.last) {
            (Some(first), Some(last)) => {
                format!("entries {first} to {} of term {}", last.index, last.term)
            }
            _ => "no entries".to_owned(),
        };
        let purged = state.purged.map_or("nothing".to_owned(), |id| format!("up to {}", id.index));
        out.line(&format!("shard {shard}"), &format!("{held}; purged {purged}"));
        if let Some(vote) = state.vote.as_deref().and_then(Vote::decode) {
            let granted = if vote.committed { "granted" } else { "not granted" };
            out.line("  vote", &format!("term {}, for node {}, {granted}", vote.term, vote.node));
        }
    }
    let rows: Vec<Vec<String>> = segments.iter().map(segment).collect();
    out.table(&["segment", "generation", "bytes", "needed"], &rows);
}

fn segment(segment: &SegmentLook) -> Vec<String> {
    let needed = if segment.is_needed { "yes" } else { "spare" };
    let name = segment.file.rsplit('/').next().unwrap_or_default();
    [name, &segment.generation.to_string(), &segment.len_bytes.to_string(), needed]
        .map(str::to_owned)
        .to_vec()
}

fn walk(out: &mut Page, report: &Report) {
    let shape = &report.shape;
    space(out, report);
    tables(out, shape);
    out.title("tries of keys");
    out.line("entries a leaf", &format!("{:.1} of 14 on average", shape.mean_leaf_fill()));
    let deepest = shape.depths.iter().rposition(|keys| *keys > 0).unwrap_or(0);
    let depths = shape.depths[..=deepest].iter().enumerate();
    let rows: Vec<Vec<String>> =
        depths.map(|(depth, keys)| numbers(&[depth as u64, *keys])).collect();
    out.table(&["steps to the leaf", "keys"], &rows);
    snapshots(out, report);
    if report.is_clean() {
        return;
    }
    out.title("problems: run `cairn check --deep`");
    report.problems.iter().take(10).for_each(|problem| out.line("problem", problem));
    out.line(
        "in all",
        &format!("{}, {} leaked blocks", report.problem_count, report.leaked_blocks),
    );
}

fn space(out: &mut Page, report: &Report) {
    let (shape, live) = (&report.shape, report.live_bytes);
    let slabs = shape.slab_bytes();
    let used: u64 = shape.kinds.iter().map(|tally| tally.used_bytes).sum();
    let of_live = |bytes: u64| bytes as f64 / live.max(1) as f64;
    out.title("space");
    out.line("live blocks", &format!("{} in {} blocks", human_bytes(live), report.blocks));
    out.line(
        "slabs in use",
        &format!(
            "{}, {:.2} times the live blocks (fragmentation)",
            human_bytes(slabs),
            of_live(slabs)
        ),
    );
    out.line(
        "rounding to classes",
        &format!("{:.1} % of the live blocks", 100.0 * of_live(live - used)),
    );
    out.line("free slabs", &format!("{} of 64 KiB", shape.free_slabs));
    let keys = report.keys.max(1);
    out.line("live bytes a key", &format!("{:.1}", live as f64 / keys as f64));
    if shape.dropped.blocks > 0 {
        let dropped = shape.dropped;
        out.line("dropped trees", &format!("{} still to be freed", human_bytes(dropped.bytes)));
    }
}

fn tables(out: &mut Page, shape: &Shape) {
    out.title("databases (16 holds long values on their way)");
    let rows: Vec<Vec<String>> = shape
        .databases
        .iter()
        .map(|db| numbers(&[db.db.into(), db.slots, db.keys, db.deadlines, db.bytes]))
        .collect();
    out.table(&["database", "hash slots", "keys", "with a deadline", "bytes"], &rows);
    out.title("keys by type (a tree: not packed into the key's block)");
    let rows: Vec<Vec<String>> = shape
        .types
        .iter()
        .map(|((ty, encoding), s)| {
            let name = format!("{}, {}", type_name(*ty), encoding_name(*encoding));
            named(name, &[s.keys, s.bytes, s.trees, s.tree_elements])
        })
        .collect();
    out.table(&["type, encoding", "keys", "bytes", "trees", "elements in trees"], &rows);
    out.title("live blocks by kind");
    let met = shape.kinds.iter().enumerate().filter(|(_, tally)| tally.blocks > 0);
    let rows: Vec<Vec<String>> = met
        .map(|(kind, t)| named(kind_name(kind).to_owned(), &[t.blocks, t.used_bytes, t.bytes]))
        .collect();
    out.table(&["kind", "blocks", "bytes needed", "bytes taken"], &rows);
    out.title("slabs by size class");
    let rows: Vec<Vec<String>> = shape
        .classes
        .iter()
        .map(|class| {
            let percent = 100 * (class.live + class.kept) / class.capacity.max(1);
            let counts = [class.block_bytes, class.slabs, class.live, class.kept, class.free()];
            let mut row = numbers(&counts);
            row.push(format!("{percent} %"));
            row
        })
        .collect();
    let head = ["block bytes", "slabs", "live", "kept by snapshots", "free", "full"];
    out.table(&head, &rows);
}

fn snapshots(out: &mut Page, report: &Report) {
    if report.snapshots.is_empty() {
        return;
    }
    out.title("snapshots, the newest first");
    let rows: Vec<Vec<String>> = report
        .snapshots
        .iter()
        .map(|s| {
            let name = String::from_utf8_lossy(&s.name).escape_debug().to_string();
            named(name, &[s.index, s.taken_ms, s.live_bytes, s.kept_blocks])
        })
        .collect();
    let head =
        ["name", "log entry", "taken, ms since 1970", "live bytes then", "blocks kept for it"];
    out.table(&head, &rows);
}

fn numbers(numbers: &[u64]) -> Vec<String> {
    numbers.iter().map(u64::to_string).collect()
}

fn named(name: String, rest: &[u64]) -> Vec<String> {
    std::iter::once(name).chain(numbers(rest)).collect()
}
