//! What to give up when memory is full: the choice, made by whoever proposes.
//!
//! It looks at the [`Recency`](crate::Recency) sketch, which is not replicated, so it is never made
//! while applying: the keys it names go into the log, and every replica deletes just those.

use std::collections::BTreeSet;

use cairn_protocol::command::keys::keys_of;
use cairn_protocol::command::{CommandId, Flags};
use cairn_protocol::number::parse_u64;
use cairn_protocol::op::{OpRef, Ops, operations};
use cairn_store::{Db, Record, Store, StoreError, Type, admitted_bytes};

use crate::apply::Engine;
use crate::commands::internal::{encode_evict, runs_of_names};
use crate::expiry::has_passed;
use crate::recency::RecencyPolicy;
use crate::seed::Draws;

/// Which keys make room when memory is full (`maxmemory-policy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// None: writes that need room are refused.
    #[default]
    NoEviction,
    /// Those unused for longest.
    AllKeysLru,
    /// Those used least often.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// Of those with a deadline, the ones unused for longest.
    VolatileLru,
    /// Of those with a deadline, the ones used least often.
    VolatileLfu,
    /// Any with a deadline.
    VolatileRandom,
    /// Those whose deadlines come first.
    VolatileTtl,
}

impl EvictionPolicy {
    /// Redis's names, in its order.
    pub const NAMES: [(&str, EvictionPolicy); 8] = [
        ("volatile-lru", EvictionPolicy::VolatileLru),
        ("volatile-lfu", EvictionPolicy::VolatileLfu),
        ("volatile-random", EvictionPolicy::VolatileRandom),
        ("volatile-ttl", EvictionPolicy::VolatileTtl),
        ("allkeys-lru", EvictionPolicy::AllKeysLru),
        ("allkeys-lfu", EvictionPolicy::AllKeysLfu),
        ("allkeys-random", EvictionPolicy::AllKeysRandom),
        ("noeviction", EvictionPolicy::NoEviction),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = EvictionPolicy::NAMES.iter().find(|(_, policy)| *policy == self);
        named.map_or("noeviction", |(name, _)| name)
    }

    /// What the sketch has to count for it.
    pub fn recency(self) -> RecencyPolicy {
        match self {
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => RecencyPolicy::Frequency,
            _ => RecencyPolicy::LastUse,
        }
    }

    fn only_expiring(self) -> bool {
        use EvictionPolicy::{VolatileLfu, VolatileLru, VolatileRandom, VolatileTtl};
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }
}

/// How to choose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eviction {
    /// Which keys.
    pub policy: EvictionPolicy,
    /// How many are looked at for each that goes (`maxmemory-samples`).
    pub samples: usize,
}

impl Eviction {
    /// Whether it gives up anything at all.
    pub fn is_on(&self) -> bool {
        self.policy != EvictionPolicy::NoEviction
    }
}

/// Keys that are to go.
#[derive(Debug, Default)]
pub struct Victims {
    only_expiring: bool,
    names: Vec<(Db, Vec<u8>)>,
    /// In the same order, their hashes and the content that goes with each.
    counted: Vec<(Db, u64, u64)>,
    /// Their databases and hashes.
    hashes: BTreeSet<(Db, u64)>,
    /// Content that goes with them.
    bytes: u64,
}

/// Keys of one operation: some hundred microseconds under the lock.
const KEYS_AT_ONCE: usize = 64;
/// Keys of one choice: some ten milliseconds.
const KEYS_MAX: usize = 8192;
/// Keys that one round of sampling is to find.
const ROUND_KEYS: u64 = 128;
/// Slots, and where in a cursor of a walk theirs stands.
const SLOTS: u64 = 1 << 14;
const SLOT_SHIFT: u32 = 48;
/// Rounds in a row that may find nothing new.
const FRUITLESS_ROUNDS: u32 = 8;

impl Victims {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Content that goes with them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Databases and hashes of the keys.
    pub fn into_hashes(self) -> BTreeSet<(Db, u64)> {
        self.hashes
    }

