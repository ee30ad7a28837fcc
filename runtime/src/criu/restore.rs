//! `restore`.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use pintle_criu::Notify;
use pintle_runtime_plan::criu::{self as plan, Flags, Mountpoint, RESTORE_LOG};
use pintle_runtime_plan::step::Hook;
use pintle_sys::process::number_of;
use pintle_sys::{open, pidfd};

use super::apart::Apart;
use super::{Criu, CriuError, DESCRIPTORS, Directories, Session, allowed, c, resolve};
use crate::beneath::{self, Last};
use crate::cgroup::Driver;
use crate::container::{Begun, Env, New, Order, begin, hook_state, run_hooks};
use crate::error::{Doing as _, Error, Result};
use crate::state::{Dir, Stored};
use crate::systemd::Holder;

/// What to do.
#[derive(Debug)]
pub struct Restore {
    /// The container's id, not necessarily the old one.
    pub id: String,
    /// Directory with config.json; canonical.
    pub bundle: PathBuf,
    /// Who makes its cgroups.
    pub driver: Driver,
    /// Flags that a checkpoint has as well.
    pub flags: Flags,
    /// --image-path.
    pub images: PathBuf,
    /// --work-path.
    pub work: Option<PathBuf>,
    /// --lsm-profile.
    pub lsm_profile: Option<String>,
    /// --lsm-mount-context.
    pub lsm_mount_context: Option<String>,
}

/// A container that runs again.
#[derive(Debug)]
pub struct Restored {
    /// Its first process.
    pub pid: i32,
    /// The same, for good.
    pub pidfd: OwnedFd,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
}

/// Makes a container of images.
pub fn restore(env: &Env, request: &Restore, spec: Spec) -> Result<Restored> {
    allowed(env)?;
    if env.root.container(&request.id)?.exists() {
        return Err(Error::AlreadyExists);
    }
    let criu = Criu::find()?;
    let file = request.images.join(DESCRIPTORS);
    let text = std::fs::read(&file).doing(|| format!("read {}, which a checkpoint writes", file.display()))?;
    let descriptors: Vec<String> = serde_json::from_slice(&text)
        .map_err(|error| Error::WrongState(format!("{} is damaged: {error}", file.display())))?;
    let new = New {
        id: &request.id,
        bundle: &request.bundle,
        no_new_keyring: false,
        driver: request.driver,
        stdio: None,
        order: Order::CgroupsFirst,
    };
    let mut begun = begin(env, new, spec)?;
    let restored = Restoring { env, request, criu, descriptors, begun: &mut begun }.run();
    if let Err(error) = &restored {
        begun.give_up(env, error);
    }
    restored
}

struct Restoring<'a> {
    env: &'a Env,
    request: &'a Restore,
    criu: Criu,
    descriptors: Vec<String>,
    begun: &'a mut Begun,
}

impl Restoring<'_> {
    fn run(mut self) -> Result<Restored> {
        let holder = self.begun.make(self.env)?;
        let stored = &self.begun.stored;
        for place in plan::mountpoints(&stored.config, &stored.bundle, &stored.rootfs) {
            make(&place)?;
        }
        let root = self.begun.dir.path().join("criu-root");
        std::fs::create_dir(&root).doing(|| format!("make {}", root.display()))?;
        let restored = self.start(&root);
        // Nothing is mounted on it any more: that was in a mount namespace of its own.
        let removed = std::fs::remove_dir(&root).doing(|| format!("remove {}", root.display()));
        let restored = restored?;
        removed?;
        holder.map_or(Ok(()), Holder::leave)?;
        Ok(restored)
    }

    fn start(&mut self, root: &Path) -> Result<Restored> {
        // CRIU mounts in the directories that we opened, so they must be of the namespace it runs in: ours.
        let apart = Apart::enter().doing(|| "make a mount namespace".to_owned())?;
        bind(&self.begun.stored.rootfs, root)?;
        let directories = Directories::open(&self.request.images, self.request.work.as_deref(), RESTORE_LOG)?;
        let (namespaces, fds) = namespaces(&self.begun.stored.config)?;
        let mut command = self.criu.command_with_stdio();
        command.current_dir(&self.request.bundle);
        let session = Session::start(command, fds)?;
        match self.begun.stored.moved_by() {
            Some(unit) => unit.attach(session.pid())?,
            None => self.begun.cgroups.add(session.pid())?,
        }
        self.begun.stored.intel_rdt.iter().try_for_each(|groups| groups.join(session.pid()))?;
        let cgroups = format!("/proc/{}/cgroup", session.pid());
        let stored = &self.begun.stored;
        let what = plan::Restore {
            spec: &stored.config,
            bundle: &stored.bundle,
            rootfs: &stored.rootfs,
            root,
            hierarchies: &self.begun.cgroups.hierarchies(self.env.layout()?),
            cgroups: &crate::text::read(&cgroups).doing(|| format!("read {cgroups}"))?,
            descriptors: &self.descriptors,
            namespaces,
            directories: directories.numbers(),
            lsm_profile: self.request.lsm_profile.as_deref(),
            lsm_mount_context: self.request.lsm_mount_context.as_deref(),
            resolve,
        };
        let asked = plan::restore(&self.request.flags, &what, self.criu.version).map_err(CriuError::from)?;
        let mut events = Events {
            env: self.env,
            apart: &apart,
            hooks: runtime_hooks(&stored.config),
            dir: self.begun.dir.clone(),
            stored: &mut self.begun.stored,
            pidfd: None,
            console: None,
        };
        session.talk(&asked, Some(&directories.log), &mut |notify, fds| events.take(notify, fds))?;
        let pidfd = events.pidfd.ok_or_else(|| CriuError::Nonsense {
            kind: "RESTORE",
            what: "success, without a word of the first process".to_owned(),
        })?;
        Ok(Restored { pid: events.stored.init_process_pid, pidfd, console: events.console })
    }
}

