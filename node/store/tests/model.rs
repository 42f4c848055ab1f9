//! Random histories against std's maps, with commits, crashes and reopens among the operations.
//!
//! `CAIRN_SEEDS=N` runs N seeds, `CAIRN_SEED=S` replays one.

mod common;

use cairn_store::check::check;
use cairn_store::layout::pool::SLABS_PER_EXTENT;
use cairn_store::media::{CrashMedia, Granularity, HeapMedia};
use cairn_store::persist::Mem;
use cairn_store::{
    Bound, Committer, Db, Encoding, Evacuation, Meta, PoolOptions, Published, Record,
    SnapshotOutcome, Store, StoreError, Tree, Type, View,
};
use common::{Rng, seeds};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[path = "model/transfer.rs"]
mod transfer;

const CAPACITY: u64 = 64 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };

/// What a key holds.
#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Text(Vec<u8>),
    Members(BTreeMap<Vec<u8>, Vec<u8>>),
    Ranked(BTreeMap<Vec<u8>, i64>),
    List(Vec<Vec<u8>>),
}

impl Kept {
    fn text(&mut self) -> &mut Vec<u8> {
        match self {
            Kept::Text(text) => text,
            _ => panic!("a collection where a string should be"),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Kept::Text(_))
    }
}

impl Default for Kept {
    fn default() -> Kept {
        Kept::Text(Vec::new())
    }
}

type Content = BTreeMap<(u16, Vec<u8>), (Kept, Option<u64>)>;

/// What a key of the store holds.
fn kept<'a>(view: &View<'a>, record: &Record<'a>) -> Kept {
    let Some(tree) = view.tree(record) else {
        return Kept::Text(record.value().to_vec().unwrap());
    };
    if record.ty() == Type::ZSet {
        return Kept::Ranked(ranked(&tree));
    }
    if record.ty() == Type::List {
        return Kept::List(elements(&tree));
    }
    let mut members = BTreeMap::new();
    tree.for_each(&mut |member| {
        let value = member.value().to_vec()?;
        let again = tree.member(member.key())?.map(|found| found.value().to_vec().unwrap());
        assert_eq!(again.as_ref(), Some(&value));
        assert!(members.insert(member.key().to_vec(), value).is_none());
        Ok(true)
    })
    .unwrap();
    assert_eq!(tree.len(), members.len() as u64);
    Kept::Members(members)
}

/// The members of a sorted set, having seen that they stand in order.
fn ranked(tree: &Tree<'_>) -> BTreeMap<Vec<u8>, i64> {
    let (mut members, mut order) = (BTreeMap::new(), Vec::new());
    tree.ranked(0, false, &mut |name, score| {
        assert_eq!(tree.rank_of(score, name)?, Some(order.len() as u64));
        members.insert(name.to_vec(), score as i64);
        order.push((score as i64, name.to_vec()));
        Ok(true)
    })
    .unwrap();
    assert!(order.is_sorted());
    assert_eq!((tree.len(), order.len()), (members.len() as u64, members.len()));
    members
}

/// The elements of a list, having seen that they are the same backwards.
fn elements(tree: &Tree<'_>) -> Vec<Vec<u8>> {
    let mut both = [false, true].map(|reverse| {
        let mut elements = Vec::new();
        let from = if reverse { u64::MAX } else { 0 };
        tree.elements(from, reverse, &mut |element| {
            elements.push(element.to_vec()?);
            Ok(true)
        })
        .unwrap();
        elements
    });
    both[1].reverse();
    assert!(both[0] == both[1]);
    assert_eq!(tree.len(), both[0].len() as u64);
    std::mem::take(&mut both[0])
}

fn content(view: View<'_>) -> Content {
    let mut out = Content::new();
    for db in 0..Db::COUNT {
        let mut cursor = 0;
        loop {
            cursor = view
                .scan(Db(db), cursor, &mut |record| {
                    let value = (kept(&view, record), record.deadline_ms());
                    let old = out.insert((db, record.key().to_vec()), value);
                    assert!(old.is_none(), "a quiet scan shows a key once");
                    Ok(db % 2 == 0)
                })
                .unwrap();
            if cursor == 0 {
                break;
            }
        }
    }
    out
}

