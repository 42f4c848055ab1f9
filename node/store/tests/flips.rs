//! A flipped bit anywhere in a pool: what is read afterwards is right, or an error; never wrong.
//!
//! `CAIRN_SEEDS=N` makes N flips anywhere, and N times as many in each structure: with 2 or more in
//! every bit of its header, from 512 on in every byte of it.

use cairn_protocol::ids::{LogIndex, Term};
use cairn_store::check::check;
use cairn_store::layout::pool as layout;
use cairn_store::media::{HeapMedia, Pages};
use cairn_store::persist::Mem;
use cairn_store::{
    Committer, Db, Encoding, Evacuation, Meta, PoolOptions, SnapshotOutcome, Store, StoreError,
    Type,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const CAPACITY: u64 = 64 << 20;
const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };

fn meta(ty: Type) -> Meta {
    Meta { ty, encoding: Encoding::Raw, deadline_ms: None }
}

/// Values by name.
type Content = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

fn seeds() -> Option<u64> {
    std::env::var("CAIRN_SEEDS").ok().and_then(|n| n.parse().ok())
}

fn commit(store: &mut Store, committer: &mut Committer) -> Result<(), StoreError> {
    if let Some(sealed) = store.seal() {
        store.release(committer.commit(sealed)?);
    }
    Ok(())
}

/// A pool of keys, collections and a snapshot, three epochs old.
fn fill() -> (Arc<Mem>, Store, Committer) {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::new(CAPACITY))));
    let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
    for round in 0..3u8 {
        for n in 0..300 {
            let name = format!("{{tag}}key:{n}").into_bytes();
            let meta = Meta { deadline_ms: (n % 3 == 0).then_some(1000 + n), ..meta(Type::String) };
            store.put(Db(0), &store.key(&name), meta, &[round; 100]).unwrap();
        }
        store.put(Db(1), &store.key(b"long"), meta(Type::String), &vec![round; 50_000]).unwrap();
        let fill = |name: &[u8], ty: Type, store: &mut Store| {
            let key = store.key(name);
            store.build(Db(1), &key, meta(ty), |edit| -> Result<(), StoreError> {
                for n in 0..200u32 {
                    let member = format!("member:{n}").into_bytes();
                    match ty {
                        Type::Hash => drop(edit.put(&member, &[round; 40])?),
                        Type::ZSet => drop(edit.rank_put(&member, f64::from(n % 7))?),
                        _ => edit.list_push_back(&member)?,
                    }
                }
                Ok(())
            })
        };
        fill(b"hash", Type::Hash, &mut store).unwrap();
        fill(b"zset", Type::ZSet, &mut store).unwrap();
        fill(b"list", Type::List, &mut store).unwrap();
        if round == 1 {
            store.take_snapshot(b"kept", 1).unwrap();
        }
        commit(&mut store, &mut committer).unwrap();
    }
    (mem, store, committer)
}

/// The same with nothing left to reclaim, closed in order, and what it holds.
fn pool() -> (Vec<u8>, Content) {
    let (mem, mut store, mut committer) = fill();
    while store.reclaim(1000).unwrap() {}
    commit(&mut store, &mut committer).unwrap();
    closed(&mem, &store, &mut committer)
}

fn closed(mem: &Mem, store: &Store, committer: &mut Committer) -> (Vec<u8>, Content) {
    committer.close().unwrap();
    let bytes = mem.bytes(0, mem.media().len() as usize).unwrap().to_vec();
    (bytes, read_all(store).unwrap())
}

