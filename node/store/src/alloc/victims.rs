//! Which slabs are emptied so that the rest is fuller and the file shorter.
//!
//! A survey counts how full the slabs of each class are, some extents at a time; from that a choice
//! is made: the emptiest slabs, as many as it takes, and all that lie behind the place where the
//! file could end. What is chosen takes no more blocks. Nothing here moves any.
//!
//! What is moved out of the emptiest finds its places in those that stay: where slabs are all about
//! as full as each other, some of them stay for that. New slabs would gain no more, and a slab is
//! free again only when its last block has left: a pass that needs new ones runs out of them half
//! way where it matters, in a pool that is full.

use super::{Alloc, NO_CLASS, SLABS_A_CHANGE, Slab, record, slab_at, slab_of};
use crate::error::Result;
use crate::layout::pool::{
    BIRTH_MASK, CLASS_BYTES, EXTENT, RECORDS_PER_EXTENT_BYTES, SLAB, SLABS_PER_EXTENT, kind,
};

/// Degrees of fullness that are told apart.
const DEGREES: usize = 32;
/// Slabs that a few deletes may begin: one of each size of node, and what these come to.
const SLABS_A_DELETE: u64 = 14;
/// Blocks whose births are looked at between two looks at the clock.
const BIRTHS_AT_ONCE: u64 = 256;

/// Slabs of one class that are about as full as each other.
#[derive(Clone, Copy, Default)]
struct Tally {
    slabs: u64,
    blocks: u64,
    room: u64,
}

/// How full the slabs are.
pub(crate) struct Survey {
    /// The next extent to look at.
    next: u64,
    /// By class and fullness; those that cannot be emptied count as full.
    tallies: Vec<[Tally; DEGREES]>,
    /// What those have room for, by class.
    stuck_room: Vec<u64>,
    slabs: u64,
    /// Slabs that hold something, by extent.
    in_use: Vec<u8>,
    /// The last extent with a slab that cannot be emptied, and one.
    stuck_upto: u64,
}

impl Default for Survey {
    fn default() -> Survey {
        Survey {
            next: 0,
            tallies: vec![[Tally::default(); DEGREES]; CLASS_BYTES.len()],
            stuck_room: vec![0; CLASS_BYTES.len()],
            slabs: 0,
            in_use: Vec::new(),
            stuck_upto: 0,
        }
    }
}

/// Which slabs are to be emptied.
pub(crate) struct Choice {
    /// Up to which fullness, by class; none at 0.
    below: Vec<usize>,
    /// How many of the fullest of those stay, by class.
    stay: Vec<u64>,
    /// All from this extent on.
    cut: u64,
}

/// What cannot be moved.
#[derive(Clone, Copy)]
pub(crate) struct Stuck {
    /// What was born up to this epoch a snapshot sees: it would only be there twice.
    pub(crate) upto: u64,
    /// Whether there are snapshots, or what is left of them.
    pub(crate) any: bool,
}

fn degree(slab: &Slab) -> usize {
    (usize::from(slab.used) * DEGREES / record::capacity(slab.class)).min(DEGREES - 1)
}

impl Choice {
    /// All slabs that can be emptied.
    pub(crate) fn everything() -> Choice {
        let classes = CLASS_BYTES.len();
        Choice { below: vec![DEGREES; classes], stay: vec![0; classes], cut: u64::MAX }
    }

    /// Whether the next of the slabs, from the first extent on, is chosen.
    fn takes(&mut self, slab: &Slab, extent: u64) -> bool {
        let (class, fullest) = (slab.class as usize, degree(slab) + 1);
        let stays = fullest == self.below[class] && self.stay[class] > 0;
        self.stay[class] -= u64::from(stays);
        extent >= self.cut || (fullest <= self.below[class] && !stays)
    }
}

