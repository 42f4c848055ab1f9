//! Which keys to reclaim whose time has passed: the choice, made by whoever proposes.
//!
//! What cannot be read is passed over, for an operation that names it could not be applied. Bytes
//! differ between replicas in nothing but damage, so the names are logged, and every replica deletes
//! just those.

use cairn_store::{Db, StoreError};

use crate::apply::Engine;
use crate::commands::internal::{encode_expire, runs_of_names};

/// How many deadlines of each database, from the first on, belong to keys that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver {
    of: [u64; DATABASES],
    /// The database that is looked at first.
    turn: usize,
}

/// That of staged arguments among them.
const DATABASES: usize = Db::COUNT as usize + 1;

/// Keys whose time has passed.
#[derive(Debug, Default)]
pub struct Expired {
    names: Vec<(Db, Vec<u8>)>,
    /// How many were passed over.
    pub unreadable: u64,
    /// Why the first of those was.
    pub damage: Option<StoreError>,
    /// There may be more.
    pub has_more: bool,
}

impl Expired {
    /// Whether there are none that can be read.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Calls `push` with each operation that deletes some of them.
    pub fn encode(&self, mut push: impl FnMut(&dyn Fn(&mut Vec<u8>))) {
        for (db, names) in runs_of_names(&self.names, usize::MAX) {
            push(&|out| encode_expire(out, db, names.clone()));
        }
    }

    fn pass_over(&mut self, damage: StoreError) {
        self.unreadable += 1;
        self.damage.get_or_insert(damage);
    }
}

impl Engine {
    /// Keys whose deadline is at or before `now_ms`, database by database, each one first in its turn,
    /// the earliest first, behind those `passed_over`; `most` of them are looked at.
    pub fn expired(&self, now_ms: u64, passed_over: &mut PassedOver, most: usize) -> Expired {
        let mut expired = Expired::default();
        let mut left = most;
        for step in 0..DATABASES {
            let db = (passed_over.turn + step) % DATABASES;
            let from = &mut passed_over.of[db];
            self.expired_of(Db(db as u16), now_ms, from, &mut left, &mut expired);
        }
        passed_over.turn = (passed_over.turn + 1) % DATABASES;
        expired.has_more = left == 0;
        expired
    }

    fn expired_of(
        &self,
        db: Db,
        now_ms: u64,
        passed_over: &mut u64,
        left: &mut usize,
        expired: &mut Expired,
    ) {
        let view = self.store.view();
        let mut rank = *passed_over;
        while *left > 0 && rank < view.expires(db) {
            let found = match view.deadline(db, rank) {
                Ok(Some(deadline)) if deadline.ms() <= now_ms => view.key_of(&deadline),
                Ok(_) => return,
                Err(error) => Err(error),
            };
            match found {
                Ok(record) => expired.names.push((db, record.key().to_vec())),
                Err(error) => {
                    *passed_over += 1;
                    expired.pass_over(error);
                }
            }
            rank += 1;
            *left -= 1;
        }
    }
}
