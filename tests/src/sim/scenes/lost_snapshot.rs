//! A member does not hear for so long that the others have purged what it lacks. A peer's pool comes,
//! and it fails at some persist point of that, or when it has just taken the place of its own.

use std::time::Duration;

use super::Stage;

/// Persist points of a pool that comes, is checked and installed, and a little more.
const POINTS: u64 = 60;

pub(super) async fn stage(stage: &Stage) -> Option<()> {
    let (leader, others) = stage.cast()?;
    let (world, away) = (&stage.world, &others[0]);
    let (installs, starts) = (away.installs(), away.starts());
    others[1..].iter().chain([&leader.machine]).for_each(|machine| stage.cut(away, machine));
    stage.pause_us(200_000, 800_000).await?;
    world.links.lock().heal();
    let comes = || {
        (away.is_receiving() || away.installs() > installs || away.starts() > starts).then_some(())
    };
    stage.wait_for(Duration::from_secs(2), comes).await?;
    let in_it = away.survives_power_loss() && world.draw(2) == 0;
    if in_it {
        away.set_fuse(world.draw(POINTS) as i64);
        world.count("failures in a write");
    }
    let has_come = || (away.installs() > installs || !away.is_up()).then_some(());
    stage.wait_for(Duration::from_secs(2), has_come).await?;
    stage.pause_us(0, 50_000).await?;
    stage.fail(away);
    stage.done("scenes of lost snapshots");
    stage.pause_us(100, 20_000).await?;
    stage.start(away);
    stage.pause_us(50_000, 500_000).await
}
