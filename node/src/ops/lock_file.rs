//! One process a directory: a lock file that holds the pid of whoever has it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The lock's file name inside `--dir`.
pub const LOCK_FILE: &str = "cairn.lock";

/// Held for as long as this process uses the directory. The kernel lets go of it when the process
/// ends, however it ends, so a stale file locks nothing.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Why the directory cannot be had.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it: its pid.
        pid: String,
    },
    /// The file cannot be opened, locked or written.
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Held { path, pid } => write!(
                f,
                "{} is in use by the process with pid {pid}: stop it first, or choose another --dir",
                path.parent().unwrap_or(path).display()
            ),
            LockError::Io { path, source } => write!(
                f,
                "cannot lock {}: {source}; the directory must be there and writable by this user",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LockError {}

impl LockFile {
    /// Locks the directory `dir`, which must exist, and leaves this process's pid in the file.
    pub fn acquire(dir: &Path) -> Result<LockFile, LockError> {
        let path = dir.join(LOCK_FILE);
        Self::open_and_lock(&path).map_err(|refusal| match refusal {
            TryLockError::WouldBlock => LockError::Held { pid: holder(&path), path },
            TryLockError::Error(source) => LockError::Io { path, source },
        })
    }

    /// Locks the directory `dir` for somebody who only looks: no file is made, and one that may not
    /// be written is held all the same. None where no node has left a lock file.
    ///
    /// # Errors
    /// [`LockError::Held`] while a node runs there.
    pub fn acquire_to_look(dir: &Path) -> Result<Option<LockFile>, LockError> {
        let path = dir.join(LOCK_FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::Io { path, source }),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(LockFile { _file: file })),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { pid: holder(&path), path }),
            Err(TryLockError::Error(source)) => Err(LockError::Io { path, source }),
        }
    }

    fn open_and_lock(path: &Path) -> Result<LockFile, TryLockError> {
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(TryLockError::Error)?;
        file.try_lock()?;
        write_pid(&mut file).map_err(TryLockError::Error)?;
        Ok(LockFile { _file: file })
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(32).read_to_string(&mut text));
    match text.trim() {
        pid if read.is_ok() && !pid.is_empty() => pid.to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_the_first_ones_pid() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = LockFile::acquire(dir.path()).expect("the directory is free");
        let refusal = LockFile::acquire(dir.path()).expect_err("the directory is held");
        let text = refusal.to_string();
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        drop(first);
        LockFile::acquire(dir.path()).expect("free again");
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let refusal = LockFile::acquire(Path::new("/no/such/folder")).expect_err("no folder");
        assert!(refusal.to_string().contains("/no/such/folder/cairn.lock"));
    }
}
