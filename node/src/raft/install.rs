//! A peer's pool in the place of this node's own.

use cairn_protocol::ids::LogIndex;
use cairn_store::Imported;
use cairn_store::log::LogId;

use super::group::Group;

impl Group {
    /// Puts a pool that has arrived beside this group's in its place, and has the log forget the
    /// entries that it holds. Reads and writes find the new one from here on; what is pinned of the
    /// old one stays until it is let go of. No entry may be being applied: openraft sees to that,
    /// which calls this where it would apply one.
    ///
    /// # Errors
    /// A text that says what, where, and what to do. The group has stopped then: openraft, which has
    /// taken the pool for installed, goes on with neither.
    pub fn install(&self, imported: Imported) -> Result<(), String> {
        let brought = imported.head().applied();
        let options = self.pool_options();
        let put = self.check_installable(brought.1).and_then(|()| self.home().put(imported));
        put.inspect_err(|error| {
            self.stop(format!(
                "a peer's pool could not take the place of {}: {error}; the old one is there \
                 still: restart the node when that is mended",
                self.home().place()
            ));
        })?;
        let installed = self.home().open(&options).and_then(|(store, committer, _)| {
            self.replace(store, committer);
            let upto = LogId::new(brought.0, brought.1);
            self.log().purge(self.shard(), upto).map_err(|error| error.to_string())
        });
        installed.inspect_err(|error| {
            self.stop(format!(
                "a peer's pool took the place of {} and could not be gone on with: {error}; restart \
                 the node",
                self.home().place()
            ));
        })
    }

