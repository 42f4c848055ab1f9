//! Pools sent into files: resumed after a restart, put in another's place, refused where there is
//! no room, and given bytes that nobody honest sends.
//!
//! `CAIRN_SEED=S` replays one seed of the random ones; `CAIRN_KEYS=N` sends N keys in the one that
//! measures, and `CAIRN_TRANSFER_DIR` says where.

mod common;

use cairn_store::check::check_file;
use cairn_store::layout::pool::{SUPERBLOCK_AT, sb};
use cairn_store::layout::transfer::{chunk, head};
use cairn_store::{
    Committer, Db, Encoding, Export, Head, Import, Meta, PoolOptions, Store, StoreError,
    TransferError, Type,
};
use common::Rng;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

const MEMORY: u64 = 64 << 20;
const HERE: PoolOptions =
    PoolOptions { capacity_bytes: MEMORY, new_hash_key: [7, 11], new_uuid: [3; 16] };
const THERE: PoolOptions = PoolOptions { new_hash_key: [1, 2], new_uuid: [9; 16], ..HERE };
const TEXT: Meta = Meta { ty: Type::String, encoding: Encoding::Raw, deadline_ms: None };
const HASH: Meta = Meta { ty: Type::Hash, encoding: Encoding::Hashtable, deadline_ms: None };

fn name(n: u64) -> Vec<u8> {
    format!("key:{n:016}").into_bytes()
}

fn value(n: u64) -> Vec<u8> {
    vec![n as u8; 100]
}

fn commit(store: &mut Store, committer: &mut Committer) {
    let sealed = store.seal().expect("something has changed");
    store.release(committer.commit(sealed).unwrap());
}

/// A pool of `keys` keys in a file, in some commits, a collection and a snapshot with it.
fn pool(path: &Path, options: &PoolOptions, keys: u64) -> (Store, Committer) {
    let (mut store, mut committer, _) = Store::open_file(path, options).unwrap();
    for n in 0..keys {
        store.put(Db(0), &store.key(&name(n)), TEXT, &value(n)).unwrap();
        if n % 50_000 == 49_999 {
            commit(&mut store, &mut committer);
        }
    }
    let key = store.key(b"hash");
    let done = store.build(Db(1), &key, HASH, |edit| -> Result<(), StoreError> {
        (0..200u32).try_for_each(|n| edit.put(&n.to_le_bytes(), &[1; 40]).map(drop))
    });
    done.unwrap();
    store.take_snapshot(b"before", 5).unwrap();
    store.remove(Db(1), &key).unwrap();
    commit(&mut store, &mut committer);
    (store, committer)
}

