//! The life of a container: create, start, kill, delete. The same code serves the command line and the supervisor.
//!
//! ```text
//! (nothing) --create--> created --start--> running <--pause/resume--> paused
//!                          |                  |
//!                          +---- init ends ---+--> stopped --delete--> (nothing)
//! ```
//! Only init's death and `delete` move a container on; a status is always read off the kernel.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType as Ns, Spec};
use pintle_runtime_plan::step::Hook;
use pintle_runtime_plan::{Host, InitPlan, Security, Slot};
use pintle_sys::clone::SingleThreaded;
use pintle_sys::{Errno, pidfd};

use crate::cgroup::{Cgroups, Layout};
use crate::error::{Doing as _, Error, Result};
use crate::launch::{self, Launched, Until, Witness};
use crate::state::{self, Dir, Published, Root, Status, Stored};
use crate::walk::Slots;
use crate::{clock, passwd};

/// What every operation needs of its surroundings.
#[derive(Debug, Clone)]
pub struct Env {
    /// This program has one thread.
    pub proof: SingleThreaded,
    /// Where containers are.
    pub root: Root,
    /// This host's cgroups.
    pub layout: Layout,
    /// Capabilities we can give away.
    pub caps: u64,
}

impl Env {
    /// Looks around.
    pub fn observe(root: PathBuf) -> Result<Env> {
        let proof = SingleThreaded::assert().ok_or_else(|| {
            Error::WrongState("this program must run with one thread, and /proc must be mounted".to_owned())
        })?;
        let caps = pintle_sys::cred::caps().doing(|| "read own capabilities".to_owned())?;
        Ok(Env { proof, root: Root(root), layout: crate::cgroup::detect()?, caps: caps.permitted })
    }
}

/// What to create.
#[derive(Debug)]
pub struct CreateRequest {
    /// The id.
    pub id: String,
    /// Directory with config.json.
    pub bundle: PathBuf,
    /// Descriptors for stdio; `None` inherits ours.
    pub stdio: Option<[OwnedFd; 3]>,
    /// --no-pivot.
    pub no_pivot: bool,
    /// --no-new-keyring.
    pub no_new_keyring: bool,
    /// --preserve-fds and LISTEN_FDS.
    pub preserve_fds: u32,
}

/// A created container.
#[derive(Debug)]
pub struct Created {
    /// Its first process.
    pub launched: Launched,
    /// What it will do.
    pub plan: InitPlan,
    /// Its cgroups.
    pub cgroups: Cgroups,
    /// Its configuration.
    pub spec: Spec,
    /// What is on disk about it.
    stored: Stored,
    dir: Dir,
}

/// Far more than a description of a container takes. What is longer is a mistake that would only cost memory.
const JSON_MOST: u64 = 16 << 20;

/// Reads a file of JSON that somebody else wrote.
pub fn read_json(file: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(file)?.take(JSON_MOST + 1).read_to_string(&mut text);
    if text.len() as u64 > JSON_MOST { Err(Errno::EFBIG.into()) } else { read.map(|_| text) }
}

/// Reads and checks a bundle's config.json.
pub fn load_spec(bundle: &Path) -> Result<Spec> {
    let file = bundle.join("config.json");
    let text = read_json(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Usage("JSON specification file config.json not found".to_owned()),
        _ => Error::System {
            what: format!("read {}", file.display()),
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        },
    })?;
    let (spec, warnings) = pintle_runtime_plan::parse_spec(&text)?;
    warnings.iter().for_each(|warning| crate::log::warn_once(warning));
    pintle_runtime_plan::validate(&spec)?;
    pintle_runtime_plan::spec::check_labels(&spec, security())?;
    Ok(spec)
}

/// OCI create.
pub fn create(env: &Env, request: CreateRequest) -> Result<Created> {
    // Said before anything is read: it explains more than a bundle that is gone.
    if env.root.container(&request.id)?.exists() {
        return Err(Error::AlreadyExists);
    }
    let bundle =
        std::fs::canonicalize(&request.bundle).doing(|| format!("open bundle {}", request.bundle.display()))?;
    let spec = load_spec(&bundle)?;
    create_from(env, CreateRequest { bundle, ..request }, spec)
}

