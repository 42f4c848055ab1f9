//! openraft's view of one shard's part of the node's log.
//!
//! The log does everything that openraft asks for: entries can be read when `append` returns, the
//! callback comes when they are durable, in order, and a truncation is durable before any append
//! that follows it. Here its records become openraft's entries and votes, and back.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use cairn_protocol::cluster::message;
use cairn_protocol::ids::{LogIndex, ShardId, Term};
use cairn_store::log::{self, EntryKind, Log, LogError, OwnedEntry};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;

use super::types::{
    self, Batch, Entry, Payload, RaftLogId, RaftVote, TypeConfig, raft_id, store_id,
};
use super::vote::Vote;

/// How many payload bytes one read for a follower takes: enough to keep the network busy, little
/// enough to let heartbeats through.
const READ_BYTES: usize = 1 << 20;

const UNREADABLE: &str = "log entries could not be read";

/// How many payload bytes of the newest entries are kept for those who read them next: who applies
/// them, and followers that keep up.
const RECENT_BYTES: usize = 4 << 20;

/// Told what the log could not do, and why: openraft ends itself over each such error.
pub type OnError = Arc<dyn Fn(&str, &LogError) + Send + Sync>;

/// One shard's part of the log. Clones are the same part, and are its readers.
#[derive(Clone)]
pub struct LogStore {
    log: Arc<Log>,
    shard: ShardId,
    /// Cast with every vote, so that a member can tell that its machine has started anew since.
    boot_id: [u8; 16],
    recent: Arc<Mutex<Recent>>,
    on_error: OnError,
}

/// The newest entries, without a gap.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    fn extend(&mut self, entries: Vec<Entry>) {
        entries.into_iter().for_each(|entry| self.push(entry));
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.back().is_some_and(|last| last.log_id.index + 1 != entry.log_id.index) {
            self.clear();
        }
        self.bytes += payload_bytes(&entry);
        self.entries.push_back(entry);
        while self.bytes > RECENT_BYTES && self.entries.len() > 1 {
            let oldest = self.entries.pop_front();
            self.bytes -= oldest.as_ref().map_or(0, payload_bytes);
        }
    }

    fn truncate_after(&mut self, last: Option<u64>) {
        while self.entries.back().is_some_and(|entry| last.is_none_or(|l| entry.log_id.index > l)) {
            let newest = self.entries.pop_back();
            self.bytes -= newest.as_ref().map_or(0, payload_bytes);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// The entries of `range`, as many as `max_bytes` hold but one at least; None unless all of
    /// them are here.
    fn get(&self, range: &Range<LogIndex>, max_bytes: usize) -> Option<Vec<Entry>> {
        let (first, last) = (self.entries.front()?.log_id.index, self.entries.back()?.log_id.index);
        if range.start.0 < first || range.end.0 > last + 1 {
            return None;
        }
        let mut bytes = 0;
        let wanted = self.entries.range((range.start.0 - first) as usize..);
        let taken = wanted.take((range.end.0 - range.start.0) as usize).take_while(|entry| {
            let fits = bytes < max_bytes;
            bytes += payload_bytes(entry);
            fits
        });
        Some(taken.cloned().collect())
    }
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(Batch(bytes)) => bytes.len(),
        _ => 0,
    }
}

impl LogStore {
    /// The part of `shard`. `boot_id` is this boot of the machine, or zeros.
    pub fn new(log: Arc<Log>, shard: ShardId, boot_id: [u8; 16], on_error: OnError) -> LogStore {
        LogStore { log, shard, boot_id, recent: Arc::default(), on_error }
    }

    /// The part of `range` that the log holds: what was purged, and what is still to come, is no
    /// error to openraft at either end of it.
    fn held(&self, range: &impl RangeBounds<u64>) -> Range<LogIndex> {
        let state = self.log.shard(self.shard);
        let (Some(first), Some(last)) = (state.first, state.last) else {
            return LogIndex(0)..LogIndex(0);
        };
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        LogIndex(start.max(first.0))..LogIndex(end.min(last.index.0 + 1))
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: usize) -> log::Result<Vec<OwnedEntry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.log.read(self.shard, range, max_bytes)
    }

    /// What came of something that openraft asked for, told if it is an error.
    fn told<T>(&self, what: &str, outcome: log::Result<T>) -> io::Result<T> {
        outcome.map_err(|error| {
            (self.on_error)(what, &error);
            failed(error)
        })
    }

    fn recent(&self, range: &Range<LogIndex>, max_bytes: usize) -> Option<Vec<Entry>> {
        if range.is_empty() { None } else { self.recent.lock().get(range, max_bytes) }
    }
}