impl Survey {
    fn add(&mut self, slab: &Slab) {
        let (class, capacity) = (slab.class as usize, record::capacity(slab.class) as u64);
        let room = capacity - u64::from(slab.used);
        self.slabs += 1;
        if slab.stuck {
            self.stuck_room[class] += room;
            return;
        }
        let tally = &mut self.tallies[class][degree(slab)];
        tally.slabs += 1;
        tally.blocks += u64::from(slab.used);
        tally.room += room;
    }

    /// Of the slabs of a class below `limit`: how many there are, and how many have to stay so that
    /// the blocks of the others find a place.
    fn emptied(&self, class: usize, limit: usize) -> (u64, u64) {
        let sum = |tallies: &[Tally]| {
            tallies.iter().fold(Tally::default(), |sum, more| Tally {
                slabs: sum.slabs + more.slabs,
                blocks: sum.blocks + more.blocks,
                room: sum.room + more.room,
            })
        };
        let (emptied, rest) = self.tallies[class].split_at(limit);
        let (emptied, rest) = (sum(emptied), sum(rest));
        let homeless = emptied.blocks.saturating_sub(rest.room + self.stuck_room[class]);
        // One that stays takes its own blocks off them and has room for others: a slab's worth.
        let stay = homeless.div_ceil(record::capacity(class as u8) as u64);
        (emptied.slabs, stay.min(emptied.slabs))
    }

    /// The best limit of a class that is not above `most`, how many below it stay, and how many are
    /// gained.
    fn best(&self, class: usize, most: usize) -> Best {
        let all = (1..=most).map(|limit| {
            let (slabs, stay) = self.emptied(class, limit);
            Best { limit, stay, gain: slabs - stay }
        });
        // Of equals the lowest: it moves least, and those that stay are all of its last degree.
        all.fold(Best::default(), |best, next| if next.gain > best.gain { next } else { best })
    }

    /// The emptiest slabs of all classes that free at least `wanted`, or as many as can be.
    fn emptiest(&self, wanted: u64) -> Vec<Best> {
        let classes = 0..self.tallies.len();
        let mut chosen = vec![Best::default(); classes.len()];
        for most in 1..=DEGREES {
            if gain(&chosen) >= wanted {
                break;
            }
            chosen = classes.clone().map(|class| self.best(class, most)).collect();
        }
        chosen
    }

    /// The first extent that what lies behind it may leave, not before `fit`: the slabs before it
    /// have room for that, and `spare` slabs are left.
    fn cut(&self, fit: u64, extents: u64, spare: u64) -> u64 {
        let in_use = |extent: u64| {
            let counted = self.in_use.get(extent as usize);
            counted.map_or(SLABS_PER_EXTENT, |&slabs| u64::from(slabs))
        };
        let mut free: u64 = (0..extents).map(|extent| SLABS_PER_EXTENT - in_use(extent)).sum();
        let (all, mut behind, mut cut) = (free, 0, extents);
        while cut > fit {
            behind += in_use(cut - 1);
            free -= SLABS_PER_EXTENT - in_use(cut - 1);
            if behind > free || behind + spare > all {
                break;
            }
            cut -= 1;
        }
        cut
    }
}

/// What is best emptied of a class.
#[derive(Clone, Copy, Default)]
struct Best {
    limit: usize,
    stay: u64,
    gain: u64,
}

fn gain(chosen: &[Best]) -> u64 {
    chosen.iter().map(|best| best.gain).sum()
}

impl Alloc {
    /// Whether the block's slab is being emptied.
    #[inline]
    pub(crate) fn is_leaving(&self, block: u64) -> bool {
        self.slabs_leaving > 0 && self.is_in_leaving(block)
    }

    fn is_in_leaving(&self, block: u64) -> bool {
        let Some((slab, _)) = slab_of(block) else { return false };
        let extent = self.extents.get((slab / SLABS_PER_EXTENT) as usize);
        let extent = extent.and_then(Option::as_ref);
        extent.is_some_and(|slabs| slabs[(slab % SLABS_PER_EXTENT) as usize].leaving)
    }

    /// Whether slabs are being emptied.
    pub(crate) fn has_leaving(&self) -> bool {
        self.slabs_leaving > 0
    }

