//! A pool and its log, each on a medium that crashes, both at the same moment: what comes back is
//! the state after the last entry of the log, and that is no earlier than the last one acknowledged.

use super::content::{History, history};
use super::model::open;
use crate::check::check;
use crate::layout::pool::SUPERBLOCK_AT;
use crate::log::crash_disk::{CrashDisk, Rng, Stash, Unit};
use crate::log::*;
use crate::media::{CrashMedia, Event, Granularity, HeapMedia, Pages, Replay, Trace};
use crate::persist::Mem;
use crate::pool::choose;
use crate::{Committer, Db, Encoding, Meta, PoolOptions, Published, Store, StoreError, Type};

const CAPACITY: u64 = 24 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };
const SHARD: ShardId = ShardId(0);

/// What an entry does: its payload is a number that everything is drawn from.
fn apply(store: &mut Store, index: u64, payload: &[u8]) -> crate::Result<()> {
    let seed = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let rng = &mut Rng(seed);
    let name = format!("key:{}", rng.below(12)).into_bytes();
    let meta = |ty| Meta { ty, encoding: Encoding::Raw, deadline_ms: None };
    let key = store.key(&name);
    match rng.below(16) {
        0..=6 => {
            let value = vec![seed as u8; rng.below(600) as usize];
            store.put(Db(0), &key, meta(Type::String), &value)?;
        }
        7..=9 => drop(store.remove(Db(0), &key)?),
        10 => {
            let count = 1 + rng.below(20);
            store.build(Db(1), &key, meta(Type::Hash), |edit| -> Result<(), StoreError> {
                (0..count).try_for_each(|n| edit.put(&n.to_le_bytes(), &[7; 30]).map(drop))
            })?;
        }
        11 => drop(store.take_snapshot(&name[..5], 1)?),
        12 => drop(store.drop_snapshot(&name[..5])?),
        13 => drop(store.roll_back(&name[..5], true)?),
        14 => store.drop_db(Db(rng.below(2) as u16))?,
        _ => drop(store.reclaim(10)?),
    }
    store.set_applied(Term(1), LogIndex(index), index);
    Ok(())
}

type Result<T, E = String> = std::result::Result<T, E>;

/// A run of entries with commits among them, and the state after each.
struct Tale {
    trace: Trace,
    stashes: Vec<Stash>,
    states: Vec<History>,
}

struct Pair {
    disk: CrashDisk,
    log: Log,
    media: Arc<CrashMedia>,
    store: Store,
    committer: Committer,
    states: Vec<History>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        drop(self.log.inner.state.lock().fail(&LogError::Closed));
    }
}

impl Pair {
    fn new() -> Pair {
        let media = Arc::new(CrashMedia::new(CAPACITY, Granularity::Page, 1));
        let mem = Arc::new(Mem::new(Box::new(Arc::clone(&media))));
        let (store, committer, _) = Store::open(mem, &OPTIONS).expect("opens");
        let disk = CrashDisk::new(None, Unit::Sector);
        let (log, _) = open(&disk, LogKind::File).expect("opens");
        media.record(1);
        disk.keep_journal(Arc::clone(&media));
        let states = vec![history(&store).expect("reads")];
        Pair { disk, log, media, store, committer, states }
    }

    /// Logs an entry, and applies it once it is durable.
    fn propose(&mut self, seed: u64) {
        let index = self.states.len() as u64;
        let payload = seed.to_le_bytes();
        let parts: [&[u8]; 1] = [&payload];
        let entry = Entry {
            shard: SHARD,
            term: Term(1),
            index: LogIndex(index),
            kind: EntryKind::Normal,
            payload: &parts,
        };
        self.disk.progress(|p| p.submitted = index as usize);
        let disk = self.disk.clone();
        let done = move |result: super::super::Result<()>| {
            if result.is_ok() {
                disk.progress(|p| p.acknowledged = index as usize);
            }
        };
        self.log.append(&[entry], Box::new(done));
        while self.log.inner.step() {}
        apply(&mut self.store, index, &payload).expect("applies");
        self.states.push(history(&self.store).expect("reads"));
    }

    /// Commits what was applied, with more coming in meanwhile, and purges the log behind it.
    fn commit(&mut self, meanwhile: &[u64], purge: fn(&Published) -> (Term, LogIndex)) {
        let Some(sealed) = self.store.seal() else { return };
        meanwhile.iter().for_each(|seed| self.propose(*seed));
        let published = self.committer.commit(sealed).expect("commits");
        let (term, index) = purge(&published);
        if index > LogIndex(0) {
            self.log.purge(SHARD, LogId::new(term, index)).expect("purges");
            while self.log.inner.step() {}
        }
        self.store.release(published);
    }
}

fn tale(seed: u64, purge: fn(&Published) -> (Term, LogIndex)) -> Tale {
    let (mut rng, mut pair) = (Rng(seed), Pair::new());
    for _ in 0..6 {
        for _ in 0..1 + rng.below(6) {
            pair.propose(rng.next());
        }
        let meanwhile: Vec<u64> = (0..rng.below(3)).map(|_| rng.next()).collect();
        pair.commit(&meanwhile, purge);
    }
    let (trace, stashes) = (pair.media.recorded(), pair.disk.take_journal());
    Tale { trace, stashes, states: std::mem::take(&mut pair.states) }
}

