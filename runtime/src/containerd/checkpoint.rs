//! Checkpoint, and tasks that begin with images: Create mounts their root, Start has CRIU make their processes.
//!
//! As with containerd's own shim a task of images has no process before Start: its pid is 0 until then.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use pintle_runtime_plan::criu::{self as plan, DumpFlags, Flags};
use pintle_sys::fd;
use pintle_ttrpc::Code;
use pintle_ttrpc::events::{TaskCheckpointed, TaskStart};
use pintle_ttrpc::options::{CheckpointOptions, RuncOptions};
use pintle_ttrpc::task::{CheckpointRequest, CreateRequest, PidResponse};
use prost::Message as _;

use super::calls::{Fault, Outcome};
use super::io::{self, Io};
use super::jobs::Kind;
use super::options;
use super::process::{Beginning, Caller, Task};
use super::rootfs;
use super::server::Server;
use crate::cgroup::{Cgroups, Driver, Kills};
use crate::container::{self, Env};
use crate::criu::{self, Checkpoint, CriuError, Restore};
use crate::error::{Doing as _, Error, Result};
use crate::worker::{News, Remade, Teller, Worker};

/// What a task is made of that begins with images.
#[derive(Debug)]
pub struct Images {
    stdio: Option<[OwnedFd; 3]>,
    directory: PathBuf,
    work: Option<PathBuf>,
    driver: Driver,
}

/// CRIU's log, unless the caller wants it elsewhere. Kept when it failed, until the bundle goes.
fn own_work(bundle: &Path) -> PathBuf {
    bundle.join("criu-work")
}

fn given(path: &str) -> Option<PathBuf> {
    Some(path).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What Checkpoint asks for, in our words.
fn asked(request: &CheckpointRequest, options: &CheckpointOptions) -> std::result::Result<Checkpoint, Fault> {
    let refused = |refused| Fault::from(Error::from(CriuError::Refused(refused)));
    plan::empty_ns(options.empty_namespaces.iter().map(String::as_str)).map_err(refused)?;
    let images = given(&request.path).or_else(|| given(&options.image_path));
    let images = images.ok_or_else(|| Fault::new(Code::InvalidArgument, "no directory is given for the images"))?;
    let flags = Flags {
        tcp_established: options.open_tcp,
        ext_unix_sk: options.external_unix_sockets,
        shell_job: options.terminal,
        file_locks: options.file_locks,
        cgroups: plan::cgroup_mode(&options.cgroups_mode).map_err(refused)?,
        ..Flags::default()
    };
    let more = DumpFlags { leave_running: !options.exit, ..DumpFlags::default() };
    Ok(Checkpoint { flags, more, images, work: given(&options.work_path), status: None })
}

impl Server {
    pub(super) fn checkpoint(
        &mut self,
        from: Caller,
        request: CheckpointRequest,
    ) -> std::result::Result<Outcome, Fault> {
        let options = options::of_checkpoint(request.options.as_ref())?;
        let mut asked = asked(&request, &options)?;
        let bundle = self.task(&request.id)?.bundle.clone();
        let id = request.id.clone();
        let (images, wanted) = (asked.images.clone(), given(&options.image_path));
        let worker = Worker::spawn(&self.env, |env, _| {
            with_work(&bundle, asked.work.take(), |work| {
                asked.work = Some(work);
                criu::checkpoint(env, &id, asked)
            })?;
            wanted.map_or(Ok(()), |wanted| copy(&images, &wanted)).map(Some)
        })?;
        Ok(self.begin(Some(from), &request.id, Kind::Checkpoint(request.path), worker))
    }

    pub(super) fn checkpointed(&mut self, id: &str, checkpoint: String) -> Vec<u8> {
        let event = TaskCheckpointed { container_id: id.to_owned(), checkpoint };
        self.events.publish("/tasks/checkpointed", "TaskCheckpointed", &event);
        Vec::new()
    }

    /// Create with images.
    pub(super) fn prepare(
        &mut self,
        from: Caller,
        request: CreateRequest,
        options: &RuncOptions,
    ) -> std::result::Result<Outcome, Fault> {
        if !request.parent_checkpoint.is_empty() {
            let message = "parent_checkpoint is not supported: images name their parents themselves";
            return Err(Fault::new(Code::Unimplemented, message));
        }
        let (stdio, io) = io::open(&super::jobs::stdio(&request))?;
        let images = Images {
            stdio,
            directory: PathBuf::from(&request.checkpoint),
            work: given(&options.criu_work_path),
            driver: super::jobs::driver(options),
        };
        let (id, bundle, mounts) = (request.id.clone(), PathBuf::from(&request.bundle), request.rootfs.clone());
        let directory = images.directory.clone();
        let worker = Worker::spawn(&self.env, |_, _| {
            std::fs::read_dir(&directory).doing(|| format!("read the checkpoint {}", directory.display()))?;
            rootfs::mount_all(&bundle, &mounts).map(Some)
        })?;
        Ok(self.begin(Some(from), &id, Kind::Prepare(Box::new((request, io, images))), worker))
    }

    pub(super) fn prepared(&mut self, request: CreateRequest, io: Io, images: Images) -> Vec<u8> {
        let none = Cgroups::known(std::collections::BTreeMap::new());
        let task = Task {
            id: request.id.clone(),
            bundle: PathBuf::from(&request.bundle),
            kills: Kills::since(0, none.clone()),
            oom_watch: None,
            cgroups: none,
            own_pid_ns: true,
            starting: Some(Beginning::Images(Box::new(images))),
            paused: false,
        };
        self.admit(request, io, task, 0);
        PidResponse { pid: 0 }.encode_to_vec()
    }

    pub(super) fn restored(
        &mut self,
        serial: u64,
        made: Remade,
        console: Option<OwnedFd>,
    ) -> std::result::Result<Vec<u8>, Fault> {
        let Some(process) = self.processes.get_mut(&serial) else { return Ok(Vec::new()) };
        (process.pid, process.started) = (made.pid, true);
        if let (Some(terminal), Some(console)) = (&mut process.io.terminal, console) {
            terminal.connect(console)?;
        }
        if let Some(task) = self.tasks.get_mut(&process.task) {
            let cgroups = Cgroups::known(made.cgroups);
            let kills = Kills::since(made.oom_kills, cgroups.clone());
            task.kills = if made.is_unit { kills.of_unit(self.env.layout()?) } else { kills };
            task.oom_watch = cgroups.watch_oom().ok();
            (task.cgroups, task.own_pid_ns) = (cgroups, made.own_pid_ns);
        }
        let event = TaskStart { container_id: process.task.clone(), pid: made.pid as u32 };
        self.events.publish("/tasks/start", "TaskStart", &event);
        self.end_of_stray(serial, made.pid);
        Ok(PidResponse { pid: made.pid as u32 }.encode_to_vec())
    }
}

/// For any runtime but runc containerd ignores where the caller wants the images: it makes an image of its own of `from`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("copy the checkpoint from {} to {}", from.display(), to.display());
    if from == to {
        return Ok(());
    }
    std::fs::create_dir_all(to).doing(what)?;
    for entry in std::fs::read_dir(from).doing(what)? {
        let entry = entry.doing(what)?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).doing(what)?;
    }
    Ok(())
}

