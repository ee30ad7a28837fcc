//! Id maps of user namespaces: of a container's, and of those that exist only to map the ids of a mount.

use std::fs::File;
use std::os::fd::OwnedFd;

use pintle_runtime_plan::step::IdRange;
use pintle_sys::clone::{self, CloneArgs, SingleThreaded};
use pintle_sys::{Errno, pidfd};

use crate::error::{Doing as _, Result};

/// Writes both maps of the user namespace that `pid` is in.
pub fn write_maps(pid: i32, uids: &[IdRange], gids: &[IdRange]) -> Result<()> {
    write(pid, "uid_map", uids)?;
    write(pid, "gid_map", gids)
}

fn write(pid: i32, file: &str, ranges: &[IdRange]) -> Result<()> {
    let lines = lines(ranges);
    std::fs::write(format!("/proc/{pid}/{file}"), &lines).doing(|| format!("write {file} {:?}", lines.trim_end()))
}

/// As user_namespaces(7) wants them.
fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

/// A user namespace with these maps and nobody in it: a child is born there, waits until it is mapped, and is ended.
pub fn user_namespace(proof: SingleThreaded, uids: &[IdRange], gids: &[IdRange]) -> pintle_sys::Result<OwnedFd> {
    let args = CloneArgs { flags: libc::CLONE_NEWUSER as u64, cgroup: None };
    let (pid, child) = clone::clone3(proof, args, || {
        loop {
            nix::unistd::pause();
        }
    })?;
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let write = |file: &str, ranges: &[IdRange]| std::fs::write(format!("/proc/{pid}/{file}"), lines(ranges));
    let opened = write("uid_map", uids)
        .and_then(|()| write("gid_map", gids))
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")))
        .map_err(errno);
    pidfd::send_signal(&child, libc::SIGKILL)?;
    pidfd::wait(&child)?;
    opened.map(OwnedFd::from)
}
