//! A node's directory as the tools find it.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::raft::home::FileHome;
use crate::raft::recover::{LOG_DIR, POOL_FILE};

/// Where pool and log lie.
#[derive(Debug)]
pub struct Place {
    /// The pool file, which is there.
    pub pool: PathBuf,
    /// The log's directory.
    pub log: PathBuf,
    /// Whether that is there.
    pub has_log: bool,
    /// A pool of a peer's that has arrived in part, and what it takes of the disk.
    pub incoming: Option<(PathBuf, u64)>,
}

impl Place {
    /// Looks for pool and log in `dir`.
    ///
    /// # Errors
    /// A text that says what is missing, and what to do.
    pub fn find(dir: &Path) -> Result<Place, String> {
        let shown = dir.display();
        match std::fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(format!("{shown} is a file: --dir names a node's directory")),
            Err(error) => return Err(no_directory(dir, &error)),
        }
        let (pool, log) = (dir.join(POOL_FILE), dir.join(LOG_DIR));
        let has_log = log.is_dir();
        match (std::fs::metadata(&pool), has_log) {
            (Ok(_), _) => {
                let incoming = incoming(&pool);
                Ok(Place { pool, log, has_log, incoming })
            }
            (Err(error), _) if error.kind() != ErrorKind::NotFound => {
                Err(format!("cannot look at {}: {error}", pool.display()))
            }
            (Err(_), true) => Err(format!(
                "{shown} has a log but no pool ({POOL_FILE} is missing): restore both from one \
                 backup, or from a peer"
            )),
            (Err(_), false) => Err(format!(
                "there is no pool in {shown} ({POOL_FILE} is missing): no node has run there; name \
                 its directory with --dir"
            )),
        }
    }
}

fn incoming(pool: &Path) -> Option<(PathBuf, u64)> {
    let path = FileHome::new(pool).incoming();
    let meta = std::fs::metadata(&path).ok()?;
    Some((path, meta.blocks() * 512))
}

fn no_directory(dir: &Path, error: &std::io::Error) -> String {
    let shown = dir.display();
    match error.kind() {
        ErrorKind::NotFound => {
            format!("there is no directory {shown}: name the node's own with --dir")
        }
        ErrorKind::PermissionDenied => {
            format!("this user may not look into {shown}: run this as the node's user")
        }
        _ => format!("cannot look at {shown}: {error}"),
    }
}