fn assert_content(path: &Path, options: &PoolOptions, keys: u64) {
    let report = check_file(path, true, &mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let (store, _, opened) = Store::open_file(path, options).unwrap();
    assert_eq!((opened.created, opened.note), (false, None));
    assert_eq!((store.len(Db(0)), store.len(Db(1))), (keys, 0));
    for n in 0..keys {
        let found = store.get(Db(0), &store.key(&name(n))).unwrap().expect("it was sent");
        assert_eq!(found.value().to_vec().unwrap(), value(n));
    }
    let pin = store.pin_snapshot(b"before").unwrap().expect("snapshots come along");
    let before = pin.view();
    let hash = before.get(Db(1), &store.key(b"hash")).unwrap().expect("the snapshot has it");
    assert_eq!(before.tree(&hash).unwrap().len(), 200);
}

fn chunks(export: &Export, store: &Store) -> Vec<Vec<u8>> {
    let all = 0..export.head().chunks();
    all.map(|number| export.chunk(store, number).unwrap().unwrap()).collect()
}

fn put_all(import: &mut Import, chunks: &[Vec<u8>]) {
    for number in import.wanted()..chunks.len() as u64 {
        import.put(number, &chunks[number as usize]).unwrap();
    }
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        let shm = Path::new("/dev/shm");
        let made = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        Dir(made.unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn a_transfer_goes_on_after_a_restart_and_takes_the_old_pools_place() {
    let dir = Dir::new();
    let (store, _committer) = pool(&dir.file("here"), &HERE, 20_000);
    let export = store.export();
    let (head, chunks) = (export.head().clone(), chunks(&export, &store));
    assert!(chunks.len() > 4);

    let (there, incoming) = (dir.file("there"), dir.file("there.incoming"));
    let (mut old, mut old_committer, _) = Store::open_file(&there, &THERE).unwrap();
    old.put(Db(0), &old.key(b"old"), TEXT, b"value").unwrap();
    commit(&mut old, &mut old_committer);

    let mut import = Import::resume(&incoming, head.clone(), &THERE).unwrap();
    assert_eq!(import.wanted(), 0, "nothing was there");
    for number in 0..3 {
        import.put(number, &chunks[number as usize]).unwrap();
    }
    drop(import);
    let error = Store::open_file(&incoming, &THERE).err().expect("it is no pool").to_string();
    assert!(error.contains("both superblocks"), "{error}");

    let import = Import::resume(&incoming, head.clone(), &THERE).unwrap();
    assert_eq!(import.wanted(), 3);
    let early = import.finish(&mut |_, _| {}).err().expect("it is not all there").to_string();
    assert!(early.contains(&format!("chunk 3 of {}", chunks.len())), "{early}");
    let mut import = Import::resume(&incoming, head.clone(), &THERE).unwrap();
    put_all(&mut import, &chunks);
    drop(import);
    let import = Import::resume(&incoming, head.clone(), &THERE).unwrap();
    assert_eq!(import.wanted(), head.chunks(), "all was there");
    import.finish(&mut |_, _| {}).unwrap().install(&there).unwrap();

    assert!(!incoming.exists());
    assert_content(&there, &THERE, 20_000);
    let found = old.get(Db(0), &old.key(b"old")).unwrap().expect("whoever has it open keeps it");
    assert_eq!(found.value().to_vec().unwrap(), b"value");
}

#[test]
fn another_pool_or_another_commit_begins_anew() {
    let dir = Dir::new();
    let (mut store, mut committer) = pool(&dir.file("here"), &HERE, 3000);
    let export = store.export();
    let chunk = export.chunk(&store, 0).unwrap().unwrap();
    let begun = |incoming: &Path| {
        let mut import = Import::begin(incoming, export.head().clone(), &THERE).unwrap();
        import.put(0, &chunk).unwrap();
    };
    let wanted = |incoming: &Path, head: &Head| {
        Import::resume(incoming, head.clone(), &THERE).unwrap().wanted()
    };
    let incoming = dir.file("incoming");
    begun(&incoming);
    assert_eq!(wanted(&incoming, store.export().head()), 1, "the same commit");

    store.put(Db(0), &store.key(b"more"), TEXT, b"").unwrap();
    commit(&mut store, &mut committer);
    let later = store.export();
    assert_eq!(wanted(&incoming, later.head()), 0, "a later one");
    let mut import = Import::begin(&incoming, later.head().clone(), &THERE).unwrap();
    let mixed = import.put(0, &chunk).expect_err("a chunk of the one before").to_string();
    assert!(mixed.contains("another pool"), "{mixed}");

    let other = PoolOptions { new_uuid: [4; 16], ..HERE };
    let (other, _committer) = pool(&dir.file("other"), &other, 3000);
    begun(&incoming);
    assert_eq!(wanted(&incoming, other.export().head()), 0, "another pool");

    for (what, at) in [("progress that is damaged", SUPERBLOCK_AT[0] + 40), ("none", 0)] {
        begun(&incoming);
        let file = std::fs::OpenOptions::new().write(true).open(&incoming).unwrap();
        file.write_all_at(&[0x55], at).unwrap();
        assert_eq!(wanted(&incoming, export.head()), 0, "{what}");
    }
    for len in [0, 100, 4096, 3 << 20] {
        begun(&incoming);
        std::fs::OpenOptions::new().write(true).open(&incoming).unwrap().set_len(len).unwrap();
        assert_eq!(wanted(&incoming, export.head()), 0, "cut to {len} bytes");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let dir = Dir::new();
    let (store, _committer) = pool(&dir.file("here"), &HERE, 20_000);
    let export = store.export();
    let incoming = dir.file("incoming");
    let small = PoolOptions { capacity_bytes: 4 << 20, ..THERE };
    let error = Import::begin(&incoming, export.head().clone(), &small).err().unwrap();
    assert!(matches!(error, TransferError::NoRoom { .. }));
    assert!(error.to_string().contains("--memory"), "{error}");
    assert!(!incoming.exists());

    // More than any file system here has, and more than there are addresses for.
    let mut bytes = export.head().encode();
    let superblock = &mut bytes[head::SUPERBLOCK..];
    superblock[sb::EXTENTS..sb::EXTENTS + 8].copy_from_slice(&((1u64 << 26) - 1).to_le_bytes());
    let crc = crc32fast::hash(&superblock[..sb::CRC]);
    superblock[sb::CRC..].copy_from_slice(&crc.to_le_bytes());
    let huge = PoolOptions { capacity_bytes: u64::MAX, ..THERE };
    let error = Import::begin(&incoming, Head::decode(&bytes).unwrap(), &huge).err().unwrap();
    assert!(matches!(error, TransferError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free space there"), "{error}");
    assert!(!incoming.exists());

    let bytes = export.head().encode();
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Head::decode(&bytes).expect_err("it is not what was sent")
    };
    for at in [head::VERSION, head::CHUNK, 7] {
        let error = changed(at, 77);
        assert!(matches!(error, TransferError::Newer { .. }), "{at}: {error}");
        assert!(error.to_string().contains("newer cairn"), "{error}");
    }
    for at in (0..7).chain(head::SUPERBLOCK..head::LEN) {
        let error = changed(at, !bytes[at]);
        assert!(matches!(error, TransferError::Damaged { .. }), "{at}: {error}");
    }
    for len in 0..bytes.len() {
        assert!(Head::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}

/// A sender whose build has a feature more that others may ignore: its superblock says so, and its
/// chunks name that superblock.
#[test]
fn a_feature_that_may_be_ignored_does_not_keep_a_pool_from_arriving() {
    let dir = Dir::new();
    let (store, _committer) = pool(&dir.file("here"), &HERE, 3000);
    let export = store.export();
    let mut sent = export.head().encode();
    let superblock = &mut sent[head::SUPERBLOCK..];
    superblock[sb::COMPAT + 3] |= 0x80;
    let crc = crc32fast::hash(&superblock[..sb::CRC]).to_le_bytes();
    superblock[sb::CRC..].copy_from_slice(&crc);
    let mut chunks = chunks(&export, &store);
    for bytes in &mut chunks {
        bytes[chunk::HEAD_CRC..][..4].copy_from_slice(&crc);
        let whole = crc32fast::hash(&bytes[chunk::HEAD_CRC..]);
        bytes[chunk::CRC..][..4].copy_from_slice(&whole.to_le_bytes());
    }
    let incoming = dir.file("incoming");
    let mut import = Import::begin(&incoming, Head::decode(&sent).unwrap(), &THERE).unwrap();
    import.put(0, &chunks[0]).unwrap();
    drop(import);
    let mut import = Import::resume(&incoming, Head::decode(&sent).unwrap(), &THERE).unwrap();
    assert_eq!(import.wanted(), 1);
    put_all(&mut import, &chunks);
    import.finish(&mut |_, _| {}).unwrap().install(&dir.file("there")).unwrap();
    assert_content(&dir.file("there"), &THERE, 3000);
}

/// Changes some bytes of a chunk and makes its checksum fit again.
fn forge(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + rng.below(3) {
        let reach = if rng.below(2) == 0 { 2000.min(bytes.len()) } else { bytes.len() };
        let at = rng.below(reach as u64) as usize;
        bytes[at] = [0, 1, 0x7f, 0x80, 0xff, rng.below(256) as u8][rng.below(6) as usize];
    }
    if rng.below(4) == 0 {
        bytes.truncate(rng.below(bytes.len() as u64) as usize);
    }
    if bytes.len() >= chunk::BODY {
        let crc = crc32fast::hash(&bytes[chunk::HEAD_CRC..]);
        bytes[chunk::CRC..chunk::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

#[test]
fn forged_chunks_are_refused_or_make_no_pool() {
    let dir = Dir::new();
    let (store, _committer) = pool(&dir.file("here"), &HERE, 3000);
    let export = store.export();
    let (head, good) = (export.head().clone(), chunks(&export, &store));
    let (mut refused, mut unsound, mut harmless) = (0, 0, 0);
    let one = std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in one.map_or(0..150, |seed: u64| seed..seed + 1) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        let mut rng = Rng(seed);
        let incoming = dir.file("incoming");
        let mut import = Import::begin(&incoming, head.clone(), &THERE).unwrap();
        let bad = rng.below(good.len() as u64);
        for number in 0..good.len() as u64 {
            let bytes = &good[number as usize];
            if number == bad && import.put(number, &forge(bytes, &mut rng)).is_ok() {
                continue;
            }
            refused += u64::from(number == bad);
            import.put(number, bytes).expect("the right one is taken all the same");
        }
        match import.finish(&mut |_, _| {}) {
            Err(_) => {
                unsound += 1;
                let again = Import::resume(&incoming, head.clone(), &THERE).unwrap();
                assert_eq!(again.wanted(), 0, "what is not sound is not gone on with");
            }
            Ok(imported) => {
                harmless += 1;
                imported.install(&dir.file("there")).unwrap();
                let report = check_file(&dir.file("there"), true, &mut |_, _| {}).unwrap();
                assert!(report.is_clean(), "{report:?}");
            }
        }
    }
    println!("{refused} chunks refused, {unsound} pools refused, {harmless} pools arrived");
    assert!(one.is_some() || refused > 20 && unsound > 20);
}

#[test]
fn a_block_that_the_sender_has_lost_is_not_sent() {
    let dir = Dir::new();
    let (store, committer) = pool(&dir.file("here"), &HERE, 3000);
    drop((store, committer));
    let file = std::fs::OpenOptions::new().read(true).write(true).open(dir.file("here")).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let at = bytes.windows(20).position(|at| at == name(77)).expect("the key's blob") as u64;
    file.write_all_at(b"K", at).unwrap();
    let (store, _committer, _) = Store::open_file(&dir.file("here"), &HERE).unwrap();
    let export = store.export();
    let damaged: Vec<_> = (0..export.head().chunks())
        .filter_map(|number| export.chunk(&store, number).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert!(damaged[0].contains("checksum") && damaged[0].contains("here"), "{damaged:?}");
}

#[test]
fn a_replaced_pool_is_not_sent_on() {
    let dir = Dir::new();
    let (store, _committer) = pool(&dir.file("here"), &HERE, 10);
    let export = store.export();
    let (other, _committer) = pool(&dir.file("other"), &HERE, 10);
    let error = export.chunk(&other, 0).expect_err("it is another pool");
    assert!(matches!(error, TransferError::Replaced), "{error}");
}

/// How long it takes: printed, not judged.
#[test]
fn sending_many_keys_is_measured() {
    let keys = std::env::var("CAIRN_KEYS").ok().and_then(|keys| keys.parse().ok());
    let keys: u64 = keys.unwrap_or(20_000);
    let dir = match std::env::var_os("CAIRN_TRANSFER_DIR") {
        Some(dir) => Dir(tempfile::tempdir_in(dir).unwrap()),
        None => Dir::new(),
    };
    let memory = PoolOptions { capacity_bytes: (64 << 20) + keys * 300, ..HERE };
    let (store, _committer) = pool(&dir.file("here"), &memory, keys);
    let export = store.export();
    let incoming = dir.file("incoming");
    let begun = Instant::now();
    let mut import = Import::begin(&incoming, export.head().clone(), &memory).unwrap();
    let space = begun.elapsed();
    let (mut bytes, mut gathering, mut sealing, mut putting) = (0, 0.0, 0.0, 0.0);
    let mut longest_us = 0;
    for number in 0..export.head().chunks() {
        let mut chunk = export.begin(number).unwrap();
        loop {
            let hold = Instant::now();
            let more = export.gather(&store, &mut chunk).unwrap();
            longest_us = longest_us.max(hold.elapsed().as_micros());
            gathering += hold.elapsed().as_secs_f64();
            if !more {
                break;
            }
        }
        let sealed = Instant::now();
        let chunk = export.seal(chunk).unwrap();
        sealing += sealed.elapsed().as_secs_f64();
        bytes += chunk.len();
        let put = Instant::now();
        import.put(number, &chunk).unwrap();
        putting += put.elapsed().as_secs_f64();
    }
    let walk = Instant::now();
    import.finish(&mut |_, _| {}).unwrap().install(&dir.file("there")).unwrap();
    let walk = walk.elapsed();
    let mb = bytes as f64 / 1e6;
    println!(
        "{keys} keys, {mb:.0} MB, pool {} MB: space taken in {space:?}; gathered at {:.0} MB/s (a slab \
         in {longest_us} us at most), sealed at {:.0}, put at {:.0}; finished in {walk:?}",
        export.head().pool_bytes() / 1_000_000,
        mb / gathering,
        mb / sealing,
        mb / putting
    );
    assert_content(&dir.file("there"), &PoolOptions { new_uuid: [9; 16], ..memory }, keys);
}
