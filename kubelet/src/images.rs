//! The kubelet's view of the image store: find an image, make a container's root from it, take the root away.
//!
//! Owns: the narrow trait and its real implementation over `rootfs`. Does not own: images.

use std::path::{Path, PathBuf};

use pintle_kubelet_plan::oci::ImageSettings;
use pintle_rootfs::{Image, ImageId, MountOptions, Store};

/// What the kubelet says of an image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedImage {
    /// Digest of its configuration, `sha256:…`.
    pub(crate) id: String,
    /// As statuses name it: a name with a digest, else the id.
    pub(crate) reference: String,
    /// Bytes, for the event.
    pub(crate) size_bytes: u64,
    /// What its processes are like.
    pub(crate) settings: ImageSettings,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    Store(#[from] pintle_rootfs::Error),
    #[error("the image id {0} is malformed")]
    Id(String),
}

/// Names and bytes of an image.
pub(crate) type ImageLine = (Vec<String>, i64);

/// What the kubelet needs of an image store. All calls block.
pub(crate) trait Images: Send + Sync {
    /// The image of that full name, `None` if the store has none.
    fn resolve(&self, full_name: &str) -> Result<Option<ResolvedImage>, ImageError>;
    /// Mounts a fresh root for a container at `target`; `id` names its writable layer.
    fn mount(&self, image: &ResolvedImage, id: &str, target: &Path) -> Result<(), ImageError>;
    /// Unmounts a root and removes its writable layer; not there is fine.
    fn unmount(&self, id: &str, target: &Path) -> Result<(), ImageError>;
    /// Containers whose roots are below a directory: (container id, where).
    fn roots_below(&self, dir: &Path) -> Result<Vec<(String, PathBuf)>, ImageError>;
    /// All images.
    fn list(&self) -> Result<Vec<ImageLine>, ImageError>;
}

impl Images for Store {
    fn resolve(&self, full_name: &str) -> Result<Option<ResolvedImage>, ImageError> {
        Ok(Store::resolve(self, full_name)?.map(|image| describe(&image)))
    }

    fn mount(&self, image: &ResolvedImage, id: &str, target: &Path) -> Result<(), ImageError> {
        let image: ImageId = image.id.parse().map_err(|_| ImageError::Id(image.id.clone()))?;
        Ok(Store::mount(self, &image, id, target, &MountOptions::default())?)
    }

    fn unmount(&self, id: &str, target: &Path) -> Result<(), ImageError> {
        Ok(Store::unmount(self, id, target)?)
    }

    fn roots_below(&self, dir: &Path) -> Result<Vec<(String, PathBuf)>, ImageError> {
        let all = self.snapshots()?.into_iter().filter(|s| s.at.starts_with(dir));
        Ok(all.map(|s| (s.container_id, s.at)).collect())
    }

    fn list(&self) -> Result<Vec<ImageLine>, ImageError> {
        let line = |image: Image| {
            let names = image.repo_digests.into_iter().chain(image.repo_tags).collect();
            (names, i64::try_from(image.size_bytes).unwrap_or(i64::MAX))
        };
        Ok(Store::list(self)?.into_iter().map(line).collect())
    }
}

fn describe(image: &Image) -> ResolvedImage {
    let process = image.config.config().clone().unwrap_or_default();
    let settings = ImageSettings {
        entrypoint: process.entrypoint().clone().unwrap_or_default(),
        cmd: process.cmd().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        working_dir: process.working_dir().clone().unwrap_or_default(),
        user: process.user().clone().unwrap_or_default(),
        stop_signal: process.stop_signal().clone().unwrap_or_default(),
    };
    let id = image.id.to_string();
    let reference = image.repo_digests.first().cloned().unwrap_or_else(|| id.clone());
    ResolvedImage { id, reference, size_bytes: image.size_bytes, settings }
}

/// Where a container's root is mounted.
pub(crate) fn root_of(bundle: &Path) -> PathBuf {
    bundle.join("rootfs")
}
