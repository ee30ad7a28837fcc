//! The store itself: opening it, finding images, forgetting them.
//!
//! Importing, mounting, collecting garbage and building are other files with their own `impl Store`.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use pintle_rootfs_plan::digest::{ChainId, Digest, ImageId};
use pintle_rootfs_plan::index::{self, ImageRecord, Index};
use pintle_rootfs_plan::reference::Reference;

use crate::dirs::Dirs;
use crate::error::{At, Error, Result};
use crate::index_file::IndexFile;
use crate::temp;

/// Limits against archives made to hurt. The defaults are far above any image met in practice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A manifest, index or configuration.
    pub document_bytes_max: u64,
    /// A layer, uncompressed.
    pub layer_bytes_max: u64,
    /// Entries of a layer.
    pub layer_entries_max: u64,
    /// Layers of an image.
    pub layers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { document_bytes_max: 8 << 20, layer_bytes_max: 128 << 30, layer_entries_max: 10_000_000, layers_max: 256 }
    }
}

/// A store on disk. Several threads and several processes may use one at once.
#[derive(Debug)]
pub struct Store {
    pub(crate) dirs: Dirs,
    pub(crate) index: IndexFile,
    pub(crate) limits: Limits,
}

/// An image, as the kubelet and the command line see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of its configuration.
    pub id: ImageId,
    /// Names with a tag, normalised: `docker.io/library/busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Names with a manifest's digest.
    pub repo_digests: Vec<String>,
    /// Bytes of manifest, configuration and layers as they were imported.
    pub size_bytes: u64,
    /// When it was first imported, milliseconds since 1970.
    pub imported_at_ms: u64,
    /// The whole configuration.
    pub config: Arc<ImageConfiguration>,
    /// Layers, bottom first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Identity of the unpacked directory.
    pub chain_id: ChainId,
    /// Bytes of the blob.
    pub size_bytes: u64,
}

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This name is gone, the image has others.
    Untagged(String),
    /// The image is gone.
    Image(ImageId),
}

