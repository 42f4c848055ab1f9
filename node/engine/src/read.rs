//! The door for commands that only read.

use cairn_protocol::WireError;
use cairn_protocol::command::Spec;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Db, StoreError, View};

use crate::apply::{At, Engine};
use crate::commands::{Handler, handler};
use crate::effects::Effects;
use crate::failure::{Failure, Fatal};
use crate::keyspace::ReadContext;
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
        let now_ms = at.now_ms.max(self.store.clock_ms());
        read_view(self.store.view(), &self.recency, spec, db, argv, &At { now_ms, ..*at }, w)
    }
}

/// As [`Engine::read`], on any root: with a pinned one a long read (KEYS) holds no lock.
///
/// The caller makes sure that `at` is not before the shard's clock.
///
/// # Errors
/// As [`Engine::read`].
#[inline]
pub fn read_view(
    view: View<'_>,
    recency: &Recency,
    spec: &Spec,
    db: Db,
    argv: Argv<'_>,
    at: &At,
    w: &mut Writer<'_>,
) -> Result<Effects, Fatal> {
    let Handler::Read(read) = handler(spec.id) else {
        w.error_text("ERR this command is not a read");
        return Ok(Effects::default());
    };
    let start = w.position();
    let mut cx = ReadContext {
        view,
        recency,
        db,
        now_ms: at.now_ms,
        seed: at.seed,
        effects: Effects::default(),
    };
    let outcome = read(&mut cx, argv, w);
    let effects = cx.effects;
    if let Err(failure) = outcome {
        w.truncate_to(start);
        let error = read_error(failure);
        w.error(&error.map_err(|source| Fatal { command: spec.name, source })?);
    }
    Ok(effects)
}

/// What of a reader's failures is a reply.
#[cold]
fn read_error(failure: Failure) -> Result<WireError, StoreError> {
    match failure {
        Failure::Reply(error) => Ok(error),
        Failure::Store(error @ StoreError::Corrupt(_)) => Ok(WireError::Corrupt(error.to_string())),
        Failure::Store(error @ (StoreError::Full | StoreError::TooLong { .. })) => {
            Ok(WireError::Custom(format!("ERR {error}")))
        }
        Failure::Store(error) => Err(error),
    }
}
