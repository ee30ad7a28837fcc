//! Unpacking a layer into a directory: carrying out what `pintle_rootfs_plan::entry` decides, beneath the root only.
//!
//! Directories are made 0700 and get their mode, owner, attributes and time at the end, when nothing changes in them any
//! more; until then nobody else can look in, and nothing inherits from them. Directories that the archive only implies
//! are reported, because their attributes are those of the layers below (see `implied`).

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use pintle_rootfs_plan::entry::{self, Action, Attributes, LayerPath, Mtime, XattrRule};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::beneath;
use crate::error::{At, Error, Result};
use crate::store::Limits;
use crate::tarball::{Member, TarReader, TarSource};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
const OPAQUE: &str = "trusted.overlay.opaque";

/// What was made of a layer.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Bytes of file content.
    pub(crate) content_bytes: u64,
    /// Entries read.
    pub(crate) entries: u64,
    /// Whether the layer hides everything below it.
    pub(crate) opaque_root: bool,
    /// Directories without an entry of their own, parents first; the empty path is the root.
    pub(crate) implied: Vec<Vec<u8>>,
}

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a directory of the layer gets at the end; None for one that is only implied.
type Wanted = Option<(Attributes, Xattrs)>;

struct Unpacker<'a> {
    root: OwnedFd,
    path: &'a Path,
    limits: &'a Limits,
    /// The directory last used: most entries lie beside the one before.
    parent: Option<(Vec<u8>, OwnedFd)>,
    directories: BTreeMap<Vec<u8>, Wanted>,
    owner_is_root: bool,
    buffer: Vec<u8>,
    done: Unpacked,
}

/// Unpacks the archive into `path`, an empty directory.
pub(crate) fn unpack<R: TarSource>(tar: &mut TarReader<R>, path: &Path, limits: &Limits) -> Result<Unpacked> {
    let mut unpacker = Unpacker {
        root: beneath::open_root(path).at("open", path)?,
        path,
        limits,
        parent: None,
        directories: BTreeMap::from([(Vec::new(), None)]),
        owner_is_root: rustix::process::geteuid().is_root() && rustix::process::getegid().is_root(),
        buffer: vec![0; 256 << 10],
        done: Unpacked::default(),
    };
    while let Some(member) = tar.next_member()? {
        unpacker.one(tar, member)?;
    }
    unpacker.finish_directories()?;
    Ok(unpacker.done)
}

