//! Who may be a member: nodes with an operator's certificates in the place of a secret, nobody who
//! comes back without what it promised, and nobody who was taken out.

use std::path::Path;
use std::time::Duration;

use cairn_tests::cluster::{Cluster, insist};
use cairn_tests::node::NodeOptions;
use cairn_tests::process;
use cairn_tests::resp::{Conn, Reply};
use cairn_tests::scratch::{Medium, Scratch};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority, and a certificate with its key for each of three nodes, with these ids.
fn certificates(dir: &Path, ids: [u64; 3]) {
    let write = |name: String, text: String| std::fs::write(dir.join(name), text).expect("written");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write("ca.pem".into(), ca.self_signed(&key).expect("an authority").pem());
    let issuer = rcgen::Issuer::new(ca, key);
    for id in ids {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![format!("node-{id}.cairn")]);
        let signed = params.expect("a name").signed_by(&key, &issuer).expect("signed");
        write(format!("{id}.pem"), signed.pem());
        write(format!("{id}.key"), key.serialize_pem());
    }
}

/// A field of a map.
fn field(fields: &Reply, name: &str) -> Reply {
    let pair = fields.items().chunks(2).find(|pair| pair[0].text() == name);
    pair.map(|pair| pair[1].clone()).expect("the field")
}

/// The members, each with whether it is a voter, as a node's CAIRN.RAFT STATUS has them.
fn members(status: &Reply) -> Vec<(String, bool)> {
    let members = field(status, "members");
    let member = |m: &Reply| (field(m, "node").text(), field(m, "voter").int() == Some(1));
    members.items().iter().map(member).collect()
}

fn voters(cluster: &Cluster, at: usize) -> Vec<String> {
    let status = insist(cluster.node(at).address(), &["CAIRN.RAFT", "STATUS"]);
    members(&status).into_iter().filter(|(_, votes)| *votes).map(|(node, _)| node).collect()
}

/// Waits until a node has kept that others count on it.
fn wait_until_it_votes(dir: &Path) {
    let votes = || {
        let file = std::fs::read_to_string(dir.join("node.json")).unwrap_or_default();
        file.contains("\"has_voted\": true")
    };
    assert!(process::eventually(PATIENCE, votes), "{} has not voted", dir.display());
}

#[test]
fn certificates_stand_in_the_place_of_a_secret() {
    let (scratch, keys) = (Scratch::new(Medium::Memory), Scratch::new(Medium::Memory));
    certificates(keys.path(), [11, 12, 13]);
    let path = |name: String| keys.path().join(name).display().to_string();
    let mut plan = Cluster::plan(scratch.path());
    plan.set("cluster-secret", "");
    plan.set("peer-ca", &path("ca.pem".into()));
    for at in 0..3 {
        plan.set_for(at, "peer-cert", &path(format!("{}.pem", at + 11)));
        plan.set_for(at, "peer-key", &path(format!("{}.key", at + 11)));
    }
    let mut cluster = plan.started();
    insist(cluster.node(0).address(), &["SET", "key", "value"]);
    assert_eq!(insist(cluster.node(2).address(), &["GET", "key"]).text(), "value");
    let mut found = voters(&cluster, 1);
    found.sort();
    assert_eq!(found, ["11", "12", "13"]);

    // The same certificate with an empty disk: that id has promised what nobody knows any more.
    cluster.kill9(2);
    cluster.wipe(2);
    let refusal = cluster.options(2).try_start().expect_err("it is refused");
    assert!(refusal.text.contains("certificate with another id"), "{}", refusal.text);

    let both = cluster.options(2).set("cluster-secret", cairn_tests::cluster::SECRET);
    let refusal = both.try_start().expect_err("it is refused");
    assert!(refusal.text.contains("not both"), "{}", refusal.text);
}

#[test]
fn a_voter_whose_pool_and_log_are_gone_does_not_come_back_under_its_id() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    insist(cluster.node(0).address(), &["SET", "key", "value"]);
    let dir = cluster.node(1).dir().to_owned();
    wait_until_it_votes(&dir);
    cluster.kill9(1);
    std::fs::remove_dir_all(dir.join("log")).expect("removed");
    std::fs::remove_file(dir.join("shard-0.pool")).expect("removed");
    let refusal = cluster.options(1).try_start().expect_err("it is refused");
    assert!(refusal.text.contains("was a voter"), "{}", refusal.text);
    cluster.wipe(1);
    cluster.up(1);
    let is_in = || voters(&cluster, 1).len() == 3;
    assert!(process::eventually(PATIENCE, is_in), "{}", cluster.node(1).log());
    cluster.assert_equal();
}

