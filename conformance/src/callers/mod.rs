//! Life cycles through real callers: Debian's Podman (root's, and an ordinary user's), Docker, and containerd, by `ctr` with its
//! own shim for runc and by CRI with ours.

mod cri;
mod script;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::runner::{Runtime, make_bundle};
use script::Who;

/// A caller and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// As the report calls it.
    pub name: &'static str,
    /// The directory it has to itself.
    dir: &'static str,
    /// What it is started with for its version.
    version: [&'static str; 2],
    life: fn(&Scene<'_>) -> Result<Vec<Step>>,
}

/// All of them.
pub const CALLERS: &[Caller] = &[
    Caller {
        name: "Podman",
        dir: "podman",
        version: ["podman", "--version"],
        life: |scene| script::run(scene, include_str!("../../callers/podman.sh"), Who::Root),
    },
    Caller {
        name: "Podman, rootless",
        dir: "podman-rootless",
        version: ["podman", "--version"],
        life: |scene| script::run(scene, include_str!("../../callers/podman.sh"), Who::User),
    },
    Caller {
        name: "Docker",
        dir: "docker",
        version: ["docker", "--version"],
        life: |scene| script::run(scene, include_str!("../../callers/docker.sh"), Who::Root),
    },
    Caller {
        name: "containerd (`ctr`, its shim for runc)",
        dir: "ctr",
        version: ["containerd", "--version"],
        life: |scene| script::run(scene, include_str!("../../callers/ctr.sh"), Who::Root),
    },
    Caller { name: "containerd, CRI (our shim)", dir: "cri", version: ["containerd", "--version"], life: cri::run },
];

/// What a life needs.
struct Scene<'a> {
    /// A directory with a rootfs.
    work: PathBuf,
    /// Debian's packages, unpacked.
    peers: &'a Path,
    /// The runtime under test.
    runtime: &'a Path,
}

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The sentence.
    pub what: String,
    /// What was seen instead, if it does not hold.
    pub seen: Option<String>,
}

impl Caller {
    /// Takes a container through its life with `runtime`. Needs a mount and a network namespace of its own.
    ///
    /// # Errors
    /// When it cannot even begin.
    pub fn run(&self, work: &Path, peers: &Path, runtime: &Runtime) -> Result<Vec<Step>> {
        let work = work.join(self.dir);
        make_bundle(&work)?;
        (self.life)(&Scene { work, peers, runtime: &runtime.program })
    }

    /// Its first line of `--version`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn version(&self, peers: &Path) -> Result<String> {
        let [program, flag] = self.version;
        let path = peers.join("usr/bin").join(program);
        let mut command = Command::new(&path);
        command.arg(flag).env("LD_LIBRARY_PATH", libraries(peers));
        let output = command.output().with_context(|| format!("run {}", path.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }
}

fn libraries(peers: &Path) -> PathBuf {
    peers.join("usr/lib/x86_64-linux-gnu")
}
