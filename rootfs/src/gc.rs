//! Throwing away: observing what is on disk, carrying out a collection plan, adding up what is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pintle_rootfs_plan::digest::{ChainId, Digest, ImageId};
use pintle_rootfs_plan::gc::{self, Observed, Plan, Policy};
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::store::Store;
use crate::temp::Temp;

/// What the store takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images.
    pub images: u64,
    /// Blobs, in bytes of content.
    pub blobs_bytes: u64,
    /// Unpacked layers, in bytes of content.
    pub layers_bytes: u64,
    /// Files and directories of unpacked layers.
    pub layers_entries: u64,
    /// Bytes of the file system the store lies on.
    pub fs_bytes: u64,
    /// Bytes of it that are free for root.
    pub fs_free_bytes: u64,
    /// Inodes of it.
    pub fs_inodes: u64,
    /// Inodes of it that are free.
    pub fs_free_inodes: u64,
}

/// What is known of an unpacked layer: `meta.json` beside its `fs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    /// Digest of the uncompressed archive.
    pub(crate) diff: Digest,
    /// Its size.
    pub(crate) tar_bytes: u64,
    /// Bytes of file content.
    pub(crate) content_bytes: u64,
    /// Entries made.
    pub(crate) entries: u64,
    /// Whether the layer hides everything below it.
    pub(crate) opaque_root: bool,
}

impl Store {
    /// Removes images as the policy allows, and everything no image needs. Returns what was removed.
    pub fn gc(&self, policy: &Policy) -> Result<Plan> {
        let lock = self.dirs.lock()?;
        let mut index = (*self.index.read(&self.dirs)?).clone();
        let plan = gc::plan(&index, &self.observe()?, policy, now_ms());
        for id in &plan.images {
            index.remove_image(*id);
        }
        if !plan.images.is_empty() {
            self.index.write(&self.dirs, &index, &lock)?;
        }
        // Renaming is quick and happens under the lock; deleting is slow and happens when the temp is dropped after it.
        let temp = Temp::create(&self.dirs, &lock)?;
        for path in self.doomed(&plan) {
            let name = path.file_name().unwrap_or_default();
            fs::rename(&path, temp.path().join(name)).at("remove", &path)?;
        }
        for id in &plan.images {
            remove_file_if_there(&self.dirs.used_by(id))?;
        }
        drop(lock);
        drop(temp);
        Ok(plan)
    }

    /// Removes what no image needs.
    pub(crate) fn collect_rubbish(&self) -> Result<()> {
        self.gc(&Policy::default()).map(drop)
    }

    /// Adds up what the store takes up, without walking unpacked layers.
    pub fn usage(&self) -> Result<Usage> {
        let images = self.index.read(&self.dirs)?.images.len() as u64;
        let mut usage = Usage { images, ..Usage::default() };
        usage.blobs_bytes = self.blobs_on_disk()?.values().sum();
        for chain in self.layers_on_disk()? {
            let meta = self.layer_meta(&chain)?;
            usage.layers_bytes += meta.content_bytes;
            usage.layers_entries += meta.entries;
        }
        let fs = rustix::fs::statvfs(self.dirs.root()).at("stat", self.dirs.root())?;
        usage.fs_bytes = fs.f_blocks * fs.f_frsize;
        usage.fs_free_bytes = fs.f_bavail * fs.f_frsize;
        (usage.fs_inodes, usage.fs_free_inodes) = (fs.f_files, fs.f_favail);
        Ok(usage)
    }

    fn doomed(&self, plan: &Plan) -> Vec<PathBuf> {
        let blobs = plan.blobs.iter().map(|digest| self.dirs.blob(digest));
        let layers = plan.layers.iter().map(|chain| self.dirs.layer(chain));
        blobs.chain(layers).collect()
    }

    fn observe(&self) -> Result<Observed> {
        let mut observed = Observed { blobs: self.blobs_on_disk()?, ..Observed::default() };
        for chain in self.layers_on_disk()? {
            // A layer whose sizes cannot be read still has to be known, or it would never go.
            let bytes = self.layer_meta(&chain).map_or(0, |meta| meta.content_bytes);
            observed.layers.insert(chain, bytes);
        }
        let mounted: BTreeSet<ImageId> = self.snapshots()?.into_iter().map(|snapshot| snapshot.image).collect();
        observed.mounted = mounted;
        for (path, name) in list(&self.dirs.used())? {
            if let Ok(digest) = Digest::from_hex(&name) {
                let used = fs::metadata(&path).and_then(|metadata| metadata.modified()).at("stat", &path)?;
                observed.last_used_ms.insert(ImageId(digest), since_1970_ms(used));
            }
        }
        Ok(observed)
    }

    fn blobs_on_disk(&self) -> Result<BTreeMap<Digest, u64>> {
        let mut blobs = BTreeMap::new();
        for (path, name) in list(&self.dirs.blobs())? {
            if let Ok(digest) = Digest::from_hex(&name) {
                blobs.insert(digest, fs::metadata(&path).at("stat", &path)?.size());
            }
        }
        Ok(blobs)
    }

    fn layers_on_disk(&self) -> Result<Vec<ChainId>> {
        let names = list(&self.dirs.layers())?;
        Ok(names.iter().filter_map(|(_, name)| Digest::from_hex(name).ok()).map(ChainId).collect())
    }

    pub(crate) fn layer_meta(&self, chain: &ChainId) -> Result<LayerMeta> {
        let path = self.dirs.layer(chain).join("meta.json");
        let text = fs::read(&path).at("read", &path)?;
        serde_json::from_slice(&text).map_err(|source| Error::Json { what: path.display().to_string(), source })
    }
}

fn list(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(found)
}

pub(crate) fn remove_file_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Milliseconds since 1970; 0 for a clock before it.
pub(crate) fn now_ms() -> u64 {
    since_1970_ms(SystemTime::now())
}

fn since_1970_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
