//! Large histories: thousands of random operations over all structures, with snapshots, rollbacks,
//! growth, evacuation and an earlier crash in them. Their moments are too many to try each, so some
//! are drawn, and of each some images.

use crate::life::{Life, Story};
use cairn_store::hash::mix;
use cairn_store::{Db, Evacuation, SnapshotOutcome, StoreError, Type};

/// Commits of a history, and operations for each.
const COMMITS: u64 = 16;
const OPERATIONS: u64 = 70;
/// Keys that are written over and over.
const KEYS: u64 = 250;

struct Writer {
    life: Life,
    state: u64,
    snapshots: Vec<Vec<u8>>,
    taken: u64,
    pass: Evacuation,
}

/// A history of its own for each seed; every second one goes on from what a crash left.
pub fn history(seed: u64) -> Story {
    let mut life = Life::create(32);
    if seed % 2 == 1 {
        let mut first = Writer::new(life, !seed);
        first.run(4);
        life = Life::reopen(&first.life.die_in_last_commit(), 32);
    }
    let mut writer = Writer::new(life, seed);
    writer.run(COMMITS);
    writer.life.end("a large history")
}

impl Writer {
    fn new(life: Life, seed: u64) -> Writer {
        let snapshots = life.store.snapshots().expect("a sound pool");
        let snapshots: Vec<_> = snapshots.into_iter().rev().map(|kept| kept.name).collect();
        let (taken, pass) = (snapshots.len() as u64, Evacuation::of_everything());
        Writer { life, state: mix(seed), snapshots, taken: taken + (seed << 8), pass }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.state = mix(self.state.wrapping_add(1));
        self.state % end
    }

    fn run(&mut self, commits: u64) {
        for _ in 0..commits {
            for _ in 0..OPERATIONS {
                self.step();
            }
            let ahead = self.below(12);
            // What the writer is already at while a commit is under way.
            let next: Vec<(String, Vec<u8>)> = (0..ahead).map(|_| self.text()).collect();
            self.life.commit_while(|life| {
                for (name, value) in &next {
                    life.put(name, value);
                }
            });
        }
    }

    fn text(&mut self) -> (String, Vec<u8>) {
        let name = format!("key:{}", self.below(KEYS));
        let len = match self.below(60) {
            0 => 20_000 + self.below(40_000),
            1..=5 => 1000 + self.below(3000),
            _ => self.below(300),
        };
        let byte = self.below(256) as u8;
        (name, vec![byte; len as usize])
    }

    fn step(&mut self) {
        let key = self.below(KEYS);
        match self.below(100) {
            0..=54 => {
                let (name, value) = self.text();
                self.life.put(&name, &value);
            }
            55..=74 => {
                let name = format!("key:{key}");
                let store = &mut self.life.store;
                store.remove(Db(0), &store.key(name.as_bytes())).expect("a sound pool");
            }
            75..=79 => {
                let (ty, kind) = [(Type::Hash, "h"), (Type::ZSet, "z"), (Type::List, "l")]
                    [self.below(3) as usize];
                let count = 20 + self.below(60) as u32;
                self.life.build(&format!("{kind}:{}", key % 6), ty, count);
            }
            80..=89 => self.edit(key),
            90..=91 => self.snapshot(),
            92..=95 => {
                self.life.store.reclaim(25).expect("a sound pool");
            }
            96 => self.life.sweep(),
            97 if key < 8 => self.life.store.drop_db(Db(1)).expect("a sound pool"),
            _ => {
                let store = &mut self.life.store;
                for _ in 0..6 {
                    store
                        .evacuate(&mut self.pass, 60, key.is_multiple_of(2))
                        .expect("a sound pool");
                }
                store.recycle_dead(200);
            }
        }
    }

    /// Puts an element into a collection, if it is there.
    fn edit(&mut self, n: u64) {
        let kind = ["h", "z", "l"][self.below(3) as usize];
        let name = format!("{kind}:{}", n % 6);
        let key = self.life.store.key(name.as_bytes());
        let done = self.life.store.edit(Db(1), &key, |edit| -> Result<(), StoreError> {
            let member = [n as u8; 24];
            match kind {
                "h" => drop(edit.put(&member, &[n as u8; 50])?),
                "z" => drop(edit.rank_put(&member, n as f64)?),
                _ => edit.list_insert(n % edit.len(), &member)?,
            }
            Ok(())
        });
        done.expect("a sound pool");
    }

    fn snapshot(&mut self) {
        let store = &mut self.life.store;
        let outcome = match self.snapshots.len() {
            0 | 1 => {
                self.taken += 1;
                let name = format!("snapshot {}", self.taken).into_bytes();
                self.snapshots.push(name.clone());
                store.take_snapshot(&name, 5)
            }
            len if self.state >> 40 & 1 == 0 => {
                self.snapshots.truncate(len / 2);
                store.roll_back(&self.snapshots[len / 2 - 1], true)
            }
            len => store.drop_snapshot(&self.snapshots.remove(self.state as usize % len)),
        };
        assert_eq!(outcome.expect("a sound pool"), SnapshotOutcome::Done);
    }
}
