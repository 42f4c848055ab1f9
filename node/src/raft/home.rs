//! Where a group's pool lies, and how a peer's comes there and takes its place.
//!
//! The pool changes its name and the log forgets what came before it, and a crash may come between
//! the two: a note beside the pool says which entry it brought, so that the next start does not take
//! the log for one that was cut short.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use cairn_protocol::ids::{LogIndex, Term};
use cairn_store::{Committer, Head, Import, Imported, Opened, PoolOptions, Store};

/// The last entry in a pool.
pub type Applied = (Term, LogIndex);

/// The place of a pool.
pub trait Home: Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// Opens the pool that lies there, or makes one.
    ///
    /// # Errors
    /// A text that says what, where, and what to do.
    fn open(&self, options: &PoolOptions) -> Result<(Store, Committer, Opened), String>;

    /// Takes in a peer's pool beside it: goes on with what has come of that one before, or begins.
    ///
    /// # Errors
    /// There is no room for it, or the medium failed.
    fn arrive(&self, head: Head, options: &PoolOptions) -> Result<Import, String>;

    /// Whether another pool may take its place.
    ///
    /// # Errors
    /// Why not, and what to do.
    fn check_replaceable(&self) -> Result<(), String>;

    /// Puts a pool that has arrived in its place, durably, with the note of what it brought.
    ///
    /// # Errors
    /// What failed; the old pool lies there still.
    fn put(&self, imported: Imported) -> Result<(), String>;

    /// Whether the pool there, which holds entries up to `applied`, is a peer's that nothing has
    /// been committed to since it came: the log need not hold what led to it.
    fn has_brought(&self, applied: Applied) -> bool;

    /// Takes note that the log goes on behind what the pool brought.
    fn forget(&self);
}

/// A file, or a link to a devdax device, at this path.
#[derive(Clone, Debug)]
pub struct FileHome(PathBuf);

impl FileHome {
    /// The pool at `path`.
    pub fn new(path: impl Into<PathBuf>) -> FileHome {
        FileHome(path.into())
    }

    /// Where a pool arrives that is to take its place.
    pub fn incoming(&self) -> PathBuf {
        self.beside("incoming")
    }

    /// The note of which entry the last pool that was put here brought.
    fn note(&self) -> PathBuf {
        self.beside("brought")
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.0.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        name.into()
    }

    /// Writes the note, durably.
    fn write_note(&self, applied: Applied) -> Result<(), String> {
        let path = self.note();
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(text(applied).as_bytes())?;
            file.sync_all()?;
            File::open(self.0.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| format!("writing {}: {error}", path.display()))
    }

    /// Whether the note is there.
    #[cfg(test)]
    pub(super) fn has_note(&self) -> bool {
        self.note().exists()
    }
}

fn text((term, index): Applied) -> String {
    format!("{} {}\n", term.0, index.0)
}

impl Home for FileHome {
    fn place(&self) -> String {
        self.0.display().to_string()
    }

    fn open(&self, options: &PoolOptions) -> Result<(Store, Committer, Opened), String> {
        Store::open_file(&self.0, options).map_err(|error| error.to_string())
    }

    fn arrive(&self, head: Head, options: &PoolOptions) -> Result<Import, String> {
        Import::resume(&self.incoming(), head, options).map_err(|error| error.to_string())
    }

    fn check_replaceable(&self) -> Result<(), String> {
        match self.0.is_symlink() {
            false => Ok(()),
            true => Err(format!(
                "{} leads to a device: a peer's pool cannot be put there; stop the node, blank the \
                 device and let the node join anew",
                self.0.display()
            )),
        }
    }

    fn put(&self, imported: Imported) -> Result<(), String> {
        self.write_note(imported.head().applied())?;
        imported.install(&self.0).map_err(|error| error.to_string())
    }

    fn has_brought(&self, applied: Applied) -> bool {
        std::fs::read_to_string(self.note()).is_ok_and(|brought| brought == text(applied))
    }

    fn forget(&self) {
        // Left there it does no harm: it speaks of a pool that has nothing new.
        let _ = std::fs::remove_file(self.note());
    }
}
