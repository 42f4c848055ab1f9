//! What a crash may leave, image by image, and whether each is what was promised.

use crate::content::history;
use crate::life::{CAPACITY, OPTIONS, State, Story, meta};
use cairn_protocol::ids::{LogIndex, Term};
use cairn_store::check::check;
use cairn_store::hash::mix;
use cairn_store::media::{Event, Granularity, HeapMedia, Lost, Pages, Replay};
use cairn_store::persist::Mem;
use cairn_store::pool::choose;
use cairn_store::{Db, Store, StoreError, Type};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How many of the possible images are looked at.
#[derive(Clone, Copy)]
pub struct Effort {
    /// With so many units at most that are not durable, every subset of them.
    pub few: usize,
    /// With more, so many of them alone, and as many missing; and as many pages.
    pub each: usize,
    /// And so many at random.
    pub random: u64,
    /// Of the moments, one in so many.
    pub stride: u64,
}

/// What became of a story.
#[derive(Default)]
pub struct Outcome {
    /// Flushes and fences passed.
    pub points: u64,
    /// Images judged; each was another one.
    pub images: u64,
    /// What was wrong, and where.
    pub wrong: Vec<String>,
}

/// Images that are known to be good for the states that were allowed.
pub type Seen = HashSet<(u64, usize, usize)>;

/// Judges what crashes would leave all along a story.
pub struct Judge<'a> {
    story: &'a Story,
    replay: Replay<'a>,
    granularity: Granularity,
    effort: Effort,
    allowed: (usize, usize),
    seed: u64,
    moments: u64,
    stop_at_first: bool,
    pub outcome: Outcome,
}

/// A version of a unit, and which of its words.
type Choice = (u64, usize, u64);

/// A unit as it was last.
fn last(&(at, versions): &(u64, usize)) -> Choice {
    (at, versions - 1, u64::MAX)
}

impl<'a> Judge<'a> {
    pub fn new(
        story: &'a Story,
        granularity: Granularity,
        lost: Option<Lost>,
        effort: Effort,
    ) -> Judge<'a> {
        let replay = Replay::new(&story.trace, granularity, lost);
        Judge {
            story,
            replay,
            granularity,
            effort,
            allowed: (0, 0),
            seed: 1,
            moments: 0,
            stop_at_first: lost.is_some(),
            outcome: Outcome::default(),
        }
    }

    /// Goes through all of it.
    pub fn run(mut self, seen: &mut Seen) -> Outcome {
        let mut changed = true;
        while let Some(event) = self.replay.peek() {
            match event {
                Event::Flush(site, ..) | Event::Fence(site, _) => {
                    self.outcome.points += 1;
                    // A pool has its name before an open takes it over.
                    if self.allowed == (0, 0)
                        && self.story.states[0] == State::Nothing
                        && site.file().ends_with("commit.rs")
                    {
                        self.allowed = (1, 1);
                        changed = true;
                    }
                    if changed {
                        self.moment(seen);
                    }
                    changed = matches!(event, Event::Fence(..));
                }
                Event::Mark(first, last) => {
                    self.allowed = (*first, *last);
                    changed = true;
                }
                Event::Stored(_) | Event::Grew(_) | Event::Shrank(_) => changed = true,
            }
            self.replay.step();
            if matches!(event, Event::Fence(..) | Event::Mark(..) | Event::Shrank(_)) {
                self.moment(seen);
            }
            if self.stop_at_first && !self.outcome.wrong.is_empty() {
                break;
            }
        }
        self.outcome
    }

    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(1);
        mix(self.seed)
    }

    /// A crash here.
    fn moment(&mut self, seen: &mut Seen) {
        self.moments += 1;
        if !self.moments.is_multiple_of(self.effort.stride) {
            return;
        }
        let units = self.replay.dirty();
        if units.len() <= self.effort.few {
            for subset in 0..1u64 << units.len() {
                let chosen = units.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
                self.image(chosen.map(|(_, unit)| last(unit)), seen);
            }
        } else {
            self.image([].into_iter(), seen);
            self.image(units.iter().map(last), seen);
            self.alone_and_missing(&units, 64, seen);
            self.alone_and_missing(&units, 4096, seen);
        }
        for _ in 0..self.effort.random {
            let chosen = self.at_random(&units);
            self.image(chosen.into_iter(), seen);
        }
    }

    /// Stretches of `len` bytes by themselves, and all but them.
    fn alone_and_missing(&mut self, units: &[(u64, usize)], len: u64, seen: &mut Seen) {
        let mut stretches: Vec<u64> = units.iter().map(|(at, _)| at / len).collect();
        stretches.dedup();
        let step = stretches.len().div_ceil(self.effort.each);
        let skip = self.next() as usize % step;
        for one in stretches.into_iter().skip(skip).step_by(step) {
            for alone in [true, false] {
                let chosen = units.iter().filter(|(at, _)| (at / len == one) == alone);
                self.image(chosen.map(last), seen);
            }
        }
    }

    /// Any units in any version; lines may be torn between words.
    fn at_random(&mut self, units: &[(u64, usize)]) -> Vec<Choice> {
        // Seldom a unit, every second one, nearly all.
        let odds = [4, 32, 60][self.next() as usize % 3];
        let torn = self.granularity == Granularity::CacheLine && self.next() & 1 == 1;
        let mut chosen = Vec::new();
        for &(at, versions) in units {
            if self.next() % 64 < odds {
                let mask = if torn { self.next() } else { u64::MAX };
                chosen.push((at, self.next() as usize % versions, mask));
            }
        }
        chosen
    }

    fn image(&mut self, chosen: impl Iterator<Item = Choice>, seen: &mut Seen) {
        if self.stop_at_first && !self.outcome.wrong.is_empty() {
            return;
        }
        let (mut image, mut hash) = self.replay.durable();
        for (at, version, mask) in chosen {
            hash ^= self.replay.put(&mut image, at, version, mask);
        }
        let mut longer = image.clone();
        if let Some(more) = self.replay.put_back(&mut longer) {
            self.judge(&longer, hash ^ more, seen);
        }
        self.judge(&image, hash, seen);
    }

    fn judge(&mut self, image: &Pages, hash: u64, seen: &mut Seen) {
        if !seen.insert((hash, self.allowed.0, self.allowed.1)) {
            return;
        }
        self.outcome.images += 1;
        let allowed = &self.story.states[self.allowed.0..=self.allowed.1];
        if let Err(why) = judge(image, allowed, hash) {
            let Outcome { points, wrong, .. } = &mut self.outcome;
            wrong.push(format!("{}, persist point {points}: {why}", self.story.name));
        }
    }
}