impl Unpacker<'_> {
    fn one<R: TarSource>(&mut self, tar: &mut TarReader<R>, mut member: Member) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries > self.limits.layer_entries_max {
            let what = "the number of entries of a layer".to_owned();
            return Err(Error::Limit { what, limit: self.limits.layer_entries_max, unit: "entries" });
        }
        let xattrs = std::mem::take(&mut member.xattrs);
        match entry::decide(&member.header())? {
            Action::Root(attributes) => {
                self.directories.insert(Vec::new(), Some((attributes, xattrs)));
                Ok(())
            }
            Action::Directory(path, attributes) => self.directory(&path, attributes, xattrs),
            Action::File(path, attributes) => self.file(tar, &path, &attributes, &xattrs),
            Action::Symlink(path, target, attributes) => self.symlink(&path, &target, &attributes),
            Action::HardLink { path, existing } => self.hard_link(&path, &existing),
            Action::Fifo(path, attributes) => self.fifo(&path, &attributes),
            Action::Whiteout(path) => self.whiteout(&path),
            Action::Opaque(path) => self.opaque(path.as_ref()),
            Action::Skip(why) => {
                tracing::debug!(entry = %String::from_utf8_lossy(&member.path), ?why, "entry passed over");
                Ok(())
            }
        }
    }

    fn directory(&mut self, path: &LayerPath, attributes: Attributes, xattrs: Xattrs) -> Result<()> {
        let hidden = self.make_directory(path)?;
        self.directories.insert(path.as_bytes().to_vec(), Some((attributes, xattrs)));
        if hidden { self.mark_opaque(path) } else { Ok(()) }
    }

    fn file<R: TarSource>(
        &mut self,
        tar: &mut TarReader<R>,
        path: &LayerPath,
        attributes: &Attributes,
        xattrs: &Xattrs,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.place(path, |parent, name| rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        let mut file = std::fs::File::from(fd);
        loop {
            let read = tar.read_data(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            file.write_all(&self.buffer[..read]).at("write", self.full(path.as_bytes()))?;
            self.done.content_bytes += read as u64;
        }
        self.attributes(&file, path.as_bytes(), attributes, xattrs)
    }

    fn symlink(&mut self, path: &LayerPath, target: &[u8], attributes: &Attributes) -> Result<()> {
        let (skip_owner, owner) = (self.is_own(attributes), ids(attributes));
        self.place(path, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)?;
            if !skip_owner {
                rustix::fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            rustix::fs::utimensat(parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    fn fifo(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<()> {
        self.place(path, |parent, name| {
            rustix::fs::mkfifoat(parent, name, Mode::empty())?;
            let (uid, gid) = ids(attributes);
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            // Just made, so it is no symlink; fchmodat(2) has no flag not to follow.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())?;
            rustix::fs::utimensat(parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    fn hard_link(&mut self, path: &LayerPath, existing: &LayerPath) -> Result<()> {
        let unusable = |why: &str| Error::Unusable {
            what: format!("hard link {path} to {existing} of the layer"),
            why: why.to_owned(),
        };
        let from = match beneath::open(&self.root, existing.parent_bytes(), DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Err(unusable("its target is not in the layer"));
            }
            Err(error) => return Err(error).at("open", self.full(existing.parent_bytes())),
        };
        let stat = match rustix::fs::statat(&from, existing.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(unusable("its target is not in the layer")),
            Err(error) => return Err(error).at("stat", self.full(existing.as_bytes())),
        };
        if is_whiteout(&stat) || file_type(&stat) == FileType::Directory {
            return Err(unusable("its target is no file"));
        }
        if path == existing {
            return Ok(());
        }
        self.place(path, |parent, name| rustix::fs::linkat(&from, existing.name(), parent, name, AtFlags::empty()))
    }

    /// Hides what lower layers have. What this very layer has stays visible: a file hides them anyway, a directory
    /// becomes opaque.
    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        let parent = self.parent(path)?;
        match rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(&stat) == FileType::Directory => self.mark_opaque(path),
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => {
                let parent = self.parent(path)?;
                rustix::fs::mknodat(parent, path.name(), FileType::CharacterDevice, Mode::empty(), 0)
                    .at("create a whiteout for", self.full(path.as_bytes()))
            }
            Err(error) => Err(error).at("stat", self.full(path.as_bytes())),
        }
    }

    fn opaque(&mut self, path: Option<&LayerPath>) -> Result<()> {
        let Some(path) = path else {
            self.done.opaque_root = true;
            return Ok(());
        };
        if !self.directories.contains_key(path.as_bytes()) {
            self.make_directory(path)?;
            self.directories.insert(path.as_bytes().to_vec(), None);
        }
        self.mark_opaque(path)
    }

    fn mark_opaque(&mut self, path: &LayerPath) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let full = self.full(path.as_bytes());
        let fd = rustix::fs::openat(self.parent(path)?, path.name(), flags, Mode::empty()).at("open", &full)?;
        rustix::fs::fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty()).at("mark as opaque", &full)
    }

    /// Makes a directory unless there is one. Says whether a whiteout of this layer was in its place: the new directory
    /// must then hide what is below it.
    fn make_directory(&mut self, path: &LayerPath) -> Result<bool> {
        let full = self.full(path.as_bytes());
        let parent = self.parent(path)?;
        let make = |parent: &OwnedFd| rustix::fs::mkdirat(parent, path.name(), Mode::RWXU);
        match make(parent) {
            Ok(()) => return Ok(false),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).at("create", full),
        }
        let stat = rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW).at("stat", &full)?;
        if file_type(&stat) == FileType::Directory {
            return Ok(false);
        }
        rustix::fs::unlinkat(parent, path.name(), AtFlags::empty()).at("replace", &full)?;
        self.forget(path);
        make(self.parent(path)?).at("create", full)?;
        Ok(is_whiteout(&stat))
    }

    /// Makes something that is no directory, in place of whatever the layer had there.
    fn place<T>(
        &mut self,
        path: &LayerPath,
        make: impl Fn(&OwnedFd, &[u8]) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        let full = self.full(path.as_bytes());
        match make(self.parent(path)?, path.name()) {
            Err(Errno::EXIST) => {}
            other => return other.at("create", full),
        }
        beneath::remove_all(self.parent(path)?, path.name()).at("replace", &full)?;
        self.forget(path);
        make(self.parent(path)?, path.name()).at("create", full)
    }

    /// Drops what is remembered of a directory that is no more.
    fn forget(&mut self, path: &LayerPath) {
        self.parent = None;
        let mut beneath = path.as_bytes().to_vec();
        self.directories.remove(&beneath);
        beneath.push(b'/');
        self.directories.retain(|known, _| !known.starts_with(&beneath));
    }

    /// The directory an entry goes into, made if the archive did not.
    fn parent(&mut self, path: &LayerPath) -> Result<&OwnedFd> {
        let wanted = path.parent_bytes();
        if self.parent.as_ref().is_none_or(|(known, _)| known != wanted) {
            let fd = self.open_or_make(path.parent().as_ref())?;
            self.parent = Some((wanted.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("it was just set");
        Ok(fd)
    }

    fn open_or_make(&mut self, path: Option<&LayerPath>) -> Result<OwnedFd> {
        let bytes = path.map_or(b"".as_slice(), LayerPath::as_bytes);
        let error = match beneath::open(&self.root, bytes, DIRECTORY) {
            Ok(fd) => return Ok(fd),
            Err(error) => error,
        };
        let (Some(path), Errno::NOENT | Errno::NOTDIR) = (path, error) else {
            return Err(error).at("open", self.full(bytes));
        };
        let parent = self.open_or_make(path.parent().as_ref())?;
        let full = self.full(bytes);
        let stat = rustix::fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW);
        let hidden = match stat {
            Err(Errno::NOENT) => false,
            Ok(stat) if is_whiteout(&stat) => {
                rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty()).at("replace", &full)?;
                true
            }
            // A file, or a symlink that leads nowhere: nothing can lie beneath it.
            Ok(_) => {
                let why = "an entry lies beneath it, and it is no directory".to_owned();
                return Err(Error::Unusable { what: format!("entry {path} of the layer"), why });
            }
            Err(error) => return Err(error).at("stat", full),
        };
        rustix::fs::mkdirat(&parent, path.name(), Mode::RWXU).at("create", &full)?;
        self.directories.insert(bytes.to_vec(), None);
        let fd = beneath::open(&self.root, bytes, DIRECTORY).at("open", &full)?;
        if hidden {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&parent, path.name(), flags, Mode::empty()).at("open", &full)?;
            rustix::fs::fsetxattr(opened, OPAQUE, b"y", XattrFlags::empty()).at("mark as opaque", &full)?;
        }
        Ok(fd)
    }

    /// Gives directories their attributes, children before parents, so that no time is touched afterwards.
    fn finish_directories(&mut self) -> Result<()> {
        for (path, wanted) in std::mem::take(&mut self.directories).into_iter().rev() {
            let Some(fd) = self.open_directory(&path)? else { continue };
            if let Some((attributes, xattrs)) = &wanted {
                self.attributes(&fd, &path, attributes, xattrs)?;
            } else {
                let plain = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Mtime::default() };
                self.attributes(&fd, &path, &plain, &Vec::new())?;
                self.done.implied.push(path);
            }
        }
        self.done.implied.reverse();
        Ok(())
    }

    /// Opens a directory of the layer; None when a symlink or a file took its place.
    fn open_directory(&mut self, path: &[u8]) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match LayerPath::parse(path).ok().flatten() {
            None => beneath::open(&self.root, b"", flags),
            Some(path) => rustix::fs::openat(self.parent(&path)?, path.name(), flags, Mode::empty()),
        };
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).at("open", self.full(path)),
        }
    }

    /// Owner before mode and extended attributes: chown(2) clears set-id bits and capabilities.
    fn attributes(&self, fd: impl AsFd, path: &[u8], attributes: &Attributes, xattrs: &Xattrs) -> Result<()> {
        let fd = fd.as_fd();
        if !self.is_own(attributes) {
            let (uid, gid) = ids(attributes);
            rustix::fs::fchown(fd, uid, gid).at("change the owner of", self.full(path))?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode)).at("change the mode of", self.full(path))?;
        for (name, value) in xattrs {
            let rule = entry::xattr_rule(name);
            if rule == XattrRule::Dropped {
                continue;
            }
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) if rule == XattrRule::Wanted => {}
                other => other.at("set an extended attribute of", self.full(path))?,
            }
        }
        rustix::fs::futimens(fd, &times(attributes.mtime)).at("change the time of", self.full(path))
    }

    /// New files belong to us already.
    fn is_own(&self, attributes: &Attributes) -> bool {
        self.owner_is_root && attributes.uid == 0 && attributes.gid == 0
    }

    fn full(&self, path: &[u8]) -> std::path::PathBuf {
        self.path.join(String::from_utf8_lossy(path).as_ref())
    }
}

