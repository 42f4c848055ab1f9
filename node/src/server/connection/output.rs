//! Sending replies, at the pace of the client.

use super::*;

impl Connection {
    /// Sends what is in `out`, waiting for the client where it must.
    pub(super) async fn flush(&self, out: &mut Vec<u8>) -> Result<(), Gone> {
        if out.is_empty() && !self.broken.get() {
            return Ok(());
        }
        self.check_output(out.len() as u64)?;
        let sent = self.send(out).await;
        self.thread.stats.count(Counter::total_net_output_bytes, out.len() as u64);
        self.thread.stats.count(Counter::total_writes_processed, 1);
        out.clear();
        sent
    }

    /// Closes a client whose replies are longer than the configuration allows, or must not be sent.
    pub(super) fn check_output(&self, bytes: u64) -> Result<(), Gone> {
        if self.broken.get() {
            return Err(Gone);
        }
        let limit = self.thread.settings().output_limit.hard_bytes;
        if limit == 0 || bytes <= limit {
            return Ok(());
        }
        self.thread.stats.count(Counter::client_output_buffer_limit_disconnections, 1);
        tracing::warn!("closing client {}: its replies exceed the limit", self.client.address);
        Err(Gone)
    }

    pub(super) async fn send(&self, mut bytes: &[u8]) -> Result<(), Gone> {
        let mut waited = false;
        loop {
            match self.stream.try_write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waited = true;
                    self.client.note_output(clock::now(), bytes.len());
                    self.writable().await?;
                }
                Err(_) => return Err(Gone),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if waited {
            self.client.note_output(clock::now(), 0);
        }
        Ok(())
    }

    /// Waits until the socket takes bytes again, or the connection is killed.
    pub(super) async fn writable(&self) -> Result<(), Gone> {
        std::future::poll_fn(|cx| {
            if self.client.is_killed() {
                return Poll::Ready(Err(Gone));
            }
            self.stream.poll_write_ready(cx).map_err(|_| Gone)
        })
        .await
    }
}
