//! Short histories, each with one thing that must survive a crash at any moment of it.

use crate::life::{Life, Story, meta};
use cairn_store::media::Pages;
use cairn_store::{Db, Evacuation, Progress, SnapshotOutcome, StoreError, Type};

/// Every line of code that flushes or fences is met in one of them.
pub fn all() -> Vec<Story> {
    vec![
        few_keys(),
        overwritten(),
        collections(),
        database_dropped(),
        long_value(),
        snapshots(),
        rolled_back(),
        closed(),
        killed(),
        swept(),
        swept_at_close(),
        swept_at_open(),
        grown_again(),
        growth(),
        shrunk(),
        regrown(),
    ]
}

fn few_keys() -> Story {
    let mut life = Life::create(1);
    life.put("one", b"1");
    life.commit();
    life.put("two", &[2; 300]);
    life.commit_while(|life| life.put("three", &[3; 40]));
    life.remove("one");
    life.commit();
    life.end("a few keys")
}

fn overwritten() -> Story {
    let mut life = Life::create(1);
    for n in 0..20 {
        life.put(&format!("key:{n}"), &[n; 100]);
    }
    life.commit();
    for n in 0..6 {
        life.put("key:1", &[n; 100]);
        life.put("key:2", &[n; 101]);
        // Freed places are used again while the commit that frees them is under way.
        life.commit_while(|life| life.put("key:3", &[n; 100]));
    }
    life.end("overwritten in place")
}

fn collections() -> Story {
    let mut life = Life::create(1);
    let key = life.store.key(b"packed");
    life.store.put(Db(1), &key, meta(Type::Hash), &[5; 200]).unwrap();
    life.build("hash", Type::Hash, 30);
    life.build("zset", Type::ZSet, 30);
    life.build("list", Type::List, 40);
    life.commit();
    let edit = |life: &mut Life, name: &str, n: u8| {
        let key = life.store.key(name.as_bytes());
        let done = life.store.edit(Db(1), &key, |edit| -> Result<(), StoreError> {
            match name {
                "zset" => drop(edit.rank_put(&[n; 20], f64::from(n))?),
                "list" => edit.list_insert(3, &[n; 20])?,
                _ => drop(edit.put(&[n; 20], &[n; 20])?),
            }
            Ok(())
        });
        assert!(done.unwrap().is_some());
    };
    for name in ["hash", "zset", "list"] {
        edit(&mut life, name, 1);
        life.commit_while(|life| edit(life, name, 2));
    }
    life.commit();
    life.end("collections, packed and in trees")
}

fn database_dropped() -> Story {
    let mut life = Life::create(1);
    for n in 0..40 {
        life.put(&format!("{{tag}}{n}"), &[n; 50]);
    }
    life.build("hash", Type::Hash, 20);
    life.commit();
    life.store.drop_db(Db(0)).unwrap();
    life.commit();
    while life.store.reclaim(15).unwrap() {
        life.commit();
    }
    life.put("after", b"all");
    life.commit();
    life.end("a database dropped and reclaimed")
}

fn long_value() -> Story {
    let mut life = Life::create(1);
    life.put("long", &[1; 40_000]);
    life.commit();
    life.put("long", &[2; 20_000]);
    life.commit();
    life.end("a value in chunks")
}

/// More than an extent.
fn fill(life: &mut Life, byte: u8) {
    for n in 0..140 {
        life.put(&format!("big:{n}"), &[byte; 15_000]);
    }
}

fn growth() -> Story {
    let mut life = Life::create(8);
    life.put("before", b"it grows");
    life.commit();
    fill(&mut life, 1);
    life.commit();
    life.end("growth")
}

/// The end of the file is free and given back, and the pool grows over it once more.
fn shrunk() -> Story {
    let mut life = Life::create(8);
    let names: Vec<String> = (0..310).map(|n| format!("big:{n}")).collect();
    names.iter().for_each(|name| life.put(name, &[1; 15_000]));
    life.commit();
    names.iter().for_each(|name| life.remove(name));
    let mut pass = Evacuation::default();
    let long = life.store.mem_arc().media().len();
    for n in 0..6 {
        life.put("small", &[n; 20]);
        life.commit();
        while life.store.recycle_dead(10_000) {}
        while life.store.should_evacuate(false)
            && life.store.evacuate(&mut pass, 100, false).unwrap() == Progress::More
        {}
        while life.store.shrink_some().unwrap() {}
    }
    assert!(life.store.mem_arc().media().len() < long, "the file became shorter");
    fill(&mut life, 2);
    life.commit();
    life.end("shrunk and grown again")
}

