//! Evacuation: blocks are moved out of slabs that are nearly empty, so that the slabs become free,
//! and out of the last extents, so that the file becomes shorter.
//!
//! A pass surveys the slabs, chooses and closes the emptiest ([`crate::alloc::victims`]), goes
//! through the live data from the root down, and copies each block that lies in a chosen slab as
//! any write copies it. What it leaves behind becomes free two commits later, like all that dies.
//! Slabs that are not empty by then are opened again: a pass may miss what moved under its feet,
//! and the next one finds it.
//!
//! All of it is done in small steps between which anything may be written: the place where a pass
//! stands is a slot, a hash, a rank, never a block. Nothing of it is replicated, and nothing that
//! is replicated depends on it. A crash at any point finds the committed state, as ever.

mod walk;

use crate::alloc::Alloc;
use crate::alloc::victims::{Choice, Stuck, Survey};
use crate::error::{Result, StoreError};
use crate::heap::Offset;
use crate::keyspace::Db;
use crate::layout::pool::SLAB;
use crate::pool::Store;
use walk::Cursor;

/// A pass begins when slabs hold this much more than what lives...
const TOO_MUCH_PERCENT: u64 = 120;
/// ... and is to bring it down to this.
const WANTED_PERCENT: u64 = 108;
/// Extents whose slabs are closed or opened in one step.
const EXTENTS_A_STEP: u64 = 32;
/// As a part of the limit: with less room left a pass begins sooner, and does more.
const SHORT_PART: u64 = 8;
const TOO_MUCH_PERCENT_IF_SHORT: u64 = 106;
const WANTED_PERCENT_IF_SHORT: u64 = 102;

/// How a pass goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do.
    More,
    /// Commits have to free what has died first.
    Waits,
    /// It is over.
    Done,
}

/// What evacuation has done, for INFO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evacuated {
    /// Passes that moved something.
    pub passes: u64,
    /// Blocks moved, and their bytes.
    pub blocks: u64,
    /// Bytes of the blocks moved.
    pub bytes: u64,
    /// Slabs that were to be emptied and were not: of blocks that moved meanwhile, or are damaged.
    pub missed_slabs: u64,
    /// Damaged blocks that were left where they are.
    pub damaged: u64,
    /// The first of them.
    pub first_damaged_at: Option<u64>,
}

/// Evacuation of one pool: a pass under way, if any, and what passes have done.
#[derive(Default)]
pub struct Evacuation {
    stage: Stage,
    done: Evacuated,
    everything: bool,
    /// The pool that the pass is in.
    pool: [u8; 16],
    /// What was there when the pass began.
    began: Standing,
    /// It was over before its end, for the sake of writers.
    gave_way: bool,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Surveys(Survey),
    Closes(Choice, u64),
    Walks(Box<Cursor>),
    /// The epoch that must be committed, and not be the fall-back any more.
    Drains(u64),
    Opens(u64),
}

impl Evacuation {
    /// Passes that move all that can be moved, whatever that gains: for tests.
    pub fn of_everything() -> Evacuation {
        Evacuation { everything: true, ..Evacuation::default() }
    }

    /// Whether a pass is under way.
    pub fn is_running(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// What passes have done.
    pub fn done(&self) -> Evacuated {
        self.done
    }
}

fn reopen(extents: u64) -> Stage {
    // From the end, which may be cut off meanwhile.
    Stage::Opens(extents)
}

impl Store {
    /// Whether a pass would be worth its while, as far as can be told at once; with `last_resort`
    /// one that gets further than those which give way to writers.
    pub fn should_evacuate(&self, last_resort: bool) -> bool {
        let state = self.evacuation_state();
        let in_vain =
            |was: Fruitless| are_alike(was.standing, state) && !(last_resort && was.gave_way);
        !self.fruitless.is_some_and(in_vain) && self.is_wasteful()
    }

    /// What decides whether there is something to gain.
    fn evacuation_state(&self) -> Standing {
        let usage = self.usage();
        let extents_bytes = usage.extents_bytes.min(usage.capacity_bytes);
        Standing {
            bytes: [usage.used_bytes, usage.live_bytes, usage.kept_bytes, extents_bytes],
            keep_upto: self.heap.keep_upto,
        }
    }

    fn is_wasteful(&self) -> bool {
        let alloc = &self.heap.alloc;
        let usage = alloc.usage();
        let used = usage.used_bytes.saturating_sub(usage.dead_bytes);
        used > self.wanted_bytes(TOO_MUCH_PERCENT)
            || alloc.is_long(Alloc::extents_for(used.div_ceil(SLAB)))
            || alloc.extents() > alloc.extents_allowed()
            || (self.is_short() && used > self.wanted_bytes(TOO_MUCH_PERCENT_IF_SHORT))
    }

