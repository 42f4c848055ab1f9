//! openraft's view of a shard's engine: entries go in, what the pool has committed is the snapshot.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_engine::Engine;
use cairn_protocol::ids::{LogIndex, NodeId, Term};
use cairn_store::log::LogId;
use cairn_store::{Head, Imported, StoreError};
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{
    EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
};
use openraft::type_config::TypeConfigExt;
use openraft::{BasicNode, OptionalSend};
use parking_lot::RwLockReadGuard;

use super::group::GroupError;
use super::keeping::Offer;
use super::outcome::End;
use super::types::{
    Entry, Leader, RaftLogId, StoredMembership, TypeConfig, decode_applied_membership, raft_id,
};

/// What describes a snapshot.
pub type Meta = SnapshotMeta<Leader, NodeId, BasicNode>;
/// A snapshot, as openraft hands it around.
pub type GroupSnapshot = Snapshot<Leader, NodeId, BasicNode, SnapshotData>;

/// What a snapshot is made of.
pub enum SnapshotData {
    /// Nothing: the pool's committed epoch is there, and openraft is told so.
    Committed,
    /// The pool as its last commit left it, to be sent.
    Sending(Arc<Offer>, Weak<dyn Member>),
    /// A peer's pool, whole, to take the place of this node's.
    Arrived(Box<Imported>),
}

/// The rest of applying an entry that takes long.
pub type Aside = Pin<Box<dyn Future<Output = Result<(), GroupError>> + Send>>;

/// Between two looks whether it is over.
const STAND_BY: Duration = Duration::from_millis(2);

/// Waits while an entry is being applied aside. For openraft's tasks: one that waited for the engine
/// would have the others wait with it. None begins before the task waits for something else.
pub async fn stand_by(group: &dyn Member) {
    while group.is_set_aside() {
        TypeConfig::sleep(STAND_BY).await;
    }
}

/// What openraft needs of a group. A trait, for a group holds openraft, and openraft this.
pub trait Member: Send + Sync {
    /// The engine for reading.
    fn engine(&self) -> RwLockReadGuard<'_, Engine>;
    /// Applies an entry that is committed, or begins to: one that takes long is applied where it
    /// keeps nobody from heartbeats and votes, and is done when what is returned ends.
    ///
    /// # Errors
    /// It cannot be applied, and nothing after it may be.
    fn apply(&self, entry: Entry) -> Result<Option<Aside>, GroupError>;
    /// Whether this node leads, as far as it knows.
    fn leads(&self) -> bool;
    /// Whether an entry is being applied aside: who then asks for the engine waits for it.
    fn is_set_aside(&self) -> bool;
    /// Up to where the log may be purged.
    fn purge_upto(&self) -> Option<LogId>;
    /// The pool that members are sent: the one that was offered last, if somebody has begun with that
    /// and may go on.
    fn offer(&self) -> Arc<Offer>;
    /// Its pool is damaged, and cannot be sent to the member that wants it.
    fn cannot_send(&self, damage: &StoreError);
    /// Puts a peer's pool in the place of this node's.
    ///
    /// # Errors
    /// What went wrong, where, and what to do.
    fn install(&self, imported: Imported) -> Result<(), String>;
    /// A proposal came to this end, and will not be answered by being applied.
    fn give_up(&self, proposal: u64, end: End);
}

/// A group's engine, for openraft.
pub struct StateMachine {
    group: Weak<dyn Member>,
}

impl StateMachine {
    /// Applies to `group`.
    pub fn new(group: Weak<dyn Member>) -> StateMachine {
        StateMachine { group }
    }

    fn group(&self) -> io::Result<Arc<dyn Member>> {
        self.group.upgrade().ok_or_else(|| io::Error::other("the group is gone"))
    }
}

/// The membership as of what is applied.
///
/// # Errors
/// When the superblock holds one that this build cannot read.
fn membership(group: &dyn Member) -> io::Result<StoredMembership> {
    let engine = group.engine();
    let bytes = engine.store().membership();
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    decode_applied_membership(bytes).ok_or_else(|| {
        let what = "the pool holds a membership that this build cannot read: start a newer cairn";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// openraft's name for what is applied. Nothing is applied before there is a membership: entry 0 of
/// term 0 is what brings the first one.
fn applied(group: &dyn Member) -> Option<RaftLogId> {
    let engine = group.engine();
    let (term, index) = engine.store().applied();
    let is_new = engine.store().membership().is_empty() && (term, index) == (Term(0), LogIndex(0));
    (!is_new).then(|| raft_id(LogId::new(term, index)))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Committed;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        let group = self.group()?;
        Ok((applied(&*group), membership(&*group)?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let group = self.group()?;
        while let Some((entry, responder)) = entries.try_next().await? {
            let failed = |error: GroupError| io::Error::other(error.reason);
            if let Some(aside) = group.apply(entry).map_err(failed)? {
                aside.await.map_err(failed)?;
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Committed {
        Committed { group: self.group.clone() }
    }

    async fn install_snapshot(&mut self, _: &Meta, data: SnapshotData) -> io::Result<()> {
        match data {
            SnapshotData::Arrived(imported) => {
                self.group()?.install(*imported).map_err(io::Error::other)
            }
            _ => Err(io::Error::other("a snapshot came that did not arrive from a peer")),
        }
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<GroupSnapshot>> {
        let group = self.group()?;
        if !group.leads() {
            // Nobody is sent it. openraft asks at its start, for what it is called: to hold it would
            // hold all that dies meanwhile.
            let meta = meta_of(group.engine().store().export().head());
            let named = |meta| Some(Snapshot { meta, snapshot: SnapshotData::Committed });
            return meta.map_or_else(|| snapshot(&*group), |meta| Ok(named(meta)));
        }
        let offer = group.offer();
        let Some(meta) = meta_of(offer.head()) else { return snapshot(&*group) };
        let snapshot = SnapshotData::Sending(offer, self.group.clone());
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

/// "Builds" the snapshot that there is: the pool's committed epoch.
pub struct Committed {
    group: Weak<dyn Member>,
}

impl RaftSnapshotBuilder<TypeConfig> for Committed {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<GroupSnapshot> {
        let group = self.group.upgrade().ok_or_else(|| io::Error::other("the group is gone"))?;
        stand_by(&*group).await;
        snapshot(&*group)?.ok_or_else(|| io::Error::other("nothing has been committed yet"))
    }
}

fn snapshot(group: &dyn Member) -> io::Result<Option<GroupSnapshot>> {
    let Some(upto) = group.purge_upto() else { return Ok(None) };
    let meta =
        SnapshotMeta { last_log_id: Some(raft_id(upto)), last_membership: membership(group)? };
    Ok(Some(Snapshot { meta, snapshot: SnapshotData::Committed }))
}

/// What a pool on its way says of itself; None when it has no members yet, or none that this build
/// can read.
pub fn meta_of(head: &Head) -> Option<Meta> {
    let (term, index) = head.applied();
    Some(SnapshotMeta {
        last_log_id: Some(raft_id(LogId::new(term, index))),
        last_membership: decode_applied_membership(head.membership())?,
    })
}