fn key_name(rng: &mut Rng, universe: u64) -> Vec<u8> {
    let n = rng.below(universe);
    match n % 7 {
        // One slot, so that its trie grows deep.
        0 => format!("{{tag}}{n}").into_bytes(),
        1 => format!("{n}").repeat(80).into_bytes(),
        _ => format!("key:{n}").into_bytes(),
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(20) {
        0 => 0,
        1..=12 => rng.below(200),
        13..=17 => rng.below(3000),
        18 => 16_000 + rng.below(800),
        _ => rng.below(60_000),
    };
    let byte = rng.next() as u8;
    (0..len).map(|i| byte.wrapping_add(i as u8)).collect()
}

fn deadline(rng: &mut Rng) -> Option<u64> {
    (rng.below(3) == 0).then(|| 1_000 + rng.below(50))
}

const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };

const ZSET: Meta = Meta { ty: Type::ZSet, encoding: Encoding::Skiplist, deadline_ms: None };
const LIST: Meta = Meta { ty: Type::List, encoding: Encoding::Quicklist, deadline_ms: None };
const HASH: Meta = Meta { ty: Type::Hash, encoding: Encoding::Hashtable, deadline_ms: None };

fn is_text(model: &Content, at: &(u16, Vec<u8>)) -> bool {
    model.get(at).is_none_or(|(kept, _)| kept.is_text())
}

fn member(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => format!("{}", rng.below(40)).repeat(300).into_bytes(),
        _ => format!("member:{}", rng.below(400)).into_bytes(),
    }
}

/// Makes a key a collection; sometimes an empty one, sometimes one that is given up.
fn build(store: &mut Store, model: &mut Content, rng: &mut Rng, at: (u16, Vec<u8>)) {
    let deadline_ms = deadline(rng);
    let mut members = BTreeMap::new();
    for _ in 0..[0, 3, 20, 200][rng.below(4) as usize] {
        members.insert(member(rng), value(rng));
    }
    let give_up = rng.below(5) == 0;
    let key = store.key(&at.1);
    let done = store.build(Db(at.0), &key, Meta { deadline_ms, ..HASH }, |edit| {
        for (name, value) in &members {
            assert!(edit.put(name, value)?);
        }
        if give_up { Err(StoreError::Full) } else { Ok(()) }
    });
    assert_eq!(done.is_err(), give_up);
    if give_up {
        return;
    }
    if members.is_empty() {
        model.remove(&at);
    } else {
        model.insert(at, (Kept::Members(members), deadline_ms));
    }
}

/// Changes a collection member by member.
fn edit(store: &mut Store, model: &mut Content, rng: &mut Rng, at: (u16, Vec<u8>)) {
    let key = store.key(&at.1);
    let members = match model.get_mut(&at) {
        Some((Kept::Members(members), _)) => Some(members),
        _ => None,
    };
    let is_collection = members.is_some();
    let mut empty = false;
    let done = store.edit(Db(at.0), &key, |edit| -> Result<(), StoreError> {
        let members = members.expect("the model has the collection too");
        for _ in 0..rng.below(30) {
            let name = member(rng);
            if rng.below(3) == 0 {
                let value = value(rng);
                assert_eq!(edit.put(&name, &value)?, members.insert(name, value).is_none());
            } else {
                assert_eq!(edit.remove(&name)?, members.remove(&name).is_some());
            }
            assert_eq!(edit.tree()?.len(), members.len() as u64);
        }
        let drawn = edit.tree()?.random(rng.next())?;
        assert_eq!(drawn.is_none(), members.is_empty());
        assert!(drawn.is_none_or(|drawn| members.contains_key(drawn.key())));
        empty = members.is_empty();
        Ok(())
    });
    assert_eq!(done.unwrap().is_some(), is_collection);
    if empty {
        model.remove(&at);
    }
}

/// Makes a key a sorted set.
fn build_ranked(store: &mut Store, model: &mut Content, rng: &mut Rng, at: (u16, Vec<u8>)) {
    let deadline_ms = deadline(rng);
    let mut members = BTreeMap::new();
    for _ in 0..[3, 20, 200][rng.below(3) as usize] {
        members.insert(member(rng), rng.below(9) as i64 - 4);
    }
    let key = store.key(&at.1);
    let done = store.build(Db(at.0), &key, Meta { deadline_ms, ..ZSET }, |edit| {
        members.iter().try_for_each(|(name, &score)| {
            assert_eq!(edit.rank_put(name, score as f64)?, None);
            Ok::<(), StoreError>(())
        })
    });
    done.unwrap();
    model.insert(at, (Kept::Ranked(members), deadline_ms));
}

