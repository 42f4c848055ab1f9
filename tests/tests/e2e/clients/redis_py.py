"""redis-py's string and key methods against a node: PORT PROTOCOL methods|leave|find."""

import sys
import time

import redis

port, protocol, phase = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
r = redis.Redis(port=port, protocol=protocol, decode_responses=True)


def same(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


def fails(call, kind, text):
    try:
        call()
    except kind as error:
        assert text in str(error), f"{text!r} is not in {error}"
        return
    raise AssertionError(f"no {kind.__name__} with {text!r}")


def connection():
    same(r.ping(), True)
    same(r.echo("x"), "x")
    assert r.client_id() > 0
    same(r.client_setname("tester"), True)
    same(r.client_getname(), "tester")
    assert any(c["name"] == "tester" for c in r.client_list())
    assert r.info("server")["redis_version"].startswith("7.")
    same(r.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
    same(r.config_set("slowlog-max-len", 64), True)
    assert r.command_count() > 50
    same(r.command_getkeys("MSET", "a", "1", "b", "2"), ["a", "b"])
    assert len(r.time()) == 2


def strings():
    same(r.set("a", "1"), True)
    same(r.get("a"), "1")
    same(r.get("missing"), None)
    same(r.set("a", "2", nx=True), None)
    same(r.set("a", "2", xx=True, get=True), "1")
    same(r.set("a", "3", ex=100, keepttl=False), True)
    assert 98 <= r.ttl("a") <= 100
    same(r.set("a", "4", keepttl=True), True)
    assert r.pttl("a") > 90_000
    same(r.setnx("n", "1"), True)
    same(r.setnx("n", "1"), False)
    same(r.setex("e", 10, "x"), True)
    same(r.psetex("p", 10_000, "x"), True)
    same(r.getset("n", "2"), "1")
    same(r.getdel("n"), "2")
    same(r.getex("e", persist=True), "x")
    same(r.ttl("e"), -1)
    same(r.mset({"m1": "1", "m2": "2"}), True)
    same(r.msetnx({"m2": "x", "m3": "x"}), False)
    same(r.mget("m1", "m2", "m3"), ["1", "2", None])
    same(r.append("m1", "23"), 3)
    same(r.strlen("m1"), 3)
    same(r.incr("m1"), 124)
    same(r.incrby("m1", 6), 130)
    same(r.decr("m1", 30), 100)
    same(r.incrbyfloat("m1", 0.5), 100.5)
    same(r.setrange("m1", 2, "XYZ"), 5)
    same(r.getrange("m1", 0, 2), "10X")
    same(r.substr("m1", 0, -1), "10XYZ")
    r.mset({"l1": "ohmytext", "l2": "mynewtext"})
    same(r.lcs("l1", "l2"), "mytext")
    same(r.lcs("l1", "l2", len=True), 6)
    fails(lambda: r.incr("m1"), redis.ResponseError, "value is not an integer or out of range")
    binary = redis.Redis(port=port, protocol=protocol)
    value = bytes(range(256)) * 5000
    same(binary.set(b"\x00\xff", value), True)
    same(binary.get(b"\x00\xff"), value)


def keys():
    r.flushall()
    r.mset({f"key:{i}": str(i) for i in range(100)})
    same(r.dbsize(), 100)
    same(r.exists("key:1", "key:2", "nope"), 2)
    same(r.delete("key:1", "nope"), 1)
    same(r.unlink("key:2"), 1)
    same(r.touch("key:3", "nope"), 1)
    same(r.type("key:3"), "string")
    same(r.type("nope"), "none")
    same(r.expire("key:3", 100), True)
    same(r.expire("key:3", 200, gt=True), True)
    same(r.expire("key:3", 300, nx=True), False)
    same(r.pexpire("key:4", 100_000), True)
    same(r.expireat("key:5", 4102444800), True)
    same(r.expiretime("key:5"), 4102444800)
    same(r.pexpireat("key:5", 4102444800123), True)
    same(r.pexpiretime("key:5"), 4102444800123)
    same(r.persist("key:5"), True)
    same(r.ttl("key:5"), -1)
    same(r.ttl("nope"), -2)
    same(r.rename("key:6", "renamed"), True)
    same(r.renamenx("key:7", "renamed"), False)
    fails(lambda: r.rename("nope", "x"), redis.ResponseError, "no such key")
    same(r.copy("renamed", "copied"), True)
    same(r.copy("renamed", "copied", replace=True), True)
    same(r.move("copied", 5), True)
    same(sorted(r.scan_iter(match="key:*", count=7)), sorted(r.keys("key:*")))
    same(len(list(r.scan_iter(_type="string"))), r.dbsize())
    assert r.randomkey() is not None
    same(r.object("encoding", "renamed"), "int")
    same(r.swapdb(0, 5), True)
    same(r.keys(), ["copied"])
    same(r.flushdb(), True)
    same(r.dbsize(), 0)
    r.swapdb(0, 5)
    r.set("short", "x", px=20)
    time.sleep(0.05)
    same(r.get("short"), None)
    same(r.flushall(), True)
    fails(lambda: r.execute_command("NOSUCH", "x"), redis.ResponseError, "unknown command")


def pipelines():
    with r.pipeline(transaction=False) as pipe:
        for i in range(1000):
            pipe.set(f"pipe:{i}", i)
        for i in range(1000):
            pipe.incr(f"pipe:{i}")
        same(pipe.execute(), [True] * 1000 + [i + 1 for i in range(1000)])


def methods():
    connection()
    strings()
    keys()
    pipelines()
    r.flushall()


def leave():
    r.mset({f"kept:{i}": f"value {i}" for i in range(1000)})
    r.set("deadline", "x", pxat=4102444800123)
    r.set("long", "y" * 1_000_000)
    r.incrbyfloat("float", 3.25)


def find():
    same(r.dbsize(), 1003)
    same(r.mget([f"kept:{i}" for i in range(1000)]), [f"value {i}" for i in range(1000)])
    same(r.pexpiretime("deadline"), 4102444800123)
    same(r.get("long"), "y" * 1_000_000)
    same(r.get("float"), "3.25")


{"methods": methods, "leave": leave, "find": find}[phase]()
print("ok")