    /// Spares every other one.
    pub fn halve(&mut self) {
        for (db, hash, bytes) in self.counted.iter().step_by(2) {
            self.hashes.remove(&(*db, *hash));
            self.bytes -= bytes;
        }
        self.names = every_second(std::mem::take(&mut self.names));
        self.counted = every_second(std::mem::take(&mut self.counted));
    }

    /// Calls `push` with each operation that deletes some of them.
    pub fn encode(&self, mut push: impl FnMut(&dyn Fn(&mut Vec<u8>))) {
        for (db, names) in runs_of_names(&self.names, KEYS_AT_ONCE) {
            push(&|out| encode_evict(out, db, self.only_expiring, names.clone()));
        }
    }

    fn add(&mut self, candidate: Candidate<'_>) {
        let Candidate { db, hash, record, .. } = candidate;
        if self.hashes.insert((db, hash)) {
            let bytes = Store::counted_bytes(&record);
            self.bytes += bytes;
            self.counted.push((db, hash, bytes));
            self.names.push((db, record.key().to_vec()));
        }
    }
}

fn every_second<T>(all: Vec<T>) -> Vec<T> {
    all.into_iter().skip(1).step_by(2).collect()
}

/// A key that may go.
struct Candidate<'a> {
    db: Db,
    hash: u64,
    record: Record<'a>,
    /// The higher, the sooner it goes; what decides between equals comes second.
    score: (u64, u64),
}

impl Engine {
    /// Chooses keys that hold `bytes` of content at least, as far as there are such, and none of
    /// those in `but`. Keys that cannot be read are passed over.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the root of the databases is damaged.
    pub fn choose_victims(
        &self,
        rules: Eviction,
        bytes: u64,
        (now_ms, seed): (u64, u64),
        but: &BTreeSet<(Db, u64)>,
    ) -> Result<Victims, StoreError> {
        let mut choice = Choice {
            engine: self,
            rules,
            now_ms: now_ms.max(self.store.clock_ms()),
            draws: Draws::new(seed),
            but,
            bytes,
            victims: Victims { only_expiring: rules.policy.only_expiring(), ..Victims::default() },
        };
        match rules.policy {
            EvictionPolicy::NoEviction => {}
            EvictionPolicy::VolatileTtl => choice.by_deadline()?,
            _ => choice.by_samples()?,
        }
        let mut victims = choice.victims;
        // Both keep the order within a database.
        victims.names.sort_by_key(|(db, _)| *db);
        victims.counted.sort_by_key(|(db, ..)| *db);
        Ok(victims)
    }
}

/// A choice on its way.
struct Choice<'e, 'b> {
    engine: &'e Engine,
    rules: Eviction,
    now_ms: u64,
    draws: Draws,
    but: &'b BTreeSet<(Db, u64)>,
    bytes: u64,
    victims: Victims,
}

