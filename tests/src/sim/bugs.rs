//! Bugs put in, to see them caught: those that can be without a switch in the product.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_store::layout::log::{kind, record};
use cairn_store::layout::pool::{SUPERBLOCK, SUPERBLOCK_AT};
use cairn_store::log::medium::{LogFile, LogMedium};
use cairn_store::pool::{Copy, Superblock};

/// Something that is wrong with a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The disk says that batches are synced which are not: entries are acknowledged before they are
    /// durable.
    SyncIgnored,
    /// Votes are answered before they are durable.
    VoteNotSynced,
    /// A leader reads and answers by a lease at which it looked before it read, and not after.
    LeaseLookedAtBefore,
    /// A member that was started anew votes at once, as if it had promised nothing before.
    LeaseForgotten,
    /// Of a peer's pool that takes the place of a member's own only a part is durable.
    SnapshotHalf,
    /// A pool that is opened after a power loss goes on with the epoch behind its root, whether or not
    /// a commit of that number was cut short.
    EpochReused,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 6] = [
        Bug::SyncIgnored,
        Bug::VoteNotSynced,
        Bug::LeaseLookedAtBefore,
        Bug::LeaseForgotten,
        Bug::SnapshotHalf,
        Bug::EpochReused,
    ];
}

/// Has a pool's bytes say that no epoch above its root was ever begun.
pub fn forget_epochs(pool: &mut [u8]) {
    for at in SUPERBLOCK_AT {
        let Some(bytes) = pool.get_mut(at as usize..at as usize + SUPERBLOCK) else { continue };
        // A copy that a crash has torn stays as it is.
        if let Ok(Copy::Good(says)) = Superblock::decode(bytes, Path::new("simulated")) {
            let epoch = says.epoch;
            bytes.copy_from_slice(&Superblock { ceiling: epoch, ..*says }.encode());
        }
    }
}

/// A medium that does not sync batches that begin with a vote.
pub struct VoteLoser(Arc<dyn LogMedium>);

impl VoteLoser {
    /// Over a real one.
    pub fn over(medium: Arc<dyn LogMedium>) -> Arc<dyn LogMedium> {
        Arc::new(VoteLoser(medium))
    }

    fn file(file: io::Result<Arc<dyn LogFile>>) -> io::Result<Arc<dyn LogFile>> {
        let voted = AtomicBool::new(false);
        Ok(Arc::new(VoteFile { file: file?, voted }))
    }
}

impl LogMedium for VoteLoser {
    fn place(&self) -> String {
        self.0.place()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn LogFile>> {
        VoteLoser::file(self.0.create(name, bytes, head))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        VoteLoser::file(self.0.open(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
}

struct VoteFile {
    file: Arc<dyn LogFile>,
    /// The last write was a vote.
    voted: AtomicBool,
}

impl LogFile for VoteFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let is_vote = offset > 0 && bytes.get(record::KIND) == Some(&kind::VOTE);
        self.voted.store(is_vote, Ordering::Relaxed);
        self.file.write_at(offset, bytes)
    }

    fn persist(&self) -> io::Result<()> {
        if self.voted.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.file.persist()
    }

    fn replace_front(&self, bytes: &[u8]) -> io::Result<()> {
        self.file.replace_front(bytes)
    }
}
