//! Kernel switches below /proc/sys/net. They belong to the network namespace of the thread that opens the file.

use std::path::PathBuf;

use crate::NetError;

/// Sets a switch, named with dots or slashes (`net.ipv4.ip_forward`), unless it has the value already.
///
/// # Errors
/// When the file cannot be read or written, with its path.
pub fn set(name: &str, value: &str) -> Result<(), NetError> {
    let path = path(name);
    let now = std::fs::read_to_string(&path).map_err(|e| NetError::file("read", &path, e))?;
    if now.split_whitespace().eq(value.split_whitespace()) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|e| NetError::file("write", &path, e))
}

/// Lets this namespace forward packets between pods, nodes and the world.
///
/// # Errors
/// See [`set`].
pub fn enable_forwarding() -> Result<(), NetError> {
    set("net.ipv4.ip_forward", "1")
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}
