//! A process that does nothing but be in a scope until the container's first process is: systemd makes no scope
//! without one, and init is to be born in a cgroup that has its limits already.

use std::io::{PipeWriter, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use pintle_sys::clone::{self, CloneArgs, SingleThreaded};
use pintle_sys::{fd, pidfd};

use crate::cgroup::{Cgroups, put};
use crate::error::{Doing as _, Result};

/// It ends with us: what it reads from is ours to write to, and nobody ever does.
#[derive(Debug)]
pub struct Holder {
    pid: u32,
    process: OwnedFd,
    _alive: PipeWriter,
    /// A limit on processes that leaves no room for two, and its file.
    narrow: Option<(PathBuf, String)>,
}

impl Holder {
    /// Forks it.
    pub fn fork(proof: SingleThreaded) -> Result<Holder> {
        let (mut end, alive) = std::io::pipe().doing(|| "make a pipe".to_owned())?;
        let keep = [end.as_raw_fd()];
        let forked = clone::clone3(proof, CloneArgs::default(), || {
            // Our own end of the pipe goes with the rest: else it would wait for itself.
            if fd::close_all_but(&keep).is_ok() {
                let _nothing_but_the_end_comes = end.read(&mut [0]);
            }
            clone::exit_now(0)
        });
        let (pid, process) = forked.doing(|| "fork a process to hold the unit".to_owned())?;
        Ok(Holder { pid: pid.as_raw().unsigned_abs(), process, _alive: alive, narrow: None })
    }

    /// For systemd.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets a second process in beside this one, whatever the container's limit is.
    pub fn make_room(&mut self, cgroups: &Cgroups) -> Result<()> {
        let Some(file) = cgroups.of("pids").map(|directory| directory.join("pids.max")) else { return Ok(()) };
        let limit = crate::text::read(&file).unwrap_or_default().trim().to_owned();
        if limit.parse().is_ok_and(|limit: u64| limit < 2) {
            put(&file, b"2").doing(|| format!("write {}", file.display()))?;
            self.narrow = Some((file, limit));
        }
        Ok(())
    }

    /// Ends it; the container's own limit on processes holds from now on.
    pub fn leave(mut self) -> Result<()> {
        let narrow = self.narrow.take();
        drop(self);
        let Some((file, limit)) = narrow else { return Ok(()) };
        put(&file, limit.as_bytes()).doing(|| format!("write {limit} to {}", file.display()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _already_dead = pidfd::send_signal(&self.process, libc::SIGKILL);
        let _reaped = pidfd::wait(&self.process);
    }
}
