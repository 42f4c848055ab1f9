//! Frees pieces of long arguments whose command will never come: the node that staged them died, or
//! it is not known what became of one of them.
//!
//! Only who leads looks, and goes by what it has seen itself. Whoever stages goes on at once, and
//! asks for ten seconds at most until somebody leads: when for longer nothing has come, nothing will.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_engine::encode_drop_stages;
use cairn_protocol::command::CommandId;
use cairn_store::Db;

use super::group::Group;
use super::road::Way;
use crate::ops::clock;

/// How often to look.
pub const EVERY: Duration = Duration::from_secs(1);
/// When for so long no piece has come they go, all of them.
const QUIET: Duration = Duration::from_secs(15);
/// Nobody takes so long for one: it goes though others come.
const LIFE: Duration = Duration::from_secs(600);
/// Looked at, and dropped, at once.
const AT_ONCE: usize = 1024;

/// The arguments that are being staged, as they were found when this was last looked at.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Each with its length, and when it was first seen.
    seen: BTreeMap<u64, (u64, Instant)>,
    /// When that last changed.
    changed: Option<Instant>,
}

impl Leftovers {
    /// Notes what there is, by number and length; returns what is to go.
    fn judge(&mut self, now: Instant, found: &BTreeMap<u64, u64>) -> Vec<u64> {
        let seen = |(id, len): (&u64, &u64)| {
            let first = self.seen.get(id).map_or(now, |(_, first)| *first);
            (*id, (*len, first))
        };
        let seen: BTreeMap<u64, (u64, Instant)> = found.iter().map(seen).collect();
        if seen != self.seen {
            self.changed = Some(now);
        }
        self.seen = seen;
        let since = |at: Instant| now.duration_since(at);
        let is_quiet = self.changed.is_some_and(|at| since(at) >= QUIET);
        let old = self.seen.iter().filter(|(_, (_, first))| is_quiet || since(*first) >= LIFE);
        old.map(|(id, _)| *id).collect()
    }
}

/// Has what is left over dropped, if this node leads.
pub async fn drop_leftovers(way: &mut Way<'_>, leftovers: &mut Leftovers) {
    if !way.group.leads() {
        *leftovers = Leftovers::default();
        return;
    }
    let old = leftovers.judge(clock::now(), &staged(way.group));
    if old.is_empty() {
        return;
    }
    tracing::warn!("dropping {} long arguments whose commands did not come", old.len());
    let spec = CommandId::InternalDropStages.spec();
    way.batch().push_encoded(spec, |out| encode_drop_stages(out, &old));
    way.run().await;
    // Should it have failed, the next look finds them again.
    way.batch().take_replies(&mut Vec::new());
}

/// What is staged, by number and length.
fn staged(group: &Group) -> BTreeMap<u64, u64> {
    let engine = group.read();
    let mut found = BTreeMap::new();
    if engine.store().len(Db::STAGE) == 0 {
        return found;
    }
    // Damage is met, and told, by whoever reads what is staged.
    let _ = engine.store().scan(Db::STAGE, 0, &mut |record| {
        if let Ok(id) = record.key().try_into() {
            found.insert(u64::from_le_bytes(id), record.value().len());
        }
        Ok(found.len() < AT_ONCE)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_stays_and_what_rests_goes() {
        let (mut leftovers, start) = (Leftovers::default(), clock::now());
        let mut judge = |seconds, found: &[(u64, u64)]| {
            let found = found.iter().copied().collect();
            leftovers.judge(start + Duration::from_secs(seconds), &found)
        };
        assert!(judge(0, &[]).is_empty());
        assert!(judge(100, &[]).is_empty());
        assert!(judge(101, &[(7, 10)]).is_empty());
        assert!(judge(110, &[(7, 20)]).is_empty());
        assert!(judge(124, &[(7, 20), (9, 1)]).is_empty());
        assert!(judge(138, &[(7, 20), (9, 1)]).is_empty());
        assert_eq!(judge(139, &[(7, 20), (9, 1)]), [7, 9]);
        // Others come and go for ever.
        for second in (140..700).step_by(10) {
            assert!(judge(second, &[(7, 20), (9, second)]).is_empty());
        }
        assert_eq!(judge(701, &[(7, 20), (10, 3)]), [7]);
    }
}
