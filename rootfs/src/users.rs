//! Who an image's `USER` is, read from /etc/passwd and /etc/group of a container's root, never of the host.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use pintle_rootfs_plan::users::{self, Identity};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::beneath;
use crate::error::{At, Error, Result};

/// More than any real file; a container's image is not trusted to be reasonable.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Resolves `user[:group]` (names or numbers; empty is root) against the root mounted at `root`.
pub fn lookup(root: &Path, spec: &str) -> Result<Identity> {
    let (passwd, group) = files(root)?;
    Ok(users::resolve(spec, &passwd, &group)?)
}

/// The groups of the root's /etc/group that list the user with this id: what Kubernetes merges into
/// `supplementalGroups` unless the policy is Strict.
pub fn memberships(root: &Path, uid: u32) -> Result<Vec<u32>> {
    let (passwd, group) = files(root)?;
    let identity = users::resolve(&uid.to_string(), &passwd, &group)?;
    Ok(identity.supplementary)
}

fn files(root: &Path) -> Result<(String, String)> {
    let fd = beneath::open_root(root).at("open", root)?;
    Ok((read(&fd, root, "etc/passwd")?, read(&fd, root, "etc/group")?))
}

/// Reads a file of the root. A missing one is empty; one that is no regular file is not read: a pipe would block.
fn read(fd: &OwnedFd, root: &Path, name: &str) -> Result<String> {
    let path = root.join(name);
    let file = match beneath::open(fd, name.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error).at("open", path),
    };
    if !file.metadata().at("stat", &path)?.is_file() {
        return Err(Error::Unusable { what: path.display().to_string(), why: "it is not a regular file".to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).at("read", &path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::fs;

    #[test]
    fn users_come_from_the_root_and_never_from_the_host() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(lookup(dir.path(), "").unwrap().uid, 0);
        assert!(lookup(dir.path(), "root").is_err(), "the host has root, this root has no passwd");
        fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/real", dir.path().join("etc/passwd")).unwrap();
        fs::write(dir.path().join("etc/real"), "web:x:33:34::/srv:/bin/sh\n").unwrap();
        fs::write(dir.path().join("etc/group"), "logs:x:90:web\n").unwrap();
        let identity = lookup(dir.path(), "web").unwrap();
        assert_eq!((identity.uid, identity.gid, identity.supplementary), (33, 34, vec![90]));
        assert_eq!(memberships(dir.path(), 33).unwrap(), [90]);
        assert_eq!(memberships(dir.path(), 7).unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn a_pipe_in_place_of_passwd_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("etc/passwd"), rustix::fs::Mode::RUSR).unwrap();
        assert!(matches!(lookup(dir.path(), "web"), Err(Error::Unusable { .. })));
    }
}
