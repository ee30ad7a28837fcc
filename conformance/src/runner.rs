//! Runs one case against one runtime: a fresh bundle, a state root and a parent cgroup of its own, all gone at the end.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::case::{Case, Only};

/// A runtime under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// As the report calls it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Where its shared libraries are, if not where the system has them.
    pub libraries: Option<PathBuf>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sentence holds.
    Holds,
    /// It does not: what was seen.
    Differs(String),
    /// This host is not one the case is about.
    NotHere,
}

/// The host.
#[derive(Debug, Clone)]
pub struct Site {
    work: PathBuf,
    cgroup: String,
    v2: bool,
}

/// Far more than any case takes, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(120);

const APPLETS: &[&str] = &[
    "sh", "ls", "cat", "sleep", "echo", "mount", "umount", "id", "ps", "hostname", "touch", "true", "false", "tail",
    "dd", "stat", "mkdir", "mknod", "readlink", "stty", "tr", "head", "grep", "sed", "cut", "wc", "sort", "env", "pwd",
    "kill", "ip", "chmod", "chown", "ln", "rm", "test", "date", "tty", "find", "awk", "nice", "ulimit", "df", "seq",
    "usleep", "ipcs", "unshare", "chroot", "su", "mv", "cp", "dmesg", "printf", "expr", "basename", "uname", "ionice",
    "setsid", "nc",
];

