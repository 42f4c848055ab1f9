//! A disk that is full, or fails, under one node of three; each has an ext4 of its own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Fault, USUAL};
use crate::resp::Conn;
use crate::rig::scene::Scene;
use crate::scratch::Medium;
use crate::{process, tools};

pub(super) static FAULTS: &[Fault] = &[
    Fault { name: "follower's is full", round: |s, _| full(s, false), ..DISKS },
    Fault { name: "leader's is full", round: |s, _| full(s, true), ..DISKS },
    Fault { name: "follower's fails", round: |s, _| fails(s, false), ..DISKS },
    Fault { name: "leader's fails", round: |s, _| fails(s, true), ..DISKS },
];

const DISKS: Fault =
    Fault { family: "disks", medium: Medium::File, disk_mib: Some(700), available, ..USUAL };

fn available() -> Result<(), String> {
    let found = tools::find("strace", "apt-get install strace");
    found.map(drop).ok_or_else(|| "strace is missing: apt-get install strace".to_owned())
}

/// Its disk takes nothing more while clients go on; then there is room again and it is restarted.
fn full(scene: &mut Scene, leader: bool) {
    let at = if leader { scene.leader() } else { scene.follower() };
    let other = scene.up().into_iter().find(|other| *other != at).expect("there are three");
    let ballast = scene.cluster.options(at).dir().join("ballast");
    scene.measured(|scene| {
        take_all(&ballast);
        // What the log has prepared is used up by and by.
        let address = scene.address(other);
        fill(address, 64, Duration::from_secs(20));
        scene.pause_for(1000..2000);
    });
    let told = scene.cluster.node(at).log();
    let told = told.lines().rev().find(|line| line.contains("No space") || line.contains("ENOSPC"));
    scene.note(format!("node {at} says: {}", told.unwrap_or("nothing of it")));
    std::fs::remove_file(&ballast).expect("it was written");
    restart(scene, at);
}

/// Every sync and write of its disk fails for a while.
fn fails(scene: &mut Scene, leader: bool) {
    let at = if leader { scene.leader() } else { scene.follower() };
    scene.measured(|scene| {
        let mut tracer = inject(scene.cluster.node(at).pid());
        scene.pause_for(3000..4000);
        process::terminate(tracer.id());
        assert!(process::wait(&mut tracer, Duration::from_secs(10)).is_some(), "strace stays");
        scene.pause_for(500..1000);
    });
    let told = scene.cluster.node(at).log();
    let told = told.lines().rev().find(|line| line.contains("os error 5"));
    scene.note(format!("node {at} says: {}", told.unwrap_or("nothing of it")));
    restart(scene, at);
}

fn restart(scene: &mut Scene, at: usize) {
    // It may have ended by itself.
    scene.cluster.kill9(at);
    scene.cluster.up(at);
    scene.steady();
    scene.pause_for(200..500);
}

/// Has strace, which is known to be there, fail the calls that reach a disk.
fn inject(pid: u32) -> Child {
    let calls = "pwrite64,pwritev,fsync,fdatasync,msync,sync_file_range,fallocate";
    let strace = tools::find("strace", "apt-get install strace").expect("looked for before");
    Command::new(strace)
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:error=EIO"), "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace can be run")
}

/// Takes all room that is left.
fn take_all(ballast: &Path) {
    let file = File::create(ballast).expect("a file can be made yet");
    let mut len = 0;
    let mut piece = 64 << 20;
    while piece >= 4096 {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), len, piece) {
            Ok(()) => len += piece,
            Err(Errno::NOSPC) => piece /= 2,
            Err(error) => panic!("{}: {error}", ballast.display()),
        }
    }
}

/// Writes `mib` MiB in long values, as far as they are taken in time.
fn fill(address: std::net::SocketAddr, mib: u64, patience: Duration) {
    let start = std::time::Instant::now();
    let value = "v".repeat(64 << 10);
    let mut conn = None;
    let mut written = 0;
    while written < mib * 16 && start.elapsed() < patience {
        let open = || Conn::open_within(address, Duration::from_secs(12)).ok();
        let Some(mut at) = conn.take().or_else(open) else { continue };
        let key = format!("fill:{}", written % 256);
        match at.call(&["SET", &key, &value]) {
            Ok(reply) if !reply.is_error() => {
                written += 1;
                conn = Some(at);
            }
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
