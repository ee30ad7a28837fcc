//! Roots of containers: an overlay of an image's shared layers and the container's own upper directory.
//!
//! A snapshot's directory is made whole in `tmp/` and renamed into place, so one that is seen is complete; what it is
//! of and where it is mounted are symlinks in it, which need no fsync to be either there or not.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pintle_rootfs_plan::digest::ImageId;
use pintle_rootfs_plan::index::ImageRecord;
use pintle_rootfs_plan::overlay::{self, Access, Attempt, OverlayRequest};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

use crate::beneath;
use crate::dirs::Lock;
use crate::error::{At, Error, Result};
use crate::store::Store;
use crate::temp::Temp;

/// How a root is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Whether the root may be changed.
    pub access: Access,
}

/// A container's root known to the store, mounted or not (after a reboot nothing is).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The container.
    pub container_id: String,
    /// Its image.
    pub image: ImageId,
    /// Where it was to be mounted.
    pub at: PathBuf,
}

/// Bytes and inodes a container has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of disk.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

impl Store {
    /// Mounts the root of a container at `at`, which is made if missing. The image must be in the store; a container id
    /// that has a snapshot already is [`Error::Mounted`]. Nothing is left behind on failure.
    pub fn mount(&self, image: &ImageId, container_id: &str, at: &Path, options: &MountOptions) -> Result<()> {
        check_container_id(container_id)?;
        let snapshot = self.dirs.snapshots().join(container_id);
        let record = self.make_snapshot(image, container_id, at)?;
        let mounted = fs::create_dir_all(at).at("create", at).and_then(|()| {
            let layers: Vec<PathBuf> =
                record.visible_chains().map(|chain| self.dirs.layer(&chain).join("fs")).collect();
            let request = OverlayRequest {
                layers: &layers,
                upper: &snapshot.join("upper"),
                work: &snapshot.join("work"),
                empty: &snapshot.join("empty"),
                access: options.access,
            };
            let attempts = overlay::plan(&request)?;
            try_each(&attempts, options.access, at).map_err(|source| Error::Mount {
                container: container_id.to_owned(),
                at: at.to_owned(),
                source,
            })
        });
        if mounted.is_err() {
            // The reason for failing is what matters; a snapshot that cannot be removed shows up in `snapshots`.
            let _ = self.discard(container_id);
        }
        self.touch(image);
        mounted
    }

    /// Unmounts a container's root and removes what the container wrote. Neither being there is an error.
    pub fn unmount(&self, container_id: &str, at: &Path) -> Result<()> {
        check_container_id(container_id)?;
        let image = fs::read_link(self.dirs.snapshots().join(container_id).join("image")).ok();
        unmount_overlay(at)?;
        self.discard(container_id)?;
        if let Some(id) = image.and_then(|link| link.to_string_lossy().parse().ok()) {
            self.touch(&id);
        }
        Ok(())
    }

    /// Every container root the store knows of, for finding orphans.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let dir = self.dirs.snapshots();
        let mut snapshots = Vec::new();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            match read_snapshot(&entry.path(), &entry.file_name().to_string_lossy()) {
                Ok(snapshot) => snapshots.push(snapshot),
                // Unmounted by another thread since the directory was listed.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        Ok(snapshots)
    }

