//! What hardly ever happens by chance, staged: each scene brings the cluster again and again to where
//! one promise counts.

mod double_vote;
mod forgotten_lease;
mod late_read;
mod lost_snapshot;
mod torn_commit;

use std::sync::Arc;
use std::time::Duration;

use super::machine::{End, Machine};
use super::member::Member;
use super::world::World;

/// What is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A leader stands still when it is about to read, and another is elected meanwhile.
    LateRead,
    /// A member that follows a leader fails, is there again at once, and another member campaigns.
    ForgottenLease,
    /// A voter fails right after it has given its vote, and the next candidate asks for it.
    DoubleVote,
    /// A member that was away for long fails while it gets a peer's pool, or soon after.
    LostSnapshot,
    /// A member fails in the midst of a commit, is there again at once, and fails again.
    TornCommit,
}

impl Scene {
    /// All of them.
    pub const ALL: [Scene; 5] = [
        Scene::LateRead,
        Scene::ForgottenLease,
        Scene::DoubleVote,
        Scene::LostSnapshot,
        Scene::TornCommit,
    ];
}

/// Between two looks at what a scene waits for.
const LOOK_US: u64 = 200;

/// Stages a scene again and again until a moment of the world.
pub async fn run(world: Arc<World>, scene: Scene, until: u64) {
    let stage = Stage { world, until };
    while stage.pause_us(50_000, 300_000).await.is_some() {
        match scene {
            Scene::LateRead => late_read::stage(&stage).await,
            Scene::ForgottenLease => forgotten_lease::stage(&stage).await,
            Scene::DoubleVote => double_vote::stage(&stage).await,
            Scene::LostSnapshot => lost_snapshot::stage(&stage).await,
            Scene::TornCommit => torn_commit::stage(&stage).await,
        };
        stage.clear();
    }
}

/// What scenes are made of. Each of its steps gives None when the time is over, or what it waited for
/// did not come: the scene is off then.
struct Stage {
    world: Arc<World>,
    until: u64,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.world.now() >= self.until || self.world.is_over()
    }

    /// All is as it was before the scene.
    fn clear(&self) {
        if !self.is_over() {
            self.world.set_quiet(false);
            self.world.links.lock().heal();
        }
    }

    /// Lets some time pass.
    async fn pause_us(&self, least: u64, most: u64) -> Option<()> {
        self.world.sleep_us(least + self.world.draw(most - least + 1)).await;
        (!self.is_over()).then_some(())
    }

    /// Waits until there is what `look` finds.
    async fn wait_for<T>(&self, longest: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
        let end = self.world.now() + longest.as_nanos() as u64;
        loop {
            if self.is_over() || self.world.now() >= end {
                return None;
            }
            if let Some(found) = look() {
                return Some(found);
            }
            self.world.sleep_us(LOOK_US).await;
        }
    }

    /// The leader, and the others in some order, all of which run.
    fn cast(&self) -> Option<(Arc<Member>, Vec<Arc<Machine>>)> {
        let leader = self.world.leader()?;
        let mut others = self.world.machines();
        if others.len() < 3 || others.iter().any(|machine| !machine.is_up()) {
            return None;
        }
        others.retain(|machine| machine.id != leader.machine.id);
        let first = self.world.draw(others.len() as u64) as usize;
        others.rotate_left(first);
        Some((leader, others))
    }

    /// Nothing is heard between two any more.
    fn cut(&self, one: &Machine, other: &Machine) {
        self.close(one, other, false);
    }

    /// The same, and who sends something learns of it: a pool on its way waits long for an answer.
    fn disconnect(&self, one: &Machine, other: &Machine) {
        self.close(one, other, true);
    }

    fn close(&self, one: &Machine, other: &Machine, refuses: bool) {
        self.world.tell(format!("{} and {} do not see each other", one.id, other.id));
        self.world.count("cuts");
        let mut links = self.world.links.lock();
        links.close(one.id, other.id, refuses);
        links.close(other.id, one.id, refuses);
    }

    /// Of what one sends to another only what is about votes arrives.
    fn mute(&self, from: &Machine, to: &Machine) {
        self.world.tell(format!("{} hears of {} only what is about votes", to.id, from.id));
        self.world.links.lock().mute(from.id, to.id);
    }

    /// Takes a machine's power away, if it has any.
    fn fail(&self, machine: &Machine) {
        if self.is_over() || !machine.is_up() {
            return;
        }
        let how = if machine.survives_power_loss() { End::PowerLoss } else { End::Kill };
        self.world.tell(format!("{} fails: {how:?}", machine.id));
        machine.end(how);
        self.world.count("failures");
    }

    /// Starts a machine that has failed, unless somebody else has.
    fn start(&self, machine: &Arc<Machine>) {
        let is_there = self.world.machines().iter().any(|there| Arc::ptr_eq(there, machine));
        if is_there && !machine.is_up() && !self.is_over() {
            self.world.start_node(machine);
        }
    }

    /// A scene has come to its end.
    fn done(&self, what: &'static str) {
        self.world.count(what);
    }
}