/// Everything there is, read the way commands read it: each key by name, each member by name.
fn read_all(store: &Store) -> Result<Content, StoreError> {
    let mut out = Content::new();
    for n in 0..300 {
        let name = format!("{{tag}}key:{n}").into_bytes();
        let found = store.get(Db(0), &store.key(&name))?;
        let value = found.map(|record| record.value().to_vec()).transpose()?;
        out.insert(name, value.into_iter().collect());
    }
    let long = store.get(Db(1), &store.key(b"long"))?;
    let long = long.map(|record| record.value().to_vec()).transpose()?;
    out.insert(b"long".to_vec(), long.into_iter().collect());
    for name in [&b"hash"[..], b"zset", b"list"] {
        let mut values = Vec::new();
        if let Some(record) = store.get(Db(1), &store.key(name))? {
            let tree = store.tree(&record).expect("a collection in trees");
            if name == b"list" {
                tree.elements(0, false, &mut |element| {
                    values.push(element.to_vec()?);
                    Ok(true)
                })?;
            } else {
                for n in 0..200 {
                    let member = tree.member(format!("member:{n}").as_bytes())?;
                    values.extend(member.map(|member| member.value().to_vec()).transpose()?);
                }
            }
            if name == b"zset" {
                tree.ranked(0, false, &mut |member, score| {
                    values.push([member, &score.to_le_bytes()].concat());
                    Ok(true)
                })?;
            }
        }
        out.insert(name.to_vec(), values);
    }
    let expired = store.next_expired(u64::MAX)?.map(|(_, key)| key);
    out.insert(b"next expired".to_vec(), expired.into_iter().collect());
    out.insert(b"keys".to_vec(), vec![store.len(Db(0)).to_le_bytes().to_vec()]);
    let mut snapshots = Vec::new();
    for snapshot in store.snapshots()? {
        let pin = store.pin_snapshot(&snapshot.name)?.expect("listed");
        let found = pin.view().get(Db(1), &store.key(b"long"))?;
        snapshots.extend(found.map(|record| record.value().to_vec()).transpose()?);
    }
    out.insert(b"snapshots".to_vec(), snapshots);
    Ok(out)
}

/// Bytes that mean something: in superblocks, in records that count, in blocks in use.
fn used_ranges(bytes: &[u8]) -> Vec<(usize, usize)> {
    let chunks = bytes.chunks(4096).enumerate();
    let used = chunks.filter(|(_, page)| page.iter().any(|&byte| byte != 0));
    used.map(|(page, _)| (page * 4096, 4096)).collect()
}

#[test]
fn nothing_wrong_is_ever_read_from_a_pool_with_a_flipped_bit() {
    let (bytes, wanted) = pool();
    let ranges = used_ranges(&bytes);
    let total: usize = ranges.iter().map(|(_, len)| len).sum();
    let flips = seeds().unwrap_or(300);
    let (mut errors, mut harmless) = (0, 0);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for flip in 0..flips {
        state = cairn_store::hash::mix(state);
        let nth = (state % total as u64) as usize;
        let (page, _) = ranges[nth / 4096];
        let (at, bit) = (page + nth % 4096, state >> 40 & 7);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_bytes(&damaged, CAPACITY))));
        let outcome = Store::open(mem.clone(), &OPTIONS).and_then(|(store, ..)| {
            let found = read_all(&store)?;
            assert!(found == wanted, "flip {flip}: bit {bit} of byte {at} gave a wrong answer");
            Ok(())
        });
        let offline = check(mem, true, &mut |_, _| {});
        let noticed = offline.map_or(true, |report| !report.is_clean() || report.note.is_some());
        match outcome {
            Err(_) => {
                assert!(noticed, "flip {flip}: bit {bit} of byte {at} passes a deep check");
                errors += 1;
            }
            Ok(()) => harmless += u32::from(!noticed),
        }
    }
    println!("{flips} flips: {errors} met by a read, {harmless} in bytes that nothing uses");
    assert!(errors > flips as u32 / 10, "{errors} of {flips}");
}

