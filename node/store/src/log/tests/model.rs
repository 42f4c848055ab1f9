//! Random work on the log with reopens and crashes among it, judged by a plain model.
//!
//! `CAIRN_SEED=n` runs one seed, `CAIRN_SEEDS=n` that many.

use crate::log::crash_disk::{CrashDisk, Rng, Stash, Sync, Unit};
use crate::log::*;

/// What a shard's log must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardModel {
    pub vote: Option<Vec<u8>>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub entries: BTreeMap<u64, (Term, EntryKind, Vec<u8>)>,
}

pub type Model = BTreeMap<ShardId, ShardModel>;

impl ShardModel {
    fn append(&mut self, entry: &Entry<'_>) {
        let value = (entry.term, entry.kind, entry.payload.concat());
        self.entries.insert(entry.index.0, value);
        self.last = Some(entry.log_id());
    }

    fn truncate(&mut self, keep: Option<LogId>) {
        self.entries.retain(|index, _| keep.is_some_and(|keep| *index <= keep.index.0));
        self.last = keep;
    }

    fn purge(&mut self, upto: LogId) {
        self.entries.retain(|index, _| *index > upto.index.0);
        self.purged = Some(upto);
        if self.entries.is_empty() {
            self.last = Some(upto);
        }
    }
}

/// What a log says, in the model's terms.
pub fn model_of(log: &Log, shards: impl Iterator<Item = ShardId>) -> Result<Model> {
    let mut model = Model::new();
    for shard in shards {
        let ShardState { vote, purged, first, last } = log.shard(shard);
        let mut entries = BTreeMap::new();
        if let (Some(first), Some(last)) = (first, last) {
            for e in log.read(shard, first..last.index.next(), usize::MAX)? {
                assert_eq!(e.shard, shard);
                entries.insert(e.index.0, (e.term, e.kind, e.payload));
            }
        }
        let shard_model = ShardModel { vote, purged, last, entries };
        if shard_model != ShardModel::default() {
            model.insert(shard, shard_model);
        }
    }
    Ok(model)
}

pub const SEGMENT_BYTES: u64 = 5120;
pub const SHARDS: u32 = 3;

/// A log on a crash disk, and every state it went through.
pub struct Rig {
    pub disk: CrashDisk,
    pub log: Log,
    kind: LogKind,
    /// The state before anything, then after each single step; never empty.
    pub history: Vec<Model>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // No thread is there to write what is queued; the log's own drop must not wait for it.
        drop(self.log.inner.state.lock().fail(&LogError::Closed));
    }
}

pub fn open(disk: &CrashDisk, kind: LogKind) -> Result<(Log, Recovered)> {
    let options = LogOptions {
        segment_bytes: SEGMENT_BYTES,
        uuid: *b"sixteen bytes :)",
        ..LogOptions::new("", kind)
    };
    let (inner, recovered) = Inner::open(disk.medium(), &options, false)?;
    Ok((Log { inner: Arc::new(inner), threads: Vec::new() }, recovered))
}

impl Rig {
    /// Opens what is on `disk`; it must be one of `allowed`.
    pub fn open(
        disk: CrashDisk,
        kind: LogKind,
        allowed: &[Model],
    ) -> std::result::Result<Self, String> {
        let (log, recovered) = open(&disk, kind).map_err(|e| e.to_string())?;
        let model = model_of(&log, recovered.shards.keys().copied()).map_err(|e| e.to_string())?;
        if !allowed.contains(&model) {
            let (n, last) = (allowed.len(), allowed.last());
            return Err(format!(
                "{kind:?}: {recovered:?}\n{model:?}\nis none of {n}, the last\n{last:?}"
            ));
        }
        disk.progress(|p| *p = Default::default());
        Ok(Self { disk, log, kind, history: vec![model] })
    }

    pub fn now(&self) -> Model {
        self.history[self.history.len() - 1].clone()
    }

    fn note(&mut self, mut model: Model) {
        model.retain(|_, shard| *shard != ShardModel::default());
        self.history.push(model);
        let submitted = self.history.len() - 1;
        self.disk.progress(|p| p.submitted = submitted);
    }

