//! Reads that take long: answered from a root of their own while nobody waits for the lock.

use std::sync::Arc;

use cairn_engine::{At, Effects, Engine, Recency, read_view};
use cairn_protocol::WireError;
use cairn_protocol::command::Spec;
use cairn_protocol::op::{OpRef, encode_op};
use cairn_protocol::resp::{Argv, Proto, Writer};
use cairn_store::{Db, Pin};

/// A root that no write changes while this is held.
pub struct Pinned {
    /// Holds it.
    pin: Pin,
    /// When its keys were used.
    recency: Arc<Recency>,
    /// The shard's time when it was taken: reads must not see an earlier one.
    clock_ms: u64,
}

impl Pinned {
    /// What the engine holds now. Takes no time, whatever that is.
    pub(super) fn of(engine: &mut Engine) -> Pinned {
        let recency = Arc::clone(engine.recency());
        let store = engine.store_mut();
        Pinned { clock_ms: store.clock_ms(), pin: store.pin(), recency }
    }

    /// The time that a read sees which was asked for at `at`.
    pub fn now_ms(&self, at: &At) -> u64 {
        at.now_ms.max(self.clock_ms)
    }

    /// Answers a read, however long it takes.
    pub fn read(&self, op: &OpRef<'_>, at: &At, w: &mut Writer<'_>) -> Effects {
        let at = At { now_ms: self.now_ms(at), ..*at };
        let (start, spec, argv) = (w.position(), op.command.spec(), op.argv());
        let read = read_view(self.pin.view(), &self.recency, spec, Db(op.db), argv, &at, w);
        read.unwrap_or_else(|fatal| {
            w.truncate_to(start);
            w.error(&WireError::Corrupt(fatal.to_string()));
            Effects::default()
        })
    }
}

/// A read with all it needs, to be run where it holds nobody up.
pub struct LongRead {
    pinned: Pinned,
    op: Vec<u8>,
    at: At,
    proto: Proto,
    /// Its reply is dropped.
    pub silent: bool,
}

impl LongRead {
    /// Of a command as it came.
    pub fn new(
        pinned: Pinned,
        (spec, db, argv): (&'static Spec, u16, Argv<'_>),
        at: At,
        proto: Proto,
        silent: bool,
    ) -> LongRead {
        let mut op = Vec::new();
        encode_op(&mut op, spec.id, db, argv);
        LongRead { pinned, op, at, proto, silent }
    }

    fn operation(&self) -> OpRef<'_> {
        OpRef::decode(&self.op).expect("encode_op and OpRef::decode agree")
    }

    /// The command.
    pub fn spec(&self) -> &'static Spec {
        self.operation().command.spec()
    }

    /// Its arguments.
    pub fn argv(&self) -> Argv<'_> {
        self.operation().argv()
    }

    /// Reads: the reply, and what reading did.
    pub fn run(&self) -> (Vec<u8>, Effects) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, self.proto);
        let effects = self.pinned.read(&self.operation(), &self.at, &mut writer);
        (out, effects)
    }
}

impl std::fmt::Debug for LongRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongRead").field("command", &self.spec().name).finish_non_exhaustive()
    }
}
