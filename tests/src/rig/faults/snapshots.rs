//! A member that needs the whole pool, and what breaks while it is sent.

use std::path::Path;
use std::time::Duration;

use super::{Fault, USUAL};
use crate::process;
use crate::resp::Conn;
use crate::rig::scene::Scene;
use crate::rig::switch::Link;

pub(super) static FAULTS: &[Fault] = &[
    Fault {
        name: "receiver killed",
        round: |s, round| interrupted(s, Breaks::Receiver, round),
        ..SNAPSHOTS
    },
    Fault {
        name: "sender killed",
        round: |s, round| interrupted(s, Breaks::Sender, round),
        ..SNAPSHOTS
    },
    Fault { name: "link cut", round: |s, round| interrupted(s, Breaks::Link, round), ..SNAPSHOTS },
];

const SNAPSHOTS: Fault = Fault {
    family: "snapshots",
    adapt: |_, options| options.set("log-keep", "1mb").set("epoch-ms", "50"),
    ..USUAL
};

/// What is done to a snapshot on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Receiver,
    Sender,
    Link,
}

/// Keys of a thousand bytes that make the pool worth sending.
const KEYS: u64 = 20_000;

/// A follower falls, misses more than the log keeps, and comes back over a slow network; once its
/// pool is on its way something breaks, three times.
fn interrupted(scene: &mut Scene, breaks: Breaks, round: u64) {
    let away = scene.follower();
    scene.cluster.kill9(away);
    let address = scene.address(scene.leader());
    fill(address, scene.rng.bits());
    let slow = Link { delay: Duration::from_millis(4), lost_in_1000: 5, ..Link::default() };
    scene.switch.set_all(slow);
    scene.cluster.up(away);
    let mut broken = 0;
    for _ in 0..3 {
        let dir = scene.cluster.options(away).dir().to_owned();
        if !process::eventually(Duration::from_secs(5), || is_arriving(&dir)) {
            break;
        }
        scene.pause_for(0..150);
        broken += u64::from(is_arriving(&dir));
        match breaks {
            Breaks::Receiver => {
                scene.cluster.kill9(away);
                scene.pause_for(0..300);
                scene.cluster.up(away);
            }
            Breaks::Sender => {
                let leader = scene.leader();
                scene.cluster.kill9(leader);
                scene.pause_for(0..1000);
                scene.cluster.up(leader);
                scene.leader();
            }
            Breaks::Link => {
                scene.switch.isolate(away);
                scene.pause_for(500..2000);
                scene.switch.set_all(slow);
            }
        }
    }
    scene.switch.heal();
    scene.steady();
    let log = scene.cluster.node(away).log();
    let arrived = log.contains("took the place");
    scene.note(format!("{broken} times broken on its way; arrived in the last run: {arrived}"));
    // Later its leader may still keep the entries behind the pool that it sent a moment ago.
    assert!(broken > 0 || round > 0, "no snapshot was on its way:\n{log}");
}

/// Whether a pool that comes from a peer lies beside a node's own.
fn is_arriving(dir: &Path) -> bool {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().into_string().ok()).any(|n| n.contains("incoming"))
}

fn fill(address: std::net::SocketAddr, salt: u64) {
    let mut conn = Conn::open(address).expect("the leader takes connections");
    let value = "v".repeat(1000);
    for from in (0..KEYS).step_by(1000) {
        for key in from..from + 1000 {
            conn.queue(&["SET", &format!("fill:{key}"), &format!("{salt}:{key}:{value}")]);
        }
        conn.flush().expect("a pipeline is taken");
        for _ in 0..1000 {
            let reply = conn.receive().expect("each is answered");
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
}
