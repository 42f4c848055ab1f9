//! Sending a long string as it lies in the pool.
//!
//! The kernel copies from the pool's pages into the socket, nobody else copies anything. The pin
//! under which the string was found keeps those bytes, and with them all that has died since from
//! being used again; so once a second it is exchanged for a new one. That does not do when the key
//! has another value by then: what is left to send is copied out of the pool instead, as far as
//! [`CopiedOut`] allows, and the client that is too slow for that is closed.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cairn_engine::Lent;
use tokio::time::timeout_at;

use super::{Connection, Gone};
use crate::ops::clock;
use crate::ops::metrics::Counter;
use crate::raft::{HOLD, LongRead};

/// Bytes of a string that are handed to the kernel at once.
const PART_BYTES: u64 = 1 << 20;
/// Pieces that these lie in at most, with what is before them and behind.
const PIECES: usize = 72;
/// The end of the reply.
const END: &[u8] = b"\r\n";
/// Copies of replies that all connections may hold together: of one longest string.
const COPIED_OUT_BYTES_MAX: u64 = 512 << 20;

/// How many bytes of replies have been copied out of the pool because their clients are slow.
#[derive(Debug, Default)]
pub struct CopiedOut(AtomicU64);

impl CopiedOut {
    /// Room for `bytes`, until it is dropped; None when there is not so much.
    fn take(&self, bytes: u64) -> Option<Room<'_>> {
        let add = |held: u64| Some(held + bytes).filter(|held| *held <= COPIED_OUT_BYTES_MAX);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.is_ok().then(|| Room { all: self, bytes })
    }
}

pub(super) struct Room<'a> {
    all: &'a CopiedOut,
    bytes: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A reply that waits as a copy for its client to take what is before it.
#[derive(Default)]
pub(super) struct Copied<'a> {
    pub(super) bytes: Vec<u8>,
    _room: Option<Room<'a>>,
}

/// A reply on its way: `before`, the bytes lent, [`END`].
struct Parts {
    before: Vec<u8>,
    lent: Lent,
    /// How much of all that has been sent.
    sent: u64,
}

impl Parts {
    fn lent_end(&self) -> u64 {
        self.before.len() as u64 + self.lent.range.end - self.lent.range.start
    }

    fn left(&self) -> u64 {
        self.lent_end() + END.len() as u64 - self.sent
    }

    /// Hands what is to be sent next to `sink`: all of it, or about `most` bytes.
    fn next<'b>(
        &'b self,
        read: &'b LongRead,
        most: u64,
        mut sink: impl FnMut(&'b [u8]),
    ) -> cairn_store::Result<()> {
        let (before, end) = (self.before.len() as u64, self.lent_end());
        if self.sent < before {
            sink(&self.before[self.sent as usize..]);
        }
        let at = self.lent.range.start + self.sent.clamp(before, end) - before;
        let to = at.saturating_add(most).min(self.lent.range.end);
        read.lent_value(&self.lent).read(at..to, &mut sink)?;
        if to == self.lent.range.end {
            sink(&END[self.sent.saturating_sub(end) as usize..]);
        }
        Ok(())
    }
}

