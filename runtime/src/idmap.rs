//! Id maps of user namespaces: of a container's, and of those that exist only to map the ids of a mount.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use pintle_runtime_plan::step::{IdMap, IdRange};
use pintle_sys::clone::{self, CloneArgs, SingleThreaded};
use pintle_sys::{Errno, pidfd};

use crate::error::{Doing as _, Error, Result};

/// Gives both maps to the user namespace that `pid` is in: our child, which waits and is not reaped.
pub fn write_maps(pid: i32, uids: &IdMap, gids: &IdMap, deny_setgroups: bool) -> Result<()> {
    write_map(pid, "linux.uidMappings", "uid_map", uids)?;
    if deny_setgroups {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").doing(|| "deny setgroups".to_owned())?;
    }
    write_map(pid, "linux.gidMappings", "gid_map", gids)
}

fn write_map(pid: i32, at: &str, file: &str, map: &IdMap) -> Result<()> {
    let Some(helper) = &map.helper else {
        let lines = lines(&map.ranges);
        let written = std::fs::write(format!("/proc/{pid}/{file}"), &lines);
        return written.doing(|| format!("write {file} {:?} ({at})", lines.trim_end()));
    };
    let helper = std::path::Path::new(std::ffi::OsStr::from_bytes(helper.to_bytes()));
    run_helper(helper, pid, &map.ranges).map_err(|why| {
        let (name, ranges) = (helper.display(), lines(&map.ranges).trim_end().replace('\n', ", "));
        Error::Init(format!("{at}: {name} does not map {ranges:?}: {why}"))
    })
}

/// newuidmap(1), newgidmap(1): the pid, then the ranges. It gets nothing else of us: it has more rights than we.
fn run_helper(helper: &std::path::Path, pid: i32, ranges: &[IdRange]) -> std::result::Result<(), String> {
    let numbers = ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]);
    let mut command = std::process::Command::new(helper);
    command.arg(pid.to_string()).args(numbers.map(|number| number.to_string())).env_clear().current_dir("/");
    let output = command.stdin(std::process::Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let (said, files) = (String::from_utf8_lossy(&output.stderr), "/etc/subuid and /etc/subgid");
    Err(format!(
        "{} ({}). {files} must give this user the ids outside (`usermod --add-subuids FIRST-LAST --add-subgids \
         FIRST-LAST USER`), and the program its rights: setuid root or file capabilities, and no no_new_privs here",
        said.trim().replace('\n', "; "),
        output.status
    ))
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
