//! The processes of a cgroup: listed, signalled, and gone.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use pintle_sys::{Errno, pidfd};

use super::{Cgroups, put};
use crate::error::{Doing as _, Error, Result};

/// How long killed processes may take to go. A process in uninterruptible sleep is the disk's fault, not ours.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroups {
    /// The hierarchy that is asked for members: any holds them all.
    fn witness(&self) -> Option<&Path> {
        let preferred = ["pids", "freezer", "devices", "memory"].iter().find_map(|one| self.of(one));
        preferred.or_else(|| self.paths.values().next().map(std::path::PathBuf::as_path))
    }

    /// Pids of all members, sub-cgroups included. A cgroup that is not there has none.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(directory) = self.witness() {
            collect(directory, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Moves a process into every directory.
    pub fn add(&self, pid: i32) -> Result<()> {
        for path in self.paths.values() {
            let done = put(&path.join("cgroup.procs"), pid.to_string().as_bytes());
            done.doing(|| format!("move process {pid} to cgroup {}", path.display()))?;
        }
        Ok(())
    }

    /// Sends a signal to every member. Returns how many got it. Without cgroup.kill (Linux 5.14, v2) the members are
    /// stopped first, so that none forks away from the list.
    pub fn signal(&self, signal: i32) -> Result<usize> {
        if signal == libc::SIGKILL
            && let Some(directory) = self.unified()
            && put(&directory.join("cgroup.kill"), b"1").is_ok()
        {
            return Ok(1);
        }
        let frozen_before = self.is_frozen();
        // A group that does not stop in time is signalled as it is: better a race than nothing.
        let held = !frozen_before && self.pids()?.len() > 1 && self.freeze().is_ok();
        let reached = self.signal_each(signal);
        if held || (frozen_before && signal == libc::SIGKILL) {
            self.thaw_quietly();
        }
        reached
    }

    fn signal_each(&self, signal: i32) -> Result<usize> {
        let mut reached = 0;
        for pid in self.pids()? {
            match pidfd::open(Pid::from_raw(pid)).and_then(|fd| pidfd::send_signal(fd, signal)) {
                Ok(()) => reached += 1,
                Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno).doing(|| format!("signal process {pid}")),
            }
        }
        Ok(reached)
    }

    /// Kills every member and waits until none is left. Forks during the sweep are met by the next one.
    pub fn kill_all(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let members = self.open_members()?;
            if members.is_empty() {
                return Ok(());
            }
            self.signal(libc::SIGKILL)?;
            // A frozen v1 cgroup delivers nothing, not even this.
            self.thaw_quietly();
            for member in &members {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Error::WrongState(format!(
                        "container's cgroup is not empty: {} process(es) found",
                        members.len()
                    )));
                }
                wait_for_end(member, left)?;
            }
        }
    }

    /// Refuses cgroups that others use: their processes would get our limits, and be killed with ours.
    pub fn require_unused(&self) -> Result<()> {
        match self.pids()?.len() {
            0 if self.is_frozen() => Err(Error::WrongState("container's cgroup unexpectedly frozen".to_owned())),
            0 => Ok(()),
            found => Err(Error::WrongState(format!("container's cgroup is not empty: {found} process(es) found"))),
        }
    }

    fn open_members(&self) -> Result<Vec<OwnedFd>> {
        let mut open = Vec::new();
        for pid in self.pids()? {
            match pidfd::open(Pid::from_raw(pid)) {
                Ok(fd) => open.push(fd),
                Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno).doing(|| format!("open process {pid}")),
            }
        }
        Ok(open)
    }

    /// Removes the directories and all below. What is gone is fine; what is still busy is an error.
    pub fn remove(&self) -> Result<()> {
        for path in self.paths.values() {
            remove_tree(path)?;
        }
        Ok(())
    }
}

fn collect(directory: &Path, pids: &mut Vec<i32>) -> Result<()> {
    let text = match crate::text::read(directory.join("cgroup.procs")) {
        Ok(text) => text,
        // ENODEV: the cgroup was removed while we had it open.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => return Ok(()),
        // A threaded cgroup lists its processes at the domain above.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        Err(error) => return Err(error).doing(|| format!("read {}/cgroup.procs", directory.display())),
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in children(directory)? {
        collect(&child, pids)?;
    }
    Ok(())
}

fn children(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    // The link count of a cgroup directory is two plus its children: most have none and need no listing.
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(directory) {
        Ok(meta) if meta.nlink() == 2 => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        _ => {}
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing(|| format!("list {}", directory.display())),
    };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(dirs.map(|entry| entry.path()).collect())
}

fn remove_tree(directory: &Path) -> Result<()> {
    match std::fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        // What is read-only or not ours says so before it says that nothing is there.
        Err(_) if !directory.exists() => return Ok(()),
        // Sub-cgroups made by the container, or a process that is dead but not yet gone from the books.
        Err(_) => {}
    }
    for child in children(directory)? {
        remove_tree(&child)?;
    }
    let mut pause = Duration::from_micros(200);
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(error) => return Err(error).doing(|| format!("remove cgroup {}", directory.display())),
        }
    }
}

/// Waits until a process has ended, reaped or not.
pub fn wait_for_end(process: &OwnedFd, at_most: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
        Err(Errno::EINTR) => Ok(false),
        other => Ok(other.doing(|| "wait for a process".to_owned())? > 0),
    }
}