    /// What slabs may come to, as a part of what they hold. Each class has one that is being filled.
    fn wanted_bytes(&self, percent: u64) -> u64 {
        let usage = self.usage();
        (usage.live_bytes + usage.kept_bytes) / 100 * percent
            + self.heap.alloc.slabs_being_filled() * SLAB
    }

    /// Whether there is little room left for new slabs.
    fn is_short(&self) -> bool {
        self.heap.alloc.free_slab_bytes() < self.usage().capacity_bytes / SHORT_PART
    }

    /// Does some of a pass, beginning one if none is under way: `budget` blocks are looked at, or
    /// some slabs. With `last_resort` it takes room that is otherwise left to writers, but for
    /// what deletes need.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the pool cannot be gone through at all; damaged blocks are
    /// counted and left alone.
    pub fn evacuate(
        &mut self,
        pass: &mut Evacuation,
        budget: usize,
        last_resort: bool,
    ) -> Result<Progress> {
        if pass.pool != self.uuid() {
            // Another pool took the place of the one that it was in.
            pass.stage = Stage::Idle;
            pass.pool = self.uuid();
        }
        match std::mem::take(&mut pass.stage) {
            Stage::Idle => self.begin_pass(pass),
            Stage::Surveys(survey) => self.survey_some(pass, survey),
            Stage::Closes(choice, next) => self.close_some(pass, choice, next),
            Stage::Walks(cursor) => return self.walk_some(pass, cursor, budget, last_resort),
            Stage::Drains(epoch) => return Ok(self.drain(pass, epoch)),
            Stage::Opens(next) => self.open_some(pass, next),
        }
        Ok(if pass.is_running() { Progress::More } else { Progress::Done })
    }

    fn begin_pass(&mut self, pass: &mut Evacuation) {
        // Often the end of the file is free already, and nothing else is to be gained.
        self.cut_tail();
        if pass.everything || self.is_wasteful() {
            pass.began = self.evacuation_state();
            pass.gave_way = false;
            pass.stage = Stage::Surveys(Survey::default());
        }
    }

    /// Gives a pass up: what it closed is opened again.
    pub fn stop_evacuation(&mut self, pass: &mut Evacuation) {
        pass.stage = Stage::Idle;
        self.draining = false;
        if self.heap.alloc.has_leaving() {
            let missed = (0..self.heap.alloc.extents()).map(|at| self.heap.alloc.reopen(at));
            pass.done.missed_slabs += missed.sum::<u64>();
        }
    }

    /// Gives a pass up that met what the next one would meet again: there is none before what it met
    /// has changed.
    pub fn abandon_evacuation(&mut self, pass: &mut Evacuation) {
        self.stop_evacuation(pass);
        self.note_fruitless(false);
    }

    fn note_fruitless(&mut self, gave_way: bool) {
        self.fruitless = Some(Fruitless { standing: self.evacuation_state(), gave_way });
    }

    fn survey_some(&mut self, pass: &mut Evacuation, mut survey: Survey) {
        let stuck = Stuck { upto: self.heap.keep_upto, any: self.catalogue != 0 };
        match self.heap.alloc.survey(&mut survey, stuck) {
            Ok(true) => pass.stage = Stage::Surveys(survey),
            Ok(false) => self.choose(pass, &survey),
            Err(error) => {
                pass.note(&error);
                pass.stage = Stage::Surveys(survey);
            }
        }
    }

    fn choose(&mut self, pass: &mut Evacuation, survey: &Survey) {
        let percent = if self.is_short() { WANTED_PERCENT_IF_SHORT } else { WANTED_PERCENT };
        let chosen = match pass.everything {
            true => Some(Choice::everything()),
            false => self.heap.alloc.choose(survey, self.wanted_bytes(percent) / SLAB),
        };
        match chosen {
            Some(choice) => pass.stage = Stage::Closes(choice, 0),
            None => self.gain_nothing(),
        }
    }

    fn close_some(&mut self, pass: &mut Evacuation, mut choice: Choice, next: u64) {
        let end = (next + EXTENTS_A_STEP).min(self.heap.alloc.extents());
        (next..end).for_each(|extent| self.heap.alloc.close(&mut choice, extent));
        pass.stage = if end < self.heap.alloc.extents() {
            Stage::Closes(choice, end)
        } else if self.heap.alloc.has_leaving() {
            Stage::Walks(Box::new(Cursor::new(self.heap.keep_upto)))
        } else {
            self.gain_nothing();
            Stage::Idle
        };
    }