impl<'e> Choice<'e, '_> {
    fn is_enough(&self) -> bool {
        self.victims.bytes >= self.bytes || self.victims.names.len() >= KEYS_MAX
    }

    fn databases() -> impl Iterator<Item = Db> {
        (0..Db::COUNT).map(Db)
    }

    /// Keys of a database that may go.
    fn population(&self, db: Db) -> u64 {
        match self.rules.policy.only_expiring() {
            true => self.engine.store.expires(db),
            false => self.engine.store.len(db),
        }
    }

    /// The nearest deadlines of all databases, in order.
    fn by_deadline(&mut self) -> Result<(), StoreError> {
        let mut next = Vec::new();
        for db in Self::databases() {
            next.extend(self.next_expiring(db, 0)?);
        }
        while !self.is_enough() {
            let deadline = |(candidate, _): &(Candidate<'_>, u64)| candidate.record.deadline_ms();
            let first = (0..next.len()).min_by_key(|&at| deadline(&next[at]));
            let Some((candidate, rank)) = first.map(|at| next.swap_remove(at)) else { break };
            next.extend(self.next_expiring(candidate.db, rank + 1)?);
            if self.is_new(&candidate) {
                self.victims.add(candidate);
            }
        }
        Ok(())
    }

    /// The first key of a database at or behind a rank that can be read, and its own.
    fn next_expiring(
        &mut self,
        db: Db,
        mut rank: u64,
    ) -> Result<Option<(Candidate<'e>, u64)>, StoreError> {
        while rank < self.engine.store.expires(db) {
            if let Some(candidate) = self.expiring(db, rank)? {
                return Ok(Some((candidate, rank)));
            }
            rank += 1;
        }
        Ok(None)
    }

    /// Round by round: looks at `samples` times as many keys as are still needed, and takes as many
    /// as are needed, the best first.
    fn by_samples(&mut self) -> Result<(), StoreError> {
        let mut fruitless = 0;
        while !self.is_enough() && fruitless < FRUITLESS_ROUNDS {
            let before = self.victims.names.len();
            let wanted = self.keys_wanted();
            let (mut candidates, all) = self.candidates(wanted * self.rules.samples as u64)?;
            candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.score));
            for candidate in candidates.into_iter().take(wanted as usize) {
                if self.is_enough() {
                    break;
                }
                self.victims.add(candidate);
            }
            let is_fruitless = self.victims.names.len() == before;
            if is_fruitless && all {
                break;
            }
            fruitless = if is_fruitless { fruitless + 1 } else { 0 };
        }
        Ok(())
    }

    /// How many keys are still needed, were they of middling size.
    fn keys_wanted(&self) -> u64 {
        let store = &self.engine.store;
        let keys: u64 = Self::databases().map(|db| store.len(db)).sum();
        let mean = (store.content_bytes() / keys.max(1)).max(1);
        (self.bytes - self.victims.bytes).div_ceil(mean).clamp(1, ROUND_KEYS)
    }

    /// About `count` keys that may go, none twice, and whether those are all there are.
    fn candidates(&mut self, count: u64) -> Result<(Vec<Candidate<'e>>, bool), StoreError> {
        let populations: Vec<(Db, u64)> =
            Self::databases().map(|db| (db, self.population(db))).filter(|(_, n)| *n > 0).collect();
        let total: u64 = populations.iter().map(|(_, n)| n).sum();
        let taken = (self.victims.names.len() + self.but.len()) as u64;
        let mut found = Vec::new();
        if total <= count.saturating_add(taken) {
            for (db, n) in populations {
                self.walk(db, n, &mut found)?;
            }
            found.retain(|candidate| self.is_new(candidate));
            return Ok((found, true));
        }
        // A draw finds nothing where what it falls on cannot be read.
        for _ in 0..count.saturating_mul(2) {
            if found.len() as u64 >= count {
                break;
            }
            let mut at = self.draws.below(total);
            for (db, n) in &populations {
                if at < *n {
                    self.sample(*db, at, &mut found)?;
                    break;
                }
                at -= n;
            }
        }
        found.sort_by_key(|candidate| (candidate.db, candidate.hash));
        found.dedup_by_key(|candidate| (candidate.db, candidate.hash));
        found.retain(|candidate| self.is_new(candidate));
        Ok((found, false))
    }

    fn is_new(&self, candidate: &Candidate<'_>) -> bool {
        let place = (candidate.db, candidate.hash);
        !self.but.contains(&place) && !self.victims.hashes.contains(&place)
    }

    /// All keys of a database that may go.
    fn walk(&mut self, db: Db, n: u64, found: &mut Vec<Candidate<'e>>) -> Result<(), StoreError> {
        if self.rules.policy.only_expiring() {
            for rank in 0..n {
                found.extend(self.expiring(db, rank)?);
            }
            return Ok(());
        }
        self.scan(db, 0, u64::MAX, found)
    }

    /// One key with a deadline, or some keys that are neighbours by hash, which says nothing of
    /// their use.
    fn sample(
        &mut self,
        db: Db,
        at: u64,
        found: &mut Vec<Candidate<'e>>,
    ) -> Result<(), StoreError> {
        if self.rules.policy.only_expiring() {
            found.extend(self.expiring(db, at)?);
            return Ok(());
        }
        let before = found.len();
        // A cursor is a slot's 14 bits and 48 bits of a hash.
        let cursor = self.draws.bits() >> 2;
        self.scan(db, cursor, self.rules.samples as u64, found)?;
        if found.len() == before {
            // Behind the last key: those at the beginning follow it.
            self.scan(db, 0, self.rules.samples as u64, found)?;
        }
        Ok(())
    }

    fn scan(
        &mut self,
        db: Db,
        cursor: u64,
        count: u64,
        found: &mut Vec<Candidate<'e>>,
    ) -> Result<(), StoreError> {
        let (engine, mut seen, mut slot) = (self.engine, 0, cursor >> SLOT_SHIFT);
        let mut from = cursor;
        while seen < count {
            let walked = engine.store.view().scan(db, from, &mut |record| {
                seen += 1;
                slot = slot.max(engine.store.key(record.key()).slot.get().into());
                found.push(self.candidate(db, *record));
                Ok(seen < count)
            });
            match walked {
                Err(StoreError::Corrupt(_)) if slot + 1 < SLOTS => {
                    // What lies behind the damage in its slot is passed over with it.
                    slot += 1;
                    from = slot << SLOT_SHIFT;
                }
                walked => return walked.map(drop),
            }
        }
        Ok(())
    }

    fn expiring(&mut self, db: Db, rank: u64) -> Result<Option<Candidate<'e>>, StoreError> {
        let engine = self.engine;
        match engine.store.view().expiring(db, rank) {
            Err(StoreError::Corrupt(_)) => Ok(None),
            found => Ok(found?.map(|record| self.candidate(db, record))),
        }
    }

    fn candidate(&mut self, db: Db, record: Record<'e>) -> Candidate<'e> {
        let hash = self.engine.store.key(record.key()).hash;
        let score = if has_passed(record.deadline_ms(), self.now_ms) {
            // Nobody will miss it.
            u64::MAX
        } else {
            self.score(hash)
        };
        Candidate { db, hash, record, score: (score, self.draws.bits()) }
    }

    fn score(&self, hash: u64) -> u64 {
        let recency = &self.engine.recency;
        let idle = recency.idle_seconds(hash, self.now_ms);
        match self.rules.policy {
            EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => idle,
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
                let rare = u8::MAX - recency.frequency(hash, self.now_ms);
                u64::from(rare) << 32 | idle
            }
            _ => 0,
        }
    }
}