/// OCI create, with the configuration loaded; `request.bundle` is canonical.
pub fn create_from(env: &Env, request: CreateRequest, spec: Spec) -> Result<Created> {
    let dir = env.root.container(&request.id)?;
    if dir.exists() {
        return Err(Error::AlreadyExists);
    }
    let bundle = request.bundle.clone();
    let rootfs = bundle.join(spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path()));
    if !rootfs.is_dir() {
        return Err(Error::Usage(format!("root.path: {} is not a directory", rootfs.display())));
    }
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let mut cgroups = Cgroups::locate(&env.layout, path, &request.id)?;
    cgroups.require_unused()?;
    dir.create()?;
    let stored = Stored {
        id: request.id.clone(),
        init_process_pid: 0,
        init_process_start: 0,
        created: clock::rfc3339_nano(clock::now_ns()),
        bundle,
        rootfs,
        cgroup_paths: cgroups.paths.clone(),
        namespace_paths: BTreeMap::new(),
        no_new_keyring: request.no_new_keyring,
        external_descriptors: descriptors(),
        config: Box::new(spec),
    };
    // Written before anything else is made: whoever finds the rest of a crash can clean it.
    let made = dir.save(&stored).and_then(|()| create_in(env, request, &dir, stored.clone(), &mut cgroups));
    if made.is_err() {
        // The first failure is the one worth telling; what cannot be undone stays for `delete --force`.
        let _left_for_delete = destroy(env, &dir, &stored);
    }
    made
}

/// How many descriptors from 3 on socket activation gave to this very process (sd_listen_fds(3)).
pub fn listening() -> u32 {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let count = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok());
    count.filter(|_| ours).unwrap_or(0)
}

/// Hands them on to init: it is process 1 of a new pid namespace, the only one whose number is known beforehand.
fn announce_sockets(spec: &mut Spec) {
    let count = listening();
    if count == 0 || !has_own_pid_namespace(spec) {
        return;
    }
    if let Some(process) = spec.process_mut() {
        let mut variables = process.env().clone().unwrap_or_default();
        variables.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        process.set_env(Some(variables));
    }
}

fn descriptors() -> Vec<String> {
    let link = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}"));
    (0..3).map(|fd| link(fd).map_or_else(|_closed| String::new(), |path| path.to_string_lossy().into_owned())).collect()
}

fn create_in(
    env: &Env,
    mut request: CreateRequest,
    dir: &Dir,
    mut stored: Stored,
    cgroups: &mut Cgroups,
) -> Result<Created> {
    let mut spec = stored.config.clone();
    announce_sockets(&mut spec);
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    cgroups.create_for(&env.layout, resources)?;
    stored.cgroup_paths.clone_from(&cgroups.paths);
    if let Some(resources) = resources {
        cgroups.apply(resources)?;
    }
    dir.make_fifo()?;
    let host = observe(env, &request, dir, &stored, cgroups);
    let plan = pintle_runtime_plan::plan_init(&spec, &host);
    let mut slots = Slots::new(plan.slots);
    if let Some([stdin, stdout, stderr]) = request.stdio.take() {
        slots.put(Slot::STDIN, stdin);
        slots.put(Slot::STDOUT, stdout);
        slots.put(Slot::STDERR, stderr);
    }
    let mut witness = Creation { env, dir, stored: &mut stored, hooks: &plan.runtime_hooks };
    let launched = launch::launch(env.proof, &plan, slots, request.preserve_fds, Until::Ready, &mut witness);
    let launched = launched.map_err(|error| out_of_memory(cgroups).unwrap_or(error))?;
    if let (Some(listener), Some(seccomp)) = (&launched.listener, linux.and_then(|linux| linux.seccomp().as_ref())) {
        crate::notify::hand_over(listener, seccomp, &stored, launched.pid)?;
    }
    Ok(Created { launched, plan, cgroups: cgroups.clone(), spec: *spec, stored, dir: dir.clone() })
}

