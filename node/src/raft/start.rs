//! From what recovery found to a group that serves. Alone it leads, its log says what the memory
//! limit is, and a pool that was created now holds an entry of that log.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use cairn_engine::encode_memory;
use cairn_protocol::command::CommandId;
use cairn_store::Committer;

use super::group::{Group, GroupError, Parts, Standing};
use super::propose::Submission;
use super::recover::{Found, LONE_NODE, Recovery, SHARD, boot_id};
use super::runtime::Executor;
use crate::ops::metrics::Shard as Stats;

/// A group, its pool's committer, and what was found.
pub type Started = (Arc<Group>, Committer, Found);

/// Starts this node's group, whose pool may take `capacity_bytes` and whose openraft `executor` runs.
/// `standing`, `stats` and `on_stop` are [`Group::start`]'s.
///
/// # Errors
/// A text that says what, where, and what to do.
pub fn start(
    recovery: Recovery,
    executor: Arc<Executor>,
    standing: Standing,
    capacity_bytes: u64,
    stats: [Arc<Stats>; 2],
    on_stop: Box<dyn Fn(&GroupError) + Send + Sync>,
) -> Result<Started, String> {
    let Recovery { engine, home, mut committer, log, found, .. } = recovery;
    let node = match &standing {
        Standing::Alone => LONE_NODE,
        Standing::Member { .. } if found.halted.is_some() => {
            return Err(found.halted.as_deref().map(leave_to_the_others).unwrap_or_default());
        }
        Standing::Member { transport, .. } => transport.node(),
    };
    let parts = Parts { shard: SHARD, node, boot_id: boot_id(), engine, home, log, executor };
    if let Some(reason) = found.halted.clone() {
        return Ok((Group::halted(parts, stats, on_stop, reason), committer, found));
    }
    let group = Group::start(parts, standing, stats, on_stop)?;
    if group.is_alone() && group.read().store().limit_bytes() != capacity_bytes {
        propose_limit(&group, capacity_bytes)?;
        // A pool that was created now holds an entry of its log from here on, so that the one is
        // never taken for complete without the other.
        if let Some(sealed) = group.seal() {
            let published = committer.commit(sealed).map_err(|error| error.to_string())?;
            group.release(published);
            group.resume();
        }
    }
    Ok((group, committer, found))
}

/// Why a member does not start on what may only be read, and what to do: it would neither follow nor
/// vote, and what it answered would grow old, while the others have it all.
fn leave_to_the_others(reason: &str) -> String {
    format!(
        "{reason}. On a lone node, that is: a member of a cluster would answer what has grown old, so \
         it does not start. Move its --dir aside and start it with an empty --dir: it joins again as \
         a new member, and the others fill it. Should no other have the data any more, start what was \
         moved aside alone, without --join and without the file node.json: it serves what can be read"
    )
}

/// Has the log say what the operator's memory limit is from here on: it decides what writes are
/// admitted, and so what a replay makes of them.
fn propose_limit(group: &Arc<Group>, capacity_bytes: u64) -> Result<(), String> {
    let submission = Submission::new();
    let spec = CommandId::InternalMemory.spec();
    submission.batch().push_encoded(spec, |out| encode_memory(out, capacity_bytes));
    group.submit(&submission);
    block_on(submission.wait(group));
    match group.stop_reason() {
        None => Ok(()),
        Some(stopped) => Err(stopped.reason.clone()),
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    const LONGEST: Duration = Duration::from_millis(100);
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        std::thread::park_timeout(LONGEST);
    }
}
