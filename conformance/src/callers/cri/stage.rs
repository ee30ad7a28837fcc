//! A containerd whose CRI plugin has our shim as its only runtime, and the one image a pod is made of.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::super::{Scene, libraries};

/// Of the pause container too: it sleeps.
pub const IMAGE: &str = "pintle.test/busybox:1";

/// A containerd with a /run of its own.
pub struct Stage<'a> {
    scene: &'a Scene<'a>,
    containerd: Child,
}

fn config(work: &Path) -> String {
    let work = work.display();
    format!(
        r#"version = 2
root = "{work}/root"
state = "{work}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
address = "{work}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "pintle"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.pintle]
runtime_type = "io.containerd.pintle.v1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{work}/cni/bin"
conf_dir = "{work}/cni/conf"
"#
    )
}

impl<'a> Stage<'a> {
    /// Starts containerd; it may not yet answer.
    pub fn open(scene: &'a Scene<'a>) -> Result<Stage<'a>> {
        let bin = scene.work.join("bin");
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(scene.work.join("cni/conf"))?;
        std::os::unix::fs::symlink(scene.runtime, bin.join("containerd-shim-pintle-v1"))?;
        fs::write(scene.work.join("containerd.toml"), config(&scene.work))?;
        let log = File::create(scene.work.join("containerd.log"))?;
        // Shims have their sockets and states in /run.
        let script = "mount -t tmpfs tmpfs /run && exec containerd --config \"$B/containerd.toml\"";
        let mut command = program(scene, "unshare");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", script]);
        let containerd = command.stdout(Stdio::null()).stderr(log).spawn().context("start containerd")?;
        Ok(Stage { scene, containerd })
    }

    /// Its socket for clients.
    pub fn socket(&self) -> PathBuf {
        self.scene.work.join("containerd.sock")
    }

    /// A file of its /run.
    pub fn run(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run", self.containerd.id())).join(path)
    }

    /// Brings the image in from an archive.
    pub fn import(&self) -> Result<Output> {
        let archive = archive(&self.scene.work)?;
        let mut ctr = program(self.scene, "ctr");
        ctr.arg("--address").arg(self.socket()).args(["-n", "k8s.io", "images", "import"]).arg(archive);
        Ok(ctr.output()?)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // A life that ended early has left shims, and they containers: all are in this mount namespace, which is nobody else's.
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let ours = namespace(&self.containerd.id().to_string());
        let _may_be_gone = self.containerd.kill();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if let (Ok(number), true) = (pid.parse(), ours.is_some() && namespace(&pid) == ours) {
                let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), nix::sys::signal::SIGKILL);
            }
        }
        let _reaped = self.containerd.wait();
    }
}

fn program(scene: &Scene<'_>, name: &str) -> Command {
    let mut command = Command::new(name);
    let path = [scene.work.join("bin"), scene.peers.join("usr/bin"), scene.peers.join("usr/sbin")];
    let path = path.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    command.env("PATH", path + ":/usr/sbin:/usr/bin:/sbin:/bin").env("B", &scene.work);
    command.env("LD_LIBRARY_PATH", libraries(scene.peers)).stdin(Stdio::null());
    command
}

/// An archive as `docker save` writes it (github.com/moby/docker-image-spec): the rootfs is the one layer.
fn archive(work: &Path) -> Result<PathBuf> {
    let image = work.join("image");
    fs::create_dir_all(&image)?;
    tar(&work.join("rootfs"), &image.join("layer.tar"))?;
    let sum = run(Command::new("sha256sum").arg(image.join("layer.tar")))?;
    let digest = sum.split(' ').next().unwrap_or_default();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(image.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(image.join("manifest.json"), manifest.to_string())?;
    let archive = work.join("image.tar");
    tar(&image, &archive)?;
    Ok(archive)
}

fn tar(directory: &Path, archive: &Path) -> Result<()> {
    run(Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(archive).arg(".")).map(drop)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