/// A pool with an instance of every kind of block, dropped trees and what snapshots leave among
/// them.
fn pool_of_everything() -> (Vec<u8>, Content) {
    let (mem, mut store, mut committer) = fill();
    for n in 0..30 {
        let name = format!("brief:{n}").into_bytes();
        store.put(Db(2), &store.key(&name), meta(Type::String), &[9; 60]).unwrap();
    }
    store.take_snapshot(b"brief", 2).unwrap();
    commit(&mut store, &mut committer).unwrap();
    store.put(Db(1), &store.key(b"long"), meta(Type::String), &[8; 40_000]).unwrap();
    store.drop_db(Db(2)).unwrap();
    assert_eq!(store.drop_snapshot(b"brief").unwrap(), SnapshotOutcome::Done);
    commit(&mut store, &mut committer).unwrap();
    commit(&mut store, &mut committer).unwrap();
    closed(&mem, &store, &mut committer)
}

fn word(bytes: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(bytes[at as usize..at as usize + 8].try_into().unwrap())
}

/// A structure: what it is, where, and its bytes.
type Place = (String, u64, usize);

/// Slabs that have a record, and where the newer copy of it lies.
fn records_in_use(bytes: &[u8]) -> Vec<(u64, u64)> {
    let fits = |extent: u64| layout::file_bytes(extent + 1) <= bytes.len() as u64;
    let extents = (0u64..).take_while(|&extent| fits(extent)).count() as u64;
    let newest = |slab: u64| {
        let copies = [0, 1].map(|copy| layout::record_at(slab, copy));
        copies.into_iter().max_by_key(|at| word(bytes, *at)).unwrap()
    };
    let slabs = 0..extents * layout::SLABS_PER_EXTENT;
    slabs.map(|slab| (slab, newest(slab))).filter(|&(_, at)| word(bytes, at) != 0).collect()
}

/// Both superblocks, the records of slabs in use, and of each kind of block two that are needed.
fn structures(bytes: &[u8], is_needed: impl Fn(&(u64, usize)) -> bool) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    for (copy, at) in layout::SUPERBLOCK_AT.into_iter().enumerate() {
        found.push((format!("superblock {copy}"), at, layout::SUPERBLOCK));
    }
    let mut blocks: BTreeMap<u8, Vec<(u64, usize)>> = BTreeMap::new();
    for (slab, newest) in records_in_use(bytes) {
        let extent = slab / layout::SLABS_PER_EXTENT;
        found.push((format!("record of slab {slab}"), newest, layout::RECORD));
        let class = bytes[newest as usize + layout::record::CLASS];
        let len = u64::from(layout::CLASS_BYTES[class as usize]);
        let first = layout::extent_at(extent) + slab % layout::SLABS_PER_EXTENT * layout::SLAB;
        for block in 0..layout::SLAB / len {
            let bits = newest + (layout::record::BITMAP as u64) + block / 8;
            if bytes[bits as usize] >> (block % 8) & 1 == 1 {
                let at = first + block * len;
                blocks.entry(bytes[at as usize + 6]).or_default().push((at, len as usize));
            }
        }
    }
    let kinds: Vec<u8> = blocks.keys().copied().collect();
    assert_eq!(kinds, (layout::kind::ROOT..=layout::kind::GARBAGE).collect::<Vec<u8>>());
    for (kind, mut places) in blocks {
        // From either end, for blocks are taken in order.
        places.rotate_right(1);
        let needed = places.into_iter().filter(|place| is_needed(place)).take(2);
        let needed: Vec<_> = needed.collect();
        assert!(!needed.is_empty(), "nothing needs any block of kind {kind}");
        found
            .extend(needed.into_iter().map(|(at, len)| (format!("block of kind {kind}"), at, len)));
    }
    found
}