impl Store {
    /// Opens the store in `dir`, making it if there is none, and sweeps what dead processes left half-made.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, Limits::default())
    }

    /// As [`Store::open`], with other limits.
    pub fn open_with(dir: &Path, limits: Limits) -> Result<Self> {
        fs::create_dir_all(dir).at("create", dir)?;
        let root = dir.canonicalize().at("resolve", dir)?;
        if root.to_str().is_none() {
            // Overlay options and mount tables are text.
            return Err(Error::Store { path: root, why: "its path is not UTF-8" });
        }
        let store = Self { dirs: Dirs::new(root), index: IndexFile::default(), limits };
        let lock = store.dirs.lock()?;
        store.dirs.create()?;
        store.index.create(&store.dirs, &lock)?;
        temp::sweep(&store.dirs, &lock)?;
        Ok(store)
    }

    /// Finds an image by a reference (normalised as Kubernetes does) or by its id, `sha256:<hex>` or 64 digits.
    /// `Ok(None)` means it is not here; [`Error::Reference`] means that no image can have this name.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>> {
        let index = self.index.read(&self.dirs)?;
        let record = match parse_id(reference) {
            Some(id) => index.by_id(id),
            None => index.by_reference(&reference.parse::<Reference>()?.or_latest()),
        };
        record.map(|record| self.image(record)).transpose()
    }

    /// Finds an image as a person writes it: a reference, an id, or the first digits of an id.
    pub fn find(&self, word: &str) -> Result<Image> {
        let index = self.index.read(&self.dirs)?;
        let record = find_record(&index, word)?;
        self.image(record)
    }

    /// Every image, in order of arrival.
    pub fn list(&self) -> Result<Vec<Image>> {
        let index = self.index.read(&self.dirs)?;
        index.images.iter().map(|record| self.image(record)).collect()
    }

    /// Removes a name; the last name, or the id, takes the image and everything only it needs. An image of which a
    /// container has its root mounted is [`Error::InUse`].
    pub fn remove(&self, word: &str) -> Result<Removed> {
        let lock = self.dirs.lock()?;
        let mut index = (*self.index.read(&self.dirs)?).clone();
        let record = find_record(&index, word)?.clone();
        let by_name = word.parse::<Reference>().ok().map(Reference::or_latest);
        let tag = by_name.filter(|name| record.tags.contains(name) && record.tags.len() > 1);
        let removed = match tag {
            Some(tag) => index.remove_tag(&tag),
            None => {
                self.refuse_if_mounted(record.id)?;
                index.remove_image(record.id)
            }
        };
        self.index.write(&self.dirs, &index, &lock)?;
        drop(lock);
        match removed {
            Some(index::Removed::Untagged(tag)) => Ok(Removed::Untagged(tag.to_string())),
            Some(index::Removed::Image(image)) => {
                self.collect_rubbish()?;
                Ok(Removed::Image(image.id))
            }
            None => Err(Error::NotFound(word.to_owned())),
        }
    }

    /// Gives an image another name; the name leaves whatever image had it.
    pub fn tag(&self, word: &str, name: &str) -> Result<()> {
        let name = name.parse::<Reference>()?.or_latest();
        let lock = self.dirs.lock()?;
        let mut index = (*self.index.read(&self.dirs)?).clone();
        let mut record = find_record(&index, word)?.clone();
        record.digests.insert(name.pinned(record.manifest));
        record.tags.insert(name);
        index.insert(record);
        self.index.write(&self.dirs, &index, &lock)
    }

    fn refuse_if_mounted(&self, image: ImageId) -> Result<()> {
        let containers: Vec<String> = self
            .snapshots()?
            .into_iter()
            .filter(|snapshot| snapshot.image == image)
            .map(|snapshot| snapshot.container_id)
            .collect();
        if containers.is_empty() { Ok(()) } else { Err(Error::InUse { image, containers }) }
    }

    pub(crate) fn image(&self, record: &ImageRecord) -> Result<Image> {
        let config = self.configuration(record.id)?;
        Ok(Image {
            id: record.id,
            repo_tags: record.tags.iter().map(ToString::to_string).collect(),
            repo_digests: record.digests.iter().map(ToString::to_string).collect(),
            size_bytes: record.size_bytes,
            imported_at_ms: record.imported_at_ms,
            config: Arc::new(config),
            layers: record
                .layers
                .iter()
                .map(|layer| Layer {
                    digest: layer.blob,
                    diff_id: layer.diff,
                    chain_id: layer.chain,
                    size_bytes: layer.blob_bytes,
                })
                .collect(),
        })
    }

    fn configuration(&self, image: ImageId) -> Result<ImageConfiguration> {
        let bytes = self.document(&image.0, "image configuration")?;
        let what = || format!("configuration of image {image}");
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { what: what(), source })
    }

    /// Reads a small blob and verifies it: a disk can change what was verified once.
    pub(crate) fn document(&self, digest: &Digest, what: &str) -> Result<Vec<u8>> {
        let path = self.dirs.blob(digest);
        let mut bytes = Vec::new();
        let file = File::open(&path).at("open", &path)?;
        file.take(self.limits.document_bytes_max).read_to_end(&mut bytes).at("read", &path)?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(Error::Mismatch { what: what.to_owned(), expected: *digest, found })
        }
    }
}

/// An id in full: with or without its algorithm.
fn parse_id(word: &str) -> Option<ImageId> {
    word.parse().ok().or_else(|| Digest::from_hex(word).ok().map(ImageId))
}

pub(crate) fn find_record<'a>(index: &'a Index, word: &str) -> Result<&'a ImageRecord> {
    let not_found = || Error::NotFound(word.to_owned());
    if let Some(id) = parse_id(word) {
        return index.by_id(id).ok_or_else(not_found);
    }
    let reference = word.parse::<Reference>();
    if let Some(record) = reference.as_ref().ok().and_then(|name| index.by_reference(&name.clone().or_latest())) {
        return Ok(record);
    }
    let prefix = word.strip_prefix("sha256:").unwrap_or(word);
    if prefix.len() >= 4 && prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return index.by_prefix(prefix)?.ok_or_else(not_found);
    }
    reference?;
    Err(not_found())
}
