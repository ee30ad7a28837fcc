//! `checkpoint` and `restore`: flags and paths; the work is `crate::criu`'s.

use std::path::{Path, PathBuf};

use pintle_runtime_plan::criu::{self as plan, DumpFlags, Flags};

use super::args::{Flag, Order, Parsed, switch, value, values};
use super::{Command, Invocation, options, relay};
use crate::container::{self, Env, Force};
use crate::criu::{self, Checkpoint, CriuError, Restore, Restored};
use crate::error::{Doing as _, Error, Result};

const IMAGE_PATH: Flag = value("image-path", "path for criu image files (default: ./checkpoint)");
const WORK_PATH: Flag = value("work-path", "path for work files and logs (default: that of the images)");
const TCP_ESTABLISHED: Flag = switch("tcp-established", "allow open tcp connections");
const EXT_UNIX_SK: Flag = switch("ext-unix-sk", "allow external unix sockets");
const SHELL_JOB: Flag = switch("shell-job", "allow shell jobs");
const LAZY_PAGES: Flag = switch("lazy-pages", "use userfaultfd to lazily restore memory pages");
const FILE_LOCKS: Flag = switch("file-locks", "handle file locks, for safety");
const CGROUPS_MODE: Flag = value("manage-cgroups-mode", "cgroups mode: soft, full, strict or ignore (default: soft)");
const EMPTY_NS: Flag = values("empty-ns", "create a namespace, but don't restore its properties: network (always so)");
const AUTO_DEDUP: Flag = switch("auto-dedup", "enable auto deduplication of memory images");

/// `checkpoint`.
pub const CHECKPOINT: Command = Command {
    name: "checkpoint",
    arguments: "<container-id>",
    about: "checkpoint a running container; it is deleted unless it is left running",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        value("parent-path", "path of previous criu image files, relative to --image-path"),
        switch("leave-running", "leave the process running after checkpointing"),
        TCP_ESTABLISHED,
        switch("tcp-skip-in-flight", "skip in-flight tcp connections"),
        switch("link-remap", "allow to link unlinked files back when possible"),
        EXT_UNIX_SK,
        SHELL_JOB,
        LAZY_PAGES,
        value("status-fd", "criu writes \\0 to this FD once lazy-pages is ready"),
        value("page-server", "ADDRESS:PORT of the page server"),
        FILE_LOCKS,
        switch("pre-dump", "dump container's memory information only, leave the container running after this"),
        CGROUPS_MODE,
        EMPTY_NS,
        AUTO_DEDUP,
    ],
    order: Order::Mixed,
    exposed: false,
    run: checkpoint,
};

/// `restore`.
pub const RESTORE: Command = Command {
    name: "restore",
    arguments: "<container-id>",
    about: "restore a container from a previous checkpoint",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        FILE_LOCKS,
        CGROUPS_MODE,
        value("bundle", "path to the root of the bundle directory, defaults to the current directory").or("b"),
        value("console-socket", "path to an AF_UNIX socket which will receive the console's master"),
        switch("detach", "detach from the container's process").or("d"),
        value("pid-file", "specify the file to write the process id to"),
        switch("no-subreaper", "disable the use of the subreaper used to reap reparented processes"),
        switch("no-pivot", "(accepted; the root is CRIU's to change)"),
        EMPTY_NS,
        AUTO_DEDUP,
        LAZY_PAGES,
        value("lsm-profile", "specify an LSM profile to be used during restore in the form of TYPE:NAME"),
        value("lsm-mount-context", "specify an LSM mount context to be used during restore"),
    ],
    order: Order::Mixed,
    exposed: false,
    run: restore,
};

fn flags(own: &Parsed) -> Result<Flags> {
    plan::empty_ns(own.all("empty-ns")).map_err(CriuError::from)?;
    Ok(Flags {
        tcp_established: own.has("tcp-established"),
        ext_unix_sk: own.has("ext-unix-sk"),
        shell_job: own.has("shell-job"),
        file_locks: own.has("file-locks"),
        auto_dedup: own.has("auto-dedup"),
        lazy_pages: own.has("lazy-pages"),
        cgroups: plan::cgroup_mode(own.get("manage-cgroups-mode").unwrap_or_default()).map_err(CriuError::from)?,
    })
}

fn paths(own: &Parsed) -> Result<(PathBuf, Option<PathBuf>)> {
    let images = options::absolute(own.get("image-path").filter(|path| !path.is_empty()).or(Some("checkpoint")))?;
    Ok((images.unwrap_or_default(), options::absolute(own.get("work-path"))?))
}

