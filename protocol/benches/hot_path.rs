//! What do reading a request and writing its reply cost? Both stand on the way of every command.

use std::hint::black_box;

use cairn_protocol::command::{CommandId, resolve};
use cairn_protocol::op::{EntryHeader, EntryRef, encode_entry_header, encode_op};
use cairn_protocol::resp::encode::push_request;
use cairn_protocol::resp::{Argv, Frames, Limits, Proto, RequestDecoder, Writer};
use cairn_protocol::slot::slot_of;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const KEY: &[u8] = b"key:000000000123";
const PIPELINE: u64 = 16;

fn pipeline(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    (0..PIPELINE).for_each(|_| push_request(&mut out, args.iter().copied()));
    out
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(PIPELINE));
    for (name, args) in [
        ("get", &[&b"GET"[..], KEY][..]),
        ("set_100", &[b"SET", KEY, &[b'x'; 100]]),
        ("mset_10", &[&b"MSET"[..]; 21]),
    ] {
        let buf = pipeline(args);
        let mut decoder = RequestDecoder::new(Limits::AUTHENTICATED);
        let mut frames = Frames::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                frames.clear();
                decoder.decode(black_box(&buf), &mut frames, 64).unwrap()
            });
        });
    }
    group.finish();
}

fn resolve_names(c: &mut Criterion) {
    for (name, args) in [
        ("get", &[&b"GET"[..], KEY][..]),
        ("incrbyfloat", &[b"incrbyfloat", KEY, b"1"]),
        ("config_get", &[b"CONFIG", b"GET", b"*"]),
    ] {
        let argv = Argv::from(args);
        c.bench_function(&format!("resolve/{name}"), |b| {
            b.iter(|| resolve(black_box(argv)).unwrap().id);
        });
    }
    c.bench_function("slot_of", |b| b.iter(|| slot_of(black_box(KEY))));
}

fn encode(c: &mut Criterion) {
    let mut out = Vec::with_capacity(4096);
    let mut bench = |name: &str, write: fn(&mut Writer<'_>)| {
        c.bench_function(&format!("encode/{name}"), |b| {
            b.iter(|| {
                out.clear();
                write(&mut Writer::new(black_box(&mut out), Proto::Resp2));
            });
        });
    };
    bench("ok", |w| w.ok());
    bench("int", |w| w.int(black_box(123_456)));
    bench("bulk_100", |w| w.bulk(black_box(&[b'x'; 100])));
}

fn operations(c: &mut Criterion) {
    let mut out = Vec::with_capacity(4096);
    let args: [&[u8]; 3] = [b"SET", KEY, &[b'x'; 100]];
    c.bench_function("op/encode_set", |b| {
        b.iter(|| {
            out.clear();
            encode_op(&mut out, CommandId::Set, 0, black_box(Argv::from(&args)));
        });
    });
    let mut entry = Vec::new();
    let header = EntryHeader { engine_version: 1, count: 1, now_ms: 1, seed: 1 };
    encode_entry_header(&mut entry, &header);
    encode_op(&mut entry, CommandId::Set, 0, Argv::from(&args));
    c.bench_function("op/decode_set", |b| {
        b.iter(|| {
            let op = EntryRef::decode(black_box(&entry)).unwrap().ops().next().unwrap().unwrap();
            op.argv().iter().map(<[u8]>::len).sum::<usize>()
        });
    });
}

criterion_group!(benches, decode, resolve_names, encode, operations);
criterion_main!(benches);
