//! One member does not see the leader and campaigns, in vain for as long as the other follows. That one
//! fails and is there again at once, while the leader's lease still stands.

use std::time::Duration;

use super::Stage;

pub(super) async fn stage(stage: &Stage) -> Option<()> {
    let (leader, others) = stage.cast()?;
    let [campaigns, follows, ..] = &others[..] else { return None };
    // Whose log ends later gives no vote: nobody writes what the one does not hear of.
    stage.world.set_quiet(true);
    stage.pause_us(50_000, 50_000).await?;
    stage.cut(campaigns, &leader.machine);
    // It has asked for votes by then, and asks again every 250 to 450 ms.
    stage.pause_us(700_000, 1_100_000).await?;
    stage.fail(follows);
    stage.cut(follows, &leader.machine);
    stage.pause_us(100, 5_000).await?;
    stage.start(follows);
    stage.world.set_quiet(false);
    let leads = || stage.world.leads(campaigns);
    stage.wait_for(Duration::from_secs(2), || leads().then_some(())).await?;
    stage.done("scenes of forgotten leases");
    stage.pause_us(10_000, 300_000).await
}
