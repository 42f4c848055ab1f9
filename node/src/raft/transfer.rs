//! A whole pool for a member that was away for longer than the log reaches, or is new.
//!
//! The leader sends its pool as a commit left it, chunk by chunk, and goes on meanwhile. If that is
//! interrupted it offers the same commit again, not its newest ([`super::keeping`]); the member keeps
//! what has come beside its own pool, goes on where it stopped, checks all of it, and has openraft put
//! it in the place of its own.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use cairn_protocol::cluster::message::{
    Refused, RefusedCode, SnapshotBegin, SnapshotChunk, SnapshotEnd, SnapshotId, SnapshotProgress,
    Vote,
};
use cairn_protocol::cluster::{Reply, Request};
use cairn_store::{Export, Head, Import, Imported, StoreError, TransferError};
use openraft::storage::Snapshot;
use openraft::type_config::TypeConfigExt;

use super::group::Group;
use super::keeping::Offer;
use super::network::Peer;
use super::state_machine::{Member, SnapshotData, meta_of, stand_by};
use super::types::TypeConfig;
use super::wire;
use crate::transport::{CallError, refused};

/// How long the answer to one piece may take.
const PIECE: Duration = Duration::from_secs(10);
/// A pool that is refused for the same reason again and again is told of so seldom.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// Between two questions whether a pool that has come is checked and installed.
const LOOK: Duration = Duration::from_millis(200);

/// A peer's pool on its way here.
pub struct Arriving {
    id: SnapshotId,
    stage: Stage,
}

enum Stage {
    /// Its pieces are coming.
    Coming(Import),
    /// All have come; it is being checked, and put in the place of the old one.
    Finishing,
    /// It has taken the old one's place; the vote afterwards.
    Installed(Vote),
}

/// Sends a pool to `peer`; the vote that it has afterwards.
///
/// # Errors
/// The peer cannot be reached or refuses, or this pool cannot be read.
pub async fn send(
    peer: &Peer,
    offer: &Offer,
    group: Weak<dyn Member>,
    vote: Vote,
) -> Result<Vote, CallError> {
    let (to, head) = (peer.to(), offer.head());
    let sending = offer.begin(to);
    let broken = |why: String| CallError::Unreachable { to, why };
    let encoded = head.encode();
    let id = id_of(&encoded, head);
    let begin = SnapshotBegin {
        id,
        vote,
        last: None,
        membership_at: None,
        reserve_bytes: head.pool_bytes(),
        head: Bytes::from(encoded),
    };
    let mut progress = ask(peer, Request::SnapshotBegin(begin), PIECE).await?;
    let (from, chunks) = (progress.next_chunk, head.chunks());
    sending.goes_on(from);
    tracing::info!("sending the pool to node {to}, from chunk {from} of {chunks}");
    while progress.next_chunk < head.chunks() {
        if wire::from_vote(progress.vote) > wire::from_vote(vote) {
            return Ok(progress.vote);
        }
        let chunk = progress.next_chunk;
        if let Some(group) = group.upgrade() {
            stand_by(&*group).await;
        }
        if offer.is_withdrawn() {
            return Err(broken("this pool is not offered any more".to_owned()));
        }
        let payload = gather(offer.export(), &group, chunk).map_err(|why| {
            offer.withdraw();
            broken(why)
        })?;
        let piece = SnapshotChunk { id, vote, chunk, records: 1, payload };
        let next = ask(peer, Request::SnapshotChunk(piece), PIECE).await?;
        if next.next_chunk <= chunk {
            return Err(broken(format!("node {to} does not get beyond chunk {chunk}")));
        }
        progress = next;
        sending.goes_on(progress.next_chunk);
    }
    let end = SnapshotEnd { id, vote, chunks: head.chunks() };
    let (mut was_silent, mut steps) = (false, chunks);
    loop {
        match ask(peer, Request::SnapshotEnd(end), PIECE).await {
            Ok(progress) if progress.installed => {
                sending.arrived();
                return Ok(progress.vote);
            }
            // It takes as long as it takes.
            Ok(_) => {
                steps += 1;
                sending.goes_on(steps);
                was_silent = false;
            }
            // The first answer comes when all is done; whoever asks again is answered at once.
            Err(CallError::Timeout { .. }) if !was_silent => was_silent = true,
            Err(error) => return Err(error),
        }
        TypeConfig::sleep(LOOK).await;
    }
}

