//! Reads that take long: answered from a root of their own while nobody waits for the lock.

use std::sync::Arc;
use std::time::Duration;

use cairn_engine::{At, Effects, Engine, Fatal, Lent, Recency, read_lent, read_view};
use cairn_protocol::WireError;
use cairn_protocol::command::{CommandId, Spec};
use cairn_protocol::op::{OpRef, encode_op};
use cairn_protocol::resp::{Argv, Proto, Writer};
use cairn_store::{Db, Pin, Value, View};

/// How long a reply holds a root for whoever is slow to take it.
pub const HOLD: Duration = Duration::from_secs(1);

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
        self.answer(op, at, w, |view, recency, command, at, w| {
            read_view(view, recency, command, at, w)
        })
    }

    /// The same, but for the bytes of a long string: they are lent.
    fn read_lent(&self, op: &OpRef<'_>, at: &At, w: &mut Writer<'_>) -> (Effects, Option<Lent>) {
        self.answer(op, at, w, |view, recency, command, at, w| {
            read_lent(view, recency, command, at, w)
        })
    }

    fn answer<T: Default>(
        &self,
        op: &OpRef<'_>,
        at: &At,
        w: &mut Writer<'_>,
        read: impl FnOnce(
            View<'_>,
            &Recency,
            (&Spec, Db, Argv<'_>),
            &At,
            &mut Writer<'_>,
        ) -> Result<T, Fatal>,
    ) -> T {
        let at = At { now_ms: self.now_ms(at), ..*at };
        let start = w.position();
        let command = (op.command.spec(), Db(op.db), op.argv());
        read(self.pin.view(), &self.recency, command, &at, w).unwrap_or_else(|fatal| {
            w.truncate_to(start);
            w.error(&WireError::Corrupt(fatal.to_string()));
            T::default()
        })
    }
}

/// The reply to a read, or its first line; what reading did; and the bytes lent, if any.
pub type LongReply = (Vec<u8>, Effects, Option<Lent>);

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

    /// Of an encoded operation.
    pub(super) fn of(pinned: Pinned, op: Vec<u8>, at: At, proto: Proto, silent: bool) -> LongRead {
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

    /// Whether it costs no more than a look-up, since what may be much of it is lent.
    pub fn is_brief(&self) -> bool {
        matches!(self.spec().id, CommandId::Get | CommandId::GetRange | CommandId::SubStr)
    }

    /// Reads: the reply, and what reading did. When bytes are lent they come behind the reply, and
    /// the end of the line behind them.
    pub fn run(&self) -> LongReply {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, self.proto);
        let (effects, lent) = self.pinned.read_lent(&self.operation(), &self.at, &mut writer);
        (out, effects, lent)
    }

    /// Reads and copies what was lent: the whole reply.
    pub fn run_whole(&self) -> Vec<u8> {
        match self.run() {
            (out, _, Some(lent)) => self.copy_lent(out, &lent),
            (out, _, None) => out,
        }
    }

    fn copy_lent(&self, mut out: Vec<u8>, lent: &Lent) -> Vec<u8> {
        let copied = self.lent_value(lent).read(lent.range.clone(), &mut |bytes: &[u8]| {
            out.extend_from_slice(bytes);
        });
        match copied {
            Ok(()) => out.extend_from_slice(b"\r\n"),
            Err(error) => {
                out.clear();
                Writer::new(&mut out, self.proto).error(&WireError::Corrupt(error.to_string()));
            }
        }
        out
    }

    /// The value that it was lent.
    pub fn lent_value(&self, lent: &Lent) -> Value<'_> {
        self.pinned.pin.long_value(lent.value)
    }

    /// The same read of what is there now, if that lends the very same bytes: then this one need
    /// not be held any longer.
    pub fn renewed(&self, pinned: Pinned, lent: &Lent) -> Option<LongRead> {
        // A shard may have been given a peer's pool meanwhile.
        if !pinned.pin.is_of_the_pool_of(&self.pinned.pin) {
            return None;
        }
        let fresh = LongRead { pinned, op: self.op.clone(), ..*self };
        (fresh.run().2.as_ref() == Some(lent)).then_some(fresh)
    }

    /// What does instead of it without its root: the same read on `pinned`, if that lends the very
    /// same bytes.
    ///
    /// # Errors
    /// It does not: the whole reply.
    pub(super) fn let_go(&self, pinned: Pinned) -> Result<LongRead, Vec<u8>> {
        match self.run() {
            (out, _, Some(lent)) => {
                self.renewed(pinned, &lent).ok_or_else(|| self.copy_lent(out, &lent))
            }
            (out, _, None) => Err(out),
        }
    }
}

impl std::fmt::Debug for LongRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongRead").field("command", &self.spec().name).finish_non_exhaustive()
    }
}
