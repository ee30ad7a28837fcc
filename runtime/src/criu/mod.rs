//! Checkpoint and restore through CRIU: the program is found, asked, and answered when it asks back.
//!
//! ```text
//! us ---- request (options) ------------------------> criu swrk
//!    <--- notify "pre-dump", "setup-namespaces", … --
//!    ---- notify, success -------------------------->     … until
//!    <--- answer ------------------------------------
//! ```
//! Owns: the conversation, and the sentences of its failures. Does not own: what is asked for (`plan::criu`).

mod apart;
mod dump;
mod restore;

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use pintle_criu::{ANSWER_LEN_MAX, Answer, Features, Kind, Notify, Request};
use pintle_runtime_plan::criu::{self as plan, Needs, Version};
use pintle_sys::process::{CommandExt as _, number_of};
use pintle_sys::{Errno, open, scm};
use prost::Message as _;

pub use dump::{Checkpoint, checkpoint};
pub use restore::{Restore, Restored, restore};

use crate::container::Env;
use crate::error::{Doing as _, Error, Result};

/// What can go wrong with CRIU.
#[derive(Debug, thiserror::Error)]
pub enum CriuError {
    /// There is none.
    #[error(
        "cannot find criu in $PATH: checkpoint and restore are done by CRIU; install it (Debian: apt-get install criu)"
    )]
    Missing,
    /// CRIU makes processes, namespaces and mounts as they were: only root of the host may.
    #[error(
        "checkpoint and restore need root on the host: CRIU does not work for an ordinary user or in a user namespace"
    )]
    NotRoot,
    /// The container, the flags or the version do not fit.
    #[error("{0}")]
    Refused(#[from] plan::Refused),
    /// The kernel or CRIU lacks something.
    #[error("CRIU or this kernel does not support {0}")]
    Feature(&'static str),
    /// It did not do it, and says why in its log.
    #[error("criu failed: type {kind} errno {errno}{said}; log file: {}{}", log.display(), quoted(lines))]
    Failed { kind: &'static str, errno: i32, said: String, log: PathBuf, lines: Vec<String> },
    /// It ended without an answer.
    #[error("criu ended without an answer to {kind}: {how}; log file: {}{}", log.display(), quoted(lines))]
    Ended { kind: &'static str, how: String, log: PathBuf, lines: Vec<String> },
    /// It said what it cannot say.
    #[error("criu answered {kind} with something else: {what}")]
    Nonsense { kind: &'static str, what: String },
}

fn quoted(lines: &[String]) -> String {
    lines.iter().map(|line| format!("; {line}")).collect()
}

/// For messages, as CRIU writes them.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Empty => "EMPTY",
        Kind::Dump => "DUMP",
        Kind::Restore => "RESTORE",
        Kind::PreDump => "PRE_DUMP",
        Kind::Notify => "NOTIFY",
        Kind::FeatureCheck => "FEATURE_CHECK",
        Kind::Version => "VERSION",
    }
}

/// The installed program.
#[derive(Debug, Clone)]
struct Criu {
    program: PathBuf,
    version: Version,
}

/// Whether CRIU would work for this caller at all.
fn allowed(env: &Env) -> Result<()> {
    if env.caller()?.is_rootless() { Err(CriuError::NotRoot.into()) } else { Ok(()) }
}

impl Criu {
    /// Finds it and asks for its version.
    fn find() -> Result<Criu> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let executable = |file: &PathBuf| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok();
        let found =
            std::env::split_paths(&path).map(|dir| dir.join("criu")).find(|file| file.is_file() && executable(file));
        let program = found.ok_or(CriuError::Missing)?;
        let answer =
            Session::start(silent(&program), Vec::new())?
                .talk(&Request::bare(Kind::Version), None, &mut |_, _| Ok(()))?;
        let version = answer.version.as_ref().map(Version::from_answer);
        let version =
            version.ok_or_else(|| CriuError::Nonsense { kind: name(Kind::Version), what: "no version".to_owned() })?;
        version.require(Needs::Anything).map_err(plan::Refused::from).map_err(CriuError::from)?;
        Ok(Criu { program, version })
    }

    /// What it has to say it says in its answer and its log.
    fn command(&self) -> Command {
        silent(&self.program)
    }

    /// With our stdio, which restored processes may inherit.
    fn command_with_stdio(&self) -> Command {
        Command::new(&self.program)
    }

    /// Asks for abilities that depend on the kernel.
    fn require(&self, wanted: Features) -> Result<()> {
        if wanted == Features::default() {
            return Ok(());
        }
        let request = Request { features: Some(wanted), ..Request::bare(Kind::FeatureCheck) };
        let has = Session::start(self.command(), Vec::new())?.talk(&request, None, &mut |_, _| Ok(()))?.features;
        let has = has.unwrap_or_default();
        for (asked, found, what) in [
            (wanted.mem_track, has.mem_track, "tracking of memory, which --pre-dump needs"),
            (wanted.lazy_pages, has.lazy_pages, "userfaultfd, which --lazy-pages needs"),
        ] {
            if asked == Some(true) && found != Some(true) {
                return Err(CriuError::Feature(what).into());
            }
        }
        Ok(())
    }
}

fn silent(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What is done when CRIU asks: the notification, and descriptors that came with it.
type OnNotify<'a> = &'a mut dyn FnMut(&Notify, Vec<OwnedFd>) -> Result<()>;

/// `criu swrk`: one process for one request. Dropped early it sees the end of the socket and undoes what it did.
struct Session {
    socket: Option<OwnedFd>,
    child: Child,
}

impl Session {
    /// Starts it; `fds` are its own under their numbers here.
    fn start(mut command: Command, fds: Vec<OwnedFd>) -> Result<Session> {
        let made = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = made.doing(|| "make a socket pair for criu".to_owned())?;
        command.arg("swrk").arg(number_of(&theirs).to_string()).pass_fd(theirs);
        for fd in fds {
            command.pass_fd(fd);
        }
        // The command holds the other end of the socket: it goes, or the end of CRIU would never be seen.
        let child = command.spawn().doing(|| format!("start {}", command.get_program().to_string_lossy()));
        drop(command);
        Ok(Session { socket: Some(ours), child: child? })
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// One request to its answer. `log` is where CRIU writes what it does.
    fn talk(mut self, request: &Request, log: Option<&Path>, on_notify: OnNotify<'_>) -> Result<Answer> {
        let answer = self.converse(request, log, on_notify);
        self.socket = None;
        let status = self.child.wait().doing(|| "wait for criu".to_owned())?;
        let kind = request.kind();
        // After a pre-dump it waits for the next one, and takes the end of the socket for an error.
        match answer? {
            Some(answer) if status.success() || kind == Kind::PreDump => Ok(answer),
            Some(_) | None => Err(ended(kind, status.to_string(), log)),
        }
    }

    fn converse(&mut self, request: &Request, log: Option<&Path>, on_notify: OnNotify<'_>) -> Result<Option<Answer>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let kind = request.kind();
        if !say(socket, request)? {
            return Ok(None);
        }
        loop {
            let (mut buffer, mut fds) = (vec![0; ANSWER_LEN_MAX], Vec::new());
            let len = match scm::receive(socket, &mut buffer, &mut fds) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
                Err(Errno::EINTR) => continue,
                other => other.doing(|| "hear criu".to_owned())?,
            };
            let answer = Answer::decode(&buffer[..len])
                .map_err(|error| CriuError::Nonsense { kind: name(kind), what: error.to_string() })?;
            if !answer.success {
                return Err(failed(kind, &answer, log));
            }
            match (answer.kind() == Kind::Notify, &answer.notify) {
                (true, Some(notify)) => on_notify(notify, fds)?,
                _ if answer.kind() == kind => return Ok(Some(answer)),
                _ => return Err(CriuError::Nonsense { kind: name(kind), what: format!("{answer:?}") }.into()),
            }
            say(socket, &Request { notify_success: Some(true), ..Request::bare(Kind::Notify) })?;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.socket = None;
        let _waited_for_already = self.child.wait();
    }
}

/// False if nobody hears it any more.
fn say(socket: &OwnedFd, request: &Request) -> Result<bool> {
    match scm::send(socket.as_fd(), &request.encode_to_vec(), &[]) {
        Ok(_) => Ok(true),
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(false),
        Err(errno) => Err(errno).doing(|| "ask criu".to_owned()),
    }
}

fn lines(log: Option<&Path>) -> Vec<String> {
    let text = log.and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
    plan::errors(&String::from_utf8_lossy(&text))
}

fn failed(kind: Kind, answer: &Answer, log: Option<&Path>) -> Error {
    let lines = lines(log);
    let told = |said: &&str| said.is_empty() || lines.iter().any(|line| line.contains(said));
    let said = answer.message.as_deref().map(str::trim).filter(|said| !told(said)).map(|said| format!(" ({said})"));
    CriuError::Failed {
        kind: name(kind),
        errno: answer.errno.unwrap_or(0),
        said: said.unwrap_or_default(),
        log: log.map(Path::to_owned).unwrap_or_default(),
        lines,
    }
    .into()
}

fn ended(kind: Kind, how: String, log: Option<&Path>) -> Error {
    let at = log.map(Path::to_owned).unwrap_or_default();
    CriuError::Ended { kind: name(kind), how, log: at, lines: lines(log) }.into()
}

/// The directories for images and for logs, made if missing: a container is checkpointed again and again.
struct Directories {
    images: std::fs::File,
    work: Option<std::fs::File>,
    log: PathBuf,
}

impl Directories {
    fn open(images: &Path, work: Option<&Path>, log: &str) -> Result<Directories> {
        let open = |dir: &Path| {
            use std::os::unix::fs::DirBuilderExt as _;
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.and_then(|()| std::fs::File::open(dir)).doing(|| format!("open directory {}", dir.display()))
        };
        Ok(Directories {
            images: open(images)?,
            work: work.map(open).transpose()?,
            log: work.unwrap_or(images).join(log),
        })
    }

    /// Their numbers, which CRIU looks up among ours.
    fn numbers(&self) -> (i32, Option<i32>) {
        use std::os::fd::AsRawFd as _;
        (self.images.as_raw_fd(), self.work.as_ref().map(std::fs::File::as_raw_fd))
    }
}

/// The file beside the images that says what stdio was.
const DESCRIPTORS: &str = "descriptors.json";

/// Where a path in the container leads on the host's copy of its root, symbolic links followed; itself if it is not there.
fn resolve(rootfs: &Path, path: &Path) -> PathBuf {
    let follow = || {
        let root = open::at(nix::fcntl::AT_FDCWD, &c(rootfs), libc::O_PATH | libc::O_DIRECTORY, 0).ok()?;
        let link = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", number_of(fd))).ok();
        let found = link(&open::in_root(&root, &c(path), libc::O_PATH).ok()?)?;
        Some(Path::new("/").join(found.strip_prefix(link(&root)?).ok()?))
    };
    follow().unwrap_or_else(|| path.to_owned())
}

fn c(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt as _;
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}
