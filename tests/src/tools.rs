//! Programs that a machine may lack. A test without its program says so and passes, except where
//! `CI` is set: there it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Finds `program` in `PATH`. None means skip; the reason has been printed with the `remedy`.
///
/// # Panics
/// When it is missing and `CI` is set.
pub fn find(program: &str, remedy: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.is_file());
    if found.is_none() {
        skip(program, remedy);
    }
    found
}

/// Says that a test is skipped for want of `program`.
///
/// # Panics
/// When `CI` is set.
pub fn skip(program: &str, remedy: &str) {
    assert!(std::env::var_os("CI").is_none(), "{program} is missing: {remedy}");
    eprintln!("skipped: {program} is missing ({remedy})");
}

/// How to get redis-server, redis-cli and redis-benchmark.
pub const REDIS_REMEDY: &str = "apt-get install redis-server redis-tools";

/// The Python of a virtual environment in `base` with `package` installed; made once and kept.
/// None means skip; the reason has been printed.
pub fn python_with(base: &Path, package: &str) -> Option<PathBuf> {
    python_env(base, package, &[package], package)
}

/// The same with all that a file of requirements names, and nothing else; `imports` are some of its
/// modules, separated by commas.
pub fn python_with_all(base: &Path, requirements: &Path, imports: &str) -> Option<PathBuf> {
    let file = requirements.display().to_string();
    // A changed list makes another environment.
    let text = std::fs::read(requirements).expect("a file of this repository");
    let name = format!("all-{:08x}", crc32fast::hash(&text));
    python_env(base, &name, &["--no-deps", "-r", &file], imports)
}

fn python_env(base: &Path, name: &str, install: &[&str], imports: &str) -> Option<PathBuf> {
    static MAKING: OnceLock<std::sync::Mutex<()>> = OnceLock::new();
    let alone = MAKING.get_or_init(Default::default).lock();
    let env = base.join(format!("python-{name}"));
    let python = env.join("bin/python3");
    let import = format!("import {imports}");
    let importable = |python: &Path| quiet(Command::new(python).args(["-c", &import]));
    if !importable(&python) {
        let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
        let made = quiet(Command::new("python3").args(["-m", "venv"]).arg(&env))
            && quiet(Command::new(&python).args(pip).args(install));
        if !made || !importable(&python) {
            let install = install.join(" ");
            let remedy = format!("apt-get install python3-venv; python3 -m pip install {install}");
            skip(name, &remedy);
            return None;
        }
    }
    drop(alone);
    Some(python)
}

fn quiet(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
