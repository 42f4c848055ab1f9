//! What is done to a cluster under load. THE table of faults is [`FAULTS`].

mod clocks;
mod disks;
mod kills;
mod members;
mod network;
mod partitions;
mod pauses;
mod snapshots;

use std::time::Duration;

use super::scene::{Report, Scene, Setup};
use crate::node::NodeOptions;
use crate::scratch::Medium;

/// One kind of fault.
pub struct Fault {
    /// What it belongs to, such as `partitions`.
    pub family: &'static str,
    /// Its name within the family.
    pub name: &'static str,
    /// How often it is done unless told otherwise.
    pub rounds: u64,
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// How many more may come.
    pub spare: usize,
    /// Where their data lies.
    pub medium: Medium,
    /// How large a disk of its own each has; None: they share the medium.
    pub disk_mib: Option<u64>,
    /// Whether it can be done here; if not, what to do.
    pub available: fn() -> Result<(), String>,
    /// Changes the nodes' command lines.
    pub adapt: fn(usize, NodeOptions) -> NodeOptions,
    /// Does it once; the cluster is well before and after.
    pub round: fn(&mut Scene, u64),
}

/// What a fault is unless it says otherwise.
const USUAL: Fault = Fault {
    family: "",
    name: "",
    rounds: 3,
    nodes: 3,
    spare: 0,
    medium: Medium::Memory,
    disk_mib: None,
    available: || Ok(()),
    adapt: |_, options| options,
    round: |_, _| {},
};

/// Every fault, in the order in which they are done.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    let families = [
        kills::FAULTS,
        pauses::FAULTS,
        partitions::FAULTS,
        network::FAULTS,
        clocks::FAULTS,
        members::FAULTS,
        snapshots::FAULTS,
        disks::FAULTS,
    ];
    families.into_iter().flatten()
}

impl Fault {
    /// The family and the name.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.family, self.name)
    }

    /// Does it `rounds` times to a cluster of its own.
    ///
    /// # Errors
    /// What the judge found.
    ///
    /// # Panics
    /// When the cluster does not come together again.
    pub fn run(&self, seed: u64, rounds: u64) -> Result<Report, String> {
        let Fault { nodes, spare, medium, disk_mib, .. } = *self;
        let setup = Setup { seed, nodes, spare, medium, disk_mib };
        let mut scene = Scene::start(&setup, self.adapt)?;
        for round in 0..rounds {
            (self.round)(&mut scene, round);
        }
        scene.judge()
    }
}

/// The longest of some gaps, and the ones at 50 and 99 percent.
pub fn distribution(gaps: &[Duration]) -> Option<[Duration; 3]> {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
    (!sorted.is_empty()).then(|| [at(50), at(99), at(100)])
}
