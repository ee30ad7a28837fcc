//! From a command line to a daemon in its pod's surroundings.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sched::CloneFlags;
use pintle_shim::ShimConfig;
use pintle_sys::clone::{self, CloneArgs};
use pintle_sys::{Errno, cred, fd, pidfd};
use serde::Deserialize;

use super::server::{Place, Server};
use crate::cgroup::Cgroups;
use crate::container::{Env, Rootless};
use crate::error::{Doing as _, Error, Result};
use crate::worker::{Teller, Worker};

/// What the supervisor itself keeps of [`ShimConfig`]: resources are a worker's business.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    pub pod_uid: String,
    pub dir: PathBuf,
    runtime_root: PathBuf,
    netns: Option<PathBuf>,
    hostname: Option<String>,
    host_ipc: bool,
    share_pid: bool,
    sysctls: Vec<(String, String)>,
    pod_cgroup: String,
}

/// Starts a supervisor in the background and returns when it listens.
pub fn run(config: &Path) -> Result<()> {
    let text = std::fs::read_to_string(config).doing(|| format!("read {}", config.display()))?;
    let wrong = |error: serde_json::Error| Error::Usage(format!("{}: {error}", config.display()));
    let settings: Settings = serde_json::from_str(&text).map_err(wrong)?;
    let env = Env::observe(settings.runtime_root.clone(), Rootless::Auto)?;
    let exits = settings.dir.join("exits");
    std::fs::create_dir_all(&exits).doing(|| format!("make {}", exits.display()))?;
    // Looked at before anything is touched; the daemon takes it for good.
    drop(lock(&settings)?);
    let pod = Cgroups::locate(env.layout()?, Some(Path::new(&settings.pod_cgroup)), &settings.pod_uid, env.need()?)?;
    let prepare = |env: &Env, _: &Teller<'_>| {
        let whole: ShimConfig = serde_json::from_str(&text).map_err(wrong)?;
        pod.create(env.layout()?)?;
        pod.apply(&whole.pod_resources).map(Some)
    };
    Worker::spawn(&env, prepare)?.finish()?;
    drop(text);
    let cgroup = own_cgroup(&env, &pod)?;
    let (mut told, tell) = std::io::pipe().doing(|| "make a pipe".to_owned())?;
    let daemon = move |tell: std::io::PipeWriter| -> std::convert::Infallible {
        let code = serve(env, settings, pod, tell);
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

/// One supervisor per pod. The kernel forgets the lock with its holder.
fn lock(settings: &Settings) -> Result<Flock<File>> {
    let what = || format!("open {}", settings.dir.display());
    let dir = File::open(&settings.dir).doing(what)?;
    match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::WrongState(format!(
            "pod {} has a supervisor already, at {}",
            settings.pod_uid,
            settings.dir.join("shim.sock").display()
        ))),
        other => other.map_err(|(_, errno)| errno).doing(what),
    }
}

/// Double fork: the daemon is nobody's child and leads a session without a terminal.
pub fn detach(
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
        leaf.create(env.layout()?)?;
        return Ok(Some(File::open(path.join("shim")).doing(|| "open the supervisor's cgroup".to_owned())?.into()));
    }
    if let Some(path) = pod.of("name=systemd") {
        crate::cgroup::put(&path.join("tasks"), b"0").doing(|| format!("join {}", path.display()))?;
    }
    Ok(None)
}

fn serve(env: Env, settings: Settings, pod: Cgroups, mut tell: std::io::PipeWriter) -> i32 {
    match take_place(&settings).and_then(|place| Server::new(env, settings, pod, place)) {
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

fn take_place(settings: &Settings) -> Result<Place> {
    background(settings)?;
    let lock = lock(settings)?;
    let shared_pid = settle(settings)?;
    let listener = listen(&settings.dir.join("shim.sock"))?;
    Ok(Place { lock, listener, shared_pid })
}

/// Leaves the starter's stdio; errors and panics go to shim.log.
fn background(config: &Settings) -> Result<()> {
    let log = config.dir.join("shim.log");
    let what = || format!("open {}", log.display());
    let out = File::options().create(true).append(true).open(&log).doing(what)?;
    let null = File::options().read(true).write(true).open("/dev/null").doing(|| "open /dev/null".to_owned())?;
    fd::place_at(&null, 0).and_then(|()| fd::place_at(&null, 1)).and_then(|()| fd::place_at(&out, 2)).doing(what)?;
    std::env::set_current_dir("/").doing(|| "chdir to /".to_owned())?;
    pintle_sys::process::become_subreaper().doing(|| "become the reaper of orphans".to_owned())?;
    cred::set_dumpable(false).doing(|| "become not dumpable".to_owned())
}

/// The pod's namespaces: every container inherits them from here. Gives a shared pid namespace and its small init.
fn settle(config: &Settings) -> Result<Option<(OwnedFd, File)>> {
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

/// One pid namespace for all: a small init holds it open and reaps. Workers enter it before they make a container,
/// so that only containers are born in it.
fn share_pid() -> Result<(OwnedFd, File)> {
    let proof = clone::SingleThreaded::assert().ok_or_else(|| Error::WrongState("more than one thread".to_owned()))?;
    let args = CloneArgs { flags: CloneFlags::CLONE_NEWPID.bits() as u64, cgroup: None };
    let what = || "make the pod's pid namespace".to_owned();
    let (pid, init) = clone::clone3(proof, args, small_init).doing(what)?;
    let ns = File::open(format!("/proc/{pid}/ns/pid")).doing(what)?;
    Ok((init, ns))
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