/// Changes something everywhere: under the snapshot, in place, moved, dropped and reclaimed.
fn change_all(store: &mut Store, committer: &mut Committer) -> Result<(), StoreError> {
    for n in 0..300u64 {
        let name = format!("{{tag}}key:{n}").into_bytes();
        let key = store.key(&name);
        match n % 3 {
            0 => drop(store.remove(Db(0), &key)?),
            1 => store.put(Db(0), &key, meta(Type::String), &[n as u8; 100])?,
            _ => drop(store.set_deadline(Db(0), &key, Some(5000 + n))?),
        }
    }
    for name in [&b"hash"[..], b"zset", b"list"] {
        let key = store.key(name);
        store.edit(Db(1), &key, |edit| -> Result<(), StoreError> {
            for n in 0..200u32 {
                let member = format!("member:{n}").into_bytes();
                match name {
                    b"hash" if n % 2 == 0 => drop(edit.put(&member, &[77; 30])?),
                    b"zset" => drop(edit.rank_put(&member, f64::from(n % 5))?),
                    b"list" if n % 4 == 0 => edit.list_insert(u64::from(n), &member)?,
                    _ => {}
                }
            }
            Ok(())
        })?;
    }
    store.write_at(Db(1), &store.key(b"long"), Encoding::Raw, 20_000, &[5; 20])?;
    commit(store, committer)?;
    let mut pass = Evacuation::of_everything();
    for _ in 0..20 {
        store.evacuate(&mut pass, 300, true)?;
    }
    while store.reclaim(200)? {}
    commit(store, committer)
}

fn opened(pages: &Pages) -> Result<(Store, Committer), StoreError> {
    let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(pages, CAPACITY))));
    Store::open(mem, &OPTIONS).map(|(store, committer, _)| (store, committer))
}

/// Who came by a flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    /// A deep check did.
    by_check: bool,
    /// An open, a read or a write did, and was refused.
    by_use: bool,
}

/// Judges a flipped pool: looked at, read, and written to.
///
/// # Errors
/// A wrong answer, or a panic.
fn judge(pages: &Pages, wanted: &Content, changed: &Content) -> Result<Found, String> {
    let judged = catch_unwind(AssertUnwindSafe(|| -> Result<Found, String> {
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(pages, CAPACITY))));
        let report = check(mem, true, &mut |_, _| {});
        let by_check = report.map_or(true, |report| !report.is_clean() || report.note.is_some());
        let by_use = use_all(pages, wanted, changed)?;
        Ok(Found { by_check, by_use })
    }));
    judged.unwrap_or_else(|_| Err("panics".into()))
}

/// Whether reading or writing everything is refused somewhere.
fn use_all(pages: &Pages, wanted: &Content, changed: &Content) -> Result<bool, String> {
    let Ok((mut store, mut committer)) = opened(pages) else { return Ok(true) };
    match read_all(&store) {
        Ok(found) if found != *wanted => return Err("is read wrong".into()),
        Ok(_) => {}
        // Whatever else is written then may be refused, and must not panic.
        Err(_) => drop(change_all(&mut store, &mut committer)),
    }
    let Ok((mut store, mut committer)) = opened(pages) else { return Ok(true) };
    match change_all(&mut store, &mut committer).and_then(|()| read_all(&store)) {
        Ok(found) if found != *changed => Err("is read wrong after it was written to".into()),
        written => Ok(written.is_err()),
    }
}