/// Changes a sorted set member by member.
fn edit_ranked(store: &mut Store, model: &mut Content, rng: &mut Rng, at: (u16, Vec<u8>)) {
    let key = store.key(&at.1);
    let Some((Kept::Ranked(members), _)) = model.get_mut(&at) else { return };
    let adding = 1 + rng.below(3);
    let done = store.edit(Db(at.0), &key, |edit| -> Result<(), StoreError> {
        for _ in 0..rng.below(30) {
            let (name, score) = (member(rng), rng.below(9) as i64 - 4);
            let (was, old) = if rng.below(4) < adding {
                (edit.rank_put(&name, score as f64)?, members.insert(name, score))
            } else {
                (edit.rank_remove(&name)?, members.remove(&name))
            };
            assert_eq!(was.map(|score| score as i64), old);
            assert_eq!(edit.len(), members.len() as u64);
            let below = edit.tree()?.count_below(Bound::BeforeScore(score as f64))?;
            assert_eq!(below, members.values().filter(|&&s| s < score).count() as u64);
        }
        Ok(())
    });
    assert!(done.unwrap().is_some());
    if members.is_empty() {
        model.remove(&at);
    }
}

/// Makes a key a list.
fn build_list(store: &mut Store, model: &mut Content, rng: &mut Rng, at: (u16, Vec<u8>)) {
    let deadline_ms = deadline(rng);
    let mut elements = Vec::new();
    for _ in 0..[3, 20, 200][rng.below(3) as usize] {
        elements.push(value(rng));
    }
    let key = store.key(&at.1);
    let done = store.build(Db(at.0), &key, Meta { deadline_ms, ..LIST }, |edit| {
        elements.iter().try_for_each(|element| edit.list_push_back(element))
    });
    done.unwrap();
    model.insert(at, (Kept::List(elements), deadline_ms));
}

/// Changes a list element by element, and sometimes by much.
fn edit_list(store: &mut Store, model: &mut Content, rng: &mut Rng, at: (u16, Vec<u8>)) {
    let key = store.key(&at.1);
    let Some((Kept::List(elements), _)) = model.get_mut(&at) else { return };
    let done = store.edit(Db(at.0), &key, |edit| -> Result<(), StoreError> {
        for _ in 0..rng.below(20) {
            let index = rng.below(elements.len() as u64 + 1);
            let place = index as usize;
            match rng.below(20) {
                0..=8 => {
                    let value = value(rng);
                    edit.list_insert(index, &value)?;
                    elements.insert(place, value);
                }
                9..=11 => {
                    let value = value(rng);
                    assert_eq!(edit.list_set(index, &value)?, place < elements.len());
                    if let Some(element) = elements.get_mut(place) {
                        *element = value;
                    }
                }
                12 => {
                    let each: Vec<u64> =
                        (index..elements.len() as u64).filter(|_| rng.below(2) == 0).collect();
                    edit.list_remove_each(&each)?;
                    each.iter().rev().for_each(|&index| drop(elements.remove(index as usize)));
                }
                13 if rng.below(8) == 0 => {
                    edit.list_remove(index, u64::MAX)?;
                    elements.truncate(place);
                }
                14 if rng.below(8) == 0 => {
                    edit.list_remove(0, index)?;
                    elements.drain(..place);
                }
                _ => {
                    let count = rng.below(3).min(elements.len() as u64 - index);
                    edit.list_remove(index, count)?;
                    elements.drain(place..place + count as usize);
                }
            }
            assert_eq!(edit.len(), elements.len() as u64);
        }
        Ok(())
    });
    assert!(done.unwrap().is_some());
    if elements.is_empty() {
        model.remove(&at);
    }
}

