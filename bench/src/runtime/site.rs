//! The runtimes, where they work, and how they are called.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Arguments;

/// A runtime under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// As the tables call it.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Where its shared libraries are, if not where the system has them.
    pub libraries: Option<PathBuf>,
    /// Its `--root`.
    pub root: PathBuf,
}

/// Where everything happens.
#[derive(Debug)]
pub struct Site {
    /// The peers first, pintle last.
    pub runtimes: Vec<Runtime>,
    /// Bundles and roots.
    pub work: PathBuf,
    /// Parent cgroup of all containers.
    pub cgroup: String,
    /// Debian's packages, unpacked.
    pub peers: Option<PathBuf>,
}

impl Site {
    /// Finds the programs.
    pub fn new(arguments: &Arguments, work: &Path) -> Result<Site> {
        let peers = arguments.peers.as_deref().map(std::path::absolute).transpose()?;
        let libraries = peers.as_deref().map(|peers| peers.join("usr/lib/x86_64-linux-gnu"));
        let mut found = Vec::new();
        if let Some(peers) = &peers {
            for name in ["runc", "crun"] {
                found.push((name, program(peers, name)?, libraries.clone()));
            }
        }
        if let Some(other) = &arguments.other {
            found.push(("other", std::path::absolute(other)?, None));
        }
        found.push(("pintle", std::path::absolute(&arguments.pintle)?, None));
        let runtime = |(name, program, libraries): (&'static str, PathBuf, Option<PathBuf>)| {
            ensure!(program.is_file(), "{} is missing: run `make build`", program.display());
            Ok(Runtime { name, program, libraries, root: work.join("roots").join(name) })
        };
        let runtimes = found.into_iter().map(runtime).collect::<Result<_>>()?;
        let cgroup = format!("/pintle-bench-{}", std::process::id());
        Ok(Site { runtimes, work: work.to_owned(), cgroup, peers })
    }

    /// The compiled floor.
    pub fn floor(&self) -> PathBuf {
        self.work.join("floor")
    }

    /// Column headings.
    pub fn names(&self) -> Vec<&'static str> {
        self.runtimes.iter().map(|runtime| runtime.name).chain(["floor"]).collect()
    }

    /// A program of the peers' or of the system's.
    pub fn tool(&self, name: &str) -> Result<PathBuf> {
        program(self.peers.as_deref().unwrap_or(Path::new("/")), name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let below = self.cgroup.trim_start_matches('/');
        let v1 = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in v1.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let _not_in_this_hierarchy = std::fs::remove_dir(hierarchy.join(below).join("pod"));
            let _not_here_either = std::fs::remove_dir(hierarchy.join(below));
        }
    }
}

/// As /run is: where runtimes keep their state in real life.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one in this process's own mount namespace.
    pub fn mount(at: &Path) -> Result<Tmpfs> {
        std::fs::create_dir_all(at)?;
        let none = None::<&str>;
        nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), nix::mount::MsFlags::empty(), none)
            .with_context(|| format!("mount a tmpfs on {}", at.display()))?;
        Ok(Tmpfs(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(errno) = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH) {
            eprintln!("warning: cannot unmount {}: {errno}", self.0.display());
        }
    }
}

fn program(peers: &Path, name: &str) -> Result<PathBuf> {
    let places = [peers.join("usr/sbin"), peers.join("usr/bin"), "/usr/sbin".into(), "/usr/bin".into()];
    let found = places.iter().map(|place| place.join(name)).find(|program| program.is_file());
    found.with_context(|| format!("{name} is missing: run `cargo xtask peers`"))
}

impl Runtime {
    /// A call of it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        quiet_command(&self.program, self.libraries.as_deref(), &self.words(arguments))
    }

    /// A call of it by way of another program.
    pub fn command_below(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut words: Vec<String> = wrapper[1..].iter().map(|word| (*word).to_owned()).collect();
        words.push(self.program.display().to_string());
        words.extend(self.words(arguments));
        quiet_command(Path::new(wrapper[0]), self.libraries.as_deref(), &words)
    }

    fn words(&self, arguments: &[&str]) -> Vec<String> {
        let root = ["--root".to_owned(), self.root.display().to_string()];
        root.into_iter().chain(arguments.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Its first line of `--version`.
    pub fn version(&self) -> Result<String> {
        let output = self.command(&["--version"]).stdout(Stdio::piped()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }
}

fn quiet_command(program: &Path, libraries: Option<&Path>, words: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

/// How long a command takes from before it is started until it has ended. It must succeed.
pub fn timed(mut command: Command) -> Result<Duration> {
    let start = Instant::now();
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    let took = start.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(took)
}
