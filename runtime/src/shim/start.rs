//! From a command line to a daemon in its pod's surroundings.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sched::CloneFlags;
use pintle_shim::ShimConfig;
use pintle_sys::clone::{self, CloneArgs};
use pintle_sys::{cred, fd, pidfd};

use super::server::Server;
use crate::cgroup::Cgroups;
use crate::container::Env;
use crate::error::{Doing as _, Error, Result};

/// Starts a supervisor in the background and returns when it listens.
pub fn run(config: &Path) -> Result<()> {
    let text = std::fs::read_to_string(config).doing(|| format!("read {}", config.display()))?;
    let config: ShimConfig =
        serde_json::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", config.display())))?;
    let env = Env::observe(config.runtime_root.clone())?;
    std::fs::create_dir_all(config.dir.join("exits")).doing(|| format!("make {}/exits", config.dir.display()))?;
    let pod = Cgroups::locate(&env.layout, Some(Path::new(&config.pod_cgroup)), &config.pod_uid)?;
    pod.create(&env.layout)?;
    pod.apply(&config.pod_resources)?;
    let cgroup = own_cgroup(&env, &pod)?;
    let (mut told, tell) = std::io::pipe().doing(|| "make a pipe".to_owned())?;
    let daemon = move |tell: std::io::PipeWriter| -> std::convert::Infallible {
        let code = serve(env, config, pod, tell);
        clone::exit_now(code)
    };
    detach(cgroup, tell, daemon)?;
    let mut word = String::new();
    told.read_to_string(&mut word).doing(|| "hear from the supervisor".to_owned())?;
    match word.strip_prefix("ready") {
        Some(_) => writeln!(std::io::stdout(), "ready").doing(|| "write to stdout".to_owned()),
        None if word.is_empty() => {
            Err(Error::WrongState("the supervisor died before it was ready; see shim.log".to_owned()))
        }
        None => Err(Error::WrongState(word)),
    }
}

/// Double fork: the daemon is nobody's child and leads a session without a terminal.
fn detach(
    cgroup: Option<OwnedFd>,
    tell: std::io::PipeWriter,
    daemon: impl FnOnce(std::io::PipeWriter) -> std::convert::Infallible,
) -> Result<()> {
    let what = || "fork the supervisor".to_owned();
    let proof = clone::SingleThreaded::assert().ok_or_else(|| Error::WrongState("more than one thread".to_owned()))?;
    let (_, middle) = clone::clone3(proof, CloneArgs::default(), move || {
        let _leads_already = nix::unistd::setsid();
        let args = CloneArgs { flags: 0, cgroup: cgroup.as_ref().map(|fd| fd.as_fd()) };
        let forked = clone::clone3(proof, args, move || daemon(tell));
        clone::exit_now(i32::from(forked.is_err()))
    })
    .doing(what)?;
    pidfd::wait(&middle).doing(what).map(drop)
}

/// On v2 a cgroup with processes cannot hand controllers down, so the supervisor lives in a leaf of its own; it is
/// born there. On v1 it only leaves the kubelet's service, by the hierarchy that systemd watches.
fn own_cgroup(env: &Env, pod: &Cgroups) -> Result<Option<OwnedFd>> {
    if let Some(path) = pod.unified() {
        let leaf = pod.child("shim");
        leaf.create(&env.layout)?;
        return Ok(Some(File::open(path.join("shim")).doing(|| "open the supervisor's cgroup".to_owned())?.into()));
    }
    if let Some(path) = pod.of("name=systemd") {
        crate::cgroup::put(&path.join("tasks"), b"0").doing(|| format!("join {}", path.display()))?;
    }
    Ok(None)
}

fn serve(env: Env, config: ShimConfig, pod: Cgroups, mut tell: std::io::PipeWriter) -> i32 {
    let begun = background(&config).and_then(|()| settle(&config)).and_then(|small_init| {
        let listener = listen(&config.dir.join("shim.sock"))?;
        Server::new(env, config, pod, listener, small_init)
    });
    match begun {
        Ok(mut server) => {
            // Whoever started us may be gone; we serve whoever comes.
            let _starter_may_be_gone = tell.write_all(b"ready");
            drop(tell);
            server.run()
        }
        Err(error) => {
            let _starter_may_be_gone = tell.write_all(error.to_string().as_bytes());
            1
        }
    }
}

