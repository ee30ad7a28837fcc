//! Debian's runc, crun, Podman, Docker and containerd, beside the system instead of in it: what conformance and benchmarks
//! compare with.
//!
//! `apt-get` downloads the packages and the libraries this machine lacks; `dpkg -x` unpacks them under `.cache/peers`.
//! No maintainer script runs and nothing outside `.cache` changes.

use crate::run;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

const PACKAGES: &[&str] = &[
    "runc",
    "crun",
    "podman",
    "containerd",
    // Docker loads a profile where the kernel has AppArmor.
    "apparmor",
    "docker.io",
    "conmon",
    "iptables",
    "golang-github-containers-common",
    "strace",
];

/// Downloads and unpacks, unless that has been done.
pub fn install(repository: &Path) -> Result<()> {
    let target = repository.join(".cache/peers");
    let done = target.join(".complete");
    if fs::read_to_string(&done).is_ok_and(|packages| packages == PACKAGES.join(" ")) {
        return Ok(());
    }
    let archives = repository.join(".cache/peers-archives");
    fs::create_dir_all(archives.join("partial"))?;
    let cache = format!("Dir::Cache::archives={}", archives.display());
    // A machine that never asked for them may have no lists of packages, or stale ones.
    run(Command::new("apt-get").args(["update", "-q"]))?;
    run(Command::new("apt-get")
        .args(["install", "-yq", "--no-install-recommends", "--download-only", "-o", &cache])
        .args(PACKAGES))?;
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(&target))?;
        }
    }
    fs::write(&done, PACKAGES.join(" ")).with_context(|| format!("write {}", done.display()))?;
    fs::remove_dir_all(&archives).context("remove the downloaded packages")
}