/// Whatever init seems to have failed of: if the kernel killed somebody for memory, that is the cause to tell.
fn out_of_memory(cgroups: &Cgroups) -> Option<Error> {
    let words = "container init was OOM-killed (memory limit too low?)";
    (cgroups.oom_kills() > 0).then(|| Error::CannotRun(words.to_owned()))
}

fn has(spec: &Spec, kind: Ns) -> bool {
    spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()).any(|ns| ns.typ() == kind)
}

/// Whether init's death ends every process of the container: not if it joined others in their pid namespace.
pub fn has_own_pid_namespace(spec: &Spec) -> bool {
    let joined = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let all = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    all.filter(|ns| ns.typ() == Ns::Pid).any(|ns| !joined(ns.path()))
}

fn observe(env: &Env, request: &CreateRequest, dir: &Dir, stored: &Stored, cgroups: &Cgroups) -> Host {
    let spec = &stored.config;
    let home = spec.process().as_ref().and_then(|process| passwd::home_if_unset(process, &stored.rootfs));
    let state =
        |status: Status| hook_state(stored, Some(0), if status == Status::Created { "created" } else { "creating" });
    Host {
        id: stored.id.clone(),
        bundle: stored.bundle.clone(),
        rootfs: stored.rootfs.clone(),
        fifo: Some(dir.fifo()),
        join: cgroups.join(),
        hierarchies: cgroups.hierarchies(&env.layout),
        unified: cgroups.unified().map(Path::to_owned),
        caps_available: env.caps,
        no_pivot: request.no_pivot,
        no_new_keyring: request.no_new_keyring,
        preserve_fds: request.preserve_fds,
        stdio_passed: request.stdio.is_some(),
        home,
        hook_states: (state(Status::Running), state(Status::Created)),
        may_mknod: !has(spec, Ns::User),
    }
}

/// Which labels this host can apply.
pub fn security() -> Security {
    Security {
        apparmor: std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
    }
}

/// The state as hooks get it.
pub fn hook_state(stored: &Stored, pid: Option<i32>, status: &str) -> Vec<u8> {
    let published = Published {
        oci_version: stored.config.version(),
        id: &stored.id,
        pid,
        status,
        bundle: &stored.bundle,
        rootfs: None,
        created: None,
        annotations: state::annotations(&stored.config),
        owner: None,
    };
    serde_json::to_vec(&published).unwrap_or_default()
}

struct Creation<'a> {
    env: &'a Env,
    dir: &'a Dir,
    stored: &'a mut Stored,
    hooks: &'a [Hook],
}

impl Witness for Creation<'_> {
    fn born(&mut self, pid: i32) -> Result<()> {
        let (_, start) = state::process_stat(pid).ok_or(Error::NotRunning)?;
        self.stored.init_process_pid = pid;
        self.stored.init_process_start = start;
        let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
        self.stored.namespace_paths =
            kinds.iter().map(|ns| ((*ns).to_owned(), format!("/proc/{pid}/ns/{ns}"))).collect();
        self.dir.save(self.stored)
    }

    fn hooks(&mut self, pid: i32) -> Result<()> {
        let state = hook_state(self.stored, Some(pid), "creating");
        run_hooks(self.env, self.hooks, &state, &self.stored.bundle)
    }
}

/// Runs hooks of the runtime's namespace, in the bundle.
fn run_hooks(env: &Env, hooks: &[Hook], state: &[u8], bundle: &Path) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let before = std::env::current_dir();
    // A bundle that is gone (poststop of a half-removed pod) must not keep hooks from running.
    let _cwd_is_a_courtesy = std::env::set_current_dir(bundle);
    let done = hooks.iter().try_for_each(|hook| crate::hooks::run(env.proof, hook, state));
    if let Ok(before) = before {
        let _cwd_may_be_gone = std::env::set_current_dir(before);
    }
    Ok(done?)
}