fn checkpoint(invocation: &Invocation) -> Result<i32> {
    let id = invocation.id("checkpoint")?;
    let own = &invocation.own;
    let (images, work) = paths(own)?;
    let server = own.get("page-server").filter(|server| !server.is_empty());
    let request = Checkpoint {
        flags: flags(own)?,
        more: DumpFlags {
            pre_dump: own.has("pre-dump"),
            leave_running: own.has("leave-running"),
            tcp_skip_in_flight: own.has("tcp-skip-in-flight"),
            link_remap: own.has("link-remap"),
            page_server: server.map(plan::page_server).transpose().map_err(CriuError::from)?,
            parent: parent(own, &images)?,
        },
        images,
        work,
        status: own.number::<i32>("status-fd")?.filter(|number| *number != -1).map(status_fd).transpose()?,
    };
    criu::checkpoint(&invocation.env()?, id, request).map(|()| 0)
}

/// Images keep the path to their parents, and must be movable together: it is relative.
fn parent(own: &Parsed, images: &Path) -> Result<Option<String>> {
    let Some(parent) = own.get("parent-path").filter(|path| !path.is_empty()) else { return Ok(None) };
    if Path::new(parent).is_absolute() {
        return Err(Error::Usage("--parent-path must be relative".to_owned()));
    }
    // The directory of the images may be new; the path leads through it.
    std::fs::create_dir_all(images).doing(|| format!("make {}", images.display()))?;
    match std::fs::metadata(images.join(parent)) {
        Ok(meta) if meta.is_dir() => Ok(Some(parent.to_owned())),
        Ok(_) => Err(Error::Usage(format!("invalid --parent-path: {parent} is not a directory"))),
        Err(error) => Err(Error::Usage(format!("invalid --parent-path: {parent}: {error}"))),
    }
}

fn status_fd(number: i32) -> Result<std::os::fd::OwnedFd> {
    let refused = |why: &str| Error::Usage(format!("invalid --status-fd argument {number}: {why}"));
    let fd = Some(number).filter(|number| *number > 2).and_then(pintle_sys::fd::inherit);
    let fd = fd.ok_or_else(|| refused("not open, or stdio"))?;
    let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL).doing(|| "look at --status-fd".to_owned())?;
    if flags & libc::O_ACCMODE == libc::O_RDONLY { Err(refused("not writable")) } else { Ok(fd) }
}

fn restore(invocation: &Invocation) -> Result<i32> {
    let own = &invocation.own;
    let env = invocation.env()?;
    let detach = own.has("detach");
    if !detach && !own.has("no-subreaper") {
        pintle_sys::process::become_subreaper().doing(|| "become the reaper of orphans".to_owned())?;
    }
    let forwarder = if detach { None } else { Some(relay::Forwarder::new()?) };
    let (id, restored) = make(invocation, &env, detach)?;
    let Some(forwarder) = forwarder else { return Ok(0) };
    let followed = relay::Followed { pid: restored.pid, pidfd: &restored.pidfd, console: restored.console.as_ref() };
    let code = forwarder.wait(followed)?;
    container::delete(&env, &id, Force::Yes)?;
    Ok(code)
}

fn make(invocation: &Invocation, env: &Env, detach: bool) -> Result<(String, Restored)> {
    let own = &invocation.own;
    let id = invocation.id("restore")?.to_owned();
    let pid_file = options::absolute(own.get("pid-file"))?;
    let (images, work) = paths(own)?;
    let bundle = options::bundle(own)?;
    let spec = container::load_spec(&bundle)?;
    let terminal = spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    let console = options::check_console(terminal, detach, own)?;
    let text = |flag: &str| own.get(flag).filter(|text| !text.is_empty()).map(str::to_owned);
    let request = Restore {
        id: id.clone(),
        bundle,
        driver: options::driver(&invocation.global),
        flags: flags(own)?,
        images,
        work,
        lsm_profile: text("lsm-profile"),
        lsm_mount_context: text("lsm-mount-context"),
    };
    let mut restored = criu::restore(env, &request, spec)?;
    let handed = match (console, restored.console.take()) {
        (Some(socket), Some(master)) => options::send(&socket, &master),
        (_, master) => {
            restored.console = master;
            Ok(())
        }
    };
    let pid = restored.pid;
    let finish = handed.and_then(|()| pid_file.map_or(Ok(()), |path| options::write_pid_file(&path, pid)));
    if let Err(error) = finish {
        // Nobody could reach this container: it goes, and the first failure is the one to tell.
        let _left_for_delete = container::delete(env, &id, Force::Yes);
        return Err(error);
    }
    Ok((id, restored))
}
