//! A member does not hear for so long that the others have purged what it lacks. A peer's pool comes,
//! and it fails at some persist point of that, or when it has just taken the place of its own.

use std::time::Duration;

use super::Stage;

pub(super) async fn stage(stage: &Stage) -> Option<()> {
    let (leader, others) = stage.cast()?;
    let (world, away) = (&stage.world, &others[0]);
    let installs = away.installs();
    others[1..].iter().chain([&leader.machine]).for_each(|machine| stage.disconnect(away, machine));
    stage.pause_us(200_000, 800_000).await?;
    if away.survives_power_loss() && world.draw(2) == 0 {
        // It commits nothing of its own until it hears again; what comes has some hundred.
        let most = world.draw_with(|rng| *rng.pick(&[10, 40, 150]));
        away.set_pool_fuse(world.draw(most) as i64);
        world.count("failures in a write");
    }
    world.links.lock().heal();
    let has_come = || (away.installs() > installs || !away.is_up()).then_some(());
    // Or the others have all that it lacks still.
    stage.wait_for(Duration::from_millis(500), has_come).await?;
    stage.pause_us(0, 50_000).await?;
    stage.fail(away);
    stage.done("scenes of lost snapshots");
    stage.pause_us(100, 20_000).await?;
    stage.start(away);
    stage.pause_us(50_000, 500_000).await
}