    /// A callback that counts everything so far as acknowledged. Under every-second syncs only
    /// votes are.
    fn done(&self, synced: bool) -> Done {
        let (disk, at) = (self.disk.clone(), self.history.len() - 1);
        let counts = synced || self.kind != LogKind::FileEverySec;
        Box::new(move |result| {
            assert!(matches!(result, Ok(()) | Err(LogError::Closed)), "{result:?}");
            if result.is_ok() && counts {
                disk.progress(|p| p.acknowledged = p.acknowledged.max(at));
            }
        })
    }

    pub fn append(&mut self, entries: &[Entry<'_>]) {
        let mut model = self.now();
        for entry in entries {
            model.entry(entry.shard).or_default().append(entry);
            self.note(model.clone());
        }
        self.log.append(entries, self.done(false));
    }

    pub fn vote(&mut self, shard: ShardId, vote: &[u8]) {
        let mut model = self.now();
        model.entry(shard).or_default().vote = Some(vote.to_vec());
        self.note(model);
        self.log.save_vote(shard, vote, self.done(true));
    }

    pub fn truncate(&mut self, shard: ShardId, keep: Option<LogId>) {
        let mut model = self.now();
        model.entry(shard).or_default().truncate(keep);
        self.note(model);
        self.log.truncate_after(shard, keep, self.done(false));
    }

    pub fn purge(&mut self, shard: ShardId, upto: LogId) {
        let mut model = self.now();
        model.entry(shard).or_default().purge(upto);
        self.note(model);
        self.log.purge(shard, upto).expect("purges");
    }

    /// Lets everything queued become durable.
    pub fn settle(&mut self) {
        while self.log.inner.step() {}
        if self.kind == LogKind::FileEverySec {
            self.log.inner.sync();
        }
        if self.log.inner.state.lock().poison.is_none() {
            let all = self.history.len() - 1;
            self.disk.progress(|p| p.acknowledged = all);
        }
    }

    /// What a crash at `stash` may leave of the log.
    pub fn allowed(&self, stash: &Stash) -> &[Model] {
        &self.history[stash.progress.acknowledged..=stash.progress.submitted]
    }

    /// One random operation.
    pub fn random(&mut self, rng: &mut Rng) {
        let shard = ShardId(rng.below(u64::from(SHARDS)) as u32);
        let held = self.now().remove(&shard).unwrap_or_default();
        let last = held.last.map_or(0, |id| id.index.0);
        let purged = held.purged.map_or(0, |id| id.index.0);
        match rng.below(20) {
            0 => self.vote(shard, &rng.next().to_le_bytes()),
            1 if last > purged => {
                let keep = purged + rng.below(last - purged);
                let term = held.entries.get(&keep).map(|e| e.0).or(held.purged.map(|p| p.term));
                let keep = term.map(|term| LogId::new(term, LogIndex(keep)));
                self.truncate(shard, keep);
            }
            2..=5 if last > purged => {
                let upto = if rng.one_in(10) {
                    last + rng.below(3)
                } else {
                    purged + 1 + rng.below(last - purged)
                };
                let term = held.entries.get(&upto).map(|e| e.0).or(held.last.map(|l| l.term));
                let term = term.unwrap_or_default();
                self.purge(shard, LogId::new(term, LogIndex(upto)));
            }
            6 => self.read(shard, rng),
            7 => {
                if self.log.segments() > 3 {
                    self.log.relocate(500).expect("relocates");
                }
            }
            8 => self.settle(),
            9..=11 => {
                self.log.inner.step();
            }
            _ => self.random_append(shard, rng),
        }
    }

    fn random_append(&mut self, shard: ShardId, rng: &mut Rng) {
        let mut shards = vec![shard; 1 + rng.below(4) as usize];
        if rng.one_in(4) {
            shards.push(ShardId((shard.0 + 1) % SHARDS));
            shards.push(shard);
        }
        let payloads: Vec<Vec<u8>> = shards
            .iter()
            .map(|_| {
                let len = if rng.one_in(12) { rng.below(2000) } else { rng.below(120) };
                (0..len).map(|_| rng.next() as u8 & 3).collect()
            })
            .collect();
        let parts: Vec<[&[u8]; 2]> =
            payloads.iter().map(|p| <[&[u8]; 2]>::from(p.split_at(p.len() / 3))).collect();
        let mut model = self.now();
        let mut entries = Vec::new();
        for (shard, parts) in shards.iter().zip(&parts) {
            let log = model.entry(*shard).or_default();
            let term = Term(log.last.map_or(1, |id| id.term.0 + u64::from(rng.one_in(9))));
            let index = LogIndex(log.last.map_or(1, |id| id.index.0 + 1));
            let kind =
                [EntryKind::Normal, EntryKind::Membership, EntryKind::Blank][rng.below(3) as usize];
            let entry = Entry { shard: *shard, term, index, kind, payload: parts };
            log.append(&entry);
            entries.push(entry);
        }
        self.append(&entries);
    }

    fn read(&self, shard: ShardId, rng: &mut Rng) {
        let held = self.now().remove(&shard).unwrap_or_default();
        let state = self.log.shard(shard);
        assert_eq!((&state.vote, state.purged, state.last), (&held.vote, held.purged, held.last));
        let Some((first, _)) = held.entries.first_key_value() else {
            assert_eq!(state.first, None);
            return;
        };
        let from = first + rng.below(held.entries.len() as u64);
        let range = LogIndex(from)..LogIndex(first + held.entries.len() as u64);
        let read = self.log.read(shard, range, 1 + rng.below(5000) as usize).expect("reads");
        assert!(!read.is_empty());
        for (e, (index, want)) in read.into_iter().zip(held.entries.range(from..)) {
            assert_eq!((e.index.0, (e.term, e.kind, e.payload)), (*index, want.clone()));
        }
    }
}

/// Lives of a log, each ended by a crash or an orderly end, from one seed.
pub fn run(seed: u64, ignored: Option<Sync>) -> std::result::Result<(), String> {
    lives(seed, ignored, |_| {})
}

/// The same while the syncs that one line of code asks for do nothing.
pub fn run_without(seed: u64, caller: &str) -> std::result::Result<(), String> {
    lives(seed, None, |disk| disk.ask_callers(Some(caller.to_owned())))
}

fn lives(
    seed: u64,
    ignored: Option<Sync>,
    prepare: impl Fn(&CrashDisk),
) -> std::result::Result<(), String> {
    let mut rng = Rng(seed);
    let kinds = [LogKind::File, LogKind::Memory, LogKind::FileEverySec, LogKind::Dax];
    let kind = kinds[rng.below(4) as usize];
    let disk = CrashDisk::new(ignored, Unit::of(kind));
    prepare(&disk);
    let mut rig = Rig::open(disk, kind, &[Model::new()])?;
    for _ in 0..1 + rng.below(5) {
        let orderly = rng.one_in(5);
        if !orderly {
            rig.disk.stash_at(rng.below(60) as usize);
        }
        for _ in 0..5 + rng.below(60) {
            rig.random(&mut rng);
            if rig.disk.stashed().is_some() {
                break;
            }
        }
        if orderly {
            rig.settle();
        }
        let stash = rig.disk.stashed().unwrap_or_else(|| rig.disk.stash_now());
        let allowed = rig.allowed(&stash).to_vec();
        // Whatever images there are, the next life begins with the last of them.
        let mut next = None;
        for _ in 0..3 {
            let image = stash.image(&mut rng, ignored);
            prepare(&image);
            next = Some(Rig::open(image, kind, &allowed)?);
        }
        rig = next.ok_or("no image")?;
    }
    Ok(())
}

pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    match (number("CAIRN_SEED"), number("CAIRN_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, n) => 0..n.unwrap_or(default),
    }
}

/// Runs a seed, and turns a panic into words.
pub fn outcome(seed: u64, ignored: Option<Sync>) -> std::result::Result<(), String> {
    let run = std::panic::catch_unwind(|| run(seed, ignored));
    run.unwrap_or_else(|_| Err("panicked".to_owned()))
}

#[test]
fn random_lives_match_the_model() {
    for seed in seeds(3000) {
        if let Err(e) = outcome(seed, None) {
            panic!("replay with CAIRN_SEED={seed}: {e}");
        }
    }
}

/// Each of these is needed: some seed must go red without it.
#[test]
fn taking_a_sync_out_is_caught() {
    for sync in [Sync::Batch, Sync::Opening, Sync::Dir, Sync::NewFile] {
        let red: Vec<_> = (0..600).filter_map(|seed| run(seed, Some(sync)).err()).collect();
        println!("without {sync:?}: {} of 600 seeds are red", red.len());
        assert!(!red.is_empty(), "nobody misses the sync {sync:?}");
    }
}