/// It could only be read, and would answer what has grown old: the others fill it, and if there were
/// none, its data could still be read.
#[test]
fn a_member_whose_snapshots_cannot_be_read_leaves_the_answers_to_the_others() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let at = (cluster.leader() + 1) % 3;
    let name = "name-of-the-snapshot";
    insist(cluster.node(at).address(), &["SET", "key", "old"]);
    insist(cluster.node(at).address(), &["CAIRN.SNAPSHOT", "CREATE", name]);
    let dir = cluster.node(at).dir().to_owned();
    wait_until_it_votes(&dir);
    let applied = |at: usize| cluster.node(at).info("master_repl_offset");
    assert!(process::eventually(PATIENCE, || applied(0) == applied(1) && applied(1) == applied(2)));
    cluster.stop(at);
    let pool = dir.join("shard-0.pool");
    let mut bytes = std::fs::read(&pool).expect("a pool");
    let place = bytes.windows(name.len()).position(|window| window == name.as_bytes());
    bytes[place.expect("the name is in the pool") + 3] ^= 4;
    std::fs::write(&pool, bytes).expect("the pool is writable");
    insist(cluster.node((at + 1) % 3).address(), &["SET", "key", "new"]);
    let refusal = cluster.options(at).try_start().expect_err("it is refused");
    for part in ["shard-0.pool", "the snapshots cannot be read", "an empty --dir", "node.json"] {
        assert!(refusal.text.contains(part), "{part}: {}", refusal.text);
    }
    let aside = scratch.path().join("aside");
    std::fs::rename(&dir, &aside).expect("moved");
    cluster.up(at);
    let is_in = || voters(&cluster, at).len() == 3;
    assert!(process::eventually(PATIENCE, is_in), "{}", cluster.node(at).log());
    assert_eq!(insist(cluster.node(at).address(), &["GET", "key"]).text(), "new");
    std::fs::remove_file(aside.join("node.json")).expect("removed");
    let lone = NodeOptions::new(&aside).damaged().start();
    let mut conn = lone.connect();
    assert_eq!(conn.call(&["GET", "key"]).expect("answered").text(), "old");
    assert!(conn.call(&["SET", "key", "v"]).expect("answered").text().starts_with("MISCONF"));
}

/// Has a leader take a member out: not before those who stay have answered it.
fn take_out(leader: &mut Conn, id: &str) {
    let mut text = String::new();
    let mut is_out = || {
        text = leader.call(&["CAIRN.RAFT", "REMOVE", id]).expect("answered").text();
        text == "OK"
    };
    assert!(process::eventually(PATIENCE, &mut is_out), "{text}");
}

#[test]
fn a_member_is_taken_out_and_a_new_one_comes_in() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let leader = cluster.leader();
    let (gone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = insist(cluster.node(gone).address(), &["CAIRN.RAFT", "STATUS"]);
    let id = field(&id, "node").text();
    let refused = cluster.node(other).connect().call(&["CAIRN.RAFT", "REMOVE", &id]);
    assert!(refused.expect("answered").text().contains("only the leader"));
    let mut conn = cluster.node(leader).connect();
    assert!(
        conn.call(&["CAIRN.RAFT", "REMOVE", "7"]).expect("answered").text().contains("no member")
    );
    cluster.kill9(gone);
    take_out(&mut conn, &id);
    assert!(!voters(&cluster, leader).contains(&id));
    insist(cluster.node(leader).address(), &["SET", "key", "two of two"]);
    cluster.wipe(gone);
    cluster.up(gone);
    let is_in = || voters(&cluster, leader).len() == 3;
    assert!(process::eventually(PATIENCE, is_in), "{}", cluster.node(gone).log());
    cluster.assert_equal();
}

