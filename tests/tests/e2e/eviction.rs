//! A full node: what each `maxmemory-policy` keeps, and what a changed limit does.

use std::time::Duration;

use cairn_tests::node::{Node, NodeOptions};
use cairn_tests::process;
use cairn_tests::resp::Conn;
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// Of it some ten are admitted.
const MEMORY: &str = "20mb";
const VALUE_BYTES: usize = 1000;
/// Keys of that size that fit in it, and more.
const FULL: usize = 12_000;

fn node(medium: Medium, policy: &str) -> (Scratch, Node) {
    node_with(medium, MEMORY, policy)
}

fn node_with(medium: Medium, memory: &str, policy: &str) -> (Scratch, Node) {
    let scratch = Scratch::new(medium);
    let options = NodeOptions::new(scratch.path());
    let node = options.set("memory", memory).set("maxmemory-policy", policy).start();
    (scratch, node)
}

/// Sends all commands at once and counts the replies that are errors; they must be OOM.
fn count_refused(conn: &mut Conn, commands: &[Vec<String>]) -> usize {
    let mut refused = 0;
    for commands in commands.chunks(200) {
        for words in commands {
            conn.queue(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        conn.flush().expect("the node takes a pipeline");
        for words in commands {
            let reply = conn.receive().expect("a reply");
            if reply.is_error() {
                assert_eq!(reply.text(), OOM, "{words:?}");
                assert_ne!(words[0], "DEL", "a delete is refused: {words:?}");
                refused += 1;
            }
        }
    }
    refused
}

fn sets(keys: std::ops::Range<usize>, name: &str, more: &[&str]) -> Vec<Vec<String>> {
    let value = "x".repeat(VALUE_BYTES);
    keys.map(|n| {
        let words = ["SET", &format!("{name}:{n}"), &value].map(str::to_owned);
        words.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    })
    .collect()
}

fn int(conn: &mut Conn, words: &[&str]) -> i64 {
    let reply = conn.call(words).expect("a reply");
    reply.int().unwrap_or_else(|| panic!("{words:?} answers {}", reply.text()))
}

fn text(conn: &mut Conn, words: &[&str]) -> String {
    conn.call(words).expect("a reply").text()
}

#[test]
fn every_evicting_policy_stays_writable_for_several_times_the_limit() {
    let policies = [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ];
    for policy in policies {
        let medium = if policy == "allkeys-random" { Medium::File } else { Medium::Memory };
        let (_scratch, node) = node(medium, policy);
        let mut conn = node.connect();
        let written = if medium == Medium::Memory { 4 * FULL } else { 2 * FULL };
        let refused = count_refused(&mut conn, &sets(0..written, "key", &["EX", "1000"]));
        assert_eq!(refused, 0, "{policy} on {medium:?}");
        let kept = int(&mut conn, &["DBSIZE"]);
        assert!((5_000..FULL as i64).contains(&kept), "{policy} keeps {kept} keys");
        assert_eq!(node.info("evicted_keys"), (written as i64 - kept).to_string(), "{policy}");
        assert_eq!(node.info("maxmemory_policy"), policy);
    }
}

/// Tiny keys, of which thousands go at once, and each takes copies of the way to it; several times
/// what fits, while others are read and deleted.
#[test]
fn tiny_keys_are_evicted_without_a_halt() {
    let (_scratch, node) = node_with(Medium::Memory, "32mb", "allkeys-lru");
    let mut conn = node.connect();
    let mut rng = Rng::new(7);
    for round in 0..500u64 {
        let commands = (0..2000).map(|n| {
            let written = round * 2000 + n;
            let other = format!("tiny:{}", rng.below(written + 1));
            match n % 10 {
                0 => vec!["DEL".to_owned(), other],
                1 => vec!["GET".to_owned(), other],
                _ => vec!["SET".to_owned(), format!("tiny:{written}"), "0123456789".to_owned()],
            }
        });
        let commands: Vec<_> = commands.collect();
        assert_eq!(count_refused(&mut conn, &commands), 0, "round {round}");
        assert_eq!(node.info("stopped"), "", "round {round}");
    }
    let (kept, evicted) = (int(&mut conn, &["DBSIZE"]), node.info("evicted_keys"));
    assert!(evicted != "0" && kept > 100_000, "{kept} kept, {evicted} evicted");
}

/// Each on a node of its own: what is of all sizes leaves room between slabs that nothing uses.
#[test]
fn collections_and_transactions_find_room_too() {
    for command in ["HSET", "SADD", "ZADD", "RPUSH", "EXEC"] {
        let (_scratch, node) = node(Medium::Memory, "allkeys-lru");
        let mut conn = node.connect();
        for n in 0..15_000 {
            let (name, field) = (format!("k{}", n / 20), format!("f{n}"));
            let member = field.clone() + &"x".repeat(VALUE_BYTES);
            let requests = match command {
                "HSET" => vec![vec!["HSET", &name, &field, &member]],
                "ZADD" => vec![vec!["ZADD", &name, "1", &member]],
                "EXEC" => vec![
                    vec!["MULTI"],
                    vec!["SET", &field, &member],
                    vec!["APPEND", &name, &field],
                    vec!["EXEC"],
                ],
                _ => vec![vec![command, &name, &member]],
            };
            for reply in conn.call_all(&requests).expect("replies") {
                assert!(!format!("{reply:?}").contains("OOM"), "{command} at {n}: {reply:?}");
            }
        }
        assert_ne!(node.info("evicted_keys"), "0", "{command}");
    }
}

#[test]
fn large_values_and_copies_find_room_too() {
    let (_scratch, node) = node_with(Medium::Memory, "64mb", "allkeys-lru");
    let mut conn = node.connect();
    let large = "y".repeat(2 << 20);
    for n in 0..60 {
        assert_eq!(text(&mut conn, &["SET", &format!("large{n}"), &large]), "OK");
        int(&mut conn, &["SETRANGE", &format!("far{n}"), "1000000", "x"]);
        // Its source may be what goes.
        int(&mut conn, &["COPY", &format!("large{n}"), "copy", "REPLACE"]);
    }
    let whole = "z".repeat(60 << 20);
    assert_eq!(text(&mut conn, &["SET", "too large", &whole]), OOM);
    assert_eq!(text(&mut conn, &["SET", "small", "x"]), "OK");
    assert!(int(&mut conn, &["DBSIZE"]) > 1);
}

/// Commands of all families and sizes, the sizes shifting as they go; what is refused is refused as
/// full memory is, and the node serves on, whatever its pool is torn into.
fn serves_on(memory: &str, policy: &str, commands: u64, seed: u64) {
    println!("{memory}, {policy}, seed {seed}");
    let (_scratch, node) = node_with(Medium::Memory, memory, policy);
    let mut conn = node.connect();
    let mut rng = Rng::new(seed);
    let mut refused = 0;
    for round in 0..commands / 100 {
        let typical = [12_000, 3000, 100, 700, 40][(round / 25 % 5) as usize];
        if rng.once_in(100) && policy == "noeviction" {
            text(&mut conn, &["FLUSHDB"]);
        }
        let words: Vec<_> = (0..100).map(|_| mixed(&mut rng, typical)).collect();
        refused += count_refused(&mut conn, &words);
        assert_eq!(node.info("stopped"), "", "round {round}");
    }
    println!("{refused} refused, {} evicted", node.info("evicted_keys"));
    let (used, live) = (node.info("pool_used_bytes"), node.info("pool_live_bytes"));
    println!("{used} used, {live} live");
    if policy == "noeviction" {
        assert!(refused > 0, "seed {seed}: it was never full");
        assert_eq!(text(&mut conn, &["FLUSHALL"]), "OK");
    }
    assert!(process::eventually(Duration::from_secs(10), || {
        text(&mut conn, &["SET", "small", "x"]) == "OK"
    }));
}

fn mixed(rng: &mut Rng, typical: u64) -> Vec<String> {
    let value = "v".repeat(1 + rng.below(2 * typical) as usize);
    let number = rng.below(2000);
    let key = |ty: &str, keys: u64| format!("{ty}:{}", number % keys);
    let member = format!("member:{}", rng.below(5000));
    match rng.below(16) {
        0..=4 => vec!["SET".into(), key("string", 2000), value],
        5 => vec!["APPEND".into(), key("string", 2000), value],
        6 => vec!["SETRANGE".into(), key("string", 2000), rng.below(50_000).to_string(), value],
        7 | 8 => vec!["HSET".into(), key("hash", 50), member, value],
        9 => vec!["RPUSH".into(), key("list", 50), value],
        10 => vec!["SADD".into(), key("set", 50), member],
        11 => vec!["ZADD".into(), key("zset", 50), number.to_string(), member],
        12 => vec!["DEL".into(), key("string", 2000), key("hash", 50)],
        13 => vec!["PEXPIRE".into(), key("string", 2000), rng.below(3000).to_string()],
        14 => {
            vec!["COPY".into(), key("hash", 50), format!("copy:{}", number / 50), "REPLACE".into()]
        }
        _ => match rng.below(4) {
            0 => vec!["SUNIONSTORE".into(), key("set", 50), "set:1".into(), "set:2".into()],
            1 => vec!["ZREMRANGEBYRANK".into(), key("zset", 50), "0".into(), "20".into()],
            2 => vec!["LTRIM".into(), key("list", 50), "0".into(), "20".into()],
            _ => vec!["SPOP".into(), key("set", 50), "30".into()],
        },
    }
}

#[test]
fn a_torn_pool_serves_on() {
    for seed in seeds(1) {
        for (memory, policy) in
            [("16mb", "allkeys-lru"), ("32mb", "allkeys-random"), ("20mb", "noeviction")]
        {
            serves_on(memory, policy, 8_000, seed);
        }
    }
}

/// The pool's file follows a lower limit, and what is left of the data is packed.
#[test]
fn a_lower_limit_gives_memory_back() {
    let number = |node: &Node, field| node.info(field).parse::<u64>().expect("a number");
    let follows = |node: &Node, limit_bytes: u64| {
        let is_there = || {
            let [pool, used, live] = ["pool_bytes", "pool_used_bytes", "pool_live_bytes"]
                .map(|field| number(node, field));
            pool <= limit_bytes && used <= live / 100 * 125 + (1 << 20)
        };
        let fields = ["pool_bytes", "pool_used_bytes", "pool_live_bytes", "evacuated_blocks"];
        let arrived = process::eventually(Duration::from_secs(30), is_there);
        assert!(arrived, "{:?}", fields.map(|field| (field, number(node, field))));
    };
    // While it runs, with a policy that makes room.
    let (_scratch, node) = node_with(Medium::Memory, "96mb", "allkeys-random");
    let mut conn = node.connect();
    assert_eq!(count_refused(&mut conn, &sets(0..7 * FULL, "a", &[])), 0);
    assert!(number(&node, "pool_bytes") > 80 << 20);
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory", "32mb"]), "OK");
    follows(&node, 32 << 20);
    // It is raised, beyond what it was, and all of it is of use.
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory", "128mb"]), "OK");
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]), "OK");
    assert_eq!(text(&mut conn, &["FLUSHALL"]), "OK");
    assert_eq!(count_refused(&mut conn, &sets(0..7 * FULL, "b", &[])), 0);
    // Nine keys of ten go, evenly: each slab is left with some.
    let keys: Vec<Vec<String>> = (0..7 * FULL)
        .filter(|n| n % 10 != 0)
        .map(|n| vec!["DEL".to_owned(), format!("b:{n}")])
        .collect();
    assert_eq!(count_refused(&mut conn, &keys), 0);
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory", "32mb"]), "OK");
    follows(&node, 32 << 20);
    // And with the next start.
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory", "96mb"]), "OK");
    assert_eq!(count_refused(&mut conn, &sets(0..4 * FULL, "c", &[])), 0);
    drop(conn);
    let (stopped, status) = node.stop();
    assert!(status.success());
    let node = stopped.set("memory", "48mb").set("maxmemory-policy", "allkeys-lru").start();
    follows(&node, 48 << 20);
    assert_eq!(count_refused(&mut node.connect(), &sets(0..1000, "d", &[])), 0);
}

