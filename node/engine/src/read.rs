//! The door for commands that only read.

use cairn_protocol::WireError;
use cairn_protocol::command::Spec;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, Key, StoreError, View};

use crate::apply::{At, Engine};
use crate::commands::{Handler, handler};
use crate::effects::Effects;
use crate::failure::{Failure, Fatal};
use crate::keyspace::{Hold, Lent, ReadContext};
use crate::recency::Recency;

impl Engine {
    /// Executes a reading command, whose arity has been checked, and writes its reply into `w`.
    ///
    /// Readers may run side by side. Damage that a read meets is a reply: it names the place and
    /// what to do, and the other keys stay readable.
    ///
    /// # Errors
    /// [`Fatal`] when the medium fails altogether.
    #[inline]
    pub fn read(
        &self,
        spec: &Spec,
        db: Db,
        argv: Argv<'_>,
        at: &At,
        w: &mut Writer<'_>,
    ) -> Result<Effects, Fatal> {
        self.read_hashed(spec, db, argv, None, at, w)
    }

    /// As [`read`](Self::read), with the hash of one of its keys known from
    /// [`prefetch`](Self::prefetch): `key` borrows the very bytes that `argv` borrows.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline]
    pub fn read_hashed(
        &self,
        spec: &Spec,
        db: Db,
        argv: Argv<'_>,
        key: Option<Key<'_>>,
        at: &At,
        w: &mut Writer<'_>,
    ) -> Result<Effects, Fatal> {
        self.read_with(Hold::Call, spec, db, argv, key, at, w)
    }

    /// As [`read_hashed`](Self::read_hashed), for callers that hold up others: a read that would
    /// take long writes nothing and says so in [`Effects::deferred`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline]
    pub fn read_or_defer(
        &self,
        spec: &Spec,
        db: Db,
        argv: Argv<'_>,
        key: Option<Key<'_>>,
        at: &At,
        w: &mut Writer<'_>,
    ) -> Result<Effects, Fatal> {
        self.read_with(Hold::Lock, spec, db, argv, key, at, w)
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn read_with(
        &self,
        hold: Hold,
        spec: &Spec,
        db: Db,
        argv: Argv<'_>,
        key: Option<Key<'_>>,
        at: &At,
        w: &mut Writer<'_>,
    ) -> Result<Effects, Fatal> {
        let cx = ReadContext {
            view: self.store.view(),
            recency: &self.recency,
            db,
            now_ms: at.now_ms.max(self.store.clock_ms()),
            seed: at.seed,
            hashed: key,
            hold,
            lent: None,
            effects: Effects::default(),
        };
        execute(cx, spec, argv, w).map(|(effects, _)| effects)
    }
}

/// As [`Engine::read`], on any root: with a pinned one a long read (KEYS) holds no lock.
///
/// The caller makes sure that `at` is not before the shard's clock.
///
/// # Errors
/// As [`Engine::read`].
pub fn read_view(
    view: View<'_>,
    recency: &Recency,
    (spec, db, argv): (&Spec, Db, Argv<'_>),
    at: &At,
    w: &mut Writer<'_>,
) -> Result<Effects, Fatal> {
    let cx = ReadContext::of_view(view, recency, db, at, Hold::Call);
    execute(cx, spec, argv, w).map(|(effects, _)| effects)
}

/// As [`read_view`], for a caller that holds the root until the reply is sent: where the answer is
/// a long string its bytes are lent. Then `w` has the reply's first line, and the caller sends
/// those bytes and the end of the line.
///
/// # Errors
/// As [`Engine::read`].
pub fn read_lent(
    view: View<'_>,
    recency: &Recency,
    (spec, db, argv): (&Spec, Db, Argv<'_>),
    at: &At,
    w: &mut Writer<'_>,
) -> Result<(Effects, Option<Lent>), Fatal> {
    execute(ReadContext::of_view(view, recency, db, at, Hold::Pin), spec, argv, w)
}

#[inline]
fn execute(
    mut cx: ReadContext<'_>,
    spec: &Spec,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<(Effects, Option<Lent>), Fatal> {
    let Handler::Read(read) = handler(spec.id) else {
        w.error_text("ERR this command is not a read");
        return Ok((Effects::default(), None));
    };
    let start = w.position();
    if let Err(failure) = read(&mut cx, argv, w) {
        w.truncate_to(start);
        if matches!(failure, Failure::Deferred) {
            // The one who reads it in the end counts what it found.
            return Ok((Effects { deferred: true, ..Effects::default() }, None));
        }
        let error = read_error(failure);
        w.error(&error.map_err(|source| Fatal { command: spec.name, source })?);
    }
    Ok((cx.effects, cx.lent))
}

/// What of a reader's failures is a reply.
#[cold]
fn read_error(failure: Failure) -> Result<WireError, StoreError> {
    match failure {
        Failure::Reply(error) => Ok(error),
        Failure::Deferred => Ok(WireError::Static("ERR a read that nobody could finish")),
        Failure::Store(error @ StoreError::Corrupt(_)) => Ok(WireError::Corrupt(error.to_string())),
        Failure::Store(error @ (StoreError::Full | StoreError::TooLong { .. })) => {
            Ok(WireError::Custom(format!("ERR {error}")))
        }
        Failure::Store(error) => Err(error),
    }
}