#[test]
fn a_flip_in_any_byte_of_any_structure_is_found_and_never_answered_wrong() {
    let (bytes, wanted) = pool_of_everything();
    let whole = Pages::of(&bytes);
    let (mut store, mut committer) = opened(&whole).unwrap();
    change_all(&mut store, &mut committer).unwrap();
    let changed = read_all(&store).unwrap();
    let (mut flips, mut not_met, mut wrong) = (0, 0, Vec::new());
    let times = seeds().unwrap_or(1).max(1) as usize;
    // What a dropped snapshot kept, and no other sees, only waits to be freed: a check does not look
    // at it, and nobody reads it.
    let is_needed = |&(at, len): &(u64, usize)| {
        let mut blank = bytes.clone();
        blank[at as usize..at as usize + len].fill(0xa5);
        let nobody = Found { by_check: false, by_use: false };
        judge(&Pages::of(&blank), &wanted, &changed) != Ok(nobody)
    };
    for (name, at, len) in structures(&bytes, is_needed) {
        let step = (len / (32 * times)).max(1);
        // Headers byte by byte: each field of them is its own.
        let header = (0..layout::HEADER.min(len)).filter(|byte| byte % step != 0);
        for byte in (0..len).step_by(step).chain(header) {
            let drawn = cairn_store::hash::mix(at + byte as u64) % 8;
            let each = times > 1 && byte < layout::HEADER;
            for bit in if each { 0..8 } else { drawn..drawn + 1 } {
                let mut pages = whole.clone();
                pages.write(at + byte as u64, &[bytes[at as usize + byte] ^ 1 << bit]);
                flips += 1;
                let why = match judge(&pages, &wanted, &changed) {
                    Ok(Found { by_check: false, .. }) => "passes a deep check".to_owned(),
                    Ok(Found { by_use, .. }) => {
                        not_met += u32::from(!by_use);
                        continue;
                    }
                    Err(why) => why,
                };
                wrong.push(format!("{name} at {at}, bit {bit} of byte {byte}: {why}"));
            }
        }
    }
    println!("{flips} flips, {} of them wrong; {not_met} met by no read and no write", wrong.len());
    assert!(wrong.is_empty(), "{} of {flips}: {wrong:#?}", wrong.len());
}

/// A block of an earlier run whose birth was lifted into this one is not taken for one that this run
/// is writing, once what it claims to be of is committed.
#[test]
fn a_birth_lifted_into_this_run_is_no_excuse() {
    let (mem, mut store, mut committer) = fill();
    let put = |store: &mut Store, name: &[u8]| {
        store.put(Db(0), &store.key(name), meta(Type::String), b"value").unwrap();
    };
    put(&mut store, b"lifted");
    commit(&mut store, &mut committer).unwrap();
    let (bytes, _) = closed(&mem, &store, &mut committer);
    // The epochs that a run takes are always the same.
    let (store, _) = opened(&Pages::of(&bytes)).unwrap();
    let claimed = store.epoch().0;
    let at = store.get(Db(0), &store.key(b"lifted")).unwrap().unwrap().offset();
    let mut pages = Pages::of(&bytes);
    let head = word(&bytes, at);
    let lifted = head & !layout::BIRTH_MASK | claimed & layout::BIRTH_MASK;
    assert_ne!(head, lifted);
    pages.write(at, &lifted.to_le_bytes());
    let (mut store, mut committer) = opened(&pages).unwrap();
    put(&mut store, b"another");
    commit(&mut store, &mut committer).unwrap();
    let read = store.get(Db(0), &store.key(b"lifted")).map(|_| "is read");
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
}

/// Blocks of a kind that are marked in use.
fn blocks_of(bytes: &[u8], kind: u8) -> Vec<(u64, usize)> {
    let name = format!("block of kind {kind}");
    let places = structures(bytes, |_| true).into_iter();
    places.filter(|place| place.0 == name).map(|(_, at, len)| (at, len)).collect()
}

/// Takes everything there is out of a pool, frees it, and lives on.
///
/// # Errors
/// What a writer is told by whom damage is met before it is logged.
fn clear_and_live_on(store: &mut Store, committer: &mut Committer) -> Result<(), StoreError> {
    for db in 0..=Db::COUNT {
        store.drop_db(Db(db))?;
    }
    for snapshot in store.snapshots()? {
        store.drop_snapshot(&snapshot.name)?;
    }
    commit(store, committer)?;
    let mut slices = 0;
    while store.reclaim(50).expect("reclaiming goes on behind what is damaged") {
        slices += 1;
        assert!(slices < 10_000, "reclaiming comes to no end");
    }
    assert!(!store.has_dropped());
    for round in 0..4u8 {
        for n in 0..200 {
            let key = format!("new:{n}").into_bytes();
            store.put(Db(0), &store.key(&key), meta(Type::String), &[round; 1000])?;
        }
        commit(store, committer)?;
        while store.recycle_dead(1000) {}
    }
    for n in 0..200 {
        let key = format!("new:{n}").into_bytes();
        let value = store.get(Db(0), &store.key(&key))?.map(|record| record.value().to_vec());
        assert_eq!(value.transpose()?, Some(vec![3; 1000]));
    }
    Ok(())
}