impl Tale {
    /// Judges images of every moment of it; returns how many, and the first that is wrong.
    fn judge(&self, granularity: Granularity, rng: &mut Rng) -> (u64, Option<String>) {
        let mut replay = Replay::new(&self.trace, granularity, None);
        let (mut at, mut images, mut fences) = (0, 0, 0);
        while let Some(event) = replay.step() {
            match event {
                Event::Mark(stash, _) => at = *stash,
                Event::Fence(..) => fences += 1,
                _ => {}
            }
            if !matches!(event, Event::Flush(..)) {
                let pool = image(&replay, rng);
                let stash = &self.stashes[at];
                images += 1;
                // A commit has two fences.
                let quiet = fences % 2 == 0 && replay.dirty().is_empty();
                let allowed = stash.progress.acknowledged..=stash.progress.submitted;
                let log = stash.image(rng, None);
                let mem = Mem::new(Box::new(HeapMedia::with_pages(&pool, CAPACITY)));
                let found = sound(&Arc::new(mem));
                let found =
                    found.and_then(|()| recover(&pool, &log, &self.states, allowed.clone()));
                if let Err(why) = found {
                    return (images, Some(format!("entries {allowed:?}: {why}")));
                }
                if let Err(why) = self.damaged(pool, log, allowed.clone(), quiet) {
                    return (images, Some(format!("a superblock damaged, {allowed:?}: {why}")));
                }
            }
        }
        (images, None)
    }

    /// The same with the newer superblock damaged: what it covers is in the log. Only in the midst of
    /// the next commit may that be too much; and then it is an error.
    fn damaged(
        &self,
        mut pool: Pages,
        log: CrashDisk,
        allowed: std::ops::RangeInclusive<usize>,
        quiet: bool,
    ) -> Result<()> {
        let mem = Mem::new(Box::new(HeapMedia::with_pages(&pool, CAPACITY)));
        let chosen = choose(&mem).map_err(|e| e.to_string())?;
        if chosen.other_is_bad.is_some() {
            return Ok(());
        }
        let offset = SUPERBLOCK_AT[chosen.copy] + 72;
        let mut byte = [0];
        pool.read(offset, &mut byte);
        pool.write(offset, &[byte[0] ^ 4]);
        match recover(&pool, &log, &self.states, allowed) {
            Err(why) if quiet || why.starts_with("wrong") => Err(why),
            _ => Ok(()),
        }
    }
}

/// Nothing, all, or some of what is not durable.
fn image(replay: &Replay<'_>, rng: &mut Rng) -> Pages {
    let (mut image, _) = replay.durable();
    let odds = rng.below(3);
    for (at, versions) in replay.dirty() {
        if odds == 2 || odds == 1 && rng.one_in(2) {
            replay.put(&mut image, at, rng.below(versions as u64) as usize, u64::MAX);
        }
    }
    image
}

/// Opens both as a node does, and applies what the pool does not hold.
fn recover(
    pool: &Pages,
    log: &CrashDisk,
    states: &[History],
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<()> {
    let said = |e: StoreError| e.to_string();
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(pool, CAPACITY))));
    let (mut store, mut committer, opened) = Store::open(mem.clone(), &OPTIONS).map_err(said)?;
    let applied = opened.applied.1.0;
    let (log, _) = open(log, LogKind::File).map_err(|e| e.to_string())?;
    let state = log.shard(SHARD);
    let last = state.last.map_or(0, |last| last.index.0);
    if last < applied || last > applied && state.first.is_none_or(|first| first.0 > applied + 1) {
        return Err(format!(
            "wrong: the pool holds {applied}, the log {:?} to {last}",
            state.first
        ));
    }
    log.replay(SHARD, LogIndex(applied + 1), |entry| {
        apply(&mut store, entry.index.0, entry.payload).map_err(|e| e.to_string())
    })
    .map_err(|e| e.to_string())?;
    if !allowed.contains(&(last as usize)) {
        return Err(format!("wrong: {last} entries came back"));
    }
    if history(&store).map_err(said)? != states[last as usize] {
        return Err(format!("wrong: not the state after entry {last}"));
    }
    store.set_applied(Term(2), LogIndex(last + 1), 1);
    let sealed = store.seal().ok_or("wrong: nothing to commit")?;
    store.release(committer.commit(sealed).map_err(said)?);
    sound(&mem).map_err(|why| format!("wrong: after a replay: {why}"))
}

fn sound(mem: &Arc<Mem>) -> Result<()> {
    let report = check(mem.clone(), true, &mut |_, _| {}).map_err(|e| e.to_string())?;
    if report.is_clean() { Ok(()) } else { Err(format!("{:?}", report.problems)) }
}

#[test]
fn pool_and_log_come_back_to_the_last_durable_entry() {
    let mut total = 0;
    for seed in super::model::seeds(2) {
        let granularity = [Granularity::Page, Granularity::CacheLine][seed as usize % 2];
        let tale = tale(seed, |published| published.purge_upto);
        let (images, wrong) = tale.judge(granularity, &mut Rng(seed));
        assert_eq!(wrong, None, "replay with CAIRN_SEED={seed}");
        total += images;
    }
    println!("{total} images");
}

/// Purged to what the newest root holds, the log could not replay what a damaged one costs.
#[test]
fn a_log_purged_too_far_is_caught() {
    let tale = tale(1, |published| published.applied);
    let (_, wrong) = tale.judge(Granularity::Page, &mut Rng(1));
    assert!(wrong.is_some_and(|why| why.contains("the pool holds")));
}