/// What the cases' scripts call on the host, where it must be, and Debian's package of it. `make` installs them all.
const TOOLS: &[(&str, &str)] = &[
    ("/bin/busybox", "busybox-static"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/script", "bsdutils"),
    ("/usr/bin/unshare", "util-linux"),
    ("/bin/ps", "procps"),
];

impl Site {
    /// A place to work in.
    ///
    /// # Errors
    /// When the host lacks a tool that cases call: without it, they would show nothing.
    pub fn new(work: &Path) -> Result<Site> {
        let missing: Vec<&str> =
            TOOLS.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, package)| *package).collect();
        ensure!(missing.is_empty(), "this host lacks tools of the cases: run `apt-get install {}`", missing.join(" "));
        Ok(Site {
            work: work.to_owned(),
            cgroup: format!("/pintle-conformance-{}", std::process::id()),
            v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        })
    }

    /// Whether this host has cgroup v2 alone.
    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// Runs one case. What goes wrong with the harness itself counts as a difference too: nothing passes unseen.
    pub fn run(&self, case: &Case, runtime: &Runtime) -> Outcome {
        match (case.only, self.v2) {
            (Some(Only::V1), true) | (Some(Only::V2), false) => return Outcome::NotHere,
            _ => {}
        }
        match self.differences(case, runtime) {
            Ok(found) if found.is_empty() => Outcome::Holds,
            Ok(found) => Outcome::Differs(found.join("; ")),
            Err(error) => Outcome::Differs(format!("cannot run the case: {error:#}")),
        }
    }

    fn differences(&self, case: &Case, runtime: &Runtime) -> Result<Vec<String>> {
        let name = format!("{}-{}", runtime.name, case.name);
        let bundle = self.work.join(&name);
        let cgroup = format!("{}/{name}", self.cgroup);
        make_bundle(&bundle)?;
        let text = case.configuration(&cgroup, &bundle.to_string_lossy());
        fs::write(bundle.join("config.json"), text).context("write config.json")?;
        let script = case.script.as_deref().unwrap_or("rt run -b \"$B\" c");
        let whole = format!("{}\n{}\n{script}\n", include_str!("prelude.sh"), case.prepare);
        let (status, out, err) = self.shell(&whole, runtime, &bundle, &cgroup)?;
        let mut found = match status {
            Some(status) => case.differences(code(status), &out, &err),
            None => vec![format!("not over after {} s", PATIENCE.as_secs())],
        };
        if !found.is_empty() {
            // Where the prelude's `mk` sends what a created container says: perhaps why it ended.
            let said = fs::read_to_string(bundle.join("out")).unwrap_or_default();
            found.extend(said.lines().last().map(|line| format!("the container said `{line}`")));
        }
        found.extend(self.clean(runtime, &bundle, &cgroup)?);
        Ok(found)
    }

    fn shell(
        &self,
        script: &str,
        runtime: &Runtime,
        bundle: &Path,
        cgroup: &str,
    ) -> Result<(Option<ExitStatus>, String, String)> {
        let (out, err) = (bundle.join("stdout"), bundle.join("stderr"));
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(script).process_group(0).stdin(Stdio::null());
        shell.stdout(File::create(&out)?).stderr(File::create(&err)?);
        shell.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("RT", &runtime.program);
        shell.env("ROOT", bundle.join("state")).env("B", bundle).env("CG", cgroup);
        if let Some(libraries) = &runtime.libraries {
            shell.env("LD_LIBRARY_PATH", libraries);
        }
        let mut child = shell.spawn().context("start /bin/sh")?;
        let status = wait(&mut child)?;
        let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((status, read(&out)?, read(&err)?))
    }

    /// Removes every container, then looks for what the runtime left.
    fn clean(&self, runtime: &Runtime, bundle: &Path, cgroup: &str) -> Result<Vec<String>> {
        let script = format!(
            "{}\nfor id in $(rt list -q 2>/dev/null); do rt delete -f \"$id\"; done",
            include_str!("prelude.sh")
        );
        // The runtime's own complaints show as left-overs.
        self.shell(&script, runtime, bundle, cgroup)?;
        let mut left = Vec::new();
        if fs::read_dir(bundle.join("state")).is_ok_and(|list| list.count() > 0) {
            left.push("left behind: its state directory".to_owned());
        }
        let below = cgroup.trim_start_matches('/');
        for hierarchy in hierarchies() {
            let parent = hierarchy.join(below);
            if !parent.exists() {
                continue;
            }
            for process in processes(&parent) {
                left.push("left behind: a process".to_owned());
                // It is in a cgroup that only this case uses, so it is ours to end.
                let _may_be_gone =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::SIGKILL);
            }
            if parent.join("c").exists() {
                left.push(format!("left behind: cgroup in {}", hierarchy.display()));
            }
            remove_cgroup(&parent);
        }
        left.dedup();
        fs::remove_dir_all(bundle).with_context(|| format!("remove {}", bundle.display()))?;
        Ok(left)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for hierarchy in hierarchies() {
            // Another clone of this site may still use it, and then it stays.
            let _busy_or_absent = fs::remove_dir(hierarchy.join(self.cgroup.trim_start_matches('/')));
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
            nix::sys::signal::killpg(group, nix::sys::signal::SIGKILL).context("end a script that hangs")?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A root file system of busybox.
pub fn make_bundle(bundle: &Path) -> Result<()> {
    let root = bundle.join("rootfs");
    for sub in ["bin", "etc", "proc", "sys", "dev", "tmp", "usr", "var"] {
        fs::create_dir_all(root.join(sub)).with_context(|| format!("make {}", root.join(sub).display()))?;
    }
    copy_busybox(&root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")?;
    Ok(())
}

/// By another process: a descriptor of ours that is open for writing would be inherited by what other workers start at
/// that moment, and as long as they have it the copy cannot be executed (ETXTBSY, execve(2)).
fn copy_busybox(to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("/bin/busybox").arg(to).status().context("run cp")?;
    ensure!(copied.success(), "copy /bin/busybox (busybox-static): {copied}");
    Ok(())
}

/// Every mounted hierarchy of control groups.
pub fn hierarchies() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    if Path::new("/sys/fs/cgroup/cgroup.procs").exists() {
        all.retain(|_v2_children_are_no_hierarchies| false);
        all.push("/sys/fs/cgroup".into());
    }
    all
}

/// Pids in a cgroup and below.
pub fn processes(directory: &Path) -> Vec<i32> {
    let own = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(directory) {
        pids.extend(processes(&child));
    }
    pids
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes a cgroup and all below, waiting for killed processes to go.
pub fn remove_cgroup(directory: &Path) {
    for child in children(directory) {
        remove_cgroup(&child);
    }
    for _ in 0..400 {
        match fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(16) => std::thread::sleep(Duration::from_millis(5)),
            _ => return,
        }
    }
}