/// The same for the same pool at the same commit, and for no other.
fn id_of(encoded: &[u8], head: &Head) -> SnapshotId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&head.epoch().0.to_le_bytes());
    // The description ends with its checksum.
    let tail = &encoded[encoded.len().saturating_sub(4)..];
    id[8..8 + tail.len()].copy_from_slice(tail);
    id[12..].copy_from_slice(&(head.applied().1.0 as u32).to_le_bytes());
    SnapshotId(id)
}

/// A chunk, gathered slab by slab so that no hold of the engine's lock is long.
fn gather(export: &Export, group: &Weak<dyn Member>, number: u64) -> Result<Bytes, String> {
    let gone = || "the group is gone".to_owned();
    let mut chunk = export.begin(number).ok_or_else(|| format!("there is no chunk {number}"))?;
    let group = group.upgrade().ok_or_else(gone)?;
    loop {
        let more = export.gather(group.engine().store(), &mut chunk);
        if !more.map_err(|error| unreadable(&*group, &error))? {
            break;
        }
    }
    export.seal(chunk).map(Bytes::from).map_err(|error| unreadable(&*group, &error))
}

/// What keeps this pool from being read. Damage is there at the next try too.
fn unreadable(group: &dyn Member, error: &TransferError) -> String {
    if let TransferError::Store(damage @ StoreError::Corrupt(_)) = error {
        group.cannot_send(damage);
    }
    error.to_string()
}

async fn ask(
    peer: &Peer,
    request: Request,
    deadline: Duration,
) -> Result<SnapshotProgress, CallError> {
    match peer.ask(request, deadline).await? {
        Reply::SnapshotBegin(progress)
        | Reply::SnapshotChunk(progress)
        | Reply::SnapshotEnd(progress) => Ok(progress),
        other => {
            let why = format!("{:?} came back", other.kind());
            Err(CallError::BadReply { to: peer.to(), why })
        }
    }
}

fn failed(text: impl Into<String>) -> Refused {
    refused(RefusedCode::Failed, text)
}

impl Group {
    /// Takes a piece of a peer's pool.
    ///
    /// # Errors
    /// It does not fit, or there is no room for it.
    pub(super) async fn receive(self: Arc<Self>, request: Request) -> Result<Reply, Refused> {
        match request {
            Request::SnapshotBegin(begin) => self.begin_arrival(begin).map(Reply::SnapshotBegin),
            Request::SnapshotChunk(piece) => self.take_piece(&piece).map(Reply::SnapshotChunk),
            Request::SnapshotEnd(end) => self.end_arrival(end).await.map(Reply::SnapshotEnd),
            other => Err(refused(RefusedCode::Malformed, format!("{:?}", other.kind()))),
        }
    }

    fn begin_arrival(&self, begin: SnapshotBegin) -> Result<SnapshotProgress, Refused> {
        let mut arriving = self.arriving.lock();
        let head =
            Head::decode(&begin.head).map_err(|error| self.refuse_pool(error.to_string()))?;
        let chunks = head.chunks();
        if arriving.as_ref().is_none_or(|arriving| arriving.id != begin.id) {
            if let Some(Arriving { stage: Stage::Finishing, .. }) = &*arriving {
                return Err(refused(RefusedCode::Busy, "another pool is being installed"));
            }
            if let Err(error) = self.home().check_replaceable() {
                // Before all of it has come for nothing: without it this member never catches up.
                self.stop(format!("a peer sends the whole pool: {error}"));
                return Err(failed(error));
            }
            // What is left of another one makes room first.
            *arriving = None;
            let import = self.home().arrive(head, &self.pool_options());
            let import = import.map_err(|error| self.refuse_pool(error))?;
            tracing::info!("a peer sends its pool of {} bytes", begin.reserve_bytes);
            *arriving = Some(Arriving { id: begin.id, stage: Stage::Coming(import) });
        }
        let next_chunk = match arriving.as_ref().map(|arriving| &arriving.stage) {
            Some(Stage::Coming(import)) => import.wanted(),
            _ => chunks,
        };
        Ok(SnapshotProgress { vote: begin.vote, next_chunk, installed: false })
    }