/// Writes several times what fits while some keys are read again and again.
fn keeps_hot_keys(policy: &str, more: &[&str]) {
    let (_scratch, node) = node(Medium::Memory, policy);
    let mut conn = node.connect();
    let hot = sets(0..500, "hot", more);
    assert_eq!(count_refused(&mut conn, &hot), 0);
    for round in 0..16 {
        // What was used when is told apart by the second.
        std::thread::sleep(Duration::from_millis(400));
        for _ in 0..3 {
            let reads: Vec<_> = (0..500).map(|n| vec!["GET".into(), format!("hot:{n}")]).collect();
            count_refused(&mut conn, &reads);
        }
        let cold = sets(round * 2000..(round + 1) * 2000, "cold", more);
        assert_eq!(count_refused(&mut conn, &cold), 0, "{policy}");
    }
    let names: Vec<String> = (0..500).map(|n| format!("hot:{n}")).collect();
    let words: Vec<&str> =
        std::iter::once("EXISTS").chain(names.iter().map(String::as_str)).collect();
    let kept = int(&mut conn, &words);
    assert!(kept >= 450, "{policy} keeps {kept} of 500 hot keys");
    assert!(node.info("evicted_keys").parse::<u64>().expect("a number") > 20_000);
}

#[test]
fn lru_keeps_what_is_used() {
    keeps_hot_keys("allkeys-lru", &[]);
}

