//! One replica over a heap, with the log that a crash would replay.

use std::ops::Range;
use std::sync::Arc;

use cairn_engine::{At, ENGINE_VERSION, Effects, Engine};
use cairn_protocol::command::{Place, resolve};
use cairn_protocol::ids::{LogIndex, Term};
use cairn_protocol::op::{EntryHeader, EntryRef, encode_entry_header, encode_op_staged};
use cairn_protocol::resp::{Argv, Proto, Writer};
pub use cairn_store::log::crash_disk::Rng;
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Committer, Db, Encoding, PoolOptions, Store};

const CAPACITY_BYTES: u64 = 48 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY_BYTES, new_hash_key: [3, 5], new_uuid: [9; 16] };

/// The seeds to run: `default` of them unless the environment says otherwise.
pub fn seeds(default: u64) -> Range<u64> {
    let read = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    match (read("CAIRN_SEED"), read("CAIRN_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(default),
    }
}

/// An engine with what a connection and a log know.
pub struct Replica {
    pub engine: Engine,
    pub db: Db,
    pub now_ms: u64,
    pub proto: Proto,
    pub effects: Effects,
    committer: Committer,
    mem: Arc<Mem>,
    index: u64,
    /// Entries that no committed root contains.
    log: Vec<Vec<u8>>,
}

impl Replica {
    pub fn new(now_ms: u64) -> Replica {
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY_BYTES))));
        let (store, committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
        Replica {
            engine: Engine::new(store),
            db: Db(0),
            now_ms,
            proto: Proto::Resp2,
            effects: Effects::default(),
            committer,
            mem,
            index: 0,
            log: Vec::new(),
        }
    }

    /// Runs one command as the server would: by its row, as a read or as an entry.
    pub fn run(&mut self, argv: &[Vec<u8>]) -> Vec<u8> {
        self.run_staged(argv, &[])
    }

    pub fn run_staged(&mut self, argv: &[Vec<u8>], staged: &[(usize, u64)]) -> Vec<u8> {
        let words: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        let argv = Argv::from(&words[..]);
        let mut reply = Vec::new();
        let mut w = Writer::new(&mut reply, self.proto);
        match resolve(argv) {
            Err(error) => w.error(&error),
            Ok(spec) if spec.place == Place::Write => {
                let db = self.db.0;
                return self
                    .propose(|out| encode_op_staged(out, spec.id, db, argv, staged), self.index);
            }
            Ok(spec) => {
                let at = At { now_ms: self.now_ms, seed: self.index };
                self.effects = self.engine.read(spec, self.db, argv, &at, &mut w).unwrap();
            }
        }
        reply
    }

    /// Logs and applies one operation.
    pub fn propose(&mut self, encode: impl FnOnce(&mut Vec<u8>), seed: u64) -> Vec<u8> {
        let mut entry = Vec::new();
        let header =
            EntryHeader { engine_version: ENGINE_VERSION, count: 1, now_ms: self.now_ms, seed };
        encode_entry_header(&mut entry, &header);
        encode(&mut entry);
        let mut reply = Vec::new();
        let mut w = Writer::new(&mut reply, self.proto);
        self.index += 1;
        self.effects = apply(&mut self.engine, &entry, self.index, &mut w);
        self.log.push(entry);
        reply
    }

    /// Makes what was applied durable; the log is purged up to there.
    pub fn commit(&mut self) {
        if let Some(sealed) = self.engine.store_mut().seal() {
            let published = self.committer.commit(sealed).unwrap();
            self.engine.store_mut().release(published);
        }
        self.log.clear();
    }

    /// Dies and starts again over a medium of which somebody changed bytes: `damage` gets all of it.
    pub fn restart_damaged(&mut self, damage: impl FnOnce(&mut Vec<u8>)) {
        self.commit();
        let len = self.mem.media().len() as usize;
        let mut bytes = self.mem.bytes(0, len).unwrap().to_vec();
        damage(&mut bytes);
        let media = HeapMedia::with_bytes(&bytes, CAPACITY_BYTES);
        self.mem = Arc::new(Mem::new(Box::new(media)));
        self.crash_and_recover();
    }

    /// Dies and starts again: the committed root, and the log on top of it.
    pub fn crash_and_recover(&mut self) {
        let (store, committer, opened) = Store::open(self.mem.clone(), &OPTIONS).unwrap();
        self.engine = Engine::new(store);
        self.committer = committer;
        let first = self.index - self.log.len() as u64 + 1;
        assert_eq!(opened.applied.1.0 + 1, first, "the root holds what the log was purged to");
        for (index, entry) in (first..).zip(&self.log) {
            apply(&mut self.engine, entry, index, &mut Writer::suppressed());
        }
    }
}

fn apply(engine: &mut Engine, entry: &[u8], index: u64, w: &mut Writer<'_>) -> Effects {
    let entry = EntryRef::decode(entry).unwrap();
    let header = *entry.header();
    let mut effects = Effects::default();
    for (n, op) in (0..).zip(entry.ops()) {
        let at = At { now_ms: header.now_ms, seed: header.seed + n };
        effects += engine.apply(&op.unwrap(), &at, w).unwrap();
    }
    engine.finish_entry(Term(1), LogIndex(index), header.now_ms);
    effects
}

/// A key as the store holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub db: u16,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub encoding: Encoding,
    pub deadline_ms: Option<u64>,
}

/// Everything a store holds, in hash order.
pub fn content(store: &Store) -> Vec<Kept> {
    let mut out = Vec::new();
    for db in 0..=Db::COUNT {
        let end = store
            .scan(Db(db), 0, &mut |record| {
                out.push(Kept {
                    db,
                    key: record.key().to_vec(),
                    value: record.value().to_vec()?,
                    encoding: record.encoding(),
                    deadline_ms: record.deadline_ms(),
                });
                Ok(true)
            })
            .unwrap();
        assert_eq!(end, 0);
    }
    out
}