/// One random operation on both.
fn step(store: &mut Store, model: &mut Content, rng: &mut Rng, universe: u64) {
    let db = rng.below(3) as u16;
    let name = key_name(rng, universe);
    let other = key_name(rng, universe);
    let (key, to) = (store.key(&name), store.key(&other));
    let at = (db, name.clone());
    match rng.below(100) {
        0..=3 => build(store, model, rng, at),
        4..=6 => build_ranked(store, model, rng, at),
        7..=9 => build_list(store, model, rng, at),
        10..=29 => match model.get(&at) {
            Some((Kept::Ranked(_), _)) => edit_ranked(store, model, rng, at),
            Some((Kept::List(_), _)) => edit_list(store, model, rng, at),
            _ => edit(store, model, rng, at),
        },
        30..=49 => {
            let (value, deadline_ms) = (value(rng), deadline(rng));
            store.put(Db(db), &key, Meta { deadline_ms, ..TEXT }, &value).unwrap();
            model.insert(at, (Kept::Text(value), deadline_ms));
        }
        50..=69 => {
            let was = store.remove(Db(db), &key).unwrap();
            assert_eq!(was, model.remove(&at).is_some());
        }
        70..=74 => {
            let deadline_ms = deadline(rng);
            let was = store.set_deadline(Db(db), &key, deadline_ms).unwrap();
            assert_eq!(was, model.get_mut(&at).map(|v| v.1 = deadline_ms).is_some());
        }
        75..=79 if is_text(model, &at) => {
            let more = value(rng);
            let len = store.append(Db(db), &key, Encoding::Raw, &more).unwrap();
            let kept = model.entry(at).or_default().0.text();
            kept.extend_from_slice(&more);
            assert_eq!(len, kept.len() as u64);
        }
        80..=84 if is_text(model, &at) => {
            let (offset, bytes) = (rng.below(40_000), value(rng));
            store.write_at(Db(db), &key, Encoding::Raw, offset, &bytes).unwrap();
            let kept = model.entry(at).or_default().0.text();
            let end = offset as usize + bytes.len();
            kept.resize(kept.len().max(end), 0);
            kept[offset as usize..end].copy_from_slice(&bytes);
        }
        85..=88 => {
            let to_db = rng.below(3) as u16;
            let was = store.rename(Db(db), &key, Db(to_db), &to).unwrap();
            let moved = model.remove(&at);
            assert_eq!(was, moved.is_some());
            if let Some(moved) = moved {
                model.insert((to_db, other), moved);
            }
        }
        89..=91 => {
            let to_db = rng.below(3) as u16;
            if (db, &name) != (to_db, &other) {
                let was = store.copy(Db(db), &key, Db(to_db), &to).unwrap();
                let copied = model.get(&at).cloned();
                assert_eq!(was, copied.is_some());
                if let Some(copied) = copied {
                    model.insert((to_db, other), copied);
                }
            }
        }
        92 if rng.below(4) == 0 => {
            store.drop_db(Db(db)).unwrap();
            model.retain(|(d, _), _| *d != db);
        }
        93 => {
            let b = rng.below(3) as u16;
            store.swap_db(Db(db), Db(b)).unwrap();
            *model = std::mem::take(model)
                .into_iter()
                .map(|((d, k), v)| match d {
                    _ if d == db => ((b, k), v),
                    _ if d == b => ((db, k), v),
                    _ => ((d, k), v),
                })
                .collect();
        }
        94..=96 => {
            store.reclaim(20).unwrap();
        }
        _ => {
            let found = store.get(Db(db), &key).unwrap();
            let found = found.map(|r| (kept(&store.view(), &r), r.deadline_ms()));
            assert_eq!(found.as_ref(), model.get(&at));
        }
    }
    assert_eq!(store.len(Db(db)), model.keys().filter(|(d, _)| *d == db).count() as u64);
}

/// Does some of a pass that moves everything, beginning one if none is under way.
fn evacuate(store: &mut Store, pass: &mut Evacuation, rng: &mut Rng) {
    let budget = 1 + rng.below(200) as usize;
    for _ in 0..rng.below(40) {
        store.evacuate(pass, budget, rng.below(2) == 0).unwrap();
    }
    store.recycle_dead(rng.below(500) as usize);
    give_back(store, rng);
    if rng.below(50) == 0 {
        store.stop_evacuation(pass);
    }
}

/// Cuts some of what the file is too long by, if the time has come for that.
fn give_back(store: &mut Store, rng: &mut Rng) {
    let before = store.mem_arc().media().len();
    for _ in 0..rng.below(4) {
        store.shrink_some().unwrap();
    }
    CUT_BYTES.fetch_add(before - store.mem_arc().media().len(), Ordering::Relaxed);
}

/// What all tests here have cut off.
static CUT_BYTES: AtomicU64 = AtomicU64::new(0);

fn commit(store: &mut Store, committer: &mut Committer) {
    if let Some(sealed) = store.seal() {
        let published = committer.commit(sealed).unwrap();
        release(store, published);
    }
}

