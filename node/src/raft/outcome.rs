//! What openraft is told to report a proposal's end to.
//!
//! Replies are written where the entry is applied; this only says when there will be none: openraft
//! refused the proposal, cut it from the log, or was shut down.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Weak;

use openraft::OptionalSend;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;

use super::state_machine::Member;
use super::types::TypeConfig;

/// How a proposal ended that was not applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It never will be, anywhere: it may be proposed again.
    NotExecuted,
    /// It may have been, or may yet be.
    Unknown,
}

/// A proposal's end: of use for `T = ClientWriteResult`, which is all that openraft makes of it.
pub struct Outcome<T> {
    group: Weak<dyn Member>,
    /// The proposal's number in its group.
    proposal: u64,
    done: bool,
    result: PhantomData<fn(T)>,
}

impl<T> Outcome<T> {
    pub(super) fn new(group: Weak<dyn Member>, proposal: u64) -> Outcome<T> {
        Outcome { group, proposal, done: false, result: PhantomData }
    }

    fn give_up(&mut self, end: End) {
        self.done = true;
        if let Some(group) = self.group.upgrade() {
            group.give_up(self.proposal, end);
        }
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Outcome<T> {
    fn on_complete(mut self, result: T) {
        match (&result as &dyn Any).downcast_ref::<ClientWriteResult<TypeConfig>>() {
            // It never came into the log. (Of what is cut from it openraft says something else: there
            // it may have been agreed on all the same, under another leader.)
            Some(Err(ClientWriteError::ForwardToLeader(_))) => self.give_up(End::NotExecuted),
            Some(Err(_)) => self.give_up(End::Unknown),
            _ => self.done = true,
        }
    }
}

impl<T> Drop for Outcome<T> {
    fn drop(&mut self) {
        if !self.done {
            self.give_up(End::Unknown);
        }
    }
}