    /// Ends a pass that has nothing to move.
    fn gain_nothing(&mut self) {
        self.cut_tail();
        self.note_fruitless(false);
    }

    fn walk_some(
        &mut self,
        pass: &mut Evacuation,
        mut cursor: Box<Cursor>,
        budget: usize,
        last_resort: bool,
    ) -> Result<Progress> {
        if cursor.is_stale(self.heap.keep_upto) {
            // A snapshot taken meanwhile sees all that is not moved yet.
            pass.stage = reopen(self.heap.alloc.extents());
            return Ok(Progress::More);
        }
        let mut left = budget;
        while left > 0 {
            let is_scarce = self.heap.alloc.is_scarce();
            if is_scarce && (!last_resort || !self.heap.alloc.has_slabs_for_deletes()) {
                pass.gave_way |= !last_resort;
                return Ok(self.wait_for_room(pass, cursor));
            }
            match self.evacuate_next(&mut cursor, &mut pass.done, &mut left) {
                Ok(true) => {}
                Ok(false) => {
                    self.end_walk(pass);
                    return Ok(Progress::More);
                }
                // The file system may be full before the limit is reached.
                Err(StoreError::Full | StoreError::Io { .. }) => {
                    return Ok(self.wait_for_room(pass, cursor));
                }
                Err(error @ StoreError::Corrupt(_)) => {
                    pass.note(&error);
                    cursor.skip();
                }
                Err(error) => return Err(error),
            }
        }
        pass.stage = Stage::Walks(cursor);
        Ok(Progress::More)
    }

    /// Goes on when what has died is free; ends the pass when there is no such thing.
    fn wait_for_room(&mut self, pass: &mut Evacuation, cursor: Box<Cursor>) -> Progress {
        if self.usage().dead_bytes == 0 {
            self.end_walk(pass);
            return Progress::More;
        }
        self.draining = true;
        pass.stage = Stage::Walks(cursor);
        Progress::Waits
    }

    fn end_walk(&mut self, pass: &mut Evacuation) {
        pass.done.passes += 1;
        self.draining = true;
        pass.stage = Stage::Drains(self.heap.epoch);
    }

    /// Waits until what was left behind is free.
    fn drain(&mut self, pass: &mut Evacuation, epoch: u64) -> Progress {
        if self.is_released(epoch) || !self.heap.alloc.has_leaving() {
            self.draining = false;
            pass.stage = reopen(self.heap.alloc.extents());
            return Progress::More;
        }
        pass.stage = Stage::Drains(epoch);
        Progress::Waits
    }

    fn open_some(&mut self, pass: &mut Evacuation, next: u64) {
        let begin = next.saturating_sub(EXTENTS_A_STEP);
        let missed = (begin..next).map(|extent| self.heap.alloc.reopen(extent));
        pass.done.missed_slabs += missed.sum::<u64>();
        if begin > 0 && self.heap.alloc.has_leaving() {
            pass.stage = Stage::Opens(begin);
            return;
        }
        self.cut_tail();
        self.fruitless = None;
        if are_alike(pass.began, self.evacuation_state()) {
            self.note_fruitless(pass.gave_way);
        }
    }
}

/// What decides whether there is something to gain: what a pass that gained nothing met, the next
/// one would meet again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Used, live, kept by snapshots, and the file's.
    bytes: [u64; 4],
    /// What snapshots and pins see does not move, however little they alone keep.
    keep_upto: u64,
}

/// What a pass left that gained nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fruitless {
    standing: Standing,
    /// It left the room to writers that more of it would have taken.
    gave_way: bool,
}

fn are_alike(was: Standing, is: Standing) -> bool {
    let alike = |(was, is): (u64, u64)| is.abs_diff(was) <= was / 32 + SLAB;
    was.keep_upto == is.keep_upto && was.bytes.into_iter().zip(is.bytes).all(alike)
}

impl Evacuation {
    fn note(&mut self, error: &StoreError) {
        self.done.note(error);
    }
}

impl Evacuated {
    fn note(&mut self, error: &StoreError) {
        if let StoreError::Corrupt(corrupt) = error {
            self.damaged += 1;
            self.first_damaged_at.get_or_insert(corrupt.offset);
        }
    }

    fn moved(&mut self, len: usize) {
        self.blocks += 1;
        self.bytes += Alloc::block_bytes(len) as u64;
    }
}

/// The last database: that of staged arguments.
fn last_db() -> Db {
    Db(Db::COUNT)
}

/// Whether any of the blocks is in a slab that is being emptied.
fn any_leaving(alloc: &Alloc, blocks: &[Offset]) -> bool {
    blocks.iter().any(|&block| block != 0 && alloc.is_leaving(block))
}
