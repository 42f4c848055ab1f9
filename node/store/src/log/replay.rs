//! One shard's log while it is being replayed.
//!
//! A log is read from the oldest segment still needed, whose mark speaks of entries that lay in
//! older ones. Each was copied since, to be met later and in any order, or purged, or cut off. A
//! mark is input, and may speak of any number of them: only those that were met take memory.
//!
//! Imports nothing of files.

use super::index::{Loc, ShardLog};
use super::record::{LogId, Record};
use crate::layout::log::{self as layout, kind};
use cairn_protocol::ids::LogIndex;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a replay knows of one shard so far.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The shard without the entries in `marked`, which come right before those it holds.
    log: ShardLog,
    /// Indices that the mark spoke of and that were neither purged nor cut off since.
    marked: Range<u64>,
    /// Those of them that were met.
    met: BTreeMap<u64, Loc>,
}

impl Replayed {
    /// Begins at a mark with this payload; `None` when that makes no sense.
    pub(crate) fn from_mark(payload: &[u8]) -> Option<Self> {
        let (log, marked) = ShardLog::from_mark(payload)?;
        Some(Self { log, marked, met: BTreeMap::new() })
    }

    /// Takes a vote.
    pub(crate) fn vote(&mut self, vote: Vec<u8>) {
        self.log.vote = Some(vote);
    }

    /// Applies a record, which lies at `loc`, other than a vote and a mark. Returns what is wrong
    /// with it, if anything.
    pub(crate) fn apply(&mut self, record: &Record, loc: Loc) -> Option<String> {
        let id = record.log_id();
        match record.kind {
            kind::TRUNCATE => {
                let keep = (record.flags & layout::FLAG_NOTHING == 0).then_some(id);
                let wrong = self.log.refuses_truncate(keep);
                if wrong.is_none() && self.log.has_after(keep) {
                    self.truncate(keep);
                }
                wrong
            }
            kind::PURGE => {
                if self.log.purges(id) {
                    self.purge(id);
                }
                None
            }
            _ if record.flags & layout::FLAG_MOVED != 0 => self.moved(id, loc),
            _ => {
                let wrong = self.log.refuses(id);
                if wrong.is_none() {
                    self.log.push(id, loc);
                }
                wrong
            }
        }
    }

    fn truncate(&mut self, keep: Option<LogId>) {
        let end = keep.map_or(0, |keep| keep.index.0.saturating_add(1));
        self.marked.end = self.marked.end.min(end);
        self.met.split_off(&end);
        self.log.truncate(keep, drop);
    }

    fn purge(&mut self, upto: LogId) {
        let start = upto.index.0.saturating_add(1);
        self.marked.start = self.marked.start.max(start);
        self.met = self.met.split_off(&start);
        self.log.purge(upto, drop);
    }

    /// A copy of entry `id` lies at `loc`. It may be of one that was purged meanwhile.
    fn moved(&mut self, id: LogId, loc: Loc) -> Option<String> {
        let index = id.index.0;
        if self.log.last.is_none_or(|last| last.index < id.index) {
            return Some("a copy of an entry that never was".to_owned());
        }
        if self.marked.contains(&index) {
            self.met.insert(index, loc);
        } else if let Some(place) = self.log.loc_mut(index) {
            *place = loc;
        }
        None
    }

    fn first_held(&self) -> Option<LogIndex> {
        let marked = (!self.marked.is_empty()).then_some(LogIndex(self.marked.start));
        marked.or_else(|| self.log.first_held())
    }

    /// Whether both say the same, wherever the entries lie.
    pub(crate) fn same_state(&self, other: &Self) -> bool {
        self.log.vote == other.log.vote
            && self.log.purged == other.log.purged
            && self.log.last == other.log.last
            && self.first_held() == other.first_held()
    }

