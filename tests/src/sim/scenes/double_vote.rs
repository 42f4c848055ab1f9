//! Two candidates that do not see each other, and one voter: it fails right after it has made the one
//! a leader, which nobody hears of, and then its vote counts in the same term once more.

use std::sync::Arc;
use std::time::Duration;

use super::Stage;

pub(super) async fn stage(stage: &Stage) -> Option<()> {
    let (leader, others) = stage.cast()?;
    let (world, voter) = (&stage.world, &leader.machine);
    let [one, other, ..] = &others[..] else { return None };
    // Whose log ends later gives no vote.
    world.set_quiet(true);
    stage.pause_us(50_000, 50_000).await?;
    stage.cut(one, other);
    stage.mute(voter, one);
    stage.mute(voter, other);
    let elected = stage
        .wait_for(Duration::from_secs(2), || {
            let leads = |machine: &&&Arc<_>| world.leads(machine);
            [one, other].iter().find(leads).copied()
        })
        .await?;
    stage.fail(voter);
    world.links.lock().heal();
    stage.cut(one, other);
    stage.cut(elected, voter);
    stage.pause_us(100, 5_000).await?;
    stage.start(voter);
    let last = if Arc::ptr_eq(elected, one) { other } else { one };
    let leads = || world.leads(last) || world.leads(voter);
    stage.wait_for(Duration::from_secs(2), || leads().then_some(())).await?;
    stage.done("scenes of double votes");
    stage.pause_us(10_000, 100_000).await
}
