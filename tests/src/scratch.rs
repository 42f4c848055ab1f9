//! Directories for tests and benches on each medium.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Where a test's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// tmpfs: `/dev/shm`.
    Memory,
    /// A file system on a disk: the system's temporary directory, or `CAIRN_FILE_DIR`.
    File,
}

impl Medium {
    /// Both.
    pub const ALL: [Medium; 2] = [Medium::Memory, Medium::File];

    /// The directory below which its data is put.
    pub fn base(self) -> PathBuf {
        match self {
            Medium::Memory => PathBuf::from("/dev/shm"),
            Medium::File => {
                std::env::var_os("CAIRN_FILE_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
            }
        }
    }
}

/// A new directory that goes away with this value.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes one.
    pub fn new(medium: Medium) -> Scratch {
        let made = tempfile::Builder::new().prefix("cairn-test-").tempdir_in(medium.base());
        Scratch(made.expect("a temporary directory can be made"))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Bytes that a directory's files take on their medium: blocks, not lengths.
pub fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| disk_bytes(&entry.path())).sum::<u64>()
}
