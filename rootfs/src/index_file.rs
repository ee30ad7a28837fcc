//! The file `index.json`: read when it has changed, replaced whole by write, fsync, rename, fsync.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use pintle_rootfs_plan::index::{Index, VERSION};

use crate::dirs::{Dirs, Lock, sync_dir};
use crate::error::{At, Error, Result};

/// What tells one version of the file from another: every version is a new inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    bytes: u64,
}

/// The last version read.
#[derive(Debug, Default)]
pub(crate) struct IndexFile {
    cached: Mutex<Option<(Stamp, Arc<Index>)>>,
}

impl IndexFile {
    /// Reads the index, from memory when the file is the one last read. A missing file is an error: a store that
    /// cannot be read must never look empty.
    pub(crate) fn read(&self, dirs: &Dirs) -> Result<Arc<Index>> {
        let path = dirs.index();
        let stamp = stamp(&fs::metadata(&path).at("read", &path)?);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, index)) = cached.as_ref().filter(|(known, _)| *known == stamp) {
            return Ok(Arc::clone(index));
        }
        let file = File::open(&path).at("open", &path)?;
        let stamp = self::stamp(&file.metadata().at("read", &path)?);
        let text = std::io::read_to_string(file).at("read", &path)?;
        let index: Index =
            serde_json::from_str(&text).map_err(|source| Error::Json { what: path.display().to_string(), source })?;
        if index.version != VERSION {
            return Err(Error::Store { path: dirs.root().to_owned(), why: "its index is of another version" });
        }
        let index = Arc::new(index);
        *cached = Some((stamp, Arc::clone(&index)));
        Ok(index)
    }

    /// Replaces the index. The lock shows that nobody else is about to.
    pub(crate) fn write(&self, dirs: &Dirs, index: &Index, _lock: &Lock) -> Result<()> {
        let (path, new) = (dirs.index(), dirs.root().join("index.json.new"));
        let text =
            serde_json::to_vec(index).map_err(|source| Error::Json { what: path.display().to_string(), source })?;
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.at("write", &new)?;
        fs::rename(&new, &path).at("replace", &path)?;
        sync_dir(dirs.root())
    }

    /// Writes an empty index into a new store. A store that has blobs and no index has lost it.
    pub(crate) fn create(&self, dirs: &Dirs, lock: &Lock) -> Result<()> {
        if dirs.index().exists() {
            return Ok(());
        }
        let blobs = dirs.blobs();
        if fs::read_dir(&blobs).at("list", &blobs)?.next().is_some() {
            return Err(Error::Store { path: dirs.root().to_owned(), why: "its index.json is gone" });
        }
        self.write(dirs, &Index::default(), lock)
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        seconds: metadata.mtime(),
        nanoseconds: metadata.mtime_nsec(),
        bytes: metadata.len(),
    }
}