/// Takes note of a commit, and looks at every block as the scrubber would: nothing was damaged, so
/// nothing may look so, the dead among it that pins or the fall-back root may still see.
fn release(store: &mut Store, published: Published) {
    store.release(published);
    for extent in 0..store.extents() {
        for within in 0..SLABS_PER_EXTENT {
            let found = store.scrub(extent, within);
            assert_eq!(found.damaged, 0, "slab {within} of extent {extent}: {found:?}");
        }
    }
}

fn assert_next_expired(store: &Store, model: &Content) {
    let earliest = model.values().filter_map(|v| v.1).min();
    let found = store.next_expired(u64::MAX).unwrap();
    assert_eq!(earliest.is_some(), found.is_some());
    if let Some((db, key)) = found {
        assert_eq!(model[&(db.0, key)].1, earliest);
    }
}

#[test]
fn histories_agree_with_a_map_and_survive_crashes() {
    for seed in seeds(12) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        let mut rng = Rng(seed);
        let granularity =
            if seed.is_multiple_of(2) { Granularity::Page } else { Granularity::CacheLine };
        let media = Arc::new(CrashMedia::new(CAPACITY, granularity, seed));
        let mut mem = Arc::new(Mem::new(Box::new(media.clone())));
        let mut current = media;
        let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
        let (mut model, mut committed) = (Content::new(), Content::new());
        let mut pass = Evacuation::of_everything();
        let universe = [30, 300, 3000][rng.below(3) as usize];
        for _ in 0..rng.below(1500) {
            match rng.below(200) {
                0..=5 => {
                    commit(&mut store, &mut committer);
                    committed = model.clone();
                    if std::env::var_os("CAIRN_SEED").is_some() {
                        let report = check(mem.clone(), true, &mut |_, _| {}).unwrap();
                        assert!(report.is_clean(), "{report:?}");
                    }
                }
                6 => {
                    drop(store.pin());
                }
                9..=20 => evacuate(&mut store, &mut pass, &mut rng),
                7..=8 => {
                    let image = current.crash();
                    current =
                        Arc::new(CrashMedia::from_image(&image, CAPACITY, granularity, rng.next()));
                    mem = Arc::new(Mem::new(Box::new(current.clone())));
                    (store, committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
                    pass = Evacuation::of_everything();
                    if rng.below(2) == 0 {
                        committer.sweep(2).unwrap();
                    }
                    model = committed.clone();
                    assert!(content(store.view()) == model, "a crash leaves the committed state");
                }
                _ => step(&mut store, &mut model, &mut rng, universe),
            }
        }
        assert_next_expired(&store, &model);
        assert!(content(store.view()) == model);
        commit(&mut store, &mut committer);
        let report = check(mem, true, &mut |_, _| {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.keys, model.len() as u64 - hidden(&model));
    }
    let cut_mib = CUT_BYTES.load(Ordering::Relaxed) >> 20;
    println!("{cut_mib} MiB were given back");
    assert!(cut_mib > 0 || std::env::var_os("CAIRN_SEED").is_some());
}

fn hidden(model: &Content) -> u64 {
    model.keys().filter(|(db, _)| *db >= Db::COUNT).count() as u64
}

/// Opens what a crash left and says what is in it, having checked all of it.
fn recover(image: &[u8]) -> Result<Content, String> {
    let media = HeapMedia::with_bytes(image, CAPACITY);
    let mem = Arc::new(Mem::new(Box::new(media)));
    let (store, _, _) = Store::open(mem.clone(), &OPTIONS).map_err(|e| e.to_string())?;
    let report = check(mem, true, &mut |_, _| {}).map_err(|e| e.to_string())?;
    if !report.is_clean() {
        return Err(format!("{report:?}"));
    }
    Ok(content(store.view()))
}

/// Images of the persist points of a commit: all of a small one; of a large one a sample, spread
/// evenly, and the last, where the superblock is written.
#[derive(Default)]
struct Images {
    points: usize,
    stride: usize,
    sampled: Vec<Vec<u8>>,
    last: std::collections::VecDeque<Vec<u8>>,
}

impl Images {
    const SAMPLED_MAX: usize = 32;
    const LAST: usize = 8;

    fn push(&mut self, image: Vec<u8>) {
        self.stride = self.stride.max(1);
        self.last.push_back(image);
        if self.last.len() <= Self::LAST {
            return;
        }
        let image = self.last.pop_front().expect("more than none");
        if self.points.is_multiple_of(self.stride) {
            self.sampled.push(image);
        }
        self.points += 1;
        if self.sampled.len() == Self::SAMPLED_MAX {
            let mut keep = false;
            self.sampled.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride *= 2;
        }
    }

    fn all(self) -> Vec<Vec<u8>> {
        self.sampled.into_iter().chain(self.last).collect()
    }
}

/// Runs commits under load and looks at what the persist points would leave; returns how many
/// images were wrong.
fn crash_at_every_persist_point(
    seed: u64,
    stop_at_first: bool,
    break_it: impl Fn(&CrashMedia),
) -> (u64, u64) {
    let mut rng = Rng(seed);
    let granularity =
        if seed.is_multiple_of(2) { Granularity::Page } else { Granularity::CacheLine };
    let media = Arc::new(CrashMedia::new(CAPACITY, granularity, seed));
    let mem = Arc::new(Mem::new(Box::new(media.clone())));
    let (mut store, mut committer, _) = Store::open(mem, &OPTIONS).unwrap();
    let mut model = Content::new();
    for _ in 0..60 {
        step(&mut store, &mut model, &mut rng, 40);
    }
    commit(&mut store, &mut committer);
    break_it(&media);
    let (mut images, mut wrong) = (0, 0);
    let mut before = model.clone();
    let mut pass = Evacuation::of_everything();
    for _ in 0..3 {
        for _ in 0..6 {
            step(&mut store, &mut model, &mut rng, 40);
            evacuate(&mut store, &mut pass, &mut rng);
        }
        let Some(sealed) = store.seal() else { continue };
        // The writer is already at work on the next epoch while this one is committed.
        let after = model.clone();
        let mut next = model.clone();
        for _ in 0..4 {
            step(&mut store, &mut next, &mut rng, 40);
            evacuate(&mut store, &mut pass, &mut rng);
        }
        let found = Arc::new(Mutex::new(Images::default()));
        let kept = found.clone();
        media.on_persist(1, Box::new(move |image| kept.lock().unwrap().push(image.bytes)));
        let published = committer.commit(sealed).unwrap();
        media.stop();
        release(&mut store, published);
        let mut found = std::mem::take(&mut *found.lock().unwrap()).all();
        found.push(media.crash());
        let last = found.len() - 1;
        for (index, image) in found.iter().enumerate() {
            images += 1;
            let fine = match recover(image) {
                Ok(content) if index == last => content == after,
                Ok(content) => content == before || content == after,
                Err(_) => false,
            };
            if !fine && std::env::var_os("CAIRN_SEED").is_some() {
                println!("image {index}: {}", describe(recover(image), &before, &after));
            }
            wrong += u64::from(!fine);
            if stop_at_first && wrong > 0 {
                return (images, wrong);
            }
        }
        (before, model) = (after, next);
    }
    (images, wrong)
}

fn describe(found: Result<Content, String>, before: &Content, after: &Content) -> String {
    match found {
        Err(why) => why,
        Ok(found) => format!(
            "{} keys, {} of them as before ({}), {} as after ({})",
            found.len(),
            found.iter().filter(|(k, v)| before.get(*k) == Some(v)).count(),
            before.len(),
            found.iter().filter(|(k, v)| after.get(*k) == Some(v)).count(),
            after.len()
        ),
    }
}

/// The live data, and snapshots of it from the oldest on.
#[derive(Clone, Default, PartialEq)]
struct History {
    live: Content,
    snapshots: Vec<(Vec<u8>, Content)>,
}

/// What a store has of it.
fn history(store: &Store) -> History {
    let mut snapshots = Vec::new();
    for snapshot in store.snapshots().unwrap().into_iter().rev() {
        let pin = store.pin_snapshot(&snapshot.name).unwrap().unwrap();
        snapshots.push((snapshot.name, content(pin.view())));
    }
    History { live: content(store.view()), snapshots }
}

/// One random change to the snapshots of both.
fn step_snapshots(store: &mut Store, model: &mut History, rng: &mut Rng) {
    use SnapshotOutcome::{Done, Exists, Later, NoSuch};
    let name = format!("snapshot {}", rng.below(6)).into_bytes();
    let position = model.snapshots.iter().position(|(taken, _)| *taken == name);
    match rng.below(10) {
        0..=3 => {
            let outcome = store.take_snapshot(&name, 5).unwrap();
            assert_eq!(outcome, if position.is_some() { Exists } else { Done });
            if position.is_none() {
                model.snapshots.push((name, model.live.clone()));
            }
        }
        4..=6 => {
            let outcome = store.drop_snapshot(&name).unwrap();
            assert_eq!(outcome, if position.is_some() { Done } else { NoSuch });
            position.map(|position| model.snapshots.remove(position));
        }
        _ => {
            let drop_later = rng.below(2) == 0;
            let outcome = store.roll_back(&name, drop_later).unwrap();
            let Some(position) = position else { return assert_eq!(outcome, NoSuch) };
            let later = model.snapshots.len() - position - 1;
            if later > 0 && !drop_later {
                return assert_eq!(outcome, Later(later as u64));
            }
            assert_eq!(outcome, Done);
            model.snapshots.truncate(position + 1);
            model.live = model.snapshots[position].1.clone();
        }
    }
}

fn assert_sound(mem: &Arc<Mem>) {
    let report = check(mem.clone(), true, &mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn snapshots_come_and_go_with_rollbacks_and_crashes() {
    for seed in seeds(60) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        let mut rng = Rng(seed ^ 0x5a9);
        let media = Arc::new(CrashMedia::new(CAPACITY, Granularity::Page, seed));
        let mut mem = Arc::new(Mem::new(Box::new(media.clone())));
        let mut current = media;
        let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
        let (mut model, mut committed) = (History::default(), History::default());
        let mut pass = Evacuation::of_everything();
        let universe = [10, 100, 1000][rng.below(3) as usize];
        for _ in 0..rng.below(1000) {
            match rng.below(100) {
                0..=3 => {
                    commit(&mut store, &mut committer);
                    committed = model.clone();
                    if std::env::var_os("CAIRN_SEED").is_some() {
                        assert_sound(&mem);
                    }
                }
                4 => {
                    let image = current.crash();
                    let crashed =
                        CrashMedia::from_image(&image, CAPACITY, Granularity::Page, rng.next());
                    current = Arc::new(crashed);
                    mem = Arc::new(Mem::new(Box::new(current.clone())));
                    (store, committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
                    pass = Evacuation::of_everything();
                    model = committed.clone();
                    assert!(history(&store) == model, "a crash leaves the committed state");
                }
                5..=12 => step_snapshots(&mut store, &mut model, &mut rng),
                21..=28 => evacuate(&mut store, &mut pass, &mut rng),
                13..=20 => {
                    store.reclaim(rng.below(200) as usize).unwrap();
                }
                _ => step(&mut store, &mut model.live, &mut rng, universe),
            }
        }
        assert!(history(&store) == model);
        commit(&mut store, &mut committer);
        assert_sound(&mem);
        // All of it gone, nothing is left but the empty root.
        for (name, _) in model.snapshots {
            assert_eq!(store.drop_snapshot(&name).unwrap(), SnapshotOutcome::Done);
        }
        for db in 0..=Db::COUNT {
            store.drop_db(Db(db)).unwrap();
        }
        while store.reclaim(1000).unwrap() {}
        commit(&mut store, &mut committer);
        let report = check(mem.clone(), true, &mut |_, _| {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert!(report.blocks <= 2, "{report:?}");
        assert_eq!(store.usage().kept_bytes, 0);
    }
}

#[test]
fn a_crash_at_any_persist_point_of_a_commit_leaves_one_epoch_or_the_other() {
    let mut total = 0;
    for seed in seeds(2) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        let (images, wrong) = crash_at_every_persist_point(seed, false, |_| {});
        assert_eq!(wrong, 0, "of {images} images");
        total += images;
    }
    assert!(total > 50, "{total} images");
}

#[test]
fn a_lost_fence_or_flush_is_caught() {
    // Seeds that have caught one before come first.
    let caught = |break_it: fn(&CrashMedia)| {
        let mut seeds = [4, 16].into_iter().chain(5..64);
        seeds.any(|seed| crash_at_every_persist_point(seed, true, break_it).1 > 0)
    };
    assert!(caught(|media| media.lose_fence(0)), "the fence before the superblock");
    assert!(caught(|media| media.lose_fence(1)), "the fence after the superblock");
    assert!(caught(|media| media.lose_flush_every(2)), "every second flush");
    assert!(caught(|media| media.lose_flush_every(7)), "every seventh flush");
}

#[test]
fn a_damaged_superblock_falls_back_to_the_epoch_before_and_two_are_an_error() {
    let media = Arc::new(CrashMedia::new(CAPACITY, Granularity::Page, 1));
    let mem = Arc::new(Mem::new(Box::new(media.clone())));
    let (mut store, mut committer, _) = Store::open(mem, &OPTIONS).unwrap();
    let (mut model, mut rng) = (Content::new(), Rng(5));
    let mut states = vec![];
    for _ in 0..6 {
        for _ in 0..80 {
            step(&mut store, &mut model, &mut rng, 60);
        }
        commit(&mut store, &mut committer);
        states.push(model.clone());
    }
    let image = media.crash();
    let mut found = Vec::new();
    for copy in [0usize, 1 << 20] {
        let mut damaged = image.clone();
        damaged[copy + 70] ^= 1;
        found.push(recover(&damaged).unwrap());
    }
    let last_two = &states[states.len() - 2..];
    assert!(found.iter().all(|content| last_two.contains(content)));
    assert!(found[0] != found[1]);
    let mut damaged = image;
    damaged[70] ^= 1;
    damaged[(1 << 20) + 70] ^= 1;
    let error = recover(&damaged).unwrap_err();
    assert!(error.contains("both superblocks are damaged"), "{error}");
    assert!(error.contains("at byte 0"), "{error}");
}

#[test]
fn overwriting_for_ever_takes_bounded_space() {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY * 8))));
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
    let mut rng = Rng(9);
    let names: Vec<_> = (0..5000).map(|i| format!("key:{i:016}").into_bytes()).collect();
    for name in &names {
        store.put(Db(0), &store.key(name), TEXT, &[1; 100]).unwrap();
    }
    commit(&mut store, &mut committer);
    let first = store.usage();
    for round in 0..60 {
        for _ in 0..1000 {
            let name = &names[rng.below(5000) as usize];
            store.put(Db(0), &store.key(name), TEXT, &[round; 100]).unwrap();
        }
        commit(&mut store, &mut committer);
    }
    let last = store.usage();
    assert_eq!(first.live_bytes, last.live_bytes);
    assert!(last.extents_bytes <= first.extents_bytes + (8 << 20), "{first:?} {last:?}");
    assert!(check(mem, true, &mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn a_pin_keeps_what_it_saw() {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY * 8))));
    let (mut store, mut committer, _) = Store::open(mem, &OPTIONS).unwrap();
    let names: Vec<_> = (0..500).map(|i| format!("key:{i}").into_bytes()).collect();
    for name in &names {
        store.put(Db(0), &store.key(name), TEXT, name).unwrap();
    }
    let pin = store.pin();
    for round in 0..20u8 {
        for name in &names {
            store.put(Db(0), &store.key(name), TEXT, &[round; 50]).unwrap();
        }
        commit(&mut store, &mut committer);
    }
    let seen = pin.view();
    for name in &names {
        let record = seen.get(Db(0), &store.key(name)).unwrap().unwrap();
        assert_eq!(record.value().as_inline().unwrap(), name);
    }
}

#[test]
fn a_full_pool_says_so_and_deletes_work() {
    let options = PoolOptions { capacity_bytes: 16 << 20, ..OPTIONS };
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY))));
    let (mut store, mut committer, _) = Store::open(mem.clone(), &options).unwrap();
    store.set_limit_bytes(options.capacity_bytes);
    let mut count = 0u64;
    while store.room_for(Store::cost(16, 1000)) {
        store.put(Db(0), &store.key(format!("{count:016}").as_bytes()), TEXT, &[7; 1000]).unwrap();
        count += 1;
        if count.is_multiple_of(500) {
            commit(&mut store, &mut committer);
        }
    }
    assert!(count * 1000 > 7 << 20, "{count} values of 1000 bytes fit in 16 MiB");
    for i in 0..count {
        assert!(store.remove(Db(0), &store.key(format!("{i:016}").as_bytes())).unwrap());
        if i % 500 == 0 {
            commit(&mut store, &mut committer);
        }
    }
    assert!(store.room_for(7 << 20));
    commit(&mut store, &mut committer);
    let report = check(mem, true, &mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(store.len(Db(0)), 0);
}