/// What an argument costs beside its bytes, were it a member of a collection.
const ARGUMENT_BYTES: u64 = 128;
/// What a packed collection may come to cost as a tree.
const UNPACKED_BYTES: u64 = 16 << 10;

impl Engine {
    /// The room that operations may ask for: an estimate from above for nearly all of them. One
    /// that asks for more than could ever be given counts nothing.
    pub fn room_needed(&self, ops: Ops<'_>) -> u64 {
        let whole = admitted_bytes(self.store.limit_bytes());
        let needs = ops.flatten().map(|op| self.room_for_one(&op)).filter(|need| *need <= whole);
        needs.fold(0, u64::saturating_add)
    }

    fn room_for_one(&self, op: &OpRef<'_>) -> u64 {
        let (spec, argv) = (op.command.spec(), op.argv());
        match op.command {
            CommandId::InternalExec => {
                return self.room_needed(operations(argv.get(1).unwrap_or_default()));
            }
            CommandId::InternalStage => {}
            _ if spec.flags.contains(Flags::DENYOOM) => {}
            _ => return 0,
        }
        let bytes = argv.total_bytes() as u64;
        let own = bytes + bytes / 4 + argv.len() as u64 * ARGUMENT_BYTES;
        own.saturating_add(self.room_beyond_arguments(op))
    }

