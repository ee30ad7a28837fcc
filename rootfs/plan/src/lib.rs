//! pintle-rootfs-plan.
