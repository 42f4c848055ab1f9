//! What is looked at every second: connections that idle or take nothing.

use std::time::Instant;

use super::Shared;
use crate::ops::config::Settings;
use crate::ops::metrics::{Counter, Shard as Stats};
use crate::server::registry::{Client, Filter};

/// Why a connection is closed from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Idle,
    TakesNothing,
}

/// Closes connections that were idle past `timeout`, or whose replies have waited too long.
pub fn sweep(shared: &Shared, stats: &Stats, now: Instant) {
    let settings = shared.config.get();
    for client in shared.clients.matching(&Filter::default()) {
        match judge(&client, &settings, now) {
            Verdict::Keep => {}
            Verdict::Idle => client.kill(),
            Verdict::TakesNothing => {
                stats.count(Counter::client_output_buffer_limit_disconnections, 1);
                tracing::warn!("closing client {}: it does not read its replies", client.address);
                client.kill();
            }
        }
    }
}

fn judge(client: &Client, settings: &Settings, now: Instant) -> Verdict {
    let stalled_ms = client.stalled_ms(now);
    let past = |seconds: u64, ms: u64| seconds > 0 && ms > seconds.saturating_mul(1000);
    let soft = settings.output_limit;
    let over_soft = soft.soft_bytes > 0
        && client.waiting_bytes() > soft.soft_bytes
        && past(soft.soft_seconds.max(1), stalled_ms);
    if over_soft || past(settings.output_stall_seconds, stalled_ms) {
        return Verdict::TakesNothing;
    }
    if stalled_ms == 0 && past(settings.timeout_seconds, client.idle_ms(now)) {
        return Verdict::Idle;
    }
    Verdict::Keep
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::clock;
    use std::net::SocketAddr;
    use std::time::Duration;

    #[test]
    fn idle_and_stalled_connections_are_told_apart() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let client = Client::new(1, address, address, 3);
        let start = clock::now();
        let later = start + Duration::from_secs(100);
        let mut settings = Settings::defaults();
        assert_eq!(judge(&client, &settings, later), Verdict::Keep, "no timeout by default");
        settings.timeout_seconds = 90;
        assert_eq!(judge(&client, &settings, later), Verdict::Idle);
        assert_eq!(judge(&client, &settings, start), Verdict::Keep);
        client.note_output(start, 10);
        assert_eq!(judge(&client, &settings, later), Verdict::TakesNothing);
        settings.output_stall_seconds = 0;
        assert_eq!(judge(&client, &settings, later), Verdict::Keep, "it has replies to take");
        settings.output_limit.soft_bytes = 9;
        settings.output_limit.soft_seconds = 50;
        assert_eq!(judge(&client, &settings, later), Verdict::TakesNothing);
        client.note_output(start, 9);
        assert_eq!(judge(&client, &settings, later), Verdict::Keep);
    }
}
