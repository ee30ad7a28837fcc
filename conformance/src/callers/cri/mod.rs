//! A pod's life through the container runtime interface, as a kubelet leads it: containerd's CRI plugin over our shim.
//!
//! The sandbox uses the node's network: containerd itself would need CNI plugins for another.

mod client;
mod stage;
mod words;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use self::client::Cri;
use self::stage::{IMAGE, Stage};
use self::words as w;
use super::{Scene, Step};
use crate::runner::{hierarchies, remove_cgroup};

/// Far more than anything takes, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(120);

/// The steps so far, and what they need of each other.
struct Life<'a> {
    scene: &'a Scene<'a>,
    stage: &'a Stage<'a>,
    cri: Cri,
    cgroup: String,
    sandbox: String,
    container: String,
    steps: Vec<Step>,
}

/// Leads a pod through its life.
pub fn run(scene: &Scene<'_>) -> Result<Vec<Step>> {
    let stage = Stage::open(scene)?;
    let cri = until(|| Cri::connect(&stage.socket())).with_context(|| log(scene))?;
    let cgroup = format!("/pintle-cri-{}", std::process::id());
    let (sandbox, container) = (String::new(), String::new());
    let mut life = Life { scene, stage: &stage, cri, cgroup, sandbox, container, steps: Vec::new() };
    for (what, act) in STEPS {
        let seen = act(&mut life).err().map(|error| format!("{error:#}"));
        life.steps.push(Step { what: (*what).to_owned(), seen });
    }
    let Life { steps, cgroup, .. } = life;
    if steps.iter().any(|step| step.seen.is_some()) {
        eprintln!("{}", log(scene));
    }
    drop(stage);
    hierarchies().iter().for_each(|dir| remove_cgroup(&dir.join(cgroup.trim_start_matches('/'))));
    Ok(steps)
}

fn log(scene: &Scene<'_>) -> String {
    std::fs::read_to_string(scene.work.join("containerd.log")).unwrap_or_default()
}