#[test]
fn lfu_keeps_what_is_used_often() {
    keeps_hot_keys("allkeys-lfu", &[]);
}

#[test]
fn volatile_lru_keeps_what_is_used() {
    keeps_hot_keys("volatile-lru", &["EX", "1000"]);
}

#[test]
fn volatile_policies_spare_keys_without_a_deadline() {
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        let (_scratch, node) = node(Medium::Memory, policy);
        let mut conn = node.connect();
        assert_eq!(count_refused(&mut conn, &sets(0..3000, "stays", &[])), 0);
        assert_eq!(count_refused(&mut conn, &sets(0..FULL, "goes", &["EX", "1000"])), 0);
        // Until only those are left that must stay.
        let refused = count_refused(&mut conn, &sets(3000..FULL, "stays", &[]));
        assert!(refused > 0, "{policy}");
        let keys = int(&mut conn, &["DBSIZE"]);
        assert_eq!(keys, (FULL - refused) as i64, "{policy}: all with a deadline are gone");
        assert_eq!(text(&mut conn, &["SET", "more", &"x".repeat(100_000)]), OOM);
        assert_eq!(int(&mut conn, &["EXISTS", "stays:0", "stays:2999"]), 2);
    }
}

#[test]
fn volatile_ttl_takes_the_nearest_deadlines() {
    let (_scratch, node) = node(Medium::Memory, "volatile-ttl");
    let mut conn = node.connect();
    for n in 0..4 {
        let seconds = ((4 - n) * 1000).to_string();
        let name = format!("group{n}");
        assert_eq!(count_refused(&mut conn, &sets(0..2000, &name, &["EX", &seconds])), 0);
    }
    // Of 8,000 the nearest deadlines are those of the last group.
    assert_eq!(count_refused(&mut conn, &sets(0..2500, "new", &[])), 0);
    let count = |conn: &mut Conn, name: &str| -> i64 {
        (0..2000).map(|n| int(conn, &["EXISTS", &format!("{name}:{n}")])).sum()
    };
    assert!(count(&mut conn, "group3") < 2000);
    for whole in ["group0", "group1", "group2"] {
        assert_eq!(count(&mut conn, whole), 2000, "{whole}");
    }
}