    /// What a command adds that does not stand in its arguments.
    pub(crate) fn room_beyond_arguments(&self, op: &OpRef<'_>) -> u64 {
        use CommandId::{
            Copy, SDiffStore, SInterStore, SUnionStore, SetRange, Sort, ZDiffStore, ZInterStore,
            ZRangeStore, ZUnionStore,
        };
        let argv = op.argv();
        match op.command {
            SetRange => {
                let offset = argv.get(2).and_then(parse_u64).unwrap_or_default();
                // Farther than any string reaches is refused.
                Store::cost(0, offset.min(1 << 30))
            }
            // What it replaces goes as it is.
            Copy => argv.get(1).map_or(0, |source| self.copy_bytes(Db(op.db), source)),
            SDiffStore | SInterStore | SUnionStore | Sort | ZDiffStore | ZInterStore
            | ZRangeStore | ZUnionStore => {
                let keys = keys_of(op.command.spec(), argv);
                keys.map(|at| self.copy_bytes(Db(op.db), &argv[at])).fold(0, u64::saturating_add)
            }
            _ => 0,
        }
    }

    fn copy_bytes(&self, db: Db, name: &[u8]) -> u64 {
        // Damage is told by the command itself.
        let Ok(Some(record)) = self.store.get(db, &self.store.key(name)) else { return 0 };
        let is_packed = self.store.view().tree(&record).is_none();
        let counted = Store::counted_bytes(&record);
        if record.ty() == Type::String {
            // The last piece of a long one is written again before the one before is free.
            return counted + if counted > UNPACKED_BYTES { UNPACKED_BYTES } else { 0 };
        }
        // What hangs in trees may lie closer in the source than in the copy.
        counted.saturating_mul(2) + if is_packed { UNPACKED_BYTES } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::op::encode_op;
    use cairn_protocol::resp::Argv;

    use super::*;
    use crate::commands::test::Bench;

    fn rules(policy: EvictionPolicy) -> Eviction {
        Eviction { policy, samples: 5 }
    }

    fn choose(bench: &Bench, policy: EvictionPolicy, bytes: u64, seed: u64) -> Victims {
        let at = (bench.now_ms(), seed);
        bench.engine.choose_victims(rules(policy), bytes, at, &BTreeSet::new()).unwrap()
    }

    fn names(victims: &Victims) -> Vec<String> {
        victims.names.iter().map(|(_, name)| String::from_utf8(name.clone()).unwrap()).collect()
    }

    fn evict(bench: &mut Bench, victims: &Victims) -> u32 {
        let mut evicted = 0;
        victims.encode(|encode| {
            bench.internal(encode);
            evicted += bench.effects.evicted;
        });
        evicted
    }

    /// Keys `old:n` and, ten seconds later, `new:n`; every other one has a deadline.
    fn filled(policy: EvictionPolicy) -> Bench {
        let mut bench = Bench::new();
        bench.engine.recency.set_policy(policy.recency());
        for age in ["old", "new"] {
            for n in 0..500 {
                let more = if n % 2 == 0 { format!(" EX {}", 1000 - n) } else { String::new() };
                bench.check(&[(&format!("SET {age}:{n} v{more}"), "+OK")]);
            }
            bench.advance_ms(10_000);
        }
        bench
    }

    #[test]
    fn names_read_back() {
        for (name, policy) in EvictionPolicy::NAMES {
            assert_eq!(policy.name(), name);
        }
    }

    #[test]
    fn as_much_as_is_asked_for_goes() {
        for (name, policy) in EvictionPolicy::NAMES {
            if policy == EvictionPolicy::NoEviction {
                continue;
            }
            let mut bench = filled(policy);
            let before = bench.engine.store.content_bytes();
            let victims = choose(&bench, policy, 5_000, 3);
            assert!((5_000..5_200).contains(&victims.bytes()), "{name}: {}", victims.bytes());
            assert_eq!(evict(&mut bench, &victims) as usize, victims.names.len(), "{name}");
            let freed = before - bench.engine.store.content_bytes();
            assert_eq!(freed, victims.bytes(), "{name}");
        }
    }

    #[test]
    fn all_that_may_go_goes_in_the_end_and_nothing_else() {
        for (name, policy) in EvictionPolicy::NAMES {
            let mut bench = filled(policy);
            let victims = choose(&bench, policy, u64::MAX, 1);
            evict(&mut bench, &victims);
            let left = match name.split_once('-') {
                Some(("allkeys", _)) => 0,
                Some(_) => 500,
                None => 1000,
            };
            assert_eq!(bench.engine.store.len(Db(0)), left, "{name}");
        }
    }

    #[test]
    fn what_is_spared_is_not_counted() {
        let mut bench = filled(EvictionPolicy::AllKeysRandom);
        for n in 0..300 {
            bench.db = Db(n % 3);
            bench.check(&[(&format!("SET other:{n} {}", "x".repeat(n as usize)), "+OK")]);
        }
        let mut victims = choose(&bench, EvictionPolicy::AllKeysRandom, 40_000, 3);
        let all = victims.names.len();
        victims.halve();
        assert_eq!((victims.names.len(), victims.hashes.len()), (all / 2, all / 2));
        for (db, name) in &victims.names {
            assert!(victims.hashes.contains(&(*db, bench.engine.store.key(name).hash)));
        }
        let before = bench.engine.store.content_bytes();
        assert_eq!(evict(&mut bench, &victims) as usize, all / 2);
        assert_eq!(before - bench.engine.store.content_bytes(), victims.bytes());
        while !victims.is_empty() {
            victims.halve();
        }
        assert_eq!((victims.bytes(), victims.into_hashes().len()), (0, 0));
    }

    #[test]
    fn what_was_used_last_stays() {
        for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::VolatileLru] {
            let mut bench = filled(policy);
            bench.check(&[("GET old:0", "$1|v")]);
            let chosen = names(&choose(&bench, policy, 10_000, 9));
            let young = chosen.iter().filter(|name| name.starts_with("new")).count();
            assert!(young * 20 < chosen.len(), "{young} of {}", chosen.len());
            assert!(!chosen.contains(&"old:0".to_owned()));
        }
    }

