//! Proposes the reclaiming of keys whose time has passed. Reads do not see them either way; this
//! gives their space back.

use std::time::Duration;

use cairn_engine::encode_reclaim;
use cairn_protocol::command::CommandId;

use super::group::Group;
use super::road::Way;
use crate::ops::clock;
use crate::ops::metrics::{Counter, Shard as Stats};

/// How often to look.
pub const EVERY: Duration = Duration::from_millis(100);
/// Keys of one operation: some hundred microseconds under the lock.
const KEYS_AT_ONCE: u64 = 128;
/// The part of [`EVERY`] that may be spent on it, as in Redis a quarter.
const AT_MOST: Duration = Duration::from_millis(25);

/// Reclaims what has expired, as far as there is time.
pub async fn reclaim(way: &mut Way<'_>, stats: &Stats) {
    let start = clock::now();
    while start.elapsed() < AT_MOST && has_expired(way.group) {
        let spec = CommandId::InternalReclaim.spec();
        way.batch().push_encoded(spec, |out| encode_reclaim(out, KEYS_AT_ONCE));
        way.run().await;
        let effects = way.batch().take_replies(&mut Vec::new());
        stats.count(Counter::expired_keys, effects.expired.into());
        if effects.expired == 0 {
            // The group has stopped, or another leader's clock is behind: no use in asking again.
            break;
        }
    }
}

fn has_expired(group: &Group) -> bool {
    let engine = group.read();
    let store = engine.store();
    // Damage in the expiry tree is met, and told, by whatever next writes there.
    store.next_expired(group.wall_ms().max(store.clock_ms())).is_ok_and(|key| key.is_some())
}