/// What is damaged of what was dropped, or of a snapshot that was, costs its room and nothing else:
/// the rest is freed, and a check names what is lost.
#[test]
fn damage_in_what_was_dropped_leaks_and_the_rest_is_freed() {
    let (bytes, _) = pool_of_everything();
    let (mut store, mut committer) = opened(&Pages::of(&bytes)).unwrap();
    clear_and_live_on(&mut store, &mut committer).unwrap();
    assert_eq!(store.leaked().pieces, 0);
    let whole = store.usage().live_bytes;
    let (mut leaks, mut told) = (0, 0);
    for kind in layout::kind::ROOT..=layout::kind::GARBAGE {
        for (at, len) in blocks_of(&bytes, kind) {
            for byte in [3, 6, 8, 20, len / 2] {
                let mut pages = Pages::of(&bytes);
                pages.write(at + byte as u64, &[bytes[at as usize + byte] ^ 0x10]);
                let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(&pages, CAPACITY))));
                let Ok((mut store, mut committer, found)) = Store::open(mem.clone(), &OPTIONS)
                else {
                    continue;
                };
                let cleared = clear_and_live_on(&mut store, &mut committer);
                if found.read_only.is_some() || cleared.is_err() {
                    told += 1;
                    continue;
                }
                leaks += u32::from(store.leaked().pieces > 0);
                let usage = store.usage();
                let why = format!("kind {kind}, byte {byte} of {at}");
                // A list of what was dropped leads to more than any other block.
                let more = if kind == layout::kind::DROPPED { 1 << 20 } else { 200 << 10 };
                assert!(usage.live_bytes < whole + more, "{why}: {usage:?}");
                committer.close().unwrap();
                let report = check(mem, false, &mut |_, _| {}).unwrap();
                let is_list = kind >= layout::kind::CATALOGUE;
                assert!(is_list || usage.kept_bytes == 0, "{why}: {usage:?}");
                assert!(is_list || report.problem_count == 0, "{why}: {:?}", report.problems);
                if store.leaked().pieces > 0 && !is_list {
                    assert!(report.leaked_blocks > 0, "{why}");
                }
            }
        }
    }
    println!("{leaks} leaks, {told} told before anything was written");
    assert!(leaks > 50, "{leaks}");
}

/// What a snapshot keeps beyond a damaged page is entered on a new one: nothing piles up in memory, and
/// snapshots can be taken, dropped and rolled back to.
#[test]
fn a_damaged_page_of_kept_blocks_leaks_and_the_next_ones_are_entered() {
    let (bytes, _) = pool_of_everything();
    let none_leaked = |store: &Store| assert_eq!(store.leaked().pieces, 0);
    let mut met = 0;
    for (at, _) in blocks_of(&bytes, layout::kind::KEPT) {
        for (byte, bit) in [(3, 0x10), (6, 1), (8, 1), (11, 0x80), (20, 0x10)] {
            let mut pages = Pages::of(&bytes);
            pages.write(at + byte, &[bytes[(at + byte) as usize] ^ bit]);
            for step in 0..3 {
                let (mut store, mut committer) = opened(&pages).unwrap();
                none_leaked(&store);
                store.drop_db(Db(1)).unwrap();
                // Of garbage that is damaged the rest stays where it is, and that is told elsewhere.
                while store.reclaim(1000).unwrap() {}
                commit(&mut store, &mut committer).unwrap();
                met += u32::from(store.leaked().first_at == Some(at));
                match step {
                    0 => drop(store.take_snapshot(b"another", 3).unwrap()),
                    1 => drop(store.drop_snapshot(b"kept").unwrap()),
                    _ => drop(store.roll_back(b"kept", true).unwrap()),
                }
                commit(&mut store, &mut committer).unwrap();
                let name = if step == 1 { &b"nobody"[..] } else { b"kept" };
                if let Some(pin) = store.pin_snapshot(name).unwrap() {
                    let found = pin.view().get(Db(1), &store.key(b"long")).unwrap().unwrap();
                    assert_eq!(found.value().to_vec().unwrap(), vec![1; 50_000]);
                }
                assert!(store.demand_of_snapshots().bytes < 64 << 10);
            }
        }
    }
    assert!(met >= 15, "{met}");
}