    fn check_installable(&self, brought: LogIndex) -> Result<(), String> {
        if let Some(stopped) = self.stop_reason() {
            return Err(stopped.reason.clone());
        }
        self.home().check_replaceable()?;
        let (_, applied) = self.read().store().applied();
        if brought < applied {
            return Err(format!(
                "a peer sent a pool with entries up to {brought}, older than the {applied} that are \
                 applied here",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use cairn_engine::Watch;
    use cairn_protocol::command::CommandId;
    use cairn_protocol::resp::Argv;
    use cairn_store::check::check_file;
    use cairn_store::{Committer, Db, Import, PoolOptions};

    use super::super::epoch::{Flusher, Pace};
    use super::super::group::Standing;
    use super::super::home::{FileHome, Home};
    use super::super::propose::Submission;
    use super::super::recover::{LOG_DIR, Options, POOL_FILE, recover};
    use super::super::runtime::Executor;
    use super::super::scrub::Scrubber;
    use super::super::start::{block_on, start};
    use super::*;
    use crate::ops::config::Durability;
    use crate::ops::metrics::Metrics;

    const MEMORY: u64 = 64 << 20;

    fn options(dir: &Path) -> Options<'_> {
        Options { dir, durability: Durability::Always, capacity_bytes: MEMORY, member: None }
    }

    fn open(dir: &Path) -> (Arc<Group>, Committer) {
        let recovery = recover(options(dir)).expect("recovers");
        let metrics = Metrics::new(0);
        let stats = [metrics.shard(), metrics.shard()];
        let (executor, on_stop) = (Executor::new(), Box::new(|_: &_| ()));
        let started = start(recovery, executor, Standing::Alone, MEMORY, stats, on_stop);
        let started = started.expect("starts");
        (started.0, started.1)
    }

    fn set(group: &Arc<Group>, key: &str, value: &str) {
        let submission = Submission::new();
        let argv: [&[u8]; 3] = [b"SET", key.as_bytes(), value.as_bytes()];
        submission.batch().push_write(CommandId::Set.spec(), 0, Argv::from(&argv[..]), false);
        group.submit(&submission);
        block_on(submission.wait(group));
        let mut reply = Vec::new();
        submission.batch().take_replies(&mut reply);
        assert_eq!(reply, b"+OK\r\n");
    }

    fn get(group: &Group, key: &str) -> Option<String> {
        let engine = group.read();
        let store = engine.store();
        let found = store.get(Db(0), &store.key(key.as_bytes())).expect("no damage")?;
        Some(String::from_utf8(found.value().to_vec().expect("no damage")).expect("text"))
    }

    fn commit(group: &Group, committer: &mut Committer) {
        let published = committer.commit(group.seal().expect("new")).expect("commits");
        assert!(group.release(published));
        group.resume();
    }

    /// The pool of another node with as many entries as `group` has, of which `key` is one; arrived
    /// beside `group`'s.
    fn arrived(group: &Arc<Group>, pool: &Path, key: &str) -> Imported {
        let there = tempfile::tempdir().expect("a directory");
        let (peer, mut committer) = open(there.path());
        while peer.read().store().applied().1 < group.read().store().applied().1 {
            set(&peer, key, "theirs");
        }
        commit(&peer, &mut committer);
        let engine = peer.read();
        let export = engine.store().export();
        let options =
            PoolOptions { capacity_bytes: MEMORY, new_hash_key: [0; 2], new_uuid: [9; 16] };
        let head = export.head().clone();
        let mut import =
            Import::begin(&FileHome::new(pool).incoming(), head, &options).expect("there is room");
        for number in 0..export.head().chunks() {
            let chunk = export.chunk(engine.store(), number).expect("no damage");
            import.put(number, &chunk.expect("there are so many")).expect("it is whole");
        }
        import.finish(&mut |_, _| {}).expect("it is sound")
    }

    #[test]
    fn a_peers_pool_takes_the_place_of_the_groups() {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = dir.path().join(POOL_FILE);
        let (group, committer) = open(dir.path());
        let pace = Pace::new(true, Some(1), None);
        let flusher = Flusher::start(Arc::clone(&group), committer, pace).expect("a thread");
        let scrubber = Scrubber::start(Arc::clone(&group), 1 << 30).expect("a thread");
        (0..50).for_each(|n| set(&group, &format!("mine {n}"), "mine"));
        let metrics = Metrics::new(0);
        let pinned = loop {
            let pinned = group.read().store().export();
            if pinned.head().chunks() > 0 {
                break pinned;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let watch = Arc::<Watch>::default();
        group.read().watch(&watch, Db(0), b"mine 1", 0).expect("no damage");
        let long_read = group.pin(&metrics.shard());
        assert!(!watch.is_broken(0));

        let imported = arrived(&group, &pool, "their");
        group.install(imported).expect("it takes the place");
        assert_eq!(get(&group, "their").as_deref(), Some("theirs"));
        assert_eq!(get(&group, "mine 1"), None);
        assert!(watch.is_broken(0), "whatever was watched is another's now");
        assert!(pinned.chunk(group.read().store(), 0).is_err(), "the old pool is sent no more");
        drop((pinned, long_read));

        for n in 0..200 {
            set(&group, &format!("ours {n}"), "ours");
            if n % 20 == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        assert_eq!(group.stop_reason(), None);
        scrubber.stop();
        flusher.stop().expect("the last commit is well");
        drop(group);
        let report = check_file(&pool, true, &mut |_, _| {}).expect("it opens");
        assert!(report.is_clean(), "{report:?}");
        let (group, _committer) = open(dir.path());
        assert_eq!(get(&group, "ours 199").as_deref(), Some("ours"));
        assert_eq!(get(&group, "their").as_deref(), Some("theirs"));
        assert_eq!(get(&group, "mine 1"), None);
        assert_eq!(group.read().store().uuid(), [9; 16]);
    }

    #[test]
    fn a_commit_that_is_under_way_on_the_old_pool_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = dir.path().join(POOL_FILE);
        let (group, mut committer) = open(dir.path());
        set(&group, "mine", "mine");
        let imported = arrived(&group, &pool, "their");
        let sealed = group.seal().expect("something has changed");
        group.install(imported).expect("it takes the place");
        let published = committer.commit(sealed).expect("the old pool is there still");
        assert!(!group.release(published), "it is not the new one's");
        group.resume();
        set(&group, "ours", "ours");
        let sealed = group.seal().expect("something has changed");
        assert!(!committer.is_of(&sealed));
        let mut committer = group.take_committer().expect("the new pool has one of its own");
        assert!(group.release(committer.commit(sealed).expect("commits")));
        group.resume();
        drop((group, committer));
        let report = check_file(&pool, true, &mut |_, _| {}).expect("it opens");
        assert!(report.is_clean() && report.keys == 2, "{report:?}");
    }

    #[test]
    fn a_crash_before_the_log_knows_is_no_log_that_was_cut_short() {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = dir.path().join(POOL_FILE);
        let (group, _committer) = open(dir.path());
        (0..5).for_each(|_| set(&group, "mine", "mine"));
        let imported = arrived(&group, &pool, "their");
        drop(group);
        // A log that ends before what the pool brings.
        std::fs::remove_dir_all(dir.path().join(LOG_DIR)).expect("the log goes");
        FileHome::new(&pool).put(imported).expect("renamed");

        let (group, _committer) = open(dir.path());
        assert_eq!(get(&group, "their").as_deref(), Some("theirs"));
        set(&group, "ours", "ours");
        drop(group);
        let (group, _committer) = open(dir.path());
        assert_eq!(get(&group, "ours").as_deref(), Some("ours"));
        drop(group);

        assert!(!FileHome::new(&pool).has_note(), "the log has what follows: no more need of it");
        std::fs::remove_dir_all(dir.path().join(LOG_DIR)).expect("the log goes");
        let refused = recover(options(dir.path())).err().expect("now it was cut short");
        assert!(refused.contains("restore both"), "{refused}");
    }

    #[test]
    fn a_pool_that_is_older_is_not_installed() {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = dir.path().join(POOL_FILE);
        let (group, _committer) = open(dir.path());
        set(&group, "mine", "mine");
        let imported = arrived(&group, &pool, "their");
        set(&group, "mine", "mine");
        let refused = group.install(imported).expect_err("it is older");
        assert!(refused.contains("older"), "{refused}");
        assert_eq!(get(&group, "mine").as_deref(), Some("mine"));
        let stopped = group.stop_reason().expect("openraft goes on with neither");
        assert!(stopped.reason.contains("older"), "{stopped}");
    }

    #[test]
    fn a_pool_that_cannot_be_put_in_place_stops_the_group() {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = dir.path().join(POOL_FILE);
        let (group, _committer) = open(dir.path());
        set(&group, "mine", "mine");
        let imported = arrived(&group, &pool, "their");
        // Where the note is to be written, which comes first.
        std::fs::create_dir(dir.path().join(format!("{POOL_FILE}.brought"))).expect("is made");
        let failed = group.install(imported).expect_err("there is no room for the note");
        assert!(failed.contains("brought"), "{failed}");
        let stopped = group.stop_reason().expect("openraft goes on with neither");
        assert!(stopped.reason.contains("brought"), "{stopped}");
        assert_eq!(get(&group, "mine").as_deref(), Some("mine"));
    }
}