fn hooks_of(spec: &Spec, point: &str) -> Vec<Hook> {
    let Some(hooks) = spec.hooks() else { return Vec::new() };
    let list = if point == "poststart" { hooks.poststart() } else { hooks.poststop() };
    pintle_runtime_plan::convert_hooks(point, list.as_deref())
}

/// OCI start. A failure of the program itself shows later, at init's exit.
pub fn start(env: &Env, id: &str) -> Result<()> {
    poststart(env, &release(env, id)?)
}

/// The first half of start: init goes on to become the program.
pub fn release(env: &Env, id: &str) -> Result<Stored> {
    let dir = env.root.container(id)?;
    let stored = dir.load()?;
    match dir.status(&stored) {
        Status::Created => {}
        Status::Stopped => return Err(Error::WrongState("cannot start a container that has stopped".to_owned())),
        Status::Running | Status::Paused => {
            return Err(Error::WrongState("cannot start an already running container".to_owned()));
        }
    }
    let init = pidfd::open(Pid::from_raw(stored.init_process_pid)).doing(|| "open init".to_owned())?;
    knock(&dir, &init)?;
    Ok(stored)
}

/// OCI start by the one who created it: `run`.
pub fn start_created(env: &Env, created: &Created) -> Result<()> {
    knock(&created.dir, &created.launched.pidfd)?;
    poststart(env, &created.stored)
}

/// The second half: poststart hooks.
pub fn poststart(env: &Env, stored: &Stored) -> Result<()> {
    let hooks = hooks_of(&stored.config, "poststart");
    if hooks.is_empty() {
        return Ok(());
    }
    let state = hook_state(stored, Some(stored.init_process_pid), "running");
    run_hooks(env, &hooks, &state, &stored.bundle)
}

/// Lets init go on, which waits to read from the fifo; the fifo goes, and with it the status `created`.
fn knock(dir: &Dir, init: &OwnedFd) -> Result<()> {
    let fifo = dir.fifo();
    let what = || format!("start through {}", fifo.display());
    let path = std::ffi::CString::new(fifo.as_os_str().as_encoded_bytes()).unwrap_or_default();
    let opened = pintle_sys::open::at(nix::fcntl::AT_FDCWD, &path, libc::O_WRONLY | libc::O_NONBLOCK, 0);
    let already = || Error::WrongState("cannot start an already running container".to_owned());
    let knocked = match opened {
        Ok(writer) => nix::unistd::write(&writer, b"0").doing(what).map(drop),
        // Nobody reads: init is gone, or somebody was faster and has not yet removed, or died before he could.
        Err(Errno::ENXIO) if has_ended(init) => {
            return Err(Error::WrongState("cannot start a container that has stopped".to_owned()));
        }
        Err(Errno::ENXIO) => Err(already()),
        Err(Errno::ENOENT) => return Err(already()),
        Err(errno) => return Err(errno).doing(what),
    };
    match std::fs::remove_file(&fifo) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", fifo.display()))
        }
        _ => knocked,
    }
}

