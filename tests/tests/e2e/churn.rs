//! A node that overwrites its data over and over, in shifting sizes, with snapshots taken and dropped
//! meanwhile: what it takes stays in proportion to what it holds.

use std::time::Duration;

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};

const KEYS: u64 = 6_000;
/// Slabs that may be part filled, one of each size of block, and what a pool needs to move in.
const SPARE_BYTES: u64 = 8 << 20;

fn number(node: &Node, field: &str) -> u64 {
    node.info(field).parse().expect("a number")
}

fn overwrite(conn: &mut Conn, rng: &mut Rng, typical: u64, count: u64) {
    for _ in 0..count / 100 {
        for _ in 0..100 {
            let key = format!("key:{}", rng.below(KEYS));
            let value = "v".repeat(1 + rng.below(2 * typical) as usize);
            conn.queue(&["SET", &key, &value]);
        }
        conn.flush().expect("the node takes a pipeline");
        for _ in 0..100 {
            assert_eq!(conn.receive().expect("a reply").text(), "OK");
        }
    }
}

/// Waits until slabs hold little more than what lives, and the file little more than slabs.
fn is_packed(node: &Node, when: &str) {
    let fields = ["pool_bytes", "pool_used_bytes", "pool_live_bytes", "evacuated_blocks"];
    let packed = process::eventually(Duration::from_secs(30), || {
        let [pool, used, live] = [0, 1, 2].map(|at| number(node, fields[at]));
        used <= live / 100 * 125 + SPARE_BYTES && pool <= used / 100 * 125 + SPARE_BYTES
    });
    let found = fields.map(|field| (field, number(node, field)));
    println!("{when}: {found:?}");
    assert!(packed, "{when}: {found:?}");
}

#[test]
fn overwriting_in_shifting_sizes_and_dropping_snapshots_leaves_no_holes() {
    for seed in seeds(1) {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let scratch = Scratch::new(Medium::Memory);
        let node = NodeOptions::new(scratch.path()).set("memory", "1gb").start();
        let mut conn = node.connect();
        for (round, typical) in [9_000, 300, 2_000, 20, 700].into_iter().enumerate() {
            overwrite(&mut conn, &mut rng, typical, 2 * KEYS);
            let name = format!("s{round}");
            let take = conn.call(&["CAIRN.SNAPSHOT", "CREATE", &name]).expect("a reply");
            assert_eq!(take.text(), "OK");
            overwrite(&mut conn, &mut rng, typical, KEYS);
            if round % 2 == 1 {
                let drop = conn.call(&["CAIRN.SNAPSHOT", "DROP", &name]).expect("a reply");
                assert_eq!(drop.text(), "OK");
            }
        }
        for name in ["s0", "s4", "s2"] {
            conn.call(&["CAIRN.SNAPSHOT", "DROP", name]).expect("a reply");
        }
        assert!(process::eventually(Duration::from_secs(20), || {
            number(&node, "snapshots_kept_bytes") == 0
        }));
        is_packed(&node, "all snapshots dropped");
        // What it was at its largest is forgotten by the file as well.
        conn.call(&["FLUSHALL"]).expect("a reply");
        overwrite(&mut conn, &mut rng, 50, KEYS);
        is_packed(&node, "hardly anything left");
    }
}
