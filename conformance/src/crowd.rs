//! Many containers created, read, used and deleted by many workers at once, and what they left: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::runner::{Runtime, hierarchies, make_bundle, processes, remove_cgroup};

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was left, in sentences; empty if nothing was.
    pub left: Vec<String>,
    /// From the first create to the last delete.
    pub took: Duration,
}

struct Crowd<'a> {
    runtime: &'a Runtime,
    work: &'a Path,
    root: PathBuf,
    cgroup: String,
}

/// Takes `count` containers through create, state, start, exec, kill and delete with so many workers.
///
/// # Errors
/// When a command fails, with what it said.
pub fn run(runtime: &Runtime, work: &Path, count: usize, workers: usize) -> Result<Outcome> {
    let work = work.join("crowd");
    make_bundle(&work)?;
    let cgroup = format!("/pintle-crowd-{}", std::process::id());
    let crowd = Crowd { runtime, work: &work, root: work.join("state"), cgroup };
    let mounts = mounts()?;
    let start = Instant::now();
    let done = crowd.all(count, workers);
    let took = start.elapsed();
    let left = crowd.left(&mounts);
    crowd.clean();
    done?;
    Ok(Outcome { left: left?, took })
}

impl Crowd<'_> {
    fn all(&self, count: usize, workers: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return Ok(());
            }
            self.one(n).with_context(|| format!("container {n}"))?;
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    fn one(&self, n: usize) -> Result<()> {
        let (id, bundle) = (format!("crowd-{n}"), self.work.join(format!("bundle-{n}")));
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), self.configuration(&id))?;
        let (place, pid_file) = (bundle.display().to_string(), bundle.join("pid").display().to_string());
        self.call(&["create", "--bundle", &place, "--pid-file", &pid_file, &id])?;
        let pid: i32 = fs::read_to_string(&pid_file)?.trim().parse().context("read the pid file")?;
        ensure!(Path::new(&format!("/proc/{pid}/ns/net")).exists(), "process {pid} is not there");
        self.expect_status(&id, "created")?;
        self.call(&["start", &id])?;
        let said = self.call(&["exec", &id, "/bin/echo", "inside"])?;
        ensure!(said == "inside\n", "exec said {said:?}");
        self.expect_status(&id, "running")?;
        self.call(&["kill", &id, "KILL"])?;
        // delete is right at once if it waits, and otherwise refused: force is what callers use.
        self.call(&["delete", "--force", &id])?;
        fs::remove_dir_all(&bundle).context("remove the bundle")
    }

    fn expect_status(&self, id: &str, status: &str) -> Result<()> {
        let state: serde_json::Value = serde_json::from_str(&self.call(&["state", id])?)?;
        ensure!(state["status"] == status, "{id} is {}, not {status}", state["status"]);
        Ok(())
    }

    fn call(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.runtime.program);
        command.arg("--root").arg(&self.root).args(arguments).stdin(Stdio::null());
        if let Some(libraries) = &self.runtime.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        // Files, not pipes: a first process keeps what create was given, and a pipe would never end.
        let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let status = command.stdout(out.try_clone()?).stderr(err.try_clone()?).status()?;
        let (out, err) = (contents(out)?, contents(err)?);
        ensure!(status.success(), "{arguments:?} ended with {status}: {}", err.trim());
        Ok(out)
    }

    fn configuration(&self, id: &str) -> String {
        json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/sleep", "1000"], "cwd": "/",
                "env": ["PATH=/bin", format!("CROWD={}", self.work.display())]},
            "root": {"path": self.work.join("rootfs")},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=64k"]}],
            "linux": {
                "cgroupsPath": format!("{}/{id}", self.cgroup),
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]
            }
        })
        .to_string()
    }

    fn left(&self, mounts_before: &BTreeSet<String>) -> Result<Vec<String>> {
        let mut left: Vec<String> =
            mounts()?.difference(mounts_before).map(|line| format!("a mount: {line}")).collect();
        let below = self.cgroup.trim_start_matches('/');
        for parent in hierarchies().iter().map(|hierarchy| hierarchy.join(below)).filter(|parent| parent.exists()) {
            left.extend(processes(&parent).iter().map(|pid| format!("process {pid} in {}", parent.display())));
            let names = fs::read_dir(&parent)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
            left.extend(names.map(|path| format!("cgroup {}", path.display())));
        }
        let states = fs::read_dir(&self.root).map(Iterator::count).unwrap_or(0);
        if states > 0 {
            left.push(format!("{states} state directories"));
        }
        left.extend(self.living()?);
        Ok(left)
    }

    /// The crowd's processes and those of the runtime that served it, by our directory's name in their arguments or
    /// environment. Without one of them and without a mount, nothing holds a namespace. (Namespaces themselves cannot be
    /// asked for: their numbers are given out again at once, to anybody.) Zombies are the machine's to reap.
    fn living(&self) -> Result<Vec<String>> {
        let marker = self.work.as_os_str().as_encoded_bytes();
        let mut living = Vec::new();
        for process in fs::read_dir("/proc")?.flatten() {
            // What has ended since it was listed, or is a zombie, has neither file.
            let read = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
            let (arguments, environment) = (read("cmdline"), read("environ"));
            if [&arguments, &environment].iter().any(|text| text.windows(marker.len()).any(|part| part == marker)) {
                let line = String::from_utf8_lossy(&arguments).replace('\0', " ");
                living.push(format!("process {}: {}", process.file_name().to_string_lossy(), line.trim_end()));
            }
        }
        Ok(living)
    }

    /// Whatever is left of a failure goes, so that the next run starts clean.
    fn clean(&self) {
        for hierarchy in hierarchies() {
            let parent = hierarchy.join(self.cgroup.trim_start_matches('/'));
            for pid in processes(&parent) {
                let _may_be_gone =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            remove_cgroup(&parent);
        }
    }
}

fn mounts() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn contents(mut file: fs::File) -> Result<String> {
    use std::io::{Read as _, Seek as _};
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}
