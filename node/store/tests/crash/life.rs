//! A pool that lives on a recording medium, and the states it went through.

use crate::content::{History, history};
use cairn_protocol::ids::{LogIndex, Term};
use cairn_store::media::{CrashMedia, Event, Granularity, HeapMedia, Pages, Replay, Trace};
use cairn_store::persist::Mem;
use cairn_store::{Committer, Db, Encoding, Meta, PoolOptions, Store, StoreError, Type};
use std::sync::Arc;

pub const CAPACITY: u64 = 24 << 20;
pub const OPTIONS: PoolOptions =
    PoolOptions { capacity_bytes: CAPACITY, new_hash_key: [7, 11], new_uuid: [3; 16] };

/// What a crash may leave of a pool.
#[derive(Clone, PartialEq)]
pub enum State {
    /// Nothing that has a name yet.
    Nothing,
    /// A committed epoch.
    Committed(Arc<History>),
    /// The same, and the pool was closed in order since.
    Closed(Arc<History>),
}

impl State {
    pub fn history(&self) -> Option<&Arc<History>> {
        match self {
            State::Nothing => None,
            State::Committed(history) | State::Closed(history) => Some(history),
        }
    }
}

/// A record of what was done to a pool, and the states that its marks name.
pub struct Story {
    pub name: &'static str,
    pub trace: Trace,
    pub states: Vec<State>,
}

pub struct Life {
    media: Arc<CrashMedia>,
    pub store: Store,
    committer: Committer,
    pub states: Vec<State>,
    index: u64,
}

pub fn meta(ty: Type) -> Meta {
    Meta { ty, encoding: Encoding::Raw, deadline_ms: None }
}

impl Life {
    /// A pool made on an empty medium.
    pub fn create(stride: u64) -> Life {
        let media = Arc::new(CrashMedia::new(CAPACITY, Granularity::CacheLine, 1));
        media.record(stride);
        media.mark(0, 0);
        let life = Life::open(media, State::Nothing);
        life.marked()
    }

    /// A pool opened on what a crash left.
    pub fn reopen(image: &Pages, stride: u64) -> Life {
        let heap = Arc::new(Mem::new(Box::new(HeapMedia::with_pages(image, CAPACITY))));
        let before = Store::open(heap, &OPTIONS).expect("an image that was judged sound").0;
        let before = Arc::new(history(&before).expect("likewise"));
        let media = Arc::new(CrashMedia::from_pages(image, CAPACITY, Granularity::CacheLine, 1));
        media.record(stride);
        media.mark(0, 0);
        Life::open(media, State::Committed(before)).marked()
    }

    fn open(media: Arc<CrashMedia>, before: State) -> Life {
        let mem = Arc::new(Mem::new(Box::new(media.clone())));
        let (store, committer, opened) = Store::open(mem, &OPTIONS).unwrap();
        let now = State::Committed(Arc::new(history(&store).unwrap()));
        let mut states = vec![before];
        if states[0] != now {
            states.push(now);
        }
        Life { media, store, committer, states, index: opened.applied.1.0 }
    }

    /// What there is now is durable.
    fn marked(self) -> Life {
        let last = self.states.len() - 1;
        self.media.mark(last, last);
        self
    }

    pub fn put(&mut self, name: &str, value: &[u8]) {
        let key = self.store.key(name.as_bytes());
        self.store.put(Db(0), &key, meta(Type::String), value).unwrap();
    }

    pub fn remove(&mut self, name: &str) {
        assert!(self.store.remove(Db(0), &self.store.key(name.as_bytes())).unwrap());
    }

    /// Makes `name` a collection of `count` elements.
    pub fn build(&mut self, name: &str, ty: Type, count: u32) {
        let key = self.store.key(name.as_bytes());
        let done = self.store.build(Db(1), &key, meta(ty), |edit| -> Result<(), StoreError> {
            for n in 0..count {
                let member = format!("member:{n}").into_bytes();
                match ty {
                    Type::ZSet => drop(edit.rank_put(&member, f64::from(n % 3))?),
                    Type::List => edit.list_push_back(&[&member[..], &[7; 90]].concat())?,
                    _ => drop(edit.put(&member, &[n as u8; 60])?),
                }
            }
            Ok(())
        });
        done.unwrap();
    }

    /// Makes what was done durable.
    pub fn commit(&mut self) {
        self.commit_while(|_| {});
    }

    /// Makes what was done durable, while the writer is already at work on what comes next.
    pub fn commit_while(&mut self, next: impl FnOnce(&mut Life)) {
        self.index += 1;
        self.store.set_applied(Term(1), LogIndex(self.index), 1000 + self.index);
        let last = self.states.len() - 1;
        let Some(sealed) = self.store.seal() else { return };
        self.states.push(State::Committed(Arc::new(history(&self.store).unwrap())));
        self.media.mark(last, last + 1);
        next(self);
        let published = self.committer.commit(sealed).unwrap();
        self.media.mark(last + 1, last + 1);
        self.store.release(published);
    }

    pub fn sweep(&mut self) {
        while self.committer.sweep(1).unwrap() {}
    }

    pub fn close(&mut self) {
        let last = self.states.len() - 1;
        let history = self.states[last].history().expect("a pool is there").clone();
        self.states.push(State::Closed(history));
        self.media.mark(last, last + 1);
        self.committer.close().unwrap();
        self.media.mark(last + 1, last + 1);
    }

    /// Commits, is killed between storing the superblock and its fence, and is taken over by a
    /// process that finds all of that stored.
    pub fn commit_and_die(self) -> Life {
        let Life { media, mut store, mut committer, mut states, index } = self;
        store.set_applied(Term(1), LogIndex(index + 1), 1001 + index);
        let sealed = store.seal().expect("something was done");
        states.push(State::Committed(Arc::new(history(&store).unwrap())));
        let last = states.len() - 1;
        media.mark(last - 1, last);
        media.die_behind(1);
        committer.commit(sealed).unwrap();
        media.revive();
        let mem = Arc::new(Mem::new(Box::new(media.clone())));
        let (store, committer, opened) = Store::open(mem, &OPTIONS).unwrap();
        let index = opened.applied.1.0;
        Life { media, store, committer, states, index }.marked()
    }

    pub fn end(self, name: &'static str) -> Story {
        Story { name, trace: self.media.recorded(), states: self.states }
    }

    /// Dies where most was stored and nothing said so: before the fence ahead of the last
    /// superblock, with everything that was stored on the medium.
    pub fn die_in_last_commit(self) -> Pages {
        let trace = self.media.recorded();
        let fences =
            trace.events.iter().enumerate().filter(|(_, event)| matches!(event, Event::Fence(..)));
        let fences: Vec<usize> = fences.map(|(at, _)| at).collect();
        let at = fences[fences.len() - 2];
        let mut replay = Replay::new(&trace, Granularity::Page, None);
        for _ in 0..at {
            replay.step();
        }
        let (mut image, _) = replay.durable();
        for (unit, versions) in replay.dirty() {
            replay.put(&mut image, unit, versions - 1, u64::MAX);
        }
        image
    }
}

impl Life {
    /// Dies now, with everything stored.
    pub fn die_at_once(self) -> Pages {
        let mem = self.store.mem_arc();
        Pages::of(mem.bytes(0, mem.media().len() as usize).unwrap())
    }
}
