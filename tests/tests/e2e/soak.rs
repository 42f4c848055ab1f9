//! A few seconds of the long run (`cargo bench -p cairn-tests --bench soak`), and that its judge
//! notices what is wrong.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_tests::node::NodeOptions;
use cairn_tests::rng::seeds;
use cairn_tests::scratch::{Medium, Scratch};
use cairn_tests::soak::Soak;
use cairn_tests::soak::writer::{Orders, Writer};

#[test]
fn churn_with_expiry_snapshots_and_kills_holds_what_the_model_holds() {
    for seed in seeds(1) {
        eprintln!("soak: seed {seed} (CAIRN_SEED={seed} repeats its choices)");
        let summary = Soak::new(Medium::Memory, seed).run(Duration::from_secs(6), |_| {});
        eprintln!("soak: {summary:?}");
        assert!(summary.rounds > 0 && summary.acknowledged > 0, "{summary:?}");
    }
}

/// One writer's keys, then one change behind its back: each kind of change is noticed.
#[test]
fn what_the_model_does_not_hold_is_noticed() {
    let scratch = Scratch::new(Medium::Memory);
    let node = NodeOptions::new(scratch.path()).start();
    let (writer, orders) = (Writer::new(0, 1), Orders::default());
    std::thread::scope(|scope| {
        scope.spawn(|| writer.run(node.address(), &orders));
        std::thread::sleep(Duration::from_millis(1500));
        orders.stop.store(true, Ordering::Relaxed);
    });
    let mut conn = node.connect();
    let judge = |conn: &mut _| {
        let (found, times) = writer.read_back(conn);
        writer.candidates().matching(&found, times).map(drop)
    };
    judge(&mut conn).expect("nobody has meddled yet");
    // Numbers 6n are strings, 6n+1 numbers, then hashes, lists, sets, sorted sets.
    let rows: [&[&str]; 7] = [
        &["APPEND", "w0:6", "x"],
        &["INCR", "w0:7"],
        &["HSET", "w0:8", "foreign", "x"],
        &["RPUSH", "w0:9", "foreign"],
        &["SADD", "w0:10", "foreign"],
        &["ZADD", "w0:11", "1", "foreign"],
        &["PEXPIREAT", "w0:8", "99999999999999"],
    ];
    for request in rows {
        let taken = conn.call(&["COPY", request[1], "before"]).expect("a reply");
        conn.call(request).expect("a reply");
        assert!(judge(&mut conn).is_err(), "{request:?} is not noticed");
        let back: &[&str] = if taken.int() == Some(1) {
            &["RENAME", "before", request[1]]
        } else {
            &["DEL", request[1]]
        };
        conn.call(back).expect("a reply");
        judge(&mut conn).unwrap_or_else(|complaint| panic!("{request:?} undone: {complaint}"));
    }
}