    #[test]
    fn what_is_used_often_stays() {
        for policy in [EvictionPolicy::AllKeysLfu, EvictionPolicy::VolatileLfu] {
            let mut bench = filled(policy);
            for _ in 0..300 {
                for n in 0..100 {
                    bench.run(&[b"GET", format!("old:{n}").as_bytes()]);
                }
            }
            let chosen = names(&choose(&bench, policy, 10_000, 9));
            let often = |name: &&String| {
                name.strip_prefix("old:").is_some_and(|n| n.parse::<u32>().unwrap() < 100)
            };
            let wrong = chosen.iter().filter(often).count();
            assert!(wrong * 20 < chosen.len(), "{wrong} of {}", chosen.len());
        }
    }

    #[test]
    fn the_nearest_deadlines_go_first_over_all_databases() {
        let mut bench = Bench::new();
        for (db, name, seconds) in [(0, "c", 30), (0, "a", 10), (5, "b", 20), (5, "d", 40)] {
            bench.db = Db(db);
            bench.check(&[(&format!("SET {name} v EX {seconds}"), "+OK")]);
        }
        bench.check(&[("SET stays v", "+OK")]);
        let one = choose(&bench, EvictionPolicy::VolatileTtl, 1, 1);
        assert_eq!(names(&one), ["a"]);
        let three = choose(&bench, EvictionPolicy::VolatileTtl, one.bytes() * 2 + 1, 1);
        assert_eq!(names(&three), ["a", "c", "b"], "by database, then by deadline");
        let at = (bench.now_ms(), 1);
        let but = one.into_hashes();
        let rules = rules(EvictionPolicy::VolatileTtl);
        let next = bench.engine.choose_victims(rules, 1, at, &but).unwrap();
        assert_eq!(names(&next), ["b"]);
    }

