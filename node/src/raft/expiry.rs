//! Proposes the reclaiming of keys whose time has passed. Reads do not see them either way; this
//! gives their space back.

use std::time::Duration;

use cairn_engine::{Expired, PassedOver};
use cairn_protocol::command::CommandId;

use super::road::Way;
use crate::ops::clock;
use crate::ops::metrics::{Counter, Shard as Stats};

/// How often to look.
pub const EVERY: Duration = Duration::from_millis(100);
/// Keys of one operation: some hundred microseconds under the lock.
const KEYS_AT_ONCE: usize = 128;
/// Keys that cannot be read and are passed over at one time: they stay, and are met again and again.
const UNREADABLE_AT_ONCE: u64 = 1024;
/// The part of [`EVERY`] that may be spent on it, as in Redis a quarter.
const AT_MOST: Duration = Duration::from_millis(25);

/// Reclaims, time after time.
#[derive(Debug, Default)]
pub struct Reclaimer {
    passed_over: PassedOver,
    has_told: bool,
}

impl Reclaimer {
    /// Reclaims what has expired, as far as there is time.
    pub async fn reclaim(&mut self, way: &mut Way<'_>, stats: &Stats) {
        let start = clock::now();
        let mut unreadable = 0;
        while start.elapsed() < AT_MOST && unreadable < UNREADABLE_AT_ONCE {
            let expired = self.choose(way);
            unreadable += expired.unreadable;
            if !expired.has_more {
                // The next time begins with the earliest again.
                self.passed_over = PassedOver::default();
            }
            let is_refused = !expired.is_empty() && !run(way, &expired, stats).await;
            if is_refused || !expired.has_more {
                break;
            }
        }
    }

    fn choose(&mut self, way: &Way<'_>) -> Expired {
        let engine = way.group.read();
        let now_ms = way.group.wall_ms().max(engine.store().clock_ms());
        let expired = engine.expired(now_ms, &mut self.passed_over, KEYS_AT_ONCE);
        if let Some(damage) = expired.damage.as_ref().filter(|_| !self.has_told) {
            self.has_told = true;
            tracing::error!(
                "an expired key cannot be read and stays, the others are reclaimed: {damage}"
            );
        }
        expired
    }
}

/// Has them deleted. False when none was: the group has stopped, or another leader's clock is behind,
/// and it is of no use to ask again.
async fn run(way: &mut Way<'_>, expired: &Expired, stats: &Stats) -> bool {
    let spec = CommandId::InternalExpire.spec();
    expired.encode(|encode| way.batch().push_encoded(spec, encode));
    way.run().await;
    let effects = way.batch().take_replies(&mut Vec::new());
    stats.count(Counter::expired_keys, effects.expired.into());
    effects.expired > 0
}