pub(crate) fn times(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn ids(attributes: &Attributes) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (Some(rustix::fs::Uid::from_raw(attributes.uid)), Some(rustix::fs::Gid::from_raw(attributes.gid)))
}

pub(crate) fn file_type(stat: &rustix::fs::Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    #[derive(Debug, Clone)]
    struct Raw {
        kind: u8,
        path: String,
        link: String,
        mode: u32,
    }

    /// Paths and links made of a few names, so that entries meet each other, and of every way out.
    fn raw() -> impl Strategy<Value = Raw> {
        let part = prop::sample::select(vec!["a", "b", "c", "..", ".", "canary", ".wh.a", ".wh..wh..opq", "", "dev"]);
        // Mostly acceptable paths: an archive that is refused at once tries nothing.
        let clean = prop::sample::select(vec!["a", "b", "c", "a", "b", "c", "canary", ".wh.a", ".wh..wh..opq", "dev"]);
        let clean = prop::collection::vec(clean, 1..4).prop_map(|parts| parts.join("/"));
        let dirty = prop::collection::vec(part.clone(), 1..4).prop_map(|parts| parts.join("/"));
        let path = prop_oneof![50 => clean, 1 => dirty];
        let link = prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"));
        let link =
            prop_oneof![link, Just("/".to_owned()), Just("../canary".to_owned()), Just("/proc/self/cwd".to_owned())];
        let kind = prop::sample::select(b"0000122222556".to_vec());
        (kind, path, link, 0u32..0o10000).prop_map(|(kind, path, link, mode)| Raw { kind, path, link, mode })
    }

    fn archive(entries: &[Raw]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
            header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
            header.set_entry_type(tar::EntryType::new(entry.kind));
            header.set_mode(entry.mode);
            header.set_size(if entry.kind == b'0' { 1 } else { 0 });
            header.set_cksum();
            bytes.extend(header.as_bytes());
            if entry.kind == b'0' {
                bytes.extend([b'x'; 512]);
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn no_archive_changes_anything_outside_its_root(entries in prop::collection::vec(raw(), 1..24)) {
            if !pintle_testkit::require_root("unpacking layers") {
                return Ok(());
            }
            let dir = tempfile::tempdir().unwrap();
            let (root, canary) = (dir.path().join("root"), dir.path().join("canary"));
            fs::create_dir(&root).unwrap();
            fs::create_dir(&canary).unwrap();
            fs::write(canary.join("a"), "untouched").unwrap();
            let before = fs::metadata(&canary).unwrap();
            // Refusing the archive is as good as unpacking it; what matters is what is outside afterwards.
            let bytes = archive(&entries);
            let _ = unpack(&mut TarReader::new(bytes.as_slice()), &root, &Limits::default());
            let after = fs::metadata(&canary).unwrap();
            prop_assert_eq!(before.modified().unwrap(), after.modified().unwrap());
            prop_assert_eq!(before.permissions(), after.permissions());
            prop_assert_eq!(fs::read_to_string(canary.join("a")).unwrap(), "untouched");
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
            beneath::remove_tree(&root).unwrap();
            prop_assert!(canary.join("a").exists());
        }

        #[test]
        fn no_bytes_after_a_good_header_make_unpacking_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            let dir = tempfile::tempdir().unwrap();
            let _ = unpack(&mut TarReader::new(bytes.as_slice()), dir.path(), &Limits::default());
        }
    }
}
