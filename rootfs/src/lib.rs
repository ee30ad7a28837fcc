//! Images on disk and roots for containers: a content-addressed store, imports with every digest verified, layers
//! unpacked once and shared by overlayfs, exports, builds.
//!
//! Every decision is taken by `pintle-rootfs-plan`; here files are read and written and the kernel is called. All calls
//! block. Registries are not spoken to here, and nothing here knows what a pod is.
//!
//! ```text
//! <store>/
//!   index.json                    which images there are; replaced by rename, never changed in place
//!   lock                          flock: held for the moment of a commit, never while bytes are copied
//!   blobs/sha256/<hex>            manifests, configurations, layers as they were imported
//!   layers/<chain id>/fs          an unpacked layer; layers/<chain id>/meta.json its sizes
//!   snapshots/<container id>/     upper, work, empty; `image` and `at` are symlinks that say what is mounted where
//!   used/<image id>               its time is when the image was last mounted or unmounted
//!   tmp/<name>                    work under way; the owner holds an flock on it, what nobody holds is swept
//! ```

mod beneath;
mod build;
mod candidates;
pub mod cli;
mod contents;
mod decompress;
mod dirs;
mod error;
mod export;
mod gc;
mod implied;
mod import;
mod index_file;
mod layer_stream;
mod mount;
mod store;
mod tarball;
mod temp;
mod unpack;
pub mod users;

pub use build::{BuildOptions, read_spec};
pub use contents::Source;
pub use error::{Error, Result};
pub use export::ExportFormat;
pub use gc::Usage;
pub use import::ImportOptions;
pub use mount::{MountOptions, Snapshot, Written};
pub use pintle_rootfs_plan::build::BuildSpec;
pub use pintle_rootfs_plan::digest::{ChainId, Digest, ImageId};
pub use pintle_rootfs_plan::gc::{Nameless, Plan as GcPlan, Policy as GcPolicy};
pub use pintle_rootfs_plan::overlay::Access;
pub use pintle_rootfs_plan::reference::{Reference, ReferenceError};
pub use pintle_rootfs_plan::users::Identity;
pub use store::{Image, Layer, Limits, Removed, Store};
