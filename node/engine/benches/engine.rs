//! What GET and SET cost in the engine alone, at a million keys of 20 bytes with values of 100, and
//! what hashes and sets of 20 and of 100,000 members, sorted sets of 100 and of 100,000 and a list of
//! a million elements cost: from the encoded operation, or the decoded request, to the encoded
//! reply. Commits happen between the measured stretches, as the flusher's do beside them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_engine::{At, Engine};
use cairn_protocol::command::CommandId;
use cairn_protocol::op::{OpRef, encode_op};
use cairn_protocol::resp::{Argv, Proto, Writer};
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Committer, Db, Key, PoolOptions, Store};
use criterion::{Criterion, criterion_group, criterion_main};

const KEYS: u64 = 1_000_000;
const CAPACITY_BYTES: u64 = 1 << 30;
/// Operations between two commits.
const EPOCH_OPS: u64 = 50_000;
/// Commands whose keys are fetched together, as a pipeline's are.
const BATCH: usize = 16;
const AT: At = At { now_ms: 1_700_000_000_000, seed: 0 };

const LIST: &[u8] = b"list";
const PUSH: &[&[u8]] = &[b"RPUSH", LIST, b"ten bytes!"];

struct Bench {
    engine: Engine,
    committer: Committer,
    /// A few million draws, so that no two stretches go through the keys alike.
    state: u64,
    reply: Vec<u8>,
}

fn name(n: u64) -> [u8; 20] {
    let mut name = *b"key:0000000000000000";
    let mut rest = n;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

impl Bench {
    fn empty() -> Bench {
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY_BYTES))));
        let options =
            PoolOptions { capacity_bytes: CAPACITY_BYTES, new_hash_key: [1, 2], new_uuid: [1; 16] };
        let (store, committer, _) = Store::open(mem, &options).expect("an empty pool opens");
        Bench { engine: Engine::new(store), committer, state: 1, reply: Vec::new() }
    }

    fn new() -> Bench {
        let mut bench = Bench::empty();
        for n in 0..KEYS {
            bench.set(n);
            if n % EPOCH_OPS == 0 {
                bench.commit();
            }
        }
        bench.commit();
        bench
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) % KEYS
    }

    fn set(&mut self, n: u64) {
        let (name, value, mut op) = (name(n), [b'v'; 100], Vec::new());
        encode_op(&mut op, CommandId::Set, 0, Argv::from(&[&b"SET"[..], &name, &value]));
        self.apply(&op);
    }

    fn apply(&mut self, op: &[u8]) {
        self.reply.clear();
        let op = OpRef::decode(op).expect("an operation of ours");
        let mut w = Writer::new(&mut self.reply, Proto::Resp2);
        black_box(self.engine.apply(&op, &AT, &mut w)).expect("a sound store");
    }

    fn commit(&mut self) {
        if let Some(sealed) = self.engine.store_mut().seal() {
            let published = self.committer.commit(sealed).expect("a heap does not fail");
            self.engine.store_mut().release(published);
        }
    }

    fn get(&mut self, name: &[u8], key: Option<Key<'_>>) {
        self.reply.clear();
        let mut w = Writer::new(&mut self.reply, Proto::Resp2);
        let (argv, spec) = ([&b"GET"[..], name], CommandId::Get.spec());
        let read = self.engine.read_hashed(spec, Db(0), Argv::from(&argv), key, &AT, &mut w);
        black_box(read).expect("a sound store");
    }

    fn read(&mut self, command: CommandId, argv: Argv<'_>) {
        self.reply.clear();
        let mut w = Writer::new(&mut self.reply, Proto::Resp2);
        let read = self.engine.read(command.spec(), Db(0), argv, &AT, &mut w);
        black_box(read).expect("a sound store");
    }

    fn time_gets(&mut self, iterations: u64, first: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..iterations {
            let n = self.draw();
            self.get(&name(first + n), None);
        }
        start.elapsed()
    }

    fn time_batched_gets(&mut self, iterations: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..iterations.div_ceil(BATCH as u64) {
            let drawn: [u64; BATCH] = std::array::from_fn(|_| self.draw());
            let names = drawn.map(name);
            let keys: [_; BATCH] = std::array::from_fn(|i| (Db(0), self.engine.hash(&names[i])));
            self.engine.prefetch(&keys);
            for (name, (_, key)) in names.iter().zip(keys) {
                self.get(name, Some(key));
            }
        }
        start.elapsed()
    }

    /// Sets `pick(self, i)` for each iteration; encoding the operation is not measured.
    fn time_sets(&mut self, iterations: u64, pick: impl Fn(&mut Bench, u64) -> u64) -> Duration {
        let (mut spent, mut done) = (Duration::ZERO, 0);
        while done < iterations {
            let ops = EPOCH_OPS.min(iterations - done);
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for i in 0..ops {
                let (name, value) = (name(pick(self, done + i)), [b'w'; 100]);
                let argv = [&b"SET"[..], &name, &value];
                encode_op(&mut bytes, CommandId::Set, 0, Argv::from(&argv));
                ends.push(bytes.len());
            }
            let (start, mut from) = (Instant::now(), 0);
            for end in ends {
                self.apply(&bytes[from..end]);
                from = end;
            }
            spent += start.elapsed();
            self.commit();
            done += ops;
        }
        spent
    }

    /// Applies operations that `op` makes, which is not measured.
    fn time_ops(&mut self, iterations: u64, op: impl Fn(&mut Bench) -> Vec<u8>) -> Duration {
        let (mut spent, mut done) = (Duration::ZERO, 0);
        while done < iterations {
            let count = EPOCH_OPS.min(iterations - done);
            let ops: Vec<Vec<u8>> = (0..count).map(|_| op(self)).collect();
            let start = Instant::now();
            for op in &ops {
                self.apply(op);
            }
            spent += start.elapsed();
            self.commit();
            done += count;
        }
        spent
    }

    /// Runs `command` again and again; `undo`, with how often that was, is not measured.
    fn time_writes(
        &mut self,
        iterations: u64,
        command: (CommandId, &[&[u8]]),
        undo: impl Fn(&mut Bench, u64),
    ) -> Duration {
        let (mut op, mut spent, mut done) = (Vec::new(), Duration::ZERO, 0);
        encode_op(&mut op, command.0, 0, Argv::from(command.1));
        while done < iterations {
            let ops = EPOCH_OPS.min(iterations - done);
            let start = Instant::now();
            for _ in 0..ops {
                self.apply(&op);
            }
            spent += start.elapsed();
            undo(self, ops);
            self.commit();
            done += ops;
        }
        spent
    }

    fn push(&mut self, count: u64) {
        let mut op = Vec::new();
        encode_op(&mut op, CommandId::RPush, 0, Argv::from(PUSH));
        for _ in 0..count {
            self.apply(&op);
        }
    }

    fn pop(&mut self, count: u64) {
        let (mut op, count) = (Vec::new(), count.to_string());
        let argv = [&b"RPOP"[..], LIST, count.as_bytes()];
        encode_op(&mut op, CommandId::RPop, 0, Argv::from(&argv));
        self.apply(&op);
    }

    fn time_ranges(&mut self, iterations: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..iterations {
            let first = self.draw();
            let (first, last) = (first.to_string(), (first + 99).to_string());
            let argv = [&b"LRANGE"[..], LIST, first.as_bytes(), last.as_bytes()];
            self.read(CommandId::LRange, Argv::from(&argv));
        }
        start.elapsed()
    }

    /// Takes away what an insert bench put in.
    fn shrink_to_keys(&mut self, inserted: u64) {
        for n in KEYS..KEYS + inserted {
            let (name, mut op) = (name(n), Vec::new());
            encode_op(&mut op, CommandId::Del, 0, Argv::from(&[&b"DEL"[..], &name]));
            self.apply(&op);
            if n % EPOCH_OPS == 0 {
                self.commit();
            }
        }
        self.commit();
    }
}

