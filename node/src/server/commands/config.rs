//! CONFIG.

use std::path::Path;

use cairn_engine::{LIMITS, Limit, LimitKind};
use cairn_protocol::WireError;
use cairn_protocol::glob;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::media::is_device;

use super::{After, Context, SharedSettings};
use crate::ops::config::{MEMORY_MIN, SetError};
use crate::ops::host;
use crate::ops::units::parse_bytes;
use crate::raft::recover::POOL_FILE;

/// The one setting of Redis's that is a limit of the shard's pool.
const MAXMEMORY: &str = "maxmemory";

/// CONFIG GET pattern ...
pub(super) fn get(cx: &Context<'_>, argv: Argv<'_>, w: &mut Writer<'_>) {
    let patterns: Vec<&[u8]> = argv.iter().skip(2).collect();
    let mut found = cx.shared.config.matching(&patterns);
    let (limits, memory) = {
        let engine = cx.shared.group.read();
        (*engine.limits(), engine.store().limit_bytes())
    };
    for (name, value) in &mut found {
        if name.eq_ignore_ascii_case(MAXMEMORY.as_bytes()) {
            *value = memory.to_string();
        }
    }
    for (number, limit) in LIMITS.iter().enumerate() {
        let value = limits.get(number).unwrap_or(limit.default).to_string();
        for name in [Some(limit.name), limit.alias].into_iter().flatten() {
            if patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes(), true)) {
                found.push((name.as_bytes().to_vec(), value.clone()));
            }
        }
    }
    w.map(found.len());
    for (name, value) in found {
        w.bulk(&name);
        w.bulk(value.as_bytes());
    }
}

/// CONFIG SET name value ...: the node's own settings at once, those that all replicas share by an
/// operation.
pub(super) fn set(
    cx: &Context<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Result<After, WireError> {
    if argv.len() % 2 == 1 {
        return Err(WireError::Syntax);
    }
    let args: Vec<&[u8]> = argv.iter().skip(2).collect();
    let (mut own, mut shared) = (Vec::new(), SharedSettings::default());
    for pair in args.chunks_exact(2) {
        match limit_of(pair[0]) {
            _ if pair[0].eq_ignore_ascii_case(MAXMEMORY.as_bytes()) => {
                if shared.memory.replace(memory_value(cx, pair[1])?).is_some() {
                    return Err(refused(MAXMEMORY.as_bytes(), "duplicate parameter".to_owned()));
                }
            }
            Some((number, limit)) => shared.limits.push((number, limit_value(limit, pair)?)),
            None => own.push((pair[0], pair[1])),
        }
    }
    let changed =
        cx.shared.config.set(&own).map_err(|refusal| WireError::Custom(refusal.text()))?;
    cx.shared.log.set(changed.log_level);
    cx.shared.group.set_eviction(changed.eviction());
    w.ok();
    let is_own = shared == SharedSettings::default();
    Ok(if is_own { After::Continue } else { After::Change(shared) })
}

/// The memory limit that `text` asks for, if this node can give as much.
fn memory_value(cx: &Context<'_>, text: &[u8]) -> Result<u64, WireError> {
    let refuse = |reason: String| Err(refused(MAXMEMORY.as_bytes(), reason));
    let Some(bytes) = parse_bytes(&String::from_utf8_lossy(text)) else {
        return refuse("argument must be a memory value".to_owned());
    };
    let (limit, usage, most) = {
        let engine = cx.shared.group.read();
        let store = engine.store();
        (store.limit_bytes(), store.usage(), store.capacity_bytes_max())
    };
    if bytes < MEMORY_MIN {
        return refuse(format!("a pool needs {MEMORY_MIN} bytes at least; it cannot be unlimited"));
    }
    if bytes > most {
        return refuse(format!(
            "this process reserved addresses for {most} bytes: restart with a larger --memory"
        ));
    }
    let pool = cx.shared.identity.dir.join(POOL_FILE);
    let there = bytes_beside(&pool).saturating_add(usage.extents_bytes);
    if bytes > limit && bytes > there {
        return refuse(format!("{} can grow to {there} bytes", pool.display()));
    }
    Ok(bytes)
}

/// What the file system that holds the pool's file has free. No bound for a device: all that it has
/// is reserved already.
fn bytes_beside(pool: &Path) -> u64 {
    match is_device(pool) {
        true => u64::MAX,
        false => host::free_bytes(pool).unwrap_or(u64::MAX),
    }
}

fn refused(name: &[u8], reason: String) -> WireError {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    WireError::Custom(SetError::Refused { name, reason }.text())
}

/// The limit of that name, and its number.
fn limit_of(name: &[u8]) -> Option<(usize, &'static Limit)> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    LIMITS.iter().enumerate().find(|(_, limit)| is(limit.name) || limit.alias.is_some_and(is))
}

/// The value that `pair` asks for.
fn limit_value(limit: &Limit, pair: &[&[u8]]) -> Result<i64, WireError> {
    let refuse = |reason| refused(pair[0], reason);
    let no_integer = || refuse("argument couldn't be parsed into an integer".to_owned());
    let (low, high) = match limit.kind {
        LimitKind::Count | LimitKind::Bytes => (0, i64::MAX),
        LimitKind::Size => (i32::MIN.into(), i32::MAX.into()),
        LimitKind::Depth => (0, i32::MAX.into()),
    };
    let value = match limit.kind {
        LimitKind::Bytes => {
            let text = String::from_utf8_lossy(pair[1]);
            let bytes = parse_bytes(&text);
            let bytes =
                bytes.ok_or_else(|| refuse("argument must be a memory value".to_owned()))?;
            // Past the end, so that it is refused for being too large.
            i64::try_from(bytes).unwrap_or(-1)
        }
        _ => parse_i64(pair[1]).ok_or_else(no_integer)?,
    };
    if !(low..=high).contains(&value) {
        return Err(refuse(format!("argument must be between {low} and {high} inclusive")));
    }
    Ok(value)
}

/// The answer to CONFIG REWRITE: the file is the operator's, with comments that a rewrite would
/// lose.
pub(super) fn no_rewrite() -> WireError {
    WireError::Static(
        "ERR Cairn does not rewrite its configuration file: put the option there by hand",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The data directory holds the log, and what leads to the pool.
    #[test]
    fn room_is_asked_for_where_the_pool_lies() {
        let [logs, elsewhere] = ["/tmp", "/dev/shm"].map(|at| tempfile::tempdir_in(at).unwrap());
        let [device, file] = ["device", "file"].map(|name| logs.path().join(name));
        symlink("/dev/zero", &device).unwrap();
        assert_eq!(bytes_beside(&device), u64::MAX);
        let there = elsewhere.path().join(POOL_FILE);
        std::fs::write(&there, "").unwrap();
        symlink(&there, &file).unwrap();
        let far_from = |at: &Path| bytes_beside(&file).abs_diff(host::free_bytes(at).unwrap());
        assert!(far_from(elsewhere.path()) <= far_from(logs.path()));
    }
}
