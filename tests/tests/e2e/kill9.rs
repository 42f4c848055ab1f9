//! kill -9 under load, again and again: nothing acknowledged is ever missing.
//!
//! `cairn_tests::writers` says what is written and how it is judged.

use std::time::{Duration, Instant};

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::resp::{Conn, Reply};
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};
use cairn_tests::writers::Writer;

/// Lets the writers write, and kills the node in the middle.
fn round(node: Node, writers: &mut [Writer], load: Duration) -> NodeOptions {
    let address = node.address();
    std::thread::scope(|scope| {
        for writer in writers.iter_mut() {
            scope.spawn(move || writer.run(address));
        }
        std::thread::sleep(load);
        node.kill9()
    })
}

fn rounds(medium: Medium, count: u64, seed: u64) {
    eprintln!("kill -9 on {medium:?}: seed {seed} (CAIRN_SEED={seed} repeats it)");
    let scratch = Scratch::new(medium);
    let mut rng = Rng::new(seed);
    let mut writers: Vec<Writer> = (0..4).map(|id| Writer::new(id, seed)).collect();
    let options = NodeOptions::new(scratch.path()).set("durability", "always");
    let mut node = options.start();
    let mut acknowledged = 0;
    for _ in 0..count {
        let load = Duration::from_millis(50 + rng.below(450));
        let options = round(node, &mut writers, load);
        acknowledged +=
            writers.iter().map(|writer| writer.progress().moment().acknowledged).sum::<usize>();
        node = options.start();
        let mut conn = node.connect();
        writers.iter_mut().for_each(|writer| writer.check(&mut conn, seed));
    }
    eprintln!(
        "kill -9 on {medium:?}: {count} rounds, {acknowledged} acknowledged writes, all there"
    );
    assert!(acknowledged > 0, "the writers wrote nothing");
    node.stop();
}

#[test]
fn nothing_acknowledged_is_missing_on_memory() {
    seeds(1).into_iter().for_each(|seed| rounds(Medium::Memory, 8, seed));
}

#[test]
fn nothing_acknowledged_is_missing_on_a_file() {
    seeds(1).into_iter().for_each(|seed| rounds(Medium::File, 5, seed));
}

/// The check itself can fail: a directory put back to what it was a while ago has lost writes.
#[test]
#[should_panic(expected = "no prefix from there on gives")]
fn an_older_state_is_noticed() {
    let scratch = Scratch::new(Medium::Memory);
    let (dir, copy) = (scratch.path().join("data"), scratch.path().join("copy"));
    let mut writers = vec![Writer::new(0, 1)];
    let options = NodeOptions::new(&dir);
    round(options.start(), &mut writers, Duration::from_millis(100));
    let copied = std::process::Command::new("cp").arg("-r").args([&dir, &copy]).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp fails");
    round(options.start(), &mut writers, Duration::from_millis(100));
    std::fs::remove_dir_all(&dir).expect("our own directory");
    std::fs::rename(&copy, &dir).expect("our own directory");
    let node = options.start();
    writers[0].check(&mut node.connect(), 1);
}

/// Kills soon after the start, while the first commits of the new process are under way.
#[test]
fn kills_in_quick_succession_lose_nothing() {
    for seed in seeds(1) {
        let scratch = Scratch::new(Medium::Memory);
        let mut writers: Vec<Writer> = (0..2).map(|id| Writer::new(id, seed)).collect();
        let options = NodeOptions::new(scratch.path()).set("epoch-ms", "5");
        let mut node = options.start();
        for round_number in 0..15 {
            let options = round(node, &mut writers, Duration::from_millis(7 * round_number % 40));
            node = options.start();
            let mut conn = node.connect();
            writers.iter_mut().for_each(|writer| writer.check(&mut conn, seed));
        }
    }
}

/// A deadline is part of the state: it survives the kill to the millisecond.
#[test]
fn deadlines_survive_a_kill() {
    for medium in Medium::ALL {
        let scratch = Scratch::new(medium);
        let node = NodeOptions::new(scratch.path()).start();
        let mut conn = node.connect();
        let far = "4102444800123";
        ask(&mut conn, &["SET", "far", "x", "PXAT", far]);
        ask(&mut conn, &["SET", "near", "x", "PX", "30"]);
        ask(&mut conn, &["SET", "none", "x", "EX", "100"]);
        ask(&mut conn, &["PERSIST", "none"]);
        let node = node.kill9().start();
        std::thread::sleep(Duration::from_millis(40));
        let mut conn = node.connect();
        assert_eq!(ask(&mut conn, &["PEXPIRETIME", "far"]).text(), far);
        assert_eq!(ask(&mut conn, &["PTTL", "none"]).int(), Some(-1));
        assert_eq!(ask(&mut conn, &["EXISTS", "near"]).int(), Some(0));
    }
}

fn ask(conn: &mut Conn, request: &[&str]) -> Reply {
    let reply = conn.call(request).expect("the node answers");
    assert!(!reply.is_error(), "{request:?}: {reply:?}");
    reply
}

/// A value so long that it is staged in pieces is there as a whole or, when it was not
/// acknowledged, not at all.
#[test]
fn a_long_value_is_all_there_or_not_at_all() {
    let scratch = Scratch::new(Medium::Memory);
    let mut options = NodeOptions::new(scratch.path());
    let value = vec![b'v'; 48 << 20];
    for delay in [20, 45, 70, 1000] {
        let node = options.start();
        let address = node.address();
        let sender = std::thread::spawn({
            let value = value.clone();
            move || -> bool {
                let Ok(mut conn) = Conn::open(address) else { return false };
                conn.call(&[b"SET".as_slice(), b"long", &value]).is_ok_and(|r| !r.is_error())
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(delay) && !sender.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        options = node.kill9();
        let acknowledged = sender.join().expect("the sender does not panic");
        let node = options.start();
        let len = ask(&mut node.connect(), &["STRLEN", "long"]).int().expect("STRLEN is a number");
        assert!(len == value.len() as i64 || (len == 0 && !acknowledged), "{len} bytes");
        ask(&mut node.connect(), &["DEL", "long"]);
        options = node.kill9();
    }
}