fn engine(c: &mut Criterion) {
    let mut bench = Bench::new();
    let mut group = c.benchmark_group("1M keys");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    group.bench_function("GET hit", |b| b.iter_custom(|n| bench.time_gets(n, 0)));
    group
        .bench_function("GET hit, 16 at a time", |b| b.iter_custom(|n| bench.time_batched_gets(n)));
    group.bench_function("GET miss", |b| b.iter_custom(|n| bench.time_gets(n, KEYS)));
    group.bench_function("SET overwrite", |b| {
        b.iter_custom(|n| bench.time_sets(n, |bench, _| bench.draw()));
    });
    group.bench_function("SET overwrite, a thousand hot keys", |b| {
        b.iter_custom(|n| bench.time_sets(n, |bench, _| bench.draw() % 1000));
    });
    group.bench_function("SET insert", |b| {
        b.iter_custom(|n| {
            // More keys than that do not fit beside the million.
            let n_keys = n.min(KEYS);
            let spent = bench.time_sets(n_keys, |_, i| KEYS + i);
            bench.shrink_to_keys(n_keys);
            spent.mul_f64(n as f64 / n_keys as f64)
        });
    });
    group.finish();
}

/// A sorted set of `members`, whose scores are spread over as many integers.
struct Scores {
    bench: Bench,
    members: u64,
}

impl Scores {
    fn new(members: u64) -> Scores {
        let mut scores = Scores { bench: Bench::empty(), members };
        for n in 0..members {
            let op = zadd(n, n);
            scores.bench.apply(&op);
            if n % EPOCH_OPS == 0 {
                scores.bench.commit();
            }
        }
        scores.bench.commit();
        scores
    }

    fn time_reads(
        &mut self,
        iterations: u64,
        command: CommandId,
        argv: impl Fn(u64) -> Vec<Vec<u8>>,
    ) -> Duration {
        let drawn: Vec<_> = (0..256).map(|_| argv(self.bench.draw() % self.members)).collect();
        let start = Instant::now();
        for n in 0..iterations {
            let words: Vec<&[u8]> = drawn[n as usize % 256].iter().map(Vec::as_slice).collect();
            self.bench.read(command, Argv::from(&words[..]));
        }
        start.elapsed()
    }
}

