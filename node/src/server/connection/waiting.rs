//! WAIT and WAITAOF: a client that waits until enough replicas have what it wrote.

use super::*;

/// Between two looks at what the replicas have.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
];

impl Connection {
    /// Waits for what WAIT or WAITAOF asks for, and answers it.
    pub(super) async fn wait_for_replicas(
        &self,
        waiting: Waiting,
        out: &mut Vec<u8>,
    ) -> Result<(), Gone> {
        let Waiting { replicas, longest, local } = waiting;
        let (group, start) = (&self.thread.shared.group, clock::now());
        let local = match local {
            Some(wanted) => Some(!group.acknowledges_early() || wanted && group.sync_log().await),
            None => None,
        };
        // What is written from here on is not waited for.
        let (mut found, mut upto) = (group.replicas_in_step(), None);
        let is_over = || !longest.is_zero() && start.elapsed() >= longest;
        for look in 0.. {
            if let Some((now, index)) = group.in_step(upto).await {
                // Who has what was acknowledged keeps it; a new leader has to learn who that is.
                found = if upto.is_some() { found.max(now) } else { now };
                upto = Some(index);
            }
            // Alone there never will be more; and who is told to stop waits for nobody.
            let stops = group.is_alone() || self.thread.shared.stop.why().is_some();
            if found >= replicas || is_over() || stops {
                break;
            }
            if self.has_gone() {
                return Err(Gone);
            }
            let left = longest.saturating_sub(start.elapsed());
            let pause = LOOKS[LOOKS.len().min(look + 1) - 1];
            tokio::time::sleep(if longest.is_zero() { pause } else { pause.min(left) }).await;
        }
        self.answer_waiting(local, found, out);
        Ok(())
    }

    /// Whether the client has closed its end, or its connection was killed.
    pub(super) fn has_gone(&self) -> bool {
        // What it has sent meanwhile stays to be read, so reading does not tell.
        let is_closed = match self.stream.ready(Interest::READABLE).now_or_never() {
            Some(ready) => ready.map_or(true, |ready| ready.is_read_closed()),
            None => false,
        };
        self.client.is_killed() || is_closed
    }

    pub(super) fn answer_waiting(&self, local: Option<bool>, replicas: usize, out: &mut Vec<u8>) {
        let mut w = Writer::new(out, self.session.proto);
        if let Some(local) = local {
            w.array(2);
            w.int(local.into());
        }
        w.int(replicas as i64);
    }
}