    #[test]
    fn a_key_that_lost_its_deadline_meanwhile_is_spared() {
        let mut bench = Bench::new();
        bench.check(&[("SET a v EX 10", "+OK"), ("SET b v EX 10", "+OK")]);
        let victims = choose(&bench, EvictionPolicy::VolatileRandom, u64::MAX, 1);
        bench.check(&[("PERSIST a", ":1"), ("DEL b", ":1"), ("SET c v", "+OK")]);
        assert_eq!(evict(&mut bench, &victims), 0);
        bench.check(&[("EXISTS a c", ":2")]);
        assert_eq!(bench.internal(|out| encode_evict(out, Db(0), false, [&b"a"[..]])), b":1\r\n");
        assert_eq!((bench.effects.evicted, bench.effects.changed), (1, 1));
        bench.check(&[("EXISTS a c", ":1")]);
    }

    #[test]
    fn the_room_that_operations_need_covers_what_they_ask_for() {
        let large = vec![b'x'; 50_000];
        let rows: [&[&[u8]]; 9] = [
            &[b"SET", b"k", b"v", b"EX", b"100"],
            &[b"SET", b"k", &large],
            &[b"SETRANGE", b"k", b"70000", b"x"],
            &[b"HSET", b"h", b"a", b"1", b"b", b"2", b"c", &large[..1000]],
            &[b"SADD", b"s", b"a", b"b", b"c", &large[..900]],
            &[b"ZADD", b"z", b"1", b"a", b"2", &large[..900]],
            &[b"RPUSH", b"l", b"a", b"b", &large],
            &[b"COPY", b"source", b"k"],
            &[b"SUNIONSTORE", b"k", b"members"],
        ];
        for words in rows {
            let mut bench = Bench::new();
            bench.run(&[b"SET", b"source", &large]);
            for n in 0..200 {
                bench.run(&[b"SADD", b"members", format!("member:{n}").as_bytes()]);
            }
            bench.engine.store_mut().set_limit_bytes(30 << 20);
            let (id, mut op) =
                (cairn_protocol::command::resolve(Argv::from(words)).unwrap().id, vec![]);
            encode_op(&mut op, id, 0, Argv::from(words));
            let need = bench.engine.room_needed(operations(&op));
            bench.admit_no_more_than(need);
            let before = bench.engine.store.content_bytes();
            let reply = bench.run(words);
            assert!(
                !reply.starts_with(b"-"),
                "{}: {}",
                words[0].escape_ascii(),
                reply.escape_ascii()
            );
            let grown = bench.engine.store.content_bytes() - before;
            assert!(grown <= need, "{}: {grown} of {need}", words[0].escape_ascii());
        }
    }

    #[test]
    fn reads_and_deletes_need_none() {
        let mut op = Vec::new();
        encode_op(&mut op, CommandId::Del, 0, Argv::from(&[&b"DEL"[..], b"k"]));
        assert_eq!(Bench::new().engine.room_needed(operations(&op)), 0);
    }

    #[test]
    fn the_limit_is_an_operation() {
        use crate::commands::internal::encode_memory;
        let mut bench = Bench::new();
        let value = vec![b'x'; 1 << 20];
        assert_eq!(bench.internal(|out| encode_memory(out, 8 << 20)), b"+OK\r\n");
        let set =
            |bench: &mut Bench, n: u32| bench.run(&[b"SET", n.to_string().as_bytes(), &value]);
        assert_eq!(set(&mut bench, 0), b"+OK\r\n");
        assert!((1..9).any(|n| set(&mut bench, n).starts_with(b"-OOM")));
        bench.internal(|out| encode_memory(out, 24 << 20));
        assert_eq!(set(&mut bench, 9), b"+OK\r\n");
        bench.internal(|out| encode_memory(out, 8 << 20));
        assert!(set(&mut bench, 10).starts_with(b"-OOM"));
    }
}