fn has_ended(init: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Init as a descriptor, verified not to be another process by now.
pub fn open_init(stored: &Stored) -> Result<OwnedFd> {
    let pid = stored.init_process_pid;
    let fd = match pidfd::open(Pid::from_raw(pid)) {
        Err(Errno::ESRCH | Errno::EINVAL) => return Err(Error::NotRunning),
        other => other.doing(|| format!("open process {pid}"))?,
    };
    if state::is_alive(pid, stored.init_process_start) { Ok(fd) } else { Err(Error::NotRunning) }
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Init.
    Init,
    /// Everybody in the cgroup.
    All,
}

/// OCI kill.
pub fn kill(env: &Env, id: &str, signal: i32, whom: Whom) -> Result<()> {
    let dir = env.root.container(id)?;
    let stored = dir.load()?;
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    send(&cgroups, has_own_pid_namespace(&stored.config), || open_init(&stored), signal, whom)
}

/// Signals a container of which the caller knows these things.
pub fn send(
    cgroups: &Cgroups,
    own_pid_ns: bool,
    init: impl FnOnce() -> Result<OwnedFd>,
    signal: i32,
    whom: Whom,
) -> Result<()> {
    // Without a pid namespace of its own, init's death would leave the others running.
    let orphans = signal == libc::SIGKILL && !own_pid_ns;
    let done = if whom == Whom::All || orphans {
        match (whom, cgroups.signal(signal)?) {
            (Whom::Init, 0) => Err(Error::NotRunning),
            _ => Ok(()),
        }
    } else {
        pidfd::send_signal(init()?, signal).doing(|| format!("send signal {signal} to init"))
    };
    if signal == libc::SIGKILL && cgroups.is_frozen() {
        cgroups.thaw()?;
    }
    done
}

/// Whether delete may kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Only what has stopped, or never started.
    No,
    /// Whatever it takes; an unknown id is done already.
    Yes,
}

/// OCI delete.
pub fn delete(env: &Env, id: &str, force: Force) -> Result<()> {
    let dir = env.root.container(id)?;
    let stored = match dir.load() {
        Ok(stored) => stored,
        // A directory without a readable state: killed between making the one and writing the other.
        Err(_) if force == Force::Yes => return dir.remove(),
        Err(error) => return Err(error),
    };
    let status = dir.status(&stored);
    if force == Force::No && !matches!(status, Status::Stopped | Status::Created) {
        let word = status.as_str();
        return Err(Error::WrongState(format!("cannot delete container {id} that is not stopped: {word}")));
    }
    destroy(env, &dir, &stored)
}

/// OCI delete by the one who created it: `run`.
pub fn delete_created(env: &Env, created: &Created) -> Result<()> {
    destroy(env, &created.dir, &created.stored)
}

/// Kills whatever is left, removes cgroups and state, runs poststop hooks. Each may be gone already.
fn destroy(env: &Env, dir: &Dir, stored: &Stored) -> Result<()> {
    if let Ok(init) = open_init(stored) {
        match pidfd::send_signal(&init, libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).doing(|| "kill init".to_owned()),
        }
        if Cgroups::known(stored.cgroup_paths.clone()).is_frozen() {
            Cgroups::known(stored.cgroup_paths.clone()).thaw()?;
        }
        crate::cgroup::members::wait_for_end(&init, Duration::from_secs(10))?;
        // Our child if we are the supervisor or `run`; somebody else's otherwise.
        let _reaped_if_ours = pidfd::try_wait(&init);
    }
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    cgroups.kill_all()?;
    cgroups.remove()?;
    dir.remove()?;
    let state = hook_state(stored, None, "stopped");
    for hook in hooks_of(&stored.config, "poststop") {
        if let Err(error) = run_hooks(env, &[hook], &state, &stored.bundle) {
            crate::log::warn(&error.to_string());
        }
    }
    Ok(())
}

/// Changes limits and remembers them.
pub fn update(env: &Env, id: &str, resources: &oci_spec::runtime::LinuxResources) -> Result<()> {
    let dir = env.root.container(id)?;
    let mut stored = dir.load()?;
    if dir.status(&stored) == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let old = stored.config.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let full = pintle_runtime_plan::cgroup::partners(old, resources);
    let undo = Cgroups::known(stored.cgroup_paths.clone()).change(&full)?;
    if let Some(linux) = stored.config.linux_mut() {
        let merged = crate::merge::resources(linux.resources().clone().unwrap_or_default(), resources);
        linux.set_resources(Some(merged));
    }
    // Limits that nobody remembers would surprise the next update: it is both or none.
    let saved = dir.save(&stored);
    if saved.is_err() {
        undo.revert();
    }
    saved
}
