//! `cairn inspect`: what is a node's directory made of?
//!
//! The summary (superblocks, files) is read in O(1) and without mapping anything, so it can be had of
//! a running node too. The rest walks everything, which only holds still while no node writes it.

mod text;

use std::os::unix::fs::MetadataExt;

use cairn_store::check::shape::{encoding_name, kind_name, type_name};
use cairn_store::check::{Report, check_file};
use cairn_store::layout::pool::{EXTENT, SLAB};
use cairn_store::log::{Log, Recovered, SegmentLook};
use cairn_store::pool::{Copy, CopyLook, Superblock, look_at_superblocks};
use serde_json::{Value, json};

use super::place::Place;
use super::{Verdict, progress_bar, say};
use crate::ops::config::InspectArgs;
use crate::ops::lock_file::{LockError, LockFile};
use crate::raft::vote::Vote;

/// What was looked at.
struct Findings {
    place: Place,
    /// The pid of the node that runs there.
    running: Option<String>,
    /// Bytes of the pool file, and those that take space.
    file_bytes: u64,
    allocated_bytes: u64,
    copies: [CopyLook; 2],
    /// What an open of the log would find, or why it would not.
    log: Option<Result<(Recovered, Vec<SegmentLook>), String>>,
    /// What the walk found, or why there was none.
    walk: Option<Result<Report, String>>,
}

impl Findings {
    /// The copy that counts: the good one with the higher sequence.
    fn newest(&self) -> Option<(usize, &Superblock)> {
        let good =
            self.copies.iter().enumerate().filter_map(|(number, copy)| match &copy.content {
                Copy::Good(superblock) => Some((number, &**superblock)),
                Copy::Bad(_) => None,
            });
        good.max_by_key(|(_, superblock)| superblock.sequence)
    }

    fn verdict(&self) -> Verdict {
        let is_bad = |copy: &CopyLook| matches!(copy.content, Copy::Bad(_));
        let is_damaged = self.copies.iter().all(is_bad)
            || matches!(&self.walk, Some(Err(_)))
            || matches!(&self.walk, Some(Ok(report)) if !report.is_clean())
            || matches!(&self.log, Some(Err(_)));
        match (is_damaged, self.copies.iter().any(is_bad)) {
            (true, _) => Verdict::Damaged,
            (false, true) => Verdict::Mendable,
            (false, false) => Verdict::Clean,
        }
    }
}

/// Prints what lies in a node's directory.
///
/// # Errors
/// What kept it from looking.
pub fn inspect(args: &InspectArgs) -> Result<Verdict, String> {
    let place = Place::find(&args.dir)?;
    // Held until everything was read.
    let lock = LockFile::acquire_to_look(&args.dir);
    let running = match &lock {
        Ok(_) => None,
        Err(LockError::Held { pid, .. }) => Some(pid.clone()),
        Err(refusal) => return Err(refusal.to_string()),
    };
    let findings = look(place, running, args.summary)?;
    if args.json {
        say(&format!("{:#}", as_json(&findings)));
    } else {
        say(text::render(&findings).trim_end());
    }
    Ok(findings.verdict())
}

fn look(place: Place, running: Option<String>, summary: bool) -> Result<Findings, String> {
    let refused = |error: &dyn std::fmt::Display| format!("{}: {error}", place.pool.display());
    let meta = std::fs::metadata(&place.pool).map_err(|error| refused(&error))?;
    let copies = look_at_superblocks(&place.pool).map_err(|error| error.to_string())?;
    let holds_still = running.is_none() && !summary;
    let log = (holds_still && place.has_log)
        .then(|| Log::look(&place.log).map_err(|error| error.to_string()));
    let walk = holds_still.then(|| {
        let (bar, mut progress) = progress_bar();
        let report = check_file(&place.pool, false, &mut progress);
        bar.finish_and_clear();
        report.map_err(|error| error.to_string())
    });
    let (file_bytes, allocated_bytes) = (meta.len(), meta.blocks() * 512);
    Ok(Findings { place, running, file_bytes, allocated_bytes, copies, log, walk })
}

fn as_json(findings: &Findings) -> Value {
    let newest = findings.newest().map(|(number, _)| number);
    let log = match &findings.log {
        None => Value::Null,
        Some(Err(error)) => json!({ "error": error }),
        Some(Ok((recovered, segments))) => log_json(recovered, segments),
    };
    let walk = match &findings.walk {
        None => Value::Null,
        Some(Err(error)) => json!({ "error": error }),
        Some(Ok(report)) => walk_json(report),
    };
    json!({
        "pool": findings.place.pool.display().to_string(),
        "running_pid": findings.running,
        "file_bytes": findings.file_bytes,
        "allocated_bytes": findings.allocated_bytes,
        "incoming": findings.place.incoming.as_ref().map(|(path, bytes)| json!({
            "file": path.display().to_string(), "allocated_bytes": bytes,
        })),
        "extent_bytes": EXTENT,
        "slab_bytes": SLAB,
        "superblock_in_use": newest,
        "superblocks": findings.copies.iter().map(superblock_json).collect::<Vec<_>>(),
        "log": log,
        "walk": walk,
    })
}