#[test]
fn noeviction_refuses_writes_and_nothing_else() {
    let (_scratch, node) = node(Medium::Memory, "noeviction");
    let mut conn = node.connect();
    let fields: Vec<Vec<String>> = (0..FULL)
        .map(|n| {
            let value = "x".repeat(VALUE_BYTES);
            ["HSET", &format!("h{}", n % 100), &format!("f{n}"), &value].map(str::to_owned).into()
        })
        .collect();
    assert!(count_refused(&mut conn, &fields) > 0);
    // So full that nothing of any size fits.
    for bytes in [100_000, 10_000, 1_000, 100, 10, 1] {
        let fills: Vec<_> = (0..200)
            .map(|n| vec!["SET".into(), format!("fill:{bytes}:{n}"), "x".repeat(bytes)])
            .collect();
        assert!(count_refused(&mut conn, &fills) > 0 || bytes < 10);
    }
    let filler = "x".repeat(10_000);
    for words in [
        &["SET", "k", &filler][..],
        &["HSET", "h1", "new", &filler],
        &["SADD", "s", &filler],
        &["ZADD", "z", "1", &filler],
        &["RPUSH", "l", &filler],
        &["APPEND", "fill:10:0", &filler],
        &["SETRANGE", "fill:10:0", "100000", "x"],
        &["COPY", "h1", "copy"],
    ] {
        assert_eq!(text(&mut conn, words), OOM, "{}", words[0]);
    }
    let large = [&["MULTI"][..], &["GET", "none"], &["SET", "k", &filler], &["HDEL", "h1", "f1"]];
    for words in large {
        text(&mut conn, words);
    }
    let reply = format!("{:?}", conn.call(&["EXEC"]).expect("a reply"));
    assert!(reply.contains("OOM"), "{reply}");
    assert_eq!(int(&mut conn, &["EXISTS", "k"]), 0);
    // Reads, deadlines and deletes go on.
    assert_eq!(text(&mut conn, &["HGET", "h2", "f2"]).len(), VALUE_BYTES);
    assert_eq!(int(&mut conn, &["PEXPIRE", "h3", "1"]), 1);
    for n in 4..60 {
        assert_eq!(int(&mut conn, &["DEL", &format!("h{n}")]), 1);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(int(&mut conn, &["EXISTS", "h3"]), 0);
    assert_eq!(text(&mut conn, &["SET", "k", &filler]), "OK");
    assert_eq!(int(&mut conn, &["HSET", "h1", "new", &filler]), 1);
    assert_eq!(node.info("evicted_keys"), "0");
}

/// One command or many, with deadlines or without: what frees is never refused for lack of room.
#[test]
fn a_full_node_takes_deletes() {
    for more in [&[][..], &["EX", "1000"]] {
        let (_scratch, node) = node_with(Medium::Memory, "64mb", "noeviction");
        let mut conn = node.connect();
        let mut keys = 0;
        loop {
            let words: Vec<Vec<String>> = (keys..keys + 5000)
                .map(|n| {
                    let words = ["SET".to_owned(), format!("k{n}"), "v".to_owned()];
                    words.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
                })
                .collect();
            if count_refused(&mut conn, &words) > 0 {
                break;
            }
            keys += 5000;
        }
        assert!(keys >= 250_000, "{keys} keys");
        let names: Vec<String> = (0..100_000).map(|n| format!("k{}", 2 * n)).collect();
        let mut words = vec!["DEL"];
        words.extend(names.iter().map(String::as_str));
        let reply = conn.call(&words).expect("a reply");
        assert_eq!(reply.int(), Some(100_000), "{}", reply.text());
        let filler: Vec<_> = sets(0..100_000, "filler", more);
        count_refused(&mut conn, &filler);
        for n in (0..100_000).step_by(2) {
            conn.queue(&["DEL", &format!("k{}", n + 1)]);
        }
        conn.flush().expect("the node takes a pipeline");
        for n in 0..50_000 {
            let reply = conn.receive().expect("a reply");
            assert_eq!(reply.int(), Some(1), "delete {n}: {}", reply.text());
        }
        assert_eq!(node.info("stopped"), "");
    }
}

#[test]
fn the_limit_changes_while_running_and_outlives_a_kill() {
    let (_scratch, node) = node(Medium::Memory, "noeviction");
    let mut conn = node.connect();
    assert!(count_refused(&mut conn, &sets(0..FULL, "a", &[])) > 0);
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory", "40mb"]), "OK");
    let maxmemory = |conn: &mut Conn| conn.call(&["CONFIG", "GET", "maxmemory"]).expect("a reply");
    assert!(format!("{:?}", maxmemory(&mut conn)).contains("41943040"));
    assert_eq!(count_refused(&mut conn, &sets(0..FULL, "a", &[])), 0);
    assert_eq!(count_refused(&mut conn, &sets(0..FULL, "b", &[])), 0);
    assert_eq!(node.info("maxmemory"), (40 << 20).to_string());
    for (value, reason) in [
        ("1mb", "16777216 bytes at least"),
        ("0", "16777216 bytes at least"),
        ("10tb", "restart with a larger --memory"),
        ("much", "argument must be a memory value"),
    ] {
        let reply = text(&mut conn, &["CONFIG", "SET", "maxmemory", value]);
        assert!(reply.starts_with("ERR CONFIG SET failed"), "{reply}");
        assert!(reply.contains(reason), "{reply}");
    }
    // A replay admits what was admitted, though the command line says less.
    let node = node.kill9().start();
    let mut conn = node.connect();
    assert_eq!(int(&mut conn, &["DBSIZE"]), 2 * FULL as i64);
    assert_eq!(node.info("maxmemory"), (20 << 20).to_string());
    assert_eq!(text(&mut conn, &["SET", "c", "x"]), OOM);
    assert_eq!(int(&mut conn, &["DEL", "a:1"]), 1);
    // From here on keys go until the rest fits.
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]), "OK");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(count_refused(&mut conn, &sets(0..FULL, "c", &[])), 0);
    // Nothing is refused by a limit lowered under such a policy.
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory", "32mb"]), "OK");
    assert_eq!(count_refused(&mut conn, &sets(0..2 * FULL, "d", &[])), 0);
    assert_eq!(text(&mut conn, &["CONFIG", "SET", "maxmemory", "20mb"]), "OK");
    assert_eq!(count_refused(&mut conn, &sets(0..1000, "e", &[])), 0);
    assert!(int(&mut conn, &["DBSIZE"]) < FULL as i64);
}
