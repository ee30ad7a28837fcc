//! `checkpoint`.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use pintle_criu::Features;
use pintle_runtime_plan::criu::{self as plan, DUMP_LOG, Dump, DumpFlags, Flags, Needs, OutsideFile};
use pintle_sys::open;

use super::{Criu, CriuError, DESCRIPTORS, Directories, Session, allowed, c, resolve};
use crate::cgroup::Cgroups;
use crate::container::{Env, destroy};
use crate::error::{Doing as _, Error, Result};
use crate::state::{Status, Stored};

/// What to do.
#[derive(Debug)]
pub struct Checkpoint {
    /// Flags that a restore has as well.
    pub flags: Flags,
    /// The others.
    pub more: DumpFlags,
    /// --image-path.
    pub images: PathBuf,
    /// --work-path.
    pub work: Option<PathBuf>,
    /// --status-fd.
    pub status: Option<OwnedFd>,
}

/// Writes a container to images. It is gone afterwards, unless it was to go on.
pub fn checkpoint(env: &Env, id: &str, mut request: Checkpoint) -> Result<()> {
    allowed(env)?;
    let dir = env.root.container(id)?;
    let stored = dir.load()?;
    let status = dir.status(&stored);
    if matches!(status, Status::Created | Status::Stopped) {
        let word = status.as_str();
        return Err(Error::WrongState(format!("Container cannot be checkpointed in {word} state")));
    }
    let criu = Criu::find()?;
    criu.require(Features {
        mem_track: request.more.pre_dump.then_some(true),
        lazy_pages: request.flags.lazy_pages.then_some(true),
    })?;
    let directories = Directories::open(&request.images, request.work.as_deref(), DUMP_LOG)?;
    let done = write_images(env, &stored, &criu, &directories, &mut request);
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    if done.is_err() {
        // A CRIU that was killed could not do so itself.
        if status == Status::Running && cgroups.is_frozen() {
            cgroups.thaw()?;
        }
        return done;
    }
    if request.more.leave_running || request.more.pre_dump { Ok(()) } else { destroy(env, &dir, &stored) }
}

fn write_images(
    env: &Env,
    stored: &Stored,
    criu: &Criu,
    directories: &Directories,
    request: &mut Checkpoint,
) -> Result<()> {
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    let outside = outside(stored)?;
    let what = Dump {
        spec: &stored.config,
        rootfs: &stored.rootfs,
        pid: stored.init_process_pid,
        freezer: cgroups.of("freezer"),
        hierarchies: &cgroups.hierarchies(env.layout()?),
        masked_files: &masked_files(&stored.config, stored.init_process_pid)?,
        inodes: inodes(&stored.config, stored.init_process_pid)?,
        outside: &outside,
        directories: directories.numbers(),
        resolve,
    };
    let mut asked = plan::dump(&request.flags, &request.more, &what, criu.version).map_err(CriuError::from)?;
    let mut status = request.status.take().filter(|_| request.flags.lazy_pages);
    if let (Some(fd), Some(options)) = (&status, &mut asked.options)
        && !criu.version.has(Needs::StatusReady)
    {
        options.status_fd = Some(pintle_sys::process::number_of(fd));
    }
    if !request.more.pre_dump {
        let file = request.images.join(DESCRIPTORS);
        let text = serde_json::to_vec(&plan::descriptors(&stored.external_descriptors, &outside)).unwrap_or_default();
        std::fs::write(&file, text).doing(|| format!("write {}", file.display()))?;
    }
    let session = Session::start(criu.command(), Vec::new())?;
    session.talk(&asked, Some(&directories.log), &mut |notify, _| {
        match status.take() {
            // One byte, and the end: the page server is ready.
            Some(fd) if notify.script.as_deref() == Some("status-ready") => {
                std::fs::File::from(fd).write_all(&[0]).doing(|| "write to --status-fd".to_owned())?;
            }
            waiting => status = waiting,
        }
        Ok(())
    })?;
    Ok(())
}

/// Masked paths that are files: /dev/null is bound on each. Directories have a tmpfs, which is dumped.
fn masked_files(spec: &Spec, pid: i32) -> Result<Vec<String>> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let root = open::at(nix::fcntl::AT_FDCWD, &c(&root), libc::O_PATH | libc::O_DIRECTORY, 0)
        .doing(|| format!("open {}", root.display()))?;
    let listed = spec.linux().iter().flat_map(|linux| linux.masked_paths().iter().flatten());
    let is_file = |path: &&String| {
        let found = open::in_root(&root, &c(Path::new(path)), libc::O_PATH).and_then(nix::sys::stat::fstat);
        found.is_ok_and(|stat| stat.st_mode & libc::S_IFMT != libc::S_IFDIR)
    };
    Ok(listed.filter(is_file).cloned().collect())
}

/// Stdio that was a path when the container was made, and is one on no mount that it has. Descriptors of other kinds
/// (pipes, sockets, terminals, /dev/null) are not files to CRIU.
fn outside(stored: &Stored) -> Result<Vec<Option<OutsideFile>>> {
    let pid = stored.init_process_pid;
    let read = |path: String| crate::text::read(&path).doing(|| format!("read {path}"));
    let mounts = read(format!("/proc/{pid}/mountinfo"))?;
    let has = |mount: u64| mounts.lines().any(|line| line.split(' ').next() == Some(mount.to_string().as_str()));
    let look = |(number, shown): (usize, &String)| {
        let Ok(meta) = std::fs::metadata(format!("/proc/{pid}/fd/{number}")) else { return Ok(None) };
        if !shown.starts_with('/') || !(meta.file_type().is_fifo() || meta.is_file()) {
            return Ok(None);
        }
        let info = read(format!("/proc/{pid}/fdinfo/{number}"))?;
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        Ok(mount.filter(|mount| !has(*mount)).map(|mount| OutsideFile { mount, inode: meta.ino() }))
    };
    stored.external_descriptors.iter().enumerate().map(look).collect()
}

/// The namespaces themselves are asked: their paths may have been removed.
fn inodes(spec: &Spec, pid: i32) -> Result<[Option<u64>; 2]> {
    let inode = |name: &str, path: Option<&Path>| {
        let own = format!("/proc/{pid}/ns/{name}");
        path.map(|_| std::fs::metadata(&own).map(|meta| meta.ino()).doing(|| format!("look at {own}"))).transpose()
    };
    let [net, pid_ns] = plan::external(spec);
    Ok([inode("net", net)?, inode("pid", pid_ns)?])
}
