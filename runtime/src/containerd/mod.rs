//! `containerd-shim-pintle-v1`: containerd's runtime v2 shim, which is this program under another name.
//!
//! Owns: the shim's command line (`start`, `delete`), its task service, stdio by FIFOs, events to containerd. Does not
//! own: containers (they are made by the code behind `create`, `exec`, …), images, networks.
//!
//! containerd runs `start` in a task's bundle and gets the address of a shim: that of the pod if one is up already
//! (CRI's sandbox id groups them), or of a new one, which lives in the background until its last task is deleted and
//! `Shutdown` is called. Like the pod supervisor it has one thread, leaves work to forked workers, and is small.

mod calls;
mod checkpoint;
mod conn;
mod ends;
mod io;
mod jobs;
mod oom;
mod options;
mod process;
mod publish;
mod rootfs;
mod server;
mod start;
mod stats;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use pintle_ttrpc::Timestamp;
use pintle_ttrpc::task::DeleteResponse;
use prost::Message as _;

use crate::commands::args::{self, Flag, Order, Parsed, switch, value};
use crate::container::{Env, Force, Rootless};
use crate::error::{Doing as _, Error, Result};
use crate::{clock, container, log, protect};

/// The name under which it is the shim.
pub const NAME: &str = "containerd-shim-pintle-v1";

const FLAGS: &[Flag] = &[
    value("namespace", "containerd's namespace of the task"),
    value("id", "id of the task"),
    value("address", "containerd's socket"),
    value("publish-binary", "ignored; events go to containerd's ttrpc socket"),
    value("bundle", "path of the bundle; default: the current directory"),
    value("socket", "ignored; the shim chooses its own"),
    switch("debug", "log more"),
    switch("v", "print the version"),
];

/// What every call of the shim is about.
pub struct Task {
    namespace: String,
    id: String,
    /// containerd's socket, which keeps shims of several containerds apart.
    address: String,
    bundle: PathBuf,
}

/// Runs the program under this name; gives its exit code.
pub fn run(args: &[std::ffi::OsString]) -> i32 {
    let words: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match parsed(&words).and_then(|parsed| act(args, &parsed)) {
        Ok(()) => 0,
        Err(error) => {
            log::error(&error.to_string());
            1
        }
    }
}

fn parsed(words: &[String]) -> Result<Parsed> {
    args::parse(words, FLAGS, Order::Mixed)
}

fn act(args: &[std::ffi::OsString], flags: &Parsed) -> Result<()> {
    if flags.has("v") {
        let text = format!("{NAME}:\n  Version: {}\n", env!("CARGO_PKG_VERSION"));
        return std::io::stdout().write_all(text.as_bytes()).doing(|| "write to stdout".to_owned());
    }
    let needed = |flag: &str| match flags.get(flag) {
        Some(text) if !text.is_empty() && !text.contains('/') => Ok(text.to_owned()),
        _ => Err(Error::Usage(format!("-{flag} is required, and must be a name"))),
    };
    let bundle = match flags.get("bundle").filter(|bundle| !bundle.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_dir().doing(|| "find the bundle".to_owned())?,
    };
    let task = Task {
        namespace: needed("namespace")?,
        id: needed("id")?,
        address: flags.get("address").unwrap_or_default().to_owned(),
        bundle,
    };
    match flags.rest.first().map(String::as_str) {
        Some("start") => {
            protect::protect(args)?;
            start::start(task)
        }
        Some("delete") => delete(&task),
        _ => Err(Error::Usage("this program is started by containerd, with `start` or `delete`".to_owned())),
    }
}

/// Where containers' state is.
fn state_root(namespace: &str) -> PathBuf {
    Path::new("/run/containerd/pintle").join(namespace)
}

/// Removes what a shim that is gone has left of a task. Prints what containerd reads of its end.
fn delete(task: &Task) -> Result<()> {
    let env = Env::observe(state_root(&task.namespace), Rootless::Auto)?;
    let pid = env.root.container(&task.id)?.load().map_or(0, |stored| stored.init_process_pid);
    container::delete(&env, &task.id, Force::Yes)?;
    rootfs::unmount(&task.bundle)?;
    start::forget_socket(&task.bundle);
    let response = DeleteResponse {
        pid: pid as u32,
        exit_status: 128 + libc::SIGKILL as u32,
        exited_at: Some(Timestamp::from_ns(clock::now_ns())),
    };
    std::io::stdout().write_all(&response.encode_to_vec()).doing(|| "write to stdout".to_owned())
}