fn failed(error: LogError) -> io::Error {
    let kind = match &error {
        LogError::Io { kind, .. } => *kind,
        LogError::Damaged { .. } => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn raft_entries(entries: Vec<OwnedEntry>) -> io::Result<Vec<Entry>> {
    entries.into_iter().map(raft_entry).collect()
}

fn raft_entry(entry: OwnedEntry) -> io::Result<Entry> {
    let log_id = raft_id(log::LogId::new(entry.term, entry.index));
    let kind = match entry.kind {
        EntryKind::Blank => message::EntryKind::Blank,
        EntryKind::Normal => message::EntryKind::Operations,
        EntryKind::Membership => message::EntryKind::Membership,
    };
    let payload = payload_of(kind, Bytes::from(entry.payload)).ok_or_else(|| {
        let what = format!(
            "entry {} of shard {} is a membership that this build cannot read: start a newer node",
            entry.index, entry.shard
        );
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    Ok(openraft::Entry { log_id, payload })
}

/// What an entry of this kind holds in these bytes, which are the same in the log and on the wire;
/// None when that is a membership that this build cannot read.
pub(super) fn payload_of(kind: message::EntryKind, bytes: Bytes) -> Option<Payload> {
    Some(match kind {
        message::EntryKind::Blank => EntryPayload::Blank,
        message::EntryKind::Operations => EntryPayload::Normal(Batch(bytes)),
        message::EntryKind::Membership => {
            EntryPayload::Membership(types::decode_membership(&bytes)?)
        }
    })
}

/// An entry's kind and bytes.
pub(super) fn record_of(payload: &Payload) -> (message::EntryKind, Bytes) {
    match payload {
        EntryPayload::Blank => (message::EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(Batch(bytes)) => (message::EntryKind::Operations, bytes.clone()),
        EntryPayload::Membership(membership) => {
            (message::EntryKind::Membership, Bytes::from(types::encode_membership(membership)))
        }
    }
}

fn kind_in_log(kind: message::EntryKind) -> EntryKind {
    match kind {
        message::EntryKind::Blank => EntryKind::Blank,
        message::EntryKind::Operations => EntryKind::Normal,
        message::EntryKind::Membership => EntryKind::Membership,
    }
}

/// Starts something on the log, and waits until it is durable.
async fn durable(start: impl FnOnce(log::Done)) -> log::Result<()> {
    let (sender, receiver) = TypeConfig::oneshot();
    start(Box::new(move |outcome| {
        // Whoever waited may have gone: then nobody is to be told.
        let _ = openraft::async_runtime::OneshotSender::send(sender, outcome);
    }));
    match receiver.await {
        Ok(outcome) => outcome,
        Err(_) => Err(LogError::Closed),
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        loop {
            let held = self.held(&range);
            if let Some(entries) = self.recent(&held, usize::MAX) {
                return Ok(entries);
            }
            match self.read(held, usize::MAX) {
                // Purged or truncated since it was looked up: what is held now is to be read.
                Err(LogError::NotHeld { .. }) => {}
                entries => return raft_entries(self.told(UNREADABLE, entries)?),
            }
        }
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        let Some(bytes) = self.log.vote(self.shard) else { return Ok(None) };
        let vote = Vote::decode(&bytes).ok_or_else(|| {
            let what = "the log holds a vote that this build cannot read: start a newer node";
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        let (term, node) = (vote.term.0, vote.node);
        Ok(Some(match vote.committed {
            true => RaftVote::new_committed(term, node),
            false => RaftVote::new(term, node),
        }))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let range = LogIndex(start)..LogIndex(end);
        if let Some(entries) = self.recent(&range, READ_BYTES) {
            return Ok(entries);
        }
        // All of it is wanted, so what is missing is an error here.
        raft_entries(self.told(UNREADABLE, self.read(range, READ_BYTES))?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.shard(self.shard);
        Ok(LogState {
            last_purged_log_id: state.purged.map(raft_id),
            last_log_id: state.last.map(raft_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let vote = Vote {
            term: Term(vote.leader_id.term),
            node: vote.leader_id.voted_for,
            committed: vote.committed,
            boot_id: self.boot_id,
        };
        let saved = durable(|done| self.log.save_vote(self.shard, &vote.encode(), done)).await;
        self.told("a vote could not be made durable", saved)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let records: Vec<_> = entries
            .iter()
            .map(|entry| (store_id(entry.log_id), record_of(&entry.payload)))
            .collect();
        let parts: Vec<[&[u8]; 1]> = records.iter().map(|(_, (_, bytes))| [&bytes[..]]).collect();
        let appended: Vec<_> = records
            .iter()
            .zip(&parts)
            .map(|((id, (kind, _)), payload)| log::Entry {
                shard: self.shard,
                term: id.term,
                index: id.index,
                kind: kind_in_log(*kind),
                payload,
            })
            .collect();
        let first = records.first().map_or(0, |(id, _)| id.index.0);
        let on_error = Arc::clone(&self.on_error);
        let done = move |outcome: log::Result<()>| {
            if let Err(error) = &outcome {
                on_error(&format!("log entry {first} could not be made durable"), error);
            }
            callback.io_completed(outcome.map_err(failed));
        };
        // They can be read as soon as this returns, durable or not.
        if self.log.is_immediate() {
            let outcome = self.log.append_now(&appended);
            self.recent.lock().extend(entries);
            done(outcome);
        } else {
            self.log.append(&appended, Box::new(done));
            self.recent.lock().extend(entries);
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.recent.lock().truncate_after(last.map(|last| last.index));
        let keep = last.map(store_id);
        let cut = durable(|done| self.log.truncate_after(self.shard, keep, done)).await;
        self.told("the log's end could not be cut off", cut)
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let purged = self.log.purge(self.shard, store_id(upto));
        self.told("the log could not be purged", purged)
    }
}

#[cfg(test)]
mod tests {
    use super::super::runtime::Executor;
    use super::*;
    use cairn_protocol::ids::NodeId;
    use cairn_store::log::{LogKind, LogOptions};
    use futures_util::{Stream, TryStreamExt};
    use openraft::StorageError;
    use openraft::storage::{
        EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
    };
    use openraft::testing::log::{StoreBuilder, Suite};
    use types::StoredMembership;

    type Meta = SnapshotMeta<types::Leader, NodeId, openraft::BasicNode>;
    type MachineSnapshot = Snapshot<types::Leader, NodeId, openraft::BasicNode, ()>;

    /// As much of a state machine as the suite looks at: what was applied, and a snapshot of that.
    #[derive(Clone, Default)]
    struct Machine {
        applied: Option<RaftLogId>,
        membership: StoredMembership,
        /// Shared with the builder of snapshots.
        snapshot: Arc<Mutex<Option<Meta>>>,
    }

    impl RaftSnapshotBuilder<TypeConfig> for Machine {
        type SnapshotData = ();

        async fn build_snapshot(&mut self) -> io::Result<MachineSnapshot> {
            let meta = SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            };
            *self.snapshot.lock() = Some(meta.clone());
            Ok(Snapshot { meta, snapshot: () })
        }
    }

    impl RaftStateMachine<TypeConfig> for Machine {
        type SnapshotData = ();
        type SnapshotBuilder = Machine;

        async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
            Ok((self.applied, self.membership.clone()))
        }

        async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
        where
            S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
        {
            while let Some((entry, responder)) = entries.try_next().await? {
                self.applied = Some(entry.log_id);
                if let EntryPayload::Membership(membership) = entry.payload {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
                if let Some(responder) = responder {
                    responder.send(());
                }
            }
            Ok(())
        }

        async fn get_snapshot_builder(&mut self) -> Machine {
            self.clone()
        }

        async fn install_snapshot(&mut self, meta: &Meta, (): ()) -> io::Result<()> {
            self.applied = meta.last_log_id;
            self.membership = meta.last_membership.clone();
            *self.snapshot.lock() = Some(meta.clone());
            Ok(())
        }

        async fn get_current_snapshot(&mut self) -> io::Result<Option<MachineSnapshot>> {
            Ok(self.snapshot.lock().clone().map(|meta| Snapshot { meta, snapshot: () }))
        }
    }

    struct Builder(LogKind);

    impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Builder {
        async fn build(
            &self,
        ) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
            let dir = tempfile::tempdir().expect("a directory");
            let options =
                LogOptions { segment_bytes: 64 << 10, ..LogOptions::new(dir.path(), self.0) };
            let (log, _) = Log::open(&options).expect("opens");
            let store = LogStore::new(Arc::new(log), ShardId(5), [1; 16], Arc::new(|_, _| ()));
            Ok((dir, store, Machine::default()))
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        Executor::new().block_on(future)
    }

    #[test]
    fn openrafts_own_suite_passes_on_every_kind_of_log() {
        // Side by side, for the suite sleeps.
        std::thread::scope(|threads| {
            for kind in [LogKind::Memory, LogKind::File, LogKind::FileEverySec] {
                threads.spawn(move || block_on(Suite::test_all(Builder(kind))).expect("passes"));
            }
        });
    }

    #[test]
    fn entries_votes_and_memberships_outlive_the_process() {
        block_on(async {
            let dir = tempfile::tempdir().expect("a directory");
            let options = LogOptions::new(dir.path(), LogKind::File);
            let open = || {
                let (log, _) = Log::open(&options).expect("opens");
                LogStore::new(Arc::new(log), ShardId(0), [0; 16], Arc::new(|_, _| ()))
            };
            let node = NodeId(7);
            let members = [(node, openraft::BasicNode::new("10.0.0.7:16379"))];
            let membership = openraft::Membership::new(
                vec![[node].into()],
                std::collections::BTreeMap::from(members),
            );
            let payloads = [
                EntryPayload::Membership(membership.expect("sound")),
                EntryPayload::Blank,
                EntryPayload::Normal(Batch(Bytes::from_static(b"SET a 1"))),
            ];
            let entries: Vec<Entry> = (0..)
                .zip(payloads)
                .map(|(index, payload)| openraft::Entry {
                    log_id: RaftLogId::new_term_index(1, index),
                    payload,
                })
                .collect();
            let votes = [RaftVote::new(1, node), RaftVote::new_committed(1, node)];
            let mut store = open();
            for vote in votes {
                store.save_vote(&vote).await.expect("saved");
                assert_eq!(store.read_vote().await.expect("read"), Some(vote));
            }
            let (sender, receiver) = TypeConfig::oneshot();
            store.append(entries.clone(), IOFlushed::signal(sender)).await.expect("appended");
            receiver.await.expect("called").expect("durable");
            drop(store);
            let mut store = open();
            assert_eq!(store.read_vote().await.expect("read"), Some(votes[1]));
            assert_eq!(store.try_get_log_entries(..).await.expect("read"), entries);
        });
    }

    #[test]
    fn whatever_the_log_refuses_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, _) = Log::open(&LogOptions::new(dir.path(), LogKind::File)).expect("opens");
        let told = Arc::<Mutex<usize>>::default();
        let count = Arc::clone(&told);
        let on_error: OnError = Arc::new(move |_, _| *count.lock() += 1);
        let mut store = LogStore::new(Arc::new(log), ShardId(0), [0; 16], on_error);
        store.log.close().expect("closes");
        block_on(async {
            let id = RaftLogId::new_term_index(1, 1);
            assert!(store.save_vote(&RaftVote::new(1, NodeId(7))).await.is_err());
            assert!(store.truncate_after(None).await.is_err());
            assert!(store.purge(id).await.is_err());
            assert!(store.limited_get_log_entries(1, 2).await.is_err());
        });
        assert_eq!(*told.lock(), 4);
    }
}
