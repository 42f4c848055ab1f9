//! A leader stands still between its look at the lease and the read, for longer than the others
//! bear with.

use std::time::Duration;

use super::Stage;

pub(super) async fn stage(stage: &Stage) -> Option<()> {
    let (leader, _) = stage.cast()?;
    let (world, id) = (&stage.world, leader.machine.id);
    let ms = 700 + world.draw(800);
    world.tell(format!("{id} will stand still for {ms} ms as it reads"));
    world.set_trap(id, Duration::from_millis(ms));
    let term = leader.group.status().term;
    let next = || world.leader().filter(|leader| leader.group.status().term > term);
    stage.wait_for(Duration::from_secs(2), next).await?;
    stage.done("scenes of late reads");
    let moves = || leader.machine.stands_until() <= world.now();
    stage.wait_for(Duration::from_secs(2), || moves().then_some(())).await
}