/// One that runs on takes no commands any more, now and after a restart, until it joins anew.
#[test]
fn who_was_taken_out_says_so() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    let leader = cluster.leader();
    let gone = (leader + 1) % 3;
    let id = insist(cluster.node(gone).address(), &["CAIRN.RAFT", "STATUS"]);
    let id = field(&id, "node").text();
    let mut conn = cluster.node(leader).connect();
    take_out(&mut conn, &id);
    let is_out = |cluster: &Cluster| {
        let reply = cluster.node(gone).connect().call(&["SET", "key", "1"]).expect("answered");
        reply.text().starts_with("CLUSTERDOWN this node was taken out")
            && cluster.node(gone).info("raft_member") == "0"
    };
    let log = || cluster.node(gone).log();
    assert!(process::eventually(PATIENCE, || is_out(&cluster)), "{}", log());
    assert!(log().contains("was taken out of its cluster"), "{}", log());
    cluster.kill9(gone);
    cluster.up(gone);
    assert!(process::eventually(PATIENCE, || is_out(&cluster)), "{}", cluster.node(gone).log());
    assert_eq!(voters(&cluster, leader).len(), 2);
    cluster.kill9(gone);
    cluster.wipe(gone);
    cluster.up(gone);
    assert!(process::eventually(PATIENCE, || voters(&cluster, leader).len() == 3));
    cluster.assert_equal();
}

/// What it answers meanwhile is another's to say: its lease ends before it is out.
#[test]
fn a_leader_takes_itself_out() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    insist(cluster.node(0).address(), &["SET", "key", "1"]);
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let id =
        field(&insist(cluster.node(leader).address(), &["CAIRN.RAFT", "STATUS"]), "node").text();
    let mut conn = cluster.node(leader).connect();
    take_out(&mut conn, &id);
    let status = insist(cluster.node(leader).address(), &["CAIRN.RAFT", "STATUS"]);
    assert_eq!(field(&status, "lease_ms").int(), Some(0));
    let is_out = || {
        let voters = voters(&cluster, other);
        voters.len() == 2 && !voters.contains(&id)
    };
    assert!(process::eventually(PATIENCE, is_out), "{}", cluster.node(other).log());
    insist(cluster.node(other).address(), &["SET", "key", "2"]);
    let read = conn.call(&["GET", "key"]);
    assert!(
        read.as_ref().map_or(true, |reply| reply.is_error() || reply.text() == "2"),
        "{read:?}"
    );
    cluster.kill9(leader);
    cluster.wipe(leader);
    cluster.up(leader);
    let is_in = || voters(&cluster, other).len() == 3;
    assert!(process::eventually(PATIENCE, is_in), "{}", cluster.node(leader).log());
    cluster.assert_equal();
}

#[test]
fn nobody_is_taken_out_whom_the_majority_that_stays_needs() {
    let scratch = Scratch::new(Medium::Memory);
    let mut cluster = Cluster::start(scratch.path());
    insist(cluster.node(0).address(), &["SET", "key", "1"]);
    let leader = cluster.leader();
    let (needed, dead) = ((leader + 1) % 3, (leader + 2) % 3);
    let id =
        field(&insist(cluster.node(needed).address(), &["CAIRN.RAFT", "STATUS"]), "node").text();
    cluster.kill9(dead);
    // It is there for a second more, as far as anybody knows.
    std::thread::sleep(Duration::from_millis(1500));
    let mut conn = cluster.node(leader).connect();
    let refused = conn.call(&["CAIRN.RAFT", "REMOVE", &id]).expect("answered").text();
    assert!(refused.contains("nothing could be agreed on"), "{refused}");
    insist(cluster.node(leader).address(), &["SET", "key", "2"]);
    cluster.up(dead);
    cluster.assert_equal();
}

/// A node that dies while it is taken in, and comes back with another new disk, is taken in.
#[test]
fn a_newcomer_that_dies_keeps_nobody_out() {
    let scratch = Scratch::new(Medium::Memory);
    let mut plan = Cluster::plan(scratch.path());
    plan.set("log-keep", "1mb");
    plan.set("epoch-ms", "50");
    let mut cluster = plan.started();
    let leader = cluster.leader();
    let at = (leader + 1) % 3;
    super::fill(cluster.node(leader).address(), 20_000, 3);
    for _ in 0..3 {
        cluster.kill9(at);
        cluster.wipe(at);
        cluster.up(at);
    }
    let is_in = || {
        let status = insist(cluster.node(leader).address(), &["CAIRN.RAFT", "STATUS"]);
        let members = members(&status);
        members.len() == 3 && members.iter().all(|(_, votes)| *votes)
    };
    assert!(process::eventually(Duration::from_secs(60), is_in), "{}", cluster.node(leader).log());
    cluster.assert_equal();
}
