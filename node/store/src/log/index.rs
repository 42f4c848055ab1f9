//! What is known in memory of each shard's log, and where its entries lie.
//!
//! Imports nothing of files; recovery and appending both move it through the same few steps, so
//! that what a replay arrives at is what the running log had.

use super::record::LogId;
use crate::layout::log::{self as layout, mark};
use crate::log::record::get_u64;
use cairn_protocol::ids::{LogIndex, Term};
use std::collections::VecDeque;
use std::ops::Range;

/// Where an entry lies: a segment's place in the chain, an offset in it, its payload's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loc {
    pub seq: u32,
    pub offset: u32,
    pub len: u32,
}

/// One shard's log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ShardLog {
    pub vote: Option<Vec<u8>>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// Index of the entry at the front of `locs`; meaningless when that is empty.
    pub first: u64,
    pub locs: VecDeque<Loc>,
}

impl ShardLog {
    /// Why `id` cannot be the next entry, or `None` when it can. A shard that never held anything
    /// begins wherever its first entry says.
    pub(crate) fn refuses(&self, id: LogId) -> Option<String> {
        follows(self.last, id)
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, id: LogId, loc: Loc) {
        if self.locs.is_empty() {
            self.first = id.index.0;
        }
        self.locs.push_back(loc);
        self.last = Some(id);
    }

    /// Where entry `index` lies.
    pub(crate) fn loc(&self, index: u64) -> Option<Loc> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.locs.get(at).copied()
    }

    /// As [`loc`](Self::loc), to change it.
    pub(crate) fn loc_mut(&mut self, index: u64) -> Option<&mut Loc> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.locs.get_mut(at)
    }

    /// Why the log cannot be cut back to `keep`, or `None` when it can.
    pub(crate) fn refuses_truncate(&self, keep: Option<LogId>) -> Option<String> {
        match (keep, self.purged) {
            (Some(keep), Some(purged)) if keep.index < purged.index => {
                Some(format!("entries up to {} are purged", purged.index))
            }
            (None, Some(purged)) => Some(format!("entries up to {} are purged", purged.index)),
            _ => None,
        }
    }

    /// Whether cutting back to `keep` would drop anything.
    pub(crate) fn has_after(&self, keep: Option<LogId>) -> bool {
        match (keep, self.last) {
            (Some(keep), Some(last)) => last.index > keep.index,
            (None, last) => last.is_some(),
            (Some(_), None) => false,
        }
    }

    /// Drops the entries after `keep`, telling `dropped` where each run of them lay.
    pub(crate) fn truncate(&mut self, keep: Option<LogId>, dropped: impl FnMut(Loc)) {
        let kept = match keep {
            Some(keep) => (keep.index.0 + 1).saturating_sub(self.first),
            None => 0,
        };
        let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(self.locs.len());
        self.locs.drain(kept..).for_each(dropped);
        self.last = keep;
    }

    /// Whether purging up to `upto` would change anything.
    pub(crate) fn purges(&self, upto: LogId) -> bool {
        self.purged.is_none_or(|purged| upto.index > purged.index)
    }

    /// Drops the entries up to `upto`, which may lie beyond the last one: then the log is empty
    /// and goes on after it, as after the installation of a snapshot.
    pub(crate) fn purge(&mut self, upto: LogId, dropped: impl FnMut(Loc)) {
        let gone = (upto.index.0.saturating_add(1)).saturating_sub(self.first);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.locs.len());
        self.locs.drain(..gone).for_each(dropped);
        self.first = self.first.max(upto.index.0.saturating_add(1));
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
        // A burst must not hold its memory for ever.
        if self.locs.capacity() > 1024 && self.locs.len() < self.locs.capacity() / 8 {
            self.locs.shrink_to(self.locs.len() * 2);
        }
    }

    /// Index of the first entry held.
    pub(crate) fn first_held(&self) -> Option<LogIndex> {
        (!self.locs.is_empty()).then_some(LogIndex(self.first))
    }

    /// The payload of a mark.
    pub(crate) fn mark(&self) -> Vec<u8> {
        let mut b = vec![0u8; layout::MARK_BYTES];
        let mut put = |at: usize, value: u64| b[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let mut present = 0;
        put(mark::FIRST, self.first_held().map_or(0, |first| first.0));
        if let Some(id) = self.purged {
            present |= mark::HAS_PURGED;
            put(mark::PURGED, id.term.0);
            put(mark::PURGED + 8, id.index.0);
        }
        if let Some(id) = self.last {
            present |= mark::HAS_LAST;
            put(mark::LAST, id.term.0);
            put(mark::LAST + 8, id.index.0);
        }
        if let Some(vote) = &self.vote {
            present |= mark::HAS_VOTE;
            b.extend_from_slice(vote);
        }
        b[mark::PRESENT] = present;
        b
    }

    /// Reads a mark: the shard with no entry located, and the indices of those it says were held.
    /// That may be any number, whatever the log's length. `None` when it makes no sense, which its
    /// checksum should have told.
    pub(crate) fn from_mark(b: &[u8]) -> Option<(Self, Range<u64>)> {
        if b.len() < layout::MARK_BYTES {
            return None;
        }
        let present = b[mark::PRESENT];
        let id = |bit: u8, at: usize| {
            let id = LogId::new(Term(get_u64(b, at)), LogIndex(get_u64(b, at + 8)));
            (present & bit != 0).then_some(id)
        };
        let (purged, last) = (id(mark::HAS_PURGED, mark::PURGED), id(mark::HAS_LAST, mark::LAST));
        let vote = (present & mark::HAS_VOTE != 0).then(|| b[mark::VOTE..].to_vec());
        let mut held = 0..0;
        if last != purged {
            held = get_u64(b, mark::FIRST)..last?.index.0.checked_add(1)?;
            if held.is_empty() {
                return None;
            }
        }
        Some((Self { vote, purged, last, ..Self::default() }, held))
    }
}

/// Why `id` cannot follow `last`.
pub(crate) fn follows(last: Option<LogId>, id: LogId) -> Option<String> {
    match last {
        Some(last) if id.index.0.checked_sub(1) != Some(last.index.0) => {
            Some(format!("the last one is {}", last.index))
        }
        Some(last) if id.term < last.term => {
            Some(format!("its term {} is older than {}, its predecessor's", id.term, last.term))
        }
        _ => None,
    }
}