/// Does something that logs to a directory: the caller's, or one in the bundle that goes when all was well.
fn with_work<T>(bundle: &Path, given: Option<PathBuf>, act: impl FnOnce(PathBuf) -> Result<T>) -> Result<T> {
    if let Some(work) = given {
        return act(work);
    }
    let work = own_work(bundle);
    let done = act(work.clone())?;
    // It may never have been made.
    let _goes_with_the_bundle_otherwise = std::fs::remove_dir_all(&work);
    Ok(done)
}

/// Start of a task with images. For a worker: its stdio becomes the task's, which CRIU hands on.
pub fn restore(env: &Env, teller: &Teller<'_>, id: &str, bundle: &Path, mut images: Images) -> Result<Option<()>> {
    for (number, descriptor) in (0..).zip(images.stdio.iter().flatten()) {
        fd::place_at(descriptor, number).doing(|| "set up stdio".to_owned())?;
    }
    let bundle = std::fs::canonicalize(bundle).doing(|| format!("find {}", bundle.display()))?;
    let spec = container::load_spec(&bundle)?;
    let own_pid_ns = container::has_own_pid_namespace(&spec);
    let restored = with_work(&bundle, images.work.take(), |work| {
        let request = Restore {
            id: id.to_owned(),
            bundle: bundle.clone(),
            driver: images.driver,
            // Whoever made the images has allowed what is in them.
            flags: Flags { tcp_established: true, ext_unix_sk: true, file_locks: true, ..Flags::default() },
            images: images.directory.clone(),
            work: Some(work),
            lsm_profile: None,
            lsm_mount_context: None,
        };
        criu::restore(env, &request, spec)
    })?;
    let stored = env.root.container(id)?.load()?;
    let (is_unit, cgroups) = (stored.systemd.is_some(), Cgroups::known(stored.cgroup_paths));
    let made =
        Remade { pid: restored.pid, oom_kills: cgroups.oom_kills(), cgroups: cgroups.paths, is_unit, own_pid_ns };
    let console: Vec<_> = restored.console.iter().map(|console| console.as_fd()).collect();
    teller.tell(&News::Restored(made), &console);
    Ok(None)
}
