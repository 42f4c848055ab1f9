"""redis-py's methods on collections and its transactions against a node: PORT PROTOCOL methods|leave|find."""

import sys
import threading

import redis

port, protocol, phase = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
r = redis.Redis(port=port, protocol=protocol, decode_responses=True)


def same(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


def pairs(found):
    """A list of members with scores, whichever way the protocol's version of redis-py nests it."""
    return [(member, float(score)) for member, score in found]


def hashes():
    same(r.hset("h", mapping={"a": "1", "b": "2", "c": "x"}), 3)
    same(r.hget("h", "a"), "1")
    same(r.hgetall("h"), {"a": "1", "b": "2", "c": "x"})
    same(r.hmget("h", ["a", "no", "c"]), ["1", None, "x"])
    same((sorted(r.hkeys("h")), sorted(r.hvals("h"))), (["a", "b", "c"], ["1", "2", "x"]))
    same((r.hlen("h"), r.hexists("h", "a"), r.hstrlen("h", "c")), (3, True, 1))
    same((r.hincrby("h", "a", 41), r.hincrbyfloat("h", "b", 0.5)), (42, 2.5))
    same(r.hsetnx("h", "a", "9"), False)
    same(r.hdel("h", "c", "no"), 1)
    assert r.hrandfield("h") in ("a", "b")
    r.hset("large", mapping={f"field:{i}": i for i in range(5000)})
    same(dict(r.hscan_iter("large", count=100)), {f"field:{i}": str(i) for i in range(5000)})
    same(len(r.hgetall("large")), 5000)


def lists():
    same(r.rpush("l", "a", "b", "c"), 3)
    same(r.lpush("l", "z"), 4)
    same(r.lrange("l", 0, -1), ["z", "a", "b", "c"])
    same((r.lindex("l", 1), r.llen("l"), r.lpos("l", "b")), ("a", 4, 2))
    same(r.linsert("l", "BEFORE", "b", "y"), 5)
    same(r.lset("l", 0, "x"), True)
    same(r.lrem("l", 1, "y"), 1)
    same(r.lmove("l", "m", "LEFT", "RIGHT"), "x")
    same((r.lpop("l"), r.rpop("l")), ("a", "c"))
    same(r.rpoplpush("l", "m"), "b")
    same(r.lrange("m", 0, -1), ["b", "x"])
    r.rpush("long", *range(10_000))
    same(r.ltrim("long", 10, -11), True)
    same(r.lrange("long", 0, -1), [str(i) for i in range(10, 9990)])
    same(r.lpop("long", 3), ["10", "11", "12"])


def sets():
    same(r.sadd("s", "a", "b", "c"), 3)
    same(r.sadd("t", "b", "c", "d"), 3)
    same(set(r.smembers("s")), {"a", "b", "c"})
    same((r.scard("s"), bool(r.sismember("s", "a"))), (3, True))
    same([bool(x) for x in r.smismember("s", ["a", "d"])], [True, False])
    same(set(r.sinter("s", "t")), {"b", "c"})
    same(set(r.sunion("s", "t")), {"a", "b", "c", "d"})
    same(set(r.sdiff("s", "t")), {"a"})
    same((r.sinterstore("u", "s", "t"), r.sintercard(2, ["s", "t"])), (2, 2))
    same(bool(r.smove("s", "t", "a")), True)
    same(r.srem("s", "b"), 1)
    same(r.spop("s"), "c")
    same(r.exists("s"), 0)
    r.sadd("many", *range(3000))
    same(set(r.sscan_iter("many", count=50)), {str(i) for i in range(3000)})
    same(len(r.srandmember("many", 10)), 10)


def sorted_sets():
    same(r.zadd("z", {"a": 1, "b": 2, "c": 3.5}), 3)
    same(r.zadd("z", {"a": 5}, gt=True, ch=True), 1)
    same(r.zrange("z", 0, -1), ["b", "c", "a"])
    same(pairs(r.zrange("z", 0, 0, withscores=True)), [("b", 2.0)])
    same(r.zrangebyscore("z", "(2", "+inf"), ["c", "a"])
    same((r.zscore("z", "c"), r.zcard("z"), r.zcount("z", 2, 4)), (3.5, 3, 2))
    same((r.zrank("z", "a"), r.zrevrank("z", "a")), (2, 0))
    same(r.zincrby("z", 0.25, "b"), 2.25)
    same(r.zmscore("z", ["a", "no"]), [5.0, None])
    same(pairs(r.zpopmin("z", 1)), [("b", 2.25)])
    same(r.zrem("z", "c"), 1)
    r.zadd("board", {f"player:{i:05}": i for i in range(5000)})
    same(r.zrevrange("board", 0, 2), ["player:04999", "player:04998", "player:04997"])
    same(r.zrangebylex("same", "-", "+"), [])
    same(r.zremrangebyscore("board", "-inf", 99), 100)
    same(r.zunionstore("both", ["board", "z"]), 4901)
    same(len(list(r.zscan_iter("board"))), 4900)


def transactions():
    with r.pipeline(transaction=True) as pipe:
        pipe.set("t", 1).incr("t").hset("th", "f", "v").lpush("t", "x").get("t")
        replies = pipe.execute(raise_on_error=False)
        same(replies[:3], [True, 2, 1])
        assert isinstance(replies[3], redis.ResponseError), replies
        same(replies[4], "2")
    with r.pipeline() as pipe:
        pipe.watch("t")
        r.set("t", "changed")
        pipe.multi()
        pipe.set("t", "lost")
        try:
            pipe.execute()
            raise AssertionError("a watched key had changed")
        except redis.WatchError:
            pass
    same(r.get("t"), "changed")

    def increment(pipe):
        value = int(pipe.get("counter") or 0)
        pipe.multi()
        pipe.set("counter", value + 1)

    def work():
        client = redis.Redis(port=port, protocol=protocol, decode_responses=True)
        for _ in range(50):
            client.transaction(increment, "counter")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(r.get("counter"), "200")


def methods():
    for test in (hashes, lists, sets, sorted_sets, transactions):
        r.flushall()
        test()
    r.flushall()


def leave():
    with r.pipeline(transaction=True) as pipe:
        pipe.hset("hash", mapping={f"f{i}": f"v{i}" for i in range(1000)})
        pipe.rpush("list", *[f"element {i}" for i in range(1000)])
        pipe.sadd("set", *range(1000))
        pipe.zadd("zset", {f"m{i}": i / 4 for i in range(1000)})
        pipe.hset("small", mapping={"a": "1"})
        pipe.execute()


def find():
    same(r.dbsize(), 5)
    same(r.hgetall("hash"), {f"f{i}": f"v{i}" for i in range(1000)})
    same(r.lrange("list", 0, -1), [f"element {i}" for i in range(1000)])
    same(set(r.smembers("set")), {str(i) for i in range(1000)})
    same(pairs(r.zrange("zset", 0, -1, withscores=True)), [(f"m{i}", i / 4) for i in range(1000)])
    same(r.object("encoding", "small"), "listpack")


{"methods": methods, "leave": leave, "find": find}[phase]()
print("ok")
