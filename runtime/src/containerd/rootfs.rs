//! A task's root file system: containerd says what to mount, the shim mounts it on `<bundle>/rootfs`.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pintle_sys::Errno;
use pintle_ttrpc::task::Mount;

use crate::error::{Doing as _, Error, Result};

/// mount(2) takes one page of options.
const DATA_LEN_MAX: usize = 4000;

const FLAGS: &[(&str, MsFlags)] = &[
    ("ro", MsFlags::MS_RDONLY),
    ("bind", MsFlags::MS_BIND),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("remount", MsFlags::MS_REMOUNT),
];
const NOTHING: &[&str] = &["rw", "defaults", "dev", "suid", "exec", "atime", "diratime", "async"];

/// Where a task's root file system is.
pub fn path(bundle: &Path) -> PathBuf {
    bundle.join("rootfs")
}

/// Mounts all, in order. For a worker, that ends afterwards: long lists of layers make it change its directory.
pub fn mount_all(bundle: &Path, mounts: &[Mount]) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let root = path(bundle);
    std::fs::create_dir_all(&root).doing(|| format!("make {}", root.display()))?;
    mounts.iter().try_for_each(|one| mount_one(&root, one))
}

fn mount_one(root: &Path, one: &Mount) -> Result<()> {
    let below = Path::new(one.target.trim_start_matches('/'));
    if below.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::Usage(format!("rootfs: mount target {:?} leaves the root", one.target)));
    }
    let target = root.join(below);
    let (flags, data) = split(&one.options);
    let data = shorten(data)?;
    let source = (!one.source.is_empty()).then_some(one.source.as_str());
    let what = || format!("mount {} ({}) on {}", one.source, one.kind, target.display());
    mount(source, &target, Some(one.kind.as_str()), flags, (!data.is_empty()).then_some(data.as_str())).doing(what)?;
    if flags.contains(MsFlags::MS_BIND) && flags.contains(MsFlags::MS_RDONLY) {
        // A bind mount takes its flags only when mounted again (mount(2)).
        let again = (flags - MsFlags::MS_REC) | MsFlags::MS_REMOUNT;
        mount(None::<&str>, &target, None::<&str>, again, None::<&str>).doing(what)?;
    }
    Ok(())
}

fn split(options: &[String]) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in options {
        match (option.as_str(), FLAGS.iter().find(|(name, _)| name == option)) {
            ("rbind", _) => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            (_, Some((_, flag))) => flags |= *flag,
            (name, None) if NOTHING.contains(&name) => {}
            (name, None) => data.push(name),
        }
    }
    (flags, data.join(","))
}

/// Many layers do not fit: their common directory becomes ours, and the rest of their paths is what is passed.
fn shorten(data: String) -> Result<String> {
    if data.len() < DATA_LEN_MAX {
        return Ok(data);
    }
    let Some(list) = data.split(',').find_map(|option| option.strip_prefix("lowerdir=")) else { return Ok(data) };
    let first = list.split(':').next().unwrap_or_default();
    let common = first
        .rmatch_indices('/')
        .map(|(at, _)| &first[..=at])
        .find(|prefix| prefix.len() > 1 && list.split(':').all(|layer| layer.starts_with(prefix)));
    let Some(common) = common else { return Ok(data) };
    std::env::set_current_dir(common).doing(|| format!("chdir to {common}"))?;
    let short: Vec<&str> = list.split(':').map(|layer| &layer[common.len()..]).collect();
    Ok(data.replacen(list, &short.join(":"), 1))
}

/// Unmounts whatever lies on it. Nothing there is fine.
pub fn unmount(bundle: &Path) -> Result<()> {
    let root = path(bundle);
    loop {
        match umount2(&root, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno).doing(|| format!("unmount {}", root.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_file_systems() {
        let options = ["ro", "rw", "rbind", "lowerdir=/a:/b", "index=off"].map(str::to_owned);
        let (flags, data) = split(&options);
        assert_eq!(flags, MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(data, "lowerdir=/a:/b,index=off");
    }

    #[test]
    fn many_layers_are_named_from_their_common_directory() {
        let dir = std::env::temp_dir();
        let layers: Vec<String> = (0..200).map(|n| format!("{}/{n:020}/fs", dir.display())).collect();
        let short = shorten(format!("index=off,lowerdir={}", layers.join(":"))).unwrap_or_default();
        assert!(short.starts_with("index=off,lowerdir=00000000000000000000/fs:00000000000000000001/fs:"), "{short}");
        assert_eq!(std::env::current_dir().ok(), dir.canonicalize().ok());
    }
}
