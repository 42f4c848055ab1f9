//! What a run is like: everything that a seed decides before it begins.

use std::time::Duration;

use cairn_node::ops::config::Reads;
use cairn_store::log::LogKind;

use super::bugs::Bug;
use super::scenes::Scene;
use super::world::World;
use crate::rng::Rng;

/// What is to happen in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all follows from.
    pub seed: u64,
    /// How many members the group is born with.
    pub members: u64,
    /// What their logs lie on.
    pub kind: LogKind,
    /// For how long things go wrong.
    pub chaos: Duration,
    /// How leaders prove that they lead.
    pub reads: Reads,
    /// Bytes of entries that logs keep for members that were away.
    pub keep_bytes: u64,
    /// How many clients there are.
    pub clients: u64,
    /// How many keys they use.
    pub keys: u64,
    /// By how many bytes the values that they write differ in length, at the most.
    pub tail_bytes: u64,
    /// How long clients think between two operations, in microseconds at the most.
    pub think_us: u64,
    /// How disks behave.
    pub disk: Disk,
    /// Threads stand still once in so many places where they may.
    pub pause_once_in: u64,
    /// How often things go wrong, in microseconds between two at the most.
    pub trouble_us: u64,
    /// What may go wrong.
    pub troubles: Troubles,
    /// What is staged besides.
    pub scene: Option<Scene>,
    /// What was put in to be caught.
    pub bug: Option<Bug>,
    /// Whether somebody wants to read what happened.
    pub keeps_events: bool,
}

/// What may go wrong in a run.
#[derive(Clone, Copy, Debug)]
pub struct Troubles {
    /// Messages are lost, late, out of order, heard twice; ways are closed.
    pub network: bool,
    /// Nodes fail and come back.
    pub crashes: bool,
    /// Nodes stand still.
    pub pauses: bool,
    /// Members are taken in and replaced, leadership is handed over.
    pub members: bool,
}

impl Troubles {
    /// Nothing.
    const NONE: Troubles =
        Troubles { network: false, crashes: false, pauses: false, members: false };
}

/// How long a disk takes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    write_us: u64,
    /// Once in so many times a write takes a hundred times as long.
    slow_once_in: u64,
    commit_us: u64,
}

impl Disk {
    fn draw(rng: &mut Rng) -> Disk {
        Disk {
            write_us: *rng.pick(&[20, 200, 2000]),
            slow_once_in: *rng.pick(&[1 << 40, 500, 50]),
            commit_us: *rng.pick(&[10_000, 100_000, 1_000_000]),
        }
    }

    /// How long the next write takes.
    pub fn delay_us(&self, world: &World) -> u64 {
        let us = self.write_us / 2 + world.draw(self.write_us);
        if world.draw(self.slow_once_in) == 0 { us * 100 } else { us }
    }

    /// How long until the next commit of a pool.
    pub fn commit_us(&self, world: &World) -> u64 {
        self.commit_us / 2 + world.draw(self.commit_us)
    }
}

impl Plan {
    /// The run of a seed.
    pub fn draw(seed: u64) -> Plan {
        // Not what the run itself draws from.
        let rng = &mut Rng::new(seed ^ 0x706c_616e);
        Plan {
            seed,
            members: *rng.pick(&[3, 3, 3, 5]),
            kind: *rng.pick(&[LogKind::File, LogKind::File, LogKind::File, LogKind::Memory]),
            chaos: Duration::from_secs(2 + rng.below(7)),
            reads: *rng.pick(&[Reads::Lease, Reads::Lease, Reads::Index]),
            keep_bytes: *rng.pick(&[0, 500, 20_000, 1 << 30]),
            clients: 2 + rng.below(4),
            keys: 1 + rng.below(3),
            tail_bytes: *rng.pick(&[0, 0, 100, 2000]),
            think_us: *rng.pick(&[5_000, 50_000, 200_000]),
            disk: Disk::draw(rng),
            pause_once_in: *rng.pick(&[1 << 40, 200, 20]),
            trouble_us: *rng.pick(&[100_000, 500_000, 2_000_000]),
            troubles: Troubles {
                network: !rng.once_in(8),
                crashes: !rng.once_in(8),
                pauses: !rng.once_in(4),
                members: !rng.once_in(3),
            },
            scene: if rng.once_in(3) { Some(*rng.pick(&Scene::ALL)) } else { None },
            bug: None,
            keeps_events: false,
        }
    }

    /// The run of a seed in which nothing goes wrong.
    pub fn calm(seed: u64) -> Plan {
        let chaos = Duration::from_secs(2);
        let (troubles, pause_once_in) = (Troubles::NONE, 1 << 40);
        Plan { troubles, chaos, pause_once_in, scene: None, ..Plan::draw(seed) }
    }

    /// The run of a seed in which nothing happens but a scene, again and again, under circumstances
    /// that let it come to something.
    pub fn staged(seed: u64, scene: Scene) -> Plan {
        let rng = &mut Rng::new(seed ^ 0x7363_656e);
        let (write_us, commit_us) = match scene {
            Scene::DoubleVote => (2000, 100_000),
            _ => (20, 10_000),
        };
        let (tail_bytes, think_us): (&[u64], &[u64]) = match scene {
            // Little in each epoch, and that in different places.
            Scene::TornCommit => (&[2000], &[20_000, 200_000]),
            _ => (&[0, 100, 2000], &[3_000, 20_000]),
        };
        Plan {
            members: 3,
            kind: LogKind::File,
            chaos: Duration::from_secs(4 + rng.below(3)),
            reads: Reads::Lease,
            keep_bytes: 0,
            clients: 4,
            tail_bytes: *rng.pick(tail_bytes),
            think_us: *rng.pick(think_us),
            disk: Disk { write_us, slow_once_in: 1 << 40, commit_us },
            pause_once_in: 1 << 40,
            troubles: Troubles::NONE,
            scene: Some(scene),
            ..Plan::draw(seed)
        }
    }
}
