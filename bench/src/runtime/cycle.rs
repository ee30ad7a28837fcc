//! One life cycle, each command of it timed.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde_json::Value;

use super::bundle::{self, Seccomp};
use super::samples::Samples;
use super::site::{Runtime, Site, timed};

/// The filter that goes into bundles.
pub fn profile(site: &Site, seccomp: Seccomp) -> Result<Option<Value>> {
    match (seccomp, &site.peers) {
        (Seccomp::None, _) => Ok(None),
        (Seccomp::Usual, Some(peers)) => bundle::usual_profile(peers).map(Some),
        (Seccomp::Usual, None) => anyhow::bail!("the usual seccomp profile is a file of the peers': give --peers"),
    }
}

/// create, state, start, exec, kill, delete, run.
pub fn one(site: &Site, runtime: &Runtime, seccomp: Seccomp, quiet: Duration, samples: &mut Samples) -> Result<()> {
    let filter = profile(site, seccomp)?;
    let sleeper = bundle::make(&site.work, "sleeper", &site.cgroup, &["/bin/sleep", "1000"], filter.as_ref())?;
    let brief = bundle::make(&site.work, "brief", &site.cgroup, &["/bin/true"], filter.as_ref())?;
    let (sleeper, brief) = (sleeper.display().to_string(), brief.display().to_string());
    let pid_file = site.work.join("pid").display().to_string();
    let mut step = |what: &'static str, arguments: &[&str]| -> Result<()> {
        std::thread::sleep(quiet);
        let took = timed(runtime.command(arguments)).with_context(|| format!("{} {what}", runtime.name))?;
        samples.add(what, runtime.name, took);
        Ok(())
    };
    step("create", &["create", "--bundle", &sleeper, "--pid-file", &pid_file, "c"])?;
    step("state", &["state", "c"])?;
    step("start", &["start", "c"])?;
    step("exec", &["exec", "c", "/bin/true"])?;
    let init = Init::open(&pid_file)?;
    step("kill", &["kill", "c", "KILL"])?;
    init.wait()?;
    step("delete", &["delete", "c"])?;
    step("run", &["run", "--bundle", &brief, "c"])
}

/// A process that is not our child: a container's first.
pub struct Init {
    pid: i32,
    fd: std::os::fd::OwnedFd,
}

impl Init {
    /// From the runtime's pid file.
    pub fn open(pid_file: &str) -> Result<Init> {
        let pid: i32 = std::fs::read_to_string(pid_file)?.trim().parse().context("read the pid file")?;
        Init::of(pid)
    }

    /// Any process.
    pub fn of(pid: i32) -> Result<Init> {
        let fd = pintle_sys::pidfd::open(Pid::from_raw(pid)).context("open a process")?;
        Ok(Init { pid, fd })
    }

    /// As the kernel numbers it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until it has ended and is reaped.
    pub fn wait(&self) -> Result<()> {
        let ready = poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16))?;
        ensure!(ready > 0, "process {} has not ended after 10 s", self.pid);
        let deadline = Instant::now() + Duration::from_secs(10);
        while nix::sys::signal::kill(Pid::from_raw(self.pid), None).is_ok() {
            ensure!(Instant::now() < deadline, "process {} is not reaped after 10 s", self.pid);
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// A running container for the floor's exec to enter.
pub struct Host<'a> {
    runtime: &'a Runtime,
    init: Init,
    rootfs: PathBuf,
}

impl<'a> Host<'a> {
    /// Starts it with the last runtime.
    pub fn new(site: &'a Site, seccomp: Seccomp) -> Result<Host<'a>> {
        let runtime = site.runtimes.last().context("no runtime")?;
        let filter = profile(site, seccomp)?;
        let path = bundle::make(&site.work, "host", &site.cgroup, &["/bin/sleep", "1000"], filter.as_ref())?;
        let pid_file = site.work.join("host-pid").display().to_string();
        let path = path.display().to_string();
        timed(runtime.command(&["run", "--detach", "--bundle", &path, "--pid-file", &pid_file, "host"]))?;
        Ok(Host { runtime, init: Init::open(&pid_file)?, rootfs: site.work.join("rootfs") })
    }

    /// The floor's times, under the commands they are the floor of.
    pub fn floor(&self, site: &Site, quiet: Duration, samples: &mut Samples) -> Result<()> {
        let (pid, rootfs) = (self.init.pid().to_string(), self.rootfs.display().to_string());
        let (host, own) = (format!("{}/host", site.cgroup), format!("{}/floor", site.cgroup));
        for (what, arguments) in [
            ("state", &["nothing"] as &[&str]),
            ("exec", &["exec", &pid, &host, "/bin/true"]),
            ("run", &["run", &rootfs, &own, "/bin/true"]),
        ] {
            std::thread::sleep(quiet);
            let mut command = Command::new(site.floor());
            command.args(arguments).env_clear().stdin(std::process::Stdio::null());
            samples.add(what, "floor", timed(command).with_context(|| format!("floor {what}"))?);
        }
        Ok(())
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        if let Err(error) = timed(self.runtime.command(&["delete", "--force", "host"])) {
            eprintln!("warning: cannot remove the floor's container: {error:#}");
        }
    }
}
