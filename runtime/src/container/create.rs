//! OCI create: a bundle becomes a first process that waits at its fifo.
//!
//! Owns: reading config.json, looking at the host for the plan, recording what was made. Does not own: what follows.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use pintle_runtime_plan::step::Hook;
use pintle_runtime_plan::{CgroupJoin, Host, InitPlan, Security, Slot};
use pintle_sys::Errno;

use super::begin::{Begun, New, Order, begin};
use super::{Env, hook_state, run_hooks};
use crate::cgroup::{Cgroups, Driver, Need};
use crate::error::{Doing as _, Error, Result};
use crate::launch::{self, Launched, Until, Witness};
use crate::passwd;
use crate::state::{Dir, Status, Stored};
use crate::systemd::Holder;
use crate::walk::Slots;

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
    /// --systemd-cgroup.
    pub driver: Driver,
    /// When it becomes the program.
    pub begins: Begins,
}

/// When a first process becomes the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// When `start` comes to its fifo.
    WhenTold,
    /// As soon as it can: its maker would start it next.
    AtOnce,
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
    /// What is on disk about it.
    pub(super) stored: Stored,
    pub(super) dir: Dir,
    pub(super) begins: Begins,
}

impl Created {
    /// Its configuration.
    pub fn spec(&self) -> &Spec {
        &self.stored.config
    }

    /// Whether its cgroups are systemd's.
    pub fn is_unit(&self) -> bool {
        self.stored.systemd.is_some()
    }
}

/// Far more than a description of a container takes. What is longer is a mistake that would only cost memory.
const JSON_MOST: u64 = 16 << 20;

/// Reads a file of JSON that somebody else wrote.
pub fn read_json(file: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    // Most are smaller; what is not written to costs nothing.
    let mut text = String::with_capacity(64 << 10);
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
    let new = New {
        id: &request.id,
        bundle: &request.bundle,
        no_new_keyring: request.no_new_keyring,
        driver: request.driver,
        stdio: request.stdio.as_ref(),
        order: if may_overlap(env, &request, &spec)? { Order::ChildFirst } else { Order::CgroupsFirst },
    };
    let mut begun = begin(env, new, spec)?;
    let made = create_in(env, request, &mut begun);
    if let Err(error) = &made {
        begun.give_up(env, error);
    }
    made
}

/// Whether the first process can come first.
fn may_overlap(env: &Env, request: &CreateRequest, spec: &Spec) -> Result<bool> {
    let files = request.driver == Driver::Files && env.need()? == Need::All;
    let layout = env.layout()?;
    let handed = !layout.is_v2() && layout.mounts().len() <= pintle_sys::scm::FDS_MAX;
    Ok(files && handed && pintle_runtime_plan::overlaps(spec))
}

/// How many descriptors from 3 on socket activation gave to this very process (sd_listen_fds(3)).
pub fn listening() -> u32 {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let count = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok());
    count.filter(|_| ours).unwrap_or(0)
}

fn create_in(env: &Env, mut request: CreateRequest, begun: &mut Begun) -> Result<Created> {
    let holder = match begun.order {
        Order::CgroupsFirst => begun.make(env)?,
        Order::ChildFirst => None,
    };
    if request.begins == Begins::WhenTold {
        begun.dir.make_fifo()?;
    }
    let host = observe(env, &request, begun)?;
    let plan = pintle_runtime_plan::plan_init(&begun.stored.config, &host);
    let mut slots = Slots::new(plan.slots);
    if let Some([stdin, stdout, stderr]) = request.stdio.take() {
        slots.put(Slot::STDIN, stdin);
        slots.put(Slot::STDOUT, stdout);
        slots.put(Slot::STDERR, stderr);
    }
    let until = if request.begins == Begins::AtOnce { Until::Exec } else { Until::Ready };
    let mut witness = Creation { env, begun, hooks: &plan.runtime_hooks };
    let launched = launch::launch(env.proof, &plan, slots, request.preserve_fds, until, &mut witness);
    let launched = launched.map_err(|error| out_of_memory(&begun.cgroups).unwrap_or(error))?;
    holder.map_or(Ok(()), Holder::leave)?;
    let Begun { dir, stored, cgroups, .. } = begun;
    let seccomp = stored.config.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    if let (Some(listener), Some(seccomp)) = (&launched.listener, seccomp) {
        crate::notify::hand_over(listener, seccomp, stored, launched.pid)?;
    }
    let (stored, cgroups, dir) = (stored.clone(), cgroups.clone(), dir.clone());
    Ok(Created { launched, plan, cgroups, stored, dir, begins: request.begins })
}

/// Whatever init seems to have failed of: if the kernel killed somebody for memory, that is the cause to tell.
fn out_of_memory(cgroups: &Cgroups) -> Option<Error> {
    let words = "container init was OOM-killed (memory limit too low?)";
    (cgroups.oom_kills() > 0).then(|| Error::CannotRun(words.to_owned()))
}

fn observe(env: &Env, request: &CreateRequest, begun: &Begun) -> Result<Host> {
    let Begun { dir, stored, cgroups, .. } = begun;
    let spec = &stored.config;
    let home = spec.process().as_ref().and_then(|process| passwd::home_if_unset(process, &stored.rootfs));
    let state =
        |status: Status| hook_state(stored, Some(0), if status == Status::Created { "created" } else { "creating" });
    let hooks =
        if spec.hooks().is_some() { (state(Status::Running), state(Status::Created)) } else { Default::default() };
    Ok(Host {
        id: stored.id.clone(),
        bundle: stored.bundle.clone(),
        rootfs: stored.rootfs.clone(),
        fifo: (request.begins == Begins::WhenTold).then(|| dir.fifo()),
        join: if stored.moved_by().is_some() { CgroupJoin::None } else { cgroups.join() },
        cgroups_later: begun.order == Order::ChildFirst,
        hierarchies: cgroups.hierarchies(env.layout()?),
        unified: cgroups.unified_or_own(env.layout()?),
        caller: env.caller()?.clone(),
        no_pivot: request.no_pivot,
        no_new_keyring: request.no_new_keyring,
        preserve_fds: request.preserve_fds,
        listen_fds: listening(),
        stdio_passed: request.stdio.is_some(),
        home,
        hook_states: hooks,
    })
}

/// Which labels this host can apply.
pub fn security() -> Security {
    Security {
        apparmor: std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
    }
}

struct Creation<'a> {
    env: &'a Env,
    begun: &'a mut Begun,
    hooks: &'a [Hook],
}

impl Witness for Creation<'_> {
    fn born(&mut self, pid: i32) -> Result<()> {
        let begun = &mut *self.begun;
        begun.stored.moved_by().map_or(Ok(()), |unit| unit.attach(pid))?;
        begun.stored.born(pid)?;
        begun.dir.save(&begun.stored)?;
        if begun.order == Order::ChildFirst {
            let _nobody_holds_files = begun.make(self.env)?;
        }
        begun.stored.intel_rdt.iter().try_for_each(|groups| Ok(groups.join(pid)?))
    }

    fn hooks(&mut self, pid: i32) -> Result<()> {
        let stored = &self.begun.stored;
        let state = hook_state(stored, Some(pid), "creating");
        run_hooks(self.env, self.hooks, &state, &stored.bundle)
    }
}