    /// What a container has written to its root, by walking its upper directory.
    pub fn written(&self, container_id: &str) -> Result<Written> {
        check_container_id(container_id)?;
        let mut written = Written::default();
        let mut dirs = vec![self.dirs.snapshots().join(container_id).join("upper")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).at("list", &dir)? {
                let entry = entry.at("list", &dir)?;
                // A file can vanish between listing and looking: the container is running.
                let Ok(metadata) = entry.metadata() else { continue };
                written.inodes += 1;
                written.bytes += metadata.blocks() * 512;
                if metadata.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        Ok(written)
    }

    fn make_snapshot(&self, image: &ImageId, container_id: &str, at: &Path) -> Result<ImageRecord> {
        let at = std::path::absolute(at).at("resolve", at)?;
        let lock = self.dirs.lock()?;
        let index = self.index.read(&self.dirs)?;
        let record = index.by_id(*image).ok_or_else(|| Error::NotFound(image.to_string()))?;
        let place = self.dirs.snapshots().join(container_id);
        if place.symlink_metadata().is_ok() {
            return Err(Error::Mounted(container_id.to_owned()));
        }
        let temp = Temp::create(&self.dirs, &lock)?;
        let new = temp.path().join("snapshot");
        for dir in [new.clone(), new.join("upper"), new.join("work"), new.join("empty")] {
            fs::create_dir(&dir).at("create", &dir)?;
        }
        symlink(image.to_string(), new.join("image")).at("create", new.join("image"))?;
        symlink(&at, new.join("at")).at("create", new.join("at"))?;
        // The upper directory's attributes are those of the mounted root.
        if let Some(top) = record.chains().last() {
            let top = self.dirs.layer(&top).join("fs");
            for dir in ["upper", "empty"] {
                copy_attributes(&top, &new.join(dir))?;
            }
        }
        fs::rename(&new, &place).at("create", &place)?;
        Ok(record.clone())
    }

    fn discard(&self, container_id: &str) -> Result<()> {
        let lock: Lock = self.dirs.lock()?;
        let place = self.dirs.snapshots().join(container_id);
        if place.symlink_metadata().is_err() {
            return Ok(());
        }
        let temp = Temp::create(&self.dirs, &lock)?;
        fs::rename(&place, temp.path().join("snapshot")).at("remove", &place)?;
        drop(lock);
        // Deleting what the container wrote happens here, outside the lock.
        drop(temp);
        Ok(())
    }

    /// Notes that an image was used now. Losing the note only makes the image look older to garbage collection.
    fn touch(&self, image: &ImageId) {
        let path = self.dirs.used_by(image);
        let noted = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(std::time::SystemTime::now()));
        if let Err(error) = noted {
            tracing::warn!(path = %path.display(), %error, "cannot note that an image was used");
        }
    }
}

fn check_container_id(id: &str) -> Result<()> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let good = !id.is_empty() && id.len() <= 255 && id.bytes().all(word) && id != "." && id != "..";
    if good { Ok(()) } else { Err(Error::ContainerId(id.to_owned())) }
}

fn read_snapshot(dir: &Path, container_id: &str) -> Result<Snapshot> {
    let image = dir.join("image");
    let text = fs::read_link(&image).at("read", &image)?.to_string_lossy().into_owned();
    let image = text.parse().map_err(|source| Error::BadDigest { what: image.display().to_string(), source })?;
    let at = dir.join("at");
    Ok(Snapshot { container_id: container_id.to_owned(), image, at: fs::read_link(&at).at("read", &at)? })
}

fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let metadata = fs::metadata(from).at("stat", from)?;
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid())).at("change the owner of", to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777)).at("change the mode of", to)
}

/// Tries one way of mounting after the other while the kernel calls the options invalid, which is how it says that it
/// does not know one of them.
fn try_each(attempts: &[Attempt], access: Access, at: &Path) -> io::Result<()> {
    let flags = match access {
        Access::ReadWrite => MountFlags::empty(),
        Access::ReadOnly => MountFlags::RDONLY,
    };
    let mut last = Errno::INVAL;
    for attempt in attempts {
        last = match attempt_one(attempt, flags, at) {
            Ok(()) => return Ok(()),
            Err(error @ (Errno::INVAL | Errno::NOSYS)) => error,
            Err(error) => return Err(error.into()),
        };
    }
    Err(last.into())
}

fn attempt_one(attempt: &Attempt, flags: MountFlags, at: &Path) -> Result<(), Errno> {
    match attempt {
        Attempt::Classic { options } => classic(options, flags, at),
        Attempt::Appended { options } => appended(options, flags, at),
        Attempt::Descriptors { lowers, options } => descriptors(lowers, options, flags, at),
    }
}

fn classic(options: &str, flags: MountFlags, at: &Path) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", at, "overlay", flags, Some(options.as_c_str()))
}

fn appended(options: &[(&'static str, String)], flags: MountFlags, at: &Path) -> Result<(), Errno> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "overlay")?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *key)?;
        } else {
            rustix::mount::fsconfig_set_string(&context, *key, value.as_str())?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes =
        if flags.contains(MountFlags::RDONLY) { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    rustix::mount::move_mount(&mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn descriptors(lowers: &[PathBuf], options: &str, flags: MountFlags, at: &Path) -> Result<(), Errno> {
    let opened: io::Result<Vec<_>> = lowers.iter().map(|lower| beneath::open_root(lower)).collect();
    let opened = opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let names: Vec<String> = opened.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let lowerdir = format!("lowerdir={}", names.join(":"));
    let options = if options.is_empty() { lowerdir } else { format!("{lowerdir},{options}") };
    classic(&options, flags, at)
}

/// Unmounts, lazily if something still uses it. Not being mounted is success.
fn unmount_overlay(at: &Path) -> Result<()> {
    match rustix::mount::unmount(at, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => rustix::mount::unmount(at, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH).at("unmount", at),
        Err(error) => Err(error).at("unmount", at),
    }
}