    /// Also says so in the log, though not as often as the leader tries.
    fn refuse_pool(&self, why: String) -> Refused {
        let now = self.executor().now();
        let mut said = self.refused_pool.lock();
        if said.as_ref().is_none_or(|(at, before)| *before != why || now - *at > SAY_AGAIN) {
            tracing::warn!("a peer's pool is not taken: {why}");
            *said = Some((now, why.clone()));
        }
        failed(why)
    }

    fn take_piece(&self, piece: &SnapshotChunk) -> Result<SnapshotProgress, Refused> {
        let mut arriving = self.arriving.lock();
        let arriving = arriving.as_mut().filter(|arriving| arriving.id == piece.id);
        let Some(Arriving { stage: Stage::Coming(import), .. }) = arriving else {
            return Err(not_here());
        };
        let put = import.put(piece.chunk, &piece.payload);
        put.map_err(|error| failed(error.to_string()))?;
        let next_chunk = import.wanted();
        Ok(SnapshotProgress { vote: piece.vote, next_chunk, installed: false })
    }

    /// Checks and installs what has come. Whoever asks again meanwhile is told that it goes on, and
    /// afterwards what came of it: an answer may have been lost.
    async fn end_arrival(self: Arc<Self>, end: SnapshotEnd) -> Result<SnapshotProgress, Refused> {
        let SnapshotEnd { id, vote, chunks } = end;
        let import = {
            let mut arriving = self.arriving.lock();
            let arriving = arriving.as_mut().filter(|arriving| arriving.id == id);
            let arriving = arriving.ok_or_else(not_here)?;
            match std::mem::replace(&mut arriving.stage, Stage::Finishing) {
                Stage::Coming(import) => import,
                Stage::Finishing => {
                    return Ok(SnapshotProgress { vote, next_chunk: chunks, installed: false });
                }
                Stage::Installed(vote) => {
                    arriving.stage = Stage::Installed(vote);
                    return Ok(SnapshotProgress { vote, next_chunk: chunks, installed: true });
                }
            }
        };
        let finishing = Finishing { group: &self, installed: None };
        finishing.finish(import, id, vote).await?;
        let vote = self.installed(id).ok_or_else(not_here)?;
        Ok(SnapshotProgress { vote, next_chunk: chunks, installed: true })
    }

    fn installed(&self, id: SnapshotId) -> Option<Vote> {
        match &*self.arriving.lock() {
            Some(Arriving { id: own, stage: Stage::Installed(vote) }) if *own == id => Some(*vote),
            _ => None,
        }
    }
}

/// The installing of a pool that has come. However it ends, it does not leave the next one waiting.
struct Finishing<'a> {
    group: &'a Arc<Group>,
    installed: Option<Arriving>,
}

impl Drop for Finishing<'_> {
    fn drop(&mut self) {
        *self.group.arriving.lock() = self.installed.take();
    }
}

impl Finishing<'_> {
    async fn finish(mut self, import: Import, id: SnapshotId, vote: Vote) -> Result<(), Refused> {
        let finish = move || import.finish(&mut |_, _| {}).map_err(|error| error.to_string());
        let finished: Option<Result<Imported, String>> = self.group.executor().aside(finish).await;
        let finished = finished.unwrap_or_else(|| Err("failed inside; see the node's log".into()));
        let imported = finished.map_err(failed)?;
        let meta = meta_of(imported.head())
            .ok_or_else(|| failed("the pool that came has members that this build cannot read"))?;
        let index = imported.head().applied().1;
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Arrived(Box::new(imported)) };
        let vote = self.group.take_over(wire::from_vote(vote), snapshot).await;
        let vote = vote.ok_or_else(|| failed("the pool that came could not be installed"))?;
        tracing::info!("a peer's pool with entries up to {index} took the place of this node's");
        self.installed = Some(Arriving { id, stage: Stage::Installed(wire::to_vote(&vote)) });
        Ok(())
    }
}

fn not_here() -> Refused {
    refused(RefusedCode::Unavailable, "no such snapshot is on its way here")
}
