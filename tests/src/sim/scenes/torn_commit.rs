//! A member fails between the first and the last write of a commit, comes back, commits something
//! else, and fails again.

use std::time::Duration;

use super::Stage;

pub(super) async fn stage(stage: &Stage) -> Option<()> {
    let world = &stage.world;
    let machines = world.machines();
    let machine = machines.get(world.draw(machines.len().max(1) as u64) as usize)?;
    if !machine.is_up() {
        return None;
    }
    if machine.survives_power_loss() {
        // A commit of a write or two has some twenty.
        let most = world.draw_with(|rng| *rng.pick(&[10, 40]));
        machine.set_pool_fuse(world.draw(most) as i64);
        world.count("failures in a write");
    }
    let second = Duration::from_secs(1);
    stage.wait_for(second, || (!machine.is_up()).then_some(())).await;
    stage.fail(machine);
    stage.pause_us(100, 20_000).await?;
    stage.start(machine);
    let commits = 1 + world.draw(2);
    let member = world.member(machine.id)?;
    let has_committed = || (member.committed() >= commits || !member.runs()).then_some(());
    stage.wait_for(second, has_committed).await;
    stage.fail(machine);
    stage.done("scenes of torn commits");
    stage.pause_us(100, 20_000).await?;
    stage.start(machine);
    Some(())
}
