//! What can go wrong with images, in one sentence each, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use pintle_rootfs_plan::build::BuildError;
use pintle_rootfs_plan::digest::{Digest, DigestError, ImageId};
use pintle_rootfs_plan::entry::Refusal;
use pintle_rootfs_plan::index::Ambiguous;
use pintle_rootfs_plan::overlay::OverlayError;
use pintle_rootfs_plan::pax::PaxError;
use pintle_rootfs_plan::platform::NoFit;
use pintle_rootfs_plan::reference::ReferenceError;
use pintle_rootfs_plan::users::UserError;

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. Its text says what failed on what; `source()` says why; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// e.g. `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The reference is not one: Kubernetes' InvalidImageName.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A digest in an image is not one.
    #[error("cannot use {what}")]
    BadDigest {
        /// Where it stands.
        what: String,
        /// Why.
        source: DigestError,
    },
    /// No image has this name or id.
    #[error("image {0} is not in the store")]
    NotFound(String),
    /// An id's prefix fits several images.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// Containers have the image's root mounted.
    #[error("image {image} is used by {}", containers.join(", "))]
    InUse {
        /// The image.
        image: ImageId,
        /// Container ids.
        containers: Vec<String>,
    },
    /// Bytes are not what their name says.
    #[error("{what} is damaged: expected {expected}, found {found}")]
    Mismatch {
        /// e.g. `layer blob`.
        what: String,
        /// The name.
        expected: Digest,
        /// The content.
        found: Digest,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("{what} has {found} bytes, its descriptor says {expected}")]
    Size {
        /// e.g. `layer blob sha256:…`.
        what: String,
        /// By the descriptor.
        expected: u64,
        /// By the file.
        found: u64,
    },
    /// An archive refers to something it does not hold.
    #[error("{archive} has no {what}")]
    Missing {
        /// The archive.
        archive: String,
        /// A path in it.
        what: String,
    },
    /// The source is no image archive.
    #[error("{0} is neither an OCI image layout nor a Docker archive")]
    NotAnImage(String),
    /// A JSON document breaks its format.
    #[error("cannot read {what}")]
    Json {
        /// The document.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A document is well-formed and still unusable.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// The document.
        what: String,
        /// Why.
        why: String,
    },
    /// No image for this machine.
    #[error(transparent)]
    NoFit(#[from] NoFit),
    /// An archive entry is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A tar archive breaks its format.
    #[error("the archive is damaged at byte {offset}: {why}")]
    Tar {
        /// Bytes into the uncompressed archive.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A tar entry's extended header breaks its format.
    #[error("the archive has a broken extended header")]
    Pax(#[from] PaxError),
    /// A layer's compression breaks its format.
    #[error("cannot decompress {what}")]
    Decompress {
        /// The layer.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A limit against bombs is reached.
    #[error("{what} exceeds the limit of {limit} {unit}")]
    Limit {
        /// What is too big.
        what: String,
        /// The limit.
        limit: u64,
        /// e.g. `bytes`.
        unit: &'static str,
    },
    /// A container id that could be a path.
    #[error("container id {0:?} is not letters, digits, '_', '.' or '-'")]
    ContainerId(String),
    /// The container has a root already.
    #[error("container {0} already has a root")]
    Mounted(String),
    /// Every way of mounting failed.
    #[error("cannot mount the root of container {container} at {}", at.display())]
    Mount {
        /// The container.
        container: String,
        /// Where.
        at: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The layers cannot be stacked.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The image's `USER` does not resolve.
    #[error(transparent)]
    User(#[from] UserError),
    /// A build's specification contradicts itself.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A build's file is not readable as one.
    #[error("cannot read {path:?} as a build file: {why}")]
    BuildFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The index belongs to a newer program, or is lost.
    #[error("the image store {} is not usable: {why}", path.display())]
    Store {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A worker thread panicked, which is a bug in this program.
    #[error("a worker thread died while {0}")]
    Worker(&'static str),
}

impl Error {
    /// What the reader can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(name) => Some(format!(
                "bring it with `pintle image import ARCHIVE --name {name}` (docker save or an OCI layout), or build it \
                 with `pintle image build`"
            )),
            Self::InUse { .. } => Some("stop the containers first".to_owned()),
            Self::Mismatch { .. } | Self::Size { .. } | Self::Tar { .. } | Self::Decompress { .. } => {
                Some("copy or export the image again; nothing of it was kept".to_owned())
            }
            Self::NotAnImage(_) => Some(
                "accepted are a directory or tar with oci-layout and index.json, or a tar with manifest.json as \
                 `docker save` writes it, plain or compressed with gzip or zstd"
                    .to_owned(),
            ),
            Self::Mounted(id) => Some(format!("unmount it first; `Store::snapshots` lists where {id} is mounted")),
            Self::Io { source, .. } | Self::Mount { source, .. } => io_hint(source),
            Self::User(_) => Some("give runAsUser as a number, or an image with that entry".to_owned()),
            Self::Store { .. } => Some("move the directory away and import the images again".to_owned()),
            _ => None,
        }
    }
}

fn io_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "free some space, e.g. with `pintle image prune`; nothing half-made was kept",
        io::ErrorKind::PermissionDenied => "the image store belongs to root",
        io::ErrorKind::InvalidInput => {
            "overlayfs may lack here, or the store lies on a file system that cannot hold an overlay's upper directory \
             (another overlay, NFS); put --state-dir on ext4, xfs, btrfs or tmpfs"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Says on what an operating-system error happened.
pub(crate) trait At<T> {
    /// `action` is a verb that reads well after "cannot".
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::Io { action, path: path.as_ref().to_owned(), source: error.into() })
    }
}