/// Tries until it is done.
fn until<T>(mut act: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match act() {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
}

type Act = fn(&mut Life<'_>) -> Result<()>;

const STEPS: &[(&str, Act)] = &[
    ("Version", |life| {
        let version: w::Version = until(|| life.cri.call("RuntimeService/Version", &w::Nothing {}))?;
        ensure!(version.runtime_name == "containerd", "{version:?}");
        Ok(())
    }),
    ("an image imported from an archive has an ImageStatus", |life| life.import()),
    ("RunPodSandbox", |life| life.run_sandbox()),
    ("PodSandboxStatus: ready", |life| life.sandbox_is(w::SANDBOX_READY)),
    ("CreateContainer", |life| {
        life.container =
            life.create("c", "trap 'exit 4' TERM; echo from the log; while :; do sleep 0.1; done", 64 << 20)?;
        Ok(())
    }),
    ("StartContainer", |life| life.start(&life.container.clone())),
    ("ContainerStatus: running", |life| {
        let status = life.status(&life.container.clone())?;
        ensure!(status.state == w::RUNNING, "{status:?}");
        Ok(())
    }),
    ("our shim is the parent of both, once for the pod", |life| life.one_shim()),
    ("the log is where the kubelet asked for it", |life| {
        let text = || Ok(std::fs::read_to_string(life.scene.work.join("logs/c.log"))?);
        let whole = |text: String| if text.ends_with(" stdout F from the log\n") { Ok(()) } else { bail!("{text:?}") };
        until(|| text().and_then(whole))
    }),
    ("ExecSync: output on both streams", |life| {
        let said = life.exec("echo out; echo err >&2", 0)?;
        ensure!((&*said.stdout, &*said.stderr, said.exit_code) == (b"out\n", b"err\n", 0), "{said:?}");
        Ok(())
    }),
    ("ExecSync: the exit code", |life| {
        let said = life.exec("exit 3", 0)?;
        ensure!(said.exit_code == 3, "{said:?}");
        Ok(())
    }),
    ("ExecSync over its time is ended", |life| match life.exec("sleep 1000", 1) {
        Err(error) if error.to_string().contains("timeout") => Ok(()),
        other => bail!("{other:?}"),
    }),
    ("ContainerStats: processors and memory", |life| life.stats()),
    ("UpdateContainerResources", |life| life.update()),
    ("a container that ends: exit code and reason", |life| {
        let status = life.ended("ends", "exit 7", 0)?;
        ensure!((status.exit_code, &*status.reason) == (7, "Error"), "{status:?}");
        Ok(())
    }),
    ("a container over its memory: OOMKilled", |life| {
        let status = life.ended("greedy", "exec tail /dev/zero", 16 << 20)?;
        ensure!((status.exit_code, &*status.reason) == (137, "OOMKilled"), "{status:?}");
        Ok(())
    }),
    ("StopContainer: the program ends by itself within its time", |life| {
        let stop = w::StopContainer { id: life.container.clone(), timeout: PATIENCE.as_secs() as i64 };
        let w::Nothing {} = life.cri.call("RuntimeService/StopContainer", &stop)?;
        let status = life.status(&life.container.clone())?;
        ensure!((status.state, status.exit_code) == (w::EXITED, 4), "{status:?}");
        Ok(())
    }),
    ("RemoveContainer", |life| life.by_id("RemoveContainer", &life.container.clone())),
    ("StopPodSandbox: not ready", |life| {
        life.by_id("StopPodSandbox", &life.sandbox.clone())?;
        life.sandbox_is(w::SANDBOX_NOT_READY)
    }),
    ("RemovePodSandbox, with the containers that had ended", |life| {
        life.by_id("RemovePodSandbox", &life.sandbox.clone())
    }),
    ("nothing is listed", |life| {
        for kind in ["ListPodSandbox", "ListContainers"] {
            let list: w::List = life.cri.call(&format!("RuntimeService/{kind}"), &w::Nothing {})?;
            ensure!(list.items.is_empty(), "{kind}: {list:?}");
        }
        Ok(())
    }),
    ("neither states nor sockets of shims are left", |life| {
        let left = |dir: &str| -> Result<()> {
            let entries = std::fs::read_dir(life.stage.run(dir)).with_context(|| dir.to_owned())?;
            let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            ensure!(names.is_empty(), "{dir}: {names:?}");
            Ok(())
        };
        until(|| left("containerd/pintle/k8s.io").and_then(|()| left("containerd/s")))
    }),
];

impl Life<'_> {
    fn import(&mut self) -> Result<()> {
        let output = self.stage.import()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let asked = w::ImageStatus { image: Some(w::ImageSpec { image: IMAGE.to_owned() }) };
        until(|| {
            let found: w::ImageStatusResponse = self.cri.call("ImageService/ImageStatus", &asked)?;
            found.image.map(drop).context("no such image")
        })
    }

    fn namespaces() -> Option<w::NamespaceOption> {
        Some(w::NamespaceOption { network: w::NODE, pid: w::CONTAINER, ..w::NamespaceOption::default() })
    }

    fn sandbox_config(&self) -> w::SandboxConfig {
        let [name, uid, namespace] = ["pod", "u-1", "default"].map(str::to_owned);
        let security_context = Some(w::SandboxSecurityContext { namespace_options: Life::namespaces() });
        w::SandboxConfig {
            metadata: Some(w::SandboxMetadata { name, uid, namespace }),
            log_directory: self.scene.work.join("logs").display().to_string(),
            linux: Some(w::LinuxSandboxConfig { cgroup_parent: self.cgroup.clone(), security_context }),
        }
    }

    fn run_sandbox(&mut self) -> Result<()> {
        std::fs::create_dir_all(self.scene.work.join("logs"))?;
        let asked = w::RunSandbox { config: Some(self.sandbox_config()), runtime_handler: "pintle".to_owned() };
        let w::Id { id } = self.cri.call("RuntimeService/RunPodSandbox", &asked)?;
        self.sandbox = id;
        Ok(())
    }

    fn sandbox_is(&mut self, state: i32) -> Result<()> {
        let asked = w::StatusRequest { id: self.sandbox.clone(), verbose: false };
        let answer: w::SandboxStatusResponse = self.cri.call("RuntimeService/PodSandboxStatus", &asked)?;
        let status = answer.status.context("no status")?;
        ensure!(status.state == state, "{status:?}");
        Ok(())
    }

    fn create(&mut self, name: &str, script: &str, memory: i64) -> Result<String> {
        let resources = Some(w::Resources { cpu_shares: 512, memory_limit_in_bytes: memory });
        let security_context = Some(w::ContainerSecurityContext { namespace_options: Life::namespaces() });
        let config = w::ContainerConfig {
            metadata: Some(w::Id { id: name.to_owned() }),
            image: Some(w::ImageSpec { image: IMAGE.to_owned() }),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log"),
            linux: Some(w::LinuxContainerConfig { resources, security_context }),
        };
        let sandbox_config = Some(self.sandbox_config());
        let asked = w::CreateContainer { sandbox: self.sandbox.clone(), config: Some(config), sandbox_config };
        let w::Id { id } = self.cri.call("RuntimeService/CreateContainer", &asked)?;
        Ok(id)
    }

    fn by_id(&mut self, method: &str, id: &str) -> Result<()> {
        let asked = w::Id { id: id.to_owned() };
        self.cri.call(&format!("RuntimeService/{method}"), &asked).map(|w::Nothing {}| ())
    }

    fn start(&mut self, id: &str) -> Result<()> {
        self.by_id("StartContainer", id)
    }

    fn status(&mut self, id: &str) -> Result<w::ContainerStatus> {
        let asked = w::StatusRequest { id: id.to_owned(), verbose: false };
        let answer: w::ContainerStatusResponse = self.cri.call("RuntimeService/ContainerStatus", &asked)?;
        answer.status.context("no status")
    }

    /// A container from its start to its end.
    fn ended(&mut self, name: &str, script: &str, memory: i64) -> Result<w::ContainerStatus> {
        let id = self.create(name, script, memory)?;
        self.start(&id)?;
        until(|| {
            let status = self.status(&id)?;
            ensure!(status.state == w::EXITED, "{status:?}");
            Ok(status)
        })
    }

    fn exec(&mut self, script: &str, timeout: i64) -> Result<w::ExecSyncResponse> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self.cri.call("RuntimeService/ExecSync", &w::ExecSync { id: self.container.clone(), command, timeout })
    }

    fn one_shim(&mut self) -> Result<()> {
        let asked = |id: &str| w::StatusRequest { id: id.to_owned(), verbose: true };
        let sandbox: w::SandboxStatusResponse =
            self.cri.call("RuntimeService/PodSandboxStatus", &asked(&self.sandbox))?;
        let container: w::ContainerStatusResponse =
            self.cri.call("RuntimeService/ContainerStatus", &asked(&self.container))?;
        let [pod, own] = [parent(sandbox.info.get("info"))?, parent(container.info.get("info"))?];
        ensure!(pod == own, "the shims are {pod} and {own}");
        let name = std::fs::read_to_string(format!("/proc/{pod}/cmdline"))?;
        let first = name.split('\0').next().unwrap_or_default();
        ensure!(first.ends_with("containerd-shim-pintle-v1"), "the parent is {first}");
        Ok(())
    }

    fn stats(&mut self) -> Result<()> {
        let asked = w::Id { id: self.container.clone() };
        let answer: w::StatsResponse = self.cri.call("RuntimeService/ContainerStats", &asked)?;
        let stats = answer.stats.context("no stats")?;
        let used =
            |usage: &Option<w::Usage>| usage.as_ref().and_then(|usage| usage.main.as_ref()).map_or(0, |n| n.value);
        ensure!(used(&stats.cpu) > 0 && used(&stats.memory) > 0, "{stats:?}");
        Ok(())
    }

    fn update(&mut self) -> Result<()> {
        let linux = Some(w::Resources { memory_limit_in_bytes: 96 << 20, cpu_shares: 256 });
        let asked = w::UpdateResources { id: self.container.clone(), linux };
        let w::Nothing {} = self.cri.call("RuntimeService/UpdateContainerResources", &asked)?;
        let read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
        let said = self.exec(read, 0)?;
        ensure!(said.stdout == format!("{}\n", 96 << 20).as_bytes(), "{said:?}");
        Ok(())
    }
}

/// The parent of the process that verbose information names.
fn parent(info: Option<&String>) -> Result<u32> {
    let info: serde_json::Value = serde_json::from_str(info.context("no information")?)?;
    let pid = info["pid"].as_u64().context("no pid")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
    Ok(line.trim().parse()?)
}