fn superblock_json(copy: &CopyLook) -> Value {
    let [compat, incompat, ro_compat] = copy.features;
    let mut value = json!({
        "offset": copy.offset,
        "version": copy.version,
        "features": { "compat": compat, "incompat": incompat, "ro_compat": ro_compat },
    });
    match &copy.content {
        Copy::Bad(why) => value["damaged"] = json!(why),
        Copy::Good(s) => {
            value["fields"] = json!({
                "uuid": hex(&s.uuid),
                "sequence": s.sequence,
                "epoch": s.epoch,
                "ceiling": s.ceiling,
                "root": s.root,
                "snapshots": s.snapshots,
                "applied": { "term": s.applied.0.0, "index": s.applied.1.0 },
                "clock_ms": s.clock_ms,
                "extents": s.extents,
                "live_bytes": s.live_bytes,
                "limit_bytes": s.limit_bytes,
                "membership_bytes": s.membership.len(),
                // First and last of each range, as the text has them.
                "void_epochs": s.voids.iter().map(|(after, upto)| [after + 1, *upto]).collect::<Vec<_>>(),
            });
        }
    }
    value
}

fn log_json(recovered: &Recovered, segments: &[SegmentLook]) -> Value {
    let shards: Vec<Value> = recovered
        .shards
        .iter()
        .map(|(shard, state)| {
            let vote = state.vote.as_deref().and_then(Vote::decode);
            json!({
                "shard": shard.0,
                "purged": state.purged.map(|id| id.index.0),
                "first": state.first.map(|index| index.0),
                "last": state.last.map(|id| json!({ "term": id.term.0, "index": id.index.0 })),
                "vote": vote.map(|vote| json!({
                    "term": vote.term.0, "node": vote.node.0, "granted": vote.committed,
                })),
            })
        })
        .collect();
    let segments: Vec<Value> = segments
        .iter()
        .map(|segment| {
            json!({
                "file": segment.file, "generation": segment.generation,
                "bytes": segment.len_bytes, "needed": segment.is_needed,
            })
        })
        .collect();
    json!({
        "uuid": hex(&recovered.uuid),
        "record_bytes": recovered.scanned_bytes,
        "cut": recovered.cut.as_ref().map(|cut| json!({ "file": cut.file, "offset": cut.offset })),
        "shards": shards,
        "segments": segments,
    })
}

fn walk_json(report: &Report) -> Value {
    let shape = &report.shape;
    let kinds = shape.kinds.iter().enumerate().filter(|(_, tally)| tally.blocks > 0).map(
        |(kind, tally)| {
            json!({
                "kind": kind_name(kind), "blocks": tally.blocks,
                "used_bytes": tally.used_bytes, "bytes": tally.bytes,
            })
        },
    );
    let types = shape.types.iter().map(|((ty, encoding), shape)| {
        json!({
            "type": type_name(*ty), "encoding": encoding_name(*encoding), "keys": shape.keys,
            "bytes": shape.bytes, "trees": shape.trees, "tree_elements": shape.tree_elements,
        })
    });
    let databases = shape.databases.iter().map(|db| {
        json!({
            "db": db.db, "slots": db.slots, "keys": db.keys, "deadlines": db.deadlines,
            "bytes": db.bytes,
        })
    });
    let classes = shape.classes.iter().map(|class| {
        json!({
            "block_bytes": class.block_bytes, "slabs": class.slabs, "live": class.live,
            "kept": class.kept, "leaked": class.leaked, "free": class.free(),
        })
    });
    let snapshots = report.snapshots.iter().map(|snapshot| {
        json!({
            "name": String::from_utf8_lossy(&snapshot.name), "taken_ms": snapshot.taken_ms,
            "index": snapshot.index, "live_bytes": snapshot.live_bytes,
            "kept_blocks": snapshot.kept_blocks,
        })
    });
    json!({
        "keys": report.keys,
        "blocks": report.blocks,
        "live_bytes": report.live_bytes,
        "slab_bytes": shape.slab_bytes(),
        "free_slabs": shape.free_slabs,
        "databases": databases.collect::<Vec<_>>(),
        "types": types.collect::<Vec<_>>(),
        "kinds": kinds.collect::<Vec<_>>(),
        "dropped": { "blocks": shape.dropped.blocks, "bytes": shape.dropped.bytes },
        "keys_by_trie_depth": shape.depths,
        "leaves_by_entries": shape.leaf_fill,
        "classes": classes.collect::<Vec<_>>(),
        "snapshots": snapshots.collect::<Vec<_>>(),
        "problems": report.problems,
        "problem_count": report.problem_count,
        "leaked_blocks": report.leaked_blocks,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
