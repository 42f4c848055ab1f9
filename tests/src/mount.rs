//! File systems of a test's own: in memory, or in files mounted through loop devices. Only root can.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;
use crate::scratch::Scratch;

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    /// Where the mount point and the file lie, when they are this value's own.
    _scratch: Option<Scratch>,
}

impl Mounted {
    /// A tmpfs of `mib` MiB, in a directory of `scratch`.
    ///
    /// # Errors
    /// What `mount` said.
    pub fn tmpfs(scratch: Scratch, mib: u64) -> Result<Mounted, String> {
        let at = scratch.path().join("mounted");
        mount(&["-t", "tmpfs", "-o", &format!("size={mib}m"), "cairn"], &at)?;
        Ok(Mounted { at, _scratch: Some(scratch) })
    }

    /// A new file system of `kind`, `ext4` or `xfs`, in a sparse file of `mib` MiB in `scratch`.
    ///
    /// # Errors
    /// What `mkfs` or `mount` said.
    pub fn made(scratch: Scratch, kind: &str, mib: u64) -> Result<Mounted, String> {
        let file = scratch.path().join("image");
        make(kind, mib, &file)?;
        let at = scratch.path().join("mounted");
        mount(&["-o", "loop", &file.display().to_string()], &at)?;
        Ok(Mounted { at, _scratch: Some(scratch) })
    }

    /// The file system in `file`, at `at`, which is made when it is missing.
    ///
    /// # Errors
    /// What `mount` said.
    pub fn file(file: &Path, at: &Path) -> Result<Mounted, String> {
        mount(&["-o", "loop", &file.display().to_string()], at)?;
        Ok(Mounted { at: at.to_owned(), _scratch: None })
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A node that was just killed may hold it for a moment.
        let unmount = || run("umount", &[], &self.at).is_ok();
        if !process::eventually(Duration::from_secs(10), unmount) {
            eprintln!("{} stays mounted", self.at.display());
        }
    }
}

/// Makes a file system of `kind` in the sparse file `file` of `mib` MiB.
///
/// # Errors
/// What `mkfs` said.
pub fn make(kind: &str, mib: u64, file: &Path) -> Result<(), String> {
    let made = std::fs::File::create(file).and_then(|file| file.set_len(mib << 20));
    made.map_err(|e| format!("{}: {e}", file.display()))?;
    let options: &[&str] = if kind == "ext4" { &["-q", "-m", "0"] } else { &["-q"] };
    run(&format!("mkfs.{kind}"), options, file)
}

fn mount(args: &[&str], at: &Path) -> Result<(), String> {
    std::fs::create_dir_all(at).map_err(|e| format!("{}: {e}", at.display()))?;
    run("mount", args, at)
}

/// Runs a program with a path as its last argument.
///
/// # Errors
/// What it said when it failed, or why it could not be run.
pub fn run(program: &str, args: &[&str], last: &Path) -> Result<(), String> {
    let output = Command::new(program).args(args).arg(last).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
