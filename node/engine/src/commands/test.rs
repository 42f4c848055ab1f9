//! What the tests of the handlers share: an engine over a heap, spoken to as a client would.

use std::sync::Arc;

use cairn_protocol::command::{Place, resolve};
use cairn_protocol::op::{OpRef, encode_op_staged};
use cairn_protocol::resp::{Argv, Proto, Writer};
use cairn_store::media::HeapMedia;
use cairn_store::persist::Mem;
use cairn_store::{Db, PoolOptions, Store};

use super::internal::encode_stage;
use crate::{At, Effects, Engine};

const START_MS: u64 = 1_700_000_000_000;

/// An engine, the time, and what a connection knows.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) db: Db,
    pub(crate) seed: u64,
    /// Of the last command.
    pub(crate) effects: Effects,
    now_ms: u64,
    proto: Proto,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let media = HeapMedia::new(32 << 20);
        let options =
            PoolOptions { capacity_bytes: 32 << 20, new_hash_key: [1, 2], new_uuid: [7; 16] };
        let (store, _, _) = Store::open(Arc::new(Mem::new(Box::new(media))), &options).unwrap();
        Bench {
            engine: Engine::new(store),
            db: Db(0),
            seed: 0,
            effects: Effects::default(),
            now_ms: START_MS,
            proto: Proto::Resp2,
        }
    }

    /// An engine that admits about `bytes` of content and no more.
    pub(crate) fn full_at(bytes: u64) -> Bench {
        let mut bench = Bench::new();
        bench.admit_no_more_than(bytes);
        bench
    }

    /// Sets a limit which admits about `bytes` beyond what there is.
    pub(crate) fn admit_no_more_than(&mut self, bytes: u64) {
        let store = self.engine.store_mut();
        let mut limit_bytes = bytes;
        store.set_limit_bytes(limit_bytes);
        // How much of its limit the store keeps back is its own affair.
        while !store.room_for(bytes) {
            limit_bytes += 16 << 10;
            store.set_limit_bytes(limit_bytes);
        }
    }

    pub(crate) fn speak(&mut self, proto: Proto) {
        self.proto = proto;
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Runs commands, words separated by spaces, and compares replies, `|` standing for CR LF.
    #[track_caller]
    pub(crate) fn check(&mut self, rows: &[(&str, &str)]) {
        for (command, wanted) in rows {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            let reply = self.run(&words);
            let wanted = wanted.replace('|', "\r\n") + "\r\n";
            assert_eq!(
                reply.escape_ascii().to_string(),
                wanted.as_bytes().escape_ascii().to_string(),
                "{command}"
            );
        }
    }

    /// Whether a reading command, words separated by spaces, would hold others up for too long.
    pub(crate) fn defers(&mut self, command: &str) -> bool {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let argv = Argv::from(&words[..]);
        let (spec, at, mut reply) = (resolve(argv).unwrap(), self.at(), Vec::new());
        let mut w = Writer::new(&mut reply, self.proto);
        let effects = self.engine.read_or_defer(spec, self.db, argv, None, &at, &mut w).unwrap();
        assert_eq!(effects.deferred, reply.is_empty());
        effects.deferred
    }

    /// Runs one command as the server would: by its row, as a read or as an operation.
    pub(crate) fn run(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.run_staged(words, &[])
    }

    /// As [`run`](Self::run), with arguments that were staged before: position and id.
    pub(crate) fn run_staged(&mut self, words: &[&[u8]], staged: &[(usize, u64)]) -> Vec<u8> {
        let argv = Argv::from(words);
        let mut reply = Vec::new();
        let mut w = Writer::new(&mut reply, self.proto);
        let spec = match resolve(argv) {
            Ok(spec) => spec,
            Err(error) => {
                w.error(&error);
                return reply;
            }
        };
        if spec.place != Place::Write {
            let at = self.at();
            self.effects = self.engine.read(spec, self.db, argv, &at, &mut w).unwrap();
            return reply;
        }
        let mut op = Vec::new();
        encode_op_staged(&mut op, spec.id, self.db.0, argv, staged);
        self.apply(&op)
    }

    /// Applies the operation that `encode` appends.
    pub(crate) fn internal(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut op = Vec::new();
        encode(&mut op);
        self.apply(&op)
    }

    /// Stages a whole argument.
    pub(crate) fn stage(&mut self, id: u64, bytes: &[u8]) {
        let reply = self.internal(|out| encode_stage(out, id, 0, bytes));
        assert!(reply.starts_with(b":"));
    }

    fn apply(&mut self, op: &[u8]) -> Vec<u8> {
        let op = OpRef::decode(op).unwrap();
        let mut reply = Vec::new();
        let mut w = Writer::new(&mut reply, self.proto);
        let at = self.at();
        self.effects = self.engine.apply(&op, &at, &mut w).unwrap();
        reply
    }

    fn at(&mut self) -> At {
        self.seed = self.seed.wrapping_add(1);
        At { now_ms: self.now_ms, seed: self.seed }
    }
}