/// Whether an image opens as one of the states that are allowed, is sound, and can be gone on with.
pub fn judge(image: &Pages, allowed: &[State], salt: u64) -> Result<(), String> {
    let judged = catch_unwind(AssertUnwindSafe(|| judge_image(image, allowed, salt)));
    judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("of another kind")))
    })
}

fn judge_image(image: &Pages, allowed: &[State], salt: u64) -> Result<(), String> {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(image, CAPACITY))));
    if allowed[0] == State::Nothing {
        // Whoever looks at it is told, or finds a pool; nobody promised more.
        return Ok(());
    }
    let said = |e: StoreError| e.to_string();
    let superblock = choose(&mem).map_err(said)?.superblock;
    let orderly = superblock.ceiling == superblock.epoch && superblock.voids.is_empty();
    sound(&mem, "as it was left")?;
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).map_err(said)?;
    let found = history(&store).map_err(said)?;
    let fits = |state: &State| match state {
        State::Nothing => false,
        State::Committed(wanted) => **wanted == found,
        State::Closed(wanted) => orderly && **wanted == found,
    };
    if !allowed.iter().any(fits) {
        return Err(describe(&found.live.len(), orderly, allowed));
    }
    // Goes on, and dies again in the midst of it.
    if salt & 1 == 1 {
        while committer.sweep(3).map_err(said)? {}
    }
    let mut wanted = found;
    for round in 0..2u8 {
        let name = [b'z', round];
        store.put(Db(3), &store.key(&name), meta(Type::String), &[round; 40]).map_err(said)?;
        wanted.live.insert((3, name.to_vec()), (vec![round; 40], None));
        wanted.applied += 1;
        store.set_applied(Term(2), LogIndex(wanted.applied), 1);
        let sealed = store.seal().ok_or("nothing to commit")?;
        store.release(committer.commit(sealed).map_err(said)?);
    }
    store.put(Db(3), &store.key(b"lost"), meta(Type::String), b"never committed").map_err(said)?;
    sound(&mem, "after going on")?;
    let (store, ..) = Store::open(mem, &OPTIONS).map_err(said)?;
    if history(&store).map_err(said)? != wanted {
        return Err("what was written after the crash is not what was found".into());
    }
    Ok(())
}

fn sound(mem: &Arc<Mem>, when: &str) -> Result<(), String> {
    let report = check(mem.clone(), true, &mut |_, _| {}).map_err(|e| e.to_string())?;
    if report.is_clean() {
        return Ok(());
    }
    Err(format!("{when}: {} leaked blocks, {:?}", report.leaked_blocks, report.problems.first()))
}

fn describe(keys: &usize, orderly: bool, allowed: &[State]) -> String {
    let wanted: Vec<String> = allowed
        .iter()
        .map(|state| match state {
            State::Nothing => "nothing".to_owned(),
            State::Committed(h) => format!("{} keys at {}", h.live.len(), h.applied),
            State::Closed(h) => format!("{} keys at {}, closed", h.live.len(), h.applied),
        })
        .collect();
    format!("{keys} keys{}, not {}", if orderly { ", closed" } else { "" }, wanted.join(" or "))
}