    /// Slabs that may be part empty because blocks of their class are being put there.
    pub(crate) fn slabs_being_filled(&self) -> u64 {
        self.classes.iter().filter(|class| class.current.is_some()).count() as u64
    }

    /// Whether there is so little room for new slabs that it should be left to writers.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free_slab_bytes() < self.scarce_slabs() * SLAB
    }

    fn scarce_slabs(&self) -> u64 {
        2 * SLABS_A_CHANGE as u64 + self.promised_bytes.div_ceil(SLAB)
    }

    /// Whether there is room for deletes beside what is kept for the dropping of snapshots.
    pub(crate) fn has_slabs_for_deletes(&self) -> bool {
        self.slabs_at_hand() >= SLABS_A_DELETE + self.held_slabs
    }

    /// Extents that the limit allows, and the medium has addresses for.
    pub(crate) fn extents_allowed(&self) -> u64 {
        (self.capacity_bytes / (EXTENT + RECORDS_PER_EXTENT_BYTES)).min(self.extents_mapped_at_most)
    }

    /// Extents that so many slabs should fill, with room for what changes meanwhile.
    pub(crate) fn extents_for(slabs: u64) -> u64 {
        (slabs + slabs / 16).div_ceil(SLABS_PER_EXTENT) + 1
    }

    /// Counts the slabs of the next extents; says whether there are more.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when the records of an extent are damaged; it counts as full.
    pub(crate) fn survey(&mut self, survey: &mut Survey, stuck: Stuck) -> Result<bool> {
        let mut births = BIRTHS_AT_ONCE;
        for _ in 0..64 {
            let extent = survey.next;
            if extent >= self.extents() {
                return Ok(false);
            }
            survey.next += 1;
            survey.in_use.push(SLABS_PER_EXTENT as u8);
            let loads = self.extents[extent as usize].is_none();
            if let Err(error) = self.load(extent as usize) {
                survey.stuck_upto = extent + 1;
                survey.slabs += SLABS_PER_EXTENT;
                return Err(error);
            }
            self.survey_extent(survey, extent, stuck, &mut births)?;
            if loads || births == 0 {
                break;
            }
        }
        Ok(true)
    }

    fn survey_extent(
        &mut self,
        survey: &mut Survey,
        extent: u64,
        stuck: Stuck,
        births: &mut u64,
    ) -> Result<()> {
        for slab in extent * SLABS_PER_EXTENT..(extent + 1) * SLABS_PER_EXTENT {
            if self.slab(slab).class == NO_CLASS {
                if self.slab(slab).damaged {
                    survey.slabs += 1;
                    survey.stuck_upto = extent + 1;
                } else {
                    survey.in_use[extent as usize] -= 1;
                }
                continue;
            }
            let is_stuck = stuck.any && self.is_stuck(slab, stuck, births)?;
            self.slab(slab).stuck = is_stuck;
            if is_stuck {
                survey.stuck_upto = extent + 1;
            }
            survey.add(self.slab(slab));
        }
        Ok(())
    }

    /// Whether the slab holds a block that cannot be moved.
    fn is_stuck(&mut self, slab: u64, stuck: Stuck, births: &mut u64) -> Result<bool> {
        let state = self.slab(slab);
        let bytes = u64::from(CLASS_BYTES[state.class as usize]);
        let bits = state.bits.clone();
        for (word, &bits) in bits.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let index = word as u64 * 64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                *births = births.saturating_sub(1);
                let head = self.mem.word(slab_at(slab) + index * bytes)?;
                let kind = (head >> 48) as u8;
                let is_list = matches!(kind, kind::KEPT | kind::GARBAGE | kind::DROPPED);
                if is_list || head & BIRTH_MASK <= stuck.upto {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Chooses what to empty, so that the slabs come to `wanted_slabs` at most, or to as few as
    /// can be, and the file could end soon behind them. `None` when nothing would be gained.
    pub(crate) fn choose(&self, survey: &Survey, wanted_slabs: u64) -> Option<Choice> {
        let chosen = survey.emptiest(survey.slabs.saturating_sub(wanted_slabs));
        let (gained, extents) = (gain(&chosen), self.extents());
        let fit = Alloc::extents_for(survey.slabs - gained).max(survey.stuck_upto);
        let shorter = self.is_long(fit) || extents > self.extents_allowed();
        let cut = if shorter { survey.cut(fit, extents, self.scarce_slabs()) } else { extents };
        let (below, stay) = chosen.iter().map(|best| (best.limit, best.stay)).unzip();
        (gained > 0 || cut < extents).then_some(Choice { below, stay, cut })
    }

    /// Whether the file is so much longer than `extents` that it is worth to make it shorter.
    pub(crate) fn is_long(&self, extents: u64) -> bool {
        self.extents() > extents + 1 + extents / 8
    }

    /// Lets go of the free extents at the end, when there are so many that it is worth to make the
    /// file shorter, or more than the limit allows; says whether there were any.
    pub(crate) fn cut_tail(&mut self) -> bool {
        let fit = Alloc::extents_for(self.usage().used_bytes.div_ceil(SLAB));
        if !self.is_long(fit) && self.extents() <= self.extents_allowed() {
            return false;
        }
        let (before, keep) = (self.extents(), fit.min(self.extents_allowed()));
        while self.extents() > keep && self.is_last_free() {
            self.cut_last();
        }
        self.extents() < before
    }

    /// Whether the last extent holds no block. One that is not loaded may.
    fn is_last_free(&self) -> bool {
        let last = self.extents.last().and_then(Option::as_ref);
        last.is_some_and(|slabs| slabs.iter().all(Slab::holds_nothing))
    }

    fn cut_last(&mut self) {
        let last = self.extents() - 1;
        for slab in last * SLABS_PER_EXTENT..(last + 1) * SLABS_PER_EXTENT {
            let class = self.slab(slab).class;
            // A class's current slab keeps its class when it is empty.
            if class != NO_CLASS {
                self.classes[class as usize].current = None;
                self.vacate(slab);
            }
            self.free_slabs.remove(&slab);
        }
        self.extents.pop();
        self.extents_loaded -= 1;
        self.unloaded = self.unloaded.min(self.extents.len());
    }

    /// Closes the slabs of an extent that are chosen; to be called for one after another.
    pub(crate) fn close(&mut self, choice: &mut Choice, extent: u64) {
        if extent >= self.extents() || self.extents[extent as usize].is_none() {
            return;
        }
        for slab in extent * SLABS_PER_EXTENT..(extent + 1) * SLABS_PER_EXTENT {
            let state = self.slab(slab);
            if state.class == NO_CLASS || state.stuck || state.leaving {
                continue;
            }
            if choice.takes(state, extent) {
                self.close_slab(slab);
            }
        }
    }

    fn close_slab(&mut self, slab: u64) {
        let state = self.slab(slab);
        state.leaving = true;
        let (class, used) = (state.class as usize, state.used);
        self.slabs_leaving += 1;
        if self.classes[class].current == Some(slab) {
            self.classes[class].current = None;
        }
        if used == 0 {
            self.vacate(slab);
        }
    }

    /// Lets the slabs of an extent be used again that were to be emptied and are not empty; returns
    /// how many there are.
    pub(crate) fn reopen(&mut self, extent: u64) -> u64 {
        if extent >= self.extents() || self.extents[extent as usize].is_none() {
            return 0;
        }
        let before = self.slabs_leaving;
        for slab in extent * SLABS_PER_EXTENT..(extent + 1) * SLABS_PER_EXTENT {
            let state = self.slab(slab);
            if !state.leaving {
                continue;
            }
            state.leaving = false;
            let list = !state.listed && !state.is_full();
            state.listed |= list;
            let class = state.class as usize;
            self.slabs_leaving -= 1;
            if list {
                self.classes[class].partial.push(slab);
            }
        }
        before - self.slabs_leaving
    }
}
