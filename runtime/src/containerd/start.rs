//! The `start` action: from a bundle to the address of a shim.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use pintle_sys::clone;
use pintle_sys::{cred, fd};

use super::server::Server;
use super::{NAME, Task, state_root};
use crate::container::{Env, Rootless};
use crate::error::{Doing as _, Error, Result};
use crate::log;

/// Where shims' sockets are; containerd expects them nowhere in particular, and this is where its own are.
const SOCKETS: &str = "/run/containerd/s";
/// Annotations that name a task's group: tasks of one group share a shim.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Prints the address of the shim that serves the task, after starting it if there is none.
pub fn start(task: Task) -> Result<()> {
    let group = group(&task.bundle)?.unwrap_or_else(|| task.id.clone());
    let path = socket_path(&task, &group);
    let address = format!("unix://{}", path.display());
    let file = task.bundle.join("address");
    std::fs::write(&file, &address).doing(|| format!("write {}", file.display()))?;
    if UnixStream::connect(&path).is_err() {
        launch(task, &path)?;
    }
    std::io::stdout().write_all(bootstrap(&address).as_bytes()).doing(|| "write to stdout".to_owned())
}

/// containerd 1.6 reads a bare address; later ones say which version they know and read JSON.
fn bootstrap(address: &str) -> String {
    let known = std::env::var("MAX_SHIM_VERSION").ok().and_then(|text| text.parse::<u32>().ok());
    match known {
        Some(version) if version >= 2 => {
            serde_json::json!({"version": version.min(3), "address": address, "protocol": "ttrpc"}).to_string()
        }
        _ => address.to_owned(),
    }
}

fn group(bundle: &Path) -> Result<Option<String>> {
    #[derive(serde::Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, String>,
    }
    let file = bundle.join("config.json");
    let text = std::fs::read_to_string(&file).doing(|| format!("read {}", file.display()))?;
    let annotated: Annotated =
        serde_json::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", file.display())))?;
    Ok(GROUPS.iter().find_map(|name| annotated.annotations.get(*name).cloned()))
}

/// Names and ids are too long for a socket's path (108 bytes, unix(7)), so it is a hash of them (FNV-1a, 128 bits):
/// whoever could choose colliding ids could as well name the other task.
fn socket_path(task: &Task, group: &str) -> PathBuf {
    let whole = [task.address.as_str(), &task.namespace, group].join("/");
    let hash = whole.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    Path::new(SOCKETS).join(format!("pintle-{hash:032x}"))
}

/// Removes a dead shim's socket.
pub fn forget_socket(bundle: &Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join("address")) else { return };
    let Some(path) = address.strip_prefix("unix://").filter(|path| path.starts_with(SOCKETS)) else { return };
    if UnixStream::connect(path).is_err() {
        let _may_be_gone = std::fs::remove_file(path);
    }
}

fn launch(task: Task, path: &Path) -> Result<()> {
    let env = Env::observe(state_root(&task.namespace), Rootless::Auto)?;
    let listener = listen(path)?;
    let (mut told, tell) = std::io::pipe().doing(|| "make a pipe".to_owned())?;
    let socket = path.to_owned();
    let daemon = move |tell: std::io::PipeWriter| -> std::convert::Infallible {
        clone::exit_now(serve(env, &task, listener, socket, tell))
    };
    crate::shim::detach(None, tell, daemon)?;
    let mut word = String::new();
    told.read_to_string(&mut word).doing(|| "hear from the shim".to_owned())?;
    match word.as_str() {
        "ready" => Ok(()),
        "" => Err(Error::WrongState("the shim died before it was ready".to_owned())),
        _ => Err(Error::WrongState(word)),
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let what = || format!("listen on {}", path.display());
    let made =
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o711).create(SOCKETS);
    made.doing(|| format!("make {SOCKETS}"))?;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let listener = UnixListener::bind(&new).doing(what)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).doing(what)?;
    listener.set_nonblocking(true).doing(what)?;
    // Over a dead shim's socket, if there is one.
    std::fs::rename(&new, path).doing(what)?;
    Ok(listener)
}

fn serve(env: Env, task: &Task, listener: UnixListener, socket: PathBuf, mut tell: std::io::PipeWriter) -> i32 {
    let events = std::env::var("TTRPC_ADDRESS").ok().filter(|path| !path.is_empty());
    match background(task).and_then(|()| Server::new(env, &task.namespace, listener, socket, events.map(PathBuf::from)))
    {
        Ok(mut server) => {
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

/// Leaves the starter's stdio, which containerd reads to the end. What is said goes to the FIFO `log` that containerd
/// copies to its own log; a full or missing one must not hold us up.
fn background(task: &Task) -> Result<()> {
    let what = || "set up stdio".to_owned();
    let null = File::options().read(true).write(true).open("/dev/null").doing(what)?;
    let fifo = task.bundle.join("log");
    let out = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
    let out = out.as_ref().unwrap_or(&null);
    fd::place_at(&null, 0)
        .and_then(|()| fd::place_at(&null, 1))
        .and_then(|()| fd::place_at(out.as_fd(), 2))
        .doing(what)?;
    std::env::set_current_dir("/").doing(|| "chdir to /".to_owned())?;
    log::set(log::Settings { verbosity: log::Verbosity::Everything, ..log::Settings::default() });
    nix::sys::prctl::set_name(c"containerd-shim").doing(|| format!("become {NAME}"))?;
    pintle_sys::process::become_subreaper().doing(|| "become the reaper of orphans".to_owned())?;
    cred::set_dumpable(false).doing(|| "become not dumpable".to_owned())
}