fn zadd(score: u64, member: u64) -> Vec<u8> {
    let (score, name, mut op) = (score.to_string(), name(member), Vec::new());
    let argv = [&b"ZADD"[..], b"scores", score.as_bytes(), &name[12..]];
    encode_op(&mut op, CommandId::ZAdd, 0, Argv::from(&argv));
    op
}

fn sorted_sets(c: &mut Criterion) {
    let words = |text: String| text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    for members in [100, 100_000] {
        let mut set = Scores::new(members);
        let mut group = c.benchmark_group(format!("sorted set of {members}"));
        group.sample_size(10).measurement_time(Duration::from_secs(2));
        group.bench_function("ZADD, another score", |b| {
            b.iter_custom(|n| {
                set.bench.time_ops(n, |bench| {
                    let (score, member) = (bench.draw(), bench.draw());
                    zadd(score % members, member % members)
                })
            });
        });
        group.bench_function("ZRANGEBYSCORE, 10 members from anywhere", |b| {
            b.iter_custom(|n| {
                set.time_reads(n, CommandId::ZRangeByScore, |from| {
                    words(format!("ZRANGEBYSCORE scores {from} +inf LIMIT 0 10"))
                })
            });
        });
        group.bench_function("ZRANK", |b| {
            b.iter_custom(|n| {
                set.time_reads(n, CommandId::ZRank, |member| {
                    let member = String::from_utf8_lossy(&name(member)[12..]).into_owned();
                    words(format!("ZRANK scores {member}"))
                })
            });
        });
        group.finish();
    }
}

/// `HSET h member value`, `SADD s member` and their like.
fn on_member(command: CommandId, words: [&[u8]; 2], member: u64, value: &[&[u8]]) -> Vec<u8> {
    let (name, mut op) = (name(member), Vec::new());
    let argv = [&words[..], &[&name[12..]], value].concat();
    encode_op(&mut op, command, 0, Argv::from(&argv[..]));
    op
}

fn hashes_and_sets(c: &mut Criterion) {
    use CommandId::{HGet, HSet, SAdd, SPop};
    for members in [20, 100_000] {
        let mut bench = Bench::empty();
        for n in 0..members {
            bench.apply(&on_member(HSet, [b"HSET", b"h"], n, &[b"twenty bytes of text"]));
            bench.apply(&on_member(SAdd, [b"SADD", b"s"], n, &[]));
        }
        bench.commit();
        let mut group = c.benchmark_group(format!("hash and set of {members}"));
        group.sample_size(10).measurement_time(Duration::from_secs(2));
        group.bench_function("HSET, another value", |b| {
            b.iter_custom(|n| {
                bench.time_ops(n, |bench| {
                    let member = bench.draw() % members;
                    on_member(HSet, [b"HSET", b"h"], member, &[b"another text of this"])
                })
            });
        });
        group.bench_function("HGET", |b| {
            b.iter_custom(|n| {
                let start = Instant::now();
                for _ in 0..n {
                    let name = name(bench.draw() % members);
                    bench.read(HGet, Argv::from(&[&b"HGET"[..], b"h", &name[12..]]));
                }
                start.elapsed()
            });
        });
        group.bench_function("SADD of a member", |b| {
            b.iter_custom(|n| {
                bench.time_ops(n, |bench| {
                    let member = bench.draw() % members;
                    on_member(SAdd, [b"SADD", b"s"], member, &[])
                })
            });
        });
        let mut pop = Vec::new();
        encode_op(&mut pop, SPop, 0, Argv::from(&[&b"SPOP"[..], b"s"]));
        group.bench_function("SPOP, and SADD of another", |b| {
            b.iter_custom(|n| {
                let start = Instant::now();
                for i in 0..n {
                    bench.apply(&pop);
                    let member = members + bench.draw();
                    bench.apply(&on_member(SAdd, [b"SADD", b"s"], member, &[]));
                    if i % EPOCH_OPS == 0 {
                        bench.commit();
                    }
                }
                start.elapsed()
            });
        });
        group.finish();
    }
}

fn lists(c: &mut Criterion) {
    let mut bench = Bench::new();
    for _ in 0..KEYS / EPOCH_OPS {
        bench.push(EPOCH_OPS);
        bench.commit();
    }
    let mut group = c.benchmark_group("1M elements");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    group.bench_function("RPUSH", |b| {
        b.iter_custom(|n| bench.time_writes(n, (CommandId::RPush, PUSH), Bench::pop));
    });
    group.bench_function("RPOP", |b| {
        let argv = [&b"RPOP"[..], LIST];
        b.iter_custom(|n| bench.time_writes(n, (CommandId::RPop, &argv), Bench::push));
    });
    group.bench_function("LRANGE of 100", |b| b.iter_custom(|n| bench.time_ranges(n)));
    group.finish();
}

criterion_group!(benches, engine, hashes_and_sets, sorted_sets, lists);
criterion_main!(benches);
