//! The typed methods against redis-server. Without it the test says so and passes, except where
//! `CI` is set.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cairn_client::commands::keys::{ExpireIf, ScanOptions, Ttl};
use cairn_client::commands::lists::{End, Place, PositionOptions};
use cairn_client::commands::sort::SortOptions;
use cairn_client::commands::strings::{GetExTtl, SetIf, SetOptions, SetTtl};
use cairn_client::commands::zsets::{
    Aggregate, Combine, LexEnd, ScoreEnd, ZAddCompare, ZAddIf, ZAddOptions, ZEnd, ZRange,
    ZRangeOptions,
};
use cairn_client::commands::{Expiry, MemberScanOptions};
use cairn_client::{Client, Cmd, Error, Options};

struct Redis {
    process: Child,
    address: String,
}

impl Redis {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let port = port.to_string();
        let args = ["--port", &port, "--save", "", "--appendonly", "no", "--requirepass", "secret"];
        match Command::new("redis-server").args(args).stdout(Stdio::null()).spawn() {
            Ok(process) => Some(Self { process, address: format!("127.0.0.1:{port}") }),
            Err(_) => {
                assert!(std::env::var_os("CI").is_none(), "redis-server is missing");
                eprintln!("skipped: no redis-server (Debian and Ubuntu: apt install redis-server)");
                None
            }
        }
    }

    async fn client(&self) -> Client {
        for _ in 0..500 {
            let options = Options::new(&self.address).password("secret").name("test").database(2);
            match Client::open(options).await {
                Err(Error::Connect { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                outcome => return outcome.unwrap(),
            }
        }
        panic!("redis-server did not start");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn typed_methods_mean_what_they_say() -> Result<(), Error> {
    let Some(redis) = Redis::start() else { return Ok(()) };
    let client = redis.client().await;
    introduction(&client).await?;
    strings(&client).await?;
    numbers_and_ranges(&client).await?;
    keys(&client).await?;
    times(&client).await?;
    lists(&client).await?;
    hashes(&client).await?;
    sets(&client).await?;
    sorting(&client).await?;
    transactions(&client).await?;
    sorted_sets(&client).await?;
    sorted_sets_together(&client).await?;
    let wrong = Client::open(Options::new(&redis.address).password("wrong")).await;
    assert_eq!(wrong.unwrap_err().code(), Some("WRONGPASS"));
    Ok(())
}

async fn introduction(client: &Client) -> Result<(), Error> {
    client.ping().await?;
    let info: String = client.call(Cmd::new("CLIENT INFO")).await?;
    assert!(
        info.contains("name=test") && info.contains("db=2") && info.contains("resp=3"),
        "{info}"
    );
    assert!(client.info(Some("server")).await?.contains("redis_version"));
    Ok(())
}

async fn strings(client: &Client) -> Result<(), Error> {
    assert_eq!(client.get("a").await?, None);
    client.set("a", "1").await?;
    assert_eq!(client.get("a").await?, Some(b"1".to_vec()));
    let missing = SetOptions { condition: SetIf::Missing, ..SetOptions::default() };
    assert!(!client.set_with("a", "2", missing).await?);
    let brief = SetTtl::Set(Expiry::In(Duration::from_secs(100)));
    let exists = SetOptions { condition: SetIf::Exists, ttl: brief };
    assert!(client.set_with("a", "2", exists).await?);
    assert!(matches!(client.ttl("a").await?, Ttl::Left(left) if left > Duration::from_secs(90)));
    let keep = SetOptions { ttl: SetTtl::Keep, ..SetOptions::default() };
    assert_eq!(client.get_and_set("a", "3", keep).await?, Some(b"2".to_vec()));
    assert_eq!(client.get_ex("a", GetExTtl::Persist).await?, Some(b"3".to_vec()));
    assert_eq!(client.ttl("a").await?, Ttl::Unlimited);
    assert_eq!(client.get_del("a").await?, Some(b"3".to_vec()));
    client.mset([("x", "1"), ("y", "2")]).await?;
    assert!(!client.mset_nx([("y", "9"), ("z", "9")]).await?);
    let values = client.mget(["x", "y", "z"]).await?;
    assert_eq!(values, [Some(b"1".to_vec()), Some(b"2".to_vec()), None]);
    Ok(())
}

async fn numbers_and_ranges(client: &Client) -> Result<(), Error> {
    assert_eq!(client.incr("n").await?, 1);
    assert_eq!(client.incr_by("n", 41).await?, 42);
    assert_eq!(client.decr("n").await?, 41);
    assert_eq!(client.decr_by("n", -1).await?, 42);
    assert_eq!(client.incr_by_float("n", 0.5).await?, 42.5);
    assert_eq!(client.incr("n").await.unwrap_err().code(), Some("ERR"));
    assert_eq!(client.append("s", "hello").await?, 5);
    assert_eq!(client.set_range("s", 7, "x").await?, 8);
    assert_eq!(client.get_range("s", 3, -1).await?, b"lo\0\0x");
    assert_eq!(client.strlen("s").await?, 8);
    client.mset([("l", "ohmytext"), ("r", "mynewtext")]).await?;
    assert_eq!(client.lcs("l", "r").await?, b"mytext");
    assert_eq!(client.lcs_len("l", "r").await?, 6);
    client.call::<u64>(Cmd::new("LPUSH list x")).await?;
    assert_eq!(client.get("list").await.unwrap_err().code(), Some("WRONGTYPE"));
    Ok(())
}

async fn keys(client: &Client) -> Result<(), Error> {
    client.flush_db().await?;
    client.mset((0..50).map(|i| (format!("key:{i}"), "v"))).await?;
    assert_eq!(client.db_size().await?, 50);
    assert_eq!(client.keys("key:1?").await?.len(), 10);
    let (mut cursor, mut found) = (0, std::collections::BTreeSet::new());
    loop {
        let options = ScanOptions { pattern: Some(b"key:*"), count: 7, key_type: Some("string") };
        let (next, keys) = client.scan(cursor, options).await?;
        found.extend(keys);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(found.len(), 50);
    assert!(client.random_key().await?.is_some());
    client.rename("key:0", "a").await?;
    assert!(!client.rename_nx("a", "key:1").await?);
    assert!(client.copy("a", "b", None, false).await?);
    assert!(!client.copy("a", "b", None, false).await?);
    assert!(client.copy("a", "b", Some(3), true).await?);
    assert!(!client.move_key("b", 3).await?);
    assert_eq!(client.exists(["a", "a", "b", "c"]).await?, 3);
    assert_eq!(client.touch(["a", "c"]).await?, 1);
    assert_eq!(client.key_type("a").await?, "string");
    assert_eq!(client.key_type("c").await?, "none");
    assert_eq!(client.object_encoding("a").await?.as_deref(), Some("embstr"));
    assert_eq!(client.object_encoding("c").await?, None);
    assert!(client.object_idle_time("a").await?.is_some());
    assert!(client.memory_usage("a").await?.is_some());
    assert_eq!(client.del(["a", "b", "c"]).await?, 2);
    assert_eq!(client.unlink(["key:2"]).await?, 1);
    client.swap_db(2, 3).await?;
    assert_eq!(client.exists(["b"]).await?, 1);
    client.flush_all().await?;
    assert_eq!(client.random_key().await?, None);
    Ok(())
}

async fn times(client: &Client) -> Result<(), Error> {
    let in_ms = |ms| Expiry::In(Duration::from_millis(ms));
    assert!(!client.expire("t", in_ms(100_000), ExpireIf::Always).await?);
    assert_eq!(client.ttl("t").await?, Ttl::Missing);
    client.set("t", "v").await?;
    assert!(client.expire("t", in_ms(100_000), ExpireIf::Unlimited).await?);
    assert!(!client.expire("t", in_ms(50_000), ExpireIf::Longer).await?);
    assert!(client.expire("t", in_ms(50_000), ExpireIf::Shorter).await?);
    assert!(client.expire("t", Expiry::AtMs(4_000_000_000_000), ExpireIf::Limited).await?);
    assert_eq!(client.expire_time_ms("t").await?, Some(4_000_000_000_000));
    assert!(client.persist("t").await?);
    assert_eq!(client.expire_time_ms("t").await?, None);
    Ok(())
}

async fn hashes(client: &Client) -> Result<(), Error> {
    assert_eq!(client.hset("h", [("a", "1"), ("b", "2")]).await?, 2);
    assert!(!client.hset_nx("h", "a", "9").await?);
    assert_eq!(client.hget("h", "a").await?, Some(b"1".to_vec()));
    assert_eq!(client.hget("h", "x").await?, None);
    assert_eq!(client.hmget("h", ["b", "x"]).await?, [Some(b"2".to_vec()), None]);
    let (a, b) = ((b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec()));
    assert_eq!(client.hget_all("h").await?, [a.clone(), b.clone()]);
    assert_eq!(client.hkeys("h").await?, [b"a", b"b"]);
    assert_eq!(client.hvals("h").await?, [b"1", b"2"]);
    assert_eq!(client.hlen("h").await?, 2);
    assert!(client.hexists("h", "a").await?);
    assert_eq!(client.hstrlen("h", "a").await?, 1);
    assert_eq!(client.hincr_by("h", "n", -5).await?, -5);
    assert_eq!(client.hincr_by_float("h", "n", 0.5).await?, -4.5);
    assert_eq!(client.hdel("h", ["n", "x"]).await?, 1);
    let options = MemberScanOptions { pattern: Some(b"a*"), count: 5 };
    assert_eq!(client.hscan("h", 0, options).await?, (0, vec![a.clone()]));
    assert!(client.hrand_field("h").await?.is_some());
    assert_eq!(client.hrand_field("x").await?, None);
    assert_eq!(client.hrand_fields("h", -7).await?.len(), 7);
    assert_eq!(client.hrand_fields_with_values("h", 5).await?.len(), 2);
    Ok(())
}

async fn sets(client: &Client) -> Result<(), Error> {
    let names = |mut members: Vec<Vec<u8>>| {
        members.sort();
        String::from_utf8(members.concat()).unwrap()
    };
    client.flush_db().await?;
    assert_eq!(client.sadd("s", ["a", "b", "c", "a"]).await?, 3);
    assert_eq!(client.sadd("t", ["b", "c", "d"]).await?, 3);
    assert_eq!(client.srem("s", ["c", "x"]).await?, 1);
    assert!(client.sis_member("s", "a").await?);
    assert_eq!(client.smis_member("s", ["a", "x"]).await?, [true, false]);
    assert_eq!(client.scard("s").await?, 2);
    assert_eq!(names(client.smembers("s").await?), "ab");
    assert_eq!(names(client.sinter(["s", "t"]).await?), "b");
    assert_eq!(client.sinter_card(["s", "t"], 0).await?, 1);
    assert_eq!(names(client.sunion(["s", "t"]).await?), "abcd");
    assert_eq!(names(client.sdiff(["t", "s"]).await?), "cd");
    assert_eq!(client.sinter_store("u", ["s", "t"]).await?, 1);
    assert_eq!(client.sdiff_store("u", ["t", "s"]).await?, 2);
    assert_eq!(client.sunion_store("u", ["s", "t"]).await?, 4);
    assert!(client.smove("s", "v", "a").await?);
    assert!(!client.smove("s", "v", "a").await?);
    let options = MemberScanOptions { pattern: Some(b"a"), count: 5 };
    assert_eq!(client.sscan("v", 0, options).await?, (0, vec![b"a".to_vec()]));
    assert_eq!(client.srand_member("v").await?, Some(b"a".to_vec()));
    assert_eq!(client.srand_members("u", -9).await?.len(), 9);
    assert_eq!(client.spop("v").await?, Some(b"a".to_vec()));
    assert_eq!(client.spop("v").await?, None);
    assert_eq!(names(client.spop_many("u", 9).await?), "abcd");
    Ok(())
}

async fn transactions(client: &Client) -> Result<(), Error> {
    let transaction = || client.pipeline().cmd(Cmd::new("INCR").arg("tx")).cmd(Cmd::new("PING"));
    let replies = transaction().execute_atomically().await?.expect("nothing was watched");
    let replies: Vec<String> = replies.into_iter().map(|reply| format!("{reply:?}")).collect();
    assert_eq!(replies, ["Ok(Int(1))", "Ok(Simple(\"PONG\"))"]);
    client.watch(["tx", "u"]).await?;
    client.call::<i64>(Cmd::new("INCR").arg("tx")).await?;
    assert!(transaction().execute_atomically().await?.is_none());
    client.watch(["tx"]).await?;
    client.call::<i64>(Cmd::new("INCR").arg("tx")).await?;
    client.unwatch().await?;
    assert!(transaction().execute_atomically().await?.is_some());
    let refused = transaction().cmd(Cmd::new("NOSUCH")).execute_atomically().await;
    assert!(matches!(refused, Err(Error::Server(text)) if text.contains("unknown command")));
    assert_eq!(client.get("tx").await?, Some(b"4".to_vec()));
    Ok(())
}

fn named(members: &[(&str, f64)]) -> Vec<(Vec<u8>, f64)> {
    members.iter().map(|(name, score)| (name.as_bytes().to_vec(), *score)).collect()
}

async fn sorted_sets(client: &Client) -> Result<(), Error> {
    assert_eq!(client.zadd("z", [(1.0, "a"), (2.5, "b"), (f64::INFINITY, "c")]).await?, 3);
    let greater = ZAddOptions { condition: ZAddIf::Member, compare: ZAddCompare::Greater };
    assert_eq!(client.zadd_with("z", greater, [(2.0, "a"), (2.0, "b"), (1.0, "x")]).await?, 1);
    let new = ZAddOptions { condition: ZAddIf::Missing, ..ZAddOptions::default() };
    assert_eq!(client.zadd_incr("z", new, 1.0, "a").await?, None);
    assert_eq!(client.zincr_by("z", -1.0, "a").await?, 1.0);
    assert_eq!(client.zscore("z", "c").await?, Some(f64::INFINITY));
    assert_eq!(client.zmscore("z", ["b", "x"]).await?, [Some(2.5), None]);
    assert_eq!(client.zcard("z").await?, 3);
    let above = ScoreEnd::Exclusive(1.0);
    let any = ScoreEnd::Inclusive(f64::INFINITY);
    assert_eq!(client.zcount("z", above, any).await?, 2);
    assert_eq!(client.zrank("z", "b").await?, Some(1));
    assert_eq!(client.zrev_rank("z", "x").await?, None);
    let all = ZRange::Rank(0, -1);
    let first = ZRangeOptions { reverse: true, limit: Some((0, 1)) };
    let forward = ZRangeOptions::default();
    assert_eq!(client.zrange("z", all, forward).await?.len(), 3);
    let range = client.zrange_with_scores("z", ZRange::Score(above, any), first).await?;
    assert_eq!(range, named(&[("c", f64::INFINITY)]));
    assert_eq!(client.zrange_store("y", "z", ZRange::Rank(0, 1), forward).await?, 2);
    assert_eq!(client.zrem_range("y", ZRange::Score(any, any)).await?, 0);
    assert_eq!(client.zrand_members("y", -5).await?.len(), 5);
    assert!(client.zrand_member("y").await?.is_some());
    let options = MemberScanOptions { pattern: Some(b"a*"), count: 100 };
    let (next, members) = client.zscan("y", 0, options).await?;
    assert_eq!((next, members), (0, named(&[("a", 1.0)])));
    assert_eq!(client.zpop_min("y", 1).await?, named(&[("a", 1.0)]));
    assert_eq!(client.zpop_max("y", 5).await?, named(&[("b", 2.5)]));
    assert_eq!(client.zmpop(["y"], ZEnd::Min, 1).await?, None);
    let popped = client.zmpop(["y", "z"], ZEnd::Max, 1).await?;
    assert_eq!(popped, Some((b"z".to_vec(), named(&[("c", f64::INFINITY)]))));
    assert_eq!(client.zrem("z", ["a", "b", "x"]).await?, 2);
    Ok(())
}

async fn sorted_sets_together(client: &Client) -> Result<(), Error> {
    client.zadd("m", [(0.0, "a"), (0.0, "b"), (0.0, "c")]).await?;
    client.zadd("n", [(1.0, "b"), (2.0, "c"), (3.0, "d")]).await?;
    let (low, high) = (LexEnd::Exclusive(b"a"), LexEnd::Highest);
    assert_eq!(client.zlex_count("m", LexEnd::Lowest, high).await?, 3);
    let range = ZRange::Lex(low, high);
    assert_eq!(client.zrange("m", range, ZRangeOptions::default()).await?, [b"b", b"c"]);
    let weighted = Combine { weights: &[1.0, 0.5], aggregate: Aggregate::Max };
    assert_eq!(client.zinter(["m", "n"], weighted).await?, named(&[("b", 0.5), ("c", 1.0)]));
    let plain = Combine::default();
    assert_eq!(client.zunion(["m", "n"], plain).await?.len(), 4);
    assert_eq!(client.zdiff(["n", "m"]).await?, named(&[("d", 3.0)]));
    assert_eq!(client.zunion_store("o", ["m", "n"], plain).await?, 4);
    assert_eq!(client.zinter_store("o", ["m", "n"], weighted).await?, 2);
    assert_eq!(client.zdiff_store("o", ["m", "n"]).await?, 1);
    assert_eq!(client.zinter_card(["m", "n"], Some(1)).await?, 1);
    assert_eq!(client.zrem_range("m", range).await?, 2);
    Ok(())
}

async fn lists(client: &Client) -> Result<(), Error> {
    let text = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(client.rpush("l", ["a", "b", "c"]).await?, 3);
    assert_eq!(client.lpush("l", ["z"]).await?, 4);
    assert_eq!(client.rpush_x("l", ["b"]).await?, 5);
    assert_eq!(client.lpush_x("no list", ["b"]).await?, 0);
    assert_eq!(client.lrange("l", 0, -1).await?, text(&["z", "a", "b", "c", "b"]));
    assert_eq!(client.lindex("l", -2).await?.as_deref(), Some(&b"c"[..]));
    assert_eq!(client.lindex("l", 9).await?, None);
    let backwards = PositionOptions { rank: -1, look_at: 3 };
    assert_eq!(client.lpos("l", "b", backwards).await?, Some(4));
    assert_eq!(client.lpos("l", "q", PositionOptions::default()).await?, None);
    assert_eq!(client.lpos_many("l", "b", 0, PositionOptions::default()).await?, [2, 4]);
    client.lset("l", 0, "y").await?;
    assert_eq!(client.linsert("l", Place::After, "a", "x").await?, Some(6));
    assert_eq!(client.linsert("l", Place::Before, "q", "x").await?, None);
    assert_eq!(client.lrem("l", -1, "b").await?, 1);
    client.ltrim("l", 1, -1).await?;
    assert_eq!(client.llen("l").await?, 4);
    assert_eq!(client.lmove("l", "m", End::Left, End::Right).await?.as_deref(), Some(&b"a"[..]));
    assert_eq!(client.lmove("no list", "m", End::Left, End::Right).await?, None);
    assert_eq!(client.lpop("l").await?.as_deref(), Some(&b"x"[..]));
    assert_eq!(client.rpop("l").await?.as_deref(), Some(&b"c"[..]));
    assert_eq!(client.rpop_many("l", 5).await?, text(&["b"]));
    assert_eq!(client.lpop_many("l", 5).await?, text(&[]));
    let popped = client.lmpop(["l", "m"], End::Right, 2).await?;
    assert_eq!(popped, Some((b"m".to_vec(), text(&["a"]))));
    assert_eq!(client.lmpop(["l", "m"], End::Right, 2).await?, None);
    Ok(())
}

async fn sorting(client: &Client) -> Result<(), Error> {
    client.flush_db().await?;
    client.sadd("s", ["3", "1", "2"]).await?;
    client.mset([("w_1", "9"), ("w_2", "8"), ("w_3", "7"), ("n_1", "one")]).await?;
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let sorted = client.sort("s", SortOptions::default()).await?;
    assert_eq!(sorted, [some("1"), some("2"), some("3")]);
    let by = SortOptions { by: Some(b"w_*"), limit: Some((1, 2)), ..SortOptions::default() };
    assert_eq!(client.sort("s", by).await?, [some("2"), some("1")]);
    let get = SortOptions { get: &[b"#", b"n_*"], limit: Some((0, 2)), ..SortOptions::default() };
    assert_eq!(client.sort("s", get).await?, [some("1"), some("one"), some("2"), None]);
    let words = SortOptions { descending: true, alphabetic: true, ..SortOptions::default() };
    assert_eq!(client.sort_store("s", "to", words).await?, 3);
    assert_eq!(client.key_type("to").await?, "list");
    Ok(())
}