/// A slab whose record is damaged counts as full: everything else can be written, and what dies in it
/// stays where it is.
#[test]
fn a_damaged_slab_record_costs_its_slab() {
    let (bytes, wanted) = pool_of_everything();
    let records = structures(&bytes, |_| true).into_iter();
    let records: Vec<u64> =
        records.filter(|place| place.0.starts_with("record")).map(|(_, at, _)| at).collect();
    let mut met = 0;
    for at in records {
        let mut pages = Pages::of(&bytes);
        let place = at + layout::record::BITMAP as u64;
        pages.write(place, &[bytes[place as usize] ^ 1]);
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(&pages, CAPACITY))));
        let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
        assert_eq!(read_all(&store).unwrap(), wanted);
        change_all(&mut store, &mut committer).expect("writes go on");
        for n in 0..3000u32 {
            let key = format!("more:{n}").into_bytes();
            store.put(Db(3), &store.key(&key), meta(Type::String), &[7; 3000]).unwrap();
        }
        commit(&mut store, &mut committer).unwrap();
        committer.close().unwrap();
        let changed = read_all(&store).unwrap();
        met += u32::from(store.leaked().pieces > 0);
        drop((store, committer));
        let report = check(mem.clone(), true, &mut |_, _| {}).unwrap();
        assert!(report.problems.iter().any(|p| p.contains("slab record")), "{:?}", report.problems);
        let (mut store, mut committer, _) = Store::open(mem.clone(), &OPTIONS).unwrap();
        assert_eq!(read_all(&store).unwrap(), changed);
        clear_and_live_on(&mut store, &mut committer).expect("it lives on after a restart");
    }
    assert!(met > 5, "of most slabs something dies: {met}");
}

/// A pool whose snapshots cannot be read opens for reading, and nothing of it is written over.
#[test]
fn damaged_snapshots_leave_the_data_readable() {
    let (bytes, wanted) = pool_of_everything();
    for kind in [layout::kind::CATALOGUE, layout::kind::SNAPSHOT] {
        let (at, _) = blocks_of(&bytes, kind)[0];
        let mut pages = Pages::of(&bytes);
        pages.write(at + 16, &[bytes[at as usize + 16] ^ 1]);
        let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(&pages, CAPACITY))));
        let (mut store, _committer, found) = Store::open(mem.clone(), &OPTIONS).unwrap();
        let reason = found.read_only.expect("may only be read");
        assert!(reason.contains("snapshots") && reason.contains("restore"), "{reason}");
        let same = |found: Result<Content, StoreError>| match found {
            // Of the snapshots nothing is known.
            Err(StoreError::Corrupt(_)) => true,
            other => panic!("{other:?}"),
        };
        assert!(same(read_all(&store)));
        for (name, values) in wanted.iter().filter(|(name, _)| name.starts_with(b"{tag}")) {
            let found = store.get(Db(0), &store.key(name)).unwrap();
            let value = found.map(|record| record.value().to_vec().unwrap());
            assert_eq!(&value.into_iter().collect::<Vec<_>>(), values);
        }
        // A replay writes to free places alone.
        let committed = mem.bytes(0, mem.media().len() as usize).unwrap().to_vec();
        for n in 0..500 {
            let name = format!("{{tag}}key:{n}").into_bytes();
            store.put(Db(0), &store.key(&name), meta(Type::String), &[9; 100]).unwrap();
        }
        let after = mem.bytes(0, committed.len()).unwrap();
        for kind in layout::kind::ROOT..=layout::kind::GARBAGE {
            for (at, len) in blocks_of(&bytes, kind) {
                let place = at as usize..at as usize + len;
                assert_eq!(after[place.clone()], committed[place], "kind {kind} at {at}");
            }
        }
        let report = check(mem, false, &mut |_, _| {}).unwrap();
        assert!(report.problem_count > 0);
    }
}

