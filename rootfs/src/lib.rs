//! pintle-rootfs.
