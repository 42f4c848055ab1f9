//! Where a pool on a device is found: a link in `--dir` under the pool's usual name, so that later
//! starts, `cairn check` and `cairn inspect` find it as they find a file.

use std::io::ErrorKind;
use std::path::Path;

use cairn_store::media::is_device;

use super::recover::POOL_FILE;

/// Has `dir` lead to the devdax device `device`.
///
/// # Errors
/// A text that says why it cannot, and what to do. Nothing is changed then.
pub fn link_device(dir: &Path, device: &Path) -> Result<(), String> {
    let (link, shown) = (dir.join(POOL_FILE), device.display());
    if !is_device(device) {
        return Err(format!(
            "--pool {shown} is no character device: it is for devdax devices, such as /dev/dax0.0; \
             a pool in a file lies in --dir, so give a --dir on the file system it is to be on"
        ));
    }
    let device = std::path::absolute(device).map_err(|error| format!("--pool {shown}: {error}"))?;
    let failed = |error| format!("cannot link {} to {shown}: {error}", link.display());
    match std::fs::symlink_metadata(&link) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::os::unix::fs::symlink(&device, &link).map_err(failed)?;
            std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
        }
        Err(error) => Err(failed(error)),
        Ok(_) => match std::fs::read_link(&link) {
            Ok(target) if target == device => Ok(()),
            Ok(target) => Err(format!(
                "{} leads to {}, not to {shown}: leave --pool out, or, if the device has a new \
                 name, remove that link first",
                link.display(),
                target.display()
            )),
            Err(_) => Err(format!(
                "{} is a pool of its own: leave --pool out, or give another --dir",
                link.display()
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_linked_once_and_nothing_else_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let (null, zero) = (Path::new("/dev/null"), Path::new("/dev/zero"));
        link_device(dir.path(), null).expect("links");
        link_device(dir.path(), null).expect("is linked");
        let link = dir.path().join(POOL_FILE);
        assert_eq!(std::fs::read_link(&link).expect("a link"), null);
        let refused = link_device(dir.path(), zero).expect_err("another device");
        assert!(refused.contains("/dev/null"), "{refused}");
        std::fs::remove_file(&link).expect("is there");
        std::fs::write(&link, b"a pool").expect("a file");
        let refused = link_device(dir.path(), null).expect_err("a pool is there");
        assert!(refused.contains("a pool of its own"), "{refused}");
        let refused = link_device(dir.path(), &link).expect_err("no device");
        assert!(refused.contains("no character device"), "{refused}");
    }
}