/// Leaves the starter's stdio; errors and panics go to shim.log.
fn background(config: &ShimConfig) -> Result<()> {
    let log = config.dir.join("shim.log");
    let what = || format!("open {}", log.display());
    let out = File::options().create(true).append(true).open(&log).doing(what)?;
    let null = File::options().read(true).write(true).open("/dev/null").doing(|| "open /dev/null".to_owned())?;
    fd::place_at(&null, 0).and_then(|()| fd::place_at(&null, 1)).and_then(|()| fd::place_at(&out, 2)).doing(what)?;
    std::env::set_current_dir("/").doing(|| "chdir to /".to_owned())?;
    pintle_sys::process::become_subreaper().doing(|| "become the reaper of orphans".to_owned())?;
    cred::set_dumpable(false).doing(|| "become not dumpable".to_owned())
}

/// The pod's namespaces: every container inherits them from here. Gives the small init of a shared pid namespace.
fn settle(config: &ShimConfig) -> Result<Option<OwnedFd>> {
    if let Some(path) = &config.netns {
        let netns = File::open(path).doing(|| format!("open network namespace {}", path.display()))?;
        nix::sched::setns(netns, CloneFlags::CLONE_NEWNET)
            .doing(|| format!("join network namespace {}", path.display()))?;
    }
    let mut new = CloneFlags::empty();
    new.set(CloneFlags::CLONE_NEWIPC, !config.host_ipc);
    new.set(CloneFlags::CLONE_NEWUTS, config.hostname.is_some());
    nix::sched::unshare(new).doing(|| "make the pod's namespaces".to_owned())?;
    if let Some(name) = &config.hostname {
        nix::unistd::sethostname(name).doing(|| format!("set host name {name:?}"))?;
    }
    for (name, value) in &config.sysctls {
        sysctl(name, value)?;
    }
    if config.share_pid { share_pid().map(Some) } else { Ok(None) }
}

fn sysctl(name: &str, value: &str) -> Result<()> {
    let relative = name.replace('.', "/");
    if relative.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::Usage(format!("sysctl {name:?} is not a name")));
    }
    std::fs::write(Path::new("/proc/sys").join(relative), value).doing(|| format!("set sysctl {name} to {value:?}"))
}

/// One pid namespace for all: a small init holds it open and reaps, and our children are born in it from now on.
fn share_pid() -> Result<OwnedFd> {
    let proof = clone::SingleThreaded::assert().ok_or_else(|| Error::WrongState("more than one thread".to_owned()))?;
    let args = CloneArgs { flags: CloneFlags::CLONE_NEWPID.bits() as u64, cgroup: None };
    let what = || "make the pod's pid namespace".to_owned();
    let (pid, init) = clone::clone3(proof, args, small_init).doing(what)?;
    let ns = File::open(format!("/proc/{pid}/ns/pid")).doing(what)?;
    nix::sched::setns(ns, CloneFlags::CLONE_NEWPID).doing(what)?;
    Ok(init)
}

fn small_init() -> std::convert::Infallible {
    use nix::sys::signal::{SigSet, Signal};
    let ready = cred::set_death_signal(libc::SIGKILL).and_then(|()| fd::close_all_but(&[]));
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    if ready.and_then(|()| children.thread_block()).is_err() {
        return clone::exit_now(1);
    }
    loop {
        while nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
            .is_ok_and(|status| status != nix::sys::wait::WaitStatus::StillAlive)
        {}
        let _interrupted_is_fine = children.wait();
    }
}

/// Binds under another name first: who finds the socket can connect to it.
fn listen(path: &Path) -> Result<UnixListener> {
    let what = || format!("listen on {}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).doing(what),
        _ => {}
    }
    let new = path.with_extension("new");
    let _stale = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new).doing(what)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).doing(what)?;
    listener.set_nonblocking(true).doing(what)?;
    std::fs::rename(&new, path).doing(what)?;
    Ok(listener)
}