/// Opens the namespaces that CRIU does not make: numbers for network and pid, and what they are numbers of.
fn namespaces(spec: &Spec) -> Result<([Option<i32>; 2], Vec<OwnedFd>)> {
    let open = |path: &Path| -> Result<OwnedFd> {
        let opened = File::open(path).doing(|| format!("open namespace {}, which must exist", path.display()))?;
        Ok(opened.into())
    };
    let [net, pid] = plan::external(spec);
    let opened = [net.map(open).transpose()?, pid.map(open).transpose()?];
    Ok((opened.each_ref().map(|fd| fd.as_ref().map(number_of)), opened.into_iter().flatten().collect()))
}

fn runtime_hooks(spec: &Spec) -> Vec<Hook> {
    let Some(hooks) = spec.hooks() else { return Vec::new() };
    let convert = pintle_runtime_plan::convert_hooks;
    let mut all = convert("prestart", hooks.prestart().as_deref());
    all.extend(convert("createRuntime", hooks.create_runtime().as_deref()));
    all
}

/// What CRIU tells on the way.
struct Events<'a> {
    env: &'a Env,
    apart: &'a Apart,
    hooks: Vec<Hook>,
    dir: Dir,
    stored: &'a mut Stored,
    pidfd: Option<OwnedFd>,
    console: Option<OwnedFd>,
}

impl Events<'_> {
    fn take(&mut self, notify: &Notify, mut fds: Vec<OwnedFd>) -> Result<()> {
        let pid = notify.pid.unwrap_or(0);
        match notify.script.as_deref() {
            Some("setup-namespaces") => {
                let state = hook_state(self.stored, Some(pid), "creating");
                let run = || run_hooks(self.env, &self.hooks, &state, &self.stored.bundle);
                self.apart.at_home(run).doing(|| "run hooks in the host's mount namespace".to_owned())??;
            }
            // It has all its parts and waits to go on.
            Some("post-restore") => {
                self.pidfd = Some(pidfd::open(Pid::from_raw(pid)).doing(|| format!("open process {pid}"))?);
                self.stored.born(pid)?;
                self.dir.save(self.stored)?;
            }
            Some("orphan-pts-master") => self.console = fds.pop(),
            _ => {}
        }
        Ok(())
    }
}

/// CRIU wants a root that is a mount point.
fn bind(rootfs: &Path, root: &Path) -> Result<()> {
    let what = || format!("mount {} on {}", rootfs.display(), root.display());
    let mount = |from, flags| nix::mount::mount(from, root, None::<&str>, flags, None::<&str>);
    mount(Some(rootfs), MsFlags::MS_BIND | MsFlags::MS_REC).doing(what)?;
    mount(None, MsFlags::MS_PRIVATE).doing(what)
}

/// A place for a mount, as a creation leaves it.
fn make(place: &Mountpoint) -> Result<()> {
    let what = || format!("make {} in {}", place.path.display(), place.beneath.display());
    let is_file = place.like.as_ref().is_some_and(|source| source.exists() && !source.is_dir());
    // What is bound is a file: it is its own place.
    if place.path == Path::new("/") {
        return Ok(());
    }
    let root = open::at(nix::fcntl::AT_FDCWD, &c(&place.beneath), libc::O_PATH | libc::O_DIRECTORY, 0).doing(what)?;
    let path: CString = c(&place.path);
    beneath::open_or_make(&root, &path, if is_file { Last::File } else { Last::Dir }).doing(what).map(drop)
}