impl Connection {
    /// Sends what is in `out`, the bytes that `read` was lent, and the end of the line.
    pub(super) async fn send_lent(
        &self,
        out: &mut Vec<u8>,
        mut read: Arc<LongRead>,
        lent: Lent,
    ) -> Result<(), Gone> {
        let mut parts = Parts { before: std::mem::take(out), lent, sent: 0 };
        self.check_output(parts.left())?;
        self.thread.stats.count(Counter::total_net_output_bytes, parts.left());
        self.thread.stats.count(Counter::total_writes_processed, 1);
        let mut until = clock::now() + HOLD;
        while parts.left() > 0 {
            match self.send_part(&parts, &read) {
                Ok(sent) => parts.sent += sent as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // How long it has taken nothing counts, so only a change is one.
                    if self.client.waiting_bytes() != parts.left() {
                        self.client.note_output(clock::now(), parts.left() as usize);
                    }
                    // Whether it may go on or has waited too long shows below.
                    if let Ok(closed) = timeout_at(until.into(), self.writable()).await {
                        closed?;
                    }
                }
                Err(_) => return Err(Gone),
            }
            let now: Instant = clock::now();
            if now >= until && parts.left() > 0 {
                let group = &self.thread.shared.group;
                let Some(fresh) = read.renewed(group.pin(&self.thread.stats), &parts.lent) else {
                    self.send_copied(parts, read).await?;
                    self.client.note_output(clock::now(), 0);
                    return Ok(());
                };
                (read, until) = (Arc::new(fresh), now + HOLD);
            }
        }
        self.client.note_output(clock::now(), 0);
        *out = parts.before;
        out.clear();
        Ok(())
    }

    fn send_part(&self, parts: &Parts, read: &LongRead) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        let gathered = parts.next(read, PART_BYTES, |piece| {
            slices[count] = IoSlice::new(piece);
            count += 1;
        });
        gathered.map_err(|damage| self.damaged(&damage))?;
        self.stream.try_write_vectored(&slices[..count])
    }

    /// Sends the rest from a copy, so that the pool's bytes are held no longer.
    async fn send_copied(&self, parts: Parts, read: Arc<LongRead>) -> Result<(), Gone> {
        let (rest, _room) = self.copy(parts, read).await?;
        self.send(&rest).await
    }

    /// What is left of a reply as a copy, so that the pool's bytes are held no longer.
    async fn copy(&self, parts: Parts, read: Arc<LongRead>) -> Result<(Vec<u8>, Room<'_>), Gone> {
        let left = parts.left();
        let room = self.room_for_copy(left)?;
        // Copying much takes a while: on a thread of its own, as other long reads.
        let copy = move || {
            let mut rest = Vec::with_capacity(left as usize);
            let all = parts.next(&read, u64::MAX, |piece| rest.extend_from_slice(piece));
            all.map(|()| rest)
        };
        let copied = tokio::task::spawn_blocking(copy).await.map_err(|_| Gone)?;
        let rest = copied.map_err(|damage| {
            self.damaged(&damage);
            Gone
        })?;
        Ok((rest, room))
    }

    /// Room for so many bytes of replies that were copied because their client is slow; without it
    /// the client is closed.
    fn room_for_copy(&self, bytes: u64) -> Result<Room<'_>, Gone> {
        self.thread.shared.copied_out.take(bytes).ok_or_else(|| {
            self.thread.stats.count(Counter::client_output_buffer_limit_disconnections, 1);
            tracing::warn!(
                "closing client {}: it is slow to take replies of {bytes} bytes that must be copied \
                 for it, and {COPIED_OUT_BYTES_MAX} bytes of such are held for others",
                self.client.address,
            );
            Gone
        })
    }

    /// The whole reply of a read that waits behind others, as a copy.
    pub(super) async fn copy_out(&self, read: LongRead) -> Result<Copied<'_>, Gone> {
        let (read, (reply, lent)) = self.run_deferred(read).await;
        if read.silent {
            return Ok(Copied::default());
        }
        let (bytes, room) = match lent {
            Some(lent) => self.copy(Parts { before: reply, lent, sent: 0 }, read).await?,
            None => {
                let room = self.room_for_copy(reply.len() as u64)?;
                (reply, room)
            }
        };
        Ok(Copied { bytes, _room: Some(room) })
    }

    /// A reply that cannot be finished: it was found whole when it was begun.
    fn damaged(&self, damage: &cairn_store::StoreError) -> io::Error {
        tracing::error!("closing client {} inside a reply: {damage}", self.client.address);
        io::ErrorKind::InvalidData.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded_together_and_given_back() {
        let all = CopiedOut::default();
        let most = all.take(COPIED_OUT_BYTES_MAX - 10).expect("nothing is held yet");
        let rest = all.take(10).expect("so much is left");
        assert!(all.take(1).is_none());
        drop(rest);
        assert!(all.take(11).is_none());
        drop(most);
        assert!(all.take(COPIED_OUT_BYTES_MAX).is_some());
    }
}