/// The pool lets go of the end of its file, and takes it back before any superblock says so.
fn regrown() -> Story {
    let mut life = Life::create(8);
    let names: Vec<String> = (0..310).map(|n| format!("big:{n}")).collect();
    names.iter().for_each(|name| life.put(name, &[1; 15_000]));
    life.commit();
    names.iter().for_each(|name| life.remove(name));
    let mut pass = Evacuation::default();
    let long = life.store.usage().extents_bytes;
    let cut = (0..6).any(|n| {
        life.put("small", &[n; 20]);
        life.commit();
        while life.store.recycle_dead(10_000) {}
        while life.store.should_evacuate(false)
            && life.store.evacuate(&mut pass, 100, false).unwrap() == Progress::More
        {}
        life.store.usage().extents_bytes < long
    });
    assert!(cut, "nothing was let go of");
    fill(&mut life, 2);
    life.commit();
    life.end("let go of and taken back in one epoch")
}

fn snapshots() -> Story {
    let mut life = Life::create(1);
    life.put("kept", &[1; 60]);
    life.put("other", &[1; 60]);
    assert_eq!(life.store.take_snapshot(b"first", 5).unwrap(), SnapshotOutcome::Done);
    life.commit();
    life.put("kept", &[2; 60]);
    life.store.take_snapshot(b"second", 6).unwrap();
    life.put("kept", &[3; 60]);
    life.commit_while(|life| life.put("kept", &[4; 60]));
    life.store.drop_snapshot(b"first").unwrap();
    life.commit();
    while life.store.reclaim(3).unwrap() {
        life.commit();
    }
    life.end("snapshots taken and dropped")
}

fn rolled_back() -> Story {
    let mut life = Life::create(1);
    life.put("kept", &[1; 60]);
    life.build("hash", Type::Hash, 20);
    life.store.take_snapshot(b"first", 5).unwrap();
    life.put("kept", &[2; 60]);
    life.put("new", &[2; 60]);
    life.store.take_snapshot(b"second", 6).unwrap();
    life.commit();
    life.put("kept", &[3; 60]);
    assert_eq!(life.store.roll_back(b"first", false).unwrap(), SnapshotOutcome::Later(1));
    assert_eq!(life.store.roll_back(b"first", true).unwrap(), SnapshotOutcome::Done);
    life.commit();
    life.put("kept", &[4; 60]);
    life.commit();
    while life.store.reclaim(3).unwrap() {
        life.commit();
    }
    life.end("rolled back")
}

fn closed() -> Story {
    let mut life = Life::create(1);
    life.put("one", b"1");
    life.commit();
    life.close();
    life.end("closed in order")
}

/// Dies in the commit that covers the pool's first extent.
fn died_growing() -> Pages {
    let mut life = Life::create(1);
    for n in 0..30u8 {
        life.put(&format!("{n}"), &vec![n; 100 + 40 * n as usize]);
    }
    life.commit();
    life.die_in_last_commit()
}

/// Two epochs are durable, and a third one's superblock is only stored when the next process comes.
fn killed() -> Story {
    let mut life = Life::create(1);
    for n in 0..3 {
        life.put("one", &[n; 100]);
        life.put("more", &[n; 3000]);
        life.commit();
    }
    life.put("one", b"last");
    let mut life = life.commit_and_die();
    life.put("one", b"after");
    life.commit();
    life.end("killed before a superblock was durable")
}

/// A commit that was cut short has left records of its epoch, and the pool has moved on since.
fn void_behind() -> Life {
    let mut life = Life::create(1);
    for n in 0..10 {
        life.put(&format!("{n}"), &[n; 100]);
    }
    life.commit();
    for n in 0..10 {
        life.put(&format!("{n}"), &[n; 400]);
    }
    life.commit();
    let mut life = Life::reopen(&life.die_in_last_commit(), 1);
    life.put("after", b"the crash");
    life.commit();
    life
}

/// The records are wiped in the background, and the list of void epochs is emptied.
fn swept() -> Story {
    let mut life = void_behind();
    life.sweep();
    life.put("after", b"the sweep");
    life.commit();
    life.put("after", b"all");
    life.commit();
    life.end("void epochs swept")
}

/// The stop wipes them.
fn swept_at_close() -> Story {
    let mut life = void_behind();
    life.close();
    life.end("void epochs swept at the end")
}

/// So many opens without an orderly stop that the next one wipes them first.
fn swept_at_open() -> Story {
    let mut image = void_behind().die_at_once();
    for _ in 0..31 {
        image = Life::reopen(&image, 1).die_at_once();
    }
    let mut life = Life::reopen(&image, 1);
    life.put("after", b"the sweep");
    life.commit();
    life.end("too many void epochs")
}

/// The extents that were not in the superblock yet hold records all the same.
fn grown_again() -> Story {
    let mut life = Life::reopen(&died_growing(), 1);
    life.put("small", b"1");
    life.commit();
    life.put("small", b"2");
    life.commit();
    life.close();
    life.end("growth over what a crash left")
}
