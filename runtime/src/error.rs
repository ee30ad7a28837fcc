//! What can go wrong, in the words runc's callers look for.

use pintle_shim::FailureKind;
use pintle_sys::Errno;

/// What this program returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No state directory of that name.
    #[error("container does not exist")]
    NoSuchContainer,
    /// The state directory exists.
    #[error("container with given ID already exists")]
    AlreadyExists,
    /// Not `[A-Za-z0-9_+.-]+`, or `.` or `..`.
    #[error("invalid container ID format")]
    InvalidId,
    /// It is not running.
    #[error("container not running")]
    NotRunning,
    /// It is not paused.
    #[error("container not paused")]
    NotPaused,
    /// It is in a state in which this cannot be done.
    #[error("{0}")]
    WrongState(String),
    /// The program of a process is missing or not executable.
    #[error("unable to start container process: {0}")]
    CannotRun(String),
    /// A step of the first process failed.
    #[error("unable to start container process: error during container init: {0}")]
    Init(String),
    /// A hook failed.
    #[error("{0}")]
    Hook(#[from] crate::hooks::HookError),
    /// config.json or process.json is wrong.
    #[error("{0}")]
    Config(#[from] pintle_runtime_plan::ConfigError),
    /// linux.resources cannot be had here.
    #[error("{0}")]
    Resources(#[from] pintle_runtime_plan::cgroup::ResourceError),
    /// A limit that the kernel does not take.
    #[error("linux.resources.{at}: cannot write {value:?} to {path}: {why}")]
    Limit { at: String, value: String, path: String, why: String, errno: Errno },
    /// linux.intelRdt cannot be had here.
    #[error("{0}")]
    Rdt(#[from] crate::rdt::RdtError),
    /// linux.cgroupsPath names no unit.
    #[error("{0}")]
    Unit(#[from] pintle_runtime_plan::systemd::UnitError),
    /// An annotation is no property of a unit.
    #[error("{0}")]
    UnitProperty(#[from] pintle_runtime_plan::systemd::AnnotationError),
    /// systemd could not or would not; in a box, for it is large.
    #[error("{0}")]
    Systemd(Box<crate::systemd::SystemdError>),
    /// CRIU cannot do it, or did not.
    #[error("{0}")]
    Criu(#[from] crate::criu::CriuError),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A client's request that is none.
    #[error("{0}")]
    NoSense(#[from] pintle_shim::request::NoSense),
    /// A system call failed: what was tried, on what.
    #[error("cannot {what}: {}", text(*errno))]
    System { what: String, errno: Errno },
}

impl Error {
    /// Whether a unit could not be made because somebody else's has its name.
    pub fn is_anothers_unit(&self) -> bool {
        matches!(self, Error::Systemd(error) if matches!(**error, crate::systemd::SystemdError::Exists { .. }))
    }

    /// For the shim's clients.
    pub fn kind(&self) -> FailureKind {
        match self {
            Error::NoSuchContainer => FailureKind::NotFound,
            Error::AlreadyExists | Error::NotRunning | Error::NotPaused | Error::WrongState(_) => FailureKind::Conflict,
            Error::CannotRun(_) => FailureKind::CannotRun,
            Error::InvalidId | Error::Config(_) | Error::Usage(_) | Error::Resources(_) | Error::Rdt(_) => {
                FailureKind::Invalid
            }
            Error::Unit(_) | Error::UnitProperty(_) | Error::NoSense(_) => FailureKind::Invalid,
            Error::Init(_)
            | Error::Hook(_)
            | Error::Limit { .. }
            | Error::System { .. }
            | Error::Systemd(_)
            | Error::Criu(_) => FailureKind::System,
        }
    }
}

/// An errno in the words that Go programs, and those who parse their output, use.
pub fn text(errno: Errno) -> String {
    format!("{} ({errno:?})", lower_first(errno.desc()))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Adds what was tried to an errno or an io error.
pub trait Doing<T> {
    /// `what` completes "cannot …".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, Errno> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::System { what: what(), errno })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::System {
            what: what(),
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}