    /// The shard's log at the end of the replay, or the index of an entry that a mark spoke of and
    /// that was not met.
    pub(crate) fn complete(self) -> Result<ShardLog, u64> {
        let Self { mut log, marked, met } = self;
        let mut met_indices = met.keys().copied();
        // Ends behind what was met, however many there should be.
        if let Some(missing) = marked.clone().find(|index| met_indices.next() != Some(*index)) {
            return Err(missing);
        }
        if !marked.is_empty() {
            log.first = marked.start;
        }
        met.into_values().rev().for_each(|loc| log.locs.push_front(loc));
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::log::FLAG_MOVED;
    use cairn_protocol::ids::{ShardId, Term};

    fn record(kind: u8, flags: u8, index: u64) -> Record {
        let (generation, durable_to, batch_end) = (1, 0, 0);
        let (crc, payload_crc, prev_crc, payload_len) = (0, 0, 0, 0);
        Record {
            crc,
            payload_crc,
            generation,
            durable_to,
            batch_end,
            prev_crc,
            payload_len,
            shard: ShardId(1),
            kind,
            flags,
            term: 1,
            index,
        }
    }

    fn loc(index: u64) -> Loc {
        Loc { seq: 0, offset: index as u32, len: 0 }
    }

    /// A replay that begins at the mark of a shard with entries `held`.
    fn marked(held: Range<u64>) -> Replayed {
        let mut log = ShardLog { last: Some(at(held.start - 1)), ..ShardLog::default() };
        log.push(at(held.start), loc(held.start));
        log.last = Some(at(held.end - 1));
        Replayed::from_mark(&log.mark()).expect("a sound mark")
    }

    fn at(index: u64) -> LogId {
        LogId::new(Term(1), LogIndex(index))
    }

    fn apply(replayed: &mut Replayed, kind: u8, flags: u8, indices: &[u64]) {
        for index in indices {
            assert_eq!(replayed.apply(&record(kind, flags, *index), loc(*index)), None, "{index}");
        }
    }

    #[test]
    fn entries_of_a_mark_are_found_in_any_order_and_come_before_later_ones() {
        let mut replayed = marked(5..10);
        apply(&mut replayed, kind::NORMAL, 0, &[10, 11]);
        apply(&mut replayed, kind::NORMAL, FLAG_MOVED, &[8, 9, 6, 7, 10, 7, 5]);
        apply(&mut replayed, kind::PURGE, 0, &[5]);
        let copy = Loc { seq: 1, ..loc(11) };
        assert_eq!(replayed.apply(&record(kind::NORMAL, FLAG_MOVED, 11), copy), None);
        let log = replayed.complete().expect("all were met");
        assert_eq!((log.first, log.locs), (6, (6..=10).map(loc).chain([copy]).collect()));
    }

    #[test]
    fn an_entry_of_a_mark_that_is_in_no_segment_is_named() {
        for (met, missing) in [(&[][..], 5), (&[6, 7], 5), (&[5, 7], 6), (&[5, 6], 7)] {
            let mut replayed = marked(5..8);
            apply(&mut replayed, kind::NORMAL, FLAG_MOVED, met);
            assert_eq!(replayed.complete(), Err(missing), "{met:?}");
        }
        // As many as there can be, of which none is there.
        assert_eq!(marked(1..u64::MAX).complete(), Err(1));
    }

    #[test]
    fn what_is_cut_off_or_purged_need_not_be_met() {
        let mut replayed = marked(5..1 << 60);
        apply(&mut replayed, kind::NORMAL, FLAG_MOVED, &[8, 9, 1 << 50]);
        apply(&mut replayed, kind::TRUNCATE, 0, &[9]);
        apply(&mut replayed, kind::NORMAL, 0, &[10, 11]);
        apply(&mut replayed, kind::PURGE, 0, &[6]);
        // A copy of one that is purged by now.
        apply(&mut replayed, kind::NORMAL, FLAG_MOVED, &[6, 7]);
        let log = replayed.complete().expect("all were met");
        assert_eq!((log.first, log.locs), (7, (7..=11).map(loc).collect()));

        let mut replayed = marked(5..1 << 60);
        apply(&mut replayed, kind::PURGE, 0, &[(1 << 60) + 5]);
        apply(&mut replayed, kind::NORMAL, 0, &[(1 << 60) + 6]);
        let log = replayed.complete().expect("all were purged");
        assert_eq!((log.first, log.locs.len()), ((1 << 60) + 6, 1));
    }
}
