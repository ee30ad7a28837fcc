//! The thinking half of the image store: references, manifests, layers, tar entries, overlay options and garbage
//! collection, decided as plain data.
//!
//! Nothing here opens a file, reads a clock or talks to a kernel. The crate `pintle-rootfs` observes, applies what is
//! decided here, and reports.

pub mod build;
pub mod digest;
pub mod docker;
pub mod entry;
pub mod gc;
pub mod index;
pub mod names;
pub mod overlay;
pub mod path;
pub mod pax;
pub mod platform;
pub mod reference;
pub mod users;