/// A record that is damaged so that it looks like one of an interrupted commit is not wiped: the copy
/// beside it would be taken for what counts.
#[test]
fn a_damaged_record_is_not_wiped_with_those_of_an_interrupted_commit() {
    use cairn_store::alloc::record::{Committed, no_bits, read, wipe_void, write};
    let len = layout::file_bytes(1) as usize;
    // The epochs of both copies; the later one is the damaged one. The pool was opened at 10, and is
    // at 2000 when it is swept.
    for (older, newer) in [(5, 7), (5, 10), (10, 1500), (1400, 1500)] {
        for copy in [0, 1] {
            let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_bytes(&vec![0; len], CAPACITY))));
            write(&mem, 0, 1 - copy, older, 1, &no_bits(1)).unwrap();
            write(&mem, 0, copy, newer, 1, &no_bits(1)).unwrap();
            let mut bytes = mem.bytes(0, len).unwrap().to_vec();
            let at = layout::record_at(0, copy) as usize + layout::record::EPOCH;
            bytes[at..at + 8].copy_from_slice(&500u64.to_le_bytes());
            let mem = Arc::new(Mem::new(Box::new(HeapMedia::with_bytes(&bytes, CAPACITY))));
            let voids = vec![(10, 1000)];
            let committed = Committed { epoch: 2000, voids: voids.clone(), is_fallback: false };
            assert!(read(&mem, 0, &committed).is_err());
            assert!(wipe_void(&mem, 0, &committed, 10).unwrap());
            let later = Committed { epoch: 3000, ..Committed::default() };
            let why = format!("{older} and {newer}: what counts is lost, and must not seem there");
            assert!(read(&mem, 0, &later).is_err(), "{why}");
            // A slab that was written since the open is not loaded again.
            let at_open = Committed { epoch: 10, voids, is_fallback: false };
            assert!(newer > 10 || read(&mem, 0, &at_open).is_err(), "{why}");
        }
    }
}

/// The same while the run that finds it goes on: it has opened the pool at an earlier epoch than the
/// sweep comes at.
#[test]
fn a_damaged_record_that_a_sweep_meets_stays_damaged_for_the_run_that_swept() {
    let (mem, store, committer) = fill();
    let wanted = read_all(&store).unwrap();
    // A crash: the epochs that the run had set aside are void.
    drop((store, committer));
    let bytes = mem.bytes(0, mem.media().len() as usize).unwrap().to_vec();
    let records = records_in_use(&bytes);
    assert!(records.len() > 5);
    for (slab, at) in records {
        let mut pages = Pages::of(&bytes);
        let byte = at + layout::record::EPOCH as u64 + 2;
        pages.write(byte, &[bytes[byte as usize] ^ 1]);
        let (mut store, mut committer) = opened(&pages).unwrap();
        // A commit of nothing: no record is looked at before the sweep.
        store.set_applied(Term(1), LogIndex(1), 0);
        commit(&mut store, &mut committer).unwrap();
        assert!(!committer.sweep(u64::MAX).unwrap());
        for n in 0..2000u32 {
            let key = format!("more:{n}").into_bytes();
            store.put(Db(3), &store.key(&key), meta(Type::String), &[7; 3000]).unwrap();
            let key = format!("small:{n}").into_bytes();
            store.put(Db(3), &store.key(&key), meta(Type::String), &[7; 60]).unwrap();
        }
        commit(&mut store, &mut committer).unwrap();
        let found = read_all(&store);
        assert!(found.is_ok_and(|found| found == wanted), "slab {slab} is written over");
    }
}
